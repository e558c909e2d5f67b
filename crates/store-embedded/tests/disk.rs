//! Disks that forget what was not synced, are full, or fail: the store answers clearly, keeps reading, and opens
//! again with the truth. Processes that are killed are left to `crash`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use mammoth_archive::{ArchiveStore, StoreError};
use mammoth_store_embedded::{EmbeddedStore, Failure, Hook, Options, Step};
use tempfile::TempDir;

mod known;
use known::{
    Act, Knowledge, What, check, check_and_learn, check_only, drive, drive_through, figure, next, owner,
    verify,
};

/// So small that a few dozen appends make a segment.
const MEMTABLE: usize = 32 << 10;
/// How long the store may take to write again once there is space.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

fn open(dir: &Path, memtable_bytes: usize, hook: Option<Hook>) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, Options { memtable_bytes, readers: 1, hook, ..Options::default() }).unwrap()
}

/// Files by name below the store's folder, with what is in them.
type Files = HashMap<PathBuf, Vec<u8>>;

/// Every file below a folder.
fn files(dir: &Path) -> Files {
    let mut found = HashMap::new();
    for folder in ["", "log", "segments"] {
        let Ok(entries) = fs::read_dir(dir.join(folder)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            // A file may go while we look.
            if path.is_file()
                && let Ok(bytes) = fs::read(&path)
            {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// The files as of one moment: read again until two readings agree.
fn still(dir: &Path) -> Files {
    let mut before = files(dir);
    loop {
        let after = files(dir);
        if after == before {
            return after;
        }
        before = after;
    }
}

/// Where the many copies are kept: in memory if the machine has such a folder, for a sync there costs nothing.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn lay_out(image: &Files) -> TempDir {
    let dir = folder();
    for (name, bytes) in image {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn ends_with(name: &Path, suffix: &str) -> bool {
    name.to_str().unwrap().ends_with(suffix)
}

// ---------------------------------------------------------------------------------- what was not synced

/// What a cut at one step would have left, and what was known by then.
struct Image {
    step: Step,
    files: Files,
    known: Knowledge,
}

/// Keeps an image of every so many-th step, and sees that each thread takes its steps in order.
struct Film {
    dir: PathBuf,
    known: Arc<Mutex<Knowledge>>,
    images: Mutex<Vec<Image>>,
    turns: Mutex<(u64, HashMap<ThreadId, Step>)>,
}

impl Film {
    fn hook(self: &Arc<Self>) -> Hook {
        let film = self.clone();
        Arc::new(move |step| {
            let mut turns = film.turns.lock().unwrap();
            let before = turns.1.insert(std::thread::current().id(), step);
            let expected = match step {
                Step::AfterLogCommit => Some(Step::BeforeLogCommit),
                Step::AfterCatalogCommit => Some(Step::BeforeCatalogCommit),
                Step::SegmentSynced => Some(Step::SegmentWritten),
                Step::SegmentRegistered => Some(Step::SegmentSynced),
                _ => before,
            };
            assert_eq!(before, expected, "before {step:?}");
            let rare = !matches!(step, Step::BeforeLogCommit | Step::AfterLogCommit);
            if next(&mut turns.0).is_multiple_of(if rare { 12 } else { 200 }) {
                // What is known is noted before the files are read: they may only know more.
                let known = film.known.lock().unwrap().clone();
                film.images.lock().unwrap().push(Image { step, files: still(&film.dir), known });
            }
            Ok(())
        })
    }
}

/// The segments that an image's small database names.
fn registered(image: &Files) -> BTreeSet<u32> {
    let dir = lay_out(image);
    let catalog = rusqlite::Connection::open(dir.path().join("mammoth.sqlite")).unwrap();
    let mut select = catalog.prepare("SELECT segment FROM segments").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_forgets_what_was_not_synced_leaves_the_truth() {
    let dir = folder();
    let known = Arc::new(Mutex::new(Knowledge::new()));
    let film = Arc::new(Film {
        dir: dir.path().to_owned(),
        known: known.clone(),
        images: Mutex::default(),
        turns: Mutex::new((3, HashMap::new())),
    });
    let store = open(dir.path(), MEMTABLE, Some(film.hook()));
    drive(&*store, &known, &mut 5, 1200).await.unwrap();
    check_only(&*store, &known).await;
    drop(store);
    let images = std::mem::take(&mut *film.images.lock().unwrap());
    let seen: BTreeSet<String> = images.iter().map(|image| format!("{:?}", image.step)).collect();
    assert_eq!(seen.len(), 8, "images of every kind of step, not only {seen:?}");
    eprintln!("disk: {} images", images.len());
    for (i, image) in images.into_iter().enumerate() {
        let registered = registered(&image.files);
        let mut files = image.files;
        files.retain(|name, _| !ends_with(name, "-shm"));
        // What is not registered was perhaps not synced: it is whole, gone, cut short, or nothing but zeros.
        let unsynced: Vec<PathBuf> = files
            .keys()
            .filter(|name| name.starts_with("segments"))
            .filter(|name| {
                let number = name.file_stem().unwrap().to_str().unwrap().split('.').next().unwrap();
                !registered.contains(&number.parse().unwrap())
            })
            .cloned()
            .collect();
        for name in unsynced {
            match i % 4 {
                0 => {}
                1 => drop(files.remove(&name)),
                2 => files.get_mut(&name).unwrap().truncate(i * 1000),
                _ => files.get_mut(&name).unwrap().fill(0),
            }
        }
        // What was being appended to a write-ahead log is perhaps there in part, or as rubbish.
        for (name, bytes) in &mut files {
            if ends_with(name, "-wal") && !bytes.is_empty() && i % 2 == 1 {
                bytes.extend((0..i * 97).map(|n| (n * i) as u8));
            }
        }
        let cut = lay_out(&files);
        let mut known = image.known;
        verify(cut.path());
        let store = open(cut.path(), MEMTABLE, None);
        check(&*store, &mut known).await;
        let known = Mutex::new(known);
        drive(&*store, &known, &mut (i as u64), 10).await.unwrap();
        drop(store);
        let store = open(cut.path(), MEMTABLE, None);
        check_only(&*store, &known).await;
    }
}

/// The files before and after a commit that `act` makes at `step`.
async fn before_and_after(
    acts: usize,
    act: impl AsyncFnOnce(&EmbeddedStore),
    steps: [Step; 2],
) -> [Files; 2] {
    let dir = folder();
    let pictures: Arc<Mutex<HashMap<Step, Files>>> = Arc::default();
    let (path, taken) = (dir.path().to_owned(), pictures.clone());
    let hook: Hook = Arc::new(move |step| {
        if steps.contains(&step) {
            taken.lock().unwrap().insert(step, still(&path));
        }
        Ok(())
    });
    let store = open(dir.path(), 1 << 30, Some(hook));
    for i in 0..acts {
        append(&store, i % 2, 3).await.unwrap();
    }
    act(&store).await;
    drop(store);
    let mut pictures = pictures.lock().unwrap();
    steps.map(|step| pictures.remove(&step).unwrap())
}

async fn append(store: &EmbeddedStore, of: usize, entries: i64) -> Result<(), StoreError> {
    let owner = owner(0, of);
    let head = store.head(&owner).await?;
    Act { what: What::Append, number: head.next.0 + entries }.carry_out(store, &owner, head).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_torn_anywhere_is_there_whole_or_not_at_all() {
    let steps = [Step::BeforeLogCommit, Step::AfterLogCommit];
    let [before, after] =
        before_and_after(40, async |store| append(store, 0, 60).await.unwrap(), steps).await;
    let wal = after.keys().find(|name| name.starts_with("log") && ends_with(name, "-wal")).unwrap();
    let (from, to) = (before[wal].len(), after[wal].len());
    assert!(
        before[wal][..] == after[wal][..from] && to > from + 8192,
        "the log grows at its end: {from}, {to}"
    );
    let mut seen = BTreeSet::new();
    let cuts = (from..to).step_by(509).chain([from + 1, to - 1, to]);
    for cut in cuts {
        for rubbish in [false, true] {
            let mut files = after.clone();
            let bytes = files.get_mut(wal).unwrap();
            if rubbish {
                bytes[cut..].fill(0x5a)
            } else {
                bytes.truncate(cut)
            }
            files.retain(|name, _| !ends_with(name, "-shm"));
            let dir = lay_out(&files);
            let store = open(dir.path(), 1 << 30, None);
            let next = store.head(&owner(0, 0)).await.unwrap().next.0;
            assert!([60, 120].contains(&next), "cut at {cut} of {from}..{to}: next is {next}");
            assert_eq!(next == 120, cut == to, "cut at {cut} of {from}..{to}");
            seen.insert(next);
            append(&store, 0, 5).await.unwrap();
            drop(store);
            let store = open(dir.path(), 1 << 30, None);
            assert_eq!(store.head(&owner(0, 0)).await.unwrap().next.0, next + 5, "cut at {cut}");
            assert_eq!(store.head(&owner(0, 1)).await.unwrap().next.0, 60);
        }
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_torn_anywhere_is_there_whole_or_not_at_all() {
    let steps = [Step::BeforeCatalogCommit, Step::AfterCatalogCommit];
    let expire = async |store: &EmbeddedStore| {
        let owner = owner(0, 0);
        let head = store.head(&owner).await.unwrap();
        Act { what: What::Expire, number: 41 }.carry_out(store, &owner, head).await.unwrap();
    };
    let [_, after] = before_and_after(40, expire, steps).await;
    let wal = Path::new("mammoth.sqlite-wal");
    let to = after[wal].len();
    let mut seen = BTreeSet::new();
    for cut in (to.saturating_sub(20_000)..to).step_by(1021).chain([to]) {
        let mut files = after.clone();
        files.get_mut(wal).unwrap().truncate(cut);
        files.retain(|name, _| !ends_with(name, "-shm"));
        let dir = lay_out(&files);
        let Ok(store) = EmbeddedStore::open(dir.path(), Options::default()) else {
            continue; // cut so far back that the store was not made yet
        };
        let head = store.head(&owner(0, 0)).await.unwrap();
        assert_eq!(head.next.0, 60, "cut at {cut} of {to}");
        assert!([0, 41].contains(&head.first.0), "cut at {cut} of {to}: {head:?}");
        seen.insert(head.first.0);
    }
    assert_eq!(seen.len(), 2, "seen was {seen:?}");
}

// ------------------------------------------------------------------------------------- writes that fail

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
        if let Err(refused) = drive(&*store, &known, &mut turn, 1).await {
            assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
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
    for _ in 0..60 {
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
    assert!(noticed > 5, "noticed {noticed} of 60 rotten bytes; some are in places that are not used");
}
