//! Appends that are called at the same time become one commit, whoever else gives up. How groups are made under load is
//! left to `model` and `crash`, which have many writers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use mammoth_archive::{ArchiveStore, Position};
use mammoth_store_embedded::{EmbeddedStore, Hook, Options, Step};

mod known;
use known::{entry, owner};

/// A store that counts its commits.
fn open(dir: &std::path::Path) -> (Arc<EmbeddedStore>, Arc<AtomicU64>) {
    let commits = Arc::new(AtomicU64::new(0));
    let counted = commits.clone();
    let hook: Hook = Arc::new(move |step| {
        counted.fetch_add(u64::from(step == Step::AfterLogCommit), Ordering::SeqCst);
        Ok(())
    });
    (EmbeddedStore::open(dir, Options { hook: Some(hook), ..Options::default() }).unwrap(), commits)
}

/// Appends the entry at a position.
fn append(store: &Arc<EmbeddedStore>, of: usize, at: i64) -> impl Future<Output = ()> + 'static {
    let (store, owner) = (store.clone(), owner(0, of));
    async move { store.append(&owner, Position(at), [entry(&owner, at)].into()).await.unwrap() }
}

#[tokio::test]
async fn both_halves_of_a_message_are_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (store, commits) = open(dir.path());
    for at in 0..100 {
        // Two tasks of one thread, as lanes are.
        let halves = [tokio::spawn(append(&store, 0, at)), tokio::spawn(append(&store, 1, at))];
        for half in halves {
            half.await.unwrap();
        }
    }
    assert_eq!(commits.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn many_at_once_are_few_commits() {
    let dir = tempfile::tempdir().unwrap();
    let (store, commits) = open(dir.path());
    let mut all = tokio::task::JoinSet::new();
    for of in 0..500 {
        all.spawn(append(&store, of, 0));
    }
    all.join_all().await;
    // They go by 65, or queue up while the writer works; one may be left alone between two of these.
    assert!(commits.load(Ordering::SeqCst) <= 2 * 500_u64.div_ceil(65), "{commits:?}");
    for of in 0..500 {
        assert_eq!(store.head(&owner(0, of)).await.unwrap().count(), 1);
    }
}

#[tokio::test]
async fn who_gives_up_takes_his_append_along_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for at in 0..20 {
        let mut given_up = Box::pin(append(&store, 0, 0));
        let pending = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(pending.is_pending());
        let other = tokio::spawn(append(&store, 1, at));
        drop(given_up);
        other.await.unwrap();
    }
    let count = async |of| store.head(&owner(0, of)).await.unwrap().count();
    assert_eq!((count(0).await, count(1).await), (0, 20));
}
