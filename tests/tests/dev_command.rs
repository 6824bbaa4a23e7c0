//! `pharos dev`: three nodes from one command, live data by itself, a clean stop, and everything there afterwards.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chaos::client::Client;
use chaos::ledger::now_ms;
use tests::{binary, eventually};

struct Dev {
    process: Child,
    said: Vec<String>,
}

impl Dev {
    /// Starts the demo and reads what it says until it has named its nodes.
    fn start(dir: &Path) -> Self {
        let mut process = Command::new(binary())
            .args(["dev", "--nodes", "3", "--data-dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
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

#[test]
fn three_nodes_with_live_data_that_survive_a_stop() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dev = Dev::start(dir.path());
    let clients: Vec<Client> = (1..=3).map(|n| Client::new(format!("http://127.0.0.1:960{n}"))).collect();
    for n in 1..=3 {
        assert!(dev.said.iter().any(|l| l.contains(&format!("127.0.0.1:960{n}"))), "{:#?}", dev.said);
    }
    // It watches itself: every node's own metrics arrive and can be read on every node.
    for client in &clients {
        eventually("live data of three nodes", || {
            let found = client.query("count(count by (instance) ({job=\"pharos\"}))", now_ms())?;
            anyhow::ensure!(found.values().copied().eq([3.0]), "{found:?}");
            Ok(())
        });
    }
    let at = now_ms();
    let count = "sum(count_over_time(up{job=\"pharos\"}[5m]))";
    let before = clients[0].query(count, at).expect("an answer");
    dev.stop();
    let dev = Dev::start(dir.path());
    for client in &clients {
        eventually("the same data is there again", || {
            let after = client.query(count, at)?;
            anyhow::ensure!(after == before, "{after:?}, not {before:?}");
            Ok(())
        });
    }
    dev.stop();
}
