//! What all parts of a node share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant};
use protocol::ids::{NodeId, ShardId};
use storage::wal::Wal;

use crate::clock::ClusterClock;
use crate::env::Env;
use crate::meta::ReplicaId;
use crate::meta::machine::MetaView;
use crate::network::Peers;
use crate::node::NodeConfig;
use crate::placement::View;
use crate::shard::Wake;
use crate::status::{GroupPulse, Pulse};

/// For how long after its last word a node counts as reachable.
pub(crate) const REACHABLE_FOR: Duration = Duration::from_secs(3);

/// What all parts of a node share.
pub(crate) struct Context<E: Env> {
    pub env: E,
    pub me: NodeId,
    pub cluster_id: String,
    pub incarnation: u64,
    pub config: NodeConfig,
    pub clock: Arc<ClusterClock>,
    pub meta: Arc<MetaView<E::Runtime>>,
    pub peers: Arc<Peers<E>>,
    pub wal: Wal<E::Fs>,
    pub pulses: Pulses<E::Runtime>,
    /// Wakes whoever sends pulses: something changed that others should hear of now.
    pub pulse_now: Wake<E::Runtime>,
    /// Wakes whoever waits for another leader: a replica here or a peer said something new.
    pub leader_news: Wake<E::Runtime>,
    /// The node is stopping: nothing new begins.
    pub stopping: AtomicBool,
    /// Its groups end: what it was asked to pass on is refused, too.
    pub closing: AtomicBool,
    /// The disk is nearly full: no writes are taken.
    pub disk_full: AtomicBool,
    /// What ends before this moment has to go, for it takes more of the disk than it may; [`i64::MIN`] for nothing.
    pub evict_before_ms: AtomicI64,
    /// A flush that is to free memory is being asked for.
    pub relieving: AtomicBool,
}

impl<E: Env> Context<E> {
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Stops the node for good.
    pub fn abort(&self, reason: &str) {
        tracing::error!(node = %self.me, reason, "stopping the node");
        self.env.abort(reason);
    }

    /// Bytes of a group's entries in the log.
    pub fn log_bytes(&self, group: ShardId) -> u64 {
        self.wal.group_bytes(group)
    }

    /// Whether cluster time is a majority's word, so that data may be judged by it.
    pub fn has_cluster_time(&self) -> bool {
        let (local, members) = (self.env.now_ms(), self.meta.get().active().count());
        self.clock.is_confirmed(local, members)
    }

    /// The moment before which data has to go for this node's sake.
    pub fn evict_before_ms(&self) -> Option<i64> {
        Some(self.evict_before_ms.load(Ordering::Acquire)).filter(|moment| *moment > i64::MIN)
    }

    /// Nodes that spoke lately and are not about to end, and this one.
    pub fn reachable(&self) -> BTreeSet<NodeId> {
        let mut nodes = self.pulses.reachable();
        nodes.insert(self.me);
        nodes
    }
}

/// The last word of every other node.
pub(crate) struct Pulses<R: AsyncRuntime> {
    heard: Mutex<BTreeMap<NodeId, (Pulse, R::Instant)>>,
}

impl<R: AsyncRuntime> Default for Pulses<R> {
    fn default() -> Self {
        Self { heard: Mutex::new(BTreeMap::new()) }
    }
}

impl<R: AsyncRuntime> Pulses<R> {
    fn heard(&self) -> MutexGuard<'_, BTreeMap<NodeId, (Pulse, R::Instant)>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a node said.
    pub fn take(&self, pulse: Pulse) {
        self.heard().insert(pulse.node, (pulse, R::Instant::now()));
    }

    /// Forgets nodes that are members no more.
    pub fn retain(&self, is_member: impl Fn(NodeId) -> bool) {
        self.heard().retain(|node, _| is_member(*node));
    }

    fn fresh<T>(&self, mut look: impl FnMut(&Pulse) -> Option<T>) -> Vec<T> {
        let now = R::Instant::now();
        let heard = self.heard();
        let fresh = heard.values().filter(|(_, at)| now.saturating_duration_since(*at) < REACHABLE_FOR);
        fresh.filter_map(|(pulse, _)| look(pulse)).collect()
    }

    /// Nodes that spoke lately and are not about to end.
    pub fn reachable(&self) -> BTreeSet<NodeId> {
        self.fresh(|pulse| (!pulse.stopping).then_some(pulse.node)).into_iter().collect()
    }

    /// For how long a node has not been heard of; none if it never was.
    pub fn silence(&self, node: NodeId) -> Option<Duration> {
        self.heard().get(&node).map(|(_, at)| R::Instant::now().saturating_duration_since(*at))
    }

    /// Nodes that spoke lately and have no memory left for writes.
    pub fn short_of_memory(&self) -> BTreeSet<NodeId> {
        self.fresh(|pulse| pulse.short_of_memory.then_some(pulse.node)).into_iter().collect()
    }

    /// Nodes that said lately that data has to go, and what lies before which moment.
    pub fn evictions(&self) -> Vec<(NodeId, i64)> {
        self.fresh(|pulse| Some((pulse.node, pulse.evict_before_ms?)))
    }

    /// Who leads what, `own` groups included.
    pub fn view(&self, me: NodeId, own: &[GroupPulse]) -> View {
        let mut view = View::default();
        view.add(own);
        for groups in self.fresh(|pulse| Some(pulse.groups.clone())) {
            view.add(&groups);
        }
        view.full = self.fresh(|pulse| pulse.disk_full.then_some(pulse.node)).into_iter().collect();
        view.reachable = self.reachable();
        view.reachable.insert(me);
        view
    }

    /// Who leads a group in which term, as the others say: whoever has the highest term, a leader's own word first.
    pub fn leader_of(&self, group: ShardId) -> Option<(u64, ReplicaId)> {
        let words = self.fresh(|pulse| pulse.groups.iter().find(|g| g.group == group).cloned());
        let known = words.iter().filter_map(|g| Some(((g.term, g.leader? == g.replica), g.leader?)));
        known.max_by_key(|(rank, _)| *rank).map(|((term, _), leader)| (term, leader))
    }

    /// The leader's own word about a group.
    pub fn leader_pulse(&self, group: ShardId) -> Option<GroupPulse> {
        let mut view = View::default();
        for groups in self.fresh(|pulse| Some(pulse.groups.clone())) {
            view.add(groups.iter().filter(|g| g.group == group));
        }
        view.leaders.remove(&group)
    }

    /// What the other nodes say about their replicas of a group.
    pub fn words_on(&self, group: ShardId) -> Vec<GroupPulse> {
        self.fresh(|pulse| pulse.groups.iter().find(|g| g.group == group).cloned())
    }

    /// The newest `MetaState::version` that any other node said it has, if any spoke lately.
    pub fn newest_meta_version(&self) -> Option<u64> {
        self.fresh(|pulse| Some(pulse.meta_version)).into_iter().max()
    }

    /// The last `MetaState::version` that a node said it has.
    pub fn meta_version(&self, node: NodeId) -> Option<u64> {
        self.heard().get(&node).map(|(pulse, _)| pulse.meta_version)
    }
}
