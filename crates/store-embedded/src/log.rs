//! The log: one SQLite file per memory table, one row per group commit. Deciding what goes into a group is left
//! to `writer`; what becomes of a full memory table to `seal`.
//!
//! The log is kept in WAL mode and never checkpointed while it is written: its write-ahead log *is* the log, so
//! that each entry is written once and a commit is one append and one sync. When the memory table it stands for
//! has become a segment the file is unlinked whole; nothing is ever deleted from it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use crate::checksum;
use crate::format::{Cursor, Damaged, FORMAT, Record, put_signed, put_varint};

/// SQLite's code for a file with a rollback journal that cannot be played back, for it is open to read only.
const READONLY_ROLLBACK: i32 = rusqlite::ffi::SQLITE_READONLY_ROLLBACK;

/// In a group: an archive's number is given to an owner.
const ARCHIVE: u8 = 1;
/// In a group: entries of one archive.
const ENTRIES: u8 = 2;

/// Where the log of a generation lies.
pub fn path(dir: &Path, generation: u64) -> PathBuf {
    dir.join("log").join(format!("{generation}.sqlite"))
}

/// The size of a page. A commit writes whole pages, and mostly one message: with the usual 4096 bytes a log of single
/// messages would be several times as large as they are.
const PAGE_BYTES: i64 = 2048;

/// Held while a log is opened.
static OPENING: Mutex<()> = Mutex::new(());

/// One generation of the log, open for appending.
#[derive(Debug)]
pub struct Log {
    connection: Connection,
    next: i64,
}

impl Log {
    /// Opens the log of a generation, making it if it is not there. The folder is the caller's to sync.
    pub fn open(dir: &Path, generation: u64) -> rusqlite::Result<Log> {
        // The writer and the seal may both come to make it: SQLite does not wait when two turn on WAL mode.
        let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = Connection::open(path(dir, generation))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(crate::BUSY_TIMEOUT)?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -1024)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS groups (seq INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, data BLOB NOT NULL);
                 PRAGMA user_version = {FORMAT};
                 COMMIT;"
            ))?;
        }
        let next =
            connection.query_row("SELECT coalesce(max(seq), 0) + 1 FROM groups", [], |row| row.get(0))?;
        Ok(Log { connection, next })
    }

    /// Makes a group durable, whole or not at all.
    pub fn commit(&mut self, group: &[u8]) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached("INSERT INTO groups VALUES (?1, ?2, ?3)")?;
        insert.execute(params![self.next, checksum::of(group), group])?;
        self.next += 1;
        Ok(())
    }
}

/// Reads the groups of a log in the order of their commits.
pub fn replay(
    dir: &Path,
    generation: u64,
    mut each: impl FnMut(Bytes) -> Result<(), Damaged>,
) -> Result<(), ReplayError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path(dir, generation), flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(crate::BUSY_TIMEOUT)?;
    let version: i64 = match connection.query_row("PRAGMA user_version", [], |row| row.get(0)) {
        // A rollback journal beside it: it was cut off before it was in WAL mode.
        Err(error) if error.sqlite_error().is_some_and(|e| e.extended_code == READONLY_ROLLBACK) => 0,
        version => version?,
    };
    if version == 0 {
        return Ok(()); // cut off while it was made: nothing was ever committed to it
    }
    if version != FORMAT {
        return Err(ReplayError::Version(version));
    }
    let mut select = connection.prepare("SELECT seq, checksum, data FROM groups ORDER BY seq")?;
    let mut rows = select.query([])?;
    let mut expected = 1_i64;
    while let Some(row) = rows.next()? {
        let (seq, checksum) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
        let data = row.get_ref(2)?.as_blob().map_err(|_| Damaged::new("a group is not a blob"))?;
        if seq != expected {
            return Err(Damaged::new(format!("group {expected} is missing")).into());
        }
        if checksum::of(data) != checksum {
            return Err(Damaged::new(format!("the checksum of group {seq} does not match")).into());
        }
        each(Bytes::copy_from_slice(data))?;
        expected += 1;
    }
    Ok(())
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Of another version of the format.
    #[error("is of format {0}")]
    Version(i64),
    /// Not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// SQLite could not.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// A group in the making.
///
/// ```text
/// group = part…
/// part  = 1  archive:varint  owner:bytes
///       | 2  archive:varint  first position:signed  count:varint  entry…
/// ```
#[derive(Debug, Default)]
pub struct GroupBuilder {
    /// What has been put in so far.
    pub bytes: Vec<u8>,
}

impl GroupBuilder {
    /// Gives an archive's number to an owner.
    pub fn archive(&mut self, archive: u32, owner: &str) {
        self.bytes.push(ARCHIVE);
        put_varint(&mut self.bytes, u64::from(archive));
        crate::format::put_bytes(&mut self.bytes, owner.as_bytes());
    }

    /// Entries of one archive, in order, from a position on.
    pub fn entries<'a>(
        &mut self,
        archive: u32,
        first: i64,
        entries: impl ExactSizeIterator<Item = Record<'a>>,
    ) {
        self.bytes.push(ENTRIES);
        put_varint(&mut self.bytes, u64::from(archive));
        put_signed(&mut self.bytes, first);
        put_varint(&mut self.bytes, entries.len() as u64);
        let mut last = 0;
        for entry in entries {
            entry.put(&mut self.bytes, last);
            last = entry.stamp;
        }
    }
}

/// What a group says, part by part.
#[derive(Debug)]
pub enum Part<'a> {
    /// An archive's number is given to an owner.
    Archive {
        /// The number.
        archive: u32,
        /// The bare JID.
        owner: &'a str,
    },
    /// Entries of one archive.
    Entries {
        /// Its number.
        archive: u32,
        /// Where the first of them stands.
        first: i64,
        /// Each with where it begins in the group.
        entries: Vec<(usize, Record<'a>)>,
    },
}

/// Takes a group apart.
pub fn parts(group: &[u8]) -> Result<Vec<Part<'_>>, Damaged> {
    let mut cursor = Cursor::new(group);
    let mut parts = Vec::new();
    while !cursor.is_done() {
        let tag = cursor.byte()?;
        let archive =
            u32::try_from(cursor.varint()?).map_err(|_| Damaged::new("an archive number is too large"))?;
        match tag {
            ARCHIVE => parts.push(Part::Archive { archive, owner: cursor.text()? }),
            ENTRIES => {
                let first = cursor.signed()?;
                let count = cursor.count()?;
                let mut entries = Vec::with_capacity(count.min(group.len()));
                let mut last = 0;
                for _ in 0..count {
                    let at = cursor.at();
                    let entry = Record::take(&mut cursor, last)?;
                    last = entry.stamp;
                    entries.push((at, entry));
                }
                parts.push(Part::Entries { archive, first, entries });
            }
            _ => return Err(Damaged::new("a group has an unknown part")),
        }
    }
    Ok(parts)
}
