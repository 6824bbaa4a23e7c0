//! A real Prometheus scrapes a real node_exporter and writes to one node of three. What it answers from its own
//! storage and what each Pharos node answers must be the same.

use std::time::Duration;

use chaos::client::Client;
use chaos::ledger::now_ms;
use tests::Cluster;
use tests::{eventually, peers};

/// Evaluated off the scrape instants, so that Prometheus 2.42's ranges, closed on the left, give what 3.x gives.
const QUERIES: [&str; 10] = [
    "up",
    "node_cpu_seconds_total{mode=\"idle\"}",
    "sum by (mode) (rate(node_cpu_seconds_total[10s]))",
    "topk(3, rate(prometheus_http_requests_total[15s]))",
    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    "histogram_quantile(0.9, sum by (le) (increase(prometheus_http_request_duration_seconds_bucket[15s])))",
    "max_over_time(node_load1[10s]) - min_over_time(node_load1[10s])",
    "count by (job) ({__name__=~\"node_network_.+\"})",
    "label_replace(up, \"short\", \"$1\", \"instance\", \"(.*):.*\") * on (instance) group_left (job) up",
    "avg_over_time(scrape_duration_seconds[12s]) unless absent(up)",
];

#[test]
fn answers_are_prometheus_answers() {
    if !peers::installed(&["prometheus", "prometheus-node-exporter"]) {
        return;
    }
    let cluster = Cluster::start(3, 4);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let exporter = peers::node_exporter(dir.path());
    let prometheus =
        peers::prometheus(dir.path(), exporter.port, &format!("{}/api/v1/write", cluster.nodes[0].url()));

    // 30 s in the past every scrape has been sent; the ranges below reach 15 s further back.
    let reference = prometheus.client();
    eventually("Prometheus has scraped for 50 seconds", || {
        let at = now_ms() - 50_000;
        anyhow::ensure!(reference.query("up", at)?.values().filter(|v| **v == 1.0).count() == 2, "not yet");
        Ok(())
    });
    let at = off_the_scrapes(&reference, now_ms() - 30_000);
    eventually("remote write has caught up", || {
        // Each job has a queue of its own there.
        let newest = cluster.nodes[0].client().query("min(timestamp(up)) and count(up) == 2", now_ms())?;
        let newest = newest.values().next().copied().unwrap_or(0.0);
        anyhow::ensure!(newest * 1000.0 > at as f64 + 5000.0, "newest sample {newest}");
        Ok(())
    });
    // A second Prometheus has no data of its own: what it answers came through our remote read.
    let reader = peers::remote_reader(dir.path(), &format!("{}/api/v1/read", cluster.nodes[1].url()));
    eventually("the remote reader is up", || reader.client().query("up", at));
    let mut clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    clients.push(reader.client());
    for query in QUERIES {
        let expected = reference.query(query, at).expect(query);
        assert!(!expected.is_empty(), "{query} has an answer to compare");
        for client in &clients {
            let found = client.query(query, at).expect(query);
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{query}");
            for (labels, value) in &expected {
                let other = found[labels];
                let close = (other - value).abs() <= 1e-9 * value.abs().max(other.abs());
                assert!(
                    close || (other.is_nan() && value.is_nan()),
                    "{query} {labels}: {other}, not {value}"
                );
            }
        }
    }
    for node in &cluster.nodes {
        let selector = "/federate?match[]=up&match[]=%7B__name__=~%22node_load.%2B%22%7D";
        let expected = federated(&reference, selector);
        assert!(expected.len() > 5, "{expected:?}");
        assert_eq!(federated(&node.client(), selector), expected);
    }
}

/// The lines of a federation without their samples, which go on changing.
fn federated(client: &Client, path: &str) -> Vec<String> {
    let answer = client.get(path).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let without_sample = |line: &str| match line.starts_with('#') {
        true => line.to_owned(),
        false => line.rsplitn(3, ' ').last().unwrap_or_default().to_owned(),
    };
    answer.body.lines().map(without_sample).collect()
}

/// A moment near `at` that is no scrape instant of either job, with 20 ms of clearance.
fn off_the_scrapes(reference: &Client, at: i64) -> i64 {
    let stamps = reference.query("timestamp(up)", at).expect("up is there");
    let phases: Vec<i64> = stamps.values().map(|s| ((s * 1000.0).round() as i64).rem_euclid(1000)).collect();
    let clear = |phase: i64| {
        phases.iter().all(|p| (phase - p).rem_euclid(1000).min((p - phase).rem_euclid(1000)) > 20)
    };
    let phase = (0..1000).find(|&p| clear(p)).expect("two scrape phases leave room");
    at - at.rem_euclid(1000) - Duration::from_secs(1).as_millis() as i64 + phase
}
