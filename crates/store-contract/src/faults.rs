//! A store that goes wrong at any call, as stores on networks and full disks do, and the caller that copes by
//! doing what the errors say. Which faults a real store has is left to that store.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    ArchiveInfo, ArchiveStore, Cut, Head, IdKey, NewEntry, Page, Position, Query, Settings, SettingsChange,
    Stats, StoreError, StoredEntry,
};

use crate::seed::Seeded;

/// The most times one call is tried before [`Retrying`] gives up; with half of all calls failing it never does.
const ATTEMPTS_MAX: u32 = 200;
/// The most times a delayed call lets others go first.
const YIELDS_MAX: u64 = 12;
/// The most times a call is polled before it is given up half-way.
const POLLS_MAX: u64 = 4;

/// The cause of every error that [`FaultyStore`] makes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected;

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault made up for a test")
    }
}

impl std::error::Error for Injected {}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// Others go first, so many times.
    Delay(u64),
    /// Not done, and answered `Refused`.
    Refused,
    /// Not done, and answered `Unavailable`.
    NotDone,
    /// Done, and answered `Unavailable`.
    Done,
    /// Polled so many times, then given up; answered `Unavailable`. Who knows.
    GivenUp(u64),
}

/// A store of which half of the calls go wrong; which, and how, follows from the seed and the order of calls.
pub struct FaultyStore {
    inner: Arc<dyn ArchiveStore>,
    seeded: Mutex<Seeded>,
    faults: AtomicU64,
}

impl FaultyStore {
    /// `inner`, going wrong as `seed` has it.
    #[must_use]
    pub fn new(inner: Arc<dyn ArchiveStore>, seed: u64) -> FaultyStore {
        FaultyStore { inner, seeded: Mutex::new(Seeded::new(seed)), faults: AtomicU64::new(0) }
    }

    /// How many calls have failed so far.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    fn next(&self) -> Fault {
        let mut seeded = self.seeded.lock().unwrap_or_else(PoisonError::into_inner);
        match seeded.below(12) {
            0 => Fault::Delay(1 + seeded.below(YIELDS_MAX)),
            1 => Fault::Refused,
            2 => Fault::NotDone,
            3 | 4 => Fault::Done,
            5 => Fault::GivenUp(seeded.below(POLLS_MAX)),
            _ => Fault::None,
        }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let unknown = || Err(StoreError::unavailable(Injected));
        let fault = self.next();
        if !matches!(fault, Fault::None | Fault::Delay(_)) {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        match fault {
            Fault::None => call.await,
            Fault::Delay(yields) => {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
                call.await
            }
            Fault::Refused => Err(StoreError::refused(Injected)),
            Fault::NotDone => unknown(),
            Fault::Done => {
                let _ = call.await;
                unknown()
            }
            Fault::GivenUp(polls) => {
                let mut call = pin!(call);
                for _ in 0..polls {
                    if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                unknown()
            }
        }
    }
}

#[async_trait]
impl ArchiveStore for FaultyStore {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        self.call(self.inner.id_key()).await
    }

    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        self.call(self.inner.head(owner)).await
    }

    async fn append(
        &self,
        owner: &BareJid,
        at: Position,
        entries: Arc<[NewEntry]>,
    ) -> Result<(), StoreError> {
        self.call(self.inner.append(owner, at, entries)).await
    }

    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        self.call(self.inner.page(owner, query)).await
    }

    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError> {
        self.call(self.inner.locate(owner, foreign_id)).await
    }

    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        self.call(self.inner.find(owner, with, id, limit)).await
    }

    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        self.call(self.inner.retract(owner, position, tombstone)).await
    }

    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        self.call(self.inner.expire(owner, cut)).await
    }

    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        self.call(self.inner.purge(owner)).await
    }

    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        self.call(self.inner.settings(owner)).await
    }

    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        self.call(self.inner.set(owner, change)).await
    }

    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        self.call(self.inner.owners(after, limit)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.call(self.inner.stats()).await
    }
}

/// The caller that copes: repeats the same call after `Unavailable`, and after a `Refused` whose cause is
/// [`Injected`] and so has gone. If the contract holds, it behaves as a store without faults.
pub struct Retrying {
    inner: Arc<dyn ArchiveStore>,
}

impl Retrying {
    /// A caller of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ArchiveStore>) -> Retrying {
        Retrying { inner }
    }

    async fn until_known<T, F>(&self, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match call().await {
                Err(StoreError::Unavailable(_)) if attempts < ATTEMPTS_MAX => {}
                Err(StoreError::Refused(cause)) if attempts < ATTEMPTS_MAX && cause.is::<Injected>() => {}
                known => return known,
            }
        }
    }
}

#[async_trait]
impl ArchiveStore for Retrying {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        self.until_known(|| self.inner.id_key()).await
    }

    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        self.until_known(|| self.inner.head(owner)).await
    }

    async fn append(
        &self,
        owner: &BareJid,
        at: Position,
        entries: Arc<[NewEntry]>,
    ) -> Result<(), StoreError> {
        self.until_known(|| self.inner.append(owner, at, entries.clone())).await
    }

    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        self.until_known(|| self.inner.page(owner, query.clone())).await
    }

    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError> {
        self.until_known(|| self.inner.locate(owner, foreign_id)).await
    }

    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        self.until_known(|| self.inner.find(owner, with, id, limit)).await
    }

    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        self.until_known(|| self.inner.retract(owner, position, tombstone.clone())).await
    }

    /// The count of a repeated expiry is that of the last try; how many went in all, the head tells.
    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        let before = self.head(owner).await?;
        self.until_known(|| self.inner.expire(owner, cut)).await?;
        let after = self.head(owner).await?;
        Ok(u64::try_from(after.first.0.saturating_sub(before.first.0)).unwrap_or(0))
    }

    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        self.until_known(|| self.inner.purge(owner)).await
    }

    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        self.until_known(|| self.inner.settings(owner)).await
    }

    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        self.until_known(|| self.inner.set(owner, change.clone())).await
    }

    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        self.until_known(|| self.inner.owners(after, limit)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.until_known(|| self.inner.stats()).await
    }
}
