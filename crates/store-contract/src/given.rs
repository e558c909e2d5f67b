//! What the cases start from: owners nobody has used, entries that tell themselves apart, and a page computed in
//! the plainest way. What is asserted about them is left to `cases`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Filter, Head, NewEntry, Page, PageRequest, PageStart, Position, Query, StoreError,
    StoredEntry, Timestamp,
};

/// A store as the cases hold it.
pub type Store = Arc<dyn ArchiveStore>;

/// A name that no earlier case and no earlier run on the same store has used, and that is part of no other such
/// name.
pub fn fresh_name(label: &str) -> String {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{label}-{:08x}-{}z", *RUN >> 32, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An owner whose archive has never been written to.
pub fn fresh(label: &str) -> BareJid {
    bare(&format!("{}@archive.example", fresh_name(label)))
}

/// A bare JID.
pub fn bare(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

/// A JID of any kind.
pub fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

/// Entry number `i` of a mixed conversation: three contacts, two resources each and now and then a bare JID;
/// each stamp is shared by three neighbours.
pub fn entry(i: i64) -> NewEntry {
    let contact = ["romeo@montague.example", "juliet@capulet.example", "nurse@capulet.example"]
        [usize::try_from(i.rem_euclid(3)).unwrap()];
    let with = match i.rem_euclid(5) {
        0 => contact.to_owned(),
        n if n % 2 == 0 => format!("{contact}/balcony"),
        _ => format!("{contact}/orchard"),
    };
    NewEntry {
        with: jid(&with),
        stamp: stamp(i),
        stanza: stanza(&format!("entry {i}")),
        message_id: None,
        foreign_id: None,
    }
}

/// The stamp of [`entry`] number `i`.
pub fn stamp(i: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + i.div_euclid(3) * 1_000_000)
}

/// A message with this body.
pub fn stanza(body: &str) -> Bytes {
    Bytes::from(format!("<message xmlns='jabber:client' type='chat'><body>{body}</body></message>"))
}

/// A page of everything, as far as `max` goes.
pub fn first(max: usize) -> PageRequest<Position> {
    PageRequest { max, start: PageStart::First }
}

/// A query for all that `filter` leaves.
pub fn all_of(filter: Filter<Position>) -> Query<Position> {
    Query { filter, page: first(usize::MAX) }
}

/// Appends at the archive's end, in one batch; answers where the batch begins.
pub async fn fill(store: &Store, owner: &BareJid, entries: impl IntoIterator<Item = NewEntry>) -> Position {
    let at = store.head(owner).await.unwrap().next;
    store.append(owner, at, entries.into_iter().collect()).await.unwrap();
    at
}

/// Everything an archive holds, with the invariants of its head checked on the way.
pub async fn contents(store: &Store, owner: &BareJid) -> Vec<StoredEntry> {
    let page = store.page(owner, all_of(Filter::default())).await.unwrap();
    let head = store.head(owner).await.unwrap();
    assert_eq!(page.count, head.count(), "the count is next - first");
    assert_eq!((page.index, page.complete), (0, true), "a page of everything");
    let positions: Vec<_> = page.entries.iter().map(|entry| entry.position.0).collect();
    assert_eq!(positions, (head.first.0..head.next.0).collect::<Vec<_>>(), "positions are dense");
    assert!(page.entries.windows(2).all(|w| w[0].stamp <= w[1].stamp), "stamps never decrease");
    if let Some(last) = page.entries.last() {
        assert_eq!(last.stamp, head.last_stamp, "the head's stamp is that of the newest entry");
    }
    page.entries
}

/// Entries as they are to come back when appended at `at`.
pub fn stored(at: Position, entries: &[NewEntry]) -> Vec<StoredEntry> {
    let stored = (0..).zip(entries).map(|(i, new)| StoredEntry {
        position: at.offset(i),
        with: new.with.clone(),
        stamp: new.stamp,
        stanza: new.stanza.clone(),
        foreign_id: new.foreign_id.clone(),
        retracted: false,
    });
    stored.collect()
}

/// What a page of an archive with these `entries` must be: filter, then cut, without any arithmetic that the
/// stores share. `Err` for the positions at which no entry stands.
pub fn plain_page(
    entries: &[StoredEntry],
    query: &Query<Position>,
) -> Result<Page<StoredEntry>, Vec<Position>> {
    let unknown: Vec<_> =
        query.named().copied().filter(|p| entries.iter().all(|entry| entry.position != *p)).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let filter = &query.filter;
    let wanted = |entry: &StoredEntry| {
        let with = match &filter.with {
            Some(with) if with.resource().is_some() => entry.with == *with,
            Some(with) => entry.with.to_bare() == with.to_bare(),
            None => true,
        };
        with && filter.start.is_none_or(|start| start <= entry.stamp)
            && filter.end.is_none_or(|end| entry.stamp <= end)
            && filter.after.is_none_or(|after| after < entry.position)
            && filter.before.is_none_or(|before| entry.position < before)
            && filter.ids.as_ref().is_none_or(|ids| ids.contains(&entry.position))
    };
    let left: Vec<StoredEntry> = entries.iter().filter(|entry| wanted(entry)).cloned().collect();
    let max = query.page.max;
    let (skipped, rest): (Vec<_>, Vec<_>) = match query.page.start {
        PageStart::First => (Vec::new(), left.clone()),
        PageStart::After(p) => left.iter().cloned().partition(|entry| entry.position <= p),
        PageStart::Index(index) => {
            let index = usize::try_from(index).unwrap_or(usize::MAX).min(left.len());
            (left[..index].to_vec(), left[index..].to_vec())
        }
        PageStart::Last => return Ok(backwards(left.clone(), left.len(), max)),
        PageStart::Before(p) => {
            let earlier = left.iter().filter(|entry| entry.position < p).cloned().collect();
            return Ok(backwards(earlier, left.len(), max));
        }
    };
    Ok(Page {
        entries: rest.iter().take(max).cloned().collect(),
        count: left.len() as u64,
        index: skipped.len() as u64,
        complete: rest.len() <= max,
    })
}

fn backwards(earlier: Vec<StoredEntry>, count: usize, max: usize) -> Page<StoredEntry> {
    let index = earlier.len().saturating_sub(max);
    Page {
        entries: earlier[index..].to_vec(),
        count: count as u64,
        index: index as u64,
        complete: index == 0,
    }
}

/// Asks for a page of an archive that holds `entries`, and compares. Answers whether there was a page.
pub async fn assert_page(
    store: &Store,
    owner: &BareJid,
    entries: &[StoredEntry],
    query: Query<Position>,
) -> bool {
    let found = store.page(owner, query.clone()).await;
    match (plain_page(entries, &query), found) {
        (Ok(expected), Ok(found)) => {
            assert_eq!(found, expected, "{query:?}");
            true
        }
        (Err(unknown), Err(StoreError::NotFound(p))) => {
            assert!(unknown.contains(&p), "{p} stands in the archive, {unknown:?} do not; {query:?}");
            false
        }
        (expected, found) => panic!("{query:?}\n expected {expected:?}\n found {found:?}"),
    }
}

/// A head without its stamp, for short assertions.
pub fn ends(head: Head) -> (i64, i64) {
    (head.first.0, head.next.0)
}

/// Whether an error is the conflict that names `next`.
pub fn is_conflict(result: &Result<(), StoreError>, next: i64) -> bool {
    matches!(result, Err(StoreError::Conflict(Position(n))) if *n == next)
}
