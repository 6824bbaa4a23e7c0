//! `pharos chaos attach`

use std::path::PathBuf;

use chaos::black_box::attach::{AttachOptions, Disturbance, attach};
use chaos::black_box::run::history_path;
use chaos::scenario::Span;
use clap::Args;

use super::{directory, failed, finish, keep, parse_slack, tell};
use crate::cli::{CliError, complain};

pub(super) const HELP: &str = "\
Example:
  pharos chaos attach --endpoints 10.0.0.1:9600,10.0.0.2:9600,10.0.0.3:9600 \\
      --only transfer,flush --yes-this-cluster 4f1c0d9e2b7a4c55

`pharos cluster status` shows the id of a cluster. Where an endpoint is a node of another one, nothing is done.
Clients write some hundred samples, records and spans a second for a new tenant (chaos-<time>), an hour back in time, and
read them. What they wrote stays until its retention is over.

  transfer  the leadership of a shard goes to another replica
  flush     all shards are flushed and merged
  move      a replica moves to a node that has none of its shard, and back
  pause     a process stands still for 2 s (SIGSTOP); needs --pids, on this machine

Exit codes: 0 passed; 1 an invariant is broken: something acknowledged is lost, doubled, wrong or not seen by a read;
2 all is right, but a goal was missed; 3 the run could not be judged, or the cluster is another one.";

/// Arguments of `pharos chaos attach`.
#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// HTTP addresses of the nodes, with commas between them
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    /// Id of the cluster that is meant
    #[arg(long, value_name = "ID")]
    yes_this_cluster: String,
    /// What is done to it, with commas between: transfer, flush, move, pause
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_value = "transfer,flush")]
    only: Vec<Disturbance>,
    /// Processes of the endpoints, in the same order: for pauses
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,
    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = super::time)]
    lasts: Span,
    /// What decides when and where
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Multiplies the goals of time
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = parse_slack)]
    slack: f64,
    /// Directory for the history; must be empty [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory for the reports and the history
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
}

impl AttachArgs {
    pub fn run(self) -> Result<(), CliError> {
        let (dir, guard) = directory(self.data_dir)?;
        let options = AttachOptions {
            endpoints: self.endpoints,
            cluster: self.yes_this_cluster,
            only: self.only.into_iter().collect(),
            pids: self.pids,
            lasts: self.lasts,
            seed: self.seed,
            slack: self.slack,
            dir: dir.clone(),
        };
        let (history, judgement) =
            attach(&options, &mut |step| complain(step)).map_err(|error| failed(&format!("{error:#}")))?;
        tell(&history, &judgement, self.report.as_deref(), self.json)?;
        if let Some(report) = &self.report {
            std::fs::copy(history_path(&dir), history_path(report)).map_err(|error| failed(&error))?;
        }
        keep(guard, &dir, judgement.verdict);
        finish(judgement.verdict)
    }
}
