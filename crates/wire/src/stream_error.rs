//! Stream errors: the conditions of RFC 6120 §4.9.3 and how they are written.
//! Which input causes which condition is decided where the input is read (`stream.rs`, `skim.rs`, `header.rs`).

use std::borrow::Cow;

use crate::escape::escape_text;

/// The namespace of stream error conditions.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

/// A defined condition of RFC 6120 §4.9.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // the names are the RFC's
pub enum StreamCondition {
    BadFormat,
    BadNamespacePrefix,
    Conflict,
    ConnectionTimeout,
    HostGone,
    HostUnknown,
    ImproperAddressing,
    InternalServerError,
    InvalidFrom,
    InvalidNamespace,
    InvalidXml,
    NotAuthorized,
    NotWellFormed,
    PolicyViolation,
    Reset,
    ResourceConstraint,
    RestrictedXml,
    SystemShutdown,
    UndefinedCondition,
    UnsupportedEncoding,
    UnsupportedFeature,
    UnsupportedStanzaType,
    UnsupportedVersion,
}

impl StreamCondition {
    /// The element name of the condition.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::Conflict => "conflict",
            Self::ConnectionTimeout => "connection-timeout",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::InvalidFrom => "invalid-from",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidXml => "invalid-xml",
            Self::NotAuthorized => "not-authorized",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation => "policy-violation",
            Self::Reset => "reset",
            Self::ResourceConstraint => "resource-constraint",
            Self::RestrictedXml => "restricted-xml",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::UnsupportedStanzaType => "unsupported-stanza-type",
            Self::UnsupportedVersion => "unsupported-version",
        }
    }
}

/// An error that ends a stream: a condition and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", condition.name())]
pub struct StreamError {
    /// What went wrong, in the RFC's terms.
    pub condition: StreamCondition,
    /// What went wrong, for a person; may be empty. Never holds input of the peer.
    pub text: Cow<'static, str>,
}

impl StreamError {
    /// An error of the given condition and text.
    pub fn new(condition: StreamCondition, text: impl Into<Cow<'static, str>>) -> Self {
        Self { condition, text: text.into() }
    }

    pub(crate) fn policy(text: &'static str) -> Self {
        Self::new(StreamCondition::PolicyViolation, text)
    }

    /// The domain in the stream header's `to` is not served here (RFC 6120 §4.9.3.6).
    pub fn host_unknown() -> Self {
        Self::new(StreamCondition::HostUnknown, "this domain is not served here")
    }

    /// A first-level element that is not understood, or not at this point (RFC 6120 §4.9.3.24).
    pub fn unsupported_stanza_type() -> Self {
        Self::new(StreamCondition::UnsupportedStanzaType, "this element is not understood here")
    }

    /// A stanza before authentication or from a closed session (RFC 6120 §4.9.3.12).
    pub fn not_authorized() -> Self {
        Self::new(StreamCondition::NotAuthorized, "log in first")
    }

    /// The element `<stream:error/>`, to be sent inside an open stream whose header declares the prefix `stream`.
    pub fn to_xml(&self) -> String {
        let name = self.condition.name();
        let mut out = format!("<stream:error><{name} xmlns='{STREAM_ERRORS}'/>");
        if !self.text.is_empty() {
            let text = escape_text(&self.text);
            out.push_str(&format!("<text xmlns='{STREAM_ERRORS}' xml:lang='en'>{text}</text>"));
        }
        out.push_str("</stream:error>");
        out
    }

    /// What a parser's refusal means in the RFC's terms. `consumed` is the input up to and with the refused byte.
    pub(crate) fn from_xml(error: rxml::Error, consumed: &[u8]) -> Self {
        use rxml::Error as E;
        let (condition, text) = match error {
            E::InvalidSyntax(_) if consumed.ends_with(b"<!D") => {
                (StreamCondition::RestrictedXml, "document type declarations are not allowed")
            }
            // `<?xml-…`: the parser had taken it for an XML declaration.
            E::InvalidSyntax(_) if consumed.ends_with(b"<?xml-") => {
                (StreamCondition::RestrictedXml, "processing instructions are not allowed")
            }
            E::UndeclaredEntity => {
                (StreamCondition::RestrictedXml, "only the five predefined entities are allowed")
            }
            E::RestrictedXml("comments") => (StreamCondition::RestrictedXml, "comments are not allowed"),
            E::RestrictedXml("processing instructions") => {
                (StreamCondition::RestrictedXml, "processing instructions are not allowed")
            }
            E::RestrictedXml("only utf-8 encoding is allowed") => {
                (StreamCondition::UnsupportedEncoding, "the encoding must be UTF-8")
            }
            E::RestrictedXml("only XML version 1.0 is allowed") => {
                (StreamCondition::NotWellFormed, "the XML version must be 1.0")
            }
            E::RestrictedXml("long name or reference") => {
                (StreamCondition::PolicyViolation, "a name or an attribute value is too long")
            }
            E::RestrictedXml("event too long") => (StreamCondition::PolicyViolation, "too long"),
            E::RestrictedXml(_) => (StreamCondition::RestrictedXml, "this kind of XML is not allowed"),
            E::UndeclaredNamespacePrefix(_) => {
                (StreamCondition::BadNamespacePrefix, "a namespace prefix is not declared")
            }
            E::InvalidUtf8Byte(_) => (StreamCondition::UnsupportedEncoding, "not valid UTF-8"),
            E::ElementMismatch => (StreamCondition::NotWellFormed, "start and end tag do not match"),
            E::DuplicateAttribute => (StreamCondition::NotWellFormed, "an attribute occurs twice"),
            E::InvalidChar(..) => (StreamCondition::NotWellFormed, "a character that XML does not allow"),
            _ => (StreamCondition::NotWellFormed, "not well-formed XML"),
        };
        Self::new(condition, text)
    }
}
