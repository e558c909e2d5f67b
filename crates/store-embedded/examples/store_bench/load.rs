//! A server's load: entries of many owners in groups, with seals and merges going on; then quiet owners' pages;
//! then the oldest tenth goes while the load goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mammoth_archive::{
    Archive, ArchiveStore, ExpiresAfter, Filter, Limits, NewEntry, PageRequest, PageStart, Position, Query,
    Quota, Timestamp,
};
use mammoth_store_embedded::{EmbeddedStore, Options};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::Start;
use crate::data::{Random, Source, owner};
use crate::report::{Times, memory, processor};

const GROUP: usize = 500;
/// Owners with ten entries each, spread over the whole load.
const QUIET: usize = 100;
const QUIET_ENTRIES: u64 = 10;

type Batch = (usize, Vec<NewEntry>);

/// Makes groups on a thread of its own.
fn produce(entries: u64, owners: usize, groups: &mpsc::Sender<Vec<Batch>>) {
    let mut source = Source::new(1, entries);
    let mut made = 0;
    let mut next_quiet = 0;
    while made < entries {
        let mut group: Vec<Batch> = Vec::with_capacity(GROUP);
        let mut add = |source: &mut Source, number: usize, n: u64| {
            let with = source.contact(number, owners);
            let entry = source.entry(owner(number).as_str(), &with, n);
            match group.iter_mut().find(|(other, _)| *other == number) {
                Some((_, entries)) => entries.push(entry),
                None => group.push((number, vec![entry])),
            }
        };
        for _ in 0..GROUP {
            let number = source.random.zipf(owners);
            add(&mut source, number, made);
            made += 1;
        }
        if made >= next_quiet {
            next_quiet += entries / QUIET_ENTRIES;
            for quiet in 0..QUIET {
                add(&mut source, owners + quiet, made);
            }
        }
        if groups.blocking_send(group).is_err() {
            return;
        }
    }
}

async fn append(store: Arc<EmbeddedStore>, group: Vec<(usize, Position, Vec<NewEntry>)>) {
    let mut all = Vec::with_capacity(group.len());
    let mut kept = Vec::with_capacity(group.len());
    for (number, expected, entries) in group {
        let store = store.clone();
        let entries: Arc<[NewEntry]> = entries.into();
        // As lanes do: what is appended is kept until the outcome is known.
        kept.push(entries.clone());
        all.push(async move { store.append(&owner(number), expected, entries).await.unwrap() });
    }
    let mut set = JoinSet::new();
    for one in all {
        set.spawn(one);
    }
    set.join_all().await;
}

fn disk(dir: &Path) -> u64 {
    let mut bytes = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let Ok(file) = file else { continue };
        let Ok(metadata) = file.metadata() else { continue };
        bytes += if metadata.is_dir() { disk(&file.path()) } else { metadata.len() };
    }
    bytes
}

/// With so many groups under way at a time.
pub async fn run(entries: u64, owners: usize, groups_at_once: usize, dir: Option<&str>) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = dir.map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let store = EmbeddedStore::open(&dir, Options::default()).unwrap();
    println!(
        "load: {entries} entries of {owners} owners (Zipf), groups of {GROUP}, {groups_at_once} under way"
    );

    let (sender, mut groups) = mpsc::channel(4);
    let producer = std::thread::spawn(move || produce(entries, owners, &sender));
    let mut next = vec![0_i64; owners + QUIET];
    let (mut done, mut bytes) = (0_u64, 0_u64);
    let mut times = Times::default();
    let mut all_times = Times::default();
    let (whole, mut part) = (Start::now(), Start::now());
    let mut reported = 0;
    let mut under_way = JoinSet::new();
    while let Some(group) = groups.recv().await {
        let mut placed = Vec::with_capacity(group.len());
        for (number, entries) in group {
            done += entries.len() as u64;
            bytes += entries.iter().map(|entry| entry.stanza.len() as u64).sum::<u64>();
            let expected = Position(next[number]);
            next[number] += entries.len() as i64;
            placed.push((number, expected, entries));
        }
        while under_way.len() >= groups_at_once.max(1) {
            let time = under_way.join_next().await.unwrap().unwrap();
            times.add(time);
            all_times.add(time);
        }
        let store = store.clone();
        under_way.spawn(async move {
            let start = Start::now();
            append(store, placed).await;
            start.elapsed()
        });
        if done - reported >= 1_000_000 || done >= entries {
            let rate = (done - reported) as f64 / part.elapsed().as_secs_f64();
            println!("{:>9} entries: {rate:>8.0}/s  {}  {}", done, times.line(), memory());
            (reported, part) = (done, Start::now());
            times = Times::default();
        }
    }
    while under_way.join_next().await.is_some() {}
    producer.join().unwrap();
    println!("appended: {:.0}/s  groups {}", done as f64 / whole.elapsed().as_secs_f64(), all_times.line());
    println!("mean stanza {} B; {}", bytes / done, memory());
    println!("{}", processor());
    println!("on disk as it stands: {:.1} B/entry", disk(&dir) as f64 / done as f64);
    quiet_pages(&store, owners, "as it stands").await;
    let settling = Start::now();
    store.seal().await.unwrap();
    println!(
        "sealed and merged in {:.1} s: {:.1} B/entry; {}",
        settling.elapsed().as_secs_f64(),
        disk(&dir) as f64 / done as f64,
        memory()
    );
    println!("{}", processor());
    println!("{:?}", store.stats().await.unwrap());
    quiet_pages(&store, owners, "after the merges").await;
    expire(&store, &dir, entries, owners, next).await;

    drop(store);
    let reopening = Start::now();
    let store = EmbeddedStore::open(&dir, Options::default()).unwrap();
    println!("reopened in {:.0} ms; {}", reopening.elapsed().as_secs_f64() * 1000.0, memory());
    drop(store);
}

async fn quiet_pages(store: &Arc<EmbeddedStore>, owners: usize, when: &str) {
    let mut times = Times::default();
    for round in 0..11 {
        for quiet in 0..QUIET {
            let page = PageRequest { max: 50, start: PageStart::Last };
            let query = Query { filter: Filter::default(), page };
            let start = Start::now();
            let page = store.page(&owner(owners + quiet), query).await.unwrap();
            if round > 0 {
                times.add(start.elapsed());
            }
            assert!(page.count >= QUIET_ENTRIES, "{}", page.count);
        }
    }
    println!("a quiet owner's last page (10 entries over the whole load), {when}: {}", times.line());
}

/// Lets the oldest tenth go, while single messages are appended and pages are asked for.
async fn expire(store: &Arc<EmbeddedStore>, dir: &Path, entries: u64, owners: usize, next: Vec<i64>) {
    let source = Source::new(1, entries);
    let cut = source.stamp(entries / 10);
    let before = disk(dir);
    let stop = Arc::new(AtomicBool::new(false));
    let (beside, stopped) = (store.clone(), stop.clone());
    let late = source.stamp(entries);
    let load = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(beside_expiry(beside, stopped, owners, late, next))
    });
    let expiring = Start::now();
    let archive = Archive::open(store.clone(), Limits::default()).await.unwrap();
    let no_quota = Quota { entries: None, bytes: None };
    let gone = archive.expire(cut, ExpiresAfter::Seconds(0), no_quota).await.unwrap();
    println!(
        "expired {} entries of {} archives in {:.2} s",
        gone.entries,
        gone.archives,
        expiring.elapsed().as_secs_f64()
    );
    store.settle().await.unwrap();
    println!(
        "space back after {:.1} s: {} MB of {} MB",
        expiring.elapsed().as_secs_f64(),
        before.saturating_sub(disk(dir)) / 1_000_000,
        before / 1_000_000
    );
    stop.store(true, Ordering::Relaxed);
    let (mut appends, mut pages) = load.join().unwrap();
    println!("appends meanwhile: {}", appends.line());
    println!("pages meanwhile:   {}", pages.line());
}

async fn beside_expiry(
    store: Arc<EmbeddedStore>,
    stop: Arc<AtomicBool>,
    owners: usize,
    stamp: Timestamp,
    mut next: Vec<i64>,
) -> (Times, Times) {
    let (mut appends, mut pages) = (Times::default(), Times::default());
    let mut random = Random(7);
    let mut source = Source::new(2, 1);
    while !stop.load(Ordering::Relaxed) {
        let number = random.zipf(owners);
        let with = source.contact(number, owners);
        let entry = NewEntry { stamp, ..source.entry(owner(number).as_str(), &with, 0) };
        let start = Start::now();
        store.append(&owner(number), Position(next[number]), Arc::from(vec![entry])).await.unwrap();
        appends.add(start.elapsed());
        next[number] += 1;
        let page = PageRequest { max: 50, start: PageStart::Last };
        let start = Start::now();
        store.page(&owner(random.zipf(owners)), Query { filter: Filter::default(), page }).await.unwrap();
        pages.add(start.elapsed());
    }
    (appends, pages)
}
