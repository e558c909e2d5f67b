//! Streams, read in pieces of every size: what is a whole stanza, what a stanza owes to its stream header, and which
//! input ends a stream with which error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use mammoth_wire::limits::Limits;
use mammoth_wire::stanza::{Kind, Stanza};
use mammoth_wire::stream::{StreamEvent, StreamHeader, StreamReader};
use mammoth_wire::stream_error::{StreamCondition, StreamError};
use proptest::prelude::*;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0'>";

const CHUNKS: [usize; 6] = [1, 2, 3, 7, 1000, usize::MAX];

/// What came out of a stream, comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Open(StreamHeader),
    Stanza(String),
    Close,
    Error(StreamCondition),
}

fn feed(reader: &mut StreamReader, input: &[u8], chunk: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    for piece in input.chunks(chunk.min(input.len().max(1))) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(StreamEvent::Open(header))) => seen.push(Seen::Open(header)),
                Ok(Some(StreamEvent::Stanza(stanza))) => {
                    seen.push(Seen::Stanza(String::from_utf8(stanza.raw().to_vec()).unwrap()));
                }
                Ok(Some(StreamEvent::Close)) => seen.push(Seen::Close),
                Err(error) => {
                    assert_eq!(reader.next().unwrap_err(), error, "an error stays");
                    seen.push(Seen::Error(error.condition));
                    return seen;
                }
            }
        }
    }
    seen
}

fn read(input: impl AsRef<[u8]>, chunk: usize) -> Vec<Seen> {
    feed(&mut StreamReader::new(Limits::default()), input.as_ref(), chunk)
}

/// Reads a stream in pieces of every size; all must agree.
fn read_all_ways(input: impl AsRef<[u8]>) -> Vec<Seen> {
    let input = input.as_ref();
    let whole = read(input, usize::MAX);
    for chunk in CHUNKS {
        assert_eq!(read(input, chunk), whole, "in pieces of {chunk}");
    }
    whole
}

/// The stanzas of a stream with our usual header.
fn stanzas(body: &str) -> Vec<String> {
    stanzas_after(HEADER, body)
}

fn stanzas_after(header: &str, body: &str) -> Vec<String> {
    let mut seen = read_all_ways(format!("{header}{body}</stream:stream>")).into_iter();
    assert!(matches!(seen.next(), Some(Seen::Open(_))), "{header}");
    let stanzas: Vec<_> = seen
        .by_ref()
        .map_while(|event| match event {
            Seen::Stanza(raw) => Some(raw),
            Seen::Close => None,
            other => panic!("{other:?} after {body}"),
        })
        .collect();
    assert_eq!(seen.next(), None);
    stanzas
}

#[test]
fn a_stream_is_split_into_its_stanzas() {
    let stanzas = stanzas(
        "\n <message xmlns='jabber:client' to='a@b'><body>hi</body></message>\r\n\t\r\
         <presence xmlns='jabber:client'/><iq xmlns='jabber:client' type='get' id='1' >\r<ping xmlns='urn:xmpp:ping'/></iq >",
    );
    assert_eq!(
        stanzas,
        [
            "<message xmlns='jabber:client' to='a@b'><body>hi</body></message>",
            "<presence xmlns='jabber:client'/>",
            "<iq xmlns='jabber:client' type='get' id='1' >\r<ping xmlns='urn:xmpp:ping'/></iq >",
        ]
    );
}

#[test]
fn odd_content_stays_as_it_is() {
    let body = "x".repeat(64 * 1024);
    let long = "é".repeat(30_000);
    for raw in [
        "<message xmlns='jabber:client'><body><![CDATA[<b>&amp;]]]]><![CDATA[>]]></body></message>",
        "<message xmlns='jabber:client'><body>a\r\nb\rc\r\r\n&#13;\t\u{85}\u{2028}</body></message>",
        "<message xmlns='jabber:client' id='a\rb\r\nc\nd\te&#10;\r' x=\"\r\"><x a='\r'>\r</x>\r</message>",
        "<message xmlns='jabber:client' xmlns:a='urn:a' a:b='1' b='2'><a:x a:b='3'/><y xmlns=''/></message>",
        "<message xmlns='jabber:client' xml:lang='he'><body>שלום e\u{301} 👩‍👩‍👧 \u{10ffff}</body></message>",
        "<message xmlns='jabber:client'><a:b xmlns:a='urn:a'><a:b xmlns:a='urn:b'/></a:b></message>",
        "<message  xmlns = \"jabber:client\"\n\tto='x'\n><body >&lt;&gt;&amp;&apos;&quot;&#x1F600;</body\n></message\n>",
        "<message xmlns='jabber:client'>text<body/>text</message>",
        "<message xmlns='jabber:client'><![CDATA[]]><a><![CDATA[]]></a ><![CDATA[]]>\r<b\n/><![CDATA[]]></message>",
        &format!("<message xmlns='jabber:client'><body>{body}</body></message>"),
        &format!("<message xmlns='jabber:client' id='{long}'><body>{long}</body></message>"),
    ] {
        assert_eq!(stanzas(raw), [raw]);
    }
}

#[test]
fn a_stanza_takes_along_what_it_owes_to_the_header() {
    let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
        xmlns:p='urn:p' xmlns:q='urn:&lt;q' to='x' version='1.0' xml:lang='de'>";
    for (sent, kept) in [
        ("<message/>", "<message xmlns='jabber:client' xml:lang='de'/>"),
        (
            "<message xml:lang='fr' to='x'><body/></message>",
            "<message xmlns='jabber:client' xml:lang='fr' to='x'><body/></message>",
        ),
        (
            "<iq xmlns='jabber:client'><a><p:b q:c='1'/></a></iq>",
            "<iq xmlns:q='urn:&lt;q' xmlns:p='urn:p' xml:lang='de' xmlns='jabber:client'><a><p:b q:c='1'/></a></iq>",
        ),
        (
            "<iq p:a='1'><p:b xmlns:p='urn:other'/></iq>",
            "<iq xmlns='jabber:client' xmlns:p='urn:p' xml:lang='de' p:a='1'><p:b xmlns:p='urn:other'/></iq>",
        ),
        ("<p:x p:y=''><z/></p:x>", "<p:x xmlns='jabber:client' xmlns:p='urn:p' p:y=''><z/></p:x>"),
        ("<auth xmlns='urn:s'/>", "<auth xmlns='urn:s'/>"),
    ] {
        let stanzas = stanzas_after(header, sent);
        assert_eq!(stanzas, [kept]);
        // What stands alone reads the same alone.
        assert_eq!(Stanza::parse(kept.to_owned()).unwrap().raw(), kept);
    }
}

#[test]
fn a_stanza_with_a_prefix_is_written_without() {
    for (header, sent) in [
        (
            "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client' to='x' version='1.0'>",
            "<c:message to='a@b/\r&#13;'><c:body>a\r\n&#13;<![CDATA[<]]></c:body><x xmlns='urn:x' c:y='1'/></c:message>",
        ),
        (
            HEADER,
            "<c:message xmlns:c='jabber:client' to='a@b/\r&#13;'><c:body>a\r\n&#13;<![CDATA[<]]></c:body>\
             <x xmlns='urn:x' c:y='1'/></c:message>",
        ),
    ] {
        for chunk in CHUNKS {
            let mut reader = StreamReader::new(Limits::default());
            let seen = feed(&mut reader, format!("{header}{sent}").as_bytes(), chunk);
            let [Seen::Open(_), Seen::Stanza(raw)] = &seen[..] else { panic!("{seen:?}") };
            let stanza = Stanza::parse(raw.clone()).unwrap();
            assert!(raw.starts_with("<message "), "{raw}");
            assert_eq!(stanza.kind(), Kind::Message);
            assert_eq!(stanza.attr("to"), Some("a@b/ \r"));
            assert_eq!(stanza.body_text().as_deref(), Some("a\n\r<"));
            let x = stanza.child("urn:x", "x").unwrap().element().unwrap();
            assert_eq!(x.attr_ns("jabber:client", "y"), Some("1"));
        }
    }
}

#[test]
fn headers_are_read() {
    let header = "<?xml version='1.0' encoding='UTF-8'?>\r\n<s:stream xmlns:s='http://etherx.jabber.org/streams' \
        xmlns=\"jabber:client\" from='juliet@im.example.com' to='im.example.com' version='1.0' xml:lang='en' odd='1'>";
    let seen = read_all_ways(header);
    let expected = StreamHeader {
        to: Some("im.example.com".into()),
        from: Some("juliet@im.example.com".into()),
        lang: Some("en".into()),
        version: Some("1.0".into()),
    };
    assert_eq!(seen, [Seen::Open(expected.clone())]);

    let condition =
        |header: &StreamHeader| header.check(|to| to == "im.example.com").map_err(|e| e.condition);
    assert_eq!(condition(&expected), Ok(()));
    for (to, version, outcome) in [
        (Some("im.example.com"), Some("1.1"), Ok(())),
        (Some("im.example.com"), Some("2.0"), Ok(())),
        (Some("im.example.com"), None, Err(StreamCondition::UnsupportedVersion)),
        (Some("im.example.com"), Some("0.9"), Err(StreamCondition::UnsupportedVersion)),
        (Some("im.example.com"), Some("1"), Err(StreamCondition::UnsupportedVersion)),
        (Some("example.net"), Some("1.0"), Err(StreamCondition::HostUnknown)),
        (None, Some("1.0"), Err(StreamCondition::ImproperAddressing)),
    ] {
        let header = StreamHeader {
            to: to.map(str::to_owned),
            version: version.map(str::to_owned),
            ..StreamHeader::default()
        };
        assert_eq!(condition(&header), outcome, "{to:?} {version:?}");
    }
}

/// The error that ends a stream with our usual header and this after it.
fn error_after_header(body: impl AsRef<[u8]>) -> Option<StreamCondition> {
    error([HEADER.as_bytes(), body.as_ref()].concat())
}

fn error(input: impl AsRef<[u8]>) -> Option<StreamCondition> {
    match read_all_ways(input).last() {
        Some(Seen::Error(condition)) => Some(*condition),
        _ => None,
    }
}

#[test]
fn each_cause_has_its_stream_error() {
    use StreamCondition::*;
    let cases: &[(&[u8], StreamCondition)] = &[
        // Not well-formed.
        (b"<message></presence>", NotWellFormed),
        (b"<message a='1' a='2'/>", NotWellFormed),
        (b"<message xmlns='jabber:client' xmlns='jabber:client'/>", NotWellFormed),
        (b"<message xmlns:a='urn:a' xmlns:a='urn:b'/>", NotWellFormed),
        (b"<message xmlns:a='u' xmlns:b='u' a:x='' b:x=''/>", NotWellFormed),
        (b"<message a=b/>", NotWellFormed),
        (b"<message a='1'b='2'/>", NotWellFormed),
        (b"<message a='<'/>", NotWellFormed),
        (b"<message><body>\x01</body></message>", NotWellFormed),
        (b"<message><body>\x00</body></message>", NotWellFormed),
        (b"<message><body>&#0;</body></message>", NotWellFormed),
        (b"<message><body>&#xD800;</body></message>", NotWellFormed),
        (b"<message a='\x00'/>", NotWellFormed),
        (b"\x00", NotWellFormed),
        (b"<\x00", NotWellFormed),
        (b"<message><body>]]></body></message>", NotWellFormed),
        (b"<message><a:b:c/></message>", NotWellFormed),
        (b"<message><:b/></message>", NotWellFormed),
        (b"<message><1/></message>", NotWellFormed),
        (b"<message><![CDATB[", NotWellFormed),
        (b"<message xmlns:xml='urn:a'/>", NotWellFormed),
        (b"<message xmlns:xmlns='urn:a'/>", NotWellFormed),
        (b"<message xmlns:a='http://www.w3.org/2000/xmlns/'/>", NotWellFormed),
        (b"<message xmlns:a=''/>", NotWellFormed),
        (b"</message>", NotWellFormed),
        // Restricted.
        (b"<!-- comment -->", RestrictedXml),
        (b"<message><!-- comment --></message>", RestrictedXml),
        (b"<?php evil ?>", RestrictedXml),
        (b"<message><?php evil ?></message>", RestrictedXml),
        (b"<?xml version='1.0'?>", RestrictedXml),
        (b"<!DOCTYPE a>", RestrictedXml),
        (b"<message><!DOCTYPE a></message>", RestrictedXml),
        (b"<message>&nbsp;</message>", RestrictedXml),
        (b"<message>&verylongentityname;</message>", RestrictedXml),
        (b"<message a='&lol;'/>", RestrictedXml),
        // Namespaces.
        (b"<a:message/>", BadNamespacePrefix),
        (b"<message><a:b/></message>", BadNamespacePrefix),
        (b"<message><a><b c:d='1'/></a></message>", BadNamespacePrefix),
        (b"<message><a xmlns:b='urn:b'/><b:a/></message>", BadNamespacePrefix),
        (b"<message xmlns=''/>", BadNamespacePrefix),
        // Between stanzas.
        (b"hello", BadFormat),
        (b" <message/> hello", BadFormat),
        (b"<![CDATA[hello]]>", BadFormat),
        (b"&lt;message/>", BadFormat),
        // Encoding.
        (b"<message>\xff</message>", UnsupportedEncoding),
        (b"<message a='\xc3('/>", UnsupportedEncoding),
        (b"<message>\xed\xa0\x80</message>", UnsupportedEncoding),
        (b"<message>\xc0\xaf</message>", UnsupportedEncoding),
        // Unknown.
        (b"<body/>", UnsupportedStanzaType),
        (b"<message/><foo xmlns='jabber:client'/>", UnsupportedStanzaType),
    ];
    for (input, condition) in cases {
        assert_eq!(error_after_header(input), Some(*condition), "{}", input.escape_ascii());
    }
}

#[test]
fn each_cause_in_a_header_has_its_stream_error() {
    use StreamCondition::*;
    const STREAMS: &str = "xmlns:stream='http://etherx.jabber.org/streams'";
    let cases: Vec<(Vec<u8>, StreamCondition)> = vec![
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), NotWellFormed),
        ("\u{feff}<?xml version='1.0'?>".into(), NotWellFormed),
        (b"\x16\x03\x01\x02\x00".to_vec(), NotWellFormed),
        (b"<!DOCTYPE lolz [<!ENTITY lol 'lol'>]>".to_vec(), RestrictedXml),
        (b"<?xml version='1.0'?><!DOCTYPE lolz".to_vec(), RestrictedXml),
        (b"<?xml version='1.0'?><!-- hi -->".to_vec(), RestrictedXml),
        (b"<?xml-stylesheet ?>".to_vec(), RestrictedXml),
        (b"<?xml version='1.1'?>".to_vec(), NotWellFormed),
        (b"<?xml version='1.0' encoding='iso-8859-1'?>".to_vec(), UnsupportedEncoding),
        (b"\xff\xfe<\0?\0".to_vec(), UnsupportedEncoding),
        (b"\xfe\xff\0<".to_vec(), UnsupportedEncoding),
        (b"<\0?\0x\0".to_vec(), UnsupportedEncoding),
        (b"\r\n \0<\0?".to_vec(), UnsupportedEncoding),
        (b"<stream:stream xmlns='jabber:client'>".to_vec(), BadNamespacePrefix),
        (b"<stream xmlns='jabber:client'>".to_vec(), InvalidNamespace),
        (b"<stream:stream xmlns='jabber:client' xmlns:stream='urn:other'>".to_vec(), InvalidNamespace),
        (format!("<stream:stream xmlns='jabber:server' {STREAMS}>").into_bytes(), InvalidNamespace),
        (format!("<stream:features xmlns='jabber:client' {STREAMS}>").into_bytes(), BadFormat),
        (format!("<stream:stream {STREAMS} {}>", "a".repeat(5000)).into_bytes(), PolicyViolation),
        (format!("<stream:stream {STREAMS} a='{}", "a".repeat(5000)).into_bytes(), PolicyViolation),
        (format!("<?xml version='1.0'?>{}", " ".repeat(5000)).into_bytes(), PolicyViolation),
    ];
    for (input, condition) in cases {
        assert_eq!(error(&input), Some(condition), "{}", input.escape_ascii());
    }
}

#[test]
fn a_stream_can_end_with_its_header() {
    let header = HEADER.replace("'>", "'/>");
    assert!(matches!(&read_all_ways(header)[..], [Seen::Open(_), Seen::Close]));
}

#[test]
fn nothing_is_said_about_what_may_still_become_a_stream() {
    assert_eq!(read_all_ways(""), []);
    assert_eq!(read_all_ways("\r\n "), []);
    assert_eq!(read_all_ways(format!("\r\n {HEADER}\r\n ")).len(), 1);
    assert_eq!(read_all_ways("<"), []);
    assert_eq!(read_all_ways("<?xml version='1.0'?>\n\n<stream:str"), []);
    assert_eq!(read_all_ways(format!("{HEADER}<message>\r")).len(), 1);
}

#[test]
fn a_restart_keeps_what_was_not_read() {
    let mut reader = StreamReader::new(Limits::before_login());
    assert!(reader.awaits_header());
    reader.push(format!("{HEADER}<auth xmlns='urn:s'>x</auth>{HEADER}<iq/>").as_bytes());
    assert!(matches!(reader.next(), Ok(Some(StreamEvent::Open(_)))));
    assert!(!reader.awaits_header());
    let Ok(Some(StreamEvent::Stanza(auth))) = reader.next() else { panic!() };
    assert!(auth.is("urn:s", "auth"));
    assert_eq!(auth.kind(), Kind::Other);
    assert_eq!(auth.text(), "x");
    assert_eq!(reader.unread(), HEADER.len() + "<iq/>".len());
    reader.set_limits(Limits::authenticated());
    reader.reset();
    assert!(matches!(reader.next(), Ok(Some(StreamEvent::Open(_)))));
    assert!(matches!(reader.next(), Ok(Some(StreamEvent::Stanza(_)))));
    assert_eq!(reader.unread(), 0);
    assert!(matches!(reader.next(), Ok(None)));
}

#[test]
fn bytes_behind_starttls_are_seen() {
    let mut reader = StreamReader::new(Limits::before_login());
    for piece in [HEADER, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><iq"] {
        reader.push(piece.as_bytes());
    }
    assert!(matches!(reader.next(), Ok(Some(StreamEvent::Open(_)))));
    let Ok(Some(StreamEvent::Stanza(starttls))) = reader.next() else { panic!() };
    assert_eq!(starttls.name(), "starttls");
    assert_eq!(reader.unread(), 3);
}

#[test]
fn an_error_is_written_for_the_peer() {
    let error = StreamError::new(StreamCondition::PolicyViolation, "too <long>");
    assert_eq!(
        error.to_xml(),
        "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>too &lt;long&gt;</text></stream:error>"
    );
}

/// Fragments that make streams worth cutting: valid, nearly valid and hostile.
fn fragment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        HEADER,
        "<message>",
        "</message>",
        "<message xmlns='jabber:client' to='a@b'>",
        "<body>",
        "</body>",
        "<presence/>",
        "<a:b xmlns:a='urn:a'>",
        "</a:b>",
        "<x xmlns='urn:x' y='&amp;\r\n&#10;'/>",
        "<![CDATA[",
        "]]>",
        "]",
        "\r",
        "\n",
        "\r\n",
        " ",
        "&lt;",
        "&#13;",
        "&",
        "é",
        "👩",
        "text",
        "'",
        "\"",
        "<",
        ">",
        "/",
        "</stream:stream>",
        "<!--",
        "-->",
        "<?xml version='1.0'?>",
    ])
}

/// As [`read`], in pieces cut at these places.
fn read_cut(input: &[u8], cuts: &[prop::sample::Index]) -> Vec<Seen> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    let mut reader = StreamReader::new(Limits::default());
    let mut seen = Vec::new();
    for piece in at.windows(2) {
        seen.extend(feed(&mut reader, &input[piece[0]..piece[1]], usize::MAX));
        if matches!(seen.last(), Some(Seen::Error(_))) {
            break;
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn pieces_make_no_difference(
        fragments in prop::collection::vec(fragment(), 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let input = format!("{HEADER}{}", fragments.concat());
        prop_assert_eq!(read_cut(input.as_bytes(), &cuts), read(&input, usize::MAX));
        prop_assert_eq!(read(&input, 1), read(&input, usize::MAX));
    }

    #[test]
    fn random_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..200), chunk in 1usize..50) {
        read(&input, chunk);
        read([HEADER.as_bytes(), &input].concat(), chunk);
        read([HEADER.as_bytes(), b"<message a='", &input].concat(), chunk);
        let _ = Stanza::parse(input.clone());
        let _ = Stanza::parse([b"<message>".as_slice(), &input, b"</message>"].concat());
        let _ = mammoth_wire::element::element(&input);
    }
}
