//! Whom the owner wants archived (XEP-0441), and the decision for one message. What the roster says, and
//! whether the message is worth keeping at all, is left to the caller.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jid::Jid;

/// What happens to messages no list speaks of: `<prefs default=…>` of an account, and the server's
/// `default_archive_policy` for accounts that have set none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// Keep them (`true`, `always`).
    #[default]
    Always,
    /// Keep none (`false`, `never`).
    Never,
    /// Keep those with contacts in the owner's roster at that moment (`"roster"`).
    Roster,
}

impl DefaultPolicy {
    /// As in the `default` attribute (XEP-0441 §2.1).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DefaultPolicy::Always => "always",
            DefaultPolicy::Never => "never",
            DefaultPolicy::Roster => "roster",
        }
    }
}

/// The text is none of `always`, `never`, `roster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a default: write always, never or roster")]
pub struct NotADefault;

impl FromStr for DefaultPolicy {
    type Err = NotADefault;

    fn from_str(text: &str) -> Result<Self, NotADefault> {
        match text {
            "always" => Ok(DefaultPolicy::Always),
            "never" => Ok(DefaultPolicy::Never),
            "roster" => Ok(DefaultPolicy::Roster),
            _ => Err(NotADefault),
        }
    }
}

/// One owner's archiving preferences.
///
/// The same JID never stands in both lists: *never* wins (XEP-0441 leaves it open), see [`Prefs::new`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefs {
    default: DefaultPolicy,
    always: BTreeSet<Jid>,
    never: BTreeSet<Jid>,
}

/// Why a message is kept or not; each has a code that logs, metrics and `mammoth explain` show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The full JID is in the always list.
    AlwaysFull,
    /// The full JID is in the never list.
    NeverFull,
    /// The bare JID is in the always list.
    AlwaysBare,
    /// The bare JID is in the never list.
    NeverBare,
    /// No list speaks of it, and the default is to keep.
    DefaultAlways,
    /// No list speaks of it, and the default is not to keep.
    DefaultNever,
    /// The default is the roster, and the contact is in it.
    InRoster,
    /// The default is the roster, and the contact is not in it.
    NotInRoster,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 8] = [
        Reason::AlwaysFull,
        Reason::NeverFull,
        Reason::AlwaysBare,
        Reason::NeverBare,
        Reason::DefaultAlways,
        Reason::DefaultNever,
        Reason::InRoster,
        Reason::NotInRoster,
    ];

    /// A stable code, such as `prefs-always-full-jid`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Reason::AlwaysFull => "prefs-always-full-jid",
            Reason::NeverFull => "prefs-never-full-jid",
            Reason::AlwaysBare => "prefs-always-bare-jid",
            Reason::NeverBare => "prefs-never-bare-jid",
            Reason::DefaultAlways => "prefs-default-always",
            Reason::DefaultNever => "prefs-default-never",
            Reason::InRoster => "prefs-in-roster",
            Reason::NotInRoster => "prefs-not-in-roster",
        }
    }

    /// The rule, for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Reason::AlwaysFull => "this full JID is in the always list",
            Reason::NeverFull => "this full JID is in the never list",
            Reason::AlwaysBare => "this bare JID is in the always list",
            Reason::NeverBare => "this bare JID is in the never list",
            Reason::DefaultAlways => "no list speaks of it, and the default is to keep",
            Reason::DefaultNever => "no list speaks of it, and the default is not to keep",
            Reason::InRoster => "no list speaks of it, and the contact is in the roster",
            Reason::NotInRoster => "no list speaks of it, and the contact is not in the roster",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What to do with a message that is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Archive it.
    Keep(Reason),
    /// Do not.
    Drop(Reason),
    /// Archive it if the contact's bare JID is in the roster now: see [`Decision::with_roster`].
    AskRoster,
}

impl Decision {
    /// The decision once the roster has been asked; others stay as they are.
    #[must_use]
    pub fn with_roster(self, in_roster: bool) -> Decision {
        match self {
            Decision::AskRoster if in_roster => Decision::Keep(Reason::InRoster),
            Decision::AskRoster => Decision::Drop(Reason::NotInRoster),
            decided => decided,
        }
    }
}

impl Prefs {
    /// Prefs as applied: a JID in both lists stays in `never` only.
    #[must_use]
    pub fn new(
        default: DefaultPolicy,
        always: impl IntoIterator<Item = Jid>,
        never: impl IntoIterator<Item = Jid>,
    ) -> Prefs {
        let never: BTreeSet<Jid> = never.into_iter().collect();
        let always = always.into_iter().filter(|jid| !never.contains(jid)).collect();
        Prefs { default, always, never }
    }

    /// What happens to messages no list speaks of.
    #[must_use]
    pub fn default_policy(&self) -> DefaultPolicy {
        self.default
    }

    /// The JIDs always archived, in order.
    pub fn always(&self) -> impl ExactSizeIterator<Item = &Jid> {
        self.always.iter()
    }

    /// The JIDs never archived, in order.
    pub fn never(&self) -> impl ExactSizeIterator<Item = &Jid> {
        self.never.iter()
    }

    /// Whether a message to or from `with` is archived. The most specific entry wins: full JID over bare JID
    /// over the default. Without lists this costs nothing.
    #[must_use]
    pub fn decide(&self, with: &Jid) -> Decision {
        if !with.is_bare() {
            if self.never.contains(with) {
                return Decision::Drop(Reason::NeverFull);
            }
            if self.always.contains(with) {
                return Decision::Keep(Reason::AlwaysFull);
            }
        }
        if !self.never.is_empty() || !self.always.is_empty() {
            let bare = Jid::from(with.to_bare());
            if self.never.contains(&bare) {
                return Decision::Drop(Reason::NeverBare);
            }
            if self.always.contains(&bare) {
                return Decision::Keep(Reason::AlwaysBare);
            }
        }
        match self.default {
            DefaultPolicy::Always => Decision::Keep(Reason::DefaultAlways),
            DefaultPolicy::Never => Decision::Drop(Reason::DefaultNever),
            DefaultPolicy::Roster => Decision::AskRoster,
        }
    }
}

/// As text, for whoever keeps it: the default on the first line, then a line for each JID, with `+` before those always
/// archived and `-` before those never archived. No JID holds a line break.
impl fmt::Display for Prefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.default.as_str())?;
        self.always().try_for_each(|jid| write!(f, "\n+{jid}"))?;
        self.never().try_for_each(|jid| write!(f, "\n-{jid}"))
    }
}

/// The text is not what [`Prefs`] are written as.
#[derive(Debug, thiserror::Error)]
pub enum NotPrefs {
    /// Its first line.
    #[error(transparent)]
    Default(#[from] NotADefault),
    /// What stands behind a sign.
    #[error("not a JID in the prefs: {0}")]
    Jid(#[from] jid::Error),
    /// Another line.
    #[error("a line of prefs begins with neither + nor -")]
    Sign,
}

impl FromStr for Prefs {
    type Err = NotPrefs;

    fn from_str(text: &str) -> Result<Self, NotPrefs> {
        let mut lines = text.split('\n');
        let default = lines.next().unwrap_or_default().parse()?;
        let (mut always, mut never) = (Vec::new(), Vec::new());
        for line in lines {
            match (line.strip_prefix('+'), line.strip_prefix('-')) {
                (Some(jid), _) => always.push(Jid::new(jid)?),
                (_, Some(jid)) => never.push(Jid::new(jid)?),
                _ => return Err(NotPrefs::Sign),
            }
        }
        Ok(Prefs::new(default, always, never))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn jid(s: &str) -> Jid {
        Jid::new(s).unwrap()
    }

    fn prefs(default: DefaultPolicy, always: &[&str], never: &[&str]) -> Prefs {
        Prefs::new(default, always.iter().map(|s| jid(s)), never.iter().map(|s| jid(s)))
    }

    #[test]
    fn table() {
        use Decision::{AskRoster, Drop, Keep};
        use DefaultPolicy::{Always, Never, Roster};
        let cases = [
            (prefs(Always, &[], &[]), "r@x/1", Keep(Reason::DefaultAlways)),
            (prefs(Never, &[], &[]), "r@x/1", Drop(Reason::DefaultNever)),
            (prefs(Roster, &[], &[]), "r@x/1", AskRoster),
            (prefs(Never, &["r@x"], &[]), "r@x/1", Keep(Reason::AlwaysBare)),
            (prefs(Never, &["r@x"], &[]), "r@x", Keep(Reason::AlwaysBare)),
            (prefs(Never, &["r@x/1"], &[]), "r@x/1", Keep(Reason::AlwaysFull)),
            (prefs(Never, &["r@x/1"], &[]), "r@x/2", Drop(Reason::DefaultNever)),
            (prefs(Never, &["r@x/1"], &[]), "r@x", Drop(Reason::DefaultNever)),
            (prefs(Always, &[], &["r@x"]), "r@x/1", Drop(Reason::NeverBare)),
            (prefs(Always, &["r@x/1"], &["r@x"]), "r@x/1", Keep(Reason::AlwaysFull)),
            (prefs(Always, &["r@x/1"], &["r@x"]), "r@x/2", Drop(Reason::NeverBare)),
            (prefs(Never, &["r@x"], &["r@x/1"]), "r@x/1", Drop(Reason::NeverFull)),
            (prefs(Never, &["r@x"], &["r@x/1"]), "r@x/2", Keep(Reason::AlwaysBare)),
            (prefs(Always, &["r@x"], &["r@x"]), "r@x/2", Drop(Reason::NeverBare)),
            (prefs(Always, &["r@x/1"], &["r@x/1"]), "r@x/1", Drop(Reason::NeverFull)),
            (prefs(Roster, &["r@x"], &["s@x"]), "t@x", AskRoster),
        ];
        for (prefs, with, expected) in cases {
            assert_eq!(prefs.decide(&jid(with)), expected, "{prefs:?} {with}");
        }
        assert_eq!(AskRoster.with_roster(true), Keep(Reason::InRoster));
        assert_eq!(AskRoster.with_roster(false), Drop(Reason::NotInRoster));
        assert_eq!(Keep(Reason::AlwaysBare).with_roster(false), Keep(Reason::AlwaysBare));
    }

    #[test]
    fn what_is_written_is_read() {
        let prefs = prefs(DefaultPolicy::Roster, &["a@x/+ -", "x"], &["ü@strasse.example/-"]);
        assert_eq!(prefs.to_string(), "roster\n+a@x/+ -\n+x\n-ü@strasse.example/-");
        for prefs in [prefs, Prefs::default()] {
            assert_eq!(prefs.to_string().parse::<Prefs>().unwrap(), prefs);
        }
        for wrong in ["", "sometimes", "always\na@x", "never\n+@", "never\n"] {
            assert!(wrong.parse::<Prefs>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_jid_in_both_lists_is_shown_as_applied() {
        let prefs = prefs(DefaultPolicy::Always, &["r@x", "s@x"], &["r@x"]);
        assert_eq!(prefs.always().collect::<Vec<_>>(), [&jid("s@x")]);
        assert_eq!(prefs.never().collect::<Vec<_>>(), [&jid("r@x")]);
    }

    /// XEP-0441 §2.3.1 read naively: go through every entry, note which match and how closely.
    fn naive(default: DefaultPolicy, always: &[Jid], never: &[Jid], with: &Jid, in_roster: bool) -> bool {
        let closeness = |entry: &Jid| match entry.is_bare() {
            false if entry == with => 2,
            true if *entry == with.to_bare() => 1,
            _ => 0,
        };
        let best = |list: &[Jid]| list.iter().map(closeness).max().unwrap_or(0);
        match (best(always), best(never)) {
            (0, 0) => match default {
                DefaultPolicy::Always => true,
                DefaultPolicy::Never => false,
                DefaultPolicy::Roster => in_roster,
            },
            (always, never) => always > never,
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_reading(
            default in prop_oneof![Just(DefaultPolicy::Always), Just(DefaultPolicy::Never), Just(DefaultPolicy::Roster)],
            always in proptest::collection::vec("[ab]@[xy](/[12])?", 0..6),
            never in proptest::collection::vec("[ab]@[xy](/[12])?", 0..6),
            with in "[ab]@[xy](/[12])?",
            in_roster: bool,
        ) {
            let list = |texts: &[String]| texts.iter().map(|s| jid(s)).collect::<Vec<_>>();
            let (always, never, with) = (list(&always), list(&never), jid(&with));
            let prefs = Prefs::new(default, always.clone(), never.clone());
            let kept = matches!(prefs.decide(&with).with_roster(in_roster), Decision::Keep(_));
            prop_assert_eq!(kept, naive(default, &always, &never, &with, in_roster));
            let again = Prefs::new(default, prefs.always().cloned().collect::<Vec<_>>(), prefs.never().cloned().collect::<Vec<_>>());
            prop_assert_eq!(again, prefs, "what is shown can be set again");
        }
    }
}
