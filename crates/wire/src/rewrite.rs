//! A changed copy of a stanza, made by splicing: attributes of the root set or removed, children dropped or appended.
//! Every byte that is not named by a change stays as it was. What to change is the caller's business.

use std::borrow::Cow;

use bytes::Bytes;

use crate::escape::push_attr;
use crate::skim::Span;
use crate::stanza::{Child, Stanza};
use crate::stream_error::StreamError;

/// The changes to make; nothing happens until [`finish`](Self::finish).
#[derive(Debug)]
#[must_use]
pub struct Rewrite<'a> {
    stanza: &'a Stanza,
    /// Attribute name and new value; `None` removes it. The last change of a name counts.
    attrs: Vec<(&'static str, Option<Cow<'a, str>>)>,
    /// Children to leave out, in order of position.
    dropped: Vec<Span>,
    appended: Vec<u8>,
}

impl<'a> Rewrite<'a> {
    pub(crate) fn of(stanza: &'a Stanza) -> Self {
        Self { stanza, attrs: Vec::with_capacity(2), dropped: Vec::new(), appended: Vec::new() }
    }

    /// Sets an attribute of the root (without prefix), in its place if it is there.
    pub fn set(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Self {
        self.attrs.retain(|(set, _)| *set != name);
        self.attrs.push((name, Some(value.into())));
        self
    }

    /// Removes an attribute of the root.
    pub fn remove(mut self, name: &'static str) -> Self {
        self.attrs.retain(|(set, _)| *set != name);
        self.attrs.push((name, None));
        self
    }

    /// Leaves out every direct child that `unwanted` picks.
    pub fn drop_children(mut self, mut unwanted: impl FnMut(Child<'_>) -> bool) -> Self {
        self.dropped
            .extend(self.stanza.children().filter(|child| unwanted(*child)).map(|child| child.span()));
        self.dropped.sort_by_key(|span| span.start);
        self.dropped.dedup();
        self
    }

    /// Appends a child element, as it is: well-formed XML that declares its own namespaces.
    pub fn append(mut self, child: impl AsRef<[u8]>) -> Self {
        self.appended.extend_from_slice(child.as_ref());
        self
    }

    /// The changed stanza.
    pub fn finish(self) -> Bytes {
        let root = self.stanza.root();
        let raw = self.stanza.raw();
        let mut out = Vec::with_capacity(raw.len() + self.appended.len() + 128);
        let copy = |out: &mut Vec<u8>, start: usize, end: usize| {
            out.extend_from_slice(raw.get(start..end).unwrap_or_default());
        };

        // The start tag: new attributes right after the name, replaced ones in their place.
        copy(&mut out, 0, root.name_end);
        let mut text = String::with_capacity(128);
        for (name, value) in &self.attrs {
            if let (Some(value), false) = (value, root.attrs.iter().any(|attr| attr.is(name))) {
                push_attr(&mut text, name, value);
            }
        }
        out.extend_from_slice(text.as_bytes());
        let mut at = root.name_end;
        for attr in &root.attrs {
            let Some((name, value)) = self.attrs.iter().find(|(name, _)| attr.is(name)) else {
                continue;
            };
            copy(&mut out, at, attr.span.start);
            if let Some(value) = value {
                text.clear();
                push_attr(&mut text, name, value);
                out.extend_from_slice(text.as_bytes());
            }
            at = attr.span.end;
        }
        let opened = if root.self_closed() && !self.appended.is_empty() {
            // `<iq/>` becomes `<iq>…</iq>`.
            copy(&mut out, at, root.content.start - "/>".len());
            out.push(b'>');
            true
        } else {
            copy(&mut out, at, root.content.start);
            false
        };

        at = root.content.start;
        for span in &self.dropped {
            copy(&mut out, at, span.start);
            at = span.end;
        }
        copy(&mut out, at, root.content.end);
        out.extend_from_slice(&self.appended);
        if opened {
            out.extend_from_slice(b"</");
            copy(&mut out, 1, root.name_end);
            out.push(b'>');
        } else {
            copy(&mut out, root.content.end, root.span.end);
        }
        Bytes::from(out)
    }

    /// The changed stanza, skimmed again.
    ///
    /// # Errors
    /// What was appended is not well-formed, or the limits of [`Stanza::parse`] are passed.
    pub fn finish_stanza(self) -> Result<Stanza, StreamError> {
        Stanza::parse(self.finish())
    }
}
