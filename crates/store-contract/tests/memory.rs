//! The model itself against the contract, plainly and behind each decorator. Every other store runs the same in
//! its own tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::sync::Arc;

use mammoth_archive::{ArchiveStore, IdKey, MemoryStore};
use mammoth_store_contract::between::Between;
use mammoth_store_contract::check;
use mammoth_store_contract::faults::{FaultyStore, Retrying};
use mammoth_store_contract::model;

fn memory() -> Arc<dyn ArchiveStore> {
    Arc::new(MemoryStore::new(IdKey([7; 16])))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    check(async || memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_can_be_checked_again_on_the_same_store() {
    let store = memory();
    check(async || store.clone()).await;
    check(async || store.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_copes_sees_no_faults() {
    for seed in 0..3 {
        let faulty = Arc::new(FaultyStore::new(memory(), seed));
        check(async || Arc::new(Retrying::new(faulty.clone())) as Arc<dyn ArchiveStore>).await;
        assert!(faulty.faults() > 1000, "seed {seed}: {} faults", faulty.faults());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_between_calls_are_taken() {
    let between = Arc::new(Between::new(memory(), 10, Arc::new(|store| Box::pin(async { store }))));
    check(async || between.clone() as Arc<dyn ArchiveStore>).await;
    assert!(between.steps() > 500, "{} steps", between.steps());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_behind_faults_is_the_model() {
    let seed = std::sync::atomic::AtomicU64::new(0);
    model::compare(model::sequences(300), 60, async || {
        let seed = seed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = Arc::new(Retrying::new(Arc::new(FaultyStore::new(memory(), seed))));
        model::Subject { store, steps: vec![("nothing", Arc::new(|store| Box::pin(async { store })))] }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_at_once_see_the_model_each() {
    let open = async || model::Subject { store: memory(), steps: Vec::new() };
    model::compare_at_once(8, model::sequences(300) / 30, 60, open).await;
}
