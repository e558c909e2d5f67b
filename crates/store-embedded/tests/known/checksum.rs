//! The checksum of a row as docs/format.md spells it, written a second time: for tests that change a row as a mistake
//! of ours would, so that its checksum matches.

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;

fn put(spelt: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    spelt.push(kind);
    let mut left = bytes.len();
    while left >= 0x80 {
        spelt.push(left as u8 | 0x80);
        left >>= 7;
    }
    spelt.push(left as u8);
    spelt.extend_from_slice(bytes);
}

fn of_row(row: &Context<'_>) -> rusqlite::Result<i64> {
    let mut spelt = Vec::new();
    for i in 0..row.len() {
        match row.get_raw(i) {
            ValueRef::Null => spelt.push(0),
            ValueRef::Integer(n) => {
                spelt.push(1);
                spelt.extend_from_slice(&n.to_le_bytes());
            }
            ValueRef::Text(text) => put(&mut spelt, 2, text),
            ValueRef::Blob(bytes) => put(&mut spelt, 3, bytes),
            ValueRef::Real(_) => panic!("no column is a fraction"),
        }
    }
    Ok(twox_hash::XxHash3_64::oneshot(&spelt) as i64)
}

/// Teaches a connection `checksum_of(table, column…)`.
pub fn teach(connection: &Connection) {
    connection.create_scalar_function("checksum_of", -1, FunctionFlags::SQLITE_UTF8, of_row).unwrap();
}
