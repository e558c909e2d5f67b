//! From settings to open stores: the one file that knows every store there is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jid::BareJid;
use mammoth_accounts::AccountStore;
use mammoth_archive::{ArchiveStore, Head, IdKey, StoreError, Timestamp};
use mammoth_store_embedded::{BackupReport, EmbeddedStore, Options, Report};

use crate::admin;
use crate::config::{Settings, Storage};

/// How often a database is looked at for other sessions: those of a server that has just been stopped may still be
/// ending.
const LOOKS_MAX: u32 = 10;
/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// The open stores of one data directory.
#[derive(Clone)]
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

/// Fails when a server uses the stores that the settings name, as far as can be told from here.
pub async fn must_be_idle(settings: &Settings) -> anyhow::Result<()> {
    let data = settings.data.display();
    anyhow::ensure!(admin::connect(&settings.data)?.is_none(), "a server runs on {data}: stop it first");
    if let Storage::Postgresql(settings) = &settings.storage {
        let mut looks = 1;
        while others_on_postgresql(settings).await? > 0 {
            anyhow::ensure!(looks < LOOKS_MAX, "a server uses the database: stop it first");
            looks += 1;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}

/// A store that is to take the place of another.
#[derive(Clone)]
pub enum Successor {
    /// In a directory.
    Embedded(Arc<EmbeddedStore>),
    /// In a database.
    #[cfg(feature = "postgresql")]
    Postgresql(Arc<mammoth_store_postgres::PostgresStore>),
}

impl Successor {
    /// Opens the store that the settings name. If it has to be made, its ids are made with this secret.
    pub async fn open(settings: &Settings, ids: IdKey) -> anyhow::Result<Successor> {
        match &settings.storage {
            Storage::Embedded { memory_table_bytes } => {
                crate::place::create_directory(&settings.data)?;
                let options = Options { memtable_bytes: *memory_table_bytes, ..Options::default() };
                Ok(Successor::Embedded(EmbeddedStore::open_with_ids(&settings.data, options, ids)?))
            }
            #[cfg(feature = "postgresql")]
            Storage::Postgresql(settings) => {
                use mammoth_store_postgres::{Config, PostgresStore};
                let config = Config { ids: Some(ids), ..postgresql(settings)? };
                let store = PostgresStore::open(config).await.context("storage.postgresql")?;
                Ok(Successor::Postgresql(store))
            }
            #[cfg(not(feature = "postgresql"))]
            Storage::Postgresql(_) => anyhow::bail!(WITHOUT_POSTGRESQL),
        }
    }

    /// Its stores, behind the ports.
    pub fn stores(&self) -> Stores {
        match self {
            Successor::Embedded(store) => Stores { accounts: store.clone(), archives: store.clone() },
            #[cfg(feature = "postgresql")]
            Successor::Postgresql(store) => Stores { accounts: store.clone(), archives: store.clone() },
        }
    }

    /// Has an archive that has never been written to begin where one with this head does.
    pub async fn begin(&self, owner: &BareJid, head: Head) -> Result<(), StoreError> {
        // What the entries themselves will say is not said before them.
        let last_stamp = if head.count() == 0 { head.last_stamp } else { Timestamp(i64::MIN) };
        match self {
            Successor::Embedded(store) => store.begin(owner, head.first, last_stamp).await,
            #[cfg(feature = "postgresql")]
            Successor::Postgresql(store) => store.begin(owner, head.first, last_stamp).await,
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
    let opened = mammoth_store_postgres::PostgresStore::open(postgresql(settings)?).await;
    let store = opened.context("storage.postgresql")?;
    Ok(Stores { accounts: store.clone(), archives: store })
}

#[cfg(feature = "postgresql")]
async fn others_on_postgresql(settings: &crate::config::Postgresql) -> anyhow::Result<u64> {
    let others = mammoth_store_postgres::PostgresStore::others(&postgresql(settings)?).await;
    others.context("storage.postgresql")
}

#[cfg(feature = "postgresql")]
fn postgresql(settings: &crate::config::Postgresql) -> anyhow::Result<mammoth_store_postgres::Config> {
    use mammoth_store_postgres::{Config, Tls};
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
    Ok(Config {
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
    })
}

#[cfg(not(feature = "postgresql"))]
const WITHOUT_POSTGRESQL: &str =
    "storage.archive: this mammoth was built without PostgreSQL; build it with --features postgresql";

#[cfg(not(feature = "postgresql"))]
async fn open_postgresql(_: &crate::config::Postgresql) -> anyhow::Result<Stores> {
    anyhow::bail!(WITHOUT_POSTGRESQL)
}

#[cfg(not(feature = "postgresql"))]
async fn others_on_postgresql(_: &crate::config::Postgresql) -> anyhow::Result<u64> {
    anyhow::bail!(WITHOUT_POSTGRESQL)
}
