//! Who should hold and lead what: the decisions of the meta leader, as a pure function.
//!
//! [`plan`] sees the meta state (what is wanted) and a [`View`] of the members' pulses (what is) and names the next
//! steps. It is called again and again; each call assumes nothing about the one before, so a lost step or a new meta
//! leader changes nothing. Carrying out is left to others: wanted replicas become a meta command, and the shard's leader
//! brings its Raft membership there ([`reconcile`], also pure) by learner, catch-up and joint consensus.
//!
//! Rules
//! - A shard has `min(replication factor, active nodes)` replicas. It grows before it shrinks: a replica on a node that
//!   drains or is gone is exchanged, not dropped, as long as there is a node to take it.
//! - A node that was silent for long ([`View::absent`]) keeps its place in the cluster, but what it holds is given to others
//!   as far as there are some; when it is back it takes its share again.
//! - One change per shard at a time, and few in the cluster: [`MAX_MOVES`] when data must travel,
//!   [`MAX_SMALL_MOVES`] when the shard is small.
//! - Replicas are spread evenly, but for shards that people moved: those stay until the members change.
//! - Leaders are spread: when one node leads at least two shards more than another that holds a caught-up replica, one
//!   leadership moves. Only to a node that answers, only when nothing else goes on in that shard.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::{NodeId, ShardId};

use crate::meta::{MemberState, MetaState, ReplicaId, ShardMeta};
use crate::status::{GroupPulse, Role};

/// Shards whose data may travel at one time.
pub const MAX_MOVES: usize = 2;
/// Small shards that may change at one time.
pub const MAX_SMALL_MOVES: usize = 16;
/// Up to this many bytes a shard is small.
pub const SMALL_BYTES: u64 = 4 << 20;
/// Entries that a member may be behind and still count as caught up.
pub const CAUGHT_UP_ENTRIES: u64 = 64;

/// What the pulses say.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Nodes that answered lately, this one included.
    pub reachable: BTreeSet<NodeId>,
    /// Nodes that have not been heard of for so long that others should hold what they hold.
    pub absent: BTreeSet<NodeId>,
    /// Nodes that take no writes because their disks are full.
    pub full: BTreeSet<NodeId>,
    /// The pulse of each group's leader: of those who claim to lead, the one with the highest term.
    pub leaders: BTreeMap<ShardId, GroupPulse>,
}

impl View {
    /// Takes in a node's pulses of its groups.
    pub fn add<'a>(&mut self, groups: impl IntoIterator<Item = &'a GroupPulse>) {
        for pulse in groups {
            if pulse.role == Role::Leader
                && self.leaders.get(&pulse.group).is_none_or(|known| known.term < pulse.term)
            {
                self.leaders.insert(pulse.group, pulse.clone());
            }
        }
    }

    fn leader_node(&self, shard: ShardId) -> Option<NodeId> {
        self.leaders.get(&shard).map(|pulse| pulse.replica.node())
    }
}

/// A step that the meta leader should take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Commit that these nodes should hold the shard.
    SetReplicas {
        /// Which shard.
        shard: ShardId,
        /// Version the decision was made on.
        version: u64,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Ask the leader of a shard to hand over.
    Transfer {
        /// Which shard.
        shard: ShardId,
        /// Who leads it now.
        from: NodeId,
        /// Who should.
        to: ReplicaId,
    },
}

/// Whether a shard's Raft group is what it should be, as far as its leader says.
pub fn is_settled(meta: &ShardMeta, leader: Option<&GroupPulse>) -> bool {
    let Some(leader) = leader else { return false };
    let wanted: BTreeSet<ReplicaId> = meta.replica_ids().collect();
    let voters: BTreeSet<ReplicaId> = leader.voters.iter().copied().collect();
    !leader.joint && leader.learners.is_empty() && voters == wanted
}

/// The next steps. At most one leadership moves per call.
pub fn plan(state: &MetaState, view: &View) -> Vec<Step> {
    let active: BTreeSet<NodeId> = state.active().collect();
    let target = (state.settings.replication_factor as usize).min(active.len()).max(1);
    let present: BTreeSet<NodeId> = active.difference(&view.absent).copied().collect();
    let mut load = Load::of(state, &present);
    let mut steps = Vec::new();
    let unsettled: BTreeMap<ShardId, u64> = state
        .shards
        .iter()
        .filter(|(id, meta)| !is_settled(meta, view.leaders.get(id)))
        .map(|(&id, _)| (id, view.leaders.get(&id).map_or(0, |p| p.bytes)))
        .collect();
    let mut budget = Budget::new(unsettled.values().copied());
    for (&shard, meta) in &state.shards {
        let Some(leader) = view.leaders.get(&shard) else { continue };
        // A replica that can not come back may be exchanged even while the shard waits for it.
        let hopeless = meta.replicas.keys().any(|n| is_gone(state, *n) || view.absent.contains(n));
        if unsettled.contains_key(&shard) && (!hopeless || leader.joint) {
            continue;
        }
        let Some(nodes) = wanted_nodes(state, meta, &present, target, &mut load, view) else { continue };
        if unsettled.contains_key(&shard) || budget.take(leader.bytes) {
            steps.push(Step::SetReplicas { shard, version: meta.version, nodes });
        }
    }
    if steps.is_empty() && unsettled.is_empty() {
        steps.extend(spread_replicas(state, view, &active, &load));
    }
    if steps.is_empty() {
        steps.extend(spread_leaders(state, view, &unsettled));
    }
    steps
}

fn is_gone(state: &MetaState, node: NodeId) -> bool {
    state.members.get(&node).is_none_or(|m| m.state == MemberState::Removed)
}

/// Shards per active node.
struct Load(BTreeMap<NodeId, usize>);

impl Load {
    fn of(state: &MetaState, active: &BTreeSet<NodeId>) -> Self {
        let count = |node: &NodeId| state.shards.values().filter(|s| s.replicas.contains_key(node)).count();
        Self(active.iter().map(|node| (*node, count(node))).collect())
    }

    /// The node with the fewest shards that is not in `not`, those that answer first.
    fn least(&self, not: &BTreeSet<NodeId>, view: &View) -> Option<NodeId> {
        let free = self.0.iter().filter(|(node, _)| !not.contains(node));
        free.min_by_key(|(node, count)| (!view.reachable.contains(node), **count, **node))
            .map(|(node, _)| *node)
    }

    fn add(&mut self, node: NodeId) {
        *self.0.entry(node).or_insert(0) += 1;
    }
}

struct Budget {
    large: usize,
    small: usize,
}

impl Budget {
    fn new(running: impl Iterator<Item = u64>) -> Self {
        let (mut large, mut small) = (MAX_MOVES, MAX_SMALL_MOVES);
        for bytes in running {
            let left = if bytes > SMALL_BYTES { &mut large } else { &mut small };
            *left = left.saturating_sub(1);
        }
        Self { large, small }
    }

    fn take(&mut self, bytes: u64) -> bool {
        let left = if bytes > SMALL_BYTES { &mut self.large } else { &mut self.small };
        let free = *left > 0;
        *left = left.saturating_sub(1);
        free
    }
}

/// The nodes that should hold a shard, if they are others than those wanted now.
fn wanted_nodes(
    state: &MetaState,
    meta: &ShardMeta,
    present: &BTreeSet<NodeId>,
    target: usize,
    load: &mut Load,
    view: &View,
) -> Option<Vec<NodeId>> {
    let now: BTreeSet<NodeId> = meta.replicas.keys().copied().collect();
    let mut nodes: BTreeSet<NodeId> = now.intersection(present).copied().collect();
    while nodes.len() < target {
        // Draining nodes are no choice either: they are not in `present`, hence not in `load`.
        let Some(node) = load.least(&nodes, view) else { break };
        load.add(node);
        nodes.insert(node);
    }
    // Fewer such nodes than replicas: those on draining and absent nodes stay until somebody can take them.
    let spare: Vec<NodeId> = now.difference(&nodes).copied().filter(|n| !is_gone(state, *n)).collect();
    for node in spare {
        if nodes.len() < target {
            nodes.insert(node);
        }
    }
    if nodes.is_empty() || nodes == now { None } else { Some(nodes.into_iter().collect()) }
}

/// Moves one replica from the fullest node to the emptiest when they differ by two or more.
fn spread_replicas(state: &MetaState, view: &View, active: &BTreeSet<NodeId>, load: &Load) -> Option<Step> {
    let (&full, &most) = load.0.iter().max_by_key(|(node, count)| (**count, **node))?;
    let empty = load.0.iter().filter(|(node, _)| view.reachable.contains(node));
    let (&empty, &least) = empty.min_by_key(|(node, count)| (**count, **node))?;
    if most < least + 2 {
        return None;
    }
    // A shard that the full node does not lead moves more quietly.
    let movable =
        |s: &ShardMeta| !s.pinned && s.replicas.contains_key(&full) && !s.replicas.contains_key(&empty);
    let (&shard, meta) = state
        .shards
        .iter()
        .filter(|(_, meta)| movable(meta))
        .min_by_key(|(id, _)| (view.leader_node(**id) == Some(full), **id))?;
    let mut nodes: BTreeSet<NodeId> = meta.replicas.keys().copied().filter(|n| active.contains(n)).collect();
    nodes.remove(&full);
    nodes.insert(empty);
    Some(Step::SetReplicas { shard, version: meta.version, nodes: nodes.into_iter().collect() })
}

/// Moves one leadership: off a node that should not lead, or from the busiest to the idlest leader. A node that takes no
/// writes should not lead where one that does can.
fn spread_leaders(state: &MetaState, view: &View, unsettled: &BTreeMap<ShardId, u64>) -> Option<Step> {
    let mut leads: BTreeMap<NodeId, usize> = state
        .active()
        .filter(|n| view.reachable.contains(n) && !view.full.contains(n))
        .map(|n| (n, 0))
        .collect();
    for id in state.shards.keys() {
        if let Some(count) = view.leader_node(*id).and_then(|n| leads.get_mut(&n)) {
            *count += 1;
        }
    }
    let mut best: Option<(usize, Step)> = None;
    for (&shard, meta) in state.shards.iter().filter(|(id, _)| !unsettled.contains_key(id)) {
        let Some(leader) = view.leaders.get(&shard) else { continue };
        let from = leader.replica.node();
        let draining = !leads.contains_key(&from);
        let from_count = leads.get(&from).copied().unwrap_or(usize::MAX);
        for to in meta.replica_ids().filter(|r| r.node() != from && is_caught_up(leader, *r)) {
            let Some(&to_count) = leads.get(&to.node()) else { continue };
            let gain = from_count.saturating_sub(to_count);
            if (draining || gain >= 2) && best.as_ref().is_none_or(|(most, _)| gain > *most) {
                best = Some((gain, Step::Transfer { shard, from, to }));
            }
        }
    }
    best.map(|(_, step)| step)
}

/// Whether a leader says that a member's log matches its own but for the last few entries.
pub fn is_caught_up(leader: &GroupPulse, member: ReplicaId) -> bool {
    leader.matched.get(&member).is_some_and(|matched| matched + CAUGHT_UP_ENTRIES >= leader.last_log)
}

/// Whether a group lives on without a member: another one leads, no membership change is under way, and the leader and
/// those caught-up voters that say themselves that they follow it are a majority without it. `words` are what the other
/// nodes say about their replicas: what a leader remembers of a member that broke since does not count.
pub fn can_spare(leader: &GroupPulse, words: &[GroupPulse], lost: ReplicaId) -> bool {
    let follows = |voter: &ReplicaId| {
        words.iter().any(|word| {
            word.replica == *voter
                && word.role == Role::Follower
                && (word.term, word.leader) == (leader.term, Some(leader.replica))
        })
    };
    let is_whole =
        |voter: &&ReplicaId| **voter == leader.replica || (is_caught_up(leader, **voter) && follows(voter));
    let whole = leader.voters.iter().filter(|voter| **voter != lost).filter(is_whole).count();
    leader.replica != lost && !leader.joint && whole > leader.voters.len() / 2
}

/// Whether a replica may end for its successor on the same node: its group lives on without it, and no other that is to end
/// for its own successor, and could, comes first. Two that went at once, each by what it last heard of the other, could take
/// the majority with them. `words` are what all nodes say, this one included.
pub fn may_end(leader: &GroupPulse, words: &[GroupPulse], meta: &ShardMeta, old: ReplicaId) -> bool {
    let has_to_end = |r: ReplicaId| meta.replica_on(r.node()).is_some_and(|wanted| wanted != r);
    let goes_first =
        |r: ReplicaId| r < old && has_to_end(r) && leader.voters.contains(&r) && can_spare(leader, words, r);
    can_spare(leader, words, old) && !words.iter().any(|word| goes_first(word.replica))
}

/// A step that a group's leader should take to bring its membership to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Finish a joint configuration that somebody left behind.
    LeaveJoint,
    /// Let a replica follow without a vote.
    AddLearner(ReplicaId),
    /// Replace the voters; those that are no longer among them leave the group.
    SetVoters(BTreeSet<ReplicaId>),
    /// Throw learners out that nobody wants.
    RemoveLearners(BTreeSet<ReplicaId>),
    /// Hand over first: this leader is not wanted itself.
    HandOver(ReplicaId),
}

/// The next change of a group's membership, seen by its leader.
///
/// `voters` are those that should vote, `learners` those that should follow without a vote (only the meta group has
/// some that stay). A wanted voter must be caught up before it votes; while one that answers is not, the rest waits for
/// it. One that can not come yet is left for later: its node does not answer, or has to give up an older replica first whose
/// vote the group needs. A replica whose successor on the same node has answered is no vote any more.
pub fn reconcile(
    leader: &GroupPulse,
    voters: &BTreeSet<ReplicaId>,
    learners: &BTreeSet<ReplicaId>,
    reachable: &BTreeSet<NodeId>,
) -> Option<Change> {
    if leader.joint {
        return Some(Change::LeaveJoint);
    }
    let voting: BTreeSet<ReplicaId> = leader.voters.iter().copied().collect();
    let following: BTreeSet<ReplicaId> = leader.learners.iter().copied().collect();
    let wanted: BTreeSet<ReplicaId> = voters.union(learners).copied().collect();
    if let Some(missing) = wanted.iter().find(|r| !voting.contains(r) && !following.contains(r)) {
        return Some(Change::AddLearner(*missing));
    }
    let stray: BTreeSet<ReplicaId> = following.difference(&wanted).copied().collect();
    if !stray.is_empty() {
        return Some(Change::RemoveLearners(stray));
    }
    if voting == *voters {
        return None;
    }
    // A node holds one replica of a shard: where a newer one has answered, the older is gone, whatever it last said.
    let has_successor = |r: &ReplicaId| {
        let newer = |other: &ReplicaId| other.node() == r.node() && other.generation() > r.generation();
        leader.matched.iter().any(|(other, matched)| newer(other) && *matched > 0)
    };
    let is_whole = |r: &ReplicaId| {
        *r == leader.replica
            || (is_caught_up(leader, *r) && reachable.contains(&r.node()) && !has_successor(r))
    };
    let ready = |r: &ReplicaId| voting.contains(r) || is_caught_up(leader, *r);
    let is_held_up = |r: &ReplicaId| {
        let older = voting.iter().find(|old| old.node() == r.node() && *old != r);
        older.is_some_and(|old| {
            let without = voting.iter().filter(|voter| *voter != old && is_whole(voter)).count();
            without <= voting.len() / 2
        })
    };
    let coming = voters.iter().any(|r| !ready(r) && reachable.contains(&r.node()) && !is_held_up(r));
    if coming {
        return None;
    }
    let mut next: BTreeSet<ReplicaId> = voters.iter().copied().filter(ready).collect();
    if next.len() < voters.len() {
        // Whoever is to leave stays until all are ready if its vote counts, and else while there is room.
        let leaving = voting.difference(voters).copied().filter(|old| reachable.contains(&old.node()));
        let (whole, lame): (Vec<ReplicaId>, Vec<ReplicaId>) = leaving.partition(is_whole);
        next.extend(whole);
        let room = voters.len().saturating_sub(next.len());
        next.extend(lame.into_iter().take(room));
    }
    // Short of all that are wanted the group may grow, and give away seats that are empty anyhow, but not change or shrink
    // otherwise: that would cost a vote for nothing.
    let costs_a_vote = next.len() < voting.len() || voting.difference(&next).any(is_whole);
    if next.is_empty() || next == voting || (next != *voters && costs_a_vote) {
        return None;
    }
    if !next.contains(&leader.replica) {
        let heir = next
            .iter()
            .find(|r| voting.contains(r) && reachable.contains(&r.node()) && is_caught_up(leader, **r));
        if let Some(heir) = heir {
            return Some(Change::HandOver(*heir));
        }
        // Nobody else votes yet: let the newcomers in first, and go afterwards.
        next.insert(leader.replica);
        if next == voting {
            return None;
        }
    }
    Some(Change::SetVoters(next))
}

/// Who should vote in the meta group, and who should follow: 3 voters, 5 from 7 nodes up. Voters that answer stay; the
/// place of one that is gone or does not answer goes to the lowest id that does.
pub fn meta_members(
    state: &MetaState,
    voting: &BTreeSet<ReplicaId>,
    reachable: &BTreeSet<NodeId>,
) -> (BTreeSet<ReplicaId>, BTreeSet<ReplicaId>) {
    let present: BTreeSet<NodeId> = state.present().map(|(id, _)| id).collect();
    let steady: BTreeSet<NodeId> = state.active().collect();
    let seats = match steady.len() {
        0..=6 => 3,
        _ => 5,
    };
    let mut ranked: Vec<NodeId> = present
        .iter()
        .copied()
        .filter(|n| steady.contains(n) || voting.contains(&ReplicaId::meta(*n)))
        .collect();
    ranked.sort_by_key(|n| {
        let votes = voting.contains(&ReplicaId::meta(*n));
        (!steady.contains(n), !reachable.contains(n), !votes, *n)
    });
    // Without a spare that answers, a silent voter keeps its place.
    let voters: BTreeSet<ReplicaId> = ranked
        .iter()
        .filter(|n| reachable.contains(n) || voting.contains(&ReplicaId::meta(**n)))
        .take(seats)
        .map(|n| ReplicaId::meta(*n))
        .collect();
    let learners = present.iter().map(|n| ReplicaId::meta(*n)).filter(|r| !voters.contains(r)).collect();
    (voters, learners)
}

#[cfg(test)]
mod tests;
