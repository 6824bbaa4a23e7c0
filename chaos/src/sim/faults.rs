//! The fault scheduler: one task per kind of fault, each striking at random times of its own stream.
//!
//! Faults are drawn without regard to each other, so that they meet: a disk fails while the network is cut while a leader
//! moves. One rule keeps a run meaningful: a disk is only *wiped* while every group is whole elsewhere, because losing
//! two disks at once may lose data, and no promise covers that. Crashes have no such rule: synced bytes survive them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::status::NodeStatus;
use openraft_rt::AsyncRuntime;
use protocol::ids::{META_GROUP, ShardId};
use rand::RngExt;
use rand::rngs::SmallRng;
use storage::fs::mem::{CrashMode, FaultOp};

use crate::sim::cluster::{SimCluster, replicas_of};
use crate::sim::executor::{self, Place, RATE_ONE};
use crate::sim::random::{Stream, chance, stream};
use crate::sim::runtime::SimRuntime;
use crate::sim::schedule::{Kind, Schedule, Strike};

/// How often each kind struck.
#[derive(Debug, Default)]
pub struct Strikes {
    /// Processes and machines that crashed, power cuts counted by machine.
    pub crashes: AtomicU64,
    /// Cuts of the network.
    pub partitions: AtomicU64,
    /// Disks that were full for a while.
    pub full_disks: AtomicU64,
    /// Failed reads, writes or syncs that were armed.
    pub disk_errors: AtomicU64,
    /// Clocks that jumped or changed their rate.
    pub clocks: AtomicU64,
    /// Leader transfers asked for.
    pub transfers: AtomicU64,
    /// Flushes asked for.
    pub flushes: AtomicU64,
    /// Disks that were lost.
    pub replacements: AtomicU64,
    /// Replicas that were moved.
    pub moves: AtomicU64,
}

impl Strikes {
    /// Counts by name.
    pub fn counts(&self) -> [(&'static str, u64); 9] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("crashes", of(&self.crashes)),
            ("partitions", of(&self.partitions)),
            ("full disks", of(&self.full_disks)),
            ("disk errors", of(&self.disk_errors)),
            ("clock faults", of(&self.clocks)),
            ("leader transfers", of(&self.transfers)),
            ("flushes", of(&self.flushes)),
            ("replacements", of(&self.replacements)),
            ("moves", of(&self.moves)),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Strikes until told to stop.
#[derive(Clone)]
pub struct Faults {
    cluster: SimCluster,
    stop: Arc<AtomicBool>,
    strikes: Arc<Strikes>,
    schedule: Arc<Schedule>,
    done: Arc<Mutex<Vec<(Strike, Duration)>>>,
}

impl Kind {
    /// How long a strike holds up the next of its kind.
    fn lasts(self, rng: &mut SmallRng) -> Duration {
        match self {
            Self::Partition => Duration::from_secs_f64(rng.random_range(0.2..12.0)),
            Self::DiskFull => Duration::from_secs_f64(rng.random_range(1.0..12.0)),
            _ => Duration::ZERO,
        }
    }
}

impl Faults {
    /// Starts to strike as the plan and the schedule say.
    pub fn start(cluster: &SimCluster, schedule: &Schedule) -> Self {
        let faults = Self {
            cluster: cluster.clone(),
            stop: Arc::default(),
            strikes: Arc::default(),
            schedule: Arc::new(schedule.clone()),
            done: Arc::default(),
        };
        let plan = cluster.plan();
        for (kind, mean) in [
            (Kind::Crash, plan.crash),
            (Kind::PowerCut, plan.power_cut),
            (Kind::Partition, plan.partition),
            (Kind::DiskFull, plan.disk_full),
            (Kind::DiskError, plan.disk_error),
            (Kind::Clock, plan.clock),
            (Kind::Transfer, plan.transfer),
            (Kind::Flush, plan.flush),
            (Kind::Replace, plan.replace),
            (Kind::Move, plan.moves),
        ] {
            if let Some(mean) = mean {
                let faults = faults.clone();
                SimRuntime::spawn(faults.run(kind, mean));
            }
        }
        faults
    }

    /// Ends all faults; what is broken stays so until it is mended.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How often each kind struck.
    pub fn strikes(&self) -> &Strikes {
        &self.strikes
    }

    /// What struck, and when.
    pub fn done(&self) -> Vec<(Strike, Duration)> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn run(self, kind: Kind, mean: Duration) {
        let seed = self.cluster.plan().seed;
        let mut times = stream(seed, Stream::Faults, kind as u64);
        for number in 1.. {
            // Exponential: strikes come in clusters and gaps, as they do.
            let wait = mean.mul_f64(-times.random_range(1e-9_f64..1.0).ln()).min(mean * 4);
            SimRuntime::sleep(wait).await;
            if self.stopped() {
                return;
            }
            let strike = Strike { kind, number };
            let mut rng = stream(seed, Stream::Faults, strike.stream());
            let lasts = kind.lasts(&mut rng);
            if !self.schedule.has(strike) {
                // The next of the kind comes when it would have come.
                SimRuntime::sleep(lasts).await;
                continue;
            }
            executor::say(|| format!("{strike} strikes"));
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push((strike, executor::elapsed()));
            match kind {
                Kind::Crash => self.crash(&mut rng),
                Kind::PowerCut => self.power_cut(&mut rng),
                Kind::Partition => self.partition(&mut rng, lasts).await,
                Kind::DiskFull => self.fill_disk(&mut rng, lasts).await,
                Kind::DiskError => self.fail_disk(&mut rng),
                Kind::Clock => self.move_clock(&mut rng),
                Kind::Transfer => self.transfer(&mut rng).await,
                Kind::Flush => self.flush(&mut rng).await,
                Kind::Replace => self.replace(&mut rng),
                Kind::Move => self.move_replica(&mut rng).await,
            }
        }
    }

    /// A machine: any, or the leader of some group.
    fn target(&self, rng: &mut SmallRng) -> usize {
        let any = rng.random_range(0..self.cluster.len());
        if chance(rng, 0.5) {
            return any;
        }
        let group = rng.random_range(0..=self.cluster.plan().shards);
        let leads =
            |(at, node): (usize, crate::sim::cluster::SimNode)| node.leads(ShardId(group)).then_some(at);
        self.cluster.nodes().into_iter().find_map(leads).unwrap_or(any)
    }

    fn downtime(&self, rng: &mut SmallRng) -> Duration {
        // Mostly short: a cluster without a quorum does nothing worth watching.
        let share = rng.random::<f64>().powi(3);
        self.cluster.plan().downtime_max.mul_f64(share)
    }

    fn crash(&self, rng: &mut SmallRng) {
        let at = self.target(rng);
        if self.cluster.is_down(at) {
            return;
        }
        count(&self.strikes.crashes);
        if chance(rng, 0.3) {
            // Somewhere inside one of the next steps, between two operations of the disk.
            self.cluster.excuse(at);
            self.cluster.machine(at).fail_power_after(rng.random_range(1..300));
        } else {
            self.cluster.crash(at, crash_mode(rng), self.downtime(rng));
        }
    }

    /// Crashes a machine that runs, whatever the plan says.
    pub fn crash_one(&self) {
        if let Some((at, _)) = self.cluster.nodes().first() {
            count(&self.strikes.crashes);
            self.cluster.crash(*at, CrashMode::DropUnsynced, Duration::from_millis(500));
        }
    }

    fn power_cut(&self, rng: &mut SmallRng) {
        for at in 0..self.cluster.len() {
            if !self.cluster.is_down(at) {
                count(&self.strikes.crashes);
                let mode = CrashMode::POWER[rng.random_range(0..CrashMode::POWER.len())];
                let rest = Duration::from_secs_f64(rng.random_range(0.0..3.0));
                self.cluster.crash(at, mode, rest);
            }
        }
    }

    async fn partition(&self, rng: &mut SmallRng, lasts: Duration) {
        count(&self.strikes.partitions);
        let one = Place(self.target(rng) as u32 + 1);
        let others: Vec<Place> =
            (1..=self.cluster.len() as u32).map(Place).filter(|place| *place != one).collect();
        let shape = rng.random_range(0..4);
        let links: Vec<(Place, Place)> = match shape {
            // Nothing in, nothing out.
            0 | 3 => others.iter().flat_map(|o| [(one, *o), (*o, one)]).collect(),
            // It hears all and nobody hears it, or the other way round.
            1 if chance(rng, 0.5) => others.iter().map(|o| (one, *o)).collect(),
            1 => others.iter().map(|o| (*o, one)).collect(),
            // One link, both ways: the third still sees both.
            _ => {
                let other = others[rng.random_range(0..others.len())];
                vec![(one, other), (other, one)]
            }
        };
        executor::say(|| format!("cut {links:?} for {lasts:?}"));
        let flapping = shape == 3;
        let end = executor::elapsed() + lasts;
        loop {
            for (from, to) in &links {
                self.cluster.network().cut(*from, *to);
            }
            let left = end.saturating_sub(executor::elapsed());
            let pause =
                if flapping { left.min(Duration::from_millis(rng.random_range(50..900))) } else { left };
            SimRuntime::sleep(pause).await;
            for (from, to) in &links {
                self.cluster.network().mend(*from, *to);
            }
            if self.stopped() || executor::elapsed() >= end {
                return;
            }
            SimRuntime::sleep(Duration::from_millis(rng.random_range(50..900))).await;
        }
    }

    async fn fill_disk(&self, rng: &mut SmallRng, lasts: Duration) {
        count(&self.strikes.full_disks);
        let all = chance(rng, 0.2);
        let first = rng.random_range(0..self.cluster.len());
        let targets = if all { (0..self.cluster.len()).collect() } else { vec![first] };
        for at in &targets {
            let room = rng.random_range(0..100_000);
            self.cluster.excuse(*at);
            let disk = self.cluster.machine(*at).disk();
            disk.set_quota(Some(disk.used_bytes() + room));
            executor::say(|| format!("disk of machine {} has {room} bytes left for {lasts:?}", at + 1));
        }
        SimRuntime::sleep(lasts).await;
        for at in targets {
            self.cluster.machine(at).disk().set_quota(None);
        }
    }

    fn fail_disk(&self, rng: &mut SmallRng) {
        let at = self.target(rng);
        if self.cluster.is_down(at) {
            return;
        }
        count(&self.strikes.disk_errors);
        let op = if chance(rng, 0.6) { FaultOp::Sync } else { FaultOp::Write };
        let path_part = ["", "wal", "shards"][rng.random_range(0..3)];
        executor::say(|| format!("next {op:?} of {path_part:?} fails on machine {}", at + 1));
        self.cluster.excuse(at);
        self.cluster.machine(at).disk().fail_next(op, path_part);
    }

    fn move_clock(&self, rng: &mut SmallRng) {
        count(&self.strikes.clocks);
        let at = rng.random_range(0..self.cluster.len());
        let machine = self.cluster.machine(at);
        if chance(rng, 0.5) {
            let by_ms = rng.random_range(-3_600_000..=3_600_000);
            executor::say(|| format!("clock of machine {} jumps by {by_ms} ms", at + 1));
            machine.jump_clock(by_ms);
        } else {
            let rate = rng.random_range(RATE_ONE * 9 / 10..=RATE_ONE * 11 / 10);
            executor::say(|| format!("clock of machine {} runs at {rate} ppm", at + 1));
            executor::set_rate(machine.place(), rate);
        }
    }

    async fn transfer(&self, rng: &mut SmallRng) {
        count(&self.strikes.transfers);
        let at = self.target(rng);
        let group = ShardId(rng.random_range(0..=self.cluster.plan().shards));
        self.cluster.on_node(at, move |node| async move { node.transfer_leader(group).await }).await;
    }

    async fn flush(&self, rng: &mut SmallRng) {
        count(&self.strikes.flushes);
        let at = self.target(rng);
        let limit = Duration::from_secs(10);
        self.cluster.on_node(at, move |node| async move { node.force_flush(limit).await.is_ok() }).await;
    }

    fn replace(&self, rng: &mut SmallRng) {
        let at = rng.random_range(0..self.cluster.len());
        if !self.is_whole() {
            return;
        }
        count(&self.strikes.replacements);
        executor::say(|| format!("machine {} loses its disk", at + 1));
        self.cluster.crash(at, CrashMode::DropUnsynced, Duration::from_secs_f64(rng.random_range(0.0..5.0)));
        self.cluster.lose_disk(at, rng.random());
    }

    /// Moves a replica of a random shard to a node that has none, under way while other faults strike.
    async fn move_replica(&self, rng: &mut SmallRng) {
        let statuses = self.cluster.statuses();
        let shard = rng.random_range(1..=self.cluster.plan().shards);
        let holds = |status: &&NodeStatus| status.groups.iter().any(|g| g.pulse.group.0 == shard);
        let (holders, others): (Vec<_>, Vec<_>) = statuses.iter().partition(holds);
        if holders.is_empty() || others.is_empty() {
            return;
        }
        let (from, to) = (holders[rng.random_range(0..holders.len())].id, others[0].id);
        let at = rng.random_range(0..self.cluster.len());
        let moved = self.cluster.on_node(at, move |node| async move {
            node.move_replica(ShardId(shard), from, to, Duration::from_secs(20)).await
        });
        if let Some(Ok(())) = moved.await {
            count(&self.strikes.moves);
            executor::say(|| format!("shard {shard} moved from node {from} to node {to}"));
        }
    }

    /// Whether every group has all its voters on the nodes that run, and all replicas have the whole log.
    fn is_whole(&self) -> bool {
        let statuses = self.cluster.statuses();
        self.cluster.incomplete(&statuses).is_none()
            && (META_GROUP.0..=self.cluster.plan().shards).all(|group| {
                let replicas = replicas_of(&statuses, group);
                replicas.iter().all(|pulse| pulse.last_log == replicas[0].last_log)
            })
    }
}

/// What a crash leaves: mostly the power fails, sometimes only the process dies.
pub fn crash_mode(rng: &mut SmallRng) -> CrashMode {
    if chance(rng, 0.15) {
        CrashMode::Process
    } else {
        CrashMode::POWER[rng.random_range(0..CrashMode::POWER.len())]
    }
}
