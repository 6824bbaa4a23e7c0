//! `pharos cluster`

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::Target;
use super::table::{bytes, table};
use super::{CliError, say};

/// Arguments of `pharos cluster`.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    target: Target,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Says whether all is well, and what is not. Exit code 1 when something is not.
    Status(Show),
    /// Lists the nodes.
    Nodes(Show),
    /// Lists the shards with their leaders and replicas.
    Shards(Show),
    /// Makes a token by which one node may join, once
    #[command(after_help = "Example:\n  pharos server --join-token \"$(pharos cluster token)\"\n\n\
                            The token says where the members are. `pharos cluster join-by token` lets nobody in without one.")]
    Token {
        /// How long it is good: 10m, 1h, up to 30d
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        life: String,
        #[command(flatten)]
        target: Target,
    },
    /// Says who may join: `token`, who has a token; `address`, whoever knows the address of a member (at first)
    JoinBy {
        /// token or address
        #[arg(value_parser = ["token", "address"])]
        what: String,
        #[command(flatten)]
        target: Target,
    },
    /// Moves a replica of a shard to another node; writes and reads go on meanwhile.
    #[command(after_help = "Example:\n  pharos cluster move --shard 3 --from 1 --to 4\n\n\
                            Answers when the replica has moved; `pharos cluster shards` shows it happen.")]
    Move {
        /// The shard
        #[arg(long)]
        shard: u16,
        /// Id of the node that gives its replica up
        #[arg(long)]
        from: u64,
        /// Id of the node that gets one
        #[arg(long)]
        to: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Moves every replica off a node, so that it can be stopped for good. Answers when it holds none.
    Drain {
        /// Id of the node
        node: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Removes a node that is drained, or lost for good. Its id is never used again.
    Remove {
        /// Id of the node
        node: u64,
        #[command(flatten)]
        target: Target,
    },
}

impl ClusterArgs {
    pub fn run(self) -> Result<(), CliError> {
        match self.what {
            What::Status(show) => {
                let status = show.target.get("/cluster/status", &[])?;
                let troubles = troubles(&status);
                if show.json {
                    say(&status.to_string());
                } else {
                    say(&summary(&status));
                    for trouble in &troubles {
                        say(&format!("  - {trouble}"));
                    }
                }
                if troubles.is_empty() { Ok(()) } else { Err(CliError::Code(1)) }
            }
            What::Nodes(show) => {
                let status = show.target.get("/cluster/status", &[])?;
                say(&if show.json { status["nodes"].to_string() } else { nodes(&status) });
                Ok(())
            }
            What::Shards(show) => {
                let status = show.target.get("/cluster/status", &[])?;
                say(&if show.json { status["shards"].to_string() } else { shards(&status) });
                Ok(())
            }
            What::Token { life, target } => {
                let answer = target.post("/api/v1/cluster/token", &[("for", life)])?;
                say(&text(&answer["data"]["token"]));
                Ok(())
            }
            What::JoinBy { what, target } => {
                target.post("/api/v1/cluster/join_by", &[("what", what.clone())])?;
                say(&match what.as_str() {
                    "token" => "nodes join by a token only: pharos cluster token".to_owned(),
                    _ => "whoever knows the address of a member may join".to_owned(),
                });
                Ok(())
            }
            What::Move { shard, from, to, target } => {
                let params =
                    [("shard", shard.to_string()), ("from", from.to_string()), ("to", to.to_string())];
                target.post("/api/v1/cluster/move", &params)?;
                say(&format!("shard {shard} has moved from node {from} to node {to}"));
                Ok(())
            }
            What::Drain { node, target } => {
                target.post("/api/v1/cluster/drain", &[("node", node.to_string())])?;
                say(&format!(
                    "node {node} holds no replicas any more; stop it, then: pharos cluster remove {node}"
                ));
                Ok(())
            }
            What::Remove { node, target } => {
                target.post("/api/v1/cluster/remove", &[("node", node.to_string())])?;
                say(&format!("node {node} is removed"));
                Ok(())
            }
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn ids(value: &Value) -> String {
    list(value).iter().map(Value::to_string).collect::<Vec<_>>().join(",")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// What an operator should know of, in sentences.
fn troubles(status: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for node in list(&status["nodes"]) {
        if node["reachable"] != true {
            let counts_on = |shard: &&Value| list(&shard["wanted"]).contains(&node["id"]);
            let count = list(&status["shards"]).iter().filter(counts_on).count();
            let held = match count {
                0 => "no shard counts on it".to_owned(),
                1 => "1 shard counts on it".to_owned(),
                count => format!("{count} shards count on it"),
            };
            out.push(format!("node {} at {} does not answer; {held}", node["id"], text(&node["addr"])));
        } else if node["ready"] != true {
            out.push(format!("node {} has not caught up", node["id"]));
        }
        if node["clock_disagrees"] == true {
            let offset = text(&node["clock_offset_ms"]);
            out.push(format!("the clock of node {} is {offset} ms off the others'", node["id"]));
        }
    }
    let shards = list(&status["shards"]).iter().map(|shard| (format!("shard {}", shard["id"]), shard));
    for (name, shard) in [("the meta group".to_owned(), &status["meta"])].into_iter().chain(shards) {
        if shard["leader"].is_null() {
            out.push(format!("{name} has no leader"));
        } else if shard["id"] != 0 && !list(&shard["learners"]).is_empty() {
            // Beyond its voters, all nodes follow the meta group as learners for good.
            out.push(format!("{name} is taking in replicas on {}", ids(&shard["learners"])));
        } else if shard["changing"] == true {
            out.push(format!("{name} is changing its voters"));
        }
        if shard["consistent"] == false {
            out.push(format!("{name}: replicas at one position have different digests"));
        }
    }
    out
}

fn summary(status: &Value) -> String {
    let (nodes, shards) = (list(&status["nodes"]), list(&status["shards"]));
    let reachable = nodes.iter().filter(|node| node["reachable"] == true).count();
    let led = shards.iter().filter(|shard| !shard["leader"].is_null()).count();
    let mut out = format!(
        "cluster {}: {reachable} of {} nodes answer, {led} of {} shards have a leader, meta group led by {}, epoch {}",
        text(&status["cluster_id"]),
        nodes.len(),
        shards.len(),
        text(&status["meta_leader"]),
        text(&status["epoch"]),
    );
    let newest = nodes.iter().filter_map(|node| node["epoch"].as_u64()).max();
    let waited_for = nodes.iter().filter(|node| node["epoch"].as_u64() < newest);
    let waited_for: Vec<String> = waited_for.map(|node| text(&node["id"])).collect();
    if let (Some(newest), false) = (newest, waited_for.is_empty()) {
        out += &format!("; epoch {newest} once a newer build runs on {}", waited_for.join(", "));
    }
    out
}

fn nodes(status: &Value) -> String {
    let shards = list(&status["shards"]);
    let rows: Vec<Vec<String>> = list(&status["nodes"])
        .iter()
        .map(|node| {
            let leads = shards.iter().filter(|shard| shard["leader"] == node["id"]).count();
            let holds = shards.iter().filter(|shard| list(&shard["voters"]).contains(&node["id"])).count();
            let state = match (node["reachable"] == true, node["ready"] == true) {
                (false, _) => "unreachable".to_owned(),
                (true, false) => "catching up".to_owned(),
                (true, true) => text(&node["state"]),
            };
            vec![
                text(&node["id"]),
                text(&node["addr"]),
                state,
                leads.to_string(),
                holds.to_string(),
                node["log_bytes"].as_u64().map_or("-".to_owned(), bytes),
                text(&node["version"]),
                text(&node["epoch"]),
            ]
        })
        .collect();
    table(&["node", "peers at", "state", "leads", "replicas", "log", "version", "epoch"], &rows)
}

fn shards(status: &Value) -> String {
    let rows: Vec<Vec<String>> = list(&status["shards"])
        .iter()
        .map(|shard| {
            let data =
                list(&shard["replicas"]).iter().find(|r| r["node"] == shard["leader"]).map(|r| &r["data"]);
            let size = |key: &str| data.and_then(|d| d[key].as_u64());
            let lag = list(&shard["replicas"]).iter().filter_map(|r| r["lag"].as_u64()).max();
            vec![
                text(&shard["id"]),
                text(&shard["leader"]),
                text(&shard["term"]),
                ids(&shard["voters"]),
                ids(&shard["learners"]),
                text(&shard["applied"]),
                lag.map_or("-".to_owned(), |lag| lag.to_string()),
                size("series").map_or("-".to_owned(), |n| n.to_string()),
                size("memtable_bytes").map_or("-".to_owned(), bytes),
                size("segment_bytes").map_or("-".to_owned(), bytes),
                if shard["consistent"] == false { "DIFFER" } else { "equal" }.to_owned(),
            ]
        })
        .collect();
    table(
        &[
            "shard", "leader", "term", "voters", "learners", "applied", "lag", "series", "memtable",
            "segments", "digests",
        ],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        json!({
            "cluster_id": "c", "node": 1, "meta_leader": 1,
            "nodes": [
                {"id": 1, "addr": "a:1", "state": "active", "reachable": true, "ready": true, "log_bytes": 2048, "version": "1"},
                {"id": 2, "addr": "b:1", "state": "active", "reachable": false},
            ],
            "meta": {"id": 0, "leader": 1, "learners": [4], "changing": false, "consistent": true},
            "shards": [
                {"id": 1, "leader": 1, "term": 2, "voters": [1, 2], "learners": [], "wanted": [1, 2], "applied": 7, "consistent": true,
                 "replicas": [{"node": 1, "lag": 0, "data": {"series": 5, "memtable_bytes": 10, "segment_bytes": 0}}]},
                {"id": 2, "leader": null, "term": 2, "voters": [], "learners": [], "applied": 7, "consistent": false,
                 "replicas": []},
                {"id": 3, "leader": 1, "voters": [1, 2], "learners": [], "changing": true, "replicas": []},
                {"id": 4, "leader": 1, "voters": [1], "learners": [2, 3], "changing": true, "replicas": []},
            ],
        })
    }

    #[test]
    fn troubles_are_told_in_sentences() {
        let expected = [
            "node 2 at b:1 does not answer; 1 shard counts on it",
            "shard 2 has no leader",
            "shard 2: replicas at one position have different digests",
            "shard 3 is changing its voters",
            "shard 4 is taking in replicas on 2,3",
        ];
        assert_eq!(troubles(&status()), expected);
        let mut rebuilt = status();
        rebuilt["shards"][0]["wanted"] = json!([1, 3]);
        assert_eq!(troubles(&rebuilt)[0], "node 2 at b:1 does not answer; no shard counts on it");
    }

    #[test]
    fn who_keeps_the_cluster_from_newer_formats_is_named() {
        let mut status = status();
        status["epoch"] = json!(1);
        for (node, epoch) in [1, 1].into_iter().enumerate() {
            status["nodes"][node]["epoch"] = json!(epoch);
        }
        assert!(summary(&status).ends_with("epoch 1"), "{}", summary(&status));
        status["nodes"][0]["epoch"] = json!(2);
        assert!(
            summary(&status).ends_with("epoch 1; epoch 2 once a newer build runs on 2"),
            "{}",
            summary(&status)
        );
    }

    #[test]
    fn tables_hold_a_row_each() {
        let nodes = nodes(&status());
        assert!(nodes.lines().nth(1).unwrap().contains("active"), "{nodes}");
        assert!(nodes.lines().nth(2).unwrap().contains("unreachable"), "{nodes}");
        let shards = shards(&status());
        assert_eq!(shards.lines().count(), 5);
        assert!(shards.lines().nth(2).unwrap().contains("DIFFER"), "{shards}");
    }
}
