//! Service discovery (XEP-0030): what is asked, and the answers. Which modules are enabled, and who may ask, is left to
//! the server, which puts the lists of features together.

use minidom::Element;

use crate::escape::push_attr;
use crate::ns;

/// Every entity that answers at all.
pub const DISCO: &[&str] = &[ns::DISCO_INFO, ns::DISCO_ITEMS];
/// An account whose messages are archived.
pub const ARCHIVE: &[&str] = &[ns::MAM, ns::MAM_EXTENDED, ns::MAM_GROUPCHAT_FIELD, ns::SID];
/// A server or an account whose retracted messages become tombstones.
pub const RETRACTION: &[&str] = &[ns::RETRACT, ns::RETRACT_TOMBSTONE];
/// An account whose owner may trim its archive.
pub const TRIM: &[&str] = &[ns::MAM_TRIM];
/// A server that removes stanza-ids which only claim to be ours (XEP-0359 §3).
pub const STANZA_IDS: &[&str] = &[ns::SID];
/// A server that copies messages to other resources.
pub const CARBONS: &[&str] = &[ns::CARBONS];
/// A server that answers pings.
pub const PING: &[&str] = &[ns::PING];
/// A server that says its version.
pub const VERSION: &[&str] = &[ns::VERSION];

/// What an entity is (XEP-0030 §3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Such as `server`.
    pub category: &'static str,
    /// Such as `im`.
    pub type_: &'static str,
    /// For people.
    pub name: Option<String>,
}

impl Identity {
    /// A server for instant messaging.
    #[must_use]
    pub fn server(name: impl Into<String>) -> Identity {
        Identity { category: "server", type_: "im", name: Some(name.into()) }
    }

    /// A registered account.
    #[must_use]
    pub fn account() -> Identity {
        Identity { category: "account", type_: "registered", name: None }
    }
}

/// The `node` that a `<query/>` asks about, if not the entity itself. We have none: the answer is `item-not-found`.
#[must_use]
pub fn node(query: &Element) -> Option<&str> {
    query.attr("node")
}

/// The payload that answers disco#info; each feature once, in alphabetical order.
#[must_use]
pub fn write_info<'a>(identities: &[Identity], features: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = open(ns::DISCO_INFO);
    for identity in identities {
        out.push_str("<identity");
        push_attr(&mut out, "category", identity.category);
        push_attr(&mut out, "type", identity.type_);
        if let Some(name) = &identity.name {
            push_attr(&mut out, "name", name);
        }
        out.push_str("/>");
    }
    let features: std::collections::BTreeSet<&str> = features.into_iter().collect();
    for feature in features {
        out.push_str("<feature");
        push_attr(&mut out, "var", feature);
        out.push_str("/>");
    }
    out.push_str("</query>");
    out
}

/// The payload that answers disco#items: JIDs and their names.
#[must_use]
pub fn write_items<'a>(items: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let mut out = open(ns::DISCO_ITEMS);
    for (jid, name) in items {
        out.push_str("<item");
        push_attr(&mut out, "jid", jid);
        if let Some(name) = name {
            push_attr(&mut out, "name", name);
        }
        out.push_str("/>");
    }
    out.push_str("</query>");
    out
}

fn open(ns: &str) -> String {
    let mut out = String::from("<query");
    push_attr(&mut out, "xmlns", ns);
    out.push('>');
    out
}
