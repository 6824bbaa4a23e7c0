//! Questions about traces between nodes: what the coordinator asks of a shard, and how a shard answers.
//!
//! ```text
//! FragmentRequest { traces: TraceRequest { version, limits, range, body } } ──► shard
//! FragmentAnswer  { traces: TraceAnswer { spans | found | groups | fields | series | edges } } ◄──
//! ```
//!
//! All spans of a trace lie on one shard, so that a shard answers for whole traces and answers are only put together.
//! TraceQL travels as text: a shard parses what the coordinator parsed. Spans travel as an OTLP request
//! ([`crate::otlp::traces`]), with which nothing is lost. Numbers of fields are never reused; a shard refuses a version
//! above its own.

use crate::logs::messages::{AttributeMessage, FieldCount, FieldMessage, FilterMessage, GroupMessage};

/// Version of these messages.
///
/// 2: [`TraceBody::Summaries`]. A question that an older shard can answer is sent as of version 1.
pub const VERSION: u32 = 2;

/// Something asked of the traces of one shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceRequest {
    /// [`VERSION`] of the sender.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// What the user asked, for the list of what runs.
    #[prost(string, tag = "2")]
    pub text: String,
    /// Spans that may be read.
    #[prost(uint64, tag = "3")]
    pub max_samples: u64,
    /// Bytes that may be held.
    #[prost(uint64, tag = "4")]
    pub max_bytes: u64,
    /// Milliseconds until the deadline, as of sending.
    #[prost(uint64, tag = "5")]
    pub timeout_ms: u64,
    /// First nanosecond in which spans may begin.
    #[prost(sfixed64, tag = "6")]
    pub start_ns: i64,
    /// Last nanosecond.
    #[prost(sfixed64, tag = "7")]
    pub end_ns: i64,
    /// What to do.
    #[prost(oneof = "TraceBody", tags = "8, 9, 10, 11, 12, 13, 14, 15")]
    pub body: Option<TraceBody>,
}

/// The kinds of questions.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum TraceBody {
    /// One trace.
    #[prost(message, tag = "8")]
    Trace(TraceIdRequest),
    /// Traces that a query finds.
    #[prost(message, tag = "9")]
    Search(SearchRequest),
    /// Numbers over time.
    #[prost(message, tag = "10")]
    Metrics(MetricsRequest),
    /// Numbers of spans by fields.
    #[prost(message, tag = "11")]
    Counts(SpanCountsRequest),
    /// Fields of spans.
    #[prost(message, tag = "12")]
    Fields(SpanFieldsRequest),
    /// Values of all attributes of the spans that a query finds.
    #[prost(message, tag = "13")]
    Attributes(AttributesRequest),
    /// Calls between services.
    #[prost(message, tag = "14")]
    Edges(EdgesRequest),
    /// Traces in short.
    #[prost(message, tag = "15")]
    Summaries(SummariesRequest),
}

impl TraceBody {
    /// The version of these messages that knows the question.
    pub fn version(&self) -> u32 {
        match self {
            Self::Summaries(_) => 2,
            _ => 1,
        }
    }
}

/// One trace, whenever it was.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceIdRequest {
    /// Its id.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
}

/// Traces with a matching span that begins in the range.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchRequest {
    /// TraceQL.
    #[prost(string, tag = "1")]
    pub query: String,
    /// At most so many traces.
    #[prost(uint64, tag = "2")]
    pub limit: u64,
    /// At most so many spans of each set; the number of all is told.
    #[prost(uint64, tag = "3")]
    pub spans_per_set: u64,
    /// The slowest traces first; else those whose last matching span is the newest.
    #[prost(bool, tag = "4")]
    pub slowest_first: bool,
    /// Only traces behind this one, in the order asked for.
    #[prost(message, optional, tag = "5")]
    pub after: Option<TracePlaceMessage>,
    /// All spans of the traces are wanted, too.
    #[prost(bool, tag = "6")]
    pub whole: bool,
}

/// Place of a trace in an order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TracePlaceMessage {
    /// By what it is ordered: start of its last matching span, its own start, or duration.
    #[prost(sfixed64, tag = "1")]
    pub key: i64,
    /// The trace.
    #[prost(bytes = "vec", tag = "2")]
    pub trace_id: Vec<u8>,
}

/// Numbers over time, of the spans that a query finds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetricsRequest {
    /// TraceQL that ends with a metric.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Beginning of the first bucket.
    #[prost(sfixed64, tag = "2")]
    pub start_ns: i64,
    /// Width of buckets.
    #[prost(sint64, tag = "3")]
    pub step_ns: i64,
    /// Number of buckets.
    #[prost(uint64, tag = "4")]
    pub steps: u64,
    /// Series that may be held.
    #[prost(uint64, tag = "5")]
    pub max_series: u64,
}

/// Numbers of spans that meet a filter, by fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SpanCountsRequest {
    /// What they must meet.
    #[prost(message, required, tag = "1")]
    pub filter: FilterMessage,
    /// Fields to count by.
    #[prost(message, repeated, tag = "2")]
    pub by: Vec<FieldMessage>,
    /// Combinations of values that may be held.
    #[prost(uint64, tag = "3")]
    pub max_groups: u64,
}

/// The fields of spans.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SpanFieldsRequest {}

/// Values of attributes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributesRequest {
    /// TraceQL without a metric.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Values of one attribute that may be held; one with more is told without them.
    #[prost(uint64, tag = "2")]
    pub max_values: u64,
}

/// Calls between services.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct EdgesRequest {}

/// Traces that begin in the range, in short: the latest first, by their start.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummariesRequest {
    /// What their spans must meet. It is about nothing but the id of the trace, which all of its spans have.
    #[prost(message, required, tag = "1")]
    pub filter: FilterMessage,
    /// At most so many traces.
    #[prost(uint64, tag = "2")]
    pub limit: u64,
    /// Only traces behind this one.
    #[prost(message, optional, tag = "3")]
    pub after: Option<TracePlaceMessage>,
}

/// A shard's answer; which parts are filled depends on the question.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceAnswer {
    /// Spans of a trace, as an OTLP request.
    #[prost(bytes = "vec", tag = "1")]
    pub spans: Vec<u8>,
    /// Traces, in the order asked for.
    #[prost(message, repeated, tag = "2")]
    pub found: Vec<FoundMessage>,
    /// Numbers of spans by values, or the values of attributes: kind of field, name, kind of value and value as text.
    #[prost(message, repeated, tag = "3")]
    pub groups: Vec<GroupMessage>,
    /// Fields.
    #[prost(message, repeated, tag = "4")]
    pub fields: Vec<FieldCount>,
    /// Series.
    #[prost(message, repeated, tag = "5")]
    pub series: Vec<StateMessage>,
    /// Calls.
    #[prost(message, repeated, tag = "6")]
    pub edges: Vec<EdgeMessage>,
    /// Spans that a query found.
    #[prost(uint64, tag = "7")]
    pub spans_found: u64,
    /// Attributes with more values than may be held: kind of field and name.
    #[prost(message, repeated, tag = "8")]
    pub left_out: Vec<FieldMessage>,
}

/// A trace that was found.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FoundMessage {
    /// Its place in the order.
    #[prost(message, required, tag = "1")]
    pub place: TracePlaceMessage,
    /// First start.
    #[prost(sfixed64, tag = "2")]
    pub start_ns: i64,
    /// Last end.
    #[prost(sfixed64, tag = "3")]
    pub end_ns: i64,
    /// Service of the root.
    #[prost(string, tag = "4")]
    pub root_service: String,
    /// Name of the root.
    #[prost(string, tag = "5")]
    pub root_name: String,
    /// Number of spans.
    #[prost(uint64, tag = "6")]
    pub spans: u64,
    /// Spans that failed.
    #[prost(uint64, tag = "7")]
    pub errors: u64,
    /// Services by name.
    #[prost(message, repeated, tag = "8")]
    pub services: Vec<ServiceMessage>,
    /// Sets of matching spans.
    #[prost(message, repeated, tag = "9")]
    pub sets: Vec<SetMessage>,
    /// All its spans as an OTLP request, where they are wanted.
    #[prost(bytes = "vec", tag = "10")]
    pub whole: Vec<u8>,
    /// The root names a parent that the trace does not have.
    #[prost(bool, tag = "11")]
    pub orphaned: bool,
}

/// A service in a trace.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceMessage {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its spans.
    #[prost(uint64, tag = "2")]
    pub spans: u64,
    /// Those that failed.
    #[prost(uint64, tag = "3")]
    pub errors: u64,
}

/// A set of matching spans.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetMessage {
    /// What they have in common, by the fields of `by`.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AttributeMessage>,
    /// How many they are.
    #[prost(uint64, tag = "2")]
    pub matched: u64,
    /// The first of them.
    #[prost(message, repeated, tag = "3")]
    pub spans: Vec<MatchMessage>,
}

/// A matching span.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MatchMessage {
    /// Its id.
    #[prost(fixed64, tag = "1")]
    pub span_id: u64,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Service.
    #[prost(string, tag = "3")]
    pub service: String,
    /// Start.
    #[prost(sfixed64, tag = "4")]
    pub start_ns: i64,
    /// Duration.
    #[prost(uint64, tag = "5")]
    pub duration_ns: u64,
    /// Whether it failed.
    #[prost(bool, tag = "6")]
    pub failed: bool,
    /// The fields that the query names.
    #[prost(message, repeated, tag = "7")]
    pub fields: Vec<AttributeMessage>,
}

/// A series, by bucket: lists are as long as `buckets`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateMessage {
    /// Values of the fields of `by`, in their order.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<AttributeMessage>,
    /// Buckets, ascending: the first, then differences.
    #[prost(uint64, repeated, tag = "2")]
    pub buckets: Vec<u64>,
    /// How many spans.
    #[prost(uint64, repeated, tag = "3")]
    pub counts: Vec<u64>,
    /// Sums of the field's numbers, where there is a field.
    #[prost(double, repeated, tag = "4")]
    pub sums: Vec<f64>,
    /// Smallest of the field's numbers.
    #[prost(double, repeated, tag = "5")]
    pub mins: Vec<f64>,
    /// Largest of the field's numbers.
    #[prost(double, repeated, tag = "6")]
    pub maxs: Vec<f64>,
    /// Sketches of the field's numbers, where quantiles are asked for.
    #[prost(message, repeated, tag = "7")]
    pub sketches: Vec<SketchMessage>,
}

/// Numbers by exponential buckets.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SketchMessage {
    /// Numbers that are not positive.
    #[prost(uint64, tag = "1")]
    pub zeros: u64,
    /// Buckets, ascending.
    #[prost(sint32, repeated, tag = "2")]
    pub buckets: Vec<i32>,
    /// Numbers in each.
    #[prost(uint64, repeated, tag = "3")]
    pub counts: Vec<u64>,
}

/// Calls from one service to another.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EdgeMessage {
    /// Who calls.
    #[prost(string, tag = "1")]
    pub caller: String,
    /// Who is called.
    #[prost(string, tag = "2")]
    pub callee: String,
    /// How often.
    #[prost(uint64, tag = "3")]
    pub calls: u64,
    /// Calls that failed on the called side.
    #[prost(uint64, tag = "4")]
    pub errors: u64,
    /// How long the called side took, together, in nanoseconds.
    #[prost(double, tag = "5")]
    pub duration_ns: f64,
}
