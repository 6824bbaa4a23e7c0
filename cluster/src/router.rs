//! The write side of the cluster: a decoded request goes to the shards that own its series.
//!
//! ```text
//! WriteBatch --prepare--> sub-batches, per shard --deliver--> receipt
//!             |  cache: fingerprint -> (shard, ordinal)        |  all shards at once, each until its deadline
//!             |  miss: labels -> checked, id, slot, shard      |  ordinals of new series -> cache, in request order
//!             |  timestamps against retention and future       |  stale ordinals -> the same rows with labels
//! ```
//!
//! The way of a sample is two array look-ups and an append: the series' fingerprint is found in the [cache](series_cache),
//! usually behind the last hit, and its ordinal, time and value are appended to its shard's sub-batch. Labels are touched
//! only at first contact. [`Router::prepare`] is pure computation and may run on any thread; [`Router::deliver`] waits.
//!
//! What a caller may rely on:
//! - An `Ok` means that every row that was not rejected is durable on a quorum and applied; rejected rows are counted and
//!   the first of them named.
//! - An error means that nothing is promised: parts may be written. The same request may be sent again, because a sample
//!   is identified by its series and time, and writing it twice changes nothing.
//! - A request is atomic per sub-batch, and one shard's share is one sub-batch unless it is larger than
//!   [`RouterConfig::max_part_bytes`].

pub mod logs;
mod metadata_cache;
mod relabel;
pub mod series_cache;
pub mod shard_writer;
pub mod spans;
mod split;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use openraft_rt::{AsyncRuntime, Instant};
use protocol::batch::SubBatchOutcome;
use protocol::commit_token::CommitToken;
use protocol::error::ErrorKind;
use protocol::ids::{ClusterSecret, LogIndex, Ordinal, ShardId, TenantId};
use protocol::logs::batch::{LogBatchOutcome, RecordTooLong};
use protocol::retention::{Ages, Retention};
use protocol::write_batch::{FingerprintKey, Rejections, WriteBatch};

use metadata_cache::MetadataCache;
use series_cache::{Learned, SeriesCache};
use shard_writer::{Proposed, ShardWriter, WriteError};
use split::{Part, Split};

/// Bytes that a series takes in the cache, roughly: table slots that are half full, and the run that orders them.
pub const CACHED_SERIES_BYTES: u64 = 45;

const DAY_MS: i64 = 86_400_000;

/// Settings of a router.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// How old a sample, log record or span may be. What is kept without end is taken from 1970 on.
    pub retention: Arc<Retention>,
    /// How far ahead of cluster time a sample, record or span may be.
    pub max_future: Duration,
    /// How long a request may look for leaders before it fails as a whole.
    pub deadline: Duration,
    /// How long one attempt at a leader may take. Shorter than `deadline`, so that one that fell silent does not use up
    /// all of it.
    pub attempt_timeout: Duration,
    /// Series that the cache remembers, of all tenants together; some 45 bytes each.
    pub cache_series: usize,
    /// Most bytes of labels that one request may bring at first contact, once they are written out.
    pub max_label_bytes: usize,
    /// From this length on a sub-batch is cut, so that an entry fits a frame between peers.
    pub max_part_bytes: usize,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            retention: Arc::new(Retention::of_all(Ages {
                metrics: Some(30 * DAY_MS),
                logs: Some(14 * DAY_MS),
                spans: Some(14 * DAY_MS),
                ..Ages::default()
            })),
            max_future: Duration::from_secs(600),
            deadline: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(2),
            cache_series: 4 << 20,
            max_label_bytes: 64 << 20,
            max_part_bytes: 2 << 20,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteReceipt {
    /// Float samples written, those that were stored before included.
    pub samples: u64,
    /// Histogram samples written.
    pub histograms: u64,
    /// Exemplars written.
    pub exemplars: u64,
    /// What was refused.
    pub rejections: Rejections,
    /// Which entries hold it.
    pub token: CommitToken,
}

/// Why a request has no receipt. Parts of it may be written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RouteError {
    /// Timestamps can not be judged, because this node does not know the cluster's time.
    #[error("this node's clock disagrees with the cluster's; try another node")]
    NoClusterTime,
    /// Shards whose part is not known to be written.
    #[error("{}", name_failures(.failures))]
    Shards {
        /// The last error of each.
        failures: Vec<(ShardId, WriteError)>,
    },
    /// A log record or span is too long to be sent.
    #[error(transparent)]
    RecordTooLong(RecordTooLong),
    /// The labels of new series are too long together.
    #[error("the labels of the request's new series take more than {limit} bytes; send fewer series at once")]
    TooManyLabelBytes {
        /// How many they may take.
        limit: usize,
    },
}

fn name_failures(failures: &[(ShardId, WriteError)]) -> String {
    let shards = failures.iter().map(|(shard, _)| shard.to_string()).collect::<Vec<_>>().join(", ");
    let reason = failures.first().map(|(_, error)| error.to_string()).unwrap_or_default();
    format!("the write to shard {shards} is not confirmed: {reason}")
}

impl RouteError {
    /// The kind of error this is to the client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoClusterTime => ErrorKind::Unavailable,
            Self::TooManyLabelBytes { .. } | Self::RecordTooLong(_) => ErrorKind::LimitExceeded,
            // Full is full only where nothing worse happened.
            Self::Shards { failures } => {
                let full = failures.iter().all(|(_, error)| error.kind() == ErrorKind::ResourceExhausted);
                if full { ErrorKind::ResourceExhausted } else { ErrorKind::Unavailable }
            }
        }
    }
}

/// Counters for the node's own metrics. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Series messages that the cache knew.
    pub cache_hits: u64,
    /// Series messages whose labels were read.
    pub cache_misses: u64,
    /// Series in the cache now.
    pub cached_series: u64,
    /// Sub-batches sent, each attempt counted.
    pub proposals: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Sub-batches that were sent again with labels.
    pub stale: u64,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    proposals: AtomicU64,
    retries: AtomicU64,
    stale: AtomicU64,
    batches: AtomicU64,
}

/// Gets write requests to their shards. One per node, shared by all connections.
pub struct Router<W> {
    writer: Arc<W>,
    secret: ClusterSecret,
    key: FingerprintKey,
    config: RouterConfig,
    cache: SeriesCache,
    metadata: MetadataCache,
    counters: Counters,
    /// Tells this router's batches without a key from those of others.
    nonce: u64,
}

/// A request, split and ready to be delivered.
pub struct Prepared {
    tenant: TenantId,
    batch: WriteBatch,
    split: Split,
    metadata_epoch: i64,
}

impl<W: ShardWriter> Router<W> {
    /// A router over a node that has joined its cluster.
    pub fn new(writer: Arc<W>, config: RouterConfig) -> Self {
        let secret = writer.secret();
        Self {
            key: FingerprintKey::new(&secret),
            cache: SeriesCache::new(config.cache_series),
            metadata: MetadataCache::default(),
            counters: Counters::default(),
            nonce: writer.nonce(),
            writer,
            secret,
            config,
        }
    }

    /// The key that requests must be decoded with.
    pub fn fingerprint_key(&self) -> &FingerprintKey {
        &self.key
    }

    /// Counters so far.
    pub fn stats(&self) -> RouterStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RouterStats {
            cache_hits: get(&self.counters.hits),
            cache_misses: get(&self.counters.misses),
            cached_series: self.cache.len() as u64,
            proposals: get(&self.counters.proposals),
            retries: get(&self.counters.retries),
            stale: get(&self.counters.stale),
        }
    }

    /// Writes a request: [`Self::prepare`], then [`Self::deliver`].
    pub async fn write(&self, tenant: &TenantId, batch: WriteBatch) -> Result<WriteReceipt, RouteError> {
        self.deliver(self.prepare(tenant, batch)?).await
    }

    /// Splits a request by shard. Computes only; a large request takes milliseconds.
    pub fn prepare(&self, tenant: &TenantId, batch: WriteBatch) -> Result<Prepared, RouteError> {
        let now_ms = self.writer.cluster_time_ms().ok_or(RouteError::NoClusterTime)?;
        let split = split::Splitter {
            tenant,
            batch: &batch,
            secret: &self.secret,
            tenant_print: self.key.tenant(tenant),
            map: &self.writer.shard_map(),
            cache: &self.cache,
            metadata: &self.metadata,
            config: &self.config,
            now_ms,
        }
        .run()?;
        let misses = split.new_series.len() as u64;
        self.counters.misses.fetch_add(misses, Ordering::Relaxed);
        self.counters.hits.fetch_add((batch.series_len() as u64).saturating_sub(misses), Ordering::Relaxed);
        Ok(Prepared { tenant: tenant.clone(), batch, split, metadata_epoch: MetadataCache::epoch(now_ms) })
    }

    /// Sends all parts, waits for all shards, and learns the ordinals of new series.
    pub async fn deliver(&self, mut prepared: Prepared) -> Result<WriteReceipt, RouteError> {
        let deadline = InstantOf::<W>::now() + self.config.deadline;
        let parts = std::mem::take(&mut prepared.split.parts);
        let shards =
            parts.into_iter().map(|(shard, parts)| self.deliver_shard(&prepared, shard, parts, deadline));
        let results = join_all(shards).await;

        let mut receipt =
            WriteReceipt { rejections: prepared.split.rejections.clone(), ..Default::default() };
        let mut learned = Vec::new();
        let mut failures = Vec::new();
        for delivery in results {
            receipt.samples += delivery.rows[0];
            receipt.histograms += delivery.rows[1];
            receipt.exemplars += delivery.rows[2];
            receipt.rejections.merge(&delivery.rejections);
            if let Some(index) = delivery.index {
                receipt.token.note(delivery.shard, index);
            }
            learned.extend(delivery.learned);
            failures.extend(delivery.failure.map(|error| (delivery.shard, error)));
        }
        self.learn(&prepared, learned);
        if !failures.is_empty() {
            return Err(RouteError::Shards { failures });
        }
        self.metadata.confirm(prepared.metadata_epoch, &prepared.split.metadata_prints);
        Ok(receipt)
    }

    /// Fills the cache in request order, so that the next request finds its series one behind the other.
    fn learn(&self, prepared: &Prepared, mut learned: Vec<(u32, Learned)>) {
        learned.extend_from_slice(&prepared.split.keep);
        learned.sort_unstable_by_key(|(series, _)| *series);
        let tenant_print = self.key.tenant(&prepared.tenant);
        self.cache.insert(learned.into_iter().map(|(series, learned)| {
            let fingerprint = prepared.batch.series(series as usize).fingerprint() ^ tenant_print;
            (fingerprint, learned)
        }));
    }

    /// Delivers one shard's parts, one after the other: equal samples of a request are to meet in its order.
    async fn deliver_shard(
        &self,
        prepared: &Prepared,
        shard: ShardId,
        parts: Vec<Part>,
        deadline: InstantOf<W>,
    ) -> ShardDelivery {
        let mut delivery = ShardDelivery::new(shard);
        let mut queue = VecDeque::from(parts);
        while let Some(part) = queue.pop_front() {
            let again = match self.propose(shard, &part.bytes, deadline).await {
                Ok(proposed) => self.take(prepared, &part, proposed, &mut delivery),
                Err(error) => Err(error),
            };
            match again {
                Ok(parts) => parts.into_iter().rev().for_each(|part| queue.push_front(part)),
                Err(error) => {
                    delivery.failure = Some(error);
                    break;
                }
            }
        }
        delivery
    }

    /// Takes an outcome in. Returns what is to be sent instead, where the shard did not take the part.
    fn take(
        &self,
        prepared: &Prepared,
        part: &Part,
        proposed: Proposed,
        delivery: &mut ShardDelivery,
    ) -> Result<Vec<Part>, WriteError> {
        let shard = delivery.shard;
        match proposed.outcome {
            SubBatchOutcome::Applied {
                generation,
                new_ordinals,
                series_limit,
                samples,
                histograms,
                exemplars,
            } => {
                delivery.index = delivery.index.max(Some(proposed.index));
                let taken = [samples, histograms, exemplars];
                for (sum, rows) in delivery.rows.iter_mut().zip(taken) {
                    *sum += rows;
                }
                let new = || part.new.iter().copied().zip(new_ordinals.iter().copied());
                let learned = |ordinal: Ordinal| Learned { shard, ordinal, generation };
                delivery.learned.extend(new().filter_map(|(series, o)| Some((series, learned(o?)))));
                if series_limit > 0 {
                    let refused = new().filter_map(|(series, ordinal)| ordinal.is_none().then_some(series));
                    delivery.refuse(prepared, part, series_limit, refused, taken);
                }
                Ok(Vec::new())
            }
            SubBatchOutcome::StaleRegistry { generation } => {
                self.counters.stale.fetch_add(1, Ordering::Relaxed);
                self.cache.advance_generation(shard, generation);
                if !relabel::view(part).uses_ordinals() {
                    // A leader that calls a batch without ordinals stale is not to be asked for ever.
                    let reason = "it calls a batch without ordinals stale".to_owned();
                    return Err(WriteError::Uncertain { shard, reason });
                }
                relabel::with_labels(part, shard, prepared, &self.secret, &self.config).map_err(|_| {
                    let limit = self.config.max_label_bytes;
                    let reason =
                        format!("the labels of its series take more than {limit} bytes in one request");
                    WriteError::Overloaded { shard, reason }
                })
            }
            SubBatchOutcome::Rejected { reason } => {
                tracing::error!(%shard, %reason, "a shard can not read what this node sent");
                let rows = relabel::row_counts(&relabel::view(part));
                delivery.rejections.add_rows(rows, || format!("shard {shard}: {reason}"));
                Ok(Vec::new())
            }
        }
    }

    async fn propose(
        &self,
        shard: ShardId,
        sub_batch: &Bytes,
        deadline: InstantOf<W>,
    ) -> Result<Proposed, WriteError> {
        self.attempt(shard, deadline, |timeout| self.writer.propose(shard, sub_batch.clone(), timeout)).await
    }

    async fn propose_logs(
        &self,
        shard: ShardId,
        sub_batch: &Bytes,
        deadline: InstantOf<W>,
    ) -> Result<(LogIndex, LogBatchOutcome), WriteError> {
        let propose = |timeout| self.writer.propose_logs(shard, sub_batch.clone(), timeout);
        self.attempt(shard, deadline, propose).await
    }

    /// Proposes the same bytes until they are in, or the deadline has passed.
    async fn attempt<T, A: Future<Output = Result<T, WriteError>>>(
        &self,
        shard: ShardId,
        deadline: InstantOf<W>,
        propose: impl Fn(Duration) -> A,
    ) -> Result<T, WriteError> {
        let mut pause = Duration::from_millis(20);
        loop {
            let left = deadline.saturating_duration_since(InstantOf::<W>::now());
            self.counters.proposals.fetch_add(1, Ordering::Relaxed);
            let timeout = left.min(self.config.attempt_timeout);
            let error = match propose(timeout).await {
                Ok(proposed) => return Ok(proposed),
                Err(error) => error,
            };
            let left = deadline.saturating_duration_since(InstantOf::<W>::now());
            if !error.is_worth_another_attempt() || left <= pause {
                return Err(error);
            }
            tracing::debug!(%shard, %error, "a write is tried again");
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
            <W::Runtime as AsyncRuntime>::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

type InstantOf<W> = <<W as ShardWriter>::Runtime as AsyncRuntime>::Instant;

/// What became of one shard's share.
struct ShardDelivery {
    shard: ShardId,
    rows: [u64; 3],
    index: Option<LogIndex>,
    learned: Vec<(u32, Learned)>,
    rejections: Rejections,
    /// Series that the shard has no room for. Several parts may name the same.
    refused: BTreeSet<u32>,
    failure: Option<WriteError>,
}

impl ShardDelivery {
    fn new(shard: ShardId) -> Self {
        Self {
            shard,
            rows: [0; 3],
            index: None,
            learned: Vec::new(),
            rejections: Rejections::default(),
            refused: BTreeSet::new(),
            failure: None,
        }
    }

    /// Counts what a shard at its limit did not take of a part: all rows but `taken`.
    fn refuse(
        &mut self,
        prepared: &Prepared,
        part: &Part,
        limit: u64,
        series: impl Iterator<Item = u32>,
        taken: [u64; 3],
    ) {
        let shard = self.shard;
        for index in series.filter(|series| self.refused.insert(*series)) {
            let describe = || {
                let series = prepared.batch.series(index as usize);
                format!("{}: shard {shard} holds {limit} series already, its limit", series.describe())
            };
            self.rejections.add_series([0; 3], describe);
        }
        let [samples, histograms, exemplars] = relabel::row_counts(&relabel::view(part));
        self.rejections.samples += samples.saturating_sub(taken[0]);
        self.rejections.histograms += histograms.saturating_sub(taken[1]);
        self.rejections.exemplars += exemplars.saturating_sub(taken[2]);
    }
}

/// Parts by shard, in shard order.
type Parts = BTreeMap<ShardId, Vec<Part>>;
