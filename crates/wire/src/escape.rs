//! Escaping and unescaping of XML text and attribute values (XML 1.0 §2.4, §2.11).
//! Decides nothing about what is escaped where; the readers and writers of this crate do.

use std::borrow::Cow;

/// How many bytes of text are looked at in one step.
const PLAIN_BLOCK_BYTES: usize = 16;

/// `value` as it may stand between single or double quotes in a start tag.
///
/// Line breaks and tabs become character references, so that they survive attribute-value normalisation.
/// A character that XML 1.0 does not allow at all becomes U+FFFD.
pub fn escape_attr(value: &str) -> Cow<'_, str> {
    escape(value, true)
}

/// `text` as it may stand between tags.
///
/// A carriage return becomes a character reference, so that it survives line-end normalisation.
/// A character that XML 1.0 does not allow at all becomes U+FFFD.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    escape(text, false)
}

/// Appends ` name='value'`, escaped.
pub(crate) fn push_attr(out: &mut String, name: &str, value: &str) {
    let value = escape_attr(value);
    out.reserve(name.len() + value.len() + 4);
    out.push(' ');
    out.push_str(name);
    out.push_str("='");
    out.push_str(&value);
    out.push('\'');
}

/// How many bytes from the start are text that means just what it says: characters that XML allows, no markup, no
/// reference, no carriage return, and no bracket that could end a CDATA section. Not all such text: U+F000 to U+FFFF
/// are not looked at, for two of them are forbidden.
pub(crate) fn plain_text(bytes: &[u8]) -> usize {
    if bytes.first() == Some(&b'<') {
        return 0;
    }
    let plain = |byte: u8| {
        let space = (byte >= b' ') | (byte == b'\n') | (byte == b'\t');
        space & (byte != b'&') & (byte != b'<') & (byte != b']') & (byte != 0xef)
    };
    // Without branches inside, so that many bytes are looked at in one step.
    let blocks = bytes.chunks_exact(PLAIN_BLOCK_BYTES);
    let whole = blocks.take_while(|block| block.iter().fold(true, |all, byte| all & plain(*byte))).count();
    let whole = whole * PLAIN_BLOCK_BYTES;
    let rest = bytes.get(whole..).unwrap_or_default();
    let len = whole + rest.iter().position(|byte| !plain(*byte)).unwrap_or(rest.len());
    match std::str::from_utf8(bytes.get(..len).unwrap_or_default()) {
        Ok(text) => text.len(),
        Err(error) => error.valid_up_to(),
    }
}

/// The byte may stand in a name of ASCII letters.
pub(crate) const NAME: u8 = 1;
/// The byte may stand in an attribute value that means what it says, if it is not the quote around it.
pub(crate) const VALUE: u8 = 2;
/// The byte never belongs to a character that is escaped.
const UNESCAPED: u8 = 4;

/// Of which of these kinds each byte is.
#[expect(clippy::indexing_slicing, reason = "while it is compiled")]
static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = kinds_of(byte as u8);
        byte += 1;
    }
    kinds
};

const fn kinds_of(byte: u8) -> u8 {
    let name = matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    // 0xEF begins the two characters beyond ASCII that XML forbids, among others.
    let value = byte >= b' ' && !matches!(byte, b'&' | b'<' | 0xef);
    let unescaped = value && !matches!(byte, b'>' | b'\'' | b'"');
    (if name { NAME } else { 0 }) | (if value { VALUE } else { 0 }) | (if unescaped { UNESCAPED } else { 0 })
}

/// Whether a byte is of this kind.
pub(crate) fn is(kind: u8, byte: u8) -> bool {
    KINDS.get(usize::from(byte)).is_some_and(|kinds| kinds & kind != 0)
}

fn escape(value: &str, attribute: bool) -> Cow<'_, str> {
    // Nearly everything is plain, and a look at its bytes shows it.
    if value.bytes().all(|byte| is(UNESCAPED, byte)) {
        return Cow::Borrowed(value);
    }
    let replacement = |ch: char| -> Option<&'static str> {
        Some(match ch {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\r' => "&#13;",
            '\'' if attribute => "&apos;",
            '"' if attribute => "&quot;",
            '\t' if attribute => "&#9;",
            '\n' if attribute => "&#10;",
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                "\u{fffd}"
            }
            _ => return None,
        })
    };
    if !value.chars().any(|ch| replacement(ch).is_some()) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 16);
    for ch in value.chars() {
        match replacement(ch) {
            Some(text) => out.push_str(text),
            None => out.push(ch),
        }
    }
    Cow::Owned(out)
}

/// The character data directly inside the content of an element, references and CDATA sections resolved,
/// line ends normalised; text inside child elements is left out.
///
/// `content` is what stands between the start tag and the end tag of an element that a parser has accepted;
/// anything else gives some text, never a panic.
pub(crate) fn direct_text(content: &[u8]) -> String {
    let Ok(mut rest) = std::str::from_utf8(content) else {
        return String::new();
    };
    let mut out = String::with_capacity(rest.len());
    let mut depth = 0usize;
    loop {
        let Some((text, tail)) = rest.split_once('<') else {
            if depth == 0 {
                push_unescaped(&mut out, rest);
            }
            return out;
        };
        if depth == 0 {
            push_unescaped(&mut out, text);
        }
        rest = if let Some(cdata) = tail.strip_prefix("![CDATA[") {
            let (text, after) = cdata.split_once("]]>").unwrap_or((cdata, ""));
            if depth == 0 {
                push_line_ends(&mut out, text);
            }
            after
        } else {
            let (tag, after) = split_tag(tail);
            if tag.starts_with('/') {
                depth = depth.saturating_sub(1);
            } else if !tag.ends_with('/') {
                depth += 1;
            }
            after
        };
    }
}

/// Splits after the `>` that ends the tag at the start of `text`; quoted values may hold `>`.
fn split_tag(text: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return (text.get(..at).unwrap_or(""), text.get(at + 1..).unwrap_or("")),
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    (text, "")
}

fn push_line_ends(out: &mut String, text: &str) {
    if !text.contains('\r') {
        out.push_str(text);
        return;
    }
    out.push_str(&text.replace("\r\n", "\n").replace('\r', "\n"));
}

fn push_unescaped(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('&') {
        push_line_ends(out, before);
        let (name, after) = tail.split_once(';').unwrap_or((tail, ""));
        out.push(reference(name).unwrap_or('\u{fffd}'));
        rest = after;
    }
    push_line_ends(out, rest);
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => {
            let digits = name.strip_prefix('#')?;
            let code = match digits.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => digits.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_where() {
        assert_eq!(escape_attr("plain 😀"), "plain 😀");
        assert_eq!(escape_attr("a<b>&'\"\t\n\r"), "a&lt;b&gt;&amp;&apos;&quot;&#9;&#10;&#13;");
        assert_eq!(escape_text("a<b>&'\"\t\n\r\u{1}"), "a&lt;b&gt;&amp;'\"\t\n&#13;\u{fffd}");
    }

    #[test]
    fn text_is_decoded_as_a_parser_would() {
        let cases = [
            ("", ""),
            ("a&amp;b&#x1F600;&#13;&lt;", "a&b😀\r<"),
            ("one\r\ntwo\rthree", "one\ntwo\nthree"),
            ("a<![CDATA[<b>&amp;]]]]>c", "a<b>&amp;]]c"),
            ("x<i a='>'>no<j/>no</i>y<k/>z", "xyz"),
            ("<i><![CDATA[no]]></i>yes", "yes"),
        ];
        for (content, text) in cases {
            assert_eq!(direct_text(content.as_bytes()), text, "{content}");
        }
    }
}
