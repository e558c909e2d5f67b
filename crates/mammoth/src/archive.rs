//! `mammoth archive …`: archives at the command line: read them, trim and erase them, and look after the store they
//! lie in. Each subcommand has a file; what an archive is, and what a store does, is left to their crates.

use clap::Subcommand;
use jid::BareJid;
use mammoth_archive::Timestamp;
use mammoth_wire::datetime::{self, Rounding};

use crate::admin::forget::owner_jid;

mod backup;
mod forget;
mod progress;
mod show;
mod stats;
mod transfer;
mod verify;

/// `mammoth archive …`
#[derive(Subcommand)]
pub enum ArchiveCommand {
    /// Show what an archive holds; changes nothing, and needs no server
    #[command(after_help = "\
Examples:
  mammoth archive show alice@example.org --last 20
  mammoth archive show alice@example.org --with bob@example.org --start 2026-11-01
  mammoth archive show alice@example.org --format json | jq -r .stanza")]
    Show(show::ShowArguments),
    /// Let the older part of an archive go; says what, and asks first
    #[command(after_help = "\
Examples:
  mammoth archive trim alice@example.org --before 2026-01-01 --dry-run
  mammoth archive trim alice@example.org --through tf2h61vp5tunij2g8vc3nf9rtk
  mammoth archive trim alice@example.org --all --yes

What is trimmed is gone for every reader at once; its space comes back in the background. To have \
no byte of it left in the files when the command returns, use: mammoth archive erase")]
    Trim(forget::TrimArguments),
    /// Erase an archive from every file; says what, and asks first
    #[command(after_help = "\
Examples:
  mammoth archive erase alice@example.org --dry-run
  mammoth archive erase alice@example.org

The account stays, with its roster, its archiving preferences and its period. To remove the account \
with everything, use: mammoth account remove")]
    Erase(forget::EraseArguments),
    /// Tell how much the store holds, and whether expiry keeps up
    Stats(stats::StatsArguments),
    /// Check every file, every count and every position of the store; fails if anything is wrong
    #[command(after_help = "\
Examples:
  mammoth archive verify
  mammoth archive verify --data /backup/mammoth-2026-11-22 --format json

It only reads, and may run beside a server.")]
    Verify(verify::VerifyArguments),
    /// Copy the store to another directory, while the server runs or not
    #[command(after_help = "\
Example:
  mammoth archive backup /backup/mammoth-2026-11-22

The copy has accounts, rosters and archives; the configuration and certificates of your own are not \
in it. To restore, start the server on the copy, or on a copy of it.")]
    Backup(backup::BackupArguments),
    /// Copy everything into the store that another configuration names, such as from files into PostgreSQL, or back
    #[command(after_help = "\
Example:
  mammoth archive transfer /etc/mammoth/mammoth-postgresql.toml --config /etc/mammoth/mammoth.toml

Archives, their settings, accounts and rosters are copied, and compared at the end. Messages keep their \
ids, so that clients notice nothing. No server may run on either store. What was interrupted goes on \
where it stopped when the same is called again. The old store stays as it is.")]
    Transfer(transfer::TransferArguments),
}

/// Does what the command says.
pub fn run(command: ArchiveCommand) -> anyhow::Result<()> {
    match command {
        ArchiveCommand::Show(arguments) => show::run(&arguments),
        ArchiveCommand::Trim(arguments) => forget::trim(&arguments),
        ArchiveCommand::Erase(arguments) => forget::erase(&arguments),
        ArchiveCommand::Stats(arguments) => stats::run(&arguments),
        ArchiveCommand::Verify(arguments) => verify::run(&arguments),
        ArchiveCommand::Backup(arguments) => backup::run(&arguments),
        ArchiveCommand::Transfer(arguments) => transfer::run(&arguments),
    }
}

/// For whom something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

fn parse_owner(text: &str) -> Result<BareJid, String> {
    owner_jid(text)
}

const DATES: &str = "is no date; write 2026-11-22, or 2026-11-22T14:30:00Z";

/// A moment, or the beginning of a day (UTC).
fn parse_start(text: &str) -> Result<Timestamp, String> {
    let moment = if is_day(text) { format!("{text}T00:00:00Z") } else { text.to_owned() };
    datetime::read(&moment, Rounding::Up).map_err(|_| DATES.to_owned())
}

/// A moment, or the end of a day (UTC).
fn parse_end(text: &str) -> Result<Timestamp, String> {
    let moment = if is_day(text) { format!("{text}T23:59:59.999999Z") } else { text.to_owned() };
    datetime::read(&moment, Rounding::Down).map_err(|_| DATES.to_owned())
}

fn is_day(text: &str) -> bool {
    text.len() == "2026-11-22".len()
}

/// A number of messages, for people.
fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{} messages", grouped(count)) }
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes, for people.
fn sized(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for larger in UNITS {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(parse_start("1970-01-02"), Ok(Timestamp(86_400_000_000)));
        assert_eq!(parse_end("1970-01-01"), Ok(Timestamp(86_399_999_999)));
        assert_eq!(parse_start("1970-01-01T01:00:00+01:00"), Ok(Timestamp(0)));
        for wrong in ["", "yesterday", "2026-13-01", "2026-11-31", "2026-11-22T14:30", "22.11.2026"] {
            assert!(parse_start(wrong).is_err() && parse_end(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_for_people() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(messages(1), "1 message");
        assert_eq!(
            (sized(1023), sized(1536), sized(3 << 30)),
            ("1023 bytes".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
    }
}
