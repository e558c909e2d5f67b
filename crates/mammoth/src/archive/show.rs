//! `mammoth archive show`: an archive page by page, for people or for programs. It only reads, beside whoever writes;
//! what a stanza says is left to `wire`.

use std::io::{self, IsTerminal as _, Write};

use anyhow::{Context as _, ensure};
use jid::{BareJid, Jid};
use mammoth_archive::{
    Archive, ArchiveError, Entry, Filter, Limits, PageRequest, PageStart, Query, StanzaId, Timestamp,
};
use mammoth_wire::eligible::{Direction, Eligible, eligible};
use mammoth_wire::stanza::Stanza;
use mammoth_wire::{datetime, ns};
use serde::Serialize;

use super::progress::{self, Far};
use super::{Format, parse_end, parse_owner, parse_start};
use crate::Where;
use crate::backend::{self, Access};

/// How many entries are read at a time.
const PAGE: usize = 500;

/// The arguments of `mammoth archive show`.
#[derive(clap::Args)]
pub struct ShowArguments {
    /// Whose archive, as user@domain
    #[arg(value_name = "ACCOUNT", value_parser = parse_owner)]
    owner: BareJid,
    /// Only messages to or from this JID; a bare JID includes all its resources
    #[arg(long, value_name = "JID")]
    with: Option<Jid>,
    /// Only messages of this moment or later: a date, or a date and time
    #[arg(long, value_name = "DATE", value_parser = parse_start)]
    start: Option<Timestamp>,
    /// Only messages of this moment or earlier; a date alone includes that day
    #[arg(long, value_name = "DATE", value_parser = parse_end)]
    end: Option<Timestamp>,
    /// Only the newest so many
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Text for people, or a line of JSON for each message with its stanza exactly as it is kept
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    at: Where,
}

/// Does what the command says.
pub fn run(arguments: &ShowArguments) -> anyhow::Result<()> {
    let place = arguments.at.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = async |far: &Far| {
        let stores = backend::open(&place.data, place.settings.as_ref(), Access::Read).await?;
        let archive = Archive::open(stores.archives, Limits { page_max: PAGE, ..Limits::default() }).await?;
        let out = io::BufWriter::new(io::stdout().lock());
        let shown = show(&archive, arguments, out, far).await?;
        let head = archive.store().head(&arguments.owner).await?;
        ensure!(head != mammoth_archive::Head::NEW, "there is no archive of {}", arguments.owner);
        if shown == 0 {
            let why = if head.count() == 0 { "the archive is empty" } else { "no message matches" };
            eprintln!("{why}");
        }
        Ok(())
    };
    // What scrolls by on the terminal shows by itself how far it is.
    if io::stdout().is_terminal() {
        return runtime.block_on(work(&Far::default()));
    }
    progress::shown("reading messages", |far| runtime.block_on(work(far)))
}

/// Writes what is asked for, page by page; answers how much that was.
async fn show(
    archive: &Archive,
    arguments: &ShowArguments,
    mut out: impl Write,
    far: &Far,
) -> anyhow::Result<u64> {
    let filter: Filter<StanzaId> = Filter {
        with: arguments.with.clone(),
        start: arguments.start,
        end: arguments.end,
        ..Filter::default()
    };
    let owner = &arguments.owner;
    let mut start = PageStart::First;
    if let Some(last) = arguments.last {
        let page = PageRequest { max: 0, start: PageStart::First };
        let count = archive.page(owner, Query { filter: filter.clone(), page }).await?.count;
        start = PageStart::Index(count.saturating_sub(last));
    }
    let mut shown = 0;
    loop {
        let page = PageRequest { max: PAGE, start: start.clone() };
        let page = match archive.page(owner, Query { filter: filter.clone(), page }).await {
            // Expired since it was shown: what is left is all behind it.
            Err(ArchiveError::NotFound { expired: true, .. }) => {
                start = PageStart::First;
                continue;
            }
            page => page.with_context(|| format!("the archive of {owner}"))?,
        };
        for entry in &page.entries {
            match arguments.format {
                Format::Text => write_text(&mut out, owner, entry)?,
                Format::Json => write_json(&mut out, entry)?,
            }
        }
        out.flush()?;
        shown += page.entries.len() as u64;
        far.is(shown, arguments.last.unwrap_or(u64::MAX).min(page.count));
        match page.entries.into_iter().next_back() {
            Some(last) if !page.complete => start = PageStart::After(last.id),
            _ => return Ok(shown),
        }
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    stamp: String,
    with: &'a str,
    retracted: bool,
    stanza: &'a str,
}

fn write_json(out: &mut impl Write, entry: &Entry) -> anyhow::Result<()> {
    let stanza =
        std::str::from_utf8(xml(&entry.stanza)).with_context(|| format!("{} is damaged", entry.id))?;
    let line = Line {
        id: entry.id.as_str(),
        stamp: datetime::write(entry.stamp),
        with: entry.with.as_str(),
        retracted: entry.retracted,
        stanza,
    };
    serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// The stanza of an entry. What Prosody keeps may have a line of its own before it (docs/prosody.md).
fn xml(stored: &[u8]) -> &[u8] {
    let end =
        stored.iter().position(|byte| *byte == b'\n').filter(|_| stored.starts_with(b"mammoth-prosody "));
    end.and_then(|end| stored.get(end.saturating_add(1)..)).unwrap_or(stored)
}

/// A heading of stamp, id, who and to whom; below it, set in, what the message says or what it is.
fn write_text(out: &mut impl Write, owner: &BareJid, entry: &Entry) -> anyhow::Result<()> {
    let stamp = datetime::write(entry.stamp);
    let Ok(stanza) = Stanza::parse(xml(&entry.stanza).to_vec()) else {
        writeln!(out, "{stamp}  {}  {}", entry.id, visible(entry.with.as_str()))?;
        let what = match entry.retracted {
            true => "(removed)",
            false => "(not a stanza; --format json shows it as it is)",
        };
        return Ok(writeln!(out, "    {what}")?);
    };
    let side = |name: &str| stanza.attr(name).map_or_else(|| "?".to_owned(), visible);
    let type_ = stanza.type_().map_or_else(|| "normal".to_owned(), visible);
    writeln!(out, "{stamp}  {}  {} → {}  {type_}", entry.id, side("from"), side("to"))?;
    for line in said(owner, &stanza) {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

/// What a message says, line by line; or in brackets what it is, if it says nothing.
fn said(owner: &BareJid, stanza: &Stanza) -> Vec<String> {
    if let Some(retracted) = stanza.child(ns::RETRACT, "retracted") {
        let when = retracted.attr("stamp").map(|when| format!(" at {}", visible(when)));
        return vec![format!("(retracted{})", when.unwrap_or_default())];
    }
    let mut lines = Vec::new();
    if let Some(subject) = stanza.child(ns::CLIENT, "subject").map(|subject| subject.text()) {
        lines.push(format!("Subject: {}", visible(&subject)));
    }
    if let Some(body) = stanza.body_text() {
        lines.extend(body.lines().map(visible));
    }
    if !lines.is_empty() {
        return lines;
    }
    let direction = match stanza.from() {
        Ok(Some(from)) if from.to_bare() == *owner => Direction::Outgoing,
        _ => Direction::Incoming,
    };
    vec![match eligible(stanza, direction) {
        Eligible::Keep(why) => format!("({}: {})", why.code(), why.text()),
        Eligible::Drop(_) => {
            let children: Vec<String> = stanza.children().map(|child| visible(child.name())).collect();
            format!("({})", children.join(", "))
        }
    }]
}

/// Text that a terminal shows and does not obey.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {

    use super::*;

    fn entry(stanza: &'static str, retracted: bool) -> Entry {
        Entry {
            id: StanzaId::new("i").unwrap(),
            with: "r@x".parse().unwrap(),
            stamp: Timestamp(0),
            stanza: stanza.into(),
            retracted,
        }
    }

    #[test]
    fn what_prosody_keeps_is_shown_too() {
        let cases = [
            ("<message from='r@x/n' type='groupchat'><body>hi</body></message>", false, "hi"),
            ("mammoth-prosody 1 xml 1.5 -\n<message from='r@x/n'>\n<body>hi</body></message>", false, "hi"),
            (
                "mammoth-prosody 1 data 1.5 -\nreturn {}",
                false,
                "(not a stanza; --format json shows it as it is)",
            ),
            ("", true, "(removed)"),
            ("<message><retracted xmlns='urn:xmpp:message-retract:1'/></message>", true, "(retracted)"),
            ("<message><y xmlns='urn:y'/><z xmlns='urn:z'/></message>", false, "(y, z)"),
        ];
        for (stanza, retracted, expected) in cases {
            let mut out = Vec::new();
            write_text(&mut out, &"r@x".parse().unwrap(), &entry(stanza, retracted)).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with("1970-01-01T00:00:00.000000Z  i  "), "{text}");
            assert_eq!(text.lines().nth(1), Some(&*format!("    {expected}")), "{stanza}");
        }
        let mut out = Vec::new();
        write_json(&mut out, &entry("mammoth-prosody 1 xml 1.5 -\n<message/>", false)).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["stanza"], "<message/>");
    }
}
