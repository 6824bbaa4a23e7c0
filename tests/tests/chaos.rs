//! `pharos chaos` as a user runs it: the quick suite on real processes, its reports, and a judge that finds what was
//! tampered with.

use std::path::Path;
use std::process::{Command, Output};

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
