//! The production environment of a node: `cluster`'s seam on tokio, real disks and TCP.
//!
//! The simulator's counterpart is `chaos::sim`. What each method promises is said at the trait; this file only says
//! where the work goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::env::{Env, StepKind};
use storage::fs::faulty::FaultyFs;
use storage::fs::undo::UndoFs;
use storage::wal::LogWriter;

use super::faults::Faults;
use super::pool::PoolError;
use super::{StepPools, log_writer, now_ms};
use crate::peer::{PeerNet, PeerStats};
use crate::telemetry::metrics::LogMetrics;

/// Exit code of a node that stopped because its log or an invariant failed (`EX_SOFTWARE`).
pub const ABORT_EXIT_CODE: i32 = 70;

/// The production environment of a node.
#[derive(Clone)]
pub struct TokioEnv {
    fs: FaultyFs<UndoFs>,
    net: PeerNet,
    pools: StepPools,
    log: LogMetrics,
    aborting: Arc<AtomicBool>,
    on_abort: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for TokioEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokioEnv").finish_non_exhaustive()
    }
}

impl TokioEnv {
    /// An environment whose abort ends the process. `faults` are what chaos does to its disk.
    pub fn new(net: PeerNet, log: LogMetrics, faults: Faults) -> Self {
        Self::with_abort(net, log, faults, |_| std::process::exit(ABORT_EXIT_CODE))
    }

    /// An environment with another end, for tests.
    pub fn with_abort(
        net: PeerNet,
        log: LogMetrics,
        faults: Faults,
        on_abort: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            fs: FaultyFs::new(UndoFs::new(faults.undo), faults.disk),
            net,
            pools: StepPools::start(),
            log,
            aborting: Arc::new(AtomicBool::new(false)),
            on_abort: Arc::new(on_abort),
        }
    }

    /// The pools, for metrics.
    pub fn pools(&self) -> &StepPools {
        &self.pools
    }

    /// Counters of the network.
    pub fn net_stats(&self) -> Arc<PeerStats> {
        self.net.stats()
    }
}

impl Env for TokioEnv {
    type Runtime = openraft_rt_tokio::TokioRuntime;
    type Fs = FaultyFs<UndoFs>;
    type Net = PeerNet;

    fn fs(&self) -> &Self::Fs {
        &self.fs
    }

    fn net(&self) -> &PeerNet {
        &self.net
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    fn random_u64(&self) -> u64 {
        rand::random()
    }

    async fn run_step<T: Send + 'static>(
        &self,
        kind: StepKind,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self.pools.of(kind).run(step).await {
            Ok(result) => result,
            Err(PoolError::Panicked(message)) => {
                self.abort(&format!("a {} step panicked: {message}", kind.as_str()));
                std::future::pending().await
            }
            // The pools close when the process ends; nobody waits for this step any more.
            Err(PoolError::Closed | PoolError::Full) => std::future::pending().await,
        }
    }

    fn start_log_writer(&self, writer: LogWriter<Self::Fs>) {
        let env = self.clone();
        let failed = move |reason: &str| env.abort(&format!("the log is lost: {reason}"));
        if let Err(error) = log_writer::start(writer, self.log.clone(), failed) {
            self.abort(&format!("no thread for the log: {error}"));
        }
    }

    fn abort(&self, reason: &str) {
        if !self.aborting.swap(true, Ordering::SeqCst) {
            tracing::error!(reason, "the node stops for good");
            (self.on_abort)(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::peer::PeerOptions;
    use crate::telemetry::Metrics;

    async fn env() -> (TokioEnv, mpsc::UnboundedReceiver<String>) {
        let options = PeerOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            tls: None,
            keep_alive: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            max_in_flight_bytes: 1 << 20,
            dial_map: BTreeMap::new(),
        };
        let net = PeerNet::start(tokio::runtime::Handle::current(), options).await.unwrap();
        let (aborted, reasons) = mpsc::unbounded_channel();
        let env = TokioEnv::with_abort(net, Metrics::new().log, Faults::default(), move |reason| {
            let _ = aborted.send(reason.to_owned());
        });
        (env, reasons)
    }

    #[tokio::test]
    async fn steps_of_every_kind_run() {
        let (env, _) = env().await;
        for kind in StepKind::ALL {
            assert_eq!(env.run_step(kind, move || kind.as_str().len()).await, kind.as_str().len());
        }
    }

    #[tokio::test]
    async fn a_step_that_panics_ends_the_node_and_gives_nothing_back() {
        let (env, mut reasons) = env().await;
        let step = env.run_step(StepKind::Apply, || panic!("an invariant"));
        tokio::select! {
            () = step => panic!("the step has no result"),
            reason = reasons.recv() => assert!(reason.unwrap().contains("an invariant")),
        }
        // Once is enough.
        env.abort("again");
        assert!(reasons.try_recv().is_err());
    }
}
