//! `mammoth archive backup`: a copy of the store while a server runs on it. How it is made is the store's business.

use std::io::{self, Write as _};
use std::path::PathBuf;

use serde_json::json;

use super::{Format, grouped, progress, sized};
use crate::Where;
use crate::backend;

/// The arguments of `mammoth archive backup`.
#[derive(clap::Args)]
pub struct BackupArguments {
    /// Where the copy goes: a directory that is empty, or not there yet
    #[arg(value_name = "DIR")]
    target: PathBuf,
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    at: Where,
}

/// Does what the command says.
pub fn run(arguments: &BackupArguments) -> anyhow::Result<()> {
    let place = arguments.at.resolve()?;
    let target = &arguments.target;
    let report = progress::shown("copying segments", |far| {
        backend::backup(&place.data, place.settings.as_ref(), target, |done, total| far.is(done, total))
    })?;
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Json => {
            let all = json!({ "linked": report.linked, "copied": report.copied, "bytes": report.bytes });
            writeln!(out, "{all}")?;
        }
        Format::Text => {
            let (linked, copied) = (grouped(report.linked), grouped(report.copied));
            let (target, bytes) = (target.display(), sized(report.bytes));
            writeln!(
                out,
                "backed up to {target}: {linked} segments shared, {copied} copied, {bytes} of its own"
            )?;
        }
    }
    Ok(out.flush()?)
}
