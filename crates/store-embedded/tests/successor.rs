//! A store that takes the place of another: the secret of the ids is the one given, and archives begin where they are
//! told to, across reopening and sealing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{ArchiveStore, Head, IdKey, NewEntry, Position, StoreError, Timestamp};
use mammoth_store_embedded::{EmbeddedStore, Options};

fn entry(n: i64) -> NewEntry {
    NewEntry {
        with: Jid::new("bob@two.example/x").unwrap(),
        stamp: Timestamp(n),
        stanza: Bytes::from(format!("<message>{n}</message>")),
        message_id: None,
        foreign_id: None,
    }
}

#[tokio::test]
async fn an_archive_begins_where_another_did() {
    let directory = tempfile::tempdir().unwrap();
    let open =
        |key| EmbeddedStore::open_with_ids(directory.path(), Options::default(), IdKey([key; 16])).unwrap();
    let owner = |name: &str| BareJid::new(&format!("{name}@one.example")).unwrap();
    let (full, empty, set) = (owner("full"), owner("empty"), owner("set"));
    let store = open(7);
    let before = Timestamp(i64::MIN);
    store.begin(&full, Position(100), before).await.unwrap();
    store.begin(&empty, Position(9), Timestamp(50)).await.unwrap();
    store.append(&full, Position(100), [entry(1), entry(2)].into()).await.unwrap();
    for again in [&full, &empty] {
        let refused = store.begin(again, Position(200), before).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    let refused = store.begin(&set, Position(-1), before).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let early = store.append(&empty, Position(9), [entry(49)].into()).await;
    assert!(matches!(early, Err(StoreError::Refused(_))), "earlier than what it once gave: {early:?}");
    drop(store);

    // Another secret comes too late.
    for seal in [false, true] {
        let store = open(8);
        assert_eq!(store.id_key().await.unwrap(), IdKey([7; 16]));
        let head = |first, next, stamp| Head {
            first: Position(first),
            next: Position(next),
            last_stamp: Timestamp(stamp),
        };
        assert_eq!(store.head(&full).await.unwrap(), head(100, 102, 2));
        assert_eq!(store.head(&empty).await.unwrap(), head(9, 9, 50));
        assert_eq!(store.stats().await.unwrap().entries, 2);
        if seal {
            store.seal().await.unwrap();
        }
    }
    let report = EmbeddedStore::verify(directory.path(), |_, _| {}).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
