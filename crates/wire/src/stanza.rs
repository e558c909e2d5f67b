//! A stanza as it came: its exact bytes, and a skim of them that answers who, what and which children.
//! Changing one is `rewrite.rs`; what its payloads mean is left to the modules of each protocol.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jid::Jid;
use minidom::Element;

use crate::element::{self, ElementError};
use crate::escape::{direct_text, push_attr};
use crate::limits::Limits;
use crate::rewrite::Rewrite;
use crate::skim::{CLIENT, Head, Skim, Skimmed, Skimmer, Span, attr, xml_lang};
use crate::stream::Source;
use crate::stream_error::{StreamCondition, StreamError};

pub use crate::escape::{escape_attr, escape_text};
pub use crate::limits::STORED_STANZA_BYTES;

/// What a first-level element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `<message/>` of `jabber:client`.
    Message,
    /// `<presence/>` of `jabber:client`.
    Presence,
    /// `<iq/>` of `jabber:client`.
    Iq,
    /// Anything else: look at [`Stanza::ns`] and [`Stanza::name`].
    Other,
}

impl Kind {
    pub(crate) fn of(skim: &Skim) -> Self {
        if *skim.root.ns != *CLIENT {
            return Self::Other;
        }
        match skim.root.name.as_str() {
            "message" => Self::Message,
            "presence" => Self::Presence,
            "iq" => Self::Iq,
            _ => Self::Other,
        }
    }
}

/// One first-level element that stands alone: it declares every namespace that it uses.
///
/// Cheap to clone. The bytes are those that were sent, except for what the element inherited from the stream header,
/// which is written into its start tag, and except for a stanza that was sent with a prefix (`<c:message>`), which is
/// written anew without it (RFC 6120 §4.8.5).
#[derive(Clone, Debug)]
pub struct Stanza {
    raw: Bytes,
    skim: Arc<Skim>,
    kind: Kind,
}

impl Stanza {
    pub(crate) fn from_parts(raw: Bytes, skim: Skim) -> Self {
        let kind = Kind::of(&skim);
        Self { raw, skim: Arc::new(skim), kind }
    }

    /// Reads one stanza from exactly these bytes, within [`Limits::stored`].
    /// One without a namespace is taken as `jabber:client`, and says so afterwards.
    ///
    /// # Errors
    /// As on a stream; also for bytes before or after the element.
    pub fn parse(raw: impl Into<Bytes>) -> Result<Self, StreamError> {
        Self::parse_within(raw.into(), &Limits::stored())
    }

    pub(crate) fn parse_within(raw: Bytes, limits: &Limits) -> Result<Self, StreamError> {
        let (mut skim, end) = skim_one(&raw, limits)?;
        if end != raw.len() {
            return Err(StreamError::new(StreamCondition::BadFormat, "more than one element"));
        }
        if skim.declares_default {
            return Ok(Self::from_parts(raw, skim));
        }
        let mut owed = String::new();
        push_attr(&mut owed, "xmlns", CLIENT);
        let at = skim.root.name_end;
        let (name, rest) = raw.split_at_checked(at).unwrap_or((&raw, &[]));
        let raw = Bytes::from([name, owed.as_bytes(), rest].concat());
        skim.shift(at, owed.len());
        Ok(Self::from_parts(raw, skim))
    }

    /// The whole element.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Whether it is a message, a presence, an IQ or something else.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The namespace of the element.
    pub fn ns(&self) -> &str {
        &self.skim.root.ns
    }

    /// The local name of the element.
    pub fn name(&self) -> &str {
        self.skim.root.name.as_str()
    }

    /// Whether this is the element `name` of the namespace `ns`.
    pub fn is(&self, ns: &str, name: &str) -> bool {
        self.ns() == ns && self.name() == name
    }

    /// The value, unescaped, of an attribute without a prefix.
    pub fn attr(&self, name: &str) -> Option<&str> {
        attr(&self.skim.root.attrs, name)
    }

    /// `id`.
    pub fn id(&self) -> Option<&str> {
        self.attr("id")
    }

    /// `type`, as sent.
    pub fn type_(&self) -> Option<&str> {
        self.attr("type")
    }

    /// `to`, if there is one.
    ///
    /// # Errors
    /// It is no JID: the stanza is answered with `jid-malformed`.
    pub fn to(&self) -> Result<Option<Jid>, jid::Error> {
        self.attr("to").map(Jid::new).transpose()
    }

    /// `from`, if there is one.
    ///
    /// # Errors
    /// It is no JID.
    pub fn from(&self) -> Result<Option<Jid>, jid::Error> {
        self.attr("from").map(Jid::new).transpose()
    }

    /// `xml:lang`, its own or the stream's.
    pub fn lang(&self) -> Option<&str> {
        xml_lang(&self.skim.root.attrs)
    }

    /// The direct children that are elements, in order.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = Child<'_>> + ExactSizeIterator {
        self.skim.children.iter().map(|head| Child { stanza: self, head })
    }

    /// The first child of this namespace and name.
    pub fn child(&self, ns: &str, name: &str) -> Option<Child<'_>> {
        self.children().find(|child| child.is(ns, name))
    }

    /// The text of the first `<body/>`.
    pub fn body_text(&self) -> Option<String> {
        self.child(CLIENT, "body").map(|body| body.text())
    }

    /// Character data directly inside the element itself, children left out.
    pub fn text(&self) -> String {
        direct_text(self.skim.root.content.of(&self.raw))
    }

    /// Starts a changed copy.
    pub fn rewrite(&self) -> Rewrite<'_> {
        Rewrite::of(self)
    }

    /// The whole element as a tree.
    ///
    /// # Errors
    /// Only for what the tree builder refuses although the stream accepted it.
    pub fn element(&self) -> Result<Element, ElementError> {
        element::element(&self.raw)
    }

    pub(crate) fn root(&self) -> &Head {
        &self.skim.root
    }
}

/// Skims the element at the start of `raw`; also tells where it ends.
fn skim_one(raw: &[u8], limits: &Limits) -> Result<(Skim, usize), StreamError> {
    let mut skimmer = Skimmer::inside_stream();
    let mut source = Source::new(BytesMut::from(raw), limits);
    while let Some((event, start, end)) = source.event(limits.stanza_bytes)? {
        if let Skimmed::Stanza(skim) = skimmer.event(event, start, end, limits)? {
            return Ok((*skim, end));
        }
    }
    Err(StreamError::new(StreamCondition::NotWellFormed, "the element does not end"))
}

/// A direct child of a stanza.
#[derive(Clone, Copy, Debug)]
pub struct Child<'a> {
    stanza: &'a Stanza,
    head: &'a Head,
}

impl<'a> Child<'a> {
    /// The namespace.
    pub fn ns(&self) -> &'a str {
        &self.head.ns
    }

    /// The local name.
    pub fn name(&self) -> &'a str {
        self.head.name.as_str()
    }

    /// Whether this is the element `name` of the namespace `ns`.
    pub fn is(&self, ns: &str, name: &str) -> bool {
        self.ns() == ns && self.name() == name
    }

    /// The value, unescaped, of an attribute without a prefix.
    pub fn attr(&self, name: &str) -> Option<&'a str> {
        attr(&self.head.attrs, name)
    }

    /// The child's own `xml:lang`.
    pub fn lang(&self) -> Option<&'a str> {
        xml_lang(&self.head.attrs)
    }

    /// The bytes of the element. They may rely on namespaces that the stanza's root declares.
    pub fn raw(&self) -> &'a [u8] {
        self.head.span.of(&self.stanza.raw)
    }

    pub(crate) fn span(&self) -> Span {
        self.head.span
    }

    /// The bytes between its start tag and its end tag.
    pub fn inner(&self) -> &'a [u8] {
        self.head.content.of(&self.stanza.raw)
    }

    /// Whether there is nothing inside, neither text nor elements.
    pub fn is_empty(&self) -> bool {
        self.inner().is_empty()
    }

    /// Character data directly inside it, unescaped; that of its children is left out.
    pub fn text(&self) -> String {
        direct_text(self.inner())
    }

    /// The element as a tree, its namespaces resolved.
    ///
    /// # Errors
    /// Only for what the tree builder refuses although the stream accepted it.
    pub fn element(&self) -> Result<Element, ElementError> {
        element::child_element(self.stanza, self.raw())
    }
}

impl Stanza {
    /// The root's start tag, for reading a child in its context.
    pub(crate) fn start_tag(&self) -> &[u8] {
        self.raw.get(..self.skim.root.content.start).unwrap_or_default()
    }
}
