//! Judges pages against what must be in the archive: each message once, in order, whole, and nothing else. Asking
//! for the pages is left to the callers; a deviation becomes a fault in the results.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use anyhow::Result;

use crate::{
    conn::Conn,
    mam::{self, Entry, From, Page, Request},
    result::{Faults, Latencies, latencies, record},
    text::read_body,
};

/// The order in which a walk goes through an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the oldest message to the newest.
    Forwards,
    /// From the newest page to the oldest.
    Backwards,
}

/// Which messages a walk must find.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// The tag of the messages.
    pub tag: &'a str,
    /// Their numbers, oldest first.
    pub messages: &'a [u64],
    /// Whether the filter admits nothing else, so that the server's count can be judged.
    pub whole: bool,
}

/// What a walk found.
#[derive(Debug)]
pub struct Walk {
    /// Time of each page.
    pub pages: Latencies,
    /// Time spent waiting for pages: the whole walk without the generator's checks.
    pub waited: Duration,
    /// The messages found, oldest first, without their bodies.
    pub found: Vec<Entry>,
    /// Where `found` begins in the expected order.
    pub found_from: usize,
    /// Whether the walk reached the end of the archive before its time was over.
    pub finished: bool,
    /// What was wrong.
    pub faults: Faults,
}

impl Expected<'_> {
    /// Faults of one page whose messages should be those at `at..at + page.entries.len()`.
    pub fn check(&self, page: &Page, at: usize, faults: &mut Faults) {
        let mut scratch = Vec::new();
        for (i, entry) in page.entries.iter().enumerate() {
            let found = read_body(&entry.body, self.tag, &mut scratch);
            let wanted = self.messages.get(at + i).copied();
            if found != wanted || wanted.is_none() {
                faults.add(format!("at {} of {}: wanted {wanted:?}, found {found:?}", at + i, self.tag));
            }
        }
        self.check_count(page, faults);
    }

    /// Faults of a page that should be the newest `max` messages.
    pub fn check_last(&self, page: &Page, max: usize, faults: &mut Faults) {
        let n = self.messages.len().min(max);
        if page.entries.len() != n {
            faults.add(format!("last page of {}: wanted {n}, found {}", self.tag, page.entries.len()));
        }
        if page.complete && page.entries.len() < self.messages.len() {
            faults.add(format!("last page of {} claims to be complete", self.tag));
        }
        self.check(page, self.messages.len() - n, faults);
    }

    fn check_count(&self, page: &Page, faults: &mut Faults) {
        if self.whole
            && let Some(count) = page.count
            && count != self.messages.len() as u64
        {
            faults.add(format!("count of {}: wanted {}, found {count}", self.tag, self.messages.len()));
        }
    }
}

/// Walks through everything the filter of `request` admits, in pages of `request.max`, until the end or until `enough`,
/// which is told the size of each page, says so.
///
/// # Errors
/// The connection is gone, or the server refuses a page.
pub async fn walk(
    conn: &mut Conn,
    mut request: Request,
    direction: Direction,
    expected: &Expected<'_>,
    mut enough: impl FnMut(u64) -> bool,
) -> Result<Walk> {
    let total = expected.messages.len();
    let mut walk = Walk {
        pages: latencies()?,
        waited: Duration::ZERO,
        found: Vec::new(),
        found_from: 0,
        finished: false,
        faults: Faults::default(),
    };
    // Hashes instead of ids: a million ids would not fit the caches.
    let mut ids = HashSet::new();
    let hasher = RandomState::new();
    // Messages found so far, counted from the end where the walk began.
    let mut seen = 0;
    let mut backwards_pages = Vec::new();
    loop {
        let mut page = mam::page(conn, &request).await?;
        record(&mut walk.pages, page.took);
        walk.waited += page.took;
        let n = page.entries.len();
        let stop = enough(n as u64);
        match direction {
            Direction::Forwards => expected.check(&page, seen, &mut walk.faults),
            Direction::Backwards if seen + n <= total => {
                expected.check(&page, total - seen - n, &mut walk.faults);
            }
            Direction::Backwards => walk.faults.add(format!("more than {total} messages")),
        }
        for entry in &mut page.entries {
            entry.body = Vec::new();
            if !ids.insert(hasher.hash_one(&entry.id)) {
                walk.faults.add("an id came twice");
            }
        }
        seen += n;
        let next = match direction {
            Direction::Forwards => page.last.map(From::After),
            Direction::Backwards => page.first.map(From::Before),
        };
        match direction {
            Direction::Forwards => walk.found.extend(page.entries),
            Direction::Backwards => backwards_pages.push(page.entries),
        }
        walk.finished = page.complete || n == 0;
        let Some(next) = next.filter(|_| !walk.finished) else { break };
        // A server that repeats pages for ever must not keep the generator for ever.
        if stop || seen > total + request.max {
            break;
        }
        request.from = next;
    }
    walk.found.extend(backwards_pages.into_iter().rev().flatten());
    if direction == Direction::Backwards {
        walk.found_from = total.saturating_sub(seen);
    }
    if walk.finished && seen != total {
        walk.faults.add(format!("the walk ended with {seen} of {total} messages"));
    }
    Ok(walk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::body;

    fn page(messages: &[u64], complete: bool, count: Option<u64>) -> Page {
        let entries = messages.iter().map(|seq| {
            let mut text = Vec::new();
            body(&mut text, "t", *seq);
            Entry { id: vec![1], stamp: String::new(), body: text }
        });
        let entries = entries.collect();
        Page { entries, complete, count, first: None, last: None, took: Duration::ZERO }
    }

    fn judge(judged: &Page, max: usize) -> bool {
        let expected = Expected { tag: "t", messages: &[3, 5, 7, 9], whole: true };
        let mut faults = Faults::default();
        expected.check_last(judged, max, &mut faults);
        faults.is_empty()
    }

    #[test]
    fn the_right_last_page_is_right() {
        assert!(judge(&page(&[7, 9], false, Some(4)), 2));
        assert!(judge(&page(&[3, 5, 7, 9], true, None), 50));
    }

    #[test]
    fn wrong_last_pages_are_faults() {
        assert!(!judge(&page(&[5, 9], false, None), 2), "a gap");
        assert!(!judge(&page(&[9, 7], false, None), 2), "the order");
        assert!(!judge(&page(&[9], false, None), 2), "too short");
        assert!(!judge(&page(&[9, 9], false, None), 2), "twice");
        assert!(!judge(&page(&[7, 9], true, None), 2), "claims to be complete");
        assert!(!judge(&page(&[7, 9], false, Some(5)), 2), "the count");
        assert!(!judge(&page(&[], true, Some(4)), 2), "nothing");
    }
}
