use protocol::ids::ClusterSecret;

use super::*;
use crate::meta::MetaCommand;

fn r(node: u64) -> ReplicaId {
    ReplicaId::new(NodeId(node), 1)
}

fn ids(nodes: &[u64]) -> BTreeSet<ReplicaId> {
    nodes.iter().map(|&n| r(n)).collect()
}

fn nodes(list: &[u64]) -> BTreeSet<NodeId> {
    list.iter().map(|&n| NodeId(n)).collect()
}

fn state(count: u64, shards: u16) -> MetaState {
    let mut state = MetaState::default();
    state.apply(&MetaCommand::Bootstrap {
        cluster_id: "c".into(),
        secret: ClusterSecret([0; 32]),
        shards,
        replication_factor: 3,
        addr: "a1".into(),
        incarnation: 1,
        epoch: 1,
    });
    for n in 2..=count {
        state.apply(&MetaCommand::AddNode {
            addr: format!("a{n}"),
            incarnation: n,
            epoch: 1,
            token: None,
            now_ms: 0,
        });
        state.apply(&MetaCommand::SetMemberState { node: NodeId(n), state: MemberState::Active });
    }
    state
}

fn leader(shard: u16, node: u64, voters: &[u64]) -> GroupPulse {
    GroupPulse {
        group: ShardId(shard),
        replica: r(node),
        role: Role::Leader,
        leader: Some(r(node)),
        term: 1,
        last_log: 100,
        applied: 100,
        voters: ids(voters).into_iter().collect(),
        learners: vec![],
        joint: false,
        matched: voters.iter().map(|&n| (r(n), 100)).collect(),
        bytes: 0,
    }
}

/// Plays the steps as if every change succeeded at once, and says how many rounds that took.
fn settle(state: &mut MetaState, view: &mut View) -> usize {
    for round in 0..1000 {
        let steps = plan(state, view);
        if steps.is_empty() {
            return round;
        }
        for step in steps {
            match step {
                Step::SetReplicas { shard, version, nodes } => {
                    state.apply(&MetaCommand::SetReplicas { shard, version, nodes, pinned: false });
                    let wanted: Vec<ReplicaId> = state.shards[&shard].replica_ids().collect();
                    let leader = view.leaders.get_mut(&shard).unwrap();
                    leader.matched = wanted.iter().map(|&r| (r, 100)).collect();
                    if !wanted.contains(&leader.replica) {
                        leader.replica = wanted[0];
                    }
                    leader.voters = wanted;
                }
                Step::Transfer { shard, to, .. } => view.leaders.get_mut(&shard).unwrap().replica = to,
            }
        }
    }
    panic!("never settles");
}

fn cluster(count: u64, shards: u16) -> (MetaState, View) {
    let mut state = state(count, shards);
    let mut view = View { reachable: (1..=count).map(NodeId).collect(), ..View::default() };
    view.leaders = (1..=shards).map(|s| (ShardId(s), leader(s, 1, &[1]))).collect();
    settle(&mut state, &mut view);
    (state, view)
}

fn per_node(state: &MetaState) -> Vec<usize> {
    state.active().map(|n| state.shards.values().filter(|s| s.replicas.contains_key(&n)).count()).collect()
}

fn leads(view: &View) -> BTreeMap<NodeId, usize> {
    let mut counts = BTreeMap::new();
    for pulse in view.leaders.values() {
        *counts.entry(pulse.replica.node()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn three_nodes_get_three_replicas_and_share_the_lead() {
    let (state, view) = cluster(3, 16);
    assert!(state.shards.values().all(|s| s.replicas.len() == 3));
    let leads = leads(&view);
    assert!(leads.values().all(|&n| (5..=6).contains(&n)), "{leads:?}");
}

#[test]
fn a_fourth_node_takes_its_share() {
    let (mut state, mut view) = cluster(3, 16);
    state.apply(&MetaCommand::AddNode {
        addr: "a4".into(),
        incarnation: 4,
        epoch: 1,
        token: None,
        now_ms: 0,
    });
    state.apply(&MetaCommand::SetMemberState { node: NodeId(4), state: MemberState::Active });
    view.reachable.insert(NodeId(4));
    settle(&mut state, &mut view);
    assert_eq!(per_node(&state), [12, 12, 12, 12]);
}

#[test]
fn a_wiped_node_is_replaced_by_itself_under_a_new_name() {
    let (mut state, mut view) = cluster(3, 4);
    state.apply(&MetaCommand::AddNode {
        addr: "a3".into(),
        incarnation: 33,
        epoch: 1,
        token: None,
        now_ms: 0,
    });
    state.apply(&MetaCommand::SetMemberState { node: NodeId(4), state: MemberState::Active });
    view.reachable = nodes(&[1, 2, 4]);
    settle(&mut state, &mut view);
    assert!(
        state
            .shards
            .values()
            .all(|s| s.replicas.keys().copied().collect::<BTreeSet<_>>() == nodes(&[1, 2, 4]))
    );
}

#[test]
fn what_an_absent_node_holds_is_given_to_others_and_back() {
    let (mut state, mut view) = cluster(4, 8);
    view.reachable = nodes(&[1, 2, 4]);
    view.leaders.values_mut().for_each(|pulse| {
        if pulse.replica.node() == NodeId(3) {
            let voter = pulse.voters.iter().copied().find(|voter| voter.node() != NodeId(3));
            pulse.replica = voter.unwrap();
        }
    });
    settle(&mut state, &mut view);
    assert_eq!(per_node(&state), [6, 6, 6, 6], "silent for a moment: its replicas stay");
    view.absent = nodes(&[3]);
    settle(&mut state, &mut view);
    assert_eq!(per_node(&state), [8, 8, 0, 8]);
    (view.reachable, view.absent) = (nodes(&[1, 2, 3, 4]), BTreeSet::new());
    settle(&mut state, &mut view);
    assert_eq!(per_node(&state), [6, 6, 6, 6]);
}

#[test]
fn an_absent_node_that_nobody_can_stand_in_for_keeps_its_replicas() {
    let (state, mut view) = cluster(3, 8);
    (view.reachable, view.absent) = (nodes(&[1, 2]), nodes(&[3]));
    view.leaders.values_mut().for_each(|pulse| pulse.replica = r(1 + u64::from(pulse.group.0 % 2)));
    assert_eq!(plan(&state, &view), []);
}

#[test]
fn a_shard_that_waits_for_an_absent_newcomer_gets_another() {
    let (mut state, mut view) = cluster(5, 1);
    let holders: BTreeSet<NodeId> = state.shards[&ShardId(1)].replicas.keys().copied().collect();
    let free: Vec<NodeId> = state.active().filter(|node| !holders.contains(node)).collect();
    // One was about to be exchanged for a node that died before it had caught up.
    let mut wanted: Vec<NodeId> = holders.iter().copied().skip(1).collect();
    wanted.push(free[0]);
    let version = state.shards[&ShardId(1)].version;
    state.apply(&MetaCommand::SetReplicas { shard: ShardId(1), version, nodes: wanted, pinned: false });
    assert_eq!(plan(&state, &view), [], "it is waited for");
    view.reachable.remove(&free[0]);
    view.absent = BTreeSet::from([free[0]]);
    settle(&mut state, &mut view);
    assert!(!state.shards[&ShardId(1)].replicas.contains_key(&free[0]));
    assert_eq!(state.shards[&ShardId(1)].replicas.len(), 3);
}

#[test]
fn draining_exchanges_replicas_but_drops_none_that_nobody_takes() {
    let (mut state, mut view) = cluster(4, 8);
    state.apply(&MetaCommand::SetMemberState { node: NodeId(2), state: MemberState::Draining });
    settle(&mut state, &mut view);
    assert!(state.shards.values().all(|s| s.replicas.len() == 3 && !s.replicas.contains_key(&NodeId(2))));

    let (mut state, mut view) = cluster(3, 8);
    state.apply(&MetaCommand::SetMemberState { node: NodeId(2), state: MemberState::Draining });
    settle(&mut state, &mut view);
    // Two active nodes: two replicas are what the cluster can promise.
    assert!(state.shards.values().all(|s| s.replicas.len() == 2 && !s.replicas.contains_key(&NodeId(2))));
    assert!(!leads(&view).contains_key(&NodeId(2)));
}

#[test]
fn few_large_shards_move_at_a_time() {
    let mut state = state(3, 16);
    let mut view = View { reachable: nodes(&[1, 2, 3]), ..View::default() };
    for s in 1..=16 {
        let mut pulse = leader(s, 1, &[1]);
        pulse.bytes = 1 << 30;
        view.leaders.insert(ShardId(s), pulse);
    }
    assert_eq!(plan(&state, &view).len(), MAX_MOVES);
    for step in plan(&state, &view) {
        let Step::SetReplicas { shard, version, nodes } = step else { panic!("a transfer") };
        state.apply(&MetaCommand::SetReplicas { shard, version, nodes, pinned: false });
    }
    assert_eq!(plan(&state, &view), [], "the first ones are still on their way");
}

#[test]
fn balancing_leaves_a_shard_where_people_put_it() {
    let (mut state, mut view) = cluster(4, 8);
    let held = |state: &MetaState, node: u64| {
        state.shards.values().filter(|s| s.replicas.contains_key(&NodeId(node))).count()
    };
    // As many as it takes to make the fourth node the fullest by two.
    while held(&state, 4) < held(&state, 1) + 2 {
        let on = |s: &ShardMeta| s.replicas.contains_key(&NodeId(1)) && !s.replicas.contains_key(&NodeId(4));
        let (&shard, meta) = state.shards.iter().find(|(_, s)| on(s)).unwrap();
        let mut nodes: BTreeSet<NodeId> = meta.replicas.keys().copied().collect();
        nodes.remove(&NodeId(1));
        nodes.insert(NodeId(4));
        let version = meta.version;
        state.apply(&MetaCommand::SetReplicas {
            shard,
            version,
            nodes: nodes.into_iter().collect(),
            pinned: true,
        });
    }
    let pinned: Vec<_> = state.shards.iter().filter(|(_, s)| s.pinned).map(|(id, _)| *id).collect();
    assert!(!pinned.is_empty());
    settle(&mut state, &mut view);
    assert!(pinned.iter().all(|id| state.shards[id].replicas.contains_key(&NodeId(4))), "a move was undone");
    let drain = |state| MetaCommand::SetMemberState { node: NodeId(2), state };
    state.apply(&drain(MemberState::Draining));
    assert!(state.shards.values().all(|s| !s.pinned), "other members, another balance");
}

#[test]
fn a_shard_without_a_leader_is_left_alone() {
    let mut state = state(3, 2);
    let view = View { reachable: nodes(&[1, 2, 3]), ..View::default() };
    assert_eq!(plan(&state, &view), []);
    settle(&mut state, &mut view.clone());
}

#[test]
fn leadership_goes_only_to_the_reachable_and_caught_up() {
    let (state, mut view) = cluster(3, 4);
    for s in 1..=4 {
        let mut pulse = leader(s, 1, &[1, 2, 3]);
        pulse.matched.insert(r(2), 10);
        view.leaders.insert(ShardId(s), pulse);
    }
    view.reachable = nodes(&[1, 2]);
    assert_eq!(plan(&state, &view), [], "2 lags, 3 is silent");
    view.reachable = nodes(&[1, 2, 3]);
    assert!(matches!(plan(&state, &view)[..], [Step::Transfer { to, .. }] if to == r(3)));
}

#[test]
fn leadership_leaves_full_disks_for_those_that_have_room() {
    let (state, mut view) = cluster(3, 2);
    view.reachable = nodes(&[1, 2, 3]);
    for (s, node) in [(1, 1), (2, 2)] {
        view.leaders.insert(ShardId(s), leader(s, node, &[1, 2, 3]));
    }
    assert_eq!(plan(&state, &view), [], "balanced");
    view.full = nodes(&[2]);
    assert_eq!(
        plan(&state, &view),
        [Step::Transfer { shard: ShardId(2), from: NodeId(2), to: r(3) }],
        "to the idlest that has room"
    );
    view.full = nodes(&[1, 2, 3]);
    assert_eq!(plan(&state, &view), [], "nobody has room");
}

#[test]
fn a_group_grows_by_learners_that_catch_up() {
    let reachable = nodes(&[1, 2, 3]);
    let mut pulse = leader(1, 1, &[1]);
    let wanted = ids(&[1, 2, 3]);
    let next = |p: &GroupPulse| reconcile(p, &wanted, &BTreeSet::new(), &reachable);
    assert_eq!(next(&pulse), Some(Change::AddLearner(r(2))));
    pulse.learners = vec![r(2)];
    assert_eq!(next(&pulse), Some(Change::AddLearner(r(3))));
    pulse.learners = vec![r(2), r(3)];
    assert_eq!(next(&pulse), None, "they are empty yet");
    pulse.matched.insert(r(2), 100);
    assert_eq!(next(&pulse), None, "one more is coming");
    pulse.matched.insert(r(3), 50);
    assert_eq!(next(&pulse), Some(Change::SetVoters(wanted.clone())));
    pulse.joint = true;
    assert_eq!(next(&pulse), Some(Change::LeaveJoint));
}

#[test]
fn a_silent_newcomer_does_not_hold_up_the_others() {
    let mut pulse = leader(1, 1, &[1]);
    pulse.learners = vec![r(2), r(3)];
    pulse.matched.insert(r(2), 100);
    let next = reconcile(&pulse, &ids(&[1, 2, 3]), &BTreeSet::new(), &nodes(&[1, 2]));
    assert_eq!(next, Some(Change::SetVoters(ids(&[1, 2]))));
}

#[test]
fn a_voter_that_leaves_stays_until_its_successor_is_ready() {
    let mut pulse = leader(1, 1, &[1, 2, 3]);
    pulse.learners = vec![r(4)];
    let wanted = ids(&[1, 2, 4]);
    assert_eq!(reconcile(&pulse, &wanted, &BTreeSet::new(), &nodes(&[1, 2, 4])), None);
    assert_eq!(
        reconcile(&pulse, &wanted, &BTreeSet::new(), &nodes(&[1, 2])),
        None,
        "nor is the group shrunk"
    );
    pulse.matched.insert(r(4), 100);
    let next = reconcile(&pulse, &wanted, &BTreeSet::new(), &nodes(&[1, 2, 4]));
    assert_eq!(next, Some(Change::SetVoters(wanted)));
}

/// Node 2 gave its replica up for one that is not wanted any more, and nobody has taken that seat; node 1 is wanted with a
/// new replica, and can not give up the old one while the group needs its vote.
#[test]
fn an_empty_seat_is_given_to_who_is_ready_while_another_newcomer_is_held_up() {
    let newer = ReplicaId::new(NodeId(1), 2);
    let mut pulse = leader(3, 3, &[1, 2, 3]);
    pulse.learners = vec![newer, r(4)];
    pulse.matched = BTreeMap::from([(r(1), 100), (newer, 0), (r(2), 0), (r(3), 100), (r(4), 100)]);
    let wanted = BTreeSet::from([newer, r(3), r(4)]);
    let reachable = nodes(&[1, 2, 3, 4]);
    let next = reconcile(&pulse, &wanted, &BTreeSet::new(), &reachable);
    assert_eq!(next, Some(Change::SetVoters(ids(&[1, 3, 4]))));
    // Then the old one can be spared, and the rest waits for the new one.
    pulse.voters = vec![r(1), r(3), r(4)];
    pulse.learners = vec![newer];
    assert_eq!(reconcile(&pulse, &wanted, &BTreeSet::new(), &reachable), None);
    // Nobody who follows well loses a seat before all is ready.
    pulse.voters = vec![r(1), r(2), r(3)];
    pulse.learners = vec![newer, r(4)];
    pulse.matched.insert(r(2), 100);
    assert_eq!(reconcile(&pulse, &wanted, &BTreeSet::new(), &reachable), None);
    // Nor does it where two have to make room for newer ones of their own, and one of them is still needed: the group grows.
    let (of_1, of_4) = (ReplicaId::new(NodeId(1), 2), ReplicaId::new(NodeId(4), 2));
    let mut pulse = leader(3, 2, &[1, 2, 4]);
    pulse.learners = vec![of_1, r(3), of_4];
    pulse.matched =
        BTreeMap::from([(r(1), 0), (of_1, 100), (r(2), 100), (r(3), 100), (r(4), 100), (of_4, 0)]);
    let next = reconcile(&pulse, &BTreeSet::from([of_1, r(3), of_4]), &BTreeSet::new(), &reachable);
    assert_eq!(next, Some(Change::SetVoters(BTreeSet::from([of_1, r(2), r(3), r(4)]))));
}

#[test]
fn a_voter_whose_successor_has_answered_is_gone() {
    let (newer_3, newer_4) = (ReplicaId::new(NodeId(3), 2), ReplicaId::new(NodeId(4), 2));
    let mut pulse = leader(1, 1, &[1, 3, 4]);
    pulse.learners = vec![newer_3, newer_4];
    // What the first one of node 3 said last is remembered; that of node 4 lives, and is needed.
    pulse.matched = BTreeMap::from([(r(1), 100), (r(3), 100), (newer_3, 100), (r(4), 100), (newer_4, 0)]);
    let wanted = BTreeSet::from([r(1), newer_3, newer_4]);
    let next = reconcile(&pulse, &wanted, &BTreeSet::new(), &nodes(&[1, 3, 4]));
    assert_eq!(next, Some(Change::SetVoters(BTreeSet::from([r(1), newer_3, r(4)]))));
}

#[test]
fn a_silent_voter_loses_its_seat_to_who_is_ready() {
    let newer = ReplicaId::new(NodeId(1), 2);
    let mut pulse = leader(3, 3, &[1, 2, 3]);
    pulse.learners = vec![newer, r(4)];
    pulse.matched.extend([(newer, 0), (r(4), 100)]);
    let wanted = BTreeSet::from([newer, r(3), r(4)]);
    let next = reconcile(&pulse, &wanted, &BTreeSet::new(), &nodes(&[1, 3, 4]));
    assert_eq!(next, Some(Change::SetVoters(ids(&[1, 3, 4]))));
}

#[test]
fn a_leader_that_is_not_wanted_hands_over_first() {
    let mut pulse = leader(1, 1, &[1, 2, 3]);
    pulse.learners = vec![r(4)];
    pulse.matched.insert(r(4), 100);
    let reachable = nodes(&[1, 2, 3, 4]);
    let next = reconcile(&pulse, &ids(&[2, 3, 4]), &BTreeSet::new(), &reachable);
    assert_eq!(next, Some(Change::HandOver(r(2))));
    // The only voter lets its successor in first.
    let mut alone = leader(1, 1, &[1]);
    alone.learners = vec![r(2)];
    alone.matched.insert(r(2), 100);
    let next = reconcile(&alone, &ids(&[2]), &BTreeSet::new(), &reachable);
    assert_eq!(next, Some(Change::SetVoters(ids(&[1, 2]))));
}

#[test]
fn learners_that_nobody_wants_are_thrown_out() {
    let mut pulse = leader(1, 1, &[1]);
    pulse.learners = vec![r(5)];
    let next = reconcile(&pulse, &ids(&[1]), &BTreeSet::new(), &nodes(&[1, 5]));
    assert_eq!(next, Some(Change::RemoveLearners(ids(&[5]))));
}

#[test]
fn the_meta_group_has_three_voters_or_five() {
    let voters = |count: u64, voting: &[u64], reachable: &[u64]| {
        let (voters, learners) = meta_members(&state(count, 1), &ids(voting), &nodes(reachable));
        let plain = |set: BTreeSet<ReplicaId>| set.into_iter().map(|r| r.node().0).collect::<Vec<_>>();
        (plain(voters), plain(learners))
    };
    assert_eq!(voters(1, &[1], &[1]), (vec![1], vec![]));
    assert_eq!(voters(2, &[1], &[1, 2]), (vec![1, 2], vec![]));
    assert_eq!(voters(4, &[1, 2, 3], &[1, 2, 3, 4]), (vec![1, 2, 3], vec![4]));
    assert_eq!(voters(4, &[1, 2, 3], &[1, 3, 4]), (vec![1, 3, 4], vec![2]), "a silent voter loses its seat");
    assert_eq!(voters(3, &[1, 2, 3], &[1, 3]), (vec![1, 2, 3], vec![]), "unless nobody can take it");
    assert_eq!(voters(7, &[1, 2, 3], &[1, 2, 3, 4, 5, 6, 7]).0, [1, 2, 3, 4, 5]);
}

#[test]
fn a_replica_is_spared_only_while_a_majority_without_it_is_whole() {
    let leader = leader(1, 1, &[1, 2, 3]);
    let word = |node: u64, change: fn(&mut GroupPulse)| {
        let mut word = GroupPulse { replica: r(node), role: Role::Follower, ..leader.clone() };
        change(&mut word);
        word
    };
    let whole = |_: &mut GroupPulse| ();
    assert!(can_spare(&leader, &[word(3, whole)], r(2)));
    assert!(!can_spare(&leader, &[word(2, whole)], r(2)), "its own word does not count");
    assert!(!can_spare(&leader, &[], r(2)), "what the leader remembers does not count");
    assert!(!can_spare(&leader, &[word(3, |w| w.term = 2)], r(2)), "it follows another leader");
    assert!(!can_spare(&leader, &[word(3, |w| w.role = Role::Stopped)], r(2)));
    assert!(!can_spare(&leader, &[word(3, |w| w.replica = ReplicaId::new(NodeId(3), 2))], r(2)));
    assert!(!can_spare(&leader, &[word(2, whole), word(3, whole)], r(1)), "it leads");
    let behind = GroupPulse { matched: BTreeMap::from([(r(3), 3)]), ..leader.clone() };
    assert!(!can_spare(&behind, &[word(3, whole)], r(2)), "the other one is behind");
    let changing = GroupPulse { joint: true, ..leader.clone() };
    assert!(!can_spare(&changing, &[word(3, whole)], r(2)));
    let alone = GroupPulse { voters: vec![r(1), r(2)], ..leader.clone() };
    assert!(!can_spare(&alone, &[word(3, whole)], r(2)), "one of two is no majority");
}

#[test]
fn of_two_replicas_that_are_to_end_one_waits_for_the_other() {
    let leader = leader(1, 1, &[1, 2, 3, 4]);
    let mut meta = state(4, 1).shards[&ShardId(1)].clone();
    // Nodes 2 and 4 should hold newer replicas than those that vote.
    meta.replicas = [(1, 1), (2, 2), (4, 2)].into_iter().map(|(n, g)| (NodeId(n), g)).collect();
    let words = |nodes: &[u64]| -> Vec<GroupPulse> {
        let word = |n: &u64| GroupPulse { replica: r(*n), role: Role::Follower, ..leader.clone() };
        nodes.iter().map(word).collect()
    };
    assert!(may_end(&leader, &words(&[2, 3, 4]), &meta, r(2)));
    assert!(!may_end(&leader, &words(&[2, 3, 4]), &meta, r(4)), "2 goes first");
    assert!(
        !may_end(&leader, &words(&[3, 4]), &meta, r(4)),
        "2 is gone, and its successor does not vote yet"
    );
    let whole = GroupPulse {
        voters: vec![r(1), ReplicaId::new(NodeId(2), 2), r(3), r(4)],
        matched: [r(1), ReplicaId::new(NodeId(2), 2), r(3), r(4)].map(|r| (r, 100)).into(),
        ..leader.clone()
    };
    let mut all = words(&[3, 4]);
    all.push(GroupPulse { replica: ReplicaId::new(NodeId(2), 2), ..all[0].clone() });
    assert!(may_end(&whole, &all, &meta, r(4)));
    // One whose own end the group could not bear holds nobody up.
    let behind = GroupPulse { matched: [(r(1), 100), (r(2), 100), (r(3), 100)].into(), ..leader.clone() };
    assert!(!may_end(&behind, &words(&[2, 3, 4]), &meta, r(2)));
    assert!(may_end(&behind, &words(&[2, 3, 4]), &meta, r(4)));
}
