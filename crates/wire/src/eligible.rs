//! Whether a message is worth archiving at all, and why (XEP-0313 §6.1.1, XEP-0334). Whether its owner wants it is
//! left to the prefs, how long it stays to the retention.
//!
//! The rules are tried from top to bottom, and the first that applies decides:
//!
//! 1. headlines, messages of rooms, errors and events of publish-subscribe, by their type; of the errors, only those
//!    that came back to the owner are kept, since they tell that a message of the owner was not delivered. Hints in an
//!    error count for nothing: they belong to the message that it bounces;
//! 2. a retraction is kept whatever it hints: clients that were away must learn of it (XEP-0424 §5);
//! 3. `no-store`, `no-permanent-store`, `store`: in this order if there are several;
//! 4. what carries something to remember is kept, the rest is not.
//!
//! An unknown type is `normal` (RFC 6121 §5.2.2). Only direct children count, never what is forwarded inside.

use std::fmt;

use crate::ns;
use crate::stanza::{Child, Kind, Stanza};

/// Which way a message goes, from the archive owner's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The owner sends it.
    Outgoing,
    /// The owner receives it.
    Incoming,
}

/// Whether to archive a message, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Eligible {
    /// Archive it, if the owner's prefs agree.
    Keep(Kept),
    /// Do not.
    Drop(Dropped),
}

impl Eligible {
    /// Whether the message may be archived.
    #[must_use]
    pub fn is_keep(self) -> bool {
        matches!(self, Eligible::Keep(_))
    }

    /// The rule's stable code, for logs, metrics and `mammoth explain`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Eligible::Keep(why) => why.code(),
            Eligible::Drop(why) => why.code(),
        }
    }
}

impl fmt::Display for Eligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $code:literal $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $code, "`: ", $text, ".")] $variant,)*
        }

        impl $name {
            /// All of them, in the order of the rules.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The rule's stable code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $($name::$variant => $code,)* }
            }

            /// The rule, for people.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// Why a message may be archived.
    Kept {
        Bounce "bounce" "it tells the owner that a message was not delivered";
        Retraction "retraction" "it retracts a message";
        StoreHint "hint-store" "its sender asks for it to be stored";
        Body "body" "it has a body";
        Subject "subject" "it has a subject";
        Encrypted "encrypted" "it has encrypted content";
        Receipt "receipt" "it says that a message has arrived";
        Marker "marker" "it says how far the chat has been read";
        Reaction "reaction" "it reacts to a message";
        Correction "correction" "it corrects a message";
        DirectInvite "invite-direct" "it invites to a room";
        MediatedInvite "invite-mediated" "a room passes on an invitation";
        Call "jingle-message" "it proposes, answers or ends a call";
    }
}

reasons! {
    /// Why a message is not archived.
    Dropped {
        NotAMessage "not-a-message" "it is not a message";
        Headline "headline" "headlines are not kept";
        Groupchat "groupchat" "the messages of a room belong to the room's archive";
        ErrorSent "error-sent" "the owner's client sends an error";
        ErrorEmpty "error-unclear" "an error that does not say which message it bounces";
        Event "pubsub-event" "it is an event of publish-subscribe";
        NoStore "hint-no-store" "its sender asks for it not to be stored";
        NoPermanentStore "hint-no-permanent-store" "its sender asks for it not to be archived";
        ChatState "chat-state" "it only says that somebody is typing";
        Nothing "nothing-to-keep" "it has nothing to remember";
    }
}

/// Whether a message may be archived in the archive of its sender (`Outgoing`) or its recipient (`Incoming`).
///
/// Cheap: looks at the type and the direct children that the stream has noted; reads inside one only for a mediated
/// invitation.
#[must_use]
pub fn eligible(stanza: &Stanza, direction: Direction) -> Eligible {
    if stanza.kind() != Kind::Message {
        return Eligible::Drop(Dropped::NotAMessage);
    }
    match stanza.type_() {
        Some("headline") => return Eligible::Drop(Dropped::Headline),
        Some("groupchat") => return Eligible::Drop(Dropped::Groupchat),
        Some("error") => return error(stanza, direction),
        _ => {}
    }
    // The rules from the second on, each child naming the one that it brings into play.
    stanza.children().filter_map(rule).min().map_or(Eligible::Drop(Dropped::Nothing), |(_, verdict)| verdict)
}

/// The rule that a child of a message brings into play: its place among the rules, and what it says.
fn rule(child: Child<'_>) -> Option<(u8, Eligible)> {
    Some(match (child.ns(), child.name()) {
        (ns::PUBSUB_EVENT, "event") => (0, Eligible::Drop(Dropped::Event)),
        (ns::RETRACT, "retract") => (1, Eligible::Keep(Kept::Retraction)),
        (ns::HINTS, "no-store") => (2, Eligible::Drop(Dropped::NoStore)),
        (ns::HINTS, "no-permanent-store") => (3, Eligible::Drop(Dropped::NoPermanentStore)),
        (ns::HINTS, "store") => (4, Eligible::Keep(Kept::StoreHint)),
        (ns::CHAT_STATES, _) => (6, Eligible::Drop(Dropped::ChatState)),
        _ => (5, Eligible::Keep(worth(child)?)),
    })
}

fn error(stanza: &Stanza, direction: Direction) -> Eligible {
    match direction {
        Direction::Outgoing => Eligible::Drop(Dropped::ErrorSent),
        Direction::Incoming if stanza.id().is_some() && stanza.child(ns::CLIENT, "error").is_some() => {
            Eligible::Keep(Kept::Bounce)
        }
        Direction::Incoming => Eligible::Drop(Dropped::ErrorEmpty),
    }
}

/// What a child of a message gives to remember.
fn worth(child: Child<'_>) -> Option<Kept> {
    Some(match (child.ns(), child.name()) {
        (ns::CLIENT, "body") => Kept::Body,
        (ns::CLIENT, "subject") => Kept::Subject,
        (ns::ENCRYPTION, "encryption")
        | (ns::OMEMO | ns::OMEMO_1 | ns::OMEMO_AXOLOTL, "encrypted")
        | (ns::OPENPGP, "openpgp")
        | (ns::OPENPGP_LEGACY, "x") => Kept::Encrypted,
        (ns::RECEIPTS, "received") => Kept::Receipt,
        (ns::MARKERS, "received" | "displayed" | "acknowledged") => Kept::Marker,
        (ns::REACTIONS, "reactions") => Kept::Reaction,
        (ns::CORRECT, "replace") => Kept::Correction,
        (ns::CONFERENCE, "x") => Kept::DirectInvite,
        (ns::MUC_USER, "x") if invites(child) => Kept::MediatedInvite,
        (ns::JINGLE_MESSAGE, _) => Kept::Call,
        _ => return None,
    })
}

/// Whether `<x/>` of a room holds a mediated invitation (XEP-0045 §7.8.2).
pub(crate) fn invites(x: Child<'_>) -> bool {
    x.element().is_ok_and(|x| x.has_child("invite", ns::MUC_USER))
}

#[cfg(test)]
#[path = "eligible_tests.rs"]
mod tests;
