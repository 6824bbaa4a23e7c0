//! `pharos bench`: what a build does with a known load, end to end, through real processes and sockets.
//!
//! [`ingest`] starts its own servers on loopback, sends a deterministic workload over keep-alive connections as fast as
//! it is acknowledged, flushes, and reads the servers' processor time and resident size from /proc and their files from
//! disk. Requests are encoded before the clock starts, so the generator costs little more than copying bytes to sockets;
//! what it costs is in the report.
//!
//! Every acknowledgement counts as durable on a quorum, because that is what a 2xx means; nothing is sampled or assumed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::http::Connection;
use crate::ledger::now_ms;
use crate::process::{ClusterOptions, LocalCluster, Usage, require_empty};
use crate::workload::{Request, Shape, Workload};

/// What to run.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The server's binary.
    pub binary: PathBuf,
    /// Where data directories are made; removed by whoever made it.
    pub dir: PathBuf,
    /// Servers; three and more replicate three times.
    pub nodes: usize,
    /// Shards of the cluster.
    pub shards: u16,
    /// The load.
    pub shape: Shape,
    /// Name of the load, for the report.
    pub name: String,
    /// Keep-alive connections, spread over the nodes.
    pub connections: usize,
    /// Decides the values.
    pub seed: u64,
}

/// What one server used and keeps.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServerFigures {
    /// Processor seconds for a million samples, load and flush.
    pub cpu_seconds_per_million: f64,
    /// The same without the flush at the end.
    pub cpu_seconds_per_million_load: f64,
    /// Largest resident size.
    pub peak_rss_bytes: u64,
    /// Segment files.
    pub segment_bytes: u64,
    /// Manifests, series registries and other small files of the shards.
    pub index_bytes: u64,
    /// The log.
    pub log_bytes: u64,
    /// Segment and index bytes for each sample it holds.
    pub bytes_per_sample: f64,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct IngestReport {
    /// Version of this layout.
    pub schema: u32,
    /// Name of the load.
    pub workload: String,
    /// Its size.
    pub shape: Shape,
    /// Servers.
    pub nodes: usize,
    /// Copies of each sample.
    pub replicas: usize,
    /// Samples acknowledged.
    pub samples: u64,
    /// From the first byte sent to the last acknowledgement.
    pub seconds: f64,
    /// Acknowledged samples a second.
    pub samples_per_second: f64,
    /// Median time of an acknowledgement.
    pub ack_p50_ms: f64,
    /// 99th percentile of it.
    pub ack_p99_ms: f64,
    /// The longest.
    pub ack_max_ms: f64,
    /// Requests that were refused for now and sent again.
    pub retries: u64,
    /// Bytes sent for each sample.
    pub wire_bytes_per_sample: f64,
    /// Processor seconds of this program during the load.
    pub client_cpu_seconds: f64,
    /// Seconds that the flush at the end took.
    pub flush_seconds: f64,
    /// Processor seconds for a million samples, all servers together.
    pub cpu_seconds_per_million: f64,
    /// Server by server.
    pub servers: Vec<ServerFigures>,
}

/// Runs the ingest benchmark.
pub fn ingest(options: &IngestOptions) -> anyhow::Result<IngestReport> {
    let shape = options.shape;
    // The last scrape lies just before now, so that neither retention nor "too far ahead" has a say.
    let start_ms = (now_ms() - shape.span_ms()) / shape.interval_ms * shape.interval_ms;
    let lanes = encode(options, start_ms);
    let wire_bytes: u64 = lanes.iter().flatten().map(|r| r.body.len() as u64).sum();
    require_empty(&options.dir)?;
    let cluster = LocalCluster::start(ClusterOptions {
        binary: options.binary.clone(),
        dir: options.dir.clone(),
        nodes: options.nodes,
        shards: options.shards,
        arguments: Vec::new(),
    })
    .context("cannot start the servers")?;
    let before = usages(&cluster)?;
    let client_before = own_cpu_seconds()?;
    let started = Instant::now();
    let mut sent = send(&cluster, lanes)?;
    let seconds = started.elapsed().as_secs_f64();
    let client_cpu_seconds = own_cpu_seconds()? - client_before;
    let loaded = usages(&cluster)?;
    let flushing = Instant::now();
    let first = cluster.nodes.first().context("a cluster has a node")?;
    let answer =
        Connection::new(address(first.http), Duration::from_secs(600)).post_empty("/api/v1/admin/flush")?;
    anyhow::ensure!(answer.is_success(), "flush answered {}: {}", answer.status, answer.text());
    let flush_seconds = flushing.elapsed().as_secs_f64();
    let flushed = usages(&cluster)?;

    let millions = sent.samples as f64 / 1e6;
    let replicas = options.nodes.min(3);
    let samples_per_server = sent.samples as f64 * replicas as f64 / options.nodes as f64;
    let mut servers = Vec::new();
    for (at, node) in cluster.nodes.iter().enumerate() {
        let sizes = Sizes::of(&node.dir())?;
        servers.push(ServerFigures {
            cpu_seconds_per_million: (flushed[at].cpu_seconds - before[at].cpu_seconds) / millions,
            cpu_seconds_per_million_load: (loaded[at].cpu_seconds - before[at].cpu_seconds) / millions,
            peak_rss_bytes: flushed[at].peak_rss_bytes,
            segment_bytes: sizes.segments,
            index_bytes: sizes.index,
            log_bytes: sizes.log,
            bytes_per_sample: (sizes.segments + sizes.index) as f64 / samples_per_server,
        });
    }
    sent.latencies.sort_unstable();
    let quantile = |q: f64| -> f64 {
        let at = ((sent.latencies.len() as f64 * q) as usize).min(sent.latencies.len().saturating_sub(1));
        sent.latencies.get(at).map_or(0.0, |micros| f64::from(*micros) / 1e3)
    };
    Ok(IngestReport {
        schema: 1,
        workload: options.name.clone(),
        shape,
        nodes: options.nodes,
        replicas,
        samples: sent.samples,
        seconds,
        samples_per_second: sent.samples as f64 / seconds,
        ack_p50_ms: quantile(0.5),
        ack_p99_ms: quantile(0.99),
        ack_max_ms: quantile(1.0),
        retries: sent.retries,
        wire_bytes_per_sample: wire_bytes as f64 / sent.samples as f64,
        client_cpu_seconds,
        flush_seconds,
        cpu_seconds_per_million: servers.iter().map(|s| s.cpu_seconds_per_million).sum(),
        servers,
    })
}

/// All requests, dealt to connections so that the requests of one group of hosts stay on one connection, in order.
fn encode(options: &IngestOptions, start_ms: i64) -> Vec<VecDeque<Request>> {
    let mut lanes: Vec<VecDeque<Request>> =
        (0..options.connections.max(1)).map(|_| VecDeque::new()).collect();
    let mut workload = Workload::new(options.shape, options.seed, start_ms);
    while let Some(requests) = workload.next_scrape() {
        for request in requests {
            let lane = request.group % lanes.len();
            lanes[lane].push_back(request);
        }
    }
    lanes
}

#[derive(Default)]
struct Sent {
    samples: u64,
    retries: u64,
    /// Microseconds of each acknowledgement.
    latencies: Vec<u32>,
}

fn send(cluster: &LocalCluster, lanes: Vec<VecDeque<Request>>) -> anyhow::Result<Sent> {
    let addrs: Vec<SocketAddr> = cluster.nodes.iter().map(|node| address(node.http)).collect();
    let mut all = Sent::default();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = lanes
            .into_iter()
            .enumerate()
            .map(|(at, lane)| {
                let addr = addrs[at % addrs.len()];
                scope.spawn(move || send_lane(addr, lane))
            })
            .collect();
        for lane in lanes {
            let Ok(sent) = lane.join() else { bail!("a sender panicked") };
            let sent = sent?;
            all.samples += sent.samples;
            all.retries += sent.retries;
            all.latencies.extend(sent.latencies);
        }
        Ok(())
    })?;
    Ok(all)
}

/// How often a request is sent again before the benchmark gives up.
const MAX_RETRIES: u32 = 200;

fn send_lane(addr: SocketAddr, lane: VecDeque<Request>) -> anyhow::Result<Sent> {
    let mut connection = Connection::new(addr, Duration::from_secs(60));
    let mut sent = Sent { latencies: Vec::with_capacity(lane.len()), ..Sent::default() };
    for request in lane {
        let started = Instant::now();
        let mut tries = 0;
        loop {
            let answer =
                connection.post_write(&request.body).with_context(|| format!("no answer from {addr}"))?;
            if answer.is_success() {
                break;
            }
            tries += 1;
            let retryable = matches!(answer.status, 429 | 500..=599);
            if !retryable || tries > MAX_RETRIES {
                bail!("{addr} answered {}: {}", answer.status, answer.text());
            }
            sent.retries += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        sent.samples += u64::from(request.samples);
        sent.latencies.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(sent)
}

fn usages(cluster: &LocalCluster) -> anyhow::Result<Vec<Usage>> {
    let pids = cluster.nodes.iter().map(|node| node.pid().context("a server has ended"));
    pids.map(|pid| Usage::of(pid?)).collect()
}

fn own_cpu_seconds() -> anyhow::Result<f64> {
    Ok(Usage::of(std::process::id())?.cpu_seconds)
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Bytes of a data directory by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    segments: u64,
    index: u64,
    log: u64,
}

impl Sizes {
    fn of(dir: &Path) -> anyhow::Result<Self> {
        let mut sizes = Self::default();
        let mut pending = vec![dir.to_owned()];
        while let Some(at) = pending.pop() {
            for entry in std::fs::read_dir(&at).with_context(|| format!("cannot list {}", at.display()))? {
                let entry = entry?;
                // Files come and go while a server works.
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    pending.push(entry.path());
                } else {
                    let relative = entry.path().strip_prefix(dir).map(Path::to_owned).unwrap_or_default();
                    *sizes.class(&relative) += meta.len();
                }
            }
        }
        Ok(sizes)
    }

    fn class(&mut self, path: &Path) -> &mut u64 {
        let text = path.to_string_lossy();
        if text.starts_with("wal") || text.starts_with("log") {
            &mut self.log
        } else if text.starts_with("shards") && text.ends_with(".seg") {
            &mut self.segments
        } else {
            &mut self.index
        }
    }
}

impl IngestReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let _ = writeln!(
            out,
            "workload {}: {} series x {} scrapes = {} samples, {} node(s), {} replica(s)",
            self.workload,
            self.shape.series(),
            self.shape.scrapes,
            self.samples,
            self.nodes,
            self.replicas
        );
        let _ = writeln!(out, "  samples/s            {:>12.0}", self.samples_per_second);
        let _ = writeln!(
            out,
            "  ack ms p50/p99/max   {:>12}",
            format!("{:.1} / {:.1} / {:.0}", self.ack_p50_ms, self.ack_p99_ms, self.ack_max_ms)
        );
        let _ = writeln!(out, "  CPU-s per M, servers {:>12.3}", self.cpu_seconds_per_million);
        let _ = writeln!(out, "  client CPU-s         {:>12.1}", self.client_cpu_seconds);
        let _ = writeln!(out, "  bytes/sample on wire {:>12.1}", self.wire_bytes_per_sample);
        let _ = writeln!(out, "  retries              {:>12}", self.retries);
        let _ = writeln!(out, "  flush seconds        {:>12.1}", self.flush_seconds);
        for (at, server) in self.servers.iter().enumerate() {
            let _ = writeln!(
                out,
                "  node {}: {:.3} CPU-s per M ({:.3} before flush), peak RSS {:.0} MiB, {:.3} B/sample \
                 (segments {:.1} MiB, index {:.1} MiB), log {:.1} MiB",
                at + 1,
                server.cpu_seconds_per_million,
                server.cpu_seconds_per_million_load,
                mib(server.peak_rss_bytes),
                server.bytes_per_sample,
                mib(server.segment_bytes),
                mib(server.index_bytes),
                mib(server.log_bytes)
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_group_share_a_connection_in_order() {
        let shape = Shape { hosts: 12, scrapes: 2, interval_ms: 15_000, hosts_per_request: 4 };
        let options = IngestOptions {
            binary: PathBuf::new(),
            dir: PathBuf::new(),
            nodes: 1,
            shards: 1,
            shape,
            name: "test".into(),
            connections: 2,
            seed: 1,
        };
        let lanes = encode(&options, 0);
        let groups: Vec<Vec<usize>> = lanes.iter().map(|l| l.iter().map(|r| r.group).collect()).collect();
        assert_eq!(groups, [vec![0, 2, 0, 2], vec![1, 1]]);
        assert_eq!(lanes.iter().flatten().map(|r| u64::from(r.samples)).sum::<u64>(), shape.samples());
    }

    #[test]
    fn files_are_counted_by_purpose() {
        let dir = tempfile::tempdir().unwrap();
        for (path, len) in [("wal/1", 10), ("shards/1/a.seg", 20), ("shards/1/manifest", 3), ("identity", 1)]
        {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![0; len]).unwrap();
        }
        assert_eq!(Sizes::of(dir.path()).unwrap(), Sizes { segments: 20, index: 4, log: 10 });
    }
}
