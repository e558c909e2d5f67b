//! Certificates: from PEM files to what the listeners need, one certificate for each domain. For `localhost` without a
//! certificate one is made, signed by itself, and kept. What TLS protects is the server's business.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, ensure};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::config::{Domain, LOCALHOST, TlsFiles};

/// The protocol's name for direct TLS (XEP-0368).
const ALPN: &[u8] = b"xmpp-client";
/// The files of the self-signed certificate, in the data directory.
const SELF_SIGNED: [&str; 2] = ["localhost.crt", "localhost.key"];

/// Where the self-signed certificate lies, for a client that wants to check it.
pub fn certificate_file(data: &Path) -> std::path::PathBuf {
    let [certificate, _] = SELF_SIGNED;
    data.join(certificate)
}

/// What the two kinds of TLS listeners need.
pub struct Tls {
    /// For STARTTLS.
    pub starttls: Arc<ServerConfig>,
    /// For direct TLS: the same, with ALPN.
    pub direct: Arc<ServerConfig>,
    certificates: Arc<ByName>,
}

impl Tls {
    /// Reads the files again, for connections that come from now on. On error the certificates stay as they are.
    pub fn reload(&self, domains: &[Domain], data: &Path) -> anyhow::Result<()> {
        let keys = Keys::read(domains, data)?.context("there is no certificate any more")?;
        *self.certificates.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }
}

/// Reads the certificates of all domains; `localhost` without one gets a self-signed one, kept in `data`.
/// `None` if there is no certificate at all.
pub fn load(domains: &[Domain], data: &Path) -> anyhow::Result<Option<Tls>> {
    let Some(keys) = Keys::read(domains, data)? else { return Ok(None) };
    let certificates = Arc::new(ByName(RwLock::new(keys)));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = || -> anyhow::Result<ServerConfig> {
        Ok(ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone()))
    };
    let mut direct = config()?;
    direct.alpn_protocols = vec![ALPN.to_vec()];
    let starttls = Arc::new(config()?);
    Ok(Some(Tls { starttls, direct: Arc::new(direct), certificates }))
}

/// The certificates of all domains, with their keys.
struct Keys {
    of_domain: BTreeMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl Keys {
    fn read(domains: &[Domain], data: &Path) -> anyhow::Result<Option<Keys>> {
        let provider = rustls::crypto::ring::default_provider();
        let mut of_domain = BTreeMap::new();
        let mut first = None;
        for domain in domains {
            let name = domain.name.as_str();
            let files = match &domain.tls {
                Some(files) => files.clone(),
                None if name == LOCALHOST => self_signed(data)?,
                None => continue,
            };
            let key = Arc::new(read(&files, &provider)?);
            first.get_or_insert_with(|| key.clone());
            of_domain.insert(name.to_string(), key);
        }
        Ok(first.map(|first| Keys { of_domain, first }))
    }

    /// The certificate by the name that the client asks for; the first domain's for any other.
    fn named(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let named = name.and_then(|name| self.of_domain.get(&name.to_ascii_lowercase()));
        named.unwrap_or(&self.first).clone()
    }
}

/// The certificates in use, to be looked up at each handshake.
struct ByName(RwLock<Keys>);

impl ByName {
    fn named(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).named(name)
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByName(..)")
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.named(hello.server_name()))
    }
}

fn read(files: &TlsFiles, provider: &rustls::crypto::CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let (certificate, key) = (&files.certificate, &files.key);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {}", certificate.display()))?;
    ensure!(!chain.is_empty(), "there is no certificate in {}; it must be PEM", certificate.display());
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read the private key {}", key.display()))?;
    CertifiedKey::from_der(chain, private, provider).with_context(|| {
        format!("the key {} does not go with the certificate {}", key.display(), certificate.display())
    })
}

/// The self-signed certificate for localhost: the one that is there, or a new one.
fn self_signed(data: &Path) -> anyhow::Result<TlsFiles> {
    let [certificate, key] = SELF_SIGNED.map(|name| data.join(name));
    if !(certificate.exists() && key.exists()) {
        let names = [LOCALHOST, "127.0.0.1", "::1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
        // The key first: a certificate without its key would look finished after a crash.
        write(&key, made.signing_key.serialize_pem().as_bytes(), 0o600)?;
        write(&certificate, made.cert.pem().as_bytes(), 0o644)?;
        tracing::info!(certificate = %certificate.display(), "made a self-signed certificate for localhost");
    }
    Ok(TlsFiles { certificate, key })
}

fn write(file: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options
        .open(file)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str, tls: Option<TlsFiles>) -> Domain {
        Domain { name: name.parse().unwrap(), tls }
    }

    #[test]
    fn localhost_gets_a_certificate_and_keeps_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().unwrap();
        let tls = load(&[domain(LOCALHOST, None)], data.path()).unwrap().unwrap();
        assert_eq!(tls.direct.alpn_protocols, [ALPN]);
        assert!(tls.starttls.alpn_protocols.is_empty());
        let files = SELF_SIGNED.map(|name| data.path().join(name));
        let first = files.clone().map(|file| std::fs::read(file).unwrap());
        assert_eq!(std::fs::metadata(&files[1]).unwrap().permissions().mode() & 0o777, 0o600);
        load(&[domain(LOCALHOST, None)], data.path()).unwrap();
        assert_eq!(
            files.map(|file| std::fs::read(file).unwrap()),
            first,
            "the second start takes the first's"
        );
    }

    #[test]
    fn others_without_a_certificate_have_no_tls() {
        let data = tempfile::tempdir().unwrap();
        assert!(load(&[domain("example.org", None)], data.path()).unwrap().is_none());
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let domains =
            [domain("example.org", Some(self_signed(first.path()).unwrap())), domain(LOCALHOST, None)];
        let renewed = self_signed(second.path()).unwrap();
        let tls = load(&domains, first.path()).unwrap().unwrap();
        let shown = || tls.certificates.named(Some("Example.Org")).cert.clone();
        let before = shown();
        for (file, name) in [(&renewed.certificate, SELF_SIGNED[0]), (&renewed.key, SELF_SIGNED[1])] {
            std::fs::copy(file, first.path().join(name)).unwrap();
        }
        assert_eq!(shown(), before, "not before it is told to");
        tls.reload(&domains, first.path()).unwrap();
        let after = shown();
        assert_ne!(after, before);
        std::fs::write(first.path().join(SELF_SIGNED[1]), "broken").unwrap();
        tls.reload(&domains, first.path()).unwrap_err();
        assert_eq!(shown(), after);
    }

    #[test]
    fn each_domain_has_its_own() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let domains = [
            domain("example.org", Some(self_signed(one.path()).unwrap())),
            domain("example.net", Some(self_signed(two.path()).unwrap())),
        ];
        let tls = load(&domains, one.path()).unwrap().unwrap();
        let of = |name| tls.certificates.named(name).cert.clone();
        assert_ne!(of(Some("example.org")), of(Some("example.net")));
        assert_eq!(of(Some("chat.example.com")), of(Some("example.org")), "any other name gets the first");
        assert_eq!(of(None), of(Some("example.org")));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let data = tempfile::tempdir().unwrap();
        let right = self_signed(data.path()).unwrap();
        let told = |files: TlsFiles| {
            let error = load(&[domain("example.org", Some(files))], data.path()).err().unwrap();
            format!("{error:#}")
        };
        let missing = data.path().join("missing.pem");
        let text = told(TlsFiles { certificate: missing.clone(), ..right.clone() });
        assert!(text.starts_with("cannot read the certificate ") && text.contains("missing.pem"), "{text}");
        let text = told(TlsFiles { key: missing, ..right.clone() });
        assert!(text.starts_with("cannot read the private key "), "{text}");
        let text = told(TlsFiles { certificate: right.key.clone(), ..right.clone() });
        assert!(text.starts_with("there is no certificate in "), "{text}");

        let other = tempfile::tempdir().unwrap();
        let key = self_signed(other.path()).unwrap().key;
        let text = told(TlsFiles { key, ..right });
        assert!(text.contains("does not go with the certificate"), "{text}");
    }
}
