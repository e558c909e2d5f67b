//! What a client does when it comes back: connect, log in, fetch the newest messages. The salted password is kept
//! between logins, as clients do.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, page::Reading};
use crate::{
    clock,
    expect::Expected,
    mam::{self, From, Request},
    result::{Faults, latencies, record},
    text::Plan,
};

/// Runs the scenario on the archive of `plan`.
///
/// # Errors
/// The server cannot be used; wrong pages are faults in the results.
pub async fn run(bench: &Bench, plan: &Plan, reading: &Reading) -> Result<()> {
    let messages = plan.messages(None);
    let expected = Expected { tag: &plan.owner, messages: &messages, whole: true };
    let request = Request { with: None, start: None, from: From::Last, max: reading.max };
    let (mut logins, mut pages, mut wholes) = (latencies()?, latencies()?, latencies()?);
    let mut faults = Faults::default();
    let begun = clock::now();
    let limit = Duration::from_secs(reading.case_seconds);
    for n in 0..=reading.repeat {
        let start = clock::now();
        if n > 3 && start - begun > limit {
            break;
        }
        let mut conn = bench.target.login(&plan.owner).await?;
        let in_at = clock::now();
        let page = mam::page(&mut conn, &request).await?;
        // The first login salts the password; it is not counted.
        if n > 0 {
            record(&mut logins, in_at - start);
            record(&mut pages, page.took);
            record(&mut wholes, clock::now() - start);
        }
        expected.check_last(&page, reading.max, &mut faults);
        conn.send(b"</stream:stream>").await?;
    }
    let ms = |of: &crate::result::Latencies| of.value_at_quantile(0.5) as f64 / 1e6;
    let record = bench
        .recorder
        .start("catchup", &format!("login and last {}", reading.max))
        .param("depth", plan.depth)
        .metric("login_p50_ms", ms(&logins))
        .metric("page_p50_ms", ms(&pages))
        .latencies(&wholes)
        .faults(faults);
    bench.recorder.write(&record)
}
