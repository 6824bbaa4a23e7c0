//! What a backup reads of a shard: its manifest at a moment of which everything lies in segments, and the files.
//!
//! ```text
//! capture(shard) ─► leader: begin a flush, wait until it is durable ─► the manifest's bytes
//! file_piece(shard, file, offset) ─► a replica that has the file: all that have it have the same bytes
//! ```
//!
//! The flush is what makes the manifest the whole truth up to a position of the shard's log: whatever was acknowledged
//! before the capture is in its segments. The files are not kept for who asks: a merge may retire one before it was read,
//! and then the shard is captured again. What was read already stays good, because a file's name is its content.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::{AsyncRuntime, Instant};
use protocol::error::ErrorKind;
use protocol::ids::{NodeId, ShardId};
use storage::manifest::FileRef;

use crate::env::{Env, StepKind};
use crate::error::ClusterError;
use crate::network::fetch;
use crate::network::rpc::{FILE_CHUNK_BYTES, Refusal, Request};
use crate::node::Node;

/// How long one attempt at a leader may take: a flush of a full memtable on a slow disk.
const ATTEMPT: Duration = Duration::from_secs(60);

impl<E: Env> Node<E> {
    /// Flushes a shard and gives the bytes of the manifest that covers everything acknowledged before the call.
    pub async fn capture(self: &Arc<Self>, shard: ShardId, timeout: Duration) -> Result<Bytes, ClusterError> {
        if !self.meta().shards.contains_key(&shard) {
            return Err(ClusterError::Refused { reason: format!("there is no shard {shard}") });
        }
        let deadline = <E::Runtime as AsyncRuntime>::Instant::now() + timeout;
        let captured = Self::until(deadline, |left| self.capture_at_leader(shard, left)).await;
        captured.map_err(|reason| ClusterError::Timeout { what: "capturing a shard", reason })
    }

    async fn capture_at_leader(self: &Arc<Self>, shard: ShardId, left: Duration) -> Result<Bytes, String> {
        let timeout = left.min(ATTEMPT);
        match self.leader_of(shard) {
            None => Err("no leader is known".to_owned()),
            Some(leader) if leader == self.id() => {
                self.capture_here(shard, timeout).await.map_err(|e| e.to_string())
            }
            Some(leader) => {
                let request = Request::Capture { shard };
                self.context.peers.call(leader, &request, timeout).await.map_err(|e| e.to_string())
            }
        }
    }

    /// Captures a shard that this node leads.
    pub(super) async fn capture_here(&self, shard: ShardId, timeout: Duration) -> Result<Bytes, Refusal> {
        let group = self.group(shard).ok_or(Refusal::NotHosted)?;
        let store = &group.shard.as_ref().ok_or(Refusal::NotHosted)?.store;
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + timeout;
        let header = group.command_header();
        let command = store.begin_flush_command(header.encoder_epoch, header.cluster_time_ms);
        let unknown = |reason: &str| Refusal::Unknown { reason: reason.to_owned() };
        let (index, _) = match E::Runtime::timeout(timeout, group.submit(command.encode())).await {
            Ok(submitted) => submitted.map_err(|e| e.into_refusal())?,
            Err(_) => return Err(unknown("the flush was not committed in time")),
        };
        loop {
            group.wake.wake();
            let snapshot = store.manifest_for_snapshot();
            if snapshot.position().is_some_and(|position| position.index >= index) {
                return Ok(snapshot.bytes().clone());
            }
            if now() >= deadline || !group.is_leader() {
                return Err(unknown("the flush was begun but did not end here"));
            }
            E::Runtime::sleep(super::POLL).await;
        }
    }

    /// A piece of a file of a shard, from here or from whoever has it. `None` if no replica that answers has it any more.
    pub async fn file_piece(
        self: &Arc<Self>,
        shard: ShardId,
        file: FileRef,
        offset: u64,
    ) -> Result<Option<Bytes>, ClusterError> {
        let group = self.group(shard);
        if let Some(store) = group.as_ref().and_then(|group| group.shard.as_ref()).map(|s| s.store.clone()) {
            let read = move || store.read_file_chunk(&file, offset, FILE_CHUNK_BYTES as usize);
            if let Ok(piece) = self.context.env.run_step(StepKind::Transfer, read).await {
                return Ok(Some(piece));
            }
        }
        let meta = self.meta();
        let known =
            meta.shards.get(&shard).map(|shard| shard.replicas.keys().copied().collect::<Vec<NodeId>>());
        let mut failure = None;
        for node in known.unwrap_or_default().into_iter().filter(|node| *node != self.id()) {
            match fetch(&self.context.peers, node, shard, file, offset, FILE_CHUNK_BYTES).await {
                Ok(piece) => return Ok(Some(piece)),
                Err(error) => {
                    let gone = matches!(
                        error.refusal(),
                        Some(Refusal::Failed { kind: ErrorKind::NotFound, .. } | Refusal::NotHosted)
                    );
                    failure = failure.or_else(|| (!gone).then(|| error.to_string()));
                }
            }
        }
        match failure {
            None => Ok(None),
            Some(reason) => Err(ClusterError::Timeout { what: "reading a shard's file", reason }),
        }
    }
}
