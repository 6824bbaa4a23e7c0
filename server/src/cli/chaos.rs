//! `pharos chaos`: the command line of the simulator and the scenarios.

mod attach;
mod sim;

use std::path::{Path, PathBuf};

use chaos::black_box::check::{Judgement, Verdict, judge};
use chaos::black_box::history::History;
use chaos::black_box::report::Report;
use chaos::black_box::run::{RunOptions, history_path, run};
use chaos::scenario::{QUICK, Scenario, Span};
use clap::{Args, Subcommand, ValueEnum};

use super::{CliError, complain, say};

/// Exit code of a run that could not be judged.
const UNDECIDED: u8 = 3;

const CODES: &str = "\
Exit codes: 0 passed; 1 an invariant is broken: something acknowledged is lost, doubled, wrong or not seen by a read;
2 all is right, but a goal was missed; 3 the run could not be judged.";

const RUN_HELP: &str = "\
Needs no root: links between the nodes go through proxies of this process, nodes are killed and stopped by signals.
The same seed means the same faults at the same times and the same writes.

Exit codes: 0 passed; 1 an invariant is broken: something acknowledged is lost, doubled, wrong or not seen by a read;
2 all is right, but a goal was missed; 3 the run could not be judged. After 1 and 3 data and logs are kept.";

/// Arguments of `pharos chaos`.
#[derive(Debug, Args)]
pub(super) struct ChaosArgs {
    #[command(subcommand)]
    what: Chaos,
}

/// Scenarios by a name for all of them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Suite {
    /// Six, in less than four minutes
    Quick,
    /// All
    Full,
}

/// What runs take.
#[derive(Debug, Args)]
struct Common {
    /// What decides all that a scenario leaves open
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Multiplies the goals of time, for machines slower than those that the goals are for
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = parse_slack)]
    slack: f64,
    /// The pharos binary that the nodes run [default: this one]
    #[arg(long, value_name = "FILE")]
    bin: Option<PathBuf>,
    /// The pharos binary that the nodes of an upgrade run before [default: the same, as a build that knows an epoch less]
    #[arg(long, value_name = "FILE")]
    from_bin: Option<PathBuf>,
    /// Directory for data and logs; must be empty [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory for the reports and the history
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
}

fn parse_slack(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.01..=1000.0).contains(&factor) => Ok(factor),
        _ => Err("a number from 0.01 to 1000 is expected".to_owned()),
    }
}

fn time(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "a time is expected: 90s, 10m, 8h".to_owned())
}

#[derive(Debug, Subcommand)]
enum Chaos {
    /// Lists the scenarios.
    List,
    /// Prints a scenario: a start for an own one.
    Show {
        /// Name of the scenario
        scenario: String,
    },
    /// Starts a cluster of real processes on this machine, breaks it as a scenario says, and judges what clients saw.
    #[command(after_help = RUN_HELP)]
    Run {
        /// Name of a scenario (`pharos chaos list`), or a file that ends in .toml
        scenario: String,
        /// Nodes of the cluster [default: as the scenario says]
        #[arg(long)]
        nodes: Option<usize>,
        /// Shards of the cluster [default: as the scenario says]
        #[arg(long)]
        shards: Option<u16>,
        #[command(flatten)]
        common: Common,
    },
    /// Runs several scenarios, one after the other.
    #[command(after_help = RUN_HELP)]
    Suite {
        /// quick: six scenarios in less than four minutes; full: all
        #[arg(value_enum)]
        which: Suite,
        #[command(flatten)]
        common: Common,
    },
    /// Lets clients work on a cluster that runs already, disturbs it as every cluster is now and then, and judges.
    #[command(after_help = attach::HELP)]
    Attach(attach::AttachArgs),
    /// Judges the history of a run again.
    #[command(after_help = CODES)]
    Check {
        /// history.ndjson of a run
        history: PathBuf,
        /// Directory for the reports
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
        /// Prints the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Runs whole clusters in this process, in virtual time, each under one seed that decides every fault and choice.
    #[command(after_help = sim::SIM_HELP)]
    Sim(sim::SimArgs),
    /// Makes a failure of the simulator small: finds which of the seed's faults it needs.
    #[command(after_help = sim::SHRINK_HELP)]
    Shrink(sim::ShrinkArgs),
    /// Runs fresh seeds for a time, and keeps account of all that ever ran.
    #[command(after_help = sim::SOAK_HELP)]
    Soak(sim::SoakArgs),
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

/// A scenario by its name, or from a file.
fn scenario_of(name: &str) -> Result<Scenario, CliError> {
    if name.ends_with(".toml") {
        let text = std::fs::read_to_string(name).map_err(|error| failed(&format!("{name}: {error}")))?;
        return Scenario::parse(&text).map_err(|error| failed(&format!("{name}: {error}")));
    }
    Scenario::built_in(name).ok_or_else(|| {
        let names: Vec<String> = Scenario::all().into_iter().map(|scenario| scenario.name).collect();
        failed(&format!(
            "there is no scenario {name:?}; there are {}, and files that end in .toml",
            names.join(", ")
        ))
    })
}

/// Whether what a run left behind says more than its report.
const fn must_be_kept(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::InvariantBroken | Verdict::Undecided)
}

/// Keeps a temporary directory whose data somebody has to look at.
fn keep(guard: Option<tempfile::TempDir>, dir: &Path, verdict: Verdict) {
    if must_be_kept(verdict) {
        if let Some(guard) = guard {
            let _ = guard.keep();
        }
        complain(&format!("data, logs and history are kept in {}", dir.display()));
    }
}

fn finish(verdict: Verdict) -> Result<(), CliError> {
    match verdict.exit_code() {
        0 => Ok(()),
        code => Err(CliError::Code(code)),
    }
}

/// Writes and prints the report.
fn tell(history: &History, judgement: &Judgement, dir: Option<&Path>, json: bool) -> Result<(), CliError> {
    let report = Report::of(history, judgement).map_err(|error| failed(&format!("{error:#}")))?;
    if let Some(dir) = dir {
        report.write(history, dir).map_err(|error| failed(&format!("{error:#}")))?;
    }
    say(&match json {
        true => serde_json::to_string(&report).map_err(|error| failed(&error))?,
        false => report.markdown(),
    });
    Ok(())
}

impl Common {
    /// Plays one scenario in a directory and tells how it went.
    fn play(&self, scenario: Scenario, dir: &Path, report: Option<&Path>) -> Result<Verdict, CliError> {
        let binary = match &self.bin {
            Some(binary) => binary.clone(),
            None => own_binary()?,
        };
        let options = RunOptions {
            scenario,
            seed: self.seed,
            slack: self.slack,
            binary,
            older_binary: self.from_bin.clone(),
            dir: dir.to_owned(),
        };
        let (history, judgement) =
            run(&options, &mut |step| complain(step)).map_err(|error| failed(&format!("{error:#}")))?;
        tell(&history, &judgement, report, self.json)?;
        if let Some(report) = report {
            std::fs::copy(history_path(dir), history_path(report)).map_err(|error| failed(&error))?;
        }
        Ok(judgement.verdict)
    }
}

pub(super) fn own_binary() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| failed(&error))
}

impl ChaosArgs {
    pub fn run(self) -> Result<(), CliError> {
        match self.what {
            Chaos::List => {
                for scenario in Scenario::all() {
                    let quick = if QUICK.contains(&scenario.name.as_str()) { "quick" } else { "" };
                    let Scenario { name, summary, duration, nodes, .. } = scenario;
                    say(&format!("{name:<18}{quick:<7}{:<6}{nodes} nodes  {summary}", duration.to_string()));
                }
                Ok(())
            }
            Chaos::Show { scenario } => {
                say(scenario_of(&scenario)?.text.trim_end());
                Ok(())
            }
            Chaos::Run { scenario, nodes, shards, common } => {
                let mut scenario = scenario_of(&scenario)?;
                scenario.resize(nodes, shards).map_err(|error| failed(&error))?;
                let (dir, guard) = directory(common.data_dir.clone())?;
                let verdict = common.play(scenario, &dir, common.report.as_deref())?;
                keep(guard, &dir, verdict);
                finish(verdict)
            }
            Chaos::Suite { which, common } => {
                let all = Scenario::all().into_iter();
                let is_in = |name: &str| matches!(which, Suite::Full) || QUICK.contains(&name);
                let (dir, guard) = directory(common.data_dir.clone())?;
                let mut verdicts = Vec::new();
                for scenario in all.filter(|scenario| is_in(&scenario.name)) {
                    let name = scenario.name.clone();
                    let report = common.report.as_ref().map(|report| report.join(&name));
                    let own = dir.join(&name);
                    // One that can not be judged does not keep the others from being run.
                    let verdict =
                        common.play(scenario, &own, report.as_deref()).unwrap_or(Verdict::Undecided);
                    if guard.is_some() && !must_be_kept(verdict) {
                        std::fs::remove_dir_all(&own).map_err(|error| failed(&error))?;
                    }
                    verdicts.push((name, verdict));
                }
                complain("");
                for (name, verdict) in &verdicts {
                    complain(&format!("{name:<18}{}", verdict.text()));
                }
                let order = [Verdict::InvariantBroken, Verdict::Undecided, Verdict::GoalMissed];
                let is_there = |verdict: &Verdict| verdicts.iter().any(|(_, other)| other == verdict);
                let worst = order.into_iter().find(is_there).unwrap_or(Verdict::Passed);
                keep(guard, &dir, worst);
                finish(worst)
            }
            Chaos::Attach(args) => args.run(),
            Chaos::Check { history, report, json } => {
                let history = History::read(&history).map_err(|error| failed(&format!("{error:#}")))?;
                let judgement = judge(&history).map_err(|error| failed(&format!("{error:#}")))?;
                tell(&history, &judgement, report.as_deref(), json)?;
                finish(judgement.verdict)
            }
            Chaos::Sim(args) => args.run(),
            Chaos::Shrink(args) => args.run(),
            Chaos::Soak(args) => args.run(),
        }
    }
}
