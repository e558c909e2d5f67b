//! The format as it was kept: `tests/fixtures/v3` was written once and is opened by every later version. What the
//! files hold is drawn in docs/format.md.
//!
//! `cargo test -p mammoth-store-embedded --test fixture -- --ignored` writes a new one, for a new format.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mammoth_accounts::{AccountStore, RosterItem, Subscription};
use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Cut, ExpiresAfter, Filter, NewEntry, PageRequest, PageStart, Position, Prefs, Query,
    SettingsChange, Timestamp,
};
use mammoth_store_embedded::{EmbeddedStore, Options};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v3")
}

fn owner(name: &str) -> BareJid {
    BareJid::new(&format!("{name}@example.org")).unwrap()
}

/// The entry at a position of alice's archive.
fn entry(n: i64) -> NewEntry {
    let with = ["bob@example.org/phone", "bob@example.org", "carol@example.net/desk"][n as usize % 3];
    NewEntry {
        with: Jid::new(with).unwrap(),
        stamp: Timestamp(1_700_000_000_000_000 + n / 2 * 1_000_000),
        stanza: Bytes::from(format!(
            "<message xmlns='jabber:client' id='m{n}'><body>Entry {n}</body></message>"
        )),
        message_id: Some(format!("m{n}")),
        foreign_id: (n % 50 == 0).then(|| format!("old-{n}")),
    }
}

fn keys() -> mammoth_accounts::Credentials {
    let keys = |n| mammoth_accounts::ScramKeys {
        salt: vec![n; 4],
        iterations: 4096,
        stored_key: vec![n + 1; 4],
        server_key: vec![n + 2; 4],
    };
    mammoth_accounts::Credentials { sha1: keys(1), sha256: keys(11) }
}

fn prefs() -> Prefs {
    let jid = |text: &str| Jid::new(text).unwrap();
    Prefs::new("roster".parse().unwrap(), [jid("bob@example.org")], [jid("eve@example.org/x")])
}

fn contact() -> RosterItem {
    RosterItem {
        name: Some("Bob".into()),
        groups: ["Friends".to_owned(), "Work".to_owned()].into(),
        subscription: Subscription::Both,
        ..RosterItem::new(owner("bob"))
    }
}

#[tokio::test]
#[ignore = "writes the fixture"]
async fn write() {
    drop(std::fs::remove_dir_all(fixture()));
    let store = EmbeddedStore::open(&fixture(), Options::default()).unwrap();
    let append = async |from: i64, to: i64| {
        let batch: Vec<NewEntry> = (from..to).map(entry).collect();
        store.append(&owner("alice"), Position(from), batch.into()).await.unwrap();
    };
    append(0, 700).await;
    store.append(&owner("zoe"), Position(0), vec![entry(0)].into()).await.unwrap();
    store.expire(&owner("alice"), Cut::Through(Position(9))).await.unwrap();
    store.seal().await.unwrap();
    append(700, 710).await;
    store.retract(&owner("alice"), Position(20), Bytes::from_static(b"<gone/>")).await.unwrap();
    store.set(&owner("alice"), SettingsChange::Prefs(Some(prefs()))).await.unwrap();
    let period = Some(ExpiresAfter::Seconds(86_400));
    store.set(&owner("alice"), SettingsChange::ExpiresAfter(period)).await.unwrap();
    store.create(&owner("alice"), keys()).await.unwrap();
    store.set_roster_item(&owner("alice"), contact()).await.unwrap();
    drop(store);
    // Write-ahead logs become part of their databases, so that there are fewer files to keep.
    for file in ["mammoth.sqlite", "log/2.sqlite"] {
        let database = rusqlite::Connection::open(fixture().join(file)).unwrap();
        database.pragma_update(None, "journal_mode", "delete").unwrap();
    }
    std::fs::remove_file(fixture().join("mammoth.lock")).unwrap();
    drop(std::fs::remove_file(fixture().join("log/3.sqlite")));
    drop(std::fs::remove_file(fixture().join("log/3.sqlite-wal")));
    drop(std::fs::remove_file(fixture().join("log/3.sqlite-shm")));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let from = file.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_of_this_format_opens_and_says_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    let report = EmbeddedStore::verify(dir.path(), |_, _| {}).unwrap();
    assert_eq!((report.archives, report.entries, report.problems), (2, 701, Vec::new()));
    let store = EmbeddedStore::open(dir.path(), Options { create: false, ..Options::default() }).unwrap();
    let alice = owner("alice");
    let head = store.head(&alice).await.unwrap();
    assert_eq!((head.first, head.next), (Position(10), Position(710)));
    for with in [None, Some("bob@example.org"), Some("bob@example.org/phone"), Some("carol@example.net")] {
        let filter = Filter { with: with.map(|with| Jid::new(with).unwrap()), ..Filter::default() };
        let query = Query { filter, page: PageRequest { max: 1000, start: PageStart::First } };
        let page = store.page(&alice, query).await.unwrap();
        let matches = |jid: &str| with.is_none_or(|with| jid == with || jid.split('/').next() == Some(with));
        let expected: Vec<i64> = (10..710).filter(|n| matches(entry(*n).with.as_str())).collect();
        assert_eq!(page.count, expected.len() as u64, "{with:?}");
        for (found, n) in page.entries.iter().zip(expected) {
            let stanza = if n == 20 { Bytes::from_static(b"<gone/>") } else { entry(n).stanza };
            assert_eq!((found.position.0, &found.stanza, found.retracted), (n, &stanza, n == 20));
            assert_eq!((&found.with, found.stamp), (&entry(n).with, entry(n).stamp));
        }
    }
    assert_eq!(store.locate(&alice, "old-350").await.unwrap(), Some(Position(350)));
    assert_eq!(store.locate(&alice, "old-0").await.unwrap(), None, "expired");
    let carol = BareJid::new("carol@example.net").unwrap();
    assert_eq!(store.find(&alice, &carol, "m500", 5).await.unwrap(), [Position(500)]);
    let settings = store.settings(&alice).await.unwrap();
    assert_eq!(
        (settings.prefs, settings.expires_after),
        (Some(prefs()), Some(ExpiresAfter::Seconds(86_400)))
    );
    assert_eq!(store.credentials(&alice).await.unwrap(), Some(keys()));
    assert_eq!(store.roster(&alice).await.unwrap(), [contact()]);
    store.append(&alice, Position(710), vec![entry(710)].into()).await.unwrap();
    store.seal().await.unwrap();
}
