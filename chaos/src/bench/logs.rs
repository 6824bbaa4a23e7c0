//! Application logs: ingest over OTLP, bytes on disk, and the questions that people ask of logs.
//!
//! Lines are encoded before the clock starts, a round of them at a time so that memory does not limit how many there may
//! be. Every answer is compared with what the generator knows: a benchmark that counts wrongly fails.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;

use super::load::{Sent, own_cpu_seconds, send};
use super::queries::encode;
use super::{Sizes, address, flush, start, usages};
use crate::http::Connection;
use crate::ledger::now_ms;
use crate::log_workload::{LINES_PER_REQUEST, LogWorkload, SPAN_NS, Truth, encode_requests};

/// Lines that are encoded before the clock goes on.
const ROUND_LINES: usize = 3_000_000;
/// Time that one question may take of a run, however often it should be asked.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// A question and what it took.
#[derive(Clone, Debug, Serialize)]
pub struct LogQueryFigures {
    /// Name, as in the table of rivals.
    pub query: &'static str,
    /// Median time in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// What was counted.
    pub found: u64,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    /// Version of this layout.
    pub schema: u32,
    /// Servers.
    pub nodes: usize,
    /// Copies of each line.
    pub replicas: usize,
    /// Lines acknowledged.
    pub lines: u64,
    /// Their size as flat JSON lines.
    pub raw_bytes: u64,
    /// Time in which they were sent and acknowledged.
    pub seconds: f64,
    /// Acknowledged lines a second.
    pub lines_per_second: f64,
    /// Median time of an acknowledgement.
    pub ack_p50_ms: f64,
    /// 99th percentile of it.
    pub ack_p99_ms: f64,
    /// Times that a request was answered 429 or 5xx and sent again.
    pub retries: u64,
    /// Bytes sent for each line.
    pub wire_bytes_per_line: f64,
    /// Processor seconds of this program while it sent.
    pub client_cpu_seconds: f64,
    /// Seconds that the flush and the merges at the end took.
    pub flush_seconds: f64,
    /// Processor seconds for a million lines, all servers together, the flush and the merges at the end included.
    pub cpu_seconds_per_million: f64,
    /// The same without those at the end.
    pub cpu_seconds_per_million_load: f64,
    /// Largest resident size of a server.
    pub peak_rss_bytes: u64,
    /// Bytes of one copy on disk after the merges, everything that searches use included.
    pub disk_bytes: u64,
    /// Those for each byte of flat JSON.
    pub disk_bytes_of_raw: f64,
    /// The questions, asked of the first node.
    pub queries: Vec<LogQueryFigures>,
}

/// Where in an answer its figure stands.
enum Figure {
    /// `total` of the groups of a histogram, summed up.
    Histogram,
    /// Number of rows.
    Rows,
    /// A field of the answer.
    Field(&'static str),
}

struct Question {
    name: &'static str,
    path: String,
    figure: Figure,
    expected: u64,
}

/// The eleven questions of the table, over all lines.
fn questions(truth: &Truth, start_ns: i64) -> Vec<Question> {
    let range = format!("start={start_ns}&end={}", start_ns + SPAN_NS);
    let path = |endpoint: &str, search: &str, more: &str| {
        format!("/api/v1/logs/{endpoint}?query={}&{range}{more}", encode(search))
    };
    let count = |name, search: &str, expected| {
        let path = path("histogram", search, "&step=2h");
        Question { name, path, figure: Figure::Histogram, expected }
    };
    let rows = |name, search: &str, limit: u64, expected: u64| {
        let path = path("query", search, &format!("&limit={limit}"));
        Question { name, path, figure: Figure::Rows, expected: expected.min(limit) }
    };
    let needle: String = truth.needle.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let of = |name, endpoint: &str, search: &str, more: &str, figure, expected| Question {
        name,
        path: path(endpoint, search, more),
        figure,
        expected,
    };
    vec![
        count("phrase_count", "\"context deadline exceeded\"", truth.phrase),
        rows("phrase_rows_1000", "\"context deadline exceeded\"", 1000, truth.phrase),
        count("word_and_fields", "failed service.name:payment level:error", truth.word_and_fields),
        of("level_per_minute", "histogram", "*", "&step=1m&field=level", Figure::Histogram, truth.lines),
        rows("last_100_of_service", "service.name:checkout", 100, truth.lines),
        rows("needle_trace_id", &format!("trace_id:{needle}"), 1000, truth.needle.1),
        count("regex_count", "/took [0-9]+ rows=1[0-9]{2} /", truth.regex),
        count("substring_count", r"*nection\ refus*", truth.substring),
        of(
            "slow_by_service",
            "top",
            "duration_ms>1500",
            "&field=service.name",
            Figure::Field("total"),
            truth.slow,
        ),
        of(
            "p99_duration",
            "stats",
            "duration_ms:*",
            "&field=duration_ms&quantile=0.99",
            Figure::Field("count"),
            truth.durations,
        ),
        of(
            "uniq_users",
            "top",
            "user_id:*",
            "&field=user_id&limit=1",
            Figure::Field("distinct"),
            truth.users,
        ),
    ]
}

impl Question {
    fn ask(&self, addr: SocketAddr, runs: usize) -> anyhow::Result<LogQueryFigures> {
        let mut connection = Connection::new(addr, Duration::from_secs(120));
        let (mut times, mut body) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while times.is_empty() || (times.len() < runs && begun.elapsed() < PATIENCE) {
            let started = Instant::now();
            let answer = connection.get(&self.path).with_context(|| format!("{}: no answer", self.name))?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            ensure!(answer.is_success(), "{} answered {}: {}", self.name, answer.status, answer.text());
            body = answer.body;
        }
        times.sort_by(f64::total_cmp);
        let quantile = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
        let found = self.figure.of(&body).with_context(|| format!("{}: the answer", self.name))?;
        ensure!(found == self.expected, "{} found {found} where there are {}", self.name, self.expected);
        Ok(LogQueryFigures { query: self.name, p50_ms: quantile(0.5), p95_ms: quantile(0.95), found })
    }
}

impl Figure {
    fn of(&self, body: &[u8]) -> anyhow::Result<u64> {
        let root: Value = serde_json::from_slice(body)?;
        let data = &root["data"];
        match self {
            Self::Histogram => {
                let groups = data["groups"].as_array().context("groups")?;
                groups.iter().map(|group| group["total"].as_u64().context("a group has a total")).sum()
            }
            Self::Rows => Ok(data["rows"].as_array().context("rows")?.len() as u64),
            Self::Field(name) => data[name].as_u64().with_context(|| format!("no {name} in {data}")),
        }
    }
}

/// Runs the benchmark of logs.
pub fn logs(options: &LogOptions) -> anyhow::Result<LogReport> {
    let cluster = start(&options.binary, &options.dir, options.nodes, options.shards)?;
    let addrs: Vec<_> = cluster.nodes.iter().map(|node| address(node.http)).collect();
    let start_ns = now_ms() * 1_000_000 - SPAN_NS;
    let mut workload = LogWorkload::new(options.lines, options.seed, start_ns);
    let (mut truth, mut all) = (Truth::default(), Sent::default());
    let (mut wire_bytes, mut client_cpu_seconds) = (0u64, 0.0);
    let before = usages(&cluster)?;
    loop {
        let requests = ROUND_LINES / LINES_PER_REQUEST;
        let lanes = encode_requests(&mut workload, requests, options.connections, &mut truth);
        if lanes.iter().all(Vec::is_empty) {
            break;
        }
        wire_bytes += lanes.iter().flatten().map(|request| request.body.len() as u64).sum::<u64>();
        let client_before = own_cpu_seconds()?;
        let sent = send(&addrs, &lanes, Connection::post_logs)?;
        client_cpu_seconds += own_cpu_seconds()? - client_before;
        all.samples += sent.samples;
        all.retries += sent.retries;
        all.seconds += sent.seconds;
        all.latencies.extend(sent.latencies);
    }
    all.latencies.sort_unstable();
    let loaded = usages(&cluster)?;
    let flush_seconds = flush(addrs[0])?;
    let flushed = usages(&cluster)?;

    let cpu_until = |after: &[crate::process::Usage]| -> f64 {
        let used = after.iter().zip(&before).map(|(after, before)| after.cpu_seconds - before.cpu_seconds);
        used.sum::<f64>() * 1e6 / all.samples as f64
    };
    let replicas = options.nodes.min(3);
    let sizes =
        cluster.nodes.iter().map(|node| Sizes::of(&node.dir())).collect::<anyhow::Result<Vec<_>>>()?;
    let disk_bytes = sizes.iter().map(|sizes| sizes.segments + sizes.index).sum::<u64>() / replicas as u64;
    let questions = questions(&truth, start_ns);
    let queries = questions.iter().map(|question| question.ask(addrs[0], options.runs));
    let queries = queries.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(LogReport {
        schema: 1,
        nodes: options.nodes,
        replicas,
        lines: all.samples,
        raw_bytes: truth.raw_bytes,
        seconds: all.seconds,
        lines_per_second: all.samples as f64 / all.seconds,
        ack_p50_ms: all.quantile_ms(0.5),
        ack_p99_ms: all.quantile_ms(0.99),
        retries: all.retries,
        wire_bytes_per_line: wire_bytes as f64 / all.samples as f64,
        client_cpu_seconds,
        flush_seconds,
        cpu_seconds_per_million: cpu_until(&flushed),
        cpu_seconds_per_million_load: cpu_until(&loaded),
        peak_rss_bytes: flushed.iter().map(|usage| usage.peak_rss_bytes).max().unwrap_or_default(),
        disk_bytes,
        disk_bytes_of_raw: disk_bytes as f64 / truth.raw_bytes as f64,
        queries,
    })
}

impl LogReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let per_line = self.raw_bytes as f64 / self.lines as f64;
        let _ = writeln!(
            out,
            "{} lines of {per_line:.0} bytes, {} node(s), {} replica(s)",
            self.lines, self.nodes, self.replicas
        );
        let _ = writeln!(out, "  lines/s              {:>12.0}", self.lines_per_second);
        let _ = writeln!(
            out,
            "  ack ms p50/p99       {:>12}",
            format!("{:.1} / {:.1}", self.ack_p50_ms, self.ack_p99_ms)
        );
        let _ = writeln!(
            out,
            "  CPU-s per M, servers {:>12.3}  ({:.3} before the last flush and merges, which took {:.1} s)",
            self.cpu_seconds_per_million, self.cpu_seconds_per_million_load, self.flush_seconds
        );
        let _ = writeln!(out, "  client CPU-s         {:>12.1}", self.client_cpu_seconds);
        let _ = writeln!(out, "  bytes/line on wire   {:>12.1}", self.wire_bytes_per_line);
        let _ = writeln!(out, "  retries              {:>12}", self.retries);
        let _ = writeln!(out, "  peak RSS MiB         {:>12.0}", mib(self.peak_rss_bytes));
        let _ = writeln!(
            out,
            "  disk, of raw         {:>12.4}  ({:.1} MiB, {:.1} bytes a line)",
            self.disk_bytes_of_raw,
            mib(self.disk_bytes),
            self.disk_bytes as f64 / self.lines as f64
        );
        for query in &self.queries {
            let _ = writeln!(
                out,
                "  {:<20} {:>12.2} ms p50, {:.2} p95, {} found",
                query.query, query.p50_ms, query.p95_ms, query.found
            );
        }
        out
    }
}
