//! The seal: a full memory table becomes a segment, on a thread of its own. It is written, synced and registered,
//! then its log goes. Joining segments is left to `merge`.

use std::sync::{Arc, PoisonError};

use rusqlite::params;

use crate::build::{BuildError, Builder, Built};
use crate::format::{Damaged, Record};
use crate::hook::Step;
use crate::log::Log;
use crate::memtable::Memtable;
use crate::open::{remove_log, sync_folder};
use crate::pack::{SAMPLES_MAX, Samples};
use crate::purge::remove_if_there;
use crate::rows::SegmentRow;
use crate::segment::Segment;
use crate::state::Overrides;
use crate::{RETRY_PAUSE, Shared, WriteError};
use crate::{catalog, rows};

/// How many archives get their rows, or their new extents, at one go.
pub const BATCH: usize = 512;

/// Makes segments of frozen memory tables until the store closes.
pub fn run(shared: &Shared) {
    loop {
        let next = {
            let mut work = shared.work.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let oldest = shared.state().frozen.first().cloned();
                match oldest {
                    _ if work.closing => break None,
                    Some(table) => break Some(table),
                    None => work = shared.worked.wait(work).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        let Some(table) = next else { return };
        match seal(shared, &table) {
            Ok(()) => shared.seal_ended(None),
            Err(BuildError::Write(error @ (WriteError::Poisoned(_) | WriteError::Closed))) => {
                shared.seal_ended(Some(error.to_string()));
                return;
            }
            Err(error) => {
                let generation = table.generation;
                tracing::error!(%error, generation, "a memory table could not be sealed; it will be tried again");
                shared.seal_ended(Some(error.to_string()));
                shared.pause(RETRY_PAUSE, |_| false);
            }
        }
    }
}

/// An archive's part of a memory table, as it is to be sealed.
struct Part {
    archive: u32,
    first: i64,
    next: i64,
    overrides: Option<Arc<Overrides>>,
}

fn seal(shared: &Shared, table: &Arc<Memtable>) -> Result<(), BuildError> {
    make_spare_log(shared)?;
    let number = shared.new_segment_number();
    let parts = parts(shared, table);
    let mut builder = Builder::create(&shared.dir, number)?;
    let filled = fill(shared, table, &parts, &mut builder);
    if let Err(error) = filled {
        builder.discard();
        return Err(error);
    }
    let done = finish(shared, builder).and_then(|built| replace(shared, table, &parts, number, &built));
    let done = done.inspect_err(|error| unmade(shared, number, error));
    if done.is_ok() && !shared.state().segments.contains_key(&number) {
        remove_if_there(&crate::segment::path(&shared.dir, number))?; // nothing was left to put in
    }
    done
}

/// Removes a segment that was made in vain, unless it may be that the small database names it: then it stays for
/// whoever opens the store next.
pub fn unmade(shared: &Shared, number: u32, error: &BuildError) {
    let perhaps_named = matches!(error, BuildError::Write(WriteError::Sync(_) | WriteError::Poisoned(_)));
    if !perhaps_named && !shared.state().segments.contains_key(&number) {
        drop(std::fs::remove_file(crate::segment::path(&shared.dir, number)));
    }
}

fn replace(
    shared: &Shared,
    table: &Arc<Memtable>,
    parts: &[Part],
    number: u32,
    built: &Built,
) -> Result<(), BuildError> {
    let generation = table.generation;

    catalogue_owners(shared, parts.iter().map(|part| part.archive))?;
    let place = i64::try_from(generation).unwrap_or(i64::MAX);
    let row =
        SegmentRow { segment: number, place, level: 0, entries: built.entries, contents: built.contents };
    let segment = (built.entries > 0).then(|| Segment::open(&shared.dir, row)).transpose()?.map(Arc::new);
    let folded: Vec<(u32, i64, i64)> = parts
        .iter()
        .flat_map(|part| {
            let overrides =
                part.overrides.iter().flat_map(|overrides| overrides.range(part.first..part.next));
            overrides.map(|(position, (change, _))| (part.archive, *position, *change))
        })
        .collect();
    shared.register(segment.as_ref().map(|_| row), &[], &folded, Some(generation + 1))?;
    swap(shared, table, segment, built, &folded);
    remove_log(&shared.dir, generation)?;
    shared.hook(Step::Replaced)?;
    Ok(())
}

/// The log for the next memory table, so that the writer finds it ready.
fn make_spare_log(shared: &Shared) -> Result<(), BuildError> {
    let generation = shared.active().generation + 1;
    if !shared.has_spare_log(generation) {
        let log = Log::open(&shared.dir, generation)?;
        sync_folder(&shared.dir.join("log"))?;
        shared.put_spare_log(generation, log);
    }
    Ok(())
}

fn parts(shared: &Shared, table: &Memtable) -> Vec<Part> {
    let archives = table.archives();
    let mut parts = Vec::with_capacity(archives.len());
    for batch in archives.chunks(BATCH) {
        let state = shared.state();
        for &archive in batch {
            let (Some(span), Some(known)) = (table.span(archive), state.archive(archive)) else { continue };
            parts.push(Part {
                archive,
                first: span.start.max(known.first),
                next: span.end,
                overrides: known.overrides.clone(),
            });
        }
    }
    parts.retain(|part| part.first < part.next);
    parts
}

fn fill(shared: &Shared, table: &Memtable, parts: &[Part], builder: &mut Builder) -> Result<(), BuildError> {
    let mut samples = Samples::default();
    let every = (table.entries() as usize).div_ceil(SAMPLES_MAX).max(1);
    let mut seen = 0_usize;
    for part in parts {
        table.each(part.archive, &(part.first..part.next), |_, _, record| {
            if seen.is_multiple_of(every) {
                samples.add(part.archive, &record);
            }
            seen += 1;
            Ok::<_, BuildError>(())
        })?;
    }
    let mut packer = builder.train(&samples)?;
    drop(samples);
    let mut contacts: Vec<(i64, i64)> = Vec::new();
    let mut ids: Vec<(u32, i64)> = Vec::new();
    for part in parts {
        contacts.clear();
        ids.clear();
        let none = Overrides::new();
        let overrides = part.overrides.as_deref().unwrap_or(&none);
        table.with_records(part.archive, &(part.first..part.next), |slots, records| {
            for (position, slot) in (part.first..).zip(slots) {
                contacts.push((slot.contact, position));
                if slot.full != 0 {
                    contacts.push((slot.full, position));
                }
                for hash in [slot.message, slot.foreign] {
                    if hash != 0 {
                        ids.push((hash, position));
                    }
                }
            }
            let mut records: Vec<Record<'_>> = records;
            for (position, record) in (part.first..).zip(&mut records) {
                if let Some((_, tombstone)) = overrides.get(&position) {
                    (record.stanza, record.retracted) = (tombstone, true);
                }
            }
            let (mut at, mut rest) = (part.first, records.as_slice());
            while !rest.is_empty() {
                let taken = builder.add_block(part.archive, at, rest, &mut packer)?;
                at += taken as i64;
                rest = rest.get(taken..).unwrap_or_default();
            }
            Ok::<_, BuildError>(())
        })?;
        contacts.sort_unstable();
        ids.sort_unstable();
        for conversation in contacts.chunk_by(|a, b| a.0 == b.0) {
            let Some((contact, _)) = conversation.first() else { continue };
            let positions = conversation.iter().map(|(_, position)| Ok::<_, BuildError>(*position));
            builder.add_conversation(part.archive, *contact, positions)?;
        }
        builder.add_ids(part.archive, ids.iter().copied().map(Ok::<_, BuildError>))?;
        shared.go_on()?;
    }
    Ok(())
}

/// Ends a segment's file and makes it durable.
pub fn finish(shared: &Shared, builder: Builder) -> Result<Built, BuildError> {
    let (file, built) = builder.finish()?;
    shared.hook(Step::SegmentWritten)?;
    file.sync_all().and_then(|()| sync_folder(&shared.dir.join("segments"))).inspect_err(|error| {
        // What a failed sync leaves is unknown; but nothing names this file yet, and another will be made.
        tracing::error!(%error, "a segment could not be synced");
    })?;
    shared.hook(Step::SegmentSynced)?;
    Ok(built)
}

/// Gives rows in the small database to archives that have none, before the log that names their owners goes.
fn catalogue_owners(shared: &Shared, archives: impl Iterator<Item = u32>) -> Result<(), BuildError> {
    let state = shared.state();
    let missing: Vec<u32> =
        archives.filter(|archive| state.archive(*archive).is_some_and(|known| !known.catalogued)).collect();
    drop(state);
    for batch in missing.chunks(BATCH) {
        let rows: Vec<_> = {
            let state = shared.state();
            let known = batch.iter().filter_map(|number| Some((*number, state.archive(*number)?)));
            known
                .map(|(number, archive)| {
                    // `next` is left to the segments and the log: what is written here may be only what has gone.
                    (number, archive.owner.clone(), archive.first)
                })
                .collect()
        };
        let catalog = shared.catalog();
        let transaction = catalog.unchecked_transaction()?;
        for (number, owner, first) in &rows {
            rows::put_archive(&transaction, *number, owner, (*first, *first, i64::MIN))?;
        }
        transaction.commit().map_err(|error| shared.write_failed(&error))?;
        drop(catalog);
        let mut state = shared.state_mut();
        for (number, ..) in rows {
            if let Some(archive) = state.archive_mut(number) {
                archive.catalogued = true;
            }
        }
    }
    Ok(())
}

/// Lets readers find in the segment what they found in the memory table. Archive by archive: for a while both
/// have it, and readers look into segments first.
fn swap(
    shared: &Shared,
    table: &Arc<Memtable>,
    segment: Option<Arc<Segment>>,
    built: &Built,
    folded: &[(u32, i64, i64)],
) {
    if let Some(segment) = segment {
        shared.state_mut().segments.insert(segment.number, segment);
    }
    for batch in built.extents.chunks(BATCH) {
        let mut state = shared.state_mut();
        for row in batch {
            state.add_extent(row.archive, row.extent);
        }
    }
    let mut state = shared.state_mut();
    state.frozen.retain(|frozen| !Arc::ptr_eq(frozen, table));
    drop(state);
    shared.folded(folded);
}

impl Shared {
    /// Makes durable that one segment takes the place of others, and of the log before `log_first`; and that the
    /// tombstones it holds are no longer needed beside it.
    pub fn register(
        &self,
        new: Option<SegmentRow>,
        old: &[u32],
        folded: &[(u32, i64, i64)],
        log_first: Option<u64>,
    ) -> Result<(), BuildError> {
        self.writable()?;
        let catalog = self.catalog();
        let write = || -> rusqlite::Result<()> {
            let transaction = catalog.unchecked_transaction()?;
            for segment in old {
                transaction.prepare_cached("DELETE FROM segments WHERE segment = ?1")?.execute([segment])?;
            }
            if let Some(row) = new {
                rows::put_segment(&transaction, &row)?;
            }
            for (archive, position, change) in folded {
                transaction
                    .prepare_cached(
                        "DELETE FROM overrides WHERE archive = ?1 AND position = ?2 AND change <= ?3",
                    )?
                    .execute(params![archive, position, change])?;
            }
            catalog::set_meta(&transaction, catalog::LAST_SEGMENT, self.last_segment_number())?;
            if let Some(log_first) = log_first {
                catalog::set_meta(&transaction, catalog::LOG_FIRST, log_first as i64)?;
            }
            transaction.commit()
        };
        write().map_err(|error| self.write_failed(&error))?;
        drop(catalog);
        self.hook(Step::SegmentRegistered)?;
        Ok(())
    }

    /// Forgets tombstones that a segment holds now, unless they were replaced meanwhile.
    pub fn folded(&self, folded: &[(u32, i64, i64)]) {
        for batch in folded.chunks(BATCH) {
            let mut state = self.state_mut();
            for (archive, position, change) in batch {
                state.folded(*archive, *position, *change);
            }
        }
    }
}

impl From<BuildError> for crate::read::ReadError {
    fn from(error: BuildError) -> Self {
        Damaged::new(error.to_string()).into()
    }
}
