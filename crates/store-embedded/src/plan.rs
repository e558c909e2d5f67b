//! Which segments are to become one: too many of one level, one with nothing left, one with too much expired or
//! too many tombstones beside it. Doing it is left to `merge`.

use std::sync::Arc;

use crate::Shared;
use crate::segment::Segment;

/// So many neighbours of one level become one of the next.
const WIDTH: usize = 8;
/// A segment of whose entries one in so many has expired is written anew.
const LOST_SHARE: u64 = 12;
/// With more tombstones than this beside the segments, the segment with the most is written anew.
const OVERRIDES_MAX: usize = 10_000;
/// Which segments become one.
pub struct Plan {
    /// Neighbours, oldest first.
    pub sources: Vec<Arc<Segment>>,
    /// The level of what they become.
    pub level: u32,
}

/// The most useful merge, if one is.
pub fn choose(shared: &Shared) -> Option<Plan> {
    let segments = shared.segments();
    let alone = |segment: &Arc<Segment>| Plan { sources: vec![segment.clone()], level: segment.level };
    if let Some(dead) = segments.iter().find(|segment| segment.live() == 0) {
        return Some(alone(dead));
    }
    for alike in segments.chunk_by(|a, b| a.level == b.level) {
        if let Some(sources) = alike.get(..WIDTH) {
            let level = sources.first().map_or(0, |segment| segment.level) + 1;
            return Some(Plan { sources: sources.to_vec(), level });
        }
    }
    if let Some(thin) =
        segments.iter().find(|s| (s.entries - s.live()).saturating_mul(LOST_SHARE) >= s.entries)
    {
        return Some(alone(thin));
    }
    let busiest = shared.state().most_overridden(OVERRIDES_MAX)?;
    segments.iter().find(|segment| segment.number == busiest).map(alone)
}
