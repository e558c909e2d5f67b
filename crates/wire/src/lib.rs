//! XMPP as bytes: streams and stanzas, and the protocols that Mammoth speaks in them. No I/O.
//!
//! | what | where |
//! |---|---|
//! | the stream: splitting, limits, stream errors (RFC 6120 §4) | [`stream`], [`limits`], [`header`], [`stream_error`] |
//! | stanzas: exact bytes, skim, splicing (RFC 6120 §8) | [`stanza`], [`rewrite`], [`element`] |
//! | stanza errors (RFC 6120 §8.3) | [`stanza_error`] |
//! | SASL (RFC 6120 §6), channel binding types (XEP-0440) | [`sasl`] |

pub mod element;
pub mod escape;
pub mod header;
pub mod limits;
pub mod rewrite;
pub mod sasl;
mod skim;
pub mod stanza;
pub mod stanza_error;
pub mod stream;
pub mod stream_error;

pub use skim::CLIENT;
