//! What is left in the tables: nothing of what has expired or been purged, and no conversation without entries.

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveStore, Cut, Filter, NewEntry, PageRequest, PageStart, Position, Query, Timestamp,
};
use mammoth_store_postgres::Config;

use crate::cluster::shared;
use crate::contract::open;

fn entry(n: i64) -> NewEntry {
    NewEntry {
        with: Jid::new(&format!("b{}@two.example/{}", n % 7, n % 2)).unwrap(),
        stamp: Timestamp(n),
        stanza: Bytes::from(format!("<message>secret {n}</message>")),
        message_id: Some(n.to_string()),
        foreign_id: Some(n.to_string()),
    }
}

async fn count(client: &tokio_postgres::Client, what: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM mammoth.{what}"), &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_follow_the_first_position() {
    let Some(cluster) = shared("rows_follow_the_first_position") else { return };
    let config = cluster.database().await;
    let store = open(&config).await;
    let client = cluster.client(config.database.as_deref().unwrap()).await;
    let owner = BareJid::new("a@one.example").unwrap();
    let other = BareJid::new("other@one.example").unwrap();
    // More than one step of the removal.
    for n in 0..5 {
        store
            .append(&owner, Position(n * 1000), (n * 1000..n * 1000 + 1000).map(entry).collect())
            .await
            .unwrap();
    }
    store.append(&other, Position(0), (0..10).map(entry).collect()).await.unwrap();
    // Seven contacts and two resources of each; of the other, ten entries have as many full JIDs.
    assert_eq!((count(&client, "entries").await, count(&client, "conversations").await), (5010, 21 + 17));

    assert_eq!(store.expire(&owner, Cut::KeepNewest(3)).await.unwrap(), 4997);
    store.settled().await;
    assert_eq!((count(&client, "entries").await, count(&client, "conversations").await), (13, 6 + 17));

    store.append(&owner, Position(5000), (5000..5100).map(entry).collect()).await.unwrap();
    store.purge(&owner).await.unwrap();
    assert_eq!((count(&client, "entries").await, count(&client, "conversations").await), (10, 17));
    assert_eq!(count(&client, "archives WHERE bytes <> 0 AND owner = 'a@one.example'").await, 0);
    store.settled().await;
    let vacuumed = count(&client, "archives, pg_stat_user_tables t WHERE t.vacuum_count > 0").await;
    assert!(vacuumed > 0, "the table of the purged archive is vacuumed");
}

/// A process that ends between an expiry and the removal leaves rows behind; the next to open removes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_has_left_the_next_removes() {
    let Some(cluster) = shared("what_one_has_left_the_next_removes") else { return };
    let config = cluster.database().await;
    let client = cluster.client(config.database.as_deref().unwrap()).await;
    let store = open(&config).await;
    let owner = BareJid::new("a@one.example").unwrap();
    store.append(&owner, Position(0), (0..50).map(entry).collect()).await.unwrap();
    drop(store);
    client.batch_execute("UPDATE mammoth.archives SET first = 40").await.unwrap();
    let store = open(&config).await;
    store.settled().await;
    assert_eq!(count(&client, "entries").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_archive_is_called_corrupt() {
    let Some(cluster) = shared("a_damaged_archive_is_called_corrupt") else { return };
    let config = cluster.database().await;
    let client = cluster.client(config.database.as_deref().unwrap()).await;
    let store = open(&config).await;
    let owner = BareJid::new("a@one.example").unwrap();
    store.append(&owner, Position(0), (0..50).map(entry).collect()).await.unwrap();
    client.batch_execute("DELETE FROM mammoth.entries WHERE position = 20").await.unwrap();
    let query = mammoth_archive::Query {
        filter: mammoth_archive::Filter::default(),
        page: mammoth_archive::PageRequest { max: 50, start: mammoth_archive::PageStart::First },
    };
    let page = store.page(&owner, query).await;
    assert!(matches!(page, Err(mammoth_archive::StoreError::Corrupt(_))), "{page:?}");
}

/// A figure of the server's, when no more than so many sessions are open: each adds its share when it ends.
async fn figure(client: &tokio_postgres::Client, what: &str, sessions: i64) -> i64 {
    let open = "SELECT count(*) FROM pg_stat_activity \
        WHERE application_name = 'mammoth' AND datname = current_database()";
    while client.query_one(open, &[]).await.unwrap().get::<_, i64>(0) > sessions {
        tokio::task::yield_now().await;
    }
    client.query_one(what, &[]).await.unwrap().get(0)
}

/// How many index entries all indexes have given out.
async fn index_entries_read(client: &tokio_postgres::Client, sessions: i64) -> i64 {
    let read = "SELECT coalesce(sum(idx_tup_read), 0)::int8 FROM pg_stat_user_indexes";
    figure(client, read, sessions).await
}

/// How many pages of tables and indexes were looked at.
async fn pages_touched(client: &tokio_postgres::Client) -> i64 {
    let touched = "SELECT coalesce(sum(coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0) \
        + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0)), 0)::int8 FROM pg_statio_user_tables";
    figure(client, touched, 0).await
}

/// However large the archive, and though the statements were planned while it was empty: a page reads its own entries
/// and some tens to find them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_reads_little_more_than_itself() {
    const ENTRIES: i64 = 14_000;
    const MAX: usize = 20;
    let Some(cluster) = shared("a_page_reads_little_more_than_itself") else { return };
    let config = Config { readers: 1, writers: 1, ..cluster.database().await };
    let client = cluster.client(config.database.as_deref().unwrap()).await;
    let owner = BareJid::new("a@one.example").unwrap();
    let with = Some(Jid::new("b3@two.example").unwrap());
    let range = Filter { start: Some(Timestamp(3000)), end: Some(Timestamp(9000)), ..Filter::default() };
    let bare = Filter { with: with.clone(), ..Filter::default() };
    let full = Filter { with: Some(entry(3).with), ..Filter::default() };
    let full_range = Filter { with: Some(entry(3).with), ..range.clone() };
    let both = Filter { with, ..range.clone() };
    let between = Filter { after: Some(Position(700)), before: Some(Position(9000)), ..bare.clone() };
    let (own, full_own, other) = (Position(6996), Position(6989), Position(7000));
    let queries = [
        (Filter::default(), PageStart::Last),
        (Filter::default(), PageStart::Before(other)),
        (Filter::default(), PageStart::Index(5000)),
        (range, PageStart::Last),
        (bare.clone(), PageStart::First),
        (bare.clone(), PageStart::Last),
        (bare.clone(), PageStart::Index(900)),
        (bare.clone(), PageStart::After(own)),
        (bare, PageStart::Before(other)),
        (both, PageStart::Last),
        (between, PageStart::First),
        (full.clone(), PageStart::First),
        (full.clone(), PageStart::Last),
        (full.clone(), PageStart::Index(400)),
        (full.clone(), PageStart::After(full_own)),
        (full, PageStart::Before(other)),
        (full_range, PageStart::Last),
    ];
    let query = |(filter, start): &(Filter<Position>, PageStart<Position>)| Query {
        filter: filter.clone(),
        page: PageRequest { max: MAX, start: start.clone() },
    };
    let early = |n| NewEntry { with: entry(3).with, ..entry(n) };
    for case in &queries {
        client.batch_execute("DROP SCHEMA IF EXISTS mammoth CASCADE").await.unwrap();
        let (reads, writes) = (open(&config).await, open(&config).await);
        writes.append(&owner, Position(0), [early(0), early(1)].into()).await.unwrap();
        // Each statement that this kind of page takes is planned now.
        let (filter, start) = case.clone();
        let here = |position: Option<Position>| position.map(|_| Position(1));
        let filter = Filter { after: here(filter.after), before: here(filter.before), ..filter };
        let start = match start {
            PageStart::After(_) => PageStart::After(Position(0)),
            PageStart::Before(_) => PageStart::Before(Position(1)),
            other => other,
        };
        reads.page(&owner, query(&(filter, start))).await.unwrap();
        for at in (2..ENTRIES).step_by(2000) {
            let to = (at + 2000).min(ENTRIES);
            writes.append(&owner, Position(at), (at..to).map(entry).collect()).await.unwrap();
        }
        drop(writes);
        let before = index_entries_read(&client, 1).await;
        let page = reads.page(&owner, query(case)).await.unwrap();
        drop(reads);
        let read = index_entries_read(&client, 0).await - before;
        assert_eq!(page.entries.len(), MAX, "{case:?}");
        assert!((10..200).contains(&read), "{case:?} reads {read} index entries");
    }
}

/// A page with a full JID, its count and its index cost no more in a large archive than in a small one, but for the
/// steps of the halving.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_with_a_full_jid_touches_no_more_when_the_archive_is_large() {
    const SMALL: i64 = 2_000;
    const LARGE: i64 = 60_000;
    let Some(cluster) = shared("a_page_with_a_full_jid_touches_no_more_when_the_archive_is_large") else {
        return;
    };
    let config = Config { readers: 1, writers: 1, partitions: 1, ..cluster.database().await };
    let client = cluster.client(config.database.as_deref().unwrap()).await;
    let owner = BareJid::new("a@one.example").unwrap();
    drop(open(&config).await);
    // Nobody else is to look at them meanwhile.
    for table in ["archives", "conversations", "entries"] {
        let quiet = format!("ALTER TABLE mammoth.{table} SET (autovacuum_enabled = false)");
        client.batch_execute(&quiet).await.unwrap();
    }
    let cases = |depth: i64| {
        let full = Filter { with: Some(entry(3).with), ..Filter::default() };
        let (start, end) = (Some(Timestamp(depth / 4)), Some(Timestamp(depth / 2)));
        let (own, other) = (Position(depth / 28 * 14 + 3), Position(depth / 2));
        let filter = Filter { start, end, ..full.clone() };
        [
            (full.clone(), PageStart::First, 0),
            (full.clone(), PageStart::First, 20),
            (full.clone(), PageStart::Last, 20),
            (full.clone(), PageStart::Index(u64::try_from(depth / 28).unwrap()), 20),
            (full.clone(), PageStart::After(own), 20),
            (full, PageStart::Before(other), 20),
            (filter, PageStart::Last, 20),
        ]
    };
    let mut touched = [Vec::new(), Vec::new()];
    let mut at = 0;
    for (depth, touched) in [SMALL, LARGE].into_iter().zip(&mut touched) {
        let store = open(&config).await;
        while at < depth {
            let to = (at + 2000).min(depth);
            store.append(&owner, Position(at), (at..to).map(entry).collect()).await.unwrap();
            at = to;
        }
        drop(store);
        for (filter, start, max) in cases(depth) {
            let before = pages_touched(&client).await;
            let store = open(&config).await;
            let page = PageRequest { max, start: start.clone() };
            let page = store.page(&owner, Query { filter: filter.clone(), page }).await.unwrap();
            drop(store);
            touched.push(pages_touched(&client).await - before);
            assert_eq!(page.entries.len(), max, "{start:?}");
            if filter.start.is_none() {
                let count = (0..depth).filter(|n| n % 14 == 3).count();
                assert_eq!(page.count, count as u64, "{start:?} of {depth}");
            }
        }
    }
    for (small, large) in touched[0].iter().zip(&touched[1]) {
        assert!(*small > 3 && *large <= 2 * small + 20, "touched {touched:?}");
    }
}
