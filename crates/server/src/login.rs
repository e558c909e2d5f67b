//! From a fresh connection to a bound session: stream header, STARTTLS or direct TLS, SASL, resource binding
//! (RFC 6120 §4–§7). What a bound session does is left to `session`.

use std::sync::Arc;

use jid::{BareJid, FullJid, ResourcePart};
use mammoth_accounts::scram::{
    ChannelBinding, ClientFirst, NONCE_BYTES, PlainMessage, ScramError, ScramExchange, ScramHash,
};
use mammoth_accounts::{AccountError, Credentials};
use mammoth_archive::Position;
use mammoth_wire::header::{PROCEED, features_bind, features_sasl, features_starttls, response_header};
use mammoth_wire::iq::{self, Iq, Verb};
use mammoth_wire::limits::Limits;
use mammoth_wire::sasl::{self, Channel, Mechanism, SASL, SaslFailure, SaslOffer, SaslRequest};
use mammoth_wire::stanza::{Kind, Stanza};
use mammoth_wire::stanza_error::StanzaError;
use mammoth_wire::stream::StreamEvent;
use mammoth_wire::stream_error::{StreamCondition, StreamError};
use mammoth_wire::{bind, header, ns};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ProtocolVersion, ServerConfig};
use tracing::{debug, info};

use crate::house::House;
use crate::online::Resource;
use crate::outbox::Outbox;
use crate::stream::{End, Io, Stream};

/// How often one connection may fail to log in.
const LOGIN_TRIES: u32 = 5;
/// Random bytes in a stream id and in a resource that the server chooses.
const RANDOM_BYTES: usize = 12;

/// What a listener expects of a connection.
#[derive(Clone, Debug)]
pub enum Door {
    /// STARTTLS first.
    StartTls(Arc<ServerConfig>),
    /// TLS from the first byte.
    Tls(Arc<ServerConfig>),
    /// No TLS. For loopback addresses only.
    Plain,
}

/// A session that has just been bound.
pub struct Bound {
    /// Its stream.
    pub stream: Stream<Io>,
    /// What others see of it.
    pub resource: Arc<Resource>,
}

/// Takes a connection through to a bound session.
///
/// # Errors
/// The stream, and why it is to be ended.
pub async fn login(
    house: &Arc<House>,
    io: TcpStream,
    door: Door,
) -> Result<Bound, (Option<Stream<Io>>, End)> {
    let io = match door {
        Door::Tls(ref config) => match TlsAcceptor::from(config.clone()).accept(io).await {
            Ok(tls) => Io::Tls(Box::new(tls)),
            Err(error) => {
                debug!(%error, "no TLS handshake");
                return Err((None, End::Gone));
            }
        },
        Door::StartTls(_) | Door::Plain => Io::Plain(io),
    };
    let mut stream = Stream::new(io, Limits::before_login());
    if let Door::StartTls(config) = door {
        if let Err(end) = ask_for_tls(house, &mut stream).await {
            return Err((Some(stream), end));
        }
        let Io::Plain(io) = stream.io else { return Err((None, End::Gone)) };
        match TlsAcceptor::from(config).accept(io).await {
            Ok(tls) => stream = Stream::new(Io::Tls(Box::new(tls)), Limits::before_login()),
            Err(error) => {
                debug!(%error, "no TLS handshake");
                return Err((None, End::Gone));
            }
        }
    }
    let account = match authenticate(house, &mut stream).await {
        Ok(account) => account,
        Err(end) => return Err((Some(stream), end)),
    };
    match bind_resource(house, &mut stream, account).await {
        Ok(resource) => Ok(Bound { stream, resource }),
        Err(end) => Err((Some(stream), end)),
    }
}

/// Reads the client's stream header and answers with ours. Answers the domain.
async fn open(house: &House, stream: &mut Stream<Io>) -> Result<String, End> {
    stream.opened = false;
    let StreamEvent::Open(theirs) = stream.event().await? else {
        return Err(StreamError::new(StreamCondition::BadFormat, "a stream header was expected").into());
    };
    let normal = |domain: &str| BareJid::new(domain).ok().filter(|jid| jid.node().is_none());
    let asked = theirs.to.as_deref().and_then(normal).map(|jid| jid.to_string());
    let domain = asked.filter(|domain| house.settings.serves(domain));
    let named = domain.clone().or_else(|| house.settings.domains.first().cloned()).unwrap_or_default();
    let ours = response_header(&random_text()?, &named, theirs.from.as_deref(), "en");
    stream.send(&ours).await?;
    stream.opened = true;
    theirs.check(|_| domain.is_some())?;
    domain.ok_or_else(|| StreamError::host_unknown().into())
}

async fn stanza(stream: &mut Stream<Io>) -> Result<Stanza, End> {
    match stream.event().await? {
        StreamEvent::Stanza(stanza) => Ok(stanza),
        StreamEvent::Open(_) => Err(StreamError::new(StreamCondition::BadFormat, "a second header").into()),
        StreamEvent::Close => {
            let _ = stream.send(header::STREAM_END).await;
            Err(End::Gone)
        }
    }
}

async fn ask_for_tls(house: &House, stream: &mut Stream<Io>) -> Result<(), End> {
    open(house, stream).await?;
    stream.send(&features_starttls()).await?;
    let asked = stanza(stream).await?;
    if !asked.is(header::TLS, "starttls") {
        return Err(StreamError::not_authorized().into());
    }
    // Whatever came with it was written by somebody who could read it too (RFC 6120 §5.3.2).
    if stream.reader.unread() > 0 {
        return Err(
            StreamError::new(StreamCondition::PolicyViolation, "nothing may precede the handshake").into()
        );
    }
    stream.send(PROCEED).await?;
    Ok(())
}

/// What SASL may use of a connection, and its channel binding.
fn channel(io: &Io) -> (Channel, Vec<u8>) {
    let Io::Tls(tls) = io else { return (Channel::Plain, Vec::new()) };
    let (_, connection) = tls.get_ref();
    // RFC 9266: before TLS 1.3 the exporter is only unique with an extended master secret.
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return (Channel::Tls, Vec::new());
    }
    match connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])) {
        Ok(binding) => (Channel::TlsExporter, binding.to_vec()),
        Err(_) => (Channel::Tls, Vec::new()),
    }
}

async fn authenticate(house: &Arc<House>, stream: &mut Stream<Io>) -> Result<BareJid, End> {
    let domain = open(house, stream).await?;
    let (channel, exporter) = channel(&stream.io);
    let offer = SaslOffer::on(channel);
    stream.send(&features_sasl(&offer)).await?;
    for _ in 0..LOGIN_TRIES {
        let request = stanza(stream).await?;
        if request.ns() != SASL {
            return Err(StreamError::not_authorized().into());
        }
        match attempt(house, stream, &offer, &exporter, &domain, &request).await {
            Ok((account, last)) => {
                stream.send(&sasl::success(&last)).await?;
                stream.reader.set_limits(Limits {
                    stanza_bytes: house.settings.limits.stanza_bytes,
                    ..Limits::authenticated()
                });
                stream.reader.reset();
                return Ok(account);
            }
            Err(Refused::Login(failure)) => {
                house.metrics.logins_refused.inc();
                info!(reason = failure.name(), "login refused");
                stream.send(&failure.to_xml("")).await?;
            }
            Err(Refused::Stream(end)) => return Err(end),
        }
    }
    Err(StreamError::new(StreamCondition::PolicyViolation, "too many failed logins").into())
}

enum Refused {
    Login(SaslFailure),
    Stream(End),
}

impl From<End> for Refused {
    fn from(end: End) -> Refused {
        Refused::Stream(end)
    }
}

impl From<SaslFailure> for Refused {
    fn from(failure: SaslFailure) -> Refused {
        Refused::Login(failure)
    }
}

impl From<ScramError> for Refused {
    fn from(error: ScramError) -> Refused {
        Refused::Login(match error {
            ScramError::Malformed => SaslFailure::MalformedRequest,
            ScramError::NotAuthorized => SaslFailure::NotAuthorized,
        })
    }
}

/// One try to log in. Answers the account, and what goes with the success.
async fn attempt(
    house: &Arc<House>,
    stream: &mut Stream<Io>,
    offer: &SaslOffer,
    exporter: &[u8],
    domain: &str,
    request: &Stanza,
) -> Result<(BareJid, Vec<u8>), Refused> {
    let SaslRequest::Auth { mechanism, initial } = offer.read(request)? else {
        return Err(SaslFailure::MalformedRequest.into());
    };
    let initial = match initial {
        Some(initial) => initial,
        None => respond(stream, offer, &[]).await?,
    };
    let hash = match mechanism {
        Mechanism::ScramSha256Plus | Mechanism::ScramSha256 => ScramHash::Sha256,
        Mechanism::ScramSha1Plus | Mechanism::ScramSha1 => ScramHash::Sha1,
        Mechanism::Plain => return plain(house, domain, &initial).await,
    };
    let first = ClientFirst::read(&initial)?;
    let (account, credentials) = look_up(house, domain, first.username(), first.authzid()).await?;
    let binding = match (mechanism.is_plus(), offer.binds()) {
        (true, _) => ChannelBinding::Chosen(exporter.to_vec()),
        (false, true) => ChannelBinding::Offered,
        (false, false) => ChannelBinding::NotOffered,
    };
    let keys = match &credentials {
        Some(credentials) => credentials.keys(hash).clone(),
        None => stand_in(house, &account).keys(hash).clone(),
    };
    let (exchange, challenge): (ScramExchange, Vec<u8>) =
        first.challenge(hash, &keys, &binding, &random::<NONCE_BYTES>()?)?;
    let answer = respond(stream, offer, &challenge).await?;
    let last = exchange.finish(&answer)?;
    match credentials {
        Some(_) => Ok((account, last)),
        None => Err(SaslFailure::NotAuthorized.into()),
    }
}

/// Sends a challenge and reads the response.
async fn respond(stream: &mut Stream<Io>, offer: &SaslOffer, challenge: &[u8]) -> Result<Vec<u8>, Refused> {
    stream.send(&sasl::challenge(challenge)).await.map_err(End::from)?;
    match offer.read(&stanza(stream).await?)? {
        SaslRequest::Response(response) => Ok(response),
        SaslRequest::Abort => Err(SaslFailure::Aborted.into()),
        SaslRequest::Auth { .. } => Err(SaslFailure::MalformedRequest.into()),
    }
}

async fn plain(house: &Arc<House>, domain: &str, message: &[u8]) -> Result<(BareJid, Vec<u8>), Refused> {
    let message = PlainMessage::read(message)?;
    let (account, credentials) = look_up(house, domain, message.username, message.authzid).await?;
    let known = credentials.is_some();
    let credentials = credentials.unwrap_or_else(|| stand_in(house, &account));
    let password = message.password.to_owned();
    // Ten thousand hashes: not on a thread that serves others.
    let fits = tokio::task::spawn_blocking(move || credentials.verify_plain(&password)).await;
    if known && fits.unwrap_or(false) {
        Ok((account, Vec::new()))
    } else {
        Err(SaslFailure::NotAuthorized.into())
    }
}

/// Finds an account by the name and the authorization identity a client gave.
async fn look_up(
    house: &House,
    domain: &str,
    username: &str,
    authzid: Option<&str>,
) -> Result<(BareJid, Option<Credentials>), Refused> {
    let account = BareJid::new(&format!("{username}@{domain}")).ok().filter(|jid| jid.node().is_some());
    let Some(account) = account.filter(|_| !username.contains(['@', '/'])) else {
        return Err(SaslFailure::NotAuthorized.into());
    };
    if authzid.is_some_and(|authzid| BareJid::new(authzid).ok().as_ref() != Some(&account)) {
        return Err(SaslFailure::InvalidAuthzid.into());
    }
    match house.accounts.credentials(&account).await {
        Ok(credentials) => Ok((account, credentials)),
        Err(AccountError::NotFound) => Ok((account, None)),
        Err(error) => {
            tracing::error!(%error, "cannot look up an account");
            Err(SaslFailure::TemporaryAuthFailure.into())
        }
    }
}

/// Credentials that nothing fits, for an account that does not exist; the same each time it is tried.
fn stand_in(house: &House, account: &BareJid) -> Credentials {
    // An id of a position that no entry ever gets is as good a secret as the key it is made with.
    let secret = house.archive.mint(account).id(Position(i64::MIN));
    Credentials::stand_in(secret.as_str().as_bytes(), account.as_str())
}

async fn bind_resource(
    house: &Arc<House>,
    stream: &mut Stream<Io>,
    account: BareJid,
) -> Result<Arc<Resource>, End> {
    let domain = open(house, stream).await?;
    if domain != account.domain().as_str() {
        return Err(StreamError::new(StreamCondition::HostUnknown, "not the domain logged in to").into());
    }
    stream.send(&features_bind("")).await?;
    loop {
        let request = stanza(stream).await?;
        let me = account.clone().into();
        let asked = match iq::read(&request) {
            Ok(Iq::Request(asked)) if asked.is(Verb::Set, ns::BIND, "bind") => {
                asked.element().and_then(|element| bind::read_bind(&element))
            }
            _ if request.kind() == Kind::Other => return Err(StreamError::unsupported_stanza_type().into()),
            _ => return Err(StreamError::not_authorized().into()),
        };
        let resource = match asked {
            Ok(Some(resource)) => resource,
            Ok(None) => match ResourcePart::new(&random_text()?) {
                Ok(resource) => resource.into_owned(),
                Err(_) => return Err(End::Gone),
            },
            Err(error) => {
                if let Some(error) = error.reply(&request, &me) {
                    stream.send(&String::from_utf8_lossy(&error)).await?;
                }
                continue;
            }
        };
        let jid: FullJid = account.with_resource(&resource);
        let session = Arc::new(Resource::new(jid.clone(), Outbox::new()));
        match house.online.add(session.clone(), house.settings.limits.sessions_per_account) {
            Ok(replaced) => {
                if let Some(old) = replaced {
                    let error = StreamError::new(StreamCondition::Conflict, "replaced by a new session");
                    old.outbox.close(format!("{}{}", error.to_xml(), header::STREAM_END).into());
                }
                if let Err(error) = stream
                    .send(&String::from_utf8_lossy(&iq::result(
                        &request,
                        &jid.clone().into(),
                        &bind::write_bind(&jid),
                    )))
                    .await
                {
                    house.online.remove(&session);
                    return Err(error.into());
                }
                return Ok(session);
            }
            Err(_) => {
                let error = StanzaError::resource_constraint().with_text("too many sessions of this account");
                if let Some(error) = error.reply(&request, &me) {
                    stream.send(&String::from_utf8_lossy(&error)).await?;
                }
            }
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], End> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            tracing::error!(%error, "the system has no random bytes");
            Err(StreamError::new(StreamCondition::InternalServerError, "").into())
        }
    }
}

fn random_text() -> Result<String, End> {
    Ok(random::<RANDOM_BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
