//! Prometheus' PromQL test scripts and our own against three real nodes, over HTTP.
//!
//! Every `clear` is a fresh tenant. Loads are remote write 2.0, questions go to the nodes in turn: what one node
//! acknowledged, the next one must answer with. Our scripts in `cases/promql` always run; Prometheus' are found through
//! `PHAROS_TESTDATA`, and named as skipped where it is unset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use chaos::client::{Client, escape, seconds};
use protocol::labels::Labels;
use query::QueryKind;
use query::format::parse_float;
use serde_json::Value;
use tests::Cluster;
use tests::remote_write::{self, Series};

// The language itself is that of the engine's own tests.
#[allow(dead_code, reason = "the engine's tests look at more of a report")]
#[path = "../../query/tests/support/script.rs"]
mod script;
#[path = "../../query/tests/support/series.rs"]
mod series;

use script::{Answer, Found, Load, Point, Report, Shown, Subject, run};
use series::Item;

/// Scripts run side by side: each mostly waits for the network.
const WORKERS: usize = 4;

/// Three nodes, spoken to for one tenant after the other.
struct Server {
    clients: Vec<Client>,
    script: String,
    tenants: usize,
    asked: usize,
}

impl Server {
    fn tenant(&self) -> String {
        format!("{}-{}", self.script, self.tenants)
    }

    fn next(&mut self) -> &Client {
        self.asked += 1;
        &self.clients[self.asked % self.clients.len()]
    }
}

fn form(fields: &[(&str, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

impl Subject for Server {
    fn clear(&mut self) {
        self.tenants += 1;
    }

    fn load(&mut self, samples: &[Load]) -> Result<(), String> {
        // A series of a request has floats or histograms, not both.
        let mut series: BTreeMap<(&Labels, bool), Series> = BTreeMap::new();
        for sample in samples {
            let is_histogram = matches!(sample.item, Item::Histogram(..));
            let one = series.entry((&sample.labels, is_histogram)).or_insert_with(|| Series {
                labels: sample.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                ..Series::default()
            });
            match &sample.item {
                Item::Omitted => {}
                Item::Float(value, start) => one.floats.push((sample.time, *start, *value)),
                Item::Histogram(h, _, start) => one.histograms.push((sample.time, *start, (**h).clone())),
            }
        }
        if series.is_empty() {
            return Ok(());
        }
        let series: Vec<Series> = series.into_values().collect();
        let tenant = self.tenant();
        let answer = remote_write::send(self.next(), &tenant, &series).map_err(|e| format!("{e:#}"))?;
        if answer.is_success() { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body)) }
    }

    fn query(&mut self, query: &str, kind: QueryKind) -> Result<Answer, String> {
        let (path, body) = match kind {
            QueryKind::Instant { time } => {
                ("/api/v1/query", form(&[("query", query.to_owned()), ("time", seconds(time))]))
            }
            QueryKind::Range { start, end, step } => {
                let times = [("start", seconds(start)), ("end", seconds(end)), ("step", seconds(step))];
                ("/api/v1/query_range", form(&[&[("query", query.to_owned())], &times[..]].concat()))
            }
        };
        let tenant = self.tenant();
        let headers =
            [("Content-Type", "application/x-www-form-urlencoded"), ("X-Scope-OrgID", tenant.as_str())];
        let answer = self.next().post(path, &headers, body.as_bytes()).map_err(|e| format!("{e:#}"))?;
        let json: Value = serde_json::from_str(&answer.body).map_err(|e| format!("{e}: {}", answer.body))?;
        let list = |name: &str| -> Vec<String> {
            let remarks = json[name].as_array().into_iter().flatten();
            remarks.filter_map(|remark| remark.as_str().map(str::to_owned)).collect()
        };
        match (answer.status, json["status"].as_str()) {
            (200, Some("success")) => {
                let value = found(&json["data"]).ok_or_else(|| format!("can not read {}", answer.body))?;
                Ok(Answer { value, warnings: list("warnings"), infos: list("infos") })
            }
            // What is wrong with a query is one of these; anything else is a fault of the server.
            (400 | 422, Some("error")) => Err(json["error"].as_str().unwrap_or_default().to_owned()),
            _ => panic!("{query}: {} {}", answer.status, answer.body),
        }
    }

    fn raw_hints(&self) -> bool {
        true
    }
}

/// Reads `data` of an answer.
fn found(data: &Value) -> Option<Found> {
    let result = &data["result"];
    let number = |value: &Value| parse_float(value.as_str()?);
    let float = |pair: &Value| Some((millis(&pair[0])?, Point::Float(number(&pair[1])?)));
    let histogram = |pair: &Value| Some((millis(&pair[0])?, Point::Shown(Shown::from_json(&pair[1])?)));
    Some(match data["resultType"].as_str()? {
        "scalar" => Found::Scalar(number(&result[1])?),
        "string" => Found::String(result[1].as_str()?.to_owned()),
        "vector" => {
            let row = |row: &Value| {
                let (_, point) = match row.get("value") {
                    Some(pair) => float(pair)?,
                    None => histogram(row.get("histogram")?)?,
                };
                Some((labels(&row["metric"])?, point))
            };
            Found::Vector(result.as_array()?.iter().map(row).collect::<Option<_>>()?)
        }
        "matrix" => {
            let row = |row: &Value| {
                let floats = row["values"].as_array().into_iter().flatten().map(float);
                let histograms = row["histograms"].as_array().into_iter().flatten().map(histogram);
                Some((labels(&row["metric"])?, floats.chain(histograms).collect::<Option<_>>()?))
            };
            Found::Matrix(result.as_array()?.iter().map(row).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn millis(seconds: &Value) -> Option<i64> {
    Some((seconds.as_f64()? * 1000.0).round() as i64)
}

fn labels(metric: &Value) -> Option<Labels> {
    let pairs: Option<Vec<(&str, &str)>> =
        metric.as_object()?.iter().map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
    Labels::from_pairs(pairs?).ok()
}

fn scripts(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "test"));
    paths.sort();
    paths
}

fn run_file(path: &Path, clients: &[Client], number: usize) -> Report {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut server =
        Server { clients: clients.to_vec(), script: format!("{name}-{number}"), tenants: 0, asked: number };
    run(&text, &mut server)
}

/// Past the test harness, which hides what a passing test prints.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn every_case_of_every_script_passes() {
    let mut paths = scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/promql"));
    match std::env::var_os("PHAROS_TESTDATA") {
        Some(dir) => paths.extend(scripts(&PathBuf::from(dir).join("promql"))),
        None => say("PHAROS_TESTDATA is unset, skipped: Prometheus' own scripts"),
    }
    let cluster = Cluster::with_arguments(3, 3, &["--retention", "unlimited", "--enable-feature", "all"]);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let next = AtomicUsize::new(0);
    let reports: Vec<(usize, Report)> = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(path) = paths.get(number) else { return done };
                done.push((number, run_file(path, &clients, number)));
            }
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("no script is broken")).collect()
    });
    let mut reports: BTreeMap<usize, Report> = reports.into_iter().collect();
    let (mut passed, mut total) = (0, 0);
    for (number, path) in paths.iter().enumerate() {
        let report = reports.remove(&number).expect("every script was run");
        let name = path.file_name().unwrap_or_default().display();
        say(&format!("{name} over HTTP: {}/{}", report.passed, report.total));
        report.failures.iter().for_each(|failure| say(&format!("  {failure}")));
        assert!(report.total > 0, "{} has cases", path.display());
        passed += report.passed;
        total += report.total;
    }
    say(&format!("all scripts over HTTP on three nodes: {passed}/{total}"));
    assert_eq!(passed, total, "cases failed, see above");
}
