//! Answers peers.
//!
//! Every request passes the same door: another cluster's frames, frames meant for another node and frames of removed
//! members are refused before anybody looks at them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use protocol::error::ErrorKind;
use protocol::ids::{META_GROUP, NodeId, ShardId};
use storage::manifest::FileRef;
use storage::mutant::{self, Mutant};

use crate::env::{Env, PeerHandler, StepKind};
use crate::meta::{MemberState, MetaCommand, MetaOutcome, ReplicaId};
use crate::network::cluster_tag;
use crate::network::rpc::{
    Append, AppendAnswer, FILE_CHUNK_BYTES, Header, Join, Joined, Refusal, Request, VoteAnswer,
    encode_answer, encode_shard_answers,
};
use crate::node::Node;
use crate::node::invite::hash_of;
use crate::shard::Group;
use crate::types::{LogId, Types, Vote};

/// How long a flush that a peer waits for may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a delete that a peer waits for may take to be committed.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Handler<E: Env> {
    node: Weak<Node<E>>,
    tag: u64,
}

impl<E: Env> Handler<E> {
    pub fn new(node: &Arc<Node<E>>) -> Self {
        Self { node: Arc::downgrade(node), tag: cluster_tag(node.cluster_id()) }
    }
}

fn malformed(part: impl ToString) -> Refusal {
    Refusal::Malformed { part: part.to_string() }
}

fn failed(message: impl ToString) -> Refusal {
    Refusal::Failed { kind: ErrorKind::Unavailable, message: message.to_string() }
}

impl<E: Env> PeerHandler for Handler<E> {
    fn handle(&self, frame: Bytes) -> BoxFuture<'static, Bytes> {
        let node = self.node.clone();
        let tag = self.tag;
        Box::pin(async move {
            let Some(node) = node.upgrade() else { return encode_answer::<()>(&Err(Refusal::NotHosted)) };
            let (header, request) = match Request::decode(&frame) {
                Ok(decoded) => decoded,
                Err(e) => return encode_answer::<()>(&Err(malformed(e))),
            };
            drop(frame);
            match node.admit(header, &request, tag) {
                Ok(()) => node.answer(header, request).await,
                Err(refusal) => encode_answer::<()>(&Err(refusal)),
            }
        })
    }

    /// Fragments read: nothing is left half done. All else changes something, or is short.
    fn may_be_dropped(&self, frame: &Bytes) -> bool {
        Request::is_fragment(frame)
    }
}

impl<E: Env> Node<E> {
    /// The door.
    fn admit(&self, header: Header, request: &Request, tag: u64) -> Result<(), Refusal> {
        let joining = matches!(request, Request::Join(_)) && header.cluster == 0;
        if header.cluster != tag && !joining {
            return Err(Refusal::ForeignCluster);
        }
        if header.to != NodeId(0) && header.to != self.id() {
            return Err(Refusal::WrongNode { is: self.id() });
        }
        let removed = |m: &crate::meta::Member| m.state == MemberState::Removed;
        if self.meta().members.get(&header.from).is_some_and(removed) {
            return Err(Refusal::Retired);
        }
        Ok(())
    }

    fn replica(&self, group: ShardId, to: ReplicaId) -> Result<Arc<Group<E>>, Refusal> {
        self.group(group).filter(|g| g.replica == to && !g.is_stopping()).ok_or(Refusal::NotHosted)
    }

    async fn answer(self: &Arc<Self>, header: Header, request: Request) -> Bytes {
        match request {
            Request::Append(append) => encode_answer(&self.append(append).await),
            Request::Vote { group, to, pre, vote, last, transfer } => {
                encode_answer(&self.vote(group, to, pre, vote, last, transfer).await)
            }
            Request::Transfer { group, to, from, next, last } => {
                encode_answer(&self.transfer(group, to, from, next, last).await)
            }
            Request::Offer(offer) => {
                let group = self.replica(offer.group, offer.to);
                encode_answer(&group.and_then(|group| self.take_offer(header.from, &group, offer)))
            }
            Request::Fetch { group, file, offset, len } => {
                encode_answer(&self.fetch(group, file, offset, len).await)
            }
            Request::Propose { shard, timeout_ms, sub_batch } => {
                let timeout = Duration::from_millis(timeout_ms.into());
                let result = if self.context.is_stopping() && !self.leads(shard) {
                    Err(Refusal::NotLeader { leader: self.leader_of(shard) })
                } else {
                    self.propose_here(shard, sub_batch, timeout).await.map_err(|e| e.into_refusal())
                };
                encode_answer(&result)
            }
            Request::Fragment { shards, consistency, timeout_ms, fragment } => {
                let timeout = Duration::from_millis(timeout_ms.into());
                let answers = self.answer_fragment(shards, consistency, fragment, timeout).await;
                encode_answer(&self.answers.first(encode_shard_answers(&answers).into()))
            }
            Request::More { id, offset } => encode_answer(&self.answers.more(id, offset)),
            Request::Ping(pulse) => {
                if pulse.node == header.from {
                    self.hear(*pulse);
                }
                encode_answer(&Ok(self.pulse()))
            }
            Request::Join(join) => encode_answer(&self.let_in(header, join).await),
            Request::Meta(command) => {
                let result = if self.leads(META_GROUP) {
                    self.propose_meta_here(&command).await
                } else {
                    Err(Refusal::NotLeader { leader: self.leader_of(META_GROUP) })
                };
                encode_answer(&result)
            }
            Request::Status => encode_answer(&Ok(self.node_status())),
            Request::Flush { shards, wait } => encode_answer(&self.flush_for_peer(shards, wait).await),
            Request::Delete { shard, command } => {
                encode_answer(&self.delete_here(shard, &command, DELETE_TIMEOUT).await)
            }
            Request::Clean { shard } => encode_answer(&self.clean_for_peer(shard).await),
            Request::Capture { shard } => {
                let captured = if self.leads(shard) {
                    self.capture_here(shard, FLUSH_TIMEOUT).await
                } else {
                    Err(Refusal::NotLeader { leader: self.leader_of(shard) })
                };
                encode_answer(&captured)
            }
            Request::Step { group, to } => {
                let result = match self.group(group) {
                    Some(group) => self.step_aside(&group, to).await.map_err(failed),
                    None => Err(Refusal::NotHosted),
                };
                encode_answer(&result)
            }
        }
    }

    async fn append(&self, append: Append) -> Result<AppendAnswer, Refusal> {
        let group = self.replica(append.group, append.to)?;
        let rpc = AppendEntriesRequest::<Types<E::Runtime>> {
            vote: append.vote,
            prev_log_id: append.prev,
            entries: append.entries,
            leader_commit: append.commit,
        };
        if mutant::is(Mutant::AppendAnsweredEarly) && !rpc.entries.is_empty() {
            let raft = group.raft.clone();
            crate::env::detach::<E>(async move { drop(raft.append_entries(rpc).await) });
            return Ok(AppendAnswer::Success);
        }
        Ok(match group.raft.append_entries(rpc).await.map_err(|_| Refusal::NotHosted)? {
            AppendEntriesResponse::Success => AppendAnswer::Success,
            AppendEntriesResponse::Conflict => AppendAnswer::Conflict,
            AppendEntriesResponse::HigherVote(vote) => AppendAnswer::HigherVote(vote),
            // Only senders cut requests.
            AppendEntriesResponse::PartialSuccess(_) => return Err(failed("entries were stored in part")),
        })
    }

    async fn vote(
        &self,
        group: ShardId,
        to: ReplicaId,
        pre: bool,
        vote: Vote,
        last: Option<LogId>,
        transfer: bool,
    ) -> Result<VoteAnswer, Refusal> {
        let group = self.replica(group, to)?;
        let rpc = VoteRequest { vote, last_log_id: last, leadership_transfer: transfer };
        let result = if pre { group.raft.pre_vote(rpc).await } else { group.raft.vote(rpc).await };
        let response = result.map_err(|_| Refusal::NotHosted)?;
        Ok(VoteAnswer { vote: response.vote, granted: response.vote_granted, last: response.last_log_id })
    }

    async fn transfer(
        &self,
        group: ShardId,
        to: ReplicaId,
        from: Vote,
        next: ReplicaId,
        last: Option<LogId>,
    ) -> Result<Result<(), String>, Refusal> {
        let group = self.replica(group, to)?;
        if next == to && self.context.is_stopping() {
            return Ok(Err("the node is stopping".to_owned()));
        }
        let request = TransferLeaderRequest::new(from, next.0, last);
        let result = group.raft.handle_transfer_leader(request).await.map_err(|_| Refusal::NotHosted)?;
        Ok(result.map_err(|e| e.to_string()))
    }

    async fn fetch(&self, group: ShardId, file: FileRef, offset: u64, len: u32) -> Result<Bytes, Refusal> {
        let group = self.group(group).ok_or(Refusal::NotHosted)?;
        let store = group.shard.as_ref().ok_or(Refusal::NotHosted)?.store.clone();
        let len = len.min(FILE_CHUNK_BYTES) as usize;
        let read = move || store.read_file_chunk(&file, offset, len);
        let result = self.context.env.run_step(StepKind::Transfer, read).await;
        result.map_err(|e| Refusal::Failed { kind: e.kind(), message: e.to_string() })
    }

    /// Lets a node in, or sends it on to who can.
    async fn let_in(&self, header: Header, join: Join) -> Result<Joined, Refusal> {
        if !self.leads(META_GROUP) {
            let leader = self.leader_of(META_GROUP).filter(|leader| *leader != self.id());
            // A request that was sent on once is not sent on again.
            let Some(leader) = leader.filter(|_| header.from == NodeId(0)) else {
                return Err(Refusal::NotLeader { leader });
            };
            let answer = self.context.peers.call(leader, &Request::Join(join), Duration::from_secs(4)).await;
            return answer.map_err(|e| e.refusal().cloned().unwrap_or_else(|| failed(e)));
        }
        if !self.meta().is_bootstrapped() {
            return Err(failed("the cluster is being founded"));
        }
        // A node whose disk was lost is silent by the time it asks; whoever else uses a member's address is in error, and
        // must not cost that member its place.
        let meta = self.meta();
        let holder = meta.present().find(|(_, m)| m.addr == join.addr && m.incarnation != join.incarnation);
        if let Some((id, _)) = holder.filter(|(id, _)| self.context.reachable().contains(id)) {
            let message = format!("{} is the address of node {id}, which is alive", join.addr);
            return Err(Refusal::Failed { kind: ErrorKind::Conflict, message });
        }
        let command = MetaCommand::AddNode {
            addr: join.addr.clone(),
            incarnation: join.incarnation,
            epoch: join.epoch,
            token: join.secret.as_deref().map(hash_of),
            now_ms: self.context.env.now_ms(),
        };
        match self.propose_meta_here(&command).await? {
            MetaOutcome::Node { id, replaced } => {
                tracing::info!(node = %id, ?replaced, addr = join.addr, "node is let in");
                let meta = self.meta();
                let peers = meta.present().filter(|(peer, _)| *peer != id);
                Ok(Joined {
                    cluster_id: self.context.cluster_id.clone(),
                    node: id,
                    peers: peers.map(|(peer, member)| (peer, member.addr.clone())).collect(),
                })
            }
            // Nothing that time heals.
            MetaOutcome::Refused { reason } => {
                Err(Refusal::Failed { kind: ErrorKind::PermissionDenied, message: reason })
            }
            MetaOutcome::Done | MetaOutcome::Dashboard { .. } | MetaOutcome::Stale { .. } => {
                Err(failed("no id was given"))
            }
        }
    }

    async fn clean_for_peer(&self, shard: ShardId) -> Result<(), Refusal> {
        let group = self.group(shard).ok_or(Refusal::NotHosted)?;
        if !group.is_leader() {
            return Err(Refusal::NotLeader { leader: self.leader_of(shard) });
        }
        self.clean_here(&group, FLUSH_TIMEOUT).await.map_err(failed)
    }

    async fn flush_for_peer(self: &Arc<Self>, shards: Vec<ShardId>, wait: bool) -> Result<(), Refusal> {
        for group in self.all_groups() {
            let wanted = group.shard.is_some() && (shards.is_empty() || shards.contains(&group.id));
            if !wanted {
                continue;
            }
            if !group.is_leader() {
                if shards.is_empty() {
                    continue;
                }
                return Err(Refusal::NotLeader { leader: self.leader_of(group.id) });
            }
            self.flush_here(&group, wait, FLUSH_TIMEOUT).await.map_err(failed)?;
        }
        Ok(())
    }
}
