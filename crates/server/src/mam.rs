//! Path (b): what the archive answers its owner (XEP-0313, XEP-0441, trimming). Reading and writing the protocol
//! is left to `wire`, the page itself to the archive.

use bytes::{Bytes, BytesMut};
use jid::Jid;
use mammoth_archive::{ArchiveError, Prefs, SettingsChange};
use mammoth_wire::iq::{self, Request, Verb};
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stanza_error::StanzaError;
use mammoth_wire::{mam, prefs, trim};
use tracing::{error, info};

use crate::clock::Stopwatch;
use crate::session::Session;

/// The most bytes of results handed to the outbox at once.
const RESULT_BYTES: usize = 256 * 1024;

/// Answers a request to the session's own archive.
///
/// # Errors
/// The stanza error to refuse it with.
pub async fn answer(
    session: &mut Session,
    stanza: &Stanza,
    request: &Request<'_>,
) -> Result<Option<String>, StanzaError> {
    match (request.payload.name(), request.verb) {
        ("query", Verb::Get) => Ok(Some(mam::write_form())),
        ("query", Verb::Set) => query(session, stanza, request).await,
        ("metadata", Verb::Get) => {
            session.settle().await;
            let metadata = session.house.archive.metadata(&session.account).await;
            Ok(Some(mam::write_metadata(metadata.map_err(|error| failed(session, error))?.as_ref())))
        }
        ("prefs", verb) => preferences(session, request, verb).await.map(Some),
        ("trim", Verb::Set) => trimmed(session, request).await.map(Some),
        _ => Err(StanzaError::bad_request()),
    }
}

async fn query(
    session: &mut Session,
    stanza: &Stanza,
    request: &Request<'_>,
) -> Result<Option<String>, StanzaError> {
    let watch = Stopwatch::start();
    let asked = mam::read_query(&request.element()?)?;
    session.settle().await;
    let house = &session.house;
    let page = house.archive.page(&session.account, asked.query).await;
    let page = page.map_err(|error| failed(session, error))?;
    let from = Jid::from(session.account.clone());
    let to = Jid::from(session.jid().clone());
    let outbox = &session.resource.outbox;
    let results = mam::write_results(&page, asked.queryid.as_deref(), &from, &to, asked.flip);
    let fin = iq::result(stanza, &to, &mam::write_fin(&page));
    let size = results.iter().map(Bytes::len).sum::<usize>() + fin.len();
    let mut joined = BytesMut::with_capacity(size.min(RESULT_BYTES));
    for result in results {
        joined.extend_from_slice(&result);
        if joined.len() >= RESULT_BYTES {
            outbox.push(joined.split().freeze());
            outbox.calm().await;
        }
    }
    joined.extend_from_slice(&fin);
    outbox.push(Bytes::from(joined));
    house.metrics.pages.inc();
    house.metrics.page_seconds.observe(watch.seconds());
    Ok(None)
}

async fn preferences(session: &Session, request: &Request<'_>, verb: Verb) -> Result<String, StanzaError> {
    let house = &session.house;
    let settings = match verb {
        Verb::Get => house.lanes.settings(house, &session.account).await,
        Verb::Set => {
            let wanted = prefs::read(&request.element()?)?;
            house.lanes.set(house, &session.account, SettingsChange::Prefs(Some(wanted))).await
        }
    };
    let settings = settings.map_err(|error| failed(session, error))?;
    let applied = settings.prefs.unwrap_or_else(|| Prefs::new(house.settings.default_policy, [], []));
    Ok(prefs::write(&applied))
}

async fn trimmed(session: &mut Session, request: &Request<'_>) -> Result<String, StanzaError> {
    if !session.house.settings.allow_trim {
        return Err(
            StanzaError::not_allowed().with_text("messages are kept here for as long as the operator says")
        );
    }
    let through = trim::read(&request.element()?)?;
    session.settle().await;
    let gone = session.house.archive.trim(&session.account, through.as_ref()).await;
    let gone = gone.map_err(|error| failed(session, error))?;
    info!(archive.owner = %session.account, entries = gone, "trimmed by its owner");
    Ok(String::new())
}

/// The stanza error for what the archive cannot; logged here, unless it is the client's own mistake.
fn failed(session: &Session, error: impl Into<ArchiveError>) -> StanzaError {
    let error = error.into();
    if let ArchiveError::Store(cause) = &error {
        session.house.metrics.store_errors.inc();
        error!(archive.owner = %session.account, error = %cause, "the archive cannot answer");
    }
    StanzaError::from(&error)
}
