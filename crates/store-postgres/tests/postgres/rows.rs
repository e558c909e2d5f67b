//! What is left in the tables: nothing of what has expired or been purged, and no conversation without entries.

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{ArchiveStore, Cut, NewEntry, Position, Timestamp};

use crate::cluster::shared;
use crate::contract::open;

fn entry(n: i64) -> NewEntry {
    NewEntry {
        with: Jid::new(&format!("b{}@two.example/x", n % 7)).unwrap(),
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
    assert_eq!((count(&client, "entries").await, count(&client, "conversations").await), (5010, 14));

    assert_eq!(store.expire(&owner, Cut::KeepNewest(3)).await.unwrap(), 4997);
    store.settled().await;
    assert_eq!((count(&client, "entries").await, count(&client, "conversations").await), (13, 10));

    store.append(&owner, Position(5000), (5000..5100).map(entry).collect()).await.unwrap();
    store.purge(&owner).await.unwrap();
    assert_eq!((count(&client, "entries").await, count(&client, "conversations").await), (10, 7));
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
