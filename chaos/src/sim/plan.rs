//! What a seed has in store: how bad network, disks and clocks are, which faults strike and how often.
//!
//! Every seed draws its own rates, and switches whole kinds off: a run in which only the network is bad explores other
//! states than one in which everything breaks at once, and a run that is nearly healthy reaches depths (flushes,
//! merges, snapshots) which a storm never lets it reach.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::sim::machine::DiskPlan;
use crate::sim::net::NetPlan;
use crate::sim::random::{Stream, chance, stream};

/// No machine is away for so long.
const PATIENT: Duration = Duration::from_secs(300);

/// Copies of each shard.
pub const REPLICAS: usize = 3;

/// The plan of one seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Machines at the start.
    pub nodes: usize,
    /// Data shards.
    pub shards: u16,
    /// The network while faults strike.
    pub net: NetPlan,
    /// The disks while faults strike.
    pub disk: DiskPlan,
    /// Mean time between crashes of one process or machine.
    pub crash: Option<Duration>,
    /// Mean time between power cuts of all machines at once.
    pub power_cut: Option<Duration>,
    /// Mean time between cuts of the network.
    pub partition: Option<Duration>,
    /// Mean time between full disks.
    pub disk_full: Option<Duration>,
    /// Mean time between failing writes and syncs.
    pub disk_error: Option<Duration>,
    /// Mean time between jumps of a clock or changes of its rate.
    pub clock: Option<Duration>,
    /// Mean time between leader transfers asked for.
    pub transfer: Option<Duration>,
    /// Mean time between flushes asked for.
    pub flush: Option<Duration>,
    /// Mean time between replacements: a machine loses its disk and joins as a new member.
    pub replace: Option<Duration>,
    /// Mean time between moves of a replica to the node that has none. Only with more machines than replicas.
    pub moves: Option<Duration>,
    /// How long a node may be silent before others take its replicas over; less than some downtimes in seeds that have a
    /// machine to spare.
    pub rebuild_after: Duration,
    /// Longest time a crashed machine stays down.
    pub downtime_max: Duration,
    /// Number of clients.
    pub clients: usize,
    /// Longest pause of a client between requests.
    pub think_max: Duration,
    /// Probability that a client sends an acknowledged batch again.
    pub resend: f64,
    /// Memtable size that makes a shard flush.
    pub flush_bytes: u64,
    /// Size of the log's files.
    pub wal_segment_bytes: u64,
    /// How long faults strike at least.
    pub safety: Duration,
    /// Whether processes are started with this build or one that knows an epoch less, as it comes.
    pub mixed_builds: bool,
    /// Probability that a client deletes log records instead of writing.
    pub deletes: f64,
}

fn seconds(rng: &mut SmallRng, low: f64, high: f64) -> Duration {
    Duration::from_secs_f64(rng.random_range(low..high))
}

/// A number between two, with equal weight to each order of magnitude.
fn spread(rng: &mut SmallRng, low: f64, high: f64) -> f64 {
    (rng.random_range(low.ln()..high.ln())).exp()
}

/// A mean time between faults of a kind that this seed may not have at all.
fn sometimes(rng: &mut SmallRng, probability: f64, low: f64, high: f64) -> Option<Duration> {
    let on = chance(rng, probability);
    let mean = Duration::from_secs_f64(spread(rng, low, high));
    on.then_some(mean)
}

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let rng = &mut stream(seed, Stream::Plan, 0);
        // A storm that never lets two messages through teaches nothing: the worst rates come alone.
        let bad_net = chance(rng, 0.6);
        let net = NetPlan {
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_secs_f64(spread(rng, 0.001, if bad_net { 0.06 } else { 0.01 })),
            loss: if bad_net { spread(rng, 0.001, 0.2) } else { 0.0 },
            duplicate: if chance(rng, 0.6) { spread(rng, 0.005, 0.3) } else { 0.0 },
            reset: rng.random_range(0.2..1.0),
        };
        let slow_disk = chance(rng, 0.25);
        let disk = DiskPlan {
            sync_min: Duration::from_micros(200),
            sync_max: Duration::from_secs_f64(spread(rng, 0.002, if slow_disk { 0.5 } else { 0.02 })),
            stall_chance: if slow_disk { spread(rng, 0.0002, 0.005) } else { 0.0 },
            stall: seconds(rng, 0.5, 5.0),
            step_max: Duration::from_secs_f64(spread(rng, 0.002, 0.5)),
        };
        let mut plan = Self {
            seed,
            nodes: 3,
            shards: 2,
            net,
            disk,
            // Never off: a run without a crash is no test of recovery.
            crash: Some(seconds(rng, 6.0, 20.0)),
            power_cut: sometimes(rng, 0.3, 15.0, 60.0),
            partition: sometimes(rng, 0.6, 4.0, 30.0),
            disk_full: sometimes(rng, 0.25, 15.0, 60.0),
            disk_error: sometimes(rng, 0.3, 10.0, 60.0),
            clock: sometimes(rng, 0.4, 5.0, 40.0),
            transfer: sometimes(rng, 0.4, 3.0, 30.0),
            flush: sometimes(rng, 0.7, 2.0, 20.0),
            replace: sometimes(rng, 0.25, 15.0, 40.0),
            moves: None,
            rebuild_after: PATIENT,
            downtime_max: Duration::from_secs_f64(spread(rng, 0.5, 30.0)),
            clients: rng.random_range(3..=4),
            think_max: Duration::from_secs_f64(rng.random_range(0.12..0.25)),
            resend: if chance(rng, 0.7) { rng.random_range(0.0..0.2) } else { 0.0 },
            flush_bytes: spread(rng, 8_000.0, 200_000.0) as u64,
            wal_segment_bytes: spread(rng, 16_384.0, 1_048_576.0) as u64,
            safety: Duration::from_secs(60),
            mixed_builds: false,
            deletes: 0.0,
        };
        if chance(rng, 0.25) {
            plan.nodes = REPLICAS + 1;
            plan.moves = Some(seconds(rng, 3.0, 20.0));
            if chance(rng, 0.5) {
                plan.rebuild_after = seconds(rng, 3.0, 10.0);
                // Some machine has to be away for that long.
                plan.downtime_max = plan.downtime_max.max(plan.rebuild_after * 4);
            }
        }
        plan.mixed_builds = chance(rng, 0.25);
        if chance(rng, 0.5) {
            plan.deletes = spread(rng, 0.005, 0.05);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_repeat_and_differ() {
        assert_eq!(Plan::draw(4), Plan::draw(4));
        assert_ne!(Plan::draw(4).net, Plan::draw(5).net);
    }

    #[test]
    fn every_kind_is_on_in_some_seeds_and_off_in_others() {
        let plans: Vec<Plan> = (0..200).map(Plan::draw).collect();
        let kinds: [fn(&Plan) -> bool; 12] = [
            |p| p.power_cut.is_some(),
            |p| p.partition.is_some(),
            |p| p.disk_full.is_some(),
            |p| p.disk_error.is_some(),
            |p| p.clock.is_some(),
            |p| p.replace.is_some(),
            |p| p.moves.is_some(),
            |p| p.rebuild_after < p.downtime_max,
            |p| p.net.loss > 0.0,
            |p| p.net.duplicate > 0.0,
            |p| p.mixed_builds,
            |p| p.deletes > 0.0,
        ];
        for (number, kind) in kinds.iter().enumerate() {
            let on = plans.iter().filter(|p| kind(p)).count();
            assert!((20..180).contains(&on), "kind {number} is on in {on} of 200 seeds");
        }
        assert!(plans.iter().all(|p| p.crash.is_some() && p.safety >= Duration::from_secs(60)));
        assert!(plans.iter().all(|p| p.net.loss <= 0.2 && p.net.duplicate <= 0.3));
        assert!(plans.iter().all(|p| p.net.delay_max <= Duration::from_millis(60)));
    }
}
