//! A store's files: opening them with a hook, reading them as of one moment, and laying a copy out elsewhere.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mammoth_archive::{ArchiveStore, StoreError};
use mammoth_store_embedded::{EmbeddedStore, Hook, Options};
use tempfile::TempDir;

use super::{Act, What, owner};

/// So small that a few dozen appends make a segment.
pub const MEMTABLE: usize = 32 << 10;

/// Opens a store.
pub fn open(dir: &Path, memtable_bytes: usize, hook: Option<Hook>) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, Options { memtable_bytes, readers: 1, hook, ..Options::default() }).unwrap()
}

/// Files by name below the store's folder, with what is in them.
pub type Files = HashMap<PathBuf, Vec<u8>>;

/// Every file below a folder.
pub fn files(dir: &Path) -> Files {
    let mut found = HashMap::new();
    for folder in ["", "log", "segments"] {
        let Ok(entries) = fs::read_dir(dir.join(folder)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            // A file may go while we look.
            if path.is_file()
                && let Ok(bytes) = fs::read(&path)
            {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// The files as of one moment: read again until two readings agree.
pub fn still(dir: &Path) -> Files {
    let mut before = files(dir);
    loop {
        let after = files(dir);
        if after == before {
            return after;
        }
        before = after;
    }
}

/// Where the many copies are kept: in memory if the machine has such a folder, for a sync there costs nothing.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub fn lay_out(image: &Files) -> TempDir {
    let dir = folder();
    for (name, bytes) in image {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

pub fn ends_with(name: &Path, suffix: &str) -> bool {
    name.to_str().unwrap().ends_with(suffix)
}

/// Appends so many entries.
pub async fn append(store: &EmbeddedStore, of: usize, entries: i64) -> Result<(), StoreError> {
    let owner = owner(0, of);
    let head = store.head(&owner).await?;
    Act { what: What::Append, number: head.next.0 + entries }.carry_out(store, &owner, head).await
}
