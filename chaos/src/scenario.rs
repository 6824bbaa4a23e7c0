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

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::sim::random::{Stream, stream};

/// Scenarios that the binary has, in the order in which they are listed.
const BUILT_IN: &[&str] = &[
    include_str!("../scenarios/leader-kill.toml"),
    include_str!("../scenarios/follower-kill.toml"),
    include_str!("../scenarios/majority-kill.toml"),
    include_str!("../scenarios/all-kill.toml"),
    include_str!("../scenarios/crash-loop.toml"),
    include_str!("../scenarios/pause-leader.toml"),
    include_str!("../scenarios/rolling-restart.toml"),
    include_str!("../scenarios/isolate-leader.toml"),
    include_str!("../scenarios/split-halves.toml"),
    include_str!("../scenarios/one-way.toml"),
    include_str!("../scenarios/flapping-link.toml"),
    include_str!("../scenarios/slow-link.toml"),
    include_str!("../scenarios/corrupt-segment.toml"),
    include_str!("../scenarios/corrupt-running.toml"),
    include_str!("../scenarios/corrupt-log.toml"),
    include_str!("../scenarios/replace-node.toml"),
    include_str!("../scenarios/lost-node.toml"),
    include_str!("../scenarios/overload.toml"),
    include_str!("../scenarios/hostile-clients.toml"),
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

/// A length of time as people write it: `500ms`, `1.5s`, `2m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = text.split_at(split);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok().map(Self)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_millis() {
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is no time; write 500ms, 1.5s or 2m")))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Target {
    /// Any node; the seed says which.
    Any,
    /// The leader of the busiest shard.
    Leader,
    /// A node that does not lead the busiest shard.
    Follower,
    /// The leader of the meta group.
    MetaLeader,
    /// As many as may be lost, the leader among them.
    Minority,
    /// One more than may be lost, the leader among them.
    Majority,
    /// All.
    All,
    /// One after the other, all of them; restarts only.
    Each,
    /// A node by its number, from 1.
    Node(usize),
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let target = match text.as_str() {
            "any" => Some(Self::Any),
            "leader" => Some(Self::Leader),
            "follower" => Some(Self::Follower),
            "meta-leader" => Some(Self::MetaLeader),
            "minority" => Some(Self::Minority),
            "majority" => Some(Self::Majority),
            "all" => Some(Self::All),
            "each" => Some(Self::Each),
            other => other.strip_prefix("node:").and_then(|n| n.parse().ok()).map(Self::Node),
        };
        target.ok_or_else(|| {
            de::Error::custom(format!(
                "there is no target {text:?}; there are any, leader, follower, meta-leader, minority, majority, all, each, \
                 node:1"
            ))
        })
    }
}

/// What of a node is cut off from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// The target from all others, both ways.
    Isolate,
    /// What the target sends.
    OneWayOut,
    /// What the target is sent.
    OneWayIn,
    /// The target's link to one other node, both ways; both still reach the rest.
    Link,
    /// One half of the nodes, the target in the smaller one, from the other.
    Halves,
}

/// How a link is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// Nothing arrives and nobody is told.
    #[default]
    Silent,
    /// Connections end and are refused.
    Reset,
}

/// A file of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damaged {
    /// A sealed segment.
    Segment,
    /// The Raft log.
    Log,
    /// A shard's manifest.
    Manifest,
}

fn a_leader() -> Target {
    Target::Leader
}

fn any() -> Target {
    Target::Any
}

fn one() -> u32 {
    1
}

/// SIGKILL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Whom.
    #[serde(default = "a_leader")]
    pub target: Target,
    /// When it is started again; without, when everything heals.
    pub restart_after: Option<Span>,
}

/// SIGSTOP, and SIGCONT later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Whom.
    #[serde(default = "a_leader")]
    pub target: Target,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Span,
}

/// A stop in order (SIGTERM), and a start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Whom.
    #[serde(default = "any")]
    pub target: Target,
}

/// Links that carry nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Which links, as seen from `from`.
    pub shape: Shape,
    /// Whose.
    #[serde(default = "a_leader")]
    pub from: Target,
    /// How.
    #[serde(default)]
    pub cut: Cut,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// Cut for so long, whole for so long, again and again.
    pub flap: Option<Span>,
}

/// Links that carry late and little.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// Whose links, both ways.
    #[serde(default = "a_leader")]
    pub target: Target,
    /// Added to each direction.
    #[serde(default)]
    pub delay: Span,
    /// Added besides, anything up to this.
    #[serde(default)]
    pub jitter: Span,
    /// Limit of each direction.
    pub bytes_per_second: Option<u64>,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Span,
}

/// Flipped bytes in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corrupt {
    /// Whose.
    #[serde(default = "any")]
    pub target: Target,
    /// Which kind of file.
    pub what: Damaged,
    /// Whether the node is killed first and started afterwards. Where not, it runs on over its damaged file.
    #[serde(default)]
    pub stopped: bool,
    /// In how many files.
    #[serde(default = "one")]
    pub files: u32,
}

/// A lost disk: killed, emptied, started to join anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wipe {
    /// Whose.
    #[serde(default = "any")]
    pub target: Target,
    /// When it is started again.
    pub restart_after: Span,
}

/// A node that is lost for good: killed, its disk emptied. Others have to be given what it held, without a command; then
/// an empty node comes in its place, and has to be given its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lose {
    /// Whom.
    #[serde(default = "any")]
    pub target: Target,
}

/// Many writers that do not wait between their requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overload {
    /// Writers.
    pub connections: u32,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Span,
}

/// Clients that mean harm: slow ones, huge ones, ones that send garbage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hostile {
    /// Connections that are held open without ever finishing a request.
    pub connections: u32,
    /// Whom they talk to.
    #[serde(default = "any")]
    pub target: Target,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Span,
}

/// A random fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mayhem {
    /// Longest a fault of those lasts that last.
    pub longest: Span,
}

/// Something that breaks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is documented at its type")]
pub enum Fault {
    Kill(Kill),
    Pause(Pause),
    Restart(Restart),
    Partition(Partition),
    Slow(Slow),
    Corrupt(Corrupt),
    Wipe(Wipe),
    Lose(Lose),
    Overload(Overload),
    Hostile(Hostile),
}

/// A step as it is written: when, and one fault.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at: Span,
    every: Option<Span>,
    times: Option<u32>,
    kill: Option<Kill>,
    pause: Option<Pause>,
    restart: Option<Restart>,
    partition: Option<Partition>,
    slow: Option<Slow>,
    corrupt: Option<Corrupt>,
    wipe: Option<Wipe>,
    lose: Option<Lose>,
    overload: Option<Overload>,
    hostile: Option<Hostile>,
    mayhem: Option<Mayhem>,
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
    /// What clients do when a request fails.
    pub retry: Retry,
}

impl Default for Load {
    fn default() -> Self {
        Self { metrics: 1500, logs: 150, traces: 100, queries: 12, retry: Retry::Mixed }
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

impl Step {
    /// The fault of the step, drawn where it is left open. Each way to say it is looked at, so that none is ignored.
    fn fault(&self, nodes: usize, random: &mut SmallRng) -> Result<Fault, ScenarioError> {
        let mut found: Vec<Fault> = Vec::new();
        found.extend(self.kill.clone().map(Fault::Kill));
        found.extend(self.pause.clone().map(Fault::Pause));
        found.extend(self.restart.clone().map(Fault::Restart));
        found.extend(self.partition.clone().map(Fault::Partition));
        found.extend(self.slow.clone().map(Fault::Slow));
        found.extend(self.corrupt.clone().map(Fault::Corrupt));
        found.extend(self.wipe.clone().map(Fault::Wipe));
        found.extend(self.lose.clone().map(Fault::Lose));
        found.extend(self.overload.clone().map(Fault::Overload));
        found.extend(self.hostile.clone().map(Fault::Hostile));
        found.extend(self.mayhem.as_ref().map(|mayhem| mayhem.draw(random)));
        let [fault] = &mut found[..] else {
            return invalid(format!(
                "the step at {} has {} faults; a step has one of kill, pause, restart, partition, slow, corrupt, wipe, \
                 lose, overload, hostile, mayhem",
                self.at,
                found.len()
            ));
        };
        let is_restart = matches!(fault, Fault::Restart(_));
        if let Some(target) = fault.target_mut() {
            match *target {
                Target::Any => *target = Target::Node(random.random_range(1..=nodes)),
                Target::Node(number) if !(1..=nodes).contains(&number) => {
                    return invalid(format!("there is no node:{number} among {nodes}"));
                }
                Target::Each if !is_restart => {
                    return invalid("the target each is for restarts");
                }
                _ => {}
            }
        }
        Ok(fault.clone())
    }
}

impl Fault {
    fn target_mut(&mut self) -> Option<&mut Target> {
        Some(match self {
            Self::Kill(kill) => &mut kill.target,
            Self::Pause(pause) => &mut pause.target,
            Self::Restart(restart) => &mut restart.target,
            Self::Partition(partition) => &mut partition.from,
            Self::Slow(slow) => &mut slow.target,
            Self::Corrupt(corrupt) => &mut corrupt.target,
            Self::Wipe(wipe) => &mut wipe.target,
            Self::Lose(lose) => &mut lose.target,
            Self::Hostile(hostile) => &mut hostile.target,
            Self::Overload(_) => return None,
        })
    }

    /// A word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Pause(_) => "pause",
            Self::Restart(_) => "restart",
            Self::Partition(_) => "partition",
            Self::Slow(_) => "slow",
            Self::Corrupt(_) => "corrupt",
            Self::Wipe(_) => "wipe",
            Self::Lose(_) => "lose",
            Self::Overload(_) => "overload",
            Self::Hostile(_) => "hostile",
        }
    }
}

impl Mayhem {
    /// A fault that a cluster must survive: it strikes one node, and ends.
    fn draw(&self, random: &mut SmallRng) -> Fault {
        let lasts = Span(self.longest.0.mul_f64(random.random_range(0.2..=1.0)));
        let target = [Target::Any, Target::Leader, Target::Follower, Target::MetaLeader]
            [random.random_range(0..4_usize)];
        let shapes = [Shape::Isolate, Shape::OneWayOut, Shape::OneWayIn, Shape::Link];
        match random.random_range(0..6) {
            0 => Fault::Kill(Kill { target, restart_after: Some(lasts) }),
            1 => Fault::Pause(Pause { target, lasts }),
            2 => Fault::Restart(Restart { target }),
            3 => Fault::Slow(Slow {
                target,
                delay: Span(Duration::from_millis(random.random_range(1..60))),
                jitter: Span(Duration::from_millis(random.random_range(0..60))),
                bytes_per_second: None,
                lasts,
            }),
            _ => Fault::Partition(Partition {
                shape: shapes[random.random_range(0..shapes.len())],
                from: target,
                cut: if random.random_range(0..2) == 0 { Cut::Silent } else { Cut::Reset },
                lasts,
                flap: None,
            }),
        }
    }
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
mod tests {
    use super::*;

    #[test]
    fn the_built_in_scenarios_can_be_run() {
        for text in BUILT_IN {
            let scenario = Scenario::parse(text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
            assert!(!scenario.summary.is_empty(), "{}", scenario.name);
            assert!(!scenario.plan(1).expect("a plan").is_empty(), "{}", scenario.name);
        }
        let all = Scenario::all();
        let mut names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len(), "each name once");
        for name in QUICK {
            assert!(Scenario::built_in(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_seed_decides_the_plan() {
        let mayhem = Scenario::built_in("mayhem").expect("built in");
        assert_eq!(mayhem.plan(7).expect("a plan"), mayhem.plan(7).expect("a plan"));
        assert_ne!(mayhem.plan(7).expect("a plan"), mayhem.plan(8).expect("a plan"));
    }

    #[test]
    fn steps_repeat_in_order() {
        let text = r#"
            name = "x"
            duration = "20s"
            [[step]]
            at = "5s"
            every = "4s"
            times = 3
            kill = { target = "node:2" }
            [[step]]
            at = "6s"
            pause = { for = "1.5s", target = "majority" }
        "#;
        let plan = Scenario::parse(text).expect("a scenario").plan(1).expect("a plan");
        let seen: Vec<(u128, &str)> = plan.iter().map(|p| (p.at.0.as_millis(), p.fault.name())).collect();
        assert_eq!(seen, [(5000, "kill"), (6000, "pause"), (9000, "kill"), (13_000, "kill")]);
    }

    #[test]
    fn a_resized_scenario_says_so_in_its_text() {
        let mut scenario = Scenario::built_in("leader-kill").expect("built in");
        scenario.resize(Some(5), None).expect("five nodes will do");
        let again = Scenario::parse(&scenario.text).expect("its own text");
        assert_eq!((scenario.nodes, again.nodes, again.shards), (5, 5, scenario.shards));
        assert_eq!(again.plan(3).expect("a plan"), scenario.plan(3).expect("a plan"));
        scenario.resize(Some(10), None).expect_err("ten are too many");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, word: &str| {
            let text = format!("name = \"x\"\nduration = \"20s\"\n{text}");
            let error = Scenario::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(word), "{error} for {text}");
        };
        check("typo = 1", "typo");
        check("nodes = 10", "nodes = 10");
        check("[load]\nspeed = 1", "speed");
        check("[load]\nmetrics = 2000000", "load.metrics");
        check("[[step]]\nat = \"1s\"", "0 faults");
        check("[[step]]\nat = \"1s\"\nkill = {}\npause = { for = \"1s\" }", "2 faults");
        check("[[step]]\nat = \"soon\"\nkill = {}", "soon");
        check("[[step]]\nat = \"1s\"\nkill = { target = \"king\" }", "king");
        check("[[step]]\nat = \"1s\"\nkill = { target = \"node:4\" }", "node:4");
        check("[[step]]\nat = \"1s\"\nkill = { target = \"each\" }", "each");
        check("[[step]]\nat = \"1s\"\nevery = \"1s\"\nkill = {}", "times");
        check("[[step]]\nat = \"1s\"\nevery = \"1s\"\ntimes = 40\nkill = {}", "behind the end");
        check("[[step]]\nat = \"1s\"\noverload = { connections = 0, for = \"1s\" }", "connections");
        check("nodes = 1\n[[step]]\nat = \"1s\"\nwipe = { restart_after = \"1s\" }", "two nodes");
        check("[goal]\nthroughput_min = 2.0", "throughput_min");
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, ms) in [("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(Span::parse(text).map(|s| s.0.as_millis()), Some(ms), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1 day", "1e400s", "nans"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
