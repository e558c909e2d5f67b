//! Stanza-ids (XEP-0359) as encrypted positions. Whether the position inside still stands in the archive is
//! left to `archive`.
//!
//! A stanza-id is one AES-128 block, under the store's secret key, of (64-bit hash of the owner's bare JID,
//! position), written as 26 characters of lower-case base32 (the extended-hex alphabet). To one who lacks the key it is a random string:
//! it says nothing about order, time or the size of the archive (XEP-0359 §6). To one who has it, it says
//! exactly which archive and which position is meant: no column, no index, no lookup.

use std::fmt;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use jid::BareJid;
use sha2::{Digest, Sha256};

use crate::entry::Position;

/// The longest id this archive accepts, in bytes: anything longer was never given by anyone it knows.
pub const STANZA_ID_BYTES_MAX: usize = 1023;

/// A public archive id: opaque, at most [`STANZA_ID_BYTES_MAX`] bytes, never empty.
///
/// Either one of ours (an encrypted position) or one that came with imported history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StanzaId(String);

impl StanzaId {
    /// Takes an id from outside. `None` when it is empty or too long to be anybody's.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Option<StanzaId> {
        let id = id.into();
        (!id.is_empty() && id.len() <= STANZA_ID_BYTES_MAX).then_some(StanzaId(id))
    }

    /// The id as it stands in an `id` attribute.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StanzaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret under which a store's ids are made: 128 random bits, made once and kept.
///
/// Who has it can read order out of ids; who loses it makes every id that clients remember unknown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdKey(pub [u8; 16]);

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(secret)")
    }
}

impl IdKey {
    /// The mint of one archive's ids.
    #[must_use]
    pub fn mint(&self, owner: &BareJid) -> IdMint {
        let digest = Sha256::digest(owner.as_str().as_bytes());
        let mut owner_hash = [0; 8];
        for (to, from) in owner_hash.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        IdMint { cipher: Aes128::new(&Array(self.0)), owner_hash }
    }
}

/// Makes and resolves the stanza-ids of one archive.
#[derive(Clone)]
pub struct IdMint {
    cipher: Aes128,
    owner_hash: [u8; 8],
}

impl fmt::Debug for IdMint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdMint(secret)")
    }
}

impl IdMint {
    /// The id of the entry at `position`: always the same one, and no other entry's.
    #[must_use]
    pub fn id(&self, position: Position) -> StanzaId {
        let owner = u64::from_be_bytes(self.owner_hash);
        let place = u64::from_be_bytes(position.0.to_be_bytes());
        let mut block = Array((u128::from(owner) << 64 | u128::from(place)).to_be_bytes());
        self.cipher.encrypt_block(&mut block);
        StanzaId(data_encoding::BASE32_DNSSEC.encode(&block))
    }

    /// The position an id of this archive stands for; `None` for any other string, forged or foreign.
    ///
    /// That the position still holds an entry is not promised.
    #[must_use]
    pub fn position(&self, id: &StanzaId) -> Option<Position> {
        let bytes = data_encoding::BASE32_DNSSEC.decode(id.0.as_bytes()).ok()?;
        let mut block = Array(<[u8; 16]>::try_from(bytes).ok()?);
        // One spelling per id: what decodes leniently (upper case) is not what we gave.
        if data_encoding::BASE32_DNSSEC.encode(&block) != id.0 {
            return None;
        }
        self.cipher.decrypt_block(&mut block);
        let plain = u128::from_be_bytes(block.0);
        let (owner, place) = ((plain >> 64) as u64, plain as u64);
        (owner == u64::from_be_bytes(self.owner_hash))
            .then(|| Position(i64::from_be_bytes(place.to_be_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn owner(s: &str) -> BareJid {
        BareJid::new(s).unwrap()
    }

    #[test]
    fn known_answer() {
        // Fixed for ever: clients remember ids across versions.
        let mint = IdKey([7; 16]).mint(&owner("alice@example.org"));
        assert_eq!(mint.id(Position(0)).as_str(), "tf2h61vp5tunij2g8vc3nf9rtk");
        assert_eq!(mint.id(Position(-1)).as_str(), "6v10ptfrpnnppga0l8j3qbd46c");
    }

    #[test]
    fn strings_that_are_nobodys_id() {
        let mint = IdKey([7; 16]).mint(&owner("alice@example.org"));
        let good = mint.id(Position(42));
        let upper = good.as_str().to_uppercase();
        let longer = format!("{good}0");
        let shorter = &good.as_str()[1..];
        for bad in [upper.as_str(), &longer, shorter, "x", "28482-98726-73623", "\u{1f98b}", "' or 1=1 --"] {
            assert_eq!(mint.position(&StanzaId::new(bad).unwrap()), None, "{bad}");
        }
        assert_eq!(StanzaId::new(""), None);
        assert_eq!(StanzaId::new("a".repeat(STANZA_ID_BYTES_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn resolves_only_in_its_archive(key: [u8; 16], other: [u8; 16], p: i64) {
            let key = IdKey(key);
            let id = key.mint(&owner("alice@example.org")).id(Position(p));
            prop_assert_eq!(id.as_str().len(), 26);
            prop_assert_eq!(key.mint(&owner("alice@example.org")).position(&id), Some(Position(p)));
            prop_assert_eq!(key.mint(&owner("bob@example.org")).position(&id), None);
            prop_assume!(other != key.0);
            prop_assert_eq!(IdKey(other).mint(&owner("alice@example.org")).position(&id), None);
        }

        /// Whoever lacks the key sees no order: comparing neighbours' ids is a coin toss, and no character
        /// of the string follows the position.
        #[test]
        fn says_nothing_about_order(key: [u8; 16], from in -1_000_000_i64..1_000_000) {
            const N: usize = 1000;
            let mint = IdKey(key).mint(&owner("alice@example.org"));
            let ids: Vec<_> = (0..=N as i64).map(|i| mint.id(Position(from + i))).collect();
            prop_assert_eq!(ids.iter().collect::<HashSet<_>>().len(), N + 1, "unique");
            let rising = ids.windows(2).filter(|w| w[0] < w[1]).count();
            // The expected number of ascents in a random order is N/2 with variance about N/12: this is 11 sigma.
            prop_assert!((rising as i64 - N as i64 / 2).abs() < 100, "{rising} of {N} neighbours rise");
            for column in 0..25 {
                let same = ids.windows(2).filter(|w| w[0].as_str().as_bytes()[column] == w[1].as_str().as_bytes()[column]).count();
                prop_assert!(same < N / 32 + 100, "column {column} repeats {same} times");
            }
        }
    }
}
