//! What the tests need from outside: Prosody and busted from Debian, clients from PyPI and npm, and the module itself.
//! What cannot be had is reported as skipped, by name; with `CI=true` that is a failure. What is installed goes under
//! `target/`, and nowhere else.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Why something cannot be run here.
#[derive(Debug)]
pub struct Missing(pub String);

/// The tests' files.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The Lua half.
pub fn lua() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lua/mod_storage_mammoth.lua")
}

/// The native half, built with the tests.
pub fn native() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    // `cargo test` renews the one in `deps`; the other is of the last `cargo build`, if there was one.
    for name in ["deps/libmammoth_prosody.so", "libmammoth_prosody.so"] {
        let there = profile.join(name);
        if there.exists() {
            return there;
        }
    }
    panic!("there is no libmammoth_prosody.so in {}", profile.display());
}

/// A directory that stays, under `target/`.
pub fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prosody").join(name);
    std::fs::create_dir_all(&place).unwrap();
    place
}

/// Runs a command that finds or installs something; answers what it printed.
pub fn have(command: &mut Command) -> Result<String, Missing> {
    let name = format!("{command:?}");
    match command.output() {
        Ok(Output { status, stdout, .. }) if status.success() => {
            Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
        }
        Ok(Output { stderr, .. }) => {
            let said = String::from_utf8_lossy(&stderr);
            Err(Missing(format!("{name}: {}", said.lines().last().unwrap_or_default())))
        }
        Err(error) => Err(Missing(format!("{name}: {error}"))),
    }
}

/// Prosody itself, under Lua 5.4.
pub fn prosody() -> Result<(), Missing> {
    let about = have(Command::new("prosodyctl").arg("about"))?;
    let version = about.lines().find(|line| line.starts_with("Lua version:")).unwrap_or_default();
    if version.contains("5.4") {
        Ok(())
    } else {
        Err(Missing(format!("Prosody runs under another Lua: {version}")))
    }
}

/// Runs a test, unless something is missing.
pub fn unless_missing(name: &str, test: impl FnOnce() -> Result<(), Missing>) {
    let Err(Missing(why)) = test() else { return };
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{name} cannot be run, and in CI none may be skipped: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name} ({why})");
}

/// Runs a test's program, which says what is wrong and fails.
pub fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    println!("{out}");
}
