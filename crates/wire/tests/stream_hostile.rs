//! Input that means harm: limits hold while it arrives, and its cost grows no faster than its length.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use mammoth_wire::limits::Limits;
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stream::{StreamEvent, StreamReader};
use mammoth_wire::stream_error::StreamCondition;
use mammoth_wire::stream_error::StreamCondition::*;

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
    to='example.org' version='1.0'>";

/// As the server would: pieces of this many bytes.
const READ_BYTES: usize = 4096;

/// A reader that has read its header.
fn opened(limits: Limits) -> StreamReader {
    let mut reader = StreamReader::new(limits);
    reader.push(HEADER.as_bytes());
    assert!(matches!(reader.next(), Ok(Some(StreamEvent::Open(_)))));
    reader
}

/// The first error, and after how many bytes it was found; the number of stanzas before it.
fn first_error(reader: &mut StreamReader, input: &[u8], chunk: usize) -> Option<(StreamCondition, usize)> {
    let mut sent = 0;
    for piece in input.chunks(chunk) {
        sent += piece.len();
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(error) => return Some((error.condition, sent)),
            }
        }
    }
    None
}

/// The input ends the stream with this error, before login and after it, as soon as the limit is passed.
fn refused(what: &str, input: &[u8], condition: StreamCondition, limit: impl Fn(&Limits) -> usize) {
    for limits in [Limits::before_login(), Limits::authenticated()] {
        let mut reader = opened(limits.clone());
        let (found, sent) = first_error(&mut reader, input, READ_BYTES).unwrap_or_else(|| panic!("{what}"));
        assert_eq!(found, condition, "{what}");
        assert!(sent <= limit(&limits) + READ_BYTES, "{what}: only after {sent} bytes");
    }
}

#[test]
fn too_long() {
    let stanza_bytes = |limits: &Limits| limits.stanza_bytes;
    let mb = 1024 * 1024;
    let text = "x".repeat(mb);
    refused("a body", format!("<message><body>{text}").as_bytes(), PolicyViolation, stanza_bytes);
    refused(
        "many children",
        format!("<message>{}", "<x/>".repeat(mb / 4)).as_bytes(),
        PolicyViolation,
        stanza_bytes,
    );
    refused(
        "references",
        format!("<message>{}", "&lt;".repeat(mb / 4)).as_bytes(),
        PolicyViolation,
        stanza_bytes,
    );
    refused("CDATA", format!("<message><![CDATA[{text}").as_bytes(), PolicyViolation, stanza_bytes);
    refused("brackets", format!("<message>{}", "]".repeat(mb)).as_bytes(), PolicyViolation, stanza_bytes);
    refused(
        "carriage returns",
        format!("<message>{}", "\r".repeat(mb)).as_bytes(),
        PolicyViolation,
        stanza_bytes,
    );
    refused(
        "a start tag's spaces",
        format!("<message{}", " ".repeat(mb)).as_bytes(),
        PolicyViolation,
        stanza_bytes,
    );
    refused(
        "an end tag's spaces",
        format!("<message></message{}", " ".repeat(mb)).as_bytes(),
        PolicyViolation,
        stanza_bytes,
    );
    let attribute = |limits: &Limits| limits.attribute_bytes + 100;
    refused("a name", format!("<{text}").as_bytes(), PolicyViolation, attribute);
    refused("an attribute's name", format!("<message {text}").as_bytes(), PolicyViolation, attribute);
    refused("an attribute's value", format!("<message a='{text}").as_bytes(), PolicyViolation, attribute);
    refused("an end tag's name", format!("<message></{text}").as_bytes(), PolicyViolation, attribute);
    refused("a namespace", format!("<message xmlns:a='{text}").as_bytes(), PolicyViolation, attribute);
    refused(
        "an attribute of returns",
        format!("<message a='{}", "\r".repeat(mb)).as_bytes(),
        PolicyViolation,
        stanza_bytes,
    );
}

#[test]
fn before_the_header_as_well() {
    let long = "x".repeat(1024 * 1024);
    for input in [
        format!("<?xml version='1.0'?>{}", " ".repeat(1024 * 1024)),
        format!("<?xml{}", " ".repeat(1024 * 1024)),
        format!("<stream:stream a='{long}"),
        format!("<{long}"),
        format!("<stream:stream {}", "a='' ".repeat(200_000)),
        format!("<stream:stream {}", (0..100_000).map(|n| format!("a{n}='' ")).collect::<String>()),
    ] {
        let mut reader = StreamReader::new(Limits::before_login());
        let (condition, sent) = first_error(&mut reader, input.as_bytes(), READ_BYTES).unwrap();
        assert!(matches!(condition, PolicyViolation | NotWellFormed), "{condition:?}");
        assert!(sent <= Limits::before_login().header_bytes + READ_BYTES);
    }
}

#[test]
fn too_deep() {
    let depth = 10_000;
    let nested = format!("<message>{}{}</message>", "<a>".repeat(depth), "</a>".repeat(depth));
    refused("10,000 levels", nested.as_bytes(), PolicyViolation, |limits| limits.depth * 3 + 100);
    assert_eq!(Stanza::parse(nested).unwrap_err().condition, PolicyViolation);
    // The deepest that is allowed passes, one more does not; both can be made trees.
    let levels = Limits::authenticated().depth - 1;
    let allowed = format!("<message>{}{}</message>", "<a>".repeat(levels), "</a>".repeat(levels));
    assert!(Stanza::parse(allowed).unwrap().element().is_ok());
    let refused = format!("<message>{}{}</message>", "<a>".repeat(levels + 1), "</a>".repeat(levels + 1));
    assert_eq!(Stanza::parse(refused).unwrap_err().condition, PolicyViolation);
    // The tree builder has its own limit, for bytes that no stream has seen.
    assert!(mammoth_wire::element::element("<a>".repeat(100_000).as_bytes()).is_err());
}

#[test]
fn too_many() {
    let count = 5_000;
    refused("children", format!("<message>{}", "<x/>".repeat(count)).as_bytes(), PolicyViolation, |_| 5000);
    let attributes: String = (0..count).map(|n| format!(" a{n}='{n}'")).collect();
    refused("attributes", format!("<message{attributes}/>").as_bytes(), PolicyViolation, |_| 1000);
    let declarations: String = (0..count).map(|n| format!(" xmlns:a{n}='{n}'")).collect();
    refused("declarations", format!("<message{declarations}/>").as_bytes(), PolicyViolation, |_| 1000);
    let nested: String =
        (0..count).map(|n| format!("<a xmlns:a='{n}' xmlns:b='{n}' xmlns:c='{n}'>")).collect();
    refused("nested declarations", format!("<message>{nested}").as_bytes(), PolicyViolation, |_| 5000);
}

#[test]
fn what_never_ends_never_becomes_anything() {
    for start in [
        "<",
        "<mess",
        "<message",
        "<message a",
        "<message a=",
        "<message a='",
        "<message a='b",
        "<message ",
        "</",
    ] {
        let mut reader = opened(Limits::before_login());
        assert_eq!(first_error(&mut reader, start.as_bytes(), 1), None, "{start}");
        assert_eq!(reader.unread(), start.len());
    }
}

#[test]
fn billion_laughs() {
    let bomb = "<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;&lol;&lol;'>]><lolz>&lol2;</lolz>";
    let mut reader = StreamReader::new(Limits::before_login());
    assert_eq!(
        first_error(&mut reader, bomb.as_bytes(), 1),
        Some((RestrictedXml, bomb.find("OCTYPE").unwrap()))
    );
    let inside = &bomb["<?xml version='1.0'?>".len()..];
    assert_eq!(first_error(&mut opened(Limits::default()), inside.as_bytes(), 1).unwrap().0, RestrictedXml);
    let used = "<message><body>&lol9;</body></message>";
    assert_eq!(first_error(&mut opened(Limits::default()), used.as_bytes(), 1).unwrap().0, RestrictedXml);
    assert_eq!(Stanza::parse(bomb).unwrap_err().condition, RestrictedXml);
}

#[test]
fn the_limit_is_what_is_still_accepted() {
    let limits = Limits::before_login();
    let frame = "<message xmlns='jabber:client'></message>";
    let fill = limits.stanza_bytes - frame.len();
    let stanza = |fill: usize| format!("<message xmlns='jabber:client'>{}</message>", "x".repeat(fill));
    for chunk in [1, 1000, usize::MAX] {
        let mut reader = opened(limits.clone());
        let twice = [stanza(fill), stanza(fill)].concat();
        assert_eq!(first_error(&mut reader, twice.as_bytes(), chunk), None);
        assert_eq!(first_error(&mut reader, stanza(fill + 1).as_bytes(), chunk).unwrap().0, PolicyViolation);
    }
    // White space between stanzas is not held, so it has no limit.
    let mut reader = opened(limits);
    assert_eq!(first_error(&mut reader, " \r\n".repeat(100_000).as_bytes(), 1000), None);
    assert_eq!(reader.unread(), 0);
}

#[test]
fn the_cost_is_linear_in_the_bytes() {
    // A stanza of the largest size, byte by byte, of everything that is kept between two calls; quadratic work would
    // take minutes here.
    let limits = Limits::authenticated();
    let room = limits.stanza_bytes - 100;
    for content in [
        "x".repeat(room),
        "\r".repeat(room),
        "é".repeat(room / 2),
        "]".repeat(room),
        "&lt;".repeat(room / 4),
        format!("<x>{}</x>", "<x/>".repeat(room / 4)),
        format!("<x>{}</x>", "<x a=''/>".repeat(room / 9)),
        format!("<x>{}</x>", "<y xmlns:a='b' a:c='d'/>".repeat(room / 24 - 1)),
        format!("<![CDATA[{}]]>", "]]]".repeat(room / 3 - 12)),
    ] {
        let mut reader = opened(limits.clone());
        let stanza = format!("<message>{content}</message>");
        let mut stanzas = 0;
        for byte in stanza.as_bytes() {
            reader.push(std::slice::from_ref(byte));
            while let Some(event) = reader.next().unwrap() {
                let StreamEvent::Stanza(_) = event else { panic!() };
                stanzas += 1;
            }
        }
        assert_eq!(stanzas, 1);
    }
}
