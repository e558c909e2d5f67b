//! Carrying out a sequence on the store and on the model, and holding the answers against each other. Where the
//! contract leaves a store some freedom (`find` may find more, `bytes` may lag), so does this.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_archive::{
    ArchiveInfo, ArchiveStore, Cut, Filter, Head, IdKey, MemoryStore, NewEntry, PageRequest, PageStart,
    Position, Query, StoreError, Timestamp,
};

use super::Subject;
use super::ops::{Ask, AskCut, AskStart, CONTACTS, Draft, IDS, Moment, OWNERS, Op, Place};
use crate::given::{all_of, bare, fresh_name, jid};

/// The stamp of the first entry of an archive, less what its draft adds.
const BEGINNING: Timestamp = Timestamp(1_700_000_000_000_000);

struct Play {
    subject: Subject,
    model: MemoryStore,
    owners: Vec<BareJid>,
    /// What was ever appended, by position: archives begin at 0.
    history: Vec<Vec<NewEntry>>,
    /// Part of every owner's name.
    tag: String,
    /// Archives and entries that the store held before.
    before: (u64, u64),
    stanzas: u64,
    /// Whether nobody else plays on the store, so that its figures can be compared too.
    alone: bool,
}

/// Carries out `ops`. `Err` says at which of them the store differs from the model, and how.
pub async fn play(subject: Subject, ops: Vec<Op>, alone: bool) -> Result<(), String> {
    let tag = fresh_name("model");
    let owners = vec![bare(&format!("a@{tag}")), bare(&format!("a@{tag}.example")), bare(&tag)];
    assert_eq!(owners.len(), OWNERS);
    let stats = subject.store.stats().await.map_err(|error| error.to_string())?;
    let mut play = Play {
        subject,
        model: MemoryStore::new(IdKey([1; 16])),
        history: vec![Vec::new(); owners.len()],
        owners,
        tag,
        before: (stats.archives, stats.entries),
        stanzas: 0,
        alone,
    };
    for (i, op) in ops.iter().enumerate() {
        play.carry_out(op).await.map_err(|why| format!("at {i}: {op:?}\n{why}"))?;
    }
    play.look_at_everything().await.map_err(|why| format!("at the end\n{why}"))
}

/// An answer in a form that two stores share: errors without their causes.
fn plain<T: Debug>(result: &Result<T, StoreError>) -> String {
    match result {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::NotFound(p)) => format!("NotFound({p})"),
        Err(StoreError::Conflict(p)) => format!("Conflict({p})"),
        Err(StoreError::Refused(_)) => "Refused".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

fn same<T: Debug>(store: &Result<T, StoreError>, model: &Result<T, StoreError>) -> Result<(), String> {
    let (store_says, model_says) = (plain(store), plain(model));
    if store_says == model_says {
        return Ok(());
    }
    let why = store.as_ref().err().map(|error| format!(" ({error})")).unwrap_or_default();
    Err(format!("  the store says {store_says}{why}\n  the model says {model_says}"))
}

impl Play {
    async fn head(&self, owner: usize) -> Head {
        self.model.head(&self.owners[owner]).await.unwrap()
    }

    async fn place(&self, owner: usize, place: Place) -> Position {
        let head = self.head(owner).await;
        match place {
            Place::First(n) => head.first.offset(n),
            Place::Next(n) => head.next.offset(n),
            Place::Within(part) => head.first.offset((head.next.0 - head.first.0) * part / 1000),
        }
    }

    async fn moment(&self, owner: usize, Moment(place, more): Moment) -> Timestamp {
        let position = self.place(owner, place).await;
        let entry = usize::try_from(position.0).ok().and_then(|at| self.history[owner].get(at));
        Timestamp(entry.map_or(BEGINNING, |entry| entry.stamp).0 + more)
    }

    fn stanza(&mut self, filling: usize) -> Bytes {
        self.stanzas += 1;
        Bytes::from(format!(
            "<message><body>{} {}</body></message>",
            self.stanzas,
            "filling ".repeat(filling / 8)
        ))
    }

    async fn carry_out(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Append(owner, off, drafts) => self.append(*owner, *off, drafts).await,
            Op::Repeat(owner, place, size, other) => self.repeat(*owner, *place, *size, *other).await,
            Op::Page(owner, ask) => self.page(*owner, ask).await,
            Op::Retract(owner, place, size) => {
                let position = self.place(*owner, *place).await;
                let tombstone = Bytes::from(vec![b't'; *size]);
                let owner = &self.owners[*owner];
                let store = self.subject.store.retract(owner, position, tombstone.clone()).await;
                same(&store, &self.model.retract(owner, position, tombstone).await)
            }
            Op::Expire(owner, cut) => self.expire(*owner, *cut).await,
            Op::Purge(owner) => {
                let owner = &self.owners[*owner];
                same(&self.subject.store.purge(owner).await, &self.model.purge(owner).await)
            }
            Op::Set(owner, change) => {
                let owner = &self.owners[*owner];
                let store = self.subject.store.set(owner, change.clone()).await;
                same(&store, &self.model.set(owner, change.clone()).await)
            }
            Op::Locate(owner, id) => self.locate(*owner, *id).await,
            Op::Find(owner, with, id, limit) => self.find(*owner, *with, *id, *limit).await,
            Op::Owners(step) => self.owners(*step).await,
            Op::Stats if self.alone => self.stats().await,
            Op::Stats => Ok(()),
            Op::Step(step) => {
                let step = self.subject.steps[*step].1.clone();
                // The step is given the only handle.
                let nothing = Arc::new(MemoryStore::new(IdKey([0; 16])));
                let store = std::mem::replace(&mut self.subject.store, nothing);
                self.subject.store = step(store).await;
                self.look_at_everything().await
            }
        }
    }

    async fn append(&mut self, owner: usize, off: i64, drafts: &[Draft]) -> Result<(), String> {
        let head = self.head(owner).await;
        let mut stamp = if head == Head::NEW { BEGINNING } else { head.last_stamp };
        let mut batch = Vec::new();
        for draft in drafts {
            stamp = Timestamp(stamp.0 + draft.later);
            batch.push(NewEntry {
                with: jid(CONTACTS[draft.with]),
                stamp,
                stanza: self.stanza(draft.filling),
                message_id: draft.message_id.map(|id| format!("m{id}")),
                foreign_id: draft.foreign_id.map(|id| format!("f{id}")),
            });
        }
        let at = head.next.offset(off);
        let entries: Arc<[NewEntry]> = batch.into();
        let store = self.subject.store.append(&self.owners[owner], at, entries.clone()).await;
        let model = self.model.append(&self.owners[owner], at, entries.clone()).await;
        if model.is_ok() && at == head.next {
            self.history[owner].extend(entries.iter().cloned());
        }
        same(&store, &model)
    }

    async fn repeat(&mut self, owner: usize, place: Place, size: usize, other: bool) -> Result<(), String> {
        let at = self.place(owner, place).await;
        let from = usize::try_from(at.0).unwrap_or(0).min(self.history[owner].len());
        let mut batch: Vec<_> = self.history[owner][from..].iter().take(size).cloned().collect();
        if other {
            let stanza = self.stanza(0);
            if let Some(last) = batch.last_mut() {
                last.stanza = stanza;
            }
        }
        if batch.is_empty() || at.0 < 0 {
            return Ok(());
        }
        let entries: Arc<[NewEntry]> = batch.into();
        let store = self.subject.store.append(&self.owners[owner], at, entries.clone()).await;
        same(&store, &self.model.append(&self.owners[owner], at, entries).await)
    }

    async fn query(&self, owner: usize, ask: &Ask) -> Query<Position> {
        let mut filter = Filter::default();
        if let Some((with, to_bare)) = ask.with {
            let with = jid(CONTACTS[with]);
            filter.with = Some(if to_bare { with.to_bare().into() } else { with });
        }
        if let Some(moment) = ask.start {
            filter.start = Some(self.moment(owner, moment).await);
        }
        if let Some(moment) = ask.end {
            filter.end = Some(self.moment(owner, moment).await);
        }
        if let Some(place) = ask.after {
            filter.after = Some(self.place(owner, place).await);
        }
        if let Some(place) = ask.before {
            filter.before = Some(self.place(owner, place).await);
        }
        if let Some(places) = &ask.ids {
            let mut ids = Vec::new();
            for place in places {
                ids.push(self.place(owner, *place).await);
            }
            filter.ids = Some(ids);
        }
        let start = match ask.page {
            AskStart::First => PageStart::First,
            AskStart::Last => PageStart::Last,
            AskStart::After(place) => PageStart::After(self.place(owner, place).await),
            AskStart::Before(place) => PageStart::Before(self.place(owner, place).await),
            AskStart::Index(index) => PageStart::Index(index),
        };
        Query { filter, page: PageRequest { max: ask.max, start } }
    }

    async fn page(&self, owner: usize, ask: &Ask) -> Result<(), String> {
        let query = self.query(owner, ask).await;
        let owner = &self.owners[owner];
        let store = self.subject.store.page(owner, query.clone()).await;
        let model = self.model.page(owner, query.clone()).await;
        if let (Err(StoreError::NotFound(p)), Err(StoreError::NotFound(_))) = (&store, &model) {
            // Of several unknown positions, a store may name any.
            let head = self.model.head(owner).await.unwrap();
            if query.named().any(|named| named == p) && !head.holds(*p) {
                return Ok(());
            }
        }
        same(&store, &model).map_err(|why| format!("  {query:?}\n{why}"))
    }

    async fn expire(&self, owner: usize, cut: AskCut) -> Result<(), String> {
        let held = self.model.page(&self.owners[owner], all_of(Filter::default())).await.unwrap().entries;
        let bytes: u64 = held.iter().map(|entry| entry.stanza.len() as u64).sum();
        let cut = match cut {
            AskCut::Before(moment) => Cut::Before(self.moment(owner, moment).await),
            AskCut::Through(place) => Cut::Through(self.place(owner, place).await),
            AskCut::KeepEighths(part) => Cut::KeepNewest(held.len() as u64 * part / 8),
            AskCut::KeepBytes(part, more) => Cut::KeepBytes(bytes * part / 8 + more),
        };
        let owner = &self.owners[owner];
        let store = self.subject.store.expire(owner, cut).await;
        same(&store, &self.model.expire(owner, cut).await).map_err(|why| format!("  {cut:?}\n{why}"))
    }

    async fn locate(&self, owner: usize, id: usize) -> Result<(), String> {
        let (owner, id) = (&self.owners[owner], format!("f{id}"));
        let store = self.subject.store.locate(owner, &id).await;
        same(&store, &self.model.locate(owner, &id).await).map_err(|why| format!("  {id} of {owner}\n{why}"))
    }

    async fn find(&self, owner: usize, with: usize, id: usize, limit: usize) -> Result<(), String> {
        let (owner, with, id) = (&self.owners[owner], jid(CONTACTS[with]).to_bare(), format!("m{id}"));
        let model = self.model.find(owner, &with, &id, usize::MAX).await.unwrap();
        let head = self.model.head(owner).await.unwrap();
        let found = self.subject.store.find(owner, &with, &id, limit).await.map_err(|e| e.to_string())?;
        let newest_first = found.windows(2).all(|w| w[0] > w[1]) && found.len() <= limit;
        let reached = if found.len() < limit { None } else { found.last() };
        let left_out = model
            .iter()
            .filter(|p| limit > 0 && reached.is_none_or(|reached| *p >= reached))
            .find(|p| !found.contains(p));
        if newest_first && left_out.is_none() && found.iter().all(|p| head.holds(*p)) {
            return Ok(());
        }
        Err(format!("  the store finds {found:?}\n  the model finds {model:?}, limit {limit}, {head:?}"))
    }

    async fn owners(&self, step: usize) -> Result<(), String> {
        let mut found: Vec<ArchiveInfo> = Vec::new();
        loop {
            let after = found.last().map(|info| info.owner.clone());
            let part = self.subject.store.owners(after.as_ref(), step).await.map_err(|e| e.to_string())?;
            if part.is_empty() {
                break;
            }
            found.extend(part);
        }
        if !found.windows(2).all(|w| w[0].owner.as_str() < w[1].owner.as_str()) {
            return Err(format!("  not in order: {found:?}"));
        }
        // An archive that was only ever asked for may be listed or not.
        let worth_listing = |info: &ArchiveInfo| {
            info.owner.as_str().contains(&self.tag)
                && (info.head != Head::NEW || info.expires_after.is_some())
        };
        found.retain(worth_listing);
        let mut model = self.model.owners(None, usize::MAX).await.unwrap();
        model.retain(worth_listing);
        for (found, model) in found.iter_mut().zip(&model) {
            // The figure may lag behind retractions, whichever is longer, but never behind appends.
            let held = self.model.page(&model.owner, all_of(Filter::default())).await.unwrap().entries;
            let appended = held.iter().filter(|entry| !entry.retracted);
            let bytes: u64 = appended.map(|entry| entry.stanza.len() as u64).sum();
            if found.bytes < bytes {
                return Err(format!(
                    "  the store counts {} of {bytes} bytes of {}",
                    found.bytes, model.owner
                ));
            }
            found.bytes = model.bytes;
        }
        same(&Ok(found), &Ok(model))
    }

    async fn stats(&self) -> Result<(), String> {
        let figures = |archives: u64, entries: u64| Ok((archives, entries));
        let store = self.subject.store.stats().await.map_err(|error| error.to_string())?;
        let model = self.model.stats().await.unwrap();
        let (archives, entries) = self.before;
        same(
            &figures(store.archives.wrapping_sub(archives), store.entries.wrapping_sub(entries)),
            &figures(model.archives, model.entries),
        )
    }

    /// All that the archives hold, and all that can be asked about it.
    async fn look_at_everything(&self) -> Result<(), String> {
        let (store, model) = (&self.subject.store, &self.model);
        for (i, owner) in self.owners.iter().enumerate() {
            let says = |why: String| format!("  of {owner}\n{why}");
            same(&store.head(owner).await, &model.head(owner).await).map_err(says)?;
            same(&store.settings(owner).await, &model.settings(owner).await).map_err(says)?;
            let mut filters = vec![Filter::default()];
            filters.extend(["a@x.example", "b@x.example/1", "x.example"].map(|with| {
                let with: Jid = jid(with);
                Filter { with: Some(with), ..Filter::default() }
            }));
            for filter in filters {
                let query = all_of(filter);
                same(&store.page(owner, query.clone()).await, &model.page(owner, query).await)
                    .map_err(says)?;
            }
            for id in 0..IDS {
                self.locate(i, id).await?;
                self.find(i, 0, id, 1000).await?;
            }
        }
        self.owners(1000).await?;
        if self.alone { self.stats().await } else { Ok(()) }
    }
}
