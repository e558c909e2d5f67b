//! How long a server needs from its start to the first login and the first page of a filled archive. It is started
//! here, with the command line given, and killed afterwards.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::Bench;
use crate::{
    clock,
    expect::Expected,
    mam::{self, From, Request},
    result::Faults,
    text::Plan,
};

/// The pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(1);

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// What to start.
#[derive(Debug, Clone, Args)]
pub struct Cold {
    /// The server's command line; it must stay in the foreground.
    #[arg(required = true, last = true)]
    pub command: Vec<String>,
}

/// A running server; it is killed with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Runs the scenario on the archive of `plan`.
///
/// # Errors
/// The server does not start.
pub async fn run(bench: &Bench, plan: &Plan, cold: &Cold) -> Result<()> {
    let (program, arguments) = cold.command.split_first().context("a command is needed")?;
    let begun = clock::now();
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut server = Server(child);
    let mut conn = loop {
        if let Ok(conn) = bench.target.login(&plan.owner).await {
            break conn;
        }
        if let Some(status) = server.0.try_wait()? {
            bail!("the server ended: {status}");
        }
        if clock::now() - begun > START_TIMEOUT {
            bail!("the server did not let us in within {} s", START_TIMEOUT.as_secs());
        }
        tokio::time::sleep(RETRY).await;
    };
    let login = clock::now() - begun;
    let request = Request { with: None, start: None, from: From::Last, max: 50 };
    let page = mam::page(&mut conn, &request).await?;
    let both = clock::now() - begun;
    let messages = plan.messages(None);
    let mut faults = Faults::default();
    Expected { tag: &plan.owner, messages: &messages, whole: true }.check_last(&page, 50, &mut faults);
    let record = bench
        .recorder
        .start("cold", "start to first login")
        .param("depth", plan.depth)
        .metric("login_ms", login.as_secs_f64() * 1e3)
        .metric("first_page_ms", both.as_secs_f64() * 1e3)
        .faults(faults);
    bench.recorder.write(&record)
}
