//! The store as a library, in twenty lines: no server, no runtime. `cargo run -p mammoth-store-embedded --example embed`

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{ArchiveStore, Filter, NewEntry, PageRequest, PageStart, Query, StoreError, Timestamp};
use mammoth_store_embedded::{EmbeddedStore, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = EmbeddedStore::open(Path::new("embedded-archive"), Options::default())?;
    let owner = BareJid::new("alice@example.org")?;
    let head = block_on(store.head(&owner))?;
    let entry = NewEntry {
        with: Jid::new("bob@example.org/phone")?,
        stamp: Timestamp(head.last_stamp.0.max(1_700_000_000_000_000)),
        stanza: "<message xmlns='jabber:client'><body>Hello</body></message>".into(),
        message_id: Some("1".into()),
        foreign_id: None,
    };
    block_on(store.append(&owner, head.next, Arc::from(vec![entry])))?;
    let filter = Filter { with: Some(Jid::new("bob@example.org")?), ..Filter::default() };
    let page = PageRequest { max: 10, start: PageStart::Last };
    let page = block_on(store.page(&owner, Query { filter, page }))?;
    println!("{} entries with bob, the last of them {:?}", page.count, page.entries.last());
    Ok(())
}

/// Waits for a future on this thread: the store's own threads do the work.
fn block_on<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}
