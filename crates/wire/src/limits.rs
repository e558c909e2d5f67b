//! What one peer may make us hold while it speaks: the limits of a stream, by name.
//! They are enforced while bytes arrive (`stream.rs`, `skim.rs`), before anything is built from them.

/// How large a single stanza given to [`Stanza::parse`](crate::stanza::Stanza::parse) may be. Larger than what any
/// stream can be told to accept (16 MiB), since a stored stanza has gained a sender and a stanza-id.
pub const STORED_STANZA_BYTES: usize = 17 * 1024 * 1024;

/// The limits of one stream. Each is the largest value that is still accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one first-level element, from its `<` to its last `>`.
    pub stanza_bytes: usize,
    /// Bytes from the start of the stream up to the end of the stream header.
    pub header_bytes: usize,
    /// Nested elements, the stanza itself being the first.
    pub depth: usize,
    /// Direct children of one stanza. Each is remembered with its attributes, at a multiple of its bytes.
    pub children: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Namespace declarations in force at one place, those of the stream header included.
    pub namespaces: usize,
    /// Bytes of one attribute value or name. Takes effect when the reader is made or reset.
    pub attribute_bytes: usize,
}

impl Limits {
    /// For a peer that has not logged in: enough for STARTTLS and SASL.
    pub fn before_login() -> Self {
        Self {
            stanza_bytes: 16 * 1024,
            header_bytes: 4 * 1024,
            depth: 16,
            children: 64,
            attributes: 32,
            namespaces: 32,
            attribute_bytes: 4 * 1024,
        }
    }

    /// For an authenticated peer.
    pub fn authenticated() -> Self {
        Self {
            stanza_bytes: 256 * 1024,
            header_bytes: 4 * 1024,
            depth: 64,
            children: 1024,
            attributes: 64,
            namespaces: 128,
            attribute_bytes: 64 * 1024,
        }
    }

    /// For a stanza that a stream has accepted, with what the server has written onto it since: addresses, namespace
    /// declarations, an id. What [`Stanza::parse`](crate::stanza::Stanza::parse) allows.
    pub fn stored() -> Self {
        let accepted = Self::authenticated();
        Self {
            stanza_bytes: STORED_STANZA_BYTES,
            children: accepted.children + 64,
            attributes: 4 * accepted.attributes,
            namespaces: 4 * accepted.namespaces,
            ..accepted
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::authenticated()
    }
}
