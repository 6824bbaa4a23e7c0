//! The same load and the same questions for several stores, one after the other on the same machine.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::load::{encode, send, start_ms};
use super::queries::{Answer, Difference, Query};
use super::system::{System, SystemKind};
use crate::http::Connection;
use crate::process::require_empty;
use crate::workload::{Request, Shape};

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// This build's binary.
    pub binary: PathBuf,
    /// Where data directories are made, one a system; removed by whoever made it.
    pub dir: PathBuf,
    /// The stores, in order. Answers are compared with the first one's.
    pub systems: Vec<SystemKind>,
    /// Shards of Pharos.
    pub shards: u16,
    /// The load.
    pub shape: Shape,
    /// Name of the load.
    pub name: String,
    /// Client connections.
    pub connections: usize,
    /// Decides the values.
    pub seed: u64,
    /// The questions.
    pub queries: Vec<Query>,
    /// How often each is asked, unless ten seconds are over before.
    pub runs: usize,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct CompareReport {
    /// Version of this layout.
    pub schema: u32,
    /// Name of the load.
    pub workload: String,
    /// Its size.
    pub shape: Shape,
    /// Stores that were asked for and are not on this machine.
    pub absent: Vec<SystemKind>,
    /// Store by store.
    pub systems: Vec<SystemFigures>,
}

/// What one store did.
#[derive(Clone, Debug, Serialize)]
pub struct SystemFigures {
    /// Which.
    pub system: SystemKind,
    /// Its version.
    pub version: String,
    /// Acknowledged samples a second.
    pub samples_per_second: f64,
    /// Processor seconds of all its processes for a million samples, while they arrived.
    pub cpu_seconds_per_million: f64,
    /// Median and 99th percentile of an acknowledgement, milliseconds.
    pub ack_ms: [f64; 2],
    /// Largest resident size of its largest process, load and writing out.
    pub peak_rss_bytes: u64,
    /// Bytes on disk for each sample after everything was written out and merged, all copies together.
    pub bytes_per_sample: f64,
    /// Questions, in the order they were given.
    pub queries: Vec<QueryFigures>,
}

/// What one question took.
#[derive(Clone, Debug, Serialize)]
pub struct QueryFigures {
    /// Its name.
    pub name: String,
    /// Median in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// Largest relative difference of a value from the first store's; `None` where series or points differ.
    pub largest_difference: Option<f64>,
}

/// Runs the comparison. `progress` hears what is being done.
pub fn compare(options: &CompareOptions, progress: &mut dyn FnMut(&str)) -> anyhow::Result<CompareReport> {
    require_empty(&options.dir)?;
    let start = start_ms(options.shape);
    progress("encoding the load");
    let lanes = encode(options.shape, options.seed, start, options.connections);
    let (mut absent, mut systems) = (Vec::new(), Vec::new());
    let mut first: Option<Vec<Answer>> = None;
    for &kind in &options.systems {
        let Some(version) = kind.version() else {
            progress(&format!("{} is not on this machine", kind.name()));
            absent.push(kind);
            continue;
        };
        let (figures, answers) = one(options, kind, version, &lanes, start, first.as_deref(), progress)?;
        systems.push(figures);
        first.get_or_insert(answers);
    }
    Ok(CompareReport { schema: 1, workload: options.name.clone(), shape: options.shape, absent, systems })
}

fn one(
    options: &CompareOptions,
    kind: SystemKind,
    version: String,
    lanes: &[Vec<Request>],
    start_ms: i64,
    first: Option<&[Answer]>,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<(SystemFigures, Vec<Answer>)> {
    progress(&format!("{} {version}: writing", kind.name()));
    let dir = options.dir.join(kind.name());
    std::fs::create_dir_all(&dir)?;
    let system = System::start(kind, &options.binary, &dir, options.shards)?;
    let before = system.usage()?;
    let sent = send(&system.addrs, lanes, Connection::post_write)?;
    let loaded = system.usage()?;
    let bytes = system.settle()?;
    let peak_rss_bytes = system.usage()?.peak_rss_bytes;
    progress(&format!("{}: asking", kind.name()));
    let span = (start_ms, start_ms + options.shape.span_ms());
    let (mut queries, mut answers) = (Vec::new(), Vec::new());
    for (at, query) in options.queries.iter().enumerate() {
        let asked = query.ask(system.addrs[0], span, options.runs)?;
        let difference =
            first.map_or(Difference::None, |first: &[Answer]| first[at].difference(&asked.answer));
        queries.push(QueryFigures {
            name: query.name.clone(),
            p50_ms: asked.quantile_ms(0.5),
            p99_ms: asked.quantile_ms(0.99),
            largest_difference: match difference {
                Difference::None => Some(0.0),
                Difference::Values(largest) => Some(largest),
                Difference::Shape => None,
            },
        });
        answers.push(asked.answer);
    }
    let figures = SystemFigures {
        system: kind,
        version,
        samples_per_second: sent.samples as f64 / sent.seconds,
        cpu_seconds_per_million: (loaded.cpu_seconds - before.cpu_seconds) / (sent.samples as f64 / 1e6),
        ack_ms: [sent.quantile_ms(0.5), sent.quantile_ms(0.99)],
        peak_rss_bytes,
        bytes_per_sample: bytes as f64 / sent.samples as f64,
        queries,
    };
    Ok((figures, answers))
}

impl CompareReport {
    /// For people and for documents: tables of figures, in parentheses the ratio to the first store's.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "Workload {}: {} series x {} scrapes. In parentheses: times the first row or column.\n",
            self.workload,
            self.shape.series(),
            self.shape.scrapes
        );
        let Some(first) = self.systems.first() else { return out + "No store was there.\n" };
        out += "| store | samples/s | CPU-s per million | ack p50 / p99 ms | peak RSS MiB | bytes/sample |\n";
        out += "| --- | ---: | ---: | ---: | ---: | ---: |\n";
        for row in &self.systems {
            let _ = writeln!(
                out,
                "| {} {} | {:.0} ({:.2}) | {:.3} ({:.2}) | {:.1} / {:.1} | {:.0} ({:.2}) | {:.3} ({:.2}) |",
                row.system.name(),
                row.version,
                row.samples_per_second,
                row.samples_per_second / first.samples_per_second,
                row.cpu_seconds_per_million,
                row.cpu_seconds_per_million / first.cpu_seconds_per_million,
                row.ack_ms[0],
                row.ack_ms[1],
                row.peak_rss_bytes as f64 / f64::from(1 << 20),
                row.peak_rss_bytes as f64 / first.peak_rss_bytes as f64,
                row.bytes_per_sample,
                row.bytes_per_sample / first.bytes_per_sample,
            );
        }
        out += "\n| query, p50 / p99 ms |";
        for row in &self.systems {
            let _ = write!(out, " {} |", row.system.name());
        }
        out += "\n| --- |";
        out += &" ---: |".repeat(self.systems.len());
        out.push('\n');
        for (at, query) in first.queries.iter().enumerate() {
            let _ = write!(out, "| {} |", query.name);
            for row in &self.systems {
                let q = &row.queries[at];
                let _ = write!(
                    out,
                    " {:.1} / {:.1} ({:.2}){} |",
                    q.p50_ms,
                    q.p99_ms,
                    q.p50_ms / query.p50_ms,
                    q.remark()
                );
            }
            out.push('\n');
        }
        out += "\n`≠`: the answer has other series or points than the first store's; a percentage: the largest difference of \
                a value from it.\n";
        for kind in &self.absent {
            let _ = writeln!(out, "\nNot on this machine: {}.", kind.name());
        }
        out
    }
}

impl QueryFigures {
    fn remark(&self) -> String {
        match self.largest_difference {
            Some(0.0) => String::new(),
            Some(largest) => format!(" {:.1}%", largest * 100.0),
            None => " ≠".to_owned(),
        }
    }
}
