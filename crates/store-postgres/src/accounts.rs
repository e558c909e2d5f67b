//! Accounts and rosters in the same database. A roster item goes with its account (a foreign key sees to it), so
//! no call needs more than one statement. Archives are `store`'s.

use async_trait::async_trait;
use jid::BareJid;
use mammoth_accounts::store::LIST_MAX;
use mammoth_accounts::{AccountError, AccountStore, Credentials, RosterItem, ScramKeys, Subscription};
use tokio_postgres::Row;

use crate::failure::Failure;
use crate::key::Key;
use crate::session::{Param, Session, column};
use crate::sql;
use crate::{PostgresStore, attempts};

#[async_trait]
impl AccountStore for PostgresStore {
    async fn credentials(&self, account: &BareJid) -> Result<Option<Credentials>, AccountError> {
        let account = Key::of(account);
        Ok(attempts!(self, session => async {
            let row = session.row(sql::CREDENTIALS, &[&account]).await?;
            row.map(|row| Ok(Credentials { sha1: keys(&row, 0)?, sha256: keys(&row, 4)? })).transpose()
        })?)
    }

    async fn create(&self, account: &BareJid, credentials: Credentials) -> Result<(), AccountError> {
        let (key, jid) = (Key::of(account), account.as_str());
        let Credentials { sha1, sha256 } = &credentials;
        let (of_sha1, of_sha256) = (i64::from(sha1.iterations), i64::from(sha256.iterations));
        // Made again after it may have been done, the answer would be `Exists`.
        let made = attempts!(self, session => async {
            let asked: [Param<'_>; 10] = [
                &key, &jid, &sha1.salt, &of_sha1, &sha1.stored_key, &sha1.server_key,
                &sha256.salt, &of_sha256, &sha256.stored_key, &sha256.server_key,
            ];
            session.change(sql::CREATE_ACCOUNT, &asked).await
        }, unless_unknown)?;
        if made == 1 { Ok(()) } else { Err(AccountError::Exists) }
    }

    async fn set_credentials(&self, account: &BareJid, credentials: Credentials) -> Result<(), AccountError> {
        let key = Key::of(account);
        let Credentials { sha1, sha256 } = &credentials;
        let (of_sha1, of_sha256) = (i64::from(sha1.iterations), i64::from(sha256.iterations));
        found(attempts!(self, session => async {
            let asked: [Param<'_>; 9] = [
                &key, &sha1.salt, &of_sha1, &sha1.stored_key, &sha1.server_key,
                &sha256.salt, &of_sha256, &sha256.stored_key, &sha256.server_key,
            ];
            session.change(sql::SET_CREDENTIALS, &asked).await
        })?)
    }

    async fn remove(&self, account: &BareJid) -> Result<(), AccountError> {
        let key = Key::of(account);
        found(attempts!(self, session => session.change(sql::REMOVE_ACCOUNT, &[&key]), unless_unknown)?)
    }

    async fn list(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<BareJid>, AccountError> {
        let after = after.map_or("", |after| after.as_str());
        let limit = i64::try_from(limit.min(LIST_MAX)).unwrap_or(0);
        Ok(attempts!(self, session => async {
            let rows = session.rows(sql::ACCOUNTS, &[&after, &limit]).await?;
            rows.iter().map(|row| jid(row, 0)).collect()
        })?)
    }

    async fn roster(&self, account: &BareJid) -> Result<Vec<RosterItem>, AccountError> {
        let key = Key::of(account);
        Ok(attempts!(self, session => async {
            let rows = session.rows(sql::ROSTER, &[&key]).await?;
            rows.iter().map(item).collect()
        })?)
    }

    async fn set_roster_item(&self, account: &BareJid, item: RosterItem) -> Result<(), AccountError> {
        let account = Key::of(account);
        found(attempts!(self, session => set_item(session, account, &item))?)
    }

    async fn remove_roster_item(&self, account: &BareJid, contact: &BareJid) -> Result<(), AccountError> {
        let (account, contact) = (Key::of(account), Key::of(contact));
        found(attempts!(
            self, session => session.change(sql::REMOVE_ROSTER_ITEM, &[&account, &contact]), unless_unknown
        )?)
    }
}

/// That a statement has changed the row it is about.
fn found(rows: u64) -> Result<(), AccountError> {
    if rows == 0 { Err(AccountError::NotFound) } else { Ok(()) }
}

async fn set_item(session: &Session, account: Key, item: &RosterItem) -> Result<u64, Failure> {
    let contact = Key::of(&item.jid);
    let groups: Vec<&str> = item.groups.iter().map(String::as_str).collect();
    let asked: [Param<'_>; 9] = [
        &account,
        &contact,
        &item.jid.as_str(),
        &item.name,
        &groups,
        &item.subscription.as_str(),
        &item.ask,
        &item.listed,
        &item.request,
    ];
    session.change(sql::SET_ROSTER_ITEM, &asked).await
}

fn jid(row: &Row, index: usize) -> Result<BareJid, Failure> {
    let text: &str = column(row, index)?;
    BareJid::new(text).map_err(|error| Failure::Corrupt(error.into()))
}

fn keys(row: &Row, from: usize) -> Result<ScramKeys, Failure> {
    let iterations: i64 = column(row, from + 1)?;
    Ok(ScramKeys {
        salt: column(row, from)?,
        iterations: u32::try_from(iterations).map_err(|error| Failure::Corrupt(error.into()))?,
        stored_key: column(row, from + 2)?,
        server_key: column(row, from + 3)?,
    })
}

fn item(row: &Row) -> Result<RosterItem, Failure> {
    let groups: Vec<String> = column(row, 2)?;
    let subscription: &str = column(row, 3)?;
    Ok(RosterItem {
        jid: jid(row, 0)?,
        name: column(row, 1)?,
        groups: groups.into_iter().collect(),
        subscription: Subscription::parse(subscription)
            .ok_or_else(|| Failure::corrupt("a subscription is none of the four"))?,
        ask: column(row, 4)?,
        listed: column(row, 5)?,
        request: column(row, 6)?,
    })
}
