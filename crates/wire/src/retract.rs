//! Message retraction between two people (XEP-0424): reading a retraction, knowing the message that it means, writing
//! the tombstone. Finding the entry and replacing it is left to `mammoth_archive::Archive::retract`; rooms have rules of
//! their own.

use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::Timestamp;

use crate::datetime;
use crate::escape::push_attr;
use crate::ns;
use crate::stanza::{Kind, Stanza};

/// A message that retracts another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// The message `id` of the one to retract.
    pub of: String,
    /// The retraction's own message `id`, by which clients match it to the tombstone.
    pub id: String,
}

/// The retraction that a message is, if it is one. One without an `id` of its own is not: no tombstone could name it.
#[must_use]
pub fn read(message: &Stanza) -> Option<Retraction> {
    if message.kind() != Kind::Message || matches!(message.type_(), Some("groupchat" | "error" | "headline"))
    {
        return None;
    }
    let of = message.child(ns::RETRACT, "retract")?.attr("id").filter(|id| !id.is_empty())?;
    let id = message.id().filter(|id| !id.is_empty())?;
    Some(Retraction { of: of.to_owned(), id: id.to_owned() })
}

/// Whether a stored stanza is the message that `author` sent with this message `id`: the only one that a retraction by
/// `author` may touch. Never an error that bounced such a message, and never another's words.
#[must_use]
pub fn is_original(stored: &Bytes, author: &BareJid, message_id: &str) -> bool {
    let Ok(message) = Stanza::parse(stored.clone()) else {
        return false;
    };
    let sent_by_author = matches!(message.from(), Ok(Some(from)) if from.to_bare() == *author);
    sent_by_author
        && message.kind() == Kind::Message
        && message.type_() != Some("error")
        && message.id() == Some(message_id)
}

/// The stanza that takes the place of a retracted message: who, to whom, which type and id, and nothing that it said.
/// `stamp` is when the retraction took place.
#[must_use]
pub fn tombstone(stored: &Bytes, retraction: &Retraction, stamp: Timestamp) -> Bytes {
    let mut out = String::from("<message");
    push_attr(&mut out, "xmlns", ns::CLIENT);
    if let Ok(message) = Stanza::parse(stored.clone()) {
        for name in ["from", "to", "type", "id"] {
            if let Some(value) = message.attr(name) {
                push_attr(&mut out, name, value);
            }
        }
    }
    out.push_str("><retracted");
    push_attr(&mut out, "xmlns", ns::RETRACT);
    push_attr(&mut out, "id", &retraction.id);
    push_attr(&mut out, "stamp", &datetime::write(stamp));
    out.push_str("/></message>");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(xml: &str) -> Stanza {
        Stanza::parse(xml.to_owned()).unwrap()
    }

    fn retraction(attrs: &str, retract: &str) -> Option<Retraction> {
        read(&stanza(&format!("<message {attrs}>{retract}<body>/me takes it back</body></message>")))
    }

    const RETRACT: &str = "<retract xmlns='urn:xmpp:message-retract:1' id='m1'/>";

    #[test]
    fn what_retracts() {
        let found = Some(Retraction { of: "m1".into(), id: "r1".into() });
        assert_eq!(retraction("id='r1' type='chat'", RETRACT), found);
        assert_eq!(retraction("id='r1'", RETRACT), found);
        for (attrs, retract) in [
            ("id='r1' type='groupchat'", RETRACT),
            ("id='r1' type='error'", RETRACT),
            ("type='chat'", RETRACT),
            ("id='' type='chat'", RETRACT),
            ("id='r1'", "<retract xmlns='urn:xmpp:message-retract:1'/>"),
            ("id='r1'", "<retract xmlns='urn:xmpp:message-retract:1' id=''/>"),
            ("id='r1'", "<retract xmlns='urn:xmpp:message-retract:0' id='m1'/>"),
            ("id='r1'", "<z xmlns='urn:z'><retract xmlns='urn:xmpp:message-retract:1' id='m1'/></z>"),
        ] {
            assert_eq!(retraction(attrs, retract), None, "{attrs} {retract}");
        }
    }

    #[test]
    fn only_the_author_retracts() {
        let bob = BareJid::new("bob@example.org").unwrap();
        let cases = [
            ("from='bob@example.org/tablet' id='m1' type='chat'", true),
            ("from='Bob@Example.ORG/tablet' id='m1'", true),
            ("from='alice@example.org/phone' id='m1' type='chat'", false),
            ("from='bob@example.org/tablet' id='m2' type='chat'", false),
            ("from='bob@example.org/tablet' type='chat'", false),
            ("from='bob@example.org/tablet' id='m1' type='error'", false),
            ("id='m1'", false),
            ("from='bob@example.org.evil/x' id='m1'", false),
        ];
        for (attrs, expected) in cases {
            let stored =
                Bytes::from(format!("<message xmlns='jabber:client' {attrs}><body>x</body></message>"));
            assert_eq!(is_original(&stored, &bob, "m1"), expected, "{attrs}");
        }
        assert!(!is_original(&Bytes::from("not xml"), &bob, "m1"));
    }

    #[test]
    fn a_tombstone_says_who_and_nothing_else() {
        let stored = Bytes::from(
            "<message xmlns='jabber:client' from='bob@x/o&apos;1' to='alice@x' type='chat' id='m1' xml:lang='en' \
             secret='s'><body>words</body><thread>t</thread></message>",
        );
        let retraction = Retraction { of: "m1".into(), id: "r&1".into() };
        let stone = Stanza::parse(tombstone(&stored, &retraction, Timestamp(1))).unwrap();
        assert_eq!(stone.attr("from"), Some("bob@x/o'1"));
        assert_eq!(
            (stone.attr("to"), stone.type_(), stone.id()),
            (Some("alice@x"), Some("chat"), Some("m1"))
        );
        assert_eq!(stone.attr("secret"), None);
        assert_eq!(stone.children().len(), 1);
        let retracted = stone.child(ns::RETRACT, "retracted").unwrap();
        assert_eq!(retracted.attr("id"), Some("r&1"));
        assert_eq!(retracted.attr("stamp"), Some("1970-01-01T00:00:00.000001Z"));
        let bob = BareJid::new("bob@x").unwrap();
        assert!(is_original(stone.raw(), &bob, "m1"), "a second retraction finds it again");
    }
}
