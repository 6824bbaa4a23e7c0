//! Which part of what a seed has in store happens: everything, or only some strikes under better conditions.
//!
//! A strike is named by its kind and by its number among those of the kind: `crash:3`. Each has a stream of random numbers
//! of its own, so that it strikes alike whether the others do or not.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::sim::machine::DiskPlan;
use crate::sim::net::NetPlan;
use crate::sim::plan::Plan;

/// A kind of fault that strikes at moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
#[allow(missing_docs, reason = "each is described where it strikes, in `faults`")]
pub enum Kind {
    Crash = 1,
    PowerCut = 2,
    Partition = 3,
    DiskFull = 4,
    DiskError = 5,
    Clock = 6,
    Transfer = 7,
    Flush = 8,
    Replace = 9,
    Move = 10,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Crash,
        Self::PowerCut,
        Self::Partition,
        Self::DiskFull,
        Self::DiskError,
        Self::Clock,
        Self::Transfer,
        Self::Flush,
        Self::Replace,
        Self::Move,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::PowerCut => "power-cut",
            Self::Partition => "partition",
            Self::DiskFull => "disk-full",
            Self::DiskError => "disk-error",
            Self::Clock => "clock",
            Self::Transfer => "transfer",
            Self::Flush => "flush",
            Self::Replace => "replace",
            Self::Move => "move",
        }
    }
}

/// One time that a kind strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strike {
    /// Which kind.
    pub kind: Kind,
    /// Which of the kind, from 1.
    pub number: u32,
}

impl Strike {
    /// The number of its stream.
    pub const fn stream(self) -> u64 {
        (self.kind as u64) << 32 | self.number as u64
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.number)
    }
}

impl FromStr for Strike {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (name, number) = text.split_once(':')?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
            Some(Self { kind, number: number.parse().ok()? })
        };
        parse().ok_or_else(|| {
            let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            format!("{text:?} is no strike; write crash:3; kinds are {}", kinds.join(", "))
        })
    }
}

impl Serialize for Strike {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Something that is bad all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Messages that get lost.
    Loss,
    /// Requests that arrive twice.
    Duplicates,
    /// Messages that take long.
    Delays,
    /// Disks that are slow or stand still.
    SlowDisks,
    /// Clients that send again what was acknowledged.
    Resends,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Loss, Self::Duplicates, Self::Delays, Self::SlowDisks, Self::Resends];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplicates => "duplicates",
            Self::Delays => "delays",
            Self::SlowDisks => "slow-disks",
            Self::Resends => "resends",
        }
    }

    fn mend(self, plan: &mut Plan) {
        match self {
            Self::Loss => plan.net.loss = 0.0,
            Self::Duplicates => plan.net.duplicate = 0.0,
            Self::Delays => plan.net.delay_max = NetPlan::calm().delay_max,
            Self::SlowDisks => plan.disk = DiskPlan::calm(),
            Self::Resends => plan.resend = 0.0,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|condition| condition.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|condition| condition.name()).collect();
            format!("{text:?} is no condition; there are {}", names.join(", "))
        })
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// What happens of what a seed has in store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// The strikes that happen; all of them where it does not say.
    pub only: Option<BTreeSet<Strike>>,
    /// What is not bad although the seed says so.
    pub without: BTreeSet<Condition>,
}

impl Schedule {
    /// Whether everything happens.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a strike happens.
    pub fn has(&self, strike: Strike) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&strike))
    }

    /// Takes from a plan what does not happen.
    pub fn apply(&self, plan: &mut Plan) {
        for condition in &self.without {
            condition.mend(plan);
        }
    }

    /// The flags of `pharos chaos sim` that say the same.
    pub fn flags(&self) -> String {
        fn list<T: fmt::Display>(items: &BTreeSet<T>) -> String {
            items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
        }
        let only = self.only.as_ref().map_or_else(String::new, |only| match only.is_empty() {
            true => " --only none".to_owned(),
            false => format!(" --only {}", list(only)),
        });
        let without = match self.without.is_empty() {
            true => String::new(),
            false => format!(" --without {}", list(&self.without)),
        };
        only + &without
    }

    /// Reads what follows `--only`: strikes with commas between them, or `none`.
    pub fn parse_only(text: &str) -> Result<BTreeSet<Strike>, String> {
        match text {
            "none" => Ok(BTreeSet::new()),
            list => list.split(',').map(|part| part.trim().parse()).collect(),
        }
    }

    /// Reads what follows `--without`: conditions with commas between them.
    pub fn parse_without(text: &str) -> Result<BTreeSet<Condition>, String> {
        text.split(',').map(|part| part.trim().parse()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_they_are_printed() {
        let only = Schedule::parse_only("power-cut:2, crash:13,crash:4").expect("strikes");
        let without = Schedule::parse_without("slow-disks,loss").expect("conditions");
        let schedule = Schedule { only: Some(only), without };
        assert_eq!(schedule.flags(), " --only crash:4,crash:13,power-cut:2 --without loss,slow-disks");
        assert!(schedule.has(Strike { kind: Kind::Crash, number: 13 }));
        assert!(!schedule.has(Strike { kind: Kind::Crash, number: 3 }));
        let none =
            Schedule { only: Some(Schedule::parse_only("none").expect("none")), ..Schedule::default() };
        assert_eq!(none.flags(), " --only none");
        assert!(Schedule::default().has(Strike { kind: Kind::Move, number: 1 }));
        for wrong in ["", "crash", "crash:x", "quake:1"] {
            Schedule::parse_only(wrong).expect_err(wrong);
        }
        Schedule::parse_without("rain").expect_err("no such condition");
    }

    #[test]
    fn what_is_left_out_is_out_of_the_plan() {
        let without: BTreeSet<Condition> = Condition::ALL.into_iter().collect();
        for seed in 0..50 {
            let mut plan = Plan::draw(seed);
            Schedule { only: None, without: without.clone() }.apply(&mut plan);
            assert_eq!((plan.net.loss, plan.net.duplicate, plan.resend), (0.0, 0.0, 0.0));
            assert_eq!((plan.net.delay_max, &plan.disk), (NetPlan::calm().delay_max, &DiskPlan::calm()));
        }
    }
}
