//! Two servers on one database: each has clients of the same accounts, and all of them write to the same archives at
//! once. What one delivers to its own clients does not reach the other's; the archives are shared, and nothing else.

use std::io::Write as _;

use crate::support::{Client, Options, Saved, Server, run};

/// Messages of each sender.
const EACH: usize = 150;
/// How many messages are on their way at once.
const BURST: usize = 10;

/// Sends to the other account, a burst at a time. What was acknowledged is everything: the server answers the
/// barrier when it has dealt with what came before it, and nothing came back as an error.
async fn talk(mut client: Client, to: &'static str) -> (Client, Vec<String>) {
    let name = client.jid.split(['@', '/']).step_by(2).collect::<Vec<_>>().join("-");
    let bodies: Vec<String> = (0..EACH).map(|i| format!("{name} {i}")).collect();
    for burst in bodies.chunks(BURST) {
        for body in burst {
            client.chat(to, &body.replace(' ', "-"), body).await;
        }
        client.barrier().await;
    }
    let refused = client.take_early(|stanza| stanza.name == "message" && stanza.type_() == "error");
    assert!(refused.is_empty(), "{}: {refused:?}", client.jid);
    (client, bodies)
}

/// Whether `part` stands in `whole` in this order.
fn is_in_order<T: PartialEq>(part: &[T], whole: &[T]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|item| rest.any(|other| other == item))
}

#[test]
fn two_servers_write_to_the_same_archives() {
    run(async {
        let options = Options::top("max_archive_query_results = 5000");
        let one = Server::with_accounts(options, &["alice", "bob"]);
        let Some(two) = one.beside() else {
            // Past the test harness, which keeps what passing tests print.
            let why =
                "SKIPPED, it needs MAMMOTH_TEST_STORAGE=postgresql and a server: see benches/postgres/with";
            let _ = writeln!(std::io::stderr(), "two_servers_write_to_the_same_archives: {why}");
            return;
        };
        let mut clients = Vec::new();
        for (server, place) in [(&one, "here"), (&two, "there")] {
            for (name, to) in [("alice", "bob@localhost"), ("bob", "alice@localhost")] {
                clients.push((server.client(name, place).await, to));
            }
        }
        let talking: Vec<_> =
            clients.into_iter().map(|(client, to)| tokio::spawn(talk(client, to))).collect();
        let (mut clients, mut spoken) = (Vec::new(), Vec::new());
        for task in talking {
            let (client, bodies) = task.await.expect("a client that talks");
            clients.push(client);
            spoken.push(bodies);
        }

        // Both archives hold every message once, each sender's in order; `archive` sees to it that ids are unique,
        // stamps never decrease, and that each page says where it stands. Both servers say the same.
        let mut found: Vec<Vec<Saved>> = Vec::new();
        for client in &mut clients {
            found.push(client.archive().await);
        }
        for (at, of) in [(0, "alice"), (1, "bob")] {
            let saved = &found[at];
            assert_eq!(*saved, found[at + 2], "{of}, through either server");
            let bodies: Vec<String> = saved.iter().map(Saved::body).collect();
            assert_eq!(bodies.len(), 4 * EACH, "{of}");
            for said in &spoken {
                assert!(is_in_order(said, &bodies), "{of}: what was said as {:?}", said.first());
            }
            // What a client saw live has the id that it has in the archive, in the archive's order.
            let ids: Vec<String> = saved.iter().map(|saved| saved.id.clone()).collect();
            for place in [at, at + 2] {
                let client = &mut clients[place];
                let account = client.account.clone();
                let live = client.messages().await;
                let live: Vec<String> =
                    live.iter().filter_map(|message| message.id_by(&account)).map(str::to_owned).collect();
                assert_eq!(live.len(), EACH, "{} sees what the other said on the same server", client.jid);
                assert!(is_in_order(&live, &ids), "{}", client.jid);
            }
            // And the commands find the same.
            for server in [&one, &two] {
                let shown =
                    server.mammoth(&["archive", "show", &format!("{of}@localhost"), "--format", "json"], "");
                let shown: Vec<serde_json::Value> =
                    shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
                let shown: Vec<&str> = shown.iter().filter_map(|entry| entry["id"].as_str()).collect();
                assert_eq!(shown, ids, "{of}");
            }
        }

        // They did meet: what one had prepared found the other's in its place, and was made again behind it.
        let met = |server: &Server| {
            let again = |line: &&String| line.contains("another writer has appended");
            server.log().iter().filter(again).count()
        };
        let met = (met(&one), met(&two));
        assert!(met.0 > 0 && met.1 > 0, "the servers have met {met:?} times");
        for client in clients {
            client.close().await;
        }
    });
}
