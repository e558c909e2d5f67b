//! Stanza errors (RFC 6120 §8.3): the conditions, their usual types, and the error that answers a stanza.
//! The only file in which an error becomes a stanza. Why something failed is known elsewhere.

use std::borrow::Cow;

use bytes::Bytes;
use jid::Jid;
use mammoth_archive::{ArchiveError, StoreError};

use crate::datetime;
use crate::escape::{escape_text, push_attr};
use crate::ns;
use crate::skim::CLIENT;
use crate::stanza::{Kind, Stanza};

/// The namespace of stanza error conditions.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// What the sender can do about an error (RFC 6120 §8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// Log in or become a member, then try again.
    Auth,
    /// Do not try again.
    Cancel,
    /// Only a warning.
    Continue,
    /// Change the stanza, then try again.
    Modify,
    /// Wait, then try again.
    Wait,
}

impl ErrorType {
    /// The value of the attribute `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }
}

/// A stanza error: type, condition, a text for people and an application's own condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// What the sender can do.
    pub type_: ErrorType,
    /// The element name of the defined condition.
    pub condition: &'static str,
    /// For people; may be empty. Never text of a library or of another user.
    pub text: Cow<'static, str>,
    /// An application-specific condition: one well-formed element that declares its namespace, or nothing.
    pub app: Cow<'static, str>,
}

macro_rules! conditions {
    ($($function:ident $name:literal $type:ident;)*) => {
        impl StanzaError {
            $(
                #[doc = concat!("`", $name, "`, of the type that RFC 6120 §8.3.3 gives it.")]
                pub fn $function() -> Self {
                    Self::new(ErrorType::$type, $name)
                }
            )*

            /// Every defined condition with its usual type.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$function()),*]
            }
        }
    };
}

conditions! {
    bad_request "bad-request" Modify;
    conflict "conflict" Cancel;
    feature_not_implemented "feature-not-implemented" Cancel;
    forbidden "forbidden" Auth;
    gone "gone" Cancel;
    internal_server_error "internal-server-error" Cancel;
    item_not_found "item-not-found" Cancel;
    jid_malformed "jid-malformed" Modify;
    not_acceptable "not-acceptable" Modify;
    not_allowed "not-allowed" Cancel;
    not_authorized "not-authorized" Auth;
    policy_violation "policy-violation" Modify;
    recipient_unavailable "recipient-unavailable" Wait;
    redirect "redirect" Modify;
    registration_required "registration-required" Auth;
    remote_server_not_found "remote-server-not-found" Cancel;
    remote_server_timeout "remote-server-timeout" Wait;
    resource_constraint "resource-constraint" Wait;
    service_unavailable "service-unavailable" Cancel;
    subscription_required "subscription-required" Auth;
    undefined_condition "undefined-condition" Cancel;
    unexpected_request "unexpected-request" Wait;
}

impl StanzaError {
    /// An error of this type and condition, without text.
    pub fn new(type_: ErrorType, condition: &'static str) -> Self {
        Self { type_, condition, text: Cow::Borrowed(""), app: Cow::Borrowed("") }
    }

    /// The same with a text for people.
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), ..self }
    }

    /// The same with another type.
    pub fn with_type(self, type_: ErrorType) -> Self {
        Self { type_, ..self }
    }

    /// The same with an application-specific condition, a well-formed element.
    pub fn with_app(self, app: impl Into<Cow<'static, str>>) -> Self {
        Self { app: app.into(), ..self }
    }

    /// The element `<error/>`, in the namespace of the stanza around it.
    pub fn to_xml(&self) -> String {
        let mut out = String::from("<error");
        push_attr(&mut out, "type", self.type_.name());
        out.push_str(&format!("><{} xmlns='{STANZA_ERRORS}'/>", self.condition));
        if !self.text.is_empty() {
            let text = escape_text(&self.text);
            out.push_str(&format!("<text xmlns='{STANZA_ERRORS}' xml:lang='en'>{text}</text>"));
        }
        out.push_str(&self.app);
        out.push_str("</error>");
        out
    }

    /// The stanza that answers `stanza` with this error: same kind and id, from whom it was addressed to.
    ///
    /// `sender` is who gets the answer. `None` if the stanza must not be answered: it is an error itself, the result of
    /// an IQ, or no stanza at all (RFC 6120 §8.3.1).
    pub fn reply(&self, stanza: &Stanza, sender: &Jid) -> Option<Bytes> {
        let name = match (stanza.kind(), stanza.type_()) {
            (_, Some("error")) | (Kind::Iq, Some("result")) | (Kind::Other, _) => return None,
            (Kind::Message, _) => "message",
            (Kind::Presence, _) => "presence",
            (Kind::Iq, _) => "iq",
        };
        let mut out = format!("<{name}");
        push_attr(&mut out, "xmlns", CLIENT);
        push_attr(&mut out, "type", "error");
        if let Some(id) = stanza.id() {
            push_attr(&mut out, "id", id);
        }
        if let Ok(Some(to)) = stanza.to() {
            push_attr(&mut out, "from", to.as_str());
        }
        push_attr(&mut out, "to", sender.as_str());
        out.push('>');
        out.push_str(&self.to_xml());
        out.push_str(&format!("</{name}>"));
        Some(Bytes::from(out))
    }
}

impl Stanza {
    /// The answer to this stanza, as [`StanzaError::reply`].
    pub fn error_reply(&self, error: &StanzaError, sender: &Jid) -> Option<Bytes> {
        error.reply(self, sender)
    }
}

impl From<&StoreError> for StanzaError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::item_not_found(),
            StoreError::Conflict(_) | StoreError::Unavailable(_) => {
                Self::resource_constraint().with_text("the archive cannot be reached, please try again")
            }
            StoreError::Refused(_) => {
                Self::resource_constraint().with_text("the archive cannot take this now")
            }
            StoreError::Corrupt(_) => Self::internal_server_error().with_text("the archive cannot be read"),
        }
    }
}

/// A cursor that is not in the archive is answered with where the archive now starts, so that a client knows what it
/// has missed: `<archive xmlns='urn:mammoth:archive:0'><start id='…' timestamp='…'/></archive>`, empty for an empty
/// archive. The standard condition stands before it.
impl From<&ArchiveError> for StanzaError {
    fn from(error: &ArchiveError) -> Self {
        match error {
            ArchiveError::NotFound { expired, start, .. } => {
                let mut app = String::from("<archive");
                push_attr(&mut app, "xmlns", ns::MAMMOTH_ARCHIVE);
                match start {
                    None => app.push_str("/>"),
                    Some((id, stamp)) => {
                        app.push_str("><start");
                        push_attr(&mut app, "id", id.as_str());
                        push_attr(&mut app, "timestamp", &datetime::write(*stamp));
                        app.push_str("/></archive>");
                    }
                }
                let text = match (expired, start) {
                    (true, Some(_)) => {
                        "this id is no longer in the archive, whose oldest entry is given here"
                    }
                    (true, None) => "this id is no longer in the archive, which is empty now",
                    (false, _) => "this id was never in this archive",
                };
                Self::item_not_found().with_text(text).with_app(app)
            }
            ArchiveError::TooManyIds(max) => {
                Self::policy_violation().with_text(format!("at most {max} ids in one query"))
            }
            ArchiveError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for StanzaError {
    fn from(error: StoreError) -> Self {
        (&error).into()
    }
}

impl From<ArchiveError> for StanzaError {
    fn from(error: ArchiveError) -> Self {
        (&error).into()
    }
}
