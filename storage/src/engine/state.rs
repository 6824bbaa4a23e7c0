//! What a shard's store holds in memory, behind one lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::command::ContentHash;
use protocol::logs::RowSignal;
use protocol::logs::batch::BatchKey;
use protocol::memory::{Charge, MemoryLedger, MemoryUse};

use super::changes::Changes;
use super::files::KnownFiles;
use super::jobs::JobSlot;
use super::ops::PendingOp;
use super::transfer::Incoming;
use super::{LogPosition, Position, ShardOptions, ShardStats};
use crate::damage::Damage;
use crate::logs::PerSignal;
use crate::logs::table::{LogTable, LogTableView};
use crate::logs::tombstone::LogTombstone;
use crate::logs::window::KeyWindow;
use crate::manifest::{FileRef, Manifest, RegistryFile, SegmentMeta};
use crate::memtable::{MemView, Memtable};
use crate::metadata::MetadataMap;
use crate::scan::{SegmentView, TableView, View};
use crate::segment_file::SegmentFile;
use crate::series_index::{Registry, RegistryView};
use crate::span_metrics::SpanMetrics;
use crate::tombstone::Tombstone;

/// A memtable that a log entry cut off, until its flush is installed. Which there are, and what is in each, is a
/// function of the log.
#[derive(Debug)]
pub(super) struct Frozen {
    /// The entry that cut it: the flush job's id, and the last entry whose samples are inside.
    pub position: Position,
    /// The cut before.
    pub log_after: u64,
    /// Cluster time at the cut.
    pub cluster_time_ms: i64,
    /// Encoder epoch of the entry that cut it.
    pub encoder_epoch: u16,
    /// Registry generation of its ordinals.
    pub generation: u64,
    /// Registry generation behind the cut.
    pub next_generation: u64,
    pub data: FrozenData,
}

/// Where the samples of a frozen memtable are.
///
/// Memory is free once the local flush is done, whenever the install comes: a replica that lags behind its leader's
/// installs holds no more memtables than its own disk makes it.
#[derive(Debug)]
pub(super) enum FrozenData {
    Memory(Box<FrozenTable>),
    /// In the segments that the local flush made.
    Flushed(Vec<SegmentView>),
}

#[derive(Debug)]
pub(super) struct FrozenTable {
    pub table: MemView,
    pub bytes: usize,
    /// Those of `bytes` that the memtable's chunks do not charge by themselves.
    pub side_bytes: usize,
    pub registry: RegistryView,
    /// Whether the flush writes a registry file, and from which ordinal on.
    pub registry_from: Option<u32>,
    /// Metadata, if it changed since the cut before.
    pub metadata: Option<Arc<MetadataMap>>,
    pub rows: PerSignal<LogTableView>,
    /// Keys of their batches in the window at the cut.
    pub window: Arc<Vec<(i64, BatchKey)>>,
    /// Metrics of all spans up to the cut, if there are spans in it.
    pub span_metrics: Option<Arc<SpanMetrics>>,
}

impl Frozen {
    pub fn table(&self) -> Option<&FrozenTable> {
        match &self.data {
            FrozenData::Memory(table) => Some(table),
            FrozenData::Flushed(_) => None,
        }
    }

    /// The first timestamp of its samples.
    fn first_metric_ms(&self) -> Option<i64> {
        match &self.data {
            FrozenData::Memory(table) => table.table.span().map(|(first, _)| first),
            FrozenData::Flushed(segments) => {
                let metrics = segments.iter().filter(|segment| segment.meta.partition.is_metrics());
                metrics.map(|segment| segment.meta.min_time).min()
            }
        }
    }

    fn flushed(&self) -> &[SegmentView] {
        match &self.data {
            FrozenData::Memory(_) => &[],
            FrozenData::Flushed(segments) => segments,
        }
    }
}

/// A store's part of the node's memory ledger.
#[derive(Debug)]
pub(super) struct Memory {
    pub ledger: MemoryLedger,
    memtables: Charge,
    series: Charge,
}

impl Memory {
    pub fn new(ledger: MemoryLedger) -> Self {
        Self {
            memtables: ledger.charge(MemoryUse::Memtables),
            series: ledger.charge(MemoryUse::Series),
            ledger,
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub options: ShardOptions,
    /// Last entry applied.
    pub applied: Position,
    pub cluster_time_ms: i64,

    pub registry: Registry,
    /// Ordinals that files cover, once the flushes begun so far are installed.
    pub registry_covered: u32,
    /// Registry files, once the flushes begun so far are installed.
    pub registry_files: usize,
    pub metadata: Arc<MetadataMap>,
    pub metadata_changed: bool,

    pub active: Memtable,
    /// Sub-batches of logs and spans beside it.
    pub rows: PerSignal<LogTable>,
    /// Keys of their batches that were applied lately.
    pub window: KeyWindow,
    /// Metrics of all spans. Readers look at them while entries are applied.
    pub span_metrics: Arc<Mutex<SpanMetrics>>,
    /// The last cut.
    pub active_after: u64,
    /// Cluster time of the first write into the active memtable.
    pub active_since_ms: Option<i64>,
    /// Oldest first.
    pub frozen: VecDeque<Frozen>,

    /// The logical manifest.
    pub manifest: Arc<Manifest>,
    /// The one on disk.
    pub durable: Arc<Manifest>,
    /// Whether `manifest` has changes that `durable` should get.
    pub dirty: bool,
    pub persisting: bool,
    /// Files of manifests that were being written since one was last known to be durable: any of them may be the one
    /// that a crash leaves, so none of their files may go.
    pub in_doubt: BTreeSet<ContentHash>,
    /// Files that nothing names are being removed.
    pub removing: bool,
    /// Open segments of `manifest`: all but damaged ones.
    pub segments: BTreeMap<ContentHash, Arc<SegmentFile>>,

    /// Operations in log order that did not take effect yet.
    pub pending: VecDeque<PendingOp>,
    /// Flushes and merges begun and not installed, by job.
    pub jobs: BTreeMap<u64, JobSlot>,
    /// Counts up when a snapshot replaces the state: results of jobs begun before are void.
    pub incarnation: u64,

    pub files: KnownFiles,
    /// Segments of the manifest that can not be read.
    pub damage: Arc<Damage>,
    /// Files being received; `None` while a piece is written.
    pub incoming: BTreeMap<ContentHash, Option<Incoming>>,
    /// Files received whole and not named by a manifest yet.
    pub received: BTreeMap<ContentHash, FileRef>,
    /// The segments among them, open.
    pub received_segments: BTreeMap<ContentHash, Arc<SegmentFile>>,

    /// Ordinals that were written to in the current observation window, for the leader's choice of a new generation.
    pub activity: super::policy::Activity,

    /// What entries changed, for caches of results.
    pub changes: Arc<Changes>,

    pub digest_mismatches: u64,
    pub failed_jobs: u64,

    /// Parts of the view that rarely change.
    pub view_parts: ViewParts,
    pub memory: Memory,
}

/// Cached parts of the read view.
#[derive(Debug, Default)]
pub(super) struct ViewParts {
    frozen: Arc<Vec<TableView>>,
    segments: Arc<Vec<SegmentView>>,
    tombstones: Arc<Vec<Tombstone>>,
    log_tombstones: Arc<Vec<LogTombstone>>,
    /// Partitions are to be dropped that are not yet: what is read now an entry already applied will take away.
    awaits_drop: bool,
}

impl State {
    /// Moves to a log position. Positions come in order, each once.
    pub fn advance(&mut self, at: LogPosition<'_>) {
        assert!(at.index > self.applied.index, "entry {} after entry {}", at.index, self.applied.index);
        self.applied.index = at.index;
        self.applied.log_id = bytes::Bytes::copy_from_slice(at.log_id);
    }

    /// The first timestamp of samples that are in no segment of the manifest yet.
    pub fn unflushed_metrics_since(&self) -> Option<i64> {
        let active = self.active.view().span().map(|(first, _)| first);
        self.frozen.iter().filter_map(Frozen::first_metric_ms).chain(active).min()
    }

    /// Cuts the memtable at the current entry and begins its flush.
    pub fn freeze(&mut self, encoder_epoch: u16, new_generation: bool) {
        let registry = self.registry.view();
        let registered = registry.len() as u32;
        let registry_from = if new_generation || registered == self.registry_covered {
            None
        } else if self.registry_files >= MAX_REGISTRY_FILES {
            Some(0)
        } else {
            Some(self.registry_covered)
        };
        match registry_from {
            Some(0) => self.registry_files = 1,
            Some(_) => self.registry_files += 1,
            None => {}
        }
        self.registry_covered = registered;
        if new_generation {
            self.registry = Registry::new(self.registry.generation() + 1);
            (self.registry_covered, self.registry_files) = (0, 0);
            self.activity = super::policy::Activity::default();
        }
        let active = std::mem::replace(&mut self.active, Memtable::new(self.memory.ledger.clone()));
        let metadata = std::mem::take(&mut self.metadata_changed).then(|| Arc::clone(&self.metadata));
        let rows = std::mem::take(&mut self.rows);
        let row_bytes: usize = rows.iter().map(LogTable::bytes).sum();
        self.window.expire(self.cluster_time_ms);
        let has_spans = !rows[RowSignal::Spans].is_empty();
        let span_metrics = has_spans.then(|| Arc::new(self.lock_span_metrics().clone()));
        let job = self.applied.index.0;
        self.frozen.push_back(Frozen {
            position: self.applied.clone(),
            log_after: std::mem::replace(&mut self.active_after, job),
            cluster_time_ms: self.cluster_time_ms,
            encoder_epoch,
            generation: registry.generation(),
            next_generation: self.registry.generation(),
            data: FrozenData::Memory(Box::new(FrozenTable {
                table: active.view(),
                bytes: active.bytes() + row_bytes,
                side_bytes: active.side_bytes() + row_bytes,
                rows: PerSignal::of(|signal| rows[signal].view()),
                window: Arc::new(self.window.entries()),
                span_metrics,
                registry,
                registry_from,
                metadata,
            })),
        });
        self.active_since_ms = None;
        self.jobs.insert(job, JobSlot::Waiting);
        self.refresh_view();
    }

    /// Registry files after the front flush is installed.
    pub fn registry_after(
        frozen: &Frozen,
        before: &[RegistryFile],
        written: Option<RegistryFile>,
    ) -> Vec<RegistryFile> {
        if frozen.next_generation != frozen.generation {
            return Vec::new();
        }
        match written {
            Some(file) if file.first == 0 => vec![file],
            Some(file) => before.iter().copied().chain([file]).collect(),
            None => before.to_vec(),
        }
    }

    /// Lets go of memtables whose flush is done here. Readers take segments for older than memtables, so only the
    /// oldest go: a flush that ended before one begun earlier waits for it.
    pub fn release_flushed(&mut self) {
        for frozen in &mut self.frozen {
            let Some(JobSlot::Done(done)) = self.jobs.get(&frozen.position.index.0) else {
                match frozen.data {
                    FrozenData::Flushed(_) => continue,
                    FrozenData::Memory(_) => break,
                }
            };
            if frozen.table().is_some() {
                let files = done.output.segments.iter().zip(&done.segments);
                let views = files
                    .map(|(meta, file)| SegmentView { meta: meta.clone(), file: Some(Arc::clone(file)) });
                frozen.data = FrozenData::Flushed(views.collect());
            }
        }
    }

    /// Nothing that could panic runs under the lock but allocation.
    pub fn lock_span_metrics(&self) -> MutexGuard<'_, SpanMetrics> {
        self.span_metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the sub-batches of logs and spans.
    fn row_bytes(&self) -> usize {
        self.rows.iter().map(LogTable::bytes).sum()
    }

    /// Bytes of all that the next flush takes.
    pub fn memtable_bytes(&self) -> usize {
        self.active.bytes() + self.row_bytes()
    }

    /// Tells the ledger what the store holds, but for what tells it by itself.
    pub fn account(&mut self) {
        let frozen = self.frozen.iter().filter_map(Frozen::table).map(|table| table.side_bytes);
        let rows = self.row_bytes() + self.window.memory_bytes() + self.lock_span_metrics().memory_bytes();
        let side = self.active.side_bytes() + rows + frozen.sum::<usize>();
        self.memory.memtables.set(side as u64);
        self.memory.series.set(self.registry.expected_bytes() as u64);
    }

    /// What readers see.
    pub fn view(&self) -> View {
        View {
            applied: self.applied.index.0,
            active: TableView {
                table: self.active.view(),
                registry: self.registry.view(),
                rows: PerSignal::of(|signal| self.rows[signal].view()),
                log_last: u64::MAX,
            },
            frozen: Arc::clone(&self.view_parts.frozen),
            segments: Arc::clone(&self.view_parts.segments),
            tombstones: Arc::clone(&self.view_parts.tombstones),
            log_tombstones: Arc::clone(&self.view_parts.log_tombstones),
            metadata: Arc::clone(&self.metadata),
            damage: Arc::clone(&self.damage),
            changes: Arc::clone(&self.changes),
            span_metrics: Arc::clone(&self.span_metrics),
            awaits_drop: self.view_parts.awaits_drop,
        }
    }

    /// To be called when memtables were cut or installed, or the manifest or the queue's deletes changed.
    pub fn refresh_view(&mut self) {
        let frozen = self.frozen.iter().filter_map(|f| {
            let FrozenTable { table, registry, rows, .. } = f.table()?;
            let (table, registry, rows) = (table.clone(), registry.clone(), rows.clone());
            Some(TableView { table, registry, rows, log_last: f.position.index.0 })
        });
        self.view_parts.frozen = Arc::new(frozen.collect());
        let mut segments: Vec<SegmentView> =
            self.manifest.segments.iter().map(|meta| self.segment_view(meta)).collect();
        segments.extend(self.frozen.iter().flat_map(|frozen| frozen.flushed()).cloned());
        // Oldest in the log first: of equal samples the first wins.
        segments.sort_by_key(|s| (s.meta.log_after, s.meta.partition));
        self.view_parts.segments = Arc::new(segments);
        self.view_parts.awaits_drop = self.pending.iter().any(PendingOp::drops);
        // A delete hides from the moment it is applied, even if its turn in the queue has not come.
        let waiting = self.pending.iter().filter_map(PendingOp::tombstone);
        self.view_parts.tombstones =
            Arc::new(self.manifest.tombstones.iter().chain(waiting).cloned().collect());
        let waiting = self.pending.iter().filter_map(PendingOp::log_tombstone);
        self.view_parts.log_tombstones =
            Arc::new(self.manifest.log_tombstones.iter().chain(waiting).cloned().collect());
    }

    /// A segment that the manifest names, with its file unless that is damaged.
    pub fn segment_view(&self, meta: &SegmentMeta) -> SegmentView {
        SegmentView { meta: meta.clone(), file: self.segments.get(&meta.file.hash).cloned() }
    }

    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty()
            || !self.jobs.is_empty()
            || self.persisting
            || self.dirty
            || self.files.has_removable()
    }

    pub fn missing_files(&self) -> Vec<FileRef> {
        let segments = self.manifest.segments.iter().map(|s| s.file);
        let mut missing = self.missing_results();
        missing.extend(segments.filter(|file| self.is_damaged(file)));
        missing
    }

    /// Whether a segment of the manifest is to be replaced by a peer's copy.
    pub fn is_damaged(&self, file: &FileRef) -> bool {
        self.damage.contains(file)
    }

    pub fn segment_bytes(&self) -> u64 {
        self.manifest.segments.iter().map(|s| s.file.len_bytes).sum()
    }

    pub fn stats(&self) -> ShardStats {
        let segments = &self.manifest.segments;
        let sum = |of: fn(&SegmentMeta) -> u64| segments.iter().map(of).sum();
        let rows_of =
            |signal| segments.iter().filter(|s| s.partition.rows() == Some(signal)).map(|s| s.samples).sum();
        ShardStats {
            applied_index: self.applied.index.0,
            flushed_index: self.durable.flushed_index(),
            series: self.registry.len() as u64,
            generation: self.registry.generation(),
            registry_bytes: self.registry.bytes() as u64,
            memtable_bytes: self.memtable_bytes() as u64,
            memtable_samples: self.active.samples(),
            memtable_records: self.rows[RowSignal::Logs].rows(),
            memtable_spans: self.rows[RowSignal::Spans].rows(),
            window_keys: self.window.len() as u64,
            frozen_memtables: self.frozen.len() as u64,
            frozen_bytes: self.frozen.iter().filter_map(Frozen::table).map(|table| table.bytes as u64).sum(),
            segments: self.manifest.segments.len() as u64,
            segment_bytes: self.segment_bytes(),
            segment_samples: sum(|s| if s.partition.is_metrics() { s.samples } else { 0 }),
            segment_records: rows_of(RowSignal::Logs),
            segment_spans: rows_of(RowSignal::Spans),
            merges: self.manifest.merges.len() as u64,
            tombstones: (self.view_parts.tombstones.len() + self.view_parts.log_tombstones.len()) as u64,
            pending_ops: self.pending.len() as u64,
            duplicates: self.manifest.duplicates,
            flushed_bytes: self.manifest.flushed_bytes,
            merged_bytes: self.manifest.merged_bytes,
            digest_mismatches: self.digest_mismatches,
            failed_jobs: self.failed_jobs,
        }
    }
}

/// With so many files the next flush that registers series writes all of them anew.
const MAX_REGISTRY_FILES: usize = 16;
