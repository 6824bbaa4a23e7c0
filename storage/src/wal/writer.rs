//! The one writer of a log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use protocol::ids::{META_GROUP, ShardId};

use super::format::{BatchBuilder, Kind, MAX_BATCH_RECORDS, RecordHeader, SEAL_BYTES};
use super::ledger::Ledger;
use super::recover::{self, Recovered};
use super::state::{Change, Item, SegmentFile};
use super::{Damage, Place, Shared, WalError};
use crate::fs::{Fs, FsFile};
use crate::mutant::{self, Mutant};

/// Writes what groups submitted. There is one per log, and it owns no thread: whoever has it calls
/// [`LogWriter::write_pending`] whenever there is something.
///
/// Dropping it ends the log: what waits fails.
pub struct LogWriter<F: Fs> {
    shared: Arc<Shared<F>>,
    ledger: Ledger,
    segments: BTreeMap<u32, PathBuf>,
    /// The newest segment, its number and where the next batch goes.
    active: SegmentFile<F>,
    sequence: u32,
    offset: u64,
    lsn: u64,
    builder: BatchBuilder,
}

/// A batch that is ready to be written.
struct Batch {
    items: Vec<Item>,
    committed: Vec<(ShardId, Bytes)>,
    records: Vec<RecordHeader>,
    is_mark: bool,
}

impl<F: Fs> LogWriter<F> {
    pub(super) fn new(shared: Arc<Shared<F>>, recovered: Recovered<F>) -> Self {
        let (&sequence, active) =
            recovered.segments.last_key_value().expect("recovery leaves at least one segment");
        let active = active.clone();
        let segments =
            recovered.segments.iter().map(|(&sequence, segment)| (sequence, segment.path.clone())).collect();
        Self {
            builder: BatchBuilder::new(recovered.salt),
            shared,
            ledger: recovered.ledger,
            segments,
            active,
            sequence,
            offset: recovered.offset,
            lsn: recovered.lsn,
        }
    }

    /// Blocks until there is something to write. `false` once the log is closed and everything is written, or once it
    /// is poisoned: then there never will be.
    pub fn wait(&self) -> bool {
        let mut state = self.shared.state();
        loop {
            match state.has_work() {
                Some(true) => return true,
                Some(false) => state = self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                None => return false,
            }
        }
    }

    /// Gives a function to be called when the queue stops being empty, when the log is closed, and at once: for those
    /// who must not block. It may be called from any thread, and more often than needed. After it fired,
    /// [`LogWriter::write_pending`] is to be called until it gives 0.
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        *self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.into());
        self.shared.wake();
    }

    /// Whether the log is closed and everything written, or poisoned.
    pub fn is_finished(&self) -> bool {
        self.shared.state().has_work().is_none()
    }

    /// Writes one batch of what waits: one write, one sync, then the callbacks in the order of submission. Gives the
    /// number of changes in it; 0 if nothing waited.
    ///
    /// After [`WalError::NoSpace`] everything waits as before, and the call may be repeated when there is space again
    /// (nobody wakes the writer for that). Any other error has poisoned the log.
    pub fn write_pending(&mut self) -> Result<usize, WalError> {
        let taken = self.shared.state().take(self.shared.options.batch_bytes, MAX_BATCH_RECORDS / 2);
        let (items, committed) = taken?;
        if items.is_empty() {
            return Ok(0);
        }
        let batch = self.build(items, committed);
        let sequence = self.sequence;
        if !batch.records.is_empty()
            && let Err(e) = self.write(&batch)
        {
            return Err(self.give_up(batch, e));
        }
        let count = batch.items.len();
        self.publish(batch);
        self.delete_segments();
        // Once per new segment: what is written again stays a fraction of what is written.
        if self.sequence != sequence && self.segments.len() > self.shared.options.rewrite_above_segments {
            self.rewrite_oldest()?;
        }
        Ok(count)
    }

    fn build(&mut self, items: Vec<Item>, committed: Vec<(ShardId, Bytes)>) -> Batch {
        let count = items.iter().map(|item| item.change.records()).sum::<usize>() + committed.len();
        let builder = &mut self.builder;
        let payload_bytes = items.iter().map(|item| item.change.bytes()).sum::<usize>()
            + committed.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        builder.begin(count, payload_bytes, 2 * self.shared.options.batch_bytes);
        let mut records = Vec::with_capacity(count);
        let mut is_mark = true;
        for item in &items {
            is_mark &= matches!(item.change, Change::Mark | Change::Nothing);
            match &item.change {
                Change::Entries { group, entries, .. } => records.extend(
                    entries.iter().map(|e| builder.push(Kind::Entry, *group, e.index, &e.head, &e.body)),
                ),
                Change::Vote { group, vote } => records.push(builder.push(Kind::Vote, *group, 0, &[], vote)),
                Change::Truncate { .. } if mutant::is(Mutant::TruncateNotLogged) => {
                    records.push(builder.push(Kind::Mark, META_GROUP, 0, &[], &[]));
                }
                Change::Truncate { group, from } => {
                    records.push(builder.push(Kind::Truncate, *group, *from, &[], &[]));
                }
                Change::Purge { group, index, id } => {
                    records.push(builder.push(Kind::Purge, *group, *index, &[], id));
                }
                Change::Remove { group } => records.push(builder.push(Kind::Remove, *group, 0, &[], &[])),
                Change::Mark => records.push(builder.push(Kind::Mark, META_GROUP, 0, &[], &[])),
                Change::Nothing => {}
            }
        }
        // Last: a position that was noted before one of the entries above is still right after it.
        for (group, bytes) in &committed {
            is_mark = false;
            records.push(builder.push(Kind::Committed, *group, 0, &[], bytes));
        }
        Batch { items, committed, records, is_mark }
    }

    /// Brings the batch to the disk, and the ledger up to it.
    fn write(&mut self, batch: &Batch) -> Result<(), WriteError> {
        let (payload_at, lsn_at) = self.write_bytes()?;
        let mut bodies = batch
            .items
            .iter()
            .flat_map(|item| state_bodies(&item.change))
            .chain(batch.committed.iter().map(|(_, bytes)| bytes));
        for record in &batch.records {
            let body: &[u8] = match record.kind {
                Kind::Vote | Kind::Purge | Kind::Committed => bodies.next().map_or(&[], |bytes| bytes),
                _ => &[],
            };
            self.record(record, payload_at, lsn_at, body);
        }
        Ok(())
    }

    /// Takes a durable record over into the ledger, and gives its place.
    fn record(&mut self, record: &RecordHeader, payload_at: u64, batch_at: u64, body: &[u8]) -> Place {
        let place = self.place(payload_at, record);
        let path = &self.active.path;
        self.ledger.apply(record, place, body, |reason| {
            // The groups' state checked every change before it was queued.
            debug_assert!(false, "the log contradicts itself: {reason}");
            Damage { path: path.clone(), offset: batch_at, reason: reason.to_owned() }
        });
        place
    }

    /// Writes and syncs what the builder holds. Gives the offsets of the payloads and of the batch.
    fn write_bytes(&mut self) -> Result<(u64, u64), WriteError> {
        let bytes = self.builder.total_bytes();
        if self.offset + bytes + SEAL_BYTES > self.active.len {
            self.roll(bytes)?;
        }
        let (lsn, at) = (self.lsn + 1, self.offset);
        let head_bytes = self.builder.head_bytes() as u64;
        let failed = |action, e| WriteError::from(WalError::io(&self.active.path, action, e));
        self.active
            .file
            .write_all_at(at, self.builder.finish(lsn, self.lsn, 0))
            .map_err(|e| failed("writing a batch", e))?;
        // A full disk can not be told apart from a lost write here: only the write above may be tried again.
        if !mutant::is(Mutant::BatchNotSynced) {
            self.active.file.sync_data().map_err(|e| failed("syncing a batch", e).fatal())?;
        }
        self.lsn = lsn;
        self.offset += bytes;

        Ok((at + head_bytes, at))
    }

    fn place(&self, payload_at: u64, record: &RecordHeader) -> Place {
        let offset = u32::try_from(payload_at + record.offset).expect("segments are shorter than 4 GiB");
        Place { segment: self.sequence, offset, len: record.len, crc: record.crc, head_len: record.head_len }
    }

    /// Goes on in a new segment that has room for a batch of `bytes`.
    fn roll(&mut self, bytes: u64) -> Result<(), WriteError> {
        let sequence = self.sequence + 1;
        // One number is left for the seal of the old segment, which can only be written once the new one exists.
        let (segment, end) = recover::create_segment(
            &self.shared.fs,
            &self.shared.dir,
            self.shared.options.segment_bytes,
            sequence,
            self.shared.salt,
            self.lsn + 2,
            self.lsn,
            &self.ledger,
            bytes,
        )
        .map_err(|e| WriteError { error: e.error, may_retry: e.harmless })?;
        if self.offset + SEAL_BYTES <= self.active.len {
            let mut builder = BatchBuilder::new(self.shared.salt);
            builder.begin(1, 0, 0);
            builder.push(Kind::Seal, META_GROUP, 0, &[], &[]);
            let seal = builder.finish(self.lsn + 1, self.lsn, 0);
            let file = &self.active.file;
            file.write_all_at(self.offset, seal).and_then(|()| file.sync_data()).map_err(|e| {
                WriteError::from(WalError::io(&self.active.path, "sealing a segment", e)).fatal()
            })?;
        }
        self.segments.insert(sequence, segment.path.clone());
        self.shared.state().add_segment(sequence, segment.clone());
        self.active = segment;
        self.sequence = sequence;
        self.offset = end;
        self.lsn += 2;
        Ok(())
    }

    /// Makes a durable batch known: places first, then the callbacks.
    fn publish(&mut self, batch: Batch) {
        let bytes = self.builder.total_bytes();
        let head_bytes = self.builder.head_bytes() as u64;
        let payload_at = self.offset.saturating_sub(bytes) + head_bytes;
        {
            let mut state = self.shared.state();
            let mut records = batch.records.iter();
            for item in &batch.items {
                let mine = records.by_ref().take(item.change.records());
                if let Change::Entries { group, ticket, entries } = &item.change {
                    let places: Vec<Place> = mine.map(|record| self.place(payload_at, record)).collect();
                    state.place(*group, *ticket, entries.first().map_or(0, |entry| entry.index), &places);
                } else {
                    mine.for_each(drop);
                }
            }
            if !batch.records.is_empty() {
                state.batch_written(batch.records.len() as u64, bytes, batch.is_mark);
            }
        }
        for item in batch.items {
            (item.done)(Ok(()));
        }
    }

    /// Writes the entries again that alone keep the oldest segment, if they are few, and deletes it.
    ///
    /// They get a batch of their own, made from the ledger: what it holds is in the log, and changes that wait in the
    /// queue come after. So a rewritten entry never comes back over a newer one of the same index.
    fn rewrite_oldest(&mut self) -> Result<(), WalError> {
        let Some((&oldest, path)) = self.segments.first_key_value() else { return Ok(()) };
        let entries = self.ledger.entries_in(oldest);
        let bytes: u64 = entries.iter().map(|(_, _, place)| u64::from(place.len)).sum();
        let limit = self.shared.options.segment_bytes / 4;
        if oldest == self.sequence || bytes > limit || entries.len() > MAX_BATCH_RECORDS / 2 {
            return Ok(());
        }
        let Some(file) = self.shared.state().segment_file(oldest) else { return Ok(()) };
        let mut records = Vec::with_capacity(entries.len());
        self.builder.begin(entries.len(), bytes as usize, 2 * self.shared.options.batch_bytes);
        for (group, index, place) in &entries {
            let mut payload = vec![0; place.len as usize];
            if let Err(error) = file.read_exact_at(u64::from(place.offset), &mut payload) {
                // As above all else the log must go on: what is lost here is only space.
                tracing::warn!(path = %path.display(), %group, index, %error, "an old entry can not be read, its segment is kept");
                return Ok(());
            }
            let (head, body) = payload.split_at(place.head_len as usize);
            let record = self.builder.push(Kind::Rewrite, *group, *index, head, body);
            if record.crc != place.crc {
                // Whoever reads it will find the damage. Here it must not be given a new checksum.
                tracing::warn!(path = %path.display(), %group, index, "an entry is bad, the segment is kept");
                return Ok(());
            }
            records.push(record);
        }
        let (payload_at, batch_at) = match self.write_bytes() {
            Ok(offsets) => offsets,
            Err(e) if e.may_retry && matches!(e.error, WalError::NoSpace { .. }) => return Ok(()),
            Err(e) => {
                self.poison(&e.error, Vec::new());
                return Err(e.error);
            }
        };
        let places: Vec<Place> =
            records.iter().map(|record| self.record(record, payload_at, batch_at, &[])).collect();
        {
            let mut state = self.shared.state();
            for ((group, index, old), new) in entries.iter().zip(places) {
                state.replace(*group, *index, *old, new);
            }
            state.count_rewritten(bytes);
            state.batch_written(records.len() as u64, self.builder.total_bytes(), false);
        }
        self.delete_segments();
        Ok(())
    }

    /// After a failed write: back into the queue, or the end.
    fn give_up(&mut self, batch: Batch, failure: WriteError) -> WalError {
        if failure.may_retry && matches!(failure.error, WalError::NoSpace { .. }) {
            self.shared.state().put_back(batch.items, batch.committed);
            return failure.error;
        }
        tracing::error!(error = %failure.error, "the log can not be written any more");
        self.poison(&failure.error, batch.items);
        failure.error
    }

    fn poison(&mut self, error: &WalError, items: Vec<Item>) {
        let reason: Arc<str> = describe(error).into();
        let waiting = self.shared.state().poison(reason.clone());
        for item in items.into_iter().chain(waiting) {
            (item.done)(Err(WalError::Poisoned { reason: reason.clone() }));
        }
        self.shared.wake();
    }

    /// Deletes the oldest segments as long as no group has an entry in them. Everything else that they hold is in the
    /// checkpoints of later ones.
    fn delete_segments(&mut self) {
        while let Some((&oldest, path)) = self.segments.first_key_value() {
            let is_needed = self.ledger.needs(oldest) && !mutant::is(Mutant::LogDeletedTooSoon);
            if oldest == self.sequence || is_needed {
                return;
            }
            self.shared.state().drop_segment(oldest);
            // One by one, each durable before the next, so that no crash leaves a hole.
            let fs = &self.shared.fs;
            if let Err(error) = fs.remove_file(path).and_then(|()| fs.sync_dir(&self.shared.dir)) {
                // Only space is lost, until the next open.
                tracing::warn!(path = %path.display(), %error, "could not delete a log segment");
            }
            self.segments.remove(&oldest);
        }
    }
}

impl<F: Fs> Drop for LogWriter<F> {
    fn drop(&mut self) {
        if !self.is_finished() {
            self.poison(&WalError::Closed, Vec::new());
        }
    }
}

/// The bytes that the ledger keeps of a change.
fn state_bodies(change: &Change) -> Option<&Bytes> {
    match change {
        Change::Vote { vote, .. } => Some(vote),
        Change::Purge { id, .. } => Some(id),
        _ => None,
    }
}

fn describe(error: &WalError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

struct WriteError {
    error: WalError,
    /// Nothing reached the log that a second attempt would not overwrite.
    may_retry: bool,
}

impl From<WalError> for WriteError {
    fn from(error: WalError) -> Self {
        Self { error, may_retry: true }
    }
}

impl WriteError {
    fn fatal(self) -> Self {
        Self { may_retry: false, ..self }
    }
}
