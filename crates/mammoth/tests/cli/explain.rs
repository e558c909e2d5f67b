//! `explain` says what the server does: every message of a table is explained, sent, and looked for.

use serde_json::{Value, json};

use super::support::server::Options;
use super::support::{self, Server};
use super::{refused, shown};

fn explain(server: &Server, account: &str, message: &str, more: &[&str]) -> Value {
    let arguments = [&["explain", "--for", account, "--format", "json"], more].concat();
    serde_json::from_str(&server.mammoth(&arguments, message)).unwrap()
}

/// Children of a message, and the code of the rule that decides on it.
const MESSAGES: &[(&str, &str, &str)] = &[
    ("chat", "<body>hi</body>", "body"),
    ("chat", "<body>hi</body><no-store xmlns='urn:xmpp:hints'/>", "hint-no-store"),
    ("chat", "<body>hi</body><no-permanent-store xmlns='urn:xmpp:hints'/>", "hint-no-permanent-store"),
    ("chat", "<z xmlns='urn:z'/><store xmlns='urn:xmpp:hints'/>", "hint-store"),
    ("chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", "chat-state"),
    ("chat", "<received xmlns='urn:xmpp:receipts' id='m'/>", "receipt"),
    ("chat", "<displayed xmlns='urn:xmpp:chat-markers:0' id='m'/>", "marker"),
    ("chat", "<reactions xmlns='urn:xmpp:reactions:0' id='m'/>", "reaction"),
    ("normal", "<subject>s</subject>", "subject"),
    ("normal", "<x xmlns='jabber:x:conference' jid='r@x'/>", "invite-direct"),
    ("normal", "<encrypted xmlns='eu.siacs.conversations.axolotl'/>", "encrypted"),
    ("normal", "<propose xmlns='urn:xmpp:jingle-message:0' id='c'/>", "jingle-message"),
    ("normal", "<event xmlns='http://jabber.org/protocol/pubsub#event'/><body>x</body>", "pubsub-event"),
    ("normal", "<z xmlns='urn:z'/>", "nothing-to-keep"),
    ("headline", "<body>news</body>", "headline"),
];

#[test]
fn the_explanation_is_what_happens() {
    support::run(async {
        let server = Server::with_accounts(
            Options { log: "mammoth_server=debug,info", ..Options::default() },
            &["alice", "bob"],
        );
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "tablet").await;
        for (n, (type_, children, code)) in MESSAGES.iter().enumerate() {
            let message =
                format!("<message to='bob@localhost' type='{type_}' id='m{n}'>{children}</message>");
            let out = explain(&server, "alice@localhost", &message, &[]);
            assert_eq!(out["direction"], "outgoing");
            assert_eq!(out["eligible"]["reason"], *code, "{message}");
            let received = format!(
                "<message from='alice@localhost/phone' to='bob@localhost' type='{type_}' id='m{n}'>{children}</message>"
            );
            let in_ = explain(&server, "bob@localhost", &received, &[]);
            assert_eq!(in_["direction"], "incoming");
            assert_eq!((&in_["eligible"], &in_["archived"]), (&out["eligible"], &out["archived"]));
            alice.send(&message).await;
            alice.barrier().await;
            bob.barrier().await;
            for (account, explained) in [("alice@localhost", &out), ("bob@localhost", &in_)] {
                let last = shown(&server, account, &["--last", "1"]);
                let archived =
                    last.iter().any(|line| line["stanza"].as_str().unwrap().contains(&format!("id='m{n}'")));
                assert_eq!(json!(archived), explained["archived"], "{account}: {message}");
            }
        }
        alice.send("<message to='bob@example.net' id='far'><body>hi</body></message>").await;
        assert_eq!(alice.message().await.condition(), "remote-server-not-found");
        alice.close().await;
        bob.close().await;
        // The same codes, and no words, in the log.
        let log = server.log();
        assert!(log.iter().any(|line| line.contains("\"reason\":\"remote-server-not-found\"")));
        for (_, _, code) in MESSAGES {
            assert!(
                log.iter().any(|line| line.contains(&format!("\"reason\":\"{code}\""))),
                "{code} in the log"
            );
        }
        assert!(!log.iter().any(|line| line.contains(">hi<") || line.contains("<body>")), "no bodies");
    });
}

#[test]
fn prefs_roster_and_period_are_those_of_the_account() {
    support::run(async {
        let mut server = Server::with_accounts(
            Options::top(
                "default_archive_policy = \"roster\"\narchive_expires_after = \"2w\"\narchive_quota_entries = 5000",
            ),
            &["alice", "bob", "eve"],
        );
        let mut alice = server.client("alice", "phone").await;
        let message = "<message to='bob@localhost' type='chat'><body>hi</body></message>";
        let prefs = |server: &Server, more: &[&str]| {
            let explained = explain(server, "alice@localhost", message, more);
            (explained["archived"] == true, explained["prefs"]["reason"].as_str().unwrap().to_owned())
        };
        assert_eq!(prefs(&server, &[]), (false, "prefs-not-in-roster".into()));
        assert_eq!(prefs(&server, &["--from-roster"]), (true, "prefs-in-roster".into()));
        alice
            .result("set", None, "<query xmlns='jabber:iq:roster'><item jid='bob@localhost'/></query>")
            .await;
        assert_eq!(prefs(&server, &[]), (true, "prefs-in-roster".into()));
        let never = |jid: &str| {
            format!(
                "<prefs xmlns='urn:xmpp:mam:2' default='always'><always/><never><jid>{jid}</jid></never></prefs>"
            )
        };
        alice.result("set", None, &never("bob@localhost")).await;
        assert_eq!(prefs(&server, &[]), (false, "prefs-never-bare-jid".into()));
        alice.result("set", None, &never("bob@localhost/x")).await;
        assert_eq!(prefs(&server, &[]), (true, "prefs-default-always".into()));

        let text = server.mammoth(&["explain", "--for", "alice@localhost"], message);
        assert!(text.starts_with("archived   yes, in the archive of alice@localhost\n"), "{text}");
        for line in [
            "worth it   body: it has a body",
            "prefs      prefs-default-always: no list speaks of it, and the default is to keep",
            "           default always, 1 never listed (as alice@localhost has set them)",
            "if it came now (2w: archive_expires_after)",
            "or until the archive holds more than 5000 messages",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        server.mammoth(&["account", "set", "alice@localhost", "--archive-expires-after", "never"], "");
        let text = server.mammoth(&["explain", "--for", "alice@localhost"], message);
        assert!(text.contains("stays      for ever (never: the account's own)"), "{text}");
        alice.close().await;
        server.down();
        assert_eq!(
            server.mammoth(&["explain", "--for", "alice@localhost"], message),
            text,
            "no server is needed"
        );
    });
}

#[test]
fn without_mam_nothing_is_archived() {
    support::run(async {
        let server = Server::with_accounts(Options::top("modules_enabled = [\"roster\"]"), &["alice", "bob"]);
        let message = "<message to='bob@localhost' type='chat' id='m1'><body>hi</body></message>";
        let explained = explain(&server, "alice@localhost", message, &[]);
        assert_eq!((&explained["archived"], &explained["archive_off"]), (&false.into(), &true.into()));
        let text = server.mammoth(&["explain", "--for", "alice@localhost"], message);
        assert!(text.contains("archive-off: modules_enabled does not list mam"), "{text}");
        let mut alice = server.login("alice", "phone").await;
        let mut bob = server.login("bob", "tablet").await;
        bob.available().await;
        alice.send(message).await;
        assert_eq!(bob.message().await.body().as_deref(), Some("hi"), "it is delivered all the same");
        for account in ["alice@localhost", "bob@localhost"] {
            let said = refused(&server, &["archive", "show", account], "");
            assert_eq!(said, format!("mammoth: there is no archive of {account}\n"));
        }
        alice.close().await;
        bob.close().await;
    });
}

#[test]
fn what_reaches_no_archive_is_said_and_so_is_what_cannot_be_explained() {
    let mut server = Server::of(&["alice", "bob"]);
    for down in [false, true] {
        if down {
            server.down();
        }
        for (to, condition) in
            [("bob@example.net", "remote-server-not-found"), ("nobody@localhost", "service-unavailable")]
        {
            let message = format!("<message to='{to}'><body>hi</body></message>");
            let explained = explain(&server, "alice@localhost", &message, &[]);
            assert_eq!(
                (&explained["archived"], &explained["refused"]["condition"]),
                (&false.into(), &condition.into())
            );
        }
        for (account, message, said) in [
            ("nobody@localhost", "<message><body/></message>", "there is no account nobody@localhost"),
            ("alice@localhost", "", "there is no message on standard input"),
            (
                "alice@localhost",
                "<message>",
                "what is on standard input is no stanza: the element does not end",
            ),
            (
                "alice@localhost",
                "<message></wrong>",
                "what is on standard input is no stanza: start and end tag do not match",
            ),
            (
                "alice@localhost",
                "<presence/>",
                "what is on standard input is no message but <presence xmlns='jabber:client'/>",
            ),
            (
                "alice@localhost",
                "<message from='bob@localhost' to='eve@localhost'/>",
                "the message is neither from nor to alice@localhost; say which with --direction in or out",
            ),
        ] {
            let heard = refused(&server, &["explain", "--for", account], message);
            assert_eq!(heard, format!("mammoth: {said}\n"));
        }
    }
}
