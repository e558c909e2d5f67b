//! A segment, read: one immutable SQLite file of entries in the order of (archive, position), with what is needed
//! to find them by position and stamp. Conversations and ids are left to `segment_index`, making a segment to
//! `build`; which segments hold what to `state`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use zstd::zstd_safe::{DCtx, DDict, get_frame_content_size};

use crate::format::{Cursor, Damaged, FORMAT, Record};
use crate::packed::{read_extents, read_sampled};
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
}

impl BlockMeta {
    /// From a row that begins with these columns.
    pub fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<BlockMeta> {
        Ok(BlockMeta {
            block: row.get(0)?,
            archive: row.get(1)?,
            first: row.get(2)?,
            count: row.get(3)?,
            stamp: row.get(4)?,
            bytes_before: row.get::<_, i64>(5)?.max(0) as u64,
        })
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
    pub fn open(dir: &Path, row: crate::catalog::SegmentRow) -> Result<Segment, SegmentError> {
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

/// What one reading thread needs besides the files: room to decompress.
pub struct Scratch {
    context: DCtx<'static>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch { context: DCtx::create() }
    }
}

/// One block, decompressed.
#[derive(Debug)]
pub struct Block {
    /// Its number.
    pub number: u32,
    /// The position of its first entry.
    pub first: i64,
    /// How many entries it has.
    pub count: u32,
    bytes: Vec<u8>,
    entries_at: usize,
}

impl Block {
    /// Whether it holds this position.
    pub fn holds(&self, position: i64) -> bool {
        position >= self.first && position < self.next()
    }

    /// The position after its last.
    pub fn next(&self) -> i64 {
        self.first.saturating_add(i64::from(self.count))
    }

    /// Shows its entries in order.
    pub fn each<'a, E: From<Damaged>>(
        &'a self,
        mut show: impl FnMut(i64, Record<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = Cursor::new(self.bytes.get(self.entries_at..).unwrap_or_default());
        let mut last = 0;
        for position in (self.first..).take(self.count as usize) {
            let record = Record::take(&mut cursor, last)?;
            last = record.stamp;
            show(position, record)?;
        }
        if !cursor.is_done() {
            return Err(Damaged::new("a block is longer than its entries").into());
        }
        Ok(())
    }
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

    /// The one row that a question answers with, if there is one.
    pub fn row<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        f: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, SegmentError> {
        let mut statement = self.connection()?.prepare_cached(sql).map_err(|e| self.segment.sqlite(e))?;
        statement.query_row(params, f).optional().map_err(|e| self.segment.sqlite(e))
    }

    fn check_version(&self) -> Result<(), SegmentError> {
        let version = self.row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?.unwrap_or(0);
        let application = self.row("PRAGMA application_id", [], |row| row.get::<_, i64>(0))?.unwrap_or(0);
        if (application, version) != (APPLICATION, FORMAT) {
            return Err(SegmentError::Version { path: self.segment.path.clone(), found: version });
        }
        Ok(())
    }

    /// Whether it holds, or ever held, anything of an archive: its entries, or a dictionary trained on them.
    pub fn knows(&self, archive: u32) -> Result<bool, SegmentError> {
        let sql = "SELECT data FROM extents WHERE archive <= ?1 ORDER BY archive DESC LIMIT 1";
        let row = self.row(sql, [archive], |row| row.get::<_, Vec<u8>>(0))?;
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
        let sql = "SELECT dictionary, data, sampled FROM dictionaries ORDER BY dictionary";
        let mut select = self.connection()?.prepare(sql).map_err(sqlite)?;
        let mut rows = select.query([]).map_err(sqlite)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(sqlite)? {
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
        let mut select = connection.prepare("SELECT data FROM extents ORDER BY archive").map_err(sqlite)?;
        let mut rows = select.query([]).map_err(sqlite)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(sqlite)? {
            let data = row.get_ref(0).map_err(sqlite)?.as_blob().map_err(|e| sqlite(e.into()))?;
            read_extents(data, self.segment.number, &mut all)?;
        }
        Ok(all)
    }

    fn meta(&self, block: u32) -> Result<BlockMeta, SegmentError> {
        let sql = "SELECT block, archive, first, count, stamp, bytes_before FROM blocks WHERE block = ?1";
        let found = self.row(sql, [block], BlockMeta::read)?;
        found.ok_or_else(|| self.damaged(format!("block {block} is missing")))
    }

    /// What SQLite says, with the segment's number.
    pub fn sqlite(&self, source: rusqlite::Error) -> SegmentError {
        self.segment.sqlite(source)
    }

    /// A damage of this segment.
    pub fn damaged(&self, what: String) -> SegmentError {
        Damaged::new(format!("segment {}: {what}", self.segment.number)).into()
    }

    /// The block that holds a position of an extent, decompressed and checked. It is guessed by proportion, since
    /// blocks are mostly of one size.
    pub fn block_at(
        &self,
        extent: &Extent,
        position: i64,
        scratch: &mut Scratch,
    ) -> Result<Block, SegmentError> {
        let (mut low, mut high) =
            (i64::from(extent.block), i64::from(extent.block) + i64::from(extent.blocks) - 1);
        let (mut low_at, mut high_at) = (extent.first, extent.next());
        let mut probes = 0;
        while low <= high && (low_at..high_at).contains(&position) {
            let guess = if probes < GUESSES {
                low + proportion(
                    position.saturating_sub(low_at),
                    high_at.saturating_sub(low_at),
                    high - low + 1,
                )
            } else {
                low + (high - low) / 2
            };
            probes += 1;
            let guess = guess.clamp(low, high);
            let number = u32::try_from(guess).unwrap_or(u32::MAX);
            let found = self.with_block(number, |meta, row| {
                if position >= meta.first && position < meta.next() {
                    return self.unpack_row(meta, row, scratch).map(Ok);
                }
                Ok(Err(*meta))
            })?;
            match found {
                Ok(block) => return Ok(block),
                Err(meta) if position < meta.first => (high, high_at) = (guess - 1, meta.first),
                Err(meta) => (low, low_at) = (guess + 1, meta.next()),
            }
        }
        Err(self.damaged(format!("no block holds position {position}")))
    }

    /// A block, decompressed and checked.
    pub fn block(&self, number: u32, scratch: &mut Scratch) -> Result<Block, SegmentError> {
        self.with_block(number, |meta, row| self.unpack_row(meta, row, scratch))
    }

    fn with_block<T>(
        &self,
        number: u32,
        f: impl FnOnce(&BlockMeta, &rusqlite::Row<'_>) -> Result<T, SegmentError>,
    ) -> Result<T, SegmentError> {
        let sqlite = |source| self.segment.sqlite(source);
        let sql = "SELECT block, archive, first, count, stamp, bytes_before, dictionary, data FROM blocks
                   WHERE block = ?1";
        let mut statement = self.connection()?.prepare_cached(sql).map_err(sqlite)?;
        let mut rows = statement.query([number]).map_err(sqlite)?;
        let Some(row) = rows.next().map_err(sqlite)? else {
            return Err(self.damaged(format!("block {number} is missing")));
        };
        f(&BlockMeta::read(row).map_err(sqlite)?, row)
    }

    fn unpack_row(
        &self,
        meta: &BlockMeta,
        row: &rusqlite::Row<'_>,
        scratch: &mut Scratch,
    ) -> Result<Block, SegmentError> {
        let sqlite = |source| self.segment.sqlite(source);
        let dictionary = row.get::<_, u32>(6).map_err(sqlite)?;
        let data = row.get_ref(7).map_err(sqlite)?.as_blob().map_err(|e| sqlite(e.into()))?;
        self.unpack(meta, dictionary, data, scratch)
    }

    /// The same of what a block's row says.
    pub fn unpack(
        &self,
        meta: &BlockMeta,
        dictionary: u32,
        data: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Block, SegmentError> {
        let broken = |what: &str| self.damaged(format!("block {}: {what}", meta.block));
        let size = get_frame_content_size(data).ok().flatten().filter(|size| *size <= BLOCK_BYTES_MAX);
        let size =
            size.and_then(|size| usize::try_from(size).ok()).ok_or_else(|| broken("its size is unknown"))?;
        let mut bytes = Vec::with_capacity(size);
        let done = if dictionary == 0 {
            scratch.context.decompress(&mut bytes, data)
        } else {
            let dictionary = self.dictionary(dictionary)?;
            scratch.context.decompress_using_ddict(&mut bytes, data, &dictionary)
        };
        done.map_err(|code| broken(zstd::zstd_safe::get_error_name(code)))?;
        let mut cursor = Cursor::new(&bytes);
        let (archive, first, count) = (cursor.varint()?, cursor.signed()?, cursor.varint()?);
        if (archive, first, count) != (u64::from(meta.archive), meta.first, u64::from(meta.count)) {
            return Err(broken("what it holds is not what stands beside it"));
        }
        let entries_at = cursor.at();
        Ok(Block { number: meta.block, first, count: meta.count, bytes, entries_at })
    }

    fn dictionary(&self, number: u32) -> Result<Arc<DDict<'static>>, SegmentError> {
        let known =
            self.segment.dictionaries.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        if let Some(dictionary) = known {
            return Ok(dictionary);
        }
        let sql = "SELECT data FROM dictionaries WHERE dictionary = ?1";
        let data = self.row(sql, [number], |row| row.get::<_, Vec<u8>>(0))?;
        let data = data.ok_or_else(|| self.damaged(format!("dictionary {number} is missing")))?;
        let made = DDict::try_create(&data)
            .ok_or_else(|| self.damaged(format!("dictionary {number} is damaged")))?;
        let made = Arc::new(made);
        let mut known = self.segment.dictionaries.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(number, made.clone());
        Ok(made)
    }

    /// The first position of `span` whose stamp is `stamp` or later, or the end of `span`.
    pub fn lower_bound(
        &self,
        extent: &Extent,
        span: &Range<i64>,
        stamp: i64,
        scratch: &mut Scratch,
    ) -> Result<i64, SegmentError> {
        // The last block that begins before the stamp is the only one that can hold the boundary. It is guessed by
        // proportion and by halves in turn: stamps mostly grow evenly, and where they do not halves are as good.
        let (mut low, mut high) =
            (i64::from(extent.block), i64::from(extent.block) + i64::from(extent.blocks) - 1);
        let number = |block: i64| u32::try_from(block).unwrap_or(u32::MAX);
        let oldest = self.meta(number(low))?;
        if oldest.stamp >= stamp {
            return Ok(span.start);
        }
        let mut candidate = oldest;
        let newest = self.meta(number(high))?;
        if newest.stamp < stamp {
            (candidate, low) = (newest, high);
        }
        // From here on `low` begins before the stamp and `high` does not, unless they are the same.
        let (mut low_stamp, mut high_stamp, mut halve) = (candidate.stamp, newest.stamp, false);
        while low + 1 < high {
            let guess = if halve {
                low + (high - low) / 2
            } else {
                let all = high_stamp.saturating_sub(low_stamp);
                low + proportion(stamp.saturating_sub(low_stamp), all, high - low)
            };
            halve = !halve;
            let meta = self.meta(number(guess.clamp(low + 1, high - 1)))?;
            if meta.stamp < stamp {
                (candidate, low, low_stamp) = (meta, i64::from(meta.block), meta.stamp);
            } else {
                (high, high_stamp) = (i64::from(meta.block), meta.stamp);
            }
        }
        let mut at = candidate.first;
        self.block(candidate.block, scratch)?.each(|position, record| {
            if record.stamp < stamp {
                at = position.saturating_add(1);
            }
            Ok::<_, SegmentError>(())
        })?;
        Ok(at.clamp(span.start, span.end))
    }

    /// The first position of `span`, which ends where the extent does, from which on the rest holds at most
    /// `bytes` of stanzas, and how many bytes that rest holds.
    pub fn keep_bytes(
        &self,
        extent: &Extent,
        span: &Range<i64>,
        bytes: u64,
        scratch: &mut Scratch,
    ) -> Result<(i64, u64), SegmentError> {
        // The first block from which on everything fits.
        let (mut low, mut high) = (extent.block, extent.block.saturating_add(extent.blocks));
        let (mut at, mut kept) = (extent.next(), 0);
        while low < high {
            let middle = low + (high - low) / 2;
            let meta = self.meta(middle)?;
            let rest = extent.bytes.saturating_sub(meta.bytes_before);
            if rest <= bytes {
                (at, kept) = (meta.first, rest);
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        if low > extent.block {
            let mut sizes = Vec::new();
            self.block(low - 1, scratch)?.each(|_, record| {
                sizes.push(record.stanza.len() as u64);
                Ok::<_, SegmentError>(())
            })?;
            for size in sizes.iter().rev() {
                if kept + size > bytes {
                    break;
                }
                kept += size;
                at -= 1;
            }
        }
        Ok((at.max(span.start), kept))
    }
}

/// `part` of `whole`, of `n` things.
fn proportion(part: i64, whole: i64, n: i64) -> i64 {
    let share = i128::from(part) * i128::from(n) / i128::from(whole).max(1);
    i64::try_from(share).unwrap_or(0)
}

/// After so many guesses that missed, a search goes on by halves.
const GUESSES: u32 = 4;
