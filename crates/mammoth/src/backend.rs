//! From settings to open stores: the one file that knows every store there is.

use std::path::Path;
use std::sync::Arc;

use mammoth_accounts::AccountStore;
use mammoth_archive::ArchiveStore;
use mammoth_store_embedded::{EmbeddedStore, Options};

use crate::config::{Settings, Storage};

/// The open stores of one data directory.
pub struct Stores {
    /// Accounts and rosters.
    pub accounts: Arc<dyn AccountStore>,
    /// Archives.
    pub archives: Arc<dyn ArchiveStore>,
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read and write; it is made if there is none.
    Make,
    /// To read and write one that is there.
    Write,
    /// To read, also beside the process that writes.
    Read,
}

/// Opens the stores that the settings name; without settings, the embedded ones.
pub async fn open(data: &Path, settings: Option<&Settings>, access: Access) -> anyhow::Result<Stores> {
    match settings.map(|settings| &settings.storage) {
        None => open_embedded(data, access, Options::default()),
        Some(Storage::Embedded { memory_table_bytes }) => {
            let options = Options { memtable_bytes: *memory_table_bytes, ..Options::default() };
            open_embedded(data, access, options)
        }
        Some(Storage::Postgresql(_)) => {
            anyhow::bail!("storage.archive: \"postgresql\" is not built into this mammoth")
        }
    }
}

fn open_embedded(data: &Path, access: Access, options: Options) -> anyhow::Result<Stores> {
    if access == Access::Make {
        crate::place::create_directory(data)?;
    }
    let options = Options { create: access == Access::Make, read_only: access == Access::Read, ..options };
    let store = EmbeddedStore::open(data, options)?;
    Ok(Stores { accounts: store.clone(), archives: store })
}
