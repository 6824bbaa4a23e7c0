//! Nodes come, take replicas and lose their disks while writes go on.

use std::process::{Command, Stdio};

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

/// What `pharos` with these arguments prints, or its error.
fn pharos(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(binary()).args(arguments).output().expect("the binary starts");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn a_token_lets_one_node_in_and_who_has_none_stays_out() {
    let cluster = Cluster::start(1, 2);
    let url = cluster.nodes[0].url();
    eventually("the cluster keeps tokens", || {
        pharos(&["cluster", "token", "--url", &url]).map_err(anyhow::Error::msg)
    });
    pharos(&["cluster", "join-by", "token", "--url", &url]).expect("the cluster closes its door");
    let token = pharos(&["cluster", "token", "--for", "10m", "--url", &url]).expect("a token");
    let dir = tempfile::tempdir().expect("a directory");
    let node = |name: &str, more: &[&str]| {
        let data = dir.path().join(name);
        let mut command = Command::new(binary());
        command.args(["server", "--http-addr", "127.0.0.1:0", "--peer-addr"]);
        command.arg(format!("127.0.0.1:{}", chaos::process::free_port().expect("a free port")));
        for off in [
            "otlp.grpc_addr=off",
            "otlp.http_addr=off",
            "postgres.addr=off",
            "syslog.tcp_addr=off",
            "syslog.udp_addr=off",
        ] {
            command.args(["--set", off]);
        }
        command.arg("--data-dir").arg(&data).args(more);
        command
    };
    let refused = |mut command: Command| {
        let output = command.output().expect("the binary starts");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let door = format!("127.0.0.1:{}", cluster.nodes[0].peer);
    let told = refused(node("none", &["--join", &door]));
    assert!(told.contains("nodes join this cluster by a token"), "{told}");
    let mut second = node("second", &["--join-token", &token, "--stop-with-stdin"]);
    second.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut second = second.spawn().expect("the binary starts");
    eventually("the node is a member", || {
        let status = cluster.status()?;
        let nodes = status["nodes"].as_array().context("nodes")?;
        let active = nodes.iter().filter(|node| node["state"] == "active").count();
        anyhow::ensure!(active == 2, "{active}");
        Ok(())
    });
    let told = refused(node("third", &["--join-token", &token]));
    assert!(told.contains("the join token was used"), "{told}");
    pharos(&["cluster", "join-by", "address", "--url", &url]).expect("the cluster opens its door");
    // It ends with its standard input.
    drop(second.stdin.take());
    assert!(second.wait().expect("it ends").success());
}
