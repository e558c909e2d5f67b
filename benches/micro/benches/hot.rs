//! Times of the server's hot paths: a stanza through the stream layer, an append, a page, its results. The paths
//! themselves are in `src/lib.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jid::Jid;
use mammoth_benches::{self as paths, BATCH, MESSAGE, PAGE};
use mammoth_store_embedded::{EmbeddedStore, Options};
use tokio::runtime::Builder;

fn wire(c: &mut Criterion) {
    let (mint, owner) = (paths::mint(), paths::owner());
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Bytes(MESSAGE.len() as u64));
    group.bench_function("split, skim and splice a message", |b| {
        let mut reader = paths::opened();
        let mut position = 0;
        b.iter(|| {
            position += 1;
            black_box(paths::route(&mut reader, &mint, &owner, position))
        });
    });
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("splice the results of a page", |b| {
        let page = paths::results_page(&mint);
        let (from, to) = (Jid::from(owner.clone()), Jid::new("a17@localhost/bench").unwrap());
        b.iter(|| black_box(paths::results(&page, &from, &to)));
    });
    group.finish();
}

fn store(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
    let owner = paths::owner();
    let mut next = 0;
    let mut group = c.benchmark_group("store");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("append a batch, durably", |b| {
        b.iter(|| {
            runtime.block_on(paths::append(store.as_ref(), &owner, next));
            next += BATCH as i64;
        });
    });
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("read a page", |b| {
        let mut after = 0;
        b.iter(|| {
            after = (after + 7919) % (next - PAGE as i64);
            black_box(runtime.block_on(paths::page(store.as_ref(), &owner, after)))
        });
    });
    group.finish();
    store.close();
}

criterion_group!(hot, wire, store);
criterion_main!(hot);
