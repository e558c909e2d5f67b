//! Writing a lane's batch: an append that is repeated until its outcome is known, the retractions in it, and its
//! halves' word to their other halves. What goes into a batch is decided before, delivering comes after.

use std::sync::Arc;
use std::time::Duration;

use jid::BareJid;
use mammoth_archive::{Appended, Archive, Arrival, Head, IdMint, Position, StoreError};
use mammoth_wire::retract::{self, Retraction};
use tokio::sync::oneshot;
use tracing::{debug, error, warn};

use super::decide::Keep;
use super::{Half, Item, Pending, Side};
use crate::clock::{self, Stopwatch};
use crate::house::House;

/// How often an append of unknown outcome is repeated before its messages are refused.
const APPEND_TRIES: u32 = 8;
/// The pause before the first repetition, in milliseconds; it doubles each time.
const APPEND_PAUSE_MS: u64 = 20;

/// What has been decided on and waits to be written, in order.
pub(super) enum Entered {
    /// One half of a message.
    Message(Item, Keep),
    /// Somebody who waits for all that is before.
    Settle(oneshot::Sender<()>),
}

/// One batch on its way into the store.
pub(super) struct Write {
    pub(super) house: Arc<House>,
    pub(super) owner: BareJid,
    pub(super) mint: IdMint,
    pub(super) head: Option<Head>,
}

impl Write {
    /// Writes the batch. Answers what the archive looks like now, if that is known, and what is to be delivered.
    pub(super) async fn run(self, batch: Vec<Entered>) -> (Option<Head>, Vec<Pending>) {
        let arrivals: Vec<Arrival> = batch
            .iter()
            .filter_map(|entered| match entered {
                Entered::Message(item, Keep::Yes) => Some(Arrival {
                    with: item.with().clone(),
                    stanza: item.message.stanza.clone(),
                    message_id: item.message.read.id().map(str::to_owned),
                }),
                Entered::Message(..) | Entered::Settle(_) => None,
            })
            .collect();
        let appended = if arrivals.is_empty() { Ok(None) } else { self.append(arrivals).await.map(Some) };
        let head = match &appended {
            Ok(Some(appended)) => Some(appended.head),
            Ok(None) => self.head,
            Err(()) => None,
        };
        let at =
            appended.as_ref().ok().and_then(Option::as_ref).map_or(Position::START, |appended| appended.at);
        let ids = appended.ok().flatten().map(|appended| appended.ids).unwrap_or_default();
        let mut places = (0_i64..).zip(ids).map(|(i, id)| Half::Kept(id, at.offset(i)));
        let mut decided = Vec::with_capacity(batch.len());
        for entered in batch {
            let (item, keep) = match entered {
                Entered::Message(item, keep) => (item, keep),
                Entered::Settle(reply) => {
                    decided.push(Pending::Settle(reply));
                    continue;
                }
            };
            let half = match keep {
                Keep::No => Half::NotWanted,
                Keep::Cannot => Half::Failed,
                Keep::Yes => places.next().unwrap_or(Half::Failed),
            };
            if let (Some(retraction), Half::Kept(..)) = (&item.message.retraction, &half) {
                self.retract(&item, retraction).await;
            }
            item.tell(!matches!(half, Half::Failed));
            decided.push(Pending::Message(item, half));
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
            Side::Received | Side::Bounce => item.with().to_bare(),
            Side::Sent | Side::Own => self.owner.clone(),
        };
        let now = clock::now();
        let result = self
            .house
            .archive
            .retract(
                &self.owner,
                &item.with().to_bare(),
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
