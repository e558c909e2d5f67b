//! One store directory of one (host, store) of Prosody's, with its lanes. Answering requests is put together here;
//! how is left to `find` and `remove`, and speaking to Lua to `lua`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mammoth_archive::jid::BareJid;
use mammoth_archive::{ArchiveInfo, ArchiveStore, Cut, IdKey, StoreError, Timestamp};
use mammoth_store_embedded::{EmbeddedStore, Options};

use crate::Fail;
use crate::block::{Boxed, block_on, block_on_all};
use crate::envelope::Value;
use crate::find::{Ask, Found, Reading, Row, Walk};
use crate::keeper::Keeper;
use crate::lane::{Lane, Waiter};
use crate::names;
use crate::remove::{Change, Changing, Keep};

/// How many lanes are kept open; beyond it those that rest are closed.
const LANES_MAX: usize = 10_000;
/// How many entries can wait for the keeper in one lane; a further one waits until they are durable.
const WAITING_MAX: usize = 10_000;
/// The commit window: when something has waited so long for the disk, an append waits until it is durable.
pub const WINDOW_MS: u128 = 1000;
/// How many archives are looked at at a time.
const OWNERS_STEP: usize = 256;
/// The memory table of one store directory, in bytes. Prosody opens several stores.
const MEMTABLE_BYTES: usize = 32 << 20;
/// Threads of one store directory that read.
const READERS: usize = 2;
/// Seconds in a day, in microseconds.
const DAY: i64 = 86_400_000_000;

/// A store directory.
pub struct Db {
    dir: PathBuf,
    host: String,
    store: Arc<EmbeddedStore>,
    keeper: Keeper,
    key: IdKey,
    lanes: Mutex<HashMap<Option<String>, Arc<Lane>>>,
}

/// Store directories that are open in this process: by whichever part of Prosody, each is opened once.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Db>>> = Mutex::new(BTreeMap::new());

/// Whose archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody's.
    All,
    /// A user's or room's; `None` for what belongs to the host.
    One(Option<String>),
}

/// Something asked of a store that may take a moment.
pub enum Request {
    /// See [`Reading::find`].
    Find(Option<String>, Ask),
    /// The next rows of a query.
    More(Option<String>, Walk),
    /// One entry.
    Get(Option<String>, String),
    /// See [`Changing::append_keyed`].
    Append(Option<String>, String, Value),
    /// See [`Changing::set`].
    Set(Option<String>, String, Change),
    /// See [`Changing::delete`].
    Delete(Who, Ask, Keep),
    /// Who an archive is with, how often and when.
    Summary(Option<String>, Ask),
    /// The days of which an archive has entries.
    Dates(Option<String>),
    /// Who has entries.
    Users,
    /// An archive goes from every file.
    Purge(Option<String>),
    /// Everything that was appended becomes durable.
    Flush,
}

/// What is known of the entries with one `with`.
#[derive(Clone, Debug)]
pub struct Summed {
    /// The `with`.
    pub with: String,
    /// How many.
    pub count: u64,
    /// The time of the earliest.
    pub earliest: f64,
    /// The time of the latest.
    pub latest: f64,
}

/// What a request is answered with.
pub enum Answer {
    /// Rows of this user.
    Found(Option<String>, Found),
    /// One row.
    Row(Row),
    /// A key.
    Key(String),
    /// How many.
    Count(u64),
    /// By `with`.
    Summary(Vec<Summed>),
    /// Names or dates.
    Names(Vec<String>),
    /// It is done.
    Done,
}

/// What became of an append.
pub struct Appended {
    /// The id.
    pub id: String,
    /// Durable once this is the next position.
    pub next: i64,
}

impl Db {
    /// Opens the store in `dir`, or what is open of it already.
    ///
    /// # Errors
    /// What to do about it, in words.
    pub fn open(dir: &Path, host: &str) -> Result<Arc<Db>, Fail> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(db) = open.get(dir).and_then(Weak::upgrade) {
            return Ok(db);
        }
        let failed = |error: &dyn std::fmt::Display| Fail::Open(error.to_string());
        std::fs::create_dir_all(dir).map_err(|error| Fail::Open(format!("{}: {error}", dir.display())))?;
        let options = Options { memtable_bytes: MEMTABLE_BYTES, readers: READERS, ..Options::default() };
        let store = EmbeddedStore::open(dir, options).map_err(|error| failed(&error))?;
        let key = block_on(store.id_key())?;
        let keeper = Keeper::start(store.clone()).map_err(|error| failed(&error))?;
        let db =
            Db { dir: dir.to_owned(), host: host.to_owned(), store, keeper, key, lanes: Mutex::default() };
        let db = Arc::new(db);
        open.insert(dir.to_owned(), Arc::downgrade(&db));
        Ok(db)
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Option<String>, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, user: Option<&str>) -> Result<Arc<Lane>, Fail> {
        let user = user.filter(|user| !user.is_empty()).map(str::to_owned);
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get(&user) {
            return Ok(lane.clone());
        }
        if lanes.len() >= LANES_MAX {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1 || lane.state().told);
        }
        let lane = Arc::new(Lane::open(&self.store, user.as_deref(), &self.host, self.key)?);
        lanes.insert(user, lane.clone());
        Ok(lane)
    }

    /// The lane of an archive that has entries; a new one is not made for the asking.
    fn known(&self, user: Option<&str>) -> Result<Option<Arc<Lane>>, Fail> {
        let key = user.filter(|user| !user.is_empty()).map(str::to_owned);
        if let Some(lane) = self.lanes().get(&key) {
            return Ok(Some(lane.clone()));
        }
        let owner = names::owner(user, &self.host).ok_or(Fail::Name)?;
        let head = block_on(self.store.head(&owner))?;
        if head.next == mammoth_archive::Head::NEW.next { Ok(None) } else { self.lane(user).map(Some) }
    }

    /// Gives a value an id and a place at once; it is durable once [`Db::tell_when`] says so.
    ///
    /// # Errors
    /// [`Fail::Quota`] when the archive holds `limit` entries.
    pub fn append(&self, user: Option<&str>, value: &Value, limit: Option<u64>) -> Result<Appended, Fail> {
        let lane = self.lane(user)?;
        self.check(&lane, limit)?;
        let placed = lane.append(value, None, None)?;
        if placed.tell {
            self.keeper.tell(&lane);
        }
        Ok(Appended { id: placed.id, next: placed.position + 1 })
    }

    /// Room in the quota and in the queue.
    fn check(&self, lane: &Arc<Lane>, limit: Option<u64>) -> Result<(), Fail> {
        let state = lane.state();
        let next = state.next;
        if let Some(limit) = limit {
            let first = block_on(self.store.head(&lane.owner))?.first.0;
            let hidden = state.marks.hidden_in(&(first..next)).len() as i64;
            if u64::try_from(next - first - hidden).unwrap_or(0) >= limit {
                return Err(Fail::Quota);
            }
        }
        let waited = state
            .since
            .is_some_and(|since| crate::clock::instant().duration_since(since).as_millis() > WINDOW_MS);
        let full = state.waiting.len() >= WAITING_MAX || waited;
        drop(state);
        if full { lane.wait(next) } else { Ok(()) }
    }

    /// Has `waiter` told once an append is durable.
    pub fn tell_when(&self, user: Option<&str>, next: i64, waiter: Waiter) {
        match self.lane(user) {
            Ok(lane) => lane.tell_when(next, waiter),
            Err(fail) => waiter(Err(fail)),
        }
    }

    /// Waits until an append is durable.
    pub fn wait(&self, user: Option<&str>, next: i64) -> Result<(), Fail> {
        self.lane(user)?.wait(next)
    }

    fn changing<'a>(&'a self, lane: &'a Arc<Lane>) -> Changing<'a> {
        Changing { store: &self.store, keeper: &self.keeper, lane }
    }

    /// Answers a request, on this thread.
    pub fn answer(&self, request: Request) -> Result<Answer, Fail> {
        match request {
            Request::Find(user, ask) => {
                let found = match self.known(user.as_deref())? {
                    Some(lane) => Reading::new(&self.store, &lane).find(&ask)?,
                    None if ask.after.is_some()
                        || ask.before.is_some()
                        || ask.ids.as_ref().is_some_and(|ids| !ids.is_empty()) =>
                    {
                        return Err(Fail::NotFound);
                    }
                    None => Found { total: ask.total.then_some(0), ..Found::default() },
                };
                Ok(Answer::Found(user, found))
            }
            Request::More(user, walk) => {
                let Some(lane) = self.known(user.as_deref())? else {
                    return Ok(Answer::Found(user, Found::default()));
                };
                let (rows, rest) = Reading::new(&self.store, &lane).walk(walk)?;
                Ok(Answer::Found(user, Found { rows, total: None, rest }))
            }
            Request::Get(user, key) => {
                let lane = self.known(user.as_deref())?.ok_or(Fail::NotFound)?;
                let reading = Reading::new(&self.store, &lane);
                let position = reading.resolve(&key)?.ok_or(Fail::NotFound)?;
                let entry = reading.entries(vec![position])?.pop().ok_or(Fail::NotFound)?;
                Ok(Answer::Row(reading.row(entry)?))
            }
            Request::Append(user, key, value) => {
                let lane = self.lane(user.as_deref())?;
                self.check(&lane, None)?;
                self.changing(&lane).append_keyed(&key, &value)?;
                Ok(Answer::Key(key))
            }
            Request::Set(user, key, change) => {
                let lane = self.known(user.as_deref())?.ok_or(Fail::NotFound)?;
                self.changing(&lane).set(&key, change)?;
                Ok(Answer::Done)
            }
            Request::Delete(Who::One(user), ask, keep) => match self.known(user.as_deref())? {
                Some(lane) => Ok(Answer::Count(self.changing(&lane).delete(&ask, keep)?)),
                None if ask.after.is_some() || ask.before.is_some() => Err(Fail::NotFound),
                None => Ok(Answer::Count(0)),
            },
            Request::Delete(Who::All, ask, keep) => Ok(Answer::Count(self.delete_all(&ask, keep)?)),
            Request::Summary(user, ask) => self.summary(user.as_deref(), &ask).map(Answer::Summary),
            Request::Dates(user) => self.dates(user.as_deref()).map(Answer::Names),
            Request::Users => self.users().map(Answer::Names),
            Request::Purge(user) => {
                if let Some(lane) = self.known(user.as_deref())? {
                    self.changing(&lane).purge()?;
                }
                Ok(Answer::Done)
            }
            Request::Flush => {
                self.flush();
                Ok(Answer::Done)
            }
        }
    }

    /// Waits until everything that was appended is durable, as far as the store takes it.
    pub fn flush(&self) {
        let lanes: Vec<Arc<Lane>> = self.lanes().values().cloned().collect();
        for lane in lanes {
            lane.settle();
        }
    }

    /// Goes through all archives that have entries, some at a time.
    fn each_step(&self, mut f: impl FnMut(Vec<ArchiveInfo>) -> Result<(), Fail>) -> Result<(), Fail> {
        let mut after: Option<BareJid> = None;
        loop {
            let step = block_on(self.store.owners(after.as_ref(), OWNERS_STEP))?;
            let Some(last) = step.last() else { return Ok(()) };
            after = Some(last.owner.clone());
            f(step
                .into_iter()
                .filter(|info| info.head.count() > 0 && names::user(&info.owner).is_some())
                .collect())?;
        }
    }

    fn users(&self) -> Result<Vec<String>, Fail> {
        self.flush();
        let mut users = Vec::new();
        self.each_step(|step| {
            users.extend(step.iter().filter_map(|info| names::user(&info.owner)));
            Ok(())
        })?;
        Ok(users)
    }

    fn delete_all(&self, ask: &Ask, keep: Keep) -> Result<u64, Fail> {
        self.flush();
        let mut gone = 0;
        self.each_step(|step| {
            let mut simple: Vec<BareJid> = Vec::new();
            for info in step {
                let Some(user) = names::user(&info.owner) else { continue };
                let only_end = keep == Keep::None && ask.only_end().is_some();
                if only_end && info.first_stamp.zip(ask.end).is_some_and(|(first, end)| first.0 > end) {
                    // Nothing was stored as early; only what is stored under a later time than its own can match.
                    if !self.has_marks(&user)? {
                        continue;
                    }
                }
                if only_end && !self.has_marks(&user)? {
                    simple.push(info.owner);
                    continue;
                }
                let lane = self.lane(Some(&user))?;
                gone += match self.changing(&lane).delete(ask, keep) {
                    // It names an entry of another archive.
                    Err(Fail::NotFound) => 0,
                    done => done?,
                };
            }
            if let Some(end) = ask.end {
                let cut = Cut::Before(Timestamp(end.saturating_add(1)));
                let cuts: Vec<Boxed<'_, Result<u64, StoreError>>> =
                    simple.iter().map(|owner| self.store.expire(owner, cut) as Boxed<'_, _>).collect();
                for went in block_on_all(cuts) {
                    gone += went?;
                }
            }
            Ok(())
        })?;
        Ok(gone)
    }

    fn has_marks(&self, user: &str) -> Result<bool, Fail> {
        let owner = names::marks_owner(Some(user)).ok_or(Fail::Name)?;
        Ok(block_on(self.store.head(&owner))?.count() > 0)
    }

    fn summary(&self, user: Option<&str>, ask: &Ask) -> Result<Vec<Summed>, Fail> {
        let Some(lane) = self.known(user)? else { return Ok(Vec::new()) };
        let reading = Reading::new(&self.store, &lane);
        let mut sums: BTreeMap<String, Summed> = BTreeMap::new();
        let mut walk = Some(reading.begin(ask)?);
        while let Some(here) = walk {
            let (rows, rest) = reading.walk(here)?;
            for Row { with, when, .. } in rows {
                let sum = sums.entry(with.clone()).or_insert(Summed {
                    with,
                    count: 0,
                    earliest: when,
                    latest: when,
                });
                sum.count += 1;
                sum.earliest = sum.earliest.min(when);
                sum.latest = sum.latest.max(when);
            }
            walk = rest;
        }
        Ok(sums.into_values().collect())
    }

    fn dates(&self, user: Option<&str>) -> Result<Vec<String>, Fail> {
        let Some(lane) = self.known(user)? else { return Ok(Vec::new()) };
        let reading = Reading::new(&self.store, &lane);
        let mut days = std::collections::BTreeSet::new();
        // From each day's first entry to the next day's.
        let mut ask = Ask { limit: Some(1), ..Ask::default() };
        if reading.marks.is_empty() {
            while let Some(row) = reading.find(&ask)?.rows.pop() {
                let day = row.stamp.div_euclid(DAY);
                days.insert(day);
                ask.start = Some((day + 1).saturating_mul(DAY));
            }
        } else {
            let mut walk = Some(reading.begin(&Ask::default())?);
            while let Some(here) = walk {
                let (rows, rest) = reading.walk(here)?;
                days.extend(
                    rows.iter()
                        .filter_map(|row| crate::envelope::micros(row.when))
                        .map(|when| when.div_euclid(DAY)),
                );
                walk = rest;
            }
        }
        Ok(days.into_iter().map(date).collect())
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&self.dir).is_some_and(|known| known.strong_count() == 0) {
            open.remove(&self.dir);
        }
        // Still under the lock, so that whoever opens it next finds it closed.
        self.keeper.stop();
        self.store.close();
    }
}

/// A day since 1970 as `YYYY-MM-DD` (the Gregorian calendar, by Hinnant's method).
fn date(day: i64) -> String {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (day, text) in
            [(0, "1970-01-01"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (20_779, "2026-11-22")]
        {
            assert_eq!(date(day), text);
        }
    }
}
