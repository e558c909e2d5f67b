//! One archive as of one moment: its ends, and where each of its entries lies. Reading them is left to `read`.

use std::ops::Range;
use std::sync::Arc;

use mammoth_archive::Head;

use crate::format::Damaged;
use crate::memtable::Memtable;
use crate::segment::Segment;
use crate::state::{Extent, Overrides, State};

/// One archive as of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its number.
    pub archive: u32,
    /// Its ends.
    pub head: Head,
    /// Where its entries lie, in order, without gaps, together exactly `head.first .. head.next`.
    pub sources: Vec<Source>,
    /// Tombstones to put in place of what the sources say.
    pub overrides: Option<Arc<Overrides>>,
}

/// Some consecutive entries of an archive.
#[derive(Clone, Debug)]
pub struct Source {
    /// Their positions.
    pub span: Range<i64>,
    /// Where they lie.
    pub place: Place,
}

/// Where entries lie.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a memory table.
    Memory(Arc<Memtable>),
    /// In a segment.
    Segment(Arc<Segment>, Extent),
}

impl State {
    /// An archive as of now.
    pub fn snapshot(&self, archive: u32) -> Result<Snapshot, Damaged> {
        let state = self.archive(archive).ok_or_else(|| Damaged::new("no such archive number"))?;
        let mut sources = Vec::with_capacity(state.extents.len() + 2);
        let mut at = state.first;
        for extent in &state.extents {
            if extent.next() <= at {
                continue;
            }
            if extent.first > at {
                return Err(gap(archive, at));
            }
            let segment = self.segments.get(&extent.segment);
            let segment =
                segment.ok_or_else(|| Damaged::new(format!("segment {} is not open", extent.segment)))?;
            sources.push(Source { span: at..extent.next(), place: Place::Segment(segment.clone(), *extent) });
            at = extent.next();
        }
        for table in self.frozen.iter().chain([&self.active]) {
            if at >= state.next {
                break;
            }
            let Some(span) = table.span(archive) else { continue };
            let end = span.end.min(state.next);
            if end <= at {
                continue;
            }
            if span.start > at {
                return Err(gap(archive, at));
            }
            sources.push(Source { span: at..end, place: Place::Memory(table.clone()) });
            at = end;
        }
        if at < state.next {
            return Err(gap(archive, at));
        }
        Ok(Snapshot { archive, head: state.head(), sources, overrides: state.overrides.clone() })
    }
}

fn gap(archive: u32, position: i64) -> Damaged {
    Damaged::new(format!("archive {archive} has no entry at position {position}"))
}
