//! Reads a filled archive in all the ways clients do: whole walks in both directions, the last page, after an id,
//! from a date, with a frequent, a rare and an unknown contact. Every page is checked.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::Bench;
use crate::{
    clock,
    conn::Conn,
    expect::{Direction, Expected, walk},
    mam::{self, Entry, From, Page, Request, micros},
    progress::Progress,
    result::{Faults, Latencies, latencies, record},
    text::{Dice, Plan, seq_of},
};

/// What is read, and for how long.
#[derive(Debug, Clone, Args)]
pub struct Reading {
    /// Contacts in the archive, as it was filled.
    #[arg(long, default_value_t = 20)]
    pub contacts: u64,
    /// Messages per page.
    #[arg(long, default_value_t = 50)]
    pub max: usize,
    /// Repetitions of each kind of page.
    #[arg(long, default_value_t = 200)]
    pub repeat: u64,
    /// Seconds after which repeating a kind of page ends (at least three are read).
    #[arg(long, default_value_t = 10)]
    pub case_seconds: u64,
    /// Seconds after which a walk is broken off; its rate is that of the part walked.
    #[arg(long, default_value_t = 60)]
    pub walk_seconds: u64,
}

/// Pages read at least, however slow they are.
const REPEAT_MIN: u64 = 3;

/// Runs the scenario on the archive of `plan`.
///
/// # Errors
/// The server cannot be used; wrong pages are faults in the results.
pub async fn run(bench: &Bench, plan: &Plan, reading: &Reading) -> Result<()> {
    let mut reader = Reader {
        bench,
        plan,
        reading,
        conn: bench.target.available(&plan.owner).await?,
        all: plan.messages(None),
        known: Vec::new(),
        dice: Dice::new(plan.depth),
    };
    reader.walk("walk forwards", Direction::Forwards).await?;
    reader.walk("walk backwards", Direction::Backwards).await?;
    reader.last("last page", None).await?;
    reader.after_id().await?;
    reader.since_date().await?;
    reader.last("with frequent", Some(0)).await?;
    reader.last("with rare", Some(plan.contacts.saturating_sub(1))).await?;
    reader.last("with never", Some(plan.contacts)).await
}

struct Reader<'a> {
    bench: &'a Bench,
    plan: &'a Plan,
    reading: &'a Reading,
    conn: Conn,
    all: Vec<u64>,
    /// Runs of neighbouring messages whose ids are known: where they begin, and the messages.
    known: Vec<(usize, Vec<Entry>)>,
    dice: Dice,
}

impl Reader<'_> {
    fn request(&self, from: From) -> Request {
        Request { with: None, start: None, from, max: self.reading.max }
    }

    async fn walk(&mut self, case: &str, direction: Direction) -> Result<()> {
        let request = self.request(match direction {
            Direction::Forwards => From::First,
            Direction::Backwards => From::Last,
        });
        let progress = Progress::start(case, self.plan.depth);
        let limit = Duration::from_secs(self.reading.walk_seconds);
        let expected = Expected { tag: &self.plan.owner, messages: &self.all, whole: true };
        let begun = clock::now();
        let enough = |n| {
            progress.add(n);
            clock::now() - begun >= limit
        };
        let walk = walk(&mut self.conn, request, direction, &expected, enough).await?;
        drop(progress);
        let record = self
            .bench
            .recorder
            .start("page", case)
            .param("depth", self.plan.depth)
            .metric("messages_per_s", walk.found.len() as f64 / walk.waited.as_secs_f64().max(1e-9))
            .metric("walked", walk.found.len() as f64)
            .metric("finished", f64::from(u8::from(walk.finished)))
            .latencies(&walk.pages)
            .faults(walk.faults);
        self.known.push((walk.found_from, walk.found));
        self.bench.recorder.write(&record)
    }

    async fn last(&mut self, case: &str, contact: Option<u64>) -> Result<()> {
        let messages = self.plan.messages(contact);
        let expected = Expected { tag: &self.plan.owner, messages: &messages, whole: true };
        let mut request = self.request(From::Last);
        request.with = contact.map(|n| self.bench.target.jid(&self.bench.account("c", n)));
        let max = self.reading.max;
        let ask = |_: &mut Dice, _: &[(usize, Vec<Entry>)]| Some((0, request.clone()));
        self.repeat(case, ask, |page, _, _, faults| expected.check_last(page, max, faults)).await
    }

    async fn after_id(&mut self) -> Result<()> {
        let (all, tag, max) = (self.all.clone(), self.plan.owner.clone(), self.reading.max);
        let base = self.request(From::Last);
        let ask = |dice: &mut Dice, known: &[(usize, Vec<Entry>)]| {
            let (at, entry) = pick(dice, known)?;
            Some((at, Request { from: From::After(entry.id.clone()), ..base.clone() }))
        };
        let expected = Expected { tag: &tag, messages: &all, whole: true };
        self.repeat("after id", ask, |page, at, _, faults| {
            let wanted = (all.len() - at - 1).min(max);
            if page.entries.len() != wanted {
                faults.add(format!("after {at}: wanted {wanted}, found {}", page.entries.len()));
            }
            if page.complete && at + 1 + page.entries.len() < all.len() {
                faults.add(format!("after {at}: claims to be complete"));
            }
            expected.check(page, at + 1, faults);
        })
        .await
    }

    async fn since_date(&mut self) -> Result<()> {
        let (all, tag) = (self.all.clone(), self.plan.owner.clone());
        let base = self.request(From::First);
        let ask = |dice: &mut Dice, known: &[(usize, Vec<Entry>)]| {
            let (at, entry) = pick(dice, known)?;
            Some((at, Request { start: Some(entry.stamp.clone()), ..base.clone() }))
        };
        let expected = Expected { tag: &tag, messages: &all, whole: false };
        self.repeat("from date", ask, |page, at, request, faults| {
            // Several messages may bear the stamp asked for: the page begins with the first of them.
            let first = page.entries.first().and_then(|e| seq_of(&e.body, expected.tag));
            let Some(first) = first.and_then(|n| usize::try_from(n).ok()).filter(|first| *first <= at) else {
                return faults.add(format!("from the stamp of {at}: begins at {first:?}"));
            };
            let start = request.start.as_deref().and_then(micros);
            if page.entries.iter().any(|entry| micros(&entry.stamp) < start) {
                faults.add(format!("from the stamp of {at}: an older message was found"));
            }
            expected.check(page, first, faults);
        })
        .await
    }

    /// Asks again and again; `ask` also names a position, which `check` is told.
    async fn repeat(
        &mut self,
        case: &str,
        mut ask: impl FnMut(&mut Dice, &[(usize, Vec<Entry>)]) -> Option<(usize, Request)>,
        mut check: impl FnMut(&Page, usize, &Request, &mut Faults),
    ) -> Result<()> {
        let progress = Progress::start(case, self.reading.repeat);
        let (mut took, mut faults): (Latencies, _) = (latencies()?, Faults::default());
        let begun = clock::now();
        let limit = Duration::from_secs(self.reading.case_seconds);
        for n in 0..self.reading.repeat {
            if n >= REPEAT_MIN && clock::now() - begun > limit {
                break;
            }
            let Some((at, request)) = ask(&mut self.dice, &self.known) else {
                faults.add("no ids are known, because no walk found any");
                break;
            };
            let page = mam::page(&mut self.conn, &request).await?;
            record(&mut took, page.took);
            check(&page, at, &request, &mut faults);
            progress.add(1);
        }
        drop(progress);
        let record = self
            .bench
            .recorder
            .start("page", case)
            .param("depth", self.plan.depth)
            .latencies(&took)
            .faults(faults);
        self.bench.recorder.write(&record)
    }
}

/// Any message whose id is known, and its position.
fn pick<'a>(dice: &mut Dice, known: &'a [(usize, Vec<Entry>)]) -> Option<(usize, &'a Entry)> {
    let total: usize = known.iter().map(|(_, run)| run.len()).sum();
    let mut at = usize::try_from(dice.below(total as u64)).ok()?;
    for (from, run) in known {
        match run.get(at) {
            Some(entry) => return Some((from + at, entry)),
            None => at -= run.len(),
        }
    }
    None
}
