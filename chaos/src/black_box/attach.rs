//! Chaos for a cluster that somebody else runs: only what such a cluster does by itself now and then, and clients that
//! keep to a tenant of their own.
//!
//! The cluster has to be named by whoever wants that, and every endpoint has to be a node of it: else nothing is done.
//! What is noted and judged is as in a run of a scenario, but for what takes a look at nodes' files and processes.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::Value;

use crate::black_box::check::Judgement;
use crate::black_box::clients::{Common, Running, Writer, writers};
use crate::black_box::faults::leaders;
use crate::black_box::history::{FaultOp, History, Line, Recorder, SCHEMA};
use crate::black_box::run::{
    AFTER_HEALING, conclude, history_path, machine, read_back, start_load, watch_leaders,
};
use crate::client::Client;
use crate::ledger::now_ms;
use crate::process::require_empty;
use crate::scenario::{Scenario, Span};
use crate::sim::random::{Stream, stream};

/// Time from one disturbance to the next.
const EVERY: Duration = Duration::from_secs(5);
/// How long a process is paused: longer than an election takes.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a node may take to do what it is asked to.
const PATIENCE: Duration = Duration::from_secs(120);

/// Something that every cluster goes through now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// A shard's leadership goes to another replica.
    Transfer,
    /// All shards are flushed and merged.
    Flush,
    /// A replica moves to a node that has none of its shard, and back.
    Move,
    /// A process stands still for two seconds.
    Pause,
}

impl Disturbance {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Transfer, Self::Flush, Self::Move, Self::Pause];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Flush => "flush",
            Self::Move => "move",
            Self::Pause => "pause",
        }
    }
}

impl std::str::FromStr for Disturbance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|one| one.name()).collect();
            format!("{text:?} is not done to a running cluster; there are {}", names.join(", "))
        })
    }
}

/// Which cluster, and what is done to it.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Where its nodes answer HTTP.
    pub endpoints: Vec<String>,
    /// The id of the cluster that is meant.
    pub cluster: String,
    /// What is done.
    pub only: BTreeSet<Disturbance>,
    /// Processes of the endpoints, in the same order, on this machine; for pauses.
    pub pids: Vec<u32>,
    /// For how long.
    pub lasts: Span,
    /// What decides when and where.
    pub seed: u64,
    /// What goals of time are multiplied with.
    pub slack: f64,
    /// Directory for the history; must be empty.
    pub dir: PathBuf,
}

impl AttachOptions {
    /// The load, its length and the goals, as a scenario says them.
    fn scenario(&self) -> String {
        let names: Vec<&str> = self.only.iter().map(|one| one.name()).collect();
        format!(
            "name = \"attach\"\nsummary = \"a running cluster: {}\"\nnodes = {}\nduration = \"{}\"\n\n[load]\n\
             metrics = 480\nlogs = 60\ntraces = 40\nqueries = 6\n\n[goal]\nfailed_retried_max = 0.0\n",
            names.join(", "),
            self.endpoints.len(),
            self.lasts
        )
    }
}

/// A node of the cluster.
struct Endpoint {
    addr: SocketAddr,
    client: Client,
    /// The id that the cluster gave it.
    id: u64,
    pid: Option<u32>,
}

/// Disturbs a cluster, and judges what clients of an own tenant saw. An error means that there was nothing to judge.
pub fn attach(
    options: &AttachOptions,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<(History, Judgement)> {
    require_empty(&options.dir)?;
    let scenario = Scenario::parse(&options.scenario())?;
    let endpoints = recognise(options)?;
    let path = history_path(&options.dir);
    let recorder = Recorder::create(&path)?;
    recorder.note(&Line::Run {
        schema: SCHEMA,
        scenario: scenario.text.clone(),
        seed: options.seed,
        slack: options.slack,
        nodes: endpoints.len(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms: now_ms(),
        machine: format!("clients on {}", machine()),
    });
    let tenant = format!("chaos-{}", now_ms());
    progress(&format!("cluster {}: {} nodes, tenant {tenant}", options.cluster, endpoints.len()));
    let common = Common {
        nodes: Arc::new(endpoints.iter().map(|endpoint| endpoint.addr).collect()),
        recorder: recorder.clone(),
        start_ms: now_ms() - 3_600_000,
        seed: options.seed,
        tenant: Some(tenant),
    };
    let played = play(options, &scenario, &common, &endpoints, progress);
    conclude(&recorder, &path, played, progress)
}

fn play(
    options: &AttachOptions,
    scenario: &Scenario,
    common: &Common,
    endpoints: &[Endpoint],
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let all: Vec<Writer> = writers(&scenario.load);
    let mut watching = Running::default();
    let ids: Vec<u64> = endpoints.iter().map(|endpoint| endpoint.id).collect();
    watch_leaders(common, &mut watching, move |status| {
        leaders(status, |id| ids.iter().position(|known| *known == id))
    })?;
    let mut working = Running::default();
    start_load(common, &scenario.load, &all, &mut working)?;
    let disturbed = disturb(options, common, endpoints, progress);
    std::thread::sleep(AFTER_HEALING);
    common.recorder.note(&Line::LoadEnd { t: common.recorder.now() });
    working.stop()?;
    disturbed?;
    progress("reading everything back from every node");
    for node in 0..endpoints.len() {
        read_back(common, &all, node, None)?;
    }
    watching.stop()
}

fn status(client: &Client) -> anyhow::Result<Value> {
    let answer = client.get("/cluster/status")?;
    ensure!(answer.status == 200, "/cluster/status answered {}: {}", answer.status, answer.body);
    Ok(serde_json::from_str(&answer.body)?)
}

/// The endpoints as nodes of the cluster that is meant, or why they are not.
fn recognise(options: &AttachOptions) -> anyhow::Result<Vec<Endpoint>> {
    let with_pids = options.only.contains(&Disturbance::Pause);
    ensure!(
        !with_pids || options.pids.len() == options.endpoints.len(),
        "for pauses each endpoint's process has to be named by --pids, in the same order: {} endpoints, {} processes",
        options.endpoints.len(),
        options.pids.len()
    );
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (index, text) in options.endpoints.iter().enumerate() {
        let plain = text.trim_start_matches("http://").trim_end_matches('/');
        let mut addrs = plain.to_socket_addrs().with_context(|| format!("{text} is no host:port"))?;
        let addr = addrs.next().with_context(|| format!("{text} has no address"))?;
        let client = Client::with_timeout(format!("http://{addr}"), PATIENCE);
        let status = status(&client).with_context(|| text.clone())?;
        let cluster = status["cluster_id"].as_str().unwrap_or_default();
        ensure!(
            cluster == options.cluster,
            "{text} is a node of the cluster {cluster}, not of {}: nothing was done",
            options.cluster
        );
        let id = status["node"].as_u64().with_context(|| format!("{text} does not say which node it is"))?;
        ensure!(endpoints.iter().all(|other| other.id != id), "{text} is node {id}, which is named twice");
        let pid = with_pids.then(|| options.pids[index]);
        if let Some(pid) = pid {
            let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
            let name = name.with_context(|| format!("there is no process {pid} on this machine"))?;
            ensure!(name.trim().starts_with("pharos"), "process {pid} is {}, no node", name.trim());
        }
        endpoints.push(Endpoint { addr, client, id, pid });
    }
    Ok(endpoints)
}

/// Disturbs until the time is over.
fn disturb(
    options: &AttachOptions,
    common: &Common,
    endpoints: &[Endpoint],
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let only: Vec<Disturbance> = options.only.iter().copied().collect();
    let mut random = stream(options.seed, Stream::Faults, u64::MAX);
    let begun = Instant::now();
    let mut done = BTreeSet::new();
    for kind in only.iter().cycle() {
        if begun.elapsed() + EVERY >= options.lasts.0 {
            break;
        }
        std::thread::sleep(EVERY);
        let t0 = common.recorder.now();
        if let Some((detail, nodes)) = once(*kind, endpoints, &mut random)? {
            let t1 = common.recorder.now();
            progress(&format!("{:.1} s: {}: {detail}", t0 as f64 / 1e6, kind.name()));
            common.recorder.note(&Line::Fault(FaultOp {
                name: kind.name().to_owned(),
                detail,
                nodes,
                t0,
                t1,
            }));
            done.insert(*kind);
        }
    }
    if let Some(never) = only.iter().find(|kind| !done.contains(kind)) {
        progress(&format!("{}: there was no occasion for it", never.name()));
    }
    std::thread::sleep(options.lasts.0.saturating_sub(begun.elapsed()));
    let t = common.recorder.now();
    common.recorder.note(&Line::Healed { t });
    Ok(())
}

fn ask(endpoint: &Endpoint, path: &str) -> anyhow::Result<()> {
    let answer = endpoint.client.post(path, &[], &[])?;
    ensure!(answer.is_success(), "{path} answered {}: {}", answer.status, answer.body);
    Ok(())
}

fn ids(value: &Value) -> Vec<u64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// Disturbs once. What was done, and the nodes that were struck by it; nothing where there was no occasion.
fn once(
    kind: Disturbance,
    endpoints: &[Endpoint],
    random: &mut SmallRng,
) -> anyhow::Result<Option<(String, Vec<usize>)>> {
    let index = random.random_range(0..endpoints.len());
    let by_id = |id: u64| endpoints.iter().find(|endpoint| endpoint.id == id);
    let status = status(&endpoints[index].client)?;
    let shards = status["shards"].as_array().context("shards")?;
    let shard = shards.get(random.random_range(0..shards.len().max(1)));
    Ok(match (kind, shard) {
        (Disturbance::Transfer, Some(shard)) => {
            let Some(leader) = shard["leader"].as_u64().and_then(by_id) else { return Ok(None) };
            if ids(&shard["voters"]).len() < 2 {
                return Ok(None);
            }
            // It may have lost the leadership since: then there is another one now, and nothing to be done.
            let path = format!("/api/v1/cluster/transfer?shard={}", shard["id"]);
            let answer = leader.client.post(&path, &[], &[])?;
            match answer.status {
                200 => {
                    Some((format!("shard {} led by node {} until now", shard["id"], leader.id), Vec::new()))
                }
                409 | 503 => None,
                _ => bail!("{path} answered {}: {}", answer.status, answer.body),
            }
        }
        (Disturbance::Flush, _) => {
            ask(&endpoints[index], "/api/v1/admin/flush")?;
            Some(("all shards flushed".to_owned(), Vec::new()))
        }
        (Disturbance::Move, Some(shard)) => {
            let holders = ids(&shard["voters"]);
            let free = endpoints.iter().find(|endpoint| !holders.contains(&endpoint.id));
            let (Some(from), Some(to)) = (holders.first(), free) else { return Ok(None) };
            let step = |from: u64, to: u64| {
                ask(
                    &endpoints[index],
                    &format!("/api/v1/cluster/move?shard={}&from={from}&to={to}", shard["id"]),
                )
            };
            step(*from, to.id)?;
            step(to.id, *from)?;
            Some((format!("shard {} from node {from} to node {} and back", shard["id"], to.id), Vec::new()))
        }
        (Disturbance::Pause, _) => {
            let Some(pid) = endpoints[index].pid else { return Ok(None) };
            pause(pid)?;
            Some((format!("node {} stood still for {PAUSE:?}", endpoints[index].id), vec![index]))
        }
        (_, None) => None,
    })
}

/// Lets a process stand still. A shell of its own sets it going again, also when this process ends meanwhile.
fn pause(pid: u32) -> anyhow::Result<()> {
    let script = format!("kill -STOP {pid} && sleep {} ; kill -CONT {pid}", PAUSE.as_secs());
    let ended = Command::new("sh").args(["-c", &script]).status()?;
    ensure!(ended.success(), "process {pid} could not be paused: {ended}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(only: &[Disturbance]) -> AttachOptions {
        AttachOptions {
            endpoints: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            cluster: "c".to_owned(),
            only: only.iter().copied().collect(),
            pids: vec![1],
            lasts: Span(Duration::from_secs(30)),
            seed: 1,
            slack: 1.0,
            dir: PathBuf::new(),
        }
    }

    #[test]
    fn the_load_is_a_scenario_without_faults() {
        let scenario = Scenario::parse(&options(&Disturbance::ALL).scenario()).expect("a scenario");
        assert_eq!((scenario.nodes, scenario.plan(1).expect("a plan").len()), (2, 0));
        assert!(scenario.summary.contains("move, pause"), "{}", scenario.summary);
    }

    #[test]
    fn every_process_has_to_be_named_where_some_are_paused() {
        let refused = recognise(&options(&[Disturbance::Pause])).err().expect("one process for two nodes");
        assert!(refused.to_string().contains("--pids"), "{refused}");
    }

    #[test]
    fn names_are_read_as_they_are_printed() {
        for one in Disturbance::ALL {
            assert_eq!(one.name().parse(), Ok(one));
        }
        "kill".parse::<Disturbance>().expect_err("not done to a running cluster");
    }
}
