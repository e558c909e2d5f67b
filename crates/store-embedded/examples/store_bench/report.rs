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

/// Processor time of each thread so far, in seconds: what a figure costs, however busy the machine is.
pub fn processor() -> String {
    let mut threads = std::collections::BTreeMap::<String, f64>::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { continue };
        let fields: Vec<f64> =
            stat[close + 2..].split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
        // Fields 14 and 15, user and system time, in hundredths of a second.
        *threads.entry(stat[open + 1..close].to_owned()).or_default() += (fields[11] + fields[12]) / 100.0;
    }
    let each: Vec<String> = threads.iter().map(|(name, time)| format!("{name} {time:.1}")).collect();
    format!("processor seconds: {}", each.join(", "))
}
