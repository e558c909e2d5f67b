//! `mammoth archive stats`: how much the store holds, and whether expiry keeps up. The figures are the store's own; the
//! same are on the metrics page of a running server.

use std::io::{self, Write};

use mammoth_archive::{ArchiveStore, ExpiresAfter, Stats, Timestamp};
use serde_json::json;

use super::progress::{self, Far};
use super::{Format, grouped, sized};
use crate::Where;
use crate::backend::{self, Access};

/// How many archives are looked at in one step.
const STEP: usize = 1000;

/// The arguments of `mammoth archive stats`.
#[derive(clap::Args)]
pub struct StatsArguments {
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    at: Where,
}

/// Does what the command says.
pub fn run(arguments: &StatsArguments) -> anyhow::Result<()> {
    let place = arguments.at.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = async |far: &Far| {
        let stores = backend::open(&place.data, place.settings.as_ref(), Access::Read).await?;
        let stats = stores.archives.stats().await?;
        far.is(0, stats.archives);
        let default = place.settings.as_ref().map(|settings| settings.archive.expires_after);
        let ages = ages(stores.archives.as_ref(), mammoth_server::clock::now(), default, far).await?;
        anyhow::Ok((stats, ages))
    };
    let (stats, ages) = progress::shown("reading archives", |far| runtime.block_on(figures(far)))?;
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Text => write_text(&mut out, &stats, &ages),
        Format::Json => write_json(&mut out, &stats, &ages),
    }
}

/// What the archives' oldest entries tell.
struct Ages {
    oldest: Option<Timestamp>,
    /// How far the most overdue entry is past its time, in seconds; `None` when no period is known.
    lag_seconds: Option<u64>,
    stanza_bytes: u64,
}

/// Goes through all archives. Without a configuration there is no default period, and then only archives with a period
/// of their own can be late.
async fn ages(
    store: &dyn ArchiveStore,
    now: Timestamp,
    default: Option<ExpiresAfter>,
    far: &Far,
) -> anyhow::Result<Ages> {
    let mut ages = Ages { oldest: None, lag_seconds: default.map(|_| 0), stanza_bytes: 0 };
    let mut after = None;
    loop {
        let step = store.owners(after.as_ref(), STEP).await?;
        let Some(last) = step.last() else { return Ok(ages) };
        after = Some(last.owner.clone());
        for info in &step {
            ages.stanza_bytes += info.bytes;
            let Some(oldest) = info.first_stamp else { continue };
            far.add(1);
            ages.oldest = Some(ages.oldest.map_or(oldest, |so_far| so_far.min(oldest)));
            let cut_off = info.expires_after.or(default).and_then(|period| period.cut_off(now));
            if let Some(late) = cut_off.map(|cut_off| cut_off.0.saturating_sub(oldest.0) / 1_000_000) {
                let late = u64::try_from(late).unwrap_or(0);
                ages.lag_seconds = Some(ages.lag_seconds.map_or(late, |so_far| so_far.max(late)));
            }
        }
    }
}

fn write_json(out: &mut impl Write, stats: &Stats, ages: &Ages) -> anyhow::Result<()> {
    let details: serde_json::Map<String, serde_json::Value> =
        stats.details.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let all = json!({
        "archives": stats.archives,
        "entries": stats.entries,
        "disk_bytes": stats.disk_bytes,
        "stanza_bytes": ages.stanza_bytes,
        "oldest": ages.oldest.map(mammoth_wire::datetime::write),
        "expiry_lag_seconds": ages.lag_seconds,
        "store": details,
    });
    Ok(writeln!(out, "{all}")?)
}

fn write_text(out: &mut impl Write, stats: &Stats, ages: &Ages) -> anyhow::Result<()> {
    let mut line = |name: &str, value: String| writeln!(out, "{name:<26}{value}");
    line("archives", grouped(stats.archives))?;
    line("messages", grouped(stats.entries))?;
    let each = match stats.disk_bytes.checked_div(stats.entries) {
        Some(each) => format!(", {} for each message", sized(each)),
        None => String::new(),
    };
    line("on disk", format!("{}{each}", sized(stats.disk_bytes)))?;
    line("stanzas, uncompressed", sized(ages.stanza_bytes))?;
    line("oldest message", ages.oldest.map_or_else(|| "none".to_owned(), mammoth_wire::datetime::write))?;
    let lag = match ages.lag_seconds {
        Some(seconds) => format!("{} seconds", grouped(seconds)),
        None => "not known without a configuration (--config)".to_owned(),
    };
    line("expiry lag", lag)?;
    for (name, value) in &stats.details {
        let shown = if name.ends_with("_bytes") { sized(*value) } else { grouped(*value) };
        line(&name.trim_end_matches("_bytes").replace('_', " "), shown)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mammoth_archive::{IdKey, MemoryStore, NewEntry, Position, SettingsChange};

    use super::*;

    #[tokio::test]
    async fn how_late_the_latest_is() {
        let store = MemoryStore::new(IdKey([7; 16]));
        for (owner, seconds) in [("alice@x", 100), ("bob@x", 200)] {
            let entry = NewEntry {
                with: "eve@x".parse().unwrap(),
                stamp: Timestamp(seconds * 1_000_000),
                stanza: "<message/>".into(),
                message_id: None,
                foreign_id: None,
            };
            store.append(&owner.parse().unwrap(), Position(0), Arc::new([entry])).await.unwrap();
        }
        let now = Timestamp(300_000_000);
        let lag = async |default| ages(&store, now, default, &Far::default()).await.unwrap().lag_seconds;
        assert_eq!(lag(Some(ExpiresAfter::Seconds(150))).await, Some(50), "alice's");
        assert_eq!(lag(Some(ExpiresAfter::Seconds(201))).await, Some(0));
        assert_eq!(lag(Some(ExpiresAfter::Never)).await, Some(0));
        assert_eq!(lag(None).await, None);
        let own = SettingsChange::ExpiresAfter(Some(ExpiresAfter::Seconds(1)));
        store.set(&"bob@x".parse().unwrap(), own).await.unwrap();
        assert_eq!(lag(None).await, Some(99));
        let ages = ages(&store, now, None, &Far::default()).await.unwrap();
        assert_eq!((ages.oldest, ages.stanza_bytes), (Some(Timestamp(100_000_000)), 20));
    }
}
