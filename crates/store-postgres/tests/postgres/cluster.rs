//! A PostgreSQL of the tests' own: a cluster in a temporary directory, on a free loopback port, gone with the test
//! process. Which databases there are in it, and what is asked of them, is left to the tests.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use mammoth_store_postgres::Config;

/// A cluster.
pub struct Cluster {
    directory: PathBuf,
    binaries: PathBuf,
    pub port: u16,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// A shell that stops the server when its input ends, as it does when this process does.
    keeper: Child,
    server: u32,
}

/// The cluster that the tests share; `None` when no PostgreSQL is installed.
static SHARED: LazyLock<Option<Cluster>> = LazyLock::new(Cluster::make);

/// The shared cluster. Without PostgreSQL the test says loudly that it is skipped; in CI it fails.
pub fn shared(test: &str) -> Option<&'static Cluster> {
    if SHARED.is_none() {
        skipped(test);
    }
    SHARED.as_ref()
}

/// A cluster that a test may kill.
pub fn own(test: &str) -> Option<Cluster> {
    let cluster = Cluster::make();
    if cluster.is_none() {
        skipped(test);
    }
    cluster
}

fn skipped(test: &str) {
    let why = format!("{test}: SKIPPED, there is no PostgreSQL 15 or newer in /usr/lib/postgresql/*/bin");
    assert!(std::env::var_os("CI").is_none(), "{why}");
    // Past the test harness, which keeps what passing tests print.
    let _ = writeln!(std::io::stderr(), "{why}");
}

fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            let directory = entry.path().join("bin");
            (version >= 15 && directory.join("initdb").exists()).then_some((version, directory))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, directory)| directory)
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"));
    if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    fn make() -> Option<Cluster> {
        let binaries = binaries()?;
        // Made by whom the server runs as, who can then remove it; anyone may add to it.
        let made = as_postgres(Path::new("mktemp"))
            .args(["-d", "--tmpdir", "mammoth-pg-XXXXXXXX"])
            .output()
            .unwrap();
        let directory = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
        let opened = as_postgres(Path::new("chmod")).arg("777").arg(&directory).status().unwrap();
        assert!(opened.success(), "no directory {}", directory.display());
        let data = directory.join("data");
        let made = as_postgres(&binaries.join("initdb"))
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let guard = "host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
        let write = |name: &str, text: &str| {
            let mut tee = as_postgres(Path::new("tee"))
                .arg(data.join(name))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            tee.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(tee.wait().unwrap().success());
        };
        write("pg_hba.conf", &format!("{guard}local all all trust\n"));
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        write("server.crt", &signed.cert.pem());
        write("server.key", &signed.signing_key.serialize_pem());
        assert!(
            as_postgres(Path::new("chmod"))
                .arg("600")
                .arg(data.join("server.key"))
                .status()
                .unwrap()
                .success()
        );
        let cluster = Cluster { directory, binaries, port: free_port(), running: Mutex::new(None) };
        cluster.start();
        Some(cluster)
    }

    /// The certificate that its server shows.
    pub fn certificate(&self) -> PathBuf {
        let readable = self.directory.join("server.crt");
        if !readable.exists() {
            std::fs::copy(self.directory.join("data/server.crt"), &readable).unwrap();
        }
        readable
    }

    /// Starts the server and waits until it answers.
    pub fn start(&self) {
        let script = format!(
            "'{server}' -D '{directory}/data' -k '{directory}' -h 127.0.0.1 -p {port} -c fsync=off -c ssl=on \
             -c max_connections=200 -c shared_buffers=64MB -c deadlock_timeout=100ms -c log_min_messages=fatal \
             >>'{directory}/log' 2>&1 & server=$!; echo $server; \
             if read -r _; then kill -INT $server; wait $server; \
             else kill -INT $server; wait $server; rm -rf '{directory}'; fi",
            server = self.binaries.join("postgres").display(),
            directory = self.directory.display(),
            port = self.port,
        );
        let mut keeper = as_postgres(Path::new("sh"))
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let server = line.trim().parse().unwrap();
        *self.running.lock().unwrap() = Some(Running { keeper, server });
        let ready = || {
            let mut ready = Command::new(self.binaries.join("pg_isready"));
            ready
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", "1"])
                .status()
                .unwrap()
                .success()
        };
        let mut tries = 0;
        while !ready() {
            tries += 1;
            let log = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(tries < 600, "PostgreSQL does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server: all its processes at once (`KILL`), or at the end of what they are doing (`INT`).
    pub fn stop(&self, signal: &str) {
        let Some(mut running) = self.running.lock().unwrap().take() else { return };
        let server = running.server.to_string();
        if signal == "KILL" {
            // The postmaster first, so that it restarts nobody; its children end when they notice, and these at once.
            let children = Command::new("pgrep").args(["-P", &server]).output().unwrap();
            let children = String::from_utf8(children.stdout).unwrap();
            let _ = Command::new("kill").args(["-KILL", &server]).args(children.split_whitespace()).output();
        } else {
            Command::new("kill").args([&format!("-{signal}"), &server]).status().unwrap();
        }
        // A line: the directory stays.
        let _ = running.keeper.stdin.take().unwrap().write_all(b"\n");
        running.keeper.wait().unwrap();
        let _ = std::fs::remove_file(self.directory.join("data/postmaster.pid"));
    }

    /// Says something to a database as its superuser.
    pub async fn say(&self, database: &str, text: &str) {
        self.client(database).await.batch_execute(text).await.unwrap();
    }

    /// A connection of the test's own.
    pub async fn client(&self, database: &str) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user("postgres").dbname(database);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A database nobody has used, and how to open a store in it.
    pub async fn database(&self) -> Config {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.say("postgres", &format!("CREATE DATABASE {name}")).await;
        Config {
            host: Some("127.0.0.1".into()),
            port: Some(self.port),
            database: Some(name),
            user: Some("postgres".into()),
            partitions: 4,
            ..Config::default()
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop("INT");
        let _ = as_postgres(Path::new("rm")).arg("-rf").arg(&self.directory).status();
    }
}
