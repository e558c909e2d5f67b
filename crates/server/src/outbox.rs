//! An outbox: what one client is still to be sent, bounded in bytes, and the task that writes it. Whoever
//! delivers only pushes; nobody but the client's own session ever waits for it. What is sent is left to others.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// The most bytes that may wait for a client that does not read; one more and it is closed (it catches up from
/// the archive).
pub const OUTBOX_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Below this many waiting bytes a session takes up its client's next request.
const OUTBOX_BYTES_CALM: usize = 256 * 1024;
/// How long one write may take before the client counts as gone.
const WRITE_SECONDS_MAX: u64 = 60;
/// The most bytes handed to the socket at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Room for the first of what is to be written together.
const FIRST_BYTES: usize = 4 * 1024;

/// The sending end of one client's stream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or it is time to stop.
    filled: Notify,
    /// Something was written, or the writer has stopped.
    drained: Notify,
    /// Somebody wants the session to end.
    closing: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// What nobody has begun to write, one after the other.
    waiting: BytesMut,
    /// How many bytes are being written.
    writing: usize,
    state: State,
}

impl Queue {
    fn bytes(&self) -> usize {
        self.waiting.len() + self.writing
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.waiting = BytesMut::new();
        self.writing = 0;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Nothing more is taken; what waits is still written.
    Closing,
    /// Nothing more is written.
    Closed,
}

impl Outbox {
    /// An empty outbox, and nobody writing it yet.
    #[must_use]
    pub fn new() -> Outbox {
        Outbox(Arc::new(Shared {
            queue: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            closing: Notify::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues bytes for the client. Answers whether they were taken: a client that is closing takes none, and
    /// one that lets too much wait is closed.
    pub fn push(&self, bytes: impl AsRef<[u8]>) -> bool {
        self.write(|waiting| waiting.put_slice(bytes.as_ref()))
    }

    /// As [`push`](Self::push), for who would put the bytes together only to push them: `write` appends them to
    /// those that wait, and must not wait itself.
    pub fn write(&self, write: impl FnOnce(&mut BytesMut)) -> bool {
        let mut queue = self.lock();
        if queue.state != State::Open {
            return false;
        }
        let first = queue.waiting.is_empty();
        if first {
            queue.waiting.reserve(FIRST_BYTES);
        }
        write(&mut queue.waiting);
        if queue.bytes() > OUTBOX_BYTES_MAX {
            queue.close();
            drop(queue);
            self.wake_all();
            return false;
        }
        drop(queue);
        if first {
            self.0.filled.notify_one();
        }
        true
    }

    /// Sends these last bytes, then ends the session.
    pub fn close(&self, last: Bytes) {
        self.push(last);
        let mut queue = self.lock();
        if queue.state == State::Open {
            queue.state = State::Closing;
        }
        drop(queue);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.0.filled.notify_one();
        self.0.drained.notify_waiters();
        self.0.closing.notify_one();
    }

    /// Whether the client is still to be sent things.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lock().state == State::Open
    }

    /// Waits until somebody ends the session. For one waiter.
    pub async fn closed(&self) {
        while self.is_open() {
            self.0.closing.notified().await;
        }
    }

    /// Waits until little enough is queued to answer the next request.
    pub async fn calm(&self) {
        loop {
            let drained = self.0.drained.notified();
            {
                let queue = self.lock();
                if queue.bytes() <= OUTBOX_BYTES_CALM || queue.state != State::Open {
                    return;
                }
            }
            drained.await;
        }
    }

    /// Everything that waits, to be written.
    fn take(&self) -> (Bytes, State) {
        let mut queue = self.lock();
        queue.writing = queue.waiting.len();
        (mem::take(&mut queue.waiting).freeze(), queue.state)
    }

    fn written(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.writing = queue.writing.saturating_sub(bytes);
        drop(queue);
        self.0.drained.notify_waiters();
    }

    /// Writes what is pushed until the outbox is closed or the client is gone. Gives the writer back.
    pub async fn write_to<W: AsyncWrite + Unpin>(&self, mut writer: W) -> W {
        loop {
            let (waiting, state) = self.take();
            if waiting.is_empty() {
                match state {
                    State::Open => self.0.filled.notified().await,
                    State::Closing | State::Closed => break,
                }
                continue;
            }
            if state == State::Closed || self.write_all(&mut writer, waiting).await.is_err() {
                break;
            }
        }
        self.lock().close();
        self.wake_all();
        writer
    }

    async fn write_all<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        mut waiting: Bytes,
    ) -> std::io::Result<()> {
        while !waiting.is_empty() {
            let chunk = waiting.split_to(waiting.len().min(WRITE_BYTES_MAX));
            let write = async {
                writer.write_all(&chunk).await?;
                writer.flush().await
            };
            tokio::time::timeout(Duration::from_secs(WRITE_SECONDS_MAX), write)
                .await
                .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            self.written(chunk.len());
        }
        Ok(())
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writes_in_order_and_ends_with_the_last() {
        let outbox = Outbox::new();
        for i in 0..1000 {
            assert!(outbox.push(Bytes::from(format!("{i},"))));
        }
        outbox.close(Bytes::from_static(b"bye"));
        assert!(!outbox.push(Bytes::from_static(b"too late")));
        let written = outbox.write_to(Vec::new()).await;
        let expected = (0..1000).map(|i| format!("{i},")).collect::<String>() + "bye";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_client_that_never_reads_is_closed_and_its_queue_freed() {
        let outbox = Outbox::new();
        let (ours, _theirs) = tokio::io::duplex(64);
        let writer = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.write_to(ours).await }
        });
        let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
        let mut taken = 0;
        while outbox.push(chunk.clone()) {
            taken += 1;
            assert!(taken <= OUTBOX_BYTES_MAX / chunk.len(), "the bound holds");
        }
        outbox.closed().await;
        assert!(!outbox.is_open());
        assert_eq!(outbox.lock().waiting.len(), 0);
        writer.abort();
    }
}
