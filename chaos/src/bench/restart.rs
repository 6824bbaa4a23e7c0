//! A node with much data: how long it takes to start again, and to have its disk replaced.
//!
//! One node takes samples that do not compress (random mantissas) until its segments have the size that was asked for. It
//! is killed without warning, with a log tail that no flush has covered, and started again, several times; each time it has
//! to answer for the last sample of every series. Where more nodes are asked for, they join then and fetch their copies, the
//! last of them loses its disk, and a writer goes on all the while.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde::Serialize;
use serde_json::Value;

use super::load::{Sent, send};
use super::{Sizes, address, start};
use crate::client::{Series, encode_write};
use crate::http::{Answer, Connection};
use crate::ledger::now_ms;
use crate::process::{LocalCluster, Node, wait_for};
use crate::sim::random::{Stream, stream};
use crate::workload::Request;

/// Series of the load.
const SERIES: usize = 20_000;
/// Series whose samples share a request.
const SERIES_PER_REQUEST: usize = 100;
/// Samples of a series in a request.
const SAMPLES_PER_SERIES: usize = 50;
/// Milliseconds from sample to sample.
const INTERVAL_MS: i64 = 5_000;
/// Age of the first sample: below what a node keeps by default.
const AGE_MS: i64 = 25 * 86_400_000;
/// How long a copy of everything may take before waiting for it is given up.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What to run.
#[derive(Clone, Debug)]
pub struct RestartOptions {
    /// The server's binary.
    pub binary: PathBuf,
    /// Where data directories are made; removed by whoever made it.
    pub dir: PathBuf,
    /// Servers in the end: with more than one, one of them loses its disk.
    pub nodes: usize,
    /// Shards of the cluster.
    pub shards: u16,
    /// Bytes of segments that the first node is to have.
    pub bytes: u64,
    /// How often it is killed and started.
    pub restarts: usize,
    /// Keep-alive connections that write.
    pub connections: usize,
    /// Decides the values.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RestartReport {
    /// Version of this layout.
    pub schema: u32,
    /// Samples acknowledged before the first kill.
    pub samples: u64,
    /// Seconds in which they were sent and acknowledged.
    pub seconds: f64,
    /// Bytes of the node's segments when it was killed.
    pub segment_bytes: u64,
    /// Bytes of its series registries and manifests.
    pub index_bytes: u64,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// Milliseconds from each start of the process until it is ready.
    pub ready_ms: Vec<f64>,
    /// Milliseconds from each start until it has answered for every series.
    pub answered_ms: Vec<f64>,
    /// What more nodes showed.
    pub copies: Option<CopyFigures>,
}

/// Copying everything from node to node.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CopyFigures {
    /// Servers.
    pub nodes: usize,
    /// Seconds from the start of the further nodes until every shard has all its replicas.
    pub joined_seconds: f64,
    /// Seconds from the start of the node that had lost its disk until every shard has all its replicas again.
    pub replaced_seconds: f64,
    /// Bytes of the segments that it fetched.
    pub replaced_bytes: u64,
    /// 99th percentile of acknowledgements before, and while its copies were fetched, in milliseconds.
    pub ack_p99_ms: [f64; 2],
    /// Writes that were answered with an error while its copies were fetched; each was sent again.
    pub retries: u64,
}

/// Samples of all series, one request after the other.
struct Noise {
    rng: SmallRng,
    at_ms: i64,
}

impl Noise {
    fn new(seed: u64) -> Self {
        Self { rng: stream(seed, Stream::Clients, 0), at_ms: now_ms() - AGE_MS }
    }

    /// The next samples of every series.
    fn round(&mut self, connections: usize) -> Vec<Vec<Request>> {
        let mut lanes: Vec<Vec<Request>> = (0..connections.max(1)).map(|_| Vec::new()).collect();
        for group in 0..SERIES / SERIES_PER_REQUEST {
            let numbers = group * SERIES_PER_REQUEST..(group + 1) * SERIES_PER_REQUEST;
            let series: Vec<Series> = numbers.map(|number| self.series(number)).collect();
            let samples = (SERIES_PER_REQUEST * SAMPLES_PER_SERIES) as u32;
            let lane = group % lanes.len();
            lanes[lane].push(Request { group, samples, body: encode_write(&series) });
        }
        self.at_ms += SAMPLES_PER_SERIES as i64 * INTERVAL_MS;
        lanes
    }

    fn series(&mut self, number: usize) -> Series {
        let samples = (0..SAMPLES_PER_SERIES as i64).map(|i| {
            let mantissa = self.rng.random::<u64>() >> 12;
            (self.at_ms + i * INTERVAL_MS, f64::from_bits(mantissa | 1.0f64.to_bits()))
        });
        Series::new("noise", &[("series", &number.to_string())], samples.collect())
    }

    /// The time of the last sample.
    fn last_ms(&self) -> i64 {
        self.at_ms - INTERVAL_MS
    }
}

/// Runs the benchmark; `progress` hears of its steps.
pub fn restart(options: &RestartOptions, progress: &mut dyn FnMut(&str)) -> anyhow::Result<RestartReport> {
    let mut cluster = start(&options.binary, &options.dir, 1, options.shards)?;
    let mut noise = Noise::new(options.seed);
    let mut report = RestartReport { schema: 1, ..RestartReport::default() };
    progress("writing");
    let addrs = [address(cluster.nodes[0].http)];
    let dir = cluster.nodes[0].dir();
    while Sizes::of(&dir)?.segments < options.bytes {
        ensure!(noise.at_ms < now_ms(), "the load has reached the present: ask for less");
        let sent = send(&addrs, &noise.round(options.connections), Connection::post_write)?;
        report.samples += sent.samples;
        report.seconds += sent.seconds;
    }
    for at in 1..=options.restarts {
        progress(&format!("kill and start {at}"));
        let node = &mut cluster.nodes[0];
        node.kill()?;
        let sizes = Sizes::of(&dir)?;
        (report.segment_bytes, report.index_bytes, report.log_bytes) =
            (sizes.segments, sizes.index, sizes.log);
        let started = Instant::now();
        node.start()?;
        node.wait_ready()?;
        report.ready_ms.push(started.elapsed().as_secs_f64() * 1e3);
        let answer = node.client().query("count(noise)", noise.last_ms())?;
        report.answered_ms.push(started.elapsed().as_secs_f64() * 1e3);
        let counted = answer.into_values().next().unwrap_or_default();
        ensure!(counted == SERIES as f64, "{counted} series have their last sample, not {SERIES}");
    }
    if options.nodes > 1 {
        report.copies = Some(copies(options, &mut cluster, &mut noise, progress)?);
    }
    Ok(report)
}

/// Has further nodes join and the last of them lose its disk.
fn copies(
    options: &RestartOptions,
    cluster: &mut LocalCluster,
    noise: &mut Noise,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<CopyFigures> {
    let mut figures = CopyFigures { nodes: options.nodes, ..CopyFigures::default() };
    progress("further nodes join");
    let started = Instant::now();
    while cluster.nodes.len() < options.nodes {
        cluster.add_node()?;
    }
    let replicas = options.nodes.min(3);
    wait_copied(cluster, replicas, None)?;
    figures.joined_seconds = started.elapsed().as_secs_f64();

    progress("a node loses its disk");
    let addrs = [address(cluster.nodes[0].http)];
    let mut quiet = Sent::default();
    for _ in 0..5 {
        let sent = send(&addrs, &noise.round(1), paced)?;
        quiet.latencies.extend(sent.latencies);
    }
    quiet.latencies.sort_unstable();
    let first = cluster.nodes[0].peer;
    let last = cluster.nodes.len() - 1;
    let lost = cluster.nodes[last].id()?;
    let stop = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> anyhow::Result<Sent> {
            let mut all = Sent::default();
            while !stop.load(Ordering::Relaxed) {
                let sent = send(&addrs, &noise.round(1), paced)?;
                all.retries += sent.retries;
                all.latencies.extend(sent.latencies);
            }
            Ok(all)
        });
        let replaced = replace(&mut cluster.nodes[last], first).and_then(|started| {
            wait_copied(cluster, replicas, Some(lost))?;
            Ok(started.elapsed().as_secs_f64())
        });
        stop.store(true, Ordering::Relaxed);
        let Ok(written) = writer.join() else { bail!("the writer panicked") };
        figures.replaced_seconds = replaced?;
        written
    });
    let mut busy = busy?;
    busy.latencies.sort_unstable();
    figures.ack_p99_ms = [quiet.quantile_ms(0.99), busy.quantile_ms(0.99)];
    figures.retries = busy.retries;
    figures.replaced_bytes = Sizes::of(&cluster.nodes[last].dir())?.segments;
    Ok(figures)
}

/// Sends about a hundred requests a second.
fn paced(connection: &mut Connection, body: &[u8]) -> std::io::Result<Answer> {
    std::thread::sleep(Duration::from_millis(8));
    connection.post_write(body)
}

/// Kills a node, takes its disk and starts it anew. When it was started.
fn replace(node: &mut Node, join: u16) -> anyhow::Result<Instant> {
    node.kill()?;
    node.wipe()?;
    node.join_through(join);
    let started = Instant::now();
    node.start()?;
    Ok(started)
}

/// Waits until every shard has all its replicas, none of them at a node that is gone for good.
fn wait_copied(cluster: &LocalCluster, replicas: usize, lost: Option<u64>) -> anyhow::Result<()> {
    let started = Instant::now();
    let is_gone = || -> anyhow::Result<()> {
        let status = cluster.status()?;
        let groups = status["shards"].as_array().context("shards")?.iter().chain([&status["meta"]]);
        let voters = groups.filter_map(|group| group["voters"].as_array()).flatten();
        let is_lost = |voter: &Value| lost.is_some() && voter.as_u64() == lost;
        ensure!(!voters.into_iter().any(is_lost), "node {lost:?} still counts");
        Ok(())
    };
    loop {
        let copied = wait_for("the lost node counts no more", is_gone);
        match copied.and_then(|()| cluster.wait_replicated(replicas)) {
            Ok(()) => return Ok(()),
            Err(reason) if started.elapsed() > PATIENCE => {
                return Err(reason).context("copies take too long");
            }
            Err(_) => {}
        }
    }
}

impl RestartReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let list = |times: &[f64]| times.iter().map(|ms| format!("{ms:.0}")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            out,
            "{} samples at {:.0}/s: segments {:.2} GiB ({:.2} B/sample), index {:.3} GiB, log {:.2} GiB",
            self.samples,
            self.samples as f64 / self.seconds.max(1e-9),
            gib(self.segment_bytes),
            self.segment_bytes as f64 / self.samples.max(1) as f64,
            gib(self.index_bytes),
            gib(self.log_bytes)
        );
        let _ = writeln!(out, "  ms from start until ready      {}", list(&self.ready_ms));
        let _ = writeln!(out, "  ms from start until answered   {}", list(&self.answered_ms));
        if let Some(copies) = &self.copies {
            let _ = writeln!(
                out,
                "  {} nodes: joined in {:.1} s; a lost disk of {:.2} GiB replaced in {:.1} s ({:.0} MiB/s), ack p99 \
                 {:.1} ms before and {:.1} ms meanwhile, {} retries",
                copies.nodes,
                copies.joined_seconds,
                gib(copies.replaced_bytes),
                copies.replaced_seconds,
                copies.replaced_bytes as f64 / f64::from(1 << 20) / copies.replaced_seconds.max(1e-9),
                copies.ack_p99_ms[0],
                copies.ack_p99_ms[1],
                copies.retries
            );
        }
        out
    }
}
