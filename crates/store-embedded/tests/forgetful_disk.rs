//! Disks that forget what was not synced, or keep it in part or as rubbish: the store opens again with the truth.
//! Disks that say that they fail are left to `failing_disk`, processes that are killed to `crash`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use mammoth_archive::ArchiveStore;
use mammoth_store_embedded::{EmbeddedStore, Hook, Options, Step};

mod known;
use known::files::{Files, MEMTABLE, append, ends_with, folder, lay_out, open, still};
use known::{Act, Knowledge, What, check, check_only, drive, next, owner, verify};

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
