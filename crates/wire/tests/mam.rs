//! Message archives on the wire: what clients send and what they get, as bytes, against the archive itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mammoth_archive::archive::Arrival;
use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{
    Archive, ArchiveError, Entry, Filter, Limits, MemoryStore, Metadata, Page, PageRequest, PageStart, Query,
    StanzaId, Timestamp,
};
use mammoth_wire::element::element;
use mammoth_wire::mam::{MamQuery, read_query, write_fin, write_form, write_metadata, write_results};
use mammoth_wire::ns;
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stanza_error::StanzaError;

const FORM_TYPE: &str = "<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>";

fn query(attrs: &str, inner: &str) -> Result<MamQuery, StanzaError> {
    let xml = format!("<query xmlns='urn:xmpp:mam:2' {attrs}>{inner}</query>");
    read_query(&element(xml.as_bytes()).unwrap())
}

fn form(fields: &str) -> Result<MamQuery, StanzaError> {
    query("", &format!("<x xmlns='jabber:x:data' type='submit'>{FORM_TYPE}{fields}</x>"))
}

fn set(inner: &str) -> Result<MamQuery, StanzaError> {
    query("", &format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>"))
}

fn id(text: &str) -> StanzaId {
    StanzaId::new(text).unwrap()
}

fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

/// The query that asks for everything, changed a little.
fn expected(change: impl FnOnce(&mut MamQuery)) -> Result<MamQuery, StanzaError> {
    let page = PageRequest { max: usize::MAX, start: PageStart::First };
    let mut query = MamQuery {
        queryid: None,
        query: Query { filter: Filter::default(), page },
        flip: false,
        include_groupchat: None,
    };
    change(&mut query);
    Ok(query)
}

#[test]
fn queries_as_clients_send_them() {
    assert_eq!(query("", ""), expected(|_| ()));
    assert_eq!(query("queryid='f&amp;27'", ""), expected(|q| q.queryid = Some("f&27".into())));
    assert_eq!(query("queryid=''", ""), expected(|q| q.queryid = Some(String::new())));
    assert_eq!(query("", "<flip-page/>"), expected(|q| q.flip = true));
    assert_eq!(query("", "<flip-page xmlns='urn:other'/><unknown xmlns='urn:x'/>"), expected(|_| ()));
    assert_eq!(form(""), expected(|_| ()));
    assert_eq!(
        form("<field var='with'><value>Juliet@Example.ORG</value></field>"),
        expected(|q| q.query.filter.with = Some(jid("juliet@example.org")))
    );
    assert_eq!(
        form("<field var='with' type='jid-single'><value>room@muc.example/Nick Name</value></field>"),
        expected(|q| q.query.filter.with = Some(jid("room@muc.example/Nick Name")))
    );
    assert_eq!(
        form(
            "<field var='start'><value>1970-01-01T01:00:00.0000005+01:00</value></field>\
             <field var='end'><value>1970-01-01T00:00:01.0000005Z</value></field>"
        ),
        expected(|q| {
            q.query.filter.start = Some(Timestamp(1));
            q.query.filter.end = Some(Timestamp(1_000_000));
        })
    );
    assert_eq!(
        form("<field var='after-id'><value>a</value></field><field var='before-id'><value>b</value></field>"),
        expected(|q| (q.query.filter.after, q.query.filter.before) = (Some(id("a")), Some(id("b"))))
    );
    assert_eq!(
        form("<field var='ids'><value>a</value><value>b</value><value>a</value></field>"),
        expected(|q| q.query.filter.ids = Some(vec![id("a"), id("b"), id("a")]))
    );
    for (text, wanted) in [("true", true), ("1", true), ("false", false), ("0", false)] {
        assert_eq!(
            form(&format!("<field var='include-groupchat'><value>{text}</value></field>")),
            expected(|q| q.include_groupchat = Some(wanted))
        );
    }
    let page = |max, start| move |q: &mut MamQuery| q.query.page = PageRequest { max, start };
    assert_eq!(set("<max>10</max>"), expected(page(10, PageStart::First)));
    assert_eq!(set("<max>10</max><after>a</after>"), expected(page(10, PageStart::After(id("a")))));
    assert_eq!(set("<max>10</max><before/>"), expected(page(10, PageStart::Last)));
    assert_eq!(set("<max>0</max>"), expected(page(0, PageStart::First)));
    assert_eq!(set("<index>7</index>"), expected(page(usize::MAX, PageStart::Index(7))));
    let newest_of_a_gap = format!(
        "<x xmlns='jabber:x:data' type='submit'>{FORM_TYPE}<field var='after-id'><value>a</value></field></x>\
         <set xmlns='http://jabber.org/protocol/rsm'><before/></set><flip-page/>"
    );
    assert_eq!(
        query("", &newest_of_a_gap),
        expected(|q| {
            q.query.filter.after = Some(id("a"));
            q.query.page.start = PageStart::Last;
            q.flip = true;
        })
    );
}

#[test]
fn fields_that_are_left_blank_filter_nothing() {
    for var in ["with", "start", "end", "before-id", "after-id", "ids", "include-groupchat"] {
        assert_eq!(form(&format!("<field var='{var}'/>")), expected(|_| ()), "{var}");
    }
}

#[test]
fn queries_that_are_refused() {
    let long = "x".repeat(2000);
    let field = |var: &str, value: &str| form(&format!("<field var='{var}'><value>{value}</value></field>"));
    let x = |attrs: &str, inner: &str| query("", &format!("<x xmlns='jabber:x:data' {attrs}>{inner}</x>"));
    let cases = [
        ("an unknown field", field("colour", "red"), "feature-not-implemented"),
        ("an unknown field, left blank", form("<field var='colour'/>"), "feature-not-implemented"),
        ("a search that we lack", field("{urn:xmpp:fulltext:0}fulltext", "x"), "feature-not-implemented"),
        ("a node", query("node='urn:xmpp:microblog:0'", ""), "feature-not-implemented"),
        ("no FORM_TYPE", x("type='submit'", "<field var='with'><value>a@b</value></field>"), "bad-request"),
        (
            "another FORM_TYPE",
            x("type='submit'", "<field var='FORM_TYPE'><value>urn:xmpp:mam:1</value></field>"),
            "bad-request",
        ),
        ("a form not submitted", x("type='form'", FORM_TYPE), "bad-request"),
        ("a form cancelled", x("type='cancel'", ""), "bad-request"),
        ("a form without a type", x("", FORM_TYPE), "bad-request"),
        ("two forms", query("", &"<x xmlns='jabber:x:data' type='submit'/>".repeat(2)), "bad-request"),
        ("two sets", query("", &"<set xmlns='http://jabber.org/protocol/rsm'/>".repeat(2)), "bad-request"),
        ("a field twice", form(&"<field var='with'><value>a@b</value></field>".repeat(2)), "bad-request"),
        ("a field without a name", form("<field><value>x</value></field>"), "bad-request"),
        ("two values", form("<field var='start'><value>x</value><value>y</value></field>"), "bad-request"),
        ("with: no JID", field("with", "@example.org"), "bad-request"),
        ("with: empty", field("with", ""), "bad-request"),
        ("with: too long", field("with", &long), "bad-request"),
        ("start: no date", field("start", "yesterday"), "bad-request"),
        ("start: empty", field("start", ""), "bad-request"),
        ("start: no zone", field("start", "2026-11-22T00:00:00"), "bad-request"),
        ("end: no such day", field("end", "2026-02-30T00:00:00Z"), "bad-request"),
        ("after-id: empty", field("after-id", ""), "item-not-found"),
        ("after-id: too long", field("after-id", &long), "item-not-found"),
        ("before-id: too long", field("before-id", &long), "item-not-found"),
        ("ids: one empty", form("<field var='ids'><value>a</value><value/></field>"), "item-not-found"),
        ("ids: one too long", field("ids", &long), "item-not-found"),
        ("include-groupchat: neither", field("include-groupchat", "yes"), "bad-request"),
        ("include-groupchat: empty", field("include-groupchat", ""), "bad-request"),
        ("max: no number", set("<max>many</max>"), "bad-request"),
        ("index: negative", set("<index>-1</index>"), "bad-request"),
        ("before and after", set("<before>a</before><after>b</after>"), "bad-request"),
        ("after: too long", set(&format!("<after>{long}</after>")), "item-not-found"),
    ];
    for (what, result, condition) in cases {
        assert_eq!(result.expect_err(what).condition, condition, "{what}");
    }
}

#[test]
fn the_form_shows_every_field_and_requires_none() {
    let query = element(write_form().as_bytes()).unwrap();
    let form = query.get_child("x", ns::DATA_FORMS).unwrap();
    assert_eq!(form.attr("type"), Some("form"));
    let fields: Vec<_> = form.children().map(|f| (f.attr("var").unwrap(), f.attr("type").unwrap())).collect();
    assert_eq!(
        fields,
        [
            ("FORM_TYPE", "hidden"),
            ("with", "jid-single"),
            ("start", "text-single"),
            ("end", "text-single"),
            ("before-id", "text-single"),
            ("after-id", "text-single"),
            ("ids", "list-multi"),
            ("include-groupchat", "boolean"),
        ]
    );
    assert!(form.children().all(|field| !field.has_child("required", ns::DATA_FORMS)));
    // The form, submitted as it is, is the query for everything.
    let submitted = write_form().replace("type='form'", "type='submit'");
    assert_eq!(read_query(&element(submitted.as_bytes()).unwrap()), expected(|_| ()));
}

fn entry(id: &str, micros: i64, stanza: &str) -> Entry {
    Entry {
        id: StanzaId::new(id).unwrap(),
        with: jid("bob@example.org/desk"),
        stamp: Timestamp(micros),
        stanza: Bytes::copy_from_slice(stanza.as_bytes()),
        retracted: false,
    }
}

#[test]
fn results_carry_the_stored_bytes() {
    let first = "<message xmlns='jabber:client' from='bob@example.org/desk'><body>1</body></message>";
    // Nobody looks inside: what is stored comes back, whatever it is.
    let second =
        "<message xmlns=\"jabber:client\"\n><z:odd xmlns:z='urn:z' z:a = '&#10;'/><![CDATA[<]]></message>";
    let page = Page {
        entries: vec![entry("id1", 0, first), entry("i'd2", 1, second)],
        count: 9,
        index: 3,
        complete: false,
    };
    let (from, to) = (jid("alice@example.org"), jid("alice@example.org/o'phone"));
    let results = write_results(&page, Some("q<1>"), &from, &to, false);
    assert_eq!(
        results[0],
        format!(
            "<message xmlns='jabber:client' from='alice@example.org' to='alice@example.org/o&apos;phone'>\
             <result xmlns='urn:xmpp:mam:2' queryid='q&lt;1&gt;' id='id1'><forwarded xmlns='urn:xmpp:forward:0'>\
             <delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:00.000000Z'/>{first}</forwarded></result></message>"
        )
    );
    let flipped = write_results(&page, Some("q<1>"), &from, &to, true);
    assert_eq!([&flipped[1], &flipped[0]], [&results[0], &results[1]]);

    for (result, entry) in results.iter().zip(&page.entries) {
        let message = Stanza::parse(result.clone()).unwrap();
        assert_eq!((message.from().unwrap(), message.to().unwrap()), (Some(from.clone()), Some(to.clone())));
        let result = message.child(ns::MAM, "result").unwrap();
        assert_eq!((result.attr("id"), result.attr("queryid")), (Some(entry.id.as_str()), Some("q<1>")));
        let tree = result.element().unwrap();
        let forwarded = tree.get_child("forwarded", ns::FORWARD).unwrap();
        assert_eq!(forwarded.children().count(), 2);
        assert!(forwarded.has_child("message", ns::CLIENT));
        assert!(message.raw().windows(entry.stanza.len()).any(|window| window == &entry.stanza[..]));
    }
    let without = write_results(&page, None, &from, &to, false);
    assert!(!std::str::from_utf8(&without[0]).unwrap().contains("queryid"));
}

#[test]
fn the_end_of_a_page() {
    let page = |ids: &[&str], count, index, complete| Page {
        entries: ids.iter().map(|id| entry(id, 0, "<message xmlns='jabber:client'/>")).collect(),
        count,
        index,
        complete,
    };
    let set = |inner: &str| format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set></fin>");
    let cases = [
        (
            page(&["a", "b", "c"], 7, 2, false),
            "<fin xmlns='urn:xmpp:mam:2'>",
            "<first index='2'>a</first><last>c</last><count>7</count>",
        ),
        (
            page(&["a"], 1, 0, true),
            "<fin xmlns='urn:xmpp:mam:2' complete='true'>",
            "<first index='0'>a</first><last>a</last><count>1</count>",
        ),
        (page(&[], 0, 0, true), "<fin xmlns='urn:xmpp:mam:2' complete='true'>", "<count>0</count>"),
        (page(&[], 7, 0, false), "<fin xmlns='urn:xmpp:mam:2'>", "<count>7</count>"),
    ];
    for (page, open, inner) in cases {
        assert_eq!(write_fin(&page), format!("{open}{}", set(inner)));
    }
}

#[test]
fn the_ends_of_an_archive() {
    assert_eq!(write_metadata(None), "<metadata xmlns='urn:xmpp:mam:2'/>");
    let metadata = Metadata { start: (id("a"), Timestamp(0)), end: (id("b"), Timestamp(1_500_000)) };
    assert_eq!(
        write_metadata(Some(&metadata)),
        "<metadata xmlns='urn:xmpp:mam:2'><start id='a' timestamp='1970-01-01T00:00:00.000000Z'/>\
         <end id='b' timestamp='1970-01-01T00:00:01.500000Z'/></metadata>"
    );
}

/// The memory store never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store waited"),
    }
}

/// An archive of `count` messages, a second apart, and their published ids and stamps.
fn archive(owner: &BareJid, count: i64) -> (Archive, Vec<(StanzaId, Timestamp)>) {
    let store = Arc::new(MemoryStore::new(mammoth_archive::IdKey([7; 16])));
    let archive = now(Archive::open(store, Limits::default())).unwrap();
    let mint = archive.mint(owner);
    let mut published = Vec::new();
    for n in 0..count {
        let head = now(archive.store().head(owner)).unwrap();
        let arrival = Arrival {
            with: jid("bob@example.org/desk"),
            stanza: Bytes::from(format!("<message xmlns='jabber:client'><body>{n}</body></message>")),
            message_id: None,
        };
        let batch = Archive::prepare(&mint, head, Timestamp(n * 1_000_000), vec![arrival]);
        now(archive.append(owner, &batch)).unwrap();
        published.push((batch.ids[0].clone(), batch.stamp));
    }
    (archive, published)
}

#[test]
fn a_published_stamp_used_as_start_and_end_finds_its_message() {
    let owner = BareJid::new("alice@example.org").unwrap();
    let (archive, published) = archive(&owner, 5);
    let stamp = mammoth_wire::datetime::write(published[2].1);
    let asked = form(&format!(
        "<field var='start'><value>{stamp}</value></field><field var='end'><value>{stamp}</value></field>"
    ))
    .unwrap();
    let page = now(archive.page(&owner, asked.query)).unwrap();
    assert_eq!(page.entries.iter().map(|entry| &entry.id).collect::<Vec<_>>(), [&published[2].0]);
}

#[test]
fn a_dead_cursor_is_told_where_the_archive_starts() {
    let owner = BareJid::new("alice@example.org").unwrap();
    let (archive, published) = archive(&owner, 5);
    now(archive.trim(&owner, Some(&published[2].0))).unwrap();
    let ask = |inner: &str| now(archive.page(&owner, set(inner).unwrap().query)).unwrap_err();
    let expired = ask(&format!("<after>{}</after>", published[1].0));
    assert!(matches!(expired, ArchiveError::NotFound { expired: true, .. }));
    let foreign = ask("<before>nobody-gave-this</before>");
    assert!(matches!(foreign, ArchiveError::NotFound { expired: false, .. }));
    for error in [expired, foreign] {
        let error = StanzaError::from(&error);
        let xml = format!("<iq xmlns='jabber:client'>{}</iq>", error.to_xml());
        let error = element(xml.as_bytes()).unwrap().get_child("error", ns::CLIENT).unwrap().clone();
        assert_eq!(error.attr("type"), Some("cancel"));
        assert!(error.has_child("item-not-found", ns::STANZA_ERRORS));
        assert!(error.has_child("text", ns::STANZA_ERRORS));
        let start = error.get_child("archive", ns::MAMMOTH_ARCHIVE).unwrap().children().next().unwrap();
        assert!(start.is("start", ns::MAMMOTH_ARCHIVE));
        assert_eq!(start.attr("id"), Some(published[3].0.as_str()));
        assert_eq!(start.attr("timestamp"), Some("1970-01-01T00:00:03.000000Z"));
    }
    now(archive.trim(&owner, None)).unwrap();
    let error = StanzaError::from(ask(&format!("<after>{}</after>", published[4].0)));
    assert_eq!(error.app, "<archive xmlns='urn:mammoth:archive:0'/>");
}

#[test]
fn what_peers_hear_of_a_store_in_trouble() {
    use mammoth_archive::StoreError;
    let cases = [
        (StoreError::NotFound(mammoth_archive::Position(1)), "item-not-found", "cancel"),
        (StoreError::Conflict(mammoth_archive::Position(1)), "resource-constraint", "wait"),
        (StoreError::unavailable("secret"), "resource-constraint", "wait"),
        (StoreError::refused("secret"), "resource-constraint", "wait"),
        (StoreError::corrupt("secret"), "internal-server-error", "cancel"),
    ];
    for (error, condition, type_) in cases {
        let error = StanzaError::from(ArchiveError::Store(error));
        assert_eq!((error.condition, error.type_.name()), (condition, type_));
        assert!(!error.to_xml().contains("secret"), "no text of a library reaches a peer");
    }
    let error = StanzaError::from(ArchiveError::TooManyIds(3));
    assert_eq!(error.condition, "policy-violation");
}
