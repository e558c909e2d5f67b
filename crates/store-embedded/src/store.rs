//! The port's methods: what goes to the writer, what to a reader, and what is answered from memory. What each
//! promises is said by [`ArchiveStore`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mammoth_archive::jid::BareJid;
use mammoth_archive::{
    ArchiveInfo, ArchiveStore, Cut, Head, IdKey, NewEntry, Page, Position, Query, Settings, SettingsChange,
    Stats, StoreError, StoredEntry, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use crate::format::Damaged;
use crate::read::{ReadError, Reading};
use crate::readers::Context;
use crate::writer::{Append, Change, Finish, Op, QUEUE_MAX};
use crate::{EmbeddedStore, Shared, WriteError, rows};

impl EmbeddedStore {
    /// Hands something to the writer, and waits for the answer.
    pub(crate) async fn write<T>(
        &self,
        op: Op,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.shared.writable().map_err(StoreError::refused)?;
        let Some(writer) = &self.writer else { return Err(StoreError::refused(WriteError::ReadOnly)) };
        writer.send(op).await.map_err(|_| StoreError::refused(WriteError::Closed))?;
        self.answered(answer).await
    }

    async fn answered<T>(&self, answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
        answer.await.map_err(|_| abandoned(&self.shared))?
    }

    /// Has the writer change the small database. `apply` writes; `publish` makes it visible once it is durable,
    /// and answers.
    pub(crate) async fn change<T: Send + 'static, W: Send + 'static>(
        &self,
        apply: impl FnOnce(&Connection, &Shared) -> rusqlite::Result<W> + Send + 'static,
        publish: impl FnOnce(&Shared, W) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        let change: Change = Box::new(move |connection, shared| {
            let written = connection.map(|connection| apply(connection, shared)).transpose();
            match written {
                Ok(Some(written)) => {
                    let finish: Finish = Box::new(move |shared, outcome| {
                        drop(done.send(outcome.and_then(|()| publish(shared, written))));
                    });
                    (Ok(()), finish)
                }
                failed => {
                    let finish: Finish = Box::new(move |_, outcome| {
                        drop(done.send(outcome.and(Err(StoreError::refused(WriteError::Closed)))));
                    });
                    (failed.map(drop), finish)
                }
            }
        });
        self.write(Op::Change(change), answer).await
    }

    /// Has a reader look at an archive as of now; `None` for one that has never been.
    async fn look<T: Send + 'static>(
        &self,
        owner: &BareJid,
        f: impl FnOnce(Option<&mut Reading<'_>>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let owner = owner.as_str().to_owned();
        self.read(move |shared, context| look(shared, context, &owner, f)).await
    }
}

/// Looks at an archive as of now.
pub fn look<T>(
    shared: &Shared,
    context: &mut Context,
    owner: &str,
    f: impl FnOnce(Option<&mut Reading<'_>>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match shared.snapshot(owner)? {
        None => f(None),
        Some(snapshot) => {
            f(Some(&mut Reading { snapshot: &snapshot, keys: &shared.keys, scratch: &mut context.scratch }))
        }
    }
}

/// What an answer that never came means.
fn abandoned(shared: &Shared) -> StoreError {
    match shared.writable() {
        Err(error) => StoreError::refused(error),
        Ok(()) => StoreError::unavailable("the write was given up with others of its group"),
    }
}

/// A page of an archive that has never been.
fn page_of_none(query: &Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
    if let Some(position) = query.named().next() {
        return Err(StoreError::NotFound(*position));
    }
    let window = query.page.window(0, |_| Ok::<_, StoreError>(0))?;
    Ok(Page { entries: Vec::new(), count: 0, index: window.ranks.start, complete: window.complete })
}

#[async_trait]
impl ArchiveStore for EmbeddedStore {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        Ok(self.shared.id_key)
    }

    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        Ok(self.shared.state().of(owner.as_str()).map_or(Head::NEW, crate::state::ArchiveState::head))
    }

    async fn append(
        &self,
        owner: &BareJid,
        expected: Position,
        entries: Arc<[NewEntry]>,
    ) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let append = Append { owner: owner.as_str().to_owned(), expected, entries, done };
        let waits = self.writer.as_ref().is_some_and(|writer| writer.capacity() == QUEUE_MAX);
        let together = self.gathering.together(append, waits).await;
        if together.is_empty() {
            return self.answered(answer).await;
        }
        self.write(Op::Append(together), answer).await
    }

    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        self.look(owner, move |reading| match reading {
            None => page_of_none(&query),
            Some(reading) => reading.page(&query),
        })
        .await
    }

    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError> {
        let foreign_id = foreign_id.to_owned();
        self.look(owner, move |reading| match reading {
            None => Ok(None),
            Some(reading) => Ok(reading.locate(&foreign_id)?),
        })
        .await
    }

    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        message_id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        let hash = self.shared.keys.message(with.as_str(), message_id);
        self.look(owner, move |reading| match reading {
            None => Ok(Vec::new()),
            Some(reading) => Ok(reading.find(hash, limit)?),
        })
        .await
    }

    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        let owner = owner.as_str().to_owned();
        let written = tombstone.clone();
        let (archive, change) = self
            .change(
                move |connection, shared| {
                    let state = shared.state();
                    let Some(number) = state.number(&owner) else { return Ok(None) };
                    let present = state.archive(number).is_some_and(|a| a.head().holds(position));
                    drop(state);
                    if !present {
                        return Ok(None);
                    }
                    let change = shared.new_change();
                    rows::put_override(connection, number, position.0, change, &written)?;
                    Ok(Some((number, change)))
                },
                move |shared, done| {
                    let (archive, change) = done.ok_or(StoreError::NotFound(position))?;
                    shared.state_mut().retracted(archive, position.0, change, tombstone);
                    Ok((archive, change))
                },
            )
            .await?;
        tracing::debug!(archive, position = position.0, change, "retracted");
        Ok(())
    }

    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        // Where the cut lies is read first: by a reader, so that the writer does not wait for it.
        let found = self
            .look(owner, move |reading| match reading {
                None => Ok(None),
                Some(reading) => {
                    let (at, stamp) = reading.cut(cut)?;
                    let moves = at > reading.snapshot.head.first.0;
                    Ok(moves.then_some((reading.snapshot.archive, at, stamp)))
                }
            })
            .await?;
        let Some((archive, first, stamp)) = found else { return Ok(0) };
        self.change(
            move |connection, shared| put_first(connection, shared, archive, first),
            move |shared, ()| Ok(shared.expired(archive, first, stamp)),
        )
        .await
    }

    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        self.purge_archive(owner.as_str()).await
    }

    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        let state = self.shared.state();
        let settings = state.of(owner.as_str()).and_then(|archive| archive.settings.as_deref().cloned());
        Ok(settings.unwrap_or_default())
    }

    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        self.set_one(owner.as_str().to_owned(), change).await
    }

    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        let after = after.map(|after| after.as_str().to_owned());
        self.read(move |shared, context| owners(shared, context, after.as_deref(), limit)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.read(|shared, _| shared.stats()).await
    }
}

/// Moves the row of an archive forward; what is in memory follows once that is durable.
pub fn put_first(connection: &Connection, shared: &Shared, archive: u32, first: i64) -> rusqlite::Result<()> {
    let state = shared.state();
    let Some(found) = state.archive(archive) else { return Ok(()) };
    let (owner, next, last_stamp) = (found.owner.clone(), found.next, found.last_stamp);
    drop(state);
    rows::put_archive(connection, archive, &owner, (first.min(next), next, last_stamp))
}

/// The number of an archive that is known to nobody, or only to this transaction: numbers from `free` on are not
/// given to anybody else.
pub fn new_number(connection: &Connection, owner: &str, free: u32) -> rusqlite::Result<u32> {
    let given = connection
        .prepare_cached("SELECT archive FROM archives WHERE archive >= ?1 AND owner = ?2")?
        .query_row(params![free, owner], |row| row.get(0))
        .optional()?;
    match given {
        Some(number) => Ok(number),
        None => connection
            .prepare_cached("SELECT max(?1, coalesce(max(archive), -1) + 1) FROM archives")?
            .query_row([free], |row| row.get(0)),
    }
}

impl EmbeddedStore {
    async fn set_one(&self, owner: String, change: SettingsChange) -> Result<(), StoreError> {
        let written = change.clone();
        let of = owner.clone();
        self.change(
            move |connection, shared| {
                let state = shared.state();
                let head = state.of(&of).map_or(Head::NEW, crate::state::ArchiveState::head);
                let (known, free) = (state.number(&of), state.next_number());
                drop(state);
                let number = known.map_or_else(|| new_number(connection, &of, free), Ok)?;
                rows::put_archive(connection, number, &of, (head.first.0, head.next.0, head.last_stamp.0))?;
                let (prefs, period) = match written {
                    SettingsChange::Prefs(prefs) => (Some(prefs.as_ref().map(ToString::to_string)), None),
                    SettingsChange::ExpiresAfter(period) => (None, Some(period.map(rows::seconds))),
                };
                rows::put_settings(connection, number, prefs, period)?;
                Ok(number)
            },
            move |shared, number| {
                let mut state = shared.state_mut();
                state.add_archive(number, &owner).map_err(ReadError::from)?;
                let Some(archive) = state.archive_mut(number) else { return Ok(()) };
                archive.catalogued = true;
                let mut settings = archive.settings.take().map_or_else(Settings::default, |s| *s);
                match change {
                    SettingsChange::Prefs(prefs) => settings.prefs = prefs,
                    SettingsChange::ExpiresAfter(period) => settings.expires_after = period,
                }
                archive.settings = (settings != Settings::default()).then(|| Box::new(settings));
                Ok(())
            },
        )
        .await
    }
}

fn owners(
    shared: &Shared,
    context: &mut Context,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<ArchiveInfo>, StoreError> {
    let found: Vec<_> = {
        let state = shared.state();
        let found = state.in_order(after).take(limit);
        found
            .map(|(number, archive)| {
                let period = archive.settings.as_deref().and_then(|settings| settings.expires_after);
                (archive.owner.clone(), archive.head(), archive.first_stamp, state.bytes(number), period)
            })
            .collect()
    };
    let mut infos = Vec::with_capacity(found.len());
    for (owner, mut head, mut first_stamp, bytes, expires_after) in found {
        if first_stamp.is_none() && head.count() > 0 {
            (head, first_stamp) = look(shared, context, &owner, |reading| match reading {
                None => Ok((head, None)),
                Some(reading) => {
                    let head = reading.snapshot.head;
                    let stamp = if head.count() > 0 { reading.stamp(head.first.0)? } else { None };
                    Ok((head, stamp))
                }
            })?;
            shared.state_mut().saw_first_stamp(&owner, head.first.0, first_stamp);
        }
        let owner = BareJid::new(&owner)
            .map_err(|_| StoreError::corrupt(Damaged::new("an owner is not a bare JID")))?;
        infos.push(ArchiveInfo {
            owner,
            head,
            first_stamp: first_stamp.map(Timestamp),
            bytes,
            expires_after,
        });
    }
    Ok(infos)
}
