//! The three ways to forget: expire, retract, purge. That a forgotten position is unknown in every part of a
//! query is left to `pages`.

use std::sync::Arc;

use bytes::Bytes;
use mammoth_archive::{
    Cut, ExpiresAfter, Filter, NewEntry, PageRequest, PageStart, Position, Prefs, Query, Settings,
    SettingsChange, StoreError, Timestamp,
};

use crate::given::{Store, all_of, contents, ends, entry, fill, fresh, jid, stamp, stanza, stored};

/// Every kind of cut takes exactly the oldest entries it speaks of, says how many, and takes none when repeated.
pub async fn every_cut_takes_the_oldest(store: Store) {
    let twelve = |i| NewEntry { stanza: Bytes::from(vec![b'x'; 100]), ..entry(i) };
    let cuts = [
        (Cut::Before(Timestamp(i64::MIN)), 0),
        (Cut::Before(stamp(0)), 0),
        (Cut::Before(Timestamp(stamp(0).0 + 1)), 3),
        (Cut::Before(stamp(3)), 3),
        (Cut::Before(Timestamp(stamp(9).0 - 1)), 9),
        (Cut::Before(stamp(11)), 9),
        (Cut::Before(Timestamp(i64::MAX)), 12),
        (Cut::Through(Position(i64::MIN)), 0),
        (Cut::Through(Position(-1)), 0),
        (Cut::Through(Position(0)), 1),
        (Cut::Through(Position(6)), 7),
        (Cut::Through(Position(11)), 12),
        (Cut::Through(Position(12)), 12),
        (Cut::Through(Position(i64::MAX)), 12),
        (Cut::KeepNewest(u64::MAX), 0),
        (Cut::KeepNewest(13), 0),
        (Cut::KeepNewest(12), 0),
        (Cut::KeepNewest(11), 1),
        (Cut::KeepNewest(0), 12),
        (Cut::KeepBytes(u64::MAX), 0),
        (Cut::KeepBytes(1200), 0),
        (Cut::KeepBytes(1199), 1),
        (Cut::KeepBytes(1100), 1),
        (Cut::KeepBytes(450), 8),
        (Cut::KeepBytes(99), 12),
        (Cut::KeepBytes(0), 12),
    ];
    for (cut, gone) in cuts {
        let owner = fresh("cut");
        let batch: Vec<_> = (0..12).map(twelve).collect();
        fill(&store, &owner, batch.clone()).await;
        assert_eq!(store.expire(&owner, cut).await.unwrap(), gone, "{cut:?}");
        let left = &stored(Position(0), &batch)[usize::try_from(gone).unwrap()..];
        assert_eq!(contents(&store, &owner).await, left, "{cut:?}");
        assert_eq!(store.expire(&owner, cut).await.unwrap(), 0, "{cut:?} repeated");
        assert_eq!(contents(&store, &owner).await, left, "{cut:?} repeated");
        assert_eq!(ends(store.head(&owner).await.unwrap()), (i64::try_from(gone).unwrap(), 12), "{cut:?}");
    }
}

/// Bytes are counted as they stand: a long stanza keeps few company, a tombstone counts for what it holds.
pub async fn bytes_are_counted_as_they_stand(store: Store) {
    let owner = fresh("bytes-kept");
    let of = |len: usize| NewEntry { stanza: Bytes::from(vec![b'y'; len]), ..entry(0) };
    fill(&store, &owner, [of(10), of(5000), of(0), of(300), of(0), of(7)]).await;
    assert_eq!(store.expire(&owner, Cut::KeepBytes(5307)).await.unwrap(), 1);
    store.retract(&owner, Position(1), Bytes::from(vec![b'z'; 40])).await.unwrap();
    assert_eq!(store.expire(&owner, Cut::KeepBytes(347)).await.unwrap(), 0, "the tombstone is 40 bytes");
    assert_eq!(store.expire(&owner, Cut::KeepBytes(346)).await.unwrap(), 1);
    assert_eq!(store.expire(&owner, Cut::KeepBytes(307)).await.unwrap(), 0);
    assert_eq!(store.expire(&owner, Cut::KeepBytes(0)).await.unwrap(), 4);
    assert_eq!(ends(store.head(&owner).await.unwrap()), (6, 6));
}

/// Expiring bit by bit, with appends in between, keeps counts and pages exact and never gives a position again.
pub async fn positions_never_come_back(store: Store) {
    let owner = fresh("never-back");
    let mut next = 0;
    for round in 0..12 {
        let batch: Vec<_> = (next..next + 5).map(entry).collect();
        assert_eq!(fill(&store, &owner, batch).await, Position(next), "round {round}");
        next += 5;
        let (cut, first) = match round % 4 {
            0 => (Cut::KeepNewest(3), next - 3),
            1 => (Cut::Through(Position(next - 2)), next - 1),
            2 => (Cut::KeepNewest(0), next),
            _ => (Cut::Before(Timestamp(i64::MIN)), next - 5),
        };
        store.expire(&owner, cut).await.unwrap();
        assert_eq!(ends(store.head(&owner).await.unwrap()), (first, next), "round {round}");
        contents(&store, &owner).await;
        let after = store
            .page(
                &owner,
                Query { filter: Filter::default(), page: PageRequest { max: 5, start: PageStart::Index(0) } },
            )
            .await
            .unwrap();
        assert_eq!(after.count, u64::try_from(next - first).unwrap(), "round {round}");
    }
    store.purge(&owner).await.unwrap();
    store.purge(&owner).await.unwrap();
    assert_eq!(ends(store.head(&owner).await.unwrap()), (next, next), "purged");
    assert_eq!(fill(&store, &owner, [entry(next)]).await, Position(next), "after the purge");
    assert_eq!(contents(&store, &owner).await, stored(Position(next), &[entry(next)]));
}

/// A contact's count and pages follow the expiry.
pub async fn conversations_follow_the_expiry(store: Store) {
    let owner = fresh("conversation");
    let with = |i: i64| jid(if i % 3 == 0 { "rare@a.example/x" } else { "often@a.example/y" });
    fill(&store, &owner, (0..30).map(|i| NewEntry { with: with(i), ..entry(i) })).await;
    for (through, rare, often) in
        [(-1, 10, 20), (0, 9, 20), (1, 9, 19), (3, 8, 18), (26, 1, 2), (27, 0, 2), (29, 0, 0)]
    {
        store.expire(&owner, Cut::Through(Position(through))).await.unwrap();
        for (name, count) in
            [("rare@a.example", rare), ("rare@a.example/x", rare), ("often@a.example", often)]
        {
            let filter = Filter { with: Some(jid(name)), ..Filter::default() };
            let page = store.page(&owner, all_of(filter)).await.unwrap();
            assert_eq!((page.count, page.entries.len() as u64), (count, count), "{name} after {through}");
            assert!(page.entries.iter().all(|entry| entry.position.0 > through), "{name} after {through}");
        }
    }
    fill(&store, &owner, [NewEntry { with: with(0), ..entry(30) }]).await;
    let filter = Filter { with: Some(with(0)), ..Filter::default() };
    let page = store.page(&owner, all_of(filter)).await.unwrap();
    assert_eq!((page.count, page.index, page.entries[0].position), (1, 0, Position(30)));
}

/// A retraction keeps the entry's place, stamp, `with` and ids; only its stanza goes.
pub async fn a_retraction_keeps_the_place(store: Store) {
    let owner = fresh("retract");
    let mut batch: Vec<_> = (0..9).map(entry).collect();
    batch[4].foreign_id = Some("old-4".into());
    batch[4].message_id = Some("m-4".into());
    fill(&store, &owner, batch.clone()).await;
    let head = store.head(&owner).await.unwrap();
    let mut expected = stored(Position(0), &batch);
    let with = batch[4].with.to_bare();
    for (position, tombstone) in
        [(4, "gone"), (0, "first"), (8, "last"), (4, "gone, as we know now"), (4, "")]
    {
        store.retract(&owner, Position(position), stanza(tombstone)).await.unwrap();
        let entry = &mut expected[usize::try_from(position).unwrap()];
        (entry.stanza, entry.retracted) = (stanza(tombstone), true);
        assert_eq!(contents(&store, &owner).await, expected);
    }
    store.retract(&owner, Position(5), Bytes::new()).await.unwrap();
    (expected[5].stanza, expected[5].retracted) = (Bytes::new(), true);
    assert_eq!(contents(&store, &owner).await, expected, "an empty tombstone");
    assert_eq!(store.head(&owner).await.unwrap(), head);
    assert_eq!(store.locate(&owner, "old-4").await.unwrap(), Some(Position(4)));
    assert!(store.find(&owner, &with, "m-4", 10).await.unwrap().contains(&Position(4)));
    let filter = Filter { with: Some(with.into()), ids: Some(vec![Position(4)]), ..Filter::default() };
    assert_eq!(store.page(&owner, all_of(filter)).await.unwrap().entries, expected[4..5]);
}

/// There is nothing to retract where nothing stands.
pub async fn a_retraction_of_nothing_is_not_found(store: Store) {
    let owner = fresh("retract-nothing");
    fill(&store, &owner, (0..6).map(entry)).await;
    store.retract(&owner, Position(1), stanza("tombstone")).await.unwrap();
    store.expire(&owner, Cut::Through(Position(2))).await.unwrap();
    let before = contents(&store, &owner).await;
    for p in [i64::MIN, -1, 0, 1, 2, 6, 7, i64::MAX] {
        let found = store.retract(&owner, Position(p), stanza("tombstone")).await;
        assert!(matches!(found, Err(StoreError::NotFound(q)) if q.0 == p), "{p}: {found:?}");
    }
    assert_eq!(contents(&store, &owner).await, before);
    fill(&store, &owner, [entry(6)]).await;
    assert!(!contents(&store, &owner).await[3].retracted, "what comes later is not retracted beforehand");
}

/// A purge leaves the high-water mark and nothing else: no entry, no alias, no settings.
pub async fn a_purge_leaves_the_high_water_mark(store: Store) {
    let (owner, neighbour) = (fresh("purge"), fresh("purge-neighbour"));
    let batch: Vec<_> = (0..40)
        .map(|i| NewEntry {
            foreign_id: Some(format!("f{i}")),
            message_id: Some(format!("m{i}")),
            ..entry(i)
        })
        .collect();
    for owner in [&owner, &neighbour] {
        fill(&store, owner, batch.clone()).await;
        store.retract(owner, Position(7), stanza("tombstone")).await.unwrap();
        store.set(owner, SettingsChange::Prefs(Some(Prefs::default()))).await.unwrap();
        store.set(owner, SettingsChange::ExpiresAfter(Some(ExpiresAfter::Never))).await.unwrap();
    }
    store.expire(&owner, Cut::Through(Position(3))).await.unwrap();
    let kept = contents(&store, &neighbour).await;
    store.purge(&owner).await.unwrap();
    assert_eq!(ends(store.head(&owner).await.unwrap()), (40, 40));
    assert_eq!(contents(&store, &owner).await, []);
    assert_eq!(store.settings(&owner).await.unwrap(), Settings::default());
    for (i, new) in (0..).zip(&batch) {
        assert_eq!(store.locate(&owner, &format!("f{i}")).await.unwrap(), None, "f{i}");
        let found = store.find(&owner, &new.with.to_bare(), &format!("m{i}"), 10).await.unwrap();
        assert_eq!(found, [], "m{i}");
    }
    fill(&store, &owner, [NewEntry { foreign_id: Some("f7".into()), ..entry(40) }]).await;
    assert_eq!(store.locate(&owner, "f7").await.unwrap(), Some(Position(40)));
    assert!(!contents(&store, &owner).await[0].retracted);
    let neighbours = contents(&store, &neighbour).await;
    assert_eq!(neighbours, kept, "the neighbour keeps all");
    assert_eq!(store.locate(&neighbour, "f7").await.unwrap(), Some(Position(7)));
    assert!(store.settings(&neighbour).await.unwrap().prefs.is_some());
}

/// Nothing of what a stanza said can be read once it is retracted, expired or purged, by any query.
pub async fn what_is_forgotten_cannot_be_read(store: Store) {
    let owner = fresh("forgotten");
    let secret = |i| NewEntry {
        stanza: stanza(&format!("secret {i}")),
        foreign_id: Some(format!("s{i}")),
        ..entry(i)
    };
    fill(&store, &owner, (0..12).map(secret)).await;
    store.expire(&owner, Cut::Through(Position(2))).await.unwrap();
    store.retract(&owner, Position(5), stanza("tombstone")).await.unwrap();
    assert_eq!(readable(&store, &owner).await, [3, 4, 6, 7, 8, 9, 10, 11]);
    store.retract(&owner, Position(3), stanza("tombstone")).await.unwrap();
    assert_eq!(readable(&store, &owner).await, [4, 6, 7, 8, 9, 10, 11]);
    store.purge(&owner).await.unwrap();
    assert_eq!(readable(&store, &owner).await, [0; 0]);
    fill(&store, &owner, [entry(12)]).await;
    assert_eq!(readable(&store, &owner).await, [0; 0]);
}

/// The numbers of the secrets that any kind of page shows.
async fn readable(store: &Store, owner: &jid::BareJid) -> Vec<i64> {
    let mut pages = vec![all_of(Filter::default())];
    for i in 0..13 {
        let with = Some(entry(i).with);
        pages.push(all_of(Filter { with, ..Filter::default() }));
        pages.push(all_of(Filter { with: Some(entry(i).with.to_bare().into()), ..Filter::default() }));
        pages.push(all_of(Filter { start: Some(stamp(i)), end: Some(stamp(i)), ..Filter::default() }));
        pages.push(all_of(Filter { ids: Some(vec![Position(i)]), ..Filter::default() }));
    }
    let mut seen = std::collections::BTreeSet::new();
    for page in pages {
        let Ok(page) = store.page(owner, page).await else { continue };
        seen.extend(page.entries.iter().filter_map(|entry| {
            let text = std::str::from_utf8(&entry.stanza).unwrap();
            let (_, rest) = text.split_once("secret ")?;
            Some(rest.split('<').next().unwrap().parse::<i64>().unwrap())
        }));
    }
    seen.into_iter().collect()
}

/// Expiring what has been purged, purging what has expired, retracting at the new first: all are plain.
pub async fn forgetting_twice_is_forgetting_once(store: Store) {
    let owner = fresh("twice");
    fill(&store, &owner, (0..8).map(entry)).await;
    store.purge(&owner).await.unwrap();
    for cut in
        [Cut::KeepNewest(0), Cut::Through(Position(7)), Cut::Before(Timestamp(i64::MAX)), Cut::KeepBytes(0)]
    {
        assert_eq!(store.expire(&owner, cut).await.unwrap(), 0, "{cut:?}");
    }
    store.append(&owner, Position(8), Arc::new([entry(8), entry(9)])).await.unwrap();
    assert_eq!(store.expire(&owner, Cut::Through(Position(8))).await.unwrap(), 1);
    store.retract(&owner, Position(9), stanza("tombstone")).await.unwrap();
    assert_eq!(store.expire(&owner, Cut::KeepNewest(1)).await.unwrap(), 0);
    assert!(contents(&store, &owner).await[0].retracted);
}
