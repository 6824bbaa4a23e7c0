//! `pharos chaos`: the command line of the simulator and the scenarios.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use chaos::process::ClusterOptions;
use chaos::scenario::{LeaderKillOptions, SCENARIOS, leader_kill, markdown, write_report};
use chaos::sim::corpus;
use chaos::sim::run::{SimOptions, run_list};
use clap::{Args, Subcommand};

use super::{CliError, complain, say};
use crate::config::units::Span;

/// Exit code of a run that could not be judged.
const UNDECIDED: u8 = 3;

/// Arguments of `pharos chaos`.
#[derive(Debug, Args)]
pub(super) struct ChaosArgs {
    #[command(subcommand)]
    what: Chaos,
}

#[derive(Debug, Subcommand)]
enum Chaos {
    /// Lists the scenarios.
    List,
    /// Runs a scenario against real processes on this machine.
    #[command(
        after_help = "Exit codes: 0 passed, 1 an acknowledged sample is missing or one was invented, 2 the goal was \
                            missed, 3 the run could not be judged."
    )]
    Run {
        /// Name of the scenario
        scenario: String,
        /// Nodes of the cluster
        #[arg(long, default_value_t = 3)]
        nodes: usize,
        /// Shards of the cluster
        #[arg(long, default_value_t = 16)]
        shards: u16,
        /// How often the leader is killed
        #[arg(long, default_value_t = 20)]
        kills: usize,
        /// Longest time without service that 99 of 100 kills may cost
        #[arg(long, default_value = "1500ms", value_name = "TIME")]
        goal: Span,
        /// Directory for data and logs; must be empty [default: a temporary one]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Directory for the report
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
        /// Prints the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Runs whole clusters in this process, in virtual time, each under one seed that decides every fault and choice.
    #[command(
        after_help = "Examples:\n  pharos chaos sim --seeds 1..100\n  pharos chaos sim --seed 7 --trace\n\n\
                            Exit codes: 0 passed, 1 an invariant is broken: the report names the command that shows it \
                            again."
    )]
    Sim {
        /// First and last seed [default: 1..20]
        #[arg(long, value_name = "A..B", value_parser = corpus::parse_range, conflicts_with = "seed")]
        seeds: Option<RangeInclusive<u64>>,
        /// One seed
        #[arg(long)]
        seed: Option<u64>,
        /// Runs every seed that ever failed, besides
        #[arg(long)]
        corpus: bool,
        /// Tells on standard error what happens, with virtual times
        #[arg(long)]
        trace: bool,
        /// Prints the report as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> CliError {
    complain(&format!("pharos: {error}"));
    CliError::Code(UNDECIDED)
}

/// A directory that was asked for, or one that goes away with the guard.
pub(super) fn directory(asked: Option<PathBuf>) -> Result<(PathBuf, Option<tempfile::TempDir>), CliError> {
    match asked {
        Some(dir) => {
            std::fs::create_dir_all(&dir).map_err(|error| failed(&format!("{}: {error}", dir.display())))?;
            Ok((dir, None))
        }
        None => {
            let dir = tempfile::tempdir().map_err(|error| failed(&error))?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}

pub(super) fn own_binary() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| failed(&error))
}

impl ChaosArgs {
    pub fn run(self) -> Result<(), CliError> {
        match self.what {
            Chaos::List => {
                for scenario in SCENARIOS {
                    say(&format!("{:<14}{}", scenario.name, scenario.summary));
                }
                Ok(())
            }
            Chaos::Run { scenario, nodes, shards, kills, goal, data_dir, report, json } => {
                if scenario != "leader-kill" {
                    let names: Vec<&str> = SCENARIOS.iter().map(|s| s.name).collect();
                    return Err(failed(&format!(
                        "there is no scenario {scenario:?}; there is {}",
                        names.join(", ")
                    )));
                }
                let (dir, _guard) = directory(data_dir)?;
                let cluster =
                    ClusterOptions { binary: own_binary()?, dir, nodes, shards, arguments: Vec::new() };
                let options = LeaderKillOptions { cluster, kills, goal_p99: goal.0 };
                let found = leader_kill(&options, &mut |step| complain(step))
                    .map_err(|e| failed(&format!("{e:#}")))?;
                if let Some(dir) = report {
                    std::fs::create_dir_all(&dir).map_err(|error| failed(&error))?;
                    write_report(&found, &dir).map_err(|e| failed(&format!("{e:#}")))?;
                }
                say(&if json {
                    serde_json::to_string(&found).map_err(|e| failed(&e))?
                } else {
                    markdown(&found)
                });
                match found.verdict.exit_code() {
                    0 => Ok(()),
                    code => Err(CliError::Code(code)),
                }
            }
            Chaos::Sim { seeds, seed, corpus, trace, json } => {
                let mut list: Vec<u64> = if corpus { corpus::seeds() } else { Vec::new() };
                list.extend(seed);
                list.extend(seeds.into_iter().flatten());
                if list.is_empty() {
                    list = (1..=20).collect();
                }
                let options = SimOptions { trace };
                let report = run_list(&list, &options, &|seed| {
                    let verdict = if seed.passed() { "passed" } else { "FAILED" };
                    complain(&format!("seed {}: {verdict}, trace hash {:016x}", seed.seed, seed.trace_hash));
                });
                say(&if json {
                    serde_json::to_string(&report).map_err(|e| failed(&e))?
                } else {
                    report.to_text()
                });
                if report.passed() { Ok(()) } else { Err(CliError::Code(1)) }
            }
        }
    }
}
