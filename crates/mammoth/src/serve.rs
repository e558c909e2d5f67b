//! `mammoth serve`: from settings to a running server, and to a clean stop. What a server does is the server crate's
//! subject.

use anyhow::bail;

use crate::Where;
use crate::logging;

/// The arguments of `mammoth serve`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  mammoth serve --config /etc/mammoth/mammoth.toml
  mammoth serve --demo
  mammoth serve --demo --data /tmp/mammoth-demo

Ctrl-C, or SIGTERM, stops it cleanly.")]
pub struct ServeArguments {
    /// Try it out: localhost, two accounts, two clients that talk and page their conversation back
    #[arg(long, conflicts_with = "config")]
    demo: bool,

    #[command(flatten)]
    at: Where,
}

/// Runs the server until it is told to stop.
pub fn run(arguments: &ServeArguments, level: Option<&str>) -> anyhow::Result<()> {
    if arguments.demo {
        bail!("the demonstration is not there yet");
    }
    let place = arguments.at.resolve()?;
    let Some(settings) = place.settings else { bail!("serve needs a configuration: name it with --config") };
    logging::start(&settings.log, level)?;
    bail!("the server is not there yet")
}
