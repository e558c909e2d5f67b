//! How far a command is: a bar on the terminal for whatever takes longer than a second, and nothing at all elsewhere.
//! What is being done is left to the commands.

use std::io::{IsTerminal as _, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes no longer than this shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// From one drawing to the next.
const REDRAW: Duration = Duration::from_millis(100);

/// How far a piece of work is.
#[derive(Debug, Default)]
pub struct Far {
    done: AtomicU64,
    total: AtomicU64,
}

impl Far {
    /// So much of so much is done; a total of 0 is not known.
    pub fn is(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// So much more is done.
    pub fn add(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }
}

/// Does some work, and shows how far it is.
pub fn shown<T>(what: &str, work: impl FnOnce(&Far) -> T) -> T {
    let far = Far::default();
    if !stderr().is_terminal() {
        return work(&far);
    }
    std::thread::scope(|scope| {
        let (end, ended) = sync_channel::<()>(1);
        let far = &far;
        scope.spawn(move || display(what, far, &ended));
        let result = work(far);
        drop(end);
        result
    })
}

fn display(what: &str, far: &Far, ended: &Receiver<()>) {
    if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    // Hidden until it knows its looks.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_elapsed(PATIENCE);
    bar.set_message(what.to_owned());
    let mut known = None;
    loop {
        let (done, total) = (far.done.load(Ordering::Relaxed), far.total.load(Ordering::Relaxed));
        if known != Some((total, done > 0)) {
            known = Some((total, done > 0));
            let template = match (total, done) {
                (0, 0) => "{spinner} {msg} {elapsed}",
                (0, _) => "{spinner} {msg} {human_pos} ({per_sec}) {elapsed}",
                _ => "{msg} [{bar:30}] {human_pos}/{human_len} {elapsed}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            if total > 0 {
                bar.set_length(total);
            }
        }
        if bar.is_hidden() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_position(done);
        bar.tick();
        if ended.recv_timeout(REDRAW) != Err(RecvTimeoutError::Timeout) {
            bar.finish_and_clear();
            return;
        }
    }
}
