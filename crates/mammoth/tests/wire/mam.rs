//! The archive by its rules (XEP-0313, XEP-0059), in tables: the form, filters, pages, and every refusal.

use crate::support::archive::query;
use crate::support::{Client, Options, Server, form, rsm, run};

const MAM: &str = "urn:xmpp:mam:2";
const PAGE_MAX: usize = 10;
const COUNT: usize = 30;

/// Alice's archive: `0` to `29`, of which every third is with carol, the others with bob; bob's in turn his and hers.
async fn conversation(server: &Server) -> (Client, Client) {
    let mut alice = server.client("alice", "phone").await;
    let mut bob = server.client("bob", "laptop").await;
    for i in 0..COUNT {
        let (id, body) = (format!("m{i}"), i.to_string());
        match i % 3 {
            0 => alice.chat("bob@localhost", &id, &body).await,
            1 => {
                bob.chat("alice@localhost/phone", &id, &body).await;
                bob.barrier().await;
            }
            _ => alice.chat("carol@localhost", &id, &body).await,
        }
        alice.barrier().await;
    }
    alice.take_early(|_| true);
    (alice, bob)
}

fn server() -> Server {
    let options = Options::top(&format!("max_archive_query_results = {PAGE_MAX}"));
    Server::with_accounts(options, &["alice", "bob", "carol"])
}

fn bodies(range: impl Iterator<Item = usize>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

#[test]
fn the_form_can_be_discovered() {
    run(async {
        let server = server();
        let mut alice = server.client("alice", "phone").await;
        for to in [None, Some("alice@localhost")] {
            let answer = alice.result("get", to, &format!("<query xmlns='{MAM}'/>")).await;
            let x = answer.child(MAM, "query").child("jabber:x:data", "x");
            assert_eq!(x.type_(), "form");
            let fields: Vec<(&str, &str)> =
                x.children().map(|field| (field.attr("var").unwrap(), field.type_())).collect();
            let wanted = [
                ("FORM_TYPE", "hidden"),
                ("with", "jid-single"),
                ("start", "text-single"),
                ("end", "text-single"),
                ("before-id", "text-single"),
                ("after-id", "text-single"),
                ("ids", "list-multi"),
                ("include-groupchat", "boolean"),
            ];
            assert_eq!(fields, wanted);
            for field in x.children() {
                assert!(field.find("jabber:x:data", "required").is_none(), "{field}");
                assert!(field.find("jabber:x:data", "option").is_none(), "{field}");
                let validate = field.find("http://jabber.org/protocol/xdata-validate", "validate");
                let open = validate.map(|v| v.child("http://jabber.org/protocol/xdata-validate", "open"));
                assert_eq!(open.is_some(), field.attr("var") == Some("ids"), "{field}");
            }
        }
    });
}

#[test]
fn pages() {
    run(async {
        let server = server();
        let (mut alice, _bob) = conversation(&server).await;
        let all = alice.archive().await;
        assert_eq!(all.iter().map(|saved| saved.body()).collect::<Vec<_>>(), bodies(0..COUNT));
        let id = |i: usize| all[i].id.clone();
        let stamp = |i: usize| all[i].stamp.clone();
        let after = |i: usize| format!("<after>{}</after>", id(i));
        let before = |i: usize| format!("<before>{}</before>", id(i));
        let field = |var: &str, value: &str| form(&[(var, &[value])]);
        let with = |jid: &str| field("with", jid);
        let bob = || (0..COUNT).filter(|i| i % 3 != 2).collect::<Vec<_>>();
        let carol = || (2..COUNT).step_by(3).collect::<Vec<_>>();
        let span = |range: std::ops::Range<usize>| range.collect::<Vec<_>>();
        // Query; what it gives; whether it is complete; index; count.
        let ids = form(&[("ids", &[&id(20), &id(3), &id(3), &id(7)])]);
        let cases: Vec<(String, Vec<usize>, bool, u64, u64)> = vec![
            (String::new(), span(0..10), false, 0, 30),
            (form(&[]), span(0..10), false, 0, 30),
            (rsm(""), span(0..10), false, 0, 30),
            (rsm("<max>5</max>"), span(0..5), false, 0, 30),
            (rsm("<max>1000000</max>"), span(0..10), false, 0, 30),
            (rsm("<max>99999999999999999999999</max>"), span(0..10), false, 0, 30),
            (rsm("<max>0</max>"), vec![], false, 0, 30),
            (rsm("<max>0</max><before/>"), vec![], false, 0, 30),
            (rsm("<before/>"), span(20..30), false, 20, 30),
            (rsm("<max>3</max><before/>"), span(27..30), false, 27, 30),
            (rsm(&format!("<max>3</max>{}", before(20))), span(17..20), false, 17, 30),
            (rsm(&before(4)), span(0..4), true, 0, 30),
            (rsm(&before(0)), vec![], true, 0, 30),
            (rsm("<after/>"), span(0..10), false, 0, 30),
            (rsm(&after(0)), span(1..11), false, 1, 30),
            (rsm(&after(19)), span(20..30), true, 20, 30),
            (rsm(&after(24)), span(25..30), true, 25, 30),
            (rsm(&after(29)), vec![], true, 30, 30),
            (rsm("<index>25</index>"), span(25..30), true, 25, 30),
            (rsm("<max>2</max><index>4</index>"), span(4..6), false, 4, 30),
            (rsm("<index>0</index>"), span(0..10), false, 0, 30),
            (rsm("<index>30</index>"), vec![], true, 30, 30),
            (rsm("<index>1000</index>"), vec![], true, 30, 30),
            (with("bob@localhost"), bob()[..10].to_vec(), false, 0, 20),
            (with("Bob@LOCALHOST"), bob()[..10].to_vec(), false, 0, 20),
            (with("bob@localhost") + &rsm("<before/>"), bob()[10..].to_vec(), false, 10, 20),
            (with("bob@localhost") + &rsm("<index>15</index>"), bob()[15..].to_vec(), true, 15, 20),
            (with("bob@localhost/laptop"), (1..COUNT).step_by(3).collect(), true, 0, 10),
            (with("bob@localhost/other"), vec![], true, 0, 0),
            (with("carol@localhost"), carol(), true, 0, 10),
            (with("carol@localhost") + &rsm("<max>0</max>"), vec![], false, 0, 10),
            // A cursor need not match the filter itself.
            (with("carol@localhost") + &rsm(&after(6)), carol()[2..].to_vec(), true, 2, 10),
            (with("carol@localhost") + &rsm(&before(6)), carol()[..2].to_vec(), true, 0, 10),
            (with("nobody@example.org"), vec![], true, 0, 0),
            (with("nobody@example.org") + &rsm("<max>0</max>"), vec![], true, 0, 0),
            (with("alice@localhost"), vec![], true, 0, 0),
            (with("localhost"), vec![], true, 0, 0),
            (field("start", &stamp(25)), span(25..30), true, 0, 5),
            (field("end", &stamp(4)), span(0..5), true, 0, 5),
            (form(&[("start", &[&stamp(3)]), ("end", &[&stamp(5)])]), span(3..6), true, 0, 3),
            (form(&[("start", &[&stamp(5)]), ("end", &[&stamp(3)])]), vec![], true, 0, 0),
            (field("start", "2200-01-01T00:00:00Z"), vec![], true, 0, 0),
            (field("end", "1969-07-21T02:56:15Z"), vec![], true, 0, 0),
            (field("start", "2000-01-01T00:00:00.123456789+14:00"), span(0..10), false, 0, 30),
            (
                form(&[("start", &[&stamp(6)]), ("with", &["carol@localhost"])]) + &rsm("<max>2</max>"),
                vec![8, 11],
                false,
                0,
                8,
            ),
            (field("after-id", &id(24)), span(25..30), true, 0, 5),
            (field("before-id", &id(3)), span(0..3), true, 0, 3),
            (form(&[("after-id", &[&id(3)]), ("before-id", &[&id(6)])]), span(4..6), true, 0, 2),
            (form(&[("after-id", &[&id(6)]), ("before-id", &[&id(3)])]), vec![], true, 0, 0),
            (field("after-id", &id(3)) + &rsm("<max>4</max><before/>"), span(26..30), false, 22, 26),
            (field("after-id", &id(3)) + &rsm(&before(10)), span(4..10), true, 0, 26),
            (field("after-id", &id(29)), vec![], true, 0, 0),
            (ids.clone(), vec![3, 7, 20], true, 0, 3),
            (ids.clone() + &rsm("<max>2</max>"), vec![3, 7], false, 0, 3),
            (form(&[("ids", &[&id(20), &id(2)]), ("with", &["carol@localhost"])]), vec![2, 20], true, 0, 2),
            (form(&[("ids", &[&id(3), &id(2)]), ("with", &["carol@localhost"])]), vec![2], true, 0, 1),
            (form(&[("ids", &[])]), span(0..10), false, 0, 30),
            (form(&[("with", &[]), ("start", &[])]), span(0..10), false, 0, 30),
            (field("include-groupchat", "true"), span(0..10), false, 0, 30),
            (field("include-groupchat", "0"), span(0..10), false, 0, 30),
        ];
        for (content, wanted, complete, index, count) in cases {
            let page = alice.page(&content).await;
            assert_eq!(page.bodies(), bodies(wanted.into_iter()), "{content}");
            assert_eq!(page.complete, complete, "complete of {content}");
            assert_eq!(page.count, Some(count), "count of {content}");
            if let Some((first, last)) = &page.edges {
                assert_eq!(page.index, Some(index), "index of {content}");
                assert_eq!(*first, page.saved[0].id, "{content}");
                assert_eq!(*last, page.saved[page.saved.len() - 1].id, "{content}");
                for saved in &page.saved {
                    assert!(all.contains(saved), "{content}");
                }
            }
            // Flipped, the same page comes in the other order, with the same edges.
            let mut flipped = alice.page(&format!("{content}<flip-page/>")).await;
            flipped.saved.reverse();
            assert_eq!(flipped.saved, page.saved, "flipped: {content}");
            assert_eq!(flipped.edges, page.edges, "flipped: {content}");
            assert_eq!((flipped.complete, flipped.index), (page.complete, page.index), "flipped: {content}");
        }
    });
}

#[test]
fn walks_in_both_directions_give_each_message_once() {
    run(async {
        let server = server();
        let (mut alice, _bob) = conversation(&server).await;
        let filters = [
            (String::new(), bodies(0..COUNT)),
            (form(&[("with", &["bob@localhost"])]), bodies((0..COUNT).filter(|i| i % 3 != 2))),
            (form(&[("with", &["bob@localhost/laptop"])]), bodies((1..COUNT).step_by(3))),
        ];
        for (filter, wanted) in filters {
            for max in [1, 3, 7, 10] {
                let (mut forwards, mut backwards) = (Vec::new(), Vec::new());
                let mut at = "<after/>".to_owned();
                loop {
                    let page =
                        alice.page(&format!("{filter}{}", rsm(&format!("<max>{max}</max>{at}")))).await;
                    forwards.extend(page.bodies());
                    let Some((_, last)) = page.edges.filter(|_| !page.complete) else { break };
                    at = format!("<after>{last}</after>");
                }
                at = "<before/>".to_owned();
                loop {
                    let page =
                        alice.page(&format!("{filter}{}", rsm(&format!("<max>{max}</max>{at}")))).await;
                    backwards.splice(0..0, page.bodies());
                    let Some((first, _)) = page.edges.filter(|_| !page.complete) else { break };
                    at = format!("<before>{first}</before>");
                }
                assert_eq!(forwards, wanted, "forwards by {max}: {filter}");
                assert_eq!(backwards, wanted, "backwards by {max}: {filter}");
            }
        }
    });
}

#[test]
fn refusals() {
    run(async {
        let server = server();
        let (mut alice, mut bob) = conversation(&server).await;
        let mine = alice.archive().await[3].id.clone();
        let foreign = bob.archive().await[0].id.clone();
        let unknown = "00000000000000000000000000";
        let long = "x".repeat(2000);
        let field = |var: &str, value: &str| form(&[(var, &[value])]);
        let x = |type_: &str, inner: &str| format!("<x xmlns='jabber:x:data' type='{type_}'>{inner}</x>");
        let mam = format!("<field var='FORM_TYPE'><value>{MAM}</value></field>");
        let mut cases = vec![
            (field("unknown", "1"), "feature-not-implemented"),
            (field("{urn:xmpp:fulltext:0}fulltext", "word"), "feature-not-implemented"),
            (x("submit", ""), "bad-request"),
            (x("submit", "<field var='with'><value>bob@localhost</value></field>"), "bad-request"),
            (x("submit", &mam.replace("mam:2", "mam:1")), "bad-request"),
            (x("submit", &format!("{mam}{mam}")), "bad-request"),
            (x("submit", &format!("{mam}<field><value>1</value></field>")), "bad-request"),
            (x("form", &mam), "bad-request"),
            (x("cancel", &mam), "bad-request"),
            (form(&[]) + &form(&[]), "bad-request"),
            (rsm("") + &rsm(""), "bad-request"),
            (form(&[("with", &["a@b", "c@d"])]), "bad-request"),
            (form(&[("with", &["a@b"]), ("with", &["a@b"])]), "bad-request"),
            (field("with", ""), "bad-request"),
            (field("with", "@"), "bad-request"),
            (field("with", "a@b@c"), "bad-request"),
            (field("with", &format!("{long}@x")), "bad-request"),
            (field("include-groupchat", "perhaps"), "bad-request"),
        ];
        for date in [
            "",
            "yesterday",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-11-22 10:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-11-22T25:00:00Z",
            "2026-11-22T10:00:00.Z",
            "20261122T10:00:00Z",
            "2026-11-22T10:00:00+0100",
            "99999-01-01T00:00:00Z",
            "1700000000",
        ] {
            cases.push((field("start", date), "bad-request"));
            cases.push((field("end", date), "bad-request"));
        }
        for number in ["", "-1", "ten", "1.5", "0x10", "1e3", "\u{661}"] {
            cases.push((rsm(&format!("<max>{number}</max>")), "bad-request"));
            cases.push((rsm(&format!("<index>{number}</index>")), "bad-request"));
        }
        cases.push((rsm("<max>1</max><max>1</max>"), "bad-request"));
        cases.push((rsm("<before/><after/>"), "bad-request"));
        cases.push((rsm("<before/><index>1</index>"), "bad-request"));
        // A cursor that is dead is said to be, wherever it stands and whatever else is asked.
        for id in [unknown, "not base32!", &foreign, &long] {
            for content in [
                rsm(&format!("<after>{id}</after>")),
                rsm(&format!("<before>{id}</before>")),
                rsm(&format!("<max>0</max><after>{id}</after>")),
                field("after-id", id),
                field("before-id", id),
                field("ids", id),
                form(&[("ids", &[&mine, id])]),
                form(&[("with", &["nobody@example.org"]), ("after-id", &[id])]),
                form(&[("with", &["nobody@example.org"])]) + &rsm(&format!("<after>{id}</after>")),
                form(&[("end", &["1970-01-01T00:00:00Z"])]) + &rsm(&format!("<before>{id}</before>")),
            ] {
                cases.push((content, "item-not-found"));
            }
        }
        for (content, condition) in &cases {
            assert_eq!(alice.refused(content).await, *condition, "{content:.300}");
        }
        let answer = alice.ask("set", None, &format!("<query xmlns='{MAM}' node='blog'/>")).await;
        assert_eq!(answer.condition(), "feature-not-implemented");
        let many: Vec<String> = (0..1001).map(|_| mine.clone()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(alice.refused(&form(&[("ids", &many)])).await, "policy-violation");
        // After all that the archive still answers.
        assert_eq!(alice.archive().await.len(), COUNT);
    });
}

#[test]
fn nobody_reads_anothers_archive() {
    run(async {
        let server = server();
        let (_alice, mut bob) = conversation(&server).await;
        let payloads = [
            ("set", query("")),
            ("set", query(&form(&[("with", &["bob@localhost"])]))),
            ("get", format!("<query xmlns='{MAM}'/>")),
            ("get", format!("<metadata xmlns='{MAM}'/>")),
            ("get", format!("<prefs xmlns='{MAM}'/>")),
            ("set", format!("<prefs xmlns='{MAM}' default='never'/>")),
            ("set", "<trim xmlns='urn:xmpp:mamtrim:0'/>".to_owned()),
        ];
        // Whether there is such an account, the answer does not say.
        for to in ["alice@localhost", "carol@localhost", "nobody@localhost", "localhost"] {
            for (type_, payload) in &payloads {
                assert_eq!(bob.error(type_, Some(to), payload).await, "forbidden", "{to} {payload}");
            }
        }
        let (type_, payload) = &payloads[0];
        assert_eq!(bob.error(type_, Some("alice@example.org"), payload).await, "remote-server-not-found");
        assert_eq!(bob.error(type_, Some("alice@localhost/gone"), payload).await, "service-unavailable");
        assert_eq!(bob.error(type_, Some("@"), payload).await, "jid-malformed");
        let mut alice = server.client("alice", "tablet").await;
        assert_eq!(alice.archive().await.len(), COUNT, "nothing was trimmed");
        // Somebody else's request in one's own name changes nothing either: one's own archive is what it names.
        assert_eq!(bob.archive().await.len(), 2 * COUNT / 3);
    });
}

#[test]
fn metadata_tells_the_ends() {
    run(async {
        let server = server();
        let mut carol = server.client("carol", "phone").await;
        let ask = format!("<metadata xmlns='{MAM}'/>");
        let answer = carol.result("get", None, &ask).await;
        assert_eq!(answer.child(MAM, "metadata").children().count(), 0, "an empty archive has no ends");
        assert_eq!(carol.error("set", None, &ask).await, "bad-request");
        let page = carol.page("").await;
        assert!(page.complete && page.saved.is_empty() && page.count == Some(0));

        let (mut alice, _bob) = conversation(&server).await;
        let all = alice.archive().await;
        let answer = alice.result("get", Some("alice@localhost"), &ask).await;
        let metadata = answer.child(MAM, "metadata");
        for (name, saved) in [("start", &all[0]), ("end", &all[COUNT - 1])] {
            let end = metadata.child(MAM, name);
            assert_eq!(end.attr("id"), Some(saved.id.as_str()));
            assert_eq!(end.attr("timestamp"), Some(saved.stamp.as_str()));
        }
    });
}

#[test]
fn a_query_sees_what_its_own_session_has_sent() {
    run(async {
        let server = server();
        let mut alice = server.login("alice", "phone").await;
        for i in 0..8 {
            // In one write: the query follows the message at once.
            let last = query(&rsm("<max>1</max><before/>"));
            alice
                .send(&format!(
                    "<message to='bob@localhost' id='m{i}' type='chat'><body>{i}</body></message>\
                     <iq type='set' id='i{i}'>{last}</iq>"
                ))
                .await;
            assert_eq!(alice.answer(&format!("i{i}")).await.type_(), "result");
            let results = alice.take_early(|stanza| stanza.find(MAM, "result").is_some());
            let forwarded = results[0].child(MAM, "result").child("urn:xmpp:forward:0", "forwarded");
            assert_eq!(forwarded.child("jabber:client", "message").body(), Some(i.to_string()));
        }
    });
}

#[test]
fn ids_say_nothing_to_those_who_lack_the_key() {
    run(async {
        let server = server();
        let (mut alice, _bob) = conversation(&server).await;
        let ids: Vec<String> = alice.archive().await.into_iter().map(|saved| saved.id).collect();
        assert!(!ids.is_sorted() && !ids.iter().rev().is_sorted(), "ids do not tell the order");
        let first: std::collections::HashSet<&str> = ids.iter().map(|id| &id[..2]).collect();
        assert!(first.len() > COUNT / 3, "ids have no common start: {ids:?}");
    });
}
