//! Resource binding (RFC 6120 §7), the legacy session (RFC 3921 §3), pings (XEP-0199) and the software version
//! (XEP-0092): what small payloads ask and how they are answered. Which resource is given is left to the server.
//!
//! A session (`set`, [`ns::SESSION`]) and a ping (`get`, [`ns::PING`]) ask for nothing but an empty result.

use jid::{FullJid, ResourcePart, ResourceRef};
use minidom::Element;

use crate::escape::{escape_text, push_attr};
use crate::ns;
use crate::stanza_error::StanzaError;

/// Reads `<bind/>`: the resource that the client would like, normalised; `None` leaves the choice to the server.
///
/// # Errors
/// `bad-request` for what cannot be a resource.
pub fn read_bind(bind: &Element) -> Result<Option<ResourcePart>, StanzaError> {
    let Some(resource) = bind.get_child("resource", ns::BIND).map(Element::text) else {
        return Ok(None);
    };
    if resource.is_empty() {
        return Ok(None);
    }
    let resource =
        ResourcePart::new(&resource).map_err(|_| StanzaError::bad_request().with_text("not a resource"))?;
    Ok(Some(ResourceRef::to_owned(&resource)))
}

/// The payload that answers a bind: who the client is now.
#[must_use]
pub fn write_bind(jid: &FullJid) -> String {
    let mut out = String::from("<bind");
    push_attr(&mut out, "xmlns", ns::BIND);
    out.push_str(&format!("><jid>{}</jid></bind>", escape_text(jid.as_str())));
    out
}

/// The payload that answers a version request.
#[must_use]
pub fn write_version(name: &str, version: &str) -> String {
    let mut out = String::from("<query");
    push_attr(&mut out, "xmlns", ns::VERSION);
    out.push_str(&format!(
        "><name>{}</name><version>{}</version></query>",
        escape_text(name),
        escape_text(version)
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(inner: &str) -> Result<Option<String>, &'static str> {
        let xml = format!("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{inner}</bind>");
        let read = read_bind(&crate::element::element(xml.as_bytes()).unwrap());
        read.map(|resource| resource.map(ResourcePart::into_inner)).map_err(|error| error.condition)
    }

    #[test]
    fn resources_wanted() {
        assert_eq!(bind(""), Ok(None));
        assert_eq!(bind("<resource/>"), Ok(None));
        assert_eq!(bind("<resource>phone &amp; tablet</resource>"), Ok(Some("phone & tablet".into())));
        assert_eq!(bind(&format!("<resource>{}</resource>", "x".repeat(2000))), Err("bad-request"));
        assert_eq!(bind("<resource>a\u{200e}b\u{7f}</resource>"), Err("bad-request"));
    }

    #[test]
    fn answers() {
        let jid = FullJid::new("alice@example.org/a<b").unwrap();
        assert_eq!(
            write_bind(&jid),
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>alice@example.org/a&lt;b</jid></bind>"
        );
        assert_eq!(
            write_version("Mammoth", "1.0 & on"),
            "<query xmlns='jabber:iq:version'><name>Mammoth</name><version>1.0 &amp; on</version></query>"
        );
    }
}
