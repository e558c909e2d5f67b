//! The contract of accounts on the embedded store, and that they outlive it. The archive's contract is left to
//! contract.rs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use mammoth_accounts::{AccountStore, Credentials, RosterItem, ScramKeys};
use mammoth_store_embedded::{EmbeddedStore, Options};

#[tokio::test]
async fn embedded_is_an_account_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    mammoth_accounts::contract::check(&*store).await;
}

#[tokio::test]
async fn accounts_outlive_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (alice, bob) = ("alice@example.org".parse().unwrap(), "bob@example.org".parse().unwrap());
    let keys = ScramKeys { salt: vec![1], iterations: 4096, stored_key: vec![2], server_key: vec![3] };
    let credentials = Credentials { sha1: keys.clone(), sha256: keys };
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    store.create(&alice, credentials.clone()).await.unwrap();
    store.set_roster_item(&alice, RosterItem::new(bob)).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    assert_eq!(store.credentials(&alice).await.unwrap(), Some(credentials));
    assert_eq!(store.roster(&alice).await.unwrap().len(), 1);
}
