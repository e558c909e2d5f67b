//! What the archive does when its store forgets between two of the calls that one answer takes. Whole walks with
//! events in between are left to `gaps`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    Archive, ArchiveError, ArchiveInfo, ArchiveStore, Cut, Entry, Filter, Head, IdKey, MemoryStore, NewEntry,
    Page, PageStart, Position, Query, Settings, SettingsChange, StanzaId, Stats, StoreError, StoredEntry,
    Timestamp,
};

mod given;
use given::{LIMITS, bare, everything, jid, query, run};

/// A store in memory that expires this much right before its next page.
struct Meanwhile {
    inner: MemoryStore,
    cut: Mutex<Option<Cut>>,
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
        self.inner.expire(owner, cut).await
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
    let store = Arc::new(Meanwhile { inner: MemoryStore::new(IdKey([7; 16])), cut: Mutex::default() });
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
