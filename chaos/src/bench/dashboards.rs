//! `pharos bench query`: dashboards over data that keeps arriving.
//!
//! Nodes are started and filled with some history; then, for the length of the run, a fleet is scraped once a second while
//! clients ask a mix of dashboard queries, each waiting a while between two questions as a browser does, and one more
//! client keeps asking for ten billion samples. The figure is the time of the dashboards' answers; what must hold is that
//! none of them fails, that the huge query is refused with its limit named, and that the writers keep their pace.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::{address, start, usages};
use crate::client::{escape, seconds};
use crate::http::Connection;
use crate::ledger::now_ms;
use crate::workload::{Request, SERIES_PER_HOST, Shape, Workload};

/// What to run.
#[derive(Clone, Debug)]
pub struct DashboardOptions {
    /// The server's binary.
    pub binary: PathBuf,
    /// Where data directories are made; removed by whoever made it.
    pub dir: PathBuf,
    /// Servers; three and more replicate three times.
    pub nodes: usize,
    /// Shards of the cluster.
    pub shards: u16,
    /// Clients that ask at the same time.
    pub clients: usize,
    /// Samples that arrive each second, a multiple of [`SERIES_PER_HOST`]: one of each series.
    pub samples_per_second: usize,
    /// Seconds of history that are there at the start.
    pub history_seconds: usize,
    /// Seconds of the run.
    pub seconds: usize,
    /// How long a client waits between an answer and its next question.
    pub think: Duration,
    /// Decides the values.
    pub seed: u64,
}

/// A panel of a dashboard: its query, the minutes that it shows (0: the newest moment) and its step in seconds.
#[derive(Clone, Copy, Debug)]
struct Panel(&'static str, i64, i64);

/// The mix: every shape of query that dashboards are made of, over the metrics of [`Workload`].
const PANELS: [Panel; 12] = [
    Panel("sum by (mode) (rate(node_cpu_seconds_total[1m]))", 5, 15),
    Panel("sum by (region) (rate(http_requests_total{code=~\"5..\"}[1m]))", 5, 15),
    Panel("histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[1m])))", 5, 15),
    Panel("topk(5, sum by (instance) (rate(node_network_receive_bytes_total[1m])))", 0, 0),
    Panel(
        "rate(node_cpu_seconds_total{instance=\"node-00005.fra1.example.net:9100\",mode!=\"idle\"}[1m])",
        5,
        15,
    ),
    Panel("avg by (team) (node_load1)", 5, 5),
    Panel("max_over_time(node_load5{region=\"eu-west-1\"}[2m])", 0, 0),
    Panel("count by (job) ({__name__=~\"node_filesystem_.+\"})", 0, 0),
    Panel("node_load1 * on (instance) group_left (release) node_uname_info", 0, 0),
    Panel("sum(rate(http_requests_total{code!=\"200\"}[1m])) / sum(rate(http_requests_total[1m]))", 5, 15),
    Panel("quantile by (region) (0.9, node_pressure_waiting_ratio)", 5, 15),
    Panel("sum by (device) (rate(node_disk_reads_total{instance=~\"node-.*[.]fra1[.].*\"}[1m]))", 5, 15),
];

/// Every series at every tenth of a second of a bit less than three hours: 100,000 points of each of 100,000 series.
const HUGE: &str = "count(last_over_time({__name__=~\".+\"}[10000s:100ms]))";

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct DashboardReport {
    /// Version of this layout.
    pub schema: u32,
    /// Servers.
    pub nodes: usize,
    /// Clients.
    pub clients: usize,
    /// Series of the fleet.
    pub series: usize,
    /// Samples a second that were asked for.
    pub target_samples_per_second: usize,
    /// Samples a second that were acknowledged.
    pub samples_per_second: f64,
    /// Seconds of the run.
    pub seconds: f64,
    /// Dashboard queries that were answered.
    pub queries: usize,
    /// Dashboard queries that were not, and the first reasons.
    pub errors: usize,
    /// The first of those reasons.
    pub first_errors: Vec<String>,
    /// Median time of an answer.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// By query: text, answers, median and 99th percentile in milliseconds.
    pub by_query: Vec<(String, usize, f64, f64)>,
    /// Times that the huge query was refused, with the limit named.
    pub huge_refused: usize,
    /// Times that something else became of it.
    pub huge_other: usize,
    /// The last answer to it.
    pub huge_answer: String,
    /// 99th percentile of the writers' acknowledgements.
    pub ack_p99_ms: f64,
    /// Processor seconds of all servers for each second of the run.
    pub server_cores: f64,
    /// Largest resident size of a server.
    pub peak_rss_bytes: u64,
}

impl DashboardReport {
    /// Whether all that must hold did.
    pub fn passed(&self) -> bool {
        self.errors == 0
            && self.queries > 0
            && self.huge_refused > 0
            && self.huge_other == 0
            && self.samples_per_second >= self.target_samples_per_second as f64 * 0.95
    }
}

/// Runs the benchmark.
pub fn dashboards(options: &DashboardOptions) -> anyhow::Result<DashboardReport> {
    let hosts = (options.samples_per_second / SERIES_PER_HOST).max(1);
    let scrapes = options.history_seconds + options.seconds;
    let shape = Shape { hosts, scrapes, interval_ms: 1000, samples_per_request: 2_000 };
    let cluster = start(&options.binary, &options.dir, options.nodes, options.shards)?;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.http).collect();
    let connect = |at: usize| Connection::new(address(ports[at % ports.len()]), Duration::from_secs(150));

    let start_ms = now_ms() - options.history_seconds as i64 * 1000;
    let mut workload = Workload::new(shape, options.seed, start_ms);
    let mut connections: Vec<Connection> = (0..8).map(connect).collect();
    for _ in 0..options.history_seconds {
        let scrape = workload.next_scrape().context("the workload has a history")?;
        deliver(&mut connections, &scrape, &mut Vec::new())?;
    }

    let before = usages(&cluster)?;
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let length = Duration::from_secs(options.seconds as u64);
    let (asked, huge, written) = std::thread::scope(|scope| {
        let stop = &stop;
        let clients: Vec<_> = (0..options.clients)
            .map(|number| {
                let connection = connect(number);
                scope.spawn(move || ask_panels(connection, number, options.think, stop))
            })
            .collect();
        let huge = {
            let connection = connect(1);
            scope.spawn(move || ask_huge(connection, stop))
        };
        let written = write_live(&mut workload, &mut connections, begun, length);
        stop.store(true, Ordering::Relaxed);
        let asked: Vec<Asked> = clients.into_iter().filter_map(|client| client.join().ok()).collect();
        (asked, huge.join(), written)
    });
    let ran = begun.elapsed().as_secs_f64();
    let after = usages(&cluster)?;
    let (samples, mut acks, writing) = written?;
    let huge = huge.map_err(|_| anyhow::anyhow!("the client of the huge query panicked"))?;
    anyhow::ensure!(asked.len() == options.clients, "a client panicked");

    let mut all: Vec<(usize, f64)> = asked.iter().flat_map(|a| a.answers.iter().copied()).collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    let by_query = PANELS.iter().enumerate().map(|(panel, Panel(text, ..))| {
        let times: Vec<f64> = all.iter().filter(|(p, _)| *p == panel).map(|(_, ms)| *ms).collect();
        ((*text).to_owned(), times.len(), quantile(&times, 0.5), quantile(&times, 0.99))
    });
    let by_query = by_query.collect();
    let times: Vec<f64> = all.iter().map(|(_, ms)| *ms).collect();
    acks.sort_by(f64::total_cmp);
    let cpu = |usages: &[crate::process::Usage]| usages.iter().map(|u| u.cpu_seconds).sum::<f64>();
    Ok(DashboardReport {
        schema: 1,
        nodes: options.nodes,
        clients: options.clients,
        series: shape.series(),
        target_samples_per_second: shape.series(),
        samples_per_second: samples as f64 / writing,
        seconds: ran,
        queries: times.len(),
        errors: asked.iter().map(|a| a.errors).sum(),
        first_errors: asked.iter().filter_map(|a| a.first_error.clone()).take(3).collect(),
        p50_ms: quantile(&times, 0.5),
        p90_ms: quantile(&times, 0.9),
        p99_ms: quantile(&times, 0.99),
        max_ms: quantile(&times, 1.0),
        by_query,
        huge_refused: huge.refused,
        huge_other: huge.other,
        huge_answer: huge.last,
        ack_p99_ms: quantile(&acks, 0.99),
        server_cores: (cpu(&after) - cpu(&before)) / ran,
        peak_rss_bytes: after.iter().map(|u| u.peak_rss_bytes).max().unwrap_or(0),
    })
}

/// Of ascending values; 0 where there are none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Sends a scrape over all connections at once; adds the milliseconds of each acknowledgement.
fn deliver(connections: &mut [Connection], scrape: &[Request], acks: &mut Vec<f64>) -> anyhow::Result<u64> {
    let lanes = connections.len();
    let sent: Vec<anyhow::Result<(u64, Vec<f64>)>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = connections
            .iter_mut()
            .enumerate()
            .map(|(lane, connection)| {
                scope.spawn(move || {
                    let (mut samples, mut acks) = (0, Vec::new());
                    for request in scrape.iter().skip(lane).step_by(lanes) {
                        let begun = Instant::now();
                        let answer = connection.post_write(&request.body)?;
                        anyhow::ensure!(answer.is_success(), "{}: {}", answer.status, answer.text());
                        samples += u64::from(request.samples);
                        acks.push(begun.elapsed().as_secs_f64() * 1e3);
                    }
                    Ok((samples, acks))
                })
            })
            .collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a writer panicked"))))
            .collect()
    });
    let mut samples = 0;
    for lane in sent {
        let (count, times) = lane?;
        samples += count;
        acks.extend(times);
    }
    Ok(samples)
}

/// A scrape each second; one that is late is followed at once. Samples, acknowledgements and the seconds that it took.
fn write_live(
    workload: &mut Workload,
    connections: &mut [Connection],
    begun: Instant,
    length: Duration,
) -> anyhow::Result<(u64, Vec<f64>, f64)> {
    let (mut samples, mut acks) = (0, Vec::new());
    let mut due = begun;
    while let Some(scrape) = workload.next_scrape() {
        samples += deliver(connections, &scrape, &mut acks)?;
        due += Duration::from_secs(1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok((samples, acks, begun.elapsed().max(length).as_secs_f64()))
}

#[derive(Default)]
struct Asked {
    /// Panel and milliseconds.
    answers: Vec<(usize, f64)>,
    errors: usize,
    first_error: Option<String>,
}

fn ask_panels(mut connection: Connection, number: usize, think: Duration, stop: &AtomicBool) -> Asked {
    let mut asked = Asked::default();
    // Clients begin with different panels and at different moments.
    std::thread::sleep(think.mul_f64(number as f64 % 50.0 / 50.0));
    let mut turn = number;
    while !stop.load(Ordering::Relaxed) {
        let panel = turn % PANELS.len();
        turn += 1;
        let Panel(text, minutes, step) = PANELS[panel];
        let now = now_ms();
        let path = match minutes {
            0 => format!("/api/v1/query?query={}&time={}", escape(text), seconds(now)),
            minutes => format!(
                "/api/v1/query_range?query={}&start={}&end={}&step={step}",
                escape(text),
                seconds(now - minutes * 60_000),
                seconds(now)
            ),
        };
        let begun = Instant::now();
        let failed = match connection.get(&path) {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("{}: {}", answer.status, answer.text())),
            Err(error) => Some(error.to_string()),
        };
        match failed {
            None => asked.answers.push((panel, begun.elapsed().as_secs_f64() * 1e3)),
            Some(reason) => {
                asked.errors += 1;
                asked.first_error.get_or_insert(format!("{text}: {reason}"));
            }
        }
        std::thread::sleep(think);
    }
    asked
}

#[derive(Default)]
struct Huge {
    refused: usize,
    other: usize,
    last: String,
}

fn ask_huge(mut connection: Connection, stop: &AtomicBool) -> Huge {
    let mut huge = Huge::default();
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/api/v1/query?query={}&time={}", escape(HUGE), seconds(now_ms()));
        match connection.get(&path) {
            Ok(answer) => {
                huge.last = format!("{}: {}", answer.status, answer.text());
                // Either of the limits on what a query may take.
                let named = ["query.max_samples", "query.max_memory"].iter().any(|l| huge.last.contains(l));
                if answer.status == 422 && named { huge.refused += 1 } else { huge.other += 1 }
            }
            Err(error) => {
                huge.other += 1;
                huge.last = error.to_string();
            }
        }
        std::thread::sleep(Duration::from_secs(5));
    }
    huge
}

impl DashboardReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{} node(s), {} clients, {} series at {:.0} samples/s (asked for: {}), {:.0} s: {}",
            self.nodes,
            self.clients,
            self.series,
            self.samples_per_second,
            self.target_samples_per_second,
            self.seconds,
            if self.passed() { "passed" } else { "FAILED" }
        );
        let _ = writeln!(
            out,
            "  {} dashboard queries, {} errors; ms p50 {:.1}, p90 {:.1}, p99 {:.1}, max {:.0}",
            self.queries, self.errors, self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms
        );
        for error in &self.first_errors {
            let _ = writeln!(out, "    {error}");
        }
        for (text, count, p50, p99) in &self.by_query {
            let _ = writeln!(out, "    {count:>6}  p50 {p50:>7.1}  p99 {p99:>7.1}  {text}");
        }
        let _ = writeln!(
            out,
            "  10 billion samples: refused {} times, else {} times; last: {}",
            self.huge_refused,
            self.huge_other,
            self.huge_answer.trim()
        );
        let _ = writeln!(
            out,
            "  acknowledgements p99 {:.1} ms; servers {:.2} cores, peak RSS {:.0} MiB",
            self.ack_p99_ms,
            self.server_cores,
            self.peak_rss_bytes as f64 / f64::from(1 << 20)
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_sorted_values() {
        assert_eq!(quantile(&[], 0.5), 0.0);
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(
            (quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)),
            (50.0, 99.0, 99.0)
        );
    }

    #[test]
    fn panels_ask_for_what_the_workload_has() {
        let shape = Shape { hosts: 8, scrapes: 1, interval_ms: 1000, samples_per_request: 4_000 };
        let request = Workload::new(shape, 1, 0).next_scrape().unwrap().remove(0);
        let body = snap::raw::Decoder::new().decompress_vec(&request.body).unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        for name in [
            "node_cpu_seconds_total",
            "http_requests_total",
            "http_request_duration_seconds_bucket",
            "node_network_receive_bytes_total",
            "node-00005.fra1.example.net:9100",
            "node_load1",
            "node_load5",
            "node_filesystem_size_bytes",
            "node_uname_info",
            "node_pressure_waiting_ratio",
            "node_disk_reads_total",
        ] {
            assert!(text.contains(name), "{name}");
        }
    }
}
