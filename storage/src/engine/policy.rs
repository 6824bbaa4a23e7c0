//! What a shard's leader proposes and when. Pure: it looks at the state and the cluster's time. Replicas need not
//! agree on any of this, for what is proposed goes through the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::command::{CommandBody, ContentHash, RetentionCut, TenantsOver};
use protocol::epoch;
use protocol::ids::{LogIndex, ShardId, TenantId};
use protocol::logs::RowSignal;
use protocol::retention::{Kept, Retention};

use super::jobs::{JobDone, JobSlot};
use super::ops::{is_expired, merge_inputs};
use super::state::State;
use crate::logs::table::LogTable;
use crate::manifest::{PARTITION_MS, Partition, SegmentMeta};

/// When a leader flushes, merges and drops.
#[derive(Clone, Debug)]
pub struct FlushPolicy {
    /// Encoder epoch that the cluster agreed on.
    pub encoder_epoch: u16,
    /// Bytes of the active memtable at which it is flushed. Shards stagger: each uses 75 to 100 % of it.
    pub memtable_bytes: usize,
    /// Cluster time after which a memtable that is not empty is flushed however small it is.
    pub max_age_ms: i64,
    /// Flush what there is, now.
    pub force_flush: bool,
    /// Merge each partition into one segment, whatever it costs.
    pub merge_all: bool,
    /// Rewrite segments that deletes have cut into, so that what is deleted gives its bytes back.
    pub clean_tombstones: bool,
    /// Segments of similar size that are merged into one.
    pub merge_factor: usize,
    /// Segments of a partition that are not merged further: longer than this.
    pub max_segment_bytes: u64,
    /// Merges under way at the same time.
    pub max_merges: usize,
    /// How long data is kept.
    pub retention: Arc<Retention>,
    /// What lies before this moment may go whatever its age: a disk has no room for it.
    pub evict_before_ms: Option<i64>,
    /// Series that nobody writes to any more which make a new registry generation worthwhile, if they are also half of
    /// all.
    pub min_forgotten_series: usize,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self {
            encoder_epoch: 1,
            memtable_bytes: 6 << 20,
            max_age_ms: 5 * 60 * 1000,
            force_flush: false,
            merge_all: false,
            clean_tombstones: false,
            merge_factor: 6,
            max_segment_bytes: 512 << 20,
            max_merges: 1,
            retention: Arc::default(),
            evict_before_ms: None,
            min_forgotten_series: 20_000,
        }
    }
}

/// Frozen memtables beyond which no further flush is begun: the disk does not keep up.
const MAX_FROZEN: usize = 2;

/// Time that a day is given, beyond its own, before it is rolled up.
const ROLL_UP_DELAY_MS: i64 = 60 * 60 * 1000;

/// Cluster time over which writes are observed before a series counts as forgotten.
const WINDOW_MS: i64 = 60 * 60 * 1000;

/// Which series were written to lately, as far as flushes on this node show: a bit per ordinal. A node that starts
/// or takes over knows nothing yet and waits for a whole window.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The last whole window.
    last: Option<Vec<u64>>,
    /// The window under way, and when it began.
    current: Vec<u64>,
    since_ms: Option<i64>,
}

impl State {
    /// Notes which series a flush met.
    pub fn note_activity(&mut self, done: &JobDone) {
        let Some((generation, touched)) = &done.touched else { return };
        if *generation != self.registry.generation() {
            return;
        }
        let activity = &mut self.activity;
        let since = *activity.since_ms.get_or_insert(self.cluster_time_ms);
        if self.cluster_time_ms - since >= WINDOW_MS {
            activity.last = Some(std::mem::take(&mut activity.current));
            activity.since_ms = Some(self.cluster_time_ms);
        }
        activity.current.resize(activity.current.len().max(touched.len()), 0);
        activity.current.iter_mut().zip(touched).for_each(|(a, b)| *a |= b);
    }

    /// Series that were not written to in the last window nor since.
    fn forgotten_series(&self) -> usize {
        let Some(last) = &self.activity.last else { return 0 };
        // Series registered after the window are not in it: they are new, not forgotten.
        let current = self.activity.current.iter().chain(std::iter::repeat(&0));
        let written: u32 = last.iter().zip(current).map(|(a, b)| (a | b).count_ones()).sum();
        (last.len() * 64).min(self.registry.len()).saturating_sub(written as usize)
    }
}

/// The next command, `None` if nothing is due.
pub(super) fn propose(state: &State, policy: &FlushPolicy, now_ms: i64) -> Option<CommandBody<'static>> {
    install(state)
        .or_else(|| flush(state, policy, now_ms))
        .or_else(|| drop_partitions(state, policy, now_ms))
        .or_else(|| merge(state, policy, now_ms))
}

fn install(state: &State) -> Option<CommandBody<'static>> {
    let done = |job: u64| match state.jobs.get(&job) {
        Some(JobSlot::Done(done)) if !state.pending.iter().any(|op| op.installs() == Some(job)) => {
            Some((LogIndex(job), done.bytes.clone()))
        }
        _ => None,
    };
    if let Some((job, output)) = state.frozen.front().and_then(|f| done(f.position.index.0)) {
        return Some(CommandBody::InstallFlush { job, output });
    }
    let (job, output) = state.manifest.merges.iter().find_map(|m| done(m.job.0))?;
    Some(CommandBody::InstallMerge { job, output })
}

fn flush(state: &State, policy: &FlushPolicy, now_ms: i64) -> Option<CommandBody<'static>> {
    let is_empty = state.active.is_empty() && state.rows.iter().all(LogTable::is_empty);
    if is_empty || state.frozen.len() >= MAX_FROZEN {
        return None;
    }
    let forgotten = state.forgotten_series();
    let new_generation = forgotten >= policy.min_forgotten_series && forgotten * 2 >= state.registry.len();
    let full = state.memtable_bytes() >= staggered(policy.memtable_bytes, state.manifest.shard);
    let old = state.active_since_ms.is_some_and(|since| now_ms - since >= policy.max_age_ms);
    (policy.force_flush || full || old).then_some(CommandBody::BeginFlush { new_generation })
}

/// 75 to 100 % of the size, spread evenly over the shards: numbers that differ by one lie far apart.
fn staggered(bytes: usize, shard: ShardId) -> usize {
    let part = usize::from(shard.0).wrapping_mul(7) % 16;
    bytes / 64 * (48 + part)
}

fn drop_partitions(state: &State, policy: &FlushPolicy, now_ms: i64) -> Option<CommandBody<'static>> {
    let cut = |kept: Kept| {
        // What is rolled up when its time is over does not just go.
        let stays = kept == Kept::Metrics && policy.retention.rolls_up();
        let longest = policy.retention.longest(kept).filter(|_| !stays);
        let before_ms = longest.and_then(|age| now_ms.checked_sub(age)).max(policy.evict_before_ms)?;
        let (signal, class) = Partition::numbers(kept);
        let cut = RetentionCut { signal, class, before_ms };
        state.manifest.segments.iter().any(|s| is_expired(s, &cut)).then_some(cut)
    };
    let due: Vec<RetentionCut> = Kept::ALL.into_iter().filter_map(cut).collect();
    (!due.is_empty()).then(|| CommandBody::DropPartitions(due))
}

/// A merge for tenants whose time is over for a day, when others still keep it or something of it stays.
fn merge_for_tenants(
    state: &State,
    policy: &FlushPolicy,
    now_ms: i64,
    can_merge: impl Fn(&[ContentHash]) -> bool,
) -> Option<CommandBody<'static>> {
    let retention = &policy.retention;
    if policy.encoder_epoch < epoch::MERGES_BY_TENANT || (retention.own.is_empty() && !retention.rolls_up()) {
        return None;
    }
    let is_over =
        |last_ms: i64, age: Option<i64>| age.is_some_and(|age| last_ms < now_ms.saturating_sub(age));
    for segment in state.manifest.segments.iter().filter(|s| !s.partition.is_catch_all()) {
        let (partition, last_ms) = (segment.partition, segment.last_ms());
        if !is_over(last_ms, retention.shortest(partition.kept())) {
            continue;
        }
        let Some(open) = state.segments.get(&segment.file.hash) else { continue };
        let mut over = TenantsOver::default();
        for name in open.tenants() {
            let ages = retention.of(name);
            let is_rolled_up = partition.kept() == Kept::Metrics && !is_over(last_ms, ages.of(Kept::Rollups));
            let (list, delay_ms) = match is_rolled_up {
                true => (&mut over.rolled_up, ROLL_UP_DELAY_MS),
                false => (&mut over.left_out, 0),
            };
            if is_over(last_ms.saturating_add(delay_ms), ages.of(partition.kept())) {
                list.extend(TenantId::new(name));
            }
        }
        let inputs = if over.rolled_up.is_empty() {
            vec![segment.file.hash]
        } else {
            // Somebody might have been let in at the last moment, and not be in a segment yet.
            if state.unflushed_metrics_since().is_some_and(|first| first <= last_ms) {
                continue;
            }
            hashes(&state.manifest.segments.iter().filter(|s| s.partition == partition).collect::<Vec<_>>())
        };
        if !over.is_empty() && can_merge(&inputs) {
            return Some(CommandBody::BeginMerge { inputs, over });
        }
    }
    None
}

/// Size-tiered: a run of `merge_factor` neighbours, none of which is much longer than the rest together, so that each
/// byte is rewritten once per tier. Partitions with the most segments first: they cost reads most.
fn merge(state: &State, policy: &FlushPolicy, now_ms: i64) -> Option<CommandBody<'static>> {
    let manifest = &*state.manifest;
    // One whose input is damaged waits for a copy, and takes no place meanwhile.
    let is_readable = |hash: &ContentHash| state.is_readable(hash);
    let running = manifest.merges.iter().filter(|m| m.inputs.iter().all(is_readable)).count();
    if running >= policy.max_merges.max(1) {
        return None;
    }
    let can_merge =
        |inputs: &[ContentHash]| inputs.iter().all(is_readable) && merge_inputs(manifest, inputs).is_some();
    // Before anything of it is merged with more.
    if let Some(merge) = merge_for_tenants(state, policy, now_ms, can_merge) {
        return Some(merge);
    }
    let mut partitions = BTreeMap::<Partition, Vec<&SegmentMeta>>::new();
    for segment in &manifest.segments {
        partitions.entry(segment.partition).or_default().push(segment);
    }
    let mut partitions: Vec<_> = partitions.into_iter().collect();
    partitions.sort_by_key(|(_, segments)| std::cmp::Reverse(segments.len()));
    for (partition, segments) in &partitions {
        let candidates: Vec<Vec<ContentHash>> = if partition.is_catch_all() {
            segments.iter().map(|s| vec![s.file.hash]).collect()
        } else if policy.merge_all && segments.len() > 1 {
            // A deleted range may forbid nothing less than one run over all; shorter runs come next time.
            (2..=segments.len()).rev().map(|n| hashes(&segments[..n])).collect()
        } else {
            // Into a partition of the past little more will be written: what is left over is merged too.
            let is_past = partition.span().1 < now_ms.saturating_sub(PARTITION_MS / 24);
            let past = is_past.then(|| tiered_run(segments, 2, 8, policy)).flatten();
            tiered_run(segments, policy.merge_factor.max(2), 2, policy).or(past).into_iter().collect()
        };
        if let Some(inputs) = candidates.into_iter().find(|inputs| can_merge(inputs)) {
            return Some(CommandBody::BeginMerge { inputs, over: TenantsOver::default() });
        }
    }
    // A segment that a delete cut into gives its bytes back, when nothing else is to be done.
    let is_cut = |s: &SegmentMeta| {
        let (last, upto, range) = (s.log_last, s.deleted_upto, (s.min_time, s.max_time));
        match s.partition.rows() {
            Some(RowSignal::Logs) => manifest.log_tombstones.iter().any(|t| t.concerns(last, upto, range)),
            Some(RowSignal::Spans) => false,
            None => manifest.tombstones.iter().any(|t| t.concerns(last, upto, range)),
        }
    };
    let cut = manifest
        .segments
        .iter()
        .find(|s| (policy.merge_all || policy.clean_tombstones) && is_cut(s) && can_merge(&[s.file.hash]))?;
    Some(CommandBody::BeginMerge { inputs: vec![cut.file.hash], over: TenantsOver::default() })
}

fn hashes(segments: &[&SegmentMeta]) -> Vec<ContentHash> {
    segments.iter().map(|s| s.file.hash).collect()
}

/// The run of `factor` neighbours with the least bytes, none of them longer than `balance` times the others together.
fn tiered_run(
    segments: &[&SegmentMeta],
    factor: usize,
    balance: u64,
    policy: &FlushPolicy,
) -> Option<Vec<ContentHash>> {
    let runs = segments.windows(factor).filter_map(|run| {
        let sum: u64 = run.iter().map(|s| s.file.len_bytes).sum();
        let longest = run.iter().map(|s| s.file.len_bytes).max()?;
        let balanced = longest <= balance * (sum - longest) && longest <= policy.max_segment_bytes;
        balanced.then_some((sum, run))
    });
    let (_, run) = runs.min_by_key(|(sum, _)| *sum)?;
    Some(hashes(run))
}
