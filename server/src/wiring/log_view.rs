//! A shard's logs and spans as queries see them: `query`'s sources over `storage`'s snapshot.
//!
//! The two say the same in their own types; nothing is copied on the way.

use std::ops::ControlFlow;

use protocol::error::ErrorKind;
use protocol::ids::ShardId;
use protocol::logs::{FieldValues, LogField, LogFilter, LogScan, LogStream, RowSignal, TimestampNs};
use query::logs::source::{LogCount, LogKinds, LogRead, LogSource, VisitRecord};
use query::source::SourceError;
use query::traces::source::{SpanSource, VisitSpan};
use storage::logs::scan::{LogCounting, LogReadError, LogReader};

use super::view::ShardView;

fn reader<'a>(read: &LogRead<'a>, signal: RowSignal) -> LogReader<'a> {
    LogReader { signal, tenant: read.tenant, should_stop: read.should_stop }
}

impl ShardView {
    fn logs_failed(&self, error: LogReadError) -> SourceError {
        match error {
            LogReadError::Filter(error) => SourceError::new(ErrorKind::InvalidInput, error.to_string()),
            LogReadError::Storage(error) => self.failed(&error),
        }
    }

    fn counts(
        &self,
        signal: RowSignal,
        read: &LogRead<'_>,
        count: &LogCount,
        visit: &mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let counting = LogCounting {
            start_ns: count.start_ns,
            end_ns: count.end_ns,
            filter: &count.filter,
            bucket_ns: count.bucket_ns,
            by: &count.by,
        };
        let visited = self.snapshot.log_counts(reader(read, signal), &counting, visit);
        visited.map_err(|error| self.logs_failed(error))
    }

    fn row_fields(
        &self,
        signal: RowSignal,
        read: &LogRead<'_>,
        range: (TimestampNs, TimestampNs),
        filter: &LogFilter,
        visit: &mut dyn FnMut(&LogField, LogKinds, u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let each = &mut |found: &storage::logs::scan::FieldCount| {
            visit(&found.field, LogKinds(found.kinds), found.records)
        };
        let visited = self.snapshot.log_fields(reader(read, signal), range, filter, each);
        visited.map_err(|error| self.logs_failed(error))
    }
}

impl LogSource for ShardView {
    fn shard(&self) -> ShardId {
        self.shard
    }

    fn scan(
        &self,
        read: &LogRead<'_>,
        scan: &LogScan,
        visit: &mut VisitRecord<'_>,
    ) -> Result<(), SourceError> {
        self.snapshot
            .log_records(reader(read, read.signal), scan, visit)
            .map_err(|error| self.logs_failed(error))
    }

    fn streams(
        &self,
        read: &LogRead<'_>,
        start_ns: TimestampNs,
        end_ns: TimestampNs,
        visit: &mut dyn FnMut(&LogStream<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let visited = self.snapshot.log_streams(reader(read, read.signal), (start_ns, end_ns), visit);
        visited.map_err(|error| self.logs_failed(error))
    }

    fn count(
        &self,
        read: &LogRead<'_>,
        count: &LogCount,
        visit: &mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.counts(read.signal, read, count, visit)
    }

    fn values(
        &self,
        read: &LogRead<'_>,
        range: (TimestampNs, TimestampNs),
        filter: &LogFilter,
        field: &LogField,
        visit: &mut dyn FnMut(FieldValues<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let visited = self.snapshot.log_values(reader(read, read.signal), range, filter, field, visit);
        visited.map_err(|error| self.logs_failed(error))
    }

    fn fields(
        &self,
        read: &LogRead<'_>,
        start_ns: TimestampNs,
        end_ns: TimestampNs,
        filter: &LogFilter,
        visit: &mut dyn FnMut(&LogField, LogKinds, u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.row_fields(read.signal, read, (start_ns, end_ns), filter, visit)
    }
}

impl SpanSource for ShardView {
    fn spans(
        &self,
        read: &LogRead<'_>,
        scan: &LogScan,
        visit: &mut VisitSpan<'_>,
    ) -> Result<(), SourceError> {
        let reader = reader(read, RowSignal::Spans);
        self.snapshot.spans(reader, scan, visit).map_err(|error| self.logs_failed(error))
    }

    fn trace(
        &self,
        read: &LogRead<'_>,
        trace_id: &[u8; 16],
        visit: &mut VisitSpan<'_>,
    ) -> Result<(), SourceError> {
        let reader = reader(read, RowSignal::Spans);
        self.snapshot.trace(reader, trace_id, visit).map_err(|error| self.logs_failed(error))
    }

    fn span_counts(
        &self,
        read: &LogRead<'_>,
        count: &LogCount,
        visit: &mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.counts(RowSignal::Spans, read, count, visit)
    }

    fn span_fields(
        &self,
        read: &LogRead<'_>,
        range: (TimestampNs, TimestampNs),
        filter: &LogFilter,
        visit: &mut dyn FnMut(&LogField, LogKinds, u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.row_fields(RowSignal::Spans, read, range, filter, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use protocol::command::{CommandHeader, encode_write};
    use protocol::ids::{LogIndex, TenantId};
    use protocol::logs::batch::{BatchKey, LogBatchBuilder};
    use protocol::logs::{LogColumns, LogRecord, LogSink, LogTest, LogValue};
    use protocol::memory::MemoryLedger;
    use query::logs::source::{count_by_scan, fields_by_scan, values_by_scan};
    use query::source::ShardSource;
    use storage::engine::{LogPosition, ShardOptions, ShardStore};
    use storage::fs::mem::MemFs;

    use super::*;

    fn view() -> ShardView {
        let tenant = TenantId::default();
        let mut builder = LogBatchBuilder::new();
        let name = LogValue::String("checkout".into());
        builder.stream(&LogStream { resource: vec![("service.name".into(), name)], ..LogStream::default() });
        for number in 0..20 {
            builder.record(&LogRecord {
                time_ns: 1 + number * 7 % 20,
                severity: if number % 5 == 0 { 17 } else { 9 },
                body: LogValue::String(format!("user {number} came").into()),
                attributes: vec![("number".into(), LogValue::Int(number)), ("empty".into(), LogValue::Empty)],
                ..LogRecord::default()
            });
        }
        let batch = builder.finish(&tenant, BatchKey([1; 16])).unwrap().remove(0).1;
        let shard = ShardId(1);
        let store =
            ShardStore::open(MemFs::new(1), Path::new("/shard"), shard, ShardOptions::default(), LogIndex(0))
                .unwrap();
        let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: 0 };
        store.apply(LogPosition { index: LogIndex(1), log_id: b"1" }, &encode_write(header, &[batch]));
        ShardView { shard, snapshot: store.snapshot(), memory: MemoryLedger::default() }
    }

    #[test]
    fn what_is_counted_fast_is_what_a_scan_counts() {
        let view = view();
        let logs = view.logs().unwrap();
        let tenant = TenantId::default();
        let read = LogRead { signal: RowSignal::Logs, tenant: &tenant, should_stop: &|| false };
        let filter = LogFilter::Field(LogField::Body, LogTest::Prefix("user 1".to_owned()));
        let count = LogCount {
            start_ns: 3,
            end_ns: 18,
            filter: filter.clone(),
            bucket_ns: 4,
            by: vec![LogField::Severity, LogField::Attribute("service.name".to_owned())],
        };
        let counts = |count_all: &dyn Fn(&mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>)| {
            let mut sums = std::collections::BTreeMap::new();
            count_all(&mut |bucket, labels, records| {
                let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
                *sums.entry((bucket, labels)).or_insert(0) += records;
                ControlFlow::Continue(())
            });
            sums
        };
        let fast = counts(&|visit| logs.count(&read, &count, visit).unwrap());
        let slow = counts(&|visit| count_by_scan(logs, &read, &count, visit).unwrap());
        assert!(!fast.is_empty());
        assert_eq!(fast, slow);
        let fields = |list: &dyn Fn(&mut dyn FnMut(&LogField, LogKinds, u64) -> ControlFlow<()>)| {
            let mut found = std::collections::BTreeMap::new();
            list(&mut |field, kinds, records| {
                let known: &mut (u8, u64) = found.entry(field.clone()).or_default();
                *known = (known.0 | kinds.0, known.1 + records);
                ControlFlow::Continue(())
            });
            found
        };
        let fast = fields(&|visit| logs.fields(&read, 3, 18, &filter, visit).unwrap());
        let slow = fields(&|visit| fields_by_scan(logs, &read, (3, 18), &filter, visit).unwrap());
        assert!(fast.contains_key(&LogField::ResourceAttribute("service.name".to_owned())));
        assert_eq!(fast, slow);
        for field in ["number", "empty", "service.name", "absent"] {
            let field = LogField::Attribute(field.to_owned());
            type VisitValues<'v> = dyn FnMut(FieldValues<'_>) -> ControlFlow<()> + 'v;
            let values = |list: &dyn Fn(&mut VisitValues<'_>)| {
                let (mut found, mut missing) = (std::collections::BTreeMap::<String, u64>::new(), 0);
                list(&mut |values| {
                    match values {
                        FieldValues::Ints(ints) => {
                            ints.iter().for_each(|n| *found.entry(format!("int {n}")).or_default() += 1);
                        }
                        FieldValues::Floats(floats) => {
                            floats.iter().for_each(|n| *found.entry(format!("float {n}")).or_default() += 1);
                        }
                        FieldValues::Text(text, count) => {
                            *found.entry(format!("text {text}")).or_default() += count
                        }
                        FieldValues::Missing(count) => missing += count,
                    }
                    ControlFlow::Continue(())
                });
                (found, missing)
            };
            let fast = values(&|visit| logs.values(&read, (3, 18), &filter, &field, visit).unwrap());
            let slow = values(&|visit| values_by_scan(logs, &read, (3, 18), &filter, &field, visit).unwrap());
            assert_eq!(fast, slow, "{field:?}");
            assert!(fast.1 > 0 || !fast.0.is_empty());
        }
        let mut streams = 0;
        let visit = &mut |stream: &LogStream<'_>| {
            assert_eq!(stream.resource[0].1, LogValue::String("checkout".into()));
            streams += 1;
            ControlFlow::Continue(())
        };
        logs.streams(&read, 3, 18, visit).unwrap();
        assert_eq!(streams, 1);
    }

    #[test]
    fn an_expression_that_does_not_compile_is_the_clients_fault() {
        let view = view();
        let tenant = TenantId::default();
        let read = LogRead { signal: RowSignal::Logs, tenant: &tenant, should_stop: &|| false };
        let filter = LogFilter::Field(LogField::Body, LogTest::Regex("(".to_owned()));
        let scan = LogScan {
            start_ns: 0,
            end_ns: 9,
            filter,
            newest_first: true,
            columns: LogColumns::All,
            expected: usize::MAX,
        };
        let error = LogSource::scan(&view, &read, &scan, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidInput);
    }
}
