//! Trees for those who read payloads: raw bytes into `minidom`, and a prefixed stanza written anew without its prefix.
//! Only for bytes whose depth a stream's limits have bounded; a tree of unbounded depth would overflow the stack.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use minidom::Element;
use minidom::tree_builder::TreeBuilder;
use rxml::error::EndOrError;
use rxml::parser::{Options, Parse, WithOptions};
use rxml::writer::{Encoder, SimpleNamespaces};
use rxml::{Parser, RawParser};

use crate::limits::{Limits, STORED_STANZA_BYTES};
use crate::stanza::Stanza;
use crate::stream_error::{StreamCondition, StreamError};

/// The depth of the deepest tree that is built; more than any stream accepts.
const DEPTH_MAX: usize = 256;

/// A payload cannot be read as a tree: answer `bad-request`.
#[derive(Debug, thiserror::Error)]
#[error("not an element: {0}")]
pub struct ElementError(Cow<'static, str>);

/// Reads one whole element that declares its own namespaces.
///
/// # Errors
/// Not well-formed, more than one element, or too deep.
pub fn element(raw: &[u8]) -> Result<Element, ElementError> {
    tree(&[raw])
}

/// Reads a child of `stanza` in the context of the namespaces that its root declares.
pub(crate) fn child_element(stanza: &Stanza, raw: &[u8]) -> Result<Element, ElementError> {
    let root = stanza.root();
    let name = match &root.prefix {
        Some(prefix) => format!("</{prefix}:{}>", root.name),
        None => format!("</{}>", root.name),
    };
    let mut parent = tree(&[stanza.start_tag(), raw, name.as_bytes()])?;
    parent.unshift_child().ok_or_else(|| ElementError("no child".into()))
}

fn tree(pieces: &[&[u8]]) -> Result<Element, ElementError> {
    let bytes = line_ends(pieces);
    let mut rest = bytes.as_slice();
    let mut parser = RawParser::with_options(options(STORED_STANZA_BYTES));
    let mut builder = TreeBuilder::new();
    loop {
        match parser.parse(&mut rest, true) {
            Ok(Some(event)) => {
                builder.process_event(event).map_err(|error| ElementError(error.to_string().into()))?
            }
            Ok(None) => break,
            Err(EndOrError::Error(error)) => return Err(ElementError(error.to_string().into())),
            Err(EndOrError::NeedMoreData) => return Err(ElementError("cut short".into())),
        }
        if builder.depth() > DEPTH_MAX {
            return Err(ElementError("too deep".into()));
        }
    }
    builder.root.take().ok_or_else(|| ElementError("no element".into()))
}

/// The bytes with their line ends as XML means them (XML 1.0 §2.11). The parser would do it, except for a carriage
/// return in an attribute value, which it refuses, or behind a bracket in a CDATA section, which it keeps.
fn line_ends(pieces: &[&[u8]]) -> Vec<u8> {
    let bytes = pieces.concat();
    if !bytes.contains(&b'\r') {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().peekable();
    while let Some(&byte) = rest.next() {
        if byte == b'\r' {
            rest.next_if(|next| **next == b'\n');
        }
        out.push(if byte == b'\r' { b'\n' } else { byte });
    }
    out
}

fn options(max_token_length: usize) -> Options {
    Options { max_token_length, ..Options::default() }
}

/// The same stanza with `jabber:client` as its default namespace: same infoset, spelt anew.
pub(crate) fn without_prefix(raw: &Bytes, limits: &Limits) -> Result<Stanza, StreamError> {
    let failed = |_| StreamError::new(StreamCondition::BadNamespacePrefix, "stanzas must not have a prefix");
    let bytes = line_ends(&[raw]);
    let mut rest = bytes.as_slice();
    let mut parser = Parser::with_options(options(limits.attribute_bytes));
    let mut encoder = Encoder::<SimpleNamespaces>::new();
    let mut out = BytesMut::with_capacity(raw.len());
    loop {
        match parser.parse(&mut rest, true) {
            Ok(Some(event)) => encoder.encode_event_into_bytes(&event, &mut out).map_err(|_| failed(()))?,
            Ok(None) => break,
            Err(_) => return Err(failed(())),
        }
    }
    Stanza::parse_within(out.freeze(), &Limits::stored())
}
