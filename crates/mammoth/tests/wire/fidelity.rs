//! A stanza comes back as it went in: delivered, copied and archived, it has the same information set that was sent,
//! whatever is in it.

use crate::support::connection::Connection;
use crate::support::{Auth, Client, Server, Xml, run};

/// Attributes of the stream header, and messages sent after it. Each begins after `<message` and ends the stanza.
const CASES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "><body>plain</body></message>",
            "><body>unknown</body><p:a xmlns:p='urn:p' p:b='1' b='2' xmlns:q='urn:q' q:b='3'><p:c/><c xmlns='urn:p'/>\
             <d xmlns=''/><e xmlns='urn:e'><f/><g xmlns='jabber:client'/></e></p:a></message>",
            "><x xmlns='urn:1'/><body>order</body><y xmlns='urn:2'/><subject>last</subject><x xmlns='urn:1'/></message>",
            "><body>one</body><body>two of one language</body><body xml:lang='fr'>deux</body></message>",
            "><body>inside <b xmlns='http://www.w3.org/1999/xhtml'>mixed<i/> content</b> here</body></message>",
            ">between<body>children</body> there &amp; after<x xmlns='urn:x'/>is text </message>",
            " xml:lang='pt-BR'><body>lang on the stanza</body></message>",
            "><body xml:lang='tlh'>lang on the body</body><subject xml:lang=''>none</subject></message>",
            "><body>\u{1f9a3} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466} \u{1f3f4}\u{e0067}\u{e0062}\u{e007f} \u{10fffd}</body></message>",
            "><body>e\u{301} \u{e9} o\u{308}\u{304} \u{1112}\u{1161}\u{11ab} \u{d55c} \u{fb01} \u{212b}</body></message>",
            "><body>\u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{202c} \u{645}\u{631}\u{62d}\u{628}\u{627} \u{200f}(1) \u{feff}\u{2028}\u{85}</body></message>",
            "><body><![CDATA[<b>&amp;]]> and <![CDATA[]]>]]&gt;<![CDATA[]] >]]></body></message>",
            "><body>&#13;a&#xD;&#xA;b\tc\nd  e&#9;</body></message>",
            "><body>\r\nline\rline\n\r\r\nend\r</body></message>",
            " n='a&#10;b&#9;c&#13;d' l='a\nb\tc\r\nd\re'><body>in attributes</body><x xmlns='urn:x' a='&#10;\n'/></message>",
            "><body>  </body><x xmlns='urn:x'>\n\t</x></message>",
            " unknown='yes' zzz=\"it's\" q='&quot;&apos;&lt;&gt;&amp;' ><body>attributes</body></message>",
            " xmlns:a='urn:a' a:on='the root' xml:space='preserve'><body>prefixed</body><a:x a:y='z'/></message>",
            "><body>&lt;message/&gt; &amp;lt; &#x1F9A3; &#128512;</body></message>",
            "\n\t ><body\n>spaces in tags</body\n><x xmlns = 'urn:x' a = '1' /></message >",
            "><body>a name</body><\u{e9}l\u{e9}ment xmlns='urn:\u{fc}' \u{f1}='\u{f1}'/><_.-0 xmlns='urn:x'/></message>",
            "><thread parent='t0'>t1</thread><body>thread</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='room@muc.example.org' id='theirs'/>\
             <delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z' from='gateway.example.org'/></message>",
            "><body/><x xmlns='urn:x'></x></message>",
        ],
    ),
    (
        "xmlns:geo='urn:geo' xmlns:e=\"urn:'e'&amp;&quot;\" xml:lang='de-CH'",
        &[
            "><body>prefix of the header</body><geo:loc geo:acc='5'><geo:lat>1</geo:lat></geo:loc></message>",
            " geo:at='root'><body>on an attribute only</body></message>",
            "><body>deep</body><a xmlns='urn:a'><b><c geo:d='1'><e:f xmlns:e='urn:again'/><e:g/></c></b></a></message>",
            "><body>redeclared</body><geo:x xmlns:geo='urn:other' geo:y='1'/><geo:z/></message>",
            "><body>lang of the header</body></message>",
            " xml:lang=''><body>no lang</body></message>",
            " xml:lang='it'><body xml:lang='de-CH'>its own</body></message>",
            " xmlns='jabber:client' xmlns:geo='urn:geo'><body>said again</body><geo:a/></message>",
        ],
    ),
];

/// A message as its readers must see it: what was sent after this header, with its true sender.
fn expected(header: &str, sent: &str, from: &str) -> Xml {
    let within = format!("xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' {header}");
    let mut message = Xml::parse_within(&within, sent).with_attr("from", from);
    // The header's language is that of every stanza which has none of its own (RFC 6120 §4.7.4).
    let xml = "http://www.w3.org/XML/1998/namespace".to_owned();
    if let Some(lang) = header.split("xml:lang='").nth(1).and_then(|rest| rest.split('\'').next()) {
        message.attrs.entry((xml, "lang".to_owned())).or_insert_with(|| lang.to_owned());
    }
    message
}

#[test]
fn a_stanza_comes_back_as_it_went_in() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut other = server.client("alice", "other").await;
        let mut bob = server.client("bob", "phone").await;
        let mut wanted = Vec::new();
        for (number, (header, messages)) in CASES.iter().enumerate() {
            let connection = Connection::starttls(server.c2s(), &server.certificate()).await;
            let resource = format!("r{number}");
            let mut alice = Client::over(connection, &server, "alice", &resource, Auth::Sha256, header).await;
            for (at, message) in messages.iter().enumerate() {
                let sent = format!("<message to='bob@localhost' type='chat' id='c{number}-{at}'{message}");
                wanted.push((expected(header, &sent, &alice.jid), sent.clone()));
                alice.send(&sent).await;
            }
            alice.barrier().await;
            alice.close().await;
        }
        let delivered = bob.messages().await;
        let copied = other.messages().await;
        let (hers, his) = (all(&mut other).await, all(&mut bob).await);
        for (at, (message, sent)) in wanted.iter().enumerate() {
            assert_eq!(delivered[at].without_ids_by("bob@localhost"), *message, "delivered: {sent}");
            let copy =
                copied[at].child("urn:xmpp:carbons:2", "sent").child("urn:xmpp:forward:0", "forwarded");
            let copy = copy.child("jabber:client", "message").without_ids_by("alice@localhost");
            assert_eq!(copy, *message, "copied: {sent}");
            assert_eq!(hers[at].1, *message, "archived by its sender: {sent}");
            assert_eq!(his[at].1, *message, "archived by its recipient: {sent}");
            assert_eq!(delivered[at].id_by("bob@localhost"), Some(his[at].0.as_str()), "{sent}");
        }
        assert_eq!([delivered.len(), hers.len(), his.len()], [wanted.len(); 3]);
    });
}

async fn all(client: &mut Client) -> Vec<(String, Xml)> {
    client.archive().await.into_iter().map(|saved| (saved.id, saved.message)).collect()
}

#[test]
fn a_prefixed_message_is_a_message() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut bob = server.client("bob", "phone").await;
        let header = "xmlns:c='jabber:client' xmlns:x='urn:x'";
        let connection = Connection::starttls(server.c2s(), &server.certificate()).await;
        let mut alice = Client::over(connection, &server, "alice", "a", Auth::Sha256, header).await;
        let sent = "<c:message to='bob@localhost' id='1' x:y='z'><c:body>with a prefix</c:body><x:a><c:b/></x:a></c:message>";
        alice.send(sent).await;
        let wanted = expected(header, sent, &alice.jid);
        assert_eq!(bob.message().await.without_ids_by("bob@localhost"), wanted);
        assert_eq!(all(&mut bob).await[0].1, wanted);
    });
}

#[test]
fn large_bodies_are_whole() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        let bodies: Vec<String> = ["x", "ab\u{e9}\n", "\u{1f9a3}"]
            .iter()
            .map(|piece| piece.repeat(64 * 1024 / piece.len()))
            .collect();
        for (at, body) in bodies.iter().enumerate() {
            alice.chat("bob@localhost", &format!("large{at}"), body).await;
        }
        for body in &bodies {
            assert_eq!(bob.message().await.body().as_ref(), Some(body));
        }
        assert_eq!(alice.archived_bodies().await, bodies);
        assert_eq!(bob.archived_bodies().await, bodies);
    });
}

#[test]
fn requests_and_presence_come_as_they_were_sent() {
    run(async {
        let server = Server::of(&["alice", "bob"]);
        let mut alice = server.client("alice", "phone").await;
        let mut bob = server.client("bob", "phone").await;
        let stanzas = [
            "<iq to='bob@localhost/phone' type='get' id='i1' unknown='1'><q xmlns='urn:q' a='&#10;'><![CDATA[<]]></q></iq>",
            "<iq to='bob@localhost/phone' type='result' id='i2'/>",
            "<iq to='bob@localhost/phone' type='error' id='i3'><q xmlns='urn:q'/><error type='cancel'>\
             <gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:x@y</gone></error></iq>",
            "<presence to='bob@localhost/phone'><show>dnd</show><c xmlns='http://jabber.org/protocol/caps' hash='sha-1'/></presence>",
            "<presence to='bob@localhost' type='unavailable'><status>\u{1f9a3}</status></presence>",
        ];
        for sent in stanzas {
            alice.send(sent).await;
            let wanted = expected("", sent, "alice@localhost/phone");
            assert_eq!(bob.next().await, wanted, "{sent}");
        }
    });
}
