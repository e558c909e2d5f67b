//! What the tests of the running binary share: a server of their own, clients that see every byte, and a ledger
//! that nothing leaks past. What is tested is left to the tests.
//!
//! A test starts a [`Server`] on free ports in a directory of its own, gives it accounts, and talks to it through a
//! [`Client`]. Nothing waits for a time: a client asks and reads until it is answered, and answers come in order.
//! `MAMMOTH_TEST_STORAGE` chooses the store, see [`server`].

#![allow(dead_code, unused_imports)]

pub mod archive;
pub mod client;
pub mod connection;
pub mod ledger;
pub mod server;
pub mod xml;

pub use archive::{Page, Saved, form, rsm};
pub use client::{Auth, Client};
pub use connection::{Connection, Incoming};
pub use server::{Options, Server};
pub use xml::Xml;

/// The domain that every test server serves.
pub const DOMAIN: &str = "localhost";
/// How long a server may take for anything, in seconds; generous, since it only matters when something is wrong.
pub const PATIENCE_SECONDS: u64 = 120;

/// A runtime for one test, on a thread with room for the tests' large futures.
pub fn run(test: impl Future<Output = ()> + Send) {
    const STACK_BYTES: usize = 32 * 1024 * 1024;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .expect("a runtime");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let running = thread.spawn_scoped(scope, || runtime.block_on(test)).expect("a thread");
        if let Err(panic) = running.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Waits for something that must come.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(std::time::Duration::from_secs(PATIENCE_SECONDS), wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
