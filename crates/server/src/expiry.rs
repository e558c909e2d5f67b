//! Path (c): a timer lets every archive's old entries go, and measures how late it was. Which entries those are is
//! left to `archive`, getting rid of them to the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info};

use crate::clock;
use crate::house::House;
use crate::stopping;

/// Lets old entries go now and then every `expiry_interval_seconds`, until stopped.
pub async fn run(house: Arc<House>, mut stop: watch::Receiver<bool>) {
    let interval = Duration::from_secs(house.settings.expiry_interval_seconds.max(1));
    loop {
        once(&house).await;
        tokio::select! {
            () = stopping(&mut stop) => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Lets old entries go once, and takes the store's figures.
pub async fn once(house: &House) {
    let settings = &house.settings;
    match house.archive.expire(clock::now(), settings.expires_after, settings.quota).await {
        Ok(expired) => {
            house.metrics.expired.inc_by(expired.entries.saturating_sub(expired.by_quota));
            house.metrics.expired_by_quota.inc_by(expired.by_quota);
            house.metrics.expiry_lag_seconds.set(i64::try_from(expired.lag_seconds).unwrap_or(i64::MAX));
            if expired.entries > 0 {
                info!(
                    archives = expired.archives,
                    entries = expired.entries,
                    by_quota = expired.by_quota,
                    lag_seconds = expired.lag_seconds,
                    "expired"
                );
            }
        }
        Err(error) => {
            house.metrics.store_errors.inc();
            error!(%error, "cannot expire");
        }
    }
    match house.archive.store().stats().await {
        Ok(stats) => house.metrics.stored(&stats),
        Err(error) => error!(%error, "the store does not tell its size"),
    }
}
