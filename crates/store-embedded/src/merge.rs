//! Merges: neighbouring segments become one, on a thread of its own, so that a quiet owner's page touches few
//! files. What has expired is left out and tombstones are folded in on the way; packed blocks are mostly taken
//! over as they are. Which entries have expired is said by `state`; making the file is left to `build`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mammoth_archive::StoreError;

use crate::block::Scratch;
use crate::build::{BuildError, Builder, Built};
use crate::format::Record;
use crate::hook::Step;
use crate::merge_blocks::{BLOCK, BLOCKS, BlockCursor, BlockRow, LastStamp};
use crate::merge_index::{CONVERSATIONS, Conversations, IDS, Ids, prepare};
use crate::pack::{Packer, SAMPLES_MAX, Samples};
use crate::plan::{Plan, choose};
use crate::rows::SegmentRow;
use crate::seal::{BATCH, finish, unmade};
use crate::segment::{BlockMeta, Dictionary, ExtentRow, Reader, Segment};
use crate::state::Overrides;
use crate::{RETRY_PAUSE, Shared, WriteError, purge};

/// With more dictionaries than this a merged segment gets one of its own instead.
const DICTIONARIES_MAX: usize = 64;
/// How many blocks of a segment are looked at to train a new dictionary.
const SAMPLED_BLOCKS_MAX: u32 = 20_000;
/// How many blocks are taken over before looking whether the store closes.
const LOOK_UP_EVERY: u32 = 256;
/// So long at most a merge stands aside for a seal each time it looks: both together would take two processors from the
/// writer, and a merge can wait …
const ASIDE_MAX: Duration = Duration::from_secs(1);
/// … unless there are so many segments. Seven of each level are usual.
const SEGMENTS_MANY: usize = 32;

enum Job {
    Merge,
    Purge(purge::Request),
}

/// Merges, rewrites and purges until the store closes.
pub fn run(shared: &Shared) {
    while let Some(job) = next_job(shared) {
        match job {
            Job::Purge(request) => request.carry_out(shared),
            Job::Merge => match merge_once(shared) {
                Ok(false) => {}
                Ok(true) => shared.work_mut(|work| work.merging = true),
                Err(BuildError::Write(WriteError::Closed | WriteError::Poisoned(_))) => {}
                Err(error) => {
                    tracing::error!(%error, "segments could not be merged; it will be tried again");
                    shared.work_mut(|work| work.merge_failed = Some(error.to_string()));
                    shared.pause(RETRY_PAUSE, |work| !work.purges.is_empty());
                    shared.work_mut(|work| work.merging = true);
                }
            },
        }
    }
}

fn next_job(shared: &Shared) -> Option<Job> {
    let mut work = shared.work.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if work.closing {
            return None;
        }
        if let Some(request) = work.purges.pop() {
            return Some(Job::Purge(request));
        }
        if std::mem::take(&mut work.merging) {
            return Some(Job::Merge);
        }
        if let Some(why) = work.seal_failed.clone() {
            let why = WriteError::Disk(why);
            for waiter in work.idle_waiters.drain(..) {
                drop(waiter.send(Err(StoreError::unavailable(why.clone()))));
            }
        } else if shared.state().frozen.is_empty() {
            for waiter in work.idle_waiters.drain(..) {
                drop(waiter.send(Ok(())));
            }
        }
        work = shared.worked.wait(work).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Does the most useful merge, if one is. Answers whether there was one.
fn merge_once(shared: &Shared) -> Result<bool, BuildError> {
    let Some(plan) = choose(shared) else { return Ok(false) };
    if plan.sources.iter().all(|segment| segment.live() == 0) {
        let old: Vec<u32> = plan.sources.iter().map(|segment| segment.number).collect();
        shared.register(None, &old, &[], None)?;
        retire(shared, &plan.sources);
        shared.hook(Step::Replaced)?;
    } else {
        merge(shared, &plan, None)?;
    }
    Ok(true)
}

/// An archive, as of the beginning of a merge.
struct Keep {
    archive: u32,
    first: i64,
    overrides: Option<Arc<Overrides>>,
}

/// What is kept of each archive: those that the sources hold, by number.
struct Kept(Vec<Keep>);

impl Kept {
    fn new(shared: &Shared, rows: &[Vec<LastStamp>]) -> Kept {
        let mut archives: Vec<u32> = rows.iter().flatten().map(|(archive, _)| *archive).collect();
        archives.sort_unstable();
        archives.dedup();
        let mut kept = Vec::with_capacity(archives.len());
        for batch in archives.chunks(BATCH) {
            let state = shared.state();
            for &archive in batch {
                if let Some(known) = state.archive(archive) {
                    kept.push(Keep { archive, first: known.first, overrides: known.overrides.clone() });
                }
            }
        }
        Kept(kept)
    }

    fn of(&self, archive: u32) -> Option<&Keep> {
        let at = self.0.binary_search_by_key(&archive, |keep| keep.archive).ok()?;
        self.0.get(at)
    }

    /// Where an archive begins; what it holds not at all begins nowhere.
    fn first(&self, archive: u32) -> i64 {
        self.of(archive).map_or(i64::MAX, |keep| keep.first)
    }
}

/// Makes one segment of several, or of one, in which nothing is left of `purged`.
pub fn merge(shared: &Shared, plan: &Plan, purged: Option<u32>) -> Result<(), BuildError> {
    let number = shared.new_segment_number();
    let readers: Vec<Reader<'_>> =
        plan.sources.iter().map(|segment| segment.reader()).collect::<Result<_, _>>()?;
    let mut rows: Vec<Vec<LastStamp>> = Vec::with_capacity(readers.len());
    for reader in &readers {
        rows.push(reader.extents()?.iter().map(|row| (row.archive, row.stamps.1)).collect());
    }
    let kept = Kept::new(shared, &rows);
    let mut builder = Builder::create(&shared.dir, number)?;
    let mut merge = Merge { shared, readers: &readers, kept: &kept, folded: Vec::new(), steps: 0 };
    let filled = merge.fill(&mut builder, &rows, purged);
    let folded = merge.folded;
    if let Err(error) = filled {
        builder.discard();
        return Err(error);
    }
    drop(readers);
    let done = finish(shared, builder).and_then(|built| replace(shared, plan, number, &built, &folded));
    let done = done.inspect_err(|error| unmade(shared, number, error));
    done.map(|built| tracing::debug!(segment = number, built, level = plan.level, "merged"))
}

fn replace(
    shared: &Shared,
    plan: &Plan,
    number: u32,
    built: &Built,
    folded: &[(u32, i64, i64)],
) -> Result<u64, BuildError> {
    let old: Vec<u32> = plan.sources.iter().map(|segment| segment.number).collect();
    let place = plan.sources.first().map_or(0, |segment| segment.place);
    let row = SegmentRow {
        segment: number,
        place,
        level: plan.level,
        entries: built.entries,
        contents: built.contents,
    };
    let segment = if built.entries > 0 { Some(Segment::open(&shared.dir, row)?) } else { None };
    shared.register(segment.as_ref().map(|_| row), &old, folded, None)?;
    if let Some(segment) = segment {
        shared.state_mut().segments.insert(number, Arc::new(segment));
    } else {
        std::fs::remove_file(crate::segment::path(&shared.dir, number))?;
    }
    // Archive by archive: each is found either in the old ones or in the new one.
    let new: HashMap<u32, &ExtentRow> = built.extents.iter().map(|row| (row.archive, row)).collect();
    let known = shared.state().next_number();
    let archives: Vec<u32> = (0..known).collect();
    for batch in archives.chunks(BATCH) {
        let mut state = shared.state_mut();
        for &archive in batch {
            let extent = new.get(&archive).map(|row| row.extent);
            if extent.is_some() || state.is_in(archive, &old) {
                state.replace_extents(archive, &old, extent);
            }
        }
    }
    shared.folded(folded);
    retire(shared, &plan.sources);
    shared.hook(Step::Replaced)?;
    Ok(built.entries)
}

/// Forgets segments that were replaced; their files go when nobody reads them any more.
fn retire(shared: &Shared, segments: &[Arc<Segment>]) {
    for segment in segments {
        segment.retire();
        let gone = shared.state_mut().segments.remove(&segment.number);
        drop(gone); // outside the lock
    }
}

struct Merge<'a> {
    shared: &'a Shared,
    readers: &'a [Reader<'a>],
    kept: &'a Kept,
    folded: Vec<(u32, i64, i64)>,
    steps: u32,
}

/// From a source and the number of a dictionary there to its number in the new segment; what is missing is packed
/// anew.
type Dictionaries = HashMap<(usize, u32), u32>;

impl Merge<'_> {
    fn fill(
        &mut self,
        builder: &mut Builder,
        rows: &[Vec<LastStamp>],
        purged: Option<u32>,
    ) -> Result<(), BuildError> {
        let mut scratch = Scratch::default();
        let (dictionaries, mut packer) = self.dictionaries(builder, purged, &mut scratch)?;
        self.blocks(builder, rows, &dictionaries, &mut packer, &mut scratch)?;
        let kept = self.kept;
        let mut statements = prepare(self.readers, CONVERSATIONS)?;
        let mut conversations = Conversations::new(&mut statements, self.readers)?;
        while let Some((archive, contact)) = conversations.next_key() {
            let first = kept.first(archive);
            let (positions, _) = conversations.take(archive, contact)?;
            let positions = positions.into_iter().filter(|position| *position >= first);
            builder.add_conversation(archive, contact, positions.map(Ok::<_, BuildError>))?;
            self.look_up()?;
        }
        let mut statements = prepare(self.readers, IDS)?;
        let mut ids = Ids::new(&mut statements)?;
        while let Some(archive) = ids.next_archive() {
            let first = kept.first(archive);
            let of_archive = std::iter::from_fn(|| ids.take(archive).transpose());
            let left = of_archive.filter(|id| id.as_ref().map_or(true, |(_, position)| *position >= first));
            builder.add_ids(archive, left)?;
            self.look_up()?;
        }
        Ok(())
    }

    /// Stops when the store closes, and lets a seal go first.
    fn look_up(&mut self) -> Result<(), BuildError> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(LOOK_UP_EVERY) {
            self.shared.go_on()?;
            self.shared.pause(ASIDE_MAX, |work| {
                let state = self.shared.state();
                work.seal_failed.is_some() || state.frozen.is_empty() || state.segments.len() >= SEGMENTS_MANY
            });
        }
        Ok(())
    }

    /// Decides which dictionaries are taken over, and under which what is packed anew will be.
    fn dictionaries(
        &self,
        builder: &mut Builder,
        purged: Option<u32>,
        scratch: &mut Scratch,
    ) -> Result<(Dictionaries, Packer), BuildError> {
        let mut all: Vec<(usize, Dictionary)> = Vec::new();
        for (source, reader) in self.readers.iter().enumerate() {
            all.extend(reader.dictionaries()?.into_iter().map(|dictionary| (source, dictionary)));
        }
        let too_many = all.len() > DICTIONARIES_MAX;
        let tainted =
            |dictionary: &Dictionary| purged.is_some_and(|archive| dictionary.sampled.contains(&archive));
        let mut taken = Dictionaries::new();
        let mut newest = None;
        for (source, dictionary) in &all {
            if !too_many && !tainted(dictionary) {
                let number = builder.add_dictionary(&dictionary.data, &dictionary.sampled_bytes)?;
                taken.insert((*source, dictionary.number), number);
                newest = Some((number, dictionary));
            }
        }
        let packer = if taken.len() < all.len() {
            builder.train(&self.samples(&taken, scratch)?)?
        } else {
            match newest {
                Some((number, dictionary)) => Packer::new(number, Some(&dictionary.data))?,
                None => Packer::new(0, None)?,
            }
        };
        Ok((taken, packer))
    }

    /// Entries from all over the blocks that are to be packed anew.
    fn samples(&self, taken: &Dictionaries, scratch: &mut Scratch) -> Result<Samples, BuildError> {
        let mut samples = Samples::default();
        for (source, reader) in self.readers.iter().enumerate() {
            let connection = reader.connection()?;
            let blocks: u32 =
                connection.query_row("SELECT coalesce(max(block), 0) FROM blocks", [], |row| row.get(0))?;
            let every = (blocks / SAMPLED_BLOCKS_MAX).max(1);
            let mut select = connection.prepare(BLOCK)?;
            let mut block = 1;
            while block <= blocks && samples.len() < SAMPLES_MAX {
                let mut rows = select.query([block])?;
                block = block.saturating_add(every);
                let Some(row) = rows.next()? else { continue };
                let (meta, data) = BlockMeta::read(row)?;
                if meta.dictionary == 0 || taken.contains_key(&(source, meta.dictionary)) {
                    continue;
                }
                let first = self.kept.first(meta.archive);
                reader.unpack(&meta, data, scratch)?.each(|position, record| {
                    if position >= first && (position - meta.first) % 4 == 0 {
                        samples.add(meta.archive, &record);
                    }
                    Ok::<_, BuildError>(())
                })?;
            }
        }
        Ok(samples)
    }

    fn blocks(
        &mut self,
        builder: &mut Builder,
        rows: &[Vec<LastStamp>],
        dictionaries: &Dictionaries,
        packer: &mut Packer,
        scratch: &mut Scratch,
    ) -> Result<(), BuildError> {
        let mut statements = Vec::with_capacity(self.readers.len());
        for reader in self.readers {
            statements.push(reader.connection()?.prepare(BLOCKS)?);
        }
        let mut cursors = Vec::with_capacity(statements.len());
        for (statement, rows) in statements.iter_mut().zip(rows) {
            cursors.push(BlockCursor { rows: statement.query([])?, last_stamps: rows.iter(), head: None });
        }
        for cursor in &mut cursors {
            cursor.advance()?;
        }
        loop {
            let next = cursors
                .iter()
                .enumerate()
                .filter_map(|(i, cursor)| Some((cursor.head.as_ref()?.meta.archive, i)));
            let Some((_, source)) = next.min() else { return Ok(()) };
            let Some(cursor) = cursors.get_mut(source) else { return Ok(()) };
            if let Some(head) = &cursor.head {
                self.take_block(builder, source, head, dictionaries, packer, scratch)?;
            }
            cursor.advance()?;
            self.look_up()?;
        }
    }

    fn take_block(
        &mut self,
        builder: &mut Builder,
        source: usize,
        head: &BlockRow,
        dictionaries: &Dictionaries,
        packer: &mut Packer,
        scratch: &mut Scratch,
    ) -> Result<(), BuildError> {
        let BlockRow { meta, last_stamp, data } = head;
        let Some(keep) = self.kept.of(meta.archive) else { return Ok(()) };
        if meta.next() <= keep.first {
            return Ok(());
        }
        let span = meta.first..meta.next();
        let overridden = keep.overrides.as_deref().is_some_and(|all| all.range(span).next().is_some());
        let number = if meta.dictionary == 0 {
            Some(0)
        } else {
            dictionaries.get(&(source, meta.dictionary)).copied()
        };
        if let Some(number) = number
            && meta.first >= keep.first
            && !overridden
        {
            let place = (meta.first, meta.count);
            return builder.add_packed(
                meta.archive,
                place,
                (meta.stamp, *last_stamp),
                meta.bytes,
                number,
                data,
            );
        }
        let Some(reader) = self.readers.get(source) else { return Ok(()) };
        let block = reader.unpack(meta, data, scratch)?;
        let mut records: Vec<Record<'_>> = Vec::with_capacity(meta.count as usize);
        block.each(|position, record| {
            if position >= keep.first {
                records.push(record);
            }
            Ok::<_, BuildError>(())
        })?;
        let mut at = meta.first.max(keep.first);
        if let Some(overrides) = &keep.overrides {
            for (position, record) in (at..).zip(&mut records) {
                if let Some((change, tombstone)) = overrides.get(&position) {
                    (record.stanza, record.retracted) = (tombstone, true);
                    self.folded.push((meta.archive, position, *change));
                }
            }
        }
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let taken = builder.add_block(meta.archive, at, rest, packer)?;
            at += taken as i64;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }
}
