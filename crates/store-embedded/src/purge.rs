//! Purge: an archive goes at once for every reader, and then from every file.

use mammoth_archive::StoreError;
use rusqlite::params;

use crate::EmbeddedStore;
use crate::catalog;

impl EmbeddedStore {
    /// As [`mammoth_archive::ArchiveStore::purge`].
    pub(crate) async fn purge_archive(&self, owner: &str) -> Result<(), StoreError> {
        let number = self.shared.state().number(owner);
        let Some(number) = number else { return Ok(()) };
        self.change(
            move |connection, shared| {
                let state = shared.state();
                let Some(archive) = state.archive(number) else { return Ok(0) };
                let (owner, next, last_stamp) = (archive.owner.clone(), archive.next, archive.last_stamp);
                drop(state);
                catalog::put_archive(connection, number, &owner, (next, next, last_stamp))?;
                connection
                    .prepare_cached(
                        "UPDATE archives SET prefs = NULL, expires_after = NULL WHERE archive = ?1",
                    )?
                    .execute([number])?;
                connection
                    .prepare_cached("DELETE FROM overrides WHERE archive = ?1 AND position < ?2")?
                    .execute(params![number, next])?;
                Ok(next)
            },
            move |shared, next| {
                shared.expired(number, next, None);
                if let Some(archive) = shared.state_mut().archive_mut(number) {
                    archive.settings = None;
                    archive.catalogued = true;
                }
                Ok(())
            },
        )
        .await
    }
}
