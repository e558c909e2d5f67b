//! When a stanza was first received (XEP-0203). Which stanzas need saying it is left to the server.

use jid::Jid;
use mammoth_archive::Timestamp;

use crate::datetime;
use crate::escape::push_attr;
use crate::ns;

/// The element that says since when `from` has had the stanza.
#[must_use]
pub fn element(from: &Jid, stamp: Timestamp) -> String {
    let mut out = String::from("<delay");
    push_attr(&mut out, "xmlns", ns::DELAY);
    push_attr(&mut out, "from", from.as_str());
    push_attr(&mut out, "stamp", &datetime::write(stamp));
    out.push_str("/>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_who_and_when() {
        let from = Jid::new("example.org").unwrap();
        assert_eq!(
            element(&from, Timestamp(0)),
            "<delay xmlns='urn:xmpp:delay' from='example.org' stamp='1970-01-01T00:00:00.000000Z'/>"
        );
    }
}
