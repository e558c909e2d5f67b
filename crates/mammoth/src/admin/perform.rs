//! What an admin request does to the stores. A command runs this itself when no server is there; a running server
//! runs it too, and looks after its own sessions and lanes around it.

use jid::BareJid;
use mammoth_accounts::{AccountError, AccountStore};
use mammoth_archive::{ArchiveStore, ExpiresAfter, SettingsChange, StoreError};

use super::{Keys, Request, Response, forget};

/// Performs `request` on the stores. Never panics, and never answers before what it did is durable.
pub async fn perform(request: Request, accounts: &dyn AccountStore, archives: &dyn ArchiveStore) -> Response {
    let done = match request {
        Request::AddAccount { account, keys } => add(&account, &keys, accounts).await,
        Request::SetPassword { account, keys } => set_password(&account, &keys, accounts).await,
        Request::RemoveAccount { account } => remove(&account, accounts, archives).await,
        Request::SetExpiresAfter { account, period } => {
            set_expires_after(&account, period.as_deref(), accounts, archives).await
        }
        Request::ListAccounts { after, limit } => {
            return list(after.as_deref(), limit, accounts).await.unwrap_or_else(Response::failed);
        }
        Request::LookAt { archive, cut } => {
            return forget::look(&archive, &cut, archives).await.unwrap_or_else(Response::failed);
        }
        Request::Trim { archive, through } => {
            return forget::trim(&archive, &through, archives).await.unwrap_or_else(Response::failed);
        }
        Request::Erase { archive } => {
            return forget::erase(&archive, archives).await.unwrap_or_else(Response::failed);
        }
    };
    match done {
        Ok(()) => Response::Done,
        Err(text) => Response::failed(text),
    }
}

/// A user's bare JID: a node, a domain, no resource.
pub fn account_jid(text: &str) -> Result<BareJid, String> {
    match text.parse::<BareJid>() {
        Ok(jid) if jid.node().is_some() => Ok(jid),
        _ => Err(format!("{text:?} is not an account; write it as user@domain")),
    }
}

async fn add(account: &str, keys: &Keys, accounts: &dyn AccountStore) -> Result<(), String> {
    let jid = account_jid(account)?;
    let credentials = keys.to_credentials().ok_or("the keys are not base64")?;
    accounts.create(&jid, credentials).await.map_err(|error| account_error(&jid, &error))
}

async fn set_password(account: &str, keys: &Keys, accounts: &dyn AccountStore) -> Result<(), String> {
    let jid = account_jid(account)?;
    let credentials = keys.to_credentials().ok_or("the keys are not base64")?;
    accounts.set_credentials(&jid, credentials).await.map_err(|error| account_error(&jid, &error))
}

/// First the account, so that nobody logs in any more, then the archive. Done again after a crash in between, it
/// finishes what is left.
async fn remove(
    account: &str,
    accounts: &dyn AccountStore,
    archives: &dyn ArchiveStore,
) -> Result<(), String> {
    let jid = account_jid(account)?;
    there_to_remove(&jid, accounts, archives).await?;
    match accounts.remove(&jid).await {
        Ok(()) | Err(AccountError::NotFound) => {}
        Err(error) => return Err(account_error(&jid, &error)),
    }
    archives.purge(&jid).await.map_err(|error| store_error(&jid, &error))
}

/// Is there an account, or what an interrupted removal left of its archive?
pub async fn there_to_remove(
    account: &BareJid,
    accounts: &dyn AccountStore,
    archives: &dyn ArchiveStore,
) -> Result<(), String> {
    let credentials = accounts.credentials(account).await.map_err(|error| account_error(account, &error))?;
    let head = archives.head(account).await.map_err(|error| store_error(account, &error))?;
    if credentials.is_some() || head.first < head.next {
        return Ok(());
    }
    Err(account_error(account, &AccountError::NotFound))
}

async fn list(after: Option<&str>, limit: usize, accounts: &dyn AccountStore) -> Result<Response, String> {
    let after = match after {
        Some(text) => Some(text.parse::<BareJid>().map_err(|_| format!("{text:?} is not a JID"))?),
        None => None,
    };
    let page = accounts.list(after.as_ref(), limit).await.map_err(|error| explained(&error))?;
    Ok(Response::Accounts { accounts: page.into_iter().map(|jid| jid.to_string()).collect() })
}

async fn set_expires_after(
    account: &str,
    period: Option<&str>,
    accounts: &dyn AccountStore,
    archives: &dyn ArchiveStore,
) -> Result<(), String> {
    let (jid, period) = checked_period(account, period, accounts).await?;
    archives.set(&jid, SettingsChange::ExpiresAfter(period)).await.map_err(|error| store_error(&jid, &error))
}

/// The account and the period of a [`Request::SetExpiresAfter`], if there is such an account and it is a period.
pub async fn checked_period(
    account: &str,
    period: Option<&str>,
    accounts: &dyn AccountStore,
) -> Result<(BareJid, Option<ExpiresAfter>), String> {
    let jid = account_jid(account)?;
    let period = match period {
        Some(text) => Some(text.parse::<ExpiresAfter>().map_err(|error| format!("{text:?} is {error}"))?),
        None => None,
    };
    match accounts.credentials(&jid).await {
        Ok(Some(_)) => Ok((jid, period)),
        Ok(None) => Err(account_error(&jid, &AccountError::NotFound)),
        Err(error) => Err(account_error(&jid, &error)),
    }
}

fn account_error(account: &BareJid, error: &AccountError) -> String {
    match error {
        AccountError::NotFound => format!("there is no account {account}"),
        AccountError::Exists => format!("the account {account} exists already"),
        other => explained(other),
    }
}

fn store_error(account: &BareJid, error: &StoreError) -> String {
    format!("the archive of {account}: {}", explained(error))
}

/// An error with all its causes.
pub fn explained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use mammoth_accounts::{Credentials, MemoryAccounts, ScramKeys};
    use mammoth_archive::{IdKey, MemoryStore};

    use super::*;

    fn keys(seed: u8) -> Keys {
        let keys = || ScramKeys {
            salt: vec![seed; 16],
            iterations: 4096,
            stored_key: vec![seed; 32],
            server_key: vec![seed; 32],
        };
        Keys::from(&Credentials { sha1: keys(), sha256: keys() })
    }

    fn account(text: &str) -> String {
        format!("{text}@example.org")
    }

    #[tokio::test]
    async fn the_life_of_an_account() {
        let (accounts, archives) = (MemoryAccounts::new(), MemoryStore::new(IdKey([7; 16])));
        let ask = |request| perform(request, &accounts, &archives);
        let add = |seed| Request::AddAccount { account: account("alice"), keys: keys(seed) };
        assert_eq!(ask(add(1)).await, Response::Done);
        assert_eq!(ask(add(2)).await, Response::failed("the account alice@example.org exists already"));
        assert_eq!(
            ask(Request::SetPassword { account: account("alice"), keys: keys(3) }).await,
            Response::Done
        );
        let jid: BareJid = account("alice").parse().unwrap();
        assert_eq!(accounts.credentials(&jid).await.unwrap(), keys(3).to_credentials());

        let list = |after: Option<&str>| Request::ListAccounts { after: after.map(String::from), limit: 10 };
        let named =
            |names: &[&str]| Response::Accounts { accounts: names.iter().map(|n| account(n)).collect() };
        assert_eq!(ask(list(None)).await, named(&["alice"]));
        assert_eq!(ask(list(Some("alice@example.org"))).await, named(&[]));

        assert_eq!(ask(Request::RemoveAccount { account: account("alice") }).await, Response::Done);
        let gone = Response::failed("there is no account alice@example.org");
        assert_eq!(ask(Request::RemoveAccount { account: account("alice") }).await, gone);
        assert_eq!(ask(Request::SetPassword { account: account("alice"), keys: keys(3) }).await, gone);
    }

    #[tokio::test]
    async fn a_period_of_its_own() {
        let (accounts, archives) = (MemoryAccounts::new(), MemoryStore::new(IdKey([7; 16])));
        let jid: BareJid = account("alice").parse().unwrap();
        let set = |period: Option<&str>| Request::SetExpiresAfter {
            account: account("alice"),
            period: period.map(String::from),
        };
        let ask = |request| perform(request, &accounts, &archives);
        assert_eq!(ask(set(Some("1y"))).await, Response::failed("there is no account alice@example.org"));
        accounts.create(&jid, keys(1).to_credentials().unwrap()).await.unwrap();
        assert_eq!(ask(set(Some("1y"))).await, Response::Done);
        let period = archives.settings(&jid).await.unwrap().expires_after;
        assert_eq!(period, Some(ExpiresAfter::Seconds(31_556_952)));
        let Response::Failed { text } = ask(set(Some("soon"))).await else { panic!("soon is no period") };
        assert!(text.starts_with("\"soon\" is not a period: write a number of seconds"), "{text}");
        assert_eq!(ask(set(None)).await, Response::Done);
        assert_eq!(archives.settings(&jid).await.unwrap().expires_after, None);
    }

    #[tokio::test]
    async fn only_users_have_accounts() {
        let (accounts, archives) = (MemoryAccounts::new(), MemoryStore::new(IdKey([7; 16])));
        for wrong in ["example.org", "alice@example.org/phone", "", "a b@c"] {
            let request = Request::AddAccount { account: wrong.into(), keys: keys(1) };
            let Response::Failed { text } = perform(request, &accounts, &archives).await else {
                panic!("{wrong}");
            };
            assert!(text.contains("write it as user@domain"), "{text}");
        }
    }
}
