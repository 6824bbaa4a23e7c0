//! Spans by OTLP and Zipkin, and TraceQL: taken or refused. What is taken is written and read as the same; what is printed
//! parses to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::logs::LogStream;
use protocol::otlp::json::{Request, to_protobuf};
use protocol::otlp::traces::{SpanEncoder, decode};
use protocol::shippers::zipkin;
use protocol::spans::{Span, SpanSink};
use query::traces::traceql::parse;

#[derive(Default)]
struct Count(u64);

impl SpanSink for Count {
    fn stream(&mut self, _: &LogStream<'_>) {}

    fn span(&mut self, span: &Span<'_>) {
        assert!(span.trace_id != [0; 16] && span.span_id != [0; 8]);
        self.0 += 1;
    }
}

fuzz_target!(|body: &[u8]| {
    let mut encoder = SpanEncoder::default();
    if let Ok(decoded) = decode(body, &mut encoder) {
        let again = decode(&encoder.finish(), &mut Count::default()).expect("what is written is read");
        assert_eq!((again.spans, again.rejected), (decoded.spans, 0));
    }
    if let Ok(message) = to_protobuf(Request::Traces, body) {
        decode(&message, &mut Count::default()).expect("what JSON becomes is a message");
    }
    let mut count = Count::default();
    if let Ok(taken) = zipkin::decode_json(body, &mut count) {
        assert_eq!(taken.records, count.0);
    }
    let _ = zipkin::decode_protobuf(body, &mut Count::default());
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(query) = parse(text)
    {
        assert_eq!(parse(&query.to_string()), Ok(query));
    }
});
