//! The server is killed in the middle of a burst, again and again, and started again: every message whose delivery or
//! carbon somebody saw is in the archive, once, in order, and under the id it was seen with.
//!
//! `MAMMOTH_KILL_ROUNDS` says how often; 20 times by default. `MAMMOTH_KILL_SEED` repeats a run's moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::support::{Client, Options, Server, Xml, rsm, run};

/// Messages of one burst of one sender.
const BURST: usize = 300;
/// The most messages that are seen before the server is killed.
const SEEN_MAX: u64 = 200;

/// What one client saw of messages, live: the stanza-id in its own archive, and the message's own id.
type Seen = Vec<(String, String)>;

/// Reads until the connection breaks.
async fn watch(mut client: Client, seen_so_far: Arc<AtomicUsize>, enough: Arc<Notify>, limit: usize) -> Seen {
    let account = client.account.clone();
    let mut seen = Vec::new();
    while let Some(stanza) = client.next_or_end().await {
        let mut messages: Vec<&Xml> = Vec::new();
        stanza.walk(&mut |element| {
            if element.name == "message" && element.id_by(&account).is_some() {
                messages.push(element);
            }
        });
        for message in messages {
            let id = message.id_by(&account).expect("just found").to_owned();
            seen.push((id, message.attr("id").expect("its own").to_owned()));
            if seen_so_far.fetch_add(1, Ordering::SeqCst) + 1 == limit {
                enough.notify_one();
            }
        }
    }
    seen
}

async fn send_burst(mut client: Client, to: &'static str, round: usize) {
    let name = client.account.split('@').next().expect("a name").to_owned();
    for i in 0..BURST {
        // Once the server is gone this goes nowhere, and that is all right.
        client.chat(to, &format!("{name}-{round}-{i}"), &format!("{name} says {i} in round {round}")).await;
    }
    while client.next_or_end().await.is_some() {}
}

#[test]
fn nothing_that_was_seen_is_lost_whenever_the_server_dies() {
    run(async {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let rounds = number("MAMMOTH_KILL_ROUNDS").unwrap_or(20);
        let mut seed = number("MAMMOTH_KILL_SEED").unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).expect("random bytes");
            u64::from_le_bytes(bytes) | 1
        });
        println!("MAMMOTH_KILL_SEED={seed}");
        let options = Options::top("max_archive_query_results = 5000");
        let mut server = Server::with_accounts(options, &["alice", "bob"]);
        // What each account saw in all rounds, in order.
        let (mut hers, mut his): (Seen, Seen) = (Vec::new(), Vec::new());
        // What each archive was found to hold, in order.
        let mut held: [Seen; 2] = [Vec::new(), Vec::new()];
        let mut deaths_mid_burst = 0;
        for round in 0..usize::try_from(rounds).expect("few rounds") {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let limit = usize::try_from(seed % SEEN_MAX).expect("small") + 1;
            let seen = Arc::new(AtomicUsize::new(0));
            let enough = Arc::new(Notify::new());
            let alice = server.login("alice", "sender").await;
            let bob = server.login("bob", "sender").await;
            let laptop = server.client("alice", "laptop").await;
            let phone = server.client("bob", "phone").await;
            let watching: Vec<_> = [laptop, phone]
                .into_iter()
                .map(|client| tokio::spawn(watch(client, seen.clone(), enough.clone(), limit)))
                .collect();
            let sending = [
                tokio::spawn(send_burst(alice, "bob@localhost", round)),
                tokio::spawn(send_burst(bob, "alice@localhost", round)),
            ];
            enough.notified().await;
            server.kill();
            for sender in sending {
                sender.await.expect("a sender");
            }
            let mut watching = watching.into_iter();
            let new = watching.next().expect("hers").await.expect("hers");
            let all = new.len();
            hers.extend(new);
            let new = watching.next().expect("his").await.expect("his");
            his.extend(new.iter().cloned());
            deaths_mid_burst += usize::from(all.min(new.len()) < 2 * BURST);

            server.up();
            let accounts = [("alice", &hers, &his), ("bob", &his, &hers)];
            for ((name, seen, others), held) in accounts.into_iter().zip(&mut held) {
                read_on(&server, name, held).await;
                check(name, held, seen, others);
            }
        }
        // And nothing of what was found after one death went with another.
        for (name, held) in ["alice", "bob"].into_iter().zip(held) {
            let mut client = server.login(name, "checking").await;
            let archive = client.archive().await;
            let found = archive.iter().map(|saved| (saved.id.clone(), own_id(&saved.message)));
            assert_eq!(found.collect::<Seen>(), held, "{name}");
        }
        println!("{} and {} messages seen, {deaths_mid_burst} deaths in mid-burst", hers.len(), his.len());
        assert!(deaths_mid_burst > 0, "the server must die while messages are on their way");
    });
}

fn own_id(message: &Xml) -> String {
    message.attr("id").expect("an id").to_owned()
}

/// Reads what came into an archive after what it was found to hold before.
async fn read_on(server: &Server, name: &str, held: &mut Seen) {
    let mut client = server.login(name, "checking").await;
    loop {
        let after = held.last().map(|(id, _)| format!("<after>{id}</after>")).unwrap_or_default();
        let page = client.page(&rsm(&after)).await;
        held.extend(page.saved.iter().map(|saved| (saved.id.clone(), own_id(&saved.message))));
        if page.complete {
            assert_eq!(page.count, Some(held.len() as u64), "{name}");
            break;
        }
    }
    client.close().await;
}

/// `held` is what the archive holds, `seen` what its owner saw, `others` what the other did: that is in both archives.
fn check(name: &str, held: &Seen, seen: &Seen, others: &Seen) {
    // In order, and under the id it was seen with: what was seen is a subsequence of what there is.
    let mut rest = held.iter();
    for found in seen {
        assert!(
            rest.any(|held| held == found),
            "{name} saw {found:?}, and it is not in the archive at its place"
        );
    }
    // Once: no message stands twice.
    let mut own: Vec<&str> = held.iter().map(|(_, own)| own.as_str()).collect();
    own.sort_unstable();
    for (_, message) in others {
        assert!(own.binary_search(&message.as_str()).is_ok(), "{message} was seen, and {name} has it not");
    }
    let count = own.len();
    own.dedup();
    assert_eq!(own.len(), count, "{name}: a message stands twice");
    // Each sender's words are in the order in which they were said, without a gap in the middle of a burst.
    for sender in ["alice", "bob"] {
        let mut last: Option<(usize, usize)> = None;
        for (_, own) in held {
            let mut parts = own.split('-');
            if parts.next() != Some(sender) {
                continue;
            }
            let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok()).expect("a number");
            let now = (number(), number());
            match last {
                Some((round, i)) if round == now.0 => {
                    assert_eq!(now.1, i + 1, "{name}: after {sender}'s {i} of round {round}");
                }
                Some((round, _)) => {
                    assert!(now.0 > round && now.1 == 0, "{name}: {now:?} after round {round}")
                }
                None => assert_eq!(now.1, 0, "{name}"),
            }
            last = Some(now);
        }
    }
}
