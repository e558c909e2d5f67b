//! From settings to open stores: the one file that knows every store there is.

use std::path::Path;
use std::sync::Arc;

use mammoth_accounts::AccountStore;
use mammoth_archive::ArchiveStore;
use mammoth_store_embedded::{BackupReport, EmbeddedStore, Options, Report};

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
        Some(Storage::Postgresql(settings)) => open_postgresql(settings).await,
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

/// Checks the store in the data directory. `progress` is told how much of how much is done.
pub fn verify(
    data: &Path,
    settings: Option<&Settings>,
    progress: impl FnMut(u64, u64),
) -> anyhow::Result<Report> {
    only_embedded(settings, "check it with pg_amcheck")?;
    Ok(EmbeddedStore::verify(data, progress)?)
}

/// Copies the store in the data directory to another, readable by nobody else. `progress` is told how much of how much
/// is done.
pub fn backup(
    data: &Path,
    settings: Option<&Settings>,
    target: &Path,
    progress: impl FnMut(u64, u64),
) -> anyhow::Result<BackupReport> {
    only_embedded(settings, "back it up with pg_dump")?;
    if data.is_dir() {
        crate::place::create_directory(target)?;
    }
    Ok(EmbeddedStore::backup(data, target, progress)?)
}

fn only_embedded(settings: Option<&Settings>, otherwise: &str) -> anyhow::Result<()> {
    match settings.map(|settings| &settings.storage) {
        None | Some(Storage::Embedded { .. }) => Ok(()),
        Some(Storage::Postgresql(_)) => anyhow::bail!("the archives are in PostgreSQL: {otherwise}"),
    }
}

#[cfg(feature = "postgresql")]
async fn open_postgresql(settings: &crate::config::Postgresql) -> anyhow::Result<Stores> {
    use anyhow::Context as _;
    use mammoth_store_postgres::{Config, PostgresStore, Tls};
    let password = match (&settings.password, &settings.password_file) {
        (Some(password), _) => Some(password.0.clone()),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file).with_context(|| {
                format!("storage.postgresql.password_file: cannot read {}", file.display())
            })?;
            Some(text.lines().next().unwrap_or_default().to_string())
        }
        (None, None) => None,
    };
    let config = Config {
        url: settings.url.as_ref().map(|url| url.0.clone()),
        host: settings.host.clone(),
        port: settings.port,
        database: settings.database.clone(),
        user: settings.user.clone(),
        password,
        tls: match &settings.tls_authorities {
            Some(file) => Tls::Verified { authorities: file.clone() },
            None => Tls::Off,
        },
        readers: settings.readers,
        writers: settings.writers,
        partitions: settings.partitions,
        ..Config::default()
    };
    let store = PostgresStore::open(config).await.context("storage.postgresql")?;
    Ok(Stores { accounts: store.clone(), archives: store })
}

#[cfg(not(feature = "postgresql"))]
async fn open_postgresql(_: &crate::config::Postgresql) -> anyhow::Result<Stores> {
    anyhow::bail!(
        "storage.archive: this mammoth was built without PostgreSQL; build it with --features postgresql"
    )
}
