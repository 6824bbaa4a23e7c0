//! What log queries ask of a shard: one trait, implemented where the crates meet.
//!
//! ```text
//! run_fragment ─► ShardSource::logs() ─► LogSource::scan   rows that meet a filter, to a visitor that can stop
//!                                                  ::count  counts by time bucket and fields
//!                                                  ::values the values of a field
//!                                                  ::fields names and types
//!                                                  ::streams who wrote
//! ```
//!
//! Only [`LogSource::scan`] and [`LogSource::streams`] have to be written. The others have a definition over `scan`,
//! which says what they mean; storage replaces those that it answers from dictionaries and footers.
//!
//! Order: records by effective time; those of one time in the order in which they were written, so that what is written
//! later comes later (newest first: the exact reverse). Cursors of pages depend on that: the place of a record among
//! those of its time never changes as long as nothing is deleted.

use std::ops::ControlFlow;

use protocol::ids::{ShardId, TenantId};
use protocol::logs::{
    FieldValues, LogColumns, LogField, LogFilter, LogRecord, LogScan, LogStream, LogValue, RowSignal,
    TimestampNs,
};

use crate::source::SourceError;

/// For whom something is read, and how to stop it.
#[derive(Clone, Copy)]
pub struct LogRead<'a> {
    /// Which rows: log records, or those in which spans are kept ([`protocol::spans::row`]).
    pub signal: RowSignal,
    /// Whose data.
    pub tenant: &'a TenantId,
    /// Asked at least once a block, also where nothing matches. Once it says true the read may end with `Ok`, its
    /// visitor not having seen everything: whoever asked knows why.
    pub should_stop: &'a dyn Fn() -> bool,
}

/// What is to be counted.
#[derive(Clone, Debug, PartialEq)]
pub struct LogCount {
    /// First nanosecond that counts.
    pub start_ns: TimestampNs,
    /// Last nanosecond that counts.
    pub end_ns: TimestampNs,
    /// What a record must meet.
    pub filter: LogFilter,
    /// Width of the buckets; 0 puts everything into bucket 0. Bucket `n` begins at `start_ns + n * bucket_ns`.
    pub bucket_ns: i64,
    /// Fields to count by. A record counts under the text of the first value of each, the empty text where it has none.
    /// Never [`LogField::Any`].
    pub by: Vec<LogField>,
}

impl LogCount {
    /// Bucket of a time inside the range.
    pub fn bucket(&self, time_ns: TimestampNs) -> u64 {
        if self.bucket_ns <= 0 {
            return 0;
        }
        let passed = (i128::from(time_ns) - i128::from(self.start_ns)) / i128::from(self.bucket_ns);
        // Not negative, since the time is inside the range.
        u64::try_from(passed).unwrap_or(0)
    }
}

/// The kinds of values that a field has, each a bit, so that sets of them unite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogKinds(pub u8);

impl LogKinds {
    /// Text.
    pub const STRING: Self = Self(1);
    /// Whole numbers.
    pub const INT: Self = Self(2);
    /// Numbers.
    pub const FLOAT: Self = Self(4);
    /// Truth values.
    pub const BOOL: Self = Self(8);
    /// Bytes.
    pub const BYTES: Self = Self(16);
    /// Arrays.
    pub const LIST: Self = Self(32);
    /// Maps.
    pub const MAP: Self = Self(64);

    const NAMES: [(Self, &'static str); 7] = [
        (Self::STRING, "string"),
        (Self::INT, "int"),
        (Self::FLOAT, "float"),
        (Self::BOOL, "bool"),
        (Self::BYTES, "bytes"),
        (Self::LIST, "list"),
        (Self::MAP, "map"),
    ];

    /// The kind of a value; that of nothing is no kind.
    pub fn of(value: &LogValue<'_>) -> Self {
        match value {
            LogValue::Empty => Self(0),
            LogValue::String(_) => Self::STRING,
            LogValue::Int(_) => Self::INT,
            LogValue::Float(_) => Self::FLOAT,
            LogValue::Bool(_) => Self::BOOL,
            LogValue::Bytes(_) => Self::BYTES,
            LogValue::List(_) => Self::LIST,
            LogValue::Map(_) => Self::MAP,
        }
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(kind, _)| self.0 & kind.0 != 0).map(|(_, name)| *name).collect()
    }
}

/// Visits records and their streams; may stop.
pub type VisitRecord<'v> = dyn FnMut(&LogStream<'_>, &LogRecord<'_>) -> ControlFlow<()> + 'v;

/// A read view of the logs of one shard, fixed at an applied index.
///
/// Every method blocks on disk and CPU. A visitor that breaks ends the walk, which is no error. A filter whose regular
/// expression does not compile is an error of kind `InvalidInput`.
pub trait LogSource: Send + Sync {
    /// Which shard it is: the places of records are compared by shard where their times are equal.
    fn shard(&self) -> ShardId;

    /// Visits the records that are wanted, in the order that the scan asks for.
    fn scan(
        &self,
        read: &LogRead<'_>,
        scan: &LogScan,
        visit: &mut VisitRecord<'_>,
    ) -> Result<(), SourceError>;

    /// Visits the streams that have a record in a time range (or, where that is cheaper to know, near it), each at least
    /// once, in any order.
    fn streams(
        &self,
        read: &LogRead<'_>,
        start_ns: TimestampNs,
        end_ns: TimestampNs,
        visit: &mut dyn FnMut(&LogStream<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError>;

    /// Visits counts: bucket, values of the fields, number of records, never 0. The same bucket and values may come
    /// several times, in any order; their counts add up.
    fn count(
        &self,
        read: &LogRead<'_>,
        count: &LogCount,
        visit: &mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        count_by_scan(self, read, count, visit)
    }

    /// Visits the values of a field: of each matching record the first. Never of [`LogField::Any`].
    fn values(
        &self,
        read: &LogRead<'_>,
        (start_ns, end_ns): (TimestampNs, TimestampNs),
        filter: &LogFilter,
        field: &LogField,
        visit: &mut dyn FnMut(FieldValues<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        values_by_scan(self, read, (start_ns, end_ns), filter, field, visit)
    }

    /// Visits the fields that matching records and their streams have: which one, kinds of its values, records that have
    /// it with a value that is not empty. Attributes come as those of record, resource or scope; other parts only where
    /// some record has them. The same field may come several times; counts add up, kinds unite.
    fn fields(
        &self,
        read: &LogRead<'_>,
        start_ns: TimestampNs,
        end_ns: TimestampNs,
        filter: &LogFilter,
        visit: &mut dyn FnMut(&LogField, LogKinds, u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        fields_by_scan(self, read, (start_ns, end_ns), filter, visit)
    }
}

/// What [`LogSource::count`] means.
pub fn count_by_scan<S: LogSource + ?Sized>(
    source: &S,
    read: &LogRead<'_>,
    count: &LogCount,
    visit: &mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>,
) -> Result<(), SourceError> {
    let scan = LogScan {
        start_ns: count.start_ns,
        end_ns: count.end_ns,
        filter: count.filter.clone(),
        newest_first: false,
        columns: LogColumns::Fields(count.by.clone()),
        expected: usize::MAX,
    };
    source.scan(read, &scan, &mut |stream, record| {
        let texts: Vec<String> =
            count.by.iter().map(|field| field.first_text(stream, record).unwrap_or_default()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        visit(count.bucket(record.effective_ns()), &texts, 1)
    })
}

/// What [`LogSource::values`] means.
pub fn values_by_scan<S: LogSource + ?Sized>(
    source: &S,
    read: &LogRead<'_>,
    (start_ns, end_ns): (TimestampNs, TimestampNs),
    filter: &LogFilter,
    field: &LogField,
    visit: &mut dyn FnMut(FieldValues<'_>) -> ControlFlow<()>,
) -> Result<(), SourceError> {
    let columns = LogColumns::Fields(vec![field.clone()]);
    let scan = LogScan {
        start_ns,
        end_ns,
        filter: filter.clone(),
        newest_first: false,
        columns,
        expected: usize::MAX,
    };
    source.scan(read, &scan, &mut |stream, record| {
        let mut going_on = None;
        field.any(stream, record, &mut |value| {
            going_on = Some(match value {
                LogValue::Int(value) => visit(FieldValues::Ints(&[*value])),
                LogValue::Float(value) => visit(FieldValues::Floats(&[*value])),
                value if value.text().is_empty() => visit(FieldValues::Missing(1)),
                value => visit(FieldValues::Text(&value.text(), 1)),
            });
            true
        });
        going_on.unwrap_or_else(|| visit(FieldValues::Missing(1)))
    })
}

/// What [`LogSource::fields`] means.
pub fn fields_by_scan<S: LogSource + ?Sized>(
    source: &S,
    read: &LogRead<'_>,
    (start_ns, end_ns): (TimestampNs, TimestampNs),
    filter: &LogFilter,
    visit: &mut dyn FnMut(&LogField, LogKinds, u64) -> ControlFlow<()>,
) -> Result<(), SourceError> {
    let scan = LogScan {
        start_ns,
        end_ns,
        filter: filter.clone(),
        newest_first: false,
        columns: LogColumns::All,
        expected: usize::MAX,
    };
    source.scan(read, &scan, &mut |stream, record| {
        let mut found: Vec<(LogField, LogKinds)> = Vec::new();
        let mut add = |field: LogField, value: &LogValue<'_>| {
            if value.is_empty() {
                return;
            }
            match found.iter_mut().find(|(known, _)| *known == field) {
                Some((_, kinds)) => *kinds = kinds.and(LogKinds::of(value)),
                None => found.push((field, LogKinds::of(value))),
            }
        };
        add(LogField::Body, &record.body);
        for field in [
            LogField::SeverityText,
            LogField::TraceId,
            LogField::SpanId,
            LogField::EventName,
            LogField::ScopeName,
            LogField::ScopeVersion,
        ] {
            let text = field.first_text(stream, record).unwrap_or_default();
            add(field, &LogValue::String(text.into()));
        }
        for (field, number) in
            [(LogField::Severity, u32::from(record.severity)), (LogField::Flags, record.flags)]
        {
            if number != 0 {
                add(field, &LogValue::Int(i64::from(number)));
            }
        }
        for (key, value) in &record.attributes {
            add(LogField::RecordAttribute(key.to_string()), value);
        }
        for (key, value) in &stream.resource {
            add(LogField::ResourceAttribute(key.to_string()), value);
        }
        for (key, value) in &stream.scope_attributes {
            add(LogField::ScopeAttribute(key.to_string()), value);
        }
        for (field, kinds) in &found {
            visit(field, *kinds, 1)?;
        }
        ControlFlow::Continue(())
    })
}
