//! The stream header (RFC 6120 §4.7): reading the client's, writing ours, and the features that follow.
//! Knows which headers are acceptable; which domains are served and which features are offered, the server says.

use crate::escape::push_attr;
use crate::sasl::SaslOffer;
use crate::skim::{self, CLIENT, Head};
use crate::stream_error::{StreamCondition, StreamError};

/// The namespace of the stream element.
pub const STREAMS: &str = "http://etherx.jabber.org/streams";
/// The namespace of STARTTLS (RFC 6120 §5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// The namespace of resource binding (RFC 6120 §7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// The namespace of the legacy session request (RFC 3921 §3).
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";

/// What the peer's stream header said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// The domain that the peer wants to talk to.
    pub to: Option<String>,
    /// Who the peer says it is; never trusted.
    pub from: Option<String>,
    /// `xml:lang`: the default language of the stanzas, which the reader writes onto each that has none.
    pub lang: Option<String>,
    /// `version`, as sent.
    pub version: Option<String>,
}

impl StreamHeader {
    /// Takes a header's start tag.
    ///
    /// # Errors
    /// The element is not `stream` of the streams namespace, or the content namespace is not `jabber:client`.
    pub(crate) fn read(head: &Head, default_ns: Option<&str>) -> Result<Self, StreamError> {
        if *head.ns != *STREAMS {
            return Err(StreamError::new(
                StreamCondition::InvalidNamespace,
                "not the namespace of XMPP streams",
            ));
        }
        if head.name.as_str() != "stream" {
            return Err(StreamError::new(
                StreamCondition::BadFormat,
                "the stream must open with a stream element",
            ));
        }
        if !matches!(default_ns, None | Some(CLIENT | STREAMS)) {
            return Err(StreamError::new(
                StreamCondition::InvalidNamespace,
                "the content must be jabber:client",
            ));
        }
        let value = |name| skim::attr(&head.attrs, name).map(str::to_owned);
        Ok(Self {
            to: value("to"),
            from: value("from"),
            lang: skim::xml_lang(&head.attrs).filter(|lang| !lang.is_empty()).map(str::to_owned),
            version: value("version"),
        })
    }

    /// Whether we can go on with this header: its version is 1.0 or later and `serves` knows its domain.
    ///
    /// # Errors
    /// `unsupported-version`, `improper-addressing` (no `to`) or `host-unknown`. Our own header is sent before them.
    pub fn check(&self, serves: impl FnOnce(&str) -> bool) -> Result<(), StreamError> {
        let major = self.version.as_deref().and_then(|version| {
            let (major, minor) = version.split_once('.')?;
            minor.parse::<u32>().ok()?;
            major.parse::<u32>().ok()
        });
        if major.is_none_or(|major| major < 1) {
            return Err(StreamError::new(
                StreamCondition::UnsupportedVersion,
                "the version must be 1.0 or later",
            ));
        }
        let Some(to) = &self.to else {
            return Err(StreamError::new(
                StreamCondition::ImproperAddressing,
                "the stream header must have a 'to'",
            ));
        };
        if serves(to) { Ok(()) } else { Err(StreamError::host_unknown()) }
    }
}

/// Our stream header, with the XML declaration before it. `to` is the peer, where it is known.
pub fn response_header(id: &str, from: &str, to: Option<&str>, lang: &str) -> String {
    let mut out = String::from("<?xml version='1.0'?><stream:stream");
    push_attr(&mut out, "id", id);
    push_attr(&mut out, "from", from);
    if let Some(to) = to {
        push_attr(&mut out, "to", to);
    }
    push_attr(&mut out, "xml:lang", lang);
    push_attr(&mut out, "version", "1.0");
    push_attr(&mut out, "xmlns", CLIENT);
    push_attr(&mut out, "xmlns:stream", STREAMS);
    out.push('>');
    out
}

/// The end of our stream.
pub const STREAM_END: &str = "</stream:stream>";

/// `<proceed/>`, after which TLS starts.
pub const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// The features after the first header of a plain connection: STARTTLS, required, and nothing else.
pub fn features_starttls() -> String {
    features(&format!("<starttls xmlns='{TLS}'><required/></starttls>"))
}

/// The features before login: the mechanisms, and the channel bindings they can use (XEP-0440).
pub fn features_sasl(offer: &SaslOffer) -> String {
    features(&offer.to_xml())
}

/// The features after login: resource binding, the legacy session (marked optional), and `extra` elements.
pub fn features_bind(extra: &str) -> String {
    features(&format!("<bind xmlns='{BIND}'/><session xmlns='{SESSION}'><optional/></session>{extra}"))
}

/// `<stream:features>` around the given elements.
pub fn features(content: &str) -> String {
    format!("<stream:features>{content}</stream:features>")
}
