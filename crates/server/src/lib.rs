//! An XMPP server with the archive at its core. The tour, along the three paths of `ARCHITECTURE.md`:
//!
//! | path | files, top to bottom |
//! |---|---|
//! | a connection becomes a session | [`listen`] → [`login`] → [`session`] |
//! | (a) a message is archived and delivered | [`session`] → [`message`] → [`lane`] → the store → [`deliver`] → [`outbox`] |
//! | (b) a MAM query is answered | [`session`] → [`iq`] → [`mam`] → the store → [`outbox`] |
//! | (c) old entries go | [`expiry`] → the store |
//! | who is there, and who knows whom | [`online`], [`presence`], [`subscription`], [`roster`] |
//! | what everything shares | [`house`], [`settings`], [`metrics`], [`clock`] |
//!
//! Waiting goes one way: session → lane → store. A lane waits for no session and no outbox.

pub mod clock;
pub mod deliver;
pub mod expiry;
pub mod house;
pub mod iq;
pub mod lane;
pub mod listen;
pub mod login;
pub mod mam;
pub mod message;
pub mod metrics;
pub mod metrics_page;
pub mod online;
pub mod outbox;
pub mod presence;
pub mod roster;
pub mod session;
pub mod settings;
pub mod stream;
pub mod subscription;

use std::sync::Arc;

use jid::BareJid;
use mammoth_accounts::AccountError;
use mammoth_archive::StoreError;
use mammoth_wire::header::STREAM_END;
use mammoth_wire::stream_error::{StreamCondition, StreamError};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use house::House;
pub use listen::Listener;
pub use login::Door;
pub use settings::{Limits, Module, Settings};

/// Serves until `stop` becomes true, then ends every session and returns.
///
/// The listeners are bound already, so that whoever starts a server knows that it can be reached.
pub async fn run(
    house: Arc<House>,
    listeners: Vec<Listener>,
    metrics: Option<TcpListener>,
    stop: watch::Receiver<bool>,
) {
    let expiry = tokio::spawn(expiry::run(house.clone(), stop.clone()));
    listen::run(house, listeners, metrics, stop).await;
    if let Err(error) = expiry.await {
        tracing::error!(%error, "the expiry has ended");
    }
}

/// Waits until the server is to stop.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so; that stops it too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ends every session of an account, telling the clients why.
pub fn disconnect(house: &House, account: &BareJid, text: &'static str) {
    for resource in house.online.of(account).iter() {
        let error = StreamError::new(StreamCondition::NotAuthorized, text);
        resource.outbox.close(format!("{}{STREAM_END}", error.to_xml()).into());
    }
}

/// Why an account is not, or not wholly, removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The account is still there.
    #[error("the account could not be removed: {0}")]
    Account(#[from] AccountError),
    /// The account is gone and its archive not yet: remove it again.
    #[error("the account is gone, but its archive could not be erased: {0}")]
    Archive(#[from] StoreError),
}

/// Removes an account with its roster and its archive: its sessions end, nobody can log in to it, and when this
/// returns no byte of its messages is left in the store. Repeatable: an account that is gone already is no error
/// as long as its archive is erased.
///
/// # Errors
/// See [`RemoveError`].
pub async fn remove_account(house: &Arc<House>, account: &BareJid) -> Result<(), RemoveError> {
    let removed = house.accounts.remove(account).await;
    house.forget(account);
    disconnect(house, account, "the account has been removed");
    house.lanes.settle(house, account).await;
    house.archive.store().purge(account).await?;
    match removed {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
