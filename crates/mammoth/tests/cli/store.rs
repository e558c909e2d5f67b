//! `archive stats`, `verify` and `backup`, beside a running server and with none. They look into the embedded store's
//! files; with another store these tests say that they are skipped.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::server::Options;
use super::support::{self, Server};
use super::{binary, bodies, command, refused, run, shown};

fn skipped(name: &str) -> bool {
    let other = std::env::var("MAMMOTH_TEST_STORAGE").is_ok_and(|storage| storage == "postgresql");
    if other {
        eprintln!("skipped: {name} looks into the embedded store's files");
    }
    other
}

/// A server whose store makes segments soon.
fn start(accounts: &[&str]) -> Server {
    let limits = "[storage.embedded]\nmemory_table_bytes = \"1MiB\"".to_owned();
    Server::with_accounts(Options { limits, ..Options::default() }, accounts)
}

fn stats(server: &Server) -> Value {
    serde_json::from_str(&server.mammoth(&["archive", "stats", "--format", "json"], "")).unwrap()
}

/// Ten thousand letters that no compressor shortens much, so that most bytes of a file matter.
fn noise(seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"abcdefghijklmnopqrstuvwxyzABCDEF"[(state >> 59) as usize])
    };
    std::iter::repeat_with(letter).take(10_000).collect()
}

/// Alice writes to bob until a segment has been made; answers how many messages that took.
async fn fill(server: &Server) -> usize {
    let mut alice = server.client("alice", "phone").await;
    let mut written = 0;
    for _ in 0..100 {
        for _ in 0..40 {
            alice.chat("bob@localhost", &format!("m{written}"), &noise(written)).await;
            written += 1;
        }
        alice.barrier().await;
        if stats(server)["store"]["segments"].as_u64().unwrap() > 0 {
            alice.close().await;
            return written;
        }
    }
    panic!("no segment after {written} messages");
}

#[test]
fn stats_tell_how_much_there_is() {
    if skipped("stats_tell_how_much_there_is") {
        return;
    }
    support::run(async {
        let mut server = start(&["alice", "bob"]);
        assert_eq!(stats(&server)["entries"], 0);
        let written = fill(&server).await as u64;
        let running = stats(&server);
        server.down();
        for stats in [running, stats(&server)] {
            assert_eq!((&stats["archives"], &stats["entries"]), (&2.into(), &(2 * written).into()));
            let segments = stats["store"]["segment_bytes"].as_u64().unwrap();
            assert!(segments > 0 && stats["disk_bytes"].as_u64().unwrap() >= segments, "{stats}");
            assert!(stats["stanza_bytes"].as_u64().unwrap() > 2 * written * 10_000, "{stats}");
            // The message is in both archives, and either may have been the first to take it.
            let oldest = |owner| shown(&server, owner, &[])[0]["stamp"].as_str().unwrap().to_owned();
            let oldest = oldest("alice@localhost").min(oldest("bob@localhost"));
            assert_eq!(stats["oldest"].as_str(), Some(oldest.as_str()));
            assert_eq!(stats["expiry_lag_seconds"], 0);
        }
        let text = server.mammoth(&["archive", "stats"], "");
        let line = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_else(|| panic!("{name} in {text}"));
            line[name.len()..].trim().to_owned()
        };
        assert_eq!(line("archives "), "2");
        assert_eq!(line("messages"), (2 * written).to_string());
        assert_eq!(line("expiry lag"), "0 seconds");
        assert!(line("on disk").contains(" for each message"), "{text}");
        assert!(line("segments").parse::<u64>().unwrap() > 0);
    });
}

#[test]
fn reading_beside_a_busy_server_sees_whole_archives() {
    if skipped("reading_beside_a_busy_server_sees_whole_archives") {
        return;
    }
    support::run(async {
        let server = start(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        alice.chat("bob@localhost", "m0", "0 first").await;
        alice.barrier().await;
        let mut written = 1;
        for round in 0..6 {
            let commands: &[&[&str]] = &[
                &["archive", "show", "bob@localhost", "--format", "json"],
                &["archive", "verify"],
                &["archive", "stats"],
            ];
            let reading: Vec<_> =
                commands.iter().map(|arguments| command(&server, arguments).spawn().unwrap()).collect();
            // With what both archives have, more than one segment for each round.
            for _ in 0..80 {
                let body = format!("{written} {}", noise(written));
                alice.chat("bob@localhost", &format!("m{written}"), &body).await;
                written += 1;
            }
            let outputs: Vec<_> =
                reading.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
            for output in &outputs {
                assert!(
                    output.status.success(),
                    "round {round}: {} {}",
                    String::from_utf8_lossy(&output.stderr),
                    String::from_utf8_lossy(&output.stdout)
                );
            }
            let lines = String::from_utf8(outputs[0].stdout.clone()).unwrap();
            for (n, line) in lines.lines().enumerate() {
                let line: Value = serde_json::from_str(line).unwrap();
                let stanza = support::Xml::parse(line["stanza"].as_str().unwrap());
                assert!(stanza.body().unwrap().starts_with(&format!("{n} ")), "round {round}");
            }
            assert!(lines.lines().count() >= 80 * round, "round {round}: what was durable is there");
            alice.barrier().await;
        }
        alice.close().await;
    });
}

/// The files of the first segment.
fn segment(data: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(data.join("segments")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().find(|file| file.extension().is_some_and(|e| e == "sqlite")).unwrap()
}

/// Turns over a byte in the middle of a file.
fn damage(file: &Path) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&[byte[0] ^ 0xff]).unwrap();
}

#[test]
fn verify_finds_what_is_damaged() {
    if skipped("verify_finds_what_is_damaged") {
        return;
    }
    support::run(async {
        let mut server = start(&["alice", "bob"]);
        let written = fill(&server).await as u64;
        for down in [false, true] {
            if down {
                server.down();
            }
            let said = server.mammoth(&["archive", "verify"], "");
            assert!(said.starts_with("checked ") && said.ends_with(" messages in 2 archives\n"), "{said}");
            let report: Value =
                serde_json::from_str(&server.mammoth(&["archive", "verify", "--format", "json"], ""))
                    .unwrap();
            assert_eq!((&report["archives"], &report["entries"]), (&2.into(), &(2 * written).into()));
            assert_eq!(report["problems"], Value::Array(vec![]));
        }
        let file = segment(&server.data());
        damage(&file);
        let output = run(&server, &["archive", "verify"], "");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let (said, error) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(said.contains(file.to_str().unwrap()), "{said}");
        assert!(
            error.starts_with("mammoth: the store is damaged") && error.ends_with("restore a backup\n"),
            "{error}"
        );
        let output = run(&server, &["archive", "verify", "--format", "json"], "");
        assert_eq!(output.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["problems"][0]["file"], file.to_str().unwrap());
    });
}

#[test]
fn what_is_erased_leaves_a_store_that_verifies() {
    if skipped("what_is_erased_leaves_a_store_that_verifies") {
        return;
    }
    support::run(async {
        let mut server = start(&["alice", "bob"]);
        let written = fill(&server).await;
        let of_bob = shown(&server, "bob@localhost", &[]);
        let before = stats(&server)["stanza_bytes"].as_u64().unwrap();
        server.mammoth(&["archive", "erase", "alice@localhost", "--yes"], "");
        server.mammoth(&["archive", "verify"], "");
        assert_eq!(shown(&server, "alice@localhost", &[]).len(), 0);
        assert_eq!(shown(&server, "bob@localhost", &[]), of_bob, "as before, in segments written anew");
        assert_eq!(stats(&server)["entries"], written);
        assert!(stats(&server)["stanza_bytes"].as_u64().unwrap() < before * 6 / 10);
        server.down();
        server.mammoth(&["account", "remove", "bob@localhost", "--yes"], "");
        server.mammoth(&["archive", "verify"], "");
        let after = stats(&server);
        assert_eq!((&after["entries"], &after["stanza_bytes"]), (&0.into(), &0.into()));
        assert_eq!(after["store"]["segment_entries"], 0, "no segment holds what was there");
    });
}

#[test]
fn a_backup_is_a_store_to_start_on() {
    if skipped("a_backup_is_a_store_to_start_on") {
        return;
    }
    support::run(async {
        let mut server = start(&["alice", "bob"]);
        fill(&server).await;
        let target = tempfile::tempdir().unwrap();
        let place = |name: &str| target.path().join(name);
        let backup = |server: &Server, name: &str| {
            server.mammoth(&["archive", "backup", place(name).to_str().unwrap()], "")
        };
        let said = backup(&server, "running");
        assert!(said.starts_with(&format!("backed up to {}: ", place("running").display())), "{said}");
        let at_backup = shown(&server, "alice@localhost", &[]);

        let mut alice = server.client("alice", "phone").await;
        alice.chat("bob@localhost", "later", "after the backup").await;
        alice.barrier().await;
        alice.close().await;
        server.down();
        backup(&server, "stopped");
        let said = refused(&server, &["archive", "backup", place("stopped").to_str().unwrap()], "");
        assert_eq!(
            said,
            format!("mammoth: {} is not empty: choose another directory\n", place("stopped").display())
        );
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(place("stopped")).unwrap().permissions().mode() & 0o077, 0);

        for (name, last) in [("running", at_backup.len()), ("stopped", at_backup.len() + 1)] {
            let at = place(name);
            let at = at.to_str().unwrap();
            server.mammoth(&["archive", "verify", "--data", at], "");
            assert_eq!(shown(&server, "alice@localhost", &["--data", at]).len(), last, "{name}");
        }
        // Restore the older: what came later is not there, and everything else is, accounts included.
        std::fs::rename(server.data(), place("old")).unwrap();
        std::fs::rename(place("running"), server.data()).unwrap();
        server.up();
        assert_eq!(shown(&server, "alice@localhost", &[]), at_backup);
        let mut bob = server.client("bob", "tablet").await;
        bob.chat("alice@localhost", "again", "hello again").await;
        bob.barrier().await;
        bob.close().await;
        assert_eq!(bodies(&server, "alice@localhost", &["--last", "1"]), ["hello again"]);
    });
}

#[test]
fn what_lies_in_postgresql_is_left_to_its_tools() {
    let directory = tempfile::tempdir().unwrap();
    let text = "domain = \"localhost\"\ndata = \"data\"\n[listen]\nc2s = []\nc2s_tls = []\n\
                c2s_plain = [\"127.0.0.1:0\"]\n[storage]\narchive = \"postgresql\"\n\
                [storage.postgresql]\nurl = \"postgresql://nobody@127.0.0.1:1/none\"\n";
    let config = directory.path().join("mammoth.toml");
    std::fs::write(&config, text).unwrap();
    for (arguments, tool) in [
        (&["archive", "verify"][..], "check it with pg_amcheck"),
        (&["archive", "backup", "copy"], "back it up with pg_dump"),
    ] {
        let mut command = binary();
        let output =
            command.current_dir(directory.path()).args(arguments).arg("--config").arg(&config).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, format!("mammoth: the archives are in PostgreSQL: {tool}\n"));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is made");
}
