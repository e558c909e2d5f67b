//! What the benchmark stores: chat messages of about 400 bytes between owners drawn by Zipf's law, always the same
//! for the same seed. Storing and timing them is left to the scenarios.

use std::fmt::Write;

use bytes::Bytes;
use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{NewEntry, Timestamp};

const WORDS: usize = 30_000;
/// A simulated year, in microseconds.
const YEAR: i64 = 365 * 86_400 * 1_000_000;
const BEGINNING: i64 = 1_700_000_000_000_000;

/// SplitMix64: small, fast, good enough, and the same everywhere.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 0 .. n, the k-th with a chance nearly proportional to 1/(k+1).
    pub fn zipf(&mut self, n: usize) -> usize {
        let drawn = ((n as f64 + 1.0).ln() * self.unit()).exp() - 1.0;
        (drawn as usize).min(n - 1)
    }
}

/// Makes messages.
pub struct Source {
    pub random: Random,
    words: Vec<String>,
    total: u64,
}

impl Source {
    /// For a load of `total` entries.
    pub fn new(seed: u64, total: u64) -> Source {
        let mut random = Random(seed);
        let words = (0..WORDS)
            .map(|_| (0..3 + random.below(7)).map(|_| (b'a' + random.below(26) as u8) as char).collect())
            .collect();
        Source { random, words, total: total.max(1) }
    }

    /// When the n-th entry was taken.
    pub fn stamp(&self, n: u64) -> Timestamp {
        Timestamp(BEGINNING + (YEAR as i128 * i128::from(n) / i128::from(self.total)) as i64)
    }

    /// The n-th entry of the load.
    pub fn entry(&mut self, owner: &str, with: &Jid, n: u64) -> NewEntry {
        let id = format!(
            "{:08x}-{:04x}-4{:03x}",
            self.random.below(1 << 32),
            self.random.below(1 << 16),
            self.random.below(1 << 12)
        );
        let mut stanza = String::with_capacity(512);
        let _ = write!(
            stanza,
            "<message xmlns='jabber:client' xml:lang='en' type='chat' id='{id}' from='{with}' to='{owner}'><body>"
        );
        for i in 0..8 + self.random.below(12) {
            if i > 0 {
                stanza.push(' ');
            }
            let word = self.random.zipf(WORDS);
            stanza.push_str(&self.words[word]);
        }
        let _ = write!(
            stanza,
            "</body><origin-id xmlns='urn:xmpp:sid:0' id='{id}'/><request xmlns='urn:xmpp:receipts'/>\
             <active xmlns='http://jabber.org/protocol/chatstates'/></message>"
        );
        NewEntry {
            with: with.clone(),
            stamp: self.stamp(n),
            stanza: Bytes::from(stanza),
            message_id: Some(id),
            foreign_id: None,
        }
    }

    /// One of an owner's contacts: some twenty, a few of them frequent.
    pub fn contact(&mut self, owner: usize, owners: usize) -> Jid {
        let k = self.random.zipf(20);
        let other = (owner.wrapping_mul(31).wrapping_add(k.wrapping_mul(7919))) % owners;
        Jid::new(&format!("user{other}@example.org/{}", ["phone", "desk"][k % 2])).unwrap()
    }
}

/// The n-th owner.
pub fn owner(n: usize) -> BareJid {
    BareJid::new(&format!("user{n}@example.org")).unwrap()
}
