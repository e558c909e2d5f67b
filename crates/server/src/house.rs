//! What every part of a running server shares. It holds the parts together and does nothing itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use jid::BareJid;
use mammoth_accounts::{AccountError, AccountStore};
use mammoth_archive::Archive;

use crate::lane::Lanes;
use crate::metrics::Metrics;
use crate::online::Online;
use crate::roster::Rosters;
use crate::settings::Settings;

/// How many accounts are remembered to exist without asking the store.
const KNOWN_ACCOUNTS_MAX: usize = 100_000;

/// The shared parts of a running server.
pub struct House {
    /// What the operator decided.
    pub settings: Settings,
    /// The archive of every account.
    pub archive: Archive,
    /// Who may log in.
    pub accounts: Arc<dyn AccountStore>,
    /// Who is connected.
    pub online: Online,
    /// The writers of the archives in use.
    pub lanes: Lanes,
    /// The rosters in use.
    pub rosters: Rosters,
    /// What is counted.
    pub metrics: Metrics,
    known: Mutex<HashSet<BareJid>>,
}

impl House {
    /// Puts the parts together.
    #[must_use]
    pub fn new(settings: Settings, archive: Archive, accounts: Arc<dyn AccountStore>) -> House {
        House {
            settings,
            archive,
            rosters: Rosters::new(accounts.clone()),
            accounts,
            online: Online::default(),
            lanes: Lanes::default(),
            metrics: Metrics::new(),
            known: Mutex::default(),
        }
    }

    /// Whether there is such an account. Remembers those there are; [`House::forget`] undoes it.
    ///
    /// # Errors
    /// When the accounts cannot be read.
    pub async fn knows(&self, account: &BareJid) -> Result<bool, AccountError> {
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(account) {
            return Ok(true);
        }
        if self.accounts.credentials(account).await?.is_none() {
            return Ok(false);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_ACCOUNTS_MAX {
            known.clear();
        }
        known.insert(account.clone());
        Ok(true)
    }

    /// Forgets what is remembered of an account that is being removed.
    pub fn forget(&self, account: &BareJid) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(account);
        self.rosters.forget(account);
    }
}
