//! IQ stanzas (RFC 6120 §8.2.3): telling requests from answers, and writing both. What a payload means is left to the
//! modules of each protocol.

use bytes::Bytes;
use jid::Jid;
use minidom::Element;

use crate::escape::push_attr;
use crate::skim::CLIENT;
use crate::stanza::{Child, Stanza};
use crate::stanza_error::StanzaError;

/// Whether a request asks or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `type='get'`.
    Get,
    /// `type='set'`.
    Set,
}

impl Verb {
    /// As in the attribute `type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Set => "set",
        }
    }
}

/// A request: exactly one answer is owed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its id, which the answer repeats.
    pub id: &'a str,
    /// What it wants.
    pub verb: Verb,
    /// The one child.
    pub payload: Child<'a>,
}

impl Request<'_> {
    /// Whether the payload is the element `name` of the namespace `ns`, asked with `verb`.
    #[must_use]
    pub fn is(&self, verb: Verb, ns: &str, name: &str) -> bool {
        self.verb == verb && self.payload.is(ns, name)
    }

    /// The payload as a tree.
    ///
    /// # Errors
    /// `bad-request`, for what no tree can be built from.
    pub fn element(&self) -> Result<Element, StanzaError> {
        self.payload.element().map_err(|_| StanzaError::bad_request())
    }
}

/// An IQ stanza.
#[derive(Clone, Copy, Debug)]
pub enum Iq<'a> {
    /// A question or an order.
    Request(Request<'a>),
    /// The answer to a request of ours, with what it brought.
    Result(&'a str, Option<Child<'a>>),
    /// The refusal of a request of ours.
    Error(&'a str),
}

/// Reads an IQ stanza.
///
/// # Errors
/// `bad-request` without an `id`, with an unknown `type`, or when a request has not exactly one child. (The reply to a
/// broken answer is nothing: [`StanzaError::reply`] sees to that.)
pub fn read(stanza: &Stanza) -> Result<Iq<'_>, StanzaError> {
    let bad = |text| StanzaError::bad_request().with_text(text);
    let id = stanza.id().ok_or_else(|| bad("an IQ needs an id"))?;
    let verb = match stanza.type_() {
        Some("get") => Verb::Get,
        Some("set") => Verb::Set,
        Some("result") => return Ok(Iq::Result(id, stanza.children().next())),
        Some("error") => return Ok(Iq::Error(id)),
        _ => return Err(bad("the type of an IQ is get, set, result or error")),
    };
    let mut children = stanza.children();
    match (children.next(), children.next()) {
        (Some(payload), None) => Ok(Iq::Request(Request { id, verb, payload })),
        _ => Err(bad("a request has exactly one child")),
    }
}

/// The result that answers `request`, from whom it was addressed to. `payload` is a well-formed element that declares
/// its namespace, or nothing; `sender` is who gets the answer.
#[must_use]
pub fn result(request: &Stanza, sender: &Jid, payload: &str) -> Bytes {
    let to = request.to().ok().flatten();
    write("result", request.id().unwrap_or_default(), to.as_ref(), Some(sender), payload)
}

/// A request of ours, such as a roster push or a ping.
#[must_use]
pub fn request(verb: Verb, id: &str, from: Option<&Jid>, to: Option<&Jid>, payload: &str) -> Bytes {
    write(verb.name(), id, from, to, payload)
}

fn write(type_: &str, id: &str, from: Option<&Jid>, to: Option<&Jid>, payload: &str) -> Bytes {
    let mut out = String::with_capacity(payload.len() + 256);
    out.push_str("<iq");
    push_attr(&mut out, "xmlns", CLIENT);
    push_attr(&mut out, "type", type_);
    push_attr(&mut out, "id", id);
    for (name, jid) in [("from", from), ("to", to)] {
        if let Some(jid) = jid {
            push_attr(&mut out, name, jid.as_str());
        }
    }
    if payload.is_empty() {
        out.push_str("/>");
    } else {
        out.push('>');
        out.push_str(payload);
        out.push_str("</iq>");
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(xml: &str) -> Stanza {
        Stanza::parse(xml.to_owned()).unwrap()
    }

    #[test]
    fn requests_and_answers() {
        let get = stanza("<iq type='get' id='a'><ping xmlns='urn:xmpp:ping'/></iq>");
        let Ok(Iq::Request(request)) = read(&get) else { panic!("a request") };
        assert_eq!((request.id, request.verb), ("a", Verb::Get));
        assert!(request.is(Verb::Get, crate::ns::PING, "ping"));
        assert!(!request.is(Verb::Set, crate::ns::PING, "ping"));
        assert!(matches!(read(&stanza("<iq type='result' id='b'/>")), Ok(Iq::Result("b", None))));
        assert!(matches!(read(&stanza("<iq type='result' id='b'><x/></iq>")), Ok(Iq::Result("b", Some(_)))));
        assert!(matches!(read(&stanza("<iq type='error' id='c'><x/><y/></iq>")), Ok(Iq::Error("c"))));
    }

    #[test]
    fn what_is_no_iq() {
        for xml in [
            "<iq type='get'><x/></iq>",
            "<iq id='a'><x/></iq>",
            "<iq type='put' id='a'><x/></iq>",
            "<iq type='get' id='a'/>",
            "<iq type='set' id='a'>text</iq>",
            "<iq type='set' id='a'><x/><y/></iq>",
        ] {
            assert_eq!(read(&stanza(xml)).unwrap_err().condition, "bad-request", "{xml}");
        }
    }

    #[test]
    fn an_answer_goes_back_where_it_came_from() {
        let alice = Jid::new("alice@example.org/o'phone").unwrap();
        let request = stanza("<iq type='get' id='a&amp;b' to='example.org'><x/></iq>");
        let answer = Stanza::parse(result(&request, &alice, "<y xmlns='urn:y'/>")).unwrap();
        assert_eq!(
            (answer.id(), answer.type_(), answer.attr("from")),
            (Some("a&b"), Some("result"), Some("example.org"))
        );
        assert_eq!(answer.to().unwrap(), Some(alice.clone()));
        assert!(answer.child("urn:y", "y").is_some());
        let bare = stanza("<iq type='get' id='a'><x/></iq>");
        assert_eq!(Stanza::parse(result(&bare, &alice, "")).unwrap().attr("from"), None);
    }
}
