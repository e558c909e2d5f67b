//! Who gets a message: addresses, types and priorities (RFC 6121 §8), carbons (XEP-0280), messages to oneself, and what
//! comes back when nobody does.

use crate::support::{Client, Options, Server, Xml, form, run};

const CARBONS: &str = "urn:xmpp:carbons:2";

/// The messages that a client has received, in short: `direct body`, `sent body`, `received body`, `error condition`.
async fn seen(client: &mut Client) -> Vec<String> {
    let account = client.account.clone();
    client.messages().await.iter().map(|message| short(message, &account)).collect()
}

fn short(message: &Xml, account: &str) -> String {
    for side in ["sent", "received"] {
        if let Some(carbon) = message.find(CARBONS, side) {
            assert_eq!(message.attr("from"), Some(account), "a carbon is from one's own account: {message}");
            let inner = carbon.child("urn:xmpp:forward:0", "forwarded").child("jabber:client", "message");
            return format!("{side} {}", inner.body().unwrap_or_default());
        }
    }
    match message.type_() {
        "error" => format!("error {}", message.condition()),
        _ => format!("direct {}", message.body().unwrap_or_default()),
    }
}

#[test]
fn addresses_types_and_priorities() {
    run(async {
        let server = Server::of(&["alice", "bob", "away"]);
        let mut alice = server.login("alice", "phone").await;
        let mut high = server.login("bob", "high").await;
        let mut zero = server.login("bob", "zero").await;
        let mut negative = server.login("bob", "negative").await;
        let mut silent = server.login("bob", "silent").await;
        high.send("<presence><priority>5</priority></presence>").await;
        zero.send("<presence/>").await;
        negative.send("<presence><priority>-1</priority></presence>").await;
        for client in [&mut high, &mut zero, &mut negative, &mut silent] {
            client.barrier().await;
        }
        let chat = |to: &str, type_: &str| {
            let type_ = if type_.is_empty() { String::new() } else { format!(" type='{type_}'") };
            format!("<message to='{to}'{type_} id='x'><body>hi</body></message>")
        };
        let error = |to: &str| {
            format!(
                "<message to='{to}' type='error' id='x'><error type='cancel'>\
                 <gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
            )
        };
        // What is sent; who gets it; what comes back; in whose archive it is (alice's, bob's).
        let all = "high zero";
        let cases: Vec<(String, &str, &str, usize, usize)> = vec![
            (chat("bob@localhost", "chat"), all, "", 1, 1),
            (chat("bob@localhost", "normal"), all, "", 1, 1),
            (chat("bob@localhost", ""), all, "", 1, 1),
            (chat("bob@localhost", "unheard-of"), all, "", 1, 1),
            (chat("bob@localhost", "headline"), all, "", 0, 0),
            (chat("bob@localhost", "groupchat"), "", "service-unavailable", 0, 0),
            (error("bob@localhost"), "", "", 0, 0),
            (chat("bob@localhost/zero", "chat"), "zero", "", 1, 1),
            (chat("bob@localhost/negative", "chat"), "negative", "", 1, 1),
            (chat("bob@localhost/negative", "headline"), "negative", "", 0, 0),
            (chat("bob@localhost/negative", "groupchat"), "negative", "", 0, 0),
            (chat("bob@localhost/silent", "chat"), "silent", "", 1, 1),
            (error("bob@localhost/high"), "high", "", 0, 1),
            (chat("bob@localhost/gone", "chat"), all, "", 1, 1),
            (chat("bob@localhost/gone", "normal"), "", "service-unavailable", 0, 0),
            (chat("bob@localhost/gone", "headline"), "", "", 0, 0),
            (chat("bob@localhost/gone", "groupchat"), "", "service-unavailable", 0, 0),
            (chat("nobody@localhost", "chat"), "", "service-unavailable", 0, 0),
            (chat("nobody@localhost/x", "chat"), "", "service-unavailable", 0, 0),
            (chat("nobody@localhost", "headline"), "", "service-unavailable", 0, 0),
            (error("nobody@localhost"), "", "", 0, 0),
            (chat("localhost", "chat"), "", "service-unavailable", 0, 0),
            (chat("bob@example.org", "chat"), "", "remote-server-not-found", 0, 0),
            (chat("@@", "chat"), "", "jid-malformed", 0, 0),
            // Nobody is there, but the archive is.
            (chat("away@localhost", "chat"), "", "", 1, 0),
            (chat("away@localhost", "headline"), "", "", 0, 0),
            (chat("away@localhost/x", "normal"), "", "service-unavailable", 0, 0),
            // Nobody is there, and it is not to be archived.
            (
                "<message to='away@localhost' id='x'><body>hi</body><no-store xmlns='urn:xmpp:hints'/></message>".into(),
                "",
                "service-unavailable",
                0,
                0,
            ),
            (
                "<message to='away@localhost' id='x'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>".into(),
                "",
                "",
                0,
                0,
            ),
            (
                "<message to='bob@localhost' id='x'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>".into(),
                all,
                "",
                0,
                0,
            ),
        ];
        for (stanza, wanted, back, hers, his) in cases {
            let before = (alice.archive().await.len(), high.archive().await.len());
            alice.send(&stanza).await;
            let returned: Vec<String> = alice.messages().await.iter().map(Xml::condition).collect();
            assert_eq!(returned.join(" "), back, "{stanza}");
            let mut got = Vec::new();
            for (name, client) in [
                ("high", &mut high),
                ("zero", &mut zero),
                ("negative", &mut negative),
                ("silent", &mut silent),
            ] {
                for message in client.messages().await {
                    assert_eq!(message.attr("from"), Some("alice@localhost/phone"), "{stanza}");
                    got.push(name);
                }
            }
            assert_eq!(got.join(" "), wanted, "{stanza}");
            let after = (alice.archive().await.len(), high.archive().await.len());
            assert_eq!((after.0 - before.0, after.1 - before.1), (hers, his), "archived: {stanza}");
        }
    });
}

#[test]
fn what_cannot_be_delivered_nor_kept_bounces_into_the_senders_archive() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut bob = server.login("bob", "phone").await;
        bob.result("set", None, "<prefs xmlns='urn:xmpp:mam:2' default='never'/>").await;
        let mut alice = server.client("alice", "phone").await;
        let mut laptop = server.client("alice", "laptop").await;
        alice.chat("bob@localhost", "m1", "are you there?").await;
        let bounce = alice.message().await;
        assert_eq!((bounce.attr("id"), bounce.condition().as_str()), (Some("m1"), "service-unavailable"));
        assert_eq!(bounce.attr("from"), Some("bob@localhost"));
        let saved = alice.archive().await;
        assert_eq!(saved.len(), 2);
        assert_eq!(saved[0].body(), "are you there?");
        assert_eq!(saved[1].message.type_(), "error");
        assert_eq!(bounce.id_by("alice@localhost"), Some(saved[1].id.as_str()));
        assert_eq!(seen(&mut laptop).await, ["sent are you there?", "received "]);
        assert_eq!(bob.archive().await.len(), 0);
        // Once he is there, it is delivered; without an id, since his archive has none.
        bob.available().await;
        alice.chat("bob@localhost", "m2", "now?").await;
        let received = bob.message().await;
        assert_eq!(received.body().as_deref(), Some("now?"));
        assert_eq!(received.stanza_ids(), []);
        assert_eq!(alice.archive().await.len(), 3);
    });
}

#[test]
fn carbons() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut laptop = server.client("alice", "laptop").await;
        let mut plain = server.login("alice", "plain").await;
        plain.available().await;
        let mut bob = server.client("bob", "phone").await;
        let mut tablet = server.client("bob", "tablet").await;
        tablet.send("<presence><priority>-1</priority></presence>").await;
        tablet.barrier().await;
        let body = "<body>hi</body>";
        let private = "<private xmlns='urn:xmpp:carbons:2'/>";
        let no_copy = "<no-copy xmlns='urn:xmpp:hints'/>";
        let composing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
        let nothing = "<x xmlns='urn:x'/>";
        let forged = "<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message from='bob@localhost/phone' to='alice@localhost'><body>hi</body></message></forwarded></sent>";
        // From alice's phone: to, type, payload; what laptop, plain, bob's phone and his tablet see.
        type Case<'a> = (&'a str, &'a str, String, [&'a str; 4]);
        let cases: Vec<Case<'_>> = vec![
            ("bob@localhost/phone", "chat", body.into(), ["sent hi", "", "direct hi", "received hi"]),
            ("bob@localhost", "chat", body.into(), ["sent hi", "", "direct hi", "received hi"]),
            ("bob@localhost", "normal", body.into(), ["sent hi", "", "direct hi", "received hi"]),
            ("bob@localhost/tablet", "chat", body.into(), ["sent hi", "", "received hi", "direct hi"]),
            ("bob@localhost", "headline", body.into(), ["", "", "direct hi", ""]),
            ("bob@localhost", "chat", format!("{body}{private}"), ["", "", "direct hi", ""]),
            ("bob@localhost", "chat", format!("{body}{no_copy}"), ["", "", "direct hi", ""]),
            ("bob@localhost", "chat", composing.into(), ["sent ", "", "direct ", "received "]),
            ("bob@localhost", "normal", nothing.into(), ["", "", "direct ", ""]),
            ("bob@localhost", "chat", format!("{body}{forged}"), ["", "", "direct hi", ""]),
        ];
        for (to, type_, payload, wanted) in cases {
            let stanza = format!("<message to='{to}' type='{type_}' id='x'>{payload}</message>");
            alice.send(&stanza).await;
            assert_eq!(seen(&mut alice).await.join(" "), "", "{stanza}");
            for (client, wanted) in [&mut laptop, &mut plain, &mut bob, &mut tablet].into_iter().zip(wanted) {
                if payload.contains("<sent") {
                    let messages = client.messages().await;
                    let got: Vec<_> = messages.iter().map(|m| m.body().unwrap_or_default()).collect();
                    let wanted = wanted.trim_start_matches("direct ");
                    assert_eq!(got.join(" "), wanted, "{}: {stanza}", client.jid);
                } else {
                    assert_eq!(seen(client).await.join(" "), wanted, "{}: {stanza}", client.jid);
                }
            }
        }
        // A carbon has the id of its reader's archive; a disabled one does not come.
        alice.chat("bob@localhost/phone", "last", "the last").await;
        alice.barrier().await;
        let (hers, his) = (laptop.message().await, tablet.message().await);
        for (carbon, side, account, client) in
            [(hers, "sent", "alice@localhost", &mut alice), (his, "received", "bob@localhost", &mut bob)]
        {
            let forwarded = carbon.child(CARBONS, side).child("urn:xmpp:forward:0", "forwarded");
            let message = forwarded.child("jabber:client", "message");
            let saved = client.archive().await.pop().unwrap();
            assert_eq!(message.stanza_ids(), [(account, saved.id.as_str())]);
            assert_eq!(message.without_ids_by(account), saved.message);
        }
        laptop.result("set", None, "<disable xmlns='urn:xmpp:carbons:2'/>").await;
        alice.chat("bob@localhost", "more", "more").await;
        alice.barrier().await;
        assert_eq!(seen(&mut laptop).await, [""; 0]);
    });
}

#[test]
fn messages_to_oneself_are_stored_once() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut laptop = server.client("alice", "laptop").await;
        alice.chat("alice@localhost", "1", "bare").await;
        alice.send("<message type='chat' id='2'><body>nobody named</body></message>").await;
        alice.chat("alice@localhost/laptop", "3", "to the laptop").await;
        alice.chat("alice@localhost/phone", "4", "to this phone").await;
        alice.chat("alice@localhost/gone", "5", "to a gone one").await;
        alice.chat("bob@localhost", "6", "to bob").await;
        let on_phone = seen(&mut alice).await;
        assert_eq!(
            on_phone,
            ["direct bare", "direct nobody named", "direct to this phone", "direct to a gone one"]
        );
        let on_laptop = seen(&mut laptop).await;
        let wanted = [
            "direct bare",
            "direct nobody named",
            "direct to the laptop",
            "sent to this phone",
            "direct to a gone one",
            "sent to bob",
        ];
        assert_eq!(on_laptop, wanted);
        let all = ["bare", "nobody named", "to the laptop", "to this phone", "to a gone one", "to bob"];
        assert_eq!(alice.archived_bodies().await, all);
        // `with` oneself: only what is from oneself and to oneself.
        let page = alice.page(&form(&[("with", &["alice@localhost"])])).await;
        assert_eq!((page.bodies(), page.count), (all[..5].iter().map(|b| b.to_string()).collect(), Some(5)));
    });
}

#[test]
fn requests_find_their_way_or_are_refused() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        let x = "<q xmlns='urn:unheard-of'/>";
        let cases = [
            ("get", None, x, "service-unavailable"),
            ("set", None, x, "service-unavailable"),
            ("get", Some("alice@localhost"), x, "service-unavailable"),
            ("get", Some("localhost"), x, "service-unavailable"),
            ("get", Some("bob@localhost"), x, "service-unavailable"),
            ("get", Some("nobody@localhost"), x, "service-unavailable"),
            ("get", Some("bob@localhost/gone"), x, "service-unavailable"),
            ("get", Some("example.org"), x, "remote-server-not-found"),
            ("get", Some("@"), x, "jid-malformed"),
            ("get", None, "", "bad-request"),
            ("get", None, "<a xmlns='u'/><b xmlns='u'/>", "bad-request"),
            ("put", None, x, "bad-request"),
            (
                "get",
                Some("bob@localhost"),
                "<query xmlns='http://jabber.org/protocol/disco#info'/>",
                "service-unavailable",
            ),
            ("get", Some("bob@localhost"), "<query xmlns='jabber:iq:roster'/>", "service-unavailable"),
            (
                "get",
                Some("localhost"),
                "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>",
                "item-not-found",
            ),
        ];
        for (type_, to, payload, condition) in cases {
            assert_eq!(alice.error(type_, to, payload).await, condition, "{type_} {to:?} {payload}");
        }
        // One client's request to another's full JID, and the answer back.
        alice.send("<iq type='get' id='r' to='bob@localhost/phone'><q xmlns='urn:q'/></iq>").await;
        let request = bob.next().await;
        assert_eq!(request.attr("from"), Some("alice@localhost/phone"));
        bob.send("<iq type='result' id='r' to='alice@localhost/phone'><a xmlns='urn:q'/></iq>").await;
        let answer = alice.answer("r").await;
        assert_eq!(answer.attr("from"), Some("bob@localhost/phone"));
        assert!(answer.find("urn:q", "a").is_some());
        // A result that nobody asked for, and an error, are answered by nobody.
        for type_ in ["result", "error"] {
            alice.send(&format!("<iq type='{type_}' id='n' to='nobody@localhost'/>")).await;
            alice.send(&format!("<iq type='{type_}' id='n'/>")).await;
        }
        assert_eq!(alice.received().await, []);
    });
}

#[test]
fn what_is_enabled_is_advertised_and_what_is_not_is_not_active() {
    run(async {
        let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let lists: [&[&str]; 6] = [
            &["roster", "carbons", "mam", "ping", "version"],
            &["mam"],
            &["carbons", "ping"],
            &["roster", "version", "mam"],
            &["roster", "carbons"],
            &[],
        ];
        for modules in lists {
            let quoted: Vec<String> = modules.iter().map(|module| format!("\"{module}\"")).collect();
            let options = Options::top(&format!("modules_enabled = [{}]", quoted.join(", ")));
            let server = Server::with_accounts(options, &["alice", "bob"]);
            let on = |module: &str| modules.contains(&module);
            let mut alice = server.login("alice", "phone").await;
            let mut features = Vec::new();
            for to in [Some("localhost"), Some("alice@localhost")] {
                let answer = alice.result("get", to, info).await;
                let ns = "http://jabber.org/protocol/disco#info";
                let query = answer.child(ns, "query").children();
                let vars =
                    query.filter(|child| child.is(ns, "feature")).map(|f| f.attr("var").unwrap().to_owned());
                features.push(vars.collect::<Vec<String>>());
            }
            // Feature; who offers it; which module.
            let table = [
                ("urn:xmpp:mam:2", 1, "mam"),
                ("urn:xmpp:mam:2#extended", 1, "mam"),
                ("urn:xmpp:mam:2#groupchat-field", 1, "mam"),
                ("urn:xmpp:sid:0", 1, "mam"),
                ("urn:xmpp:message-retract:1", 1, "mam"),
                ("urn:xmpp:message-retract:1#tombstone", 1, "mam"),
                ("urn:xmpp:mamtrim:0", 1, "mam"),
                ("urn:xmpp:carbons:2", 0, "carbons"),
                ("urn:xmpp:ping", 0, "ping"),
                ("jabber:iq:version", 0, "version"),
            ];
            for (feature, at, module) in table {
                assert_eq!(features[at].iter().any(|f| f == feature), on(module), "{feature} of {modules:?}");
            }
            let asked = [
                ("set", "<query xmlns='urn:xmpp:mam:2'/>", "mam"),
                ("get", "<metadata xmlns='urn:xmpp:mam:2'/>", "mam"),
                ("get", "<prefs xmlns='urn:xmpp:mam:2'/>", "mam"),
                ("set", "<enable xmlns='urn:xmpp:carbons:2'/>", "carbons"),
                ("get", "<query xmlns='jabber:iq:roster'/>", "roster"),
                ("get", "<ping xmlns='urn:xmpp:ping'/>", "ping"),
                ("get", "<query xmlns='jabber:iq:version'/>", "version"),
            ];
            for (type_, payload, module) in asked {
                let answer = alice.ask(type_, None, payload).await;
                if on(module) {
                    assert_eq!(answer.type_(), "result", "{payload} of {modules:?}");
                } else {
                    assert_eq!(answer.condition(), "service-unavailable", "{payload} of {modules:?}");
                }
            }
            // What is not archived has no id, and bounces when nobody is there.
            alice.chat("bob@localhost", "1", "anybody?").await;
            if on("mam") {
                assert_eq!(alice.messages().await, [], "{modules:?}");
            } else {
                assert_eq!(alice.message().await.condition(), "service-unavailable", "{modules:?}");
            }
            let mut bob = server.login("bob", "phone").await;
            bob.available().await;
            alice.chat("bob@localhost", "2", "hello").await;
            let message = bob.message().await;
            assert_eq!(message.stanza_ids().len(), usize::from(on("mam")), "{modules:?}");
        }
    });
}
