//! `pharos chaos` as a user runs it: the quick suite on real processes, its reports, and a judge that finds what was
//! tampered with.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::Context;
use serde_json::Value;

fn chaos(arguments: &[&str]) -> Output {
    Command::new(tests::binary()).arg("chaos").args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

#[test]
fn the_quick_suite_passes_and_its_judge_is_awake() {
    let reports = tempfile::tempdir().expect("a directory");
    // Goals of time are figures of quiet machines; rules are not.
    let output = chaos(&["suite", "quick", "--slack", "20", "--seed", "1", "--report", path(reports.path())]);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(reports.path()).expect("reports") {
        let dir = entry.expect("an entry").path();
        let json = std::fs::read(dir.join("report.json")).expect("a report");
        let report: Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(report["verdict"], "passed", "{report}");
        for figure in ["samples_acked", "records_acked"] {
            assert!(
                report["figures"][figure].as_u64().is_some_and(|count| count > 1000),
                "{figure}: {report}"
            );
        }
        assert!(report["faults"].as_array().is_some_and(|faults| !faults.is_empty()), "{report}");
        for name in ["report.md", "report.html"] {
            let text = std::fs::read_to_string(dir.join(name)).expect(name);
            assert!(text.contains(report["scenario"].as_str().expect("a name")), "{name}");
        }
        seen.push(dir);
    }
    assert_eq!(seen.len(), 6, "{seen:?}");

    let history = seen[0].join("history.ndjson");
    assert_eq!(chaos(&["check", path(&history)]).status.code(), Some(0));
    // Without one acknowledged sample of one replica, the same history is a loss.
    let lines = std::fs::read_to_string(&history).expect("a history");
    let mut has_lost = false;
    let tampered: Vec<String> = lines
        .lines()
        .map(|line| {
            let mut json: Value = serde_json::from_str(line).expect("JSON");
            if !has_lost && json["kind"] == "final" && json["found"]["numbers"][0][1].as_u64() > Some(1) {
                json["found"]["numbers"][0][0] = 1.into();
                has_lost = true;
            }
            json.to_string()
        })
        .collect();
    assert!(has_lost);
    std::fs::write(&history, tampered.join("\n")).expect("writable");
    let output = chaos(&["check", path(&history)]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("| K1 | **FAIL**"), "{}", text(&output.stdout));
}

#[test]
fn a_running_cluster_is_disturbed_only_by_its_name() {
    let cluster = tests::Cluster::start(3, 4);
    let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.http_addr().to_string()).collect();
    let pids: Vec<String> =
        cluster.nodes.iter().filter_map(|node| node.pid()).map(|p| p.to_string()).collect();
    let (endpoints, pids) = (endpoints.join(","), pids.join(","));
    let series = |label: &str| {
        let answer =
            cluster.nodes[0].client().get(&format!("/api/v1/label/{label}/values")).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    let reports = tempfile::tempdir().expect("a directory");
    let attach = |name: &str| {
        let only = "transfer,flush,pause";
        let arguments = ["attach", "--endpoints", &endpoints, "--only", only, "--pids", &pids];
        let more =
            ["--yes-this-cluster", name, "--for", "40s", "--slack", "20", "--report", path(reports.path())];
        chaos(&[&arguments[..], &more[..]].concat())
    };
    let refused = attach("another");
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("nothing was done"), "{said}");
    let id = tests::eventually("the cluster has an id", || {
        let status = cluster.nodes[0].status()?;
        status["cluster_id"].as_str().map(str::to_owned).context("a status has a cluster")
    });
    let output = attach(&id);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let json = std::fs::read(reports.path().join("report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&json).expect("JSON");
    assert!(report["verdict"] == "passed" && report["scenario"] == "attach", "{report}");
    let names: std::collections::BTreeSet<&str> = report["faults"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|fault| fault["name"].as_str())
        .collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["flush", "pause", "transfer"], "{report}");
    assert!(report["figures"]["samples_acked"].as_u64() > Some(1000), "{report}");
    // Clients kept to a tenant of their own.
    assert!(!series("__name__").contains("chaos_numbered"));
}

#[test]
fn scenarios_are_listed_shown_and_refused_by_name() {
    let list = text(&chaos(&["list"]).stdout);
    assert!(list.lines().count() >= 16, "{list}");
    let dir = tempfile::tempdir().expect("a directory");
    let own = dir.path().join("own.toml");
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let shown = chaos(&["show", name]);
        assert!(shown.status.success() && text(&shown.stdout).contains("[[step]]"), "{name}");
    }
    let check = |content: &str, word: &str| {
        std::fs::write(&own, content).expect("writable");
        let output = chaos(&["run", path(&own)]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    };
    check("name = \"x\"\nduration = \"5s\"\n[[step]]\nat = \"1s\"\nkil = {}\n", "kil");
    check("name = \"x\"\nduration = \"5s\"\n[[step]]\nat = \"9s\"\nkill = {}\n", "behind the end");
    let output = chaos(&["run", "meteor-strike"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("leader-kill"), "{}", text(&output.stderr));
}
