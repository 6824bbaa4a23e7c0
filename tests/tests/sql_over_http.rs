//! The SQL cases against three real nodes, over HTTP: asked of the nodes in turn, before and after a flush, and while the
//! leader of some shards is killed; and what only the surface has, formats, parameters, the list of queries, the command.
//! DuckDB is asked the same of the same data.

use std::process::Command;

use chaos::client::{Client, escape};
use serde_json::{Value, json};
use tests::Cluster;
use tests::remote_write;

#[path = "../../sql/tests/support/cases.rs"]
mod cases;

use cases::{Expected, Subject, cases, data, run};

/// Nodes that are asked in turn. With `retry`, what is refused for reasons that pass is asked again.
struct Nodes {
    clients: Vec<Client>,
    asked: usize,
    retry: bool,
}

fn post(client: &Client, fields: &[(&str, &str)]) -> anyhow::Result<chaos::client::Answer> {
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    client.post("/api/v1/sql", &headers, body.join("&").as_bytes())
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn rows(answer: &Value) -> Vec<String> {
    let row = |row: &Value| row.as_array().expect("a row").iter().map(field).collect::<Vec<_>>().join("|");
    answer["data"]["rows"].as_array().expect("rows").iter().map(row).collect()
}

impl Nodes {
    fn of(cluster: &Cluster) -> Self {
        Self { clients: cluster.nodes.iter().map(|node| node.client()).collect(), asked: 0, retry: false }
    }

    fn once(&mut self, statement: &str) -> Option<Result<Vec<String>, String>> {
        self.asked += 1;
        let client = &self.clients[self.asked % self.clients.len()];
        let answer = match post(client, &[("query", statement)]) {
            Ok(answer) => answer,
            Err(_) if self.retry => return None,
            Err(error) => return Some(Err(format!("{error:#}"))),
        };
        let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        match answer.status {
            200 => Some(Ok(rows(&json))),
            429 | 503 if self.retry => None,
            400 | 422 => Some(Err(json["error"].as_str().unwrap_or_default().to_owned())),
            status => panic!("{statement}: {status} {}", answer.body),
        }
    }
}

impl Subject for Nodes {
    fn ask(&mut self, statement: &str) -> Result<Vec<String>, String> {
        tests::eventually("an answer", || self.once(statement).ok_or_else(|| anyhow::anyhow!("{statement}")))
    }
}

fn load(client: &Client) {
    remote_write::load(client, data().into_iter().map(|loaded| (loaded.labels, loaded.samples)));
}

#[test]
fn three_nodes_answer_all_cases() {
    let quiet = ["--set", "telemetry.self_monitoring=false", "--retention", "unlimited"];
    let mut cluster = Cluster::with_arguments(3, 8, &quiet);
    let mut nodes = Nodes::of(&cluster);
    load(&nodes.clients[0]);
    run(&mut nodes, &cases());

    // The system's own tables.
    assert_eq!(nodes.ask("select count(*) from system.nodes where reachable").expect("nodes"), ["3"]);
    assert_eq!(
        nodes.ask("select count(*) from system.shards where leader is not null").expect("shards"),
        ["8"]
    );
    assert_eq!(nodes.ask("select count(*) from system.replicas").expect("replicas"), ["24"]);
    assert_eq!(
        nodes
            .ask("select series from system.series_cardinality where label = '__name__' and value = 'up'")
            .expect("series"),
        ["5"]
    );
    assert_eq!(
        nodes.ask("select query from system.queries where kind = 'sql'").expect("queries"),
        ["select query from system.queries where kind = 'sql'"]
    );
    let flushed = nodes.clients[0].post("/api/v1/admin/flush", &[], b"").expect("an answer");
    assert!(flushed.is_success(), "{}", flushed.body);
    let sums = nodes.ask("select count(*) > 0, sum(series) from system.segments").expect("segments");
    assert_eq!(sums, ["true|33"]);
    // Segments that lie outside of the time are not opened.
    let plan =
        nodes.ask("explain analyze select count(*) from metrics where time < '2020-01-01'").expect("a plan");
    assert!(plan.join("\n").contains("pruned 1 of 1 segments"), "{plan:?}");

    // What is counted is not read once it lies in segments.
    let plan = nodes.ask("explain analyze select count(*) from metrics").expect("a plan").join("\n");
    assert!(plan.contains("samples unread") && plan.contains("read 0 samples"), "{plan}");
    assert!(!plan.split("read ").skip(1).any(|rest| !rest.starts_with("0 samples")), "{plan}");

    formats(&nodes.clients[1]);
    long_answers(&nodes.clients[1]);
    logs_are_a_table(&mut nodes);
    command(&cluster);
    like_duckdb(&nodes.clients[2]);

    // Answers stay right, and come, while leaders change.
    nodes.retry = true;
    let leader = leader_of_most(&nodes.clients[0]);
    nodes.clients.remove(leader);
    let reads: Vec<_> =
        cases().into_iter().filter(|case| matches!(case.expected, Expected::Rows { .. })).collect();
    cluster.kill(leader);
    run(&mut nodes, &reads[..60]);
    cluster.restart(leader);
    run(&mut nodes, &reads[60..]);

    // Last, for metrics are made of spans, of which the cases do not know.
    spans_are_a_table(&mut nodes);
}

/// Index of the node that leads most shards.
fn leader_of_most(client: &Client) -> usize {
    let status: Value =
        serde_json::from_str(&client.get("/cluster/status").expect("a status").body).expect("JSON");
    let leaders =
        status["shards"].as_array().expect("shards").iter().filter_map(|shard| shard["leader"].as_u64());
    let mut counts = [0; 3];
    leaders.for_each(|leader| counts[leader as usize - 1] += 1);
    (0..3).max_by_key(|at| counts[*at]).expect("three nodes")
}

/// Another engine comes to the same answers over the same data.
fn like_duckdb(client: &Client) {
    if let Some(python) = tests::peers::python("duckdb_sql.py") {
        let file = cases::directory().join("cases.txt");
        tests::peers::run(python, &[file.to_str().expect("a path is text"), client.base()]);
    }
}

fn formats(client: &Client) {
    let statement = "select tier, value from memory_limit_bytes order by tier";
    let ask = |format: &str| post(client, &[("query", statement), ("format", format)]).expect("an answer");
    assert_eq!(ask("csv").body, "tier,value\ngold,4000000000\nsilver,2500000000\n");
    assert_eq!(
        ask("ndjson").body,
        "{\"tier\":\"gold\",\"value\":4000000000}\n{\"tier\":\"silver\",\"value\":2500000000}\n"
    );
    let json: Value = serde_json::from_str(&ask("json").body).expect("JSON");
    assert_eq!(
        json["data"]["columns"],
        json!([{"name": "tier", "type": "text"}, {"name": "value", "type": "double"}])
    );
    assert_eq!(ask("xml").status, 400);
    let get =
        client.get(&format!("/api/v1/sql?format=csv&query={}", escape("select 1 as n"))).expect("an answer");
    assert_eq!((get.status, get.body.as_str()), (200, "n\n1\n"));
    let bound = |params: &str| {
        let text = "select count(*) from up where instance = $1 and value >= $2";
        post(client, &[("query", text), ("params", params), ("format", "csv")]).expect("an answer")
    };
    assert_eq!(bound("[\"d:9090\", 1]").body, "count(*)\n20\n");
    assert_eq!(bound("[\"d:9090\"]").status, 400);
    assert_eq!(bound("[[1], 2]").status, 400);
    assert_eq!(post(client, &[("query", "select 1"), ("timeout", "soon")]).expect("an answer").status, 400);
    let slow = "select count(*) from generate_series(1, 100000000000)";
    let slow = post(client, &[("query", slow), ("timeout", "200ms")]).expect("an answer");
    assert_eq!(slow.status, 503, "{}", slow.body);
}

/// Answers of several pieces arrive whole; where one fails on its way, the client is not left to think that it is whole.
fn long_answers(client: &Client) {
    let ask = |statement: &str, format: &str| post(client, &[("query", statement), ("format", format)]);
    let (count, statement) = (200_000, "select value as n from generate_series(1, 200000)");
    let json: Value = serde_json::from_str(&ask(statement, "json").expect("an answer").body).expect("JSON");
    let rows = json["data"]["rows"].as_array().expect("rows");
    assert_eq!((rows.len(), &rows[count - 1]), (count, &json!([count])));
    let lines = |format: &str| {
        let body = ask(statement, format).expect("an answer").body;
        body.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines("csv").len(), count + 1);
    assert_eq!(lines("ndjson").last().map(String::as_str), Some("{\"n\":200000}"));
    let fails_at = |row: usize, of: usize| {
        format!("select 1 / (value - {row}) as n, repeat('x', 10) from generate_series(1, {of})")
    };
    // Rows come in parts side by side: of a short answer all are held back until the last has come.
    let early = ask(&fails_at(1, 1_000), "ndjson").expect("an answer");
    assert!(early.status >= 400 && early.body.contains("ivide by zero"), "{} {}", early.status, early.body);
    for format in ["json", "ndjson", "csv"] {
        let late = ask(&fails_at(399_000, 400_000), format);
        assert!(late.is_err(), "{format}: a broken answer looks like a whole one");
    }
}

/// Log records by time, with what they have in common with samples: joins, groups, limits.
fn logs_are_a_table(nodes: &mut Nodes) {
    const RECORDS: u64 = 1_200;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let begin = now.as_nanos() as u64 - 3_600_000_000_000;
    let at = |n: u64| begin + n * 1_000_000_007;
    let record = |n: u64| {
        let mut attributes = vec![json!({"key": "n", "value": {"intValue": n.to_string()}})];
        attributes.push(
            json!({"key": "tier", "value": {"stringValue": if n.is_multiple_of(2) { "gold" } else { "silver" }}}),
        );
        json!({
            "timeUnixNano": at(n).to_string(),
            "severityNumber": if n.is_multiple_of(10) { 17 } else { 9 },
            "severityText": if n.is_multiple_of(10) { "ERROR" } else { "INFO" },
            "body": {"stringValue": format!("order {n} took {}ms", n % 97)},
            "attributes": attributes,
        })
    };
    // Several requests, so that several shards have some.
    for part in 0..6 {
        let records: Vec<Value> = (0..RECORDS).filter(|n| n % 6 == part).map(record).collect();
        let service = if part == 0 { "checkout" } else { "cart" };
        let body = json!({"resourceLogs": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeLogs": [{"scope": {"name": "shop"}, "logRecords": records}],
        }]});
        let sent = nodes.clients[0].post(
            "/v1/logs",
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        );
        assert_eq!(sent.expect("an answer").status, 200);
    }
    let mut check = |statement: &str, expected: &[&str]| {
        let found = nodes.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert_eq!(found, expected, "{statement}");
    };
    check(
        "select service, severity, severity_text, scope, body, attributes['n'], resource['service.name'], trace_id \
         from logs order by time limit 2",
        &[
            "checkout|17|ERROR|shop|order 0 took 0ms|0|checkout|NULL",
            "cart|9|INFO|shop|order 1 took 1ms|1|cart|NULL",
        ],
    );
    check(
        "select body from logs order by time desc limit 2",
        &["order 1199 took 35ms", "order 1198 took 34ms"],
    );
    check(
        "select service, count(*), count(distinct body) from logs group by service order by service",
        &["cart|1000|1000", "checkout|200|200"],
    );
    check("select count(*) from logs where severity >= 17 and service = 'checkout'", &["40"]);
    check("select count(*) from logs where body like '%took 35ms'", &["13"]);
    check("select count(*) from logs where body ~ 'order 1[0-9]{3} '", &["200"]);
    check(
        "select attributes['n'] from logs where attributes['n'] = '77' and severity_text = 'INFO'",
        &["77"],
    );
    // Time is exact to the nanosecond.
    let (from, to) = (at(10), at(20));
    let between = format!("time > to_timestamp_nanos({from}) and time <= to_timestamp_nanos({to})");
    check(&format!("select count(*), min(attributes['n']) from logs where {between}"), &["10|11"]);
    check(
        "select m.tier, count(*) from memory_limit_bytes m join logs l on l.attributes['tier'] = m.tier \
         group by m.tier order by m.tier",
        &["gold|600", "silver|600"],
    );
    let mut plan = |statement: &str| nodes.ask(&format!("explain {statement}")).expect("a plan").join("\n");
    let newest = plan("select body from logs where time > '2020-01-01' order by time desc limit 5");
    assert!(newest.contains("newest first, limit=5") && !newest.contains("SortExec"), "{newest}");
    let of_service = plan("select body from logs where service = 'cart'");
    assert!(of_service.contains("ResourceAttribute(\"service.name\"), Equals(\"cart\")"), "{of_service}");
    let error = nodes.ask("select nothing from logs").expect_err("no such column");
    assert!(error.contains("nothing"), "{error}");
}

/// Traces of three spans that are written, and by how much the events of some come behind them.
const TRACES: u64 = 200;
const LATE_NS: u64 = 600_000_000_000;

/// Spans by their start, with what tells them from log records; their events; and traces in short.
fn spans_are_a_table(nodes: &mut Nodes) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let begin = now.as_nanos() as u64 - 1_800_000_000_000;
    let id = |trace: u64, span: u64| format!("{:016x}", trace * 10 + span + 1);
    let span = |trace: u64, number: u64| {
        let start = begin + trace * 1_000_000_007 + number * 1_000;
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let parent = if number == 0 { String::new() } else { id(trace, 0) };
        let event = |time: u64, name: &str| json!({"timeUnixNano": time.to_string(), "name": name, "attributes": [text("by", "me")]});
        let events = match number {
            // Long after the span.
            0 if trace.is_multiple_of(50) => json!([event(start, "begun"), event(start + LATE_NS, "late")]),
            0 => json!([event(start, "begun")]),
            _ => json!([]),
        };
        json!({
            "traceId": format!("{:032x}", trace + 1),
            "spanId": id(trace, number),
            "parentSpanId": parent,
            "name": if number == 0 { "GET /orders" } else { "SELECT orders" },
            "kind": if number == 0 { 2 } else { 3 },
            "startTimeUnixNano": start.to_string(),
            "endTimeUnixNano": (start + (trace + 1) * 1_000_000).to_string(),
            "attributes": [text("order", &trace.to_string())],
            "events": events,
            "status": {"code": if trace.is_multiple_of(20) && number == 0 { 2 } else { 0 }},
        })
    };
    let spans: Vec<Value> =
        (0..TRACES).flat_map(|trace| (0..3).map(move |n| (trace, n))).map(|(t, n)| span(t, n)).collect();
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "orders"}}]},
        "scopeSpans": [{"scope": {"name": "shop"}, "spans": spans}],
    }]});
    let json = [("Content-Type", "application/json")];
    let sent = nodes.clients[0].post("/v1/traces", &json, body.to_string().as_bytes());
    assert_eq!(sent.expect("an answer").status, 200);
    let mut check = |statement: &str, expected: &[&str]| {
        let found = nodes.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert_eq!(found, expected, "{statement}");
    };
    check(
        "select service, name, kind, status, duration_ns, trace_id, span_id, parent_id, attributes['order'], scope \
         from spans order by time, span_id limit 2",
        &[
            "orders|GET /orders|server|error|1000000|00000000000000000000000000000001|0000000000000001|NULL|0|shop",
            "orders|SELECT orders|client|unset|1000000|00000000000000000000000000000001|0000000000000002|\
             0000000000000001|0|shop",
        ],
    );
    check("select count(*), count(distinct trace_id), count(events) from spans", &["600|200|200"]);
    check("select count(*) from spans where status = 'error'", &["10"]);
    check("select count(*) from spans where kind = 'client' and duration_ns > 150000000", &["100"]);
    check("select count(*) from spans where parent_id = '0000000000000001'", &["2"]);
    check(
        "select name, count(*), max(duration_ns) from spans group by name order by name",
        &["GET /orders|200|200000000", "SELECT orders|400|200000000"],
    );
    check(
        "select events like '[{\"time_ns\":%,\"name\":\"begun\",\"attributes\":{\"by\":\"me\"}}]' from spans \
         where trace_id = '00000000000000000000000000000003' and kind = 'server'",
        &["true"],
    );
    let plan = nodes.ask("explain select name from spans where status = 'error' and kind = 'server'");
    let plan = plan.expect("a plan").join("\n");
    assert!(
        plan.contains("table=spans") && plan.contains("SpanStatus") && plan.contains("SpanKind"),
        "{plan}"
    );
    events_are_a_table(nodes, begin);
    traces_are_a_table(nodes, begin);
}

fn events_are_a_table(nodes: &mut Nodes, begin: u64) {
    let mut check = |statement: &str, expected: &[&str]| {
        let found = nodes.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert_eq!(found, expected, "{statement}");
    };
    check(
        "select name, service, span_name, time = span_time, kind, trace_id, span_id, attributes['by'], \
         resource['service.name'] from span_events order by span_time, time limit 2",
        &[
            "begun|orders|GET /orders|true|server|00000000000000000000000000000001|0000000000000001|me|orders",
            "late|orders|GET /orders|false|server|00000000000000000000000000000001|0000000000000001|me|orders",
        ],
    );
    check("select count(*), count(distinct span_id) from span_events", &["204|200"]);
    // Where an event lies says nothing of where its span is.
    let late = begin + LATE_NS;
    check(
        &format!("select count(*), min(name) from span_events where time >= to_timestamp_nanos({late})"),
        &["4|late"],
    );
    check(
        &format!(
            "select count(*) from span_events where time < to_timestamp_nanos({late}) \
             and span_time <= to_timestamp_nanos({begin}) and name = 'begun'"
        ),
        &["1"],
    );
    check("select count(*) from span_events where status = 'error'", &["12"]);
    check("select span_id from span_events order by span_time desc limit 1", &["00000000000007c7"]);
    check("select count(*) from (select name from span_events limit 3)", &["3"]);
    let plan = nodes.ask("explain select name from span_events where name = 'late' and service = 'orders'");
    let plan = plan.expect("a plan").join("\n");
    assert!(plan.contains("table=span_events") && plan.contains("Field(Events, Exists)"), "{plan}");
    assert!(plan.contains("Equals(\"orders\")") && !plan.contains("Equals(\"late\")"), "{plan}");
}

fn traces_are_a_table(nodes: &mut Nodes, begin: u64) {
    let orphan = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
        "traceId": format!("{:032x}", 0xffff), "spanId": format!("{:016x}", 0xffff), "name": "lost",
        "parentSpanId": format!("{:016x}", 0xfffe),
        "startTimeUnixNano": (begin - 5).to_string(), "endTimeUnixNano": begin.to_string(),
    }]}]}]});
    let json = [("Content-Type", "application/json")];
    let sent = nodes.clients[0].post("/v1/traces", &json, orphan.to_string().as_bytes());
    assert_eq!(sent.expect("an answer").status, 200);
    let mut check = |statement: &str, expected: &[&str]| {
        let found = nodes.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert_eq!(found, expected, "{statement}");
    };
    check(
        "select trace_id, duration_ns, root_service, root_name, span_count, error_count, services from traces \
         order by time limit 2",
        &[
            "0000000000000000000000000000ffff|5|NULL|NULL|1|0|[]",
            "00000000000000000000000000000001|1002000|orders|GET /orders|3|1|[\"orders\"]",
        ],
    );
    check("select count(*), sum(span_count), sum(error_count) from traces", &["201|601|10"]);
    // A trace is in the range in which it begins, and then whole.
    let at = |trace: u64| begin + trace * 1_000_000_007;
    let between = |from: u64, to: u64| {
        format!(
            "select count(*), sum(span_count) from traces \
             where time >= to_timestamp_nanos({from}) and time <= to_timestamp_nanos({to})"
        )
    };
    check(&between(at(10), at(20)), &["11|33"]);
    check(&between(at(10) + 1, at(20) - 1), &["9|27"]);
    check("select duration_ns from traces order by time desc limit 2", &["200002000", "199002000"]);
    check("select duration_ns from traces where root_name = 'GET /orders' limit 1", &["200002000"]);
    check("select count(*) from traces where error_count > 0 and duration_ns > 100000000", &["5"]);
    check("select count(*) from traces where array_has(services, 'orders')", &["200"]);
    check(
        "select t.span_count, count(*) from traces t join spans s on s.trace_id = t.trace_id \
         where t.trace_id = '00000000000000000000000000000007' group by t.span_count",
        &["3|3"],
    );
    let mut plan = |statement: &str| nodes.ask(&format!("explain {statement}")).expect("a plan").join("\n");
    let newest = plan("select trace_id from traces where time > '2020-01-01' order by time desc limit 5");
    assert!(newest.contains("newest first, limit=5") && !newest.contains("SortExec"), "{newest}");
    let oldest = plan("select trace_id from traces order by time limit 5");
    assert!(oldest.contains("newest first") && oldest.contains("SortExec"), "{oldest}");
    let one = plan("select * from traces where trace_id = 'ab'");
    assert!(one.contains("Field(TraceId, Equals(\"ab\"))"), "{one}");
}

fn command(cluster: &Cluster) {
    let url = cluster.nodes[0].client().base().to_owned();
    let sql = |arguments: &[&str]| {
        let out = Command::new(tests::binary()).arg("sql").args(arguments).args(["--url", &url]).output();
        let out = out.expect("the command runs");
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let (code, out, _) =
        sql(&["-e", "select tier, value from memory_limit_bytes order by tier; select 1 as n"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "tier         value\ngold    4000000000\nsilver  2500000000\n(2 rows)\nn\n1\n(1 row)\n")
    );
    let (code, out, _) = sql(&["-e", "select 1 as n, 'a,b' as t", "--format", "csv"]);
    assert_eq!((code, out.as_str()), (Some(0), "n,t\n1,\"a,b\"\n"));
    let (code, _, error) = sql(&["-e", "select * from nowhere"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("there is no table \"nowhere\"") && error.contains("Hint:"), "{error}");
}
