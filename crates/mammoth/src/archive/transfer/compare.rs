//! Whether two stores hold the same: every account with its keys and roster; of every archive its ends, its settings,
//! how many entries it has, and the oldest and the newest of them whole. The entries between are not read again.

use anyhow::{Context as _, ensure};
use jid::BareJid;
use mammoth_accounts::AccountStore;
use mammoth_accounts::store::LIST_MAX;
use mammoth_archive::{ArchiveStore, Filter, PageRequest, PageStart, Query};

use super::copy::OWNERS;
use crate::archive::progress::Far;
use crate::backend::Stores;

/// Fails at the first difference, and names it.
pub async fn stores(old: &Stores, new: &Stores, far: &Far) -> anyhow::Result<()> {
    accounts(&*old.accounts, &*new.accounts).await?;
    // Either way round: neither has an archive that the other lacks.
    for (one, other) in [(old, new), (new, old)] {
        let mut after = None;
        loop {
            let step = one.archives.owners(after.as_ref(), OWNERS).await?;
            let Some(last) = step.last() else { break };
            after = Some(last.owner.clone());
            for info in &step {
                let same = archive(&*one.archives, &*other.archives, &info.owner).await;
                same.with_context(|| format!("the archive of {}", info.owner))?;
                far.add(1);
            }
        }
    }
    Ok(())
}

async fn archive(one: &dyn ArchiveStore, other: &dyn ArchiveStore, owner: &BareJid) -> anyhow::Result<()> {
    let (head, there) = (one.head(owner).await?, other.head(owner).await?);
    ensure!(head == there, "its ends differ: {head:?}, and {there:?}");
    ensure!(one.settings(owner).await? == other.settings(owner).await?, "its settings differ");
    for start in [PageStart::First, PageStart::Last] {
        let query = Query { filter: Filter::default(), page: PageRequest { max: 1, start } };
        let (page, there) = (one.page(owner, query.clone()).await?, other.page(owner, query).await?);
        ensure!(page.count == there.count, "{} messages, and {}", page.count, there.count);
        // Of the same secret and the same position, the public ids are the same.
        ensure!(page == there, "an entry at one of its ends differs");
    }
    Ok(())
}

async fn accounts(old: &dyn AccountStore, new: &dyn AccountStore) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let (step, there) =
            (old.list(after.as_ref(), LIST_MAX).await?, new.list(after.as_ref(), LIST_MAX).await?);
        ensure!(step == there, "the accounts differ");
        let Some(last) = step.last() else { return Ok(()) };
        after = Some(last.clone());
        for account in &step {
            let same = old.credentials(account).await? == new.credentials(account).await?
                && old.roster(account).await? == new.roster(account).await?;
            ensure!(same, "the account {account} differs");
        }
    }
}
