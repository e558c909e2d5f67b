//! The keeper of one store: a thread that takes what has queued up in all lanes and hands it to the store together,
//! so that it becomes durable in one commit. When the store does not take it, it is offered again until it does.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mammoth_archive::jid::BareJid;
use mammoth_archive::{ArchiveStore, NewEntry, Position, StoreError};
use mammoth_store_embedded::EmbeddedStore;

use crate::Fail;
use crate::block::{Boxed, block_on_all};
use crate::lane::Lane;

/// How many lanes can wait for the keeper; telling it of a further one waits for room.
const LANES_MAX: usize = 16_384;
/// The most entries of one lane in one append.
const ENTRIES_MAX: usize = 1000;
/// The most lanes in one round.
const ROUND_LANES_MAX: usize = 1000;
/// How long it waits before it offers again what the store did not take.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How often it offers it again while the store is closing.
const TRIES_AT_END: u32 = 3;

enum Note {
    Lane(Arc<Lane>),
    Stop,
}

/// The keeper's end that others hold.
pub struct Keeper {
    notes: SyncSender<Note>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Starts the keeper of a store.
    pub fn start(store: Arc<EmbeddedStore>) -> std::io::Result<Keeper> {
        let (notes, inbox) = sync_channel(LANES_MAX);
        let run = move || Rounds { store, inbox, stopping: false }.run();
        let thread = std::thread::Builder::new().name("mammoth-keeper".into()).spawn(run)?;
        Ok(Keeper { notes, thread: Mutex::new(Some(thread)) })
    }

    /// Says that a lane has something waiting.
    pub fn tell(&self, lane: &Arc<Lane>) {
        // Nobody listens only once the store is closed: then nothing can be kept.
        match self.notes.try_send(Note::Lane(lane.clone())) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(note)) => drop(self.notes.send(note)),
        }
    }

    /// Waits until what was told is kept, and ends the thread.
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(self.notes.send(Note::Stop));
            drop(thread.join());
        }
    }
}

struct Rounds {
    store: Arc<EmbeddedStore>,
    inbox: Receiver<Note>,
    stopping: bool,
}

/// What is handed over of one lane.
struct Batch {
    lane: Arc<Lane>,
    at: i64,
    entries: Arc<[NewEntry]>,
    marks_at: i64,
    marks: Arc<[NewEntry]>,
}

impl Rounds {
    fn run(mut self) {
        let mut lanes: Vec<Arc<Lane>> = Vec::new();
        loop {
            if lanes.is_empty() {
                if self.stopping {
                    return;
                }
                match self.inbox.recv() {
                    Ok(Note::Lane(lane)) => lanes.push(lane),
                    Ok(Note::Stop) | Err(_) => self.stopping = true,
                }
            }
            while lanes.len() < ROUND_LANES_MAX {
                match self.inbox.try_recv() {
                    Ok(Note::Lane(lane)) => lanes.push(lane),
                    Ok(Note::Stop) => self.stopping = true,
                    Err(_) => break,
                }
            }
            lanes = self.round(lanes);
        }
    }

    /// Makes what waits in these lanes durable; answers those in which more waits.
    fn round(&self, lanes: Vec<Arc<Lane>>) -> Vec<Arc<Lane>> {
        let batches: Vec<Batch> = lanes.into_iter().map(take).collect();
        let mut tries = 0;
        let mut left: Vec<&Batch> = batches.iter().collect();
        loop {
            let futures: Vec<Boxed<'_, Result<(), StoreError>>> =
                left.iter().map(|batch| self.keep(batch)).collect();
            let outcomes = block_on_all(futures);
            left =
                left.into_iter().zip(outcomes).filter_map(|(batch, outcome)| kept(batch, outcome)).collect();
            if left.is_empty() {
                break;
            }
            tries += 1;
            if self.stopping && tries >= TRIES_AT_END {
                return Vec::new();
            }
            std::thread::sleep(AGAIN_AFTER);
        }
        let more = |batch: Batch| {
            let mut state = batch.lane.state();
            let waits = !state.waiting.is_empty() || !state.marks_waiting.is_empty();
            state.told = waits;
            drop(state);
            waits.then_some(batch.lane)
        };
        batches.into_iter().filter_map(more).collect()
    }

    fn keep<'a>(&'a self, batch: &'a Batch) -> Boxed<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.append(&batch.lane.marks_owner, batch.marks_at, &batch.marks).await?;
            self.append(&batch.lane.owner, batch.at, &batch.entries).await
        })
    }

    async fn append(&self, owner: &BareJid, at: i64, entries: &Arc<[NewEntry]>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.store.append(owner, Position(at), entries.clone()).await
    }
}

fn take(lane: Arc<Lane>) -> Batch {
    let mut state = lane.state();
    let some = state.waiting.len().min(ENTRIES_MAX);
    let entries: Arc<[NewEntry]> = state.waiting.drain(..some).collect();
    let marks: Arc<[NewEntry]> = state.marks_waiting.drain(..).collect();
    let (at, marks_at) = (state.committed, state.marks_committed);
    drop(state);
    Batch { lane, at, entries, marks_at, marks }
}

/// Notes the outcome in the lane; answers the batch if it is to be offered again.
fn kept(batch: &Batch, outcome: Result<(), StoreError>) -> Option<&Batch> {
    let mut state = batch.lane.state();
    let mut told = Vec::new();
    let again = match outcome {
        Ok(()) => {
            state.committed = batch.at + batch.entries.len() as i64;
            state.marks_committed = batch.marks_at + batch.marks.len() as i64;
            state.failing = None;
            state.since = (!state.waiting.is_empty()).then(crate::clock::instant);
            let committed = state.committed;
            if !state.keys.is_empty() {
                state.keys.retain(|_, position| *position >= committed);
            }
            if !state.waiters.is_empty() {
                let waiters = std::mem::take(&mut state.waiters);
                let (ready, later) = waiters.into_iter().partition(|(next, _)| *next <= committed);
                (told, state.waiters) = (ready, later);
            }
            None
        }
        Err(error) => {
            state.failing = Some(error.to_string());
            told = std::mem::take(&mut state.waiters);
            Some(batch)
        }
    };
    let failing = state.failing.clone();
    drop(state);
    batch.lane.notify();
    for (_, waiter) in told {
        waiter(failing.clone().map_or(Ok(()), |why| Err(Fail::Storage(why))));
    }
    again
}
