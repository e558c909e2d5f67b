//! Pages: from a query to ranges of positions, and from those to rows, all of one snapshot. An archive's entries and
//! each conversation's are numbered without gaps, so counts are subtractions; where a moment or a position lies
//! among them is found by halving, inside the database. The arithmetic of paging is left to
//! [`mammoth_archive::PageRequest::window`].

use std::future::Future;

use bytes::Bytes;
use jid::Jid;
use mammoth_archive::{
    Filter, Head, Page, PageRequest, PageStart, Position, Query, StoreError, StoredEntry, Timestamp,
};
use tokio_postgres::Row;

use crate::append::head_of;
use crate::failure::Failure;
use crate::key::Key;
use crate::session::{Param, Session, column};
use crate::sql::{self, OfConversation};

/// What an attempt answers: nothing to be said of the session, whatever is said of the query.
type Answer<T> = Result<Result<T, StoreError>, Failure>;

/// The rows of a page.
enum Rows {
    /// None.
    None,
    /// At these positions.
    Range(i64, i64),
    /// At these places of a conversation.
    OfConversation(Conversation, i64, i64),
    /// At each of these positions.
    At(Vec<i64>),
}

struct Plan {
    rows: Rows,
    count: u64,
    index: u64,
    complete: bool,
}

/// Reads a page.
pub async fn page(session: &Session, archive: Key, query: &Query<Position>) -> Answer<Page<StoredEntry>> {
    let with = query.filter.with.as_ref();
    let contact = with.map(Key::of);
    let found = match contact {
        None => {
            session.statement(sql::HEAD).await?;
            let head: [Param<'_>; 1] = [&archive];
            let head = session.row(sql::HEAD, &head);
            second(session.run(sql::BEGIN_SNAPSHOT), head).await?
        }
        Some(contact) => {
            session.statement(sql::HEAD_AND_CONVERSATION).await?;
            let head: [Param<'_>; 2] = [&archive, &contact];
            let head = session.row(sql::HEAD_AND_CONVERSATION, &head);
            second(session.run(sql::BEGIN_SNAPSHOT), head).await?
        }
    };
    let reading = Reading { session, archive, ends: Ends::of(found.as_ref(), with)? };
    if let Some(position) = query.named().copied().find(|position| !reading.ends.head.holds(*position)) {
        session.run(sql::COMMIT).await?;
        return Ok(Err(StoreError::NotFound(position)));
    }
    let Plan { rows, count, index, complete } = reading.plan(query).await?;
    let entries = reading.rows(rows).await?;
    Ok(Ok(Page { entries, count, index, complete }))
}

/// Both at once, in this order, so that they travel together; answers what the second does.
async fn second<A, B>(
    first: impl Future<Output = Result<A, Failure>>,
    second: impl Future<Output = Result<B, Failure>>,
) -> Result<B, Failure> {
    let (first, second) = tokio::join!(biased; first, second);
    first.and(second)
}

/// Where an archive, and the conversation asked for, begin and end in this snapshot.
struct Ends {
    head: Head,
    /// Rows before this position have been deleted.
    removed: Position,
    /// The conversation asked for: that with a contact, or with one full JID of it.
    conversation: Option<Conversation>,
}

#[derive(Clone, Copy)]
struct Conversation {
    contact: Key,
    /// Its statements.
    sql: &'static OfConversation,
    /// The places of its entries that have a row.
    low: i64,
    next: i64,
}

impl Ends {
    fn of(row: Option<&Row>, with: Option<&Jid>) -> Result<Ends, Failure> {
        let mut conversation = with.map(|with| Conversation {
            contact: Key::of(with),
            sql: if with.is_bare() { &sql::OF_CONTACT } else { &sql::OF_FULL_CONTACT },
            low: 0,
            next: 0,
        });
        let Some(row) = row else {
            return Ok(Ends { head: Head::NEW, removed: Position::START, conversation });
        };
        if let Some(conversation) = &mut conversation {
            let (low, next): (Option<i64>, Option<i64>) = (column(row, 4)?, column(row, 5)?);
            (conversation.low, conversation.next) = (low.unwrap_or(0), next.unwrap_or(0));
        }
        Ok(Ends { head: head_of(row, 0)?, removed: Position(column(row, 3)?), conversation })
    }
}

fn as_u64(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn as_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn missing() -> Failure {
    Failure::corrupt("an entry between an archive's ends is missing")
}

/// The stamps from which on an entry is later than `end`; `None` when none can be.
fn later_than(end: Option<Timestamp>) -> Option<Timestamp> {
    end.and_then(|end| end.0.checked_add(1)).map(Timestamp)
}

/// The window of a page among `count` entries, when the rank of its cursor is known.
fn window(page: &PageRequest<Position>, count: u64, rank: u64) -> (u64, u64, bool) {
    let Ok(window) = page.window(count, |_| Ok::<_, std::convert::Infallible>(rank));
    (window.ranks.start, window.ranks.end, window.complete)
}

struct Reading<'s> {
    session: &'s Session,
    archive: Key,
    ends: Ends,
}

impl Reading<'_> {
    async fn plan(&self, query: &Query<Position>) -> Result<Plan, Failure> {
        match (&query.filter.ids, self.ends.conversation) {
            (Some(ids), _) => self.plan_ids(query, ids).await,
            (None, None) => self.plan_all(query).await,
            (None, Some(conversation)) => self.plan_conversation(query, conversation).await,
        }
    }

    /// Without a contact, positions are ranks.
    async fn plan_all(&self, query: &Query<Position>) -> Result<Plan, Failure> {
        let Query { filter, page } = query;
        let span = filter.span(self.ends.head.range());
        let (low, high) = (span.start.0, span.end.0);
        let (from, to) = tokio::join!(
            self.seek_stamp(low, high, filter.start, low),
            self.seek_stamp(low, high, later_than(filter.end), high)
        );
        let from = from?;
        let to = to?.max(from);
        let rank = |position: Position| as_u64(position.0.clamp(from, to).saturating_sub(from));
        let rank = match page.start {
            PageStart::After(position) => rank(position.offset(1)),
            PageStart::Before(position) => rank(position),
            PageStart::First | PageStart::Last | PageStart::Index(_) => 0,
        };
        let count = as_u64(to.saturating_sub(from));
        let (start, end, complete) = window(page, count, rank);
        let rows = if start < end {
            Rows::Range(from.saturating_add(as_i64(start)), from.saturating_add(as_i64(end)))
        } else {
            Rows::None
        };
        Ok(Plan { rows, count, index: start, complete })
    }

    /// The first position of `low .. high` stamped at `stamp` or later; without a stamp, `otherwise`.
    async fn seek_stamp(
        &self,
        low: i64,
        high: i64,
        stamp: Option<Timestamp>,
        otherwise: i64,
    ) -> Result<i64, Failure> {
        match stamp {
            Some(Timestamp(stamp)) if low < high => {
                let row = self.session.row(sql::SEEK_STAMP, &[&self.archive, &low, &high, &stamp]).await?;
                column(&row.ok_or_else(missing)?, 0)
            }
            _ => Ok(otherwise),
        }
    }

    /// With a contact, the places in its conversation are.
    async fn plan_conversation(
        &self,
        query: &Query<Position>,
        conversation: Conversation,
    ) -> Result<Plan, Failure> {
        let Query { filter, page } = query;
        let Conversation { low, next, .. } = conversation;
        let first = (self.ends.head.first > self.ends.removed).then_some(self.ends.head.first);
        let cursor = match page.start {
            PageStart::After(position) | PageStart::Before(position) => Some(position),
            PageStart::First | PageStart::Last | PageStart::Index(_) => None,
        };
        let (first, after, before, cursor, from, to) = tokio::join!(
            self.seek_position(conversation, first, low),
            self.seek_position(conversation, filter.after, low),
            self.seek_position(conversation, filter.before, next),
            self.seek_position(conversation, cursor, low),
            self.seek_stamp_of(conversation, filter.start, low),
            self.seek_stamp_of(conversation, later_than(filter.end), next)
        );
        let behind = |(place, itself): (i64, bool)| place.saturating_add(i64::from(itself));
        let after = if filter.after.is_some() { behind(after?) } else { low };
        let from = first?.0.max(after).max(from?);
        let to = before?.0.min(to?).max(from);
        let cursor = match page.start {
            PageStart::After(_) => behind(cursor?),
            _ => cursor?.0,
        };
        let cursor = cursor.clamp(from, to);
        let count = as_u64(to.saturating_sub(from));
        let (start, end, complete) = window(page, count, as_u64(cursor.saturating_sub(from)));
        let place = |rank| from.saturating_add(as_i64(rank));
        let rows = if start < end {
            Rows::OfConversation(conversation, place(start), place(end))
        } else {
            Rows::None
        };
        Ok(Plan { rows, count, index: start, complete })
    }

    /// The first place of a conversation at `position` or later, and whether it is there exactly; without a
    /// position, `otherwise`.
    async fn seek_position(
        &self,
        Conversation { contact, sql, low, next }: Conversation,
        position: Option<Position>,
        otherwise: i64,
    ) -> Result<(i64, bool), Failure> {
        match position {
            Some(Position(position)) if low < next => {
                let asked: [Param<'_>; 5] = [&self.archive, &contact, &low, &next, &position];
                let row = self.session.row(sql.seek_position, &asked).await?;
                let row = row.ok_or_else(missing)?;
                // An entry that waits to be deleted, or one of before, may stand outside.
                Ok((column(&row, 0)?, column(&row, 1)?))
            }
            _ => Ok((otherwise, false)),
        }
    }

    /// The first place of a conversation stamped at `stamp` or later; without a stamp, `otherwise`.
    async fn seek_stamp_of(
        &self,
        Conversation { contact, sql, low, next }: Conversation,
        stamp: Option<Timestamp>,
        otherwise: i64,
    ) -> Result<i64, Failure> {
        match stamp {
            Some(Timestamp(stamp)) if low < next => {
                let asked: [Param<'_>; 5] = [&self.archive, &contact, &low, &next, &stamp];
                let row = self.session.row(sql.seek_stamp, &asked).await?;
                column(&row.ok_or_else(missing)?, 0)
            }
            _ => Ok(otherwise),
        }
    }

    /// Named entries are few: they are looked at one by one.
    async fn plan_ids(&self, query: &Query<Position>, ids: &[Position]) -> Result<Plan, Failure> {
        let mut wanted: Vec<i64> = ids.iter().map(|position| position.0).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let facts = self.session.rows(sql::FACTS_AT, &[&self.archive, &wanted]).await?;
        if facts.len() != wanted.len() {
            return Err(missing());
        }
        let mut left = Vec::with_capacity(facts.len());
        for row in &facts {
            let position = Position(column(row, 0)?);
            if matches(&query.filter, position, &jid(row, 1)?, Timestamp(column(row, 2)?)) {
                left.push(position.0);
            }
        }
        let rank = |position: Position| left.partition_point(|p| *p < position.0) as u64;
        let rank = match query.page.start {
            PageStart::After(position) => rank(position.offset(1)),
            PageStart::Before(position) => rank(position),
            PageStart::First | PageStart::Last | PageStart::Index(_) => 0,
        };
        let count = left.len() as u64;
        let (start, end, complete) = window(&query.page, count, rank);
        let (from, to) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        let rows = match left.get(from..to) {
            Some(left) if !left.is_empty() => Rows::At(left.to_vec()),
            _ => Rows::None,
        };
        Ok(Plan { rows, count, index: start, complete })
    }

    /// The rows of a plan, oldest first; ends the snapshot.
    async fn rows(&self, rows: Rows) -> Result<Vec<StoredEntry>, Failure> {
        let archive = self.archive;
        let (expected, found) = match rows {
            Rows::None => {
                self.session.run(sql::COMMIT).await?;
                return Ok(Vec::new());
            }
            Rows::Range(from, to) => {
                (to.saturating_sub(from), self.last_rows(sql::ENTRIES, &[&archive, &from, &to]).await?)
            }
            Rows::OfConversation(Conversation { contact, sql, .. }, from, to) => {
                let asked: [Param<'_>; 4] = [&archive, &contact, &from, &to];
                (to.saturating_sub(from), self.last_rows(sql.entries, &asked).await?)
            }
            Rows::At(positions) => (
                as_i64(positions.len() as u64),
                self.last_rows(sql::ENTRIES_AT, &[&archive, &positions]).await?,
            ),
        };
        if as_i64(found.len() as u64) != expected {
            return Err(missing());
        }
        found.iter().map(stored_entry).collect()
    }

    async fn last_rows(&self, text: &'static str, asked: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        self.session.statement(text).await?;
        let (rows, committed) =
            tokio::join!(biased; self.session.rows(text, asked), self.session.run(sql::COMMIT));
        let rows = rows?;
        committed?;
        Ok(rows)
    }
}

/// Whether an entry answers to all of a filter but its `ids` (XEP-0313 §4.1).
fn matches(filter: &Filter<Position>, position: Position, with: &Jid, stamp: Timestamp) -> bool {
    let wanted = |wanted: &Jid| if wanted.is_bare() { with.to_bare() == *wanted } else { with == wanted };
    filter.with.as_ref().is_none_or(wanted)
        && filter.start.is_none_or(|start| stamp >= start)
        && filter.end.is_none_or(|end| stamp <= end)
        && filter.after.is_none_or(|after| position > after)
        && filter.before.is_none_or(|before| position < before)
}

fn jid(row: &Row, index: usize) -> Result<Jid, Failure> {
    let text: &str = column(row, index)?;
    Jid::new(text).map_err(|error| Failure::Corrupt(error.into()))
}

/// An entry, from a row of the statements that read entries.
pub fn stored_entry(row: &Row) -> Result<StoredEntry, Failure> {
    let stanza: &[u8] = column(row, 3)?;
    let foreign_id: Option<&[u8]> = column(row, 4)?;
    let foreign_id = foreign_id.map(|id| String::from_utf8(id.to_vec())).transpose();
    Ok(StoredEntry {
        position: Position(column(row, 0)?),
        with: jid(row, 1)?,
        stamp: Timestamp(column(row, 2)?),
        stanza: Bytes::copy_from_slice(stanza),
        foreign_id: foreign_id.map_err(|error| Failure::Corrupt(error.into()))?,
        retracted: column(row, 5)?,
    })
}
