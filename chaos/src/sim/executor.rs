//! The executor: one thread, virtual time, a seeded choice of who runs next, and tasks that belong to places.
//!
//! ```text
//! wake -> ready list -> (seeded pick) -> poll -> pending | done
//!                 empty -> clock jumps to the earliest timer -> wakes
//! ```
//!
//! A *place* is a node, or the world outside of all nodes (clients, the fault scheduler). A task is born in the place
//! of the task that spawns it. [`kill`] drops every task of a place where it stands, which is always an await: that is
//! what a crash looks like from inside. A place then has no life until [`revive`]; whatever its tasks' destructors
//! try to spawn is dropped at once.
//!
//! Each place has a clock of its own rate, so that leases and timeouts meet drifting clocks.
//!
//! Invariants: the state's lock is not held while a future is polled or dropped (both call back into here); every
//! decision goes into the trace hash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::sim::random::{Stream, mix, stream};

/// Where a task lives: a node, or the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u32);

impl Place {
    /// Outside of all nodes. It is never killed and its clock is right.
    pub const WORLD: Self = Self(0);
}

/// Virtual time starts one day in, so that code which subtracts a timeout from now stays above zero.
const EPOCH_NANOS: u64 = 86_400 * 1_000_000_000;

/// Polls at one instant after which tasks are taken to be spinning.
const MAX_POLLS_PER_INSTANT: u64 = 1_000_000;

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Names a task: its slot, and the count of tasks spawned before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TaskId {
    slot: u32,
    number: u64,
}

/// The future given to `block_on` has no slot.
const MAIN: TaskId = TaskId { slot: u32::MAX, number: 0 };

struct Task {
    number: u64,
    place: Place,
    /// `None` while it is being polled.
    future: Option<TaskFuture>,
    waker: Arc<TaskWaker>,
}

/// Tasks that can go on. Shared with wakers, hence the only part that must be `Sync`.
struct Ready(Mutex<Vec<TaskId>>);

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Vec<TaskId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct TaskWaker {
    id: TaskId,
    /// Set from wake to poll, so that a task stands in the list once.
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().push(self.id);
        }
    }
}

struct PlaceState {
    alive: bool,
    rng: SmallRng,
    /// Local time at `base_global`.
    base_local: u64,
    base_global: u64,
    /// Local nanoseconds per million global ones.
    rate: u64,
    /// Panics of tasks of this place, oldest first.
    panics: Vec<String>,
}

impl PlaceState {
    fn local(&self, global: u64) -> u64 {
        self.base_local + scale(global - self.base_global, self.rate, RATE_ONE)
    }

    fn global(&self, local: u64) -> u64 {
        self.base_global + scale(local.saturating_sub(self.base_local), RATE_ONE, self.rate)
    }
}

/// The rate of a clock that is right.
pub const RATE_ONE: u64 = 1_000_000;

fn scale(nanos: u64, by: u64, over: u64) -> u64 {
    if by == over {
        return nanos;
    }
    let scaled = (u128::from(nanos) * u128::from(by)).div_ceil(u128::from(over));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

struct State {
    now: u64,
    seed: u64,
    scheduler: SmallRng,
    tasks: Vec<Option<Task>>,
    free_slots: Vec<u32>,
    next_number: u64,
    timers: BTreeMap<(u64, u64), Waker>,
    next_timer: u64,
    places: Vec<PlaceState>,
    current: Place,
    current_task: u64,
    doomed: Vec<Place>,
    polls_at_instant: u64,
    polls: u64,
    hash: u64,
    trace: bool,
}

/// One simulated world.
pub(crate) struct Executor {
    state: Mutex<State>,
    ready: Arc<Ready>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Executor>>> = const { RefCell::new(None) };
}

struct Enter(Option<Arc<Executor>>);

impl Drop for Enter {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| *current.borrow_mut() = self.0.take());
    }
}

fn current() -> Arc<Executor> {
    CURRENT
        .with(|current| current.borrow().clone())
        .expect("the simulator's clock, tasks and timers exist only inside SimRuntime::block_on")
}

fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    CURRENT.with(|current| {
        let current = current.borrow();
        let executor = current
            .as_ref()
            .expect("the simulator's clock, tasks and timers exist only inside SimRuntime::block_on");
        let mut state = executor.lock();
        f(&mut state)
    })
}

impl State {
    fn place(&mut self, place: Place) -> &mut PlaceState {
        while self.places.len() <= place.0 as usize {
            let number = self.places.len() as u64;
            let now = self.now;
            self.places.push(PlaceState {
                alive: true,
                rng: stream(self.seed, Stream::Node, number),
                base_local: now,
                base_global: now,
                rate: RATE_ONE,
                panics: Vec::new(),
            });
        }
        &mut self.places[place.0 as usize]
    }

    fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn say(&self, line: impl FnOnce() -> String) {
        if self.trace {
            let at = Duration::from_nanos(self.now - EPOCH_NANOS);
            let _ = writeln!(std::io::stderr(), "{:>12.6} [{}] {}", at.as_secs_f64(), self.current.0, line());
        }
    }
}

impl Executor {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let mut state = State {
            now: EPOCH_NANOS,
            seed,
            scheduler: stream(seed, Stream::Scheduler, 0),
            tasks: Vec::new(),
            free_slots: Vec::new(),
            next_number: 1,
            timers: BTreeMap::new(),
            next_timer: 0,
            places: Vec::new(),
            current: Place::WORLD,
            current_task: 0,
            doomed: Vec::new(),
            polls_at_instant: 0,
            polls: 0,
            hash: mix(seed),
            trace: false,
        };
        state.place(Place::WORLD);
        Arc::new(Self { state: Mutex::new(state), ready: Arc::new(Ready(Mutex::new(Vec::new()))) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hash(&self) -> u64 {
        self.lock().hash
    }

    pub(crate) fn polls(&self) -> u64 {
        self.lock().polls
    }

    pub(crate) fn set_trace(&self, on: bool) {
        self.lock().trace = on;
    }

    fn enter(self: &Arc<Self>) -> Enter {
        Enter(CURRENT.with(|current| current.borrow_mut().replace(self.clone())))
    }

    /// Runs `future` until it is done, polling tasks and moving time as needed.
    pub(crate) fn block_on<F: Future>(self: &Arc<Self>, future: F) -> F::Output {
        let _enter = self.enter();
        let mut future = std::pin::pin!(future);
        let main =
            Arc::new(TaskWaker { id: MAIN, queued: AtomicBool::new(false), ready: self.ready.clone() });
        let main_waker = Waker::from(main.clone());
        main.wake_by_ref();
        loop {
            self.bury();
            match self.pick() {
                Some(MAIN) => {
                    main.queued.store(false, Ordering::Relaxed);
                    self.begin(Place::WORLD, 0);
                    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&main_waker)) {
                        self.bury();
                        // A wake-up of the future that has just ended must not reach the next one.
                        self.ready.lock().retain(|&id| id != MAIN);
                        return output;
                    }
                }
                Some(id) => self.poll(id),
                None => self.jump(),
            }
        }
    }

    fn pick(&self) -> Option<TaskId> {
        let mut ready = self.ready.lock();
        match ready.len() {
            0 => None,
            1 => ready.pop(),
            len => {
                let at = self.lock().scheduler.random_range(0..len);
                Some(ready.swap_remove(at))
            }
        }
    }

    fn begin(&self, place: Place, number: u64) {
        let mut state = self.lock();
        state.current = place;
        state.current_task = number;
        state.polls += 1;
        state.polls_at_instant += 1;
        assert!(
            state.polls_at_instant < MAX_POLLS_PER_INSTANT,
            "tasks spin: {MAX_POLLS_PER_INSTANT} polls while time stood still, the last one of a task of place {}",
            place.0
        );
        let now = state.now;
        state.mix(number << 1 | 1);
        state.mix(now);
    }

    fn poll(&self, id: TaskId) {
        let taken = {
            let mut state = self.lock();
            match state.tasks.get_mut(id.slot as usize).and_then(Option::as_mut) {
                Some(task) if task.number == id.number => {
                    task.waker.queued.store(false, Ordering::Relaxed);
                    task.future.take().map(|future| (future, task.waker.clone(), task.place))
                }
                // The task ended or was killed before its wake-up was served.
                _ => None,
            }
        };
        let Some((mut future, waker, place)) = taken else { return };
        self.begin(place, id.number);
        let polled = future.as_mut().poll(&mut Context::from_waker(&Waker::from(waker)));
        let mut state = self.lock();
        match polled {
            Poll::Pending => {
                if let Some(task) = state.tasks[id.slot as usize].as_mut().filter(|t| t.number == id.number) {
                    task.future = Some(future);
                    return;
                }
            }
            Poll::Ready(()) => {
                state.tasks[id.slot as usize] = None;
                state.free_slots.push(id.slot);
            }
        }
        drop(state);
        drop(future);
        self.lock().current = Place::WORLD;
    }

    /// Moves the clock to the earliest timer and wakes all that are due then.
    fn jump(&self) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            let Some((&(deadline, _), _)) = state.timers.first_key_value() else {
                panic!(
                    "the simulated world stands still: the main future waits, nothing can run, no timer is set"
                );
            };
            if deadline > state.now {
                state.now = deadline;
                state.polls_at_instant = 0;
            }
            let later = state.timers.split_off(&(deadline + 1, 0));
            std::mem::replace(&mut state.timers, later).into_values().collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Drops the tasks of places that were killed.
    fn bury(&self) {
        loop {
            let dead: Vec<Task> = {
                let mut state = self.lock();
                let Some(place) = state.doomed.pop() else { return };
                state.current = place;
                let mut dead = Vec::new();
                for slot in 0..state.tasks.len() {
                    if state.tasks[slot].as_ref().is_some_and(|task| task.place == place) {
                        dead.extend(state.tasks[slot].take());
                        state.free_slots.push(slot as u32);
                    }
                }
                dead
            };
            // Outside of the lock: destructors cancel timers, close channels and may try to spawn.
            drop(dead);
            self.lock().current = Place::WORLD;
        }
    }

    /// Drops all tasks.
    pub(crate) fn clear(self: &Arc<Self>) {
        let _enter = self.enter();
        let count = self.lock().places.len() as u32;
        for place in (0..count).map(Place) {
            let mut state = self.lock();
            state.place(place).alive = false;
            state.doomed.push(place);
        }
        self.bury();
    }
}

/// Starts a task in a place. In a dead place the future is dropped.
pub(crate) fn spawn_boxed(place: Place, future: TaskFuture) {
    let executor = current();
    let waker = {
        let mut state = executor.lock();
        if !state.place(place).alive {
            drop(state);
            drop(future);
            return;
        }
        let number = state.next_number;
        state.next_number += 1;
        let slot = match state.free_slots.pop() {
            Some(slot) => slot,
            None => {
                state.tasks.push(None);
                (state.tasks.len() - 1) as u32
            }
        };
        let id = TaskId { slot, number };
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: executor.ready.clone() });
        state.tasks[slot as usize] = Some(Task { number, place, future: Some(future), waker: waker.clone() });
        waker
    };
    waker.wake_by_ref();
}

/// The place whose task runs now.
pub fn current_place() -> Place {
    with(|state| state.current)
}

/// Kills a place: its tasks are dropped as soon as the running poll returns, and nothing new starts there.
pub fn kill(place: Place) {
    assert!(place != Place::WORLD, "the world outlives the simulation");
    with(|state| {
        state.place(place).alive = false;
        state.doomed.push(place);
        state.mix(0xdead ^ u64::from(place.0) << 32);
        state.say(|| format!("place {} is killed", place.0));
    });
}

/// Gives a killed place a new life.
pub fn revive(place: Place) {
    with(|state| {
        state.place(place).alive = true;
        state.mix(0xa11e ^ u64::from(place.0) << 32);
        state.say(|| format!("place {} lives", place.0));
    });
}

/// Whether tasks can run in a place.
pub fn is_alive(place: Place) -> bool {
    with(|state| state.place(place).alive)
}

/// Virtual time since the start of the run, by the world's clock.
pub fn elapsed() -> Duration {
    with(|state| Duration::from_nanos(state.now - EPOCH_NANOS))
}

/// Changes how fast a place's clock runs; [`RATE_ONE`] is right.
pub fn set_rate(place: Place, rate: u64) {
    with(|state| {
        let now = state.now;
        let clock = state.place(place);
        clock.base_local = clock.local(now);
        clock.base_global = now;
        clock.rate = rate.max(1);
    });
}

/// Local time of a place in nanoseconds.
pub(crate) fn local_now() -> u64 {
    with(|state| {
        let (now, place) = (state.now, state.current);
        state.place(place).local(now)
    })
}

/// Local time of a place since the start of the run.
pub fn local_elapsed(place: Place) -> Duration {
    with(|state| {
        let now = state.now;
        Duration::from_nanos(state.place(place).local(now) - EPOCH_NANOS)
    })
}

/// Turns a deadline of the running task's clock into a timer: (global deadline, number).
pub(crate) fn new_timer(local_deadline: u64) -> (u64, u64) {
    with(|state| {
        let place = state.current;
        let deadline = state.place(place).global(local_deadline);
        state.next_timer += 1;
        (deadline, state.next_timer)
    })
}

/// Registers or refreshes a timer; true if it is due already.
pub(crate) fn poll_timer(timer: (u64, u64), waker: &Waker) -> bool {
    with(|state| {
        if state.now >= timer.0 {
            return true;
        }
        match state.timers.get_mut(&timer) {
            Some(known) if known.will_wake(waker) => {}
            Some(known) => *known = waker.clone(),
            None => {
                state.timers.insert(timer, waker.clone());
            }
        }
        false
    })
}

/// Forgets a timer. Quiet outside of a run: the world may be gone when its last handles are dropped.
pub(crate) fn cancel_timer(timer: (u64, u64)) {
    let _ = CURRENT.try_with(|current| {
        if let Ok(current) = current.try_borrow()
            && let Some(executor) = current.as_ref()
        {
            executor.lock().timers.remove(&timer);
        }
    });
}

/// A random number of the running task's place.
pub fn place_random() -> u64 {
    with(|state| {
        let place = state.current;
        state.place(place).rng.random()
    })
}

/// Puts a fact into the trace hash (an ack, a message's fate).
pub fn note(fact: u64) {
    with(|state| state.mix(mix(fact)));
}

/// Prints a line with the virtual time when tracing is on.
pub fn say(line: impl FnOnce() -> String) {
    with(|state| state.say(line));
}

/// Records the panic of a task of the running place.
pub(crate) fn note_panic(message: &str) {
    with(|state| {
        let place = state.current;
        state.place(place).panics.push(message.to_owned());
        state.say(|| format!("panic: {message}"));
    });
}

/// Panics of tasks since the last call, with their places.
pub fn take_panics() -> Vec<(Place, String)> {
    with(|state| {
        let mut panics = Vec::new();
        for (number, place) in state.places.iter_mut().enumerate() {
            panics.extend(place.panics.drain(..).map(|message| (Place(number as u32), message)));
        }
        panics
    })
}
