//! Checksums of rows, in the small database and in segments, and of whole segments, so that a byte that rots is
//! noticed. SQLite has none of its own. A group of the log has one, too, see `log`. Which rows are checked when
//! is left to `catalog`, `segment` and `verify`.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read, Seek};

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use twox_hash::XxHash3_64;

use crate::format::{Damaged, put_bytes};

/// The SQL function that every row's checksum is computed with.
const FUNCTION: &str = "checksum_of";
/// A file is read in pieces of so many bytes.
const PIECE: usize = 256 << 10;

/// The checksum of some bytes: XXH3, 64 bits.
pub fn of(bytes: &[u8]) -> i64 {
    XxHash3_64::oneshot(bytes) as i64
}

/// Teaches a connection `checksum_of(table, column…)`: of the name of the row's table and of all its columns but
/// the checksum, in their order.
pub fn teach(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function(FUNCTION, -1, flags, of_row)
}

fn of_row(context: &Context<'_>) -> rusqlite::Result<i64> {
    let values = (0..context.len()).map(|i| Ok(context.get_raw(i)));
    of_spelt(values, Vec::new())
}

/// The checksum of a row of a table, of all its columns but the checksum.
///
/// # Errors
/// When one of them is a fraction: none of our tables has any.
pub fn of_values(table: &str, values: &[ValueRef<'_>]) -> rusqlite::Result<i64> {
    of_spelt(values.iter().map(|value| Ok(*value)), spelt_table(table))
}

/// Checks a row of a table, read whole: all its columns, the checksum last.
pub fn check(table: &str, row: &Row<'_>) -> Result<(), RowError> {
    let columns = row.as_ref().column_count().saturating_sub(1);
    let found = of_spelt((0..columns).map(|i| row.get_ref(i)), spelt_table(table))?;
    if found != row.get::<_, i64>(columns)? {
        return Err(Damaged::new(format!("the checksum of a row of {table} does not match")).into());
    }
    Ok(())
}

/// Why a row could not be checked, or did not pass.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// SQLite could not, or a column is not of the type that was written.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The room that most rows take, spelt: one with a block is about as long.
const SPELT_BYTES: usize = 2048;

fn spelt_table(table: &str) -> Vec<u8> {
    let mut spelt = Vec::with_capacity(SPELT_BYTES);
    spelt.push(2);
    put_bytes(&mut spelt, table.as_bytes());
    spelt
}

fn of_spelt<'a>(
    values: impl Iterator<Item = rusqlite::Result<ValueRef<'a>>>,
    mut spelt: Vec<u8>,
) -> rusqlite::Result<i64> {
    for value in values {
        match value? {
            ValueRef::Null => spelt.push(0),
            ValueRef::Integer(n) => {
                spelt.push(1);
                spelt.extend_from_slice(&n.to_le_bytes());
            }
            ValueRef::Text(text) => {
                spelt.push(2);
                put_bytes(&mut spelt, text);
            }
            ValueRef::Blob(bytes) => {
                spelt.push(3);
                put_bytes(&mut spelt, bytes);
            }
            ValueRef::Real(_) => {
                return Err(rusqlite::Error::UserFunctionError("a checksum of a fraction".into()));
            }
        }
    }
    Ok(of(&spelt))
}

/// The checksum of a whole file. Its place in the file is moved.
pub fn of_file(mut file: &File) -> io::Result<i64> {
    file.rewind()?;
    let mut sum = XxHash3_64::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(sum.finish() as i64);
        }
        sum.write(piece.get(..read).unwrap_or_default());
    }
}

/// Whether two databases have the same tables and indexes, to the letter.
pub fn same_schema(a: &Connection, b: &Connection) -> rusqlite::Result<bool> {
    let schema = |connection: &Connection| -> rusqlite::Result<Vec<[Option<String>; 4]>> {
        let mut select =
            connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid")?;
        select.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?.collect()
    };
    Ok(schema(a)? == schema(b)?)
}
