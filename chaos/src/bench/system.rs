//! The stores that a comparison runs, each with its own process, data directory and ways.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use super::{Sizes, address, flush};
use crate::http::Connection;
use crate::process::{LocalCluster, Usage, disk_bytes, free_port, wait_for};

/// A store that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemKind {
    /// One node of this build.
    Pharos,
    /// Three nodes of this build, three copies of everything.
    PharosCluster,
    /// `victoria-metrics` as the system has it.
    VictoriaMetrics,
    /// `prometheus` as the system has it.
    Prometheus,
    /// `victoria-logs` as the system has it.
    VictoriaLogs,
}

impl SystemKind {
    /// Name in reports and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pharos => "pharos",
            Self::PharosCluster => "pharos-cluster",
            Self::VictoriaMetrics => "victoria-metrics",
            Self::Prometheus => "prometheus",
            Self::VictoriaLogs => "victoria-logs",
        }
    }

    /// What the system's program says of its version; `None` where there is no such program.
    pub fn version(self) -> Option<String> {
        let program = match self {
            Self::Pharos | Self::PharosCluster => return Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::VictoriaMetrics | Self::Prometheus | Self::VictoriaLogs => self.name(),
        };
        let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
        let said = version_in(&[output.stdout, output.stderr].concat());
        // Debian's VictoriaMetrics does not say; the package does.
        said.or_else(|| {
            let package =
                Command::new("dpkg-query").args(["-W", "-f", "${Version}", program]).output().ok()?;
            version_in(&package.stdout)
        })
        .or_else(|| Some("of unknown version".to_owned()))
    }
}

/// The first word that looks like a version.
fn version_in(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let digit = |c: char| c.is_ascii_digit();
    let is_version = |word: &&str| word.trim_start_matches('v').starts_with(digit) && word.contains('.');
    text.split(|c: char| c.is_whitespace() || ",-+".contains(c)).find(is_version).map(str::to_owned)
}

/// A store that runs.
pub(super) struct System {
    pub kind: SystemKind,
    pub addrs: Vec<SocketAddr>,
    dirs: Vec<PathBuf>,
    running: Running,
}

enum Running {
    Cluster(LocalCluster),
    Process(Process),
}

/// A child that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a child that is already gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl System {
    /// Starts a store on an empty directory and waits until it answers.
    pub fn start(kind: SystemKind, binary: &Path, dir: &Path, shards: u16) -> anyhow::Result<Self> {
        match kind {
            SystemKind::Pharos => Self::pharos(binary, dir, 1, shards),
            SystemKind::PharosCluster => Self::pharos(binary, dir, 3, shards),
            SystemKind::VictoriaMetrics => Self::victoria_metrics(dir),
            SystemKind::Prometheus => Self::prometheus(dir),
            SystemKind::VictoriaLogs => Self::victoria_logs(dir),
        }
    }

    /// Starts nodes of this build on an empty directory.
    pub fn pharos(binary: &Path, dir: &Path, nodes: usize, shards: u16) -> anyhow::Result<Self> {
        let cluster = super::start(binary, dir, nodes, shards)?;
        Ok(Self {
            kind: if nodes == 1 { SystemKind::Pharos } else { SystemKind::PharosCluster },
            addrs: cluster.nodes.iter().map(|n| address(n.http)).collect(),
            dirs: cluster.nodes.iter().map(|n| n.dir()).collect(),
            running: Running::Cluster(cluster),
        })
    }

    fn victoria_metrics(dir: &Path) -> anyhow::Result<Self> {
        let addr = address(free_port()?);
        let arguments = [
            format!("-storageDataPath={}", dir.display()),
            format!("-httpListenAddr={addr}"),
            "-retentionPeriod=10y".to_owned(),
            // What was written is to be seen at once, as it is elsewhere.
            "-search.latencyOffset=0s".to_owned(),
            // A million series are asked for where a load has as many; 300,000 are the default.
            "-search.maxUniqueTimeseries=10000000".to_owned(),
        ];
        Self::process(SystemKind::VictoriaMetrics, addr, dir, &arguments, "/health")
    }

    fn prometheus(dir: &Path) -> anyhow::Result<Self> {
        let addr = address(free_port()?);
        let config = dir.join("empty.yml");
        std::fs::write(&config, "")?;
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            format!("--web.listen-address={addr}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--web.enable-admin-api".to_owned(),
        ];
        Self::process(SystemKind::Prometheus, addr, dir, &arguments, "/-/ready")
    }

    fn victoria_logs(dir: &Path) -> anyhow::Result<Self> {
        let addr = address(free_port()?);
        let arguments = [format!("-storageDataPath={}", dir.display()), format!("-httpListenAddr={addr}")];
        Self::process(SystemKind::VictoriaLogs, addr, dir, &arguments, "/health")
    }

    fn process(
        kind: SystemKind,
        addr: SocketAddr,
        dir: &Path,
        arguments: &[String],
        ready: &str,
    ) -> anyhow::Result<Self> {
        let log = std::fs::File::create(dir.join("log"))?;
        let mut command = Command::new(kind.name());
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut process = Process(command.spawn().with_context(|| format!("starting {}", kind.name()))?);
        wait_for(&format!("{} is ready", kind.name()), || {
            if let Some(status) = process.0.try_wait()? {
                bail!("it ended: {status}");
            }
            let answer = Connection::new(addr, Duration::from_secs(2)).get(ready)?;
            ensure!(answer.is_success(), "{}", answer.text());
            Ok(())
        })?;
        Ok(Self { kind, addrs: vec![addr], dirs: vec![dir.to_owned()], running: Running::Process(process) })
    }

    /// Servers.
    pub fn nodes(&self) -> usize {
        self.addrs.len()
    }

    /// Copies of everything that is written.
    pub fn replicas(&self) -> usize {
        self.nodes().min(3)
    }

    /// What its processes have used, taken together; the peak is that of the largest.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let pids: Vec<u32> = match &self.running {
            Running::Cluster(cluster) => cluster.nodes.iter().filter_map(|n| n.pid()).collect(),
            Running::Process(process) => vec![process.0.id()],
        };
        let mut sum = Usage::default();
        for pid in pids {
            let usage = Usage::of(pid)?;
            sum.cpu_seconds += usage.cpu_seconds;
            sum.peak_rss_bytes = sum.peak_rss_bytes.max(usage.peak_rss_bytes);
            sum.written_bytes += usage.written_bytes;
        }
        Ok(sum)
    }

    /// Has everything written out and merged, and gives the bytes of data and index on disk, all copies together; logs
    /// that are bounded do not count.
    pub fn settle(&self) -> anyhow::Result<u64> {
        let addr = self.addrs[0];
        let mut connection = Connection::new(addr, Duration::from_secs(600));
        match self.kind {
            SystemKind::Pharos | SystemKind::PharosCluster => {
                flush(addr)?;
                let sizes = self.dirs.iter().map(|dir| Sizes::of(dir));
                sizes.map(|sizes| sizes.map(|s| s.segments + s.index)).sum()
            }
            SystemKind::VictoriaMetrics | SystemKind::VictoriaLogs => {
                for path in ["/internal/force_flush", "/internal/force_merge"] {
                    let answer = connection.get(path)?;
                    ensure!(answer.is_success(), "{path} answered {}", answer.status);
                }
                let of_data: &[&str] = match self.kind {
                    SystemKind::VictoriaLogs => &["partitions"],
                    _ => &["data", "indexdb"],
                };
                // The merge goes on by itself; it has ended when the bytes stay the same.
                let bytes = || {
                    of_data.iter().map(|of| disk_bytes(&self.dirs[0].join(of))).sum::<anyhow::Result<u64>>()
                };
                let mut last = (bytes()?, 0);
                while last.1 < 5 {
                    std::thread::sleep(Duration::from_millis(500));
                    let now = bytes()?;
                    last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
                }
                Ok(last.0)
            }
            SystemKind::Prometheus => {
                // Recent data is in its log; a snapshot is the block that it becomes.
                let answer = connection.post_empty("/api/v1/admin/tsdb/snapshot")?;
                ensure!(answer.is_success(), "the snapshot answered {}: {}", answer.status, answer.text());
                disk_bytes(&self.dirs[0].join("data/snapshots"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(SystemKind::Pharos.version().as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(version_in(b"prometheus, version 2.42.0+ds (branch: x)").as_deref(), Some("2.42.0"));
        assert_eq!(version_in(b"1.79.5+ds1-2").as_deref(), Some("1.79.5"));
        assert_eq!(version_in(b"\n"), None);
    }
}
