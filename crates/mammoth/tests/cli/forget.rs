//! `archive trim` and `archive erase`: what goes is said, asked for, and gone; the rest stays. With the server running
//! and stopped.

use std::process::{Command, Stdio};

use super::support::server::any_file_holds;
use super::support::{self, Client, Saved, Server, rsm};
use super::{bodies, refused, shown};

/// Alice writes numbered messages to herself.
async fn write(alice: &mut Client, numbers: std::ops::Range<usize>) {
    for n in numbers {
        alice.chat("alice@localhost", &format!("m{n}"), &n.to_string()).await;
        alice.barrier().await;
    }
}

#[test]
fn a_trim_takes_what_it_says_and_asks_first() {
    support::run(async {
        let mut server = Server::of(&["alice"]);
        let mut alice = server.client("alice", "phone").await;
        write(&mut alice, 0..10).await;
        let archive = alice.archive().await;
        let (ids, stamps): (Vec<&str>, Vec<&str>) =
            archive.iter().map(|saved| (saved.id.as_str(), saved.stamp.as_str())).unzip();
        let trim = |server: &Server, more: &[&str]| {
            server.mammoth(&[&["archive", "trim", "alice@localhost"], more].concat(), "")
        };

        let would = trim(&server, &["--through", ids[2], "--dry-run"]);
        let what = format!("3 messages of 10, from {} to {}", stamps[0], stamps[2]);
        assert_eq!(would, format!("would trim the archive of alice@localhost: {what}\n"));
        let said = refused(&server, &["archive", "trim", "alice@localhost", "--through", ids[2]], "y\n");
        assert_eq!(said, "mammoth: cannot ask without a terminal; say --yes to go ahead\n");
        assert_eq!(alice.archive().await.len(), 10, "nothing has gone yet");

        let done = trim(&server, &["--through", ids[2], "--yes"]);
        assert_eq!(done, "trimmed the archive of alice@localhost: 3 messages gone\n");
        assert_eq!(alice.archived_bodies().await, ["3", "4", "5", "6", "7", "8", "9"]);
        assert_eq!(alice.refused(&rsm(&format!("<after>{}</after>", ids[2]))).await, "item-not-found");
        assert_eq!(bodies(&server, "alice@localhost", &[]), alice.archived_bodies().await);

        let done = trim(&server, &["--before", stamps[5], "--yes"]);
        assert_eq!(done, "trimmed the archive of alice@localhost: 2 messages gone\n");
        write(&mut alice, 10..11).await;
        assert_eq!(alice.archived_bodies().await, ["5", "6", "7", "8", "9", "10"], "the lane goes on");
        let done = trim(&server, &["--before", "1999-12-31", "--yes"]);
        assert_eq!(done, "nothing to trim: the archive of alice@localhost has no such messages\n");
        alice.close().await;

        server.down();
        let said = refused(&server, &["archive", "trim", "alice@localhost", "--all"], "");
        assert_eq!(said, "mammoth: cannot ask without a terminal; say --yes to go ahead\n");
        let done = trim(&server, &["--through", ids[6], "--yes"]);
        assert_eq!(done, "trimmed the archive of alice@localhost: 2 messages gone\n");
        for (id, why) in [
            (ids[6], "is not in the archive of alice@localhost (any more)"),
            ("x", "is no id of the archive of alice@localhost"),
        ] {
            let said =
                refused(&server, &["archive", "trim", "alice@localhost", "--through", id, "--yes"], "");
            assert_eq!(said, format!("mammoth: {id} {why}\n"));
        }
        assert_eq!(bodies(&server, "alice@localhost", &[]), ["7", "8", "9", "10"]);
        let done = trim(&server, &["--all", "--yes"]);
        assert_eq!(done, "trimmed the archive of alice@localhost: 4 messages gone\n");
        assert_eq!(bodies(&server, "alice@localhost", &[]).len(), 0);

        server.up();
        let mut alice = server.client("alice", "phone").await;
        write(&mut alice, 11..12).await;
        let archive = alice.archive().await;
        assert_eq!(archive.len(), 1);
        assert!(!ids.contains(&archive[0].id.as_str()), "no id comes back");
        alice.close().await;
    });
}

#[test]
fn an_erase_leaves_the_account_and_what_it_wishes() {
    support::run(async {
        for down in [false, true] {
            let mut server = Server::of(&["alice", "bob", "eve"]);
            let mut alice = server.client("alice", "phone").await;
            let mut bob = server.client("bob", "x").await;
            let prefs = "<prefs xmlns='urn:xmpp:mam:2' default='always'><always/>\
                         <never><jid>eve@localhost</jid></never></prefs>";
            alice.result("set", None, prefs).await;
            server.mammoth(&["account", "set", "alice@localhost", "--archive-expires-after", "1y"], "");
            write(&mut alice, 0..3).await;
            bob.chat("alice@localhost", "b1", "to alice").await;
            bob.barrier().await;
            bob.close().await;
            let before = alice.archive().await;
            let mut alice = if down {
                alice.close().await;
                server.down();
                erase(&server, &before);
                server.up();
                server.client("alice", "phone").await
            } else {
                erase(&server, &before);
                alice
            };
            // Writing goes on, and by the same prefs.
            let mut eve = server.client("eve", "x").await;
            eve.chat("alice@localhost", "e1", "from eve").await;
            eve.barrier().await;
            write(&mut alice, 9..10).await;
            let after = alice.archive().await;
            assert_eq!(after.iter().map(Saved::body).collect::<Vec<_>>(), ["9"]);
            assert!(!before.iter().any(|saved| saved.id == after[0].id), "no id comes back");
            alice.close().await;
            eve.close().await;
        }
    });
}

/// Erases alice's archive, which holds these.
fn erase(server: &Server, before: &[Saved]) {
    let of_bob = bodies(server, "bob@localhost", &[]);
    let erase = |more: &str| server.mammoth(&["archive", "erase", "alice@localhost", more], "");
    let what = format!("4 messages, from {} to {}", before[0].stamp, before[3].stamp);
    assert_eq!(erase("--dry-run"), format!("would erase the archive of alice@localhost: {what}\n"));
    refused(server, &["archive", "erase", "alice@localhost"], "yes\n");
    assert_eq!(bodies(server, "alice@localhost", &[]).len(), 4);
    assert_eq!(erase("--yes"), "erased the archive of alice@localhost: 4 messages gone\n");
    assert_eq!(bodies(server, "alice@localhost", &[]).len(), 0);
    assert_eq!(bodies(server, "bob@localhost", &[]), of_bob, "bob's archive is his own");
    let message = "<message from='eve@localhost/x'><body/></message>";
    let explained = server.mammoth(&["explain", "--for", "alice@localhost", "--format", "json"], message);
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["prefs"]["reason"], "prefs-never-bare-jid");
    assert_eq!(explained["expires_after"], serde_json::json!({ "period": "1y", "own": true }));
}

#[test]
fn an_erase_while_messages_come_takes_the_older_and_leaves_the_newer() {
    const ROUND: usize = 100;
    support::run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "tablet").await;
        let mut sent = 0;
        for _ in 0..3 {
            let arguments = ["archive", "erase", "bob@localhost", "--yes"];
            alice.chat("bob@localhost", "first", &sent.to_string()).await;
            alice.barrier().await;
            sent += 1;
            let erasing = super::command(&server, &arguments).spawn().unwrap();
            for _ in 0..ROUND {
                alice.chat("bob@localhost", &format!("m{sent}"), &sent.to_string()).await;
                sent += 1;
            }
            alice.barrier().await;
            let output = erasing.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let all: Vec<String> = (0..sent).map(|n| n.to_string()).collect();
        assert_eq!(alice.archived_bodies().await, all, "alice's archive is her own");
        let left = bob.archived_bodies().await;
        assert_eq!(left, all[sent - left.len()..], "no holes");
        assert!(left.len() < ROUND + 1, "what was there before the last erase has gone");
        let delivered: Vec<String> = bob.messages().await.iter().filter_map(|m| m.body()).collect();
        assert_eq!(delivered, all, "delivery does not care");
        alice.close().await;
        bob.close().await;
    });
}

/// A marker that a compressor cannot shorten, and a file would show.
const MARKER: &str = "q8Zr0vKx3TnWm5LpYd7HsBf2";

#[test]
fn what_is_erased_or_removed_is_in_no_file() {
    if std::env::var("MAMMOTH_TEST_STORAGE").is_ok_and(|storage| storage == "postgresql") {
        eprintln!("skipped: what_is_erased_or_removed_is_in_no_file looks into the embedded store's files");
        return;
    }
    support::run(async {
        for (command, down) in [("erase", false), ("erase", true), ("remove", false), ("remove", true)] {
            let mut server = Server::of(&["alice", "bob"]);
            let mut alice = server.client("alice", "phone").await;
            alice.chat("alice@localhost", "m1", MARKER).await;
            alice.chat("bob@localhost", "m2", "for bob").await;
            alice.barrier().await;
            alice.close().await;
            assert!(
                any_file_holds(&server.data(), MARKER.as_bytes()).is_some(),
                "else this test sees nothing"
            );
            if down {
                server.down();
            }
            let arguments: &[&str] = match command {
                "erase" => &["archive", "erase", "alice@localhost", "--yes"],
                _ => &["account", "remove", "alice@localhost", "--yes"],
            };
            server.mammoth(arguments, "");
            assert_eq!(any_file_holds(&server.data(), MARKER.as_bytes()), None, "{arguments:?} down: {down}");
            assert_eq!(bodies(&server, "bob@localhost", &[]), ["for bob"]);
        }
    });
}

/// Answers a command's question at a terminal that Python makes.
fn at_a_terminal(server: &Server, arguments: &[&str], answer: &str) -> (bool, String) {
    let script = "
import os, pty, sys
answer, command = sys.argv[1].encode(), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
said, answered = b'', False
while True:
    try:
        more = os.read(terminal, 4096)
    except OSError:
        break
    if not more:
        break
    said += more
    if not answered and b'[y/N] ' in said:
        os.write(terminal, answer + b'\\n')
        answered = True
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";
    let output = Command::new("python3")
        .args(["-c", script, answer, env!("CARGO_BIN_EXE_mammoth")])
        .args(arguments)
        .arg("--config")
        .arg(server.config())
        .stdin(Stdio::null())
        .output()
        .expect("python3");
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn nothing_goes_without_a_yes() {
    support::run(async {
        let server = Server::of(&["alice"]);
        let mut alice = server.client("alice", "phone").await;
        write(&mut alice, 0..2).await;
        alice.close().await;
        for command in
            [&["archive", "trim", "alice@localhost", "--all"][..], &["archive", "erase", "alice@localhost"]]
        {
            for answer in ["n", "", "nonsense"] {
                let (done, said) = at_a_terminal(&server, command, answer);
                assert!(
                    !done && said.contains("2 messages, from ") && said.contains(" was "),
                    "{answer}: {said}"
                );
                assert_eq!(shown(&server, "alice@localhost", &[]).len(), 2);
            }
        }
        let (done, said) = at_a_terminal(&server, &["archive", "trim", "alice@localhost", "--all"], "y");
        assert!(done && said.contains("2 messages gone"), "{said}");
        assert_eq!(shown(&server, "alice@localhost", &[]).len(), 0);
    });
}
