//! What nodes do when their data outgrows what it may take.

use super::harness::write_one;
use super::*;
use crate::env::Env;
use crate::node::DataLimits;

const SHARD: ShardId = ShardId(1);
const DAY: u64 = 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_days_go_everywhere_when_one_node_is_short() {
    let mut cluster = Cluster::new(1);
    for index in 0..3 {
        cluster.add_machine();
        let mut config = cluster.config(index);
        // Two have all the room they want, and one of them may lead.
        if index == 2 {
            config.data_limits = DataLimits { max_bytes: Some(1), ..DataLimits::default() };
        }
        cluster.start_with(index, config).await.unwrap();
    }
    cluster.settled().await;
    let node = cluster.node(0).clone();
    let today = node.context.env.now_ms() as u64 / 1000;
    let mut written = Vec::new();
    for second in [today, 5 * DAY, today - 3 * DAY] {
        written.push(write_one(&node, SHARD, second).await.0);
    }
    assert_eq!(cluster.read(1, Consistency::Linearizable).await.len(), 3, "nothing goes unflushed");
    node.force_flush(GUARD).await.unwrap();
    // What is not over stays, though it alone is more than the node may have.
    for index in 0..3 {
        wait("only today is left", || {
            let group = cluster.node(index).group(SHARD).unwrap();
            group.shard.as_ref().unwrap().store.segments().len() == 1
        })
        .await;
        assert_eq!(cluster.read(index, Consistency::Local).await, written[..1]);
    }
    same_digests(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_leaves_its_shard_to_who_has_room() {
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    let leads = |cluster: &Cluster, index: usize| cluster.node(index).leads(SHARD);
    let full = (0..3).find(|index| leads(&cluster, *index)).expect("somebody leads");
    let fs = cluster.machines[full].fs.clone();
    fs.set_quota(Some(fs.used_bytes() + 1024));
    wait("somebody else leads", || (0..3).any(|index| index != full && leads(&cluster, index))).await;
    written.extend(cluster.write((full + 1) % 3).await);
    assert_eq!(cluster.read((full + 2) % 3, Consistency::Linearizable).await, written);
    assert!(cluster.is_alive(full));
    fs.set_quota(None);
    wait("the full one has caught up", || {
        let applied = |index: usize| cluster.node(index).group(SHARD).unwrap().applied().0;
        applied(full) == applied((full + 1) % 3)
    })
    .await;
}
