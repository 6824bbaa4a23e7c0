//! JSON as it is documented and as clients write it, against the messages that others read from it.

use prost::Message as _;

use super::*;

/// The messages as prost derives them, as far as they are looked at.
mod messages {
    macro_rules! message {
        ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
            #[derive(Clone, PartialEq, prost::Message)]
            pub struct $name { $($(#[$meta])* pub $field: $type),* }
        };
    }
    message!(Logs { #[prost(message, repeated, tag = "1")] resources: Vec<ResourceLogs> });
    message!(ResourceLogs { #[prost(message, repeated, tag = "2")] scopes: Vec<ScopeLogs> });
    message!(ScopeLogs { #[prost(message, repeated, tag = "2")] records: Vec<LogRecord> });
    message!(LogRecord {
        #[prost(fixed64, tag = "1")]
        time: u64,
        #[prost(int32, tag = "2")]
        severity: i32,
        #[prost(string, tag = "3")]
        severity_text: String,
        #[prost(message, optional, tag = "5")]
        body: Option<AnyValue>,
        #[prost(message, repeated, tag = "6")]
        attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "7")]
        dropped: u32,
        #[prost(fixed32, tag = "8")]
        flags: u32,
        #[prost(bytes = "vec", tag = "9")]
        trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "10")]
        span_id: Vec<u8>,
        #[prost(fixed64, tag = "11")]
        observed: u64,
        #[prost(string, tag = "12")]
        event_name: String,
    });
    message!(KeyValue {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(message, optional, tag = "2")]
        value: Option<AnyValue>,
    });
    message!(AnyValue { #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5, 6, 7")] value: Option<Value> });
    message!(ArrayValue { #[prost(message, repeated, tag = "1")] values: Vec<AnyValue> });
    message!(KeyValueList { #[prost(message, repeated, tag = "1")] values: Vec<KeyValue> });

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Value {
        #[prost(string, tag = "1")]
        String(String),
        #[prost(bool, tag = "2")]
        Bool(bool),
        #[prost(int64, tag = "3")]
        Int(i64),
        #[prost(double, tag = "4")]
        Double(f64),
        #[prost(message, tag = "5")]
        Array(ArrayValue),
        #[prost(message, tag = "6")]
        Map(KeyValueList),
        #[prost(bytes = "vec", tag = "7")]
        Bytes(Vec<u8>),
    }

    message!(Metrics { #[prost(message, repeated, tag = "1")] resources: Vec<ResourceMetrics> });
    message!(ResourceMetrics { #[prost(message, repeated, tag = "2")] scopes: Vec<ScopeMetrics> });
    message!(ScopeMetrics { #[prost(message, repeated, tag = "2")] metrics: Vec<Metric> });
    message!(Metric {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "7")]
        sum: Option<Sum>,
    });
    message!(Sum {
        #[prost(message, repeated, tag = "1")]
        points: Vec<NumberPoint>,
        #[prost(int32, tag = "2")]
        temporality: i32,
        #[prost(bool, tag = "3")]
        is_monotonic: bool,
    });
    message!(NumberPoint {
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(double, optional, tag = "4")]
        double: Option<f64>,
        #[prost(sfixed64, optional, tag = "6")]
        int: Option<i64>,
    });
}
use messages::{LogRecord, Logs, Metrics, Value};

fn metrics(text: &str) -> Metrics {
    let body = to_protobuf(Request::Metrics, text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    Metrics::decode(body.as_slice()).expect("a valid message")
}

fn first_record(text: &str) -> LogRecord {
    let body = to_protobuf(Request::Logs, text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let request = Logs::decode(body.as_slice()).expect("a valid message");
    request.resources[0].scopes[0].records[0].clone()
}

fn record(fields: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{fields}}}]}}]}}]}}"#)
}

#[track_caller]
fn refused(fields: &str, offence: &str) {
    let error = to_protobuf(Request::Logs, record(fields).as_bytes()).expect_err(fields).to_string();
    assert!(error.contains(offence) && error.contains("ExportLogsServiceRequest"), "{error}");
}

#[test]
fn a_record_of_every_kind_of_value() {
    let text = record(
        r#""timeUnixNano":"1544712660300000000","observedTimeUnixNano":1544712660300000001,"severityNumber":10,
        "severityText":"Info","traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","flags":257,
        "eventName":"e","droppedAttributesCount":1,"whatever":{"a":[1]},"body":{"kvlistValue":{"values":[
          {"key":"list","value":{"arrayValue":{"values":[{"doubleValue":1},{"boolValue":false},null,{}]}}},
          {"key":"bytes","value":{"bytesValue":"/+8="}},{"key":"none","value":null}]}},
        "attributes":[{"key":"i","value":{"intValue":"-9223372036854775808"}},{"key":"d","value":{"doubleValue":"NaN"}}]"#,
    );
    let record = first_record(&text);
    assert_eq!(record.time, 1_544_712_660_300_000_000);
    assert_eq!(record.observed, 1_544_712_660_300_000_001);
    assert_eq!((record.severity, record.severity_text.as_str(), record.flags), (10, "Info", 257));
    assert_eq!(record.dropped, 1);
    assert_eq!((record.trace_id[0], record.trace_id.len(), record.span_id[7]), (0x5b, 16, 0x74));
    assert_eq!(record.event_name, "e");
    let Some(Value::Map(body)) = record.body.as_ref().and_then(|body| body.value.clone()) else {
        panic!("{:?}", record.body);
    };
    let value = |index: usize| body.values[index].value.as_ref().and_then(|value| value.value.clone());
    let Some(Value::Array(list)) = value(0) else { panic!("{:?}", value(0)) };
    let list: Vec<_> = list.values.into_iter().map(|value| value.value).collect();
    assert_eq!(list, [Some(Value::Double(1.0)), Some(Value::Bool(false)), None, None]);
    assert_eq!(value(1), Some(Value::Bytes(vec![0xff, 0xef])));
    assert_eq!(value(2), None);
    let value = |index: usize| record.attributes[index].value.as_ref().and_then(|value| value.value.clone());
    assert_eq!(value(0), Some(Value::Int(i64::MIN)));
    assert!(matches!(value(1), Some(Value::Double(value)) if value.is_nan()));
}

#[test]
fn original_spelling_and_other_liberties() {
    let text = r#"{"resource_metrics":[{"scope_metrics":[{"metrics":[{"name":"m","sum":{"is_monotonic":true,
        "aggregation_temporality":2.0,"data_points":[{"time_unix_nano":5,"as_double":"-Infinity"},{"asInt":"-7"}]}}]}]}]}"#;
    let request = metrics(text);
    let sum = request.resources[0].scopes[0].metrics[0].sum.clone().expect("a sum");
    assert_eq!((sum.is_monotonic, sum.temporality, sum.points[0].time), (true, 2, 5));
    assert_eq!((sum.points[0].double, sum.points[1].int), (Some(f64::NEG_INFINITY), Some(-7)));
    assert_eq!(metrics("{}"), Metrics::default());
    assert_eq!(metrics(r#"{"resourceMetrics":null}"#), Metrics::default());
    // A key of another message is unknown here.
    assert_eq!(metrics(r#"{"resourceLogs":[1]}"#), Metrics::default());
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    refused(r#""timeUnixNano":"x""#, "timeUnixNano at line 1");
    refused(r#""timeUnixNano":-1"#, "-1 is out of range for timeUnixNano");
    refused(r#""timeUnixNano":1.5"#, "timeUnixNano");
    refused(r#""severityNumber":"SEVERITY_NUMBER_INFO""#, "a whole number for severityNumber");
    refused(r#""traceId":"xyz""#, "hexadecimal digits for traceId");
    refused(r#""traceId":"abc""#, "hexadecimal digits for traceId");
    refused(r#""body":"text""#, "an object for body");
    refused(r#""body":{"bytesValue":"*"}"#, "base64 for bytesValue");
    refused(r#""attributes":{}"#, "an array for attributes");
    refused(r#""attributes":[[]]"#, "an object for attributes");
    refused(r#""severityText":1"#, "text for severityText");
    refused(r#""flags":4294967296"#, "out of range for flags");
    refused(r#""body":{"boolValue":1}"#, "true or false for boolValue");
    for text in ["", "[]", "{", "{} x", "\"\"", "{\"resourceLogs\":[{]}"] {
        to_protobuf(Request::Logs, text.as_bytes()).expect_err(text);
    }
    let deep = format!("{}{}{}", r#"{"arrayValue":{"values":["#.repeat(100), "{}", "]}}".repeat(100));
    refused(&format!(r#""body":{deep}"#), "recursion limit");
}

#[test]
fn base64_in_its_forms() {
    for (text, bytes) in [
        ("", &b""[..]),
        ("YQ==", b"a"),
        ("YQ", b"a"),
        ("YWI=", b"ab"),
        ("YWJj", b"abc"),
        ("//4=", b"\xff\xfe"),
        ("__4", b"\xff\xfe"),
    ] {
        assert_eq!(from_base64(text).as_deref(), Some(bytes), "{text}");
    }
    for bad in ["Y", "YQ===", "Y Q=", "=", "YWJjZ"] {
        assert_eq!(from_base64(bad).filter(|bytes| !bytes.is_empty() || bad != "="), None, "{bad}");
    }
}

/// The documented examples.
#[test]
fn examples_of_the_specification() {
    let Some(root) = std::env::var_os("PHAROS_TESTDATA") else {
        #[allow(clippy::print_stderr, reason = "a test that skips says so")]
        {
            eprintln!("skipped examples_of_the_specification: PHAROS_TESTDATA is not set");
        }
        return;
    };
    let read = |path: &str| {
        let path = std::path::Path::new(&root).join("otlp").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let record = first_record(&read("logs.json"));
    assert_eq!((record.severity, record.trace_id[..2].to_vec()), (10, vec![0x5b, 0x8e]));
    assert_eq!(record.body.and_then(|body| body.value), Some(Value::String("Example log record".into())));
    let keys: Vec<&str> = record.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys[2..4], ["int.attribute", "double.attribute"]);
    let value = |index: usize| record.attributes[index].value.clone().and_then(|value| value.value);
    assert_eq!((value(2), value(3)), (Some(Value::Int(10)), Some(Value::Double(637.704))));
    assert_eq!(first_record(&read("events.json")).event_name, "browser.page_view");
    let request = metrics(&read("metrics.json"));
    assert_eq!(request.resources[0].scopes[0].metrics[0].name, "my.counter");
}
