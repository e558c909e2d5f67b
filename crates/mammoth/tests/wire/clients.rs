//! Real clients: slixmpp, xmpp.js and tokio-xmpp log in over TLS with SCRAM, talk, go away, come back, catch up by the
//! last id they saw, and read the archive backwards. The programs themselves are in `tests/clients`.
//!
//! What they need is installed under `target/`. Where that cannot be done, the client is reported as skipped, by name;
//! with `CI=true` that is a failure.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::server::PASSWORD;
use crate::support::{DOMAIN, Options, Server, run};

const SLIXMPP: &str = "slixmpp==1.17.0";
const PAGE: usize = 7;

/// Why a client cannot be run here.
struct Missing(String);

fn sources(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").join(client)
}

fn place(client: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(client);
    std::fs::create_dir_all(&place).expect("a directory");
    place
}

/// Runs a command that installs something.
fn install(command: &mut Command) -> Result<(), Missing> {
    let name = format!("{command:?}");
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or_default();
            Err(Missing(format!("{name}: {last}")))
        }
        Err(error) => Err(Missing(format!("{name}: {error}"))),
    }
}

fn slixmpp(given: &Path) -> Result<Command, Missing> {
    let place = place("slixmpp");
    let python = place.join("bin/python3");
    let there = || {
        let version = "import slixmpp, sys; sys.exit(slixmpp.__version__ != sys.argv[1])";
        let wanted = SLIXMPP.split("==").nth(1).expect("a version");
        Command::new(&python).args(["-c", version, wanted]).output().is_ok_and(|o| o.status.success())
    };
    if !there() {
        install(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
        install(Command::new(&python).args(["-m", "pip", "install", "--quiet", SLIXMPP]))?;
    }
    let mut command = Command::new(python);
    command.arg(sources("slixmpp").join("client.py")).arg(given);
    Ok(command)
}

fn xmpp_js(given: &Path) -> Result<Command, Missing> {
    let place = place("xmpp-js");
    install(Command::new("node").arg("--version"))?;
    for file in ["package.json", "client.js"] {
        std::fs::copy(sources("xmpp-js").join(file), place.join(file)).expect("a copy");
    }
    if !place.join("node_modules/@xmpp/client/package.json").exists() {
        install(Command::new("npm").args(["install", "--no-audit", "--no-fund"]).current_dir(&place))?;
    }
    let mut command = Command::new("node");
    command.arg(place.join("client.js")).arg(given);
    Ok(command)
}

fn tokio_xmpp(given: &Path) -> Result<Command, Missing> {
    let place = place("tokio-xmpp");
    let manifest = sources("tokio-xmpp").join("Cargo.toml");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    install(build.arg("--target-dir").arg(&place))?;
    let mut command = Command::new(place.join("debug/mammoth-client-tokio-xmpp"));
    command.arg(given);
    Ok(command)
}

/// Says that a client was not run, past the capture of output; in CI that is a failure.
fn skip(client: &str, Missing(why): Missing) {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{client} cannot be run, and in CI none may be skipped: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {client} ({why})");
}

/// What is said: short and long, with everything that a body can hold, in turns.
fn conversation() -> (Vec<Value>, Vec<Value>) {
    let words = [
        "hello",
        "<b>&amp; \"quotes\" 'n' > </b>",
        "\u{1f9a3}\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        "e\u{301} \u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{645}\u{631}\u{62d}\u{628}\u{627}",
        "two\nlines\tand a tab",
        "]]>",
    ];
    let long = "long \u{e9} ".repeat(4000);
    let body = |i: usize| match i % 7 {
        6 => format!("{i}: {long}"),
        kind => format!("{i}: {}", words[kind]),
    };
    let message = |i: usize, from: &str, to: &str| json!({ "from": from, "to": to, "body": body(i) });
    let talk = (0..30).map(|i| match i % 3 {
        0 => message(i, "bob", "alice"),
        _ => message(i, "alice", "bob"),
    });
    let away = (30..55).map(|i| message(i, "alice", "bob"));
    (talk.collect(), away.collect())
}

fn bodies<'m>(messages: impl IntoIterator<Item = &'m Value>) -> Vec<String> {
    messages.into_iter().map(|message| message["body"].as_str().expect("a body").to_owned()).collect()
}

/// Compares two lists of bodies, and says where they part without printing all of them.
fn same(got: &[String], wanted: &[String], what: &str) {
    let start =
        |list: &[String], at: usize| list.get(at).map(|body| body.chars().take(60).collect::<String>());
    let longest = got.len().max(wanted.len());
    if let Some(at) = (0..longest).find(|at| got.get(*at) != wanted.get(*at)) {
        let (got_at, wanted_at) = (start(got, at), start(wanted, at));
        let (got, wanted) = (got.len(), wanted.len());
        panic!("{what}: {got} instead of {wanted}; at {at} {got_at:?} instead of {wanted_at:?}");
    }
}

fn check(client: &'static str, prepare: impl FnOnce(&Path) -> Result<Command, Missing> + Send) {
    run(async move {
        // xmpp.js computes its SCRAM keys in JavaScript: on a busy machine that takes longer than a login may.
        let server = Server::with_accounts(Options::limits("login_seconds = 600"), &["alice", "bob"]);
        let (talk, away) = conversation();
        let given = json!({
            "host": "127.0.0.1", "port": server.c2s().port(), "domain": DOMAIN,
            "certificate": server.certificate(), "password": PASSWORD,
            "talk": talk, "away": away, "page": PAGE,
        });
        let file = server.data().with_file_name("given.json");
        std::fs::write(&file, given.to_string()).expect("a file");
        let mut command = match prepare(&file) {
            Ok(command) => command,
            Err(missing) => return skip(client, missing),
        };
        command.env("NODE_EXTRA_CA_CERTS", server.certificate()).env("SSL_CERT_FILE", server.certificate());
        let Output { status, stdout, stderr } = command.output().expect("the client");
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{client}: {status}\n{said}");
        let got: Value = serde_json::from_slice(&stdout).expect("what it saw");
        let list = |value: &Value| -> Vec<String> {
            let list = value.as_array().expect("a list").iter();
            list.map(|body| body.as_str().expect("text").to_owned()).collect()
        };
        let all = bodies(talk.iter().chain(&away));
        for name in ["alice", "bob"] {
            let to_them = bodies(talk.iter().filter(|message| message["to"] == name));
            same(&list(&got["live"][name]), &to_them, &format!("{client}: live for {name}"));
            same(&list(&got["backwards"][name]), &all, &format!("{client}: backwards for {name}"));
        }
        // Bob catches up from the last message that he heard; what he said after it himself is in the archive too.
        let heard = talk.iter().rposition(|message| message["to"] == "bob").expect("he heard something");
        let missed = bodies(talk[heard + 1..].iter().chain(&away));
        same(&list(&got["caught_up"]), &missed, &format!("{client}: caught up"));
        // And as the bytes have it.
        for name in ["alice", "bob"] {
            let mut reader = server.login(name, "reader").await;
            same(&reader.archived_bodies().await, &all, &format!("{client}: the archive of {name}"));
        }
        // Every login was with SCRAM: there is no other way in these clients' logs, and PLAIN would be seen.
        assert!(server.log().iter().all(|line| !line.contains("PLAIN")));
    });
}

#[test]
fn slixmpp_talks_goes_away_and_catches_up() {
    check("slixmpp", slixmpp);
}

#[test]
fn xmpp_js_talks_goes_away_and_catches_up() {
    check("xmpp.js", xmpp_js);
}

#[test]
fn tokio_xmpp_talks_goes_away_and_catches_up() {
    check("tokio-xmpp", tokio_xmpp);
}
