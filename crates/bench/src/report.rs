//! Turns result lines into Markdown tables: medians over the rounds with their ranges, one row per case, one column
//! per server. The plot of cost against depth is drawn by `plot`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{plot, result::Record};

/// Which results, and where tables and plot go.
#[derive(Debug, Args)]
pub struct Report {
    /// Files of JSON lines.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The server compared with the best of the others.
    #[arg(long, default_value = "mammoth")]
    subject: String,
    /// Draw plots into this directory.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// What a table shows of a scenario, and whether more is better.
const SHOWN: &[(&str, &str, Better)] = &[
    ("ingest", "messages_per_s", Better::More),
    ("ingest", "p50_ms", Better::Less),
    ("ingest", "p99_ms", Better::Less),
    ("null", "messages_per_s", Better::More),
    ("null", "p50_ms", Better::Less),
    ("fill", "messages_per_s", Better::More),
    ("page", "messages_per_s", Better::More),
    ("page", "p50_ms", Better::Less),
    ("page", "p99_ms", Better::Less),
    ("catchup", "p50_ms", Better::Less),
    ("catchup", "login_p50_ms", Better::Less),
    ("catchup", "page_p50_ms", Better::Less),
    ("mixed", "p50_ms", Better::Less),
    ("mixed", "p99_ms", Better::Less),
    ("mixed", "p99_ratio", Better::Less),
    ("mixed", "walked_messages_per_s", Better::More),
    ("cold", "login_ms", Better::Less),
    ("cold", "first_page_ms", Better::Less),
    ("idle", "before_mb", Better::Less),
    ("idle", "per_session_kb", Better::Less),
    ("limits", "syncs_per_s", Better::More),
    ("limits", "p50_ms", Better::Less),
    ("limits", "gb_per_s", Better::More),
];

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    More,
    Less,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    scenario: String,
    depth: u64,
    order: usize,
    case: String,
    metric: &'static str,
}

/// The values of one server in one row, one per round.
#[derive(Debug, Default)]
struct Cell {
    values: Vec<f64>,
    faulty: bool,
    broken_off: bool,
}

impl Cell {
    fn median(&self) -> Option<f64> {
        median(&self.values)
    }

    fn text(&self) -> String {
        let Some(median) = self.median() else { return String::new() };
        let mut text = number(median);
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.values.len() > 1 {
            let _infallible = write!(text, " ({}–{})", number(low), number(high));
        }
        if self.broken_off {
            text.push_str(" †");
        }
        if self.faulty {
            text.push_str(" ⚠");
        }
        text
    }
}

impl Report {
    /// Writes the tables to standard output and the plots to their directory.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn write(&self) -> Result<()> {
        let mut records = Vec::new();
        for file in &self.files {
            let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let record: Record = serde_json::from_str(line)
                    .with_context(|| format!("{}, line {}", file.display(), n + 1))?;
                records.push(record);
            }
        }
        print!("{}", tables(&records, &self.subject));
        if let Some(dir) = &self.plots {
            plot::depth(&records, &dir.join("depth.svg"))?;
        }
        Ok(())
    }
}

/// All tables, and the faults below them.
fn tables(records: &[Record], subject: &str) -> String {
    let mut rows: BTreeMap<Row, BTreeMap<&str, Cell>> = BTreeMap::new();
    let mut cases: Vec<&str> = Vec::new();
    for record in records {
        let order = cases.iter().position(|case| *case == record.case).unwrap_or_else(|| {
            cases.push(&record.case);
            cases.len() - 1
        });
        for (scenario, metric, _) in SHOWN {
            if *scenario != record.scenario {
                continue;
            }
            let Some(value) = record.metrics.get(*metric) else { continue };
            let row = Row {
                scenario: record.scenario.clone(),
                depth: record.params.get("depth").copied().unwrap_or(0),
                order,
                case: record.case.clone(),
                metric,
            };
            let cell = rows.entry(row).or_default().entry(&record.server).or_default();
            cell.values.push(*value);
            cell.faulty |= !record.verified;
            cell.broken_off |= record.metrics.get("finished") == Some(&0.0);
        }
    }
    let mut out = String::new();
    let scenarios: Vec<&str> =
        ["limits", "null", "ingest", "fill", "page", "catchup", "mixed", "cold", "idle"].into();
    for scenario in scenarios {
        let of: Vec<_> = rows.iter().filter(|(row, _)| row.scenario == scenario).collect();
        if !of.is_empty() {
            table(&mut out, scenario, &of, subject);
        }
    }
    faults(&mut out, records);
    out
}

fn table(out: &mut String, scenario: &str, rows: &[(&Row, &BTreeMap<&str, Cell>)], subject: &str) {
    let mut servers: Vec<&str> = rows
        .iter()
        .flat_map(|(_, cells)| cells.keys().copied())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    servers.sort_by_key(|server| *server != subject);
    let compared = servers.first() == Some(&subject) && servers.len() > 1;
    let _infallible = write!(out, "### {scenario}\n\n| case | measured | {} |", servers.join(" | "));
    out.push_str(if compared { " against the best other |\n" } else { "\n" });
    out.push_str("|---|---|");
    out.push_str(&"---:|".repeat(servers.len() + usize::from(compared)));
    out.push('\n');
    for (row, cells) in rows {
        let depth = if row.depth > 0 && scenario != "fill" {
            format!(", {}", grouped(row.depth))
        } else {
            String::new()
        };
        let _infallible = write!(out, "| {}{depth} | {} |", row.case, name(row.metric));
        for server in &servers {
            let text = cells.get(server).map_or_else(|| "–".to_owned(), Cell::text);
            let _infallible = write!(out, " {text} |");
        }
        if compared {
            let _infallible = write!(out, " {} |", against(row, cells, subject));
        }
        out.push('\n');
    }
    out.push('\n');
}

/// How many times better the subject is than the best of the others.
fn against(row: &Row, cells: &BTreeMap<&str, Cell>, subject: &str) -> String {
    let better = SHOWN.iter().find(|(s, m, _)| *s == row.scenario && *m == row.metric).map(|(_, _, b)| *b);
    let own = cells.get(subject).and_then(Cell::median);
    let others = cells.iter().filter(|(server, _)| **server != subject).filter_map(|(_, cell)| cell.median());
    let ratio = match better {
        Some(Better::More) => own.zip(others.reduce(f64::max)).map(|(own, best)| own / best),
        Some(Better::Less) => own.zip(others.reduce(f64::min)).map(|(own, best)| best / own),
        None => None,
    };
    ratio.filter(|r| r.is_finite()).map_or_else(|| "–".to_owned(), |r| format!("× {}", number(r)))
}

fn faults(out: &mut String, records: &[Record]) {
    let faulty: Vec<&Record> = records.iter().filter(|record| !record.verified).collect();
    if faulty.is_empty() {
        out.push_str(
            "Everything checked was right: each message once, in order and whole, on every server.\n",
        );
        return;
    }
    out.push_str("Wrong answers (⚠ above):\n\n");
    for record in faulty {
        let first = record.faults.first().map_or("", String::as_str);
        let first: String = first.chars().take(200).collect();
        let _infallible = writeln!(
            out,
            "- {} {}/{}, round {}: {} times, first: `{first}`",
            record.server, record.scenario, record.case, record.round, record.faults_total
        );
    }
}

/// The middle value, or the mean of the two middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

fn name(metric: &str) -> String {
    metric
        .replace("_per_s", "/s")
        .replace("_ms", ", ms")
        .replace("_mb", ", MiB")
        .replace("_kb", ", KiB")
        .replace('_', " ")
}

/// Three digits, thousands grouped.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => grouped(value.round() as u64),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn record(server: &str, scenario: &str, case: &str, round: u32, metric: &str, value: f64) -> Record {
        Record {
            server: server.to_owned(),
            durability: String::new(),
            scenario: scenario.to_owned(),
            case: case.to_owned(),
            round,
            at_unix_s: 0,
            params: BTreeMap::new(),
            metrics: [(metric.to_owned(), value)].into(),
            verified: true,
            faults_total: 0,
            faults: Vec::new(),
        }
    }

    #[test]
    fn a_table_has_medians_ranges_and_the_comparison() {
        let mut records: Vec<Record> = [(1, 30_000.0), (2, 10_000.0), (3, 20_000.0)]
            .into_iter()
            .map(|(round, v)| record("mammoth", "ingest", "100 pairs", round, "messages_per_s", v))
            .collect();
        records.push(record("prosody", "ingest", "100 pairs", 1, "messages_per_s", 1_000.0));
        records.push(record("ejabberd", "ingest", "100 pairs", 1, "messages_per_s", 500.0));
        let text = tables(&records, "mammoth").replace('\u{202f}', " ");
        assert!(
            text.contains("| case | measured | mammoth | ejabberd | prosody | against the best other |"),
            "{text}"
        );
        assert!(text.contains("| 20 000 (10 000–30 000) | 500 | 1 000 | × 20.0 |"), "{text}");
        assert!(text.contains("Everything checked was right"));
    }

    #[test]
    fn less_is_better_for_latency_and_faults_are_told() {
        let mut slow = record("prosody", "page", "last page", 1, "p50_ms", 30.0);
        slow.verified = false;
        slow.faults_total = 2;
        slow.faults = vec!["an id came twice".to_owned()];
        let fast = record("mammoth", "page", "last page", 1, "p50_ms", 0.5);
        let text = tables(&[slow, fast], "mammoth");
        assert!(text.contains("| last page | p50, ms | 0.500 | 30.0 ⚠ | × 60.0 |"), "{text}");
        assert!(text.contains("2 times, first: `an id came twice`"));
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[2.0, 1.0]), Some(1.5));
    }
}
