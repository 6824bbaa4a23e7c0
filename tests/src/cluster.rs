//! Real node processes on loopback that a test may kill, wipe and restart.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::{eventually, free_port};

/// Path of the `pharos` binary: `PHAROS_BIN`, else beside the test binaries.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PHAROS_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let path = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps").join("pharos");
    assert!(path.exists(), "{} is missing: run `cargo build -p server` first", path.display());
    path
}

/// One node: its process, ports and directory.
pub struct Node {
    /// Position in the cluster, from 1.
    pub number: usize,
    /// HTTP port.
    pub http: u16,
    /// Port for peers.
    pub peer: u16,
    dir: PathBuf,
    join: Option<u16>,
    shards: u16,
    process: Option<Child>,
}

impl Node {
    /// Base URL of its HTTP server.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// A client of the node.
    pub fn client(&self) -> Client {
        Client::new(self.url())
    }

    /// Starts the process on whatever its directory holds.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "node {} runs already", self.number);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.with_extension("log"))
            .expect("the test's directory is writable");
        let mut command = Command::new(binary());
        command
            .arg("server")
            .arg("--data-dir")
            .arg(&self.dir)
            .args(["--http-addr", &format!("127.0.0.1:{}", self.http)])
            .args(["--peer-addr", &format!("127.0.0.1:{}", self.peer)])
            .args(["--shards", &self.shards.to_string()]);
        if let Some(port) = self.join {
            command.args(["--join", &format!("127.0.0.1:{port}")]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file handle can be cloned")).stderr(log);
        self.process = Some(command.spawn().expect("the binary starts"));
    }

    /// Ends the process as a power cut of the process would: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a killed child ends");
        }
    }

    /// Asks the process to stop and waits for it. Returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut process = self.process.take()?;
        let kill = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
        assert!(kill.is_ok_and(|s| s.success()), "SIGTERM reaches the child");
        process.wait().expect("a child ends").code()
    }

    /// Whether the process is alive.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| matches!(p.try_wait(), Ok(None)))
    }

    /// Removes the node's directory: its disk is lost.
    pub fn wipe(&mut self) {
        assert!(self.process.is_none(), "only a stopped node loses its disk");
        std::fs::remove_dir_all(&self.dir).expect("the directory exists");
    }

    /// The last lines of the node's log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `/cluster/status` as this node sees it.
    pub fn status(&self) -> anyhow::Result<Value> {
        let answer = self.client().get("/cluster/status")?;
        if answer.status != 200 {
            bail!("status answered {}", answer.status);
        }
        Ok(serde_json::from_str(&answer.body)?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of node {}\n{}", self.number, self.log_tail());
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A cluster of real processes.
pub struct Cluster {
    /// The nodes, in order of their start.
    pub nodes: Vec<Node>,
    dir: TempDir,
    shards: u16,
}

impl Cluster {
    /// Starts `nodes` nodes of one cluster and waits until all are ready and every shard is fully replicated.
    pub fn start(nodes: usize, shards: u16) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let mut cluster = Self { nodes: Vec::new(), dir, shards };
        for _ in 0..nodes {
            cluster.add_node();
        }
        cluster.wait_ready();
        cluster.wait_replicated(nodes.min(3));
        cluster
    }

    /// Starts one more node that joins by the first.
    pub fn add_node(&mut self) -> &mut Node {
        let number = self.nodes.len() + 1;
        let join = self.nodes.first().map(|n| n.peer);
        let dir = self.dir.path().join(format!("node-{number}"));
        let mut node =
            Node { number, http: free_port(), peer: free_port(), dir, join, shards: self.shards, process: None };
        node.start();
        if number == 1 {
            eventually("the first node is ready", || ready(&node));
        }
        self.nodes.push(node);
        self.nodes.last_mut().expect("just pushed")
    }

    /// Base URLs of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// Waits until every running node says that it is ready.
    pub fn wait_ready(&mut self) {
        for node in &mut self.nodes {
            if node.is_running() {
                eventually(&format!("node {} is ready", node.number), || ready(node));
            }
        }
    }

    /// Waits until every shard has `replicas` voters, a leader and no change under way.
    pub fn wait_replicated(&self, replicas: usize) {
        eventually("every shard is replicated", || {
            let status = self.nodes.iter().find_map(|n| n.status().ok()).context("no node answers")?;
            let shards = status["shards"].as_array().context("shards")?;
            anyhow::ensure!(shards.len() == usize::from(self.shards), "{} shards", shards.len());
            for shard in shards {
                let voters = shard["voters"].as_array().map_or(0, Vec::len);
                let learners = shard["learners"].as_array().map_or(0, Vec::len);
                anyhow::ensure!(voters == replicas && learners == 0, "{shard}");
                anyhow::ensure!(shard["leader"].is_u64(), "{shard}");
            }
            Ok(())
        });
    }

    /// Number (from 1) of the node that leads a shard.
    pub fn leader_of(&self, shard: u64) -> usize {
        eventually("the shard has a leader", || {
            for node in &self.nodes {
                let Ok(status) = node.status() else { continue };
                let row = find(&status["shards"], shard)?;
                let Some(id) = row["leader"].as_u64() else { continue };
                let members = status["nodes"].as_array().context("nodes")?;
                let member = members.iter().find(|n| n["id"] == id).context("the leader is a member")?;
                let addr = member["addr"].as_str().context("a member has an address")?;
                if let Some(found) = self.nodes.iter().find(|n| addr.ends_with(&format!(":{}", n.peer))) {
                    return Ok(found.number);
                }
            }
            bail!("no leader known")
        })
    }

    /// Flushes all shards and waits until all replicas of each shard show one digest.
    pub fn assert_equal_digests(&self) {
        eventually("all replicas show one digest", || {
            let client = self.nodes.iter().find(|n| n.process.is_some()).context("a node runs")?.client();
            let answer = client.post("/api/v1/admin/flush", &[], &[])?;
            anyhow::ensure!(answer.status == 200 || answer.status == 204, "flush: {} {}", answer.status, answer.body);
            let mut digests: std::collections::BTreeMap<u64, Vec<String>> = Default::default();
            for node in self.nodes.iter().filter(|n| n.process.is_some()) {
                for replica in node.status()?["local"].as_array().context("local replicas")? {
                    let shard = replica["shard"].as_u64().context("a replica names its shard")?;
                    let digest = format!("{} {}", replica["digest"]["op_index"], replica["digest"]["digest"]);
                    digests.entry(shard).or_default().push(digest);
                }
            }
            anyhow::ensure!(digests.len() == usize::from(self.shards), "{} shards show digests", digests.len());
            for (shard, of_replicas) in &digests {
                anyhow::ensure!(of_replicas.windows(2).all(|w| w[0] == w[1]), "shard {shard}: {of_replicas:?}");
                anyhow::ensure!(of_replicas.len() == 3.min(self.nodes.len()), "shard {shard}: {of_replicas:?}");
            }
            Ok(())
        });
    }
}

fn find(rows: &Value, shard: u64) -> anyhow::Result<&Value> {
    rows.as_array().and_then(|r| r.iter().find(|s| s["id"] == shard)).with_context(|| format!("shard {shard}"))
}

fn ready(node: &Node) -> anyhow::Result<()> {
    let answer = node.client().get("/-/ready")?;
    anyhow::ensure!(answer.status == 200, "{}", answer.body);
    Ok(())
}
