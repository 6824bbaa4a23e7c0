//! Harness of the black-box tests: starts real nodes and real peers on loopback and judges what they answer.
//!
//! Nodes, clients and the ledger of numbered samples are those of `chaos`, which gives them to users too; this crate
//! adds what tests need: [`Cluster`], whose every step panics with the nodes' logs when it fails, [`peers`], the
//! programs of others, and [`s3`], a store of objects. A test waits for conditions with a generous guard and never asserts how long something took.

#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "what a failed test leaves behind is read by people")]

pub mod peers;
pub mod remote_write;
pub mod s3;

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use chaos::client::Client;
use chaos::ledger::Ledger;
use chaos::process::{ClusterOptions, LocalCluster};
use tempfile::TempDir;

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

/// Polls until `condition` yields a value; panics with its last refusal when the guard runs out.
pub fn eventually<T>(what: &str, condition: impl FnMut() -> anyhow::Result<T>) -> T {
    chaos::process::wait_for(what, condition).unwrap_or_else(|e| panic!("{e:#}"))
}

/// A cluster of real processes in a temporary directory.
pub struct Cluster {
    // Before the directory: the processes end first.
    inner: LocalCluster,
    _dir: TempDir,
}

impl Cluster {
    /// Starts `nodes` nodes and waits until every shard is fully replicated.
    pub fn start(nodes: usize, shards: u16) -> Self {
        Self::with_arguments(nodes, shards, &[])
    }

    /// The same with further arguments for every `pharos server`.
    pub fn with_arguments(nodes: usize, shards: u16, arguments: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let options = ClusterOptions {
            binary: binary(),
            dir: dir.path().to_owned(),
            nodes,
            shards,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
        };
        let log = dir.path().to_owned();
        let inner = LocalCluster::start(options).unwrap_or_else(|e| {
            for number in 1..=nodes {
                let text =
                    std::fs::read_to_string(log.join(format!("node-{number}.log"))).unwrap_or_default();
                eprintln!("--- node {number}\n{text}");
            }
            panic!("the cluster did not start: {e:#}")
        });
        Self { inner, _dir: dir }
    }

    /// Kills the first node, asks another one, starts it again and asks itself; in the end all replicas are equal. What is
    /// asked may take a moment, as other leaders have to be elected first.
    pub fn assert_survives_a_kill(&mut self, check: impl Fn(&Client) -> anyhow::Result<()>) {
        let clients: Vec<Client> = self.nodes.iter().map(|node| node.client()).collect();
        self.kill(0);
        eventually("the others answer for the killed node", || check(&clients[2]));
        self.restart(0);
        eventually("the node is back with all of it", || check(&clients[0]));
        self.assert_equal_digests();
    }

    /// Kills a node by its index.
    pub fn kill(&mut self, index: usize) {
        self.inner.nodes[index].kill().expect("a child can be killed");
    }

    /// Starts a stopped node by its index and waits until it is ready.
    pub fn restart(&mut self, index: usize) {
        self.inner.nodes[index].start().expect("the binary starts");
        self.inner.nodes[index].wait_ready().unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// Reads the ledger back through every running node and panics at the first violation.
    pub fn judge(&mut self, ledger: &Ledger) {
        for node in &mut self.inner.nodes {
            if node.is_running() {
                let client = node.client();
                eventually("the node answers queries", || client.query("vector(1)", chaos::ledger::now_ms()));
                let judgement =
                    ledger.judge(&client).unwrap_or_else(|e| panic!("node {}: {e:#}", node.number));
                assert!(judgement.acknowledged > 0, "something was acknowledged");
            }
        }
    }

    /// Waits until each node leads its share of so many shards, where they do their part of a query. A cluster that has just
    /// begun is led by its first node alone, for a moment.
    pub fn wait_led_evenly(&self, shards: u16) {
        for node in &self.inner.nodes {
            let client = node.client();
            eventually("each node leads its share", || {
                let text = client.get("/metrics")?.body;
                let shard = text.lines().filter_map(|line| line.strip_prefix("pharos_shard_leader{shard=\""));
                let led = shard.filter(|line| line.ends_with(" 1") && !line.starts_with("0\"")).count();
                anyhow::ensure!(led == usize::from(shards) / self.inner.nodes.len(), "it leads {led} shards");
                Ok(())
            });
        }
    }

    /// Flushes and panics unless all replicas of each shard come to one digest.
    pub fn assert_equal_digests(&self) {
        self.inner.wait_equal_digests().unwrap_or_else(|e| panic!("{e:#}"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.inner.nodes {
                eprintln!("--- last lines of node {}\n{}", node.number, node.log_tail());
            }
        }
    }
}

impl Deref for Cluster {
    type Target = LocalCluster;
    fn deref(&self) -> &LocalCluster {
        &self.inner
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut LocalCluster {
        &mut self.inner
    }
}
