//! Scenarios: what breaks, when, under which load, and what has to hold. Ours are in the same form as users' own.
//!
//! ```toml
//! name = "leader-kill"
//! summary = "..."
//! nodes = 3                    # and shards, duration, settings
//! [load]                       # a second
//! metrics = 1500
//! logs = 150
//! traces = 100
//! [[step]]
//! at = "8s"
//! every = "8s"
//! times = 3
//! kill = { target = "leader", restart_after = "4s" }
//! [goal]
//! gap_p99 = "1.5s"
//! ```
//!
//! [`Scenario::plan`] turns steps into a list of faults in the order of their times. The seed decides what the scenario leaves
//! open (`any`, `mayhem`): the same seed gives the same plan. Who leads is known only when a fault strikes.

mod fault;
mod step;
mod units;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sim::random::{Stream, stream};
pub use fault::*;
use step::Step;
pub use units::{Shift, Size, Span};

/// Scenarios that the binary has, in the order in which they are listed.
const BUILT_IN: &[&str] = &[
    include_str!("../scenarios/leader-kill.toml"),
    include_str!("../scenarios/follower-kill.toml"),
    include_str!("../scenarios/majority-kill.toml"),
    include_str!("../scenarios/all-kill.toml"),
    include_str!("../scenarios/power-cut.toml"),
    include_str!("../scenarios/crash-loop.toml"),
    include_str!("../scenarios/pause-leader.toml"),
    include_str!("../scenarios/rolling-restart.toml"),
    include_str!("../scenarios/rolling-upgrade.toml"),
    include_str!("../scenarios/isolate-leader.toml"),
    include_str!("../scenarios/split-halves.toml"),
    include_str!("../scenarios/one-way.toml"),
    include_str!("../scenarios/flapping-link.toml"),
    include_str!("../scenarios/slow-link.toml"),
    include_str!("../scenarios/disk-full.toml"),
    include_str!("../scenarios/slow-disk.toml"),
    include_str!("../scenarios/clock-skew.toml"),
    include_str!("../scenarios/corrupt-segment.toml"),
    include_str!("../scenarios/corrupt-running.toml"),
    include_str!("../scenarios/corrupt-log.toml"),
    include_str!("../scenarios/replace-node.toml"),
    include_str!("../scenarios/lost-node.toml"),
    include_str!("../scenarios/overload.toml"),
    include_str!("../scenarios/hostile-clients.toml"),
    include_str!("../scenarios/queries-of-death.toml"),
    include_str!("../scenarios/cardinality-flood.toml"),
    include_str!("../scenarios/mayhem.toml"),
];

/// Those of `suite quick`.
pub const QUICK: [&str; 6] =
    ["leader-kill", "rolling-restart", "one-way", "corrupt-segment", "replace-node", "hostile-clients"];

/// Most faults of a plan.
const MAX_FAULTS: usize = 1000;
/// Longest scenario.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// Why a text is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is no TOML, or has what a scenario does not have.
    #[error("{0}")]
    Parse(#[from] toml::de::Error),
    /// It says something that can not be done.
    #[error("{0}")]
    Invalid(String),
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, ScenarioError> {
    Err(ScenarioError::Invalid(reason.into()))
}

/// How clients go on after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// Some as `exporter`, some as `other-node`, some as `none`.
    #[default]
    Mixed,
    /// The same bytes to the same node, for 30 s.
    Exporter,
    /// The same bytes to another node, for 30 s.
    OtherNode,
    /// Not at all.
    None,
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Samples a second, by remote write.
    pub metrics: u32,
    /// Log records a second, by OTLP over HTTP.
    pub logs: u32,
    /// Spans a second, by OTLP over HTTP.
    pub traces: u32,
    /// Queries a second.
    pub queries: u32,
    /// Saves of registers a second, by comparing versions.
    pub registers: u32,
    /// What clients do when a request fails.
    pub retry: Retry,
}

impl Default for Load {
    fn default() -> Self {
        Self { metrics: 1500, logs: 150, traces: 100, queries: 12, registers: 4, retry: Retry::Mixed }
    }
}

/// When all faults have ended and everything runs again.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Heal {
    /// How long until 99 % of all requests succeed again: a goal.
    pub within: Span,
}

impl Default for Heal {
    fn default() -> Self {
        Self { within: Span(Duration::from_secs(5)) }
    }
}

/// What has to be reached, besides what always has to hold.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Goal {
    /// Longest that 99 of 100 faults may keep a node that they do not strike from taking writes.
    pub gap_p99: Option<Span>,
    /// Fraction of the requests of clients that retry elsewhere which may fail for good.
    pub failed_retried_max: f64,
    /// Fraction of the requests of clients that do not retry which may fail, at nodes that no fault strikes.
    pub failed_once_max: Option<f64>,
    /// Samples and records acknowledged a second during faults, once their gaps are over, of what there was before: at
    /// least this part.
    pub throughput_min: Option<f64>,
}

impl Default for Goal {
    fn default() -> Self {
        Self { gap_p99: None, failed_retried_max: 0.0, failed_once_max: None, throughput_min: None }
    }
}

fn three() -> usize {
    3
}

fn eight() -> u16 {
    8
}

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it does, in a sentence.
    #[serde(default)]
    pub summary: String,
    /// Nodes of the cluster.
    #[serde(default = "three")]
    pub nodes: usize,
    /// Shards of the cluster.
    #[serde(default = "eight")]
    pub shards: u16,
    /// How long the load runs before everything heals.
    pub duration: Span,
    /// Whether a fault may begin while an earlier one is under way. Otherwise it waits: a slow machine then takes longer,
    /// and never loses more nodes at once than was meant.
    #[serde(default)]
    pub overlap: bool,
    /// Further settings of every node, by their keys.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// What clients do.
    #[serde(default)]
    pub load: Load,
    #[serde(default, rename = "step")]
    steps: Vec<Step>,
    /// What has to come after.
    #[serde(default)]
    pub heal: Heal,
    /// What has to be reached.
    #[serde(default)]
    pub goal: Goal,
    /// The text that it was read from.
    #[serde(skip)]
    pub text: String,
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Planned {
    /// From the start of the load on.
    pub at: Span,
    /// What.
    pub fault: Fault,
}

impl Scenario {
    /// Reads one, and refuses what can not be run.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self = toml::from_str(text)?;
        scenario.text = text.to_owned();
        scenario.validate()?;
        Ok(scenario)
    }

    /// A built-in one by its name.
    pub fn built_in(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|scenario| scenario.name == name)
    }

    /// All built-in ones.
    pub fn all() -> Vec<Self> {
        let parse = |text: &&str| Self::parse(text).expect("a test reads every built-in scenario");
        BUILT_IN.iter().map(parse).collect()
    }

    /// The same with another number of nodes or shards, also in its text.
    pub fn resize(&mut self, nodes: Option<usize>, shards: Option<u16>) -> Result<(), ScenarioError> {
        let mut table: toml::Table = toml::from_str(&self.text)?;
        let numbers = [("nodes", nodes.map(|n| n as i64)), ("shards", shards.map(i64::from))];
        for (key, number) in numbers {
            if let Some(number) = number {
                table.insert(key.to_owned(), toml::Value::Integer(number));
            }
        }
        if nodes.or(shards.map(usize::from)).is_some() {
            *self = Self::parse(&table.to_string())?;
        }
        Ok(())
    }

    /// Refuses what can not be run.
    fn validate(&self) -> Result<(), ScenarioError> {
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            return invalid("a scenario has a name of one line");
        }
        if !(1..=9).contains(&self.nodes) {
            return invalid(format!("nodes = {}: there can be 1 to 9", self.nodes));
        }
        if !(1..=256).contains(&self.shards) {
            return invalid(format!("shards = {}: there can be 1 to 256", self.shards));
        }
        if self.duration.0 > MAX_DURATION || self.duration.0 < Duration::from_secs(1) {
            return invalid(format!("duration = {}: it can be 1s to 24h", self.duration));
        }
        for (what, rate, most) in [
            ("metrics", self.load.metrics, 1_000_000),
            ("logs", self.load.logs, 100_000),
            ("traces", self.load.traces, 100_000),
            ("queries", self.load.queries, 1000),
            ("registers", self.load.registers, 100),
        ] {
            if rate > most {
                return invalid(format!("load.{what} = {rate}: at most {most} a second"));
            }
        }
        for (what, part) in [
            ("failed_retried_max", Some(self.goal.failed_retried_max)),
            ("failed_once_max", self.goal.failed_once_max),
            ("throughput_min", self.goal.throughput_min),
        ] {
            if part.is_some_and(|part| !(0.0..=1.0).contains(&part)) {
                return invalid(format!("goal.{what} is a fraction, from 0 to 1"));
            }
        }
        self.plan(0).map(|_| ())
    }

    /// What breaks and when, in the order of times.
    pub fn plan(&self, seed: u64) -> Result<Vec<Planned>, ScenarioError> {
        let mut plan = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            // A stream for each step: a further one leaves those before it as they were.
            let mut random = stream(seed, Stream::Faults, number as u64);
            let times = match (step.every, step.times) {
                (None, None) => 1,
                (Some(every), Some(times)) if every.0 > Duration::ZERO => times,
                _ => {
                    return invalid(format!(
                        "the step at {} needs both every and times, or neither",
                        step.at
                    ));
                }
            };
            if plan.len() + times as usize > MAX_FAULTS {
                return invalid(format!("more than {MAX_FAULTS} faults"));
            }
            let every = step.every.unwrap_or_default().0;
            for time in 0..times {
                let at = Span(step.at.0 + every * time);
                if at.0 >= self.duration.0 {
                    return invalid(format!(
                        "a step at {at} is behind the end of the load at {}",
                        self.duration
                    ));
                }
                plan.push(Planned { at, fault: step.fault(self.nodes, &mut random)? });
            }
        }
        for planned in &plan {
            let needs_peers = matches!(planned.fault, Fault::Partition(_) | Fault::Slow(_) | Fault::Wipe(_));
            if needs_peers && self.nodes < 2 {
                return invalid(format!("a {} needs at least two nodes", planned.fault.name()));
            }
            if let Fault::Lose(_) = planned.fault
                && self.nodes < 4
            {
                return invalid("where a node is lost, others can stand in for it from four nodes on");
            }
            if let Fault::Overload(Overload { connections, .. }) | Fault::Hostile(Hostile { connections, .. }) =
                &planned.fault
                && !(1..=1000).contains(connections)
            {
                return invalid(format!("connections = {connections}: there can be 1 to 1000"));
            }
        }
        plan.sort_by_key(|planned| planned.at);
        Ok(plan)
    }
}

#[cfg(test)]
mod tests;
