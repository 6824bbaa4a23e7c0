//! Lists of spans for people to read, and the spans that become of them; both encodings of one list; bytes that nobody
//! meant.

use proptest::prelude::{any, proptest};

use super::*;
use crate::varint::{write_prefixed, write_u64};

#[derive(Default)]
struct Found {
    services: Vec<String>,
    spans: Vec<Span<'static>>,
}

impl SpanSink for Found {
    fn stream(&mut self, stream: &LogStream<'_>) {
        let service = stream.resource.first().map(|(_, value)| value.text().into_owned());
        self.services.push(format!(
            "{} {}@{}",
            service.unwrap_or_default(),
            stream.scope_name,
            stream.scope_version
        ));
    }

    fn span(&mut self, span: &Span<'_>) {
        let owned = |attributes: &[(Cow<'_, str>, LogValue<'_>)]| {
            attributes
                .iter()
                .map(|(key, value)| (Cow::Owned(key.clone().into_owned()), value.clone().into_owned()))
                .collect()
        };
        let event = |event: &SpanEvent<'_>| SpanEvent {
            time_ns: event.time_ns,
            name: Cow::Owned(event.name.clone().into_owned()),
            ..SpanEvent::default()
        };
        self.spans.push(Span {
            name: Cow::Owned(span.name.clone().into_owned()),
            trace_state: Cow::Owned(span.trace_state.clone().into_owned()),
            status_message: Cow::Owned(span.status_message.clone().into_owned()),
            attributes: owned(&span.attributes),
            events: span.events.iter().map(event).collect(),
            links: Vec::new(),
            ..*span
        });
    }
}

fn json(text: &str) -> (Taken, Found) {
    let mut found = Found::default();
    let taken = decode_json(text.as_bytes(), &mut found).expect("a list of spans");
    (taken, found)
}

fn attributes(span: &Span<'_>) -> String {
    let pairs = span.attributes.iter().map(|(key, value)| format!("{key}={}", value.text()));
    pairs.collect::<Vec<_>>().join(" ")
}

const CALL: &str = r#"[
  {"traceId":"000000000000004d1e00c0db9010db86","id":"4d1e00c0db9010db","kind":"CLIENT","name":"get /api",
   "timestamp":1502787600000000,"duration":150000,"localEndpoint":{"serviceName":"frontend","ipv4":"127.0.0.1","port":80},
   "remoteEndpoint":{"serviceName":"backend","ipv4":"192.168.99.101","port":9000},
   "annotations":[{"timestamp":1502787600000100,"value":"ws"}],
   "tags":{"http.method":"GET","otel.scope.name":"lib","w3c.tracestate":"a=b"},"debug":true},
  {"traceId":"4d1e00c0db9010db86","id":"4d1e00c0db9010db","parentId":"1","kind":"SERVER","name":"get /api","shared":true,
   "timestamp":1502787600050000,"duration":100000,"localEndpoint":{"serviceName":"backend","ipv6":"2001:db8::c001"},
   "tags":{"error":"it broke"}}]"#;

#[test]
fn both_parts_of_a_call() {
    let (taken, found) = json(CALL);
    assert_eq!((taken.records, taken.rejected), (2, 0));
    assert_eq!(found.services, ["frontend lib@", "backend @"]);
    let [client, server] = &found.spans[..] else { panic!("two spans") };
    assert_eq!(client.trace_id, server.trace_id);
    assert_eq!(client.span_id, server.span_id);
    assert_eq!((client.kind, server.kind), (SpanKind::Client, SpanKind::Server));
    assert_eq!((client.start_ns, client.duration_ns()), (1_502_787_600_000_000_000, 150_000_000));
    assert_eq!((client.status, client.trace_state.as_ref()), (SpanStatus::Unset, "a=b"));
    assert_eq!((client.events[0].name.as_ref(), client.events[0].time_ns), ("ws", 1_502_787_600_000_100_000));
    assert_eq!(
        attributes(client),
        "http.method=GET peer.service=backend net.host.ip=127.0.0.1 net.host.port=80 net.peer.ip=192.168.99.101 \
         net.peer.port=9000 zipkin.debug=true"
    );
    assert_eq!(server.parent_id, [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!((server.status, server.status_message.as_ref()), (SpanStatus::Error, "it broke"));
    assert_eq!(attributes(server), "error=it broke net.host.ip=2001:db8::c001 zipkin.shared=true");
}

#[test]
fn states_that_tags_name() {
    let of = |tags: &str| {
        let (_, found) = json(&format!(r#"[{{"traceId":"1","id":"2","timestamp":1,"tags":{{{tags}}}}}]"#));
        let span = &found.spans[0];
        (span.status, span.status_message.clone().into_owned(), attributes(span))
    };
    assert_eq!(of(r#""error":"true""#), (SpanStatus::Error, String::new(), String::new()));
    assert_eq!(of(r#""error":"false""#), (SpanStatus::Unset, String::new(), "error=false".to_owned()));
    let described = of(r#""otel.status_code":"ERROR","otel.status_description":"no","error":"true""#);
    assert_eq!(described, (SpanStatus::Error, "no".to_owned(), String::new()));
    assert_eq!(of(r#""otel.status_code":"OK""#), (SpanStatus::Ok, String::new(), String::new()));
}

#[test]
fn spans_that_can_not_be_kept_are_left_out() {
    let check = |span: &str, why: &str| {
        let (taken, found) = json(&format!(r#"[{span},{{"traceId":"1","id":"2","timestamp":1}}]"#));
        assert_eq!((taken.records, taken.rejected, found.spans.len()), (1, 1, 1), "{span}");
        assert_eq!(taken.offence.as_deref(), Some(why));
    };
    check(r#"{"id":"2","timestamp":1}"#, "a span has no traceId");
    check(r#"{"traceId":"1","timestamp":1}"#, "a span has no id");
    check(r#"{"traceId":"1","id":"2"}"#, "span 0000000000000002 has no timestamp");
    check(r#"{"traceId":"xyz","id":"2"}"#, "a span's \"traceId\" is no id: \"xyz\"");
    check(
        r#"{"traceId":"1","id":"2","timestamp":"soon"}"#,
        "a span's \"timestamp\" is no positive number: soon",
    );
    check(
        r#"{"traceId":"1","id":"2","timestamp":18446744073709551615}"#,
        "span 0000000000000002 lies beyond the year 2262",
    );
    check("7", "a span is no object");
    let (_, found) = json(
        r#"[{"traceId":"1","id":"2","annotations":[{"timestamp":9,"value":"b"},{"timestamp":7,"value":"a"}]}]"#,
    );
    assert_eq!(found.spans[0].start_ns, 7000);
    assert!(decode_json(b"{}", &mut Found::default()).is_err());
    assert!(decode_json(b"[{}", &mut Found::default()).is_err());
}

#[test]
fn protobuf_says_the_same() {
    fn bytes(out: &mut Vec<u8>, field: u8, content: &[u8]) {
        out.push(field << 3 | 2);
        write_prefixed(out, content);
    }
    fn fixed64(out: &mut Vec<u8>, field: u8, number: u64) {
        out.push(field << 3 | 1);
        out.extend_from_slice(&number.to_le_bytes());
    }
    fn varint(out: &mut Vec<u8>, field: u8, number: u64) {
        out.push(field << 3);
        write_u64(out, number);
    }
    fn endpoint(service: &str, ipv4: [u8; 4], port: u64) -> Vec<u8> {
        let mut out = Vec::new();
        bytes(&mut out, 1, service.as_bytes());
        bytes(&mut out, 2, &ipv4);
        varint(&mut out, 4, port);
        out
    }
    let mut span = Vec::new();
    bytes(&mut span, 1, &[0, 0, 0, 0, 0, 0, 0, 0x4d, 0x1e, 0, 0xc0, 0xdb, 0x90, 0x10, 0xdb, 0x86]);
    bytes(&mut span, 3, &[0x4d, 0x1e, 0, 0xc0, 0xdb, 0x90, 0x10, 0xdb]);
    varint(&mut span, 4, 1);
    bytes(&mut span, 5, b"get /api");
    fixed64(&mut span, 6, 1_502_787_600_000_000);
    varint(&mut span, 7, 150_000);
    bytes(&mut span, 8, &endpoint("frontend", [127, 0, 0, 1], 80));
    bytes(&mut span, 9, &endpoint("backend", [192, 168, 99, 101], 9000));
    let mut annotation = Vec::new();
    fixed64(&mut annotation, 1, 1_502_787_600_000_100);
    bytes(&mut annotation, 2, b"ws");
    bytes(&mut span, 10, &annotation);
    for (key, value) in [("http.method", "GET"), ("otel.scope.name", "lib"), ("w3c.tracestate", "a=b")] {
        let mut tag = Vec::new();
        bytes(&mut tag, 1, key.as_bytes());
        bytes(&mut tag, 2, value.as_bytes());
        bytes(&mut span, 11, &tag);
    }
    varint(&mut span, 12, 1);
    let mut list = Vec::new();
    bytes(&mut list, 1, &span);
    let mut long = Vec::new();
    bytes(&mut long, 1, &[1; 17]);
    bytes(&mut list, 1, &long);
    let mut found = Found::default();
    let taken = decode_protobuf(&list, &mut found).expect("a list");
    assert_eq!(found.spans, json(CALL).1.spans[..1]);
    assert_eq!((taken.records, taken.rejected), (1, 1));
    assert_eq!(taken.offence.as_deref(), Some("a span's trace id has 17 bytes"));
    for cut in 0..list.len() {
        // Never panics; what is cut inside of a message is refused as a whole.
        let _ = decode_protobuf(&list[..cut], &mut Found::default());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_protobuf(&bytes, &mut Found::default());
        let _ = decode_json(&bytes, &mut Found::default());
    }
}
