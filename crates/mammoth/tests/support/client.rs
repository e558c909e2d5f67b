//! A client that is logged in and sees every stanza. It knows login, requests and barriers; reading the archive is in
//! `archive`, and everything else the tests write as XML.

use std::collections::VecDeque;

use data_encoding::BASE64;
use mammoth_accounts::scram::ScramHash;
use mammoth_accounts::scram::client::{ClientExchange, proves};

use super::DOMAIN;
use super::connection::{Connection, Incoming, Receiver, Sender, header_with};
use super::ledger::Ledger;
use super::server::{PASSWORD, Server};
use super::xml::Xml;

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// SCRAM-SHA-256-PLUS.
    Sha256Plus,
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-1-PLUS.
    Sha1Plus,
    /// SCRAM-SHA-1.
    Sha1,
    /// PLAIN.
    Plain,
}

impl Auth {
    fn name(self) -> &'static str {
        match self {
            Auth::Sha256Plus => "SCRAM-SHA-256-PLUS",
            Auth::Sha256 => "SCRAM-SHA-256",
            Auth::Sha1Plus => "SCRAM-SHA-1-PLUS",
            Auth::Sha1 => "SCRAM-SHA-1",
            Auth::Plain => "PLAIN",
        }
    }
}

/// A client that is logged in.
pub struct Client {
    /// Its account.
    pub account: String,
    /// Its address.
    pub jid: String,
    /// In.
    pub receiver: Receiver,
    /// Out.
    pub sender: Sender,
    /// The mechanisms it was offered.
    pub offered: Vec<String>,
    /// What came while something else was waited for.
    early: VecDeque<Xml>,
    ids: u32,
    ledger: Ledger,
}

impl Client {
    /// Logs in over STARTTLS.
    pub async fn login(server: &Server, name: &str, resource: &str, auth: Auth) -> Client {
        let connection = Connection::starttls(server.c2s(), &server.certificate()).await;
        Client::over(connection, server, name, resource, auth, "").await
    }

    /// Logs in over a connection that is ready for it. `header` is added to the last stream header.
    pub async fn over(
        connection: Connection,
        server: &Server,
        name: &str,
        resource: &str,
        auth: Auth,
        header: &str,
    ) -> Client {
        Client::begin(connection, server, name, auth, header).await.bind(resource, resource).await
    }

    /// Logs in with a resource that is written differently in XML.
    pub async fn over_named(
        connection: Connection,
        server: &Server,
        name: &str,
        resource: &str,
        escaped: &str,
    ) -> Client {
        Client::begin(connection, server, name, Auth::Sha256, "").await.bind(resource, escaped).await
    }

    /// Logs in, and does not bind a resource yet.
    async fn begin(
        mut connection: Connection,
        server: &Server,
        name: &str,
        auth: Auth,
        header: &str,
    ) -> Client {
        let offered = offered(&mut connection).await;
        assert!(offered.iter().any(|mechanism| mechanism == auth.name()), "{auth:?} in {offered:?}");
        let outcome = try_mechanism(&mut connection, name, PASSWORD, auth).await;
        assert_eq!(outcome, "success", "{name} logs in with {auth:?}");
        let Connection { receiver, sender, .. } = connection;
        let account = format!("{name}@{DOMAIN}");
        let (jid, early, ledger) = (account.clone(), VecDeque::new(), server.ledger.clone());
        let mut client = Client { account, jid, receiver, sender, offered, early, ids: 0, ledger };
        client.send(&header_with(header)).await;
        let features = client.receiver.features().await;
        assert!(features.find("urn:ietf:params:xml:ns:xmpp-bind", "bind").is_some(), "{features}");
        client
    }

    async fn bind(mut self, resource: &str, escaped: &str) -> Client {
        self.jid = format!("{}/{resource}", self.account);
        let ns = "urn:ietf:params:xml:ns:xmpp-bind";
        let bind = format!("<bind xmlns='{ns}'><resource>{escaped}</resource></bind>");
        let bound = self.result("set", None, &bind).await;
        assert_eq!(bound.child(ns, "bind").child(ns, "jid").text(), self.jid);
        self
    }

    /// Sends XML as it is.
    pub async fn send(&mut self, xml: &str) {
        self.sender.send(xml).await;
    }

    /// Sends a message with a body to somebody, under an id.
    pub async fn chat(&mut self, to: &str, id: &str, body: &str) {
        let body = body.replace('&', "&amp;").replace('<', "&lt;");
        self.send(&format!("<message type='chat' to='{to}' id='{id}'><body>{body}</body></message>")).await;
    }

    async fn read(&mut self) -> Incoming {
        let incoming = self.receiver.next().await;
        if let Incoming::Stanza(stanza) = &incoming {
            self.ledger.note(&self.account, stanza);
        }
        incoming
    }

    /// The next stanza, early ones first; there must be one.
    pub async fn next(&mut self) -> Xml {
        if let Some(stanza) = self.early.pop_front() {
            return stanza;
        }
        match self.read().await {
            Incoming::Stanza(stanza) => stanza,
            other => panic!("{}: a stanza was expected, and there came {other:?}", self.jid),
        }
    }

    /// The next stanza, or `None` when the stream has ended.
    pub async fn next_or_end(&mut self) -> Option<Xml> {
        if let Some(stanza) = self.early.pop_front() {
            return Some(stanza);
        }
        match self.read().await {
            Incoming::Stanza(stanza) if !stanza.is("http://etherx.jabber.org/streams", "error") => {
                Some(stanza)
            }
            _ => None,
        }
    }

    /// The next message; presence before it is passed over.
    pub async fn message(&mut self) -> Xml {
        loop {
            let stanza = self.next().await;
            if stanza.name == "message" {
                return stanza;
            }
            assert_eq!(stanza.name, "presence", "{}: {stanza}", self.jid);
        }
    }

    /// Asks something and waits for the answer, whatever it is. What comes before is kept for later.
    pub async fn ask(&mut self, type_: &str, to: Option<&str>, payload: &str) -> Xml {
        self.ids += 1;
        let id = format!("q{}", self.ids);
        let to = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
        self.send(&format!("<iq type='{type_}' id='{id}'{to}>{payload}</iq>")).await;
        self.answer(&id).await
    }

    /// Waits for the answer to a request.
    pub async fn answer(&mut self, id: &str) -> Xml {
        loop {
            match self.read().await {
                Incoming::Stanza(stanza) => {
                    let answers = matches!(stanza.type_(), "result" | "error");
                    if stanza.name == "iq" && answers && stanza.attr("id") == Some(id) {
                        return stanza;
                    }
                    self.early.push_back(stanza);
                }
                other => panic!("{}: an answer was expected, and there came {other:?}", self.jid),
            }
        }
    }

    /// Asks something that must succeed.
    pub async fn result(&mut self, type_: &str, to: Option<&str>, payload: &str) -> Xml {
        let answer = self.ask(type_, to, payload).await;
        assert_eq!(answer.type_(), "result", "{payload}: {answer}");
        answer
    }

    /// Asks something that must fail. Answers the condition.
    pub async fn error(&mut self, type_: &str, to: Option<&str>, payload: &str) -> String {
        let answer = self.ask(type_, to, payload).await;
        assert_eq!(answer.type_(), "error", "{payload}: {answer}");
        answer.condition()
    }

    /// Becomes available with priority 0, and has seen itself so.
    pub async fn available(&mut self) {
        self.send("<presence/>").await;
        self.barrier().await;
    }

    /// Waits until everything that this client sent before has been dealt with, messages delivered included.
    pub async fn barrier(&mut self) {
        self.ask("get", None, "<metadata xmlns='urn:xmpp:mam:2'/>").await;
    }

    /// Everything that has come for this client up to now.
    pub async fn received(&mut self) -> Vec<Xml> {
        self.barrier().await;
        self.early.drain(..).collect()
    }

    /// The messages that have come for this client up to now.
    pub async fn messages(&mut self) -> Vec<Xml> {
        let received = self.received().await;
        received.into_iter().filter(|stanza| stanza.name == "message").collect()
    }

    /// Stanzas that came while something else was waited for, as far as they match.
    pub fn take_early(&mut self, wanted: impl Fn(&Xml) -> bool) -> Vec<Xml> {
        let (taken, left): (Vec<Xml>, Vec<Xml>) = self.early.drain(..).partition(wanted);
        self.early = left.into();
        taken
    }

    /// Reads to the end of the stream: the condition of the error before it.
    pub async fn stream_error(&mut self) -> String {
        self.receiver.stream_error().await
    }

    /// Logs out, and waits for the end.
    pub async fn close(mut self) {
        self.send("</stream:stream>").await;
        loop {
            match self.read().await {
                Incoming::End => break,
                Incoming::Stanza(_) => {}
                other => panic!("{}: the end was expected, and there came {other:?}", self.jid),
            }
        }
    }
}

/// Opens a stream on a connection that is ready for login. Answers the mechanisms.
async fn offered(connection: &mut Connection) -> Vec<String> {
    connection.sender.send(&header_with("")).await;
    let features = connection.receiver.features().await;
    features.child(SASL, "mechanisms").children().map(Xml::text).collect()
}

/// Tries to log in on a connection that is ready for it. Answers `success`, or why not.
pub async fn authenticate(connection: &mut Connection, name: &str, password: &str, auth: Auth) -> String {
    let offered = offered(connection).await;
    assert!(offered.iter().any(|mechanism| mechanism == auth.name()), "{auth:?} in {offered:?}");
    try_mechanism(connection, name, password, auth).await
}

/// One more try on a connection that has seen the features.
pub async fn try_mechanism(connection: &mut Connection, name: &str, password: &str, auth: Auth) -> String {
    let binding = connection.binding.clone();
    let (hash, binding) = match auth {
        Auth::Sha256Plus => (ScramHash::Sha256, binding),
        Auth::Sha256 => (ScramHash::Sha256, None),
        Auth::Sha1Plus => (ScramHash::Sha1, binding),
        Auth::Sha1 => (ScramHash::Sha1, None),
        Auth::Plain => {
            let message = BASE64.encode(format!("\0{name}\0{password}").as_bytes());
            say(connection, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{message}</auth>")).await;
            return outcome(&connection.receiver.stanza().await);
        }
    };
    let mut nonce = [0; 18];
    getrandom::fill(&mut nonce).expect("random bytes");
    let (exchange, first) = ClientExchange::begin(hash, name, &BASE64.encode(&nonce), binding);
    let first = BASE64.encode(&first);
    say(connection, &format!("<auth xmlns='{SASL}' mechanism='{}'>{first}</auth>", auth.name())).await;
    let challenge = connection.receiver.stanza().await;
    if challenge.name != "challenge" {
        return outcome(&challenge);
    }
    let challenge = BASE64.decode(challenge.text().as_bytes()).expect("base64");
    let (answer, verifier) = exchange.answer(&challenge, password).expect("a challenge");
    say(connection, &format!("<response xmlns='{SASL}'>{}</response>", BASE64.encode(&answer))).await;
    let last = connection.receiver.stanza().await;
    if last.name == "success" {
        let shown = BASE64.decode(last.text().as_bytes()).expect("base64");
        assert!(proves(&shown, &verifier), "the server must show that it knows the password too");
    }
    outcome(&last)
}

async fn say(connection: &mut Connection, text: &str) {
    connection.sender.send(text).await;
}

fn outcome(stanza: &Xml) -> String {
    match stanza.name.as_str() {
        "failure" => stanza.children().next().expect("a reason").name.clone(),
        other => other.to_owned(),
    }
}
