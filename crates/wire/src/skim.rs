//! From parser events to the skim of a stanza: namespaces checked, limits held, and the byte ranges kept of the root's
//! attributes and of its direct children. Where the bytes come from is `stream.rs`; what a skim is good for, `stanza.rs`.

use std::sync::Arc;

use rxml::strings::CompactString;
use rxml::{NcName, RawEvent};

use crate::limits::Limits;
use crate::plain::Inherited;
use crate::stream_error::{StreamCondition, StreamError};

/// The content namespace of a client's stream (RFC 6120 §4.8.2).
pub const CLIENT: &str = "jabber:client";

const XMLNS_XML: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS_XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// The depth at which stanzas open: inside the stream element.
const STREAM_DEPTH: usize = 1;

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub(crate) fn of(self, raw: &[u8]) -> &[u8] {
        raw.get(self.start..self.end).unwrap_or_default()
    }
}

/// An attribute that is not a namespace declaration. The span includes the white space before it. (Names and most
/// values are short, and a `CompactString` holds those without allocating.)
#[derive(Debug)]
pub(crate) struct Attr {
    pub prefix: Option<NcName>,
    pub name: CompactString,
    pub value: CompactString,
    pub span: Span,
}

impl Attr {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.prefix.is_none() && self.name.as_str() == name
    }

    pub(crate) fn is_xml_lang(&self) -> bool {
        self.prefix.as_ref().is_some_and(|prefix| prefix.as_str() == "xml") && self.name.as_str() == "lang"
    }
}

/// The value of the unprefixed attribute `name`.
pub(crate) fn attr<'a>(attrs: &'a [Attr], name: &str) -> Option<&'a str> {
    attrs.iter().find(|attr| attr.is(name)).map(|attr| attr.value.as_str())
}

/// The value of `xml:lang`.
pub(crate) fn xml_lang(attrs: &[Attr]) -> Option<&str> {
    attrs.iter().find(|attr| attr.is_xml_lang()).map(|attr| attr.value.as_str())
}

/// A start tag whose names are resolved.
#[derive(Debug)]
pub(crate) struct Head {
    pub prefix: Option<NcName>,
    pub ns: Arc<str>,
    pub name: CompactString,
    pub attrs: Vec<Attr>,
    /// Of the element; the end is known once the element has ended.
    pub span: Span,
    /// After the element's name in the start tag.
    pub name_end: usize,
    /// From after the start tag to before the end tag; empty at the element's end if there is no end tag.
    pub content: Span,
}

impl Head {
    /// Whether the element is written as one empty-element tag.
    pub(crate) fn self_closed(&self) -> bool {
        self.content.start == self.span.end
    }
}

/// What is remembered of a stanza besides its bytes.
#[derive(Debug)]
pub(crate) struct Skim {
    pub root: Head,
    pub children: Vec<Head>,
    /// Whether the root says which default namespace it uses.
    pub declares_default: bool,
    /// Prefix and namespace of each declaration of the stream header that the stanza relies on.
    pub borrowed: Vec<(NcName, Arc<str>)>,
}

impl Skim {
    /// The skim of the same bytes after `by` bytes have been put in at `at`, between two attributes of the root.
    pub(crate) fn shift(&mut self, at: usize, by: usize) {
        let shift = |offset: &mut usize| {
            if *offset >= at {
                *offset += by;
            }
        };
        let heads = std::iter::once((&mut self.root, true))
            .chain(self.children.iter_mut().map(|child| (child, false)));
        for (head, is_root) in heads {
            if !is_root {
                shift(&mut head.span.start);
                shift(&mut head.name_end);
            }
            shift(&mut head.span.end);
            shift(&mut head.content.start);
            shift(&mut head.content.end);
            for attr in &mut head.attrs {
                shift(&mut attr.span.start);
                shift(&mut attr.span.end);
            }
        }
    }
}

/// What an event completed.
#[derive(Debug)]
pub(crate) enum Skimmed {
    /// Nothing yet.
    Nothing,
    /// The start tag of the stream element.
    Header(Head),
    /// A first-level element.
    Stanza(Box<Skim>),
    /// The stream element ended.
    Close,
}

/// A namespace declaration in force.
#[derive(Debug)]
struct Binding {
    depth: usize,
    prefix: Option<NcName>,
    ns: Arc<str>,
}

/// Reads events, one stream long. Spans count from the start of the current first-level element (or header).
#[derive(Debug)]
pub(crate) struct Skimmer {
    depth: usize,
    bindings: Vec<Binding>,
    tag: Option<Tag>,
    attrs: Vec<Attr>,
    skim: Option<Box<Skim>>,
    borrowed: Vec<(NcName, Arc<str>)>,
}

/// A start tag that has not ended yet.
#[derive(Debug)]
struct Tag {
    prefix: Option<NcName>,
    name: NcName,
    start: usize,
    name_end: usize,
    attributes: usize,
}

impl Skimmer {
    /// A skimmer that expects a stream header.
    pub(crate) fn new() -> Self {
        Self {
            depth: 0,
            bindings: Vec::new(),
            tag: None,
            attrs: Vec::new(),
            skim: None,
            borrowed: Vec::new(),
        }
    }

    /// A skimmer that expects one stanza, as if inside a stream whose default namespace is `jabber:client`.
    pub(crate) fn inside_stream() -> Self {
        let default = Binding { depth: STREAM_DEPTH, prefix: None, ns: CLIENT.into() };
        Self { depth: STREAM_DEPTH, bindings: vec![default], ..Self::new() }
    }

    /// Whether the stream header has not been read whole.
    pub(crate) fn in_header(&self) -> bool {
        self.depth < STREAM_DEPTH
    }

    /// Whether the last event ended between two stanzas.
    pub(crate) fn between_stanzas(&self) -> bool {
        self.depth == STREAM_DEPTH && self.tag.is_none()
    }

    /// Takes the event that was read from the bytes `start..end`.
    pub(crate) fn event(
        &mut self,
        event: RawEvent,
        start: usize,
        end: usize,
        limits: &Limits,
    ) -> Result<Skimmed, StreamError> {
        match event {
            RawEvent::XmlDeclaration(..) => {
                if self.depth > 0 {
                    return Err(StreamError::new(
                        StreamCondition::RestrictedXml,
                        "an XML declaration may only stand at the start of a stream",
                    ));
                }
                Ok(Skimmed::Nothing)
            }
            RawEvent::ElementHeadOpen(_, (prefix, name)) => {
                if self.depth >= STREAM_DEPTH + limits.depth {
                    return Err(StreamError::policy("too many nested elements"));
                }
                self.tag = Some(Tag { prefix, name, start, name_end: end, attributes: 0 });
                Ok(Skimmed::Nothing)
            }
            RawEvent::Attribute(_, (prefix, name), value) => {
                self.attribute(prefix, name, value, Span { start, end }, limits)?;
                Ok(Skimmed::Nothing)
            }
            RawEvent::ElementHeadClose(_) => self.head_end(end, limits),
            RawEvent::ElementFoot(_) => Ok(self.foot(start, end)),
            RawEvent::Text(_, text) => {
                if self.depth == STREAM_DEPTH && !text.is_empty() {
                    return Err(StreamError::new(StreamCondition::BadFormat, "text between stanzas"));
                }
                Ok(Skimmed::Nothing)
            }
        }
    }

    fn attribute(
        &mut self,
        prefix: Option<NcName>,
        name: NcName,
        value: String,
        span: Span,
        limits: &Limits,
    ) -> Result<(), StreamError> {
        let Some(tag) = &mut self.tag else {
            return Ok(());
        };
        tag.attributes += 1;
        if tag.attributes > limits.attributes {
            return Err(StreamError::policy("too many attributes"));
        }
        let declared = match &prefix {
            Some(prefix) if prefix.as_str() == "xmlns" => Some(Some(name.clone())),
            None if name.as_str() == "xmlns" => Some(None),
            _ => None,
        };
        let Some(declared) = declared else {
            if self.attrs.iter().any(|attr| attr.name == name.as_str() && attr.prefix == prefix) {
                return Err(duplicate());
            }
            self.attrs.push(Attr { prefix, name: name.into(), value: value.into(), span });
            return Ok(());
        };
        let depth = self.depth + 1;
        if self.bindings.iter().rev().take_while(|b| b.depth == depth).any(|b| b.prefix == declared) {
            return Err(duplicate());
        }
        if value == XMLNS_XMLNS {
            return Err(StreamError::new(StreamCondition::NotWellFormed, "a reserved namespace is declared"));
        }
        if self.bindings.len() >= limits.namespaces {
            return Err(StreamError::policy("too many namespace declarations"));
        }
        self.bindings.push(Binding { depth, prefix: declared, ns: value.into() });
        Ok(())
    }

    fn head_end(&mut self, end: usize, limits: &Limits) -> Result<Skimmed, StreamError> {
        let Some(tag) = self.tag.take() else {
            return Ok(Skimmed::Nothing);
        };
        self.depth += 1;
        self.check_attributes()?;
        // The stream element, a stanza and its children are remembered; deeper elements are only checked.
        if self.depth > STREAM_DEPTH + 2 {
            if let Some(prefix) = &tag.prefix {
                self.resolve(Some(prefix))?;
            }
            self.attrs.clear();
            return Ok(Skimmed::Nothing);
        }
        let ns = self.resolve(tag.prefix.as_ref())?;
        let declares_default =
            self.bindings.iter().rev().take_while(|b| b.depth == self.depth).any(|b| b.prefix.is_none());
        let head = Head {
            prefix: tag.prefix,
            ns,
            name: tag.name.into(),
            attrs: std::mem::take(&mut self.attrs),
            span: Span { start: tag.start, end },
            name_end: tag.name_end,
            content: Span { start: end, end },
        };
        if self.depth == STREAM_DEPTH {
            return Ok(Skimmed::Header(head));
        }
        match &mut self.skim {
            Some(skim) if skim.children.len() >= limits.children => {
                return Err(StreamError::policy("too many children"));
            }
            Some(skim) => skim.children.push(head),
            None => {
                self.skim = Some(Box::new(Skim {
                    root: head,
                    children: Vec::new(),
                    declares_default,
                    borrowed: Vec::new(),
                }));
            }
        }
        Ok(Skimmed::Nothing)
    }

    fn foot(&mut self, start: usize, end: usize) -> Skimmed {
        let depth = self.depth;
        while self.bindings.last().is_some_and(|binding| binding.depth >= depth) {
            self.bindings.pop();
        }
        self.depth = depth.saturating_sub(1);
        let ended = |head: &mut Head| {
            head.span.end = end;
            // An empty-element tag ends with the start tag: its content is the empty range at its end.
            head.content.end = start;
        };
        if depth == STREAM_DEPTH {
            return Skimmed::Close;
        }
        if depth == STREAM_DEPTH + 2 {
            if let Some(child) = self.skim.as_mut().and_then(|skim| skim.children.last_mut()) {
                ended(child);
            }
        } else if depth == STREAM_DEPTH + 1
            && let Some(mut skim) = self.skim.take()
        {
            ended(&mut skim.root);
            skim.borrowed = std::mem::take(&mut self.borrowed);
            return Skimmed::Stanza(skim);
        }
        Skimmed::Nothing
    }

    /// The namespace of a name with this prefix; takes note of what the stream header lends to a stanza.
    fn resolve(&mut self, prefix: Option<&NcName>) -> Result<Arc<str>, StreamError> {
        if prefix.is_some_and(|prefix| prefix.as_str() == "xml") {
            return Ok(XMLNS_XML.into());
        }
        let Some(binding) = self.bindings.iter().rev().find(|binding| binding.prefix.as_ref() == prefix)
        else {
            return match prefix {
                None => Ok("".into()),
                Some(_) => Err(StreamError::new(
                    StreamCondition::BadNamespacePrefix,
                    "a namespace prefix is not declared",
                )),
            };
        };
        if let Some(prefix) = &binding.prefix {
            let lent = binding.depth == STREAM_DEPTH && self.depth > STREAM_DEPTH;
            if lent && !self.borrowed.iter().any(|(seen, _)| seen == prefix) {
                self.borrowed.push((prefix.clone(), binding.ns.clone()));
            }
        }
        Ok(binding.ns.clone())
    }

    /// What a stanza without prefixes inherits from the stream header, if that declares a default namespace.
    pub(crate) fn inherited(&self) -> Option<Inherited<'_>> {
        let mut header = self.bindings.iter().filter(|binding| binding.depth == STREAM_DEPTH);
        let ns = &header.find(|binding| binding.prefix.is_none())?.ns;
        Some(Inherited { ns, declared: self.bindings.len() })
    }

    /// Prefixes of attributes are declared, and no two attributes have the same namespace and name.
    fn check_attributes(&mut self) -> Result<(), StreamError> {
        if self.attrs.iter().all(|attr| attr.prefix.is_none()) {
            return Ok(());
        }
        let mut seen: Vec<(Arc<str>, CompactString)> = Vec::new();
        for at in 0..self.attrs.len() {
            let Some((Some(prefix), name)) =
                self.attrs.get(at).map(|attr| (attr.prefix.clone(), attr.name.clone()))
            else {
                continue;
            };
            let ns = self.resolve(Some(&prefix))?;
            if seen.iter().any(|(seen_ns, seen_name)| *seen_ns == ns && *seen_name == name) {
                return Err(duplicate());
            }
            seen.push((ns, name));
        }
        Ok(())
    }
}

fn duplicate() -> StreamError {
    StreamError::new(StreamCondition::NotWellFormed, "an attribute occurs twice")
}
