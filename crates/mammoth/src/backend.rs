//! From settings to open stores: the one file that knows every store there is.

use std::path::Path;
use std::sync::Arc;

use mammoth_accounts::AccountStore;
use mammoth_archive::ArchiveStore;

use crate::config::{Settings, Storage};

/// The open stores of one data directory.
pub struct Stores {
    /// Accounts and rosters.
    pub accounts: Arc<dyn AccountStore>,
    /// Archives.
    pub archives: Arc<dyn ArchiveStore>,
}

/// Opens the stores that the settings name; without settings, the embedded ones.
pub async fn open(data: &Path, settings: Option<&Settings>) -> anyhow::Result<Stores> {
    match settings.map_or(&Storage::Embedded, |settings| &settings.storage) {
        Storage::Embedded => {
            crate::place::create_directory(data)?;
            Ok(Stores {
                accounts: Arc::new(mammoth_accounts::MemoryAccounts::default()),
                archives: Arc::new(mammoth_archive::MemoryStore::new(mammoth_archive::IdKey([3; 16]))),
            })
        }
    }
}
