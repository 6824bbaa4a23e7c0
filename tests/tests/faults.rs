//! The hooks by which chaos breaks disks and clocks of real processes, and what a node does then.

use std::cell::Cell;
use std::process::Command;

use anyhow::ensure;
use chaos::client::{Series, encode_write, escape};
use chaos::hooks::NodeFaults;
use chaos::ledger::now_ms;
use chaos::process::{ClusterOptions, LocalCluster, disk_bytes};
use tests::{binary, eventually};

fn linked(nodes: usize) -> (LocalCluster, chaos::proxy::Links, tempfile::TempDir) {
    faulty(nodes, NodeFaults::default())
}

fn faulty(nodes: usize, faults: NodeFaults) -> (LocalCluster, chaos::proxy::Links, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = ClusterOptions {
        binary: binary(),
        dir: dir.path().to_owned(),
        nodes,
        shards: 2,
        arguments: Vec::new(),
    };
    let (cluster, links) = LocalCluster::start_linked(options, faults).expect("the cluster starts");
    (cluster, links, dir)
}

/// A sample of each of some series, so that every shard gets one.
fn samples(start_ms: i64, number: i64) -> Vec<Series> {
    let series = |label: usize| {
        Series::new("kept", &[("series", &label.to_string())], vec![(start_ms + number, number as f64)])
    };
    (0..8).map(series).collect()
}

fn put_in(cluster: &mut LocalCluster, index: usize, faults: NodeFaults) {
    cluster.nodes[index].set_faults(faults).expect("a node with hooks");
    cluster.nodes[index].wait_faulty().expect("it puts them into effect");
}

#[test]
fn a_full_disk_takes_no_writes_says_why_and_takes_them_again_when_there_is_room() {
    let (mut cluster, _links, _dir) = linked(1);
    let client = cluster.nodes[0].client();
    let start_ms = now_ms() - 60_000;
    let acked = Cell::new(0);
    let write = |number: i64| {
        let answer = client.post_write(&encode_write(&samples(start_ms, number)))?;
        if answer.is_success() {
            acked.set(number);
        }
        anyhow::Ok((answer.status, answer.body))
    };
    eventually("a write is taken", || {
        let (status, body) = write(1)?;
        ensure!(status < 300, "{status} {body}");
        Ok(())
    });
    let used = disk_bytes(&cluster.nodes[0].dir()).expect("a directory");
    put_in(&mut cluster, 0, NodeFaults { disk_quota_bytes: Some(used), ..NodeFaults::default() });
    let mut number = 1;
    eventually("a write is refused for the disk's sake", || {
        number += 1;
        let (status, body) = write(number)?;
        ensure!(status == 503 && body.contains("disk"), "{status} {body}");
        Ok(())
    });
    // Those that the log took inside of the room that it had reserved.
    let before = acked.get();
    let count = |cluster: &LocalCluster, at_least: i64| {
        eventually("what was acknowledged is answered", || {
            let client = cluster.nodes[0].client();
            let query = escape("max_over_time(kept[10m])");
            let path = format!("/api/v1/query?query={query}&time={}", now_ms() / 1000);
            let answer = client.get(&path)?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            let json: serde_json::Value = serde_json::from_str(&answer.body)?;
            let rows = json["data"]["result"].as_array().map_or(0, Vec::len);
            let is_there = |row: &serde_json::Value| {
                row["value"][1].as_str().and_then(|text| text.parse::<f64>().ok()) >= Some(at_least as f64)
            };
            ensure!(rows == 8, "{json}");
            ensure!(json["data"]["result"].as_array().is_some_and(|all| all.iter().all(is_there)), "{json}");
            Ok(())
        });
    };
    count(&cluster, before);
    cluster.nodes[0].kill().expect("it runs");
    cluster.nodes[0].start().expect("it starts on its full disk");
    cluster.nodes[0].wait_ready().expect("it gets ready on its full disk");
    count(&cluster, before);
    eventually("writes are refused as before", || {
        number += 1;
        let (status, body) = write(number)?;
        ensure!(status == 503 && body.contains("disk"), "{status} {body}");
        Ok(())
    });
    put_in(&mut cluster, 0, NodeFaults::default());
    eventually("writes are taken again", || {
        number += 1;
        let (status, body) = write(number)?;
        ensure!(status < 300, "{status} {body}");
        Ok(())
    });
    count(&cluster, acked.get());
    assert!(cluster.nodes[0].is_running());
}

#[test]
fn a_node_whose_clock_is_wrong_says_so_and_goes_with_the_others() {
    let (mut cluster, _links, _dir) = linked(3);
    put_in(&mut cluster, 0, NodeFaults { clock_offset_ms: -3_600_000, ..NodeFaults::default() });
    let id = eventually("the node says its id", || cluster.nodes[0].id());
    let disagrees = |cluster: &LocalCluster, wanted: bool| {
        eventually("the node knows whether its clock is right", || {
            let status = cluster.nodes[1].status()?;
            let node = status["nodes"].as_array().into_iter().flatten().find(|node| node["id"] == id);
            ensure!(node.is_some_and(|node| node["clock_disagrees"] == wanted), "{status}");
            Ok(())
        });
    };
    disagrees(&cluster, true);
    // By its own clock this is an hour ahead, which no sample may be.
    let client = cluster.nodes[0].client();
    let answer = client.post_write(&encode_write(&samples(now_ms(), 0))).expect("it answers");
    assert!(answer.is_success() || answer.status == 503, "{} {}", answer.status, answer.body);
    put_in(&mut cluster, 0, NodeFaults::default());
    disagrees(&cluster, false);
    let sent = now_ms();
    eventually("it takes writes", || {
        let answer = client.post_write(&encode_write(&samples(sent, 0)))?;
        ensure!(answer.is_success(), "{} {}", answer.status, answer.body);
        Ok(())
    });
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    const WRITES: i64 = 40;
    let (mut cluster, _links, _dir) = faulty(1, NodeFaults { power_cuts: true, ..NodeFaults::default() });
    let client = cluster.nodes[0].client();
    let start_ms = now_ms() - 60_000;
    for round in 0..2 {
        for number in round * WRITES..(round + 1) * WRITES {
            eventually("a write is taken", || {
                let answer = client.post_write(&encode_write(&samples(start_ms, number)))?;
                ensure!(answer.is_success(), "{} {}", answer.status, answer.body);
                Ok(())
            });
            if number % WRITES == WRITES / 2 {
                let answer = client.post("/api/v1/admin/flush", &[], &[]).expect("it answers");
                assert!(answer.is_success(), "{} {}", answer.status, answer.body);
            }
        }
        cluster.nodes[0].kill().expect("it runs");
        // All that no sync has reached, each time.
        cluster.nodes[0].cut_power(|_| 0).expect("what is to be undone is noted");
        cluster.nodes[0].start().expect("it starts");
        cluster.nodes[0].wait_ready().expect("it gets ready");
        eventually("what was acknowledged is answered", || {
            let query = escape("count_over_time(kept[10m])");
            let answer = client.get(&format!("/api/v1/query?query={query}&time={}", now_ms() / 1000))?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            let json: serde_json::Value = serde_json::from_str(&answer.body)?;
            let counts: Vec<_> = json["data"]["result"].as_array().into_iter().flatten().collect();
            let wanted = ((round + 1) * WRITES).to_string();
            ensure!(counts.len() == 8 && counts.iter().all(|row| row["value"][1] == wanted), "{json}");
            Ok(())
        });
    }
}

#[test]
fn hooks_work_on_nobody_s_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(binary())
        .args(["server", "--http-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .args(["--fault-file", "/dev/null"])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--fault-file works only on"), "{said}");
}
