//! Finding entries in a segment by conversation and by id: counts are columns, ranks one search. What is asked is
//! decided by `read`; the same for all conversations at once is in `merge_index`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Row, params};

use crate::checksum::{self, RowError};
use crate::format::Damaged;
use crate::packed::{read_ids, read_positions};
use crate::segment::{Reader, SegmentError};
use crate::state::Extent;

/// So many conversations of one segment are remembered.
const KNOWN_MAX: usize = 512;

/// The positions of a conversation's entries in a segment.
#[derive(Clone, Debug)]
enum Conversation {
    Few(Arc<[i64]>),
    Many(u64),
}

/// Conversations of a segment that were looked for, there or not: whoever reads one page of a conversation reads the
/// next, and each page counts them all. When they are too many, all are forgotten.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<(u32, i64), Option<Conversation>>>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, HashMap<(u32, i64), Option<Conversation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rank and the positions of a row of `chunks`, whole.
pub fn read_chunk(row: &Row<'_>) -> Result<(u64, Vec<i64>), RowError> {
    let data = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
    Ok((row.get::<_, i64>(3)?.max(0) as u64, read_positions(data)?))
}

impl Reader<'_> {
    fn conversation(&self, archive: u32, contact: i64) -> Result<Option<Conversation>, SegmentError> {
        let known = self.known();
        if let Some(found) = known.lock().get(&(archive, contact)) {
            return Ok(found.clone());
        }
        let found = self.look_up(archive, contact)?;
        let mut known = known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert((archive, contact), found.clone());
        Ok(found)
    }

    fn look_up(&self, archive: u32, contact: i64) -> Result<Option<Conversation>, SegmentError> {
        let sql = "SELECT * FROM conversations WHERE archive = ?1 AND contact = ?2";
        let found = self.row("conversations", sql, params![archive, contact], |row| {
            let count = row.get::<_, i64>(2)?.max(0) as u64;
            let Some(data) = row.get_ref(3)?.as_blob_or_null().map_err(rusqlite::Error::from)? else {
                return Ok(Conversation::Many(count));
            };
            let positions = read_positions(data)?;
            if positions.len() as u64 != count {
                return Err(Damaged::new("a conversation's count is wrong").into());
            }
            Ok(Conversation::Few(positions.into()))
        })?;
        if found.is_none() {
            // A row whose key has rotted is not found, and stands beside where it is looked for.
            for neighbour in [
                "SELECT * FROM conversations WHERE (archive, contact) < (?1, ?2)
                 ORDER BY archive DESC, contact DESC LIMIT 1",
                "SELECT * FROM conversations WHERE (archive, contact) > (?1, ?2)
                 ORDER BY archive, contact LIMIT 1",
            ] {
                self.row("conversations", neighbour, params![archive, contact], |_| Ok(()))?;
            }
        }
        Ok(found)
    }

    /// How many entries of the conversation in the segment stand before a position.
    fn rank(&self, archive: u32, contact: i64, position: i64) -> Result<u64, SegmentError> {
        let sql = "SELECT * FROM chunks WHERE archive = ?1 AND contact = ?2 AND first < ?3
                   ORDER BY first DESC LIMIT 1";
        let found = self.row("chunks", sql, params![archive, contact, position], |row| {
            let (rank, positions) = read_chunk(row)?;
            Ok(rank + positions.partition_point(|p| *p < position) as u64)
        })?;
        Ok(found.unwrap_or(0))
    }

    /// How many entries of a conversation lie in `span`.
    pub fn count(
        &self,
        extent: &Extent,
        archive: u32,
        contact: i64,
        span: &Range<i64>,
    ) -> Result<u64, SegmentError> {
        match self.conversation(archive, contact)? {
            None => Ok(0),
            Some(Conversation::Few(positions)) => {
                Ok(positions.iter().filter(|position| span.contains(position)).count() as u64)
            }
            Some(Conversation::Many(count)) => {
                let from =
                    if span.start <= extent.first { 0 } else { self.rank(archive, contact, span.start)? };
                let to =
                    if span.end >= extent.next() { count } else { self.rank(archive, contact, span.end)? };
                Ok(to.saturating_sub(from))
            }
        }
    }

    /// Where the entries of a conversation in `span` lie whose ranks there are `ranks`.
    pub fn select(
        &self,
        archive: u32,
        contact: i64,
        span: &Range<i64>,
        ranks: &Range<u64>,
    ) -> Result<Vec<i64>, SegmentError> {
        let wanted = usize::try_from(ranks.end.saturating_sub(ranks.start)).unwrap_or(usize::MAX);
        match self.conversation(archive, contact)? {
            None => Ok(Vec::new()),
            Some(Conversation::Few(positions)) => {
                let inside = positions.iter().copied().filter(|position| span.contains(position));
                Ok(inside.skip(ranks.start as usize).take(wanted).collect())
            }
            Some(Conversation::Many(_)) => {
                let from = self.rank(archive, contact, span.start)?.saturating_add(ranks.start);
                let sqlite = |source| self.sqlite(source);
                let sql = "SELECT * FROM chunks WHERE archive = ?1 AND contact = ?2 AND rank >= coalesce(
                             (SELECT rank FROM chunks WHERE archive = ?1 AND contact = ?2 AND rank <= ?3
                              ORDER BY rank DESC LIMIT 1), 0)
                           ORDER BY rank";
                let mut statement = self.connection()?.prepare_cached(sql).map_err(sqlite)?;
                let mut rows = statement.query(params![archive, contact, from as i64]).map_err(sqlite)?;
                let mut found = Vec::new();
                while found.len() < wanted {
                    let Some(row) = rows.next().map_err(sqlite)? else { break };
                    let chunk = checksum::check("chunks", row).and_then(|()| read_chunk(row));
                    let (rank, positions) = chunk.map_err(|error| self.of_row(error))?;
                    let at = from.saturating_add(found.len() as u64);
                    if rank > at {
                        return Err(self.damaged("a part of a conversation is missing".into()));
                    }
                    let left = wanted - found.len();
                    found.extend(positions.into_iter().skip((at - rank) as usize).take(left));
                }
                Ok(found)
            }
        }
    }

    /// Where the entries in `span` lie that carry an id of this hash: newest first, at most `limit`.
    pub fn find(
        &self,
        archive: u32,
        hash: u32,
        span: &Range<i64>,
        limit: usize,
    ) -> Result<Vec<i64>, SegmentError> {
        let sqlite = |source| self.sqlite(source);
        let sql = "SELECT * FROM ids WHERE archive = ?1 AND hash <= ?2 ORDER BY hash DESC, position DESC";
        let mut statement = self.connection()?.prepare_cached(sql).map_err(sqlite)?;
        let mut rows = statement.query(params![archive, hash]).map_err(sqlite)?;
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(row) = rows.next().map_err(sqlite)? else { break };
            checksum::check("ids", row).map_err(|error| self.of_row(error))?;
            let first = row.get::<_, u32>(1).map_err(sqlite)?;
            let data = row.get_ref(3).map_err(sqlite)?.as_blob().map_err(|e| sqlite(e.into()))?;
            let ids = read_ids(data)?;
            let matching = ids.iter().rev().filter(|(h, position)| *h == hash && span.contains(position));
            found.extend(matching.map(|(_, position)| *position).take(limit - found.len()));
            if first < hash {
                break;
            }
        }
        Ok(found)
    }
}
