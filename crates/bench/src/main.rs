//! `mammoth-bench`: puts the same load on any XMPP archive server and says what it measured. This file is the command
//! line; the scenarios are in `scenario/`, the tables and plots in `report` and `plot`.

mod clock;
mod conn;
mod expect;
mod login;
mod mam;
mod plot;
mod progress;
mod report;
mod result;
mod sasl;
mod scan;
mod scenario;
mod text;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    login::{Target, Tls},
    result::Recorder,
    scenario::{
        Bench, account, catchup,
        cold::{self, Cold},
        depth::{self, Depths},
        fill,
        idle::{self, Idle},
        ingest::{self, Load},
        limits::{self, Limits},
        mixed::{self, Mix},
        null,
        page::{self, Reading},
    },
    text::Plan,
};

/// Puts the same load on any XMPP archive server and says what it measured, as JSON lines.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// The server's address.
    #[arg(long, global = true, default_value = "127.0.0.1:5222")]
    server: String,
    /// Its XMPP domain.
    #[arg(long, global = true, default_value = "localhost")]
    domain: String,
    /// How connections are protected.
    #[arg(long, global = true, value_enum, default_value = "plain")]
    tls: Tls,
    /// What all account names begin with.
    #[arg(long, global = true, default_value = "")]
    accounts_prefix: String,
    /// The password of every account; the accounts are throw-away ones.
    #[arg(long, global = true, default_value = "pencil")]
    password: String,
    /// The server's name in the results.
    #[arg(long, global = true, default_value = "server")]
    label: String,
    /// What the server promises about stored messages, in words, for the results.
    #[arg(long, global = true, default_value = "not stated")]
    durability: String,
    /// Which repetition of the whole run this is.
    #[arg(long, global = true, default_value_t = 1)]
    round: u32,
    /// Append results to this file instead of printing them.
    #[arg(long, global = true)]
    out: Option<PathBuf>,
    /// Leave acknowledgements to the kernel instead of sending them at once.
    #[arg(long, global = true)]
    delayed_ack: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pairs talk as fast as they can; every message is then looked up in both archives.
    Ingest(Load),
    /// Fill one archive.
    Fill {
        #[command(flatten)]
        archive: Archive,
    },
    /// Read a filled archive in all the ways clients do.
    Page {
        #[command(flatten)]
        archive: Depth,
        #[command(flatten)]
        reading: Reading,
    },
    /// Log in and fetch the newest page of a filled archive.
    Catchup {
        #[command(flatten)]
        archive: Depth,
        #[command(flatten)]
        reading: Reading,
    },
    /// Delivery latency while others walk through a filled archive.
    Mixed {
        #[command(flatten)]
        archive: Depth,
        #[command(flatten)]
        reading: Reading,
        #[command(flatten)]
        mix: Mix,
    },
    /// Fill, page and catchup at several depths.
    Depth {
        #[command(flatten)]
        depths: Depths,
        #[command(flatten)]
        reading: Reading,
    },
    /// Start a server and log in to it as soon as it lets us.
    Cold {
        #[command(flatten)]
        archive: Archive,
        #[command(flatten)]
        cold: Cold,
    },
    /// Memory of idle sessions.
    Idle(Idle),
    /// The load of ingest on a relay without XML and archive.
    Null(Load),
    /// Be the relay of the null scenario.
    #[command(hide = true)]
    NullRelay,
    /// Durable appends and memory copies of this machine.
    Limits(Limits),
    /// Print the accounts that scenarios of these sizes use, one per line.
    Accounts {
        /// Pairs of ingest, talkers of mixed.
        #[arg(long, default_value_t = 0)]
        pairs: u64,
        /// Contacts of the filled archives.
        #[arg(long, default_value_t = 0)]
        contacts: u64,
        /// Depths of the filled archives.
        #[arg(long, value_delimiter = ',')]
        depths: Vec<u64>,
        /// Accounts of idle.
        #[arg(long, default_value_t = 0)]
        idle: u64,
    },
    /// Print the messages of a filled archive: number, contact, body; for filling a peer's tables directly.
    Script {
        #[command(flatten)]
        archive: Archive,
    },
    /// Turn result files into Markdown tables and a plot.
    Report(report::Report),
}

#[derive(Debug, Args)]
struct Depth {
    /// Messages in the archive.
    #[arg(long, default_value_t = 1000)]
    depth: u64,
}

#[derive(Debug, Args)]
struct Archive {
    #[command(flatten)]
    depth: Depth,
    /// Contacts among whom they are spread.
    #[arg(long, default_value_t = 20)]
    contacts: u64,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("some results have faults");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command; false if something measured was wrong.
fn run(cli: Cli) -> Result<bool> {
    let Common { server, domain, tls, accounts_prefix: prefix, password, label, durability, .. } = cli.common;
    match cli.command {
        Command::Report(report) => return report.write().map(|()| true),
        Command::Script { archive } => {
            let depth = archive.depth.depth;
            let plan = Plan { owner: account(&prefix, "o", depth), depth, contacts: archive.contacts };
            return text::script(&plan, &prefix).map(|()| true);
        }
        Command::Accounts { pairs, contacts, depths, idle } => {
            let mut names: Vec<String> = (0..pairs.max(idle)).map(|n| account(&prefix, "a", n)).collect();
            names.extend((0..pairs).map(|n| account(&prefix, "b", n)));
            names.extend((0..contacts).map(|n| account(&prefix, "c", n)));
            names.extend(depths.iter().map(|n| account(&prefix, "o", *n)));
            println!("{}", names.join("\n"));
            return Ok(true);
        }
        _ => {}
    }
    // One thread: the generator must leave the other processor to the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = Target::new(resolve(&server)?, domain, tls, password, !cli.common.delayed_ack);
    let recorder = Recorder::new(label, durability, cli.common.round, cli.common.out.as_deref())?;
    let bench = Bench { target: Arc::new(target), recorder, prefix };
    runtime.block_on(async {
        match &cli.command {
            Command::Ingest(load) => ingest::run(&bench, load).await,
            Command::Fill { archive } => {
                fill::run(&bench, &bench.plan(archive.depth.depth, archive.contacts)).await
            }
            Command::Page { archive, reading } => {
                page::run(&bench, &bench.plan(archive.depth, reading.contacts), reading).await
            }
            Command::Catchup { archive, reading } => {
                catchup::run(&bench, &bench.plan(archive.depth, reading.contacts), reading).await
            }
            Command::Mixed { archive, reading, mix } => {
                mixed::run(&bench, &bench.plan(archive.depth, reading.contacts), reading, mix).await
            }
            Command::Depth { depths, reading } => depth::run(&bench, depths, reading).await,
            Command::Cold { archive, cold } => {
                cold::run(&bench, &bench.plan(archive.depth.depth, archive.contacts), cold).await
            }
            Command::Idle(sessions) => idle::run(&bench, sessions).await,
            Command::Null(load) => null::run(&bench, load).await,
            Command::NullRelay => null::relay().await,
            Command::Limits(limits) => limits::run(&bench, limits),
            Command::Accounts { .. } | Command::Script { .. } | Command::Report(_) => Ok(()),
        }
    })?;
    Ok(!bench.recorder.faulty())
}

fn resolve(server: &str) -> Result<SocketAddr> {
    server
        .to_socket_addrs()
        .with_context(|| format!("{server} is not an address"))?
        .next()
        .with_context(|| format!("{server} has no address"))
}
