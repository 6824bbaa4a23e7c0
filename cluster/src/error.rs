//! What can go wrong between asking the cluster and its answer.
//!
//! [`ReadError`] names the shards that are missing, [`ClusterError`] is for starting and administering a node. What can
//! go wrong with a write is [`crate::router::WriteError`], beside the trait that the router asks for.

use std::io;
use std::path::PathBuf;

use protocol::error::ErrorKind;
use protocol::ids::{NodeId, ShardId};

use crate::env::NetError;

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead the shard, and the consistency asked for needs the leader.
    #[error("shard {shard} is not led here; leader: {}", leader.map_or_else(|| "unknown".to_owned(), |id| id.to_string()))]
    NotLeader {
        /// The shard.
        shard: ShardId,
        /// Who leads it, where that is known.
        leader: Option<NodeId>,
    },
    /// This node holds no replica of the shard, or it does not run.
    #[error("shard {shard} is not served here")]
    NotHosted {
        /// The shard.
        shard: ShardId,
    },
    /// The replica did not reach the index that the session has seen.
    #[error("shard {shard} has applied {applied}, the session has seen {wanted}")]
    Behind {
        /// The shard.
        shard: ShardId,
        /// Applied index of this replica.
        applied: u64,
        /// Index the session asks for.
        wanted: u64,
    },
    /// Shards did not answer before the deadline. Never a partial answer without this error.
    #[error("shards {} did not answer: {reason}", list(shards))]
    Missing {
        /// Which.
        shards: Vec<ShardId>,
        /// What the last of them said.
        reason: String,
    },
    /// The shards' answers are longer than the asker can take.
    #[error("the shards' answers come to {bytes} bytes or more, {limit} may come")]
    TooLong {
        /// Bytes that came, or were announced.
        bytes: u64,
        /// Bytes that may come.
        limit: u64,
    },
    /// The fragment itself failed; trying elsewhere would not help.
    #[error("fragment failed on shard {shard}: {message}")]
    Fragment {
        /// The shard.
        shard: ShardId,
        /// Kind the handler gave.
        kind: ErrorKind,
        /// What it said.
        message: String,
    },
}

impl ReadError {
    /// The closed kind of this error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Fragment { kind, .. } => *kind,
            Self::TooLong { .. } => ErrorKind::LimitExceeded,
            _ => ErrorKind::Unavailable,
        }
    }
}

fn list(shards: &[ShardId]) -> String {
    shards.iter().map(ShardId::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a node does not start, or an administrative request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file of the data directory could not be read or written.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the data directory holds wrong bytes.
    #[error("{path} is damaged: {reason}")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The data directory holds data but no identity: starting would give old data a new name.
    #[error("{path} holds data but no identity file; restore the file or start with an empty directory")]
    NoIdentity {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory belongs to another cluster than the peers do.
    #[error("this node belongs to cluster {ours}, the peers to {theirs}")]
    ForeignCluster {
        /// Cluster of the identity file.
        ours: String,
        /// Cluster of the peers.
        theirs: String,
    },
    /// The cluster no longer knows this node: it was removed, or replaced after its address joined with an empty disk.
    #[error("node {id} is not a member of the cluster any more")]
    Retired {
        /// The node.
        id: NodeId,
    },
    /// No peer let this node join in time.
    #[error("cannot join the cluster through {}: {reason}", addrs.join(", "))]
    JoinFailed {
        /// Peers asked.
        addrs: Vec<String>,
        /// What the last one said.
        reason: String,
    },
    /// The log could not be opened.
    #[error("cannot open the log")]
    Wal(#[from] storage::wal::WalError),
    /// A shard's store could not be opened.
    #[error("cannot open shard {shard}")]
    Storage {
        /// The shard.
        shard: ShardId,
        /// Why.
        #[source]
        source: storage::error::StorageError,
    },
    /// Raft refused.
    #[error("group {group}: {reason}")]
    Raft {
        /// The group.
        group: ShardId,
        /// What it said.
        reason: String,
    },
    /// A peer could not be asked.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The request makes no sense in the present state.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// No leader, or no answer, before the deadline.
    #[error("{what} did not finish in time: {reason}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The last thing that happened.
        reason: String,
    },
}

impl ClusterError {
    /// The closed kind of this error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } => ErrorKind::Corruption,
            Self::NoIdentity { .. }
            | Self::ForeignCluster { .. }
            | Self::Retired { .. }
            | Self::Refused { .. } => ErrorKind::Conflict,
            Self::JoinFailed { .. } | Self::Net(_) | Self::Raft { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Io { .. } | Self::Wal(_) | Self::Storage { .. } => ErrorKind::Internal,
        }
    }
}
