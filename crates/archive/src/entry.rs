//! What an archive holds: entries, in the order of their positions. How a position becomes a public id is
//! left to `id`, how entries are asked for to `query`.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use jid::Jid;

use crate::id::StanzaId;

/// The place of an entry in its archive: dense, given once, never reused.
///
/// Private to the server: clients see the encrypted form, [`StanzaId`]. Signed, so that older history can be
/// imported below an archive's first position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

impl Position {
    /// Where the first entry of a new archive stands.
    pub const START: Position = Position(0);

    /// The position `n` places further on (or back, for a negative `n`); stays at the ends of the range.
    #[must_use]
    pub fn offset(self, n: i64) -> Position {
        Position(self.0.saturating_add(n))
    }
}

/// A moment, in whole microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `seconds` earlier; stays at the end of the range.
    #[must_use]
    pub fn minus_seconds(self, seconds: u64) -> Timestamp {
        let micros = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Timestamp(self.0.saturating_sub(micros))
    }
}

/// The ends of one archive.
///
/// The entries present are exactly those at `first .. next`; the archive is empty when the two are equal.
/// `next` never decreases, and neither does `last_stamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The oldest entry that is still present, or `next`.
    pub first: Position,
    /// Where the next entry will stand: the high-water mark, which survives even a purge.
    pub next: Position,
    /// The greatest stamp this archive has ever given.
    pub last_stamp: Timestamp,
}

impl Head {
    /// The head of an archive that has never been written to.
    pub const NEW: Head =
        Head { first: Position::START, next: Position::START, last_stamp: Timestamp(i64::MIN) };

    /// How many entries are present.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.next.0.saturating_sub(self.first.0)).unwrap_or(0)
    }

    /// Whether an entry stands at `position` now.
    #[must_use]
    pub fn holds(&self, position: Position) -> bool {
        self.range().contains(&position)
    }

    /// The positions present.
    #[must_use]
    pub fn range(&self) -> Range<Position> {
        self.first..self.next
    }
}

/// An entry on its way into an archive; its position is the caller's expectation plus its place in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// The other end: the `to` of what the owner sent, the `from` of what it received, as on the wire.
    pub with: Jid,
    /// When the archive took it. Never less than the stamp before it.
    pub stamp: Timestamp,
    /// The stanza, whole and self-contained. Opaque to every store.
    pub stanza: Bytes,
    /// The stanza's own `id` attribute, by which its author may retract it later (XEP-0424). The store keeps
    /// only as much of it as [`crate::ArchiveStore::find`] needs.
    pub message_id: Option<String>,
    /// The id under which another archive published this entry, for imported history.
    pub foreign_id: Option<String>,
}

/// An entry as a store gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place.
    pub position: Position,
    /// The other end, as given at append.
    pub with: Jid,
    /// When the archive took it.
    pub stamp: Timestamp,
    /// The stanza, byte for byte as given at append; after a retraction, the tombstone's.
    pub stanza: Bytes,
    /// The id under which another archive published this entry.
    pub foreign_id: Option<String>,
    /// Whether `stanza` is a tombstone.
    pub retracted: bool,
}

/// An entry as the archive's readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The public id (XEP-0359), unique and unpredictable.
    pub id: StanzaId,
    /// The other end, as on the wire.
    pub with: Jid,
    /// When the archive took it.
    pub stamp: Timestamp,
    /// The stanza, byte for byte as it was appended, or its tombstone.
    pub stanza: Bytes,
    /// Whether `stanza` is a tombstone.
    pub retracted: bool,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
