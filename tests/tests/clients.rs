//! What real clients ask of any node: promtool's queries, the expressions of real rules and dashboards, and what becomes of
//! a query that takes nodes down.

use std::path::PathBuf;
use std::process::Command;

use chaos::client::{Client, Series, escape};
use chaos::ledger::now_ms;
use serde_json::Value;
use tests::{Cluster, eventually, peers};

/// Ten minutes of a counter and a gauge of two instances, every 15 s up to `end`.
fn write_history(client: &Client, end: i64) {
    let times: Vec<i64> = (0..40).map(|i| end - (39 - i) * 15_000).collect();
    let mut all = Vec::new();
    for (instance, step) in [("a:1", 3.0), ("b:1", 4.5)] {
        let labels = [("instance", instance), ("job", "shop")];
        let counter = times.iter().enumerate().map(|(i, t)| (*t, step * i as f64)).collect();
        let gauge = times.iter().enumerate().map(|(i, t)| (*t, f64::from(i as u32 % 7))).collect();
        all.push(Series::new("requests_total", &labels, counter));
        all.push(Series::new("queue_length", &labels, gauge));
    }
    client.write(&all).expect("a write to a healthy cluster");
}

/// Runs promtool and gives what it printed.
fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool").args(arguments).output().expect("promtool starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn promtool_asks_any_node() {
    if !peers::installed(&["promtool"]) {
        return;
    }
    let cluster = Cluster::start(3, 3);
    let end = now_ms() / 1000 * 1000;
    write_history(&cluster.nodes[0].client(), end);
    let (start, end) = ((end / 1000 - 300).to_string(), (end / 1000).to_string());
    let rate = "sum by (job) (rate(requests_total[1m]))";
    for node in &cluster.nodes {
        let (url, client) = (node.url(), node.client());
        let found = json(&promtool(&["query", "-o", "json", "instant", "--time", &end, &url, rate]));
        // 3 and 4.5 more every 15 s: half a request a second.
        assert_eq!(found[0]["metric"]["job"], "shop", "{found}");
        let value: f64 = found[0]["value"][1].as_str().and_then(|v| v.parse().ok()).expect("a value");
        assert!((value - 0.5).abs() < 1e-9, "{found}");
        let found =
            json(&promtool(&["query", "-o", "json", "instant", "--time", &end, &url, "queue_length"]));
        let answer = client
            .api(&format!("/api/v1/query?query=queue_length&time={end}"))
            .expect("the API answers what promtool asks");
        assert_eq!(found, answer["result"]);
        assert_eq!(found.as_array().map(Vec::len), Some(2));

        let times = ["--start", &start, "--end", &end];
        let range = [&["query", "-o", "json", "range", "--step", "30s"], &times[..], &[&url, rate]].concat();
        let found = json(&promtool(&range));
        let answer = client
            .api(&format!("/api/v1/query_range?query={}&start={start}&end={end}&step=30s", escape(rate)))
            .expect("the API answers what promtool asks");
        assert_eq!(found, answer["result"]);
        assert_eq!(found[0]["values"].as_array().map(Vec::len), Some(11));

        let series = [&["query", "series", "--match", "requests_total"], &times[..], &[&url]].concat();
        let mut lines: Vec<String> = promtool(&series).lines().map(str::to_owned).collect();
        lines.sort();
        let row = |instance: &str| {
            format!("{{__name__=\"requests_total\", instance=\"{instance}\", job=\"shop\"}}")
        };
        assert_eq!(lines, [row("a:1"), row("b:1")]);

        let labels = [&["query", "labels"], &times[..], &[&url, "instance"]].concat();
        assert_eq!(promtool(&labels).split_whitespace().collect::<Vec<_>>(), ["a:1", "b:1"]);
        // It fails where the query does, with the reason.
        let wrong = Command::new("promtool").args(["query", "instant", &url, "sum("]).output();
        let wrong = wrong.expect("promtool starts");
        assert!(!wrong.status.success());
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("parse error"), "{wrong:?}");
    }
    every_expression_is_accepted(&cluster);
    a_plan_says_what_each_shard_did(&cluster);
    names_are_searched(&cluster);
}

/// The same cluster serves: starting one costs more than all questions.
fn every_expression_is_accepted(cluster: &Cluster) {
    let Some(dir) = std::env::var_os("PHAROS_TESTDATA") else {
        use std::io::Write;
        let skipped = "PHAROS_TESTDATA is unset, skipped: the expressions of real rules and dashboards";
        let _ = writeln!(std::io::stderr(), "{skipped}");
        return;
    };
    let path = PathBuf::from(dir).join("expressions/expressions.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let mut count = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let expr = json(line)["expr"].as_str().expect("a line has an expression").to_owned();
        let body = format!("query={}", escape(&expr));
        let answer = clients[count % 3].post("/api/v1/query", &form, body.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{expr}: {}", answer.body);
        count += 1;
    }
    assert!(count > 900, "only {count} expressions found");
}

fn a_plan_says_what_each_shard_did(cluster: &Cluster) {
    let output = Command::new(tests::binary())
        .args(["query", "--explain", "--url", &cluster.nodes[1].url()])
        .arg("sum by (job) (rate(requests_total[1m])) > 0.1")
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{output:?}");
    assert!(text.contains("partial aggregates are merged here"), "{text}");
    let plan = cluster.nodes[2]
        .client()
        .api("/api/v1/query?explain=true&query=sum(count_over_time(requests_total%5B1h%5D))")
        .expect("a plan");
    let shards = plan["explain"]["fragments"][0]["shards"].as_array().expect("every shard answered");
    let sum = |key: &str| shards.iter().filter_map(|shard| shard[key].as_u64()).sum::<u64>();
    assert_eq!((shards.len(), sum("series"), sum("samples")), (3, 2, 80), "{plan}");
    assert!(shards.iter().all(|shard| shard["bytes"].as_u64().is_some_and(|bytes| bytes > 0)), "{plan}");
}

fn names_are_searched(cluster: &Cluster) {
    let client = cluster.nodes[1].client();
    let lines = |query: &str| -> Vec<Value> {
        let answer = client.get(&format!("/api/v1/search/{query}")).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.lines().map(json).collect()
    };
    let names = |lines: &[Value]| -> Vec<String> {
        let results = lines.iter().filter_map(|line| line["results"].as_array()).flatten();
        results.filter_map(|found| found["name"].as_str().map(str::to_owned)).collect()
    };
    let found = lines("metric_names?search%5B%5D=rqst&sort_by=score&include_metadata=true");
    assert_eq!(names(&found), ["requests_total"], "{found:?}");
    assert_eq!(found.last(), Some(&serde_json::json!({"status": "success", "has_more": false})));
    let found = lines("label_names?match%5B%5D=queue_length&batch_size=1&limit=2");
    assert_eq!(names(&found), ["__name__", "instance"], "{found:?}");
    assert_eq!((found.len(), &found[2]["has_more"]), (3, &Value::Bool(true)), "{found:?}");
    let found = lines("label_values?label=instance&search%5B%5D=B%3A&case_sensitive=false");
    assert_eq!(names(&found), ["b:1"], "{found:?}");
}

/// Seconds of work at the coordinator, over no data: each of 11,000 windows is sorted.
const HEAVY: &str = "quantile_over_time(0.5, vector(time())[11h:1s])";

#[test]
fn a_query_that_was_running_at_two_crashes_is_kept_out() {
    let mut cluster = Cluster::with_arguments(1, 1, &["--set", "query.quarantine=1h"]);
    let path = format!("/api/v1/query_range?query={}&start=0&end=10999&step=1", escape(HEAVY));
    for _ in 0..2 {
        let client = cluster.nodes[0].client();
        let asking = {
            let (client, path) = (client.clone(), path.clone());
            // The node dies before it answers.
            std::thread::spawn(move || client.get(&path).is_err())
        };
        eventually("the query runs", || {
            let active = client.api("/api/v1/status/active_queries")?;
            anyhow::ensure!(active["active"][0]["query"] == HEAVY, "{active}");
            Ok(())
        });
        cluster.kill(0);
        assert!(asking.join().expect("the client does not panic"), "the node was killed while it worked");
        cluster.restart(0);
    }
    let client = cluster.nodes[0].client();
    let refused = client.get(&path).expect("an answer");
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("quarantined"), "{}", refused.body);
    assert_eq!(client.query("vector(1)", now_ms()).expect("others go on").len(), 1);
    let log = std::fs::read_to_string(cluster.nodes[0].log()).expect("the node has a log");
    let entry = log.lines().find(|line| line.contains("is quarantined")).expect("it is in the log");
    assert!(entry.contains("quantile_over_time"), "{entry}");
    let release = format!("/api/v1/admin/queries/release?query={}", escape(HEAVY));
    assert_eq!(client.post(&release, &[], b"").expect("an answer").status, 200);
    let active = client.api("/api/v1/status/active_queries").expect("an answer");
    assert_eq!(active["quarantined"], Value::Array(Vec::new()));
}
