//! The conversations and ids of several segments, read side by side in the order in which one segment has them.
//! What is done with them is left to `merge` and `verify`.

use std::collections::VecDeque;

use rusqlite::{Row, Rows, Statement, params};

use crate::build::BuildError;
use crate::checksum;
use crate::packed::{read_ids, read_positions};
use crate::segment::Reader;
use crate::segment_index::read_chunk;

/// Every conversation of a segment, in order.
pub const CONVERSATIONS: &str = "SELECT * FROM conversations ORDER BY archive, contact";
/// Every row of ids of a segment, in order.
pub const IDS: &str = "SELECT * FROM ids ORDER BY archive, hash, position";

/// The same question, prepared for each of several segments.
pub fn prepare<'a>(readers: &'a [Reader<'_>], sql: &str) -> Result<Vec<Statement<'a>>, BuildError> {
    let mut statements = Vec::with_capacity(readers.len());
    for reader in readers {
        statements.push(reader.connection()?.prepare(sql)?);
    }
    Ok(statements)
}

/// Rows of a table read one ahead.
struct Peek<'a, T> {
    table: &'static str,
    rows: Rows<'a>,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
    head: Option<T>,
}

impl<'a, T> Peek<'a, T> {
    fn new(
        table: &'static str,
        statement: &'a mut Statement<'_>,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Peek<'a, T>, BuildError> {
        let mut peek = Peek { table, rows: statement.query([])?, read, head: None };
        peek.take()?;
        Ok(peek)
    }

    fn take(&mut self) -> Result<Option<T>, BuildError> {
        let next = match self.rows.next()? {
            Some(row) => {
                checksum::check(self.table, row)?;
                Some((self.read)(row)?)
            }
            None => None,
        };
        Ok(std::mem::replace(&mut self.head, next))
    }
}

type ConversationRow = (u32, i64, i64, Option<Vec<u8>>);

/// The conversations of several segments. Positions of an earlier segment come first.
pub struct Conversations<'a> {
    sources: Vec<(Peek<'a, ConversationRow>, &'a Reader<'a>)>,
}

impl<'a> Conversations<'a> {
    /// At the first one; `statements` are [`CONVERSATIONS`] of `readers`.
    pub fn new(
        statements: &'a mut [Statement<'_>],
        readers: &'a [Reader<'a>],
    ) -> Result<Conversations<'a>, BuildError> {
        let mut sources = Vec::with_capacity(readers.len());
        for (statement, reader) in statements.iter_mut().zip(readers) {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            sources.push((Peek::new("conversations", statement, read)?, reader));
        }
        Ok(Conversations { sources })
    }

    /// The archive and contact of the next one.
    pub fn next_key(&self) -> Option<(u32, i64)> {
        self.sources.iter().filter_map(|(peek, _)| peek.head.as_ref()).map(|row| (row.0, row.1)).min()
    }

    /// Its positions in all segments, and how many they say they are.
    pub fn take(&mut self, archive: u32, contact: i64) -> Result<(Vec<i64>, i64), BuildError> {
        let mut all = Vec::new();
        let mut said = 0;
        for (peek, reader) in &mut self.sources {
            if peek.head.as_ref().is_none_or(|row| (row.0, row.1) != (archive, contact)) {
                continue;
            }
            let Some((_, _, count, inline)) = peek.take()? else { continue };
            said += count;
            if let Some(data) = inline {
                all.extend(read_positions(&data)?);
                continue;
            }
            let sql = "SELECT * FROM chunks WHERE archive = ?1 AND contact = ?2 ORDER BY first";
            let mut select = reader.connection()?.prepare_cached(sql)?;
            let mut rows = select.query(params![archive, contact])?;
            while let Some(row) = rows.next()? {
                checksum::check("chunks", row)?;
                all.extend(read_chunk(row)?.1);
            }
        }
        Ok((all, said))
    }
}

/// The ids of several segments.
pub struct Ids<'a> {
    sources: Vec<IdCursor<'a>>,
}

struct IdCursor<'a> {
    rows: Peek<'a, (u32, Vec<u8>)>,
    archive: u32,
    ids: VecDeque<(u32, i64)>,
}

impl IdCursor<'_> {
    fn refill(&mut self) -> Result<(), BuildError> {
        while self.ids.is_empty()
            && let Some((archive, data)) = self.rows.take()?
        {
            self.archive = archive;
            self.ids.extend(read_ids(&data)?);
        }
        Ok(())
    }
}

impl<'a> Ids<'a> {
    /// At the first one; `statements` are [`IDS`].
    pub fn new(statements: &'a mut [Statement<'_>]) -> Result<Ids<'a>, BuildError> {
        let mut sources = Vec::with_capacity(statements.len());
        for statement in statements {
            let rows = Peek::new("ids", statement, |row: &Row<'_>| Ok((row.get(0)?, row.get(3)?)))?;
            let mut cursor = IdCursor { rows, archive: 0, ids: VecDeque::new() };
            cursor.refill()?;
            sources.push(cursor);
        }
        Ok(Ids { sources })
    }

    /// The archive of the next one.
    pub fn next_archive(&self) -> Option<u32> {
        self.sources.iter().filter(|source| !source.ids.is_empty()).map(|source| source.archive).min()
    }

    /// The next one of this archive, which is [`next_archive`](Self::next_archive).
    pub fn take(&mut self, archive: u32) -> Result<Option<(u32, i64)>, BuildError> {
        let of_archive = self.sources.iter_mut().filter(|s| s.archive == archive && !s.ids.is_empty());
        let Some(source) = of_archive.min_by_key(|source| source.ids.front().copied()) else {
            return Ok(None);
        };
        let id = source.ids.pop_front();
        if source.ids.is_empty() {
            source.refill()?;
        }
        Ok(id)
    }
}
