//! From an address to a bound session: stream headers, TLS, SASL, resource binding, presence. What the session is
//! then used for belongs to the scenarios.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use data_encoding::{BASE64, HEXLOWER};

use crate::{
    conn::Conn,
    sasl::{Challenge, Hash, Scram},
    scan::{Unit, attr, element, is, lossy, text, text_of},
};

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// No TLS.
    Plain,
    /// TLS negotiated in the stream.
    Starttls,
    /// TLS from the first byte.
    Direct,
}

/// The server under load and how to log in to it.
#[derive(Debug)]
pub struct Target {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its XMPP domain.
    pub domain: String,
    /// How connections are protected.
    pub tls: Tls,
    /// The password of every account.
    pub password: String,
    /// Whether reads are acknowledged at once.
    pub quickack: bool,
    salted: Mutex<HashMap<SaltKey, Vec<u8>>>,
}

/// What a salted password is kept under.
type SaltKey = (Hash, Vec<u8>, u32);

impl Target {
    /// A server, not yet contacted.
    pub fn new(addr: SocketAddr, domain: String, tls: Tls, password: String, quickack: bool) -> Self {
        Self { addr, domain, tls, password, quickack, salted: Mutex::default() }
    }

    /// The bare JID of an account.
    pub fn jid(&self, name: &str) -> String {
        format!("{name}@{}", self.domain)
    }

    /// A bound session that has sent no presence yet.
    ///
    /// # Errors
    /// The server cannot be reached or refuses the login.
    pub async fn login(&self, name: &str) -> Result<Conn> {
        self.negotiate(name).await.with_context(|| format!("logging in as {name}"))
    }

    /// A bound session that is available to others.
    ///
    /// # Errors
    /// As [`Target::login`].
    pub async fn available(&self, name: &str) -> Result<Conn> {
        let mut conn = self.login(name).await?;
        conn.send(b"<presence/>").await?;
        self.settle(&mut conn).await?;
        Ok(conn)
    }

    /// Waits until the server has handled everything sent so far: a ping that comes back, whatever the answer.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn settle(&self, conn: &mut Conn) -> Result<()> {
        let id = nonce()?;
        let ping =
            format!("<iq type='get' id='{id}' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>", self.domain);
        conn.send(ping.as_bytes()).await?;
        answer(conn, &id).await?;
        Ok(())
    }

    async fn negotiate(&self, name: &str) -> Result<Conn> {
        let mut conn = Conn::open(self.addr, self.quickack).await?;
        if self.tls == Tls::Direct {
            conn = conn.encrypt(&self.domain, true).await?;
        }
        let mut features = self.open_stream(&mut conn).await?;
        if self.tls == Tls::Starttls {
            conn.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
            let reply = conn.stanza().await?;
            if !is(&reply, "proceed") {
                bail!("STARTTLS refused: {}", lossy(&reply));
            }
            conn = conn.encrypt(&self.domain, false).await?;
            features = self.open_stream(&mut conn).await?;
        }
        self.authenticate(&mut conn, name, &features).await?;
        conn.inbox.restart();
        self.open_stream(&mut conn).await?;
        let bind = "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
        conn.send(bind.as_bytes()).await?;
        let reply = answer(&mut conn, "bind").await?;
        if attr(&reply, "type") != Some(b"result") {
            bail!("binding refused: {}", lossy(&reply));
        }
        Ok(conn)
    }

    /// Opens a stream and returns the features offered.
    async fn open_stream(&self, conn: &mut Conn) -> Result<Vec<u8>> {
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>",
            self.domain
        );
        conn.send(header.as_bytes()).await?;
        match conn.unit().await? {
            Unit::Header => {}
            other => bail!("expected a stream header, got {other:?}"),
        }
        let features = conn.stanza().await?;
        if !is(&features, "stream:features") {
            bail!("expected stream features, got {}", lossy(&features));
        }
        Ok(features)
    }

    async fn authenticate(&self, conn: &mut Conn, name: &str, features: &[u8]) -> Result<()> {
        let offers = |mechanism: &str| offered(features, mechanism);
        let (mechanism, hash) = if offers("SCRAM-SHA-256") {
            ("SCRAM-SHA-256", Hash::Sha256)
        } else if offers("SCRAM-SHA-1") {
            ("SCRAM-SHA-1", Hash::Sha1)
        } else if offers("PLAIN") {
            let initial = BASE64.encode(format!("\0{name}\0{}", self.password).as_bytes());
            conn.send(auth("PLAIN", &initial).as_bytes()).await?;
            return success(&conn.stanza().await?).map(|_| ());
        } else {
            bail!("no known SASL mechanism in {}", lossy(features));
        };
        let scram = Scram::new(hash, name, nonce()?);
        conn.send(auth(mechanism, &BASE64.encode(scram.first().as_bytes())).as_bytes()).await?;
        let reply = conn.stanza().await?;
        let challenge_text = text(&reply)
            .filter(|_| is(&reply, "challenge"))
            .and_then(|b64| BASE64.decode(b64).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| anyhow!("expected a challenge, got {}", lossy(&reply)))?;
        let challenge = Challenge::parse(&challenge_text).context("unreadable challenge")?;
        let salted = self.salted(hash, &challenge);
        let (last, expected) =
            scram.answer(&challenge, &challenge_text, &salted).context("challenge with a foreign nonce")?;
        let response = format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{}</response>",
            BASE64.encode(last.as_bytes())
        );
        conn.send(response.as_bytes()).await?;
        let reply = conn.stanza().await?;
        let signature = success(&reply)?;
        if signature != format!("v={}", BASE64.encode(&expected)).as_bytes() {
            bail!("the server does not know the password");
        }
        Ok(())
    }

    // Clients keep the salted password too; without this, catching up would measure the generator's PBKDF2.
    fn salted(&self, hash: Hash, challenge: &Challenge) -> Vec<u8> {
        let key = (hash, challenge.salt.clone(), challenge.iterations);
        let kept = self.salted.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        kept.unwrap_or_else(|| {
            let salted = hash.salt(&self.password, &challenge.salt, challenge.iterations);
            self.salted.lock().unwrap_or_else(PoisonError::into_inner).insert(key, salted.clone());
            salted
        })
    }
}

/// The answer to the request with this id; anything else is passed over.
///
/// # Errors
/// The connection is gone.
pub async fn answer(conn: &mut Conn, id: &str) -> Result<Vec<u8>> {
    loop {
        let stanza = conn.stanza().await?;
        if is(&stanza, "iq") && attr(&stanza, "id") == Some(id.as_bytes()) {
            return Ok(stanza);
        }
        if is(&stanza, "stream:error") {
            bail!("stream error: {}", lossy(&stanza));
        }
    }
}

/// An unguessable short word.
///
/// # Errors
/// The system has no randomness.
pub fn nonce() -> Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|e| anyhow!("no randomness: {e}"))?;
    Ok(HEXLOWER.encode(&bytes))
}

fn auth(mechanism: &str, initial: &str) -> String {
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{initial}</auth>")
}

fn offered(features: &[u8], mechanism: &str) -> bool {
    let mut rest = element(features, "mechanism");
    while let Some(here) = rest {
        if text(here) == Some(mechanism.as_bytes()) {
            return true;
        }
        rest = here.get(1..).and_then(|after| element(after, "mechanism"));
    }
    false
}

/// The additional data of a SASL success.
fn success(reply: &[u8]) -> Result<Vec<u8>> {
    if !is(reply, "success") {
        bail!("login refused: {}", lossy(reply));
    }
    let data = text_of(reply, "success").unwrap_or_default();
    Ok(BASE64.decode(data).unwrap_or_default())
}
