//! Message carbons (XEP-0280): switching them on, which messages are copied, and the copy itself. Who has switched them
//! on, and which resources have the message already, is left to the server.

use bytes::Bytes;
use jid::{BareJid, FullJid};

use crate::eligible::{Direction, eligible, invites};
use crate::escape::push_attr;
use crate::iq::{Request, Verb};
use crate::ns;
use crate::stanza::{Kind, Stanza};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch {
    /// Copies from now on.
    Enable,
    /// No copies any more.
    Disable,
}

/// The switch that a request is, if it is one. Answered with an empty result; doing it twice is no error.
#[must_use]
pub fn read(request: &Request<'_>) -> Option<Switch> {
    if request.is(Verb::Set, ns::CARBONS, "enable") {
        Some(Switch::Enable)
    } else if request.is(Verb::Set, ns::CARBONS, "disable") {
        Some(Switch::Disable)
    } else {
        None
    }
}

/// Whether a message is copied to the other resources of its sender (`Outgoing`) or its recipient (`Incoming`).
///
/// The rules of XEP-0280 §6, and what the archive keeps besides: a device that is online sees live what it would find
/// in the archive later. Not copied: what is private or hints `no-copy`, headlines, messages of rooms, and a private
/// message that comes out of a room, which the room itself sends to each client that is in it.
#[must_use]
pub fn copied(stanza: &Stanza, direction: Direction) -> bool {
    if stanza.kind() != Kind::Message
        || matches!(stanza.type_(), Some("headline" | "groupchat"))
        || stanza.children().any(|child| forbids(child.ns(), child.name()))
    {
        return false;
    }
    if let (Direction::Incoming, Some(x)) = (direction, stanza.child(ns::MUC_USER, "x")) {
        return invites(x);
    }
    match stanza.type_() {
        Some("error") => eligible(stanza, direction).is_keep(),
        Some("chat") => true,
        _ => {
            eligible(stanza, direction).is_keep()
                || stanza.children().any(|child| typical(child.ns(), child.name()))
        }
    }
}

/// What makes a message private, or a copy already.
fn forbids(ns: &str, name: &str) -> bool {
    matches!((ns, name), (ns::CARBONS, "private" | "received" | "sent") | (ns::HINTS, "no-copy"))
}

/// Payloads of instant messaging that make even a message without a body worth a copy.
fn typical(ns: &str, name: &str) -> bool {
    matches!(
        (ns, name),
        (ns::CLIENT, "body") | (ns::CHAT_STATES | ns::RECEIPTS | ns::MARKERS | ns::CONFERENCE, _)
    )
}

/// Which end of the message the copy's reader is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Another of the reader's resources sent it.
    Sent,
    /// Another of the reader's resources received it.
    Received,
}

/// The copy for one resource of `owner`: the message, byte for byte, in its envelope, which has the message's own
/// type. Add the stanza-id of the owner's own archive to the message before, and only then.
#[must_use]
pub fn write(side: Side, message: &[u8], type_: Option<&str>, owner: &BareJid, to: &FullJid) -> Bytes {
    let name = match side {
        Side::Sent => "sent",
        Side::Received => "received",
    };
    let mut head = String::from("<message");
    push_attr(&mut head, "xmlns", ns::CLIENT);
    push_attr(&mut head, "from", owner.as_str());
    push_attr(&mut head, "to", to.as_str());
    if let Some(type_) = type_ {
        push_attr(&mut head, "type", type_);
    }
    head.push_str(&format!("><{name}"));
    push_attr(&mut head, "xmlns", ns::CARBONS);
    head.push_str("><forwarded");
    push_attr(&mut head, "xmlns", ns::FORWARD);
    head.push('>');
    let tail = format!("</forwarded></{name}></message>");
    Bytes::from([head.as_bytes(), message, tail.as_bytes()].concat())
}
