//! One session with the database: connecting, the session's settings, statements prepared once. How many there are
//! is left to `pool` and `writer`; what they are asked, to everybody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::failure::Failure;
use crate::sql;
use crate::tls::MakeTls;

/// How long connecting may take, from the first packet to a session that is set up.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How sessions are made.
pub struct Connector {
    pub library: tokio_postgres::Config,
    pub tls: MakeTls,
    /// Where that is, for errors.
    pub place: String,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Queries, and changes of one archive at a time.
    Reads,
    /// Appends in groups.
    Writes,
    /// Vacuuming.
    Vacuums,
}

/// A session. Given up by dropping it: what it was doing is rolled back by the server, or was done already.
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
    statements: Mutex<HashMap<&'static str, Statement>>,
}

/// A stalled connection would otherwise be kept by the task that waits for it.
impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A parameter of a statement.
pub type Param<'a> = &'a (dyn ToSql + Sync);

impl Connector {
    /// A session that is not set up yet: all that is known of the server is that it lets us in.
    pub async fn bare(&self) -> Result<Session, tokio_postgres::Error> {
        let (client, connection) = self.library.connect(self.tls.clone()).await?;
        // What the server says when it ends the connection is told by the call that is under way.
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL has ended");
            }
        });
        Ok(Session { client, connection, statements: Mutex::default() })
    }

    /// A session, set up.
    pub async fn session(&self, of: Use) -> Result<Session, Failure> {
        let connect = async {
            let session = self.bare().await?;
            session.set_up(of).await?;
            Ok::<_, tokio_postgres::Error>(session)
        };
        match tokio::time::timeout(CONNECT_TIME_MAX, connect).await {
            Ok(Ok(session)) => Ok(session),
            // Nothing has been asked yet, so nothing has been done. That it may pass is hoped even of a refused
            // login: the first session, at opening, was let in.
            Ok(Err(error)) => {
                let why = crate::config::with_source(&error);
                Err(Failure::NotDone(format!("cannot connect to PostgreSQL at {}: {why}", self.place).into()))
            }
            Err(_) => {
                let why = format!("PostgreSQL at {} has not answered for {CONNECT_TIME_MAX:?}", self.place);
                Err(Failure::NotDone(why.into()))
            }
        }
    }
}

impl Session {
    /// Sets what every session has, and what its use needs.
    pub async fn set_up(&self, of: Use) -> Result<(), tokio_postgres::Error> {
        let of = match of {
            Use::Reads => sql::SESSION_READS,
            Use::Writes => sql::SESSION_WRITES,
            Use::Vacuums => sql::SESSION_VACUUMS,
        };
        let (first, second) =
            tokio::join!(biased; self.client.batch_execute(sql::SESSION), self.client.batch_execute(of));
        first.and(second)
    }

    /// Whether the other end is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// A statement, prepared at its first use.
    pub async fn statement(&self, text: &'static str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(text).await?;
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(text, statement.clone());
        Ok(statement)
    }

    /// The rows that a statement answers.
    pub async fn rows(&self, text: &'static str, parameters: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let statement = self.statement(text).await?;
        Ok(self.client.query(&statement, parameters).await?)
    }

    /// The one row that a statement answers, if it does.
    pub async fn row(&self, text: &'static str, parameters: &[Param<'_>]) -> Result<Option<Row>, Failure> {
        let statement = self.statement(text).await?;
        Ok(self.client.query_opt(&statement, parameters).await?)
    }

    /// How many rows a statement has changed.
    pub async fn change(&self, text: &'static str, parameters: &[Param<'_>]) -> Result<u64, Failure> {
        let statement = self.statement(text).await?;
        Ok(self.client.execute(&statement, parameters).await?)
    }

    /// Statements without parameters or answers. Sent at the first poll, so that what is joined behind it travels
    /// along.
    pub async fn run(&self, text: &str) -> Result<(), Failure> {
        Ok(self.client.batch_execute(text).await?)
    }
}

/// A column of a row. One that is not what the schema says is damage.
pub fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, Failure> {
    row.try_get(index).map_err(|error| Failure::Corrupt(error.into()))
}

/// Shared by all that connect.
pub type Connecting = Arc<Connector>;
