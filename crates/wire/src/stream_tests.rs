//! What a reader keeps from its parser makes no difference: beside one that shows it every byte, it gives the same
//! events, skims and errors.

use proptest::prelude::*;

use super::*;

/// Limits of which one is small, so that documents reach it.
fn limits() -> impl Strategy<Value = Limits> {
    let wide = Limits::authenticated;
    prop_oneof![
        Just(wide()),
        (100usize..600).prop_map(move |stanza_bytes| Limits { stanza_bytes, ..wide() }),
        (1usize..4).prop_map(move |depth| Limits { depth, ..wide() }),
        (1usize..8).prop_map(move |children| Limits { children, ..wide() }),
        (0usize..3).prop_map(move |attributes| Limits { attributes, ..wide() }),
        (3usize..6).prop_map(move |namespaces| Limits { namespaces, ..wide() }),
        // The header's own attributes have up to 32.
        (32usize..80).prop_map(move |attribute_bytes| Limits { attribute_bytes, ..wide() }),
    ]
}

/// Everything that comes out of a stream, and how many bytes had been pushed by then. `limits` hold once it has been
/// used to larger ones for a while; only that on attributes must hold from the start.
fn read(pieces: &[Vec<u8>], limits: &Limits, knows_plain: bool) -> Vec<(usize, String)> {
    let mut reader =
        StreamReader::new(Limits { attribute_bytes: limits.attribute_bytes, ..Limits::authenticated() });
    reader.knows_plain = knows_plain;
    let mut seen = Vec::new();
    let mut pushed = 0;
    for piece in pieces {
        reader.push(piece);
        pushed += piece.len();
        loop {
            let event = reader.next();
            let ended = event.is_err();
            if matches!(event, Ok(None)) {
                break;
            }
            seen.push((pushed, format!("{event:?}")));
            if ended {
                return seen;
            }
            if seen.len() == 4 {
                reader.set_limits(limits.clone());
            }
        }
    }
    seen
}

const TEXTS: &[&str] = &[
    "text",
    "two words",
    "é",
    "\u{fb01}",
    "👩",
    "\u{7f}",
    "\n",
    "\t",
    "\r",
    "\r\n",
    "]",
    "]]",
    ">",
    "&amp;",
    "&lt;&gt;&apos;&quot;",
    "&#10;",
    "\u{ff01}",
    "\u{feff}",
    "a]b",
    "<![CDATA[x]]>",
    "'",
    "a long text that takes more than one block of bytes, and then some",
];
const ELEMENTS: &[&str] = &[
    "<x xmlns='urn:x'/>",
    "<x xmlns=\"urn:x\"/>",
    "<x xmlns='urn:x' />",
    "<x xmlns='urn:x'\r/>",
    "<x xmlns='urn:&amp;'></x>",
    "<x xmlns='urn:x' y='&amp;'/>",
    "<x xmlns='urn:x' p:y=''/>",
    "<x xmlns='urn:x' xmlns:q='urn:q'/>",
    "<x xmlns:xmlns2='urn:x'/>",
    "<p:x xmlns='urn:x'/>",
    "<p:x/>",
    "<x xmlns:q='urn:q'/>",
    "<x xmlns=''/>",
    "<x/>",
    "<x y=''/>",
    "<y xmlns='urn:y'/>",
    "<iq/>",
    "<x a='1' b=\"2\" xml:lang='de' lang='en'/>",
    "<x xml:lang='de' xml:base='en'/>",
    "<x y='\"' z=\"'\" a='>/é\u{ff01}'/>",
    "<x  y='1'   z='2'  ></x>",
    "<x y='\u{7f}\u{80}]]>'/>",
    "<x\ty='1'/>",
    "<x y = '1'/>",
    "<x y='a\tb\nc'/>",
    "<a-b.c_1 _='x'/>",
    "<é y='1'/>",
    "<x é='1'/>",
    "<x y='a long value that takes more bytes than some of the limits do allow, and then some more'/>",
    "<a-long-name-that-takes-more-bytes-than-some-of-the-limits-do-allow-and-then-some-more/>",
];
const TAGS: &[(&str, &str)] = &[
    ("<body>", "</body>"),
    ("<body xml:lang='en'>", "</body >"),
    ("<p:x>", "</p:x>"),
    ("<x xmlns:q='urn:q'>", "</x>"),
    ("<x xmlns='urn:x'>", "</x>"),
];
/// What ends a stream nearly everywhere.
const FAULTS: &[&str] = &[
    "]]>",
    "&bad;",
    "&",
    "\u{1}",
    "\u{ffff}",
    "<!--",
    "<?x?>",
    "<x xmlns='urn:x'",
    "<x xmlns='urn:x' y='1' y='2'/>",
    "<x xmlns='urn:x' xmlns='urn:x'/>",
    "<x xml:lang='de' xml:lang='en'/>",
    "<x xmlns='http://www.w3.org/2000/xmlns/'/>",
    "<x xmlns='http://www.w3.org/XML/1998/namespace'/>",
    "<x y='1'z='2'/>",
    "<x y='<'/>",
    "<x y='\u{ffff}'/>",
    "<x y='\u{1}'/>",
    "<x y=1/>",
    "<x y/>",
    "< x/>",
    "<x / >",
    "<1/>",
    "<x></y>",
    "</message>text<message>",
    "<q:x/>",
    "</x>",
    "/>",
    "<x>",
    "</stream:stream>",
];

/// A stream, in pieces.
fn documents() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes =
        |all: &'static [&'static str]| prop::sample::select(all).prop_map(|text| text.as_bytes().to_vec());
    let leaf = prop_oneof![
        80 => bytes(TEXTS),
        120 => bytes(ELEMENTS),
        1 => bytes(FAULTS),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    let nested = leaf.clone().prop_recursive(4, 16, 4, |inner| {
        (prop::sample::select(TAGS), prop::collection::vec(inner, 0..4)).prop_map(
            |((start, end), content)| [start.as_bytes(), &content.concat(), end.as_bytes()].concat(),
        )
    });
    let content = prop_oneof![4 => leaf, 1 => nested];
    let roots = prop::sample::select(&[
        "<message>",
        "<message xmlns='jabber:client'>",
        "<message xmlns='urn:m'>",
        "<message to='a@b/c' type='chat' id='1' >",
        "<message xml:lang='en' to=''>",
        "<message xmlns='' to='&amp;'>",
        "\n<message p:a='1'>",
    ]);
    let stanza = (roots, prop::collection::vec(content, 0..9))
        .prop_map(|(root, content)| [root.as_bytes(), &content.concat(), b"</message>"].concat());
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    (prop::collection::vec(stanza, 1..16), cuts).prop_map(|(stanzas, cuts)| {
        let header = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
            xmlns:p='urn:p' to='x' version='1.0' xml:lang='de'>";
        let document = [header.to_vec(), stanzas.concat()].concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(document.len() + 1)).collect();
        at.extend([0, document.len()]);
        at.sort_unstable();
        at.windows(2).map(|piece| document[piece[0]..piece[1]].to_vec()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn what_is_passed_over_makes_no_difference(pieces in documents(), limits in limits()) {
        let seen = read(&pieces, &limits, true);
        prop_assert!(seen.first().is_some_and(|(_, event)| event.contains("Open")), "{:?}", seen);
        prop_assert_eq!(seen, read(&pieces, &limits, false));
        let bytes: Vec<Vec<u8>> = pieces.concat().into_iter().map(|byte| vec![byte]).collect();
        prop_assert_eq!(read(&bytes, &limits, true), read(&bytes, &limits, false));
    }
}
