//! What an admin lets go of an archive: a look at what would go, a trim up to one entry, an erase. A running server
//! does what is here between its lanes (serve.rs); who asks, and whether to go ahead, is the commands' business.

use jid::BareJid;
use mammoth_archive::{
    ArchiveStore, Cut, Filter, Head, PageRequest, PageStart, Position, Query, Settings, SettingsChange,
    StanzaId, StoreError, StoredEntry, Timestamp,
};

use super::{Response, TrimCut};

/// The archive's owner: any bare JID, since rooms have archives too.
pub fn owner_jid(text: &str) -> Result<BareJid, String> {
    text.parse().map_err(|_| format!("{text:?} does not own an archive; write it as user@domain"))
}

/// Says what a trim or an erase would take, and changes nothing.
pub async fn look(archive: &str, cut: &TrimCut, store: &dyn ArchiveStore) -> Result<Response, String> {
    let owner = owner_jid(archive)?;
    let failed = |error: StoreError| store_error(&owner, &error);
    let head = store.head(&owner).await.map_err(failed)?;
    if head == Head::NEW {
        return Err(format!("there is no archive of {owner}"));
    }
    let filter = match cut {
        TrimCut::All => Filter::default(),
        TrimCut::Before { stamp } => {
            Filter { end: Some(Timestamp(stamp.saturating_sub(1))), ..Filter::default() }
        }
        TrimCut::Through { id } => {
            let position = resolve(&owner, id, store).await?;
            if !head.holds(position) {
                return Err(format!("{id} is not in the archive of {owner} (any more)"));
            }
            // What goes ends with the entry itself: everything of its stamp or earlier, up to its position.
            let last = one(
                store,
                &owner,
                PageStart::First,
                Filter { ids: Some(vec![position]), ..Filter::default() },
            );
            let last = last.await.map_err(failed)?.1;
            let first = one(store, &owner, PageStart::First, Filter::default()).await.map_err(failed)?.1;
            let entries =
                u64::try_from(position.0.saturating_sub(head.first.0)).unwrap_or(0).saturating_add(1);
            return going(&owner, head, entries, first, last, store).await;
        }
    };
    let (entries, last) = one(store, &owner, PageStart::Last, filter.clone()).await.map_err(failed)?;
    let (_, first) = one(store, &owner, PageStart::First, filter).await.map_err(failed)?;
    going(&owner, head, entries, first, last, store).await
}

async fn going(
    owner: &BareJid,
    head: Head,
    entries: u64,
    first: Option<StoredEntry>,
    last: Option<StoredEntry>,
    store: &dyn ArchiveStore,
) -> Result<Response, String> {
    let key = store.id_key().await.map_err(|error| store_error(owner, &error))?;
    Ok(Response::Going {
        entries,
        of: head.count(),
        oldest: first.map(|entry| entry.stamp.0),
        newest: last.as_ref().map(|entry| entry.stamp.0),
        through: last.map(|entry| key.mint(owner).id(entry.position).to_string()),
    })
}

/// The entry at one end of what a filter leaves, and how many it leaves.
async fn one(
    store: &dyn ArchiveStore,
    owner: &BareJid,
    start: PageStart<Position>,
    filter: Filter<Position>,
) -> Result<(u64, Option<StoredEntry>), StoreError> {
    let page = store.page(owner, Query { filter, page: PageRequest { max: 1, start } }).await?;
    let count = page.count;
    Ok((count, page.entries.into_iter().next()))
}

async fn resolve(owner: &BareJid, id: &str, store: &dyn ArchiveStore) -> Result<Position, String> {
    let failed = |error: StoreError| store_error(owner, &error);
    let unknown = || format!("{id} is no id of the archive of {owner}");
    let id = StanzaId::new(id).ok_or_else(unknown)?;
    let key = store.id_key().await.map_err(failed)?;
    match key.mint(owner).position(&id) {
        Some(position) => Ok(position),
        None => store.locate(owner, id.as_str()).await.map_err(failed)?.ok_or_else(unknown),
    }
}

/// Lets an archive's entries go up to and including one. What has gone already is no error.
pub async fn trim(archive: &str, through: &str, store: &dyn ArchiveStore) -> Result<Response, String> {
    let owner = owner_jid(archive)?;
    let position = resolve(&owner, through, store).await?;
    let entries =
        store.expire(&owner, Cut::Through(position)).await.map_err(|error| store_error(&owner, &error))?;
    Ok(Response::Gone { entries })
}

/// Erases an archive where no server runs. Prefs and period stay: whom the owner never wants archived is not forgotten
/// with what was.
pub async fn erase(archive: &str, store: &dyn ArchiveStore) -> Result<Response, String> {
    let owner = owner_jid(archive)?;
    let failed = |error: StoreError| not_erased(&owner, &error);
    let entries = store.head(&owner).await.map_err(failed)?.count();
    let settings = store.settings(&owner).await.map_err(failed)?;
    let purged = store.purge(&owner).await;
    for change in changes(settings) {
        store.set(&owner, change).await.map_err(failed)?;
    }
    purged.map_err(failed)?;
    Ok(Response::Gone { entries })
}

/// The changes that make settings what they were, after a purge has removed them.
pub fn changes(settings: Settings) -> impl Iterator<Item = SettingsChange> {
    let prefs = settings.prefs.map(|prefs| SettingsChange::Prefs(Some(prefs)));
    let period = settings.expires_after.map(|period| SettingsChange::ExpiresAfter(Some(period)));
    prefs.into_iter().chain(period)
}

/// Tells the admin what to do about an erase that failed.
pub fn not_erased(owner: &BareJid, error: &StoreError) -> String {
    format!("{}; erase it again", store_error(owner, error))
}

fn store_error(owner: &BareJid, error: &StoreError) -> String {
    format!("the archive of {owner}: {}", super::perform::explained(error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mammoth_archive::{DefaultPolicy, ExpiresAfter, IdKey, MemoryStore, NewEntry, Prefs};

    use super::*;

    const ALICE: &str = "alice@example.org";

    /// Ten entries, one a second.
    async fn ten() -> MemoryStore {
        let store = MemoryStore::new(IdKey([7; 16]));
        let entry = |n: i64| NewEntry {
            with: "bob@example.org".parse().unwrap(),
            stamp: Timestamp(n * 1_000_000),
            stanza: format!("<message id='m{n}'/>").into(),
            message_id: None,
            foreign_id: (n == 3).then(|| "theirs".to_owned()),
        };
        let entries: Arc<[NewEntry]> = (0..10).map(entry).collect();
        store.append(&ALICE.parse().unwrap(), Position(0), entries).await.unwrap();
        store
    }

    fn id(position: i64) -> String {
        IdKey([7; 16]).mint(&ALICE.parse().unwrap()).id(Position(position)).to_string()
    }

    fn going(entries: u64, oldest: i64, newest: i64) -> Response {
        Response::Going {
            entries,
            of: 10,
            oldest: Some(oldest * 1_000_000),
            newest: Some(newest * 1_000_000),
            through: Some(id(newest)),
        }
    }

    #[tokio::test]
    async fn what_would_go() {
        let store = ten().await;
        let look = async |cut: TrimCut| look(ALICE, &cut, &store).await;
        assert_eq!(look(TrimCut::All).await, Ok(going(10, 0, 9)));
        assert_eq!(look(TrimCut::Before { stamp: 4_000_000 }).await, Ok(going(4, 0, 3)));
        assert_eq!(look(TrimCut::Before { stamp: 4_000_001 }).await, Ok(going(5, 0, 4)));
        assert_eq!(look(TrimCut::Through { id: id(6) }).await, Ok(going(7, 0, 6)));
        assert_eq!(look(TrimCut::Through { id: "theirs".into() }).await, Ok(going(4, 0, 3)));
        let none = Response::Going { entries: 0, of: 10, oldest: None, newest: None, through: None };
        assert_eq!(look(TrimCut::Before { stamp: 0 }).await, Ok(none));
        for (id, expected) in [
            ("nonsense".to_owned(), "nonsense is no id of the archive of alice@example.org"),
            (id(10), &*format!("{} is not in the archive of alice@example.org (any more)", id(10))),
        ] {
            assert_eq!(look(TrimCut::Through { id }).await, Err(expected.to_owned()));
        }
        assert_eq!(
            super::look("bob@example.org", &TrimCut::All, &store).await,
            Err("there is no archive of bob@example.org".into())
        );
    }

    #[tokio::test]
    async fn a_trim_takes_what_it_said_and_no_more() {
        let store = ten().await;
        assert_eq!(trim(ALICE, &id(3), &store).await, Ok(Response::Gone { entries: 4 }));
        assert_eq!(trim(ALICE, &id(3), &store).await, Ok(Response::Gone { entries: 0 }), "and only once");
        let head = store.head(&ALICE.parse().unwrap()).await.unwrap();
        assert_eq!((head.first, head.next), (Position(4), Position(10)));
    }

    #[tokio::test]
    async fn an_erase_leaves_the_prefs() {
        let (store, alice) = (ten().await, ALICE.parse().unwrap());
        let prefs = Prefs::new(DefaultPolicy::Always, [], ["eve@example.org".parse().unwrap()]);
        let settings = Settings { prefs: Some(prefs), expires_after: Some(ExpiresAfter::Never) };
        for change in changes(settings.clone()) {
            store.set(&alice, change).await.unwrap();
        }
        assert_eq!(erase(ALICE, &store).await, Ok(Response::Gone { entries: 10 }));
        let head = store.head(&alice).await.unwrap();
        assert_eq!((head.first, head.next), (Position(10), Position(10)), "no position comes back");
        assert_eq!(store.settings(&alice).await.unwrap(), settings);
    }
}
