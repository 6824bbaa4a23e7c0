//! From sub-batches to entries.
//!
//! A sub-batch that comes while nothing is in flight becomes an entry at once. While an entry is in flight, what comes
//! gathers, and becomes the next entry when that one is applied, or earlier when enough has gathered to be worth an entry
//! of its own ([`EAGER_BYTES`]), with at most [`MAX_IN_FLIGHT`] entries under way. So a lone writer pays one commit's
//! latency, and many writers share commits without a timer.
//!
//! The queue is bounded by bytes; what does not fit is refused and was certainly not written. A sub-batch whose sender
//! has given up waiting is dropped from the queue before it costs an entry: it was not written either, though its sender
//! does not know.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use openraft_rt::{AsyncRuntime, Instant, Oneshot, OneshotSender};
use protocol::command::{CommandHeader, CommandOutcome, encode_write};
use protocol::ids::{LogIndex, NodeId, ShardId};

use crate::env::{Env, detach};
use crate::meta::ReplicaId;
use crate::network::rpc::{MAX_PAYLOAD_BYTES, ProposeAnswer, Refusal};
use crate::router::shard_writer::WriteError;
use crate::shard::{Group, log_index};
use crate::types::Command;

/// Entries of a shard that may be under way.
const MAX_IN_FLIGHT: usize = 4;
/// Gathered bytes from which another entry goes out while one is in flight.
const EAGER_BYTES: usize = 256 << 10;
/// Sub-batches are gathered up to this size of an entry.
const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Bytes that may wait.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Why a sub-batch has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProposeError {
    /// Not written: somebody else leads.
    NotLeader(Option<NodeId>),
    /// Not written: the queue is full.
    Overloaded(usize),
    /// Not written: the disk is nearly full.
    DiskFull,
    /// Not written: there is no memory for more, or for the new series that it names.
    MemoryFull,
    /// Perhaps written.
    Unknown(String),
    /// Not written: the replica has stopped.
    Stopped,
}

impl ProposeError {
    pub fn into_write_error(self, shard: ShardId) -> WriteError {
        match self {
            Self::NotLeader(leader) => {
                let reason =
                    leader.map_or_else(|| "none is known".to_owned(), |id| format!("node {id} may lead"));
                WriteError::NoLeader { shard, reason }
            }
            Self::Overloaded(bytes) => {
                WriteError::Overloaded { shard, reason: format!("{bytes} bytes wait") }
            }
            Self::DiskFull => WriteError::Overloaded { shard, reason: "the disk is nearly full".to_owned() },
            Self::MemoryFull => WriteError::Overloaded {
                shard,
                reason: "its nodes have no memory left for writes, or for new series".to_owned(),
            },
            Self::Unknown(reason) => WriteError::Uncertain { shard, reason },
            Self::Stopped => WriteError::NoLeader { shard, reason: "the replica has stopped".to_owned() },
        }
    }

    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::NotLeader(leader) => Refusal::NotLeader { leader },
            Self::Overloaded(bytes) => Refusal::Overloaded { queued_bytes: bytes as u64 },
            Self::DiskFull => Refusal::DiskFull,
            Self::MemoryFull => Refusal::MemoryFull,
            Self::Unknown(reason) => Refusal::Unknown { reason },
            Self::Stopped => Refusal::NotHosted,
        }
    }
}

type Answer = Result<ProposeAnswer, ProposeError>;
type Sender<R, T> = <<R as AsyncRuntime>::Oneshot as Oneshot>::Sender<T>;

struct Waiting<R: AsyncRuntime> {
    sub_batch: Bytes,
    deadline: R::Instant,
    answer: Sender<R, Answer>,
}

struct Queue<R: AsyncRuntime> {
    waiting: VecDeque<Waiting<R>>,
    bytes: usize,
    in_flight: usize,
}

/// Gathers the sub-batches of one shard.
pub(crate) struct Proposer<E: Env> {
    queue: Mutex<Queue<E::Runtime>>,
}

impl<E: Env> Default for Proposer<E> {
    fn default() -> Self {
        Self { queue: Mutex::new(Queue { waiting: VecDeque::new(), bytes: 0, in_flight: 0 }) }
    }
}

impl<E: Env> Proposer<E> {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue<E::Runtime>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: AsyncRuntime> Queue<R> {
    /// The sub-batches of the next entry, if one may go out now.
    fn take(&mut self, now: R::Instant) -> Option<Vec<Waiting<R>>> {
        let may_go = self.in_flight == 0 || (self.in_flight < MAX_IN_FLIGHT && self.bytes >= EAGER_BYTES);
        if !may_go {
            return None;
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            let len = next.sub_batch.len();
            if !taken.is_empty() && bytes + len > MAX_ENTRY_BYTES {
                break;
            }
            let next = self.waiting.pop_front().expect("the front was just looked at");
            self.bytes -= len;
            if next.deadline > now {
                bytes += len;
                taken.push(next);
            }
        }
        if taken.is_empty() {
            return None;
        }
        self.in_flight += 1;
        Some(taken)
    }
}

impl<E: Env> Group<E> {
    /// Gets a sub-batch into the log and applied. Only the leader can.
    pub async fn propose(self: &Arc<Self>, sub_batch: Bytes, timeout: Duration) -> Answer {
        let Some(shard) = &self.shard else { return Err(ProposeError::Stopped) };
        if self.is_stopping() {
            return Err(ProposeError::Stopped);
        }
        if !self.is_leader() {
            return Err(ProposeError::NotLeader(self.leader_node()));
        }
        if self.context.disk_full.load(Ordering::Acquire) {
            return Err(ProposeError::DiskFull);
        }
        if self.lacks_memory_for(&shard.store, &sub_batch) {
            return Err(ProposeError::MemoryFull);
        }
        let (answer, outcome) = <E::Runtime as AsyncRuntime>::Oneshot::channel();
        {
            let mut queue = shard.proposer.queue();
            let len = sub_batch.len();
            if queue.bytes + len > MAX_QUEUED_BYTES || len > MAX_PAYLOAD_BYTES {
                return Err(ProposeError::Overloaded(queue.bytes));
            }
            queue.bytes += len;
            let deadline = <E::Runtime as AsyncRuntime>::Instant::now() + timeout;
            queue.waiting.push_back(Waiting { sub_batch, deadline, answer });
        }
        self.pump();
        match E::Runtime::timeout(timeout, outcome).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ProposeError::Unknown("the replica stopped meanwhile".to_owned())),
            Err(_) => Err(ProposeError::Unknown(format!("not committed within {timeout:?}"))),
        }
    }

    /// Sends out what may go out.
    fn pump(self: &Arc<Self>) {
        let Some(shard) = &self.shard else { return };
        loop {
            let taken = shard.proposer.queue().take(<E::Runtime as AsyncRuntime>::Instant::now());
            let Some(taken) = taken else { return };
            let group = self.clone();
            detach::<E>(async move {
                group.send(taken).await;
                if let Some(shard) = &group.shard {
                    shard.proposer.queue().in_flight -= 1;
                }
                group.pump();
            });
        }
    }

    async fn send(&self, taken: Vec<Waiting<E::Runtime>>) {
        let (mut batches, mut answers) = (Vec::with_capacity(taken.len()), Vec::with_capacity(taken.len()));
        for waiting in taken {
            batches.push(waiting.sub_batch);
            answers.push(waiting.answer);
        }
        let command = encode_write(self.command_header(), &batches);
        drop(batches);
        match self.submit(command).await {
            Err(error) => {
                for answer in answers {
                    // Whoever gave up waiting is no matter, here and below.
                    let _ = answer.send(Err(error.clone()));
                }
            }
            Ok((index, outcome)) => match CommandOutcome::decode(&outcome) {
                Ok(CommandOutcome::Write(outcomes)) if outcomes.len() == answers.len() => {
                    for (answer, outcome) in answers.into_iter().zip(outcomes) {
                        let _ = answer.send(Ok(ProposeAnswer { index: index.0, outcome }));
                    }
                }
                other => {
                    tracing::error!(shard = %self.id, ?other, "a write has an outcome that is not a write's");
                    for answer in answers {
                        let _ =
                            answer.send(Err(ProposeError::Unknown("the outcome makes no sense".to_owned())));
                    }
                }
            },
        }
    }

    /// Header for the next command.
    pub fn command_header(&self) -> CommandHeader {
        let context = &self.context;
        CommandHeader {
            encoder_epoch: context.meta.get().settings.encoder_epoch,
            cluster_time_ms: context.clock.stamp(self.id, context.env.now_ms()),
        }
    }

    /// Puts a command into the log and waits until it is applied here.
    pub async fn submit(&self, command: Bytes) -> Result<(LogIndex, Bytes), ProposeError> {
        match self.raft.client_write(Command(command)).await {
            Ok(response) => Ok((log_index(response.log_id.index), response.data.0)),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader(forward.leader_id.map(|id| ReplicaId(id).node())))
            }
            Err(RaftError::APIError(e)) => Err(ProposeError::Unknown(e.to_string())),
            // The entry may be in the log already.
            Err(RaftError::Fatal(e)) => Err(ProposeError::Unknown(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::TokioRuntime;

    use super::*;

    type Rt = TokioRuntime;

    fn queue(lens: &[usize], in_flight: usize) -> Queue<Rt> {
        let deadline = <Rt as AsyncRuntime>::Instant::now() + Duration::from_secs(60);
        let waiting: VecDeque<_> = lens
            .iter()
            .map(|&len| Waiting {
                sub_batch: Bytes::from(vec![0; len]),
                deadline,
                answer: <Rt as AsyncRuntime>::Oneshot::channel().0,
            })
            .collect();
        Queue { waiting, bytes: lens.iter().sum(), in_flight }
    }

    fn taken(queue: &mut Queue<Rt>) -> Vec<usize> {
        let now = <Rt as AsyncRuntime>::Instant::now();
        queue.take(now).unwrap_or_default().iter().map(|w| w.sub_batch.len()).collect()
    }

    #[test]
    fn what_came_meanwhile_goes_together() {
        let mut queue = queue(&[10, 20, 30], 0);
        assert_eq!(taken(&mut queue), [10, 20, 30]);
        assert_eq!((queue.bytes, queue.in_flight), (0, 1));
    }

    #[test]
    fn small_ones_wait_for_the_entry_in_flight_and_large_ones_do_not() {
        assert_eq!(taken(&mut queue(&[10, 20], 1)), [0; 0]);
        assert_eq!(taken(&mut queue(&[EAGER_BYTES], 1)), [EAGER_BYTES]);
        assert_eq!(taken(&mut queue(&[EAGER_BYTES], MAX_IN_FLIGHT)), [0; 0]);
    }

    #[test]
    fn an_entry_is_bounded_but_for_a_single_large_batch() {
        let mut queue = queue(&[MAX_ENTRY_BYTES * 2, 600 << 10, 600 << 10], 0);
        assert_eq!(taken(&mut queue), [MAX_ENTRY_BYTES * 2]);
        assert_eq!(taken(&mut queue), [600 << 10]);
        assert_eq!(taken(&mut queue), [600 << 10]);
        assert_eq!(taken(&mut queue), [0; 0]);
    }

    #[test]
    fn nobody_writes_for_a_sender_that_gave_up() {
        let mut queue = queue(&[10, 20], 0);
        queue.waiting[0].deadline = <Rt as AsyncRuntime>::Instant::now() - Duration::from_secs(1);
        assert_eq!(taken(&mut queue), [20]);
        assert_eq!(queue.bytes, 0);
    }
}
