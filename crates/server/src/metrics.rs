//! What the server counts, and how it shows it to Prometheus. What each figure tells an operator is in
//! `docs/operations.md`.

use std::sync::OnceLock;

use mammoth_archive::Stats;
use mammoth_wire::eligible::Kept;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Why a message was archived or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The figures of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    appended: Counter,
    kept: Family<Reason, Counter>,
    /// Those of `kept`, each looked up once.
    kept_known: [OnceLock<Counter>; Kept::ALL.len()],
    dropped: Family<Reason, Counter>,
    /// Copies handed to clients.
    pub delivered: Counter,
    /// Pages answered.
    pub pages: Counter,
    /// Seconds from a query to its last result being queued.
    pub page_seconds: Histogram,
    commit_seconds: Histogram,
    commit_entries: Histogram,
    /// Entries that have become tombstones.
    pub retracted: Counter,
    /// Entries gone by age.
    pub expired: Counter,
    /// Entries gone by quota.
    pub expired_by_quota: Counter,
    /// How late the last expiry came for the oldest entry it let go, in seconds.
    pub expiry_lag_seconds: Gauge,
    /// Bound sessions.
    pub sessions: Gauge,
    /// Open connections, logged in or not.
    pub connections: Gauge,
    /// Active lanes.
    pub lanes: Gauge,
    /// Logins refused.
    pub logins_refused: Counter,
    /// Streams closed with an error of the client's making.
    pub stream_errors: Counter,
    /// Failures of the store.
    pub store_errors: Counter,
    archives: Gauge,
    entries: Gauge,
    disk_bytes: Gauge,
    store_details: Family<Vec<(&'static str, &'static str)>, Gauge>,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("mammoth");
        let seconds = || Histogram::new(exponential_buckets(0.0001, 2.0, 17));
        let metrics = Metrics {
            appended: Counter::default(),
            kept: Family::default(),
            kept_known: std::array::from_fn(|_| OnceLock::new()),
            dropped: Family::default(),
            delivered: Counter::default(),
            pages: Counter::default(),
            page_seconds: seconds(),
            commit_seconds: seconds(),
            commit_entries: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            retracted: Counter::default(),
            expired: Counter::default(),
            expired_by_quota: Counter::default(),
            expiry_lag_seconds: Gauge::default(),
            sessions: Gauge::default(),
            connections: Gauge::default(),
            lanes: Gauge::default(),
            logins_refused: Counter::default(),
            stream_errors: Counter::default(),
            store_errors: Counter::default(),
            archives: Gauge::default(),
            entries: Gauge::default(),
            disk_bytes: Gauge::default(),
            store_details: Family::default(),
            registry: Registry::default(),
        };
        registry.register("appended", "Messages appended to archives", metrics.appended.clone());
        registry.register("kept", "Messages archived, by reason", metrics.kept.clone());
        registry.register("dropped", "Messages not archived, by reason", metrics.dropped.clone());
        registry.register("delivered", "Copies handed to clients", metrics.delivered.clone());
        registry.register("pages", "Archive pages answered", metrics.pages.clone());
        let unit = Unit::Seconds;
        registry.register_with_unit(
            "page",
            "From query to last result",
            unit.clone(),
            metrics.page_seconds.clone(),
        );
        registry.register_with_unit(
            "commit",
            "From append to durable",
            unit.clone(),
            metrics.commit_seconds.clone(),
        );
        registry.register("commit_entries", "Messages in one append", metrics.commit_entries.clone());
        registry.register("retracted", "Entries that became tombstones", metrics.retracted.clone());
        registry.register("expired", "Entries gone by age", metrics.expired.clone());
        registry.register("expired_by_quota", "Entries gone by quota", metrics.expired_by_quota.clone());
        let lag = metrics.expiry_lag_seconds.clone();
        registry.register_with_unit("expiry_lag", "Lateness of the last expiry", unit, lag);
        registry.register("sessions", "Bound sessions", metrics.sessions.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("lanes", "Archives being written to", metrics.lanes.clone());
        registry.register("logins_refused", "Logins refused", metrics.logins_refused.clone());
        registry.register("stream_errors", "Streams closed with an error", metrics.stream_errors.clone());
        registry.register("store_errors", "Failures of the store", metrics.store_errors.clone());
        registry.register("archives", "Archives that hold entries", metrics.archives.clone());
        registry.register("entries", "Entries held", metrics.entries.clone());
        registry.register_with_unit("disk", "Size of the store", Unit::Bytes, metrics.disk_bytes.clone());
        registry.register("store", "Figures of this kind of store", metrics.store_details.clone());
        Metrics { registry, ..metrics }
    }

    /// Counts a message that was worth keeping and wanted.
    pub fn kept(&self, why: Kept) {
        let counter = || self.kept.get_or_create(&Reason { reason: why.code() }).clone();
        if let Some(known) = self.kept_known.get(why as usize) {
            known.get_or_init(counter).inc();
        }
    }

    /// Counts a message that is not archived.
    pub fn dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&Reason { reason }).inc();
    }

    /// Counts an append that has become durable.
    pub fn committed(&self, entries: usize, seconds: f64) {
        self.appended.inc_by(entries as u64);
        self.commit_entries.observe(entries as f64);
        self.commit_seconds.observe(seconds);
    }

    /// Notes what the store says of itself.
    pub fn stored(&self, stats: &Stats) {
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.archives.set(gauge(stats.archives));
        self.entries.set(gauge(stats.entries));
        self.disk_bytes.set(gauge(stats.disk_bytes));
        for (name, value) in &stats.details {
            self.store_details.get_or_create(&vec![("figure", *name)]).set(gauge(*value));
        }
    }

    /// Everything in the text format of Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string fails only where a metric's own encoding does, and these are the library's.
        if encode(&mut out, &self.registry).is_err() {
            out.clear();
        }
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}
