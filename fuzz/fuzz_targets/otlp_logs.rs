//! An export of logs, in protobuf or in JSON: taken or refused. What JSON becomes is a message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::logs::{LogRecord, LogSink, LogStream};
use protocol::otlp::json::{Request, to_protobuf};
use protocol::otlp::logs::decode;

#[derive(Default)]
struct Count(u64);

impl LogSink for Count {
    fn stream(&mut self, _: &LogStream<'_>) {}

    fn record(&mut self, record: &LogRecord<'_>) {
        assert_ne!(record.effective_ns(), 0);
        self.0 += 1;
    }
}

fuzz_target!(|body: &[u8]| {
    let mut count = Count::default();
    if let Ok(decoded) = decode(body, 1, &mut count) {
        assert_eq!(decoded.records, count.0);
    }
    if let Ok(message) = to_protobuf(Request::Logs, body) {
        decode(&message, 1, &mut Count::default()).expect("what JSON becomes is a message");
    }
    let _ = to_protobuf(Request::Metrics, body);
});
