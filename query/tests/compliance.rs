//! The queries of the PromQL compliance tester, answered by a real Prometheus and by us from the same samples.
//!
//! Needs `PHAROS_TESTDATA` and Debian's `prometheus` and `promtool`; says so and passes where they are missing.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/generate.rs"]
mod generate;
#[path = "support/memory.rs"]
mod memory;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use memory::{MemoryCluster, Value};
use protocol::ids::TenantId;
use protocol::labels::Labels;
use query::{Engine, EngineOptions, QueryKind, QueryRequest};
use serde_json::Value as Json;

/// The first scrape, in seconds.
const BASE: i64 = 1_700_000_000;
const HOURS: i64 = 3;
/// Seconds between scrapes.
const INTERVAL: i64 = 15;

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A time series: labels and samples of (milliseconds, value).
type SeriesData = (Vec<(&'static str, String)>, Vec<(i64, f64)>);

/// Scrape times of an instance: none falls on a whole second.
fn scrapes(instance: i64) -> impl Iterator<Item = (i64, i64)> {
    let count = HOURS * 3600 / INTERVAL;
    (0..count).map(move |i| (i, (BASE + i * INTERVAL) * 1000 + 137 + instance * 311 + (i * 7919) % 23))
}

/// Repeatable noise between 0 and 1.
fn noise(seed: u64) -> f64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 32;
    (x >> 11) as f64 / (1u64 << 53) as f64
}

/// Families by name, with their OpenMetrics type.
fn demo() -> BTreeMap<&'static str, Vec<SeriesData>> {
    let mut out: BTreeMap<&'static str, Vec<SeriesData>> = BTreeMap::new();
    let mut seed = 0u64;
    let mut random = move || {
        seed += 1;
        noise(seed)
    };
    for instance in 0..3i64 {
        let base =
            || vec![("instance", format!("demo.promlabs.com:1000{instance}")), ("job", "demo".to_owned())];
        let mut add = |name: &'static str, extra: &[(&'static str, String)], samples: Vec<(i64, f64)>| {
            let labels = base().into_iter().chain(extra.iter().cloned()).collect();
            out.entry(name).or_default().push((labels, samples));
        };
        for mode in ["idle", "system", "user"] {
            let mut total = 0.0;
            let samples = scrapes(instance).map(|(i, t)| {
                total += random() * 10.0;
                // One restart of one instance.
                if instance == 1 && i == 500 {
                    total = random();
                }
                (t, total)
            });
            add("demo_cpu_usage_seconds_total", &[("mode", mode.to_owned())], samples.collect());
        }
        for kind in ["buffers", "cached", "free", "used"] {
            let samples = scrapes(instance).map(|(i, t)| {
                let wave = ((i as f64 + instance as f64 * 11.0) / 60.0).sin() * 1e9;
                (t, (3e9 + wave + random() * 1e8).floor())
            });
            add("demo_memory_usage_bytes", &[("type", kind.to_owned())], samples.collect());
        }
        let mut disk = 1.9e11;
        let samples = scrapes(instance).map(|(_, t)| {
            disk += (random() * 2e6).floor();
            (t, disk)
        });
        add("demo_disk_usage_bytes", &[], samples.collect());
        add("demo_num_cpus", &[], scrapes(instance).map(|(_, t)| (t, 4.0)).collect());
        let last_success = |i: i64| BASE as f64 + ((i / 20) * 300) as f64 + 0.25 * instance as f64;
        let samples = scrapes(instance).map(|(i, t)| (t, last_success(i)));
        add("demo_batch_last_success_timestamp_seconds", &[], samples.collect());
        // There for ten minutes, away for ten.
        let samples = scrapes(instance).filter(|(i, _)| (i / 40) % 2 == 0).map(|(i, t)| (t, (i % 7) as f64));
        add("demo_intermittent_metric", &[], samples.collect());
        for (method, path) in [("GET", "/api/foo"), ("POST", "/api/foo"), ("GET", "/api/bar")] {
            let bounds = ["0.0001", "0.001", "0.01", "0.1", "1", "+Inf"];
            let mut counts = [0.0f64; 6];
            let mut sum = 0.0;
            let mut rows: Vec<(i64, [f64; 6], f64)> = Vec::new();
            for (_, t) in scrapes(instance) {
                for (i, count) in counts.iter_mut().enumerate() {
                    *count += (random() * (i as f64 + 1.0) * 3.0).floor();
                }
                sum += random();
                let mut cumulative = counts;
                for i in 1..6 {
                    cumulative[i] += cumulative[i - 1];
                }
                rows.push((t, cumulative, sum));
            }
            let extra = |le: Option<&str>| {
                let mut extra = vec![("method", method.to_owned()), ("path", path.to_owned())];
                extra.extend(le.map(|le| ("le", le.to_owned())));
                extra
            };
            for (i, le) in bounds.iter().enumerate() {
                let samples = rows.iter().map(|(t, counts, _)| (*t, counts[i])).collect();
                add("demo_api_request_duration_seconds_bucket", &extra(Some(le)), samples);
            }
            let samples = rows.iter().map(|(t, counts, _)| (*t, counts[5])).collect();
            add("demo_api_request_duration_seconds_count", &extra(None), samples);
            let samples = rows.iter().map(|(t, _, sum)| (*t, *sum)).collect();
            add("demo_api_request_duration_seconds_sum", &extra(None), samples);
        }
    }
    out
}

fn open_metrics(families: &BTreeMap<&'static str, Vec<SeriesData>>) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for (name, series) in families {
        // Untyped, so that names need no suffix; bounds may come in any order.
        let _ = writeln!(out, "# TYPE {name} unknown");
        for (labels, samples) in series {
            let shown: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            for (t, value) in samples {
                let _ = writeln!(out, "{name}{{{}}} {value} {}.{:03}", shown.join(","), t / 1000, t % 1000);
            }
        }
    }
    out + "# EOF\n"
}

/// A Prometheus that is stopped when the test ends.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Prometheus {
    fn start(dir: &Path, metrics: &str) -> Self {
        let text = dir.join("metrics.txt");
        std::fs::write(&text, metrics).expect("writable");
        let data = dir.join("data");
        let built = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&text, &data])
            .stdout(Stdio::null())
            .output()
            .expect("promtool runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").expect("writable");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg("--enable-feature=promql-negative-offset,promql-at-modifier")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { child, port };
        let until = Instant::now() + Duration::from_secs(60);
        while !prometheus.get("/-/ready").is_ok_and(|(status, _)| status == 200) {
            assert!(Instant::now() < until, "prometheus is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        prometheus
    }

    fn get(&self, target: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        Ok((status, body))
    }

    /// The `data` of the answer, or that there is none.
    fn query(&self, query: &str, kind: QueryKind) -> Option<Json> {
        let encoded: String = query
            .bytes()
            .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
            .collect();
        let seconds = |millis: i64| format!("{}.{:03}", millis / 1000, millis % 1000);
        let target = match kind {
            QueryKind::Instant { time } => format!("/api/v1/query?query={encoded}&time={}", seconds(time)),
            QueryKind::Range { start, end, step } => {
                let (start, end) = (seconds(start), seconds(end));
                format!("/api/v1/query_range?query={encoded}&start={start}&end={end}&step={}", seconds(step))
            }
        };
        let (status, body) = self.get(&target).expect("prometheus answers");
        let json: Json = serde_json::from_str(&body).unwrap_or(Json::Null);
        (status == 200).then(|| json["data"].clone())
    }
}

/// Templates of the tester's file: query, names of its variables, whether it has to fail.
fn templates(text: &str) -> Vec<(String, Vec<String>, bool)> {
    let mut out: Vec<(String, Vec<String>, bool)> = Vec::new();
    for line in text.lines() {
        let line = line.trim().trim_start_matches("- ");
        if let Some(query) = line.strip_prefix("query:") {
            let query = query.trim();
            let unquoted = ['\'', '"'].into_iter().find_map(|q| query.strip_prefix(q)?.strip_suffix(q));
            out.push((unquoted.unwrap_or(query).to_owned(), Vec::new(), false));
        } else if let Some(names) = line.strip_prefix("variant_args:") {
            let names = names.trim().trim_matches(['[', ']']).split(',');
            let names = names.map(|name| name.trim().trim_matches('\'').to_owned());
            out.last_mut().expect("variables follow a query").1 = names.collect();
        } else if line == "should_fail: true" {
            out.last_mut().expect("flags follow a query").2 = true;
        }
    }
    out
}

fn variants(name: &str) -> &'static [&'static str] {
    match name {
        "range" => &["1s", "15s", "1m", "5m", "15m", "1h"],
        "offset" => &["1m", "5m", "10m"],
        "simpleAggrOp" => &["sum", "avg", "max", "min", "count", "stddev", "stdvar"],
        "simpleTimeAggrOp" => {
            &["sum", "avg", "max", "min", "count", "stddev", "stdvar", "absent", "last", "present"]
        }
        "topBottomOp" => &["topk", "bottomk"],
        "quantile" => &["-0.5", "0.1", "0.5", "0.75", "0.95", "0.90", "0.99", "1", "1.5"],
        "arithBinOp" => &["+", "-", "*", "/", "%", "^"],
        "compBinOp" => &["==", "!=", "<", ">", "<=", ">="],
        "binOp" => &["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">="],
        "simpleMathFunc" => &["abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "round"],
        "extrapolatedRateFunc" => &["delta", "rate", "increase"],
        "clampFunc" => &["clamp_min", "clamp_max"],
        "instantRateFunc" => &["idelta", "irate"],
        "dateFunc" => &[
            "day_of_month",
            "day_of_week",
            "days_in_month",
            "hour",
            "minute",
            "month",
            "year",
            "day_of_year",
        ],
        other => panic!("the variable {other} is new"),
    }
}

fn expand(template: &str, names: &[String]) -> Vec<String> {
    let Some((name, rest)) = names.split_first() else { return vec![template.to_owned()] };
    let place = format!("{{{{.{name}}}}}");
    variants(name).iter().flat_map(|value| expand(&template.replace(&place, value), rest)).collect()
}

/// Points of a `data` object by labels and time.
fn points(data: &Json) -> BTreeMap<(String, String), f64> {
    let value = |pair: &Json| pair[1].as_str().and_then(query::format::parse_float).expect("a value");
    let mut out = BTreeMap::new();
    let mut add = |labels: &Json, pair: &Json| {
        let labels: BTreeMap<String, Json> = serde_json::from_value(labels.clone()).unwrap_or_default();
        out.insert((format!("{labels:?}"), pair[0].to_string()), value(pair));
    };
    match data["resultType"].as_str() {
        Some("vector") => {
            let samples = data["result"].as_array().into_iter().flatten();
            samples.for_each(|sample| add(&sample["metric"], &sample["value"]));
        }
        Some("matrix") => {
            for series in data["result"].as_array().into_iter().flatten() {
                let values = series["values"].as_array().into_iter().flatten();
                values.for_each(|pair| add(&series["metric"], pair));
            }
        }
        Some("scalar") => add(&Json::Null, &data["result"]),
        other => panic!("result type {other:?}"),
    }
    out
}

fn differ(query: &str, expected: &Json, found: &Json) -> Option<String> {
    // Sums of squares lose more, and Prometheus 2 does not compensate. It did not see either when the only value was
    // not finite.
    let spreads = query.contains("std");
    let tolerance = if spreads { 1e-6 } else { 1e-9 };
    if expected["resultType"] != found["resultType"] {
        return Some(format!("type {} instead of {}", found["resultType"], expected["resultType"]));
    }
    let (expected, found) = (points(expected), points(found));
    for (key, value) in &expected {
        let Some(other) = found.get(key) else { return Some(format!("{key:?} is missing")) };
        let close = value == other
            || (other.is_nan() && (value.is_nan() || (spreads && *value == 0.0)))
            || (value - other).abs() <= tolerance * value.abs().max(other.abs());
        if !close {
            return Some(format!("{key:?} is {other}, not {value}"));
        }
    }
    found.keys().find(|key| !expected.contains_key(*key)).map(|key| format!("{key:?} is too much"))
}

/// A Prometheus and an engine that hold the same samples.
struct Pair {
    prometheus: Prometheus,
    engine: Engine,
    dir: std::path::PathBuf,
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.prometheus.child.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Pair {
    fn start(name: &str) -> Option<Self> {
        if !is_there("prometheus") || !is_there("promtool") {
            say(&format!("prometheus and promtool are not installed, skipped: {name}"));
            return None;
        }
        let families = demo();
        let dir = std::env::temp_dir().join(format!("pharos-compliance-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("writable");
        let prometheus = Prometheus::start(&dir, &open_metrics(&families));
        let cluster = MemoryCluster::new(3);
        for (name, series) in &families {
            for (labels, samples) in series {
                let pairs = labels.iter().map(|(n, v)| (*n, v.as_str())).chain([("__name__", *name)]);
                let labels = Labels::from_pairs(pairs).expect("valid labels");
                samples.iter().for_each(|(t, v)| cluster.put(&labels, *t, Value::Float(*v), 0));
            }
        }
        Some(Self { prometheus, engine: Engine::new(cluster, EngineOptions::default()), dir })
    }

    /// What is wrong with our answer, if anything.
    fn compare(&self, query: &str, kind: QueryKind, should_fail: bool) -> Option<String> {
        let request = QueryRequest { kind, ..QueryRequest::instant(TenantId::default(), query, 0) };
        let ours = self.engine.query(&request).now_or_never().expect("a cluster in memory never waits");
        let ours = ours.map(|result| serde_json::from_str::<Json>(&result.data_json()).expect("JSON"));
        let problem = match (self.prometheus.query(query, kind), ours) {
            (None, Err(_)) => None,
            (None, Ok(_)) => Some("does not fail".to_owned()),
            (Some(_), Err(error)) => Some(format!("fails: {error}")),
            (Some(_), Ok(_)) if should_fail => Some("should fail".to_owned()),
            (Some(expected), Ok(found)) => differ(query, &expected, &found),
        };
        problem.map(|what| format!("{query} ({kind:?}): {what}"))
    }
}

/// Not on a step of the subqueries: ranges of Prometheus 2 include their left end.
const END: i64 = (BASE + HOURS * 3600 - 20 * 60) * 1000 + 3000;
const KINDS: [QueryKind; 2] =
    [QueryKind::Instant { time: END }, QueryKind::Range { start: END - 600_000, end: END, step: 10_000 }];

#[test]
fn compliance_queries_agree_with_prometheus() {
    let Some(testdata) = std::env::var_os("PHAROS_TESTDATA") else {
        say("PHAROS_TESTDATA is unset, skipped: compliance queries");
        return;
    };
    let Some(pair) = Pair::start("queries") else { return };
    let path = Path::new(&testdata).join("promql-compliance/promql-test-queries.yml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut count, mut wrong) = (0, Vec::new());
    for (template, names, should_fail) in templates(&text) {
        for query in expand(&template, &names) {
            for kind in KINDS {
                count += 1;
                wrong.extend(pair.compare(&query, kind, should_fail));
            }
        }
    }
    say(&format!("{} of {count} answers agree with Prometheus", count - wrong.len()));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn random_queries_agree_with_prometheus() {
    let Some(pair) = Pair::start("random") else { return };
    let count = std::env::var("PHAROS_RANDOM_QUERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let mut wrong = Vec::new();
    for seed in 0..count {
        let query = generate::Generator::new(seed).vector(1 + seed as usize % 4);
        wrong.extend(KINDS.into_iter().find_map(|kind| pair.compare(&query, kind, false)));
    }
    say(&format!("{} of {count} random queries agree with Prometheus", count as usize - wrong.len()));
    assert!(wrong.is_empty(), "{wrong:#?}");
}
