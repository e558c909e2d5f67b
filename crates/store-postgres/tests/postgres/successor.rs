//! A store that takes the place of another: the secret of the ids is the one given, archives begin where they are
//! told to, and it is noticed when a server uses the database.

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{ArchiveStore, Head, IdKey, NewEntry, Position, StoreError, Timestamp};
use mammoth_store_postgres::{Config, PostgresStore};

use crate::cluster::shared;
use crate::contract::open;

fn entry(stamp: i64) -> NewEntry {
    NewEntry {
        with: Jid::new("bob@two.example/x").unwrap(),
        stamp: Timestamp(stamp),
        stanza: Bytes::from("<message/>"),
        message_id: None,
        foreign_id: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_begins_where_another_did() {
    let Some(cluster) = shared("an_archive_begins_where_another_did") else { return };
    let config = Config { ids: Some(IdKey([7; 16])), ..cluster.database().await };
    let store = open(&config).await;
    let owner = BareJid::new("a@one.example").unwrap();
    store.begin(&owner, Position(9), Timestamp(50)).await.unwrap();
    let refused = store.begin(&owner, Position(10), Timestamp(50)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let early = store.append(&owner, Position(9), [entry(49)].into()).await;
    assert!(matches!(early, Err(StoreError::Refused(_))), "earlier than what it once gave: {early:?}");
    store.append(&owner, Position(9), [entry(50)].into()).await.unwrap();
    let head = Head { first: Position(9), next: Position(10), last_stamp: Timestamp(50) };
    assert_eq!(store.head(&owner).await.unwrap(), head);
    assert_eq!(store.id_key().await.unwrap(), IdKey([7; 16]));
    // Another secret comes too late.
    let other = open(&Config { ids: Some(IdKey([8; 16])), ..config }).await;
    assert_eq!(other.id_key().await.unwrap(), IdKey([7; 16]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_noticed_who_else_is_there() {
    let Some(cluster) = shared("it_is_noticed_who_else_is_there") else { return };
    let config = cluster.database().await;
    assert_eq!(PostgresStore::others(&config).await.unwrap(), 0);
    let store = open(&config).await;
    store.id_key().await.unwrap();
    assert!(PostgresStore::others(&config).await.unwrap() > 0);
}
