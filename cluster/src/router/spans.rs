//! Spans through the router: a request is one entry on each shard that one of its traces lies on.
//!
//! ```text
//! decoder ─spans─► SpanBatchBuilder: hash(tenant, trace id) ─► slot ─► shard ─► its LogBatchBuilder, rows of spans
//!                    └─finish(key)─► a sub-batch a shard, under the key of (request, shard) ─► applied | known already
//! ```
//!
//! All spans of a trace lie on one shard, whichever request and node they come through: one that is late joins the others
//! by lying there. A request that is sent again is cut in the same way, and each shard meets the key that it remembers. An
//! error may leave some shards' shares written: sent again, those change nothing.
//!
//! The hash is keyed by the cluster's secret, so that nobody can aim traces at one shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::ids::{ClusterSecret, SLOT_COUNT, ShardId, SlotId, TenantId};
use protocol::logs::batch::{BatchKey, LogBatchBuilder, Outside, encode_shallow};
use protocol::logs::codec::is_shallow;
use protocol::logs::{LogSink, LogStream, RowSignal, TimestampNs};
use protocol::spans::{Span, SpanSink, row};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::logs::{LogReceipt, PreparedLogs};
use super::shard_writer::ShardWriter;
use super::{RouteError, Router};
use crate::shard_map::ShardMap;

/// Which slot each trace of a tenant belongs to.
#[derive(Clone, Copy, Debug)]
pub struct TraceSlots(u64);

impl TraceSlots {
    /// The slots of a tenant's traces.
    pub fn new(secret: &ClusterSecret, tenant: &TenantId) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&secret.0);
        hasher.update(b"traces");
        hasher.update(tenant.as_str().as_bytes());
        let mut seed = [0; 8];
        hasher.finalize_xof().fill(&mut seed);
        Self(u64::from_le_bytes(seed))
    }

    /// The slot of a trace.
    pub fn slot_of(&self, trace_id: &[u8; 16]) -> SlotId {
        SlotId((xxh3_64_with_seed(trace_id, self.0) % u64::from(SLOT_COUNT)) as u16)
    }
}

/// Gathers the spans of a request, shard by shard.
#[derive(Debug)]
pub struct SpanBatchBuilder {
    tenant: TenantId,
    slots: TraceSlots,
    map: Arc<ShardMap>,
    bounds: (TimestampNs, TimestampNs),
    shares: BTreeMap<ShardId, Share>,
    /// Bytes of the stream that spans belong to, none if it is nested too deep; and how many were named before.
    stream: Vec<u8>,
    streams: u64,
    /// The trace of the last span, and its slot.
    last: ([u8; 16], SlotId),
    without_id: u64,
    too_deep: u64,
    outside: Outside,
}

/// What goes to one shard.
#[derive(Debug)]
struct Share {
    /// A slot of its first trace.
    slot: SlotId,
    rows: LogBatchBuilder,
    /// The stream that it was told of last, by [`SpanBatchBuilder::streams`].
    stream: u64,
}

impl SpanSink for SpanBatchBuilder {
    fn stream(&mut self, stream: &LogStream<'_>) {
        encode_shallow(stream, &mut self.stream);
        self.streams += 1;
    }

    fn span(&mut self, span: &Span<'_>) {
        if span.trace_id == [0; 16] || span.span_id == [0; 8] {
            self.without_id += 1;
            return;
        }
        if self.stream.is_empty() || !span.all_attributes().all(|(_, value)| is_shallow(value)) {
            self.too_deep += 1;
            return;
        }
        let record = row::row_of(span);
        if !self.outside.admits(self.bounds, record.effective_ns()) {
            return;
        }
        if self.last.0 != span.trace_id {
            self.last = (span.trace_id, self.slots.slot_of(&span.trace_id));
        }
        let slot = self.last.1;
        let new = || Share { slot, rows: LogBatchBuilder::of(RowSignal::Spans), stream: 0 };
        let share = self.shares.entry(self.map.shard_of(slot)).or_insert_with(new);
        if share.stream != self.streams {
            share.rows.encoded_stream(&self.stream);
            share.stream = self.streams;
        }
        share.rows.record(&record);
    }
}

impl SpanBatchBuilder {
    fn new(
        tenant: &TenantId,
        slots: TraceSlots,
        map: Arc<ShardMap>,
        bounds: (TimestampNs, TimestampNs),
    ) -> Self {
        let mut builder = Self {
            tenant: tenant.clone(),
            slots,
            map,
            bounds,
            shares: BTreeMap::new(),
            stream: Vec::new(),
            streams: 0,
            // No span has this one.
            last: ([0; 16], SlotId(0)),
            without_id: 0,
            too_deep: 0,
            outside: Outside::default(),
        };
        // Until a stream is named.
        builder.stream(&LogStream::default());
        builder
    }

    /// Whose spans they are.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Number of spans taken.
    pub fn len(&self) -> u64 {
        self.shares.values().map(|share| share.rows.len()).sum()
    }

    /// Whether none was taken.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Spans left out because their trace id or their own is missing.
    pub fn without_id(&self) -> u64 {
        self.without_id
    }

    /// Spans left out because they, or their streams, are nested too deep.
    pub fn too_deep(&self) -> u64 {
        self.too_deep
    }

    /// Spans left out for their time: that of their start, or that of their end if they have no start.
    pub fn outside(&self) -> Outside {
        self.outside
    }

    /// A sum over all spans taken.
    fn checksum(&self) -> u64 {
        self.shares.values().fold(0, |sum, share| sum.wrapping_add(share.rows.checksum()))
    }
}

impl<W: ShardWriter> Router<W> {
    /// A builder for the spans of a request. It leaves out and counts those without ids, and those that are older than what
    /// is kept or further ahead of cluster time than allowed.
    pub fn span_batch(&self, tenant: &TenantId) -> Result<SpanBatchBuilder, RouteError> {
        let bounds = self.time_bounds(self.config.retention.of(tenant.as_str()).spans)?;
        let slots = TraceSlots::new(&self.secret, tenant);
        Ok(SpanBatchBuilder::new(tenant, slots, self.writer.shard_map(), bounds))
    }

    /// Packs a request's spans for [`Router::deliver_logs`]. Computes only; a large request takes milliseconds. Without a
    /// key the request is not recognised when it is sent again. Spans carry the client's times, so that the key of a request
    /// which declares none may always be that of its body.
    pub fn prepare_spans(
        &self,
        batch: SpanBatchBuilder,
        key: Option<BatchKey>,
    ) -> Result<PreparedLogs, RouteError> {
        let mut prepared = PreparedLogs::default();
        if batch.is_empty() {
            return Ok(prepared);
        }
        let key = match key {
            Some(key) => key,
            None => self.unique_key(&batch.tenant, batch.checksum())?,
        };
        for (shard, share) in batch.shares {
            let parts = share.rows.finish(&batch.tenant, key.of_shard(shard));
            prepared.extend(share.slot, parts.map_err(RouteError::RecordTooLong)?);
        }
        Ok(prepared)
    }

    /// Packs and sends a request. See [`Router::prepare_spans`].
    pub async fn write_spans(
        &self,
        batch: SpanBatchBuilder,
        key: Option<BatchKey>,
    ) -> Result<LogReceipt, RouteError> {
        self.deliver_logs(self.prepare_spans(batch, key)?).await
    }

    /// A key of one request that nothing else tells from others.
    pub(super) fn unique_key(&self, tenant: &TenantId, checksum: u64) -> Result<BatchKey, RouteError> {
        let now_ms = self.writer.cluster_time_ms().ok_or(RouteError::NoClusterTime)?;
        // Equal content at the same time through two nodes with equal counts would have to come together.
        let number = self.counters.batches.fetch_add(1, Ordering::Relaxed);
        let numbers = [checksum, number, self.nonce, now_ms as u64];
        Ok(BatchKey::unique(&self.secret, tenant, &numbers.map(u64::to_le_bytes).concat()))
    }
}
