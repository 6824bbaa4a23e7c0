//! [`SimRuntime`]: the runtime seam on the simulator's executor.
//!
//! openraft and `cluster` reach it through static functions, so the executor is found through a thread-local that
//! `block_on` sets. tokio's oneshot, mpsc and mutex need no tokio runtime and wake in order of arrival, so they are
//! used as they are; the watch channel is our own (`sim::watch`).

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use openraft_rt::{AsyncRuntime, Instant, Oneshot, OneshotSender, OptionalSend};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::sim::executor::{self, Executor, Place};
use crate::sim::watch::SimWatch;

/// tokio's channels, by the only path that needs no further dependency.
type Channels = openraft::impls::TokioRuntime;
type ResultSlot = <Channels as AsyncRuntime>::Oneshot;

/// A simulated world: tasks, time and randomness under one seed.
pub struct SimRuntime {
    executor: Arc<Executor>,
}

impl SimRuntime {
    /// A world whose every choice follows from `seed`.
    pub fn with_seed(seed: u64) -> Self {
        Self { executor: Executor::new(seed) }
    }

    /// Hash over all that happened so far: tasks polled, times, messages, acknowledgements. Two runs of a seed are
    /// the same run if and only if their hashes agree.
    pub fn trace_hash(&self) -> u64 {
        self.executor.hash()
    }

    /// Number of times a task was polled.
    pub fn polls(&self) -> u64 {
        self.executor.polls()
    }

    /// Prints what happens to standard error, with virtual times.
    pub fn set_trace(&mut self, on: bool) {
        self.executor.set_trace(on);
    }

    /// Starts a task in a place (`spawn` uses the place of the running task).
    pub fn spawn_on<T>(place: Place, future: T) -> SimJoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        let (result, receiver) = ResultSlot::channel();
        let task = async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            let outcome = outcome.map_err(|payload| {
                let message = panic_message(payload.as_ref());
                executor::note_panic(&message);
                SimJoinError::Panic(message)
            });
            // The handle may be gone: the task was detached.
            let _ = result.send(outcome);
        };
        executor::spawn_boxed(place, Box::pin(task));
        SimJoinHandle { receiver }
    }
}

impl Drop for SimRuntime {
    fn drop(&mut self) {
        self.executor.clear();
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRuntime").finish_non_exhaustive()
    }
}

/// The message of a panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

impl AsyncRuntime for SimRuntime {
    type JoinError = SimJoinError;
    type JoinHandle<T: OptionalSend + 'static> = SimJoinHandle<T>;
    type Sleep = SimSleep;
    type Instant = SimInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = SimTimeout<T>;
    type ThreadLocalRng = SmallRng;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Self::spawn_on(executor::current_place(), future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Self::sleep_until(SimInstant::now() + duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        SimSleep { timer: executor::new_timer(deadline.0), waiting: false }
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        SimTimeout { future: Box::pin(future), sleep: Self::sleep(duration) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        SimTimeout { future: Box::pin(future), sleep: Self::sleep_until(deadline) }
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        matches!(join_error, SimJoinError::Panic(_))
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SmallRng::seed_from_u64(executor::place_random())
    }

    type Mpsc = <Channels as AsyncRuntime>::Mpsc;
    type Watch = SimWatch;
    type Oneshot = <Channels as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Channels as AsyncRuntime>::Mutex<T>;

    fn new(_threads: usize) -> Self {
        Self::with_seed(0)
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.executor.block_on(future)
    }

    /// Refused: a thread ends when it likes, and then two runs of a seed differ. Work goes through `Env::run_step`.
    fn spawn_blocking<F, T>(_f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        std::future::ready(Err(io::Error::new(io::ErrorKind::Unsupported, "the simulator runs no threads")))
    }
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimJoinError {
    /// It panicked.
    #[error("task panicked: {0}")]
    Panic(String),
    /// Its place was killed.
    #[error("task was killed")]
    Killed,
}

/// Waits for a task's result.
pub struct SimJoinHandle<T: Send + 'static> {
    receiver: <ResultSlot as Oneshot>::Receiver<Result<T, SimJoinError>>,
}

impl<T: Send + 'static> Future for SimJoinHandle<T> {
    type Output = Result<T, SimJoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(cx).map(|received| received.unwrap_or(Err(SimJoinError::Killed)))
    }
}

/// An instant on the clock of the place where it was taken, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimInstant(u64);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for SimInstant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for SimInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for SimInstant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

impl SubAssign<Duration> for SimInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for SimInstant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Instant for SimInstant {
    fn now() -> Self {
        Self(executor::local_now())
    }
}

/// Ends when virtual time reaches its deadline. The deadline is fixed when the value is made; a later change of the
/// place's clock rate does not move it.
#[derive(Debug)]
pub struct SimSleep {
    timer: (u64, u64),
    waiting: bool,
}

impl Future for SimSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let due = executor::poll_timer(self.timer, cx.waker());
        self.waiting = !due;
        if due { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for SimSleep {
    fn drop(&mut self) {
        if self.waiting {
            executor::cancel_timer(self.timer);
        }
    }
}

/// The deadline came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline has elapsed")]
pub struct Elapsed;

/// A future with a deadline. The future goes first: one that is ready at the deadline counts.
pub struct SimTimeout<F> {
    future: Pin<Box<F>>,
    sleep: SimSleep,
}

impl<F: Future> Future for SimTimeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

#[cfg(test)]
mod tests;
