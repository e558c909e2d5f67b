//! How often and how long a call is tried again, and how long one attempt may take. What may be tried again is left
//! to the callers.

use std::future::Future;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::failure::Failure;

/// The pause before the second attempt; it doubles each time.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The attempts of one call.
pub struct Tries {
    since: Stopwatch,
    patience: Duration,
    pause: Duration,
}

impl Tries {
    /// Attempts for as long as `patience` lasts.
    pub fn new(patience: Duration) -> Tries {
        Tries { since: Stopwatch::start(), patience, pause: PAUSE_MIN }
    }

    /// Waits a little; whether there may be another attempt.
    pub async fn again(&mut self) -> bool {
        if self.since.elapsed() + self.pause > self.patience {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

/// One attempt, of which nobody knows the outcome when it takes too long.
pub async fn in_time<T>(
    most: Duration,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(most, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Unknown(format!("PostgreSQL has not answered for {most:?}").into())),
    }
}
