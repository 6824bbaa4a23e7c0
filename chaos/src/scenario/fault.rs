//! What can break, and whom it strikes.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::units::{Shift, Size, Span};

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
    /// One after the other, all of them; restarts and upgrades only.
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

fn all() -> Target {
    Target::All
}

fn each() -> Target {
    Target::Each
}

/// Power that goes: SIGKILL, and what no sync has reached is gone from the disk, parts of it torn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerCut {
    /// Whose.
    #[serde(default = "all")]
    pub target: Target,
    /// When it is back.
    pub restart_after: Span,
}

/// A stop in order, and a start with the newer build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// Whom.
    #[serde(default = "each")]
    pub target: Target,
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

/// A disk that is full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// Whose.
    #[serde(default = "a_leader")]
    pub target: Target,
    /// What the node's files may still grow by.
    #[serde(default)]
    pub room: Size,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Span,
}

/// A disk that takes its time to make bytes durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowDisk {
    /// Whose.
    #[serde(default = "a_leader")]
    pub target: Target,
    /// Added to each sync.
    pub sync: Span,
    /// Added besides, anything up to this.
    #[serde(default)]
    pub jitter: Span,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Span,
}

/// A wall clock that jumps, and is set right later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Whose.
    #[serde(default = "a_leader")]
    pub target: Target,
    /// Where to: `+1h`, `-90s`.
    pub jump: Shift,
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

/// How a hostile client means harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// Requests that never end.
    SlowLoris,
    /// Decompression bombs, garbage, huge labels.
    Garbage,
    /// Queries that would take all time and memory.
    Queries,
    /// Ever new series.
    Series,
}

impl Harm {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowLoris => "requests that never end",
            Self::Garbage => "bombs and garbage",
            Self::Queries => "endless queries",
            Self::Series => "ever new series",
        }
    }
}

fn all_but_series() -> Vec<Harm> {
    vec![Harm::SlowLoris, Harm::Garbage, Harm::Queries]
}

/// Clients that mean harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hostile {
    /// How many: connections that are held open without ever finishing a request, or that write ever new series.
    pub connections: u32,
    /// What they do.
    #[serde(default = "all_but_series")]
    pub with: Vec<Harm>,
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
    PowerCut(PowerCut),
    Pause(Pause),
    Restart(Restart),
    Upgrade(Upgrade),
    Partition(Partition),
    Slow(Slow),
    Fill(Fill),
    SlowDisk(SlowDisk),
    Clock(Clock),
    Corrupt(Corrupt),
    Wipe(Wipe),
    Lose(Lose),
    Overload(Overload),
    Hostile(Hostile),
}
impl Fault {
    pub(super) fn target_mut(&mut self) -> Option<&mut Target> {
        Some(match self {
            Self::Kill(kill) => &mut kill.target,
            Self::PowerCut(cut) => &mut cut.target,
            Self::Pause(pause) => &mut pause.target,
            Self::Restart(restart) => &mut restart.target,
            Self::Upgrade(upgrade) => &mut upgrade.target,
            Self::Partition(partition) => &mut partition.from,
            Self::Slow(slow) => &mut slow.target,
            Self::Fill(fill) => &mut fill.target,
            Self::SlowDisk(slow) => &mut slow.target,
            Self::Clock(clock) => &mut clock.target,
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
            Self::PowerCut(_) => "power-cut",
            Self::Pause(_) => "pause",
            Self::Restart(_) => "restart",
            Self::Upgrade(_) => "upgrade",
            Self::Partition(_) => "partition",
            Self::Slow(_) => "slow",
            Self::Fill(_) => "fill",
            Self::SlowDisk(_) => "slow-disk",
            Self::Clock(_) => "clock",
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
    pub(super) fn draw(&self, random: &mut SmallRng) -> Fault {
        let lasts = Span(self.longest.0.mul_f64(random.random_range(0.2..=1.0)));
        let target = [Target::Any, Target::Leader, Target::Follower, Target::MetaLeader]
            [random.random_range(0..4_usize)];
        let shapes = [Shape::Isolate, Shape::OneWayOut, Shape::OneWayIn, Shape::Link];
        match random.random_range(0..9) {
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
            4 => Fault::Fill(Fill { target, room: Size(random.random_range(0..1 << 20)), lasts }),
            5 => Fault::SlowDisk(SlowDisk {
                target,
                sync: Span(Duration::from_millis(random.random_range(1..300))),
                jitter: Span(Duration::from_millis(random.random_range(0..300))),
                lasts,
            }),
            6 => Fault::Clock(Clock {
                target,
                jump: Shift { ms: random.random_range(-3_600_000..=3_600_000) },
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
