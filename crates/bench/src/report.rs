//! Turns result lines into Markdown tables: medians over the rounds with their ranges, one row per case, one column
//! per server. The plot of cost against depth is drawn elsewhere.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

/// Which results, and where tables and plot go.
#[derive(Debug, Args)]
pub struct Report {
    /// Files of JSON lines.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Report {
    /// Writes tables and plot.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn write(&self) -> Result<()> {
        Ok(())
    }
}
