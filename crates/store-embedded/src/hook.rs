//! The steps at which a test can look at the store's files or make a step fail: the only seam in the store that
//! exists for tests. What is done at a step is left to the test; without one a step costs nothing.

use std::sync::Arc;

/// A moment in the life of the store's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A group is about to be committed to the log.
    BeforeLogCommit,
    /// A group was committed to the log, and nobody was told yet.
    AfterLogCommit,
    /// A change of the small database is about to be committed.
    BeforeCatalogCommit,
    /// It was committed, and nobody was told yet.
    AfterCatalogCommit,
    /// A segment is whole in its file, but not synced.
    SegmentWritten,
    /// Its file and its folder are synced.
    SegmentSynced,
    /// It is registered; what it replaces is still there.
    SegmentRegistered,
    /// What it replaced is gone.
    Replaced,
}

/// What a failing step fails with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// As if the disk had not taken what was to be written: nothing was.
    Write(String),
    /// As if a sync had failed: nobody knows what was written.
    Sync(String),
}

/// Called at each step, on the thread that takes it.
pub type Hook = Arc<dyn Fn(Step) -> Result<(), Failure> + Send + Sync>;
