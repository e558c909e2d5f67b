//! Maps by archive number. What is in them is left to those who have them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by archive number. Numbers are given one after the other by the store itself, so that nothing can be gained
/// by choosing them, and spreading them is hash enough.
pub type Numbered<T> = HashMap<u32, T, BuildHasherDefault<Spread>>;

/// Spreads a number over 64 bits.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
