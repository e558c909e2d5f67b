//! Random operations on the embedded store and on the model side by side, with seals, merges and reopenings in
//! between. `MAMMOTH_MODEL_SEQUENCES` says how many sequences, `MAMMOTH_MODEL_SEED` plays one again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mammoth_archive::ArchiveStore;
use mammoth_store_contract::Step;
use mammoth_store_contract::faults::{FaultyStore, Retrying};
use mammoth_store_contract::model::{Subject, compare, compare_at_once, sequences};
use mammoth_store_embedded::{EmbeddedStore, Options};
use tempfile::TempDir;

/// Operations in one sequence.
const LENGTH: usize = 60;

fn open(dir: &Path, memtable_bytes: usize) -> Arc<EmbeddedStore> {
    let options = Options { memtable_bytes, readers: 1, ..Options::default() };
    EmbeddedStore::open(dir, options).unwrap()
}

/// Where a sequence's store is kept: memory if the machine has such a folder, for a sync there costs nothing.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A store that is in use by the steps as well, and closed by them.
type Current = Arc<Mutex<Arc<EmbeddedStore>>>;

fn subject(memtable_bytes: usize) -> Subject {
    let dir = Arc::new(folder());
    let store = open(dir.path(), memtable_bytes);
    let current: Current = Arc::new(Mutex::new(store.clone()));
    let sealed = current.clone();
    let reopen: Step = Arc::new(move |_| {
        let mut current = current.lock().unwrap();
        current.close();
        *current = open(dir.path(), memtable_bytes);
        let store = current.clone();
        Box::pin(async move { store as Arc<dyn ArchiveStore> })
    });
    let seal: Step = Arc::new(move |store| {
        let current = sealed.lock().unwrap().clone();
        Box::pin(async move {
            current.seal().await.unwrap();
            store
        })
    });
    Subject { store, steps: vec![("reopen", reopen), ("seal and merge", seal)] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_is_the_model() {
    let number = AtomicU64::new(0);
    compare(sequences(200), LENGTH, async || {
        // From one that seals after every other batch to one that never does.
        let sizes = [600, 2 << 10, 8 << 10, 1 << 20];
        subject(sizes[number.fetch_add(1, Ordering::Relaxed) as usize % sizes.len()])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_behind_faults_is_the_model() {
    let seed = AtomicU64::new(0);
    compare(sequences(200) / 4, LENGTH, async || {
        // The steps are not for a store with something around it, but they hold its folder.
        let Subject { store, steps } = subject(2 << 10);
        let faulty = Arc::new(FaultyStore::new(store, seed.fetch_add(1, Ordering::Relaxed)));
        let nothing: Step = Arc::new(move |store| {
            let _folder = &steps;
            Box::pin(async { store })
        });
        Subject { store: Arc::new(Retrying::new(faulty)), steps: vec![("nothing", nothing)] }
    })
    .await;
}

/// Many at once: their appends share groups, and seals and merges are under way most of the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_is_the_model_to_each_of_many_at_once() {
    compare_at_once(16, (sequences(200) / 50).max(1), 3 * LENGTH, async || subject(16 << 10)).await;
}
