//! The archive as everybody above calls it: a store, its ids, and the limits on a page. Which messages come
//! here is left to `wire` and `server`; where they lie to the store; letting old ones go to `expiry`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jid::{BareJid, Jid};

use crate::entry::{Entry, Head, NewEntry, Position, StoredEntry, Timestamp};
use crate::id::{IdKey, IdMint, StanzaId};
use crate::query::{Filter, Page, PageRequest, PageStart, Query};
use crate::store::{ArchiveStore, Cut, StoreError};

/// How many entries with the same message id a retraction looks at, newest first.
const RETRACT_CANDIDATES_MAX: usize = 16;

/// What an archive refuses to exceed, whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most entries on one page (`max_archive_query_results`); larger wishes are cut to this.
    pub page_max: usize,
    /// The most ids one query may name in `ids`.
    pub ids_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { page_max: 50, ids_max: 1000 }
    }
}

/// Why an archive cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A stanza-id that names no entry of this archive (XEP-0313: `item-not-found`).
    #[error("no such entry")]
    NotFound {
        /// The id asked for.
        id: StanzaId,
        /// Whether it was this archive's id once: its entry has expired or been trimmed.
        expired: bool,
        /// Where the archive now starts; `None` when it is empty.
        start: Option<(StanzaId, Timestamp)>,
    },
    /// More ids in one query than [`Limits::ids_max`].
    #[error("at most {0} ids in one query")]
    TooManyIds(usize),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A message on its way into an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The other end, as on the wire.
    pub with: Jid,
    /// The stanza, whole and self-contained.
    pub stanza: Bytes,
    /// The stanza's own `id` attribute.
    pub message_id: Option<String>,
}

/// A batch with its place, ids and stamp decided: what one append will make true, however often it is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where the first entry stands.
    pub at: Position,
    /// The archive's ends once it is done.
    pub head: Head,
    /// The stamp of every entry of the batch.
    pub stamp: Timestamp,
    /// The ids, in order. Nobody may see one before [`Archive::append`] has returned `Ok`.
    pub ids: Vec<StanzaId>,
    entries: Arc<[NewEntry]>,
}

impl Appended {
    fn at(mint: &IdMint, head: Head, stamp: Timestamp, entries: Arc<[NewEntry]>) -> Appended {
        let ids = (0..).zip(entries.iter()).map(|(i, _)| mint.id(head.next.offset(i))).collect();
        let next = head.next.offset(i64::try_from(entries.len()).unwrap_or(i64::MAX));
        Appended {
            at: head.next,
            head: Head { first: head.first, next, last_stamp: stamp },
            stamp,
            ids,
            entries,
        }
    }

    /// The same messages in another place, after the one given before has turned out to be taken.
    #[must_use]
    pub fn moved(&self, mint: &IdMint, head: Head, now: Timestamp) -> Appended {
        let stamp = now.max(head.last_stamp);
        let entries = self.entries.iter().map(|entry| NewEntry { stamp, ..entry.clone() }).collect();
        Appended::at(mint, head, stamp, entries)
    }
}

/// The ends of an archive as clients see them (XEP-0313 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The oldest entry.
    pub start: (StanzaId, Timestamp),
    /// The newest entry.
    pub end: (StanzaId, Timestamp),
}

/// A store with its ids and limits.
#[derive(Clone, Debug)]
pub struct Archive {
    store: Arc<dyn ArchiveStore>,
    key: IdKey,
    limits: Limits,
}

impl Archive {
    /// Puts the archive's rules before a store.
    ///
    /// # Errors
    /// When the store cannot give its id key.
    pub async fn open(store: Arc<dyn ArchiveStore>, limits: Limits) -> Result<Archive, StoreError> {
        let key = store.id_key().await?;
        Ok(Archive { store, key, limits })
    }

    /// The store behind.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ArchiveStore> {
        &self.store
    }

    /// The limits given at opening.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The ids of one archive.
    #[must_use]
    pub fn mint(&self, owner: &BareJid) -> IdMint {
        self.key.mint(owner)
    }

    /// Gives the next positions, ids and stamp of an archive to a batch. Writes nothing: the one writer of the
    /// archive does that with [`Archive::append`], and repeats it with the same batch until it knows the outcome.
    #[must_use]
    pub fn prepare(mint: &IdMint, head: Head, now: Timestamp, arrivals: Vec<Arrival>) -> Appended {
        let stamp = now.max(head.last_stamp);
        let entries = arrivals.into_iter().map(|Arrival { with, stanza, message_id }| NewEntry {
            with,
            stamp,
            stanza,
            message_id,
            foreign_id: None,
        });
        Appended::at(mint, head, stamp, entries.collect())
    }

    /// Makes a prepared batch durable. Repeatable.
    ///
    /// # Errors
    /// As [`ArchiveStore::append`]; after `Conflict` the batch must be prepared anew from a fresh head.
    pub async fn append(&self, owner: &BareJid, batch: &Appended) -> Result<(), StoreError> {
        self.store.append(owner, batch.at, batch.entries.clone()).await
    }

    /// Answers a query (XEP-0313 §4). A wish for more than [`Limits::page_max`] entries is cut to it.
    ///
    /// # Errors
    /// `NotFound` when an id that the query names is not in the archive, whether or not it would match.
    pub async fn page(
        &self,
        owner: &BareJid,
        mut query: Query<StanzaId>,
    ) -> Result<Page<Entry>, ArchiveError> {
        let mint = self.mint(owner);
        query.page.max = query.page.max.min(self.limits.page_max);
        let mut places = HashMap::new();
        if query.filter.ids.as_ref().is_some_and(|ids| ids.len() > self.limits.ids_max) {
            return Err(ArchiveError::TooManyIds(self.limits.ids_max));
        }
        for id in query.named() {
            match self.resolve(owner, &mint, id).await? {
                Some(position) => places.insert(id.clone(), position),
                None => return Err(self.not_found(owner, &mint, id.clone(), false).await),
            };
        }
        let named = query.try_map(|id| places.get(&id).copied().ok_or(id));
        let named = match named {
            Ok(query) => query,
            Err(id) => return Err(self.not_found(owner, &mint, id, false).await),
        };
        match self.store.page(owner, named).await {
            Ok(page) => Ok(page.map(|stored| publish(&mint, stored))),
            Err(StoreError::NotFound(position)) => {
                let asked = places.into_iter().find(|(_, p)| *p == position);
                let id = asked.map_or_else(|| mint.id(position), |(id, _)| id);
                Err(self.not_found(owner, &mint, id, true).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn resolve(
        &self,
        owner: &BareJid,
        mint: &IdMint,
        id: &StanzaId,
    ) -> Result<Option<Position>, StoreError> {
        match mint.position(id) {
            Some(position) => Ok(Some(position)),
            None => self.store.locate(owner, id.as_str()).await,
        }
    }

    async fn not_found(&self, owner: &BareJid, mint: &IdMint, id: StanzaId, ours: bool) -> ArchiveError {
        let expired = match (ours, mint.position(&id)) {
            (true, Some(position)) => self.store.head(owner).await.is_ok_and(|head| position < head.first),
            (true, None) => true,
            (false, _) => false,
        };
        match self.metadata(owner).await {
            Ok(metadata) => ArchiveError::NotFound { id, expired, start: metadata.map(|m| m.start) },
            Err(error) => error.into(),
        }
    }

    /// The ends of an archive (XEP-0313 §5); `None` when it is empty.
    ///
    /// # Errors
    /// When the store cannot read.
    pub async fn metadata(&self, owner: &BareJid) -> Result<Option<Metadata>, StoreError> {
        let mint = self.mint(owner);
        let end = |start| Query { filter: Filter::default(), page: PageRequest { max: 1, start } };
        let first = self.store.page(owner, end(PageStart::First)).await?.entries.pop();
        let last = self.store.page(owner, end(PageStart::Last)).await?.entries.pop();
        let edge = |entry: StoredEntry| {
            let entry = publish(&mint, entry);
            (entry.id, entry.stamp)
        };
        Ok(first.zip(last).map(|(first, last)| Metadata { start: edge(first), end: edge(last) }))
    }

    /// Replaces an entry of a conversation by a tombstone (XEP-0424): the newest that `is_it` accepts of those
    /// that the store finds under `message_id`. The store may find a few others too, for it goes by a hash: `is_it`
    /// must compare the message id of the stanza as well as see that its author is the one who retracts. Answers
    /// whether there was one. What is a tombstone already stays as it is.
    ///
    /// # Errors
    /// When the store cannot read or write.
    pub async fn retract(
        &self,
        owner: &BareJid,
        with: &BareJid,
        message_id: &str,
        is_it: impl Fn(&Entry) -> bool + Send,
        tombstone: impl FnOnce(&Entry) -> Bytes + Send,
    ) -> Result<bool, StoreError> {
        let mint = self.mint(owner);
        let mut candidates = self.store.find(owner, with, message_id, RETRACT_CANDIDATES_MAX).await?;
        let entries = loop {
            let filter = Filter { ids: Some(candidates.clone()), ..Filter::default() };
            let page = PageRequest { max: RETRACT_CANDIDATES_MAX, start: PageStart::First };
            match self.store.page(owner, Query { filter, page }).await {
                Ok(page) => break page.entries,
                // It has expired since; a newer one may still stand. Each turn takes at least one away.
                Err(StoreError::NotFound(gone)) if candidates.contains(&gone) => {
                    candidates.retain(|candidate| *candidate > gone);
                }
                Err(error) => return Err(error),
            }
        };
        for stored in entries.into_iter().rev().filter(|stored| !stored.retracted) {
            let position = stored.position;
            let entry = publish(&mint, stored);
            if is_it(&entry) {
                return match self.store.retract(owner, position, tombstone(&entry)).await {
                    Err(StoreError::NotFound(_)) => Ok(false),
                    done => done.map(|()| true),
                };
            }
        }
        Ok(false)
    }

    /// Deletes an archive's entries up to and including `through`, or all of them.
    ///
    /// # Errors
    /// `NotFound` when `through` is not in the archive.
    pub async fn trim(&self, owner: &BareJid, through: Option<&StanzaId>) -> Result<u64, ArchiveError> {
        let cut = match through {
            None => Cut::KeepNewest(0),
            Some(id) => {
                let mint = self.mint(owner);
                let found = self.resolve(owner, &mint, id).await?;
                let head = self.store.head(owner).await?;
                match found {
                    Some(position) if head.holds(position) => Cut::Through(position),
                    Some(_) => return Err(self.not_found(owner, &mint, id.clone(), true).await),
                    None => return Err(self.not_found(owner, &mint, id.clone(), false).await),
                }
            }
        };
        Ok(self.store.expire(owner, cut).await?)
    }
}

/// A stored entry under its public id.
fn publish(mint: &IdMint, stored: StoredEntry) -> Entry {
    let StoredEntry { position, with, stamp, stanza, foreign_id, retracted } = stored;
    let id = foreign_id.and_then(StanzaId::new).unwrap_or_else(|| mint.id(position));
    Entry { id, with, stamp, stanza, retracted }
}
