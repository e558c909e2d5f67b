//! What a failed statement means for the caller: PostgreSQL's codes on one side, the contract's errors on the
//! other. Whether the call is made again is left to `store` and `writer`.

use mammoth_accounts::AccountError;
use mammoth_archive::StoreError;
use tokio_postgres::error::SqlState;

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Certainly not done; another attempt may do it: the server could not be reached, or rolled it back.
    #[error("{0}")]
    NotDone(#[source] Cause),
    /// The connection was lost, or the answer too late: done or not.
    #[error("{0}")]
    Unknown(#[source] Cause),
    /// Certainly not done, and no other attempt will do it.
    #[error("{0}")]
    Refused(#[source] Cause),
    /// What is stored contradicts itself.
    #[error("{0}")]
    Corrupt(#[source] Cause),
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The server's words are in the source of the library's error, whose own text is only "db error".
fn cause(error: tokio_postgres::Error) -> Cause {
    match error.as_db_error() {
        Some(told) => match told.detail() {
            Some(detail) => format!("{} ({detail})", told.message()).into(),
            None => told.message().to_owned().into(),
        },
        None => error.into(),
    }
}

impl Failure {
    /// A stored value that cannot be.
    pub fn corrupt(what: impl Into<Cause>) -> Failure {
        Failure::Corrupt(what.into())
    }

    /// Whether another attempt may succeed: for calls that may be repeated without knowing how the first went.
    pub fn may_pass(&self) -> bool {
        matches!(self, Failure::NotDone(_) | Failure::Unknown(_))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        let Some(told) = error.as_db_error() else {
            // Without a source, or with one of the network, the conversation broke off; with another, it is about
            // the call: a value that does not fit.
            let of_the_call =
                std::error::Error::source(&error).is_some_and(|source| !source.is::<std::io::Error>());
            return if of_the_call { Failure::Refused(cause(error)) } else { Failure::Unknown(cause(error)) };
        };
        let code = told.code().code();
        let class = code.get(..2).unwrap_or_default();
        match class {
            // Connection trouble, and a server that goes down or comes up. A commit may have been under way.
            "08" | "57" => Failure::Unknown(cause(error)),
            // Rolled back for another's sake; too many connections; a server that has become a standby.
            "40" | "53" | "25" if class != "53" || *told.code() == SqlState::TOO_MANY_CONNECTIONS => {
                if *told.code() == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN {
                    Failure::Unknown(cause(error))
                } else {
                    Failure::NotDone(cause(error))
                }
            }
            "55" if *told.code() == SqlState::LOCK_NOT_AVAILABLE => Failure::NotDone(cause(error)),
            // A cached plan that does not fit the table any more: a fresh session plans anew.
            "0A" => Failure::NotDone(cause(error)),
            "XX" if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(told.code()) => {
                Failure::Corrupt(cause(error))
            }
            // Wrong values, broken rules, missing rights, a full disk.
            _ => Failure::Refused(cause(error)),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        match failure {
            Failure::NotDone(cause) | Failure::Unknown(cause) => StoreError::Unavailable(cause),
            Failure::Refused(cause) => StoreError::Refused(cause),
            Failure::Corrupt(cause) => StoreError::Corrupt(cause),
        }
    }
}

impl From<Failure> for AccountError {
    fn from(failure: Failure) -> AccountError {
        match failure {
            Failure::NotDone(cause) | Failure::Unknown(cause) => AccountError::Unavailable(cause),
            Failure::Refused(cause) => AccountError::Refused(cause),
            Failure::Corrupt(cause) => AccountError::Corrupt(cause),
        }
    }
}
