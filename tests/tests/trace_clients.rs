//! Client libraries as people use them trace to one node, each in its own protocol; another one answers exactly what they
//! say that they sent, also after the first was killed.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use chaos::client::{Client, escape};
use serde_json::{Value, json};
use tests::{Cluster, peers};

/// What a client sent: its spans, by trace and id.
struct Sent {
    service: &'static str,
    is_zipkin: bool,
    traces: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Sent {
    /// Of what the client printed: a span a line.
    fn of(service: &'static str, is_zipkin: bool, printed: &str) -> Self {
        let mut traces: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for line in printed.lines() {
            let span: Value = serde_json::from_str(line).expect("a span a line");
            let text = |key: &str| span[key].as_str().expect("an id").to_owned();
            traces.entry(text("traceId")).or_default().insert(text("spanId"), span);
        }
        assert_eq!(traces.len(), 20, "{service}: a client says what it sent: {printed}");
        Self { service, is_zipkin, traces }
    }

    fn check(&self, client: &Client) -> anyhow::Result<()> {
        let query = escape(&format!("{{ resource.service.name = \"{}\" }}", self.service));
        let found = client.api(&format!("/api/v1/traces/search?limit=100&q={query}"))?;
        let found = found["traces"].as_array().context("traces")?.len();
        ensure!(found == self.traces.len(), "{}: {found} traces are found", self.service);
        for (id, spans) in &self.traces {
            let trace = client.api(&format!("/api/v1/traces/{id}"))?;
            let found = trace["spans"].as_array().context("spans")?;
            ensure!(found.len() == spans.len(), "{}: {} spans in {id}", self.service, found.len());
            for span in found {
                let sent = spans.get(span["spanId"].as_str().unwrap_or_default());
                let sent = sent.with_context(|| format!("nobody sent {span}"))?;
                self.check_span(span, sent)?;
            }
        }
        Ok(())
    }

    fn check_span(&self, found: &Value, sent: &Value) -> anyhow::Result<()> {
        let same = |key: &str| {
            ensure!(found[key] == sent[key], "{}: {key}: {found}\nwhere {sent} was sent", self.service);
            Ok(())
        };
        for key in ["parentSpanId", "name", "status", "statusMessage"] {
            same(key)?;
        }
        let events = |of: &Value, key: &str| -> Vec<Value> {
            of["events"].as_array().into_iter().flatten().map(|event| event[key].clone()).collect()
        };
        if self.is_zipkin {
            // Microseconds, and text in place of numbers: what Zipkin's form has no place for is lost before it is sent.
            let ns = |of: &Value| of["startTimeUnixNano"].as_str().and_then(|ns| ns.parse::<i64>().ok());
            // The exporters round, one to the nearest and one down.
            let apart = ns(found).zip(ns(sent)).map(|(found, sent)| found.abs_diff(sent));
            ensure!(apart.is_some_and(|apart| apart < 1000), "{found} for {sent}");
            let code = sent["attributes"]["http.status_code"].as_i64().map(|code| json!(code.to_string()));
            ensure!(
                found["attributes"]["http.status_code"] == code.unwrap_or_default(),
                "{found} for {sent}"
            );
            ensure!(events(found, "timeUnixNano").len() == events(sent, "name").len(), "{found} for {sent}");
            return Ok(());
        }
        for key in ["kind", "startTimeUnixNano", "endTimeUnixNano", "attributes"] {
            same(key)?;
        }
        for key in ["name", "timeUnixNano", "attributes"] {
            ensure!(events(found, key) == events(sent, key), "{found}\nwhere {sent} was sent");
        }
        let links = |of: &Value| -> Vec<Value> {
            let links = of["links"].as_array().into_iter().flatten();
            links.map(|link| json!([link["traceId"], link["attributes"]])).collect()
        };
        ensure!(links(found) == links(sent), "{found}\nwhere {sent} was sent");
        Ok(())
    }
}

#[test]
fn python_sdk_over_grpc_http_and_zipkin() {
    let Some(probe) = peers::python("traces.py") else { return };
    drop(probe);
    let mut cluster = Cluster::start(3, 4);
    let other = cluster.nodes[1].client();
    let (http, grpc) = (cluster.nodes[0].url(), format!("127.0.0.1:{}", cluster.nodes[0].grpc));
    let (exports, spans) = (format!("{http}/v1/traces"), format!("{http}/api/v2/spans"));
    let mut all = Vec::new();
    for (protocol, endpoint, compression, service) in [
        ("grpc", &grpc, "none", "grpc-plain"),
        ("grpc", &grpc, "gzip", "grpc-gzip"),
        ("http", &exports, "none", "http-plain"),
        ("http", &exports, "gzip", "http-gzip"),
        ("zipkin", &spans, "none", "zipkin"),
    ] {
        let python = peers::python("traces.py").expect("it was there");
        let printed = peers::run(python, &[protocol, endpoint, compression, service]);
        let sent = Sent::of(service, protocol == "zipkin", &printed);
        // No waiting: what was confirmed is seen by the next query, wherever it is asked.
        sent.check(&other).expect("another node answers what was confirmed");
        all.push(sent);
    }
    cluster.assert_survives_a_kill(|client| all.iter().try_for_each(|sent| sent.check(client)));
}

#[test]
fn the_javascript_sdk_over_grpc_json_protobuf_and_zipkin() {
    let Some(probe) = peers::node("traces.js") else { return };
    drop(probe);
    let mut cluster = Cluster::start(3, 4);
    let other = cluster.nodes[1].client();
    let http = cluster.nodes[0].url();
    let (exports, spans) = (format!("{http}/v1/traces"), format!("{http}/api/v2/spans"));
    let grpc = format!("http://127.0.0.1:{}", cluster.nodes[0].grpc);
    let mut all = Vec::new();
    for (protocol, url, service) in [
        ("grpc", &grpc, "web-grpc"),
        ("http", &exports, "web-json"),
        ("proto", &exports, "web-proto"),
        ("zipkin", &spans, "web-zipkin"),
    ] {
        let node = peers::node("traces.js").expect("it was there");
        let sent = Sent::of(service, protocol == "zipkin", &peers::run(node, &[protocol, url, service]));
        sent.check(&other).expect("another node answers what was confirmed");
        all.push(sent);
    }
    cluster.assert_survives_a_kill(|client| all.iter().try_for_each(|sent| sent.check(client)));
}
