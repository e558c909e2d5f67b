//! What a message archive is (XEP-0313), and nothing else: no I/O, no XML, no clock, no runtime.
//! Storing it is left to the stores, which implement [`ArchiveStore`]; speaking it to `wire`; running it to
//! `server`.
//!
//! # The one idea
//!
//! An archive belongs to one bare JID (an account or a room) and has **one order**. Its entries carry
//! [`Position`]s: 64-bit, dense, given by one writer. MAM forbids holes (XEP-0313 §3.2: only the oldest
//! entries may go; what is removed from the middle keeps its id, stamp and JID as a tombstone), so the entries
//! present are always exactly `first .. next` of the archive's [`Head`]. Everything else is arithmetic:
//!
//! - a page after or before an id is a range of positions;
//! - the exact count is `next - first`, the exact index of an entry `position - first`;
//! - stamps never decrease, so `start` and `end` are binary searches over positions;
//! - each conversation (one archive, one bare `with`) numbers its entries in the same way, so pages and
//!   counts with a contact cost no more than without.
//!
//! # The tour, in reading order
//!
//! | module | what it says |
//! |---|---|
//! | [`entry`] | [`Position`], [`Timestamp`], [`Head`], what an [`Entry`] holds and what a tombstone keeps |
//! | [`id`] | [`StanzaId`]: an encrypted position. Unpredictable, and yet it locates itself |
//! | [`query`] | [`Query`] = [`Filter`] + [`PageRequest`]; the answer is one [`Page`] with exact count and index |
//! | [`prefs`] | whom the owner wants archived (XEP-0441): [`Prefs::decide`] answers with its [`prefs::Reason`] |
//! | [`retention`] | how long: [`ExpiresAfter`] and the cut-off it gives |
//! | [`store`] | the port: [`ArchiveStore`], its contract in prose, [`StoreError`] by what the caller can do |
//! | [`archive`] | [`Archive`]: a store plus ids plus limits; what everybody above calls |
//! | [`expiry`] | which archives have something to let go, and letting it go, many at a time |
//! | [`memory`] | [`MemoryStore`]: the contract in its plainest code, and the model every store is compared with |
//!
//! # Three ways to forget
//!
//! *Expire* moves an archive's first position forward (age, quota, or the owner's trim). *Retract* replaces
//! one entry's stanza by a tombstone. *Purge* removes all of an archive but its high-water mark, so that no
//! position and no id ever comes back. There is no fourth.

pub mod archive;
pub mod entry;
pub mod expiry;
pub mod id;
pub mod memory;
pub mod prefs;
pub mod query;
pub mod retention;
pub mod store;

pub use archive::{Appended, Archive, ArchiveError, Arrival, Limits, Metadata};
pub use entry::{Entry, Head, NewEntry, Position, StoredEntry, Timestamp};
pub use id::{IdKey, IdMint, StanzaId};
pub use memory::MemoryStore;
pub use prefs::{Decision, DefaultPolicy, Prefs};
pub use query::{Filter, Page, PageRequest, PageStart, Query};
pub use retention::{ExpiresAfter, Quota};
pub use store::{ArchiveInfo, ArchiveStore, Cut, Settings, SettingsChange, Stats, StoreError};

pub use jid;
