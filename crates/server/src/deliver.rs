//! Handing a message to the resources that are to have it, with the owner's stanza-id and as carbons. Called by
//! a lane, in the order of its archive. That it may be delivered at all was decided before.

use std::sync::Arc;

use bytes::Bytes;
use jid::{BareJid, FullJid, Jid};
use mammoth_archive::StanzaId;
use mammoth_wire::carbons;
use mammoth_wire::splice::append_child;
use mammoth_wire::stanza_id;

use crate::house::House;
use crate::lane::{Item, Side};
use crate::online::Resource;
use crate::settings::Module;

/// Delivers one message to its owner's resources. Answers whether it reached one (of those it was for; a carbon
/// does not count).
pub fn deliver(house: &House, owner: &BareJid, item: &Item, id: Option<&StanzaId>) -> bool {
    let resources = house.online.of(owner);
    if resources.is_empty() {
        return false;
    }
    let stanza = match id {
        Some(id) => append_child(&item.stanza, &stanza_id::element(owner, id)),
        None => item.stanza.clone(),
    };
    let copies = Copies { house, owner, item, stanza: &stanza };
    match &item.side {
        Side::Sent(by) => {
            copies.carbons(&resources, carbons::Side::Sent, |resource| resource.jid != *by);
            true
        }
        Side::Received(to) => {
            let reached = copies.direct(&resources, to);
            copies.carbons(&resources, carbons::Side::Received, |resource| !reached.contains(&resource.jid));
            !reached.is_empty()
        }
        Side::Own(by, to) => {
            let reached = copies.direct(&resources, to);
            copies.carbons(&resources, carbons::Side::Sent, |resource| {
                resource.jid != *by && !reached.contains(&resource.jid)
            });
            !reached.is_empty()
        }
    }
}

struct Copies<'a> {
    house: &'a House,
    owner: &'a BareJid,
    item: &'a Item,
    stanza: &'a Bytes,
}

impl Copies<'_> {
    /// To the resource addressed; if it is not there, or none is named, to each that is available with a
    /// priority of zero or more (RFC 6121 §8.5.2.1.1, §8.5.3).
    fn direct(&self, resources: &[Arc<Resource>], to: &Jid) -> Vec<FullJid> {
        let addressed = to.try_as_full().ok().and_then(|full| resources.iter().find(|r| r.jid == *full));
        let chosen: Vec<&Arc<Resource>> = match addressed {
            Some(resource) => vec![resource],
            None => resources.iter().filter(|r| r.priority().is_some_and(|priority| priority >= 0)).collect(),
        };
        let taken = chosen.into_iter().filter(|resource| resource.outbox.push(self.stanza.clone()));
        let reached: Vec<FullJid> = taken.map(|resource| resource.jid.clone()).collect();
        self.house.metrics.delivered.inc_by(reached.len() as u64);
        reached
    }

    /// To the other resources that have enabled carbons (XEP-0280 §6, §7).
    fn carbons(&self, resources: &[Arc<Resource>], side: carbons::Side, other: impl Fn(&Resource) -> bool) {
        if !self.item.carbon || !self.house.settings.has(Module::Carbons) {
            return;
        }
        for resource in resources.iter().filter(|resource| resource.carbons() && other(resource)) {
            resource.outbox.push(carbons::write(
                side,
                self.stanza,
                self.item.type_.as_deref(),
                self.owner,
                &resource.jid,
            ));
        }
    }
}
