//! What is asked of an archive and what it answers: a filter (XEP-0313 §4.1), a page of what the filter
//! leaves (XEP-0059), and the arithmetic that joins the two. Reading entries is left to the stores.

use std::ops::Range;

use jid::Jid;

use crate::entry::{Position, Timestamp};

/// Which entries are asked for; every field that is set narrows further (they combine by AND).
///
/// `I` is how an entry is named: by [`crate::StanzaId`] outside, by [`Position`] at the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter<I> {
    /// Only entries to or from this JID. A bare JID also matches each of its full JIDs; a full JID matches
    /// only itself (XEP-0313 §4.1.1).
    pub with: Option<Jid>,
    /// Only entries stamped at this moment or later.
    pub start: Option<Timestamp>,
    /// Only entries stamped at this moment or earlier.
    pub end: Option<Timestamp>,
    /// Only entries after this one, which must be in the archive but need not match the rest.
    pub after: Option<I>,
    /// Only entries before this one, which must be in the archive but need not match the rest.
    pub before: Option<I>,
    /// Only these entries; each must be in the archive.
    pub ids: Option<Vec<I>>,
}

impl<I> Default for Filter<I> {
    fn default() -> Self {
        Filter { with: None, start: None, end: None, after: None, before: None, ids: None }
    }
}

/// Where a page begins or ends within what the filter leaves (XEP-0059).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageStart<I> {
    /// The oldest entries.
    First,
    /// Those right after this entry, which must be in the archive but need not match the filter.
    After(I),
    /// The newest entries.
    Last,
    /// Those right before this entry, which must be in the archive but need not match the filter.
    Before(I),
    /// Those from this index on, counting from 0 at the oldest (XEP-0059 §2.6).
    Index(u64),
}

/// A page of at most `max` entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<I> {
    /// The most entries wanted; 0 asks for the count alone (XEP-0059 §2.7).
    pub max: usize,
    /// Where the page lies.
    pub start: PageStart<I>,
}

/// A filter and the page wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<I> {
    /// Which entries.
    pub filter: Filter<I>,
    /// Which of them.
    pub page: PageRequest<I>,
}

/// The answer to a [`Query`]: entries from oldest to newest, whatever the direction of paging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<E> {
    /// The entries, oldest first.
    pub entries: Vec<E>,
    /// How many entries the filter leaves in all, exactly.
    pub count: u64,
    /// How many of those stand before the first entry of this page, exactly. For an empty page: where it lies.
    pub index: u64,
    /// Whether nothing that the filter leaves lies beyond this page in the direction of paging.
    pub complete: bool,
}

impl<E> Page<E> {
    /// The same page of other entries.
    pub fn map<F>(self, f: impl FnMut(E) -> F) -> Page<F> {
        Page {
            entries: self.entries.into_iter().map(f).collect(),
            count: self.count,
            index: self.index,
            complete: self.complete,
        }
    }
}

impl<I> Query<I> {
    /// Every id the query names: each must be in the archive (XEP-0313 §4.1.3, §4.3.2).
    pub fn named(&self) -> impl Iterator<Item = &I> {
        let page = match &self.page.start {
            PageStart::After(id) | PageStart::Before(id) => Some(id),
            PageStart::First | PageStart::Last | PageStart::Index(_) => None,
        };
        let filter = &self.filter;
        filter.after.iter().chain(&filter.before).chain(filter.ids.iter().flatten()).chain(page)
    }

    /// The same query with its entries named otherwise.
    ///
    /// # Errors
    /// The first error of `name`.
    pub fn try_map<J, E>(self, mut name: impl FnMut(I) -> Result<J, E>) -> Result<Query<J>, E> {
        let Filter { with, start, end, after, before, ids } = self.filter;
        let filter = Filter {
            with,
            start,
            end,
            after: after.map(&mut name).transpose()?,
            before: before.map(&mut name).transpose()?,
            ids: ids.map(|ids| ids.into_iter().map(&mut name).collect()).transpose()?,
        };
        let start = match self.page.start {
            PageStart::First => PageStart::First,
            PageStart::After(id) => PageStart::After(name(id)?),
            PageStart::Last => PageStart::Last,
            PageStart::Before(id) => PageStart::Before(name(id)?),
            PageStart::Index(index) => PageStart::Index(index),
        };
        Ok(Query { filter, page: PageRequest { max: self.page.max, start } })
    }
}

/// Where a page lies among the `count` entries a filter leaves, in ranks from 0 at the oldest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The ranks on the page.
    pub ranks: Range<u64>,
    /// As [`Page::complete`].
    pub complete: bool,
}

impl PageRequest<Position> {
    /// Where this page lies among the `count` entries a filter leaves. `rank` says how many of those stand
    /// before a position, whether or not the entry there is one of them.
    ///
    /// The one place where paging is computed; every store calls it.
    ///
    /// # Errors
    /// What `rank` fails with.
    pub fn window<E>(
        &self,
        count: u64,
        mut rank: impl FnMut(Position) -> Result<u64, E>,
    ) -> Result<Window, E> {
        let max = u64::try_from(self.max).unwrap_or(u64::MAX);
        let forwards = |from: u64| {
            let from = from.min(count);
            let to = from.saturating_add(max).min(count);
            Window { ranks: from..to, complete: to == count }
        };
        let backwards = |to: u64| {
            let to = to.min(count);
            let from = to.saturating_sub(max);
            Window { ranks: from..to, complete: from == 0 }
        };
        Ok(match &self.start {
            PageStart::First => forwards(0),
            PageStart::After(position) => forwards(rank(position.offset(1))?),
            PageStart::Last => backwards(count),
            PageStart::Before(position) => backwards(rank(*position)?),
            PageStart::Index(index) => forwards(*index),
        })
    }
}

impl Filter<Position> {
    /// The positions of `within` that lie strictly between `after` and `before`.
    #[must_use]
    pub fn span(&self, within: Range<Position>) -> Range<Position> {
        let from = self.after.map_or(within.start, |after| within.start.max(after.offset(1)));
        let to = self.before.map_or(within.end, |before| within.end.min(before));
        from..to.max(from)
    }
}
