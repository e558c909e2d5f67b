//! Requests (RFC 6120 §8.2.3): the one table from payload to answer, for the server, for the session's own
//! account, and for passing on to another's resource. Disco is read from the same table's switches. What the
//! archive answers is left to `mam`, roster changes to `subscription`.

use jid::Jid;
use mammoth_wire::carbons::Switch;
use mammoth_wire::iq::{self, Iq, Request, Verb};
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stanza_error::StanzaError;
use mammoth_wire::{bind, carbons, disco, ns};

use crate::session::Session;
use crate::settings::Module;
use crate::{mam, subscription};

/// What this software calls itself (XEP-0092).
const SOFTWARE: &str = "Mammoth";

/// Answers a client's IQ, or passes it on. Every request gets exactly one answer.
pub async fn handle(session: &mut Session, stanza: &Stanza) {
    match route(session, stanza).await {
        Ok(Some(payload)) => {
            session.resource.outbox.push(iq::result(stanza, &Jid::from(session.jid().clone()), &payload));
        }
        Ok(None) => {}
        Err(error) => session.refuse(stanza, &error),
    }
}

/// The payload of the answer; none when somebody else answers or the answer is on its way.
async fn route(session: &mut Session, stanza: &Stanza) -> Result<Option<String>, StanzaError> {
    let to = stanza.to().map_err(|_| StanzaError::jid_malformed())?;
    let read = iq::read(stanza)?;
    let bare = match &to {
        None => session.account.clone(),
        Some(to) => to.to_bare(),
    };
    if !session.house.settings.serves(bare.domain().as_str()) {
        return Err(StanzaError::remote_server_not_found());
    }
    if let Some(Ok(full)) = to.as_ref().map(Jid::try_as_full)
        && bare.node().is_some()
    {
        let Some(there) = session.house.online.find(full) else {
            return Err(StanzaError::service_unavailable());
        };
        there.outbox.push(stanza.rewrite().set("from", session.jid().to_string()).finish());
        return Ok(None);
    }
    let Iq::Request(request) = read else { return Ok(None) };
    if bare == session.account {
        own(session, stanza, &request).await
    } else if bare.node().is_none() {
        server(session, &request).map(Some)
    } else {
        other(&request).map(Some)
    }
}

/// What the session's own account answers.
async fn own(
    session: &mut Session,
    stanza: &Stanza,
    request: &Request<'_>,
) -> Result<Option<String>, StanzaError> {
    let on = |module| session.house.settings.has(module);
    match (request.verb, request.payload.ns(), request.payload.name()) {
        (_, ns::MAM, "query" | "prefs" | "metadata") | (Verb::Set, ns::MAM_TRIM, "trim")
            if on(Module::Mam) =>
        {
            mam::answer(session, stanza, request).await
        }
        (_, ns::ROSTER, "query") if on(Module::Roster) => {
            subscription::roster(session, request).await.map(Some)
        }
        (Verb::Get, ns::DISCO_INFO, "query") => {
            no_node(request)?;
            let house = &session.house;
            let mut features = disco::DISCO.to_vec();
            if house.settings.has(Module::Mam) {
                features.extend(disco::ARCHIVE.iter().chain(disco::RETRACTION));
                if house.settings.allow_trim {
                    features.extend(disco::TRIM);
                }
            }
            Ok(Some(disco::write_info(&[disco::Identity::account()], features)))
        }
        (Verb::Get, ns::DISCO_ITEMS, "query") => {
            no_node(request)?;
            Ok(Some(disco::write_items([])))
        }
        // To nobody means to the account, and that is where clients without a `to` mean the server (RFC 6120 §10.3.3).
        _ => server(session, request).map(Some),
    }
}

/// What the server itself answers.
fn server(session: &Session, request: &Request<'_>) -> Result<String, StanzaError> {
    let settings = &session.house.settings;
    if settings.has(Module::Carbons)
        && let Some(switch) = carbons::read(request)
    {
        session.resource.set_carbons(switch == Switch::Enable);
        return Ok(String::new());
    }
    match (request.verb, request.payload.ns(), request.payload.name()) {
        (Verb::Get, ns::PING, "ping") if settings.has(Module::Ping) => Ok(String::new()),
        (Verb::Get, ns::VERSION, "query") if settings.has(Module::Version) => {
            Ok(bind::write_version(SOFTWARE, env!("CARGO_PKG_VERSION")))
        }
        // RFC 3921 §3: sessions are always there, so starting one always works.
        (Verb::Set, ns::SESSION, "session") => Ok(String::new()),
        (Verb::Get, ns::DISCO_INFO, "query") => {
            no_node(request)?;
            let mut features = disco::DISCO.to_vec();
            let offered = [
                (Module::Mam, disco::STANZA_IDS),
                (Module::Mam, disco::RETRACTION),
                (Module::Carbons, disco::CARBONS),
                (Module::Ping, disco::PING),
                (Module::Version, disco::VERSION),
            ];
            features
                .extend(offered.into_iter().filter(|(module, _)| settings.has(*module)).flat_map(|(_, f)| f));
            Ok(disco::write_info(&[disco::Identity::server(SOFTWARE)], features))
        }
        (Verb::Get, ns::DISCO_ITEMS, "query") => {
            no_node(request)?;
            Ok(disco::write_items([]))
        }
        (_, ns::MAM, "query" | "prefs" | "metadata") | (Verb::Set, ns::MAM_TRIM, "trim")
            if settings.has(Module::Mam) =>
        {
            Err(StanzaError::forbidden())
        }
        _ => Err(StanzaError::service_unavailable()),
    }
}

/// What another account answers to a stranger: that its archive is not to be read, and nothing else.
fn other(request: &Request<'_>) -> Result<String, StanzaError> {
    match request.payload.ns() {
        ns::MAM | ns::MAM_TRIM => Err(StanzaError::forbidden()),
        _ => Err(StanzaError::service_unavailable()),
    }
}

/// We have no nodes (XEP-0030 §3.2).
fn no_node(request: &Request<'_>) -> Result<(), StanzaError> {
    match disco::node(&request.element()?) {
        None => Ok(()),
        Some(_) => Err(StanzaError::item_not_found()),
    }
}
