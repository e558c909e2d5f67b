//! What admin requests do to a running server: the same as without one (admin/perform.rs), and the sessions and lanes
//! concerned hear of it.

use std::sync::Arc;

use jid::BareJid;
use mammoth_accounts::AccountError;
use mammoth_archive::{SettingsChange, StoreError};
use mammoth_server::House;

use crate::admin::perform::{account_jid, perform};
use crate::admin::{self, AdminSocket, Request, Response};

/// Serves the admin socket of a running server, until it is dropped.
pub async fn serve(socket: AdminSocket, house: Arc<House>) {
    socket.serve(move |request| administer(house.clone(), request)).await;
}

/// Performs a request on a running server: as without one, and the sessions and lanes concerned hear of it.
async fn administer(house: Arc<House>, request: Request) -> Response {
    let done = match request {
        Request::RemoveAccount { account } => match account_jid(&account) {
            Ok(jid) => remove(&house, &jid).await,
            Err(text) => Err(text),
        },
        Request::SetExpiresAfter { account, period } => {
            set_expires_after(&house, &account, period.as_deref()).await
        }
        Request::Erase { archive } => return erase(&house, &archive).await.unwrap_or_else(Response::failed),
        Request::AddAccount { ref account, .. } if !served(&house, account) => Err(format!(
            "the domain of {account} is not served here, but {}",
            house.settings.domains.join(", ")
        )),
        request => return perform(request, house.accounts.as_ref(), house.archive.store().as_ref()).await,
    };
    done.map_or_else(Response::failed, |()| Response::Done)
}

fn served(house: &House, account: &str) -> bool {
    account_jid(account).is_ok_and(|jid| house.settings.serves(jid.domain().as_str()))
}

/// Through the lane, so that the next message is stamped and kept by the new period.
async fn set_expires_after(house: &Arc<House>, account: &str, period: Option<&str>) -> Result<(), String> {
    let (jid, period) = admin::perform::checked_period(account, period, house.accounts.as_ref()).await?;
    let change = SettingsChange::ExpiresAfter(period);
    house
        .lanes
        .set(house, &jid, change)
        .await
        .map(drop)
        .map_err(|error| format!("the archive of {jid}: {error}"))
}

/// Erases an archive in use: what is under way comes to rest, and what its owner has set outlives the purge. Messages
/// that arrive meanwhile may stay: they are newer than the wish.
async fn erase(house: &Arc<House>, archive: &str) -> Result<Response, String> {
    let owner = admin::forget::owner_jid(archive)?;
    let failed = |error: StoreError| admin::forget::not_erased(&owner, &error);
    let settings = house.lanes.settings(house, &owner).await.map_err(failed)?;
    house.lanes.settle(house, &owner).await;
    let store = house.archive.store();
    let entries = store.head(&owner).await.map_err(failed)?.count();
    let purged = store.purge(&owner).await;
    for change in admin::forget::changes(settings) {
        house.lanes.set(house, &owner, change).await.map_err(failed)?;
    }
    purged.map_err(failed)?;
    Ok(Response::Gone { entries })
}

/// First nobody can log in any more and nobody is logged in; then what is under way comes to rest, and the archive goes.
async fn remove(house: &Arc<House>, jid: &BareJid) -> Result<(), String> {
    let store = house.archive.store();
    admin::perform::there_to_remove(jid, house.accounts.as_ref(), store.as_ref()).await?;
    match house.accounts.remove(jid).await {
        Ok(()) | Err(AccountError::NotFound) => {}
        Err(error) => return Err(format!("{jid} is not removed: {error}")),
    }
    house.forget(jid);
    mammoth_server::disconnect(house, jid, "the account has been removed");
    let archive_error = |error: StoreError| {
        format!("{jid} is removed, but its archive is not yet erased; remove it again: {error}")
    };
    // Through the lane, so that it does not hold on to what no longer is.
    for change in [SettingsChange::Prefs(None), SettingsChange::ExpiresAfter(None)] {
        house.lanes.set(house, jid, change).await.map_err(archive_error)?;
    }
    house.lanes.settle(house, jid).await;
    store.purge(jid).await.map_err(archive_error)
}
