//! Nodes come, move their replicas and lose their disks while writes go on.

use tests::cluster::{Cluster, binary};
use tests::eventually;
use tests::oracle::Writers;

fn acked(writers: &Writers, count: u64) {
    eventually("samples are acknowledged", || {
        anyhow::ensure!(writers.ledger.acked() >= count, "{}", writers.ledger.acked());
        Ok(())
    });
}

#[test]
fn a_wiped_node_is_rebuilt_from_segments() {
    let mut cluster = Cluster::start(3, 4);
    let writers = Writers::start(&cluster.urls(), 2, 20);
    acked(&writers, 1000);
    cluster.assert_equal_digests();
    let before = writers.ledger.acked();
    let old_id = node_id(&cluster, 2);
    cluster.nodes[2].kill();
    cluster.nodes[2].wipe();
    acked(&writers, before + 500);
    cluster.nodes[2].start();
    cluster.wait_ready();
    eventually("the node is a new member", || {
        let id = node_id(&cluster, 2);
        anyhow::ensure!(id != old_id, "still {id:?}");
        Ok(())
    });
    cluster.wait_replicated(3);
    let start_ms = writers.start_ms();
    let ledger = writers.stop();
    for node in &cluster.nodes {
        ledger.judge(&node.client(), start_ms).unwrap_or_else(|e| panic!("node {}: {e:#}", node.number));
    }
    cluster.assert_equal_digests();
    assert!(
        std::fs::read_dir(cluster.nodes[2].dir().join("shards")).expect("the node holds shards").count() >= 4,
        "the wiped node holds segments again"
    );
}

fn node_id(cluster: &Cluster, index: usize) -> Option<u64> {
    cluster.nodes[index].status().ok()?["node"].as_u64()
}

#[test]
fn a_fourth_node_takes_a_replica_while_writes_go_on() {
    let mut cluster = Cluster::start(3, 4);
    let writers = Writers::start(&cluster.urls(), 2, 20);
    acked(&writers, 500);
    cluster.add_node();
    cluster.wait_ready();
    let (from, to) = (node_id(&cluster, 1).expect("an id"), eventually("the new node has an id", || {
        node_id(&cluster, 3).ok_or_else(|| anyhow::anyhow!("none"))
    }));
    let status = std::process::Command::new(binary())
        .args(["cluster", "move", "--url", &cluster.nodes[0].url()])
        .args(["--shard", "1", "--from", &from.to_string(), "--to", &to.to_string()])
        .status()
        .expect("the command runs");
    assert!(status.success(), "the move is accepted");
    eventually("the replica lives on the new node", || {
        let status = cluster.nodes[0].status()?;
        let shard = status["shards"].as_array().and_then(|s| s.iter().find(|s| s["id"] == 1)).cloned();
        let voters = shard.map(|s| s["voters"].to_string()).unwrap_or_default();
        let mut ids: Vec<u64> = serde_json::from_str(&voters)?;
        ids.sort_unstable();
        anyhow::ensure!(ids.contains(&to) && !ids.contains(&from) && ids.len() == 3, "{ids:?}");
        Ok(())
    });
    let start_ms = writers.start_ms();
    let before = writers.ledger.acked();
    acked(&writers, before + 500);
    let failed = writers.failed.clone();
    let ledger = writers.stop();
    assert_eq!(failed.load(std::sync::atomic::Ordering::Relaxed), 0, "no write failed during the move");
    for node in &cluster.nodes {
        ledger.judge(&node.client(), start_ms).unwrap_or_else(|e| panic!("node {}: {e:#}", node.number));
    }
}
