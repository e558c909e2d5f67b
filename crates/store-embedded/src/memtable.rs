//! The memory table: the entries of one generation of the log, by archive and position, as readers see them.
//! It only ever grows, until it is frozen and becomes a segment; what has expired or been retracted meanwhile is
//! left to `state`, which says what of it counts.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use mammoth_archive::{Position, StoredEntry, Timestamp};

use crate::format::{Cursor, Damaged, Keys, Record, bare, jid};
use crate::log::Part;
use crate::numbered::Numbered;

/// From so many entries of one archive on, its conversations are indexed; below, looking through them is quicker.
const INDEXED_FROM: usize = 64;

/// What the smallest allocation takes up, nearly.
const ALLOCATION_MIN: usize = 32;
/// Bytes that an entry takes up in the index of conversations: under its bare JID and its full one.
const PLACES: usize = 3 * size_of::<u32>();

/// The entries of one generation of the log.
#[derive(Debug)]
pub struct Memtable {
    /// Which generation.
    pub generation: u64,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    archives: Numbered<Table>,
    /// The groups as they stand in the log; entries are read out of them.
    groups: Vec<Bytes>,
    bytes: usize,
    entries: u64,
}

#[derive(Debug)]
struct Table {
    first: i64,
    /// Bytes of stanzas.
    bytes: u64,
    slots: Vec<Slot>,
    /// From a conversation to the places of its entries in `slots`.
    contacts: Option<HashMap<i64, Vec<u32>>>,
}

/// Where an entry lies, and what is asked of it most.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Microseconds since 1970.
    pub stamp: i64,
    /// [`Keys::contact`] of the bare JID.
    pub contact: i64,
    /// [`Keys::contact`] of the full JID, or 0 for an entry with a bare one.
    pub full: i64,
    /// [`Keys::message`], or 0.
    pub message: u32,
    /// [`Keys::foreign`], or 0.
    pub foreign: u32,
    /// Bytes of its stanza.
    pub stanza_bytes: u32,
    group: u32,
    offset: u32,
}

impl Table {
    fn push(&mut self, slot: Slot) {
        let place = self.slots.len() as u32;
        self.bytes += u64::from(slot.stanza_bytes);
        if self.slots.len() == self.slots.capacity() {
            // By doubling, but from one on: most archives have one or two entries here.
            self.slots.reserve_exact(self.slots.len().max(1));
        }
        self.slots.push(slot);
        if let Some(contacts) = &mut self.contacts {
            index(contacts, place, &slot);
        } else if self.slots.len() >= INDEXED_FROM {
            let mut contacts = HashMap::new();
            for (place, slot) in (0..).zip(&self.slots) {
                index(&mut contacts, place, slot);
            }
            self.contacts = Some(contacts);
        }
    }

    /// Bytes it takes up, nearly.
    fn memory(&self) -> usize {
        let index = |contacts: &HashMap<i64, Vec<u32>>| {
            contacts.capacity() * size_of::<(i64, Vec<u32>)>()
                + contacts.len() * ALLOCATION_MIN
                + self.slots.len() * PLACES
        };
        // Its own place is in a table that may be half empty.
        2 * size_of::<(u32, Table)>()
            + self.slots.capacity() * size_of::<Slot>()
            + self.contacts.as_ref().map_or(0, index)
    }

    fn next(&self) -> i64 {
        self.first.saturating_add(self.slots.len() as i64)
    }

    fn place(&self, position: i64) -> usize {
        usize::try_from(position.saturating_sub(self.first)).unwrap_or(0).min(self.slots.len())
    }

    fn within(&self, span: &Range<i64>) -> &[Slot] {
        self.slots.get(self.place(span.start)..self.place(span.end)).unwrap_or_default()
    }

    /// The positions of a conversation's entries within `span`, in order.
    fn positions(&self, contact: i64, span: &Range<i64>) -> Vec<i64> {
        let at = |place: usize| self.first.saturating_add(place as i64);
        match &self.contacts {
            Some(contacts) => {
                let places = contacts.get(&contact).map(Vec::as_slice).unwrap_or_default();
                let from = places.partition_point(|place| at(*place as usize) < span.start);
                let to = places.partition_point(|place| at(*place as usize) < span.end);
                places.get(from..to).unwrap_or_default().iter().map(|place| at(*place as usize)).collect()
            }
            None => (self.place(span.start)..)
                .zip(self.within(span))
                .filter(|(_, slot)| slot.contact == contact || slot.full == contact)
                .map(|(place, _)| at(place))
                .collect(),
        }
    }

    fn count(&self, contact: i64, span: &Range<i64>) -> u64 {
        match &self.contacts {
            Some(contacts) => {
                let places = contacts.get(&contact).map(Vec::as_slice).unwrap_or_default();
                let (start, end) = (self.place(span.start), self.place(span.end));
                let from = places.partition_point(|place| (*place as usize) < start);
                let to = places.partition_point(|place| (*place as usize) < end);
                to.saturating_sub(from) as u64
            }
            None => self.positions(contact, span).len() as u64,
        }
    }
}

fn index(contacts: &mut HashMap<i64, Vec<u32>>, place: u32, slot: &Slot) {
    contacts.entry(slot.contact).or_default().push(place);
    if slot.full != 0 {
        contacts.entry(slot.full).or_default().push(place);
    }
}

/// What a group adds to an archive, in the order of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The archive.
    pub archive: u32,
    /// Where the first entry stands.
    pub first: i64,
    /// Where the next will.
    pub next: i64,
    /// The stamps of the first and the last.
    pub stamps: (i64, i64),
    /// Bytes of stanzas.
    pub bytes: u64,
}

impl Memtable {
    /// An empty one.
    pub fn new(generation: u64) -> Memtable {
        Memtable { generation, inner: RwLock::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes it takes up, nearly.
    pub fn bytes(&self) -> usize {
        self.read().bytes
    }

    /// How many groups of the log it has.
    pub fn groups(&self) -> u64 {
        self.read().groups.len() as u64
    }

    /// How many entries it has.
    pub fn entries(&self) -> u64 {
        self.read().entries
    }

    /// Takes the entries of a group in. Says what it added; what the group says of owners is the caller's.
    pub fn insert(&self, group: &Bytes, parts: &[Part<'_>], keys: &Keys) -> Vec<Added> {
        let mut prepared = Vec::with_capacity(parts.len());
        for part in parts {
            let Part::Entries { archive, first, entries } = part else { continue };
            let slots: Vec<Slot> =
                entries.iter().map(|(offset, record)| slot(record, *offset, keys)).collect();
            prepared.push((*archive, *first, slots));
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let number = inner.groups.len() as u32;
        inner.groups.push(group.clone());
        inner.bytes += group.len() + size_of::<Bytes>();
        let mut added = Vec::with_capacity(prepared.len());
        for (archive, first, slots) in prepared {
            let (Some(oldest), Some(newest)) = (slots.first(), slots.last()) else { continue };
            added.push(Added {
                archive,
                first,
                next: first.saturating_add(slots.len() as i64),
                stamps: (oldest.stamp, newest.stamp),
                bytes: slots.iter().map(|slot| u64::from(slot.stanza_bytes)).sum(),
            });
            inner.entries += slots.len() as u64;
            let empty = || Table { first, bytes: 0, slots: Vec::new(), contacts: None };
            let before = inner.archives.get(&archive).map_or(0, Table::memory);
            let table = inner.archives.entry(archive).or_insert_with(empty);
            for slot in slots {
                table.push(Slot { group: number, ..slot });
            }
            let after = table.memory();
            inner.bytes += after.saturating_sub(before);
        }
        added
    }

    /// The positions it has of an archive.
    pub fn span(&self, archive: u32) -> Option<Range<i64>> {
        self.read().archives.get(&archive).map(|table| table.first..table.next())
    }

    /// Bytes of stanzas it has of an archive, from a position on.
    pub fn bytes_from(&self, archive: u32, first: i64) -> u64 {
        let inner = self.read();
        let Some(table) = inner.archives.get(&archive) else { return 0 };
        if first <= table.first {
            return table.bytes;
        }
        table.within(&(first..table.next())).iter().map(|slot| u64::from(slot.stanza_bytes)).sum()
    }

    /// The archives it has entries of, in order of their numbers.
    pub fn archives(&self) -> Vec<u32> {
        let mut archives: Vec<u32> = self.read().archives.keys().copied().collect();
        archives.sort_unstable();
        archives
    }

    /// The first position of `span` whose stamp is `stamp` or later, or the end of `span`.
    pub fn lower_bound(&self, archive: u32, span: &Range<i64>, stamp: i64) -> i64 {
        let inner = self.read();
        let Some(table) = inner.archives.get(&archive) else { return span.end };
        let before = table.within(span).partition_point(|slot| slot.stamp < stamp);
        span.start.saturating_add(before as i64)
    }

    /// How many entries of a conversation lie in `span`.
    pub fn count(&self, archive: u32, contact: i64, span: &Range<i64>) -> u64 {
        self.read().archives.get(&archive).map_or(0, |table| table.count(contact, span))
    }

    /// Where the entries of a conversation in `span` lie whose ranks there are `ranks`.
    pub fn select(&self, archive: u32, contact: i64, span: &Range<i64>, ranks: &Range<u64>) -> Vec<i64> {
        let inner = self.read();
        let Some(table) = inner.archives.get(&archive) else { return Vec::new() };
        let (from, to) = (ranks.start as usize, ranks.end as usize);
        if let Some(contacts) = &table.contacts {
            let places = contacts.get(&contact).map(Vec::as_slice).unwrap_or_default();
            let start = table.place(span.start);
            let skipped = places.partition_point(|place| (*place as usize) < start);
            let places = places.get(skipped + from..).unwrap_or_default();
            let taken = places.iter().take(to.saturating_sub(from));
            return taken.map(|place| table.first.saturating_add(i64::from(*place))).collect();
        }
        let all = table.positions(contact, span);
        all.get(from..to.min(all.len())).unwrap_or_default().to_vec()
    }

    /// Where the entries lie whose slots `wanted` accepts, newest first, at most `limit`.
    pub fn find(
        &self,
        archive: u32,
        span: &Range<i64>,
        limit: usize,
        wanted: impl Fn(&Slot) -> bool,
    ) -> Vec<i64> {
        let inner = self.read();
        let Some(table) = inner.archives.get(&archive) else { return Vec::new() };
        let slots = table.within(span);
        let found = slots.iter().enumerate().rev().filter(|(_, slot)| wanted(slot)).take(limit);
        found.map(|(place, _)| span.start.saturating_add(place as i64)).collect()
    }

    /// The first position of `span` from which on the rest of `span` holds at most `bytes` of stanzas, and how
    /// many bytes that rest holds.
    pub fn keep_bytes(&self, archive: u32, span: &Range<i64>, bytes: u64) -> (i64, u64) {
        let inner = self.read();
        let Some(table) = inner.archives.get(&archive) else { return (span.start, 0) };
        let (mut at, mut kept) = (span.end, 0_u64);
        for slot in table.within(span).iter().rev() {
            let more = kept.saturating_add(u64::from(slot.stanza_bytes));
            if more > bytes {
                break;
            }
            kept = more;
            at = at.saturating_sub(1);
        }
        (at, kept)
    }

    /// Shows the entries of `span` in order, each with its position.
    pub fn each<E: From<Damaged>>(
        &self,
        archive: u32,
        span: &Range<i64>,
        mut show: impl FnMut(i64, &Slot, Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = self.read();
        let Some(table) = inner.archives.get(&archive) else { return Ok(()) };
        for (position, slot) in (span.start.max(table.first)..).zip(table.within(span)) {
            show(position, slot, inner.record(slot)?)?;
        }
        Ok(())
    }

    /// Shows the entries of `span` all at once, in order.
    pub fn with_records<T, E: From<Damaged>>(
        &self,
        archive: u32,
        span: &Range<i64>,
        show: impl FnOnce(&[Slot], Vec<Record<'_>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let inner = self.read();
        let slots = inner.archives.get(&archive).map(|table| table.within(span)).unwrap_or_default();
        let records = slots.iter().map(|slot| inner.record(slot)).collect::<Result<Vec<_>, _>>()?;
        show(slots, records)
    }

    /// The entry at a position; `None` when it is not here.
    pub fn entry(
        &self,
        archive: u32,
        position: i64,
        before: Option<&StoredEntry>,
    ) -> Result<Option<StoredEntry>, Damaged> {
        let inner = self.read();
        let Some(table) = inner.archives.get(&archive) else { return Ok(None) };
        let slot =
            usize::try_from(position.saturating_sub(table.first)).ok().and_then(|i| table.slots.get(i));
        slot.map(|slot| stored(position, &inner.record(slot)?, before)).transpose()
    }
}

impl Inner {
    fn record(&self, slot: &Slot) -> Result<Record<'_>, Damaged> {
        let group = self.groups.get(slot.group as usize).map(|group| group.as_ref()).unwrap_or_default();
        let entry = group.get(slot.offset as usize..).unwrap_or_default();
        // Its stamp is spelt as less than the one before it, which is not at hand; but the slot has it.
        Ok(Record { stamp: slot.stamp, ..Record::take(&mut Cursor::new(entry), 0)? })
    }
}

/// What a memory table or a segment keeps at hand of an entry.
pub fn slot(record: &Record<'_>, offset: usize, keys: &Keys) -> Slot {
    let bare = bare(record.with);
    Slot {
        stamp: record.stamp,
        contact: keys.contact(bare),
        full: if bare.len() == record.with.len() { 0 } else { keys.contact(record.with) },
        message: record.message_hash.unwrap_or(0),
        foreign: record.foreign_id.map_or(0, |id| keys.foreign(id)),
        stanza_bytes: u32::try_from(record.stanza.len()).unwrap_or(u32::MAX),
        group: 0,
        offset: offset as u32,
    }
}

/// The entry that a record stands for, after the entry before it on a page, which mostly has the same other end. The
/// stanza is copied, so that a page holds no more memory than it shows.
pub fn stored(
    position: i64,
    record: &Record<'_>,
    before: Option<&StoredEntry>,
) -> Result<StoredEntry, Damaged> {
    let with = match before {
        Some(before) if before.with.as_str() == record.with => before.with.clone(),
        _ => jid(record.with)?,
    };
    Ok(StoredEntry {
        position: Position(position),
        with,
        stamp: Timestamp(record.stamp),
        stanza: Bytes::copy_from_slice(record.stanza),
        foreign_id: record.foreign_id.map(str::to_owned),
        retracted: record.retracted,
    })
}
