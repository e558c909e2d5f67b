//! Hostile input: each kind is answered with the right error, ends only its own stream, and harms nobody else.

use crate::support::client::authenticate;
use crate::support::connection::{STARTTLS, header, header_with};
use crate::support::server::PASSWORD;
use crate::support::{Auth, Client, Connection, Incoming, Options, Server, form, run, soon};

/// Two who talk while others attack.
struct Pair {
    alice: Client,
    bob: Client,
    said: usize,
}

impl Pair {
    async fn new(server: &Server) -> Pair {
        let (alice, bob) = (server.client("alice", "phone").await, server.client("bob", "phone").await);
        Pair { alice, bob, said: 0 }
    }

    /// One more message comes through, and nothing else does.
    async fn talk(&mut self) {
        self.said += 1;
        let body = format!("still here {}", self.said);
        self.alice.chat("bob@localhost", "m", &body).await;
        let received = self.bob.message().await;
        assert_eq!(received.body(), Some(body));
        assert_eq!(received.attr("from"), Some("alice@localhost/phone"));
    }

    /// At the end both archives hold exactly what was said.
    async fn check(mut self) {
        let said: Vec<String> = (1..=self.said).map(|i| format!("still here {i}")).collect();
        assert_eq!(self.alice.archived_bodies().await, said);
        assert_eq!(self.bob.archived_bodies().await, said);
    }
}

/// Input that ends any stream, whether logged in or not.
fn attacks() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let laughs: String =
        (1..9).map(|i| format!("<!ENTITY l{i} '{}'>", format!("&l{};", i - 1).repeat(10))).collect();
    let laughs = format!("<!DOCTYPE x [<!ENTITY l0 'ha'>{laughs}]><message><body>&l8;</body></message>");
    let attributes: String = (0..5000).map(|i| format!(" a{i}='{i}'")).collect();
    let namespaces: String = (0..5000).map(|i| format!(" xmlns:n{i}='urn:{i}'")).collect();
    let nested_namespaces: String =
        (0..60).map(|i| format!("<x xmlns:a{i}='1' xmlns:b{i}='2' xmlns:c{i}='3'>")).collect();
    let start = "<message to='bob@localhost'><body>";
    let bytes = |pieces: &[&[u8]]| pieces.concat();
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("1 MB of text", text(&format!("{start}{}", "x".repeat(1024 * 1024))), "policy-violation"),
        (
            "1 MB of children",
            text(&format!("<message to='bob@localhost'>{}", "<x xmlns='urn:x'/>".repeat(64 * 1024))),
            "policy-violation",
        ),
        ("10,000 levels", text(&"<message>".repeat(10_000)), "policy-violation"),
        (
            "10,000 levels inside",
            text(&format!("<message>{}", "<a xmlns='u'>".repeat(10_000))),
            "policy-violation",
        ),
        ("billion laughs", text(&laughs), "restricted-xml"),
        ("an entity", text(&format!("{start}&nbsp;</body></message>")), "restricted-xml"),
        ("a comment", text("<message><!-- c --></message>"), "restricted-xml"),
        ("a processing instruction", text("<message><?php ?></message>"), "restricted-xml"),
        ("invalid UTF-8", bytes(&[start.as_bytes(), b"\xff\xfe</body></message>"]), "unsupported-encoding"),
        ("a surrogate", bytes(&[start.as_bytes(), b"\xed\xa0\x80</body></message>"]), "unsupported-encoding"),
        (
            "an overlong form",
            bytes(&[start.as_bytes(), b"\xc0\xafx</body></message>"]),
            "unsupported-encoding",
        ),
        ("NUL", bytes(&[start.as_bytes(), b"\0</body></message>"]), "not-well-formed"),
        ("NUL as a reference", text(&format!("{start}&#0;</body></message>")), "not-well-formed"),
        ("a control character", text(&format!("{start}\u{8}</body></message>")), "not-well-formed"),
        ("NUL between stanzas", b"\0".to_vec(), "not-well-formed"),
        (
            "a start tag that never ends",
            text(&format!("<message {}", "x".repeat(1024 * 1024))),
            "policy-violation",
        ),
        (
            "a value that never ends",
            text(&format!("<message a='{}", "x".repeat(1024 * 1024))),
            "policy-violation",
        ),
        ("a name that never ends", text(&format!("<{}", "x".repeat(1024 * 1024))), "policy-violation"),
        ("spaces that never end", text(&format!("<message{}", " ".repeat(1024 * 1024))), "policy-violation"),
        ("thousands of attributes", text(&format!("<message{attributes}/>")), "policy-violation"),
        ("thousands of namespaces", text(&format!("<message{namespaces}/>")), "policy-violation"),
        ("namespaces at every level", text(&format!("<message>{nested_namespaces}")), "policy-violation"),
        ("an attribute twice", text("<message a='1' a='2'/>"), "not-well-formed"),
        (
            "an attribute twice by its namespace",
            text("<message xmlns:a='u' xmlns:b='u' a:x='1' b:x='2'/>"),
            "not-well-formed",
        ),
        ("an undeclared prefix", text("<message><a:b/></message>"), "bad-namespace-prefix"),
        ("wrong nesting", text("<message><body></message></body>"), "not-well-formed"),
        ("text between stanzas", text("hello"), "bad-format"),
        ("no XML", text("<<<>>>"), "not-well-formed"),
    ]
}

#[test]
fn before_login() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut pair = Pair::new(&server).await;
        for (what, bytes, condition) in attacks() {
            // In plain text, and inside TLS.
            let mut plain = Connection::open(server.c2s()).await;
            plain.sender.send(&header()).await;
            plain.receiver.features().await;
            let mut tls = Connection::starttls(server.c2s(), &server.certificate()).await;
            tls.sender.send(&header()).await;
            tls.receiver.features().await;
            for (how, mut connection) in [("plain", plain), ("TLS", tls)] {
                let Connection { sender, receiver, .. } = &mut connection;
                let ((), error) = tokio::join!(sender.send_bytes(&bytes), receiver.stream_error());
                assert_eq!(error, condition, "{what}, {how}");
            }
            pair.talk().await;
        }
        pair.check().await;
    });
}

#[test]
fn after_login() {
    run(async {
        let server = Server::of(&["alice", "bob", "mallory"]);
        let mut pair = Pair::new(&server).await;
        for (what, bytes, condition) in attacks() {
            let mut mallory = server.client("mallory", "m").await;
            let Client { sender, receiver, .. } = &mut mallory;
            let ((), error) = tokio::join!(sender.send_bytes(&bytes), receiver.stream_error());
            assert_eq!(error, condition, "{what}");
            pair.talk().await;
        }
        let mut mallory = server.client("mallory", "m").await;
        assert_eq!(mallory.archive().await.len(), 0, "nothing of it was archived");
        pair.check().await;
    });
}

#[test]
fn as_the_first_bytes() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut pair = Pair::new(&server).await;
        let plain = header();
        let cases = [
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), "not-well-formed"),
            ("\0\0\0\0".to_owned(), "unsupported-encoding"),
            (format!("<!DOCTYPE stream [<!ENTITY a 'b'>]>{plain}"), "restricted-xml"),
            (format!("<!-- hello -->{plain}"), "restricted-xml"),
            (plain.replace("version='1.0' xmlns", "xmlns"), "unsupported-version"),
            (plain.replace("jabber:client", "jabber:server"), "invalid-namespace"),
            (plain.replace("etherx", "example"), "invalid-namespace"),
            (plain.replace("stream:stream", "stream:flood"), "bad-format"),
            (plain.replace("to='localhost' ", ""), "improper-addressing"),
            (plain.replace("to='localhost'", "to='@'"), "host-unknown"),
            (plain.replace("to='localhost'", &format!("to='{}'", "x".repeat(100_000))), "policy-violation"),
            (
                header_with(&(0..1000).map(|i| format!(" xmlns:n{i}='u{i}'")).collect::<String>()),
                "policy-violation",
            ),
            (
                plain
                    .replace("encoding", "")
                    .replace("<?xml version='1.0'?>", "<?xml version='1.0' encoding='UTF-16'?>"),
                "unsupported-encoding",
            ),
            (plain.replace("<?xml version='1.0'?>", "<?xml version='1.1'?>"), "not-well-formed"),
            (format!("{plain}{plain}"), "restricted-xml"),
            (format!("{plain}<message to='bob@localhost'><body>x</body></message>"), "not-authorized"),
            (format!("{plain}<iq type='get' id='1'><query xmlns='urn:xmpp:mam:2'/></iq>"), "not-authorized"),
            (
                format!(
                    "{plain}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>"
                ),
                "not-authorized",
            ),
        ];
        for (bytes, condition) in cases {
            let mut connection = Connection::open(server.c2s()).await;
            let Connection { sender, receiver, .. } = &mut connection;
            let ((), error) = tokio::join!(sender.send(&bytes), receiver.stream_error());
            assert_eq!(error, condition, "{bytes:.300}");
            pair.talk().await;
        }
        // Garbage of every kind, byte by byte different: no answer is prescribed, but that the server lives.
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..100 {
            let garbage: Vec<u8> = std::iter::repeat_with(|| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .take(300)
            .collect();
            for address in [server.c2s(), server.c2s_tls(), server.c2s_plain()] {
                let mut connection = Connection::open(address).await;
                connection.sender.send_bytes(&garbage).await;
                connection.sender.shut().await;
                connection.receiver.stream_error().await;
            }
        }
        pair.talk().await;
        pair.check().await;
    });
}

#[test]
fn plain_text_before_the_handshake_is_never_read_as_secret() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut pair = Pair::new(&server).await;
        let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>";
        let injected = format!("{STARTTLS}{}{auth}", header());
        let mut connection = Connection::open(server.c2s()).await;
        connection.sender.send(&header()).await;
        connection.receiver.features().await;
        connection.sender.send(&injected).await;
        assert_eq!(connection.receiver.stream_error().await, "policy-violation");
        pair.talk().await;

        // All in one, before even the features came.
        let mut connection = Connection::open(server.c2s()).await;
        connection.sender.send(&(header() + &injected)).await;
        assert_eq!(connection.receiver.stream_error().await, "policy-violation");

        // After the server has agreed: it is no TLS record, and the connection ends.
        let mut connection = Connection::open(server.c2s()).await;
        connection.sender.send(&header()).await;
        connection.receiver.features().await;
        connection.sender.send(STARTTLS).await;
        assert_eq!(connection.receiver.stanza().await.name, "proceed");
        connection.sender.send(&(header() + auth)).await;
        soon("the end", async { while !matches!(connection.receiver.next().await, Incoming::Closed) {} })
            .await;
        pair.talk().await;
        pair.check().await;
    });
}

#[test]
fn a_client_that_never_reads_is_let_go_and_misses_nothing() {
    run(async {
        const LARGE: usize = 200_000;
        const MESSAGES: usize = 120;
        let server = Server::of(&["alice", "bob", "carol", "dave"]);
        let mut pair = Pair::new(&server).await;
        let mut carol = server.client("carol", "deaf").await;
        let mut dave = server.client("dave", "loud").await;
        let body = "x".repeat(LARGE);
        for i in 0..MESSAGES {
            dave.chat("carol@localhost", &format!("m{i}"), &body).await;
            if i % 20 == 0 {
                pair.talk().await;
            }
        }
        dave.barrier().await;
        pair.talk().await;
        server.wait_for_log("the end of a session", |line| {
            (line.contains("session ended") && line.contains("carol@localhost/deaf")).then_some(())
        });
        // What she did not read she finds in her archive.
        let mut again = server.client("carol", "again").await;
        let saved = again.archive().await;
        assert_eq!(saved.len(), MESSAGES);
        assert!(
            saved.iter().enumerate().all(|(i, saved)| saved.message.attr("id") == Some(&format!("m{i}")))
        );
        carol.sender.shut().await;
        pair.check().await;
    });
}

#[test]
fn a_client_that_asks_and_never_reads_takes_no_memory() {
    run(async {
        let server = Server::with_accounts(
            Options::top("max_archive_query_results = 100"),
            &["alice", "bob", "carol"],
        );
        let mut pair = Pair::new(&server).await;
        let mut carol = server.client("carol", "greedy").await;
        let body = "x".repeat(50_000);
        for i in 0..100 {
            carol.chat("carol@localhost", &format!("m{i}"), &body).await;
            carol.message().await;
        }
        let before = resident_kib(server.pid());
        // Each of the answers is 5 MB. The server takes up the next question only once most of it is read.
        let question = "<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>".repeat(200);
        carol.send(&question).await;
        for _ in 0..20 {
            pair.talk().await;
        }
        let grown = resident_kib(server.pid()).saturating_sub(before);
        assert!(grown < 100 * 1024, "the server grew by {grown} KiB");
        drop(carol);
        pair.check().await;
    });
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn nobody_speaks_in_anothers_name() {
    run(async {
        let server = Server::of(&["alice", "bob", "mallory"]);
        let mut pair = Pair::new(&server).await;
        let stanzas = [
            "<message from='alice@localhost' to='bob@localhost'><body>forged</body></message>",
            "<message from='alice@localhost/phone' to='bob@localhost'><body>forged</body></message>",
            "<message from='mallory@localhost/other' to='bob@localhost'><body>forged</body></message>",
            "<message from='localhost' to='bob@localhost'><body>forged</body></message>",
            "<message from='@' to='bob@localhost'><body>forged</body></message>",
            "<message from='' to='bob@localhost'><body>forged</body></message>",
            "<presence from='alice@localhost/phone' to='bob@localhost'/>",
            "<iq from='alice@localhost/phone' type='set' id='1'><trim xmlns='urn:xmpp:mamtrim:0'/></iq>",
        ];
        for stanza in stanzas {
            let mut mallory = server.client("mallory", "m").await;
            mallory.send(stanza).await;
            assert_eq!(mallory.stream_error().await, "invalid-from", "{stanza}");
        }
        // One's own name, bare or full, is no forgery, and is set right.
        let mut mallory = server.client("mallory", "m").await;
        for from in ["mallory@localhost", "mallory@localhost/m", "MALLORY@LocalHost/m"] {
            mallory
                .send(&format!(
                    "<message from='{from}' to='bob@localhost/phone'><x xmlns='urn:x'/></message>"
                ))
                .await;
            let message = pair.bob.message().await;
            assert_eq!(message.attr("from"), Some("mallory@localhost/m"), "{from}");
        }
        pair.talk().await;
        pair.check().await;
    });
}

#[test]
fn forged_stanza_ids_are_removed_and_others_kept() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut laptop = server.client("alice", "laptop").await;
        let mut bob = server.client("bob", "phone").await;
        let forged = [
            "<stanza-id xmlns='urn:xmpp:sid:0' by='bob@localhost' id='forged'/>",
            "<stanza-id xmlns='urn:xmpp:sid:0' by='BOB@localhost' id='forged'/>",
            "<stanza-id xmlns='urn:xmpp:sid:0' by='bob@localhost/phone' id='forged'/>",
            "<stanza-id xmlns='urn:xmpp:sid:0' by='alice@localhost' id='forged'/>",
            "<s:stanza-id xmlns:s='urn:xmpp:sid:0' by='bob@localhost' id='forged'>text</s:stanza-id>",
            "<stanza-id xmlns='urn:xmpp:sid:0' by='bob@&#108;ocalhost' id='forged'/>",
        ];
        let kept = "<stanza-id xmlns='urn:xmpp:sid:0' by='room@muc.example.org' id='theirs'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' id='by nobody'/>\
             <origin-id xmlns='urn:xmpp:sid:0' id='mine'/>\
             <x xmlns='urn:x'><stanza-id xmlns='urn:xmpp:sid:0' by='room@muc.example.org' id='inner'/></x>";
        // Where the message is archived, and where it is not.
        for extra in ["<body>hello</body>", "<body>hello</body><no-store xmlns='urn:xmpp:hints'/>"] {
            for to in ["bob@localhost", "bob@localhost/phone"] {
                let all = forged.concat();
                alice
                    .send(&format!("<message to='{to}' type='chat' id='f'>{all}{extra}{kept}{all}</message>"))
                    .await;
                let received = bob.message().await;
                let archived = !extra.contains("no-store");
                let ids = received.stanza_ids();
                let ours: Vec<_> =
                    ids.iter().filter(|(by, _)| by.to_lowercase().contains("localhost")).collect();
                assert_eq!(ours.len(), usize::from(archived), "{received}");
                assert!(!received.raw.0.contains("forged"), "{received}");
                assert!(
                    ids.contains(&("room@muc.example.org", "theirs")) && ids.contains(&("", "by nobody"))
                );
                assert!(received.find("urn:xmpp:sid:0", "origin-id").is_some());
                assert!(received.child("urn:x", "x").find("urn:xmpp:sid:0", "stanza-id").is_some());
                let copy = laptop.message().await;
                assert!(!copy.raw.0.contains("forged"), "{copy}");
            }
        }
        for client in [&mut alice, &mut bob] {
            let saved = client.archive().await;
            assert_eq!(saved.len(), 2);
            assert!(saved.iter().all(|saved| !saved.message.raw.0.contains("forged")));
        }
    });
}

#[test]
fn connections_are_limited_and_given_back() {
    run(async {
        let server = Server::with_accounts(Options::limits("connections = 3"), &["alice", "bob"]);
        let mut pair = Pair::new(&server).await;
        let mut third = Connection::open(server.c2s()).await;
        third.sender.send(&header()).await;
        third.receiver.features().await;
        let mut fourth = Connection::open(server.c2s()).await;
        assert!(matches!(fourth.receiver.next().await, Incoming::Closed), "one too many");
        pair.talk().await;
        third.sender.send("</stream:stream>").await;
        while !matches!(third.receiver.next().await, Incoming::Closed) {}
        drop(third);
        // Its place is given back.
        soon("a place", async {
            loop {
                let mut next = Connection::open(server.c2s()).await;
                next.sender.send(&header()).await;
                if let Incoming::Header(_) = next.receiver.next().await {
                    break;
                }
            }
        })
        .await;
        pair.check().await;
    });
}

#[test]
fn bodies_and_passwords_are_in_no_log() {
    run(async {
        let options = Options { log: "trace", ..Options::default() };
        let server = Server::with_accounts(options, &["alice", "bob"]);
        const SECRET: &str = "xyzzy-in-a-body";
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        alice.chat("bob@localhost", "1", SECRET).await;
        assert_eq!(bob.message().await.body().as_deref(), Some(SECRET));
        for stanza in [
            "<message to='nobody@localhost' id='2'><body>xyzzy-in-a-body</body></message>",
            "<message to='bob@localhost' id='3'><subject>xyzzy-in-a-body</subject></message>",
            "<message to='bob@localhost' id='4' type='headline'><body>xyzzy-in-a-body</body></message>",
            "<message to='bob@localhost' id='5'><retract xmlns='urn:xmpp:message-retract:1' id='1'/><body>xyzzy-in-a-body</body></message>",
            "<presence><status>xyzzy-in-a-body</status></presence>",
            "<iq type='get' id='6'><query xmlns='urn:x'>xyzzy-in-a-body</query></iq>",
        ] {
            alice.send(stanza).await;
            alice.barrier().await;
        }
        alice.archive().await;
        bob.page(&form(&[("with", &["alice@localhost"])])).await;
        alice.send("<message><body>xyzzy-in-a-body<broken</body></message>").await;
        assert_eq!(alice.stream_error().await, "not-well-formed");
        let mut connection = Connection::starttls(server.c2s(), &server.certificate()).await;
        authenticate(&mut connection, "alice", &format!("{PASSWORD} wrong"), Auth::Plain).await;
        bob.close().await;
        let log = server.log();
        assert!(log.iter().any(|line| line.contains("DEBUG")), "the log is a detailed one: {log:#?}");
        let secrets = ["xyzzy", "battery staple", &data_encoding::BASE64.encode(PASSWORD.as_bytes())];
        for line in log {
            assert!(secrets.iter().all(|secret| !line.contains(secret)), "{line}");
        }
    });
}
