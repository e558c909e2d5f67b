//! What the generator says: messages whose text follows from a tag and a number, so that every archived body can be
//! checked to the byte; and who of an archive's contacts is addressed by which message. Sending is left to the
//! scenarios.

use std::io::{BufWriter, Write, stdout};

/// The length of every body, in bytes.
pub const BODY_BYTES: usize = 100;

/// How many messages the rare contact has in an archive; all are in its older half.
pub const RARE_MESSAGES: u64 = 20;

const SYLLABLES: &[u8; 64] = b"banodiketuramisopelugavonerisatelomudafikobenurogamitesolavupina";

/// A small reproducible random sequence (xorshift64*).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(mixed | 1)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end` (0 if `end` is 0).
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { (self.roll() >> 11) % end }
    }
}

/// Appends body number `seq` of `tag`: `tag/00000017/` and pseudo-words up to [`BODY_BYTES`].
pub fn body(out: &mut Vec<u8>, tag: &str, seq: u64) {
    let start = out.len();
    out.extend_from_slice(tag.as_bytes());
    let _infallible = write!(out, "/{seq:08}/");
    let mut dice = Dice::new(seq);
    while out.len() - start < BODY_BYTES {
        let mut bits = dice.roll();
        for _ in 0..7 {
            let at = ((bits & 31) * 2) as usize;
            out.extend_from_slice(SYLLABLES.get(at..at + 2).unwrap_or(b"xx"));
            if bits & 0xe0 < 0x60 {
                out.push(b' ');
            }
            bits >>= 8;
        }
    }
    out.truncate(start + BODY_BYTES);
}

/// The number of a body, if it is one of `tag`'s and right to the last byte; `scratch` is only working space.
pub fn read_body(body_bytes: &[u8], tag: &str, scratch: &mut Vec<u8>) -> Option<u64> {
    let seq = seq_of(body_bytes, tag)?;
    scratch.clear();
    body(scratch, tag, seq);
    (scratch.as_slice() == body_bytes).then_some(seq)
}

/// The number of a body of `tag`'s, whatever follows it.
pub fn seq_of(body_bytes: &[u8], tag: &str) -> Option<u64> {
    let digits = body_bytes.strip_prefix(tag.as_bytes())?.strip_prefix(b"/")?;
    let digits = digits.get(..digits.iter().position(|b| *b == b'/')?)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Appends chat message number `seq` of `tag` to `to`, dressed as today's clients dress it.
pub fn message(out: &mut Vec<u8>, to: &str, tag: &str, seq: u64) {
    let _infallible = write!(out, "<message to='{to}' type='chat' id='{tag}-{seq}'><body>");
    body(out, tag, seq);
    let _infallible = write!(
        out,
        "</body><origin-id xmlns='urn:xmpp:sid:0' id='{tag}-{seq}'/><request xmlns='urn:xmpp:receipts'/>\
         <active xmlns='http://jabber.org/protocol/chatstates'/></message>"
    );
}

/// An archive made by `fill`: so many messages from its owner to so many contacts.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The account whose archive it is, and the tag of its messages.
    pub owner: String,
    /// Messages in the archive.
    pub depth: u64,
    /// Contacts: number 0 is frequent (half of all messages), the last one rare, the others share the rest.
    pub contacts: u64,
}

impl Plan {
    /// The number of the contact to whom message `seq` goes.
    pub fn contact(&self, seq: u64) -> u64 {
        let rare_every = (self.depth / 2 / RARE_MESSAGES).max(1);
        if seq < self.depth / 2 && seq % rare_every == rare_every / 2 && seq / rare_every < RARE_MESSAGES {
            return self.contacts.saturating_sub(1);
        }
        let mut dice = Dice::new(seq ^ 0x5eed);
        if self.contacts < 3 || dice.below(2) == 0 { 0 } else { 1 + dice.below(self.contacts - 2) }
    }

    /// The messages with one contact, or all, oldest first.
    pub fn messages(&self, contact: Option<u64>) -> Vec<u64> {
        (0..self.depth).filter(|seq| contact.is_none_or(|c| self.contact(*seq) == c)).collect()
    }
}

/// Prints all messages of `plan`, one per line: number, contact, body.
///
/// # Errors
/// Standard output is gone.
pub fn script(plan: &Plan, prefix: &str) -> anyhow::Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    let mut line = Vec::new();
    for seq in 0..plan.depth {
        line.clear();
        write!(line, "{seq}\t{prefix}c{}\t", plan.contact(seq))?;
        body(&mut line, &plan.owner, seq);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_back_only_when_whole() {
        let mut out = Vec::new();
        body(&mut out, "t1", 17);
        assert_eq!(out.len(), BODY_BYTES);
        assert!(out.iter().all(|b| b.is_ascii_graphic() || *b == b' '));
        let mut scratch = Vec::new();
        assert_eq!(read_body(&out, "t1", &mut scratch), Some(17));
        assert_eq!(read_body(&out, "t", &mut scratch), None);
        out[BODY_BYTES - 1] = b'#';
        assert_eq!(read_body(&out, "t1", &mut scratch), None);
        assert_eq!(seq_of(&out, "t1"), Some(17));
    }

    #[test]
    fn bodies_differ() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        body(&mut a, "t", 1);
        body(&mut b, "t", 2);
        assert_ne!(a[14..], b[14..]);
    }

    #[test]
    fn the_rare_contact_is_rare_and_old_and_the_frequent_one_has_half() {
        for depth in [1_000, 10_000] {
            let plan = Plan { owner: "o".to_owned(), depth, contacts: 20 };
            let rare = plan.messages(Some(19));
            assert_eq!(rare.len() as u64, RARE_MESSAGES);
            assert!(rare.iter().all(|seq| *seq < depth / 2));
            let frequent = plan.messages(Some(0)).len() as u64;
            assert!(frequent > depth * 2 / 5 && frequent < depth * 3 / 5, "{frequent}");
            let all: usize = (0..20).map(|c| plan.messages(Some(c)).len()).sum();
            assert_eq!(all as u64, depth);
        }
    }
}
