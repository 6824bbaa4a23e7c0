//! What no client should send is answered with the right 4xx that names the offence, and leaves the node as it was.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use chaos::client::{Answer, Client, Series, encode_write};
use chaos::ledger::now_ms;
use tests::Cluster;

fn post(client: &Client, content_type: &str, encoding: &str, body: &[u8]) -> Answer {
    let headers = [("Content-Type", content_type), ("Content-Encoding", encoding)];
    client.post("/api/v1/write", &headers, body).expect("the server answers")
}

fn write(client: &Client, body: &[u8]) -> Answer {
    post(client, "application/x-protobuf", "snappy", body)
}

fn snappy(raw: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(raw).expect("a small body")
}

/// A raw series field with labels exactly as given.
fn series(labels: &[(&str, &str)], at_ms: i64, value: f64) -> Series {
    let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Series { labels, samples: vec![(at_ms, value)] }
}

fn check(answer: &Answer, status: u16, names: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(answer.body.contains(names), "{:?} does not name {names:?}", answer.body);
}

#[test]
fn offences_are_named_and_the_rest_is_written() {
    let cluster = Cluster::start(1, 2);
    let client = cluster.nodes[0].client();
    let now = now_ms();
    let good = series(&[("__name__", "good"), ("a", "1")], now, 1.0);
    let body = encode_write(std::slice::from_ref(&good));

    // The envelope.
    assert_eq!(post(&client, "application/json", "snappy", &body).status, 415);
    assert_eq!(post(&client, "text/plain", "snappy", &body).status, 415);
    assert_eq!(post(&client, "application/x-protobuf", "gzip", &body).status, 415);
    assert_eq!(post(&client, "application/x-protobuf;proto=some.Other", "snappy", &body).status, 415);
    assert_eq!(write(&client, b"not snappy at all").status, 400);
    assert_eq!(write(&client, b"").status, 400);
    // Claims to hold 2 GB.
    let lying = write(&client, &[0x80, 0x80, 0x80, 0x80, 0x08, 0x00, 0x01]);
    assert!(lying.status == 400 || lying.status == 413, "{} {}", lying.status, lying.body);
    assert_eq!(write(&client, &snappy(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])).status, 400);
    assert_eq!(write(&client, &snappy(&vec![0xff; 4096])).status, 400);
    let whole = snap::raw::Decoder::new().decompress_vec(&body).expect("our own body");
    assert_eq!(write(&client, &snappy(&whole[..whole.len() - 3])).status, 400, "a body cut inside a sample");

    // Labels and times: each offence beside a good series, which is written.
    let long = "x".repeat(10 << 20);
    let many: Vec<(String, String)> = (0..200).map(|i| (format!("l{i:03}"), "v".to_owned())).collect();
    let mut many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    many.insert(0, ("__name__", "many"));
    let offences: [(&str, Series); 6] = [
        ("twice", series(&[("__name__", "twice"), ("a", "1"), ("a", "2")], now, 1.0)),
        ("empty", series(&[("__name__", "empty_name"), ("", "1")], now, 1.0)),
        ("x", series(&[("__name__", "long"), ("l", &long)], now, 1.0)),
        ("128", series(&many, now, 1.0)),
        ("future", series(&[("__name__", "ahead")], now + 86_400_000, 1.0)),
        ("1970", series(&[("__name__", "before")], -5, 1.0)),
    ];
    for (i, (names, bad)) in offences.into_iter().enumerate() {
        let beside = series(&[("__name__", "beside"), ("i", &i.to_string())], now, i as f64);
        let answer = write(&client, &encode_write(&[bad, beside]));
        assert_eq!(answer.status, 400, "{names}: {}", answer.body);
        assert!(answer.body.len() < 4096, "an error does not send {} bytes back", answer.body.len());
    }
    let beside = client.query("count(beside)", now).expect("a count");
    assert_eq!(beside.values().copied().collect::<Vec<_>>(), [6.0], "the valid rest was written");
    for metric in ["twice", "empty_name", "long", "many", "ahead", "before"] {
        assert!(client.query(metric, now).expect("an answer").is_empty(), "{metric} was refused");
    }

    // Values that are not offences: every NaN is kept as it is, a stale marker ends the series.
    let odd = [
        series(&[("__name__", "odd"), ("v", "nan")], now, f64::from_bits(0x7ff8_0000_0000_beef)),
        series(&[("__name__", "odd"), ("v", "inf")], now, f64::NEG_INFINITY),
        series(&[("__name__", "odd"), ("v", "stale")], now, f64::from_bits(0x7ff0_0000_0000_0002)),
    ];
    let answer = write(&client, &encode_write(&odd));
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(client.query("odd", now).expect("an answer").len(), 2);

    // Unsorted labels name the same series as sorted ones.
    let unsorted = series(&[("a", "1"), ("__name__", "good")], now + 1, 2.0);
    assert_eq!(write(&client, &encode_write(&[good, unsorted])).status, 204);
    assert_eq!(client.query("count_over_time(good[1m])", now + 1).expect("a count").len(), 1);

    // Queries.
    check(&client.get("/api/v1/query?query=sum(").expect("an answer"), 400, "bad_data");
    check(
        &client.get("/api/v1/query_range?query=up&start=0&end=1000000&step=1").expect("an answer"),
        400,
        "11,000 points",
    );
    assert_eq!(client.get("/api/v1/label/%FF/values").expect("an answer").status, 400);
    assert_eq!(client.get("/api/v1/series").expect("an answer").status, 400);
    assert_eq!(client.get("/no/such/page").expect("an answer").status, 404);
}

#[test]
fn clients_that_stall_or_leave_hold_nothing_up() {
    let cluster = Cluster::start(1, 2);
    let port = cluster.nodes[0].http;
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
    // Headers that never end, and a body that never comes: the server closes both by itself.
    let mut headers = connect();
    headers.write_all(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nX-A: ").expect("sent");
    let mut body = connect();
    body.write_all(
        b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n\
          Content-Encoding: snappy\r\nContent-Length: 100000\r\n\r\nabc",
    )
    .expect("sent");
    // A client that says it will send too much is refused before it does.
    let mut large = connect();
    large
        .write_all(
            b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n\
              Content-Encoding: snappy\r\nContent-Length: 9000000000\r\n\r\n",
        )
        .expect("sent");
    let mut text = String::new();
    large.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket option");
    let _ = large.take(1024).read_to_string(&mut text);
    assert!(text.starts_with("HTTP/1.1 413"), "{text:?}");

    // Meanwhile others are served.
    let now = now_ms();
    let client = cluster.nodes[0].client();
    client.write(&[series(&[("__name__", "meanwhile")], now, 1.0)]).expect("a write beside stalled clients");
    assert_eq!(client.query("meanwhile", now).expect("an answer").len(), 1);
    for mut stalled in [headers, body] {
        stalled.set_read_timeout(Some(chaos::process::GUARD)).expect("a socket option");
        let mut answer = Vec::new();
        // The end of the stream (after a 408 or nothing) arrives; a read that times out is an error.
        stalled.read_to_end(&mut answer).expect("the server closes a connection that stalls");
    }
}
