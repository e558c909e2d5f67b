//! Finding entries in a segment by conversation and by id: counts are columns, ranks one search. What is asked is
//! decided by `read`; the same for all conversations at once is in `merge_index`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::params;

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
        let sqlite = |source| self.sqlite(source);
        let mut statement = self
            .connection()?
            .prepare_cached("SELECT count, positions FROM conversations WHERE archive = ?1 AND contact = ?2")
            .map_err(sqlite)?;
        let mut rows = statement.query(params![archive, contact]).map_err(sqlite)?;
        let Some(row) = rows.next().map_err(sqlite)? else { return Ok(None) };
        let count = row.get::<_, i64>(0).map_err(sqlite)?.max(0) as u64;
        match row.get_ref(1).map_err(sqlite)?.as_blob_or_null().map_err(|e| sqlite(e.into()))? {
            Some(data) => {
                let positions = read_positions(data)?;
                if positions.len() as u64 != count {
                    return Err(self.damaged("a conversation's count is wrong".into()));
                }
                Ok(Some(Conversation::Few(positions.into())))
            }
            None => Ok(Some(Conversation::Many(count))),
        }
    }

    /// How many entries of the conversation in the segment stand before a position.
    fn rank(&self, archive: u32, contact: i64, position: i64) -> Result<u64, SegmentError> {
        let sql = "SELECT rank, data FROM chunks WHERE archive = ?1 AND contact = ?2 AND first < ?3
                   ORDER BY first DESC LIMIT 1";
        let found = self.row(sql, params![archive, contact, position], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let Some((rank, data)) = found else { return Ok(0) };
        let before = read_positions(&data)?.partition_point(|p| *p < position);
        Ok(rank.max(0) as u64 + before as u64)
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
                let sql =
                    "SELECT rank, data FROM chunks WHERE archive = ?1 AND contact = ?2 AND rank >= coalesce(
                             (SELECT rank FROM chunks WHERE archive = ?1 AND contact = ?2 AND rank <= ?3
                              ORDER BY rank DESC LIMIT 1), 0)
                           ORDER BY rank";
                let mut statement = self.connection()?.prepare_cached(sql).map_err(sqlite)?;
                let mut rows = statement.query(params![archive, contact, from as i64]).map_err(sqlite)?;
                let mut found = Vec::new();
                while found.len() < wanted {
                    let Some(row) = rows.next().map_err(sqlite)? else { break };
                    let rank = row.get::<_, i64>(0).map_err(sqlite)?.max(0) as u64;
                    let data = row.get_ref(1).map_err(sqlite)?.as_blob().map_err(|e| sqlite(e.into()))?;
                    let skip = from.saturating_sub(rank) as usize;
                    let left = wanted - found.len();
                    found.extend(read_positions(data)?.into_iter().skip(skip).take(left));
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
        let sql =
            "SELECT hash, data FROM ids WHERE archive = ?1 AND hash <= ?2 ORDER BY hash DESC, position DESC";
        let mut statement = self.connection()?.prepare_cached(sql).map_err(sqlite)?;
        let mut rows = statement.query(params![archive, hash]).map_err(sqlite)?;
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(row) = rows.next().map_err(sqlite)? else { break };
            let first = row.get::<_, u32>(0).map_err(sqlite)?;
            let data = row.get_ref(1).map_err(sqlite)?.as_blob().map_err(|e| sqlite(e.into()))?;
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
