//! The background: deleting the rows that expiry has left behind, in small steps that leave the database as much
//! time as they take, and vacuuming what a purge has emptied. What a step does is left to `forget`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::Stopwatch;
use crate::failure::Failure;
use crate::forget::remove_some;
use crate::key::Key;
use crate::pool::Pool;
use crate::retry::in_time;
use crate::session::{Connecting, Use, column};
use crate::sql;

/// How often the database is asked for archives that nobody here has expired: another process may have ended
/// before it was done.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How many archives one look asks for.
const LOOK_MAX: i64 = 1_000;
/// How many notes may wait; what finds no room is found by looking.
const NOTES_MAX: usize = 10_000;
/// The longest pause between two steps.
const PAUSE_MAX: Duration = Duration::from_secs(1);

enum Note {
    Archive(Key),
    Table(String),
    Settled(oneshot::Sender<()>),
}

/// What is to be done in the background.
pub struct Sweep {
    notes: mpsc::Sender<Note>,
}

impl Sweep {
    /// Starts the task. It ends with the sweep.
    pub fn start(pool: Arc<Pool>, connector: Connecting, answer_time: Duration) -> Sweep {
        let (notes, queue) = mpsc::channel(NOTES_MAX);
        tokio::spawn(Task { queue, pool, connector, answer_time }.run());
        Sweep { notes }
    }

    /// Notes that an archive has rows to be deleted.
    pub fn note(&self, archive: Key) {
        let _ = self.notes.try_send(Note::Archive(archive));
    }

    /// Notes that a table has much to be freed; when there is no room, autovacuum will.
    pub fn note_table(&self, table: String) {
        let _ = self.notes.try_send(Note::Table(table));
    }

    /// Waits until all that was noted before has been tried.
    pub async fn settled(&self) {
        let (done, settled) = oneshot::channel();
        if self.notes.send(Note::Settled(done)).await.is_ok() {
            let _ = settled.await;
        }
    }
}

struct Task {
    queue: mpsc::Receiver<Note>,
    pool: Arc<Pool>,
    connector: Connecting,
    answer_time: Duration,
}

impl Task {
    async fn run(mut self) {
        self.look().await;
        loop {
            match tokio::time::timeout(LOOK_EVERY, self.queue.recv()).await {
                Err(_) => self.look().await,
                Ok(None) => return,
                Ok(Some(Note::Archive(archive))) => self.remove(archive).await,
                Ok(Some(Note::Table(table))) => self.vacuum(&table).await,
                Ok(Some(Note::Settled(done))) => {
                    let _ = done.send(());
                }
            }
        }
    }

    async fn look(&self) {
        match self.waiting().await {
            Ok(archives) => {
                for archive in archives {
                    if self.queue.is_closed() {
                        return;
                    }
                    self.remove(archive).await;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look for expired rows; will try again"),
        }
    }

    async fn waiting(&self) -> Result<Vec<Key>, Failure> {
        let held = self.pool.get().await?;
        let rows = in_time(self.answer_time, held.session().rows(sql::TO_REMOVE, &[&LOOK_MAX])).await?;
        held.give_back();
        rows.iter().map(|row| column(row, 0)).collect()
    }

    /// Deletes all that an archive has left behind.
    async fn remove(&self, archive: Key) {
        loop {
            let step = Stopwatch::start();
            match self.step(archive).await {
                Ok(true) if !self.queue.is_closed() => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot delete expired rows now; will try again");
                    return;
                }
            }
            tokio::time::sleep(step.elapsed().min(PAUSE_MAX)).await;
        }
    }

    async fn step(&self, archive: Key) -> Result<bool, Failure> {
        let held = self.pool.get().await?;
        let more = in_time(self.answer_time, remove_some(held.session(), archive)).await?;
        held.give_back();
        Ok(more)
    }

    /// Vacuums with a session of its own, which takes as long as it takes.
    async fn vacuum(&self, table: &str) {
        let done = async {
            let session = self.connector.session(Use::Vacuums).await?;
            session.run(&sql::vacuum(table)).await
        };
        match done.await {
            Ok(()) => tracing::info!(table, "vacuumed after a purge"),
            Err(error) => tracing::warn!(%error, table, "cannot vacuum after a purge; autovacuum will"),
        }
    }
}
