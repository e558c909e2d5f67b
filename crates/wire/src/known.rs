//! Empty elements that a peer puts into stanza after stanza (a request for a receipt, a hint, a chat state), remembered
//! byte for byte: where the same bytes come again they mean the same, and need not be parsed again. Which elements may
//! be remembered, and where one may stand, is `skim.rs`'s.

use std::collections::VecDeque;
use std::sync::Arc;

use rxml::NcName;

use crate::skim::{Head, Span};

/// How many elements a stream remembers; the oldest goes first.
const KNOWN_MAX: usize = 8;
/// Bytes of the longest element that is remembered.
const KNOWN_BYTES_MAX: usize = 128;

/// What one stream remembers.
#[derive(Debug, Default)]
pub(crate) struct Known(VecDeque<Element>);

/// An empty-element tag without prefixes and without attributes, but for the declaration of its own namespace.
#[derive(Debug)]
struct Element {
    raw: Box<[u8]>,
    ns: Arc<str>,
    name: NcName,
}

impl Known {
    /// The element at the start of `ahead`, as it is read at `start`, and its length.
    pub(crate) fn find(&self, ahead: &[u8], start: usize) -> Option<(Head, usize)> {
        let Element { raw, ns, name } = self.0.iter().find(|known| ahead.starts_with(&known.raw))?;
        let end = start + raw.len();
        let head = Head {
            prefix: None,
            ns: ns.clone(),
            name: name.clone(),
            attrs: Vec::new(),
            span: Span { start, end },
            name_end: start + "<".len() + name.len(),
            content: Span { start: end, end },
        };
        Some((head, raw.len()))
    }

    /// Remembers an element of a stanza that `raw` begins with, if it is short and empty.
    pub(crate) fn add(&mut self, head: &Head, raw: &[u8]) {
        let raw = head.span.of(raw);
        let known = || self.0.iter().any(|known| *known.raw == *raw);
        if !head.self_closed() || raw.len() > KNOWN_BYTES_MAX || known() {
            return;
        }
        if self.0.len() == KNOWN_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Element { raw: raw.into(), ns: head.ns.clone(), name: head.name.clone() });
    }
}
