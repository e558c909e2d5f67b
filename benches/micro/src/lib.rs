//! The server's hot paths on realistic input, without sockets: what `benches/hot.rs` times and `examples/callgrind.rs`
//! counts. Each function is one operation as the server does it; how often it is done is the caller's affair.

// A measurement that goes wrong must stop, and there is nobody to tell but the person who started it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Entry, Filter, IdKey, IdMint, NewEntry, Page, PageRequest, PageStart, Position, Query,
    StoredEntry, Timestamp,
};
use mammoth_wire::{
    limits::Limits,
    mam, splice, stanza_id,
    stream::{StreamEvent, StreamReader},
};

/// Messages of a page.
pub const PAGE: usize = 50;

/// Entries of one append, as a busy lane makes them.
pub const BATCH: usize = 32;

const HEADER: &[u8] =
    b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams'>";

/// A chat message of 330 bytes as today's clients send it.
pub const MESSAGE: &[u8] =
    b"<message to='b17@localhost' type='chat' id='i1795359171-17-4711'><body>tumu na mumina \
    barofi kebemu so nunepi tefi nuvo tu nori gaperagakegamununupi belaper do go</body><origin-id \
    xmlns='urn:xmpp:sid:0' id='i1795359171-17-4711'/><request xmlns='urn:xmpp:receipts'/>\
    <active xmlns='http://jabber.org/protocol/chatstates'/></message>";

/// An account's address.
pub fn owner() -> BareJid {
    BareJid::new("a17@localhost").unwrap()
}

/// What mints the owner's stanza-ids.
pub fn mint() -> IdMint {
    IdKey([7; 16]).mint(&owner())
}

/// A stream that has been opened.
pub fn opened() -> StreamReader {
    let mut reader = StreamReader::new(Limits::authenticated());
    reader.push(HEADER);
    assert!(matches!(reader.next(), Ok(Some(StreamEvent::Open(_)))));
    reader
}

/// A message comes in and goes out again: split, skimmed, `from` set, a stanza-id spliced in.
pub fn route(reader: &mut StreamReader, mint: &IdMint, owner: &BareJid, position: i64) -> BytesMut {
    reader.push(MESSAGE);
    let Ok(Some(StreamEvent::Stanza(stanza))) = reader.next() else { panic!("no stanza") };
    let stanza = stanza.rewrite().set("from", "a17@localhost/bench").finish();
    let mut out = BytesMut::with_capacity(512);
    splice::append_child(&mut out, &stanza, &stanza_id::element(owner, &mint.id(Position(position))));
    out
}

/// The entries of one append.
pub fn batch(first: i64) -> Arc<[NewEntry]> {
    let stanza = Bytes::from_static(MESSAGE);
    (first..first + BATCH as i64)
        .map(|n| NewEntry {
            with: Jid::new("b17@localhost").unwrap(),
            stamp: Timestamp(1_795_359_171_000_000 + n),
            stanza: stanza.clone(),
            message_id: Some(format!("i1795359171-17-{n}")),
            foreign_id: None,
        })
        .collect()
}

/// Appends one batch durably.
pub async fn append(store: &dyn ArchiveStore, owner: &BareJid, first: i64) {
    store.append(owner, Position(first), batch(first)).await.unwrap();
}

/// Reads one page after a position.
pub async fn page(store: &dyn ArchiveStore, owner: &BareJid, after: i64) -> Page<StoredEntry> {
    let start = PageStart::After(Position(after));
    store
        .page(owner, Query { filter: Filter::default(), page: PageRequest { max: PAGE, start } })
        .await
        .unwrap()
}

/// A page as the archive's readers see it.
pub fn results_page(mint: &IdMint) -> Page<Entry> {
    let entries = (0..PAGE as i64).map(|n| Entry {
        id: mint.id(Position(n)),
        with: Jid::new("b17@localhost").unwrap(),
        stamp: Timestamp(1_795_359_171_000_000 + n),
        stanza: Bytes::from_static(MESSAGE),
        retracted: false,
    });
    Page { entries: entries.collect(), count: 100_000, index: 0, complete: false }
}

/// Writes the result messages of a page: the stored stanzas spliced into their envelopes.
pub fn results(page: &Page<Entry>, from: &Jid, to: &Jid) -> Vec<Bytes> {
    mam::write_results(page, Some("4711"), from, to, false)
}
