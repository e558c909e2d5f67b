//! What the store cannot say of an archive of Prosody's: entries deleted from its middle, and entries whose time or
//! `with` is not the one they are stored under. Positions stay dense; these marks tell a reader what to pass over.
//!
//! They are themselves an archive, beside the one they are about, so they are durable by the same commits, and a
//! backup has them. An entry there is some lines:
//!
//! ```text
//! *                                        forget every line before
//! i <position>                             the rest of this entry counts only if the archive goes on to behind it
//! h <position> <stamp> <with>              deleted; it is stored with this stamp and with
//! m <position> <stamp> <with> <when> <with>  what it is stored with, and what it stands for
//! s <position>                             neither
//! ```

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// The most lines in one entry.
pub const LINES_MAX: usize = 1000;

/// An entry that was deleted from the middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Where it stands.
    pub position: i64,
    /// Its stamp in the store.
    pub stamp: i64,
    /// Its `with` in the store.
    pub with: Arc<str>,
}

/// An entry that stands for another time or `with` than it is stored with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it stands.
    pub position: i64,
    /// Its stamp in the store.
    pub stamp: i64,
    /// Its `with` in the store.
    pub with: Arc<str>,
    /// Its time, in microseconds.
    pub when: i64,
    /// Its `with`, spelt as the store has them.
    pub now_with: Arc<str>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It was deleted.
    Hidden(Hidden),
    /// It stands for something else.
    Moved(Moved),
    /// It is what it is stored as.
    Plain(i64),
}

impl Mark {
    /// Where the entry stands that it is about.
    #[must_use]
    pub fn position(&self) -> i64 {
        match self {
            Mark::Hidden(hidden) => hidden.position,
            Mark::Moved(moved) => moved.position,
            Mark::Plain(position) => *position,
        }
    }
}

/// All marks of one archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    hidden: Vec<Hidden>,
    moved: Vec<Moved>,
}

fn place<T>(list: &[T], position: i64, of: impl Fn(&T) -> i64) -> Result<usize, usize> {
    // Most marks are about the newest entries.
    match list.last() {
        Some(last) if of(last) < position => Err(list.len()),
        None => Err(0),
        Some(_) => list.binary_search_by_key(&position, of),
    }
}

impl Marks {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.moved.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hidden.len() + self.moved.len()
    }

    /// Takes a mark in.
    pub fn apply(&mut self, mark: Mark) {
        let position = mark.position();
        if let Ok(at) = place(&self.moved, position, |m| m.position) {
            self.moved.remove(at);
        }
        if let Ok(at) = place(&self.hidden, position, |h| h.position) {
            self.hidden.remove(at);
        }
        match mark {
            Mark::Plain(_) => {}
            Mark::Moved(moved) => match place(&self.moved, position, |m| m.position) {
                Ok(at) | Err(at) => self.moved.insert(at, moved),
            },
            Mark::Hidden(hidden) => match place(&self.hidden, position, |h| h.position) {
                Ok(at) | Err(at) => self.hidden.insert(at, hidden),
            },
        }
    }

    /// Takes many in; those of `hidden` at once.
    pub fn apply_all(&mut self, marks: Vec<Mark>) {
        let only_hidden = marks.iter().all(|mark| matches!(mark, Mark::Hidden(_)));
        if !only_hidden || marks.len() < 16 {
            for mark in marks {
                self.apply(mark);
            }
            return;
        }
        for mark in marks {
            if let Mark::Hidden(hidden) = mark {
                self.hidden.push(hidden);
            }
        }
        self.hidden.sort_by_key(|hidden| hidden.position);
        self.hidden.dedup_by_key(|hidden| hidden.position);
        let hidden = std::mem::take(&mut self.hidden);
        self.moved.retain(|moved| place(&hidden, moved.position, |h| h.position).is_err());
        self.hidden = hidden;
    }

    /// Forgets what is about entries before `first`.
    pub fn forget_before(&mut self, first: i64) {
        let gone = self.hidden.partition_point(|hidden| hidden.position < first);
        self.hidden.drain(..gone);
        let gone = self.moved.partition_point(|moved| moved.position < first);
        self.moved.drain(..gone);
    }

    /// Whether any mark is about an entry before `first`.
    #[must_use]
    pub fn any_before(&self, first: i64) -> bool {
        let oldest = [self.hidden.first().map(|h| h.position), self.moved.first().map(|m| m.position)];
        oldest.into_iter().flatten().any(|position| position < first)
    }

    /// Whether the entry there was deleted.
    #[must_use]
    pub fn is_hidden(&self, position: i64) -> bool {
        place(&self.hidden, position, |h| h.position).is_ok()
    }

    /// What the entry there stands for, if not for what it is stored as.
    #[must_use]
    pub fn moved(&self, position: i64) -> Option<&Moved> {
        let at = place(&self.moved, position, |m| m.position).ok()?;
        self.moved.get(at)
    }

    /// The deleted entries within `span`.
    #[must_use]
    pub fn hidden_in(&self, span: &Range<i64>) -> &[Hidden] {
        let from = self.hidden.partition_point(|hidden| hidden.position < span.start);
        let to = self.hidden.partition_point(|hidden| hidden.position < span.end);
        self.hidden.get(from..to.max(from)).unwrap_or_default()
    }

    /// The entries within `span` that stand for something else.
    #[must_use]
    pub fn moved_in(&self, span: &Range<i64>) -> &[Moved] {
        let from = self.moved.partition_point(|moved| moved.position < span.start);
        let to = self.moved.partition_point(|moved| moved.position < span.end);
        self.moved.get(from..to.max(from)).unwrap_or_default()
    }

    /// The first position from `from` on that was not deleted.
    #[must_use]
    pub fn pass_forwards(&self, from: i64) -> i64 {
        let at = self.hidden.partition_point(|hidden| hidden.position < from);
        let run = self.hidden.iter().skip(at).zip(from..).take_while(|(hidden, at)| hidden.position == *at);
        from.saturating_add(run.count() as i64)
    }

    /// The position behind the last one before `from` that was not deleted.
    #[must_use]
    pub fn pass_backwards(&self, from: i64) -> i64 {
        let at = self.hidden.partition_point(|hidden| hidden.position < from);
        let (before, _) = self.hidden.split_at(at);
        let mut end = from;
        for hidden in before.iter().rev() {
            if hidden.position != end - 1 {
                break;
            }
            end = hidden.position;
        }
        end
    }

    /// Every mark, in order within its kind.
    pub fn all(&self) -> impl Iterator<Item = Mark> {
        let hidden = self.hidden.iter().cloned().map(Mark::Hidden);
        hidden.chain(self.moved.iter().cloned().map(Mark::Moved))
    }
}

/// Some lines as an entry. With `only_if`, they count only if the archive reaches behind that position.
#[must_use]
pub fn write(reset: bool, only_if: Option<i64>, marks: &[Mark]) -> Bytes {
    let mut out = String::new();
    if reset {
        out.push_str("*\n");
    }
    if let Some(position) = only_if {
        out.push_str(&format!("i {position}\n"));
    }
    for mark in marks {
        let written = match mark {
            Mark::Hidden(Hidden { position, stamp, with }) => writeln!(out, "h {position} {stamp} {with}"),
            Mark::Moved(Moved { position, stamp, with, when, now_with }) => {
                writeln!(out, "m {position} {stamp} {with} {when} {now_with}")
            }
            Mark::Plain(position) => writeln!(out, "s {position}"),
        };
        // Writing to a string does not fail.
        debug_assert!(written.is_ok());
    }
    Bytes::from(out)
}

/// What an entry says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Forget what was said before.
    pub reset: bool,
    /// Marks that count.
    pub marks: Vec<Mark>,
    /// Marks that do not, because the archive ends before what they depend on.
    pub void: Vec<Mark>,
}

/// What [`write()`] wrote, of an archive that goes on at `next`; `None` for anything else.
#[must_use]
pub fn read(text: &[u8], next: i64) -> Option<Read> {
    let text = std::str::from_utf8(text).ok()?;
    let mut read = Read::default();
    let mut counts = true;
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = words.next()?;
        if kind == "*" {
            read.reset = true;
            continue;
        }
        let position: i64 = words.next()?.parse().ok()?;
        let mut stored = || Some((words.next()?.parse::<i64>().ok()?, Arc::<str>::from(words.next()?)));
        let mark = match kind {
            "i" => {
                counts = position < next;
                continue;
            }
            "h" => {
                let (stamp, with) = stored()?;
                Mark::Hidden(Hidden { position, stamp, with })
            }
            "m" => {
                let (stamp, with) = stored()?;
                let (when, now_with) = stored()?;
                Mark::Moved(Moved { position, stamp, with, when, now_with })
            }
            "s" => Mark::Plain(position),
            _ => return None,
        };
        if counts { read.marks.push(mark) } else { read.void.push(mark) }
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(position: i64) -> Mark {
        Mark::Hidden(Hidden { position, stamp: position * 10, with: "a@b".into() })
    }

    fn moved(position: i64) -> Mark {
        Mark::Moved(Moved { position, stamp: 5, with: "a@b".into(), when: -3, now_with: "c".into() })
    }

    #[test]
    fn lines_come_back() {
        let marks = [hidden(-1), moved(7), Mark::Plain(3)];
        let read_back = read(&write(true, Some(8), &marks), 9).unwrap();
        assert_eq!(read_back, Read { reset: true, marks: marks.to_vec(), void: Vec::new() });
        let too_early = read(&write(false, Some(8), &marks), 8).unwrap();
        assert_eq!(too_early, Read { reset: false, marks: Vec::new(), void: marks.to_vec() });
        assert_eq!(read(b"x 1", 0), None);
        assert_eq!(read(b"h 1", 0), None);
    }

    #[test]
    fn runs_are_passed_over() {
        let mut marks = Marks::default();
        marks.apply_all([3, 4, 5, 7].map(hidden).to_vec());
        assert_eq!(marks.pass_forwards(2), 2);
        assert_eq!(marks.pass_forwards(3), 6);
        assert_eq!(marks.pass_forwards(7), 8);
        assert_eq!(marks.pass_backwards(8), 7);
        assert_eq!(marks.pass_backwards(6), 3);
        assert_eq!(marks.pass_backwards(3), 3);
        assert_eq!(marks.hidden_in(&(4..8)).len(), 3);
    }

    #[test]
    fn the_last_word_counts() {
        let mut one = Marks::default();
        one.apply(moved(4));
        one.apply(hidden(4));
        assert!(one.is_hidden(4) && one.moved(4).is_none());
        one.apply(Mark::Plain(4));
        assert!(one.is_empty());
        let mut many = Marks::default();
        many.apply(moved(4));
        many.apply_all((0..40).map(hidden).collect());
        assert_eq!(many.len(), 40);
        many.forget_before(39);
        assert_eq!(many.all().collect::<Vec<_>>(), [hidden(39)]);
    }
}
