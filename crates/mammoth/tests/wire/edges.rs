//! Edges: stanzas exactly at the limits, names with everything in them that XML must escape, clients that hang up
//! in the middle of a burst, and TLS without channel binding.

use crate::support::connection::Connection;
use crate::support::{Auth, Client, Options, Server, Xml, form, rsm, run, soon};

const RETRACT: &str = "urn:xmpp:message-retract:1";

#[test]
fn stanzas_at_the_limit_are_stanzas_like_any_other() {
    run(async {
        const LIMIT: usize = 256 * 1024;
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        let attributes = |count: usize| -> String { (0..count).map(|i| format!(" a{i}='{i}'")).collect() };
        let nested = |depth: usize| format!("{}{}", "<x xmlns='urn:x'>".repeat(depth), "</x>".repeat(depth));
        let namespaces =
            |count: usize| -> String { (0..count).map(|i| format!(" xmlns:n{i}='urn:{i}'")).collect() };
        let filled = |bytes: usize| {
            let (start, end) = ("<message to='bob@localhost' id='bytes'><body>", "</body></message>");
            format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
        };
        let message = |id: &str, attrs: &str, content: &str| {
            format!("<message to='bob@localhost' id='{id}'{attrs}><body>{id}</body>{content}</message>")
        };
        let many = "<x xmlns='urn:x'/>".repeat(1023);
        // The stanza as large as it may be, and one step larger.
        let cases = [
            (
                "attributes",
                message("attributes", &attributes(62), ""),
                message("attributes", &attributes(63), ""),
            ),
            ("nested", message("nested", "", &nested(63)), message("nested", "", &nested(64))),
            ("children", message("children", "", &many), message("children", "", &format!("{many}<x/>"))),
            (
                "namespaces",
                // Two are the stream header's, and a tag may have no more attributes than any.
                message("namespaces", "", &format!("<x{0}><x{0}/></x>", namespaces(63))),
                message("namespaces", "", &format!("<x{0}><x{0}/></x>", namespaces(64))),
            ),
            ("bytes", filled(LIMIT), filled(LIMIT + 1)),
        ];
        for (id, stanza, larger) in &cases {
            alice.send(stanza).await;
            let received = bob.message().await;
            assert_eq!(received.attr("id"), Some(*id));
            let wanted = Xml::parse(stanza).with_attr("from", "alice@localhost/phone");
            assert_eq!(received.without_ids_by("bob@localhost"), wanted, "{id}");
            for client in [&mut alice, &mut bob] {
                let page = client.page(&rsm("<max>1</max><before/>")).await;
                assert_eq!(page.saved[0].message, wanted, "{id}");
            }
            // It can be taken back, and leaves its tombstone.
            let retraction = format!(
                "<message to='bob@localhost' id='r-{id}'><retract xmlns='{RETRACT}' id='{id}'/></message>"
            );
            alice.send(&retraction).await;
            bob.message().await;
            for client in [&mut alice, &mut bob] {
                let page = client.page(&rsm("<max>2</max><before/>")).await;
                let tombstone = &page.saved[0].message;
                assert!(tombstone.find(RETRACT, "retracted").is_some(), "{id}: {tombstone:.300}");
                assert_eq!(tombstone.attr("id"), Some(*id));
                assert_eq!(tombstone.attr("from"), Some("alice@localhost/phone"));
            }
            // Nobody there, and not to be kept: it bounces.
            let bounced = stanza.replacen("to='bob@localhost'", "to='nobody@localhost'", 1);
            if *id != "bytes" {
                alice.send(&bounced).await;
                assert_eq!(alice.message().await.condition(), "service-unavailable", "{id}");
            }
            let mut mallory = server.client("alice", "mallory").await;
            mallory.send(larger).await;
            assert_eq!(mallory.stream_error().await, "policy-violation", "{id}");
        }
        // Presence at the limit is told to those who come later, too.
        alice.send(&format!("<presence{}><status>full</status></presence>", attributes(64))).await;
        alice.barrier().await;
        let mut laptop = server.client("alice", "laptop").await;
        let seen = laptop.received().await;
        assert!(seen.iter().any(|stanza| stanza.attr("a63") == Some("63")), "{seen:?}");
    });
}

#[test]
fn presence_at_the_limit_reaches_contacts_who_come_later() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        bob.send("<presence to='alice@localhost' type='subscribe'/>").await;
        alice.next().await;
        alice.send("<presence to='bob@localhost' type='subscribed'/>").await;
        let attributes: String = (0..64).map(|i| format!(" a{i}='{i}'")).collect();
        alice.send(&format!("<presence{attributes}/>")).await;
        alice.barrier().await;
        bob.close().await;
        let mut bob = server.client("bob", "phone").await;
        let seen = bob.received().await;
        assert!(seen.iter().any(|stanza| stanza.attr("a63") == Some("63")), "{seen:?}");
    });
}

#[test]
fn the_limit_on_bytes_is_the_operators() {
    run(async {
        let server = Server::with_accounts(Options::limits("stanza_bytes = \"2MiB\""), &["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        let body = "\u{e9}".repeat(900 * 1024);
        alice.chat("bob@localhost", "large", &body).await;
        assert_eq!(bob.message().await.body().as_ref(), Some(&body));
        alice
            .send(&format!(
                "<message to='bob@localhost' id='r'><retract xmlns='{RETRACT}' id='large'/></message>"
            ))
            .await;
        bob.message().await;
        for client in [&mut alice, &mut bob] {
            let saved = client.archive().await;
            assert!(saved[0].message.find(RETRACT, "retracted").is_some());
        }
    });
}

#[test]
fn names_are_escaped_wherever_they_are_written() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut bob = server.client("bob", "phone").await;
        // A resource with everything that must be escaped somewhere.
        let resource = "it's <me> & \"you\" > \u{e9}";
        let escaped = "it&apos;s &lt;me&gt; &amp; &quot;you&quot; &gt; \u{e9}";
        let mut alice = server.login("alice", "plain").await;
        alice.close().await;
        let connection = Connection::starttls(server.c2s(), &server.certificate()).await;
        alice = Client::over_named(connection, &server, "alice", resource, escaped).await;
        alice.result("set", None, "<enable xmlns='urn:xmpp:carbons:2'/>").await;
        alice.available().await;
        let jid = format!("alice@localhost/{resource}");
        let id = "&lt;id&apos;s &quot;&amp;&#10;&gt;";
        let plain_id = "<id's \"&\n>";
        alice.chat("bob@localhost", id, "one").await;
        let message = bob.message().await;
        assert_eq!((message.attr("from"), message.attr("id")), (Some(jid.as_str()), Some(plain_id)));
        bob.chat(&format!("alice@localhost/{escaped}"), "2", "two").await;
        let message = alice.message().await;
        assert_eq!((message.attr("to"), message.body().as_deref()), (Some(jid.as_str()), Some("two")));
        let page = bob.page(&form(&[("with", &[&format!("alice@localhost/{escaped}")])])).await;
        assert_eq!(page.bodies(), ["one", "two"]);
        // In a request's id and in the name of a query, which come back.
        let query = format!("<query xmlns='urn:xmpp:mam:2' queryid='{id}'/>");
        alice.send(&format!("<iq type='set' id='{id}'>{query}</iq>")).await;
        alice.answer(plain_id).await;
        let results = alice.take_early(|stanza| stanza.find("urn:xmpp:mam:2", "result").is_some());
        assert_eq!(results.len(), 2);
        for result in &results {
            assert_eq!(result.attr("to"), Some(jid.as_str()));
            assert_eq!(result.child("urn:xmpp:mam:2", "result").attr("queryid"), Some(plain_id));
        }
        // In errors, tombstones, carbons and prefs.
        alice.send(&format!("<message to='nobody@localhost/{escaped}' id='{id}'><body/></message>")).await;
        let bounce = alice.message().await;
        assert_eq!((bounce.attr("id"), bounce.attr("to")), (Some(plain_id), Some(jid.as_str())));
        assert_eq!(bounce.attr("from"), Some(format!("nobody@localhost/{resource}").as_str()));
        alice
            .send(&format!(
                "<message to='bob@localhost' id='r{id}'><retract xmlns='{RETRACT}' id='{id}'/></message>"
            ))
            .await;
        bob.message().await;
        let saved = bob.archive().await;
        let tombstone = saved[0].message.child(RETRACT, "retracted");
        assert_eq!(tombstone.attr("id"), Some(format!("r{plain_id}").as_str()));
        let mut laptop = server.client("alice", "laptop").await;
        alice.chat("bob@localhost", id, "three").await;
        let carbon = laptop.message().await;
        let forwarded = carbon.child("urn:xmpp:carbons:2", "sent").child("urn:xmpp:forward:0", "forwarded");
        assert_eq!(forwarded.child("jabber:client", "message").attr("from"), Some(jid.as_str()));
        let prefs = format!(
            "<prefs xmlns='urn:xmpp:mam:2' default='always'><always/><never><jid>bob@localhost/{escaped}</jid></never></prefs>"
        );
        let answer = laptop.result("set", None, &prefs).await;
        let never = answer.child("urn:xmpp:mam:2", "prefs").child("urn:xmpp:mam:2", "never");
        assert_eq!(never.children().next().map(Xml::text), Some(format!("bob@localhost/{resource}")));
    });
}

#[test]
fn a_message_and_its_retraction_in_one_write() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        for to in ["bob@localhost", "bob@localhost/phone", "alice@localhost"] {
            let id = format!("x-{}", to.len());
            let text = format!(
                "<message to='{to}' type='chat' id='{id}'><body>regret</body></message>\
                 <message to='{to}' type='chat' id='r{id}'><retract xmlns='{RETRACT}' id='{id}'/></message>"
            );
            alice.send(&text).await;
            alice.barrier().await;
        }
        for client in [&mut alice, &mut bob] {
            let saved = client.archive().await;
            assert!(saved.iter().all(|saved| saved.body() != "regret"), "{}", client.jid);
            let tombstones =
                saved.iter().filter(|saved| saved.message.find(RETRACT, "retracted").is_some()).count();
            assert_eq!(2 * tombstones, saved.len());
        }
    });
}

#[test]
fn who_hangs_up_has_said_what_was_read_and_is_gone_for_others() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut bob = server.client("bob", "phone").await;
        for (round, politely) in [true, false, true, false].into_iter().enumerate() {
            let mut alice = server.login("alice", "phone").await;
            alice.send("<presence to='bob@localhost/phone'/>").await;
            let mut burst: String = (0..50)
                .map(|i| format!("<message to='bob@localhost' type='chat' id='{round}-{i}'><body>{round}-{i}</body></message>"))
                .collect();
            if politely {
                burst.push_str("</stream:stream>");
            }
            alice.send(&burst).await;
            alice.sender.shut().await;
            drop(alice);
            let mut heard = 0;
            soon("her end", async {
                loop {
                    let stanza = bob.next().await;
                    match stanza.name.as_str() {
                        "message" => {
                            assert_eq!(stanza.body(), Some(format!("{round}-{heard}")));
                            heard += 1;
                        }
                        _ if stanza.type_() == "unavailable" => break,
                        _ => {}
                    }
                }
            })
            .await;
            // Whatever was sent before a clean end arrives; after a mere end of the connection, what was read does.
            assert!(!politely || heard == 50, "{heard}");
            let saved = bob.archived_bodies().await;
            let of_round: Vec<_> =
                saved.into_iter().filter(|body| body.starts_with(&format!("{round}-"))).collect();
            assert_eq!(of_round, (0..heard).map(|i| format!("{round}-{i}")).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_clean_stop_in_mid_burst_loses_nothing() {
    run(async {
        let mut server = Server::of(&["alice", "bob"]);
        let mut alice = server.login("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        let burst: String = (0..1000)
            .map(|i| format!("<message to='bob@localhost' type='chat' id='{i}'><body>{i}</body></message>"))
            .collect();
        let sending = tokio::spawn(async move {
            alice.send(&burst).await;
            alice.stream_error().await
        });
        let first = bob.message().await;
        assert_eq!(first.body().as_deref(), Some("0"));
        server.down();
        assert_eq!(sending.await.expect("sent"), "system-shutdown");
        let mut heard = 1;
        while let Some(stanza) = bob.next_or_end().await {
            if stanza.name == "message" {
                assert_eq!(stanza.body(), Some(heard.to_string()));
                heard += 1;
            }
        }
        server.up();
        for name in ["alice", "bob"] {
            let mut client = server.login(name, "reader").await;
            let saved = client.archived_bodies().await;
            assert_eq!(saved, (0..saved.len()).map(|i| i.to_string()).collect::<Vec<_>>(), "{name}");
            assert!(saved.len() >= heard, "{name}: {heard} were heard, and {} are kept", saved.len());
        }
    });
}

#[test]
fn tls_1_2_has_no_channel_binding_and_works() {
    run(async {
        let server = Server::of(&["alice"]);
        for auth in [Auth::Sha256, Auth::Sha1, Auth::Plain] {
            let connection = Connection::starttls_1_2(server.c2s(), &server.certificate()).await;
            let mut alice = Client::over(connection, &server, "alice", "old", auth, "").await;
            assert!(
                !alice.offered.iter().any(|mechanism| mechanism.ends_with("-PLUS")),
                "{:?}",
                alice.offered
            );
            alice.chat("alice@localhost", "1", "hello").await;
            alice.available().await;
            alice.close().await;
        }
    });
}
