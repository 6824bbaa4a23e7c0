//! `pharos verify` on the data directories of real nodes: it refuses a running one, changes nothing, and names what is
//! damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use chaos::client::{Client, Series};
use chaos::ledger::now_ms;
use serde_json::{Value, json};
use tests::{Cluster, binary};

/// Exit code, standard output and standard error.
fn verify(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(binary()).arg("verify").arg(dir).args(arguments).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

fn files_below(dir: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, out);
        } else {
            out.insert(path.clone(), std::fs::read(&path).expect("readable"));
        }
    }
}

fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    files_below(dir, &mut out);
    out
}

fn write(client: &Client, round: i64) {
    let now = now_ms();
    let series: Vec<Series> = (0..50)
        .map(|n| {
            Series::new("verified", &[("n", &n.to_string())], vec![(now + round, (n * round) as f64 / 3.0)])
        })
        .collect();
    client.write(&series).expect("a write to a healthy cluster");
    let lines: Vec<Value> = (0..50)
        .map(|n| json!([((now + n) * 1_000_000).to_string(), format!("round {round} line {n}")]))
        .collect();
    let push = json!({"streams": [{"stream": {"app": "shop"}, "values": lines}]}).to_string();
    let headers = [("content-type", "application/json")];
    let answer = client.post("/loki/api/v1/push", &headers, push.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.body);
}

#[test]
fn a_stopped_nodes_directory_is_checked_to_the_last_byte() {
    let mut cluster = Cluster::start(3, 2);
    let client = cluster.nodes[0].client();
    for round in 0..3 {
        write(&client, round);
        let flushed = client.post("/api/v1/admin/flush", &[], &[]).expect("an answer");
        assert!(flushed.is_success(), "{}", flushed.body);
    }
    write(&client, 3);
    let dir = cluster.nodes[0].dir();
    let (code, _, error) = verify(&dir, &[]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("another process uses"), "{error}");

    cluster.nodes[0].terminate().expect("a child can be stopped");
    let before = content(&dir);
    let (code, output, error) = verify(&dir, &[]);
    assert_eq!(code, 0, "{output}{error}");
    assert!(output.contains("nothing is damaged"), "{output}");
    assert!(content(&dir) == before, "a check changes nothing");

    // One of each kind.
    let kinds = ["identity.json", "wal-00000001.log", "shards/1/manifest", ".seg", ".reg", ".win"];
    for kind in kinds {
        let found = before.iter().find(|(path, _)| path.to_string_lossy().ends_with(kind));
        let (path, bytes) = found.unwrap_or_else(|| panic!("a file like {kind} among {:?}", before.keys()));
        let mut damaged = bytes.clone();
        // The log's file is mostly empty yet: its first batch begins at byte 48.
        let at = if kind.starts_with("wal") { 60 } else { bytes.len() / 2 };
        damaged[at] ^= 0x04;
        std::fs::write(path, &damaged).expect("writable");
        let (code, output, error) = verify(&dir, &["--json"]);
        assert_eq!(code, 1, "{kind}: {output}{error}");
        let report: Value = serde_json::from_str(&output).expect("JSON");
        let damage = report["damage"].as_array().expect("a list");
        let name = path.to_string_lossy();
        assert!(damage.iter().any(|place| place["path"] == *name), "{kind}: {output}");
        if [".seg", "wal-00000001.log"].contains(&kind) {
            assert!(damage.iter().any(|place| place["offset"].is_u64()), "{kind}: {output}");
        }
        std::fs::write(path, bytes).expect("writable");
    }
    assert_eq!(verify(&dir, &[]).0, 0, "all is as it was");
    let nothing = tempfile::tempdir().expect("a directory");
    assert_eq!(verify(nothing.path(), &[]).0, 2);
    assert_eq!(content(nothing.path()).len(), 0);
}
