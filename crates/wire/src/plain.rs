//! Stanzas that are written plainly are read here, without the parser: names of ASCII letters and without prefixes
//! (but for `xml:lang`), attribute values that say what they mean, text with none but the five named references.
//! Nothing is ever refused: whatever is not plain, not whole yet, or beyond a limit is left to the parser (`stream.rs`).

use std::collections::VecDeque;
use std::sync::Arc;

use rxml::NcName;

use crate::escape::{NAME, VALUE, is, plain_text};
use crate::limits::Limits;
use crate::skim::{Attr, Head, Skim, Span};

/// How many namespaces a stream remembers, to share them between stanzas; the oldest goes first.
const NAMESPACES_MAX: usize = 16;
/// Bytes of the longest namespace that is remembered.
const NAMESPACE_BYTES_MAX: usize = 128;
/// What every reserved namespace begins with, and hardly another.
const RESERVED: &[u8] = b"http://www.w3.org/";
/// The references that text may hold.
const REFERENCES: [&[u8]; 5] = [b"&amp;", b"&lt;", b"&gt;", b"&apos;", b"&quot;"];

/// What a plain stanza inherits from the stream header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited<'a> {
    /// The default namespace.
    pub ns: &'a Arc<str>,
    /// How many namespace declarations are in force.
    pub declared: usize,
}

/// Reads the plain stanzas of one stream.
#[derive(Debug)]
pub(crate) struct Plain {
    /// The parser's own limit on a name or value, in bytes.
    longest: usize,
    namespaces: VecDeque<Arc<str>>,
    /// The elements that have not ended: their names, and whether they declare a namespace.
    open: Vec<(Span, bool)>,
    /// The attributes of the start tag that was just read.
    attributes: Vec<Attribute>,
}

/// An attribute that is not a namespace declaration.
#[derive(Debug)]
struct Attribute {
    name: Span,
    is_xml_lang: bool,
    value: Span,
    /// All of it, with the white space before it.
    span: Span,
}

/// A start tag.
struct Tag {
    name: Span,
    ns: Option<Span>,
    empty: bool,
}

impl Plain {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            longest: limits.attribute_bytes,
            namespaces: VecDeque::new(),
            open: Vec::new(),
            attributes: Vec::new(),
        }
    }

    /// The stanza at the start of `bytes`, if it is plain, whole and within the limits. It ends where its root does.
    pub(crate) fn stanza(&mut self, bytes: &[u8], inherited: Inherited<'_>, limits: &Limits) -> Option<Skim> {
        let mut cursor = Cursor { bytes, at: 0 };
        let mut declared = inherited.declared;
        let mut skim: Option<Skim> = None;
        self.open.clear();
        loop {
            let start = cursor.at;
            let ended = if cursor.rest().starts_with(b"</") {
                let (name, declares) = self.open.pop()?;
                cursor.at += "</".len();
                cursor.take(name.of(bytes))?;
                cursor.take(b">")?;
                declared -= usize::from(declares);
                Some(start)
            } else {
                let tag = self.tag(&mut cursor, limits.attributes)?;
                let declares = tag.ns.is_some();
                declared += usize::from(declares);
                (self.open.len() < limits.depth && declared <= limits.namespaces).then_some(())?;
                let text = std::str::from_utf8(bytes.get(start..cursor.at)?).ok()?;
                // Deeper elements than a stanza's children are only checked.
                match (&mut skim, self.open.len()) {
                    (None, _) => {
                        let root = self.head(&tag, text, start, inherited.ns)?;
                        let (children, borrowed) = (Vec::new(), Vec::new());
                        skim = Some(Skim { root, children, declares_default: declares, borrowed });
                    }
                    (Some(skim), 1) => {
                        (skim.children.len() < limits.children).then_some(())?;
                        skim.children.push(self.head(&tag, text, start, &skim.root.ns)?);
                    }
                    (Some(_), _) => {}
                }
                if tag.empty {
                    declared -= usize::from(declares);
                } else {
                    self.open.push((tag.name, declares));
                }
                tag.empty.then_some(cursor.at)
            };
            let head = match (&mut skim, self.open.len()) {
                (Some(skim), 0) => Some(&mut skim.root),
                (Some(skim), 1) => skim.children.last_mut(),
                _ => None,
            };
            if let (Some(head), Some(content_end)) = (head, ended) {
                head.span.end = cursor.at;
                head.content.end = content_end;
            }
            if self.open.is_empty() {
                return skim.filter(|_| cursor.at <= limits.stanza_bytes);
            }
            cursor.text()?;
        }
    }

    /// Reads a start tag.
    fn tag(&mut self, cursor: &mut Cursor<'_>, attributes_max: usize) -> Option<Tag> {
        self.attributes.clear();
        cursor.take(b"<")?;
        let name = cursor.name()?;
        (name.end - name.start <= self.longest).then_some(())?;
        let mut ns = None;
        loop {
            let start = cursor.at;
            let spaces = cursor.run(|byte| byte == b' ');
            let empty = cursor.take(b"/").is_some();
            if cursor.take(b">").is_some() {
                return Some(Tag { name, ns, empty });
            }
            let fits = self.attributes.len() + usize::from(ns.is_some()) < attributes_max;
            (fits && !empty && spaces.end > spaces.start).then_some(())?;
            let is_xml_lang = cursor.rest().starts_with(b"xml:lang=");
            cursor.at += if is_xml_lang { "xml:".len() } else { 0 };
            let name = cursor.name()?;
            cursor.take(b"=")?;
            let value = cursor.value()?;
            let span = Span { start, end: cursor.at };
            let of = |span: Span| span.of(cursor.bytes);
            (span.end - span.start <= self.longest).then_some(())?;
            if of(name) == b"xmlns" {
                let usual = value.end > value.start && !of(value).starts_with(RESERVED);
                (ns.is_none() && usual).then_some(())?;
                ns = Some(value);
                continue;
            }
            let same = |other: &Attribute| of(other.name) == of(name) && other.is_xml_lang == is_xml_lang;
            (!self.attributes.iter().any(same)).then_some(())?;
            self.attributes.push(Attribute { name, is_xml_lang, value, span });
        }
    }

    /// What is remembered of the element whose start tag was just read. `text` is that tag, `around` the default
    /// namespace around it.
    fn head(&mut self, tag: &Tag, text: &str, start: usize, around: &Arc<str>) -> Option<Head> {
        let of = |span: Span| text.get(span.start - start..span.end - start);
        let mut attrs = Vec::with_capacity(self.attributes.len());
        for &Attribute { name, is_xml_lang, value, span } in &self.attributes {
            let prefix = if is_xml_lang { Some(NcName::try_from("xml").ok()?) } else { None };
            attrs.push(Attr { prefix, name: of(name)?.into(), value: of(value)?.into(), span });
        }
        let end = start + text.len();
        Some(Head {
            prefix: None,
            ns: tag.ns.map_or_else(|| Some(around.clone()), |ns| Some(self.namespace(of(ns)?)))?,
            name: of(tag.name)?.into(),
            attrs,
            span: Span { start, end },
            name_end: tag.name.end,
            content: Span { start: end, end },
        })
    }

    /// A declared namespace, shared with the elements that declared it before.
    fn namespace(&mut self, ns: &str) -> Arc<str> {
        if let Some(known) = self.namespaces.iter().find(|known| ***known == *ns) {
            return known.clone();
        }
        let ns: Arc<str> = ns.into();
        if ns.len() <= NAMESPACE_BYTES_MAX {
            self.namespaces.truncate(NAMESPACES_MAX - 1);
            self.namespaces.push_front(ns.clone());
        }
        ns
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Goes past exactly these bytes.
    fn take(&mut self, bytes: &[u8]) -> Option<()> {
        self.rest().starts_with(bytes).then(|| self.at += bytes.len())
    }

    /// Goes past the bytes of a kind.
    fn run(&mut self, is: impl Fn(u8) -> bool) -> Span {
        let (start, rest) = (self.at, self.rest());
        self.at += rest.iter().position(|byte| !is(*byte)).unwrap_or(rest.len());
        Span { start, end: self.at }
    }

    /// A name without a prefix.
    fn name(&mut self) -> Option<Span> {
        let first = self.rest().first()?;
        (first.is_ascii_alphabetic() || *first == b'_').then_some(())?;
        Some(self.run(|byte| is(NAME, byte)))
    }

    /// A value between quotes that needs neither unescaping nor normalising.
    fn value(&mut self) -> Option<Span> {
        let quote = *self.rest().first().filter(|byte| matches!(byte, b'\'' | b'"'))?;
        self.at += 1;
        let value = self.run(|byte| byte != quote && is(VALUE, byte));
        self.take(&[quote])?;
        Some(value)
    }

    /// Text up to the next tag.
    fn text(&mut self) -> Option<()> {
        loop {
            self.at += plain_text(self.rest());
            self.at += match self.rest() {
                [b'<', ..] => return Some(()),
                rest @ [b'&', ..] => REFERENCES.iter().find(|name| rest.starts_with(name))?.len(),
                [b']', next, ..] if *next != b']' => 1,
                [0xef, 0xbf, 0xbe | 0xbf, ..] => return None,
                rest @ [0xef, ..] => std::str::from_utf8(rest.get(..3)?).ok()?.len(),
                _ => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the stanza at the start of `bytes` is, if it is plain.
    fn len(bytes: &str) -> Option<usize> {
        let (limits, ns) = (Limits::authenticated(), "jabber:client".into());
        let inherited = Inherited { ns: &ns, declared: 2 };
        Plain::new(&limits).stanza(bytes.as_bytes(), inherited, &limits).map(|skim| skim.root.span.end)
    }

    #[test]
    fn what_clients_send_is_plain() {
        let stanzas = [
            "<presence/>",
            "<iq type=\"get\" id='1' ><ping xmlns='urn:xmpp:ping' /></iq>",
            "<message to='a@b/c' xml:lang='en'><body>Tom &amp; Jerry\n😀[1]，</body><active xmlns='urn:x'/></message>",
            "<message><encrypted xmlns='urn:e'><header sid='1'><key rid='2'>QQ==</key></header></encrypted></message>",
        ];
        for stanza in stanzas {
            assert_eq!(len(&format!("{stanza}<presence/>")), Some(stanza.len()), "{stanza}");
        }
    }

    #[test]
    fn what_is_left_to_the_parser() {
        let stanzas = [
            "",
            "<message",
            "<message><body>",
            "<message><body></message>",
            "<c:message xmlns:c='jabber:client'/>",
            "<message a='1' a='1'/>",
            "<message a='&lt;'/>",
            "<message a='\t'/>",
            "<message>\r</message>",
            "<message>&#65;</message>",
            "<message>]]></message>",
            "<message><![CDATA[]]></message>",
            "<message>\u{ffff}</message>",
            "</stream>",
        ];
        for stanza in stanzas {
            assert_eq!(len(stanza), None, "{stanza}");
        }
    }
}
