//! What is kept, for whom, and how long: prefs (XEP-0441), trimming, retraction (XEP-0424), expiry, and what a cursor
//! is told that is no longer there.

use crate::support::{Client, Options, Page, Saved, Server, Xml, form, rsm, run, soon};

const MAM: &str = "urn:xmpp:mam:2";
const RETRACT: &str = "urn:xmpp:message-retract:1";

fn prefs(default: &str, always: &[&str], never: &[&str]) -> String {
    let list = |name: &str, jids: &[&str]| {
        let jids: String = jids.iter().map(|jid| format!("<jid>{jid}</jid>")).collect();
        format!("<{name}>{jids}</{name}>")
    };
    format!(
        "<prefs xmlns='{MAM}' default='{default}'>{}{}</prefs>",
        list("always", always),
        list("never", never)
    )
}

/// An answer on prefs: default, always, never.
fn applied(answer: &Xml) -> (String, Vec<String>, Vec<String>) {
    let prefs = answer.child(MAM, "prefs");
    let list = |name| prefs.child(MAM, name).children().map(Xml::text).collect();
    (prefs.attr("default").unwrap().to_owned(), list("always"), list("never"))
}

const GET_PREFS: &str = "<prefs xmlns='urn:xmpp:mam:2'/>";

#[test]
fn prefs_are_read_set_and_kept() {
    run(async {
        let mut server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let none = || Vec::<String>::new();
        assert_eq!(applied(&alice.result("get", None, GET_PREFS).await), ("always".into(), none(), none()));

        // The same JID in both lists: never wins, and the answer shows it.
        let set = prefs("roster", &["a@x", "A@X/Phone", " b@x "], &["b@x", "c@x", "c@x"]);
        let wanted =
            ("roster".to_owned(), vec!["a@x".into(), "a@x/Phone".into()], vec!["b@x".into(), "c@x".into()]);
        assert_eq!(applied(&alice.result("set", Some("alice@localhost"), &set).await), wanted);
        // Whatever is refused changes nothing.
        let thousand: Vec<String> = (0..1001).map(|i| format!("{i}@x")).collect();
        let thousand: Vec<&str> = thousand.iter().map(String::as_str).collect();
        for (wrong, condition) in [
            (format!("<prefs xmlns='{MAM}'/>"), "bad-request"),
            (prefs("", &[], &[]), "bad-request"),
            (prefs("sometimes", &[], &[]), "bad-request"),
            (prefs("Always", &[], &[]), "bad-request"),
            (prefs("never", &["@"], &[]), "jid-malformed"),
            (prefs("never", &[], &["a@b", ""]), "jid-malformed"),
            (format!("<prefs xmlns='{MAM}' default='never'><always/><always/></prefs>"), "bad-request"),
            (prefs("never", &thousand, &[]), "policy-violation"),
        ] {
            assert_eq!(alice.error("set", None, &wrong).await, condition, "{wrong:.200}");
        }
        let mut laptop = server.client("alice", "laptop").await;
        assert_eq!(applied(&laptop.result("get", None, GET_PREFS).await), wanted);
        let mut bob = server.client("bob", "phone").await;
        assert_eq!(applied(&bob.result("get", None, GET_PREFS).await).0, "always", "each has its own");
        server.down();
        server.up();
        let mut alice = server.client("alice", "phone").await;
        assert_eq!(applied(&alice.result("get", None, GET_PREFS).await), wanted);
    });
}

#[test]
fn prefs_decide_most_specific_first() {
    run(async {
        let server = Server::of(&["alice", "bob", "carol"]);
        let mut alice = server.client("alice", "phone").await;
        let mut laptop = server.login("alice", "laptop").await;
        let mut bob = server.client("bob", "phone").await;
        let contact = "<query xmlns='jabber:iq:roster'><item jid='carol@localhost'/></query>";
        alice.result("set", None, contact).await;
        let (b, full) = ("bob@localhost", "bob@localhost/phone");
        // Prefs; is it kept when it goes to bob, to bob's phone, comes from bob's phone, goes to carol?
        let cases = [
            (prefs("always", &[], &[]), [true, true, true, true]),
            (prefs("never", &[], &[]), [false; 4]),
            (prefs("roster", &[], &[]), [false, false, false, true]),
            (prefs("never", &[b], &[]), [true, true, true, false]),
            (prefs("always", &[], &[b]), [false, false, false, true]),
            (prefs("never", &[full], &[]), [false, true, true, false]),
            (prefs("always", &[], &[full]), [true, false, false, true]),
            (prefs("never", &[b], &[full]), [true, false, false, false]),
            (prefs("always", &[full], &[b]), [false, true, true, true]),
            (prefs("always", &[b], &[b]), [false, false, false, true]),
            (prefs("roster", &[b], &["carol@localhost"]), [true, true, true, false]),
            (prefs("never", &["bob@localhost/other"], &[]), [false; 4]),
            (prefs("never", &["localhost"], &[]), [false; 4]),
        ];
        for (set, wanted) in cases {
            // Through one session, seen by the next message of the other.
            laptop.result("set", None, &set).await;
            let before = alice.archive().await.len();
            alice.chat(b, "1", "0").await;
            alice.chat(full, "2", "1").await;
            alice.barrier().await;
            bob.chat("alice@localhost", "3", "2").await;
            bob.barrier().await;
            alice.chat("carol@localhost", "4", "3").await;
            let kept: Vec<String> = alice.archived_bodies().await.split_off(before);
            let wanted: Vec<String> = (0..4).filter(|i| wanted[*i]).map(|i: usize| i.to_string()).collect();
            assert_eq!(kept, wanted, "{set}");
        }
        // Whatever alice's prefs say, bob's archive is his.
        assert_eq!(bob.archive().await.len(), 13 * 3);
        // The roster is asked at the moment of the message.
        laptop.result("set", None, &prefs("roster", &[], &[])).await;
        let remove = contact.replace("/>", " subscription='remove'/>");
        alice.result("set", None, &remove).await;
        let before = alice.archive().await.len();
        alice.chat("carol@localhost", "5", "gone").await;
        alice.result("set", None, contact).await;
        alice.chat("carol@localhost", "6", "back").await;
        assert_eq!(alice.archived_bodies().await.split_off(before), ["back"]);
    });
}

#[test]
fn the_servers_default_holds_for_those_who_have_set_nothing() {
    run(async {
        for (policy, wanted, kept) in
            [("true", "always", 1), ("false", "never", 0), ("\"roster\"", "roster", 0)]
        {
            let options = Options::top(&format!("default_archive_policy = {policy}"));
            let server = Server::with_accounts(options, &["alice"]);
            let mut alice = server.client("alice", "phone").await;
            assert_eq!(applied(&alice.result("get", None, GET_PREFS).await).0, wanted);
            alice.chat("alice@localhost", "1", "kept?").await;
            assert_eq!(alice.archive().await.len(), kept, "{policy}");
            alice.result("set", None, &prefs("always", &[], &[])).await;
            alice.chat("alice@localhost", "2", "kept").await;
            assert_eq!(alice.archive().await.len(), kept + 1, "{policy}");
        }
    });
}

fn trim(id: Option<&str>) -> String {
    let id = id.map(|id| format!("<id>{id}</id>")).unwrap_or_default();
    format!("<trim xmlns='urn:xmpp:mamtrim:0'>{id}</trim>")
}

async fn say(client: &mut Client, to: &str, range: std::ops::Range<usize>) {
    for i in range {
        client.chat(to, &format!("m{i}"), &i.to_string()).await;
    }
    client.barrier().await;
}

/// Where an answer says that the archive now starts: id and stamp.
fn starts(answer: &Xml) -> Option<(String, String)> {
    assert_eq!(answer.condition(), "item-not-found", "{answer}");
    let archive = answer.child("jabber:client", "error").child("urn:mammoth:archive:0", "archive");
    let start = archive.find("urn:mammoth:archive:0", "start")?;
    Some((start.attr("id")?.to_owned(), start.attr("timestamp")?.to_owned()))
}

#[test]
fn trimming() {
    run(async {
        let mut server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.login("bob", "phone").await;
        say(&mut alice, "bob@localhost", 0..30).await;
        let all = alice.archive().await;
        let foreign = bob.archive().await[3].id.clone();
        for wrong in ["", "nobody's", &foreign] {
            assert_eq!(alice.error("set", None, &trim(Some(wrong))).await, "item-not-found", "{wrong}");
        }
        assert_eq!(alice.error("get", None, &trim(None)).await, "service-unavailable");
        assert_eq!(alice.archive().await, all, "nothing has gone");

        alice.result("set", None, &trim(Some(&all[9].id))).await;
        assert_eq!(alice.archive().await, all[10..]);
        let page = alice.page(&rsm(&format!("<before>{}</before>", all[12].id))).await;
        assert_eq!((page.bodies(), page.complete), (vec!["10".into(), "11".into()], true));
        // A cursor that has gone is told so, with where the archive starts; in every place where an id can stand.
        let gone = all[9].id.as_str();
        let start = Some((all[10].id.clone(), all[10].stamp.clone()));
        for content in [
            rsm(&format!("<after>{gone}</after>")),
            rsm(&format!("<before>{gone}</before>")),
            form(&[("after-id", &[gone])]),
            form(&[("before-id", &[gone])]),
            form(&[("ids", &[&all[12].id, gone])]),
            form(&[("with", &["nobody@localhost"])]) + &rsm(&format!("<max>0</max><after>{gone}</after>")),
        ] {
            let answer = alice.ask("set", None, &crate::support::archive::query(&content)).await;
            assert_eq!(starts(&answer), start, "{content}");
        }
        let answer = alice.ask("set", None, &trim(Some(gone))).await;
        assert_eq!(starts(&answer), start);
        assert_eq!(bob.archive().await.len(), 30, "bob keeps his own");

        alice.result("set", None, &trim(None)).await;
        assert!(alice.archive().await.is_empty());
        let answer = alice
            .ask(
                "set",
                None,
                &crate::support::archive::query(&rsm(&format!("<after>{}</after>", all[29].id))),
            )
            .await;
        assert_eq!(starts(&answer), None, "it is empty");
        alice.result("set", None, &trim(None)).await;
        server.down();
        server.up();
        // No id ever comes back, and no old one is taken for a new one.
        let mut alice = server.client("alice", "phone").await;
        say(&mut alice, "bob@localhost", 30..35).await;
        let new = alice.archive().await;
        assert_eq!(new.len(), 5);
        assert!(new.iter().all(|new| all.iter().all(|old| old.id != new.id)));
        assert_eq!(alice.refused(&rsm(&format!("<after>{}</after>", all[29].id))).await, "item-not-found");
    });
}

#[test]
fn trimming_can_be_forbidden() {
    run(async {
        let options = Options::top("archive_allow_trim = false");
        let server = Server::with_accounts(options, &["alice"]);
        let mut alice = server.client("alice", "phone").await;
        alice.chat("alice@localhost", "1", "kept").await;
        assert_eq!(alice.error("set", None, &trim(None)).await, "not-allowed");
        let id = alice.archive().await[0].id.clone();
        assert_eq!(alice.error("set", None, &trim(Some(&id))).await, "not-allowed");
        assert_eq!(alice.archived_bodies().await, ["kept"]);
        let info = alice
            .result("get", Some("alice@localhost"), "<query xmlns='http://jabber.org/protocol/disco#info'/>")
            .await;
        assert!(!info.raw.0.contains("mamtrim"));
    });
}

fn retraction(to: &str, id: &str, of: &str) -> String {
    format!(
        "<message to='{to}' id='{id}' type='chat'><retract xmlns='{RETRACT}' id='{of}'/>\
         <body>retracted</body><store xmlns='urn:xmpp:hints'/></message>"
    )
}

#[test]
fn retraction_takes_back_ones_own_words_and_nobody_elses() {
    run(async {
        let mut server = Server::of(&["alice", "bob", "carol"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        let mut carol = server.client("carol", "phone").await;
        alice.chat("bob@localhost", "a1", "alice's first").await;
        alice.chat("bob@localhost", "same", "alice's, same id").await;
        alice.chat("carol@localhost", "same", "alice's to carol").await;
        alice.barrier().await;
        bob.chat("alice@localhost", "same", "bob's, same id").await;
        bob.chat("alice@localhost", "b1", "bob's").await;
        bob.barrier().await;
        let (hers, his) = (alice.archive().await, bob.archive().await);

        // None of these may touch anything: not the contact's, not a stranger's, not of what never was.
        bob.send(&retraction("alice@localhost", "r1", "a1")).await;
        bob.barrier().await;
        carol.send(&retraction("alice@localhost", "r2", "a1")).await;
        carol.send(&retraction("bob@localhost", "r3", "a1")).await;
        carol.send(&retraction("alice@localhost", "r4", "same")).await;
        carol.barrier().await;
        alice.send(&retraction("bob@localhost", "r5", "b1")).await;
        alice.send(&retraction("bob@localhost", "r6", "never-sent")).await;
        alice.send(&retraction("carol@localhost", "r7", "a1")).await;
        alice.barrier().await;
        assert_eq!(alice.archive().await[..hers.len()], hers);
        assert_eq!(bob.archive().await[..his.len()], his);

        // Alice takes back what she said, from another device.
        let mut laptop = server.login("alice", "laptop").await;
        laptop.send(&retraction("bob@localhost", "r8", "same")).await;
        laptop.barrier().await;
        for (client, before) in [(&mut alice, &hers), (&mut bob, &his)] {
            let after = client.archive().await;
            for (old, new) in before.iter().zip(&after) {
                if old.body() != "alice's, same id" {
                    assert_eq!(new, old, "only what was retracted has changed");
                    continue;
                }
                assert_eq!((&new.id, &new.stamp), (&old.id, &old.stamp));
                for attr in ["from", "to", "id", "type"] {
                    assert_eq!(new.message.attr(attr), old.message.attr(attr));
                }
                let tombstone = new.message.child(RETRACT, "retracted");
                assert_eq!(tombstone.attr("id"), Some("r8"));
                assert!(tombstone.attr("stamp").is_some());
                assert!(!new.message.raw.0.contains("alice's"), "{}", new.message);
                // It is still found where it was.
                let with =
                    if client.account == "alice@localhost" { "bob@localhost" } else { "alice@localhost" };
                let page = client.page(&form(&[("with", &[with]), ("ids", &[&new.id])])).await;
                assert_eq!(page.saved, std::slice::from_ref(new));
                let page = client.page(&rsm(&format!("<after>{}</after>", new.id))).await;
                assert_eq!(page.saved[0], after[after.iter().position(|a| a.id == new.id).unwrap() + 1]);
            }
            let last = after.last().unwrap();
            assert_eq!(last.message.child(RETRACT, "retract").attr("id"), Some("same"), "archived itself");
        }
        // A second time, it changes nothing more; and all of it is durable.
        let before: Vec<Saved> = alice.archive().await;
        alice.send(&retraction("bob@localhost", "r9", "same")).await;
        alice.barrier().await;
        assert_eq!(alice.archive().await[..before.len()], before);
        server.kill();
        server.up();
        let mut alice = server.client("alice", "phone").await;
        assert_eq!(alice.archive().await[..before.len()], before);
    });
}

#[test]
fn what_expires_is_gone_for_every_cursor() {
    run(async {
        let options = Options::top("archive_expires_after = 1\narchive_expiry_interval = 1");
        let server = Server::with_accounts(options, &["alice"]);
        let mut alice = server.client("alice", "phone").await;
        let mut seen: Vec<String> = Vec::new();
        // She says something now and then until the first of it has expired.
        soon("an expiry", async {
            loop {
                alice.chat("alice@localhost", "x", &seen.len().to_string()).await;
                let id = alice.message().await.id_by("alice@localhost").unwrap().to_owned();
                seen.push(id);
                let page = alice.page(&rsm("<max>1</max>")).await;
                if page.saved.first().is_none_or(|saved| saved.id != seen[0]) {
                    break;
                }
            }
        })
        .await;
        let answer = alice
            .ask("set", None, &crate::support::archive::query(&rsm(&format!("<after>{}</after>", seen[0]))))
            .await;
        let start = starts(&answer);
        // Where it starts is among what was said, after what has gone, and it may have moved on since.
        if let Some((id, _)) = start {
            assert!(seen.iter().position(|seen| *seen == id).unwrap() > 0);
        }
        // And all goes, in the end.
        soon("the rest to expire", async {
            while !alice.page(&rsm("<max>1</max>")).await.saved.is_empty() {}
        })
        .await;
    });
}

#[test]
fn an_archive_stays_consistent_while_it_is_changed_from_two_sides() {
    run(async {
        const MESSAGES: usize = 300;
        let server = Server::of(&["alice", "bob", "carol"]);
        let mut reader = server.login("alice", "reader").await;
        let mut trimmer = server.login("alice", "trimmer").await;
        let mut fickle = server.login("alice", "fickle").await;
        let mut bob = server.client("bob", "phone").await;
        let mut carol = server.client("carol", "phone").await;
        // Bob is always archived, whatever else changes. Carol depends.
        fickle.result("set", None, &prefs("always", &["bob@localhost"], &[])).await;

        let bob = tokio::spawn(async move {
            for i in 0..MESSAGES {
                bob.chat("alice@localhost", &format!("m{i}"), &i.to_string()).await;
                if i % 10 == 0 {
                    bob.barrier().await;
                }
            }
            bob.barrier().await;
        });
        let carol = tokio::spawn(async move {
            for i in 0..MESSAGES {
                carol.chat("alice@localhost", &format!("c{i}"), "from carol").await;
                if i % 10 == 0 {
                    carol.barrier().await;
                }
            }
            carol.barrier().await;
        });
        let fickle = tokio::spawn(async move {
            for i in 0..60 {
                let default = ["never", "always", "roster"][i % 3];
                let set = prefs(default, &["bob@localhost"], &[]);
                assert_eq!(applied(&fickle.result("set", None, &set).await).0, default);
                check_page(&fickle.page(&rsm("<before/>")).await);
            }
        });
        // How far the trimmer has trimmed, by bob's count; noted before it does.
        let trimmed = std::sync::atomic::AtomicUsize::new(0);
        let done = std::sync::atomic::AtomicBool::new(false);
        use std::sync::atomic::Ordering::SeqCst;
        let trimming = async {
            while !done.load(SeqCst) {
                let page = trimmer.page(&rsm("<max>7</max>")).await;
                check_page(&page);
                let Some(last) = page.saved.iter().rev().find(|saved| saved.body().parse::<usize>().is_ok())
                else {
                    continue;
                };
                let number: usize = last.body().parse().unwrap();
                trimmed.fetch_max(number + 1, SeqCst);
                trimmer.result("set", None, &trim(Some(&last.id))).await;
                let after = trimmer.page(&rsm("<max>1</max>")).await;
                assert!(
                    after
                        .saved
                        .first()
                        .is_none_or(|first| !page.saved.contains(first) || first.id != last.id)
                );
                assert_eq!(
                    trimmer.refused(&rsm(&format!("<after>{}</after>", last.id))).await,
                    "item-not-found"
                );
            }
        };
        let reading = async {
            let mut next = 0;
            let mut cursor = String::new();
            let mut restarts = 0;
            while next < MESSAGES {
                let content = crate::support::archive::query(&rsm(&format!("<max>5</max>{cursor}")));
                let answer = reader.ask("set", None, &content).await;
                let results = reader.take_early(|stanza| stanza.find(MAM, "result").is_some());
                if answer.type_() == "error" {
                    // Its cursor has been trimmed: it is told, and begins where the archive now does.
                    starts(&answer);
                    assert!(results.is_empty());
                    cursor.clear();
                    restarts += 1;
                    continue;
                }
                for result in &results {
                    let result = result.child(MAM, "result");
                    let forwarded = result.child("urn:xmpp:forward:0", "forwarded");
                    let body = forwarded.child("jabber:client", "message").body().unwrap();
                    cursor = format!("<after>{}</after>", result.attr("id").unwrap());
                    if let Ok(number) = body.parse::<usize>() {
                        if number > next {
                            let gone = trimmed.load(SeqCst);
                            assert!(
                                gone >= number,
                                "a gap from {next} to {number}, but trimmed only to {gone}"
                            );
                        }
                        next = next.max(number + 1);
                    }
                }
                if trimmed.load(SeqCst) >= MESSAGES {
                    break;
                }
            }
            done.store(true, SeqCst);
            restarts
        };
        tokio::join!(trimming, reading);
        bob.await.unwrap();
        carol.await.unwrap();
        fickle.await.unwrap();
        // When all is quiet, what is left is exactly what was not trimmed.
        let left = reader.archive().await;
        let numbers: Vec<usize> = left.iter().filter_map(|saved| saved.body().parse().ok()).collect();
        assert_eq!(numbers, (trimmed.load(SeqCst)..MESSAGES).collect::<Vec<_>>());
        fn check_page(page: &Page) {
            let numbers: Vec<usize> =
                page.saved.iter().filter_map(|saved| saved.body().parse().ok()).collect();
            assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "a gap inside a page: {numbers:?}");
            assert!(page.saved.is_sorted_by_key(|saved| saved.stamp.clone()));
        }
    });
}
