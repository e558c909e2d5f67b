//! After a purge no byte of the archive is left in any file: looked for in the raw bytes, and in what they become
//! when every block is decompressed. What is read through the store is left to the contract.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{ArchiveStore, NewEntry, Position, Timestamp};
use mammoth_store_embedded::{EmbeddedStore, Options};

/// In every stanza of the archive that goes, and nowhere else.
const SECRET: &str = "Xylophonsecret";

fn entry(n: i64, text: &str) -> NewEntry {
    NewEntry {
        with: Jid::new(&format!("{}friend{}@example.net/phone", text.to_lowercase(), n % 5)).unwrap(),
        stamp: Timestamp(n),
        stanza: Bytes::from(format!(
            "<message><body>{text} {text} number {n} of many, {}</body></message>",
            n * 7919
        )),
        message_id: Some(format!("{text}-{n}")),
        foreign_id: None,
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

/// Where the text stands: in files as they are, in dictionaries, and in blocks once decompressed.
fn found(dir: &Path, needle: &str) -> Vec<String> {
    let mut places = Vec::new();
    for file in files(dir) {
        if contains(&std::fs::read(&file).unwrap(), needle) {
            places.push(file.display().to_string());
        }
        if file.parent().unwrap().ends_with("segments") {
            let segment = rusqlite::Connection::open(&file).unwrap();
            let sql = "SELECT coalesce((SELECT data FROM dictionaries d WHERE d.dictionary = b.dictionary), x''), data FROM blocks b";
            let mut select = segment.prepare(sql).unwrap();
            let blocks =
                select.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)));
            for block in blocks.unwrap() {
                let (dictionary, data) = block.unwrap();
                let mut decompressor = zstd::bulk::Decompressor::with_dictionary(&dictionary).unwrap();
                if contains(&decompressor.decompress(&data, 1 << 20).unwrap(), needle) {
                    places.push(format!("a block of {}", file.display()));
                }
            }
        }
    }
    places
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_purge_no_byte_is_left_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    let secret = BareJid::new("goes@example.org").unwrap();
    let others: Vec<BareJid> =
        (0..10).map(|n| BareJid::new(&format!("stays{n}@example.org")).unwrap()).collect();
    let mut at = 0;
    for round in 0..12 {
        for _ in 0..40 {
            let batch: Vec<NewEntry> = (at..at + 10).map(|n| entry(n, SECRET)).collect();
            store.append(&secret, Position(at), batch.into()).await.unwrap();
            for other in &others {
                let batch: Vec<NewEntry> = (at..at + 10).map(|n| entry(n, "Harmless")).collect();
                store.append(other, Position(at), batch.into()).await.unwrap();
            }
            at += 10;
        }
        if round != 11 {
            store.seal().await.unwrap();
        }
        if round == 5 {
            // What expires leaves traces in dictionaries, which a purge must not overlook.
            store.expire(&secret, mammoth_archive::Cut::KeepNewest(300)).await.unwrap();
        }
    }
    store
        .retract(&secret, Position(at - 1), format!("<tombstone>{SECRET}</tombstone>").into())
        .await
        .unwrap();
    let before = found(dir.path(), SECRET);
    assert!(before.iter().any(|place| place.contains("a block of")), "{before:?}");
    assert!(before.iter().any(|place| place.contains("log")), "{before:?}");
    assert!(before.iter().any(|place| place.contains("mammoth.sqlite")), "{before:?}");

    store.purge(&secret).await.unwrap();

    assert_eq!(found(dir.path(), SECRET), Vec::<String>::new());
    assert!(!found(dir.path(), "Harmless").is_empty());
    assert_eq!(store.stats().await.unwrap().entries, 10 * at as u64);
    drop(store);
    let report = EmbeddedStore::verify(dir.path(), |_, _| {}).unwrap();
    assert_eq!((report.problems, report.entries), (Vec::new(), 10 * at as u64));
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    let head = store.head(&secret).await.unwrap();
    assert_eq!((head.first, head.next), (Position(at), Position(at)), "the high-water mark stays");
    store.append(&secret, Position(at), Arc::from(vec![entry(at, "Anew")])).await.unwrap();
}
