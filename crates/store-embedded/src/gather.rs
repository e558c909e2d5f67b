//! Appends that are called at about the same time go to the writer together, so that one commit does for all of them:
//! a writer that waits is woken by the first that it is given, and would commit that alone. While it has something to
//! do they queue up by themselves, see `writer`.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use crate::writer::Append;

/// So many appends are gathered at most; with one more they go.
const GATHERED_MAX: usize = 64;

/// Appends on their way to the writer.
#[derive(Default)]
pub struct Gathering {
    /// Each with its number.
    waiting: Mutex<Vec<(u64, Append)>>,
    numbers: AtomicU64,
}

impl Gathering {
    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Append)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what is to be sent to the writer now. If that waits, everything else on this thread that can go on goes
    /// first, and the answer is this append and those that were called meanwhile, in the order of the calls; or none, if
    /// another call has taken it along.
    pub async fn together(&self, append: Append, writer_waits: bool) -> Vec<Append> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        {
            let mut waiting = self.lock();
            if waiting.is_empty() && !writer_waits {
                return vec![append];
            }
            waiting.push((number, append));
            if waiting.len() > GATHERED_MAX {
                return taken(&mut waiting);
            }
        }
        let place = Place { gathering: self, number };
        let mut turned = false;
        poll_fn(|context| {
            if std::mem::replace(&mut turned, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        let together = taken(&mut self.lock());
        drop(place);
        together
    }
}

fn taken(waiting: &mut Vec<(u64, Append)>) -> Vec<Append> {
    waiting.drain(..).map(|(_, append)| append).collect()
}

/// Where an append waits: whoever gives up waiting takes it away.
struct Place<'a> {
    gathering: &'a Gathering,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gathering.lock().retain(|(number, _)| *number != self.number);
    }
}
