//! The writer: one thread that takes whatever is queued and makes it durable together. Appends go into the log,
//! everything else into the small database, one commit each; only then is any of it seen or answered. Turning
//! memory tables into segments is left to `seal`, which the writer never waits for.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use mammoth_archive::{Head, NewEntry, Position, StoreError};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::Shared;
use crate::block::Scratch;
use crate::format::{Damaged, Record, bare};
use crate::hook::Step;
use crate::log::{GroupBuilder, Log, Part, parts};
use crate::memtable::Memtable;
use crate::numbered::Numbered;
use crate::read::Reading;
use crate::rows;
use crate::state::ArchiveState;

/// How many calls can wait for the writer; a further one waits for room.
pub const QUEUE_MAX: usize = 4096;
/// The most calls in one group.
const GROUP_CALLS_MAX: usize = 4096;
/// A group is closed once it has so many entries.
const GROUP_ENTRIES_MAX: usize = 4096;
/// A group is closed once it has so many bytes.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// A call for the writer.
pub enum Op {
    /// Entries for the log, of one call or of several.
    Append(Vec<Append>),
    /// Something for the small database.
    Change(Change),
    /// Freeze the memory table, if it holds anything, so that it becomes a segment.
    Freeze(oneshot::Sender<Result<(), StoreError>>),
    /// Finish what is queued and end.
    Stop,
}

/// An append as the port has it.
pub struct Append {
    /// The archive's owner.
    pub owner: String,
    /// Where the first entry is expected to stand.
    pub expected: Position,
    /// The entries.
    pub entries: Arc<[NewEntry]>,
    /// Who waits for it.
    pub done: oneshot::Sender<Result<(), StoreError>>,
}

/// A change of the small database: done within a transaction, or not at all if there is no connection; then finished
/// with the transaction's outcome.
pub type Change = Box<dyn FnOnce(Option<&Connection>, &Shared) -> (rusqlite::Result<()>, Finish) + Send>;
/// Makes a committed change visible and answers; or answers why it was not committed.
pub type Finish = Box<dyn FnOnce(&Shared, Result<(), StoreError>) + Send>;

/// Why writing was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written.
    #[error("the disk does not take it: {0}")]
    Disk(String),
    /// A sync failed: what was written may be lost or not.
    #[error("a sync failed: {0}; what was being written may or may not be kept")]
    Sync(String),
    /// An earlier sync failed.
    #[error("an earlier sync failed ({0}): reopen the store to write again (restart the server)")]
    Poisoned(String),
    /// The store was opened to read only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// What the writer thread owns.
pub struct Writer {
    /// What is shared with everybody.
    pub shared: Arc<Shared>,
    /// What is to be done.
    pub queue: mpsc::Receiver<Op>,
    /// The log that is written to.
    pub log: Log,
    /// For looking at what an append says was appended before.
    pub scratch: Scratch,
    /// Where groups are put together.
    pub building: Vec<u8>,
}

impl Writer {
    /// Works until told to stop, or until nobody is left to tell.
    pub fn run(mut self) {
        let mut stop = false;
        while !stop {
            let Some(first) = self.queue.blocking_recv() else { break };
            let mut appends = Vec::new();
            let mut changes = Vec::new();
            let mut freezes = Vec::new();
            let (mut entries, mut bytes, mut calls) = (0, 0, 0);
            let mut next = Some(first);
            while let Some(op) = next.take() {
                calls += 1;
                match op {
                    Op::Append(together) => {
                        for append in &together {
                            entries += append.entries.len();
                            bytes += append.entries.iter().map(|entry| entry.stanza.len()).sum::<usize>();
                        }
                        appends.extend(together);
                    }
                    Op::Change(change) => changes.push(change),
                    Op::Freeze(done) => freezes.push(done),
                    Op::Stop => stop = true,
                }
                if !stop && calls < GROUP_CALLS_MAX && entries < GROUP_ENTRIES_MAX && bytes < GROUP_BYTES_MAX
                {
                    next = self.queue.try_recv().ok();
                }
            }
            while !appends.is_empty() {
                appends = self.append(appends);
            }
            if !changes.is_empty() {
                self.change(changes);
            }
            let full = self.shared.options.memtable_bytes;
            if self.shared.active().bytes() >= full || !freezes.is_empty() {
                let frozen = self.freeze(!freezes.is_empty());
                for done in freezes {
                    let answer = frozen.as_ref().copied().map_err(|e| StoreError::refused(e.clone()));
                    drop(done.send(answer));
                }
            }
        }
        self.note_logs();
    }

    /// Notes in the small database how many groups the logs have, so that a log that is found to end earlier is
    /// known to be damaged. After a crash that cannot be told from a group that was never whole.
    fn note_logs(&self) {
        if self.shared.writable().is_err() {
            return;
        }
        let tables = self.shared.tables();
        let logs = tables.iter().map(|table| (table.generation, table.groups())).filter(|(_, n)| *n > 0);
        let logs: Vec<(u64, u64)> = logs.collect();
        let catalog = self.shared.catalog();
        if rows::logs(&catalog).is_ok_and(|noted| noted == logs) {
            return;
        }
        if let Err(error) = rows::put_logs(&catalog, &logs) {
            tracing::warn!(%error, "the ends of the logs could not be noted");
        }
    }

    /// Commits what can be committed and answers it; gives back what has to wait for that.
    fn append(&mut self, appends: Vec<Append>) -> Vec<Append> {
        let room = self.shared.writable().and_then(|()| self.shared.wait_for_room());
        if let Err(error) = room {
            for append in appends {
                drop(append.done.send(Err(StoreError::refused(error.clone()))));
            }
            return Vec::new();
        }
        let mut building = std::mem::take(&mut self.building);
        building.clear();
        let mut group = Group { builder: GroupBuilder { bytes: building }, ..Group::default() };
        let mut again = Vec::new();
        let mut committing = Vec::new();
        for append in appends {
            match self.place(&mut group, &append) {
                Placed::Taken => committing.push(append.done),
                Placed::Later => again.push(append),
                Placed::Answered(answer) => drop(append.done.send(answer)),
            }
        }
        self.building = group.builder.bytes;
        if self.building.is_empty() {
            for done in committing {
                drop(done.send(Ok(())));
            }
            return again;
        }
        let outcome = self.commit(Bytes::copy_from_slice(&self.building));
        for done in committing {
            drop(done.send(outcome.as_ref().copied().map_err(|error| self.shared.store_error(error))));
        }
        again
    }

    /// Puts an append into the group, if it goes on where its archive ends.
    fn place(&mut self, group: &mut Group, append: &Append) -> Placed {
        let state = self.shared.state();
        let known = state.number(&append.owner).or_else(|| group.new.get(&append.owner).copied());
        let head = match known.and_then(|number| group.heads.get(&number)) {
            Some(head) => *head,
            None => known.and_then(|number| state.archive(number)).map_or(Head::NEW, ArchiveState::head),
        };
        if append.expected != head.next {
            if known.is_some_and(|number| group.heads.contains_key(&number)) {
                return Placed::Later; // first see what becomes of the group
            }
            drop(state);
            return Placed::Answered(self.repeated(append, head));
        }
        let mut last = head.last_stamp;
        for entry in append.entries.iter() {
            if entry.stamp < last {
                return Placed::Answered(Err(StoreError::refused("stamps must not decrease")));
            }
            last = entry.stamp;
        }
        if append.entries.is_empty() {
            return Placed::Answered(Ok(()));
        }
        let number = known.unwrap_or_else(|| {
            let number = state.next_number().saturating_add(group.new.len() as u32);
            group.builder.archive(number, &append.owner);
            group.new.insert(append.owner.clone(), number);
            number
        });
        let keys = &self.shared.keys;
        let records = append.entries.iter().map(|entry| Record {
            stamp: entry.stamp.0,
            with: entry.with.as_str(),
            message_hash: entry.message_id.as_deref().map(|id| keys.message(bare(entry.with.as_str()), id)),
            foreign_id: entry.foreign_id.as_deref(),
            stanza: &entry.stanza,
            retracted: false,
        });
        group.builder.entries(number, head.next.0, records);
        let next = head.next.offset(i64::try_from(append.entries.len()).unwrap_or(i64::MAX));
        group.heads.insert(number, Head { first: head.first, next, last_stamp: last });
        Placed::Taken
    }

    /// The answer to an append that does not go on where its archive ends: it was done before, or it is stale.
    fn repeated(&mut self, append: &Append, head: Head) -> Result<(), StoreError> {
        let count = i64::try_from(append.entries.len()).unwrap_or(i64::MAX);
        let span = append.expected.0..append.expected.0.saturating_add(count);
        let conflict = Err(StoreError::Conflict(head.next));
        if append.entries.is_empty() || span.start < head.first.0 || span.end > head.next.0 {
            return conflict;
        }
        let snapshot = self.shared.snapshot(&append.owner)?;
        let Some(snapshot) = snapshot else { return conflict };
        let mut reading =
            Reading { snapshot: &snapshot, keys: &self.shared.keys, scratch: &mut self.scratch };
        let there = reading.span_entries(&span)?;
        let same = there.len() == append.entries.len()
            && there.iter().zip(append.entries.iter()).all(|(old, new)| {
                old.stamp == new.stamp
                    && old.with == new.with
                    && (old.retracted || (old.stanza == new.stanza && old.foreign_id == new.foreign_id))
            });
        if same { Ok(()) } else { conflict }
    }

    fn commit(&mut self, group: Bytes) -> Result<(), WriteError> {
        self.shared.hook(Step::BeforeLogCommit)?;
        if let Err(error) = self.log.commit(&group) {
            return Err(self.shared.write_failed(&error));
        }
        self.shared.hook(Step::AfterLogCommit)?;
        let published = parts(&group).and_then(|parts| self.shared.publish(&group, &parts));
        published.map_err(|Damaged(what)| {
            // What we have just encoded cannot be read: nothing that follows would be right.
            self.shared.poison(&what);
            WriteError::Sync(what)
        })
    }

    fn change(&mut self, changes: Vec<Change>) {
        let mut finishes = Vec::with_capacity(changes.len());
        let mut changes = changes.into_iter();
        let outcome = self.shared.writable().and_then(|()| {
            let catalog = self.shared.catalog();
            let mut failed = catalog.execute_batch("BEGIN IMMEDIATE").err();
            if failed.is_none() {
                for change in changes.by_ref() {
                    let (done, finish) = change(Some(&catalog), &self.shared);
                    finishes.push(finish);
                    if let Err(error) = done {
                        failed = Some(error);
                        break;
                    }
                }
            }
            let outcome = match failed {
                None => self.shared.hook(Step::BeforeCatalogCommit).and_then(|()| {
                    catalog.execute_batch("COMMIT").map_err(|error| self.shared.write_failed(&error))
                }),
                Some(error) => Err(self.shared.write_failed(&error)),
            };
            if !catalog.is_autocommit() {
                drop(catalog.execute_batch("ROLLBACK"));
            }
            outcome.and_then(|()| self.shared.hook(Step::AfterCatalogCommit))
        });
        // What has not had its turn is certainly not done.
        finishes.extend(changes.map(|change| change(None, &self.shared).1));
        for finish in finishes {
            let outcome = outcome.as_ref().copied().map_err(|error| self.shared.store_error(error));
            finish(&self.shared, outcome);
        }
    }

    /// Sets the memory table aside to become a segment, and goes on in a new one. Unless `now`, not before the
    /// one set aside earlier has become one.
    fn freeze(&mut self, now: bool) -> Result<(), WriteError> {
        let active = self.shared.active();
        if active.entries() == 0 {
            return Ok(());
        }
        if !now && self.shared.is_sealing() {
            return Ok(()); // it grows meanwhile, within bounds
        }
        let generation = active.generation + 1;
        let log = match self.shared.take_spare_log(generation) {
            Some(log) => Ok(log),
            None => Log::open(&self.shared.dir, generation),
        };
        self.log = log.map_err(|error| self.shared.write_failed(&error))?;
        self.shared.freeze(Arc::new(Memtable::new(generation)));
        Ok(())
    }
}

#[derive(Default)]
struct Group {
    builder: GroupBuilder,
    heads: Numbered<Head>,
    new: HashMap<String, u32>,
}

enum Placed {
    Taken,
    Later,
    Answered(Result<(), StoreError>),
}

/// The part of a group that says whose number an archive's is.
pub fn owners<'a>(parts: &'a [Part<'a>]) -> impl Iterator<Item = (u32, &'a str)> {
    parts.iter().filter_map(|part| match part {
        Part::Archive { archive, owner } => Some((*archive, *owner)),
        Part::Entries { .. } => None,
    })
}
