//! The PostgreSQL store: archives, accounts and rosters in one database, for as many servers as share it. What an
//! archive is, and what its store promises, is left to `mammoth_archive`; why it is done this way is told in
//! docs/decisions/0004-postgresql.md.
//!
//! ```text
//! append → writer ── one statement per group ──→ archives (heads) · conversations · entries
//! page   → pool  ─── one snapshot ─────────────→ the head, places by halving, rows by their numbers
//! expire → pool  ─── `first` moves ────────────→ sweep deletes the rows behind it, step by step
//! ```
//!
//! In reading order: `migrations/0001.sql`, `sql`, `key`, `append`, `writer`, `page`, `forget`, `sweep`, `store`,
//! `accounts`; below them `config`, `tls`, `session`, `pool`, `retry`, `failure`, `open`.

mod accounts;
mod append;
mod clock;
mod config;
mod failure;
mod forget;
mod key;
mod open;
mod page;
mod pool;
mod retry;
mod session;
mod sql;
mod store;
mod sweep;
mod tls;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mammoth_archive::{IdKey, Stats};

use clock::Stopwatch;
pub use config::{Config, Tls, WrongConfig};
pub use open::OpenError;

/// Figures that took a while to ask for are good for this many times as long.
const STATS_SHARE: u32 = 50;

/// A store of archives and accounts in a PostgreSQL database.
///
/// It is a `mammoth_archive::ArchiveStore` and a `mammoth_accounts::AccountStore`; its futures need the tokio
/// runtime it was opened in. Several of them, in several processes, may share a database.
pub struct PostgresStore {
    pool: Arc<pool::Pool>,
    writers: writer::Writers,
    sweep: sweep::Sweep,
    ids: Option<IdKey>,
    patience: Duration,
    answer_time: Duration,
    place: String,
    /// The last figures, when they were asked for, and how long they are good.
    stats: Mutex<Option<(Stopwatch, Duration, Stats)>>,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresStore({})", self.place)
    }
}

impl PostgresStore {
    /// Connects, and makes the schema or brings it up to date if need be.
    ///
    /// # Errors
    /// When there is no server, it is too old, it refuses the login, or the schema is newer than this program; each
    /// says what to do.
    pub async fn open(config: Config) -> Result<Arc<PostgresStore>, OpenError> {
        let library = config.library()?;
        let place = config.place(&library);
        let connector = Arc::new(session::Connector {
            library,
            tls: tls::MakeTls::new(&config.tls)?,
            place: place.clone(),
        });
        open::prepare(&connector, &config).await?;
        let (patience, answer_time) = (config.patience, config.answer_time);
        let readers = config.readers.clamp(1, config::READERS_MAX);
        let writers = config.writers.clamp(1, config::WRITERS_MAX);
        let pool = Arc::new(pool::Pool::new(connector.clone(), readers));
        Ok(Arc::new(PostgresStore {
            sweep: sweep::Sweep::start(pool.clone(), connector.clone(), answer_time),
            writers: writer::Writers::start(&connector, writers, patience, answer_time),
            pool,
            ids: config.ids,
            patience,
            answer_time,
            place,
            stats: Mutex::default(),
        }))
    }

    /// How many sessions others of this user's programs, under the same name, have on the database: servers that
    /// run there.
    ///
    /// # Errors
    /// As [`PostgresStore::open`]; but the schema is not looked at.
    pub async fn others(config: &Config) -> Result<u64, OpenError> {
        let library = config.library()?;
        let place = config.place(&library);
        open::others(&session::Connector { library, tls: tls::MakeTls::new(&config.tls)?, place }).await
    }

    /// Waits until what was to be deleted or vacuumed in the background has been.
    pub async fn settled(&self) {
        self.sweep.settled().await;
    }

    fn recent_stats(&self) -> Option<Stats> {
        let kept = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, good, stats) = kept.as_ref()?;
        (asked.elapsed() < *good).then(|| stats.clone())
    }

    /// Keeps figures that were not cheap.
    fn keep_stats(&self, took: Duration, stats: &Stats) {
        let good = took * STATS_SHARE;
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Stopwatch::start(), good, stats.clone()));
    }
}

/// Attempts of a call on sessions of the pool, until one succeeds, or fails for good, or patience ends. With
/// `unless_unknown`, not after one of which nobody knows whether it was done.
macro_rules! attempts {
    ($store:expr, $session:ident => $attempt:expr) => {
        $crate::attempts!(@loop $store, $session, $attempt, |failure: &$crate::failure::Failure| failure.may_pass())
    };
    ($store:expr, $session:ident => $attempt:expr, unless_unknown) => {
        $crate::attempts!(@loop $store, $session, $attempt, |failure: &$crate::failure::Failure| {
            matches!(failure, $crate::failure::Failure::NotDone(_))
        })
    };
    (@loop $store:expr, $session:ident, $attempt:expr, $may_repeat:expr) => {{
        let mut tries = $crate::retry::Tries::new($store.patience);
        loop {
            let result: Result<_, $crate::failure::Failure> = match $store.pool.get().await {
                Ok(held) => {
                    let $session = held.session();
                    let result = $crate::retry::in_time($store.answer_time, $attempt).await;
                    match &result {
                        Ok(_) => held.give_back(),
                        Err(failure) if failure.may_pass() => $store.pool.clear(),
                        Err(_) => {}
                    }
                    result
                }
                Err(failure) => Err(failure),
            };
            match result {
                Err(failure) if $may_repeat(&failure) && tries.again().await => {}
                result => break result,
            }
        }
    }};
}
pub(crate) use attempts;
