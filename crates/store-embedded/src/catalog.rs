//! `mammoth.sqlite`, the small database: its tables, opening it, the store's keys and the checksum that every row has.
//! Archives, segments, tombstones and the ends of logs are left to `rows`, accounts and rosters to `accounts`; entries
//! are never here.

use std::path::Path;

use mammoth_archive::IdKey;
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
pub fn rows<T>(
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
