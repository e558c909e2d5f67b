//! `mammoth explain`: whether a message would be archived, by which rule, and until when, with the reason codes that
//! logs and metrics use. The rules are those of `wire` and `archive`; this only asks them in the server's order. How the
//! answer is shown is in explain/print.rs.

use std::io::{self, Read as _, Write};

use anyhow::{Context as _, bail, ensure};
use jid::{BareJid, Jid};
use mammoth_accounts::AccountStore;
use mammoth_archive::prefs::{Decision, Reason};
use mammoth_archive::{DefaultPolicy, ExpiresAfter, Prefs, Quota, Timestamp};
use mammoth_wire::eligible::{Direction, Eligible, eligible};
use mammoth_wire::stanza::{Kind, Stanza};

use crate::Where;
use crate::admin::perform::account_jid;
use crate::archive::Format;
use crate::backend::{self, Access, Stores};
use crate::config::Settings;

mod print;

/// How much of standard input is read, in bytes: more than any stream can be told to accept.
const MESSAGE_BYTES_MAX: u64 = 17 << 20;

/// The arguments of `mammoth explain`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  mammoth explain --for alice@example.org < message.xml
  mammoth explain --for alice@example.org --direction in --format json < message.xml

The message is read from standard input. Whether the account sends or receives it is seen from its \
from and to, where they tell. Nothing is changed, and no server needs to run.")]
pub struct ExplainArguments {
    /// In whose archive, as user@domain
    #[arg(long = "for", value_name = "ACCOUNT", value_parser = parse_account)]
    account: BareJid,
    /// Does the account receive the message, or send it? Needed only when its from and to do not tell
    #[arg(long, value_enum)]
    direction: Option<Way>,
    /// Suppose that the other end is in the account's roster
    #[arg(long)]
    from_roster: bool,
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Way {
    /// The account receives it
    In,
    /// The account sends it
    Out,
}

fn parse_account(text: &str) -> Result<BareJid, String> {
    account_jid(text)
}

/// Does what the command says.
pub fn run(arguments: &ExplainArguments) -> anyhow::Result<()> {
    let place = arguments.at.resolve()?;
    let message = read_message(io::stdin().lock())?;
    let (direction, with) = direction(&message, &arguments.account, arguments.direction)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let explained = runtime.block_on(async {
        let stores = backend::open(&place.data, place.settings.as_ref(), Access::Read).await?;
        let account = &arguments.account;
        ensure!(stores.accounts.credentials(account).await?.is_some(), "there is no account {account}");
        let asked = Asked { account, message: &message, direction, with, from_roster: arguments.from_roster };
        explain(&asked, &Rules::of(place.settings.as_ref()), &stores).await
    })?;
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Text => print::text(&mut out, &explained)?,
        Format::Json => writeln!(out, "{}", print::json(&explained))?,
    }
    Ok(())
}

/// One message, alone on standard input.
fn read_message(input: impl io::Read) -> anyhow::Result<Stanza> {
    let mut text = Vec::new();
    input.take(MESSAGE_BYTES_MAX).read_to_end(&mut text).context("cannot read the message")?;
    let text = text.trim_ascii().to_vec();
    ensure!(!text.is_empty(), "there is no message on standard input");
    let message = Stanza::parse(text).map_err(|error| {
        let text = if error.text.is_empty() { error.condition.name() } else { &*error.text };
        anyhow::anyhow!("what is on standard input is no stanza: {text}")
    })?;
    ensure!(
        message.kind() == Kind::Message,
        "what is on standard input is no message but <{} xmlns='{}'/>",
        message.name(),
        message.ns()
    );
    Ok(message)
}

/// Which way the message goes, and who is at the other end.
fn direction(message: &Stanza, account: &BareJid, way: Option<Way>) -> anyhow::Result<(Direction, Jid)> {
    let from = message.from().context("the from of the message is no JID")?;
    let to = message.to().context("the to of the message is no JID")?;
    let is_own = |jid: &Option<Jid>| jid.as_ref().map(|jid| jid.to_bare() == *account);
    let way = match (way, is_own(&from), is_own(&to)) {
        (Some(way), _, _) => way,
        // A client writes no from, and no to when it writes to itself.
        (None, Some(true) | None, _) => Way::Out,
        (None, Some(false), Some(true) | None) => Way::In,
        (None, Some(false), Some(false)) => {
            bail!("the message is neither from nor to {account}; say which with --direction in or out")
        }
    };
    Ok(match way {
        Way::Out => (Direction::Outgoing, to.unwrap_or_else(|| account.clone().into())),
        Way::In => (Direction::Incoming, from.context("who sends the message? It has no from")?),
    })
}

/// What the configuration says, as far as it matters here.
struct Rules {
    /// `None` where there is no configuration.
    domains: Option<Vec<BareJid>>,
    mam: bool,
    default_policy: DefaultPolicy,
    expires_after: ExpiresAfter,
    quota: Quota,
}

impl Rules {
    fn of(settings: Option<&Settings>) -> Rules {
        match settings {
            Some(settings) => Rules {
                domains: Some(settings.domains.iter().map(|domain| domain.name.clone()).collect()),
                mam: settings.modules.mam,
                default_policy: settings.archive.default_policy,
                expires_after: settings.archive.expires_after,
                quota: settings.archive.quota,
            },
            None => Rules {
                domains: None,
                mam: true,
                default_policy: DefaultPolicy::default(),
                expires_after: ExpiresAfter::DEFAULT,
                quota: Quota::default(),
            },
        }
    }
}

/// What is to be explained.
struct Asked<'a> {
    account: &'a BareJid,
    message: &'a Stanza,
    direction: Direction,
    with: Jid,
    from_roster: bool,
}

/// The decisions on one message, in the order in which they are made.
struct Explained {
    account: BareJid,
    direction: Direction,
    with: Jid,
    /// The condition and the reason with which it would be refused before any archive is asked.
    refused: Option<(&'static str, String)>,
    mam: bool,
    eligible: Eligible,
    /// `None` when the prefs are not asked.
    prefs: Option<Decided>,
    period: ExpiresAfter,
    own_period: bool,
    until: Option<Timestamp>,
    quota: Quota,
    /// Whether a configuration was read.
    configured: bool,
}

/// What the prefs say.
struct Decided {
    kept: bool,
    why: Reason,
    prefs: Prefs,
    /// Whether the account has set them; the server's default policy otherwise.
    own: bool,
}

impl Explained {
    fn archived(&self) -> bool {
        self.refused.is_none() && self.mam && self.prefs.as_ref().is_some_and(|decided| decided.kept)
    }
}

async fn explain(asked: &Asked<'_>, rules: &Rules, stores: &Stores) -> anyhow::Result<Explained> {
    let settings = stores.archives.settings(asked.account).await?;
    let eligible = eligible(asked.message, asked.direction);
    let prefs = if rules.mam && eligible.is_keep() {
        let own = settings.prefs.is_some();
        let prefs = settings.prefs.unwrap_or_else(|| Prefs::new(rules.default_policy, [], []));
        let decision = match prefs.decide(&asked.with) {
            Decision::AskRoster => {
                let known = asked.from_roster || in_roster(asked, stores.accounts.as_ref()).await?;
                Decision::AskRoster.with_roster(known)
            }
            decision => decision,
        };
        let (kept, why) = match decision {
            Decision::Keep(why) => (true, why),
            Decision::Drop(why) => (false, why),
            Decision::AskRoster => (false, Reason::NotInRoster),
        };
        Some(Decided { kept, why, prefs, own })
    } else {
        None
    };
    let now = mammoth_server::clock::now();
    let period = settings.expires_after.unwrap_or(rules.expires_after);
    let until = match period {
        ExpiresAfter::Never => None,
        ExpiresAfter::Seconds(seconds) => {
            let micros = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            Some(Timestamp(now.0.saturating_add(micros)))
        }
    };
    Ok(Explained {
        account: asked.account.clone(),
        direction: asked.direction,
        with: asked.with.clone(),
        refused: refused(asked, rules, stores.accounts.as_ref()).await?,
        mam: rules.mam,
        eligible,
        prefs,
        period,
        own_period: settings.expires_after.is_some(),
        until,
        quota: rules.quota,
        configured: rules.domains.is_some(),
    })
}

/// What the server refuses to send at all reaches no archive.
async fn refused(
    asked: &Asked<'_>,
    rules: &Rules,
    accounts: &dyn AccountStore,
) -> anyhow::Result<Option<(&'static str, String)>> {
    let (Direction::Outgoing, Some(domains)) = (asked.direction, &rules.domains) else { return Ok(None) };
    let recipient = asked.with.to_bare();
    if !domains.iter().any(|domain| domain.as_str() == recipient.domain().as_str()) {
        let why = format!("{} is not served here", recipient.domain());
        return Ok(Some(("remote-server-not-found", why)));
    }
    if recipient.node().is_none() || accounts.credentials(&recipient).await?.is_none() {
        return Ok(Some(("service-unavailable", format!("there is no account {recipient}"))));
    }
    Ok(None)
}

async fn in_roster(asked: &Asked<'_>, accounts: &dyn AccountStore) -> anyhow::Result<bool> {
    let contact = asked.with.to_bare();
    let roster = accounts.roster(asked.account).await?;
    Ok(roster.iter().any(|item| item.jid == contact && item.is_listed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(message: &str, given: Option<Way>) -> Result<(Direction, String), String> {
        let message = Stanza::parse(message.to_owned()).unwrap();
        let account = "alice@x".parse().unwrap();
        direction(&message, &account, given)
            .map(|(direction, with)| (direction, with.to_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn which_way_a_message_goes() {
        use Direction::{Incoming, Outgoing};
        let cases = [
            ("<message to='bob@x/1'/>", None, Ok((Outgoing, "bob@x/1"))),
            ("<message from='alice@x/1' to='bob@x'/>", None, Ok((Outgoing, "bob@x"))),
            ("<message from='bob@x/1' to='alice@x'/>", None, Ok((Incoming, "bob@x/1"))),
            ("<message from='bob@x/1'/>", None, Ok((Incoming, "bob@x/1"))),
            ("<message from='alice@x/1' to='alice@x/2'/>", None, Ok((Outgoing, "alice@x/2"))),
            ("<message/>", None, Ok((Outgoing, "alice@x"))),
            ("<message from='alice@x/1' to='bob@x'/>", Some(Way::In), Ok((Incoming, "alice@x/1"))),
            ("<message from='bob@x' to='eve@x'/>", Some(Way::Out), Ok((Outgoing, "eve@x"))),
            (
                "<message from='bob@x' to='eve@x'/>",
                None,
                Err("the message is neither from nor to alice@x; say which with --direction in or out"),
            ),
            ("<message to='alice@x'/>", Some(Way::In), Err("who sends the message? It has no from")),
            ("<message to='@'/>", None, Err("the to of the message is no JID")),
        ];
        for (message, given, expected) in cases {
            let expected = expected.map(|(way, with)| (way, with.to_owned())).map_err(str::to_owned);
            assert_eq!(way(message, given), expected, "{message} {given:?}");
        }
    }

    #[test]
    fn what_is_no_message() {
        let wrong = |input: &str| read_message(input.as_bytes()).unwrap_err().to_string();
        assert_eq!(wrong("  \n"), "there is no message on standard input");
        assert_eq!(
            wrong("<iq type='get'/>"),
            "what is on standard input is no message but <iq xmlns='jabber:client'/>"
        );
        for input in [
            "hello",
            "<message>",
            "<message/><message/>",
            "<message a='1' a='2'/>",
            "<message>&nbsp;</message>",
        ] {
            assert!(wrong(input).starts_with("what is on standard input is no stanza: "), "{input}");
        }
        assert!(read_message(" <message/>\n".as_bytes()).is_ok());
    }
}
