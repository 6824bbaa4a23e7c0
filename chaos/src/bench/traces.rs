//! Traces: ingest over OTLP, bytes on disk, look-ups and searches.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use super::queries::encode;
use super::rows::{Figure, Question, QuestionFigures, RowFigures, data, length, write};
use super::system::System;
use crate::http::Connection;
use crate::ledger::now_ms;
use crate::log_workload::SPAN_NS;
use crate::span_workload::{SPANS_PER_REQUEST, SpanTruth, SpanWorkload, encode_requests};

/// Spans that are encoded before the clock goes on.
const ROUND_SPANS: usize = 3_000_000;
/// Traces that a search asks for.
const LIMIT: u64 = 20;

/// What to run.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The server's binary.
    pub binary: PathBuf,
    /// Where data directories are made; removed by whoever made it.
    pub dir: PathBuf,
    /// Servers; three and more replicate three times.
    pub nodes: usize,
    /// Shards of the cluster.
    pub shards: u16,
    /// Traces, of 8 to 20 spans each.
    pub traces: usize,
    /// Keep-alive connections, spread over the nodes.
    pub connections: usize,
    /// Decides the spans.
    pub seed: u64,
    /// How often each question is asked, unless ten seconds are over before.
    pub runs: usize,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct TraceReport {
    /// Version of this layout.
    pub schema: u32,
    /// Traces.
    pub traces: u64,
    /// What writing their spans took.
    #[serde(flatten)]
    pub written: RowFigures,
    /// The questions, asked of the first node.
    pub queries: Vec<QuestionFigures>,
}

/// What all points of all series add up to.
fn points_total(answer: &[Value]) -> anyhow::Result<u64> {
    let series = data(answer)["series"].as_array().context("series")?.iter();
    let points = series.flat_map(|series| series["values"].as_array().into_iter().flatten());
    points.map(|point| point[1].as_f64().map(|value| value as u64).context("a point has a number")).sum()
}

fn questions(truth: &SpanTruth, start_ns: i64) -> Vec<Question> {
    let range = format!("start={start_ns}&end={}", start_ns + SPAN_NS);
    let id: String = truth.needle.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let of = |name, path: String, figure: Figure, expected| Question {
        name,
        path: format!("/api/v1/{path}{}{range}", if path.contains('?') { '&' } else { '?' }),
        figure,
        expected,
    };
    let search = |name, traceql: &str, order: &str, expected: u64| {
        let path = format!("traces/search?q={}&limit={LIMIT}&order={order}", encode(traceql));
        of(name, path, |answer| length(&data(answer)["traces"]), expected.min(LIMIT))
    };
    vec![
        of("services", "services".to_owned(), |answer| length(&data(answer)["services"]), truth.services),
        of("trace_by_id", format!("traces/{id}"), |answer| length(&data(answer)["spans"]), truth.needle.1),
        search("search_service_20", "{ resource.service.name = \"payment\" }", "newest", truth.of_payment),
        search("search_error_20", "{ status = error }", "newest", truth.failed),
        search("search_slow_20", "{ duration > 1s }", "newest", truth.slow),
        search("slowest_20", "{ }", "slowest", truth.traces),
        of(
            "count_spans",
            format!("traces/metrics?q={}&step=2h", encode("{ } | count_over_time()")),
            points_total,
            truth.spans,
        ),
        of(
            "errors_by_service",
            format!(
                "traces/metrics?q={}&step=1m",
                encode("{ status = error } | count_over_time() by (resource.service.name)")
            ),
            points_total,
            truth.errors,
        ),
    ]
}

/// Runs the benchmark of traces.
pub fn traces(options: &TraceOptions) -> anyhow::Result<TraceReport> {
    let system = System::pharos(&options.binary, &options.dir, options.nodes, options.shards)?;
    let start_ns = now_ms() * 1_000_000 - SPAN_NS;
    let mut workload = SpanWorkload::new(options.traces, options.seed, start_ns);
    let mut truth = SpanTruth::default();
    let round = || {
        let requests = ROUND_SPANS / SPANS_PER_REQUEST;
        encode_requests(&mut workload, requests, options.connections, &mut truth)
    };
    let written = write(&system, Connection::post_traces, round)?;
    let questions = questions(&truth, start_ns);
    let queries = questions.iter().map(|question| question.ask(system.addrs[0], options.runs));
    let queries = queries.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(TraceReport { schema: 1, traces: truth.traces, written, queries })
}

impl TraceReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let RowFigures { rows, nodes, replicas, .. } = self.written;
        let traces = self.traces;
        let _ = writeln!(out, "{rows} spans of {traces} traces, {nodes} node(s), {replicas} replica(s)");
        self.written.write_text(&mut out, "span");
        self.queries.iter().for_each(|query| query.write_text(&mut out));
        out
    }
}
