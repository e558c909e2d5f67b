//! Stanzas as Prosody's own `tostring` writes them, read back. It knows exactly that spelling; anything else is left to
//! Prosody's XML parser, which knows all of XML and takes ten times as long.

use std::borrow::Cow;

/// Deeper nesting is left to Prosody.
const DEPTH_MAX: usize = 200;

/// An element.
#[derive(Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace, if it is in one.
    pub namespace: Option<Cow<'a, str>>,
    /// Its attributes, `xmlns` aside.
    pub attributes: Vec<(&'a str, Cow<'a, str>)>,
    /// What is in it.
    pub children: Vec<Child<'a>>,
}

/// What can be in an element.
#[derive(Debug, PartialEq, Eq)]
pub enum Child<'a> {
    /// An element.
    Element(Element<'a>),
    /// Text.
    Text(Cow<'a, str>),
}

/// Reads one element; `None` when it is not in Prosody's spelling.
#[must_use]
pub fn read(text: &str) -> Option<Element<'_>> {
    let mut rest = text;
    let mut open: Vec<Element<'_>> = Vec::new();
    loop {
        let (before, tag) = rest.split_once('<')?;
        if !before.is_empty() {
            let text = unescape(before)?;
            open.last_mut()?.children.push(Child::Text(text));
        }
        let done = if let Some(tag) = tag.strip_prefix('/') {
            let (name, after) = tag.split_once('>')?;
            rest = after;
            let element = open.pop()?;
            (element.name == name).then_some(())?;
            Some(element)
        } else {
            let (element, empty, after) = start(tag, open.last())?;
            rest = after;
            if empty {
                Some(element)
            } else {
                (open.len() < DEPTH_MAX).then_some(())?;
                open.push(element);
                None
            }
        };
        if let Some(element) = done {
            match open.last_mut() {
                Some(parent) => parent.children.push(Child::Element(element)),
                None => return rest.is_empty().then_some(element),
            }
        }
    }
}

/// What follows a `<`: the element, whether it is empty, and what comes after.
fn start<'a>(tag: &'a str, parent: Option<&Element<'a>>) -> Option<(Element<'a>, bool, &'a str)> {
    let end = tag.find([' ', '/', '>'])?;
    let (name, mut rest) = tag.split_at_checked(end)?;
    plain(name).then_some(())?;
    let namespace = parent.and_then(|parent| parent.namespace.clone());
    let mut element = Element { name, namespace, attributes: Vec::new(), children: Vec::new() };
    while let Some(attribute) = rest.strip_prefix(' ') {
        let (name, value) = attribute.split_once("='")?;
        let (value, after) = value.split_once('\'')?;
        rest = after;
        let value = unescape(value)?;
        match name {
            "xmlns" => element.namespace = (!value.is_empty()).then_some(value),
            "xml:lang" => element.attributes.push((name, value)),
            _ if plain(name) => element.attributes.push((name, value)),
            _ => return None,
        }
    }
    match rest.strip_prefix("/>") {
        Some(after) => Some((element, true, after)),
        None => Some((element, false, rest.strip_prefix('>')?)),
    }
}

/// A name without prefix, and no markup of another kind.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['!', '?', ':', '<', '>', '&', '\'', '"', '=', '\n', '\t', '\r', ' '])
}

fn unescape(text: &str) -> Option<Cow<'_, str>> {
    let Some((first, mut rest)) = text.split_once('&') else { return Some(Cow::Borrowed(text)) };
    let mut out = String::with_capacity(text.len());
    out.push_str(first);
    loop {
        let (name, after) = rest.split_once(';')?;
        out.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "apos" => '\'',
            "quot" => '"',
            _ => return None,
        });
        match after.split_once('&') {
            Some((plain, next)) => {
                out.push_str(plain);
                rest = next;
            }
            None => {
                out.push_str(after);
                return Some(Cow::Owned(out));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prosodys_spelling() {
        let text = "<message to='ü@b' xml:lang='de'>a &lt;&amp;&gt;<x xmlns='urn:x'><y> </y><z xmlns='urn:z'/></x>\n</message>";
        let message = read(text).unwrap();
        assert_eq!(message.attributes, [("to", Cow::from("ü@b")), ("xml:lang", Cow::from("de"))]);
        assert_eq!(message.children[0], Child::Text("a <&>".into()));
        assert_eq!(message.children[2], Child::Text("\n".into()));
        let Child::Element(x) = &message.children[1] else { panic!("{message:?}") };
        assert_eq!((x.name, x.namespace.as_deref()), ("x", Some("urn:x")));
        let namespaces = x.children.iter().map(|child| match child {
            Child::Element(element) => (element.name, element.namespace.as_deref()),
            Child::Text(_) => panic!("{x:?}"),
        });
        let namespaces: Vec<_> = namespaces.collect();
        assert_eq!(namespaces, [("y", Some("urn:x")), ("z", Some("urn:z"))]);
    }

    #[test]
    fn anything_else_is_left_alone() {
        for text in [
            "",
            "text",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/>b",
            "<a/><b/>",
            "<!--c-->",
            "<a><!--c--></a>",
            "<?xml?><a/>",
            "<a><![CDATA[x]]></a>",
            "<a>&#65;</a>",
            "<a>&nbsp;</a>",
            "<a>&amp</a>",
            "<p:a/>",
            "<a p:b='c' xmlns:p='d'/>",
            "<a b=\"c\"/>",
            "<a b='c'd='e'/>",
            "<a  b='c'/>",
            "<a b='c'>",
            "<a",
            "<>",
            "<a b/>",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&("<a>".repeat(1000) + &"</a>".repeat(1000))), None);
    }
}
