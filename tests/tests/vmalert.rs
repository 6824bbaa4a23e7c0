//! VictoriaMetrics' rule engine evaluates rules against a cluster: it asks one node, writes to another, and its alerts arrive.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use anyhow::{Context, ensure};
use chaos::client::Series;
use chaos::ledger::now_ms;
use serde_json::Value;
use tests::{Cluster, eventually, peers};

const RULES: &str = r#"
groups:
  - name: shop
    interval: 1s
    rules:
      - record: job:requests:rate5m
        expr: sum by (job) (rate(requests_total[5m]))
      - alert: LongQueue
        expr: max by (job) (queue_length) > 2
        labels:
          severity: page
        annotations:
          summary: "{{ $value }} wait in {{ $labels.job }}"
"#;

/// An Alertmanager that takes what comes; the bodies of its requests.
fn notifier() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let (arrived, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let arrived = arrived.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let (mut line, mut length) = (String::new(), 0);
                    while reader.read_line(&mut line).unwrap_or(0) > 0 && line.trim() != "" {
                        if let Some((name, value)) = line.split_once(':')
                            && name.eq_ignore_ascii_case("content-length")
                        {
                            length = value.trim().parse().unwrap_or(0);
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    if length == 0 || reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    let _ = arrived.send(String::from_utf8_lossy(&body).into_owned());
                    if reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, bodies)
}

#[test]
fn vmalert_evaluates_rules_against_us() {
    if !peers::installed(&["vmalert"]) {
        return;
    }
    let cluster = Cluster::start(3, 3);
    let end = now_ms();
    let times: Vec<i64> = (0..40).map(|i| end - (39 - i) * 15_000).collect();
    let labels = [("instance", "a:1"), ("job", "shop")];
    let counter = times.iter().enumerate().map(|(i, t)| (*t, 3.0 * i as f64)).collect();
    let gauge = times.iter().map(|t| (*t, 5.0)).collect();
    let series =
        [Series::new("requests_total", &labels, counter), Series::new("queue_length", &labels, gauge)];
    cluster.nodes[0].client().write(&series).expect("a write to a healthy cluster");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let rules = dir.path().join("rules.yml");
    std::fs::write(&rules, RULES).expect("the test's directory is writable");
    let (url, alerts) = notifier();
    let (asked, written) = (cluster.nodes[0].url(), cluster.nodes[1].url());
    let vmalert = peers::vmalert(dir.path(), &rules, &asked, &written, &url);

    // What it recorded, as any node tells it.
    let client = cluster.nodes[2].client();
    eventually("the recorded series is there", || {
        let found = client.query("job:requests:rate5m", now_ms())?;
        let value = *found.values().next().context("no series")?;
        ensure!((value - 0.2).abs() < 0.02, "{value} is not 3 every 15 s");
        Ok(())
    });
    eventually("the alert's series is there", || {
        let found = client
            .query("ALERTS{alertname=\"LongQueue\",alertstate=\"firing\",severity=\"page\"}", now_ms())?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(())
    });
    let body = alerts.recv().expect("the alert is sent");
    let alert: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(alert[0]["labels"]["alertname"], "LongQueue", "{alert}");
    assert_eq!(alert[0]["annotations"]["summary"], "5 wait in shop", "{alert}");
    // And it is content with what it was answered.
    let groups = vmalert.client().get("/api/v1/rules").expect("vmalert tells of its rules").body;
    let groups: Value = serde_json::from_str(&groups).unwrap_or_else(|e| panic!("{e}: {groups}"));
    let rules = groups["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
    assert_eq!(rules.len(), 2, "{groups}");
    assert!(rules.iter().all(|rule| rule["lastError"].as_str().unwrap_or_default().is_empty()), "{groups}");
}
