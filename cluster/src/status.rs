//! What a node says about itself: to its peers every second ([`Pulse`]), and to people ([`NodeStatus`], [`ClusterStatus`]).
//!
//! A pulse is small: clock, role of each group, and what the leader knows of its members. From pulses every node learns
//! who leads what, who is alive and how the clocks differ; placement decides by them. Status carries sizes and digests
//! besides and is gathered on request.

use std::collections::BTreeMap;

use protocol::ids::{NodeId, ShardId};
use serde::{Deserialize, Serialize};

use crate::meta::{MemberState, ReplicaId};

/// What a replica does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Decides.
    Leader,
    /// Follows and votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Has stopped or failed.
    Stopped,
}

/// One group on one node, as its peers need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPulse {
    /// Which group.
    pub group: ShardId,
    /// The replica that speaks.
    pub replica: ReplicaId,
    /// What it does.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<ReplicaId>,
    /// Its term.
    pub term: u64,
    /// Last entry in its log.
    pub last_log: u64,
    /// Last entry it has applied.
    pub applied: u64,
    /// Voters of its effective membership; both sets of a joint one.
    pub voters: Vec<ReplicaId>,
    /// Learners of its effective membership.
    pub learners: Vec<ReplicaId>,
    /// Whether a membership change is under way.
    pub joint: bool,
    /// At the leader: the entry up to which each member's log is known to match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    pub matched: BTreeMap<ReplicaId, u64>,
    /// Bytes of log and segments, to tell cheap moves from long ones.
    pub bytes: u64,
}

/// A map as a list of pairs: maps with numbers as keys do not survive `flatten` in JSON.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::meta::ReplicaId;

    pub fn serialize<S: Serializer>(map: &BTreeMap<ReplicaId, u64>, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<ReplicaId, u64>, D::Error> {
        Ok(Vec::<(ReplicaId, u64)>::deserialize(from)?.into_iter().collect())
    }
}

/// What a node tells its peers about once a second and whenever a leadership changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// Who speaks.
    pub node: NodeId,
    /// Where it listens.
    pub addr: String,
    /// Its wall clock.
    pub clock_ms: i64,
    /// `MetaState::version` that it has applied.
    pub meta_version: u64,
    /// It is about to end: leaderships are not to be given to it any more.
    #[serde(default)]
    pub stopping: bool,
    /// Its groups, the meta group (0) included.
    pub groups: Vec<GroupPulse>,
    /// Whether it has no memory left for writes.
    #[serde(default)]
    pub short_of_memory: bool,
    /// Whether its disk is so full that it takes no writes.
    #[serde(default)]
    pub disk_full: bool,
    /// What ends before this moment, milliseconds since 1970, has to go: its disk has no room for it.
    #[serde(default)]
    pub evict_before_ms: Option<i64>,
}

/// State of a replica's data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataStatus {
    /// Last entry covered by segments.
    pub flushed: Option<u64>,
    /// Bytes of live log entries.
    pub log_bytes: u64,
    /// Bytes of memtables.
    pub memtable_bytes: u64,
    /// Bytes of segments.
    pub segment_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Bytes of segments that flushes have written since the shard began.
    #[serde(default)]
    pub flushed_bytes: u64,
    /// Bytes of segments that merges have written since the shard began.
    #[serde(default)]
    pub merged_bytes: u64,
    /// Number of series.
    pub series: u64,
    /// Position of the logical manifest that `digest` is of.
    pub digest_index: u64,
    /// Digest of the logical manifest, in hex. Equal positions must have equal digests.
    pub digest: String,
}

/// One group on one node, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Role, log positions and membership.
    #[serde(flatten)]
    pub pulse: GroupPulse,
    /// Its data; none for the meta group.
    pub data: Option<DataStatus>,
    /// Why it does not serve, if it does not.
    pub error: Option<String>,
}

/// Another node as seen from one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Which.
    pub id: NodeId,
    /// Its address.
    pub addr: String,
    /// Whether it answered lately.
    pub reachable: bool,
    /// Its clock minus ours, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// The shared log of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Bytes of its files.
    pub disk_bytes: u64,
    /// Bytes of entries that are still needed.
    pub live_bytes: u64,
}

/// What a node knows about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its address.
    pub addr: String,
    /// Its cluster.
    pub cluster_id: String,
    /// Version of the binary.
    pub version: String,
    /// Whether its replicas have caught up.
    pub ready: bool,
    /// Its wall clock.
    pub clock_ms: i64,
    /// How far the median of the members' clocks is from its own.
    pub clock_offset_ms: i64,
    /// Whether that is too far to judge clients' timestamps.
    pub clock_disagrees: bool,
    /// Its log.
    pub log: LogStatus,
    /// Its groups.
    pub groups: Vec<GroupStatus>,
    /// The others, as it sees them.
    pub peers: Vec<PeerStatus>,
}

/// A node in `/cluster/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its id.
    pub id: NodeId,
    /// Its address.
    pub addr: String,
    /// Where it is in its life.
    pub state: MemberState,
    /// The newest epoch of formats that it knows.
    pub epoch: u16,
    /// Whether it answered.
    pub reachable: bool,
    /// What it said; none when it did not answer.
    pub status: Option<NodeStatus>,
}

/// A replica in `/cluster/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// On which node.
    pub node: NodeId,
    /// Its name in the group.
    pub replica: ReplicaId,
    /// What it does.
    pub role: Role,
    /// Last entry in its log.
    pub last_log: u64,
    /// Last entry it has applied.
    pub applied: u64,
    /// Entries behind the leader's log.
    pub lag: u64,
    /// Its data.
    pub data: Option<DataStatus>,
}

/// A shard, or the meta group, in `/cluster/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Which.
    pub id: ShardId,
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// In which term.
    pub term: u64,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who follows without a vote.
    pub learners: Vec<NodeId>,
    /// Whether its leader is changing its members: until that is committed, the old ones decide too.
    pub changing: bool,
    /// Who should hold it.
    pub wanted: Vec<NodeId>,
    /// Its replicas as the nodes that answered report them.
    pub replicas: Vec<ReplicaStatus>,
    /// Whether replicas at the same position have the same digest.
    pub consistent: bool,
}

/// Answer of `/cluster/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Name of the cluster.
    pub cluster_id: String,
    /// The node that was asked.
    pub node: NodeId,
    /// Who leads the meta group.
    pub meta_leader: Option<NodeId>,
    /// The epoch of the formats in use.
    pub epoch: u16,
    /// Members.
    pub nodes: Vec<MemberStatus>,
    /// The meta group and every shard.
    pub shards: Vec<ShardStatus>,
}

impl ShardStatus {
    /// Puts a shard together from what the nodes said about it.
    pub fn gather<'a>(
        id: ShardId,
        wanted: Vec<NodeId>,
        groups: impl Iterator<Item = &'a GroupStatus>,
    ) -> Self {
        let groups: Vec<&GroupStatus> = groups.filter(|g| g.pulse.group == id).collect();
        let leader = groups.iter().filter(|g| g.pulse.role == Role::Leader).max_by_key(|g| g.pulse.term);
        let last_log = leader.map_or(0, |g| g.pulse.last_log);
        let nodes = |ids: &[ReplicaId]| ids.iter().map(|r| r.node()).collect::<Vec<_>>();
        let replicas: Vec<ReplicaStatus> = groups
            .iter()
            .map(|g| ReplicaStatus {
                node: g.pulse.replica.node(),
                replica: g.pulse.replica,
                role: g.pulse.role,
                last_log: g.pulse.last_log,
                applied: g.pulse.applied,
                lag: last_log.saturating_sub(g.pulse.last_log),
                data: g.data.clone(),
            })
            .collect();
        let mut digests: BTreeMap<u64, &str> = BTreeMap::new();
        let mut consistent = true;
        for data in replicas.iter().filter_map(|r| r.data.as_ref()) {
            let first = digests.entry(data.digest_index).or_insert(&data.digest);
            consistent &= *first == data.digest;
        }
        Self {
            id,
            leader: leader.map(|g| g.pulse.replica.node()),
            term: groups.iter().map(|g| g.pulse.term).max().unwrap_or(0),
            voters: leader.map(|g| nodes(&g.pulse.voters)).unwrap_or_default(),
            learners: leader.map(|g| nodes(&g.pulse.learners)).unwrap_or_default(),
            changing: leader.is_some_and(|g| g.pulse.joint),
            wanted,
            replicas,
            consistent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(node: u64, role: Role, last_log: u64, digest_index: u64, digest: &str) -> GroupStatus {
        let replica = ReplicaId::new(NodeId(node), 1);
        GroupStatus {
            pulse: GroupPulse {
                group: ShardId(1),
                replica,
                role,
                leader: None,
                term: 3,
                last_log,
                applied: last_log,
                voters: vec![replica],
                learners: vec![],
                joint: false,
                matched: BTreeMap::from([(replica, 7)]),
                bytes: 0,
            },
            data: Some(DataStatus { digest_index, digest: digest.into(), ..DataStatus::default() }),
            error: None,
        }
    }

    #[test]
    fn lag_and_divergence_show() {
        let groups = [group(1, Role::Leader, 10, 4, "a"), group(2, Role::Follower, 7, 4, "a")];
        let shard = ShardStatus::gather(ShardId(1), vec![NodeId(1)], groups.iter());
        assert_eq!((shard.leader, shard.replicas[1].lag, shard.consistent), (Some(NodeId(1)), 3, true));
        assert!(!shard.changing);
        let mut groups = groups;
        groups[0].pulse.joint = true;
        assert!(ShardStatus::gather(ShardId(1), vec![], groups.iter()).changing);
        let groups = [group(1, Role::Leader, 10, 4, "a"), group(2, Role::Follower, 7, 4, "b")];
        assert!(!ShardStatus::gather(ShardId(1), vec![], groups.iter()).consistent);
        let groups = [group(1, Role::Leader, 10, 5, "a"), group(2, Role::Follower, 7, 4, "b")];
        assert!(ShardStatus::gather(ShardId(1), vec![], groups.iter()).consistent, "different positions");
    }

    #[test]
    fn status_survives_json() {
        let status = group(1, Role::Leader, 10, 4, "a");
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<GroupStatus>(&json).unwrap(), status);
    }
}
