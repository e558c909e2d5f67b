//! Order: of a burst, of two who talk at once, and of stamps that are given back as `start` and `end`.

use crate::support::{Options, Server, form, rsm, run};

const BURST: usize = 200;

#[test]
fn a_burst_keeps_its_order_everywhere() {
    run(async {
        let options = Options::top("max_archive_query_results = 500");
        let server = Server::with_accounts(options, &["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut laptop = server.client("alice", "laptop").await;
        let mut bob = server.client("bob", "phone").await;
        let bodies: Vec<String> = (0..BURST).map(|i| format!("message {i}")).collect();
        let burst: String = (bodies.iter().enumerate())
            .map(|(i, body)| {
                format!("<message to='bob@localhost' type='chat' id='b{i}'><body>{body}</body></message>")
            })
            .collect();
        alice.send(&burst).await;
        alice.barrier().await;
        let delivered: Vec<_> = bob.messages().await;
        assert_eq!(delivered.iter().filter_map(|message| message.body()).collect::<Vec<_>>(), bodies);
        let copied = laptop.messages().await;
        assert_eq!(copied.len(), BURST);
        for client in [&mut alice, &mut bob] {
            let saved = client.archive().await;
            assert_eq!(saved.iter().map(|saved| saved.body()).collect::<Vec<_>>(), bodies, "{}", client.jid);
            // A page by a published stamp holds the message that it was published with. A session has 32 messages
            // on their way at most, so that no more than these can share a stamp.
            let max = |rest: &str| rsm(&format!("<max>40</max>{rest}"));
            for message in saved.iter().step_by(3) {
                let at = ("start", &[message.stamp.as_str()][..]);
                let page = client.page(&(form(&[at]) + &max(""))).await;
                assert!(page.saved.contains(message), "start={}", message.stamp);
                assert_eq!(page.saved[0].stamp, message.stamp);
                let page = client.page(&(form(&[("end", at.1)]) + &max("<before/>"))).await;
                assert!(page.saved.contains(message), "end={}", message.stamp);
                let page = client.page(&(form(&[at, ("end", at.1)]) + &max(""))).await;
                assert!(page.saved.contains(message), "start=end={}", message.stamp);
                assert!(page.saved.iter().all(|other| other.stamp == message.stamp));
            }
        }
        // The ids that came with the messages are those of the archive.
        let ids: Vec<_> = bob.archive().await.into_iter().map(|saved| saved.id).collect();
        let live: Vec<_> = delivered.iter().map(|m| m.id_by("bob@localhost").unwrap().to_owned()).collect();
        assert_eq!(ids, live);
    });
}

#[test]
fn archive_order_is_delivery_order_when_many_talk_at_once() {
    run(async {
        const EACH: usize = 60;
        let server = Server::of(&["alice", "bob", "carol", "dave"]);
        let mut bob = server.client("bob", "phone").await;
        let mut talking = Vec::new();
        for name in ["alice", "carol", "dave"] {
            let mut client = server.client(name, "phone").await;
            talking.push(tokio::spawn(async move {
                for i in 0..EACH {
                    client
                        .chat("bob@localhost", &format!("{i}"), &format!("{} {i}", client.account.clone()))
                        .await;
                }
                client.barrier().await;
                let mine = client.archived_bodies().await;
                let wanted: Vec<_> = (0..EACH).map(|i| format!("{} {i}", client.account)).collect();
                assert_eq!(mine, wanted);
            }));
        }
        // Bob talks to himself meanwhile.
        for i in 0..EACH {
            bob.chat("bob@localhost", &format!("self{i}"), &format!("bob {i}")).await;
        }
        for task in talking {
            task.await.expect("a client that talks");
        }
        let delivered = bob.messages().await;
        let live: Vec<_> = delivered.iter().map(|m| m.id_by("bob@localhost").unwrap().to_owned()).collect();
        let saved: Vec<_> = bob.archive().await.into_iter().map(|saved| saved.id).collect();
        assert_eq!(saved.len(), 4 * EACH);
        assert_eq!(live, saved, "the order of delivery is that of the archive");
    });
}
