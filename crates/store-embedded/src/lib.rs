//! The embedded store: archives, accounts and rosters in one directory of SQLite files, with one writing process.
//! What an archive is, and what its store promises, is left to `mammoth_archive`; the files are drawn in
//! docs/format.md.
//!
//! ```text
//! append → writer → log/N.sqlite ─┐ (one commit per group)        page → reader → snapshot of one archive
//!                                 ↓                                                  │
//!                          memory table ──── seal ───→ segments/N.sqlite ←── merge   ├─ memory tables
//!                                                      (sorted, immutable)           └─ segments that hold it
//! ```
//!
//! In reading order: `format`, `log`, `memtable`, `block`, `segment`, `segment_search`, `segment_index`, `state`,
//! `snapshot`, `sources`, `read`, `gather`, `writer`, `pack`, `build`, `seal`, `plan`, `merge`, `purge`, `checksum`, `catalog`, `rows`,
//! `accounts`, `open`, `successor`, `verify`, `backup`.

mod accounts;
mod backup;
mod block;
mod build;
mod catalog;
mod checksum;
mod embed;
mod format;
mod gather;
mod hook;
mod log;
mod memtable;
mod merge;
mod merge_blocks;
mod merge_index;
mod numbered;
mod open;
mod pack;
mod packed;
mod plan;
mod purge;
mod read;
mod readers;
mod rows;
mod seal;
mod segment;
mod segment_index;
mod segment_search;
mod shared;
mod snapshot;
mod sources;
mod state;
mod store;
mod successor;
mod verify;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mammoth_archive::StoreError;
use tokio::sync::{mpsc, oneshot};

pub use backup::{BackupError, BackupReport};
pub use hook::{Failure, Hook, Step};
pub use open::OpenError;
pub(crate) use shared::Shared;
pub use verify::{Problem, Report};
pub use writer::WriteError;

/// How long a connection waits for another process that holds a lock on a file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a seal or a merge that failed waits before it is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long an append waits at most for a segment that makes room, unless told otherwise.
const STALL_MAX: Duration = Duration::from_secs(15);

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// How large the memory table may grow before it becomes a segment, in bytes. While one becomes a segment
    /// the next grows, if need be to one and a half of this; then appends wait. The two are the store's largest
    /// share of memory.
    pub memtable_bytes: usize,
    /// How long an append waits at most when both are full, since the disk does not take the segment in time: then
    /// it is refused, and so is every further one, at once, until there is room.
    pub stall_max: Duration,
    /// Threads that answer queries.
    pub readers: usize,
    /// Only read, beside the process that writes, or with none.
    pub read_only: bool,
    /// Make the store if the directory holds none.
    pub create: bool,
    /// For tests: called at each step.
    pub hook: Option<Hook>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memtable_bytes: 40 << 20,
            stall_max: STALL_MAX,
            readers: 4,
            read_only: false,
            create: true,
            hook: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("memtable_bytes", &self.memtable_bytes)
            .field("readers", &self.readers)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// A store of archives and accounts in a directory.
///
/// It is an `mammoth_archive::ArchiveStore` and a `mammoth_accounts::AccountStore`. Its futures need no
/// particular runtime: the work is done on threads of the store's own.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` when the store is read only.
    writer: Option<mpsc::Sender<writer::Op>>,
    gathering: gather::Gathering,
    readers: mpsc::Sender<readers::Job>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmbeddedStore({})", self.shared.dir.display())
    }
}

impl EmbeddedStore {
    /// Opens the store in `dir`, making it if need be.
    ///
    /// # Errors
    /// When another process writes to it, when it is of a newer format, or when it is damaged; each says what to
    /// do.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<EmbeddedStore>, OpenError> {
        open::open(dir, options, None).map(Arc::new)
    }

    /// Makes a segment of what is in memory, and waits for that and for the merges it calls for. Never needed: the
    /// store does so by itself in time.
    ///
    /// # Errors
    /// When the disk does not take the segment. Nothing is lost; it is tried again.
    pub async fn seal(&self) -> Result<(), StoreError> {
        let (done, frozen) = oneshot::channel();
        self.write(writer::Op::Freeze(done), frozen).await?;
        self.settle().await
    }

    /// Waits until there is nothing left to seal, merge or purge.
    ///
    /// # Errors
    /// When the last seal failed.
    pub async fn settle(&self) -> Result<(), StoreError> {
        let (done, idle) = oneshot::channel();
        self.shared.work_mut(|work| {
            work.merging = true;
            work.idle_waiters.push(done);
        });
        idle.await.map_err(|_| StoreError::unavailable(WriteError::Closed))?
    }

    /// Finishes what was called before, and ends the store's threads. Calls made afterwards are refused. Without
    /// it the same happens when the last reference goes.
    pub fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return;
        }
        if let Some(writer) = &self.writer {
            // From within a runtime a full queue cannot be waited for here; the writer empties it all the same.
            while let Err(mpsc::error::TrySendError::Full(_)) = writer.try_send(writer::Op::Stop) {
                std::thread::yield_now();
            }
        }
        self.shared.close();
        for _ in 0..self.shared.options.readers.max(1) {
            // Wakes a reader that waits; one that does not will see for itself.
            drop(self.readers.try_send(Box::new(|_, _| {})));
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
        self.shared.unlock();
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}
