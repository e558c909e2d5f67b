//! `mammoth config …`: whether a configuration is right, and one to begin with. The rules themselves are in
//! config.rs.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::{Settings, docs};

/// `mammoth config …`
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Say whether a configuration is right, the files it names included
    Check {
        /// The configuration file [default: $MAMMOTH_CONFIG, ./mammoth.toml, or /etc/mammoth/mammoth.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print a configuration with every key at its default, explained
    #[command(after_help = "Example:\n  mammoth config default > mammoth.toml")]
    Default,
    /// Print docs/config.md
    #[command(hide = true)]
    Docs,
}

/// Does what the command says.
pub fn run(command: ConfigCommand) -> anyhow::Result<()> {
    let text = match command {
        ConfigCommand::Check { config } => {
            let settings = Settings::load(config.as_deref())?;
            check_files(&settings)?;
            let domains: Vec<&str> = settings.domains.iter().map(|domain| domain.name.as_str()).collect();
            format!("the configuration is right; it serves {}\n", domains.join(", "))
        }
        ConfigCommand::Default => docs::default_file(),
        ConfigCommand::Docs => docs::markdown(),
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// The files that a server would read at start.
fn check_files(settings: &Settings) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for tls in settings.domains.iter().filter_map(|domain| domain.tls.as_ref()) {
        for (key, file) in [("certificate", &tls.certificate), ("key", &tls.key)] {
            if let Err(error) = std::fs::read(file) {
                missing.push(format!("tls.{key}: cannot read {}: {error}", file.display()));
            }
        }
    }
    if settings.data != Path::new("") && settings.data.exists() && !settings.data.is_dir() {
        missing.push(format!("data: {} is not a directory", settings.data.display()));
    }
    missing.dedup();
    if missing.is_empty() { Ok(()) } else { bail!(missing.join("\n")) }
}
