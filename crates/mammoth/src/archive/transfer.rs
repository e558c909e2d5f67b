//! `mammoth archive transfer`: everything in one store into another, with no server on either. What is copied, and in
//! which order, is left to transfer/copy.rs; that both hold the same in the end, to transfer/compare.rs.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Format, grouped, messages, progress};
use crate::Where;
use crate::backend::{self, Access, Successor};
use crate::config::{Settings, Storage};

mod compare;
mod copy;

/// The arguments of `mammoth archive transfer`.
#[derive(clap::Args)]
pub struct TransferArguments {
    /// The configuration that names the store into which everything goes
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    at: Where,
}

/// Does what the command says. Nothing is taken from the store that is copied.
pub fn run(arguments: &TransferArguments) -> anyhow::Result<()> {
    let place = arguments.at.resolve()?;
    let from = match place.settings {
        Some(settings) => settings,
        // Only a directory was named: what lies in it is read as the store of files that it is.
        None => anyhow::bail!("name the configuration of the store to be copied with --config"),
    };
    let to = Settings::load(Some(&arguments.to))?;
    let embedded = |settings: &Settings| matches!(settings.storage, Storage::Embedded { .. });
    let same = from.storage == to.storage || (embedded(&from) && embedded(&to));
    ensure!(
        !same || (embedded(&from) && from.data != to.data),
        "both configurations name the same store: nothing was copied"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(async {
        backend::must_be_idle(&from).await.context("the store to be copied")?;
        backend::must_be_idle(&to).await.context("the store to copy into")?;
        let old = backend::open(&from.data, Some(&from), Access::Write).await.context("the store to be copied")?;
        let ids = old.archives.id_key().await?;
        let new = Successor::open(&to, ids).await.context("the store to copy into")?;
        ensure!(
            new.stores().archives.id_key().await? == ids,
            "the store to copy into is another one already: its messages have ids of its own. Name an empty one"
        );
        anyhow::Ok((old, new))
    });
    let (old, new) = report?;
    let copied =
        progress::shown("copying messages", |far| runtime.block_on(copy::everything(&old, &new, far)));
    let copied = copied.context("what has been copied so far stays: the same command goes on from there")?;
    progress::shown("comparing archives", |far| runtime.block_on(compare::stores(&old, &new.stores(), far)))
        .context("the stores are not the same")?;
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Json => {
            let all = json!({
                "accounts": copied.accounts,
                "archives": copied.archives,
                "copied": copied.entries,
                "found": copied.found,
            });
            writeln!(out, "{all}")?;
        }
        Format::Text => {
            let (accounts, archives) = (grouped(copied.accounts), grouped(copied.archives));
            let (entries, found) = (messages(copied.entries), grouped(copied.found));
            writeln!(out, "copied {entries}; {found} were there before")?;
            writeln!(out, "both stores hold the same {archives} archives and {accounts} accounts")?;
        }
    }
    Ok(out.flush()?)
}
