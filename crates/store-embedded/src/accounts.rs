//! Accounts and rosters in the small database. What they mean, and how a password is checked, is left to
//! `mammoth_accounts`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use mammoth_accounts::store::LIST_MAX;
use mammoth_accounts::{AccountError, AccountStore, Credentials, RosterItem, ScramKeys, Subscription};
use mammoth_archive::StoreError;
use mammoth_archive::jid::BareJid;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::EmbeddedStore;
use crate::catalog::mismatch;
use crate::format::Damaged;

/// What a change that was carried out found.
enum Found {
    Done,
    NotThere,
    There,
}

fn account_error(error: StoreError) -> AccountError {
    match error {
        StoreError::Refused(cause) => AccountError::Refused(cause),
        StoreError::Corrupt(cause) => AccountError::Corrupt(cause),
        StoreError::Unavailable(cause) => AccountError::Unavailable(cause),
        other => AccountError::Unavailable(Box::new(other)),
    }
}

impl EmbeddedStore {
    async fn change_accounts(
        &self,
        apply: impl FnOnce(&Connection) -> rusqlite::Result<Found> + Send + 'static,
    ) -> Result<(), AccountError> {
        let found = self.change(move |connection, _| apply(connection), |_, found| Ok(found)).await;
        match found.map_err(account_error)? {
            Found::Done => Ok(()),
            Found::NotThere => Err(AccountError::NotFound),
            Found::There => Err(AccountError::Exists),
        }
    }

    async fn read_accounts<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Connection) -> rusqlite::Result<Result<T, Damaged>> + Send + 'static,
    ) -> Result<T, AccountError> {
        let read = self.read(move |shared, context| {
            let connection = context.catalog(shared).map_err(StoreError::unavailable)?;
            f(connection).map_err(StoreError::unavailable)?.map_err(StoreError::corrupt)
        });
        read.await.map_err(account_error)
    }
}

fn exists(connection: &Connection, account: &BareJid) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM accounts WHERE account = ?1")?.exists([account.as_str()])
}

fn done_if(rows: usize) -> Found {
    if rows > 0 { Found::Done } else { Found::NotThere }
}

fn keys(row: &Row<'_>, from: usize) -> rusqlite::Result<ScramKeys> {
    Ok(ScramKeys {
        salt: row.get(from)?,
        iterations: row.get(from + 1)?,
        stored_key: row.get(from + 2)?,
        server_key: row.get(from + 3)?,
    })
}

fn item(row: &Row<'_>) -> rusqlite::Result<Result<RosterItem, Damaged>> {
    if !row.get::<_, bool>(7)? {
        return Ok(Err(mismatch("roster")));
    }
    let (contact, subscription, groups): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(6)?);
    let Ok(jid) = BareJid::new(&contact) else { return Ok(Err(Damaged::new("a contact is not a bare JID"))) };
    let Some(subscription) = Subscription::parse(&subscription) else {
        return Ok(Err(Damaged::new("an unknown subscription")));
    };
    let groups: BTreeSet<String> = groups.split_terminator('\0').map(str::to_owned).collect();
    Ok(Ok(RosterItem {
        jid,
        name: row.get(1)?,
        groups,
        subscription,
        ask: row.get(3)?,
        listed: row.get(4)?,
        request: row.get(5)?,
    }))
}

#[async_trait]
impl AccountStore for EmbeddedStore {
    async fn credentials(&self, account: &BareJid) -> Result<Option<Credentials>, AccountError> {
        let account = account.clone();
        self.read_accounts(move |connection| {
            let sql = "SELECT sha1_salt, sha1_iterations, sha1_stored_key, sha1_server_key, sha256_salt,
                         sha256_iterations, sha256_stored_key, sha256_server_key, checksum = checksum_of('accounts',
                         account, sha1_salt, sha1_iterations, sha1_stored_key, sha1_server_key, sha256_salt,
                         sha256_iterations, sha256_stored_key, sha256_server_key) FROM accounts WHERE account = ?1";
            let found = connection
                .prepare_cached(sql)?
                .query_row([account.as_str()], |row| {
                    let sound = row.get::<_, bool>(8)?;
                    Ok(sound.then_some(Credentials { sha1: keys(row, 0)?, sha256: keys(row, 4)? }))
                })
                .optional()?;
            Ok(found.map(|sound| sound.ok_or_else(|| mismatch("accounts"))).transpose())
        })
        .await
    }

    async fn create(&self, account: &BareJid, credentials: Credentials) -> Result<(), AccountError> {
        let account = account.clone();
        self.change_accounts(move |connection| {
            if exists(connection, &account)? {
                return Ok(Found::There);
            }
            let Credentials { sha1, sha256 } = credentials;
            connection
                .prepare_cached(
                    "INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
                       checksum_of('accounts', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9))",
                )?
                .execute(params![
                    account.as_str(),
                    sha1.salt,
                    sha1.iterations,
                    sha1.stored_key,
                    sha1.server_key,
                    sha256.salt,
                    sha256.iterations,
                    sha256.stored_key,
                    sha256.server_key
                ])?;
            Ok(Found::Done)
        })
        .await
    }

    async fn set_credentials(&self, account: &BareJid, credentials: Credentials) -> Result<(), AccountError> {
        let account = account.clone();
        self.change_accounts(move |connection| {
            let Credentials { sha1, sha256 } = credentials;
            let sql = "UPDATE accounts SET sha1_salt = ?2, sha1_iterations = ?3, sha1_stored_key = ?4,
                         sha1_server_key = ?5, sha256_salt = ?6, sha256_iterations = ?7, sha256_stored_key = ?8,
                         sha256_server_key = ?9,
                         checksum = checksum_of('accounts', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) WHERE account = ?1";
            let rows = connection.prepare_cached(sql)?.execute(params![
                account.as_str(),
                sha1.salt,
                sha1.iterations,
                sha1.stored_key,
                sha1.server_key,
                sha256.salt,
                sha256.iterations,
                sha256.stored_key,
                sha256.server_key
            ])?;
            Ok(done_if(rows))
        })
        .await
    }

    async fn remove(&self, account: &BareJid) -> Result<(), AccountError> {
        let account = account.clone();
        self.change_accounts(move |connection| {
            connection
                .prepare_cached("DELETE FROM roster WHERE account = ?1")?
                .execute([account.as_str()])?;
            let rows = connection
                .prepare_cached("DELETE FROM accounts WHERE account = ?1")?
                .execute([account.as_str()])?;
            Ok(done_if(rows))
        })
        .await
    }

    async fn list(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<BareJid>, AccountError> {
        let after = after.map_or(String::new(), |after| after.as_str().to_owned());
        let limit = limit.min(LIST_MAX) as i64;
        self.read_accounts(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT account FROM accounts WHERE account > ?1 ORDER BY account LIMIT ?2",
            )?;
            let found = select.query_map(params![after, limit], |row| row.get::<_, String>(0))?;
            let found: Vec<String> = found.collect::<rusqlite::Result<_>>()?;
            let jids = found.iter().map(|jid| BareJid::new(jid));
            Ok(jids.collect::<Result<_, _>>().map_err(|_| Damaged::new("an account is not a bare JID")))
        })
        .await
    }

    async fn roster(&self, account: &BareJid) -> Result<Vec<RosterItem>, AccountError> {
        let account = account.clone();
        self.read_accounts(move |connection| {
            let sql = "SELECT contact, name, subscription, ask, listed, request, groups, checksum = checksum_of('roster',
                         account, contact, name, subscription, ask, listed, request, groups) FROM roster
                       WHERE account = ?1 ORDER BY contact";
            let mut select = connection.prepare_cached(sql)?;
            let items = select.query_map([account.as_str()], item)?;
            let items: Vec<Result<RosterItem, Damaged>> = items.collect::<rusqlite::Result<_>>()?;
            Ok(items.into_iter().collect())
        })
        .await
    }

    async fn set_roster_item(&self, account: &BareJid, item: RosterItem) -> Result<(), AccountError> {
        let account = account.clone();
        self.change_accounts(move |connection| {
            if !exists(connection, &account)? {
                return Ok(Found::NotThere);
            }
            let groups: String = item.groups.iter().flat_map(|group| [group.as_str(), "\0"]).collect();
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO roster VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
                       checksum_of('roster', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8))",
                )?
                .execute(params![
                    account.as_str(),
                    item.jid.as_str(),
                    item.name,
                    item.subscription.as_str(),
                    item.ask,
                    item.listed,
                    item.request,
                    groups
                ])?;
            Ok(Found::Done)
        })
        .await
    }

    async fn remove_roster_item(&self, account: &BareJid, contact: &BareJid) -> Result<(), AccountError> {
        let (account, contact) = (account.clone(), contact.clone());
        self.change_accounts(move |connection| {
            let rows = connection
                .prepare_cached("DELETE FROM roster WHERE account = ?1 AND contact = ?2")?
                .execute([account.as_str(), contact.as_str()])?;
            Ok(done_if(rows))
        })
        .await
    }
}
