//! The readers: a few threads that answer queries, each with its own room to decompress and its own connection to
//! the small database. How a query is answered is left to `read`.

use std::sync::{Arc, Mutex, PoisonError};

use mammoth_archive::StoreError;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::block::Scratch;
use crate::{EmbeddedStore, Shared, catalog};

/// How many queries can wait for a reader; a further one waits for room.
pub const QUEUE_MAX: usize = 4096;

/// A query for a reader.
pub type Job = Box<dyn FnOnce(&Shared, &mut Context) + Send>;

/// What one reading thread has of its own.
#[derive(Default)]
pub struct Context {
    /// Room to decompress.
    pub scratch: Scratch,
    catalog: Option<Connection>,
}

impl Context {
    /// A connection that reads the small database.
    pub fn catalog(&mut self, shared: &Shared) -> Result<&Connection, catalog::CatalogError> {
        let connection = match self.catalog.take() {
            Some(connection) => connection,
            None => catalog::open_read_only(&shared.dir)?,
        };
        Ok(self.catalog.insert(connection))
    }
}

/// Answers queries until nobody is left to ask.
pub fn run(shared: &Shared, queue: &Arc<Mutex<mpsc::Receiver<Job>>>) {
    let mut context = Context::default();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        job(shared, &mut context);
        if shared.is_closing() {
            return;
        }
    }
}

impl EmbeddedStore {
    /// Has a reader do something, and waits for the answer.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Shared, &mut Context) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |shared, context| drop(done.send(f(shared, context))));
        let closed = || StoreError::refused(crate::WriteError::Closed);
        self.readers.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}
