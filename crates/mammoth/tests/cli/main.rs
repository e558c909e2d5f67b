//! The commands as an operator meets them: the real binary on a real data directory, with the server running and
//! stopped. One module for one family of commands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

#[path = "../support/mod.rs"]
mod support;

mod explain;
mod forget;
mod keep;
mod metrics;
mod show;
mod store;

use support::Server;

/// The binary, without what the environment may say to it.
fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mammoth"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MAMMOTH_")) {
        command.env_remove(name);
    }
    command
}

/// The binary, ready to be run in the server's place.
fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = binary();
    command.args(arguments).arg("--config").arg(server.config());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command, with `stdin` on its standard input, which is no terminal.
fn run(server: &Server, arguments: &[&str], stdin: &str) -> Output {
    let mut child = command(server, arguments).spawn().unwrap();
    // A command that does not read it may have ended.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a command that must fail says.
fn refused(server: &Server, arguments: &[&str], stdin: &str) -> String {
    let output = run(server, arguments, stdin);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// An archive as `archive show` gives it to programs.
fn shown(server: &Server, account: &str, filter: &[&str]) -> Vec<serde_json::Value> {
    let arguments = [&["archive", "show", account, "--format", "json"], filter].concat();
    let lines = server.mammoth(&arguments, "");
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The bodies of an archive, as far as there are.
fn bodies(server: &Server, account: &str, filter: &[&str]) -> Vec<String> {
    let lines = shown(server, account, filter);
    let stanzas = lines.iter().map(|line| support::Xml::parse(line["stanza"].as_str().unwrap()));
    stanzas.filter_map(|stanza| stanza.body()).collect()
}
