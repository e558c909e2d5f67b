//! Stanza-ids on messages (XEP-0359): writing ours, and finding those that claim to be. Which archives are ours is left
//! to the server.

use jid::BareJid;
use mammoth_archive::StanzaId;

use crate::escape::push_attr;
use crate::ns;
use crate::stanza::Child;

/// The element that tells the readers of `by`'s archive under which id a message is kept there.
#[must_use]
pub fn element(by: &BareJid, id: &StanzaId) -> String {
    let mut out = String::with_capacity(64 + by.as_str().len() + id.as_str().len());
    out.push_str("<stanza-id xmlns='");
    out.push_str(ns::SID);
    out.push('\'');
    push_attr(&mut out, "by", by.as_str());
    push_attr(&mut out, "id", id.as_str());
    out.push_str("/>");
    out
}

/// Whose archive a child of a message claims an id of, normalised; `None` for anything that is not a `<stanza-id/>` of
/// some JID. If the answer is one of ours, it must be removed before ours is added (XEP-0359 §3); others stay.
#[must_use]
pub fn claims(child: Child<'_>) -> Option<BareJid> {
    if !child.is(ns::SID, "stanza-id") {
        return None;
    }
    jid::Jid::new(child.attr("by")?).ok().map(jid::Jid::into_bare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::Stanza;

    #[test]
    fn what_claims_to_be_ours() {
        let ours = BareJid::new("alice@example.org").unwrap();
        let cases = [
            ("<stanza-id xmlns='urn:xmpp:sid:0' by='alice@example.org' id='1'/>", true),
            ("<stanza-id xmlns='urn:xmpp:sid:0' by='Alice@EXAMPLE.org' id='1'/>", true),
            ("<stanza-id xmlns='urn:xmpp:sid:0' by='alice@example.org/phone' id='1'/>", true),
            ("<stanza-id xmlns='urn:xmpp:sid:0' by='alice@example.org'/>", true),
            ("<s:stanza-id xmlns:s='urn:xmpp:sid:0' by='alice@example.org' id='1'/>", true),
            ("<stanza-id xmlns='urn:xmpp:sid:0' by='bob@example.org' id='1'/>", false),
            ("<stanza-id xmlns='urn:xmpp:sid:0' by='@' id='1'/>", false),
            ("<stanza-id xmlns='urn:xmpp:sid:0' id='1'/>", false),
            ("<stanza-id xmlns='urn:other' by='alice@example.org' id='1'/>", false),
            ("<origin-id xmlns='urn:xmpp:sid:0' by='alice@example.org' id='1'/>", false),
        ];
        for (child, claim) in cases {
            let message = Stanza::parse(format!("<message>{child}</message>")).unwrap();
            let found = message.children().filter_map(claims).any(|by| by == ours);
            assert_eq!(found, claim, "{child}");
        }
    }

    #[test]
    fn written_and_found_again() {
        let ours =
            BareJid::new("o'hara@example.org").unwrap_or_else(|_| BareJid::new("ohara@example.org").unwrap());
        let id = StanzaId::new("<&'\">").unwrap();
        let message = Stanza::parse(format!("<message>{}</message>", element(&ours, &id))).unwrap();
        let child = message.children().next().unwrap();
        assert_eq!(claims(child), Some(ours));
        assert_eq!(child.attr("id"), Some("<&'\">"));
    }
}
