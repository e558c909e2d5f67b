//! What the store's threads share: the state and its lock, the small database, the keys, and whether writing is
//! still possible. What each thread does with it is left to `writer`, `readers`, `seal` and `merge`.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use mammoth_archive::{IdKey, Stats, StoreError};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::Options;
use crate::format::{Damaged, Keys};
use crate::hook::{Failure, Step};
use crate::log::{Log, Part};
use crate::memtable::Memtable;
use crate::read::ReadError;
use crate::segment::Segment;
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::writer::{WriteError, owners};

/// SQLite's codes for a sync that failed, of a file and of a folder.
const SYNC_FAILED: [i32; 2] = [rusqlite::ffi::SQLITE_IOERR_FSYNC, rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC];

/// How far the memory table may outgrow its limit before the writer waits for a seal, in halves of the limit.
const OUTGROWN_HALVES: usize = 3;

/// What the threads share.
pub struct Shared {
    /// The store's folder.
    pub dir: PathBuf,
    /// How it was opened.
    pub options: Options,
    /// The store's hash.
    pub keys: Keys,
    /// The secret of its stanza-ids.
    pub id_key: IdKey,
    state: RwLock<State>,
    catalog: Mutex<Connection>,
    poisoned: Mutex<Option<String>>,
    closed: AtomicBool,
    /// For the threads in the background: something may be to be done.
    pub work: Mutex<Work>,
    /// Told when `work` changes.
    pub worked: Condvar,
    spare_log: Mutex<Option<(u64, Log)>>,
    lock: Mutex<Option<File>>,
    last_segment: AtomicU32,
    last_change: AtomicI64,
}

/// What is to be done in the background.
#[derive(Default)]
pub struct Work {
    /// The store is closing.
    pub closing: bool,
    /// Archives to be removed from every file, with who waits for it.
    pub purges: Vec<crate::purge::Request>,
    /// Why the last seal failed, if it did.
    pub seal_failed: Option<String>,
    /// Memory was full for longer than an append waits, and still is.
    pub stalled: bool,
    /// Why the last merge failed, if it did.
    pub merge_failed: Option<String>,
    /// A merge may be called for.
    pub merging: bool,
    /// Who waits for all of it to be done.
    pub idle_waiters: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Shared {
    /// Everything as it is after opening.
    pub fn new(
        dir: PathBuf,
        options: Options,
        (keys, id_key): (Keys, IdKey),
        (last_segment, last_change): (u32, i64),
        state: State,
        catalog: Connection,
        lock: Option<File>,
    ) -> Shared {
        Shared {
            dir,
            options,
            keys,
            id_key,
            state: RwLock::new(state),
            catalog: Mutex::new(catalog),
            poisoned: Mutex::default(),
            closed: AtomicBool::new(false),
            work: Mutex::default(),
            worked: Condvar::new(),
            spare_log: Mutex::default(),
            lock: Mutex::new(lock),
            last_segment: AtomicU32::new(last_segment),
            last_change: AtomicI64::new(last_change),
        }
    }

    /// The state, to look at; never across a read of a file.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, to change; never across a read or write of a file.
    pub fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The small database's writing connection.
    pub fn catalog(&self) -> MutexGuard<'_, Connection> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory table that is written to.
    pub fn active(&self) -> Arc<Memtable> {
        self.state().active.clone()
    }

    /// All memory tables, oldest first.
    pub fn tables(&self) -> Vec<Arc<Memtable>> {
        let state = self.state();
        state.frozen.iter().chain([&state.active]).cloned().collect()
    }

    /// An archive as of now; `None` when there has never been one.
    pub fn snapshot(&self, owner: &str) -> Result<Option<Snapshot>, StoreError> {
        let state = self.state();
        let Some(number) = state.number(owner) else { return Ok(None) };
        state.snapshot(number).map(Some).map_err(|damaged| ReadError::from(damaged).into())
    }

    /// Makes a committed group visible.
    pub fn publish(&self, group: &Bytes, parts: &[Part<'_>]) -> Result<(), Damaged> {
        let active = self.active();
        let added = active.insert(group, parts, &self.keys);
        let mut state = self.state_mut();
        for (archive, owner) in owners(parts) {
            state.add_archive(archive, owner)?;
        }
        for added in &added {
            state.appended(added)?;
        }
        Ok(())
    }

    /// Sets the active memory table aside, and goes on with this one.
    pub fn freeze(&self, next: Arc<Memtable>) {
        let mut state = self.state_mut();
        let full = std::mem::replace(&mut state.active, next);
        state.frozen.push(full);
        drop(state);
        self.notify();
    }

    /// Whether a memory table is becoming a segment.
    pub fn is_sealing(&self) -> bool {
        !self.state().frozen.is_empty()
    }

    /// Whether the memory table has outgrown all bounds, since the one before is not yet a segment.
    fn is_outgrown(&self) -> bool {
        self.is_sealing()
            && self.active().bytes() >= (self.options.memtable_bytes / 2).saturating_mul(OUTGROWN_HALVES)
    }

    /// Waits for the seal under way if the memory table has outgrown all bounds, once for at most
    /// [`Options::stall_max`]: after that, and after a seal that failed, there is no waiting until there is room. The
    /// seal tries again by itself.
    ///
    /// # Errors
    /// When there is no room.
    pub fn wait_for_room(&self) -> Result<(), WriteError> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if !work.stalled && self.is_outgrown() {
            let no_room = |work: &mut Work| self.is_outgrown() && work.seal_failed.is_none() && !work.closing;
            let waited = self.worked.wait_timeout_while(work, self.options.stall_max, no_room);
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        work.stalled = self.is_outgrown() && !work.closing;
        if !work.stalled {
            return Ok(());
        }
        let why = work.seal_failed.as_deref().unwrap_or("that takes too long");
        Err(WriteError::Disk(format!("memory is full, and cannot become a segment: {why}")))
    }

    /// Tells the threads in the background that there may be something to do.
    pub fn notify(&self) {
        drop(self.work.lock().unwrap_or_else(PoisonError::into_inner));
        self.worked.notify_all();
    }

    /// The log of a generation that was made ahead, if it was.
    pub fn take_spare_log(&self, generation: u64) -> Option<Log> {
        let spare = self.spare_log.lock().unwrap_or_else(PoisonError::into_inner).take();
        spare.filter(|(of, _)| *of == generation).map(|(_, log)| log)
    }

    /// Whether the log of a generation was made ahead.
    pub fn has_spare_log(&self, generation: u64) -> bool {
        let spare = self.spare_log.lock().unwrap_or_else(PoisonError::into_inner);
        spare.as_ref().is_some_and(|(of, _)| *of == generation)
    }

    /// The number of the next segment: never given before.
    pub fn new_segment_number(&self) -> u32 {
        self.last_segment.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// The greatest number ever given to a segment.
    pub fn last_segment_number(&self) -> u32 {
        self.last_segment.load(Ordering::Acquire)
    }

    /// The number of the next retraction.
    pub fn new_change(&self) -> i64 {
        self.last_change.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// Changes what is to be done in the background, and tells those who do it.
    pub fn work_mut(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner));
        self.worked.notify_all();
    }

    /// A seal has ended, well or not.
    pub fn seal_ended(&self, failed: Option<String>) {
        self.work_mut(|work| {
            work.seal_failed = failed;
            work.merging = true;
        });
    }

    /// Whether work in the background is to go on.
    pub fn go_on(&self) -> Result<(), WriteError> {
        if self.is_closing() { Err(WriteError::Closed) } else { self.writable() }
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        let mut segments: Vec<Arc<Segment>> = self.state().segments.values().cloned().collect();
        segments.sort_by_key(|segment| segment.place);
        segments
    }

    /// Waits so long, or until the store closes, or until `also` is so.
    pub fn pause(&self, time: std::time::Duration, also: impl Fn(&Work) -> bool) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.worked.wait_timeout_while(work, time, |work| !work.closing && !also(work)));
    }

    /// Keeps a log for when the memory table is full.
    pub fn put_spare_log(&self, generation: u64, log: Log) {
        *self.spare_log.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, log));
    }

    /// Whether anything can be written, or why not.
    pub fn writable(&self) -> Result<(), WriteError> {
        if self.options.read_only {
            return Err(WriteError::ReadOnly);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(WriteError::Closed);
        }
        match &*self.poisoned.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => Err(WriteError::Poisoned(why.clone())),
            None => Ok(()),
        }
    }

    /// From now on nothing is written until the store is opened anew.
    pub fn poison(&self, why: &str) {
        tracing::error!(why, "the store refuses writes from now on: what was synced is not known");
        let mut poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        poisoned.get_or_insert_with(|| why.to_owned());
    }

    /// What a write that SQLite could not do means.
    pub fn write_failed(&self, error: &rusqlite::Error) -> WriteError {
        let code = error.sqlite_error().map(|error| error.extended_code);
        if code.is_some_and(|code| SYNC_FAILED.contains(&code)) {
            self.poison(&error.to_string());
            return WriteError::Sync(error.to_string());
        }
        tracing::warn!(%error, "a write was refused");
        WriteError::Disk(error.to_string())
    }

    /// What a failed write means to who called: certainly not done, or nobody knows.
    pub fn store_error(&self, error: &WriteError) -> StoreError {
        match error {
            WriteError::Sync(_) => StoreError::unavailable(error.clone()),
            _ => StoreError::refused(error.clone()),
        }
    }

    /// Tells a test of a step, and fails if the test says so.
    pub fn hook(&self, step: Step) -> Result<(), WriteError> {
        let Some(hook) = &self.options.hook else { return Ok(()) };
        match (hook(step), step) {
            (Ok(()), _) => Ok(()),
            (Err(Failure::Write(what)), Step::BeforeLogCommit | Step::BeforeCatalogCommit) => {
                Err(WriteError::Disk(what))
            }
            (Err(Failure::Write(what) | Failure::Sync(what)), _) => {
                self.poison(&what);
                Err(WriteError::Sync(what))
            }
        }
    }

    /// Moves an archive's first position forward, durably done before. Answers how many entries went.
    pub fn expired(&self, archive: u32, first: i64, stamp: Option<i64>) -> u64 {
        let gone = self.state_mut().expired(archive, first, stamp);
        if gone > 0 {
            self.work_mut(|work| work.merging = true);
        }
        gone
    }

    /// Whether the store is closing.
    pub fn is_closing(&self) -> bool {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).closing
    }

    /// Figures of the whole store.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let state = self.state();
        let segments = state.segments.len() as u64;
        let segment_entries: u64 = state.segments.values().map(|segment| segment.entries).sum();
        let expired: u64 = state.segments.values().map(|segment| segment.entries - segment.live()).sum();
        let segment_bytes: u64 = state.segments.values().map(|segment| segment.file_bytes).sum();
        let tables = state.frozen.iter().chain([&state.active]);
        let (memory_entries, memory_bytes) =
            tables.fold((0, 0), |(n, bytes), table| (n + table.entries(), bytes + table.bytes() as u64));
        let (archives, entries) = (state.nonempty, state.entries);
        let known = u64::from(state.next_number());
        drop(state);
        let small =
            folder_bytes(&self.dir).and_then(|small| Ok(small + folder_bytes(&self.dir.join("log"))?));
        let small = small.map_err(StoreError::unavailable)?;
        Ok(Stats {
            archives,
            entries,
            disk_bytes: segment_bytes + small,
            details: vec![
                ("archives_known", known),
                ("segments", segments),
                ("segment_entries", segment_entries),
                ("segment_entries_expired", expired),
                ("segment_bytes", segment_bytes),
                ("memory_entries", memory_entries),
                ("memory_bytes", memory_bytes),
                ("log_and_catalog_bytes", small),
            ],
        })
    }

    /// No more writing, and an end to the work in the background.
    pub fn close(&self) {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).closing = true;
        self.worked.notify_all();
    }

    /// Lets another process have the store.
    pub fn unlock(&self) {
        self.closed.store(true, Ordering::Release);
        *self.spare_log.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The size of the files in a folder.
fn folder_bytes(folder: &std::path::Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        // A log may go while we look: then it takes up nothing.
        let metadata = file?.metadata();
        bytes += metadata.map_or(0, |metadata| if metadata.is_file() { metadata.len() } else { 0 });
    }
    Ok(bytes)
}
