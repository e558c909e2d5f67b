//! The port behind which accounts and rosters are kept: the [`AccountStore`] trait, its contract in prose, and its
//! error. What the contract means in plain code is in memory.rs, and as a program in contract.rs.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use jid::BareJid;

use crate::credentials::Credentials;
use crate::roster::RosterItem;

/// The most accounts that one call of [`AccountStore::list`] answers, whatever its `limit` says.
pub const LIST_MAX: usize = 1_000;

/// Where accounts live. An account is a bare JID with credentials and a roster; it exists from
/// [`create`](Self::create) to [`remove`](Self::remove).
///
/// 1. When a call that changes something returns `Ok`, the change is durable, and every later read sees it.
/// 2. A call that answers `NotFound`, `Exists` or `Refused` has changed nothing.
/// 3. After `Unavailable` the outcome is unknown; the same call can be made again. `create` and `remove` may then
///    answer `Exists` or `NotFound`, which tells that the first call was done after all.
/// 4. `remove` takes the roster along: an account made again under the same JID starts empty.
/// 5. Accounts are independent: nothing done to one changes another.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// What is needed to check the account's password, or `None` if there is no such account.
    async fn credentials(&self, account: &BareJid) -> Result<Option<Credentials>, AccountError>;

    /// Makes an account with an empty roster. `Exists` if it is there already.
    async fn create(&self, account: &BareJid, credentials: Credentials) -> Result<(), AccountError>;

    /// Replaces the credentials. `NotFound` if there is no such account.
    async fn set_credentials(&self, account: &BareJid, credentials: Credentials) -> Result<(), AccountError>;

    /// Removes the account, its credentials and its roster. `NotFound` if there is no such account.
    /// The account's archive is not touched: that is the archive store's to purge.
    async fn remove(&self, account: &BareJid) -> Result<(), AccountError>;

    /// Up to `limit` accounts (and never more than [`LIST_MAX`]) in byte order of their JIDs, beginning behind
    /// `after`, which need not exist. An empty answer to a `limit` above zero means that there are no more.
    async fn list(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<BareJid>, AccountError>;

    /// The whole roster, in byte order of the contacts' JIDs, items that are not listed included. Empty for an
    /// account that does not exist.
    async fn roster(&self, account: &BareJid) -> Result<Vec<RosterItem>, AccountError>;

    /// Puts `item` into the roster in place of any earlier item of the same contact, every field as given.
    /// `NotFound` if there is no such account.
    async fn set_roster_item(&self, account: &BareJid, item: RosterItem) -> Result<(), AccountError>;

    /// Takes the contact out of the roster. `NotFound` if there is no such account, or no such item.
    async fn remove_roster_item(&self, account: &BareJid, contact: &BareJid) -> Result<(), AccountError>;
}

/// What a store's own library said; for the log, never for a peer.
pub type Source = Box<dyn Error + Send + Sync>;

/// Why a call on an [`AccountStore`] was not done, by what the caller can do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum AccountError {
    /// There is no such account, or no such roster item.
    NotFound,
    /// The account is there already.
    Exists,
    /// Certainly not done, and not for want of trying: repeating the call will not help.
    Refused(Source),
    /// It is not known whether it was done: the same call can be made again.
    Unavailable(Source),
    /// What is stored cannot be right: stop, and tell the operator.
    Corrupt(Source),
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccountError::NotFound => "there is no such account or roster item",
            AccountError::Exists => "the account exists already",
            AccountError::Refused(_) => "the account store refused the change",
            AccountError::Unavailable(_) => "the account store cannot be reached now",
            AccountError::Corrupt(_) => "the account store is damaged",
        })
    }
}

impl Error for AccountError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            AccountError::NotFound | AccountError::Exists => None,
            AccountError::Refused(source)
            | AccountError::Unavailable(source)
            | AccountError::Corrupt(source) => Some(source.as_ref()),
        }
    }
}
