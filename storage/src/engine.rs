//! The store of one shard replica: a deterministic function of the shard's log.
//!
//! ```text
//! apply(write) ──► registry + active memtable ──► published read view
//! apply(BeginFlush, DeleteSeries) ──► the memtable is cut and frozen: flush job i, named by the entry's index
//! apply(manifest operation) ──► queue, in log order ──► manifest
//!                                  ▲ an install waits at the head until the local run of its job is done
//! next_job() ─► Job::run() (off the reactor) ─► finish_job(): flush, merge, persist the manifest, remove files
//! ```
//!
//! **Determinism.** Writes change registry and memtable at once. Everything that changes the set of segments is a
//! *manifest operation* and goes through one queue, strictly in log order: installs of flushes and merges, begins of
//! merges, deletes, drops. A replica whose own flush is not done yet keeps the install waiting, serves its frozen
//! memtable meanwhile, and never makes a write wait. So the manifest at operation x is the same on all replicas,
//! however fast each is and however often it restarted; its digest says whether that held.
//!
//! **Recovery.** The durable manifest says up to which entry (`flushed`) segments hold everything; replay starts
//! behind it and rebuilds registry and memtables, cut at the same entries as before. Manifest operations that the
//! manifest already reflects (`op_index`) are skipped; merges under way are in the manifest, because their begin may
//! lie before `flushed`. The manifest is persisted by a background job: what is durable lags behind what is in
//! memory, and [`ShardStore::flushed`], which is what the log may be purged up to, speaks of the durable one.
//!
//! **Disagreement.** An install names the files that the leader made. If the local run made others, those go to
//! `quarantine/`, and [`ShardStore::missing_files`] names what to fetch from a peer by content hash.
//!
//! **Damage.** A segment that can not be read, whether found when the store is opened, by a query or by a merge, is
//! named among the missing files too, and a peer's copy takes its place. Until then reads that need it fail.
//!
//! **Files** are named by content, written aside, synced and renamed before a manifest names them, removed after a
//! manifest without them is durable and the last reader is gone.
//!
//! **Locks.** In this order: `manifest_file` (held while one is written), `state` (held while an entry is applied),
//! `published` (held for a pointer swap). Readers take only the last: a snapshot never waits for a write, nor a write for a snapshot.

mod apply;
pub(crate) mod changes;
pub(crate) mod files;
pub(crate) mod jobs;
mod ops;
mod policy;
mod state;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use protocol::batch::SubBatchView;
use protocol::command::{Command, CommandBody, CommandHeader, ContentHash};
use protocol::ids::{LogIndex, ShardId};
use protocol::memory::MemoryLedger;

use crate::error::StorageError;
use crate::fs::Fs;
use crate::manifest::{FileRef, SegmentMeta};
use crate::mutant::{self, Mutant};
use crate::scan::{StoreSnapshot, View};

pub use crate::manifest::Position;
pub use jobs::{Job, JobResult};
pub use policy::FlushPolicy;
pub use transfer::SnapshotManifest;

use state::State;

/// Settings of a shard's store. They must be equal on all replicas: outcomes depend on them.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Series that a registry generation may hold.
    pub max_series: usize,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self { max_series: 10_000_000 }
    }
}

/// A log entry's place.
#[derive(Clone, Copy, Debug)]
pub struct LogPosition<'a> {
    /// Its index.
    pub index: LogIndex,
    /// Its log id, as the caller encodes it.
    pub log_id: &'a [u8],
}

/// Digest over the logical manifest after an operation. Replicas compare digests of equal `op_index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateDigest {
    /// The last manifest operation that took effect.
    pub op_index: LogIndex,
    /// BLAKE3 over the manifest.
    pub digest: ContentHash,
}

/// Figures of a shard's store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Last entry applied.
    pub applied_index: u64,
    /// Last entry that durable segments cover.
    pub flushed_index: u64,
    /// Series in the registry.
    pub series: u64,
    /// Registry generation.
    pub generation: u64,
    /// Bytes of registry and its index.
    pub registry_bytes: u64,
    /// Bytes of the active memtable.
    pub memtable_bytes: u64,
    /// Samples in the active memtable.
    pub memtable_samples: u64,
    /// Log records in the active memtable.
    pub memtable_records: u64,
    /// Spans in the active memtable.
    pub memtable_spans: u64,
    /// Keys of batches of logs and spans in the window.
    pub window_keys: u64,
    /// Frozen memtables whose flush is not installed.
    pub frozen_memtables: u64,
    /// Bytes of those whose flush is not done here: the others are not in memory any more.
    pub frozen_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of segments.
    pub segment_bytes: u64,
    /// Samples in segments.
    pub segment_samples: u64,
    /// Log records in segments.
    pub segment_records: u64,
    /// Spans in segments.
    pub segment_spans: u64,
    /// Merges under way.
    pub merges: u64,
    /// Deletes not reflected by all segments yet.
    pub tombstones: u64,
    /// Manifest operations that wait for a job or file.
    pub pending_ops: u64,
    /// Samples dropped as duplicates since the shard began; those still in memtables do not count.
    pub duplicates: u64,
    /// Bytes of segments written by flushes since the shard began.
    pub flushed_bytes: u64,
    /// Bytes of segments written by merges since the shard began; over `flushed_bytes`: write amplification.
    pub merged_bytes: u64,
    /// Jobs whose local result differed from the installed one, since this process started.
    pub digest_mismatches: u64,
    /// Jobs that failed and will be tried again, since this process started.
    pub failed_jobs: u64,
}

/// The store of one shard replica. Clones share it.
///
/// Calls that name a log position come from one writer, in log order, each position once. The others may come from
/// anywhere.
#[derive(Debug)]
pub struct ShardStore<F: Fs> {
    shared: Arc<Shared<F>>,
}

impl<F: Fs> Clone for ShardStore<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<F: Fs> {
    fs: F,
    dir: PathBuf,
    shard: ShardId,
    options: ShardOptions,
    /// Held while a manifest is written.
    manifest_file: Mutex<()>,
    state: Mutex<State>,
    published: Mutex<Arc<View>>,
}

impl<F: Fs> std::fmt::Debug for Shared<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("shard", &self.shard).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl<F: Fs> Shared<F> {
    /// A panic while the state was locked leaves it half changed: whoever comes next must not go on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic in the store ended this replica")
    }

    fn lock_manifest(&self) -> MutexGuard<'_, ()> {
        // Guards a file that is replaced as a whole: a panic leaves nothing half done in it.
        self.manifest_file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows readers what the state is now.
    fn publish(&self, state: &mut State) {
        state.account();
        let view = Arc::new(state.view());
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

impl<F: Fs> ShardStore<F> {
    /// Opens the store of a shard in its directory, which is made if it is not there. Files that no manifest names
    /// are removed. A damaged segment is named by [`ShardStore::missing_files`]; a damaged manifest, registry or
    /// metadata file is an error, and the replica must be built anew from its peers.
    ///
    /// The log was purged up to `covered` (0: it was not): a store that does not reach so far, because its manifest is
    /// gone say, is damaged, and none of its files are touched.
    pub fn open(
        fs: F,
        dir: &Path,
        shard: ShardId,
        options: ShardOptions,
        covered: LogIndex,
    ) -> Result<Self, StorageError> {
        Self::open_within(fs, dir, shard, options, covered, MemoryLedger::default())
    }

    /// [`ShardStore::open`] for a store that counts its memory on a node's ledger.
    pub fn open_within(
        fs: F,
        dir: &Path,
        shard: ShardId,
        options: ShardOptions,
        covered: LogIndex,
        ledger: MemoryLedger,
    ) -> Result<Self, StorageError> {
        let state = files::open_state(&fs, dir, shard, options.clone(), covered, ledger)?;
        let published = Mutex::new(Arc::new(state.view()));
        let (dir, state, manifest_file) = (dir.to_owned(), Mutex::new(state), Mutex::new(()));
        let shared = Shared { fs, dir, shard, options, manifest_file, state, published };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shared.shard
    }

    /// The last position that durable segments cover: the log may be purged up to it, and replay after a restart
    /// starts behind it. `None` before the first flush.
    pub fn flushed(&self) -> Option<Position> {
        let state = self.shared.lock();
        let manifest = if mutant::is(Mutant::PurgedTooFar) { &state.manifest } else { &state.durable };
        manifest.flushed.clone()
    }

    /// The last position applied, with the membership in force there. `None` before the first entry.
    pub fn applied(&self) -> Option<Position> {
        let state = self.shared.lock();
        (state.applied.index.0 > 0).then(|| state.applied.clone())
    }

    /// Index of the last entry applied, 0 before the first.
    pub fn applied_index(&self) -> LogIndex {
        self.shared.lock().applied.index
    }

    /// Applies a command and returns the bytes of its `CommandOutcome`. Content never makes this fail: bytes that
    /// are no command are `Rejected`, the same on all replicas.
    pub fn apply(&self, at: LogPosition<'_>, command: &[u8]) -> Bytes {
        let mut state = self.shared.lock();
        let outcome = state.apply(at, command);
        self.shared.publish(&mut state);
        outcome.encode()
    }

    /// Notes an entry that changes the membership.
    pub fn set_membership(&self, at: LogPosition<'_>, membership: &[u8]) {
        let mut state = self.shared.lock();
        state.advance(at);
        state.applied.membership = Bytes::copy_from_slice(membership);
        self.shared.publish(&mut state);
    }

    /// Notes an entry without content.
    pub fn apply_blank(&self, at: LogPosition<'_>) {
        let mut state = self.shared.lock();
        state.advance(at);
        self.shared.publish(&mut state);
    }

    /// A read view of everything applied so far.
    pub fn snapshot(&self) -> StoreSnapshot {
        let published = self.shared.published.lock().unwrap_or_else(PoisonError::into_inner);
        StoreSnapshot::new(Arc::clone(&published))
    }

    /// Background work that is due here and not running. Run it anywhere, give the result to
    /// [`ShardStore::finish_job`]. Several may run at the same time.
    pub fn next_job(&self) -> Option<Job<F>> {
        jobs::next(&self.shared)
    }

    /// Takes a job's result; operations that waited for it take effect. An error means that the job failed, say on
    /// a full disk: it is due again, and the caller should wait a little before it asks for it.
    pub fn finish_job(&self, result: JobResult) -> Result<(), StorageError> {
        let mut state = self.shared.lock();
        let outcome = jobs::finish(&self.shared, &mut state, result);
        self.shared.publish(&mut state);
        outcome
    }

    /// What this shard's leader should propose next, `None` if nothing is due. Pure: propose it, wait until it is
    /// applied here, ask again.
    pub fn propose(&self, policy: &FlushPolicy, cluster_time_ms: i64) -> Option<Command<'static>> {
        let body = policy::propose(&self.shared.lock(), policy, cluster_time_ms)?;
        Some(Command { header: CommandHeader { encoder_epoch: policy.encoder_epoch, cluster_time_ms }, body })
    }

    /// The command that flushes what the memtable holds, whatever the policy says: for memory or log pressure that
    /// a follower reports.
    pub fn begin_flush_command(&self, encoder_epoch: u16, cluster_time_ms: i64) -> Command<'static> {
        let body = CommandBody::BeginFlush { new_generation: false };
        Command { header: CommandHeader { encoder_epoch, cluster_time_ms }, body }
    }

    /// Whether memory will be free as soon as a flush that was begun is done here.
    pub fn is_flushing(&self) -> bool {
        self.shared.lock().frozen.iter().any(|frozen| frozen.table().is_some())
    }

    /// Whether background work or operations are outstanding here.
    pub fn is_busy(&self) -> bool {
        self.shared.lock().is_busy()
    }

    /// Files to fetch from a peer and give to [`ShardStore::receive_file`]: those that operations wait for because
    /// the local result differs from the installed one, and copies of segments that were found damaged.
    pub fn missing_files(&self) -> Vec<FileRef> {
        self.shared.lock().missing_files()
    }

    /// Bytes of the segments: [`ShardStats::segment_bytes`] alone.
    pub fn segment_bytes(&self) -> u64 {
        self.shared.lock().segment_bytes()
    }

    /// Bytes of all files on disk, of those too that go once nobody reads them any more.
    pub fn file_bytes(&self) -> u64 {
        self.shared.lock().files.bytes()
    }

    /// The segments of the manifest, by time.
    pub fn segments(&self) -> Vec<SegmentMeta> {
        let mut segments = self.shared.lock().manifest.segments.clone();
        segments.sort_by_key(|segment| (segment.min_time, segment.file));
        segments
    }

    /// Figures.
    pub fn stats(&self) -> ShardStats {
        self.shared.lock().stats()
    }

    /// Whether a sub-batch of samples names a series that is not registered. Nothing else does.
    pub fn brings_series(&self, sub_batch: &[u8]) -> bool {
        let Ok(batch) = SubBatchView::parse(sub_batch) else { return false };
        let state = self.shared.lock();
        batch.new_series().any(|series| state.registry.ordinal(batch.tenant(), series.label_bytes).is_none())
    }

    /// Digest of the logical manifest.
    pub fn digest(&self) -> StateDigest {
        let state = self.shared.lock();
        StateDigest { op_index: LogIndex(state.manifest.op_index), digest: state.manifest.digest() }
    }
}

#[cfg(test)]
mod tests;
