//! An archive as a client reads it: queries as forms, pages as they came, and the whole archive walked through. What a
//! page should hold is left to the tests.

use super::client::Client;
use super::xml::Xml;

const MAM: &str = "urn:xmpp:mam:2";
const RSM: &str = "http://jabber.org/protocol/rsm";

/// One archived message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The archive's id for it.
    pub id: String,
    /// When it was received, as written.
    pub stamp: String,
    /// The message.
    pub message: Xml,
}

impl Saved {
    /// The text of its body.
    pub fn body(&self) -> String {
        self.message.body().unwrap_or_default()
    }
}

/// One page, in the order in which it was sent.
#[derive(Clone, Debug)]
pub struct Page {
    /// The messages.
    pub saved: Vec<Saved>,
    /// Whether the archive said that this was all.
    pub complete: bool,
    /// The oldest id, and the newest.
    pub edges: Option<(String, String)>,
    /// How many stand before the first.
    pub index: Option<u64>,
    /// How many there are.
    pub count: Option<u64>,
}

impl Page {
    /// The texts of the bodies.
    pub fn bodies(&self) -> Vec<String> {
        self.saved.iter().map(Saved::body).collect()
    }

    /// The ids.
    pub fn ids(&self) -> Vec<&str> {
        self.saved.iter().map(|saved| saved.id.as_str()).collect()
    }
}

/// A form with these fields; values are XML text.
pub fn form(fields: &[(&str, &[&str])]) -> String {
    let mut out = format!(
        "<x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE' type='hidden'><value>{MAM}</value></field>"
    );
    for (var, values) in fields {
        let values: String = values.iter().map(|value| format!("<value>{value}</value>")).collect();
        out.push_str(&format!("<field var='{var}'>{values}</field>"));
    }
    out + "</x>"
}

/// A page request with this content.
pub fn rsm(content: &str) -> String {
    format!("<set xmlns='{RSM}'>{content}</set>")
}

/// A query with this content.
pub fn query(content: &str) -> String {
    format!("<query xmlns='{MAM}' queryid='the query'>{content}</query>")
}

impl Client {
    /// Asks for a page that must be given. Only results may come between question and answer, besides what is
    /// delivered live.
    pub async fn page(&mut self, content: &str) -> Page {
        let answer = self.result("set", None, &query(content)).await;
        let fin = answer.child(MAM, "fin");
        let account = self.account.clone();
        let results = self.take_early(|stanza| stanza.find(MAM, "result").is_some());
        let saved = results.into_iter().map(|stanza| {
            assert_eq!(stanza.attr("from"), Some(account.as_str()), "{stanza}");
            let result = stanza.child(MAM, "result");
            assert_eq!(result.attr("queryid"), Some("the query"), "{stanza}");
            let forwarded = result.child("urn:xmpp:forward:0", "forwarded");
            let delay = forwarded.child("urn:xmpp:delay", "delay");
            Saved {
                id: result.attr("id").expect("an id").to_owned(),
                stamp: delay.attr("stamp").expect("a stamp").to_owned(),
                message: forwarded.child("jabber:client", "message").clone(),
            }
        });
        let saved: Vec<Saved> = saved.collect();
        let set = fin.child(RSM, "set");
        let number = |text: String| text.parse::<u64>().expect("a number");
        let edge = |name| set.find(RSM, name).map(Xml::text);
        let page = Page {
            complete: fin.attr("complete") == Some("true"),
            edges: edge("first").zip(edge("last")),
            index: set.find(RSM, "first").and_then(|first| first.attr("index")).map(|i| number(i.into())),
            count: edge("count").map(number),
            saved,
        };
        assert_eq!(page.edges.is_none(), page.saved.is_empty(), "{answer}");
        page
    }

    /// Asks for a page that must be refused. Answers the condition.
    pub async fn refused(&mut self, content: &str) -> String {
        let condition = self.error("set", None, &query(content)).await;
        let results = self.take_early(|stanza| stanza.find(MAM, "result").is_some());
        assert!(results.is_empty(), "results before an error");
        condition
    }

    /// The whole archive, page by page from the oldest, and checks what must hold for any walk.
    pub async fn archive(&mut self) -> Vec<Saved> {
        let mut all: Vec<Saved> = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.page(&rsm(&after)).await;
            if let Some(index) = page.index {
                assert_eq!(index, all.len() as u64, "the index of a page");
            }
            if let Some((first, last)) = &page.edges {
                assert_eq!(*first, page.saved.first().expect("first").id);
                assert_eq!(*last, page.saved.last().expect("last").id);
                after = format!("<after>{last}</after>");
            }
            let (complete, count) = (page.complete, page.count);
            all.extend(page.saved);
            if complete {
                assert_eq!(count, Some(all.len() as u64), "the count of an archive");
                let stamps: Vec<&String> = all.iter().map(|saved| &saved.stamp).collect();
                assert!(stamps.is_sorted(), "stamps never decrease");
                let mut ids: Vec<&String> = all.iter().map(|saved| &saved.id).collect();
                ids.sort();
                ids.dedup();
                assert_eq!(ids.len(), all.len(), "ids are unique");
                return all;
            }
            assert!(!after.is_empty(), "an incomplete page that is empty leads nowhere");
        }
    }

    /// The bodies of the whole archive.
    pub async fn archived_bodies(&mut self) -> Vec<String> {
        self.archive().await.iter().map(Saved::body).collect()
    }
}
