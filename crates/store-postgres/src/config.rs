//! Where the database is and how it is used. Reading this from a file is left to the binary, connecting to
//! `session`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mammoth_archive::IdKey;

/// The most sessions that read at the same time, whatever is configured.
pub const READERS_MAX: usize = 256;
/// The most sessions that append.
pub const WRITERS_MAX: usize = 16;
/// The most partitions of the entries.
pub const PARTITIONS_MAX: u16 = 256;

/// How a store is opened.
#[derive(Clone)]
pub struct Config {
    /// A connection string as libpq takes it: `postgresql://user@host/database`, or `host=… user=…`. The fields
    /// below that are set count for more.
    pub url: Option<String>,
    /// A host name, an address, or the directory of a Unix socket. Without a `url` that names one: `localhost`.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The database. Without a `url` that names one: `mammoth`.
    pub database: Option<String>,
    /// The user. Without a `url` that names one: `mammoth`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// Whether the connection is encrypted.
    pub tls: Tls,
    /// Sessions that answer queries.
    pub readers: usize,
    /// Sessions that append. Each archive has one of them.
    pub writers: usize,
    /// Into how many partitions the entries are put when the schema is made; 1 is a plain table.
    pub partitions: u16,
    /// The secret of the ids, for a database that has none yet; without it, one is made.
    pub ids: Option<IdKey>,
    /// How long a call goes on trying while the database cannot be reached.
    pub patience: Duration,
    /// How long one answer of the database may take before the connection is given up.
    pub answer_time: Duration,
}

/// Whether the connection is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not, unless the `url` asks for it (`sslmode=require`), and then only with [`Tls::Verified`].
    #[default]
    Off,
    /// By TLS, and the server's certificate must be for its host name and lead to one of these.
    Verified {
        /// Certificates of authorities, as a PEM file.
        authorities: PathBuf,
    },
}

impl Default for Config {
    fn default() -> Config {
        Config {
            url: None,
            host: None,
            port: None,
            database: None,
            user: None,
            password: None,
            tls: Tls::Off,
            readers: 8,
            writers: 2,
            partitions: 16,
            ids: None,
            patience: Duration::from_secs(10),
            answer_time: Duration::from_secs(10),
        }
    }
}

/// Passwords are not for logs, and a `url` may hold one.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Why a configuration cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongConfig(pub(crate) String);

impl Config {
    /// What the library needs to connect.
    pub(crate) fn library(&self) -> Result<tokio_postgres::Config, WrongConfig> {
        use tokio_postgres::config::SslMode;
        let mut library = match &self.url {
            // The error names the part that is wrong, not the string.
            Some(url) => url
                .parse()
                .map_err(|error| WrongConfig(format!("the connection string: {}", with_source(&error))))?,
            None => tokio_postgres::Config::new(),
        };
        if let Some(host) = &self.host {
            if self.url.is_some() && !library.get_hosts().is_empty() {
                return Err(WrongConfig(
                    "the host is named both in the connection string and by itself".into(),
                ));
            }
            library.host(host);
        } else if library.get_hosts().is_empty() && library.get_hostaddrs().is_empty() {
            library.host("localhost");
        }
        if let Some(port) = self.port {
            if !library.get_ports().is_empty() {
                return Err(WrongConfig(
                    "the port is named both in the connection string and by itself".into(),
                ));
            }
            library.port(port);
        }
        if self.database.is_some() || library.get_dbname().is_none() {
            library.dbname(self.database.as_deref().unwrap_or("mammoth"));
        }
        if self.user.is_some() || library.get_user().is_none() {
            library.user(self.user.as_deref().unwrap_or("mammoth"));
        }
        if let Some(password) = &self.password {
            library.password(password);
        }
        if library.get_application_name().is_none() {
            library.application_name("mammoth");
        }
        match &self.tls {
            Tls::Verified { .. } => {
                library.ssl_mode(SslMode::Require);
            }
            Tls::Off if matches!(library.get_ssl_mode(), SslMode::Require) => {
                return Err(WrongConfig(
                    "the connection string asks for TLS, but the certificates of the authorities are not named"
                        .into(),
                ));
            }
            Tls::Off => {
                library.ssl_mode(SslMode::Disable);
            }
        }
        library.keepalives_idle(Duration::from_secs(30));
        Ok(library)
    }

    /// Where the database is, in words for an error.
    pub(crate) fn place(&self, library: &tokio_postgres::Config) -> String {
        use tokio_postgres::config::Host;
        let hosts: Vec<String> = library
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let port = library.get_ports().first().copied().unwrap_or(5432);
        format!("{} (port {port}, database {})", hosts.join(", "), library.get_dbname().unwrap_or("?"))
    }
}

/// An error and what is behind it, in one line.
pub(crate) fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) if !error.to_string().contains(&source.to_string()) => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_by_itself_counts() {
        let config = Config {
            url: Some("postgresql://alice:secret@db.example:5433/archive".into()),
            user: Some("bob".into()),
            ..Config::default()
        };
        let library = config.library().unwrap();
        assert_eq!(library.get_user(), Some("bob"));
        assert_eq!(library.get_dbname(), Some("archive"));
        assert_eq!(config.place(&library), "db.example (port 5433, database archive)");
        assert!(!format!("{config:?}").contains("secret"));
        let both = Config { host: Some("other.example".into()), ..config.clone() };
        assert!(both.library().unwrap_err().to_string().contains("both"));
        let tls =
            Config { url: Some("postgresql://db.example/x?sslmode=require".into()), ..Config::default() };
        assert!(tls.library().unwrap_err().to_string().contains("TLS"));
        let wrong = Config { url: Some("postgresql://u:secret@h:port/x".into()), ..Config::default() };
        let told = wrong.library().unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn without_anything_it_is_here() {
        let config = Config::default();
        let library = config.library().unwrap();
        assert_eq!(config.place(&library), "localhost (port 5432, database mammoth)");
        assert_eq!(library.get_user(), Some("mammoth"));
    }
}
