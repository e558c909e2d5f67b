//! Making a segment: blocks, conversations and ids are put in in order, and out comes a synced file. What goes in
//! is decided by `seal` and `merge`; how it is read is said by `segment`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::checksum::{self, RowError};
use crate::format::{Damaged, FORMAT, Record, put_signed, put_varint};
use crate::pack::{Packer, Samples};
use crate::packed::{write_extents, write_ids, write_positions, write_sampled};
use crate::segment::{APPLICATION, ExtentRow, path};
use crate::state::Extent;

/// A block is closed once it has so many entries.
pub const BLOCK_ENTRIES_MAX: usize = 8;
/// A block is closed once it has so many bytes, before compression.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// From so many entries on a conversation is kept in chunks of as many.
const CHUNK: usize = 128;
/// So many ids stand in one row.
const IDS_PER_ROW: usize = 256;
/// So many archives stand in one row of `extents`.
const EXTENTS_PER_ROW: usize = 1024;
/// After so many bytes the file is synced, so that the last sync finds little left to do and does not hold up
/// the log's.
const SYNC_EVERY: usize = 4 << 20;

const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE dictionaries (
    dictionary INTEGER PRIMARY KEY,
    data       BLOB NOT NULL,
    sampled    BLOB NOT NULL,
    checksum   INTEGER NOT NULL
);
CREATE TABLE blocks (
    block        INTEGER PRIMARY KEY,
    archive      INTEGER NOT NULL,
    first        INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    stamp        INTEGER NOT NULL,
    bytes_before INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    dictionary   INTEGER NOT NULL,
    data         BLOB NOT NULL,
    checksum     INTEGER NOT NULL
);
CREATE TABLE extents (archive INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE conversations (
    archive   INTEGER NOT NULL,
    contact   INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    positions BLOB,
    checksum  INTEGER NOT NULL,
    PRIMARY KEY (archive, contact)
) WITHOUT ROWID;
CREATE TABLE chunks (
    archive  INTEGER NOT NULL,
    contact  INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    rank     INTEGER NOT NULL,
    data     BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (archive, contact, first)
) WITHOUT ROWID;
CREATE UNIQUE INDEX chunks_by_rank ON chunks (archive, contact, rank);
CREATE TABLE ids (
    archive  INTEGER NOT NULL,
    hash     INTEGER NOT NULL,
    position INTEGER NOT NULL,
    data     BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (archive, hash, position)
) WITHOUT ROWID;
";

/// Why a segment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// What was to go in is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// What was to go in could not be read.
    #[error(transparent)]
    Segment(#[from] crate::segment::SegmentError),
    /// SQLite could not.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The file system could not.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The store is closing, or cannot be written to any more.
    #[error(transparent)]
    Write(#[from] crate::WriteError),
}

impl From<RowError> for BuildError {
    fn from(error: RowError) -> BuildError {
        match error {
            RowError::Damaged(damaged) => damaged.into(),
            RowError::Sqlite(error) => error.into(),
        }
    }
}

/// A segment in the making.
pub struct Builder {
    connection: Connection,
    path: PathBuf,
    number: u32,
    file: File,
    dictionaries: u32,
    block: u32,
    entries: u64,
    extents: Vec<ExtentRow>,
    unsynced: usize,
    plain: Vec<u8>,
}

/// A segment that was made.
#[derive(Debug)]
pub struct Built {
    /// How many entries it holds.
    pub entries: u64,
    /// What it holds, by archive.
    pub extents: Vec<ExtentRow>,
    /// The checksum of its file.
    pub contents: i64,
}

impl Builder {
    /// Begins segment `number`.
    pub fn create(dir: &Path, number: u32) -> Result<Builder, BuildError> {
        let path = path(dir, number);
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let connection = Connection::open(&path)?;
        connection.pragma_update(None, "page_size", 16384)?;
        connection.pragma_update(None, "journal_mode", "off")?;
        connection.pragma_update(None, "synchronous", "off")?;
        connection.pragma_update(None, "locking_mode", "exclusive")?;
        connection.pragma_update(None, "cache_size", -2048)?;
        connection.set_prepared_statement_cache_capacity(32);
        connection.execute_batch("BEGIN")?;
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
        connection.execute("INSERT INTO meta VALUES ('segment', ?1)", [number])?;
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(Builder {
            connection,
            path,
            number,
            file,
            dictionaries: 0,
            block: 1,
            entries: 0,
            extents: Vec::new(),
            unsynced: 0,
            plain: Vec::new(),
        })
    }

    /// Puts a row into a table, with its checksum in the last column.
    fn insert(&self, table: &str, sql: &str, values: &[ValueRef<'_>]) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(sql)?;
        for (place, value) in (1..).zip(values) {
            insert.raw_bind_parameter(place, ToSqlOutput::Borrowed(*value))?;
        }
        insert.raw_bind_parameter(values.len() + 1, checksum::of_values(table, values)?)?;
        insert.raw_execute().map(drop)
    }

    /// Puts a dictionary in as it is, with the archives it was trained on. Answers its number here.
    pub fn add_dictionary(&mut self, data: &[u8], sampled: &[u8]) -> Result<u32, BuildError> {
        self.dictionaries += 1;
        let number = ValueRef::Integer(self.dictionaries.into());
        let row = [number, ValueRef::Blob(data), ValueRef::Blob(sampled)];
        self.insert("dictionaries", "INSERT INTO dictionaries VALUES (?, ?, ?, ?)", &row)?;
        Ok(self.dictionaries)
    }

    /// Trains a dictionary and puts it in, if the samples are worth it.
    pub fn train(&mut self, samples: &Samples) -> Result<Packer, BuildError> {
        let Some(data) = samples.train() else { return Ok(Packer::new(0, None)?) };
        let mut archives = samples.archives.clone();
        archives.sort_unstable();
        archives.dedup();
        let number = self.add_dictionary(&data, &write_sampled(&archives))?;
        Ok(Packer::new(number, Some(&data))?)
    }

    /// Puts entries in, as many as make one block; answers how many that were. Archives come in order of their
    /// numbers, an archive's entries in order of their positions.
    pub fn add_block(
        &mut self,
        archive: u32,
        first: i64,
        records: &[Record<'_>],
        packer: &mut Packer,
    ) -> Result<usize, BuildError> {
        let mut count = 0;
        let mut size = 0;
        for record in records.iter().take(BLOCK_ENTRIES_MAX) {
            if count > 0 && size + record.stanza.len() > BLOCK_BYTES_MAX {
                break;
            }
            size += record.stanza.len();
            count += 1;
        }
        let taken = records.get(..count).unwrap_or_default();
        let (Some(oldest), Some(newest)) = (taken.first(), taken.last()) else { return Ok(0) };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        put_varint(&mut plain, u64::from(archive));
        put_signed(&mut plain, first);
        put_varint(&mut plain, count as u64);
        let mut last = 0;
        for record in taken {
            record.put(&mut plain, last);
            last = record.stamp;
        }
        let stamps = (oldest.stamp, newest.stamp);
        let bytes = taken.iter().map(|record| record.stanza.len() as u64).sum();
        let dictionary = packer.dictionary;
        let packed = packer.pack(&plain)?;
        self.add_packed(archive, (first, count as u32), stamps, bytes, dictionary, packed)?;
        self.plain = plain;
        Ok(count)
    }

    /// Puts a block in as it is.
    pub fn add_packed(
        &mut self,
        archive: u32,
        (first, count): (i64, u32),
        stamps: (i64, i64),
        bytes: u64,
        dictionary: u32,
        data: &[u8],
    ) -> Result<(), BuildError> {
        let same = self.extents.last().filter(|row| row.archive == archive);
        let bytes_before = same.map_or(0, |row| row.extent.bytes);
        if let Some(row) = same
            && row.extent.next() != first
        {
            let at = row.extent.next();
            return Err(Damaged::new(format!("archive {archive} goes on at {first} instead of {at}")).into());
        }
        let row = [
            ValueRef::Integer(self.block.into()),
            ValueRef::Integer(archive.into()),
            ValueRef::Integer(first),
            ValueRef::Integer(count.into()),
            ValueRef::Integer(stamps.0),
            ValueRef::Integer(bytes_before as i64),
            ValueRef::Integer(bytes as i64),
            ValueRef::Integer(dictionary.into()),
            ValueRef::Blob(data),
        ];
        self.insert("blocks", "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", &row)?;
        match self.extents.last_mut().filter(|row| row.archive == archive) {
            Some(row) => {
                row.extent.count += count;
                row.extent.blocks += 1;
                row.extent.bytes += bytes;
                row.stamps.1 = stamps.1;
            }
            None => {
                let segment = self.number;
                let extent = Extent { segment, count, first, block: self.block, blocks: 1, bytes };
                self.extents.push(ExtentRow { archive, extent, stamps });
            }
        }
        self.block += 1;
        self.entries += u64::from(count);
        self.wrote(data.len() + 32)
    }

    fn wrote(&mut self, bytes: usize) -> Result<(), BuildError> {
        self.unsynced += bytes;
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Puts a conversation in: the positions of its entries, in order. Conversations come in order of archive and
    /// contact.
    pub fn add_conversation<E: From<BuildError>>(
        &mut self,
        archive: u32,
        contact: i64,
        positions: impl Iterator<Item = Result<i64, E>>,
    ) -> Result<(), E> {
        let mut chunk: Vec<i64> = Vec::with_capacity(CHUNK);
        let mut rank = 0_u64;
        for position in positions {
            if chunk.len() == CHUNK {
                self.add_chunk(archive, contact, rank, &chunk)?;
                rank += chunk.len() as u64;
                chunk.clear();
            }
            chunk.push(position?);
        }
        let count = rank + chunk.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let inline = if rank == 0 {
            Some(write_positions(&chunk))
        } else {
            self.add_chunk(archive, contact, rank, &chunk)?;
            None
        };
        let bytes = inline.as_ref().map_or(0, Vec::len) + 16;
        let row = [
            ValueRef::Integer(archive.into()),
            ValueRef::Integer(contact),
            ValueRef::Integer(count as i64),
            inline.as_deref().map_or(ValueRef::Null, ValueRef::Blob),
        ];
        let sql = "INSERT INTO conversations VALUES (?, ?, ?, ?, ?)";
        self.insert("conversations", sql, &row).map_err(BuildError::from)?;
        Ok(self.wrote(bytes)?)
    }

    fn add_chunk(&mut self, archive: u32, contact: i64, rank: u64, chunk: &[i64]) -> Result<(), BuildError> {
        let Some(first) = chunk.first() else { return Ok(()) };
        let data = write_positions(chunk);
        let row = [
            ValueRef::Integer(archive.into()),
            ValueRef::Integer(contact),
            ValueRef::Integer(*first),
            ValueRef::Integer(rank as i64),
            ValueRef::Blob(&data),
        ];
        self.insert("chunks", "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?)", &row)?;
        self.wrote(data.len() + 48)
    }

    /// Puts an archive's ids in: hashes with positions, in order. Archives come in order of their numbers.
    pub fn add_ids<E: From<BuildError>>(
        &mut self,
        archive: u32,
        ids: impl Iterator<Item = Result<(u32, i64), E>>,
    ) -> Result<(), E> {
        let mut row: Vec<(u32, i64)> = Vec::with_capacity(IDS_PER_ROW);
        for id in ids {
            if row.len() == IDS_PER_ROW {
                self.add_ids_row(archive, &row)?;
                row.clear();
            }
            row.push(id?);
        }
        Ok(self.add_ids_row(archive, &row)?)
    }

    fn add_ids_row(&mut self, archive: u32, row: &[(u32, i64)]) -> Result<(), BuildError> {
        let Some((hash, position)) = row.first() else { return Ok(()) };
        let data = write_ids(row);
        let row = [
            ValueRef::Integer(archive.into()),
            ValueRef::Integer((*hash).into()),
            ValueRef::Integer(*position),
            ValueRef::Blob(&data),
        ];
        self.insert("ids", "INSERT INTO ids VALUES (?, ?, ?, ?, ?)", &row)?;
        self.wrote(data.len() + 16)
    }

    /// Ends the file; it is whole, but not synced.
    pub fn finish(mut self) -> Result<(File, Built), BuildError> {
        for rows in self.extents.chunks(EXTENTS_PER_ROW) {
            let Some(first) = rows.first() else { continue };
            let data = write_extents(rows);
            let row = [ValueRef::Integer(first.archive.into()), ValueRef::Blob(&data)];
            self.insert("extents", "INSERT INTO extents VALUES (?, ?, ?)", &row)?;
        }
        self.connection.execute("INSERT INTO meta VALUES ('entries', ?1)", [self.entries as i64])?;
        self.connection.flush_prepared_statement_cache();
        self.connection.execute_batch("COMMIT")?;
        let extents = std::mem::take(&mut self.extents);
        let Builder { connection, file, entries, .. } = self;
        connection.close().map_err(|(_, error)| error)?;
        let contents = checksum::of_file(&file)?;
        Ok((file, Built { entries, extents, contents }))
    }

    /// Gives up.
    pub fn discard(self) {
        let path = self.path.clone();
        drop(self);
        drop(fs::remove_file(path));
    }
}
