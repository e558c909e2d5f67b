//! The operations of a sequence. They name places relative to what the archive then holds, so that a sequence
//! still makes sense when operations before have been left out. Carrying them out is left to `compare`.

use mammoth_archive::{DefaultPolicy, ExpiresAfter, Prefs, SettingsChange};

use crate::given::jid;
use crate::seed::Seeded;

/// How many owners a sequence has.
pub const OWNERS: usize = 3;
/// How many different ids its entries carry.
pub const IDS: usize = 5;
/// The other ends its entries have; the last ones are rare.
pub const CONTACTS: [&str; 8] = [
    "a@x.example/1",
    "a@x.example/1",
    "a@x.example/2",
    "a@x.example",
    "b@x.example/1",
    "b@x.example/1",
    "x.example",
    "aa@x.example/1",
];
/// The most entries in one batch.
const BATCH_MAX: u64 = 9;

/// A position relative to the archive's ends.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// So far from the first.
    First(i64),
    /// So far from the next.
    Next(i64),
    /// This part of 1000 of the way from first to next.
    Within(i64),
}

/// A moment: the stamp of the entry that stands or stood there, and so many microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub Place, pub i64);

/// An entry to append.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    /// Which of [`CONTACTS`].
    pub with: usize,
    /// Microseconds since the entry before; negative ones are to be refused.
    pub later: i64,
    /// Bytes of filling in the stanza.
    pub filling: usize,
    /// Which foreign id, if any.
    pub foreign_id: Option<usize>,
    /// Which message id, if any.
    pub message_id: Option<usize>,
}

/// A query to come.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which of [`CONTACTS`], and whether its bare JID.
    pub with: Option<(usize, bool)>,
    /// From when.
    pub start: Option<Moment>,
    /// Until when.
    pub end: Option<Moment>,
    /// After which.
    pub after: Option<Place>,
    /// Before which.
    pub before: Option<Place>,
    /// Which only.
    pub ids: Option<Vec<Place>>,
    /// Where the page begins or ends.
    pub page: AskStart,
    /// How many.
    pub max: usize,
}

/// Where a page to come begins or ends.
#[derive(Clone, Copy, Debug)]
pub enum AskStart {
    /// At the oldest.
    First,
    /// At the newest.
    Last,
    /// After this one.
    After(Place),
    /// Before this one.
    Before(Place),
    /// At this index.
    Index(u64),
}

/// A cut to come.
#[derive(Clone, Copy, Debug)]
pub enum AskCut {
    /// By moment.
    Before(Moment),
    /// By position.
    Through(Place),
    /// By number, in parts of 8 of what is there.
    KeepEighths(u64),
    /// By bytes, in parts of 8 of what is there, and some more.
    KeepBytes(u64, u64),
}

/// One operation of a sequence.
#[derive(Clone, Debug)]
pub enum Op {
    /// Appends a batch so far from the next position.
    Append(usize, i64, Vec<Draft>),
    /// Appends again so many entries that stand or stood there; the last with another stanza, if so asked.
    Repeat(usize, Place, usize, bool),
    /// Asks for a page.
    Page(usize, Ask),
    /// Retracts an entry, leaving so many bytes.
    Retract(usize, Place, usize),
    /// Expires.
    Expire(usize, AskCut),
    /// Purges.
    Purge(usize),
    /// Changes a setting.
    Set(usize, SettingsChange),
    /// Locates a foreign id.
    Locate(usize, usize),
    /// Finds a message id with one of `CONTACTS`, at most so many.
    Find(usize, usize, usize, usize),
    /// Lists the owners, in steps of so many.
    Owners(usize),
    /// Asks for the figures.
    Stats,
    /// Does one of the subject's steps, and looks at everything.
    Step(usize),
}

impl Op {
    /// The same with less in it, for shrinking.
    pub fn smaller(&self) -> Option<Op> {
        match self {
            Op::Append(owner, at, drafts) if drafts.len() > 1 => {
                Some(Op::Append(*owner, *at, drafts[..drafts.len() / 2].to_vec()))
            }
            Op::Page(owner, ask) => {
                let mut ask = ask.clone();
                let filters =
                    [ask.with.take().is_some(), ask.ids.take().is_some(), ask.start.take().is_some()];
                filters.contains(&true).then_some(Op::Page(*owner, ask))
            }
            _ => None,
        }
    }
}

/// A sequence of `length` operations on a subject with `steps` steps.
pub fn any(seeded: &mut Seeded, length: usize, steps: usize) -> Vec<Op> {
    (0..length).map(|_| any_op(seeded, steps)).collect()
}

fn below(seeded: &mut Seeded, n: usize) -> usize {
    usize::try_from(seeded.below(n as u64)).unwrap()
}

fn any_op(seeded: &mut Seeded, steps: usize) -> Op {
    // The first owner is busier than the others.
    let owner = below(seeded, OWNERS + 1).saturating_sub(1);
    match seeded.below(if steps == 0 { 92 } else { 100 }) {
        0..32 => {
            let at = if seeded.one_in(12) { seeded.between(-3, 2) } else { 0 };
            let size = if seeded.one_in(20) { 0 } else { 1 + seeded.below(BATCH_MAX) };
            Op::Append(owner, at, (0..size).map(|_| any_draft(seeded)).collect())
        }
        32..38 => {
            let other = seeded.one_in(4);
            Op::Repeat(owner, any_place(seeded), 1 + below(seeded, 12), other)
        }
        38..64 => Op::Page(owner, any_ask(seeded)),
        64..70 => {
            let size = if seeded.one_in(4) { 0 } else { below(seeded, 300) };
            Op::Retract(owner, any_place(seeded), size)
        }
        70..76 => Op::Expire(owner, any_cut(seeded)),
        76 => Op::Purge(owner),
        77..80 => Op::Set(owner, any_change(seeded)),
        80..84 => Op::Locate(owner, below(seeded, IDS)),
        84..88 => {
            let limit = if seeded.one_in(3) { below(seeded, 4) } else { 1000 };
            Op::Find(owner, below(seeded, CONTACTS.len()), below(seeded, IDS), limit)
        }
        88..90 => Op::Owners(1 + below(seeded, 4)),
        90..92 => Op::Stats,
        _ => Op::Step(below(seeded, steps)),
    }
}

fn any_draft(seeded: &mut Seeded) -> Draft {
    let id = |seeded: &mut Seeded| seeded.one_in(3).then(|| below(seeded, IDS));
    Draft {
        with: below(seeded, CONTACTS.len()),
        later: if seeded.one_in(150) { -1 } else { *seeded.pick(&[0, 0, 0, 1, 5, 1_000_000]) },
        filling: if seeded.one_in(40) { 5000 } else { below(seeded, 200) },
        foreign_id: id(seeded),
        message_id: id(seeded),
    }
}

fn any_place(seeded: &mut Seeded) -> Place {
    match seeded.below(10) {
        0 => Place::First(seeded.between(-2, 2)),
        1 => Place::Next(seeded.between(-2, 1)),
        _ => Place::Within(seeded.between(0, 999)),
    }
}

fn any_moment(seeded: &mut Seeded) -> Moment {
    Moment(any_place(seeded), *seeded.pick(&[0, 0, -1, 1, 3]))
}

fn any_cut(seeded: &mut Seeded) -> AskCut {
    match seeded.below(4) {
        0 => AskCut::Before(any_moment(seeded)),
        1 => AskCut::Through(any_place(seeded)),
        2 => AskCut::KeepEighths(seeded.below(9)),
        _ => AskCut::KeepBytes(seeded.below(9), seeded.below(3)),
    }
}

fn any_ask(seeded: &mut Seeded) -> Ask {
    Ask {
        with: seeded.one_in(2).then(|| (below(seeded, CONTACTS.len()), seeded.one_in(2))),
        start: seeded.one_in(4).then(|| any_moment(seeded)),
        end: seeded.one_in(4).then(|| any_moment(seeded)),
        after: seeded.one_in(5).then(|| any_place(seeded)),
        before: seeded.one_in(5).then(|| any_place(seeded)),
        ids: seeded.one_in(8).then(|| (0..seeded.below(6)).map(|_| any_place(seeded)).collect()),
        page: match seeded.below(5) {
            0 => AskStart::First,
            1 => AskStart::Last,
            2 => AskStart::After(any_place(seeded)),
            3 => AskStart::Before(any_place(seeded)),
            _ => AskStart::Index(seeded.below(30)),
        },
        max: *seeded.pick(&[0, 1, 2, 5, 10, 1000]),
    }
}

fn any_change(seeded: &mut Seeded) -> SettingsChange {
    match seeded.below(4) {
        0 => SettingsChange::Prefs(None),
        1 => SettingsChange::Prefs(Some(Prefs::new(
            *seeded.pick(&[DefaultPolicy::Always, DefaultPolicy::Never, DefaultPolicy::Roster]),
            [jid(CONTACTS[below(seeded, CONTACTS.len())])],
            (0..seeded.below(3)).map(|i| jid(&format!("never{i}@x.example"))),
        ))),
        2 => SettingsChange::ExpiresAfter(None),
        _ => SettingsChange::ExpiresAfter(Some(ExpiresAfter::Seconds(seeded.below(1_000_000)))),
    }
}
