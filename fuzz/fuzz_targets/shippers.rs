//! What log shippers send: taken or refused, with as many records as were counted, all of them with a time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::logs::{LogRecord, LogSink, LogStream};
use protocol::shippers::fields::FieldNames;
use protocol::shippers::{elastic, lines, loki, syslog};

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
    let taken = lines::decode(body, FieldNames::default(), &["app"], 1, &mut count);
    assert_eq!(taken.records, count.0);
    let mut count = Count::default();
    if let Ok(bulk) = elastic::decode(body, "logs", 1, &mut count) {
        assert_eq!((bulk.taken.records, bulk.outcomes.len() as u64), (count.0, count.0 + bulk.taken.rejected));
    }
    let mut count = Count::default();
    if let Ok(taken) = loki::decode_protobuf(body, &mut count) {
        assert_eq!(taken.records, count.0);
    }
    let mut count = Count::default();
    if let Ok(taken) = loki::decode_json(body, &mut count) {
        assert_eq!(taken.records, count.0);
    }
    assert_ne!(syslog::parse(body, 1).record.effective_ns(), 0);
    let mut framer = syslog::Framer::default();
    for piece in body.chunks(7) {
        if framer.push(piece, |_| ()).is_err() {
            return;
        }
    }
    framer.finish(|_| ());
});
