//! Application logs: ingest over OTLP, bytes on disk, and the questions that people ask of logs.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::queries::encode;
use super::rows::{Figure, Question, QuestionFigures, RowFigures, length, number, write};
use super::{address, start};
use crate::http::Connection;
use crate::ledger::now_ms;
use crate::log_workload::{LINES_PER_REQUEST, LogWorkload, SPAN_NS, Truth, encode_requests};

/// Lines that are encoded before the clock goes on.
const ROUND_LINES: usize = 3_000_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The server's binary.
    pub binary: PathBuf,
    /// Where data directories are made; removed by whoever made it.
    pub dir: PathBuf,
    /// Servers; three and more replicate three times.
    pub nodes: usize,
    /// Shards of the cluster.
    pub shards: u16,
    /// Lines.
    pub lines: usize,
    /// Keep-alive connections, spread over the nodes.
    pub connections: usize,
    /// Decides the lines.
    pub seed: u64,
    /// How often each question is asked, unless ten seconds are over before.
    pub runs: usize,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    /// Version of this layout.
    pub schema: u32,
    /// The lines' size as flat JSON lines.
    pub raw_bytes: u64,
    /// Bytes of one copy on disk for each byte of flat JSON.
    pub disk_bytes_of_raw: f64,
    /// What writing them took.
    #[serde(flatten)]
    pub written: RowFigures,
    /// The questions, asked of the first node.
    pub queries: Vec<QuestionFigures>,
}

/// Records that a histogram counted.
fn histogram_total(data: &serde_json::Value) -> anyhow::Result<u64> {
    let groups = data["groups"].as_array().into_iter().flatten();
    groups.map(|group| number(&group["total"])).sum()
}

/// The eleven questions of the table, over all lines.
fn questions(truth: &Truth, start_ns: i64) -> Vec<Question> {
    let range = format!("start={start_ns}&end={}", start_ns + SPAN_NS);
    let path = |endpoint: &str, search: &str, more: &str| {
        format!("/api/v1/logs/{endpoint}?query={}&{range}{more}", encode(search))
    };
    let count = |name, search: &str, expected| {
        let path = path("histogram", search, "&step=2h");
        Question { name, path, figure: histogram_total, expected }
    };
    let rows = |name, search: &str, limit: u64, expected: u64| {
        let path = path("query", search, &format!("&limit={limit}"));
        Question { name, path, figure: |data| length(&data["rows"]), expected: expected.min(limit) }
    };
    let needle: String = truth.needle.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let of = |name, endpoint: &str, search: &str, more: &str, figure: Figure, expected| Question {
        name,
        path: path(endpoint, search, more),
        figure,
        expected,
    };
    vec![
        count("phrase_count", "\"context deadline exceeded\"", truth.phrase),
        rows("phrase_rows_1000", "\"context deadline exceeded\"", 1000, truth.phrase),
        count("word_and_fields", "failed service.name:payment level:error", truth.word_and_fields),
        of("level_per_minute", "histogram", "*", "&step=1m&field=level", histogram_total, truth.lines),
        rows("last_100_of_service", "service.name:checkout", 100, truth.lines),
        rows("needle_trace_id", &format!("trace_id:{needle}"), 1000, truth.needle.1),
        count("regex_count", "/took [0-9]+ rows=1[0-9]{2} /", truth.regex),
        count("substring_count", r"*nection\ refus*", truth.substring),
        of(
            "slow_by_service",
            "top",
            "duration_ms>1500",
            "&field=service.name",
            |data| number(&data["total"]),
            truth.slow,
        ),
        of(
            "p99_duration",
            "stats",
            "duration_ms:*",
            "&field=duration_ms&quantile=0.99",
            |data| number(&data["count"]),
            truth.durations,
        ),
        of(
            "uniq_users",
            "top",
            "user_id:*",
            "&field=user_id&limit=1",
            |data| number(&data["distinct"]),
            truth.users,
        ),
    ]
}

/// Runs the benchmark of logs.
pub fn logs(options: &LogOptions) -> anyhow::Result<LogReport> {
    let cluster = start(&options.binary, &options.dir, options.nodes, options.shards)?;
    let addrs: Vec<_> = cluster.nodes.iter().map(|node| address(node.http)).collect();
    let start_ns = now_ms() * 1_000_000 - SPAN_NS;
    let mut workload = LogWorkload::new(options.lines, options.seed, start_ns);
    let mut truth = Truth::default();
    let round = || {
        let requests = ROUND_LINES / LINES_PER_REQUEST;
        encode_requests(&mut workload, requests, options.connections, &mut truth)
    };
    let written = write(&cluster, &addrs, Connection::post_logs, round)?;
    let questions = questions(&truth, start_ns);
    let queries = questions.iter().map(|question| question.ask(addrs[0], options.runs));
    Ok(LogReport {
        schema: 2,
        raw_bytes: truth.raw_bytes,
        disk_bytes_of_raw: written.disk_bytes as f64 / truth.raw_bytes as f64,
        written,
        queries: queries.collect::<anyhow::Result<Vec<_>>>()?,
    })
}

impl LogReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let RowFigures { rows, nodes, replicas, .. } = self.written;
        let per_line = self.raw_bytes as f64 / rows as f64;
        let _ = writeln!(out, "{rows} lines of {per_line:.0} bytes, {nodes} node(s), {replicas} replica(s)");
        self.written.write_text(&mut out, "line");
        let _ = writeln!(out, "  {:<20} {:>12.4}", "disk, of raw", self.disk_bytes_of_raw);
        self.queries.iter().for_each(|query| query.write_text(&mut out));
        out
    }
}
