//! Large queries beside small ones: the small ones are answered, the large ones end by their limits, by a kill, or when
//! their client leaves, and then nothing of them runs on any node.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use chaos::client::{Client, Series, escape};
use chaos::ledger::now_ms;
use tests::{Cluster, eventually};

const SHARDS: u16 = 6;
const SERIES: usize = 200;
const SAMPLES: i64 = 1500;
const STEP_MS: i64 = 15_000;

/// Each of these tests takes all that the machine has.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every 15 s up to `end`.
fn write_history(client: &Client, end: i64) {
    for chunk in (0..SERIES).collect::<Vec<_>>().chunks(20) {
        let series = |n: &usize| {
            let samples = (0..SAMPLES).map(|i| (end - (SAMPLES - 1 - i) * STEP_MS, (i * 7 % 100) as f64));
            Series::new("load", &[("instance", &format!("i{n}")), ("job", "shop")], samples.collect())
        };
        client.write(&chunk.iter().map(series).collect::<Vec<_>>()).expect("a write to a healthy cluster");
    }
}

/// Sorts a window of all samples of each series at ten thousand steps: minutes of work on every node.
fn huge(end: i64) -> String {
    let query = "sum(quantile_over_time(0.9, load[1d]))";
    let (start, end) = (end / 1000 - 10_000, end / 1000);
    format!("/api/v1/query_range?query={}&start={start}&end={end}&step=1s", escape(query))
}

fn metric(client: &Client, name: &str) -> anyhow::Result<f64> {
    let text = client.get("/metrics")?.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("{name} is no metric"))?.parse()?)
}

fn running(client: &Client) -> anyhow::Result<f64> {
    metric(client, "pharos_query_fragments_running")
}

/// Number of the running query that begins with a text.
fn active(client: &Client, text: &str) -> anyhow::Result<u64> {
    let list = client.api("/api/v1/status/active_queries")?;
    let rows = list["active"].as_array().context("a list")?;
    let row = rows.iter().find(|row| row["query"].as_str().is_some_and(|query| query.starts_with(text)));
    row.and_then(|row| row["id"].as_u64()).with_context(|| format!("{text} does not run"))
}

fn until_nothing_runs(cluster: &Cluster) {
    for node in &cluster.nodes {
        let client = node.client();
        eventually("no fragment runs", || {
            let running = running(&client)?;
            ensure!(running == 0.0, "{running} fragments run on node {}", node.number);
            ensure!(active(&client, "sum(quantile").is_err(), "node {} still lists the query", node.number);
            Ok(())
        });
    }
}

#[test]
fn small_queries_are_answered_beside_huge_ones_which_end_when_they_are_told_to() {
    let _alone = alone();
    let cluster = Cluster::start(3, SHARDS);
    let end = now_ms() / STEP_MS * STEP_MS;
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    write_history(&clients[0], end);
    cluster.wait_led_evenly(SHARDS);

    let asking: Vec<_> = [0, 1]
        .map(|node| {
            let client = cluster.nodes[node].client();
            std::thread::spawn(move || client.get(&huge(end)))
        })
        .into_iter()
        .collect();
    let ids = [0, 1].map(|node| eventually("the huge query runs", || active(&clients[node], "sum(quantile")));
    for client in &clients {
        eventually("it runs on every node", || {
            ensure!(running(client)? > 0.0, "nothing runs");
            Ok(())
        });
    }
    for round in 0..10 {
        for client in &clients {
            let found = client.query("count(load)", end).expect("a small query is answered");
            assert_eq!(found.values().copied().collect::<Vec<_>>(), [SERIES as f64], "round {round}");
            let found = client.query("sum by (job) (rate(load[5m])) * 0 + 1", end).expect("so is this one");
            assert_eq!(found.values().copied().collect::<Vec<_>>(), [1.0], "round {round}");
        }
    }
    for (node, id) in ids.iter().enumerate() {
        assert_eq!(active(&clients[node], "sum(quantile").ok(), Some(*id), "the huge query is still at work");
        let path = format!("/api/v1/admin/queries/kill?id={id}");
        assert!(clients[node].post(&path, &[], b"").expect("an answer").is_success());
    }
    for client in asking {
        let answer = client.join().expect("the client does not panic").expect("an answer");
        assert_eq!(answer.status, 499, "{}", answer.body);
    }
    until_nothing_runs(&cluster);

    // A client that leaves.
    let addr = cluster.nodes[2].url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut stream = TcpStream::connect(&addr).expect("the node listens");
    write!(stream, "GET {} HTTP/1.1\r\nHost: {addr}\r\n\r\n", huge(end)).expect("the node reads");
    eventually("the huge query runs", || active(&clients[2], "sum(quantile"));
    eventually("it runs elsewhere", || {
        ensure!(running(&clients[0])? > 0.0 && running(&clients[1])? > 0.0, "nothing runs");
        Ok(())
    });
    drop(stream);
    until_nothing_runs(&cluster);
}

#[test]
fn what_needs_too_much_is_refused_with_the_limit_named() {
    let _alone = alone();
    let cluster = Cluster::start(3, 6);
    let end = now_ms() / STEP_MS * STEP_MS;
    let client = cluster.nodes[0].client();
    write_history(&client, end);
    let asked = |query: &str| {
        let answer = client.get(&format!("/api/v1/query?query={}&time={}", escape(query), end / 1000));
        answer.expect("the node answers")
    };
    // Three hundred thousand samples lie there; looked at every ten milliseconds, they are four hundred million, and no
    // shard alone has more than the limit.
    let answer = asked("sum(count_over_time(load[6h:10ms]))");
    assert_eq!(answer.status, 422, "{}", answer.body);
    for part in ["too many samples", "at least ", "limit of 50000000 (query.max_samples)", "raise the limit"]
    {
        assert!(answer.body.contains(part), "{part:?} is missing: {}", answer.body);
    }
    // All columns at once are more than the query may hold.
    let answer = asked("max_over_time(load[30d:100ms])");
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(
        answer.body.contains("query.max_memory") || answer.body.contains("query.max_samples"),
        "{}",
        answer.body
    );
    until_nothing_runs(&cluster);
    let found = client.query("count(load)", end).expect("a small query is answered");
    assert_eq!(found.values().copied().collect::<Vec<_>>(), [SERIES as f64]);
}

/// Statements that would work for years, or hold more than there is.
const DEADLY: [&str; 5] = [
    "select count(*) from load a, load b where a.value + b.value < 0",
    "with recursive n(i) as (select 1 union all select i + 1 from n where i > 0) select count(*) from n",
    "select count(*) from generate_series(1, 100000000000) a, generate_series(1, 100000000000) b",
    "select a.time, b.time, array_agg(a.instance) from load a cross join load b group by 1, 2",
    "select repeat(instance, 100000000) from load order by 1",
];

#[test]
fn statements_of_death_end_within_their_budgets_while_others_go_on() {
    let _alone = alone();
    let cluster = Cluster::start(3, SHARDS);
    let end = now_ms() / STEP_MS * STEP_MS;
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    write_history(&clients[0], end);
    let asking: Vec<_> = DEADLY
        .iter()
        .enumerate()
        .map(|(at, statement)| {
            let (client, path) = (
                clients[at % clients.len()].clone(),
                format!("/api/v1/sql?timeout=6s&query={}", escape(statement)),
            );
            std::thread::spawn(move || client.get(&path))
        })
        .collect();
    for client in &clients {
        eventually("the deadly ones run", || active(client, "select").or_else(|_| active(client, "with")));
    }
    let mut rounds = 0;
    while rounds < 5 || asking.iter().any(|thread| !thread.is_finished()) {
        rounds += 1;
        for client in &clients {
            let found = client.query("count(load)", end).expect("a small query is answered");
            assert_eq!(found.values().copied().collect::<Vec<_>>(), [SERIES as f64], "round {rounds}");
            let path =
                format!("/api/v1/sql?query={}", escape("select count(*) from load where instance = 'i7'"));
            let found = client.api(&path).expect("so is a small statement");
            assert_eq!(found["rows"][0][0], SAMPLES, "round {rounds}");
        }
    }
    for (thread, statement) in asking.into_iter().zip(DEADLY) {
        let answer = thread.join().expect("the client does not panic").expect("an answer");
        assert!(matches!(answer.status, 422 | 503), "{statement}: {} {}", answer.status, answer.body);
        let limits = ["query.timeout", "query.max_memory", "more than the limit of 268435456"];
        assert!(limits.iter().any(|limit| answer.body.contains(limit)), "{statement}: {}", answer.body);
    }
    until_nothing_runs(&cluster);
}
