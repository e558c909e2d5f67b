//! Kills a process that writes as fast as it can, with seals and merges under way, at random moments, opens what
//! it leaves, and compares that with what it had acknowledged. What a disk does that forgets or refuses is left
//! to `failing_disk` and `forgetful_disk`.
//!
//! The process is this test executable again: [`child`], told by its environment where to write.
//! `MAMMOTH_CRASH_ROUNDS` says how often it is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mammoth_archive::ArchiveStore;
use mammoth_archive::jid::BareJid;
use mammoth_store_embedded::{EmbeddedStore, Options};

mod known;
use known::{Act, Knowledge, OWNERS_EACH, WRITERS, What, check, figure, owner, verify};

/// Tells the child where its store is.
const DIR_VARIABLE: &str = "MAMMOTH_CRASH_DIR";
/// Tells the child how large its memory table may grow.
const MEMTABLE_VARIABLE: &str = "MAMMOTH_CRASH_MEMTABLE";
/// Tells the child to append only.
const APPEND_VARIABLE: &str = "MAMMOTH_CRASH_APPEND_ONLY";
/// How often the child is killed.
const ROUNDS_VARIABLE: &str = "MAMMOTH_CRASH_ROUNDS";
const ROUNDS_DEFAULT: u64 = 20;

/// Acknowledgements before the kill, at most.
const ACKNOWLEDGED_MAX: u64 = 4000;

// ---------------------------------------------------------------------------------------------- the child

/// One line to the parent, whole or not at all: what is about to be done (`?`), or is done (`!`).
fn say(what: &str, mark: char, owner: &BareJid, number: i64) {
    let line = format!("{what} {mark} {owner} {number}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

async fn write(store: Arc<EmbeddedStore>, writer: usize, append_only: bool) {
    let mut turn = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ writer as u64;
    loop {
        turn = turn.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let n = turn >> 24;
        let owner = owner(writer, (n % OWNERS_EACH as u64) as usize);
        let head = store.head(&owner).await.unwrap();
        let act = Act::choose(n / OWNERS_EACH as u64, head, append_only);
        say(act.what.name(), '?', &owner, act.number);
        act.carry_out(&*store, &owner, head).await.unwrap();
        say(act.what.name(), '!', &owner, act.number);
    }
}

/// Not a test: the process that is killed.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Ok(dir) = std::env::var(DIR_VARIABLE) else { return };
    let memtable_bytes = std::env::var(MEMTABLE_VARIABLE).unwrap().parse().unwrap();
    let append_only = std::env::var(APPEND_VARIABLE).is_ok();
    println!(); // the test harness has begun a line
    say("opening", '!', &owner(0, 0), 0);
    let options = Options { memtable_bytes, readers: 1, ..Options::default() };
    let store = EmbeddedStore::open(Path::new(&dir), options).unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write(store.clone(), writer, append_only));
        }
        writers.join_next().await.unwrap().unwrap();
    });
}

// --------------------------------------------------------------------------------------------- the parent

/// Kills a child once `enough` says so of the lines it has said, and answers how many it acknowledged in all.
fn run_and_kill(
    dir: &Path,
    memtable_bytes: usize,
    append_only: bool,
    known: &mut Knowledge,
    mut enough: impl FnMut(&str, u64) -> bool,
) -> u64 {
    // By this name it is found even when a build has replaced the file meanwhile.
    let own = Path::new("/proc/self/exe");
    let own = if own.exists() { own.to_owned() } else { std::env::current_exe().unwrap() };
    let mut command = Command::new(own);
    command.args(["child", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command
        .env(DIR_VARIABLE, dir)
        .env(MEMTABLE_VARIABLE, memtable_bytes.to_string())
        .env_remove(APPEND_VARIABLE);
    if append_only {
        command.env(APPEND_VARIABLE, "1");
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut acknowledged, mut killed, mut line) = (0, false, String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        let words: Vec<&str> = line.trim().split(' ').collect();
        if let ([what, mark, owner, number], true) = (&words[..], line.ends_with('\n'))
            && let Ok(number) = number.parse()
        {
            let known = known.entry(BareJid::new(owner).unwrap()).or_default();
            let act = What::ALL.into_iter().find(|of| of.name() == *what).map(|what| Act { what, number });
            match (act, *mark) {
                (Some(act), "?") => known.tries(act),
                (Some(act), _) => {
                    known.did(act);
                    acknowledged += 1;
                }
                (None, _) => {}
            }
            if !killed && enough(what, acknowledged) {
                child.kill().unwrap();
                killed = true;
            }
        }
        line.clear();
    }
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert!(killed, "the child ended by itself: {status}\n{said}");
    acknowledged
}

#[allow(clippy::disallowed_methods)] // how long it takes to open is what is asked
fn open_and_time(dir: &Path, memtable_bytes: usize) -> (Arc<EmbeddedStore>, std::time::Duration) {
    let begin = std::time::Instant::now();
    let store = EmbeddedStore::open(dir, Options { memtable_bytes, ..Options::default() }).unwrap();
    (store, begin.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    const MEMTABLE: usize = 96 << 10;
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS_DEFAULT, |rounds| rounds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut known = Knowledge::new();
    let (mut acknowledged, mut segments, mut slowest) = (0, 0, std::time::Duration::ZERO);
    let mut seed = u64::from(std::process::id());
    let mut key = None;
    for round in 0..rounds {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        // Now and then while it opens, which begins with all that the crash before has left; else after some
        // number of acknowledgements.
        let wait = (seed >> 33) % ACKNOWLEDGED_MAX;
        let opening = round % 5 == 4;
        acknowledged += run_and_kill(dir.path(), MEMTABLE, false, &mut known, |what, acknowledged| {
            if opening && what == "opening" {
                (0..wait * 20).for_each(|_| std::thread::yield_now());
                return true;
            }
            acknowledged > wait
        });
        verify(dir.path());
        let (store, took) = open_and_time(dir.path(), MEMTABLE);
        slowest = slowest.max(took);
        let entries = check(&*store, &mut known).await;
        let stats = store.stats().await.unwrap();
        segments = segments.max(figure(&stats, "segments"));
        let id_key = store.id_key().await.unwrap();
        assert!(*key.get_or_insert(id_key) == id_key, "the id key has changed");
        eprintln!(
            "crash: round {round}: {entries} entries, {} segments, opened in {took:?}",
            figure(&stats, "segments")
        );
    }
    eprintln!(
        "crash: {rounds} kills, {acknowledged} acknowledgements, at most {segments} segments, opened in at most {slowest:?}"
    );
    assert!(acknowledged > rounds * 100, "only {acknowledged} acknowledgements");
    assert!(segments > 1, "no seal was under way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_table_is_there_again_after_a_crash() {
    let memtable_bytes = Options::default().memtable_bytes;
    let dir = tempfile::tempdir().unwrap();
    let mut known = Knowledge::new();
    // An append has 12.5 entries on average, and each of these takes some 255 bytes of memory.
    let enough = memtable_bytes as u64 / 255 / 18;
    run_and_kill(dir.path(), memtable_bytes, true, &mut known, |_, acknowledged| acknowledged > enough);
    let (store, took) = open_and_time(dir.path(), memtable_bytes);
    let stats = store.stats().await.unwrap();
    let (entries, bytes) = (figure(&stats, "memory_entries"), figure(&stats, "memory_bytes"));
    eprintln!("crash: a memory table of {entries} entries, {} MiB, was there again in {took:?}", bytes >> 20);
    assert_eq!(check(&*store, &mut known).await, stats.entries);
    assert!(bytes > memtable_bytes as u64 / 2, "the memory table was to be full, it has {bytes} bytes");
}
