//! Verifying: every file is read whole, every checksum, count, position, stamp and index is checked against the
//! entries themselves. It reads beside a running server. Repairing is left to a backup.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::block::Scratch;
use crate::build::BuildError;
use crate::memtable::slot;
use crate::merge_blocks::BLOCKS;
use crate::merge_index::{CONVERSATIONS, Conversations, IDS, Ids, prepare};
use crate::open::{self, OpenError};
use crate::segment::{BlockMeta, ExtentRow, Reader, Segment};
use crate::segment_index::read_chunk;
use crate::state::{Extent, State};
use crate::{EmbeddedStore, Options, Shared};
use crate::{catalog, checksum};

/// So many problems of one file are told; where there are more, that is said.
const PROBLEMS_PER_FILE_MAX: usize = 20;
/// Progress is told after so many blocks.
const PROGRESS_EVERY: u64 = 1000;

/// What a verification found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Files read.
    pub files: u64,
    /// Archives that hold entries.
    pub archives: u64,
    /// Entries in all of them.
    pub entries: u64,
    /// What is wrong; empty when all is well.
    pub problems: Vec<Problem>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub file: PathBuf,
    /// What.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl EmbeddedStore {
    /// Checks the store in `dir`, whether or not a server runs on it. `progress` is told how many entries of how
    /// many were read.
    ///
    /// # Errors
    /// When there is no store of this version to check; what is damaged is in the report.
    pub fn verify(dir: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Report, OpenError> {
        let options = Options { read_only: true, readers: 1, ..Options::default() };
        let mut report = Report::default();
        let store = match open::open(dir, options, None) {
            Ok(store) => store,
            Err(OpenError::Damaged { file, what }) => {
                report.problems.push(Problem { file, what });
                return Ok(report);
            }
            Err(error) => return Err(error),
        };
        let shared = &store.shared;
        let segments = shared.segments();
        let total = segments.iter().map(|segment| segment.entries).sum();
        let mut read = 0;
        // The logs were read whole, and every archive seen to be without gaps, by opening.
        report.files = 1 + segments.len() as u64 + shared.tables().len() as u64;
        check_catalog(&mut report, &dir.join(catalog::FILE), &shared.catalog());
        for segment in &segments {
            let found = report.problems.len();
            progress(read, total);
            let mut check = Check { segment, shared, report: &mut report, read: &mut read, total };
            if let Err(error) = check.run(&mut progress) {
                check.problem(error.to_string());
            }
            let more = report.problems.len().saturating_sub(found + PROBLEMS_PER_FILE_MAX);
            report.problems.truncate(found + PROBLEMS_PER_FILE_MAX);
            if more > 0 {
                let what = format!("and {more} problems more");
                report.problems.push(Problem { file: segment.file().to_owned(), what });
            }
        }
        let state = shared.state();
        (report.archives, report.entries) = (state.nonempty, state.entries);
        check_archives(&mut report, dir, &state);
        progress(total, total);
        Ok(report)
    }
}

fn check_database(report: &mut Report, file: &Path, connection: &Connection) {
    let told: rusqlite::Result<Vec<String>> = (|| {
        let mut check = connection.prepare("PRAGMA integrity_check(20)")?;
        check.query_map([], |row| row.get(0))?.collect()
    })();
    let told = told.unwrap_or_else(|error| vec![error.to_string()]);
    let problems = told.into_iter().filter(|line| line != "ok");
    report.problems.extend(problems.map(|what| Problem { file: file.to_owned(), what }));
}

/// What SQLite can tell of the small database, its tables, and the rows that opening has not read.
fn check_catalog(report: &mut Report, file: &Path, connection: &Connection) {
    check_database(report, file, connection);
    for checked in [catalog::check_schema(connection), catalog::check_rows(connection)] {
        if let Err(error) = checked {
            report.problems.push(Problem { file: file.to_owned(), what: error.to_string() });
        }
    }
}

/// Ends and tombstones of the archives.
fn check_archives(report: &mut Report, dir: &Path, state: &State) {
    let mut problem = |what: String| {
        report.problems.push(Problem { file: dir.join(catalog::FILE), what });
    };
    for (number, archive) in state.all() {
        if archive.first > archive.next {
            problem(format!("archive {number} begins after its end"));
        }
        for pair in archive.extents.windows(2) {
            if let [a, b] = pair
                && a.next() != b.first
            {
                problem(format!(
                    "archive {number}: segment {} ends before position {}, and segment {} begins at {}",
                    a.segment,
                    a.next(),
                    b.segment,
                    b.first
                ));
            }
        }
        for position in archive.overrides.iter().flat_map(|overrides| overrides.keys()) {
            if !(archive.first..archive.next).contains(position) {
                problem(format!(
                    "archive {number}: a tombstone for position {position}, which it does not hold"
                ));
            }
        }
    }
}

struct Check<'a> {
    segment: &'a Segment,
    shared: &'a Shared,
    report: &'a mut Report,
    read: &'a mut u64,
    total: u64,
}

/// Sums over what an index must hold, whatever its order.
#[derive(Default, PartialEq, Eq)]
struct Sums {
    conversations: u64,
    ids: u64,
}

/// Spreads a pair of numbers over 64 bits, so that sums of many of them differ when the pairs do.
fn spread(a: u64, position: i64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (position as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Check<'_> {
    fn problem(&mut self, what: impl Into<String>) {
        self.report.problems.push(Problem { file: self.segment.file().to_owned(), what: what.into() });
    }

    /// Whether the small database names the segment now.
    fn is_registered(&self) -> Result<bool, BuildError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM segments WHERE segment = ?1)";
        Ok(self.shared.catalog().query_row(sql, [self.segment.number], |row| row.get(0))?)
    }

    fn run(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), BuildError> {
        let readers = [self.segment.reader()?];
        let [reader] = &readers;
        match File::open(self.segment.file()) {
            Ok(file) if checksum::of_file(&file)? == self.segment.contents => {}
            Ok(_) => self.problem("the checksum of the file does not match"),
            // Replaced by the server meanwhile. What it held is still read, through a connection from before.
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_registered()? => {}
            Err(error) => return Err(error.into()),
        }
        check_database(self.report, self.segment.file(), reader.connection()?);
        let (extents, sums) = self.blocks(reader, progress)?;
        let said = reader.extents()?;
        if said != extents {
            let wrong = said.iter().zip(&extents).find(|(said, found)| said != found);
            let archive = wrong.map(|(said, _)| said.archive);
            self.problem(format!("the extents are not those of the blocks (archive {archive:?})"));
        }
        let entries: u64 = extents.iter().map(|row| u64::from(row.extent.count)).sum();
        let written: i64 =
            reader
                .connection()?
                .query_row("SELECT value FROM meta WHERE name = 'entries'", [], |r| r.get(0))?;
        if entries != self.segment.entries || written.max(0) as u64 != entries {
            let registered = self.segment.entries;
            self.problem(format!(
                "holds {entries} entries, says {written}, and is registered with {registered}"
            ));
        }
        let indexed = self.indexes(&readers)?;
        if indexed.conversations != sums.conversations {
            self.problem("the conversations are not those of the entries");
        }
        if indexed.ids != sums.ids {
            self.problem("the ids are not those of the entries");
        }
        Ok(())
    }

    fn blocks(
        &mut self,
        reader: &Reader<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Vec<ExtentRow>, Sums), BuildError> {
        let mut scratch = Scratch::default();
        let mut sums = Sums::default();
        let mut extents: Vec<ExtentRow> = Vec::new();
        let mut select = reader.connection()?.prepare(BLOCKS)?;
        let mut rows = select.query([])?;
        let mut expected = 1_u32;
        while let Some(row) = rows.next()? {
            let (meta, data) = match BlockMeta::read(row) {
                Ok(read) => read,
                Err(error) => {
                    self.problem(format!("block {expected}: {error}"));
                    expected = expected.saturating_add(1);
                    continue;
                }
            };
            let bytes = meta.bytes;
            if meta.block != expected {
                self.problem(format!("block {expected} is missing"));
            }
            expected = meta.block.saturating_add(1);
            *self.read += u64::from(meta.count);
            if u64::from(meta.block).is_multiple_of(PROGRESS_EVERY) {
                progress(*self.read, self.total);
            }
            let mut last = meta.stamp;
            let (mut held, mut newest) = (0_u64, meta.stamp);
            let mut ordered = true;
            let unpacked = reader.unpack(&meta, data, &mut scratch);
            let checked = unpacked.and_then(|block| {
                block.each(|position, record| {
                    ordered &= record.stamp >= last;
                    (last, newest) = (record.stamp, record.stamp);
                    held += record.stanza.len() as u64;
                    let at = slot(&record, 0, &self.shared.keys);
                    let mixed = |hash: u64| spread(hash ^ u64::from(meta.archive) << 40, position);
                    for contact in [at.contact, at.full].into_iter().filter(|contact| *contact != 0) {
                        sums.conversations = sums.conversations.wrapping_add(mixed(contact as u64));
                    }
                    for id in [at.message, at.foreign].into_iter().filter(|id| *id != 0) {
                        sums.ids = sums.ids.wrapping_add(mixed(u64::from(id)));
                    }
                    crate::format::jid(record.with).map(drop)?;
                    Ok::<_, crate::segment::SegmentError>(())
                })
            });
            if let Err(error) = checked {
                self.problem(error.to_string());
            }
            let before = extents.last().filter(|row| row.archive == meta.archive);
            let place = format!("block {} (archive {}, position {})", meta.block, meta.archive, meta.first);
            if extents.last().is_some_and(|row| row.archive > meta.archive) {
                self.problem(format!("{place} is out of order"));
            }
            if let Some(before) = before {
                if before.extent.next() != meta.first {
                    self.problem(format!("{place} does not follow position {}", before.extent.next() - 1));
                }
                ordered &= before.stamps.1 <= meta.stamp;
            }
            if !ordered {
                self.problem(format!("{place}: stamps go back"));
            }
            if held != bytes || before.map_or(0, |before| before.extent.bytes) != meta.bytes_before {
                self.problem(format!("{place}: its bytes are counted wrongly"));
            }
            let number = self.segment.number;
            match extents.last_mut().filter(|row| row.archive == meta.archive) {
                Some(row) => {
                    row.extent.count += meta.count;
                    row.extent.blocks += 1;
                    row.extent.bytes += bytes;
                    row.stamps.1 = newest;
                }
                None => {
                    let BlockMeta { archive, first, count, block, stamp, .. } = meta;
                    let extent = Extent { segment: number, count, first, block, blocks: 1, bytes };
                    extents.push(ExtentRow { archive, extent, stamps: (stamp, newest) });
                }
            }
        }
        Ok((extents, sums))
    }

    fn indexes(&mut self, readers: &[Reader<'_>]) -> Result<Sums, BuildError> {
        let mut sums = Sums::default();
        let mixed = |archive: u32, hash: u64, position| spread(hash ^ u64::from(archive) << 40, position);
        let mut statements = prepare(readers, CONVERSATIONS)?;
        let mut conversations = Conversations::new(&mut statements, readers)?;
        while let Some((archive, contact)) = conversations.next_key() {
            let (positions, said) = conversations.take(archive, contact)?;
            if positions.len() as i64 != said {
                self.problem(format!(
                    "archive {archive}: a conversation says {said} entries, and has others"
                ));
            }
            if !positions.is_sorted_by(|a, b| a < b) {
                self.problem(format!("archive {archive}: a conversation is out of order"));
            }
            for position in positions {
                sums.conversations =
                    sums.conversations.wrapping_add(mixed(archive, contact as u64, position));
            }
        }
        let mut statements = prepare(readers, IDS)?;
        let mut ids = Ids::new(&mut statements)?;
        while let Some(archive) = ids.next_archive() {
            let mut last = None;
            while let Some(id) = ids.take(archive)? {
                if last.is_some_and(|last| last > id) {
                    self.problem(format!("archive {archive}: ids are out of order"));
                }
                last = Some(id);
                sums.ids = sums.ids.wrapping_add(mixed(archive, u64::from(id.0), id.1));
            }
        }
        self.ranks(readers)?;
        Ok(sums)
    }

    /// That the chunks of long conversations say rightly how many entries stand before them.
    fn ranks(&mut self, readers: &[Reader<'_>]) -> Result<(), BuildError> {
        for reader in readers {
            let sql = "SELECT * FROM chunks ORDER BY archive, contact, first";
            let mut select = reader.connection()?.prepare(sql)?;
            let mut rows = select.query([])?;
            let mut before: Option<((u32, i64), u64)> = None;
            while let Some(row) = rows.next()? {
                let key: (u32, i64) = (row.get(0)?, row.get(1)?);
                let first: i64 = row.get(2)?;
                let (rank, positions) = read_chunk(row)?;
                let expected = before.filter(|(last, _)| *last == key).map_or(0, |(_, rank)| rank);
                if rank != expected || positions.first() != Some(&first) {
                    self.problem(format!("archive {}: a conversation is numbered wrongly", key.0));
                }
                before = Some((key, rank + positions.len() as u64));
            }
        }
        Ok(())
    }
}
