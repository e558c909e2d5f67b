//! The archive store: each call of the port as an attempt on a session, repeated as far as the contract allows.
//! What an attempt does is left to `writer`, `page` and `forget`.

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    ArchiveInfo, ArchiveStore, Cut, Head, IdKey, NewEntry, Page, Position, Query, Settings, SettingsChange,
    Stats, StoreError, StoredEntry, Timestamp,
};

use crate::append::{self, Batch};
use crate::failure::Failure;
use crate::forget;
use crate::key::{Key, message_key};
use crate::page::page;
use crate::session::{Session, column};
use crate::sql;
use crate::{PostgresStore, attempts};

/// Up to how many archives their figures are added up each time somebody asks.
const STATS_CHEAP_MAX: u64 = 20_000;

#[async_trait]
impl ArchiveStore for PostgresStore {
    async fn id_key(&self) -> Result<IdKey, StoreError> {
        // The key of the first call that gets this far is everybody's; what the others made is forgotten.
        let mut made = [0; 16];
        match self.ids {
            Some(IdKey(ids)) => made = ids,
            None => getrandom::fill(&mut made).map_err(|error| StoreError::refused(error.to_string()))?,
        }
        Ok(attempts!(self, session => id_key(session, &made))?)
    }

    async fn head(&self, owner: &BareJid) -> Result<Head, StoreError> {
        let archive = Key::of(owner);
        Ok(attempts!(self, session => append::head(session, archive))?)
    }

    async fn append(
        &self,
        owner: &BareJid,
        expected: Position,
        entries: Arc<[NewEntry]>,
    ) -> Result<(), StoreError> {
        let batch = Batch { owner: owner.clone(), archive: Key::of(owner), expected, entries };
        self.writers.append(batch).await
    }

    async fn page(&self, owner: &BareJid, query: Query<Position>) -> Result<Page<StoredEntry>, StoreError> {
        let archive = Key::of(owner);
        attempts!(self, session => page(session, archive, &query))?
    }

    async fn locate(&self, owner: &BareJid, foreign_id: &str) -> Result<Option<Position>, StoreError> {
        let (archive, id) = (Key::of(owner), foreign_id.as_bytes());
        Ok(attempts!(self, session => async {
            let row = session.row(sql::LOCATE, &[&archive, &id]).await?;
            row.map(|row| Ok(Position(column(&row, 0)?))).transpose()
        })?)
    }

    async fn find(
        &self,
        owner: &BareJid,
        with: &BareJid,
        message_id: &str,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        let archive = Key::of(owner);
        let (id, limit) = (message_key(with, message_id), i64::try_from(limit).unwrap_or(i64::MAX));
        Ok(attempts!(self, session => async {
            let rows = session.rows(sql::FIND, &[&archive, &id, &limit]).await?;
            rows.iter().map(|row| Ok(Position(column(row, 0)?))).collect()
        })?)
    }

    async fn retract(&self, owner: &BareJid, position: Position, tombstone: Bytes) -> Result<(), StoreError> {
        let archive = Key::of(owner);
        attempts!(self, session => forget::retract(session, archive, position, &tombstone))?
    }

    async fn expire(&self, owner: &BareJid, cut: Cut) -> Result<u64, StoreError> {
        let archive = Key::of(owner);
        // Once it may have been done, doing it again would count none: the caller is told that nobody knows.
        let gone = attempts!(self, session => forget::expire(session, archive, cut), unless_unknown)?;
        if gone > 0 {
            self.sweep.note(archive);
        }
        Ok(gone)
    }

    async fn purge(&self, owner: &BareJid) -> Result<(), StoreError> {
        let archive = Key::of(owner);
        let table = attempts!(self, session => table_of(session, archive))?;
        attempts!(self, session => forget::empty(session, archive))?;
        while attempts!(self, session => forget::remove_some(session, archive))? {}
        if let Some(table) = table {
            self.sweep.note_table(table);
        }
        Ok(())
    }

    async fn settings(&self, owner: &BareJid) -> Result<Settings, StoreError> {
        let archive = Key::of(owner);
        Ok(attempts!(self, session => async {
            let Some(row) = session.row(sql::SETTINGS, &[&archive]).await? else {
                return Ok(Settings::default());
            };
            let (prefs, expires_after): (Option<&str>, Option<&str>) = (column(&row, 0)?, column(&row, 1)?);
            Ok(Settings {
                prefs: prefs.map(read).transpose()?,
                expires_after: expires_after.map(read).transpose()?,
            })
        })?)
    }

    async fn set(&self, owner: &BareJid, change: SettingsChange) -> Result<(), StoreError> {
        let archive = Key::of(owner);
        let (text, value) = match change {
            SettingsChange::Prefs(prefs) => (sql::SET_PREFS, prefs.as_ref().map(ToString::to_string)),
            SettingsChange::ExpiresAfter(period) => {
                (sql::SET_EXPIRES_AFTER, period.as_ref().map(ToString::to_string))
            }
        };
        // The archive's row first, so that the archive is listed; without the setting it is an empty archive.
        Ok(attempts!(self, session => async {
            session.change(sql::MAKE_ARCHIVES, &[&vec![archive], &vec![owner.as_str()]]).await?;
            session.change(text, &[&archive, &value]).await?;
            Ok(())
        })?)
    }

    async fn owners(&self, after: Option<&BareJid>, limit: usize) -> Result<Vec<ArchiveInfo>, StoreError> {
        let after = after.map_or("", |after| after.as_str());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(attempts!(self, session => async {
            let rows = session.rows(sql::OWNERS, &[&after, &limit]).await?;
            rows.iter().map(archive_info).collect()
        })?)
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        if let Some(stats) = self.recent_stats() {
            return Ok(stats);
        }
        let asking = crate::clock::Stopwatch::start();
        let figures = &self.writers.figures;
        let (stats, rows) = attempts!(self, session => async {
            let row = session.row(sql::STATS, &[]).await?;
            let row = row.ok_or_else(|| Failure::corrupt("no figures"))?;
            let number = |index| column::<i64>(&row, index).map(|n| u64::try_from(n).unwrap_or(0));
            let disk = session.row(sql::DISK_BYTES, &[]).await?;
            let disk = disk.map_or(Ok(0), |row| column::<i64>(&row, 0))?;
            let stats = Stats {
                archives: number(0)?,
                entries: number(1)?,
                disk_bytes: u64::try_from(disk).unwrap_or(0),
                details: vec![
                    ("postgresql_rows_to_delete", number(2)?),
                    ("postgresql_append_transactions_total", figures.groups.load(Ordering::Relaxed)),
                    ("postgresql_appends_total", figures.appends.load(Ordering::Relaxed)),
                    ("postgresql_repeated_attempts_total", figures.repeats.load(Ordering::Relaxed)),
                ],
            };
            Ok((stats, number(3)?))
        })?;
        if rows > STATS_CHEAP_MAX {
            self.keep_stats(asking.elapsed(), &stats);
        }
        Ok(stats)
    }
}

impl PostgresStore {
    /// Has an archive that has never been written to begin at a position, as one does that had entries before it.
    /// `last_stamp` is the greatest stamp that it has given so far.
    ///
    /// # Errors
    /// `Refused` when it has been written to.
    pub async fn begin(
        &self,
        owner: &BareJid,
        at: Position,
        last_stamp: Timestamp,
    ) -> Result<(), StoreError> {
        let archive = Key::of(owner);
        // Once it may have been done, doing it again would be refused.
        let begun = attempts!(self, session => async {
            session.change(sql::MAKE_ARCHIVES, &[&vec![archive], &vec![owner.as_str()]]).await?;
            session.change(sql::BEGIN_ARCHIVE, &[&archive, &at.0, &last_stamp.0]).await
        }, unless_unknown)?;
        if begun == 1 { Ok(()) } else { Err(StoreError::refused("the archive has been written to")) }
    }
}

async fn id_key(session: &Session, made: &[u8; 16]) -> Result<IdKey, Failure> {
    let mut row = session.row(sql::ID_KEY, &[]).await?;
    if row.is_none() {
        session.change(sql::MAKE_ID_KEY, &[&made.as_slice()]).await?;
        row = session.row(sql::ID_KEY, &[]).await?;
    }
    let row = row.ok_or_else(|| Failure::corrupt("the key of the ids is missing"))?;
    let key: &[u8] = column(&row, 0)?;
    key.try_into().map(IdKey).map_err(|_| Failure::corrupt("the key of the ids is not 16 bytes"))
}

async fn table_of(session: &Session, archive: Key) -> Result<Option<String>, Failure> {
    session.row(sql::TABLE_OF, &[&archive]).await?.map(|row| column(&row, 0)).transpose()
}

/// A setting that is kept as it is written, readable with psql.
fn read<T: FromStr<Err: Error + Send + Sync + 'static>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error: T::Err| Failure::Corrupt(error.into()))
}

fn archive_info(row: &tokio_postgres::Row) -> Result<ArchiveInfo, Failure> {
    let owner: &str = column(row, 0)?;
    let bytes: i64 = column(row, 4)?;
    let expires_after: Option<&str> = column(row, 5)?;
    let first_stamp: Option<i64> = column(row, 6)?;
    Ok(ArchiveInfo {
        owner: BareJid::new(owner).map_err(|error| Failure::Corrupt(error.into()))?,
        head: append::head_of(row, 1)?,
        first_stamp: first_stamp.map(Timestamp),
        bytes: u64::try_from(bytes).unwrap_or(0),
        expires_after: expires_after.map(read).transpose()?,
    })
}
