//! The contracts as programs: archives and accounts, as they are, behind faults, and against the model.

use std::sync::Arc;

use mammoth_archive::ArchiveStore;
use mammoth_store_contract::faults::{FaultyStore, Retrying};
use mammoth_store_contract::model::{self, Subject};
use mammoth_store_contract::{Step, check};
use mammoth_store_postgres::{Config, PostgresStore};

use crate::cluster::shared;

pub async fn open(config: &Config) -> Arc<PostgresStore> {
    PostgresStore::open(config.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let Some(cluster) = shared("it_keeps_the_contract") else { return };
    let store = open(&cluster.database().await).await;
    check(async || store.clone() as Arc<dyn ArchiveStore>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_without_partitions() {
    let Some(cluster) = shared("it_keeps_the_contract_without_partitions") else { return };
    let config = Config { partitions: 1, ..cluster.database().await };
    let store = open(&config).await;
    check(async || store.clone() as Arc<dyn ArchiveStore>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_copes_sees_no_faults() {
    let Some(cluster) = shared("a_caller_that_copes_sees_no_faults") else { return };
    let store = open(&cluster.database().await).await;
    let faulty = Arc::new(FaultyStore::new(store, 1));
    check(async || Arc::new(Retrying::new(faulty.clone())) as Arc<dyn ArchiveStore>).await;
    assert!(faulty.faults() > 1000, "{} faults", faulty.faults());
}

/// What may happen between two calls: another process opens the database, or the rows that have expired go.
fn steps(config: &Config) -> Vec<(&'static str, Step)> {
    let config = config.clone();
    let reopen: Step = Arc::new(move |store| {
        let config = config.clone();
        Box::pin(async move {
            drop(store);
            open(&config).await as Arc<dyn ArchiveStore>
        })
    });
    vec![("reopen", reopen)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_the_model() {
    let Some(cluster) = shared("it_is_the_model") else { return };
    let config = cluster.database().await;
    model::compare(model::sequences(15), 80, async || Subject {
        store: open(&config).await,
        steps: steps(&config),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_an_account_store() {
    let Some(cluster) = shared("it_is_an_account_store") else { return };
    let store = open(&cluster.database().await).await;
    mammoth_accounts::contract::check(&*store).await;
}
