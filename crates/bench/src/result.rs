//! What a scenario measured, as one JSON line. Turning many lines into tables and plots is the report's affair.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Write, stdout},
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock;

/// How many faults a record quotes; all are counted.
const FAULTS_QUOTED: usize = 5;

/// The longest latency told apart, in nanoseconds.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// Latencies of one operation, to three digits.
pub type Latencies = Histogram<u64>;

/// An empty collection of latencies.
///
/// # Errors
/// Never with the fixed bounds used here.
pub fn latencies() -> Result<Latencies> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)?)
}

/// Adds one latency.
pub fn record(latencies: &mut Latencies, took: std::time::Duration) {
    latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// One measured case of one scenario on one server in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The server's label.
    pub server: String,
    /// What the server promises about stored messages, in words.
    pub durability: String,
    /// The scenario.
    pub scenario: String,
    /// The case within the scenario.
    pub case: String,
    /// Which repetition of the whole run.
    pub round: u32,
    /// When, in seconds since 1970.
    pub at_unix_s: u64,
    /// What was asked for.
    pub params: BTreeMap<String, u64>,
    /// What was measured; units are in the names.
    pub metrics: BTreeMap<String, f64>,
    /// Whether everything that was checked was right.
    pub verified: bool,
    /// How many things were wrong.
    pub faults_total: u64,
    /// The first of them.
    pub faults: Vec<String>,
}

impl Record {
    /// Notes a parameter.
    pub fn param(mut self, name: &str, value: u64) -> Self {
        self.params.insert(name.to_owned(), value);
        self
    }

    /// Notes a measured value.
    pub fn metric(mut self, name: &str, value: f64) -> Self {
        self.metrics.insert(name.to_owned(), value);
        self
    }

    /// Notes the quantiles of some latencies.
    pub fn latencies(mut self, latencies: &Latencies) -> Self {
        let ms = |ns: u64| ns as f64 / 1e6;
        for (name, q) in [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
            self.metrics.insert(name.to_owned(), ms(latencies.value_at_quantile(q)));
        }
        self.metrics.insert("max_ms".to_owned(), ms(latencies.max()));
        self.metrics.insert("samples".to_owned(), latencies.len() as f64);
        self
    }

    /// Notes what was wrong.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.verified = faults.total == 0;
        self.faults_total = faults.total;
        self.faults = faults.quoted;
        self
    }
}

/// What went wrong in a case.
#[derive(Debug, Default)]
pub struct Faults {
    total: u64,
    quoted: Vec<String>,
}

impl Faults {
    /// Notes one fault.
    pub fn add(&mut self, fault: impl Into<String>) {
        self.total += 1;
        if self.quoted.len() < FAULTS_QUOTED {
            self.quoted.push(fault.into());
        }
    }

    /// True if nothing went wrong.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Takes over those of a part.
    pub fn merge(&mut self, part: Self) {
        self.total += part.total;
        self.quoted.extend(part.quoted);
        self.quoted.truncate(FAULTS_QUOTED);
    }
}

/// Where records go.
#[derive(Debug)]
pub struct Recorder {
    server: String,
    durability: String,
    round: u32,
    out: Mutex<Out>,
}

#[derive(Debug)]
struct Out {
    file: Option<File>,
    faulty: bool,
}

impl Recorder {
    /// Records of this server go to the end of `path`, or to standard output.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn new(server: String, durability: String, round: u32, path: Option<&Path>) -> Result<Self> {
        let file = path
            .map(|p| OpenOptions::new().create(true).append(true).open(p))
            .transpose()
            .context("opening the file for the results")?;
        Ok(Self { server, durability, round, out: Mutex::new(Out { file, faulty: false }) })
    }

    /// A record to be filled in.
    pub fn start(&self, scenario: &str, case: &str) -> Record {
        Record {
            server: self.server.clone(),
            durability: self.durability.clone(),
            scenario: scenario.to_owned(),
            case: case.to_owned(),
            round: self.round,
            at_unix_s: clock::unix_seconds(),
            params: BTreeMap::new(),
            metrics: BTreeMap::new(),
            verified: true,
            faults_total: 0,
            faults: Vec::new(),
        }
    }

    /// Writes a record, and its essence to standard error.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, record: &Record) -> Result<()> {
        let metrics: Vec<String> = record.metrics.iter().map(|(k, v)| format!("{k} {v:.3}")).collect();
        eprintln!(
            "{} {}/{}{}: {}",
            record.server,
            record.scenario,
            record.case,
            if record.verified { "" } else { " [FAULTS]" },
            metrics.join(", ")
        );
        for fault in &record.faults {
            eprintln!("    fault: {fault}");
        }
        let mut line = serde_json::to_string(record)?;
        line.push('\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.faulty |= !record.verified;
        match &mut out.file {
            Some(file) => file.write_all(line.as_bytes())?,
            None => stdout().lock().write_all(line.as_bytes())?,
        }
        Ok(())
    }

    /// True if a record with faults has been written.
    pub fn faulty(&self) -> bool {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).faulty
    }
}
