//! Faults against real processes: who is struck, what is done, and when it is over.
//!
//! A [`Stage`] owns the processes and the links. [`Stage::perform`] walks through a plan on one thread: at its time a fault
//! begins, and what ends it is put on a list of its own (start the node, let it go on, join the links). A fault is over once
//! every node that it struck says that it is ready again; until then it is "under way" for the judgement. A stop in order
//! is waited for, so that restarts one after the other are that.
//!
//! Faults that overlap may find a node in a state that they can not change (paused, killed): they strike what they can.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::Value;

use crate::black_box::clients::{Common, Running, Writer, burst_writer, write_until};
use crate::black_box::history::{FaultOp, Line, Micros, Recorder};
use crate::black_box::hostile;
use crate::client::Client;
use crate::process::{GUARD, LocalCluster};
use crate::proxy::{LinkId, Links, Rule};
use crate::scenario::{Corrupt, Cut, Damaged, Fault, Partition, Planned, Scenario, Shape, Span, Target};
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

    /// Indexes of the nodes that a target means now.
    fn resolve(&mut self, target: Target) -> anyhow::Result<Vec<usize>> {
        let count = self.cluster.nodes.len();
        let lost = count.saturating_sub(1) / 2;
        let leader = |stage: &Self| stage.cluster.busiest_shard().map(|(_, node)| node);
        let with_leader = |stage: &mut Self, many: usize| -> anyhow::Result<Vec<usize>> {
            let first = leader(stage)?;
            let mut others: Vec<usize> = (0..count).filter(|node| *node != first).collect();
            others.shuffle(&mut stage.random);
            Ok(std::iter::once(first).chain(others).take(many).collect())
        };
        Ok(match target {
            Target::Node(number) => vec![number - 1],
            Target::Any => vec![self.random.random_range(0..count)],
            Target::All | Target::Each => (0..count).collect(),
            Target::Leader => vec![leader(self)?],
            Target::Minority => with_leader(self, lost.max(1))?,
            Target::Majority => with_leader(self, lost + 1)?,
            Target::Follower => {
                let all = with_leader(self, count)?;
                vec![*all.get(1).unwrap_or(&all[0])]
            }
            Target::MetaLeader => {
                let status = self.cluster.status()?;
                let leader = status["meta_leader"].as_u64();
                let at = leader.and_then(|id| self.cluster.index_of(&status, id).ok());
                vec![at.unwrap_or_default()]
            }
        })
    }

    fn begin(&mut self, fault: &Fault, progress: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let number = self.open.len();
        let after = |span: Duration| Instant::now() + span;
        let mut undo: Vec<(Instant, Undo)> = Vec::new();
        let mut ends = true;
        // Before a target is looked for, which takes a moment that must not count.
        let mut t0 = self.recorder().now();
        let mut restarts = Vec::new();
        let (nodes, what) = match fault {
            Fault::Kill(kill) => {
                let nodes = self.resolve(kill.target)?;
                t0 = self.recorder().now();
                for &node in &nodes {
                    self.kill(node)?;
                }
                match kill.restart_after {
                    Some(span) => undo.extend(nodes.iter().map(|node| (after(span.0), Undo::Start(*node)))),
                    None => ends = false,
                }
                (nodes, "killed".to_owned())
            }
            Fault::Pause(pause) => {
                let nodes = self.resolve(pause.target)?;
                t0 = self.recorder().now();
                for &node in &nodes {
                    self.cluster.nodes[node].signal("STOP")?;
                    self.paused.insert(node);
                }
                undo.extend(nodes.iter().map(|node| (after(pause.lasts.0), Undo::Resume(*node))));
                (nodes, format!("paused for {}", pause.lasts))
            }
            Fault::Restart(restart) => {
                restarts = self.resolve(restart.target)?;
                (restarts.clone(), "stopped in order and started again".to_owned())
            }
            Fault::Partition(partition) => {
                let nodes = self.resolve(partition.from)?;
                t0 = self.recorder().now();
                let (struck, links) = self.cut_links(partition, nodes[0]);
                let rule = if partition.cut == Cut::Silent { Rule::Silent } else { Rule::Reset };
                let added = self.links.add(&links, rule);
                let until = after(partition.lasts.0);
                undo.push(match partition.flap {
                    None => (until, Undo::Unlink(added)),
                    Some(every) => {
                        let flap = Undo::Flap { links, rule, every: every.0, until, now: Some(added) };
                        (after(every.0), flap)
                    }
                });
                let cut = if partition.cut == Cut::Silent { "without a word" } else { "by reset" };
                let flap =
                    partition.flap.map_or_else(String::new, |every| format!(", on and off every {every}"));
                (
                    struck,
                    format!("cut off ({}) {cut} for {}{flap}", shape_name(partition.shape), partition.lasts),
                )
            }
            Fault::Slow(slow) => {
                let nodes = self.resolve(slow.target)?;
                let links: Vec<LinkId> = nodes.iter().flat_map(|node| self.links_of(*node)).collect();
                let rule = Rule::Slow {
                    delay: slow.delay.0,
                    jitter: slow.jitter.0,
                    bytes_per_second: slow.bytes_per_second,
                };
                undo.push((after(slow.lasts.0), Undo::Unlink(self.links.add(&links, rule))));
                let rate = slow.bytes_per_second.map_or_else(String::new, |rate| format!(", {rate} bytes/s"));
                let (least, most) = (slow.delay, Span(slow.delay.0 + slow.jitter.0));
                (nodes, format!("links slowed by {least} to {most}{rate} for {}", slow.lasts))
            }
            Fault::Corrupt(corrupt) => {
                let nodes = self.resolve(corrupt.target)?;
                let mut damaged = Vec::new();
                for &node in &nodes {
                    damaged.extend(self.corrupt(corrupt, node)?);
                }
                (nodes, format!("bytes flipped in {}", damaged.join(", ")))
            }
            Fault::Wipe(wipe) => {
                let nodes = self.resolve(wipe.target)?;
                t0 = self.recorder().now();
                ensure!(nodes.len() < self.cluster.nodes.len(), "some node has to keep its disk");
                for &node in &nodes {
                    self.kill(node)?;
                    self.empty(node)?;
                    undo.push((after(wipe.restart_after.0), Undo::Start(node)));
                }
                (nodes, "killed, its disk emptied".to_owned())
            }
            Fault::Lose(lose) => {
                let nodes = self.resolve(lose.target)?;
                let ids = nodes.iter().map(|node| self.cluster.nodes[*node].id());
                let ids = ids.collect::<anyhow::Result<Vec<u64>>>()?;
                t0 = self.recorder().now();
                for (&node, lost) in nodes.iter().zip(ids) {
                    self.kill(node)?;
                    self.empty(node)?;
                    undo.push((after(LOOK_AGAIN), Undo::Rejoin { node, lost }));
                }
                (nodes, "killed for good".to_owned())
            }
            Fault::Overload(overload) => {
                let mut running = Running::default();
                for _ in 0..overload.connections {
                    let writer = burst_writer(self.bursts.len());
                    self.bursts.push(writer.clone());
                    let common = self.common.clone();
                    running.spawn("burst", move |stop| write_until(&common, &writer, stop))?;
                }
                undo.push((after(overload.lasts.0), Undo::Stop(running)));
                (
                    Vec::new(),
                    format!("{} writers that never wait, for {}", overload.connections, overload.lasts),
                )
            }
            Fault::Hostile(attack) => {
                let nodes = self.resolve(attack.target)?;
                let addr = self.cluster.nodes[nodes[0]].http_addr();
                let peer = ([127, 0, 0, 1], self.cluster.nodes[nodes[0]].peer).into();
                let mut running = Running::default();
                let (recorder, connections) = (self.recorder().clone(), attack.connections);
                running.spawn("hostile", move |stop| {
                    hostile::attack(&recorder, addr, peer, connections, stop)
                })?;
                undo.push((after(attack.lasts.0), Undo::Stop(running)));
                // Nobody is to notice: no node counts as struck.
                (Vec::new(), format!("{connections} hostile connections for {}", attack.lasts))
            }
        };
        let names: Vec<String> = nodes.iter().map(|node| format!("node {}", node + 1)).collect();
        let detail = if names.is_empty() { what } else { format!("{}: {what}", names.join(", ")) };
        progress(&format!("{:.1} s: {}: {detail}", self.recorder().now() as f64 / 1e6, fault.name()));
        let name = fault.name().to_owned();
        if restarts.is_empty() {
            let until_shared = matches!(fault, Fault::Lose(_));
            self.open.push(Some(Open { name, detail, nodes, t0, ends, until_shared }));
            self.due.extend(undo.into_iter().map(|(at, undo)| Due { at, fault: number, undo }));
        } else {
            for node in restarts {
                self.restart(node, &name)?;
            }
        }
        Ok(())
    }

    /// Stops a node in order, starts it, and waits until it is ready: a fault of its own in the history.
    fn restart(&mut self, node: usize, name: &str) -> anyhow::Result<()> {
        let t0 = self.recorder().now();
        self.resume(node)?;
        self.cluster.nodes[node].signal("TERM")?;
        let deadline = Instant::now() + STOP_WITHIN;
        let how = loop {
            if let Some(how) = self.cluster.nodes[node].ended() {
                break how;
            }
            if !self.cluster.nodes[node].is_running() {
                // Another fault has killed it before.
                break "exit status: 0".to_owned();
            }
            if Instant::now() > deadline {
                self.kill(node)?;
                break format!("killed: it did not stop within {STOP_WITHIN:?}");
            }
            self.advance(Instant::now())?;
            std::thread::sleep(TICK);
        };
        if how != "exit status: 0" {
            let t = self.recorder().now();
            self.recorder().note(&Line::Ended { node, t, how });
        }
        let stopped = self.recorder().now();
        self.start(node)?;
        let deadline = Instant::now() + GUARD;
        while !self.is_ready(node) {
            ensure!(Instant::now() < deadline, "node {} is not ready {GUARD:?} after its start", node + 1);
            self.advance(Instant::now())?;
            std::thread::sleep(TICK);
        }
        let t1 = self.recorder().now();
        let detail =
            format!("node {}: stopped in order within {} ms, started again", node + 1, (stopped - t0) / 1000);
        self.recorder().note(&Line::Fault(FaultOp {
            name: name.to_owned(),
            detail,
            nodes: vec![node],
            t0,
            t1,
        }));
        Ok(())
    }

    /// All links of a node, both ways.
    fn links_of(&self, node: usize) -> Vec<LinkId> {
        let others = (0..self.cluster.nodes.len()).filter(|other| *other != node);
        others.flat_map(|other| [(node, other), (other, node)]).collect()
    }

    /// The nodes that a partition takes from the others, and the links that it cuts.
    fn cut_links(&mut self, partition: &Partition, from: usize) -> (Vec<usize>, Vec<LinkId>) {
        let count = self.cluster.nodes.len();
        let mut others: Vec<usize> = (0..count).filter(|other| *other != from).collect();
        match partition.shape {
            Shape::Isolate => (vec![from], self.links_of(from)),
            Shape::OneWayOut => (vec![from], others.iter().map(|other| (from, *other)).collect()),
            Shape::OneWayIn => (vec![from], others.iter().map(|other| (*other, from)).collect()),
            Shape::Link => {
                let other = others[self.random.random_range(0..others.len())];
                (vec![from, other], vec![(from, other), (other, from)])
            }
            Shape::Halves => {
                others.shuffle(&mut self.random);
                let smaller: Vec<usize> = std::iter::once(from).chain(others).take(count / 2).collect();
                let larger = (0..count).filter(|node| !smaller.contains(node));
                let links =
                    larger.flat_map(|b| smaller.iter().flat_map(move |&a| [(a, b), (b, a)])).collect();
                (smaller, links)
            }
        }
    }

    /// Flips bytes in files of a node. Names the files.
    fn corrupt(&mut self, corrupt: &Corrupt, node: usize) -> anyhow::Result<Vec<String>> {
        if corrupt.what == Damaged::Segment {
            // So that there is one, and something in it that clients read.
            let client = Client::with_timeout(self.cluster.nodes[node].url(), GUARD);
            let answer = client.post("/api/v1/admin/flush", &[], &[])?;
            ensure!(
                answer.is_success(),
                "a flush before the damage answered {}: {}",
                answer.status,
                answer.body
            );
        }
        if corrupt.stopped {
            self.kill(node)?;
        }
        let dir = self.cluster.nodes[node].dir();
        let mut files = Vec::new();
        files_of(&dir, corrupt.what, &mut files)?;
        files.sort();
        files.shuffle(&mut self.random);
        ensure!(!files.is_empty(), "node {} has no file of this kind", node + 1);
        let mut named = Vec::new();
        for path in files.iter().take(corrupt.files as usize) {
            let offset = flip(path, corrupt.what, &mut self.random)?;
            let inside = path.strip_prefix(&dir).unwrap_or(path);
            named.push(format!("{} at {offset}", inside.display()));
        }
        if corrupt.what != Damaged::Segment {
            self.damaged.insert(node);
        }
        if corrupt.stopped {
            self.start(node)?;
        }
        Ok(named)
    }
}

const fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Isolate => "isolated",
        Shape::OneWayOut => "what it sends",
        Shape::OneWayIn => "what it is sent",
        Shape::Link => "one link",
        Shape::Halves => "halves",
    }
}

/// Files of a kind below a directory. A log's last file only where it has no other: it is written to.
fn files_of(dir: &Path, what: Damaged, out: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files_of(&path, what, out)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_it = match what {
            Damaged::Segment => name.ends_with(".seg"),
            Damaged::Log => name.starts_with("wal-") && name.ends_with(".log"),
            Damaged::Manifest => name == "manifest",
        };
        if is_it {
            out.push(path);
        }
    }
    Ok(())
}

/// Flips one bit of a byte where it matters. Returns its place.
fn flip(path: &Path, what: Damaged, random: &mut SmallRng) -> anyhow::Result<u64> {
    let mut file = std::fs::File::options().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let offset = match what {
        // Data is at the front of a segment, the index behind it.
        Damaged::Segment => random.random_range(len / 8..(len / 2).max(len / 8 + 1)),
        // Its file is mostly empty yet. What is far from the end of what was written was promised long ago.
        Damaged::Log => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default() as u64;
            random.random_range(written / 4..written / 2 + 1)
        }
        Damaged::Manifest => len / 2,
    };
    ensure!(offset < len, "{} has {len} bytes only", path.display());
    let mut byte = [0; 1];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 1 << random.random_range(0..8);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&byte)?;
    file.sync_all()?;
    Ok(offset)
}

/// The node of each shard's leader, in the order of shards.
pub fn leaders(cluster_status: &Value, ports: &[u16]) -> Vec<Option<usize>> {
    let members = cluster_status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let index_of = |id: u64| {
        let member = members.iter().find(|node| node["id"] == id)?;
        let addr = member["addr"].as_str()?;
        ports.iter().position(|port| addr.ends_with(&format!(":{port}")))
    };
    let shards = cluster_status["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    shards.iter().map(|shard| shard["leader"].as_u64().and_then(index_of)).collect()
}
