//! Delivery latency at a steady, moderate rate: first undisturbed, then while others walk through a large archive, and
//! if the server has a command for it, while a tenth of that archive expires.
//! The walkers run on a thread of their own, so that the generator does not disturb itself.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use tokio::task::JoinSet;

use super::{
    Bench,
    page::Reading,
    pair::{Pace, Pair, Until},
};
use crate::{
    clock,
    conn::Conn,
    expect::{Direction, Expected, walk},
    login::Target,
    mam::{self, From, Request},
    progress::Progress,
    result::{Faults, Record, latencies},
    scan::lossy,
    text::Plan,
};

/// Who talks and who walks.
#[derive(Debug, Clone, Args)]
pub struct Mix {
    /// Pairs that talk.
    #[arg(long, default_value_t = 10)]
    pub talkers: u64,
    /// Messages per second of all pairs together.
    #[arg(long, default_value_t = 200)]
    pub rate: u64,
    /// Sessions that walk through the archive again and again.
    #[arg(long, default_value_t = 2)]
    pub walkers: u64,
    /// Seconds without and seconds with walkers.
    #[arg(long, default_value_t = 20)]
    pub mix_seconds: u64,
    /// A shell command that lets the oldest messages of the archive go, up to and including the id that it is given in
    /// place of {}; a third part of the run measures while it works. It is the oldest tenth that goes.
    #[arg(long)]
    pub expire: Option<String>,
}

/// Runs the scenario on the archive of `plan`.
///
/// # Errors
/// The server cannot be used; what it does wrong is in the results.
pub async fn run(bench: &Bench, plan: &Plan, reading: &Reading, mix: &Mix) -> Result<()> {
    let names = |role: &str| (0..mix.talkers).map(|n| bench.account(role, n)).collect::<Vec<_>>();
    let senders = bench.log_in(names("a")).await?;
    let receivers = bench.log_in(names("b")).await?;
    let tag = clock::unix_seconds();
    let mut pairs: Vec<Pair> = (0_u64..)
        .zip(senders.into_iter().zip(receivers))
        .map(|(n, (a, b))| {
            let to = bench.target.jid(&bench.account("b", n));
            Pair { a, b, to, tag: format!("m{tag}-{n}"), next: 0 }
        })
        .collect();
    let (quiet, faults) = talk(bench, plan, mix, "quiet", &mut pairs).await?;
    let quiet_p99 = quiet.metrics.get("p99_ms").copied().unwrap_or_default();
    bench.recorder.write(&quiet.faults(faults))?;

    let stop = Arc::new(AtomicBool::new(false));
    let walked = Arc::new(AtomicU64::new(0));
    let walkers = {
        let (target, plan, reading) = (Arc::clone(&bench.target), plan.clone(), reading.clone());
        let (stop, walked, count) = (Arc::clone(&stop), Arc::clone(&walked), mix.walkers);
        thread::spawn(move || walkers(&target, &plan, &reading, count, &stop, &walked))
    };
    let begun = clock::now();
    let busy = talk(bench, plan, mix, &format!("{} walkers", mix.walkers), &mut pairs).await;
    let pages = walked.load(Ordering::Relaxed) as f64 / (clock::now() - begun).as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let wrong = walkers.join().map_err(|_| anyhow!("a walker panicked"))??;
    let (busy, mut faults) = busy?;
    faults.merge(wrong);
    let ratio = busy.metrics.get("p99_ms").copied().unwrap_or_default() / quiet_p99.max(1e-9);
    let busy = busy.metric("walked_messages_per_s", pages).metric("p99_ratio", ratio);
    bench.recorder.write(&busy.faults(faults))?;

    let Some(command) = &mix.expire else { return Ok(()) };
    let mut owner = bench.target.login(&plan.owner).await?;
    let tenth = plan.depth / 10;
    let last = nth(&mut owner, tenth, reading.max).await?;
    let command = command.replace("{}", &lossy(&last));
    let expiry = Command::new("sh").arg("-c").arg(&command).stdin(Stdio::null()).spawn()?;
    let (record, mut faults) = talk(bench, plan, mix, "expiry of a tenth", &mut pairs).await?;
    if !expiry.wait_with_output()?.status.success() {
        faults.add("the command that expires failed");
    }
    let request = Request { with: None, start: None, from: From::First, max: reading.max };
    let page = mam::page(&mut owner, &request).await?;
    let messages: Vec<u64> = (tenth..plan.depth).collect();
    Expected { tag: &plan.owner, messages: &messages, whole: true }.check(&page, 0, &mut faults);
    let ratio = record.metrics.get("p99_ms").copied().unwrap_or_default() / quiet_p99.max(1e-9);
    bench.recorder.write(&record.metric("p99_ratio", ratio).faults(faults))
}

/// The id of the archive's message number `n`, counting from 1.
async fn nth(conn: &mut Conn, n: u64, max: usize) -> Result<Vec<u8>> {
    let mut request = Request { with: None, start: None, from: From::First, max };
    let mut left = n;
    loop {
        request.max = max.min(usize::try_from(left)?);
        let page = mam::page(conn, &request).await?;
        let last = page.last.context("the archive is too short")?;
        left -= (page.entries.len() as u64).min(left);
        if left == 0 {
            return Ok(last);
        }
        request.from = From::After(last);
    }
}

async fn talk(
    bench: &Bench,
    plan: &Plan,
    mix: &Mix,
    case: &str,
    pairs: &mut Vec<Pair>,
) -> Result<(Record, Faults)> {
    let progress = Progress::start(&format!("mixed, {case}"), mix.rate * mix.mix_seconds);
    let begun = clock::now();
    let until = Until {
        messages: u64::MAX,
        time: begun + Duration::from_secs(mix.mix_seconds),
        flag: Arc::new(AtomicBool::new(false)),
    };
    let period = Duration::from_secs_f64(mix.talkers as f64 / mix.rate.max(1) as f64);
    let mut tasks = JoinSet::new();
    for (i, mut pair) in pairs.drain(..).enumerate() {
        let (until, counter) = (until.clone(), progress.counter());
        tasks.spawn(async move {
            // Spread the pairs over the period.
            tokio::time::sleep(period.mul_f64((i as f64 * 0.618).fract())).await;
            let seen = pair.run(Pace::Every(period), until, &counter).await?;
            Ok::<_, anyhow::Error>((pair, seen))
        });
    }
    let (mut all, mut faults, mut received, mut late) = (latencies()?, Faults::default(), 0, 0);
    while let Some(joined) = tasks.join_next().await {
        let (pair, seen) = joined??;
        all.add(&seen.latencies)?;
        faults.merge(seen.faults);
        received += seen.received;
        late += seen.late;
        pairs.push(pair);
    }
    drop(progress);
    let record = bench
        .recorder
        .start("mixed", case)
        .param("depth", plan.depth)
        .param("pairs", mix.talkers)
        .param("rate_per_s", mix.rate)
        .metric("messages", received as f64)
        .metric("late", late as f64)
        .latencies(&all);
    Ok((record, faults))
}

/// Walks until told to stop; returns only what was wrong.
fn walkers(
    target: &Arc<Target>,
    plan: &Plan,
    reading: &Reading,
    count: u64,
    stop: &Arc<AtomicBool>,
    walked: &Arc<AtomicU64>,
) -> Result<Faults> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for n in 0..count {
            let (target, plan, max) = (Arc::clone(target), plan.clone(), reading.max);
            let (stop, walked) = (Arc::clone(stop), Arc::clone(walked));
            // Half of the walkers go each way.
            let direction = if n % 2 == 0 { Direction::Forwards } else { Direction::Backwards };
            tasks.spawn(async move {
                let mut faults = Faults::default();
                let messages = plan.messages(None);
                let mut conn = target.login(&plan.owner).await?;
                while !stop.load(Ordering::Relaxed) {
                    let expected = Expected { tag: &plan.owner, messages: &messages, whole: true };
                    let from = if direction == Direction::Forwards { From::First } else { From::Last };
                    let request = Request { with: None, start: None, from, max };
                    let enough = |n| {
                        walked.fetch_add(n, Ordering::Relaxed);
                        stop.load(Ordering::Relaxed)
                    };
                    faults.merge(walk(&mut conn, request, direction, &expected, enough).await?.faults);
                }
                Ok::<_, anyhow::Error>(faults)
            });
        }
        let mut faults = Faults::default();
        while let Some(joined) = tasks.join_next().await {
            faults.merge(joined??);
        }
        Ok(faults)
    })
}
