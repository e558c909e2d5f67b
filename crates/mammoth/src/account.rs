//! `mammoth account …`: accounts at the command line. The password comes from the terminal or from standard input,
//! never from an argument, and leaves this process only as SCRAM keys.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use jid::BareJid;
use mammoth_accounts::Credentials;
use mammoth_accounts::scram::SALT_BYTES;
use mammoth_archive::ExpiresAfter;

use crate::Where;
use crate::admin::perform::account_jid;
use crate::admin::{Keys, Request, Response};
use crate::place::{Create, Door, Place};

/// How many accounts are asked for at a time.
const LIST_PAGE: usize = 500;

/// `mammoth account …`
#[derive(Subcommand)]
pub enum AccountCommand {
    /// Make an account; asks for the password
    #[command(after_help = "\
Examples:
  mammoth account add alice@example.org
  pass show xmpp/alice | mammoth account add alice@example.org --password-stdin")]
    Add {
        /// The account, as user@domain
        #[arg(value_parser = parse_account)]
        account: BareJid,
        #[command(flatten)]
        password: PasswordFrom,
        #[command(flatten)]
        at: Where,
    },
    /// Change an account's password; asks for the new one
    Passwd {
        /// The account, as user@domain
        #[arg(value_parser = parse_account)]
        account: BareJid,
        #[command(flatten)]
        password: PasswordFrom,
        #[command(flatten)]
        at: Where,
    },
    /// Remove an account, its roster and its archive; asks first
    Remove {
        /// The account, as user@domain
        #[arg(value_parser = parse_account)]
        account: BareJid,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        at: Where,
    },
    /// List the accounts, one a line
    List {
        #[command(flatten)]
        at: Where,
    },
    /// Change what holds for one account
    #[command(after_help = "\
Examples:
  mammoth account set alice@example.org --archive-expires-after 1y
  mammoth account set alice@example.org --archive-expires-after never
  mammoth account set alice@example.org --archive-expires-after default")]
    Set {
        /// The account, as user@domain
        #[arg(value_parser = parse_account)]
        account: BareJid,
        /// How long its messages stay: as archive_expires_after in the configuration, or "default" to follow that
        #[arg(long, value_name = "PERIOD", required = true, value_parser = parse_period)]
        archive_expires_after: Period,
        #[command(flatten)]
        at: Where,
    },
}

/// Where the password comes from.
#[derive(clap::Args)]
pub struct PasswordFrom {
    /// Read the password from the first line of standard input instead of asking
    #[arg(long)]
    password_stdin: bool,
}

/// A period of the account's own, or none.
#[derive(Clone, Copy)]
pub enum Period {
    /// The configuration's.
    Default,
    /// Its own.
    Own(ExpiresAfter),
}

fn parse_account(text: &str) -> Result<BareJid, String> {
    account_jid(text)
}

fn parse_period(text: &str) -> Result<Period, String> {
    if text.trim().eq_ignore_ascii_case("default") {
        return Ok(Period::Default);
    }
    text.parse().map(Period::Own).map_err(|error| format!("{error}, or \"default\""))
}

/// Does what the command says.
pub fn run(command: AccountCommand) -> anyhow::Result<()> {
    match command {
        AccountCommand::Add { account, password, at } => {
            let place = at.resolve()?;
            check_domain(&account, &place)?;
            let mut door = Door::open(&place, Create::Yes)?;
            let keys = keys(&password.read(&account)?)?;
            door.ask(Request::AddAccount { account: account.to_string(), keys })?;
            say(&format!("added {account}"))
        }
        AccountCommand::Passwd { account, password, at } => {
            let mut door = Door::open(&at.resolve()?, Create::No)?;
            let keys = keys(&password.read(&account)?)?;
            door.ask(Request::SetPassword { account: account.to_string(), keys })?;
            say(&format!("the password of {account} is changed"))
        }
        AccountCommand::Remove { account, yes, at } => {
            let mut door = Door::open(&at.resolve()?, Create::No)?;
            let question = format!("Remove {account} with its roster, and erase its archive for good?");
            if !yes && !confirmed(&question)? {
                bail!("nothing was removed");
            }
            door.ask(Request::RemoveAccount { account: account.to_string() })?;
            say(&format!("removed {account}"))
        }
        AccountCommand::List { at } => list(&mut Door::open(&at.resolve()?, Create::No)?),
        AccountCommand::Set { account, archive_expires_after, at } => {
            let mut door = Door::open(&at.resolve()?, Create::No)?;
            let (period, text) = match archive_expires_after {
                Period::Default => (None, "as long as archive_expires_after says".to_string()),
                Period::Own(ExpiresAfter::Never) => (Some("never".to_string()), "for ever".to_string()),
                Period::Own(period) => (Some(period.to_string()), shown(period)),
            };
            door.ask(Request::SetExpiresAfter { account: account.to_string(), period })?;
            say(&format!("messages of {account} stay {text}"))
        }
    }
}

fn shown(period: ExpiresAfter) -> String {
    let text = period.to_string();
    if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("{text} seconds") } else { text }
}

/// One line on standard output; a failed write is an error rather than a panic.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}").context("cannot write to standard output")
}

/// An account of a domain that is not served could never log in.
fn check_domain(account: &BareJid, place: &Place) -> anyhow::Result<()> {
    let Some(settings) = &place.settings else { return Ok(()) };
    let served: Vec<&str> = settings.domains.iter().map(|domain| domain.name.as_str()).collect();
    ensure!(
        served.contains(&account.domain().as_str()),
        "{} is not served here; domain in the configuration says: {}",
        account.domain(),
        served.join(", ")
    );
    Ok(())
}

fn list(door: &mut Door) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut after = None;
    loop {
        let answer = door.ask(Request::ListAccounts { after: after.take(), limit: LIST_PAGE })?;
        let Response::Accounts { accounts } = answer else { bail!("the server answered something else") };
        for account in &accounts {
            writeln!(out, "{account}")?;
        }
        match accounts.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => return Ok(out.flush()?),
        }
    }
}

impl PasswordFrom {
    fn read(&self, account: &BareJid) -> anyhow::Result<String> {
        if self.password_stdin {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).context("cannot read the password")?;
            let password = line.trim_end_matches(['\n', '\r']);
            ensure!(!password.is_empty(), "there is no password on standard input");
            return Ok(password.to_string());
        }
        let ask = |prompt: String| {
            rpassword::prompt_password(prompt)
                .context("cannot ask for the password without a terminal; pipe it in with --password-stdin")
        };
        let password = ask(format!("Password for {account}: "))?;
        let again = ask("The same again: ".to_string())?;
        ensure!(password == again, "the two are not the same; nothing was changed");
        Ok(password)
    }
}

fn keys(password: &str) -> anyhow::Result<Keys> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(Keys::from(&Credentials::derive(password, &salt)?))
}

/// Asks at the terminal; anything but yes is no.
pub fn confirmed(question: &str) -> anyhow::Result<bool> {
    ensure!(io::stdin().is_terminal(), "cannot ask without a terminal; say --yes to go ahead");
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
