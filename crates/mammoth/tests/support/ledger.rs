//! Every stanza that any client of one server received, and every stanza-id with the archive that it belongs to. At
//! the end of a test, whichever it is, no id of one archive may have reached anybody but that archive's owner.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::xml::Xml;

const SID: &str = "urn:xmpp:sid:0";
const MAM: &str = "urn:xmpp:mam:2";
const RSM: &str = "http://jabber.org/protocol/rsm";

/// What one server's clients received. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Received>>);

#[derive(Debug, Default)]
struct Received {
    /// Who received what.
    stanzas: Vec<(String, String)>,
    /// Whose archive an id is of.
    ids: HashMap<String, String>,
}

impl Ledger {
    /// Notes what the account `to` received, and the ids of its own archive in it.
    pub fn note(&self, to: &str, stanza: &Xml) {
        let mut ids = Vec::new();
        stanza.walk(&mut |element| match (element.ns.as_str(), element.name.as_str()) {
            (SID, "stanza-id") if element.attr("by") == Some(to) => ids.extend(element.attr("id")),
            (MAM, "result" | "start" | "end") => ids.extend(element.attr("id")),
            _ => {}
        });
        let mut edges = Vec::new();
        stanza.walk(&mut |element| {
            if element.is(RSM, "first") || element.is(RSM, "last") {
                edges.push(element.text());
            }
        });
        let mut received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids.into_iter().map(str::to_owned).chain(edges) {
            // What a stranger forged is not an id of ours: those have 26 characters of base32.
            if is_id(&id) {
                received.ids.insert(id, to.to_owned());
            }
        }
        received.stanzas.push((to.to_owned(), stanza.raw.0.clone()));
    }

    /// Fails if an id of one archive is in anything that somebody else received.
    pub fn check(&self) {
        let received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (to, raw) in &received.stanzas {
            for word in raw.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_id(word)) {
                if let Some(owner) = received.ids.get(word)
                    && owner != to
                {
                    panic!("{to} was sent {word}, an id of the archive of {owner}: {raw:.2000}");
                }
            }
        }
    }

    /// How many ids are known.
    pub fn ids(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ids.len()
    }
}

fn is_id(word: &str) -> bool {
    word.len() == 26 && word.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

#[test]
fn the_ledger_sees_a_leak() {
    let id = "0123456789abcdefghijklmnop";
    let message = |by: &str| {
        let xml = format!("<message><stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='{id}'/></message>");
        Xml::parse(&xml)
    };
    let ledger = Ledger::default();
    ledger.note("alice@localhost", &message("alice@localhost"));
    ledger.check();
    ledger.note("bob@localhost", &message("alice@localhost"));
    assert!(std::panic::catch_unwind(|| ledger.check()).is_err(), "a leak must be found");
}
