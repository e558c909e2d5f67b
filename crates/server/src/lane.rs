//! A lane is the one writer of one active archive. Messages enter it in order; it decides by the owner's prefs,
//! gives position, stamp and id, appends what has queued up as one batch, and only when that is durable
//! delivers to the owner's resources, in the same order. Who may send what to whom is left to `message`.
//!
//! A lane waits for its store and for nobody else. A message that crosses two lanes (its sender's and its
//! recipient's) is delivered once both halves are in; a lane goes on appending meanwhile.

mod decide;
mod half;
mod write;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jid::BareJid;
use mammoth_archive::{Head, IdMint, Position, Prefs, Settings, SettingsChange, StanzaId, StoreError};
use mammoth_wire::retract::{self, Retraction};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::house::House;
use crate::online::Resource;
use crate::{clock, deliver};

pub use decide::ARCHIVE_OFF;
pub use half::{Item, Message, Passed, Side, Told};
use write::{Entered, Write};

/// How many messages may wait for one lane; whoever sends more waits.
const LANE_QUEUE: usize = 256;
/// The most messages in one append.
const LANE_BATCH: usize = 256;
/// The most messages of one lane that may wait for their other halves.
const LANE_PENDING_MAX: usize = 4096;
/// How long a lane without work stays, in seconds.
const LANE_IDLE_SECONDS: u64 = 20;

enum Job {
    Pass(Item),
    Set(Box<SettingsChange>, oneshot::Sender<Result<Settings, StoreError>>),
    Settings(oneshot::Sender<Result<Settings, StoreError>>),
    /// Answered when everything that entered before is durable and delivered.
    Settle(oneshot::Sender<()>),
}

/// The lanes of the archives that are being written to.
#[derive(Debug, Default)]
pub struct Lanes(Mutex<HashMap<BareJid, mpsc::Sender<Job>>>);

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, HashMap<BareJid, mpsc::Sender<Job>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, house: &Arc<House>, owner: &BareJid) -> mpsc::Sender<Job> {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.get(owner) {
            return lane.clone();
        }
        let (jobs, queue) = mpsc::channel(LANE_QUEUE);
        lanes.insert(owner.clone(), jobs.clone());
        house.metrics.lanes.inc();
        let lane = Lane::new(house.clone(), owner.clone(), queue);
        tokio::spawn(lane.run());
        jobs
    }

    async fn send(&self, house: &Arc<House>, owner: &BareJid, job: Job) {
        // A lane ends only when nobody holds its sender, so this cannot fail while the runtime lives.
        if self.of(house, owner).send(job).await.is_err() {
            error!(archive.owner = %owner, "a lane has ended with work in its queue");
        }
    }

    /// Lets a message enter the lane of `owner`, behind everything that entered before.
    pub async fn pass(&self, house: &Arc<House>, owner: &BareJid, item: Item) {
        self.send(house, owner, Job::Pass(item)).await;
    }

    /// Changes a setting between two messages: what enters later sees it.
    ///
    /// # Errors
    /// As the store.
    pub async fn set(
        &self,
        house: &Arc<House>,
        owner: &BareJid,
        change: SettingsChange,
    ) -> Result<Settings, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(house, owner, Job::Set(Box::new(change), reply)).await;
        answer.await.unwrap_or_else(|_| Err(StoreError::unavailable("the lane has ended")))
    }

    /// The settings that the next message will be decided by.
    ///
    /// # Errors
    /// As the store.
    pub async fn settings(&self, house: &Arc<House>, owner: &BareJid) -> Result<Settings, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(house, owner, Job::Settings(reply)).await;
        answer.await.unwrap_or_else(|_| Err(StoreError::unavailable("the lane has ended")))
    }

    /// Waits until everything that has entered the lane of `owner` is durable and delivered.
    pub async fn settle(&self, house: &Arc<House>, owner: &BareJid) {
        let (reply, answer) = oneshot::channel();
        self.send(house, owner, Job::Settle(reply)).await;
        let _ = answer.await;
    }

    /// Ends a lane that nobody is about to enter. Answers whether it did.
    fn retire(&self, owner: &BareJid, queue: &mpsc::Receiver<Job>) -> bool {
        let mut lanes = self.lock();
        let unused = lanes.get(owner).is_some_and(|jobs| jobs.strong_count() == 1) && queue.is_empty();
        if unused {
            lanes.remove(owner);
        }
        unused
    }
}

/// The own half of a message.
enum Half {
    /// Archived.
    Kept(StanzaId, Position),
    /// Not to be archived.
    NotWanted,
    /// To be archived, and it could not be.
    Failed,
}

/// What waits to be delivered.
enum Pending {
    /// The own half is decided and, if it was to be kept, durable or refused.
    Message(Item, Half),
    Settle(oneshot::Sender<()>),
}

impl Pending {
    /// Whether the other half of the message is in, if there is one; `None` if that is not known yet.
    fn ready(&self) -> Option<bool> {
        match self {
            Pending::Message(item, _) => item.other().map_or(Some(true), Told::known),
            Pending::Settle(_) => Some(true),
        }
    }
}

type Writing = Pin<Box<dyn Future<Output = (Option<Head>, Vec<Pending>)> + Send>>;

struct Lane {
    house: Arc<House>,
    owner: BareJid,
    mint: IdMint,
    queue: mpsc::Receiver<Job>,
    /// What the archive looks like after the last append; `None` when it must be asked again.
    head: Option<Head>,
    settings: Option<Settings>,
    /// For an owner that has set none.
    default_prefs: Prefs,
    writing: Option<Writing>,
    pending: VecDeque<Pending>,
}

impl Lane {
    fn new(house: Arc<House>, owner: BareJid, queue: mpsc::Receiver<Job>) -> Lane {
        let mint = house.archive.mint(&owner);
        let default_prefs = Prefs::new(house.settings.default_policy, [], []);
        Lane {
            house,
            owner,
            mint,
            queue,
            head: None,
            settings: None,
            default_prefs,
            writing: None,
            pending: VecDeque::new(),
        }
    }

    async fn run(mut self) {
        let mut jobs = Vec::new();
        loop {
            let free = self.writing.is_none() && self.pending.len() < LANE_PENDING_MAX;
            let idle = free && self.pending.is_empty();
            tokio::select! {
                biased;
                other = front_ready(&self.pending), if !self.pending.is_empty() => {
                    self.deliver(other).await;
                }
                (head, decided) = wait_for(&mut self.writing), if self.writing.is_some() => {
                    self.writing = None;
                    self.head = head;
                    self.pending.extend(decided);
                }
                n = self.queue.recv_many(&mut jobs, LANE_BATCH), if free => {
                    if n == 0 {
                        break;
                    }
                    self.take(&mut jobs).await;
                }
                () = tokio::time::sleep(Duration::from_secs(LANE_IDLE_SECONDS)), if idle => {
                    if self.house.lanes.retire(&self.owner, &self.queue) {
                        break;
                    }
                }
            }
        }
        self.house.metrics.lanes.dec();
    }

    /// Decides on what has queued up and starts the append.
    async fn take(&mut self, jobs: &mut Vec<Job>) {
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Pass(item) => {
                    let keep = self.decide(&item).await;
                    batch.push(Entered::Message(item, keep));
                }
                Job::Set(change, reply) => {
                    let result = self.house.archive.store().set(&self.owner, *change).await;
                    self.settings = None;
                    let result = match result {
                        Ok(()) => self.settings().await,
                        Err(error) => Err(error),
                    };
                    let _ = reply.send(result);
                }
                Job::Settings(reply) => {
                    let _ = reply.send(self.settings().await);
                }
                Job::Settle(reply) => batch.push(Entered::Settle(reply)),
            }
        }
        if batch.is_empty() {
            return;
        }
        let work = Write {
            house: self.house.clone(),
            owner: self.owner.clone(),
            mint: self.mint.clone(),
            head: self.head,
        };
        self.writing = Some(Box::pin(work.run(batch)));
    }

    async fn settings(&mut self) -> Result<Settings, StoreError> {
        if let Some(settings) = &self.settings {
            return Ok(settings.clone());
        }
        let settings = self.house.archive.store().settings(&self.owner).await?;
        self.settings = Some(settings.clone());
        Ok(settings)
    }

    /// Delivers the message at the front, its other half having told `other`, and those behind it that are ready.
    async fn deliver(&mut self, other: bool) {
        let resources = self.house.online.of(&self.owner);
        let mut ready = Some(other);
        while let Some(other) = ready
            && let Some(pending) = self.pending.pop_front()
        {
            match pending {
                Pending::Message(item, half) => self.deliver_one(&resources, &item, half, other).await,
                Pending::Settle(reply) => {
                    let _ = reply.send(());
                }
            }
            ready = self.pending.front().and_then(Pending::ready);
        }
    }

    async fn deliver_one(&mut self, resources: &[Arc<Resource>], item: &Item, half: Half, other: bool) {
        let kept = match half {
            // A bounce is told even when it cannot be archived: it is all that its receiver will hear.
            Half::Failed if item.side == Side::Bounce => Some(None),
            Half::Failed => None,
            Half::Kept(id, position) if !other => {
                withdraw(&self.house, &self.owner, &item.message, position, &id).await;
                None
            }
            Half::NotWanted if !other => None,
            Half::Kept(id, _) => Some(Some(id)),
            Half::NotWanted => Some(None),
        };
        let passed = match kept {
            None => Passed::NotKept,
            Some(id) => {
                let reached = deliver::deliver(&self.house, resources, &self.owner, item, id.as_ref());
                if reached || id.is_some() { Passed::Delivered } else { Passed::Nobody }
            }
        };
        item.end(passed);
    }
}

/// The other half of a message could not be kept, so its sender is told that it failed: what is in this
/// archive already becomes a tombstone.
async fn withdraw(house: &House, owner: &BareJid, message: &Message, position: Position, id: &StanzaId) {
    warn!(archive.owner = %owner, stanza.id = %id, "withdrawn: the other archive could not keep it");
    let message_id = message.read.id().unwrap_or_default().to_owned();
    let withdrawal = Retraction { of: message_id.clone(), id: message_id };
    let tombstone = retract::tombstone(&message.stanza, &withdrawal, clock::now());
    if let Err(error) = house.archive.store().retract(owner, position, tombstone).await {
        error!(archive.owner = %owner, stanza.id = %id, %error, "cannot withdraw");
    }
}

/// Waits until the other half of the message at the front is known; answers whether it is in.
async fn front_ready(pending: &VecDeque<Pending>) -> bool {
    match pending.front() {
        Some(Pending::Message(item, _)) => match item.other() {
            Some(other) => other.told().await,
            None => true,
        },
        Some(Pending::Settle(_)) | None => true,
    }
}

async fn wait_for(writing: &mut Option<Writing>) -> (Option<Head>, Vec<Pending>) {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}
