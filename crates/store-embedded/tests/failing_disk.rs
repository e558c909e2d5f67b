//! Disks that are full, fail, or rot: the store answers clearly, keeps reading, and recovers when it can. Disks that
//! say nothing and forget are left to `forgetful_disk`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mammoth_archive::{ArchiveStore, Cut, Position, StoreError};
use mammoth_store_embedded::{EmbeddedStore, Failure, Hook, Options, Step};
use tempfile::TempDir;

mod known;
use known::files::{MEMTABLE, append, folder, lay_out, open, still};
use known::{
    Act, Knowledge, What, check_and_learn, check_only, drive, drive_through, figure, next, owner, verify,
};

/// How long the store may take to write again once there is space.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// A hook that fails in this way at this step, from the moment it is told to.
fn failing(at: Step, failure: Failure) -> (Hook, Arc<Mutex<bool>>) {
    let on = Arc::new(Mutex::new(false));
    let told = on.clone();
    let hook: Hook = Arc::new(move |step| match step == at && *told.lock().unwrap() {
        true => Err(failure.clone()),
        false => Ok(()),
    });
    (hook, on)
}

fn texts(error: &StoreError) -> String {
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_take_it_refuses_and_recovers() {
    for (step, what) in [(Step::BeforeLogCommit, What::Append), (Step::BeforeCatalogCommit, What::Retract)] {
        let dir = folder();
        let (hook, on) = failing(step, Failure::Write("no space left".into()));
        let store = open(dir.path(), 1 << 20, Some(hook));
        let known = Mutex::new(Knowledge::new());
        drive(&*store, &known, &mut 1, 200).await.unwrap();
        *on.lock().unwrap() = true;
        let owner = owner(0, 0);
        let head = store.head(&owner).await.unwrap();
        let act = Act { what, number: if what == What::Append { head.next.0 + 4 } else { head.first.0 } };
        for _ in 0..3 {
            let refused = act.carry_out(&*store, &owner, head).await.unwrap_err();
            assert!(matches!(refused, StoreError::Refused(_)), "{step:?}: {refused:?}");
            assert!(texts(&refused).contains("no space left"), "{step:?}: {refused}");
            check_only(&*store, &known).await;
        }
        *on.lock().unwrap() = false;
        act.carry_out(&*store, &owner, head).await.unwrap();
        known.lock().unwrap().get_mut(&owner).unwrap().did(act);
        drive(&*store, &known, &mut 2, 200).await.unwrap();
        check_only(&*store, &known).await;
        drop(store);
        check_only(&*open(dir.path(), 1 << 20, None), &known).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_ends_writing_until_the_store_is_reopened() {
    for step in
        [Step::BeforeLogCommit, Step::AfterLogCommit, Step::BeforeCatalogCommit, Step::AfterCatalogCommit]
    {
        let dir = folder();
        let (hook, on) = failing(step, Failure::Sync("the disk is gone".into()));
        let store = open(dir.path(), 1 << 20, Some(hook));
        let known = Mutex::new(Knowledge::new());
        drive(&*store, &known, &mut 1, 200).await.unwrap();
        *on.lock().unwrap() = true;
        let failed = drive(&*store, &known, &mut 2, 10_000).await.unwrap_err();
        assert!(
            matches!(failed, StoreError::Unavailable(_)),
            "{step:?}: nobody knows what was written: {failed:?}"
        );
        *on.lock().unwrap() = false;
        for of in 0..2 {
            let refused = append(&store, of, 1).await.unwrap_err();
            assert!(matches!(refused, StoreError::Refused(_)), "{step:?}: {refused:?}");
            assert!(texts(&refused).contains("reopen"), "{step:?}: it says what to do: {refused}");
        }
        check_only(&*store, &known).await;
        drop(store);
        let store = open(dir.path(), 1 << 20, None);
        check_and_learn(&*store, &known).await;
        drive(&*store, &known, &mut 3, 100).await.unwrap();
        check_only(&*store, &known).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_or_merge_that_fails_loses_nothing() {
    for step in [Step::SegmentWritten, Step::SegmentSynced, Step::SegmentRegistered, Step::Replaced] {
        let dir = folder();
        let (hook, on) = failing(step, Failure::Sync("the disk is gone".into()));
        let store = open(dir.path(), MEMTABLE, Some(hook));
        let known = Mutex::new(Knowledge::new());
        drive(&*store, &known, &mut 1, 100).await.unwrap();
        *on.lock().unwrap() = true;
        // Sooner or later a seal fails, and then every write.
        let failed = drive(&*store, &known, &mut 2, 20_000).await.unwrap_err();
        assert!(
            matches!(failed, StoreError::Refused(_) | StoreError::Unavailable(_)),
            "{step:?}: {failed:?}"
        );
        check_only(&*store, &known).await;
        drop(store);
        let store = open(dir.path(), MEMTABLE, None);
        check_and_learn(&*store, &known).await;
        drive(&*store, &known, &mut 3, 300).await.unwrap();
        drop(store);
        verify(dir.path());
        check_only(&*open(dir.path(), MEMTABLE, None), &known).await;
    }
}

/// A hook that stands still at this step for as long as it is told to.
fn standing_still(at: Step) -> (Hook, Arc<(Mutex<bool>, Condvar)>) {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let shut = gate.clone();
    let hook: Hook = Arc::new(move |step| {
        if step == at {
            drop(shut.1.wait_while(shut.0.lock().unwrap(), |shut| *shut).unwrap());
        }
        Ok(())
    });
    (hook, gate)
}

#[allow(clippy::disallowed_methods)] // how long it takes is what is asked
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_that_stands_still_refuses_in_time_keeps_reading_and_recovers() {
    assert!(Options::default().stall_max < Duration::from_secs(30));
    let (hook, gate) = standing_still(Step::SegmentWritten);
    let dir = folder();
    let stall_max = Duration::from_millis(500);
    let options =
        Options { memtable_bytes: MEMTABLE, stall_max, readers: 1, hook: Some(hook), ..Options::default() };
    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    let known = Mutex::new(Knowledge::new());
    *gate.0.lock().unwrap() = true;
    let begin = Instant::now();
    let refused = drive_through(&*store, &known, &mut 1, 100_000, true).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert!(texts(&refused).contains("memory is full"), "{refused}");
    assert!(begin.elapsed() >= stall_max, "it waited for room first");
    // Nobody waits any more: a thousand appends would else take minutes.
    let begin = Instant::now();
    for of in 0..1000 {
        let refused = append(&store, of % 5, 1).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    }
    assert!(begin.elapsed() < 100 * stall_max, "{:?}", begin.elapsed());
    check_only(&*store, &known).await;
    let head = store.head(&owner(0, 0)).await.unwrap();
    let act = Act { what: What::Retract, number: head.first.0 };
    act.carry_out(&*store, &owner(0, 0), head).await.unwrap();
    known.lock().unwrap().get_mut(&owner(0, 0)).unwrap().did(act);
    check_only(&*store, &known).await;

    *gate.0.lock().unwrap() = false;
    gate.1.notify_all();
    let recovery = async {
        while let Err(refused) = drive_through(&*store, &known, &mut 2, 50, true).await {
            assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(RECOVERY_MAX, recovery).await.expect("the store recovers without a restart");
    drive(&*store, &known, &mut 3, 300).await.unwrap();
    drop(store);
    verify(dir.path());
    check_only(&*open(dir.path(), MEMTABLE, None), &known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_never_had_their_turn_are_refused_and_not_in_doubt() {
    let dir = folder();
    let store = open(dir.path(), 1 << 20, None);
    append(&store, 0, 5).await.unwrap();
    let tombstone = || Bytes::from_static(b"<gone/>");
    store.retract(&owner(0, 0), Position(1), tombstone()).await.unwrap();
    // Another program holds the small database for longer than the store waits.
    let other = rusqlite::Connection::open(dir.path().join("mammoth.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let alice = owner(0, 0);
    let (a, b, c) = tokio::join!(
        store.retract(&alice, Position(2), tombstone()),
        store.retract(&alice, Position(3), tombstone()),
        store.expire(&alice, Cut::KeepNewest(1)),
    );
    for refused in [a, b, c.map(drop)] {
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    assert_eq!(store.head(&alice).await.unwrap().count(), 5);
    drop(other);
    store.retract(&alice, Position(2), tombstone()).await.unwrap();
    assert_eq!(store.expire(&alice, Cut::KeepNewest(1)).await.unwrap(), 4);
}

/// A small file system of its own, taken down in the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then(|| SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).output());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_keeps_reading_and_recovers_when_space_returns() {
    let Some(disk) = SmallDisk::new("6m") else {
        eprintln!(
            "SKIPPED: a_full_disk_refuses_keeps_reading_and_recovers_when_space_returns (needs root, to mount a small tmpfs)"
        );
        return;
    };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![1; 3 << 20]).unwrap();
    let dir = disk.0.path().join("store");
    let store = open(&dir, 128 << 10, None);
    let known = Mutex::new(Knowledge::new());
    let mut turn = 9;
    let refused = drive_through(&*store, &known, &mut turn, 100_000, true).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    let said = texts(&refused);
    assert!(said.contains("full") || said.contains("space"), "{said}");
    check_only(&*store, &known).await;
    for _ in 0..50 {
        match drive(&*store, &known, &mut turn, 1).await {
            Ok(()) | Err(StoreError::Refused(_)) => {}
            // Only a purge may be half done: out of every page, and not yet out of every file.
            Err(error) => {
                let tried: Vec<_> = known
                    .lock()
                    .unwrap()
                    .values()
                    .filter_map(|known| known.trying)
                    .map(|act| act.what)
                    .collect();
                assert_eq!(tried, [What::Purge], "{error:?}");
                check_and_learn(&*store, &known).await;
            }
        }
    }
    check_only(&*store, &known).await;
    fs::remove_file(&ballast).unwrap();
    // The seal is tried again in a moment; until then appends are still refused, certainly not done.
    let recovery = async {
        while let Err(refused) = drive_through(&*store, &known, &mut turn, 50, true).await {
            assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(RECOVERY_MAX, recovery).await.expect("the store recovers without a restart");
    drive(&*store, &known, &mut turn, 300).await.unwrap();
    check_only(&*store, &known).await;
    let stats = store.stats().await.unwrap();
    eprintln!("disk: {} segments on the small disk", figure(&stats, "segments"));
    drop(store);
    let store = open(&dir, 128 << 10, None);
    check_and_learn(&*store, &known).await;
    drive(&*store, &known, &mut turn, 50).await.unwrap();
    check_only(&*store, &known).await;
}

// ------------------------------------------------------------------------------------------ rotten bytes

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotten_segment_is_noticed_and_never_read_as_something_else() {
    let dir = folder();
    let known = Mutex::new(Knowledge::new());
    let store = open(dir.path(), MEMTABLE, None);
    drive(&*store, &known, &mut 4, 600).await.unwrap();
    drop(store);
    let whole = still(dir.path());
    let known = known.into_inner().unwrap();
    let segments: Vec<&PathBuf> = whole.keys().filter(|name| name.starts_with("segments")).collect();
    assert!(segments.len() > 1);
    let (mut noticed, mut turn) = (0, 8);
    for _ in 0..200 {
        let mut files = whole.clone();
        let name = segments[next(&mut turn) as usize % segments.len()];
        let bytes = files.get_mut(name).unwrap();
        let at = next(&mut turn) as usize % bytes.len();
        bytes[at] ^= 1 << (next(&mut turn) % 8);
        let rotten = lay_out(&files);
        let options = Options { memtable_bytes: MEMTABLE, ..Options::default() };
        let Ok(store) = EmbeddedStore::open(rotten.path(), options) else {
            noticed += 1;
            continue;
        };
        for (owner, known) in &known {
            match known::contents(&*store, owner).await {
                Ok(found) => known::assert_contents(owner, known, &found),
                Err(StoreError::Corrupt(_)) => noticed += 1,
                Err(error) => panic!("byte {at} of {}: {error:?}", name.display()),
            }
        }
    }
    assert!(noticed > 5, "noticed {noticed} of 200 rotten bytes; some are in places that are not used");
}

/// What a segment says of which archive's entries lie where is changed byte by byte; once as a disk would, and once
/// as a mistake of ours would, with a checksum that matches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extent_that_lies_shows_nobody_anothers_archive() {
    let dir = folder();
    let store = open(dir.path(), 1 << 20, None);
    for of in 0..3 {
        append(&store, of, 20).await.unwrap();
    }
    store.seal().await.unwrap();
    drop(store);
    let whole = still(dir.path());
    let segment = whole.keys().find(|name| name.starts_with("segments")).unwrap();
    let sound = {
        let database = rusqlite::Connection::open(dir.path().join(segment)).unwrap();
        database.query_row("SELECT data FROM extents", [], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    let mut others = 0;
    for matching in [false, true] {
        let sql = match matching {
            false => "UPDATE extents SET data = ?1",
            true => "UPDATE extents SET data = ?1, checksum = checksum_of('extents', archive, ?1)",
        };
        for (at, bit) in (0..sound.len()).flat_map(|at| [(at, 1_u8), (at, 2)]) {
            let lying = lay_out(&whole);
            let mut data = sound.clone();
            data[at] ^= bit;
            let database = rusqlite::Connection::open(lying.path().join(segment)).unwrap();
            known::checksum::teach(&database);
            assert_eq!(database.execute(sql, [data]).unwrap(), 1);
            drop(database);
            let options = Options { readers: 1, ..Options::default() };
            let Ok(store) = EmbeddedStore::open(lying.path(), options) else { continue };
            assert!(matching, "byte {at}: opened though the checksum cannot match");
            for of in 0..3 {
                let owner = owner(0, of);
                match known::contents(&*store, &owner).await {
                    Ok(found) => {
                        let ours = format!("<message><body>{owner} ");
                        assert!(
                            found.iter().all(|entry| entry.stanza.starts_with(ours.as_bytes())),
                            "byte {at}"
                        );
                    }
                    Err(StoreError::Corrupt(_)) => others += 1,
                    Err(error) => panic!("byte {at}: {error:?}"),
                }
            }
        }
    }
    assert!(others > 0, "none of the changes named another archive");
}
