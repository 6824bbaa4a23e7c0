//! Lines as Telegraf and others send them.

use super::*;
use crate::ingest::influx::{Api, Query};

impl Setup {
    async fn lines(
        &self,
        api: Api,
        precision: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), axum::http::HeaderValue::from_str(value).unwrap())
        });
        let query = Query { precision, database: "telegraf" };
        let tenant = TenantId::default();
        Answer::of(self.ingest.influx_write(api, &tenant, query, &headers.collect(), body.into()).await).await
    }
}

#[tokio::test]
async fn lines_are_written() {
    // A line without time is written now, long after the fake shard's present.
    let t = setup_with(
        RouterConfig { max_future: Duration::from_secs(1 << 40), ..RouterConfig::default() },
        |_| (),
    );
    let body = format!("cpu,host=a usage=0.5,note=\"x\" {}\nmem,host=a free=3i", NOW / 1000);
    let answer = t.lines(Api::V1, "s", &[], body).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.header("x-pharos-text-fields-dropped"), Some("1"));
    assert!(answer.header("x-influxdb-version").is_some());
    let rows = t.shards.rows.lock().unwrap().clone();
    let row = rows.get(&("default".into(), r#"cpu_usage{db="telegraf", host="a"}"#.into(), NOW));
    assert_eq!((row, rows.len()), (Some(&0.5), 2));

    let t = setup();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, format!("a v=1 {NOW}").as_bytes()).unwrap();
    let answer = t.lines(Api::V2, "ms", &[("content-encoding", "gzip")], encoder.finish().unwrap()).await;
    assert_eq!((answer.status, t.stored()), (204, 1));
}

#[tokio::test]
async fn bad_lines_are_named_and_the_rest_is_written() {
    let t = setup();
    let body = format!("a v=1 {NOW}\nb v=x {NOW}\nc v=2 {NOW}\n");
    let answer = t.lines(Api::V1, "ms", &[], body).await;
    assert_eq!((answer.status, t.stored()), (400, 2));
    assert!(answer.body.contains("line 2") && answer.body.starts_with("{\"error\":"), "{}", answer.body);
    assert!(answer.header("x-influxdb-error").unwrap().contains("line"));
    let answer = setup().lines(Api::V2, "ms", &[], "b").await;
    assert!(answer.status == 400 && answer.body.contains("\"code\":\"invalid\""), "{}", answer.body);
    assert_eq!(setup().lines(Api::V1, "days", &[], "a v=1").await.status, 400);
    assert_eq!(setup().lines(Api::V1, "", &[("content-encoding", "br")], "a v=1").await.status, 415);
    *t.shards.uncertain.lock().unwrap() = true;
    let answer = t.lines(Api::V2, "ms", &[], format!("d v=1 {NOW}")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn clients_find_what_they_ask_for_first() {
    use crate::ingest::influx::{health, ping, query};
    let answer = Answer::of(ping()).await;
    assert_eq!((answer.status, answer.header("x-influxdb-version")), (204, Some("1.8.10")));
    for (statement, status) in [
        ("CREATE DATABASE \"telegraf\"", 200),
        ("show databases", 200),
        ("SELECT * FROM cpu", 400),
        ("", 400),
    ] {
        assert_eq!(Answer::of(query(statement)).await.status, status, "{statement}");
    }
    assert_eq!(Answer::of(health(true)).await.status, 200);
    let answer = Answer::of(health(false)).await;
    assert!(answer.status == 503 && answer.body.contains("\"fail\""), "{}", answer.body);
}
