//! Letting old entries go: which archives are due, and the calls that cut them. When that is done is left to
//! whoever runs it, getting rid of the entries to the store.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jid::BareJid;

use crate::archive::Archive;
use crate::entry::Timestamp;
use crate::retention::{ExpiresAfter, Quota};
use crate::store::{ArchiveInfo, Cut, StoreError};

/// How many archives one step of an expiry asks the store for.
const STEP: usize = 1000;
/// So many archives are cut at a time: enough for a store to make many cuts durable with one sync, few enough for
/// an append that comes meanwhile not to wait long behind them.
pub const UNDER_WAY_MAX: usize = 64;

/// What one expiry did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Archives that lost entries.
    pub archives: u64,
    /// Entries that went.
    pub entries: u64,
    /// Of those, the entries that went for a quota rather than their age.
    pub by_quota: u64,
    /// How late the latest of them went, in seconds past its time.
    pub lag_seconds: u64,
}

/// What is to be cut of one archive.
#[derive(Default)]
struct Due {
    before: Option<Timestamp>,
    keep_newest: Option<u64>,
    keep_bytes: Option<u64>,
    lag_seconds: u64,
}

impl Due {
    /// What `info` says is over; `None` when nothing is, so that the store is not asked.
    fn of(info: &ArchiveInfo, now: Timestamp, default: ExpiresAfter, quota: Quota) -> Option<Due> {
        let mut due = Due::default();
        let oldest = info.first_stamp.filter(|_| info.head.count() > 0)?;
        if let Some(cut_off) = info.expires_after.unwrap_or(default).cut_off(now)
            && oldest < cut_off
        {
            due.before = Some(cut_off);
            due.lag_seconds = u64::try_from(cut_off.0.saturating_sub(oldest.0) / SECOND).unwrap_or(0);
        }
        due.keep_newest = quota.entries.filter(|entries| info.head.count() > *entries);
        due.keep_bytes = quota.bytes.filter(|bytes| info.bytes > *bytes);
        (due.before.is_some() || due.keep_newest.is_some() || due.keep_bytes.is_some()).then_some(due)
    }
}

/// Microseconds.
const SECOND: i64 = 1_000_000;

impl Archive {
    /// Lets go what every archive no longer keeps at `now`: by its own period or else by `default`, and by
    /// `quota`. Goes through the archives in bounded steps, [`UNDER_WAY_MAX`] at a time; only those that have
    /// something to let go cost more than a look.
    ///
    /// # Errors
    /// The store's first error; what went before it has gone, and perhaps some of what was under way.
    pub async fn expire(
        &self,
        now: Timestamp,
        default: ExpiresAfter,
        quota: Quota,
    ) -> Result<Expired, StoreError> {
        let mut report = Expired::default();
        let mut after: Option<BareJid> = None;
        loop {
            let step = self.store().owners(after.as_ref(), STEP).await?;
            let Some(last) = step.last() else { return Ok(report) };
            after = Some(last.owner.clone());
            let mut due = step
                .iter()
                .filter_map(|info| Some((&info.owner, Due::of(info, now, default, quota)?)))
                .map(|(owner, due)| self.expire_one(owner, due));
            let mut failed = None;
            let mut under_way = FuturesUnordered::new();
            under_way.extend(due.by_ref().take(UNDER_WAY_MAX));
            // Those under way are always waited for.
            while let Some(done) = under_way.next().await {
                match done {
                    Ok(one) => report.add(one),
                    Err(error) => drop(failed.get_or_insert(error)),
                }
                if failed.is_none() {
                    under_way.extend(due.next());
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    async fn expire_one(&self, owner: &BareJid, due: Due) -> Result<Expired, StoreError> {
        let mut gone = Expired { lag_seconds: due.lag_seconds, ..Expired::default() };
        if let Some(cut_off) = due.before {
            gone.entries += self.store().expire(owner, Cut::Before(cut_off)).await?;
        }
        let for_quota = [due.keep_newest.map(Cut::KeepNewest), due.keep_bytes.map(Cut::KeepBytes)];
        for cut in for_quota.into_iter().flatten() {
            gone.by_quota += self.store().expire(owner, cut).await?;
        }
        gone.entries += gone.by_quota;
        gone.archives = u64::from(gone.entries > 0);
        Ok(gone)
    }
}

impl Expired {
    fn add(&mut self, one: Expired) {
        self.archives += one.archives;
        self.entries += one.entries;
        self.by_quota += one.by_quota;
        self.lag_seconds = self.lag_seconds.max(one.lag_seconds);
    }
}
