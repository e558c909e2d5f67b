//! Rosters on the wire (RFC 6121 §2): gets and sets read, items written. What a roster is, who is subscribed to whom
//! and how much fits into one is left to the accounts and the server.

use jid::BareJid;
use minidom::Element;

use crate::escape::{escape_text, push_attr};
use crate::iq::Verb;
use crate::ns;
use crate::stanza_error::StanzaError;

/// What a client wants of its roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterRequest {
    /// All of it.
    Get,
    /// This contact added, or renamed and regrouped.
    Update(Contact),
    /// This contact removed.
    Remove(BareJid),
}

/// A contact as its owner describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Who.
    pub jid: BareJid,
    /// What the owner calls it; never empty.
    pub name: Option<String>,
    /// In which groups; each once, none empty.
    pub groups: Vec<String>,
}

/// Reads a `<query/>` of `jabber:iq:roster`.
///
/// # Errors
/// `bad-request` for a set without exactly one item, an item without a JID, and a group that stands twice;
/// `jid-malformed`; `not-acceptable` for a group without a name.
pub fn read(verb: Verb, query: &Element) -> Result<RosterRequest, StanzaError> {
    if verb == Verb::Get {
        return Ok(RosterRequest::Get);
    }
    let bad = |text| StanzaError::bad_request().with_text(text);
    let mut items = query.children().filter(|child| child.is("item", ns::ROSTER));
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(bad("a roster is changed one item at a time"));
    };
    let jid = item.attr("jid").ok_or_else(|| bad("an item needs a JID"))?;
    let jid = jid::Jid::new(jid).map_err(|_| StanzaError::jid_malformed())?.into_bare();
    if item.attr("subscription") == Some("remove") {
        return Ok(RosterRequest::Remove(jid));
    }
    let mut groups = Vec::new();
    for group in item.children().filter(|child| child.is("group", ns::ROSTER)) {
        let group = group.text();
        if group.is_empty() {
            return Err(StanzaError::not_acceptable().with_text("a group needs a name"));
        }
        if groups.contains(&group) {
            return Err(bad("a group stands twice"));
        }
        groups.push(group);
    }
    let name = item.attr("name").filter(|name| !name.is_empty()).map(str::to_owned);
    Ok(RosterRequest::Update(Contact { jid, name, groups }))
}

/// An item as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Who.
    pub jid: &'a BareJid,
    /// What the owner calls it.
    pub name: Option<&'a str>,
    /// `none`, `to`, `from`, `both`; in a push also `remove`.
    pub subscription: &'a str,
    /// Whether a request to see the contact's presence is waiting for an answer.
    pub ask: bool,
    /// In which groups.
    pub groups: &'a [String],
}

/// The payload of a roster result or push.
#[must_use]
pub fn write<'a>(items: impl IntoIterator<Item = Item<'a>>) -> String {
    let mut out = String::from("<query");
    push_attr(&mut out, "xmlns", ns::ROSTER);
    out.push('>');
    for item in items {
        out.push_str("<item");
        push_attr(&mut out, "jid", item.jid.as_str());
        if let Some(name) = item.name {
            push_attr(&mut out, "name", name);
        }
        push_attr(&mut out, "subscription", item.subscription);
        if item.ask {
            push_attr(&mut out, "ask", "subscribe");
        }
        if item.groups.is_empty() {
            out.push_str("/>");
            continue;
        }
        out.push('>');
        for group in item.groups {
            out.push_str(&format!("<group>{}</group>", escape_text(group)));
        }
        out.push_str("</item>");
    }
    out.push_str("</query>");
    out
}
