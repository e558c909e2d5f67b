//! The contract in its plainest code: everything in one map behind one lock, nothing durable, nothing fast.
//! It is the model that every other store is compared with; being a good store is left to those.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use jid::{BareJid, Jid};

use crate::entry::{Head, NewEntry, Position, StoredEntry, Timestamp};
use crate::id::IdKey;
use crate::query::{Filter, Page, Query};
use crate::store::{ArchiveInfo, ArchiveStore, Cut, Settings, SettingsChange, Stats, StoreError};

/// An [`ArchiveStore`] in memory.
#[derive(Debug)]
pub struct MemoryStore {
    key: IdKey,
    archives: Mutex<BTreeMap<BareJid, MemoryArchive>>,
}

#[derive(Debug)]
struct MemoryArchive {
    head: Head,
    /// The entries at `head.first ..`, each with its message id.
    entries: VecDeque<(StoredEntry, Option<String>)>,
    settings: Settings,
}

impl Default for MemoryArchive {
    fn default() -> Self {
        MemoryArchive { head: Head::NEW, entries: VecDeque::new(), settings: Settings::default() }
    }
}

impl MemoryStore {
    /// An empty store whose ids are made with `key`.
    #[must_use]
    pub fn new(key: IdKey) -> MemoryStore {
        MemoryStore { key, archives: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BareJid, MemoryArchive>> {
        self.archives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, owner: &BareJid, f: impl FnOnce(&MemoryArchive) -> T) -> T {
        match self.lock().get(owner) {
            Some(archive) => f(archive),
            None => f(&MemoryArchive::default()),
        }
    }

    fn write<T>(&self, owner: &BareJid, f: impl FnOnce(&mut MemoryArchive) -> T) -> T {
        f(self.lock().entry(owner.clone()).or_default())
    }
}

/// Whether the `with` of an entry answers to the `with` of a query (XEP-0313 §4.1.1).
fn with_matches(wanted: &Jid, with: &Jid) -> bool {
    if wanted.is_bare() { with.to_bare() == *wanted } else { with == wanted }
}

impl Filter<Position> {
    fn matches(&self, entry: &StoredEntry) -> bool {
        self.with.as_ref().is_none_or(|with| with_matches(with, &entry.with))
            && self.start.is_none_or(|start| entry.stamp >= start)
            && self.end.is_none_or(|end| entry.stamp <= end)
            && self.after.is_none_or(|after| entry.position > after)
            && self.before.is_none_or(|before| entry.position < before)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&entry.position))
    }
}

impl MemoryArchive {
    fn at(&self, position: Position) -> Option<&StoredEntry> {
        let place = usize::try_from(position.0.checked_sub(self.head.first.0)?).ok()?;
        self.entries.get(place).map(|(entry, _)| entry)
    }

    fn append(&mut self, expected: Position, new: &[NewEntry]) -> Result<(), StoreError> {
        if expected != self.head.next {
            return if self.holds_already(expected, new) {
                Ok(())
            } else {
                Err(StoreError::Conflict(self.head.next))
            };
        }
        let mut last = self.head.last_stamp;
        for entry in new {
            if entry.stamp < last {
                return Err(StoreError::refused("stamps must not decrease"));
            }
            last = entry.stamp;
        }
        for entry in new {
            let NewEntry { with, stamp, stanza, message_id, foreign_id } = entry.clone();
            let position = self.head.next;
            let stored = StoredEntry { position, with, stamp, stanza, foreign_id, retracted: false };
            self.entries.push_back((stored, message_id));
            self.head.next = position.offset(1);
        }
        self.head.last_stamp = last;
        Ok(())
    }

    /// Whether these entries were appended at `at` before. What has since been retracted counts by stamp and
    /// `with`; what has gone altogether cannot be recognised.
    fn holds_already(&self, at: Position, new: &[NewEntry]) -> bool {
        !new.is_empty()
            && (0..).zip(new).all(|(i, new)| {
                self.at(at.offset(i)).is_some_and(|old| {
                    old.stamp == new.stamp
                        && old.with == new.with
                        && (old.retracted || (old.stanza == new.stanza && old.foreign_id == new.foreign_id))
                })
            })
    }

    fn page(&self, query: &Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        for &position in query.named() {
            if !self.head.holds(position) {
                return Err(StoreError::NotFound(position));
            }
        }
        let matching: Vec<&StoredEntry> =
            self.entries.iter().map(|(entry, _)| entry).filter(|entry| query.filter.matches(entry)).collect();
        let count = matching.len() as u64;
        let window = query.page.window(count, |position| {
            Ok::<_, StoreError>(matching.partition_point(|entry| entry.position < position) as u64)
        })?;
        let (from, to) = (window.ranks.start, window.ranks.end);
        let entries = matching
            .into_iter()
            .skip(usize::try_from(from).unwrap_or(usize::MAX))
            .take(usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX))
            .cloned()
            .collect();
        Ok(Page { entries, count, index: from, complete: window.complete })
    }

    fn expire(&mut self, cut: Cut) -> u64 {
        let mut bytes = self.bytes();
        let mut gone = 0;
        while let Some((oldest, _)) = self.entries.front() {
            let goes = match cut {
                Cut::Before(stamp) => oldest.stamp < stamp,
                Cut::Through(position) => oldest.position <= position,
                Cut::KeepNewest(n) => self.head.count() > n,
                Cut::KeepBytes(n) => bytes > n,
            };
            if !goes {
                break;
            }
            bytes = bytes.saturating_sub(oldest.stanza.len() as u64);
            self.entries.pop_front();
            self.head.first = self.head.first.offset(1);
            gone += 1;
        }
        gone
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().map(|(entry, _)| entry.stanza.len() as u64).sum()
    }

    fn first_stamp(&self) -> Option<Timestamp> {
        self.entries.front().map(|(entry, _)| entry.stamp)
    }
}

#[async_trait]
impl ArchiveStore for MemoryStore {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        Ok(self.key)
    }

    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        Ok(self.read(owner, |archive| archive.head))
    }

    async fn append(
        &self,
        owner: &BareJid,
        expected: Position,
        entries: Arc<[NewEntry]>,
    ) -> Result<(), StoreError> {
        self.write(owner, |archive| archive.append(expected, &entries))
    }

    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        self.read(owner, |archive| archive.page(&query))
    }

    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError> {
        Ok(self.read(owner, |archive| {
            let carries = |entry: &StoredEntry| entry.foreign_id.as_deref() == Some(foreign_id);
            archive.entries.iter().rev().map(|(entry, _)| entry).find(|e| carries(e)).map(|e| e.position)
        }))
    }

    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        message_id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        Ok(self.read(owner, |archive| {
            let named = archive
                .entries
                .iter()
                .rev()
                .filter(|(entry, id)| id.as_deref() == Some(message_id) && entry.with.to_bare() == *with);
            named.map(|(entry, _)| entry.position).take(limit).collect()
        }))
    }

    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        self.write(owner, |archive| {
            let place = usize::try_from(position.0.saturating_sub(archive.head.first.0)).ok();
            let entry = place.and_then(|place| archive.entries.get_mut(place));
            let (entry, _) = entry.ok_or(StoreError::NotFound(position))?;
            entry.stanza = tombstone;
            entry.retracted = true;
            Ok(())
        })
    }

    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        Ok(self.write(owner, |archive| archive.expire(cut)))
    }

    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        self.write(owner, |archive| {
            archive.entries.clear();
            archive.head.first = archive.head.next;
            archive.settings = Settings::default();
        });
        Ok(())
    }

    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        Ok(self.read(owner, |archive| archive.settings.clone()))
    }

    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        self.write(owner, |archive| match change {
            SettingsChange::Prefs(prefs) => archive.settings.prefs = prefs,
            SettingsChange::ExpiresAfter(period) => archive.settings.expires_after = period,
        });
        Ok(())
    }

    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        let archives = self.lock();
        let mut all: Vec<_> = archives.iter().collect();
        all.sort_by_key(|(owner, _)| owner.as_str());
        let later = all.into_iter().filter(|(owner, _)| after.is_none_or(|a| owner.as_str() > a.as_str()));
        let info = later.take(limit).map(|(owner, archive)| ArchiveInfo {
            owner: owner.clone(),
            head: archive.head,
            first_stamp: archive.first_stamp(),
            bytes: archive.bytes(),
            expires_after: archive.settings.expires_after,
        });
        Ok(info.collect())
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let archives = self.lock();
        Ok(Stats {
            archives: archives.values().filter(|archive| !archive.entries.is_empty()).count() as u64,
            entries: archives.values().map(|archive| archive.entries.len() as u64).sum(),
            disk_bytes: archives.values().map(MemoryArchive::bytes).sum(),
            details: Vec::new(),
        })
    }
}
