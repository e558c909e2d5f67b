//! Reading: a query, answered from a snapshot of one archive. It takes no lock for longer than it takes to look
//! into a memory table, and never waits for the writer, a seal or a merge. Paging itself is computed by
//! `mammoth_archive::PageRequest::window`.

use std::ops::Range;

use bytes::Bytes;
use mammoth_archive::jid::Jid;
use mammoth_archive::{Cut, Filter, Page, Position, Query, StoreError, StoredEntry};

use crate::block::{Block, Scratch};
use crate::format::{Damaged, Keys};
use crate::memtable::stored;
use crate::segment::SegmentError;
use crate::snapshot::{Place, Snapshot};
use crate::sources::Conversation;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A memory table is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A segment could not be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> StoreError {
        match &error {
            ReadError::Damaged(_)
            | ReadError::Segment(
                SegmentError::Damaged(_) | SegmentError::Version { .. } | SegmentError::Missing(_),
            ) => StoreError::corrupt(error),
            ReadError::Segment(SegmentError::Sqlite { source, .. }) => match source.sqlite_error_code() {
                // What SQLite can read but is of another type or shape than what was written.
                None | Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                    StoreError::corrupt(error)
                }
                Some(_) => StoreError::unavailable(error),
            },
        }
    }
}

/// What reading answers.
pub type Result<T, E = ReadError> = std::result::Result<T, E>;

/// The part of `a` that lies in `b`.
pub fn common(a: &Range<i64>, b: &Range<i64>) -> Range<i64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

/// Reads one archive as of one moment.
pub struct Reading<'a> {
    /// The moment.
    pub snapshot: &'a Snapshot,
    /// The store's hash.
    pub keys: &'a Keys,
    /// Room to decompress.
    pub scratch: &'a mut Scratch,
}

impl Reading<'_> {
    /// Answers a query.
    pub fn page(&mut self, query: &Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        let head = self.snapshot.head;
        for &position in query.named() {
            if !head.holds(position) {
                return Err(StoreError::NotFound(position));
            }
        }
        let span = self.span(&query.filter)?;
        if let Some(ids) = &query.filter.ids {
            return self.page_of_ids(query, ids, &span);
        }
        let Some(with) = &query.filter.with else {
            let count = span.end.saturating_sub(span.start).max(0) as u64;
            let window = query.page.window(count, |position| {
                let rank = position.0.clamp(span.start, span.end).saturating_sub(span.start);
                Ok::<_, StoreError>(rank as u64)
            })?;
            let at = |rank: u64| span.start.saturating_add_unsigned(rank);
            let entries = self.span_entries(&(at(window.ranks.start)..at(window.ranks.end)))?;
            return Ok(Page { entries, count, index: window.ranks.start, complete: window.complete });
        };
        let conversation = Conversation::new(self.snapshot, self.keys.contact(with.as_str()), &span)?;
        let count = conversation.count();
        let window =
            query.page.window(count, |position| conversation.rank(position.0).map_err(StoreError::from))?;
        let positions = conversation.select(window.ranks.clone())?;
        if positions.len() as u64 != window.ranks.end.saturating_sub(window.ranks.start) {
            return Err(StoreError::corrupt(Damaged::new("a conversation has fewer entries than it counts")));
        }
        let entries = self.entries(&positions)?;
        if let Some(stranger) = entries.iter().find(|entry| !matches(with, &entry.with)) {
            let what = format!("position {} is in a conversation it does not belong to", stranger.position);
            return Err(StoreError::corrupt(Damaged::new(what)));
        }
        Ok(Page { entries, count, index: window.ranks.start, complete: window.complete })
    }

    fn page_of_ids(
        &mut self,
        query: &Query<Position>,
        ids: &[Position],
        span: &Range<i64>,
    ) -> Result<Page<StoredEntry>, StoreError> {
        let mut positions: Vec<i64> = ids.iter().map(|id| id.0).filter(|id| span.contains(id)).collect();
        positions.sort_unstable();
        positions.dedup();
        let mut matching = self.entries(&positions)?;
        if let Some(with) = &query.filter.with {
            matching.retain(|entry| matches(with, &entry.with));
        }
        let count = matching.len() as u64;
        let window = query.page.window(count, |position| {
            Ok::<_, StoreError>(matching.partition_point(|entry| entry.position < position) as u64)
        })?;
        let wanted =
            usize::try_from(window.ranks.end.saturating_sub(window.ranks.start)).unwrap_or(usize::MAX);
        let from = usize::try_from(window.ranks.start).unwrap_or(usize::MAX);
        let entries = matching.into_iter().skip(from).take(wanted).collect();
        Ok(Page { entries, count, index: window.ranks.start, complete: window.complete })
    }

    /// The positions that `after`, `before`, `start` and `end` leave.
    fn span(&mut self, filter: &Filter<Position>) -> Result<Range<i64>> {
        let span = filter.span(self.snapshot.head.range());
        let mut span = span.start.0..span.end.0;
        if let Some(start) = filter.start {
            span.start = span.start.max(self.lower_bound(start.0)?);
        }
        if let Some(end) = filter.end
            && let Some(past) = end.0.checked_add(1)
        {
            span.end = span.end.min(self.lower_bound(past)?);
        }
        span.end = span.end.max(span.start);
        Ok(span)
    }

    /// The first position whose stamp is `stamp` or later.
    pub fn lower_bound(&mut self, stamp: i64) -> Result<i64> {
        // The newest source that begins before the stamp holds the boundary; so mostly the last ones are asked.
        for source in self.snapshot.sources.iter().rev() {
            let at = source.lower_bound(self.snapshot.archive, &source.span, stamp, self.scratch)?;
            if at > source.span.start {
                return Ok(at);
            }
        }
        Ok(self.snapshot.head.first.0)
    }

    /// The stamp of an entry.
    pub fn stamp(&mut self, position: i64) -> Result<Option<i64>> {
        let found = self.span_entries(&(position..position.saturating_add(1)))?;
        Ok(found.first().map(|entry| entry.stamp.0))
    }

    /// The entries of a span, in order.
    pub fn span_entries(&mut self, span: &Range<i64>) -> Result<Vec<StoredEntry>> {
        let mut entries = Vec::with_capacity(span.end.saturating_sub(span.start).clamp(0, 1000) as usize);
        for source in &self.snapshot.sources {
            let part = common(&source.span, span);
            if part.is_empty() {
                continue;
            }
            let overrides = self.snapshot.overrides.as_deref();
            match &source.place {
                Place::Memory(table) => table.each(self.snapshot.archive, &part, |position, _, record| {
                    entries.push(stored(position, &record, entries.last())?);
                    Ok::<_, ReadError>(())
                })?,
                Place::Segment(segment, extent) => {
                    let reader = segment.reader()?;
                    let mut block = reader.block_at(extent, part.start, self.scratch)?;
                    loop {
                        self.is_ours(&block)?;
                        block.each(|position, record| {
                            if part.contains(&position) {
                                entries.push(stored(position, &record, entries.last())?);
                            }
                            Ok::<_, ReadError>(())
                        })?;
                        if block.next() >= part.end {
                            break;
                        }
                        let next = reader.block(block.number.saturating_add(1), self.scratch)?;
                        if next.first != block.next() {
                            let what = format!("no block follows position {}", block.next() - 1);
                            return Err(Damaged::new(what).into());
                        }
                        block = next;
                    }
                }
            }
            if let Some(overrides) = overrides {
                for entry in &mut entries {
                    if let Some((_, tombstone)) = overrides.get(&entry.position.0) {
                        put_tombstone(entry, tombstone);
                    }
                }
            }
        }
        Ok(entries)
    }

    /// The entries at these positions, which are in order and present.
    fn entries(&mut self, positions: &[i64]) -> Result<Vec<StoredEntry>> {
        let mut entries = Vec::with_capacity(positions.len());
        let mut left = positions;
        for source in &self.snapshot.sources {
            let here = left.partition_point(|position| *position < source.span.end);
            let (mine, rest) = left.split_at(here);
            left = rest;
            if mine.is_empty() {
                continue;
            }
            match &source.place {
                Place::Memory(table) => {
                    for position in mine {
                        entries.extend(table.entry(self.snapshot.archive, *position, entries.last())?);
                    }
                }
                Place::Segment(segment, extent) => {
                    let reader = segment.reader()?;
                    for position in mine {
                        let block = reader.block_at(extent, *position, self.scratch)?;
                        self.is_ours(&block)?;
                        block.each(|at, record| {
                            if at == *position {
                                entries.push(stored(at, &record, entries.last())?);
                            }
                            Ok::<_, ReadError>(())
                        })?;
                    }
                }
            }
        }
        if let Some(overrides) = &self.snapshot.overrides {
            for entry in &mut entries {
                if let Some((_, tombstone)) = overrides.get(&entry.position.0) {
                    put_tombstone(entry, tombstone);
                }
            }
        }
        Ok(entries)
    }

    /// That a block holds entries of this archive: whatever is wrong elsewhere, nobody reads another's.
    fn is_ours(&self, block: &Block) -> Result<(), Damaged> {
        if block.archive == self.snapshot.archive {
            return Ok(());
        }
        let (number, archive) = (block.number, self.snapshot.archive);
        Err(Damaged::new(format!("block {number} is not of archive {archive}, though it should be")))
    }

    /// As [`mammoth_archive::ArchiveStore::find`], of an id's hash.
    pub fn find(&mut self, hash: u32, limit: usize) -> Result<Vec<Position>> {
        let mut found = Vec::new();
        for source in self.snapshot.sources.iter().rev() {
            if found.len() >= limit {
                break;
            }
            found.extend(source.find(self.snapshot.archive, hash, limit.saturating_sub(found.len()))?);
        }
        Ok(found.into_iter().map(Position).collect())
    }

    /// As [`mammoth_archive::ArchiveStore::locate`].
    pub fn locate(&mut self, foreign_id: &str) -> Result<Option<Position>> {
        let candidates = self.find(self.keys.foreign(foreign_id), usize::MAX)?;
        for position in candidates {
            let entry = self.entries(&[position.0])?;
            if entry.first().is_some_and(|entry| entry.foreign_id.as_deref() == Some(foreign_id)) {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// Where an archive begins after a cut, and the stamp there.
    pub fn cut(&mut self, cut: Cut) -> Result<(i64, Option<i64>)> {
        let head = self.snapshot.head;
        let (first, next) = (head.first.0, head.next.0);
        let at = match cut {
            Cut::Before(stamp) => self.lower_bound(stamp.0)?,
            Cut::Through(position) => position.0.saturating_add(1),
            Cut::KeepNewest(count) => next.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)),
            Cut::KeepBytes(bytes) => self.keep_bytes(bytes)?,
        };
        let at = at.clamp(first, next);
        let stamp = if at < next { self.stamp(at)? } else { None };
        Ok((at, stamp))
    }

    fn keep_bytes(&mut self, bytes: u64) -> Result<i64> {
        // Tombstones not yet folded in change sizes: count those archives by hand.
        if self.snapshot.overrides.is_some() {
            return self.keep_bytes_of_each(bytes);
        }
        let mut left = bytes;
        let mut at = self.snapshot.head.next.0;
        for source in self.snapshot.sources.iter().rev() {
            let (from, kept) = source.keep_bytes(self.snapshot.archive, left, self.scratch)?;
            at = from;
            if from > source.span.start {
                break;
            }
            left = left.saturating_sub(kept);
        }
        Ok(at)
    }

    fn keep_bytes_of_each(&mut self, bytes: u64) -> Result<i64> {
        const STEP: i64 = 1000;
        let head = self.snapshot.head;
        let (mut at, mut left) = (head.next.0, bytes);
        while at > head.first.0 {
            let from = at.saturating_sub(STEP).max(head.first.0);
            for entry in self.span_entries(&(from..at))?.iter().rev() {
                let size = entry.stanza.len() as u64;
                if size > left {
                    return Ok(at);
                }
                left -= size;
                at = entry.position.0;
            }
        }
        Ok(at)
    }
}

fn put_tombstone(entry: &mut StoredEntry, tombstone: &Bytes) {
    entry.stanza = tombstone.clone();
    entry.retracted = true;
}

/// Whether the `with` of an entry answers to the `with` of a query (XEP-0313 §4.1.1).
fn matches(wanted: &Jid, with: &Jid) -> bool {
    if wanted.is_bare() { crate::format::bare(with.as_str()) == wanted.as_str() } else { with == wanted }
}
