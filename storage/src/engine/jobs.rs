//! Background jobs: what is due, running it, and what its result does.

use std::sync::Arc;

use protocol::command::ContentHash;
use protocol::memory::{MemoryLedger, MemoryUse};

use super::Shared;
use super::files::{Fate, file_path, quarantine_dir};
use super::state::{Frozen, FrozenTable, State};
use crate::error::StorageError;
use crate::flush::{self, FlushInput};
use crate::fs::Fs;
use crate::logs::table::LogTableView;
use crate::manifest::{FileKind, FileRef, JobOutput, Manifest};
use crate::merge::{self, MergeInput};
use crate::scan::SegmentView;
use crate::segment_file::SegmentFile;

/// Where a flush or merge that was begun stands on this replica.
#[derive(Debug)]
pub(super) enum JobSlot {
    Waiting,
    Running,
    Done(Box<JobDone>),
    /// Another replica's result is the one to install: ours differs, or can not be made because an input is damaged.
    Foreign(Foreign),
}

/// A result to take from another replica.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    /// All its files: those that are here already must stay, the others are to be fetched.
    files: Vec<FileRef>,
    /// Its segments that our own result has too, open.
    segments: Vec<Arc<SegmentFile>>,
}

/// The local result of a flush or merge.
#[derive(Debug)]
pub(crate) struct JobDone {
    /// `output` as install commands carry it.
    pub bytes: Vec<u8>,
    /// What was made.
    pub output: JobOutput,
    /// The new segments, open.
    pub segments: Vec<Arc<SegmentFile>>,
    /// Flush only: bit per ordinal of the registry that was written to, and the registry's generation.
    pub touched: Option<(u64, Vec<u64>)>,
}

impl JobDone {
    /// A result of these segments and files.
    pub fn new(output: JobOutput, segments: Vec<Arc<SegmentFile>>) -> Self {
        Self { bytes: output.encode(), output, segments, touched: None }
    }
}

impl JobSlot {
    pub fn files(&self) -> Vec<FileRef> {
        match self {
            Self::Waiting | Self::Running => Vec::new(),
            Self::Done(done) => done.output.files().collect(),
            Self::Foreign(foreign) => foreign.files.clone(),
        }
    }
}

/// A piece of background work. It holds all its inputs: run it on any thread.
pub struct Job<F: Fs> {
    shared: Arc<Shared<F>>,
    incarnation: u64,
    work: Work,
}

enum Work {
    Flush(Box<FlushInput>),
    Merge(Box<MergeInput>),
    Persist(Arc<Manifest>),
    Remove(Vec<(FileRef, Fate)>),
}

/// What a [`Job`] came to, for [`super::ShardStore::finish_job`].
#[derive(Debug)]
pub struct JobResult {
    incarnation: u64,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// A flush or merge.
    Made(u64, Result<Box<JobDone>, StorageError>),
    Persisted(Arc<Manifest>, Result<(), StorageError>),
    Removed(Result<(), StorageError>),
}

impl<F: Fs> std::fmt::Debug for Job<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({} of shard {})", self.name(), self.shared.shard)
    }
}

impl<F: Fs> Job<F> {
    /// What it does, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self.work {
            Work::Flush(_) => "flush",
            Work::Merge(_) => "merge",
            Work::Persist(_) => "persist",
            Work::Remove(_) => "remove",
        }
    }

    /// Does the work: CPU and disk. Nothing of the store changes but files that no manifest names.
    pub fn run(self) -> JobResult {
        let Shared { fs, dir, .. } = &*self.shared;
        let incarnation = self.incarnation;
        let outcome = match self.work {
            Work::Flush(input) => {
                let aside = format!("{incarnation}-flush-{}", input.job);
                Outcome::Made(input.job, flush::run(fs, dir, &aside, &input).map(Box::new))
            }
            Work::Merge(input) => {
                let aside = format!("{incarnation}-merge-{}", input.job);
                Outcome::Made(input.job, merge::run(fs, dir, &aside, &input).map(Box::new))
            }
            Work::Persist(manifest) => {
                let stored = persist(&self.shared, incarnation, &manifest);
                Outcome::Persisted(manifest, stored)
            }
            Work::Remove(files) => Outcome::Removed(remove(&self.shared, &files)),
        };
        JobResult { incarnation, outcome }
    }
}

/// Stores a manifest, unless a snapshot's took its place: that one is durable already and must stay.
fn persist<F: Fs>(shared: &Shared<F>, incarnation: u64, manifest: &Manifest) -> Result<(), StorageError> {
    let _writing = shared.lock_manifest();
    if shared.lock().incarnation != incarnation {
        return Ok(());
    }
    manifest.store(&shared.fs, &shared.dir)
}

/// Under the state's lock, so that no job can bring a file back between the check and the removal.
fn remove<F: Fs>(shared: &Shared<F>, files: &[(FileRef, Fate)]) -> Result<(), StorageError> {
    for (file, fate) in files {
        let mut state = shared.lock();
        if !state.files.removable().any(|(removable, _)| removable.hash == file.hash) {
            continue;
        }
        let path = file_path(&shared.dir, file);
        // Whatever happens, it is not asked for again: what stays behind is removed when the store is opened.
        state.files.forget(&file.hash);
        let result = match fate {
            Fate::Remove => shared.fs.remove_file(&path),
            Fate::Quarantine => {
                let aside = quarantine_dir(&shared.dir);
                shared
                    .fs
                    .create_dir_all(&aside)
                    .and_then(|()| shared.fs.rename(&path, &aside.join(file.name())))
            }
        };
        match result {
            // It was lost before: just as well.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.map_err(StorageError::io("removal", path))?,
        }
    }
    Ok(())
}

/// The next piece of work: first what lets the log be purged, then what frees memory, then what saves reads.
pub(super) fn next<F: Fs>(shared: &Arc<Shared<F>>) -> Option<Job<F>> {
    let mut state = shared.lock();
    let work = state.next_work()?;
    Some(Job { shared: Arc::clone(shared), incarnation: state.incarnation, work })
}

impl State {
    fn next_work(&mut self) -> Option<Work> {
        if self.dirty && !self.persisting {
            (self.dirty, self.persisting) = (false, true);
            self.in_doubt.extend(self.manifest.files().into_iter().map(|file| file.hash));
            return Some(Work::Persist(Arc::clone(&self.manifest)));
        }
        let waiting = |job: &u64| matches!(self.jobs.get(job), Some(JobSlot::Waiting));
        let mut frozen = self.frozen.iter().filter(|f| waiting(&f.position.index.0));
        let ledger = &self.memory.ledger;
        if let Some(input) = frozen.find_map(|f| Some(flush_input(f, f.table()?, ledger))) {
            self.jobs.insert(input.job, JobSlot::Running);
            return Some(Work::Flush(Box::new(input)));
        }
        let mut merges = self.manifest.merges.iter().filter(|m| waiting(&m.job.0));
        if let Some(merge) = merges.find(|m| m.inputs.iter().all(|hash| self.is_readable(hash))) {
            let inputs = self.manifest.segments.iter().filter(|s| merge.inputs.contains(&s.file.hash));
            let mut inputs: Vec<SegmentView> = inputs.map(|meta| self.segment_view(meta)).collect();
            inputs.sort_by_key(|s| s.meta.log_after);
            // Deletes begun after the merge are not in it: which there are must not depend on when it runs here.
            let tombstones = self.manifest.tombstones.iter().filter(|t| t.index < merge.job.0);
            let log_tombstones = self.manifest.log_tombstones.iter().filter(|t| t.index < merge.job.0);
            let input = MergeInput {
                job: merge.job.0,
                encoder_epoch: merge.encoder_epoch,
                inputs,
                tombstones: tombstones.cloned().collect(),
                log_tombstones: log_tombstones.cloned().collect(),
                over: merge.over.clone(),
            };
            self.jobs.insert(input.job, JobSlot::Running);
            return Some(Work::Merge(Box::new(input)));
        }
        if self.removing {
            return None;
        }
        let removable: Vec<(FileRef, Fate)> = self.files.removable().collect();
        self.removing = !removable.is_empty();
        self.removing.then_some(Work::Remove(removable))
    }

    /// Whether the local result of a job is what an install names, or what it names was fetched; then its segments
    /// are open and its slot is gone.
    pub(super) fn adopt(&mut self, job: u64, bytes: &[u8], output: &JobOutput) -> bool {
        let opened = match self.jobs.remove(&job) {
            Some(JobSlot::Done(done)) if done.bytes == bytes => done.segments,
            Some(JobSlot::Done(done)) => {
                tracing::error!(job, "this replica made other files than its leader: fetching the leader's");
                self.digest_mismatches += 1;
                let is_theirs = |file: &FileRef| output.files().any(|theirs| theirs == *file);
                for file in done.output.files().filter(|file| !is_theirs(file)) {
                    self.files.quarantine(&file.hash);
                }
                let shared = done.segments.into_iter().filter(|segment| is_theirs(&segment.file));
                let foreign = Foreign { files: output.files().collect(), segments: shared.collect() };
                self.jobs.insert(job, JobSlot::Foreign(foreign));
                return self.adopt_foreign(job, output);
            }
            Some(JobSlot::Foreign(foreign)) => {
                self.jobs.insert(job, JobSlot::Foreign(foreign));
                return self.adopt_foreign(job, output);
            }
            // Others have merged, and may have removed the inputs since: nobody might have a copy of ours any more.
            Some(JobSlot::Waiting) if self.lacks_inputs(job) => {
                tracing::warn!(job, "an input of a merge is damaged here: fetching its result");
                let foreign = Foreign { files: output.files().collect(), segments: Vec::new() };
                self.jobs.insert(job, JobSlot::Foreign(foreign));
                return self.adopt_foreign(job, output);
            }
            Some(slot) => {
                self.jobs.insert(job, slot);
                return false;
            }
            None => unreachable!("jobs that are under way have a slot"),
        };
        self.segments.extend(opened.into_iter().map(|segment| (segment.file.hash, segment)));
        true
    }

    fn adopt_foreign(&mut self, job: u64, output: &JobOutput) -> bool {
        let Some(JobSlot::Foreign(foreign)) = self.jobs.get(&job) else { return false };
        if self.missing_of(foreign).next().is_some() {
            return false;
        }
        let open: Option<Vec<_>> =
            output.segments.iter().map(|meta| self.open_segment(foreign, &meta.file)).collect();
        let Some(open) = open else { return false };
        for segment in open {
            self.files.add_segment(&segment);
            self.segments.insert(segment.file.hash, segment);
        }
        self.jobs.remove(&job);
        for file in output.files() {
            self.received.remove(&file.hash);
            self.received_segments.remove(&file.hash);
        }
        true
    }

    /// Whether a merge can not run here: a segment that it takes can not be read.
    fn lacks_inputs(&self, job: u64) -> bool {
        let merge = self.manifest.merges.iter().find(|m| m.job.0 == job);
        merge.is_some_and(|m| !m.inputs.iter().all(|hash| self.is_readable(hash)))
    }

    /// Whether a segment of the manifest is open and not known to be damaged.
    pub(super) fn is_readable(&self, hash: &ContentHash) -> bool {
        self.segments.get(hash).is_some_and(|segment| !self.is_damaged(&segment.file))
    }

    fn open_segment(&self, foreign: &Foreign, file: &FileRef) -> Option<Arc<SegmentFile>> {
        let shared = foreign.segments.iter().find(|s| s.file == *file);
        let open = shared.or(self.received_segments.get(&file.hash)).or(self.segments.get(&file.hash));
        open.cloned()
    }

    fn missing_of<'a>(&'a self, foreign: &'a Foreign) -> impl Iterator<Item = FileRef> + 'a {
        let is_here = |file: &FileRef| match file.kind {
            FileKind::Segment => self.open_segment(foreign, file).is_some(),
            FileKind::Registry | FileKind::Metadata | FileKind::Window | FileKind::SpanMetrics => {
                self.files.contains(&file.hash)
            }
        };
        foreign.files.iter().filter(move |file| !is_here(file)).copied()
    }

    /// Files of other replicas' results that are not here.
    pub(super) fn missing_results(&self) -> Vec<FileRef> {
        let foreign = self.jobs.values().filter_map(|slot| match slot {
            JobSlot::Foreign(foreign) => Some(foreign),
            _ => None,
        });
        foreign.flat_map(|foreign| self.missing_of(foreign)).collect()
    }

    /// Closes segments that the manifest does not name any more; readers may still hold them.
    pub(super) fn close_segments(&mut self) {
        let manifest = &self.manifest;
        self.segments.retain(|hash, _| manifest.segments.iter().any(|s| s.file.hash == *hash));
    }
}

/// What a log record or span takes in memory while it is flushed, roughly.
const DECODED_RECORD_BYTES: u64 = 300;

fn flush_input(frozen: &Frozen, table: &FrozenTable, ledger: &MemoryLedger) -> FlushInput {
    let mut charge = ledger.charge(MemoryUse::Memtables);
    // A sample takes 12 bytes and its share of a time run in the memtable, 16 when it is gathered.
    // Logs and spans are decoded as a whole.
    let rows: u64 = table.rows.iter().map(LogTableView::rows).sum();
    charge.set(table.bytes as u64 * 4 / 3 + rows * DECODED_RECORD_BYTES);
    FlushInput {
        _charge: charge,
        job: frozen.position.index.0,
        log_after: frozen.log_after,
        encoder_epoch: frozen.encoder_epoch,
        table: table.table.clone(),
        registry: table.registry.clone(),
        registry_from: table.registry_from,
        metadata: table.metadata.clone(),
        rows: table.rows.clone(),
        window: Arc::clone(&table.window),
        span_metrics: table.span_metrics.clone(),
    }
}

/// Takes a result. See [`super::ShardStore::finish_job`].
pub(super) fn finish<F: Fs>(
    shared: &Shared<F>,
    state: &mut State,
    result: JobResult,
) -> Result<(), StorageError> {
    // A snapshot took the place of the state for which an older job ran.
    let is_current = result.incarnation == state.incarnation;
    let outcome = match result.outcome {
        Outcome::Made(job, made) => {
            let registered = made.and_then(|done| register_files(shared, state, done));
            // Otherwise nobody waits for it any more: its inputs were dropped, or a snapshot replaced the state.
            let awaited = is_current && matches!(state.jobs.get(&job), Some(JobSlot::Running));
            match registered {
                Ok(Some(done)) if awaited => {
                    state.note_activity(&done);
                    state.jobs.insert(job, JobSlot::Done(done));
                    state.release_flushed();
                    Ok(())
                }
                Ok(None) if awaited => {
                    state.jobs.insert(job, JobSlot::Waiting);
                    Ok(())
                }
                Err(error) if awaited => {
                    state.damage.note(&error);
                    state.jobs.insert(job, JobSlot::Waiting);
                    Err(error)
                }
                _ => Ok(()),
            }
        }
        Outcome::Persisted(manifest, stored) => {
            if is_current {
                state.persisting = false;
                match &stored {
                    Ok(()) => {
                        state.durable = manifest;
                        state.in_doubt.clear();
                    }
                    Err(_) => state.dirty = true,
                }
            }
            stored
        }
        Outcome::Removed(result) => {
            // Not bound to an incarnation: a removal looks at each file again before it goes.
            state.removing = false;
            result
        }
    };
    if outcome.is_err() {
        state.failed_jobs += 1;
    }
    state.process_ops();
    outcome
}

/// Notes a result's files as being on disk. `None` if one is not there any more: a file of the same content, a copy
/// received for a snapshot say, was retired and removed while the job ran, and the job must run again.
fn register_files<F: Fs>(
    shared: &Shared<F>,
    state: &mut State,
    done: Box<JobDone>,
) -> Result<Option<Box<JobDone>>, StorageError> {
    for file in done.output.files() {
        let path = file_path(&shared.dir, &file);
        if !shared.fs.exists(&path).map_err(StorageError::io("look-up", path))? {
            return Ok(None);
        }
    }
    done.output.files().for_each(|file| state.files.add(file));
    done.segments.iter().for_each(|segment| state.files.add_segment(segment));
    Ok(Some(done))
}
