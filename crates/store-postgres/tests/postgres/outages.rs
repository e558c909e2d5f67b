//! A network that fails at any moment, a database that is restarted or killed: what was acknowledged is there, once
//! and in order; what was not is there or not, and repeating the call tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Filter, NewEntry, PageRequest, PageStart, Position, Query, StoreError, Timestamp,
};
use mammoth_store_contract::cases::CASES;
use mammoth_store_contract::faults::Retrying;
use mammoth_store_contract::model::{self, Subject};
use mammoth_store_postgres::{Config, PostgresStore};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, own, shared};
use crate::contract::open;
use crate::proxy::Proxy;

/// A store behind a network, little patient so that callers hear of outages.
async fn through(cluster: &Cluster, seed: u64) -> (Proxy, Arc<PostgresStore>) {
    let proxy = Proxy::before(cluster.port, seed).await;
    let config = Config {
        port: Some(proxy.port),
        patience: Duration::from_millis(300),
        answer_time: Duration::from_millis(1500),
        ..cluster.database().await
    };
    let store = open(&config).await;
    (proxy, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_copes_sees_no_failing_network() {
    let Some(cluster) = shared("a_caller_that_copes_sees_no_failing_network") else { return };
    let (proxy, store) = through(cluster, 1).await;
    let store: Arc<dyn ArchiveStore> = Arc::new(Retrying::new(store));
    // The two that ask for thousands of pages say nothing more here: the model asks for pages of all kinds below.
    for case in CASES.iter().filter(|case| !case.name.starts_with("pages::pages_by_")) {
        // New connections, of which some fail soon; two cases need some that carry a large batch.
        let large = ["append::stanzas_come_back_byte_for_byte", "append::a_large_batch_is_one_append"];
        proxy.fail_after(if large.contains(&case.name) { 1_500_000 } else { 150_000 });
        proxy.cut();
        eprintln!("{}", case.name);
        (case.run)(store.clone()).await;
    }
    assert!(proxy.failures() > 3, "{} connections failed", proxy.failures());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_the_model_through_a_failing_network() {
    let Some(cluster) = shared("it_is_the_model_through_a_failing_network") else { return };
    let (proxy, store) = through(cluster, 2).await;
    proxy.fail_after(40_000);
    proxy.cut();
    model::compare(model::sequences(10), 60, async || Subject {
        store: Arc::new(Retrying::new(store.clone())),
        steps: Vec::new(),
    })
    .await;
    assert!(proxy.failures() > 20, "{} connections failed", proxy.failures());
}

/// Without anybody who repeats the call: nothing but the truth, or that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_cut_at_any_byte_tells_the_truth() {
    let Some(cluster) = shared("an_append_cut_at_any_byte_tells_the_truth") else { return };
    let (proxy, store) = through(cluster, 3).await;
    let owner = BareJid::new("a@one.example").unwrap();
    let mut at = Position(0);
    let (mut done, mut unknown) = (0, 0);
    for n in 0..100 {
        // Every append has a connection of its own: most end before it is done, at some byte of the login, of the
        // statement, or of its answer.
        proxy.fail_after(if n % 3 == 0 { 3_000 } else { 6_000 });
        proxy.cut();
        let batch: Arc<[NewEntry]> = (0..2).map(|i| entry("b@two.example", n * 2 + i)).collect();
        let result = store.append(&owner, at, batch.clone()).await;
        proxy.fail_after(0);
        match result {
            Ok(()) => done += 1,
            Err(StoreError::Unavailable(_)) => {
                unknown += 1;
                store.append(&owner, at, batch).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        at = at.offset(2);
        assert_eq!(store.head(&owner).await.unwrap().next, at, "after {n}");
    }
    assert!(done > 10, "{done} done, {unknown} unknown");
    assert!(proxy.failures() > 10, "{} connections failed", proxy.failures());
    assert_eq!(bodies(&*store, &owner).await, (0..200).collect::<Vec<_>>());
}

fn entry(with: &str, n: i64) -> NewEntry {
    NewEntry {
        with: Jid::new(with).unwrap(),
        stamp: Timestamp(1_700_000_000_000_000 + n),
        stanza: Bytes::from(n.to_string()),
        message_id: Some(n.to_string()),
        foreign_id: None,
    }
}

async fn bodies(store: &dyn ArchiveStore, owner: &BareJid) -> Vec<i64> {
    let page = PageRequest { max: usize::MAX, start: PageStart::First };
    let page = store.page(owner, Query { filter: Filter::default(), page }).await.unwrap();
    page.entries.iter().map(|entry| std::str::from_utf8(&entry.stanza).unwrap().parse().unwrap()).collect()
}

/// How many archives are written while the database goes down and comes up.
const WRITERS: usize = 6;

/// Appends to one archive until told to stop, as a lane does: the same batch again after an outage. Answers how many
/// entries were acknowledged.
async fn write(
    store: Arc<PostgresStore>,
    owner: BareJid,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    outages: Arc<AtomicU64>,
) -> i64 {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let batch: Arc<[NewEntry]> = (n..n + 3).map(|n| entry("b@two.example", n)).collect();
        match store.append(&owner, Position(n), batch).await {
            Ok(()) => {
                n += 3;
                acknowledged.fetch_add(3, Ordering::Relaxed);
            }
            Err(StoreError::Unavailable(_)) => {
                outages.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{owner}: {error}"),
        }
    }
    n
}

async fn survives(test: &str, signal: &str, patience: Duration, rounds: usize) -> Option<u64> {
    let cluster = Arc::new(own(test)?);
    let config = Config { patience, ..cluster.database().await };
    let store = open(&config).await;
    let (stop, acknowledged, outages) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)), Arc::new(AtomicU64::new(0)));
    let owners: Vec<BareJid> =
        (0..WRITERS).map(|n| BareJid::new(&format!("a{n}@one.example")).unwrap()).collect();
    let mut writers = JoinSet::new();
    for (place, owner) in owners.iter().cloned().enumerate() {
        let write = write(store.clone(), owner, stop.clone(), acknowledged.clone(), outages.clone());
        writers.spawn(async move { (place, write.await) });
    }
    for _ in 0..rounds {
        // In the middle of things: once some more has been acknowledged.
        let so_far = acknowledged.load(Ordering::Relaxed);
        while acknowledged.load(Ordering::Relaxed) < so_far + 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (cluster, signal) = (cluster.clone(), signal.to_owned());
        tokio::task::spawn_blocking(move || {
            cluster.stop(&signal);
            cluster.start();
        })
        .await
        .unwrap();
    }
    let so_far = acknowledged.load(Ordering::Relaxed);
    while acknowledged.load(Ordering::Relaxed) < so_far + 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut counts = [0; WRITERS];
    while let Some(done) = writers.join_next().await {
        let (place, count) = done.unwrap();
        counts[place] = count;
    }
    // Another process, that has no memory of what happened.
    drop(store);
    let store = open(&config).await;
    for (owner, count) in owners.iter().zip(counts) {
        let found = bodies(&*store, owner).await;
        // The last batch may be there without having been acknowledged.
        let expected: Vec<i64> = (0..i64::try_from(found.len()).unwrap()).collect();
        assert_eq!(found, expected, "{owner}: each entry once, in order");
        assert!(
            expected.len() as i64 >= count && expected.len() as i64 <= count + 3,
            "{owner}: {count} acknowledged"
        );
    }
    Some(outages.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_loses_nothing_acknowledged() {
    let patience = Duration::from_millis(50);
    let outages = survives("a_killed_database_loses_nothing_acknowledged", "KILL", patience, 4).await;
    assert!(outages.is_none_or(|outages| outages > 0), "the callers have heard of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_waited_for() {
    let patience = Duration::from_secs(30);
    let outages = survives("a_restart_is_waited_for", "INT", patience, 2).await;
    assert!(outages.is_none_or(|outages| outages == 0), "{outages:?} appends were given up");
}

/// Reads and changes as well: a call that meets a dead session takes another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_sessions_are_replaced() {
    let Some(cluster) = shared("dead_sessions_are_replaced") else { return };
    let config = cluster.database().await;
    let store = open(&config).await;
    let owner = BareJid::new("a@one.example").unwrap();
    store.append(&owner, Position(0), Arc::new([entry("b@two.example", 0)])).await.unwrap();
    let client = cluster.client(config.database.as_deref().unwrap()).await;
    for n in 1..6 {
        assert_eq!(bodies(&*store, &owner).await.len(), usize::try_from(n).unwrap());
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE application_name = 'mammoth' AND datname = current_database()";
        let killed: i64 = client.query_one(kill, &[]).await.unwrap().get(0);
        assert!(killed > 0);
        store.append(&owner, Position(n), Arc::new([entry("b@two.example", n)])).await.unwrap();
    }
    assert_eq!(store.head(&owner).await.unwrap().next, Position(6));
}
