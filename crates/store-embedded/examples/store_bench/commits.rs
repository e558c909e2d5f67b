//! One message at a time on a quiet store: both its halves in one group commit, and the next when that is durable.
//! What a delivery cannot be faster than.

use mammoth_archive::jid::Jid;
use mammoth_archive::{ArchiveStore, Position};
use mammoth_store_embedded::{EmbeddedStore, Options};

use crate::clock::Start;
use crate::data::{Source, owner};
use crate::report::Times;

/// Messages that are not counted.
const WARM: u64 = 200;

pub async fn run(messages: u64) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    let (alice, bob) = (owner(1), owner(2));
    let (with_bob, with_alice) = (Jid::from(bob.clone()), Jid::from(alice.clone()));
    let mut source = Source::new(4, WARM + messages);
    let mut times = Times::default();
    for n in 0..WARM + messages {
        let sent = vec![source.entry(alice.as_str(), &with_bob, n)];
        let received = vec![source.entry(bob.as_str(), &with_alice, n)];
        let at = Position(n as i64);
        let start = Start::now();
        let (sent, received) =
            tokio::join!(store.append(&alice, at, sent.into()), store.append(&bob, at, received.into()));
        if n >= WARM {
            times.add(start.elapsed());
        }
        sent.and(received).unwrap();
    }
    println!("one message at a time, both halves: {}", times.line());
}
