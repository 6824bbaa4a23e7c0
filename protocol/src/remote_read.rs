//! Prometheus remote read: the messages of both response types.
//!
//! ```text
//! POST, snappy block ─► ReadRequest ─► SAMPLES:               ReadResponse, snappy block
//!                                      STREAMED_XOR_CHUNKS:   frames: length uvarint | CRC-32C of the data, u32 BE | data,
//!                                                             each a ChunkedReadResponse
//! ```
//!
//! Source: prometheus/prometheus, prompb/remote.proto, prompb/types.proto, storage/remote/chunked.go. Field numbers are
//! theirs; what is not read here is left out and skipped.

use prost::Message;

use crate::histogram::{CounterResetHint, Histogram, Span};
use crate::histogram_chunk;
use crate::labels::Labels;
use crate::matcher::{MatchOp, Matcher, MatcherError};
use crate::varint::write_u64;
use crate::xor_chunk;

/// `prometheus.ReadRequest`
#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    /// Answered in this order.
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    /// What the client takes, best first; none means SAMPLES.
    #[prost(enumeration = "ResponseType", repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ResponseType {
    /// One message with all samples.
    Samples = 0,
    /// A stream of encoded chunks.
    StreamedXorChunks = 1,
}

/// `prometheus.Query`
#[derive(Clone, PartialEq, Message)]
pub struct Query {
    /// First millisecond.
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    /// Last millisecond, included.
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    /// All have to match.
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
}

/// `prometheus.LabelMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct LabelMatcher {
    /// 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// Label.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Value or regular expression.
    #[prost(string, tag = "3")]
    pub value: String,
}

/// A matcher that means nothing here.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// An operator that nobody knows.
    #[error("matcher of label {name:?} has the unknown type {kind}")]
    UnknownOperator {
        /// The label.
        name: String,
        /// The number.
        kind: i32,
    },
    /// A regular expression that does not compile.
    #[error(transparent)]
    Matcher(#[from] MatcherError),
}

impl Query {
    /// The matchers, compiled.
    pub fn compiled(&self) -> Result<Vec<Matcher>, ReadError> {
        let compiled = |m: &LabelMatcher| {
            let op = match m.r#type {
                0 => MatchOp::Equal,
                1 => MatchOp::NotEqual,
                2 => MatchOp::Regex,
                3 => MatchOp::NotRegex,
                kind => return Err(ReadError::UnknownOperator { name: m.name.clone(), kind }),
            };
            Ok(Matcher::new(m.name.as_str(), op, m.value.as_str())?)
        };
        self.matchers.iter().map(compiled).collect()
    }
}

/// `prometheus.ReadResponse`
#[derive(Clone, PartialEq, Message)]
pub struct ReadResponse {
    /// One for each query.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<ReadResult>,
}

/// `prometheus.QueryResult`
#[derive(Clone, PartialEq, Message)]
pub struct ReadResult {
    /// Series, by labels.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// `prometheus.TimeSeries`
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Labels, by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Floats, by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Native histograms, by time.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<HistogramMessage>,
}

/// `prometheus.Label`
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `prometheus.Sample`
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// Value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// `prometheus.Histogram`, with float counts.
#[derive(Clone, PartialEq, Message)]
pub struct HistogramMessage {
    /// Observations.
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    /// Sum of them.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// Resolution.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Width of the zero bucket.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    /// Layout of the negative buckets.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    /// Their counts.
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    /// Layout of the positive buckets.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    /// Their counts.
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// 0 unknown, 1 reset, 2 none, 3 gauge.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    /// Milliseconds.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// Bounds of custom buckets.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

/// `prometheus.BucketSpan`
#[derive(Clone, Copy, PartialEq, Message)]
pub struct BucketSpan {
    /// Gap to the span before.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

impl HistogramMessage {
    /// The message of a histogram. Integer ones go as floats, which every reader takes.
    pub fn new(timestamp: i64, h: &Histogram) -> Self {
        let spans = |spans: &[Span]| {
            spans.iter().map(|s| BucketSpan { offset: s.offset, length: s.length }).collect()
        };
        Self {
            count_float: Some(h.count),
            sum: h.sum,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count_float: Some(h.zero_count),
            negative_spans: spans(&h.negative_spans),
            negative_counts: h.negative_buckets.clone(),
            positive_spans: spans(&h.positive_spans),
            positive_counts: h.positive_buckets.clone(),
            reset_hint: match h.counter_reset_hint {
                CounterResetHint::Unknown => 0,
                CounterResetHint::Reset => 1,
                CounterResetHint::NotReset => 2,
                CounterResetHint::Gauge => 3,
            },
            timestamp,
            custom_values: h.custom_values.clone(),
        }
    }
}

/// `prometheus.ChunkedReadResponse`
#[derive(Clone, PartialEq, Message)]
pub struct ChunkedReadResponse {
    /// Series, by labels; one may go on in the next frame.
    #[prost(message, repeated, tag = "1")]
    pub chunked_series: Vec<ChunkedSeries>,
    /// The query that is answered.
    #[prost(int64, tag = "2")]
    pub query_index: i64,
}

/// `prometheus.ChunkedSeries`
#[derive(Clone, PartialEq, Message)]
pub struct ChunkedSeries {
    /// Labels, by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Chunks, by time.
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<Chunk>,
}

/// `prometheus.Chunk`
#[derive(Clone, PartialEq, Message)]
pub struct Chunk {
    /// Time of the first sample.
    #[prost(int64, tag = "1")]
    pub min_time_ms: i64,
    /// Time of the last sample.
    #[prost(int64, tag = "2")]
    pub max_time_ms: i64,
    /// 1: XOR, 3: histograms with float counts.
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    /// The chunk.
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

/// Number of the XOR encoding.
pub const XOR: i32 = 1;
/// Number of the encoding of histograms with float counts.
pub const FLOAT_HISTOGRAM: i32 = 3;

/// Labels as messages.
pub fn label_messages(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() }).collect()
}

/// The next chunk of a series' samples, which it takes off: floats up to the next histogram, or histograms up to the next
/// float, as many as a chunk takes. `None` when there are no more.
pub fn next_chunk<H: AsRef<Histogram>>(
    floats: &mut &[(i64, f64)],
    histograms: &mut &[(i64, H)],
) -> Option<Chunk> {
    let (float, histogram) =
        (floats.first().map(|(time, _)| *time), histograms.first().map(|(time, _)| *time));
    let (r#type, data, min_time_ms, max_time_ms) = match (float, histogram) {
        (None, None) => return None,
        (Some(first), until) if until.is_none_or(|until| first < until) => {
            let most = floats.len().min(xor_chunk::MAX_SAMPLES);
            let count = floats[..most].partition_point(|(time, _)| until.is_none_or(|until| *time < until));
            let (taken, rest) = floats.split_at(count);
            *floats = rest;
            (XOR, xor_chunk::encode(taken), first, taken[count - 1].0)
        }
        (until, _) => {
            let until = until.unwrap_or(i64::MAX);
            let before = histograms.partition_point(|(time, _)| *time < until).max(1);
            let (data, count) = histogram_chunk::encode(&histograms[..before]);
            let (taken, rest) = histograms.split_at(count);
            *histograms = rest;
            (FLOAT_HISTOGRAM, data, taken[0].0, taken[count - 1].0)
        }
    };
    Some(Chunk { min_time_ms, max_time_ms, r#type, data })
}

/// A body in snappy's block format; an error says that it is too long for that (4 GiB).
pub fn compress(body: &[u8]) -> Result<Vec<u8>, snap::Error> {
    snap::raw::Encoder::new().compress_vec(body)
}

/// A message as a frame of the stream. `checksum` is the CRC-32C (Castagnoli) of bytes.
pub fn frame(message: &ChunkedReadResponse, checksum: impl Fn(&[u8]) -> u32) -> Vec<u8> {
    let data = message.encode_to_vec();
    let mut out = Vec::with_capacity(data.len() + 14);
    write_u64(&mut out, data.len() as u64);
    out.extend_from_slice(&checksum(&data).to_be_bytes());
    out.extend_from_slice(&data);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_length_and_checksum() {
        let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
        let samples: Vec<(i64, f64)> = (0..250).map(|i| (i * 1000, i as f64)).collect();
        let (mut floats, mut histograms) = (&samples[..], &[] as &[(i64, std::sync::Arc<Histogram>)]);
        let chunks = std::iter::from_fn(|| next_chunk(&mut floats, &mut histograms)).collect();
        let series = ChunkedSeries { labels: label_messages(&labels), chunks };
        assert_eq!(series.chunks.len(), 3);
        assert_eq!((series.chunks[1].min_time_ms, series.chunks[1].max_time_ms), (120_000, 239_000));
        let message = ChunkedReadResponse { chunked_series: vec![series], query_index: 3 };
        let framed = frame(&message, |data| data.len() as u32);
        let len = message.encoded_len();
        let header = framed.len() - len;
        assert_eq!(framed[header - 4..header], (len as u32).to_be_bytes());
        assert_eq!(ChunkedReadResponse::decode(&framed[header..]).unwrap(), message);
    }

    #[test]
    fn matchers_are_compiled_or_named() {
        let matcher =
            |kind, value: &str| LabelMatcher { r#type: kind, name: "a".into(), value: value.into() };
        let query = Query { matchers: vec![matcher(2, "x.*"), matcher(1, "y")], ..Query::default() };
        assert_eq!(query.compiled().unwrap()[0].op(), MatchOp::Regex);
        for bad in [matcher(4, "x"), matcher(2, "(")] {
            let query = Query { matchers: vec![bad], ..Query::default() };
            assert!(query.compiled().unwrap_err().to_string().contains("\"a\""));
        }
    }
}
