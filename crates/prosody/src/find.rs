//! Finding: Prosody's query over one archive, answered from the store's pages and the marks. How pages are read is
//! left to the store; nothing here changes anything.

use std::ops::Range;
use std::sync::Arc;

use mammoth_archive::jid::Jid;
use mammoth_archive::{
    ArchiveStore, Filter, Head, PageRequest, PageStart, Position, Query, StoreError, StoredEntry, Timestamp,
};
use mammoth_store_embedded::EmbeddedStore;

use crate::Fail;
use crate::block::block_on;
use crate::envelope::{self, Kind};
use crate::lane::Lane;
use crate::marks::{Marks, Moved};

/// The most rows that are read at a time.
pub const CHUNK: usize = 500;
/// How many more entries than wanted are read at once where some of them were deleted.
const SLACK: usize = 16;
/// How often a page is read again because entries expired under it.
const TRIES: u32 = 8;

/// A query, as Prosody's storage API has it.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Only with exactly this `with`.
    pub with: Option<Jid>,
    /// Only of this time or later, in microseconds.
    pub start: Option<i64>,
    /// Only of this time or earlier.
    pub end: Option<i64>,
    /// Only these ids; unknown ones match nothing.
    pub keys: Option<Vec<String>>,
    /// Only these ids; each must be in the archive.
    pub ids: Option<Vec<String>>,
    /// Only after this one.
    pub after: Option<String>,
    /// Only before this one.
    pub before: Option<String>,
    /// Newest first.
    pub reverse: bool,
    /// At most so many.
    pub limit: Option<usize>,
    /// Whether it is to be said how many there are, leaving aside `after`, `before` and `limit`.
    pub total: bool,
}

/// A matching entry.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where it stands.
    pub position: i64,
    /// Its public id.
    pub id: String,
    /// What kind of value it holds.
    pub kind: Kind,
    /// The value's text.
    pub text: bytes::Bytes,
    /// Its time.
    pub when: f64,
    /// Its `with`.
    pub with: String,
    /// Its stamp in the store.
    pub stamp: i64,
    /// Its `with` in the store.
    pub stored_with: Jid,
}

/// A query under way: what is left to be read.
#[derive(Clone, Debug)]
pub struct Walk {
    filter: Match,
    /// Positions not yet passed.
    span: Range<i64>,
    reverse: bool,
    left: Option<usize>,
}

/// What makes an entry match, apart from where it stands.
#[derive(Clone, Debug)]
struct Match {
    with: Option<Jid>,
    start: Option<i64>,
    end: Option<i64>,
    positions: Option<Vec<i64>>,
}

/// Some rows, and what is left.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order asked for.
    pub rows: Vec<Row>,
    /// How many there are in all, if that was asked.
    pub total: Option<u64>,
    /// `None` when there are no more.
    pub rest: Option<Walk>,
}

/// One archive, to read from.
pub struct Reading<'a> {
    /// The store.
    pub store: &'a EmbeddedStore,
    /// The archive.
    pub lane: &'a Lane,
    /// Its marks, as of some moment after which nothing of what was read was appended.
    pub marks: Arc<Marks>,
}

impl Match {
    fn is_all(&self) -> bool {
        self.with.is_none() && self.start.is_none() && self.end.is_none() && self.positions.is_none()
    }

    fn accepts(&self, with: &str, when: i64) -> bool {
        self.with.as_ref().is_none_or(|wanted| wanted.as_str() == with)
            && self.start.is_none_or(|start| when >= start)
            && self.end.is_none_or(|end| when <= end)
    }

    fn filter(&self) -> Filter<Position> {
        Filter {
            with: self.with.clone(),
            start: self.start.map(Timestamp),
            end: self.end.map(Timestamp),
            ..Filter::default()
        }
    }
}

impl<'a> Reading<'a> {
    /// To read what was appended before this call.
    #[must_use]
    pub fn new(store: &'a EmbeddedStore, lane: &'a Lane) -> Reading<'a> {
        let marks = lane.settle();
        Reading { store, lane, marks }
    }

    fn head(&self) -> Result<Head, Fail> {
        Ok(block_on(self.store.head(&self.lane.owner))?)
    }

    /// Where the entry of an id stands; `None` for an id that is unknown, deleted or expired.
    pub fn resolve(&self, id: &str) -> Result<Option<i64>, Fail> {
        let head = self.head()?;
        let stands = |position: i64| head.holds(Position(position)) && !self.marks.is_hidden(position);
        if let Some(position) = self.lane.minted(id)
            && stands(position)
        {
            return Ok(Some(position));
        }
        let found = block_on(self.store.locate(&self.lane.owner, id))?;
        Ok(found.map(|position| position.0).filter(|position| stands(*position)))
    }

    fn resolve_or_not_found(&self, id: &str) -> Result<i64, Fail> {
        self.resolve(id)?.ok_or(Fail::NotFound)
    }

    /// Begins a query.
    ///
    /// # Errors
    /// [`Fail::NotFound`] when `after`, `before` or one of `ids` is not in the archive.
    pub fn begin(&self, ask: &Ask) -> Result<Walk, Fail> {
        let mut positions: Option<Vec<i64>> = None;
        for (ids, must_be) in [(&ask.ids, true), (&ask.keys, false)] {
            let Some(ids) = ids else { continue };
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                match self.resolve(id)? {
                    Some(position) => found.push(position),
                    None if must_be => return Err(Fail::NotFound),
                    None => {}
                }
            }
            found.sort_unstable();
            found.dedup();
            positions = Some(match positions {
                Some(others) => found.into_iter().filter(|p| others.binary_search(p).is_ok()).collect(),
                None => found,
            });
        }
        let head = self.head()?;
        let mut span = head.first.0..head.next.0;
        if let Some(after) = &ask.after {
            span.start = span.start.max(self.resolve_or_not_found(after)? + 1);
        }
        if let Some(before) = &ask.before {
            span.end = span.end.min(self.resolve_or_not_found(before)?);
        }
        span.end = span.end.max(span.start);
        let filter = Match { with: ask.with.clone(), start: ask.start, end: ask.end, positions };
        Ok(Walk { filter, span, reverse: ask.reverse, left: ask.limit })
    }

    /// Answers a query, as far as one chunk.
    pub fn find(&self, ask: &Ask) -> Result<Found, Fail> {
        let walk = self.begin(ask)?;
        let total = if ask.total { Some(self.total(&walk.filter)?) } else { None };
        let (rows, rest) = self.walk(walk)?;
        Ok(Found { rows, total, rest })
    }

    /// How many entries match, wherever they stand.
    fn total(&self, filter: &Match) -> Result<u64, Fail> {
        let head = self.head()?;
        let span = head.first.0..head.next.0;
        if filter.positions.is_some() {
            let walk = Walk { filter: filter.clone(), span, reverse: false, left: None };
            return Ok(self.of_positions(&walk)?.len() as u64);
        }
        let hidden = self.marks.hidden_in(&span);
        if filter.is_all() {
            return Ok(head.count().saturating_sub(hidden.len() as u64));
        }
        let query = Query { filter: filter.filter(), page: PageRequest { max: 0, start: PageStart::First } };
        let mut count = block_on(self.store.page(&self.lane.owner, query))?.count;
        let stored = hidden.iter().filter(|hidden| filter.accepts(&hidden.with, hidden.stamp)).count() as u64;
        count = count.saturating_sub(stored);
        for moved in self.marks.moved_in(&span) {
            count = count.saturating_sub(u64::from(filter.accepts(&moved.with, moved.stamp)));
            count += u64::from(accepts_moved(filter, moved));
        }
        Ok(count)
    }

    /// The next rows.
    pub fn walk(&self, mut walk: Walk) -> Result<(Vec<Row>, Option<Walk>), Fail> {
        let want = walk.left.unwrap_or(CHUNK).min(CHUNK);
        if want == 0 || walk.span.is_empty() {
            return Ok((Vec::new(), None));
        }
        if walk.filter.positions.is_some() {
            let mut rows = self.of_positions(&walk)?;
            if walk.reverse {
                rows.reverse();
            }
            rows.truncate(walk.left.unwrap_or(usize::MAX));
            return Ok((rows, None));
        }
        let mut tries = 0;
        let mut entries = loop {
            match self.chunk(&walk, want) {
                Err(Fail::NotFound) if tries < TRIES => tries += 1,
                entries => break entries?,
            }
        };
        let full = entries.len() >= want;
        entries.truncate(want);
        let Some(last) = entries.last() else { return Ok((Vec::new(), None)) };
        if walk.reverse {
            walk.span.end = last.position.0
        } else {
            walk.span.start = last.position.0 + 1
        }
        walk.left = walk.left.map(|left| left.saturating_sub(entries.len()));
        let more = full && walk.left != Some(0) && !walk.span.is_empty();
        let rows = entries.into_iter().map(|entry| self.row(entry)).collect::<Result<_, _>>()?;
        Ok((rows, more.then_some(walk)))
    }

    /// Up to `want` entries or a few more, in the order asked for.
    fn chunk(&self, walk: &Walk, want: usize) -> Result<Vec<StoredEntry>, Fail> {
        let head = self.head()?;
        let span = walk.span.start.max(head.first.0)..walk.span.end;
        let mut entries = self.unmarked(walk, &head, span.clone(), want)?;
        let moved = self.marks.moved_in(&span);
        if moved.is_empty() {
            return Ok(entries);
        }
        let standing =
            moved.iter().filter(|moved| accepts_moved(&walk.filter, moved)).map(|moved| moved.position);
        let mut positions: Vec<i64> = standing.collect();
        if walk.reverse {
            positions.reverse();
        }
        positions.truncate(want);
        if positions.is_empty() {
            return Ok(entries);
        }
        entries.extend(self.entries(positions)?);
        entries.sort_by_key(|entry| entry.position);
        if walk.reverse {
            entries.reverse();
        }
        Ok(entries)
    }

    /// Entries that stand for what they are stored as.
    fn unmarked(
        &self,
        walk: &Walk,
        head: &Head,
        mut span: Range<i64>,
        want: usize,
    ) -> Result<Vec<StoredEntry>, Fail> {
        let slack = if self.marks.is_empty() { 0 } else { SLACK };
        let mut found: Vec<StoredEntry> = Vec::new();
        loop {
            // Whole runs of deleted entries are not read at all.
            if walk.reverse {
                span.end = self.marks.pass_backwards(span.end);
            } else {
                span.start = self.marks.pass_forwards(span.start);
            }
            if span.start >= span.end || found.len() >= want {
                return Ok(found);
            }
            let filter = Filter {
                after: (span.start > head.first.0).then(|| Position(span.start - 1)),
                before: (span.end < head.next.0).then_some(Position(span.end)),
                ..walk.filter.filter()
            };
            let start = if walk.reverse { PageStart::Last } else { PageStart::First };
            let page = PageRequest { max: want - found.len() + slack, start };
            let page = match block_on(self.store.page(&self.lane.owner, Query { filter, page })) {
                Err(StoreError::NotFound(_)) => return Err(Fail::NotFound),
                page => page?,
            };
            let edge = if walk.reverse { page.entries.first() } else { page.entries.last() };
            let Some(edge) = edge.map(|entry| entry.position.0) else { return Ok(found) };
            let marked =
                |position: i64| self.marks.is_hidden(position) || self.marks.moved(position).is_some();
            let mut entries = page.entries;
            if walk.reverse {
                entries.reverse();
            }
            found.extend(entries.into_iter().filter(|entry| !marked(entry.position.0)));
            if page.complete {
                return Ok(found);
            }
            if walk.reverse { span.end = edge } else { span.start = edge + 1 }
        }
    }

    /// The entries at these positions that match, in order.
    fn of_positions(&self, walk: &Walk) -> Result<Vec<Row>, Fail> {
        let positions = walk.filter.positions.as_deref().unwrap_or_default();
        let wanted = positions.iter().copied().filter(|position| walk.span.contains(position));
        let entries = self.entries(wanted.collect())?.into_iter();
        let matching = entries.filter(|entry| match self.marks.moved(entry.position.0) {
            Some(moved) => accepts_moved(&walk.filter, moved),
            None => walk.filter.accepts(entry.with.as_str(), entry.stamp.0),
        });
        matching.map(|entry| self.row(entry)).collect()
    }

    /// The entries at these positions, in order; those that have gone are left out.
    pub fn entries(&self, mut positions: Vec<i64>) -> Result<Vec<StoredEntry>, Fail> {
        let mut tries = 0;
        loop {
            let head = self.head()?;
            positions.retain(|position| head.holds(Position(*position)));
            if positions.is_empty() {
                return Ok(Vec::new());
            }
            let ids = Some(positions.iter().map(|position| Position(*position)).collect());
            let filter = Filter { ids, ..Filter::default() };
            let page = PageRequest { max: positions.len(), start: PageStart::First };
            match block_on(self.store.page(&self.lane.owner, Query { filter, page })) {
                Err(StoreError::NotFound(_)) if tries < TRIES => tries += 1,
                page => return Ok(page?.entries),
            }
        }
    }

    /// An entry as Prosody is to see it.
    pub fn row(&self, entry: StoredEntry) -> Result<Row, Fail> {
        let StoredEntry { position, with, stamp, stanza, foreign_id, .. } = entry;
        let value = envelope::read(&stanza, stamp.0, &with);
        let value =
            value.ok_or_else(|| StoreError::corrupt(format!("the value at {position} cannot be read")))?;
        let id = foreign_id.unwrap_or_else(|| self.lane.mint.id(position).as_str().to_owned());
        let envelope::Value { kind, text, when, with: was_with } = value;
        Ok(Row {
            position: position.0,
            id,
            kind,
            text,
            when,
            with: was_with,
            stamp: stamp.0,
            stored_with: with,
        })
    }
}

fn accepts_moved(filter: &Match, moved: &Moved) -> bool {
    filter.accepts(&moved.now_with, moved.when)
}

impl Ask {
    /// The end, if nothing else is asked.
    #[must_use]
    pub fn only_end(&self) -> Option<i64> {
        let Ask { with, start, end, keys, ids, after, before, .. } = self;
        let nothing = with.is_none()
            && start.is_none()
            && keys.is_none()
            && ids.is_none()
            && after.is_none()
            && before.is_none();
        end.filter(|_| nothing)
    }
}
