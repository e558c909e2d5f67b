//! The embedded store against the contract: as it is, with memory tables so small that it seals and merges all
//! the while, reopened between two calls, and behind faults. Random operations are left to `model`, crashes to
//! `crash`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;

use mammoth_archive::ArchiveStore;
use mammoth_store_contract::between::Between;
use mammoth_store_contract::check;
use mammoth_store_contract::faults::{FaultyStore, Retrying};
use mammoth_store_embedded::{EmbeddedStore, Options};

/// So little that every few appends fill a memory table.
const TINY: usize = 4 << 10;

fn open(dir: &Path, memtable_bytes: usize) -> Arc<dyn ArchiveStore> {
    let options = Options { memtable_bytes, readers: 2, ..Options::default() };
    EmbeddedStore::open(dir, options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    check(async || open(dir.path(), Options::default().memtable_bytes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_with_tiny_memory_tables_twice_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), TINY);
    check(async || store.clone()).await;
    check(async || store.clone()).await;
    let stats = store.stats().await.unwrap();
    drop(store);
    let reopened = open(dir.path(), TINY).stats().await.unwrap();
    assert_eq!((reopened.archives, reopened.entries), (stats.archives, stats.entries));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_when_it_is_reopened_between_two_calls() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let reopen: mammoth_store_contract::Step = Arc::new(move |store| {
        let path = path.clone();
        Box::pin(async move {
            drop(store);
            open(&path, TINY)
        })
    });
    let between = Arc::new(Between::new(open(dir.path(), TINY), 23, reopen));
    check(async || between.clone() as Arc<dyn ArchiveStore>).await;
    assert!(between.steps() > 300, "reopened {} times", between.steps());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_to_a_caller_that_copes_with_faults() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Arc::new(FaultyStore::new(open(dir.path(), TINY), 1));
    check(async || Arc::new(Retrying::new(faulty.clone())) as Arc<dyn ArchiveStore>).await;
    assert!(faulty.faults() > 1000, "{} faults", faulty.faults());
}
