//! Trimming an archive (`urn:xmpp:mamtrim:0`): which of the oldest entries the owner wants gone. Who may ask, and
//! whether it is allowed at all, is left to the server.

use mammoth_archive::StanzaId;
use minidom::Element;

use crate::ns;
use crate::rsm;
use crate::stanza_error::StanzaError;

/// Reads `<trim/>`: the id of the newest entry that is to go, or `None` for everything.
///
/// # Errors
/// `item-not-found` for an `<id/>` that nobody can have given, an empty one among them (it never means everything);
/// `bad-request` for two of them.
pub fn read(trim: &Element) -> Result<Option<StanzaId>, StanzaError> {
    let mut ids = trim.children().filter(|child| child.is("id", ns::MAM_TRIM));
    match (ids.next(), ids.next()) {
        (_, Some(_)) => Err(StanzaError::bad_request().with_text("one id at most")),
        (Some(id), None) => rsm::id(id.text()).map(Some),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trim(inner: &str) -> Result<Option<StanzaId>, &'static str> {
        let xml = format!("<trim xmlns='urn:xmpp:mamtrim:0'>{inner}</trim>");
        read(&crate::element::element(xml.as_bytes()).unwrap()).map_err(|error| error.condition)
    }

    #[test]
    fn up_to_an_id_or_everything() {
        assert_eq!(trim(""), Ok(None));
        assert_eq!(trim("<id>x1</id>"), Ok(StanzaId::new("x1")));
        assert_eq!(trim("<id/>"), Err("item-not-found"));
        assert_eq!(trim("<id>a</id><id>b</id>"), Err("bad-request"));
        assert_eq!(trim(&format!("<id>{}</id>", "x".repeat(2000))), Err("item-not-found"));
    }
}
