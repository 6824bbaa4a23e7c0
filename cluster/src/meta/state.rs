//! What the meta group agrees on, and the commands that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use protocol::epoch;
use protocol::ids::{ClusterSecret, NodeId, SLOT_COUNT, ShardId, SlotId, TenantId};
use serde::{Deserialize, Serialize};

use super::dashboards::{DashboardSave, Dashboards};

/// A member of one Raft group: a node and how often that node was given a replica of the group.
///
/// A node that loses a replica and gets the shard again later starts empty, without the votes it once gave. Were its name
/// in the group the same, a lagging member that still knows the old configuration could count that empty replica
/// towards a quorum and elect itself over committed entries. So every placement has a new name, and requests to an old
/// name are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(pub u64);

/// Bits of a [`ReplicaId`] that count placements.
const GENERATION_BITS: u32 = 20;

impl ReplicaId {
    /// The `generation`-th replica of a group on a node, from 1.
    pub const fn new(node: NodeId, generation: u32) -> Self {
        Self(node.0 << GENERATION_BITS | (generation as u64 & ((1 << GENERATION_BITS) - 1)))
    }

    /// The only name a node has in the meta group: a node that loses its disk gets a new node id.
    pub const fn meta(node: NodeId) -> Self {
        Self::new(node, 1)
    }

    /// The node that holds this replica.
    pub const fn node(self) -> NodeId {
        NodeId(self.0 >> GENERATION_BITS)
    }

    /// Which placement on that node.
    pub const fn generation(self) -> u32 {
        (self.0 & ((1 << GENERATION_BITS) - 1)) as u32
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.generation())
    }
}

/// Where a member is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It has an id but has not reported for work yet.
    Joining,
    /// It holds replicas.
    Active,
    /// Its replicas are being moved away.
    Draining,
    /// It is gone for good. Its id is never used again.
    Removed,
}

/// A node as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `host:port` for peers.
    pub addr: String,
    /// Where it is in its life.
    pub state: MemberState,
    /// Random number of the data directory: a node that comes back with an empty one has another.
    pub incarnation: u64,
    /// The newest epoch that it knows.
    #[serde(default = "oldest")]
    pub epoch: u16,
}

const fn oldest() -> u16 {
    epoch::OLDEST
}

/// A shard as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMeta {
    /// The replicas it should have: node to placement count.
    pub replicas: BTreeMap<NodeId, u32>,
    /// How often each node was given a replica, past ones included.
    pub generations: BTreeMap<NodeId, u32>,
    /// Whether its Raft group was initialised. Never again after that, whatever a disk looks like.
    pub born: bool,
    /// Counts changes of `replicas`.
    pub version: u64,
    /// Whether people chose its nodes, so that balancing leaves it alone. Forgotten when the members change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

impl ShardMeta {
    /// The wanted replicas by their names in the group.
    pub fn replica_ids(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.replicas.iter().map(|(&node, &generation)| ReplicaId::new(node, generation))
    }

    /// The wanted replica on a node.
    pub fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        self.replicas.get(&node).map(|&generation| ReplicaId::new(node, generation))
    }
}

/// Settings of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How many replicas a shard should have where there are nodes enough.
    pub replication_factor: u32,
    /// The epoch of the formats in use: none that is newer is written or sent.
    pub encoder_epoch: u16,
    /// Free settings of the layers above, by name.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { replication_factor: 3, encoder_epoch: epoch::OLDEST, values: BTreeMap::new() }
    }
}

/// The state of the meta group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetaState {
    /// Name of the cluster; empty before the bootstrap command.
    pub cluster_id: String,
    /// Key of the hashes made from outside data.
    pub secret: Option<ClusterSecret>,
    /// Every node that ever was, removed ones included.
    pub members: BTreeMap<NodeId, Member>,
    /// The id that the next node gets.
    pub next_node_id: u64,
    /// Every shard.
    pub shards: BTreeMap<ShardId, ShardMeta>,
    /// Slots that are not where [`MetaState::shard_of_slot`] puts them by default. Empty until shards are split.
    #[serde(default)]
    pub moved_slots: BTreeMap<SlotId, ShardId>,
    /// Settings.
    pub settings: Settings,
    /// Join tokens that wait to be used, by the hash of their secrets, and until when they are good.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub join_tokens: BTreeMap<String, i64>,
    /// What people share. Absent in files of before there were any.
    #[serde(default, skip_serializing_if = "Dashboards::is_empty")]
    pub dashboards: Dashboards,
    /// Counts applied commands that changed something; a cheap way to see news.
    pub version: u64,
}

/// A change of the meta state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum MetaCommand {
    /// Makes the cluster: the first node, the shards with it as only replica.
    Bootstrap {
        /// Name of the cluster.
        cluster_id: String,
        /// Its secret.
        secret: ClusterSecret,
        /// Number of shards, for good.
        shards: u16,
        /// Replication factor.
        replication_factor: u32,
        /// Address of node 1.
        addr: String,
        /// Incarnation of node 1.
        incarnation: u64,
        /// The newest epoch that node 1 knows. In use from the start.
        #[serde(default = "oldest")]
        epoch: u16,
    },
    /// Lets a node in. The same incarnation gets the same id; an address whose node has another incarnation has lost
    /// its disk, and its old id is retired.
    AddNode {
        /// Its address.
        addr: String,
        /// Random number of its data directory.
        incarnation: u64,
        /// The newest epoch that it knows.
        #[serde(default = "oldest")]
        epoch: u16,
        /// Hash of its join token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// When it asked, by the meta leader's clock, in milliseconds since 1970.
        #[serde(default)]
        now_ms: i64,
    },
    /// Makes a join token.
    AddJoinToken {
        /// Hash of its secret.
        hash: String,
        /// When it was made, in milliseconds since 1970.
        now_ms: i64,
        /// Until when it is good.
        expires_ms: i64,
    },
    /// Moves a member along in its life.
    SetMemberState {
        /// Which.
        node: NodeId,
        /// Where to.
        state: MemberState,
    },
    /// A node listens at a new address.
    SetAddr {
        /// Which.
        node: NodeId,
        /// Incarnation, so that nobody else speaks for it.
        incarnation: u64,
        /// Where.
        addr: String,
    },
    /// A node was started with a build, or a setting, that knows other epochs.
    SetEpoch {
        /// Which.
        node: NodeId,
        /// Incarnation, so that nobody else speaks for it.
        incarnation: u64,
        /// The newest that it knows.
        epoch: u16,
    },
    /// The group of a shard has been initialised.
    ShardBorn {
        /// Which.
        shard: ShardId,
    },
    /// Sets the nodes that should hold a shard. Nodes that are new to it get a new placement.
    SetReplicas {
        /// Which shard.
        shard: ShardId,
        /// `ShardMeta::version` that this was decided on; another one means the decision is stale.
        version: u64,
        /// The nodes.
        nodes: Vec<NodeId>,
        /// People asked for it: balancing leaves the shard where it is until the members change.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pinned: bool,
    },
    /// A node lost its replica (damaged log or store): it gets a new placement of the same shard.
    RenewReplica {
        /// Which shard.
        shard: ShardId,
        /// The replica that is lost.
        lost: ReplicaId,
    },
    /// Sets or removes a setting of the layers above.
    SetValue {
        /// Name.
        key: String,
        /// Value; none removes it.
        value: Option<String>,
    },
    /// Stores a version of a dashboard.
    SaveDashboard(DashboardSave),
    /// Deletes a dashboard with its versions.
    DeleteDashboard {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        uid: String,
        /// The newest version, as far as who deletes it knows.
        expected: u64,
    },
    /// Raises the epoch in use, to one that all members know. It never falls.
    SetEncoderEpoch {
        /// New epoch.
        epoch: u16,
    },
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub enum MetaOutcome {
    /// It changed the state, or the state was so already.
    Done,
    /// The node that was let in.
    Node {
        /// Its id.
        id: NodeId,
        /// The id it had before, now retired.
        replaced: Option<NodeId>,
    },
    /// The version of a dashboard that was stored.
    Dashboard {
        /// Its number.
        version: u64,
    },
    /// The dashboard has another version than the one that was named. Nothing changed.
    Stale {
        /// Its newest; 0 when there is no such dashboard.
        newest: u64,
    },
    /// It does not fit the state. Nothing changed.
    Refused {
        /// Why.
        reason: String,
    },
}

impl MetaOutcome {
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

/// Why a node may not take part.
pub(crate) fn too_old(known: u16, in_use: u16) -> String {
    format!(
        "the cluster uses formats of epoch {in_use}, this node knows those up to epoch {known}: start a newer build"
    )
}

/// Setting that says who is let in: whoever asks, or, with [`JOIN_BY_TOKEN`], who has a token.
pub(crate) const JOIN_BY: &str = "cluster.join_by";
pub(crate) const JOIN_BY_TOKEN: &str = "token";
/// Join tokens that may wait to be used.
const MAX_JOIN_TOKENS: usize = 1_000;

/// Most shards of a cluster.
pub const MAX_SHARDS: u16 = 512;

impl MetaState {
    /// Whether the cluster exists yet.
    pub fn is_bootstrapped(&self) -> bool {
        !self.cluster_id.is_empty()
    }

    /// The shard that owns a slot.
    pub fn shard_of_slot(&self, slot: SlotId) -> Option<ShardId> {
        if let Some(&shard) = self.moved_slots.get(&slot) {
            return Some(shard);
        }
        let shards = self.shards.len() as u16;
        (shards > 0 && slot.0 < SLOT_COUNT).then(|| ShardId(1 + slot.0 % shards))
    }

    /// Members that are neither removed nor unknown.
    pub fn present(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().filter(|(_, m)| m.state != MemberState::Removed).map(|(&id, m)| (id, m))
    }

    /// Members that may hold replicas.
    pub fn active(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|(_, m)| m.state == MemberState::Active).map(|(&id, _)| id)
    }

    /// Address of a member that is not removed.
    pub fn addr(&self, node: NodeId) -> Option<&str> {
        self.members.get(&node).filter(|m| m.state != MemberState::Removed).map(|m| m.addr.as_str())
    }

    /// Applies a command. Deterministic: nothing but the state and the command decides.
    pub fn apply(&mut self, command: &MetaCommand) -> MetaOutcome {
        let outcome = self.change(command);
        if !matches!(outcome, MetaOutcome::Refused { .. } | MetaOutcome::Stale { .. }) {
            self.version += 1;
        }
        outcome
    }

    fn change(&mut self, command: &MetaCommand) -> MetaOutcome {
        match command {
            MetaCommand::Bootstrap {
                cluster_id,
                secret,
                shards,
                replication_factor,
                addr,
                incarnation,
                epoch,
            } => {
                if self.is_bootstrapped() {
                    return MetaOutcome::refused(format!("the cluster is {} already", self.cluster_id));
                }
                if cluster_id.is_empty() || *shards == 0 || *shards > MAX_SHARDS {
                    return MetaOutcome::refused(format!("{shards} shards, allowed are 1 to {MAX_SHARDS}"));
                }
                let first = NodeId(1);
                self.cluster_id.clone_from(cluster_id);
                self.secret = Some(*secret);
                self.settings.replication_factor = (*replication_factor).max(1);
                self.settings.encoder_epoch = *epoch;
                let (addr, incarnation, epoch) = (addr.clone(), *incarnation, *epoch);
                let member = Member { addr, state: MemberState::Active, incarnation, epoch };
                self.members = BTreeMap::from([(first, member)]);
                self.next_node_id = 2;
                let shard = ShardMeta {
                    replicas: BTreeMap::from([(first, 1)]),
                    generations: BTreeMap::from([(first, 1)]),
                    born: false,
                    version: 1,
                    pinned: false,
                };
                self.shards = (1..=*shards).map(|id| (ShardId(id), shard.clone())).collect();
                MetaOutcome::Node { id: first, replaced: None }
            }
            MetaCommand::AddNode { addr, incarnation, epoch, token, now_ms } => {
                self.add_node(addr, *incarnation, *epoch, (token.as_deref(), *now_ms))
            }
            MetaCommand::AddJoinToken { hash, now_ms, expires_ms } => {
                self.join_tokens.retain(|_, expires_ms| *expires_ms > *now_ms);
                if self.join_tokens.len() >= MAX_JOIN_TOKENS {
                    return MetaOutcome::refused(format!("{MAX_JOIN_TOKENS} join tokens wait to be used"));
                }
                self.join_tokens.insert(hash.clone(), *expires_ms);
                MetaOutcome::Done
            }
            MetaCommand::SetMemberState { node, state } => self.set_member_state(*node, *state),
            MetaCommand::SetAddr { node, incarnation, addr } => {
                let taken = self.present().any(|(id, m)| id != *node && m.addr == *addr);
                match self.speaker(*node, *incarnation) {
                    Err(reason) => MetaOutcome::refused(reason),
                    Ok(_) if taken => MetaOutcome::refused(format!("{addr} is another member's address")),
                    Ok(member) => {
                        member.addr.clone_from(addr);
                        MetaOutcome::Done
                    }
                }
            }
            MetaCommand::SetEpoch { node, incarnation, epoch } => {
                let in_use = self.settings.encoder_epoch;
                match self.speaker(*node, *incarnation) {
                    Err(reason) => MetaOutcome::refused(reason),
                    Ok(_) if *epoch < in_use => MetaOutcome::refused(too_old(*epoch, in_use)),
                    Ok(member) => {
                        member.epoch = *epoch;
                        MetaOutcome::Done
                    }
                }
            }
            MetaCommand::ShardBorn { shard } => match self.shards.get_mut(shard) {
                Some(meta) => {
                    meta.born = true;
                    MetaOutcome::Done
                }
                None => MetaOutcome::refused(format!("there is no shard {shard}")),
            },
            MetaCommand::SetReplicas { shard, version, nodes, pinned } => {
                self.set_replicas(*shard, *version, nodes, *pinned)
            }
            MetaCommand::RenewReplica { shard, lost } => self.renew_replica(*shard, *lost),
            MetaCommand::SetValue { key, value } => {
                match value {
                    Some(value) => self.settings.values.insert(key.clone(), value.clone()),
                    None => self.settings.values.remove(key),
                };
                MetaOutcome::Done
            }
            MetaCommand::SaveDashboard(save) => self.dashboards.save(save),
            MetaCommand::DeleteDashboard { tenant, uid, expected } => {
                self.dashboards.delete(tenant, uid, *expected)
            }
            MetaCommand::SetEncoderEpoch { epoch } => {
                if let Some((id, member)) = self.present().find(|(_, member)| member.epoch < *epoch) {
                    return MetaOutcome::refused(format!(
                        "node {id} knows formats up to epoch {}",
                        member.epoch
                    ));
                }
                self.settings.encoder_epoch = self.settings.encoder_epoch.max(*epoch);
                MetaOutcome::Done
            }
        }
    }

    /// The newest epoch that all members know.
    pub fn known_epoch(&self) -> u16 {
        self.present().map(|(_, member)| member.epoch).min().unwrap_or(epoch::OLDEST)
    }

    /// A member that speaks about itself.
    fn speaker(&mut self, node: NodeId, incarnation: u64) -> Result<&mut Member, String> {
        match self.members.get_mut(&node) {
            None => Err(format!("node {node} is no member")),
            Some(member) if member.state == MemberState::Removed => Err(format!("node {node} is removed")),
            Some(member) if member.incarnation != incarnation => {
                Err(format!("node {node} has another incarnation"))
            }
            Some(member) => Ok(member),
        }
    }

    /// Takes a join token, if one is given or needed.
    fn take_token(&mut self, (token, now_ms): (Option<&str>, i64)) -> Result<(), &'static str> {
        let is_needed = self.settings.values.get(JOIN_BY).is_some_and(|by| by == JOIN_BY_TOKEN);
        match token {
            Some(hash) => match self.join_tokens.remove(hash) {
                Some(expires_ms) if expires_ms > now_ms => Ok(()),
                _ => Err(
                    "the join token was used, has expired or is not of this cluster; make one: pharos cluster token",
                ),
            },
            None if is_needed => Err(
                "nodes join this cluster by a token; make one: pharos cluster token, and start with --join-token",
            ),
            None => Ok(()),
        }
    }

    fn add_node(
        &mut self,
        addr: &str,
        incarnation: u64,
        epoch: u16,
        token: (Option<&str>, i64),
    ) -> MetaOutcome {
        if !self.is_bootstrapped() {
            return MetaOutcome::refused("there is no cluster yet");
        }
        if epoch < self.settings.encoder_epoch {
            return MetaOutcome::refused(too_old(epoch, self.settings.encoder_epoch));
        }
        if let Some((&id, member)) = self.members.iter().find(|(_, m)| m.incarnation == incarnation) {
            return if member.state == MemberState::Removed {
                MetaOutcome::refused(format!("node {id} was removed; start with an empty data directory"))
            } else if member.addr == addr {
                MetaOutcome::Node { id, replaced: None }
            } else {
                MetaOutcome::refused(format!("node {id} has this incarnation at {}", member.addr))
            };
        }
        if let Err(reason) = self.take_token(token) {
            return MetaOutcome::refused(reason);
        }
        let replaced = self.present().find(|(_, m)| m.addr == addr).map(|(id, _)| id);
        if let Some(old) = replaced {
            self.retire(old);
        }
        self.unpin();
        let id = NodeId(self.next_node_id);
        self.next_node_id += 1;
        let member = Member { addr: addr.to_owned(), state: MemberState::Joining, incarnation, epoch };
        self.members.insert(id, member);
        MetaOutcome::Node { id, replaced }
    }

    fn set_member_state(&mut self, node: NodeId, state: MemberState) -> MetaOutcome {
        let holds = self.shards.iter().find(|(_, s)| s.replicas.contains_key(&node)).map(|(&id, _)| id);
        let Some(member) = self.members.get_mut(&node) else {
            return MetaOutcome::refused(format!("node {node} is no member"));
        };
        match (member.state, state) {
            (from, to) if from == to => MetaOutcome::Done,
            (MemberState::Removed, _) => {
                MetaOutcome::refused(format!("node {node} is removed; ids are not reused"))
            }
            (_, MemberState::Joining) => MetaOutcome::refused("a member does not go back to joining"),
            (_, MemberState::Removed) => match holds {
                Some(shard) => MetaOutcome::refused(format!("node {node} still holds shard {shard}")),
                None => {
                    member.state = MemberState::Removed;
                    self.unpin();
                    MetaOutcome::Done
                }
            },
            (_, to) => {
                member.state = to;
                self.unpin();
                MetaOutcome::Done
            }
        }
    }

    /// With other members another placement may be better than the one that people chose.
    fn unpin(&mut self) {
        self.shards.values_mut().for_each(|shard| shard.pinned = false);
    }

    /// Takes a node whose disk is gone out of everything. Its replicas stay wanted under the old name until placement
    /// replaces them, so that the count of wanted replicas never falls silently.
    fn retire(&mut self, node: NodeId) {
        if let Some(member) = self.members.get_mut(&node) {
            member.state = MemberState::Removed;
        }
    }

    fn set_replicas(&mut self, shard: ShardId, version: u64, nodes: &[NodeId], pinned: bool) -> MetaOutcome {
        if nodes.is_empty() {
            return MetaOutcome::refused("a shard needs a replica");
        }
        if let Some(node) =
            nodes.iter().find(|n| self.members.get(n).is_none_or(|m| m.state == MemberState::Removed))
        {
            return MetaOutcome::refused(format!("node {node} is no member"));
        }
        let Some(meta) = self.shards.get_mut(&shard) else {
            return MetaOutcome::refused(format!("there is no shard {shard}"));
        };
        // The same decision again, after an answer that was lost say.
        if meta.replicas.keys().eq(nodes.iter().collect::<BTreeSet<_>>()) {
            meta.pinned |= pinned;
            return MetaOutcome::Done;
        }
        if meta.version != version {
            return MetaOutcome::refused(format!(
                "shard {shard} is at version {}, not {version}",
                meta.version
            ));
        }
        let mut replicas = BTreeMap::new();
        for &node in nodes {
            let generation = match meta.replicas.get(&node) {
                Some(&generation) => generation,
                None => {
                    let count = meta.generations.entry(node).or_insert(0);
                    *count += 1;
                    *count
                }
            };
            replicas.insert(node, generation);
        }
        meta.replicas = replicas;
        meta.pinned = pinned;
        meta.version += 1;
        MetaOutcome::Done
    }

    fn renew_replica(&mut self, shard: ShardId, lost: ReplicaId) -> MetaOutcome {
        let Some(meta) = self.shards.get_mut(&shard) else {
            return MetaOutcome::refused(format!("there is no shard {shard}"));
        };
        let node = lost.node();
        if meta.replicas.get(&node) != Some(&lost.generation()) {
            return MetaOutcome::Done;
        }
        if meta.replicas.len() == 1 {
            return MetaOutcome::refused(format!("replica {lost} is the only one of shard {shard}"));
        }
        let count = meta.generations.entry(node).or_insert(0);
        *count += 1;
        meta.replicas.insert(node, *count);
        meta.version += 1;
        MetaOutcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(nodes: u64) -> MetaState {
        let mut state = MetaState::default();
        let bootstrap = MetaCommand::Bootstrap {
            cluster_id: "c".into(),
            secret: ClusterSecret([7; 32]),
            shards: 4,
            replication_factor: 3,
            addr: "a1".into(),
            incarnation: 1,
            epoch: 1,
        };
        assert_eq!(state.apply(&bootstrap), MetaOutcome::Node { id: NodeId(1), replaced: None });
        for n in 2..=nodes {
            let outcome = state.apply(&MetaCommand::AddNode {
                addr: format!("a{n}"),
                incarnation: n,
                epoch: 1,
                token: None,
                now_ms: 0,
            });
            assert_eq!(outcome, MetaOutcome::Node { id: NodeId(n), replaced: None });
            state.apply(&MetaCommand::SetMemberState { node: NodeId(n), state: MemberState::Active });
        }
        state
    }

    fn replicas(state: &mut MetaState, nodes: &[u64]) -> MetaOutcome {
        let version = state.shards[&ShardId(1)].version;
        let nodes = nodes.iter().map(|&n| NodeId(n)).collect();
        state.apply(&MetaCommand::SetReplicas { shard: ShardId(1), version, nodes, pinned: false })
    }

    #[test]
    fn a_cluster_is_made_once() {
        let mut state = cluster(1);
        let before = state.clone();
        let again = MetaCommand::Bootstrap {
            cluster_id: "d".into(),
            secret: ClusterSecret([8; 32]),
            shards: 8,
            replication_factor: 1,
            addr: "b".into(),
            incarnation: 9,
            epoch: 1,
        };
        assert!(matches!(state.apply(&again), MetaOutcome::Refused { .. }));
        assert_eq!(state, before);
    }

    #[test]
    fn joining_twice_gives_one_id_and_an_empty_disk_a_new_one() {
        let mut state = cluster(2);
        let again = state.apply(&MetaCommand::AddNode {
            addr: "a2".into(),
            incarnation: 2,
            epoch: 1,
            token: None,
            now_ms: 0,
        });
        assert_eq!(again, MetaOutcome::Node { id: NodeId(2), replaced: None });
        let wiped = state.apply(&MetaCommand::AddNode {
            addr: "a2".into(),
            incarnation: 99,
            epoch: 1,
            token: None,
            now_ms: 0,
        });
        assert_eq!(wiped, MetaOutcome::Node { id: NodeId(3), replaced: Some(NodeId(2)) });
        assert_eq!(state.members[&NodeId(2)].state, MemberState::Removed);
        let back = state.apply(&MetaCommand::AddNode {
            addr: "a2".into(),
            incarnation: 2,
            epoch: 1,
            token: None,
            now_ms: 0,
        });
        assert!(matches!(back, MetaOutcome::Refused { .. }), "a retired node does not come back");
    }

    #[test]
    fn a_shard_given_again_to_a_node_gets_a_new_name() {
        let mut state = cluster(3);
        replicas(&mut state, &[1, 2, 3]);
        let first = state.shards[&ShardId(1)].replica_on(NodeId(3)).unwrap();
        replicas(&mut state, &[1, 2]);
        replicas(&mut state, &[1, 2, 3]);
        let second = state.shards[&ShardId(1)].replica_on(NodeId(3)).unwrap();
        assert_ne!(first, second);
        assert_eq!((second.node(), second.generation()), (NodeId(3), 2));
        assert_eq!(state.shards[&ShardId(1)].replica_on(NodeId(1)), Some(ReplicaId::new(NodeId(1), 1)));
    }

    #[test]
    fn stale_placements_are_refused() {
        let mut state = cluster(3);
        let on = |nodes: &[u64]| MetaCommand::SetReplicas {
            shard: ShardId(1),
            version: 1,
            nodes: nodes.iter().map(|&n| NodeId(n)).collect(),
            pinned: false,
        };
        assert_eq!(state.apply(&on(&[1, 2])), MetaOutcome::Done);
        assert!(matches!(state.apply(&on(&[1, 3])), MetaOutcome::Refused { .. }));
        let before = state.shards.clone();
        assert_eq!(state.apply(&on(&[2, 1])), MetaOutcome::Done, "the same once more");
        assert_eq!(state.shards, before);
    }

    #[test]
    fn a_node_that_holds_shards_is_not_removed() {
        let mut state = cluster(2);
        let remove = MetaCommand::SetMemberState { node: NodeId(1), state: MemberState::Removed };
        assert!(matches!(state.apply(&remove), MetaOutcome::Refused { .. }));
        let remove = MetaCommand::SetMemberState { node: NodeId(2), state: MemberState::Removed };
        assert_eq!(state.apply(&remove), MetaOutcome::Done);
        let back = MetaCommand::SetMemberState { node: NodeId(2), state: MemberState::Active };
        assert!(matches!(state.apply(&back), MetaOutcome::Refused { .. }));
    }

    #[test]
    fn a_lost_replica_is_renewed_once() {
        let mut state = cluster(3);
        replicas(&mut state, &[1, 2, 3]);
        let lost = state.shards[&ShardId(1)].replica_on(NodeId(2)).unwrap();
        let renew = MetaCommand::RenewReplica { shard: ShardId(1), lost };
        state.apply(&renew);
        state.apply(&renew);
        assert_eq!(state.shards[&ShardId(1)].replica_on(NodeId(2)).unwrap().generation(), 2);
    }

    #[test]
    fn every_slot_has_a_shard() {
        let state = cluster(1);
        let shards: Vec<_> = (0..SLOT_COUNT).map(|s| state.shard_of_slot(SlotId(s)).unwrap()).collect();
        assert!(shards.iter().all(|s| (1..=4).contains(&s.0)));
        assert_eq!(state.shard_of_slot(SlotId(SLOT_COUNT)), None);
    }

    #[test]
    fn commands_and_state_survive_json() {
        let state = cluster(3);
        let json = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<MetaState>(&json).unwrap(), state);
        let command =
            MetaCommand::SetReplicas { shard: ShardId(3), version: 7, nodes: vec![NodeId(1)], pinned: false };
        let json = serde_json::to_string(&command).unwrap();
        assert_eq!(json, r#"{"do":"set_replicas","shard":3,"version":7,"nodes":[1]}"#);
    }

    #[test]
    fn an_epoch_is_used_once_all_members_know_it_and_for_good() {
        let mut state = cluster(3);
        let told = |node: u64, epoch| MetaCommand::SetEpoch { node: NodeId(node), incarnation: node, epoch };
        let raise = |epoch| MetaCommand::SetEncoderEpoch { epoch };
        let refused = |outcome: MetaOutcome| matches!(outcome, MetaOutcome::Refused { .. });
        for node in 1..3 {
            assert_eq!(state.apply(&told(node, 2)), MetaOutcome::Done);
        }
        assert_eq!((state.known_epoch(), state.settings.encoder_epoch), (1, 1));
        assert!(refused(state.apply(&raise(2))), "node 3 does not know it");
        assert_eq!(state.apply(&told(2, 1)), MetaOutcome::Done, "one may go back until then");
        assert_eq!(state.apply(&told(2, 2)), MetaOutcome::Done);
        // The one that does not know it is removed.
        let removed = MetaCommand::SetMemberState { node: NodeId(3), state: MemberState::Removed };
        assert_eq!(state.apply(&removed), MetaOutcome::Done);
        assert_eq!(state.known_epoch(), 2);
        assert_eq!(state.apply(&raise(2)), MetaOutcome::Done);
        assert!(refused(state.apply(&told(2, 1))), "not any more");
        assert_eq!(state.apply(&raise(1)), MetaOutcome::Done);
        assert_eq!(state.settings.encoder_epoch, 2, "it never falls");
        let join =
            |epoch| MetaCommand::AddNode { addr: "a4".into(), incarnation: 4, epoch, token: None, now_ms: 0 };
        assert!(refused(state.apply(&join(1))));
        assert_eq!(state.apply(&join(3)), MetaOutcome::Node { id: NodeId(4), replaced: None });
        assert!(refused(state.apply(&MetaCommand::SetEpoch { node: NodeId(2), incarnation: 9, epoch: 3 })));
    }

    #[test]
    fn a_join_token_lets_one_node_in_once_and_in_time() {
        let mut state = cluster(1);
        let join = |node: u64, token: Option<&str>, now_ms| MetaCommand::AddNode {
            addr: format!("a{node}"),
            incarnation: node,
            epoch: 1,
            token: token.map(str::to_owned),
            now_ms,
        };
        let refused = |outcome: MetaOutcome| matches!(outcome, MetaOutcome::Refused { .. });
        let make = |hash: &str, now_ms| MetaCommand::AddJoinToken {
            hash: hash.into(),
            now_ms,
            expires_ms: now_ms + 10,
        };
        state.apply(&make("one", 0));
        state.apply(&make("two", 0));
        assert!(refused(state.apply(&join(2, Some("other"), 5))), "also where none is needed");
        let only = Some(JOIN_BY_TOKEN.to_owned());
        state.apply(&MetaCommand::SetValue { key: JOIN_BY.into(), value: only });
        assert!(refused(state.apply(&join(2, None, 5))));
        let second = MetaOutcome::Node { id: NodeId(2), replaced: None };
        assert_eq!(state.apply(&join(2, Some("one"), 9)), second);
        assert_eq!(state.apply(&join(2, Some("one"), 9)), second, "whose answer was lost");
        assert!(refused(state.apply(&join(3, Some("one"), 9))), "used");
        assert!(refused(state.apply(&join(3, Some("two"), 10))), "expired");
        state.apply(&make("three", 20));
        assert_eq!(state.join_tokens.keys().collect::<Vec<_>>(), ["three"], "what has expired goes");
        state.apply(&MetaCommand::SetValue { key: JOIN_BY.into(), value: None });
        assert_eq!(state.apply(&join(3, None, 30)), MetaOutcome::Node { id: NodeId(3), replaced: None });
    }

    #[test]
    fn members_of_before_there_were_epochs_know_the_first() {
        let member: Member =
            serde_json::from_str(r#"{"addr":"a","state":"active","incarnation":1}"#).unwrap();
        assert_eq!(member.epoch, 1);
    }
}
