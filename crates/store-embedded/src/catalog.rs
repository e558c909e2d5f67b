//! `mammoth.sqlite`, the small database: who owns which archive number, the ends that expiry has moved, settings,
//! which segments there are, tombstones not yet folded into them, and the store's keys. Accounts and rosters lie
//! beside them and are left to `accounts`; entries are never here.

use std::path::Path;

use mammoth_archive::jid::Jid;
use mammoth_archive::{ExpiresAfter, Prefs, Settings};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::format::{Damaged, FORMAT};

/// The name of the small database in the store's folder.
pub const FILE: &str = "mammoth.sqlite";
/// `application_id`: says to `file` and to us whose database it is ("Mamm").
const APPLICATION: i64 = 0x4d61_6d6d;

const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE archives (
    archive       INTEGER PRIMARY KEY, -- the number that stands for the owner everywhere else
    owner         TEXT NOT NULL,       -- the bare JID
    first         INTEGER NOT NULL,    -- what lies before this position has gone
    next          INTEGER NOT NULL,    -- the high-water mark when this row was last written; segments and log may be ahead
    last_stamp    INTEGER NOT NULL,    -- as of the same moment
    prefs         TEXT,
    expires_after INTEGER              -- seconds, or -1 for never
);
CREATE TABLE segments (
    segment  INTEGER PRIMARY KEY,      -- the file is segments/<segment>.sqlite
    place    INTEGER NOT NULL UNIQUE,  -- oldest entries first
    level    INTEGER NOT NULL,         -- how often its entries were merged
    entries  INTEGER NOT NULL
);
CREATE TABLE overrides (
    archive   INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    change    INTEGER NOT NULL,        -- grows with each retraction
    tombstone BLOB NOT NULL,
    PRIMARY KEY (archive, position)
) WITHOUT ROWID;
CREATE TABLE accounts (
    account TEXT PRIMARY KEY,
    sha1_salt BLOB NOT NULL, sha1_iterations INTEGER NOT NULL,
    sha1_stored_key BLOB NOT NULL, sha1_server_key BLOB NOT NULL,
    sha256_salt BLOB NOT NULL, sha256_iterations INTEGER NOT NULL,
    sha256_stored_key BLOB NOT NULL, sha256_server_key BLOB NOT NULL
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
}

/// Opens the database for writing, making it if `may_make`.
pub fn open(dir: &Path, may_make: bool) -> Result<Connection, CatalogError> {
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
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.execute_batch(SCHEMA)?;
        let insert = "INSERT INTO meta VALUES (?1, ?2)";
        connection.execute(insert, params!["id_key", &id_key[..]])?;
        connection.execute(insert, params!["hash_key", &hash_key[..]])?;
        connection.execute(insert, params!["log_first", 1])?;
        connection.execute(insert, params!["last_segment", 0])?;
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
    Ok(())
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

/// A key of the store.
pub fn key(connection: &Connection, name: &str) -> Result<[u8; 16], CatalogError> {
    let value: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
        .optional()?;
    let key = value.and_then(|value| <[u8; 16]>::try_from(value).ok());
    key.ok_or_else(|| Damaged::new(format!("the {name} is missing")).into())
}

/// The oldest generation of the log that is still needed.
pub fn log_first(connection: &Connection) -> rusqlite::Result<u64> {
    let first = connection.query_row("SELECT value FROM meta WHERE name = 'log_first'", [], |row| row.get(0));
    first.map(|first: i64| first.max(0) as u64)
}

/// The last number that was given to a segment.
pub fn last_segment(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("SELECT value FROM meta WHERE name = 'last_segment'", [], |row| row.get(0))
}

/// Every archive that has a row.
pub fn archives(connection: &Connection) -> Result<Vec<ArchiveRow>, CatalogError> {
    let mut select = connection.prepare(
        "SELECT archive, owner, first, next, last_stamp, prefs, expires_after FROM archives ORDER BY archive",
    )?;
    let mut rows = select.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let prefs = row.get_ref(5)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        let prefs = prefs.map(read_prefs).transpose()?;
        let expires_after = row.get::<_, Option<i64>>(6)?.map(period);
        all.push(ArchiveRow {
            archive: row.get(0)?,
            owner: row.get(1)?,
            first: row.get(2)?,
            next: row.get(3)?,
            last_stamp: row.get(4)?,
            settings: Settings { prefs, expires_after },
        });
    }
    Ok(all)
}

/// Every segment, oldest first.
pub fn segments(connection: &Connection) -> rusqlite::Result<Vec<SegmentRow>> {
    let mut select =
        connection.prepare("SELECT segment, place, level, entries FROM segments ORDER BY place")?;
    let rows = select.query_map([], |row| {
        Ok(SegmentRow {
            segment: row.get(0)?,
            place: row.get(1)?,
            level: row.get(2)?,
            entries: row.get::<_, i64>(3)?.max(0) as u64,
        })
    })?;
    rows.collect()
}

/// A tombstone that no segment holds yet: archive, position, change, tombstone.
pub type Override = (u32, i64, i64, Vec<u8>);

/// Every tombstone that no segment holds yet.
pub fn overrides(connection: &Connection) -> rusqlite::Result<Vec<Override>> {
    let mut select = connection.prepare("SELECT archive, position, change, tombstone FROM overrides")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.collect()
}

/// Writes the ends of an archive. What is there already is only ever moved forward.
pub fn put_archive(
    connection: &Connection,
    archive: u32,
    owner: &str,
    (first, next, last_stamp): (i64, i64, i64),
) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO archives (archive, owner, first, next, last_stamp) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (archive) DO UPDATE SET
           first = max(first, excluded.first), next = max(next, excluded.next),
           last_stamp = max(last_stamp, excluded.last_stamp)",
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
