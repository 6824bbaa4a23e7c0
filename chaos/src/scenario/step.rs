//! A step as it is written: when, and what.

use rand::RngExt;
use rand::rngs::SmallRng;
use serde::Deserialize;

use super::fault::*;
use super::units::Span;
use super::{ScenarioError, invalid};

/// A step as it is written: when, and one fault.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub at: Span,
    pub every: Option<Span>,
    pub times: Option<u32>,
    kill: Option<Kill>,
    #[serde(rename = "power-cut")]
    power_cut: Option<PowerCut>,
    pause: Option<Pause>,
    restart: Option<Restart>,
    upgrade: Option<Upgrade>,
    partition: Option<Partition>,
    slow: Option<Slow>,
    fill: Option<Fill>,
    #[serde(rename = "slow-disk")]
    slow_disk: Option<SlowDisk>,
    clock: Option<Clock>,
    corrupt: Option<Corrupt>,
    wipe: Option<Wipe>,
    lose: Option<Lose>,
    overload: Option<Overload>,
    hostile: Option<Hostile>,
    mayhem: Option<Mayhem>,
}

impl Step {
    /// The fault of the step, drawn where it is left open. Each way to say it is looked at, so that none is ignored.
    pub fn fault(&self, nodes: usize, random: &mut SmallRng) -> Result<Fault, ScenarioError> {
        let mut found: Vec<Fault> = Vec::new();
        found.extend(self.kill.clone().map(Fault::Kill));
        found.extend(self.power_cut.clone().map(Fault::PowerCut));
        found.extend(self.pause.clone().map(Fault::Pause));
        found.extend(self.restart.clone().map(Fault::Restart));
        found.extend(self.upgrade.clone().map(Fault::Upgrade));
        found.extend(self.partition.clone().map(Fault::Partition));
        found.extend(self.slow.clone().map(Fault::Slow));
        found.extend(self.fill.clone().map(Fault::Fill));
        found.extend(self.slow_disk.clone().map(Fault::SlowDisk));
        found.extend(self.clock.clone().map(Fault::Clock));
        found.extend(self.corrupt.clone().map(Fault::Corrupt));
        found.extend(self.wipe.clone().map(Fault::Wipe));
        found.extend(self.lose.clone().map(Fault::Lose));
        found.extend(self.overload.clone().map(Fault::Overload));
        found.extend(self.hostile.clone().map(Fault::Hostile));
        found.extend(self.mayhem.as_ref().map(|mayhem| mayhem.draw(random)));
        let [fault] = &mut found[..] else {
            return invalid(format!(
                "the step at {} has {} faults; a step has one of kill, power-cut, pause, restart, upgrade, partition, slow, fill, \
                 slow-disk, clock, corrupt, wipe, lose, overload, hostile, mayhem",
                self.at,
                found.len()
            ));
        };
        let is_restart = matches!(fault, Fault::Restart(_) | Fault::Upgrade(_));
        if let Some(target) = fault.target_mut() {
            match *target {
                Target::Any => *target = Target::Node(random.random_range(1..=nodes)),
                Target::Node(number) if !(1..=nodes).contains(&number) => {
                    return invalid(format!("there is no node:{number} among {nodes}"));
                }
                Target::Each if !is_restart => {
                    return invalid("the target each is for restarts and upgrades");
                }
                _ => {}
            }
        }
        Ok(fault.clone())
    }
}
