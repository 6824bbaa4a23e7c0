//! A sender of remote write 2.0: floats, native histograms of floats, start timestamps.
//!
//! The messages are those of `io.prometheus.write.v2` (prometheus/prometheus, prompb/io/prometheus/write/v2), spelled out
//! here a second time so that tests do not speak to the server through its own decoder.

use std::collections::BTreeMap;

use chaos::client::{Answer, Client};
use prost::Message;
use protocol::histogram::{CounterResetHint, Histogram, Span};

/// A series of a request.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Names and values, by name.
    pub labels: Vec<(String, String)>,
    /// Milliseconds, start timestamp (0 for none), value.
    pub floats: Vec<(i64, i64, f64)>,
    /// Milliseconds, start timestamp (0 for none), histogram.
    pub histograms: Vec<(i64, i64, Histogram)>,
}

/// Writes series of floats to the default tenant: labels, milliseconds and values.
pub fn load(client: &Client, series: impl IntoIterator<Item = (Vec<(String, String)>, Vec<(i64, f64)>)>) {
    let series = series.into_iter().map(|(labels, samples)| Series {
        labels,
        floats: samples.into_iter().map(|(time, value)| (time, 0, value)).collect(),
        ..Series::default()
    });
    let answer = send(client, "default", &series.collect::<Vec<_>>()).expect("an answer");
    assert!(answer.is_success(), "{} {}", answer.status, answer.body);
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<HistogramMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramMessage {
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(double, optional, tag = "7")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

fn histogram(time: i64, start: i64, h: &Histogram) -> HistogramMessage {
    let spans =
        |spans: &[Span]| spans.iter().map(|s| BucketSpan { offset: s.offset, length: s.length }).collect();
    HistogramMessage {
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
        timestamp: time,
        custom_values: h.custom_values.clone(),
        start_timestamp: start,
    }
}

/// Encodes a snappy-compressed request.
pub fn encode(series: &[Series]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut known: BTreeMap<String, u32> = BTreeMap::new();
    let mut refer = |text: &str| {
        *known.entry(text.to_owned()).or_insert_with(|| {
            symbols.push(text.to_owned());
            (symbols.len() - 1) as u32
        })
    };
    let timeseries = series
        .iter()
        .map(|s| TimeSeries {
            labels_refs: s.labels.iter().flat_map(|(n, v)| [refer(n), refer(v)]).collect(),
            samples: s
                .floats
                .iter()
                .map(|&(timestamp, start_timestamp, value)| Sample { value, timestamp, start_timestamp })
                .collect(),
            histograms: s.histograms.iter().map(|(time, start, h)| histogram(*time, *start, h)).collect(),
        })
        .collect();
    let raw = Request { symbols, timeseries }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&raw).expect("a body far below snappy's limit")
}

/// Sends a request for a tenant.
pub fn send(client: &Client, tenant: &str, series: &[Series]) -> anyhow::Result<Answer> {
    let headers = [
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "2.0.0"),
        ("X-Scope-OrgID", tenant),
    ];
    client.post("/api/v1/write", &headers, &encode(series))
}
