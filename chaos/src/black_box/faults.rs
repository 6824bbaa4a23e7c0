//! Faults against real processes: who is struck, what is done, and when it is over.
//!
//! A [`Stage`] owns the processes and the links. [`Stage::perform`] walks through a plan on one thread: at its time a fault
//! begins, and what ends it is put on a list of its own (start the node, let it go on, join the links). A fault is over once
//! every node that it struck says that it is ready again; until then it is "under way" for the judgement. A stop in order
//! is waited for, so that restarts one after the other are that.
//!
//! Faults that overlap may find a node in a state that they can not change (paused, killed): they strike what they can.

mod files;
mod strike;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::SmallRng;
use serde_json::Value;

use crate::black_box::clients::{Common, Running, Writer};
use crate::black_box::history::{FaultOp, Line, Micros, Recorder};
use crate::client::Client;
use crate::hooks::NodeFaults;
use crate::process::{Build, GUARD, LocalCluster};
use crate::proxy::{LinkId, Links, Rule};
use crate::scenario::{Planned, Scenario};
use crate::sim::random::{Stream, stream};

/// How long a stop in order may take before it counts as none.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How often the cluster is asked whether it has come to what is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Replicas of a shard.
const REPLICAS: usize = 3;
/// How often what is under way is looked at.
const TICK: Duration = Duration::from_millis(20);

/// What ends a fault, or a part of it.
enum Undo {
    Start(usize),
    /// Starts a node, once others hold what the one held that was lost in its place.
    Rejoin {
        node: usize,
        lost: u64,
    },
    Resume(usize),
    /// Takes a fault of its disk or clock from a node.
    Mend {
        node: usize,
        mend: fn(&mut NodeFaults),
    },
    Unlink(u64),
    Flap {
        links: Vec<LinkId>,
        rule: Rule,
        every: Duration,
        until: Instant,
        now: Option<u64>,
    },
    Stop(Running),
}

struct Due {
    at: Instant,
    fault: usize,
    undo: Undo,
}

/// A fault under way.
struct Open {
    name: String,
    detail: String,
    nodes: Vec<usize>,
    t0: Micros,
    /// Whether it ends before everything heals.
    ends: bool,
    /// Whether it lasts until what it struck holds its share of the replicas.
    until_shared: bool,
}

/// Processes as others see them: monitors read, the stage writes.
pub type Pids = Arc<Mutex<Vec<Option<u32>>>>;

/// A running cluster with everything that can be broken about it.
pub struct Stage {
    /// The processes.
    pub cluster: LocalCluster,
    /// The links between them.
    pub links: Links,
    /// Ids of the processes that run.
    pub pids: Pids,
    /// What upgrades bring.
    pub newer: Option<Build>,
    common: Common,
    random: SmallRng,
    open: Vec<Option<Open>>,
    due: Vec<Due>,
    paused: BTreeSet<usize>,
    /// Nodes whose log or manifest was damaged: they may refuse to start, and are replaced then.
    damaged: BTreeSet<usize>,
    bursts: Vec<Writer>,
}

impl Stage {
    /// On a cluster whose nodes are ready.
    pub fn new(cluster: LocalCluster, links: Links, common: Common) -> Self {
        let pids = Arc::new(Mutex::new(cluster.nodes.iter().map(|node| node.pid()).collect()));
        let random = stream(common.seed, Stream::Faults, u64::MAX);
        Self {
            cluster,
            links,
            pids,
            newer: None,
            common,
            random,
            open: Vec::new(),
            due: Vec::new(),
            paused: BTreeSet::new(),
            damaged: BTreeSet::new(),
            bursts: Vec::new(),
        }
    }

    fn recorder(&self) -> &Recorder {
        &self.common.recorder
    }

    /// Writers that overloads added.
    pub fn bursts(&self) -> &[Writer] {
        &self.bursts
    }

    /// Walks through the plan until the scenario's time is over, then heals everything and waits until all nodes are ready.
    pub fn perform(
        &mut self,
        plan: &[Planned],
        scenario: &Scenario,
        progress: &mut dyn FnMut(&str),
    ) -> anyhow::Result<()> {
        let start = self.recorder().start();
        let mut next = plan.iter().peekable();
        while start.elapsed() < scenario.duration.0 || next.peek().is_some() {
            let is_free = scenario.overlap || self.open.iter().all(Option::is_none);
            if let Some(planned) = next.next_if(|planned| is_free && start.elapsed() >= planned.at.0) {
                self.begin(&planned.fault, progress)?;
            }
            self.advance(Instant::now())?;
            std::thread::sleep(TICK);
        }
        progress("healing");
        self.heal()
    }

    /// Ends all that is under way and waits until everything runs and is ready.
    fn heal(&mut self) -> anyhow::Result<()> {
        let latest = Instant::now() + Duration::from_secs(24 * 3600);
        self.links.heal();
        self.advance(latest)?;
        for index in 0..self.cluster.nodes.len() {
            self.resume(index)?;
            let comes_back = |due: &Due| matches!(due.undo, Undo::Rejoin { node, .. } if node == index);
            if !self.cluster.nodes[index].is_running() && !self.due.iter().any(comes_back) {
                self.start(index)?;
            }
        }
        let deadline = Instant::now() + GUARD;
        while self.open.iter().any(Option::is_some) {
            ensure!(Instant::now() < deadline, "not all nodes are ready again within {GUARD:?}");
            self.open.iter_mut().flatten().for_each(|open| open.ends = true);
            self.advance(latest)?;
            std::thread::sleep(TICK);
        }
        self.cluster.wait_ready()?;
        self.cluster.wait_replicated(self.cluster.nodes.len().min(3))?;
        let t = self.recorder().now();
        self.recorder().note(&Line::Healed { t });
        Ok(())
    }

    /// Does what is due, and notes faults that are over.
    fn advance(&mut self, now: Instant) -> anyhow::Result<()> {
        let (due, later): (Vec<Due>, Vec<Due>) =
            std::mem::take(&mut self.due).into_iter().partition(|due| due.at <= now);
        self.due = later;
        for Due { fault, undo, .. } in due {
            match undo {
                Undo::Start(node) => self.start(node)?,
                Undo::Rejoin { node, lost } if self.is_rebuilt(lost) => {
                    self.start(node)?;
                    let t = self.recorder().now();
                    if let Some(open) = &mut self.open[fault] {
                        let seconds = (t - open.t0) as f64 / 1e6;
                        open.detail.push_str(&format!(", rebuilt elsewhere after {seconds:.1} s"));
                    }
                }
                Undo::Rejoin { .. } => {
                    self.due.push(Due { at: Instant::now() + LOOK_AGAIN, fault, undo });
                }
                Undo::Resume(node) => self.resume(node)?,
                Undo::Mend { node, mend } => self.change_faults(&[node], mend)?,
                Undo::Unlink(rule) => self.links.remove(rule),
                Undo::Stop(mut running) => running.stop()?,
                Undo::Flap { links, rule, every, until, now: current } => {
                    if let Some(current) = current {
                        self.links.remove(current);
                    }
                    if now < until {
                        let now = current.is_none().then(|| self.links.add(&links, rule));
                        let undo = Undo::Flap { links, rule, every, until, now };
                        self.due.push(Due { at: Instant::now() + every, fault, undo });
                    }
                }
            }
        }
        self.note_ended_processes()?;
        for fault in 0..self.open.len() {
            let is_over = match &self.open[fault] {
                None => continue,
                Some(open) => {
                    open.ends
                        && !self.due.iter().any(|due| due.fault == fault)
                        && open.nodes.iter().all(|node| self.is_ready(*node))
                        && (!open.until_shared || open.nodes.iter().all(|node| self.has_its_share(*node)))
                }
            };
            if is_over && let Some(open) = self.open[fault].take() {
                let Open { name, detail, nodes, t0, .. } = open;
                let t1 = self.recorder().now();
                self.recorder().note(&Line::Fault(FaultOp { name, detail, nodes, t0, t1 }));
            }
        }
        Ok(())
    }

    fn is_ready(&self, node: usize) -> bool {
        let client = Client::with_timeout(self.cluster.nodes[node].url(), Duration::from_millis(500));
        client.get("/-/ready").is_ok_and(|answer| answer.status == 200)
    }

    /// Whether no shard counts on a node any more, and all have as many replicas as ever.
    fn is_rebuilt(&self, lost: u64) -> bool {
        let is_whole = |shard: &Value| {
            let counts_on = |key: &str| shard[key].as_array().is_some_and(|ids| ids.contains(&lost.into()));
            let voters = shard["voters"].as_array().map_or(0, Vec::len);
            shard["leader"].is_u64()
                && shard["changing"] == false
                && voters == REPLICAS
                && !counts_on("voters")
                && !counts_on("wanted")
        };
        let status = self.cluster.status();
        status.is_ok_and(|status| status["shards"].as_array().is_some_and(|all| all.iter().all(is_whole)))
    }

    /// Whether a node holds as many replicas as there are for each.
    fn has_its_share(&self, node: usize) -> bool {
        let look = || -> anyhow::Result<bool> {
            let (id, status) = (self.cluster.nodes[node].id()?, self.cluster.status()?);
            let shards = status["shards"].as_array().context("shards")?;
            let voters =
                |shard: &&Value| shard["voters"].as_array().is_some_and(|ids| ids.contains(&id.into()));
            Ok(shards.iter().filter(voters).count() >= shards.len() * REPLICAS / self.cluster.nodes.len())
        };
        look().unwrap_or(false)
    }

    /// Notes nodes that ended although nothing here ended them, and starts them again, as supervisors do.
    fn note_ended_processes(&mut self) -> anyhow::Result<()> {
        for index in 0..self.cluster.nodes.len() {
            let Some(how) = self.cluster.nodes[index].ended() else { continue };
            let t = self.recorder().now();
            let said = self.cluster.nodes[index].log_tail();
            let refusal = said.lines().rev().find(|line| line.contains("is damaged")).map(str::to_owned);
            match refusal {
                Some(refusal) if self.damaged.remove(&index) => self.replace(index, &refusal, t)?,
                // A port that somebody took since: starting again will do, and says nothing of the node.
                _ if said.contains("cannot listen on") => {}
                _ => self.recorder().note(&Line::Ended { node: index, t, how }),
            }
            self.start(index)?;
        }
        Ok(())
    }

    /// What an operator does about a node that refuses to start from damaged files: an empty disk, and it joins anew.
    fn replace(&mut self, index: usize, refusal: &str, t0: Micros) -> anyhow::Result<()> {
        self.empty(index)?;
        let refusal = refusal.chars().take(300).collect::<String>();
        let detail =
            format!("node {}: refused to start, and joins anew with an empty disk: {refusal}", index + 1);
        let (name, nodes) = ("replace".to_owned(), vec![index]);
        self.open.push(Some(Open { name, detail, nodes, t0, ends: true, until_shared: false }));
        Ok(())
    }

    /// Empties the disk of a node that does not run, and makes it join through another one.
    fn empty(&mut self, index: usize) -> anyhow::Result<()> {
        let door = (0..self.cluster.nodes.len()).find(|other| *other != index);
        let port = self.cluster.nodes[door.context("some node has to keep its disk")?].peer;
        self.cluster.nodes[index].wipe()?;
        self.cluster.nodes[index].join_through(port);
        Ok(())
    }

    fn publish_pids(&self) {
        let pids = self.cluster.nodes.iter().map(|node| node.pid()).collect();
        *self.pids.lock().unwrap_or_else(PoisonError::into_inner) = pids;
    }

    fn start(&mut self, index: usize) -> anyhow::Result<()> {
        if !self.cluster.nodes[index].is_running() {
            self.cluster.nodes[index].ended();
            self.cluster.nodes[index].start()?;
            self.publish_pids();
        }
        Ok(())
    }

    fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        self.paused.remove(&index);
        self.cluster.nodes[index].kill()?;
        self.publish_pids();
        Ok(())
    }

    fn resume(&mut self, index: usize) -> anyhow::Result<()> {
        if self.paused.remove(&index) {
            self.cluster.nodes[index].signal("CONT")?;
        }
        Ok(())
    }
}

/// The node of each shard's leader, in the order of shards, by the ports that nodes have for their peers.
pub fn leaders_by_port(cluster_status: &Value, ports: &[u16]) -> Vec<Option<usize>> {
    let members = cluster_status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    leaders(cluster_status, |id| {
        let member = members.iter().find(|node| node["id"] == id)?;
        let addr = member["addr"].as_str()?;
        ports.iter().position(|port| addr.ends_with(&format!(":{port}")))
    })
}

/// The same, with each node's index by its id.
pub fn leaders(cluster_status: &Value, index_of: impl Fn(u64) -> Option<usize>) -> Vec<Option<usize>> {
    let shards = cluster_status["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    shards.iter().map(|shard| shard["leader"].as_u64().and_then(&index_of)).collect()
}
