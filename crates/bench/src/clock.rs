//! The generator's only reader of clocks: a monotonic one for latencies and the wall clock for labelling results.
//! What is done with the times belongs to the scenarios.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock, for latencies and deadlines.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, for labelling a result.
#[allow(clippy::disallowed_methods)]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
