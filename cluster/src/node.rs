//! A node of the cluster: its groups on the shared log, and everything that is asked of it.
//!
//! ```text
//! start ─► identity ─► log ─► meta group ─► groups of the shards it holds ─► serve peers
//! tasks: pulses (1 s: clocks, who leads, who lives) · groups (follow the meta state) · duties (meta leader: placement)
//!        · housekeeping (log bytes) · one driver per group (jobs, flushes, purge, membership)
//! ```
//!
//! Entry points: [`Node::start`], [`Node::stop`]; `write.rs` gets sub-batches to leaders, `fragment.rs` runs fragments on
//! all shards, `admin.rs` moves, drains and removes, `handler.rs` answers peers.
//!
//! A shard's replica runs here from when the meta state wants it until the meta state wants it no more *and* the shard's
//! leader says that it has left the group: a voter that vanished early would cost a quorum.

mod admin;
mod capture;
pub(crate) mod context;
pub mod delete;
mod driver;
mod duties;
pub mod fragment;
mod groups;
mod handler;
pub(crate) mod identity;
pub mod invite;
pub(crate) mod memory;
mod offer;
pub(crate) mod shard_dirs;
mod space;
mod start;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use openraft_rt::{AsyncRuntime, Instant, WatchReceiver};
use protocol::ids::{ClusterSecret, META_GROUP, NodeId, ShardId};
use protocol::memory::{MemoryLedger, Pressure};
use storage::engine::{FlushPolicy, ShardOptions};
use storage::manifest::SegmentMeta;
use storage::scan::StoreSnapshot;
use storage::wal::WalOptions;

use crate::clock::ClusterClock;
use crate::env::Env;
use crate::error::ReadError;
use crate::meta::{MemberState, MetaState, ReplicaId};
use crate::read::Consistency;
use crate::shard::{Group, RaftTiming};
use crate::shard_map::ShardMap;
use crate::status::{
    ClusterStatus, LogStatus, MemberStatus, NodeStatus, PeerStatus, Pulse, Role, ShardStatus,
};

use context::Context;
pub use delete::{Delete, LogDelete};
pub use fragment::{FragmentError, FragmentHandler, FragmentResult, NoFragments};
pub use space::DataLimits;

/// How long peers may take to hear that this node stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// The latest term in which a group is known to have a leader, and that leader.
type Leadership = Option<(u64, NodeId)>;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where its data is. Made if it is not there.
    pub data_dir: PathBuf,
    /// `host:port` where its peers reach it.
    pub advertise: String,
    /// Addresses of members to join through. Empty: an empty data directory becomes the first node of a new cluster.
    /// Ignored once the node has an identity.
    pub join: Vec<String>,
    /// Secret of the join token, if it has one.
    pub join_secret: Option<String>,
    /// How long to try to join.
    pub join_timeout: Duration,
    /// Number of shards of a new cluster.
    pub shards: u16,
    /// Replicas of each shard of a new cluster, where there are nodes enough.
    pub replication_factor: u32,
    /// After how long a silence others are given what a node holds; never if none.
    pub rebuild_after: Option<Duration>,
    /// Formats of newer epochs are not known to it.
    pub newest_epoch: u16,
    /// Timers of Raft.
    pub raft: RaftTiming,
    /// The log.
    pub wal: WalOptions,
    /// The shards' stores.
    pub store: ShardOptions,
    /// When shards flush and merge.
    pub flush: FlushPolicy,
    /// Bytes of log entries that no segment covers yet, all groups together; above, the largest shard flushes.
    pub max_unflushed_bytes: u64,
    /// What segments may take of the disk, and what has to stay free.
    pub data_limits: DataLimits,
    /// The node's memory. Whoever else holds some on this node draws on the same ledger.
    pub memory: MemoryLedger,
}

impl NodeConfig {
    /// Defaults for a node with this data directory and address.
    pub fn new(data_dir: impl Into<PathBuf>, advertise: impl Into<String>) -> Self {
        Self {
            data_dir: data_dir.into(),
            advertise: advertise.into(),
            join: Vec::new(),
            join_secret: None,
            join_timeout: Duration::from_secs(60),
            shards: crate::shard_map::DEFAULT_SHARDS,
            replication_factor: 3,
            rebuild_after: Some(Duration::from_secs(300)),
            newest_epoch: protocol::epoch::NEWEST,
            raft: RaftTiming::default(),
            wal: WalOptions::default(),
            store: ShardOptions::default(),
            flush: FlushPolicy::default(),
            max_unflushed_bytes: 384 << 20,
            data_limits: DataLimits::default(),
            memory: MemoryLedger::default(),
        }
    }
}

/// A running node. See the module's documentation.
pub struct Node<E: Env> {
    context: Arc<Context<E>>,
    fragments: Arc<dyn FragmentHandler>,
    groups: Mutex<BTreeMap<ShardId, Arc<Group<E>>>>,
    /// Shards whose replica here could not be opened.
    broken: Mutex<BTreeMap<ShardId, groups::Broken<<E::Runtime as AsyncRuntime>::Instant>>>,
    /// What the directories of shards hold.
    dirs: Mutex<shard_dirs::ShardDirs>,
    offers: offer::Offers<E>,
    answers: fragment::LongAnswers<E::Runtime>,
    /// The shard map as of a version of the meta state.
    map: Mutex<(u64, Arc<ShardMap>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleep between two looks at something that changes without telling.
const POLL: Duration = Duration::from_millis(50);

impl<E: Env> Node<E> {
    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.context.me
    }

    /// Name of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.context.cluster_id
    }

    /// The meta state as applied here.
    pub fn meta(&self) -> Arc<MetaState> {
        self.context.meta.get()
    }

    /// The secret that keys hashes of outside data.
    pub fn secret(&self) -> ClusterSecret {
        self.meta().secret.expect("`start` returns after the meta state is here, and the secret stays")
    }

    /// Cluster time.
    pub fn clock(&self) -> &ClusterClock {
        &self.context.clock
    }

    /// Cluster time now, in milliseconds.
    pub fn cluster_time_ms(&self) -> i64 {
        self.context.clock.now_ms(self.context.env.now_ms())
    }

    /// The shard map as applied here.
    pub fn shard_map(&self) -> Arc<ShardMap> {
        let meta = self.meta();
        let mut map = lock(&self.map);
        if map.0 != meta.version
            && let Ok(now) = ShardMap::even(meta.shards.len() as u16)
        {
            if *map.1 != now {
                map.1 = Arc::new(now);
            }
            map.0 = meta.version;
        }
        map.1.clone()
    }

    fn group(&self, id: ShardId) -> Option<Arc<Group<E>>> {
        lock(&self.groups).get(&id).cloned()
    }

    fn all_groups(&self) -> Vec<Arc<Group<E>>> {
        lock(&self.groups).values().cloned().collect()
    }

    fn meta_group(&self) -> Option<Arc<Group<E>>> {
        self.group(META_GROUP)
    }

    /// The node that leads a group, as far as is known here: by this node's replica or by pulses, whichever knows the later
    /// term.
    pub fn leader_of(&self, group: ShardId) -> Option<NodeId> {
        self.leadership(group).map(|(_, leader)| leader)
    }

    /// Who leads a group, and in which term.
    fn leadership(&self, group: ShardId) -> Leadership {
        let local = self.group(group);
        let here =
            local.and_then(|g| g.with_metrics(|m| Some((m.current_term, ReplicaId(m.current_leader?)))));
        let heard = self.context.pulses.leader_of(group);
        let latest = here.into_iter().chain(heard).max_by_key(|(term, _)| *term);
        latest.map(|(term, leader)| (term, leader.node()))
    }

    /// Waits until one of the groups has another leader than it is given with, for `at_most` as long.
    async fn another_leader(&self, known: &[(ShardId, Leadership)], at_most: Duration) {
        let mut news = self.context.leader_news.listen();
        let another = async {
            let is_new = |(group, known): &(ShardId, Leadership)| {
                let now = self.leadership(*group);
                now.is_some() && now != *known
            };
            while !known.iter().any(is_new) {
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        // Without news the ones that were asked may answer again all the same.
        let _ = E::Runtime::timeout(at_most, another).await;
    }

    /// Whether this node leads a group.
    pub fn leads(&self, group: ShardId) -> bool {
        self.group(group).is_some_and(|g| g.is_leader())
    }

    /// Whether the node can be sent traffic: it knows the cluster, and its replicas that have a leader have caught up with
    /// it. Does not wait for peers: a replica whose group has no leader does not count.
    pub fn is_ready(&self) -> bool {
        let meta = self.meta();
        let known = meta.is_bootstrapped()
            && meta
                .members
                .get(&self.id())
                .is_some_and(|m| matches!(m.state, MemberState::Active | MemberState::Draining));
        let wanted = meta.shards.iter().filter(|(_, s)| s.replicas.contains_key(&self.id()));
        known
            && wanted.map(|(id, _)| id).all(|id| self.group(*id).is_some())
            && self.all_groups().iter().all(|group| {
                let pulse = group.place();
                match (pulse.role, self.context.pulses.leader_pulse(group.id)) {
                    (Role::Leader, _) => {
                        pulse.applied + crate::placement::CAUGHT_UP_ENTRIES >= pulse.last_log
                    }
                    (_, Some(leader)) => {
                        pulse.applied + 2 * crate::placement::CAUGHT_UP_ENTRIES >= leader.applied
                    }
                    (_, None) => true,
                }
            })
    }

    /// What this node tells its peers.
    fn pulse(&self) -> Pulse {
        Pulse {
            node: self.id(),
            addr: self.context.config.advertise.clone(),
            clock_ms: self.context.env.now_ms(),
            meta_version: self.meta().version,
            stopping: self.context.is_stopping(),
            groups: self.all_groups().iter().map(|g| g.pulse()).collect(),
            short_of_memory: self.context.config.memory.pressure() >= Pressure::Writes,
            disk_full: self.context.disk_full.load(Ordering::Acquire),
            evict_before_ms: self.context.evict_before_ms(),
        }
    }

    /// A view of a shard's store on this node, as fresh as asked for.
    pub async fn read_shard(
        &self,
        shard: ShardId,
        consistency: &Consistency,
        timeout: Duration,
    ) -> Result<StoreSnapshot, ReadError> {
        let group = self.group(shard).ok_or(ReadError::NotHosted { shard })?;
        group.read(consistency, timeout).await
    }

    /// The segments of this node's replicas.
    pub fn segments(&self) -> Vec<(ShardId, SegmentMeta)> {
        let of = |group: Arc<Group<E>>| {
            let segments = group.shard.as_ref().map(|shard| shard.store.segments()).unwrap_or_default();
            segments.into_iter().map(move |segment| (group.id, segment))
        };
        self.all_groups().into_iter().flat_map(of).collect()
    }

    /// What this node knows about itself.
    pub fn node_status(&self) -> NodeStatus {
        let context = &self.context;
        let now = context.env.now_ms();
        let (meta, reachable) = (self.meta(), context.reachable());
        let wal = context.wal.stats();
        let peers = meta.present().filter(|(id, _)| *id != self.id()).map(|(id, member)| PeerStatus {
            id,
            addr: member.addr.clone(),
            reachable: reachable.contains(&id),
            clock_offset_ms: context.clock.offset_ms(id),
        });
        NodeStatus {
            id: self.id(),
            addr: context.config.advertise.clone(),
            cluster_id: context.cluster_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.is_ready(),
            clock_ms: now,
            clock_offset_ms: context.clock.median_offset_ms(now),
            clock_disagrees: context.clock.disagrees(now),
            log: LogStatus {
                disk_bytes: wal.disk_bytes,
                live_bytes: wal.groups.iter().map(|g| g.bytes).sum(),
            },
            groups: self.all_groups().iter().map(|g| g.status()).collect(),
            peers: peers.collect(),
        }
    }

    /// What all nodes know about themselves, those that answer within `timeout`.
    pub async fn status(self: &Arc<Self>, timeout: Duration) -> ClusterStatus {
        let meta = self.meta();
        let mut nodes = Vec::new();
        for (id, member) in meta.present() {
            let node = self.clone();
            let ask = E::Runtime::spawn(async move {
                if id == node.id() {
                    return Some(node.node_status());
                }
                node.context.peers.call(id, &crate::network::rpc::Request::Status, timeout).await.ok()
            });
            nodes.push((id, member.clone(), ask));
        }
        let mut members = Vec::new();
        for (id, member, ask) in nodes {
            let status: Option<NodeStatus> = ask.await.ok().flatten();
            members.push(MemberStatus {
                id,
                addr: member.addr,
                state: member.state,
                epoch: member.epoch,
                reachable: status.is_some(),
                status,
            });
        }
        let groups = || members.iter().filter_map(|m| m.status.as_ref()).flat_map(|s| &s.groups);
        let everybody = meta.present().map(|(id, _)| id).collect();
        let mut shards = vec![ShardStatus::gather(META_GROUP, everybody, groups())];
        for (id, shard) in &meta.shards {
            shards.push(ShardStatus::gather(*id, shard.replicas.keys().copied().collect(), groups()));
        }
        ClusterStatus {
            cluster_id: self.context.cluster_id.clone(),
            node: self.id(),
            meta_leader: shards[0].leader,
            epoch: meta.settings.encoder_epoch,
            nodes: members,
            shards,
        }
    }

    /// Hands over what this node leads, for good: it leads nothing from here on unless nobody else can. Everything is
    /// served meanwhile and afterwards, through the new leaders. Takes a few seconds at most.
    pub async fn hand_over_leaderships(self: &Arc<Self>) {
        if self.context.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::info!(node = %self.id(), "handing over leaderships");
        // Peers that stop at the same time say so in turn, and nobody waits for an heir that is about to go.
        let pulse = self.pulse();
        let farewells = self.context.peers.others().into_iter().map(|peer| self.ping(peer, pulse.clone()));
        let _ = E::Runtime::timeout(FAREWELL, join_all(farewells)).await;
        let deadline = <E::Runtime as AsyncRuntime>::Instant::now() + Duration::from_secs(3);
        let handovers: Vec<_> = self
            .all_groups()
            .into_iter()
            .map(|group| {
                let node = self.clone();
                E::Runtime::spawn(async move { node.hand_over(&group, deadline).await })
            })
            .collect();
        for handover in handovers {
            // A panic in there ended only that task.
            let _ = handover.await;
        }
    }

    /// Stops the node in an orderly way: hands over what it leads, then ends its groups. Peers may be served until the
    /// end; the process can exit afterwards. Takes a few seconds at most.
    pub async fn stop(self: &Arc<Self>) {
        self.hand_over_leaderships().await;
        self.context.closing.store(true, Ordering::Release);
        let groups: Vec<_> = std::mem::take(&mut *lock(&self.groups)).into_values().collect();
        for group in groups {
            group.stopping.store(true, Ordering::Release);
            group.wake.wake();
            if let Err(e) = group.raft.shutdown().await {
                tracing::warn!(group = %group.id, error = %e, "a group did not end well");
            }
        }
        self.context.wal.close();
    }

    /// Hands the leadership of a group to another voter, if this node has it. Ends when the new leader is there, or after
    /// a second or two without one: then this node or another one leads again by election.
    pub async fn transfer_leader(&self, group: ShardId) {
        if let Some(group) = self.group(group) {
            self.hand_over(&group, <E::Runtime as AsyncRuntime>::Instant::now() + Duration::from_secs(1))
                .await;
        }
    }

    async fn hand_over(&self, group: &Arc<Group<E>>, deadline: <E::Runtime as AsyncRuntime>::Instant) {
        while group.is_leader() && <E::Runtime as AsyncRuntime>::Instant::now() < deadline {
            let pulse = group.place();
            let reachable = self.context.reachable();
            let heirs = pulse
                .voters
                .iter()
                .filter(|r| **r != group.replica && reachable.contains(&r.node()) && group.hears(**r));
            let Some(heir) = heirs.max_by_key(|r| pulse.matched.get(r)) else { return };
            if group.raft.trigger().transfer_leader(heir.0).await.is_err() {
                return;
            }
            // openraft refuses writes until the heir leads or the election timeout passes: look, do not send again at once.
            let mut metrics = group.watch_metrics();
            let gone = async {
                while group.is_leader() {
                    if openraft_rt::WatchReceiver::changed(&mut metrics).await.is_err() {
                        return;
                    }
                }
            };
            let _ = E::Runtime::timeout(Duration::from_secs(1), gone).await;
        }
    }
}
