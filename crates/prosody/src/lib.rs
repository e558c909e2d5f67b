//! Prosody's archives in our store: the native half of `lua/mod_storage_mammoth.lua`, loaded by Prosody as a Lua
//! module. Prosody's rules are left to that file, storing to `mammoth_store_embedded`.
//!
//! | module | what it is about |
//! |---|---|
//! | [`lua`] | the functions that Lua sees |
//! | [`hub`] | answers that come later: threads, and the bell that wakes Prosody's loop |
//! | [`db`] | one store directory: requests and what they are answered with |
//! | [`lane`] | one archive: ids and places, given at once |
//! | [`keeper`] | making what was given durable, all archives together |
//! | [`find`] | reading: Prosody's query as pages of the store |
//! | [`remove`] | deleting, replacing, truncating |
//! | [`marks`] | what the store cannot say: deleted from the middle, out of order |
//! | [`envelope`], [`names`] | Prosody's values and names as entries and JIDs |
//! | [`stanza`] | reading Prosody's spelling of stanzas fast |
//!
//! A message takes this way: `mod_mam` → `append` in Lua → [`db::Db::append`] → [`lane::Lane::append`], and the id is
//! there; then, on another thread, [`keeper`] → the store. A query: `find` in Lua → [`hub::Hub::submit`] → [`find`] →
//! the bell → Lua goes on where it waited.

pub mod block;
pub mod clock;
pub mod db;
pub mod envelope;
pub mod find;
pub mod hub;
pub mod keeper;
pub mod lane;
// The tests of the other modules need no Lua, and Lua gives its functions only to what it loads.
#[cfg(not(test))]
pub mod lua;
pub mod marks;
pub mod names;
pub mod remove;
pub mod stanza;

use mammoth_archive::StoreError;

/// Why a request failed, by what Prosody is to be told.
#[derive(Debug, thiserror::Error)]
pub enum Fail {
    /// No such entry: `item-not-found`.
    #[error("item-not-found")]
    NotFound,
    /// The archive is full: `quota-limit`, upon which Prosody makes room.
    #[error("quota-limit")]
    Quota,
    /// A user name that cannot be part of an address, being too long.
    #[error("invalid-username")]
    Name,
    /// A value, time or `with` that is none.
    #[error("unsupported-datatype")]
    Value,
    /// The store does not take what came before.
    #[error("not stored: {0}")]
    Storage(String),
    /// The store cannot be opened.
    #[error("{0}")]
    Open(String),
    /// The store says so.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// An error of ours.
    #[error("internal error: {0}")]
    Panic(String),
}
