//! Logs: records as they are written and read, and what is asked of them.
//!
//! ```text
//! decoders (otlp, loki, ...) ──records──► LogSink: a batch builder   (write)
//! query ──LogScan { filter, ... }──► shard ──records──► visitor      (read)
//! ```
//!
//! A record belongs to a *stream*: the resource and scope that emitted it. Attributes are flat: a map inside an attribute
//! becomes one attribute for each of its leaves, its path joined by dots; maps inside of arrays stay values. The order of
//! attributes is kept, and so are repeated keys: what was sent is what is read back.
//!
//! Spans are kept by the same machinery, as rows that mean something else: see [`RowSignal`] and [`crate::spans::row`].
//!
//! Read first: [`LogRecord`], then [`filter`]; [`matching`] says what filters mean, [`batch`] how records travel.

pub mod batch;
pub mod block;
pub mod checksum;
pub mod codec;
pub mod dict;
pub mod filter;
pub mod matching;
pub mod messages;
pub mod rows;
pub mod template;
pub mod text;
pub mod value;

use std::borrow::Cow;

pub use filter::{LogField, LogFilter, LogTest};

/// Nanoseconds since 1970.
pub type TimestampNs = i64;

/// What the rows of a sub-batch, a table or a segment are. Each kind has tables, segments and partitions of its own, of
/// the same make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RowSignal {
    /// Log records.
    Logs = 1,
    /// Spans, as [`crate::spans::row`] writes them.
    Spans = 2,
}

impl RowSignal {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Logs, Self::Spans];

    /// The signal's number, in manifests and retention cuts.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The signal of a number.
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Logs),
            2 => Some(Self::Spans),
            _ => None,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Spans => "spans",
        }
    }
}

/// A value of a body or an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum LogValue<'a> {
    /// Nothing: a body that was not set, an attribute without a value.
    Empty,
    /// Text.
    String(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// A number. Compared by value, kept by its bits.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// An array.
    List(Vec<LogValue<'a>>),
    /// A map: as a body, or inside of an array.
    Map(Vec<(Cow<'a, str>, LogValue<'a>)>),
}

/// A named value.
pub type Attribute<'a> = (Cow<'a, str>, LogValue<'a>);

/// Who emitted records: a resource and an instrumentation scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogStream<'a> {
    /// Attributes of the resource, `service.name` among them.
    pub resource: Vec<Attribute<'a>>,
    /// Name of the scope, empty if there is none.
    pub scope_name: Cow<'a, str>,
    /// Version of the scope.
    pub scope_version: Cow<'a, str>,
    /// Attributes of the scope.
    pub scope_attributes: Vec<Attribute<'a>>,
}

/// One log record.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord<'a> {
    /// When it happened; 0 if the source did not say. See [`LogRecord::effective_ns`].
    pub time_ns: TimestampNs,
    /// When a collector saw it; 0 if unknown. Whoever accepts a record that has neither time sets this one.
    pub observed_ns: TimestampNs,
    /// Severity as OpenTelemetry numbers it, 1 (TRACE) to 24 (FATAL4); 0 if unknown.
    pub severity: u8,
    /// Severity as the source spells it; may be empty.
    pub severity_text: Cow<'a, str>,
    /// What it says.
    pub body: LogValue<'a>,
    /// Trace that it belongs to, zeros if none.
    pub trace_id: [u8; 16],
    /// Span that it belongs to, zeros if none.
    pub span_id: [u8; 8],
    /// W3C trace flags.
    pub flags: u32,
    /// Name of the event if the record is one, else empty.
    pub event_name: Cow<'a, str>,
    /// Attributes of the record.
    pub attributes: Vec<Attribute<'a>>,
}

impl Default for LogRecord<'_> {
    fn default() -> Self {
        Self {
            time_ns: 0,
            observed_ns: 0,
            severity: 0,
            severity_text: Cow::Borrowed(""),
            body: LogValue::Empty,
            trace_id: [0; 16],
            span_id: [0; 8],
            flags: 0,
            event_name: Cow::Borrowed(""),
            attributes: Vec::new(),
        }
    }
}

impl LogRecord<'_> {
    /// The time by which records are ordered and selected: their own, else the collector's.
    pub fn effective_ns(&self) -> TimestampNs {
        if self.time_ns != 0 { self.time_ns } else { self.observed_ns }
    }

    /// Nanoseconds from the record's own time to the collector's, 0 where that lies before: of a span how long it took.
    pub fn lasted_ns(&self) -> i64 {
        self.observed_ns.saturating_sub(self.time_ns).max(0)
    }
}

/// Takes records as a decoder finds them.
pub trait LogSink {
    /// The records that follow belong to this stream.
    fn stream(&mut self, stream: &LogStream<'_>);

    /// One record of the stream named last.
    fn record(&mut self, record: &LogRecord<'_>);
}

/// Values of a field, as a shard finds them.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValues<'a> {
    /// Whole numbers, in no order.
    Ints(&'a [i64]),
    /// Floats, in no order.
    Floats(&'a [f64]),
    /// A text that is not empty, of so many records; may come several times.
    Text(&'a str, u64),
    /// So many records have none, or an empty one.
    Missing(u64),
}

/// Which records are wanted, in which order.
#[derive(Clone, Debug, PartialEq)]
pub struct LogScan {
    /// First nanosecond that counts.
    pub start_ns: TimestampNs,
    /// Last nanosecond that counts.
    pub end_ns: TimestampNs,
    /// What a record must meet.
    pub filter: LogFilter,
    /// Whether the newest comes first; else the oldest. Records of one time come in one order at all replicas, the same
    /// in every scan, reversed with the direction.
    pub newest_first: bool,
    /// What the reader looks at; the rest may be left empty.
    pub columns: LogColumns,
    /// Records after which the reader will probably stop: no more are put together at first. [`usize::MAX`] if it will not.
    pub expected: usize,
}

/// The parts of records that a reader looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogColumns {
    /// Everything.
    All,
    /// These fields, the effective time always among them.
    Fields(Vec<LogField>),
}
