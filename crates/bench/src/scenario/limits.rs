//! What the machine can do at all: durable appends per second in a directory, and memory copied per second. The null
//! relay, the third limit, is a scenario of its own.

use std::{
    fs::OpenOptions,
    hint::black_box,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;

use super::Bench;
use crate::{
    clock,
    result::{latencies, record},
};

/// Bytes of one durable append.
const APPEND_BYTES: usize = 4096;

/// Bytes of one copy; larger than the caches.
const COPY_BYTES: usize = 64 << 20;

/// How long and where.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// The directory whose disk is measured.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
}

/// Runs the scenario.
///
/// # Errors
/// The directory cannot be written.
pub fn run(bench: &Bench, limits: &Limits) -> Result<()> {
    let length = Duration::from_secs(limits.seconds);
    let path = limits.dir.join("mammoth-bench-limits.tmp");
    let synced = syncs(bench, &path, length);
    let _gone = std::fs::remove_file(&path);
    synced?;
    let from = vec![1_u8; COPY_BYTES];
    let mut to = vec![2_u8; COPY_BYTES];
    let begun = clock::now();
    let mut copied = 0_u64;
    while clock::now() - begun < length {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        copied += COPY_BYTES as u64;
    }
    let rate = copied as f64 / (clock::now() - begun).as_secs_f64() / 1e9;
    bench.recorder.write(&bench.recorder.start("limits", "memory copy").metric("gb_per_s", rate))
}

fn syncs(bench: &Bench, path: &Path, length: Duration) -> Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    let block = [0x5a_u8; APPEND_BYTES];
    let mut each = latencies()?;
    let begun = clock::now();
    while clock::now() - begun < length {
        let start = clock::now();
        file.write_all(&block)?;
        file.sync_data()?;
        record(&mut each, clock::now() - start);
    }
    let rate = each.len() as f64 / (clock::now() - begun).as_secs_f64();
    let case = format!("fdatasync of {APPEND_BYTES} byte appends");
    bench.recorder.write(&bench.recorder.start("limits", &case).metric("syncs_per_s", rate).latencies(&each))
}
