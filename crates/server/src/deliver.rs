//! Handing a message to the resources that are to have it, with the owner's stanza-id and as carbons. Called by
//! a lane, in the order of its archive. That it may be delivered at all was decided before.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use jid::{BareJid, FullJid};
use mammoth_archive::StanzaId;
use mammoth_wire::carbons;
use mammoth_wire::splice;
use mammoth_wire::stanza_id;

use crate::house::House;
use crate::lane::{Item, Side};
use crate::online::Resource;
use crate::settings::Module;

/// Delivers one message to its owner's resources, which are `resources`. Answers whether it reached one (of those
/// it was for; a carbon does not count).
pub fn deliver(
    house: &House,
    resources: &[Arc<Resource>],
    owner: &BareJid,
    item: &Item,
    id: Option<&StanzaId>,
) -> bool {
    if resources.is_empty() {
        return false;
    }
    let copies = Copies { house, owner, item, id, element: OnceCell::new() };
    let by = |resource: &Resource| resource.jid == item.message.from;
    match item.side {
        Side::Sent => {
            copies.carbons(resources, carbons::Side::Sent, |resource| !by(resource));
            true
        }
        Side::Received | Side::Bounce => {
            let reached = copies.direct(resources);
            copies.carbons(resources, carbons::Side::Received, |resource| !reached.contains(&&resource.jid));
            !reached.is_empty()
        }
        Side::Own => {
            let reached = copies.direct(resources);
            copies.carbons(resources, carbons::Side::Sent, |resource| {
                !by(resource) && !reached.contains(&&resource.jid)
            });
            !reached.is_empty()
        }
    }
}

struct Copies<'a> {
    house: &'a House,
    owner: &'a BareJid,
    item: &'a Item,
    id: Option<&'a StanzaId>,
    /// The owner's stanza-id as an element, once somebody is to have it.
    element: OnceCell<String>,
}

impl Copies<'_> {
    /// The stanza as the owner is to have it.
    fn write(&self, out: &mut BytesMut) {
        match self.id {
            Some(id) => {
                let element = self.element.get_or_init(|| stanza_id::element(self.owner, id));
                splice::append_child(out, &self.item.message.stanza, element);
            }
            None => out.put_slice(&self.item.message.stanza),
        }
    }

    /// To the resource addressed; if it is not there, or none is named, to each that is available with a
    /// priority of zero or more (RFC 6121 §8.5.2.1.1, §8.5.3).
    fn direct<'r>(&self, resources: &'r [Arc<Resource>]) -> Vec<&'r FullJid> {
        let to = &self.item.message.to;
        let addressed = resources.iter().find(|resource| resource.jid == *to);
        let chosen = |resource: &Resource| match addressed {
            Some(addressed) => resource.jid == addressed.jid,
            None => resource.priority().is_some_and(|priority| priority >= 0),
        };
        let reached: Vec<&FullJid> = resources
            .iter()
            .filter(|resource| chosen(resource) && resource.outbox.write(|out| self.write(out)))
            .map(|resource| &resource.jid)
            .collect();
        self.house.metrics.delivered.inc_by(reached.len() as u64);
        reached
    }

    /// To the other resources that have enabled carbons (XEP-0280 §6, §7).
    fn carbons(&self, resources: &[Arc<Resource>], side: carbons::Side, other: impl Fn(&Resource) -> bool) {
        let mut others = resources.iter().filter(|resource| resource.carbons() && other(resource)).peekable();
        if others.peek().is_none() || !self.house.settings.has(Module::Carbons) || !self.item.copied() {
            return;
        }
        let mut stanza = BytesMut::new();
        self.write(&mut stanza);
        for resource in others {
            let type_ = self.item.message.read.type_();
            resource.outbox.push(carbons::write(side, &stanza, type_, self.owner, &resource.jid));
        }
    }
}
