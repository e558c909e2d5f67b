//! Waiting for the store's futures on a plain thread: the store does its work on threads of its own, so nothing
//! more than parking is needed. What is waited for is left to the callers.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for one future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A future that can be kept in a list.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Waits for all of them, which are under way at the same time; first polled in this order.
pub fn block_on_all<T>(futures: Vec<Boxed<'_, T>>) -> Vec<T> {
    let mut slots: Vec<Slot<'_, T>> = futures.into_iter().map(Slot::Waiting).collect();
    block_on(std::future::poll_fn(|context| {
        let mut pending = false;
        for slot in &mut slots {
            if let Slot::Waiting(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *slot = Slot::Done(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    }));
    let values = slots.into_iter().filter_map(|slot| match slot {
        Slot::Done(value) => Some(value),
        Slot::Waiting(_) => None,
    });
    values.collect()
}

enum Slot<'a, T> {
    Waiting(Boxed<'a, T>),
    Done(T),
}
