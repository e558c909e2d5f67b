//! Who is connected: the bound resources of every account, and what each has told us of itself. What is sent
//! to them, and why, is left to the paths.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use jid::{BareJid, FullJid, Jid};

use crate::outbox::Outbox;

/// The most JIDs one session may have sent directed presence to; the oldest arrangement is not remembered past it.
pub const DIRECTED_MAX: usize = 1000;

/// One bound session as others see it.
#[derive(Debug)]
pub struct Resource {
    /// Its address.
    pub jid: FullJid,
    /// Where to push what it is to be sent.
    pub outbox: Outbox,
    carbons: AtomicBool,
    interested: AtomicBool,
    presence: Mutex<Option<Available>>,
    directed: Mutex<HashSet<Jid>>,
}

/// What an available resource last said of itself.
#[derive(Clone, Debug)]
pub struct Available {
    /// Its priority (RFC 6121 §4.7.2.3).
    pub priority: i8,
    /// The presence stanza, with its `from` and without a `to`.
    pub stanza: Bytes,
}

impl Resource {
    /// A session just bound: nothing enabled, not available.
    #[must_use]
    pub fn new(jid: FullJid, outbox: Outbox) -> Resource {
        Resource {
            jid,
            outbox,
            carbons: AtomicBool::new(false),
            interested: AtomicBool::new(false),
            presence: Mutex::default(),
            directed: Mutex::default(),
        }
    }

    /// Whether it has enabled carbons (XEP-0280).
    #[must_use]
    pub fn carbons(&self) -> bool {
        self.carbons.load(Ordering::Relaxed)
    }

    /// Enables or disables carbons.
    pub fn set_carbons(&self, on: bool) {
        self.carbons.store(on, Ordering::Relaxed);
    }

    /// Whether it has asked for the roster, and so is told of changes (RFC 6121 §2.1.6).
    #[must_use]
    pub fn interested(&self) -> bool {
        self.interested.load(Ordering::Relaxed)
    }

    /// Notes that it has asked for the roster.
    pub fn set_interested(&self) {
        self.interested.store(true, Ordering::Relaxed);
    }

    fn lock_presence(&self) -> MutexGuard<'_, Option<Available>> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it last said of itself; `None` while it is not available.
    #[must_use]
    pub fn available(&self) -> Option<Available> {
        self.lock_presence().clone()
    }

    /// Its priority, or `None` while it is not available.
    #[must_use]
    pub fn priority(&self) -> Option<i8> {
        self.lock_presence().as_ref().map(|available| available.priority)
    }

    /// Notes its presence; answers what it was before.
    pub fn set_available(&self, now: Option<Available>) -> Option<Available> {
        std::mem::replace(&mut *self.lock_presence(), now)
    }

    /// Notes that it has sent directed presence to, or taken it back from, a JID.
    pub fn set_directed(&self, to: Jid, available: bool) {
        let mut directed = self.directed.lock().unwrap_or_else(PoisonError::into_inner);
        if !available {
            directed.remove(&to);
        } else if directed.len() < DIRECTED_MAX {
            directed.insert(to);
        }
    }

    /// Forgets and answers whom it has sent directed presence to.
    pub fn take_directed(&self) -> HashSet<Jid> {
        std::mem::take(&mut *self.directed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sessions of one account, shared as they are at one moment.
pub type Resources = Arc<[Arc<Resource>]>;

/// Every bound session.
#[derive(Debug, Default)]
pub struct Online(RwLock<HashMap<BareJid, Resources>>);

impl Online {
    /// The sessions of an account right now.
    #[must_use]
    pub fn of(&self, account: &BareJid) -> Resources {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(account).cloned().unwrap_or_default()
    }

    /// The session bound to a full JID.
    #[must_use]
    pub fn find(&self, jid: &FullJid) -> Option<Arc<Resource>> {
        self.of(&Jid::from(jid.clone()).into_bare()).iter().find(|resource| resource.jid == *jid).cloned()
    }

    /// Adds a session. One that was bound to the same address is answered, no longer online: a new stream
    /// takes the place of an old one (RFC 6120 §7.7.2.2). `Err` when the account has `max` others already.
    ///
    /// # Errors
    /// The number of sessions there are.
    pub fn add(&self, resource: Arc<Resource>, max: usize) -> Result<Option<Arc<Resource>>, usize> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let account = all.entry(resource.jid.to_bare()).or_default();
        let (same, mut others): (Vec<_>, Vec<_>) =
            account.iter().cloned().partition(|other| other.jid == resource.jid);
        if others.len() >= max {
            return Err(others.len());
        }
        others.push(resource);
        *account = others.into();
        Ok(same.into_iter().next())
    }

    /// Removes a session, if it is still the one at its address.
    pub fn remove(&self, resource: &Arc<Resource>) {
        let bare = resource.jid.to_bare();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = all.get_mut(&bare) {
            let rest: Vec<_> =
                account.iter().filter(|other| !Arc::ptr_eq(other, resource)).cloned().collect();
            if rest.is_empty() {
                all.remove(&bare);
            } else {
                *account = rest.into();
            }
        }
    }

    /// Every session, for closing them all.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Resource>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().flat_map(|account| account.iter().cloned()).collect()
    }
}
