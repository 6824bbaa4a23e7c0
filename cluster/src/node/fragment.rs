//! Fragments of queries: sent to where the shards are, answered in shard order, never silently incomplete.
//!
//! The shards are grouped by the node that should answer: the leader for linearizable reads, this node where it holds a
//! replica for the others. One request goes to each node. Shards that could not be answered there (the leader moved, a
//! node went away) are asked again elsewhere until the deadline; then the error names them.
//!
//! An answer longer than a frame is sent in pieces: the first comes with the answer, the rest is kept here for
//! [`KEEP_FOR`] under a number that the asker knows. What is longer than [`MAX_KEPT_BYTES`], or than the asker can take, is
//! a failure of the fragment: asking again would not make it shorter.
//!
//! Dropping the future of a call stops the fragment on every node: nothing here runs in a task of its own, and the
//! network tells a peer when a call to it is given up (see [`crate::env::Net`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use openraft_rt::{AsyncRuntime, Instant};
use protocol::error::ErrorKind;
use protocol::ids::{NodeId, ShardId};
use storage::mutant::{self, Mutant};
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

/// What a shard answers to a fragment.
pub type FragmentResult = (ShardId, Result<Bytes, FragmentError>);

/// Runs fragments on shards' data: given by the layer that knows queries.
pub trait FragmentHandler: Send + Sync + 'static {
    /// Runs `fragment` on what the snapshot of each of some shards shows, and gives their answers in any order. The
    /// handler sees to it that long work leaves the reactor, and shares it out: most fragments are so short that handing
    /// each shard's part to a thread would cost more than the part.
    fn run(
        &self,
        shards: Vec<(ShardId, StoreSnapshot)>,
        fragment: Bytes,
    ) -> BoxFuture<'static, Vec<FragmentResult>>;
}

/// For nodes that answer no queries.
pub struct NoFragments;

impl FragmentHandler for NoFragments {
    fn run(
        &self,
        shards: Vec<(ShardId, StoreSnapshot)>,
        _: Bytes,
    ) -> BoxFuture<'static, Vec<FragmentResult>> {
        let error = FragmentError {
            kind: ErrorKind::Unavailable,
            message: "this node answers no queries".to_owned(),
        };
        Box::pin(async move { shards.into_iter().map(|(shard, _)| (shard, Err(error.clone()))).collect() })
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
        if answer.len() > MAX_KEPT_BYTES {
            let message = format!(
                "the shards of one node answer {total} bytes, more than the {MAX_KEPT_BYTES} bytes that a node may send \
                 for a query (a fixed limit). Aggregate, select fewer series or use a longer step"
            );
            return Err(Refusal::Failed { kind: ErrorKind::LimitExceeded, message });
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
        self.run_fragment_within(fragment, consistency, timeout, u64::MAX).await
    }

    /// Like [`Node::run_fragment`]; fails when the answers come to more than `max_bytes` together.
    pub async fn run_fragment_within(
        self: &Arc<Self>,
        fragment: Bytes,
        consistency: Consistency,
        timeout: Duration,
        max_bytes: u64,
    ) -> Result<Vec<(ShardId, Bytes)>, ReadError> {
        let shards: Vec<ShardId> = self.meta().shards.keys().copied().collect();
        self.run_fragment_on(shards, fragment, consistency, timeout, max_bytes).await
    }

    /// Like [`Node::run_fragment_within`], on some shards.
    pub async fn run_fragment_on(
        self: &Arc<Self>,
        shards: Vec<ShardId>,
        fragment: Bytes,
        consistency: Consistency,
        timeout: Duration,
        max_bytes: u64,
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
            let received = answers.values().map(|bytes| bytes.len() as u64).sum::<u64>();
            let room = AnswerRoom::new(max_bytes, received);
            let mut asked: FuturesUnordered<_> = by_node
                .into_iter()
                .map(|(node, shards)| {
                    let (fragment, consistency, room) = (fragment.clone(), consistency.clone(), &room);
                    async move {
                        let first = shards.first().copied();
                        (node, first, self.ask(node, shards, consistency, fragment, left, room).await)
                    }
                })
                .collect();
            while let Some((node, first, answer)) = asked.next().await {
                let list = match answer {
                    Ok(list) => list,
                    Err(AskError::TooLong { bytes }) => {
                        return Err(ReadError::TooLong { bytes, limit: max_bytes });
                    }
                    Err(AskError::Call(e)) => {
                        if let (Some(Refusal::Failed { kind, message }), Some(shard)) = (e.refusal(), first)
                            && !kind.is_retryable()
                        {
                            return Err(ReadError::Fragment { shard, kind: *kind, message: message.clone() });
                        }
                        reason = format!("node {node}: {e}");
                        continue;
                    }
                };
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
            drop(asked);
            if mutant::is(Mutant::PartialAnswer) && !answers.is_empty() {
                return Ok(answers.into_iter().collect());
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
        room: &AnswerRoom,
    ) -> Result<Vec<ShardAnswer>, AskError> {
        if node == self.id() {
            let answers = self.answer_fragment(shards, consistency, fragment, timeout).await;
            room.take(answers.iter().filter_map(|a| a.result.as_ref().ok()).map(|b| b.len() as u64).sum())?;
            return Ok(answers);
        }
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let request = Request::Fragment { shards, consistency, timeout_ms, fragment };
        let first: Paged = self.context.peers.call(node, &request, timeout).await?;
        room.take(first.total)?;
        if first.id == 0 {
            return Ok(rpc::decode_shard_answers(&first.head).map_err(CallError::from)?);
        }
        let mut whole = BytesMut::from(&first.head[..]);
        while (whole.len() as u64) < first.total {
            let request = Request::More { id: first.id, offset: whole.len() as u64 };
            let piece: Bytes = self.context.peers.call(node, &request, timeout).await?;
            if piece.is_empty() {
                return Err(CallError::from(rpc::RpcError::Malformed("piece")).into());
            }
            whole.extend_from_slice(&piece);
        }
        Ok(rpc::decode_shard_answers(&whole.freeze()).map_err(CallError::from)?)
    }

    /// Runs a fragment on shards of this node, once all of them are as fresh as they have to be.
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
        let reads = shards.iter().map(|shard| self.read_shard(*shard, &consistency, wait));
        let reads = join_all(reads).await;
        let (mut answers, mut open) = (Vec::with_capacity(shards.len()), Vec::with_capacity(shards.len()));
        for (shard, read) in shards.into_iter().zip(reads) {
            match read {
                Ok(snapshot) => open.push((shard, snapshot)),
                Err(error) => answers.push(ShardAnswer { shard, result: Err(refusal_of(error)) }),
            }
        }
        if open.is_empty() {
            return answers;
        }
        let asked: Vec<ShardId> = open.iter().map(|(shard, _)| *shard).collect();
        match E::Runtime::timeout(timeout, self.fragments.run(open, fragment)).await {
            Ok(results) => answers.extend(results.into_iter().map(|(shard, result)| {
                let result = result.map_err(|e| Refusal::Failed { kind: e.kind, message: e.message });
                ShardAnswer { shard, result }
            })),
            Err(_) => answers.extend(asked.into_iter().map(|shard| {
                let message = format!("the fragment did not end within {timeout:?}");
                ShardAnswer { shard, result: Err(Refusal::Failed { kind: ErrorKind::Timeout, message }) }
            })),
        }
        answers
    }
}

/// Bytes of answers that an asker can still take.
struct AnswerRoom {
    limit: u64,
    taken: AtomicU64,
}

impl AnswerRoom {
    const fn new(limit: u64, taken: u64) -> Self {
        Self { limit, taken: AtomicU64::new(taken) }
    }

    /// An answer of so many bytes comes, or is about to.
    fn take(&self, more: u64) -> Result<(), AskError> {
        let bytes = self.taken.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if bytes > self.limit { Err(AskError::TooLong { bytes }) } else { Ok(()) }
    }
}

/// Why a node has no answer for us.
enum AskError {
    /// It was not to be had.
    Call(CallError),
    /// There is no room for it.
    TooLong {
        /// What came so far, and was announced.
        bytes: u64,
    },
}

impl From<CallError> for AskError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

fn refusal_of(error: ReadError) -> Refusal {
    match error {
        ReadError::NotLeader { leader, .. } => Refusal::NotLeader { leader },
        ReadError::NotHosted { .. } => Refusal::NotHosted,
        ReadError::Fragment { kind, message, .. } => Refusal::Failed { kind, message },
        e @ (ReadError::Behind { .. } | ReadError::Missing { .. } | ReadError::TooLong { .. }) => {
            Refusal::Failed { kind: e.kind(), message: e.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::TokioRuntime;

    use super::*;

    #[test]
    fn an_answer_beyond_the_limit_is_refused_for_good() {
        let answers = LongAnswers::<TokioRuntime>::default();
        let refusal = answers.first(vec![0; MAX_KEPT_BYTES + 1].into()).unwrap_err();
        let Refusal::Failed { kind, message } = refusal else { panic!("{refusal}") };
        assert!(!kind.is_retryable() && message.contains("268435457 bytes"), "{message}");
    }

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
