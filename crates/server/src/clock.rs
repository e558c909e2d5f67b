//! The only file of this crate that reads a clock. Everything else takes the moment as an argument or asks
//! here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mammoth_archive::Timestamp;

/// The moment on the wall, in microseconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the file that may")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The moment `seconds` from now, for timers.
#[must_use]
pub fn after(seconds: u64) -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(seconds)
}

/// A stopwatch, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts one.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the file that may")]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Seconds since its start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
