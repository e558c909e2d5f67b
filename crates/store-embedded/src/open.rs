//! Opening: the lock, the small database, the segments it names, the logs after them, and the threads. What each
//! of them holds is left to its own module.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mammoth_archive::{IdKey, Settings};
use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::block::Scratch;
use crate::catalog::{self, CatalogError};
use crate::format::{Damaged, FORMAT, Keys};
use crate::gather::Gathering;
use crate::log::{self, Log, ReplayError, parts};
use crate::memtable::Memtable;
use crate::segment::{Segment, SegmentError};
use crate::state::State;
use crate::writer::{QUEUE_MAX, Writer, owners};
use crate::{EmbeddedStore, Options, Shared, readers, rows};

/// The file that says who writes to the store.
const LOCK_FILE: &str = "mammoth.lock";
/// How often a reader starts again because the writer replaced a file under its eyes.
const RETRIES: u32 = 10;

/// Why a store could not be opened, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process writes to it.
    #[error("{} is in use by process {holder}: stop that first, or read beside it (read only)", dir.display())]
    Locked {
        /// The store's folder.
        dir: PathBuf,
        /// The process.
        holder: String,
    },
    /// There is none, and none was to be made.
    #[error("there is no store in {}", .0.display())]
    Missing(PathBuf),
    /// A file of another version of the format.
    #[error(
        "{} is of format {found}, and this program knows format {FORMAT}: use {}, or restore a backup made by this one",
        file.display(),
        if *found > FORMAT { "a newer program" } else { "the older program that made it" }
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// What it says.
        found: i64,
    },
    /// Something else lies where the store's database should.
    #[error("{} is a database of another program: choose another directory", .0.display())]
    Foreign(PathBuf),
    /// A file is not what was written.
    #[error("{}: {what}. Keep a copy of the directory, and restore a backup", file.display())]
    Damaged {
        /// The file, or the folder when it is not one file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file system or SQLite could not.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file, or the folder when it is not one file.
        file: PathBuf,
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    fn io(file: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenError {
        OpenError::Io { file: file.to_owned(), source: source.into() }
    }

    fn damaged(file: &Path, Damaged(what): Damaged) -> OpenError {
        OpenError::Damaged { file: file.to_owned(), what }
    }

    fn sqlite(file: &Path, error: rusqlite::Error) -> OpenError {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => {
                OpenError::Damaged { file: file.to_owned(), what: error.to_string() }
            }
            _ => OpenError::io(file, error),
        }
    }

    fn catalog(dir: &Path, error: CatalogError) -> OpenError {
        let file = dir.join(catalog::FILE);
        match error {
            CatalogError::Missing => OpenError::Missing(dir.to_owned()),
            CatalogError::Foreign => OpenError::Foreign(file),
            CatalogError::Version(found) => OpenError::Version { file, found },
            CatalogError::Damaged(damaged) => OpenError::damaged(&file, damaged),
            CatalogError::Sqlite(error) => OpenError::sqlite(&file, error),
        }
    }

    fn segment(dir: &Path, segment: u32, error: SegmentError) -> OpenError {
        let file = crate::segment::path(dir, segment);
        match error {
            SegmentError::Missing(file) => OpenError::Damaged { file, what: "the file is missing".into() },
            SegmentError::Version { path, found } => OpenError::Version { file: path, found },
            SegmentError::Damaged(damaged) => OpenError::damaged(&file, damaged),
            SegmentError::Sqlite { source, .. } => OpenError::sqlite(&file, source),
        }
    }
}

/// Opens a store, see [`EmbeddedStore::open`].
pub fn open(dir: &Path, options: Options, ids: Option<IdKey>) -> Result<EmbeddedStore, OpenError> {
    if options.read_only {
        return open_read_only(dir, options);
    }
    if !options.create && !dir.join(catalog::FILE).exists() {
        return Err(OpenError::Missing(dir.to_owned()));
    }
    for folder in [dir.to_owned(), dir.join("segments"), dir.join("log")] {
        fs::create_dir_all(&folder).map_err(|error| OpenError::io(&folder, error))?;
    }
    let lock = lock(dir)?;
    let catalog = catalog::open(dir, options.create, ids).map_err(|error| OpenError::catalog(dir, error))?;
    sync_folder(dir).map_err(|error| OpenError::io(dir, error))?;
    let loaded = load(dir, &catalog)?;
    clear_leftovers(dir, &loaded)?;
    let log = Log::open(dir, loaded.state.active.generation)
        .map_err(|error| OpenError::sqlite(&log::path(dir, loaded.state.active.generation), error))?;
    sync_folder(&dir.join("log")).map_err(|error| OpenError::io(dir, error))?;

    let shared = Arc::new(loaded.share(dir, options, catalog, Some(lock)));
    let (writer, queue) = mpsc::channel(QUEUE_MAX);
    let mut threads = Vec::new();
    let writing =
        Writer { shared: shared.clone(), queue, log, scratch: Scratch::default(), building: Vec::new() };
    threads.push(spawn(dir, "mammoth-writer", move || writing.run())?);
    let sealing = shared.clone();
    threads.push(spawn(dir, "mammoth-seal", move || crate::seal::run(&sealing))?);
    let merging = shared.clone();
    shared.work_mut(|work| work.merging = true);
    threads.push(spawn(dir, "mammoth-merge", move || crate::merge::run(&merging))?);
    let readers = start_readers(&shared, &mut threads)?;
    Ok(EmbeddedStore {
        shared,
        writer: Some(writer),
        gathering: Gathering::default(),
        readers,
        threads: Mutex::new(threads),
    })
}

/// Reads beside the writer: when that replaces a file between two steps, begins again.
fn open_read_only(dir: &Path, mut options: Options) -> Result<EmbeddedStore, OpenError> {
    // Each segment's first connection outlives its file; a second one might come too late.
    options.readers = 1;
    let mut tries = 0;
    let (catalog, loaded) = loop {
        tries += 1;
        let catalog = catalog::open_read_only(dir).map_err(|error| OpenError::catalog(dir, error))?;
        let loaded = load(dir, &catalog);
        // A log goes only after the small database says so: unless it has, all logs were there to be read.
        let still = catalog::log_first(&catalog).ok();
        match loaded {
            Ok(loaded) if still == Some(loaded.log_first) => break (catalog, loaded),
            Ok(_) if tries >= RETRIES => {
                let restless = "the store is sealed faster than it can be read: try again when it is quieter";
                return Err(OpenError::io(dir, restless));
            }
            Err(error) if tries >= RETRIES => return Err(error),
            Ok(_) | Err(_) => {}
        }
    };
    let shared = Arc::new(loaded.share(dir, options, catalog, None));
    let mut threads = Vec::new();
    let readers = start_readers(&shared, &mut threads)?;
    Ok(EmbeddedStore {
        shared,
        writer: None,
        gathering: Gathering::default(),
        readers,
        threads: Mutex::new(threads),
    })
}

fn start_readers(
    shared: &Arc<Shared>,
    threads: &mut Vec<std::thread::JoinHandle<()>>,
) -> Result<mpsc::Sender<readers::Job>, OpenError> {
    let (sender, queue) = mpsc::channel(readers::QUEUE_MAX);
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..shared.options.readers.max(1) {
        let (shared, queue) = (shared.clone(), queue.clone());
        let dir = shared.dir.clone();
        threads.push(spawn(&dir, "mammoth-reader", move || readers::run(&shared, &queue))?);
    }
    Ok(sender)
}

fn spawn(
    dir: &Path,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, OpenError> {
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(|error| OpenError::io(dir, error))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let io = |error: io::Error| OpenError::io(&path, error);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.read_to_string(&mut holder);
            let holder = holder.trim().to_owned();
            let holder = if read.is_err() || holder.is_empty() { "of unknown id".into() } else { holder };
            return Err(OpenError::Locked { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What a directory says.
struct Loaded {
    keys: Keys,
    id_key: IdKey,
    state: State,
    log_first: u64,
    last_segment: u32,
    last_change: i64,
}

impl Loaded {
    fn share(self, dir: &Path, options: Options, catalog: Connection, lock: Option<File>) -> Shared {
        let keys = (self.keys, self.id_key);
        let numbers = (self.last_segment, self.last_change);
        Shared::new(dir.to_owned(), options, keys, numbers, self.state, catalog, lock)
    }
}

fn load(dir: &Path, catalog: &Connection) -> Result<Loaded, OpenError> {
    let of_catalog = |error: CatalogError| OpenError::catalog(dir, error);
    let of_sqlite = |error: rusqlite::Error| OpenError::sqlite(&dir.join(catalog::FILE), error);
    let damaged = |error: Damaged| OpenError::damaged(dir, error);
    // One transaction, so that everything read from it is of one moment.
    let catalog = catalog.unchecked_transaction().map_err(of_sqlite)?;
    let keys = Keys(catalog::key(&catalog, "hash_key").map_err(of_catalog)?);
    let id_key = IdKey(catalog::key(&catalog, "id_key").map_err(of_catalog)?);
    let log_first = catalog::log_first(&catalog).map_err(of_catalog)?;
    let mut state = State::new(log_first);
    let mut rows = rows::archives(&catalog).map_err(of_catalog)?;
    rows.sort_by_key(|row| row.archive);
    for row in rows {
        state.add_archive(row.archive, &row.owner).map_err(damaged)?;
        if let Some(archive) = state.archive_mut(row.archive) {
            (archive.first, archive.next, archive.last_stamp) = (row.first, row.next, row.last_stamp);
            archive.settings = (row.settings != Settings::default()).then(|| Box::new(row.settings));
            archive.catalogued = true;
        }
    }
    for row in rows::segments(&catalog).map_err(of_catalog)? {
        let of_segment = |error| OpenError::segment(dir, row.segment, error);
        let segment = Segment::open(dir, row).map_err(of_segment)?;
        let extents = segment.reader().and_then(|reader| reader.extents()).map_err(of_segment)?;
        state.add_segment(Arc::new(segment), &extents).map_err(damaged)?;
    }
    let overrides = rows::overrides(&catalog).map_err(of_catalog)?;
    let last_change = overrides.iter().map(|(_, _, change, _)| *change).max().unwrap_or(0);
    let last_segment = catalog::last_segment(&catalog).map_err(of_catalog)?;

    // Every log from the first that is needed: the last is the one to go on with.
    let generations = generations(dir).map_err(|error| OpenError::io(&dir.join("log"), error))?;
    let mut groups = HashMap::new();
    for generation in generations.into_iter().filter(|generation| *generation >= log_first) {
        if generation > state.active.generation {
            let next = Arc::new(Memtable::new(generation));
            let full = std::mem::replace(&mut state.active, next);
            if full.entries() > 0 {
                state.frozen.push(full);
            }
        }
        let file = log::path(dir, generation);
        let replayed = log::replay(dir, generation, |group: Bytes| {
            *groups.entry(generation).or_insert(0_u64) += 1;
            let parts = parts(&group)?;
            for (archive, owner) in owners(&parts) {
                state.add_archive(archive, owner)?;
            }
            for added in state.active.insert(&group, &parts, &keys) {
                state.replayed(&added)?;
            }
            Ok(())
        });
        replayed.map_err(|error| match error {
            ReplayError::Version(found) => OpenError::Version { file, found },
            ReplayError::Damaged(error) => OpenError::damaged(&file, error),
            ReplayError::Sqlite(error) => OpenError::sqlite(&file, error),
        })?;
    }
    for (generation, noted) in rows::logs(&catalog).map_err(of_catalog)? {
        let found = groups.get(&generation).copied().unwrap_or(0);
        if generation >= log_first && found < noted {
            let what = format!("ends after group {found}, and had {noted} when the store was closed");
            return Err(OpenError::damaged(&log::path(dir, generation), Damaged::new(what)));
        }
    }
    for (archive, position, change, tombstone) in overrides {
        state.retracted(archive, position, change, tombstone.into());
    }
    state.settle().map_err(damaged)?;
    Ok(Loaded { keys, id_key, state, log_first, last_segment, last_change })
}

/// The generations of the log there are files of, in order.
pub fn generations(dir: &Path) -> io::Result<Vec<u64>> {
    let mut generations = Vec::new();
    for file in fs::read_dir(dir.join("log"))? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".sqlite"));
        generations.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    generations.sort_unstable();
    Ok(generations)
}

/// Removes what a crash left behind: logs that have become segments or hold nothing, and segments that were never registered or
/// have been replaced.
fn clear_leftovers(dir: &Path, loaded: &Loaded) -> Result<(), OpenError> {
    let io = |error: io::Error| OpenError::io(dir, error);
    let state = &loaded.state;
    let needed = |generation: u64| {
        generation >= state.active.generation
            || state.frozen.iter().any(|table| table.generation == generation)
    };
    for generation in generations(dir).map_err(io)?.into_iter().filter(|generation| !needed(*generation)) {
        remove_log(dir, generation).map_err(io)?;
    }
    for file in fs::read_dir(dir.join("segments")).map_err(io)? {
        let path = file.map_err(io)?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next());
        let number = number.and_then(|number| number.parse::<u32>().ok());
        if number.is_some_and(|number| !loaded.state.segments.contains_key(&number)) {
            fs::remove_file(&path).map_err(io)?;
        }
    }
    Ok(())
}

/// Removes a log and what SQLite keeps beside it.
pub fn remove_log(dir: &Path, generation: u64) -> io::Result<()> {
    let path = log::path(dir, generation);
    for suffix in ["-wal", "-shm", ""] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        match fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
