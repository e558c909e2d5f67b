//! Message archives on the wire, with anything: no query panics, and what is written can be read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use mammoth_archive::jid::Jid;
use mammoth_archive::{
    DefaultPolicy, Entry, Filter, Page, PageRequest, PageStart, Prefs, Query, StanzaId, Timestamp,
};
use mammoth_wire::element::element;
use mammoth_wire::mam::{MamQuery, read_query, write_fin, write_results};
use mammoth_wire::stanza::{Stanza, escape_attr, escape_text};
use mammoth_wire::{bind, datetime, iq, ns, prefs, roster, rsm, trim};
use proptest::prelude::*;

/// Elements that look like queries and are none, or nearly.
fn wild(depth: u32) -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "query",
        "x",
        "field",
        "value",
        "set",
        "max",
        "before",
        "after",
        "index",
        "flip-page",
        "prefs",
        "always",
        "never",
        "jid",
        "item",
        "group",
        "trim",
        "id",
        "bind",
        "resource",
        "other",
    ]);
    let ns = prop::sample::select(vec![
        "",
        "urn:xmpp:mam:2",
        "jabber:x:data",
        "http://jabber.org/protocol/rsm",
        "jabber:iq:roster",
        "urn:xmpp:mamtrim:0",
        "urn:ietf:params:xml:ns:xmpp-bind",
        "urn:other",
    ]);
    let var = prop::sample::select(vec![
        "",
        "FORM_TYPE",
        "with",
        "start",
        "end",
        "before-id",
        "after-id",
        "ids",
        "include-groupchat",
        "other",
    ]);
    let type_ = prop::sample::select(vec!["", "submit", "form", "hidden"]);
    let text = prop_oneof![
        Just("urn:xmpp:mam:2".to_owned()),
        Just("2026-11-22T14:00:00.5Z".to_owned()),
        "[0-9]{0,30}",
        "[a-z@/.]{0,10}",
        "\\PC{0,12}",
    ];
    let leaf = (name.clone(), text.clone())
        .prop_map(|(name, text)| format!("<{name}>{}</{name}>", escape_text(&text)));
    leaf.prop_recursive(depth, 40, 5, move |inner| {
        (
            name.clone(),
            ns.clone(),
            var.clone(),
            type_.clone(),
            text.clone(),
            prop::collection::vec(inner, 0..5),
        )
            .prop_map(|(name, ns, var, type_, text, inner)| {
                let xmlns = if ns.is_empty() { String::new() } else { format!(" xmlns='{ns}'") };
                let text = escape_attr(&text);
                let attrs =
                    format!("{xmlns} var='{var}' type='{type_}' jid='{text}' default='{text}' name='{text}'");
                format!("<{name}{attrs}>{}</{name}>", inner.concat())
            })
    })
}

fn stanza_id() -> impl Strategy<Value = StanzaId> {
    "\\PC{1,30}".prop_map(|text| StanzaId::new(text).unwrap())
}

fn a_jid() -> impl Strategy<Value = Jid> {
    "[a-z]{1,5}@[a-z]{1,5}(/[a-z<&' ]{0,4}[a-z])?".prop_map(|text| Jid::new(&text).unwrap())
}

fn stamp() -> impl Strategy<Value = Timestamp> {
    (-62_167_219_200_000_000_i64..=253_402_300_799_999_999).prop_map(Timestamp)
}

fn any_query() -> impl Strategy<Value = MamQuery> {
    let filter = (
        prop::option::of(a_jid()),
        prop::option::of(stamp()),
        prop::option::of(stamp()),
        prop::option::of(stanza_id()),
        prop::option::of(stanza_id()),
        prop::option::of(prop::collection::vec(stanza_id(), 1..5)),
    );
    let filter = filter.prop_map(|(with, start, end, after, before, ids)| Filter {
        with,
        start,
        end,
        after,
        before,
        ids,
    });
    let start = prop_oneof![
        Just(PageStart::First),
        Just(PageStart::Last),
        stanza_id().prop_map(PageStart::After),
        stanza_id().prop_map(PageStart::Before),
        any::<u64>().prop_map(PageStart::Index),
    ];
    let page = (any::<usize>(), start).prop_map(|(max, start)| PageRequest { max, start });
    let query = (filter, page).prop_map(|(filter, page)| Query { filter, page });
    (prop::option::of("\\PC{0,20}"), query, any::<bool>(), any::<Option<bool>>()).prop_map(
        |(queryid, query, flip, include_groupchat)| MamQuery { queryid, query, flip, include_groupchat },
    )
}

/// A query as a client writes it.
fn as_client(query: &MamQuery) -> String {
    let mut fields = String::new();
    let mut field = |var: &str, values: &[&str]| {
        let values: String =
            values.iter().map(|value| format!("<value>{}</value>", escape_text(value))).collect();
        fields.push_str(&format!("<field var='{var}'>{values}</field>"));
    };
    field("FORM_TYPE", &[ns::MAM]);
    let filter = &query.query.filter;
    filter.with.iter().for_each(|with| field("with", &[with.as_str()]));
    filter.start.iter().for_each(|start| field("start", &[&datetime::write(*start)]));
    filter.end.iter().for_each(|end| field("end", &[&datetime::write(*end)]));
    filter.after.iter().for_each(|id| field("after-id", &[id.as_str()]));
    filter.before.iter().for_each(|id| field("before-id", &[id.as_str()]));
    filter.ids.iter().for_each(|ids| field("ids", &ids.iter().map(StanzaId::as_str).collect::<Vec<_>>()));
    query
        .include_groupchat
        .iter()
        .for_each(|yes| field("include-groupchat", &[if *yes { "1" } else { "false" }]));
    let start = match &query.query.page.start {
        PageStart::First => String::new(),
        PageStart::Last => "<before/>".to_owned(),
        PageStart::After(id) => format!("<after>{}</after>", escape_text(id.as_str())),
        PageStart::Before(id) => format!("<before>{}</before>", escape_text(id.as_str())),
        PageStart::Index(index) => format!("<index>{index}</index>"),
    };
    let queryid =
        query.queryid.iter().map(|id| format!(" queryid='{}'", escape_attr(id))).collect::<String>();
    let flip = if query.flip { "<flip-page/>" } else { "" };
    format!(
        "<query xmlns='urn:xmpp:mam:2'{queryid}><x xmlns='jabber:x:data' type='submit'>{fields}</x>\
         <set xmlns='http://jabber.org/protocol/rsm'><max>{}</max>{start}</set>{flip}</query>",
        query.query.page.max
    )
}

proptest! {
    #[test]
    fn any_element_is_read_or_refused(xml in wild(5)) {
        let xml = format!("<query xmlns='urn:xmpp:mam:2'>{xml}</query>");
        let tree = element(xml.as_bytes()).unwrap();
        for element in std::iter::once(&tree).chain(tree.children()).chain(tree.children().flat_map(|c| c.children())) {
            let _ = read_query(element);
            let _ = rsm::read(element);
            let _ = prefs::read(element);
            let _ = trim::read(element);
            let _ = bind::read_bind(element);
            let _ = roster::read(iq::Verb::Set, element);
        }
    }

    #[test]
    fn a_query_is_read_as_it_was_meant(query in any_query()) {
        let xml = as_client(&query);
        prop_assert_eq!(read_query(&element(xml.as_bytes()).unwrap()), Ok(query), "{}", xml);
    }

    #[test]
    fn a_page_is_whole_and_its_edges_are_its_own(
        inner in prop::collection::vec(wild(3), 0..4),
        ids in prop::collection::vec(stanza_id(), 4),
        stamp in stamp(),
        queryid in prop::option::of("\\PC{0,20}"),
        flip: bool,
        complete: bool,
    ) {
        let entries: Vec<Entry> = inner
            .iter()
            .zip(&ids)
            .map(|(inner, id)| Entry {
                id: id.clone(),
                with: Jid::new("bob@example.org").unwrap(),
                stamp,
                stanza: Bytes::from(format!("<message xmlns='jabber:client'>{inner}</message>")),
                retracted: false,
            })
            .collect();
        let page = Page { count: 10, index: 2, complete, entries };
        let (from, to) = (Jid::new("alice@example.org").unwrap(), Jid::new("alice@example.org/x y").unwrap());
        let mut results = write_results(&page, queryid.as_deref(), &from, &to, flip);
        prop_assert_eq!(results.len(), page.entries.len());
        if flip {
            results.reverse();
        }
        for (result, entry) in results.iter().zip(&page.entries) {
            let message = Stanza::parse(result.clone()).unwrap();
            let result = message.child(ns::MAM, "result").unwrap();
            prop_assert_eq!(result.attr("id"), Some(entry.id.as_str()));
            prop_assert_eq!(result.attr("queryid"), queryid.as_deref());
            let tree = result.element().unwrap();
            let forwarded = tree.get_child("forwarded", ns::FORWARD).unwrap();
            prop_assert_eq!(forwarded.get_child("message", ns::CLIENT).unwrap(), &element(&entry.stanza).unwrap());
            let written = forwarded.get_child("delay", ns::DELAY).unwrap().attr("stamp").unwrap().to_owned();
            prop_assert_eq!(datetime::read(&written, datetime::Rounding::Up), Ok(stamp));
        }
        let fin = element(write_fin(&page).as_bytes()).unwrap();
        prop_assert_eq!(fin.attr("complete"), complete.then_some("true"));
        let set = fin.get_child("set", ns::RSM).unwrap();
        let edge = |name| set.get_child(name, ns::RSM).map(|edge| edge.text());
        prop_assert_eq!(edge("first"), page.entries.first().map(|entry| entry.id.to_string()));
        prop_assert_eq!(edge("last"), page.entries.last().map(|entry| entry.id.to_string()));
    }

    #[test]
    fn prefs_are_read_as_they_are_written(
        default in prop::sample::select(vec![DefaultPolicy::Always, DefaultPolicy::Never, DefaultPolicy::Roster]),
        always in prop::collection::vec(a_jid(), 0..6),
        never in prop::collection::vec(a_jid(), 0..6),
    ) {
        let applied = Prefs::new(default, always, never);
        let xml = prefs::write(&applied);
        prop_assert_eq!(prefs::read(&element(xml.as_bytes()).unwrap()), Ok(applied));
    }
}
