//! Manifest operations: the queue, and what each does to the manifest.
//!
//! Operations take effect strictly in log order. Whether one takes effect, and what it then changes, depends on the
//! manifest as the operations before it left it and on nothing local; when it does so may depend on local jobs.
//! An operation that does not fit (a job that is not under way, inputs that are gone) has no effect anywhere.

use std::sync::Arc;

use protocol::command::{ContentHash, RetentionCut, TenantsOver};
use protocol::ids::LogIndex;

use super::jobs::JobSlot;
use super::state::State;
use crate::logs::tombstone::LogTombstone;
use crate::manifest::{JobOutput, Manifest, Partition, PendingMerge, SegmentMeta};
use crate::tombstone::Tombstone;

/// An operation that waits for its turn.
#[derive(Debug)]
pub(super) struct PendingOp {
    pub index: u64,
    pub op: Op,
}

#[derive(Debug)]
pub(super) enum Op {
    /// The cut was made when the entry was applied; in the manifest it leaves no trace.
    BeginFlush,
    InstallFlush {
        job: u64,
        output: Vec<u8>,
    },
    BeginMerge {
        inputs: Vec<ContentHash>,
        over: TenantsOver,
        encoder_epoch: u16,
    },
    InstallMerge {
        job: u64,
        output: Vec<u8>,
    },
    Delete(Tombstone),
    DeleteLogs(LogTombstone),
    DropPartitions(Vec<RetentionCut>),
}

impl PendingOp {
    pub fn tombstone(&self) -> Option<&Tombstone> {
        match &self.op {
            Op::Delete(tombstone) => Some(tombstone),
            _ => None,
        }
    }

    pub fn log_tombstone(&self) -> Option<&LogTombstone> {
        match &self.op {
            Op::DeleteLogs(tombstone) => Some(tombstone),
            _ => None,
        }
    }

    /// Whether it takes partitions away.
    pub fn drops(&self) -> bool {
        matches!(self.op, Op::DropPartitions(_))
    }

    /// What becomes of tenants in a merge, if this begins it.
    pub fn tenants_over(&self, job: u64) -> Option<&TenantsOver> {
        match &self.op {
            Op::BeginMerge { over, .. } if self.index == job => Some(over),
            _ => None,
        }
    }

    /// The job whose install this is.
    pub fn installs(&self) -> Option<u64> {
        match self.op {
            Op::InstallFlush { job, .. } | Op::InstallMerge { job, .. } => Some(job),
            _ => None,
        }
    }
}

/// Whether the operation at the head can take effect now.
enum Progress {
    Done,
    /// A job still runs or a file is to be fetched.
    Blocked,
}

impl State {
    /// Lets operations take effect until one has to wait.
    pub fn process_ops(&mut self) {
        while let Some(PendingOp { index, op }) = self.pending.pop_front() {
            let before = Arc::clone(&self.manifest);
            match self.process(index, &op) {
                Progress::Done => {
                    // An operation without effect need not be durable: skipped or processed again, it is the same.
                    self.dirty |= !Arc::ptr_eq(&before, &self.manifest);
                    drop(before);
                    Arc::make_mut(&mut self.manifest).op_index = index;
                }
                Progress::Blocked => {
                    self.pending.push_front(PendingOp { index, op });
                    break;
                }
            }
        }
        self.close_segments();
        self.release_flushed();
        self.refresh_view();
        self.retire_files();
    }

    fn process(&mut self, index: u64, op: &Op) -> Progress {
        match op {
            Op::BeginFlush => Progress::Done,
            Op::InstallFlush { job, output } => self.install_flush(index, *job, output),
            Op::BeginMerge { inputs, over, encoder_epoch } => {
                if merge_inputs(&self.manifest, inputs).is_some() {
                    self.begin_merge(PendingMerge {
                        job: LogIndex(index),
                        encoder_epoch: *encoder_epoch,
                        inputs: inputs.clone(),
                        over: over.clone(),
                    });
                }
                Progress::Done
            }
            Op::InstallMerge { job, output } => self.install_merge(*job, output),
            Op::Delete(tombstone) => {
                Arc::make_mut(&mut self.manifest).tombstones.push(tombstone.clone());
                self.forget_tombstones();
                Progress::Done
            }
            Op::DeleteLogs(tombstone) => {
                Arc::make_mut(&mut self.manifest).log_tombstones.push(tombstone.clone());
                self.forget_tombstones();
                Progress::Done
            }
            Op::DropPartitions(cuts) => self.drop_partitions(cuts),
        }
    }

    /// Flushes are installed in the order in which they were begun: the oldest cut behind `flushed`, or none.
    fn install_flush(&mut self, index: u64, job: u64, bytes: &[u8]) -> Progress {
        let front = self.frozen.front().map(|f| f.position.index.0);
        let Some(output) = JobOutput::decode(bytes).filter(|_| front == Some(job) && job < index) else {
            return Progress::Done;
        };
        if !self.adopt(job, bytes, &output) {
            return Progress::Blocked;
        }
        let frozen = self.frozen.pop_front().expect("the front was looked at above");
        let manifest = Arc::make_mut(&mut self.manifest);
        manifest.registry = Self::registry_after(&frozen, &manifest.registry, output.registry);
        manifest.generation = frozen.next_generation;
        manifest.flushed = Some(frozen.position);
        manifest.cluster_time_ms = frozen.cluster_time_ms;
        if output.metadata.is_some() {
            manifest.metadata = output.metadata;
        }
        manifest.window = output.window;
        if output.span_metrics.is_some() {
            manifest.span_metrics = output.span_metrics;
        }
        manifest.duplicates += output.duplicates;
        manifest.flushed_bytes += bytes_of(&output.segments);
        insert_segments(manifest, output.segments);
        self.forget_tombstones();
        Progress::Done
    }

    /// A merge takes segments of one partition that follow one another in the log, none of them in another merge.
    fn begin_merge(&mut self, merge: PendingMerge) {
        self.jobs.insert(merge.job.0, JobSlot::Waiting);
        Arc::make_mut(&mut self.manifest).merges.push(merge);
    }

    fn install_merge(&mut self, job: u64, bytes: &[u8]) -> Progress {
        let at = self.manifest.merges.iter().position(|m| m.job.0 == job);
        let (Some(at), Some(output)) = (at, JobOutput::decode(bytes)) else { return Progress::Done };
        if !self.adopt(job, bytes, &output) {
            return Progress::Blocked;
        }
        let manifest = Arc::make_mut(&mut self.manifest);
        let merge = manifest.merges.remove(at);
        manifest.segments.retain(|s| !merge.inputs.contains(&s.file.hash));
        manifest.duplicates += output.duplicates;
        manifest.merged_bytes += bytes_of(&output.segments);
        insert_segments(manifest, output.segments);
        self.forget_tombstones();
        Progress::Done
    }

    fn drop_partitions(&mut self, cuts: &[RetentionCut]) -> Progress {
        let expired = |s: &SegmentMeta| cuts.iter().any(|cut| is_expired(s, cut));
        if self.manifest.segments.iter().any(expired) {
            let manifest = Arc::make_mut(&mut self.manifest);
            manifest.segments.retain(|s| !expired(s));
            let segments = &manifest.segments;
            let (going_on, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut manifest.merges)
                .into_iter()
                .partition(|m| m.inputs.iter().all(|hash| segments.iter().any(|s| s.file.hash == *hash)));
            manifest.merges = going_on;
            for merge in ended {
                self.jobs.remove(&merge.job.0);
            }
            self.forget_tombstones();
        }
        Progress::Done
    }

    /// A tombstone goes when no segment needs it and none can come that does: everything before it is flushed.
    fn forget_tombstones(&mut self) {
        let flushed = self.manifest.flushed_index();
        let segments = &self.manifest.segments;
        let needed = |t: &Tombstone| {
            flushed < t.index
                || segments
                    .iter()
                    .filter(|s| s.partition.is_metrics())
                    .any(|s| t.concerns(s.log_last, s.deleted_upto, (s.min_time, s.max_time)))
        };
        let keep: Vec<bool> = self.manifest.tombstones.iter().map(needed).collect();
        if keep.contains(&false) {
            let mut keep = keep.into_iter();
            let tombstones = &mut Arc::make_mut(&mut self.manifest).tombstones;
            tombstones.retain(|_| keep.next().unwrap_or(true));
        }
        let segments = &self.manifest.segments;
        let needed = |t: &LogTombstone| {
            let concerns = |s: &SegmentMeta| t.concerns(s.log_last, s.deleted_upto, (s.min_time, s.max_time));
            flushed < t.index || segments.iter().any(|s| s.partition.is_logs() && concerns(s))
        };
        let keep: Vec<bool> = self.manifest.log_tombstones.iter().map(needed).collect();
        if keep.contains(&false) {
            let mut keep = keep.into_iter();
            let tombstones = &mut Arc::make_mut(&mut self.manifest).log_tombstones;
            tombstones.retain(|_| keep.next().unwrap_or(true));
        }
    }
}

fn bytes_of(segments: &[SegmentMeta]) -> u64 {
    segments.iter().map(|s| s.file.len_bytes).sum()
}

fn insert_segments(manifest: &mut Manifest, segments: Vec<SegmentMeta>) {
    manifest.segments.extend(segments);
    manifest.segments.sort_by_key(SegmentMeta::sort_key);
}

/// Whether a cut of its retention class lets a segment go.
pub(super) fn is_expired(segment: &SegmentMeta, cut: &RetentionCut) -> bool {
    let partition = segment.partition;
    partition.signal == cut.signal && partition.class == cut.class && segment.last_ms() < cut.before_ms
}

/// The segments of a merge in log order, `None` if they can not be merged.
///
/// Between the log ranges of the inputs there must be no other segment that may hold samples of the same time, or
/// the rule that the lowest log index wins would depend on what was merged when. Inside a partition that is a run of
/// neighbours. A catch-all holds samples of many partitions: no run reaches across one that overlaps it in time, and
/// a catch-all is only ever split, alone, into parts that keep its log range. (A flush that writes one puts the
/// samples of any partition either there or into a segment of their own, never both.)
pub(super) fn merge_inputs<'a>(
    manifest: &'a Manifest,
    inputs: &[ContentHash],
) -> Option<Vec<&'a SegmentMeta>> {
    let find = |hash: &ContentHash| manifest.segments.iter().find(|s| s.file.hash == *hash);
    let mut segments = inputs.iter().map(find).collect::<Option<Vec<_>>>()?;
    segments.sort_by_key(|s| s.log_after);
    let (first, last) = (segments.first()?, segments.last()?);
    let partition: Partition = first.partition;
    if partition.is_catch_all() && segments.len() > 1 {
        return None;
    }
    let distinct = segments.windows(2).all(|pair| pair[0].log_last <= pair[1].log_after);
    let free = !inputs.iter().any(|hash| manifest.merges.iter().any(|m| m.inputs.contains(hash)));
    let span = segments.iter().fold((i64::MAX, i64::MIN), |s, m| (s.0.min(m.min_time), s.1.max(m.max_time)));
    let in_between = |other: &SegmentMeta| {
        let catch_all = other.partition.is_catch_all() && other.partition.signal == partition.signal;
        let same_time = other.partition == partition || (catch_all && other.overlaps(span));
        let same_log = other.log_after < last.log_last && other.log_last > first.log_after;
        segments.len() > 1 && same_time && same_log && !inputs.contains(&other.file.hash)
    };
    let neighbours = !manifest.segments.iter().any(in_between);
    (distinct && free && neighbours && segments.iter().all(|s| s.partition == partition)).then_some(segments)
}
