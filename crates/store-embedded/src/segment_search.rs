//! Searches in a segment by position, stamp and size: guesses by proportion, and a block read only where the answer
//! lies. Conversations and ids are left to `segment_index`.

use std::ops::Range;
use std::sync::Arc;

use crate::block::{Block, Scratch};
use crate::segment::{Reader, SegmentError};
use crate::state::Extent;

/// `part` of `whole`, of `n` things.
fn proportion(part: i64, whole: i64, n: i64) -> i64 {
    let share = i128::from(part) * i128::from(n) / i128::from(whole).max(1);
    i64::try_from(share).unwrap_or(0)
}

/// After so many guesses that missed, a search goes on by halves.
const GUESSES: u32 = 4;

impl Reader<'_> {
    /// The block that holds a position of an extent, decompressed and checked. It is guessed by proportion, since
    /// blocks are mostly of one size.
    pub fn block_at(
        &self,
        extent: &Extent,
        position: i64,
        scratch: &mut Scratch,
    ) -> Result<Arc<Block>, SegmentError> {
        if let Some(block) = self.last_block(extent, position, scratch) {
            return Ok(block);
        }
        let (mut low, mut high) =
            (i64::from(extent.block), i64::from(extent.block) + i64::from(extent.blocks) - 1);
        let (mut low_at, mut high_at) = (extent.first, extent.next());
        let mut probes = 0;
        while low <= high && (low_at..high_at).contains(&position) {
            let guess = if probes < GUESSES {
                low + proportion(
                    position.saturating_sub(low_at),
                    high_at.saturating_sub(low_at),
                    high - low + 1,
                )
            } else {
                low + (high - low) / 2
            };
            probes += 1;
            let guess = guess.clamp(low, high);
            let number = u32::try_from(guess).unwrap_or(u32::MAX);
            let found = self.with_block(number, |meta, data| {
                if position >= meta.first && position < meta.next() {
                    return self.unpack_kept(&meta, data, scratch).map(Ok);
                }
                Ok(Err(meta))
            })?;
            match found {
                Ok(block) => return Ok(block),
                Err(meta) if position < meta.first => (high, high_at) = (guess - 1, meta.first),
                Err(meta) => (low, low_at) = (guess + 1, meta.next()),
            }
        }
        Err(self.damaged(format!("no block holds position {position}")))
    }

    /// The first position of `span` whose stamp is `stamp` or later, or the end of `span`.
    pub fn lower_bound(
        &self,
        extent: &Extent,
        span: &Range<i64>,
        stamp: i64,
        scratch: &mut Scratch,
    ) -> Result<i64, SegmentError> {
        // The last block that begins before the stamp is the only one that can hold the boundary. It is guessed by
        // proportion and by halves in turn: stamps mostly grow evenly, and where they do not halves are as good.
        let (mut low, mut high) =
            (i64::from(extent.block), i64::from(extent.block) + i64::from(extent.blocks) - 1);
        let number = |block: i64| u32::try_from(block).unwrap_or(u32::MAX);
        let oldest = self.meta(number(low))?;
        if oldest.stamp >= stamp {
            return Ok(span.start);
        }
        let mut candidate = oldest;
        let newest = self.meta(number(high))?;
        if newest.stamp < stamp {
            (candidate, low) = (newest, high);
        }
        // From here on `low` begins before the stamp and `high` does not, unless they are the same.
        let (mut low_stamp, mut high_stamp, mut halve) = (candidate.stamp, newest.stamp, false);
        while low + 1 < high {
            let guess = if halve {
                low + (high - low) / 2
            } else {
                let all = high_stamp.saturating_sub(low_stamp);
                low + proportion(stamp.saturating_sub(low_stamp), all, high - low)
            };
            halve = !halve;
            let meta = self.meta(number(guess.clamp(low + 1, high - 1)))?;
            if meta.stamp < stamp {
                (candidate, low, low_stamp) = (meta, i64::from(meta.block), meta.stamp);
            } else {
                (high, high_stamp) = (i64::from(meta.block), meta.stamp);
            }
        }
        let mut at = candidate.first;
        self.block(candidate.block, scratch)?.each(|position, record| {
            if record.stamp < stamp {
                at = position.saturating_add(1);
            }
            Ok::<_, SegmentError>(())
        })?;
        Ok(at.clamp(span.start, span.end))
    }

    /// The first position of `span`, which ends where the extent does, from which on the rest holds at most
    /// `bytes` of stanzas, and how many bytes that rest holds.
    pub fn keep_bytes(
        &self,
        extent: &Extent,
        span: &Range<i64>,
        bytes: u64,
        scratch: &mut Scratch,
    ) -> Result<(i64, u64), SegmentError> {
        // The first block from which on everything fits.
        let (mut low, mut high) = (extent.block, extent.block.saturating_add(extent.blocks));
        let (mut at, mut kept) = (extent.next(), 0);
        while low < high {
            let middle = low + (high - low) / 2;
            let meta = self.meta(middle)?;
            let rest = extent.bytes.saturating_sub(meta.bytes_before);
            if rest <= bytes {
                (at, kept) = (meta.first, rest);
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        if low > extent.block {
            let mut sizes = Vec::new();
            self.block(low - 1, scratch)?.each(|_, record| {
                sizes.push(record.stanza.len() as u64);
                Ok::<_, SegmentError>(())
            })?;
            for size in sizes.iter().rev() {
                if kept + size > bytes {
                    break;
                }
                kept += size;
                at -= 1;
            }
        }
        Ok((at.max(span.start), kept))
    }
}
