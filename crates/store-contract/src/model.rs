//! Random sequences of operations on a store and on `MemoryStore` side by side: every answer must be the same. A
//! failure is shrunk to the fewest operations that show it and printed with its seed. What an operation is, is
//! left to `ops`, what "the same" means to `compare`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use mammoth_archive::ArchiveStore;

use crate::Step;
use crate::seed::Seeded;

mod compare;
mod ops;

pub use ops::Op;

/// How many sequences are run; [`sequences`] reads it.
pub const SEQUENCES_VARIABLE: &str = "MAMMOTH_MODEL_SEQUENCES";
/// The one sequence to run, as a failure prints it.
pub const SEED_VARIABLE: &str = "MAMMOTH_MODEL_SEED";
/// Progress is told after every so many sequences.
const TELL_EVERY: u64 = 1000;
/// The most sequences tried while a failure is shrunk.
const SHRINK_TRIALS_MAX: usize = 600;

/// A store to compare with the model, new or in use.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn ArchiveStore>,
    /// What may be done to it between two operations (reopen, seal, merge …), by name.
    pub steps: Vec<(&'static str, Step)>,
}

/// How many sequences to run: what the environment says ([`SEQUENCES_VARIABLE`]), or `default`.
#[must_use]
pub fn sequences(default: u64) -> u64 {
    let set = std::env::var(SEQUENCES_VARIABLE).ok();
    set.map_or(default, |set| set.parse().expect("MAMMOTH_MODEL_SEQUENCES is a number"))
}

/// Runs `sequences` sequences of `length` operations each, every one on a subject of its own.
///
/// # Panics
/// At the first sequence whose answers differ from the model's; prints its seed and its shortest form.
pub async fn compare(sequences: u64, length: usize, open: impl AsyncFn() -> Subject) {
    if let Ok(seed) = std::env::var(SEED_VARIABLE) {
        let seed = seed.parse().expect("MAMMOTH_MODEL_SEED is a number");
        one(seed, length, &open).await;
        return;
    }
    let first = RandomState::new().build_hasher().finish() >> 16;
    eprintln!("model: {sequences} sequences of {length} operations, seeds from {first}");
    for (done, seed) in (0..sequences).zip(first..) {
        if done > 0 && done.is_multiple_of(TELL_EVERY) {
            eprintln!("model: {done} of {sequences} sequences were the same");
        }
        one(seed, length, &open).await;
    }
}

/// Runs `players` sequences at once, each with owners of its own, on the one store that `open` gives; `rounds`
/// times.
///
/// # Panics
/// When any of their answers differ from the model's; prints the operation. As it depends on what the others did
/// at that moment, it is not shrunk.
pub async fn compare_at_once(players: u64, rounds: u64, length: usize, open: impl AsyncFn() -> Subject) {
    let first = RandomState::new().build_hasher().finish() >> 16;
    eprintln!("model: {rounds} rounds of {players} players, seeds from {first}");
    let subject = open().await;
    for round in 0..rounds {
        let mut all = tokio::task::JoinSet::new();
        for player in 0..players {
            let ops = ops::any(&mut Seeded::new(first.wrapping_add(round * players + player)), length, 0);
            let shared = Subject { store: subject.store.clone(), steps: Vec::new() };
            all.spawn(compare::play(shared, ops, false));
        }
        while let Some(done) = all.join_next().await {
            if let Err(why) = done.expect("a player panicked") {
                panic!("in round {round} of seeds from {first}: {why}");
            }
        }
    }
}

async fn one(seed: u64, length: usize, open: &impl AsyncFn() -> Subject) {
    let subject = open().await;
    let ops = ops::any(&mut Seeded::new(seed), length, subject.steps.len());
    let Err(why) = run(subject, ops.clone()).await else { return };
    eprintln!("model: seed {seed} fails: {why}\nmodel: shrinking …");
    let (ops, why) = shrink(ops, why, open).await;
    let ops: Vec<_> = ops.iter().enumerate().map(|(i, op)| format!("{i:3}: {op:?}")).collect();
    panic!(
        "{SEED_VARIABLE}={seed} (length {length}) fails, in its shortest form:\n{}\n{why}",
        ops.join("\n")
    );
}

/// Plays `ops`; `Err` says what differs, or what panicked.
async fn run(subject: Subject, ops: Vec<Op>) -> Result<(), String> {
    match tokio::spawn(compare::play(subject, ops, true)).await {
        Ok(result) => result,
        Err(error) => {
            let panic = error.into_panic();
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(format!("panic: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
        }
    }
}

/// Leaves out operations, in ever smaller runs, and entries of batches, for as long as it still fails.
async fn shrink(mut ops: Vec<Op>, mut why: String, open: &impl AsyncFn() -> Subject) -> (Vec<Op>, String) {
    let mut trials = 0;
    let mut size = ops.len() / 2;
    while size > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < ops.len() && trials < SHRINK_TRIALS_MAX {
            let mut fewer = ops.clone();
            fewer.drain(at..ops.len().min(at + size));
            trials += 1;
            match run(open().await, fewer.clone()).await {
                Ok(()) => at += size,
                Err(still) => (ops, why, shorter) = (fewer, still, true),
            }
        }
        if !shorter || trials >= SHRINK_TRIALS_MAX {
            size /= 2;
        }
    }
    for at in 0..ops.len() {
        while let Some(smaller) = ops[at].smaller() {
            let mut fewer = ops.clone();
            fewer[at] = smaller;
            trials += 1;
            match run(open().await, fewer.clone()).await {
                Err(still) if trials < 2 * SHRINK_TRIALS_MAX => (ops, why) = (fewer, still),
                _ => break,
            }
        }
    }
    (ops, why)
}
