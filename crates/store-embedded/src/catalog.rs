//! `mammoth.sqlite`, the small database: who owns which archive number, the ends that expiry has moved, settings,
//! which segments there are, tombstones not yet folded into them, and the store's keys. Accounts and rosters lie
//! beside them and are left to `accounts`; entries are never here.

use std::path::Path;

use mammoth_archive::jid::Jid;
use mammoth_archive::{ExpiresAfter, IdKey, Prefs, Settings};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql, params};

use crate::checksum;
use crate::format::{Damaged, FORMAT};

/// The name of the small database in the store's folder.
pub const FILE: &str = "mammoth.sqlite";
/// `application_id`: says to `file` and to us whose database it is ("Mamm").
const APPLICATION: i64 = 0x4d61_6d6d;
/// In `meta`: the oldest generation of the log that is still needed.
pub const LOG_FIRST: &str = "log_first";
/// In `meta`: the last number that was given to a segment.
pub const LAST_SEGMENT: &str = "last_segment";

const SCHEMA: &str = "
-- The last column of every row is its checksum: docs/format.md says of what.
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE archives (
    archive       INTEGER PRIMARY KEY, -- the number that stands for the owner everywhere else
    owner         TEXT NOT NULL,       -- the bare JID
    first         INTEGER NOT NULL,    -- what lies before this position has gone
    next          INTEGER NOT NULL,    -- the high-water mark when this row was last written; segments and log may be ahead
    last_stamp    INTEGER NOT NULL,    -- as of the same moment
    prefs         TEXT,
    expires_after INTEGER,             -- seconds, or -1 for never
    checksum      INTEGER NOT NULL
);
CREATE TABLE segments (
    segment  INTEGER PRIMARY KEY,      -- the file is segments/<segment>.sqlite
    place    INTEGER NOT NULL UNIQUE,  -- oldest entries first
    level    INTEGER NOT NULL,         -- how often its entries were merged
    entries  INTEGER NOT NULL,
    contents INTEGER NOT NULL,         -- the checksum of the file
    checksum INTEGER NOT NULL
);
CREATE TABLE logs (
    generation INTEGER PRIMARY KEY,    -- the file is log/<generation>.sqlite
    groups     INTEGER NOT NULL,       -- it has at least so many: as of the last time the store was closed
    checksum   INTEGER NOT NULL
);
CREATE TABLE overrides (
    archive   INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    change    INTEGER NOT NULL,        -- grows with each retraction
    tombstone BLOB NOT NULL,
    checksum  INTEGER NOT NULL,
    PRIMARY KEY (archive, position)
) WITHOUT ROWID;
CREATE TABLE accounts (
    account TEXT PRIMARY KEY,
    sha1_salt BLOB NOT NULL, sha1_iterations INTEGER NOT NULL,
    sha1_stored_key BLOB NOT NULL, sha1_server_key BLOB NOT NULL,
    sha256_salt BLOB NOT NULL, sha256_iterations INTEGER NOT NULL,
    sha256_stored_key BLOB NOT NULL, sha256_server_key BLOB NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE roster (
    account      TEXT NOT NULL,
    contact      TEXT NOT NULL,
    name         TEXT,
    subscription TEXT NOT NULL,
    ask          INTEGER NOT NULL,
    listed       INTEGER NOT NULL,
    request      BLOB,
    groups       TEXT NOT NULL,        -- each followed by a NUL
    checksum     INTEGER NOT NULL,
    PRIMARY KEY (account, contact)
) WITHOUT ROWID;
";

/// Why the small database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is none, and it was not to be made.
    #[error("there is no store here")]
    Missing,
    /// A database, but not ours.
    #[error("is not a database of this program")]
    Foreign,
    /// Of another version of the format.
    #[error("is of format {0}")]
    Version(i64),
    /// It contradicts itself.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// SQLite could not.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// One row of `archives`.
#[derive(Debug)]
pub struct ArchiveRow {
    /// Its number.
    pub archive: u32,
    /// Whose it is.
    pub owner: String,
    /// See [`mammoth_archive::Head`].
    pub first: i64,
    /// As of the moment the row was written.
    pub next: i64,
    /// As of the moment the row was written.
    pub last_stamp: i64,
    /// What is set.
    pub settings: Settings,
}

/// One row of `segments`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// The number in its file name.
    pub segment: u32,
    /// Its place among the segments, oldest first.
    pub place: i64,
    /// How often its entries were merged.
    pub level: u32,
    /// How many entries it holds, some perhaps expired.
    pub entries: u64,
    /// The checksum of its file.
    pub contents: i64,
}

/// Opens the database for writing, making it if `may_make`, with this secret of the ids if one is given.
pub fn open(dir: &Path, may_make: bool, ids: Option<IdKey>) -> Result<Connection, CatalogError> {
    let path = dir.join(FILE);
    if !may_make && !path.exists() {
        return Err(CatalogError::Missing);
    }
    let connection = Connection::open(path)?;
    prepare(&connection)?;
    let (application, version) = stamps(&connection)?;
    if (application, version) == (0, 0) {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables != 0 {
            return Err(CatalogError::Foreign);
        }
        connection.pragma_update(None, "journal_mode", "wal")?;
        let (mut id_key, mut hash_key) = ([0_u8; 16], [0_u8; 16]);
        for key in [&mut id_key, &mut hash_key] {
            getrandom::fill(key).map_err(|_| Damaged::new("the system gives no random numbers"))?;
        }
        if let Some(IdKey(ids)) = ids {
            id_key = ids;
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.execute_batch(SCHEMA)?;
        set_meta(&connection, "id_key", &id_key[..])?;
        set_meta(&connection, "hash_key", &hash_key[..])?;
        set_meta(&connection, LOG_FIRST, 1)?;
        set_meta(&connection, LAST_SEGMENT, 0)?;
        connection.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; COMMIT"
        ))?;
        return Ok(connection);
    }
    check(application, version)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    Ok(connection)
}

/// Opens the database for reading, beside whoever writes it.
pub fn open_read_only(dir: &Path) -> Result<Connection, CatalogError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Err(CatalogError::Missing);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(crate::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -512)?;
    checksum::teach(&connection)?;
    let (application, version) = stamps(&connection)?;
    check(application, version)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(crate::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "secure_delete", "on")?;
    connection.pragma_update(None, "cache_size", -4096)?;
    connection.set_prepared_statement_cache_capacity(64);
    checksum::teach(connection)
}

fn stamps(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let application = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok((application, version))
}

fn check(application: i64, version: i64) -> Result<(), CatalogError> {
    match (application, version) {
        (APPLICATION, FORMAT) => Ok(()),
        (APPLICATION, other) => Err(CatalogError::Version(other)),
        _ => Err(CatalogError::Foreign),
    }
}

/// Writes a row of `meta`.
pub fn set_meta(connection: &Connection, name: &str, value: impl ToSql) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2, checksum_of('meta', ?1, ?2))";
    connection.prepare_cached(sql)?.execute(params![name, value]).map(drop)
}

fn meta<T: FromSql>(connection: &Connection, name: &str) -> Result<T, CatalogError> {
    let sql = "SELECT value, checksum = checksum_of('meta', name, value) FROM meta WHERE name = ?1";
    let row = connection.query_row(sql, [name], |row| Ok((row.get::<_, T>(0), row.get(1)?))).optional()?;
    match row {
        Some((value, true)) => Ok(value?),
        Some((_, false)) => Err(mismatch("meta").into()),
        None => Err(Damaged::new(format!("the {name} is missing")).into()),
    }
}

/// The damage of a row that is not what was written.
pub fn mismatch(table: &str) -> Damaged {
    Damaged::new(format!("the checksum of a row of {table} does not match"))
}

/// Rows of a table, each with whether its checksum matches as its last column; the first that does not ends it.
fn rows<T>(
    connection: &Connection,
    table: &str,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Result<T, CatalogError>,
) -> Result<Vec<T>, CatalogError> {
    let mut select = connection.prepare(sql)?;
    let last = select.column_count().saturating_sub(1);
    let mut rows = select.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        if !row.get::<_, bool>(last)? {
            return Err(mismatch(table).into());
        }
        all.push(read(row)?);
    }
    Ok(all)
}

/// A key of the store.
pub fn key(connection: &Connection, name: &str) -> Result<[u8; 16], CatalogError> {
    let value: Vec<u8> = meta(connection, name)?;
    <[u8; 16]>::try_from(value).map_err(|_| Damaged::new(format!("the {name} is not one")).into())
}

/// The oldest generation of the log that is still needed.
pub fn log_first(connection: &Connection) -> Result<u64, CatalogError> {
    meta(connection, LOG_FIRST).map(|first: i64| first.max(0) as u64)
}

/// The last number that was given to a segment.
pub fn last_segment(connection: &Connection) -> Result<u32, CatalogError> {
    meta(connection, LAST_SEGMENT)
}

/// How many groups each log had when the store was last closed, by generation.
pub fn logs(connection: &Connection) -> Result<Vec<(u64, u64)>, CatalogError> {
    let sql = "SELECT generation, groups, checksum = checksum_of('logs', generation, groups) FROM logs
               ORDER BY generation";
    rows(connection, "logs", sql, |row| {
        let (generation, groups): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok((generation.max(0) as u64, groups.max(0) as u64))
    })
}

/// Notes how many groups each log has, in one transaction.
pub fn put_logs(connection: &Connection, logs: &[(u64, u64)]) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("DELETE FROM logs", [])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO logs VALUES (?1, ?2, checksum_of('logs', ?1, ?2))")?;
    for (generation, groups) in logs {
        insert.execute(params![*generation as i64, *groups as i64])?;
    }
    drop(insert);
    transaction.commit()
}

/// That every row of the tables which opening does not read is what was written.
pub fn check_rows(connection: &Connection) -> Result<(), CatalogError> {
    let accounts =
        "SELECT checksum = checksum_of('accounts', account, sha1_salt, sha1_iterations, sha1_stored_key,
        sha1_server_key, sha256_salt, sha256_iterations, sha256_stored_key, sha256_server_key) FROM accounts";
    let roster = "SELECT checksum = checksum_of('roster', account, contact, name, subscription, ask, listed,
        request, groups) FROM roster";
    rows(connection, "accounts", accounts, |_| Ok(()))?;
    rows(connection, "roster", roster, |_| Ok(())).map(drop)
}

/// That the tables are those that this program makes.
pub fn check_schema(connection: &Connection) -> Result<(), CatalogError> {
    let fresh = Connection::open_in_memory()?;
    fresh.execute_batch(SCHEMA)?;
    match checksum::same_schema(connection, &fresh)? {
        true => Ok(()),
        false => Err(Damaged::new("its tables are not those that were made").into()),
    }
}

/// Every archive that has a row.
pub fn archives(connection: &Connection) -> Result<Vec<ArchiveRow>, CatalogError> {
    let sql = "SELECT archive, owner, first, next, last_stamp, prefs, expires_after, checksum =
                 checksum_of('archives', archive, owner, first, next, last_stamp, prefs, expires_after)
               FROM archives ORDER BY archive";
    rows(connection, "archives", sql, |row| {
        let prefs = row.get_ref(5)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        let prefs = prefs.map(read_prefs).transpose()?;
        let expires_after = row.get::<_, Option<i64>>(6)?.map(period);
        Ok(ArchiveRow {
            archive: row.get(0)?,
            owner: row.get(1)?,
            first: row.get(2)?,
            next: row.get(3)?,
            last_stamp: row.get(4)?,
            settings: Settings { prefs, expires_after },
        })
    })
}

/// Every segment, oldest first.
pub fn segments(connection: &Connection) -> Result<Vec<SegmentRow>, CatalogError> {
    let sql = "SELECT segment, place, level, entries, contents,
                 checksum = checksum_of('segments', segment, place, level, entries, contents)
               FROM segments ORDER BY place";
    rows(connection, "segments", sql, |row| {
        Ok(SegmentRow {
            segment: row.get(0)?,
            place: row.get(1)?,
            level: row.get(2)?,
            entries: row.get::<_, i64>(3)?.max(0) as u64,
            contents: row.get(4)?,
        })
    })
}

/// Puts a segment into the registry.
pub fn put_segment(connection: &Connection, row: &SegmentRow) -> rusqlite::Result<()> {
    let sql = "INSERT INTO segments VALUES (?1, ?2, ?3, ?4, ?5, checksum_of('segments', ?1, ?2, ?3, ?4, ?5))";
    let mut insert = connection.prepare_cached(sql)?;
    insert.execute(params![row.segment, row.place, row.level, row.entries as i64, row.contents]).map(drop)
}

/// A tombstone that no segment holds yet: archive, position, change, tombstone.
pub type Override = (u32, i64, i64, Vec<u8>);

/// Every tombstone that no segment holds yet.
pub fn overrides(connection: &Connection) -> Result<Vec<Override>, CatalogError> {
    let sql = "SELECT archive, position, change, tombstone,
                 checksum = checksum_of('overrides', archive, position, change, tombstone) FROM overrides";
    rows(connection, "overrides", sql, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
}

/// Puts a tombstone beside the segments.
pub fn put_override(
    connection: &Connection,
    archive: u32,
    position: i64,
    change: i64,
    tombstone: &[u8],
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO overrides
               VALUES (?1, ?2, ?3, ?4, checksum_of('overrides', ?1, ?2, ?3, ?4))";
    connection.prepare_cached(sql)?.execute(params![archive, position, change, tombstone]).map(drop)
}

/// Sets one of an archive's settings, or none: `prefs` or `expires_after`.
pub fn put_settings(
    connection: &Connection,
    archive: u32,
    prefs: Option<Option<String>>,
    expires_after: Option<Option<i64>>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE archives SET prefs = iif(?2, ?3, prefs), expires_after = iif(?4, ?5, expires_after),
                 checksum = checksum_of('archives', archive, owner, first, next, last_stamp,
                   iif(?2, ?3, prefs), iif(?4, ?5, expires_after))
               WHERE archive = ?1";
    let mut update = connection.prepare_cached(sql)?;
    let (set_prefs, set_period) = (prefs.is_some(), expires_after.is_some());
    update
        .execute(params![archive, set_prefs, prefs.flatten(), set_period, expires_after.flatten()])
        .map(drop)
}

/// Writes the ends of an archive. What is there already is only ever moved forward.
pub fn put_archive(
    connection: &Connection,
    archive: u32,
    owner: &str,
    (first, next, last_stamp): (i64, i64, i64),
) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO archives VALUES (?1, ?2, ?3, ?4, ?5, NULL, NULL,
           checksum_of('archives', ?1, ?2, ?3, ?4, ?5, NULL, NULL))
         ON CONFLICT (archive) DO UPDATE SET
           first = max(first, excluded.first), next = max(next, excluded.next),
           last_stamp = max(last_stamp, excluded.last_stamp),
           checksum = checksum_of('archives', archive, owner, max(first, excluded.first),
             max(next, excluded.next), max(last_stamp, excluded.last_stamp), prefs, expires_after)",
    )?;
    put.execute(params![archive, owner, first, next, last_stamp]).map(drop)
}

/// Prefs as text: the default on the first line, then `+` and `-` before each JID.
pub fn write_prefs(prefs: &Prefs) -> String {
    let mut text = prefs.default_policy().as_str().to_owned();
    for (sign, jid) in prefs.always().map(|jid| ('+', jid)).chain(prefs.never().map(|jid| ('-', jid))) {
        text.push('\n');
        text.push(sign);
        text.push_str(jid.as_str());
    }
    text
}

fn read_prefs(text: &str) -> Result<Prefs, Damaged> {
    let mut lines = text.split('\n');
    let default =
        lines.next().unwrap_or_default().parse().map_err(|_| Damaged::new("prefs without default"))?;
    let (mut always, mut never) = (Vec::<Jid>::new(), Vec::<Jid>::new());
    for line in lines {
        match line.split_at_checked(1) {
            Some(("+", jid)) => always.push(crate::format::jid(jid)?),
            Some(("-", jid)) => never.push(crate::format::jid(jid)?),
            _ => return Err(Damaged::new("prefs with an unknown line")),
        }
    }
    Ok(Prefs::new(default, always, never))
}

/// A period as it stands in the database.
pub fn seconds(period: ExpiresAfter) -> i64 {
    match period {
        ExpiresAfter::Never => -1,
        ExpiresAfter::Seconds(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX),
    }
}

fn period(seconds: i64) -> ExpiresAfter {
    u64::try_from(seconds).map_or(ExpiresAfter::Never, ExpiresAfter::Seconds)
}
