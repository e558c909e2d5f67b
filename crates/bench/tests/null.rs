//! The generator against its own null relay: a whole run from the command line to the result lines. Runs against
//! servers with archives are in benches/peers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::process::Command;

use serde_json::Value;

#[test]
fn a_run_on_the_null_relay_is_measured_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("results.jsonl");
    let bench = env!("CARGO_BIN_EXE_mammoth-bench");
    let run = Command::new(bench)
        .args(["null", "--pairs", "3", "--window", "4", "--messages", "3000", "--seconds", "60", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let lines = std::fs::read_to_string(&out).unwrap();
    let record: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(record["verified"], true);
    assert_eq!(record["metrics"]["messages"], 3000.0);
    assert_eq!(record["metrics"]["samples"], 3000.0);

    let report = Command::new(bench).arg("report").arg(&out).output().unwrap();
    let tables = String::from_utf8(report.stdout).unwrap();
    assert!(tables.contains("| 3 pairs, window 4 | messages/s |"), "{tables}");
}

#[test]
fn the_accounts_of_all_scenarios_are_listed() {
    let run = Command::new(env!("CARGO_BIN_EXE_mammoth-bench"))
        .args([
            "accounts",
            "--accounts-prefix",
            "x-",
            "--pairs",
            "1",
            "--contacts",
            "2",
            "--depths",
            "10",
            "--idle",
            "2",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "x-a0\nx-a1\nx-b0\nx-c0\nx-c1\nx-o10\n");
}
