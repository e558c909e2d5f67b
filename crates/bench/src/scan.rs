//! Cuts an incoming byte stream into whole stanzas and finds single attributes and texts in them, without building
//! a tree. It trusts the server to send well-formed XML; judging well-formedness is left to the conformance tests.

use std::ops::Range;

use memchr::{memchr, memchr3, memmem};

/// Bytes of free space kept for one read from the socket.
pub const READ_CHUNK: usize = 64 * 1024;

/// The largest stanza the generator accepts from a server, in bytes.
const STANZA_MAX: usize = 8 * 1024 * 1024;

/// One top-level piece of an XML stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// The stream's opening tag.
    Header,
    /// A whole top-level element; [`Inbox::bytes`] gives its bytes.
    Stanza(Range<usize>),
    /// The stream's closing tag.
    End,
}

/// Received bytes and how far they have been cut.
#[derive(Debug, Default)]
pub struct Inbox {
    buf: Vec<u8>,
    /// Where the unfinished unit starts.
    start: usize,
    /// Where scanning goes on; everything before it has been counted in `depth`.
    pos: usize,
    depth: usize,
}

/// What the bytes received so far cannot be.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Inbox {
    /// The buffer to append received bytes to; finished units are forgotten first.
    pub fn space(&mut self) -> &mut Vec<u8> {
        if self.start >= self.buf.len() {
            self.buf.clear();
        } else if self.start > 0 {
            self.buf.drain(..self.start);
        }
        self.pos -= self.start;
        self.start = 0;
        self.buf.reserve(READ_CHUNK);
        &mut self.buf
    }

    /// Forgets everything: a new stream begins.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// The bytes of a stanza returned by [`Inbox::next`], until the next call of [`Inbox::space`].
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.buf.get(range.clone()).unwrap_or_default()
    }

    /// The next whole unit, or `None` until more bytes are there.
    ///
    /// # Errors
    /// [`TooLong`] when a stanza exceeds what the generator is willing to hold.
    pub fn next(&mut self) -> Result<Option<Unit>, TooLong> {
        loop {
            let Some(rest) = self.buf.get(self.pos..) else { return Ok(None) };
            let Some(open) = memchr(b'<', rest) else {
                self.pos = self.buf.len();
                if self.depth == 0 {
                    self.start = self.pos;
                }
                return self.unfinished();
            };
            let tag = rest.get(open..).unwrap_or_default();
            let Some(len) = tag_len(tag) else {
                self.pos += open;
                if self.depth == 0 {
                    self.start = self.pos;
                }
                return self.unfinished();
            };
            let tag = tag.get(..len).unwrap_or_default();
            if self.depth == 0 {
                self.start = self.pos + open;
            }
            self.pos += open + len;
            match tag {
                [b'<', b'!' | b'?', ..] => {}
                [b'<', b'/', name @ ..] => {
                    if self.depth == 0 {
                        self.start = self.pos;
                        if name.starts_with(b"stream:stream") {
                            return Ok(Some(Unit::End));
                        }
                        continue;
                    }
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(self.finish()));
                    }
                }
                [.., b'/', b'>'] => {
                    if self.depth == 0 {
                        return Ok(Some(self.finish()));
                    }
                }
                _ if self.depth == 0 && tag.starts_with(b"<stream:stream") => {
                    self.start = self.pos;
                    return Ok(Some(Unit::Header));
                }
                _ => self.depth += 1,
            }
        }
    }

    fn finish(&mut self) -> Unit {
        let range = self.start..self.pos;
        self.start = self.pos;
        Unit::Stanza(range)
    }

    fn unfinished(&self) -> Result<Option<Unit>, TooLong> {
        if self.buf.len() - self.start > STANZA_MAX { Err(TooLong) } else { Ok(None) }
    }
}

/// The length of the markup at the start of `bytes`, which begin with `<`; `None` if its end is not there yet.
fn tag_len(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"<!") {
        // Too short to tell CDATA from a comment: wait.
        if bytes.len() < b"<![CDATA[".len() {
            return None;
        }
        let end: &[u8] = if bytes.starts_with(b"<![CDATA[") { b"]]>" } else { b"-->" };
        return memmem::find(bytes, end).map(|at| at + end.len());
    }
    let mut at = 1;
    loop {
        let rest = bytes.get(at..)?;
        let hit = memchr3(b'>', b'"', b'\'', rest)?;
        let byte = *rest.get(hit)?;
        at += hit + 1;
        if byte == b'>' {
            return Some(at);
        }
        at += memchr(byte, bytes.get(at..)?)? + 1;
    }
}

/// True if the stanza's own tag has this local name.
pub fn is(stanza: &[u8], name: &str) -> bool {
    let Some(rest) = stanza.get(1..) else { return false };
    rest.starts_with(name.as_bytes())
        && matches!(rest.get(name.len()), Some(b' ' | b'>' | b'/' | b'\n' | b'\t' | b'\r'))
}

/// The first element inside `stanza` with this name, from its `<` to the end of the stanza.
pub fn element<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut from = 0;
    loop {
        let rest = stanza.get(from..)?;
        let at = memmem::find(rest, name.as_bytes())?;
        let before = from + at;
        from = before + name.len();
        let opens = before.checked_sub(1).and_then(|i| stanza.get(i)) == Some(&b'<');
        if opens && matches!(stanza.get(from), Some(b' ' | b'>' | b'/' | b'\n' | b'\t' | b'\r')) {
            return stanza.get(before - 1..);
        }
    }
}

/// The raw value of an attribute of the tag at the start of `element`.
pub fn attr<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let tag = element.get(..tag_len(element)?)?;
    let mut from = 0;
    loop {
        let rest = tag.get(from..)?;
        let at = from + memchr(b'=', rest)?;
        let quote = *tag.get(at + 1)?;
        let value = tag.get(at + 2..)?;
        let len = memchr(quote, value)?;
        let named = tag.get(..at).is_some_and(|head| {
            head.ends_with(name.as_bytes())
                && matches!(
                    head.len().checked_sub(name.len() + 1).and_then(|i| head.get(i)),
                    Some(b' ' | b'\n' | b'\t' | b'\r')
                )
        });
        if named {
            return value.get(..len);
        }
        from = at + 2 + len + 1;
    }
}

/// The raw text at the start of an element that holds only text (what stands between its tag and the next `<`).
pub fn text(element: &[u8]) -> Option<&[u8]> {
    let rest = element.get(tag_len(element)?..)?;
    rest.get(..memchr(b'<', rest)?)
}

/// The text of the first element of this name.
pub fn text_of<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    text(element(stanza, name)?)
}

/// Bytes as text for messages to people; never fails.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id=\"a>b\">",
        "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>\n ",
        "<r/><message from='a@b/\">' id='1'><body>x &lt; y</body><x><![CDATA[</message>]]></x></message>",
        "<!-- no --><iq type='result' id='2'/></stream:stream>"
    );

    fn cut(chunk: usize) -> Vec<String> {
        let mut inbox = Inbox::default();
        let mut units = Vec::new();
        for piece in STREAM.as_bytes().chunks(chunk) {
            inbox.space().extend_from_slice(piece);
            while let Some(unit) = inbox.next().unwrap() {
                units.push(match unit {
                    Unit::Header => "header".to_owned(),
                    Unit::End => "end".to_owned(),
                    Unit::Stanza(range) => lossy(inbox.bytes(&range)),
                });
            }
        }
        units
    }

    #[test]
    fn the_cut_does_not_depend_on_how_bytes_arrive() {
        let whole = cut(STREAM.len());
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[0], "header");
        assert_eq!(whole[2], "<r/>");
        assert!(whole[3].starts_with("<message") && whole[3].ends_with("</message>"));
        assert_eq!(whole[4], "<iq type='result' id='2'/>");
        assert_eq!(whole[5], "end");
        for chunk in 1..40 {
            assert_eq!(cut(chunk), whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn attributes_and_texts_are_found() {
        let stanza = b"<message to='x' from=\"a'b\" xml:id='no'><result queryid='q' id='7'><body lang='id=3'>hi</body>";
        assert_eq!(attr(stanza, "from"), Some(&b"a'b"[..]));
        assert_eq!(attr(stanza, "id"), None);
        assert_eq!(attr(element(stanza, "result").unwrap(), "id"), Some(&b"7"[..]));
        assert_eq!(text_of(stanza, "body"), Some(&b"hi"[..]));
        assert_eq!(element(stanza, "resul"), None);
        assert!(is(stanza, "message") && !is(stanza, "mess"));
    }

    #[test]
    fn an_endless_stanza_is_refused() {
        let mut inbox = Inbox::default();
        inbox.space().extend_from_slice(b"<message><body>");
        inbox.space().resize(STANZA_MAX + 100, b'x');
        assert_eq!(inbox.next(), Err(TooLong));
    }
}
