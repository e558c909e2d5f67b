//! A store that does something else between two calls: reopens, seals, merges. What that is, is left to the test
//! that knows the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    ArchiveInfo, ArchiveStore, Cut, Head, IdKey, NewEntry, Page, Position, Query, Settings, SettingsChange,
    Stats, StoreError, StoredEntry,
};
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::Step;

/// A store with a [`Step`] before every so many calls. Calls under way are waited for, so the step is given the
/// only handle on the store.
pub struct Between {
    inner: Arc<RwLock<Option<Arc<dyn ArchiveStore>>>>,
    step: Step,
    every: u64,
    calls: AtomicU64,
    steps: AtomicU64,
}

impl Between {
    /// `store`, with `step` before each `every`-th call.
    #[must_use]
    pub fn new(store: Arc<dyn ArchiveStore>, every: u64, step: Step) -> Between {
        let (calls, steps) = Default::default();
        Between { inner: Arc::new(RwLock::new(Some(store))), step, every: every.max(1), calls, steps }
    }

    /// How many steps there have been.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    async fn store(&self) -> Held<'_> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % self.every == self.every - 1 {
            let mut inner = self.inner.clone().write_owned().await;
            let step = self.step.clone();
            // On its own, so that a caller who gives up half-way leaves no hole where the store was.
            let done = tokio::spawn(async move {
                if let Some(store) = inner.take() {
                    *inner = Some(step(store).await);
                }
            });
            done.await.expect("the step between two calls");
            self.steps.fetch_add(1, Ordering::Relaxed);
        }
        Held(self.inner.read().await)
    }
}

struct Held<'a>(RwLockReadGuard<'a, Option<Arc<dyn ArchiveStore>>>);

impl Held<'_> {
    fn get(&self) -> &dyn ArchiveStore {
        self.0.as_deref().expect("a step between two calls has panicked")
    }
}

#[async_trait]
impl ArchiveStore for Between {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        self.store().await.get().id_key().await
    }

    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        self.store().await.get().head(owner).await
    }

    async fn append(
        &self,
        owner: &BareJid,
        at: Position,
        entries: Arc<[NewEntry]>,
    ) -> Result<(), StoreError> {
        self.store().await.get().append(owner, at, entries).await
    }

    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        self.store().await.get().page(owner, query).await
    }

    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError> {
        self.store().await.get().locate(owner, foreign_id).await
    }

    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        self.store().await.get().find(owner, with, id, limit).await
    }

    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        self.store().await.get().retract(owner, position, tombstone).await
    }

    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        self.store().await.get().expire(owner, cut).await
    }

    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        self.store().await.get().purge(owner).await
    }

    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        self.store().await.get().settings(owner).await
    }

    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        self.store().await.get().set(owner, change).await
    }

    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        self.store().await.get().owners(after, limit).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.store().await.get().stats().await
    }
}
