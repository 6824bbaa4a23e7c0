//! Traces through the real ways in, read back on another node than they were written to, in every dialect: span for span,
//! however often they were sent, also after a node was killed.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use chaos::client::{Client, escape};
use chaos::ledger::now_ms;
use serde_json::{Value, json};
use tests::{Cluster, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

fn post(client: &Client, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let answer = client.post(path, headers, body).expect("an answer of a healthy node");
    (answer.status, answer.body)
}

/// JSON of a path that has no envelope.
fn plain(client: &Client, path: &str) -> anyhow::Result<Value> {
    let answer = client.get(path)?;
    ensure!(answer.is_success(), "{path}: {} {}", answer.status, answer.body);
    serde_json::from_str(&answer.body).with_context(|| format!("{path}: {}", answer.body))
}

fn attribute(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}

fn resource(service: &str) -> Value {
    json!({"attributes": [attribute("service.name", json!({"stringValue": service}))]})
}

const SHOP: &str = "0af7651916cd43dd8448eb211c80319c";

/// A request over two services: the bank refuses.
fn shop(now_ns: i64) -> Value {
    let span = |id: &str, parent: &str, name: &str, kind: u8, from: i64, to: i64| {
        json!({
            "traceId": SHOP, "spanId": id, "parentSpanId": parent, "name": name, "kind": kind, "flags": 257,
            "startTimeUnixNano": (now_ns + from).to_string(), "endTimeUnixNano": (now_ns + to).to_string(),
        })
    };
    let mut root = span("00000000000000a1", "", "GET /pay", 2, 0, 90_000_000);
    root["attributes"] = json!([attribute("http.status_code", json!({"intValue": "500"}))]);
    root["traceState"] = json!("vendor=1");
    let mut call = span("00000000000000a2", "00000000000000a1", "charge", 3, 10_000_000, 80_000_000);
    call["events"] = json!([{
        "timeUnixNano": (now_ns + 20_000_000).to_string(), "name": "retry",
        "attributes": [attribute("attempt", json!({"intValue": "2"}))],
    }]);
    call["links"] = json!([{"traceId": "000000000000000000000000000000ff", "spanId": "00000000000000ff"}]);
    let mut refused = span("00000000000000b1", "00000000000000a2", "charge", 2, 20_000_000, 70_000_000);
    refused["status"] = json!({"code": 2, "message": "no money"});
    json!({"resourceSpans": [
        {"resource": resource("web"), "scopeSpans": [
            {"scope": {"name": "http", "version": "1"}, "spans": [root, call]},
        ]},
        {"resource": resource("bank"), "scopeSpans": [{"spans": [refused]}]},
    ]})
}

/// The spans of an OTLP message, each with what is around it, in one order.
fn spans_of(message: &Value) -> BTreeSet<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut spans = BTreeSet::new();
    for resource in list(&message["resourceSpans"]) {
        for scope in list(&resource["scopeSpans"]) {
            for mut span in list(&scope["spans"]) {
                let object = span.as_object_mut().expect("a span is an object");
                // What is empty may be left out.
                object.retain(|_, value| {
                    !(value.is_null() || *value == json!("") || *value == json!({}) || *value == json!([]))
                });
                let around =
                    json!([resource["resource"], scope["scope"].as_object().cloned().unwrap_or_default()]);
                spans.insert(format!("{around} {}", Value::Object(object.clone())));
            }
        }
    }
    spans
}

/// Ids of the traces of an OTLP message.
fn ids_of(message: &Value) -> BTreeSet<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let scopes =
        list(&message["resourceSpans"]).into_iter().flat_map(|resource| list(&resource["scopeSpans"]));
    let spans = scopes.flat_map(|scope| list(&scope["spans"]));
    spans.filter_map(|span| Some(span["traceId"].as_str()?.to_owned())).collect()
}

/// A trace as Jaeger's version 3 gives it, which is OTLP.
fn otlp(client: &Client, id: &str) -> anyhow::Result<BTreeSet<String>> {
    Ok(spans_of(&plain(client, &format!("/api/v3/traces/{id}"))?["result"]))
}

/// Ids of the traces that TraceQL finds.
fn found(client: &Client, query: &str) -> anyhow::Result<Vec<String>> {
    let found = client.api(&format!("/api/v1/traces/search?q={}", escape(query)))?;
    let traces = found["traces"].as_array().with_context(|| format!("no traces in {found}"))?;
    traces
        .iter()
        .map(|trace| Ok(trace["traceId"].as_str().with_context(|| format!("no id in {trace}"))?.to_owned()))
        .collect()
}

/// The trace in our own form.
fn check_own(client: &Client) -> anyhow::Result<()> {
    let trace = client.api(&format!("/api/v1/traces/{SHOP}"))?;
    ensure!(trace["rootService"] == "web" && trace["rootName"] == "GET /pay", "{trace}");
    ensure!(trace["spanCount"] == 3 && trace["errorCount"] == 1, "{trace}");
    ensure!(trace["durationNs"] == 90_000_000, "{trace}");
    let spans = trace["spans"].as_array().context("spans")?;
    let tree: Vec<(&Value, &Value)> = spans.iter().map(|span| (&span["parent"], &span["depth"])).collect();
    ensure!(tree == [(&json!(null), &json!(0)), (&json!(0), &json!(1)), (&json!(1), &json!(2))], "{trace}");
    // What the end waited for: the root, the call, the bank, and up again.
    let path: Vec<&Value> =
        trace["criticalPath"].as_array().context("path")?.iter().map(|part| &part["span"]).collect();
    ensure!(path == [&json!(0), &json!(1), &json!(2), &json!(1), &json!(0)], "{trace}");
    ensure!(spans[1]["events"][0]["attributes"]["attempt"] == 2, "{trace}");
    ensure!(spans[0]["traceState"] == "vendor=1" && spans[0]["flags"] == 257, "{trace}");
    Ok(())
}

fn check_searches(client: &Client) -> anyhow::Result<()> {
    for (query, finds) in [
        ("{ status = error && resource.service.name = \"bank\" }", true),
        ("{ name = \"GET /pay\" } >> { statusMessage = \"no money\" }", true),
        ("{ kind = client && event:name = \"retry\" }", true),
        ("{ rootServiceName = \"web\" && .http.status_code >= 500 } | count() = 1", true),
        ("{ resource.service.name = \"bank\" } >> { kind = client }", false),
        ("{ duration > 1s && resource.service.name = \"web\" }", false),
    ] {
        let ids = found(client, query)?;
        ensure!(ids.contains(&SHOP.to_owned()) == finds, "{query} finds {ids:?}");
    }
    ensure!(client.api("/api/v1/traces/search?q=%7B%20foo%20%7D").is_err(), "what is no TraceQL is refused");
    let services = client.api("/api/v1/services")?;
    let names: Vec<&str> = services["services"]
        .as_array()
        .context("services")?
        .iter()
        .filter_map(|service| service["name"].as_str())
        .collect();
    ensure!(names.contains(&"bank") && names.contains(&"web"), "{services}");
    let calls = client.api("/api/v1/dependencies")?["dependencies"].clone();
    let call = calls.as_array().context("calls")?.iter().find(|call| call["child"] == "bank");
    let call = call.with_context(|| format!("no call in {calls}"))?;
    ensure!(call["parent"] == "web" && call["callCount"] == 1 && call["errorCount"] == 1, "{call}");
    let compare = format!(
        "/api/v1/traces/compare?selection={}&baseline={}",
        escape("{ status = error }"),
        escape("{ status != error }")
    );
    let compared = client.api(&compare)?;
    ensure!(compared["fields"][0]["score"] == 1.0, "{compared}");
    Ok(())
}

fn check_jaeger(client: &Client) -> anyhow::Result<()> {
    let services = plain(client, "/api/services")?;
    ensure!(services["data"].as_array().is_some_and(|names| names.contains(&json!("web"))), "{services}");
    let operations = plain(client, "/api/operations?service=web")?;
    ensure!(operations["data"][0] == json!({"name": "GET /pay", "spanKind": "server"}), "{operations}");
    let tags = escape("{\"http.status_code\":\"500\"}");
    for search in
        [format!("service=web&tags={tags}&minDuration=50ms"), "service=bank&tag=error:true".to_owned()]
    {
        let traces = plain(client, &format!("/api/traces?{search}&limit=5"))?;
        ensure!(traces["total"] == 1 && traces["data"][0]["traceID"] == SHOP, "{search}: {traces}");
    }
    // Leading zeros may be missing.
    for id in [SHOP, SHOP.trim_start_matches('0')] {
        let trace = plain(client, &format!("/api/traces/{id}"))?;
        let spans = trace["data"][0]["spans"].as_array().context("spans")?;
        ensure!(spans.len() == 3 && trace["data"][0]["processes"]["p2"]["serviceName"] == "bank", "{trace}");
        ensure!(spans[2]["references"][0]["spanID"] == "00000000000000a2", "{trace}");
    }
    let calls = plain(client, "/api/dependencies")?;
    ensure!(
        calls["data"].as_array().is_some_and(|calls| calls.iter().any(|call| call["child"] == "bank")),
        "{calls}"
    );
    ensure!(client.get("/api/traces/abc")?.status == 404, "a trace that is not there is 404");
    ensure!(client.get("/api/v3/traces/abc")?.status == 404, "the same in version 3");
    let v3 = plain(client, "/api/v3/traces?query.service_name=bank&query.search_depth=3")?;
    ensure!(spans_of(&v3["result"]).len() == 3, "{v3}");
    Ok(())
}

fn check_tempo(client: &Client, now_ns: i64) -> anyhow::Result<()> {
    ensure!(client.get("/api/echo")?.body == "echo", "the health check of Grafana");
    let seconds = now_ns / 1_000_000_000;
    let range = format!("start={}&end={}", seconds - 60, seconds + 60);
    let query = escape("{ status = error && resource.service.name = \"bank\" }");
    for search in [format!("q={query}"), format!("tags={}", escape("service.name=bank error=true"))] {
        let found = plain(client, &format!("/api/search?{search}&{range}&limit=5"))?;
        let trace = &found["traces"][0];
        ensure!(trace["traceID"] == SHOP && trace["rootTraceName"] == "GET /pay", "{search}: {found}");
        ensure!(trace["durationMs"] == 90 && trace["spanSets"][0]["matched"] == 1, "{search}: {found}");
        ensure!(trace["serviceStats"]["bank"] == json!({"spanCount": 1, "errorCount": 1}), "{found}");
    }
    let tags = plain(client, &format!("/api/v2/search/tags?{range}"))?;
    let scopes = tags["scopes"].as_array().context("scopes")?;
    let of =
        |name: &str| scopes.iter().find(|scope| scope["name"] == name).map(|scope| scope["tags"].to_string());
    ensure!(of("resource").is_some_and(|tags| tags.contains("service.name")), "{tags}");
    ensure!(of("span").is_some_and(|tags| tags.contains("http.status_code")), "{tags}");
    let values = plain(client, &format!("/api/v2/search/tag/resource.service.name/values?{range}"))?;
    ensure!(values["tagValues"].to_string().contains("{\"type\":\"string\",\"value\":\"bank\"}"), "{values}");
    let codes = plain(client, &format!("/api/v2/search/tag/span.http.status_code/values?{range}"))?;
    ensure!(codes["tagValues"].to_string().contains("{\"type\":\"int\",\"value\":\"500\"}"), "{codes}");
    let narrowed = escape("{ name = \"GET /pay\" }");
    let values = plain(client, &format!("/api/v2/search/tag/.service.name/values?q={narrowed}&{range}"))?;
    ensure!(values["tagValues"] == json!([{"type": "string", "value": "web"}]), "{values}");
    // Tempo's two forms of a trace, and Jaeger's beside them on one path.
    let proto = [("accept", "application/protobuf")];
    let v1 = client.get_with(&format!("/api/traces/{SHOP}"), &proto)?;
    ensure!(v1.status == 200 && !v1.body.starts_with('{'), "protobuf for who asks for it");
    let v2 = client.get_with(&format!("/api/v2/traces/{SHOP}"), &proto)?;
    ensure!(v2.status == 200 && v2.body.len() > v1.body.len(), "the same within an answer");
    let json = plain(client, &format!("/api/v2/traces/{SHOP}"))?;
    ensure!(
        json["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["kind"] == "SPAN_KIND_SERVER",
        "{json}"
    );
    ensure!(client.get("/api/v2/traces/abc")?.status == 404, "a trace that is not there is 404");
    let rate = escape("{ resource.service.name = \"bank\" } | count_over_time() by (status)");
    let numbers = plain(client, &format!("/api/metrics/query_range?q={rate}&{range}&step=30"))?;
    let samples = numbers["series"][0]["samples"].as_array().context("samples")?;
    let sum: f64 = samples.iter().filter_map(|sample| sample["value"].as_f64()).sum();
    ensure!(sum == 1.0 && numbers["series"][0]["labels"][0]["value"]["stringValue"] == "error", "{numbers}");
    let slow = escape("{ resource.service.name = \"web\" } | quantile_over_time(duration, 1)");
    let numbers = plain(client, &format!("/api/metrics/query?q={slow}&{range}"))?;
    let value = numbers["series"][0]["value"].as_f64().context("a value")?;
    ensure!((value - 0.09).abs() < 0.001, "{numbers}");
    Ok(())
}

#[test]
fn what_was_sent_is_read_on_every_node_once_in_every_dialect() {
    let mut cluster = Cluster::start(3, 4);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let now_ns = now_ms() * 1_000_000;
    let request = shop(now_ns);
    // Sent again, through another node, it changes nothing.
    for client in [&clients[0], &clients[1], &clients[0]] {
        let (status, answer) = post(client, "/v1/traces", &[JSON], request.to_string().as_bytes());
        assert_eq!((status, answer.as_str()), (200, "{}"), "an OTLP export is taken");
    }
    // What can not be kept is counted and named, the rest is written.
    let mut mixed = shop(now_ns);
    mixed["resourceSpans"][0]["scopeSpans"][0]["spans"] = json!([
        {"traceId": "000000000000000000000000000000c1", "spanId": "00000000000000c1", "name": "kept",
         "startTimeUnixNano": now_ns.to_string(), "endTimeUnixNano": now_ns.to_string()},
        {"traceId": "000000000000000000000000000000c1", "spanId": "", "startTimeUnixNano": now_ns.to_string()},
        {"traceId": "000000000000000000000000000000c1", "spanId": "00000000000000c2", "startTimeUnixNano": "1000000000"},
    ]);
    mixed["resourceSpans"][1] = json!({});
    let (status, answer) = post(&clients[0], "/v1/traces", &[JSON], mixed.to_string().as_bytes());
    let partial: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((status, &partial["partialSuccess"]["rejectedSpans"]), (200, &json!("2")), "{answer}");
    assert_eq!(post(&clients[0], "/v1/traces", &[JSON], b"{\"resourceSpans\": 7}").0, 400);

    let check = |client: &Client| -> anyhow::Result<()> {
        ensure!(otlp(client, SHOP)? == spans_of(&request), "span for span: {:?}", otlp(client, SHOP)?);
        ensure!(otlp(client, "c1")?.len() == 1, "what was left out is not there");
        check_own(client)?;
        check_searches(client)?;
        check_jaeger(client)?;
        check_tempo(client, now_ns)
    };
    for client in &clients {
        check(client).expect("every node sees what was acknowledged");
    }
    // A late span joins its trace, through whichever node it comes; logs are found by the trace.
    let late = json!({"resourceSpans": [{"resource": resource("bank"), "scopeSpans": [{"spans": [{
        "traceId": SHOP, "spanId": "00000000000000d1", "parentSpanId": "00000000000000b1", "name": "late",
        "startTimeUnixNano": (now_ns + 30_000_000).to_string(), "endTimeUnixNano": (now_ns + 31_000_000).to_string(),
    }]}]}]});
    assert_eq!(post(&clients[1], "/v1/traces", &[JSON], late.to_string().as_bytes()).0, 200);
    assert_eq!(otlp(&clients[2], SHOP).expect("the trace").len(), 4);
    let log = json!({"resourceLogs": [{"resource": resource("bank"), "scopeLogs": [{"logRecords": [{
        "timeUnixNano": now_ns.to_string(), "traceId": SHOP, "body": {"stringValue": "refused"},
    }]}]}]});
    assert_eq!(post(&clients[1], "/v1/logs", &[JSON], log.to_string().as_bytes()).0, 200);
    let logs = clients[0].api(&format!("/api/v1/traces/{SHOP}/logs")).expect("logs of the trace");
    assert_eq!(logs["rows"][0]["body"], json!("refused"), "{logs}");

    // Sealed into segments, it is the same; and after a node was killed.
    assert!(clients[0].post("/api/v1/admin/flush", &[], b"").expect("an answer").is_success());
    let whole = |client: &Client| -> anyhow::Result<()> {
        ensure!(otlp(client, SHOP)?.len() == 4, "four spans");
        ensure!(found(client, "{ name = \"late\" }")? == [SHOP], "the late span is found");
        Ok(())
    };
    whole(&clients[1]).expect("segments hold what the memory held");
    cluster.assert_equal_digests();
    cluster.kill(2);
    eventually("the others answer for the killed node", || whole(&clients[0]));
    cluster.restart(2);
    eventually("it is back with all of it", || whole(&clients[2]));
}

#[test]
fn zipkins_spans_in_and_out() {
    let cluster = Cluster::start(3, 4);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let now_us = now_ms() * 1000;
    let trace = json!([
        {"traceId": "000000000000000000c0db9010db8600", "id": "00000000000000e1", "kind": "CLIENT", "name": "get",
         "timestamp": now_us, "duration": 150_000,
         "localEndpoint": {"serviceName": "frontend", "ipv4": "127.0.0.1", "port": 80},
         "annotations": [{"timestamp": now_us + 10, "value": "sent"}], "tags": {"http.method": "GET"}},
        {"traceId": "000000000000000000c0db9010db8600", "id": "00000000000000e1", "kind": "SERVER", "name": "get",
         "timestamp": now_us + 1000, "duration": 100_000, "shared": true,
         "localEndpoint": {"serviceName": "backend"}, "tags": {"error": "why", "otel.status_code": "ERROR"}},
    ]);
    for client in &clients {
        assert_eq!(post(client, "/api/v2/spans", &[JSON], trace.to_string().as_bytes()).0, 202);
    }
    let (status, message) = post(&clients[0], "/api/v2/spans", &[JSON], b"[{\"id\":\"1\"}]");
    assert!(status == 400 && message.contains("no traceId"), "{status} {message}");
    assert_eq!(post(&clients[0], "/api/v2/spans", &[JSON], b"{}").0, 400);
    // ListOfSpans { Span { trace id, id, name, timestamp } }
    let mut span =
        vec![0x0a, 8, 0, 0, 0, 0, 0, 0, 0, 0xf1, 0x1a, 8, 0, 0, 0, 0, 0, 0, 0, 0xf2, 0x2a, 1, b'n', 0x31];
    span.extend_from_slice(&(now_us as u64).to_le_bytes());
    let mut list = vec![0x0a, span.len() as u8];
    list.extend(span);
    assert_eq!(post(&clients[1], "/api/v2/spans", &[PROTOBUF], &list).0, 202);

    for client in &clients {
        let found = plain(client, "/api/v2/trace/c0db9010db8600").expect("the trace");
        assert_eq!(found, trace);
        let found =
            plain(client, "/api/v2/traces?serviceName=backend&annotationQuery=error").expect("a search");
        assert_eq!(found, json!([trace]));
        assert_eq!(plain(client, "/api/v2/services").expect("services"), json!(["backend", "frontend"]));
        assert_eq!(plain(client, "/api/v2/spans?serviceName=frontend").expect("names"), json!(["get"]));
        let calls = plain(client, "/api/v2/dependencies").expect("calls");
        let expected = json!([{"parent": "frontend", "child": "backend", "callCount": 1, "errorCount": 1}]);
        assert_eq!(calls, expected);
        assert_eq!(plain(client, "/api/v2/trace/f1").expect("the trace")[0]["id"], "00000000000000f2");
        assert_eq!(client.get("/api/v2/trace/1").expect("an answer").status, 404);
    }
}

#[test]
fn fixtures_of_others_over_http_and_grpc() {
    let Some(data) = std::env::var_os("PHAROS_TESTDATA").map(std::path::PathBuf::from) else {
        eprintln!("skipped fixtures_of_others_over_http_and_grpc: PHAROS_TESTDATA is not set");
        return;
    };
    // The spans are years old.
    let cluster = Cluster::with_arguments(3, 4, &["--set", "storage.span_retention=unlimited"]);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    for name in ["trace.json", "jaeger-otel_traces_01.json"] {
        let body = std::fs::read(data.join("otlp").join(name)).expect("the fixture is there");
        let (status, answer) = post(&clients[0], "/v1/traces", &[JSON], &body);
        assert_eq!((status, answer.as_str()), (200, "{}"), "{name}");
        let sent: Value = serde_json::from_slice(&body).expect("JSON");
        let ids = ids_of(&sent);
        let sent = spans_of(&sent);
        let mut read = BTreeSet::new();
        for id in &ids {
            read.extend(otlp(&clients[1], id).expect("the trace on another node"));
        }
        assert_eq!(read.len(), sent.len(), "{name}: {read:?}\nwhere {sent:?} was sent");
    }
    for (name, kind) in [
        ("otlp_http_python_1.45/v1-traces-001.bin", PROTOBUF),
        ("otlp_http_json_js_0.223/v1-traces-001.bin", JSON),
    ] {
        let body = std::fs::read(data.join("wire").join(name)).expect("the capture is there");
        assert_eq!(post(&clients[2], "/v1/traces", &[kind], &body).0, 200, "{name}");
    }
}
