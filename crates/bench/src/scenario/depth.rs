//! The page and catch-up scenarios at several depths: fills an archive of each depth, then reads it. Shows how the
//! cost of a page grows with the archive.

use anyhow::Result;
use clap::Args;

use super::{Bench, catchup, fill, page, page::Reading};

/// The depths, and whether they are there already.
#[derive(Debug, Clone, Args)]
pub struct Depths {
    /// Messages in each archive.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    pub depths: Vec<u64>,
    /// The archives have been filled before.
    #[arg(long)]
    pub filled: bool,
}

/// Runs the scenario.
///
/// # Errors
/// The server cannot be used; wrong pages are faults in the results.
pub async fn run(bench: &Bench, depths: &Depths, reading: &Reading) -> Result<()> {
    for depth in &depths.depths {
        let plan = bench.plan(*depth, reading.contacts);
        if !depths.filled {
            fill::run(bench, &plan).await?;
        }
        page::run(bench, &plan, reading).await?;
        catchup::run(bench, &plan, reading).await?;
    }
    Ok(())
}
