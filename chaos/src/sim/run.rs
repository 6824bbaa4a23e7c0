//! One seed from an empty cluster to a judgement, and ranges of seeds for tests, CI and soaking.
//!
//! ```text
//! found the cluster (calm) -> safety (faults, clients, checks; 60 s and a thousand acknowledgements)
//!   -> heal (all faults end, all machines up) -> liveness (30 s: leaders, no change under way, all caught up, write, read)
//!   -> full read-back through every node -> flush: equal digests
//! ```
//!
//! The report of a failed seed names the command that runs it again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use rand::RngExt;
use serde::Serialize;
use storage::fs::mem::CrashMode;

use crate::sim::checks::Checks;
use crate::sim::clients::{Client, Outcome};
use crate::sim::cluster::{SimCluster, replicas_of};
use crate::sim::executor;
use crate::sim::faults::{Faults, crash_mode};
use crate::sim::machine::DiskPlan;
use crate::sim::net::NetPlan;
use crate::sim::oracle::{Counts, Oracle, Violation, invariant};
use crate::sim::plan::{Plan, REPLICAS};
use crate::sim::random::{Stream, stream};
use crate::sim::runtime::SimRuntime;
use crate::sim::schedule::{Schedule, Strike};

/// Acknowledged batches that a run must reach.
const MIN_ACKED: u64 = 1_000;
/// How long founding may take.
const FOUNDING: Duration = Duration::from_secs(60);
/// How long after healing the cluster may take to work again.
const LIVENESS: Duration = Duration::from_secs(30);
/// How much longer clients may go on after healing to reach [`MIN_ACKED`].
const CATCH_UP: Duration = Duration::from_secs(300);

/// How to run seeds.
#[derive(Clone, Debug, Default)]
pub struct SimOptions {
    /// Print what happens, with virtual times, to standard error.
    pub trace: bool,
    /// What happens of what the seed has in store.
    pub schedule: Schedule,
}

/// What a seed came to.
#[derive(Clone, Debug, Serialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// Broken invariants.
    pub violations: Vec<Violation>,
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// What clients did and saw.
    pub counts: Counts,
    /// How often each kind of fault struck.
    pub strikes: Vec<(&'static str, u64)>,
    /// What struck, and when.
    #[serde(skip)]
    pub struck: Vec<(Strike, Duration)>,
    /// What of the seed happened.
    #[serde(skip_serializing_if = "Schedule::is_everything")]
    pub schedule: Schedule,
    /// Polls of tasks.
    pub polls: u64,
}

impl SeedReport {
    /// Whether nothing was broken.
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }

    /// The command that runs this seed again.
    pub fn replay(&self) -> String {
        format!("pharos chaos sim --seed {}{} --trace", self.seed, self.schedule.flags())
    }
}

/// What a range of seeds came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Seeds that ran.
    pub seeds: u64,
    /// Simulated time of all.
    pub simulated: Duration,
    /// Real time of all.
    pub real: Duration,
    /// Acknowledged batches of all.
    pub acked_batches: u64,
    /// How often each kind of fault struck in all.
    pub strikes: BTreeMap<&'static str, u64>,
    /// Seeds that broke an invariant.
    pub failed: Vec<SeedReport>,
}

impl Report {
    /// Whether no seed failed.
    pub fn passed(&self) -> bool {
        self.failed.is_empty()
    }

    fn add(&mut self, seed: SeedReport) {
        self.seeds += 1;
        self.simulated += seed.simulated;
        self.acked_batches += seed.counts.acked_batches;
        for (kind, count) in &seed.strikes {
            *self.strikes.entry(*kind).or_default() += count;
        }
        if !seed.passed() {
            self.failed.push(seed);
        }
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let speed = self.simulated.as_secs_f64() / self.real.as_secs_f64().max(1e-9);
        let _ = writeln!(
            out,
            "{} seeds, {:.1} simulated hours in {:.0} s ({speed:.0} times real time), {} acknowledged batches, {} failed",
            self.seeds,
            self.simulated.as_secs_f64() / 3600.0,
            self.real.as_secs_f64(),
            self.acked_batches,
            self.failed.len()
        );
        let strikes: Vec<_> = self.strikes.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let _ = writeln!(out, "faults: {}", strikes.join(", "));
        for seed in &self.failed {
            let _ = writeln!(out, "seed {}:", seed.seed);
            for violation in seed.violations.iter().take(5) {
                let _ = writeln!(out, "  {violation}");
            }
            if seed.violations.len() > 5 {
                let _ = writeln!(out, "  and {} more", seed.violations.len() - 5);
            }
            let _ = writeln!(out, "  again: {}", seed.replay());
        }
        out
    }
}

/// Runs seeds on as many threads as there are processors; `progress` hears of each seed that ended.
pub fn run(
    seeds: RangeInclusive<u64>,
    options: &SimOptions,
    progress: &(dyn Fn(&SeedReport) + Sync),
) -> Report {
    run_list(&seeds.collect::<Vec<_>>(), options, progress)
}

/// The same for any list of seeds.
pub fn run_list(seeds: &[u64], options: &SimOptions, progress: &(dyn Fn(&SeedReport) + Sync)) -> Report {
    let at = AtomicUsize::new(0);
    run_while(&|| seeds.get(at.fetch_add(1, Ordering::Relaxed)).copied(), options, progress)
}

/// The same for as long as there is a next seed.
pub fn run_while(
    next: &(dyn Fn() -> Option<u64> + Sync),
    options: &SimOptions,
    progress: &(dyn Fn(&SeedReport) + Sync),
) -> Report {
    let started = std::time::Instant::now();
    let report = Mutex::new(Report::default());
    let work = || {
        while let Some(seed) = next() {
            let seed = run_seed(seed, options);
            progress(&seed);
            report.lock().unwrap_or_else(PoisonError::into_inner).add(seed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failed.sort_by_key(|seed| seed.seed);
    report.real = started.elapsed();
    report
}

/// Runs one seed.
pub fn run_seed(seed: u64, options: &SimOptions) -> SeedReport {
    let mut plan = Plan::draw(seed);
    options.schedule.apply(&mut plan);
    let mut runtime = SimRuntime::with_seed(seed);
    runtime.set_trace(options.trace);
    let oracle = Oracle::default();
    let mut run = None;
    // The harness runs in the same thread: what panics there (a world that stands still, tasks that spin) is a finding.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let simulation = Simulation::new(&plan, &options.schedule, &oracle);
            run = Some(simulation.run().await);
        });
    }));
    let mut violations = oracle.violations();
    if let Err(panic) = ended {
        let what =
            format!("the simulation ended early: {}", crate::sim::runtime::panic_message(panic.as_ref()));
        violations.push(Violation { invariant: invariant::NO_PANIC, at: Duration::ZERO, what });
    }
    let (simulated, Struck { counts: strikes, list: struck }) = run.unwrap_or_default();
    SeedReport {
        seed,
        violations,
        trace_hash: runtime.trace_hash(),
        simulated,
        counts: oracle.counts(),
        strikes,
        struck,
        schedule: options.schedule.clone(),
        polls: runtime.polls(),
    }
}

/// What struck: how often each kind, and each one with its time.
#[derive(Default)]
struct Struck {
    counts: Vec<(&'static str, u64)>,
    list: Vec<(Strike, Duration)>,
}

type Figures = (Duration, Struck);

struct Simulation {
    cluster: SimCluster,
    schedule: Schedule,
    oracle: Oracle,
}

impl Simulation {
    fn new(plan: &Plan, schedule: &Schedule, oracle: &Oracle) -> Self {
        executor::say(|| format!("{plan:#?}"));
        let cluster = SimCluster::new(plan, oracle);
        Self { cluster, schedule: schedule.clone(), oracle: oracle.clone() }
    }

    fn broken(&self, what: impl Into<String>) {
        self.oracle.violate(invariant::LIVENESS, what.into());
    }

    async fn run(self) -> Figures {
        let stop_checks = Arc::new(AtomicBool::new(false));
        let checks = SimRuntime::spawn(Checks::new(&self.cluster).run(stop_checks.clone()));
        let mut strikes = Struck::default();
        if self.found().await {
            strikes = self.safety_and_after().await;
        }
        stop_checks.store(true, Ordering::Relaxed);
        // The checks end at their next look; a panic in them is noted with the world's place.
        let _ = checks.await;
        (executor::elapsed(), strikes)
    }

    /// From empty machines to a cluster whose shards have all their replicas.
    async fn found(&self) -> bool {
        self.cluster.boot(0, true);
        let first = self.cluster.wait(FOUNDING, || self.cluster.node(0).is_some()).await;
        if !first {
            self.broken("the first node did not start");
            return false;
        }
        for at in 1..self.cluster.len() {
            self.cluster.boot(at, false);
        }
        let whole = self.cluster.wait(FOUNDING, || self.unsettled().is_none()).await;
        if let (false, Some(why)) = (whole, self.unsettled()) {
            self.broken(format!("the cluster was not complete after {FOUNDING:?}: {why}"));
        }
        whole
    }

    async fn safety_and_after(&self) -> Struck {
        let plan = self.cluster.plan().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..plan.clients as u32)
            .map(|number| {
                SimRuntime::spawn(Client::new(number, &self.cluster, stop.clone()).run_and_return())
            })
            .collect();
        self.cluster.network().set_plan(plan.net.clone());
        for at in 0..self.cluster.len() {
            self.cluster.machine(at).set_disk_plan(plan.disk.clone());
        }
        let faults = Faults::start(&self.cluster, &self.schedule);
        let mut rng = stream(plan.seed, Stream::Faults, 0);
        let end = executor::elapsed() + plan.safety;
        while executor::elapsed() < end && !self.oracle.is_violated() {
            self.cluster.tend(|| {
                let rest = plan.downtime_max.mul_f64(rng.random::<f64>().powi(2));
                (rest, crash_mode(&mut rng))
            });
            SimRuntime::sleep(Duration::from_millis(20)).await;
        }
        let has_crashed = faults.strikes().crashes.load(Ordering::Relaxed) > 0;
        if !has_crashed && self.schedule.is_everything() && !self.oracle.is_violated() {
            // A run without a crash is no test of recovery: luck alone must not spare a seed.
            faults.crash_one();
            SimRuntime::sleep(Duration::from_secs(1)).await;
        }
        faults.stop();
        let strikes = Struck { counts: faults.strikes().counts().to_vec(), list: faults.done() };
        self.heal();
        if !self.oracle.is_violated() {
            let acked = || self.oracle.counts().acked_batches >= MIN_ACKED;
            if !self.cluster.wait(CATCH_UP, acked).await {
                let acked = self.oracle.counts().acked_batches;
                self.broken(format!(
                    "only {acked} batches were acknowledged, {CATCH_UP:?} after healing; {}",
                    self.cluster.leaderless()
                ));
            }
        }
        stop.store(true, Ordering::Relaxed);
        let mut idle = Vec::new();
        for client in clients {
            // A client that panicked is in the list of panics already.
            idle.extend(client.await);
        }
        if !self.oracle.is_violated() {
            self.liveness(&mut idle).await;
        }
        if !self.oracle.is_violated() {
            self.read_back(&mut idle).await;
        }
        strikes
    }

    /// Ends all that is broken.
    fn heal(&self) {
        executor::say(|| "heal".to_owned());
        self.cluster.network().mend_all();
        self.cluster.network().set_plan(NetPlan::calm());
        for at in 0..self.cluster.len() {
            let machine = self.cluster.machine(at);
            machine.mend_clock();
            machine.set_disk_plan(DiskPlan::calm());
            let disk = machine.disk();
            disk.set_quota(None);
            disk.clear_faults();
            if machine.has_lost_power() {
                self.cluster.crash(at, CrashMode::DropUnsynced, Duration::ZERO);
            }
        }
        self.cluster.end_downtimes();
    }

    /// Why the cluster is not settled: incomplete, a group without one leader, someone behind.
    fn unsettled(&self) -> Option<String> {
        let statuses = self.cluster.statuses();
        if let Some(why) = self.cluster.incomplete(&statuses) {
            return Some(why);
        }
        for group in 0..=self.cluster.plan().shards {
            let replicas = replicas_of(&statuses, group);
            let leader = replicas[0].leader;
            if leader.is_none() || replicas.iter().any(|r| r.leader != leader) {
                let leaders: Vec<_> = replicas.iter().map(|r| r.leader).collect();
                return Some(format!("group {group}: leaders {leaders:?}"));
            }
            if replicas.iter().any(|r| r.applied != replicas[0].applied || r.applied != r.last_log) {
                let at: Vec<_> = replicas.iter().map(|r| (r.applied, r.last_log)).collect();
                return Some(format!("group {group}: applied and last {at:?}"));
            }
        }
        None
    }

    /// For whoever looks for what holds the cluster up.
    fn say_state(&self) {
        for status in self.cluster.statuses() {
            for group in status.groups {
                executor::say(|| format!("node {}: {:?} {:?}", status.id, group.pulse, group.error));
            }
        }
        for (_, node) in self.cluster.nodes() {
            executor::say(|| format!("node {} wants {:?}", node.id(), node.meta().shards));
        }
    }

    async fn liveness(&self, clients: &mut [Client]) {
        let settled = self.cluster.wait(LIVENESS, || self.unsettled().is_none()).await;
        if let (false, Some(why)) = (settled, self.unsettled()) {
            self.say_state();
            self.broken(format!("not settled {LIVENESS:?} after healing: {why}"));
            return;
        }
        let Some(client) = clients.first_mut() else { return };
        let deadline = executor::elapsed() + LIVENESS;
        if client.write().await != Some(Outcome::Acknowledged) {
            self.broken("a write after healing was not acknowledged");
        }
        for at in 0..self.cluster.len() {
            let mut answered = false;
            while !answered && executor::elapsed() < deadline {
                answered = client.read_through(at, true).await;
                SimRuntime::sleep(Duration::from_millis(100)).await;
            }
            if !answered {
                self.broken(format!("machine {} answers no linearizable read after healing", at + 1));
            }
        }
    }

    async fn read_back(&self, clients: &mut [Client]) {
        for client in clients.iter_mut() {
            for at in 0..self.cluster.len() {
                if !client.read_through(at, false).await {
                    self.broken(format!("machine {} could not read everything back", at + 1));
                }
            }
        }
        let limit = Duration::from_secs(60);
        let flushed = self.cluster.on_node(0, move |node| async move {
            node.force_flush(limit).await.map_err(|error| error.to_string())
        });
        match flushed.await {
            Some(Ok(())) => {}
            Some(Err(error)) => self.broken(format!("a healthy cluster does not flush: {error}")),
            None => self.broken("the first node is gone although nothing broke it"),
        }
        let equal = self.cluster.wait(LIVENESS, || self.digests_differ().is_none()).await;
        if let (false, Some(why)) = (equal, self.digests_differ()) {
            self.oracle.violate(invariant::SAME_STATE, format!("replicas differ in the end: {why}"));
        }
        for client in clients.iter_mut() {
            if !client.read(false).await {
                self.broken("could not read everything back after the flush");
            }
        }
        for at in 0..self.cluster.len() {
            self.cluster.look_at_disk(at);
        }
    }

    /// Which shard's replicas do not show the same position and digest.
    fn digests_differ(&self) -> Option<String> {
        let statuses = self.cluster.statuses();
        let replicas = self.cluster.len().min(REPLICAS);
        for group in 1..=self.cluster.plan().shards {
            let of_group = |s: &cluster::status::NodeStatus| {
                s.groups.iter().find(|g| g.pulse.group.0 == group).and_then(|g| g.data.clone())
            };
            let states: Vec<_> = statuses
                .iter()
                .filter_map(of_group)
                .map(|d| (d.digest_index, d.digest, d.segments))
                .collect();
            if states.len() != replicas || states.windows(2).any(|w| w[0] != w[1]) {
                return Some(format!("shard {group}: {states:?}"));
            }
        }
        None
    }
}
