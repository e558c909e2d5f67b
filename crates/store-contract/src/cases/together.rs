//! Several callers at once: two writers of one archive, readers beside writers, and calls given up half-way.
//! What one caller alone sees is left to the other files.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mammoth_archive::{
    Cut, Filter, NewEntry, PageRequest, PageStart, Position, Query, Settings, SettingsChange, StoreError,
};
use tokio::task::JoinSet;

use crate::given::{Store, all_of, contents, ends, entry, fill, fresh, is_conflict, stamp, stanza, stored};

/// Writers of one archive at the same moment: compare-and-append lets each batch in once and whole, none between
/// another's entries.
pub async fn writers_of_one_archive_do_not_interleave(store: Store) {
    const WRITERS: i64 = 4;
    const BATCHES: i64 = 12;
    const SIZE: i64 = 5;
    let owner = fresh("writers");
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, owner) = (store.clone(), owner.clone());
        writers.spawn(async move {
            let mut at = Position(0);
            for batch in 0..BATCHES {
                let new = (0..SIZE).map(|i| NewEntry {
                    stanza: stanza(&format!("{writer}/{batch}/{i}")),
                    stamp: stamp(0),
                    ..entry(i)
                });
                let new: Arc<[NewEntry]> = new.collect();
                loop {
                    match store.append(&owner, at, new.clone()).await {
                        Ok(()) => break,
                        Err(StoreError::Conflict(next)) => {
                            assert!(next > at, "a conflict at {at} names {next}");
                            at = next;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                at = at.offset(SIZE);
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let found = contents(&store, &owner).await;
    assert_eq!(found.len(), usize::try_from(WRITERS * BATCHES * SIZE).unwrap());
    let mut next = [0; WRITERS as usize];
    for batch in found.chunks(usize::try_from(SIZE).unwrap()) {
        let writer = (0..WRITERS).find(|w| {
            batch[0].stanza.windows(4).any(|text| {
                text == format!(">{w}/").as_bytes() || text.starts_with(format!(">{w}/").as_bytes())
            })
        });
        let writer = writer.expect("a writer's batch");
        let place = usize::try_from(writer).unwrap();
        for (i, entry) in (0..).zip(batch) {
            assert_eq!(
                entry.stanza,
                stanza(&format!("{writer}/{}/{i}", next[place])),
                "at {}",
                entry.position
            );
        }
        next[place] += 1;
    }
    assert_eq!(next, [BATCHES; WRITERS as usize]);
}

/// Pages read while appends and expiries go on are of one moment: whole batches, exact counts, no holes.
pub async fn a_page_is_of_one_moment(store: Store) {
    const BATCH: i64 = 4;
    const ROUNDS: i64 = 40;
    let owner = fresh("moment");
    let with = entry(0).with;
    let writer = {
        let (store, owner, with) = (store.clone(), owner.clone(), with.clone());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let new = (0..BATCH).map(|i| NewEntry { with: with.clone(), ..entry(round * BATCH + i) });
                let at = Position(round * BATCH);
                store.append(&owner, at, new.collect()).await.unwrap();
                let sees = store.head(&owner).await.unwrap();
                assert_eq!(sees.next, at.offset(BATCH), "an append that has returned is seen");
                if round % 5 == 4 {
                    store.expire(&owner, Cut::KeepNewest(2 * BATCH as u64)).await.unwrap();
                }
            }
        })
    };
    let mut readers = JoinSet::new();
    for with in [None, Some(with)] {
        let (store, owner) = (store.clone(), owner.clone());
        readers.spawn(async move {
            let mut newest = 0;
            while newest < ROUNDS * BATCH {
                let filter = Filter { with: with.clone(), ..Filter::default() };
                let page = PageRequest { max: 1000, start: PageStart::Last };
                let page = store.page(&owner, Query { filter, page }).await.unwrap();
                let positions: Vec<_> = page.entries.iter().map(|entry| entry.position.0).collect();
                assert_eq!((page.count, page.index, page.complete), (positions.len() as u64, 0, true));
                assert_eq!(page.count % BATCH as u64, 0, "no half of an append, no half of an expiry");
                assert!(positions.windows(2).all(|w| w[0] + 1 == w[1]), "{positions:?}");
                let last = positions.last().map_or(0, |last| last + 1);
                assert!(last >= newest, "{last} after {newest}: a later page shows no earlier moment");
                newest = last;
                tokio::task::yield_now().await;
            }
        });
    }
    writer.await.unwrap();
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
}

/// Many archives written and read at the same moment come out as if each had been alone.
pub async fn many_archives_at_once(store: Store) {
    let mut all = JoinSet::new();
    for n in 0..24_i64 {
        let store = store.clone();
        all.spawn(async move {
            let owner = fresh("many");
            let own = |i| NewEntry { stanza: stanza(&format!("{n}: {i}")), ..entry(i) };
            for i in 0..10 {
                fill(&store, &owner, [own(2 * i), own(2 * i + 1)]).await;
                if i == 5 {
                    store.expire(&owner, Cut::Through(Position(n % 7))).await.unwrap();
                }
            }
            let expected: Vec<_> = (0..20).map(own).collect();
            let expected = stored(Position(0), &expected);
            assert_eq!(contents(&store, &owner).await, expected[usize::try_from(n % 7 + 1).unwrap()..]);
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

/// Polls a call a few times and gives it up. Answers whether it had finished.
async fn give_up_after<T>(polls: usize, call: impl Future<Output = T>) -> bool {
    let mut call = pin!(call);
    for _ in 0..polls {
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    matches!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
}

/// A call given up half-way has happened or not, never by half; repeating it tells which.
pub async fn a_call_given_up_has_happened_or_not(store: Store) {
    for polls in 0..6 {
        let owner = fresh("given-up");
        fill(&store, &owner, (0..4).map(entry)).await;
        let batch: Arc<[NewEntry]> = (4..8).map(entry).collect();
        give_up_after(polls, store.append(&owner, Position(4), batch.clone())).await;
        let other =
            store.append(&owner, Position(4), Arc::new([NewEntry { stanza: stanza("other"), ..entry(4) }]));
        let expected = match other.await {
            Ok(()) => {
                assert!(is_conflict(&store.append(&owner, Position(4), batch.clone()).await, 5));
                5
            }
            result => {
                assert!(is_conflict(&result, 8), "{result:?}");
                store.append(&owner, Position(4), batch.clone()).await.unwrap();
                8
            }
        };
        assert_eq!(ends(store.head(&owner).await.unwrap()), (0, expected));
        assert_eq!(contents(&store, &owner).await.len(), usize::try_from(expected).unwrap());

        give_up_after(polls, store.expire(&owner, Cut::Through(Position(1)))).await;
        store.expire(&owner, Cut::Through(Position(1))).await.unwrap();
        assert_eq!(ends(store.head(&owner).await.unwrap()), (2, expected));
        give_up_after(polls, store.retract(&owner, Position(3), stanza("tombstone"))).await;
        store.retract(&owner, Position(3), stanza("tombstone")).await.unwrap();
        assert!(contents(&store, &owner).await[1].retracted);
        give_up_after(polls, store.page(&owner, all_of(Filter::default()))).await;
        give_up_after(polls, store.set(&owner, SettingsChange::Prefs(Some(Default::default())))).await;
        give_up_after(polls, store.purge(&owner)).await;
        store.purge(&owner).await.unwrap();
        assert_eq!(ends(store.head(&owner).await.unwrap()), (expected, expected));
        assert_eq!(store.settings(&owner).await.unwrap(), Settings::default());
    }
}
