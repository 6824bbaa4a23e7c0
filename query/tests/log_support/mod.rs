//! Logs and spans in memory: shards that answer by looking at every record, and a cluster of them.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use protocol::error::ErrorKind;
use protocol::ids::{ShardId, TenantId};
use protocol::labels::Labels;
use protocol::logs::matching::CompiledFilter;
use protocol::logs::value::id_text;
use protocol::logs::{LogColumns, LogField, LogFilter, LogRecord, LogScan, LogStream, LogTest, LogValue};
use protocol::matcher::Matcher;
use protocol::spans::{Span, row};
use query::logs::source::{LogCount, LogKinds, LogRead, LogSource, VisitRecord, fields_by_scan};
use query::source::{
    Cluster, Exemplar, MetricMetadata, ReadContext, SeriesColumns, ShardAnswer, ShardSource, SourceError,
    TimeRange,
};
use query::traces::source::{SpanSource, VisitSpan};
use query::{CancelFlag, Limits, run_fragment};

pub type Record = (LogStream<'static>, LogRecord<'static>);

/// A shard: records in the order in which they were written.
#[derive(Default)]
pub struct LogShard {
    pub shard: u16,
    pub records: Vec<Record>,
}

/// What a reader gets who looks at some fields only: everything else is left out, so that a reader who looks at more
/// than it said is found out.
fn only(fields: &[LogField], stream: &LogStream<'_>, record: &LogRecord<'_>) -> Record {
    let keeps = |field: LogField| fields.contains(&field);
    let any = keeps(LogField::Any);
    let attribute = |name: &str, place: fn(String) -> LogField| {
        keeps(LogField::Attribute(name.to_owned())) || keeps(place(name.to_owned()))
    };
    let mut stream = stream.clone().into_owned();
    stream.scope_attributes.retain(|(key, _)| attribute(key, LogField::ScopeAttribute));
    if !keeps(LogField::ScopeName) {
        stream.scope_name = Cow::Borrowed("");
    }
    let mut record = record.clone().into_owned();
    // What rows of spans hold under names of their own.
    let of_span = |key: &str| {
        key == row::PARENT && keeps(LogField::ParentId)
            || key == row::STATUS_MESSAGE && keeps(LogField::StatusMessage)
            || key == row::EVENTS && keeps(LogField::Events)
    };
    record.attributes.retain(|(key, _)| any || attribute(key, LogField::RecordAttribute) || of_span(key));
    if !(any || keeps(LogField::Body)) {
        record.body = LogValue::Empty;
    }
    if ![LogField::Severity, LogField::SpanKind, LogField::SpanStatus].into_iter().any(keeps) {
        record.severity = 0;
    }
    if !keeps(LogField::SeverityText) {
        record.severity_text = Cow::Borrowed("");
    }
    if !keeps(LogField::TraceId) {
        record.trace_id = [0; 16];
    }
    if !keeps(LogField::SpanId) {
        record.span_id = [0; 8];
    }
    (stream, record)
}

impl LogSource for LogShard {
    fn shard(&self) -> ShardId {
        ShardId(self.shard)
    }

    fn scan(
        &self,
        read: &LogRead<'_>,
        scan: &LogScan,
        visit: &mut VisitRecord<'_>,
    ) -> Result<(), SourceError> {
        let filter = CompiledFilter::new(&scan.filter)
            .map_err(|error| SourceError::new(ErrorKind::InvalidInput, error.to_string()))?;
        let mut records: Vec<&Record> = self
            .records
            .iter()
            .filter(|(_, record)| (scan.start_ns..=scan.end_ns).contains(&record.effective_ns()))
            .collect();
        records.sort_by_key(|(_, record)| record.effective_ns());
        if scan.newest_first {
            records.reverse();
        }
        for (stream, record) in records {
            if (read.should_stop)() {
                return Ok(());
            }
            if !filter.matches(stream, record) {
                continue;
            }
            let visited = match &scan.columns {
                LogColumns::All => visit(stream, record),
                LogColumns::Fields(fields) => {
                    let (stream, record) = only(fields, stream, record);
                    visit(&stream, &record)
                }
            };
            if visited.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn streams(
        &self,
        _: &LogRead<'_>,
        start_ns: i64,
        end_ns: i64,
        visit: &mut dyn FnMut(&LogStream<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        for (stream, record) in &self.records {
            if (start_ns..=end_ns).contains(&record.effective_ns()) && visit(stream).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Spans are records of their own shards, as they are rows of the store.
impl SpanSource for LogShard {
    fn spans(
        &self,
        read: &LogRead<'_>,
        scan: &LogScan,
        visit: &mut VisitSpan<'_>,
    ) -> Result<(), SourceError> {
        let columns = match &scan.columns {
            LogColumns::Fields(fields) => LogColumns::Fields(fields.iter().map(row::row_field).collect()),
            LogColumns::All => LogColumns::All,
        };
        let scan = LogScan { filter: row::row_filter(&scan.filter), columns, ..scan.clone() };
        self.scan(read, &scan, &mut |stream, record| {
            visit(stream, &row::span_of(record.clone()).expect("rows of spans"))
        })
    }

    fn trace(
        &self,
        read: &LogRead<'_>,
        trace_id: &[u8; 16],
        visit: &mut VisitSpan<'_>,
    ) -> Result<(), SourceError> {
        let filter = LogFilter::Field(LogField::TraceId, LogTest::Equals(id_text(trace_id)));
        let (start_ns, end_ns) = (i64::MIN, i64::MAX);
        let scan = LogScan {
            start_ns,
            end_ns,
            filter,
            newest_first: false,
            columns: LogColumns::All,
            expected: usize::MAX,
        };
        SpanSource::spans(self, read, &scan, visit)
    }

    fn span_counts(
        &self,
        read: &LogRead<'_>,
        count: &LogCount,
        visit: &mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let scan = LogScan {
            start_ns: count.start_ns,
            end_ns: count.end_ns,
            filter: row::row_filter(&count.filter),
            newest_first: false,
            columns: LogColumns::All,
            expected: usize::MAX,
        };
        let by: Vec<LogField> = count.by.iter().map(row::row_field).collect();
        self.scan(read, &scan, &mut |stream, record| {
            let texts: Vec<String> =
                by.iter().map(|field| field.first_text(stream, record).unwrap_or_default()).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            visit(count.bucket(record.effective_ns()), &texts, 1)
        })
    }

    fn span_fields(
        &self,
        read: &LogRead<'_>,
        range: (i64, i64),
        filter: &LogFilter,
        visit: &mut dyn FnMut(&LogField, LogKinds, u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        fields_by_scan(
            self,
            read,
            range,
            &row::row_filter(filter),
            &mut |field, kinds, records| match field {
                LogField::RecordAttribute(name) => match row::span_name(name) {
                    Some(name) => visit(&LogField::RecordAttribute(name.to_owned()), kinds, records),
                    None => ControlFlow::Continue(()),
                },
                field => visit(field, kinds, records),
            },
        )
    }
}

impl ShardSource for LogShard {
    fn logs(&self) -> Option<&dyn LogSource> {
        Some(self)
    }

    fn spans(&self) -> Option<&dyn SpanSource> {
        Some(self)
    }

    fn select(
        &self,
        _: &TenantId,
        _: &[Matcher],
        _: TimeRange,
        _: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        Ok(())
    }

    fn series(
        &self,
        _: &TenantId,
        _: &[Matcher],
        _: TimeRange,
        _: &mut dyn FnMut(&Labels) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        Ok(())
    }

    fn label_names(&self, _: &TenantId, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        _: &[Matcher],
        _: TimeRange,
    ) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: &TenantId, _: Option<&str>) -> Result<Vec<MetricMetadata>, SourceError> {
        Ok(Vec::new())
    }

    fn exemplars(
        &self,
        _: &TenantId,
        _: &[Matcher],
        _: TimeRange,
        _: &mut dyn FnMut(&Labels, &[Exemplar]) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Shards of logs. Records go round them.
pub struct LogCluster {
    shards: Mutex<Vec<LogShard>>,
    next: Mutex<usize>,
    pub limits: Mutex<Limits>,
    /// A shard that does not answer.
    pub missing: Mutex<Option<u16>>,
    /// For whom it was asked last.
    pub tenant: Mutex<TenantId>,
}

#[allow(dead_code, reason = "tests put logs or spans")]
impl LogCluster {
    pub fn new(shards: u16) -> Arc<Self> {
        let shards = (1..=shards).map(|shard| LogShard { shard, records: Vec::new() }).collect();
        Arc::new(Self {
            shards: Mutex::new(shards),
            next: Mutex::new(0),
            limits: Mutex::new(Limits::default()),
            missing: Mutex::new(None),
            tenant: Mutex::new(TenantId::default()),
        })
    }

    pub fn put(&self, record: &Record) {
        let mut shards = self.shards.lock().expect("nobody panicked");
        let mut next = self.next.lock().expect("nobody panicked");
        let at = *next % shards.len();
        shards[at].records.push(record.clone());
        *next += 7;
    }

    /// Puts a span where its trace is.
    pub fn put_span(&self, stream: &LogStream<'static>, span: &Span<'_>) {
        let mut shards = self.shards.lock().expect("nobody panicked");
        let at = usize::from(span.trace_id[15]) % shards.len();
        shards[at].records.push((stream.clone(), row::row_of(span).into_owned()));
    }
}

impl Cluster for LogCluster {
    fn shards(&self) -> usize {
        self.shards.lock().expect("nobody panicked").len()
    }

    fn execute<'a>(
        &'a self,
        context: &'a ReadContext,
        fragment: Bytes,
    ) -> BoxFuture<'a, Result<Vec<ShardAnswer>, SourceError>> {
        self.tenant.lock().expect("nobody panicked").clone_from(&context.tenant);
        let shards = self.shards.lock().expect("nobody panicked");
        let limits = *self.limits.lock().expect("nobody panicked");
        let missing = *self.missing.lock().expect("nobody panicked");
        let answer = |shard: &LogShard| {
            if missing == Some(shard.shard) {
                let message = format!("shard {} does not answer", shard.shard);
                return Err(SourceError::new(ErrorKind::Unavailable, message));
            }
            let bytes = run_fragment(shard, &fragment, limits, CancelFlag::default())
                .map_err(|error| SourceError::new(error.kind(), error.to_string()))?;
            Ok(ShardAnswer { shard: ShardId(shard.shard), answer: bytes.into() })
        };
        let answers: Result<Vec<ShardAnswer>, SourceError> = shards.iter().map(answer).collect();
        async move { answers }.boxed()
    }
}
