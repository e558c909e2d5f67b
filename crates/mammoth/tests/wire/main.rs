//! The server as its clients meet it: the real binary, over real connections. One module for one subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod crash;
mod delivery;
mod edges;
mod fidelity;
mod hostile;
mod login;
mod mam;
mod order;
mod roster;
mod rules;
mod several;
mod transfer;
