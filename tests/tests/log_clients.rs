//! Client libraries as people use them log to one node, each in its own protocol; the others answer exactly what they say
//! that they sent, also after the first was killed, and so does that one when it is back.

use anyhow::{Context, ensure};
use chaos::client::{Client, escape};
use serde_json::Value;
use tests::{Cluster, peers};

/// Rows in one order, without what only the store knows.
fn comparable(mut rows: Vec<Value>) -> Vec<Value> {
    for row in &mut rows {
        if let Some(row) = row.as_object_mut() {
            row.remove("id");
            row.remove("time");
        }
    }
    rows.sort_by_key(|row| (row["timeUnixNano"].to_string(), row["body"].to_string()));
    rows
}

/// What a client sent, and the search for it.
struct Sent {
    search: String,
    rows: Vec<Value>,
}

impl Sent {
    /// Of what the client printed: a row a line.
    fn of(search: String, printed: &str) -> Self {
        let rows: Vec<Value> =
            printed.lines().map(|line| serde_json::from_str(line).expect("a row a line")).collect();
        assert!(rows.len() >= 60, "{search}: a client says what it sent: {printed}");
        Self { search, rows: comparable(rows) }
    }

    fn check(&self, client: &Client) -> anyhow::Result<()> {
        let found = client.api(&format!("/api/v1/logs/query?limit=10000&query={}", escape(&self.search)))?;
        let found = comparable(found["rows"].as_array().context("rows")?.clone());
        for (found, sent) in found.iter().zip(&self.rows) {
            ensure!(found == sent, "{}: found {found}\nwhere {sent} was sent", self.search);
        }
        ensure!(found.len() == self.rows.len(), "{}: {} of {}", self.search, found.len(), self.rows.len());
        Ok(())
    }
}

/// Kills the node that was written to and asks all of them for everything.
fn kill_and_check(mut cluster: Cluster, all: &[Sent]) {
    cluster.assert_survives_a_kill(|client| all.iter().try_for_each(|sent| sent.check(client)));
    // Sealed into segments, they are the same.
    for sent in all {
        sent.check(&cluster.nodes[1].client()).expect("segments hold what the memory held");
    }
}

#[test]
fn python_libraries_of_three_protocols() {
    let Some(probe) = peers::python("logs.py") else { return };
    drop(probe);
    let cluster = Cluster::start(3, 4);
    let other = cluster.nodes[1].client();
    let (http, grpc) = (cluster.nodes[0].url(), format!("127.0.0.1:{}", cluster.nodes[0].grpc));
    let push = format!("{http}/loki/api/v1/push");
    let exports = format!("{http}/v1/logs");
    let runs: [(&str, &str, &[&str]); 6] = [
        ("logs.py", "service.name:grpc-plain", &["grpc", &grpc, "none", "grpc-plain"]),
        ("logs.py", "service.name:grpc-gzip", &["grpc", &grpc, "gzip", "grpc-gzip"]),
        ("logs.py", "service.name:http-plain", &["http", &exports, "none", "http-plain"]),
        ("logs.py", "service.name:http-gzip", &["http", &exports, "gzip", "http-gzip"]),
        ("bulk.py", "index:logs-shop", &[&http, "logs-shop"]),
        ("loki.py", "application:shop", &[&push, "shop"]),
    ];
    let mut all = Vec::new();
    for (script, search, arguments) in runs {
        let python = peers::python(script).expect("it was there");
        let sent = Sent::of(search.to_owned(), &peers::run(python, arguments));
        // No waiting: what was confirmed is seen by the next query, wherever it is asked.
        sent.check(&other).expect("another node answers what was confirmed");
        all.push(sent);
    }
    kill_and_check(cluster, &all);
}

#[test]
fn the_javascript_sdk_over_grpc_json_and_protobuf() {
    let Some(probe) = peers::node("logs.js") else { return };
    drop(probe);
    let cluster = Cluster::start(3, 4);
    let other = cluster.nodes[1].client();
    let exports = format!("{}/v1/logs", cluster.nodes[0].url());
    let grpc = format!("http://127.0.0.1:{}", cluster.nodes[0].grpc);
    let mut all = Vec::new();
    for (protocol, url) in [("grpc", &grpc), ("http", &exports), ("proto", &exports)] {
        let node = peers::node("logs.js").expect("it was there");
        let service = format!("web-{protocol}");
        let printed = peers::run(node, &[protocol, url, &service]);
        let sent = Sent::of(format!("service.name:{service}"), &printed);
        sent.check(&other).expect("another node answers what was confirmed");
        all.push(sent);
    }
    kill_and_check(cluster, &all);
}
