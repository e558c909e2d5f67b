//! The port to storage: what it means to be an archive store. How a store does it is left to the crates that
//! implement it; `store-contract` runs every sentence below against each of them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jid::BareJid;

use crate::entry::{Head, NewEntry, Position, StoredEntry, Timestamp};
use crate::id::IdKey;
use crate::prefs::Prefs;
use crate::query::{Page, Query};
use crate::retention::ExpiresAfter;

/// What went wrong, named by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No entry stands at this position now (never did, has expired, or was purged).
    #[error("no entry at position {0}")]
    NotFound(Position),
    /// The archive's next position is this one, not the one expected. Nothing was written.
    #[error("the next position is {0}")]
    Conflict(Position),
    /// Certainly not done. Doing the same again is useless until the cause is gone.
    #[error("refused: {0}")]
    Refused(#[source] Cause),
    /// Done or not, nobody knows yet. Repeat the same call.
    #[error("unavailable: {0}")]
    Unavailable(#[source] Cause),
    /// What is stored contradicts itself. Stop and shout.
    #[error("corrupt: {0}")]
    Corrupt(#[source] Cause),
}

/// What a store says of the cause of an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl StoreError {
    /// [`StoreError::Refused`], with its cause.
    pub fn refused(cause: impl Into<Cause>) -> StoreError {
        StoreError::Refused(cause.into())
    }

    /// [`StoreError::Unavailable`], with its cause.
    pub fn unavailable(cause: impl Into<Cause>) -> StoreError {
        StoreError::Unavailable(cause.into())
    }

    /// [`StoreError::Corrupt`], with its cause.
    pub fn corrupt(cause: impl Into<Cause>) -> StoreError {
        StoreError::Corrupt(cause.into())
    }
}

/// Which of the oldest entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Those stamped before this moment.
    Before(Timestamp),
    /// Those at or before this position (XEP-mamtrim: up to and including an id).
    Through(Position),
    /// All but the newest so many.
    KeepNewest(u64),
    /// As few as needed for the rest to hold at most so many bytes of stanzas, uncompressed.
    KeepBytes(u64),
}

/// What is set for one archive; `None` follows the server's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The owner's prefs.
    pub prefs: Option<Prefs>,
    /// This archive's own `archive_expires_after`.
    pub expires_after: Option<ExpiresAfter>,
}

/// A change to one of the [`Settings`]; the other stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsChange {
    /// Sets the owner's prefs, or goes back to the server's.
    Prefs(Option<Prefs>),
    /// Sets the period, or goes back to the server's.
    ExpiresAfter(Option<ExpiresAfter>),
}

/// What [`ArchiveStore::owners`] says of one archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveInfo {
    /// Whose it is.
    pub owner: BareJid,
    /// Its ends.
    pub head: Head,
    /// The stamp of its oldest entry; `None` when empty.
    pub first_stamp: Option<Timestamp>,
    /// Bytes of stanzas it holds, uncompressed. May lag behind removals by one merge, never behind appends.
    pub bytes: u64,
    /// Its own period, if it has one.
    pub expires_after: Option<ExpiresAfter>,
}

/// What [`ArchiveStore::stats`] says of the whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Archives that hold at least one entry.
    pub archives: u64,
    /// Entries in all of them.
    pub entries: u64,
    /// Bytes on disk, or in memory for a store that has none.
    pub disk_bytes: u64,
    /// What else this kind of store has to say, as (metric-like name, value).
    pub details: Vec<(&'static str, u64)>,
}

/// A store of archives.
///
/// # The contract
///
/// 1. When [`append`](Self::append) returns `Ok`, the entries are durable, in order, all of them, after
///    everything earlier in that archive.
/// 2. An append that was already done changes nothing and returns `Ok`; a stale one answers
///    [`Conflict`](StoreError::Conflict) and writes nothing.
/// 3. Walking pages forwards or backwards, by any filter, yields each entry once, in order; `count` and
///    `index` are exact. A page is of one moment: no half of an append, no half of an expiry.
/// 4. A query that names a position where no entry stands is [`NotFound`](StoreError::NotFound), never an
///    empty page.
/// 5. [`expire`](Self::expire) removes only the oldest entries; no position ever comes back, not even after
///    [`purge`](Self::purge).
/// 6. After an error of unknown outcome ([`Unavailable`](StoreError::Unavailable)), the same call repeated, or
///    the store reopened, tells the truth.
/// 7. After [`purge`](Self::purge) no byte of the archive's stanzas can be read through the store.
///
/// Every method may be called from anywhere at any time. Calls that write to one archive are expected from one
/// caller at a time; when there are two, `append`'s expected position keeps them apart. A method whose future
/// is dropped may or may not have happened.
#[async_trait]
pub trait ArchiveStore: Send + Sync + 'static {
    /// The secret of this store's stanza-ids: made once, durable before it is first returned, always the same.
    async fn id_key(&self) -> Result<IdKey, StoreError>;

    /// The ends of an archive; [`Head::NEW`] for one never written to.
    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError>;

    /// Appends `entries` at `expected`, all or nothing, durably. Repeatable.
    ///
    /// # Errors
    /// `Conflict` when the archive's next position is not `expected` and the entries there are not these.
    /// `Refused` when the stamps decrease, within the batch or against the archive.
    async fn append(
        &self,
        owner: &BareJid,
        expected: Position,
        entries: Arc<[NewEntry]>,
    ) -> Result<(), StoreError>;

    /// One page, as of one moment, computed by [`crate::PageRequest::window`]; sees every append that has
    /// returned.
    ///
    /// # Errors
    /// `NotFound` when the query names a position where no entry stands.
    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError>;

    /// Where the entry stands that was appended with this foreign id: the newest, if several were.
    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError>;

    /// Where entries with this bare JID stand that were appended with this message id: newest first, at most
    /// `limit`. May include a few others (the caller compares), never leaves one out.
    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        message_id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError>;

    /// Replaces the stanza at `position` by `tombstone`; position, stamp, `with` and ids stay. Durable, and
    /// repeatable: a later tombstone takes the place of an earlier one.
    ///
    /// # Errors
    /// `NotFound` when no entry stands there.
    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError>;

    /// Moves the archive's first position forward; what lies before is gone for every reader at once and for
    /// ever, its space comes back later. Answers how many entries went. Repeatable.
    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError>;

    /// Removes all of an archive (entries, aliases, settings) but its high-water mark. Returns when no byte of
    /// its stanzas is left in anything the store wrote, as far as the store controls it.
    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError>;

    /// What is set for an archive; the default for one without settings.
    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError>;

    /// Changes one setting, durably, leaving the others.
    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError>;

    /// Archives that have entries or settings, or had: in the order of their owners' text, after `after`, at
    /// most `limit`.
    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError>;

    /// Figures of the whole store; cheap enough to ask every few seconds.
    async fn stats(&self) -> Result<Stats, StoreError>;
}

impl fmt::Debug for dyn ArchiveStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArchiveStore")
    }
}
