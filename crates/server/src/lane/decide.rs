//! Whether a lane archives its half of a message: whether it is worth it, and whether the owner wants it. The
//! decision is counted and logged here with its reason; carrying it out is left to the lane.

use mammoth_archive::prefs::Decision;
use mammoth_wire::eligible::Eligible;
use tracing::{debug, error};

use super::{Item, Lane};
use crate::settings::Module;

/// The reason code of messages that are not archived because [`Module::Mam`] is off.
pub const ARCHIVE_OFF: &str = "archive-off";

/// What is to become of one half of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Archive it.
    Yes,
    /// Do not.
    No,
    /// It cannot be known, so the message is refused.
    Cannot,
}

impl Lane {
    /// Whether this half of a message is archived: worth it, and wanted by the owner.
    pub(super) async fn decide(&mut self, item: &Item) -> Keep {
        if !self.house.settings.has(Module::Mam) {
            self.house.metrics.dropped(ARCHIVE_OFF);
            debug!(archive.owner = %self.owner, reason = ARCHIVE_OFF, "not archived");
            return Keep::No;
        }
        let why = match item.eligible() {
            Eligible::Keep(why) => why,
            Eligible::Drop(why) => {
                self.house.metrics.dropped(why.code());
                debug!(archive.owner = %self.owner, reason = why.code(), "not archived");
                return Keep::No;
            }
        };
        if self.settings.is_none()
            && let Err(error) = self.settings().await
        {
            error!(archive.owner = %self.owner, %error, "cannot read the prefs");
            return Keep::Cannot;
        }
        let own = self.settings.as_ref().and_then(|settings| settings.prefs.as_ref());
        let prefs = own.unwrap_or(&self.default_prefs);
        let mut decision = prefs.decide(item.with());
        if decision == Decision::AskRoster {
            match self.house.rosters.contains(&self.owner, &item.with().to_bare()).await {
                Ok(known) => decision = decision.with_roster(known),
                Err(error) => {
                    error!(archive.owner = %self.owner, %error, "cannot read the roster");
                    return Keep::Cannot;
                }
            }
        }
        match decision {
            Decision::Keep(prefs) => {
                self.house.metrics.kept(why);
                debug!(archive.owner = %self.owner, reason = why.code(), prefs = prefs.code(), "archived");
                Keep::Yes
            }
            Decision::Drop(prefs) => {
                self.house.metrics.dropped(prefs.code());
                debug!(archive.owner = %self.owner, reason = prefs.code(), "not archived");
                Keep::No
            }
            Decision::AskRoster => Keep::No,
        }
    }
}
