//! One sender and one receiver: keeps a window of messages under way (or sends at a fixed rate), and checks that each
//! arrives once, in order and whole. Logging in and checking the archives are left to the scenarios.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    select,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    clock,
    conn::{ANSWER_TIMEOUT, Conn},
    result::{Faults, Latencies, latencies, record},
    scan::{TooLong, Unit, attr, is, lossy, text_of},
    text::{message, read_body},
};

/// How often a pair looks whether it is stuck.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// How late a scheduled message may be before its lateness counts as latency: timers are no finer.
const SCHEDULE_SLACK: Duration = Duration::from_millis(2);

/// How long a pair that sends at a fixed rate waits for what is still under way at the end. What has not arrived by then
/// counts with the time it has taken so far.
const DRAIN: Duration = Duration::from_secs(30);

/// How a pair decides when to send.
#[derive(Debug, Clone)]
pub enum Pace {
    /// As many as are missing from a window of messages under way.
    Window(u64),
    /// One message per period, whatever has arrived.
    Every(Duration),
}

/// When a pair stops sending.
#[derive(Debug, Clone)]
pub struct Until {
    /// After this many messages.
    pub messages: u64,
    /// At this time.
    pub time: Instant,
    /// When this is set.
    pub flag: Arc<AtomicBool>,
}

/// A sender, a receiver and what they say.
#[derive(Debug)]
pub struct Pair {
    /// The sender.
    pub a: Conn,
    /// The receiver.
    pub b: Conn,
    /// The receiver's bare JID.
    pub to: String,
    /// The tag of the messages.
    pub tag: String,
    /// The number of the next message.
    pub next: u64,
}

/// What a pair saw.
#[derive(Debug)]
pub struct Seen {
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages that had not arrived when a pair with a fixed rate had waited long enough.
    pub late: u64,
    /// From handing a message to the sender's socket to finding it in what the receiver read.
    pub latencies: Latencies,
    /// When the last message arrived.
    pub last: Instant,
    /// What was wrong.
    pub faults: Faults,
}

impl Pair {
    /// Sends and receives until told to stop and everything sent has arrived (or nothing arrives any more).
    ///
    /// # Errors
    /// A connection is gone.
    pub async fn run(&mut self, pace: Pace, until: Until, counter: &AtomicU64) -> Result<Seen> {
        let begun = clock::now();
        let mut seen = Seen {
            sent: 0,
            received: 0,
            late: 0,
            latencies: latencies()?,
            last: begun,
            faults: Faults::default(),
        };
        let first = self.next;
        let mut under_way: VecDeque<Instant> = VecDeque::new();
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        let mut check = every(STALL_CHECK);
        let mut tick = every(match pace {
            Pace::Window(_) => STALL_CHECK,
            Pace::Every(period) => period,
        });
        let mut due = 0;
        let mut sending = true;
        let mut now = begun;
        let mut last_sent = begun;
        loop {
            sending = sending
                && seen.sent < until.messages
                && now < until.time
                && !until.flag.load(Ordering::Relaxed);
            let room = match pace {
                _ if !sending => 0,
                Pace::Window(window) => {
                    window.saturating_sub(under_way.len() as u64).min(until.messages - seen.sent)
                }
                Pace::Every(_) => due,
            };
            due = 0;
            if !sending && matches!(pace, Pace::Every(_)) && now > until.time + DRAIN {
                seen.late = under_way.len() as u64;
                for sent in under_way {
                    record(&mut seen.latencies, now - sent);
                }
                return Ok(seen);
            }
            if room > 0 {
                out.clear();
                for _ in 0..room {
                    message(&mut out, &self.to, &self.tag, self.next);
                    self.next += 1;
                    under_way.push_back(now);
                }
                seen.sent += room;
                last_sent = now;
                self.a.send(&out).await?;
            }
            if !sending && under_way.is_empty() {
                return Ok(seen);
            }
            select! {
                biased;
                got = self.b.receive() => got?,
                got = self.a.receive() => got?,
                scheduled = tick.tick(), if matches!(pace, Pace::Every(_)) => {
                    let scheduled = scheduled.into_std();
                    now = clock::now();
                    // Messages that the generator could not send in time count from when they should have gone.
                    if now - scheduled > SCHEDULE_SLACK {
                        now = scheduled;
                    }
                    due = 1;
                    continue;
                }
                _ = check.tick() => {
                    now = clock::now();
                    if !under_way.is_empty() && now - seen.last.max(last_sent) > ANSWER_TIMEOUT {
                        seen.faults.add(format!("{}: {} messages never arrived", self.tag, under_way.len()));
                        return Ok(seen);
                    }
                }
            }
            now = clock::now();
            let before = seen.received;
            while let Some(stanza) = next_message(&mut self.b)? {
                let body = text_of(self.b.inbox.bytes(&stanza), "body").unwrap_or_default();
                let wanted = first + seen.received;
                match read_body(body, &self.tag, &mut scratch) {
                    Some(seq) if seq == wanted => {}
                    found => seen.faults.add(format!("{}: wanted {wanted}, found {found:?}", self.tag)),
                }
                seen.received += 1;
                if let Some(sent) = under_way.pop_front() {
                    record(&mut seen.latencies, now - sent);
                }
            }
            if seen.received > before {
                seen.last = now;
                counter.fetch_add(seen.received - before, Ordering::Relaxed);
            }
            while let Some(stanza) = next_message(&mut self.a)? {
                let stanza = self.a.inbox.bytes(&stanza);
                if attr(stanza, "type") == Some(b"error") {
                    seen.faults.add(format!("{}: refused: {}", self.tag, lossy(stanza)));
                    under_way.pop_front();
                }
            }
        }
    }
}

/// The next message in what has been read; other stanzas are passed over.
fn next_message(conn: &mut Conn) -> Result<Option<std::ops::Range<usize>>> {
    loop {
        match conn.inbox.next() {
            Ok(Some(Unit::Stanza(range))) => {
                let stanza = conn.inbox.bytes(&range);
                if is(stanza, "message") {
                    return Ok(Some(range));
                }
                if is(stanza, "stream:error") {
                    anyhow::bail!("stream error: {}", lossy(stanza));
                }
            }
            Ok(Some(Unit::Header)) => {}
            Ok(Some(Unit::End)) => anyhow::bail!("the server closed the stream"),
            Ok(None) => return Ok(None),
            Err(TooLong) => anyhow::bail!("the server sent a stanza longer than the generator holds"),
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    interval
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const MESSAGES: u64 = 8;

    /// Lets one pair talk through a relay that passes on what `spoil` makes of the messages.
    async fn talk(spoil: fn(Vec<String>) -> Vec<String>) -> Seen {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let a = Conn::open(addr, true).await.unwrap();
        let (mut from_a, _) = listener.accept().await.unwrap();
        let b = Conn::open(addr, true).await.unwrap();
        let (mut to_b, _) = listener.accept().await.unwrap();
        let relay = tokio::spawn(async move {
            let (mut read, mut chunk) = (String::new(), [0; 4096]);
            while read.matches("</message>").count() < MESSAGES as usize {
                let n = from_a.read(&mut chunk).await.unwrap();
                read.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
            }
            let messages = read.split_inclusive("</message>").map(str::to_owned).collect();
            to_b.write_all(spoil(messages).concat().as_bytes()).await.unwrap();
            (from_a, to_b)
        });
        let mut pair = Pair { a, b, to: "b@localhost".to_owned(), tag: "t".to_owned(), next: 0 };
        let until = Until {
            messages: MESSAGES,
            time: clock::now() + Duration::from_secs(60),
            flag: Arc::new(AtomicBool::new(false)),
        };
        let seen = pair.run(Pace::Window(MESSAGES), until, &AtomicU64::new(0)).await.unwrap();
        relay.await.unwrap();
        seen
    }

    #[tokio::test]
    async fn what_arrives_once_and_in_order_is_right() {
        let seen = talk(|messages| messages).await;
        assert_eq!((seen.received, seen.latencies.len()), (MESSAGES, MESSAGES));
        assert!(seen.faults.is_empty());
    }

    #[tokio::test]
    async fn swapped_messages_are_faults() {
        let seen = talk(|mut messages| {
            messages.swap(2, 3);
            messages
        });
        assert!(!seen.await.faults.is_empty());
    }

    #[tokio::test]
    async fn a_message_that_comes_twice_is_a_fault() {
        let seen = talk(|mut messages| {
            messages[4] = messages[3].clone();
            messages
        });
        assert!(!seen.await.faults.is_empty());
    }

    #[tokio::test]
    async fn a_changed_body_is_a_fault() {
        let seen = talk(|mut messages| {
            messages[5] = messages[5].replace("</body>", "!</body>");
            messages
        });
        assert!(!seen.await.faults.is_empty());
    }
}
