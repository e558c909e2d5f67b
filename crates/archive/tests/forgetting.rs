//! Expiry by period and quota with its report, trimming, retraction by its author, metadata. What clients see of
//! it meanwhile is left to `gaps`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::sync::Mutex;

use bytes::Bytes;
use mammoth_archive::expiry::Expired;
use mammoth_archive::{
    Archive, Arrival, Entry, ExpiresAfter, Filter, PageStart, Quota, SettingsChange, Timestamp,
};
use proptest::prelude::*;

mod given;
use given::{LIMITS, SECOND, append, archive, arrival, bare, everything, jid, query, run, texts};

const NO_QUOTA: Quota = Quota { entries: None, bytes: None };

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * SECOND)
}

/// Ten entries, ten seconds apart, the first at 0 s; each of ten bytes.
async fn ten(archive: &Archive, owner: &str) {
    for i in 0..10 {
        let arrival = Arrival {
            with: jid("juliet@capulet.example/x"),
            stanza: Bytes::from(format!("entry   {i:2}")),
            message_id: Some(format!("m-{}", i % 3)),
        };
        append(archive, &bare(owner), at(10 * i), vec![arrival]).await;
    }
}

async fn left(archive: &Archive, owner: &str) -> usize {
    everything(archive, &bare(owner)).await.len()
}

#[test]
fn entries_go_when_their_period_is_over_and_the_report_says_how_late() {
    run(async {
        let archive = archive(LIMITS).await;
        ten(&archive, "a@x.example").await;
        let period = ExpiresAfter::Seconds(100);
        let nothing = archive.expire(at(100), period, NO_QUOTA).await.unwrap();
        assert_eq!(
            (nothing, left(&archive, "a@x.example").await),
            (Expired::default(), 10),
            "at the very moment"
        );
        let one = archive.expire(Timestamp(at(100).0 + 1), period, NO_QUOTA).await.unwrap();
        assert_eq!(one, Expired { archives: 1, entries: 1, by_quota: 0, lag_seconds: 0 });
        let three = archive.expire(at(140), period, NO_QUOTA).await.unwrap();
        assert_eq!(
            three,
            Expired { archives: 1, entries: 3, by_quota: 0, lag_seconds: 30 },
            "10, 20, 30; not 40"
        );
        assert_eq!(archive.expire(at(140), period, NO_QUOTA).await.unwrap(), Expired::default(), "repeated");
        let all = archive.expire(at(10_000), period, NO_QUOTA).await.unwrap();
        assert_eq!(all, Expired { archives: 1, entries: 6, by_quota: 0, lag_seconds: 9860 });
        assert_eq!(archive.expire(at(99_999), period, NO_QUOTA).await.unwrap(), Expired::default(), "empty");
        assert_eq!(archive.metadata(&bare("a@x.example")).await.unwrap(), None);
    });
}

#[test]
fn an_archive_may_have_a_period_of_its_own() {
    run(async {
        let archive = archive(LIMITS).await;
        for (owner, period) in [
            ("default@x.example", None),
            ("never@x.example", Some(ExpiresAfter::Never)),
            ("short@x.example", Some(ExpiresAfter::Seconds(10))),
            ("long@x.example", Some(ExpiresAfter::Seconds(80))),
            ("at-once@x.example", Some(ExpiresAfter::Seconds(0))),
        ] {
            ten(&archive, owner).await;
            archive.store().set(&bare(owner), SettingsChange::ExpiresAfter(period)).await.unwrap();
        }
        let report = archive.expire(at(100), ExpiresAfter::Seconds(50), NO_QUOTA).await.unwrap();
        for (owner, count) in [
            ("default@x.example", 5),
            ("never@x.example", 10),
            ("short@x.example", 1),
            ("long@x.example", 8),
            ("at-once@x.example", 0),
        ] {
            assert_eq!(left(&archive, owner).await, count, "{owner}");
        }
        assert_eq!(report, Expired { archives: 4, entries: 5 + 9 + 2 + 10, by_quota: 0, lag_seconds: 100 });
        archive.expire(at(10_000), ExpiresAfter::Never, NO_QUOTA).await.unwrap();
        assert_eq!(left(&archive, "default@x.example").await, 5, "by default never");
        assert_eq!(left(&archive, "long@x.example").await, 0, "by its own period all the same");
    });
}

#[test]
fn a_quota_keeps_the_newest() {
    run(async {
        for (quota, count) in [
            (Quota { entries: Some(4), bytes: None }, 4),
            (Quota { entries: None, bytes: Some(39) }, 3),
            (Quota { entries: None, bytes: Some(40) }, 4),
            (Quota { entries: Some(7), bytes: Some(50) }, 5),
            (Quota { entries: Some(5), bytes: Some(1000) }, 5),
            (Quota { entries: Some(10), bytes: Some(100) }, 10),
            (Quota { entries: Some(0), bytes: None }, 0),
            (Quota { entries: None, bytes: Some(9) }, 0),
        ] {
            let archive = archive(LIMITS).await;
            ten(&archive, "a@x.example").await;
            let report = archive.expire(at(100), ExpiresAfter::Never, quota).await.unwrap();
            let gone = 10 - count;
            let archives = u64::from(gone > 0);
            assert_eq!(
                report,
                Expired { archives, entries: gone, by_quota: gone, lag_seconds: 0 },
                "{quota:?}"
            );
            let texts_left = everything(&archive, &bare("a@x.example")).await;
            let expected: Vec<_> = (gone..10).map(|i| format!("entry   {i:2}")).collect();
            assert_eq!(texts(&texts_left), expected, "{quota:?}");
        }
    });
}

#[test]
fn age_and_quota_together_count_each_entry_once() {
    run(async {
        let archive = archive(LIMITS).await;
        ten(&archive, "a@x.example").await;
        let quota = Quota { entries: Some(4), bytes: Some(20) };
        let report = archive.expire(at(100), ExpiresAfter::Seconds(70), quota).await.unwrap();
        assert_eq!(report, Expired { archives: 1, entries: 8, by_quota: 5, lag_seconds: 30 });
        assert_eq!(left(&archive, "a@x.example").await, 2);
    });
}

#[test]
fn an_expiry_reaches_every_archive_of_many() {
    run(async {
        let archive = archive(LIMITS).await;
        for i in 0..2500 {
            let owner = bare(&format!("u{i}@x.example"));
            append(
                &archive,
                &owner,
                at(i % 2),
                vec![arrival("b@y.example", "x"), arrival("b@y.example", "y")],
            )
            .await;
        }
        let report = archive.expire(at(2), ExpiresAfter::Seconds(1), NO_QUOTA).await.unwrap();
        assert_eq!(report, Expired { archives: 1250, entries: 2500, by_quota: 0, lag_seconds: 1 });
        assert_eq!(archive.store().stats().await.unwrap().entries, 2500);
    });
}

#[test]
fn trimming_takes_the_named_entry_too() {
    run(async {
        let archive = archive(LIMITS).await;
        let owner = bare("a@x.example");
        ten(&archive, "a@x.example").await;
        let ids: Vec<_> = everything(&archive, &owner).await.into_iter().map(|entry| entry.id).collect();
        assert_eq!(archive.trim(&owner, Some(&ids[3])).await.unwrap(), 4);
        assert_eq!(archive.metadata(&owner).await.unwrap().unwrap().start, (ids[4].clone(), at(40)));
        assert!(archive.trim(&owner, Some(&ids[3])).await.is_err(), "a second time");
        assert_eq!(archive.trim(&owner, Some(&ids[4])).await.unwrap(), 1);
        assert_eq!(archive.trim(&owner, None).await.unwrap(), 5);
        assert_eq!(archive.trim(&owner, None).await.unwrap(), 0, "nothing is left to trim");
    });
}

#[test]
fn metadata_are_the_ends() {
    run(async {
        let archive = archive(LIMITS).await;
        let owner = bare("a@x.example");
        assert_eq!(archive.metadata(&owner).await.unwrap(), None, "never used");
        ten(&archive, "a@x.example").await;
        let entries = everything(&archive, &owner).await;
        let metadata = archive.metadata(&owner).await.unwrap().unwrap();
        assert_eq!(
            (metadata.start, metadata.end),
            ((entries[0].id.clone(), at(0)), (entries[9].id.clone(), at(90)))
        );
        archive.trim(&owner, Some(&entries[8].id)).await.unwrap();
        let metadata = archive.metadata(&owner).await.unwrap().unwrap();
        assert_eq!(metadata.start, metadata.end, "one is left");
        archive.store().purge(&owner).await.unwrap();
        assert_eq!(archive.metadata(&owner).await.unwrap(), None, "purged");
    });
}

fn tombstone(entry: &Entry) -> Bytes {
    Bytes::from(format!("tombstone of {}", entry.id))
}

#[test]
fn a_retraction_takes_the_newest_that_its_author_may_retract() {
    run(async {
        let archive = archive(LIMITS).await;
        let owner = bare("a@x.example");
        ten(&archive, "a@x.example").await;
        let before = everything(&archive, &owner).await;
        let with = bare("juliet@capulet.example");
        // Message id m-1 stands at 1, 4 and 7. The author of 7 is another.
        let seven = before[7].id.clone();
        let asked = Mutex::new(Vec::new());
        let not_seven = |entry: &Entry| {
            asked.lock().unwrap().push(entry.id.clone());
            entry.id != seven
        };
        assert!(archive.retract(&owner, &with, "m-1", not_seven, tombstone).await.unwrap());
        assert_eq!(*asked.lock().unwrap(), [before[7].id.clone(), before[4].id.clone()], "newest first");
        let mut expected = before.clone();
        (expected[4].stanza, expected[4].retracted) = (tombstone(&before[4]), true);
        assert_eq!(everything(&archive, &owner).await, expected, "id, stamp and with stay");
        assert!(archive.retract(&owner, &with, "m-1", |_| true, tombstone).await.unwrap());
        (expected[7].stanza, expected[7].retracted) = (tombstone(&before[7]), true);
        assert_eq!(everything(&archive, &owner).await, expected, "the newest that is none yet");
        for (with, id, is_it) in [
            ("juliet@capulet.example", "m-1", false),
            ("juliet@capulet.example", "m-9", true),
            ("romeo@montague.example", "m-1", true),
            ("capulet.example", "m-1", true),
        ] {
            let done = archive.retract(&owner, &bare(with), id, |_| is_it, tombstone).await.unwrap();
            assert!(!done, "{with} {id}");
        }
        assert!(!archive.retract(&bare("b@x.example"), &with, "m-1", |_| true, tombstone).await.unwrap());
        assert_eq!(everything(&archive, &owner).await, expected);
        archive.trim(&owner, Some(&before[1].id)).await.unwrap();
        assert!(!archive.retract(&owner, &with, "m-1", |_| true, tombstone).await.unwrap(), "1 has gone");
    });
}

#[test]
fn a_retracted_text_is_shown_by_no_page() {
    run(async {
        let archive = archive(LIMITS).await;
        let owner = bare("a@x.example");
        ten(&archive, "a@x.example").await;
        let id = everything(&archive, &owner).await[5].id.clone();
        let five = id.clone();
        let with = bare("juliet@capulet.example");
        let is_it = move |entry: &Entry| entry.id == five;
        assert!(archive.retract(&owner, &with, "m-2", is_it, tombstone).await.unwrap());
        for (filter, start) in [
            (Filter::default(), PageStart::First),
            (Filter { ids: Some(vec![id]), ..Filter::default() }, PageStart::Last),
            (Filter { start: Some(at(50)), end: Some(at(50)), ..Filter::default() }, PageStart::First),
            (Filter { with: Some(jid("juliet@capulet.example")), ..Filter::default() }, PageStart::Index(5)),
        ] {
            let page = archive.page(&owner, query(filter, start, 100)).await.unwrap();
            assert!(texts(&page.entries).iter().all(|text| !text.contains("  5")));
            assert!(page.entries.iter().any(|entry| entry.retracted));
        }
    });
}

proptest! {
    /// A prepared batch has one stamp, never less than the archive's last; its ids are those it is read by; and
    /// it may be appended any number of times.
    #[test]
    fn what_is_prepared_is_what_is_read(
        batches in prop::collection::vec((1..5_usize, -50..50_i64, 1..3_usize), 1..10),
    ) {
        run(async {
            let archive = archive(LIMITS).await;
            let owner = bare("a@x.example");
            let mint = archive.mint(&owner);
            let mut expected = Vec::new();
            for (size, now, repeats) in batches {
                let head = archive.store().head(&owner).await.unwrap();
                let arrivals: Vec<_> = (0..size).map(|i| arrival("b@y.example/r", &i.to_string())).collect();
                let batch = Archive::prepare(&mint, head, at(now), arrivals.clone());
                assert_eq!(batch.stamp, at(now).max(head.last_stamp));
                assert_eq!((batch.at, batch.ids.len()), (head.next, size));
                for _ in 0..repeats {
                    archive.append(&owner, &batch).await.unwrap();
                }
                assert_eq!(archive.store().head(&owner).await.unwrap(), batch.head);
                expected.extend(arrivals.into_iter().zip(&batch.ids).map(|(arrival, id)| {
                    let Arrival { with, stanza, .. } = arrival;
                    Entry { id: id.clone(), with, stamp: batch.stamp, stanza, retracted: false }
                }));
                assert_eq!(everything(&archive, &owner).await, expected);
            }
        });
    }
}
