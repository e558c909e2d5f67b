//! A message on its way (RFC 6120 §8, RFC 6121 §5 and §8): made clean, judged once whether it is worth
//! archiving, and let into the sender's and the recipient's lanes. Deciding by prefs, archiving and delivering
//! are left to `lane`.

use std::sync::Arc;

use jid::{BareJid, Jid};
use mammoth_wire::eligible::{Direction, Dropped, Eligible, eligible};
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stanza_error::StanzaError;
use mammoth_wire::stanza_id;
use tracing::error;

use crate::house::House;
use crate::lane::{Item, Message, Passed, Side};
use crate::session::Session;

/// Sends a client's message on its way. Answers it, to learn what became of it, unless that is known already.
pub async fn pass(session: &mut Session, stanza: Stanza) -> Option<Arc<Message>> {
    let Ok(to) = addressee(session, &stanza) else {
        session.refuse(&stanza, &StanzaError::jid_malformed());
        return None;
    };
    let session = &*session;
    // Cutting a copy short is ten times quicker than `to_bare`, which puts the parts together anew.
    let recipient = to.clone().into_bare();
    if let Err(refused) = acceptable(session, &stanza, &to, &recipient).await {
        if let Some(refused) = refused {
            session.refuse(&stanza, &refused);
        }
        return None;
    }
    let from = session.jid();
    let mut clean = stanza.rewrite().set("from", from.as_str()).drop_children(|child| {
        stanza_id::claims(child).is_some_and(|by| by == recipient || by == session.account)
    });
    if stanza.attr("to") != Some(to.as_str()) {
        clean = clean.set("to", to.as_str());
    }
    let clean = clean.finish();
    let message = Message::new(stanza, clean, Jid::from(from.clone()), to);
    let house = &session.house;
    if recipient == session.account {
        house.lanes.pass(house, &recipient, Item::new(&message, Side::Own)).await;
    } else {
        // Both, before either waits: a half that is dropped tells the other.
        let sent = Item::new(&message, Side::Sent);
        let received = Item::new(&message, Side::Received);
        house.lanes.pass(house, &session.account, sent).await;
        house.lanes.pass(house, &recipient, received).await;
    }
    Some(message)
}

/// Whom a message is for: the sender's own account, if it does not say.
fn addressee(session: &mut Session, stanza: &Stanza) -> Result<Jid, jid::Error> {
    let Some(text) = stanza.attr("to") else { return Ok(Jid::from(session.account.clone())) };
    // Most messages go where the last one went, and reading an address is much work.
    if let Some(last) = session.last_to.as_ref().filter(|last| last.as_str() == text) {
        return Ok(last.clone());
    }
    let to = Jid::new(text)?;
    session.last_to = Some(to.clone()).filter(|to| to.as_str() == text);
    Ok(to)
}

/// Whether a message may be sent there at all; `Err(None)` drops it in silence.
async fn acceptable(
    session: &Session,
    stanza: &Stanza,
    to: &Jid,
    recipient: &BareJid,
) -> Result<(), Option<StanzaError>> {
    let house = &session.house;
    if !house.settings.serves(recipient.domain().as_str()) {
        return Err(Some(StanzaError::remote_server_not_found()));
    }
    if recipient.node().is_none() {
        return Err(Some(StanzaError::service_unavailable()));
    }
    match house.knows(recipient).await {
        Ok(true) => {}
        Ok(false) => return Err(Some(StanzaError::service_unavailable())),
        Err(error) => {
            error!(%error, "cannot look up an account");
            return Err(Some(StanzaError::resource_constraint()));
        }
    }
    let there = to.try_as_full().ok().and_then(|full| house.online.find(full)).is_some();
    match stanza.type_() {
        // RFC 6121 §8.5.2.1.1, §8.5.3.2.1: what cannot be delivered to a resource that is not there.
        Some("groupchat") if !there => Err(Some(StanzaError::service_unavailable())),
        Some("error") if !there && to.is_bare() => Err(None),
        Some("headline") if !there && to.is_full() => Err(None),
        Some("chat" | "error" | "headline" | "groupchat") => Ok(()),
        _ if to.is_full() && !there => Err(Some(StanzaError::service_unavailable())),
        _ => Ok(()),
    }
}

/// Tells the sender what became of a message, where there is something to tell.
pub async fn landed(session: &Session, stanza: &Stanza, passed: Passed) {
    match passed {
        Passed::Delivered => {}
        Passed::NotKept => {
            let error = StanzaError::resource_constraint()
                .with_text("the message could not be archived and was not sent");
            session.refuse(stanza, &error);
        }
        Passed::Nobody => {
            let error = StanzaError::service_unavailable();
            match eligible(stanza, Direction::Outgoing) {
                // Nothing anybody would miss: a chat state, a headline.
                Eligible::Drop(
                    Dropped::ChatState
                    | Dropped::Nothing
                    | Dropped::Headline
                    | Dropped::Event
                    | Dropped::ErrorSent,
                ) => {}
                Eligible::Drop(_) => session.refuse(stanza, &error),
                Eligible::Keep(_) => bounce(&session.house, session, stanza, &error).await,
            }
        }
    }
}

/// Sends a bounce through the sender's own lane: its archive may hold the message, and then it holds the bounce.
async fn bounce(house: &Arc<House>, session: &Session, stanza: &Stanza, error: &StanzaError) {
    let me = Jid::from(session.jid().clone());
    let Some(reply) = error.reply(stanza, &me) else { return };
    let Ok(reply) = Stanza::parse(reply) else { return };
    let with = stanza.to().ok().flatten().unwrap_or_else(|| Jid::from(session.account.clone()));
    let raw = reply.raw().clone();
    let item = Item::new(&Message::new(reply, raw, with, me), Side::Bounce);
    house.lanes.pass(house, &session.account, item).await;
}
