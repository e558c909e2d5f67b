//! Two stores on one database, as two servers are: every archive keeps one order, and each sees what the other did.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveInfo, ArchiveStore, Cut, Filter, Head, IdKey, NewEntry, Page, PageRequest, PageStart, Position,
    Query, Settings, SettingsChange, Stats, StoreError, StoredEntry, Timestamp,
};
use mammoth_store_contract::check;
use mammoth_store_contract::model::{self, Subject};
use tokio::task::JoinSet;

use crate::cluster::shared;
use crate::contract::open;

/// Two stores that take turns.
struct Both {
    stores: [Arc<dyn ArchiveStore>; 2],
    turn: AtomicUsize,
}

impl Both {
    fn next(&self) -> &dyn ArchiveStore {
        &*self.stores[self.turn.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

#[async_trait]
impl ArchiveStore for Both {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        self.next().id_key().await
    }
    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        self.next().head(owner).await
    }
    async fn append(&self, owner: &BareJid, at: Position, new: Arc<[NewEntry]>) -> Result<(), StoreError> {
        self.next().append(owner, at, new).await
    }
    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        self.next().page(owner, query).await
    }
    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError> {
        self.next().locate(owner, foreign_id).await
    }
    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        self.next().find(owner, with, id, limit).await
    }
    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        self.next().retract(owner, position, tombstone).await
    }
    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        self.next().expire(owner, cut).await
    }
    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        self.next().purge(owner).await
    }
    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        self.next().settings(owner).await
    }
    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        self.next().set(owner, change).await
    }
    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        self.next().owners(after, limit).await
    }
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.next().stats().await
    }
}

async fn both(config: &mammoth_store_postgres::Config) -> Arc<Both> {
    // Opened at once: one of them makes the schema, the other waits for it.
    let (a, b) = tokio::join!(open(config), open(config));
    Arc::new(Both { stores: [a, b], turn: AtomicUsize::new(0) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_keep_the_contract_together() {
    let Some(cluster) = shared("two_stores_keep_the_contract_together") else { return };
    let both = both(&cluster.database().await).await;
    check(async || both.clone() as Arc<dyn ArchiveStore>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_are_the_model_together() {
    let Some(cluster) = shared("two_stores_are_the_model_together") else { return };
    let both = both(&cluster.database().await).await;
    model::compare(model::sequences(10), 80, async || Subject { store: both.clone(), steps: Vec::new() })
        .await;
}

fn entry(with: &Jid, writer: usize, n: i64) -> NewEntry {
    NewEntry {
        with: with.clone(),
        stamp: Timestamp(1_700_000_000_000_000),
        stanza: Bytes::from(format!("<message id='{writer}.{n}'/>")),
        message_id: Some(format!("{writer}.{n}")),
        foreign_id: None,
    }
}

/// Four writers, two on each store, append to the same archives at the same time, while others read, expire and
/// purge: no entry is lost or doubled, each writer's stay in order, and no batch is torn apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_that_two_servers_write_keep_one_order() {
    const ARCHIVES: usize = 6;
    const BATCHES: i64 = 40;
    const SIZE: i64 = 3;
    let Some(cluster) = shared("archives_that_two_servers_write_keep_one_order") else { return };
    let both = both(&cluster.database().await).await;
    let owners: Vec<BareJid> =
        (0..ARCHIVES).map(|n| BareJid::new(&format!("a{n}@one.example")).unwrap()).collect();
    let withs: Vec<Jid> = (0..4).map(|n| Jid::new(&format!("b{n}@two.example/x")).unwrap()).collect();
    let mut tasks = JoinSet::new();
    for writer in 0..4 {
        let (store, owners) = (both.stores[writer % 2].clone(), owners.clone());
        let withs = withs.clone();
        tasks.spawn(async move {
            // All archives at once, so that groups of several archives meet.
            let mut each = JoinSet::new();
            for owner in owners {
                let (store, withs) = (store.clone(), withs.clone());
                each.spawn(async move {
                    let mut at = store.head(&owner).await.unwrap().next;
                    let mut conflicts = 0;
                    for batch in 0..BATCHES {
                        let new: Arc<[NewEntry]> = (0..SIZE)
                            .map(|i| {
                                entry(
                                    &withs[usize::try_from(i).unwrap() % withs.len()],
                                    writer,
                                    batch * SIZE + i,
                                )
                            })
                            .collect();
                        loop {
                            match store.append(&owner, at, new.clone()).await {
                                Ok(()) => break,
                                Err(StoreError::Conflict(next)) => {
                                    assert!(next > at, "a conflict at {at} names {next}");
                                    conflicts += 1;
                                    at = next;
                                }
                                Err(error) => panic!("{error}"),
                            }
                        }
                        at = at.offset(SIZE);
                    }
                    conflicts
                });
            }
            let mut conflicts = 0;
            while let Some(done) = each.join_next().await {
                conflicts += done.unwrap();
            }
            conflicts
        });
    }
    let (store, owner, with) = (both.stores[0].clone(), owners[0].clone(), withs[0].clone());
    let reader = tokio::spawn(async move {
        let mut newest = 0;
        while newest < 4 * BATCHES {
            let filter = Filter { with: Some(with.to_bare().into()), ..Filter::default() };
            let page = PageRequest { max: 10_000, start: PageStart::First };
            let page = store.page(&owner, Query { filter, page }).await.unwrap();
            assert_eq!(page.count, page.entries.len() as u64);
            assert!(page.entries.windows(2).all(|w| w[0].position < w[1].position));
            newest = i64::try_from(page.count).unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut conflicts = 0;
    while let Some(done) = tasks.join_next().await {
        conflicts += done.unwrap();
    }
    assert!(conflicts > 0, "the stores have met");
    reader.await.unwrap();
    for owner in &owners {
        let page = PageRequest { max: 10_000, start: PageStart::First };
        let page = both.page(owner, Query { filter: Filter::default(), page }).await.unwrap();
        assert_eq!(page.count, u64::try_from(4 * BATCHES * SIZE).unwrap());
        let mut next = [0; 4];
        for batch in page.entries.chunks(usize::try_from(SIZE).unwrap()) {
            let text = std::str::from_utf8(&batch[0].stanza).unwrap();
            let writer: usize = text["<message id='".len()..].split('.').next().unwrap().parse().unwrap();
            for (i, found) in (0..).zip(batch) {
                let with = &withs[usize::try_from(i).unwrap() % withs.len()];
                assert_eq!(found.stanza, entry(with, writer, next[writer] + i).stanza, "of {owner}");
            }
            next[writer] += SIZE;
        }
        assert_eq!(next, [BATCHES * SIZE; 4], "of {owner}");
    }
}

/// One store expires and removes rows while the other appends, in conversations that end and begin again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_appends_what_the_other_expires() {
    let Some(cluster) = shared("one_appends_what_the_other_expires") else { return };
    let config = cluster.database().await;
    let (a, b) = tokio::join!(open(&config), open(&config));
    let owner = BareJid::new("a@one.example").unwrap();
    let withs: Vec<Jid> = (0..3).map(|n| Jid::new(&format!("b{n}@two.example")).unwrap()).collect();
    let (writer, to, names) = (a.clone(), owner.clone(), withs.clone());
    let writing = tokio::spawn(async move {
        for n in 0..150 {
            let with = &names[usize::try_from(n % 3).unwrap()];
            writer
                .append(&to, Position(2 * n), [entry(with, 0, 2 * n), entry(with, 0, 2 * n + 1)].into())
                .await
                .unwrap();
        }
    });
    let mut rounds = 0;
    while !writing.is_finished() || rounds < 3 {
        b.expire(&owner, Cut::KeepNewest(rounds % 4)).await.unwrap();
        b.settled().await;
        rounds += 1;
        for with in &withs {
            let filter = Filter { with: Some(with.clone()), ..Filter::default() };
            let page = PageRequest { max: 1000, start: PageStart::Last };
            let page = a.page(&owner, Query { filter, page }).await.unwrap();
            assert_eq!(page.count, page.entries.len() as u64);
        }
    }
    writing.await.unwrap();
    let head = a.head(&owner).await.unwrap();
    assert_eq!(head.next, Position(300));
    let all = b.owners(None, 10).await.unwrap();
    assert_eq!(all[0].bytes, {
        let page = PageRequest { max: 1000, start: PageStart::First };
        let page = a.page(&owner, Query { filter: Filter::default(), page }).await.unwrap();
        page.entries.iter().map(|entry| entry.stanza.len() as u64).sum::<u64>()
    });
}
