//! Nodes come, take replicas and lose their disks while writes go on.

use std::process::Command;

use anyhow::Context;
use chaos::ledger::{WriterOptions, Writers};
use chaos::process::GUARD;
use serde_json::Value;
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
    let writers = Writers::start(
        &cluster.urls(),
        &WriterOptions { series: 4, give_up: GUARD, ..WriterOptions::default() },
    );
    wait_for_acks(&writers, 2000);
    cluster.assert_equal_digests();
    let old_id = eventually("a running node says its id", || cluster.nodes[2].id());
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
    let writers = Writers::start(
        &cluster.urls(),
        &WriterOptions { series: 4, give_up: GUARD, ..WriterOptions::default() },
    );
    wait_for_acks(&writers, 1000);
    cluster.add_node().expect("a fourth node starts");
    cluster.wait_ready().expect("it is ready");
    let to = eventually("a running node says its id", || cluster.nodes[3].id());
    // Placement gives the new node replicas by itself; the command moves one more.
    eventually("a replica is moved by command", || {
        let status = cluster.status()?;
        let shards = status["shards"].as_array().context("shards")?;
        let voters = |s: &Value| serde_json::from_value::<Vec<u64>>(s["voters"].clone()).unwrap_or_default();
        let shard = shards.iter().find(|s| voters(s).len() == 3 && !voters(s).contains(&to));
        let shard = shard.context("a shard that the new node does not hold")?;
        let (id, from) = (shard["id"].as_u64().context("a shard has an id")?, voters(shard)[1]);
        let moved = Command::new(binary())
            .args(["cluster", "move", "--url", &cluster.nodes[0].url(), "--shard", &id.to_string()])
            .args(["--from", &from.to_string(), "--to", &to.to_string()])
            .output()?;
        anyhow::ensure!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
        let status = cluster.status()?;
        let shards = status["shards"].as_array().context("shards")?;
        let now = shards.iter().find(|s| s["id"] == id).map(voters).unwrap_or_default();
        anyhow::ensure!(now.contains(&to) && !now.contains(&from), "{now:?} after the move");
        Ok(())
    });
    wait_for_acks(&writers, 1000);
    let ledger = writers.stop();
    assert_eq!(ledger.failed(), 0, "no write failed during the move");
    cluster.judge(&ledger);
}
