//! How long an archive keeps what it has: by age, and by quota. Carrying it out is left to the stores
//! ([`crate::Cut`]) and to whoever holds the clock.

use std::fmt;
use std::str::FromStr;

use crate::entry::Timestamp;

const DAY: u64 = 86_400;

/// The period of `archive_expires_after`: whole seconds, or never.
///
/// Written as mod_mam writes it: a number of seconds, or a number with `d` (day), `w` (week), `m` (31 days) or
/// `y` (365.2425 days); spaces and case do not matter; or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiresAfter {
    /// Entries stay until the owner or a quota removes them.
    Never,
    /// Entries go this many seconds after their stamp.
    Seconds(u64),
}

impl ExpiresAfter {
    /// One week, as mod_mam has it.
    pub const DEFAULT: ExpiresAfter = ExpiresAfter::Seconds(7 * DAY);

    /// Entries stamped before this moment are to go; `None` when none are.
    #[must_use]
    pub fn cut_off(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            ExpiresAfter::Never => None,
            ExpiresAfter::Seconds(seconds) => Some(now.minus_seconds(seconds)),
        }
    }
}

impl Default for ExpiresAfter {
    fn default() -> Self {
        ExpiresAfter::DEFAULT
    }
}

/// The text is not a period; its `Display` shows the forms that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a period: write a number of seconds (3600), a number with d, w, m or y (\"1d\", \"1w\", \"2m\", \"1y\"), or \"never\""
)]
pub struct NotAPeriod;

impl FromStr for ExpiresAfter {
    type Err = NotAPeriod;

    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        let text: String = text.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_lowercase()).collect();
        if text == "never" {
            return Ok(ExpiresAfter::Never);
        }
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text.strip_prefix(digits).unwrap_or_default();
        let seconds = match unit {
            "" => 1,
            "d" => DAY,
            "w" => 7 * DAY,
            "m" => 31 * DAY,
            "y" => 31_556_952,
            _ => return Err(NotAPeriod),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAPeriod);
        }
        let number: u64 = digits.parse().map_err(|_| NotAPeriod)?;
        number.checked_mul(seconds).map(ExpiresAfter::Seconds).ok_or(NotAPeriod)
    }
}

impl fmt::Display for ExpiresAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ExpiresAfter::Never => f.write_str("never"),
            ExpiresAfter::Seconds(s) if s > 0 && s.is_multiple_of(31_556_952) => {
                write!(f, "{}y", s / 31_556_952)
            }
            ExpiresAfter::Seconds(s) if s > 0 && s.is_multiple_of(7 * DAY) => write!(f, "{}w", s / (7 * DAY)),
            ExpiresAfter::Seconds(s) if s > 0 && s.is_multiple_of(DAY) => write!(f, "{}d", s / DAY),
            ExpiresAfter::Seconds(s) => write!(f, "{s}"),
        }
    }
}

/// How large one archive may grow; beyond it the oldest entries go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The most entries; `None` for no limit.
    pub entries: Option<u64>,
    /// The most bytes of stanzas, uncompressed; `None` for no limit.
    pub bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_mod_mam() {
        let cases = [
            ("60", Ok(60)),
            ("3600", Ok(3600)),
            ("0", Ok(0)),
            ("1d", Ok(86_400)),
            ("1w", Ok(604_800)),
            ("2m", Ok(2 * 31 * 86_400)),
            ("1y", Ok(31_556_952)),
            (" 1 W ", Ok(604_800)),
            ("10 D", Ok(864_000)),
            ("", Err(NotAPeriod)),
            ("w", Err(NotAPeriod)),
            ("-1", Err(NotAPeriod)),
            ("-1d", Err(NotAPeriod)),
            ("1.5d", Err(NotAPeriod)),
            ("1h", Err(NotAPeriod)),
            ("1dd", Err(NotAPeriod)),
            ("1d1", Err(NotAPeriod)),
            ("1 week", Err(NotAPeriod)),
            ("nevér", Err(NotAPeriod)),
            ("99999999999999999999", Err(NotAPeriod)),
            ("18446744073709551615w", Err(NotAPeriod)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<ExpiresAfter>(), expected.map(ExpiresAfter::Seconds), "{text:?}");
        }
        assert_eq!(" Never".parse(), Ok(ExpiresAfter::Never));
    }

    #[test]
    fn shown_as_it_may_be_written() {
        for text in ["never", "1w", "3d", "90", "1y", "0"] {
            assert_eq!(text.parse::<ExpiresAfter>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn cut_off() {
        let now = Timestamp(10_000_000);
        assert_eq!(ExpiresAfter::Never.cut_off(now), None);
        assert_eq!(ExpiresAfter::Seconds(4).cut_off(now), Some(Timestamp(6_000_000)));
        assert_eq!(ExpiresAfter::Seconds(u64::MAX).cut_off(Timestamp(-2)), Some(Timestamp(i64::MIN)));
    }
}
