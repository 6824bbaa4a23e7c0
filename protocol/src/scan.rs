//! Fragments: what the query coordinator asks of each shard, and how a shard answers.
//!
//! All messages are protobuf with stable field numbers (never reused; a new meaning gets a new number). Requests
//! open with [`VERSION`]; a shard refuses a version above its own, so that a mixed-version cluster fails loudly
//! instead of answering something else.
//!
//! A PromQL fragment travels as the text of the whole query and the span of the part to evaluate: the shard parses
//! what the user wrote, so that positions in its warnings are positions in the user's query. Answers are columnar:
//! for each output series (or group) a presence bitmap over the steps, then the present values as f64 little-endian.
//! Partial aggregates are running states, not results: the coordinator merges them in shard order and finishes them.
//!
//! Everything here is decoded from peers, so lengths are checked by the readers (`query::fragment`).

use bytes::Bytes;

use crate::logs::messages::{LogAnswer, LogRequest};
use crate::spans::messages::{TraceAnswer, TraceRequest};

/// Version of the fragment protocol.
pub const VERSION: u32 = 1;

/// A request to one shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FragmentRequest {
    /// [`VERSION`] of the sender.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Whose data.
    #[prost(string, tag = "2")]
    pub tenant: String,
    /// What to do.
    #[prost(oneof = "FragmentBody", tags = "3, 4, 5, 6, 7, 8, 9, 10, 13, 16, 17, 24")]
    pub body: Option<FragmentBody>,
    /// Number of the query that the fragment is a part of, the same for all of them: by it a node shares its threads
    /// out and counts what the parts use together. 0 for none.
    #[prost(fixed64, tag = "11")]
    pub query: u64,
    /// Which of the query's rounds of fragments, from 1 on. Fragments of a round share what was left of the query's
    /// samples when it began.
    #[prost(uint32, tag = "12")]
    pub round: u32,
}

/// The kinds of fragments.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum FragmentBody {
    /// Evaluate a part of a PromQL query.
    #[prost(message, tag = "3")]
    Evaluate(EvaluateRequest),
    /// List label names.
    #[prost(message, tag = "4")]
    LabelNames(LabelNamesRequest),
    /// List the values of a label.
    #[prost(message, tag = "5")]
    LabelValues(LabelValuesRequest),
    /// List series.
    #[prost(message, tag = "6")]
    Series(SeriesRequest),
    /// List metadata.
    #[prost(message, tag = "7")]
    Metadata(MetadataRequest),
    /// Read exemplars.
    #[prost(message, tag = "8")]
    Exemplars(ExemplarsRequest),
    /// Read raw samples (remote read, federation).
    #[prost(message, tag = "9")]
    Samples(SamplesRequest),
    /// Count the series of label pairs.
    #[prost(message, tag = "10")]
    Cardinality(CardinalityRequest),
    /// Ask what has changed since.
    #[prost(message, tag = "13")]
    Changes(ChangesRequest),
    /// Ask the logs.
    #[prost(message, tag = "16")]
    Logs(LogRequest),
    /// Ask the traces.
    #[prost(message, tag = "17")]
    Traces(TraceRequest),
    /// Walk over rows for SQL.
    #[prost(message, tag = "24")]
    Sql(crate::sql::SqlRequest),
}

/// A label matcher.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MatcherMessage {
    /// Label name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
    #[prost(uint32, tag = "2")]
    pub op: u32,
    /// Value or expression.
    #[prost(string, tag = "3")]
    pub value: String,
}

/// All of the matchers are to be met.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MatcherSet {
    /// The matchers.
    #[prost(message, repeated, tag = "1")]
    pub matchers: Vec<MatcherMessage>,
}

/// Evaluate `query[span_start..span_end]` at `steps` points from `start_ms` on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EvaluateRequest {
    /// The whole query as the user wrote it.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Byte span of the part to evaluate.
    #[prost(uint32, tag = "2")]
    pub span_start: u32,
    /// End of the span.
    #[prost(uint32, tag = "3")]
    pub span_end: u32,
    /// First evaluation time.
    #[prost(int64, tag = "4")]
    pub start_ms: i64,
    /// Distance of evaluation times.
    #[prost(int64, tag = "5")]
    pub step_ms: i64,
    /// Number of evaluation times.
    #[prost(uint32, tag = "6")]
    pub steps: u32,
    /// Start of the whole query, which `start()` means.
    #[prost(int64, tag = "7")]
    pub query_start_ms: i64,
    /// End of the whole query, which `end()` means.
    #[prost(int64, tag = "8")]
    pub query_end_ms: i64,
    /// Step of the whole query, which `step()` means.
    #[prost(int64, tag = "9")]
    pub query_step_ms: i64,
    /// How far an instant selector looks back.
    #[prost(int64, tag = "10")]
    pub lookback_ms: i64,
    /// Step of subqueries that name none.
    #[prost(int64, tag = "11")]
    pub subquery_step_ms: i64,
    /// Names of the features that are switched on.
    #[prost(string, repeated, tag = "12")]
    pub features: Vec<String>,
    /// Samples that this query may still load, on all shards together.
    #[prost(uint64, tag = "13")]
    pub max_samples: u64,
    /// Bytes that the query may hold on a node.
    #[prost(uint64, tag = "14")]
    pub max_bytes: u64,
    /// Milliseconds until the query's deadline, as of sending.
    #[prost(uint64, tag = "15")]
    pub timeout_ms: u64,
    /// The span is an aggregation whose running state is wanted instead of its result.
    #[prost(bool, tag = "16")]
    pub partial: bool,
    /// Scalars inside the span that only the coordinator can evaluate.
    #[prost(message, repeated, tag = "18")]
    pub scalars: Vec<BoundScalar>,
    /// Native histograms have to tell whether their counter was reset before them.
    #[prost(bool, tag = "19")]
    pub find_resets: bool,
}

/// The values of a scalar part of the query.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BoundScalar {
    /// Byte span of the part.
    #[prost(uint32, tag = "1")]
    pub span_start: u32,
    /// End of the span.
    #[prost(uint32, tag = "2")]
    pub span_end: u32,
    /// One f64 little-endian per step.
    #[prost(bytes = "vec", tag = "3")]
    pub values: Vec<u8>,
}

/// A native histogram with absolute float buckets.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HistogramMessage {
    /// 0 unknown, 1 reset, 2 not reset, 3 gauge.
    #[prost(uint32, tag = "1")]
    pub counter_reset_hint: u32,
    /// Schema, -53 for custom bounds.
    #[prost(sint32, tag = "2")]
    pub schema: i32,
    /// Width of the zero bucket.
    #[prost(double, tag = "3")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    #[prost(double, tag = "4")]
    pub zero_count: f64,
    /// Observations.
    #[prost(double, tag = "5")]
    pub count: f64,
    /// Sum of observations.
    #[prost(double, tag = "6")]
    pub sum: f64,
    /// Offset and length of each positive span, in turn.
    #[prost(sint32, repeated, tag = "7")]
    pub positive_spans: Vec<i32>,
    /// Offset and length of each negative span, in turn.
    #[prost(sint32, repeated, tag = "8")]
    pub negative_spans: Vec<i32>,
    /// Counts of the positive buckets.
    #[prost(double, repeated, tag = "9")]
    pub positive_buckets: Vec<f64>,
    /// Counts of the negative buckets.
    #[prost(double, repeated, tag = "10")]
    pub negative_buckets: Vec<f64>,
    /// Custom bounds.
    #[prost(double, repeated, tag = "11")]
    pub custom_values: Vec<f64>,
}

/// A histogram at one step (or, in raw samples, at one index).
#[derive(Clone, PartialEq, prost::Message)]
pub struct StepHistogram {
    /// Index of the step.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// The histogram.
    #[prost(message, optional, tag = "2")]
    pub histogram: Option<HistogramMessage>,
}

/// One output series over the steps.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SeriesMessage {
    /// Canonical label bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub labels: Bytes,
    /// The metric name goes when the query ends (delayed name removal).
    #[prost(bool, tag = "2")]
    pub drop_name: bool,
    /// One bit per step, lowest first: a float is there. Empty means all.
    #[prost(bytes = "vec", tag = "3")]
    pub presence: Vec<u8>,
    /// The floats that are there, f64 little-endian.
    #[prost(bytes = "bytes", tag = "4")]
    pub values: Bytes,
    /// The histograms that are there.
    #[prost(message, repeated, tag = "5")]
    pub histograms: Vec<StepHistogram>,
}

/// Running state of an aggregation for one group. Which columns are set depends on the operator; each holds one
/// f64 per present step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialMessage {
    /// Canonical label bytes of the group.
    #[prost(bytes = "vec", tag = "1")]
    pub labels: Vec<u8>,
    /// See [`SeriesMessage::drop_name`].
    #[prost(bool, tag = "2")]
    pub drop_name: bool,
    /// One bit per step: the group has a state there. Empty means all.
    #[prost(bytes = "vec", tag = "3")]
    pub presence: Vec<u8>,
    /// Sum, mean, extreme value.
    #[prost(bytes = "vec", tag = "4")]
    pub high: Vec<u8>,
    /// What the additions to `high` lost. Empty means zeros.
    #[prost(bytes = "vec", tag = "5")]
    pub low: Vec<u8>,
    /// Number of floats. Empty means ones.
    #[prost(bytes = "vec", tag = "6")]
    pub count: Vec<u8>,
    /// Sum of squared distances from the mean.
    #[prost(bytes = "vec", tag = "7")]
    pub spread: Vec<u8>,
    /// What the additions to `spread` lost.
    #[prost(bytes = "vec", tag = "8")]
    pub spread_low: Vec<u8>,
    /// One byte of flags per present step; empty means zeros. Bits are named in `query::aggregate`.
    #[prost(bytes = "vec", tag = "9")]
    pub flags: Vec<u8>,
    /// Histogram states.
    #[prost(message, repeated, tag = "10")]
    pub histograms: Vec<PartialHistogram>,
    /// The metric of the newest histogram, for warnings.
    #[prost(string, tag = "11")]
    pub metric: String,
}

/// Running sum of histograms at one step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialHistogram {
    /// Index of the step.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// The sum, or the mean.
    #[prost(message, optional, tag = "2")]
    pub high: Option<HistogramMessage>,
    /// What the additions lost.
    #[prost(message, optional, tag = "3")]
    pub low: Option<HistogramMessage>,
    /// How many histograms went in.
    #[prost(double, tag = "4")]
    pub count: f64,
    /// Bits are named in `query::aggregate`.
    #[prost(uint32, tag = "5")]
    pub flags: u32,
}

/// A warning or a piece of information about a query.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnnotationMessage {
    /// True for a warning, false for information.
    #[prost(bool, tag = "1")]
    pub warning: bool,
    /// The text without the position.
    #[prost(string, tag = "2")]
    pub text: String,
    /// Byte offset in the query that it is about, plus one; 0 when there is none.
    #[prost(uint32, tag = "3")]
    pub position: u32,
    /// For annotations that summarise many: lowest timestamp.
    #[prost(int64, tag = "4")]
    pub first_ms: i64,
    /// Highest timestamp.
    #[prost(int64, tag = "5")]
    pub last_ms: i64,
    /// Lowest and highest bucket and the largest difference, of monotonicity fixes.
    #[prost(double, repeated, tag = "6")]
    pub numbers: Vec<f64>,
    /// How many it summarises; 0 when it is not of that kind.
    #[prost(uint64, tag = "7")]
    pub count: u64,
}

/// What a fragment cost at a shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FragmentStats {
    /// Samples read.
    #[prost(uint64, tag = "1")]
    pub samples: u64,
    /// Series read.
    #[prost(uint64, tag = "2")]
    pub series: u64,
    /// Most samples held at once.
    #[prost(uint64, tag = "3")]
    pub peak_samples: u64,
    /// Microseconds of work.
    #[prost(uint64, tag = "4")]
    pub micros: u64,
    /// Samples read per step, when asked.
    #[prost(uint64, repeated, tag = "5")]
    pub samples_per_step: Vec<u64>,
}

/// Why a shard could not answer. These are errors of the query, so they travel as answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FragmentError {
    /// Number of the error's kind, as `query::error` lists them.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Text for the client.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Answer of a shard; the fields that are set depend on the request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FragmentAnswer {
    /// Set when the fragment failed.
    #[prost(message, optional, tag = "1")]
    pub error: Option<FragmentError>,
    /// Evaluated series, in label order.
    #[prost(message, repeated, tag = "2")]
    pub series: Vec<SeriesMessage>,
    /// Partial aggregates, in label order.
    #[prost(message, repeated, tag = "3")]
    pub partials: Vec<PartialMessage>,
    /// Warnings and information.
    #[prost(message, repeated, tag = "4")]
    pub annotations: Vec<AnnotationMessage>,
    /// What it cost.
    #[prost(message, optional, tag = "5")]
    pub stats: Option<FragmentStats>,
    /// Label names or values, ascending, as UTF-8.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub strings: Vec<Bytes>,
    /// Canonical label bytes of series, in label order.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub label_sets: Vec<Bytes>,
    /// Metadata.
    #[prost(message, repeated, tag = "8")]
    pub metadata: Vec<MetadataMessage>,
    /// Exemplars.
    #[prost(message, repeated, tag = "9")]
    pub exemplars: Vec<SeriesExemplars>,
    /// Raw samples.
    #[prost(message, repeated, tag = "10")]
    pub samples: Vec<RawSeries>,
    /// The answer was cut at the asked limit.
    #[prost(bool, tag = "11")]
    pub truncated: bool,
    /// Counts of label pairs.
    #[prost(message, optional, tag = "12")]
    pub cardinality: Option<CardinalityAnswer>,
    /// What logs answered.
    #[prost(message, optional, tag = "16")]
    pub logs: Option<LogAnswer>,
    /// What traces answered.
    #[prost(message, optional, tag = "17")]
    pub traces: Option<TraceAnswer>,
    /// Rows of SQL.
    #[prost(message, optional, tag = "24")]
    pub sql: Option<crate::sql::SqlAnswer>,
    /// Last log entry that the answer reflects, of fragments that evaluate or ask for changes. 0 where results must not
    /// be kept by it.
    #[prost(uint64, tag = "13")]
    pub applied: u64,
    /// Least timestamp that may have changed, of fragments that ask for changes.
    #[prost(sint64, tag = "14")]
    pub changed_from_ms: i64,
}

/// Ask for the least timestamp of the tenant's samples that log entries after a position may have added or taken away:
/// `i64::MAX` where they changed nothing, `i64::MIN` where the shard does not know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangesRequest {
    /// The position of each shard.
    #[prost(message, repeated, tag = "1")]
    pub since: Vec<ShardPosition>,
}

/// A position in the log of a shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ShardPosition {
    /// The shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// Index of the entry.
    #[prost(uint64, tag = "2")]
    pub index: u64,
}

/// Count the series of label pairs. What has most over all shards need not have most on any: the coordinator asks first
/// for the largest of each shard (`limit`), then for all that could still be among the largest (`min_series`), then for
/// the counts of all candidates (`pairs`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct CardinalityRequest {
    /// The head's totals, and the so many pairs with most series. 0 when another question is asked.
    #[prost(uint32, tag = "1")]
    pub limit: u32,
    /// All pairs with so many series or more. 0 when another question is asked.
    #[prost(uint64, tag = "2")]
    pub min_series: u64,
    /// These pairs.
    #[prost(message, repeated, tag = "3")]
    pub pairs: Vec<LabelPair>,
}

/// A label with a value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Message)]
pub struct LabelPair {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// How many series have a label pair.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PairCount {
    /// The pair.
    #[prost(message, required, tag = "1")]
    pub pair: LabelPair,
    /// Series that have it.
    #[prost(uint64, tag = "2")]
    pub series: u64,
}

/// The values of a label.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LabelCount {
    /// The label.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A hash of each value, u64 little-endian: shards have values in common, which count once.
    #[prost(bytes = "vec", tag = "2")]
    pub value_hashes: Vec<u8>,
    /// Bytes of the values, that of each series counted.
    #[prost(uint64, tag = "3")]
    pub value_bytes: u64,
}

/// Counts of a shard's head.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CardinalityAnswer {
    /// Series.
    #[prost(uint64, tag = "1")]
    pub series: u64,
    /// Series by metric, all metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<PairCount>,
    /// Labels, all of them.
    #[prost(message, repeated, tag = "3")]
    pub labels: Vec<LabelCount>,
    /// The pairs that were asked for.
    #[prost(message, repeated, tag = "4")]
    pub pairs: Vec<PairCount>,
    /// Parts that the samples are kept in.
    #[prost(uint64, tag = "5")]
    pub chunks: u64,
    /// First timestamp in memory; meaningless without `has_samples`.
    #[prost(int64, tag = "6")]
    pub min_time_ms: i64,
    /// Last timestamp in memory.
    #[prost(int64, tag = "7")]
    pub max_time_ms: i64,
    /// Whether samples are in memory.
    #[prost(bool, tag = "8")]
    pub has_samples: bool,
}

/// List label names. Matcher sets are alternatives; none means all series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LabelNamesRequest {
    /// Alternatives.
    #[prost(message, repeated, tag = "1")]
    pub selectors: Vec<MatcherSet>,
    /// First millisecond.
    #[prost(int64, tag = "2")]
    pub start_ms: i64,
    /// Last millisecond.
    #[prost(int64, tag = "3")]
    pub end_ms: i64,
    /// At most so many, 0 for all.
    #[prost(uint64, tag = "4")]
    pub limit: u64,
}

/// List the values of a label.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LabelValuesRequest {
    /// The label.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Alternatives.
    #[prost(message, repeated, tag = "2")]
    pub selectors: Vec<MatcherSet>,
    /// First millisecond.
    #[prost(int64, tag = "3")]
    pub start_ms: i64,
    /// Last millisecond.
    #[prost(int64, tag = "4")]
    pub end_ms: i64,
    /// At most so many, 0 for all.
    #[prost(uint64, tag = "5")]
    pub limit: u64,
}

/// List series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SeriesRequest {
    /// Alternatives.
    #[prost(message, repeated, tag = "1")]
    pub selectors: Vec<MatcherSet>,
    /// First millisecond.
    #[prost(int64, tag = "2")]
    pub start_ms: i64,
    /// Last millisecond.
    #[prost(int64, tag = "3")]
    pub end_ms: i64,
    /// At most so many, 0 for all.
    #[prost(uint64, tag = "4")]
    pub limit: u64,
}

/// List metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetadataRequest {
    /// Only this family; empty for all.
    #[prost(string, tag = "1")]
    pub family: String,
}

/// Metadata of a family.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetadataMessage {
    /// Name.
    #[prost(string, tag = "1")]
    pub family: String,
    /// Type.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Help.
    #[prost(string, tag = "3")]
    pub help: String,
    /// Unit.
    #[prost(string, tag = "4")]
    pub unit: String,
}

/// Read exemplars.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExemplarsRequest {
    /// Alternatives.
    #[prost(message, repeated, tag = "1")]
    pub selectors: Vec<MatcherSet>,
    /// First millisecond.
    #[prost(int64, tag = "2")]
    pub start_ms: i64,
    /// Last millisecond.
    #[prost(int64, tag = "3")]
    pub end_ms: i64,
}

/// Exemplars of a series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SeriesExemplars {
    /// Canonical label bytes of the series.
    #[prost(bytes = "vec", tag = "1")]
    pub labels: Vec<u8>,
    /// The exemplars.
    #[prost(message, repeated, tag = "2")]
    pub exemplars: Vec<ExemplarMessage>,
}

/// An exemplar.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExemplarMessage {
    /// Canonical bytes of its own labels.
    #[prost(bytes = "vec", tag = "1")]
    pub labels: Vec<u8>,
    /// Value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Timestamp.
    #[prost(int64, tag = "3")]
    pub timestamp_ms: i64,
}

/// Read raw samples.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SamplesRequest {
    /// Alternatives.
    #[prost(message, repeated, tag = "1")]
    pub selectors: Vec<MatcherSet>,
    /// First millisecond.
    #[prost(int64, tag = "2")]
    pub start_ms: i64,
    /// Last millisecond.
    #[prost(int64, tag = "3")]
    pub end_ms: i64,
    /// Samples that may be read.
    #[prost(uint64, tag = "4")]
    pub max_samples: u64,
    /// Only the last sample of each series.
    #[prost(bool, tag = "5")]
    pub last_only: bool,
}

/// Raw samples of a series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RawSeries {
    /// Canonical label bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub labels: Vec<u8>,
    /// Timestamps of the floats: the first, then differences.
    #[prost(sint64, repeated, tag = "2")]
    pub times: Vec<i64>,
    /// Floats, f64 little-endian.
    #[prost(bytes = "vec", tag = "3")]
    pub values: Vec<u8>,
    /// Timestamps of the histograms: the first, then differences.
    #[prost(sint64, repeated, tag = "4")]
    pub histogram_times: Vec<i64>,
    /// Histograms.
    #[prost(message, repeated, tag = "5")]
    pub histograms: Vec<HistogramMessage>,
}
