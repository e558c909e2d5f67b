//! The writers: each takes whatever is queued for its archives and makes one transaction of it (group commit). An
//! archive always has the same writer, so that no two groups of this process wait for each other. What a group is in
//! SQL is left to `append`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mammoth_archive::StoreError;
use tokio::sync::{mpsc, oneshot};

use crate::append::{Batch, append};
use crate::failure::Failure;
use crate::retry::Tries;
use crate::session::{Connecting, Session, Use};

/// How many appends may wait for one writer; whoever comes later waits to enter.
const QUEUE: usize = 1024;
/// The most entries in one group; a larger batch goes alone.
const GROUP_ENTRIES_MAX: usize = 2048;
/// The most bytes of stanzas in one group; a larger batch goes alone.
const GROUP_BYTES_MAX: usize = 8 << 20;

struct Job {
    batch: Batch,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// What the writers have done since the store was opened.
#[derive(Debug, Default)]
pub struct Figures {
    /// Transactions.
    pub groups: AtomicU64,
    /// Appends in them.
    pub appends: AtomicU64,
    /// Attempts that came to nothing and were repeated.
    pub repeats: AtomicU64,
}

/// The writers of a store.
pub struct Writers {
    queues: Vec<mpsc::Sender<Job>>,
    pub figures: Arc<Figures>,
}

impl Writers {
    /// Starts `count` writers.
    pub fn start(connector: &Connecting, count: usize, patience: Duration, answer_time: Duration) -> Writers {
        let figures = Arc::new(Figures::default());
        let queues = (0..count.max(1)).map(|_| {
            let (queue, jobs) = mpsc::channel(QUEUE);
            let writer = Writer {
                connector: connector.clone(),
                jobs,
                later: VecDeque::new(),
                session: None,
                patience,
                answer_time,
                figures: figures.clone(),
            };
            tokio::spawn(writer.run());
            queue
        });
        Writers { queues: queues.collect(), figures }
    }

    /// Appends, together with whatever else is queued.
    pub async fn append(&self, batch: Batch) -> Result<(), StoreError> {
        let queue = self.queues.get(batch.archive.share(self.queues.len()));
        let queue = queue.ok_or_else(|| StoreError::unavailable("the store is closed"))?;
        let (reply, answer) = oneshot::channel();
        let closed = || StoreError::unavailable("the store has been closed");
        queue.send(Job { batch, reply }).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

struct Writer {
    connector: Connecting,
    jobs: mpsc::Receiver<Job>,
    /// Taken from the queue, and not in the group of the moment: in the order they came.
    later: VecDeque<Job>,
    session: Option<Session>,
    patience: Duration,
    answer_time: Duration,
    figures: Arc<Figures>,
}

impl Writer {
    /// Until the store is dropped, and everything queued is done.
    async fn run(mut self) {
        loop {
            if self.later.is_empty() {
                match self.jobs.recv().await {
                    Some(job) => self.later.push_back(job),
                    None => return,
                }
            }
            let group = self.group();
            self.write(group).await;
        }
    }

    /// The next group: in the order of the queue, each archive at most once.
    fn group(&mut self) -> Vec<Job> {
        while self.later.len() < QUEUE {
            let Ok(job) = self.jobs.try_recv() else { break };
            self.later.push_back(job);
        }
        let (mut group, mut archives) = (Vec::new(), HashSet::new());
        let (mut entries, mut bytes) = (0, 0);
        let mut rest = VecDeque::with_capacity(self.later.len());
        for job in self.later.drain(..) {
            let (more_entries, more_bytes) = (job.batch.entries.len(), job.batch.bytes());
            let fits = group.is_empty()
                || (entries + more_entries <= GROUP_ENTRIES_MAX && bytes + more_bytes <= GROUP_BYTES_MAX);
            // An archive that has to wait stays in order: its later batches wait as well.
            if archives.insert(job.batch.archive) && fits {
                entries += more_entries;
                bytes += more_bytes;
                group.push(job);
            } else {
                rest.push_back(job);
            }
        }
        self.later = rest;
        group
    }

    async fn write(&mut self, group: Vec<Job>) {
        let batches: Vec<&Batch> = group.iter().map(|job| &job.batch).collect();
        let answers = match self.repeatedly(&batches).await {
            Ok(answers) => answers,
            Err(Failure::Refused(_)) if batches.len() > 1 => self.one_by_one(&batches).await,
            Err(failure) => {
                let why = failure.to_string();
                let mut answers: Vec<Result<(), StoreError>> = vec![Err(failure.into())];
                // Nobody knows of these either: the same answer, as an error cannot be cloned.
                answers.resize_with(batches.len(), || Err(StoreError::unavailable(why.clone())));
                answers
            }
        };
        for (job, answer) in group.into_iter().zip(answers) {
            // Who has given up waiting learns the outcome by repeating the call.
            let _ = job.reply.send(answer);
        }
    }

    /// Something in the group is refused altogether: each batch alone, so that the others are not.
    async fn one_by_one(&mut self, batches: &[&Batch]) -> Vec<Result<(), StoreError>> {
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            let answer = match self.repeatedly(&[*batch]).await {
                Ok(mut answers) => answers.pop().unwrap_or(Ok(())),
                Err(failure) => Err(failure.into()),
            };
            answers.push(answer);
        }
        answers
    }

    /// Appending is repeatable, so a lost connection is answered by doing the same again on another.
    async fn repeatedly(&mut self, batches: &[&Batch]) -> Result<Vec<Result<(), StoreError>>, Failure> {
        let mut tries = Tries::new(self.patience);
        loop {
            match self.once(batches).await {
                Err(failure) if failure.may_pass() && tries.again().await => {
                    self.figures.repeats.fetch_add(1, Ordering::Relaxed);
                }
                result => {
                    self.figures.groups.fetch_add(1, Ordering::Relaxed);
                    self.figures.appends.fetch_add(batches.len() as u64, Ordering::Relaxed);
                    return result;
                }
            }
        }
    }

    async fn once(&mut self, batches: &[&Batch]) -> Result<Vec<Result<(), StoreError>>, Failure> {
        // Taken out, and put back only after success: what failed is closed.
        let session = match self.session.take() {
            Some(session) if !session.is_closed() => session,
            _ => self.connector.session(Use::Writes).await?,
        };
        let answers = crate::retry::in_time(self.answer_time, append(&session, batches)).await?;
        self.session = Some(session);
        Ok(answers)
    }
}
