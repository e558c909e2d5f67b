//! A server of a test's own: the real binary, on free loopback ports, in a directory that goes with it. What is said
//! to it is left to the clients.
//!
//! `MAMMOTH_TEST_STORAGE` is `embedded` (the default) or `postgresql`. The latter needs the feature of that name, and
//! `MAMMOTH_TEST_POSTGRESQL` as `postgresql://user:password@host:port`: there each test server gets a database of its
//! own, made with `psql`.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::{Auth, Client};
use super::ledger::Ledger;
use super::{DOMAIN, PATIENCE_SECONDS};

/// The password of every account of the tests. Never in a log.
pub const PASSWORD: &str = "correct horse battery staple";

/// What differs from a plain server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Lines of the configuration before its first section.
    pub top: String,
    /// More lines of the section `[listen]`.
    pub listen: String,
    /// Lines of the section `[limits]`.
    pub limits: String,
    /// The log's level.
    pub log: &'static str,
    /// Whether lines of level ERROR are expected.
    pub errors: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            top: String::new(),
            listen: String::new(),
            limits: String::new(),
            log: "info",
            errors: false,
        }
    }
}

impl Options {
    /// With these lines before the first section.
    pub fn top(lines: &str) -> Options {
        Options { top: lines.to_owned(), ..Options::default() }
    }

    /// With these lines in the section of limits.
    pub fn limits(lines: &str) -> Options {
        Options { limits: lines.to_owned(), ..Options::default() }
    }
}

/// A running server.
pub struct Server {
    /// What its clients received.
    pub ledger: Ledger,
    directory: tempfile::TempDir,
    options: Options,
    /// The configuration's section on the store.
    storage: String,
    running: Option<Running>,
    /// The lines of servers that ran before in the same place.
    earlier: Vec<String>,
}

struct Running {
    child: Child,
    log: Log,
    reader: JoinHandle<()>,
    c2s: SocketAddr,
    c2s_tls: SocketAddr,
    c2s_plain: SocketAddr,
}

/// The lines a server has logged so far.
#[derive(Clone, Default)]
struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn push(&self, line: Option<String>) {
        let (lines, more) = &*self.0;
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        match line {
            Some(line) => lines.lines.push(line),
            None => lines.ended = true,
        }
        more.notify_all();
    }

    fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// Waits for the first line for which `wanted` has an answer.
    fn wait<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let (lines, more) = &*self.0;
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        loop {
            while let Some(line) = lines.lines.get(seen) {
                seen += 1;
                if let Some(answer) = wanted(line) {
                    return answer;
                }
            }
            assert!(!lines.ended, "the server ended before {what}: {:#?}", lines.lines);
            let (next, waited) = more
                .wait_timeout(lines, Duration::from_secs(PATIENCE_SECONDS))
                .unwrap_or_else(PoisonError::into_inner);
            lines = next;
            assert!(!waited.timed_out(), "waited in vain for {what}: {:#?}", lines.lines);
        }
    }
}

impl Server {
    /// Starts a plain server without accounts.
    pub fn start() -> Server {
        Server::with(Options::default())
    }

    /// Starts a plain server with these accounts.
    pub fn of(accounts: &[&str]) -> Server {
        Server::with_accounts(Options::default(), accounts)
    }

    /// Starts a server with these accounts.
    pub fn with_accounts(options: Options, accounts: &[&str]) -> Server {
        let server = Server::with(options);
        for account in accounts {
            server.add(account);
        }
        server
    }

    /// Starts a server.
    pub fn with(options: Options) -> Server {
        Server::on(options, storage())
    }

    /// Starts another process on the same database. `None` when the store is not one that can be shared.
    pub fn beside(&self) -> Option<Server> {
        let shared = self.storage.contains("postgresql");
        shared.then(|| Server::on(self.options.clone(), self.storage.clone()))
    }

    fn on(options: Options, storage: String) -> Server {
        let mut server = Server::stopped(options, storage);
        server.up();
        server
    }

    /// A place with a configuration, and no server on it yet. `storage` is the section on the store.
    pub fn stopped(options: Options, storage: String) -> Server {
        let directory = tempfile::Builder::new().prefix("mammoth-test-").tempdir().expect("a directory");
        let Options { top, listen, limits, log, .. } = &options;
        let data = directory.path().join("data");
        let config = format!(
            "domain = \"{DOMAIN}\"\ndata = \"{}\"\n{top}\n\
             [listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = [\"127.0.0.1:0\"]\nc2s_plain = [\"127.0.0.1:0\"]\n{listen}\n\
             [limits]\n{limits}\n{}\n[log]\nformat = \"json\"\nlevel = \"{log}\"\n",
            data.display(),
            storage,
        );
        std::fs::write(directory.path().join("mammoth.toml"), config).expect("a configuration");
        Server { ledger: Ledger::default(), directory, options, storage, running: None, earlier: Vec::new() }
    }

    /// Starts it again in the same place, after [`Server::kill`] or [`Server::down`].
    pub fn up(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut child = self
            .command()
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let stderr = child.stderr.take().expect("its log");
        let log = Log::default();
        let reader = std::thread::spawn({
            let log = log.clone();
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    log.push(Some(line));
                }
                log.push(None);
            }
        });
        let address = |key: &str| {
            log.wait(key, |line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                let is_it = line["message"] == "listening" && line["listener"] == key;
                is_it.then(|| line["address"].as_str().expect("an address").parse().expect("an address"))
            })
        };
        let (c2s, c2s_tls) = (address("listen.c2s"), address("listen.c2s_tls"));
        let c2s_plain = address("listen.c2s_plain");
        log.wait("ready", |line| line.contains("\"message\":\"ready\"").then_some(()));
        self.running = Some(Running { child, log, reader, c2s, c2s_tls, c2s_plain });
    }

    /// Stops it cleanly, as an operator does.
    pub fn down(&mut self) {
        let pid = self.running().child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        assert!(sent.success(), "cannot send a signal");
        let status = self.ended();
        assert!(status.success(), "the server did not stop cleanly: {status}");
    }

    /// Kills it: it gets no chance to do anything more.
    pub fn kill(&mut self) {
        self.running.as_mut().expect("running").child.kill().expect("kill");
        self.ended();
    }

    fn ended(&mut self) -> ExitStatus {
        let Running { mut child, log, reader, .. } = self.running.take().expect("running");
        let status = child.wait().expect("its end");
        reader.join().expect("its log");
        self.earlier.extend(log.all());
        status
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("running")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mammoth"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MAMMOTH_")) {
            command.env_remove(name);
        }
        command
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("mammoth.toml")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The self-signed certificate that clients trust.
    pub fn certificate(&self) -> PathBuf {
        self.data().join("localhost.crt")
    }

    /// Where STARTTLS is spoken.
    pub fn c2s(&self) -> SocketAddr {
        self.running().c2s
    }

    /// Where TLS is spoken from the first byte.
    pub fn c2s_tls(&self) -> SocketAddr {
        self.running().c2s_tls
    }

    /// Where no TLS is spoken.
    pub fn c2s_plain(&self) -> SocketAddr {
        self.running().c2s_plain
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// Runs another command of the binary in the same place. Answers what it printed.
    pub fn mammoth(&self, arguments: &[&str], stdin: &str) -> String {
        let mut child = self
            .command()
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        child.stdin.take().expect("stdin").write_all(stdin.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mammoth {arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Adds an account.
    pub fn add(&self, name: &str) {
        let account = format!("{name}@{DOMAIN}");
        self.mammoth(&["account", "add", &account, "--password-stdin"], PASSWORD);
    }

    /// A client that is logged in over STARTTLS, bound, and has said nothing yet.
    pub async fn login(&self, name: &str, resource: &str) -> Client {
        Client::login(self, name, resource, Auth::Sha256Plus).await
    }

    /// The same, available and with carbons, as any ordinary client.
    pub async fn client(&self, name: &str, resource: &str) -> Client {
        let mut client = self.login(name, resource).await;
        client.result("set", None, "<enable xmlns='urn:xmpp:carbons:2'/>").await;
        client.available().await;
        client
    }

    /// Waits for a line in its log for which `wanted` has an answer. The lines come from the start.
    pub fn wait_for_log<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        self.running().log.wait(what, wanted)
    }

    /// What it has logged so far, earlier runs included.
    pub fn log(&self) -> Vec<String> {
        let now = self.running.as_ref().map(|running| running.log.all()).unwrap_or_default();
        self.earlier.iter().cloned().chain(now).collect()
    }

    /// What must hold whatever a test did.
    fn check(&self) {
        self.ledger.check();
        for line in self.log() {
            assert!(!line.contains("panicked"), "the server panicked: {line}");
            assert!(!line.contains(PASSWORD), "a password in the log: {line}");
            assert!(self.options.errors || !line.contains("\"level\":\"ERROR\""), "an error: {line}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(running) = &mut self.running {
                let _ = running.child.kill();
                let _ = running.child.wait();
            }
            let log = self.log();
            let last = log.len().saturating_sub(20);
            eprintln!("the end of the server's log:\n{}", log.get(last..).unwrap_or_default().join("\n"));
            return;
        }
        if self.running.is_some() {
            self.down();
        }
        self.check();
    }
}

/// The configuration's section on a store of files.
pub fn embedded() -> String {
    "[storage]\narchive = \"embedded\"".to_owned()
}

/// The configuration's section on the store that is to be tested.
pub fn storage() -> String {
    match std::env::var("MAMMOTH_TEST_STORAGE").as_deref() {
        Err(_) | Ok("" | "embedded") => embedded(),
        Ok("postgresql") => {
            static MADE: AtomicU32 = AtomicU32::new(0);
            let server = std::env::var("MAMMOTH_TEST_POSTGRESQL")
                .expect("MAMMOTH_TEST_POSTGRESQL names the server, as postgresql://user:password@host:port");
            let server = server.trim_end_matches('/');
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let name = format!("mammoth_test_{}_{number}", std::process::id());
            let made = Command::new("psql")
                .args(["-qX", "-v", "ON_ERROR_STOP=1", "-c", &format!("CREATE DATABASE {name}")])
                .arg(format!("{server}/postgres"))
                .status()
                .expect("psql");
            assert!(made.success(), "cannot make a database");
            format!("[storage]\narchive = \"postgresql\"\n[storage.postgresql]\nurl = \"{server}/{name}\"")
        }
        Ok(other) => panic!("MAMMOTH_TEST_STORAGE={other}: embedded or postgresql"),
    }
}

/// Whether a file under a directory holds these bytes.
pub fn any_file_holds(directory: &Path, bytes: &[u8]) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).expect("a directory").map_while(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = any_file_holds(&path, bytes) {
                return Some(found);
            }
        } else if let Ok(content) = std::fs::read(&path)
            && content.windows(bytes.len()).any(|window| window == bytes)
        {
            return Some(path);
        }
    }
    None
}
