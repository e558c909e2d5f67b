//! Presence (RFC 6121 §4): who is available, told to those who may know it. Who may is decided by the rosters;
//! changing that is left to `subscription`.

use std::sync::Arc;

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_wire::presence::{PresenceType, priority};
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stanza_error::StanzaError;
use tracing::error;

use crate::house::House;
use crate::online::{Available, Resource};
use crate::session::Session;
use crate::settings::Module;
use crate::subscription;

/// Takes a client's presence stanza.
pub async fn handle(session: &Session, stanza: &Stanza) {
    let to = match stanza.to() {
        Ok(to) => to,
        Err(_) => return session.refuse(stanza, &StanzaError::jid_malformed()),
    };
    let type_ = match PresenceType::of(stanza) {
        Ok(type_) => type_,
        Err(error) => return session.refuse(stanza, &error),
    };
    match (type_, to) {
        (PresenceType::Available, None) => available(session, stanza).await,
        (PresenceType::Unavailable, None) => unavailable(session, stanza).await,
        (PresenceType::Available | PresenceType::Unavailable | PresenceType::Error, Some(to)) => {
            directed(session, stanza, type_, to);
        }
        (
            PresenceType::Subscribe
            | PresenceType::Subscribed
            | PresenceType::Unsubscribe
            | PresenceType::Unsubscribed,
            Some(to),
        ) => {
            if let Err(error) = subscription::request(session, stanza, type_, &to.to_bare()).await {
                session.refuse(stanza, &error);
            }
        }
        // Probes are between servers; the rest without an address is meant for nobody.
        _ => session.refuse(stanza, &StanzaError::bad_request()),
    }
}

/// The stanza as others get it: from the session's full JID.
fn from_session(session: &Session, stanza: &Stanza, to: Option<&Jid>) -> Bytes {
    let rewrite = stanza.rewrite().set("from", session.jid().to_string());
    match to {
        Some(to) => rewrite.set("to", to.to_string()).finish(),
        None => rewrite.remove("to").finish(),
    }
}

async fn available(session: &Session, stanza: &Stanza) {
    let now = Available { priority: priority(stanza), stanza: from_session(session, stanza, None) };
    let initial = session.resource.set_available(Some(now)).is_none();
    broadcast(session, stanza).await;
    if initial {
        welcome(session).await;
    }
}

async fn unavailable(session: &Session, stanza: &Stanza) {
    let was = session.resource.set_available(None);
    if was.is_some() {
        broadcast(session, stanza).await;
    }
    for to in session.resource.take_directed() {
        deliver(&session.house, &to, &from_session(session, stanza, Some(&to)));
    }
}

/// Tells everybody that a session which may not have said so itself is gone; nobody, when another has taken its place.
pub async fn gone(session: &Session) {
    if session.house.online.find(session.jid()).is_some() {
        return;
    }
    let text = "<presence xmlns='jabber:client' type='unavailable'/>";
    if let Ok(stanza) = Stanza::parse(Bytes::from_static(text.as_bytes())) {
        unavailable(session, &stanza).await;
    }
}

fn directed(session: &Session, stanza: &Stanza, type_: PresenceType, to: Jid) {
    if !session.house.settings.serves(to.domain().as_str()) {
        return session.refuse(stanza, &StanzaError::remote_server_not_found());
    }
    deliver(&session.house, &to, &from_session(session, stanza, Some(&to)));
    match type_ {
        PresenceType::Available => session.resource.set_directed(to, true),
        PresenceType::Unavailable => session.resource.set_directed(to, false),
        _ => {}
    }
}

/// Pushes a presence stanza to the resource addressed, or to each that is available.
pub fn deliver(house: &House, to: &Jid, stanza: &Bytes) {
    match to.try_as_full() {
        Ok(full) => {
            if let Some(resource) = house.online.find(full) {
                resource.outbox.push(stanza.clone());
            }
        }
        Err(bare) => {
            for resource in house.online.of(bare).iter().filter(|resource| resource.priority().is_some()) {
                resource.outbox.push(stanza.clone());
            }
        }
    }
}

/// Those of an account's contacts that match, as they are now.
async fn contacts(
    house: &House,
    account: &BareJid,
    which: impl Fn(&mammoth_accounts::RosterItem) -> bool,
) -> Vec<BareJid> {
    if !house.settings.has(Module::Roster) {
        return Vec::new();
    }
    match house.rosters.hold(account).await {
        Ok(roster) => roster.items().filter(|item| which(item)).map(|item| item.jid.clone()).collect(),
        Err(error) => {
            error!(%account, %error, "cannot read the roster");
            Vec::new()
        }
    }
}

/// Tells a presence to the contacts that may see it and to the account's other resources.
async fn broadcast(session: &Session, stanza: &Stanza) {
    let house = &session.house;
    let watchers = contacts(house, &session.account, |item| item.subscription.contact_sees_owner()).await;
    for contact in watchers {
        if !house.online.of(&contact).is_empty() {
            let to = Jid::from(contact);
            deliver(house, &to, &from_session(session, stanza, Some(&to)));
        }
    }
    let own = Jid::from(session.account.clone());
    let copy = from_session(session, stanza, Some(&own));
    for other in others(session).filter(|other| other.priority().is_some()) {
        other.outbox.push(copy.clone());
    }
}

fn others(session: &Session) -> impl Iterator<Item = Arc<Resource>> + use<> {
    let all = session.house.online.of(&session.account);
    let this = session.resource.clone();
    (0..all.len()).filter_map(move |i| all.get(i).cloned()).filter(move |other| !Arc::ptr_eq(other, &this))
}

/// Tells a session that has just become available who else is, and who waits for its owner's approval.
async fn welcome(session: &Session) {
    let house = &session.house;
    for other in others(session) {
        if let Some(available) = other.available() {
            session.resource.outbox.push(available.stanza);
        }
    }
    let seen = contacts(house, &session.account, |item| item.subscription.owner_sees_contact()).await;
    for contact in seen {
        if !house.online.of(&contact).is_empty()
            && subscription::may_see(house, &contact, &session.account).await
        {
            tell_current(house, &contact, &Jid::from(session.jid().clone()));
        }
    }
    if house.settings.has(Module::Roster)
        && let Ok(roster) = house.rosters.hold(&session.account).await
    {
        for request in roster.items().filter_map(|item| item.request.clone()) {
            session.resource.outbox.push(Bytes::from(request));
        }
    }
}

/// Sends the presence of each available resource of `owner` to `to`.
pub fn tell_current(house: &House, owner: &BareJid, to: &Jid) {
    for available in house.online.of(owner).iter().filter_map(|resource| resource.available()) {
        if let Ok(stanza) = Stanza::parse(available.stanza) {
            deliver(house, to, &stanza.rewrite().set("to", to.to_string()).finish());
        }
    }
}

/// Tells `to` that each available resource of `owner` is gone, as far as `to` is concerned.
pub fn tell_gone(house: &House, owner: &BareJid, to: &Jid) {
    for resource in house.online.of(owner).iter().filter(|resource| resource.priority().is_some()) {
        let text = "<presence xmlns='jabber:client' type='unavailable'/>";
        if let Ok(stanza) = Stanza::parse(Bytes::from_static(text.as_bytes())) {
            let rewrite = stanza.rewrite().set("from", resource.jid.to_string()).set("to", to.to_string());
            deliver(house, to, &rewrite.finish());
        }
    }
}
