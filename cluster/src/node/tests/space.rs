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
            config.data_limits = DataLimits { max_bytes: Some(1), max_disk_share: None };
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
