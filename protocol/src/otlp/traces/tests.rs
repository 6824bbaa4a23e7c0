//! Requests of others' making, what becomes of them, and that what is written is what was read.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::logs::LogValue;
use crate::otlp::json::{self, Request};

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

fn lines(body: &[u8]) -> (Decoded, Vec<String>) {
    let mut lines = Lines::default();
    let decoded = decode(body, &mut lines).expect("a valid message");
    (decoded, lines.0)
}

/// The same request, through spans and back.
fn again(body: &[u8]) -> Vec<u8> {
    let mut encoder = SpanEncoder::default();
    decode(body, &mut encoder).expect("a valid message");
    encoder.finish()
}

fn testdata(name: &str) -> Option<PathBuf> {
    Some(Path::new(&std::env::var_os("PHAROS_TESTDATA")?).join(name))
}

#[test]
fn a_span_with_everything() {
    let body = json::to_protobuf(
        Request::Traces,
        br#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
          "scopeSpans":[{"scope":{"name":"lib","version":"2"},"spans":[
            {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173",
             "traceState":"a=b","flags":257,"name":"pay","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"5",
             "endTimeUnixNano":9,"attributes":[{"key":"m","value":{"kvlistValue":{"values":[
               {"key":"x","value":{"intValue":"1"}},{"key":"y","value":{"boolValue":false}}]}}}],
             "droppedAttributesCount":1,"events":[{"timeUnixNano":"6","name":"e","droppedAttributesCount":2,
               "attributes":[{"key":"k","value":{"doubleValue":0.5}}]}],"droppedEventsCount":3,
             "links":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000002","traceState":"c",
               "flags":1,"attributes":[{"key":"l","value":{"bytesValue":"AQ=="}}],"droppedAttributesCount":4}],
             "droppedLinksCount":5,"status":{"message":"no","code":2}},
            {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"","name":"lost"},
            {"traceId":"5b8e","spanId":"eee19b7ec3c1b174"},
            {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b175",
             "startTimeUnixNano":"18446744073709551615"}]}]}]}"#,
    )
    .expect("valid JSON");
    let (decoded, lines) = lines(&body);
    assert_eq!((decoded.spans, decoded.rejected), (1, 3));
    assert_eq!(decoded.offence.as_deref(), Some("a span has no id of 8 bytes"));
    let mut trace_id = [0; 16];
    trace_id[15] = 1;
    let expected = Span {
        trace_id: 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes(),
        span_id: 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes(),
        parent_id: 0xeee1_9b7e_c3c1_b173_u64.to_be_bytes(),
        trace_state: "a=b".into(),
        flags: 257,
        name: "pay".into(),
        kind: SpanKind::Server,
        start_ns: 5,
        end_ns: 9,
        status: SpanStatus::Error,
        status_message: "no".into(),
        attributes: vec![("m.x".into(), LogValue::Int(1)), ("m.y".into(), LogValue::Bool(false))],
        dropped_attributes: 1,
        events: vec![SpanEvent {
            time_ns: 6,
            name: "e".into(),
            attributes: vec![("k".into(), LogValue::Float(0.5))],
            dropped_attributes: 2,
        }],
        dropped_events: 3,
        links: vec![SpanLink {
            trace_id,
            span_id: [0, 0, 0, 0, 0, 0, 0, 2],
            trace_state: "c".into(),
            flags: 1,
            attributes: vec![("l".into(), LogValue::Bytes(vec![1].into()))],
            dropped_attributes: 4,
        }],
        dropped_links: 5,
    };
    assert_eq!(lines[1], format!("{expected:?}"));
}

#[test]
fn enumerations_are_numbers_or_their_names() {
    let kind = |kind: &str| {
        let text = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"00000000000000000000000000000001",
                "spanId":"0000000000000001","kind":{kind}}}]}}]}}]}}"#
        );
        json::to_protobuf(Request::Traces, text.as_bytes()).map(|body| lines(&body).1[1].clone())
    };
    assert_eq!(kind("3"), kind("\"SPAN_KIND_CLIENT\""));
    assert_eq!(kind("99"), kind("0"));
    assert!(kind("\"SPAN_KIND_FRIEND\"").is_err());
}

#[test]
fn fixtures_of_others() {
    let Some(dir) = testdata("otlp") else {
        eprintln!("PHAROS_TESTDATA is not set: the fixtures of OTLP are skipped");
        return;
    };
    for (name, spans) in [("trace.json", 1), ("jaeger-otel_traces_01.json", 4)] {
        let text = std::fs::read(dir.join(name)).expect("the fixture is there");
        let body = json::to_protobuf(Request::Traces, &text).expect("valid JSON");
        let (decoded, found) = lines(&body);
        assert_eq!((decoded.spans, decoded.rejected), (spans, 0), "{name}");
        assert_eq!(lines(&again(&body)).1, found, "{name}");
    }
    let wire = dir.join("../wire");
    for (name, is_json) in [
        ("otlp_grpc_python_1.45/TraceService-001.bin", false),
        ("otlp_http_python_1.45/v1-traces-001.bin", false),
        ("otlp_http_json_js_0.223/v1-traces-001.bin", true),
    ] {
        let body = std::fs::read(wire.join(name)).expect("the capture is there");
        let body =
            if is_json { json::to_protobuf(Request::Traces, &body).expect("valid JSON") } else { body };
        let (decoded, found) = lines(&body);
        assert!(decoded.spans > 0 && decoded.rejected == 0, "{name}: {decoded:?}");
        assert_eq!(lines(&again(&body)).1, found, "{name}");
    }
}

#[test]
fn spans_of_one_stream_share_it() {
    let mut encoder = SpanEncoder::default();
    let stream = LogStream { scope_name: "a".into(), ..LogStream::default() };
    let span = Span { trace_id: [1; 16], span_id: [1; 8], ..Span::default() };
    for stream in [&stream, &stream, &LogStream::default(), &stream] {
        encoder.stream(stream);
        encoder.span(&span);
    }
    let (decoded, lines) = lines(&encoder.finish());
    assert_eq!((decoded.spans, lines.len()), (4, 7));
}

fn value() -> impl Strategy<Value = LogValue<'static>> {
    let leaf = prop_oneof![
        Just(LogValue::Empty),
        "\\PC{0,8}".prop_map(|text| LogValue::String(text.into())),
        any::<i64>().prop_map(LogValue::Int),
        any::<i32>().prop_map(|number| LogValue::Float(f64::from(number) / 8.0)),
        any::<bool>().prop_map(LogValue::Bool),
        proptest::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| LogValue::Bytes(bytes.into())),
        Just(LogValue::Map(Vec::new())),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| proptest::collection::vec(inner, 0..3).prop_map(LogValue::List))
}

fn attributes() -> impl Strategy<Value = Vec<(Cow<'static, str>, LogValue<'static>)>> {
    proptest::collection::vec(("[a-z.]{0,6}".prop_map(Cow::Owned), value()), 0..4)
}

fn span() -> impl Strategy<Value = Span<'static>> {
    let ids = (any::<u128>(), any::<u64>(), any::<u64>(), any::<u32>());
    let when = (0..i64::MAX, 0..i64::MAX, 0..6u64, 0..3u8, "\\PC{0,6}");
    let event = (0..i64::MAX, "\\PC{0,4}", attributes(), any::<u32>()).prop_map(
        |(time_ns, name, attributes, dropped_attributes)| SpanEvent {
            time_ns,
            name: name.into(),
            attributes,
            dropped_attributes,
        },
    );
    let link = (any::<u128>(), any::<u64>(), any::<u32>(), attributes()).prop_map(
        |(trace, span, flags, attributes)| SpanLink {
            trace_id: trace.to_be_bytes(),
            span_id: span.to_be_bytes(),
            trace_state: "s".into(),
            flags,
            attributes,
            dropped_attributes: flags / 2,
        },
    );
    let inside =
        (attributes(), proptest::collection::vec(event, 0..3), proptest::collection::vec(link, 0..3));
    (ids, when, inside).prop_map(
        |(
            (trace, id, parent, dropped),
            (start_ns, end_ns, kind, status, text),
            (attributes, events, links),
        )| Span {
            trace_id: (trace | 1).to_be_bytes(),
            span_id: (id | 1).to_be_bytes(),
            parent_id: parent.to_be_bytes(),
            trace_state: text.clone().into(),
            flags: dropped,
            name: text.clone().into(),
            kind: kind_of(kind),
            start_ns,
            end_ns,
            status: [SpanStatus::Unset, SpanStatus::Ok, SpanStatus::Error][usize::from(status)],
            status_message: text.into(),
            attributes,
            dropped_attributes: dropped,
            events,
            dropped_events: dropped / 2,
            links,
            dropped_links: dropped / 3,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(spans in proptest::collection::vec(span(), 1..4), resource in attributes()) {
        let stream = LogStream { resource, scope_version: "1".into(), ..LogStream::default() };
        let mut encoder = SpanEncoder::default();
        encoder.stream(&stream);
        let mut expected = vec![format!("{stream:?}")];
        for span in &spans {
            encoder.span(span);
            expected.push(format!("{span:?}"));
        }
        prop_assert_eq!(lines(&encoder.finish()).1, expected);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &mut Lines::default());
    }
}
