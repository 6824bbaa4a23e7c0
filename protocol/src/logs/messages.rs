//! Log queries between nodes: what the coordinator asks of a shard, and how a shard answers.
//!
//! ```text
//! FragmentRequest { logs: LogRequest { version, limits, body } } ──► shard
//! FragmentAnswer  { logs: LogAnswer { streams, rows | groups | fields | ... } } ◄──
//! ```
//!
//! Messages are protobuf with stable numbers, never reused; a shard refuses a version above its own. LogQL travels as
//! text, since a shard parses what the coordinator parsed; filters of the search language travel as trees. Streams and
//! label sets are written once an answer and referred to by their position. What does not fit the model (an unknown
//! kind, an id of the wrong length, a position behind the end) is a [`MessageError`], never a guess.

use super::filter::{Bound, LogField, LogFilter, LogRange, LogTest};
use super::{Attribute, LogRecord, LogStream, LogValue};

/// Version of these messages. The first one knew log records only, and is still sent for them.
pub const VERSION: u32 = 2;

/// Filters nest at most so deep, on the wire and in the languages that compile to them.
pub const MAX_FILTER_DEPTH: usize = 32;

/// A message that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of a log message: {value}")]
pub struct MessageError {
    /// Which part.
    pub what: &'static str,
    /// What it holds.
    pub value: String,
}

fn wrong<T>(what: &'static str, value: impl ToString) -> Result<T, MessageError> {
    Err(MessageError { what, value: value.to_string() })
}

/// Something asked of the logs of one shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogRequest {
    /// [`VERSION`] of the sender.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// What the user asked, for the list of what runs.
    #[prost(string, tag = "2")]
    pub text: String,
    /// Records that may be read.
    #[prost(uint64, tag = "3")]
    pub max_samples: u64,
    /// Bytes that may be held.
    #[prost(uint64, tag = "4")]
    pub max_bytes: u64,
    /// Milliseconds until the deadline, as of sending.
    #[prost(uint64, tag = "5")]
    pub timeout_ms: u64,
    /// First nanosecond.
    #[prost(sfixed64, tag = "6")]
    pub start_ns: i64,
    /// Last nanosecond.
    #[prost(sfixed64, tag = "7")]
    pub end_ns: i64,
    /// What to do.
    #[prost(oneof = "LogBody", tags = "8, 9, 10, 11, 12, 13, 14, 15, 16")]
    pub body: Option<LogBody>,
    /// Whether the rows in which spans are kept are asked for, not log records.
    #[prost(bool, tag = "17")]
    pub spans: bool,
}

/// The kinds of questions.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum LogBody {
    /// Records.
    #[prost(message, tag = "8")]
    Rows(RowsRequest),
    /// Numbers of records.
    #[prost(message, tag = "9")]
    Counts(CountsRequest),
    /// Fields.
    #[prost(message, tag = "10")]
    Fields(FieldsRequest),
    /// Templates of bodies.
    #[prost(message, tag = "11")]
    Patterns(PatternsRequest),
    /// Lines that a LogQL pipeline lets through.
    #[prost(message, tag = "12")]
    Lines(LinesRequest),
    /// States of a LogQL range aggregation.
    #[prost(message, tag = "13")]
    Range(RangeRequest),
    /// Label sets of streams.
    #[prost(message, tag = "14")]
    Streams(StreamsRequest),
    /// Sizes of streams.
    #[prost(message, tag = "15")]
    Volume(VolumeRequest),
    /// Values of a field.
    #[prost(message, tag = "16")]
    Values(ValuesRequest),
}

/// Records that meet a filter, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RowsRequest {
    /// What they must meet.
    #[prost(message, required, tag = "1")]
    pub filter: FilterMessage,
    /// Newest first.
    #[prost(bool, tag = "2")]
    pub newest_first: bool,
    /// At most so many.
    #[prost(uint64, tag = "3")]
    pub limit: u64,
    /// Only records behind this one, in the order asked for.
    #[prost(message, optional, tag = "4")]
    pub after: Option<PlaceMessage>,
}

/// Place of a record among those that meet a filter.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct PlaceMessage {
    /// Effective time.
    #[prost(sfixed64, tag = "1")]
    pub time_ns: i64,
    /// Its shard.
    #[prost(uint32, tag = "2")]
    pub shard: u32,
    /// Matching records of this time and shard that were written before it.
    #[prost(uint64, tag = "3")]
    pub ordinal: u64,
}

/// Numbers of records by bucket and fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CountsRequest {
    /// What records must meet.
    #[prost(message, required, tag = "1")]
    pub filter: FilterMessage,
    /// Width of buckets; 0: one for all.
    #[prost(sint64, tag = "2")]
    pub bucket_ns: i64,
    /// Fields to count by.
    #[prost(message, repeated, tag = "3")]
    pub by: Vec<FieldMessage>,
}

/// The fields of matching records.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FieldsRequest {
    /// What records must meet.
    #[prost(message, required, tag = "1")]
    pub filter: FilterMessage,
}

/// The values that matching records have of a field, and their numbers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValuesRequest {
    /// What records must meet.
    #[prost(message, required, tag = "1")]
    pub filter: FilterMessage,
    /// The field.
    #[prost(message, required, tag = "2")]
    pub field: FieldMessage,
}

/// Masked bodies of matching records and their numbers by bucket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PatternsRequest {
    /// What records must meet.
    #[prost(message, required, tag = "1")]
    pub filter: FilterMessage,
    /// LogQL whose lines are mined instead, where it is not empty.
    #[prost(string, tag = "2")]
    pub logql: String,
    /// Width of buckets.
    #[prost(sint64, tag = "3")]
    pub bucket_ns: i64,
    /// Masked bodies that may be held; the rest is counted without them.
    #[prost(uint64, tag = "4")]
    pub max_templates: u64,
}

/// Lines of a LogQL log query.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinesRequest {
    /// The query.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Newest first.
    #[prost(bool, tag = "2")]
    pub newest_first: bool,
    /// At most so many.
    #[prost(uint64, tag = "3")]
    pub limit: u64,
}

/// States of a range aggregation, or of a sum over one, on a grid of steps.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeRequest {
    /// The expression.
    #[prost(string, tag = "1")]
    pub query: String,
    /// First step.
    #[prost(sfixed64, tag = "2")]
    pub start_ns: i64,
    /// Distance of steps.
    #[prost(sint64, tag = "3")]
    pub step_ns: i64,
    /// Number of steps.
    #[prost(uint32, tag = "4")]
    pub steps: u32,
    /// Series that may be held.
    #[prost(uint64, tag = "5")]
    pub max_series: u64,
}

/// Label sets of the streams that LogQL selectors select.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamsRequest {
    /// Selectors, of which one is to be met; none: all streams.
    #[prost(string, repeated, tag = "1")]
    pub selectors: Vec<String>,
}

/// Records and bytes of the streams that a LogQL selector selects.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VolumeRequest {
    /// The selector.
    #[prost(string, tag = "1")]
    pub selector: String,
    /// Width of buckets; 0: one for all.
    #[prost(sint64, tag = "2")]
    pub bucket_ns: i64,
}

/// A shard's answer; which parts are filled depends on the question.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogAnswer {
    /// Streams that rows refer to.
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<StreamMessage>,
    /// Records.
    #[prost(message, repeated, tag = "2")]
    pub rows: Vec<RowMessage>,
    /// Counts.
    #[prost(message, repeated, tag = "3")]
    pub groups: Vec<GroupMessage>,
    /// Fields.
    #[prost(message, repeated, tag = "4")]
    pub fields: Vec<FieldCount>,
    /// Label sets that lines, volumes and series refer to.
    #[prost(message, repeated, tag = "5")]
    pub label_sets: Vec<LabelSetMessage>,
    /// Lines.
    #[prost(message, repeated, tag = "6")]
    pub lines: Vec<LineMessage>,
    /// Series of a range aggregation.
    #[prost(message, repeated, tag = "7")]
    pub series: Vec<SeriesMessage>,
    /// Records that were left out of `groups` because there were too many of those.
    #[prost(uint64, tag = "8")]
    pub left_out: u64,
    /// Values of a field.
    #[prost(message, optional, tag = "9")]
    pub values: Option<ValuesMessage>,
}

/// Values of a field, each once, with the numbers of records that have it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValuesMessage {
    /// Records that have none, or an empty one.
    #[prost(uint64, tag = "1")]
    pub missing: u64,
    /// Whole numbers, ascending: the first, then differences, modulo 2^64.
    #[prost(uint64, repeated, tag = "2")]
    pub ints: Vec<u64>,
    /// Their counts.
    #[prost(uint64, repeated, tag = "3")]
    pub int_counts: Vec<u64>,
    /// Floats, in IEEE 754's total order.
    #[prost(double, repeated, tag = "4")]
    pub floats: Vec<f64>,
    /// Their counts.
    #[prost(uint64, repeated, tag = "5")]
    pub float_counts: Vec<u64>,
    /// Texts, sorted.
    #[prost(string, repeated, tag = "6")]
    pub texts: Vec<String>,
    /// Their counts.
    #[prost(uint64, repeated, tag = "7")]
    pub text_counts: Vec<u64>,
}

/// A number of records by bucket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupMessage {
    /// Values of the fields, or the masked body.
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
    /// Buckets, ascending: the first, then differences.
    #[prost(uint64, repeated, tag = "2")]
    pub buckets: Vec<u64>,
    /// Their counts.
    #[prost(uint64, repeated, tag = "3")]
    pub counts: Vec<u64>,
    /// Bytes of lines, where they are asked for.
    #[prost(uint64, repeated, tag = "4")]
    pub bytes: Vec<u64>,
}

/// A field, the kinds of its values, and how many records have it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FieldCount {
    /// The field.
    #[prost(message, required, tag = "1")]
    pub field: FieldMessage,
    /// Bits of kinds.
    #[prost(uint32, tag = "2")]
    pub kinds: u32,
    /// Records.
    #[prost(uint64, tag = "3")]
    pub records: u64,
}

/// A label set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LabelSetMessage {
    /// Names and values of the stream's labels, one after the other, by name.
    #[prost(string, repeated, tag = "1")]
    pub stream: Vec<String>,
    /// The same of structured metadata.
    #[prost(string, repeated, tag = "2")]
    pub metadata: Vec<String>,
    /// The same of labels that the pipeline made.
    #[prost(string, repeated, tag = "3")]
    pub parsed: Vec<String>,
}

/// A line of a log query.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LineMessage {
    /// Position of its label set.
    #[prost(uint32, tag = "1")]
    pub labels: u32,
    /// When.
    #[prost(sfixed64, tag = "2")]
    pub time_ns: i64,
    /// The line.
    #[prost(string, tag = "3")]
    pub line: String,
    /// Lines of this time that were let through before it.
    #[prost(uint64, tag = "4")]
    pub ordinal: u64,
}

/// A series of states.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SeriesMessage {
    /// Names and values of labels, one after the other, by name.
    #[prost(string, repeated, tag = "1")]
    pub labels: Vec<String>,
    /// Buckets, ascending: the first, then differences.
    #[prost(uint64, repeated, tag = "2")]
    pub buckets: Vec<u64>,
    /// Whole numbers of each bucket, as many as its kind of state has.
    #[prost(sint64, repeated, tag = "3")]
    pub ints: Vec<i64>,
    /// Numbers of each bucket, as many as its kind of state has.
    #[prost(double, repeated, tag = "4")]
    pub floats: Vec<f64>,
}

/// A stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamMessage {
    /// Attributes of the resource.
    #[prost(message, repeated, tag = "1")]
    pub resource: Vec<AttributeMessage>,
    /// Name of the scope.
    #[prost(string, tag = "2")]
    pub scope_name: String,
    /// Version of the scope.
    #[prost(string, tag = "3")]
    pub scope_version: String,
    /// Attributes of the scope.
    #[prost(message, repeated, tag = "4")]
    pub scope_attributes: Vec<AttributeMessage>,
}

/// A record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RowMessage {
    /// Position of its stream.
    #[prost(uint32, tag = "1")]
    pub stream: u32,
    /// Time.
    #[prost(sfixed64, tag = "2")]
    pub time_ns: i64,
    /// Observed time.
    #[prost(sfixed64, tag = "3")]
    pub observed_ns: i64,
    /// Severity.
    #[prost(uint32, tag = "4")]
    pub severity: u32,
    /// Severity, spelled.
    #[prost(string, tag = "5")]
    pub severity_text: String,
    /// Body.
    #[prost(message, optional, tag = "6")]
    pub body: Option<ValueMessage>,
    /// Trace id, empty if none.
    #[prost(bytes = "vec", tag = "7")]
    pub trace_id: Vec<u8>,
    /// Span id, empty if none.
    #[prost(bytes = "vec", tag = "8")]
    pub span_id: Vec<u8>,
    /// Flags.
    #[prost(uint32, tag = "9")]
    pub flags: u32,
    /// Event name.
    #[prost(string, tag = "10")]
    pub event_name: String,
    /// Attributes.
    #[prost(message, repeated, tag = "11")]
    pub attributes: Vec<AttributeMessage>,
    /// Matching records of this time that were written before it.
    #[prost(uint64, tag = "12")]
    pub ordinal: u64,
}

/// A named value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeMessage {
    /// Name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value; none: nothing.
    #[prost(message, optional, tag = "2")]
    pub value: Option<ValueMessage>,
}

/// A value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueMessage {
    /// What it is.
    #[prost(oneof = "ValueKind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<ValueKind>,
}

/// Kinds of values.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ValueKind {
    /// Text.
    #[prost(string, tag = "1")]
    String(String),
    /// A whole number.
    #[prost(sint64, tag = "2")]
    Int(i64),
    /// A number, by its bits.
    #[prost(fixed64, tag = "3")]
    Float(u64),
    /// A truth value.
    #[prost(bool, tag = "4")]
    Bool(bool),
    /// Bytes.
    #[prost(bytes, tag = "5")]
    Bytes(Vec<u8>),
    /// An array.
    #[prost(message, tag = "6")]
    List(ListMessage),
    /// A map.
    #[prost(message, tag = "7")]
    Map(MapMessage),
}

/// An array.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListMessage {
    /// Its values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<ValueMessage>,
}

/// A map.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MapMessage {
    /// Its entries.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<AttributeMessage>,
}

/// A field.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FieldMessage {
    /// Number of the kind.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Name of an attribute.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// A filter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FilterMessage {
    /// 0 all, 1 and, 2 or, 3 not, 4 field.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Parts of and, or, not.
    #[prost(message, repeated, tag = "2")]
    pub parts: Vec<FilterMessage>,
    /// Field that is tested.
    #[prost(message, optional, tag = "3")]
    pub field: Option<FieldMessage>,
    /// 0 exists, 1 equals, 2 one of, 3 contains, 4 phrase, 5 prefix, 6 regex, 7 range.
    #[prost(uint32, tag = "4")]
    pub test: u32,
    /// Texts of the test.
    #[prost(string, repeated, tag = "5")]
    pub texts: Vec<String>,
    /// Case does not matter.
    #[prost(bool, tag = "6")]
    pub ignore_case: bool,
    /// Lower end.
    #[prost(message, optional, tag = "7")]
    pub from: Option<BoundMessage>,
    /// Upper end.
    #[prost(message, optional, tag = "8")]
    pub to: Option<BoundMessage>,
}

/// An end of a range.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct BoundMessage {
    /// Where.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Whether it belongs to the range.
    #[prost(bool, tag = "2")]
    pub inclusive: bool,
}

impl From<&LogField> for FieldMessage {
    fn from(field: &LogField) -> Self {
        let (kind, name) = match field {
            LogField::Body => (1, ""),
            LogField::Time => (2, ""),
            LogField::Severity => (3, ""),
            LogField::SeverityText => (4, ""),
            LogField::TraceId => (5, ""),
            LogField::SpanId => (6, ""),
            LogField::Flags => (7, ""),
            LogField::EventName => (8, ""),
            LogField::ScopeName => (9, ""),
            LogField::ScopeVersion => (10, ""),
            LogField::Attribute(name) => (11, name.as_str()),
            LogField::RecordAttribute(name) => (12, name.as_str()),
            LogField::ResourceAttribute(name) => (13, name.as_str()),
            LogField::ScopeAttribute(name) => (14, name.as_str()),
            LogField::Any => (15, ""),
            LogField::Duration => (16, ""),
            LogField::SpanKind => (17, ""),
            LogField::SpanStatus => (18, ""),
            LogField::StatusMessage => (19, ""),
            LogField::ParentId => (20, ""),
            LogField::Events => (21, ""),
        };
        Self { kind, name: name.to_owned() }
    }
}

impl TryFrom<FieldMessage> for LogField {
    type Error = MessageError;

    fn try_from(message: FieldMessage) -> Result<Self, MessageError> {
        Ok(match message.kind {
            1 => Self::Body,
            2 => Self::Time,
            3 => Self::Severity,
            4 => Self::SeverityText,
            5 => Self::TraceId,
            6 => Self::SpanId,
            7 => Self::Flags,
            8 => Self::EventName,
            9 => Self::ScopeName,
            10 => Self::ScopeVersion,
            11 => Self::Attribute(message.name),
            12 => Self::RecordAttribute(message.name),
            13 => Self::ResourceAttribute(message.name),
            14 => Self::ScopeAttribute(message.name),
            15 => Self::Any,
            16 => Self::Duration,
            17 => Self::SpanKind,
            18 => Self::SpanStatus,
            19 => Self::StatusMessage,
            20 => Self::ParentId,
            21 => Self::Events,
            kind => return wrong("field", kind),
        })
    }
}

impl From<&LogFilter> for FilterMessage {
    fn from(filter: &LogFilter) -> Self {
        let parts = |kind, parts: &[LogFilter]| Self {
            kind,
            parts: parts.iter().map(Self::from).collect(),
            ..Self::default()
        };
        match filter {
            LogFilter::All => Self::default(),
            LogFilter::And(all) => parts(1, all),
            LogFilter::Or(any) => parts(2, any),
            LogFilter::Not(part) => parts(3, std::slice::from_ref(part)),
            LogFilter::Field(field, test) => {
                let mut message = Self { kind: 4, field: Some(field.into()), ..Self::default() };
                let bound = |bound: Bound| BoundMessage { value: bound.value, inclusive: bound.inclusive };
                match test {
                    LogTest::Exists => message.test = 0,
                    LogTest::Equals(text) => (message.test, message.texts) = (1, vec![text.clone()]),
                    LogTest::OneOf(texts) => (message.test, message.texts) = (2, texts.clone()),
                    LogTest::Contains { text, ignore_case } => {
                        (message.test, message.texts) = (3, vec![text.clone()]);
                        message.ignore_case = *ignore_case;
                    }
                    LogTest::Phrase { text, ignore_case } => {
                        (message.test, message.texts) = (4, vec![text.clone()]);
                        message.ignore_case = *ignore_case;
                    }
                    LogTest::Prefix(text) => (message.test, message.texts) = (5, vec![text.clone()]),
                    LogTest::Regex(text) => (message.test, message.texts) = (6, vec![text.clone()]),
                    LogTest::Range(range) => {
                        message.test = 7;
                        (message.from, message.to) = (range.from.map(bound), range.to.map(bound));
                    }
                }
                message
            }
        }
    }
}

/// The bytes of a filter, where it is a part of something that is no message.
pub fn encode_filter(filter: &LogFilter) -> Vec<u8> {
    prost::Message::encode_to_vec(&FilterMessage::from(filter))
}

/// Takes what [`encode_filter`] made.
pub fn decode_filter(bytes: &[u8]) -> Result<LogFilter, MessageError> {
    match <FilterMessage as prost::Message>::decode(bytes) {
        Ok(message) => message.try_into(),
        Err(error) => wrong("filter", error),
    }
}

impl TryFrom<FilterMessage> for LogFilter {
    type Error = MessageError;

    fn try_from(message: FilterMessage) -> Result<Self, MessageError> {
        // Decoding has bounded the depth already: prost refuses messages that nest deeper than 100.
        let parts =
            |parts: Vec<FilterMessage>| parts.into_iter().map(Self::try_from).collect::<Result<Vec<_>, _>>();
        match message.kind {
            0 => Ok(Self::All),
            1 => Ok(Self::And(parts(message.parts)?)),
            2 => Ok(Self::Or(parts(message.parts)?)),
            3 => match <[LogFilter; 1]>::try_from(parts(message.parts)?) {
                Ok([part]) => Ok(Self::Not(Box::new(part))),
                Err(parts) => wrong("parts of a negation", parts.len()),
            },
            4 => {
                let Some(field) = message.field else { return wrong("field", "none") };
                let field = LogField::try_from(field)?;
                let bound = |bound: BoundMessage| Bound { value: bound.value, inclusive: bound.inclusive };
                let mut texts = message.texts;
                if message.test == 2 {
                    return Ok(Self::Field(field, LogTest::OneOf(texts)));
                }
                let text = texts.pop().unwrap_or_default();
                let ignore_case = message.ignore_case;
                let test = match message.test {
                    0 => LogTest::Exists,
                    1 => LogTest::Equals(text),
                    3 => LogTest::Contains { text, ignore_case },
                    4 => LogTest::Phrase { text, ignore_case },
                    5 => LogTest::Prefix(text),
                    6 => LogTest::Regex(text),
                    7 => {
                        LogTest::Range(LogRange { from: message.from.map(bound), to: message.to.map(bound) })
                    }
                    test => return wrong("test", test),
                };
                Ok(Self::Field(field, test))
            }
            kind => wrong("filter", kind),
        }
    }
}

fn to_value(value: &LogValue<'_>) -> Option<ValueMessage> {
    let kind = match value {
        LogValue::Empty => return None,
        LogValue::String(text) => ValueKind::String(text.to_string()),
        LogValue::Int(value) => ValueKind::Int(*value),
        LogValue::Float(value) => ValueKind::Float(value.to_bits()),
        LogValue::Bool(value) => ValueKind::Bool(*value),
        LogValue::Bytes(bytes) => ValueKind::Bytes(bytes.to_vec()),
        LogValue::List(values) => ValueKind::List(ListMessage {
            values: values.iter().map(|value| to_value(value).unwrap_or_default()).collect(),
        }),
        LogValue::Map(entries) => ValueKind::Map(MapMessage { entries: to_attributes(entries) }),
    };
    Some(ValueMessage { kind: Some(kind) })
}

/// Attributes as they travel.
pub fn to_attributes(attributes: &[Attribute<'_>]) -> Vec<AttributeMessage> {
    let message =
        |(key, value): &Attribute<'_>| AttributeMessage { key: key.to_string(), value: to_value(value) };
    attributes.iter().map(message).collect()
}

fn from_value(message: Option<ValueMessage>) -> LogValue<'static> {
    match message.and_then(|message| message.kind) {
        None => LogValue::Empty,
        Some(ValueKind::String(text)) => LogValue::String(text.into()),
        Some(ValueKind::Int(value)) => LogValue::Int(value),
        Some(ValueKind::Float(bits)) => LogValue::Float(f64::from_bits(bits)),
        Some(ValueKind::Bool(value)) => LogValue::Bool(value),
        Some(ValueKind::Bytes(bytes)) => LogValue::Bytes(bytes.into()),
        Some(ValueKind::List(list)) => {
            LogValue::List(list.values.into_iter().map(|value| from_value(Some(value))).collect())
        }
        Some(ValueKind::Map(map)) => LogValue::Map(from_attributes(map.entries)),
    }
}

/// The other way of [`to_attributes`].
pub fn from_attributes(messages: Vec<AttributeMessage>) -> Vec<Attribute<'static>> {
    messages.into_iter().map(|message| (message.key.into(), from_value(message.value))).collect()
}

impl From<&LogStream<'_>> for StreamMessage {
    fn from(stream: &LogStream<'_>) -> Self {
        Self {
            resource: to_attributes(&stream.resource),
            scope_name: stream.scope_name.to_string(),
            scope_version: stream.scope_version.to_string(),
            scope_attributes: to_attributes(&stream.scope_attributes),
        }
    }
}

impl From<StreamMessage> for LogStream<'static> {
    fn from(message: StreamMessage) -> Self {
        Self {
            resource: from_attributes(message.resource),
            scope_name: message.scope_name.into(),
            scope_version: message.scope_version.into(),
            scope_attributes: from_attributes(message.scope_attributes),
        }
    }
}

impl RowMessage {
    /// A record of the stream at a position.
    pub fn new(stream: u32, record: &LogRecord<'_>, ordinal: u64) -> Self {
        let id = |id: &[u8]| if id.iter().all(|byte| *byte == 0) { Vec::new() } else { id.to_vec() };
        Self {
            stream,
            time_ns: record.time_ns,
            observed_ns: record.observed_ns,
            severity: u32::from(record.severity),
            severity_text: record.severity_text.to_string(),
            body: to_value(&record.body),
            trace_id: id(&record.trace_id),
            span_id: id(&record.span_id),
            flags: record.flags,
            event_name: record.event_name.to_string(),
            attributes: to_attributes(&record.attributes),
            ordinal,
        }
    }

    /// The record.
    pub fn record(self) -> Result<LogRecord<'static>, MessageError> {
        fn id<const N: usize>(bytes: &[u8]) -> Result<[u8; N], MessageError> {
            match bytes.is_empty() {
                true => Ok([0; N]),
                false => bytes.try_into().or_else(|_| wrong("bytes of an id", bytes.len())),
            }
        }
        Ok(LogRecord {
            time_ns: self.time_ns,
            observed_ns: self.observed_ns,
            severity: u8::try_from(self.severity).or_else(|_| wrong("severity", self.severity))?,
            severity_text: self.severity_text.into(),
            body: from_value(self.body),
            trace_id: id(&self.trace_id)?,
            span_id: id(&self.span_id)?,
            flags: self.flags,
            event_name: self.event_name.into(),
            attributes: from_attributes(self.attributes),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn value() -> impl Strategy<Value = LogValue<'static>> {
        let leaf = prop_oneof![
            Just(LogValue::Empty),
            ".{0,8}".prop_map(|text| LogValue::String(Cow::Owned(text))),
            any::<i64>().prop_map(LogValue::Int),
            any::<f64>()
                .prop_filter("NaN is equal to nothing", |value| !value.is_nan())
                .prop_map(LogValue::Float),
            any::<bool>().prop_map(LogValue::Bool),
            proptest::collection::vec(any::<u8>(), 0..5).prop_map(|bytes| LogValue::Bytes(Cow::Owned(bytes))),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(LogValue::List),
                proptest::collection::vec(("[a-z]{1,3}".prop_map(Cow::Owned), inner), 0..3)
                    .prop_map(LogValue::Map),
            ]
        })
    }

    fn attributes() -> impl Strategy<Value = Vec<Attribute<'static>>> {
        proptest::collection::vec(("[a-z.]{1,4}".prop_map(Cow::Owned), value()), 0..4)
    }

    fn field() -> impl Strategy<Value = LogField> {
        prop_oneof![(1u32..=20, "[a-z.]{1,4}").prop_map(|(kind, name)| {
            let name = if (11..=14).contains(&kind) { name } else { String::new() };
            LogField::try_from(FieldMessage { kind, name }).expect("every number up to 20 is a field")
        }),]
    }

    fn bound() -> impl Strategy<Value = Option<Bound>> {
        proptest::option::of(
            (-1e9..1e9, any::<bool>()).prop_map(|(value, inclusive)| Bound { value, inclusive }),
        )
    }

    fn test() -> impl Strategy<Value = LogTest> {
        prop_oneof![
            Just(LogTest::Exists),
            ".{0,5}".prop_map(LogTest::Equals),
            proptest::collection::vec(".{0,5}", 0..3).prop_map(LogTest::OneOf),
            (".{0,5}", any::<bool>()).prop_map(|(text, ignore_case)| LogTest::Contains { text, ignore_case }),
            (".{0,5}", any::<bool>()).prop_map(|(text, ignore_case)| LogTest::Phrase { text, ignore_case }),
            ".{0,5}".prop_map(LogTest::Prefix),
            ".{0,5}".prop_map(LogTest::Regex),
            (bound(), bound()).prop_map(|(from, to)| LogTest::Range(LogRange { from, to })),
        ]
    }

    fn filter() -> impl Strategy<Value = LogFilter> {
        let leaf = prop_oneof![
            Just(LogFilter::All),
            (field(), test()).prop_map(|(field, test)| LogFilter::Field(field, test)),
        ];
        leaf.prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(LogFilter::And),
                proptest::collection::vec(inner.clone(), 0..3).prop_map(LogFilter::Or),
                inner.prop_map(|part| LogFilter::Not(Box::new(part))),
            ]
        })
    }

    proptest! {
        #[test]
        fn filters_come_back(filter in filter()) {
            let bytes = FilterMessage::from(&filter).encode_to_vec();
            let message = FilterMessage::decode(bytes.as_slice()).expect("what was encoded decodes");
            prop_assert_eq!(LogFilter::try_from(message), Ok(filter));
        }

        #[test]
        fn records_come_back(
            body in value(), attributes in attributes(), resource in attributes(), time_ns: i64, severity: u8,
            trace_id: [u8; 16], span_id: [u8; 8], flags: u32,
        ) {
            let record = LogRecord { time_ns, severity, body, trace_id, span_id, flags, attributes, ..LogRecord::default() };
            let bytes = RowMessage::new(3, &record, 9).encode_to_vec();
            let message = RowMessage::decode(bytes.as_slice()).expect("what was encoded decodes");
            prop_assert_eq!((message.stream, message.ordinal), (3, 9));
            prop_assert_eq!(message.record(), Ok(record));
            let stream = LogStream { resource, ..LogStream::default() };
            let bytes = StreamMessage::from(&stream).encode_to_vec();
            let message = StreamMessage::decode(bytes.as_slice()).expect("what was encoded decodes");
            prop_assert_eq!(LogStream::from(message), stream);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(message) = FilterMessage::decode(bytes.as_slice()) {
                let _ = LogFilter::try_from(message);
            }
            if let Ok(message) = RowMessage::decode(bytes.as_slice()) {
                let _ = message.record();
            }
        }
    }

    #[test]
    fn unknown_numbers_are_refused() {
        let field = Some(FieldMessage::from(&LogField::Body));
        for message in [
            FilterMessage { kind: 9, ..Default::default() },
            FilterMessage { kind: 3, ..Default::default() },
            FilterMessage { kind: 4, ..Default::default() },
            FilterMessage { kind: 4, field: field.clone(), test: 99, ..Default::default() },
            FilterMessage { kind: 4, field: Some(FieldMessage::default()), ..Default::default() },
        ] {
            assert!(LogFilter::try_from(message).is_err());
        }
        assert!(RowMessage { trace_id: vec![1; 3], ..Default::default() }.record().is_err());
        assert!(RowMessage { severity: 256, ..Default::default() }.record().is_err());
    }
}
