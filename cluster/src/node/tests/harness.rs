//! A cluster in one process: tokio, disks in memory, a network of function calls that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::TokioRuntime;
use protocol::batch::{SubBatchBuilder, SubBatchOutcome};
use protocol::ids::{NodeId, SeriesId, ShardId, TenantId};
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use protocol::memory::MemoryLedger;
use storage::fs::mem::{CrashMode, MemFs};
use storage::scan::StoreSnapshot;
use storage::wal::LogWriter;

use crate::env::{Env, Net, NetError, PeerAddr, PeerHandler, StepKind};
use crate::node::{FragmentHandler, FragmentResult, Node, NodeConfig};
use crate::read::Consistency;
use crate::router::shard_writer::ShardWriter;

/// Everything must happen within this. Far more than it takes.
pub const GUARD: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Hub {
    handlers: Mutex<BTreeMap<String, Arc<dyn PeerHandler>>>,
    /// Addresses that hear and say nothing.
    cut: Mutex<BTreeSet<String>>,
    /// Addresses that are heard and hear nothing: no request, and no answer to theirs.
    deaf: Mutex<BTreeSet<String>>,
}

#[derive(Clone)]
pub struct TestNet {
    hub: Arc<Hub>,
    addr: String,
    alive: Arc<AtomicBool>,
}

impl Net for TestNet {
    async fn call(&self, to: &PeerAddr, request: Bytes, timeout: Duration) -> Result<Bytes, NetError> {
        let unreachable = || NetError::Unreachable { addr: to.addr.clone(), reason: "cut off".into() };
        let is_cut = || {
            let cut = self.hub.cut.lock().unwrap();
            !self.alive.load(Ordering::SeqCst) || cut.contains(&self.addr) || cut.contains(&to.addr)
        };
        if is_cut() {
            return Err(unreachable());
        }
        let is_deaf = |addr: &str| self.hub.deaf.lock().unwrap().contains(addr);
        let handler = self.hub.handlers.lock().unwrap().get(&to.addr).cloned().ok_or_else(unreachable)?;
        let arrives = !is_deaf(&to.addr);
        let exchange = async {
            let answer = arrives.then(|| tokio::spawn(async move { handler.handle(request).await }));
            match answer {
                Some(answer) if !is_deaf(&self.addr) => answer.await,
                _ => std::future::pending().await,
            }
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(answer)) if !is_cut() => Ok(answer),
            Ok(_) => Err(NetError::Broken { addr: to.addr.clone(), reason: "cut off".into() }),
            Err(_) => Err(NetError::Timeout { addr: to.addr.clone(), timeout }),
        }
    }

    fn serve(&self, handler: Arc<dyn PeerHandler>) {
        self.hub.handlers.lock().unwrap().insert(self.addr.clone(), handler);
    }
}

#[derive(Clone)]
pub struct TestEnv {
    fs: MemFs,
    net: TestNet,
    alive: Arc<AtomicBool>,
    random: Arc<AtomicU64>,
}

impl Env for TestEnv {
    type Runtime = TokioRuntime;
    type Fs = MemFs;
    type Net = TestNet;

    fn fs(&self) -> &MemFs {
        &self.fs
    }

    fn net(&self) -> &TestNet {
        &self.net
    }

    fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
    }

    fn random_u64(&self) -> u64 {
        let n = self.random.fetch_add(1, Ordering::Relaxed);
        xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes())
    }

    async fn run_step<T: Send + 'static>(&self, _: StepKind, step: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(step).await.expect("a step does not panic")
    }

    fn start_log_writer(&self, mut writer: LogWriter<MemFs>) {
        std::thread::spawn(move || {
            while writer.wait() {
                if writer.write_pending().is_err() {
                    return;
                }
            }
        });
    }

    fn abort(&self, _reason: &str) {
        self.alive.store(false, Ordering::SeqCst);
    }
}

/// Gives the samples of a shard as text, for fragments.
struct Dump;

impl FragmentHandler for Dump {
    fn run(
        &self,
        shards: Vec<(ShardId, StoreSnapshot)>,
        _: Bytes,
    ) -> BoxFuture<'static, Vec<FragmentResult>> {
        let answer = |(shard, snapshot)| (shard, Ok(dump(&snapshot).join(",").into()));
        Box::pin(async move { shards.into_iter().map(answer).collect() })
    }
}

/// Samples of a store as `series=value`, sorted.
pub fn dump(snapshot: &StoreSnapshot) -> Vec<String> {
    let mut samples = Vec::new();
    let all = [Matcher::equal("__name__", "m")];
    snapshot
        .select(&TenantId::default(), &all, i64::MIN, i64::MAX, &mut |series| {
            let name = series.labels.get("n").unwrap_or_default().to_owned();
            for value in series.values {
                samples.push(format!("{name}={value}"));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    samples.sort();
    samples
}

pub struct Machine {
    pub addr: String,
    pub fs: MemFs,
    pub node: Option<Arc<Node<TestEnv>>>,
    alive: Arc<AtomicBool>,
}

pub struct Cluster {
    hub: Arc<Hub>,
    pub machines: Vec<Machine>,
    random: Arc<AtomicU64>,
    pub shards: u16,
    written: u64,
}

impl Cluster {
    pub fn new(shards: u16) -> Self {
        // Clusters of one process must not draw the same numbers: their ids are random.
        static SEED: AtomicU64 = AtomicU64::new(1);
        let random = Arc::new(AtomicU64::new(SEED.fetch_add(1 << 32, Ordering::Relaxed)));
        Self { hub: Arc::default(), machines: Vec::new(), random, shards, written: 0 }
    }

    /// A cluster of so many nodes, all shards settled.
    pub async fn of(nodes: usize, shards: u16) -> Self {
        let mut cluster = Self::new(shards);
        for _ in 0..nodes {
            let index = cluster.add_machine();
            cluster.start(index).await;
        }
        cluster.settled().await;
        cluster
    }

    pub fn add_machine(&mut self) -> usize {
        let index = self.machines.len();
        let fs = MemFs::new(index as u64);
        let alive = Arc::new(AtomicBool::new(false));
        self.machines.push(Machine { addr: format!("node-{index}:1"), fs, node: None, alive });
        index
    }

    pub fn config(&self, index: usize) -> NodeConfig {
        let mut config = NodeConfig::new("/data", self.machines[index].addr.clone());
        config.shards = self.shards;
        config.join = self.machines[..index].iter().map(|m| m.addr.clone()).collect();
        config.wal.segment_bytes = 1 << 20;
        config.memory = MemoryLedger::new(64 << 20);
        config
    }

    pub async fn start(&mut self, index: usize) {
        let config = self.config(index);
        self.start_with(index, config).await.expect("the node starts");
    }

    pub async fn start_with(
        &mut self,
        index: usize,
        config: NodeConfig,
    ) -> Result<(), crate::error::ClusterError> {
        let alive = Arc::new(AtomicBool::new(true));
        let machine = &mut self.machines[index];
        machine.alive = alive.clone();
        let net = TestNet { hub: self.hub.clone(), addr: machine.addr.clone(), alive: alive.clone() };
        let env = TestEnv { fs: machine.fs.clone(), net, alive, random: self.random.clone() };
        let node =
            tokio::time::timeout(GUARD, Node::start(env, config, Arc::new(Dump))).await.expect("in time")?;
        self.machines[index].node = Some(node);
        Ok(())
    }

    /// Cuts the power of a machine. What was not synced is lost.
    pub async fn kill(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.alive.store(false, Ordering::SeqCst);
        self.hub.handlers.lock().unwrap().remove(&machine.addr);
        machine.fs = machine.fs.crash(CrashMode::DropUnsynced);
        if let Some(node) = machine.node.take() {
            // Its disk and network are gone; this only ends the tasks.
            let _ = tokio::time::timeout(Duration::from_secs(10), node.stop()).await;
        }
    }

    pub async fn wipe(&mut self, index: usize) {
        self.kill(index).await;
        self.machines[index].fs = MemFs::new(1000 + index as u64);
    }

    pub fn is_alive(&self, index: usize) -> bool {
        self.machines[index].alive.load(Ordering::SeqCst)
    }

    pub fn node(&self, index: usize) -> &Arc<Node<TestEnv>> {
        self.machines[index].node.as_ref().expect("the node runs")
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node<TestEnv>>> {
        self.machines.iter().filter_map(|m| m.node.as_ref())
    }

    pub fn cut(&self, index: usize, is_cut: bool) {
        let addr = self.machines[index].addr.clone();
        let mut cut = self.hub.cut.lock().unwrap();
        if is_cut {
            cut.insert(addr)
        } else {
            cut.remove(&addr)
        };
    }

    /// Position of the machine of a node.
    pub fn index_of(&self, id: NodeId) -> usize {
        let is_it = |machine: &Machine| machine.node.as_ref().is_some_and(|node| node.id() == id);
        self.machines.iter().position(is_it).expect("it runs")
    }

    /// Waits until the first node knows who leads a shard.
    pub async fn leader_of(&self, shard: ShardId) -> NodeId {
        wait("a leader is known", || self.node(0).leader_of(shard).is_some()).await;
        self.node(0).leader_of(shard).expect("it was known")
    }

    /// From here on the node is heard and hears nothing.
    pub fn deafen(&self, index: usize) {
        self.hub.deaf.lock().unwrap().insert(self.machines[index].addr.clone());
    }

    /// Waits until every running node sees every shard as it should be.
    pub async fn settled(&self) {
        let members = self.nodes().count();
        wait("shards settle", || {
            self.nodes().all(|node| {
                let meta = node.meta();
                meta.shards.len() == usize::from(self.shards)
                    && meta.active().count() >= members
                    && meta.shards.values().all(|s| s.replicas.len() == members.min(3) && s.born)
                    && node.unsettled().is_empty()
            })
        })
        .await;
    }

    /// Writes a sample with a number of its own to every shard, through a node.
    pub async fn write(&mut self, index: usize) -> Vec<String> {
        let node = self.node(index).clone();
        self.written += 1;
        let mut samples = Vec::new();
        for shard in 1..=self.shards {
            samples.push(write_one(&node, ShardId(shard), self.written).await.0);
        }
        samples
    }

    /// Everything that a node finds when it asks all shards.
    pub async fn read(&self, index: usize, consistency: Consistency) -> Vec<String> {
        let answers = self.node(index).run_fragment(Bytes::from_static(b"all"), consistency, GUARD).await;
        let mut samples: Vec<String> = answers
            .expect("all shards answer")
            .into_iter()
            .flat_map(|(_, bytes)| {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        samples.sort();
        samples
    }
}

/// One sample of one series in one shard, and the entry that holds it. Tried again until it is acknowledged, as a client would.
pub async fn write_one(node: &Arc<Node<TestEnv>>, shard: ShardId, number: u64) -> (String, u64) {
    let name = format!("s{shard}");
    let labels = Labels::from_pairs([("__name__", "m"), ("n", &name)]).unwrap();
    let retry = async {
        let mut generation = 0;
        loop {
            let mut builder = SubBatchBuilder::new(TenantId::default(), generation);
            let series = builder.push_new_series(SeriesId(u128::from(shard.0)), &labels);
            builder.push_float(series, 1_000 * number as i64, number as f64, 0);
            match ShardWriter::propose(&**node, shard, builder.finish(), Duration::from_secs(5)).await {
                Ok(done) => match done.outcome {
                    SubBatchOutcome::Applied { .. } => return done.index.0,
                    SubBatchOutcome::StaleRegistry { generation: now } => generation = now,
                    SubBatchOutcome::Rejected { reason } => panic!("rejected: {reason:?}"),
                },
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let index = tokio::time::timeout(GUARD, retry).await.expect("the write is acknowledged in time");
    (format!("{name}={number}"), index)
}

/// Waits for a condition.
pub async fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(GUARD, waiting).await.is_ok(), "{what}: not in time");
}
