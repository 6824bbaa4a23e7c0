//! Ingest alone: one load into one cluster, node by node.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::load::{encode, own_cpu_seconds, send, start_ms};
use super::{Sizes, address, flush, start, usages};
use crate::http::Connection;
use crate::workload::Shape;

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
    /// Bytes that it caused to be written to disk, log and merges included, for each sample it holds.
    pub written_bytes_per_sample: f64,
    /// Bytes of segments that merges wrote, by those that flushes wrote.
    pub merged_by_flushed: f64,
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
    /// Times that a request was answered 429 or 5xx and sent again.
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
    let lanes = encode(shape, options.seed, start_ms(shape), options.connections);
    let wire_bytes: u64 = lanes.iter().flatten().map(|r| r.body.len() as u64).sum();
    let cluster = start(&options.binary, &options.dir, options.nodes, options.shards)?;
    let addrs: Vec<_> = cluster.nodes.iter().map(|node| address(node.http)).collect();
    let before = usages(&cluster)?;
    let client_before = own_cpu_seconds()?;
    let sent = send(&addrs, &lanes, Connection::post_write)?;
    let client_cpu_seconds = own_cpu_seconds()? - client_before;
    let loaded = usages(&cluster)?;
    let flush_seconds = flush(addrs[0])?;
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
            written_bytes_per_sample: (flushed[at].written_bytes - before[at].written_bytes) as f64
                / samples_per_server,
            merged_by_flushed: merged_by_flushed(&node.status()?),
        });
    }
    Ok(IngestReport {
        schema: 1,
        workload: options.name.clone(),
        shape,
        nodes: options.nodes,
        replicas,
        samples: sent.samples,
        seconds: sent.seconds,
        samples_per_second: sent.samples as f64 / sent.seconds,
        ack_p50_ms: sent.quantile_ms(0.5),
        ack_p99_ms: sent.quantile_ms(0.99),
        ack_max_ms: sent.quantile_ms(1.0),
        retries: sent.retries,
        wire_bytes_per_sample: wire_bytes as f64 / sent.samples as f64,
        client_cpu_seconds,
        flush_seconds,
        cpu_seconds_per_million: servers.iter().map(|s| s.cpu_seconds_per_million).sum(),
        servers,
    })
}

/// Write amplification of the merges of a node, from the cluster's status as the node itself sees it.
fn merged_by_flushed(status: &Value) -> f64 {
    let shards = status["shards"].as_array().into_iter().flatten();
    let replicas = shards.flat_map(|shard| shard["replicas"].as_array().into_iter().flatten());
    let own: Vec<&Value> = replicas.filter(|replica| replica["node"] == status["node"]).collect();
    let sum = |key: &str| own.iter().filter_map(|replica| replica["data"][key].as_f64()).sum::<f64>();
    sum("merged_bytes") / sum("flushed_bytes")
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
                 (segments {:.1} MiB, index {:.1} MiB), log {:.1} MiB; written {:.1} B/sample, by merges {:.2} of flushes",
                at + 1,
                server.cpu_seconds_per_million,
                server.cpu_seconds_per_million_load,
                mib(server.peak_rss_bytes),
                server.bytes_per_sample,
                mib(server.segment_bytes),
                mib(server.index_bytes),
                mib(server.log_bytes),
                server.written_bytes_per_sample,
                server.merged_by_flushed
            );
        }
        out
    }
}
