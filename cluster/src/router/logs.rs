//! Logs through the router: a request is one entry on one shard.
//!
//! ```text
//! decoder ─records─► LogBatchBuilder ─finish(key)─► sub-batch ─► shard of the key's slot ─► applied | known already
//! ```
//!
//! The shard follows from the batch's key, so a repeated request meets the shard that remembers it, whichever node it
//! comes through. Records without client time can not be recognised by their content: such requests get a key of their
//! own, which keeps the router's own attempts apart from new requests. A request too long for one sub-batch becomes
//! several, each with a key made from the request's; they may lie on different shards, and an error may leave some of
//! them written: sent again, those change nothing.

use bytes::Bytes;
use openraft_rt::Instant;
use protocol::commit_token::CommitToken;
use protocol::ids::{SLOT_COUNT, SlotId, TenantId};
use protocol::logs::TimestampNs;
use protocol::logs::batch::{BatchKey, LogBatchBuilder, LogBatchOutcome};

use super::shard_writer::{ShardWriter, WriteError};
use super::{InstantOf, RouteError, Router};

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReceipt {
    /// Records that are stored, those of an earlier attempt included.
    pub records: u64,
    /// Whether all of it was there before.
    pub repeated: bool,
    /// Which entries hold it.
    pub token: CommitToken,
}

/// Records or spans that are packed and wait to be sent. A copy is the same request again, under the same keys.
#[derive(Clone, Debug, Default)]
pub struct PreparedLogs(Vec<(SlotId, Bytes)>);

impl PreparedLogs {
    /// Adds sub-batches for the shard of a slot.
    pub(super) fn extend(&mut self, slot: SlotId, parts: Vec<(BatchKey, Bytes)>) {
        self.0.extend(parts.into_iter().map(|(_, bytes)| (slot, bytes)));
    }
}

/// The slot of a key: the key is a keyed hash of the tenant and what tells the batch from others.
fn slot_of(key: BatchKey) -> SlotId {
    SlotId(u16::from_le_bytes([key.0[0], key.0[1]]) % SLOT_COUNT)
}

impl<W: ShardWriter> Router<W> {
    /// A builder for the records of a tenant's request. It leaves out and counts those that are older than what is kept or further
    /// ahead of cluster time than allowed.
    pub fn log_batch(&self, tenant: &TenantId) -> Result<LogBatchBuilder, RouteError> {
        let (oldest, newest) = self.time_bounds(self.config.retention.of(tenant.as_str()).logs)?;
        Ok(LogBatchBuilder::within(oldest, newest))
    }

    /// First and last time of what is taken now, of what is kept for so many milliseconds.
    pub(super) fn time_bounds(&self, kept_ms: Option<i64>) -> Result<(TimestampNs, TimestampNs), RouteError> {
        let now_ms = self.writer.cluster_time_ms().ok_or(RouteError::NoClusterTime)?;
        let max_future = i64::try_from(self.config.max_future.as_millis()).unwrap_or(i64::MAX);
        let oldest = kept_ms.map_or(0, |age| now_ms.saturating_sub(age));
        let newest = now_ms.saturating_add(max_future);
        Ok((oldest.saturating_mul(1_000_000), newest.saturating_mul(1_000_000)))
    }

    /// The key of a request that declared one.
    pub fn declared_key(&self, tenant: &TenantId, key: &str) -> BatchKey {
        BatchKey::declared(&self.secret, tenant, key)
    }

    /// The key of a request whose records all carry the client's time.
    pub fn body_key(&self, tenant: &TenantId, decompressed: &[u8]) -> BatchKey {
        BatchKey::of_body(&self.secret, tenant, decompressed)
    }

    /// Packs a request's records. Computes only; a large request takes milliseconds. Without a key the request is not
    /// recognised when it is sent again.
    pub fn prepare_logs(
        &self,
        tenant: &TenantId,
        batch: LogBatchBuilder,
        key: Option<BatchKey>,
    ) -> Result<PreparedLogs, RouteError> {
        if batch.is_empty() {
            return Ok(PreparedLogs::default());
        }
        let key = match key {
            Some(key) => key,
            None => self.unique_key(tenant, batch.checksum())?,
        };
        let parts = batch.finish(tenant, key).map_err(RouteError::RecordTooLong)?;
        Ok(PreparedLogs(parts.into_iter().map(|(key, bytes)| (slot_of(key), bytes)).collect()))
    }

    /// Packs and sends a request. See [`Router::prepare_logs`].
    pub async fn write_logs(
        &self,
        tenant: &TenantId,
        batch: LogBatchBuilder,
        key: Option<BatchKey>,
    ) -> Result<LogReceipt, RouteError> {
        self.deliver_logs(self.prepare_logs(tenant, batch, key)?).await
    }

    /// Sends what was packed and waits for all shards.
    pub async fn deliver_logs(&self, prepared: PreparedLogs) -> Result<LogReceipt, RouteError> {
        let PreparedLogs(parts) = prepared;
        let mut receipt = LogReceipt::default();
        if parts.is_empty() {
            return Ok(receipt);
        }
        let map = self.writer.shard_map();
        let deadline = InstantOf::<W>::now() + self.config.deadline;
        let sent = parts.into_iter().map(|(slot, bytes)| {
            let shard = map.shard_of(slot);
            async move { (shard, self.propose_logs(shard, &bytes, deadline).await) }
        });
        let mut failures = Vec::new();
        receipt.repeated = true;
        for (shard, result) in futures_util::future::join_all(sent).await {
            match result {
                Ok((index, outcome)) => match outcome {
                    LogBatchOutcome::Applied { records } => {
                        receipt.records += records;
                        receipt.repeated = false;
                        receipt.token.note(shard, index);
                    }
                    LogBatchOutcome::Duplicate { records } => {
                        receipt.records += records;
                        receipt.token.note(shard, index);
                    }
                    LogBatchOutcome::WindowFull { keys } => {
                        let reason = format!(
                            "it remembers {keys} requests of logs and spans of the last minutes, its limit"
                        );
                        failures.push((shard, WriteError::Overloaded { shard, reason }));
                    }
                    LogBatchOutcome::Rejected { reason } => {
                        tracing::error!(%shard, %reason, "a shard can not read what this node sent");
                        failures.push((shard, WriteError::Uncertain { shard, reason }));
                    }
                },
                Err(error) => failures.push((shard, error)),
            }
        }
        if failures.is_empty() { Ok(receipt) } else { Err(RouteError::Shards { failures }) }
    }
}
