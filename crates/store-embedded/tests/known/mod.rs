//! Archives whose every entry follows from its owner and position, what is known of them from what was said when
//! they were written, and the comparison of a store with that. How a store comes to be in doubt is left to the
//! tests.

#![allow(dead_code)] // each test file uses its part

pub mod checksum;
pub mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Cut, Filter, Head, NewEntry, PageRequest, PageStart, Position, Query, StoreError,
    StoredEntry, Timestamp,
};
use mammoth_store_embedded::EmbeddedStore;

/// Writers at once, each with some archives of its own.
pub const WRITERS: usize = 6;
pub const OWNERS_EACH: usize = 5;
/// Entries in one append, at most.
const BATCH_MAX: u64 = 24;
/// An archive that has grown beyond this is cut now and then, so that it can be checked whole.
const KEEP: u64 = 150;

pub fn owner(writer: usize, of: usize) -> BareJid {
    BareJid::new(&format!("u{of}@w{writer}.example")).unwrap()
}

pub fn owners() -> impl Iterator<Item = BareJid> {
    (0..WRITERS).flat_map(|writer| (0..OWNERS_EACH).map(move |of| owner(writer, of)))
}

/// A number that follows from an archive and a position.
pub fn mix(owner: &BareJid, position: i64) -> u64 {
    let bytes = owner.as_str().bytes().chain(position.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The entry that stands at a position, in every run.
pub fn entry(owner: &BareJid, position: i64) -> NewEntry {
    let n = mix(owner, position);
    let with = format!("c{}@contacts.example/{}", n % 5, n % 2);
    let words: Vec<String> =
        (0..4 + n % 40).map(|i| format!("{:x}", n.rotate_left(i as u32) % 4096)).collect();
    NewEntry {
        with: Jid::new(&with).unwrap(),
        stamp: Timestamp(position / 3),
        stanza: format!("<message><body>{owner} {position} {}</body></message>", words.join(" ")).into(),
        message_id: Some(format!("m{}", n % 7)),
        foreign_id: n.is_multiple_of(11).then(|| format!("f{position}")),
    }
}

/// What stands where an entry was retracted.
pub const TOMBSTONE: &[u8] = b"<tombstone/>";

/// Something to do with an archive.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    pub what: What,
    /// Where the archive will end or begin then, or which entry it is about.
    pub number: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Append,
    Expire,
    Retract,
    Purge,
}

impl Act {
    /// Something that follows from `n`: mostly an append.
    pub fn choose(n: u64, head: Head, append_only: bool) -> Act {
        let (dice, more) = (n % 40, n / 64);
        match dice {
            0 if !append_only && head.count() > KEEP => {
                Act { what: What::Expire, number: head.next.0 - KEEP as i64 }
            }
            1 | 2 if !append_only && head.count() > 0 => {
                Act { what: What::Retract, number: head.first.0 + (more % head.count()) as i64 }
            }
            3 if !append_only && more.is_multiple_of(60) => Act { what: What::Purge, number: head.next.0 },
            _ => Act { what: What::Append, number: head.next.0 + 1 + (more % BATCH_MAX) as i64 },
        }
    }

    /// Does it.
    pub async fn carry_out(
        self,
        store: &dyn ArchiveStore,
        owner: &BareJid,
        head: Head,
    ) -> Result<(), StoreError> {
        let position = Position(self.number);
        match self.what {
            What::Append => {
                let entries = (head.next.0..self.number).map(|position| entry(owner, position)).collect();
                store.append(owner, head.next, entries).await
            }
            What::Expire => store.expire(owner, Cut::Through(position.offset(-1))).await.map(drop),
            What::Retract => store.retract(owner, position, Bytes::from_static(TOMBSTONE)).await,
            What::Purge => store.purge(owner).await,
        }
    }
}

impl What {
    pub const ALL: [What; 4] = [What::Append, What::Expire, What::Retract, What::Purge];

    pub fn name(self) -> &'static str {
        match self {
            What::Append => "append",
            What::Expire => "expire",
            What::Retract => "retract",
            What::Purge => "purge",
        }
    }
}

/// What is known of one archive.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub first: i64,
    pub next: i64,
    /// What was tried last, if nobody knows whether it was done.
    pub trying: Option<Act>,
    pub retracted: BTreeSet<i64>,
}

pub type Knowledge = BTreeMap<BareJid, Known>;

impl Known {
    /// Something is about to be done.
    pub fn tries(&mut self, act: Act) {
        self.trying = Some(act);
    }

    /// It is done.
    pub fn did(&mut self, Act { what, number }: Act) {
        match what {
            What::Append => self.next = number,
            What::Expire | What::Purge => self.first = number,
            What::Retract => drop(self.retracted.insert(number)),
        }
        self.trying = None;
    }
}

/// That the store in this folder, which must be closed, is sound in itself.
pub fn verify(dir: &Path) {
    let report = EmbeddedStore::verify(dir, |_, _| {}).unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

/// Compares what the store holds with what is known, and takes over what turned out to have been done.
pub async fn check(store: &dyn ArchiveStore, known: &mut Knowledge) -> u64 {
    let mut entries = 0;
    for owner in owners() {
        let known = known.entry(owner.clone()).or_default();
        entries += check_archive(store, &owner, known).await;
    }
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.entries, entries, "the figure of all entries");
    entries
}

/// As [`check`], and learns from it what became of what was tried.
pub async fn check_and_learn(store: &dyn ArchiveStore, known: &Mutex<Knowledge>) -> u64 {
    let mut learned = known.lock().unwrap().clone();
    let entries = check(store, &mut learned).await;
    *known.lock().unwrap() = learned;
    entries
}

/// As [`check`], but learns nothing: what was tried may still turn out either way.
pub async fn check_only(store: &dyn ArchiveStore, known: &Mutex<Knowledge>) -> u64 {
    let mut known = known.lock().unwrap().clone();
    check(store, &mut known).await
}

pub async fn check_archive(store: &dyn ArchiveStore, owner: &BareJid, known: &mut Known) -> u64 {
    let head = store.head(owner).await.unwrap();
    let trying = known.trying.take();
    let (mut firsts, mut nexts, mut maybe_retracted) = (vec![known.first], vec![known.next], None);
    match trying {
        Some(Act { what: What::Append, number }) => nexts.push(number),
        Some(Act { what: What::Expire | What::Purge, number }) => firsts.push(number),
        Some(Act { what: What::Retract, number }) => maybe_retracted = Some(number),
        None => {}
    }
    assert!(
        nexts.contains(&head.next.0),
        "{owner}: {head:?}, but acknowledged was {known:?}, tried {trying:?}"
    );
    assert!(
        firsts.contains(&head.first.0),
        "{owner}: {head:?}, but acknowledged was {known:?}, tried {trying:?}"
    );
    (known.first, known.next) = (head.first.0, head.next.0);
    if head.next.0 > 0 {
        assert_eq!(head.last_stamp, entry(owner, head.next.0 - 1).stamp, "{owner}");
    }
    let all =
        Query { filter: Filter::default(), page: PageRequest { max: usize::MAX, start: PageStart::First } };
    let page = store.page(owner, all).await.unwrap();
    assert_eq!((page.count, page.entries.len() as u64), (head.count(), head.count()), "{owner}");
    known.retracted = known.retracted.split_off(&head.first.0);
    let mut contacts: BTreeMap<BareJid, u64> = BTreeMap::new();
    for (position, found) in (head.first.0..).zip(&page.entries) {
        let new = entry(owner, position);
        assert_eq!((found.position.0, &found.with, found.stamp), (position, &new.with, new.stamp), "{owner}");
        assert_eq!(found.foreign_id, new.foreign_id, "{owner} {position}");
        let may_be = known.retracted.contains(&position) || maybe_retracted == Some(position);
        assert!(
            found.retracted == known.retracted.contains(&position) || (may_be && found.retracted),
            "{owner} {position}"
        );
        let stanza = if found.retracted { Bytes::from_static(TOMBSTONE) } else { new.stanza.clone() };
        assert_eq!(found.stanza, stanza, "{owner} {position}");
        if found.retracted {
            known.retracted.insert(position);
        }
        *contacts.entry(new.with.to_bare()).or_default() += 1;
    }
    for (contact, count) in contacts {
        let filter = Filter { with: Some(contact.clone().into()), ..Filter::default() };
        let alone = Query { filter, page: PageRequest { max: 3, start: PageStart::Last } };
        assert_eq!(store.page(owner, alone).await.unwrap().count, count, "{owner} with {contact}");
    }
    for found in page.entries.iter().filter(|found| found.foreign_id.is_some()).take(2) {
        let id = found.foreign_id.as_deref().unwrap();
        assert_eq!(store.locate(owner, id).await.unwrap(), Some(found.position), "{owner} {id}");
    }
    head.count()
}

pub fn figure(stats: &mammoth_archive::Stats, name: &str) -> u64 {
    stats.details.iter().find(|(of, _)| *of == name).unwrap().1
}

/// Numbers that follow from each other.
pub fn next(turn: &mut u64) -> u64 {
    *turn = turn.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    *turn >> 24
}

/// Does `acts` things one after the other, noting in `known` what is tried and what is done. Stops at the first
/// that fails.
pub async fn drive(
    store: &dyn ArchiveStore,
    known: &Mutex<Knowledge>,
    turn: &mut u64,
    acts: usize,
) -> Result<(), StoreError> {
    drive_through(store, known, turn, acts, false).await
}

/// As [`drive`]; if so asked, by appends only.
pub async fn drive_through(
    store: &dyn ArchiveStore,
    known: &Mutex<Knowledge>,
    turn: &mut u64,
    acts: usize,
    append_only: bool,
) -> Result<(), StoreError> {
    for _ in 0..acts {
        let n = next(turn);
        let owner = owner((n % WRITERS as u64) as usize, (n / 8 % OWNERS_EACH as u64) as usize);
        let head = store.head(&owner).await?;
        let act = Act::choose(n / 64, head, append_only);
        known.lock().unwrap().entry(owner.clone()).or_default().tries(act);
        let done = act.carry_out(store, &owner, head).await;
        let mut known = known.lock().unwrap();
        let known = known.get_mut(&owner).unwrap();
        match done {
            Ok(()) => known.did(act),
            Err(StoreError::Unavailable(cause)) => return Err(StoreError::Unavailable(cause)),
            Err(error) => {
                known.trying = None; // certainly not done
                return Err(error);
            }
        }
    }
    Ok(())
}

/// All entries of an archive.
pub async fn contents(store: &dyn ArchiveStore, owner: &BareJid) -> Result<Vec<StoredEntry>, StoreError> {
    let page = PageRequest { max: usize::MAX, start: PageStart::First };
    Ok(store.page(owner, Query { filter: Filter::default(), page }).await?.entries)
}

/// That these are the entries of which `known` speaks, exactly.
pub fn assert_contents(owner: &BareJid, known: &Known, found: &[StoredEntry]) {
    let positions: Vec<_> = found.iter().map(|found| found.position.0).collect();
    assert_eq!(positions, (known.first..known.next).collect::<Vec<_>>(), "{owner}");
    for found in found {
        let new = entry(owner, found.position.0);
        let retracted = known.retracted.contains(&found.position.0);
        let stanza = if retracted { Bytes::from_static(TOMBSTONE) } else { new.stanza };
        assert_eq!((&found.stanza, found.retracted), (&stanza, retracted), "{owner} {}", found.position);
        assert_eq!((&found.with, found.stamp), (&new.with, new.stamp), "{owner} {}", found.position);
    }
}
