//! The reading half of a stream: bytes in, whole stanzas out, without I/O.
//!
//! Splits at exact byte ranges, holds the limits while bytes arrive, and makes each stanza stand alone: what it owes to
//! the stream header (default namespace, prefixes, language) is written onto it. What a stanza offers is `stanza.rs`;
//! sockets, timeouts and what to do with an event are the server's.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use rxml::parser::{Options, Parse, WithOptions};
use rxml::{RawEvent, RawParser};

use crate::escape::push_attr;
pub use crate::header::StreamHeader;
use crate::limits::Limits;
use crate::plain::Plain;
use crate::skim::{Skim, Skimmed, Skimmer, xml_lang};
use crate::stanza::{Kind, Stanza};
use crate::stream_error::{StreamCondition, StreamError};

/// How large a buffer a silent stream keeps; one that a long stanza has made larger is given back.
const BUFFER_KEPT_BYTES: usize = 16 * 1024;

/// Something whole that the peer sent.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // events are handled one at a time, never stored in bulk
pub enum StreamEvent {
    /// The stream header.
    Open(StreamHeader),
    /// A first-level element: a stanza, or an element of STARTTLS, SASL or the like ([`Kind::Other`]).
    Stanza(Stanza),
    /// The end tag of the stream.
    Close,
}

/// Splits the bytes of one direction of a stream into events.
///
/// Feed it with [`push`](Self::push), then call [`next`](Self::next) until it gives `None`. The cost is linear in the
/// bytes, however they are cut. After an error the stream is lost: every further call gives the same error.
#[derive(Debug)]
pub struct StreamReader {
    limits: Limits,
    source: Source,
    skimmer: Skimmer,
    plain: Plain,
    /// Whether plain stanzas are kept from the parser; tests compare.
    knows_plain: bool,
    lang: Option<String>,
    /// The declaration of the header's default namespace, as an attribute; empty if there is none.
    default: String,
    failed: Option<StreamError>,
}

impl StreamReader {
    /// A reader that expects a stream header.
    pub fn new(limits: Limits) -> Self {
        Self {
            source: Source::new(BytesMut::new(), &limits),
            skimmer: Skimmer::new(),
            plain: Plain::new(&limits),
            knows_plain: true,
            lang: None,
            default: String::new(),
            failed: None,
            limits,
        }
    }

    /// Replaces the limits: from now on, except for `attribute_bytes`, which waits for [`reset`](Self::reset).
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Starts over: a new stream header is expected (after STARTTLS and after SASL). Bytes that were pushed but not
    /// read stay; ask [`unread`](Self::unread) first where they must not (RFC 6120 §5.3.2: before the TLS handshake).
    pub fn reset(&mut self) {
        let rest = std::mem::take(&mut self.source.buf);
        self.source = Source::new(rest, &self.limits);
        self.skimmer = Skimmer::new();
        self.plain = Plain::new(&self.limits);
        self.lang = None;
        self.default = String::new();
        self.failed = None;
    }

    /// How many bytes were pushed that belong to no event returned so far.
    pub fn unread(&self) -> usize {
        self.source.buf.len()
    }

    /// Whether the stream header has not been read yet.
    pub fn awaits_header(&self) -> bool {
        self.skimmer.in_header()
    }

    /// Takes bytes from the peer. Keep the pieces modest: they are held until [`next`](Self::next) has read them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.source.buf.extend_from_slice(bytes);
    }

    /// The next whole event, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// The condition to close the stream with. If it comes before an `Open`, send our own header first.
    #[allow(clippy::should_implement_trait)] // an iterator would have to hide the errors
    pub fn next(&mut self) -> Result<Option<StreamEvent>, StreamError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.read().inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn read(&mut self) -> Result<Option<StreamEvent>, StreamError> {
        loop {
            if (self.skimmer.in_header() || self.skimmer.between_stanzas()) && !self.source.starts()? {
                return Ok(None);
            }
            if let Some(skim) = self.plain_stanza() {
                let stanza = self.stand_alone(skim)?;
                self.source.discard();
                return Ok(Some(StreamEvent::Stanza(stanza)));
            }
            let allowed =
                if self.skimmer.in_header() { self.limits.header_bytes } else { self.limits.stanza_bytes };
            let event = self.source.event(allowed);
            if event.is_err() && self.skimmer.in_header() && self.source.buf.starts_with(b"<\0") {
                return Err(utf16());
            }
            let Some((event, start, end)) = event? else {
                return Ok(None);
            };
            let done = match self.skimmer.event(event, start, end, &self.limits)? {
                Skimmed::Nothing => None,
                Skimmed::Header(head) => {
                    let default_ns = self.skimmer.inherited().map(|inherited| &**inherited.ns);
                    let header = StreamHeader::read(&head, default_ns)?;
                    if let Some(ns) = default_ns {
                        push_attr(&mut self.default, "xmlns", ns);
                    }
                    self.lang.clone_from(&header.lang);
                    Some(StreamEvent::Open(header))
                }
                Skimmed::Stanza(skim) => Some(StreamEvent::Stanza(self.stand_alone(*skim)?)),
                Skimmed::Close => Some(StreamEvent::Close),
            };
            if done.is_some() {
                self.source.discard();
                return Ok(done);
            }
        }
    }

    /// The next stanza, if nothing of it has gone to the parser yet and nothing need.
    fn plain_stanza(&mut self) -> Option<Skim> {
        if !self.knows_plain || !self.skimmer.between_stanzas() || !self.source.at_start() {
            return None;
        }
        let skim = self.plain.stanza(&self.source.buf, self.skimmer.inherited()?, &self.limits)?;
        self.source.pass(skim.root.span.end);
        Some(skim)
    }

    /// The stanza that was just read, with everything that it inherits from the stream header written onto it.
    fn stand_alone(&self, mut skim: Skim) -> Result<Stanza, StreamError> {
        let raw = skim.root.span.of(&self.source.buf);
        if skim.root.ns.is_empty() {
            return Err(StreamError::new(
                StreamCondition::BadNamespacePrefix,
                "an element without a namespace",
            ));
        }
        let kind = Kind::of(&skim);
        if kind == Kind::Other && *skim.root.ns == *crate::skim::CLIENT {
            return Err(StreamError::unsupported_stanza_type());
        }
        // Mostly just that.
        let mut owed = Cow::from(if skim.declares_default { "" } else { &self.default });
        for (prefix, ns) in &skim.borrowed {
            push_attr(owed.to_mut(), &format!("xmlns:{prefix}"), ns);
        }
        if let (true, None, Some(lang)) = (kind != Kind::Other, xml_lang(&skim.root.attrs), &self.lang) {
            push_attr(owed.to_mut(), "xml:lang", lang);
        }
        let at = skim.root.name_end;
        let raw = match raw.split_at_checked(at) {
            Some((name, rest)) if !owed.is_empty() => Bytes::from([name, owed.as_bytes(), rest].concat()),
            _ => Bytes::copy_from_slice(raw),
        };
        if kind != Kind::Other && skim.root.prefix.is_some() {
            return crate::element::without_prefix(&raw, &self.limits);
        }
        skim.shift(at, owed.len());
        Ok(Stanza::from_parts(raw, skim))
    }
}

/// White space as XML has it (XML 1.0 §2.3): without the form feed.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn utf16() -> StreamError {
    StreamError::new(StreamCondition::UnsupportedEncoding, "the encoding must be UTF-8")
}

/// Bytes on their way into the parser, and where in them its events lie.
#[derive(Debug)]
pub(crate) struct Source {
    parser: RawParser,
    /// From the start of the current first-level element (or of the stream).
    buf: BytesMut,
    /// How far the parser has read, or would have.
    fed: usize,
    /// Whether the parser has an event ready that needs no further byte: the end of an empty-element tag.
    queued: bool,
    /// Up to here there is no carriage return that stands alone.
    clean: usize,
    /// Whether the stream header has been read.
    begun: bool,
}

impl Source {
    pub(crate) fn new(buf: BytesMut, limits: &Limits) -> Self {
        let options = Options { max_token_length: limits.attribute_bytes, ..Options::default() };
        let parser = RawParser::with_options(options);
        Self { parser, buf, fed: 0, queued: false, clean: 0, begun: false }
    }

    /// The next event and its bytes, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// The parser's, or `policy-violation` if the events would reach past the first `allowed` bytes.
    pub(crate) fn event(&mut self, allowed: usize) -> Result<Option<(RawEvent, usize, usize)>, StreamError> {
        loop {
            let until = self.clean_until(allowed);
            // XML reads a lone carriage return as a line feed (XML 1.0 §2.11); the parser mistakes one in an attribute
            // value for an error, so it is told so. The bytes that we keep stay as they are.
            let lone = until == self.fed && self.buf.get(self.fed + 1).is_some() && self.fed < allowed;
            let mut window =
                if lone { b"\n".as_slice() } else { self.buf.get(self.fed..until).unwrap_or_default() };
            let offered = window.len();
            let result = self.parser.parse(&mut window, false);
            let left = window.len();
            self.pass(offered - left);
            match result {
                Ok(Some(event)) => {
                    return Ok(Some(self.placed(event)));
                }
                Ok(None) => return Ok(None),
                Err(rxml::error::EndOrError::NeedMoreData) if offered > 0 => {}
                Err(rxml::error::EndOrError::NeedMoreData)
                    if self.fed >= allowed && self.buf.len() > allowed =>
                {
                    return Err(StreamError::policy("too long"));
                }
                Err(rxml::error::EndOrError::NeedMoreData) => return Ok(None),
                Err(rxml::error::EndOrError::Error(error)) => {
                    let consumed = self.buf.get(..self.fed).unwrap_or_default();
                    return Err(StreamError::from_xml(error, consumed));
                }
            }
        }
    }

    /// Whether the parser has read nothing of the bytes, and owes nothing of those before.
    fn at_start(&self) -> bool {
        self.fed == 0 && !self.queued
    }

    /// Goes past bytes that the parser need not see.
    fn pass(&mut self, bytes: usize) {
        self.fed += bytes;
        self.clean = self.clean.max(self.fed);
    }

    /// The event with its place in the bytes, told by how far the parser has read. The event's own lengths cannot be
    /// summed up: an empty CDATA section is in none of them. Text has no exact place, and needs none.
    fn placed(&mut self, event: RawEvent) -> (RawEvent, usize, usize) {
        // The parser knows that a name has ended by reading what follows; everything else ends by its last byte.
        let ahead = usize::from(matches!(event, RawEvent::ElementHeadOpen(..)));
        let end = self.fed.saturating_sub(ahead);
        let start = end.saturating_sub(event.metrics().len());
        self.queued = matches!(event, RawEvent::ElementHeadClose(_))
            && self.buf.get(..end).is_some_and(|read| read.ends_with(b"/>"));
        (event, start, end)
    }

    /// How far the parser may read in one go: to the limit, the end of the bytes, or a lone carriage return.
    /// One at the very end of the bytes waits there until it is known whether a line feed follows.
    fn clean_until(&mut self, allowed: usize) -> usize {
        let until = self.buf.len().min(allowed);
        while self.clean < until {
            let rest = self.buf.get(self.clean..until).unwrap_or_default();
            // `contains` searches quickly for what is almost never there.
            if !rest.contains(&b'\r') {
                self.clean = until;
                break;
            }
            let at = self.clean + rest.iter().position(|&byte| byte == b'\r').unwrap_or(0);
            if self.buf.get(at + 1) != Some(&b'\n') {
                self.clean = at;
                break;
            }
            self.clean = (at + 2).min(until);
        }
        self.clean.max(self.fed).min(until.max(self.fed))
    }

    /// Drops white space where a first-level element or the header is to start, before the parser would wait for
    /// where it ends. Whether there is something for the parser then.
    ///
    /// # Errors
    /// Something else than white space and tags: text between stanzas, or no XML at all.
    fn starts(&mut self) -> Result<bool, StreamError> {
        if !self.at_start() {
            return Ok(true);
        }
        let first = self.buf.iter().position(|byte| !is_space(*byte)).unwrap_or(self.buf.len());
        self.buf.advance(first);
        self.clean = self.clean.saturating_sub(first);
        let no_xml = StreamError::from_xml(rxml::Error::InvalidSyntax(""), &[]);
        match self.buf.first() {
            None => Ok(false),
            Some(b'<') => Ok(true),
            Some(0..0x20) if self.begun => Err(no_xml),
            Some(_) if self.begun => {
                Err(StreamError::new(StreamCondition::BadFormat, "text between stanzas"))
            }
            Some(0 | 0xfe | 0xff) => Err(utf16()),
            Some(_) => Err(no_xml),
        }
    }

    /// Lets go of the bytes of the event that was just completed.
    fn discard(&mut self) {
        self.begun = true;
        self.buf.advance(self.fed.min(self.buf.len()));
        self.clean = self.clean.saturating_sub(self.fed);
        self.fed = 0;
        if self.buf.is_empty() && self.buf.capacity() > BUFFER_KEPT_BYTES {
            self.buf = BytesMut::new();
            self.parser.release_temporaries();
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
