//! `mammoth archive trim` and `mammoth archive erase`: what will go is said first, and nothing goes without a yes. Doing
//! it is left to admin/forget.rs, or to the server that runs on the directory.

use std::io::{self, Write as _};

use anyhow::bail;
use jid::BareJid;
use mammoth_archive::Timestamp;
use mammoth_wire::datetime;

use super::{messages, parse_owner, parse_start, progress};
use crate::Where;
use crate::account::confirmed;
use crate::admin::{Request, Response, TrimCut};
use crate::place::{Create, Door, Place};

/// The arguments of `mammoth archive trim`.
#[derive(clap::Args)]
pub struct TrimArguments {
    /// Whose archive, as user@domain
    #[arg(value_name = "ACCOUNT", value_parser = parse_owner)]
    owner: BareJid,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    at: Where,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Everything up to and including the message with this id
    #[arg(long, value_name = "ID")]
    through: Option<String>,
    /// Everything before this moment: a date, or a date and time
    #[arg(long, value_name = "DATE", value_parser = parse_start)]
    before: Option<Timestamp>,
    /// Everything there is now
    #[arg(long)]
    all: bool,
}

/// The arguments of `mammoth archive erase`.
#[derive(clap::Args)]
pub struct EraseArguments {
    /// Whose archive, as user@domain
    #[arg(value_name = "ACCOUNT", value_parser = parse_owner)]
    owner: BareJid,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    at: Where,
}

#[derive(clap::Args)]
struct How {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

/// What would go.
struct Going {
    entries: u64,
    of: u64,
    oldest: Option<i64>,
    newest: Option<i64>,
    through: Option<String>,
}

impl Going {
    /// Asks for it; changes nothing.
    fn of(door: &mut Door, owner: &BareJid, cut: TrimCut) -> anyhow::Result<Going> {
        match door.ask(Request::LookAt { archive: owner.to_string(), cut })? {
            Response::Going { entries, of, oldest, newest, through } => {
                Ok(Going { entries, of, oldest, newest, through })
            }
            _ => bail!("the server answered something else"),
        }
    }

    fn text(&self) -> String {
        let stamp = |micros: Option<i64>| micros.map(|micros| datetime::write(Timestamp(micros)));
        let period = match (stamp(self.oldest), stamp(self.newest)) {
            (Some(oldest), Some(newest)) => format!(", from {oldest} to {newest}"),
            _ => String::new(),
        };
        let part = if self.entries == self.of { String::new() } else { format!(" of {}", self.of) };
        format!("{}{part}{period}", messages(self.entries))
    }
}

/// `mammoth archive trim`
pub fn trim(arguments: &TrimArguments) -> anyhow::Result<()> {
    let TrimArguments { owner, what, how, at } = arguments;
    let place = at.resolve()?;
    let mut door = Door::open(&place, Create::No)?;
    let cut = match (&what.through, what.before) {
        (Some(id), _) => TrimCut::Through { id: id.clone() },
        (None, Some(before)) => TrimCut::Before { stamp: before.0 },
        (None, None) => TrimCut::All,
    };
    let going = Going::of(&mut door, owner, cut)?;
    let Some(through) = &going.through else {
        return say(&format!("nothing to trim: the archive of {owner} has no such messages"));
    };
    if how.dry_run {
        return say(&format!("would trim the archive of {owner}: {}", going.text()));
    }
    warn_of_retention(&place);
    if !how.yes && !confirmed(&format!("Trim the archive of {owner}: {}?", going.text()))? {
        bail!("nothing was trimmed");
    }
    // Up to the entry that was shown: what has come since stays.
    let request = Request::Trim { archive: owner.to_string(), through: through.clone() };
    let entries = gone(&mut door, "trimming", request)?;
    say(&format!("trimmed the archive of {owner}: {} gone", messages(entries)))
}

/// `mammoth archive erase`
pub fn erase(arguments: &EraseArguments) -> anyhow::Result<()> {
    let EraseArguments { owner, how, at } = arguments;
    let place = at.resolve()?;
    let mut door = Door::open(&place, Create::No)?;
    let going = Going::of(&mut door, owner, TrimCut::All)?;
    if how.dry_run {
        return say(&format!("would erase the archive of {owner}: {}", going.text()));
    }
    warn_of_retention(&place);
    if !how.yes && !confirmed(&format!("Erase the archive of {owner} for good: {}?", going.text()))? {
        bail!("nothing was erased");
    }
    let request = Request::Erase { archive: owner.to_string() };
    let entries = gone(&mut door, "erasing", request)?;
    say(&format!("erased the archive of {owner}: {} gone", messages(entries)))
}

/// Has messages go; answers how many did.
fn gone(door: &mut Door, what: &str, request: Request) -> anyhow::Result<u64> {
    match progress::shown(what, |_| door.ask(request))? {
        Response::Gone { entries } => Ok(entries),
        _ => bail!("the server answered something else"),
    }
}

/// Whoever forbids users to trim may be bound to keep messages; the operator is told, and decides.
fn warn_of_retention(place: &Place) {
    if place.settings.as_ref().is_some_and(|settings| !settings.archive.allow_trim) {
        eprintln!("mind: archive_allow_trim = false says that users may not remove messages here");
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
