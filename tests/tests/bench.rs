//! `pharos bench compare` as a user runs it, on a small load: its stores answer, and a cluster answers like a single node.

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
