//! `archive show`: what it prints is what a client pages, whoever writes meanwhile.

use std::io::{BufRead as _, BufReader, Read as _};

use super::support::{self, Server, Xml};
use super::{binary, bodies, command, refused, run, shown};

#[test]
fn programs_get_what_clients_get() {
    support::run(async {
        let mut server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "tablet").await;
        alice.chat("bob@localhost", "m1", "one &amp; only").await;
        alice.send("<message to='bob@localhost' type='chat' id='m2'><z xmlns='urn:z' a='&quot;'>\u{1f98b}</z><body/></message>").await;
        alice.send("<message to='bob@localhost' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>").await;
        alice.barrier().await;
        bob.send("<message to='alice@localhost' type='chat' id='r1'><retract xmlns='urn:xmpp:message-retract:1' id='m1'/></message>").await;
        bob.chat("alice@localhost", "m3", "a secret of bob").await;
        bob.send("<message to='alice@localhost/phone' type='chat' id='r2'><retract xmlns='urn:xmpp:message-retract:1' id='m3'/></message>").await;
        bob.barrier().await;

        let of_client = alice.archive().await;
        assert_eq!(of_client.len(), 5);
        let of_command = shown(&server, "alice@localhost", &[]);
        assert_eq!(of_command.len(), of_client.len());
        for (line, saved) in of_command.iter().zip(&of_client) {
            assert_eq!(line["id"], saved.id.as_str());
            assert_eq!(line["stamp"], saved.stamp.as_str());
            assert_eq!(Xml::parse(line["stanza"].as_str().unwrap()), saved.message);
            let with =
                if saved.message.attr("from") == Some("alice@localhost/phone") { "to" } else { "from" };
            assert_eq!(line["with"].as_str(), saved.message.attr(with));
        }
        let retracted: Vec<bool> = of_command.iter().map(|line| line["retracted"] == true).collect();
        assert_eq!(retracted, [false, false, false, true, false], "bob's own words, and not alice's");
        assert!(!of_command.iter().any(|line| line.to_string().contains("a secret of bob")));

        alice.close().await;
        bob.close().await;
        let running = server.mammoth(&["archive", "show", "alice@localhost"], "");
        server.down();
        assert_eq!(server.mammoth(&["archive", "show", "alice@localhost"], ""), running);
        assert_eq!(shown(&server, "alice@localhost", &[]), of_command);
    });
}

#[test]
fn people_get_what_they_can_read() {
    support::run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        alice.send("<message to='bob@localhost' id='m1'><subject>Tea</subject><body>at four&#xD;\nor \u{9b}5 later</body></message>").await;
        alice.send("<message to='bob@localhost' type='chat'><received xmlns='urn:xmpp:receipts' id='x'/></message>").await;
        alice.chat("bob@localhost", "m3", "forget it").await;
        alice.send("<message to='bob@localhost' type='chat' id='r3'><retract xmlns='urn:xmpp:message-retract:1' id='m3'/></message>").await;
        let archive = alice.archive().await;
        let text = server.mammoth(&["archive", "show", "alice@localhost"], "");
        let tombstone = archive[2].message.child("urn:xmpp:message-retract:1", "retracted");
        let heading = |n: usize, type_: &str| {
            format!("{}  {}  alice@localhost/phone → bob@localhost  {type_}", archive[n].stamp, archive[n].id)
        };
        let expected = [
            heading(0, "normal"),
            "    Subject: Tea".to_owned(),
            "    at four".to_owned(),
            "    or \u{fffd}5 later".to_owned(),
            heading(1, "chat"),
            "    (receipt: it says that a message has arrived)".to_owned(),
            heading(2, "chat"),
            format!("    (retracted at {})", tombstone.attr("stamp").unwrap()),
            heading(3, "chat"),
            "    (retraction: it retracts a message)".to_owned(),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        alice.close().await;
    });
}

#[test]
fn filters_narrow_and_last_counts_from_the_end() {
    support::run(async {
        let server = Server::of(&["alice", "bob", "carol"]);
        let mut alice = server.client("alice", "phone").await;
        for (n, to) in
            ["bob@localhost", "carol@localhost", "bob@localhost/x", "bob@localhost"].iter().enumerate()
        {
            alice.send(&format!("<message to='{to}' type='chat'><body>{n}</body></message>")).await;
            alice.barrier().await;
        }
        let show = |filter: &[&str]| bodies(&server, "alice@localhost", filter).join("");
        let archive = alice.archive().await;
        assert_eq!(show(&[]), "0123");
        assert_eq!(show(&["--with", "bob@localhost"]), "023");
        assert_eq!(show(&["--with", "Bob@LOCALHOST/x"]), "2");
        assert_eq!(show(&["--with", "bob@localhost", "--last", "2"]), "23");
        assert_eq!(show(&["--last", "1"]), "3");
        assert_eq!(show(&["--last", "0"]), "");
        assert_eq!(show(&["--last", "99"]), "0123");
        assert_eq!(show(&["--start", &archive[1].stamp]), "123");
        assert_eq!(show(&["--start", &archive[1].stamp, "--end", &archive[2].stamp]), "12");
        let day = &archive[3].stamp[..10];
        assert_eq!(show(&["--end", day]).chars().last(), Some('3'), "a day includes its end");
        assert_eq!(show(&["--end", "1999-12-31"]), "");
        assert_eq!(show(&["--with", "nobody@localhost"]), "");
        let none = run(&server, &["archive", "show", "alice@localhost", "--last", "0"], "");
        assert_eq!(String::from_utf8(none.stderr).unwrap(), "no message matches\n");
        alice.close().await;
    });
}

#[test]
fn a_long_archive_comes_page_by_page_and_nobody_has_to_read_it_all() {
    const MESSAGES: usize = 1234;
    support::run(async {
        let server = Server::of(&["alice"]);
        let mut alice = server.client("alice", "phone").await;
        for n in 0..MESSAGES {
            let filler = "long ".repeat(40);
            alice
                .send(&format!(
                    "<message to='alice@localhost' type='chat'><body>{n} {filler}</body></message>"
                ))
                .await;
        }
        alice.barrier().await;
        let all = bodies(&server, "alice@localhost", &[]);
        let numbers = |bodies: &[String]| -> Vec<usize> {
            bodies.iter().map(|body| body.split(' ').next().unwrap().parse().unwrap()).collect()
        };
        assert_eq!(numbers(&all), (0..MESSAGES).collect::<Vec<_>>());
        let last = bodies(&server, "alice@localhost", &["--last", "700"]);
        assert_eq!(numbers(&last), (MESSAGES - 700..MESSAGES).collect::<Vec<_>>());

        // As `mammoth archive show … | head -1`.
        let mut child = command(&server, &["archive", "show", "alice@localhost"]).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.contains("alice@localhost/phone → alice@localhost"), "{line}");
        drop(out);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(said, "");
        alice.close().await;
    });
}

#[test]
fn what_is_not_there_is_said() {
    let mut server = Server::of(&["alice"]);
    for down in [false, true] {
        if down {
            server.down();
        }
        let said = refused(&server, &["archive", "show", "nobody@localhost"], "");
        assert_eq!(said, "mammoth: there is no archive of nobody@localhost\n");
        let wrong = run(&server, &["archive", "show", "alice@localhost", "--start", "yesterday"], "");
        assert_eq!(wrong.status.code(), Some(2));
        let said = String::from_utf8(wrong.stderr).unwrap();
        assert!(said.contains("'yesterday'") && said.contains("write 2026-11-22"), "{said}");
    }
    let empty = tempfile::tempdir().unwrap();
    let output =
        binary().args(["archive", "show", "alice@localhost", "--data"]).arg(empty.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("mammoth: there is no store in {}\n", empty.path().display()));
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "looking makes nothing");
}
