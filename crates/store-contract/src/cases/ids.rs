//! Entries by the ids that came with them: foreign ids (`locate`) and message ids (`find`), and the key of the
//! store's own. Resolving public stanza-ids is left to `mammoth_archive::Archive`.

use jid::BareJid;
use mammoth_archive::{Cut, NewEntry, Position};

use crate::given::{Store, bare, entry, fill, fresh, jid, stanza};

/// The key of the store's ids is always the same.
pub async fn the_id_key_is_always_the_same(store: Store) {
    let key = store.id_key().await.unwrap();
    fill(&store, &fresh("key"), (0..3).map(entry)).await;
    for _ in 0..20 {
        assert!(store.id_key().await.unwrap() == key, "the key has changed");
    }
}

/// A foreign id leads to its entry, in its archive only; of several the newest wins.
pub async fn a_foreign_id_leads_to_the_newest(store: Store) {
    let (owner, other) = (fresh("foreign"), fresh("foreign-other"));
    let with_id = |i, id: &str| NewEntry { foreign_id: Some(id.into()), ..entry(i) };
    fill(&store, &owner, [with_id(0, "a"), with_id(1, "b"), entry(2), with_id(3, "a"), with_id(4, "A")])
        .await;
    fill(&store, &other, [entry(0), with_id(1, "a")]).await;
    for (id, at) in
        [("a", Some(3)), ("b", Some(1)), ("A", Some(4)), ("c", None), ("", None), ("a ", None), ("%", None)]
    {
        assert_eq!(store.locate(&owner, id).await.unwrap(), at.map(Position), "{id:?}");
    }
    assert_eq!(store.locate(&other, "a").await.unwrap(), Some(Position(1)));
    assert_eq!(store.locate(&other, "b").await.unwrap(), None);
    fill(&store, &owner, [with_id(5, "b"), with_id(6, "b")]).await;
    assert_eq!(store.locate(&owner, "b").await.unwrap(), Some(Position(6)), "twice in one batch");
}

/// A foreign id leads nowhere once its newest entry has gone.
pub async fn a_foreign_id_goes_with_its_entry(store: Store) {
    let owner = fresh("foreign-gone");
    let with_id = |i, id: &str| NewEntry { foreign_id: Some(id.into()), ..entry(i) };
    fill(&store, &owner, [with_id(0, "a"), with_id(1, "b"), with_id(2, "c"), with_id(3, "a")]).await;
    store.expire(&owner, Cut::Through(Position(0))).await.unwrap();
    assert_eq!(store.locate(&owner, "a").await.unwrap(), Some(Position(3)), "the newer stands");
    store.expire(&owner, Cut::Through(Position(1))).await.unwrap();
    assert_eq!(store.locate(&owner, "b").await.unwrap(), None, "expired");
    store.retract(&owner, Position(2), stanza("tombstone")).await.unwrap();
    assert_eq!(store.locate(&owner, "c").await.unwrap(), Some(Position(2)), "a tombstone keeps its ids");
    store.expire(&owner, Cut::KeepNewest(0)).await.unwrap();
    for id in ["a", "b", "c"] {
        assert_eq!(store.locate(&owner, id).await.unwrap(), None, "{id:?}");
    }
    fill(&store, &owner, [with_id(4, "b")]).await;
    assert_eq!(store.locate(&owner, "b").await.unwrap(), Some(Position(4)), "given again");
}

/// `find` leaves out no entry with the contact and the message id, newest first, whichever the resource.
pub async fn find_leaves_none_out(store: Store) {
    let (owner, other) = (fresh("find"), fresh("find-other"));
    let new = |i: i64, with: &str, id: &str| NewEntry {
        with: jid(with),
        message_id: (!id.is_empty()).then(|| id.to_owned()),
        ..entry(i)
    };
    let batch = [
        new(0, "a@x.example/1", "m"),
        new(1, "a@x.example/2", "m"),
        new(2, "b@x.example", "m"),
        new(3, "a@x.example", "m"),
        new(4, "a@x.example/1", "M"),
        new(5, "a@x.example/1", ""),
        new(6, "x.example", "m"),
        new(7, "a@x.example/1", "n"),
    ];
    fill(&store, &owner, batch.clone()).await;
    fill(&store, &other, batch[..2].to_vec()).await;
    found(&store, &owner, "a@x.example", "m", &[3, 1, 0]).await;
    found(&store, &owner, "b@x.example", "m", &[2]).await;
    found(&store, &owner, "x.example", "m", &[6]).await;
    found(&store, &owner, "a@x.example", "M", &[4]).await;
    found(&store, &other, "a@x.example", "m", &[1, 0]).await;
    store.retract(&owner, Position(3), stanza("tombstone")).await.unwrap();
    found(&store, &owner, "a@x.example", "m", &[3, 1, 0]).await;
    store.expire(&owner, Cut::Through(Position(0))).await.unwrap();
    found(&store, &owner, "a@x.example", "m", &[3, 1]).await;
    fill(&store, &owner, [new(8, "a@x.example/3", "m")]).await;
    found(&store, &owner, "a@x.example", "m", &[8, 3, 1]).await;
    for limit in 0..5 {
        let newest = store.find(&owner, &bare("a@x.example"), "m", limit).await.unwrap();
        assert!(newest.len() <= limit, "{limit}: {newest:?}");
        assert!(newest.len() >= limit.min(3), "{limit}: {newest:?}");
    }
}

/// That `find` answers with all of `expected`, from newest to oldest, and with nothing that does not stand.
async fn found(store: &Store, owner: &BareJid, with: &str, id: &str, expected: &[i64]) {
    let found = store.find(owner, &bare(with), id, 100).await.unwrap();
    assert!(found.windows(2).all(|w| w[0] > w[1]), "newest first: {found:?}");
    let head = store.head(owner).await.unwrap();
    assert!(found.iter().all(|p| head.holds(*p)), "{found:?} in {head:?}");
    assert!(expected.iter().all(|p| found.contains(&Position(*p))), "{with} {id}: {found:?}");
}
