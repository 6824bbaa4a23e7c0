//! The groups' way to their peers: frames, and openraft's network on top of [`crate::env::Net`].
//!
//! [`Peers`] knows who lives where (from the meta state, or from a join) and turns requests into answers. A
//! [`GroupNetwork`] is one group's line to one replica; all of them share the node's stream to that peer, so the
//! messages of all groups travel together.
//!
//! Time limits. A heartbeat must be answered within its interval. Entries may wait for the follower's disk, so they get
//! [`APPEND_TIMEOUT`]: ending such a call early would send the same megabytes again into the same queue. A snapshot is
//! offered again and again; it fails when no byte moved for [`OFFER_STALL`], not after a fixed time.

pub mod rpc;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft_rt::{AsyncRuntime, Instant, Select2};
use protocol::ids::{NodeId, ShardId};
use storage::manifest::FileRef;

use crate::env::{Env, Net, NetError, PeerAddr};
use crate::meta::ReplicaId;
use crate::network::rpc::{
    Answer, Append, AppendAnswer, Header, MAX_PAYLOAD_BYTES, Offer, OfferAnswer, Refusal, Request, RpcError,
    VoteAnswer,
};
use crate::snapshot::{Snapshot, SnapshotData};
use crate::types::{Entry, LogId, Node, Payload, Types, Vote};

/// How long entries may take to be stored by a follower.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one offer of a snapshot may take to be answered.
const OFFER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two offers.
const OFFER_PAUSE: Duration = Duration::from_millis(200);
/// Without a byte received for so long a snapshot has failed.
const OFFER_STALL: Duration = Duration::from_secs(60);

/// Why a peer's answer is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody knows where the node is.
    #[error("address of node {0} is not known")]
    Unknown(NodeId),
    /// The transport failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The answer makes no sense, or is a refusal.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

impl CallError {
    /// The peer's refusal, if it was one.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Rpc(RpcError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the request was certainly not carried out.
    pub const fn is_certainly_unsent(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Net(e) => e.is_certainly_unsent(),
            Self::Rpc(RpcError::Refused(refusal)) => {
                !matches!(refusal, Refusal::Unknown { .. } | Refusal::Failed { .. })
            }
            Self::Rpc(_) => false,
        }
    }
}

/// Hash of a cluster's id for frame headers.
pub fn cluster_tag(cluster_id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(cluster_id.as_bytes()).max(1)
}

/// Who lives where.
pub struct Peers<E: Env> {
    env: E,
    me: NodeId,
    tag: u64,
    addrs: Mutex<BTreeMap<NodeId, String>>,
}

impl<E: Env> Peers<E> {
    /// The address book of a node in a cluster.
    pub fn new(env: E, me: NodeId, tag: u64) -> Self {
        Self { env, me, tag, addrs: Mutex::new(BTreeMap::new()) }
    }

    fn addrs(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.addrs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the address book.
    pub fn set(&self, addrs: impl IntoIterator<Item = (NodeId, String)>) {
        *self.addrs() = addrs.into_iter().collect();
    }

    /// Where a node is.
    pub fn addr(&self, node: NodeId) -> Option<String> {
        self.addrs().get(&node).cloned()
    }

    /// Everybody else.
    pub fn others(&self) -> Vec<NodeId> {
        self.addrs().keys().copied().filter(|id| *id != self.me).collect()
    }

    /// Asks a node.
    pub async fn call<T: Answer>(
        &self,
        to: NodeId,
        request: &Request,
        timeout: Duration,
    ) -> Result<T, CallError> {
        let addr = self.addr(to).ok_or(CallError::Unknown(to))?;
        let frame = request.encode(Header { cluster: self.tag, from: self.me, to });
        let answer = self.env.net().call(&PeerAddr { id: to, addr }, frame, timeout).await?;
        Ok(rpc::decode_answer(&answer)?)
    }
}

/// Makes a group's lines to its members.
pub struct GroupNetworkFactory<E: Env> {
    peers: Arc<Peers<E>>,
    group: ShardId,
}

impl<E: Env> GroupNetworkFactory<E> {
    /// Lines of one group.
    pub fn new(peers: Arc<Peers<E>>, group: ShardId) -> Self {
        Self { peers, group }
    }
}

impl<E: Env> RaftNetworkFactory<Types<E::Runtime>> for GroupNetworkFactory<E> {
    type Network = GroupNetwork<E>;

    async fn new_client(&mut self, target: u64, _node: &Node) -> GroupNetwork<E> {
        // The address in the membership is the one the member had when it was added; the address book is newer.
        GroupNetwork { peers: self.peers.clone(), group: self.group, target: ReplicaId(target) }
    }
}

/// One group's line to one replica.
pub struct GroupNetwork<E: Env> {
    peers: Arc<Peers<E>>,
    group: ShardId,
    target: ReplicaId,
}

type Config<E> = Types<<E as Env>::Runtime>;

impl<E: Env> GroupNetwork<E> {
    async fn call<T: Answer>(
        &self,
        kind: RPCTypes,
        request: &Request,
        timeout: Duration,
    ) -> Result<T, RPCError<Config<E>>> {
        let result = self.peers.call(self.target.node(), request, timeout).await;
        result.map_err(|e| self.rpc_error(kind, timeout, &e))
    }

    fn rpc_error(&self, action: RPCTypes, timeout: Duration, error: &CallError) -> RPCError<Config<E>> {
        match error {
            CallError::Net(NetError::Timeout { .. }) => {
                RPCError::Timeout(Timeout { action, id: self.peers.me.0, target: self.target.0, timeout })
            }
            CallError::Net(NetError::Broken { .. }) => RPCError::Network(NetworkError::new(error)),
            // Not there, not ready, not ours: ask again later rather than at once.
            _ => RPCError::Unreachable(Unreachable::new(error)),
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    let body = match &entry.payload {
        Payload::Normal(command) => command.0.len(),
        Payload::Blank => 0,
        Payload::Membership(membership) => 64 * (1 + membership.nodes().count()),
    };
    body + 64
}

impl<E: Env> RaftNetworkV2<Config<E>> for GroupNetwork<E> {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<Config<E>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Config<E>>, RPCError<Config<E>>> {
        let mut bytes = 0;
        let fits = rpc.entries.iter().take_while(|entry| {
            bytes += entry_bytes(entry);
            bytes <= MAX_PAYLOAD_BYTES
        });
        let sent = fits.count().max(1).min(rpc.entries.len());
        let cut = sent < rpc.entries.len();
        rpc.entries.truncate(sent);
        let last: Option<LogId> = rpc.entries.last().map(|entry| entry.log_id);
        let timeout = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND_TIMEOUT };
        let request = Request::Append(Append {
            group: self.group,
            to: self.target,
            vote: rpc.vote,
            prev: rpc.prev_log_id,
            commit: rpc.leader_commit,
            entries: rpc.entries,
        });
        Ok(match self.call(RPCTypes::AppendEntries, &request, timeout).await? {
            AppendAnswer::Success if cut => AppendEntriesResponse::PartialSuccess(last),
            AppendAnswer::Success => AppendEntriesResponse::Success,
            AppendAnswer::Conflict => AppendEntriesResponse::Conflict,
            AppendAnswer::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Config<E>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Config<E>>, RPCError<Config<E>>> {
        self.ask_vote(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Config<E>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Config<E>>, RPCError<Config<E>>> {
        self.ask_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Config<E>>, StreamingError<Config<E>>> {
        match E::Runtime::select2(Box::pin(cancel), Box::pin(self.offer(vote, snapshot))).await {
            Select2::First(closed) => Err(StreamingError::Closed(closed)),
            Select2::Second(result) => result,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Config<E>>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Config<E>>, RPCError<Config<E>>> {
        let request = Request::Transfer {
            group: self.group,
            to: self.target,
            from: *req.from_leader(),
            next: ReplicaId(*req.to_node_id()),
            last: req.last_log_id().copied(),
        };
        let timeout = Duration::from_secs(2);
        let answer: Result<(), String> = self.call(RPCTypes::TransferLeader, &request, timeout).await?;
        Ok(answer.map_err(|reason| {
            tracing::warn!(group = %self.group, to = %self.target, reason, "leadership was not taken");
            TransferLeaderError::LogNotFlushed { expected: req.last_log_id().copied(), actual: None }
        }))
    }
}

impl<E: Env> GroupNetwork<E> {
    async fn ask_vote(
        &self,
        rpc: VoteRequest<Config<E>>,
        pre: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Config<E>>, RPCError<Config<E>>> {
        let request = Request::Vote {
            group: self.group,
            to: self.target,
            pre,
            vote: rpc.vote,
            last: rpc.last_log_id,
            transfer: rpc.leadership_transfer,
        };
        let answer: VoteAnswer = self.call(RPCTypes::Vote, &request, option.hard_ttl()).await?;
        Ok(VoteResponse { vote: answer.vote, vote_granted: answer.granted, last_log_id: answer.last })
    }

    /// Offers a snapshot until the peer has it. The snapshot's files stay pinned as long as this runs.
    async fn offer(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Config<E>>, StreamingError<Config<E>>> {
        let request = Request::Offer(Offer {
            group: self.group,
            to: self.target,
            vote,
            last: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership.clone(),
            manifest: snapshot.snapshot.manifest.clone(),
        });
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let (mut progress, mut moved_at) = (0, now());
        loop {
            let error = match self.peers.call(self.target.node(), &request, OFFER_TIMEOUT).await {
                Ok(OfferAnswer::Done { vote }) => return Ok(SnapshotResponse::new(vote)),
                Ok(OfferAnswer::Working { received }) => {
                    if received != progress {
                        (progress, moved_at) = (received, now());
                    }
                    None
                }
                // The peer may be restarting: what it has of the files counts when it is back.
                Err(e) => Some(e),
            };
            if now() - moved_at >= OFFER_STALL {
                let error = error.unwrap_or(CallError::Net(NetError::Timeout {
                    addr: self.target.to_string(),
                    timeout: OFFER_STALL,
                }));
                return Err(self.rpc_error(RPCTypes::InstallSnapshot, OFFER_STALL, &error).into());
            }
            if matches!(
                error.as_ref().and_then(CallError::refusal),
                Some(Refusal::NotHosted | Refusal::Failed { .. })
            ) {
                let error = error.expect("a refusal was matched");
                return Err(self.rpc_error(RPCTypes::InstallSnapshot, OFFER_TIMEOUT, &error).into());
            }
            E::Runtime::sleep(OFFER_PAUSE).await;
        }
    }
}

/// Reads a piece of a file of a peer's store.
pub(crate) async fn fetch<E: Env>(
    peers: &Peers<E>,
    from: NodeId,
    group: ShardId,
    file: FileRef,
    offset: u64,
    len: u32,
) -> Result<Bytes, CallError> {
    peers.call(from, &Request::Fetch { group, file, offset, len }, Duration::from_secs(10)).await
}
