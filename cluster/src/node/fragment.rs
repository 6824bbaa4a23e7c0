//! Fragments of queries: sent to where the shards are, answered in shard order, never silently incomplete.
//!
//! The shards are grouped by the node that should answer: the leader for linearizable reads, this node where it holds a
//! replica for the others. One request goes to each node. Shards that could not be answered there (the leader moved, a
//! node went away) are asked again elsewhere until the deadline; then the error names them.
//!
//! An answer longer than a frame is sent in pieces: the first comes with the answer, the rest is kept here for
//! [`KEEP_FOR`] under a number that the asker knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use openraft_rt::{AsyncRuntime, Instant};
use protocol::error::ErrorKind;
use protocol::ids::{NodeId, ShardId};
use storage::scan::StoreSnapshot;

use crate::env::Env;
use crate::error::ReadError;
use crate::network::CallError;
use crate::network::rpc::{self, MAX_PAYLOAD_BYTES, Paged, Refusal, Request, ShardAnswer};
use crate::node::{Node, lock};
use crate::read::Consistency;

/// How long the rest of a long answer is kept.
const KEEP_FOR: Duration = Duration::from_secs(30);
/// Bytes of long answers that are kept.
const MAX_KEPT_BYTES: usize = 256 << 20;
/// How long news of another leader are waited for before shards without an answer are asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a replica may take to reach what a session has seen before the leader is asked.
const SESSION_WAIT: Duration = Duration::from_millis(500);

/// Why a fragment failed on a shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FragmentError {
    /// Kind of the failure.
    pub kind: ErrorKind,
    /// What to tell the user.
    pub message: String,
}

/// Runs fragments on a shard's data: given by the layer that knows queries.
pub trait FragmentHandler: Send + Sync + 'static {
    /// Runs `fragment` on what `snapshot` shows. The handler sees to it that long work leaves the reactor.
    fn run(
        &self,
        shard: ShardId,
        snapshot: StoreSnapshot,
        fragment: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, FragmentError>>;
}

/// For nodes that answer no queries.
pub struct NoFragments;

impl FragmentHandler for NoFragments {
    fn run(
        &self,
        _: ShardId,
        _: StoreSnapshot,
        _: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, FragmentError>> {
        let error = FragmentError {
            kind: ErrorKind::Unavailable,
            message: "this node answers no queries".to_owned(),
        };
        Box::pin(async { Err(error) })
    }
}

/// What is left of answers longer than a frame.
pub(crate) struct LongAnswers<R: AsyncRuntime> {
    kept: Mutex<Kept<R>>,
}

struct Kept<R: AsyncRuntime> {
    next_id: u64,
    answers: BTreeMap<u64, (Bytes, R::Instant)>,
}

impl<R: AsyncRuntime> Default for LongAnswers<R> {
    fn default() -> Self {
        Self { kept: Mutex::new(Kept { next_id: 1, answers: BTreeMap::new() }) }
    }
}

impl<R: AsyncRuntime> LongAnswers<R> {
    /// The first piece of an answer; the rest is kept.
    pub fn first(&self, answer: Bytes) -> Result<Paged, Refusal> {
        let total = answer.len() as u64;
        if answer.len() <= MAX_PAYLOAD_BYTES {
            return Ok(Paged { total, id: 0, head: answer });
        }
        let mut kept = lock(&self.kept);
        let now = R::Instant::now();
        kept.answers.retain(|_, (_, at)| now.saturating_duration_since(*at) < KEEP_FOR);
        let bytes: usize = kept.answers.values().map(|(bytes, _)| bytes.len()).sum();
        if bytes + answer.len() > MAX_KEPT_BYTES {
            return Err(Refusal::Overloaded { queued_bytes: bytes as u64 });
        }
        let id = kept.next_id;
        kept.next_id += 1;
        let head = answer.slice(..MAX_PAYLOAD_BYTES);
        kept.answers.insert(id, (answer, now));
        Ok(Paged { total, id, head })
    }

    /// Another piece; the last one ends the keeping.
    pub fn more(&self, id: u64, offset: u64) -> Result<Bytes, Refusal> {
        let mut kept = lock(&self.kept);
        let gone = || Refusal::Failed {
            kind: ErrorKind::NotFound,
            message: "the answer is not kept any more".into(),
        };
        let (answer, at) = kept.answers.get_mut(&id).ok_or_else(gone)?;
        *at = R::Instant::now();
        let start = usize::try_from(offset).ok().filter(|o| *o <= answer.len()).ok_or_else(gone)?;
        let end = answer.len().min(start + MAX_PAYLOAD_BYTES);
        let piece = answer.slice(start..end);
        if end == answer.len() {
            kept.answers.remove(&id);
        }
        Ok(piece)
    }
}

impl<E: Env> Node<E> {
    /// Runs a fragment on all shards and gives their answers in shard order. An error means that there is no answer:
    /// never a part of one.
    pub async fn run_fragment(
        self: &Arc<Self>,
        fragment: Bytes,
        consistency: Consistency,
        timeout: Duration,
    ) -> Result<Vec<(ShardId, Bytes)>, ReadError> {
        let shards: Vec<ShardId> = self.meta().shards.keys().copied().collect();
        self.run_fragment_on(shards, fragment, consistency, timeout).await
    }

    /// Like [`Node::run_fragment`], on some shards.
    pub async fn run_fragment_on(
        self: &Arc<Self>,
        shards: Vec<ShardId>,
        fragment: Bytes,
        consistency: Consistency,
        timeout: Duration,
    ) -> Result<Vec<(ShardId, Bytes)>, ReadError> {
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + timeout;
        let mut answers: BTreeMap<ShardId, Bytes> = BTreeMap::new();
        let mut hints: BTreeMap<ShardId, NodeId> = BTreeMap::new();
        let mut reason = "no leader is known".to_owned();
        if shards.is_empty() {
            return Err(ReadError::Missing {
                shards,
                reason: "this node does not know the shards yet".to_owned(),
            });
        }
        for attempt in 0.. {
            let left = deadline.saturating_duration_since(now());
            let open: Vec<ShardId> = shards.iter().copied().filter(|s| !answers.contains_key(s)).collect();
            if open.is_empty() {
                return Ok(answers.into_iter().collect());
            }
            if left.is_zero() {
                return Err(ReadError::Missing { shards: open, reason });
            }
            let known: Vec<_> = open.iter().map(|shard| (*shard, self.leadership(*shard))).collect();
            let mut by_node: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
            for shard in open {
                let hint = hints.remove(&shard);
                if let Some(node) = hint.or_else(|| self.whom_to_ask(shard, &consistency, attempt)) {
                    by_node.entry(node).or_default().push(shard);
                }
            }
            let asked: Vec<_> = by_node
                .into_iter()
                .map(|(node, shards)| {
                    let (this, fragment, consistency) = (self.clone(), fragment.clone(), consistency.clone());
                    let ask = async move { this.ask(node, shards, consistency, fragment, left).await };
                    (node, E::Runtime::spawn(ask))
                })
                .collect();
            for (node, answer) in asked {
                match answer.await {
                    Ok(Ok(list)) => {
                        for ShardAnswer { shard, result } in list {
                            match result {
                                Ok(bytes) => {
                                    answers.insert(shard, bytes);
                                }
                                Err(Refusal::Failed { kind, message }) if !kind.is_retryable() => {
                                    return Err(ReadError::Fragment { shard, kind, message });
                                }
                                Err(refusal) => {
                                    reason = format!("shard {shard} at node {node}: {refusal}");
                                    if let Refusal::NotLeader { leader: Some(leader) } = refusal
                                        && leader != node
                                    {
                                        hints.insert(shard, leader);
                                    }
                                }
                            }
                        }
                    }
                    Ok(Err(e)) => reason = format!("node {node}: {e}"),
                    Err(_) => reason = format!("asking node {node} failed"),
                }
            }
            if answers.len() < shards.len() && hints.is_empty() {
                let open: Vec<_> = known.into_iter().filter(|(s, _)| !answers.contains_key(s)).collect();
                self.another_leader(&open, RETRY_PAUSE.min(deadline.saturating_duration_since(now()))).await;
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// The node to ask about a shard.
    fn whom_to_ask(&self, shard: ShardId, consistency: &Consistency, attempt: u32) -> Option<NodeId> {
        let here = self.group(shard).is_some();
        match consistency {
            // A replica that lags behind the session twice is not the one to ask a third time.
            Consistency::Local if here => Some(self.id()),
            Consistency::Session(_) if here && attempt < 2 => Some(self.id()),
            Consistency::Local => self.leader_of(shard).or_else(|| self.any_replica(shard)),
            _ => self.leader_of(shard),
        }
    }

    fn any_replica(&self, shard: ShardId) -> Option<NodeId> {
        let reachable = self.context.reachable();
        self.meta().shards.get(&shard)?.replicas.keys().copied().find(|n| reachable.contains(n))
    }

    async fn ask(
        self: &Arc<Self>,
        node: NodeId,
        shards: Vec<ShardId>,
        consistency: Consistency,
        fragment: Bytes,
        timeout: Duration,
    ) -> Result<Vec<ShardAnswer>, CallError> {
        if node == self.id() {
            return Ok(self.answer_fragment(shards, consistency, fragment, timeout).await);
        }
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let request = Request::Fragment { shards, consistency, timeout_ms, fragment };
        let first: Paged = self.context.peers.call(node, &request, timeout).await?;
        if first.id == 0 {
            return Ok(rpc::decode_shard_answers(&first.head)?);
        }
        let mut whole = BytesMut::from(&first.head[..]);
        while (whole.len() as u64) < first.total {
            let request = Request::More { id: first.id, offset: whole.len() as u64 };
            let piece: Bytes = self.context.peers.call(node, &request, timeout).await?;
            if piece.is_empty() {
                return Err(rpc::RpcError::Malformed("piece").into());
            }
            whole.extend_from_slice(&piece);
        }
        Ok(rpc::decode_shard_answers(&whole.freeze())?)
    }

    /// Runs a fragment on shards of this node, side by side.
    pub(crate) async fn answer_fragment(
        self: &Arc<Self>,
        shards: Vec<ShardId>,
        consistency: Consistency,
        fragment: Bytes,
        timeout: Duration,
    ) -> Vec<ShardAnswer> {
        let wait = match consistency {
            Consistency::Session(_) => timeout.min(SESSION_WAIT),
            _ => timeout,
        };
        let consistency = Arc::new(consistency);
        let running: Vec<_> = shards
            .into_iter()
            .map(|shard| {
                let (this, consistency, fragment) = (self.clone(), consistency.clone(), fragment.clone());
                let run = async move {
                    let snapshot = this.read_shard(shard, &consistency, wait).await.map_err(refusal_of)?;
                    let run = this.fragments.run(shard, snapshot, fragment);
                    match E::Runtime::timeout(timeout, run).await {
                        Ok(result) => {
                            result.map_err(|e| Refusal::Failed { kind: e.kind, message: e.message })
                        }
                        Err(_) => Err(Refusal::Failed {
                            kind: ErrorKind::Timeout,
                            message: format!("the fragment did not end within {timeout:?}"),
                        }),
                    }
                };
                (shard, E::Runtime::spawn(run))
            })
            .collect();
        let mut answers = Vec::with_capacity(running.len());
        for (shard, run) in running {
            let result = run.await.unwrap_or_else(|e| {
                Err(Refusal::Failed {
                    kind: ErrorKind::Internal,
                    message: format!("the fragment ended: {e}"),
                })
            });
            answers.push(ShardAnswer { shard, result });
        }
        answers
    }
}

fn refusal_of(error: ReadError) -> Refusal {
    match error {
        ReadError::NotLeader { leader, .. } => Refusal::NotLeader { leader },
        ReadError::NotHosted { .. } => Refusal::NotHosted,
        ReadError::Fragment { kind, message, .. } => Refusal::Failed { kind, message },
        e @ (ReadError::Behind { .. } | ReadError::Missing { .. }) => {
            Refusal::Failed { kind: ErrorKind::Unavailable, message: e.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::TokioRuntime;

    use super::*;

    #[test]
    fn a_long_answer_comes_in_pieces_and_is_then_forgotten() {
        let answers = LongAnswers::<TokioRuntime>::default();
        let short = answers.first(Bytes::from_static(b"short")).unwrap();
        assert_eq!((short.id, &short.head[..]), (0, &b"short"[..]));
        let long: Bytes = (0..MAX_PAYLOAD_BYTES + 10).map(|i| i as u8).collect::<Vec<_>>().into();
        let first = answers.first(long.clone()).unwrap();
        assert_eq!(first.total, long.len() as u64);
        let rest = answers.more(first.id, first.head.len() as u64).unwrap();
        assert_eq!([&first.head[..], &rest[..]].concat(), long);
        assert!(answers.more(first.id, 0).is_err(), "it was given away");
        assert!(answers.more(77, 0).is_err());
    }
}
