//! Backing up while a server runs: the small database and the log by SQLite's own backup, then hard links of the
//! segments that the copy names, which never change. Restoring is starting on the copy.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;

use crate::catalog;
use crate::open::{generations, sync_folder};
use crate::segment;
use crate::{EmbeddedStore, checksum, log, rows};

/// How often a backup starts again because a seal took the log from under it.
const RETRIES: u32 = 20;

/// Why a backup could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is no store.
    #[error("there is no store in {}", .0.display())]
    Missing(PathBuf),
    /// The target is in use.
    #[error("{} is not empty: choose another directory", .0.display())]
    NotEmpty(PathBuf),
    /// The store is sealed faster than its log can be copied.
    #[error("the store changes too fast to be copied: try again when it is quieter")]
    Restless,
    /// The file system could not.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// SQLite could not.
    #[error("{}: {source}", file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Segments that are the same file in both places.
    pub linked: u64,
    /// Segments that were copied, since the target is on another file system.
    pub copied: u64,
    /// Bytes that the backup takes up of its own.
    pub bytes: u64,
}

/// What becomes of one try.
enum Outcome {
    Done(BackupReport),
    /// A file went that the copy names.
    Again,
}

impl EmbeddedStore {
    /// Makes a backup of the store in `dir` in `target`, which must be empty or not there, whether or not a server
    /// runs on it. `progress` is told how many segments of how many are done.
    ///
    /// The backup has everything that was durable when this was called, and perhaps more. What is purged later stays in it.
    ///
    /// # Errors
    /// When it could not be made; the target is then of no use.
    pub fn backup(
        dir: &Path,
        target: &Path,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<BackupReport, BackupError> {
        if !dir.join(catalog::FILE).exists() {
            return Err(BackupError::Missing(dir.to_owned()));
        }
        let io = |file: &Path| {
            let file = file.to_owned();
            move |source| BackupError::Io { file, source }
        };
        for folder in [target.to_owned(), target.join("segments"), target.join("log")] {
            fs::create_dir_all(&folder).map_err(io(&folder))?;
        }
        let mut inside = fs::read_dir(target).map_err(io(target))?;
        if inside.any(|file| file.is_ok_and(|file| file.file_type().is_ok_and(|kind| kind.is_file()))) {
            return Err(BackupError::NotEmpty(target.to_owned()));
        }
        for _ in 0..RETRIES {
            if let Outcome::Done(report) = attempt(dir, target, &mut progress)? {
                return Ok(report);
            }
        }
        Err(BackupError::Restless)
    }
}

fn attempt(dir: &Path, target: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Outcome, BackupError> {
    let mut report = BackupReport::default();
    let small = target.join(catalog::FILE);
    report.bytes += copy_database(&dir.join(catalog::FILE), &small)?;
    let sqlite = |source| BackupError::Sqlite { file: small.clone(), source };
    let copy = Connection::open(&small).map_err(sqlite)?;
    copy.pragma_update(None, "journal_mode", "delete").map_err(sqlite)?;
    checksum::teach(&copy).map_err(sqlite)?;
    let rotten = |error: catalog::CatalogError| match error {
        catalog::CatalogError::Sqlite(source) => sqlite(source),
        error => BackupError::Io { file: small.clone(), source: io::Error::other(error) },
    };
    let rows = rows::segments(&copy).map_err(rotten)?;
    let log_first = catalog::log_first(&copy).map_err(rotten)?;
    drop(copy);

    let total = rows.len() as u64;
    for (done, row) in (0..).zip(&rows) {
        progress(done, total);
        let (from, to) = (segment::path(dir, row.segment), segment::path(target, row.segment));
        if to.exists() {
            report.linked += 1; // by an earlier try
            continue;
        }
        match link_or_copy(&from, &to) {
            Ok(None) => report.linked += 1,
            Ok(Some(bytes)) => {
                report.copied += 1;
                report.bytes += bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Again),
            Err(source) => return Err(BackupError::Io { file: from, source }),
        }
    }
    let io = |file: PathBuf| move |source| BackupError::Io { file, source };
    for generation in generations(dir).map_err(io(dir.join("log")))? {
        if generation < log_first {
            continue;
        }
        match copy_database(&log::path(dir, generation), &log::path(target, generation)) {
            Ok(bytes) => report.bytes += bytes,
            Err(_) if !log::path(dir, generation).exists() => return Ok(Outcome::Again),
            Err(error) => return Err(error),
        }
    }
    // A log goes only after the small database says that it is no longer needed.
    let now = catalog::open_read_only(dir).ok().and_then(|catalog| catalog::log_first(&catalog).ok());
    if now != Some(log_first) {
        return Ok(Outcome::Again);
    }
    clear_strays(target, &rows, log_first).map_err(io(target.to_owned()))?;
    for folder in [target.join("segments"), target.join("log"), target.to_owned()] {
        sync_folder(&folder).map_err(io(folder))?;
    }
    progress(total, total);
    Ok(Outcome::Done(report))
}

/// Removes what an earlier try left.
fn clear_strays(target: &Path, rows: &[rows::SegmentRow], log_first: u64) -> io::Result<()> {
    let named: BTreeSet<PathBuf> = rows.iter().map(|row| segment::path(target, row.segment)).collect();
    for file in fs::read_dir(target.join("segments"))? {
        let path = file?.path();
        if !named.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    for generation in generations(target)?.into_iter().filter(|generation| *generation < log_first) {
        crate::open::remove_log(target, generation)?;
    }
    Ok(())
}

/// Copies a database as of one moment, and makes the copy durable. Answers its size.
fn copy_database(from: &Path, to: &Path) -> Result<u64, BackupError> {
    let copy = || -> rusqlite::Result<()> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let source = Connection::open_with_flags(from, flags)?;
        source.busy_timeout(crate::BUSY_TIMEOUT)?;
        source.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Held while copying, so that the copy need not start again whenever something is committed.
        let moment = source.unchecked_transaction()?;
        moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let mut target = Connection::open(to)?;
        Backup::new(&moment, &mut target)?.run_to_completion(4096, Duration::ZERO, None)
    };
    copy().map_err(|source| BackupError::Sqlite { file: from.to_owned(), source })?;
    let io = |source| BackupError::Io { file: to.to_owned(), source };
    let file = File::open(to).map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok(file.metadata().map_err(io)?.len())
}

/// Makes `to` the same file as `from`, or a copy where that cannot be; answers the size of a copy.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<Option<u64>> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => {
            let bytes = fs::copy(from, to).inspect_err(|_| drop(fs::remove_file(to)))?;
            File::open(to)?.sync_all()?;
            Ok(Some(bytes))
        }
    }
}
