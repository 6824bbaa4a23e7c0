//! Nodes are replaced by a newer build one at a time, and back, while writes go on.
//!
//! A build that knows one epoch less is this one with `cluster.newest_epoch` set so: it announces less, refuses what is newer
//! and takes no part in a cluster that uses it, as the build before would.

use anyhow::{Context, ensure};
use chaos::ledger::{WriterOptions, Writers};
use chaos::process::GUARD;
use protocol::epoch::NEWEST;
use tests::{Cluster, eventually};

/// Starts a node anew as a build that knows epochs up to `newest`, and waits until the cluster knows that.
fn replace(cluster: &mut Cluster, index: usize, newest: u16) {
    let code = cluster.nodes[index].terminate().expect("it is told to stop");
    assert_eq!(code, Some(0), "a planned stop");
    start(cluster, index, newest);
    cluster.nodes[index].wait_ready().unwrap_or_else(|e| panic!("{e:#}"));
    eventually("the cluster knows what the node knows", || {
        let id = cluster.nodes[index].id()?;
        let status = cluster.nodes[index].status()?;
        let nodes = status["nodes"].as_array().context("nodes")?;
        let known = nodes.iter().find(|node| node["id"] == id).map(|node| &node["epoch"]);
        ensure!(known == Some(&newest.into()), "{known:?}");
        Ok(())
    });
}

fn start(cluster: &mut Cluster, index: usize, newest: u16) {
    let set = format!("cluster.newest_epoch={newest}");
    cluster.nodes[index].set_arguments(&["--set", &set]);
    cluster.nodes[index].start().expect("the binary starts");
}

fn epoch_in_use(cluster: &Cluster, asked: usize) -> u64 {
    let status = cluster.nodes[asked].status().expect("it answers");
    status["epoch"].as_u64().expect("an epoch")
}

#[test]
fn newer_formats_are_used_once_the_last_node_knows_them_and_no_write_fails() {
    let old = NEWEST - 1;
    let set = format!("cluster.newest_epoch={old}");
    let mut cluster = Cluster::with_arguments(3, 4, &["--set", &set]);
    let writers = Writers::start(
        &cluster.urls(),
        &WriterOptions { series: 4, give_up: GUARD, ..WriterOptions::default() },
    );
    for (index, newest) in [(0, NEWEST), (1, NEWEST), (0, old), (0, NEWEST)] {
        replace(&mut cluster, index, newest);
        for asked in 0..3 {
            assert_eq!(epoch_in_use(&cluster, asked), u64::from(old), "node 3 does not know the newer one");
        }
    }
    replace(&mut cluster, 2, NEWEST);
    for asked in 0..3 {
        eventually("the newer epoch is used", || {
            ensure!(epoch_in_use(&cluster, asked) == u64::from(NEWEST));
            Ok(())
        });
    }
    cluster.assert_equal_digests();

    // Now there is no way back.
    cluster.nodes[1].terminate().expect("it is told to stop");
    start(&mut cluster, 1, old);
    eventually("a build that is too old ends by itself", || cluster.nodes[1].ended().context("it runs"));
    let log = cluster.nodes[1].log_tail();
    let expected = format!(
        "uses formats of epoch {NEWEST}, this node knows those up to epoch {old}: start a newer build"
    );
    assert!(log.contains(&expected), "{log}");
    start(&mut cluster, 1, NEWEST);
    cluster.nodes[1].wait_ready().unwrap_or_else(|e| panic!("{e:#}"));
    cluster.wait_replicated(3).expect("it is a member as before");

    let ledger = writers.stop();
    assert_eq!(ledger.failed(), 0, "no write failed meanwhile");
    cluster.assert_equal_digests();
    cluster.judge(&ledger);
}
