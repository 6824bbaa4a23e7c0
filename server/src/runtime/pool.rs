//! A fixed number of threads and a queue of closures.
//!
//! The queue is first in, first out, and may have a bound, above which work is refused. A panic of a closure is caught
//! and handed to the one who waits for its result; the thread goes on. Threads end when the last handle is gone and
//! the queue is empty.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Why a closure has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full.
    #[error("the queue is full")]
    Full,
    /// It panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The pool has ended.
    #[error("the pool is closed")]
    Closed,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    max_waiting: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code of ours runs under this lock but queue operations, which do not leave it half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue when the last handle goes.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.ready.notify_all();
    }
}

/// A handle to a pool.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("waiting", &self.waiting()).finish()
    }
}

impl Pool {
    /// Starts threads with an unbounded queue: for callers that bound their own work.
    pub fn start(name: &str, threads: usize) -> Self {
        Self::bounded(name, threads, usize::MAX)
    }

    /// Starts threads with a queue of at most `max_waiting` closures.
    pub fn bounded(name: &str, threads: usize, max_waiting: usize) -> Self {
        let shared =
            Arc::new(Shared { queue: Mutex::new(Queue::default()), ready: Condvar::new(), max_waiting });
        for index in 0..threads.max(1) {
            let shared = Arc::clone(&shared);
            let thread =
                std::thread::Builder::new().name(format!("{name}-{index}")).spawn(move || work(&shared));
            thread.expect("the system gives threads at start");
        }
        Self { owner: Arc::new(Owner(shared)) }
    }

    /// Runs a closure on one of the threads. Dropping the future does not stop a closure that has begun; one that has
    /// not begun is skipped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (reply, result) = oneshot::channel();
        let job = move || {
            if !reply.is_closed() {
                // The waiter is told of the panic, and it alone holds what the closure may have left half done.
                let outcome = catch_unwind(AssertUnwindSafe(work));
                let _ = reply.send(outcome.map_err(|panic| PoolError::Panicked(message(&*panic))));
            }
        };
        {
            let mut queue = self.owner.0.lock();
            if queue.closed {
                return Err(PoolError::Closed);
            }
            if queue.jobs.len() >= self.owner.0.max_waiting {
                return Err(PoolError::Full);
            }
            queue.jobs.push_back(Box::new(job));
        }
        self.owner.0.ready.notify_one();
        result.await.unwrap_or(Err(PoolError::Closed))
    }

    /// Number of closures that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.owner.0.lock().jobs.len()
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut queue = shared.lock();
            loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.closed {
                    return;
                }
                queue = shared.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        job();
    }
}

/// Text of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn results_come_back() {
        let pool = Pool::start("test", 2);
        let sums = futures_util::future::join_all((0..100).map(|n| pool.run(move || n * 2))).await;
        assert_eq!(sums.into_iter().map(Result::unwrap).sum::<i32>(), 9900);
    }

    #[tokio::test]
    async fn a_panic_reaches_the_waiter_and_the_thread_lives() {
        let pool = Pool::start("test", 1);
        let error = pool.run(|| panic!("broken {}", 1)).await.unwrap_err();
        assert_eq!(error, PoolError::Panicked("broken 1".to_owned()));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let pool = Pool::bounded("test", 1, 1);
        let (release, held) = mpsc::channel::<()>();
        let (started, begun) = mpsc::channel::<()>();
        let holder = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    started.send(()).unwrap();
                    held.recv().unwrap();
                })
                .await
            }
        });
        tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        let mut waiting = Box::pin(pool.run(|| 1));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(pool.run(|| 2).await, Err(PoolError::Full));
        release.send(()).unwrap();
        holder.await.unwrap().unwrap();
        assert_eq!(waiting.await, Ok(1));
    }
}
