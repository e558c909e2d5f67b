//! Rosters as clients see and change them (RFC 6121 §2), and subscriptions between two accounts of this server
//! (§3). The states are computed in `accounts`; presence that follows is sent by `presence`.

use bytes::Bytes;
use jid::{BareJid, Jid};
use mammoth_accounts::roster::{
    PresenceDue, Request as Asked, RosterError, Transition, inbound, outbound, removal,
};
use mammoth_accounts::{AccountError, RosterItem};
use mammoth_wire::iq::{self, Request, Verb};
use mammoth_wire::ns;
use mammoth_wire::presence::PresenceType;
use mammoth_wire::roster::{self as wire, Contact, RosterRequest};
use mammoth_wire::stanza::Stanza;
use mammoth_wire::stanza_error::StanzaError;
use tracing::error;

use crate::house::House;
use crate::presence;
use crate::roster::Held;
use crate::session::Session;
use crate::settings::Module;

/// Answers a roster request of the session's own account.
///
/// # Errors
/// The stanza error to refuse it with.
pub async fn roster(session: &Session, request: &Request<'_>) -> Result<String, StanzaError> {
    match wire::read(request.verb, &request.element()?)? {
        RosterRequest::Get => {
            let roster = session.house.rosters.hold(&session.account).await.map_err(failed)?;
            session.resource.set_interested();
            let items: Vec<Shown> = roster.items().filter(|item| item.is_listed()).map(Shown::of).collect();
            Ok(wire::write(items.iter().map(Shown::item)))
        }
        RosterRequest::Update(contact) => update(session, contact).await,
        RosterRequest::Remove(contact) => remove(session, &contact).await,
    }
}

async fn update(session: &Session, contact: Contact) -> Result<String, StanzaError> {
    let house = &session.house;
    if contact.jid == session.account {
        return Err(StanzaError::not_allowed().with_text("an account is not its own contact"));
    }
    let mut roster = house.rosters.hold(&session.account).await.map_err(failed)?;
    let mut item = match roster.item(&contact.jid) {
        Some(item) => item.clone(),
        None if roster.is_full() => {
            return Err(StanzaError::policy_violation().with_text("the roster is full"));
        }
        None => RosterItem::new(contact.jid),
    };
    item.rename(contact.name, contact.groups).map_err(|error| match error {
        RosterError::DuplicateGroup => StanzaError::bad_request(),
        _ => StanzaError::not_acceptable(),
    })?;
    roster.put(item.clone()).await.map_err(failed)?;
    push(house, &session.account, &Shown::of(&item));
    Ok(String::new())
}

/// Removes a contact and ends every subscription with it (RFC 6121 §2.5).
async fn remove(session: &Session, contact: &BareJid) -> Result<String, StanzaError> {
    let house = &session.house;
    let mut roster = house.rosters.hold(&session.account).await.map_err(failed)?;
    let item = roster.item(contact).filter(|item| item.is_listed()).cloned();
    let item = item.ok_or_else(StanzaError::item_not_found)?;
    let was_seen = item.subscription.contact_sees_owner();
    roster.remove(contact).await.map_err(failed)?;
    drop(roster);
    push(house, &session.account, &Shown::removed(contact));
    for asked in removal(item.state()) {
        arrive(house, &session.account, contact, asked, stanza(&session.account, contact, asked)).await;
    }
    if was_seen {
        presence::tell_gone(house, &session.account, &Jid::from(contact.clone()));
    }
    Ok(String::new())
}

/// Takes a client's subscription stanza (RFC 6121 §3).
///
/// # Errors
/// The stanza error to refuse it with.
pub async fn request(
    session: &Session,
    presence: &Stanza,
    type_: PresenceType,
    contact: &BareJid,
) -> Result<(), StanzaError> {
    let house = &session.house;
    if !house.settings.has(Module::Roster) {
        return Err(StanzaError::service_unavailable());
    }
    if !house.settings.serves(contact.domain().as_str()) {
        return Err(StanzaError::remote_server_not_found());
    }
    if *contact == session.account || contact.node().is_none() {
        return Err(StanzaError::not_allowed());
    }
    let asked = match type_ {
        PresenceType::Subscribe => Asked::Subscribe,
        PresenceType::Subscribed => Asked::Subscribed,
        PresenceType::Unsubscribe => Asked::Unsubscribe,
        _ => Asked::Unsubscribed,
    };
    let mut roster = house.rosters.hold(&session.account).await.map_err(failed)?;
    let known = roster.item(contact).cloned();
    if known.is_none() && roster.is_full() {
        return Err(StanzaError::policy_violation().with_text("the roster is full"));
    }
    let mut item = known.unwrap_or_else(|| RosterItem::stranger(contact.clone()));
    let transition = outbound(item.state(), asked);
    change(house, &session.account, &mut roster, &mut item, &transition).await.map_err(failed)?;
    drop(roster);
    if transition.pass_on {
        let stanza =
            presence.rewrite().set("from", session.account.to_string()).set("to", contact.to_string());
        arrive(house, &session.account, contact, asked, stanza.finish()).await;
    }
    tell(house, &session.account, contact, transition.presence);
    Ok(())
}

/// A subscription stanza reaches the account it is for. Answers of the server's own go back the same way, once.
async fn arrive(house: &House, from: &BareJid, to: &BareJid, asked: Asked, stanza_bytes: Bytes) {
    let mut due = Some((from.clone(), to.clone(), asked, stanza_bytes));
    while let Some((from, to, asked, bytes)) = due.take() {
        let reply = match arrived(house, &from, &to, asked, &bytes).await {
            Ok(reply) => reply,
            Err(error) => {
                error!(account = %to, %error, "cannot change the roster");
                return;
            }
        };
        // `subscribed` and `unsubscribed` are never answered, so this ends.
        due = reply.map(|asked| (to.clone(), from.clone(), asked, stanza(&to, &from, asked)));
    }
}

async fn arrived(
    house: &House,
    from: &BareJid,
    to: &BareJid,
    asked: Asked,
    bytes: &Bytes,
) -> Result<Option<Asked>, AccountError> {
    if !house.knows(to).await? {
        // Nobody there to ask: the one who asks is told at once, rather than left waiting for ever.
        return Ok((asked == Asked::Subscribe).then_some(Asked::Unsubscribed));
    }
    let mut roster = house.rosters.hold(to).await?;
    let known = roster.item(from).cloned();
    if known.is_none() && roster.is_full() {
        return Ok(None);
    }
    let mut item = known.unwrap_or_else(|| RosterItem::stranger(from.clone()));
    let transition = inbound(item.state(), asked);
    if transition.state.pending_in() && !item.state().pending_in() {
        item.set_request(bytes.to_vec(), || stanza(from, to, Asked::Subscribe).to_vec());
    }
    change(house, to, &mut roster, &mut item, &transition).await?;
    drop(roster);
    if transition.pass_on {
        for resource in house.online.of(to).iter().filter(|r| r.interested() || r.priority().is_some()) {
            resource.outbox.push(bytes.clone());
        }
    }
    tell(house, to, from, transition.presence);
    Ok(transition.auto_reply)
}

async fn change(
    house: &House,
    owner: &BareJid,
    roster: &mut Held,
    item: &mut RosterItem,
    transition: &Transition,
) -> Result<(), AccountError> {
    item.apply(transition);
    let known = roster.item(&item.jid);
    if known == Some(&*item) || (known.is_none() && item.is_empty()) {
        return Ok(());
    }
    roster.put(item.clone()).await?;
    if transition.push && item.is_listed() {
        push(house, owner, &Shown::of(item));
    }
    Ok(())
}

fn tell(house: &House, owner: &BareJid, contact: &BareJid, due: PresenceDue) {
    let to = Jid::from(contact.clone());
    match due {
        PresenceDue::Nothing => {}
        PresenceDue::Current => presence::tell_current(house, owner, &to),
        PresenceDue::Unavailable => presence::tell_gone(house, owner, &to),
    }
}

/// Whether `owner`'s roster lets `watcher` see its presence.
pub async fn may_see(house: &House, owner: &BareJid, watcher: &BareJid) -> bool {
    match house.rosters.hold(owner).await {
        Ok(roster) => roster.item(watcher).is_some_and(|item| item.subscription.contact_sees_owner()),
        Err(error) => {
            error!(account = %owner, %error, "cannot read the roster");
            false
        }
    }
}

/// A subscription stanza that the server sends in an account's name.
fn stanza(from: &BareJid, to: &BareJid, asked: Asked) -> Bytes {
    let bare = Bytes::from(format!("<presence xmlns='{}' type='{}'/>", ns::CLIENT, asked.as_str()));
    match Stanza::parse(bare.clone()) {
        Ok(stanza) => stanza.rewrite().set("from", from.to_string()).set("to", to.to_string()).finish(),
        Err(_) => bare,
    }
}

/// Tells the clients that asked for the roster of a change to it (RFC 6121 §2.1.6).
fn push(house: &House, owner: &BareJid, shown: &Shown) {
    let payload = wire::write([shown.item()]);
    for resource in house.online.of(owner).iter().filter(|resource| resource.interested()) {
        let to = Jid::from(resource.jid.clone());
        resource.outbox.push(iq::request(Verb::Set, "roster-push", None, Some(&to), &payload));
    }
}

/// A roster item as it is written.
struct Shown {
    jid: BareJid,
    name: Option<String>,
    subscription: &'static str,
    ask: bool,
    groups: Vec<String>,
}

impl Shown {
    fn of(item: &RosterItem) -> Shown {
        Shown {
            jid: item.jid.clone(),
            name: item.name.clone(),
            subscription: item.subscription.as_str(),
            ask: item.ask,
            groups: item.groups.iter().cloned().collect(),
        }
    }

    fn removed(contact: &BareJid) -> Shown {
        Shown { jid: contact.clone(), name: None, subscription: "remove", ask: false, groups: Vec::new() }
    }

    fn item(&self) -> wire::Item<'_> {
        wire::Item {
            jid: &self.jid,
            name: self.name.as_deref(),
            subscription: self.subscription,
            ask: self.ask,
            groups: &self.groups,
        }
    }
}

fn failed(error: AccountError) -> StanzaError {
    error!(%error, "the roster store cannot answer");
    match error {
        AccountError::NotFound => StanzaError::item_not_found(),
        AccountError::Unavailable(_) => StanzaError::resource_constraint(),
        _ => StanzaError::internal_server_error(),
    }
}
