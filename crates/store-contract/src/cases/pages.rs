//! Pages: every filter, every start, every size; exact counts and indexes; unknown positions. What changes while
//! pages are read is left to `together`.

use std::collections::BTreeSet;

use jid::{BareJid, Jid};
use mammoth_archive::{
    Cut, Filter, NewEntry, PageRequest, PageStart, Position, Query, StoreError, StoredEntry, Timestamp,
};

use crate::given::{
    Store, all_of, assert_page, bare, contents, entry, fill, fresh, jid, plain_page, stamp, stanza,
};
use crate::seed::Seeded;

/// An archive with all that makes pages hard: it does not begin at 0, has tombstones, stamps shared by several
/// entries, contacts whose names begin alike, a domain, and the owner itself.
async fn mixed(store: &Store, label: &str) -> (BareJid, Vec<StoredEntry>) {
    let owner = fresh(label);
    let odd: Vec<Jid> = [
        "romeo@montague.example.org",
        "montague.example",
        "romeo@montague.example/balcon",
        "omeo@montague.example",
        owner.as_str(),
    ]
    .map(jid)
    .into();
    let own = Jid::from(owner.with_resource_str("orchard").unwrap());
    fill(store, &owner, (0..20).map(entry)).await;
    let more = (20..40).map(|i| match i % 4 {
        0 => NewEntry { with: odd[usize::try_from(i / 4 % 5).unwrap()].clone(), ..entry(i) },
        1 if i > 30 => NewEntry { with: own.clone(), ..entry(i) },
        _ => entry(i),
    });
    fill(store, &owner, more).await;
    fill(store, &owner, (40..45).map(entry)).await;
    for position in [3, 8, 21, 40] {
        store.retract(&owner, Position(position), stanza("tombstone")).await.unwrap();
    }
    assert_eq!(store.expire(&owner, Cut::Through(Position(6))).await.unwrap(), 7);
    let entries = contents(store, &owner).await;
    assert_eq!(entries.len(), 38);
    (owner, entries)
}

/// Every `with` worth asking for in a [`mixed`] archive.
fn withs(owner: &BareJid) -> Vec<Option<Jid>> {
    let mut withs: Vec<Option<Jid>> = [
        "romeo@montague.example",
        "romeo@montague.example/balcony",
        "romeo@montague.example/balcon",
        "romeo@montague.example.org",
        "nurse@capulet.example/orchard",
        "montague.example",
        "montague.example/balcony",
        "nobody@capulet.example",
        "nobody@capulet.example/orchard",
    ]
    .map(|text| Some(jid(text)))
    .into();
    withs.extend([
        None,
        Some(Jid::from(owner.clone())),
        Some(Jid::from(owner.with_resource_str("orchard").unwrap())),
        Some(Jid::from(owner.with_resource_str("nowhere").unwrap())),
    ]);
    withs
}

/// Every moment worth asking for: before all, between two, on a shared stamp, after all.
fn moments() -> Vec<Option<Timestamp>> {
    let between = Timestamp(stamp(20).0 + 1);
    let ends = [Timestamp(i64::MIN), stamp(7), stamp(20), between, stamp(30), stamp(44), Timestamp(i64::MAX)];
    ends.map(Some).into_iter().chain([None]).collect()
}

/// Pages by one kind of filter at a time, by every start and many sizes, are those of the plain rule.
pub async fn pages_by_every_single_filter(store: Store) {
    let (owner, entries) = mixed(&store, "single").await;
    let mut filters: Vec<Filter<Position>> = Vec::new();
    filters.extend(withs(&owner).into_iter().map(|with| Filter { with, ..Filter::default() }));
    for moment in moments() {
        filters.push(Filter { start: moment, ..Filter::default() });
        filters.push(Filter { end: moment, ..Filter::default() });
    }
    for p in [7, 8, 20, 43, 44].map(Position) {
        filters.push(Filter { after: Some(p), ..Filter::default() });
        filters.push(Filter { before: Some(p), ..Filter::default() });
    }
    for ids in [vec![], vec![7], vec![44], vec![30, 8, 30, 9], (7..45).rev().collect()] {
        filters.push(Filter { ids: Some(ids.into_iter().map(Position).collect()), ..Filter::default() });
    }
    for filter in filters {
        for start in starts() {
            for max in [0, 1, 3, 37, 38, usize::MAX] {
                let query = Query { filter: filter.clone(), page: PageRequest { max, start: start.clone() } };
                assert!(assert_page(&store, &owner, &entries, query).await);
            }
        }
    }
}

fn starts() -> Vec<PageStart<Position>> {
    let mut starts = vec![PageStart::First, PageStart::Last];
    for p in [7, 8, 21, 43, 44].map(Position) {
        starts.extend([PageStart::After(p), PageStart::Before(p)]);
    }
    starts.extend([0, 1, 5, 37, 38, 39, u64::MAX].map(PageStart::Index));
    starts
}

/// Pages by any combination of filters are those of the plain rule; also for cursors that do not match the
/// filter, and for positions that are unknown.
pub async fn pages_by_filters_combined(store: Store) {
    let (owner, entries) = mixed(&store, "combined").await;
    let (withs, moments) = (withs(&owner), moments());
    let mut seeded = Seeded::new(1);
    let mut pages = 0;
    for _ in 0..1500 {
        let query = any_query(&mut seeded, &withs, &moments);
        pages += u32::from(assert_page(&store, &owner, &entries, query).await);
    }
    assert!((500..1499).contains(&pages), "{pages} pages: the queries should be of both kinds");
}

fn any_query(seeded: &mut Seeded, withs: &[Option<Jid>], moments: &[Option<Timestamp>]) -> Query<Position> {
    let position = |seeded: &mut Seeded| {
        // Now and then one that has expired, or one that has not been yet.
        Position(if seeded.one_in(25) { *seeded.pick(&[-1, 0, 6, 45, 46]) } else { seeded.between(7, 44) })
    };
    let some = |seeded: &mut Seeded| if seeded.one_in(3) { Some(position(seeded)) } else { None };
    let mut filter = Filter { after: some(seeded), before: some(seeded), ..Filter::default() };
    if seeded.one_in(2) {
        filter.with = seeded.pick(withs).clone();
    }
    if seeded.one_in(3) {
        filter.start = *seeded.pick(moments);
    }
    if seeded.one_in(3) {
        filter.end = *seeded.pick(moments);
    }
    if seeded.one_in(6) {
        filter.ids = Some((0..seeded.below(8)).map(|_| position(seeded)).collect());
    }
    let start = match seeded.below(5) {
        0 => PageStart::First,
        1 => PageStart::Last,
        2 => PageStart::After(position(seeded)),
        3 => PageStart::Before(position(seeded)),
        _ => PageStart::Index(seeded.below(40)),
    };
    Query { filter, page: PageRequest { max: *seeded.pick(&[0, 1, 2, 5, 20, 100]), start } }
}

/// Walking forwards from the first page or backwards from the last, by any filter and any page size, gives each
/// entry once, in order, with the right count and index; the last page of the walk, and only it, is complete.
pub async fn walks_give_each_entry_once(store: Store) {
    let (owner, entries) = mixed(&store, "walk").await;
    let mut filters: Vec<Filter<Position>> =
        withs(&owner).into_iter().map(|with| Filter { with, ..Filter::default() }).collect();
    filters.push(Filter { start: Some(stamp(12)), end: Some(stamp(33)), ..Filter::default() });
    filters.push(Filter { after: Some(Position(9)), before: Some(Position(39)), ..Filter::default() });
    filters.push(Filter { ids: Some([9, 11, 30, 44].map(Position).into()), ..Filter::default() });
    for filter in filters {
        let expected = plain_page(&entries, &all_of(filter.clone())).unwrap().entries;
        for max in [1, 2, 7, 38, 50] {
            assert_eq!(
                forwards(&store, &owner, &filter, max, expected.len()).await,
                expected,
                "{filter:?} {max}"
            );
            assert_eq!(
                backwards(&store, &owner, &filter, max, expected.len()).await,
                expected,
                "{filter:?} {max}"
            );
        }
    }
}

async fn forwards(
    store: &Store,
    owner: &BareJid,
    filter: &Filter<Position>,
    max: usize,
    count: usize,
) -> Vec<StoredEntry> {
    let mut walked: Vec<StoredEntry> = Vec::new();
    loop {
        let start = walked.last().map_or(PageStart::First, |last| PageStart::After(last.position));
        let query = Query { filter: filter.clone(), page: PageRequest { max, start } };
        let page = store.page(owner, query).await.unwrap();
        assert_eq!((page.count, page.index), (count as u64, walked.len() as u64), "{filter:?} {max}");
        walked.extend(page.entries);
        assert_eq!(page.complete, walked.len() == count, "{filter:?} {max}");
        if page.complete {
            return walked;
        }
    }
}

async fn backwards(
    store: &Store,
    owner: &BareJid,
    filter: &Filter<Position>,
    max: usize,
    count: usize,
) -> Vec<StoredEntry> {
    let mut walked: Vec<StoredEntry> = Vec::new();
    loop {
        let start = walked.first().map_or(PageStart::Last, |first| PageStart::Before(first.position));
        let query = Query { filter: filter.clone(), page: PageRequest { max, start } };
        let mut page = store.page(owner, query).await.unwrap();
        page.entries.append(&mut walked);
        walked = page.entries;
        assert_eq!(
            (page.count, page.index),
            (count as u64, (count - walked.len()) as u64),
            "{filter:?} {max}"
        );
        assert_eq!(page.complete, walked.len() == count, "{filter:?} {max}");
        if page.complete {
            return walked;
        }
    }
}

/// `start` and `end` include the entries stamped at that very moment, all of them when several share it.
pub async fn start_and_end_are_inclusive(store: Store) {
    let owner = fresh("borders");
    fill(&store, &owner, (0..30).map(entry)).await;
    for i in 0..10 {
        let (from, to) = (stamp(3 * i), stamp(3 * i));
        let on = Filter { start: Some(from), end: Some(to), ..Filter::default() };
        let page = store.page(&owner, all_of(on)).await.unwrap();
        let positions: Vec<_> = page.entries.iter().map(|entry| entry.position.0).collect();
        assert_eq!(positions, [3 * i, 3 * i + 1, 3 * i + 2], "the three that share stamp {i}");
        let later = Filter { start: Some(Timestamp(from.0 + 1)), ..Filter::default() };
        let earlier = Filter { end: Some(Timestamp(to.0 - 1)), ..Filter::default() };
        let count = u64::try_from(3 * i).unwrap();
        assert_eq!(store.page(&owner, all_of(later)).await.unwrap().count, 27 - count, "a microsecond later");
        assert_eq!(store.page(&owner, all_of(earlier)).await.unwrap().count, count, "a microsecond earlier");
    }
}

/// With `max` 0 the count comes alone, and it is complete only when there is nothing to come.
pub async fn a_count_can_be_asked_for_alone(store: Store) {
    let owner = fresh("count");
    let none = |start| Query { filter: Filter::default(), page: PageRequest { max: 0, start } };
    let page = store.page(&owner, none(PageStart::First)).await.unwrap();
    assert_eq!((page.count, page.complete), (0, true), "an empty archive");
    fill(&store, &owner, (0..9).map(entry)).await;
    for (start, index, complete) in [
        (PageStart::First, 0, false),
        (PageStart::Last, 9, false),
        (PageStart::After(Position(8)), 9, true),
        (PageStart::Before(Position(0)), 0, true),
        (PageStart::Index(4), 4, false),
        (PageStart::Index(9), 9, true),
        (PageStart::Index(99), 9, true),
    ] {
        let page = store.page(&owner, none(start.clone())).await.unwrap();
        assert_eq!(
            (page.entries.len(), page.count, page.index, page.complete),
            (0, 9, index, complete),
            "{start:?}"
        );
    }
}

/// A cursor that stands in the archive but not among what the filter leaves still has its place.
pub async fn a_cursor_need_not_match_the_filter(store: Store) {
    let owner = fresh("cursor");
    let (juliet, romeo) = (jid("juliet@capulet.example/x"), jid("romeo@montague.example/x"));
    let with = |i| if i % 2 == 0 { juliet.clone() } else { romeo.clone() };
    fill(&store, &owner, (0..10).map(|i| NewEntry { with: with(i), ..entry(i) })).await;
    let filter = Filter { with: Some(juliet.to_bare().into()), ..Filter::default() };
    let page = |start| Query { filter: filter.clone(), page: PageRequest { max: 2, start } };
    for (start, positions, index, complete) in [
        (PageStart::After(Position(3)), vec![4, 6], 2, false),
        (PageStart::After(Position(5)), vec![6, 8], 3, true),
        (PageStart::After(Position(9)), vec![], 5, true),
        (PageStart::Before(Position(7)), vec![4, 6], 2, false),
        (PageStart::Before(Position(3)), vec![0, 2], 0, true),
        (PageStart::Before(Position(1)), vec![0], 0, true),
    ] {
        let found = store.page(&owner, page(start.clone())).await.unwrap();
        let at: Vec<_> = found.entries.iter().map(|entry| entry.position.0).collect();
        assert_eq!(
            (at, found.count, found.index, found.complete),
            (positions, 5, index, complete),
            "{start:?}"
        );
    }
}

/// A position at which nothing stands is `NotFound` wherever a query may name it: never was, not yet, expired,
/// purged; also when the rest of the query leaves nothing anyway.
pub async fn an_unknown_position_is_not_found_anywhere(store: Store) {
    let owner = fresh("unknown");
    for p in [-1, 0, 1] {
        unknown_everywhere(&store, &owner, p, &[]).await;
    }
    fill(&store, &owner, (0..12).map(entry)).await;
    store.expire(&owner, Cut::KeepNewest(6)).await.unwrap();
    store.retract(&owner, Position(8), stanza("tombstone")).await.unwrap();
    for p in [i64::MIN, i64::MIN + 1, -1, 0, 4, 5, 12, 13, i64::MAX - 1, i64::MAX] {
        unknown_everywhere(&store, &owner, p, &[6, 8, 11]).await;
    }
    let other = fresh("unknown-other");
    fill(&store, &other, (0..3).map(entry)).await;
    unknown_everywhere(&store, &other, 8, &[0]).await;
    store.purge(&owner).await.unwrap();
    for p in 0..13 {
        unknown_everywhere(&store, &owner, p, &[]).await;
    }
    fill(&store, &owner, (12..14).map(entry)).await;
    for p in [0, 8, 11, 14] {
        unknown_everywhere(&store, &owner, p, &[12, 13]).await;
    }
}

async fn unknown_everywhere(store: &Store, owner: &BareJid, p: i64, known: &[i64]) {
    let p = Position(p);
    let known: Vec<_> = known.iter().copied().map(Position).collect();
    let plain = Filter::default;
    let mut filters = vec![
        (Filter { after: Some(p), ..plain() }, PageStart::First),
        (Filter { before: Some(p), ..plain() }, PageStart::Last),
        (Filter { ids: Some(vec![p]), ..plain() }, PageStart::First),
        (Filter { ids: Some(known.iter().copied().chain([p]).collect()), ..plain() }, PageStart::First),
        (plain(), PageStart::After(p)),
        (plain(), PageStart::Before(p)),
    ];
    if let Some(&k) = known.first() {
        filters.push((Filter { after: Some(k), before: Some(p), ..plain() }, PageStart::After(k)));
        filters.push((Filter { ids: Some(vec![k]), ..plain() }, PageStart::Before(p)));
    }
    let nobody = Some(jid("nobody@nowhere.example"));
    for (filter, start) in filters {
        for with in [None, nobody.clone()] {
            for max in [0, 10] {
                let filter = Filter { with: with.clone(), ..filter.clone() };
                let query = Query { filter, page: PageRequest { max, start: start.clone() } };
                let found = store.page(owner, query.clone()).await;
                assert!(matches!(found, Err(StoreError::NotFound(q)) if q == p), "{query:?}: {found:?}");
            }
        }
    }
}

/// Contacts whose names begin alike, or differ only behind the `@` or the `/`, are told apart.
pub async fn contacts_that_look_alike_are_told_apart(store: Store) {
    let owner = fresh("alike");
    let names = [
        "a@b.example",
        "a@b.example/r",
        "a@b.example/r2",
        "a@b.example/r/x",
        "a@b.exampl",
        "a@b.example.org",
        "aa@b.example",
        "b.example",
        "b.example/r",
        "b.example/a@b.example",
        "a@b.example/a@b.example",
        "ß@b.example",
        "ss@b.example",
        "a%@b.example",
        "a_@b.example",
    ];
    fill(&store, &owner, (0..).zip(names).map(|(i, with)| NewEntry { with: jid(with), ..entry(i) })).await;
    let entries = contents(&store, &owner).await;
    let mut asked: BTreeSet<Jid> = names.iter().map(|name| jid(name)).collect();
    asked.extend(names.iter().map(|name| Jid::from(jid(name).to_bare())));
    asked.insert(bare("r2@b.example").into());
    for with in asked {
        let query = all_of(Filter { with: Some(with), ..Filter::default() });
        assert_page(&store, &owner, &entries, query).await;
    }
}
