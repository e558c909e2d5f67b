//! Prosody's names as JIDs and back: any string can be a user name or a `with`, the store takes only JIDs. What a
//! name means is left to Prosody.
//!
//! A string that already is a normalised bare JID stands for itself. Any other is spelt in the local part of
//! a domain that exists nowhere, each unusual byte as `\` and two hexadecimal digits (XEP-0106 does the same for the
//! few characters it names); a string too long for that is hashed, and the value carries it whole.

use mammoth_archive::jid::{BareJid, Jid};
use sha2::{Digest, Sha256};

/// Under this domain: strings that are no JIDs.
const OTHER: &str = "with.mammoth.invalid";
/// Under this domain: strings too long to be spelt out.
const LONG: &str = "long.mammoth.invalid";
/// Under this domain: what the driver itself remembers of each archive.
const MARKS: &str = "marks.mammoth.invalid";
/// The longest local part (RFC 7622 §3.3.1), in bytes.
const NODE_BYTES_MAX: usize = 1023;

/// A `with` as the store takes it: always a bare JID, a different one for each string.
#[must_use]
pub fn with_jid(with: &str) -> Option<Jid> {
    if let Ok(jid) = BareJid::new(with)
        && jid.as_str() == with
        && !with.ends_with(".mammoth.invalid")
    {
        return Some(jid.into());
    }
    let spelt = escape(with);
    let text = match spelt.len() {
        0 => OTHER.to_owned(),
        1..=NODE_BYTES_MAX => format!("{spelt}@{OTHER}"),
        _ => format!("{}@{LONG}", data_encoding::HEXLOWER.encode(&Sha256::digest(with.as_bytes()))),
    };
    Jid::new(&text).ok()
}

/// The string that [`with_jid`] was given; `None` for one that was hashed.
#[must_use]
pub fn with_text(jid: &Jid) -> Option<String> {
    match jid.domain().as_str() {
        OTHER => Some(jid.node().map_or_else(String::new, |node| unescape(node.as_str()))),
        LONG => None,
        _ => Some(jid.to_string()),
    }
}

/// Whose archive: a user, a room, or the host itself where Prosody has no user name.
#[must_use]
pub fn owner(user: Option<&str>, host: &str) -> Option<BareJid> {
    at(user, host)
}

/// The archive in which the driver keeps what it remembers of an archive.
#[must_use]
pub fn marks_owner(user: Option<&str>) -> Option<BareJid> {
    at(user, MARKS)
}

fn at(user: Option<&str>, host: &str) -> Option<BareJid> {
    let Some(user) = user.filter(|user| !user.is_empty()) else { return BareJid::new(host).ok() };
    let plain = format!("{user}@{host}");
    if !user.contains(['\\', '@', '/'])
        && let Ok(jid) = BareJid::new(&plain)
        && jid.node().is_some_and(|node| node.as_str() == user)
    {
        return Some(jid);
    }
    BareJid::new(&format!("{}@{host}", escape(user))).ok()
}

/// The user name in an owner's JID: `None` when it is not an archive of Prosody's, empty for the host's own.
#[must_use]
pub fn user(owner: &BareJid) -> Option<String> {
    if owner.domain().as_str() == MARKS {
        return None;
    }
    Some(owner.node().map_or_else(String::new, |node| unescape(node.as_str())))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            out.push('\\');
            out.push_str(&data_encoding::HEXLOWER.encode(&[byte]));
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let byte = tail.get(..2).filter(|_| *first == b'\\');
        match byte.and_then(|digits| data_encoding::HEXLOWER.decode(digits).ok()) {
            Some(byte) => {
                out.extend(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withs_come_back_and_stay_apart() {
        let long = "ü".repeat(600);
        let all = [
            "",
            "bob@example.org",
            "Bob@example.org",
            "bob@example.org/phone",
            "message<groupchat",
            "example.org",
            "b\\20b",
            "b b",
            "b\\5c20b",
            "müller@example.org",
            "x@with.mammoth.invalid",
            "with.mammoth.invalid",
            "@",
            "/",
            "\u{1f98b}",
        ];
        let mut seen = std::collections::HashSet::new();
        for with in all {
            let jid = with_jid(with).unwrap();
            assert!(jid.is_bare(), "{with}");
            assert_eq!(with_text(&jid).unwrap(), with);
            assert!(seen.insert(jid.to_string()), "{with}");
        }
        assert_eq!(with_text(&with_jid(&long).unwrap()), None);
        assert_ne!(with_jid(&long), with_jid(&format!("{long}x")));
    }

    #[test]
    fn users_come_back_and_stay_apart() {
        let mut seen = std::collections::HashSet::new();
        for name in ["alice", "Alice", "al ice", "user-issue1073", "a\\20b", "a@b", "müller", "x/y"] {
            let jid = owner(Some(name), "example.org").unwrap();
            assert_eq!(user(&jid).as_deref(), Some(name));
            assert!(seen.insert(jid.to_string()), "{name}");
            assert_eq!(user(&marks_owner(Some(name)).unwrap()), None);
        }
        assert_eq!(owner(None, "example.org").unwrap().as_str(), "example.org");
        assert_eq!(user(&owner(None, "example.org").unwrap()).as_deref(), Some(""));
    }
}
