//! The smaller protocols: prefs, carbons, discovery and rosters, as tables of what comes in and what goes out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use mammoth_archive::jid::{BareJid, FullJid, Jid};
use mammoth_archive::{DefaultPolicy, Prefs, StanzaId};
use mammoth_wire::carbons::{self, Side, Switch, copied};
use mammoth_wire::disco::{self, Identity};
use mammoth_wire::element::element;
use mammoth_wire::eligible::Direction::{Incoming, Outgoing};
use mammoth_wire::iq::{self, Iq, Verb};
use mammoth_wire::roster::{self, Contact, Item, RosterRequest};
use mammoth_wire::stanza::Stanza;
use mammoth_wire::{ns, prefs, stanza_id};

fn read_prefs(attrs: &str, inner: &str) -> Result<Prefs, &'static str> {
    let xml = format!("<prefs xmlns='urn:xmpp:mam:2' {attrs}>{inner}</prefs>");
    prefs::read(&element(xml.as_bytes()).unwrap()).map_err(|error| error.condition)
}

#[test]
fn prefs_that_are_set() {
    let jids = |list: &[&str]| list.iter().map(|jid| Jid::new(jid).unwrap()).collect::<Vec<_>>();
    let inner =
        "<always><jid>Romeo@Example.org</jid><jid> a@x/Y </jid></always><never><jid>b@x</jid></never>";
    let expected = Prefs::new(DefaultPolicy::Roster, jids(&["romeo@example.org", "a@x/Y"]), jids(&["b@x"]));
    assert_eq!(read_prefs("default='roster'", inner), Ok(expected));
    assert_eq!(read_prefs("default='never'", ""), Ok(Prefs::new(DefaultPolicy::Never, [], [])));
    assert_eq!(
        read_prefs(
            "default='always'",
            "<always/><never><jid xmlns='urn:other'>@</jid></never><x xmlns='urn:x'/>"
        ),
        Ok(Prefs::new(DefaultPolicy::Always, [], []))
    );
}

#[test]
fn prefs_that_are_refused() {
    let many = format!("<always>{}</always>", "<jid>a@b</jid>".repeat(prefs::PREFS_JIDS_MAX + 1));
    let cases = [
        ("", "", "bad-request"),
        ("default=''", "", "bad-request"),
        ("default='Always'", "", "bad-request"),
        ("default='sometimes'", "<always><jid>@</jid></always>", "bad-request"),
        ("default='always'", "<always/><always/>", "bad-request"),
        ("default='always'", "<never/><never/>", "bad-request"),
        ("default='always'", "<always><jid>@x</jid></always>", "jid-malformed"),
        ("default='always'", "<never><jid/></never>", "jid-malformed"),
        ("default='always'", &many, "policy-violation"),
    ];
    for (attrs, inner, condition) in cases {
        assert_eq!(read_prefs(attrs, inner), Err(condition), "{attrs} {inner:.60}");
    }
}

#[test]
fn prefs_are_shown_as_they_apply() {
    assert_eq!(
        prefs::write(&Prefs::default()),
        "<prefs xmlns='urn:xmpp:mam:2' default='always'><always/><never/></prefs>"
    );
    let both = read_prefs(
        "default='never'",
        "<always><jid>a@x</jid><jid>b@x/1 &amp; 2</jid></always><never><jid>A@X</jid></never>",
    );
    assert_eq!(
        prefs::write(&both.unwrap()),
        "<prefs xmlns='urn:xmpp:mam:2' default='never'><always><jid>b@x/1 &amp; 2</jid></always>\
         <never><jid>a@x</jid></never></prefs>"
    );
}

const BODY: &str = "<body>hello</body>";
const ROOM: &str = "<x xmlns='http://jabber.org/protocol/muc#user'/>";
const ERROR: &str = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";

#[test]
fn messages_that_are_copied() {
    // attributes, children, copied when received, copied when sent
    let cases: &[(&str, &[&str], bool, bool)] = &[
        ("type='chat'", &[BODY], true, true),
        ("type='chat'", &[], true, true),
        ("type='normal'", &[BODY], true, true),
        ("", &[BODY], true, true),
        ("type='odd'", &[BODY], true, true),
        ("", &[], false, false),
        ("", &["<thread>t</thread>"], false, false),
        ("", &["<composing xmlns='http://jabber.org/protocol/chatstates'/>"], true, true),
        ("", &["<received xmlns='urn:xmpp:receipts' id='m'/>"], true, true),
        ("", &["<displayed xmlns='urn:xmpp:chat-markers:0' id='m'/>"], true, true),
        ("", &["<x xmlns='jabber:x:conference' jid='r@muc'/>"], true, true),
        ("", &["<propose xmlns='urn:xmpp:jingle-message:0' id='c'/>"], true, true),
        ("", &["<encryption xmlns='urn:xmpp:eme:0'/>"], true, true),
        ("type='headline'", &[BODY], false, false),
        ("type='groupchat'", &[BODY], false, false),
        ("type='chat'", &[BODY, "<private xmlns='urn:xmpp:carbons:2'/>"], false, false),
        ("type='chat'", &[BODY, "<no-copy xmlns='urn:xmpp:hints'/>"], false, false),
        ("type='chat'", &[BODY, "<no-store xmlns='urn:xmpp:hints'/>"], true, true),
        // Errors: what came back to the user, not what the user's client sends.
        ("type='error' id='m'", &[ERROR], true, false),
        ("type='error' id='m'", &[BODY], false, false),
        // Rooms: their private messages reach each client by themselves; invitations do not.
        ("type='chat' from='r@muc/nick'", &[BODY, ROOM], false, true),
        (
            "from='r@muc'",
            &["<x xmlns='http://jabber.org/protocol/muc#user'><invite from='b@x'/></x>"],
            true,
            true,
        ),
        (
            "from='r@muc'",
            &["<x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x>"],
            false,
            false,
        ),
        // A copy is not copied again.
        ("type='chat'", &["<sent xmlns='urn:xmpp:carbons:2'/>", BODY], false, false),
        ("type='chat'", &["<received xmlns='urn:xmpp:carbons:2'/>", BODY], false, false),
    ];
    for (attrs, children, received, sent) in cases {
        let message = Stanza::parse(format!("<message {attrs}>{}</message>", children.concat())).unwrap();
        assert_eq!(copied(&message, Incoming), *received, "received: {attrs} {children:?}");
        assert_eq!(copied(&message, Outgoing), *sent, "sent: {attrs} {children:?}");
    }
    let presence = Stanza::parse("<presence type='chat'/>").unwrap();
    assert!(!copied(&presence, Incoming));
}

#[test]
fn a_copy_holds_the_message_as_it_was() {
    let owner = BareJid::new("alice@example.org").unwrap();
    let to = FullJid::new("alice@example.org/o'pad").unwrap();
    let message = Stanza::parse(
        "<message xmlns='jabber:client' type=\"chat\" from='bob@x/1' to='alice@example.org'>\
         <body>&#128512; <![CDATA[<]]></body></message>",
    )
    .unwrap();
    let id = StanzaId::new("i1").unwrap();
    let stamped = message.rewrite().append(stanza_id::element(&owner, &id)).finish_stanza().unwrap();
    for (side, name) in [(Side::Received, "received"), (Side::Sent, "sent")] {
        let copy = Stanza::parse(carbons::write(side, stamped.raw(), stamped.type_(), &owner, &to)).unwrap();
        assert_eq!((copy.attr("from"), copy.attr("to")), (Some(owner.as_str()), Some(to.as_str())));
        assert_eq!(copy.type_(), Some("chat"));
        assert!(copy.raw().windows(stamped.raw().len()).any(|window| window == &stamped.raw()[..]));
        let tree = copy.child(ns::CARBONS, name).unwrap().element().unwrap();
        let inner =
            tree.get_child("forwarded", ns::FORWARD).unwrap().get_child("message", ns::CLIENT).unwrap();
        assert_eq!(inner.get_child("stanza-id", ns::SID).unwrap().attr("id"), Some("i1"));
        assert!(!copied(&copy, Incoming), "a copy is not copied");
    }
}

#[test]
fn the_switch_of_carbons() {
    let switch = |xml: &str| {
        let stanza = Stanza::parse(xml.to_owned()).unwrap();
        match iq::read(&stanza).unwrap() {
            Iq::Request(request) => carbons::read(&request),
            _ => None,
        }
    };
    assert_eq!(
        switch("<iq type='set' id='1'><enable xmlns='urn:xmpp:carbons:2'/></iq>"),
        Some(Switch::Enable)
    );
    assert_eq!(
        switch("<iq type='set' id='1'><disable xmlns='urn:xmpp:carbons:2'/></iq>"),
        Some(Switch::Disable)
    );
    assert_eq!(switch("<iq type='get' id='1'><enable xmlns='urn:xmpp:carbons:2'/></iq>"), None);
    assert_eq!(switch("<iq type='set' id='1'><enable xmlns='urn:xmpp:carbons:1'/></iq>"), None);
}

#[test]
fn what_discovery_answers() {
    let features = [disco::DISCO, disco::ARCHIVE, disco::STANZA_IDS].concat();
    let info = disco::write_info(&[Identity::server("Mammoth & co"), Identity::account()], features);
    let query = element(info.as_bytes()).unwrap();
    assert!(query.is("query", ns::DISCO_INFO));
    let identities: Vec<_> = query
        .children()
        .filter(|c| c.name() == "identity")
        .map(|i| (i.attr("category"), i.attr("name")))
        .collect();
    assert_eq!(identities, [(Some("server"), Some("Mammoth & co")), (Some("account"), None)]);
    let vars: Vec<_> =
        query.children().filter(|c| c.name() == "feature").map(|f| f.attr("var").unwrap()).collect();
    assert_eq!(
        vars,
        [
            "http://jabber.org/protocol/disco#info",
            "http://jabber.org/protocol/disco#items",
            "urn:xmpp:mam:2",
            "urn:xmpp:mam:2#extended",
            "urn:xmpp:mam:2#groupchat-field",
            "urn:xmpp:sid:0",
        ],
        "each once, in order"
    );
    assert_eq!(
        disco::write_items([("a@x", Some("A")), ("b@x", None)]),
        "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='a@x' name='A'/><item jid='b@x'/></query>"
    );
    let node = element(b"<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>").unwrap();
    assert_eq!(disco::node(&node), Some("n"));
}

fn read_roster(inner: &str) -> Result<RosterRequest, &'static str> {
    let xml = format!("<query xmlns='jabber:iq:roster'>{inner}</query>");
    roster::read(Verb::Set, &element(xml.as_bytes()).unwrap()).map_err(|error| error.condition)
}

#[test]
fn rosters_asked_for_and_changed() {
    let bob = BareJid::new("bob@example.org").unwrap();
    let query = element(b"<query xmlns='jabber:iq:roster' ver=''/>").unwrap();
    assert_eq!(roster::read(Verb::Get, &query), Ok(RosterRequest::Get));
    let contact = |name: Option<&str>, groups: &[&str]| {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Ok(RosterRequest::Update(Contact { jid: bob.clone(), name: name.map(str::to_owned), groups }))
    };
    assert_eq!(read_roster("<item jid='Bob@example.org'/>"), contact(None, &[]));
    assert_eq!(
        read_roster(
            "<item jid='bob@example.org/x' name='B &amp; B' subscription='both' ask='subscribe'><group>b</group><group>a</group></item>"
        ),
        contact(Some("B & B"), &["b", "a"])
    );
    assert_eq!(read_roster("<item jid='bob@example.org' name=''/>"), contact(None, &[]));
    assert_eq!(
        read_roster("<item jid='bob@example.org' subscription='remove'/>"),
        Ok(RosterRequest::Remove(bob.clone()))
    );
}

#[test]
fn roster_changes_that_are_refused() {
    let cases = [
        ("", "bad-request"),
        ("<item jid='a@x'/><item jid='b@x'/>", "bad-request"),
        ("<item name='a'/>", "bad-request"),
        ("<item jid='@x'/>", "jid-malformed"),
        ("<item jid=''/>", "jid-malformed"),
        ("<item jid='a@x'><group/></item>", "not-acceptable"),
        ("<item jid='a@x'><group>g</group><group>g</group></item>", "bad-request"),
    ];
    for (inner, condition) in cases {
        assert_eq!(read_roster(inner), Err(condition), "{inner}");
    }
}

#[test]
fn a_roster_is_written() {
    let (a, b) = (BareJid::new("a@x").unwrap(), BareJid::new("b@x").unwrap());
    let groups = ["one & two".to_owned(), "three".to_owned()];
    let items = [
        Item { jid: &a, name: None, subscription: "none", ask: true, groups: &[] },
        Item { jid: &b, name: Some("B'"), subscription: "both", ask: false, groups: &groups },
    ];
    assert_eq!(
        roster::write(items),
        "<query xmlns='jabber:iq:roster'><item jid='a@x' subscription='none' ask='subscribe'/>\
         <item jid='b@x' name='B&apos;' subscription='both'><group>one &amp; two</group><group>three</group></item></query>"
    );
}

#[test]
fn every_reason_is_documented() {
    use mammoth_wire::eligible::{Dropped, Kept};
    let docs = include_str!("../../../docs/xeps.md");
    let codes = Kept::ALL.iter().map(|why| why.code()).chain(Dropped::ALL.iter().map(|why| why.code()));
    for code in codes.filter(|code| *code != Dropped::NotAMessage.code()) {
        assert!(docs.contains(&format!("`{code}`")), "docs/xeps.md does not say what {code} means");
    }
    assert!(docs.contains(&format!("{} JIDs", prefs::PREFS_JIDS_MAX)));
}
