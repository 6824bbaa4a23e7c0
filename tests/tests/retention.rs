//! Tenants keep their data for different times, together on the same shards.

use anyhow::ensure;
use chaos::client::{Client, Series, encode_write, escape};
use chaos::ledger::now_ms;
use serde_json::{Value, json};
use tests::{Cluster, eventually};

const DAY_MS: i64 = 86_400_000;
const TENANTS: [&str; 3] = ["brief", "default", "lasting"];
/// Days before now of which something is written.
const DAYS: [i64; 4] = [0, 2, 5, 9];

fn post(client: &Client, tenant: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let headers: Vec<_> = headers.iter().copied().chain([("X-Scope-OrgID", tenant)]).collect();
    let answer = client.post(path, &headers, body).expect("an answer");
    (answer.status, answer.body)
}

fn write_metrics(client: &Client, tenant: &str, days: &[i64], now: i64) -> (u16, String) {
    let samples = days.iter().rev().map(|day| (now - day * DAY_MS, *day as f64)).collect();
    let series = [Series::new("kept", &[], samples)];
    let headers = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
    post(client, tenant, "/api/v1/write", &headers, &encode_write(&series))
}

fn write_logs(client: &Client, tenant: &str, days: &[i64], now: i64) -> (u16, String) {
    let at = |day: &i64| ((now - day * DAY_MS) * 1_000_000).to_string();
    let lines: Vec<Value> = days.iter().map(|day| json!([at(day), format!("day {day}")])).collect();
    let push = json!({"streams": [{"stream": {"app": "kept"}, "values": lines}]}).to_string();
    post(client, tenant, "/loki/api/v1/push", &[("Content-Type", "application/json")], push.as_bytes())
}

fn get(client: &Client, tenant: &str, path: &str) -> anyhow::Result<Value> {
    let answer = client.get_with(path, &[("X-Scope-OrgID", tenant)])?;
    ensure!(answer.is_success(), "{path}: {}", answer.body);
    Ok(serde_json::from_str(&answer.body)?)
}

/// The days of which a tenant has samples, and those of which it has lines, newest first.
fn kept(client: &Client, tenant: &str, now: i64) -> anyhow::Result<(Vec<i64>, Vec<i64>)> {
    let query = format!("/api/v1/query?query=kept%5B12d%5D&time={}", now / 1000 + 1);
    let data = get(client, tenant, &query)?;
    let values = data["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let day = |value: &Value| value[1].as_str().and_then(|text| text.parse().ok());
    let samples = values.iter().rev().filter_map(day).collect();
    let (start, end) = ((now - 12 * DAY_MS) * 1_000_000, (now + 1000) * 1_000_000);
    let query = escape("{app=\"kept\"}");
    let path = format!("/loki/api/v1/query_range?query={query}&start={start}&end={end}&direction=backward");
    let data = get(client, tenant, &path)?;
    let lines = data["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let day = |line: &Value| line[1].as_str().and_then(|text| text.strip_prefix("day ")?.parse().ok());
    Ok((samples, lines.iter().filter_map(day).collect()))
}

/// Kills each node and starts it with other settings, then seals what is in memory. A client of one of them.
fn start_anew(cluster: &mut Cluster, settings: &[&str], asked: usize) -> Client {
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    for node in 0..3 {
        cluster.kill(node);
        cluster.nodes[node].set_arguments(&arguments);
        cluster.restart(node);
    }
    let client = cluster.nodes[asked].client();
    let flushed = client.post("/api/v1/admin/flush", &[], &[]).expect("an answer");
    assert!(flushed.is_success(), "{}", flushed.body);
    client
}

#[test]
fn each_tenant_keeps_its_data_for_its_own_time() {
    let mut cluster = Cluster::with_arguments(3, 2, &["--set", "telemetry.self_monitoring=false"]);
    let client = cluster.nodes[0].client();
    let now = now_ms();
    for tenant in TENANTS {
        for (status, answer) in
            [write_metrics(&client, tenant, &DAYS, now), write_logs(&client, tenant, &DAYS, now)]
        {
            assert!((200..300).contains(&status), "{answer}");
        }
        assert_eq!(kept(&client, tenant, now).expect("an answer"), (DAYS.to_vec(), DAYS.to_vec()));
    }
    // The same nodes with other settings: what is there already goes by them, too.
    let settings = [
        "telemetry.self_monitoring=false",
        "storage.retention=7d",
        "storage.log_retention=4d",
        "tenants.brief.retention=3d",
        "tenants.brief.log_retention=1h",
        "tenants.lasting.retention=unlimited",
        "tenants.lasting.log_retention=7d",
    ];
    let client = start_anew(&mut cluster, &settings, 1);
    // Days are dropped whole, when their last moment is old enough: none of these is a matter of the hour.
    let expected = [
        ("brief", (vec![0, 2], vec![0])),
        ("default", (vec![0, 2, 5], vec![0, 2])),
        ("lasting", (DAYS.to_vec(), vec![0, 2, 5])),
    ];
    for (tenant, days) in &expected {
        eventually("what is over is gone, and nothing else", || {
            let found = kept(&client, tenant, now)?;
            ensure!(found == *days, "{tenant} has {found:?}");
            Ok(())
        });
    }
    cluster.assert_equal_digests();

    // What would go at once is not taken.
    let (status, answer) = write_metrics(&client, "brief", &[5], now);
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("older than the retention"), "{answer}");
    let (status, answer) = write_metrics(&client, "lasting", &[11], now);
    assert!((200..300).contains(&status), "{answer}");
    assert_eq!(kept(&client, "lasting", now).expect("an answer").0, [0, 2, 5, 9, 11]);
    let (status, answer) = write_logs(&client, "brief", &[2], now);
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = write_logs(&client, "lasting", &[6], now);
    assert!((200..300).contains(&status), "{answer}");
}

/// Values of a range query by series, and its warnings.
fn range(
    client: &Client,
    query: &str,
    start: i64,
    end: i64,
    step: i64,
) -> anyhow::Result<(Value, Vec<String>)> {
    let path = format!(
        "/api/v1/query_range?query={}&start={}&end={}&step={}&nocache=1",
        escape(query),
        start / 1000,
        end / 1000,
        step / 1000
    );
    let answer = get(client, "default", &path)?;
    let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
    let warnings = warnings.iter().filter_map(|warning| Some(warning.as_str()?.to_owned())).collect();
    Ok((answer["data"]["result"].clone(), warnings))
}

fn assert_close(found: &Value, expected: &Value, what: &str) {
    let (found, expected) = (found.as_array().expect("series"), expected.as_array().expect("series"));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found["metric"], expected["metric"], "{what}");
        let points = |series: &Value| -> Vec<(i64, f64)> {
            let values = series["values"].as_array().cloned().unwrap_or_default();
            let point = |p: &Value| Some((p[0].as_f64()? as i64, p[1].as_str()?.parse().ok()?));
            values.iter().filter_map(point).collect()
        };
        let (found, expected) = (points(found), points(expected));
        let is_close = |(a, b): (&(i64, f64), &(i64, f64))| {
            a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * a.1.abs().max(b.1.abs())
        };
        assert!(
            found.len() == expected.len() && found.iter().zip(&expected).all(is_close),
            "{what}: {found:?} instead of {expected:?}"
        );
    }
}

#[test]
fn old_metrics_are_rolled_up_and_full_hours_stay_exact() {
    const HOUR_MS: i64 = 3_600_000;
    let mut cluster = Cluster::with_arguments(3, 2, &["--set", "telemetry.self_monitoring=false"]);
    let client = cluster.nodes[0].client();
    let now = now_ms();
    // The first hours of a day leave the one before the last as it is: roll-ups wait for who was let in late.
    let today = (now - 2 * HOUR_MS) / DAY_MS * DAY_MS;
    // Three days, a sample every two minutes, some of them at full hours; a counter that is reset now and then, a gauge, and
    // a series that ends.
    let times: Vec<i64> = (0..3 * 720).map(|i| today - 4 * DAY_MS + i * 120_000).collect();
    let each = |value: &dyn Fn(i64) -> f64| times.iter().zip(0..).map(|(t, i)| (*t, value(i))).collect();
    let mut ends: Vec<(i64, f64)> = each(&|i| i as f64);
    ends.truncate(1000);
    ends.push((ends[999].0 + 1000, f64::from_bits(0x7ff0_0000_0000_0002)));
    let series = [
        Series::new("rolled_total", &[("kind", "counter")], each(&|i| ((i % 517) * 3) as f64)),
        Series::new("rolled", &[("kind", "gauge")], each(&|i| ((i * 7919) % 1009) as f64 / 8.0)),
        Series::new("rolled", &[("kind", "ends")], ends),
    ];
    client.write(&series).expect("a write to a healthy cluster");
    let exact = [
        "rolled",
        "rate(rolled_total[1h])",
        "increase(rolled_total[6h])",
        "delta(rolled[2h])",
        "sum(rate(rolled_total[2h]))",
        "min_over_time(rolled[3h])",
        "max_over_time(rolled[1d])",
        "avg_over_time(rolled[1h])",
        "sum_over_time(rolled[2h] offset 1h)",
        "count_over_time(rolled[4h])",
        "last_over_time(rolled[1h])",
        "first_over_time(rolled[1h])",
        "count(rolled)",
        "absent_over_time(rolled{kind=\"ends\"}[1h])",
    ];
    let (start, end) = (today - 4 * DAY_MS, today - DAY_MS + 6 * HOUR_MS);
    let ask = |client: &Client, query: &str| range(client, query, start, end, HOUR_MS).expect("an answer");
    let before: Vec<(Value, Vec<String>)> = exact.iter().map(|query| ask(&client, query)).collect();
    let settings =
        ["telemetry.self_monitoring=false", "storage.retention=24h", "storage.rollup_retention=30d"];
    let client = start_anew(&mut cluster, &settings, 2);
    let all = format!("/api/v1/query?query={}&time={}", escape("rolled_total[6d]"), now / 1000);
    eventually("what is left of three days is a few samples of each hour", || {
        let answer = get(&client, "default", &all)?;
        let samples = answer["data"]["result"][0]["values"].as_array().map_or(0, Vec::len);
        ensure!((1..3 * 24 * 4 + 3).contains(&samples), "{samples} samples");
        Ok(())
    });
    for (query, (expected, _)) in exact.iter().zip(&before) {
        let (found, warnings) = ask(&client, query);
        assert_close(&found, expected, query);
        assert!(warnings.is_empty(), "{query}: {warnings:?}");
    }
    // What they do not tell is said.
    for query in ["quantile_over_time(0.5, rolled[1h])", "rolled", "rate(rolled_total[5m])"] {
        let (offset, step) = if query.contains("1h") { (0, HOUR_MS) } else { (300_000, HOUR_MS) };
        let (_, warnings) = range(&client, query, start + offset, end, step).expect("an answer");
        assert!(
            warnings.iter().any(|warning| warning.contains("only roll-ups are left")),
            "{query}: {warnings:?}"
        );
    }
    cluster.assert_equal_digests();
}
