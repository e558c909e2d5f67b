//! The store on a real PostgreSQL: the contracts, plainly, behind faults, through a network that fails, beside a
//! second store, across restarts and crashes of the server; and opening. One binary, so that one cluster serves all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod cluster;
mod contract;
mod opening;
mod outages;
mod proxy;
mod rows;
mod several;
mod successor;
