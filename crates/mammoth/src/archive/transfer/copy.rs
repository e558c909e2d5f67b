//! Copying: accounts with their rosters, then archive by archive, some at a time, each in order and in large batches.
//! What is there already is looked at and not copied again. That nothing is missing is left to `compare`.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use jid::BareJid;
use mammoth_accounts::AccountStore;
use mammoth_accounts::store::LIST_MAX;
use mammoth_archive::{
    ArchiveStore, Cut, Filter, Head, NewEntry, PageRequest, PageStart, Position, Query, SettingsChange,
    StoredEntry,
};
use mammoth_wire::stanza::Stanza;
use tokio::task::JoinSet;

use crate::archive::progress::Far;
use crate::backend::{Stores, Successor};

/// How many archives are copied at the same time.
const ARCHIVES_AT_ONCE: usize = 8;
/// How many entries are read and appended in one step.
const PAGE: usize = 500;
/// How many owners are asked for in one step.
pub const OWNERS: usize = 1000;

/// What was copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copied {
    /// Accounts there are.
    pub accounts: u64,
    /// Archives there are.
    pub archives: u64,
    /// Entries that were copied.
    pub entries: u64,
    /// Entries that had been copied before.
    pub found: u64,
}

/// Copies everything.
pub async fn everything(old: &Stores, new: &Successor, far: &Far) -> anyhow::Result<Copied> {
    far.is(0, old.archives.stats().await?.entries);
    let mut all =
        Copied { accounts: accounts(&*old.accounts, &*new.stores().accounts).await?, ..Copied::default() };
    let mut copying: JoinSet<anyhow::Result<Copied>> = JoinSet::new();
    let mut after = None;
    loop {
        let step = old.archives.owners(after.as_ref(), OWNERS).await?;
        let Some(last) = step.last() else { break };
        after = Some(last.owner.clone());
        for info in step {
            if copying.len() >= ARCHIVES_AT_ONCE {
                one_more(&mut copying, &mut all, far).await?;
            }
            let (old, new) = (old.archives.clone(), new.clone());
            copying.spawn(async move {
                let copied = archive(&old, &new, &info.owner).await;
                copied.with_context(|| format!("the archive of {}", info.owner))
            });
        }
    }
    while !copying.is_empty() {
        one_more(&mut copying, &mut all, far).await?;
    }
    Ok(all)
}

/// Waits for one of the archives on their way.
async fn one_more(
    copying: &mut JoinSet<anyhow::Result<Copied>>,
    all: &mut Copied,
    far: &Far,
) -> anyhow::Result<()> {
    let Some(done) = copying.join_next().await else { return Ok(()) };
    let copied = done??;
    far.add(copied.entries + copied.found);
    all.archives += 1;
    all.entries += copied.entries;
    all.found += copied.found;
    Ok(())
}

/// Copies the accounts and their rosters. Answers how many there are.
async fn accounts(old: &dyn AccountStore, new: &dyn AccountStore) -> anyhow::Result<u64> {
    let mut count = 0;
    let mut after = None;
    loop {
        let step = old.list(after.as_ref(), LIST_MAX).await?;
        let Some(last) = step.last() else { return Ok(count) };
        after = Some(last.clone());
        for account in &step {
            count += 1;
            let copied = one_account(old, new, account).await;
            copied.with_context(|| format!("the account {account}"))?;
        }
    }
}

async fn one_account(
    old: &dyn AccountStore,
    new: &dyn AccountStore,
    account: &BareJid,
) -> anyhow::Result<()> {
    let Some(credentials) = old.credentials(account).await? else { return Ok(()) };
    match new.credentials(account).await? {
        None => new.create(account, credentials).await?,
        Some(there) if there != credentials => new.set_credentials(account, credentials).await?,
        Some(_) => {}
    }
    let (items, there) = (old.roster(account).await?, new.roster(account).await?);
    for gone in there.iter().filter(|there| items.iter().all(|item| item.jid != there.jid)) {
        new.remove_roster_item(account, &gone.jid).await?;
    }
    for item in items.into_iter().filter(|item| !there.contains(item)) {
        new.set_roster_item(account, item).await?;
    }
    Ok(())
}

/// Copies one archive with its settings.
async fn archive(old: &Arc<dyn ArchiveStore>, new: &Successor, owner: &BareJid) -> anyhow::Result<Copied> {
    let archives = new.stores().archives;
    let head = old.head(owner).await?;
    if archives.head(owner).await? == Head::NEW && head.first > Position::START {
        new.begin(owner, head).await?;
    }
    let there = archives.head(owner).await?;
    ensure!(
        there.first <= head.first && head.first <= there.next && there.next <= head.next,
        "the copy was made of something else (it goes from {} to {}, this from {} to {}): begin with an empty store",
        there.first,
        there.next,
        head.first,
        head.next
    );
    let mut copied = Copied::default();
    let mut at = head.first;
    while at < head.next {
        let page = entries(&**old, owner, head, at).await?;
        let Some(last) = page.last() else { bail!("no entry at {at}") };
        let next = last.position.offset(1);
        let known = page.partition_point(|entry| entry.position < there.next);
        let (known, missing) = page.split_at_checked(known).unwrap_or((&page, &[]));
        if !known.is_empty() {
            look_again(&*archives, owner, there, known).await?;
        }
        append(&*archives, owner, missing).await?;
        copied.found += known.len() as u64;
        copied.entries += missing.len() as u64;
        at = next;
    }
    if there.first < head.first {
        archives.expire(owner, Cut::Through(head.first.offset(-1))).await?;
    }
    let settings = old.settings(owner).await?;
    let other = archives.settings(owner).await?;
    if settings.prefs != other.prefs {
        archives.set(owner, SettingsChange::Prefs(settings.prefs)).await?;
    }
    if settings.expires_after != other.expires_after {
        archives.set(owner, SettingsChange::ExpiresAfter(settings.expires_after)).await?;
    }
    Ok(copied)
}

/// Entries of an archive from a position on.
async fn entries(
    store: &dyn ArchiveStore,
    owner: &BareJid,
    head: Head,
    at: Position,
) -> anyhow::Result<Vec<StoredEntry>> {
    let start = if at == head.first { PageStart::First } else { PageStart::After(at.offset(-1)) };
    let query = Query { filter: Filter::default(), page: PageRequest { max: PAGE, start } };
    Ok(store.page(owner, query).await?.entries)
}

/// Looks whether entries that were copied before are what stands there, and retracts what was retracted since.
async fn look_again(
    new: &dyn ArchiveStore,
    owner: &BareJid,
    there: Head,
    known: &[StoredEntry],
) -> anyhow::Result<()> {
    let Some(first) = known.first() else { return Ok(()) };
    let found = entries(new, owner, there, first.position).await?;
    for (entry, found) in known.iter().zip(&found) {
        let retracted_since =
            StoredEntry { stanza: found.stanza.clone(), retracted: found.retracted, ..entry.clone() };
        if entry == found {
            continue;
        }
        ensure!(
            entry.retracted && retracted_since == *found,
            "another message stands at {} in the copy: begin with an empty store",
            entry.position
        );
        new.retract(owner, entry.position, entry.stanza.clone()).await?;
    }
    Ok(())
}

/// Appends entries where they stood.
async fn append(new: &dyn ArchiveStore, owner: &BareJid, missing: &[StoredEntry]) -> anyhow::Result<()> {
    let Some(first) = missing.first() else { return Ok(()) };
    let batch = missing.iter().map(|entry| NewEntry {
        with: entry.with.clone(),
        stamp: entry.stamp,
        stanza: entry.stanza.clone(),
        // Stores keep only what they find it by; the stanza says it, and a tombstone as well.
        message_id: Stanza::parse(entry.stanza.clone())
            .ok()
            .and_then(|stanza| stanza.id().map(str::to_owned)),
        foreign_id: entry.foreign_id.clone(),
    });
    new.append(owner, first.position, batch.collect()).await?;
    for tombstone in missing.iter().filter(|entry| entry.retracted) {
        new.retract(owner, tombstone.position, tombstone.stanza.clone()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jid::Jid;
    use mammoth_archive::{IdKey, Timestamp};
    use mammoth_store_embedded::{EmbeddedStore, Options};

    use super::super::compare;
    use super::*;

    fn entry(n: i64) -> NewEntry {
        NewEntry {
            with: Jid::new(&format!("b{}@two.example/x", n % 3)).unwrap(),
            stamp: Timestamp(n / 2),
            stanza: format!("<message xmlns='jabber:client' id='m{n}'>{n}</message>").into(),
            message_id: Some(format!("m{n}")),
            foreign_id: (n % 5 == 0).then(|| format!("elsewhere-{n}")),
        }
    }

    fn store(directory: &std::path::Path) -> Arc<EmbeddedStore> {
        EmbeddedStore::open_with_ids(directory, Options::default(), IdKey([7; 16])).unwrap()
    }

    #[tokio::test]
    async fn it_goes_on_where_it_stopped() {
        const ENTRIES: i64 = 2 * PAGE as i64 + 100;
        const COPIED: i64 = PAGE as i64 + 40;
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (old, new) = (store(from.path()), store(to.path()));
        let owner = BareJid::new("a@one.example").unwrap();
        let tombstone = |n: i64| format!("<message xmlns='jabber:client' id='m{n}'/>").into();
        old.append(&owner, Position(0), (0..ENTRIES).map(entry).collect()).await.unwrap();
        old.expire(&owner, Cut::Through(Position(9))).await.unwrap();
        old.retract(&owner, Position(20), tombstone(20)).await.unwrap();
        // An earlier copy was cut off, and since then one message was retracted and some have expired.
        new.begin(&owner, Position(10), Timestamp(i64::MIN)).await.unwrap();
        new.append(&owner, Position(10), (10..COPIED).map(entry).collect()).await.unwrap();
        old.retract(&owner, Position(30), tombstone(30)).await.unwrap();
        old.retract(&owner, Position(ENTRIES - 1), tombstone(ENTRIES - 1)).await.unwrap();
        old.expire(&owner, Cut::Through(Position(14))).await.unwrap();

        let stores = Stores { accounts: old.clone(), archives: old.clone() };
        let successor = Successor::Embedded(new.clone());
        let copied = everything(&stores, &successor, &Far::default()).await.unwrap();
        let wanted = ((ENTRIES - COPIED) as u64, (COPIED - 15) as u64);
        assert_eq!((copied.entries, copied.found), wanted);
        compare::stores(&stores, &successor.stores(), &Far::default()).await.unwrap();

        let page = PageRequest { max: usize::MAX, start: PageStart::First };
        let all = Query { filter: Filter::default(), page };
        let (page, there) = (old.page(&owner, all.clone()).await, new.page(&owner, all).await.unwrap());
        assert_eq!(page.unwrap(), there);
        assert_eq!(there.entries.iter().filter(|entry| entry.retracted).count(), 3);
        let with = BareJid::new("b0@two.example").unwrap();
        assert_eq!(new.find(&owner, &with, "m600", 9).await.unwrap(), [Position(600)]);
        assert_eq!(new.locate(&owner, "elsewhere-700").await.unwrap(), Some(Position(700)));
    }

    #[tokio::test]
    async fn what_is_not_a_copy_is_left_alone() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (old, new) = (store(from.path()), store(to.path()));
        let owner = BareJid::new("a@one.example").unwrap();
        old.append(&owner, Position(0), (0..9).map(entry).collect()).await.unwrap();
        new.append(&owner, Position(0), (1..4).map(entry).collect()).await.unwrap();
        let stores = Stores { accounts: old.clone(), archives: old.clone() };
        let successor = Successor::Embedded(new.clone());
        let refused = everything(&stores, &successor, &Far::default()).await.unwrap_err();
        assert!(format!("{refused:#}").contains("another message stands at 0"), "{refused:#}");
        let differ = compare::stores(&stores, &successor.stores(), &Far::default()).await.unwrap_err();
        assert!(format!("{differ:#}").contains("a@one.example"), "{differ:#}");
        assert_eq!(new.head(&owner).await.unwrap().next, Position(3));
    }
}
