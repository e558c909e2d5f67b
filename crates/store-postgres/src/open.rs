//! Opening: is there a server, is it one we can use, and is the schema ours? Brings the schema up to date, under a
//! lock, one transaction for all that is missing. What the schema is, is left to migrations/.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::config::{Config, PARTITIONS_MAX, WrongConfig, with_source};
use crate::failure::Failure;
use crate::session::{Connector, Session, Use, column};
use crate::sql;

/// The oldest server this works with, as PostgreSQL numbers itself.
const SERVER_MIN: i32 = 150_000;
/// How long the server may take to let us in and say what it is.
const FIRST_ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a store cannot be opened; each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// What is configured cannot be.
    #[error(transparent)]
    Config(#[from] WrongConfig),
    /// Nobody answers.
    #[error("no PostgreSQL answers at {place}: {why}; is it running, and does it listen there?")]
    Unreachable {
        /// Where.
        place: String,
        /// Why not.
        why: String,
    },
    /// The server is there, and does not let us in.
    #[error("PostgreSQL at {place} refuses the login: {why}")]
    Login {
        /// Where.
        place: String,
        /// Its words.
        why: String,
    },
    /// There is no such database.
    #[error("PostgreSQL at {place}: {why}; make it with: createdb --encoding UTF8 --owner USER DATABASE")]
    NoDatabase {
        /// Where.
        place: String,
        /// Its words.
        why: String,
    },
    /// The server is too old.
    #[error("PostgreSQL at {place} is version {found}; Mammoth needs 15 or newer")]
    TooOld {
        /// Where.
        place: String,
        /// Its version.
        found: String,
    },
    /// The database does not speak UTF-8.
    #[error(
        "the database at {place} is encoded in {found}; make one with: createdb --encoding UTF8 --template template0"
    )]
    Encoding {
        /// Where.
        place: String,
        /// Its encoding.
        found: String,
    },
    /// A newer Mammoth has changed the schema.
    #[error(
        "the schema at {place} is number {found}, this Mammoth knows up to {known}; use the newer Mammoth"
    )]
    NewerSchema {
        /// Where.
        place: String,
        /// The number found.
        found: i32,
        /// The newest number known.
        known: i32,
    },
    /// The schema could not be made or brought up to date.
    #[error(
        "cannot bring the schema at {place} up to date: {why}; the user needs the right to create it: GRANT CREATE ON DATABASE … TO …"
    )]
    Schema {
        /// Where.
        place: String,
        /// Why not.
        why: String,
    },
}

/// Looks at the server and brings the schema up to date.
pub async fn prepare(connector: &Connector, config: &Config) -> Result<(), OpenError> {
    let place = connector.place.clone();
    let first = async {
        let session = connector.bare().await.map_err(|error| login_error(place.clone(), &error))?;
        look(&session, &place).await?;
        session.set_up(Use::Vacuums).await.map_err(|error| unreachable(&place, &error.into()))?;
        Ok::<_, OpenError>(session)
    };
    let session = match tokio::time::timeout(FIRST_ANSWER_TIME_MAX, first).await {
        Ok(result) => result?,
        Err(_) => return Err(no_answer(&place)),
    };
    // Whoever else migrates now may take its time; this waits for it.
    match migrate(&session, config.partitions.clamp(1, PARTITIONS_MAX)).await {
        Ok(Migrated::Done) => Ok(()),
        Ok(Migrated::Newer(found)) => Err(OpenError::NewerSchema { place, found, known: known() }),
        Err(failure) if failure.may_pass() => Err(unreachable(&place, &failure)),
        Err(failure) => Err(OpenError::Schema { place, why: failure.to_string() }),
    }
}

/// How many other sessions of the same name there are.
pub async fn others(connector: &Connector) -> Result<u64, OpenError> {
    let place = &connector.place;
    let asked = async {
        let session = connector.bare().await.map_err(|error| login_error(place.clone(), &error))?;
        let count = async {
            let row = session.row(sql::OTHERS, &[]).await?.ok_or_else(|| Failure::corrupt("no answer"))?;
            column::<i64>(&row, 0)
        };
        count.await.map_err(|failure| unreachable(place, &failure))
    };
    match tokio::time::timeout(FIRST_ANSWER_TIME_MAX, asked).await {
        Ok(count) => count.map(|count| u64::try_from(count).unwrap_or(0)),
        Err(_) => Err(no_answer(place)),
    }
}

fn no_answer(place: &str) -> OpenError {
    OpenError::Unreachable {
        place: place.to_owned(),
        why: format!("no answer for {FIRST_ANSWER_TIME_MAX:?}"),
    }
}

fn known() -> i32 {
    i32::try_from(sql::MIGRATIONS.len()).unwrap_or(i32::MAX)
}

fn unreachable(place: &str, failure: &Failure) -> OpenError {
    OpenError::Unreachable { place: place.to_owned(), why: failure.to_string() }
}

fn login_error(place: String, error: &tokio_postgres::Error) -> OpenError {
    let Some(told) = error.as_db_error() else {
        let why = with_source(error);
        // The library asks for a password before the server can refuse one.
        let login = why.contains("password") || why.contains("authentication");
        return if login { OpenError::Login { place, why } } else { OpenError::Unreachable { place, why } };
    };
    let why = told.message().to_owned();
    match told.code() {
        code if *code == SqlState::INVALID_CATALOG_NAME => OpenError::NoDatabase { place, why },
        code if code.code().starts_with("57") || code.code().starts_with("53") => {
            OpenError::Unreachable { place, why }
        }
        _ => OpenError::Login { place, why },
    }
}

async fn look(session: &Session, place: &str) -> Result<(), OpenError> {
    let asked = async {
        let row = session.row(sql::SERVER, &[]).await?.ok_or_else(|| Failure::corrupt("no answer"))?;
        let number: i32 = column(&row, 0)?;
        let (version, encoding, fsync): (String, String, String) =
            (column(&row, 1)?, column(&row, 2)?, column(&row, 3)?);
        Ok((number, version, encoding, fsync))
    };
    let (number, version, encoding, fsync) = asked.await.map_err(|failure| unreachable(place, &failure))?;
    check_server(place, number, &version, &encoding)?;
    if fsync != "on" {
        tracing::warn!(
            "PostgreSQL at {place} runs with fsync = {fsync}: messages it has confirmed can be lost"
        );
    }
    Ok(())
}

fn check_server(place: &str, number: i32, version: &str, encoding: &str) -> Result<(), OpenError> {
    if number < SERVER_MIN {
        return Err(OpenError::TooOld { place: place.to_owned(), found: version.to_owned() });
    }
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { place: place.to_owned(), found: encoding.to_owned() });
    }
    Ok(())
}

enum Migrated {
    Done,
    Newer(i32),
}

async fn schema_number(session: &Session) -> Result<i32, Failure> {
    let row = session.row(sql::HAS_SCHEMA, &[]).await?;
    if !row.map(|row| column(&row, 0)).transpose()?.unwrap_or(false) {
        return Ok(0);
    }
    let row = session.row(sql::SCHEMA_NUMBER, &[]).await?.ok_or_else(|| Failure::corrupt("no number"))?;
    column(&row, 0)
}

async fn migrate(session: &Session, partitions: u16) -> Result<Migrated, Failure> {
    // Without the lock first: a user who may not change the schema can use one that is up to date.
    match schema_number(session).await? {
        found if found == known() => return Ok(Migrated::Done),
        found if found > known() => return Ok(Migrated::Newer(found)),
        _ => {}
    }
    session.run(sql::BEGIN).await?;
    session.rows(sql::MIGRATION_LOCK, &[]).await?;
    session.run(sql::MIGRATION_TABLE).await?;
    let found = schema_number(session).await?;
    if found > known() {
        return Ok(Migrated::Newer(found));
    }
    for (number, text) in (1..).zip(sql::MIGRATIONS).filter(|(number, _)| *number > found) {
        session.run(&with_partitions(text, partitions)).await?;
        session.change(sql::MIGRATED, &[&number]).await?;
        tracing::info!(number, "the schema has been brought up to date");
    }
    session.run(sql::COMMIT).await?;
    Ok(Migrated::Done)
}

/// A migration's text, with as many partitions as wanted; with one, none.
fn with_partitions(text: &str, partitions: u16) -> String {
    if partitions <= 1 {
        return text.replace(sql::PARTITIONED.0, "");
    }
    let each: String = (0..partitions).map(|n| sql::partition(n, partitions)).collect();
    text.replace(sql::PARTITIONED.0, sql::PARTITIONED.1).replace(sql::PARTITIONS, &each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_will_not_do() {
        let told = |number, encoding| check_server("here", number, "14.11 (Debian)", encoding);
        assert!(told(150_000, "UTF8").is_ok());
        let old = told(140_011, "UTF8").unwrap_err().to_string();
        assert!(old.contains("14.11") && old.contains("15 or newer"), "{old}");
        assert!(matches!(told(170_000, "SQL_ASCII"), Err(OpenError::Encoding { .. })));
    }

    #[test]
    fn a_plain_table_has_no_partitions() {
        let text = sql::MIGRATIONS[0];
        let plain = with_partitions(text, 1);
        assert!(!plain.contains("PARTITION"), "{plain}");
        let four = with_partitions(text, 4);
        assert_eq!(four.matches("FOR VALUES WITH (MODULUS 4").count(), 4);
        assert_eq!(four.matches("PARTITION BY HASH").count(), 1);
    }
}
