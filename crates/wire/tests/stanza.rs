//! Stanzas: what the skim tells, and that a rewritten stanza differs in nothing but what was asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use jid::Jid;
use mammoth_wire::header::{features_bind, features_sasl, features_starttls, response_header};
use mammoth_wire::limits::Limits;
use mammoth_wire::sasl::{Channel, Mechanism, SaslFailure, SaslOffer, SaslRequest, challenge, success};
use mammoth_wire::stanza::{Kind, Stanza, escape_attr, escape_text};
use mammoth_wire::stanza_error::StanzaError;
use mammoth_wire::stream::{StreamEvent, StreamReader};
use proptest::prelude::*;

fn stanza(raw: &str) -> Stanza {
    Stanza::parse(raw.to_owned()).unwrap_or_else(|error| panic!("{error}: {raw}"))
}

const MESSAGE: &str = "<message xmlns='jabber:client' to=\"juliet@example.com/b&amp;w\" type='chat' id='a&#10;b' xml:lang='en'>\
    <body>Art thou not <b xmlns='urn:b'>Romeo</b>, and a Montague?</body><body xml:lang='cs'>č<![CDATA[<&]]></body>\
    <p:x xmlns:p='urn:p' one='1' p:two='2'/>text<empty xmlns='urn:e'></empty></message>";

#[test]
fn a_skim_tells_what_is_in_a_stanza() {
    let message = stanza(MESSAGE);
    assert_eq!(message.raw(), MESSAGE);
    assert_eq!((message.kind(), message.ns(), message.name()), (Kind::Message, "jabber:client", "message"));
    assert_eq!(message.to().unwrap(), Some(Jid::new("juliet@example.com/b&w").unwrap()));
    assert_eq!(message.from().unwrap(), None);
    assert_eq!((message.id(), message.type_(), message.lang()), (Some("a\nb"), Some("chat"), Some("en")));
    assert_eq!(message.body_text().as_deref(), Some("Art thou not , and a Montague?"));
    assert_eq!(message.text(), "text");
    let children: Vec<_> =
        message.children().map(|child| (child.ns(), child.name(), child.is_empty())).collect();
    assert_eq!(
        children,
        [
            ("jabber:client", "body", false),
            ("jabber:client", "body", false),
            ("urn:p", "x", true),
            ("urn:e", "empty", true)
        ]
    );
    let second = message.children().nth(1).unwrap();
    assert_eq!((second.lang(), second.text().as_str()), (Some("cs"), "č<&"));
    let x = message.child("urn:p", "x").unwrap();
    assert_eq!((x.attr("one"), x.attr("two"), x.attr("p:two")), (Some("1"), None, None));
    assert_eq!(x.raw(), b"<p:x xmlns:p='urn:p' one='1' p:two='2'/>");
    assert_eq!(x.element().unwrap().attr_ns("urn:p", "two"), Some("2"));
    assert!(message.child("urn:p", "y").is_none());

    let malformed = stanza("<iq xmlns='jabber:client' to='@' from='a@b@c@'/>");
    assert!(malformed.to().is_err() && malformed.from().is_err());
}

#[test]
fn a_child_is_read_in_the_context_of_its_stanza() {
    let iq = stanza(
        "<c:iq xmlns:c='jabber:client' xmlns='urn:d' xmlns:p='urn:p' to='&lt;'><q a='\r'><p:r/></q></c:iq>",
    );
    let q = iq.child("urn:d", "q").unwrap().element().unwrap();
    assert!(q.is("q", "urn:d"));
    assert_eq!(q.attr("a"), Some(" "));
    assert!(q.has_child("r", "urn:p"));
}

#[test]
fn one_stanza_and_nothing_else() {
    assert_eq!(stanza("<presence/>").raw(), "<presence xmlns='jabber:client'/>");
    assert_eq!(stanza("<presence><x/></presence>").children().next().unwrap().ns(), "jabber:client");
    for raw in
        ["", " <iq/>", "<iq/> ", "<iq/><iq/>", "<iq>", "iq", "<?xml version='1.0'?><iq/>", "<iq></message>"]
    {
        assert!(Stanza::parse(raw.to_owned()).is_err(), "{raw}");
    }
}

#[test]
fn rewriting_changes_only_what_is_asked() {
    let spoofed = "<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='me@example.org'/>";
    let foreign = "<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='room@example.org'/>";
    let raw = format!(
        "<message\n to='a@b'\tfrom = 'x@y' xmlns='jabber:client'  >{spoofed} <body> x </body>{foreign}\r{spoofed}</message >"
    );
    let message = stanza(&raw);
    assert_eq!(message.rewrite().finish(), raw);

    let rewritten = message
        .rewrite()
        .set("from", "o'neil@example.org/a&b")
        .set("id", "new")
        .remove("to")
        .drop_children(|child| {
            child.is("urn:xmpp:sid:0", "stanza-id") && child.attr("by") == Some("me@example.org")
        })
        .append(b"<a xmlns='urn:a'/>")
        .append("<b xmlns='urn:b'/>")
        .finish();
    assert_eq!(
        rewritten,
        format!(
            "<message id='new' from='o&apos;neil@example.org/a&amp;b' xmlns='jabber:client'  > <body> x </body>{foreign}\r\
             <a xmlns='urn:a'/><b xmlns='urn:b'/></message >"
        )
    );
    for (raw, appended) in [
        ("<iq xmlns='jabber:client'/>", "<iq xmlns='jabber:client'><x/></iq>"),
        ("<iq xmlns='jabber:client' />", "<iq xmlns='jabber:client' ><x/></iq>"),
        ("<iq xmlns='jabber:client'></iq>", "<iq xmlns='jabber:client'><x/></iq>"),
        ("<p:q xmlns:p='urn:p' xmlns='urn:d'/>", "<p:q xmlns:p='urn:p' xmlns='urn:d'><x/></p:q>"),
    ] {
        assert_eq!(stanza(raw).rewrite().append("<x/>").finish(), appended);
        assert_eq!(stanza(raw).rewrite().remove("to").finish(), raw);
    }
    // The last change of a name counts.
    let iq = stanza("<iq xmlns='jabber:client' type='get'/>");
    assert_eq!(iq.rewrite().set("type", "a").remove("type").finish(), "<iq xmlns='jabber:client'/>");
    assert_eq!(iq.rewrite().remove("type").set("type", "a").finish(), "<iq xmlns='jabber:client' type='a'/>");
}

#[test]
fn an_error_answers_a_stanza() {
    let sender = Jid::new("romeo@example.net/orchard").unwrap();
    let message = stanza("<message to='nobody@example.org' id='1&lt;'><body>hi</body></message>");
    let error = StanzaError::service_unavailable().with_text("nobody's here").with_app("<x xmlns='urn:x'/>");
    assert_eq!(
        message.error_reply(&error, &sender).unwrap(),
        "<message xmlns='jabber:client' type='error' id='1&lt;' from='nobody@example.org' to='romeo@example.net/orchard'>\
         <error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>nobody's here</text><x xmlns='urn:x'/></error></message>"
    );
    for unanswerable in [
        "<message type='error'/>",
        "<presence type='error'/>",
        "<iq type='result' id='1'/>",
        "<iq type='error' id='1'/>",
        "<auth xmlns='urn:x'/>",
    ] {
        assert!(stanza(unanswerable).error_reply(&error, &sender).is_none(), "{unanswerable}");
    }
    for error in StanzaError::all() {
        let reply = stanza("<iq type='get' id='1'/>").error_reply(&error, &sender).unwrap();
        let reply = Stanza::parse(reply).unwrap().element().unwrap();
        let child = reply.get_child("error", "jabber:client").unwrap();
        assert!(
            child.has_child(error.condition, "urn:ietf:params:xml:ns:xmpp-stanzas"),
            "{}",
            error.condition
        );
    }
}

#[test]
fn sasl_elements() {
    let bound = SaslOffer::on(Channel::TlsExporter);
    assert_eq!(bound.mechanisms(), Mechanism::ALL);
    assert_eq!(
        bound.to_xml(),
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-256-PLUS</mechanism>\
         <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism>\
         <mechanism>PLAIN</mechanism></mechanisms><sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>\
         <channel-binding type='tls-exporter'/></sasl-channel-binding>"
    );
    let plain = SaslOffer::on(Channel::Plain);
    assert_eq!(plain.mechanisms(), [Mechanism::ScramSha256, Mechanism::ScramSha1]);
    assert!(!SaslOffer::on(Channel::Tls).binds() && SaslOffer::on(Channel::Tls).mechanisms().len() == 3);

    let auth = |attrs: &str, text: &str| {
        bound.read(&stanza(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' {attrs}>{text}</auth>")))
    };
    let start = |initial| Ok(SaslRequest::Auth { mechanism: Mechanism::ScramSha1, initial });
    let scram = "mechanism='SCRAM-SHA-1'";
    assert_eq!(auth(scram, ""), start(None));
    assert_eq!(auth(scram, "="), start(Some(vec![])));
    assert_eq!(auth(scram, " biws\n"), start(Some(b"n,,".to_vec())));
    assert_eq!(auth(scram, "biw"), Err(SaslFailure::IncorrectEncoding));
    assert_eq!(auth(scram, "bi ws"), Err(SaslFailure::IncorrectEncoding));
    assert_eq!(auth("", ""), Err(SaslFailure::MalformedRequest));
    assert_eq!(auth("mechanism='SCRAM-SHA-512'", ""), Err(SaslFailure::InvalidMechanism));
    assert_eq!(auth("mechanism='scram-sha-1'", ""), Err(SaslFailure::InvalidMechanism));
    assert_eq!(
        plain.read(&stanza("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>")),
        Err(SaslFailure::InvalidMechanism)
    );
    let element = |name: &str, text: &str| {
        bound.read(&stanza(&format!("<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{text}</{name}>")))
    };
    assert_eq!(element("response", "YQ=="), Ok(SaslRequest::Response(b"a".to_vec())));
    assert_eq!(element("response", ""), Ok(SaslRequest::Response(vec![])));
    assert_eq!(element("response", "YQ="), Err(SaslFailure::IncorrectEncoding));
    assert_eq!(element("abort", ""), Ok(SaslRequest::Abort));
    assert_eq!(element("success", ""), Err(SaslFailure::MalformedRequest));
    assert_eq!(bound.read(&stanza("<auth mechanism='PLAIN'/>")), Err(SaslFailure::MalformedRequest));
    let secret = SaslRequest::Response(b"pencil".to_vec());
    assert_eq!(format!("{secret:?}"), "Response");

    assert_eq!(challenge(b""), "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert_eq!(success(b"v=1"), "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj0x</success>");
    assert_eq!(
        SaslFailure::NotAuthorized.to_xml("no & no"),
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text xml:lang='en'>no &amp; no</text></failure>"
    );
}

#[test]
fn our_half_of_a_stream_is_a_stream() {
    let mut reader = StreamReader::new(Limits::default());
    let sent = [
        response_header("i'd", "example.org", Some("a@example.org"), "en"),
        features_starttls(),
        features_sasl(&SaslOffer::on(Channel::TlsExporter)),
        features_bind("<ver xmlns='urn:xmpp:features:rosterver'/>"),
        StreamError::host_unknown().to_xml(),
    ];
    reader.push(sent.concat().as_bytes());
    let Ok(Some(StreamEvent::Open(header))) = reader.next() else { panic!() };
    assert_eq!(header.from.as_deref(), Some("example.org"));
    assert_eq!((header.version.as_deref(), header.lang.as_deref()), (Some("1.0"), Some("en")));
    let mut children = Vec::new();
    while let Some(StreamEvent::Stanza(stanza)) = reader.next().unwrap() {
        assert_eq!(stanza.ns(), "http://etherx.jabber.org/streams");
        children.push(stanza.children().map(|child| child.name().to_owned()).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(
        children,
        ["starttls", "mechanisms sasl-channel-binding", "bind session ver", "host-unknown text"]
    );
}

use mammoth_wire::stream_error::StreamError;

/// Text of characters that are hard on parsers.
fn odd_text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        '\t',
        '\n',
        '\r',
        ' ',
        '<',
        '>',
        '&',
        '\'',
        '"',
        ']',
        'a',
        'é',
        'א',
        '\u{301}',
        '\u{200f}',
        '😀',
        '\u{85}',
        '\u{fffd}',
        '\u{10ffff}',
    ]);
    prop::collection::vec(odd, 0..20).prop_map(String::from_iter)
}

/// An element as people write them: any quotes, CDATA, prefixes, raw line ends; with the prefixes `p` and `stream`
/// only where the context declares them.
fn element(depth: u32) -> BoxedStrategy<String> {
    let name = prop::sample::select(vec!["a", "p:b", "q:c", "é"]);
    let attr =
        (prop::sample::select(vec![("x", '\''), ("p:x", '"'), ("q:x", '\''), ("xml:lang", '"')]), odd_text());
    let attrs = prop::collection::btree_map(0..4usize, attr, 0..3);
    let text = (odd_text(), 0..3).prop_map(|(text, form)| match form {
        0 => escape_text(&text).into_owned(),
        1 => format!("<![CDATA[{}]]>", text.replace("]]>", "]) >")),
        _ => text.replace(['<', '&', '>'], "\r"),
    });
    let children = if depth == 0 {
        prop::collection::vec(text.boxed(), 0..3).boxed()
    } else {
        prop::collection::vec(prop_oneof![text, element(depth - 1)], 0..4).boxed()
    };
    (name, attrs, children, any::<bool>())
        .prop_map(|(name, attrs, children, space)| {
            let mut out = format!("<{name} xmlns:q=\"urn:q\"");
            let mut seen = Vec::new();
            for ((attr, quote), value) in attrs.into_values() {
                if !seen.contains(&attr) {
                    let raw = value.replace(['<', '&', quote], "\n");
                    out.push_str(&format!("{}{attr}={quote}{raw}{quote}", if space { "\r\n" } else { " " }));
                    seen.push(attr);
                }
            }
            if children.is_empty() && space {
                out.push_str("/>");
            } else {
                out.push_str(&format!(">{}</{name}>", children.concat()));
            }
            out
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Through the stream, rewritten as the server does it, and read back: the same infoset, and every payload the same
    /// bytes.
    #[test]
    fn a_stanza_comes_back_as_it_went_in(
        payloads in prop::collection::vec(element(2), 0..4),
        to in odd_text(),
        declared_on_header in any::<bool>(),
        chunk in 1usize..100,
    ) {
        let (header, own) = if declared_on_header { ("xmlns:p='urn:p'", "") } else { ("", " xmlns:p='urn:p'") };
        let content = payloads.concat();
        let sent = format!("<message to='{}'{own}>{content}</message>", escape_attr(&to));
        let stream = format!(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' {header}>{sent}"
        );
        let mut reader = StreamReader::new(Limits::default());
        let mut read = Vec::new();
        for piece in stream.as_bytes().chunks(chunk) {
            reader.push(piece);
            while let Some(event) = reader.next().unwrap() {
                if let StreamEvent::Stanza(stanza) = event {
                    read.push(stanza);
                }
            }
        }
        prop_assert_eq!(read.len(), 1);
        let read = &read[0];
        prop_assert_eq!(read.attr("to"), Some(to.as_str()));
        let id = "<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='a@b'/>";
        let stored: Bytes = read.rewrite().set("from", "a@b/c").append(id).finish();

        // Byte for byte: what was sent inside is inside.
        let back = Stanza::parse(stored.clone()).unwrap();
        prop_assert_eq!(back.raw(), &stored);
        let inside: Vec<u8> = [content.as_bytes(), id.as_bytes()].concat();
        prop_assert!(stored.ends_with(&[&inside[..], b"</message>"].concat()));
        let children: Vec<&[u8]> = back.children().map(|child| child.raw()).collect();
        let expected: Vec<&[u8]> = payloads.iter().map(String::as_bytes).chain([id.as_bytes()]).collect();
        prop_assert_eq!(children, expected);

        // And the same infoset, by another reader.
        let plain = format!("<message xmlns='jabber:client' xmlns:p='urn:p' from='a@b/c' to='{}'>{content}{id}</message>", escape_attr(&to));
        prop_assert_eq!(back.element().unwrap(), mammoth_wire::element::element(plain.as_bytes()).unwrap());

        // Each child on its own tells the same as in the tree.
        let tree = back.element().unwrap();
        for (child, node) in back.children().zip(tree.children()) {
            prop_assert_eq!(&child.element().unwrap(), node);
            prop_assert_eq!(child.text(), node.text());
            prop_assert_eq!(child.ns(), node.ns());
            prop_assert_eq!(child.name(), node.name());
            prop_assert_eq!(child.attr("x"), node.attr("x"));
        }
    }

    #[test]
    fn what_is_escaped_is_read_as_it_was(text in odd_text()) {
        let stanza = stanza(&format!("<message id='{}'><body>{}</body></message>", escape_attr(&text), escape_text(&text)));
        prop_assert_eq!(stanza.id(), Some(text.as_str()));
        prop_assert_eq!(stanza.body_text(), Some(text));
    }
}
