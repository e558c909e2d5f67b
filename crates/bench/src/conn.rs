//! One client connection: TCP or TLS, read in large chunks and acknowledged at once. What travels over it is decided
//! by the login, the archive client and the scenarios.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::scan::{Inbox, TooLong, Unit};

/// How long one answer may take before the server counts as stuck.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection and what it has received.
#[derive(Debug)]
pub struct Conn {
    io: Io,
    /// Received bytes, to be cut with [`Inbox::next`].
    pub inbox: Inbox,
    quickack: bool,
}

impl Conn {
    /// Connects with Nagle's algorithm off; with `quickack`, every read is acknowledged at once, so that a server
    /// which leaves Nagle on does not wait for a delayed acknowledgement.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn open(addr: SocketAddr, quickack: bool) -> Result<Self> {
        let tcp = TcpStream::connect(addr).await.with_context(|| format!("connecting to {addr}"))?;
        tcp.set_nodelay(true)?;
        let conn = Self { io: Io::Plain(tcp), inbox: Inbox::default(), quickack };
        conn.acknowledge()?;
        Ok(conn)
    }

    /// Puts TLS around the connection. Any certificate is accepted: this is a measuring tool for loopback servers.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn encrypt(self, domain: &str, alpn: bool) -> Result<Self> {
        let Io::Plain(tcp) = self.io else { bail!("already encrypted") };
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        if alpn {
            config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        }
        let name = ServerName::try_from(domain.to_owned())?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.context("TLS handshake")?;
        Ok(Self { io: Io::Tls(Box::new(tls)), inbox: Inbox::default(), quickack: self.quickack })
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.io {
            Io::Plain(tcp) => tcp.write_all(bytes).await?,
            Io::Tls(tls) => {
                tls.write_all(bytes).await?;
                tls.flush().await?;
            }
        }
        Ok(())
    }

    /// Waits for more bytes. Safe to drop half way.
    ///
    /// # Errors
    /// The connection is gone or was closed by the server.
    pub async fn receive(&mut self) -> Result<()> {
        let space = self.inbox.space();
        let got = match &mut self.io {
            Io::Plain(tcp) => tcp.read_buf(space).await?,
            Io::Tls(tls) => tls.read_buf(space).await?,
        };
        if got == 0 {
            bail!("the server closed the connection");
        }
        self.acknowledge()
    }

    /// The next unit of the stream, waiting for it.
    ///
    /// # Errors
    /// The connection is gone, or nothing came within [`ANSWER_TIMEOUT`].
    pub async fn unit(&mut self) -> Result<Unit> {
        loop {
            match self.inbox.next() {
                Ok(Some(unit)) => return Ok(unit),
                Ok(None) => {}
                Err(TooLong) => bail!("the server sent a stanza longer than the generator holds"),
            }
            timeout(ANSWER_TIMEOUT, self.receive())
                .await
                .map_err(|_| anyhow!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))??;
        }
    }

    /// The next whole stanza, copied.
    ///
    /// # Errors
    /// As [`Conn::unit`], or the stream ended.
    pub async fn stanza(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.unit().await? {
                Unit::Header => {}
                Unit::Stanza(range) => return Ok(self.inbox.bytes(&range).to_vec()),
                Unit::End => bail!("the server closed the stream"),
            }
        }
    }

    // The kernel forgets the wish after a while, so it is repeated after each read.
    fn acknowledge(&self) -> Result<()> {
        if self.quickack {
            let tcp = match &self.io {
                Io::Plain(tcp) => tcp,
                Io::Tls(tls) => tls.get_ref().0,
            };
            tcp.set_quickack(true)?;
        }
        Ok(())
    }
}

/// Accepts any certificate, but checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
