//! What the archive does when its store forgets between two of the calls that one answer takes, and how many calls
//! it has under way at a time. Whole walks with events in between are left to `gaps`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::expiry::UNDER_WAY_MAX;
use mammoth_archive::{
    Archive, ArchiveError, ArchiveInfo, ArchiveStore, Cut, Entry, ExpiresAfter, Filter, Head, IdKey,
    MemoryStore, NewEntry, Page, PageStart, Position, Query, Quota, Settings, SettingsChange, StanzaId,
    Stats, StoreError, StoredEntry, Timestamp,
};

mod given;
use given::{LIMITS, SECOND, bare, everything, jid, query, run};

/// A store in memory that expires this much right before its next page, counts the cuts under way, and does not
/// take those of one owner.
struct Meanwhile {
    inner: MemoryStore,
    cut: Mutex<Option<Cut>>,
    cuts: Mutex<Cuts>,
    full: Mutex<Option<BareJid>>,
}

#[derive(Clone, Copy, Default)]
struct Cuts {
    under_way: usize,
    most: usize,
    all: usize,
}

impl Meanwhile {
    fn new() -> Arc<Meanwhile> {
        let inner = MemoryStore::new(IdKey([7; 16]));
        let (cut, cuts, full) = Default::default();
        Arc::new(Meanwhile { inner, cut, cuts, full })
    }
}

#[async_trait]
impl ArchiveStore for Meanwhile {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        self.inner.id_key().await
    }
    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        self.inner.head(owner).await
    }
    async fn append(&self, owner: &BareJid, at: Position, new: Arc<[NewEntry]>) -> Result<(), StoreError> {
        self.inner.append(owner, at, new).await
    }
    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        let cut = self.cut.lock().unwrap().take();
        if let Some(cut) = cut {
            self.inner.expire(owner, cut).await?;
        }
        self.inner.page(owner, query).await
    }
    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError> {
        self.inner.locate(owner, foreign_id).await
    }
    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        self.inner.find(owner, with, id, limit).await
    }
    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        self.inner.retract(owner, position, tombstone).await
    }
    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        {
            let mut cuts = self.cuts.lock().unwrap();
            cuts.all += 1;
            cuts.under_way += 1;
            cuts.most = cuts.most.max(cuts.under_way);
        }
        for _ in 0..owner.as_str().len() % 5 {
            tokio::task::yield_now().await;
        }
        self.cuts.lock().unwrap().under_way -= 1;
        let full = self.full.lock().unwrap().as_ref() == Some(owner);
        match full {
            true => Err(StoreError::refused("the disk is full")),
            false => self.inner.expire(owner, cut).await,
        }
    }
    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        self.inner.purge(owner).await
    }
    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        self.inner.settings(owner).await
    }
    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        self.inner.set(owner, change).await
    }
    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        self.inner.owners(after, limit).await
    }
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.inner.stats().await
    }
}

/// An archive of three entries with the same message id, the first of them imported; and its store.
async fn three() -> (Archive, BareJid, Arc<Meanwhile>) {
    let store = Meanwhile::new();
    let owner = bare("romeo@montague.example");
    let entry = |i: i64| NewEntry {
        with: jid("juliet@capulet.example/x"),
        stamp: Timestamp(i),
        stanza: Bytes::from(format!("{i}")),
        message_id: Some("m".into()),
        foreign_id: (i == 0).then(|| "old".into()),
    };
    store.append(&owner, Position(0), (0..3).map(entry).collect()).await.unwrap();
    (Archive::open(store.clone(), LIMITS).await.unwrap(), owner, store)
}

#[test]
fn an_id_that_dies_between_resolving_and_reading_has_expired() {
    run(async {
        for (id, through) in [("old", 0), ("", 0), ("", 2)] {
            let (archive, owner, store) = three().await;
            let id = StanzaId::new(id).unwrap_or_else(|| archive.mint(&owner).id(Position(0)));
            *store.cut.lock().unwrap() = Some(Cut::Through(Position(through)));
            let page = archive.page(&owner, query(Filter::default(), PageStart::After(id.clone()), 10)).await;
            let Err(ArchiveError::NotFound { id: named, expired, start }) = page else { panic!("{page:?}") };
            assert_eq!((named, expired), (id, true));
            assert_eq!(start.map(|(_, stamp)| stamp.0), (through == 0).then_some(1));
        }
    });
}

#[test]
fn a_retraction_is_not_lost_when_an_older_candidate_expires() {
    run(async {
        let (archive, owner, store) = three().await;
        let with = bare("juliet@capulet.example");
        let tombstone = |_: &Entry| Bytes::from_static(b"tombstone");
        *store.cut.lock().unwrap() = Some(Cut::Through(Position(1)));
        assert!(archive.retract(&owner, &with, "m", |_| true, tombstone).await.unwrap());
        let left = everything(&archive, &owner).await;
        assert_eq!((left.len(), left[0].retracted), (1, true));
        *store.cut.lock().unwrap() = Some(Cut::KeepNewest(0));
        assert!(!archive.retract(&owner, &with, "m", |_| true, tombstone).await.unwrap(), "all have gone");
    });
}

/// Many archives of two entries, stamped 10 and 30 s; every other one has been left empty of the first.
async fn many(owners: usize) -> (Archive, Vec<BareJid>, Arc<Meanwhile>) {
    let store = Meanwhile::new();
    let owners: Vec<BareJid> = (0..owners).map(|i| bare(&format!("{i}@x.example"))).collect();
    for (i, owner) in owners.iter().enumerate() {
        let entry = |seconds: i64| NewEntry {
            with: jid("juliet@capulet.example"),
            stamp: Timestamp(seconds * SECOND),
            stanza: Bytes::from_static(b"<message/>"),
            message_id: None,
            foreign_id: None,
        };
        let first = if i % 2 == 0 { 10 } else { 20 };
        store.append(owner, Position(0), [entry(first), entry(30)].into()).await.unwrap();
    }
    (Archive::open(store.clone(), LIMITS).await.unwrap(), owners, store)
}

const NO_QUOTA: Quota = Quota { entries: None, bytes: None };

#[test]
fn many_archives_are_cut_at_a_time_and_only_those_that_are_due() {
    run(async {
        let (archive, owners, store) = many(3001).await;
        let now = Timestamp(25 * SECOND);
        let gone = archive.expire(now, ExpiresAfter::Seconds(10), NO_QUOTA).await.unwrap();
        assert_eq!((gone.archives, gone.entries, gone.by_quota, gone.lag_seconds), (1501, 1501, 0, 5));
        let cuts = *store.cuts.lock().unwrap();
        assert_eq!((cuts.all, cuts.most, cuts.under_way), (1501, UNDER_WAY_MAX, 0));
        for (i, owner) in owners.iter().enumerate() {
            let head = store.head(owner).await.unwrap();
            assert_eq!((head.first.0, head.next.0), (i64::from(i % 2 == 0), 2), "{owner}");
        }
        archive.expire(now, ExpiresAfter::Seconds(10), NO_QUOTA).await.unwrap();
        assert_eq!(
            store.cuts.lock().unwrap().all,
            1501,
            "nothing is due any more, and the store is not asked"
        );
    });
}

#[test]
fn an_expiry_that_fails_ends_what_is_under_way_and_begins_no_more() {
    run(async {
        let (archive, owners, store) = many(3000).await;
        *store.full.lock().unwrap() = Some(owners[0].clone());
        let failed = archive.expire(Timestamp(25 * SECOND), ExpiresAfter::Seconds(10), NO_QUOTA).await;
        assert!(matches!(failed, Err(StoreError::Refused(_))), "{failed:?}");
        let cuts = *store.cuts.lock().unwrap();
        assert!(cuts.under_way == 0 && cuts.all <= 2 * UNDER_WAY_MAX, "{} of 1500", cuts.all);
        *store.full.lock().unwrap() = None;
        let rest = archive.expire(Timestamp(25 * SECOND), ExpiresAfter::Seconds(10), NO_QUOTA).await.unwrap();
        assert!(rest.entries >= 1500 - cuts.all as u64 && rest.entries < 1500, "{rest:?}");
    });
}
