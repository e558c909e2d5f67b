//! Accounts at the command line, with the real binary on a real data directory: with the server stopped, and with it
//! running.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A directory with a configuration that needs no fixed port.
fn place() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let text = "domain = \"localhost\"\ndata = \"data\"\n\
                [listen]\nc2s = []\nc2s_tls = []\nc2s_plain = [\"127.0.0.1:0\"]\n[log]\nformat = \"json\"\n";
    std::fs::write(directory.path().join("mammoth.toml"), text).unwrap();
    directory
}

fn mammoth(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mammoth"));
    command.current_dir(directory);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MAMMOTH_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs one `account` command, with `input` on its standard input.
fn account(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = mammoth(directory);
    command
        .arg("account")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that fails at once does not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a command that must succeed prints.
fn done(directory: &Path, arguments: &[&str], input: &str) -> String {
    let output = account(directory, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must fail says.
fn refused(directory: &Path, arguments: &[&str], input: &str) -> String {
    let output = account(directory, arguments, input);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// A server that runs until it is dropped.
struct Server(Child);

impl Server {
    /// A server that has said that it is ready.
    fn start(directory: &Path) -> Server {
        Server::try_start(directory).unwrap_or_else(|said| panic!("the server did not start: {said}"))
    }

    /// The same, or what a server said that ended before it was ready.
    fn try_start(directory: &Path) -> Result<Server, String> {
        let mut child = mammoth(directory).arg("serve").stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let server = Server(child);
        let mut said = String::new();
        loop {
            let before = said.len();
            if log.read_line(&mut said).unwrap() == 0 {
                return Err(said);
            }
            if said[before..].contains("\"message\":\"ready\"") {
                break;
            }
        }
        // Nobody reads on: a full pipe must not stop the server.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(server)
    }

    /// As Ctrl-C does; answers whether it ended well.
    fn stop(mut self) -> bool {
        let killed = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
        self.0.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The life of two accounts; the same whoever holds the data.
fn two_accounts(at: &Path) {
    assert_eq!(done(at, &["list"], ""), "");
    assert_eq!(done(at, &["add", "bob@localhost", "--password-stdin"], "secret\n"), "added bob@localhost\n");
    assert_eq!(
        done(at, &["add", "Alice@localhost", "--password-stdin"], "pa ss\n"),
        "added alice@localhost\n"
    );
    assert_eq!(done(at, &["list"], ""), "alice@localhost\nbob@localhost\n");
    assert_eq!(
        refused(at, &["add", "bob@localhost", "--password-stdin"], "other\n"),
        "mammoth: the account bob@localhost exists already\n"
    );
    assert_eq!(
        done(at, &["passwd", "bob@localhost", "--password-stdin"], "new\n"),
        "the password of bob@localhost is changed\n"
    );
    assert_eq!(
        refused(at, &["passwd", "carol@localhost", "--password-stdin"], "new\n"),
        "mammoth: there is no account carol@localhost\n"
    );
    let set = |period: &str| done(at, &["set", "bob@localhost", "--archive-expires-after", period], "");
    assert_eq!(set("1y"), "messages of bob@localhost stay 1y\n");
    assert_eq!(set("Never"), "messages of bob@localhost stay for ever\n");
    assert_eq!(set("default"), "messages of bob@localhost stay as long as archive_expires_after says\n");
    assert_eq!(
        refused(at, &["set", "carol@localhost", "--archive-expires-after", "1y"], ""),
        "mammoth: there is no account carol@localhost\n"
    );
    assert_eq!(
        refused(at, &["remove", "bob@localhost"], "y\n"),
        "mammoth: cannot ask without a terminal; say --yes to go ahead\n"
    );
    assert_eq!(done(at, &["remove", "bob@localhost", "--yes"], ""), "removed bob@localhost\n");
    assert_eq!(
        refused(at, &["remove", "bob@localhost", "--yes"], ""),
        "mammoth: there is no account bob@localhost\n"
    );
    assert_eq!(done(at, &["list"], ""), "alice@localhost\n");
}

#[test]
fn with_the_server_stopped() {
    let directory = place();
    let at = directory.path();
    assert!(refused(at, &["list"], "").contains("there is no data directory "));
    done(at, &["add", "first@localhost", "--password-stdin"], "x\n");
    done(at, &["remove", "first@localhost", "--yes"], "");
    two_accounts(at);
    assert_eq!(done(at, &["list", "--data", "data"], ""), "alice@localhost\n", "the directory alone will do");
}

#[test]
fn with_the_server_running() {
    let directory = place();
    let at = directory.path();
    let server = Server::start(at);
    two_accounts(at);
    assert_eq!(
        refused(at, &["add", "eve@other.example", "--data", "data", "--password-stdin"], "x\n"),
        "mammoth: the domain of eve@other.example is not served here, but localhost\n"
    );
    assert!(server.stop(), "Ctrl-C is a clean end");
    assert!(!at.join("data/admin.sock").exists());
    assert_eq!(done(at, &["list"], ""), "alice@localhost\n", "what was done through it is there without it");
}

#[test]
fn a_server_that_was_killed_leaves_nothing_in_the_way() {
    let directory = place();
    let at = directory.path();
    drop(Server::start(at));
    assert!(at.join("data/admin.sock").exists(), "it was killed, not stopped");
    done(at, &["add", "alice@localhost", "--password-stdin"], "x\n");
    let server = Server::start(at);
    assert_eq!(done(at, &["list"], ""), "alice@localhost\n");
    assert!(server.stop());
}

#[test]
fn one_server_at_a_time() {
    let directory = place();
    let server = Server::start(directory.path());
    let second = Server::try_start(directory.path()).err().expect("there is one already");
    assert!(second.contains("data"), "it says which directory is in use: {second}");
    done(directory.path(), &["list"], "");
    assert!(server.stop());
}

#[test]
fn many_accounts_are_listed_page_by_page() {
    let directory = place();
    let at = directory.path();
    let server = Server::start(at);
    // More than one page would take minutes of key derivation; the paging itself is tested on the store.
    for n in 0..3 {
        done(at, &["add", &format!("u{n}@localhost"), "--password-stdin"], "x\n");
    }
    assert_eq!(done(at, &["list"], "").lines().count(), 3);
    assert!(server.stop());
}

#[test]
fn what_is_no_account_or_no_password_is_said() {
    let directory = place();
    let at = directory.path();
    let usage = account(at, &["add", "alice@localhost/phone", "--password-stdin"], "x\n");
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8(usage.stderr).unwrap().contains("write it as user@domain"));
    assert_eq!(
        refused(at, &["add", "alice@example.net", "--password-stdin"], "x\n"),
        "mammoth: example.net is not served here; domain in the configuration says: localhost\n"
    );
    assert_eq!(
        refused(at, &["add", "alice@localhost", "--password-stdin"], "\n"),
        "mammoth: there is no password on standard input\n"
    );
    assert!(refused(at, &["add", "alice@localhost", "--password-stdin"], "a\u{7}b\n").contains("control"));
    let period = account(at, &["set", "alice@localhost", "--archive-expires-after", "1 fortnight"], "");
    assert_eq!(period.status.code(), Some(2));
    assert!(String::from_utf8(period.stderr).unwrap().contains("\"never\", or \"default\""));
}

#[test]
fn a_password_is_nowhere_but_in_the_hands_of_its_owner() {
    let directory = place();
    let at = directory.path();
    let secret = "correct-horse-battery-staple";
    done(at, &["add", "alice@localhost", "--password-stdin"], &format!("{secret}\n"));
    let mut folders = vec![at.join("data")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                seen += bytes.len();
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{path:?}");
            }
        }
    }
    assert!(seen > 0, "the account is kept somewhere");
}
