//! A lane: the one writer of one archive. It gives positions, stamps and ids at once, in this process; making them
//! durable is left to `keeper`, which commits what has queued up in all lanes together.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use mammoth_archive::jid::BareJid;
use mammoth_archive::{ArchiveStore, IdMint, NewEntry, Position, StanzaId, StoreError, Timestamp};
use mammoth_archive::{Filter, PageRequest, PageStart, Query};
use mammoth_store_embedded::EmbeddedStore;

use crate::block::block_on;
use crate::envelope::{self, Value};
use crate::marks::{self, Mark, Marks, Moved};
use crate::{Fail, names};

/// How many entries of marks are read at a time.
const MARKS_PAGE: usize = 200;

/// One archive of Prosody's.
pub struct Lane {
    /// Whose it is.
    pub owner: BareJid,
    /// Where its marks are.
    pub marks_owner: BareJid,
    /// Makes its ids.
    pub mint: IdMint,
    /// Held by whoever deletes, replaces or moves entries: one at a time.
    pub change: Mutex<()>,
    state: Mutex<State>,
    committed: Condvar,
}

/// What a lane knows.
pub struct State {
    /// The next position, counting what is not committed yet.
    pub next: i64,
    /// Up to here the store has it, durably.
    pub committed: i64,
    /// The greatest stamp given.
    pub last_stamp: i64,
    /// What the store cannot say.
    pub marks: Arc<Marks>,
    /// Lines in the archive of marks.
    pub marks_lines: usize,
    /// The next position in the archive of marks, counting what is not committed yet.
    pub marks_next: i64,
    /// Up to here the store has the marks.
    pub marks_committed: i64,
    /// Entries for the keeper.
    pub waiting: VecDeque<NewEntry>,
    /// Entries of marks for the keeper.
    pub marks_waiting: VecDeque<NewEntry>,
    /// Explicit keys that are not committed yet.
    pub keys: HashMap<String, i64>,
    /// Since when the oldest that is not committed waits.
    pub since: Option<Instant>,
    /// Whether the keeper was told.
    pub told: bool,
    /// Why the store does not take it.
    pub failing: Option<String>,
    /// Who is to be told once the archive is durable up to a position.
    pub waiters: Vec<(i64, Waiter)>,
}

/// Told the outcome on the keeper's thread.
pub type Waiter = Box<dyn FnOnce(Result<(), Fail>) + Send>;

/// An entry that was given its place.
pub struct Placed {
    /// Its public id.
    pub id: String,
    /// Its position.
    pub position: i64,
    /// Whether the keeper is to be told.
    pub tell: bool,
}

/// An entry that takes the place of an older one of the same key.
pub struct Replaced {
    /// The older one.
    pub mark: Mark,
}

impl Lane {
    /// Opens the archive of a user, with what is remembered of it.
    pub fn open(
        store: &EmbeddedStore,
        user: Option<&str>,
        host: &str,
        key: mammoth_archive::IdKey,
    ) -> Result<Lane, Fail> {
        let owner = names::owner(user, host).ok_or(Fail::Name)?;
        let marks_owner = names::marks_owner(user).ok_or(Fail::Name)?;
        let head = block_on(store.head(&owner))?;
        let marks_head = block_on(store.head(&marks_owner))?;
        let mut state = State {
            next: head.next.0,
            committed: head.next.0,
            last_stamp: head.last_stamp.0,
            marks: Arc::default(),
            marks_lines: 0,
            marks_next: marks_head.next.0,
            marks_committed: marks_head.next.0,
            waiting: VecDeque::new(),
            marks_waiting: VecDeque::new(),
            keys: HashMap::new(),
            since: None,
            told: false,
            failing: None,
            waiters: Vec::new(),
        };
        if marks_head.count() > 0 {
            state.read_marks(store, &marks_owner, head.first.0, marks_head.next)?;
        }
        let mint = key.mint(&owner);
        Ok(Lane {
            owner,
            marks_owner,
            mint,
            change: Mutex::default(),
            state: Mutex::new(state),
            committed: Condvar::new(),
        })
    }

    /// What it knows; held for moments only.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while entries are deleted, replaced or moved.
    pub fn changing(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an id can have been given to the entry at some position of this archive.
    #[must_use]
    pub fn minted(&self, id: &str) -> Option<i64> {
        let id = StanzaId::new(id)?;
        self.mint.position(&id).map(|position| position.0)
    }

    /// Gives an entry its place, behind all others.
    ///
    /// # Errors
    /// When the store has not taken what came before.
    pub fn append(
        &self,
        value: &Value,
        key: Option<&str>,
        replaced: Option<Replaced>,
    ) -> Result<Placed, Fail> {
        let when = envelope::micros(value.when).ok_or(Fail::Value)?;
        let with = names::with_jid(&value.with).ok_or(Fail::Value)?;
        let mut state = self.state();
        if let Some(failing) = &state.failing {
            return Err(Fail::Storage(failing.clone()));
        }
        let stamp = when.max(state.last_stamp);
        let position = state.next;
        let stanza = envelope::write(value, stamp, &with);
        let foreign_id = key.map(str::to_owned);
        let id = key.map_or_else(|| self.mint.id(Position(position)).as_str().to_owned(), str::to_owned);
        let mut marks = Vec::new();
        if stamp != when {
            let spelt: Arc<str> = Arc::from(with.as_str());
            marks.push(Mark::Moved(Moved { position, stamp, with: spelt.clone(), when, now_with: spelt }));
        }
        if let Some(Replaced { mark }) = replaced {
            marks.push(mark);
        }
        if !marks.is_empty() {
            state.mark(Some(position), marks);
        }
        state.next = position + 1;
        state.last_stamp = stamp;
        if let Some(key) = key {
            state.keys.insert(key.to_owned(), position);
        }
        state.waiting.push_back(NewEntry {
            with,
            stamp: Timestamp(stamp),
            stanza,
            message_id: None,
            foreign_id,
        });
        if state.since.is_none() {
            state.since = Some(crate::clock::instant());
        }
        let tell = !std::mem::replace(&mut state.told, true);
        Ok(Placed { id, position, tell })
    }

    /// Waits until everything before `next` is durable; not for ever while the store does not take it.
    pub fn wait(&self, next: i64) -> Result<(), Fail> {
        let mut state = self.state();
        while state.committed < next {
            if let Some(failing) = &state.failing {
                return Err(Fail::Storage(failing.clone()));
            }
            state = self.committed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Has `waiter` told once everything before `next` is durable, or that the store does not take it.
    pub fn tell_when(&self, next: i64, waiter: Waiter) {
        let mut state = self.state();
        if state.committed >= next {
            drop(state);
            return waiter(Ok(()));
        }
        if let Some(failing) = state.failing.clone() {
            drop(state);
            return waiter(Err(Fail::Storage(failing)));
        }
        state.waiters.push((next, waiter));
    }

    /// Waits until the marks before `next` are durable.
    pub fn wait_marks(&self, next: i64) -> Result<(), Fail> {
        let mut state = self.state();
        while state.marks_committed < next {
            if let Some(failing) = &state.failing {
                return Err(Fail::Storage(failing.clone()));
            }
            state = self.committed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Waits for everything that was appended before this call, as far as the store takes it; answers the marks
    /// as they then are.
    pub fn settle(&self) -> Arc<Marks> {
        let next = self.state().next;
        drop(self.wait(next));
        self.state().marks.clone()
    }

    /// Says that something was committed, or was not.
    pub fn notify(&self) {
        self.committed.notify_all();
    }
}

impl State {
    /// Takes marks in, and has them written.
    pub fn mark(&mut self, only_if: Option<i64>, marks: Vec<Mark>) {
        for lines in marks.chunks(marks::LINES_MAX) {
            self.write_lines(marks::write(false, only_if, lines), lines.len());
        }
        Arc::make_mut(&mut self.marks).apply_all(marks);
    }

    fn write_lines(&mut self, text: Bytes, lines: usize) {
        if let Some(with) = names::with_jid("") {
            self.marks_lines += lines;
            self.marks_next += 1;
            let entry =
                NewEntry { with, stamp: Timestamp(0), stanza: text, message_id: None, foreign_id: None };
            self.marks_waiting.push_back(entry);
        }
    }

    /// Writes the marks anew, so that older lines can go. Answers from which position on they then stand.
    pub fn rewrite_marks(&mut self) -> i64 {
        let from = self.marks_next;
        let all: Vec<Mark> = self.marks.all().collect();
        self.marks_lines = 0;
        let mut reset = true;
        for lines in all.chunks(marks::LINES_MAX) {
            self.write_lines(marks::write(reset, None, lines), lines.len());
            reset = false;
        }
        from
    }

    fn read_marks(
        &mut self,
        store: &EmbeddedStore,
        owner: &BareJid,
        first: i64,
        end: Position,
    ) -> Result<(), Fail> {
        let mut marks = Marks::default();
        let mut void = Vec::new();
        let mut start = PageStart::First;
        loop {
            let query = Query { filter: Filter::default(), page: PageRequest { max: MARKS_PAGE, start } };
            let page = block_on(store.page(owner, query))?;
            for entry in &page.entries {
                let read = marks::read(&entry.stanza, self.next).ok_or_else(|| {
                    StoreError::corrupt(format!("the marks of {owner} cannot be read at {}", entry.position))
                })?;
                if read.reset {
                    marks = Marks::default();
                    self.marks_lines = 0;
                    void.clear();
                }
                self.marks_lines += read.marks.len() + read.void.len();
                void.extend(read.void);
                marks.apply_all(read.marks);
            }
            match page.entries.last() {
                Some(last) if last.position.offset(1) < end => start = PageStart::After(last.position),
                _ => break,
            }
        }
        marks.forget_before(first);
        self.marks = Arc::new(marks);
        if !void.is_empty() {
            // They must not come to count later, when the archive has grown beyond what they wait for.
            let says = |position: i64| {
                if let Some(moved) = self.marks.moved(position) {
                    return Mark::Moved(moved.clone());
                }
                let hidden = self.marks.hidden_in(&(position..position + 1)).first();
                hidden.map_or(Mark::Plain(position), |hidden| Mark::Hidden(hidden.clone()))
            };
            let truth: Vec<Mark> = void.iter().map(|mark| says(mark.position())).collect();
            self.mark(None, truth);
        }
        Ok(())
    }
}
