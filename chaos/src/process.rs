//! Real node processes on loopback that may be killed, wiped and restarted: a cluster as the chaos scenarios, the
//! benchmarks and the black-box tests use it.
//!
//! Every process is a child of this one and is ended with it: by this one where it can, else because its standard input
//! ends. Directories lie under one that the caller owns. [`LocalCluster::start_linked`] puts [`Links`] between the nodes.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use storage::fs::undo::{Lost, cut_power};

use crate::client::Client;
use crate::hooks::{CHAOS_MARKER, NodeFaults};
use crate::proxy::Links;

/// How long a condition may take before waiting for it is given up. Far above what any healthy run needs.
pub const GUARD: Duration = Duration::from_secs(120);

/// How often a node is started anew on other ports.
const PORT_ATTEMPTS: u32 = 5;

/// Polls until `condition` yields a value; the error is its last refusal when the guard runs out.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + GUARD;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() > deadline => {
                return Err(reason.context(format!("waiting for: {what}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(25)),
        }
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// What all nodes of a cluster share.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The `pharos` binary.
    pub binary: PathBuf,
    /// Directory for data and logs; must exist.
    pub dir: PathBuf,
    /// Number of nodes at the start.
    pub nodes: usize,
    /// Number of shards.
    pub shards: u16,
    /// Further arguments for `pharos server`.
    pub arguments: Vec<String>,
}

/// A build, and the arguments that it is started with.
#[derive(Clone, Debug)]
pub struct Build {
    /// The `pharos` binary.
    pub binary: PathBuf,
    /// Further arguments for `pharos server`.
    pub arguments: Vec<String>,
}

impl Build {
    /// The newest epoch of formats that it knows, as it says itself.
    pub fn newest_epoch(&self) -> anyhow::Result<u64> {
        let output = Command::new(&self.binary).arg("--version").stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let epoch =
            said.split_once("epoch ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        epoch.with_context(|| format!("{} does not say which epoch it knows: {said}", self.binary.display()))
    }
}

/// One node: its process, ports and directory.
pub struct Node {
    /// Position in the cluster, from 1. Not the id that the cluster gave it.
    pub number: usize,
    /// HTTP port.
    pub http: u16,
    /// Port for OTLP over gRPC.
    pub grpc: u16,
    /// Port for syslog, over TCP and UDP.
    pub syslog: u16,
    /// Port for peers.
    pub peer: u16,
    /// Port for clients of PostgreSQL.
    pub postgres: u16,
    join: Option<u16>,
    /// Where it dials others instead, by the addresses under which they are known.
    dial: Vec<(String, SocketAddr)>,
    /// The faults of its disk and clock, where it has hooks for them.
    faults: Option<NodeFaults>,
    options: ClusterOptions,
    process: Option<Child>,
}

impl Node {
    /// A node that has not started yet, on ports that are free.
    fn new(number: usize, join: Option<u16>, options: &ClusterOptions) -> anyhow::Result<Self> {
        let (http, grpc, syslog, peer) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let postgres = free_port()?;
        let options = options.clone();
        Ok(Self {
            number,
            http,
            grpc,
            syslog,
            peer,
            postgres,
            join,
            dial: Vec::new(),
            faults: None,
            options,
            process: None,
        })
    }

    /// Where others know it to be.
    fn peer_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.peer).into()
    }

    /// Where it answers HTTP.
    pub fn http_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.http).into()
    }

    /// Makes it join through another node at its next start, should it have lost its disk.
    pub fn join_through(&mut self, peer_port: u16) {
        self.join = Some(peer_port);
    }

    /// Runs another build from the next start on.
    pub fn set_build(&mut self, build: &Build) {
        self.options.binary.clone_from(&build.binary);
        self.options.arguments.clone_from(&build.arguments);
    }

    /// Whether that is the build which it runs, or will at its next start.
    pub fn has_build(&self, build: &Build) -> bool {
        self.options.binary == build.binary && self.options.arguments == build.arguments
    }

    /// Further arguments for `pharos server` from the next start on, instead of those before.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.options.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// Base URL of its HTTP server.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// A client of the node.
    pub fn client(&self) -> Client {
        Client::new(self.url())
    }

    /// The data directory.
    pub fn dir(&self) -> PathBuf {
        self.options.dir.join(format!("node-{}", self.number))
    }

    /// The file that collects what the node prints.
    pub fn log(&self) -> PathBuf {
        self.options.dir.join(format!("node-{}.log", self.number))
    }

    /// The file that says what is wrong with its disk and clock.
    fn fault_file(&self) -> PathBuf {
        self.options.dir.join(format!("node-{}.faults", self.number))
    }

    /// What is wrong with its disk and clock.
    pub fn faults(&self) -> NodeFaults {
        self.faults.unwrap_or_default()
    }

    /// Changes what is wrong with its disk and clock, for this process and those that come after it.
    pub fn set_faults(&mut self, faults: NodeFaults) -> anyhow::Result<()> {
        ensure!(self.faults.is_some(), "node {} has no hooks for faults", self.number);
        faults.write(&self.fault_file())?;
        self.faults = Some(faults);
        Ok(())
    }

    /// Takes from the disk of a node that was killed what a power cut would take; `below` draws a number below another.
    pub fn cut_power(&mut self, below: impl FnMut(u64) -> u64) -> anyhow::Result<Lost> {
        ensure!(self.process.is_none() && self.faults().power_cuts, "node {} keeps its power", self.number);
        Ok(cut_power(&NodeFaults::undo_path(&self.fault_file()), below)?)
    }

    /// Waits until a node that runs has put its faults into effect.
    pub fn wait_faulty(&mut self) -> anyhow::Result<()> {
        wait_for(&format!("node {} puts its faults into effect", self.number), || {
            let seen = NodeFaults::read(&NodeFaults::seen_path(&self.fault_file()))?;
            ensure!(seen == self.faults() || !self.is_running(), "it has put into effect {seen:?}");
            Ok(())
        })
    }

    /// Starts the process on whatever its directory holds.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "node {} runs already", self.number);
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.options.binary);
        command
            .arg("server")
            .arg("--data-dir")
            .arg(self.dir())
            .args(["--http-addr", &format!("127.0.0.1:{}", self.http)])
            .args(["--peer-addr", &format!("127.0.0.1:{}", self.peer)])
            .args(["--shards", &self.options.shards.to_string()])
            // Several share this machine, where OTLP's usual ports are somebody's already.
            .args(["--set", &format!("otlp.grpc_addr=127.0.0.1:{}", self.grpc)])
            .args(["--set", "otlp.http_addr=off"])
            .args(["--set", &format!("syslog.tcp_addr=127.0.0.1:{}", self.syslog)])
            .args(["--set", &format!("syslog.udp_addr=127.0.0.1:{}", self.syslog)])
            .args(["--set", &format!("postgres.addr=127.0.0.1:{}", self.postgres)])
            // These nodes are killed for reasons that no query gave.
            .args(["--set", "query.quarantine=0s"])
            .arg("--stop-with-stdin")
            .args(&self.options.arguments);
        if self.faults.is_some() {
            std::fs::create_dir_all(self.dir())?;
            File::create(self.dir().join(CHAOS_MARKER))?;
            command.arg("--fault-file").arg(self.fault_file());
        }
        for (addr, proxy) in &self.dial {
            command.args(["--dial-map", &format!("{addr}={proxy}")]);
        }
        if let Some(port) = self.join {
            command.args(["--join", &format!("127.0.0.1:{port}")]);
        }
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", self.options.binary.display()))?;
        self.process = Some(child);
        Ok(())
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Ends the process without warning: SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Asks the process to stop (SIGTERM) and waits for it. Returns its exit code, `None` when a signal ended it.
    pub fn terminate(&mut self) -> anyhow::Result<Option<i32>> {
        self.signal("TERM")?;
        let Some(mut process) = self.process.take() else { return Ok(None) };
        Ok(process.wait()?.code())
    }

    /// Sends a signal by its name (`TERM`, `STOP`, `CONT`) to the process, if there is one.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
        ensure!(sent.success(), "SIG{name} did not reach node {}", self.number);
        Ok(())
    }

    /// How the process ended by itself, if it did.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.try_wait().ok()??;
        self.process = None;
        Some(status.to_string())
    }

    /// Whether the process is alive.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| matches!(p.try_wait(), Ok(None)))
    }

    /// Removes the directory of a stopped node: its disk is lost.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "only a stopped node loses its disk");
        Ok(std::fs::remove_dir_all(self.dir())?)
    }

    /// `/cluster/status` as this node sees it.
    pub fn status(&self) -> anyhow::Result<Value> {
        let client = Client::with_timeout(self.url(), Duration::from_secs(2));
        let answer = client.get("/cluster/status")?;
        ensure!(answer.status == 200, "status answered {}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// Id that the cluster gave the node.
    pub fn id(&self) -> anyhow::Result<u64> {
        self.status()?["node"].as_u64().context("a node knows its id")
    }

    /// Waits until the node says that it is ready; fails at once when its process ends instead.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let mut ended = None;
        let is_ready = wait_for(&format!("node {} is ready", self.number), || {
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                ended = Some(status);
                return Ok(());
            }
            let answer = Client::with_timeout(self.url(), Duration::from_secs(2)).get("/-/ready")?;
            ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        });
        match ended {
            Some(status) => bail!("node {} ended with {status}:\n{}", self.number, self.log_tail()),
            None => is_ready,
        }
    }

    /// Whether a node that was just started ended because it can not listen. Returns once it answers or has ended.
    pub(crate) fn lost_its_port(&mut self) -> anyhow::Result<bool> {
        wait_for(&format!("node {} answers or ends", self.number), || {
            if let Some(Ok(Some(_))) = self.process.as_mut().map(Child::try_wait) {
                return Ok(self.log_tail().contains("cannot listen on"));
            }
            let alive = Client::with_timeout(self.url(), Duration::from_secs(2)).get("/-/healthy")?;
            ensure!(alive.status == 200, "{}", alive.body);
            Ok(false)
        })
    }

    /// The last lines that the node printed.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Nothing can be done about a child that is already gone.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A cluster of real processes.
pub struct LocalCluster {
    /// The nodes in order of their first start.
    pub nodes: Vec<Node>,
    options: ClusterOptions,
}

impl LocalCluster {
    /// Starts a cluster and waits until all nodes are ready and every shard is fully replicated.
    pub fn start(options: ClusterOptions) -> anyhow::Result<Self> {
        let mut cluster = Self { nodes: Vec::new(), options };
        for _ in 0..cluster.options.nodes {
            cluster.add_node()?;
        }
        cluster.wait_ready()?;
        cluster.wait_replicated(cluster.nodes.len().min(3))?;
        Ok(cluster)
    }

    /// The same with a proxy on every link between nodes, and hooks for faults of their disks and clocks; `faults` are there
    /// from the start.
    pub fn start_linked(options: ClusterOptions, faults: NodeFaults) -> anyhow::Result<(Self, Links)> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut cluster = Self { nodes: Vec::new(), options: options.clone() };
            for number in 1..=options.nodes {
                let join = cluster.nodes.first().map(|first| first.peer);
                cluster.nodes.push(Node::new(number, join, &options)?);
            }
            let peers: Vec<SocketAddr> = cluster.nodes.iter().map(Node::peer_addr).collect();
            let links = Links::start(&peers)?;
            for (from, node) in cluster.nodes.iter_mut().enumerate() {
                let others = peers.iter().enumerate();
                let proxies =
                    others.filter_map(|(to, addr)| Some((addr.to_string(), links.address(from, to)?)));
                node.dial = proxies.collect();
                node.faults = Some(faults);
                node.set_faults(faults)?;
            }
            if cluster.start_in_order()? {
                cluster.wait_ready()?;
                cluster.wait_replicated(options.nodes.min(3))?;
                return Ok((cluster, links));
            }
            // Somebody else has taken a port since it was looked for. What is there knows the others' old ones.
            ensure!(attempts < PORT_ATTEMPTS, "other programs take the ports of nodes");
            for mut node in cluster.nodes.drain(..).filter(|node| node.dir().exists()) {
                node.kill()?;
                node.wipe()?;
            }
        }
    }

    /// Starts all nodes, each once the first one lets it join. False when a node could not have its ports.
    fn start_in_order(&mut self) -> anyhow::Result<bool> {
        for index in 0..self.nodes.len() {
            self.nodes[index].start()?;
            if self.nodes[index].lost_its_port()? {
                return Ok(false);
            }
            if index == 0 {
                self.nodes[0].wait_ready()?;
            }
        }
        Ok(true)
    }

    /// Starts one more node that joins by the first; the first must be ready.
    pub fn add_node(&mut self) -> anyhow::Result<usize> {
        let join = match self.nodes.first_mut() {
            None => None,
            Some(first) => {
                first.wait_ready()?;
                Some(first.peer)
            }
        };
        let number = self.nodes.len() + 1;
        for attempt in 0.. {
            let mut node = Node::new(number, join, &self.options)?;
            node.start()?;
            // Somebody else may have taken a port since: then there are others. The directory holds nothing yet.
            if attempt < PORT_ATTEMPTS && node.lost_its_port()? {
                continue;
            }
            self.nodes.push(node);
            break;
        }
        Ok(number)
    }

    /// Base URLs of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// Waits until every running node says that it is ready.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if node.is_running() {
                node.wait_ready()?;
            }
        }
        Ok(())
    }

    /// Status as the first node that answers sees it.
    pub fn status(&self) -> anyhow::Result<Value> {
        let running = self.nodes.iter().filter(|n| n.process.is_some());
        running.map(Node::status).find(Result::is_ok).context("no node answers")?
    }

    /// Waits until every shard has `replicas` voters, a leader and no learner, and the meta group as many voters; all of
    /// it committed: until then the old members decide too, and where one of them dies nobody leads.
    pub fn wait_replicated(&self, replicas: usize) -> anyhow::Result<()> {
        wait_for("every shard is replicated", || {
            let status = self.status()?;
            let shards = status["shards"].as_array().context("shards")?;
            ensure!(shards.len() == usize::from(self.options.shards), "{} shards", shards.len());
            let count = |of: &Value, key: &str| of[key].as_array().map_or(0, Vec::len);
            for shard in shards {
                ensure!(count(shard, "voters") == replicas && count(shard, "learners") == 0, "{shard}");
            }
            let meta = &status["meta"];
            ensure!(count(meta, "voters") >= replicas, "{meta}");
            for group in shards.iter().chain([meta]) {
                ensure!(group["leader"].is_u64() && group["changing"] == false, "{group}");
            }
            Ok(())
        })
    }

    /// Index in [`LocalCluster::nodes`] of the node that leads a shard.
    pub fn leader_of(&self, shard: u64) -> anyhow::Result<usize> {
        wait_for("the shard has a leader", || {
            let status = self.status()?;
            let rows = status["shards"].as_array().context("shards")?;
            let row = rows.iter().find(|s| s["id"] == shard).context("the shard exists")?;
            let leader = row["leader"].as_u64().context("a leader is known")?;
            self.index_of(&status, leader)
        })
    }

    /// Id of the shard that holds the most samples, and the index of its leader's node.
    pub fn busiest_shard(&self) -> anyhow::Result<(u64, usize)> {
        let id = wait_for("some node shows the shards", || {
            let status = self.status()?;
            let rows = status["shards"].as_array().context("shards")?;
            let busiest = rows.iter().max_by_key(|s| s["applied"].as_u64()).context("there is a shard")?;
            busiest["id"].as_u64().context("a shard has an id")
        })?;
        Ok((id, self.leader_of(id)?))
    }

    /// Index in [`LocalCluster::nodes`] of the node that the cluster knows by an id.
    pub fn index_of(&self, status: &Value, id: u64) -> anyhow::Result<usize> {
        let members = status["nodes"].as_array().context("nodes")?;
        let member = members.iter().find(|n| n["id"] == id).with_context(|| format!("{id} is no member"))?;
        let addr = member["addr"].as_str().context("a member has an address")?;
        let position = self.nodes.iter().position(|n| addr.ends_with(&format!(":{}", n.peer)));
        position.with_context(|| format!("{addr} is none of ours"))
    }

    /// Flushes all shards and waits until all replicas of each shard show one digest.
    pub fn wait_equal_digests(&self) -> anyhow::Result<()> {
        let running: Vec<&Node> = self.nodes.iter().filter(|n| n.process.is_some()).collect();
        wait_for("all replicas show one digest", || {
            let first = running.first().context("a node runs")?;
            let answer = first.client().post("/api/v1/admin/flush", &[], &[])?;
            ensure!(answer.is_success(), "flush: {} {}", answer.status, answer.body);
            let mut digests: std::collections::BTreeMap<u64, Vec<String>> = Default::default();
            for node in &running {
                for replica in node.status()?["local"].as_array().context("local replicas")? {
                    let shard = replica["shard"].as_u64().context("a replica names its shard")?;
                    digests.entry(shard).or_default().push(replica["digest"].to_string());
                }
            }
            ensure!(
                digests.len() == usize::from(self.options.shards),
                "{} shards show digests",
                digests.len()
            );
            for (shard, replicas) in &digests {
                ensure!(replicas.windows(2).all(|w| w[0] == w[1]), "shard {shard}: {replicas:?}");
                ensure!(replicas.len() == running.len().min(3), "shard {shard}: {replicas:?}");
            }
            Ok(())
        })
    }
}

/// Path of the running program, for programs that start themselves as nodes.
pub fn own_binary() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// Bytes of all files below a directory.
pub fn disk_bytes(dir: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => continue,
            Err(other) => return Err(other.into()),
        };
        sum += if meta.is_dir() { disk_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}

/// CPU time, peak memory and writes of a process, as the kernel accounts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Peak resident memory in bytes.
    pub peak_rss_bytes: u64,
    /// Bytes that it caused to be written to disks.
    pub written_bytes: u64,
}

impl Usage {
    /// Reads `/proc` for a process.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the program's name in parentheses and may hold anything.
        let fields: Vec<&str> =
            stat.rsplit(')').next().context("stat has a name")?.split_whitespace().collect();
        let ticks: u64 = fields.get(11).context("utime")?.parse::<u64>()?
            + fields.get(12).context("stime")?.parse::<u64>()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
        let written = io.lines().find_map(|l| l.strip_prefix("write_bytes:")).context("write_bytes")?;
        // Linux reports in units of 1/100 s to user space on every architecture that it runs on here.
        Ok(Self {
            cpu_seconds: ticks as f64 / 100.0,
            peak_rss_bytes: kib * 1024,
            written_bytes: written.trim().parse()?,
        })
    }
}

/// Refuses a directory that is not empty, so that a run never mixes with another's data.
pub fn require_empty(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        bail!("{} is not empty", dir.display());
    }
    Ok(())
}
