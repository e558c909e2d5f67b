//! Figures: percentiles of times, and what the process and its files take up.

use std::time::Duration;

/// Times, in microseconds.
#[derive(Default)]
pub struct Times(Vec<u64>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_micros() as u64);
    }

    /// The time that so many of a thousand do not exceed.
    pub fn permille(&mut self, n: usize) -> u64 {
        self.0.sort_unstable();
        let at = (self.0.len() * n / 1000).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or(0)
    }

    pub fn line(&mut self) -> String {
        format!(
            "p50 {:>8} p99 {:>8} p99.9 {:>8} max {:>8} µs ({} times)",
            self.permille(500),
            self.permille(990),
            self.permille(999),
            self.permille(1000),
            self.0.len()
        )
    }
}

/// A line of /proc/self/status, in MiB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

pub fn memory() -> String {
    format!("RSS {} MiB (anonymous {}), at most {} MiB", status("VmRSS"), status("RssAnon"), status("VmHWM"))
}
