//! JIDs as keys: 128 bits of their SHA-256, which PostgreSQL keeps as a `uuid`. A JID may be longer than an index
//! entry can be, and none is kept in every row; what the JID was is left to the columns that hold it.

use bytes::{BufMut, BytesMut};
use jid::{BareJid, Jid};
use sha2::{Digest, Sha256};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The key of a JID: an archive's, a contact's or an account's, which are bare, or a contact's full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of `jid`.
    pub fn of(jid: &Jid) -> Key {
        Key(first(&Sha256::digest(jid.as_str().as_bytes())))
    }

    /// Which of `n` writers has it.
    pub fn share(self, n: usize) -> usize {
        let [first, second, ..] = self.0;
        usize::from(u16::from_be_bytes([first, second])).checked_rem(n).unwrap_or(0)
    }
}

/// What an entry is found by when its author retracts it: 64 bits of a hash of the contact and the message id. Two
/// that are the same by chance are told apart by whoever asked.
pub fn message_key(contact: &BareJid, message_id: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update((contact.as_str().len() as u64).to_be_bytes());
    hash.update(contact.as_str().as_bytes());
    hash.update(message_id.as_bytes());
    i64::from_be_bytes(first(&hash.finalize()))
}

/// The first bytes of a hash.
fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = *from;
    }
    bytes
}

type Refusal = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Key {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Refusal> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(type_: &Type) -> bool {
        *type_ == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Key {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Key, Refusal> {
        Ok(Key(raw.try_into()?))
    }

    fn accepts(type_: &Type) -> bool {
        *type_ == Type::UUID
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_for_ever() {
        // Rows of older versions are found by these.
        let jid = BareJid::new("alice@example.org").unwrap();
        let hex: String = Key::of(&jid).0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "7a64adf28737ea90719cbdf0b1a87a5e");
        assert_eq!(message_key(&jid, "m1"), 9202831108651193451);
        assert_ne!(message_key(&jid, "m1"), message_key(&jid, "m2"));
    }
}
