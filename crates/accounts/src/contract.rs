//! What "is an [`AccountStore`]" means, as a program: every store runs [`check`] in its tests. What it cannot show,
//! durability across a crash, each store shows for itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a failure here is a failed test

use jid::BareJid;

use crate::credentials::{Credentials, ScramKeys};
use crate::roster::{RosterItem, Subscription};
use crate::store::{AccountError, AccountStore, LIST_MAX};

/// Runs every case against `store`, which must be empty and is empty again afterwards. Panics where the store breaks
/// the contract.
pub async fn check(store: &dyn AccountStore) {
    assert!(store.list(None, 10).await.unwrap().is_empty(), "the store to check must be empty");
    an_account_lives_from_create_to_remove(store).await;
    credentials_come_back_as_they_went_in(store).await;
    what_does_not_exist_is_not_found(store).await;
    a_list_walks_all_accounts_once_and_in_order(store).await;
    a_roster_item_comes_back_as_it_went_in(store).await;
    rosters_do_not_meet(store).await;
    removing_an_account_takes_its_roster_along(store).await;
    assert!(store.list(None, 10).await.unwrap().is_empty(), "a case left an account behind");
}

fn jid(text: &str) -> BareJid {
    text.parse().expect("the contract's JIDs are valid")
}

/// Credentials that differ from those of any other `seed`; no password is behind them.
fn credentials(seed: u8) -> Credentials {
    let keys = |bytes: usize, offset: u8| ScramKeys {
        salt: vec![seed ^ offset; 16],
        iterations: 4096 + u32::from(seed),
        stored_key: (0..bytes).map(|n| seed.wrapping_mul(3).wrapping_add(n as u8)).collect(),
        server_key: (0..bytes).map(|n| seed.wrapping_mul(5).wrapping_sub(n as u8)).collect(),
    };
    Credentials { sha1: keys(20, 0), sha256: keys(32, 0x80) }
}

fn is_not_found<T>(answer: Result<T, AccountError>) -> bool {
    matches!(answer, Err(AccountError::NotFound))
}

async fn an_account_lives_from_create_to_remove(store: &dyn AccountStore) {
    let alice = jid("alice@example.org");
    assert_eq!(store.credentials(&alice).await.unwrap(), None);
    store.create(&alice, credentials(1)).await.unwrap();
    assert!(matches!(store.create(&alice, credentials(2)).await, Err(AccountError::Exists)));
    assert_eq!(
        store.credentials(&alice).await.unwrap(),
        Some(credentials(1)),
        "a refused create changes nothing"
    );
    store.remove(&alice).await.unwrap();
    assert_eq!(store.credentials(&alice).await.unwrap(), None);
    store.create(&alice, credentials(3)).await.expect("a removed account can be made again");
    store.remove(&alice).await.unwrap();
}

async fn credentials_come_back_as_they_went_in(store: &dyn AccountStore) {
    let (alice, bob) = (jid("alice@example.org"), jid("bob@example.org"));
    store.create(&alice, credentials(1)).await.unwrap();
    store.create(&bob, credentials(2)).await.unwrap();
    store.set_credentials(&alice, credentials(255)).await.unwrap();
    assert_eq!(store.credentials(&alice).await.unwrap(), Some(credentials(255)));
    assert_eq!(store.credentials(&bob).await.unwrap(), Some(credentials(2)));
    store.remove(&alice).await.unwrap();
    store.remove(&bob).await.unwrap();
}

async fn what_does_not_exist_is_not_found(store: &dyn AccountStore) {
    let (nobody, bob) = (jid("nobody@example.org"), jid("bob@example.org"));
    assert!(is_not_found(store.set_credentials(&nobody, credentials(1)).await));
    assert!(is_not_found(store.remove(&nobody).await));
    assert!(is_not_found(store.set_roster_item(&nobody, RosterItem::new(bob.clone())).await));
    assert!(is_not_found(store.remove_roster_item(&nobody, &bob).await));
    assert!(store.roster(&nobody).await.unwrap().is_empty());
    assert_eq!(store.credentials(&nobody).await.unwrap(), None, "none of these made an account");

    store.create(&bob, credentials(1)).await.unwrap();
    assert!(is_not_found(store.remove_roster_item(&bob, &nobody).await));
    store.remove(&bob).await.unwrap();
}

async fn a_list_walks_all_accounts_once_and_in_order(store: &dyn AccountStore) {
    let mut expected: Vec<BareJid> = (0..25).map(|n| jid(&format!("user{n}@example.org"))).collect();
    expected.extend([jid("ü@example.org"), jid("a@zz.example"), jid("service.example")]);
    for account in &expected {
        store.create(account, credentials(1)).await.unwrap();
    }
    expected.sort_by(|a, b| a.as_str().as_bytes().cmp(b.as_str().as_bytes()));
    for limit in [1, 3, 25, 100, LIST_MAX + 1] {
        let mut walked: Vec<BareJid> = Vec::new();
        loop {
            let page = store.list(walked.last(), limit).await.unwrap();
            assert!(page.len() <= limit.min(LIST_MAX));
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        assert_eq!(walked, expected, "in pages of {limit}");
    }
    assert!(store.list(None, 0).await.unwrap().is_empty());
    let between = jid("user10a@example.org");
    let next = expected.iter().find(|account| account.as_str() > between.as_str());
    assert_eq!(store.list(Some(&between), 1).await.unwrap().first(), next, "`after` need not exist");
    for account in &expected {
        store.remove(account).await.unwrap();
    }
}

/// A roster item with every field in use.
fn full_item(contact: &str) -> RosterItem {
    RosterItem {
        jid: jid(contact),
        name: Some("Bób \"the\" <Builder> 👷\u{200f}".into()),
        groups: ["Büro".to_string(), "chess & tea".to_string(), "Büro/2".to_string()].into(),
        subscription: Subscription::From,
        ask: true,
        listed: true,
        request: Some(b"<presence type='subscribe'>\x00\xff not text</presence>".to_vec()),
    }
}

async fn a_roster_item_comes_back_as_it_went_in(store: &dyn AccountStore) {
    let alice = jid("alice@example.org");
    store.create(&alice, credentials(1)).await.unwrap();
    let mut items = vec![full_item("z@example.org"), RosterItem::new(jid("b@example.org"))];
    items.push(RosterItem { request: Some(Vec::new()), ..RosterItem::stranger(jid("gateway.example")) });
    for (n, subscription) in
        [Subscription::None, Subscription::To, Subscription::From, Subscription::Both].into_iter().enumerate()
    {
        items.push(RosterItem { subscription, ..RosterItem::new(jid(&format!("n{n}@example.org"))) });
    }
    for item in &items {
        store.set_roster_item(&alice, item.clone()).await.unwrap();
    }
    items.sort_by(|a, b| a.jid.as_str().as_bytes().cmp(b.jid.as_str().as_bytes()));
    assert_eq!(store.roster(&alice).await.unwrap(), items);

    let plain = RosterItem::new(jid("z@example.org"));
    store.set_roster_item(&alice, plain.clone()).await.unwrap();
    let roster = store.roster(&alice).await.unwrap();
    assert_eq!(roster.len(), items.len());
    assert_eq!(roster.last(), Some(&plain), "a set replaces every field, groups too");

    for item in &items {
        store.remove_roster_item(&alice, &item.jid).await.unwrap();
        assert!(is_not_found(store.remove_roster_item(&alice, &item.jid).await));
    }
    assert!(store.roster(&alice).await.unwrap().is_empty());
    store.remove(&alice).await.unwrap();
}

async fn rosters_do_not_meet(store: &dyn AccountStore) {
    let (alice, bob, carol) = (jid("alice@example.org"), jid("bob@example.org"), jid("carol@example.org"));
    store.create(&alice, credentials(1)).await.unwrap();
    store.create(&bob, credentials(2)).await.unwrap();
    store.set_roster_item(&alice, full_item("carol@example.org")).await.unwrap();
    store.set_roster_item(&bob, RosterItem::new(carol.clone())).await.unwrap();
    store.remove_roster_item(&alice, &carol).await.unwrap();
    assert_eq!(store.roster(&bob).await.unwrap(), [RosterItem::new(carol)]);
    store.remove(&alice).await.unwrap();
    assert_eq!(store.roster(&bob).await.unwrap().len(), 1);
    store.remove(&bob).await.unwrap();
}

async fn removing_an_account_takes_its_roster_along(store: &dyn AccountStore) {
    let alice = jid("alice@example.org");
    store.create(&alice, credentials(1)).await.unwrap();
    store.set_roster_item(&alice, full_item("bob@example.org")).await.unwrap();
    store.remove(&alice).await.unwrap();
    assert!(store.roster(&alice).await.unwrap().is_empty());
    store.create(&alice, credentials(1)).await.unwrap();
    assert!(store.roster(&alice).await.unwrap().is_empty(), "a new account starts with an empty roster");
    store.remove(&alice).await.unwrap();
}
