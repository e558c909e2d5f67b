//! A lane is the one writer of one active archive. Messages enter it in order; it decides by the owner's prefs,
//! gives position, stamp and id, appends what has queued up as one batch, and only when that is durable
//! delivers to the owner's resources, in the same order. Who may send what to whom is left to `message`.
//!
//! A lane waits for its store and for nobody else. A message that crosses two lanes (its sender's and its
//! recipient's) is delivered once both halves are in; a lane goes on appending meanwhile.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jid::{BareJid, FullJid, Jid};
use mammoth_archive::prefs::Decision;
use mammoth_archive::{
    Appended, Archive, Arrival, Head, IdMint, Position, Prefs, Settings, SettingsChange, StanzaId, StoreError,
};
use mammoth_wire::eligible::Eligible;
use mammoth_wire::retract::{self, Retraction};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};

use crate::clock::{self, Stopwatch};
use crate::deliver;
use crate::house::House;
use crate::settings::Module;

/// How many messages may wait for one lane; whoever sends more waits.
const LANE_QUEUE: usize = 256;
/// The most messages in one append.
const LANE_BATCH: usize = 256;
/// The most messages of one lane that may wait for their other halves.
const LANE_PENDING_MAX: usize = 4096;
/// How often an append of unknown outcome is repeated before its messages are refused.
const APPEND_TRIES: u32 = 8;
/// The pause before the first repetition, in milliseconds; it doubles each time.
const APPEND_PAUSE_MS: u64 = 20;
/// How long a lane without work stays, in seconds.
const LANE_IDLE_SECONDS: u64 = 20;

/// The reason code of messages that are not archived because [`Module::Mam`] is off.
pub const ARCHIVE_OFF: &str = "archive-off";

/// A message on its way through one lane.
#[derive(Debug)]
pub struct Item {
    /// The other end, as on the wire.
    pub with: Jid,
    /// The stanza, whole, from the session's full JID, without stanza-ids of ours.
    pub stanza: Bytes,
    /// The stanza's own `id`.
    pub message_id: Option<String>,
    /// The stanza's own `type`.
    pub type_: Option<String>,
    /// Whether it is worth archiving.
    pub eligible: Eligible,
    /// Which earlier message it retracts, if it does.
    pub retraction: Option<Retraction>,
    /// Whose half this is, and so whom to deliver to.
    pub side: Side,
    /// May its other resources have it as a carbon?
    pub carbon: bool,
    /// How this half tells the other lane that it is in, and hears the same.
    pub crossing: Option<Crossing>,
    /// Told once both halves are in and this one is delivered; the recipient's half tells it.
    pub done: Option<oneshot::Sender<Passed>>,
}

/// Whose half of a message a lane has.
#[derive(Debug)]
pub enum Side {
    /// The owner sent it from this resource.
    Sent(FullJid),
    /// The owner is to have it at this address.
    Received(Jid),
    /// Both: the owner wrote from this resource to one of its own addresses.
    Own(FullJid, Jid),
}

/// One half's link to the other.
#[derive(Debug)]
pub struct Crossing {
    ours: oneshot::Sender<bool>,
    theirs: oneshot::Receiver<bool>,
}

/// The two linked halves of one message.
#[must_use]
pub fn crossing() -> (Crossing, Crossing) {
    let (a, from_a) = oneshot::channel();
    let (b, from_b) = oneshot::channel();
    (Crossing { ours: a, theirs: from_b }, Crossing { ours: b, theirs: from_a })
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Its recipient has it, or finds it in the archive.
    Delivered,
    /// Nobody is there, and it is not archived for the recipient.
    Nobody,
    /// It should have been archived and could not be; nobody got it.
    NotKept,
}

enum Job {
    Pass(Box<Item>),
    Set(SettingsChange, oneshot::Sender<Result<Settings, StoreError>>),
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
        self.send(house, owner, Job::Pass(Box::new(item))).await;
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
        self.send(house, owner, Job::Set(change, reply)).await;
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

/// A message whose own half is decided and, if it was to be kept, durable or refused.
struct Decided {
    item: Box<Item>,
    half: Half,
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

enum Pending {
    Message(Decided),
    Settle(oneshot::Sender<()>),
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
    writing: Option<Writing>,
    pending: VecDeque<Pending>,
}

impl Lane {
    fn new(house: Arc<House>, owner: BareJid, queue: mpsc::Receiver<Job>) -> Lane {
        let mint = house.archive.mint(&owner);
        Lane {
            house,
            owner,
            mint,
            queue,
            head: None,
            settings: None,
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
                ready = front_ready(&mut self.pending), if !self.pending.is_empty() => {
                    self.deliver_front(ready).await;
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
                    batch.push((Some(item), keep, None));
                }
                Job::Set(change, reply) => {
                    let result = self.house.archive.store().set(&self.owner, change).await;
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
                Job::Settle(reply) => batch.push((None, Keep::No, Some(reply))),
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

    /// Whether this half of a message is archived: worth it, and wanted by the owner.
    async fn decide(&mut self, item: &Item) -> Keep {
        if !self.house.settings.has(Module::Mam) {
            self.house.metrics.dropped(ARCHIVE_OFF);
            debug!(archive.owner = %self.owner, reason = ARCHIVE_OFF, "not archived");
            return Keep::No;
        }
        let why = match &item.eligible {
            Eligible::Keep(why) => why.code(),
            Eligible::Drop(why) => {
                self.house.metrics.dropped(why.code());
                debug!(archive.owner = %self.owner, reason = why.code(), "not archived");
                return Keep::No;
            }
        };
        if self.settings.is_none()
            && let Err(error) = self.settings().await
        {
            error!(archive.owner = %self.owner, %error, "cannot read the prefs");
            return Keep::Cannot;
        }
        let default;
        let prefs = match self.settings.as_ref().and_then(|settings| settings.prefs.as_ref()) {
            Some(prefs) => prefs,
            None => {
                default = Prefs::new(self.house.settings.default_policy, [], []);
                &default
            }
        };
        let mut decision = prefs.decide(&item.with);
        if decision == Decision::AskRoster {
            match self.house.rosters.contains(&self.owner, &item.with.to_bare()).await {
                Ok(known) => decision = decision.with_roster(known),
                Err(error) => {
                    error!(archive.owner = %self.owner, %error, "cannot read the roster");
                    return Keep::Cannot;
                }
            }
        }
        match decision {
            Decision::Keep(prefs) => {
                self.house.metrics.kept(why);
                debug!(archive.owner = %self.owner, reason = why, prefs = prefs.code(), "archived");
                Keep::Yes
            }
            Decision::Drop(prefs) => {
                self.house.metrics.dropped(prefs.code());
                debug!(archive.owner = %self.owner, reason = prefs.code(), "not archived");
                Keep::No
            }
            Decision::AskRoster => Keep::No,
        }
    }

    /// Delivers the message at the front, its other half having told `other`.
    async fn deliver_front(&mut self, other: bool) {
        let Decided { item, half } = match self.pending.pop_front() {
            Some(Pending::Message(decided)) => decided,
            Some(Pending::Settle(reply)) => {
                let _ = reply.send(());
                return;
            }
            None => return,
        };
        let kept = match half {
            // A bounce is told even when it cannot be archived: it is all that its receiver will hear.
            Half::Failed if item.done.is_none() && item.crossing.is_none() => Some(None),
            Half::Failed => None,
            Half::Kept(id, position) if !other => {
                withdraw(&self.house, &self.owner, &item, position, &id).await;
                None
            }
            _ if !other => None,
            Half::Kept(id, _) => Some(Some(id)),
            Half::NotWanted => Some(None),
        };
        let passed = match kept {
            None => Passed::NotKept,
            Some(id) => {
                let reached = deliver::deliver(&self.house, &self.owner, &item, id.as_ref());
                if reached || id.is_some() { Passed::Delivered } else { Passed::Nobody }
            }
        };
        if let Some(done) = item.done {
            let _ = done.send(passed);
        }
    }
}

/// The other half of a message could not be kept, so its sender is told that it failed: what is in this
/// archive already becomes a tombstone.
async fn withdraw(house: &House, owner: &BareJid, item: &Item, position: Position, id: &StanzaId) {
    warn!(archive.owner = %owner, stanza.id = %id, "withdrawn: the other archive could not keep it");
    let message_id = item.message_id.clone().unwrap_or_default();
    let withdrawal = Retraction { of: message_id.clone(), id: message_id };
    let tombstone = retract::tombstone(&item.stanza, &withdrawal, clock::now());
    if let Err(error) = house.archive.store().retract(owner, position, tombstone).await {
        error!(archive.owner = %owner, stanza.id = %id, %error, "cannot withdraw");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
    Cannot,
}

/// Waits until the other half of the message at the front is known; answers whether it is in.
async fn front_ready(pending: &mut VecDeque<Pending>) -> bool {
    match pending.front_mut() {
        Some(Pending::Message(Decided { item, .. })) => match &mut item.crossing {
            Some(crossing) => (&mut crossing.theirs).await.unwrap_or(false),
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

/// One batch on its way into the store.
struct Write {
    house: Arc<House>,
    owner: BareJid,
    mint: IdMint,
    head: Option<Head>,
}

type Batch = Vec<(Option<Box<Item>>, Keep, Option<oneshot::Sender<()>>)>;

impl Write {
    async fn run(self, batch: Batch) -> (Option<Head>, Vec<Pending>) {
        let arrivals: Vec<Arrival> = batch
            .iter()
            .filter(|(_, keep, _)| *keep == Keep::Yes)
            .filter_map(|(item, _, _)| item.as_ref())
            .map(|item| Arrival {
                with: item.with.clone(),
                stanza: item.stanza.clone(),
                message_id: item.message_id.clone(),
            })
            .collect();
        let appended = if arrivals.is_empty() { Ok(None) } else { self.append(arrivals).await.map(Some) };
        let head = match &appended {
            Ok(Some(appended)) => Some(appended.head),
            Ok(None) => self.head,
            Err(()) => None,
        };
        let mut places = match &appended {
            Ok(Some(appended)) => {
                appended.ids.iter().cloned().zip(0_i64..).map(|(id, i)| (id, appended.at.offset(i))).collect()
            }
            Ok(None) | Err(()) => VecDeque::new(),
        };
        let mut decided = Vec::with_capacity(batch.len());
        for (item, keep, settle) in batch {
            let Some(mut item) = item else {
                decided.extend(settle.map(Pending::Settle));
                continue;
            };
            let half = match keep {
                Keep::No => Half::NotWanted,
                Keep::Cannot => Half::Failed,
                Keep::Yes => {
                    places.pop_front().map_or(Half::Failed, |(id, position)| Half::Kept(id, position))
                }
            };
            if let (Some(retraction), Half::Kept(..)) = (&item.retraction, &half) {
                self.retract(&item, retraction).await;
            }
            if let Some(crossing) = item.crossing.take() {
                let (gone, _) = oneshot::channel();
                let Crossing { ours, theirs } = crossing;
                let _ = ours.send(!matches!(half, Half::Failed));
                item.crossing = Some(Crossing { ours: gone, theirs });
            }
            decided.push(Pending::Message(Decided { item, half }));
        }
        (head, decided)
    }

    /// Makes a batch durable, repeating what may or may not have been done.
    async fn append(&self, arrivals: Vec<Arrival>) -> Result<Appended, ()> {
        let watch = Stopwatch::start();
        let archive = &self.house.archive;
        let count = arrivals.len();
        let mut waiting = Some(arrivals);
        let mut batch: Option<Appended> = None;
        let mut head = self.head;
        for attempt in 0..APPEND_TRIES {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(APPEND_PAUSE_MS << attempt.min(8))).await;
            }
            let known = match head {
                Some(head) => Ok(head),
                None => archive.store().head(&self.owner).await,
            };
            let result = match known {
                Ok(known) => {
                    // A batch keeps its place until the archive says that it is taken.
                    let placed = match (batch.take(), waiting.take()) {
                        (Some(batch), _) if head.is_some() => batch,
                        (Some(batch), _) => batch.moved(&self.mint, known, clock::now()),
                        (None, arrivals) => {
                            Archive::prepare(&self.mint, known, clock::now(), arrivals.unwrap_or_default())
                        }
                    };
                    head = Some(known);
                    archive.append(&self.owner, batch.insert(placed)).await
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => {
                    self.house.metrics.committed(count, watch.seconds());
                    return batch.ok_or(());
                }
                Err(StoreError::Conflict(next)) => {
                    warn!(archive.owner = %self.owner, %next, "another writer has appended; asking again");
                    head = None;
                }
                Err(error @ StoreError::Unavailable(_)) => {
                    warn!(archive.owner = %self.owner, %error, attempt, "append of unknown outcome; repeating");
                }
                Err(error) => {
                    error!(archive.owner = %self.owner, %error, "cannot append");
                    self.house.metrics.store_errors.inc();
                    return Err(());
                }
            }
        }
        error!(archive.owner = %self.owner, "gave up appending");
        self.house.metrics.store_errors.inc();
        Err(())
    }

    /// Carries out a retraction that has just been archived (XEP-0424): only its author's own words go.
    async fn retract(&self, item: &Item, retraction: &Retraction) {
        let author = match &item.side {
            Side::Received(_) => item.with.to_bare(),
            Side::Sent(_) | Side::Own(..) => self.owner.clone(),
        };
        let now = clock::now();
        let result = self
            .house
            .archive
            .retract(
                &self.owner,
                &item.with.to_bare(),
                &retraction.of,
                |entry| retract::is_original(&entry.stanza, &author, &retraction.of),
                |entry| retract::tombstone(&entry.stanza, retraction, now),
            )
            .await;
        match result {
            Ok(true) => {
                self.house.metrics.retracted.inc();
            }
            Ok(false) => debug!(archive.owner = %self.owner, "a retraction of nothing we have"),
            Err(error) => error!(archive.owner = %self.owner, %error, "cannot retract"),
        }
    }
}
