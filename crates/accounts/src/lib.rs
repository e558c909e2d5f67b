//! Accounts: who may log in, and whom they know. A tour, in reading order:
//!
//! - [`credentials`]: what is kept instead of a password.
//! - [`scram`]: how a password becomes that, and how a client proves that it knows it.
//! - [`roster`]: contacts, and the subscription states of RFC 6121 as pure functions.
//! - [`store`]: the port [`AccountStore`] behind which both are kept, with its contract.
//! - [`memory`]: that contract in plain code; [`contract`]: the same as a program that every store runs.
//!
//! No I/O, no XML, no clock and no runtime here. An account's archive is another crate's subject; the two meet only
//! in the server.

pub mod contract;
pub mod credentials;
pub mod memory;
pub mod roster;
pub mod scram;
pub mod store;

pub use credentials::{Credentials, ScramKeys};
pub use memory::MemoryAccounts;
pub use roster::{RosterItem, Subscription};
pub use store::{AccountError, AccountStore};
