//! SQL over a load of samples: aggregates, first rows, a scan of everything, beside the same questions in PromQL and, over
//! Parquet files of the same samples, in DuckDB.
//!
//! DuckDB runs in a Python that has it; what it is asked over was exported from the very node that is measured, and its
//! answers have to be the node's. Where PromQL has no such question there is no figure.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::load::{encode, send, start_ms};
use super::queries::encode as escape;
use super::{address, flush, start_with};
use crate::http::Connection;
use crate::workload::Shape;

/// Time that one question may take of a run, however often it should be asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// What DuckDB is asked by.
const SCRIPT: &str = include_str!("../../queries/duckdb.py");
/// A scan of everything needs more than other questions may.
const SETTINGS: [&str; 4] = ["--set", "query.max_memory=4GiB", "--set", "node.memory_budget=8GiB"];
/// How far two estimates of a quantile may be apart.
const ESTIMATES_DIFFER: f64 = 0.05;

/// What to run.
#[derive(Clone, Debug)]
pub struct SqlOptions {
    /// The server's binary.
    pub binary: PathBuf,
    /// Where the data directory is made; removed by whoever made it.
    pub dir: PathBuf,
    /// Shards of the node.
    pub shards: u16,
    /// Size of the load.
    pub shape: Shape,
    /// Its name.
    pub name: String,
    /// Keep-alive connections that write.
    pub connections: usize,
    /// Decides values.
    pub seed: u64,
    /// How often each question is asked, unless ten seconds are over before.
    pub runs: usize,
    /// A Python with `duckdb` and `pyarrow`.
    pub python: PathBuf,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct SqlReport {
    /// Version of this layout.
    pub schema: u32,
    /// Name of the load.
    pub workload: String,
    /// Its samples.
    pub samples: u64,
    /// The version of DuckDB, if there is one.
    pub duckdb: Option<String>,
    /// The questions.
    pub questions: Vec<SqlFigures>,
}

/// Medians of one question, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct SqlFigures {
    /// Its name.
    pub name: &'static str,
    /// In SQL.
    pub sql_ms: f64,
    /// In PromQL, where it has such a question.
    pub promql_ms: Option<f64>,
    /// In DuckDB, if there is one.
    pub duckdb_ms: Option<f64>,
}

/// A question in each language.
struct Question {
    name: &'static str,
    sql: String,
    duckdb: String,
    promql: Option<&'static str>,
    /// Everything is wanted, as Arrow.
    is_raw: bool,
    /// How far numbers of two answers may be apart, relatively.
    tolerance: f64,
}

/// What DuckDB's files have.
const TABLES: [(&str, &str); 2] = [
    ("samples", "SELECT time, value FROM metrics"),
    ("cpu", "SELECT instance, cpu, mode, time, value FROM node_cpu_seconds_total"),
];

fn questions(shape: Shape, start_ms: i64) -> Vec<Question> {
    let hour = |name: &str| {
        let from = format!("to_timestamp_millis({start_ms})");
        let to = format!("to_timestamp_millis({})", start_ms + shape.span_ms());
        (
            format!("WHERE time >= {from} AND time <= {to} GROUP BY {name}"),
            format!(
                "WHERE time >= make_timestamp({start_ms} * 1000::BIGINT) AND time <= \
                 make_timestamp({} * 1000::BIGINT) GROUP BY {name}",
                start_ms + shape.span_ms()
            ),
        )
    };
    let both = |name, select: &str, by: &str, rest: &str, promql, tolerance| {
        let (ours, theirs) = hour(by);
        Question {
            name,
            sql: format!("SELECT {by}, {select} FROM node_cpu_seconds_total {ours} {rest}"),
            duckdb: format!(
                "SELECT {by}, {} FROM cpu {theirs} {rest}",
                select.replace("approx_percentile_cont", "approx_quantile")
            ),
            promql,
            is_raw: false,
            tolerance,
        }
    };
    vec![
        Question {
            name: "count",
            sql: "SELECT count(*) FROM metrics".to_owned(),
            duckdb: "SELECT count(*) FROM samples".to_owned(),
            promql: None,
            is_raw: false,
            tolerance: 0.0,
        },
        both(
            "sum_by_label",
            "sum(value) AS total",
            "mode",
            "ORDER BY mode",
            Some("sum by (mode) (sum_over_time(node_cpu_seconds_total[2h]))"),
            1e-9,
        ),
        both(
            "top_10",
            "max(value) AS highest",
            "instance, cpu, mode",
            "ORDER BY highest DESC, instance, cpu, mode LIMIT 10",
            Some("topk(10, max_over_time(node_cpu_seconds_total[2h]))"),
            1e-9,
        ),
        both(
            "p99_by_label",
            "approx_percentile_cont(value, 0.99) AS p99",
            "mode",
            "ORDER BY mode",
            None,
            ESTIMATES_DIFFER,
        ),
        Question {
            name: "scan_to_arrow",
            sql: TABLES[0].1.to_owned(),
            duckdb: "SELECT time, value FROM samples".to_owned(),
            promql: None,
            is_raw: true,
            tolerance: 0.0,
        },
    ]
}

/// Asks of the node, by HTTP.
struct Node {
    agent: ureq::Agent,
    base: String,
    runs: usize,
}

impl Node {
    /// Median of the times until the whole answer is here, in milliseconds, and the last answer, if it is to be kept.
    fn ask(&self, path: &str, keep: bool) -> anyhow::Result<(f64, Vec<u8>)> {
        let (mut times, mut body) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while times.is_empty() || (times.len() < self.runs && begun.elapsed() < PATIENCE) {
            body.clear();
            let started = Instant::now();
            let answer = self.agent.get(format!("{}{path}", self.base)).call()?;
            let status = answer.status();
            let mut reader = answer.into_body().into_reader();
            if keep || !status.is_success() {
                reader.read_to_end(&mut body)?;
            } else {
                std::io::copy(&mut reader, &mut std::io::sink())?;
            }
            times.push(started.elapsed().as_secs_f64() * 1e3);
            ensure!(status.is_success(), "{path} answered {status}: {}", String::from_utf8_lossy(&body));
        }
        times.sort_by(f64::total_cmp);
        Ok((times[times.len() / 2], body))
    }

    fn sql(&self, question: &Question) -> anyhow::Result<(f64, Vec<Value>)> {
        let format = if question.is_raw { "arrow" } else { "json" };
        let path = format!("/api/v1/sql?format={format}&query={}", escape(&question.sql));
        let (ms, body) = self.ask(&path, !question.is_raw)?;
        if question.is_raw {
            return Ok((ms, Vec::new()));
        }
        let answer: Value = serde_json::from_slice(&body)?;
        Ok((ms, answer["data"]["rows"].as_array().context("no rows")?.clone()))
    }
}

/// Runs the benchmark of SQL. `progress` hears what is being done.
pub fn sql(options: &SqlOptions, progress: &mut dyn FnMut(&str)) -> anyhow::Result<SqlReport> {
    let cluster = start_with(&options.binary, &options.dir, 1, options.shards, &SETTINGS)?;
    let addr = address(cluster.nodes[0].http);
    let start_ms = start_ms(options.shape);
    progress("writing");
    let lanes = encode(options.shape, options.seed, start_ms, options.connections);
    let samples = send(&[addr], &lanes, Connection::post_write)?.samples;
    drop(lanes);
    flush(addr)?;
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(120)))
        .build();
    let node = Node { agent: config.into(), base: format!("http://{addr}"), runs: options.runs };
    let questions = questions(options.shape, start_ms);
    progress("DuckDB");
    let duckdb = duckdb(options, &node.base, &questions)?;
    if duckdb.is_none() {
        progress(&format!(
            "{} has no DuckDB; with it: pip install duckdb pyarrow, and --python",
            options.python.display()
        ));
    }
    let mut figures = Vec::new();
    for question in &questions {
        progress(question.name);
        let (sql_ms, rows) = node.sql(question)?;
        if question.name == "count" {
            ensure!(rows == [json!([samples])], "{samples} samples are counted as {rows:?}");
        }
        let end = (start_ms + options.shape.span_ms()) / 1000 + 1;
        let promql_ms = match question.promql {
            None => None,
            Some(promql) => {
                let path = format!("/api/v1/query?query={}&time={end}&nocache=1", escape(promql));
                Some(node.ask(&path, false)?.0)
            }
        };
        let duckdb_ms = match &duckdb {
            None => None,
            Some(all) => {
                let answer = &all["answers"][question.name];
                if question.is_raw {
                    ensure!(answer["rows"] == json!([[samples]]), "DuckDB has {} samples", answer["rows"]);
                } else {
                    let theirs = answer["rows"].as_array().context("DuckDB gave no rows")?;
                    same(&rows, theirs, question.tolerance).context(question.name)?;
                }
                let times = answer["times"].as_array().context("DuckDB gave no times")?;
                times.get(times.len() / 2).and_then(Value::as_f64)
            }
        };
        figures.push(SqlFigures { name: question.name, sql_ms, promql_ms, duckdb_ms });
    }
    Ok(SqlReport {
        schema: 1,
        workload: options.name.clone(),
        samples,
        duckdb: duckdb.and_then(|all| all["version"].as_str().map(str::to_owned)),
        questions: figures,
    })
}

/// What DuckDB says; nothing where there is none.
fn duckdb(options: &SqlOptions, url: &str, questions: &[Question]) -> anyhow::Result<Option<Value>> {
    let has_it = Command::new(&options.python)
        .args(["-c", "import duckdb, pyarrow.parquet"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !has_it.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let asked: Vec<Value> = questions
        .iter()
        .map(|question| json!({"name": question.name, "text": question.duckdb, "raw": question.is_raw}))
        .collect();
    let tables: serde_json::Map<String, Value> =
        TABLES.iter().map(|(name, statement)| ((*name).to_owned(), json!(statement))).collect();
    let task = json!({
        "tables": tables, "questions": asked, "runs": options.runs, "patience": PATIENCE.as_secs(),
    });
    let files: &Path = &options.dir.join("duckdb");
    std::fs::create_dir_all(files)?;
    let mut child = Command::new(&options.python)
        .arg("-")
        .arg(url)
        .arg(files)
        .env("TASK", task.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("the script has an input")?.write_all(SCRIPT.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("DuckDB's script failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// Whether two answers are the same, numbers up to a relative difference.
fn same(ours: &[Value], theirs: &[Value], tolerance: f64) -> anyhow::Result<()> {
    ensure!(ours.len() == theirs.len(), "{} rows, DuckDB has {}", ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        let (Some(a), Some(b)) = (ours.as_array(), theirs.as_array()) else { bail!("a row is no list") };
        let alike = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= tolerance * a.abs().max(b.abs()),
            _ => a == b,
        };
        ensure!(
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
            "{ours}, where DuckDB has {theirs}"
        );
    }
    Ok(())
}

impl SqlReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let duckdb = self.duckdb.as_ref().map_or_else(|| "no DuckDB".to_owned(), |v| format!("DuckDB {v}"));
        let _ =
            writeln!(out, "workload {}: {} samples; {duckdb}; medians in ms", self.workload, self.samples);
        let _ = writeln!(
            out,
            "  {:<16} {:>10} {:>10} {:>10} {:>12}",
            "", "SQL", "PromQL", "DuckDB", "SQL/DuckDB"
        );
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        for figures in &self.questions {
            let ratio = figures.duckdb_ms.map(|duckdb| figures.sql_ms / duckdb);
            let _ = writeln!(
                out,
                "  {:<16} {:>10.1} {:>10} {:>10} {:>12}",
                figures.name,
                figures.sql_ms,
                number(figures.promql_ms),
                number(figures.duckdb_ms),
                number(ratio)
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_same_up_to_the_last_digits() {
        let rows = |value: f64| vec![json!(["idle", value])];
        assert!(same(&rows(1.0), &rows(1.0 + 1e-12), 1e-9).is_ok());
        assert!(same(&rows(1.0), &rows(1.1), 1e-9).is_err());
        assert!(same(&rows(1.0), &[], 1.0).is_err());
        assert!(same(&[json!(["idle", 1])], &[json!(["user", 1])], 1.0).is_err());
    }

    #[test]
    fn every_question_is_asked_of_both() {
        for question in questions(Shape::A, 0) {
            assert!(question.sql.starts_with("SELECT") && question.duckdb.starts_with("SELECT"));
            assert!(TABLES.iter().any(|(table, _)| question.duckdb.contains(&format!("FROM {table}"))));
        }
    }
}
