//! `mammoth archive verify`: the store checks itself, and this tells what it found. What is checked is the store's
//! business; repairing is left to a backup.

use std::io::{self, Write as _};

use anyhow::bail;
use serde_json::json;

use super::{Format, grouped, messages, progress};
use crate::Where;
use crate::backend;

/// The arguments of `mammoth archive verify`.
#[derive(clap::Args)]
pub struct VerifyArguments {
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    at: Where,
}

/// Does what the command says; an error when anything is wrong with the store.
pub fn run(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let place = arguments.at.resolve()?;
    let report = progress::shown("checking messages", |far| {
        backend::verify(&place.data, place.settings.as_ref(), |done, total| far.is(done, total))
    })?;
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Json => {
            let problems = report.problems.iter();
            let problems = problems.map(|problem| json!({ "file": problem.file, "what": problem.what }));
            let all = json!({
                "files": report.files,
                "archives": report.archives,
                "entries": report.entries,
                "problems": problems.collect::<Vec<_>>(),
            });
            writeln!(out, "{all}")?;
        }
        Format::Text => {
            for problem in &report.problems {
                writeln!(out, "{problem}")?;
            }
            let (files, archives) = (grouped(report.files), grouped(report.archives));
            let held = messages(report.entries);
            writeln!(out, "checked {files} files: {held} in {archives} archives")?;
        }
    }
    out.flush()?;
    match report.problems.len() {
        0 => Ok(()),
        1 => bail!("the store is damaged: keep a copy of the directory, and restore a backup"),
        n => bail!("the store is damaged in {n} places: keep a copy of the directory, and restore a backup"),
    }
}
