//! Pairs that talk as fast as the server lets them: rate and delivery latency, then every message looked up in both
//! archives. Also used for the null relay, where there is no archive to look into.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    Bench,
    pair::{Pace, Pair, Seen, Until},
};
use crate::{
    clock,
    expect::{Direction, Expected, walk},
    mam::{self, From, Request},
    progress::Progress,
    result::{Faults, Record, latencies},
    text::message,
};

/// Archives verified at the same time.
const VERIFIED_AT_ONCE: usize = 4;

/// Messages per page while verifying.
const VERIFY_PAGE: usize = 50;

/// How much is sent.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// Pairs of a sender and a receiver.
    #[arg(long, default_value_t = 100)]
    pub pairs: u64,
    /// Messages each pair has under way.
    #[arg(long, default_value_t = 32)]
    pub window: u64,
    /// Seconds of sending.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Messages in all, if that is reached first.
    #[arg(long)]
    pub messages: Option<u64>,
}

/// Runs the scenario.
///
/// # Errors
/// The server cannot be used at all; what it does wrong is in the results.
pub async fn run(bench: &Bench, load: &Load) -> Result<()> {
    let names = |role: &str| (0..load.pairs).map(|n| bench.account(role, n)).collect::<Vec<_>>();
    let senders = bench.log_in(names("a")).await?;
    let receivers = bench.log_in(names("b")).await?;
    let tag = clock::unix_seconds();
    let mut pairs = Vec::new();
    for ((n, mut a), mut b) in (0_u64..).zip(senders).zip(receivers) {
        let last = [newest(&mut a).await?, newest(&mut b).await?];
        let to = bench.target.jid(&bench.account("b", n));
        pairs.push((Pair { a, b, to, tag: format!("i{tag}-{n}"), next: 0 }, last));
    }
    let (pairs, last): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let Outcome { pairs, record, mut faults } = drive(bench, "ingest", load, pairs).await?;
    let found = verify(pairs.into_iter().zip(last).collect(), &mut faults).await?;
    bench.recorder.write(&record.metric("archived_and_verified", found as f64).faults(faults))
}

/// Pairs after they have talked.
#[derive(Debug)]
pub struct Outcome {
    /// The pairs, still connected, and how many messages each sent.
    pub pairs: Vec<(Pair, u64)>,
    /// Rate and latency.
    pub record: Record,
    /// What was wrong.
    pub faults: Faults,
}

/// Lets the pairs talk.
///
/// # Errors
/// A connection is gone.
pub async fn drive(bench: &Bench, scenario: &str, load: &Load, pairs: Vec<Pair>) -> Result<Outcome> {
    let each = load.messages.map_or(u64::MAX, |all| all.div_ceil(load.pairs.max(1)));
    let mut sample = Vec::new();
    if let Some(pair) = pairs.first() {
        message(&mut sample, &pair.to, &pair.tag, 0);
    }
    let progress = Progress::start(scenario, load.messages.unwrap_or(0));
    let begun = clock::now();
    let until = Until {
        messages: each,
        time: begun + Duration::from_secs(load.seconds),
        flag: Arc::new(AtomicBool::new(false)),
    };
    let mut tasks = JoinSet::new();
    for mut pair in pairs {
        let (until, counter, pace) = (until.clone(), progress.counter(), Pace::Window(load.window));
        tasks.spawn(async move {
            let seen = pair.run(pace, until, &counter).await?;
            Ok::<_, anyhow::Error>((pair, seen))
        });
    }
    let (mut all, mut faults, mut received, mut last) = (latencies()?, Faults::default(), 0, begun);
    let mut done = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let (pair, seen): (Pair, Seen) = joined??;
        all.add(&seen.latencies)?;
        faults.merge(seen.faults);
        received += seen.received;
        last = last.max(seen.last);
        done.push((pair, seen.sent));
    }
    drop(progress);
    done.sort_by_key(|(pair, _)| {
        pair.tag.rsplit('-').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(u64::MAX)
    });
    let record = bench
        .recorder
        .start(scenario, &format!("{} pairs, window {}", load.pairs, load.window))
        .param("pairs", load.pairs)
        .param("window", load.window)
        .param("stanza_bytes", sample.len() as u64)
        .metric("messages_per_s", received as f64 / (last - begun).as_secs_f64().max(1e-9))
        .metric("messages", received as f64)
        .latencies(&all);
    Ok(Outcome { pairs: done, record, faults })
}

/// The id of the newest message in the connection's archive.
async fn newest(conn: &mut crate::conn::Conn) -> Result<Option<Vec<u8>>> {
    let request = Request { with: None, start: None, from: From::Last, max: 1 };
    Ok(mam::page(conn, &request).await?.last)
}

type Talked = ((Pair, u64), [Option<Vec<u8>>; 2]);

/// Looks up every message in both archives; returns how many entries were found.
async fn verify(pairs: Vec<Talked>, faults: &mut Faults) -> Result<u64> {
    let progress = Progress::start("verify", pairs.iter().map(|((_, sent), _)| sent * 2).sum());
    let gate = Arc::new(Semaphore::new(VERIFIED_AT_ONCE));
    let mut tasks = JoinSet::new();
    for ((pair, sent), last) in pairs {
        let (gate, counter) = (Arc::clone(&gate), progress.counter());
        tasks.spawn(async move {
            let _permit = gate.acquire().await?;
            let Pair { mut a, mut b, tag, .. } = pair;
            let messages: Vec<u64> = (0..sent).collect();
            let (mut found, mut faults) = (0, Faults::default());
            for (conn, last) in [&mut a, &mut b].into_iter().zip(last) {
                let whole = last.is_none();
                let from = last.map_or(From::First, From::After);
                let request = Request { with: None, start: None, from, max: VERIFY_PAGE };
                let expected = Expected { tag: &tag, messages: &messages, whole };
                let count = |n| {
                    counter.fetch_add(n, Ordering::Relaxed);
                    false
                };
                let walk = walk(conn, request, Direction::Forwards, &expected, count).await?;
                found += walk.found.len() as u64;
                faults.merge(walk.faults);
            }
            Ok::<_, anyhow::Error>((found, faults))
        });
    }
    let mut found = 0;
    while let Some(joined) = tasks.join_next().await {
        let (n, wrong) = joined??;
        found += n;
        faults.merge(wrong);
    }
    Ok(found)
}
