//! The blocks of a segment, read one ahead and taken over as they are. What is done with them is left to `merge` and
//! `verify`.

use crate::build::BuildError;
use crate::segment::BlockMeta;

/// An archive, and the stamp of its last entry in a segment.
pub type LastStamp = (u32, i64);

/// Every block, in order.
pub const BLOCKS: &str = "SELECT * FROM blocks ORDER BY block";
/// One block.
pub const BLOCK: &str = "SELECT * FROM blocks WHERE block = ?1";

/// One block.
pub struct BlockRow {
    /// What stands beside it.
    pub meta: BlockMeta,
    /// The stamp of the archive's last entry in the source: right once its last block has been taken.
    pub last_stamp: i64,
    /// As it is.
    pub data: Vec<u8>,
}

/// The blocks of one segment in order.
pub struct BlockCursor<'a> {
    /// Those to come.
    pub rows: rusqlite::Rows<'a>,
    /// The archives to come.
    pub last_stamps: std::slice::Iter<'a, LastStamp>,
    /// The next.
    pub head: Option<BlockRow>,
}

impl BlockCursor<'_> {
    /// Goes on to the next.
    pub fn advance(&mut self) -> Result<(), BuildError> {
        let last = self.head.take();
        let Some(row) = self.rows.next()? else { return Ok(()) };
        let (meta, stored) = BlockMeta::read(row)?;
        let (mut data, last_stamp) = match last {
            Some(last) if last.meta.archive == meta.archive => (last.data, last.last_stamp),
            last => {
                let found = self.last_stamps.by_ref().find(|(archive, _)| *archive == meta.archive);
                (last.map_or_else(Vec::new, |last| last.data), found.map_or(meta.stamp, |(_, stamp)| *stamp))
            }
        };
        data.clear();
        data.extend_from_slice(stored);
        self.head = Some(BlockRow { meta, last_stamp, data });
        Ok(())
    }
}
