//! `pharos dev`: three nodes from one command, live data by itself, a clean stop, and everything there afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chaos::client::Client;
use chaos::ledger::now_ms;
use tests::{binary, eventually};

struct Dev {
    process: Child,
    said: Vec<String>,
}

/// A base from which all ports of three nodes are free, a moment ago at least.
fn port_base() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..500)
        .map(|_| {
            TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("an address").port()
        })
        .find(|base| {
            *base < 65_000 && (1..=3).all(|n| [0, 10, 20, 30].iter().all(|kind| is_free(base + kind + n)))
        })
        .expect("twelve free ports beside each other")
}

fn command(dir: &Path, base: u16) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["dev", "--nodes", "3", "--port-base", &base.to_string(), "--data-dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

impl Dev {
    /// Starts the demo and reads what it says until it has named its nodes.
    fn start(dir: &Path, base: u16) -> Self {
        let mut process = command(dir, base).spawn().expect("the binary starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut said = Vec::new();
        while !said.iter().any(|l: &String| l.contains("Ctrl-C")) {
            match lines.next() {
                Some(line) => said.push(line.expect("text")),
                None => panic!("the demo ended: {said:#?}"),
            }
        }
        // The pipe stays open: the demo may say more.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, said }
    }

    /// What a command prints that the demo suggests.
    fn try_suggestion(&self, holding: &str) -> anyhow::Result<String> {
        let line = self.said.iter().find(|line| line.contains(holding)).expect("the demo suggests it");
        let output = Command::new("sh").args(["-c", line.trim()]).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(
            output.status.success(),
            "{line}: {said} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }

    fn stop(mut self) {
        let asked = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        assert!(asked.is_ok_and(|s| s.success()), "SIGINT reaches the demo");
        let code = self.process.wait().expect("the demo ends").code();
        assert_eq!(code, Some(0), "a clean stop is a success");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Its nodes notice that their parent is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn clients(base: u16) -> Vec<Client> {
    (1..=3).map(|n| Client::new(format!("http://127.0.0.1:{}", base + n))).collect()
}

const COUNT: &str = "sum(count_over_time(up{job=\"pharos\"}[5m]))";

fn assert_same(clients: &[Client], at: i64, before: &BTreeMap<String, f64>) {
    for client in clients {
        eventually("the same data is there again", || {
            let after = client.query(COUNT, at)?;
            anyhow::ensure!(after == *before, "{after:?}, not {before:?}");
            Ok(())
        });
    }
}

#[test]
fn three_nodes_with_live_data_that_survive_a_stop_and_a_lost_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let base = port_base();
    let dev = Dev::start(dir.path(), base);
    let clients = clients(base);
    for n in 1..=3 {
        let address = format!("127.0.0.1:{}", base + n);
        assert!(dev.said.iter().any(|l| l.contains(&address)), "{:#?}", dev.said);
    }
    // It watches itself: every node's own metrics arrive and can be read on every node.
    for client in &clients {
        eventually("live data of three nodes", || {
            let found = client.query("count(count by (instance) ({job=\"pharos\"}))", now_ms())?;
            anyhow::ensure!(found.values().copied().eq([3.0]), "{found:?}");
            Ok(())
        });
    }
    // So do their logs.
    eventually("log lines of three nodes", || {
        let search = "service.name:pharos%20%22the%20node%20runs%22";
        let path = format!("/api/v1/logs/top?query={search}&field=service.instance.id");
        let found = clients[1].get(&path)?;
        let found: serde_json::Value = serde_json::from_str(&found.body)?;
        anyhow::ensure!(found["data"]["distinct"] == 3 && found["data"]["total"] == 3, "{found}");
        Ok(())
    });
    // What it suggests works as it is printed.
    for (command, shows) in
        [("cluster shards", "leader"), ("query", "instance"), ("curl", "\"status\":\"success\"")]
    {
        eventually("a suggested command works", || {
            let said = dev.try_suggestion(command)?;
            anyhow::ensure!(said.to_lowercase().contains(shows), "{said}");
            Ok(())
        });
    }
    // Nodes write samples of the moment until they stop: what is older stays as it is.
    let (at, before) = eventually("an answer with data", || {
        let at = now_ms() - 15_000;
        let found = clients[0].query(COUNT, at)?;
        anyhow::ensure!(!found.is_empty(), "nothing yet");
        Ok((at, found))
    });
    dev.stop();
    let dev = Dev::start(dir.path(), base);
    assert_same(&clients, at, &before);
    dev.stop();
    // A disk is lost, the founder's: the two others are there before it joins them.
    std::fs::remove_dir_all(dir.path().join("node-1")).expect("a node's directory");
    let dev = Dev::start(dir.path(), base);
    assert_same(&clients, at, &before);
    dev.stop();
}

#[test]
fn settings_that_can_not_work_end_the_demo_and_are_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (setting, code, named) in
        [("query.timeout=0s", 78, "query.timeout"), ("query.timeout", 2, "KEY=VALUE is expected")]
    {
        let output = command(dir.path(), port_base())
            .args(["--set", setting])
            .stderr(Stdio::piped())
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(named), "{said}");
    }
}
