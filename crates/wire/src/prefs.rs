//! Archiving preferences on the wire (XEP-0441). What they decide, `mammoth_archive::prefs` says; whether they may be
//! changed, the server.

use jid::Jid;
use mammoth_archive::{DefaultPolicy, Prefs};
use minidom::Element;

use crate::escape::{escape_text, push_attr};
use crate::ns;
use crate::stanza_error::StanzaError;

/// The most JIDs in both lists together.
pub const PREFS_JIDS_MAX: usize = 1000;

/// Reads the `<prefs/>` of a set. A missing list is an empty one.
///
/// # Errors
/// `bad-request` for a `default` that is missing or none of the three, and for a list that stands twice;
/// `jid-malformed` for what is no JID; `policy-violation` for more than [`PREFS_JIDS_MAX`].
pub fn read(prefs: &Element) -> Result<Prefs, StanzaError> {
    let bad = |text| StanzaError::bad_request().with_text(text);
    let default = prefs.attr("default").ok_or_else(|| bad("the default is missing"))?;
    let default: DefaultPolicy =
        default.parse().map_err(|_| bad("the default is always, never or roster"))?;
    let list = |name: &str| {
        let mut lists = prefs.children().filter(|child| child.name() == name && child.ns() == ns::MAM);
        match (lists.next(), lists.next()) {
            (_, Some(_)) => Err(bad("a list stands twice")),
            (Some(list), None) => read_list(list),
            (None, None) => Ok(Vec::new()),
        }
    };
    let (always, never) = (list("always")?, list("never")?);
    if always.len() + never.len() > PREFS_JIDS_MAX {
        return Err(StanzaError::policy_violation().with_text("too many JIDs in the lists"));
    }
    Ok(Prefs::new(default, always, never))
}

fn read_list(list: &Element) -> Result<Vec<Jid>, StanzaError> {
    let jids = list.children().filter(|child| child.is("jid", ns::MAM));
    jids.map(|jid| Jid::new(jid.text().trim()).map_err(|_| StanzaError::jid_malformed())).collect()
}

/// The payload that answers a get or a set: the prefs as they apply, both lists always there.
#[must_use]
pub fn write(prefs: &Prefs) -> String {
    let mut out = String::from("<prefs");
    push_attr(&mut out, "xmlns", ns::MAM);
    push_attr(&mut out, "default", prefs.default_policy().as_str());
    out.push('>');
    push_list(&mut out, "always", prefs.always());
    push_list(&mut out, "never", prefs.never());
    out.push_str("</prefs>");
    out
}

fn push_list<'a>(out: &mut String, name: &str, jids: impl ExactSizeIterator<Item = &'a Jid>) {
    if jids.len() == 0 {
        out.push_str(&format!("<{name}/>"));
        return;
    }
    out.push_str(&format!("<{name}>"));
    for jid in jids {
        out.push_str(&format!("<jid>{}</jid>", escape_text(jid.as_str())));
    }
    out.push_str(&format!("</{name}>"));
}
