//! Walking an archive by its public ids, as clients do, with any filter and any page size. What changes meanwhile
//! is left to `gaps`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    Archive, Cut, Entry, Filter, Limits, NewEntry, PageStart, Position, StanzaId, Timestamp,
};
use proptest::prelude::*;
use proptest::sample::Index;

mod given;
use given::{LIMITS, append, archive, arrival, bare, everything, jid, query, run, texts};

const CONTACTS: [&str; 6] =
    ["a@x.example/1", "a@x.example/2", "a@x.example", "b@x.example/1", "x.example", "aa@x.example/1"];

/// An archive's history: contact, stamps since the one before, whether with an old id; and how much has expired.
#[derive(Clone, Debug)]
struct History {
    entries: Vec<(usize, i64, bool)>,
    gone: Index,
    retracted: Vec<Index>,
}

fn any_history() -> impl Strategy<Value = History> {
    let entry = (0..CONTACTS.len(), prop_oneof![Just(0_i64), 0..3_i64], prop::bool::weighted(0.2));
    (prop::collection::vec(entry, 1..40), any::<Index>(), prop::collection::vec(any::<Index>(), 0..3))
        .prop_map(|(entries, gone, retracted)| History { entries, gone, retracted })
}

/// A filter, with its ends as places among the entries.
#[derive(Clone, Debug)]
struct Narrow {
    with: Option<(usize, bool)>,
    start: Option<(Index, i64)>,
    end: Option<(Index, i64)>,
    after: Option<Index>,
    before: Option<Index>,
    ids: Option<Vec<Index>>,
}

fn any_filter() -> impl Strategy<Value = Narrow> {
    let moment = || prop::option::weighted(0.3, (any::<Index>(), -1..=1_i64));
    let place = || prop::option::weighted(0.3, any::<Index>());
    let with = prop::option::of((0..CONTACTS.len(), any::<bool>()));
    let ids = prop::option::weighted(0.15, prop::collection::vec(any::<Index>(), 0..8));
    (with, moment(), moment(), place(), place(), ids)
        .prop_map(|(with, start, end, after, before, ids)| Narrow { with, start, end, after, before, ids })
}

async fn build(archive: &Archive, owner: &BareJid, history: &History) {
    let mut stamp = 0;
    let entries: Vec<NewEntry> = (0..)
        .zip(&history.entries)
        .map(|(i, (with, later, old))| {
            stamp += later;
            NewEntry {
                with: jid(CONTACTS[*with]),
                stamp: Timestamp(stamp),
                stanza: Bytes::from(format!("{i}")),
                message_id: None,
                foreign_id: old.then(|| format!("old-{i}")),
            }
        })
        .collect();
    let count = entries.len();
    archive.store().append(owner, Position(0), entries.into()).await.unwrap();
    for place in &history.retracted {
        let place = Position(i64::try_from(place.index(count)).unwrap());
        archive.store().retract(owner, place, Bytes::from_static(b"tombstone")).await.unwrap();
    }
    let keep = history.gone.index(count) as u64 + 1;
    archive.store().expire(owner, Cut::KeepNewest(keep)).await.unwrap();
}

impl Narrow {
    fn filter(&self, all: &[Entry]) -> Filter<StanzaId> {
        let id = |place: &Index| place.get(all).id.clone();
        let moment = |(place, more): &(Index, i64)| Timestamp(place.get(all).stamp.0 + more);
        Filter {
            with: self.with.map(|(with, to_bare)| {
                let with = jid(CONTACTS[with]);
                if to_bare { with.to_bare().into() } else { with }
            }),
            start: self.start.as_ref().map(moment),
            end: self.end.as_ref().map(moment),
            after: self.after.as_ref().map(id),
            before: self.before.as_ref().map(id),
            ids: self.ids.as_ref().map(|ids| ids.iter().map(id).collect()),
        }
    }
}

/// What the filter leaves, entry by entry, by places in the list.
fn left(all: &[Entry], filter: &Filter<StanzaId>) -> Vec<Entry> {
    let place = |id: &StanzaId| all.iter().position(|entry| entry.id == *id).unwrap();
    let wanted = |at: usize, entry: &Entry| {
        filter.with.as_ref().is_none_or(|with| match with.resource() {
            Some(_) => entry.with == *with,
            None => entry.with.to_bare() == with.to_bare(),
        }) && filter.start.is_none_or(|start| start <= entry.stamp)
            && filter.end.is_none_or(|end| entry.stamp <= end)
            && filter.after.as_ref().is_none_or(|id| place(id) < at)
            && filter.before.as_ref().is_none_or(|id| at < place(id))
            && filter.ids.as_ref().is_none_or(|ids| ids.contains(&entry.id))
    };
    all.iter().enumerate().filter(|(at, entry)| wanted(*at, entry)).map(|(_, entry)| entry.clone()).collect()
}

async fn walk(
    archive: &Archive,
    owner: &BareJid,
    filter: &Filter<StanzaId>,
    max: usize,
    forwards: bool,
    count: usize,
) -> Vec<Entry> {
    let mut walked: Vec<Entry> = Vec::new();
    for _ in 0..=count {
        let start = match (forwards, walked.first(), walked.last()) {
            (true, _, Some(last)) => PageStart::After(last.id.clone()),
            (true, _, None) => PageStart::First,
            (false, Some(first), _) => PageStart::Before(first.id.clone()),
            (false, None, _) => PageStart::Last,
        };
        let mut page = archive.page(owner, query(filter.clone(), start, max)).await.unwrap();
        assert_eq!(page.count, count as u64);
        assert!(page.entries.len() <= max);
        assert!(page.complete || page.entries.len() == max, "a short page in the middle");
        if forwards {
            assert_eq!(page.index, walked.len() as u64);
            walked.append(&mut page.entries);
        } else {
            page.entries.append(&mut walked);
            walked = page.entries;
            assert_eq!(page.index, (count - walked.len()) as u64);
        }
        if page.complete {
            return walked;
        }
    }
    panic!("the walk does not end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Forwards and backwards, by any filter and any page size: each entry once, in order, count and index exact.
    #[test]
    fn each_entry_once(history in any_history(), narrow in any_filter(), max in 1..45_usize) {
        run(async {
            let archive = archive(LIMITS).await;
            let owner = bare("romeo@montague.example");
            build(&archive, &owner, &history).await;
            let all = everything(&archive, &owner).await;
            let filter = narrow.filter(&all);
            let expected = left(&all, &filter);
            let count = expected.len();
            for forwards in [true, false] {
                assert_eq!(walk(&archive, &owner, &filter, max, forwards, count).await, expected, "{filter:?}");
            }
            let alone = archive.page(&owner, query(filter.clone(), PageStart::First, 0)).await.unwrap();
            assert_eq!((alone.count, alone.entries.len()), (count as u64, 0));
            for index in [0, count / 2, count, count + 7] {
                let page = query(filter.clone(), PageStart::Index(index as u64), max);
                let page = archive.page(&owner, page).await.unwrap();
                let from = index.min(count);
                assert_eq!(page.entries, expected[from..count.min(from + max)]);
                assert_eq!((page.index, page.complete), (from as u64, from + max >= count));
            }
        });
    }

    /// Whatever cursor that stands in the archive, matching or not: the pages before and after it, put together
    /// around it, are all that the filter leaves.
    #[test]
    fn both_sides_of_any_cursor(history in any_history(), narrow in any_filter(), at in any::<Index>()) {
        run(async {
            let archive = archive(LIMITS).await;
            let owner = bare("romeo@montague.example");
            build(&archive, &owner, &history).await;
            let all = everything(&archive, &owner).await;
            let filter = narrow.filter(&all);
            let cursor = at.get(&all);
            let before = query(filter.clone(), PageStart::Before(cursor.id.clone()), 1000);
            let mut put = archive.page(&owner, before).await.unwrap().entries;
            let expected = left(&all, &filter);
            put.extend(expected.iter().find(|entry| entry.id == cursor.id).cloned());
            let after = query(filter.clone(), PageStart::After(cursor.id.clone()), 1000);
            put.extend(archive.page(&owner, after).await.unwrap().entries);
            assert_eq!(put, expected);
        });
    }
}

#[test]
fn a_page_is_cut_to_the_limit_and_says_that_it_is_not_complete() {
    run(async {
        let archive = archive(Limits { page_max: 4, ids_max: 100 }).await;
        let owner = bare("romeo@montague.example");
        let batch = (0..9).map(|i| arrival("juliet@capulet.example/x", &i.to_string())).collect();
        append(&archive, &owner, Timestamp(1), batch).await;
        for (max, length) in [(0, 0), (1, 1), (4, 4), (5, 4), (usize::MAX, 4)] {
            for start in [PageStart::First, PageStart::Last] {
                let page = archive.page(&owner, query(Filter::default(), start, max)).await.unwrap();
                assert_eq!((page.entries.len(), page.count, page.complete), (length, 9, false), "{max}");
            }
        }
        let last = archive.page(&owner, query(Filter::default(), PageStart::Last, 100)).await.unwrap();
        assert_eq!((texts(&last.entries), last.index), (vec!["5", "6", "7", "8"], 5));
    });
}
