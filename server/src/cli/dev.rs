//! `pharos dev`: a cluster of real node processes on this machine.
//!
//! ```text
//! data dir/node-1/   node-1.log   <- pharos server on 127.0.0.1:9601 (HTTP), :9611 (OTLP/gRPC), :9621 (peers) and :9631
//!          node-2/   node-2.log   ...                  9602          9612               9622             9632
//!                                                                                                    (PostgreSQL)
//! ```
//!
//! Each node is this binary with `server`. Node 1 founds the cluster, the others join it; started again on the same
//! directory every node is who it was. If some directories are there and others are not, those without join the ones
//! that have: a lost disk comes back as a new node, never as a second cluster. Members start first, all of them, because
//! only a majority of them lets a newcomer in.
//!
//! A node lives as long as its standard input is open, which the supervisor holds: closing it asks for a clean stop, and
//! should the supervisor die, all of them stop by themselves. They are in process groups of their own, so that Ctrl-C in
//! a terminal reaches the supervisor alone, which then stops the nodes one after the other: each hands its leaderships
//! to those that still run. A node that dies is started again, unless it says by its exit code that it never can run
//! as it was told to.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CliError, complain, say};

const EXAMPLES: &str = "\
Ports: node n answers HTTP on 9600+n, OTLP/gRPC on 9610+n, its peers on 9620+n and clients of PostgreSQL on 9630+n, on
127.0.0.1; --port-base changes 9600.
Ctrl-C stops the nodes one after the other; the data stays, and the next start finds it.";

/// How long the nodes may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a node may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Exit codes of a node that starting it again can not help: a wrong command line, wrong settings.
const HOPELESS: [i32; 2] = [2, 78];
/// A node that lived this long is restarted without delay.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Arguments of `pharos dev`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DevArgs {
    /// Number of nodes, 1 to 9
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Directory for data and logs
    #[arg(long, default_value = "pharos-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// How long data is kept: 90d, 1y, unlimited [default: 30d for metrics, 14d for logs]
    #[arg(long, value_name = "TIME")]
    retention: Option<String>,
    /// Where ports begin: node n answers HTTP on this + n, OTLP/gRPC on this + 10 + n, its peers on this + 20 + n, clients of
    /// PostgreSQL on this + 30 + n
    #[arg(long, default_value_t = 9600, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65496))]
    port_base: u16,
    /// Number of shards, when the cluster is made [default: 16]
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Switches an unsettled feature on; may be repeated
    #[arg(long, value_name = "NAME")]
    enable_feature: Vec<String>,
    /// Any setting by its key, for all nodes; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// How one node is started.
#[derive(Clone)]
struct Plan {
    node: u16,
    binary: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
}

/// A node under supervision.
struct Running {
    node: u16,
    stop: CancellationToken,
    /// True when it stopped in an orderly way.
    task: tokio::task::JoinHandle<bool>,
}

/// A node that will not run however often it is started, and its exit code.
struct Hopeless {
    node: u16,
    code: u8,
}

impl DevArgs {
    pub fn run(self) -> Result<(), CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::Failed(format!("cannot start: {error}")))?;
        runtime.block_on(self.supervise())
    }

    fn http_port(&self, node: u16) -> u16 {
        self.port_base + node
    }

    fn grpc_port(&self, node: u16) -> u16 {
        self.port_base + 10 + node
    }

    fn peer_port(&self, node: u16) -> u16 {
        self.port_base + 20 + node
    }

    fn postgres_port(&self, node: u16) -> u16 {
        self.port_base + 30 + node
    }

    fn dir(&self, node: u16) -> PathBuf {
        self.data_dir.join(format!("node-{node}"))
    }

    /// How the nodes are started, in that order: members, then those that have to join.
    fn plans(&self) -> Result<Vec<Plan>, CliError> {
        let binary =
            std::env::current_exe().map_err(|e| CliError::Failed(format!("cannot find this binary: {e}")))?;
        let founded: Vec<u16> = (1..=self.nodes).filter(|node| is_member(&self.dir(*node))).collect();
        let plan = |node: u16| {
            let mut arguments = vec!["server".to_owned(), "--stop-with-stdin".to_owned()];
            let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
            flag("--data-dir", self.dir(node).display().to_string());
            flag("--http-addr", format!("127.0.0.1:{}", self.http_port(node)));
            flag("--peer-addr", format!("127.0.0.1:{}", self.peer_port(node)));
            flag("--set", format!("otlp.grpc_addr=127.0.0.1:{}", self.grpc_port(node)));
            flag("--set", "otlp.http_addr=off".to_owned());
            flag("--set", format!("postgres.addr=127.0.0.1:{}", self.postgres_port(node)));
            // A newcomer's first screen should move, and show it without a tenant to choose.
            flag("--set", "telemetry.self_monitoring_interval=5s".to_owned());
            flag("--set", "telemetry.self_monitoring_tenant=default".to_owned());
            // They share this machine, with whatever else runs on it.
            flag("--set", "node.memory_budget=1GiB".to_owned());
            let doors = if founded.is_empty() { vec![1] } else { founded.clone() };
            for door in doors.into_iter().filter(|door| *door != node) {
                flag("--join", format!("127.0.0.1:{}", self.peer_port(door)));
            }
            let options =
                [("--retention", self.retention.clone()), ("--shards", self.shards.map(|n| n.to_string()))];
            for (name, value) in options {
                if let Some(value) = value {
                    flag(name, value);
                }
            }
            for feature in &self.enable_feature {
                flag("--enable-feature", feature.clone());
            }
            for pair in &self.set {
                flag("--set", pair.clone());
            }
            Plan {
                node,
                binary: binary.clone(),
                log: self.data_dir.join(format!("node-{node}.log")),
                arguments,
            }
        };
        let new = (1..=self.nodes).filter(|node| !founded.contains(node));
        Ok(founded.iter().copied().chain(new).map(plan).collect())
    }

    async fn supervise(self) -> Result<(), CliError> {
        std::fs::create_dir_all(&self.data_dir)
            .map_err(|error| CliError::Failed(format!("{}: {error}", self.data_dir.display())))?;
        for node in 1..=self.nodes {
            let ports =
                [self.http_port(node), self.grpc_port(node), self.peer_port(node), self.postgres_port(node)];
            for port in ports {
                if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                    let message = format!("port {port} is taken ({error}): is another `pharos dev` running?");
                    return Err(CliError::Failed(message));
                }
            }
        }
        let mut interrupt =
            signals().map_err(|error| CliError::Failed(format!("cannot watch signals: {error}")))?;
        say(&format!("starting {} nodes in {}", self.nodes, self.data_dir.display()));
        let mut nodes = Vec::new();
        let (gave_up, mut hopeless) = mpsc::unbounded_channel();
        let work = async {
            self.start_all(&mut nodes, &gave_up).await?;
            say(&self.welcome());
            std::future::pending::<Result<(), CliError>>().await
        };
        let outcome = tokio::select! {
            biased;
            () = interrupt.received() => Ok(()),
            Some(Hopeless { node, code }) = hopeless.recv() => {
                complain(&format!("pharos: node {node} can not run like this"));
                Err(CliError::Code(code))
            }
            ended = work => ended,
        };
        say("stopping the nodes");
        let mut clean = true;
        for Running { node, stop, task } in nodes.into_iter().rev() {
            stop.cancel();
            match task.await {
                Ok(true) => say(&format!("node {node} has stopped")),
                _ => clean = false,
            }
        }
        outcome?;
        if clean {
            Ok(())
        } else {
            Err(CliError::Failed("not every node stopped in an orderly way".to_owned()))
        }
    }

    /// Starts the nodes and waits until all are ready.
    async fn start_all(
        &self,
        nodes: &mut Vec<Running>,
        gave_up: &mpsc::UnboundedSender<Hopeless>,
    ) -> Result<(), CliError> {
        let deadline = Instant::now() + READY_WITHIN;
        for plan in self.plans()? {
            let (node, stop) = (plan.node, CancellationToken::new());
            let is_new = !is_member(&self.dir(node));
            let task = tokio::spawn(keep_running(plan, stop.clone(), gave_up.clone()));
            nodes.push(Running { node, stop, task });
            if is_new {
                // One after the other, so that their ids in the cluster are their numbers here.
                self.wait_ready(node, deadline).await?;
            }
        }
        for node in 1..=self.nodes {
            self.wait_ready(node, deadline).await?;
        }
        Ok(())
    }

    async fn wait_ready(&self, node: u16, deadline: Instant) -> Result<(), CliError> {
        let url = format!("http://127.0.0.1:{}/-/ready", self.http_port(node));
        loop {
            let reason = match ready(url.clone()).await {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            };
            if Instant::now() > deadline {
                let log = self.data_dir.join(format!("node-{node}.log"));
                return Err(CliError::Failed(format!(
                    "node {node} is not ready: {reason}\nits log is {}",
                    log.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn welcome(&self) -> String {
        // As it was called, so that the commands can be copied.
        let pharos = std::env::args().next().unwrap_or_else(|| "pharos".to_owned());
        let other = self.http_port(self.nodes.min(2));
        // The commands of this program look for nodes at the usual ports by themselves.
        let url = match self.port_base {
            9600 => String::new(),
            _ => format!(" --url http://127.0.0.1:{}", self.http_port(1)),
        };
        let mut text = "\nThe cluster is ready.\n\n".to_owned();
        for node in 1..=self.nodes {
            text.push_str(&format!("  node {node}   http://127.0.0.1:{}\n", self.http_port(node)));
        }
        text.push_str(&format!(
            "\nOpen one of them in a browser. Or try, in another terminal:\n\n\
             \x20 {pharos} cluster shards{url}\n\
             \x20 {pharos} query{url} 'sum by (instance) (rate(process_cpu_seconds_total[1m]))'\n\
             \x20 curl -sG http://127.0.0.1:{other}/api/v1/query --data-urlencode 'query=count({{job=\"pharos\"}})'\n\n\
             Ask in SQL, with any client of PostgreSQL:\n\n\
             \x20 psql -h 127.0.0.1 -p {} -d default -c '\\d'\n\n\
             Point a Prometheus at any node:\n\n\
             \x20 remote_write:\n\
             \x20   - url: http://127.0.0.1:{}/api/v1/write\n\n\
             Point an OpenTelemetry SDK or collector at any node:\n\n\
             \x20 OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{}   (gRPC; over HTTP: port {})\n\n\
             Data and logs are in {}. Ctrl-C stops the nodes; the data stays.",
            self.postgres_port(1),
            self.http_port(1),
            self.grpc_port(1),
            self.http_port(1),
            self.data_dir.display(),
        ));
        text
    }
}

/// Whether a node's directory belongs to a member. One that is absent, empty, or of a join that was cut short does not.
fn is_member(dir: &Path) -> bool {
    let text = std::fs::read(dir.join("identity.json")).unwrap_or_default();
    let identity: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    identity["identity"]["node"].is_u64()
}

async fn ready(url: String) -> Result<(), String> {
    let ask = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(2)))
            .build()
            .into();
        match agent.get(&url).call() {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(mut response) => {
                let text = response.body_mut().read_to_string().unwrap_or_default();
                Err(text.trim().to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    };
    tokio::task::spawn_blocking(ask).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// SIGINT and SIGTERM.
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

fn signals() -> std::io::Result<Signals> {
    Ok(Signals(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}

impl Signals {
    async fn received(&mut self) {
        tokio::select! {
            _ = self.0.recv() => (),
            _ = self.1.recv() => (),
        }
    }
}

/// Runs a node until told to stop, and starts it again when it dies, unless that is hopeless. True when it stopped in an
/// orderly way.
async fn keep_running(plan: Plan, stop: CancellationToken, gave_up: mpsc::UnboundedSender<Hopeless>) -> bool {
    let mut pause = Duration::from_millis(500);
    loop {
        let started = Instant::now();
        let died = match start(&plan) {
            Ok(mut child) => {
                // Held here, as waiting for a child closes what it finds in it.
                let stdin = child.stdin.take();
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {
                        drop(stdin);
                        return stopped(&plan, child).await;
                    }
                    status = child.wait() => {
                        let code = status.as_ref().ok().and_then(ExitStatus::code);
                        if let Some(code) = code.filter(|code| HOPELESS.contains(code)) {
                            complain(&format!("node {} {}\n{}", plan.node, describe(status), tail(&plan.log)));
                            // The supervisor ends before its end of the channel does.
                            let _ = gave_up.send(Hopeless { node: plan.node, code: code as u8 });
                            return false;
                        }
                        describe(status)
                    }
                }
            }
            Err(error) => format!("cannot be started: {error}"),
        };
        if started.elapsed() > SETTLED_AFTER {
            pause = Duration::from_millis(500);
        }
        complain(&format!(
            "node {} {died}; it is started again in {pause:?}\n{}",
            plan.node,
            tail(&plan.log)
        ));
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(pause) => (),
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

fn start(plan: &Plan) -> std::io::Result<Child> {
    let log = File::options().create(true).append(true).open(&plan.log)?;
    Command::new(&plan.binary)
        .args(&plan.arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Waits for a node whose standard input was closed, which asks it to stop.
async fn stopped(plan: &Plan, mut child: Child) -> bool {
    match tokio::time::timeout(STOP_WITHIN, child.wait()).await {
        Ok(Ok(status)) if status.success() => true,
        Ok(status) => {
            complain(&format!("node {} {}", plan.node, describe(status)));
            false
        }
        Err(_) => {
            complain(&format!("node {} did not stop within {STOP_WITHIN:?} and is killed", plan.node));
            // It may have ended this very moment.
            let _ = child.kill().await;
            false
        }
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("ended with {status}"),
        Err(error) => format!("is lost: {error}"),
    }
}

/// The last lines of a log, for the one who watches the supervisor.
fn tail(path: &Path) -> String {
    const TAIL_BYTES: u64 = 2048;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("  | {line}\n")).collect()
}
