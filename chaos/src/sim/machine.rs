//! A simulated machine: a place with an address, a disk, a clock, and processes that come and go.
//!
//! [`Machine::boot`] gives a new process its world as a [`SimEnv`]. [`Machine::crash`] ends the process between two of
//! its awaits and decides what the disk kept; [`SimEnv::abort`] is a crash that the process asked for. The disk, the
//! clock's offset and rate belong to the machine and outlive processes.
//!
//! Work off the reactor ([`Env::run_step`]) is a delay and then the step, in line: a crash comes before or after it,
//! never inside, unless the power is set to fail at the n-th disk operation ([`Machine::fail_power_after`]).

use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use cluster::env::{Env, StepKind};
use openraft_rt::AsyncRuntime;
use rand::RngExt;
use rand::rngs::SmallRng;
use storage::fs::mem::{CrashMode, MemFs};
use storage::wal::{LogWriter, WalError};

use crate::sim::executor::{self, Place};
use crate::sim::net::{SimNet, SimNetwork};
use crate::sim::random::{Stream, chance, mix, stream};
use crate::sim::runtime::SimRuntime;

/// Wall clock at the start of every run, in milliseconds since 1970: fixed, so that a seed means the same on any day.
pub const WALL_START_MS: i64 = 1_764_000_000_000;

/// How quick a disk is, and what it does wrong by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskPlan {
    /// Shortest time of a log sync.
    pub sync_min: Duration,
    /// Longest time of a log sync.
    pub sync_max: Duration,
    /// Probability that a sync takes `stall`.
    pub stall_chance: f64,
    /// A long pause of the disk.
    pub stall: Duration,
    /// Longest time of a background step (flush, merge, transfer).
    pub step_max: Duration,
}

impl DiskPlan {
    /// A healthy disk.
    pub fn calm() -> Self {
        Self {
            sync_min: Duration::from_micros(200),
            sync_max: Duration::from_millis(4),
            stall_chance: 0.0,
            stall: Duration::ZERO,
            step_max: Duration::from_millis(20),
        }
    }
}

struct State {
    fs: MemFs,
    /// Number of the process that runs or ran last.
    life: u64,
    running: bool,
    aborted: Option<String>,
    plan: DiskPlan,
    rng: SmallRng,
}

struct Inner {
    place: Place,
    addr: String,
    network: SimNetwork,
    clock_offset_ms: AtomicI64,
    state: Mutex<State>,
}

/// A simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

impl Machine {
    /// A machine with an empty disk.
    pub fn new(seed: u64, place: Place, addr: &str, network: &SimNetwork, plan: DiskPlan) -> Self {
        let state = State {
            fs: MemFs::new(mix(seed ^ mix(u64::from(place.0)))),
            life: 0,
            running: false,
            aborted: None,
            plan,
            rng: stream(seed, Stream::Disk, u64::from(place.0)),
        };
        Self(Arc::new(Inner {
            place,
            addr: addr.to_owned(),
            network: network.clone(),
            clock_offset_ms: AtomicI64::new(0),
            state: Mutex::new(state),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its tasks live.
    pub fn place(&self) -> Place {
        self.0.place
    }

    /// Its address.
    pub fn addr(&self) -> &str {
        &self.0.addr
    }

    /// Starts a process: its tasks go to the machine's place from now on.
    pub fn boot(&self) -> SimEnv {
        let mut state = self.state();
        assert!(!state.running, "machine {} runs a process already", self.0.place.0);
        state.running = true;
        state.life += 1;
        state.aborted = None;
        executor::revive(self.0.place);
        let net = self.0.network.attach(self.0.place, &self.0.addr);
        SimEnv { machine: self.clone(), fs: state.fs.clone(), net, life: state.life }
    }

    /// Ends the process and decides what the disk kept. Without a running process it only does the latter.
    pub fn crash(&self, mode: CrashMode) {
        let mut state = self.state();
        state.running = false;
        // From here on the old process can neither read nor write, even if the running poll goes on.
        state.fs = state.fs.crash(mode);
        drop(state);
        executor::kill(self.0.place);
        self.0.network.detach_handler(self.0.place);
    }

    /// Whether a process runs.
    pub fn is_running(&self) -> bool {
        self.state().running
    }

    /// Number of the process that runs or ran last, from 1.
    pub fn life(&self) -> u64 {
        self.state().life
    }

    /// Why the last process ended itself, if it did.
    pub fn aborted(&self) -> Option<String> {
        self.state().aborted.clone()
    }

    /// Replaces the disk by an empty one. Only without a running process.
    pub fn wipe(&self, seed: u64) {
        let mut state = self.state();
        assert!(!state.running, "only a stopped machine loses its disk");
        state.fs = MemFs::new(mix(seed));
    }

    /// The disk, for faults and inspection.
    pub fn disk(&self) -> MemFs {
        self.state().fs.clone()
    }

    /// Lets the power fail at the n-th change to the disk from now: the disk fails first, the process is ended when
    /// [`Machine::has_lost_power`] is noticed.
    pub fn fail_power_after(&self, operations: u64) {
        self.state().fs.power_off_after(operations);
    }

    /// Whether the power failed and the process is still to be ended.
    pub fn has_lost_power(&self) -> bool {
        let state = self.state();
        state.running && !state.fs.is_alive()
    }

    /// Changes how the disk behaves.
    pub fn set_disk_plan(&self, plan: DiskPlan) {
        self.state().plan = plan;
    }

    /// Moves the wall clock.
    pub fn jump_clock(&self, by_ms: i64) {
        self.0.clock_offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Sets the wall clock right and lets it run at the right rate.
    pub fn mend_clock(&self) {
        executor::set_rate(self.0.place, executor::RATE_ONE);
        // The rate may have moved local time away from the world's: the offset takes that back.
        let local = executor::local_elapsed(self.0.place).as_millis() as i64;
        let world = executor::elapsed().as_millis() as i64;
        self.0.clock_offset_ms.store(world - local, Ordering::Relaxed);
    }

    fn wall_ms(&self) -> i64 {
        let local = executor::local_elapsed(self.0.place).as_millis() as i64;
        WALL_START_MS + local + self.0.clock_offset_ms.load(Ordering::Relaxed)
    }

    /// Draws how long the disk takes for a sync of the log.
    pub fn draw_sync(&self) -> Duration {
        let mut state = self.state();
        let State { plan, rng, .. } = &mut *state;
        if chance(rng, plan.stall_chance) {
            return plan.stall;
        }
        draw(rng, plan.sync_min, plan.sync_max)
    }

    fn draw_step(&self, kind: StepKind) -> Duration {
        let mut state = self.state();
        let State { plan, rng, .. } = &mut *state;
        match kind {
            StepKind::Apply | StepKind::Scan => draw(rng, Duration::ZERO, Duration::from_millis(2)),
            StepKind::Open | StepKind::Flush | StepKind::Merge | StepKind::Transfer => {
                draw(rng, Duration::from_micros(100), plan.step_max)
            }
        }
    }
}

/// A duration between two; more often a short one.
fn draw(rng: &mut SmallRng, min: Duration, max: Duration) -> Duration {
    let span = max.saturating_sub(min).as_micros() as u64;
    let drawn = rng.random_range(0..=span).min(rng.random_range(0..=span));
    min + Duration::from_micros(drawn)
}

/// The world of one simulated process.
#[derive(Clone)]
pub struct SimEnv {
    machine: Machine,
    fs: MemFs,
    net: SimNet,
    life: u64,
}

impl SimEnv {
    /// The machine that the process runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }
}

impl Env for SimEnv {
    type Runtime = SimRuntime;
    type Fs = MemFs;
    type Net = SimNet;

    fn fs(&self) -> &MemFs {
        &self.fs
    }

    fn net(&self) -> &SimNet {
        &self.net
    }

    fn now_ms(&self) -> i64 {
        self.machine.wall_ms()
    }

    fn random_u64(&self) -> u64 {
        executor::place_random()
    }

    async fn run_step<T: Send + 'static>(
        &self,
        kind: StepKind,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let delay = self.machine.draw_step(kind);
        SimRuntime::sleep(delay).await;
        step()
    }

    fn start_log_writer(&self, mut writer: LogWriter<MemFs>) {
        let signal = Arc::new(Signal::default());
        let waker = signal.clone();
        writer.set_waker(Box::new(move || waker.wake()));
        let machine = self.machine.clone();
        SimRuntime::spawn(async move {
            loop {
                // The time that the disk takes: meanwhile the next batch gathers, and a crash comes before it is synced.
                SimRuntime::sleep(machine.draw_sync()).await;
                match writer.write_pending() {
                    Ok(0) if writer.is_finished() => return,
                    Ok(0) => signal.wait().await,
                    Ok(_) => {}
                    Err(WalError::NoSpace { .. }) => SimRuntime::sleep(FULL_DISK_PAUSE).await,
                    // The log is poisoned: whoever waited was told, and the node ends itself.
                    Err(error) => {
                        executor::say(|| format!("log writer ends: {error}"));
                        return;
                    }
                }
            }
        });
    }

    fn abort(&self, reason: &str) {
        executor::say(|| format!("abort: {reason}"));
        {
            let mut state = self.machine.state();
            if !state.running || state.life != self.life {
                return;
            }
            state.aborted = Some(reason.to_owned());
        }
        // The process ends, the machine does not: the kernel keeps what was written.
        self.machine.crash(CrashMode::Process);
    }
}

/// Pause before a batch that met a full disk is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(100);

/// Wakes one task; a wake-up that comes while it does not wait is kept.
#[derive(Default)]
struct Signal(Mutex<(bool, Option<Waker>)>);

impl Signal {
    fn wake(&self) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut state.0) {
                return Poll::Ready(());
            }
            state.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use storage::fs::{Fs, FsFile, OpenMode};

    use super::*;
    use crate::sim::net::NetPlan;

    fn machine() -> Machine {
        let network = SimNetwork::new(1, NetPlan::calm());
        Machine::new(1, Place(1), "n1:1", &network, DiskPlan::calm())
    }

    fn write(env: &SimEnv, name: &str, sync: bool) {
        let file = env.fs().open(Path::new(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(0, b"bytes").unwrap();
        if sync {
            file.sync_data().unwrap();
            env.fs().sync_dir(Path::new("/")).unwrap();
        }
    }

    #[test]
    fn a_crash_ends_the_process_and_loses_what_was_not_synced() {
        SimRuntime::with_seed(1).block_on(async {
            let machine = machine();
            let env = machine.boot();
            write(&env, "/kept", true);
            write(&env, "/lost", false);
            let worker = env.clone();
            let task = SimRuntime::spawn_on(machine.place(), async move {
                worker.run_step(StepKind::Merge, || ()).await;
                SimRuntime::sleep(Duration::from_secs(3600)).await;
            });
            SimRuntime::sleep(Duration::from_secs(1)).await;
            machine.crash(CrashMode::DropUnsynced);
            assert!(task.await.is_err());
            assert!(env.fs().exists(Path::new("/kept")).is_err(), "the dead process reads the disk");

            let again = machine.boot();
            assert!(again.fs().exists(Path::new("/kept")).unwrap());
            assert!(!again.fs().exists(Path::new("/lost")).unwrap());
        });
    }

    #[test]
    fn abort_is_a_crash_that_keeps_the_kernel_running() {
        SimRuntime::with_seed(1).block_on(async {
            let machine = machine();
            let env = machine.boot();
            write(&env, "/written", false);
            let worker = env.clone();
            let task = SimRuntime::spawn_on(machine.place(), async move {
                worker.abort("a sync failed");
                worker.abort("again");
                std::future::pending::<()>().await;
            });
            assert!(task.await.is_err());
            assert_eq!(machine.aborted().as_deref(), Some("a sync failed"));
            assert!(!machine.is_running());
            let again = machine.boot();
            assert!(again.fs().exists(Path::new("/written")).unwrap());
            env.abort("from a dead process");
            assert!(machine.is_running(), "only the process that runs can abort");
        });
    }

    #[test]
    fn clocks_jump_and_drift_and_are_mended() {
        SimRuntime::with_seed(1).block_on(async {
            let machine = machine();
            let env = machine.boot();
            executor::set_rate(machine.place(), executor::RATE_ONE * 9 / 10);
            machine.jump_clock(-3_600_000);
            SimRuntime::sleep(Duration::from_secs(10)).await;
            assert_eq!(env.now_ms(), WALL_START_MS + 9_000 - 3_600_000);
            machine.mend_clock();
            assert_eq!(env.now_ms(), WALL_START_MS + 10_000);
            SimRuntime::sleep(Duration::from_secs(10)).await;
            assert_eq!(env.now_ms(), WALL_START_MS + 20_000);
        });
    }

    #[test]
    fn power_can_fail_inside_a_step() {
        SimRuntime::with_seed(1).block_on(async {
            let machine = machine();
            let env = machine.boot();
            machine.fail_power_after(1);
            assert!(env.fs().open(Path::new("/x"), OpenMode::CreateNew).is_err());
            assert!(machine.has_lost_power());
            machine.crash(CrashMode::Torn);
            assert!(!machine.has_lost_power());
        });
    }
}
