//! The sessions for everything but appends: as many as configured, each with one call at a time. A session goes back
//! only when its call has ended as it should, outside any transaction; one whose call failed, or was given up
//! half-way, is closed.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::failure::Failure;
use crate::session::{Connecting, Session, Use};

/// The sessions.
pub struct Pool {
    connector: Connecting,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
}

/// A session on loan. Dropping it closes it; [`Held::give_back`] keeps it.
pub struct Held<'a> {
    pool: &'a Pool,
    session: Session,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    /// At most `size` sessions, made when they are needed.
    pub fn new(connector: Connecting, size: usize) -> Pool {
        Pool { connector, permits: Semaphore::new(size.max(1)), idle: Mutex::default() }
    }

    /// A session, when one is free; a new one if none is idle.
    pub async fn get(&self) -> Result<Held<'_>, Failure> {
        let permit = self.permits.acquire().await.map_err(|error| Failure::NotDone(error.into()))?;
        while let Some(session) = self.pop() {
            if !session.is_closed() {
                return Ok(Held { pool: self, session, _permit: permit });
            }
        }
        let session = self.connector.session(Use::Reads).await?;
        Ok(Held { pool: self, session, _permit: permit })
    }

    fn pop(&self) -> Option<Session> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Closes what is idle: all of it is likely to be as dead as the session that has just failed.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Held<'_> {
    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Keeps the session for the next call.
    pub fn give_back(self) {
        let Held { pool, session, .. } = self;
        pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}
