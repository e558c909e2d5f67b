//! A store that takes the place of another: its ids are made with the same secret, and its archives begin where those
//! of the other do. Copying what they hold is left to whoever does it, through the ports.

use std::path::Path;
use std::sync::Arc;

use mammoth_archive::jid::BareJid;
use mammoth_archive::{Head, IdKey, Position, StoreError, Timestamp};

use crate::read::ReadError;
use crate::state::ArchiveState;
use crate::store::new_number;
use crate::{EmbeddedStore, OpenError, Options, open, rows};

impl EmbeddedStore {
    /// As [`EmbeddedStore::open`]; a store that has to be made makes its ids with this secret. One that is there
    /// already keeps its own: `id_key` tells.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub fn open_with_ids(dir: &Path, options: Options, ids: IdKey) -> Result<Arc<EmbeddedStore>, OpenError> {
        open::open(dir, options, Some(ids)).map(Arc::new)
    }

    /// Has an archive that has never been written to begin at a position, as one does that had entries before it.
    /// `last_stamp` is the greatest stamp that it has given so far.
    ///
    /// # Errors
    /// `Refused` when it has been written to, or for a position below [`Position::START`].
    pub async fn begin(
        &self,
        owner: &BareJid,
        at: Position,
        last_stamp: Timestamp,
    ) -> Result<(), StoreError> {
        if at < Position::START {
            return Err(StoreError::refused("no archive begins there"));
        }
        let owner = owner.as_str().to_owned();
        let of = owner.clone();
        self.change(
            move |connection, shared| {
                let state = shared.state();
                let head = state.of(&of).map_or(Head::NEW, ArchiveState::head);
                let (known, free) = (state.number(&of), state.next_number());
                drop(state);
                if head != Head::NEW {
                    return Ok(None);
                }
                let number = known.map_or_else(|| new_number(connection, &of, free), Ok)?;
                rows::put_archive(connection, number, &of, (at.0, at.0, last_stamp.0))?;
                Ok(Some(number))
            },
            move |shared, number| {
                let number = number.ok_or_else(|| StoreError::refused("the archive has been written to"))?;
                let mut state = shared.state_mut();
                state.add_archive(number, &owner).map_err(ReadError::from)?;
                state.begun(number, at.0, last_stamp.0);
                Ok(())
            },
        )
        .await
    }
}
