//! One message as it goes through the lanes: what both of its halves share, and what each has for itself. What
//! is done with a half is left to the lane that it is in.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jid::Jid;
use mammoth_wire::carbons;
use mammoth_wire::eligible::{Direction, Eligible, eligible};
use mammoth_wire::retract::{self, Retraction};
use mammoth_wire::stanza::Stanza;
use tokio::sync::Notify;

/// A message on its way, shared by its sender's session and the lanes that it goes through.
#[derive(Debug)]
pub struct Message {
    /// As it was sent.
    pub read: Stanza,
    /// As it is archived: whole, from the session's full JID, without stanza-ids of ours.
    pub stanza: Bytes,
    /// Who sends it.
    pub from: Jid,
    /// Who is to have it.
    pub to: Jid,
    /// Which earlier message it retracts, if it does.
    pub retraction: Option<Retraction>,
    /// What became of it: told once both halves are in and the recipient's is delivered.
    pub passed: Told<Passed>,
    sent: Told<bool>,
    received: Told<bool>,
}

impl Message {
    /// A message that has not entered a lane yet.
    #[must_use]
    pub fn new(read: Stanza, stanza: Bytes, from: Jid, to: Jid) -> Arc<Message> {
        Arc::new(Message {
            retraction: retract::read(&read),
            read,
            stanza,
            from,
            to,
            passed: Told::default(),
            sent: Told::default(),
            received: Told::default(),
        })
    }
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

/// Whose half of a message a lane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The owner sent it.
    Sent,
    /// The owner is to have it.
    Received,
    /// Both: the owner wrote to one of its own addresses.
    Own,
    /// The owner is told that a message could not be delivered; nobody has another half.
    Bounce,
}

/// One half of a message. If it is dropped before the lane has done its part, the message counts as not kept.
#[derive(Debug)]
pub struct Item {
    /// What both halves share.
    pub message: Arc<Message>,
    /// Whose half this is, and so whom to deliver to.
    pub side: Side,
}

impl Item {
    /// The half of `message` for one side.
    #[must_use]
    pub fn new(message: &Arc<Message>, side: Side) -> Item {
        Item { message: message.clone(), side }
    }

    fn direction(&self) -> Direction {
        match self.side {
            Side::Sent | Side::Own => Direction::Outgoing,
            Side::Received | Side::Bounce => Direction::Incoming,
        }
    }

    /// Whether it is worth archiving.
    #[must_use]
    pub fn eligible(&self) -> Eligible {
        eligible(&self.message.read, self.direction())
    }

    /// Whether the owner's other resources may have it as a carbon.
    #[must_use]
    pub fn copied(&self) -> bool {
        carbons::copied(&self.message.read, self.direction())
    }

    /// The other end, as on the wire.
    #[must_use]
    pub fn with(&self) -> &Jid {
        match self.side {
            Side::Sent | Side::Own => &self.message.to,
            Side::Received | Side::Bounce => &self.message.from,
        }
    }

    /// Tells the other half whether this one is in: archived, or not to be archived.
    pub fn tell(&self, is_in: bool) {
        match self.side {
            Side::Sent => self.message.sent.tell(is_in),
            Side::Received => self.message.received.tell(is_in),
            Side::Own | Side::Bounce => {}
        }
    }

    /// Whether the other half is in; `None` if there is none.
    #[must_use]
    pub fn other(&self) -> Option<&Told<bool>> {
        match self.side {
            Side::Sent => Some(&self.message.received),
            Side::Received => Some(&self.message.sent),
            Side::Own | Side::Bounce => None,
        }
    }

    /// Tells the sender what became of the message, if this is the half that does.
    pub fn end(&self, passed: Passed) {
        if let Side::Received | Side::Own = self.side {
            self.message.passed.tell(passed);
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.tell(false);
        self.end(Passed::NotKept);
    }
}

/// Something that is told once, to one who waits for it; what is told later counts for nothing.
#[derive(Debug)]
pub struct Told<T> {
    what: OnceLock<T>,
    waiting: Notify,
}

impl<T: Copy> Told<T> {
    /// Tells it.
    pub fn tell(&self, what: T) {
        if self.what.set(what).is_ok() {
            self.waiting.notify_one();
        }
    }

    /// What was told, if it has been told.
    #[must_use]
    pub fn known(&self) -> Option<T> {
        self.what.get().copied()
    }

    /// Waits until it is told. For one waiter.
    pub async fn told(&self) -> T {
        loop {
            if let Some(what) = self.known() {
                return what;
            }
            self.waiting.notified().await;
        }
    }
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Told { what: OnceLock::new(), waiting: Notify::new() }
    }
}
