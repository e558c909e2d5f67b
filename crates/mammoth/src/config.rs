//! The configuration: from a TOML file and the environment to ready [`Settings`], once, at start. Nothing below the
//! binary sees a raw key. Which keys there are is in config/keys.rs, how they are found in config/raw.rs, how they are
//! shown in config/docs.rs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jid::BareJid;
use mammoth_archive::{DefaultPolicy, ExpiresAfter, Quota};

pub mod command;
pub mod docs;
pub mod keys;
mod raw;
mod read;

use raw::Raw;
pub use raw::{CONFIG_VARIABLE, Problems};

/// Where the configuration is looked for when nobody says where.
pub const DEFAULT_FILES: [&str; 2] = ["mammoth.toml", "/etc/mammoth/mammoth.toml"];

/// The domain for which a self-signed certificate is made when there is none.
pub const LOCALHOST: &str = "localhost";

/// A configuration, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The domains served, in the order written; at least one.
    pub domains: Vec<Domain>,
    /// The data directory.
    pub data: PathBuf,
    /// What is switched on.
    pub modules: Modules,
    /// The archive's rules.
    pub archive: ArchiveRules,
    /// Where to listen.
    pub listen: Listen,
    /// Where archives are kept.
    pub storage: Storage,
    /// What clients may use.
    pub limits: Limits,
    /// How to log.
    pub log: Log,
}

/// One domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Its name, normalised; a bare JID without a node.
    pub name: BareJid,
    /// Its certificate; `None` only for `localhost`, which gets a self-signed one, or when nothing listens with TLS.
    pub tls: Option<TlsFiles>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What is switched on by `modules_enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modules {
    /// RFC 6121 section 2 and 3.
    pub roster: bool,
    /// XEP-0280.
    pub carbons: bool,
    /// XEP-0313, with XEP-0441 and XEP-0424.
    pub mam: bool,
    /// XEP-0199.
    pub ping: bool,
    /// XEP-0092.
    pub version: bool,
}

/// What is kept, for whom, how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArchiveRules {
    /// `max_archive_query_results`, in messages.
    pub page_max: u32,
    /// `default_archive_policy`.
    pub default_policy: DefaultPolicy,
    /// `archive_expires_after`.
    pub expires_after: ExpiresAfter,
    /// `archive_expiry_interval`: from one expiry to the next.
    pub expiry_interval: Duration,
    /// `archive_allow_trim`.
    pub allow_trim: bool,
    /// `archive_quota_entries` and `archive_quota_bytes`.
    pub quota: Quota,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// STARTTLS, required.
    pub c2s: Vec<SocketAddr>,
    /// Direct TLS.
    pub c2s_tls: Vec<SocketAddr>,
    /// No TLS; loopback addresses only.
    pub c2s_plain: Vec<SocketAddr>,
    /// Prometheus metrics; a loopback address.
    pub metrics: Option<SocketAddr>,
}

/// Where archives, accounts and rosters are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// In the data directory.
    Embedded {
        /// How large the memory table may grow, in bytes.
        memory_table_bytes: usize,
    },
    /// In a database.
    Postgresql(Box<Postgresql>),
}

/// `[storage.postgresql]`; what is `None` is as the connection string says, or as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Postgresql {
    /// The connection string.
    pub url: Option<Secret>,
    /// A host name, an address, or the directory of a Unix socket.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The database.
    pub database: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The password itself.
    pub password: Option<Secret>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Certificates of authorities, PEM; `None` for no TLS.
    pub tls_authorities: Option<PathBuf>,
    /// Connections that answer queries.
    pub readers: usize,
    /// Connections that append.
    pub writers: usize,
    /// Partitions of the entries, when the tables are made.
    pub partitions: u16,
}

/// A text that is never shown.
#[derive(Clone, PartialEq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What clients may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The largest stanza, in bytes.
    pub stanza_bytes: usize,
    /// The most connections at a time.
    pub connections: usize,
    /// From connecting to having logged in, in seconds.
    pub login_seconds: u64,
    /// The most sessions of one account at a time.
    pub sessions_per_account: usize,
    /// The most messages of one session that are not in the archives yet.
    pub messages_in_flight: usize,
}

/// How to log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// A level, or directives as `tracing` filters take them.
    pub level: String,
    /// For whom.
    pub format: LogFormat,
}

/// For whom the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nobody named a file, and none is where one is looked for.
    #[error(
        "no configuration: there is neither ./{} nor {}; name a file with --config, or make one with: mammoth config default > mammoth.toml",
        DEFAULT_FILES[0],
        DEFAULT_FILES[1]
    )]
    NoFile,
    /// The file cannot be read.
    #[error("cannot read {}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file, or the environment, says something that cannot be.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

impl Settings {
    /// Reads the configuration: `file`, or `$MAMMOTH_CONFIG`, or the first of [`DEFAULT_FILES`] that exists;
    /// then the environment's overrides.
    pub fn load(file: Option<&Path>) -> Result<Settings, ConfigError> {
        let named =
            file.map(Path::to_path_buf).or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
        let file = match named {
            Some(file) => file,
            None => DEFAULT_FILES
                .iter()
                .map(PathBuf::from)
                .find(|file| file.exists())
                .ok_or(ConfigError::NoFile)?,
        };
        let text = std::fs::read_to_string(&file)
            .map_err(|source| ConfigError::Unreadable { file: file.clone(), source })?;
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Settings::parse(&file, &text, environment)?)
    }

    /// Makes settings of a file's text and an environment. Relative paths count from the file's directory.
    pub fn parse(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, Problems> {
        let mut raw = Raw::read(&file.display().to_string(), text, environment)?;
        let base = file.parent().unwrap_or(Path::new(""));
        let settings = read::settings(&mut raw, base);
        raw.finish()?;
        settings.ok_or_else(|| Problems(vec![]))
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
