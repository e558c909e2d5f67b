//! Everything moves from files into the store that is tested, and back into other files, while clients come and go:
//! ids, stamps, stanzas, what has gone, what was retracted, settings, accounts and rosters are what they were.

use std::process::{Command, Stdio};

use crate::support::server::{embedded, storage};
use crate::support::{Client, Options, Saved, Server, run};

const RETRACT: &str = "urn:xmpp:message-retract:1";
/// More than one step of the copy.
const MESSAGES: usize = 620;
/// How many of the oldest go before.
const GONE: usize = 30;

fn options() -> Options {
    Options::top("max_archive_query_results = 5000\narchive_expires_after = \"never\"")
}

/// What a client knows of its account.
#[derive(Debug, PartialEq)]
struct Known {
    archive: Vec<Saved>,
    prefs: String,
    roster: String,
}

async fn known(client: &mut Client) -> Known {
    let archive = client.archive().await;
    let prefs = client.result("get", None, "<prefs xmlns='urn:xmpp:mam:2'/>").await;
    let roster = client.result("get", None, "<query xmlns='jabber:iq:roster'/>").await;
    let payload =
        |answer: &crate::support::Xml| answer.children().map(ToString::to_string).collect::<String>();
    Known { archive, prefs: payload(&prefs), roster: payload(&roster) }
}

async fn everything(server: &Server) -> Vec<Known> {
    let mut all = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let mut client = server.login(name, "reading").await;
        all.push(known(&mut client).await);
        client.close().await;
    }
    all
}

/// The command, ready to be run.
fn transfer(from: &Server, to: &Server) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mammoth"));
    command.args(["archive", "transfer"]).arg(to.config()).arg("--config").arg(from.config());
    command.args(["--format", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn moved(from: &Server, to: &Server) -> serde_json::Value {
    let output = transfer(from, to).output().expect("the binary");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refused(from: &Server, to: &Server) -> String {
    let output = transfer(from, to).output().expect("the binary");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

async fn retract(client: &mut Client, id: &str) {
    let retraction =
        format!("<message to='bob@localhost' id='r-{id}'><retract xmlns='{RETRACT}' id='{id}'/></message>");
    client.send(&retraction).await;
    client.barrier().await;
}

/// How many tombstones there are.
fn tombstones(known: &Known) -> usize {
    known.archive.iter().filter(|saved| saved.message.find(RETRACT, "retracted").is_some()).count()
}

/// Alice writes to bob, and carol to herself; some of it goes again.
async fn live(server: &Server) {
    let mut alice = server.client("alice", "phone").await;
    for i in 0..MESSAGES {
        alice.chat("bob@localhost", &format!("m{i}"), &format!("number {i}")).await;
    }
    alice.barrier().await;
    retract(&mut alice, "m600").await;
    let prefs = "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>bob@localhost</jid></always>\
                 <never><jid>spam.example</jid></never></prefs>";
    alice.result("set", None, prefs).await;
    let item = "<query xmlns='jabber:iq:roster'><item jid='bob@localhost' name='Bob'><group>Friends</group></item></query>";
    alice.result("set", None, item).await;
    let oldest = alice.archive().await[GONE - 1].id.clone();
    alice.close().await;
    let mut carol = server.client("carol", "phone").await;
    for i in 0..5 {
        carol.chat("carol@localhost", &format!("c{i}"), "to be erased").await;
    }
    carol.close().await;
    server.mammoth(&["archive", "trim", "alice@localhost", "--through", &oldest, "--yes"], "");
    server.mammoth(&["archive", "erase", "carol@localhost", "--yes"], "");
    server.mammoth(&["account", "set", "bob@localhost", "--archive-expires-after", "5y"], "");
}

#[test]
fn everything_moves_and_clients_notice_nothing() {
    run(async {
        let mut first = Server::stopped(options(), embedded());
        first.up();
        for name in ["alice", "bob", "carol"] {
            first.add(name);
        }
        live(&first).await;
        let before = everything(&first).await;
        assert_eq!(before[0].archive.len(), MESSAGES + 1 - GONE);
        assert_eq!((tombstones(&before[0]), before[2].archive.len()), (1, 0));

        let mut second = Server::stopped(options(), storage());
        let why = refused(&first, &second);
        assert!(why.contains("stop it first") && why.contains(&first.data().display().to_string()), "{why}");
        first.down();

        // It may be interrupted at any moment, and goes on.
        for _ in 0..3 {
            let mut child = transfer(&first, &second).spawn().expect("the binary");
            child.kill().expect("killed");
            child.wait().expect("its end");
        }
        let report = moved(&first, &second);
        let entries = before.iter().map(|known| known.archive.len()).sum::<usize>() as u64;
        assert_eq!((&report["accounts"], &report["archives"]), (&3.into(), &3.into()), "{report}");
        assert_eq!(
            report["copied"].as_u64().unwrap() + report["found"].as_u64().unwrap(),
            entries,
            "{report}"
        );
        let again = moved(&first, &second);
        assert_eq!((&again["copied"], &again["found"]), (&0.into(), &entries.into()), "{again}");

        second.up();
        assert!(refused(&first, &second).contains("stop it first"));
        assert_eq!(everything(&second).await, before);
        // Life goes on there: old ids lead into the archive, an old message can be retracted, and no id comes again.
        let mut alice = second.client("alice", "phone").await;
        let cursor = &before[0].archive[300];
        let page =
            alice.page(&crate::support::rsm(&format!("<max>1</max><after>{}</after>", cursor.id))).await;
        assert_eq!(page.saved, before[0].archive[301..302]);
        retract(&mut alice, "m610").await;
        alice.close().await;
        let mut carol = second.client("carol", "phone").await;
        carol.chat("carol@localhost", "c5", "after all").await;
        carol.barrier().await;
        carol.close().await;
        let after = everything(&second).await;
        assert_eq!((tombstones(&after[0]), tombstones(&after[1])), (2, 2));
        assert_eq!(after[2].archive.len(), 1);
        second.down();
        // What has gone on meanwhile cannot be overwritten by what has not.
        assert!(refused(&first, &second).contains("begin with an empty store"), "the copy is ahead");

        let mut third = Server::stopped(options(), embedded());
        moved(&second, &third);
        third.mammoth(&["archive", "verify"], "");
        third.up();
        assert_eq!(everything(&third).await, after);
        let set = third.mammoth(&["archive", "stats", "--format", "json"], "");
        assert!(set.contains("\"archives\":3"), "{set}");
        third.down();

        // A store with ids of its own is not overwritten.
        let mut other = Server::stopped(options(), embedded());
        other.up();
        other.add("alice");
        other.down();
        let why = refused(&third, &other);
        assert!(why.contains("ids of its own"), "{why}");
        let same = refused(&third, &third);
        assert!(same.contains("the same store"), "{same}");
    });
}
