//! A segment, read: one immutable SQLite file of entries in the order of (archive, position), with what is needed
//! to find them. Searching it is left to `segment_search` and `segment_index`, making a segment to
//! `build`; which segments hold what to `state`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use zstd::zstd_safe::{DDict, get_frame_content_size};

use crate::block::{Block, Scratch};
use crate::checksum::{self, RowError};
use crate::format::{Cursor, Damaged, FORMAT};
use crate::packed::{read_extents, read_sampled};
use crate::segment_index::Known;
use crate::state::Extent;

/// `application_id` of a segment ("Mams").
pub const APPLICATION: i64 = 0x4d61_6d73;
/// What a block may grow to when it is decompressed; anything larger was not written by us.
const BLOCK_BYTES_MAX: u64 = 1 << 30;
/// Pages that one connection keeps, in KiB (negative, as SQLite wants it).
const CACHE_KIB: i64 = -256;

/// Why a segment could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Its file is not there.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// Of another version of the format, or no segment at all.
    #[error("{} is of format {found}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it says.
        found: i64,
    },
    /// Not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// SQLite could not.
    #[error("segment {segment}: {source}")]
    Sqlite {
        /// Which segment.
        segment: u32,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// Where a segment lies.
pub fn path(dir: &Path, segment: u32) -> PathBuf {
    dir.join("segments").join(format!("{segment}.sqlite"))
}

/// One segment.
pub struct Segment {
    /// The number in its file name.
    pub number: u32,
    /// Its place among the segments.
    pub place: i64,
    /// How often its entries were merged.
    pub level: u32,
    /// How many entries it holds.
    pub entries: u64,
    /// The checksum of its file.
    pub contents: i64,
    /// The size of its file.
    pub file_bytes: u64,
    path: PathBuf,
    lost: AtomicU64,
    obsolete: AtomicBool,
    connections: Mutex<Vec<Connection>>,
    dictionaries: Mutex<HashMap<u32, Arc<DDict<'static>>>>,
    known: Known,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segment({})", self.number)
    }
}

/// An obsolete segment's file goes when its last reader lets go of it.
impl Drop for Segment {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            self.connections.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
            if let Err(error) = std::fs::remove_file(&self.path) {
                tracing::warn!(segment = self.number, %error, "an obsolete segment could not be removed");
            }
        }
    }
}

/// What a segment says of one archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentRow {
    /// Which archive.
    pub archive: u32,
    /// What it holds of it.
    pub extent: Extent,
    /// The stamps of the first and the last entry.
    pub stamps: (i64, i64),
}

/// What stands beside a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMeta {
    /// Its number.
    pub block: u32,
    /// Whose entries.
    pub archive: u32,
    /// The position of the first.
    pub first: i64,
    /// How many.
    pub count: u32,
    /// The stamp of the first.
    pub stamp: i64,
    /// Bytes of stanzas in the archive's blocks before it in this segment.
    pub bytes_before: u64,
    /// Bytes of its own stanzas, uncompressed.
    pub bytes: u64,
    /// The number of its dictionary, 0 for none.
    pub dictionary: u32,
}

impl BlockMeta {
    /// From a row of `blocks`, whole, and the block's data; both are as they were written.
    pub fn read<'a>(row: &'a rusqlite::Row<'_>) -> Result<(BlockMeta, &'a [u8]), RowError> {
        checksum::check("blocks", row)?;
        let meta = BlockMeta {
            block: row.get(0)?,
            archive: row.get(1)?,
            first: row.get(2)?,
            count: row.get(3)?,
            stamp: row.get(4)?,
            bytes_before: row.get::<_, i64>(5)?.max(0) as u64,
            bytes: row.get::<_, i64>(6)?.max(0) as u64,
            dictionary: row.get(7)?,
        };
        Ok((meta, row.get_ref(8)?.as_blob().map_err(rusqlite::Error::from)?))
    }

    /// The position after the last.
    pub fn next(&self) -> i64 {
        self.first.saturating_add(i64::from(self.count))
    }
}

/// One of a segment's dictionaries.
#[derive(Clone, Debug)]
pub struct Dictionary {
    /// Its number there.
    pub number: u32,
    /// What zstd is given.
    pub data: Vec<u8>,
    /// The archives it was trained on, as they stand in the file.
    pub sampled_bytes: Vec<u8>,
    /// The same, read.
    pub sampled: Vec<u32>,
}

impl Segment {
    /// Takes a segment into use.
    pub fn open(dir: &Path, row: crate::rows::SegmentRow) -> Result<Segment, SegmentError> {
        let path = path(dir, row.segment);
        let Ok(metadata) = std::fs::metadata(&path) else { return Err(SegmentError::Missing(path)) };
        let segment = Segment {
            number: row.segment,
            place: row.place,
            level: row.level,
            entries: row.entries,
            contents: row.contents,
            file_bytes: metadata.len(),
            path,
            lost: AtomicU64::new(0),
            obsolete: AtomicBool::new(false),
            connections: Mutex::default(),
            dictionaries: Mutex::default(),
            known: Known::default(),
        };
        let reader = segment.reader()?;
        reader.check_version()?;
        drop(reader);
        Ok(segment)
    }

    /// Says that so many of its entries have expired.
    pub fn lost(&self, entries: u64) {
        self.lost.fetch_add(entries, Ordering::AcqRel);
    }

    /// Where its file lies.
    pub fn file(&self) -> &Path {
        &self.path
    }

    /// How many of its entries are still needed, at most.
    pub fn live(&self) -> u64 {
        self.entries.saturating_sub(self.lost.load(Ordering::Acquire))
    }

    /// Its file is to go when nobody reads it any more.
    pub fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    /// A reader, for one thread at a time.
    pub fn reader(&self) -> Result<Reader<'_>, SegmentError> {
        let pooled = self.connections.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => self.connect().map_err(|source| self.sqlite(source))?,
        };
        Ok(Reader { segment: self, connection: Some(connection) })
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri(&self.path), flags)?;
        connection.pragma_update(None, "cache_size", CACHE_KIB)?;
        Ok(connection)
    }

    fn sqlite(&self, source: rusqlite::Error) -> SegmentError {
        SegmentError::Sqlite { segment: self.number, source }
    }
}

/// The file as an address that tells SQLite that it never changes: no locks are taken and none are looked for.
fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                uri.push(char::from(*byte))
            }
            other => uri.push_str(&format!("%{other:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// A connection to a segment, returned to it when dropped.
pub struct Reader<'a> {
    segment: &'a Segment,
    connection: Option<Connection>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.segment.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

impl Reader<'_> {
    /// The connection behind, for what reads a segment as a whole.
    pub fn connection(&self) -> Result<&Connection, SegmentError> {
        self.connection.as_ref().ok_or_else(|| Damaged::new("a reader without a connection").into())
    }

    /// What was looked for before.
    pub fn known(&self) -> &Known {
        &self.segment.known
    }

    /// The one row that a question answers with, if there is one: whole, as it was written to `table`.
    pub fn row<T>(
        &self,
        table: &str,
        sql: &str,
        params: impl rusqlite::Params,
        f: impl FnOnce(&rusqlite::Row<'_>) -> Result<T, RowError>,
    ) -> Result<Option<T>, SegmentError> {
        let sqlite = |source| self.segment.sqlite(source);
        let mut statement = self.connection()?.prepare_cached(sql).map_err(sqlite)?;
        let mut rows = statement.query(params).map_err(sqlite)?;
        let Some(row) = rows.next().map_err(sqlite)? else { return Ok(None) };
        let read = checksum::check(table, row).and_then(|()| f(row));
        read.map(Some).map_err(|error| self.of_row(error))
    }

    fn check_version(&self) -> Result<(), SegmentError> {
        let connection = self.connection()?;
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let version = number("user_version").map_err(|e| self.segment.sqlite(e))?;
        let application = number("application_id").map_err(|e| self.segment.sqlite(e))?;
        if (application, version) != (APPLICATION, FORMAT) {
            return Err(SegmentError::Version { path: self.segment.path.clone(), found: version });
        }
        Ok(())
    }

    /// Whether it holds, or ever held, anything of an archive: its entries, or a dictionary trained on them.
    pub fn knows(&self, archive: u32) -> Result<bool, SegmentError> {
        let sql = "SELECT * FROM extents WHERE archive <= ?1 ORDER BY archive DESC LIMIT 1";
        let row = self.row("extents", sql, [archive], |row| Ok(row.get::<_, Vec<u8>>(1)?))?;
        let mut extents = Vec::new();
        read_extents(&row.unwrap_or_default(), self.segment.number, &mut extents)?;
        if extents.iter().any(|row| row.archive == archive) {
            return Ok(true);
        }
        let dictionaries = self.dictionaries()?;
        Ok(dictionaries.iter().any(|dictionary| dictionary.sampled.contains(&archive)))
    }

    /// Its dictionaries.
    pub fn dictionaries(&self) -> Result<Vec<Dictionary>, SegmentError> {
        let sqlite = |source| self.segment.sqlite(source);
        let sql = "SELECT * FROM dictionaries ORDER BY dictionary";
        let mut select = self.connection()?.prepare(sql).map_err(sqlite)?;
        let mut rows = select.query([]).map_err(sqlite)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(sqlite)? {
            checksum::check("dictionaries", row).map_err(|error| self.of_row(error))?;
            let sampled: Vec<u8> = row.get(2).map_err(sqlite)?;
            let archives = read_sampled(&sampled)?;
            let (number, data) = (row.get(0).map_err(sqlite)?, row.get(1).map_err(sqlite)?);
            all.push(Dictionary { number, data, sampled_bytes: sampled, sampled: archives });
        }
        Ok(all)
    }

    /// What it holds, by archive.
    pub fn extents(&self) -> Result<Vec<ExtentRow>, SegmentError> {
        let sqlite = |source| self.segment.sqlite(source);
        let connection = self.connection()?;
        let mut select = connection.prepare("SELECT * FROM extents ORDER BY archive").map_err(sqlite)?;
        let mut rows = select.query([]).map_err(sqlite)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(sqlite)? {
            checksum::check("extents", row).map_err(|error| self.of_row(error))?;
            let data = row.get_ref(1).map_err(sqlite)?.as_blob().map_err(|e| sqlite(e.into()))?;
            read_extents(data, self.segment.number, &mut all)?;
        }
        let entries: u64 = all.iter().map(|row| u64::from(row.extent.count)).sum();
        if entries != self.segment.entries {
            let of = self.segment.entries;
            return Err(self.damaged(format!("says where {entries} of {of} entries are")));
        }
        Ok(all)
    }

    /// What stands beside a block.
    pub fn meta(&self, block: u32) -> Result<BlockMeta, SegmentError> {
        self.with_block(block, |meta, _| Ok(meta))
    }

    /// What SQLite says, with the segment's number.
    pub fn sqlite(&self, source: rusqlite::Error) -> SegmentError {
        self.segment.sqlite(source)
    }

    /// What is wrong with a row, with the segment's number.
    pub fn of_row(&self, error: RowError) -> SegmentError {
        match error {
            RowError::Damaged(Damaged(what)) => self.damaged(what),
            RowError::Sqlite(source) => self.segment.sqlite(source),
        }
    }

    /// A damage of this segment.
    pub fn damaged(&self, what: String) -> SegmentError {
        Damaged::new(format!("segment {}: {what}", self.segment.number)).into()
    }

    /// A block, decompressed and checked.
    pub fn block(&self, number: u32, scratch: &mut Scratch) -> Result<Arc<Block>, SegmentError> {
        match scratch.last(self.segment.number, |block| block.number == number) {
            Some(block) => Ok(block),
            None => self.with_block(number, |meta, data| self.unpack_kept(&meta, data, scratch)),
        }
    }

    /// The block that was read last, if it is this segment's and holds a position of an extent.
    pub fn last_block(&self, extent: &Extent, position: i64, scratch: &Scratch) -> Option<Arc<Block>> {
        let blocks = extent.block..extent.block.saturating_add(extent.blocks);
        scratch.last(self.segment.number, |block| blocks.contains(&block.number) && block.holds(position))
    }

    /// Shows a block as it stands in its row: what is beside its data, and the data.
    pub fn with_block<T>(
        &self,
        number: u32,
        f: impl FnOnce(BlockMeta, &[u8]) -> Result<T, SegmentError>,
    ) -> Result<T, SegmentError> {
        let sqlite = |source| self.segment.sqlite(source);
        let mut statement =
            self.connection()?.prepare_cached("SELECT * FROM blocks WHERE block = ?1").map_err(sqlite)?;
        let mut rows = statement.query([number]).map_err(sqlite)?;
        let Some(row) = rows.next().map_err(sqlite)? else {
            return Err(self.damaged(format!("block {number} is missing")));
        };
        let (meta, data) = BlockMeta::read(row).map_err(|error| self.of_row(error))?;
        f(meta, data)
    }

    /// A block, decompressed and checked; it is the last one now.
    pub fn unpack_kept(
        &self,
        meta: &BlockMeta,
        data: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Arc<Block>, SegmentError> {
        let block = self.unpack(meta, data, scratch)?;
        Ok(scratch.keep(self.segment.number, block))
    }

    /// The same, without becoming the last one.
    pub fn unpack(
        &self,
        meta: &BlockMeta,
        data: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Block, SegmentError> {
        let broken = |what: &str| self.damaged(format!("block {}: {what}", meta.block));
        let size = get_frame_content_size(data).ok().flatten().filter(|size| *size <= BLOCK_BYTES_MAX);
        let size =
            size.and_then(|size| usize::try_from(size).ok()).ok_or_else(|| broken("its size is unknown"))?;
        let mut bytes = Vec::with_capacity(size);
        let done = if meta.dictionary == 0 {
            scratch.context.decompress(&mut bytes, data)
        } else {
            let dictionary = self.dictionary(meta.dictionary)?;
            scratch.context.decompress_using_ddict(&mut bytes, data, &dictionary)
        };
        done.map_err(|code| broken(zstd::zstd_safe::get_error_name(code)))?;
        let mut cursor = Cursor::new(&bytes);
        let (archive, first, count) = (cursor.varint()?, cursor.signed()?, cursor.varint()?);
        if (archive, first, count) != (u64::from(meta.archive), meta.first, u64::from(meta.count)) {
            return Err(broken("what it holds is not what stands beside it"));
        }
        let entries_at = cursor.at();
        let BlockMeta { block: number, archive, count, .. } = *meta;
        Ok(Block { number, archive, first, count, bytes, entries_at })
    }

    fn dictionary(&self, number: u32) -> Result<Arc<DDict<'static>>, SegmentError> {
        let known =
            self.segment.dictionaries.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        if let Some(dictionary) = known {
            return Ok(dictionary);
        }
        let sql = "SELECT * FROM dictionaries WHERE dictionary = ?1";
        let data = self.row("dictionaries", sql, [number], |row| Ok(row.get::<_, Vec<u8>>(1)?))?;
        let data = data.ok_or_else(|| self.damaged(format!("dictionary {number} is missing")))?;
        let made = DDict::try_create(&data)
            .ok_or_else(|| self.damaged(format!("dictionary {number} is damaged")))?;
        let made = Arc::new(made);
        let mut known = self.segment.dictionaries.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(number, made.clone());
        Ok(made)
    }
}
