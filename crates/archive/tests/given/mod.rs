//! An archive over the store in memory, and messages to put into it. What is asserted is left to the tests.

#![allow(dead_code)] // each test file uses its part

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{
    Archive, ArchiveStore, Arrival, Entry, Filter, IdKey, Limits, MemoryStore, Page, PageRequest, PageStart,
    Query, StanzaId, Timestamp,
};

pub const SECOND: i64 = 1_000_000;
pub const LIMITS: Limits = Limits { page_max: 1000, ids_max: 1000 };

/// Runs a future to its end; nothing here waits for anything.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub fn bare(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

pub fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

pub fn memory() -> Arc<dyn ArchiveStore> {
    Arc::new(MemoryStore::new(IdKey([7; 16])))
}

pub async fn archive(limits: Limits) -> Archive {
    Archive::open(memory(), limits).await.unwrap()
}

pub fn arrival(with: &str, body: &str) -> Arrival {
    Arrival { with: jid(with), stanza: Bytes::from(body.to_owned()), message_id: Some(format!("m-{body}")) }
}

/// Appends as a lane does, and answers with the ids.
pub async fn append(
    archive: &Archive,
    owner: &BareJid,
    now: Timestamp,
    arrivals: Vec<Arrival>,
) -> Vec<StanzaId> {
    let head = archive.store().head(owner).await.unwrap();
    let batch = Archive::prepare(&archive.mint(owner), head, now, arrivals);
    archive.append(owner, &batch).await.unwrap();
    batch.ids
}

pub fn query(filter: Filter<StanzaId>, start: PageStart<StanzaId>, max: usize) -> Query<StanzaId> {
    Query { filter, page: PageRequest { max, start } }
}

/// Everything an archive shows.
pub async fn everything(archive: &Archive, owner: &BareJid) -> Vec<Entry> {
    let page: Page<Entry> =
        archive.page(owner, query(Filter::default(), PageStart::First, usize::MAX)).await.unwrap();
    assert!(page.complete && page.count == page.entries.len() as u64);
    page.entries
}

pub fn texts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| std::str::from_utf8(&entry.stanza).unwrap()).collect()
}
