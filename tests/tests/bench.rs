//! `pharos bench` as a user runs it, on small loads: stores answer, a cluster answers like a single node, and what is found
//! in logs is what was sent.

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

#[test]
fn logs_are_written_and_every_question_is_answered_rightly() {
    let output = Command::new(tests::binary())
        .args(["bench", "logs", "--json", "--runs", "1", "--nodes", "3"])
        .args(["--shards", "2", "--lines", "7000", "--connections", "2"])
        .output()
        .expect("the program starts");
    // Answers are compared with what the generator knows: a wrong one is an error.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((report["lines"].as_u64(), report["replicas"].as_u64()), (Some(7000), Some(3)), "{report}");
    assert_eq!(report["queries"].as_array().map(Vec::len), Some(11), "{report}");
    let figures = ["lines_per_second", "cpu_seconds_per_million", "disk_bytes_of_raw", "ack_p50_ms"];
    for figure in figures {
        assert!(report[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report}");
    }
}
