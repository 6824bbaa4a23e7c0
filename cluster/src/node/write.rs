//! The write side: a sub-batch goes to the shard's leader, wherever that is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::{AsyncRuntime, Instant, Select2, WatchReceiver};
use protocol::batch::SubBatchOutcome;
use protocol::ids::{ClusterSecret, LogIndex, NodeId, ShardId};
use protocol::logs::batch::LogBatchOutcome;

use crate::env::Env;
use crate::network::rpc::{ProposeAnswer, Refusal, Request};
use crate::node::Node;
use crate::router::shard_writer::{Proposed, ShardWriter, WriteError};
use crate::shard::proposer::ProposeError;
use crate::shard_map::ShardMap;

/// How many nodes are asked, each hinting at the next, before news are waited for.
const MAX_HOPS: usize = 3;
/// How long news of another leader are waited for before the known one is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl<E: Env> Node<E> {
    /// Proposes to a shard that this node leads.
    pub(crate) async fn propose_here(
        &self,
        shard: ShardId,
        sub_batch: Bytes,
        timeout: Duration,
    ) -> Result<ProposeAnswer, ProposeError> {
        match self.group(shard) {
            Some(group) => group.propose(sub_batch, timeout).await,
            None => Err(ProposeError::NotLeader(self.leader_of(shard))),
        }
    }

    async fn propose_at(
        &self,
        node: NodeId,
        shard: ShardId,
        sub_batch: Bytes,
        timeout: Duration,
    ) -> Result<ProposeAnswer, ProposeError> {
        if node == self.id() {
            return self.propose_here(shard, sub_batch, timeout).await;
        }
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let request = Request::Propose { shard, timeout_ms, sub_batch };
        let call = Box::pin(self.context.peers.call(node, &request, timeout));
        let answer = match E::Runtime::select2(call, Box::pin(self.succeeded(node, shard))).await {
            Select2::First(answer) => answer,
            Select2::Second(leader) => {
                return Err(ProposeError::Unknown(format!("{leader} leads before {node} answered")));
            }
        };
        answer.map_err(|e| match e.refusal() {
            Some(Refusal::NotLeader { leader }) => ProposeError::NotLeader(*leader),
            Some(Refusal::Overloaded { queued_bytes }) => ProposeError::Overloaded(*queued_bytes as usize),
            Some(Refusal::DiskFull) => ProposeError::DiskFull,
            Some(Refusal::MemoryFull) => ProposeError::MemoryFull,
            _ if e.is_certainly_unsent() => ProposeError::NotLeader(None),
            _ => ProposeError::Unknown(e.to_string()),
        })
    }

    /// Returns once another node leads a shard in a later term than is known now. Whoever still waits for an answer of `node`
    /// then waits for one that fell silent: it was cut off, or its process stands still.
    async fn succeeded(&self, node: NodeId, shard: ShardId) -> NodeId {
        let mut news = self.context.leader_news.listen();
        let term = self.leadership(shard).map_or(0, |(term, _)| term);
        loop {
            if let Some((later, leader)) = self.leadership(shard)
                && later > term
                && leader != node
            {
                return leader;
            }
            if news.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Gets a sub-batch committed and applied by the shard's leader: follows hints to it, and while there is none waits for
    /// one to be elected. What may be in the log already is given to the next leader again: the shard takes the same
    /// samples, records and spans once.
    pub async fn propose_write(
        &self,
        shard: ShardId,
        sub_batch: Bytes,
        timeout: Duration,
    ) -> Result<ProposeAnswer, WriteError> {
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + timeout;
        let mut uncertain = None;
        loop {
            let known = self.leadership(shard);
            let mut target = known.map(|(_, leader)| leader);
            let mut asked = Vec::new();
            while let Some(node) = target.filter(|n| asked.len() < MAX_HOPS && !asked.contains(n)) {
                asked.push(node);
                let left = deadline.saturating_duration_since(now());
                match self.propose_at(node, shard, sub_batch.clone(), left).await {
                    Ok(answer) => return Ok(answer),
                    Err(ProposeError::NotLeader(hint)) => target = hint.or_else(|| self.leader_of(shard)),
                    Err(ProposeError::Stopped) => target = self.leader_of(shard),
                    Err(e @ ProposeError::Unknown(_)) => {
                        uncertain = Some(e);
                        target = self.leader_of(shard);
                    }
                    Err(e) => return Err(e.into_write_error(shard)),
                }
            }
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() || self.context.is_stopping() {
                return Err(uncertain.unwrap_or(ProposeError::NotLeader(target)).into_write_error(shard));
            }
            self.another_leader(&[(shard, known)], left.min(RETRY_PAUSE)).await;
        }
    }
}

impl<E: Env> ShardWriter for Node<E> {
    type Runtime = E::Runtime;

    async fn propose(
        &self,
        shard: ShardId,
        sub_batch: Bytes,
        timeout: Duration,
    ) -> Result<Proposed, WriteError> {
        if self.context.is_closing() {
            return Err(WriteError::Stopping);
        }
        let answer = self.propose_write(shard, sub_batch, timeout).await?;
        let outcome = SubBatchOutcome::decode(&mut &answer.outcome[..]).map_err(|e| {
            WriteError::Uncertain { shard, reason: format!("the outcome makes no sense: {e}") }
        })?;
        Ok(Proposed { index: LogIndex(answer.index), outcome })
    }

    async fn propose_logs(
        &self,
        shard: ShardId,
        sub_batch: Bytes,
        timeout: Duration,
    ) -> Result<(LogIndex, LogBatchOutcome), WriteError> {
        if self.context.is_closing() {
            return Err(WriteError::Stopping);
        }
        let answer = self.propose_write(shard, sub_batch, timeout).await?;
        let outcome = LogBatchOutcome::decode(&answer.outcome).map_err(|e| WriteError::Uncertain {
            shard,
            reason: format!("the outcome makes no sense: {e}"),
        })?;
        Ok((LogIndex(answer.index), outcome))
    }

    fn nonce(&self) -> u64 {
        self.context.incarnation ^ self.id().0.rotate_left(48)
    }

    fn shard_map(&self) -> Arc<ShardMap> {
        Node::shard_map(self)
    }

    fn cluster_time_ms(&self) -> Option<i64> {
        let local = self.context.env.now_ms();
        let clock = &self.context.clock;
        (self.context.has_cluster_time() && !clock.disagrees(local)).then(|| clock.now_ms(local))
    }

    fn secret(&self) -> ClusterSecret {
        Node::secret(self)
    }
}
