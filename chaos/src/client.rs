//! A client of one node: remote write 1.0 bodies and the Prometheus query API.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use prost::Message;
use serde_json::Value;

/// A float series on the wire: labels in any order and samples of (milliseconds, value).
#[derive(Clone, Debug)]
pub struct Series {
    /// Name and value pairs.
    pub labels: Vec<(String, String)>,
    /// Times in milliseconds and values.
    pub samples: Vec<(i64, f64)>,
}

impl Series {
    /// A series named `name` with further labels.
    pub fn new(name: &str, labels: &[(&str, &str)], samples: Vec<(i64, f64)>) -> Self {
        let mut all = vec![("__name__".to_owned(), name.to_owned())];
        all.extend(labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        all.sort();
        Self { labels: all, samples }
    }
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// Encodes series as a snappy-compressed remote write 1.0 body.
pub fn encode_write(series: &[Series]) -> Vec<u8> {
    let timeseries = series
        .iter()
        .map(|s| TimeSeries {
            labels: s.labels.iter().map(|(n, v)| Label { name: n.clone(), value: v.clone() }).collect(),
            samples: s.samples.iter().map(|&(timestamp, value)| Sample { value, timestamp }).collect(),
        })
        .collect();
    let raw = WriteRequest { timeseries }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&raw).expect("a body far below snappy's limit")
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text; what is no UTF-8 is replaced.
    pub body: String,
}

impl Answer {
    /// Whether the status is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Speaks to one node.
#[derive(Clone)]
pub struct Client {
    base: String,
    agent: ureq::Agent,
}

impl Client {
    /// A client of the server at `http://host:port`.
    pub fn new(base: impl Into<String>) -> Self {
        Self::with_timeout(base, Duration::from_secs(30))
    }

    /// The same with a time-out per request.
    pub fn with_timeout(base: impl Into<String>, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .build();
        Self { base: base.into(), agent: config.into() }
    }

    /// The server's base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a GET.
    pub fn get(&self, path_and_query: &str) -> anyhow::Result<Answer> {
        self.get_with(path_and_query, &[])
    }

    /// Sends a GET with headers.
    pub fn get_with(&self, path_and_query: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut request = self.agent.get(format!("{}{path_and_query}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.call()?)
    }

    /// Sends a POST with a body and headers.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Answer> {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body)?)
    }

    /// Sends an encoded remote write 1.0 body.
    pub fn post_write(&self, body: &[u8]) -> anyhow::Result<Answer> {
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        self.post("/api/v1/write", &headers, body)
    }

    /// Writes series; anything but a 2xx is an error.
    pub fn write(&self, series: &[Series]) -> anyhow::Result<()> {
        let answer = self.post_write(&encode_write(series))?;
        if !answer.is_success() {
            bail!("write answered {}: {}", answer.status, answer.body);
        }
        Ok(())
    }

    /// The `data` of a successful API answer.
    pub fn api(&self, path_and_query: &str) -> anyhow::Result<Value> {
        let answer = self.get(path_and_query)?;
        let json: Value = serde_json::from_str(&answer.body)
            .with_context(|| format!("{path_and_query}: {}", answer.body))?;
        if answer.status != 200 || json["status"] != "success" {
            bail!("{path_and_query} answered {}: {}", answer.status, answer.body);
        }
        Ok(json["data"].clone())
    }

    /// An instant query at a time in milliseconds; the values by label set.
    pub fn query(&self, expr: &str, at_ms: i64) -> anyhow::Result<BTreeMap<String, f64>> {
        let data = self.api(&format!("/api/v1/query?query={}&time={}", escape(expr), seconds(at_ms)))?;
        let Some(rows) = data["result"].as_array() else { bail!("no result in {data}") };
        if data["resultType"] == "scalar" {
            return Ok(BTreeMap::from([(String::new(), number(&data["result"][1])?)]));
        }
        rows.iter().map(|row| Ok((key(&row["metric"]), number(&row["value"][1])?))).collect()
    }

    /// A range query; points of (milliseconds, value) by label set.
    pub fn query_range(
        &self,
        expr: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> anyhow::Result<BTreeMap<String, Vec<(i64, f64)>>> {
        let data = self.api(&format!(
            "/api/v1/query_range?query={}&start={}&end={}&step={}",
            escape(expr),
            seconds(start_ms),
            seconds(end_ms),
            seconds(step_ms)
        ))?;
        let Some(rows) = data["result"].as_array() else { bail!("no result in {data}") };
        rows.iter()
            .map(|row| {
                let points = row["values"].as_array().context("a range result has values")?;
                let points = points
                    .iter()
                    .map(|p| Ok(((p[0].as_f64().context("a time")? * 1000.0).round() as i64, number(&p[1])?)))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                Ok((key(&row["metric"]), points))
            })
            .collect()
    }
}

fn answer(response: ureq::http::Response<ureq::Body>) -> anyhow::Result<Answer> {
    let (parts, mut body) = response.into_parts();
    let headers = parts
        .headers
        .iter()
        .map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
        .collect();
    // Bodies of messages are no text.
    let body = body.with_config().limit(1 << 30).read_to_vec()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status: parts.status.as_u16(), headers, body })
}

fn key(metric: &Value) -> String {
    metric.to_string()
}

fn number(value: &Value) -> anyhow::Result<f64> {
    let text = value.as_str().with_context(|| format!("{value} is no string"))?;
    Ok(match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        other => other.parse()?,
    })
}

/// Milliseconds as the API takes times.
pub fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
}

/// Percent-encodes a query parameter.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
