//! Metrics of spans against a batch computation over the same spans: equal to the count, whatever was sent again, whichever
//! nodes were killed meanwhile, and also where a node got its state from another one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use chaos::client::{Client, seconds};
use chaos::ledger::now_ms;
use serde_json::{Value, json};
use tests::{Cluster, eventually};

/// Upper bounds of buckets in milliseconds, and as labels give them in seconds.
const SPAN_BOUNDS: [(u64, &str); 12] = [
    (2, "0.002"),
    (4, "0.004"),
    (8, "0.008"),
    (16, "0.016"),
    (32, "0.032"),
    (64, "0.064"),
    (128, "0.128"),
    (256, "0.256"),
    (512, "0.512"),
    (1020, "1.02"),
    (2050, "2.05"),
    (4100, "4.1"),
];
const CALL_BOUNDS: [(u64, &str); 8] = [
    (100, "0.1"),
    (200, "0.2"),
    (400, "0.4"),
    (800, "0.8"),
    (1600, "1.6"),
    (3200, "3.2"),
    (6400, "6.4"),
    (12_800, "12.8"),
];
const MS: u64 = 1_000_000;

#[derive(Clone)]
struct Span {
    trace: u64,
    id: u64,
    parent: u64,
    service: &'static str,
    name: String,
    /// Number in OTLP.
    kind: u8,
    failed: bool,
    took_ns: u64,
    database: Option<&'static str>,
}

/// A checkout: a web shop pays at a bank, which writes into its database, and puts a mail into a queue. Durations lie on
/// bounds, beside them and beyond; some of what is called sends no spans.
fn checkout(trace: u64) -> Vec<Span> {
    let bounds = SPAN_BOUNDS.iter().chain(&CALL_BOUNDS).map(|(ms, _)| ms * MS);
    let durations: Vec<u64> = bounds.flat_map(|at| [at - 1, at, at + 1]).chain([0, 60_000 * MS]).collect();
    let took = |nth: u64| durations[((trace * 7 + nth * 13) % durations.len() as u64) as usize];
    let span = |nth: u64, parent: u64, service, name: &str, kind, failed| Span {
        trace,
        id: trace * 16 + nth,
        parent: if parent == 0 { 0 } else { trace * 16 + parent },
        service,
        name: name.to_owned(),
        kind,
        failed,
        took_ns: took(nth),
        database: None,
    };
    let mut spans = vec![
        span(1, 0, "web", &format!("GET /cart/{}", trace % 5), 2, trace.is_multiple_of(11)),
        span(2, 1, "web", "render", 1, false),
        span(3, 1, "web", "charge", 3, trace.is_multiple_of(6)),
        Span { database: Some("accounts"), ..span(5, 4, "bank", "INSERT", 3, trace.is_multiple_of(9)) },
        span(6, 1, "web", "mail", 4, false),
        span(7, 6, "mailer", "mail", 5, trace.is_multiple_of(4)),
    ];
    if !trace.is_multiple_of(3) {
        spans.push(span(4, 3, "bank", "charge", 2, trace.is_multiple_of(2)));
    }
    spans
}

/// Export requests: each service sends what it has of some traces, so that the halves of a call come apart.
fn requests(spans: &[Span], now_ns: u64) -> Vec<Vec<u8>> {
    let mut groups: BTreeMap<(u64, &str), Vec<Value>> = BTreeMap::new();
    for span in spans {
        let mut attributes = Vec::new();
        if let Some(name) = span.database {
            attributes.push(json!({"key": "db.system.name", "value": {"stringValue": "postgresql"}}));
            attributes.push(json!({"key": "db.namespace", "value": {"stringValue": name}}));
        }
        let parent = if span.parent == 0 { String::new() } else { format!("{:016x}", span.parent) };
        groups.entry((span.trace / 20, span.service)).or_default().push(json!({
            "traceId": format!("{:032x}", span.trace), "spanId": format!("{:016x}", span.id), "parentSpanId": parent,
            "name": span.name, "kind": span.kind, "status": {"code": if span.failed { 2 } else { 0 }},
            "startTimeUnixNano": now_ns.to_string(), "endTimeUnixNano": (now_ns + span.took_ns).to_string(),
            "attributes": attributes,
        }));
    }
    let request = |service: &str, spans: Vec<Value>| {
        let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": service}}]});
        json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})
            .to_string()
            .into_bytes()
    };
    groups.into_iter().map(|((_, service), spans)| request(service, spans)).collect()
}

/// Series by labels, as the API writes them.
#[derive(Default)]
struct Expected(BTreeMap<String, f64>);

impl Expected {
    fn add(&mut self, name: &str, labels: &Value, value: f64) {
        let mut labels = labels.clone();
        labels["__name__"] = json!(name);
        *self.0.entry(labels.to_string()).or_default() += value;
    }

    fn histogram(&mut self, name: &str, labels: &Value, bounds: &[(u64, &str)], took_ns: &[u64]) {
        let bounds = bounds.iter().map(|(ms, le)| (ms * MS, *le)).chain([(u64::MAX, "+Inf")]);
        for (bound, le) in bounds {
            let mut labels = labels.clone();
            labels["le"] = json!(le);
            let below = took_ns.iter().filter(|ns| **ns <= bound).count();
            self.add(&format!("{name}_bucket"), &labels, below as f64);
        }
        self.add(&format!("{name}_count"), labels, took_ns.len() as f64);
        self.add(&format!("{name}_sum"), labels, took_ns.iter().sum::<u64>() as f64 / 1e9);
    }

    /// All at once from all spans.
    fn of(spans: &[Span]) -> BTreeMap<String, f64> {
        let mut expected = Self::default();
        let mut operations: BTreeMap<String, (Value, Vec<u64>)> = BTreeMap::new();
        // Calls by their edge: client's and server's durations, and how many failed.
        let mut edges: BTreeMap<String, (Value, Vec<u64>, Vec<u64>, usize)> = BTreeMap::new();
        let children: BTreeMap<u64, &Span> =
            spans.iter().filter(|span| matches!(span.kind, 2 | 5)).map(|span| (span.parent, span)).collect();
        for span in spans {
            let kind = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
                [usize::from(span.kind)];
            let labels = json!({
                "service": span.service, "span_name": span.name, "span_kind": format!("SPAN_KIND_{kind}"),
                "status_code": if span.failed { "STATUS_CODE_ERROR" } else { "STATUS_CODE_UNSET" },
            });
            let of_labels = operations.entry(labels.to_string()).or_insert((labels, Vec::new()));
            of_labels.1.push(span.took_ns);
            let called = match span.database {
                Some(name) => Some((name, span)),
                None if matches!(span.kind, 3 | 4) => {
                    children.get(&span.id).map(|child| (child.service, *child))
                }
                None => None,
            };
            let Some((server, other)) = called else { continue };
            let mut labels = json!({"client": span.service, "server": server});
            if span.database.is_some() {
                labels["connection_type"] = json!("database");
            } else if span.kind == 4 {
                labels["connection_type"] = json!("messaging_system");
            }
            let edge = edges.entry(labels.to_string()).or_insert((labels, Vec::new(), Vec::new(), 0));
            edge.1.push(span.took_ns);
            edge.2.push(other.took_ns);
            edge.3 += usize::from(span.failed || other.failed);
        }
        for (labels, took_ns) in operations.values() {
            expected.add("traces_spanmetrics_calls_total", labels, took_ns.len() as f64);
            expected.histogram("traces_spanmetrics_latency", labels, &SPAN_BOUNDS, took_ns);
        }
        for (labels, client, server, failed) in edges.values() {
            expected.add("traces_service_graph_request_total", labels, client.len() as f64);
            expected.add("traces_service_graph_request_failed_total", labels, *failed as f64);
            expected.histogram("traces_service_graph_request_client_seconds", labels, &CALL_BOUNDS, client);
            expected.histogram("traces_service_graph_request_server_seconds", labels, &CALL_BOUNDS, server);
        }
        expected.0
    }
}

/// Sends each request until it is acknowledged, and once more through another node, as a client does that did not hear the
/// answer. Meanwhile a node is killed, and started again.
fn send(cluster: &mut Cluster, requests: &[Vec<u8>], victim: usize) {
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let deliver = |nth: usize, node: usize| {
        let mut node = node;
        eventually("spans are acknowledged", || {
            node += 1;
            let answer = clients[node % 3].post(
                "/v1/traces",
                &[("content-type", "application/json")],
                &requests[nth],
            )?;
            ensure!(answer.is_success(), "{} {}", answer.status, answer.body);
            Ok(())
        });
    };
    let wait = |count: usize| {
        eventually("requests are acknowledged", || {
            let done = done.load(Ordering::SeqCst);
            ensure!(done >= count, "{done} of {count}");
            Ok(())
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::SeqCst);
                    if nth >= requests.len() {
                        break;
                    }
                    // Services are not in step: the second half of a call may be there before the first.
                    let nth = nth * 29 % requests.len();
                    deliver(nth, nth);
                    done.fetch_add(1, Ordering::SeqCst);
                    deliver(nth, nth + 1);
                }
            });
        }
        wait(requests.len() / 4);
        cluster.kill(victim);
        wait(requests.len() / 2);
        cluster.restart(victim);
    });
}

/// Waits until metrics that were written after now are those of the spans, on a node.
fn check(client: &Client, spans: &[Span]) {
    let (since, expected) = (now_ms(), Expected::of(spans));
    let all = "{__name__=~\"traces_(spanmetrics|service_graph)_.+\"}";
    eventually("metrics are those of the spans", || {
        let now = now_ms();
        let written = client.query("min(timestamp(traces_spanmetrics_calls_total)) * 1000", now)?;
        ensure!(written.values().any(|at| *at >= since as f64), "last written at {written:?}");
        let found = client.query(all, now)?;
        for (labels, value) in &expected {
            ensure!(found.get(labels) == Some(value), "{labels} is {:?} and not {value}", found.get(labels));
        }
        ensure!(found.len() == expected.len(), "{} series and not {}", found.len(), expected.len());
        Ok(())
    });
    // Each exemplar of a latency is the trace of a span that took so long.
    let range = format!("start={}&end={}", seconds(since - 3_600_000), seconds(now_ms()));
    let path = format!("/api/v1/query_exemplars?query=traces_spanmetrics_latency_bucket&{range}");
    let shown = client.api(&path).expect("exemplars");
    let all = shown.as_array().expect("a list").iter().flat_map(|series| series["exemplars"].as_array());
    let all: Vec<&Value> = all.flatten().collect();
    assert!(!all.is_empty(), "{shown}");
    for exemplar in all {
        let (trace, id) = (&exemplar["labels"]["trace_id"], &exemplar["labels"]["span_id"]);
        let is_it =
            |span: &&Span| *trace == format!("{:032x}", span.trace) && *id == format!("{:016x}", span.id);
        let span = spans.iter().find(is_it).unwrap_or_else(|| panic!("{exemplar} is of no span"));
        let value: f64 = exemplar["value"].as_str().and_then(|text| text.parse().ok()).expect("a number");
        assert_eq!(value, span.took_ns as f64 / 1e9, "{exemplar}");
    }
    for name in ["traces_spanmetrics_calls_total", "traces_service_graph_request_total"] {
        let resets = client.query(&format!("sum(resets({name}[1h]))"), now_ms()).expect("an answer");
        assert_eq!(resets.into_values().collect::<Vec<f64>>(), [0.0], "{name} never goes back");
    }
}

#[test]
fn metrics_of_spans_are_those_of_a_batch_computation_after_kills_and_retries() {
    let mut cluster = Cluster::start(3, 4);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let now_ns = now_ms().unsigned_abs() * MS;
    let spans: Vec<Span> = (1..=600).flat_map(checkout).collect();
    let (first, second) = spans.split_at(spans.partition_point(|span| span.trace < 400));
    let sent = requests(first, now_ns);
    let (_, leader) = cluster.busiest_shard().expect("a busiest shard");
    send(&mut cluster, &sent, leader);
    for client in &clients {
        check(client, first);
    }
    // A node without its disk gets the counters, and the calls that wait, from the others; then it has to lead.
    cluster.assert_equal_digests();
    let old_id = eventually("a running node says its id", || cluster.nodes[2].id());
    cluster.kill(2);
    cluster.nodes[2].wipe().expect("its directory is removed");
    cluster.restart(2);
    eventually("the node is a new member", || {
        ensure!(cluster.nodes[2].id()? != old_id, "still {old_id}");
        Ok(())
    });
    cluster.wait_replicated(3).expect("it is given its replicas");
    let more = requests(second, now_ns);
    send(&mut cluster, &more, 0);
    // All of it once more: nothing is new.
    send(&mut cluster, &[sent, more].concat(), 1);
    for client in &clients {
        check(client, &spans);
    }
}
