//! What one peer may make us hold while it speaks: the limits of a stream, by name.
//! They are enforced while bytes arrive (`stream.rs`, `skim.rs`), before anything is built from them.

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

    /// For an authenticated peer; also what [`Stanza::parse`](crate::stanza::Stanza::parse) allows.
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
}

impl Default for Limits {
    fn default() -> Self {
        Self::authenticated()
    }
}
