//! Stores that are each wrong in one way: the contract has to notice, by the case that speaks of it, and so has
//! the comparison with the model where it can. Stores that are right are left to the other tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    ArchiveInfo, ArchiveStore, Cut, Head, IdKey, MemoryStore, NewEntry, Page, Position, Query, Settings,
    SettingsChange, Stats, StoreError, StoredEntry, Timestamp,
};
use mammoth_store_contract::{check, model};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    RepeatConflicts,
    RepeatAppendsAgain,
    RefusedBatchLeavesItsStart,
    LowerStampsAreTaken,
    EndIsExclusive,
    CountIsOfThePage,
    UnknownIsAnEmptyPage,
    FullJidMatchesAsBare,
    CompleteTooEarly,
    ExpireTakesOneMore,
    RetractionIsForgotten,
    RepeatUndoesRetraction,
    AliasOutlivesItsEntry,
    FindMissesTheOldest,
    PositionsComeBack,
    PurgeKeepsSettings,
    SettingsOverwriteEachOther,
    OwnersLoseOne,
    HalfAnAppendIsSeen,
}

use Wrong::*;

struct WrongStore {
    wrong: Wrong,
    inner: MemoryStore,
    aliases: Mutex<std::collections::HashMap<(BareJid, String), Position>>,
    purged: Mutex<HashSet<BareJid>>,
}

impl WrongStore {
    fn open(wrong: Wrong) -> Arc<dyn ArchiveStore> {
        let (aliases, purged) = Default::default();
        Arc::new(WrongStore { wrong, inner: MemoryStore::new(IdKey([7; 16])), aliases, purged })
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    /// Where a wrong store keeps an archive that begins anew after a purge.
    fn place(&self, owner: &BareJid) -> BareJid {
        match self.is(PositionsComeBack) && self.purged.lock().unwrap().contains(owner) {
            true => BareJid::new(&format!("{owner}.anew")).unwrap(),
            false => owner.clone(),
        }
    }
}

#[async_trait]
impl ArchiveStore for WrongStore {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        self.inner.id_key().await
    }

    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        self.inner.head(&self.place(owner)).await
    }

    async fn append(&self, owner: &BareJid, at: Position, new: Arc<[NewEntry]>) -> Result<(), StoreError> {
        let owner = &self.place(owner);
        let head = self.inner.head(owner).await?;
        let mut new = new;
        if self.is(LowerStampsAreTaken)
            && at == head.next
            && new.first().is_some_and(|e| e.stamp < head.last_stamp)
        {
            new = new.iter().map(|e| NewEntry { stamp: head.last_stamp, ..e.clone() }).collect();
        }
        if self.is(HalfAnAppendIsSeen) && at == head.next && new.len() > 1 {
            self.inner.append(owner, at, new[..1].into()).await?;
            tokio::task::yield_now().await;
            return self.inner.append(owner, at.offset(1), new[1..].into()).await;
        }
        for (i, entry) in (0..).zip(new.iter()) {
            if let Some(id) = &entry.foreign_id {
                self.aliases.lock().unwrap().insert((owner.clone(), id.clone()), at.offset(i));
            }
        }
        let result = self.inner.append(owner, at, new.clone()).await;
        match (&result, self.wrong) {
            (Ok(()), RepeatConflicts) if at != head.next => Err(StoreError::Conflict(head.next)),
            (Ok(()), RepeatAppendsAgain) if at != head.next => {
                let new = new.iter().map(|e| NewEntry { stamp: head.last_stamp, ..e.clone() });
                self.inner.append(owner, head.next, new.collect()).await
            }
            (Ok(()), RepeatUndoesRetraction) if at != head.next => {
                for (i, entry) in (0..).zip(new.iter()) {
                    self.inner.retract(owner, at.offset(i), entry.stanza.clone()).await?;
                }
                Ok(())
            }
            (Err(StoreError::Refused(_)), RefusedBatchLeavesItsStart) if new.len() > 1 => {
                let _ = self.inner.append(owner, at, new[..1].into()).await;
                result
            }
            _ => result,
        }
    }

    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        let owner = &self.place(owner);
        let mut query = query;
        match self.wrong {
            EndIsExclusive => {
                query.filter.end = query.filter.end.map(|end| Timestamp(end.0.saturating_sub(1)))
            }
            FullJidMatchesAsBare => query.filter.with = query.filter.with.map(|with| with.to_bare().into()),
            _ => {}
        }
        let page = self.inner.page(owner, query).await;
        match (page, self.wrong) {
            (Ok(page), CountIsOfThePage) => Ok(Page { count: page.entries.len() as u64, ..page }),
            (Ok(page), CompleteTooEarly) if page.entries.len() as u64 + 1 == page.count => {
                Ok(Page { complete: true, ..page })
            }
            (Err(StoreError::NotFound(_)), UnknownIsAnEmptyPage) => {
                Ok(Page { entries: Vec::new(), count: 0, index: 0, complete: true })
            }
            (page, _) => page,
        }
    }

    async fn locate(&self, owner: &BareJid, id: &str) -> Result<Option<Position>, StoreError> {
        let owner = &self.place(owner);
        if self.is(AliasOutlivesItsEntry) {
            return Ok(self.aliases.lock().unwrap().get(&(owner.clone(), id.to_owned())).copied());
        }
        self.inner.locate(owner, id).await
    }

    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        let mut found = self.inner.find(&self.place(owner), with, id, limit).await?;
        if self.is(FindMissesTheOldest) && found.len() > 1 {
            found.pop();
        }
        Ok(found)
    }

    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        let owner = &self.place(owner);
        if self.is(RetractionIsForgotten) && self.inner.head(owner).await?.holds(position) {
            return Ok(());
        }
        self.inner.retract(owner, position, tombstone).await
    }

    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        let cut = match cut {
            Cut::Through(p) if self.is(ExpireTakesOneMore) => Cut::Through(p.offset(1)),
            cut => cut,
        };
        self.inner.expire(&self.place(owner), cut).await
    }

    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        let settings = self.inner.settings(owner).await?;
        self.inner.purge(&self.place(owner)).await?;
        if self.is(PositionsComeBack) {
            self.purged.lock().unwrap().insert(owner.clone());
        }
        if self.is(PurgeKeepsSettings) {
            self.inner.set(owner, SettingsChange::Prefs(settings.prefs)).await?;
        }
        Ok(())
    }

    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        self.inner.settings(&self.place(owner)).await
    }

    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        let owner = &self.place(owner);
        if self.is(SettingsOverwriteEachOther) && matches!(change, SettingsChange::Prefs(_)) {
            self.inner.set(owner, SettingsChange::ExpiresAfter(None)).await?;
        }
        self.inner.set(owner, change).await
    }

    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        let mut owners = self.inner.owners(after, limit).await?;
        if self.is(OwnersLoseOne) && owners.len() > 1 {
            owners.remove(0);
        }
        Ok(owners)
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.inner.stats().await
    }
}

/// What the failing check says; `None` when it does not fail.
async fn complaint(check: impl Future<Output = ()> + Send + 'static) -> Option<String> {
    let failed = tokio::spawn(check).await.err()?;
    Some(failed.into_panic().downcast_ref::<String>().unwrap().clone())
}

async fn noticed(wrong: Wrong, by: &str) {
    let says = complaint(check(async move || WrongStore::open(wrong))).await;
    let says = says.unwrap_or_else(|| panic!("the contract takes {wrong:?}"));
    assert!(says.contains(by), "{wrong:?} is noticed, but not by {by}:\n{says}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_notices_what_is_wrong_with_appends() {
    noticed(RepeatConflicts, "append::a_repeated_append_changes_nothing").await;
    noticed(RepeatAppendsAgain, "append::a_repeated_append_changes_nothing").await;
    noticed(RefusedBatchLeavesItsStart, "append::a_refused_batch_leaves_nothing").await;
    noticed(LowerStampsAreTaken, "append::stamps_stand_still_but_never_go_back").await;
    noticed(RepeatUndoesRetraction, "append::a_repeat_does_not_undo_a_retraction").await;
    noticed(HalfAnAppendIsSeen, "together::").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_notices_what_is_wrong_with_pages() {
    noticed(EndIsExclusive, "pages::start_and_end_are_inclusive").await;
    noticed(CountIsOfThePage, "pages::a_count_can_be_asked_for_alone").await;
    noticed(UnknownIsAnEmptyPage, "pages::an_unknown_position_is_not_found_anywhere").await;
    noticed(FullJidMatchesAsBare, "pages::contacts_that_look_alike_are_told_apart").await;
    noticed(CompleteTooEarly, "pages::walks_give_each_entry_once").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_notices_what_is_wrong_with_the_rest() {
    noticed(ExpireTakesOneMore, "forget::every_cut_takes_the_oldest").await;
    noticed(RetractionIsForgotten, "forget::a_retraction_keeps_the_place").await;
    noticed(PositionsComeBack, "forget::positions_never_come_back").await;
    noticed(PurgeKeepsSettings, "forget::a_purge_leaves_the_high_water_mark").await;
    noticed(AliasOutlivesItsEntry, "ids::a_foreign_id_goes_with_its_entry").await;
    noticed(FindMissesTheOldest, "ids::find_leaves_none_out").await;
    noticed(SettingsOverwriteEachOther, "owners::settings_are_independent").await;
    noticed(OwnersLoseOne, "owners::owners_come_in_the_order_of_their_text").await;
}

/// Into how few of 60 operations every failure here shrinks; the shortest one found need not be the shortest there is.
const SHRUNK_MAX: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_notices_too_and_shrinks() {
    for wrong in [
        RepeatConflicts,
        RepeatAppendsAgain,
        LowerStampsAreTaken,
        EndIsExclusive,
        CountIsOfThePage,
        UnknownIsAnEmptyPage,
        FullJidMatchesAsBare,
        ExpireTakesOneMore,
        RetractionIsForgotten,
        RepeatUndoesRetraction,
        AliasOutlivesItsEntry,
        FindMissesTheOldest,
        PositionsComeBack,
        PurgeKeepsSettings,
        SettingsOverwriteEachOther,
        OwnersLoseOne,
    ] {
        let open = async move || model::Subject { store: WrongStore::open(wrong), steps: Vec::new() };
        let says = complaint(model::compare(300, 60, open)).await;
        let says = says.unwrap_or_else(|| panic!("the model takes {wrong:?}"));
        let operations =
            says.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
        let operations = operations.count();
        assert!((1..=SHRUNK_MAX).contains(&operations), "{wrong:?} takes {operations} operations:\n{says}");
    }
}
