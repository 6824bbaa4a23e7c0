//! `pharos bench` as a user runs it, on small loads: stores answer, a cluster answers like a single node, and what is found
//! in logs and traces is what was sent.

use std::process::Command;

use serde_json::Value;

#[test]
fn one_node_and_three_answer_the_comparison_alike() {
    let output = Command::new(tests::binary())
        .args(["bench", "compare", "--stores", "pharos,pharos-cluster", "--json", "--runs", "1"])
        .args(["--shards", "2", "--hosts", "50", "--scrapes", "20", "--connections", "2"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let systems = report["systems"].as_array().expect("systems");
    assert_eq!(systems.len(), 2, "{report}");
    for system in systems {
        let queries = system["queries"].as_array().expect("queries");
        assert!(queries.len() >= 12, "{queries:?}");
        for query in queries {
            assert_eq!(query["largest_difference"], 0.0, "{}: {query}", system["system"]);
        }
        assert!(system["bytes_per_sample"].as_f64().is_some_and(|bytes| bytes > 0.1), "{system}");
    }
}

/// Rows on three nodes, each question once. Answers are compared with what the generator knows: a wrong one is an error.
fn rows(what: &str, more: &[&str], questions: usize) -> Value {
    let output = Command::new(tests::binary())
        .args(["bench", what, "--json", "--runs", "1", "--nodes", "3", "--shards", "2", "--connections", "2"])
        .args(more)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["replicas"], 3, "{report}");
    assert_eq!(report["queries"].as_array().map(Vec::len), Some(questions), "{report}");
    for figure in ["rows_per_second", "cpu_seconds_per_million", "disk_bytes", "ack_p50_ms"] {
        assert!(report[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report}");
    }
    report
}

#[test]
fn logs_are_written_and_every_question_is_answered_rightly() {
    let report = rows("logs", &["--lines", "7000"], 11);
    assert_eq!(report["rows"], 7000, "{report}");
    assert!(report["disk_bytes_of_raw"].as_f64().is_some_and(|value| value > 0.0), "{report}");
}

#[test]
fn traces_are_written_and_every_question_is_answered_rightly() {
    let report = rows("traces", &["--traces", "600"], 8);
    assert_eq!(report["traces"], 600, "{report}");
}

#[test]
fn a_node_with_data_starts_again_and_a_lost_disk_is_replaced() {
    let output = Command::new(tests::binary())
        .args([
            "bench",
            "restart",
            "--json",
            "--data",
            "1MiB",
            "--restarts",
            "2",
            "--nodes",
            "3",
            "--shards",
            "2",
        ])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert!(report["segment_bytes"].as_u64().is_some_and(|bytes| bytes >= 1 << 20), "{report}");
    for times in ["ready_ms", "answered_ms"] {
        assert_eq!(report[times].as_array().map(Vec::len), Some(2), "{report}");
    }
    let copies = &report["copies"];
    assert!(copies["replaced_bytes"].as_u64().is_some_and(|bytes| bytes >= 1 << 20), "{report}");
}

#[test]
fn sql_is_asked_beside_promql_and_duckdb() {
    let Some(python) = tests::peers::python_program() else { return };
    let output = Command::new(tests::binary())
        .args(["bench", "sql", "--json", "--runs", "1", "--shards", "2", "--hosts", "4", "--scrapes", "10"])
        .arg("--python")
        .arg(python)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["samples"], 4 * 500 * 10, "{report}");
    let questions = report["questions"].as_array().expect("questions");
    assert_eq!(questions.len(), 5, "{report}");
    for question in questions {
        for figure in ["sql_ms", "duckdb_ms"] {
            assert!(question[figure].as_f64().is_some_and(|ms| ms > 0.0), "{figure}: {question}");
        }
    }
    let with_promql = questions.iter().filter(|question| question["promql_ms"].is_f64()).count();
    assert_eq!(with_promql, 2, "{report}");
}
