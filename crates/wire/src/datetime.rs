//! Moments as text (XEP-0082, profile DateTime). Where they come from is left to the caller.
//!
//! Read and written in microseconds. A stamp that was written by [`write()`] and is given back as `start` or `end`
//! is exactly the same moment again.

use mammoth_archive::Timestamp;
use time::{Date, Month};

const MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;
/// The Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;
/// 0000-01-01T00:00:00Z.
const FIRST: Timestamp = Timestamp(-62_167_219_200_000_000);
/// 9999-12-31T23:59:59.999999Z.
const LAST: Timestamp = Timestamp(253_402_300_799_999_999);

/// The text is not a DateTime of XEP-0082, or lies outside the years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date and time such as 2026-11-22T14:30:00.250Z")]
pub struct NotADateTime;

/// What becomes of digits beyond the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the next microsecond: for `start`, which must not match anything earlier.
    Up,
    /// To the last microsecond: for `end`, which must not match anything later.
    Down,
}

/// Reads a DateTime: `CCYY-MM-DDThh:mm:ss[.s…]` and `Z` or an offset such as `+01:00`. A leap second (`:60`) is the
/// first second of the next minute.
///
/// # Errors
/// [`NotADateTime`] for everything else.
pub fn read(text: &str, rounding: Rounding) -> Result<Timestamp, NotADateTime> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    literal(&mut rest, "-")?;
    let month = number(&mut rest, 2)?;
    literal(&mut rest, "-")?;
    let day = number(&mut rest, 2)?;
    literal(&mut rest, "T")?;
    let hour = at_most(23, number(&mut rest, 2)?)?;
    literal(&mut rest, ":")?;
    let minute = at_most(59, number(&mut rest, 2)?)?;
    literal(&mut rest, ":")?;
    let second = at_most(60, number(&mut rest, 2)?)?;
    let micros = fraction(&mut rest, rounding)?;
    let offset = offset(rest)?;

    let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok()).ok_or(NotADateTime)?;
    let day = u8::try_from(day).map_err(|_| NotADateTime)?;
    let date = Date::from_calendar_date(i32::from(year), month, day).map_err(|_| NotADateTime)?;
    let days = i64::from(date.to_julian_day()) - EPOCH_JULIAN_DAY;
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second) - offset;
    let stamp = Timestamp((days * DAY_SECONDS + seconds) * MICROS + micros);
    if (FIRST..=LAST).contains(&stamp) { Ok(stamp) } else { Err(NotADateTime) }
}

/// Writes a moment in UTC, with six digits after the second and `Z`. Moments outside the years 0 to 9999, which no
/// text stands for, become the nearest that has one.
#[must_use]
pub fn write(stamp: Timestamp) -> String {
    let stamp = stamp.clamp(FIRST, LAST).0;
    let (days, of_day) = (stamp.div_euclid(DAY_SECONDS * MICROS), stamp.rem_euclid(DAY_SECONDS * MICROS));
    let (seconds, micros) = (of_day / MICROS, of_day % MICROS);
    let date = i32::try_from(days + EPOCH_JULIAN_DAY).ok().and_then(|day| Date::from_julian_day(day).ok());
    let (year, month, day) = date.unwrap_or(Date::MIN).to_calendar_date();
    let parts = [
        (i64::from(year), 4, '-'),
        (i64::from(u8::from(month)), 2, '-'),
        (i64::from(day), 2, 'T'),
        (seconds / 3600, 2, ':'),
        (seconds / 60 % 60, 2, ':'),
        (seconds % 60, 2, '.'),
        (micros, 6, 'Z'),
    ];
    let mut out = String::with_capacity("CCYY-MM-DDThh:mm:ss.ssssssZ".len());
    for (number, digits, then) in parts {
        for power in (0..digits).rev() {
            let digit = u8::try_from(number / 10_i64.pow(power) % 10).unwrap_or(0);
            out.push(char::from(b'0' + digit));
        }
        out.push(then);
    }
    out
}

fn literal(rest: &mut &str, literal: &str) -> Result<(), NotADateTime> {
    *rest = rest.strip_prefix(literal).ok_or(NotADateTime)?;
    Ok(())
}

fn number(rest: &mut &str, digits: usize) -> Result<u16, NotADateTime> {
    let (number, tail) = rest.split_at_checked(digits).ok_or(NotADateTime)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotADateTime);
    }
    *rest = tail;
    number.parse().map_err(|_| NotADateTime)
}

fn at_most(max: u16, number: u16) -> Result<u16, NotADateTime> {
    if number <= max { Ok(number) } else { Err(NotADateTime) }
}

/// The optional fraction of a second, in microseconds.
fn fraction(rest: &mut &str, rounding: Rounding) -> Result<i64, NotADateTime> {
    let Some(tail) = rest.strip_prefix('.') else {
        return Ok(0);
    };
    let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    let (digits, tail) = tail.split_at_checked(end).ok_or(NotADateTime)?;
    if digits.is_empty() {
        return Err(NotADateTime);
    }
    *rest = tail;
    let mut digits = digits.bytes().map(|digit| i64::from(digit - b'0'));
    let micros = (0..6).fold(0, |micros, _| micros * 10 + digits.next().unwrap_or(0));
    let beyond = digits.any(|digit| digit != 0);
    Ok(if beyond && rounding == Rounding::Up { micros + 1 } else { micros })
}

/// The time zone that is the whole of `rest`, in seconds east of UTC.
fn offset(rest: &str) -> Result<i64, NotADateTime> {
    if rest == "Z" {
        return Ok(0);
    }
    let (sign, mut rest) = match rest.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(NotADateTime),
    };
    let hours = at_most(23, number(&mut rest, 2)?)?;
    literal(&mut rest, ":")?;
    let minutes = at_most(59, number(&mut rest, 2)?)?;
    if !rest.is_empty() {
        return Err(NotADateTime);
    }
    Ok(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_and_their_texts() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000001Z", 1),
            ("1969-12-31T23:59:59.5Z", -500_000),
            ("2000-02-29T12:00:00Z", 951_825_600_000_000),
            ("2026-11-22T14:30:00.250Z", 1_795_357_800_250_000),
            ("2026-11-22T15:30:00.25+01:00", 1_795_357_800_250_000),
            ("2026-11-22T09:00:00.25-05:30", 1_795_357_800_250_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("2016-12-31T23:59:60.5Z", 1_483_228_800_500_000),
            ("0000-01-01T00:00:00Z", FIRST.0),
            ("9999-12-31T23:59:59.999999Z", LAST.0),
            ("9999-12-31T23:59:59.9999999Z", LAST.0),
        ];
        for (text, micros) in cases {
            assert_eq!(read(text, Rounding::Down), Ok(Timestamp(micros)), "{text}");
        }
    }

    #[test]
    fn digits_beyond_the_microsecond() {
        let cases = [
            ("1970-01-01T00:00:00.0000010000Z", 1, 1),
            ("1970-01-01T00:00:00.0000010001Z", 1, 2),
            ("1970-01-01T00:00:00.9999999Z", 999_999, 1_000_000),
            ("1969-12-31T23:59:59.9999999Z", -1, 0),
        ];
        for (text, down, up) in cases {
            assert_eq!(read(text, Rounding::Down), Ok(Timestamp(down)), "{text}");
            assert_eq!(read(text, Rounding::Up), Ok(Timestamp(up)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_and_time() {
        let texts = [
            "",
            "yesterday",
            "2026-11-22",
            "2026-11-22T14:30:00",
            "2026-11-22T14:30Z",
            "2026-11-22t14:30:00z",
            "2026-11-22 14:30:00Z",
            "20261122T14:30:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+01:60",
            "2026-01-01T00:00:00ZZ",
            " 2026-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "12026-01-01T00:00:00Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:60Z",
            "+026-01-01T00:00:00Z",
            "２０26-01-01T00:00:00Z",
        ];
        for text in texts {
            assert_eq!(read(text, Rounding::Up), Err(NotADateTime), "{text:?}");
        }
        assert_eq!(read("9999-12-31T23:59:59.9999999Z", Rounding::Up), Err(NotADateTime));
    }

    #[test]
    fn moments_that_have_no_text_become_the_nearest() {
        assert_eq!(write(Timestamp(i64::MIN)), "0000-01-01T00:00:00.000000Z");
        assert_eq!(write(Timestamp(i64::MAX)), "9999-12-31T23:59:59.999999Z");
    }

    proptest! {
        #[test]
        fn written_and_read_is_the_same(micros in FIRST.0..=LAST.0) {
            let text = write(Timestamp(micros));
            prop_assert_eq!(text.len(), 27);
            prop_assert_eq!(read(&text, Rounding::Up), Ok(Timestamp(micros)));
            prop_assert_eq!(read(&text, Rounding::Down), Ok(Timestamp(micros)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}|[0-9T:Z.+-]{0,40}") {
            let _ = read(&text, Rounding::Up);
        }
    }
}
