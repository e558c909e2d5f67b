//! The one place here that reads clocks. What the time is for is left to the callers.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, for a message that comes without its own.
#[allow(clippy::disallowed_methods)]
#[must_use]
pub fn now_seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Whole microseconds, so that the number is the same after it was stored.
    (since.as_micros() as f64) / 1e6
}

/// A moment to measure from.
#[allow(clippy::disallowed_methods)]
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}
