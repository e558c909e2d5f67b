//! How a value of Prosody's stands in an entry. What a value means is left to Prosody, and parsing it to Lua.
//!
//! A stanza whose time is whole microseconds and whose `with` is short stands there as its XML and nothing else, as
//! in any archive of ours. Any other value has one line before it:
//!
//! ```text
//! mammoth-prosody 1 <kind> <when> <with, escaped as the store's JIDs are, or -> LF <text>
//! ```

use bytes::Bytes;
use mammoth_archive::jid::Jid;

use crate::names;

const HEADER: &str = "mammoth-prosody 1 ";

/// What kind of value it is: who wrote it as text knows how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stanza, as XML.
    Stanza,
    /// Anything else, as Lua wrote it.
    Data,
}

impl Kind {
    /// As Lua calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Stanza => "xml",
            Kind::Data => "data",
        }
    }

    /// As Lua calls it.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        match name {
            "xml" => Some(Kind::Stanza),
            "data" => Some(Kind::Data),
            _ => None,
        }
    }
}

/// A value with what the store keeps only roughly.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its kind.
    pub kind: Kind,
    /// Its text.
    pub text: Bytes,
    /// Its time, in seconds since 1970, exactly as it was given.
    pub when: f64,
    /// Its `with`, exactly as it was given.
    pub with: String,
}

/// A time in whole microseconds: what times are compared by. `None` for what is not a time.
#[must_use]
pub fn micros(seconds: f64) -> Option<i64> {
    let micros = (seconds * 1e6).round();
    (micros.abs() < 9e18).then_some(micros as i64)
}

/// The time of a stamp, as [`micros`] took it.
#[must_use]
pub fn seconds(micros: i64) -> f64 {
    (micros as f64) / 1e6
}

/// The value as an entry of this stamp and `with` holds it.
#[must_use]
pub fn write(value: &Value, stamp: i64, with: &Jid) -> Bytes {
    let told = names::with_text(with).as_deref() == Some(&value.with);
    if told && seconds(stamp) == value.when && value.kind == Kind::Stanza && value.text.starts_with(b"<") {
        return value.text.clone();
    }
    let with = if told {
        "-".to_owned()
    } else {
        format!("={}", data_encoding::HEXLOWER.encode(value.with.as_bytes()))
    };
    let mut out = format!("{HEADER}{} {} {with}\n", value.kind.as_str(), value.when).into_bytes();
    out.extend_from_slice(&value.text);
    Bytes::from(out)
}

/// What [`write()`] wrote; `None` for what it did not.
#[must_use]
pub fn read(stanza: &Bytes, stamp: i64, with: &Jid) -> Option<Value> {
    if stanza.starts_with(b"<") {
        let with = names::with_text(with)?;
        return Some(Value { kind: Kind::Stanza, text: stanza.clone(), when: seconds(stamp), with });
    }
    let end = stanza.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(stanza.get(..end)?).ok()?;
    let mut words = line.strip_prefix(HEADER)?.split(' ');
    let kind = Kind::named(words.next()?)?;
    let when = words.next()?.parse().ok()?;
    let with = match words.next()?.strip_prefix('=') {
        Some(hex) => String::from_utf8(data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?).ok()?,
        None => names::with_text(with)?,
    };
    Some(Value { kind, text: stanza.slice(end + 1..), when, with })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let long = "x".repeat(5000);
        for kind in [Kind::Stanza, Kind::Data] {
            for when in [0.0, 1_539_204_123.0, 1_539_204_123.25, 1_539_204_123.123_456_7, -3.5, 1e-7] {
                for with in ["bob@example.org", "", "message<groupchat", &long] {
                    let jid = names::with_jid(with).unwrap();
                    let value =
                        Value { kind, text: Bytes::from_static(b"<a>\n</a>"), when, with: with.to_owned() };
                    for stamp in [micros(when).unwrap(), 2_000_000_000_000_000] {
                        let stored = write(&value, stamp, &jid);
                        assert_eq!(read(&stored, stamp, &jid), Some(value.clone()));
                    }
                }
            }
        }
    }

    #[test]
    fn an_ordinary_message_stands_there_as_it_is() {
        let jid = names::with_jid("room<groupchat").unwrap();
        let value = Value {
            kind: Kind::Stanza,
            text: Bytes::from_static(b"<message/>"),
            when: 1_539_204_123.0,
            with: "room<groupchat".into(),
        };
        assert_eq!(write(&value, 1_539_204_123_000_000, &jid), value.text);
    }

    #[test]
    fn times_that_are_none() {
        assert_eq!(micros(f64::NAN), None);
        assert_eq!(micros(f64::INFINITY), None);
        assert_eq!(micros(-1e300), None);
    }
}
