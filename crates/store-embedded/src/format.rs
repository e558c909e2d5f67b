//! How things are spelt on disk: variable-length numbers, entries, the keyed hash, and the version that stands
//! in every file. docs/format.md draws the whole; which file holds what is left to `catalog`, `log` and
//! `segment`.

use std::hash::Hasher;

use jid::Jid;
use siphasher::sip::SipHasher24;

/// The version of the format this program reads and writes, in every file it makes.
pub const FORMAT: i64 = 3;

/// The longest JID a well-formed entry can carry, in bytes (RFC 7622 §3.1).
const JID_BYTES_MAX: usize = 3071;

/// Bytes that are not what this program wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged: {0}")]
pub struct Damaged(pub String);

impl Damaged {
    /// A damage, in words for the log: never with a stanza in them.
    pub fn new(what: impl Into<String>) -> Damaged {
        Damaged(what.into())
    }
}

/// Appends `n`, seven bits to a byte, lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a signed number so that small ones of either sign are short.
pub fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// Appends a length and so many bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_…` functions wrote, and keeps its place.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether all bytes were read.
    pub fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(|| Damaged::new("ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    /// What [`put_varint`] wrote.
    pub fn varint(&mut self) -> Result<u64, Damaged> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(Damaged::new("a number is too long"))
    }

    /// What [`put_varint`] wrote, as a length or count.
    pub fn count(&mut self) -> Result<usize, Damaged> {
        usize::try_from(self.varint()?).map_err(|_| Damaged::new("a count is too large"))
    }

    /// What [`put_signed`] wrote.
    pub fn signed(&mut self) -> Result<i64, Damaged> {
        let n = self.varint()?;
        Ok(((n >> 1) as i64) ^ -((n & 1) as i64))
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Damaged> {
        let end = self.at.checked_add(n).ok_or_else(|| Damaged::new("a length is too large"))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| Damaged::new("ends too early"))?;
        self.at = end;
        Ok(taken)
    }

    /// What [`put_bytes`] wrote.
    pub fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let n = self.count()?;
        self.take(n)
    }

    /// A number of four bytes, lowest first.
    pub fn u32(&mut self) -> Result<u32, Damaged> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    /// Text.
    pub fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged::new("a text is not UTF-8"))
    }
}

const HAS_FOREIGN_ID: u8 = 1;
const IS_RETRACTED: u8 = 2;
const HAS_MESSAGE_ID: u8 = 4;

/// One entry as it stands in a log or a block, borrowed from there.
///
/// ```text
/// entry = flags:1  stamp:signed (less the stamp before)  with:bytes
///         [hash of (with's bare JID, message id):4]  [foreign id:bytes]  stanza:bytes
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Microseconds since 1970.
    pub stamp: i64,
    /// The other end, as text.
    pub with: &'a str,
    /// [`Keys::message`] of its message id, if it has one.
    pub message_hash: Option<u32>,
    /// Under which id another archive published it.
    pub foreign_id: Option<&'a str>,
    /// The stanza or its tombstone.
    pub stanza: &'a [u8],
    /// Whether `stanza` is a tombstone.
    pub retracted: bool,
}

impl<'a> Record<'a> {
    /// Appends the entry; `last_stamp` is that of the entry before it, or 0.
    pub fn put(&self, out: &mut Vec<u8>, last_stamp: i64) {
        let mut flags = 0;
        if self.foreign_id.is_some() {
            flags |= HAS_FOREIGN_ID;
        }
        if self.retracted {
            flags |= IS_RETRACTED;
        }
        if self.message_hash.is_some() {
            flags |= HAS_MESSAGE_ID;
        }
        out.push(flags);
        put_signed(out, self.stamp.wrapping_sub(last_stamp));
        put_bytes(out, self.with.as_bytes());
        if let Some(hash) = self.message_hash {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        if let Some(id) = self.foreign_id {
            put_bytes(out, id.as_bytes());
        }
        put_bytes(out, self.stanza);
    }

    /// Reads what [`put`](Self::put) wrote.
    pub fn take(from: &mut Cursor<'a>, last_stamp: i64) -> Result<Record<'a>, Damaged> {
        let flags = from.byte()?;
        if flags & !(HAS_FOREIGN_ID | IS_RETRACTED | HAS_MESSAGE_ID) != 0 {
            return Err(Damaged::new("an entry has unknown flags"));
        }
        let stamp = last_stamp.wrapping_add(from.signed()?);
        let with = from.text()?;
        if with.len() > JID_BYTES_MAX {
            return Err(Damaged::new("a JID is too long"));
        }
        let message_hash = (flags & HAS_MESSAGE_ID != 0).then(|| from.u32()).transpose()?;
        let foreign_id = (flags & HAS_FOREIGN_ID != 0).then(|| from.text()).transpose()?;
        let stanza = from.bytes()?;
        Ok(Record { stamp, with, message_hash, foreign_id, stanza, retracted: flags & IS_RETRACTED != 0 })
    }
}

/// The bare form of a JID's text: up to the first slash.
pub fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}

/// The JID of a text that was one when it was written.
pub fn jid(text: &str) -> Result<Jid, Damaged> {
    Jid::new(text).map_err(|_| Damaged::new("a JID is not one"))
}

/// The store's hash: SipHash-2-4 (Aumasson and Bernstein, 2012) under a secret key of its own, so that nobody outside can choose texts that
/// collide.
#[derive(Clone, Copy)]
pub struct Keys(pub [u8; 16]);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(secret)")
    }
}

impl Keys {
    /// The number of a conversation: of a bare JID, or of one full JID within it. Never 0.
    pub fn contact(&self, jid: &str) -> i64 {
        (self.hash(&[jid.as_bytes()]) as i64).checked_abs().unwrap_or(i64::MAX).max(1)
    }

    /// What [`mammoth_archive::ArchiveStore::find`] looks for. Never 0.
    pub fn message(&self, bare_with: &str, message_id: &str) -> u32 {
        (self.hash(&[b"m", bare_with.as_bytes(), b"\0", message_id.as_bytes()]) as u32).max(1)
    }

    /// What [`mammoth_archive::ArchiveStore::locate`] looks for. Never 0.
    pub fn foreign(&self, foreign_id: &str) -> u32 {
        (self.hash(&[b"f", foreign_id.as_bytes()]) as u32).max(1)
    }

    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        for part in parts {
            hasher.write(part);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_known_answers() {
        // The reference vectors: key 00..0f, messages of 0, 1 .. bytes 00, 01, ….
        let keys = Keys(std::array::from_fn(|i| i as u8));
        let message: Vec<u8> = (0..63).collect();
        assert_eq!(keys.hash(&[&message[..0]]), 0x726f_db47_dd0e_0e31);
        assert_eq!(keys.hash(&[&message[..15]]), 0xa129_ca61_49be_45e5);
        assert_eq!(keys.hash(&[&message[..3], &message[3..4], &message[4..15]]), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn numbers_come_back() {
        for n in [0, 1, -1, 63, 64, -64, -65, 1_700_000_000_000_000, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_signed(&mut out, n);
            put_varint(&mut out, n as u64);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.signed(), Ok(n));
            assert_eq!(cursor.varint(), Ok(n as u64));
            assert!(cursor.is_done());
        }
        assert!(Cursor::new(&[0x80]).varint().is_err());
        assert!(Cursor::new(&[0xff; 11]).varint().is_err());
        assert!(Cursor::new(&[5, 1]).bytes().is_err());
    }

    #[test]
    fn entries_come_back() {
        let full = Record {
            stamp: 1_700_000_000_000_000,
            with: "bob@example.org/phone",
            message_hash: Some(0xdead_beef),
            foreign_id: Some("old"),
            stanza: b"<message/>",
            retracted: true,
        };
        let plain = Record { message_hash: None, foreign_id: None, retracted: false, stamp: -5, ..full };
        for record in [full, plain] {
            let mut out = Vec::new();
            record.put(&mut out, 17);
            let mut cursor = Cursor::new(&out);
            assert_eq!(Record::take(&mut cursor, 17), Ok(record));
            assert!(cursor.is_done());
            for end in 0..out.len() {
                assert!(Record::take(&mut Cursor::new(&out[..end]), 17).is_err(), "cut at {end}");
            }
        }
    }
}
