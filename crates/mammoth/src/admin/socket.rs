//! The admin socket: one JSON line asks, one JSON line answers. Only for the user that runs the server, and root. What
//! is asked and answered is in admin.rs.

use std::fs::File;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::{Request, Response};

/// The socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";
/// The longest request or answer, in bytes.
pub const LINE_BYTES_MAX: u64 = 16 << 20;
/// The most commands that are served at a time; further ones wait.
pub const COMMANDS_MAX: usize = 8;
/// The pause after a failed accept: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connects to the server that runs on this data directory; `None` if there is none.
pub fn connect(data: &Path) -> io::Result<Option<UnixStream>> {
    let connected = Address::in_directory(data).and_then(|address| UnixStream::connect(&address.path));
    match connected {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused => {
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

/// The longest path that every system takes for a socket, in bytes.
const PATH_BYTES_MAX: usize = 100;

/// The socket's address: its path, or a short way around to it where the path is too long for a socket.
struct Address {
    path: PathBuf,
    /// Keeps the way around open.
    _directory: Option<File>,
}

impl Address {
    fn in_directory(data: &Path) -> io::Result<Address> {
        let path = data.join(SOCKET);
        if path.as_os_str().len() <= PATH_BYTES_MAX || !cfg!(target_os = "linux") {
            return Ok(Address { path, _directory: None });
        }
        let directory = File::open(data)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).into();
        Ok(Address { path, _directory: Some(directory) })
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
    /// Listens in the data directory, in place of a socket that a killed server left behind. Must be called inside a
    /// runtime.
    ///
    /// # Errors
    /// `AddrInUse` when a server answers there.
    pub fn bind(data: &Path) -> io::Result<AdminSocket> {
        if connect(data)?.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "a server runs on this data directory already",
            ));
        }
        let path = data.join(SOCKET);
        match std::fs::symlink_metadata(&path) {
            Ok(left) if left.file_type().is_socket() => std::fs::remove_file(&path)?,
            _ => {}
        }
        let address = Address::in_directory(data)?;
        let listener = tokio::net::UnixListener::bind(&address.path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let uid = std::fs::metadata(&path)?.uid();
        Ok(AdminSocket { listener, path, uid })
    }

    /// Answers requests with `handler` until the future is dropped. Several requests can be under way.
    pub async fn serve<H, F>(self, handler: H)
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let places = Arc::new(Semaphore::new(COMMANDS_MAX));
        let mut commands = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an admin command");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
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
    async fn a_long_way_to_the_data_is_no_obstacle() {
        let base = tempfile::tempdir().unwrap();
        let data = base.path().join("x".repeat(200));
        std::fs::create_dir(&data).unwrap();
        let socket = AdminSocket::bind(&data).unwrap();
        assert!(data.join(SOCKET).exists());
        assert!(connect(&data).unwrap().is_some());
        assert_eq!(AdminSocket::bind(&data).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!data.join(SOCKET).exists());
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
