//! A block: some consecutive entries of one archive, decompressed. Where it stands in its segment is left to
//! `segment`.

use std::sync::Arc;

use zstd::zstd_safe::DCtx;

use crate::format::{Cursor, Damaged, Record};

/// What one reading thread needs besides the files: room to decompress, and the block it read last, where what is
/// wanted next mostly lies.
pub struct Scratch {
    /// What zstd works with.
    pub context: DCtx<'static>,
    last: Option<(u32, Arc<Block>)>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch { context: DCtx::create(), last: None }
    }
}

impl Scratch {
    /// The block of a segment that was read last, if that is the one. A segment never changes, and its number is
    /// never given to another.
    pub fn last(&self, segment: u32, wanted: impl FnOnce(&Block) -> bool) -> Option<Arc<Block>> {
        let (from, block) = self.last.as_ref()?;
        (*from == segment && wanted(block)).then(|| block.clone())
    }

    /// Remembers a block of a segment.
    pub fn keep(&mut self, segment: u32, block: Block) -> Arc<Block> {
        let block = Arc::new(block);
        self.last = Some((segment, block.clone()));
        block
    }
}

/// One block, decompressed.
#[derive(Debug)]
pub struct Block {
    /// Its number.
    pub number: u32,
    /// Whose entries: the archive's number.
    pub archive: u32,
    /// The position of its first entry.
    pub first: i64,
    /// How many entries it has.
    pub count: u32,
    /// As it was before compression.
    pub bytes: Vec<u8>,
    /// Where in `bytes` the entries begin.
    pub entries_at: usize,
}

impl Block {
    /// Whether it holds this position.
    pub fn holds(&self, position: i64) -> bool {
        position >= self.first && position < self.next()
    }

    /// The position after its last.
    pub fn next(&self) -> i64 {
        self.first.saturating_add(i64::from(self.count))
    }

    /// Shows its entries in order.
    pub fn each<'a, E: From<Damaged>>(
        &'a self,
        mut show: impl FnMut(i64, Record<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = Cursor::new(self.bytes.get(self.entries_at..).unwrap_or_default());
        let mut last = 0;
        for position in (self.first..).take(self.count as usize) {
            let record = Record::take(&mut cursor, last)?;
            last = record.stamp;
            show(position, record)?;
        }
        if !cursor.is_done() {
            return Err(Damaged::new("a block is longer than its entries").into());
        }
        Ok(())
    }
}
