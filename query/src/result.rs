//! Results of queries, and their JSON form as the Prometheus API gives it.

use std::sync::Arc;

use protocol::histogram::Histogram;
use protocol::labels::Labels;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, SerializeTuple, Serializer};

use crate::format::{format_value, push_seconds, push_value};
use crate::histogram::HistogramExt;

/// A value at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// Labels.
    pub labels: Labels,
    /// Milliseconds.
    pub time: i64,
    /// Value.
    pub value: Value,
}

/// One series of a matrix.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MatrixSeries {
    /// Labels.
    pub labels: Option<Labels>,
    /// Floats, by time.
    pub floats: Vec<(i64, f64)>,
    /// Histograms, by time.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum ResultValue {
    /// A scalar at a time.
    Scalar(i64, f64),
    /// A string at a time.
    String(i64, String),
    /// An instant vector, in order.
    Vector(Vec<VectorSample>),
    /// Series over time, sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

/// What a query cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryStats {
    /// Samples read.
    pub total_queryable_samples: u64,
    /// Most samples held at once, over all shards.
    pub peak_samples: u64,
    /// Series read.
    pub series: u64,
    /// Fragments sent to the shards.
    pub fragments: u64,
    /// Steps that were not evaluated, because the result of an earlier query had them.
    pub cached_steps: u64,
    /// Microseconds spent at the shards, in all.
    pub shard_micros: u64,
    /// Microseconds until the shards had answered.
    pub wait_micros: u64,
    /// Microseconds of parsing, planning and evaluating beside that.
    pub evaluate_micros: u64,
    /// Microseconds in all.
    pub total_micros: u64,
}

/// A query's answer.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The value.
    pub value: ResultValue,
    /// Warnings, each with its place.
    pub warnings: Vec<String>,
    /// Information, each with its place.
    pub infos: Vec<String>,
    /// What it cost.
    pub stats: QueryStats,
    /// How it was answered, where that was asked for.
    pub explanation: Option<crate::engine::Explanation>,
}

impl ResultValue {
    /// `resultType` of the API.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar(..) => "scalar",
            Self::String(..) => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }

    /// Keeps at most `limit` elements (0 keeps all); true when some went.
    pub fn limit(&mut self, limit: usize) -> bool {
        let len = match self {
            Self::Vector(v) => v.len(),
            Self::Matrix(m) => m.len(),
            _ => 0,
        };
        if limit == 0 || len <= limit {
            return false;
        }
        match self {
            Self::Vector(v) => v.truncate(limit),
            Self::Matrix(m) => m.truncate(limit),
            _ => {}
        }
        true
    }
}

impl QueryResult {
    /// The `data` member of the API's answer: `{"resultType":...,"result":...}`.
    pub fn data_json(&self) -> String {
        let mut out = String::with_capacity(256);
        out.push_str("{\"resultType\":\"");
        out.push_str(self.value.type_name());
        out.push_str("\",\"result\":");
        match &self.value {
            ResultValue::Scalar(time, value) => point(&mut out, *time, *value),
            ResultValue::String(time, text) => {
                out.push('[');
                push_seconds(&mut out, *time);
                out.push(',');
                string(&mut out, text);
                out.push(']');
            }
            ResultValue::Vector(samples) => list(&mut out, samples, |out, sample| {
                out.push_str("{\"metric\":");
                labels(out, &sample.labels);
                match &sample.value {
                    Value::Float(value) => {
                        out.push_str(",\"value\":");
                        point(out, sample.time, *value);
                    }
                    Value::Histogram(h) => {
                        out.push_str(",\"histogram\":");
                        histogram_point(out, sample.time, h);
                    }
                }
                out.push('}');
            }),
            ResultValue::Matrix(series) => list(&mut out, series, |out, series| {
                out.push_str("{\"metric\":");
                match &series.labels {
                    Some(set) => labels(out, set),
                    None => out.push_str("{}"),
                }
                if !series.floats.is_empty() {
                    out.push_str(",\"values\":");
                    list(out, &series.floats, |out, (time, value)| point(out, *time, *value));
                }
                if !series.histograms.is_empty() {
                    out.push_str(",\"histograms\":");
                    list(out, &series.histograms, |out, (time, h)| histogram_point(out, *time, h));
                }
                out.push('}');
            }),
        }
        out.push('}');
        out
    }
}

/// Escapes as JSON.
pub fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn list<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// A label set as a JSON object.
pub fn labels(out: &mut String, set: &Labels) {
    out.push('{');
    for (i, (name, value)) in set.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        string(out, value);
    }
    out.push('}');
}

fn point(out: &mut String, time: i64, value: f64) {
    out.push('[');
    push_seconds(out, time);
    out.push_str(",\"");
    push_value(out, value);
    out.push_str("\"]");
}

fn histogram_point(out: &mut String, time: i64, h: &Histogram) {
    out.push('[');
    push_seconds(out, time);
    out.push(',');
    out.push_str(&histogram_json(h));
    out.push(']');
}

/// How the bounds of a bucket belong to it: 0 open left, 1 open right, 2 open both, 3 closed both.
fn boundary_rule(h: &Histogram, lower: f64, upper: f64) -> u8 {
    let zero = !h.is_custom() && lower <= 0.0 && upper >= 0.0 && lower == -upper;
    let (lower_in, upper_in) = if zero {
        (true, true)
    } else if !h.is_custom() && upper <= 0.0 {
        (true, false)
    } else {
        (lower < 0.0, true)
    };
    match (lower_in, upper_in) {
        (false, true) => 0,
        (true, false) => 1,
        (false, false) => 2,
        (true, true) => 3,
    }
}

/// `{"count":"..","sum":"..","buckets":[[rule,"lower","upper","count"],..]}`
pub fn histogram_json(h: &Histogram) -> String {
    let mut out = format!("{{\"count\":\"{}\",\"sum\":\"{}\"", format_value(h.count), format_value(h.sum));
    let buckets: Vec<_> = h.buckets().into_iter().filter(|b| b.count != 0.0).collect();
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":");
        list(&mut out, &buckets, |out, b| {
            let rule = boundary_rule(h, b.lower, b.upper);
            let (lower, upper) = (format_value(b.lower), format_value(b.upper));
            out.push_str(&format!("[{rule},\"{lower}\",\"{upper}\",\"{}\"]", format_value(b.count)));
        });
    }
    out.push('}');
    out
}

// The serde form is for callers that build larger documents; `data_json` is the fast way.

struct Seconds(i64);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            serializer.serialize_i64(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

struct Point<'a, T>(i64, &'a T);

impl<T: Serialize> Serialize for Point<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&Seconds(self.0))?;
        tuple.serialize_element(self.1)?;
        tuple.end()
    }
}

struct LabelMap<'a>(&'a Labels);

impl Serialize for LabelMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct HistogramMap {
    count: String,
    sum: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buckets: Vec<(u8, String, String, String)>,
}

impl HistogramMap {
    fn new(h: &Histogram) -> Self {
        let bucket = |b: &crate::histogram::Bucket| {
            let rule = boundary_rule(h, b.lower, b.upper);
            (rule, format_value(b.lower), format_value(b.upper), format_value(b.count))
        };
        Self {
            count: format_value(h.count),
            sum: format_value(h.sum),
            buckets: h.buckets().iter().filter(|b| b.count != 0.0).map(bucket).collect(),
        }
    }
}

impl Serialize for VectorSample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("metric", &LabelMap(&self.labels))?;
        match &self.value {
            Value::Float(value) => map.serialize_entry("value", &Point(self.time, &format_value(*value)))?,
            Value::Histogram(h) => {
                map.serialize_entry("histogram", &Point(self.time, &HistogramMap::new(h)))?
            }
        }
        map.end()
    }
}

struct Floats<'a>(&'a [(i64, f64)]);

impl Serialize for Floats<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for (time, value) in self.0 {
            seq.serialize_element(&Point(*time, &format_value(*value)))?;
        }
        seq.end()
    }
}

struct Histograms<'a>(&'a [(i64, Arc<Histogram>)]);

impl Serialize for Histograms<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for (time, h) in self.0 {
            seq.serialize_element(&Point(*time, &HistogramMap::new(h)))?;
        }
        seq.end()
    }
}

impl Serialize for MatrixSeries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let empty = Labels::empty();
        map.serialize_entry("metric", &LabelMap(self.labels.as_ref().unwrap_or(&empty)))?;
        if !self.floats.is_empty() {
            map.serialize_entry("values", &Floats(&self.floats))?;
        }
        if !self.histograms.is_empty() {
            map.serialize_entry("histograms", &Histograms(&self.histograms))?;
        }
        map.end()
    }
}

/// As the `data` member of the API's answer.
impl Serialize for ResultValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("resultType", self.type_name())?;
        match self {
            Self::Scalar(time, value) => {
                map.serialize_entry("result", &Point(*time, &format_value(*value)))?
            }
            Self::String(time, text) => map.serialize_entry("result", &Point(*time, text))?,
            Self::Vector(samples) => map.serialize_entry("result", samples)?,
            Self::Matrix(series) => map.serialize_entry("result", series)?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::histogram::Span;

    #[test]
    fn both_json_forms_agree() {
        let labels = Labels::from_pairs([("__name__", "m"), ("l", "a\"b\n")]).unwrap();
        let h = Arc::new(Histogram {
            count: 3.0,
            sum: 1.5,
            zero_threshold: 0.5,
            zero_count: 1.0,
            positive_spans: vec![Span { offset: 1, length: 1 }],
            positive_buckets: vec![2.0],
            ..Default::default()
        });
        let values = [
            ResultValue::Scalar(1_500, f64::INFINITY),
            ResultValue::String(0, "a".into()),
            ResultValue::Vector(vec![
                VectorSample { labels: labels.clone(), time: 1000, value: Value::Float(1e21) },
                VectorSample { labels: labels.clone(), time: 1000, value: Value::Histogram(h.clone()) },
            ]),
            ResultValue::Matrix(vec![MatrixSeries {
                labels: Some(labels),
                floats: vec![(1000, 1.0), (2000, f64::NAN)],
                histograms: vec![(3000, h)],
            }]),
        ];
        for value in values {
            let slow = serde_json::to_value(&value).unwrap();
            let result = QueryResult {
                value,
                warnings: vec![],
                infos: vec![],
                stats: QueryStats::default(),
                explanation: None,
            };
            let fast: serde_json::Value = serde_json::from_str(&result.data_json()).unwrap();
            assert_eq!(fast, slow);
        }
    }

    #[test]
    fn buckets_say_which_bounds_belong() {
        let h = Histogram {
            count: 4.0,
            zero_threshold: 0.5,
            zero_count: 1.0,
            positive_spans: vec![Span { offset: 1, length: 1 }],
            positive_buckets: vec![2.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_buckets: vec![1.0],
            ..Default::default()
        };
        assert_eq!(
            histogram_json(&h),
            r#"{"count":"4","sum":"0","buckets":[[1,"-2","-1","1"],[3,"-0.5","0.5","1"],[0,"1","2","2"]]}"#
        );
    }
}
