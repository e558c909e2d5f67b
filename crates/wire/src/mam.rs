//! Message archives on the wire (XEP-0313): queries read, pages, metadata and the query form written. What a query
//! means, `mammoth_archive` says; who may ask, the server.
//!
//! A stored stanza is never parsed here: a page is written by copying its bytes between an opening and an end.

use bytes::{Bytes, BytesMut};
use jid::Jid;
use mammoth_archive::{Entry, Filter, Metadata, Page, Query, StanzaId, Timestamp};
use minidom::Element;

use crate::datetime::{self, Rounding};
use crate::escape::push_attr;
use crate::form::{self, Field, FieldType};
use crate::ns;
use crate::rsm;
use crate::stanza_error::StanzaError;

/// The fields of the query form, in the order in which they are shown.
const FIELDS: [(FieldType, &str); 7] = [
    (FieldType::JidSingle, "with"),
    (FieldType::TextSingle, "start"),
    (FieldType::TextSingle, "end"),
    (FieldType::TextSingle, "before-id"),
    (FieldType::TextSingle, "after-id"),
    (FieldType::ListMultiOpen, "ids"),
    (FieldType::Boolean, "include-groupchat"),
];

/// What an `<iq type='set'><query/></iq>` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MamQuery {
    /// The client's own name for the query, repeated in every result.
    pub queryid: Option<String>,
    /// The entries wanted. `max` is not limited yet: [`mammoth_archive::Archive::page`] does that.
    pub query: Query<StanzaId>,
    /// Whether the newest entry of the page is to be sent first (XEP-0313 §4.3.4).
    pub flip: bool,
    /// Whether messages of rooms are wanted, if the client said so. There are none in a user's archive here, so that
    /// the answer is the same.
    pub include_groupchat: Option<bool>,
}

/// Reads `<query/>`. A field that was left blank (no `<value/>`) filters nothing.
///
/// # Errors
/// `feature-not-implemented` for a field or an archive node that is not known here; `item-not-found` for an id that
/// nobody can have given; `bad-request` for a form that is not a query, and for dates, JIDs and numbers that are none.
pub fn read_query(query: &Element) -> Result<MamQuery, StanzaError> {
    if query.attr("node").is_some() {
        return Err(StanzaError::feature_not_implemented().with_text("this archive has no nodes"));
    }
    let mut filter = Filter::default();
    let mut include_groupchat = None;
    if let Some(x) = only_child(query, "x", ns::DATA_FORMS)? {
        for field in form::read_submit(x, ns::MAM)? {
            read_field(field, &mut filter, &mut include_groupchat)?;
        }
    }
    let page = match only_child(query, "set", ns::RSM)? {
        Some(set) => rsm::read(set)?,
        None => rsm::WHOLE,
    };
    Ok(MamQuery {
        queryid: query.attr("queryid").map(str::to_owned),
        query: Query { filter, page },
        flip: query.has_child("flip-page", ns::MAM),
        include_groupchat,
    })
}

fn only_child<'a>(parent: &'a Element, name: &str, ns: &str) -> Result<Option<&'a Element>, StanzaError> {
    let mut children = parent.children().filter(|child| child.name() == name && child.ns() == ns);
    match (children.next(), children.next()) {
        (child, None) => Ok(child),
        _ => Err(StanzaError::bad_request().with_text("one form and one page at a time")),
    }
}

fn read_field(
    field: Field,
    filter: &mut Filter<StanzaId>,
    include_groupchat: &mut Option<bool>,
) -> Result<(), StanzaError> {
    match field.var.as_str() {
        "with" => filter.with = field.single()?.map(|text| read_jid(&text)).transpose()?,
        "start" => filter.start = field.single()?.map(|text| read_date(&text, Rounding::Up)).transpose()?,
        "end" => filter.end = field.single()?.map(|text| read_date(&text, Rounding::Down)).transpose()?,
        "after-id" => filter.after = field.single()?.map(rsm::id).transpose()?,
        "before-id" => filter.before = field.single()?.map(rsm::id).transpose()?,
        "ids" if field.values.is_empty() => {}
        "ids" => filter.ids = Some(field.values.into_iter().map(rsm::id).collect::<Result<_, _>>()?),
        "include-groupchat" => {
            *include_groupchat = field.single()?.map(|text| form::boolean(&text)).transpose()?;
        }
        _ => return Err(StanzaError::feature_not_implemented().with_text("this archive has no such field")),
    }
    Ok(())
}

fn read_jid(text: &str) -> Result<Jid, StanzaError> {
    Jid::new(text).map_err(|_| StanzaError::bad_request().with_text("'with' is not a JID"))
}

fn read_date(text: &str, rounding: Rounding) -> Result<Timestamp, StanzaError> {
    datetime::read(text, rounding)
        .map_err(|_| StanzaError::bad_request().with_text("not a date and time of XEP-0082"))
}

/// The payload that answers `<iq type='get'><query/></iq>`: the form with all fields (XEP-0313 §4.1.5).
#[must_use]
pub fn write_form() -> String {
    let mut out = String::from("<query");
    push_attr(&mut out, "xmlns", ns::MAM);
    out.push('>');
    out.push_str(&form::write_form(ns::MAM, &FIELDS));
    out.push_str("</query>");
    out
}

/// The result messages of a page (XEP-0313 §4.2), in the order in which they are to be sent: oldest first, or newest
/// first if `flip`. All are pieces of one buffer, which is filled in one go.
///
/// `from` is the archive's JID, `to` who asked.
#[must_use]
pub fn write_results(
    page: &Page<Entry>,
    queryid: Option<&str>,
    from: &Jid,
    to: &Jid,
    flip: bool,
) -> Vec<Bytes> {
    let mut head = String::from("<message");
    push_attr(&mut head, "xmlns", ns::CLIENT);
    push_attr(&mut head, "from", from.as_str());
    push_attr(&mut head, "to", to.as_str());
    head.push_str("><result");
    push_attr(&mut head, "xmlns", ns::MAM);
    if let Some(queryid) = queryid {
        push_attr(&mut head, "queryid", queryid);
    }
    let mut middle = String::from("><forwarded");
    push_attr(&mut middle, "xmlns", ns::FORWARD);
    middle.push_str("><delay");
    push_attr(&mut middle, "xmlns", ns::DELAY);
    const TAIL: &str = "</forwarded></result></message>";
    /// Room for ` id='…'` of one of our own ids and ` stamp='…'/>`.
    const ATTRS: usize = 80;

    let envelope = head.len() + middle.len() + TAIL.len() + ATTRS;
    let size = page.entries.iter().map(|entry| envelope + entry.stanza.len()).sum();
    let mut out = BytesMut::with_capacity(size);
    let mut attr = String::with_capacity(ATTRS);
    let mut write = |entry: &Entry| {
        out.extend_from_slice(head.as_bytes());
        attr.clear();
        push_attr(&mut attr, "id", entry.id.as_str());
        out.extend_from_slice(attr.as_bytes());
        out.extend_from_slice(middle.as_bytes());
        attr.clear();
        push_attr(&mut attr, "stamp", &datetime::write(entry.stamp));
        attr.push_str("/>");
        out.extend_from_slice(attr.as_bytes());
        out.extend_from_slice(&entry.stanza);
        out.extend_from_slice(TAIL.as_bytes());
        out.split().freeze()
    };
    if flip {
        page.entries.iter().rev().map(&mut write).collect()
    } else {
        page.entries.iter().map(&mut write).collect()
    }
}

/// The payload of the IQ result that ends a page. First and last are always the oldest and the newest, however the
/// page was sent; `complete` is said only when nothing lies beyond the page (XEP-0313 §4.3.2).
#[must_use]
pub fn write_fin(page: &Page<Entry>) -> String {
    let mut out = String::from("<fin");
    push_attr(&mut out, "xmlns", ns::MAM);
    if page.complete {
        push_attr(&mut out, "complete", "true");
    }
    out.push('>');
    let edges = page.entries.first().zip(page.entries.last()).map(|(first, last)| (&first.id, &last.id));
    rsm::push(&mut out, rsm::Given { edges, index: page.index, count: page.count });
    out.push_str("</fin>");
    out
}

/// The payload that answers `<iq type='get'><metadata/></iq>` (XEP-0313 §5): the archive's ends, or nothing in it.
#[must_use]
pub fn write_metadata(metadata: Option<&Metadata>) -> String {
    let mut out = String::from("<metadata");
    push_attr(&mut out, "xmlns", ns::MAM);
    let Some(metadata) = metadata else {
        out.push_str("/>");
        return out;
    };
    out.push('>');
    for (name, (id, stamp)) in [("start", &metadata.start), ("end", &metadata.end)] {
        out.push('<');
        out.push_str(name);
        push_attr(&mut out, "id", id.as_str());
        push_attr(&mut out, "timestamp", &datetime::write(*stamp));
        out.push_str("/>");
    }
    out.push_str("</metadata>");
    out
}
