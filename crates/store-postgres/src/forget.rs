//! Expire, retract, purge, and the removal of rows behind the first position. Each change of an archive holds its
//! head until it commits, so that it stands before or after every append and never beside one. When rows are
//! removed, and how fast, is left to `sweep`.

use mammoth_archive::{Cut, Position, StoreError};

use crate::failure::Failure;
use crate::key::Key;
use crate::session::{Param, Session, column};
use crate::sql;

/// The most rows that one step deletes.
pub const REMOVE_STEP: i64 = 2_000;
/// How many entries one step of a search by bytes looks at.
const BYTES_STEP: i64 = 20_000;

/// An archive's row, held by this transaction.
struct Locked {
    first: i64,
    next: i64,
    removed: i64,
    bytes: i64,
}

/// Begins a change; `None` (and no transaction) for an archive without a row.
async fn lock(session: &Session, archive: Key) -> Result<Option<Locked>, Failure> {
    session.statement(sql::LOCK_HEAD).await?;
    let asked: [Param<'_>; 1] = [&archive];
    let (begun, row) = tokio::join!(biased; session.run(sql::BEGIN), session.row(sql::LOCK_HEAD, &asked));
    begun?;
    match row? {
        Some(row) => Ok(Some(Locked {
            first: column(&row, 0)?,
            next: column(&row, 1)?,
            removed: column(&row, 3)?,
            bytes: column(&row, 4)?,
        })),
        None => {
            session.run(sql::COMMIT).await?;
            Ok(None)
        }
    }
}

/// Moves the first position as `cut` has it; answers how many entries went. Not repeatable as such, since the
/// second time none go: a failure says whether it may have been done.
pub async fn expire(session: &Session, archive: Key, cut: Cut) -> Result<u64, Failure> {
    let Some(locked) = before_commit(lock(session, archive).await)? else { return Ok(0) };
    let first = before_commit(cut_at(session, archive, &locked, cut).await)?.clamp(locked.first, locked.next);
    if first > locked.first {
        before_commit(session.change(sql::MOVE_FIRST, &[&archive, &first]).await)?;
    }
    session.run(sql::COMMIT).await?;
    Ok(u64::try_from(first.saturating_sub(locked.first)).unwrap_or(0))
}

/// What fails before the commit has been sent is certainly not done.
fn before_commit<T>(result: Result<T, Failure>) -> Result<T, Failure> {
    result.map_err(|failure| match failure {
        Failure::Unknown(cause) => Failure::NotDone(cause),
        other => other,
    })
}

/// The new first position.
async fn cut_at(session: &Session, archive: Key, locked: &Locked, cut: Cut) -> Result<i64, Failure> {
    match cut {
        Cut::Before(_) if locked.first == locked.next => Ok(locked.first),
        Cut::Before(stamp) => {
            let row =
                session.row(sql::SEEK_STAMP, &[&archive, &locked.first, &locked.next, &stamp.0]).await?;
            column(&row.ok_or_else(|| Failure::corrupt("an entry between an archive's ends is missing"))?, 0)
        }
        Cut::Through(position) => Ok(position.offset(1).0),
        Cut::KeepNewest(kept) => Ok(locked.next.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX))),
        Cut::KeepBytes(kept) => {
            let gone = bytes_between(session, archive, locked.removed, locked.first).await?;
            let kept = i64::try_from(kept).unwrap_or(i64::MAX);
            let excess = locked.bytes.saturating_sub(gone).saturating_sub(kept);
            after_bytes(session, archive, locked, excess).await
        }
    }
}

async fn bytes_between(session: &Session, archive: Key, from: i64, to: i64) -> Result<i64, Failure> {
    if from >= to {
        return Ok(0);
    }
    let row = session.row(sql::BYTES_BETWEEN, &[&archive, &from, &to]).await?;
    row.map_or(Ok(0), |row| column(&row, 0))
}

/// The first position before which there are at least `excess` bytes.
async fn after_bytes(
    session: &Session,
    archive: Key,
    locked: &Locked,
    mut excess: i64,
) -> Result<i64, Failure> {
    let mut from = locked.first;
    while excess > 0 && from < locked.next {
        let to = from.saturating_add(BYTES_STEP).min(locked.next);
        if let Some(row) = session.row(sql::SEEK_BYTES, &[&archive, &from, &to, &excess]).await? {
            return column::<i64>(&row, 0).map(|position| position.saturating_add(1));
        }
        excess = excess.saturating_sub(bytes_between(session, archive, from, to).await?);
        from = to;
    }
    Ok(from)
}

/// Puts a tombstone in the place of a stanza.
pub async fn retract(
    session: &Session,
    archive: Key,
    position: Position,
    tombstone: &[u8],
) -> Result<Result<(), StoreError>, Failure> {
    let Some(locked) = lock(session, archive).await? else {
        return Ok(Err(StoreError::NotFound(position)));
    };
    if position.0 < locked.first || position.0 >= locked.next {
        session.run(sql::COMMIT).await?;
        return Ok(Err(StoreError::NotFound(position)));
    }
    let before = session.row(sql::STANZA_BYTES, &[&archive, &position.0]).await?;
    let before: i64 = column(&before.ok_or_else(|| Failure::corrupt("the entry is missing"))?, 0)?;
    let more = i64::try_from(tombstone.len()).unwrap_or(i64::MAX).saturating_sub(before);
    session.change(sql::RETRACT, &[&archive, &position.0, &tombstone]).await?;
    session.change(sql::ADD_BYTES, &[&archive, &more]).await?;
    session.run(sql::COMMIT).await?;
    Ok(Ok(()))
}

/// Empties an archive for every reader, and forgets its settings.
pub async fn empty(session: &Session, archive: Key) -> Result<(), Failure> {
    let Some(locked) = lock(session, archive).await? else { return Ok(()) };
    session.change(sql::MOVE_FIRST, &[&archive, &locked.next]).await?;
    session.change(sql::UNSET, &[&archive]).await?;
    session.run(sql::COMMIT).await
}

/// Deletes some of the rows before the first position; answers whether there are more.
pub async fn remove_some(session: &Session, archive: Key) -> Result<bool, Failure> {
    let Some(locked) = lock(session, archive).await? else { return Ok(false) };
    let to = locked.removed.saturating_add(REMOVE_STEP).min(locked.first);
    if to > locked.removed {
        session.change(sql::REMOVE, &[&archive, &locked.removed, &to]).await?;
    }
    session.run(sql::COMMIT).await?;
    Ok(to < locked.first)
}
