//! How long a message of usual size takes from bytes to bytes: split off the stream, skimmed, given a sender and a
//! stanza-id. Run with `cargo run --release -p mammoth-wire --example skim_speed`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::Instant;

use mammoth_wire::limits::Limits;
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stream::{StreamEvent, StreamReader};

const ROUNDS: usize = 7;
const STANZAS: usize = 20_000;
/// Bytes pushed at a time, as a socket would give them.
const READ_BYTES: usize = 4096;

const MESSAGE: &str = "<message to='juliet@capulet.example/balcony' type='chat' id='5d1f0a52-8c1b-4c5e-9b80'>\
    <body>But soft! What light through yonder window breaks? It is the east.</body>\
    <origin-id xmlns='urn:xmpp:sid:0' id='5d1f0a52-8c1b-4c5e-9b80'/><request xmlns='urn:xmpp:receipts'/>\
    <active xmlns='http://jabber.org/protocol/chatstates'/></message>";
const STANZA_ID: &str =
    "<stanza-id xmlns='urn:xmpp:sid:0' id='aaaaaaaaaaaaaaaaaaaaaaaaaa' by='juliet@capulet.example'/>";
const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
    to='capulet.example' version='1.0'>";

fn main() {
    println!("one message of {} bytes; medians of {ROUNDS} rounds of {STANZAS}", MESSAGE.len());
    let input = MESSAGE.repeat(STANZAS);
    let whole = median(|| {
        let mut reader = StreamReader::new(Limits::authenticated());
        reader.push(HEADER.as_bytes());
        assert!(matches!(reader.next(), Ok(Some(StreamEvent::Open(_)))));
        let mut count = 0;
        for piece in input.as_bytes().chunks(READ_BYTES) {
            reader.push(piece);
            while let Some(StreamEvent::Stanza(stanza)) = reader.next().unwrap() {
                let rewritten =
                    stanza.rewrite().set("from", "romeo@montague.example/orchard").append(STANZA_ID);
                black_box(rewritten.finish());
                count += 1;
            }
        }
        assert_eq!(count, STANZAS);
    });
    println!("split, skim and splice: {whole} ns");

    let stanza = Stanza::parse(MESSAGE).unwrap();
    let splice = median(|| {
        for _ in 0..STANZAS {
            let rewritten = stanza.rewrite().set("from", "romeo@montague.example/orchard").append(STANZA_ID);
            black_box(rewritten.finish());
        }
    });
    println!("splice alone:           {splice} ns");
    let parse = median(|| {
        for _ in 0..STANZAS {
            black_box(Stanza::parse(MESSAGE).unwrap());
        }
    });
    println!("parse one stanza:       {parse} ns");
}

/// Nanoseconds per stanza.
fn median(mut round: impl FnMut()) -> u128 {
    let mut times: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos() / STANZAS as u128
        })
        .collect();
    times.sort_unstable();
    times.get(ROUNDS / 2).copied().unwrap_or_default()
}
