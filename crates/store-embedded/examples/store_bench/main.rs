//! The store's benchmark: appends, pages, expiry, each figure with what it was measured on.
//!
//! ```text
//! cargo run --release -p mammoth-store-embedded --example store_bench -- load [ENTRIES] [OWNERS] [GROUPS AT ONCE] [DIR]
//! cargo run --release -p mammoth-store-embedded --example store_bench -- pages [ENTRIES…]
//! cargo run --release -p mammoth-store-embedded --example store_bench -- conversations [ENTRIES]
//! cargo run --release -p mammoth-store-embedded --example store_bench -- commits [MESSAGES]
//! ```
//!
//! `load` appends in groups of 500, then asks for quiet owners' pages, then expires the oldest tenth.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

/// The server's, so that figures are the server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod clock;
mod commits;
mod data;
mod load;
mod pages;
mod report;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let number = |i: usize, default: u64| {
        rest.get(i).map_or(default, |n| n.replace('_', "").parse().expect("a number"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match what.as_str() {
        "load" => runtime.block_on(load::run(
            number(0, 1_000_000),
            number(1, 100_000) as usize,
            number(2, 2) as usize,
            rest.get(3).map(String::as_str),
        )),
        "pages" => {
            let sizes: Vec<u64> = match rest.is_empty() {
                true => vec![1_000, 100_000, 1_000_000],
                false => (0..rest.len()).map(|i| number(i, 0)).collect(),
            };
            runtime.block_on(pages::sizes(&sizes));
        }
        "conversations" => runtime.block_on(pages::conversations(number(0, 1_000_000))),
        "commits" => runtime.block_on(commits::run(number(0, 5000))),
        _ => {
            println!("say load, pages, conversations or commits; see the top of examples/store_bench/main.rs")
        }
    }
}
