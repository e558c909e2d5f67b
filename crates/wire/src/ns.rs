//! The namespaces of everything this crate reads or writes inside stanzas, each with its specification. Those of the
//! stream itself are left to `header` and `sasl`.

pub use crate::header::{BIND, SESSION};
pub use crate::skim::CLIENT;
pub use crate::stanza_error::STANZA_ERRORS;

/// Rosters (RFC 6121 §2).
pub const ROSTER: &str = "jabber:iq:roster";

/// Message archives (XEP-0313) and their prefs (XEP-0441).
pub const MAM: &str = "urn:xmpp:mam:2";
/// Feature: `before-id`, `after-id`, `ids`, flipped pages and metadata (XEP-0313 §7).
pub const MAM_EXTENDED: &str = "urn:xmpp:mam:2#extended";
/// Feature: the field `include-groupchat` is understood (XEP-0313 §7).
pub const MAM_GROUPCHAT_FIELD: &str = "urn:xmpp:mam:2#groupchat-field";
/// Trimming an archive (the proposal "MAM Trimming" of 2026).
pub const MAM_TRIM: &str = "urn:xmpp:mamtrim:0";
/// What Mammoth itself adds to answers about archives: see `docs/xeps.md`.
pub const MAMMOTH_ARCHIVE: &str = "urn:mammoth:archive:0";

/// Pages of results (XEP-0059).
pub const RSM: &str = "http://jabber.org/protocol/rsm";
/// Data forms (XEP-0004).
pub const DATA_FORMS: &str = "jabber:x:data";
/// Validation of form fields (XEP-0122).
pub const VALIDATE: &str = "http://jabber.org/protocol/xdata-validate";
/// Forwarded stanzas (XEP-0297).
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// When a stanza was first received (XEP-0203).
pub const DELAY: &str = "urn:xmpp:delay";
/// Stanza-ids and origin-ids (XEP-0359).
pub const SID: &str = "urn:xmpp:sid:0";
/// Message carbons (XEP-0280).
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// Hints on what to do with a message (XEP-0334).
pub const HINTS: &str = "urn:xmpp:hints";
/// Message retraction (XEP-0424).
pub const RETRACT: &str = "urn:xmpp:message-retract:1";
/// Feature: a retracted message becomes a tombstone (XEP-0424 §4).
pub const RETRACT_TOMBSTONE: &str = "urn:xmpp:message-retract:1#tombstone";

/// Service discovery: who is there and what it offers (XEP-0030).
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// Service discovery: what belongs to it (XEP-0030).
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// Pings (XEP-0199).
pub const PING: &str = "urn:xmpp:ping";
/// Software version (XEP-0092).
pub const VERSION: &str = "jabber:iq:version";

/// Encryption that is named explicitly (XEP-0380).
pub const ENCRYPTION: &str = "urn:xmpp:eme:0";
/// OMEMO since version 0.4 (XEP-0384).
pub const OMEMO: &str = "urn:xmpp:omemo:2";
/// OMEMO between versions 0.4 and 0.8 of its specification (XEP-0384).
pub const OMEMO_1: &str = "urn:xmpp:omemo:1";
/// OMEMO as most clients of today still send it (XEP-0384 up to version 0.3).
pub const OMEMO_AXOLOTL: &str = "eu.siacs.conversations.axolotl";
/// OpenPGP for XMPP (XEP-0373).
pub const OPENPGP: &str = "urn:xmpp:openpgp:0";
/// The older way of OpenPGP (XEP-0027).
pub const OPENPGP_LEGACY: &str = "jabber:x:encrypted";
/// Delivery receipts (XEP-0184).
pub const RECEIPTS: &str = "urn:xmpp:receipts";
/// Displayed markers (XEP-0333).
pub const MARKERS: &str = "urn:xmpp:chat-markers:0";
/// Reactions (XEP-0444).
pub const REACTIONS: &str = "urn:xmpp:reactions:0";
/// Corrections of the last message (XEP-0308).
pub const CORRECT: &str = "urn:xmpp:message-correct:0";
/// Direct invitations to rooms (XEP-0249).
pub const CONFERENCE: &str = "jabber:x:conference";
/// What rooms tell their occupants, mediated invitations among it (XEP-0045).
pub const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// Proposals of sessions such as calls (XEP-0353).
pub const JINGLE_MESSAGE: &str = "urn:xmpp:jingle-message:0";
/// Chat states (XEP-0085).
pub const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// Events of publish-subscribe, PEP among it (XEP-0060, XEP-0163).
pub const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
