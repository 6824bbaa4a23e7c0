//! Nodes come, take replicas and lose their disks while writes go on.

use anyhow::Context;
use chaos::ledger::{WriterOptions, Writers};
use tests::{Cluster, binary, eventually};

fn wait_for_acks(writers: &Writers, count: u64) {
    let target = writers.ledger().acked() + count;
    eventually("samples are acknowledged", || {
        anyhow::ensure!(writers.ledger().acked() >= target, "{}", writers.ledger().acked());
        Ok(())
    });
}

#[test]
fn a_wiped_node_is_rebuilt_from_segments() {
    let mut cluster = Cluster::start(3, 4);
    let writers = Writers::start(&cluster.urls(), &WriterOptions { series: 4, ..WriterOptions::default() });
    wait_for_acks(&writers, 2000);
    cluster.assert_equal_digests();
    let old_id = cluster.nodes[2].id().expect("a running node has an id");
    cluster.kill(2);
    cluster.nodes[2].wipe().expect("the directory is removed");
    wait_for_acks(&writers, 1000);
    cluster.restart(2);
    eventually("the node is a new member", || {
        anyhow::ensure!(cluster.nodes[2].id()? != old_id, "still {old_id}");
        Ok(())
    });
    cluster.wait_replicated(3).expect("every shard is whole again");
    let ledger = writers.stop();
    assert_eq!(ledger.failed(), 0, "no write failed meanwhile");
    cluster.assert_equal_digests();
    cluster.judge(&ledger);
}

#[test]
fn a_fourth_node_takes_a_replica_while_writes_go_on() {
    let mut cluster = Cluster::start(3, 4);
    let writers = Writers::start(&cluster.urls(), &WriterOptions { series: 4, ..WriterOptions::default() });
    wait_for_acks(&writers, 1000);
    cluster.add_node().expect("a fourth node starts");
    cluster.wait_ready().expect("it is ready");
    let ids: Vec<u64> = cluster.nodes.iter().map(|n| n.id().expect("an id")).collect();
    let (from, to) = (ids[1], ids[3]);
    let status = std::process::Command::new(binary())
        .args(["cluster", "move", "--url", &cluster.nodes[0].url()])
        .args(["--shard", "1", "--from", &from.to_string(), "--to", &to.to_string()])
        .status()
        .expect("the command runs");
    assert!(status.success(), "the move is accepted");
    eventually("the replica lives on the new node", || {
        let status = cluster.status()?;
        let shards = status["shards"].as_array().context("shards")?;
        let voters = &shards.iter().find(|s| s["id"] == 1).context("shard 1")?["voters"];
        let voters: Vec<u64> = serde_json::from_value(voters.clone())?;
        anyhow::ensure!(voters.contains(&to) && !voters.contains(&from) && voters.len() == 3, "{voters:?}");
        Ok(())
    });
    wait_for_acks(&writers, 1000);
    let ledger = writers.stop();
    assert_eq!(ledger.failed(), 0, "no write failed during the move");
    cluster.judge(&ledger);
}
