//! Threads for parts of queries, shared out among the queries.
//!
//! As many parts run at a time as there are places, however many have begun. A part that runs asks, where it looks
//! whether it is to stop, whether another has a better claim to its place; then its thread waits, with all that the part
//! holds, until it has a place again. So a small query that arrives while a huge one runs waits for about a millisecond,
//! not for the end of it.
//!
//! ```text
//! run ─► waiting ─► [thread] running ─► ended
//!           ▲                   │ pass: another has a better claim
//!           └──── [thread] ◄────┘
//! ```
//!
//! Whose turn it is, is decided by query, not by part ([`schedule`]): each has a virtual time, which moves on by the CPU
//! time that its parts use, and the one that is furthest behind has the best claim. Threads are started as parts need
//! them, and end when they are no longer of use; a query starts no more parts at once than there are places, so that
//! what waits in the middle is bounded.

mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use query::CancelFlag;
use query::exec::Turn;
use tokio::sync::oneshot;

use super::pool::{PoolError, message};
use schedule::{Schedule, Ticket};

/// How often a part that waits in the middle looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Threads at most. They are cheap while they wait: what bounds the work is the places.
const MAX_THREADS: usize = 1024;

type Job = Box<dyn FnOnce(&Arc<Place>) + Send>;

/// Where a part that waits in the middle of its work is woken.
#[derive(Default)]
struct Seat {
    has_place: Mutex<bool>,
    changed: Condvar,
}

struct State {
    schedule: Schedule,
    /// Parts that have not begun.
    jobs: BTreeMap<Ticket, (u64, Job)>,
    /// Parts that wait in the middle.
    seats: HashMap<Ticket, Arc<Seat>>,
    /// Parts that have a place and no thread yet.
    granted: Vec<(u64, Job)>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

struct Shared {
    name: String,
    state: Mutex<State>,
    /// A part has a place and waits for a thread.
    work: Condvar,
    max_waiting: usize,
    begun: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under this lock, and none of ours that may leave the state half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Gives free places to those who have the best claims.
    fn grant(self: &Arc<Self>, state: &mut State) {
        while let Some(ticket) = state.schedule.next(self.now()) {
            if let Some(seat) = state.seats.remove(&ticket) {
                *seat.has_place.lock().unwrap_or_else(PoisonError::into_inner) = true;
                seat.changed.notify_one();
            } else if let Some(job) = state.jobs.remove(&ticket) {
                state.granted.push(job);
            }
        }
        let needed = state.granted.len().saturating_sub(state.idle);
        for _ in 0..needed {
            if state.threads == MAX_THREADS {
                break;
            }
            let shared = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("{}-{}", self.name, state.threads));
            match thread.spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                // The parts wait for a thread that is there already; there is one from the start.
                Err(error) => {
                    tracing::warn!(%error, threads = state.threads, "the system gives no more threads");
                    break;
                }
            }
        }
        if !state.granted.is_empty() {
            self.work.notify_all();
        }
    }

    /// What a thread does.
    fn work(self: &Arc<Self>) {
        let mut state = self.lock();
        loop {
            if let Some((query, job)) = state.granted.pop() {
                drop(state);
                let place =
                    Arc::new(Place { shared: Arc::clone(self), query, slice: Mutex::new(Slice::begin()) });
                job(&place);
                state = self.lock();
                state.schedule.end(query, place.used());
                self.grant(&mut state);
                continue;
            }
            if state.is_closed || state.idle >= state.schedule.places() {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

/// Since when a part has had its place.
struct Slice {
    since: Instant,
    cpu: Option<Duration>,
}

impl Slice {
    fn begin() -> Self {
        Self { since: Instant::now(), cpu: storage::thread_cpu_time() }
    }

    /// CPU time since then; where the system does not count it, all time.
    fn used(&self) -> Duration {
        match (self.cpu, storage::thread_cpu_time()) {
            (Some(then), Some(now)) => now.saturating_sub(then),
            _ => self.since.elapsed(),
        }
    }
}

/// The place of a part that runs.
struct Place {
    shared: Arc<Shared>,
    query: u64,
    slice: Mutex<Slice>,
}

impl Place {
    fn slice(&self) -> MutexGuard<'_, Slice> {
        self.slice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> Duration {
        self.slice().used()
    }
}

impl Turn for Place {
    fn pass(&self, cancel: &CancelFlag) {
        let mut slice = self.slice();
        if slice.since.elapsed() < schedule::SLICE {
            return;
        }
        let used = slice.used();
        let mut state = self.shared.lock();
        let now = self.shared.now();
        if !state.schedule.must_pass(self.query, used, now) {
            drop(state);
            *slice = Slice::begin();
            return;
        }
        let (ticket, seat) = (state.schedule.pass(self.query, now), Arc::<Seat>::default());
        state.seats.insert(ticket, Arc::clone(&seat));
        self.shared.grant(&mut state);
        drop(state);
        let mut has_place = seat.has_place.lock().unwrap_or_else(PoisonError::into_inner);
        while !*has_place {
            let waited = seat.changed.wait_timeout(has_place, LOOK);
            has_place = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !*has_place && cancel.is_canceled() {
                drop(has_place);
                // What is left to do is to unwind: that needs no place, but one may have been given just now.
                let mut state = self.shared.lock();
                if state.seats.remove(&ticket).is_some() {
                    state.schedule.leave(self.query, ticket);
                }
                break;
            }
        }
        *slice = Slice::begin();
    }
}

/// Closes the pool when the last handle goes.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.work.notify_all();
    }
}

/// A handle to a pool.
#[derive(Clone)]
pub struct FairPool {
    owner: Arc<Owner>,
}

impl std::fmt::Debug for FairPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FairPool").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl FairPool {
    /// A pool of so many places. At most `max_waiting` parts may wait to begin.
    pub fn new(name: &str, places: usize, max_waiting: usize) -> Self {
        let state = State {
            schedule: Schedule::new(places.max(1)),
            jobs: BTreeMap::new(),
            seats: HashMap::new(),
            granted: Vec::new(),
            threads: 1,
            idle: 0,
            is_closed: false,
        };
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            state: Mutex::new(state),
            work: Condvar::new(),
            max_waiting,
            begun: Instant::now(),
        });
        let first = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(format!("{name}-0")).spawn(move || first.work());
        thread.expect("the system gives threads at start");
        Self { owner: Arc::new(Owner(shared)) }
    }

    /// Runs a part of a query. It is given its place, to let others pass. Dropping the future does not stop a part that
    /// has begun; one that has not is skipped.
    pub async fn run<T: Send + 'static>(
        &self,
        query: u64,
        part: impl FnOnce(Arc<dyn Turn>) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (reply, result) = oneshot::channel();
        let job = move |place: &Arc<Place>| {
            if !reply.is_closed() {
                let turn: Arc<dyn Turn> = Arc::clone(place) as Arc<dyn Turn>;
                // The waiter is told of the panic, and it alone holds what the part may have left half done.
                let outcome = catch_unwind(AssertUnwindSafe(|| part(turn)));
                let _ = reply.send(outcome.map_err(|panic| PoolError::Panicked(message(&*panic))));
            }
        };
        {
            let shared = &self.owner.0;
            let mut state = shared.lock();
            if state.jobs.len() >= shared.max_waiting {
                return Err(PoolError::Full);
            }
            let ticket = state.schedule.arrive(query, shared.now());
            state.jobs.insert(ticket, (query, Box::new(job)));
            shared.grant(&mut state);
        }
        result.await.unwrap_or(Err(PoolError::Closed))
    }

    /// How many parts run at a time.
    pub fn places(&self) -> usize {
        self.owner.0.lock().schedule.places()
    }

    /// Parts that wait to begin.
    pub fn waiting(&self) -> usize {
        self.owner.0.lock().jobs.len()
    }

    /// Parts that have begun and not ended, those that let others pass included.
    pub fn begun(&self) -> usize {
        let state = self.owner.0.lock();
        state.schedule.running() + state.seats.len()
    }

    /// How often a part has let others pass.
    pub fn passes(&self) -> u64 {
        self.owner.0.lock().schedule.passes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn results_come_back_and_panics_reach_the_waiter() {
        let pool = FairPool::new("test", 2, usize::MAX);
        let sums = join_all((0..100).map(|n| pool.run(n % 7, move |_| n * 2))).await;
        assert_eq!(sums.into_iter().map(Result::unwrap).sum::<u64>(), 9900);
        let error = pool.run(1, |_| panic!("broken {}", 1)).await.unwrap_err();
        assert_eq!(error, PoolError::Panicked("broken 1".to_owned()));
        assert_eq!(pool.run(1, |_| 7).await, Ok(7));
        while pool.begun() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_small_query_ends_while_a_huge_one_has_all_places() {
        let pool = FairPool::new("test", 1, usize::MAX);
        let (started, begun) = mpsc::channel::<()>();
        let (small_ended, end) = mpsc::channel::<()>();
        let huge = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(1, move |turn| {
                    started.send(()).expect("the test waits");
                    let cancel = CancelFlag::default();
                    let mut rounds = 0_u64;
                    // Never ends by itself: only if it lets the other pass.
                    while end.try_recv().is_err() {
                        turn.pass(&cancel);
                        rounds += 1;
                    }
                    rounds
                })
                .await
            }
        });
        tokio::task::spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
        let small = pool.run(2, move |_| small_ended.send(()).is_ok());
        assert_eq!(small.await, Ok(true));
        assert!(huge.await.unwrap().unwrap() > 0);
        assert!(pool.passes() >= 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_part_that_waits_in_the_middle_stops_when_it_is_told_to() {
        let pool = FairPool::new("test", 1, usize::MAX);
        let cancel = CancelFlag::default();
        let (started, begun) = mpsc::channel::<()>();
        let flag = cancel.clone();
        let paused = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(1, move |turn| {
                    started.send(()).expect("the test waits");
                    while !flag.is_canceled() {
                        turn.pass(&flag);
                    }
                })
                .await
            }
        });
        tokio::task::spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (in_place, placed) = mpsc::channel::<()>();
        let holder = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(2, move |_| {
                    in_place.send(()).expect("the test waits");
                    held.recv().expect("the test releases");
                })
                .await
            }
        });
        tokio::task::spawn_blocking(move || placed.recv()).await.unwrap().unwrap();
        // The only place is taken for good, and the first part waits for it.
        cancel.cancel();
        paused.await.unwrap().unwrap();
        release.send(()).unwrap();
        holder.await.unwrap().unwrap();
        assert_eq!(pool.run(3, |_| 3).await, Ok(3), "the place was given back once");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_queue_refuses_and_who_left_is_skipped() {
        let pool = FairPool::new("test", 1, 2);
        let (release, held) = mpsc::channel::<()>();
        let (started, begun) = mpsc::channel::<()>();
        let holder = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(1, move |_| {
                    started.send(()).expect("the test waits");
                    held.recv().expect("the test releases");
                })
                .await
            }
        });
        tokio::task::spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
        let (ran, seen) = mpsc::channel::<()>();
        let mut leaving = Box::pin(pool.run(2, move |_| ran.send(()).is_ok()));
        assert!((&mut leaving).now_or_never().is_none());
        let mut third = Box::pin(pool.run(3, |_| 3));
        assert!((&mut third).now_or_never().is_none());
        assert_eq!(pool.run(4, |_| 4).await, Err(PoolError::Full));
        drop(leaving);
        release.send(()).unwrap();
        holder.await.unwrap().unwrap();
        assert_eq!(third.await, Ok(3));
        assert!(seen.try_recv().is_err(), "nobody waited for it");
    }
}
