//! The admin socket: how commands reach a server that is running on the same data directory. One JSON line asks, one
//! JSON line answers. What a request does is in admin/perform.rs, and a server may do more around it; who asks is the
//! commands' business.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

pub mod forget;
pub mod perform;

/// The socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";
/// The longest request or answer, in bytes.
pub const LINE_BYTES_MAX: u64 = 16 << 20;
/// The most commands that are served at a time; further ones wait.
pub const COMMANDS_MAX: usize = 8;

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

/// Connects to the server that runs on this data directory; `None` if there is none.
pub fn connect(data: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(data.join(SOCKET)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(error),
        },
    }
}

/// Asks one thing, and waits for the answer however long it takes.
pub fn ask(stream: &mut UnixStream, request: &Request) -> io::Result<Response> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(&*stream).take(LINE_BYTES_MAX).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server stopped before it answered"));
    }
    Ok(serde_json::from_str(&answer)?)
}

/// The server's end of the socket, only for the user that runs the server, and root. The file goes when this does.
pub struct AdminSocket {
    listener: tokio::net::UnixListener,
    path: PathBuf,
    /// The user that runs the server.
    uid: u32,
}

impl AdminSocket {
    /// Listens in the data directory. To be called by the one process that holds the directory's lock: what a server
    /// that was killed left behind is removed. Must be called inside a runtime.
    pub fn bind(data: &Path) -> io::Result<AdminSocket> {
        let path = data.join(SOCKET);
        match std::fs::symlink_metadata(&path) {
            Ok(left) if left.file_type().is_socket() => std::fs::remove_file(&path)?,
            _ => {}
        }
        let listener = tokio::net::UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let uid = std::fs::metadata(&path)?.uid();
        Ok(AdminSocket { listener, path, uid })
    }

    /// Answers requests with `handler` until the future is dropped. Several requests can be under way.
    pub async fn serve<H, F>(self, handler: H) -> io::Result<()>
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let places = Arc::new(Semaphore::new(COMMANDS_MAX));
        let mut commands = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
            let (stream, _) = self.listener.accept().await?;
            while commands.try_join_next().is_some() {}
            // Between bind and set_permissions anybody could connect; so everybody is looked at.
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == self.uid || peer.uid() == 0 => {}
                _ => continue,
            }
            let handler = handler.clone();
            commands.spawn(async move {
                let _place = place;
                if let Err(error) = converse(stream, handler.as_ref()).await {
                    tracing::debug!(%error, "an admin command went away");
                }
            });
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse<H, F>(stream: tokio::net::UnixStream, handler: &H) -> io::Result<()>
where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        let response = match serde_json::from_slice(&line) {
            Ok(request) => handler(request).await,
            Err(error) => Response::failed(format!("the server does not understand the request: {error}")),
        };
        let mut answer = serde_json::to_vec(&response)?;
        answer.push(b'\n');
        writer.write_all(&answer).await?;
        if line.last() != Some(&b'\n') {
            return Ok(()); // longer than a line may be: what follows cannot be told apart
        }
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

    #[tokio::test(flavor = "multi_thread")]
    async fn one_line_asks_and_one_line_answers() {
        let data = tempfile::tempdir().unwrap();
        assert!(connect(data.path()).unwrap().is_none(), "no server, no socket");

        let socket = AdminSocket::bind(data.path()).unwrap();
        let mode = std::fs::metadata(data.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let serving = tokio::spawn(socket.serve(|request| async move {
            match request {
                Request::ListAccounts { limit, .. } => {
                    Response::Accounts { accounts: vec!["x".repeat(limit)] }
                }
                _ => Response::failed("only lists here"),
            }
        }));
        let path = data.path().to_path_buf();
        tokio::task::spawn_blocking(move || {
            let mut stream = connect(&path).unwrap().expect("a server listens");
            for limit in [0, 3, 1_000_000] {
                let answer = ask(&mut stream, &Request::ListAccounts { after: None, limit }).unwrap();
                assert_eq!(answer, Response::Accounts { accounts: vec!["x".repeat(limit)] });
            }
            let other = ask(&mut stream, &Request::RemoveAccount { account: "a@b".into() }).unwrap();
            assert_eq!(other, Response::failed("only lists here"));
            stream.write_all(b"{\"command\":\"sing\"}\n").unwrap();
            let mut answer = String::new();
            BufReader::new(&stream).read_line(&mut answer).unwrap();
            assert!(answer.contains("does not understand"), "{answer}");
        })
        .await
        .unwrap();

        serving.abort();
        let _ = serving.await;
        assert!(connect(data.path()).unwrap().is_none(), "the file goes with the server");
    }

    #[tokio::test]
    async fn what_a_killed_server_left_is_taken_over() {
        let data = tempfile::tempdir().unwrap();
        let left = std::os::unix::net::UnixListener::bind(data.path().join(SOCKET)).unwrap();
        drop(left); // the file stays, as after kill -9
        assert!(connect(data.path()).unwrap().is_none());
        AdminSocket::bind(data.path()).unwrap();
    }
}
