//! A connection as a hostile client sees it: bytes out, and bytes in cut at the boundaries of stanzas. Logging in is
//! left to `client`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::{ClientConfig, DEFAULT_VERSIONS, RootCertStore, SupportedProtocolVersion};

use super::xml::Xml;
use super::{DOMAIN, soon};

/// The versions of TLS that a client speaks.
type Versions = &'static [&'static SupportedProtocolVersion];

static OLD_VERSIONS: Versions = &[&TLS12];

/// Anything that carries bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What comes from the server.
#[derive(Debug)]
pub enum Incoming {
    /// The start of the stream.
    Header(String),
    /// A first-level element.
    Stanza(Xml),
    /// The end of the stream.
    End,
    /// The connection is closed, or broken.
    Closed,
}

/// The receiving half of a connection.
pub struct Receiver {
    io: ReadHalf<Box<dyn Io>>,
    splitter: Splitter,
}

/// The sending half of a connection.
pub struct Sender {
    io: WriteHalf<Box<dyn Io>>,
}

/// A connection whose halves have not been parted.
pub struct Connection {
    /// In.
    pub receiver: Receiver,
    /// Out.
    pub sender: Sender,
    /// The channel binding of the TLS session; none without TLS.
    pub binding: Option<Vec<u8>>,
}

/// The stream header that clients send.
pub fn header() -> String {
    header_with("")
}

/// The stream header with further attributes.
pub fn header_with(extra: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' {extra}>"
    )
}

/// What precedes the handshake of STARTTLS, sent by the client.
pub const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

impl Connection {
    /// Connects, and says nothing.
    pub async fn open(address: SocketAddr) -> Connection {
        Connection::over(Box::new(TcpStream::connect(address).await.expect("a connection")), None)
    }

    fn over(io: Box<dyn Io>, binding: Option<Vec<u8>>) -> Connection {
        let (reading, writing) = tokio::io::split(io);
        let receiver = Receiver { io: reading, splitter: Splitter::default() };
        Connection { receiver, sender: Sender { io: writing }, binding }
    }

    /// Connects, asks for TLS, and goes through the handshake.
    pub async fn starttls(address: SocketAddr, certificate: &Path) -> Connection {
        Connection::upgraded(address, certificate, DEFAULT_VERSIONS).await
    }

    /// The same with TLS 1.2, which is without channel binding here.
    pub async fn starttls_1_2(address: SocketAddr, certificate: &Path) -> Connection {
        let mut connection = Connection::upgraded(address, certificate, OLD_VERSIONS).await;
        connection.binding = None;
        connection
    }

    async fn upgraded(address: SocketAddr, certificate: &Path, versions: Versions) -> Connection {
        let mut plain = Connection::open(address).await;
        plain.sender.send(&header()).await;
        let features = plain.receiver.features().await;
        assert!(features.find("urn:ietf:params:xml:ns:xmpp-tls", "starttls").is_some(), "{features}");
        plain.sender.send(STARTTLS).await;
        let proceed = plain.receiver.stanza().await;
        assert_eq!(proceed.name, "proceed");
        let io = plain.receiver.io.unsplit(plain.sender.io);
        Connection::encrypt(io, certificate, versions).await
    }

    /// Connects with TLS from the first byte.
    pub async fn direct_tls(address: SocketAddr, certificate: &Path) -> Connection {
        let io = Box::new(TcpStream::connect(address).await.expect("a connection"));
        Connection::encrypt(io, certificate, DEFAULT_VERSIONS).await
    }

    async fn encrypt(io: Box<dyn Io>, certificate: &Path, versions: Versions) -> Connection {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).expect("a certificate")).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(DOMAIN).expect("a name");
        let tls = soon("TLS", connector.connect(name, io)).await.expect("TLS");
        let (_, session) = tls.get_ref();
        let binding = session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]));
        Connection::over(Box::new(tls), Some(binding.expect("an exporter").to_vec()))
    }
}

impl Sender {
    /// Sends text at once. A server that has hung up is no error here: it shows when reading.
    pub async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    /// Sends bytes at once.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let write = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        let _ = soon("the server to read", write).await;
    }

    /// Ends the sending half, as a client that hangs up does.
    pub async fn shut(&mut self) {
        let _ = self.io.shutdown().await;
    }
}

impl Receiver {
    /// What comes next.
    pub async fn next(&mut self) -> Incoming {
        soon("the server", async {
            loop {
                if let Some(incoming) = self.splitter.next() {
                    return incoming;
                }
                let mut buffer = [0; 16 * 1024];
                match self.io.read(&mut buffer).await {
                    Ok(0) | Err(_) => return Incoming::Closed,
                    Ok(n) => self.splitter.push(&buffer[..n]),
                }
            }
        })
        .await
    }

    /// The next first-level element; there must be one.
    pub async fn stanza(&mut self) -> Xml {
        match self.next().await {
            Incoming::Stanza(stanza) => stanza,
            other => panic!("a stanza was expected, and there came {other:?}"),
        }
    }

    /// The header and the features of a stream just opened.
    pub async fn features(&mut self) -> Xml {
        self.splitter = Splitter::default();
        match self.next().await {
            Incoming::Header(_) => self.stanza().await,
            other => panic!("a header was expected, and there came {other:?}"),
        }
    }

    /// Reads to the end: the condition of the stream error before it, and that it really is the end.
    pub async fn stream_error(&mut self) -> String {
        let mut condition = None;
        loop {
            match self.next().await {
                Incoming::Stanza(stanza) if stanza.is("http://etherx.jabber.org/streams", "error") => {
                    assert!(condition.is_none(), "two errors");
                    let ns = "urn:ietf:params:xml:ns:xmpp-streams";
                    let named = stanza.children().find(|child| child.ns == ns && child.name != "text");
                    condition = Some(named.expect("a condition").name.clone());
                }
                Incoming::Stanza(_) | Incoming::Header(_) | Incoming::End => {}
                Incoming::Closed => return condition.unwrap_or_else(|| "closed without an error".to_owned()),
            }
        }
    }
}

/// Cuts bytes into first-level elements. Knows just enough XML: it is not the server's own splitter.
#[derive(Default)]
struct Splitter {
    buffer: Vec<u8>,
    /// Everything before has been looked at.
    at: usize,
    depth: usize,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Incoming> {
        loop {
            let tag = self.at + self.buffer[self.at..].iter().position(|byte| *byte == b'<')?;
            let rest = &self.buffer[tag..];
            let find = |needle: &[u8]| {
                rest.windows(needle.len()).position(|window| window == needle).map(|at| at + needle.len())
            };
            if rest.starts_with(b"<![CDATA[") {
                self.at = tag + find(b"]]>")?;
                continue;
            }
            if b"<![CDATA[".starts_with(&rest[..rest.len().min(9)]) {
                return None;
            }
            if rest.starts_with(b"<?") {
                self.at = tag + find(b"?>")?;
                continue;
            }
            let end = tag + tag_end(rest)?;
            let text = &self.buffer[tag..end];
            let closes = text.starts_with(b"</");
            let empty = text.ends_with(b"/>");
            self.at = end;
            match (closes, empty) {
                (true, _) => self.depth = self.depth.saturating_sub(1),
                (false, false) => self.depth += 1,
                (false, true) => {}
            }
            let whole = match (closes, self.depth) {
                (true, 0) => return Some(Incoming::End),
                (false, 1) if !empty => {
                    let header = self.take();
                    return Some(Incoming::Header(header));
                }
                (true, 1) => true,
                (false, 1) => empty,
                _ => false,
            };
            if whole {
                let raw = self.take();
                return Some(Incoming::Stanza(Xml::parse(&raw)));
            }
        }
    }

    fn take(&mut self) -> String {
        let taken: Vec<u8> = self.buffer.drain(..self.at).collect();
        self.at = 0;
        String::from_utf8(taken).expect("UTF-8 from the server")
    }
}

/// Where a tag that starts here ends.
fn tag_end(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'\'' | b'"') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

#[test]
fn the_splitter_cuts_where_stanzas_end() {
    let stream =
        "<?xml version='1.0'?><s:stream a='>'> <m><b>1 &gt; 0</b><![CDATA[</m>]]></m><p x='/>'/></s:stream>";
    let mut splitter = Splitter::default();
    let mut seen = Vec::new();
    for byte in stream.bytes() {
        splitter.push(&[byte]);
        while let Some(incoming) = splitter.next() {
            seen.push(match incoming {
                Incoming::Header(_) => "header".to_owned(),
                Incoming::Stanza(stanza) => stanza.raw.0,
                Incoming::End => "end".to_owned(),
                Incoming::Closed => "closed".to_owned(),
            });
        }
    }
    assert_eq!(seen, ["header", "<m><b>1 &gt; 0</b><![CDATA[</m>]]></m>", "<p x='/>'/>", "end"]);
}
