//! `cargo xtask …`: the house's own checks and generated pages. `tidy` (in tidy.rs) holds what ARCHITECTURE.md promises;
//! `config-docs` makes docs/config.md anew from the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};

mod tidy;

const HELP: &str = "\
cargo xtask tidy          check crate edges, named files, file headers and promised absences
cargo xtask config-docs   write docs/config.md anew";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let done = root().and_then(|root| match command.as_str() {
        "tidy" => run_tidy(&root),
        "config-docs" => config_docs(&root),
        _ => bail!("say what to do:\n{HELP}"),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's directory: the one above this crate's.
fn root() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    Ok(root.to_path_buf())
}

fn run_tidy(root: &Path) -> anyhow::Result<()> {
    let complaints = tidy::check(root)?;
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    match complaints.len() {
        0 => {
            println!("tidy");
            Ok(())
        }
        1 => bail!("one thing is not tidy"),
        many => bail!("{many} things are not tidy"),
    }
}

fn config_docs(root: &Path) -> anyhow::Result<()> {
    let output = cargo(root)
        .args(["run", "--quiet", "--package", "mammoth", "--", "config", "docs"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "`mammoth config docs` failed");
    let file = root.join("docs/config.md");
    std::fs::write(&file, output.stdout).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote docs/config.md");
    Ok(())
}

/// Cargo as it started us, in the workspace.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}
