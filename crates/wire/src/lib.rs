//! XMPP as bytes: streams and stanzas, and the protocols that Mammoth speaks in them. No I/O.
//!
//! | what | where |
//! |---|---|
//! | the stream: splitting, limits, stream errors (RFC 6120 §4) | [`stream`], [`limits`], [`header`], [`stream_error`] |
//! | stanzas: exact bytes, skim, splicing (RFC 6120 §8) | [`stanza`], [`rewrite`], [`element`] |
//! | stanza errors (RFC 6120 §8.3) | [`stanza_error`] |
//! | SASL (RFC 6120 §6), channel binding types (XEP-0440) | [`sasl`] |
//! | IQ stanzas (RFC 6120 §8.2.3) | [`iq`] |
//! | resource binding, legacy session, software version (XEP-0092) | [`bind`] |
//! | presence, rosters (RFC 6121) | [`presence`], [`roster`] |
//! | message archives (XEP-0313): queries, pages, metadata, the form | [`mam`] |
//! | which messages are archived, and why (XEP-0313 §6, XEP-0334) | [`eligible`] |
//! | archiving preferences (XEP-0441) | [`prefs`] |
//! | trimming an archive (`urn:xmpp:mamtrim:0`) | [`trim`] |
//! | retraction and tombstones (XEP-0424) | [`retract`] |
//! | stanza-ids (XEP-0359) | [`stanza_id`] |
//! | carbons (XEP-0280) | [`carbons`] |
//! | service discovery (XEP-0030) | [`disco`] |
//! | pages (XEP-0059), forms (XEP-0004, 0068, 0122) | [`rsm`], [`form`] |
//! | delayed delivery (XEP-0203), dates (XEP-0082) | [`delay`], [`datetime`] |
//! | every namespace by name | [`ns`] |
//!
//! Readers take a [`stanza::Stanza`] or a payload as a tree and give values, or the [`stanza_error::StanzaError`] to
//! answer with. Writers give payloads as text, which [`iq::result`] or a splice puts into a stanza. `docs/xeps.md` lists
//! what is supported of each specification.

pub mod bind;
pub mod carbons;
pub mod datetime;
pub mod delay;
pub mod disco;
pub mod element;
pub mod eligible;
pub mod escape;
pub mod form;
pub mod header;
pub mod iq;
pub mod limits;
pub mod mam;
pub mod ns;
mod plain;
pub mod prefs;
pub mod presence;
pub mod retract;
pub mod rewrite;
pub mod roster;
pub mod rsm;
pub mod sasl;
mod skim;
pub mod splice;
pub mod stanza;
pub mod stanza_error;
pub mod stanza_id;
pub mod stream;
pub mod stream_error;
pub mod trim;

pub use skim::CLIENT;
