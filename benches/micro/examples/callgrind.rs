//! Does one hot path so many times and nothing else, for counting its instructions: `callgrind route 1000`. The
//! difference between two counts is free of what starting costs; `benches/callgrind` takes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{env, hint::black_box};

use jid::Jid;
use mammoth_benches as paths;

fn main() {
    let mut arguments = env::args().skip(1);
    let (path, times) = (arguments.next().unwrap(), arguments.next().unwrap().parse::<i64>().unwrap());
    let (mint, owner) = (paths::mint(), paths::owner());
    match path.as_str() {
        "route" => {
            let mut reader = paths::opened();
            for position in 0..times {
                black_box(paths::route(&mut reader, &mint, &owner, position));
            }
        }
        "results" => {
            let page = paths::results_page(&mint);
            let (from, to) = (Jid::from(owner), Jid::new("a17@localhost/bench").unwrap());
            for _ in 0..times {
                black_box(paths::results(&page, &from, &to));
            }
        }
        other => panic!("no such path: {other}"),
    }
}
