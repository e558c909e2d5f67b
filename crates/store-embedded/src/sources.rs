//! What is asked of wherever entries lie, memory table or segment alike; and a conversation counted and numbered
//! across them. Which question that answers is left to `read`.

use std::ops::Range;

use crate::block::Scratch;
use crate::read::{Result, common};
use crate::snapshot::{Place, Snapshot, Source};

impl Source {
    pub fn lower_bound(
        &self,
        archive: u32,
        span: &Range<i64>,
        stamp: i64,
        scratch: &mut Scratch,
    ) -> Result<i64> {
        Ok(match &self.place {
            Place::Memory(table) => table.lower_bound(archive, span, stamp),
            Place::Segment(segment, extent) => segment.reader()?.lower_bound(extent, span, stamp, scratch)?,
        })
    }

    pub fn count(&self, archive: u32, contact: i64, span: &Range<i64>) -> Result<u64> {
        Ok(match &self.place {
            Place::Memory(table) => table.count(archive, contact, span),
            Place::Segment(segment, extent) => segment.reader()?.count(extent, archive, contact, span)?,
        })
    }

    pub fn select(
        &self,
        archive: u32,
        contact: i64,
        span: &Range<i64>,
        ranks: &Range<u64>,
    ) -> Result<Vec<i64>> {
        Ok(match &self.place {
            Place::Memory(table) => table.select(archive, contact, span, ranks),
            Place::Segment(segment, _) => segment.reader()?.select(archive, contact, span, ranks)?,
        })
    }

    pub fn find(&self, archive: u32, hash: u32, limit: usize) -> Result<Vec<i64>> {
        Ok(match &self.place {
            Place::Memory(table) => {
                let carries = |slot: &crate::memtable::Slot| slot.message == hash || slot.foreign == hash;
                table.find(archive, &self.span, limit, carries)
            }
            Place::Segment(segment, _) => segment.reader()?.find(archive, hash, &self.span, limit)?,
        })
    }

    pub fn keep_bytes(&self, archive: u32, bytes: u64, scratch: &mut Scratch) -> Result<(i64, u64)> {
        Ok(match &self.place {
            Place::Memory(table) => table.keep_bytes(archive, &self.span, bytes),
            Place::Segment(segment, extent) => {
                segment.reader()?.keep_bytes(extent, &self.span, bytes, scratch)?
            }
        })
    }
}

/// What a `with` filter leaves of a span: how many entries in each source.
pub struct Conversation<'a> {
    archive: u32,
    contact: i64,
    parts: Vec<(&'a Source, Range<i64>, u64)>,
}

impl<'a> Conversation<'a> {
    pub fn new(snapshot: &'a Snapshot, contact: i64, span: &Range<i64>) -> Result<Conversation<'a>> {
        let mut parts = Vec::with_capacity(snapshot.sources.len());
        for source in &snapshot.sources {
            let part = common(&source.span, span);
            if !part.is_empty() {
                let count = source.count(snapshot.archive, contact, &part)?;
                parts.push((source, part, count));
            }
        }
        Ok(Conversation { archive: snapshot.archive, contact, parts })
    }

    pub fn count(&self) -> u64 {
        self.parts.iter().map(|(_, _, count)| count).sum()
    }

    /// How many of its entries stand before a position.
    pub fn rank(&self, position: i64) -> Result<u64> {
        let mut rank = 0;
        for (source, part, count) in &self.parts {
            if part.end <= position {
                rank += count;
            } else if part.start < position {
                rank += source.count(self.archive, self.contact, &(part.start..position))?;
            }
        }
        Ok(rank)
    }

    pub fn select(&self, ranks: Range<u64>) -> Result<Vec<i64>> {
        let mut found = Vec::new();
        let mut before = 0_u64;
        for (source, part, count) in &self.parts {
            let from = ranks.start.max(before).saturating_sub(before);
            let to = ranks.end.min(before.saturating_add(*count)).saturating_sub(before);
            if from < to {
                found.extend(source.select(self.archive, self.contact, part, &(from..to))?);
            }
            before = before.saturating_add(*count);
        }
        Ok(found)
    }
}
