//! Ids and conditions as clients write them, and one trace in all dialects.

use std::sync::Arc;

use protocol::logs::{LogStream, LogValue};
use protocol::otlp::traces::decode;
use protocol::spans::{Span, SpanEvent, SpanKind, SpanLink, SpanSink, SpanStatus};
use query::traces::traceql::parse;
use serde_json::{Value, json};

use super::otlp::{Style, protobuf, resource_spans};
use super::*;

#[test]
fn ids_with_and_without_leading_zeros() {
    let mut id = [0; 16];
    id[15] = 0xab;
    for text in ["ab", "AB", "00ab", "000000000000000000000000000000ab"] {
        assert_eq!(trace_id(text).unwrap(), id, "{text}");
    }
    for text in ["", "xyz", "+1", "0x1", "1000000000000000000000000000000ab"] {
        assert!(trace_id(text).is_err(), "{text}");
    }
}

#[test]
fn conditions_are_traceql() {
    let mut conditions = Conditions::default();
    assert!(conditions.is_empty());
    conditions.service(Some("a \"b\""));
    conditions.operation(Some("get"));
    conditions.operation(Some("all"));
    conditions.durations(Intrinsic::Duration, Some(1_500_000_000), None);
    conditions.tag("http.status_code", "500");
    conditions.tag("error", "true");
    conditions.tag("span.kind", "server");
    conditions.tag("half", "0.5");
    let text = conditions.text();
    assert_eq!(
        text,
        "{ resource.service.name = \"a \\\"b\\\"\" && name = \"get\" && duration >= 1s500ms && \
         (.http.status_code = \"500\" || .http.status_code = 500) && \
         (.error = \"true\" || .error = true || status = error) && (.span.kind = \"server\" || kind = server) && \
         (.half = \"0.5\" || .half = 0.5) }"
    );
    assert!(parse(&text).is_ok());
    assert_eq!(Conditions::default().text(), "{ }");
}

fn trace() -> Trace {
    let stream = |service: &str| {
        Arc::new(LogStream {
            resource: vec![
                ("service.name".into(), LogValue::String(service.to_owned().into())),
                ("host".into(), LogValue::String("h".into())),
            ],
            scope_name: "lib".into(),
            ..LogStream::default()
        })
    };
    let root = Span {
        trace_id: [0xab; 16],
        span_id: [1; 8],
        name: "GET /".into(),
        kind: SpanKind::Server,
        start_ns: 1_700_000_000_000_001_000,
        end_ns: 1_700_000_000_000_009_000,
        attributes: vec![
            ("http.status_code".into(), LogValue::Int(200)),
            ("ok".into(), LogValue::Bool(true)),
            ("raw".into(), LogValue::Bytes(vec![1].into())),
        ],
        ..Span::default()
    };
    let child = Span {
        trace_id: [0xab; 16],
        span_id: [2; 8],
        parent_id: [1; 8],
        name: "SELECT".into(),
        kind: SpanKind::Client,
        start_ns: 1_700_000_000_000_002_000,
        end_ns: 1_700_000_000_000_003_000,
        status: SpanStatus::Error,
        status_message: "no".into(),
        events: vec![SpanEvent {
            time_ns: 1_700_000_000_000_002_500,
            name: "retry".into(),
            attributes: vec![("n".into(), LogValue::Float(0.5))],
            ..SpanEvent::default()
        }],
        links: vec![SpanLink { trace_id: [0xcd; 16], span_id: [3; 8], ..SpanLink::default() }],
        ..Span::default()
    };
    Trace::assemble(vec![(stream("web"), root), (stream("bank"), child)])
}

#[test]
fn jaegers_form() {
    let (ab, one) = ("abababababababababababababababab", "0101010101010101");
    let expected = json!({
        "traceID": ab,
        "spans": [{
            "traceID": ab, "spanID": one, "operationName": "GET /", "references": [], "flags": 0,
            "startTime": 1_700_000_000_000_001_i64, "duration": 8,
            "tags": [
                {"key": "http.status_code", "type": "int64", "value": 200},
                {"key": "ok", "type": "bool", "value": true},
                {"key": "raw", "type": "binary", "value": "AQ=="},
                {"key": "span.kind", "type": "string", "value": "server"},
                {"key": "otel.scope.name", "type": "string", "value": "lib"},
            ],
            "logs": [], "processID": "p1", "warnings": null,
        }, {
            "traceID": ab, "spanID": "0202020202020202", "operationName": "SELECT",
            "references": [
                {"refType": "CHILD_OF", "traceID": ab, "spanID": one},
                {"refType": "FOLLOWS_FROM", "traceID": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd", "spanID": "0303030303030303"},
            ],
            "flags": 0, "startTime": 1_700_000_000_000_002_i64, "duration": 1,
            "tags": [
                {"key": "span.kind", "type": "string", "value": "client"},
                {"key": "otel.status_code", "type": "string", "value": "ERROR"},
                {"key": "error", "type": "bool", "value": true},
                {"key": "otel.status_description", "type": "string", "value": "no"},
                {"key": "otel.scope.name", "type": "string", "value": "lib"},
            ],
            "logs": [{"timestamp": 1_700_000_000_000_002_i64, "fields": [
                {"key": "event", "type": "string", "value": "retry"},
                {"key": "n", "type": "float64", "value": 0.5},
            ]}],
            "processID": "p2", "warnings": null,
        }],
        "processes": {
            "p1": {"serviceName": "web", "tags": [{"key": "host", "type": "string", "value": "h"}]},
            "p2": {"serviceName": "bank", "tags": [{"key": "host", "type": "string", "value": "h"}]},
        },
        "warnings": null,
    });
    assert_eq!(jaeger::trace_json(&trace()), expected);
}

/// Streams and spans, as text.
#[derive(Default)]
struct Lines(Vec<String>);

impl SpanSink for Lines {
    fn stream(&mut self, stream: &LogStream<'_>) {
        self.0.push(format!("{stream:?}"));
    }

    fn span(&mut self, span: &Span<'_>) {
        self.0.push(format!("{span:?}"));
    }
}

#[test]
fn otlp_says_all_that_there_is() {
    let trace = trace();
    let lines = |protobuf: &[u8]| {
        let mut lines = Lines::default();
        decode(protobuf, &mut lines).unwrap();
        lines.0
    };
    let expected: Vec<String> = trace
        .spans
        .iter()
        .flat_map(|part| [format!("{:?}", part.stream), format!("{:?}", part.span)])
        .collect();
    assert_eq!(lines(&protobuf(&trace)), expected);
    // What JSON says is the same message.
    let json = json!({"resourceSpans": resource_spans(&trace, Style::Otlp)}).to_string();
    let again =
        protocol::otlp::json::to_protobuf(protocol::otlp::json::Request::Traces, json.as_bytes()).unwrap();
    assert_eq!(lines(&again), expected);
    let tempo = resource_spans(&trace, Style::Proto);
    let span: &Value = &tempo[1]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], "q6urq6urq6urq6urq6urqw==");
    assert_eq!(
        (&span["kind"], &span["status"]["code"]),
        (&json!("SPAN_KIND_CLIENT"), &json!("STATUS_CODE_ERROR"))
    );
}
