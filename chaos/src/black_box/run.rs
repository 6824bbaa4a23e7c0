//! Plays a scenario: starts nodes, lets clients work, breaks things, heals, reads everything back, leaves a history.
//!
//! ```text
//! dir/node-1/ node-1.log ...   what the nodes keep and print
//!     history.ndjson           what happened
//! ```
//!
//! Order of the end: everything runs and is ready again, the load goes on for a while and stops, all replicas flush and
//! show their digests, every node is asked for everything from its own replicas, the nodes are killed and their
//! directories verified. What the harness can not do is noted as "undecided": it is never taken for a pass.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use protocol::epoch;
use serde_json::Value;

use crate::black_box::check::{Judgement, judge};
use crate::black_box::clients::{ATTEMPT, Common, Running, Writer, read_until, write_until, writers};
use crate::black_box::faults::{Pids, Stage, leaders_by_port};
use crate::black_box::history::{FinalRead, History, Line, NodeSample, Recorder, SCHEMA, Signal, TotalRead};
use crate::black_box::numbered;
use crate::black_box::reader::Reader;
use crate::black_box::registers;
use crate::client::Client;
use crate::hooks::NodeFaults;
use crate::ledger::now_ms;
use crate::process::{Build, ClusterOptions, LocalCluster, require_empty, wait_for};
use crate::scenario::{Damaged, Fault, Load, Planned, Scenario};

/// How long the load goes on after everything is whole again.
pub(super) const AFTER_HEALING: Duration = Duration::from_secs(4);
/// Threads that ask.
const READERS: u32 = 2;
/// Lines of panics and errors that are kept of a node.
const LINES: usize = 50;

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The scenario.
    pub scenario: Scenario,
    /// What decides all that the scenario leaves open.
    pub seed: u64,
    /// What goals of time are multiplied with, for machines slower than those that the goals are for.
    pub slack: f64,
    /// The `pharos` binary.
    pub binary: PathBuf,
    /// What nodes run before they are upgraded to that; by default the same, as a build that knows an epoch less.
    pub older_binary: Option<PathBuf>,
    /// Directory for data, logs and the history; must be empty.
    pub dir: PathBuf,
}

/// Where a run in a directory leaves its history.
pub fn history_path(dir: &Path) -> PathBuf {
    dir.join("history.ndjson")
}

/// Runs a scenario and judges it. An error means that there was nothing to judge.
pub fn run(options: &RunOptions, progress: &mut dyn FnMut(&str)) -> anyhow::Result<(History, Judgement)> {
    require_empty(&options.dir)?;
    let plan = options.scenario.plan(options.seed)?;
    progress(&format!("{}: starting {} nodes", options.scenario.name, options.scenario.nodes));
    let settings = options.scenario.settings.iter();
    let arguments =
        settings.flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]).collect();
    let build = Build { binary: options.binary.clone(), arguments };
    let upgrades = plan.iter().any(|planned| matches!(planned.fault, Fault::Upgrade(_)));
    let first = if upgrades { older(options, &build) } else { build.clone() };
    let cluster = ClusterOptions {
        binary: first.binary,
        dir: options.dir.clone(),
        nodes: options.scenario.nodes,
        shards: options.scenario.shards,
        arguments: first.arguments,
    };
    let power_cuts = plan.iter().any(|planned| matches!(planned.fault, Fault::PowerCut(_)));
    let faults = NodeFaults { power_cuts, ..NodeFaults::default() };
    let (cluster, links) = LocalCluster::start_linked(cluster, faults)?;
    let path = history_path(&options.dir);
    let recorder = Recorder::create(&path)?;
    recorder.note(&Line::Run {
        schema: SCHEMA,
        scenario: options.scenario.text.clone(),
        seed: options.seed,
        slack: options.slack,
        nodes: options.scenario.nodes,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms: now_ms(),
        machine: machine(),
    });
    let common = Common {
        nodes: Arc::new(cluster.nodes.iter().map(|node| node.http_addr()).collect()),
        recorder: recorder.clone(),
        // In the past, so that number after number may be a millisecond after the other whatever the rate is.
        start_ms: now_ms() - 3_600_000,
        seed: options.seed,
        tenant: None,
    };
    let mut stage = Stage::new(cluster, links, common.clone());
    stage.newer = Some(build);
    let played = play(options, &plan, &common, &mut stage, progress);
    conclude(&recorder, &path, played, progress)
}

/// The build that a newer one follows.
fn older(options: &RunOptions, newer: &Build) -> Build {
    let mut older = newer.clone();
    match &options.older_binary {
        Some(binary) => older.binary.clone_from(binary),
        None => older
            .arguments
            .extend(["--set".to_owned(), format!("cluster.newest_epoch={}", epoch::NEWEST - 1)]),
    }
    older
}

/// Ends a history, with why it decides nothing if it does not, and judges it.
pub(super) fn conclude(
    recorder: &Recorder,
    path: &Path,
    played: anyhow::Result<()>,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<(History, Judgement)> {
    if let Err(error) = played {
        recorder.note(&Line::Undecided { reason: format!("{error:#}") });
    }
    recorder.note(&Line::End { t: recorder.now() });
    recorder.flush()?;
    progress("judging");
    let history = History::read(path)?;
    let judgement = judge(&history)?;
    Ok((history, judgement))
}

fn play(
    options: &RunOptions,
    plan: &[Planned],
    common: &Common,
    stage: &mut Stage,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let all = writers(&options.scenario.load);
    let mut watching = Running::default();
    watch(common, stage, &mut watching)?;
    let mut working = Running::default();
    start_load(common, &options.scenario.load, &all, &mut working)?;
    let saves = options.scenario.load.registers;
    if saves > 0 {
        let interval = Duration::from_secs_f64(registers::CLIENTS as f64 / f64::from(saves));
        for client in 0..registers::CLIENTS {
            let common = common.clone();
            working
                .spawn("registers", move |stop| registers::change_until(&common, client, interval, stop))?;
        }
    }
    stage.perform(plan, &options.scenario, progress)?;
    std::thread::sleep(AFTER_HEALING);
    common.recorder.note(&Line::LoadEnd { t: common.recorder.now() });
    working.stop()?;

    progress("comparing replicas");
    stage.cluster.wait_ready()?;
    let different = stage.cluster.wait_equal_digests().err().map(|different| format!("{different:#}"));
    let shards = u64::from(options.scenario.shards);
    let is_different = different.is_some();
    common.recorder.note(&Line::Digests { shards, different });
    progress("reading everything back from every node");
    let everyone: Vec<Writer> = all.iter().chain(stage.bursts()).cloned().collect();
    // Replicas that differ can not be expected to answer alike; the difference is told already.
    let consistency = if is_different { None } else { Some("local") };
    for node in 0..common.nodes.len() {
        read_back(common, &everyone, node, consistency)?;
    }
    registers::read_back(common)?;
    std::thread::sleep(Duration::from_secs(1));
    watching.stop()?;

    progress("verifying files");
    // What was flipped in a log stays there until its segment goes; by then somebody may have purged it, or made the replica anew.
    let flipped = |fault: &Fault| matches!(fault, Fault::Corrupt(corrupt) if corrupt.what == Damaged::Log);
    let only_needed = plan.iter().any(|planned| flipped(&planned.fault));
    for index in 0..stage.cluster.nodes.len() {
        let (panics, errors) = printed(&stage.cluster.nodes[index].log())?;
        common.recorder.note(&Line::Printed { node: index, panics, errors });
        stage.cluster.nodes[index].kill()?;
        let damage = verify(&options.binary, &stage.cluster.nodes[index].dir(), only_needed)?;
        common.recorder.note(&Line::Verified { node: index, damage });
    }
    Ok(())
}

/// Starts the threads of clients.
pub(super) fn start_load(
    common: &Common,
    load: &Load,
    all: &[Writer],
    working: &mut Running,
) -> anyhow::Result<()> {
    for writer in all {
        let (common, writer) = (common.clone(), writer.clone());
        working.spawn("writer", move |stop| write_until(&common, &writer, stop))?;
    }
    if load.queries > 0 && !all.is_empty() {
        let interval = Duration::from_secs_f64(f64::from(READERS) / f64::from(load.queries));
        for number in 0..READERS as usize {
            let (common, all) = (common.clone(), all.to_vec());
            working.spawn("reader", move |stop| read_until(&common, number, &all, interval, stop))?;
        }
    }
    Ok(())
}

/// Starts threads that look at nodes from outside.
fn watch(common: &Common, stage: &Stage, running: &mut Running) -> anyhow::Result<()> {
    for node in 0..common.nodes.len() {
        let (common, pids) = (common.clone(), stage.pids.clone());
        running.spawn("monitor", move |stop| {
            let client = client_of(common.nodes[node], Duration::from_secs(1));
            every(Duration::from_secs(1), stop, || {
                common.recorder.note(&Line::Node(sample(&common, &client, node, &pids)))
            });
        })?;
    }
    let ports: Vec<u16> = stage.cluster.nodes.iter().map(|node| node.peer).collect();
    watch_leaders(common, running, move |status| leaders_by_port(status, &ports))
}

/// Starts a thread that notes which node leads which shard, as `leaders` reads it from the cluster's status.
pub(super) fn watch_leaders(
    common: &Common,
    running: &mut Running,
    leaders: impl Fn(&Value) -> Vec<Option<usize>> + Send + 'static,
) -> anyhow::Result<()> {
    let common = common.clone();
    running.spawn("leaders", move |stop| {
        let clients: Vec<Client> =
            common.nodes.iter().map(|addr| client_of(*addr, Duration::from_secs(2))).collect();
        let mut last: Vec<Option<usize>> = Vec::new();
        let mut turn = 0;
        every(Duration::from_millis(500), stop, || {
            turn += 1;
            let Ok(answer) = clients[turn % clients.len()].get("/cluster/status") else { return };
            let Ok(status) = serde_json::from_str::<Value>(&answer.body) else { return };
            let of = leaders(&status);
            if answer.status == 200 && of != last {
                last.clone_from(&of);
                common.recorder.note(&Line::Leaders { t: common.recorder.now(), of });
            }
        });
    })
}

fn client_of(addr: SocketAddr, timeout: Duration) -> Client {
    Client::with_timeout(format!("http://{addr}"), timeout)
}

fn every(interval: Duration, stop: &AtomicBool, mut work: impl FnMut()) {
    while !stop.load(Ordering::Relaxed) {
        work();
        std::thread::sleep(interval);
    }
}

fn sample(common: &Common, client: &Client, node: usize, pids: &Pids) -> NodeSample {
    let pid = pids.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied().flatten();
    let rss = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let open = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count);
    NodeSample {
        node,
        t: common.recorder.now(),
        is_running: pid.is_some(),
        is_ready: pid.is_some() && client.get("/-/ready").is_ok_and(|answer| answer.status == 200),
        rss_bytes: pid.and_then(rss).unwrap_or_default() * 1024,
        descriptors: pid.and_then(open).unwrap_or_default() as u64,
    }
}

/// Reads everything from one node, of what it holds itself.
pub(super) fn read_back(
    common: &Common,
    everyone: &[Writer],
    node: usize,
    consistency: Option<&str>,
) -> anyhow::Result<()> {
    let mut connection = common.connect(node, ATTEMPT * 10);
    let mut highest = [0; Signal::ALL.len()];
    for writer in everyone {
        let hi = writer.sent.load(Ordering::SeqCst);
        let (signal, client) = (writer.signal, writer.client);
        highest[signal as usize] = hi.max(highest[signal as usize]);
        if hi == 0 {
            continue;
        }
        let found = wait_for(&format!("node {} answers in the end", node + 1), || {
            let mut reader = Reader::new(&mut connection, common.start_ms, consistency);
            let read = reader.read(signal, client, 0..numbered::series(signal), (0, hi));
            let (found, is_partial) = read.map_err(anyhow::Error::msg)?;
            ensure!(!is_partial, "a partial answer");
            Ok(found)
        })?;
        for (series, found) in found.into_iter().enumerate() {
            let consistency = consistency.unwrap_or("linearizable").to_owned();
            common.recorder.note(&Line::Final(FinalRead {
                signal,
                client,
                series,
                node,
                consistency,
                found,
            }));
        }
    }
    for signal in Signal::ALL {
        if !everyone.iter().any(|writer| writer.signal == signal) {
            continue;
        }
        let totals = wait_for(&format!("node {} adds up", node + 1), || {
            let mut reader = Reader::new(&mut connection, common.start_ms, consistency);
            reader.totals(signal, highest[signal as usize]).map_err(anyhow::Error::msg)
        })?;
        for (what, value) in totals {
            let what = what.to_owned();
            common.recorder.note(&Line::Total(TotalRead { signal, node, what, value }));
        }
    }
    Ok(())
}

/// Lines of panics and of errors in a node's log.
fn printed(log: &Path) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let text = std::fs::read(log).with_context(|| log.display().to_string())?;
    let text = String::from_utf8_lossy(&text);
    let of = |word: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains(word));
        lines.take(LINES).map(|line| line.chars().take(500).collect()).collect()
    };
    Ok((of("panicked at"), of("ERROR")))
}

/// What `pharos verify` says is damaged, without what nobody needs if only that is asked for.
fn verify(binary: &Path, dir: &Path, only_needed: bool) -> anyhow::Result<Vec<String>> {
    let output = Command::new(binary).arg("verify").arg(dir).arg("--json").stdin(Stdio::null()).output()?;
    let code = output.status.code();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(matches!(code, Some(0 | 1)), "verify ended with {code:?}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).context("verify's report")?;
    let damage = report["damage"].as_array().context("verify's report lists damage")?;
    ensure!(code == Some(0) || !damage.is_empty(), "verify ended with 1 and names no damage");
    let counts = |place: &&Value| !only_needed || place["needed"] != Value::Bool(false);
    Ok(damage.iter().filter(counts).map(Value::to_string).collect())
}

/// Processor and system, as a reader of figures wants to know them.
pub(super) fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':', '=']).trim_matches('"').to_owned())
    };
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let system = field("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| std::env::consts::OS.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores of {processor}, {system}")
}
