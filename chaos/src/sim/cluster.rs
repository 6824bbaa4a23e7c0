//! A simulated cluster: machines that run nodes, whatever becomes of them.
//!
//! Nodes boot, crash, abort and lose their disks; [`SimCluster::tend`] starts again what is down for long enough. A node
//! that ends by itself must have had a reason: a fault of its disk since it booted. Anything else is a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cluster::env::{Env, StepKind};
use cluster::node::{FragmentError, FragmentHandler, FragmentResult, Node, NodeConfig};
use cluster::status::{GroupPulse, NodeStatus, Role};
use futures_util::future::{BoxFuture, join_all};
use openraft_rt::AsyncRuntime;
use protocol::error::ErrorKind;
use protocol::ids::{META_GROUP, NodeId, ShardId, TenantId};
use protocol::logs::{LogColumns, LogField, LogFilter, LogScan, LogTest, LogValue, RowSignal};
use protocol::matcher::Matcher;
use protocol::spans::Span;
use storage::engine::FlushPolicy;
use storage::fs::Fs;
use storage::fs::mem::CrashMode;
use storage::logs::scan::{LogCounting, LogReader};
use storage::scan::StoreSnapshot;
use storage::span_metrics::SpanMetrics;
use storage::wal::WalOptions;

use crate::sim::disk_log::DiskLogs;
use crate::sim::executor::{self, Place};
use crate::sim::machine::{DiskPlan, Machine, SimEnv};
use crate::sim::net::{NetPlan, SimNetwork};
use crate::sim::oracle::{Oracle, invariant};
use crate::sim::plan::{Plan, REPLICAS};
use crate::sim::runtime::{SimJoinHandle, SimRuntime};

/// A node of the simulation.
pub type SimNode = Arc<Node<SimEnv>>;

/// Name of the metric that the workload writes.
pub const METRIC: &str = "simulated";
/// Label with the number of a series' client.
pub const CLIENT_LABEL: &str = "client";
/// Label with the number of a series.
pub const SERIES_LABEL: &str = "series";

/// What a machine is up to.
#[derive(Default)]
struct Seat {
    /// The node, once it has started.
    node: Option<SimNode>,
    /// When it is to be started again, in simulated time.
    down_until: Option<Duration>,
    /// Something was done to its disk or power since it booted that entitles it to end.
    excused: bool,
    /// Disks that the machine has lost.
    disks: u64,
    /// Whether the build that was started last knows an epoch less.
    is_old: bool,
    /// An older build was told that the cluster uses what it does not know: from then on this one is started.
    upgraded: bool,
}

/// What a build says that is too old for the cluster.
const TOO_OLD: &str = "start a newer build";

struct Inner {
    plan: Plan,
    network: SimNetwork,
    machines: Vec<Machine>,
    oracle: Oracle,
    seats: Mutex<Vec<Seat>>,
    logs: Mutex<DiskLogs>,
}

/// The cluster. Clones share it.
#[derive(Clone)]
pub struct SimCluster(Arc<Inner>);

impl SimCluster {
    /// Machines without nodes, on a calm network.
    pub fn new(plan: &Plan, oracle: &Oracle) -> Self {
        let network = SimNetwork::new(plan.seed, NetPlan::calm());
        let machines: Vec<_> = (1..=plan.nodes as u32)
            .map(|n| Machine::new(plan.seed, Place(n), &format!("n{n}:9620"), &network, DiskPlan::calm()))
            .collect();
        let seats = Mutex::new(machines.iter().map(|_| Seat::default()).collect());
        let (plan, oracle, logs) = (plan.clone(), oracle.clone(), Mutex::default());
        Self(Arc::new(Inner { plan, network, machines, oracle, seats, logs }))
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// The network.
    pub fn network(&self) -> &SimNetwork {
        &self.0.network
    }

    /// The oracle.
    pub fn oracle(&self) -> &Oracle {
        &self.0.oracle
    }

    /// Number of machines.
    pub fn len(&self) -> usize {
        self.0.machines.len()
    }

    /// Whether there are no machines.
    pub fn is_empty(&self) -> bool {
        self.0.machines.is_empty()
    }

    /// A machine.
    pub fn machine(&self, at: usize) -> &Machine {
        &self.0.machines[at]
    }

    /// The node of a machine, if it has started and still runs.
    pub fn node(&self, at: usize) -> Option<SimNode> {
        if !self.machine(at).is_running() {
            return None;
        }
        self.seats()[at].node.clone()
    }

    /// Number of the process that runs or ran last on a machine.
    pub fn life(&self, at: usize) -> u64 {
        self.machine(at).life()
    }

    /// All nodes that run, with the machines' numbers.
    pub fn nodes(&self) -> Vec<(usize, SimNode)> {
        (0..self.len()).filter_map(|at| self.node(at).map(|node| (at, node))).collect()
    }

    /// Starts a node on a machine's disk. The first node of an empty cluster founds it; later ones join.
    pub fn boot(&self, at: usize, found: bool) {
        let machine = self.machine(at);
        let env = machine.boot();
        let plan = &self.0.plan;
        let mut config = NodeConfig::new("/data", machine.addr());
        {
            let mut seats = self.seats();
            seats[at].node = None;
            seats[at].down_until = None;
            seats[at].excused = false;
            seats[at].is_old = plan.mixed_builds && !seats[at].upgraded && env.random_u64().is_multiple_of(2);
            config.newest_epoch -= u16::from(seats[at].is_old);
        }
        executor::say(|| format!("machine {} boots, knows epoch {}", at + 1, config.newest_epoch));
        if !found {
            let others = self.0.machines.iter().filter(|m| m.place() != machine.place());
            config.join = others.map(|m| m.addr().to_owned()).collect();
        }
        config.shards = plan.shards;
        config.rebuild_after = Some(plan.rebuild_after);
        config.wal = WalOptions { segment_bytes: plan.wal_segment_bytes, ..WalOptions::default() };
        config.flush = FlushPolicy {
            memtable_bytes: plan.flush_bytes as usize,
            max_age_ms: 30_000,
            merge_factor: 3,
            ..FlushPolicy::default()
        };
        let fragments = Arc::new(Samples { env: env.clone() });
        let (cluster, life) = (self.clone(), env.clone());
        SimRuntime::spawn_on(machine.place(), async move {
            match Node::start(env, config, fragments).await {
                Ok(node) => {
                    cluster.seats()[at].node = Some(node);
                }
                Err(error) => cluster.start_failed(at, &life, &error.to_string(), error.kind()),
            }
        });
    }

    fn start_failed(&self, at: usize, life: &SimEnv, error: &str, kind: ErrorKind) {
        // Nobody to join through is no fault of the disk, and no finding either: the others may be down.
        let excused = self.seats()[at].excused
            || matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout)
            || self.is_upgraded_for(at, error)
            || self.has_no_room_to_begin(at);
        executor::say(|| format!("machine {} can not start: {error}", at + 1));
        if !excused {
            let what = format!("machine {} can not start: {error}", at + 1);
            self.oracle().violate(invariant::NOTHING_LOST, what);
        }
        self.excuse(at);
        life.abort(error);
    }

    /// Whether the build on a machine ended for being too old. The next one is not.
    fn is_upgraded_for(&self, at: usize, reason: &str) -> bool {
        let mut seats = self.seats();
        let is_too_old = seats[at].is_old && reason.contains(TOO_OLD);
        seats[at].upgraded |= is_too_old;
        is_too_old
    }

    /// Whether a machine's disk is full and has no log yet. A node that has one starts on a full disk too.
    fn has_no_room_to_begin(&self, at: usize) -> bool {
        let disk = self.machine(at).disk();
        let log = disk.list(Path::new("/data/wal")).unwrap_or_default();
        // Far more than a limited disk ever has, and less than one without a limit.
        let is_limited = disk.space(Path::new("/data")).is_ok_and(|space| space.total_bytes < 1 << 40);
        is_limited && !log.iter().any(|file| file.name.ends_with(".log"))
    }

    /// From now on the node on a machine may end by itself: its disk is about to fail it.
    pub fn excuse(&self, at: usize) {
        self.seats()[at].excused = true;
    }

    /// Ends a node and keeps its machine down for a while.
    pub fn crash(&self, at: usize, mode: CrashMode, downtime: Duration) {
        executor::say(|| format!("machine {} crashes ({mode:?}) for {downtime:?}", at + 1));
        self.machine(at).crash(mode);
        self.rest(at, downtime);
    }

    fn rest(&self, at: usize, downtime: Duration) {
        let node = {
            let mut seats = self.seats();
            seats[at].down_until = Some(executor::elapsed() + downtime);
            seats[at].node.take()
        };
        drop(node);
        self.look_at_disk(at);
    }

    /// Reads the log on a machine's disk as a restart would find it.
    pub fn look_at_disk(&self, at: usize) {
        let disks = self.seats()[at].disks;
        let mut logs = self.0.logs.lock().unwrap_or_else(PoisonError::into_inner);
        // A replica that was moved away and comes back begins with a vote of its own.
        let disks = self.0.plan.moves.is_none().then_some(disks);
        logs.look(at, disks, &self.machine(at).disk(), self.oracle());
    }

    /// Takes a machine's disk away; it is down.
    pub fn lose_disk(&self, at: usize, seed: u64) {
        self.seats()[at].disks += 1;
        self.machine(at).wipe(seed);
    }

    /// Whether a machine is down and waits for its time.
    pub fn is_down(&self, at: usize) -> bool {
        !self.machine(at).is_running()
    }

    /// Brings everything that is down back at the next [`SimCluster::tend`].
    pub fn end_downtimes(&self) {
        for seat in self.seats().iter_mut() {
            if seat.down_until.is_some() {
                seat.down_until = Some(Duration::ZERO);
            }
        }
    }

    /// Notices ended nodes and starts again what is due. `downtime` draws how long a node that ended by itself stays
    /// down, and what its disk keeps of a failed power supply.
    pub fn tend(&self, mut downtime: impl FnMut() -> (Duration, CrashMode)) {
        for at in 0..self.len() {
            let machine = self.machine(at);
            if machine.has_lost_power() {
                let (rest, mode) = downtime();
                self.crash(at, mode, rest);
                continue;
            }
            if machine.is_running() {
                continue;
            }
            let (due, excused) = {
                let seats = self.seats();
                (seats[at].down_until, seats[at].excused)
            };
            match due {
                Some(due) if due <= executor::elapsed() => self.boot(at, false),
                Some(_) => {}
                None => {
                    if let Some(reason) = machine.aborted()
                        && !self.is_upgraded_for(at, &reason)
                        && !excused
                    {
                        let what =
                            format!("machine {} ended itself for no fault of its disk: {reason}", at + 1);
                        self.oracle().violate(invariant::NO_PANIC, what);
                    }
                    let (rest, _) = downtime();
                    self.rest(at, rest);
                }
            }
        }
    }

    /// The replicas of groups without a leader, in words.
    pub fn leaderless(&self) -> String {
        let statuses = self.statuses();
        let pulses = || statuses.iter().flat_map(|status| status.groups.iter().map(|group| &group.pulse));
        let led: BTreeSet<u16> =
            pulses().filter(|pulse| pulse.role == Role::Leader).map(|pulse| pulse.group.0).collect();
        let words = pulses().filter(|pulse| !led.contains(&pulse.group.0)).map(|pulse| {
            format!(
                "group {} at {}: {:?}, term {}, log to {}, applied {}, voters {:?}, learners {:?}, joint {}",
                pulse.group,
                pulse.replica,
                pulse.role,
                pulse.term,
                pulse.last_log,
                pulse.applied,
                pulse.voters,
                pulse.learners,
                pulse.joint
            )
        });
        words.collect::<Vec<_>>().join("; ")
    }

    /// What every node that runs says about itself.
    pub fn statuses(&self) -> Vec<NodeStatus> {
        self.nodes().iter().map(|(_, node)| node.node_status()).collect()
    }

    /// Why the groups are not what they should be: a node does not run, a group has not all its voters on nodes that
    /// run, or a change of its members is under way.
    pub fn incomplete(&self, statuses: &[NodeStatus]) -> Option<String> {
        if statuses.len() != self.len() {
            return Some(format!("{} of {} nodes run", statuses.len(), self.len()));
        }
        let present: Vec<NodeId> = statuses.iter().map(|status| status.id).collect();
        for group in 0..=self.0.plan.shards {
            let replicas = replicas_of(statuses, group);
            // Everybody follows the meta group; those beyond its voters as learners.
            let (hosts, learners) = match ShardId(group) {
                META_GROUP => (self.len(), self.len().saturating_sub(REPLICAS)),
                _ => (self.len().min(REPLICAS), 0),
            };
            if replicas.len() != hosts {
                return Some(format!("group {group} is held by {} nodes", replicas.len()));
            }
            let is_whole = |pulse: &GroupPulse| {
                let members = pulse.voters.iter().chain(&pulse.learners);
                !pulse.joint
                    && pulse.voters.len() == self.len().min(REPLICAS)
                    && pulse.learners.len() == learners
                    && members.clone().all(|replica| present.contains(&replica.node()))
            };
            if let Some(pulse) = replicas.iter().find(|pulse| !is_whole(pulse)) {
                let GroupPulse { voters, learners, joint, .. } = pulse;
                return Some(format!(
                    "group {group}: voters {voters:?}, learners {learners:?}, joint {joint}"
                ));
            }
        }
        None
    }

    /// Runs an operation as a task of a machine, as a request handler of its server would; `None` when there is no node
    /// or it dies meanwhile.
    pub async fn on_node<T, F>(&self, at: usize, operation: impl FnOnce(SimNode) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let node = self.node(at)?;
        let task: SimJoinHandle<T> = SimRuntime::spawn_on(self.machine(at).place(), operation(node));
        task.await.ok()
    }

    /// Waits until a condition holds, looking every 50 ms, tending the cluster meanwhile.
    pub async fn wait(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = executor::elapsed() + limit;
        loop {
            if condition() {
                return true;
            }
            if executor::elapsed() >= deadline {
                return false;
            }
            self.tend(|| (Duration::from_millis(100), CrashMode::DropUnsynced));
            SimRuntime::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What the nodes that hold a group say about it.
pub fn replicas_of(statuses: &[NodeStatus], group: u16) -> Vec<&GroupPulse> {
    let of_group = |status: &'_ NodeStatus| status.groups.iter().position(|g| g.pulse.group.0 == group);
    statuses.iter().filter_map(|status| of_group(status).map(|at| &status.groups[at].pulse)).collect()
}

/// Number of the series that stands for the log records of client 0; those of the others follow.
pub const LOG_SERIES: u32 = 1 << 30;

/// How many equal records the workload writes of a value.
pub const fn log_copies(value: u64) -> usize {
    if value.is_multiple_of(3) { 2 } else { 1 }
}

/// The body of a client's record.
pub fn log_body(value: u64) -> String {
    format!("stored item {value} after {} tries", value % 7)
}

/// Number of the series that stands for the spans of client 0; those of the others follow.
pub const SPAN_SERIES: u32 = 1 << 31;

/// Id of a client's trace.
pub fn span_trace(client: u32, number: u8) -> [u8; 16] {
    ((u128::from(client) << 64) | (u128::from(number) + 1)).to_be_bytes()
}

/// A client's span of a value: all that can be told from it.
pub fn span_of_value(trace_id: [u8; 16], value: u64, at_ms: i64) -> Span<'static> {
    let start_ns = at_ms * 1_000_000;
    Span {
        trace_id,
        span_id: value.to_be_bytes(),
        // Every other is a root.
        parent_id: (value % 2 * (value + 1)).to_be_bytes(),
        name: format!("step {}", value % 5).into(),
        start_ns,
        end_ns: start_ns + (value % 1000) as i64,
        attributes: vec![("value".into(), LogValue::Int(value as i64))],
        ..Span::default()
    }
}

/// The log records or spans of a client.
pub fn rows_of(client: u32) -> LogFilter {
    let label = LogField::ResourceAttribute(CLIENT_LABEL.to_owned());
    LogFilter::Field(label, LogTest::Equals(client.to_string()))
}

/// Answers the workload's reads: all samples of a client's series in a range of time, its log records as one more and its
/// spans as another.
struct Samples {
    env: SimEnv,
}

/// A read of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRead {
    /// Whose series.
    pub client: u32,
    /// From here.
    pub from_ms: i64,
    /// Up to and including here.
    pub to_ms: i64,
}

impl SampleRead {
    /// The fragment that asks for it.
    pub fn encode(self) -> Bytes {
        let mut out = Vec::with_capacity(20);
        out.extend_from_slice(&self.client.to_le_bytes());
        out.extend_from_slice(&self.from_ms.to_le_bytes());
        out.extend_from_slice(&self.to_ms.to_le_bytes());
        out.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (client, rest) = bytes.split_first_chunk::<4>()?;
        let (from, rest) = rest.split_first_chunk::<8>()?;
        let to = rest.first_chunk::<8>()?;
        Some(Self {
            client: u32::from_le_bytes(*client),
            from_ms: i64::from_le_bytes(*from),
            to_ms: i64::from_le_bytes(*to),
        })
    }

    /// Whether it leaves out nothing.
    fn is_of_everything(self) -> bool {
        self.from_ms < 0
    }

    fn run(self, snapshot: &StoreSnapshot) -> Result<Vec<u8>, String> {
        let matchers =
            [Matcher::equal("__name__", METRIC), Matcher::equal(CLIENT_LABEL, self.client.to_string())];
        let mut out = Vec::new();
        let mut error = None;
        let read =
            snapshot.select(&TenantId::default(), &matchers, self.from_ms, self.to_ms, &mut |series| {
                let number = series.labels.get(SERIES_LABEL).and_then(|text| text.parse::<u32>().ok());
                let Some(number) = number else {
                    error = Some(format!("a series without its number: {:?}", series.labels));
                    return ControlFlow::Break(());
                };
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&(series.times.len() as u32).to_le_bytes());
                for (at_ms, value) in series.times.iter().zip(series.values) {
                    out.extend_from_slice(&at_ms.to_le_bytes());
                    out.extend_from_slice(&value.to_le_bytes());
                }
                ControlFlow::Continue(())
            });
        match (read, error) {
            (_, Some(error)) => Err(error),
            (Err(error), _) => Err(error.to_string()),
            (Ok(()), None) => {
                self.run_logs(snapshot, &mut out)?;
                self.run_spans(snapshot, &mut out)?;
                Ok(out)
            }
        }
    }

    fn run_logs(self, snapshot: &StoreSnapshot, out: &mut Vec<u8>) -> Result<(), String> {
        let tenant = TenantId::default();
        let scan = LogScan {
            start_ns: self.from_ms.saturating_mul(1_000_000),
            end_ns: self.to_ms.saturating_mul(1_000_000),
            filter: rows_of(self.client),
            newest_first: false,
            columns: LogColumns::All,
            expected: usize::MAX,
        };
        let (mut rows, mut error) = (Vec::new(), None);
        let reader = LogReader { signal: RowSignal::Logs, tenant: &tenant, should_stop: &|| false };
        let read = snapshot.log_records(reader, &scan, &mut |_, record| {
            let body = record.body.text();
            let value = body.split(' ').nth(2).and_then(|text| text.parse::<u64>().ok());
            match value.filter(|value| log_body(*value) == body) {
                Some(value) => rows.push((record.time_ns / 1_000_000, value as f64)),
                None => error = Some(format!("a record that nobody wrote: {body}")),
            }
            ControlFlow::Continue(())
        });
        read.map_err(|error| error.to_string())?;
        if let Some(error) = error {
            return Err(error);
        }
        put_rows(LOG_SERIES + self.client, &rows, out);
        Ok(())
    }

    /// What is wrong with the metrics of the shard's spans, if they show no later entry than the snapshot.
    fn compare_counts(self, snapshot: &StoreSnapshot) -> Result<Option<String>, String> {
        let metrics = SpanMetrics::decode(&snapshot.span_metrics()).map_err(|error| format!("{error:?}"))?;
        if snapshot.position().is_none_or(|index| metrics.applied() > index.0) {
            return Ok(None);
        }
        let tenant = TenantId::default();
        let reader = LogReader { signal: RowSignal::Spans, tenant: &tenant, should_stop: &|| false };
        let (start_ns, end_ns, filter) = (i64::MIN, i64::MAX, &LogFilter::All);
        let counting = LogCounting { start_ns, end_ns, filter, bucket_ns: 0, by: &[] };
        let mut spans = 0;
        let read = snapshot.log_counts(reader, &counting, &mut |_, _, count| {
            spans += count;
            ControlFlow::Continue(())
        });
        read.map_err(|error| error.to_string())?;
        let counted: u64 = metrics.series().map(|(_, durations)| durations.count()).sum();
        Ok((counted != spans).then(|| format!("{counted} spans are counted, there are {spans}")))
    }

    /// The client's spans, and whether their traces are found whole by their ids: all of them if everything is read, else one.
    fn run_spans(self, snapshot: &StoreSnapshot, out: &mut Vec<u8>) -> Result<(), String> {
        let tenant = TenantId::default();
        let range = (self.from_ms.saturating_mul(1_000_000), self.to_ms.saturating_mul(1_000_000));
        let scan = LogScan {
            start_ns: range.0,
            end_ns: range.1,
            filter: rows_of(self.client),
            newest_first: false,
            columns: LogColumns::All,
            expected: usize::MAX,
        };
        let reader = LogReader { signal: RowSignal::Spans, tenant: &tenant, should_stop: &|| false };
        let (mut rows, mut error) = (Vec::new(), None);
        let mut traces: BTreeMap<[u8; 16], Vec<[u8; 8]>> = BTreeMap::new();
        let read = snapshot.spans(reader, &scan, &mut |_, span| {
            let (value, at_ms) = (u64::from_be_bytes(span.span_id), span.start_ns / 1_000_000);
            if *span != span_of_value(span.trace_id, value, at_ms) {
                error = Some(format!("a span that nobody wrote: {span:?}"));
            }
            rows.push((at_ms, value as f64));
            traces.entry(span.trace_id).or_default().push(span.span_id);
            ControlFlow::Continue(())
        });
        read.map_err(|error| error.to_string())?;
        // Of all traces each time, that was a tenth of a seed's time.
        let (skipped, asked) = match self.is_of_everything() {
            true => (0, traces.len()),
            false => (rows.len() % traces.len().max(1), 1),
        };
        for (trace_id, spans) in traces.into_iter().skip(skipped).take(asked) {
            let mut whole = Vec::new();
            let read = snapshot.trace(reader, &trace_id, &mut |_, span| {
                if (range.0..=range.1).contains(&span.start_ns) {
                    whole.push(span.span_id);
                }
                ControlFlow::Continue(())
            });
            read.map_err(|error| error.to_string())?;
            if whole != spans {
                error = Some(format!(
                    "{} spans of a trace are found by its id, {} without",
                    whole.len(),
                    spans.len()
                ));
            }
        }
        if self.is_of_everything() {
            error = error.or(self.compare_counts(snapshot)?);
        }
        put_rows(SPAN_SERIES + self.client, &rows, out);
        error.map_or(Ok(()), Err)
    }
}

/// Writes rows as a series of samples; none if there are none.
fn put_rows(series: u32, rows: &[(i64, f64)], out: &mut Vec<u8>) {
    if rows.is_empty() {
        return;
    }
    out.extend_from_slice(&series.to_le_bytes());
    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    for (at_ms, value) in rows {
        out.extend_from_slice(&at_ms.to_le_bytes());
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Reads what [`Samples`] answered: series by series, (time, value).
pub fn decode_samples(mut bytes: &[u8]) -> Option<Vec<(u32, Vec<(i64, f64)>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (number, rest) = bytes.split_first_chunk::<4>()?;
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let mut samples = Vec::new();
        for _ in 0..u32::from_le_bytes(*count) {
            let (at, after) = rest.split_first_chunk::<8>()?;
            let (value, after) = after.split_first_chunk::<8>()?;
            samples.push((i64::from_le_bytes(*at), f64::from_le_bytes(*value)));
            rest = after;
        }
        all.push((u32::from_le_bytes(*number), samples));
        bytes = rest;
    }
    Some(all)
}

impl FragmentHandler for Samples {
    fn run(
        &self,
        shards: Vec<(ShardId, StoreSnapshot)>,
        fragment: Bytes,
    ) -> BoxFuture<'static, Vec<FragmentResult>> {
        let env = self.env.clone();
        let read = SampleRead::decode(&fragment).ok_or_else(|| FragmentError {
            kind: ErrorKind::Internal,
            message: "not a read of the workload".to_owned(),
        });
        let runs = shards.into_iter().map(move |(shard, snapshot)| {
            let (env, read) = (env.clone(), read.clone());
            async move {
                let run = async {
                    let read = read?;
                    let answer = env.run_step(StepKind::Scan, move || read.run(&snapshot)).await;
                    let corrupt = |message| FragmentError { kind: ErrorKind::Corruption, message };
                    answer.map(Bytes::from).map_err(corrupt)
                };
                (shard, run.await)
            }
        });
        Box::pin(join_all(runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_survive_the_wire() {
        let read = SampleRead { client: 7, from_ms: -5, to_ms: i64::MAX };
        assert_eq!(SampleRead::decode(&read.encode()), Some(read));
        assert_eq!(SampleRead::decode(b"short"), None);
    }

    #[test]
    fn answers_are_read_or_refused() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&3_u32.to_le_bytes());
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&9_i64.to_le_bytes());
        bytes.extend_from_slice(&1.5_f64.to_le_bytes());
        assert_eq!(decode_samples(&bytes), Some(vec![(3, vec![(9, 1.5)])]));
        assert_eq!(decode_samples(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode_samples(&[]), Some(vec![]));
    }
}
