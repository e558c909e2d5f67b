//! Pages of one archive, however large: each kind of query many times, warm, after the archive has been sealed and
//! merged. A frequent contact has a third of the entries, a rare one ten, the others a thousandth or so.

use std::sync::Arc;

use mammoth_archive::jid::{BareJid, Jid};
use mammoth_archive::{ArchiveStore, Filter, NewEntry, PageRequest, PageStart, Position, Query, Timestamp};
use mammoth_store_embedded::{EmbeddedStore, Options};

use crate::clock::Start;
use crate::data::{Random, Source};
use crate::report::{Times, memory};

const QUERIES: usize = 2000;
const PAGE: usize = 50;
const RARE: u64 = 10;
const BATCH: u64 = 1000;

async fn fill(
    store: &Arc<EmbeddedStore>,
    owner: &BareJid,
    entries: u64,
    contact: impl Fn(&mut Random, u64) -> Jid,
) -> Source {
    let mut source = Source::new(3, entries);
    let mut random = Random(9);
    let mut made = 0;
    while made < entries {
        let batch: Vec<NewEntry> = (made..(made + BATCH).min(entries))
            .map(|n| {
                let with = contact(&mut random, n);
                source.entry(owner.as_str(), &with, n)
            })
            .collect();
        let count = batch.len() as u64;
        store.append(owner, Position(made as i64), batch.into()).await.unwrap();
        made += count;
    }
    store.seal().await.unwrap();
    source
}

fn named(name: &str) -> Jid {
    Jid::new(&format!("{name}@example.net/phone")).unwrap()
}

fn bare(name: &str) -> Option<Jid> {
    Some(Jid::new(&format!("{name}@example.net")).unwrap())
}

type Queries = Vec<(&'static str, Box<dyn FnMut() -> Query<Position>>)>;

async fn measure(
    store: &Arc<EmbeddedStore>,
    owner: &BareJid,
    queries: &mut Queries,
) -> Vec<(&'static str, u64, u64)> {
    let mut figures = Vec::new();
    for (what, query) in queries {
        let mut times = Times::default();
        for i in 0..QUERIES + 200 {
            let query = query();
            let start = Start::now();
            let page = store.page(owner, query).await.unwrap();
            if i >= 200 {
                times.add(start.elapsed());
            }
            std::hint::black_box(page);
        }
        figures.push((*what, times.permille(500), times.permille(990)));
    }
    figures
}

fn queries(entries: u64, source: &Source) -> Queries {
    let page = |max, start| PageRequest { max, start };
    let with = |with: Option<Jid>| Filter { with, ..Filter::default() };
    let any = move |random: &mut Random| Position(random.below(entries) as i64);
    let (first, last) = (source.stamp(0).0, source.stamp(entries).0);
    let mut random = Random(11);
    let mut r = move || {
        random.0 = random.0.wrapping_add(1);
        random.clone()
    };
    let (mut r1, mut r2, mut r3, mut r4, mut r5) = (r(), r(), r(), r(), r());
    let mut r6 = r();
    vec![
        (
            "last page",
            Box::new(move || Query { filter: Filter::default(), page: page(PAGE, PageStart::Last) }),
        ),
        (
            "after an id",
            Box::new(move || Query {
                filter: Filter::default(),
                page: page(PAGE, PageStart::After(any(&mut r1))),
            }),
        ),
        (
            "before an id",
            Box::new(move || Query {
                filter: Filter::default(),
                page: page(PAGE, PageStart::Before(any(&mut r2))),
            }),
        ),
        (
            "from a date",
            Box::new(move || {
                let start = Some(Timestamp(first + r3.below((last - first) as u64) as i64));
                Query { filter: Filter { start, ..Filter::default() }, page: page(PAGE, PageStart::First) }
            }),
        ),
        (
            "jump to an index",
            Box::new(move || Query {
                filter: Filter::default(),
                page: page(PAGE, PageStart::Index(r4.below(entries))),
            }),
        ),
        (
            "frequent: last page",
            Box::new(move || Query { filter: with(bare("frequent")), page: page(PAGE, PageStart::Last) }),
        ),
        (
            "frequent: after an id",
            Box::new(move || Query {
                filter: with(bare("frequent")),
                page: page(PAGE, PageStart::After(any(&mut r5))),
            }),
        ),
        (
            "frequent: jump",
            Box::new(move || Query {
                filter: with(bare("frequent")),
                page: page(PAGE, PageStart::Index(r6.below(entries / 3))),
            }),
        ),
        (
            "rare: last page",
            Box::new(move || Query { filter: with(bare("rare")), page: page(PAGE, PageStart::Last) }),
        ),
        (
            "never talked to",
            Box::new(move || Query { filter: with(bare("never")), page: page(PAGE, PageStart::Last) }),
        ),
        ("count", Box::new(move || Query { filter: Filter::default(), page: page(0, PageStart::First) })),
        (
            "frequent: count",
            Box::new(move || Query { filter: with(bare("frequent")), page: page(0, PageStart::First) }),
        ),
        (
            "rare: count",
            Box::new(move || Query { filter: with(bare("rare")), page: page(0, PageStart::First) }),
        ),
    ]
}

pub async fn sizes(sizes: &[u64]) {
    let mut columns = Vec::new();
    for &entries in sizes {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
        let owner = BareJid::new("owner@example.org").unwrap();
        let rare_every = (entries / RARE).max(1);
        let source = fill(&store, &owner, entries, |random, n| match random.below(3) {
            _ if n % rare_every == 5 => named("rare"),
            0 => named("frequent"),
            _ => named(&format!("other{}", random.zipf(1000))),
        })
        .await;
        let stats = store.stats().await.unwrap();
        let segments = stats.details.iter().find(|(name, _)| *name == "segments").map_or(0, |(_, n)| *n);
        println!("{entries} entries in one archive: {segments} segments, {}", memory());
        columns.push(measure(&store, &owner, &mut queries(entries, &source)).await);
    }
    print!("{:<24}", "p50 / p99 µs");
    for entries in sizes {
        print!("{entries:>18}");
    }
    println!("{:>12}", "last/first");
    for row in 0..columns[0].len() {
        print!("{:<24}", columns[0][row].0);
        for column in &columns {
            print!("{:>18}", format!("{} / {}", column[row].1, column[row].2));
        }
        let (first, last) = (columns[0][row].1, columns[columns.len() - 1][row].1);
        println!("{:>12.2}", last as f64 / first.max(1) as f64);
    }
}

/// One archive of a thousand conversations, each as large as the others.
pub async fn conversations(entries: u64) {
    for entries in [1000, entries] {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
        let owner = BareJid::new("owner@example.org").unwrap();
        fill(&store, &owner, entries, |random, _| named(&format!("other{}", random.below(1000)))).await;
        let mut random = Random(5);
        let mut queries: Queries = Vec::new();
        for (what, max) in [("last page of one in a thousand", PAGE), ("count of one in a thousand", 0)] {
            let mut random = random.clone();
            queries.push((
                what,
                Box::new(move || {
                    let with = bare(&format!("other{}", random.below(1000)));
                    let filter = Filter { with, ..Filter::default() };
                    Query { filter, page: PageRequest { max, start: PageStart::Last } }
                }),
            ));
        }
        random.next();
        for (what, p50, p99) in measure(&store, &owner, &mut queries).await {
            println!("{entries} entries, {what}: p50 {p50} p99 {p99} µs");
        }
    }
}
