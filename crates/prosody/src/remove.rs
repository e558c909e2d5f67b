//! Removing: what Prosody asks to be deleted, truncated or replaced. The oldest entries go as the store lets entries
//! go; what goes from the middle leaves its place behind, marked, with nothing in it.

use std::sync::Arc;

use bytes::Bytes;
use mammoth_archive::{ArchiveStore, Cut, Filter, PageRequest, PageStart, Position, Query, Timestamp};
use mammoth_store_embedded::EmbeddedStore;

use crate::Fail;
use crate::block::block_on;
use crate::envelope::{self, Value};
use crate::find::{Ask, Reading, Row};
use crate::keeper::Keeper;
use crate::lane::{Lane, Replaced};
use crate::marks::{Hidden, Mark, Moved};
use crate::names;

/// Marks are written anew once there are so many more lines than marks.
const LINES_SPARE: usize = 256;

/// One archive, to change.
pub struct Changing<'a> {
    /// The store.
    pub store: &'a EmbeddedStore,
    /// Who makes it durable.
    pub keeper: &'a Keeper,
    /// The archive.
    pub lane: &'a Arc<Lane>,
}

/// Which of the matching entries stay all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None.
    None,
    /// The newest so many.
    Newest(usize),
    /// The oldest so many.
    Oldest(usize),
}

/// New time and `with`; `None` keeps what there is.
#[derive(Debug, Default)]
pub struct Change {
    /// The kind and text of the value.
    pub value: Option<(envelope::Kind, Bytes)>,
    /// The time.
    pub when: Option<f64>,
    /// The `with`.
    pub with: Option<String>,
}

impl Changing<'_> {
    fn reading(&self) -> Reading<'_> {
        Reading::new(self.store, self.lane)
    }

    /// Deletes what matches, durably. Answers how many went.
    pub fn delete(&self, ask: &Ask, keep: Keep) -> Result<u64, Fail> {
        let changing = self.lane.changing();
        let by_place = ask.with.is_none()
            && ask.start.is_none()
            && ask.keys.is_none()
            && ask.ids.is_none()
            && ask.after.is_none();
        let mut gone = 0;
        let alone = ask.end.is_none() && ask.before.is_none();
        let simple = match keep {
            Keep::None => by_place,
            Keep::Newest(_) => by_place && alone,
            Keep::Oldest(_) => false,
        };
        if simple {
            let (went, all) = self.delete_oldest(ask, keep)?;
            gone += went;
            if all {
                drop(changing);
                return Ok(gone);
            }
        }
        let mut ask = ask.clone();
        if gone > 0 {
            // What it named may be among what has gone; the rest of the query says the same without it.
            ask.after = None;
        }
        gone += self.delete_each(&ask, if simple { Keep::None } else { keep })?;
        drop(changing);
        Ok(gone)
    }

    /// Lets the oldest entries go, as long as all of them match. Answers how many went, and whether nothing is left
    /// that matches.
    fn delete_oldest(&self, ask: &Ask, keep: Keep) -> Result<(u64, bool), Fail> {
        let reading = self.reading();
        let head = block_on(self.store.head(&self.lane.owner))?;
        let (first, next) = (head.first.0, head.next.0);
        let mut to = next;
        let mut all = true;
        if let Some(before) = &ask.before {
            to = to.min(reading.resolve(before)?.ok_or(Fail::NotFound)?);
        }
        if let Some(end) = ask.end {
            let filter = Filter { end: Some(Timestamp(end)), ..Filter::default() };
            let query = Query { filter, page: PageRequest { max: 0, start: PageStart::First } };
            let count = block_on(self.store.page(&self.lane.owner, query))?.count;
            to = to.min(first.saturating_add_unsigned(count));
            if let Some(stays) = reading.marks.moved_in(&(first..to)).iter().find(|moved| moved.when > end) {
                to = stays.position;
                all = false;
            }
            // Entries stored under a later time than they stand for.
            all &= reading.marks.moved_in(&(to..next)).iter().all(|moved| moved.when > end);
        }
        if let Keep::Newest(count) = keep {
            to = newest(&reading, first..next, count);
        }
        let deleted = reading.marks.hidden_in(&(first..to)).len() as u64;
        if to <= first {
            return Ok((0, all));
        }
        let went = block_on(self.store.expire(&self.lane.owner, Cut::Through(Position(to - 1))))?;
        self.forget_before(to)?;
        Ok((went.saturating_sub(deleted), all))
    }

    /// Deletes what matches one by one.
    fn delete_each(&self, ask: &Ask, keep: Keep) -> Result<u64, Fail> {
        let reading = self.reading();
        let ask = Ask { reverse: false, limit: None, total: false, ..ask.clone() };
        let mut walk = Some(reading.begin(&ask)?);
        let mut going: Vec<Hidden> = Vec::new();
        while let Some(here) = walk {
            let (rows, rest) = reading.walk(here)?;
            going.extend(rows.iter().map(hidden));
            walk = rest;
        }
        match keep {
            Keep::None => {}
            Keep::Newest(count) => going.truncate(going.len().saturating_sub(count)),
            Keep::Oldest(count) => drop(going.drain(..count.min(going.len()))),
        }
        drop(reading);
        let gone = going.len() as u64;
        self.hide(going)?;
        Ok(gone)
    }

    /// Marks entries as deleted, takes out what they held, and lets them go altogether if no entry stands before
    /// them.
    fn hide(&self, going: Vec<Hidden>) -> Result<(), Fail> {
        if going.is_empty() {
            return Ok(());
        }
        let head = block_on(self.store.head(&self.lane.owner))?;
        let marks = self.lane.state().marks.clone();
        // The first position that stays.
        let mut first = head.first.0;
        let mut left = going.iter().map(|hidden| hidden.position).peekable();
        loop {
            let passed = marks.pass_forwards(first);
            let goes = left.next_if(|position| *position == passed).is_some();
            if !goes {
                first = passed;
                break;
            }
            first = passed + 1;
        }
        let middle: Vec<Hidden> = going.into_iter().filter(|hidden| hidden.position >= first).collect();
        let emptied: Vec<(Position, Bytes)> =
            middle.iter().map(|hidden| (Position(hidden.position), Bytes::new())).collect();
        self.mark(None, middle.into_iter().map(Mark::Hidden).collect())?;
        block_on(self.store.retract_all(&self.lane.owner, emptied))?;
        if first > head.first.0 {
            block_on(self.store.expire(&self.lane.owner, Cut::Through(Position(first - 1))))?;
            self.forget_before(first)?;
        }
        self.tidy_marks()
    }

    /// Takes marks in, durably.
    fn mark(&self, only_if: Option<i64>, marks: Vec<Mark>) -> Result<(), Fail> {
        if marks.is_empty() {
            return Ok(());
        }
        let (next, tell) = {
            let mut state = self.lane.state();
            state.mark(only_if, marks);
            (state.marks_next, !std::mem::replace(&mut state.told, true))
        };
        if tell {
            self.keeper.tell(self.lane);
        }
        self.lane.wait_marks(next)
    }

    /// Forgets marks of entries that have gone.
    fn forget_before(&self, first: i64) -> Result<(), Fail> {
        let mut state = self.lane.state();
        if state.marks.any_before(first) {
            Arc::make_mut(&mut state.marks).forget_before(first);
        }
        drop(state);
        self.tidy_marks()
    }

    /// Lets go lines that say nothing any more.
    fn tidy_marks(&self) -> Result<(), Fail> {
        let (from, next, tell) = {
            let mut state = self.lane.state();
            let lines = state.marks_lines;
            let few = if state.marks.is_empty() { 0 } else { 2 * state.marks.len() + LINES_SPARE };
            if lines <= few {
                return Ok(());
            }
            let from = state.rewrite_marks();
            let tell = state.marks_next > from && !std::mem::replace(&mut state.told, true);
            (from, state.marks_next, tell)
        };
        if tell {
            self.keeper.tell(self.lane);
        }
        self.lane.wait_marks(next)?;
        let head = block_on(self.store.head(&self.lane.marks_owner))?;
        if from > head.first.0 {
            block_on(self.store.expire(&self.lane.marks_owner, Cut::Through(Position(from - 1))))?;
        }
        Ok(())
    }

    /// Appends a value under a key of the caller's; an older one of that key goes.
    pub fn append_keyed(&self, key: &str, value: &Value) -> Result<i64, Fail> {
        let changing = self.lane.changing();
        // What is not committed yet is not found yet.
        let pending = {
            let state = self.lane.state();
            let fresh = state.committed..state.next;
            let minted = self.lane.minted(key).filter(|position| fresh.contains(position));
            state.keys.get(key).copied().or(minted)
        };
        if let Some(position) = pending {
            self.lane.wait(position + 1)?;
        }
        let marks = self.lane.state().marks.clone();
        let reading = Reading { store: self.store, lane: self.lane, marks };
        let older = match reading.resolve(key)? {
            None => None,
            Some(position) => match reading.entries(vec![position])?.pop() {
                Some(entry) => Some(hidden(&reading.row(entry)?)),
                None => None,
            },
        };
        drop(reading);
        let replaced = older.clone().map(|older| Replaced { mark: Mark::Hidden(older) });
        let placed = self.lane.append(value, Some(key), replaced)?;
        if placed.tell {
            self.keeper.tell(self.lane);
        }
        if let Some(older) = older {
            self.lane.wait(placed.position + 1)?;
            self.hide_replaced(&older)?;
        }
        drop(changing);
        Ok(placed.position)
    }

    /// Takes out what an entry held that is already marked, and lets it go if nothing stands before it.
    fn hide_replaced(&self, older: &Hidden) -> Result<(), Fail> {
        let head = block_on(self.store.head(&self.lane.owner))?;
        let first = self.lane.state().marks.pass_forwards(head.first.0);
        if first > head.first.0 {
            block_on(self.store.expire(&self.lane.owner, Cut::Through(Position(first - 1))))?;
            self.forget_before(first)?;
        }
        if older.position >= first {
            block_on(
                self.store.retract_all(&self.lane.owner, vec![(Position(older.position), Bytes::new())]),
            )?;
            self.tidy_marks()?;
        }
        Ok(())
    }

    /// Replaces the value of an entry, and its time and `with` if new ones are given, durably.
    ///
    /// # Errors
    /// [`Fail::NotFound`] when there is no entry of this key.
    pub fn set(&self, key: &str, change: Change) -> Result<(), Fail> {
        let changing = self.lane.changing();
        let reading = self.reading();
        let position = reading.resolve(key)?.ok_or(Fail::NotFound)?;
        let entry = reading.entries(vec![position])?.pop().ok_or(Fail::NotFound)?;
        let row = reading.row(entry)?;
        let was_marked = reading.marks.moved(position).is_some();
        drop(reading);
        let (kind, text) = change.value.unwrap_or((row.kind, row.text));
        let value = Value {
            kind,
            text,
            when: change.when.unwrap_or(row.when),
            with: change.with.unwrap_or(row.with),
        };
        let when = envelope::micros(value.when).ok_or(Fail::Value)?;
        let with = names::with_jid(&value.with).ok_or(Fail::Value)?;
        let stanza = envelope::write(&value, row.stamp, &row.stored_with);
        let mark = if when == row.stamp && with == row.stored_with {
            was_marked.then_some(Mark::Plain(position))
        } else {
            let now_with = Arc::from(with.as_str());
            Some(Mark::Moved(Moved {
                position,
                stamp: row.stamp,
                with: Arc::from(row.stored_with.as_str()),
                when,
                now_with,
            }))
        };
        self.mark(None, mark.into_iter().collect())?;
        block_on(self.store.retract(&self.lane.owner, Position(position), stanza))?;
        drop(changing);
        Ok(())
    }

    /// Removes all of it from every file.
    pub fn purge(&self) -> Result<(), Fail> {
        let changing = self.lane.changing();
        self.lane.settle();
        block_on(self.store.purge(&self.lane.owner))?;
        let first = block_on(self.store.head(&self.lane.owner))?.first.0;
        self.forget_before(first)?;
        block_on(self.store.purge(&self.lane.marks_owner))?;
        drop(changing);
        Ok(())
    }
}

/// The first position of the newest `count` entries that were not deleted.
fn newest(reading: &Reading<'_>, span: std::ops::Range<i64>, count: usize) -> i64 {
    let standing = |from: i64| {
        let span = from..span.end;
        let hidden = reading.marks.hidden_in(&span).len() as i64;
        usize::try_from(span.end - from - hidden).unwrap_or(0)
    };
    let (mut low, mut high) = (span.start, span.end);
    // The number that stands from a position on falls by at most one from each to the next.
    while low < high {
        let middle = low + (high - low) / 2;
        if standing(middle) > count { low = middle + 1 } else { high = middle }
    }
    low
}

fn hidden(row: &Row) -> Hidden {
    Hidden { position: row.position, stamp: row.stamp, with: Arc::from(row.stored_with.as_str()) }
}
