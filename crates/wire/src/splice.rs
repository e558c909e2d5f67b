//! Putting a child into a finished stanza without reading it again: for what differs from one receiver to the
//! next, such as the stanza-id. Changes that need to know what is inside are in `rewrite.rs`.

use bytes::BufMut;

/// Appends `stanza` to `out`, with `child` as its last child. `stanza` is one whole element, nothing around it, as
/// [`crate::stanza::Stanza::raw`] and [`crate::rewrite::Rewrite::finish`] give it; `child` is well-formed and
/// declares its own namespaces.
pub fn append_child(out: &mut impl BufMut, stanza: &[u8], child: &str) {
    if let Some(start) = stanza.strip_suffix(b"/>") {
        let name = stanza.iter().skip(1).take_while(|b| !b" \t\r\n/>".contains(b)).count();
        out.put_slice(start);
        out.put_u8(b'>');
        out.put_slice(child.as_bytes());
        out.put_slice(b"</");
        out.put_slice(stanza.get(1..1 + name).unwrap_or_default());
        out.put_u8(b'>');
    } else {
        // In a whole element the last `<` opens its end tag: attribute values and text cannot hold one, and a
        // CDATA section cannot follow it.
        let end = stanza.iter().rposition(|b| *b == b'<').unwrap_or(stanza.len());
        let (before, after) = stanza.split_at_checked(end).unwrap_or((stanza, &[]));
        out.put_slice(before);
        out.put_slice(child.as_bytes());
        out.put_slice(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_comes_last() {
        let cases = [
            ("<message/>", "<message><x/></message>"),
            ("<message to='a/>'/>", "<message to='a/>'><x/></message>"),
            ("<message\n id='1' />", "<message\n id='1' ><x/></message>"),
            ("<message></message >", "<message><x/></message >"),
            ("<message><body>a</body></message>", "<message><body>a</body><x/></message>"),
            ("<message><![CDATA[<]]></message>", "<message><![CDATA[<]]><x/></message>"),
        ];
        for (stanza, expected) in cases {
            let mut out = Vec::new();
            append_child(&mut out, stanza.as_bytes(), "<x/>");
            assert_eq!(out, expected.as_bytes());
        }
    }
}
