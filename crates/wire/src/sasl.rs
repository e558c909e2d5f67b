//! SASL on the stream (RFC 6120 §6, XEP-0440): what we offer, what the client sends, what we answer.
//! The mechanisms themselves are `mammoth_accounts::scram`'s; accounts are the server's.

use data_encoding::BASE64;

use crate::escape::{escape_text, push_attr};
use crate::stanza::Stanza;

/// The namespace of SASL.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// The namespace of the channel bindings that a server announces (XEP-0440).
pub const SASL_CB: &str = "urn:xmpp:sasl-cb:0";

/// A mechanism that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the registry's
pub enum Mechanism {
    ScramSha256Plus,
    ScramSha1Plus,
    ScramSha256,
    ScramSha1,
    Plain,
}

impl Mechanism {
    /// Every mechanism, the one we like best first.
    pub const ALL: [Self; 5] =
        [Self::ScramSha256Plus, Self::ScramSha1Plus, Self::ScramSha256, Self::ScramSha1, Self::Plain];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }

    /// The mechanism of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Whether it binds the login to the TLS channel.
    pub fn is_plus(self) -> bool {
        matches!(self, Self::ScramSha256Plus | Self::ScramSha1Plus)
    }
}

/// How a connection is protected, which decides what may be offered on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// No TLS: the password must not be seen, and there is nothing to bind to.
    Plain,
    /// TLS without exported keying material.
    Tls,
    /// TLS whose `tls-exporter` (RFC 9266) binding is known.
    TlsExporter,
}

/// The mechanisms on offer, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslOffer {
    mechanisms: Vec<Mechanism>,
}

impl SaslOffer {
    /// What is offered on such a connection.
    pub fn on(channel: Channel) -> Self {
        let offered = |mechanism: &Mechanism| match channel {
            Channel::Plain => !mechanism.is_plus() && *mechanism != Mechanism::Plain,
            Channel::Tls => !mechanism.is_plus(),
            Channel::TlsExporter => true,
        };
        Self { mechanisms: Mechanism::ALL.into_iter().filter(offered).collect() }
    }

    /// The mechanisms, the best first.
    pub fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    /// Whether a -PLUS mechanism is offered, which a SCRAM exchange must know to notice a downgrade.
    pub fn binds(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism.is_plus())
    }

    /// The feature elements.
    pub fn to_xml(&self) -> String {
        let mut out = format!("<mechanisms xmlns='{SASL}'>");
        for mechanism in &self.mechanisms {
            out.push_str(&format!("<mechanism>{}</mechanism>", mechanism.name()));
        }
        out.push_str("</mechanisms>");
        if self.binds() {
            out.push_str(&format!(
                "<sasl-channel-binding xmlns='{SASL_CB}'><channel-binding type='tls-exporter'/></sasl-channel-binding>"
            ));
        }
        out
    }

    /// Reads an element of the SASL namespace.
    ///
    /// # Errors
    /// The failure to answer with.
    pub fn read(&self, element: &Stanza) -> Result<SaslRequest, SaslFailure> {
        let malformed = SaslFailure::MalformedRequest;
        match element.name() {
            _ if element.ns() != SASL => Err(malformed),
            "abort" => Ok(SaslRequest::Abort),
            "response" => Ok(SaslRequest::Response(decode(&element.text())?)),
            "auth" => {
                let name = element.attr("mechanism").ok_or(malformed)?;
                let mechanism = Mechanism::from_name(name)
                    .filter(|mechanism| self.mechanisms.contains(mechanism))
                    .ok_or(SaslFailure::InvalidMechanism)?;
                let text = element.text();
                let initial = match text.trim_matches(|ch: char| ch.is_ascii_whitespace()) {
                    "" => None,
                    "=" => Some(Vec::new()),
                    text => Some(decode(text)?),
                };
                Ok(SaslRequest::Auth { mechanism, initial })
            }
            _ => Err(malformed),
        }
    }
}

/// What the client sent.
#[derive(Clone, PartialEq, Eq)]
pub enum SaslRequest {
    /// The start of an exchange.
    Auth {
        /// One of those on offer.
        mechanism: Mechanism,
        /// The initial response; `Some(vec![])` if the client said that it is empty (`=`).
        initial: Option<Vec<u8>>,
    },
    /// The answer to a challenge.
    Response(Vec<u8>),
    /// The client gives up: answer [`SaslFailure::Aborted`].
    Abort,
}

impl std::fmt::Debug for SaslRequest {
    /// Says which request it is; what it carries may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auth { mechanism, .. } => write!(f, "Auth({})", mechanism.name()),
            Self::Response(_) => f.write_str("Response"),
            Self::Abort => f.write_str("Abort"),
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, SaslFailure> {
    // Some clients break long lines; RFC 6120 wants none, and inside the text none is accepted.
    let text = text.trim_matches(|ch: char| ch.is_ascii_whitespace());
    BASE64.decode(text.as_bytes()).map_err(|_| SaslFailure::IncorrectEncoding)
}

/// Why a login failed (RFC 6120 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.name())]
#[allow(missing_docs)] // the names are the RFC's
pub enum SaslFailure {
    Aborted,
    AccountDisabled,
    CredentialsExpired,
    EncryptionRequired,
    IncorrectEncoding,
    InvalidAuthzid,
    InvalidMechanism,
    MalformedRequest,
    MechanismTooWeak,
    NotAuthorized,
    TemporaryAuthFailure,
}

impl SaslFailure {
    /// The element name of the condition.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }

    /// `<failure/>`, with a text for people if it is not empty.
    pub fn to_xml(self, text: &str) -> String {
        let name = self.name();
        let mut out = format!("<failure xmlns='{SASL}'><{name}/>");
        if !text.is_empty() {
            out.push_str(&format!("<text xml:lang='en'>{}</text>", escape_text(text)));
        }
        out.push_str("</failure>");
        out
    }
}

/// `<challenge/>` with these bytes; none at all for an empty challenge, as RFC 6120 §6.4.3 has it.
pub fn challenge(data: &[u8]) -> String {
    carrying("challenge", data)
}

/// `<success/>` with the mechanism's last word, if it has one.
pub fn success(data: &[u8]) -> String {
    carrying("success", data)
}

fn carrying(name: &str, data: &[u8]) -> String {
    let mut out = format!("<{name}");
    push_attr(&mut out, "xmlns", SASL);
    if data.is_empty() {
        out.push_str("/>");
    } else {
        out.push_str(&format!(">{}</{name}>", BASE64.encode(data)));
    }
    out
}
