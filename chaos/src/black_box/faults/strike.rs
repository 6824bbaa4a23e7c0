//! What each kind of fault does, to whom, and what will end it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::RngExt;
use rand::seq::SliceRandom;
use storage::fs::undo::Lost;

use super::files::{files_of, flip};
use super::{Due, LOOK_AGAIN, Open, STOP_WITHIN, Stage, TICK, Undo};
use crate::black_box::clients::{Running, burst_writer, write_until};
use crate::black_box::history::{FaultOp, Line, Micros};
use crate::black_box::hostile;
use crate::client::Client;
use crate::hooks::NodeFaults;
use crate::process::{GUARD, disk_bytes};
use crate::proxy::{LinkId, Rule};
use crate::scenario::{
    Clock, Corrupt, Cut, Damaged, Fault, Fill, Hostile, Kill, Lose, Overload, Partition, Pause, PowerCut,
    Shape, Slow, SlowDisk, Span, Target, Wipe,
};

/// What a fault did.
struct Struck {
    /// Whom it struck.
    nodes: Vec<usize>,
    /// In words.
    what: String,
    t0: Micros,
    /// What ends it, and when.
    undo: Vec<(Instant, Undo)>,
}

impl Struck {
    fn new(t0: Micros, nodes: Vec<usize>, what: String) -> Self {
        Self { nodes, what, t0, undo: Vec::new() }
    }

    /// Ends so much later, by one thing.
    fn undone_by(mut self, after: Duration, undo: Undo) -> Self {
        self.undo.push((Instant::now() + after, undo));
        self
    }

    /// Ends so much later, by one thing for each node.
    fn undone(self, after: Duration, undo: impl Fn(usize) -> Undo) -> Self {
        let nodes = self.nodes.clone();
        nodes.into_iter().fold(self, |struck, node| struck.undone_by(after, undo(node)))
    }
}

impl Stage {
    /// Begins a fault.
    pub(super) fn begin(&mut self, fault: &Fault, progress: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let number = self.open.len();
        let struck = match fault {
            Fault::Kill(kill) => self.kill_nodes(kill)?,
            Fault::PowerCut(cut) => self.cut_power(cut)?,
            Fault::Pause(pause) => self.pause_nodes(pause)?,
            Fault::Restart(restart) => {
                let nodes = self.resolve(restart.target)?;
                self.tell(fault, &nodes, "stopped in order and started again", progress);
                return nodes.into_iter().try_for_each(|node| self.restart(node, fault.name()));
            }
            Fault::Upgrade(upgrade) => {
                let nodes = self.resolve(upgrade.target)?;
                self.tell(fault, &nodes, "stopped in order and started with the newer build", progress);
                return self.upgrade(nodes, fault.name());
            }
            Fault::Partition(partition) => self.cut(partition)?,
            Fault::Slow(slow) => self.slow_links(slow)?,
            Fault::Fill(fill) => self.fill_disks(fill)?,
            Fault::SlowDisk(slow) => self.slow_disks(slow)?,
            Fault::Clock(clock) => self.move_clocks(clock)?,
            Fault::Corrupt(corrupt) => self.corrupt_nodes(corrupt)?,
            Fault::Wipe(wipe) => self.wipe_nodes(wipe)?,
            Fault::Lose(lose) => self.lose_nodes(lose)?,
            Fault::Overload(overload) => self.overload(overload)?,
            Fault::Hostile(attack) => self.attack(attack)?,
        };
        let Struck { nodes, what, t0, undo } = struck;
        let detail = self.tell(fault, &nodes, &what, progress);
        // Without an end of its own it ends when everything heals.
        let ends = !matches!(fault, Fault::Kill(Kill { restart_after: None, .. }));
        let until_shared = matches!(fault, Fault::Lose(_));
        self.open.push(Some(Open { name: fault.name().to_owned(), detail, nodes, t0, ends, until_shared }));
        self.due.extend(undo.into_iter().map(|(at, undo)| Due { at, fault: number, undo }));
        Ok(())
    }

    /// Says what happens to whom, and gives that in words.
    fn tell(&self, fault: &Fault, nodes: &[usize], what: &str, progress: &mut dyn FnMut(&str)) -> String {
        let names: Vec<String> = nodes.iter().map(|node| format!("node {}", node + 1)).collect();
        let detail = if names.is_empty() { what.to_owned() } else { format!("{}: {what}", names.join(", ")) };
        progress(&format!("{:.1} s: {}: {detail}", self.recorder().now() as f64 / 1e6, fault.name()));
        detail
    }

    /// The nodes that a target means now, and the time once they are known: looking for them takes a moment that must
    /// not count.
    fn aim(&mut self, target: Target) -> anyhow::Result<(Vec<usize>, Micros)> {
        let nodes = self.resolve(target)?;
        Ok((nodes, self.recorder().now()))
    }

    fn kill_nodes(&mut self, kill: &Kill) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(kill.target)?;
        for &node in &nodes {
            self.kill(node)?;
        }
        let struck = Struck::new(t0, nodes, "killed".to_owned());
        Ok(match kill.restart_after {
            Some(span) => struck.undone(span.0, Undo::Start),
            None => struck,
        })
    }

    fn cut_power(&mut self, cut: &PowerCut) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(cut.target)?;
        // All of them, before any disk is looked at.
        for &node in &nodes {
            self.kill(node)?;
        }
        let mut lost = Lost::default();
        for &node in &nodes {
            let random = &mut self.random;
            let of = self.cluster.nodes[node].cut_power(|bound| random.random_range(0..bound))?;
            lost = Lost {
                writes: lost.writes + of.writes,
                bytes: lost.bytes + of.bytes,
                names: lost.names + of.names,
            };
        }
        let Lost { writes, bytes, names } = lost;
        let what =
            format!("without power; {writes} writes of {bytes} bytes and {names} names are not as they were");
        Ok(Struck::new(t0, nodes, what).undone(cut.restart_after.0, Undo::Start))
    }

    /// Restarts nodes with the newer build. Once all have it, the cluster has to use what only that one knows.
    fn upgrade(&mut self, nodes: Vec<usize>, name: &str) -> anyhow::Result<()> {
        let newer = self.newer.clone().context("there is no newer build")?;
        let wanted = newer.newest_epoch()?;
        let before = self.cluster.status()?["epoch"].clone();
        for node in nodes {
            self.cluster.nodes[node].set_build(&newer);
            self.restart(node, name)?;
        }
        if !self.cluster.nodes.iter().all(|node| node.has_build(&newer)) {
            return Ok(());
        }
        let (t0, deadline) = (self.recorder().now(), Instant::now() + GUARD);
        loop {
            let used = self.cluster.status()?["epoch"].clone();
            if used == wanted {
                break;
            }
            ensure!(Instant::now() < deadline, "all nodes know epoch {wanted}, and the cluster uses {used}");
            self.advance(Instant::now())?;
            std::thread::sleep(TICK);
        }
        let detail = format!("epoch {wanted} is used, {before} was before");
        let (name, nodes, t1) = (name.to_owned(), Vec::new(), self.recorder().now());
        self.recorder().note(&Line::Fault(FaultOp { name, detail, nodes, t0, t1 }));
        Ok(())
    }

    fn pause_nodes(&mut self, pause: &Pause) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(pause.target)?;
        for &node in &nodes {
            self.cluster.nodes[node].signal("STOP")?;
            self.paused.insert(node);
        }
        let struck = Struck::new(t0, nodes, format!("paused for {}", pause.lasts));
        Ok(struck.undone(pause.lasts.0, Undo::Resume))
    }

    fn cut(&mut self, partition: &Partition) -> anyhow::Result<Struck> {
        let Partition { shape, cut, lasts, flap, .. } = partition;
        let (nodes, t0) = self.aim(partition.from)?;
        let (nodes, links) = self.cut_links(partition, nodes[0]);
        let (rule, how) = match cut {
            Cut::Silent => (Rule::Silent, "without a word"),
            Cut::Reset => (Rule::Reset, "by reset"),
        };
        let added = self.links.add(&links, rule);
        let flaps = flap.map_or_else(String::new, |every| format!(", on and off every {every}"));
        let what = format!("cut off ({}) {how} for {lasts}{flaps}", shape_name(*shape));
        let struck = Struck::new(t0, nodes, what);
        Ok(match flap {
            None => struck.undone_by(lasts.0, Undo::Unlink(added)),
            Some(every) => {
                let until = Instant::now() + lasts.0;
                let flap = Undo::Flap { links, rule, every: every.0, until, now: Some(added) };
                struck.undone_by(every.0, flap)
            }
        })
    }

    fn slow_links(&mut self, slow: &Slow) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(slow.target)?;
        let links: Vec<LinkId> = nodes.iter().flat_map(|node| self.links_of(*node)).collect();
        let rule = Rule::Slow {
            delay: slow.delay.0,
            jitter: slow.jitter.0,
            bytes_per_second: slow.bytes_per_second,
        };
        let added = self.links.add(&links, rule);
        let rate = slow.bytes_per_second.map_or_else(String::new, |rate| format!(", {rate} bytes/s"));
        let (least, most) = (slow.delay, Span(slow.delay.0 + slow.jitter.0));
        let what = format!("links slowed by {least} to {most}{rate} for {}", slow.lasts);
        Ok(Struck::new(t0, nodes, what).undone_by(slow.lasts.0, Undo::Unlink(added)))
    }

    fn fill_disks(&mut self, fill: &Fill) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(fill.target)?;
        for &node in &nodes {
            let used = disk_bytes(&self.cluster.nodes[node].dir())?;
            self.change_faults(&[node], |faults| faults.disk_quota_bytes = Some(used + fill.room.0))?;
        }
        let what = format!("disk full but for {} for {}", fill.room, fill.lasts);
        let mend = |faults: &mut NodeFaults| faults.disk_quota_bytes = None;
        Ok(Struck::new(t0, nodes, what).undone(fill.lasts.0, |node| Undo::Mend { node, mend }))
    }

    fn slow_disks(&mut self, slow: &SlowDisk) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(slow.target)?;
        let ms = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        let (delay, jitter) = (ms(slow.sync), ms(slow.jitter));
        self.change_faults(&nodes, |faults| (faults.sync_delay_ms, faults.sync_jitter_ms) = (delay, jitter))?;
        let (least, most) = (slow.sync, Span(slow.sync.0 + slow.jitter.0));
        let what = format!("syncs take {least} to {most} longer for {}", slow.lasts);
        let mend = |faults: &mut NodeFaults| (faults.sync_delay_ms, faults.sync_jitter_ms) = (0, 0);
        Ok(Struck::new(t0, nodes, what).undone(slow.lasts.0, |node| Undo::Mend { node, mend }))
    }

    fn move_clocks(&mut self, clock: &Clock) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(clock.target)?;
        self.change_faults(&nodes, |faults| faults.clock_offset_ms = clock.jump.ms)?;
        let what = format!("clock off by {} for {}", clock.jump, clock.lasts);
        let mend = |faults: &mut NodeFaults| faults.clock_offset_ms = 0;
        Ok(Struck::new(t0, nodes, what).undone(clock.lasts.0, |node| Undo::Mend { node, mend }))
    }

    /// Changes what is wrong with nodes' disks and clocks. Those that run have put it into effect when this returns.
    pub(super) fn change_faults(
        &mut self,
        nodes: &[usize],
        change: impl Fn(&mut NodeFaults),
    ) -> anyhow::Result<()> {
        for &index in nodes {
            let mut faults = self.cluster.nodes[index].faults();
            change(&mut faults);
            self.cluster.nodes[index].set_faults(faults)?;
        }
        for index in nodes.iter().filter(|index| !self.paused.contains(index)) {
            self.cluster.nodes[*index].wait_faulty()?;
        }
        Ok(())
    }

    fn corrupt_nodes(&mut self, corrupt: &Corrupt) -> anyhow::Result<Struck> {
        let t0 = self.recorder().now();
        let nodes = self.resolve(corrupt.target)?;
        let mut damaged = Vec::new();
        for &node in &nodes {
            damaged.extend(self.corrupt(corrupt, node)?);
        }
        Ok(Struck::new(t0, nodes, format!("bytes flipped in {}", damaged.join(", "))))
    }

    fn wipe_nodes(&mut self, wipe: &Wipe) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(wipe.target)?;
        ensure!(nodes.len() < self.cluster.nodes.len(), "some node has to keep its disk");
        for &node in &nodes {
            self.kill(node)?;
            self.empty(node)?;
        }
        let struck = Struck::new(t0, nodes, "killed, its disk emptied".to_owned());
        Ok(struck.undone(wipe.restart_after.0, Undo::Start))
    }

    fn lose_nodes(&mut self, lose: &Lose) -> anyhow::Result<Struck> {
        let nodes = self.resolve(lose.target)?;
        let ids = nodes.iter().map(|node| self.cluster.nodes[*node].id());
        let ids = ids.collect::<anyhow::Result<Vec<u64>>>()?;
        let mut struck = Struck::new(self.recorder().now(), nodes.clone(), "killed for good".to_owned());
        for (node, lost) in nodes.into_iter().zip(ids) {
            self.kill(node)?;
            self.empty(node)?;
            struck = struck.undone_by(LOOK_AGAIN, Undo::Rejoin { node, lost });
        }
        Ok(struck)
    }

    fn overload(&mut self, overload: &Overload) -> anyhow::Result<Struck> {
        let t0 = self.recorder().now();
        let mut running = Running::default();
        for _ in 0..overload.connections {
            let writer = burst_writer(self.bursts.len());
            self.bursts.push(writer.clone());
            let common = self.common.clone();
            running.spawn("burst", move |stop| write_until(&common, &writer, stop))?;
        }
        let what = format!("{} writers that never wait, for {}", overload.connections, overload.lasts);
        Ok(Struck::new(t0, Vec::new(), what).undone_by(overload.lasts.0, Undo::Stop(running)))
    }

    fn attack(&mut self, attack: &Hostile) -> anyhow::Result<Struck> {
        let (nodes, t0) = self.aim(attack.target)?;
        let node = &self.cluster.nodes[nodes[0]];
        let peer = ([127, 0, 0, 1], node.peer).into();
        let victim = hostile::Victim { recorder: self.recorder().clone(), http: node.http_addr(), peer };
        let mut running = Running::default();
        hostile::start(&victim, attack, &mut running)?;
        let with: Vec<&str> = attack.with.iter().map(|harm| harm.name()).collect();
        let what =
            format!("{} hostile clients ({}) for {}", attack.connections, with.join(", "), attack.lasts);
        // Nobody is to notice: no node counts as struck.
        Ok(Struck::new(t0, Vec::new(), what).undone_by(attack.lasts.0, Undo::Stop(running)))
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
