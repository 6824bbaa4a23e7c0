//! One replica of one group: openraft over the shared log and a state machine, and what surrounds it.
//!
//! ```text
//! propose ─► queue ─► one entry in flight, the rest gathers ─► openraft ─► log ─► apply ─► outcome of each sub-batch
//! read    ─► gate: one ReadIndex round in flight ──────────────┘              └► snapshot of the store
//! driver  ─► jobs of the store, its proposals, purge, membership              (see `node::driver`)
//! ```
//!
//! Positions. openraft counts entries from 0; `LogIndex`, the store and commit tokens count from 1. The translation is
//! [`log_index`], and nothing outside this crate sees openraft's number.

pub(crate) mod proposer;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{Config, Raft, RaftMetrics, ReadPolicy, ServerState, SnapshotPolicy};
use openraft_rt::{AsyncRuntime, Instant, Watch, WatchReceiver, WatchSender};
use protocol::ids::{LogIndex, NodeId, ShardId};
use storage::engine::ShardStore;
use storage::mutant::{self, Mutant};
use storage::scan::StoreSnapshot;

use crate::env::{Env, detach};
use crate::error::ReadError;
use crate::log_store::Alone;
use crate::meta::ReplicaId;
use crate::meta::export::hex;
use crate::node::context::Context;
use crate::read::{Consistency, ReadGate};
use crate::shard::proposer::Proposer;
use crate::state_machine::Machine;
use crate::status::{DataStatus, GroupPulse, GroupStatus, Role};
use crate::types::Types;

/// openraft for one of our groups.
pub type GroupRaft<E> = Raft<Types<<E as Env>::Runtime>, Machine<E>>;
type Metrics<E> = RaftMetrics<Types<<E as Env>::Runtime>>;
type Receiver<R, T> = <<R as AsyncRuntime>::Watch as Watch>::Receiver<T>;
type Sender<R, T> = <<R as AsyncRuntime>::Watch as Watch>::Sender<T>;

/// Position of an entry as everything but openraft counts.
pub const fn log_index(raft_index: u64) -> LogIndex {
    LogIndex(raft_index + 1)
}

/// Timers of a group's replicas.
///
/// A follower asks for votes when its leader has been silent for a lease and an election timeout. If all replicas drew
/// that time from one window, two of them would often ask within the time that a vote takes to reach the disk, split
/// the votes and lose another round: the tail of every failover. So each replica has a window of its own
/// ([`RaftTiming::rank`]), behind one another, and the first to ask is almost always alone. Which replica is first
/// differs from shard to shard, so that a dead node's leaderships spread over the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTiming {
    /// How often a leader says that it lives.
    pub heartbeat_ms: u64,
    /// Shortest election timeout, of rank 0.
    pub election_min_ms: u64,
    /// Width of a window. The end of a replica's window is also the lease that it grants a leader.
    pub window_ms: u64,
}

/// After so many heartbeats without an answer a member is not one to hand a leadership to.
const HEARD_BEATS: u64 = 4;

/// Windows in a row. With more replicas some share one, which costs no more than chance did before.
const RANKS: u64 = 3;

impl Default for RaftTiming {
    /// A leader is replaced after 0.66 to 0.96 s of silence.
    fn default() -> Self {
        Self { heartbeat_ms: 100, election_min_ms: 300, window_ms: 60 }
    }
}

impl RaftTiming {
    /// Which window a replica draws from.
    fn rank(group: ShardId, replica: ReplicaId) -> u64 {
        (replica.node().0 + u64::from(group.0)) % RANKS
    }

    fn window(&self, group: ShardId, replica: ReplicaId) -> (u64, u64) {
        let start = self.election_min_ms + Self::rank(group, replica) * self.window_ms;
        (start, start + self.window_ms)
    }
}

/// openraft's settings for our groups.
pub(crate) fn raft_config(
    timing: RaftTiming,
    group: ShardId,
    replica: ReplicaId,
) -> Result<Arc<Config>, openraft::ConfigError> {
    let (election_min_ms, election_max_ms) = timing.window(group, replica);
    let config = Config {
        cluster_name: format!("group-{group}"),
        heartbeat_interval: timing.heartbeat_ms,
        // Under load a replication answer proves the same as a heartbeat.
        heartbeat_min_interval: Some(timing.heartbeat_ms * 2 / 3),
        election_timeout_min: election_min_ms,
        election_timeout_max: election_max_ms,
        enable_pre_vote: Some(true),
        // Entries are gathered to a megabyte, and the log store bounds a read by bytes besides.
        max_payload_entries: 64,
        // As long as the log holds the entries they are sent; a snapshot is for those behind a purge.
        replication_lag_threshold: 1_000_000,
        // Flushes decide when a snapshot is worth something, and the driver when the log may go.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 30 * 60 * 1000,
        backoff: "100ms 200ms 400ms ...500ms".to_owned(),
        // The committed position is stored unsynced, so a restarted leader may not know what it committed: it must be
        // elected again and commit an entry of its own before it serves.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

/// Wakes a task, and does not forget when the task is busy.
pub(crate) struct Wake<R: AsyncRuntime> {
    /// Senders need not be shareable between threads.
    sender: Mutex<Sender<R, u64>>,
    receiver: Receiver<R, u64>,
}

impl<R: AsyncRuntime> Default for Wake<R> {
    fn default() -> Self {
        let (sender, receiver) = R::Watch::channel(0);
        Self { sender: Mutex::new(sender), receiver }
    }
}

impl<R: AsyncRuntime> Wake<R> {
    pub fn wake(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).send_if_modified(|count| {
            *count += 1;
            true
        });
    }

    pub fn listen(&self) -> Receiver<R, u64> {
        self.receiver.clone()
    }
}

/// Counts steps that may write into a shard's directory: it is removed only when there are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(Arc<AtomicUsize>);

/// One counted step. It ends when this is dropped.
pub(crate) struct Entered(Arc<AtomicUsize>);

impl Running {
    pub fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::AcqRel);
        Entered(self.0.clone())
    }

    pub fn is_idle(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a shard has that the meta group has not.
pub(crate) struct ShardParts<E: Env> {
    pub store: Arc<ShardStore<E::Fs>>,
    pub running: Running,
    pub proposer: Proposer<E>,
    pub gate: ReadGate<E::Runtime>,
}

/// A running replica.
pub(crate) struct Group<E: Env> {
    pub context: Arc<Context<E>>,
    pub id: ShardId,
    pub replica: ReplicaId,
    pub raft: GroupRaft<E>,
    pub shard: Option<ShardParts<E>>,
    pub wake: Arc<Wake<E::Runtime>>,
    /// A membership change of ours is under way.
    pub changing: AtomicBool,
    /// A command of the store (flush, merge, install) is under way.
    pub commanding: AtomicBool,
    /// The replica is being stopped; its tasks end.
    pub stopping: AtomicBool,
    alone: Arc<Alone>,
    metrics: Receiver<E::Runtime, Metrics<E>>,
}

/// Whether the members that a replica goes by are committed.
pub(crate) fn is_committed<E: Env>(metrics: &Metrics<E>) -> bool {
    metrics.committed_membership_config.log_id() == metrics.membership_config.log_id()
}

impl<E: Env> Group<E> {
    pub fn new(
        context: Arc<Context<E>>,
        id: ShardId,
        replica: ReplicaId,
        raft: GroupRaft<E>,
        alone: Arc<Alone>,
        shard: Option<ShardParts<E>>,
        wake: Arc<Wake<E::Runtime>>,
    ) -> Self {
        let metrics = raft.metrics();
        Self {
            context,
            id,
            replica,
            raft,
            alone,
            shard,
            wake,
            changing: AtomicBool::new(false),
            commanding: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            metrics,
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Looks at openraft's view of the group. Short: openraft waits meanwhile.
    pub fn with_metrics<T>(&self, look: impl FnOnce(&Metrics<E>) -> T) -> T {
        look(&self.metrics.borrow_watched())
    }

    pub fn watch_metrics(&self) -> Receiver<E::Runtime, Metrics<E>> {
        self.metrics.clone()
    }

    pub fn is_leader(&self) -> bool {
        self.with_metrics(|m| m.state == ServerState::Leader)
    }

    pub fn leader(&self) -> Option<ReplicaId> {
        self.with_metrics(|m| m.current_leader).map(ReplicaId)
    }

    pub fn leader_node(&self) -> Option<NodeId> {
        self.leader().map(ReplicaId::node)
    }

    /// Whether this leader heard from a member within the last few heartbeats. Pulses tell it too, but seconds later: a
    /// leadership given to a node that has just died is another election.
    pub fn hears(&self, member: ReplicaId) -> bool {
        let now = <E::Runtime as AsyncRuntime>::Instant::now();
        let quiet = Duration::from_millis(self.context.config.raft.heartbeat_ms * HEARD_BEATS);
        self.with_metrics(|m| {
            let heard = m.heartbeat.as_ref().and_then(|heard| *heard.get(&member.0)?);
            heard.is_some_and(|at| now.saturating_duration_since(*at) <= quiet)
        })
    }

    pub fn applied(&self) -> LogIndex {
        self.with_metrics(|m| m.last_applied.map_or(LogIndex(0), |id| log_index(id.index)))
    }

    /// What peers need to know.
    pub fn pulse(&self) -> GroupPulse {
        let data = self.shard.as_ref().map_or(0, |s| s.store.segment_bytes());
        GroupPulse { bytes: self.context.log_bytes(self.id) + data, ..self.place() }
    }

    /// The replica's place in its group: a pulse without sizes, which take longer to find out.
    pub fn place(&self) -> GroupPulse {
        self.with_metrics(|m| {
            let membership = m.membership_config.membership();
            let index = |id: Option<u64>| id.map_or(0, |i| log_index(i).0);
            let voters: BTreeSet<ReplicaId> = membership.voter_ids().map(ReplicaId).collect();
            let role = match m.state {
                _ if m.running_state.is_err() => Role::Stopped,
                ServerState::Leader => Role::Leader,
                ServerState::Candidate => Role::Candidate,
                ServerState::Follower => Role::Follower,
                ServerState::Shutdown => Role::Stopped,
                _ => Role::Learner,
            };
            let matched = m.replication.iter().flatten();
            GroupPulse {
                group: self.id,
                replica: self.replica,
                role,
                leader: m.current_leader.map(ReplicaId),
                term: m.current_term,
                last_log: index(m.last_log_index),
                applied: index(m.last_applied.map(|id| id.index)),
                voters: voters.into_iter().collect(),
                learners: membership.learner_ids().map(ReplicaId).collect(),
                joint: membership.get_joint_config().len() > 1 || !is_committed::<E>(m),
                matched: matched.map(|(r, id)| (ReplicaId(*r), index(id.map(|id| id.index)))).collect(),
                bytes: 0,
            }
        })
    }

    /// What people want to know.
    pub fn status(&self) -> GroupStatus {
        let data = self.shard.as_ref().map(|shard| {
            let (stats, digest) = (shard.store.stats(), shard.store.digest());
            DataStatus {
                flushed: (stats.flushed_index > 0).then_some(stats.flushed_index),
                log_bytes: self.context.log_bytes(self.id),
                memtable_bytes: stats.memtable_bytes + stats.frozen_bytes,
                segment_bytes: stats.segment_bytes,
                flushed_bytes: stats.flushed_bytes,
                merged_bytes: stats.merged_bytes,
                segments: stats.segments,
                series: stats.series,
                digest_index: digest.op_index.0,
                digest: hex(&digest.digest),
            }
        });
        let error = self.with_metrics(|m| m.running_state.as_ref().err().map(ToString::to_string));
        GroupStatus { pulse: self.pulse(), data, error }
    }

    /// A view of the store that is as fresh as asked for.
    pub async fn read(
        self: &Arc<Self>,
        consistency: &Consistency,
        timeout: Duration,
    ) -> Result<StoreSnapshot, ReadError> {
        let Some(shard) = &self.shard else { return Err(ReadError::NotHosted { shard: self.id }) };
        match consistency {
            Consistency::Local => {}
            // No round can tell what this replica does not know.
            Consistency::Linearizable if self.leads_alone() => {}
            Consistency::Session(_) => self.wait_applied(consistency.seen(self.id), timeout).await?,
            Consistency::Linearizable => {
                let (answer, must_drive) = shard.gate.enter();
                if must_drive {
                    let group = self.clone();
                    // Others wait for the round too, so it must not end with the reader that began it.
                    detach::<E>(async move {
                        let shard = group.shard.as_ref().expect("the group was a shard when the round began");
                        shard.gate.drive(|| group.confirm()).await;
                    });
                }
                let missing =
                    |reason: &str| ReadError::Missing { shards: vec![self.id], reason: reason.to_owned() };
                match E::Runtime::timeout(timeout, answer).await {
                    Ok(Ok(index)) if mutant::is(Mutant::ReadBeforeApplied) => drop(index?),
                    Ok(Ok(index)) => self.wait_applied(index?, timeout).await?,
                    Ok(Err(_)) => return Err(missing("the replica stopped")),
                    Err(_) => return Err(missing("no quorum confirmed the leader in time")),
                }
            }
        }
        Ok(shard.store.snapshot())
    }

    /// Whether this replica leads, has everything that was ever committed, and is the only one that votes. Then whatever
    /// was acknowledged before this call is applied here, and nobody else can have acknowledged anything.
    ///
    /// openraft's view may be old. It can not hide that another one leads: the members had to change first, which
    /// [`Alone`] tells before anybody else hears of it.
    pub fn leads_alone(&self) -> bool {
        let members = self.alone.members();
        let (leads, was_alone) = self.with_metrics(|m| {
            // An entry of its own term was applied after all that earlier leaders committed.
            let is_complete = m.last_applied.is_some_and(|id| id.leader_id.term == m.current_term);
            let leads = m.state == ServerState::Leader && m.running_state.is_ok() && is_complete;
            (leads, self.alone.is_alone_in(m.membership_config.membership()))
        });
        let is_alone = members.are_one() || (members.are_as_opened() && was_alone);
        leads && is_alone && self.alone.members() == members
    }

    /// One ReadIndex round: which entry a read that began before it must have seen.
    async fn confirm(&self) -> Result<u64, ReadError> {
        if mutant::is(Mutant::ReadWithoutQuorum) && self.is_leader() {
            return Ok(self.applied().0);
        }
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(log_index(linearizer.read_log_id().index()).0),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ReadError::NotLeader {
                    shard: self.id,
                    leader: forward.leader_id.map(|id| ReplicaId(id).node()),
                })
            }
            Err(e) => Err(ReadError::Missing { shards: vec![self.id], reason: e.to_string() }),
        }
    }

    /// Waits until an entry is applied here.
    pub async fn wait_applied(&self, wanted: u64, timeout: Duration) -> Result<(), ReadError> {
        if self.applied().0 >= wanted {
            return Ok(());
        }
        let mut metrics = self.watch_metrics();
        let reached = async {
            loop {
                let applied = metrics.borrow_watched().last_applied.map_or(0, |id| log_index(id.index).0);
                if applied >= wanted {
                    return true;
                }
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
        };
        match E::Runtime::timeout(timeout, reached).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(ReadError::NotHosted { shard: self.id }),
            Err(_) => Err(ReadError::Behind { shard: self.id, applied: self.applied().0, wanted }),
        }
    }
}
