//! Rosters, subscriptions and presence (RFC 6121 §2–§4) between accounts of one server.

use crate::support::{Client, Server, Xml, run};

const ROSTER: &str = "jabber:iq:roster";

/// A client that has its roster and is available.
async fn ready(server: &Server, name: &str, resource: &str) -> Client {
    let mut client = server.login(name, resource).await;
    client.result("get", None, "<query xmlns='jabber:iq:roster'/>").await;
    client.available().await;
    client.take_early(|stanza| stanza.attr("from") == Some(&format!("{name}@localhost/{resource}")));
    client
}

/// What has come: `push jid subscription[ ask]`, `type from` of presence.
async fn seen(client: &mut Client) -> Vec<String> {
    let received = client.received().await;
    received.iter().map(short).collect()
}

fn short(stanza: &Xml) -> String {
    if let Some(query) = stanza.find(ROSTER, "query") {
        let item = query.child(ROSTER, "item");
        let ask = if item.attr("ask") == Some("subscribe") { " ask" } else { "" };
        return format!("push {} {}{ask}", item.attr("jid").unwrap(), item.attr("subscription").unwrap());
    }
    assert_eq!(stanza.name, "presence", "{stanza}");
    let type_ = if stanza.type_().is_empty() { "available" } else { stanza.type_() };
    format!("{type_} {}", stanza.attr("from").unwrap())
}

/// The roster as it stands: `jid name subscription[ ask] groups`.
async fn roster(client: &mut Client) -> Vec<String> {
    let answer = client.result("get", None, "<query xmlns='jabber:iq:roster'/>").await;
    let items = answer.child(ROSTER, "query").children().map(|item| {
        let ask = if item.attr("ask") == Some("subscribe") { " ask" } else { "" };
        let groups: Vec<String> = item.children().map(Xml::text).collect();
        let name = item.attr("name").unwrap_or("-");
        format!(
            "{} {name} {}{ask} {}",
            item.attr("jid").unwrap(),
            item.attr("subscription").unwrap(),
            groups.join(",")
        )
    });
    items.collect()
}

fn presence(to: &str, type_: &str) -> String {
    format!("<presence to='{to}' type='{type_}'/>")
}

#[test]
fn contacts_are_kept_and_pushed() {
    run(async {
        let mut server = Server::of(&["alice"]);
        let mut alice = ready(&server, "alice", "phone").await;
        let mut laptop = ready(&server, "alice", "laptop").await;
        let mut deaf = server.login("alice", "deaf").await;
        seen(&mut alice).await;
        seen(&mut laptop).await;
        let set = |item: &str| format!("<query xmlns='jabber:iq:roster'>{item}</query>");
        let item =
            "<item jid='Bob@LocalHost' name='B &amp; b'><group>Friends</group><group>Work</group></item>";
        alice.result("set", None, &set(item)).await;
        assert_eq!(seen(&mut alice).await, ["push bob@localhost none"]);
        assert_eq!(seen(&mut laptop).await, ["push bob@localhost none"]);
        assert_eq!(seen(&mut deaf).await, [""; 0], "who has not asked for the roster gets no pushes");
        alice.result("set", None, &set("<item jid='room@muc.example.org'/>")).await;
        let wanted = ["bob@localhost B & b none Friends,Work", "room@muc.example.org - none "];
        assert_eq!(roster(&mut alice).await, wanted);
        for (wrong, condition) in [
            ("", "bad-request"),
            ("<item jid='a@b'/><item jid='c@d'/>", "bad-request"),
            ("<item/>", "bad-request"),
            ("<item jid='@'/>", "jid-malformed"),
            ("<item jid='a@b'><group>x</group><group>x</group></item>", "bad-request"),
            ("<item jid='a@b'><group/></item>", "not-acceptable"),
            ("<item jid='alice@localhost'/>", "not-allowed"),
            ("<item jid='nobody@localhost' subscription='remove'/>", "item-not-found"),
        ] {
            assert_eq!(alice.error("set", None, &set(wrong)).await, condition, "{wrong}");
        }
        // The subscription is not the client's to set.
        alice.result("set", None, &set("<item jid='bob@localhost' subscription='both'/>")).await;
        assert_eq!(roster(&mut alice).await[0], "bob@localhost - none ");
        server.down();
        server.up();
        let mut alice = ready(&server, "alice", "phone").await;
        assert_eq!(roster(&mut alice).await, ["bob@localhost - none ", "room@muc.example.org - none "]);
        alice.result("set", None, &set("<item jid='bob@localhost' subscription='remove'/>")).await;
        assert_eq!(seen(&mut alice).await, ["push bob@localhost remove"]);
        assert_eq!(roster(&mut alice).await, ["room@muc.example.org - none "]);
    });
}

#[test]
fn two_become_contacts_and_part() {
    run(async {
        let mut server = Server::of(&["alice", "bob", "carol"]);
        let mut alice = ready(&server, "alice", "phone").await;
        let mut bob = ready(&server, "bob", "phone").await;
        let mut carol = ready(&server, "carol", "phone").await;

        alice
            .send("<presence to='bob@localhost/phone' type='subscribe'><status>it is me</status></presence>")
            .await;
        assert_eq!(seen(&mut alice).await, ["push bob@localhost none ask"]);
        let request = bob.next().await;
        assert_eq!(short(&request), "subscribe alice@localhost");
        assert_eq!(request.child("jabber:client", "status").text(), "it is me");
        assert_eq!(roster(&mut bob).await, [""; 0], "a request is no contact yet");

        bob.send(&presence("alice@localhost", "subscribed")).await;
        assert_eq!(seen(&mut bob).await, ["push alice@localhost from"]);
        let wanted = ["subscribed bob@localhost", "push bob@localhost to", "available bob@localhost/phone"];
        let mut got = seen(&mut alice).await;
        got.sort_by_key(|line| wanted.iter().position(|wanted| wanted == line));
        assert_eq!(got, wanted);

        bob.send(&presence("alice@localhost", "subscribe")).await;
        assert_eq!(seen(&mut bob).await, ["push alice@localhost from ask"]);
        assert_eq!(seen(&mut alice).await, ["subscribe bob@localhost"]);
        alice.send(&presence("bob@localhost", "subscribed")).await;
        assert_eq!(seen(&mut alice).await, ["push bob@localhost both"]);
        seen(&mut bob).await;
        assert_eq!(roster(&mut bob).await, ["alice@localhost - both "]);

        // Presence goes to those who may see it, and to nobody else.
        alice.send("<presence><show>away</show></presence>").await;
        alice.barrier().await;
        assert_eq!(seen(&mut bob).await, ["available alice@localhost/phone"]);
        assert_eq!(seen(&mut carol).await, [""; 0]);
        let mut laptop = ready(&server, "bob", "laptop").await;
        let mut got = seen(&mut laptop).await;
        got.sort();
        assert_eq!(got, ["available alice@localhost/phone", "available bob@localhost/phone"]);
        assert_eq!(seen(&mut alice).await, ["available bob@localhost/laptop"]);
        laptop.close().await;
        assert_eq!(alice.next().await.type_(), "unavailable", "the end of a session is told");
        seen(&mut bob).await;

        // All that survives a restart.
        server.down();
        server.up();
        let mut alice = ready(&server, "alice", "phone").await;
        let mut bob = ready(&server, "bob", "phone").await;
        assert_eq!(seen(&mut bob).await, ["available alice@localhost/phone"]);
        assert_eq!(seen(&mut alice).await, ["available bob@localhost/phone"]);

        // Alice no longer wants to see bob; then she removes him.
        alice.send(&presence("bob@localhost", "unsubscribe")).await;
        let got = seen(&mut alice).await;
        assert!(got.contains(&"push bob@localhost from".to_owned()), "{got:?}");
        let got = seen(&mut bob).await;
        assert!(got.contains(&"unsubscribe alice@localhost".to_owned()), "{got:?}");
        assert_eq!(roster(&mut bob).await, ["alice@localhost - to "]);
        let remove =
            "<query xmlns='jabber:iq:roster'><item jid='bob@localhost' subscription='remove'/></query>";
        alice.result("set", None, remove).await;
        alice.barrier().await;
        let got = seen(&mut bob).await;
        assert!(got.contains(&"unsubscribed alice@localhost".to_owned()), "{got:?}");
        assert!(got.contains(&"unavailable alice@localhost/phone".to_owned()), "{got:?}");
        assert_eq!(roster(&mut bob).await, ["alice@localhost - none "]);
        assert_eq!(roster(&mut alice).await, [""; 0]);
    });
}

#[test]
fn a_request_waits_for_its_answer_over_a_restart() {
    run(async {
        let mut server = Server::of(&["alice", "bob"]);
        let mut alice = ready(&server, "alice", "phone").await;
        alice.send(&presence("bob@localhost", "subscribe")).await;
        alice.send(&presence("nobody@localhost", "subscribe")).await;
        alice.barrier().await;
        let got = alice.received().await;
        assert!(got.iter().any(|stanza| short(stanza) == "unsubscribed nobody@localhost"), "{got:?}");
        server.down();
        server.up();
        for _ in 0..2 {
            // Each session is asked, until one answers.
            let mut bob = ready(&server, "bob", "phone").await;
            assert_eq!(seen(&mut bob).await, ["subscribe alice@localhost"]);
            bob.close().await;
        }
        let mut alice = ready(&server, "alice", "phone").await;
        let mut bob = ready(&server, "bob", "phone").await;
        seen(&mut bob).await;
        bob.send(&presence("alice@localhost", "unsubscribed")).await;
        bob.barrier().await;
        let got = seen(&mut alice).await;
        assert!(got.contains(&"unsubscribed bob@localhost".to_owned()), "{got:?}");
        assert!(roster(&mut alice).await.contains(&"bob@localhost - none ".to_owned()));
        bob.close().await;
        let mut bob = ready(&server, "bob", "phone").await;
        assert_eq!(seen(&mut bob).await, [""; 0], "it has been answered");
    });
}

#[test]
fn directed_presence_reaches_a_stranger_and_is_taken_back() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = ready(&server, "alice", "phone").await;
        let mut bob = ready(&server, "bob", "phone").await;
        alice.send("<presence to='bob@localhost'/>").await;
        assert_eq!(short(&bob.next().await), "available alice@localhost/phone");
        alice.close().await;
        assert_eq!(short(&bob.next().await), "unavailable alice@localhost/phone");
        for (stanza, condition) in [
            ("<presence type='unheard-of'/>", "bad-request"),
            ("<presence type='subscribe'/>", "bad-request"),
            ("<presence to='@' type='subscribe'/>", "jid-malformed"),
            ("<presence to='x@example.org' type='subscribe'/>", "remote-server-not-found"),
            ("<presence to='bob@localhost' type='subscribe'/>", "not-allowed"),
        ] {
            bob.send(stanza).await;
            assert_eq!(bob.next().await.condition(), condition, "{stanza}");
        }
    });
}
