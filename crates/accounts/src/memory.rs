//! The contract of [`AccountStore`] in its plainest code: two maps behind a lock. It is the model that other stores
//! are compared with, and serves tests; it keeps nothing across a restart.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jid::BareJid;

use crate::credentials::Credentials;
use crate::roster::RosterItem;
use crate::store::{AccountError, AccountStore, LIST_MAX};

/// Accounts in memory.
#[derive(Default)]
pub struct MemoryAccounts {
    accounts: Mutex<BTreeMap<BareJid, Account>>,
}

struct Account {
    credentials: Credentials,
    roster: BTreeMap<BareJid, RosterItem>,
}

impl MemoryAccounts {
    /// A store without accounts.
    pub fn new() -> Self {
        Self::default()
    }

    /// No call leaves the maps half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<BareJid, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl AccountStore for MemoryAccounts {
    async fn credentials(&self, account: &BareJid) -> Result<Option<Credentials>, AccountError> {
        Ok(self.lock().get(account).map(|found| found.credentials.clone()))
    }

    async fn create(&self, account: &BareJid, credentials: Credentials) -> Result<(), AccountError> {
        let mut accounts = self.lock();
        if accounts.contains_key(account) {
            return Err(AccountError::Exists);
        }
        accounts.insert(account.clone(), Account { credentials, roster: BTreeMap::new() });
        Ok(())
    }

    async fn set_credentials(&self, account: &BareJid, credentials: Credentials) -> Result<(), AccountError> {
        self.lock().get_mut(account).ok_or(AccountError::NotFound)?.credentials = credentials;
        Ok(())
    }

    async fn remove(&self, account: &BareJid) -> Result<(), AccountError> {
        self.lock().remove(account).map(drop).ok_or(AccountError::NotFound)
    }

    async fn list(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<BareJid>, AccountError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let accounts = self.lock();
        let behind = accounts.range::<BareJid, _>((from, Bound::Unbounded));
        Ok(behind.take(limit.min(LIST_MAX)).map(|(jid, _)| jid.clone()).collect())
    }

    async fn roster(&self, account: &BareJid) -> Result<Vec<RosterItem>, AccountError> {
        Ok(self.lock().get(account).map(|found| found.roster.values().cloned().collect()).unwrap_or_default())
    }

    async fn set_roster_item(&self, account: &BareJid, item: RosterItem) -> Result<(), AccountError> {
        let mut accounts = self.lock();
        let found = accounts.get_mut(account).ok_or(AccountError::NotFound)?;
        found.roster.insert(item.jid.clone(), item);
        Ok(())
    }

    async fn remove_roster_item(&self, account: &BareJid, contact: &BareJid) -> Result<(), AccountError> {
        let mut accounts = self.lock();
        let found = accounts.get_mut(account).ok_or(AccountError::NotFound)?;
        found.roster.remove(contact).map(drop).ok_or(AccountError::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_an_account_store() {
        crate::contract::check(&MemoryAccounts::new()).await;
    }
}
