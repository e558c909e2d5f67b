//! Tells on standard error how far a scenario is: a bar on a terminal, a line now and then elsewhere. Costs the load
//! one atomic addition.

use std::{
    io::{IsTerminal, stderr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(250);
const REDRAWS_PER_LINE: u32 = 40;

/// A running display; it ends when dropped.
#[derive(Debug)]
pub struct Progress {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to display; `total` is 0 when the end is not known as a number.
    pub fn start(what: &str, total: u64) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (what, done, stop) = (what.to_owned(), Arc::clone(&done), Arc::clone(&stop));
            thread::spawn(move || display(&what, total, &done, &stop))
        };
        Self { done, stop, thread: Some(thread) }
    }

    /// The counter to add to.
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.done)
    }

    /// Counts some more.
    pub fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _joined = thread.join();
        }
    }
}

fn display(what: &str, total: u64, done: &AtomicU64, stop: &AtomicBool) {
    let bar = if total == 0 { ProgressBar::no_length() } else { ProgressBar::new(total) };
    let template = if total == 0 {
        "{msg} {spinner} {human_pos} ({per_sec}) {elapsed}"
    } else {
        "{msg} [{bar:30}] {human_pos}/{human_len} ({per_sec}) {elapsed}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    let terminal = stderr().is_terminal();
    let mut redraws = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        thread::park_timeout(REDRAW);
        redraws += 1;
        let now = done.load(Ordering::Relaxed);
        if terminal {
            bar.set_position(now);
        } else if redraws.is_multiple_of(REDRAWS_PER_LINE) {
            eprintln!("  {what}: {now}{}", if total == 0 { String::new() } else { format!("/{total}") });
        }
    }
    bar.finish_and_clear();
}
