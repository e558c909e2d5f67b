//! What stands in the small database row by row: archives with their settings, segments, tombstones, the ends of
//! logs. Opening it, its keys and its checksums are left to `catalog`.

use mammoth_archive::{ExpiresAfter, Settings};
use rusqlite::{Connection, params};

use crate::catalog::{CatalogError, rows};
use crate::format::Damaged;

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

/// Every archive that has a row.
pub fn archives(connection: &Connection) -> Result<Vec<ArchiveRow>, CatalogError> {
    let sql = "SELECT archive, owner, first, next, last_stamp, prefs, expires_after, checksum =
                 checksum_of('archives', archive, owner, first, next, last_stamp, prefs, expires_after)
               FROM archives ORDER BY archive";
    rows(connection, "archives", sql, |row| {
        let prefs = row.get_ref(5)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        let prefs =
            prefs.map(|text| text.parse().map_err(|error| Damaged::new(format!("{error}")))).transpose()?;
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
