//! Appending: whole, in order, at once visible, repeatable; stale, refused and empty batches. Reading by filters
//! is left to `pages`.

use std::sync::Arc;

use bytes::Bytes;
use mammoth_archive::{Cut, Filter, Head, NewEntry, Page, Position, SettingsChange, StoreError, Timestamp};

use crate::given::{Store, all_of, contents, ends, entry, fill, fresh, is_conflict, jid, stanza, stored};

/// An archive never written to: an empty page, nothing to find, and every position unknown.
pub async fn a_new_archive_is_empty(store: Store) {
    let owner = fresh("new");
    assert_eq!(store.head(&owner).await.unwrap(), Head::NEW);
    let nothing = Page { entries: Vec::new(), count: 0, index: 0, complete: true };
    assert_eq!(store.page(&owner, all_of(Filter::default())).await.unwrap(), nothing);
    assert_eq!(store.locate(&owner, "nothing").await.unwrap(), None);
    assert_eq!(store.find(&owner, &owner, "nothing", 10).await.unwrap(), Vec::new());
    assert_eq!(store.expire(&owner, Cut::KeepNewest(0)).await.unwrap(), 0);
    let retracted = store.retract(&owner, Position::START, stanza("tombstone")).await;
    assert!(matches!(retracted, Err(StoreError::NotFound(Position(0)))), "{retracted:?}");
    store.purge(&owner).await.unwrap();
    assert_eq!(store.head(&owner).await.unwrap(), Head::NEW, "nothing above has changed it");
}

/// What was appended is all there when the call returns, in order, batch after batch.
pub async fn appended_entries_are_there_at_once_and_in_order(store: Store) {
    let owner = fresh("order");
    let mut expected = Vec::new();
    for (from, to) in [(0, 1), (1, 2), (2, 60), (60, 61), (61, 64)] {
        let batch: Arc<[NewEntry]> = (from..to).map(entry).collect();
        store.append(&owner, Position(from), batch.clone()).await.unwrap();
        expected.extend(stored(Position(from), &batch));
        assert_eq!(contents(&store, &owner).await, expected);
        let head = store.head(&owner).await.unwrap();
        assert_eq!((ends(head), head.last_stamp), ((0, to), entry(to - 1).stamp));
    }
}

/// A batch that is refused for its last entry leaves nothing of its first ones.
pub async fn a_refused_batch_leaves_nothing(store: Store) {
    let owner = fresh("whole");
    fill(&store, &owner, (0..10).map(entry)).await;
    let before = (store.head(&owner).await.unwrap(), contents(&store, &owner).await);
    let mut batch: Vec<_> = (10..20).map(entry).collect();
    batch[9].stamp = Timestamp(batch[8].stamp.0 - 1);
    batch[0].foreign_id = Some("of-the-refused".into());
    batch[1].message_id = Some("of-the-refused".into());
    let with = batch[1].with.to_bare();
    let refused = store.append(&owner, Position(10), batch.into()).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!((store.head(&owner).await.unwrap(), contents(&store, &owner).await), before);
    assert_eq!(store.locate(&owner, "of-the-refused").await.unwrap(), None);
    assert_eq!(store.find(&owner, &with, "of-the-refused", 10).await.unwrap(), Vec::new());
    fill(&store, &owner, [entry(10)]).await;
}

/// Stamps may stand still, within a batch and between two, but never go back.
pub async fn stamps_stand_still_but_never_go_back(store: Store) {
    let owner = fresh("stamps");
    let at = |stamp: i64, body: &str| NewEntry { stamp: Timestamp(stamp), stanza: stanza(body), ..entry(0) };
    let stamps = [i64::MIN, i64::MIN, -5, -5, 0, 7, 7];
    fill(&store, &owner, stamps.map(|stamp| at(stamp, "still"))).await;
    fill(&store, &owner, [at(7, "equal to the last")]).await;
    for lower in [6, -6, i64::MIN] {
        let refused = store.append(&owner, Position(8), Arc::new([at(lower, "lower")])).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{lower}: {refused:?}");
    }
    fill(&store, &owner, [at(i64::MAX, "the end of time"), at(i64::MAX, "still the end")]).await;
    let found: Vec<_> = contents(&store, &owner).await.iter().map(|entry| entry.stamp.0).collect();
    assert_eq!(found, [i64::MIN, i64::MIN, -5, -5, 0, 7, 7, 7, i64::MAX, i64::MAX]);
    for (start, end, count) in [(-5, 0, 3), (i64::MIN, i64::MIN, 2), (7, i64::MAX, 5), (1, 6, 0), (8, 7, 0)] {
        let filter = Filter { start: Some(Timestamp(start)), end: Some(Timestamp(end)), ..Filter::default() };
        assert_eq!(store.page(&owner, all_of(filter)).await.unwrap().count, count, "{start}..={end}");
    }
}

/// The last stamp outlives the entries: a stamp below it is refused even when nothing is left.
pub async fn the_last_stamp_outlives_its_entry(store: Store) {
    let owner = fresh("last-stamp");
    fill(&store, &owner, (0..30).map(entry)).await;
    let last = entry(29).stamp;
    store.expire(&owner, Cut::KeepNewest(0)).await.unwrap();
    assert_eq!(store.head(&owner).await.unwrap().last_stamp, last, "after expire");
    let refused = store.append(&owner, Position(30), Arc::new([entry(0)])).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "after expire: {refused:?}");
    store.purge(&owner).await.unwrap();
    assert_eq!(store.head(&owner).await.unwrap().last_stamp, last, "after purge");
    let refused = store.append(&owner, Position(30), Arc::new([entry(0)])).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "after purge: {refused:?}");
    fill(&store, &owner, [entry(29)]).await;
}

/// An append that was done already says `Ok` and changes nothing: whole, in part, and after others.
pub async fn a_repeated_append_changes_nothing(store: Store) {
    let owner = fresh("repeat");
    let batch: Arc<[NewEntry]> = (0..6).map(entry).collect();
    store.append(&owner, Position(0), batch.clone()).await.unwrap();
    let once = contents(&store, &owner).await;
    for _ in 0..3 {
        store.append(&owner, Position(0), batch.clone()).await.unwrap();
        assert_eq!(contents(&store, &owner).await, once);
    }
    store.append(&owner, Position(2), batch[2..5].into()).await.unwrap();
    assert_eq!(contents(&store, &owner).await, once, "a part of it");
    fill(&store, &owner, (6..9).map(entry)).await;
    let later = contents(&store, &owner).await;
    store.append(&owner, Position(0), batch.clone()).await.unwrap();
    assert_eq!(contents(&store, &owner).await, later, "after others have appended");
    store.append(&owner, Position(4), (4..8).map(entry).collect()).await.unwrap();
    assert_eq!(contents(&store, &owner).await, later, "across two batches");
    let head = store.head(&owner).await.unwrap();
    assert_eq!((ends(head), head.last_stamp), ((0, 9), entry(8).stamp));
}

/// A repeated append recognises what has been retracted since, and does not undo the retraction.
pub async fn a_repeat_does_not_undo_a_retraction(store: Store) {
    let owner = fresh("repeat-retracted");
    let batch: Arc<[NewEntry]> = (0..5).map(entry).collect();
    store.append(&owner, Position(0), batch.clone()).await.unwrap();
    store.retract(&owner, Position(2), stanza("tombstone")).await.unwrap();
    let retracted = contents(&store, &owner).await;
    store.append(&owner, Position(0), batch.clone()).await.unwrap();
    assert_eq!(contents(&store, &owner).await, retracted);
    for position in 0..5 {
        store.retract(&owner, Position(position), stanza("tombstone")).await.unwrap();
    }
    store.append(&owner, Position(0), batch).await.unwrap();
    assert!(contents(&store, &owner).await.iter().all(|entry| entry.retracted));
}

/// What has gone cannot be recognised: repeating its append is a conflict, and nothing comes back.
pub async fn a_repeat_of_what_has_gone_is_a_conflict(store: Store) {
    let owner = fresh("repeat-gone");
    let batch: Arc<[NewEntry]> = (0..5).map(entry).collect();
    store.append(&owner, Position(0), batch.clone()).await.unwrap();
    store.expire(&owner, Cut::Through(Position(1))).await.unwrap();
    assert!(is_conflict(&store.append(&owner, Position(0), batch.clone()).await, 5), "a part has gone");
    store.append(&owner, Position(2), batch[2..].into()).await.unwrap();
    store.expire(&owner, Cut::KeepNewest(0)).await.unwrap();
    assert!(is_conflict(&store.append(&owner, Position(0), batch.clone()).await, 5), "all has expired");
    store.purge(&owner).await.unwrap();
    assert!(is_conflict(&store.append(&owner, Position(0), batch.clone()).await, 5), "purged");
    assert_eq!(ends(store.head(&owner).await.unwrap()), (5, 5));
}

/// A stale or too bold append is told the next position, and writes nothing.
pub async fn a_stale_append_is_a_conflict(store: Store) {
    let owner = fresh("stale");
    let conflict = store.append(&owner, Position(1), Arc::new([entry(0)])).await;
    assert!(is_conflict(&conflict, 0), "ahead of a new archive: {conflict:?}");
    let conflict = store.append(&owner, Position(-1), Arc::new([entry(0)])).await;
    assert!(is_conflict(&conflict, 0), "below a new archive: {conflict:?}");
    fill(&store, &owner, (0..10).map(entry)).await;
    store.expire(&owner, Cut::Through(Position(2))).await.unwrap();
    let before = (store.head(&owner).await.unwrap(), contents(&store, &owner).await);
    for at in [i64::MIN, -1, 0, 2, 3, 4, 8, 9, 11, 1_000_000, i64::MAX] {
        for batch in [vec![entry(100)], vec![entry(100), entry(101), entry(102)]] {
            let conflict = store.append(&owner, Position(at), batch.into()).await;
            assert!(is_conflict(&conflict, 10), "at {at}: {conflict:?}");
        }
    }
    let beyond = store.append(&owner, Position(8), (8..12).map(entry).collect()).await;
    assert!(is_conflict(&beyond, 10), "half of it is there: {beyond:?}");
    assert_eq!((store.head(&owner).await.unwrap(), contents(&store, &owner).await), before);
}

/// A batch that differs from what stands there in any one respect is no repeat.
pub async fn a_batch_that_differs_is_no_repeat(store: Store) {
    let owner = fresh("differs");
    let mut batch: Vec<_> = (0..4).map(entry).collect();
    batch[1].foreign_id = Some("f".into());
    store.append(&owner, Position(0), batch.clone().into()).await.unwrap();
    type Change = fn(&mut NewEntry);
    let changes: [(&str, Change); 6] = [
        ("stanza", |entry| entry.stanza = stanza("another")),
        ("stamp", |entry| entry.stamp = Timestamp(entry.stamp.0 + 1)),
        ("with", |entry| entry.with = jid("tybalt@capulet.example")),
        ("resource", |entry| entry.with = jid(&format!("{}/tomb", entry.with.to_bare()))),
        ("foreign id", |entry| entry.foreign_id = Some("g".into())),
        ("no foreign id", |entry| {
            entry.foreign_id = if entry.foreign_id.is_some() { None } else { Some("h".into()) }
        }),
    ];
    for place in 0..4 {
        for (what, change) in changes {
            let mut other = batch.clone();
            change(&mut other[place]);
            let conflict = store.append(&owner, Position(0), other.into()).await;
            assert!(is_conflict(&conflict, 4), "{what} of {place}: {conflict:?}");
        }
    }
    assert_eq!(contents(&store, &owner).await, stored(Position(0), &batch));
}

/// An empty batch is done at the archive's end, and stale anywhere else; it changes nothing.
pub async fn an_empty_batch_changes_nothing(store: Store) {
    let owner = fresh("empty");
    store.append(&owner, Position(0), Arc::new([])).await.unwrap();
    assert!(is_conflict(&store.append(&owner, Position(1), Arc::new([])).await, 0));
    assert_eq!(store.head(&owner).await.unwrap(), Head::NEW);
    fill(&store, &owner, (0..3).map(entry)).await;
    store.append(&owner, Position(3), Arc::new([])).await.unwrap();
    for at in [0, 2, 4] {
        let conflict = store.append(&owner, Position(at), Arc::new([])).await;
        assert!(is_conflict(&conflict, 3), "at {at}: {conflict:?}");
    }
    assert_eq!(ends(store.head(&owner).await.unwrap()), (0, 3));
}

/// A stanza comes back byte for byte: empty, huge, of any bytes, and such as no compressor likes.
pub async fn stanzas_come_back_byte_for_byte(store: Store) {
    let owner = fresh("bytes");
    let mut noise = crate::seed::Seeded::new(7);
    let bytes: Vec<Bytes> = vec![
        Bytes::new(),
        Bytes::from_static(b"\0"),
        (0..=255_u8).collect(),
        (0..=255_u8).rev().cycle().take(3000).collect(),
        Bytes::from(vec![b'x'; 256 * 1024]),
        (0..256 * 1024).map(|_| noise.next() as u8).collect(),
        Bytes::from("\u{feff}\u{1f9a3} e\u{301} \u{5d0}\u{200f} \r\n\t <![CDATA[ ]]&gt; '\"; --"),
        Bytes::from_static(b"\xff\xfe\xc0\x80\xed\xa0\x80"),
        Bytes::from_static(b"\x28\xb5\x2f\xfd\0\0\0\0"),
        Bytes::new(),
    ];
    let batch: Vec<_> = bytes.iter().map(|stanza| NewEntry { stanza: stanza.clone(), ..entry(0) }).collect();
    fill(&store, &owner, batch.clone()).await;
    let found: Vec<_> = contents(&store, &owner).await.into_iter().map(|entry| entry.stanza).collect();
    assert!(found == bytes, "a stanza was changed");
    store.append(&owner, Position(0), batch.into()).await.unwrap();
}

/// Other ends of any shape, and ids of any text, come back as they were.
pub async fn jids_and_ids_come_back_as_they_were(store: Store) {
    let owner = fresh("names");
    let long = format!("{}@{}.example/{}", "l".repeat(1000), "d".repeat(60), "r".repeat(1000));
    let withs = [
        "montague.example",
        "montague.example/balcony",
        "ünï@straße.example/Ü ß",
        "a@b/c/d@e/f",
        "a@b/ ' \" < & --",
        &long,
    ];
    let ids = [
        None,
        Some(String::new()),
        Some("x".into()),
        Some("' or 1=1; --".into()),
        Some("🦣\u{301}\u{0}\n".into()),
        Some("i".repeat(1023)),
    ];
    let batch: Vec<_> = (0..)
        .zip(withs.iter().flat_map(|with| ids.iter().map(move |id| (with, id))))
        .map(|(i, (with, id))| NewEntry {
            with: jid(with),
            foreign_id: id.clone(),
            message_id: id.clone(),
            ..entry(i)
        })
        .collect();
    fill(&store, &owner, batch.clone()).await;
    assert_eq!(contents(&store, &owner).await, stored(Position(0), &batch));
    for (with, i) in withs.iter().zip(0..) {
        for (id, j) in ids.iter().zip(0..) {
            let Some(id) = id else { continue };
            let found = store.find(&owner, &jid(with).to_bare(), id, 10).await.unwrap();
            assert!(found.contains(&Position(i * 6 + j)), "{with} {id:?}: {found:?}");
        }
    }
    let last = i64::try_from(batch.len()).unwrap() - 1;
    assert_eq!(store.locate(&owner, &"i".repeat(1023)).await.unwrap(), Some(Position(last)));
    assert_eq!(store.locate(&owner, "").await.unwrap(), Some(Position(last - 4)));
}

/// A batch of thousands is one append as well.
pub async fn a_large_batch_is_one_append(store: Store) {
    let owner = fresh("large");
    let batch: Vec<_> = (0..3000).map(entry).collect();
    fill(&store, &owner, batch.clone()).await;
    assert!(contents(&store, &owner).await == stored(Position(0), &batch), "the batch has changed");
    store.append(&owner, Position(0), batch.into()).await.unwrap();
    assert_eq!(ends(store.head(&owner).await.unwrap()), (0, 3000));
}

/// Settings alone make no entries, and leave the head as it was.
pub async fn settings_do_not_move_the_head(store: Store) {
    let owner = fresh("settings-head");
    store.set(&owner, SettingsChange::Prefs(Some(Default::default()))).await.unwrap();
    assert_eq!(store.head(&owner).await.unwrap(), Head::NEW);
    fill(&store, &owner, [entry(0)]).await;
    assert_eq!(ends(store.head(&owner).await.unwrap()), (0, 1));
}
