//! `pharos bench`: the command line of the benchmarks.

use std::path::PathBuf;
use std::time::Duration;

use chaos::bench::{
    CompareOptions, DashboardOptions, IngestOptions, LogOptions, QUERIES, RestartOptions, SqlOptions,
    SystemKind, TraceOptions, compare, dashboards, ingest, logs, parse_queries, restart, sql, traces,
};
use chaos::workload::Shape;
use clap::{Args, Subcommand, ValueEnum};

use super::chaos::{directory, failed, own_binary};
use super::{CliError, complain, say};
use crate::config::units::ByteSize;

/// Arguments of `pharos bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: Bench,
}

/// A load by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Load {
    /// 100,000 series, 240 scrapes
    A,
    /// 1,000,000 series, 10 scrapes
    B,
}

/// What all benchmarks take.
#[derive(Debug, Args)]
struct Run {
    /// Shards of the cluster
    #[arg(long, default_value_t = 16)]
    shards: u16,
    /// Seed of what is written
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory for data; must be empty [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
}

/// What benchmarks of the same loads take.
#[derive(Debug, Args)]
struct Common {
    /// The load
    #[arg(long, value_enum, default_value_t = Load::A, ignore_case = true)]
    workload: Load,
    /// Hosts of 500 series each, where there should be fewer or more than the load has
    #[arg(long, value_name = "N")]
    hosts: Option<usize>,
    /// Scrapes, where there should be fewer or more than the load has
    #[arg(long, value_name = "N")]
    scrapes: Option<usize>,
    /// Samples of a request: of as many whole hosts as that comes to, or of a part of one host
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples_per_request: u32,
    /// Client connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    #[command(flatten)]
    run: Run,
}

impl Common {
    fn load(&self) -> (String, Shape) {
        let (name, shape) = match self.workload {
            Load::A => ("A", Shape::A),
            Load::B => ("B", Shape::B),
        };
        let hosts = self.hosts.unwrap_or(shape.hosts);
        let scrapes = self.scrapes.unwrap_or(shape.scrapes);
        let samples_per_request = self.samples_per_request as usize;
        (name.to_owned(), Shape { hosts, scrapes, samples_per_request, ..shape })
    }
}

/// A store by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Store {
    /// One node of this build
    Pharos,
    /// Three nodes of this build, three copies of everything
    PharosCluster,
    /// The `victoria-metrics` that is installed
    VictoriaMetrics,
    /// The `prometheus` that is installed
    Prometheus,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Writes a pre-encoded load by remote write as fast as it is acknowledged.
    Ingest {
        /// Nodes of the cluster; three and more replicate three times
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Writes application logs by OTLP as fast as they are acknowledged, then asks eleven questions about them.
    #[command(
        after_help = "Go builds VictoriaLogs: go install github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@latest"
    )]
    Logs {
        /// Gives the same lines and questions to the `victoria-logs` that is installed, afterwards, and prints ratios
        #[arg(long)]
        victoria_logs: bool,
        /// Nodes of the cluster; three and more replicate three times
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// Lines, spread over an hour
        #[arg(long, value_name = "N", default_value_t = 3_000_000)]
        lines: usize,
        /// Client connections
        #[arg(long, default_value_t = 4)]
        connections: usize,
        /// How often each question is asked, unless ten seconds are over before
        #[arg(long, default_value_t = 20)]
        runs: usize,
        #[command(flatten)]
        run: Run,
    },
    /// Writes traces by OTLP as fast as they are acknowledged, then looks one up and searches.
    Traces {
        /// Nodes of the cluster; three and more replicate three times
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// Traces of 8 to 20 spans, spread over an hour
        #[arg(long, value_name = "N", default_value_t = 150_000)]
        traces: usize,
        /// Client connections
        #[arg(long, default_value_t = 4)]
        connections: usize,
        /// How often each question is asked, unless ten seconds are over before
        #[arg(long, default_value_t = 20)]
        runs: usize,
        #[command(flatten)]
        run: Run,
    },
    /// Asks a dashboard's queries from many clients while samples arrive, and a huge one that has to be refused.
    Query {
        /// Nodes of the cluster; three and more replicate three times
        #[arg(long, default_value_t = 3)]
        nodes: usize,
        /// Clients that ask at the same time
        #[arg(long, default_value_t = 50)]
        clients: usize,
        /// Samples that arrive each second, one of each series
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        rate: usize,
        /// Seconds of history that are there at the start
        #[arg(long, value_name = "S", default_value_t = 300)]
        history: usize,
        /// Seconds of the run
        #[arg(long, value_name = "S", default_value_t = 60)]
        seconds: usize,
        /// Milliseconds that a client waits between an answer and its next question
        #[arg(long, value_name = "MS", default_value_t = 1000)]
        think: u64,
        #[command(flatten)]
        run: Run,
    },
    /// Writes a load, then asks aggregates, first rows and a scan of everything in SQL, in PromQL, and of DuckDB.
    #[command(after_help = "DuckDB is asked over Parquet files of the same samples, where Python has it: \
                            pip install duckdb pyarrow")]
    Sql {
        /// How often each question is asked, unless ten seconds are over before
        #[arg(long, default_value_t = 20)]
        runs: usize,
        /// The Python that has DuckDB
        #[arg(long, value_name = "FILE", default_value = "python3")]
        python: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Fills a node with samples that do not compress, kills and starts it, and has a disk replaced.
    Restart {
        /// Nodes in the end; with more than one, the last of them loses its disk
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// Segments of the first node before it is killed
        #[arg(long, value_name = "BYTES", default_value = "10GiB")]
        data: ByteSize,
        /// How often it is killed and started
        #[arg(long, default_value_t = 5)]
        restarts: usize,
        /// Client connections
        #[arg(long, default_value_t = 4)]
        connections: usize,
        #[command(flatten)]
        run: Run,
    },
    /// Gives several stores the same load and the same queries, one after the other, and prints tables of ratios.
    #[command(after_help = "A store that is not installed is skipped with a word. Debian has both: \
                            apt-get install prometheus victoria-metrics")]
    Compare {
        /// The stores; answers are compared with the first one's
        #[arg(
            long,
            value_enum,
            value_delimiter = ',',
            default_value = "pharos,pharos-cluster,victoria-metrics,prometheus"
        )]
        stores: Vec<Store>,
        /// File of queries: name, kind (range:SECONDS:STEP, instant, get) and query, separated by tabs [default: its own]
        #[arg(long, value_name = "FILE")]
        queries: Option<PathBuf>,
        /// How often each query is asked, unless ten seconds are over before
        #[arg(long, default_value_t = 20)]
        runs: usize,
        #[command(flatten)]
        common: Common,
    },
}

impl BenchArgs {
    pub fn run(self) -> Result<(), CliError> {
        match self.what {
            Bench::Ingest { nodes, common } => {
                let (name, shape) = common.load();
                let (dir, _guard) = directory(common.run.data_dir)?;
                let options = IngestOptions {
                    binary: own_binary()?,
                    dir,
                    nodes,
                    shards: common.run.shards,
                    shape,
                    name,
                    connections: common.connections,
                    seed: common.run.seed,
                };
                let report = ingest(&options).map_err(|e| failed(&format!("{e:#}")))?;
                print(common.run.json, &report, || report.to_text())
            }
            Bench::Logs { victoria_logs, nodes, lines, connections, runs, run } => {
                let Run { shards, seed, data_dir, json } = run;
                let (dir, _guard) = directory(data_dir)?;
                let binary = own_binary()?;
                let options =
                    LogOptions { binary, dir, nodes, shards, lines, connections, seed, runs, victoria_logs };
                let report =
                    logs(&options, &mut |step| complain(step)).map_err(|e| failed(&format!("{e:#}")))?;
                print(json, &report, || report.to_text())
            }
            Bench::Traces { nodes, traces: count, connections, runs, run } => {
                let Run { shards, seed, data_dir, json } = run;
                let (dir, _guard) = directory(data_dir)?;
                let binary = own_binary()?;
                let options =
                    TraceOptions { binary, dir, nodes, shards, traces: count, connections, seed, runs };
                let report = traces(&options).map_err(|e| failed(&format!("{e:#}")))?;
                print(json, &report, || report.to_text())
            }
            Bench::Query { nodes, clients, rate, history, seconds, think, run } => {
                let Run { shards, seed, data_dir, json } = run;
                let (dir, _guard) = directory(data_dir)?;
                let options = DashboardOptions {
                    binary: own_binary()?,
                    dir,
                    nodes,
                    shards,
                    clients,
                    samples_per_second: rate,
                    history_seconds: history,
                    seconds,
                    think: Duration::from_millis(think),
                    seed,
                };
                let report = dashboards(&options).map_err(|e| failed(&format!("{e:#}")))?;
                print(json, &report, || report.to_text())?;
                // An error, a huge query that was let in, or a writer that fell behind: the figure is none.
                if report.passed() { Ok(()) } else { Err(CliError::Code(1)) }
            }
            Bench::Sql { runs, python, common } => {
                let (name, shape) = common.load();
                let (dir, _guard) = directory(common.run.data_dir)?;
                let options = SqlOptions {
                    binary: own_binary()?,
                    dir,
                    shards: common.run.shards,
                    shape,
                    name,
                    connections: common.connections,
                    seed: common.run.seed,
                    runs,
                    python,
                };
                let report =
                    sql(&options, &mut |step| complain(step)).map_err(|e| failed(&format!("{e:#}")))?;
                print(common.run.json, &report, || report.to_text())
            }
            Bench::Restart { nodes, data, restarts, connections, run } => {
                let Run { shards, seed, data_dir, json } = run;
                let (dir, _guard) = directory(data_dir)?;
                let binary = own_binary()?;
                let options =
                    RestartOptions { binary, dir, nodes, shards, bytes: data.0, restarts, connections, seed };
                let report =
                    restart(&options, &mut |step| complain(step)).map_err(|e| failed(&format!("{e:#}")))?;
                print(json, &report, || report.to_text())
            }
            Bench::Compare { stores, queries, runs, common } => {
                let text = match queries {
                    Some(file) => std::fs::read_to_string(&file)
                        .map_err(|e| failed(&format!("{}: {e}", file.display())))?,
                    None => QUERIES.to_owned(),
                };
                let (name, shape) = common.load();
                let (dir, _guard) = directory(common.run.data_dir)?;
                let systems = stores.into_iter().map(|store| match store {
                    Store::Pharos => SystemKind::Pharos,
                    Store::PharosCluster => SystemKind::PharosCluster,
                    Store::VictoriaMetrics => SystemKind::VictoriaMetrics,
                    Store::Prometheus => SystemKind::Prometheus,
                });
                let options = CompareOptions {
                    binary: own_binary()?,
                    dir,
                    systems: systems.collect(),
                    shards: common.run.shards,
                    shape,
                    name,
                    connections: common.connections,
                    seed: common.run.seed,
                    queries: parse_queries(&text).map_err(|e| failed(&format!("{e:#}")))?,
                    runs,
                };
                let report =
                    compare(&options, &mut |step| complain(step)).map_err(|e| failed(&format!("{e:#}")))?;
                print(common.run.json, &report, || report.to_markdown())
            }
        }
    }
}

fn print(json: bool, report: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<(), CliError> {
    say(&if json { serde_json::to_string(report).map_err(|e| failed(&e))? } else { text() });
    Ok(())
}
