//! `pharos backup` and `pharos restore` between real clusters: while data is written, cut short, damaged, and into another
//! number of nodes and shards; through a directory and through an S3 server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chaos::client::{Client, Series, escape, seconds};
use chaos::ledger::{WriterOptions, Writers, now_ms};
use serde_json::{Value, json};
use tests::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use tests::{Cluster, binary, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Exit code, standard output and standard error of a command.
fn pharos(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(binary()).args(arguments).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

fn backup(cluster: &Cluster, dir: &Path) {
    let (code, output, error) =
        pharos(&["backup", "--to", dir.to_str().expect("UTF-8"), "--url", &cluster.nodes[0].url()]);
    assert_eq!(code, 0, "{output}{error}");
}

fn restore(cluster: &Cluster, dir: &Path) -> (i32, String, String) {
    pharos(&["restore", "--from", dir.to_str().expect("UTF-8"), "--url", &cluster.nodes[0].url()])
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { out.extend(files_below(&path)) } else { out.push(path) }
    }
    out.sort();
    out
}

fn put(client: &Client, path: &str, body: &str) {
    let host = client.base().trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).expect("the node listens");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    write!(stream, "{head}Content-Type: application/json\r\n\r\n{body}").expect("the node reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Series, log lines and traces, the last two of two tenants.
fn write_data(client: &Client, at: i64, round: i64) {
    let series: Vec<Series> = (0..200)
        .map(|n| {
            let samples = (0..20).map(|i| (at - i * 15_000 - round, (n * i + round) as f64 / 3.0)).collect();
            Series::new("kept", &[("n", &n.to_string()), ("round", &round.to_string())], samples)
        })
        .collect();
    client.write(&series).expect("a write to a healthy cluster");
    let tenant = ("x-scope-orgid", "other");
    let lines: Vec<Value> = (0..3000)
        .map(|n| {
            json!([
                ((at - n) * 1_000_000 - round).to_string(),
                format!("round {round} user {n} came from 10.0.0.{}", n % 7)
            ])
        })
        .collect();
    let push = json!({"streams": [{"stream": {"app": "shop"}, "values": lines}]}).to_string();
    for headers in [&[JSON][..], &[JSON, tenant][..]] {
        let answer = client.post("/loki/api/v1/push", headers, push.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    let spans: Vec<Value> = (0..3000)
        .map(|n| {
            // Several at one moment, of several traces.
            let start = (at - n / 3) * 1_000_000 - round;
            json!({
                "traceId": format!("{:032x}", 1 + n / 5 + round * 10_000),
                "spanId": format!("{:016x}", 1 + n + round * 10_000), "name": format!("step {}", n % 9), "kind": 2,
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + n).to_string(),
                "attributes": [{"key": "n", "value": {"intValue": n.to_string()}}],
                "events": [{"timeUnixNano": start.to_string(), "name": "begun"}],
            })
        })
        .collect();
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]});
    let export =
        json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).to_string();
    for headers in [&[JSON][..], &[JSON, tenant][..]] {
        let answer = client.post("/v1/traces", headers, export.as_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    }
}

/// All spans of a tenant, each with all that it has, as SQL gives them.
fn spans(client: &Client, tenant: Option<(&str, &str)>) -> Vec<String> {
    let query = format!("query={}&format=csv", escape("SELECT * FROM spans ORDER BY trace_id, span_id"));
    let form = [Some(("content-type", "application/x-www-form-urlencoded")), tenant];
    let headers: Vec<(&str, &str)> = form.into_iter().flatten().collect();
    let answer = client.post("/api/v1/sql", &headers, query.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.lines().map(str::to_owned).collect()
}

fn get(client: &Client, path: &str) -> Value {
    client.api(path).unwrap_or_else(|e| panic!("{path}: {e:#}"))
}

/// What a cluster says to the questions that must have equal answers.
fn answers(client: &Client, at: i64) -> Vec<Value> {
    let (start, end) = (seconds(at - 600_000), seconds(at));
    let metrics =
        ["sum by (round) (kept)", "kept{n=\"7\"}", "count(kept)", "sum(rate(kept[2m]))"].map(|query| {
            get(
                client,
                &format!("/api/v1/query_range?query={}&start={start}&end={end}&step=15", escape(query)),
            )["result"]
                .clone()
        });
    let (from, to) = ((at - 600_000) * 1_000_000, at * 1_000_000);
    let counted =
        get(client, &format!("/api/v1/logs/top?query=*&field=app&start={from}&end={to}"))["total"].clone();
    let found = get(client, &format!("/api/v1/logs/query?query=user&limit=50&start={from}&end={to}"));
    let rows = found["rows"].as_array().expect("rows").iter().map(|row| {
        let mut row = row.clone();
        // A row's id is its place in the cluster.
        row.as_object_mut().expect("an object").remove("id");
        row
    });
    let mut rows: Vec<Value> = rows.collect();
    rows.sort_by_key(Value::to_string);
    metrics.into_iter().chain([counted, Value::Array(rows)]).collect()
}

fn dashboards(client: &Client) -> Value {
    let mut versions = get(client, "/api/v1/dashboards/shop/versions");
    versions
        .as_array_mut()
        .expect("versions")
        .iter_mut()
        .for_each(|version| version["updated"] = Value::Null);
    versions
}

#[test]
fn a_backup_goes_into_a_cluster_of_another_shape() {
    let source = Cluster::start(3, 4);
    let client = source.nodes[0].client();
    let at = now_ms() / 15_000 * 15_000;
    write_data(&client, at, 0);
    for (expected, title) in [(0, "Shop"), (1, "Shop, again")] {
        let body = json!({"expected": expected, "message": "m", "dashboard": {"title": title, "panels": []}});
        put(&client, "/api/v1/dashboards/shop", &body.to_string());
    }
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    // Others write meanwhile.
    let writers = Writers::start(&source.urls(), &WriterOptions::default());
    backup(&source, dir);
    let first = files_below(dir);
    write_data(&client, at, 1);
    backup(&source, dir);
    let ledger = writers.stop();
    assert!(ledger.acked() > 0, "something was written meanwhile");
    let second = files_below(dir);
    assert_ne!(first, second, "the second backup has what is new");
    // What is there is not sent again.
    let when = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).expect("a file");
    let times: Vec<_> = second.iter().map(|path| (path.clone(), when(path))).collect();
    backup(&source, dir);
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    let kept: Vec<_> = times.iter().filter(|(path, _)| is_segment(path) && path.exists()).collect();
    assert!(!kept.is_empty(), "segments outlive a backup");
    assert!(kept.iter().all(|(path, time)| when(path) == *time), "{kept:?}");

    // A backup that was cut short: no list yet, and a part of a file. It goes on.
    let segments = files_below(dir).into_iter().filter(is_segment);
    let whole = segments.max_by_key(|path| path.metadata().expect("a file").len()).expect("a segment");
    let bytes = std::fs::read(&whole).expect("readable");
    let part = PathBuf::from(format!("{}.part", whole.display()));
    std::fs::write(&part, &bytes[..bytes.len() / 2]).expect("writable");
    std::fs::remove_file(&whole).expect("there");
    std::fs::remove_file(dir.join("backup.json")).expect("there");
    let (code, _, error) = restore(&source, dir);
    assert_eq!((code, error.contains("holds no backup")), (1, true), "{error}");
    backup(&source, dir);
    assert!(!part.exists());
    let (code, output, error) = pharos(&["restore", "--check", "--from", dir.to_str().expect("UTF-8")]);
    assert_eq!((code, output.contains("whole")), (0, true), "{output}{error}");

    // Damage is named and nothing is written.
    let target = Cluster::start(1, 7);
    let other = target.nodes[0].client();
    for path in [
        whole.clone(),
        files_below(dir).into_iter().find(|p| p.to_string_lossy().contains("manifest-")).expect("one"),
    ] {
        let bytes = std::fs::read(&path).expect("readable");
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        std::fs::write(&path, &damaged).expect("writable");
        let (code, _, error) = restore(&target, dir);
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert_eq!(
            (code, error.contains(&name), error.contains("nothing was restored")),
            (1, true, true),
            "{error}"
        );
        std::fs::write(&path, bytes).expect("writable");
    }
    assert_eq!(get(&other, &format!("/api/v1/query?query=kept&time={}", seconds(at)))["result"], json!([]));

    // A restore that is killed somewhere, then run again, and once more.
    let mut child = Command::new(binary())
        .args(["restore", "--from", dir.to_str().expect("UTF-8"), "--url", &target.nodes[0].url()])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    eventually("something is restored", || {
        let found =
            other.api(&format!("/api/v1/query?query={}&time={}", escape("count(kept)"), seconds(at)))?;
        anyhow::ensure!(found["result"] != json!([]), "nothing yet");
        Ok(())
    });
    let _ = child.kill();
    child.wait().expect("it ends");
    for _ in 0..2 {
        let (code, output, error) = restore(&target, dir);
        assert_eq!(code, 0, "{output}{error}");
        assert_eq!(answers(&other, at), answers(&client, at));
        assert_eq!(dashboards(&other), dashboards(&client));
        for tenant in [None, Some(("x-scope-orgid", "other"))] {
            let there = spans(&other, tenant);
            assert_eq!(there.len(), 6001, "6000 spans, and the names of the columns");
            assert!(there == spans(&client, tenant), "span for span");
        }
    }
    let tenant = [("x-scope-orgid", "other")];
    let count = |client: &Client| {
        let query = format!("query=*&field=app&start={}&end={}", (at - 600_000) * 1_000_000, at * 1_000_000);
        let form = [tenant[0], ("content-type", "application/x-www-form-urlencoded")];
        let answer = client.post("/api/v1/logs/top", &form, query.as_bytes()).expect("an answer");
        serde_json::from_str::<Value>(&answer.body).expect("JSON")["data"]["total"].clone()
    };
    assert_eq!(count(&other), json!(6000));
    assert_eq!(count(&client), json!(6000));
    // What was acknowledged while the backups ran is in the last one.
    let judgement = ledger.judge(&other).expect("readable");
    assert_eq!(judgement.acknowledged, ledger.acked());
    // Into the cluster that it came from: everything is there.
    let (code, output, error) = restore(&source, dir);
    assert_eq!(code, 0, "{output}{error}");
    assert_eq!(answers(&client, at), answers(&other, at));
}

/// Runs a command that finds the S3 server, keys and a directory for temporary files in its environment, and nothing else of
/// that kind.
fn pharos_with_keys(
    server: &S3Server,
    tmp: &Path,
    secret: &str,
    arguments: &[&str],
) -> (i32, String, String) {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_lowercase();
        if lower.starts_with("aws_") || lower.ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", secret)];
    command.envs(keys).env("AWS_ENDPOINT_URL", server.url()).env("TMPDIR", tmp);
    let output = command.args(arguments).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

/// Samples whose values no encoding makes shorter: more than ten megabytes of them.
fn write_noise(client: &Client, at: i64) {
    for batch in 0..24_u64 {
        let series: Vec<Series> = (0..100_u64)
            .map(|n| {
                let number = batch * 100 + n;
                let samples = (0..1000_u64).map(|i| {
                    let mixed = (number * 1000 + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    (at - i as i64 * 250, f64::from_bits((mixed >> 12) | 1023 << 52))
                });
                Series::new("noise", &[("n", &number.to_string())], samples.collect())
            })
            .collect();
        client.write(&series).expect("a write to a healthy cluster");
    }
}

#[test]
fn a_backup_goes_into_a_bucket_and_back() {
    let server = S3Server::start("backups");
    let tmp = tempfile::tempdir().expect("a directory");
    let tmp = tmp.path();
    // One flush, when the backup asks for it: a segment as long as all of it.
    let source = Cluster::with_arguments(1, 1, &["--set", "storage.memtable_size=128MiB"]);
    let client = source.nodes[0].client();
    let at = now_ms() / 15_000 * 15_000;
    write_data(&client, at, 0);
    write_noise(&client, at);
    let body = json!({"expected": 0, "message": "m", "dashboard": {"title": "Shop", "panels": []}});
    put(&client, "/api/v1/dashboards/shop", &body.to_string());
    let place = "s3://backups/some/place";
    let url = source.nodes[0].url();
    let backup = |secret: &str, place: &str, url: &str| {
        pharos_with_keys(&server, tmp, secret, &["backup", "--to", place, "--url", url])
    };

    // What is wrong is named, and the secret is nowhere.
    let (code, output, error) = backup("wrong-secret", place, &url);
    assert_eq!((code, error.contains("access denied (SignatureDoesNotMatch")), (1, true), "{error}");
    assert!(!error.contains("wrong-secret") && !output.contains("wrong-secret"), "{output}{error}");
    let (code, _, error) = backup(SECRET_KEY, "s3://nothing/here", &url);
    assert_eq!((code, error.contains("there is no such bucket")), (1, true), "{error}");
    let (code, _, error) = pharos_with_keys(&server, tmp, SECRET_KEY, &["restore", "--from", place]);
    assert_eq!((code, error.contains("s3://backups/some/place holds no backup")), (1, true), "{error}");

    let (code, output, error) = backup(SECRET_KEY, place, &url);
    assert_eq!((code, output.contains("in s3://backups/some/place; ")), (0, true), "{output}{error}");
    let bucket = server.bucket("backups");
    let first = files_below(&bucket);
    assert!(first.contains(&bucket.join("some/place/backup.json")), "{first:?}");
    let len = |path: &PathBuf| path.metadata().expect("a file").len();
    let longest = first.iter().max_by_key(|path| len(path)).expect("a file").clone();
    assert!(len(&longest) > 8 << 20, "one goes up in parts: {} bytes", len(&longest));

    // What is there is not sent again.
    let when = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).expect("a file");
    let times: Vec<_> = first.iter().map(|path| (path.clone(), when(path))).collect();
    let (code, output, error) = backup(SECRET_KEY, place, &url);
    assert_eq!(code, 0, "{output}{error}");
    assert!(when(&bucket.join("some/place/backup.json")) > times[0].1, "the list is another");
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    let kept: Vec<_> = times.iter().filter(|(path, _)| is_segment(path) && path.exists()).collect();
    assert!(!kept.is_empty(), "segments outlive a backup");
    assert!(kept.iter().all(|(path, time)| when(path) == *time), "{kept:?}");

    // Another cluster keeps away, and damage is named before anything is written.
    let target = Cluster::start(1, 3);
    let other = target.nodes[0].client();
    let target_url = target.nodes[0].url();
    let (code, _, error) = backup(SECRET_KEY, place, &target_url);
    assert_eq!((code, error.contains("holds a backup of cluster")), (1, true), "{error}");
    let scratch = tempfile::tempdir().expect("a directory");
    let scratch = scratch.path().to_str().expect("UTF-8");
    let restore = || {
        let arguments = ["restore", "--from", place, "--url", &target_url, "--scratch", scratch];
        pharos_with_keys(&server, tmp, SECRET_KEY, &arguments)
    };
    let longest = files_below(&bucket).into_iter().max_by_key(len).expect("a file");
    let bytes = std::fs::read(&longest).expect("readable");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    std::fs::write(&longest, &damaged).expect("writable");
    let (code, _, error) = restore();
    let name = longest.strip_prefix(&bucket).expect("inside").display().to_string();
    assert_eq!(
        (code, error.contains(&format!("s3://backups/{name}: ")), error.contains("nothing was restored")),
        (1, true, true),
        "{error}"
    );
    assert_eq!(get(&other, &format!("/api/v1/query?query=kept&time={}", seconds(at)))["result"], json!([]));
    std::fs::write(&longest, bytes).expect("writable");

    let (code, output, error) =
        pharos_with_keys(&server, tmp, SECRET_KEY, &["restore", "--check", "--from", place]);
    assert_eq!((code, output.contains("whole")), (0, true), "{output}{error}");
    assert_eq!(files_below(tmp), Vec::<PathBuf>::new(), "what was fetched is gone");

    for round in 0..2 {
        let (code, output, error) = restore();
        assert_eq!((code, error.contains("0 B of ")), (0, round == 1), "{output}{error}");
        assert_eq!(answers(&other, at), answers(&client, at));
        assert_eq!(dashboards(&other), dashboards(&client));
        assert!(spans(&other, None) == spans(&client, None), "span for span");
        for query in ["count(noise)", "max(noise)", "sum(count_over_time(noise[10m]))"] {
            let path = format!("/api/v1/query?query={}&time={}", escape(query), seconds(at));
            let there = get(&other, &path)["result"].clone();
            assert_eq!(there, get(&client, &path)["result"], "{query}");
            assert_ne!(there, json!([]), "{query}");
        }
    }
}
