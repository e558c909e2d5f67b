//! The demonstration: a server on localhost, two accounts, and two clients that talk over the real wire and page
//! their conversation back from the archive. What it shows is what any client sees.

use std::path::Path;

use anyhow::{Context, anyhow};
use jid::BareJid;
use mammoth_accounts::Credentials;
use mammoth_accounts::scram::SALT_BYTES;
use mammoth_wire::stanza::Stanza;

use crate::config::{LOCALHOST, Settings};
use crate::serve::{Kind, Server, runtime, told_to_stop};
use crate::{logging, tls};

mod client;
use client::Client;

/// Where the demonstration keeps its data, unless told otherwise.
const DATA: &str = "mammoth-demo";
/// The accounts, and the password of both. Only for a server that listens on loopback addresses.
const ACCOUNTS: [&str; 2] = ["alice", "bob"];
const PASSWORD: &str = "mammoth";
/// Messages on a page.
const PAGE_MAX: usize = 4;
/// The most pages shown.
const PAGES_MAX: usize = 25;

const CONVERSATION: [(usize, &str); 9] = [
    (0, "Do you still have the address of that bakery?"),
    (1, "The one by the canal? Let me look …"),
    (1, "Lange Gracht 14. They close at three."),
    (0, "You are a star \u{1f31f}"),
    (0, "Shall I bring you something?"),
    (1, "Two of the cinnamon ones, please."),
    (0, "Done. They had a queue out to the bridge."),
    (1, "Worth it? שלום, ça va, 你好"),
    (0, "Always. See you at four!"),
];

/// The demonstration's settings: localhost on loopback addresses, everything else as by default, but nothing expires.
fn settings(data: &Path) -> anyhow::Result<Settings> {
    let text = format!(
        "domain = \"{LOCALHOST}\"\ndata = {}\narchive_expires_after = \"never\"\n\
         [listen]\nc2s = [\"127.0.0.1:5222\"]\nc2s_tls = [\"127.0.0.1:5223\"]\n",
        toml::Value::from(data.to_str().context("the data directory's name is not UTF-8")?)
    );
    let here = std::env::current_dir()?;
    let environment = std::env::vars().filter(|(name, _)| name.starts_with("MAMMOTH_LISTEN__"));
    Ok(Settings::parse(&here.join("the demonstration"), &text, environment)?)
}

/// Runs the demonstration's server, lets two clients talk, and stays up until told to stop.
pub fn run(data: Option<&Path>, level: Option<&str>) -> anyhow::Result<()> {
    let settings = settings(data.unwrap_or(Path::new(DATA)))?;
    logging::start(&settings.log, Some(level.unwrap_or("warn")))?;
    runtime()?.block_on(async {
        let stop = told_to_stop()?;
        tokio::pin!(stop);
        let server = Server::start(&settings).await?;
        tokio::select! {
            () = &mut stop => {}
            shown = converse(&server, &settings) => {
                shown?;
                stop.await;
            }
        }
        println!("\nStopping …");
        server.stop().await;
        Ok(())
    })
}

/// Lets two clients talk, and shows what the archive has of it.
async fn converse(running: &Server, settings: &Settings) -> anyhow::Result<()> {
    let address = running.address(Kind::C2s).context("the demonstration needs a STARTTLS listener")?;
    let certificate = tls::certificate_file(&settings.data);
    for name in ACCOUNTS {
        add(running, name).await?;
    }
    println!("Mammoth {} is serving {LOCALHOST} on {address}.\n", env!("CARGO_PKG_VERSION"));
    let [alice, bob] = ACCOUNTS;
    let mut clients = [
        Client::log_in(address, &certificate, alice, PASSWORD, "demo").await?,
        Client::log_in(address, &certificate, bob, PASSWORD, "demo").await?,
    ];
    println!("alice@{LOCALHOST} and bob@{LOCALHOST} have logged in over TLS and talk:\n");
    for (number, (speaker, body)) in CONVERSATION.iter().enumerate() {
        let (name, other) = if *speaker == 0 { (alice, bob) } else { (bob, alice) };
        let [first, second] = &mut clients;
        let (from, to) = if *speaker == 0 { (first, second) } else { (second, first) };
        let body_xml = mammoth_wire::stanza::escape_text(body);
        from.send(&format!(
            "<message to='{other}@{LOCALHOST}' type='chat' id='demo-m{number}'><body>{body_xml}</body></message>"
        ))
        .await?;
        let received = to.message().await?;
        println!("  {name:>5}: {}", received.body_text().unwrap_or_default());
    }
    let [mut reader, other] = clients;
    other.log_out().await?;
    show(&mut reader).await?;
    reader.log_out().await?;
    println!(
        "\nThe server stays up. Connect with a client of your own:\n\n  \
         account   alice@{LOCALHOST} or bob@{LOCALHOST}\n  \
         password  {PASSWORD}\n  \
         server    {address} (STARTTLS) or {} (direct TLS)\n  \
         TLS       self-signed: {}\n\n\
         The history is kept in {}: start again, and it is there.\n\
         Ctrl-C stops the server.",
        running.address(Kind::C2sTls).map(|address| address.to_string()).unwrap_or_default(),
        certificate.display(),
        settings.data.display(),
    );
    Ok(())
}

/// Makes an account, if it is not there from an earlier start.
async fn add(running: &Server, name: &str) -> anyhow::Result<()> {
    let account: BareJid = format!("{name}@{LOCALHOST}").parse()?;
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| anyhow!("no random bytes: {error}"))?;
    let credentials = tokio::task::spawn_blocking(move || Credentials::derive(PASSWORD, &salt)).await??;
    let accounts = &running.house.accounts;
    if accounts.credentials(&account).await?.is_none() {
        accounts.create(&account, credentials).await?;
    }
    Ok(())
}

/// Pages alice's archive back from its newest page to its oldest, and shows each page as it lies.
async fn show(client: &mut Client) -> anyhow::Result<()> {
    println!("\nalice pages her archive back, newest page first, {PAGE_MAX} messages to a page:");
    let mut before = String::new();
    for page in 1..=PAGES_MAX {
        let query = format!(
            "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>\
             <max>{PAGE_MAX}</max><before>{before}</before></set></query>"
        );
        let fin = client.ask("set", &query).await?;
        let results: Vec<Stanza> = client
            .take_early()
            .into_iter()
            .filter(|stanza| stanza.child("urn:xmpp:mam:2", "result").is_some())
            .collect();
        let fin = fin.child("urn:xmpp:mam:2", "fin").context("a page without an end")?.element()?;
        let set = fin.get_child("set", "http://jabber.org/protocol/rsm").context("a page without a set")?;
        let count = set.get_child("count", "http://jabber.org/protocol/rsm").map(|count| count.text());
        let first = set.get_child("first", "http://jabber.org/protocol/rsm");
        let index: usize =
            first.and_then(|first| first.attr("index")).and_then(|text| text.parse().ok()).unwrap_or(0);
        println!("\n── page {page}: {} of {} messages", results.len(), count.unwrap_or_default());
        for (offset, result) in results.iter().enumerate() {
            println!("{}", line(index + offset + 1, result)?);
        }
        let complete = fin.attr("complete") == Some("true");
        match first {
            Some(first) if !complete => before = first.text(),
            _ => {
                println!("\n── that is all: the archive says it is complete");
                return Ok(());
            }
        }
    }
    println!("\n── and so on; older pages are left out here");
    Ok(())
}

/// One archived message on one line: number, stamp, id, who, what.
fn line(number: usize, result: &Stanza) -> anyhow::Result<String> {
    let result = result.child("urn:xmpp:mam:2", "result").context("not a result")?;
    let id = result.attr("id").unwrap_or_default();
    let element = result.element()?;
    let forwarded = element.get_child("forwarded", "urn:xmpp:forward:0").context("nothing forwarded")?;
    let stamp = forwarded
        .get_child("delay", "urn:xmpp:delay")
        .and_then(|delay| delay.attr("stamp"))
        .unwrap_or_default();
    let message = forwarded.get_child("message", "jabber:client").context("no message forwarded")?;
    let from = message.attr("from").unwrap_or_default().split('@').next().unwrap_or_default();
    let body = message.get_child("body", "jabber:client").map(|body| body.text()).unwrap_or_default();
    Ok(format!("{number:>4}  {stamp}  {id}  {from:>5}: {body}"))
}
