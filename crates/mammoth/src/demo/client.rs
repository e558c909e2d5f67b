//! A small XMPP client for the demonstration: STARTTLS, SCRAM-SHA-256-PLUS, one resource, stanzas in and out. For
//! anything more, use a real client.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use mammoth_accounts::scram::ScramHash;
use mammoth_accounts::scram::client::{ClientExchange, proves};
use mammoth_wire::limits::Limits;
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stream::{StreamEvent, StreamReader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::LOCALHOST;

/// How long the server may take for anything, in seconds.
const PATIENCE_SECONDS: u64 = 20;

/// A client that is logged in.
pub struct Client {
    stream: Stream<tokio_rustls::client::TlsStream<TcpStream>>,
    next_id: u32,
    /// Stanzas that came while another was waited for.
    early: Vec<Stanza>,
}

struct Stream<Io> {
    io: Io,
    reader: StreamReader,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream<Io> {
    fn new(io: Io) -> Stream<Io> {
        Stream { io, reader: StreamReader::new(Limits::authenticated()) }
    }

    async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.io.write_all(text.as_bytes()).await?;
        self.io.flush().await?;
        Ok(())
    }

    async fn event(&mut self) -> anyhow::Result<StreamEvent> {
        let read = async {
            loop {
                if let Some(event) = self.reader.next().map_err(|error| anyhow!("{error:?}"))? {
                    return Ok(event);
                }
                let mut buffer = [0; 4096];
                let n = self.io.read(&mut buffer).await?;
                ensure!(n > 0, "the server closed the connection");
                self.reader.push(buffer.get(..n).unwrap_or_default());
            }
        };
        tokio::time::timeout(Duration::from_secs(PATIENCE_SECONDS), read)
            .await
            .context("the server is silent")?
    }

    async fn stanza(&mut self) -> anyhow::Result<Stanza> {
        match self.event().await? {
            StreamEvent::Stanza(stanza) => Ok(stanza),
            other => bail!("the server sent {other:?}"),
        }
    }

    /// Opens the stream, or opens it again, and reads the features.
    async fn open(&mut self) -> anyhow::Result<Stanza> {
        self.reader.reset();
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{LOCALHOST}' version='1.0' xml:lang='en' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        self.send(&header).await?;
        match self.event().await? {
            StreamEvent::Open(_) => self.stanza().await,
            other => bail!("the server sent {other:?}"),
        }
    }
}

impl Client {
    /// Logs in: TLS that trusts only this certificate, then SCRAM bound to it.
    pub async fn log_in(
        address: SocketAddr,
        certificate: &Path,
        user: &str,
        password: &str,
        resource: &str,
    ) -> anyhow::Result<Client> {
        let mut plain = Stream::new(TcpStream::connect(address).await?);
        plain.open().await?;
        plain.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
        ensure!(plain.stanza().await?.name() == "proceed", "the server refuses TLS");
        let mut stream = Stream::new(encrypt(plain.io, certificate).await?);
        stream.open().await?;
        authenticate(&mut stream, user, password).await?;
        stream.open().await?;
        let mut client = Client { stream, next_id: 0, early: Vec::new() };
        let bind =
            format!("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>");
        client.ask("set", &bind).await?;
        client.send("<presence/>").await?;
        Ok(client)
    }

    /// Sends a stanza.
    pub async fn send(&mut self, stanza: &str) -> anyhow::Result<()> {
        self.stream.send(stanza).await
    }

    /// Sends a request to the own account and waits for its result; other stanzas are kept for later.
    pub async fn ask(&mut self, type_: &str, payload: &str) -> anyhow::Result<Stanza> {
        self.next_id += 1;
        let id = format!("demo-{}", self.next_id);
        self.send(&format!("<iq type='{type_}' id='{id}'>{payload}</iq>")).await?;
        loop {
            let stanza = self.stream.stanza().await?;
            if stanza.name() == "iq" && stanza.id() == Some(&id) {
                ensure!(
                    stanza.type_() == Some("result"),
                    "refused: {}",
                    String::from_utf8_lossy(stanza.raw())
                );
                return Ok(stanza);
            }
            self.early.push(stanza);
        }
    }

    /// The messages that came with an answer.
    pub fn take_early(&mut self) -> Vec<Stanza> {
        std::mem::take(&mut self.early)
    }

    /// Waits for a message with a body.
    pub async fn message(&mut self) -> anyhow::Result<Stanza> {
        loop {
            let stanza = self.stream.stanza().await?;
            if stanza.name() == "message" && stanza.body_text().is_some() {
                return Ok(stanza);
            }
        }
    }

    /// Logs out.
    pub async fn log_out(mut self) -> anyhow::Result<()> {
        self.send("</stream:stream>").await?;
        while !matches!(self.stream.event().await?, StreamEvent::Close) {}
        Ok(())
    }
}

async fn encrypt(
    io: TcpStream,
    certificate: &Path,
) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).context("cannot read the server's certificate")?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from(LOCALHOST)?, io).await.context("TLS")
}

async fn authenticate(
    stream: &mut Stream<tokio_rustls::client::TlsStream<TcpStream>>,
    user: &str,
    password: &str,
) -> anyhow::Result<()> {
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let decoded = |stanza: &Stanza| data_encoding::BASE64.decode(stanza.text().as_bytes());
    let (_, connection) = stream.io.get_ref();
    let binding = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]))?;
    let mut nonce = [0; 18];
    getrandom::fill(&mut nonce).map_err(|error| anyhow!("no random bytes: {error}"))?;
    let nonce = base64(&nonce);
    let (exchange, first) = ClientExchange::begin(ScramHash::Sha256, user, &nonce, Some(binding.to_vec()));
    let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
    let first = base64(&first);
    stream.send(&format!("<auth xmlns='{sasl}' mechanism='SCRAM-SHA-256-PLUS'>{first}</auth>")).await?;
    let challenge = stream.stanza().await?;
    ensure!(challenge.name() == "challenge", "the server refuses to log in {user}");
    let (answer, verifier) = exchange.answer(&decoded(&challenge)?, password)?;
    stream.send(&format!("<response xmlns='{sasl}'>{}</response>", base64(&answer))).await?;
    let success = stream.stanza().await?;
    ensure!(success.name() == "success", "the server refuses the password of {user}");
    ensure!(proves(&decoded(&success)?, &verifier), "the server does not know the password of {user}");
    Ok(())
}
