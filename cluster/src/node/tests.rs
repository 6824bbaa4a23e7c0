//! Whole clusters in one process.

mod harness;
mod keep;
mod memory;
mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use harness::{Cluster, GUARD, TestEnv, wait, write_one};
use protocol::ids::{META_GROUP, NodeId, ShardId};

use crate::error::ClusterError;
use crate::meta::MemberState;
use crate::node::{Node, NodeConfig};
use crate::read::Consistency;

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_makes_a_cluster_and_serves() {
    let mut cluster = Cluster::of(1, 3).await;
    let written = sorted(cluster.write(0).await);
    assert_eq!(cluster.read(0, Consistency::Linearizable).await, written);
    let node = cluster.node(0);
    assert!((1..=3).all(|s| node.group(ShardId(s)).is_some_and(|group| group.leads_alone())));
    assert_eq!(node.id(), NodeId(1));
    assert!(node.is_ready());
    assert!(node.meta().shards.values().all(|s| s.born));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_replicate_what_any_of_them_takes() {
    let mut cluster = Cluster::of(3, 4).await;
    let mut written = Vec::new();
    for index in 0..3 {
        written.extend(cluster.write(index).await);
    }
    let written = sorted(written);
    for index in 0..3 {
        assert_eq!(cluster.read(index, Consistency::Linearizable).await, written, "through node {index}");
    }
    // Every replica comes to hold the same.
    wait("replicas catch up", || {
        (1..=4).all(|s| {
            let applied: Vec<u64> =
                cluster.nodes().map(|n| n.group(ShardId(s)).map_or(0, |g| g.applied().0)).collect();
            applied.iter().all(|a| *a == applied[0])
        })
    })
    .await;
    for index in 0..3 {
        assert_eq!(cluster.read(index, Consistency::Local).await, written, "at node {index}");
    }

    // Shards begin with one replica; since there are three, none decides alone.
    assert!(cluster.nodes().all(|n| n.all_groups().iter().all(|group| !group.leads_alone())));
    // Leaderships are spread.
    wait("leaderships spread", || cluster.nodes().all(|n| (1..=4).any(|s| n.leads(ShardId(s))))).await;
    let status = cluster.node(1).status(Duration::from_secs(5)).await;
    assert_eq!(status.nodes.len(), 3);
    assert!(status.nodes.iter().all(|n| n.reachable && n.state == MemberState::Active));
    assert!(
        status.shards.iter().all(|s| s.consistent && s.leader.is_some() && s.replicas.len() == 3),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::of(3, 2).await;
    let mut written = cluster.write(0).await;
    // Whoever leads most goes.
    let leader = cluster.node(0).leader_of(ShardId(1)).unwrap();
    let lost = cluster.index_of(leader);
    let other = (lost + 1) % 3;
    cluster.kill(lost).await;
    written.extend(cluster.write(other).await);
    assert_eq!(cluster.read(other, Consistency::Linearizable).await, sorted(written.clone()));
    cluster.start(lost).await;
    written.extend(cluster.write(lost).await);
    let written = sorted(written);
    assert_eq!(cluster.read(lost, Consistency::Linearizable).await, written);
    wait("the node is ready", || cluster.node(lost).is_ready()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_all_loses_nothing_acknowledged() {
    let mut cluster = Cluster::of(3, 2).await;
    let mut written = cluster.write(0).await;
    cluster.node(0).force_flush(GUARD).await.unwrap();
    written.extend(cluster.write(1).await);
    for index in 0..3 {
        cluster.kill(index).await;
    }
    // They wait for each other inside, not to be started.
    for index in 0..3 {
        cluster.start(index).await;
    }
    assert_eq!(cluster.read(2, Consistency::Linearizable).await, sorted(written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_gets_a_snapshot_when_the_log_is_gone() {
    let mut cluster = Cluster::of(1, 2).await;
    let mut written = cluster.write(0).await;
    cluster.node(0).force_flush(GUARD).await.unwrap();
    wait("the log is purged", || {
        (1..=2).all(|s| {
            let group = cluster.node(0).group(ShardId(s)).unwrap();
            group.with_metrics(|m| m.purged.is_some())
        })
    })
    .await;
    written.extend(cluster.write(0).await);
    for _ in 0..2 {
        let index = cluster.add_machine();
        cluster.start(index).await;
    }
    cluster.settled().await;
    let written = sorted(written);
    for index in 0..3 {
        assert_eq!(cluster.read(index, Consistency::Linearizable).await, written);
    }
    same_digests(&cluster).await;
}

/// Flushes on all replicas end in the same manifests.
async fn same_digests(cluster: &Cluster) {
    let digests = || {
        let mut by_shard: BTreeMap<ShardId, Vec<(u64, [u8; 32])>> = BTreeMap::new();
        for node in cluster.nodes() {
            for group in node.all_groups() {
                if let Some(shard) = &group.shard {
                    let digest = shard.store.digest();
                    by_shard.entry(group.id).or_default().push((digest.op_index.0, digest.digest));
                }
            }
        }
        by_shard
    };
    wait("digests agree", || {
        digests()
            .values()
            .all(|list| list.len() == cluster.nodes().count().min(3) && list.iter().all(|d| d == &list[0]))
    })
    .await;
    assert!(digests().values().all(|list| list[0].0 > 0), "nothing was flushed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_replicas_are_identical() {
    let mut cluster = Cluster::of(3, 2).await;
    for round in 0..3 {
        cluster.write(round).await;
        cluster.node(round).force_flush(GUARD).await.unwrap();
    }
    same_digests(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_moves_and_its_old_place_is_cleared() {
    let mut cluster = Cluster::of(3, 2).await;
    let written = sorted(cluster.write(0).await);
    let index = cluster.add_machine();
    cluster.start(index).await;
    wait("the fourth node is active", || cluster.node(0).meta().active().count() == 4).await;
    let shard = ShardId(1);
    let new = cluster.node(index).id();
    // Placement moves some there by itself, before or after.
    let held = |cluster: &Cluster| cluster.node(0).meta().shards[&shard].replicas.clone();
    while !held(&cluster).contains_key(&new) {
        let from = *held(&cluster).keys().next().unwrap();
        match cluster.node(0).move_replica(shard, from, new, GUARD).await {
            Ok(()) => assert!(!held(&cluster).contains_key(&from)),
            Err(ClusterError::Refused { .. }) => continue,
            Err(e) => panic!("{e}"),
        }
        wait("the old replica ends", || {
            cluster.nodes().filter(|n| n.id() == from).all(|n| n.group(shard).is_none())
        })
        .await;
    }
    wait("the new replica runs", || cluster.node(index).group(shard).is_some()).await;
    assert_eq!(cluster.read(index, Consistency::Linearizable).await, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_of_one_shard_wait_for_each_other() {
    let mut cluster = Cluster::of(5, 1).await;
    let written = sorted(cluster.write(0).await);
    let shard = ShardId(1);
    let held = |cluster: &Cluster| -> BTreeSet<NodeId> {
        cluster.node(0).meta().shards[&shard].replicas.keys().copied().collect()
    };
    let all: BTreeSet<NodeId> = cluster.nodes().map(|n| n.id()).collect();
    let before = held(&cluster);
    let (from, to): (Vec<NodeId>, Vec<NodeId>) =
        (before.iter().copied().collect(), all.difference(&before).copied().collect());
    assert_eq!((from.len(), to.len()), (3, 2));
    let (one, other) = tokio::join!(
        cluster.node(0).move_replica(shard, from[0], to[0], GUARD),
        cluster.node(1).move_replica(shard, from[1], to[1], GUARD),
    );
    one.unwrap();
    other.unwrap();
    wait("both are known", || held(&cluster) == BTreeSet::from([from[2], to[0], to[1]])).await;
    let again = cluster.node(0).move_replica(shard, from[0], to[0], GUARD).await;
    assert!(matches!(again, Err(ClusterError::Refused { .. })), "{again:?}");
    assert_eq!(cluster.read(0, Consistency::Linearizable).await, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leadership_is_not_given_to_a_node_that_has_just_died() {
    let mut cluster = Cluster::of(3, 1).await;
    let shard = ShardId(1);
    cluster.write(0).await;
    let leader = cluster.leader_of(shard).await;
    let index = cluster.index_of(leader);
    let (node, dead) = (cluster.node(index).clone(), (index + 1) % 3);
    let group = node.group(shard).unwrap();
    let heir = node.meta().shards[&shard].replica_on(cluster.node(dead).id()).unwrap();
    wait("the leader hears the follower", || group.hears(heir)).await;
    cluster.cut(dead, true);
    wait("the leader hears it no more", || !group.hears(heir)).await;
    // Its last pulse is recent enough for it to count as reachable still.
    assert!(node.step_aside(&group, heir).await.is_err());
    cluster.cut(dead, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_lasts_through_an_election() {
    let mut cluster = Cluster::of(3, 1).await;
    let shard = ShardId(1);
    cluster.write(0).await;
    let leader = cluster.leader_of(shard).await;
    let lost = cluster.index_of(leader);
    let other = cluster.node((lost + 1) % 3).clone();
    cluster.cut(lost, true);
    // One call lasts through the election: nobody has to send the same bytes again.
    let answer = other.propose_write(shard, "bytes".into(), GUARD).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_ne!(other.leader_of(shard), Some(leader));
    cluster.cut(lost, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_gives_up_and_what_waits_for_it_goes_to_the_next() {
    let mut cluster = Cluster::of(3, 1).await;
    let shard = ShardId(1);
    cluster.write(0).await;
    let leader = cluster.leader_of(shard).await;
    let deaf = cluster.index_of(leader);
    let other = cluster.node((deaf + 1) % 3).clone();
    // Its heartbeats go on: without its giving up nobody would ever elect. What it was sent may have been written.
    cluster.deafen(deaf);
    let answer = other.propose_write(shard, "bytes".into(), GUARD).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_ne!(other.leader_of(shard), Some(leader));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_can_be_removed_and_then_stops() {
    let mut cluster = Cluster::of(4, 2).await;
    let written = sorted(cluster.write(0).await);
    let leaving = cluster.node(3).id();
    assert!(cluster.node(0).remove(NodeId(99), GUARD).await.is_err(), "nobody knows 99");
    cluster.node(0).drain(leaving, GUARD).await.unwrap();
    cluster.node(0).remove(leaving, GUARD).await.unwrap();
    wait("the node stops itself", || !cluster.is_alive(3)).await;
    assert_eq!(cluster.read(0, Consistency::Linearizable).await, written);
    assert!(cluster.node(0).drain(leaving, Duration::from_secs(1)).await.is_err(), "it is gone for good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_joins_under_a_new_name_and_gets_everything_back() {
    let mut cluster = Cluster::of(3, 2).await;
    let mut written = cluster.write(0).await;
    let old = cluster.node(2).id();
    cluster.wipe(2).await;
    written.extend(cluster.write(0).await);
    cluster.start(2).await;
    let new = cluster.node(2).id();
    assert_ne!(old, new);
    wait("the old name is replaced everywhere", || {
        let meta = cluster.node(0).meta();
        meta.members[&old].state == MemberState::Removed
            && meta.shards.values().all(|s| s.replicas.contains_key(&new) && !s.replicas.contains_key(&old))
    })
    .await;
    cluster.settled().await;
    let written = sorted(written);
    // The other two may now go one after the other: the new replica counts.
    cluster.kill(1).await;
    assert_eq!(cluster.read(2, Consistency::Linearizable).await, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_hands_over_first() {
    let mut cluster = Cluster::of(3, 4).await;
    let written = sorted(cluster.write(0).await);
    wait("leaderships spread", || (1..=4).any(|s| cluster.node(0).leads(ShardId(s)))).await;
    let first = cluster.machines[0].node.take().unwrap();
    first.stop().await;
    let left = first.id();
    // A peer that stops next does not wait for this one to take over.
    assert!(cluster.nodes().all(|n| !n.context.reachable().contains(&left)));
    drop(first);
    wait("others lead", || {
        (0..=4).all(|s| cluster.node(1).leader_of(ShardId(s)).is_some_and(|leader| leader != left))
    })
    .await;
    assert_eq!(cluster.read(1, Consistency::Linearizable).await, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_leader_serves_no_linearizable_reads() {
    let mut cluster = Cluster::of(3, 1).await;
    cluster.write(0).await;
    let leader = cluster.node(0).leader_of(ShardId(1)).unwrap();
    let lost = cluster.index_of(leader);
    cluster.cut(lost, true);
    let short = Duration::from_millis(1500);
    let old = cluster.node(lost).read_shard(ShardId(1), &Consistency::Linearizable, short).await;
    assert!(old.is_err(), "a leader that nobody confirms must not answer");
    let other = cluster.node((lost + 1) % 3).clone();
    let (sample, _) = write_one(&other, ShardId(1), 77).await;
    let local = cluster.node(lost).read_shard(ShardId(1), &Consistency::Local, short).await.unwrap();
    assert!(!harness::dump(&local).contains(&sample), "it can not know");
    cluster.cut(lost, false);
    let read = cluster.read(lost, Consistency::Linearizable).await;
    assert!(read.contains(&sample));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_sees_its_own_writes_at_any_replica() {
    let mut cluster = Cluster::of(3, 1).await;
    let node = cluster.node(0).clone();
    for number in 1..=20 {
        let (sample, index) = write_one(&node, ShardId(1), number).await;
        let token = Consistency::Session(BTreeMap::from([(ShardId(1), index)]));
        let reader = (number % 3) as usize;
        assert!(cluster.read(reader, token).await.contains(&sample), "write {number} at node {reader}");
    }
    cluster.write(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_shards_are_named() {
    let mut cluster = Cluster::of(3, 2).await;
    cluster.write(0).await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    let answer =
        cluster.node(0).run_fragment("all".into(), Consistency::Linearizable, Duration::from_secs(2)).await;
    let Err(crate::error::ReadError::Missing { shards, .. }) = answer else {
        panic!("an answer without a quorum")
    };
    assert_eq!(shards, [ShardId(1), ShardId(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_of_another_cluster_is_refused() {
    let cluster = Cluster::of(1, 1).await;
    let mut other = Cluster::of(1, 1).await;
    // The disk of the one in the machine of the other.
    let foreign = cluster.machines[0].fs.fork(9);
    other.kill(0).await;
    let index = other.add_machine();
    other.machines[index].fs = foreign;
    other.machines[index].addr = "node-0:1".to_owned();
    other.start(0).await;
    other.machines[index].addr = "node-1:1".to_owned();
    // It starts by itself, for it is a whole cluster; but nobody of the other cluster talks to it.
    let config = other.config(index);
    other.start_with(index, config).await.unwrap();
    let (a, b) = (other.node(0).clone(), other.node(index).clone());
    assert_ne!(a.cluster_id(), b.cluster_id());
    wait("each leads its own cluster", || [&a, &b].iter().all(|n| n.leads(META_GROUP) && n.is_ready())).await;
    assert!(a.view().reachable.len() == 1 && b.view().reachable.len() == 1);
    // The foreign node knows the other's address, and is told to go away.
    b.context.peers.set([(NodeId(7), "node-0:1".to_owned())]);
    let request = crate::network::rpc::Request::Status;
    let answer = b.context.peers.call::<crate::status::NodeStatus>(NodeId(7), &request, GUARD).await;
    assert_eq!(answer.unwrap_err().refusal(), Some(&crate::network::rpc::Refusal::ForeignCluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_without_its_identity_is_refused() {
    let mut cluster = Cluster::of(1, 1).await;
    cluster.write(0).await;
    cluster.kill(0).await;
    use storage::fs::Fs;
    cluster.machines[0].fs.remove_file("/data/identity.json".as_ref()).unwrap();
    let config = cluster.config(0);
    let refused = cluster.start_with(0, config).await;
    assert!(matches!(refused, Err(crate::error::ClusterError::NoIdentity { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_a_damaged_disk_is_made_anew() {
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    cluster.node(0).force_flush(GUARD).await.unwrap();
    same_digests(&cluster).await;
    let before = cluster.node(0).meta().shards[&ShardId(1)].replica_on(cluster.node(2).id()).unwrap();
    cluster.kill(2).await;
    damage_files(&cluster.machines[2].fs);
    written.extend(cluster.write(0).await);
    cluster.start(2).await;
    let node = cluster.node(2).clone();
    wait("the replica is made anew", || {
        let wanted = node.meta().shards[&ShardId(1)].replica_on(node.id()).unwrap();
        wanted != before && node.group(ShardId(1)).is_some_and(|g| g.replica == wanted)
    })
    .await;
    cluster.settled().await;
    same_digests(&cluster).await;
    assert_eq!(cluster.read(2, Consistency::Linearizable).await, sorted(written));
}

/// Cuts all files of the shard's store in half.
fn damage_files(fs: &storage::fs::mem::MemFs) {
    use storage::fs::Fs;
    let files = std::path::Path::new("/data/shards/1/files");
    for file in fs.list(files).unwrap() {
        fs.damage(&files.join(file.name), |bytes| bytes.truncate(bytes.len() / 2)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_replicas_are_kept_while_no_majority_is_whole() {
    use storage::fs::Fs;
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    cluster.node(0).force_flush(GUARD).await.unwrap();
    same_digests(&cluster).await;
    let shard = ShardId(1);
    for index in 0..3 {
        cluster.kill(index).await;
    }
    let healthy = cluster.machines[1].fs.fork(9);
    for index in [1, 2] {
        damage_files(&cluster.machines[index].fs);
    }
    let listing = |cluster: &Cluster, index: usize| {
        cluster.machines[index].fs.list("/data/shards/1/files".as_ref()).unwrap()
    };
    let before = [listing(&cluster, 1), listing(&cluster, 2)];
    for index in 0..3 {
        cluster.start(index).await;
    }
    let wanted = cluster.node(0).meta().shards[&shard].replicas.clone();
    wait("both were looked at and kept", || {
        [1, 2].iter().all(|i| {
            crate::node::lock(&cluster.node(*i).broken).get(&shard).is_some_and(|broken| broken.kept > 2)
        })
    })
    .await;
    assert_eq!(cluster.node(0).meta().shards[&shard].replicas, wanted, "nothing was given up");
    assert_eq!([listing(&cluster, 1), listing(&cluster, 2)], before, "no file was touched");
    // The files of one are brought back: a majority is whole again, and the last one is made anew from it.
    cluster.kill(1).await;
    let files = std::path::Path::new("/data/shards/1/files");
    for file in healthy.list(files).unwrap() {
        let path = files.join(file.name);
        cluster.machines[1].fs.write_atomic(&path, &healthy.read(&path, u64::MAX).unwrap()).unwrap();
    }
    cluster.start(1).await;
    let node = cluster.node(2).clone();
    wait("the third replica is made anew", || {
        let replica = node.meta().shards[&shard].replica_on(node.id()).unwrap();
        replica.generation() == 2 && node.group(shard).is_some_and(|g| g.replica == replica)
    })
    .await;
    cluster.settled().await;
    written.extend(cluster.write(2).await);
    assert_eq!(cluster.read(2, Consistency::Linearizable).await, sorted(written));
    let fs = &cluster.machines[2].fs;
    wait("the old files go when the new replica votes", || {
        fs.list("/data/shards".as_ref()).unwrap().iter().all(|entry| entry.name == "1")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_its_name_or_manifest_is_made_anew() {
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    cluster.node(0).force_flush(GUARD).await.unwrap();
    same_digests(&cluster).await;
    let shard = ShardId(1);
    wait("the log is purged", || {
        cluster.nodes().all(|n| n.group(shard).unwrap().with_metrics(|m| m.purged.is_some()))
    })
    .await;
    for (generation, file) in [(2, "replica"), (3, "manifest")] {
        cluster.kill(2).await;
        cluster.machines[2].fs.delete(&std::path::Path::new("/data/shards/1").join(file)).unwrap();
        written.extend(cluster.write(0).await);
        cluster.start(2).await;
        let node = cluster.node(2).clone();
        wait("the replica is made anew", || {
            node.group(shard).is_some_and(|g| g.replica.generation() == generation)
        })
        .await;
        cluster.settled().await;
        assert_eq!(cluster.read(2, Consistency::Linearizable).await, sorted(written.clone()), "{file}");
        cluster.node(0).force_flush(GUARD).await.unwrap();
        same_digests(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_place_is_given_anew_makes_room_for_it() {
    use crate::meta::{MetaCommand, MetaOutcome};
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    let (shard, node) = (ShardId(1), cluster.node(0).clone());
    let leader = node.leader_of(shard).unwrap();
    let lost = node.meta().shards[&shard].replica_on(leader).unwrap();
    let renewed = node.propose_meta(MetaCommand::RenewReplica { shard, lost }, GUARD).await.unwrap();
    assert_eq!(renewed, MetaOutcome::Done);
    wait("its new replica runs", || {
        let here = cluster.nodes().find(|n| n.id() == leader).unwrap();
        here.group(shard).is_some_and(|group| group.replica.generation() == 2)
    })
    .await;
    cluster.settled().await;
    written.extend(cluster.write(1).await);
    assert_eq!(cluster.read(2, Consistency::Linearizable).await, sorted(written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_replica_that_is_given_up_is_made_anew() {
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    let shard = ShardId(1);
    let follower = cluster.machines.iter().position(|m| !m.node.as_ref().unwrap().leads(shard)).unwrap();
    let node = cluster.node(follower).clone();
    let given_up = async {
        while node.group(shard).is_none_or(|group| group.replica.generation() == 1) {
            if let Some(group) = node.group(shard).filter(|group| group.replica.generation() == 1) {
                node.give_up(&group).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(GUARD, given_up).await.expect("a new replica takes its place");
    cluster.settled().await;
    written.extend(cluster.write(0).await);
    assert_eq!(cluster.read(follower, Consistency::Linearizable).await, sorted(written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_of_a_living_member_is_not_given_away() {
    use crate::network::rpc::{Join, Joined, Refusal, Request};
    let mut cluster = Cluster::of(3, 1).await;
    let leader = cluster.node(0).leader_of(META_GROUP).unwrap();
    let at = cluster.index_of(leader);
    let (asker, victim) = ((at + 1) % 3, (at + 2) % 3);
    let (addr, id) = (cluster.machines[victim].addr.clone(), cluster.node(victim).id());
    for addr in [addr, cluster.machines[at].addr.clone()] {
        let request =
            Request::Join(Join { addr, incarnation: 99, epoch: protocol::epoch::NEWEST, secret: None });
        let answer = cluster.node(asker).context.peers.call::<Joined>(leader, &request, GUARD).await;
        let refusal = answer.unwrap_err();
        let Some(Refusal::Failed { kind, message }) = refusal.refusal() else { panic!("{refusal}") };
        assert_eq!(*kind, protocol::error::ErrorKind::Conflict, "{message}");
    }
    assert_eq!(cluster.node(at).meta().members[&id].state, MemberState::Active);
    cluster.write(victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_leaders_snapshot_does_not_replace_a_newer_ones() {
    use crate::network::rpc::{Offer, OfferAnswer, Refusal};
    use crate::types::{LeaderId, StoredMembership, Vote};
    let cluster = Cluster::of(3, 1).await;
    let shard = ShardId(1);
    let follower = cluster.nodes().find(|n| !n.leads(shard)).unwrap().clone();
    let group = follower.group(shard).unwrap();
    let offer = |term| Offer {
        group: shard,
        to: group.replica,
        vote: Vote { leader_id: LeaderId { term, node_id: 1 }, committed: true },
        last: None,
        membership: StoredMembership::default(),
        manifest: "no manifest".into(),
    };
    let take = |term| follower.take_offer(NodeId(1), &group, offer(term));
    assert!(matches!(take(1000), Ok(OfferAnswer::Working { .. })));
    assert!(matches!(take(999), Err(Refusal::Failed { .. })));
    assert!(matches!(take(1001), Ok(OfferAnswer::Working { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_does_not_end_the_node_when_the_meta_state_is_due() {
    let cluster = Cluster::of(1, 1).await;
    let (node, fs) = (cluster.node(0).clone(), cluster.machines[0].fs.clone());
    let exported = || {
        let group = node.group(META_GROUP).unwrap();
        group.with_metrics(|m| m.snapshot.map_or(0, |id| id.index))
    };
    wait("the first export", || exported() > 0).await;
    let before = exported();
    fs.set_quota(Some(fs.used_bytes()));
    for round in 0..100 {
        node.set_setting("key", Some(round.to_string()), GUARD).await.unwrap();
    }
    wait("the setting is applied", || node.setting("key").as_deref() == Some("99")).await;
    fs.set_quota(None);
    for round in 0..100 {
        node.set_setting("key", Some(format!("again {round}")), GUARD).await.unwrap();
    }
    wait("the next export", || exported() > before).await;
    assert!(cluster.is_alive(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nearly_full_disk_takes_no_writes_but_answers() {
    let mut cluster = Cluster::of(1, 1).await;
    let written = cluster.write(0).await;
    let (node, fs) = (cluster.node(0).clone(), cluster.machines[0].fs.clone());
    fs.set_quota(Some(fs.used_bytes() + 1024));
    wait("the node notices", || node.context.disk_full.load(std::sync::atomic::Ordering::Acquire)).await;
    let refused = node.propose_write(ShardId(1), "bytes".into(), Duration::from_secs(1)).await;
    assert!(
        matches!(refused, Err(crate::router::shard_writer::WriteError::Overloaded { .. })),
        "{refused:?}"
    );
    assert_eq!(cluster.read(0, Consistency::Linearizable).await, written);
    fs.set_quota(None);
    wait("the node recovers", || !node.context.disk_full.load(std::sync::atomic::Ordering::Acquire)).await;
    cluster.write(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_behind_a_purged_log_is_brought_back_by_a_snapshot() {
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    cluster.node(0).force_flush(GUARD).await.unwrap();
    written.extend(cluster.write(1).await);
    let shard = ShardId(1);
    let lost = cluster.machines.iter().rposition(|m| !m.node.as_ref().unwrap().leads(shard)).unwrap();
    let other = (lost + 1) % 3;
    let before = cluster.node(lost).group(shard).unwrap().applied().0;
    cluster.kill(lost).await;
    wait("it is missed", || cluster.node(other).view().reachable.len() == 2).await;
    for _ in 0..3 {
        written.extend(cluster.write(other).await);
        cluster.node(other).force_flush(GUARD).await.unwrap();
    }
    wait("the log it needs is gone", || {
        cluster.nodes().all(|n| {
            let group = n.group(shard).unwrap();
            group.with_metrics(|m| m.purged.is_some_and(|id| crate::shard::log_index(id.index).0 > before))
        })
    })
    .await;
    cluster.start(lost).await;
    let leader = cluster.node(other).clone();
    let lost_node = cluster.node(lost).clone();
    wait("it catches up", || {
        let wanted = cluster.nodes().map(|n| n.group(shard).map_or(0, |g| g.applied().0)).max();
        lost_node.group(shard).map(|g| g.applied().0) == wanted && leader.group(shard).is_some()
    })
    .await;
    same_digests(&cluster).await;
    assert_eq!(cluster.read(lost, Consistency::Linearizable).await, sorted(written.clone()));
    assert_eq!(cluster.read(lost, Consistency::Local).await, sorted(written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_held_is_rebuilt_elsewhere_and_shared_again_when_it_is_back() {
    let mut cluster = Cluster::new(4);
    for _ in 0..4 {
        let index = cluster.add_machine();
        let config = NodeConfig { rebuild_after: Some(Duration::from_secs(4)), ..cluster.config(index) };
        cluster.start_with(index, config).await.expect("the node starts");
    }
    cluster.settled().await;
    let mut written = cluster.write(0).await;
    let dead = cluster.node(2).id();
    let held = |node: &Arc<Node<TestEnv>>, id: NodeId| {
        node.meta().shards.values().filter(|shard| shard.replicas.contains_key(&id)).count()
    };
    assert!(held(cluster.node(0), dead) > 0, "it holds its share");
    cluster.kill(2).await;
    wait("others are given what it held", || held(cluster.node(0), dead) == 0).await;
    cluster.settled().await;
    written.extend(cluster.write(1).await);
    for index in [0, 1, 3] {
        assert_eq!(cluster.read(index, Consistency::Linearizable).await, sorted(written.clone()));
    }
    cluster.node(0).force_flush(GUARD).await.unwrap();
    same_digests(&cluster).await;
    cluster.start(2).await;
    wait("it takes its share again", || held(cluster.node(0), dead) > 0).await;
    cluster.settled().await;
    written.extend(cluster.write(2).await);
    assert_eq!(cluster.read(2, Consistency::Linearizable).await, sorted(written));
    cluster.node(2).force_flush(GUARD).await.unwrap();
    same_digests(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_write() {
    let mut cluster = Cluster::of(3, 2).await;
    let mut written = Vec::new();
    for index in 0..3 {
        written.extend(cluster.write((index + 1) % 3).await);
        let node = cluster.machines[index].node.take().unwrap();
        node.stop().await;
        drop(node);
        cluster.kill(index).await;
        written.extend(cluster.write((index + 1) % 3).await);
        cluster.start(index).await;
        wait("the node is ready", || cluster.node(index).is_ready()).await;
    }
    let written = sorted(written);
    for index in 0..3 {
        assert_eq!(cluster.read(index, Consistency::Linearizable).await, written);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_is_seen_by_the_next_read_on_every_node_and_outlives_flush_and_restart() {
    let mut cluster = Cluster::of(3, 4).await;
    let mut written = cluster.write(0).await;
    written.extend(cluster.write(1).await);
    let of_series = |name: &str| crate::node::Delete {
        tenant: protocol::ids::TenantId::default(),
        matchers: vec![protocol::matcher::Matcher::equal("n", name)],
        start_ms: 0,
        end_ms: 1_500,
    };
    // The first sample of the series on shard 2: asked of a node that need not lead it.
    cluster.node(2).delete_series(of_series("s2"), GUARD).await.unwrap();
    written.retain(|sample| sample != "s2=1");
    for index in 0..3 {
        let read = cluster.read(index, Consistency::Linearizable).await;
        assert_eq!(read, sorted(written.clone()), "node {index}");
    }
    // What is written later stays, whatever its time.
    let again = write_one(cluster.node(0), ShardId(2), 1).await.0;
    written.push(again);
    assert_eq!(cluster.read(1, Consistency::Linearizable).await, sorted(written.clone()));

    cluster.node(1).force_flush(GUARD).await.unwrap();
    cluster.node(1).delete_series(of_series("s3"), GUARD).await.unwrap();
    written.retain(|sample| sample != "s3=1");
    for index in 0..3 {
        cluster.kill(index).await;
    }
    for index in 0..3 {
        cluster.start(index).await;
    }
    cluster.settled().await;
    assert_eq!(cluster.read(0, Consistency::Linearizable).await, sorted(written.clone()));

    cluster.node(0).clean_tombstones(GUARD).await.unwrap();
    for node in cluster.nodes() {
        for group in node.all_groups().iter().filter(|g| g.is_leader()) {
            let Some(shard) = &group.shard else { continue };
            assert_eq!(shard.store.stats().tombstones, 0);
        }
    }
    assert_eq!(cluster.read(2, Consistency::Linearizable).await, sorted(written));
    same_digests(&cluster).await;
}
