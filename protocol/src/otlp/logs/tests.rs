//! Requests in JSON, for people to read, and the records that become of them; then bytes that nobody meant.

use std::path::PathBuf;

use proptest::prelude::{any, proptest};

use super::*;
use crate::otlp::json::{self, Request};

/// Remembers what it got, as text.
#[derive(Default)]
struct Lines(Vec<String>);

impl LogSink for Lines {
    fn stream(&mut self, stream: &LogStream<'_>) {
        self.0.push(format!(
            "stream {} {}@{} {}",
            attributes(&stream.resource),
            stream.scope_name,
            stream.scope_version,
            attributes(&stream.scope_attributes)
        ));
    }

    fn record(&mut self, record: &LogRecord<'_>) {
        let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.0.push(format!(
            "{}/{} {}({}) {} {} trace {} span {} flags {} event {:?}",
            record.time_ns,
            record.observed_ns,
            record.severity_text,
            record.severity,
            value(&record.body),
            attributes(&record.attributes),
            hex(&record.trace_id),
            hex(&record.span_id),
            record.flags,
            record.event_name
        ));
    }
}

fn value(value: &LogValue<'_>) -> String {
    match value {
        LogValue::Empty => "empty".into(),
        LogValue::String(text) => format!("{text:?}"),
        LogValue::Int(value) => value.to_string(),
        LogValue::Float(value) => format!("{value:?}"),
        LogValue::Bool(value) => value.to_string(),
        LogValue::Bytes(bytes) => format!("bytes{bytes:?}"),
        LogValue::List(values) => {
            format!("[{}]", values.iter().map(self::value).collect::<Vec<_>>().join(","))
        }
        LogValue::Map(entries) => attributes(entries),
    }
}

fn attributes(entries: &[Attribute<'_>]) -> String {
    let entries = entries.iter().map(|(key, entry)| format!("{key}={}", value(entry)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
}

fn decoded(text: &str) -> (Decoded, Vec<String>) {
    let body = json::to_protobuf(Request::Logs, text.as_bytes()).expect("valid JSON");
    let mut lines = Lines::default();
    let decoded = decode(&body, 99, &mut lines).expect("a valid message");
    (decoded, lines.0)
}

#[test]
fn records_of_streams() {
    let (decoded, lines) = decoded(
        r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},
            {"key":"k8s","value":{"kvlistValue":{"values":[{"key":"pod","value":{"stringValue":"p"}},
              {"key":"labels","value":{"kvlistValue":{"values":[{"key":"app","value":{"intValue":1}}]}}},
              {"key":"none","value":{"kvlistValue":{}}}]}}}]},
          "scopeLogs":[
            {"scope":{"name":"lib","version":"2","attributes":[{"key":"a","value":{"boolValue":true}}]},"logRecords":[
              {"timeUnixNano":"5","observedTimeUnixNano":"6","severityNumber":17,"severityText":"ERROR","flags":1,
               "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","eventName":"e",
               "body":{"kvlistValue":{"values":[{"key":"deep","value":{"kvlistValue":{"values":[
                 {"key":"x","value":{"doubleValue":1}}]}}}]}},
               "attributes":[{"key":"twice","value":{"intValue":1}},{"key":"twice","value":{"intValue":2}},
                 {"key":"list","value":{"arrayValue":{"values":[{"bytesValue":"AQI="},{}]}}}]},
              {"observedTimeUnixNano":"7","severityNumber":99,"traceId":"abcd"}]},
            {"logRecords":[]},
            {"logRecords":[{"body":{"stringValue":"now"}}]}]}]}"#,
    );
    let none = "trace 00000000000000000000000000000000 span 0000000000000000 flags 0 event \"\"";
    assert_eq!(
        lines,
        [
            "stream {service.name=\"shop\" k8s.pod=\"p\" k8s.labels.app=1 k8s.none={}} lib@2 {a=true}".to_owned(),
            "5/6 ERROR(17) {deep={x=1.0}} {twice=1 twice=2 list=[bytes[1, 2],empty]} trace 5b8efff798038103d269b633813fc60c \
             span eee19b7ec3c1b174 flags 1 event \"e\""
                .to_owned(),
            format!("0/7 (0) empty {{}} {none}"),
            "stream {service.name=\"shop\" k8s.pod=\"p\" k8s.labels.app=1 k8s.none={}} @ {}".to_owned(),
            format!("0/99 (0) \"now\" {{}} {none}"),
        ]
    );
    assert_eq!((decoded.records, decoded.rejected, decoded.lacks_time), (3, 0, true));
}

#[test]
fn paths_do_not_grow_without_end() {
    let long = "k".repeat(200);
    let map = |key: &str, value| LogValue::Map(vec![(Cow::Owned(key.to_owned()), value)]);
    let mut out = Vec::new();
    flatten("a".into(), map(&long, map(&long, LogValue::Int(1))), &mut out);
    assert_eq!(out, [(Cow::Owned(format!("a.{long}")), map(&long, LogValue::Int(1)))]);
}

#[test]
fn times_that_no_clock_shows_are_refused() {
    let record = |time: &str| {
        format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{time}"}},{{"timeUnixNano":"1"}}]}}]}}]}}"#
        )
    };
    let (decoded, lines) = decoded(&record("18446744073709551615"));
    assert_eq!((decoded.records, decoded.rejected, decoded.lacks_time, lines.len()), (1, 1, false, 2));
    assert!(decoded.offence.is_some_and(|offence| offence.contains("18446744073709551615")));
}

#[test]
fn text_that_is_not_utf8_is_kept() {
    let text = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{"stringValue":"body"},
        "attributes":[{"key":"name","value":{"stringValue":"v"}}]}]}]}]}"#;
    let mut body = json::to_protobuf(Request::Logs, text.as_bytes()).expect("valid JSON");
    for word in [&b"body"[..], b"name"] {
        let at = body.windows(4).position(|window| window == word).expect("the word is there");
        body[at] = 0xff;
    }
    let mut lines = Lines::default();
    decode(&body, 1, &mut lines).expect("a valid message");
    assert!(lines.0[1].contains("bytes[255, 111, 100, 121] {\u{fffd}ame=\"v\"}"), "{:?}", lines.0);
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&body, 1, &mut Lines::default());
    }

    #[test]
    fn damaged_requests_are_taken_or_refused(at in any::<proptest::sample::Index>(), byte: u8) {
        let text = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"a","value":{"stringValue":"b"}}]},"scopeLogs":[
            {"scope":{"name":"n"},"logRecords":[{"timeUnixNano":"1","severityNumber":9,"body":{"arrayValue":{"values":[
            {"kvlistValue":{"values":[{"key":"k","value":{"doubleValue":1}}]}}]}}}]}]}]}"#;
        let mut body = json::to_protobuf(Request::Logs, text.as_bytes()).expect("valid JSON");
        let at = at.index(body.len());
        body[at] = byte;
        let _ = decode(&body, 1, &mut Lines::default());
    }
}

#[test]
fn recordings_of_real_clients_are_taken() {
    let Some(root) = std::env::var_os("PHAROS_TESTDATA") else {
        #[allow(clippy::print_stderr, reason = "a test that skips says so")]
        {
            eprintln!("skipped recordings_of_real_clients_are_taken: PHAROS_TESTDATA is not set");
        }
        return;
    };
    for (path, part) in [
        ("wire/otlp_grpc_python_1.45/LogsService-001.bin", "INFO(9)"),
        ("wire/otlp_http_python_1.45/v1-logs-001.bin", "INFO(9)"),
        ("wire/otlp_http_json_js_0.223/v1-logs-001.bin", "ERROR(17) {msg=\"page served\" page=0} {page=0}"),
        ("otlp/logs.json", "Information(10) \"Example log record\""),
        ("otlp/events.json", "event \"browser.page_view\""),
    ] {
        let path = PathBuf::from(&root).join(path);
        let mut body = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if body.starts_with(b"{") {
            body = json::to_protobuf(Request::Logs, &body).expect("valid JSON");
        }
        let mut lines = Lines::default();
        let decoded =
            decode(&body, 1, &mut lines).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(decoded.records > 0 && decoded.rejected == 0 && !decoded.lacks_time, "{}", path.display());
        assert!(lines.0.iter().any(|line| line.contains(part)), "{}: {:#?}", path.display(), lines.0);
    }
}
