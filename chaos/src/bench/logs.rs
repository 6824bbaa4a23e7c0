//! Application logs: ingest over OTLP, bytes on disk, and the questions that people ask of logs; of this build, and on the same
//! machine of VictoriaLogs where that is wanted.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use super::load::Post;
use super::queries::encode;
use super::rows::{Figure, Question, QuestionFigures, RowFigures, data, length, number, write};
use super::system::{System, SystemKind};
use super::victoria_logs;
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
    /// Whether the installed VictoriaLogs gets the same lines and questions afterwards.
    pub victoria_logs: bool,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    /// Version of this layout.
    pub schema: u32,
    /// The lines' size as flat JSON lines.
    pub raw_bytes: u64,
    /// What this build did.
    #[serde(flatten)]
    pub figures: LogFigures,
    /// What VictoriaLogs did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub victoria_logs: Option<LogFigures>,
}

/// What one store did.
#[derive(Clone, Debug, Serialize)]
pub struct LogFigures {
    /// Its version.
    pub version: String,
    /// Bytes of one copy on disk for each byte of flat JSON.
    pub disk_bytes_of_raw: f64,
    /// What writing the lines took.
    #[serde(flatten)]
    pub written: RowFigures,
    /// The questions, asked of the first node.
    pub queries: Vec<QuestionFigures>,
}

/// Records that a histogram counted.
fn histogram_total(answer: &[Value]) -> anyhow::Result<u64> {
    let groups = data(answer)["groups"].as_array().into_iter().flatten();
    groups.map(|group| number(&group["total"])).sum()
}

/// The eleven questions of the table, over all lines.
pub(super) fn questions(truth: &Truth, start_ns: i64) -> Vec<Question> {
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
        Question { name, path, figure: |answer| length(&data(answer)["rows"]), expected: expected.min(limit) }
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
            |answer| number(&data(answer)["total"]),
            truth.slow,
        ),
        of(
            "p99_duration",
            "stats",
            "duration_ms:*",
            "&field=duration_ms&quantile=0.99",
            |answer| number(&data(answer)["count"]),
            truth.durations,
        ),
        of(
            "uniq_users",
            "top",
            "user_id:*",
            "&field=user_id&limit=1",
            |answer| number(&data(answer)["distinct"]),
            truth.users,
        ),
    ]
}

/// Runs the benchmark of logs. `progress` hears what is being done.
pub fn logs(options: &LogOptions, progress: &mut dyn FnMut(&str)) -> anyhow::Result<LogReport> {
    let other = SystemKind::VictoriaLogs;
    let rival = options.victoria_logs.then(|| {
        let version = other.version();
        version.with_context(|| format!("there is no {} on this machine's PATH", other.name()))
    });
    let rival = rival.transpose()?;
    let start_ns = now_ms() * 1_000_000 - SPAN_NS;
    let LogOptions { binary, dir, nodes, shards, .. } = options;
    progress("writing");
    let system = System::pharos(binary, dir, *nodes, *shards)?;
    let (figures, raw_bytes) = one(options, &system, Connection::post_logs, start_ns, questions)?;
    drop(system);
    let victoria_logs = rival.map(|version| {
        progress(&format!("{} {version}: writing", other.name()));
        let dir = dir.join(other.name());
        std::fs::create_dir(&dir)?;
        let system = System::start(other, binary, &dir, *shards)?;
        let (figures, _) = one(options, &system, victoria_logs::post, start_ns, victoria_logs::questions)?;
        Ok::<_, anyhow::Error>(LogFigures { version, ..figures })
    });
    Ok(LogReport { schema: 3, raw_bytes, figures, victoria_logs: victoria_logs.transpose()? })
}

/// Gives a store the lines and asks it the questions; also the bytes of the lines.
fn one(
    options: &LogOptions,
    system: &System,
    post: Post,
    start_ns: i64,
    questions: fn(&Truth, i64) -> Vec<Question>,
) -> anyhow::Result<(LogFigures, u64)> {
    let mut workload = LogWorkload::new(options.lines, options.seed, start_ns);
    let mut truth = Truth::default();
    let round = || {
        let requests = ROUND_LINES / LINES_PER_REQUEST;
        encode_requests(&mut workload, requests, options.connections, &mut truth)
    };
    let written = write(system, post, round)?;
    let questions = questions(&truth, start_ns);
    let queries = questions.iter().map(|question| question.ask(system.addrs[0], options.runs));
    let figures = LogFigures {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        disk_bytes_of_raw: written.disk_bytes as f64 / truth.raw_bytes as f64,
        written,
        queries: queries.collect::<anyhow::Result<Vec<_>>>()?,
    };
    Ok((figures, truth.raw_bytes))
}

impl LogFigures {
    fn write_text(&self, out: &mut String) {
        self.written.write_text(out, "line");
        let _ = writeln!(out, "  {:<20} {:>12.4}", "disk, of raw", self.disk_bytes_of_raw);
        self.queries.iter().for_each(|query| query.write_text(out));
    }
}

impl LogReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let RowFigures { rows, nodes, replicas, .. } = self.figures.written;
        let per_line = self.raw_bytes as f64 / rows as f64;
        let _ = writeln!(out, "{rows} lines of {per_line:.0} bytes, {nodes} node(s), {replicas} replica(s)");
        self.figures.write_text(&mut out);
        if let Some(other) = &self.victoria_logs {
            let _ = writeln!(out, "victoria-logs {}, the same lines", other.version);
            other.write_text(&mut out);
            self.write_ratios(&mut out, other);
        }
        out
    }

    fn write_ratios(&self, out: &mut String, other: &LogFigures) {
        let _ = writeln!(out, "pharos : victoria-logs");
        let mut line = |name: &str, ours: f64, theirs: f64| {
            let _ = writeln!(out, "  {name:<20} {:>12.2}", ours / theirs);
        };
        let (ours, theirs) = (&self.figures.written, &other.written);
        line("lines/s", ours.rows_per_second, theirs.rows_per_second);
        line("CPU-s per M, servers", ours.cpu_seconds_per_million, theirs.cpu_seconds_per_million);
        line("peak RSS", ours.peak_rss_bytes as f64, theirs.peak_rss_bytes as f64);
        line("bytes on disk", ours.disk_bytes as f64, theirs.disk_bytes as f64);
        for (ours, theirs) in self.figures.queries.iter().zip(&other.queries) {
            line(ours.query, ours.p50_ms, theirs.p50_ms);
        }
    }
}
