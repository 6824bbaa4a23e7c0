//! The memtable of logs, or that of spans: sub-batches as they came, in the order of the log.
//!
//! Nothing is decoded but the head and what checking took, of which the trace ids are kept as hashes: a trace is looked for
//! in many sub-batches and lies in few. Whoever reads decodes what it needs. Snapshots are views of an
//! append-only vector, as in [`crate::memtable`].

use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::TenantId;
use protocol::logs::batch::LogBatch;
use xxhash_rust::xxh3::xxh3_64;

use crate::append::{AppendVec, AppendView};

/// Bytes that a sub-batch takes beside its own.
const OVERHEAD: usize = 160;

/// A sub-batch that was checked when it was applied.
#[derive(Debug)]
pub struct HeldBatch {
    /// Whose records.
    pub tenant: TenantId,
    /// Its bytes.
    pub bytes: Bytes,
    /// Number of records, not 0.
    pub rows: usize,
    /// First and last time.
    pub span: (i64, i64),
    /// Hashes of the trace ids, sorted.
    traces: Box<[u64]>,
}

impl HeldBatch {
    /// Whether it may have rows of a trace: `false` only if it has none.
    pub fn may_hold(&self, trace_id: &[u8; 16]) -> bool {
        self.traces.binary_search(&xxh3_64(trace_id)).is_ok()
    }
}

/// The writer's side.
#[derive(Debug, Default)]
pub struct LogTable {
    batches: AppendVec<Arc<HeldBatch>>,
    bytes: usize,
    rows: u64,
}

/// What a reader sees.
#[derive(Clone, Debug)]
pub struct LogTableView {
    batches: AppendView<Arc<HeldBatch>>,
    rows: u64,
}

impl LogTable {
    /// Takes a sub-batch; one without records leaves no trace.
    pub fn push(&mut self, bytes: &[u8], batch: &LogBatch) {
        let Some(span) = batch.span() else { return };
        let mut traces: Vec<u64> = Vec::new();
        for run in batch.rows.traces().chunk_by(|a, b| a == b).filter(|run| run[0] != [0; 16]) {
            traces.push(xxh3_64(&run[0]));
        }
        traces.sort_unstable();
        traces.dedup();
        self.bytes += bytes.len() + traces.len() * size_of::<u64>() + OVERHEAD;
        self.rows += batch.rows.len() as u64;
        self.batches.push(Arc::new(HeldBatch {
            tenant: batch.tenant.clone(),
            bytes: Bytes::copy_from_slice(bytes),
            rows: batch.rows.len(),
            span,
            traces: traces.into(),
        }));
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of records.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// A view of what is in it.
    pub fn view(&self) -> LogTableView {
        LogTableView { batches: self.batches.view(), rows: self.rows }
    }
}

impl LogTableView {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Number of records.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Sub-batches, oldest in the log first.
    pub fn batches(&self) -> impl Iterator<Item = &Arc<HeldBatch>> {
        self.batches.iter()
    }
}
