//! What an idle session costs the server in memory: its resident size before and after many logins, read from /proc.
//! The server must run on this machine under a known process id.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use super::Bench;
use crate::progress::Progress;

/// How long the server may settle before its size is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Sessions opened between two ticks of the progress display.
const BATCH: u64 = 100;

/// Whose memory, and how many sessions.
#[derive(Debug, Clone, Args)]
pub struct Idle {
    /// The server's process id; several are added up.
    #[arg(long, value_delimiter = ',', required = true)]
    pub pid: Vec<u32>,
    /// Sessions to open.
    #[arg(long, default_value_t = 1000)]
    pub sessions: u64,
    /// Sessions of each account.
    #[arg(long, default_value_t = 5)]
    pub per_account: u64,
}

/// Runs the scenario.
///
/// # Errors
/// The server cannot be used, or its size cannot be read.
pub async fn run(bench: &Bench, idle: &Idle) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let before = resident_bytes(&idle.pid)?;
    let progress = Progress::start("idle", idle.sessions);
    let mut conns = Vec::new();
    let names: Vec<String> =
        (0..idle.sessions).map(|n| bench.account("a", n / idle.per_account.max(1))).collect();
    for batch in names.chunks(usize::try_from(BATCH)?) {
        conns.extend(bench.log_in(batch.to_vec()).await?);
        progress.add(batch.len() as u64);
    }
    drop(progress);
    tokio::time::sleep(SETTLE).await;
    let after = resident_bytes(&idle.pid)?;
    let kb = |bytes: u64| bytes as f64 / 1024.0;
    let record = bench
        .recorder
        .start("idle", &format!("{} sessions", idle.sessions))
        .param("sessions", idle.sessions)
        .param("per_account", idle.per_account)
        .metric("before_mb", kb(before) / 1024.0)
        .metric("after_mb", kb(after) / 1024.0)
        .metric("per_session_kb", kb(after.saturating_sub(before)) / conns.len().max(1) as f64);
    bench.recorder.write(&record)
}

/// The resident sizes of these processes together.
fn resident_bytes(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("reading the size of process {pid}"))?;
        let kb = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kb| kb.parse::<u64>().ok())
            .with_context(|| format!("process {pid} tells no resident size"))?;
        sum += kb * 1024;
    }
    Ok(sum)
}
