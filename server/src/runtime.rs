//! Where everything runs in production: two tokio runtimes, thread pools for steps, one thread for the log.
//!
//! ```text
//! io runtime      sockets, Raft, timers                 nothing holds a thread for more than half a millisecond
//! query runtime   coordinators of queries               evaluation may hold a thread for long
//! step pools      apply | merge | all else              `storage` offers steps, `Env::run_step` sends them here
//! scan pool       fragments of queries                  `wiring::Fragments`; shared out by query, see [`fair`]
//! log writer      one thread                            write, sync, call back, for all groups of the node
//! ```
//!
//! Apply, merge and scan have threads of their own, so that neither a long merge delays an acknowledgement or a flush
//! nor a long query either. [`TokioEnv`] is the production side of `cluster`'s seam; the simulator's is `chaos::sim`.
//!
//! A step that panics has broken an invariant of ours: the node aborts. So does it when a log sync fails: what is on
//! disk is unknown then, and only a restart's replay can tell (a retried sync lies, see the error conventions).

pub mod env;
pub mod fair;
pub mod faults;
mod log_writer;
pub mod pool;

use std::future::Future;
use std::time::{SystemTime, UNIX_EPOCH};

use cluster::env::StepKind;
use tokio::runtime::{Builder, Handle, Runtime};

pub use env::{ABORT_EXIT_CODE, TokioEnv};
use pool::Pool;

/// Plans of SQL are walked by recursion, as deep as a statement's longest chain of operators, which `sql` bounds. Only
/// what is used of a stack takes memory.
const THREAD_STACK_BYTES: usize = 16 << 20;

/// Number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The tokio runtimes. Kept by `main`, which drops them last.
#[derive(Debug)]
pub struct Runtimes {
    /// Sockets, Raft, timers.
    pub io: Runtime,
    /// Coordinators of queries.
    pub query: Runtime,
}

impl Runtimes {
    /// Starts both.
    pub fn start() -> std::io::Result<Self> {
        let build = |name: &'static str, threads: usize| {
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(name)
                .thread_stack_size(THREAD_STACK_BYTES)
                .enable_all()
                .build()
        };
        // At least two: a single busy thread would delay heartbeats.
        let threads = cores().max(2);
        Ok(Self { io: build("pharos-io", threads)?, query: build("pharos-query", threads)? })
    }
}

/// The pools of threads that run steps.
#[derive(Clone, Debug)]
pub struct StepPools {
    apply: Pool,
    merge: Pool,
    rest: Pool,
}

impl StepPools {
    /// Starts the threads.
    pub fn start() -> Self {
        let cores = cores();
        Self {
            apply: Pool::start("pharos-apply", cores.clamp(1, 8)),
            // Half the cores: merging is to keep up, not to win.
            merge: Pool::start("pharos-merge", cores.div_ceil(2)),
            rest: Pool::start("pharos-work", cores.clamp(2, 8)),
        }
    }

    /// The pool for a kind of step.
    pub fn of(&self, kind: StepKind) -> &Pool {
        match kind {
            StepKind::Apply => &self.apply,
            StepKind::Merge => &self.merge,
            _ => &self.rest,
        }
    }

    /// Name and number of waiting steps of each pool.
    pub fn waiting(&self) -> [(&'static str, usize); 3] {
        [("apply", self.apply.waiting()), ("merge", self.merge.waiting()), ("work", self.rest.waiting())]
    }
}

/// Wall clock in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(faults::clock_offset_ms())
}

/// Wall clock in nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).saturating_add(faults::clock_offset_ms() * 1_000_000)
}

/// Starts a named task on the io runtime that must not end by a panic unnoticed.
pub fn spawn_named(io: &Handle, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    let task = io.spawn(task);
    io.spawn(async move {
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!(task = name, %error, "a task panicked");
        }
    });
}
