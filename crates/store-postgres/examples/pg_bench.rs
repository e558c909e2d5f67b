//! What the store costs on a given server: appends of many archives at once, and pages at several depths. Prints one
//! line per measurement; `benches/postgres/run` brings a server along.
//!
//! `pg_bench URL [append|pages|all] [SECONDS]`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Cut, Filter, NewEntry, PageRequest, PageStart, Position, Query, Timestamp,
};
use mammoth_store_postgres::{Config, PostgresStore};
use tokio::task::JoinSet;

/// As long as a chat message with its wrapping usually is.
fn entry(n: i64, contact: i64) -> NewEntry {
    NewEntry {
        with: Jid::new(&format!("contact{contact}@example.org/phone.4f21")).unwrap(),
        stamp: Timestamp(1_700_000_000_000_000 + n * 1_000_000),
        stanza: Bytes::from(format!(
            "<message xmlns='jabber:client' type='chat' id='a{n:08x}-4f21-{contact}' \
             from='contact{contact}@example.org/phone.4f21' to='owner@example.org'><body>Number {n}: shall we meet at \
             the usual place, a little later than usual?</body><request xmlns='urn:xmpp:receipts'/><active \
             xmlns='http://jabber.org/protocol/chatstates'/></message>"
        )),
        message_id: Some(format!("a{n:08x}-4f21-{contact}")),
        foreign_id: None,
    }
}

fn owner(n: usize) -> BareJid {
    BareJid::new(&format!("owner{n}@example.org")).unwrap()
}

fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let place = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

async fn fresh(config: &Config) -> Arc<PostgresStore> {
    let (client, connection) =
        tokio_postgres::connect(config.url.as_deref().unwrap(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("DROP SCHEMA IF EXISTS mammoth CASCADE; CHECKPOINT").await.unwrap();
    PostgresStore::open(config.clone()).await.unwrap()
}

/// So many archives, each with one batch on its way at a time, as lanes have.
async fn append(config: &Config, archives: usize, batch: i64, time: Duration) {
    let store = fresh(config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let before = wal(config).await;
    let mut tasks = JoinSet::new();
    for n in 0..archives {
        let (store, stop) = (store.clone(), stop.clone());
        tasks.spawn(async move {
            let owner = owner(n);
            let (mut at, mut took) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let new: Arc<[NewEntry]> = (at..at + batch).map(|i| entry(i, i % 20)).collect();
                let began = Instant::now();
                store.append(&owner, Position(at), new).await.unwrap();
                took.push(began.elapsed());
                at += batch;
            }
            (at, took)
        });
    }
    let began = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let (mut entries, mut took) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (n, more) = done.unwrap();
        entries += n;
        took.extend(more);
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort();
    let stats = store.stats().await.unwrap();
    let groups = stats.details.iter().find(|(name, _)| name.contains("transactions")).map_or(0, |(_, n)| *n);
    println!(
        "append writers={} partitions={} archives={archives} batch={batch}: {:.0} entries/s, p50 {:.1} ms, p99 {:.1} ms, \
         {:.0} entries per transaction, {:.0} B/entry on disk, {:.0} B/entry of WAL",
        config.writers,
        config.partitions,
        entries as f64 / seconds,
        quantile(&took, 0.5).as_secs_f64() * 1e3,
        quantile(&took, 0.99).as_secs_f64() * 1e3,
        entries as f64 / groups.max(1) as f64,
        stats.disk_bytes as f64 / entries as f64,
        (wal(config).await - before) / entries as f64,
    );
}

/// How much the server has written ahead so far, in bytes.
async fn wal(config: &Config) -> f64 {
    let (client, connection) =
        tokio_postgres::connect(config.url.as_deref().unwrap(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8", &[]).await.unwrap();
    row.get(0)
}

async fn pages(config: &Config, depths: &[i64]) {
    let store = fresh(config).await;
    let owner = owner(0);
    let mut at = 0;
    for &depth in depths {
        while at < depth {
            let to = (at + 2000).min(depth);
            store.append(&owner, Position(at), (at..to).map(|i| entry(i, i % 20)).collect()).await.unwrap();
            at = to;
        }
        let filter = Filter::default;
        let with = |text: &str| Some(Jid::new(text).unwrap());
        let stamp = |n: i64| Some(entry(n, 0).stamp);
        let bare = Filter { with: with("contact7@example.org"), ..filter() };
        let full = Filter { with: with("contact7@example.org/phone.4f21"), ..filter() };
        let range = Filter { start: stamp(depth / 4), end: stamp(depth / 2), ..filter() };
        let both = Filter { start: stamp(depth / 4), end: stamp(depth / 2), ..bare.clone() };
        // A place in the middle, and one of the contact's own.
        let middle = Position(depth / 2 + 3);
        let own = Position(depth / 2 / 20 * 20 + 7);
        let cases = [
            ("newest 50", filter(), PageStart::Last, 50),
            ("oldest 50", filter(), PageStart::First, 50),
            ("50 before the middle", filter(), PageStart::Before(middle), 50),
            ("50 at an index", filter(), PageStart::Index(u64::try_from(depth / 3).unwrap()), 50),
            ("count alone", filter(), PageStart::First, 0),
            ("newest 50 of a contact", bare.clone(), PageStart::Last, 50),
            ("50 of a contact before one of theirs", bare.clone(), PageStart::Before(own), 50),
            ("50 of a contact before another's", bare, PageStart::Before(middle), 50),
            ("newest 50 of a time range", range, PageStart::Last, 50),
            ("newest 50 of contact and range", both, PageStart::Last, 50),
            ("newest 50 of a full JID", full, PageStart::Last, 50),
        ];
        for (name, filter, start, max) in cases {
            let query = Query { filter, page: PageRequest { max, start } };
            let mut took = Vec::new();
            for _ in 0..300 {
                let began = Instant::now();
                let page = store.page(&owner, query.clone()).await.unwrap();
                took.push(began.elapsed());
                assert!(page.count > 0 && page.entries.len() <= max);
                if took.iter().sum::<Duration>() > Duration::from_secs(3) {
                    break;
                }
            }
            took.sort();
            println!(
                "page entries={depth} {name}: p50 {:.2} ms, p99 {:.2} ms",
                quantile(&took, 0.5).as_secs_f64() * 1e3,
                quantile(&took, 0.99).as_secs_f64() * 1e3
            );
        }
    }
    let began = Instant::now();
    let gone = store.expire(&owner, Cut::KeepNewest(1000)).await.unwrap();
    let moved = began.elapsed();
    store.settled().await;
    println!(
        "expire entries={gone}: first moved in {:.1} ms, rows deleted in {:.1} s ({:.0} rows/s, half of the time idle)",
        moved.as_secs_f64() * 1e3,
        began.elapsed().as_secs_f64(),
        gone as f64 / began.elapsed().as_secs_f64()
    );
}

/// Readers of one page each, as many at once as there are sessions.
async fn readers(config: &Config, time: Duration) {
    let store = fresh(config).await;
    for n in 0..100 {
        store.append(&owner(n), Position(0), (0..2000).map(|i| entry(i, i % 20)).collect()).await.unwrap();
    }
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for n in 0..config.readers {
        let (store, stop, done) = (store.clone(), stop.clone(), done.clone());
        tasks.spawn(async move {
            let page = PageRequest { max: 50, start: PageStart::Last };
            let query = Query { filter: Filter::default(), page };
            for n in (n..).step_by(7) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                store.page(&owner(n % 100), query.clone()).await.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let began = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    let pages = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    println!("read readers={}: {pages:.0} pages of 50 per second", config.readers);
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("pg_bench URL [append|pages|all] [SECONDS]");
    let what = arguments.next().unwrap_or_else(|| "all".to_owned());
    let time = Duration::from_secs(arguments.next().map_or(5, |seconds| seconds.parse().unwrap()));
    let config = Config { url: Some(url), ..Config::default() };
    if what != "pages" {
        for writers in [1, 2, 4] {
            append(&Config { writers, ..config.clone() }, 200, 1, time).await;
        }
        for partitions in [1, 4] {
            append(&Config { partitions, ..config.clone() }, 200, 1, time).await;
        }
        for (archives, batch) in [(1, 1), (20, 1), (200, 16), (2000, 1), (20_000, 1)] {
            append(&config, archives, batch, time).await;
        }
    }
    if what != "append" {
        readers(&config, time).await;
        pages(&config, &[1_000, 100_000, 1_000_000]).await;
    }
}
