//! Presence stanzas (RFC 6121 §4): their type and priority. Everything else in them is passed on as it is; who sees
//! whom is left to the server.

use crate::ns;
use crate::stanza::Stanza;
use crate::stanza_error::StanzaError;

/// What a presence stanza says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PresenceType {
    /// I am here.
    Available,
    /// I am gone.
    Unavailable,
    /// Please let me see your presence.
    Subscribe,
    /// You may see my presence.
    Subscribed,
    /// I no longer want to see your presence.
    Unsubscribe,
    /// You may not, or no longer, see my presence.
    Unsubscribed,
    /// Is anybody there? (From a server only.)
    Probe,
    /// A presence of yours could not be delivered.
    Error,
}

impl PresenceType {
    /// The value of the attribute `type`; none for [`Available`](Self::Available).
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Available => return None,
            Self::Unavailable => "unavailable",
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
            Self::Probe => "probe",
            Self::Error => "error",
        })
    }

    /// The type of a presence stanza.
    ///
    /// # Errors
    /// `bad-request` for a type that RFC 6121 §4.7.1 does not know.
    pub fn of(presence: &Stanza) -> Result<PresenceType, StanzaError> {
        const NAMED: [PresenceType; 7] = [
            PresenceType::Unavailable,
            PresenceType::Subscribe,
            PresenceType::Subscribed,
            PresenceType::Unsubscribe,
            PresenceType::Unsubscribed,
            PresenceType::Probe,
            PresenceType::Error,
        ];
        let Some(name) = presence.type_() else {
            return Ok(PresenceType::Available);
        };
        let unknown = || StanzaError::bad_request().with_text("no such type of presence");
        NAMED.into_iter().find(|type_| type_.name() == Some(name)).ok_or_else(unknown)
    }
}

/// The priority of a presence stanza (RFC 6121 §4.7.2.3): 0 if it says none, or none that can be read.
#[must_use]
pub fn priority(presence: &Stanza) -> i8 {
    let text = presence.child(ns::CLIENT, "priority").map(|priority| priority.text());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(attrs: &str, inner: &str) -> Stanza {
        Stanza::parse(format!("<presence {attrs}>{inner}</presence>")).unwrap()
    }

    #[test]
    fn types() {
        assert_eq!(PresenceType::of(&presence("", "")), Ok(PresenceType::Available));
        assert_eq!(PresenceType::of(&presence("type='probe'", "")), Ok(PresenceType::Probe));
        assert_eq!(PresenceType::of(&presence("type='unsubscribed'", "")), Ok(PresenceType::Unsubscribed));
        for wrong in ["available", "", "Probe"] {
            assert!(PresenceType::of(&presence(&format!("type='{wrong}'"), "")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn priorities() {
        for (inner, expected) in [
            ("", 0),
            ("<priority>5</priority>", 5),
            ("<priority> -1 </priority>", -1),
            ("<priority>127</priority>", 127),
            ("<priority>128</priority>", 0),
            ("<priority>high</priority>", 0),
            ("<priority/>", 0),
            ("<priority xmlns='urn:x'>5</priority>", 0),
        ] {
            assert_eq!(priority(&presence("", inner)), expected, "{inner}");
        }
    }
}
