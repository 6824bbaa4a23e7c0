//! What benchmarks of logs and of spans have in common: the load, and questions whose answers are known.
//!
//! Rows are encoded before the clock starts, a round of them at a time so that memory does not limit how many there may
//! be. Every answer is compared with what the generator knows: a benchmark that counts wrongly fails.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;

use super::load::{Post, Sent, own_cpu_seconds, send};
use super::system::System;
use crate::http::Connection;
use crate::process::Usage;
use crate::workload::Request;

/// Time that one question may take of a run, however often it should be asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// What writing rows took.
#[derive(Clone, Debug, Serialize)]
pub struct RowFigures {
    /// Servers.
    pub nodes: usize,
    /// Copies of each row.
    pub replicas: usize,
    /// Rows acknowledged.
    pub rows: u64,
    /// Time in which they were sent and acknowledged.
    pub seconds: f64,
    /// Acknowledged rows a second.
    pub rows_per_second: f64,
    /// Median time of an acknowledgement.
    pub ack_p50_ms: f64,
    /// 99th percentile of it.
    pub ack_p99_ms: f64,
    /// Times that a request was answered 429 or 5xx and sent again.
    pub retries: u64,
    /// Bytes sent for each row.
    pub wire_bytes_per_row: f64,
    /// Processor seconds of this program while it sent.
    pub client_cpu_seconds: f64,
    /// Seconds that the flush and the merges at the end took; of a store that does not say when they have ended, with
    /// those in which its files no longer changed.
    pub flush_seconds: f64,
    /// Processor seconds for a million rows, all servers together, the flush and the merges at the end included.
    pub cpu_seconds_per_million: f64,
    /// The same without those at the end.
    pub cpu_seconds_per_million_load: f64,
    /// Largest resident size of a server.
    pub peak_rss_bytes: u64,
    /// Bytes of one copy on disk after the merges, everything that searches use included.
    pub disk_bytes: u64,
}

/// Sends round after round until one is empty, then flushes.
pub(super) fn write(
    system: &System,
    post: Post,
    mut round: impl FnMut() -> Vec<Vec<Request>>,
) -> anyhow::Result<RowFigures> {
    let mut all = Sent::default();
    let (mut wire_bytes, mut client_cpu_seconds) = (0u64, 0.0);
    let before = system.usage()?;
    loop {
        let lanes = round();
        if lanes.iter().all(Vec::is_empty) {
            break;
        }
        wire_bytes += lanes.iter().flatten().map(|request| request.body.len() as u64).sum::<u64>();
        let client_before = own_cpu_seconds()?;
        let sent = send(&system.addrs, &lanes, post)?;
        client_cpu_seconds += own_cpu_seconds()? - client_before;
        all.samples += sent.samples;
        all.retries += sent.retries;
        all.seconds += sent.seconds;
        all.latencies.extend(sent.latencies);
    }
    all.latencies.sort_unstable();
    let loaded = system.usage()?;
    let started = Instant::now();
    let disk_bytes = system.settle()?;
    let flush_seconds = started.elapsed().as_secs_f64();
    let flushed = system.usage()?;
    let cpu_until = |after: &Usage| (after.cpu_seconds - before.cpu_seconds) * 1e6 / all.samples as f64;
    let replicas = system.replicas();
    Ok(RowFigures {
        nodes: system.nodes(),
        replicas,
        rows: all.samples,
        seconds: all.seconds,
        rows_per_second: all.samples as f64 / all.seconds,
        ack_p50_ms: all.quantile_ms(0.5),
        ack_p99_ms: all.quantile_ms(0.99),
        retries: all.retries,
        wire_bytes_per_row: wire_bytes as f64 / all.samples as f64,
        client_cpu_seconds,
        flush_seconds,
        cpu_seconds_per_million: cpu_until(&flushed),
        cpu_seconds_per_million_load: cpu_until(&loaded),
        peak_rss_bytes: flushed.peak_rss_bytes,
        disk_bytes: disk_bytes / replicas as u64,
    })
}

impl RowFigures {
    /// For people; `rows` is what they call a row.
    pub(super) fn write_text(&self, out: &mut String, rows: &str) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut line = |name: String, value: String| {
            let _ = writeln!(out, "  {name:<20} {value}");
        };
        line(format!("{rows}s/s"), format!("{:>12.0}", self.rows_per_second));
        let acks = format!("{:.1} / {:.1}", self.ack_p50_ms, self.ack_p99_ms);
        line("ack ms p50/p99".to_owned(), format!("{acks:>12}"));
        line(
            "CPU-s per M, servers".to_owned(),
            format!(
                "{:>12.3}  ({:.3} before the last flush and merges, which took {:.1} s)",
                self.cpu_seconds_per_million, self.cpu_seconds_per_million_load, self.flush_seconds
            ),
        );
        line("client CPU-s".to_owned(), format!("{:>12.1}", self.client_cpu_seconds));
        line(format!("bytes/{rows} on wire"), format!("{:>12.1}", self.wire_bytes_per_row));
        line("retries".to_owned(), format!("{:>12}", self.retries));
        line("peak RSS MiB".to_owned(), format!("{:>12.0}", mib(self.peak_rss_bytes)));
        let of_each = self.disk_bytes as f64 / self.rows as f64;
        line(format!("bytes/{rows} on disk"), format!("{of_each:>12.1}  ({:.1} MiB)", mib(self.disk_bytes)));
    }
}

/// A question and what it took.
#[derive(Clone, Debug, Serialize)]
pub struct QuestionFigures {
    /// Name, as in the table of rivals.
    pub query: &'static str,
    /// Median time in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// What was counted.
    pub found: u64,
}

impl QuestionFigures {
    /// For people.
    pub(super) fn write_text(&self, out: &mut String) {
        let Self { query, p50_ms, p95_ms, found } = self;
        let _ = writeln!(out, "  {query:<20} {p50_ms:>12.2} ms p50, {p95_ms:.2} p95, {found} found");
    }
}

/// What is counted in an answer: in its JSON documents, one or one a line.
pub(super) type Figure = fn(&[Value]) -> anyhow::Result<u64>;

/// A question, and what its answer has to say.
pub(super) struct Question {
    pub name: &'static str,
    pub path: String,
    pub figure: Figure,
    pub expected: u64,
}

impl Question {
    /// Asks so many times, unless ten seconds are over before.
    pub fn ask(&self, addr: SocketAddr, runs: usize) -> anyhow::Result<QuestionFigures> {
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
        let documents = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
        let documents = documents.collect::<Result<Vec<_>, _>>()?;
        let found = (self.figure)(&documents).with_context(|| format!("{}: the answer", self.name))?;
        ensure!(found == self.expected, "{} found {found} where there are {}", self.name, self.expected);
        Ok(QuestionFigures { query: self.name, p50_ms: quantile(0.5), p95_ms: quantile(0.95), found })
    }
}

/// The data of an answer of Pharos.
pub(super) fn data(documents: &[Value]) -> &Value {
    documents.first().map_or(&Value::Null, |document| &document["data"])
}

/// Length of a list of the answer.
pub(super) fn length(list: &Value) -> anyhow::Result<u64> {
    Ok(list.as_array().context("no list")?.len() as u64)
}

/// A number of the answer.
pub(super) fn number(value: &Value) -> anyhow::Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no count"))
}
