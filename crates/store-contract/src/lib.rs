//! What it means to be an `ArchiveStore`, as a program: every store runs it as it is, and behind the decorators
//! of [`faults`] and [`between`]. What the sentences mean is said in `mammoth_archive::store`; how a store keeps
//! them is left to the stores.
//!
//! - [`check`]: the sentences one by one (`cases`).
//! - [`model`]: random operations, compared with `mammoth_archive::MemoryStore`; seeds printed, failures
//!   shrunk to the fewest operations that show them.
//! - [`faults`]: a store that fails, dawdles or leaves the outcome open at any call, and the caller that copes.
//! - [`between`]: a store that does something else between two calls, such as reopening or sealing.

// This crate is a test that several crates run: like any test it fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::missing_panics_doc)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mammoth_archive::ArchiveStore;

pub mod between;
pub mod cases;
pub mod faults;
mod given;
pub mod model;
mod seed;

/// A future that may go anywhere.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Something done to a store between two calls; answers with the store to go on with. It is given the only
/// handle, so it may close the store and open another on the same data.
pub type Step = Arc<dyn Fn(Arc<dyn ArchiveStore>) -> Boxed<Arc<dyn ArchiveStore>> + Send + Sync>;

/// How long one case may take before it is called stuck.
const CASE_TIME_MAX: Duration = Duration::from_secs(600);

/// Runs every case on the store that `open` gives. The store may be in use already, and may be checked again.
///
/// Needs a tokio runtime, best one with several threads.
///
/// # Panics
/// When a case fails; names each that does.
pub async fn check(open: impl AsyncFn() -> Arc<dyn ArchiveStore>) {
    let store = open().await;
    let mut failed = Vec::new();
    for case in cases::CASES {
        let run = tokio::spawn((case.run)(store.clone()));
        let stop = run.abort_handle();
        match tokio::time::timeout(CASE_TIME_MAX, run).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => failed.push(case.name.to_owned()),
            Err(_) => {
                stop.abort();
                failed.push(format!("{} (stuck for {CASE_TIME_MAX:?})", case.name));
            }
        }
        if failed.last().is_some_and(|last| last.starts_with(case.name)) {
            eprintln!("contract: the panic above, if any, is of {}", case.name);
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), cases::CASES.len());
}
