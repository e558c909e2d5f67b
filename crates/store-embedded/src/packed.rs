//! Lists packed into blobs: what a segment holds of each archive, the positions of a conversation, the hashes of
//! ids, the archives a dictionary was trained on. Where the blobs stand is left to `segment` and `build`.

use crate::format::{Cursor, Damaged, put_signed, put_varint};
use crate::segment::ExtentRow;
use crate::state::Extent;

/// Reads one row of `extents`.
///
/// ```text
/// data = (archive less the one before:varint  first:signed  count:varint  block less the end of the one before:varint
///         blocks:varint  bytes:varint  first stamp:signed  last stamp less the first:varint)…
/// ```
pub fn read_extents(data: &[u8], segment: u32, into: &mut Vec<ExtentRow>) -> Result<(), Damaged> {
    let mut cursor = Cursor::new(data);
    let narrow = |n: u64| u32::try_from(n).map_err(|_| Damaged::new("a number in extents is too large"));
    let (mut archive, mut block) = (0_u64, 0_u64);
    while !cursor.is_done() {
        archive = archive.saturating_add(cursor.varint()?);
        let first = cursor.signed()?;
        let count = narrow(cursor.varint()?)?;
        block = block.saturating_add(cursor.varint()?);
        let blocks = narrow(cursor.varint()?)?;
        let bytes = cursor.varint()?;
        let oldest = cursor.signed()?;
        let newest = oldest.saturating_add_unsigned(cursor.varint()?);
        let extent = Extent { segment, count, first, block: narrow(block)?, blocks, bytes };
        into.push(ExtentRow { archive: narrow(archive)?, extent, stamps: (oldest, newest) });
        block = block.saturating_add(u64::from(blocks));
    }
    Ok(())
}

/// Reads the positions of a conversation: the first as it is, each other less the one before it.
pub fn read_positions(data: &[u8]) -> Result<Vec<i64>, Damaged> {
    let mut cursor = Cursor::new(data);
    let mut positions = Vec::with_capacity(data.len());
    let mut last = 0_i64;
    while !cursor.is_done() {
        last = if positions.is_empty() {
            cursor.signed()?
        } else {
            last.saturating_add_unsigned(cursor.varint()?)
        };
        positions.push(last);
    }
    Ok(positions)
}

/// Reads hashes of ids in order, each less the one before it, and the position of each.
pub fn read_ids(data: &[u8]) -> Result<Vec<(u32, i64)>, Damaged> {
    let mut cursor = Cursor::new(data);
    let mut ids = Vec::with_capacity(data.len() / 5);
    let mut hash = 0_u64;
    while !cursor.is_done() {
        hash = hash.saturating_add(cursor.varint()?);
        let narrow = u32::try_from(hash).map_err(|_| Damaged::new("a hash is too large"))?;
        ids.push((narrow, cursor.signed()?));
    }
    Ok(ids)
}

/// Reads what [`write_sampled`] wrote.
pub fn read_sampled(data: &[u8]) -> Result<Vec<u32>, Damaged> {
    let mut cursor = Cursor::new(data);
    let (mut archives, mut last) = (Vec::new(), 0_u64);
    while !cursor.is_done() {
        last = last.saturating_add(cursor.varint()?);
        let narrow = u32::try_from(last).map_err(|_| Damaged::new("an archive number is too large"))?;
        archives.push(narrow);
    }
    Ok(archives)
}

/// The archives a dictionary was trained on, each less the one before it.
pub fn write_sampled(archives: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut last = 0;
    for archive in archives {
        put_varint(&mut out, u64::from(archive - last));
        last = *archive;
    }
    out
}

/// What [`read_extents`] reads.
pub fn write_extents(rows: &[ExtentRow]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut archive, mut block) = (0, 0);
    for ExtentRow { archive: number, extent, stamps } in rows {
        put_varint(&mut out, u64::from(number - archive));
        put_signed(&mut out, extent.first);
        put_varint(&mut out, u64::from(extent.count));
        put_varint(&mut out, u64::from(extent.block - block));
        put_varint(&mut out, u64::from(extent.blocks));
        put_varint(&mut out, extent.bytes);
        put_signed(&mut out, stamps.0);
        put_varint(&mut out, stamps.1.abs_diff(stamps.0));
        archive = *number;
        block = extent.block + extent.blocks;
    }
    out
}

/// What [`read_positions`] reads.
pub fn write_positions(positions: &[i64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(positions.len() + 8);
    let mut last = None;
    for position in positions {
        match last {
            None => put_signed(&mut out, *position),
            Some(last) => put_varint(&mut out, position.abs_diff(last)),
        }
        last = Some(*position);
    }
    out
}

/// What [`read_ids`] reads.
pub fn write_ids(ids: &[(u32, i64)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ids.len() * 6);
    let mut last = 0;
    for (hash, position) in ids {
        put_varint(&mut out, u64::from(hash - last));
        put_signed(&mut out, *position);
        last = *hash;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back() {
        for positions in [vec![], vec![-5], vec![i64::MIN, -1, 0, 1, 127, 128, 1 << 40, i64::MAX]] {
            assert_eq!(read_positions(&write_positions(&positions)), Ok(positions));
        }
        for ids in [vec![], vec![(1, -1), (1, 7), (70_000, 3), (u32::MAX, i64::MIN)]] {
            assert_eq!(read_ids(&write_ids(&ids)), Ok(ids));
        }
        let archives = vec![0, 1, 500, u32::MAX];
        assert_eq!(read_sampled(&write_sampled(&archives)), Ok(archives));
        let extent =
            |block, blocks, first| Extent { segment: 9, count: 40, first, block, blocks, bytes: 12_345 };
        let row = |archive, extent| ExtentRow { archive, extent, stamps: (-7, 1_700_000_000_000_000) };
        let rows =
            vec![row(3, extent(1, 2, -20)), row(4, extent(3, 1, 0)), row(90_000, extent(4, 3, 1 << 50))];
        let mut read = Vec::new();
        read_extents(&write_extents(&rows), 9, &mut read).unwrap();
        assert_eq!(read, rows);
    }

    #[test]
    fn rubbish_is_damage_and_never_a_panic() {
        let mut noise = 1_u64;
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    noise =
                        noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (noise >> 56) as u8
                })
                .collect();
            drop(read_positions(&bytes));
            drop(read_ids(&bytes));
            drop(read_sampled(&bytes));
            drop(read_extents(&bytes, 1, &mut Vec::new()));
        }
        assert!(read_positions(&[0x80]).is_err());
        assert!(read_ids(&[0xff, 0xff, 0xff, 0xff, 0x7f, 0]).is_err());
    }
}
