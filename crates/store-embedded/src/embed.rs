//! What programs ask of the store that it is embedded in, beyond the port: many tombstones in one commit.
//! Everything else goes through `mammoth_archive::ArchiveStore`.

use std::sync::Arc;

use bytes::Bytes;
use mammoth_archive::jid::BareJid;
use mammoth_archive::{Position, StoreError};

use crate::{EmbeddedStore, rows};

impl EmbeddedStore {
    /// As `mammoth_archive::ArchiveStore::retract`, of many entries in one commit. Where no entry stands, nothing is
    /// changed. Answers how many tombstones were put.
    ///
    /// # Errors
    /// As `retract`, but never `NotFound`.
    pub async fn retract_all(
        &self,
        owner: &BareJid,
        tombstones: Vec<(Position, Bytes)>,
    ) -> Result<u64, StoreError> {
        if tombstones.is_empty() {
            return Ok(0);
        }
        let owner = owner.as_str().to_owned();
        let written: Arc<[(Position, Bytes)]> = Arc::from(tombstones);
        let published = written.clone();
        self.change(
            move |connection, shared| {
                let state = shared.state();
                let Some(number) = state.number(&owner) else { return Ok(None) };
                let head = state.archive(number).map(crate::state::ArchiveState::head);
                drop(state);
                let mut changes = Vec::with_capacity(written.len());
                for (position, tombstone) in written.iter() {
                    let present = head.is_some_and(|head| head.holds(*position));
                    changes.push(if present { Some(shared.new_change()) } else { None });
                    if let Some(Some(change)) = changes.last() {
                        rows::put_override(connection, number, position.0, *change, tombstone)?;
                    }
                }
                Ok(Some((number, changes)))
            },
            move |shared, done| {
                let Some((archive, changes)) = done else { return Ok(0) };
                let mut state = shared.state_mut();
                let mut put = 0;
                for ((position, tombstone), change) in published.iter().zip(changes) {
                    if let Some(change) = change {
                        state.retracted(archive, position.0, change, tombstone.clone());
                        put += 1;
                    }
                }
                Ok(put)
            },
        )
        .await
    }
}
