//! What commands ask of a server, and what it answers. How the lines travel is in admin/socket.rs, what a request does in
//! admin/perform.rs, and a server may do more around it.

use serde::{Deserialize, Serialize};

pub mod forget;
pub mod perform;
mod socket;

pub use socket::{AdminSocket, SOCKET, ask, connect};

/// What a command asks for. JIDs are text here: whoever performs the request checks them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Make an account.
    AddAccount {
        /// Its bare JID.
        account: String,
        /// Made of its password by the command; the password itself is never sent.
        keys: Keys,
    },
    /// Change an account's password.
    SetPassword {
        /// Its bare JID.
        account: String,
        /// Made of the new password.
        keys: Keys,
    },
    /// Remove an account with its roster, and erase its archive.
    RemoveAccount {
        /// Its bare JID.
        account: String,
    },
    /// Name accounts, in order.
    ListAccounts {
        /// Those behind this one; from the beginning if absent.
        after: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// Set how long the account's messages stay.
    SetExpiresAfter {
        /// Its bare JID.
        account: String,
        /// As `archive_expires_after`; the server's own period if absent.
        period: Option<String>,
    },
    /// Say what a trim would take. Changes nothing.
    LookAt {
        /// Whose archive, as a bare JID.
        archive: String,
        /// How far the trim would go.
        cut: TrimCut,
    },
    /// Let an archive's entries go, up to and including one.
    Trim {
        /// Whose archive, as a bare JID.
        archive: String,
        /// The id of the last entry to go.
        through: String,
    },
    /// Erase an archive; prefs and period stay.
    Erase {
        /// Whose archive, as a bare JID.
        archive: String,
    },
}

/// How much of an archive goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cut", rename_all = "kebab-case")]
pub enum TrimCut {
    /// Up to and including this entry.
    Through {
        /// Its id.
        id: String,
    },
    /// What was stamped before this moment.
    Before {
        /// In microseconds since 1970.
        stamp: i64,
    },
    /// All of it.
    All,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// It is done, durably.
    Done,
    /// Some accounts, in order; none means that there are no more.
    Accounts {
        /// Their bare JIDs.
        accounts: Vec<String>,
    },
    /// What a trim would take, oldest and newest stamp in microseconds since 1970.
    Going {
        /// How many entries.
        entries: u64,
        /// How many the archive holds.
        of: u64,
        /// The stamp of the first to go.
        oldest: Option<i64>,
        /// The stamp of the last to go.
        newest: Option<i64>,
        /// The id of the last to go: what to trim through. Absent when nothing would go.
        through: Option<String>,
    },
    /// What has gone.
    Gone {
        /// How many entries.
        entries: u64,
    },
    /// It is not done, or not known to be done.
    Failed {
        /// Why, for the person at the command line.
        text: String,
    },
}

impl Response {
    /// [`Response::Failed`], with its text.
    pub fn failed(text: impl Into<String>) -> Response {
        Response::Failed { text: text.into() }
    }
}

/// SCRAM credentials as they cross the socket: base64, one set per hash.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Keys {
    sha1: HashKeys,
    sha256: HashKeys,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct HashKeys {
    salt: String,
    iterations: u32,
    stored_key: String,
    server_key: String,
}

/// Keys are not for logs.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl From<&mammoth_accounts::Credentials> for Keys {
    fn from(credentials: &mammoth_accounts::Credentials) -> Self {
        let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
        let keys = |keys: &mammoth_accounts::ScramKeys| HashKeys {
            salt: base64(&keys.salt),
            iterations: keys.iterations,
            stored_key: base64(&keys.stored_key),
            server_key: base64(&keys.server_key),
        };
        Keys { sha1: keys(&credentials.sha1), sha256: keys(&credentials.sha256) }
    }
}

impl Keys {
    /// The credentials, or `None` if the base64 is not base64.
    pub fn to_credentials(&self) -> Option<mammoth_accounts::Credentials> {
        let bytes = |text: &str| data_encoding::BASE64.decode(text.as_bytes()).ok();
        let keys = |keys: &HashKeys| {
            Some(mammoth_accounts::ScramKeys {
                salt: bytes(&keys.salt)?,
                iterations: keys.iterations,
                stored_key: bytes(&keys.stored_key)?,
                server_key: bytes(&keys.server_key)?,
            })
        };
        Some(mammoth_accounts::Credentials { sha1: keys(&self.sha1)?, sha256: keys(&self.sha256)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> mammoth_accounts::Credentials {
        let keys = |length: usize| mammoth_accounts::ScramKeys {
            salt: vec![1; 16],
            iterations: 4096,
            stored_key: vec![2; length],
            server_key: vec![255; length],
        };
        mammoth_accounts::Credentials { sha1: keys(20), sha256: keys(32) }
    }

    #[test]
    fn credentials_cross_the_socket_whole() {
        let request =
            Request::AddAccount { account: "alice@example.org".into(), keys: Keys::from(&credentials()) };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        let Request::AddAccount { keys, .. } = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        assert_eq!(keys.to_credentials(), Some(credentials()));
    }
}
