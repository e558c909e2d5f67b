//! Bytes that rot in a closed store, anywhere: either verifying says so, or every read answers as before. What a
//! disk does that refuses or forgets is left to `failing_disk` and `forgetful_disk`.
//!
//! `MAMMOTH_ROT_FLIPS` says how many bytes, `MAMMOTH_ROT_SEED` which.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mammoth_accounts::{AccountError, AccountStore, Credentials, RosterItem, ScramKeys, Subscription};
use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Cut, ExpiresAfter, Filter, PageRequest, PageStart, Position, Query, SettingsChange,
    StoreError, Timestamp,
};
use mammoth_store_embedded::{EmbeddedStore, Options};

mod known;
use known::files::{append, files, folder, lay_out, open};
use known::{next, owner};

const FLIPS_DEFAULT: u64 = 150;
/// Archives with entries in a segment, in memory, or both.
const OWNERS: usize = 3;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn account() -> BareJid {
    BareJid::new("romeo@montague.example").unwrap()
}

/// A store that has something of everything.
async fn make(dir: &Path) {
    let store = open(dir, 1 << 20, None);
    for of in 0..OWNERS {
        append(&store, of, 150).await.unwrap();
    }
    store.expire(&owner(0, 1), Cut::Through(Position(19))).await.unwrap();
    store.seal().await.unwrap();
    append(&store, 1, 30).await.unwrap();
    append(&store, OWNERS, 20).await.unwrap();
    store.retract(&owner(0, 0), Position(40), Bytes::from_static(b"<gone/>")).await.unwrap();
    let period = Some(ExpiresAfter::Seconds(86_400));
    store.set(&owner(0, 2), SettingsChange::ExpiresAfter(period)).await.unwrap();
    let keys = |n| ScramKeys {
        salt: vec![n; 4],
        iterations: 4096,
        stored_key: vec![n + 1; 4],
        server_key: vec![n + 2; 4],
    };
    store.create(&account(), Credentials { sha1: keys(1), sha256: keys(11) }).await.unwrap();
    let contact = BareJid::new("juliet@capulet.example").unwrap();
    let item = RosterItem {
        name: Some("Juliet".into()),
        subscription: Subscription::Both,
        ..RosterItem::new(contact)
    };
    store.set_roster_item(&account(), item).await.unwrap();
}

/// What one question is answered with.
type Answers = BTreeMap<String, Result<String, String>>;

fn of_store<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Result<String, String> {
    answer.map(|answer| format!("{answer:?}")).map_err(|error| format!("{error:?}"))
}

fn of_accounts<T: std::fmt::Debug>(answer: Result<T, AccountError>) -> Result<String, String> {
    answer.map(|answer| format!("{answer:?}")).map_err(|error| format!("{error:?}"))
}

/// Everything that can be asked of the store.
async fn ask(store: &EmbeddedStore) -> Answers {
    let mut answers = Answers::new();
    answers.insert("id key".into(), store.id_key().await.map(|_| String::new()).map_err(|e| e.to_string()));
    answers.insert("owners".into(), of_store(store.owners(None, 100).await));
    answers.insert("accounts".into(), of_accounts(store.list(None, 100).await));
    answers.insert("credentials".into(), of_accounts(store.credentials(&account()).await));
    answers.insert("roster".into(), of_accounts(store.roster(&account()).await));
    for of in 0..=OWNERS {
        let owner = owner(0, of);
        answers.insert(format!("{of}: head"), of_store(store.head(&owner).await));
        answers.insert(format!("{of}: settings"), of_store(store.settings(&owner).await));
        let with = |with: String| Some(Jid::new(&with).unwrap());
        let mut filters = vec![Filter::default()];
        filters.push(Filter { start: Some(Timestamp(20)), ..Filter::default() });
        for contact in 0..5 {
            filters.push(Filter { with: with(format!("c{contact}@contacts.example")), ..Filter::default() });
            filters
                .push(Filter { with: with(format!("c{contact}@contacts.example/1")), ..Filter::default() });
        }
        for (i, filter) in filters.into_iter().enumerate() {
            for (max, start) in [(1000, PageStart::First), (5, PageStart::Last), (5, PageStart::Index(9))] {
                let query = Query { filter: filter.clone(), page: PageRequest { max, start } };
                answers.insert(format!("{of}: page {i} {max}"), of_store(store.page(&owner, query).await));
            }
        }
        for position in (0..50).step_by(5) {
            let found = store.locate(&owner, &format!("f{position}")).await;
            answers.insert(format!("{of}: locate {position}"), of_store(found));
        }
        for id in 0..3 {
            let contact = BareJid::new("c1@contacts.example").unwrap();
            let found = store.find(&owner, &contact, &format!("m{id}"), 9).await;
            answers.insert(format!("{of}: find {id}"), of_store(found));
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_that_rots_anywhere_is_reported_or_means_nothing() {
    let made = folder();
    make(made.path()).await;
    let whole = files(made.path());
    assert!(whole.keys().any(|name| name.starts_with("segments")), "{:?}", whole.keys());
    let before = {
        let dir = lay_out(&whole);
        let report = EmbeddedStore::verify(dir.path(), |_, _| {}).unwrap();
        assert_eq!((report.problems, report.entries), (Vec::new(), 480), "nothing has rotted yet");
        ask(&open(dir.path(), 1 << 20, None)).await
    };
    assert!(before.values().all(Result::is_ok), "{before:?}");

    let mut seed = variable("MAMMOTH_ROT_SEED", 1);
    let flips = variable("MAMMOTH_ROT_FLIPS", FLIPS_DEFAULT);
    let mut names: Vec<&PathBuf> = whole.keys().filter(|name| !whole[*name].is_empty()).collect();
    names.sort();
    let (mut reported, mut harmless, mut refused, mut silent) = (0, 0, 0, Vec::new());
    for flip in 0..flips {
        let of = seed;
        // Each file as often as the others: small ones matter as much.
        let name = names[next(&mut seed) as usize % names.len()];
        let at = next(&mut seed) as usize % whole[name].len();
        let change = 1_u8 << (next(&mut seed) % 8);
        let what = format!("flip {flip}, seed {of}: bit {change:#x} of byte {at} of {}", name.display());
        let mut rotten = whole.clone();
        rotten.get_mut(name).unwrap()[at] ^= change;
        let dir = lay_out(&rotten);
        let told = match EmbeddedStore::verify(dir.path(), |_, _| {}) {
            Ok(report) => !report.problems.is_empty(),
            Err(_) => true,
        };
        let options = Options { readers: 1, ..Options::default() };
        let unchanged = match EmbeddedStore::open(dir.path(), options) {
            Err(_) => None,
            Ok(store) => {
                let after = ask(&store).await;
                let other: Vec<&String> = before
                    .iter()
                    .filter(|(question, answer)| after[*question].is_ok() && after[*question] != **answer)
                    .map(|(question, _)| question)
                    .collect();
                if !other.is_empty() {
                    silent.push(format!("{what}: told {told}, other answers to {other:?}"));
                }
                Some(before == after)
            }
        };
        match (told, unchanged) {
            (true, _) => reported += 1,
            (false, Some(true)) => harmless += 1,
            (false, None) => panic!("{what}: cannot be opened, and verify says nothing"),
            (false, Some(false)) => panic!("{what}: answers otherwise, and verify says nothing"),
        }
        refused += u64::from(unchanged.is_none());
    }
    let (files, other) = (names.len(), silent.len());
    eprintln!(
        "rot: {flips} bytes in {files} files: {reported} reported, {harmless} without meaning; {refused} stores not opened, {other} opened with other answers"
    );
    for silent in &silent {
        eprintln!("rot: {silent}");
    }
    // Much of so small a store is room: a log without entries, what SQLite keeps beside a log.
    assert!(reported > flips / 8, "only {reported} of {flips}");
}
