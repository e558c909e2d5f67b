//! How `mammoth explain` shows its answer, to people and to programs. What the answer is, explain.rs decides.

use std::io::{self, Write};

use mammoth_server::lane::ARCHIVE_OFF;
use mammoth_wire::datetime;
use mammoth_wire::eligible::{Direction, Eligible};
use serde_json::{Value, json};

use super::Explained;

fn direction_text(direction: Direction) -> &'static str {
    match direction {
        Direction::Outgoing => "outgoing",
        Direction::Incoming => "incoming",
    }
}

/// For people.
pub fn text(out: &mut impl Write, explained: &Explained) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<11}{value}");
    let Explained { account, with, eligible, .. } = explained;
    let archived = if explained.archived() { "yes" } else { "no" };
    line("archived", &format!("{archived}, in the archive of {account}"))?;
    line("message", &format!("{}, with {with}", direction_text(explained.direction)))?;
    if let Some((condition, why)) = &explained.refused {
        line("refused", &format!("{condition}: {why}"))?;
    }
    if !explained.mam {
        return line("archive", &format!("{ARCHIVE_OFF}: modules_enabled does not list mam"));
    }
    let text = match eligible {
        Eligible::Keep(why) => why.text(),
        Eligible::Drop(why) => why.text(),
    };
    line("worth it", &format!("{}: {text}", eligible.code()))?;
    let Some(decided) = &explained.prefs else { return line("prefs", "not asked") };
    line("prefs", &format!("{}: {}", decided.why.code(), decided.why.text()))?;
    let whose = match (decided.own, explained.configured) {
        (true, _) => format!("as {account} has set them"),
        (false, true) => "default_archive_policy; the account has set none".to_owned(),
        (false, false) => "assumed: there is no configuration here, and the account has set none".to_owned(),
    };
    let lists = [("always", decided.prefs.always().len()), ("never", decided.prefs.never().len())];
    let lists: String = lists
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!(", {count} {name} listed"))
        .collect();
    line("", &format!("default {}{lists} ({whose})", decided.prefs.default_policy().as_str()))?;
    if !explained.archived() {
        return Ok(());
    }
    let whose = match (explained.own_period, explained.configured) {
        (true, _) => "the account's own",
        (false, true) => "archive_expires_after",
        (false, false) => "assumed: there is no configuration here",
    };
    let until = explained.until.map_or_else(
        || "for ever".to_owned(),
        |until| format!("until {}, if it came now", datetime::write(until)),
    );
    line("stays", &format!("{until} ({}: {whose})", explained.period))?;
    for (limit, what) in [(explained.quota.entries, "messages"), (explained.quota.bytes, "bytes of stanzas")]
    {
        if let Some(limit) = limit {
            line("", &format!("or until the archive holds more than {limit} {what}"))?;
        }
    }
    Ok(())
}

/// For programs: one object.
pub fn json(explained: &Explained) -> Value {
    let text = match explained.eligible {
        Eligible::Keep(why) => why.text(),
        Eligible::Drop(why) => why.text(),
    };
    json!({
        "account": explained.account.as_str(),
        "archived": explained.archived(),
        "direction": direction_text(explained.direction),
        "with": explained.with.as_str(),
        "refused": explained.refused.as_ref().map(|(condition, why)| json!({ "condition": condition, "text": why })),
        "archive_off": !explained.mam,
        "eligible": { "keep": explained.eligible.is_keep(), "reason": explained.eligible.code(), "text": text },
        "prefs": explained.prefs.as_ref().map(|decided| json!({
            "keep": decided.kept,
            "reason": decided.why.code(),
            "text": decided.why.text(),
            "default": decided.prefs.default_policy().as_str(),
            "own": decided.own,
        })),
        "expires_after": { "period": explained.period.to_string(), "own": explained.own_period },
        "until": explained.archived().then(|| explained.until.map(datetime::write)).flatten(),
    })
}
