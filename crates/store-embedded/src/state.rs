//! What the store knows in memory: whose archive is where, its ends, which segments and memory tables hold which
//! of its positions, and its tombstones. One lock, held for microseconds; making any of it durable is left to
//! `writer`, reading entries to `read`.
//!
//! What grows with the number of owners is [`ArchiveState`], and with owners times segments [`Extent`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use mammoth_archive::{Head, Position, Settings, Timestamp};

use crate::format::Damaged;
use crate::memtable::{Added, Memtable};
use crate::segment::{ExtentRow, Segment};

/// More archives than one store is made for; a larger number is not one of ours.
const ARCHIVES_MAX: u32 = 1 << 28;

/// All of it.
#[derive(Debug)]
pub struct State {
    numbers: HashMap<Arc<str>, u32>,
    order: BTreeMap<Arc<str>, u32>,
    archives: Vec<ArchiveState>,
    /// By number.
    pub segments: HashMap<u32, Arc<Segment>>,
    /// Memory tables that are becoming segments, oldest first.
    pub frozen: Vec<Arc<Memtable>>,
    /// The memory table that is written to.
    pub active: Arc<Memtable>,
    /// Tombstones that no segment holds yet.
    pub overrides: usize,
    /// Archives that hold entries.
    pub nonempty: u64,
    /// Entries in all of them.
    pub entries: u64,
}

/// One archive.
#[derive(Debug)]
pub struct ArchiveState {
    /// The bare JID.
    pub owner: Arc<str>,
    /// The oldest position present.
    pub first: i64,
    /// The next position.
    pub next: i64,
    /// The greatest stamp ever given.
    pub last_stamp: i64,
    /// The stamp at `first`; `None` when nobody has looked yet.
    pub first_stamp: Option<i64>,
    /// What the segments hold of it, in order and without gaps; the memory tables go on from there.
    pub extents: Vec<Extent>,
    /// Tombstones that no segment holds yet.
    pub overrides: Option<Arc<Overrides>>,
    /// What is set, if anything is.
    pub settings: Option<Box<Settings>>,
    /// Whether the small database has a row for it.
    pub catalogued: bool,
}

/// Tombstones by position, each with the number of its change.
pub type Overrides = BTreeMap<i64, (i64, Bytes)>;

/// What one segment holds of one archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which segment.
    pub segment: u32,
    /// How many entries.
    pub count: u32,
    /// The position of the first.
    pub first: i64,
    /// The first of its blocks.
    pub block: u32,
    /// How many blocks.
    pub blocks: u32,
    /// Bytes of stanzas, uncompressed.
    pub bytes: u64,
}

impl Extent {
    /// The position after the last.
    pub fn next(&self) -> i64 {
        self.first.saturating_add(i64::from(self.count))
    }
}

impl ArchiveState {
    fn new(owner: Arc<str>) -> ArchiveState {
        ArchiveState {
            owner,
            first: Head::NEW.first.0,
            next: Head::NEW.next.0,
            last_stamp: Head::NEW.last_stamp.0,
            first_stamp: None,
            extents: Vec::new(),
            overrides: None,
            settings: None,
            catalogued: false,
        }
    }

    /// Its ends.
    pub fn head(&self) -> Head {
        Head {
            first: Position(self.first),
            next: Position(self.next),
            last_stamp: Timestamp(self.last_stamp),
        }
    }

    /// How many of an extent's entries have expired.
    fn expired_of(&self, extent: &Extent) -> u64 {
        self.first.min(extent.next()).saturating_sub(extent.first).max(0) as u64
    }

    /// How many entries are present.
    pub fn count(&self) -> u64 {
        self.next.saturating_sub(self.first).max(0) as u64
    }
}

impl State {
    /// Nothing, with an empty memory table of this generation.
    pub fn new(generation: u64) -> State {
        State {
            numbers: HashMap::new(),
            order: BTreeMap::new(),
            archives: Vec::new(),
            segments: HashMap::new(),
            frozen: Vec::new(),
            active: Arc::new(Memtable::new(generation)),
            overrides: 0,
            nonempty: 0,
            entries: 0,
        }
    }

    /// The number of an owner's archive.
    pub fn number(&self, owner: &str) -> Option<u32> {
        self.numbers.get(owner).copied()
    }

    /// The number that the next new archive gets.
    pub fn next_number(&self) -> u32 {
        self.archives.len() as u32
    }

    /// An archive by its number.
    pub fn archive(&self, archive: u32) -> Option<&ArchiveState> {
        self.archives.get(archive as usize)
    }

    /// An archive by its number, to change it. Ends are changed by the functions below only.
    pub fn archive_mut(&mut self, archive: u32) -> Option<&mut ArchiveState> {
        self.archives.get_mut(archive as usize)
    }

    /// An archive by its owner.
    pub fn of(&self, owner: &str) -> Option<&ArchiveState> {
        self.number(owner).and_then(|number| self.archive(number))
    }

    /// All archives, by number.
    pub fn all(&self) -> impl Iterator<Item = (u32, &ArchiveState)> {
        (0..).zip(&self.archives)
    }

    /// Archives in the order of their owners' text, after `after`.
    pub fn in_order(&self, after: Option<&str>) -> impl Iterator<Item = (u32, &ArchiveState)> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let behind = self.order.range::<str, _>((from, std::ops::Bound::Unbounded));
        behind.filter_map(|(_, number)| self.archive(*number).map(|archive| (*number, archive)))
    }

    /// Gives an archive's number to an owner. Saying so again changes nothing. While a store is opened numbers
    /// may come in any order.
    pub fn add_archive(&mut self, archive: u32, owner: &str) -> Result<(), Damaged> {
        match self.numbers.get(owner) {
            Some(known) if *known == archive => return Ok(()),
            Some(_) => return Err(Damaged::new("an owner has two archive numbers")),
            None if archive > ARCHIVES_MAX => return Err(Damaged::new("an archive number is too large")),
            None => {}
        }
        let owner: Arc<str> = Arc::from(owner);
        self.numbers.insert(owner.clone(), archive);
        self.order.insert(owner.clone(), archive);
        while self.archives.len() <= archive as usize {
            self.archives.push(ArchiveState::new(Arc::from("")));
        }
        match self.archives.get_mut(archive as usize) {
            Some(place) if place.owner.is_empty() => *place = ArchiveState::new(owner),
            _ => return Err(Damaged::new(format!("archive number {archive} has two owners"))),
        }
        Ok(())
    }

    /// While a store is opened: takes in what a segment holds. Segments come oldest first.
    pub fn add_segment(&mut self, segment: Arc<Segment>, rows: &[ExtentRow]) -> Result<(), Damaged> {
        for row in rows {
            let Some(archive) = self.archives.get_mut(row.archive as usize) else {
                return Err(Damaged::new(format!(
                    "segment {} holds archive {}, which has no owner",
                    segment.number, row.archive
                )));
            };
            let extent = row.extent;
            archive.next = archive.next.max(extent.next());
            archive.last_stamp = archive.last_stamp.max(row.stamps.1);
            if extent.first == archive.first {
                archive.first_stamp = Some(row.stamps.0);
            }
            segment.lost(archive.expired_of(&extent));
            if extent.next() > archive.first {
                archive.extents.reserve_exact(1);
                archive.extents.push(extent);
            }
        }
        self.segments.insert(segment.number, segment);
        Ok(())
    }

    /// An archive's newest entries outside the active memory table lie in this segment now.
    pub fn add_extent(&mut self, archive: u32, extent: Extent) {
        self.replace_extents(archive, &[], Some(extent));
    }

    /// What these segments held of an archive lies in this one now; `None` when nothing was left of it.
    pub fn replace_extents(&mut self, archive: u32, old: &[u32], new: Option<Extent>) {
        let Some(archive) = self.archives.get_mut(archive as usize) else { return };
        let mut extents: Vec<Extent> = Vec::with_capacity(archive.extents.len() + 1);
        extents.extend(archive.extents.iter().filter(|extent| !old.contains(&extent.segment)));
        if let Some(extent) = new {
            if let Some(segment) = self.segments.get(&extent.segment) {
                segment.lost(archive.expired_of(&extent));
            }
            if extent.next() > archive.first {
                let place = extents.partition_point(|other| other.first < extent.first);
                extents.insert(place, extent);
            }
        }
        extents.shrink_to_fit();
        archive.extents = extents;
    }

    /// Whether one of these segments holds something of an archive.
    pub fn is_in(&self, archive: u32, segments: &[u32]) -> bool {
        self.archive(archive)
            .is_some_and(|a| a.extents.iter().any(|extent| segments.contains(&extent.segment)))
    }

    /// The segment beside which most tombstones are kept, if there are more than `limit` in all.
    pub fn most_overridden(&self, limit: usize) -> Option<u32> {
        if self.overrides <= limit {
            return None;
        }
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for archive in &self.archives {
            let Some(overrides) = &archive.overrides else { continue };
            for extent in &archive.extents {
                *counts.entry(extent.segment).or_default() +=
                    overrides.range(extent.first..extent.next()).count();
            }
        }
        counts.into_iter().filter(|(_, n)| *n > 0).max_by_key(|(_, n)| *n).map(|(segment, _)| segment)
    }

    /// A segment holds this tombstone, or an earlier one, now.
    pub fn folded(&mut self, archive: u32, position: i64, change: i64) {
        let Some(archive) = self.archives.get_mut(archive as usize) else { return };
        let Some(overrides) = &mut archive.overrides else { return };
        if overrides.get(&position).is_some_and(|(newest, _)| *newest <= change) {
            let left = Arc::make_mut(overrides);
            left.remove(&position);
            self.overrides = self.overrides.saturating_sub(1);
            if left.is_empty() {
                archive.overrides = None;
            }
        }
    }

    /// While a store is opened: takes in what the log adds to an archive. What the small database says of it may
    /// be ahead.
    pub fn replayed(&mut self, added: &Added) -> Result<(), Damaged> {
        let Some(archive) = self.archives.get_mut(added.archive as usize) else {
            return Err(Damaged::new("the log has entries of an archive without an owner"));
        };
        archive.next = archive.next.max(added.next);
        archive.last_stamp = archive.last_stamp.max(added.stamps.1);
        if archive.first == added.first {
            archive.first_stamp = Some(added.stamps.0);
        }
        Ok(())
    }

    /// Once a store is opened: counts what there is, and sees that every number has an owner and every archive
    /// all its entries.
    pub fn settle(&mut self) -> Result<(), Damaged> {
        for (number, archive) in self.all() {
            if archive.owner.is_empty() {
                return Err(Damaged::new(format!("archive number {number} has no owner")));
            }
            self.snapshot(number)?;
        }
        self.nonempty = self.archives.iter().filter(|archive| archive.count() > 0).count() as u64;
        self.entries = self.archives.iter().map(ArchiveState::count).sum();
        Ok(())
    }

    /// Remembers the stamp of an archive's first entry, if that still is its first.
    pub fn saw_first_stamp(&mut self, owner: &str, first: i64, stamp: Option<i64>) {
        let number = self.number(owner);
        if let Some(archive) = number.and_then(|number| self.archive_mut(number))
            && archive.first == first
        {
            archive.first_stamp = stamp;
        }
    }

    /// An archive that has never been written to begins at this position.
    pub fn begun(&mut self, archive: u32, at: i64, last_stamp: i64) {
        let Some(archive) = self.archives.get_mut(archive as usize) else { return };
        (archive.first, archive.next, archive.last_stamp) = (at, at, last_stamp);
        archive.catalogued = true;
    }

    /// Moves an archive's ends after entries were put into the active memory table.
    pub fn appended(&mut self, added: &Added) -> Result<(), Damaged> {
        let Some(archive) = self.archives.get_mut(added.archive as usize) else {
            return Err(Damaged::new("entries of an archive without an owner"));
        };
        if archive.next != added.first {
            return Err(Damaged::new(format!(
                "archive {} goes on at {} instead of {}",
                added.archive, added.first, archive.next
            )));
        }
        if archive.first == archive.next {
            archive.first_stamp = Some(added.stamps.0);
            self.nonempty += 1;
        }
        self.entries += added.next.saturating_sub(added.first).max(0) as u64;
        archive.next = added.next;
        archive.last_stamp = archive.last_stamp.max(added.stamps.1);
        Ok(())
    }

    /// Moves an archive's first position forward. Answers how many entries went.
    pub fn expired(&mut self, archive: u32, first: i64, first_stamp: Option<i64>) -> u64 {
        let Some(archive) = self.archives.get_mut(archive as usize) else { return 0 };
        let first = first.min(archive.next);
        if first <= archive.first {
            return 0;
        }
        let before = archive.first;
        let gone = first.saturating_sub(before).max(0) as u64;
        archive.first = first;
        archive.first_stamp = first_stamp;
        if first == archive.next {
            archive.first_stamp = None;
            self.nonempty = self.nonempty.saturating_sub(1);
        }
        self.entries = self.entries.saturating_sub(gone);
        if let Some(overrides) = &archive.overrides
            && overrides.keys().next().is_some_and(|oldest| *oldest < first)
        {
            let kept = overrides.range(first..).map(|(position, tombstone)| (*position, tombstone.clone()));
            let kept: Overrides = kept.collect();
            self.overrides = self.overrides.saturating_sub(overrides.len().saturating_sub(kept.len()));
            archive.overrides = (!kept.is_empty()).then(|| Arc::new(kept));
        }
        for extent in &archive.extents {
            let lost = extent.next().min(first).saturating_sub(extent.first.max(before));
            if lost > 0
                && let Some(segment) = self.segments.get(&extent.segment)
            {
                segment.lost(lost as u64);
            }
        }
        archive.extents.retain(|extent| extent.next() > first);
        gone
    }

    /// Puts a tombstone in place of an entry.
    pub fn retracted(&mut self, archive: u32, position: i64, change: i64, tombstone: Bytes) {
        let Some(archive) = self.archives.get_mut(archive as usize) else { return };
        if (archive.first..archive.next).contains(&position) {
            // Copied only while a reader holds the map as it was.
            let overrides = Arc::make_mut(archive.overrides.get_or_insert_default());
            if overrides.insert(position, (change, tombstone)).is_none() {
                self.overrides += 1;
            }
        }
    }

    /// Bytes of stanzas that an archive's segments and memory tables hold.
    pub fn bytes(&self, archive: u32) -> u64 {
        let segments =
            self.archive(archive).map_or(0, |archive| archive.extents.iter().map(|e| e.bytes).sum());
        let from = self.archive(archive).map_or(i64::MIN, |a| a.extents.last().map_or(a.first, Extent::next));
        let tables = self.frozen.iter().chain([&self.active]);
        tables.map(|table| table.bytes_from(archive, from)).sum::<u64>().saturating_add(segments)
    }
}
