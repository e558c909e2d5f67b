//! The `mammoth` command: arguments in, an exit code out. Each family of subcommands has a file of its own; this one
//! only says which there are.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod account;
mod admin;
mod archive;
mod backend;
mod config;
mod demo;
mod explain;
mod logging;
mod place;
mod serve;
mod tls;

/// Messages are made on one thread and let go on another, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Mammoth: the message archive for XMPP.
///
/// An XMPP server whose subject is its archive (XEP-0313, Message Archive Management): every message is durable
/// before it is seen, and every page costs the same, however long the history.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How much to log, instead of what the configuration says: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  mammoth serve --demo                     try it: two clients talk and page it back
  mammoth config default > mammoth.toml    a configuration to begin with
  mammoth config check                     is it right?
  mammoth account add alice@example.org    asks for the password
  mammoth serve --config mammoth.toml";

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::ServeArguments),
    /// Add, change, list and remove accounts, whether the server runs or not
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Read, trim and erase archives, and look after the store they lie in
    #[command(subcommand)]
    Archive(archive::ArchiveCommand),
    /// Say whether a message would be archived, by which rule, and until when
    Explain(explain::ExplainArguments),
    /// Check a configuration, or print one to begin with
    #[command(subcommand)]
    Config(config::command::ConfigCommand),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  mammoth completions bash > /etc/bash_completion.d/mammoth")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(arguments) => serve::run(&arguments, cli.log.as_deref()),
        Command::Account(command) => account::run(command),
        Command::Archive(command) => archive::run(command),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Config(command) => config::command::run(command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "mammoth", &mut io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mammoth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A reader that has seen enough (`mammoth … | head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Where a command finds the configuration and the data.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Where {
    /// The configuration file [default: $MAMMOTH_CONFIG, ./mammoth.toml, or /etc/mammoth/mammoth.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The data directory, instead of the one in the configuration
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_make_sense_to_clap() {
        Cli::command().debug_assert();
    }
}
