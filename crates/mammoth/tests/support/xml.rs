//! A stanza as its XML information set: names with their namespaces, attributes without order, text, children in
//! order. Read with a parser that the server does not use, so that two trees are equal exactly if nothing was lost.

use std::collections::BTreeMap;
use std::fmt;

/// One element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xml {
    /// Its namespace.
    pub ns: String,
    /// Its local name.
    pub name: String,
    /// Attributes by namespace (empty for none) and name.
    pub attrs: BTreeMap<(String, String), String>,
    /// Text and elements, in order; neighbouring pieces of text are one.
    pub nodes: Vec<Node>,
    /// The bytes as they came; not part of the comparison.
    pub raw: Raw,
}

/// A piece of an element's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Xml),
    /// Text.
    Text(String),
}

/// Bytes that come along and compare equal to any others.
#[derive(Clone, Default)]
pub struct Raw(pub String);

impl PartialEq for Raw {
    fn eq(&self, _: &Raw) -> bool {
        true
    }
}

impl Eq for Raw {}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Display for Xml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw.0)
    }
}

impl Xml {
    /// Reads an element that stands inside a stream with the server's header.
    pub fn parse(raw: &str) -> Xml {
        Xml::parse_within("xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'", raw)
    }

    /// Reads an element that stands inside an element with these attributes.
    pub fn parse_within(declarations: &str, raw: &str) -> Xml {
        let whole = format!("<stream:stream {declarations}>{raw}</stream:stream>");
        let document = roxmltree::Document::parse(&whole)
            .unwrap_or_else(|error| panic!("not well-formed ({error}): {raw:.2000}"));
        let element = document.root_element().children().find(roxmltree::Node::is_element);
        Xml::take(&whole, element.expect("an element"))
    }

    fn take(whole: &str, node: roxmltree::Node<'_, '_>) -> Xml {
        let mut nodes: Vec<Node> = Vec::new();
        for child in node.children() {
            if child.is_element() {
                nodes.push(Node::Element(Xml::take(whole, child)));
            } else if let Some(text) = child.text() {
                match nodes.last_mut() {
                    Some(Node::Text(before)) => before.push_str(text),
                    _ => nodes.push(Node::Text(text.to_owned())),
                }
            }
        }
        let attrs = node.attributes().map(|attr| {
            let name = (attr.namespace().unwrap_or_default().to_owned(), attr.name().to_owned());
            (name, attr.value().to_owned())
        });
        Xml {
            ns: node.tag_name().namespace().unwrap_or_default().to_owned(),
            name: node.tag_name().name().to_owned(),
            attrs: attrs.collect(),
            nodes,
            raw: Raw(whole[node.range()].to_owned()),
        }
    }

    /// The value of an attribute without a namespace.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.get(&(String::new(), name.to_owned())).map(String::as_str)
    }

    /// Its elements.
    pub fn children(&self) -> impl Iterator<Item = &Xml> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Its first element of this name, if there is one.
    pub fn find(&self, ns: &str, name: &str) -> Option<&Xml> {
        self.children().find(|child| child.ns == ns && child.name == name)
    }

    /// Its first element of this name.
    pub fn child(&self, ns: &str, name: &str) -> &Xml {
        self.find(ns, name).unwrap_or_else(|| panic!("no <{name} xmlns='{ns}'/> in {self}"))
    }

    /// Whether it is an element of this name.
    pub fn is(&self, ns: &str, name: &str) -> bool {
        self.ns == ns && self.name == name
    }

    /// Its text, without that of its elements.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    /// The text of its first body, if it has one.
    pub fn body(&self) -> Option<String> {
        self.find("jabber:client", "body").map(Xml::text)
    }

    /// Its type, as a message, a presence or a request has it.
    pub fn type_(&self) -> &str {
        self.attr("type").unwrap_or_default()
    }

    /// The condition of the error in it.
    pub fn condition(&self) -> String {
        let error = self.child("jabber:client", "error");
        let ns = "urn:ietf:params:xml:ns:xmpp-stanzas";
        let condition = error.children().find(|child| child.ns == ns && child.name != "text");
        condition.unwrap_or_else(|| panic!("no condition in {self}")).name.clone()
    }

    /// The stanza-ids in it, by the archive that they claim.
    pub fn stanza_ids(&self) -> Vec<(&str, &str)> {
        let ids = self.children().filter(|child| child.is("urn:xmpp:sid:0", "stanza-id"));
        ids.map(|id| (id.attr("by").unwrap_or_default(), id.attr("id").unwrap_or_default())).collect()
    }

    /// The id that this archive gave it.
    pub fn id_by(&self, by: &str) -> Option<&str> {
        self.stanza_ids().into_iter().find(|(claimed, _)| *claimed == by).map(|(_, id)| id)
    }

    /// The same without what archives add to it: the stanza-ids of this archive.
    pub fn without_ids_by(&self, by: &str) -> Xml {
        let mut bare = self.clone();
        bare.nodes.retain(|node| match node {
            Node::Element(child) => {
                !(child.is("urn:xmpp:sid:0", "stanza-id") && child.attr("by") == Some(by))
            }
            Node::Text(_) => true,
        });
        bare
    }

    /// The same with an attribute set.
    pub fn with_attr(mut self, name: &str, value: &str) -> Xml {
        self.attrs.insert((String::new(), name.to_owned()), value.to_owned());
        self
    }

    /// Calls `visit` for this element and everything inside.
    pub fn walk<'x>(&'x self, visit: &mut impl FnMut(&'x Xml)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
    }
}
