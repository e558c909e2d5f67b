//! One group of appends as one statement, and what its answer means for each batch. Which batches make a group, and
//! what happens when the connection is lost, is left to `writer`.

use std::collections::HashMap;
use std::sync::Arc;

use jid::BareJid;
use mammoth_archive::{Head, NewEntry, Position, StoreError, StoredEntry, Timestamp};

use crate::failure::Failure;
use crate::key::{Key, message_key};
use crate::page::stored_entry;
use crate::session::{Session, column};
use crate::sql;

/// One append.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whose archive.
    pub owner: BareJid,
    /// Its key.
    pub archive: Key,
    /// Where the first entry is to stand.
    pub expected: Position,
    /// What is to be appended.
    pub entries: Arc<[NewEntry]>,
}

impl Batch {
    /// Bytes of its stanzas.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.stanza.len()).sum()
    }

    fn len(&self) -> i64 {
        i64::try_from(self.entries.len()).unwrap_or(i64::MAX)
    }

    /// The first and last stamp, and whether those between lie in order.
    fn stamps(&self) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = (self.entries.first()?.stamp, self.entries.last()?.stamp);
        let rising = self.entries.is_sorted_by_key(|entry| entry.stamp);
        rising.then_some((first, last))
    }

    /// Whether the database is to be asked to write it: there is something in it, in order, and in range.
    fn is_writable(&self) -> bool {
        self.stamps().is_some() && self.expected.0.checked_add(self.len()).is_some()
    }
}

/// The head of an archive at the moment of an append, and whether the batch was written.
type Found = HashMap<Key, (Head, bool)>;

/// Appends each batch to its archive, of which each is a different one, in one transaction. What one batch is
/// refused for does not touch the others. Repeatable.
pub async fn append(session: &Session, batches: &[&Batch]) -> Result<Vec<Result<(), StoreError>>, Failure> {
    let writable: Vec<&Batch> = batches.iter().copied().filter(|batch| batch.is_writable()).collect();
    let mut found = if writable.is_empty() { Found::new() } else { write(session, &writable).await? };
    let new: Vec<&Batch> = writable
        .into_iter()
        .filter(|batch| batch.expected == Position::START && !found.contains_key(&batch.archive))
        .collect();
    if !new.is_empty() {
        make_archives(session, &new).await?;
        found.extend(write(session, &new).await?);
    }
    let mut answers = Vec::with_capacity(batches.len());
    for batch in batches {
        answers.push(judge(session, batch, &found).await?);
    }
    Ok(answers)
}

async fn judge(session: &Session, batch: &Batch, found: &Found) -> Result<Result<(), StoreError>, Failure> {
    let (head, written) = match found.get(&batch.archive) {
        Some(found) => *found,
        None => (head(session, batch.archive).await?, false),
    };
    if written || (batch.entries.is_empty() && batch.expected == head.next) {
        return Ok(Ok(()));
    }
    if batch.expected == head.next {
        return match batch.stamps() {
            Some((first, _)) if first >= head.last_stamp => {
                Err(Failure::NotDone("the archive has changed meanwhile".into()))
            }
            _ => Ok(Err(StoreError::refused("stamps must not decrease"))),
        };
    }
    let stands = holds_already(session, batch, head).await?;
    Ok(if stands { Ok(()) } else { Err(StoreError::Conflict(head.next)) })
}

/// Whether these entries were appended before. What has since been retracted counts by stamp and `with`; what has
/// gone cannot be recognised.
async fn holds_already(session: &Session, batch: &Batch, head: Head) -> Result<bool, Failure> {
    let Some(end) = batch.expected.0.checked_add(batch.len()) else { return Ok(false) };
    if batch.entries.is_empty() || batch.expected < head.first || end > head.next.0 {
        return Ok(false);
    }
    let rows = session.rows(sql::ENTRIES, &[&batch.archive, &batch.expected.0, &end]).await?;
    if rows.len() != batch.entries.len() {
        return Ok(false);
    }
    for (row, new) in rows.iter().zip(batch.entries.iter()) {
        let StoredEntry { with, stamp, stanza, foreign_id, retracted, .. } = stored_entry(row)?;
        let same = stamp == new.stamp
            && with == new.with
            && (retracted || (stanza == new.stanza && foreign_id == new.foreign_id));
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The head of an archive, whether or not it has a row.
pub async fn head(session: &Session, archive: Key) -> Result<Head, Failure> {
    match session.row(sql::HEAD, &[&archive]).await? {
        Some(row) => head_of(&row, 0),
        None => Ok(Head::NEW),
    }
}

/// A head from three columns of a row.
pub fn head_of(row: &tokio_postgres::Row, from: usize) -> Result<Head, Failure> {
    Ok(Head {
        first: Position(column(row, from)?),
        next: Position(column(row, from + 1)?),
        last_stamp: Timestamp(column(row, from + 2)?),
    })
}

async fn make_archives(session: &Session, batches: &[&Batch]) -> Result<(), Failure> {
    let archives: Vec<Key> = batches.iter().map(|batch| batch.archive).collect();
    let owners: Vec<&str> = batches.iter().map(|batch| batch.owner.as_str()).collect();
    session.change(sql::MAKE_ARCHIVES, &[&archives, &owners]).await?;
    Ok(())
}

/// The batches as columns.
#[derive(Default)]
struct Columns<'b> {
    archive: Vec<Key>,
    expected: Vec<i64>,
    entries: Vec<i64>,
    first_stamp: Vec<i64>,
    last_stamp: Vec<i64>,
    bytes: Vec<i64>,
    of_conversation: (Vec<Key>, Vec<Key>, Vec<i64>),
    entry: EntryColumns<'b>,
}

#[derive(Default)]
struct EntryColumns<'b> {
    archive: Vec<Key>,
    position: Vec<i64>,
    contact: Vec<Key>,
    from_end: Vec<i64>,
    full_contact: Vec<Option<Key>>,
    full_from_end: Vec<Option<i64>>,
    stamp: Vec<i64>,
    with: Vec<&'b str>,
    message_id: Vec<Option<i64>>,
    foreign_id: Vec<Option<&'b [u8]>>,
    stanza: Vec<&'b [u8]>,
}

impl<'b> Columns<'b> {
    fn push(&mut self, batch: &'b Batch) {
        let Some((first, last)) = batch.stamps() else { return };
        self.archive.push(batch.archive);
        self.expected.push(batch.expected.0);
        self.entries.push(batch.len());
        self.first_stamp.push(first.0);
        self.last_stamp.push(last.0);
        self.bytes.push(i64::try_from(batch.bytes()).unwrap_or(i64::MAX));
        // Counted from the end, as `APPEND` wants it.
        let mut counts: HashMap<Key, i64> = HashMap::new();
        let mut counted = |key: Key| {
            let count = counts.entry(key).or_default();
            *count += 1;
            (key, *count)
        };
        let places = batch.entries.iter().rev().map(|entry| {
            let bare = entry.with.to_bare();
            let contact = counted(Key::of(&bare));
            let full_contact = (!entry.with.is_bare()).then(|| counted(Key::of(&entry.with)));
            (bare, contact, full_contact)
        });
        let places: Vec<_> = places.collect();
        let to = &mut self.entry;
        let placed = batch.entries.iter().zip(places.iter().rev());
        for (i, (entry, (bare, (contact, from_end), full_contact))) in (0..).zip(placed) {
            to.archive.push(batch.archive);
            to.position.push(batch.expected.offset(i).0);
            to.contact.push(*contact);
            to.from_end.push(*from_end);
            to.full_contact.push(full_contact.map(|(key, _)| key));
            to.full_from_end.push(full_contact.map(|(_, from_end)| from_end));
            to.stamp.push(entry.stamp.0);
            to.with.push(entry.with.as_str());
            to.message_id.push(entry.message_id.as_deref().map(|id| message_key(bare, id)));
            to.foreign_id.push(entry.foreign_id.as_deref().map(str::as_bytes));
            to.stanza.push(&entry.stanza);
        }
        for (contact, count) in counts {
            self.of_conversation.0.push(batch.archive);
            self.of_conversation.1.push(contact);
            self.of_conversation.2.push(count);
        }
    }
}

async fn write(session: &Session, batches: &[&Batch]) -> Result<Found, Failure> {
    let mut all = Columns::default();
    for batch in batches {
        all.push(batch);
    }
    let entry = &all.entry;
    let rows = session
        .rows(
            sql::APPEND,
            &[
                &all.archive,
                &all.expected,
                &all.entries,
                &all.first_stamp,
                &all.last_stamp,
                &all.bytes,
                &all.of_conversation.0,
                &all.of_conversation.1,
                &all.of_conversation.2,
                &entry.archive,
                &entry.position,
                &entry.contact,
                &entry.from_end,
                &entry.full_contact,
                &entry.full_from_end,
                &entry.stamp,
                &entry.with,
                &entry.message_id,
                &entry.foreign_id,
                &entry.stanza,
            ],
        )
        .await?;
    rows.iter().map(|row| Ok((column(row, 0)?, (head_of(row, 1)?, column(row, 4)?)))).collect()
}
