//! Reports of a run: `report.json` for programs, `report.md` for people, `report.html` with the timeline.
//!
//! The JSON has a version (`schema`); fields are added, never changed. All three are made from the judgement and the history
//! alone, so that `pharos chaos check` makes them again.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::black_box::check::{Check, Judgement, Status, undecided};
use crate::black_box::history::{FaultOp, History, Line};
use crate::black_box::html;

/// Version of `report.json`.
pub const SCHEMA: u32 = 2;

/// Everything about a run.
#[derive(Serialize)]
pub struct Report<'a> {
    /// Version of this layout.
    pub schema: u32,
    /// The scenario.
    pub scenario: String,
    /// What it does.
    pub summary: String,
    /// The seed.
    pub seed: u64,
    /// What goals of time were multiplied with.
    pub slack: f64,
    /// Nodes.
    pub nodes: usize,
    /// Version of the program.
    pub version: String,
    /// Machine and system.
    pub machine: String,
    /// Start of the load, milliseconds since 1970.
    pub started_ms: i64,
    /// Why it could not be judged, if so.
    pub undecided: Option<String>,
    /// Verdict, rules, goals, figures.
    #[serde(flatten)]
    pub judgement: &'a Judgement,
    /// What broke, in order.
    pub faults: Vec<&'a FaultOp>,
    /// Error lines that nodes printed, by node.
    pub errors: Vec<(usize, Vec<String>)>,
    /// Leaders of the shards whenever they changed: microseconds, node of each shard.
    pub leaders: Vec<(u64, &'a [Option<usize>])>,
}

impl<'a> Report<'a> {
    /// Of a history and its judgement.
    pub fn of(history: &'a History, judgement: &'a Judgement) -> anyhow::Result<Self> {
        let Some(Line::Run { scenario, seed, slack, nodes, version, started_ms, machine, .. }) =
            history.lines.first()
        else {
            anyhow::bail!("the first line does not say what was run");
        };
        let scenario = crate::scenario::Scenario::parse(scenario)?;
        let errors = history.lines.iter().filter_map(|line| match line {
            Line::Printed { node, errors, .. } if !errors.is_empty() => Some((*node, errors.clone())),
            _ => None,
        });
        let leaders = history.lines.iter().filter_map(|line| match line {
            Line::Leaders { t, of } => Some((*t, of.as_slice())),
            _ => None,
        });
        Ok(Self {
            schema: SCHEMA,
            scenario: scenario.name,
            summary: scenario.summary,
            seed: *seed,
            slack: *slack,
            nodes: *nodes,
            version: version.clone(),
            machine: machine.clone(),
            started_ms: *started_ms,
            undecided: undecided(history),
            judgement,
            faults: history.faults(),
            errors: errors.collect(),
            leaders: leaders.collect(),
        })
    }

    /// Writes the reports into a directory.
    pub fn write(&self, history: &History, dir: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(dir.join("report.html"), html::page(self, history))?;
        Ok(std::fs::write(dir.join("report.md"), self.markdown())?)
    }

    /// Figures by name.
    pub fn table(&self) -> Vec<(&'static str, String)> {
        let f = &self.judgement.figures;
        let of = |(failed, all): (u64, u64)| format!("{failed} of {all}");
        let pair = |(p50, p99): (f64, f64)| format!("{p50:.0} ms, {p99:.0} ms");
        let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
        vec![
            ("seconds of load", format!("{:.1}", f.seconds)),
            (
                "samples, log records, spans acknowledged",
                format!("{}, {}, {}", f.samples_acked, f.records_acked, f.spans_acked),
            ),
            ("items of unknown fate", f.unknown.to_string()),
            ("attempts to write that succeeded", format!("{:.2} % of {}", f.attempts_ok * 100.0, f.attempts)),
            ("queries not answered", of((f.queries.1, f.queries.0))),
            ("writes failed for good, clients that retry elsewhere", of(f.failed_retried)),
            ("writes failed, clients that do not retry, at nodes not struck", of(f.failed_once)),
            ("gap of a fault, p50", time(f.gap_p50_ms)),
            ("gap of a fault, p99", time(f.gap_p99_ms)),
            ("99 % ok after the last fault", time(f.heal_ms)),
            ("items a second before, during faults", format!("{:.0}, {:.0}", f.rate_before, f.rate_during)),
            ("time of a write before faults, p50, p99", pair(f.write_ms_before)),
            ("time of a write during faults, p50, p99", pair(f.write_ms_during)),
            (
                "most memory of each node",
                f.peak_rss_mib.iter().map(|mib| format!("{mib} MiB")).collect::<Vec<_>>().join(", "),
            ),
        ]
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}: {}\n\n", self.scenario, self.judgement.verdict.text());
        let line = |out: &mut String, text: &str| {
            out.push_str(text);
            out.push('\n');
        };
        if !self.summary.is_empty() {
            line(&mut out, &format!("{}.\n", self.summary));
        }
        if let Some(reason) = &self.undecided {
            line(&mut out, &format!("**Not judged: {reason}**\n"));
        }
        let slack =
            if self.slack == 1.0 { String::new() } else { format!(", goals of time x {}", self.slack) };
        let (seed, nodes, version) = (self.seed, self.nodes, &self.version);
        line(&mut out, &format!("Seed {seed}, {nodes} nodes, version {version}, {}{slack}.\n", self.machine));
        line(&mut out, "| rule | | | |\n|---|---|---|---|");
        for check in &self.judgement.checks {
            let Check { id, title, evidence, .. } = check;
            line(&mut out, &format!("| {id} | {} | {title} | {evidence} |", status_text(check.status)));
        }
        let broken = self.judgement.checks.iter().filter(|check| !check.witnesses.is_empty());
        for check in broken {
            line(&mut out, &format!("\n**{}: {}**\n", check.id, check.title));
            for witness in &check.witnesses {
                line(&mut out, &format!("- {witness}"));
            }
        }
        if !self.judgement.goals.is_empty() {
            line(&mut out, "\n| goal | wanted | got | |\n|---|---|---|---|");
            for goal in &self.judgement.goals {
                let met = if goal.is_met { "met" } else { "**missed**" };
                line(&mut out, &format!("| {} | {} | {} | {met} |", goal.name, goal.wanted, goal.got));
            }
        }
        line(&mut out, "\n| figure | |\n|---|---|");
        for (what, figure) in self.table() {
            line(&mut out, &format!("| {what} | {figure} |"));
        }
        if !self.faults.is_empty() {
            line(&mut out, "\n| at | lasted | gap | fault | |\n|---:|---:|---:|---|---|");
        }
        for (fault, gap) in self.faults.iter().zip(&self.judgement.figures.gaps) {
            let gap = gap.ms.map_or_else(|| "until the end".to_owned(), |ms| format!("{ms:.0} ms"));
            let (at, lasted) = (fault.t0 as f64 / 1e6, (fault.t1 - fault.t0) as f64 / 1e6);
            let _ =
                writeln!(out, "| {at:.1} s | {lasted:.1} s | {gap} | {} | {} |", fault.name, fault.detail);
        }
        for (node, errors) in &self.errors {
            let _ =
                writeln!(out, "\nNode {} logged {} errors, the first: {}", node + 1, errors.len(), errors[0]);
        }
        out
    }
}

/// How a rule came out, in a word.
pub const fn status_text(status: Status) -> &'static str {
    match status {
        Status::Pass => "pass",
        Status::Fail => "**FAIL**",
        Status::NotApplicable => "n/a",
        Status::Undecided => "undecided",
    }
}
