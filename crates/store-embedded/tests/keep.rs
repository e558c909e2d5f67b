//! Looking after a store while a server runs on it: verifying, backing up and restoring, reading beside it; and
//! what opening says of a directory that is not as it should be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Cut, Filter, NewEntry, PageRequest, PageStart, Position, Query, Timestamp,
};
use mammoth_store_embedded::{BackupError, EmbeddedStore, OpenError, Options};

#[path = "known/checksum.rs"]
mod checksum;

fn owner(n: i64) -> BareJid {
    BareJid::new(&format!("user{n}@example.org")).unwrap()
}

fn entry(n: i64) -> NewEntry {
    NewEntry {
        with: Jid::new(&format!("contact{}@example.net/phone", n % 3)).unwrap(),
        stamp: Timestamp(n),
        stanza: Bytes::from(format!("<message><body>words and words, {n}, {}</body></message>", n * 7919)),
        message_id: Some(format!("id{n}")),
        foreign_id: (n % 10 == 0).then(|| format!("old{n}")),
    }
}

/// Some segments, one of them merged, something in memory, something expired, and a tombstone of each kind.
async fn fill(store: &EmbeddedStore) {
    for round in 0..10 {
        for of in 0..20 {
            let batch: Vec<NewEntry> = (round * 50..round * 50 + 50).map(entry).collect();
            store.append(&owner(of), Position(round * 50), batch.into()).await.unwrap();
        }
        if round < 9 {
            store.seal().await.unwrap();
        }
    }
    store.expire(&owner(3), Cut::Through(Position(9))).await.unwrap();
    store.retract(&owner(4), Position(100), Bytes::from_static(b"<gone/>")).await.unwrap();
    store.retract(&owner(4), Position(499), Bytes::from_static(b"<gone/>")).await.unwrap();
}

async fn is_whole(store: &EmbeddedStore) {
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.archives, stats.entries), (20, 20 * 500 - 10));
    let with = Some(Jid::new("contact1@example.net").unwrap());
    let filter = Filter { with, ..Filter::default() };
    let query = Query { filter, page: PageRequest { max: 1000, start: PageStart::First } };
    for of in 0..20 {
        let page = store.page(&owner(of), query.clone()).await.unwrap();
        let first = if of == 3 { 10 } else { 1 };
        let expected: Vec<i64> = (0..500).filter(|n| n % 3 == 1 && *n >= first).collect();
        let found: Vec<i64> = page.entries.iter().map(|entry| entry.position.0).collect();
        assert_eq!(found, expected);
        for found in page.entries {
            let gone = of == 4 && (found.position.0 == 100 || found.position.0 == 499);
            assert_eq!(found.retracted, gone);
            let stanza = if gone { Bytes::from_static(b"<gone/>") } else { entry(found.position.0).stanza };
            assert_eq!(found.stanza, stanza);
        }
    }
    assert_eq!(store.locate(&owner(0), "old490").await.unwrap(), Some(Position(490)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_is_verified_backed_up_and_read_beside() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    fill(&store).await;
    is_whole(&store).await;
    let report = EmbeddedStore::verify(dir.path(), |_, _| {}).unwrap();
    assert_eq!((report.archives, report.entries, report.problems), (20, 9990, Vec::new()));

    let beside = EmbeddedStore::open(dir.path(), Options { read_only: true, ..Options::default() }).unwrap();
    is_whole(&beside).await;
    let refused = beside.append(&owner(0), Position(500), Arc::from(vec![entry(500)])).await.unwrap_err();
    assert!(refused.to_string().contains("reading only"), "{refused}");
    drop(beside);

    let target = tempfile::tempdir().unwrap();
    let copy = target.path().join("copy");
    let made = EmbeddedStore::backup(dir.path(), &copy, |_, _| {}).unwrap();
    assert!(made.linked + made.copied > 0);
    // What happens later is not in it, and it does not hinder what happens later.
    store.append(&owner(0), Position(500), Arc::from(vec![entry(500)])).await.unwrap();
    store.purge(&owner(7)).await.unwrap();
    store.seal().await.unwrap();
    assert!(matches!(EmbeddedStore::backup(dir.path(), &copy, |_, _| {}), Err(BackupError::NotEmpty(_))));
    drop(store);

    assert_eq!(EmbeddedStore::verify(&copy, |_, _| {}).unwrap().problems, Vec::new());
    let restored = EmbeddedStore::open(&copy, Options::default()).unwrap();
    is_whole(&restored).await;
    restored.append(&owner(7), Position(500), Arc::from(vec![entry(500)])).await.unwrap();
    restored.seal().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_are_replaced_while_the_store_is_verified_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    fill(&store).await;
    let (path, writing, runtime) = (dir.path().to_owned(), store.clone(), tokio::runtime::Handle::current());
    let verify = move || {
        let mut replaced = false;
        EmbeddedStore::verify(&path, |_, _| {
            if !std::mem::replace(&mut replaced, true) {
                runtime.block_on(writing.purge(&owner(7))).unwrap();
            }
        })
    };
    let report = tokio::task::spawn_blocking(verify).await.unwrap().unwrap();
    assert_eq!((report.archives, report.entries, report.problems), (20, 9990, Vec::new()));
    let missing = files(&dir.path().join("segments")).remove(0);
    std::fs::remove_file(&missing).unwrap();
    let report = EmbeddedStore::verify(dir.path(), |_, _| {}).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].file, missing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_everything_acknowledged_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: 200_000, ..Options::default() };
    let store = EmbeddedStore::open(dir.path(), options.clone()).unwrap();
    let (writing, (acknowledged, seen)) = (store.clone(), tokio::sync::watch::channel(0));
    let writer = tokio::spawn(async move {
        for n in 0..1500 {
            let batch: Vec<NewEntry> = (n * 10..n * 10 + 10).map(entry).collect();
            writing.append(&owner(n % 7), Position(n / 7 * 10), batch.into()).await.unwrap();
            acknowledged.send_replace(n + 1);
        }
    });
    for round in 0..5 {
        let target = tempfile::tempdir().unwrap();
        let copy = target.path().join("copy");
        seen.clone().wait_for(|done| *done >= round * 300).await.unwrap();
        let before = *seen.borrow();
        let path = dir.path().to_owned();
        let to = copy.clone();
        tokio::task::spawn_blocking(move || EmbeddedStore::backup(&path, &to, |_, _| {}).unwrap())
            .await
            .unwrap();
        assert_eq!(EmbeddedStore::verify(&copy, |_, _| {}).unwrap().problems, Vec::new());
        let restored = EmbeddedStore::open(&copy, options.clone()).unwrap();
        let entries = restored.stats().await.unwrap().entries;
        assert!(entries >= before as u64 * 10, "{entries} of {before} batches");
    }
    writer.await.unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_says_what_is_wrong_and_where() {
    type Harm = (&'static str, &'static str);
    let harms: [Harm; 9] = [
        ("UPDATE blocks SET first = first + 1 WHERE block = 3", "block 3: damaged: the checksum"),
        ("UPDATE conversations SET contact = contact + 1 WHERE archive = 5", "a row of conversations"),
        // What a mistake of ours would write, with checksums that match.
        (
            "UPDATE blocks SET first = first + 1, checksum = checksum_of(
               'blocks', block, archive, first + 1, count, stamp, bytes_before, bytes, dictionary, data) WHERE block = 3",
            "block 3: what it holds is not what stands beside it",
        ),
        (
            "UPDATE blocks SET bytes_before = bytes_before + 1, checksum = checksum_of(
               'blocks', block, archive, first, count, stamp, bytes_before + 1, bytes, dictionary, data) WHERE block = 2",
            "bytes are counted wrongly",
        ),
        (
            "UPDATE conversations SET count = count + 1, checksum = checksum_of(
               'conversations', archive, contact, count + 1, positions) WHERE archive = 5",
            "says",
        ),
        ("DELETE FROM conversations WHERE archive = 5", "conversations are not those"),
        ("DELETE FROM ids WHERE archive = 6", "ids are not those"),
        ("DELETE FROM blocks WHERE block = 4", "block 4 is missing"),
        ("UPDATE meta SET value = 1 WHERE name = 'entries'", "says 1"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    fill(&store).await;
    drop(store);
    let segments = files(&dir.path().join("segments"));
    let segment = segments.iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    let sound = std::fs::read(segment).unwrap();
    for (sql, said) in harms {
        let harmed = rusqlite::Connection::open(segment).unwrap();
        checksum::teach(&harmed);
        assert!(harmed.execute(sql, []).unwrap() > 0, "{sql}");
        drop(harmed);
        let problems = EmbeddedStore::verify(dir.path(), |_, _| {}).unwrap().problems;
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|problem| problem.contains(said)), "{sql}: {told:?}");
        assert!(problems.iter().all(|problem| problem.file == *segment), "{sql}: {told:?}");
        std::fs::write(segment, &sound).unwrap();
    }
    assert_eq!(EmbeddedStore::verify(dir.path(), |_, _| {}).unwrap().problems, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let none = EmbeddedStore::open(dir.path(), Options { create: false, ..Options::default() });
    assert!(matches!(none, Err(OpenError::Missing(_))));
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    let held = EmbeddedStore::open(dir.path(), Options::default()).unwrap_err().to_string();
    assert!(held.contains(&format!("in use by process {}", std::process::id())), "{held}");
    store.append(&owner(1), Position(0), Arc::from(vec![entry(0)])).await.unwrap();
    store.seal().await.unwrap();
    drop(store);

    let segment = files(&dir.path().join("segments")).remove(0);
    for file in [dir.path().join("mammoth.sqlite"), segment.clone()] {
        let database = || rusqlite::Connection::open(&file).unwrap();
        let ours: i64 = database().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        database().pragma_update(None, "user_version", ours + 1).unwrap();
        let newer = EmbeddedStore::open(dir.path(), Options::default()).unwrap_err().to_string();
        assert!(
            newer.contains(&format!("format {}", ours + 1)) && newer.contains("newer program"),
            "{newer}"
        );
        database().pragma_update(None, "user_version", 1).unwrap();
        let older = EmbeddedStore::open(dir.path(), Options::default()).unwrap_err().to_string();
        assert!(older.contains("format 1") && older.contains("older program"), "{older}");
        database().pragma_update(None, "user_version", ours).unwrap();
    }
    std::fs::rename(&segment, dir.path().join("elsewhere")).unwrap();
    let damaged = EmbeddedStore::open(dir.path(), Options::default()).unwrap_err().to_string();
    assert!(damaged.contains("missing") && damaged.contains("restore a backup"), "{damaged}");
    std::fs::rename(dir.path().join("elsewhere"), &segment).unwrap();
    EmbeddedStore::open(dir.path(), Options::default()).unwrap();

    let other = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(other.path().join("mammoth.sqlite")).unwrap();
    database.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let foreign = EmbeddedStore::open(other.path(), Options::default()).unwrap_err();
    assert!(matches!(foreign, OpenError::Foreign(_)));
}
