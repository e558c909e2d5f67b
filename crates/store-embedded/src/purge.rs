//! Purge: an archive goes at once for every reader, and then from every file: the log it may be in is sealed and
//! unlinked, segments that hold anything of it are written anew, dictionaries trained on it are trained without
//! it, and the small database overwrites what it deletes. What a backup kept is out of reach.

use std::fs;
use std::sync::PoisonError;
use std::time::Duration;

use mammoth_archive::StoreError;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::build::BuildError;
use crate::merge::merge;
use crate::open::generations;
use crate::plan::Plan;
use crate::writer::Op;
use crate::{EmbeddedStore, Shared, rows};

/// How often it is looked whether the last reader of a replaced file has let go.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How often at most.
const LOOKS_MAX: u32 = 2000;

/// An archive to be removed from every file.
pub struct Request {
    archive: u32,
    /// Nothing of it was appended in a later generation of the log.
    through: u64,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl EmbeddedStore {
    /// As [`mammoth_archive::ArchiveStore::purge`].
    pub(crate) async fn purge_archive(&self, owner: &str) -> Result<(), StoreError> {
        let Some(archive) = self.shared.state().number(owner) else { return Ok(()) };
        let through = self
            .change(
                move |connection, shared| forget(connection, shared, archive),
                move |shared, next| {
                    shared.expired(archive, next, None);
                    let mut state = shared.state_mut();
                    if let Some(known) = state.archive_mut(archive) {
                        known.settings = None;
                        known.catalogued = true;
                    }
                    Ok(state.active.generation)
                },
            )
            .await?;
        let in_memory = {
            let active = self.shared.active();
            active.generation <= through && active.span(archive).is_some()
        };
        if in_memory {
            let (done, frozen) = oneshot::channel();
            self.write(Op::Freeze(done), frozen).await?;
        }
        let (done, purged) = oneshot::channel();
        self.shared.work_mut(|work| work.purges.push(Request { archive, through, done }));
        purged.await.map_err(|_| StoreError::unavailable(crate::WriteError::Closed))?
    }
}

/// Removes what the small database has of an archive but its high-water mark, which it answers.
fn forget(connection: &Connection, shared: &Shared, archive: u32) -> rusqlite::Result<i64> {
    let state = shared.state();
    let Some(known) = state.archive(archive) else { return Ok(0) };
    let (owner, next, last_stamp) = (known.owner.clone(), known.next, known.last_stamp);
    drop(state);
    rows::put_archive(connection, archive, &owner, (next, next, last_stamp))?;
    rows::put_settings(connection, archive, Some(None), Some(None))?;
    connection
        .prepare_cached("DELETE FROM overrides WHERE archive = ?1 AND position < ?2")?
        .execute(params![archive, next])?;
    Ok(next)
}

impl Request {
    /// Does it, and answers.
    pub fn carry_out(self, shared: &Shared) {
        let outcome = self.rewrite(shared);
        drop(self.done.send(outcome.map_err(|error| {
            tracing::warn!(%error, "a purged archive is still in some file");
            StoreError::unavailable(error)
        })));
    }

    fn rewrite(&self, shared: &Shared) -> Result<(), BuildError> {
        self.wait_for_seal(shared)?;
        for segment in shared.segments() {
            if !segment.reader()?.knows(self.archive)? {
                continue;
            }
            let (file, level) = (segment.file().to_owned(), segment.level);
            merge(shared, &Plan { sources: vec![segment], level }, Some(self.archive))?;
            wait_until(shared, "a reader still uses a replaced segment", || Ok(!file.exists()))?;
        }
        let logs = || Ok(generations(&shared.dir)?.first().is_none_or(|oldest| *oldest > self.through));
        if self.was_logged(shared) {
            wait_until(shared, "the log is still there", logs)?;
        }
        wait_until(shared, "another process reads the small database", || {
            let catalog = shared.catalog();
            let busy =
                catalog.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))?;
            Ok(busy == 0)
        })
    }

    /// Whether the log that is written to is later than all that the archive was in.
    fn was_logged(&self, shared: &Shared) -> bool {
        shared.active().generation > self.through
    }

    fn wait_for_seal(&self, shared: &Shared) -> Result<(), BuildError> {
        let mut work = shared.work.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if !shared.tables().iter().any(|t| t.generation <= self.through && t.span(self.archive).is_some())
            {
                return Ok(());
            }
            if work.closing {
                return Err(crate::WriteError::Closed.into());
            }
            if let Some(why) = &work.seal_failed {
                return Err(crate::WriteError::Disk(why.clone()).into());
            }
            work = shared.worked.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn wait_until(
    shared: &Shared,
    what: &str,
    is_so: impl Fn() -> Result<bool, BuildError>,
) -> Result<(), BuildError> {
    for _ in 0..LOOKS_MAX {
        if is_so()? {
            return Ok(());
        }
        shared.go_on()?;
        shared.pause(LOOK_AGAIN, |_| false);
    }
    Err(crate::WriteError::Disk(what.to_owned()).into())
}

/// Removes a file that may be gone already.
pub fn remove_if_there(path: &std::path::Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
