//! Which messages are worth keeping, as tables. The rules themselves are in eligible.rs.

use super::*;

fn message(attrs: &str, inner: &str) -> Stanza {
    Stanza::parse(format!("<message xmlns='jabber:client' {attrs}>{inner}</message>")).unwrap()
}

const BODY: &str = "<body>hello</body>";
const NO_STORE: &str = "<no-store xmlns='urn:xmpp:hints'/>";
const NO_PERMANENT_STORE: &str = "<no-permanent-store xmlns='urn:xmpp:hints'/>";
const STORE: &str = "<store xmlns='urn:xmpp:hints'/>";
const TYPING: &str = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
const RETRACT: &str = "<retract xmlns='urn:xmpp:message-retract:1' id='m1'/>";
const EVENT: &str = "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'/></event>";
const ERROR: &str = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";

/// One row per rule and reason: attributes, children, and what becomes of it on the way in.
fn rows() -> Vec<(&'static str, Vec<&'static str>, Eligible)> {
    use Dropped as D;
    use Eligible::{Drop, Keep};
    use Kept as K;
    vec![
        // By type.
        ("type='chat'", vec![BODY], Keep(K::Body)),
        ("type='normal'", vec![BODY], Keep(K::Body)),
        ("", vec![BODY], Keep(K::Body)),
        ("type='gibberish'", vec![BODY], Keep(K::Body)),
        ("type=''", vec![BODY], Keep(K::Body)),
        ("type='headline'", vec![BODY], Drop(D::Headline)),
        ("type='headline'", vec![BODY, STORE], Drop(D::Headline)),
        ("type='groupchat'", vec![BODY], Drop(D::Groupchat)),
        ("type='groupchat'", vec![BODY, STORE], Drop(D::Groupchat)),
        ("type='groupchat'", vec![RETRACT], Drop(D::Groupchat)),
        // Errors: only bounces, and hints in them count for nothing.
        ("type='error' id='m1'", vec![ERROR], Keep(K::Bounce)),
        ("type='error' id='m1'", vec![BODY, ERROR], Keep(K::Bounce)),
        ("type='error' id='m1'", vec![NO_STORE, ERROR], Keep(K::Bounce)),
        ("type='error' id='m1'", vec![BODY, STORE], Drop(D::ErrorEmpty)),
        ("type='error'", vec![ERROR, STORE], Drop(D::ErrorEmpty)),
        // Publish-subscribe.
        ("", vec![EVENT], Drop(D::Event)),
        ("type='chat'", vec![EVENT, BODY, STORE], Drop(D::Event)),
        // Retractions, before hints.
        ("type='chat'", vec![RETRACT], Keep(K::Retraction)),
        ("type='chat'", vec![RETRACT, BODY, NO_STORE], Keep(K::Retraction)),
        // Hints.
        ("type='chat'", vec![BODY, NO_STORE], Drop(D::NoStore)),
        ("type='chat'", vec![BODY, NO_PERMANENT_STORE], Drop(D::NoPermanentStore)),
        ("type='chat'", vec![BODY, STORE, NO_STORE], Drop(D::NoStore)),
        ("type='chat'", vec![BODY, STORE, NO_PERMANENT_STORE], Drop(D::NoPermanentStore)),
        ("type='chat'", vec![STORE], Keep(K::StoreHint)),
        ("type='chat'", vec![TYPING, STORE], Keep(K::StoreHint)),
        ("type='chat'", vec![BODY, "<no-copy xmlns='urn:xmpp:hints'/>"], Keep(K::Body)),
        ("type='chat'", vec![BODY, "<private xmlns='urn:xmpp:carbons:2'/>"], Keep(K::Body)),
        // Something to remember, without a body.
        ("", vec!["<subject>plans</subject>"], Keep(K::Subject)),
        ("", vec!["<subject>plans</subject>", "<thread>t</thread>"], Keep(K::Subject)),
        ("", vec!["<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:omemo:2'/>"], Keep(K::Encrypted)),
        ("", vec!["<encrypted xmlns='urn:xmpp:omemo:2'><header sid='1'/></encrypted>"], Keep(K::Encrypted)),
        ("", vec!["<encrypted xmlns='urn:xmpp:omemo:1'/>"], Keep(K::Encrypted)),
        ("", vec!["<encrypted xmlns='eu.siacs.conversations.axolotl'/>"], Keep(K::Encrypted)),
        ("", vec!["<openpgp xmlns='urn:xmpp:openpgp:0'>Zm9v</openpgp>"], Keep(K::Encrypted)),
        ("", vec!["<x xmlns='jabber:x:encrypted'>Zm9v</x>"], Keep(K::Encrypted)),
        ("", vec!["<received xmlns='urn:xmpp:receipts' id='m1'/>"], Keep(K::Receipt)),
        ("", vec!["<request xmlns='urn:xmpp:receipts'/>"], Drop(D::Nothing)),
        ("", vec!["<displayed xmlns='urn:xmpp:chat-markers:0' id='m1'/>"], Keep(K::Marker)),
        ("", vec!["<received xmlns='urn:xmpp:chat-markers:0' id='m1'/>"], Keep(K::Marker)),
        ("", vec!["<acknowledged xmlns='urn:xmpp:chat-markers:0' id='m1'/>"], Keep(K::Marker)),
        ("", vec!["<markable xmlns='urn:xmpp:chat-markers:0'/>"], Drop(D::Nothing)),
        ("", vec!["<reactions xmlns='urn:xmpp:reactions:0' id='m1'/>"], Keep(K::Reaction)),
        ("", vec!["<replace xmlns='urn:xmpp:message-correct:0' id='m1'/>"], Keep(K::Correction)),
        ("", vec!["<x xmlns='jabber:x:conference' jid='room@muc.example'/>"], Keep(K::DirectInvite)),
        (
            "",
            vec!["<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@x'/></x>"],
            Keep(K::MediatedInvite),
        ),
        (
            "",
            vec!["<x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x>"],
            Drop(D::Nothing),
        ),
        ("", vec!["<propose xmlns='urn:xmpp:jingle-message:0' id='c1'/>"], Keep(K::Call)),
        ("", vec!["<finish xmlns='urn:xmpp:jingle-message:0' id='c1'/>"], Keep(K::Call)),
        // A private message of a room: as any other.
        (
            "type='chat' from='room@muc.example/nick'",
            vec![BODY, "<x xmlns='http://jabber.org/protocol/muc#user'/>"],
            Keep(K::Body),
        ),
        // The strongest reason is the one that is named.
        (
            "type='chat'",
            vec!["<displayed xmlns='urn:xmpp:chat-markers:0' id='m1'/>", TYPING, BODY],
            Keep(K::Body),
        ),
        // Nothing to remember.
        ("type='chat'", vec![TYPING], Drop(D::ChatState)),
        ("type='chat'", vec![TYPING, "<thread>t</thread>"], Drop(D::ChatState)),
        ("type='chat'", vec!["<thread>t</thread>"], Drop(D::Nothing)),
        ("type='chat'", vec![], Drop(D::Nothing)),
        ("type='chat'", vec!["<body xmlns='urn:other'>hello</body>"], Drop(D::Nothing)),
        (
            "",
            vec![
                "<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>x</body></message></forwarded></received>",
            ],
            Drop(D::Nothing),
        ),
    ]
}

#[test]
fn incoming_messages() {
    for (attrs, children, expected) in rows() {
        assert_eq!(
            eligible(&message(attrs, &children.concat()), Direction::Incoming),
            expected,
            "{attrs} {children:?}"
        );
    }
}

#[test]
fn outgoing_messages_differ_only_in_errors() {
    for (attrs, children, incoming) in rows() {
        let expected =
            if attrs.starts_with("type='error'") { Eligible::Drop(Dropped::ErrorSent) } else { incoming };
        assert_eq!(
            eligible(&message(attrs, &children.concat()), Direction::Outgoing),
            expected,
            "{attrs} {children:?}"
        );
    }
}

#[test]
fn only_messages() {
    let presence = Stanza::parse("<presence><body>x</body></presence>").unwrap();
    assert_eq!(eligible(&presence, Direction::Incoming), Eligible::Drop(Dropped::NotAMessage));
}

#[test]
fn every_reason_has_its_row_and_its_own_code() {
    let mut seen: Vec<&str> = rows().iter().map(|(_, _, expected)| expected.code()).collect();
    seen.extend([Dropped::NotAMessage.code(), Dropped::ErrorSent.code()]);
    let codes: Vec<&str> =
        Kept::ALL.iter().map(|why| why.code()).chain(Dropped::ALL.iter().map(|why| why.code())).collect();
    for code in &codes {
        assert!(seen.contains(code), "no row for {code}");
        assert_eq!(codes.iter().filter(|other| *other == code).count(), 1, "{code}");
    }
}

#[test]
fn the_order_of_children_does_not_matter() {
    for (attrs, mut children, _) in rows() {
        let forwards = eligible(&message(attrs, &children.concat()), Direction::Incoming);
        children.reverse();
        assert_eq!(
            eligible(&message(attrs, &children.concat()), Direction::Incoming),
            forwards,
            "{attrs} {children:?}"
        );
    }
}
