//! What the router asks of the node: propose a sub-batch to a shard, wherever its leader is.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::AsyncRuntime;
use protocol::batch::SubBatchOutcome;
use protocol::error::ErrorKind;
use protocol::ids::{ClusterSecret, LogIndex, ShardId};
use protocol::logs::batch::LogBatchOutcome;

use crate::shard_map::ShardMap;

/// The write side of a node, as the router sees it. `Node` implements it; tests have a fake.
pub trait ShardWriter: Send + Sync + 'static {
    /// Where the router sleeps between attempts.
    type Runtime: AsyncRuntime;

    /// Gets a sub-batch into a shard's log and applied, at its leader: here or through a peer. Follows a hint to another
    /// leader by itself; longer waits (an election) are the caller's, which tries again with the same bytes.
    ///
    /// `Ok` means durable on a quorum and applied on the leader. An error may leave the batch in the log: that is why
    /// applying the same bytes twice must change nothing.
    fn propose(
        &self,
        shard: ShardId,
        sub_batch: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Proposed, WriteError>> + Send;

    /// The same for a sub-batch of logs or spans.
    fn propose_logs(
        &self,
        shard: ShardId,
        sub_batch: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<(LogIndex, LogBatchOutcome), WriteError>> + Send;

    /// A number that no other run of a node gives.
    fn nonce(&self) -> u64;

    /// The newest shard map that this node knows.
    fn shard_map(&self) -> Arc<ShardMap>;

    /// Cluster time, `None` while this node can not tell it: its clock disagrees with the cluster's, or it has not heard
    /// enough members yet.
    fn cluster_time_ms(&self) -> Option<i64>;

    /// The secret that keys series ids.
    fn secret(&self) -> ClusterSecret;
}

/// A sub-batch that went through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The entry that holds it. A read at or after this position sees the rows.
    pub index: LogIndex,
    /// What applying it gave.
    pub outcome: SubBatchOutcome,
}

/// Why a sub-batch has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The shard has no leader that we can reach. Nothing was written by this attempt.
    #[error("shard {shard} has no leader within reach: {reason}")]
    NoLeader {
        /// The shard.
        shard: ShardId,
        /// What is known.
        reason: String,
    },
    /// No answer, or the leader lost its place while it waited: the entry may or may not be committed.
    #[error("the outcome on shard {shard} is unknown: {reason}")]
    Uncertain {
        /// The shard.
        shard: ShardId,
        /// What happened.
        reason: String,
    },
    /// The shard refuses to queue more, or the disk is full. Nothing was written.
    #[error("shard {shard} takes no writes now: {reason}")]
    Overloaded {
        /// The shard.
        shard: ShardId,
        /// What is full.
        reason: String,
    },
    /// This node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl WriteError {
    /// Whether another attempt within the same request makes sense: a new leader may be found in a moment.
    pub const fn is_worth_another_attempt(&self) -> bool {
        matches!(self, Self::NoLeader { .. } | Self::Uncertain { .. })
    }

    /// The kind of error this is to the client.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoLeader { .. } | Self::Uncertain { .. } | Self::Stopping => ErrorKind::Unavailable,
            Self::Overloaded { .. } => ErrorKind::ResourceExhausted,
        }
    }
}
