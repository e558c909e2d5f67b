//! Debian's Prosody with our archives, and real clients: they talk, page and catch up; it restarts, expires, forgets an
//! account, and is killed under load. The programs are in `e2e`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::process::Command;

mod support;
use support::{Missing, file, have, lua, native, passes, place, unless_missing};

const SLIXMPP: &str = "slixmpp==1.17.0";
const XMPP_JS: &str = "@xmpp/client@0.14.0";

fn program(python: &str, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(file("e2e").join(name)).arg(native()).arg(lua());
    command
}

fn slixmpp() -> Result<String, Missing> {
    let place = place("slixmpp");
    let python = place.join("bin/python3").to_string_lossy().into_owned();
    let there = "import slixmpp, sys; sys.exit(slixmpp.__version__ != sys.argv[1].split('==')[1])";
    if have(Command::new(&python).args(["-c", there, SLIXMPP])).is_err() {
        have(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
        have(Command::new(&python).args(["-m", "pip", "install", "--quiet", SLIXMPP]))?;
    }
    Ok(python)
}

#[test]
fn slixmpp_talks_and_reads() {
    unless_missing("slixmpp", || {
        support::prosody()?;
        passes(&mut program(&slixmpp()?, "slixmpp_client.py"));
        Ok(())
    });
}

#[test]
fn xmpp_js_talks_and_reads() {
    unless_missing("xmpp.js", || {
        support::prosody()?;
        have(Command::new("python3").arg("--version"))?;
        have(Command::new("node").arg("--version"))?;
        let place = place("xmpp-js");
        if !place.join("node_modules/@xmpp/client/package.json").exists() {
            have(
                Command::new("npm").args(["install", "--no-audit", "--no-fund", XMPP_JS]).current_dir(&place),
            )?;
        }
        let client = place.join("xmppjs_client.mjs");
        std::fs::copy(file("e2e/xmppjs_client.mjs"), &client).unwrap();
        passes(program("python3", "xmppjs_client.py").arg(client));
        Ok(())
    });
}

#[test]
fn offline_pep_pubsub_and_uploads_are_kept() {
    unless_missing("other stores of Prosody", || {
        support::prosody()?;
        have(Command::new("python3").arg("--version"))?;
        passes(&mut program("python3", "other_stores.py"));
        Ok(())
    });
}

#[test]
fn a_kill_loses_nothing_that_was_committed() {
    unless_missing("kill -9 of Prosody", || {
        support::prosody()?;
        have(Command::new("python3").arg("--version"))?;
        passes(program("python3", "kill.py").arg("window"));
        Ok(())
    });
}

#[test]
fn a_kill_loses_nothing_that_anybody_heard_of() {
    unless_missing("kill -9 of Prosody with durable appends", || {
        support::prosody()?;
        have(Command::new("python3").arg("--version"))?;
        passes(program("python3", "kill.py").arg("durable"));
        Ok(())
    });
}
