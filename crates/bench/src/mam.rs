//! The archive's client: asks for pages (XEP-0313, XEP-0059) and takes the answers apart. Whether a page is the right
//! one is judged by `expect`.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Result, bail};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    clock,
    conn::Conn,
    login::nonce,
    scan::{Unit, attr, element, is, lossy, text_of},
};

/// Where a page begins.
#[derive(Debug, Clone)]
pub enum From {
    /// With the oldest message.
    First,
    /// After this id, going forwards.
    After(Vec<u8>),
    /// With the newest messages.
    Last,
    /// Before this id, going backwards.
    Before(Vec<u8>),
}

/// One request for a page.
#[derive(Debug, Clone)]
pub struct Request {
    /// Only messages with this bare JID.
    pub with: Option<String>,
    /// Only messages of this stamp or later, as the server wrote it.
    pub start: Option<String>,
    /// Where the page begins.
    pub from: From,
    /// How many messages at most.
    pub max: usize,
}

/// One archived message.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its stanza-id.
    pub id: Vec<u8>,
    /// Its stamp, as the server wrote it.
    pub stamp: String,
    /// Its body, as it stands in the XML.
    pub body: Vec<u8>,
}

/// A stamp in microseconds since 1970, if it is one.
pub fn micros(stamp: &str) -> Option<i128> {
    OffsetDateTime::parse(stamp, &Rfc3339).ok().map(|t| t.unix_timestamp_nanos() / 1_000)
}

/// One page.
#[derive(Debug)]
pub struct Page {
    /// Its messages in the order of arrival.
    pub entries: Vec<Entry>,
    /// The server says that nothing follows in the direction asked.
    pub complete: bool,
    /// How many messages match in all, if the server says so.
    pub count: Option<u64>,
    /// The id of the page's oldest message, for going on backwards.
    pub first: Option<Vec<u8>>,
    /// The id of the page's newest message, for going on forwards.
    pub last: Option<Vec<u8>>,
    /// From sending the request to having read the end of the answer.
    pub took: Duration,
}

/// Asks for one page and waits for it.
///
/// # Errors
/// The connection is gone, the server is stuck, or it answers with an error.
pub async fn page(conn: &mut Conn, request: &Request) -> Result<Page> {
    let id = nonce()?;
    let xml = request.xml(&id);
    let sent = clock::now();
    conn.send(xml.as_bytes()).await?;
    let mut entries = Vec::with_capacity(request.max);
    loop {
        let Unit::Stanza(range) = conn.unit().await? else { bail!("the server closed the stream") };
        let stanza = conn.inbox.bytes(&range);
        if is(stanza, "message") {
            entries.extend(entry(stanza, &id));
        } else if is(stanza, "iq") && attr(stanza, "id") == Some(id.as_bytes()) {
            let Some(fin) = element(stanza, "fin") else { bail!("query refused: {}", lossy(stanza)) };
            let set = element(fin, "set").unwrap_or_default();
            let count = text_of(set, "count").and_then(|c| lossy(c).parse().ok());
            return Ok(Page {
                complete: matches!(attr(fin, "complete"), Some(b"true" | b"1")),
                count,
                first: text_of(set, "first").map(<[u8]>::to_vec),
                last: text_of(set, "last").map(<[u8]>::to_vec),
                took: clock::now() - sent,
                entries,
            });
        } else if is(stanza, "stream:error") {
            bail!("stream error: {}", lossy(stanza));
        }
    }
}

/// The archived message in a result of our query.
fn entry(stanza: &[u8], queryid: &str) -> Option<Entry> {
    let result = element(stanza, "result")?;
    if attr(result, "queryid") != Some(queryid.as_bytes()) {
        return None;
    }
    Some(Entry {
        id: attr(result, "id")?.to_vec(),
        stamp: element(result, "delay").and_then(|d| attr(d, "stamp")).map(lossy).unwrap_or_default(),
        body: text_of(result, "body").unwrap_or_default().to_vec(),
    })
}

impl Request {
    fn xml(&self, id: &str) -> String {
        let mut xml = format!("<iq type='set' id='{id}'><query xmlns='urn:xmpp:mam:2' queryid='{id}'>");
        if self.with.is_some() || self.start.is_some() {
            xml.push_str(
                "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
                 <value>urn:xmpp:mam:2</value></field>",
            );
            for (var, value) in [("with", &self.with), ("start", &self.start)] {
                if let Some(value) = value {
                    let _infallible = write!(xml, "<field var='{var}'><value>{value}</value></field>");
                }
            }
            xml.push_str("</x>");
        }
        let _infallible = write!(xml, "<set xmlns='http://jabber.org/protocol/rsm'><max>{}</max>", self.max);
        match &self.from {
            From::First => {}
            From::After(id) => {
                let _infallible = write!(xml, "<after>{}</after>", lossy(id));
            }
            From::Last => xml.push_str("<before/>"),
            From::Before(id) => {
                let _infallible = write!(xml, "<before>{}</before>", lossy(id));
            }
        }
        xml.push_str("</set></query></iq>");
        xml
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_taken_apart() {
        let stanza = b"<message to='a'><result xmlns='urn:xmpp:mam:2' queryid='q' id='28'><forwarded>\
            <delay xmlns='urn:xmpp:delay' stamp='2026-01-02T03:04:05.5Z'/><message id='x'><body>hi</body>\
            <stanza-id id='28'/></message></forwarded></result></message>";
        let entry = entry(stanza, "q").unwrap();
        assert_eq!((entry.id.as_slice(), entry.body.as_slice()), (&b"28"[..], &b"hi"[..]));
        assert_eq!(micros(&entry.stamp), Some(1_767_323_045_500_000));
        assert!(super::entry(stanza, "other").is_none());
    }

    #[test]
    fn a_request_without_filter_has_no_form() {
        let mut request = Request { with: None, start: None, from: From::Last, max: 50 };
        assert!(!request.xml("q").contains("jabber:x:data"));
        assert!(request.xml("q").contains("<max>50</max><before/>"));
        request.with = Some("a@b".to_owned());
        assert!(request.xml("q").contains("<field var='with'><value>a@b</value></field>"));
    }
}
