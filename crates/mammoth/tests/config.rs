//! The configuration as an operator meets it: the real binary, a file on disk, the environment. What each value becomes
//! is tested beside the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Output};

/// The binary, with nothing of ours in its environment.
fn mammoth(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mammoth"));
    command.current_dir(directory);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MAMMOTH_") {
            command.env_remove(name);
        }
    }
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_default_configuration_is_right_but_for_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let default = mammoth(directory.path()).args(["config", "default"]).output().unwrap();
    assert!(default.status.success());
    std::fs::write(directory.path().join("mammoth.toml"), &default.stdout).unwrap();

    let check = mammoth(directory.path()).args(["config", "check"]).output().unwrap();
    assert_eq!(check.status.code(), Some(1));
    assert!(
        stderr(&check).contains("tls.certificate: cannot read /etc/mammoth/certificate.pem"),
        "{check:?}"
    );

    std::fs::write(directory.path().join("empty.pem"), "").unwrap();
    let check = mammoth(directory.path())
        .args(["config", "check"])
        .env("MAMMOTH_TLS__CERTIFICATE", "empty.pem")
        .env("MAMMOTH_TLS__KEY", "empty.pem")
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    assert_eq!(stdout(&check), "the configuration is right; it serves example.org\n");
}

#[test]
fn a_wrong_file_stops_check_and_serve_alike_and_tells_everything_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let text = "domain = \"localhost\"\narchive_expires_after = \"1 fortnight\"\n\n[lissen]\nc2s = []\n";
    std::fs::write(directory.path().join("wrong.toml"), text).unwrap();
    for command in [["config", "check"].as_slice(), &["serve"], &["account", "list"]] {
        let output =
            mammoth(directory.path()).args(command).args(["--config", "wrong.toml"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(
            stderr(&output),
            "mammoth: wrong.toml:2: archive_expires_after: \"1 fortnight\" is not a period; allowed: \
             a number of seconds, a number with d, w, m or y (\"1d\", \"1w\", \"2m\", \"1y\"), or \"never\"\n\
             wrong.toml:4: unknown key lissen; did you mean listen?\n"
        );
    }
}

#[test]
fn the_file_is_looked_for_where_the_help_says() {
    let directory = tempfile::tempdir().unwrap();
    let check = || mammoth(directory.path()).args(["config", "check"]).output().unwrap();
    if !Path::new("/etc/mammoth/mammoth.toml").exists() {
        let none = check();
        assert_eq!(none.status.code(), Some(1));
        assert!(stderr(&none).contains("mammoth config default > mammoth.toml"), "{none:?}");
    }
    std::fs::write(directory.path().join("elsewhere.toml"), "domain = \"localhost\"\n").unwrap();
    let named = mammoth(directory.path())
        .args(["config", "check"])
        .env("MAMMOTH_CONFIG", "elsewhere.toml")
        .output()
        .unwrap();
    assert!(named.status.success(), "{named:?}");
    std::fs::write(directory.path().join("mammoth.toml"), "domain = \"localhost\"\n").unwrap();
    assert!(check().status.success());
    let missing =
        mammoth(directory.path()).args(["config", "check", "--config", "missing.toml"]).output().unwrap();
    assert_eq!(
        stderr(&missing),
        "mammoth: cannot read missing.toml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn an_address_that_is_not_loopback_is_refused_where_there_is_no_tls() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("mammoth.toml"),
        "domain = \"localhost\"\n[listen]\nc2s_plain = [\"0.0.0.0:0\"]\n",
    )
    .unwrap();
    let served = mammoth(directory.path()).arg("serve").output().unwrap();
    assert_eq!(served.status.code(), Some(1));
    assert!(
        stderr(&served)
            .starts_with("mammoth: mammoth.toml:3: listen.c2s_plain: \"0.0.0.0:0\" is not a loopback")
    );
}

#[test]
fn every_command_has_help_and_every_shell_completions() {
    let directory = tempfile::tempdir().unwrap();
    for command in [
        "serve",
        "account add",
        "account passwd",
        "account remove",
        "account list",
        "account set",
        "config check",
    ] {
        let help = mammoth(directory.path()).args(command.split(' ')).arg("--help").output().unwrap();
        assert!(help.status.success() && stdout(&help).contains("--config <FILE>"), "{command}: {help:?}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = mammoth(directory.path()).args(["completions", shell]).output().unwrap();
        assert!(script.status.success() && stdout(&script).contains("password-stdin"), "{shell}");
    }
    let misuse = mammoth(directory.path()).args(["account", "add"]).output().unwrap();
    assert_eq!(misuse.status.code(), Some(2), "a command used wrongly is told apart from one that failed");
}
