//! The simulator's commands: `sim`, `shrink`, `soak`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use chaos::scenario::Span;
use chaos::sim::corpus;
use chaos::sim::run::{Report, SeedReport, SimOptions, run_list, run_seed};
use chaos::sim::schedule::{Condition, Schedule, Strike};
use chaos::sim::shrink::shrink;
use chaos::sim::soak::{SoakOptions, soak};
use clap::Args;

use super::failed;
use crate::cli::{CliError, complain, say};

pub(super) const SIM_HELP: &str = "\
Examples:
  pharos chaos sim --seeds 1..100
  pharos chaos sim --seed 7 --trace
  pharos chaos sim --seed 7 --only crash:2,partition:1 --without loss,duplicates
      the second crash and the first partition of seed 7, and no other fault

Exit codes: 0 passed, 1 an invariant is broken: the report names the command that shows it again.";

pub(super) const SHRINK_HELP: &str = "\
Leaves out faults, and what is bad all the time (lost and doubled messages, slow links and disks), as long as the same
invariant breaks. Prints what is left, and the command that runs it.

Exit codes: 0 made smaller, or as small as it was; 3 the seed breaks no invariant.";

pub(super) const SOAK_HELP: &str = "\
Seeds start where the last soak ended. Ends early only when nobody can write the account.

Exit codes: 0 no seed of this run failed; 1 an invariant is broken: the report names the commands that show it again;
3 it could not run.";

/// Arguments of `pharos chaos sim`.
#[derive(Debug, Args)]
pub(super) struct SimArgs {
    /// First and last seed [default: 1..20]
    #[arg(long, value_name = "A..B", value_parser = corpus::parse_range, conflicts_with = "seed")]
    seeds: Option<RangeInclusive<u64>>,
    /// One seed
    #[arg(long)]
    seed: Option<u64>,
    /// Runs every seed that ever failed, besides
    #[arg(long)]
    corpus: bool,
    /// The only strikes that happen, with commas between them, or none
    #[arg(long, value_name = "KIND:N", value_parser = only)]
    only: Option<Only>,
    /// What is not bad although the seed says so: loss, duplicates, delays, slow-disks, resends
    #[arg(long, value_name = "CONDITION", value_delimiter = ',')]
    without: Vec<Condition>,
    /// Tells on standard error what happens, with virtual times
    #[arg(long)]
    trace: bool,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
}

/// A set of its own type, so that it is one argument.
#[derive(Clone, Debug)]
struct Only(BTreeSet<Strike>);

fn only(text: &str) -> Result<Only, String> {
    Schedule::parse_only(text).map(Only)
}

/// Arguments of `pharos chaos shrink`.
#[derive(Debug, Args)]
pub(super) struct ShrinkArgs {
    /// A seed that fails
    #[arg(long)]
    seed: u64,
    /// Time after which what was found counts
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = super::time)]
    within: Span,
}

/// Arguments of `pharos chaos soak`.
#[derive(Debug, Args)]
pub(super) struct SoakArgs {
    /// For how long
    #[arg(long = "for", value_name = "TIME", value_parser = super::time)]
    lasts: Span,
    /// File with the account of all soaks
    #[arg(long, value_name = "FILE")]
    account: PathBuf,
    /// Under which name the account counts this program
    #[arg(long, value_name = "NAME", default_value = env!("CARGO_PKG_VERSION"))]
    revision: String,
}

fn tell_failed(seed: &SeedReport) {
    if let Some(violation) = seed.violations.first() {
        complain(&format!("seed {} FAILED: {violation}; again: {}", seed.seed, seed.replay()));
    }
}

fn finish(report: &Report) -> Result<(), CliError> {
    if report.passed() { Ok(()) } else { Err(CliError::Code(1)) }
}

impl SimArgs {
    pub fn run(self) -> Result<(), CliError> {
        let mut list: Vec<u64> = if self.corpus { corpus::seeds() } else { Vec::new() };
        list.extend(self.seed);
        list.extend(self.seeds.into_iter().flatten());
        if list.is_empty() {
            list = (1..=20).collect();
        }
        let schedule = Schedule {
            only: self.only.map(|Only(strikes)| strikes),
            without: self.without.into_iter().collect(),
        };
        let options = SimOptions { trace: self.trace, schedule };
        let report = run_list(&list, &options, &|seed| {
            let verdict = if seed.passed() { "passed" } else { "FAILED" };
            complain(&format!("seed {}: {verdict}, trace hash {:016x}", seed.seed, seed.trace_hash));
        });
        say(&if self.json {
            serde_json::to_string(&report).map_err(|error| failed(&error))?
        } else {
            report.to_text()
        });
        finish(&report)
    }
}

impl ShrinkArgs {
    pub fn run(self) -> Result<(), CliError> {
        let run = |schedule: &Schedule| {
            run_seed(self.seed, &SimOptions { trace: false, schedule: schedule.clone() })
        };
        match shrink(&run, self.within.0, &mut complain) {
            Some(shrunk) => {
                say(shrunk.to_text().trim_end());
                Ok(())
            }
            None => Err(failed(&format!("seed {} breaks no invariant", self.seed))),
        }
    }
}

impl SoakArgs {
    pub fn run(self) -> Result<(), CliError> {
        let options = SoakOptions {
            lasts: self.lasts.0,
            account: self.account.clone(),
            revision: self.revision.clone(),
        };
        let (report, account) =
            soak(&options, &tell_failed).map_err(|error| failed(&format!("{error:#}")))?;
        say(report.to_text().trim_end());
        say(&format!("{}:\n{}", self.account.display(), account.to_text().trim_end()));
        finish(&report)
    }
}
