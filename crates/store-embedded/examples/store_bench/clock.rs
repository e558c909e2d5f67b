//! The only place of the benchmark that reads the clock.

use std::time::{Duration, Instant};

/// A moment to measure from.
#[derive(Clone, Copy)]
pub struct Start(Instant);

impl Start {
    /// Now.
    #[allow(clippy::disallowed_methods)]
    pub fn now() -> Start {
        Start(Instant::now())
    }

    /// How long ago that was.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
