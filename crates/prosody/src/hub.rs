//! Where answers wait for Prosody's loop: threads that answer requests, and a bell (an eventfd) that the loop watches.
//! What an answer is like in Lua is left to `lua`.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::Fail;
use crate::db::{Answer, Db, Request};

/// Threads that answer requests, for all stores of the process together.
const THREADS: usize = 4;
/// How many requests can wait for them; a further one is answered on the spot.
const REQUESTS_MAX: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

static POOL: LazyLock<SyncSender<Job>> = LazyLock::new(|| {
    let (jobs, inbox) = sync_channel::<Job>(REQUESTS_MAX);
    let inbox = Arc::new(Mutex::new(inbox));
    for _ in 0..THREADS {
        let inbox = inbox.clone();
        let work = move || {
            while let Some(job) = next(&inbox) {
                job();
            }
        };
        // With fewer threads than wanted the others do the work; with none it is done on the spot.
        drop(std::thread::Builder::new().name("mammoth-answers".into()).spawn(work));
    }
    jobs
});

fn next(inbox: &Mutex<Receiver<Job>>) -> Option<Job> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// What became of a request.
pub type Outcome = Result<Answer, Fail>;

/// One loop's bell and what waits behind it.
pub struct Hub {
    bell: OwnedFd,
    last: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    rung: Vec<u64>,
    outcomes: HashMap<u64, Outcome>,
}

impl Hub {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub fn new() -> std::io::Result<Arc<Hub>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Hub { bell, last: AtomicU64::new(0), waiting: Mutex::default() }))
    }

    /// What the loop watches: readable when there are answers.
    pub fn fd(&self) -> i32 {
        self.bell.as_raw_fd()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for an answer to come.
    pub fn token(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has a request answered on another thread.
    pub fn submit(self: &Arc<Self>, db: Arc<Db>, request: Request) -> u64 {
        let token = self.token();
        let hub = self.clone();
        let job: Job = Box::new(move || hub.done(token, answer(&db, request)));
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = POOL.try_send(job) {
            job();
        }
        token
    }

    /// An answer has come.
    pub fn done(&self, token: u64, outcome: Outcome) {
        let mut waiting = self.waiting();
        waiting.outcomes.insert(token, outcome);
        waiting.rung.push(token);
        let first = waiting.rung.len() == 1;
        drop(waiting);
        if first {
            // It cannot overflow: it is rung once for each time the loop looks.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// The answers that have come since this was last asked.
    pub fn rung(&self) -> Vec<u64> {
        let mut count = [0; 8];
        let mut waiting = self.waiting();
        let _ = rustix::io::read(&self.bell, &mut count);
        std::mem::take(&mut waiting.rung)
    }

    /// An answer, once.
    pub fn take(&self, token: u64) -> Option<Outcome> {
        self.waiting().outcomes.remove(&token)
    }
}

/// Answers a request; a panic on the way is an error like any other.
pub fn answer(db: &Db, request: Request) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| db.answer(request))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Fail::Panic(text))
    })
}
