//! What was acknowledged survives kills, and a retry changes nothing.

use tests::client::{Series, encode_write};
use tests::cluster::Cluster;
use tests::eventually;
use tests::oracle::{Writers, now_ms};

/// Waits until `count` more samples were acknowledged.
fn wait_for_acks(writers: &Writers, count: u64) {
    let target = writers.ledger.acked() + count;
    eventually("samples are acknowledged", || {
        anyhow::ensure!(writers.ledger.acked() >= target, "{} of {target}", writers.ledger.acked());
        Ok(())
    });
}

fn judge_everywhere(cluster: &Cluster, ledger: &tests::oracle::Ledger, start_ms: i64) {
    for node in &cluster.nodes {
        let judged = eventually("the node answers", || {
            node.client().query("vector(1)", now_ms())?;
            Ok(ledger.judge(&node.client(), start_ms))
        });
        assert!(judged.unwrap_or_else(|e| panic!("node {}: {e:#}", node.number)) > 0);
    }
}

#[test]
fn killed_leaders_lose_nothing() {
    let mut cluster = Cluster::start(3, 4);
    let writers = Writers::start(&cluster.urls(), 4, 20);
    wait_for_acks(&writers, 500);
    for round in 0..2 {
        let victim = if round == 0 { cluster.leader_of(1) } else { cluster.leader_of(1) % 3 + 1 };
        cluster.nodes[victim - 1].kill();
        wait_for_acks(&writers, 500);
        cluster.nodes[victim - 1].start();
        cluster.wait_ready();
        wait_for_acks(&writers, 500);
    }
    let failed = writers.failed.clone();
    let start_ms = writers.start_ms();
    let ledger = writers.stop();
    assert_eq!(failed.load(std::sync::atomic::Ordering::Relaxed), 0, "clients that retry see no failed write");
    judge_everywhere(&cluster, &ledger, start_ms);
    cluster.assert_equal_digests();
}

#[test]
fn all_killed_at_once_lose_nothing() {
    let mut cluster = Cluster::start(3, 4);
    let writers = Writers::start(&cluster.urls(), 4, 3);
    wait_for_acks(&writers, 2000);
    for node in &mut cluster.nodes {
        node.kill();
    }
    let start_ms = writers.start_ms();
    let ledger = writers.stop();
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.wait_ready();
    judge_everywhere(&cluster, &ledger, start_ms);
    cluster.assert_equal_digests();
}

#[test]
fn the_same_body_twice_changes_nothing() {
    let mut cluster = Cluster::start(3, 4);
    let at = now_ms() - 60_000;
    let series: Vec<Series> = (0..50)
        .map(|i| {
            let i = i.to_string();
            Series::new("twice", &[("i", &i)], (0..10).map(|k| (at + k, k as f64)).collect())
        })
        .collect();
    let body = encode_write(&series);
    let expr = "sum(count_over_time(twice[1m]))";
    let count = |cluster: &Cluster| {
        eventually("the count is read", || {
            let found = cluster.nodes.iter().find_map(|n| n.client().query(expr, at + 1000).ok());
            found.and_then(|f| f.values().next().copied()).ok_or_else(|| anyhow::anyhow!("no answer"))
        })
    };
    let send = |cluster: &Cluster, node: usize| {
        eventually("the body is acknowledged", || {
            let answer = cluster.nodes[node].client().post_write(&body)?;
            anyhow::ensure!((200..300).contains(&answer.status), "{} {}", answer.status, answer.body);
            Ok(())
        })
    };
    send(&cluster, 0);
    assert_eq!(count(&cluster), 500.0);
    send(&cluster, 1);
    assert_eq!(count(&cluster), 500.0);
    let victim = cluster.leader_of(1);
    cluster.nodes[victim - 1].kill();
    send(&cluster, victim % 3);
    assert_eq!(count(&cluster), 500.0);
    cluster.nodes[victim - 1].start();
    cluster.wait_ready();
    send(&cluster, victim - 1);
    assert_eq!(count(&cluster), 500.0);
    cluster.assert_equal_digests();
}
