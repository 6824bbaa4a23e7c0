//! Logs through the real ways in, read back on another node than they were written to: each once, however often it was
//! sent, also after a node was killed.

use anyhow::{Context, ensure};
use chaos::client::{Client, escape};
use chaos::ledger::now_ms;
use serde_json::{Value, json};
use tests::{Cluster, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Bodies of the records that a search finds, newest first.
fn bodies(client: &Client, query: &str) -> anyhow::Result<Vec<String>> {
    let found = client.api(&format!("/api/v1/logs/query?query={}", escape(query)))?;
    let rows = found["rows"].as_array().with_context(|| format!("no rows in {found}"))?;
    rows.iter()
        .map(|row| Ok(row["body"].as_str().with_context(|| format!("no body in {row}"))?.to_owned()))
        .collect()
}

fn post(client: &Client, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let answer = client.post(path, headers, body.as_bytes()).expect("an answer of a healthy node");
    (answer.status, answer.body)
}

fn otlp(time_ms: i64, bodies: &[&str]) -> String {
    let records: Vec<Value> = bodies
        .iter()
        .map(|body| {
            json!({
                "timeUnixNano": (time_ms * 1_000_000).to_string(), "severityNumber": 17, "severityText": "ERROR",
                "body": {"stringValue": body}, "traceId": "0af7651916cd43dd8448eb211c80319c",
                "attributes": [{"key": "http.status_code", "value": {"intValue": "503"}}],
            })
        })
        .collect();
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}]});
    json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}).to_string()
}

#[test]
fn what_was_sent_is_read_on_every_node_once() {
    let mut cluster = Cluster::start(3, 4);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let now = now_ms();

    // OTLP: sent again through another node it changes nothing; equal records of one request are two.
    let request = otlp(now, &["refused by 10.0.0.7:5432", "again", "again"]);
    for client in [&clients[0], &clients[1], &clients[0]] {
        let (status, answer) = post(client, "/v1/logs", &[JSON], &request);
        assert_eq!((status, answer.as_str()), (200, "{}"), "an OTLP export is taken");
    }
    // A record from before all that is kept is left out by name, the one beside it is written.
    let mut mixed: Value = serde_json::from_str(&otlp(now, &["kept", "ancient"])).expect("own JSON");
    mixed["resourceLogs"][0]["scopeLogs"][0]["logRecords"][1]["timeUnixNano"] = json!("1000000000");
    let (status, answer) = post(&clients[0], "/v1/logs", &[JSON], &mixed.to_string());
    assert_eq!(status, 200);
    let partial: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(partial["partialSuccess"]["rejectedLogRecords"], json!("1"), "{answer}");
    // What is no request is a 400, with nothing written.
    assert_eq!(post(&clients[0], "/v1/logs", &[JSON], "{\"resourceLogs\": 7}").0, 400);

    // Loki.
    let push = json!({"streams": [{
        "stream": {"app": "shop", "level": "warn"},
        "values": [[(now * 1_000_000).to_string(), "basket is full", {"user": "u1"}]],
    }]});
    assert_eq!(post(&clients[1], "/loki/api/v1/push", &[JSON], &push.to_string()).0, 204);
    let numbers = json!({"streams": [{"stream": {"app": "x"}, "values": [[now * 1_000_000, "no text"]]}]});
    assert_eq!(post(&clients[1], "/loki/api/v1/push", &[JSON], &numbers.to_string()).0, 400);

    // Elasticsearch's shippers ask who is there, then send in bulk.
    let hello = clients[2].get("/").expect("an answer");
    let version: Value = serde_json::from_str(&hello.body).expect("JSON for who asks for no page");
    assert!(
        version["version"]["number"].as_str().is_some_and(|number| number.starts_with("8.")),
        "{version}"
    );
    let bulk = format!(
        "{{\"create\":{{\"_index\":\"logs-app\"}}}}\n{{\"@timestamp\":{now},\"message\":\"disk is slow\",\"took\":1.5}}\n\
         {{\"delete\":{{\"_index\":\"logs-app\",\"_id\":\"1\"}}}}\n"
    );
    let (status, answer) = post(&clients[2], "/_bulk", &[("content-type", "application/x-ndjson")], &bulk);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((status, &answer["errors"]), (200, &json!(true)));
    assert_eq!(answer["items"][0]["create"]["status"], json!(201), "{answer}");
    assert_eq!(answer["items"][1]["delete"]["status"], json!(400));

    // JSON lines.
    let lines = format!("{{\"time\":{now},\"msg\":\"lines too\",\"app\":\"cli\"}}\n");
    let (status, answer) = post(&clients[0], "/insert/jsonline?_stream_fields=app", &[], &lines);
    assert_eq!((status, answer.as_str()), (200, "{\"records\":1}"));

    let check = |client: &Client| -> anyhow::Result<()> {
        let mut checkout =
            bodies(client, "service.name:checkout level>=error http.status_code:[500 TO 599]")?;
        checkout.sort();
        ensure!(checkout == ["again", "again", "kept", "refused by 10.0.0.7:5432"], "{checkout:?}");
        for (query, expected) in [
            ("app:shop basket", "basket is full"),
            ("index:logs-app took>1", "disk is slow"),
            ("app:cli", "lines too"),
            ("\"refused by 10.0.0.7\"", "refused by 10.0.0.7:5432"),
        ] {
            let found = bodies(client, query)?;
            ensure!(found == [expected], "{query} finds {found:?}");
        }
        let logql = format!(
            "/loki/api/v1/query_range?query={}&start={}&end={}",
            escape("{app=\"shop\"} |= \"full\""),
            (now - 60_000) * 1_000_000,
            (now + 60_000) * 1_000_000
        );
        let streams = client.api(&logql)?;
        ensure!(streams["resultType"] == "streams", "{streams}");
        ensure!(streams["result"][0]["values"][0][1] == "basket is full", "{streams}");
        ensure!(bodies(client, "ancient")?.is_empty(), "what was left out is not there");
        Ok(())
    };
    for client in &clients {
        check(client).expect("every node sees what was acknowledged");
    }
    // Sealed into segments, they are the same.
    assert!(clients[0].post("/api/v1/admin/flush", &[], b"").expect("an answer").is_success());
    check(&clients[1]).expect("segments hold what the memory held");
    cluster.assert_equal_digests();

    cluster.kill(2);
    eventually("the others answer for the killed node", || check(&clients[0]));
    cluster.restart(2);
    eventually("it is back with all of it", || check(&clients[2]));
}

#[test]
fn what_is_deleted_is_gone_on_every_node_and_stays_so() {
    let mut cluster = Cluster::start(3, 4);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let now = now_ms();
    for round in 0..4 {
        let bodies = [format!("keep {round}"), format!("secret of user {round}")];
        let request = otlp(now + round, &bodies.each_ref().map(String::as_str));
        assert_eq!(post(&clients[0], "/v1/logs", &[JSON], &request).0, 200);
        if round == 1 {
            assert!(clients[0].post("/api/v1/admin/flush", &[], b"").expect("an answer").is_success());
        }
    }
    let range = |to: i64| format!("start={}&end={}", (now - 1000) * 1_000_000, (now + to) * 1_000_000);
    let delete = |client: &Client, search: &str, to: i64| {
        let path = format!("/api/v1/logs/delete?query={}&{}", escape(search), range(to));
        assert_eq!(post(client, &path, &[], "").0, 204);
    };
    // Asked of a node that leads only some of the shards; round 3 is later than the range.
    delete(&clients[1], "secret", 2);
    let left = ["keep 0", "keep 1", "keep 2", "keep 3", "secret of user 3"];
    let check = |client: &Client| -> anyhow::Result<()> {
        let mut found = bodies(client, "service.name:checkout")?;
        found.sort();
        ensure!(found == left, "{found:?}");
        let counted = client.api("/api/v1/logs/histogram?query=*&step=2h")?;
        ensure!(counted["groups"][0]["total"] == 5, "{counted}");
        Ok(())
    };
    for client in &clients {
        check(client).expect("the next query does not see what was deleted");
    }
    cluster.kill(2);
    eventually("the others know of the delete", || check(&clients[0]));
    cluster.restart(2);
    eventually("so does the node when it is back", || check(&clients[2]));
    cluster.assert_equal_digests();
    assert!(
        clients[0].post("/api/v1/admin/tsdb/clean_tombstones", &[], b"").expect("an answer").is_success()
    );
    check(&clients[1]).expect("merges leave it out");
    cluster.assert_equal_digests();
}
