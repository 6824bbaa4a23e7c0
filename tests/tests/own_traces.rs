//! A cluster traces its own requests: across nodes, from the caller's trace to the shards, with the log lines that were
//! said meanwhile; what it writes about itself is no request.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use chaos::client::{Client, Series, encode_write, escape};
use chaos::ledger::now_ms;
use serde_json::{Value, json};
use tests::{Cluster, eventually};

const SHARDS: u16 = 6;
const CALLER: &str = "00000000000000c1";

/// A number for each trace of this test.
fn trace_id(number: u32) -> String {
    format!("5eed0000000000000000000000{number:06x}")
}

fn context(id: &str, is_sampled: bool) -> String {
    format!("00-{id}-{CALLER}-0{}", u8::from(is_sampled))
}

/// The spans of a trace, in the order of its tree.
fn spans(client: &Client, id: &str) -> anyhow::Result<Vec<Value>> {
    let trace = client.api(&format!("/api/v1/traces/{id}"))?;
    let mut spans = trace["spans"].as_array().context("spans")?.clone();
    for span in &mut spans {
        let stream = span["stream"].as_u64().and_then(|at| usize::try_from(at).ok()).context("stream")?;
        let instance = trace["streams"][stream]["resource"]["service.instance.id"].clone();
        span["instance"] = instance;
    }
    Ok(spans)
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["name"] == name).collect()
}

/// A query, its way to the shards, and what they did on each node that leads one.
fn check_query(client: &Client, id: &str, root: &str, text: &str) -> anyhow::Result<()> {
    let spans = spans(client, id)?;
    let [first, ..] = &spans[..] else { anyhow::bail!("no spans") };
    ensure!(first["name"] == root && first["kind"] == "server", "{first}");
    ensure!(first["parentSpanId"] == CALLER && first["orphan"] == true, "{first}");
    ensure!(first["attributes"]["http.response.status_code"] == 200, "{first}");
    let query = named(&spans, "query");
    ensure!(query.len() == 1 && query[0]["parentSpanId"] == first["spanId"], "{spans:?}");
    ensure!(query[0]["attributes"]["db.query.text"] == text, "{query:?}");
    let asked: BTreeSet<&str> =
        named(&spans, "fragments").iter().filter_map(|span| span["spanId"].as_str()).collect();
    ensure!(!asked.is_empty(), "{spans:?}");
    let parts = named(&spans, "fragment");
    let strangers = parts.iter().filter(|part| !asked.contains(part["parentSpanId"].as_str().unwrap_or("")));
    ensure!(strangers.count() == 0, "{spans:?}");
    let of = |key: &dyn Fn(&Value) -> String| parts.iter().map(|part| key(part)).collect::<BTreeSet<_>>();
    let shards = of(&|part| part["attributes"]["pharos.shard"].to_string());
    ensure!(shards.len() == usize::from(SHARDS), "{parts:?}");
    let instances = of(&|part| part["instance"].to_string());
    ensure!(instances.len() == 3, "each node leads some of the shards: {instances:?}");
    Ok(())
}

#[test]
fn a_cluster_traces_its_requests() {
    let arguments =
        ["--set", "telemetry.self_monitoring_tenant=default", "--set", "query.log_slower_than=1ms"];
    let cluster = Cluster::with_arguments(3, SHARDS, &arguments);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    cluster.wait_led_evenly(SHARDS);
    let get = |path: &str, id: &str, is_sampled| {
        let context = context(id, is_sampled);
        let answer = clients[0].get_with(path, &[("traceparent", context.as_str())]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.headers.get("x-pharos-trace-id").cloned()
    };

    // A write, by a caller that samples it.
    let written = trace_id(1);
    let context = context(&written, true);
    let headers = [
        ("traceparent", context.as_str()),
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ];
    let series: Vec<Series> = (0..50)
        .map(|number| Series::new("own", &[("number", &number.to_string())], vec![(now_ms(), 1.0)]))
        .collect();
    let answer = clients[0].post("/api/v1/write", &headers, &encode_write(&series)).unwrap();
    assert!(answer.is_success(), "{}", answer.body);
    assert_eq!(answer.headers.get("x-pharos-trace-id"), Some(&written));

    // Questions in both languages; one unsampled, which turns out to be slow: here that is nearly everything.
    let (promql, sql, slow) = (trace_id(2), trace_id(3), trace_id(4));
    let statement = "SELECT count(*) FROM metrics";
    assert_eq!(get("/api/v1/query?query=count(own)", &promql, true), Some(promql.clone()));
    let path = format!("/api/v1/sql?query={}", escape(statement));
    assert_eq!(get(&path, &sql, true), Some(sql.clone()));
    assert_eq!(get(&path, &slow, false), Some(slow.clone()));

    for client in &clients[1..] {
        eventually("the write is there", || {
            let spans = spans(client, &written)?;
            let names: Vec<&Value> = spans.iter().map(|span| &span["name"]).collect();
            ensure!(names == ["POST /api/v1/write", "receive", "decode", "deliver"], "{names:?}");
            ensure!(spans[1..].iter().all(|span| span["parentSpanId"] == spans[0]["spanId"]), "{spans:?}");
            Ok(())
        });
        eventually("the query is there", || check_query(client, &promql, "GET /api/v1/query", "count(own)"));
        eventually("the statement is there", || check_query(client, &sql, "GET /api/v1/sql", statement));
    }

    // The line about the slow one names its trace.
    eventually("the trace has its line of the log", || {
        let spans = spans(&clients[2], &slow)?;
        ensure!(named(&spans, "query").len() == 1, "{spans:?}");
        let logs = clients[2].api(&format!("/api/v1/traces/{slow}/logs"))?;
        let rows = logs["rows"].as_array().context("rows")?;
        ensure!(rows.iter().any(|row| row.to_string().contains("slow query")), "{logs}");
        Ok(())
    });

    // By now each node has written its metrics, log and traces many times: none of that is a request.
    let found = clients[1]
        .api(&format!("/api/v1/traces/search?q={}", escape("{ kind != server && span:parentID = \"\" }")));
    assert_eq!(found.unwrap()["traces"], json!([]));
    // Probes are none that anybody traces.
    let found = clients[1]
        .api(&format!("/api/v1/traces/search?q={}", escape("{ .http.route =~ \"/-/.*|/metrics\" }")));
    assert_eq!(found.unwrap()["traces"], json!([]));
    let services = clients[1].api("/api/v1/services").unwrap();
    assert!(services.to_string().contains("pharos"), "{services}");
}
