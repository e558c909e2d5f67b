//! Pages (XEP-0059): reading which is wanted, writing which was given. What a page is, `mammoth_archive` says; how
//! large it may be, the archive.
//!
//! `<before/>` and `<after/>` in one request, which XEP-0059 leaves undefined, are refused, and so is either together
//! with `<index/>`: a guess would give one client a gap and the other a duplicate.

use mammoth_archive::{PageRequest, PageStart, StanzaId};
use minidom::Element;

use crate::escape::{escape_text, push_attr};
use crate::ns;
use crate::stanza_error::StanzaError;

/// The page that a client wants when it does not say: the first, as large as the archive gives.
pub const WHOLE: PageRequest<StanzaId> = PageRequest { max: usize::MAX, start: PageStart::First };

/// Reads `<set/>`. Without `<max/>`, or with one beyond all bounds, `max` is as large as it can be: the archive cuts
/// it to its own limit. An empty `<before/>` is the last page; an empty `<after/>`, the first.
///
/// # Errors
/// `bad-request` for what is no number, stands twice or excludes each other; `item-not-found` for an id so long that
/// nobody can have given it.
pub fn read(set: &Element) -> Result<PageRequest<StanzaId>, StanzaError> {
    let mut page = WHOLE;
    let mut max = None;
    let mut start = None;
    for child in set.children().filter(|child| child.ns() == ns::RSM) {
        let text = child.text();
        match child.name() {
            "max" => put(&mut max, usize::try_from(number(&text)?).unwrap_or(usize::MAX))?,
            "index" => put(&mut start, PageStart::Index(number(&text)?))?,
            "before" if text.is_empty() => put(&mut start, PageStart::Last)?,
            "before" => put(&mut start, PageStart::Before(id(text)?))?,
            "after" if text.is_empty() => put(&mut start, PageStart::First)?,
            "after" => put(&mut start, PageStart::After(id(text)?))?,
            _ => {}
        }
    }
    page.max = max.unwrap_or(page.max);
    page.start = start.unwrap_or(page.start);
    Ok(page)
}

fn put<T>(slot: &mut Option<T>, value: T) -> Result<(), StanzaError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(StanzaError::bad_request().with_text("a page is asked for in one way, once")),
    }
}

/// An id as it was given: `item-not-found` when it is nobody's.
pub(crate) fn id(text: String) -> Result<StanzaId, StanzaError> {
    StanzaId::new(text).ok_or_else(|| StanzaError::item_not_found().with_text("no archive gives such an id"))
}

/// A whole number, which may be larger than any count.
fn number(text: &str) -> Result<u64, StanzaError> {
    let digits = text.trim_matches([' ', '\t', '\r', '\n']);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(StanzaError::bad_request().with_text("not a whole number"));
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// What is said of a page that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given<'a> {
    /// The ids of its oldest and its newest entry; `None` for an empty page.
    pub edges: Option<(&'a StanzaId, &'a StanzaId)>,
    /// How many entries stand before the first.
    pub index: u64,
    /// How many entries there are in all.
    pub count: u64,
}

/// Appends `<set/>`.
pub(crate) fn push(out: &mut String, given: Given<'_>) {
    out.push_str("<set");
    push_attr(out, "xmlns", ns::RSM);
    out.push('>');
    if let Some((first, last)) = given.edges {
        out.push_str(&format!("<first index='{}'>{}</first>", given.index, escape_text(first.as_str())));
        out.push_str(&format!("<last>{}</last>", escape_text(last.as_str())));
    }
    out.push_str(&format!("<count>{}</count></set>", given.count));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(inner: &str) -> Result<PageRequest<StanzaId>, StanzaError> {
        let xml = format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>");
        read(&crate::element::element(xml.as_bytes()).unwrap())
    }

    fn wanted(id: &str) -> StanzaId {
        StanzaId::new(id).unwrap()
    }

    #[test]
    fn pages_wanted() {
        use PageStart::{After, Before, First, Index, Last};
        let cases = [
            ("", usize::MAX, First),
            ("<max>10</max>", 10, First),
            ("<max> 10\n</max>", 10, First),
            ("<max>0</max>", 0, First),
            ("<max>99999999999999999999999999</max>", usize::MAX, First),
            ("<max>5</max><before/>", 5, Last),
            ("<before/>", usize::MAX, Last),
            ("<before>x1</before><max>5</max>", 5, Before(wanted("x1"))),
            ("<after>x&amp;1</after>", usize::MAX, After(wanted("x&1"))),
            ("<after/>", usize::MAX, First),
            ("<index>371</index><max>2</max>", 2, Index(371)),
            ("<first index='0'>a</first><last>b</last><count>7</count>", usize::MAX, First),
            ("<max xmlns='urn:other'>x</max>", usize::MAX, First),
        ];
        for (inner, max, start) in cases {
            assert_eq!(set(inner), Ok(PageRequest { max, start }), "{inner}");
        }
    }

    #[test]
    fn pages_refused() {
        let long = format!("<after>{}</after>", "x".repeat(2000));
        let cases = [
            ("<max/>", "bad-request"),
            ("<max>-1</max>", "bad-request"),
            ("<max>+1</max>", "bad-request"),
            ("<max>1.5</max>", "bad-request"),
            ("<max>ten</max>", "bad-request"),
            ("<max>٣</max>", "bad-request"),
            ("<index>-1</index>", "bad-request"),
            ("<index/>", "bad-request"),
            ("<max>1</max><max>2</max>", "bad-request"),
            ("<before/><after>x</after>", "bad-request"),
            ("<before>x</before><after>y</after>", "bad-request"),
            ("<after>x</after><after>x</after>", "bad-request"),
            ("<index>1</index><after>x</after>", "bad-request"),
            (&long, "item-not-found"),
        ];
        for (inner, condition) in cases {
            assert_eq!(set(inner).unwrap_err().condition, condition, "{inner}");
        }
    }

    #[test]
    fn pages_given() {
        let (a, b) = (wanted("a<"), wanted("b"));
        let mut out = String::new();
        push(&mut out, Given { edges: Some((&a, &b)), index: 3, count: 9 });
        assert_eq!(
            out,
            "<set xmlns='http://jabber.org/protocol/rsm'><first index='3'>a&lt;</first><last>b</last><count>9</count></set>"
        );
        out.clear();
        push(&mut out, Given { edges: None, index: 3, count: 9 });
        assert_eq!(out, "<set xmlns='http://jabber.org/protocol/rsm'><count>9</count></set>");
    }
}
