//! What was acknowledged survives kills, and a retry changes nothing.

use chaos::client::{Series, encode_write};
use chaos::ledger::{WriterOptions, Writers, now_ms};
use chaos::process::GUARD;
use tests::{Cluster, eventually};

/// Waits until `count` more samples were acknowledged.
fn wait_for_acks(writers: &Writers, count: u64) {
    let target = writers.ledger().acked() + count;
    eventually("samples are acknowledged", || {
        anyhow::ensure!(writers.ledger().acked() >= target, "{} of {target}", writers.ledger().acked());
        Ok(())
    });
}

#[test]
fn killed_leaders_lose_nothing() {
    let mut cluster = Cluster::start(3, 4);
    let options = WriterOptions { series: 4, give_up: GUARD, ..WriterOptions::default() };
    let writers = Writers::start(&cluster.urls(), &options);
    wait_for_acks(&writers, 2000);
    let (_, leader) = cluster.busiest_shard().expect("a busiest shard");
    for victim in [leader, (leader + 1) % 3] {
        cluster.kill(victim);
        wait_for_acks(&writers, 1000);
        cluster.restart(victim);
        wait_for_acks(&writers, 1000);
    }
    let ledger = writers.stop();
    assert_eq!(ledger.failed(), 0, "clients that retry see no failed write");
    cluster.judge(&ledger);
    cluster.assert_equal_digests();
    cluster.judge(&ledger);
}

#[test]
fn all_killed_at_once_lose_nothing() {
    let mut cluster = Cluster::start(3, 4);
    let options =
        WriterOptions { series: 4, give_up: std::time::Duration::from_secs(2), ..WriterOptions::default() };
    let writers = Writers::start(&cluster.urls(), &options);
    wait_for_acks(&writers, 5000);
    for node in 0..3 {
        cluster.kill(node);
    }
    let ledger = writers.stop();
    for node in &mut cluster.nodes {
        node.start().expect("the binary starts");
    }
    cluster.wait_ready().expect("all come back");
    cluster.judge(&ledger);
    cluster.assert_equal_digests();
}

#[test]
fn the_same_body_twice_changes_nothing() {
    let mut cluster = Cluster::start(3, 4);
    let at = now_ms() - 60_000;
    let series: Vec<Series> = (0..50)
        .map(|i| {
            Series::new("twice", &[("i", &i.to_string())], (0..10).map(|k| (at + k, k as f64)).collect())
        })
        .collect();
    let body = encode_write(&series);
    let count = |cluster: &Cluster| {
        eventually("the count is read", || {
            let answers = cluster.nodes.iter().filter_map(|n| {
                n.client()
                    .query("sum(count_over_time(twice[1m])) + sum(sum_over_time(twice[1m]))", at + 1000)
                    .ok()
            });
            answers.flatten().map(|(_, v)| v).next().ok_or_else(|| anyhow::anyhow!("no answer"))
        })
    };
    let send = |cluster: &Cluster, node: usize| {
        eventually("the body is acknowledged", || {
            let answer = cluster.nodes[node].client().post_write(&body)?;
            anyhow::ensure!(answer.is_success(), "{} {}", answer.status, answer.body);
            Ok(())
        })
    };
    let expected = 500.0 + 50.0 * 45.0;
    send(&cluster, 0);
    assert_eq!(count(&cluster), expected);
    send(&cluster, 1);
    assert_eq!(count(&cluster), expected);
    let victim = cluster.leader_of(1).expect("a leader");
    cluster.kill(victim);
    send(&cluster, (victim + 1) % 3);
    assert_eq!(count(&cluster), expected);
    cluster.restart(victim);
    send(&cluster, victim);
    assert_eq!(count(&cluster), expected);
    cluster.assert_equal_digests();
    assert_eq!(count(&cluster), expected);
}
