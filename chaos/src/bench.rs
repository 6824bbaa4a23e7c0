//! `pharos bench`: what a build does with a known load, end to end, through real processes and sockets.
//!
//! [`ingest`] starts its own servers on loopback, sends a deterministic workload over keep-alive connections as fast as
//! it is acknowledged, flushes, and reads the servers' processor time and resident size from /proc and their files from
//! disk. Requests are encoded before the clock starts, so the generator costs little more than copying bytes to sockets;
//! what it costs is in the report.
//!
//! [`compare`] does the same to other stores, one after the other, and asks all of them the same questions.
//!
//! [`logs`] sends application logs and asks the questions that people ask of them, of VictoriaLogs too where that is wanted;
//! [`traces`] does so with spans.
//!
//! [`sql`] asks aggregates and a scan of everything, beside PromQL and DuckDB.
//!
//! [`restart`] kills a node with much data, and takes the disk of one.
//!
//! [`dashboards`] asks a dashboard's queries from many clients while samples arrive.
//!
//! Every acknowledgement of Pharos counts as durable on a quorum, because that is what a 2xx means; nothing is sampled or
//! assumed.

mod compare;
mod dashboards;
mod ingest;
mod load;
mod logs;
mod queries;
mod restart;
mod rows;
mod sql;
mod system;
mod traces;
mod victoria_logs;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

pub use compare::{CompareOptions, CompareReport, compare};
pub use dashboards::{DashboardOptions, DashboardReport, dashboards};
pub use ingest::{IngestOptions, IngestReport, ServerFigures, ingest};
pub use logs::{LogFigures, LogOptions, LogReport, logs};
pub use queries::{Query, parse as parse_queries};
pub use restart::{CopyFigures, RestartOptions, RestartReport, restart};
pub use rows::{QuestionFigures, RowFigures};
pub use sql::{SqlOptions, SqlReport, sql};
pub use system::SystemKind;
pub use traces::{TraceOptions, TraceReport, traces};

use crate::http::Connection;
use crate::process::{ClusterOptions, LocalCluster, Usage, require_empty};

/// Queries over the workload's metrics, for those who bring none.
pub const QUERIES: &str = include_str!("../queries/dashboard.txt");

/// Starts the servers of a benchmark, in a directory that has to be empty.
fn start(binary: &Path, dir: &Path, nodes: usize, shards: u16) -> anyhow::Result<LocalCluster> {
    start_with(binary, dir, nodes, shards, &[])
}

/// The same with further arguments for every server.
fn start_with(
    binary: &Path,
    dir: &Path,
    nodes: usize,
    shards: u16,
    arguments: &[&str],
) -> anyhow::Result<LocalCluster> {
    require_empty(dir)?;
    let (binary, dir) = (binary.to_owned(), dir.to_owned());
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    LocalCluster::start(ClusterOptions { binary, dir, nodes, shards, arguments })
        .context("cannot start the servers")
}

/// Flushes and merges a Pharos cluster; the seconds that it took.
fn flush(addr: SocketAddr) -> anyhow::Result<f64> {
    let started = Instant::now();
    let answer = Connection::new(addr, Duration::from_secs(600)).post_empty("/api/v1/admin/flush")?;
    anyhow::ensure!(answer.is_success(), "flush answered {}: {}", answer.status, answer.text());
    Ok(started.elapsed().as_secs_f64())
}

fn usages(cluster: &LocalCluster) -> anyhow::Result<Vec<Usage>> {
    let pids = cluster.nodes.iter().map(|node| node.pid().context("a server has ended"));
    pids.map(|pid| Usage::of(pid?)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

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
