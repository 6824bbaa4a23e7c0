//! The questions of a comparison: how they are written down, asked and compared.
//!
//! A file has a question a line, three fields separated by tabs; `#` begins a comment:
//!
//! ```text
//! name   range:SECONDS:STEP   PromQL            over the last SECONDS of the data
//! name   instant              PromQL            at the end of the data
//! name   get                  /path?a=b&&c=d    as it stands; values are encoded, {start} and {end} filled in
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::http::Connection;

/// Time that one question may take of a run, however often it should be asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Appended to every question: VictoriaMetrics and Pharos evaluate it instead of looking for a kept result; Prometheus,
/// which keeps none, does not mind.
const NO_CACHE: &str = "&nocache=1";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Name in the report.
    pub name: String,
    how: How,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    Range { seconds: i64, step: u32 },
    Instant,
    Get,
}

/// Reads a file of questions.
pub fn parse(text: &str) -> anyhow::Result<Vec<Query>> {
    let mut queries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let query = parse_line(line).with_context(|| format!("line {}: {line:?}", number + 1))?;
        queries.push(query);
    }
    ensure!(!queries.is_empty(), "there is no query");
    Ok(queries)
}

fn parse_line(line: &str) -> anyhow::Result<Query> {
    let mut fields = line.splitn(3, '\t');
    let mut field = |what: &'static str| fields.next().filter(|f| !f.is_empty()).context(what);
    let (name, how, text) = (field("no name")?, field("no kind")?, field("no query")?);
    let how = match how.split(':').collect::<Vec<_>>()[..] {
        ["range", seconds, step] => How::Range { seconds: seconds.parse()?, step: step.parse()? },
        ["instant"] => How::Instant,
        ["get"] => How::Get,
        _ => bail!("{how:?} is neither range:SECONDS:STEP nor instant nor get"),
    };
    Ok(Query { name: name.to_owned(), how, text: text.to_owned() })
}

impl Query {
    /// Path and query string; the data lies between `start_ms` and `end_ms`.
    fn path(&self, start_ms: i64, end_ms: i64) -> String {
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        match &self.how {
            How::Range { seconds: span, step } => format!(
                "/api/v1/query_range?query={}&start={}&end={}&step={step}",
                encode(&self.text),
                seconds(end_ms - span * 1000),
                seconds(end_ms)
            ),
            How::Instant => format!("/api/v1/query?query={}&time={}", encode(&self.text), seconds(end_ms)),
            How::Get => {
                let text =
                    self.text.replace("{start}", &seconds(start_ms)).replace("{end}", &seconds(end_ms));
                let Some((path, parameters)) = text.split_once('?') else { return format!("{text}?") };
                let encoded = parameters.split("&&").map(|parameter| match parameter.split_once('=') {
                    Some((name, value)) => format!("{name}={}", encode(value)),
                    None => parameter.to_owned(),
                });
                format!("{path}?{}", encoded.collect::<Vec<_>>().join("&"))
            }
        }
    }

    /// Asks `runs` times, or as often as ten seconds allow.
    pub(super) fn ask(
        &self,
        addr: SocketAddr,
        (start_ms, end_ms): (i64, i64),
        runs: usize,
    ) -> anyhow::Result<Asked> {
        let mut connection = Connection::new(addr, Duration::from_secs(120));
        let path = self.path(start_ms, end_ms) + NO_CACHE;
        let (mut times, mut body) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while times.is_empty() || (times.len() < runs && begun.elapsed() < PATIENCE) {
            let started = Instant::now();
            let answer = connection.get(&path).with_context(|| format!("{}: no answer", self.name))?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            ensure!(answer.is_success(), "{} answered {}: {}", self.name, answer.status, answer.text());
            body = answer.body;
        }
        times.sort_by(f64::total_cmp);
        let answer = Answer::of(&body).with_context(|| format!("{}: the answer", self.name))?;
        Ok(Asked { times, answer })
    }
}

/// A question that was answered.
pub(super) struct Asked {
    /// Milliseconds of each run, sorted.
    times: Vec<f64>,
    pub answer: Answer,
}

impl Asked {
    /// A quantile of the times in milliseconds.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        self.times[((self.times.len() - 1) as f64 * q).round() as usize]
    }
}

/// An answer in a form in which two can be compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Series by their labels, points by time in milliseconds.
    Series(BTreeMap<String, BTreeMap<i64, f64>>),
    /// Names, or label sets as text.
    List(Vec<String>),
}

impl Answer {
    fn of(body: &[u8]) -> anyhow::Result<Self> {
        let root: Value = serde_json::from_slice(body)?;
        ensure!(root["status"] == "success", "status {}", root["status"]);
        let data = &root["data"];
        if let Some(list) = data.as_array() {
            // Label sets are objects with sorted names, so that equal ones are equal as text.
            let mut list: Vec<String> = list.iter().map(Value::to_string).collect();
            list.sort_unstable();
            return Ok(Self::List(list));
        }
        let mut all = BTreeMap::new();
        for series in data["result"].as_array().context("no result")? {
            let one = series.get("value").map(std::slice::from_ref);
            let points =
                series["values"].as_array().map(Vec::as_slice).or(one).context("a series has points")?;
            let points = points.iter().map(point).collect::<anyhow::Result<BTreeMap<i64, f64>>>()?;
            all.insert(series["metric"].to_string(), points);
        }
        Ok(Self::Series(all))
    }

    /// How far another answer is from this one.
    pub fn difference(&self, other: &Self) -> Difference {
        match (self, other) {
            (Self::List(a), Self::List(b)) if a == b => Difference::None,
            (Self::Series(a), Self::Series(b)) => {
                let alike = |x: &BTreeMap<i64, f64>, y: &BTreeMap<i64, f64>| x.keys().eq(y.keys());
                if !a.keys().eq(b.keys()) || !a.values().zip(b.values()).all(|(x, y)| alike(x, y)) {
                    return Difference::Shape;
                }
                let pairs = a.values().zip(b.values()).flat_map(|(x, y)| x.values().zip(y.values()));
                let largest = pairs.map(|(x, y)| relative(*x, *y)).fold(0.0, f64::max);
                if largest <= 1e-9 { Difference::None } else { Difference::Values(largest) }
            }
            _ => Difference::Shape,
        }
    }
}

/// What two answers differ in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Difference {
    /// Nothing but the last digits.
    None,
    /// Values: the largest relative difference.
    Values(f64),
    /// Series or points that one has and the other has not.
    Shape,
}

fn relative(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() / a.abs().max(b.abs()) }
}

fn point(value: &Value) -> anyhow::Result<(i64, f64)> {
    let at = value[0].as_f64().context("a point has a time")?;
    let text = value[1].as_str().context("a point has a value")?;
    // Rust reads +Inf, -Inf and NaN too.
    Ok(((at * 1000.0).round() as i64, text.parse()?))
}

/// Percent-encodes all but unreserved characters.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_paths() {
        let text = "# comment\n\na\trange:3600:15\tsum(x)\nb\tinstant\tup == 0\n\
                    c\tget\t/api/v1/series?match[]={a=\"b\"}&&end={end}\n";
        let paths: Vec<String> = parse(text).unwrap().iter().map(|q| q.path(1_000_000, 8_600_250)).collect();
        assert_eq!(
            paths,
            [
                "/api/v1/query_range?query=sum%28x%29&start=5000.250&end=8600.250&step=15",
                "/api/v1/query?query=up%20%3D%3D%200&time=8600.250",
                "/api/v1/series?match[]=%7Ba%3D%22b%22%7D&end=8600.250",
            ]
        );
        for wrong in ["", "a\tinstant", "a\trange:1\tx", "a\tnever\tx"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse(crate::bench::QUERIES).unwrap().len() >= 12);
    }

    #[test]
    fn answers_are_compared_by_labels_times_and_values() {
        let answer = |value: &str| {
            let body = format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"a":"b"}},"value":[1.5,"{value}"]}}]}}}}"#
            );
            Answer::of(body.as_bytes()).unwrap()
        };
        assert_eq!(answer("1").difference(&answer("1.0000000000001")), Difference::None);
        assert_eq!(answer("NaN").difference(&answer("NaN")), Difference::None);
        assert_eq!(answer("1").difference(&answer("2")), Difference::Values(0.5));
        let list = |body: &str| Answer::of(body.as_bytes()).unwrap();
        let names = list(r#"{"status":"success","data":["b","a"]}"#);
        assert_eq!(names.difference(&list(r#"{"status":"success","data":["a","b"]}"#)), Difference::None);
        assert_eq!(names.difference(&answer("1")), Difference::Shape);
        assert!(Answer::of(br#"{"status":"error"}"#).is_err());
    }
}
