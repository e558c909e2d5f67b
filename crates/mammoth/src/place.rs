//! Where a command works: its configuration and data directory, and whether a server is running there. What is done
//! there is the commands' business.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::Where;
use crate::admin::{self, Request, Response};
use crate::backend::{self, Access, Stores};
use crate::config::{Settings, Storage};

/// A data directory, and the configuration that goes with it.
pub struct Place {
    /// The directory.
    pub data: PathBuf,
    /// `None` when the directory was named and no configuration was: then nothing is known of domains and periods.
    pub settings: Option<Settings>,
}

impl Place {
    /// Does everything lie in the data directory?
    fn is_embedded(&self) -> bool {
        !matches!(&self.settings, Some(settings) if matches!(settings.storage, Storage::Postgresql(_)))
    }
}

impl Where {
    /// Reads the configuration. With `--data` alone, none is looked for.
    pub fn resolve(&self) -> anyhow::Result<Place> {
        match (&self.config, &self.data) {
            (None, Some(data)) => Ok(Place { data: data.clone(), settings: None }),
            (config, data) => {
                let mut settings = Settings::load(config.as_deref())?;
                if let Some(data) = data {
                    settings.data = data.clone();
                }
                Ok(Place { data: settings.data.clone(), settings: Some(settings) })
            }
        }
    }
}

/// The way to the accounts and archives of a place.
pub enum Door {
    /// Through the server that runs there.
    Running(UnixStream),
    /// Directly, with the directory locked: no server runs there.
    Direct(Stores, tokio::runtime::Runtime),
}

impl Door {
    /// Finds the way in. A directory that does not exist is made only if `create` says so.
    pub fn open(place: &Place, create: Create) -> anyhow::Result<Door> {
        let data = &place.data;
        if let Some(stream) = admin::connect(data).with_context(|| {
            format!("cannot reach the server through {}", data.join(admin::SOCKET).display())
        })? {
            return Ok(Door::Running(stream));
        }
        let access = match create {
            Create::No if place.is_embedded() && !data.is_dir() => {
                anyhow::bail!("there is no data directory {}", data.display())
            }
            Create::No => Access::Write,
            Create::Yes => Access::Make,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stores = runtime.block_on(backend::open(data, place.settings.as_ref(), access))?;
        Ok(Door::Direct(stores, runtime))
    }

    /// Asks one thing; a refusal is an error.
    pub fn ask(&mut self, request: Request) -> anyhow::Result<Response> {
        let response = match self {
            Door::Running(stream) => admin::ask(stream, &request)
                .context("the server did not answer; it may have done what was asked")?,
            Door::Direct(stores, runtime) => runtime.block_on(admin::perform::perform(
                request,
                stores.accounts.as_ref(),
                stores.archives.as_ref(),
            )),
        };
        match response {
            Response::Failed { text } => Err(anyhow::anyhow!(text)),
            answer => Ok(answer),
        }
    }
}

/// Whether a missing data directory is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// It is made: this command is how one begins.
    Yes,
    /// It is an error: nothing can be there.
    No,
}

/// Makes the data directory, readable by nobody else.
pub fn create_directory(data: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("cannot make the data directory {}", data.display()))
}
