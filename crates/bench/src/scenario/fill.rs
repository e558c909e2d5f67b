//! Fills one archive to a depth: its owner sends every message over one session, so that their order is known, and
//! the contacts confirm them by receiving. Whether the archive holds them is checked by `page`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::{sync::Notify, task::JoinSet, time::timeout};

use super::Bench;
use crate::{
    clock,
    conn::{ANSWER_TIMEOUT, Conn},
    progress::Progress,
    scan::{Unit, attr, is, lossy},
    text::{Plan, message},
};

/// Messages under way at the same time.
const WINDOW: u64 = 512;

/// How long to wait for confirmations before looking for refusals.
const LOOK: Duration = Duration::from_millis(200);

/// Fills the archive of `plan`.
///
/// # Errors
/// The server cannot be used, or messages got lost.
pub async fn run(bench: &Bench, plan: &Plan) -> Result<()> {
    let contacts: Vec<String> = (0..plan.contacts).map(|n| bench.account("c", n)).collect();
    let jids: Vec<String> = contacts.iter().map(|name| bench.target.jid(name)).collect();
    let confirmed = Arc::new(AtomicU64::new(0));
    let news = Arc::new(Notify::new());
    let mut receivers = JoinSet::new();
    for conn in bench.log_in(contacts).await? {
        receivers.spawn(confirm(conn, Arc::clone(&confirmed), Arc::clone(&news)));
    }
    let mut owner = bench.target.available(&plan.owner).await?;
    let progress = Progress::start(&format!("fill {}", plan.owner), plan.depth);
    let begun = clock::now();
    let (mut sent, mut out, mut shown) = (0, Vec::new(), 0);
    let mut last_news = begun;
    loop {
        let done = confirmed.load(Ordering::Relaxed);
        if done > shown {
            progress.add(done - shown);
            shown = done;
            last_news = clock::now();
        }
        if done >= plan.depth {
            break;
        }
        out.clear();
        while sent < plan.depth && sent - done < WINDOW {
            let contact = usize::try_from(plan.contact(sent)).unwrap_or(usize::MAX);
            let Some(to) = jids.get(contact) else { bail!("a plan needs at least one contact") };
            message(&mut out, to, &plan.owner, sent);
            sent += 1;
        }
        if !out.is_empty() {
            owner.send(&out).await?;
        }
        tokio::select! {
            () = news.notified() => {}
            got = owner.receive() => {
                got?;
                refuse_errors(&mut owner)?;
            }
            () = tokio::time::sleep(LOOK) => {}
            Some(ended) = receivers.join_next() => ended??,
        }
        if clock::now() - last_news > ANSWER_TIMEOUT {
            bail!("stuck: {} of {} messages arrived", done, plan.depth);
        }
    }
    // Order of delivery is no proof that the owner's own copy is written.
    timeout(ANSWER_TIMEOUT, bench.target.settle(&mut owner)).await??;
    let took = clock::now() - begun;
    drop(progress);
    let record = bench
        .recorder
        .start("fill", &format!("{} messages", plan.depth))
        .param("depth", plan.depth)
        .param("contacts", plan.contacts)
        .metric("messages_per_s", plan.depth as f64 / took.as_secs_f64().max(1e-9));
    bench.recorder.write(&record)
}

/// Counts what arrives at one contact.
async fn confirm(mut conn: Conn, confirmed: Arc<AtomicU64>, news: Arc<Notify>) -> Result<()> {
    loop {
        conn.receive().await?;
        let mut n = 0;
        while let Ok(Some(unit)) = conn.inbox.next() {
            match unit {
                Unit::Stanza(range) if is(conn.inbox.bytes(&range), "message") => n += 1,
                Unit::Stanza(_) | Unit::Header => {}
                Unit::End => bail!("the server closed a contact's stream"),
            }
        }
        if n > 0 {
            confirmed.fetch_add(n, Ordering::Relaxed);
            news.notify_one();
        }
    }
}

fn refuse_errors(owner: &mut Conn) -> Result<()> {
    while let Ok(Some(unit)) = owner.inbox.next() {
        if let Unit::Stanza(range) = unit {
            let stanza = owner.inbox.bytes(&range);
            if is(stanza, "stream:error") || attr(stanza, "type") == Some(b"error") {
                bail!("refused while filling: {}", lossy(stanza));
            }
        }
    }
    Ok(())
}
