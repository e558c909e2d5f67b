//! Rosters in use: read once, changed here and in the store, and pushed to the clients that asked for them.
//! Subscriptions, which also change them, are in `subscription`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jid::BareJid;
use mammoth_accounts::roster::ROSTER_ITEMS_MAX;
use mammoth_accounts::{AccountError, AccountStore, RosterItem};
use tokio::sync::OwnedMutexGuard;

/// How many rosters are held in memory before those that nobody uses are let go.
const ROSTERS_MAX: usize = 10_000;

/// One account's roster, by contact.
pub type Contacts = BTreeMap<BareJid, RosterItem>;

type Slot = Arc<tokio::sync::Mutex<Option<Contacts>>>;

/// The rosters in use.
pub struct Rosters {
    accounts: Arc<dyn AccountStore>,
    slots: Mutex<HashMap<BareJid, Slot>>,
}

/// One roster, held so that nobody else changes it meanwhile.
pub struct Held {
    accounts: Arc<dyn AccountStore>,
    owner: BareJid,
    slot: OwnedMutexGuard<Option<Contacts>>,
}

impl Rosters {
    /// Rosters as this store has them.
    #[must_use]
    pub fn new(accounts: Arc<dyn AccountStore>) -> Rosters {
        Rosters { accounts, slots: Mutex::default() }
    }

    /// Takes hold of an account's roster.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn hold(&self, owner: &BareJid) -> Result<Held, AccountError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= ROSTERS_MAX {
                slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            }
            slots.entry(owner.clone()).or_default().clone()
        };
        let mut slot = slot.lock_owned().await;
        if slot.is_none() {
            let items = self.accounts.roster(owner).await?;
            *slot = Some(items.into_iter().map(|item| (item.jid.clone(), item)).collect());
        }
        Ok(Held { accounts: self.accounts.clone(), owner: owner.clone(), slot })
    }

    /// Whether a contact is in an account's roster right now.
    ///
    /// # Errors
    /// When the roster cannot be read.
    pub async fn contains(&self, owner: &BareJid, contact: &BareJid) -> Result<bool, AccountError> {
        Ok(self.hold(owner).await?.item(contact).is_some_and(RosterItem::is_listed))
    }

    /// Forgets what is held of an account.
    pub fn forget(&self, owner: &BareJid) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(owner);
    }
}

impl Held {
    /// Everything in it, also what clients do not see.
    pub fn items(&self) -> impl Iterator<Item = &RosterItem> {
        self.slot.iter().flat_map(BTreeMap::values)
    }

    /// One contact.
    #[must_use]
    pub fn item(&self, contact: &BareJid) -> Option<&RosterItem> {
        self.slot.as_ref()?.get(contact)
    }

    /// Whether there is room for one more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slot.as_ref().is_some_and(|contacts| contacts.len() >= ROSTER_ITEMS_MAX)
    }

    /// Puts an item in, durably; takes it out when nothing is left worth keeping.
    ///
    /// # Errors
    /// When the store cannot; nothing has changed then.
    pub async fn put(&mut self, item: RosterItem) -> Result<(), AccountError> {
        if item.is_empty() {
            return self.remove(&item.jid).await;
        }
        self.accounts.set_roster_item(&self.owner, item.clone()).await?;
        if let Some(contacts) = self.slot.as_mut() {
            contacts.insert(item.jid.clone(), item);
        }
        Ok(())
    }

    /// Takes a contact out, durably.
    ///
    /// # Errors
    /// When the store cannot. A contact that is not there is no error.
    pub async fn remove(&mut self, contact: &BareJid) -> Result<(), AccountError> {
        match self.accounts.remove_roster_item(&self.owner, contact).await {
            Ok(()) | Err(AccountError::NotFound) => {}
            Err(error) => return Err(error),
        }
        if let Some(contacts) = self.slot.as_mut() {
            contacts.remove(contact);
        }
        Ok(())
    }
}
