//! The driver against specifications, under busted: Prosody's own one of storage, unmodified, and ours for what it leaves
//! out. No server runs here; that is left to `server`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;

mod support;
use support::{Missing, file, have, lua, native, passes, place, unless_missing};

/// busted, ready to run a specification on a driver and data of its own.
fn busted(directory: &Path) -> Result<Command, Missing> {
    have(Command::new("lua5.4").arg("-v"))?;
    let runner = have(Command::new("sh").args(["-c", "command -v busted"]))?;
    support::prosody()?;
    let (driver, data, run) = (directory.join("driver"), directory.join("data"), directory.join("run"));
    for directory in [&driver, &data, &run] {
        std::fs::create_dir_all(directory).unwrap();
    }
    std::fs::copy(native(), driver.join("mammoth_prosody.so")).unwrap();
    std::fs::copy(lua(), driver.join("mod_storage_mammoth.lua")).unwrap();
    let mut command = Command::new("lua5.4");
    command.arg(runner).arg("--output=plainTerminal").arg("--helper").arg(file("kit/helper.lua"));
    command.current_dir(run).env("MAMMOTH_DRIVER", driver).env("MAMMOTH_DATA", data);
    Ok(command)
}

#[test]
fn prosodys_own_specification_of_storage() {
    unless_missing("Prosody's specification of storage", || {
        let source = place("source");
        have(Command::new(file("kit/fetch-spec.sh")).arg(&source))?;
        let specification = source.join("spec/core_storagemanager_spec.lua");
        // With the storage manager that the specification is of …
        let directory = tempfile::tempdir().unwrap();
        let manager = source.join("core/storagemanager.lua");
        passes(busted(directory.path())?.env("MAMMOTH_MANAGER", manager).arg(&specification));
        // … and with the installed one, which may be older and have no stores of the newest kind.
        let directory = tempfile::tempdir().unwrap();
        passes(busted(directory.path())?.arg("--filter-out=keyval%+ stores").arg(&specification));
        Ok(())
    });
}

#[test]
fn what_prosodys_specification_leaves_out() {
    unless_missing("the driver's specification", || {
        let directory = tempfile::tempdir().unwrap();
        passes(busted(directory.path())?.arg(file("spec/driver_spec.lua")));
        Ok(())
    });
}
