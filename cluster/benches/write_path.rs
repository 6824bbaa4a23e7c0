//! The write path of one node up to the log, step by step: `cargo bench -p cluster --bench write_path`.
//!
//! Workload: 100,000 series of ten labels, one sample a series, 2,000 samples a request, sent in the same order every
//! time. Printed are nanoseconds of one thread per sample. The shards take what they get; what a log and `apply` cost is
//! not in here.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::router::shard_writer::{Proposed, ShardWriter, WriteError};
use cluster::router::{Router, RouterConfig};
use cluster::shard_map::ShardMap;
use protocol::batch::{SubBatchOutcome, SubBatchView};
use protocol::ids::{ClusterSecret, LogIndex, Ordinal, ShardId, TenantId};
use protocol::logs::batch::{LogBatch, LogBatchOutcome};
use protocol::remote_write::{Limits, Version, decode, decompress};
use protocol::varint::{write_prefixed, write_u64};

const HOSTS: usize = 200;
const SERIES_PER_HOST: usize = 500;
const HOSTS_PER_REQUEST: usize = 4;
const ROUNDS: usize = 20;
const START: i64 = 1_700_000_000_000;

/// Shards that give each new series the next ordinal.
struct Sink {
    map: Arc<ShardMap>,
    next: Vec<AtomicU64>,
    bytes: AtomicU64,
}

impl ShardWriter for Sink {
    type Runtime = openraft::impls::TokioRuntime;

    async fn propose(&self, shard: ShardId, sub_batch: Bytes, _: Duration) -> Result<Proposed, WriteError> {
        self.bytes.fetch_add(sub_batch.len() as u64, Ordering::Relaxed);
        let view = SubBatchView::parse(&sub_batch).expect("the router writes valid batches");
        let new = view.new_series_len() as u64;
        let first = self.next[usize::from(shard.0)].fetch_add(new, Ordering::Relaxed);
        let outcome = SubBatchOutcome::Applied {
            generation: 1,
            new_ordinals: (first..first + new).map(|ordinal| Some(Ordinal(ordinal as u32))).collect(),
            series_limit: 0,
            samples: view.floats().rows().len() as u64,
            histograms: 0,
            exemplars: 0,
        };
        Ok(Proposed { index: LogIndex(1), outcome })
    }

    async fn propose_logs(
        &self,
        _: ShardId,
        sub_batch: Bytes,
        _: Duration,
    ) -> Result<(LogIndex, LogBatchOutcome), WriteError> {
        self.bytes.fetch_add(sub_batch.len() as u64, Ordering::Relaxed);
        let batch = LogBatch::decode(&sub_batch).expect("the router writes valid batches");
        Ok((LogIndex(1), LogBatchOutcome::Applied { records: batch.rows.len() as u64 }))
    }

    fn nonce(&self) -> u64 {
        1
    }

    fn shard_map(&self) -> Arc<ShardMap> {
        Arc::clone(&self.map)
    }

    fn cluster_time_ms(&self) -> Option<i64> {
        Some(START)
    }

    fn secret(&self) -> ClusterSecret {
        ClusterSecret([7; 32])
    }
}

/// Series of a request as remote write 1.0 has them.
fn series_v1(host: usize, number: usize, timestamp: i64, value: f64) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, text) in labels(host, number) {
        let mut label = vec![0x0a];
        write_prefixed(&mut label, name.as_bytes());
        label.push(0x12);
        write_prefixed(&mut label, text.as_bytes());
        series.push(0x0a);
        write_prefixed(&mut series, &label);
    }
    series.push(0x12);
    write_prefixed(&mut series, &sample(timestamp, value));
    series
}

fn sample(timestamp: i64, value: f64) -> Vec<u8> {
    let mut sample = vec![0x09];
    sample.extend_from_slice(&value.to_le_bytes());
    sample.push(0x10);
    write_u64(&mut sample, timestamp as u64);
    sample
}

fn labels(host: usize, number: usize) -> [(&'static str, String); 10] {
    [
        ("__name__", format!("node_metric_{}_total", number / 20)),
        ("cluster", "production-eu-west".to_owned()),
        ("cpu", format!("{}", number % 20)),
        ("datacenter", format!("dc-{}", host % 3)),
        ("device", format!("nvme{}n1", number % 4)),
        ("instance", format!("host-{host:04}.example.internal:9100")),
        ("job", "node-exporter".to_owned()),
        ("mode", ["user", "system", "idle", "iowait"][number % 4].to_owned()),
        ("rack", format!("rack-{:02}", host % 40)),
        ("team", "infrastructure".to_owned()),
    ]
}

/// The bodies of one scrape of all hosts, not compressed.
fn scrape(version: Version, round: usize) -> Vec<Vec<u8>> {
    let timestamp = START + round as i64;
    let groups = (0..HOSTS).step_by(HOSTS_PER_REQUEST);
    let bodies = groups.map(|first| {
        let (mut symbols, mut body) = (vec![String::new()], Vec::new());
        for host in first..first + HOSTS_PER_REQUEST {
            for number in 0..SERIES_PER_HOST {
                let value = (round * number) as f64;
                match version {
                    Version::V1 => {
                        body.push(0x0a);
                        write_prefixed(&mut body, &series_v1(host, number, timestamp, value));
                    }
                    Version::V2 => {
                        let mut refs = Vec::new();
                        for (name, text) in labels(host, number) {
                            write_u64(&mut refs, intern(&mut symbols, name));
                            write_u64(&mut refs, intern(&mut symbols, &text));
                        }
                        let mut series = vec![0x0a];
                        write_prefixed(&mut series, &refs);
                        series.push(0x12);
                        write_prefixed(&mut series, &sample(timestamp, value));
                        body.push(0x2a);
                        write_prefixed(&mut body, &series);
                    }
                }
            }
        }
        let mut out = Vec::new();
        if version == Version::V2 {
            for symbol in &symbols {
                out.push(0x22);
                write_prefixed(&mut out, symbol.as_bytes());
            }
        }
        out.extend_from_slice(&body);
        out
    });
    bodies.collect()
}

fn intern(symbols: &mut Vec<String>, text: &str) -> u64 {
    let found = symbols.iter().rposition(|symbol| symbol == text);
    found.unwrap_or_else(|| {
        symbols.push(text.to_owned());
        symbols.len() - 1
    }) as u64
}

/// Nothing in here waits: the sink answers at once.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the sink answers at once"),
    }
}

fn run(version: Version) {
    let map = Arc::new(ShardMap::even(16).expect("16 is allowed"));
    let next = (0..=16).map(|_| AtomicU64::new(0)).collect();
    let sink = Arc::new(Sink { map, next, bytes: AtomicU64::new(0) });
    let router = Router::new(Arc::clone(&sink), RouterConfig::default());
    let (tenant, limits) = (TenantId::default(), Limits::default());
    let mut first = Times::default();
    let mut steady = Times::default();
    for round in 0..=ROUNDS {
        let compressed: Vec<Vec<u8>> = scrape(version, round)
            .iter()
            .map(|body| snap::raw::Encoder::new().compress_vec(body).expect("short bodies"))
            .collect();
        let times = if round == 0 { &mut first } else { &mut steady };
        sink.bytes.store(0, Ordering::Relaxed);
        for request in &compressed {
            let body = times.step(0, || decompress(request, &limits).expect("own body"));
            let batch =
                times.step(1, || decode(version, body, router.fingerprint_key(), &limits).expect("own body"));
            let prepared = times.step(2, || router.prepare(&tenant, batch).expect("valid series"));
            times.step(3, || black_box(block_on(router.deliver(prepared)).expect("the sink takes all")));
        }
    }
    let bytes = sink.bytes.load(Ordering::Relaxed) as f64 / (HOSTS * SERIES_PER_HOST) as f64;
    first.print(&format!("{version:?} first contact"));
    steady.print(&format!("{version:?} steady, {bytes:.1} bytes a sample in the log"));
}

/// Times of each step of each request. Medians are printed: on a machine that does other work too, they say more than
/// sums.
#[derive(Default)]
struct Times([Vec<u128>; 4]);

impl Times {
    fn step<T>(&mut self, step: usize, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0[step].push(start.elapsed().as_nanos());
        result
    }

    fn print(mut self, what: &str) {
        let samples = (HOSTS_PER_REQUEST * SERIES_PER_HOST) as f64;
        let [unpack, walk, split, deliver] = self.0.each_mut().map(|times| {
            times.sort_unstable();
            times[times.len() / 2] as f64 / samples
        });
        println!(
            "{what}: snappy {unpack:.1}, walk and hash {walk:.1}, look up and split {split:.1}, deliver, parse and learn \
             {deliver:.1} ns a sample"
        );
    }
}

fn main() {
    run(Version::V1);
    run(Version::V2);
}
