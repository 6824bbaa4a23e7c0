//! Real peers from the distribution: Prometheus, node_exporter, vmalert and rsyslog.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use chaos::client::Client;
use chaos::process::free_port;

/// Whether programs that a test needs are installed. Where they are not, the reason is printed and the test skips;
/// in CI (`CI=true`) their absence is a failure.
pub fn installed(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|p| find(p).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{missing:?} must be installed in CI");
    eprintln!(
        "skipped: {missing:?} not installed (apt-get install prometheus prometheus-node-exporter victoria-metrics \
         rsyslog postgresql-client)"
    );
    false
}

/// A directory of client libraries that `.ci/peers` made, as [`installed`] does it: `python` or `node`.
fn client_dir(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let dir = cache
        .map(|cache| cache.join("pharos/clients").join(name))
        .filter(|dir| dir.join("installed").exists());
    if dir.is_none() {
        assert!(std::env::var_os("CI").is_none(), "the {name} clients must be installed in CI");
        eprintln!("skipped: the {name} clients are not installed (make peers)");
    }
    dir
}

/// A script of `cases/clients`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/clients").join(name)
}

/// A Python with the client libraries.
pub fn python_program() -> Option<PathBuf> {
    Some(client_dir("python")?.join("venv/bin/python"))
}

/// The same, about to run a script of `cases/clients`.
pub fn python(name: &str) -> Option<Command> {
    let mut command = Command::new(python_program()?);
    // Nothing is left beside the scripts.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script(name));
    Some(command)
}

/// A Node.js with the client libraries, about to run a script of `cases/clients`.
pub fn node(name: &str) -> Option<Command> {
    if !installed(&["node"]) {
        return None;
    }
    let mut command = Command::new("node");
    command.env("NODE_PATH", client_dir("node")?.join("node_modules")).arg(script(name));
    Some(command)
}

/// Runs a client to its end and gives what it printed; panics with what it said if it failed.
pub fn run(mut command: Command, arguments: &[&str]) -> String {
    let output = command.args(arguments).output().expect("an installed program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {printed}{said}");
    printed
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Daemons lie where users' paths do not lead.
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// A process that ends with the value.
pub struct Peer {
    process: Child,
    /// Port of its HTTP server; 0 if it has none.
    pub port: u16,
}

impl Peer {
    fn spawn(mut command: Command, port: u16, log: &Path) -> Self {
        let log = File::create(log).expect("the test's directory is writable");
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn()
            .expect("an installed program starts");
        Self { process, port }
    }

    /// A client of its HTTP server.
    pub fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.port))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts node_exporter.
pub fn node_exporter(dir: &Path) -> Peer {
    let port = free_port().expect("loopback has free ports");
    let mut command = Command::new("prometheus-node-exporter");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Peer::spawn(command, port, &dir.join("node_exporter.log"))
}

/// Starts a Prometheus that scrapes itself and `target` every second and writes to `remote_write`.
pub fn prometheus(dir: &Path, target: u16, remote_write: &str) -> Peer {
    let port = free_port().expect("loopback has free ports");
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: prometheus\n    static_configs:\n      - targets: ['127.0.0.1:{port}']\n  - job_name: node\n    static_configs:\n      - targets: ['127.0.0.1:{target}']\nremote_write:\n  - url: {remote_write}\n    queue_config:\n      batch_send_deadline: 500ms\n"
    );
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, config).expect("the test's directory is writable");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Peer::spawn(command, port, &dir.join("prometheus.log"))
}

/// Starts a Prometheus that scrapes nothing and reads everything remotely.
pub fn remote_reader(dir: &Path, remote_read: &str) -> Peer {
    let port = free_port().expect("loopback has free ports");
    let config = format!("remote_read:\n  - url: {remote_read}\n    read_recent: true\n");
    let file = dir.join("reader.yml");
    std::fs::write(&file, config).expect("the test's directory is writable");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("reader").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Peer::spawn(command, port, &dir.join("reader.log"))
}

/// Starts an rsyslog that takes messages from the datagram socket `dir/log.sock` and does with them what `rules` say.
pub fn rsyslog(dir: &Path, rules: &str) -> Peer {
    let at = dir.display();
    let config = format!(
        "global(workDirectory=\"{at}\" localHostname=\"edge-1\")\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imuxsock\" Socket=\"{at}/log.sock\" RateLimit.Interval=\"0\")\n{rules}"
    );
    let file = dir.join("rsyslog.conf");
    std::fs::write(&file, config).expect("the test's directory is writable");
    let mut command = Command::new(find("rsyslogd").expect("it is installed"));
    command.arg("-n").arg("-f").arg(&file).arg("-i").arg(dir.join("rsyslog.pid"));
    Peer::spawn(command, 0, &dir.join("rsyslog.log"))
}

/// Starts a vmalert that evaluates a rule file against `datasource` every second, writes results to `remote_write` and
/// sends alerts to `notifier`.
pub fn vmalert(dir: &Path, rules: &Path, datasource: &str, remote_write: &str, notifier: &str) -> Peer {
    let port = free_port().expect("loopback has free ports");
    let mut command = Command::new("vmalert");
    command
        .arg(format!("-rule={}", rules.display()))
        .arg(format!("-datasource.url={datasource}"))
        .arg(format!("-remoteWrite.url={remote_write}"))
        .arg(format!("-remoteRead.url={datasource}"))
        .arg(format!("-notifier.url={notifier}"))
        .arg("-evaluationInterval=1s")
        .arg("-remoteWrite.flushInterval=1s")
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"));
    Peer::spawn(command, port, &dir.join("vmalert.log"))
}
