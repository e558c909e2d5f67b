//! tokio-xmpp with the types of xmpp-parsers: two accounts talk, one goes away and catches up. See ../README.md.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio_xmpp::connect::DnsConfig;
use tokio_xmpp::jid::{BareJid, Jid};
use tokio_xmpp::minidom::Element;
use tokio_xmpp::parsers::mam::{Fin, MetadataQuery, Query, QueryId, Result_};
use tokio_xmpp::parsers::message::{Lang, Message};
use tokio_xmpp::parsers::presence::Presence;
use tokio_xmpp::parsers::rsm::SetQuery;
use tokio_xmpp::parsers::stanza_id::StanzaId;
use tokio_xmpp::xmlstream::Timeouts;
use tokio_xmpp::{Client as Connection, Event, IqRequest, IqResponse, Stanza, rustls};

const PATIENCE: Duration = Duration::from_secs(60);

/// One account that keeps what it receives.
struct Client {
    connection: Connection,
    account: BareJid,
    domain: String,
    page_max: usize,
    received: VecDeque<Message>,
    results: Vec<Result_>,
}

/// A page of the archive.
struct Page {
    bodies: Vec<String>,
    fin: Fin,
}

impl Client {
    async fn log_in(name: &str, given: &Value) -> Client {
        let text = |key: &str| given[key].as_str().expect(key).to_owned();
        let domain = text("domain");
        let account: BareJid = format!("{name}@{domain}").parse().expect("a JID");
        let address = format!("{}:{}", text("host"), given["port"]);
        let jid: Jid = account.with_resource_str("tokio-xmpp").expect("a resource").into();
        let connection =
            Connection::new_starttls(jid, text("password"), DnsConfig::addr(&address), Timeouts::default());
        let page_max = given["page"].as_u64().expect("page") as usize;
        let (received, results) = (VecDeque::new(), Vec::new());
        let mut client = Client { connection, account, domain, page_max, received, results };
        loop {
            match tokio::time::timeout(PATIENCE, client.connection.next()).await.expect("login") {
                Some(Event::Online { .. }) => break,
                Some(Event::Stanza(_)) => {}
                other => panic!("instead of a session: {other:?}"),
            }
        }
        client.connection.send_stanza(Presence::available().into()).await.expect("sent");
        client.settle().await;
        client
    }

    fn take(&mut self, event: Option<Event>) {
        let stanza = match event.expect("the connection") {
            Event::Stanza(stanza) => stanza,
            other => panic!("instead of a stanza: {other:?}"),
        };
        let Stanza::Message(mut message) = stanza else { return };
        match message.extract_valid_payload::<Result_>() {
            Some(result) => self.results.push(result),
            None if !message.bodies.is_empty() => self.received.push_back(message),
            None => {}
        }
    }

    /// Asks, and takes what comes until the answer.
    async fn ask(&mut self, request: IqRequest) -> Option<Element> {
        let mut answer = self.connection.send_iq(None, request).await;
        loop {
            tokio::select! {
                biased;
                event = self.connection.next() => self.take(event),
                answer = &mut answer => match answer.expect("an answer") {
                    IqResponse::Result(payload) => {
                        return payload;
                    }
                    IqResponse::Error(error) => panic!("refused: {error:?}"),
                },
                () = tokio::time::sleep(PATIENCE) => panic!("waited in vain for an answer"),
            }
        }
    }

    /// Waits until everything that was sent has been dealt with.
    async fn settle(&mut self) {
        self.ask(IqRequest::Get(MetadataQuery.into())).await;
    }

    async fn say(&mut self, to: &str, body: &str) {
        let to: Jid = format!("{to}@{}", self.domain).parse().expect("a JID");
        let message = Message::chat(to).with_body(Lang::default(), body.to_owned());
        self.connection.send_stanza(message.into()).await.expect("sent");
    }

    /// The next message: its body, and its id in the own archive.
    async fn hear(&mut self) -> (String, String) {
        while self.received.is_empty() {
            let event = tokio::time::timeout(PATIENCE, self.connection.next()).await.expect("a message");
            self.take(event);
        }
        let message = self.received.pop_front().expect("just seen");
        let ids = message.payloads.iter().filter_map(|payload| StanzaId::try_from(payload.clone()).ok());
        let own: Vec<StanzaId> = ids.filter(|id| id.by.to_bare() == self.account).collect();
        assert_eq!(own.len(), 1, "one id of the own archive: {message:?}");
        (body(&message), own[0].id.clone())
    }

    async fn page(&mut self, after: Option<String>, before: Option<String>) -> Page {
        let set = SetQuery { max: Some(self.page_max), after, before, index: None };
        let queryid = Some(QueryId("q".to_owned()));
        let query = Query { queryid, node: None, form: None, set: Some(set), flip_page: false };
        let answer = self.ask(IqRequest::Set(query.into())).await.expect("a payload");
        let fin = Fin::try_from(answer).expect("the end of a page");
        let bodies = self.results.drain(..).map(|result| body(&result.forwarded.message)).collect();
        Page { bodies, fin }
    }

    async fn after(&mut self, mut id: String) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let page = self.page(Some(id.clone()), None).await;
            bodies.extend(page.bodies);
            match page.fin.set.last {
                Some(last) if !page.fin.complete => id = last,
                _ => return bodies,
            }
        }
    }

    async fn backwards(&mut self) -> Vec<String> {
        let (mut bodies, mut before) = (Vec::new(), String::new());
        loop {
            let page = self.page(None, Some(before)).await;
            bodies.splice(0..0, page.bodies);
            match page.fin.set.first {
                Some(first) if !page.fin.complete => before = first.item,
                _ => return bodies,
            }
        }
    }
}

fn body(message: &Message) -> String {
    message.get_best_body(vec![]).map(|(_, body)| body.clone()).unwrap_or_default()
}

async fn talk(given: &Value) -> Value {
    let messages = |key: &str| {
        let list = given[key].as_array().expect("a list").iter();
        let text = |message: &Value, key: &str| message[key].as_str().expect("text").to_owned();
        list.map(|m| (text(m, "from"), text(m, "to"), text(m, "body"))).collect::<Vec<_>>()
    };
    let mut alice = Client::log_in("alice", given).await;
    let mut bob = Client::log_in("bob", given).await;
    let (mut to_alice, mut to_bob, mut last) = (Vec::new(), Vec::new(), String::new());
    for (from, to, body) in messages("talk") {
        if from == "alice" {
            alice.say(&to, &body).await;
            let (heard, id) = bob.hear().await;
            to_bob.push(heard);
            last = id;
        } else {
            bob.say(&to, &body).await;
            to_alice.push(alice.hear().await.0);
        }
    }
    bob.connection.send_end().await.expect("the end of a session");
    for (_, to, body) in messages("away") {
        alice.say(&to, &body).await;
    }
    alice.settle().await;
    let mut bob = Client::log_in("bob", given).await;
    let caught_up = bob.after(last).await;
    let (hers, his) = (alice.backwards().await, bob.backwards().await);
    bob.connection.send_end().await.expect("the end of a session");
    alice.connection.send_end().await.expect("the end of a session");
    json!({
        "live": { "alice": to_alice, "bob": to_bob },
        "caught_up": caught_up,
        "backwards": { "alice": hers, "bob": his },
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // SSL_CERT_FILE says which certificate to trust.
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    let path = std::env::args().nth(1).expect("the file with what is to be done");
    let text = std::fs::read_to_string(path).expect("the file");
    let given: Value = serde_json::from_str(&text).expect("JSON");
    println!("{}", talk(&given).await);
}
