//! Logs over HTTP and WebSockets, with shards in memory behind them.

use std::sync::Arc;
use std::time::Duration;

use protocol::logs::{LogRecord, LogStream, LogValue};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::shards::{LogCluster, Record};
use super::{Surface, surface};
use crate::runtime::now_ms;

/// The shards against which `query` tests itself.
#[path = "../../../../query/tests/log_support/mod.rs"]
mod shards;

const SECOND: i64 = 1_000_000_000;

fn record(service: &str, time_ns: i64, severity: u8, body: &str) -> Record {
    let text = |text: &str| LogValue::String(text.to_owned().into());
    let stream = LogStream { resource: vec![("service.name".into(), text(service))], ..LogStream::default() };
    let attributes = vec![("status".into(), LogValue::Int(time_ns / SECOND * 100))];
    let record = LogRecord { time_ns, severity, body: text(body), attributes, ..LogRecord::default() };
    (stream, record)
}

async fn with_logs(records: &[Record]) -> (Surface, Arc<LogCluster>) {
    let surface = surface(|_| ()).await;
    let cluster = LogCluster::new(3);
    records.iter().for_each(|record| cluster.put(record));
    surface.connect_shards(cluster.clone(), true);
    (surface, cluster)
}

fn some() -> Vec<Record> {
    vec![
        record("web", SECOND, 9, "GET /cart took 5 ms"),
        record("web", 2 * SECOND, 17, "connection refused"),
        record("web", 3 * SECOND, 9, "GET /pay took 7 ms"),
        record("cart", 4 * SECOND, 13, r#"{"took":"9ms"}"#),
    ]
}

/// Percent-encodes everything but letters and digits.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn json_of(surface: &Surface, path: &str, params: &[(&str, &str)]) -> Value {
    let params: Vec<String> =
        params.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let params = params.join("&");
    let (status, body) = surface.get(&format!("{path}?{params}")).await;
    assert_eq!(status, 200, "{path} {params}: {body}");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let value: Value = serde_json::from_str(&body).unwrap();
    // Both ways answer the same, but for how long it took.
    let (status, posted) = surface.request("POST", path, form, &params).await;
    if status != 405 {
        let strip = |mut value: Value| {
            value["data"].as_object_mut().map(|data| data.remove("stats"));
            value
        };
        assert_eq!(strip(serde_json::from_str(&posted).unwrap()), strip(value.clone()));
    }
    value
}

const ALL: [(&str, &str); 2] = [("start", "0"), ("end", "10")];

#[tokio::test]
async fn searches_page_by_page() {
    let (surface, _) = with_logs(&some()).await;
    let ask = async |cursor: &str| {
        let mut params = vec![("query", "service.name:web"), ("limit", "2"), ("cursor", cursor)];
        params.extend(ALL);
        json_of(&surface, "/api/v1/logs/query", &params).await
    };
    let first = ask("").await;
    assert_eq!(first["data"]["rows"][0]["body"], "GET /pay took 7 ms");
    assert_eq!(first["data"]["rows"][1]["level"], "error");
    let second = ask(first["data"]["cursor"].as_str().unwrap()).await;
    assert_eq!(second["data"]["rows"].as_array().unwrap().len(), 1);
    assert_eq!(second["data"]["cursor"], Value::Null);

    let id = first["data"]["rows"][1]["id"].as_str().unwrap().to_owned();
    let mut params =
        vec![("query", "service.name:web"), ("id", id.as_str()), ("before", "1"), ("after", "5")];
    params.extend(ALL);
    let around = json_of(&surface, "/api/v1/logs/context", &params).await;
    assert_eq!(around["data"]["row"]["body"], "connection refused");
    assert_eq!(around["data"]["before"][0]["body"], "GET /cart took 5 ms");
    assert_eq!(around["data"]["after"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn counts_and_figures() {
    let (surface, _) = with_logs(&some()).await;
    let ask = async |what: &str, params: &[(&str, &str)]| {
        let params: Vec<(&str, &str)> = params.iter().copied().chain(ALL).collect();
        json_of(&surface, &format!("/api/v1/logs/{what}"), &params).await["data"].clone()
    };
    let histogram = ask("histogram", &[("step", "2"), ("field", "level")]).await;
    let info = json!({"fields": {"level": "info"}, "total": 2, "values": [[0.0, 1], [2.0, 1]]});
    assert!(histogram["groups"].as_array().unwrap().contains(&info), "{histogram}");
    let top = ask("top", &[("field", "service.name"), ("limit", "1")]).await;
    let expected =
        json!({"total": 4, "distinct": 2, "values": [{"fields": {"service.name": "web"}, "count": 3}]});
    assert_eq!(top, expected);
    let stats = ask("stats", &[("field", "status"), ("quantile", "0.5")]).await;
    assert_eq!((stats["count"].as_u64(), stats["numbers"]["max"].as_f64()), (Some(4), Some(400.0)));
    assert_eq!(stats["numbers"]["quantiles"], json!([{"quantile": 0.5, "value": 250.0}]));
    let fields = ask("fields", &[("query", "level>=error")]).await;
    let status = json!({"name": "status", "place": "attributes", "types": ["int"], "count": 1});
    assert!(fields["fields"].as_array().unwrap().contains(&status), "{fields}");
    let patterns = ask("patterns", &[("query", "GET"), ("step", "10")]).await;
    assert_eq!(patterns["patterns"].as_array().unwrap().len(), 2, "{patterns}");
}

#[tokio::test]
async fn what_loki_is_asked_is_answered_as_loki_does() {
    let (surface, _) = with_logs(&some()).await;
    let ask = async |path: &str, params: &[(&str, &str)]| {
        let params: Vec<(&str, &str)> = params.iter().copied().chain(ALL).collect();
        json_of(&surface, &format!("/loki/api/v1/{path}"), &params).await
    };
    // Grafana's health check.
    let health = ask("query", &[("query", "vector(1)+vector(1)"), ("time", "4000000000")]).await;
    assert_eq!(health["data"]["result"], json!([{"metric": {}, "value": [4_000_000_000_u64, "2"]}]));
    let lines = ask("query_range", &[("query", "{service_name=\"cart\"} | json")]).await;
    let stream = &lines["data"]["result"][0];
    assert_eq!(stream["values"], json!([["4000000000", "{\"took\":\"9ms\"}"]]));
    assert_eq!(
        (&stream["stream"]["took"], &stream["stream"]["detected_level"]),
        (&json!("9ms"), &json!("warn"))
    );
    let matrix = ask(
        "query_range",
        &[("query", "sum by (service_name) (count_over_time({service_name=~\".+\"}[5s]))"), ("step", "5")],
    );
    let matrix = matrix.await;
    assert_eq!(matrix["data"]["resultType"], "matrix");
    assert_eq!(matrix["data"]["result"][1], json!({"metric": {"service_name": "web"}, "values": [[5, "3"]]}));
    assert_eq!(ask("labels", &[]).await, json!({"status": "success", "data": ["service_name"]}));
    assert_eq!(ask("label/service_name/values", &[]).await["data"], json!(["cart", "web"]));
    let series = ask("series", &[("match[]", "{service_name=\"web\"}")]).await;
    assert_eq!(series["data"], json!([{"service_name": "web"}]));
    let stats = ask("index/stats", &[("query", "{service_name=\"web\"}")]).await;
    assert_eq!((&stats["streams"], &stats["entries"]), (&json!(1), &json!(3)));
    let volume = ask("index/volume", &[("query", "{service_name=~\".+\"}")]).await;
    assert_eq!(volume["data"]["result"][0]["metric"], json!({"service_name": "web"}));
    let volume = ask("index/volume_range", &[("query", "{service_name=\"cart\"}"), ("step", "5")]).await;
    assert_eq!(volume["data"]["result"][0]["values"], json!([[5, "14"]]));
    let labels = ask("detected_labels", &[]).await;
    assert_eq!(labels, json!({"detectedLabels": [{"label": "service_name", "cardinality": 2}]}));
    let fields = ask("detected_fields", &[("query", "{service_name=\"cart\"}")]).await;
    let took = json!({"label": "took", "type": "duration", "cardinality": 1, "parsers": ["json"]});
    assert!(fields["fields"].as_array().unwrap().contains(&took), "{fields}");
    let values = ask("detected_field/took/values", &[("query", "{service_name=\"cart\"}")]).await;
    assert_eq!(values["values"], json!(["9ms"]));
    let patterns = ask("patterns", &[("query", "{service_name=\"web\"} |= \"GET\"")]).await;
    assert_eq!(patterns["data"].as_array().unwrap().len(), 2, "{patterns}");
    assert_eq!(ask("format_query", &[("query", "{a=\"b\"}|json")]).await["data"], "{a=\"b\"} | json");
}

#[tokio::test]
async fn bad_questions_are_told_what_is_wrong() {
    let (surface, cluster) = with_logs(&some()).await;
    for (path, offence) in [
        ("/api/v1/logs/query?query=%28a", "1:1: \\\"(\\\" is not closed"),
        ("/api/v1/logs/query?cursor=x", "is no cursor"),
        ("/api/v1/logs/query?direction=up", "direction"),
        ("/api/v1/logs/query?start=5&end=1", "end timestamp"),
        ("/api/v1/logs/query?limit=9999999", "9999999"),
        ("/api/v1/logs/top", "\\\"field\\\" is missing"),
        ("/api/v1/logs/stats?field=a&quantile=2", "quantile"),
        ("/api/v1/logs/histogram?start=0&end=1000000&step=0.001", "maximum resolution"),
        ("/api/v1/logs/context?id=5_1_0&start=0&end=10", "finds no record"),
        ("/loki/api/v1/query_range?query=%7B", "parse error at line 1, col 2"),
        ("/loki/api/v1/query?query=%7Ba%3D%22b%22%7D", "not supported as an instant query"),
        ("/loki/api/v1/query_range", "\"query\" is missing"),
        ("/loki/api/v1/tail?query=%7B", "upgrade"),
    ] {
        let (status, body) = surface.get(path).await;
        assert!(status == 400 || status == 426, "{path}: {status} {body}");
        assert!(body.to_lowercase().contains(&offence.to_lowercase()), "{path}: {body}");
    }
    *cluster.missing.lock().unwrap() = Some(2);
    let (status, body) = surface.get("/api/v1/logs/query").await;
    assert_eq!((status, body.contains("shard 2")), (503, true), "{body}");
    let (status, body) = surface.get("/loki/api/v1/labels").await;
    assert_eq!((status, body.starts_with("shard 2 does not answer")), (503, true), "{body}");
}

#[tokio::test]
async fn a_tail_is_of_the_tenant_that_the_address_names() {
    let now = now_ms() * 1_000_000;
    let (surface, cluster) = with_logs(&[record("web", now - 2 * SECOND, 9, "before")]).await;
    let path = format!("/api/v1/logs/tail?start={}&tenant=", now - 100 * SECOND);
    let first = Reader::connect(&surface, &format!("{path}team-a")).await.next().await;
    assert_eq!(first["rows"][0]["body"], "before");
    assert_eq!(cluster.tenant.lock().unwrap().as_str(), "team-a");
    let (head, _) = Reader::ask(&surface, &format!("{path}a%2Fb")).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}

/// A reader of a WebSocket, as simple as can be: a server's frames are neither masked nor cut here.
struct Reader(TcpStream);

impl Reader {
    async fn connect(surface: &Surface, path: &str) -> Self {
        let (head, stream) = Self::ask(surface, path).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self(stream)
    }

    /// Asks for a socket; the head of the answer, and what comes after it.
    async fn ask(surface: &Surface, path: &str) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(surface.server.addr).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap(), stream)
    }

    /// The next text, as JSON.
    async fn next(&mut self) -> Value {
        let guarded = tokio::time::timeout(Duration::from_secs(60), async {
            let kind = self.0.read_u8().await.unwrap();
            let length = match self.0.read_u8().await.unwrap() {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                length => u64::from(length),
            };
            let mut text = vec![0; length as usize];
            self.0.read_exact(&mut text).await.unwrap();
            assert_eq!(kind, 0x81, "a whole text frame, not {:?}", String::from_utf8_lossy(&text));
            serde_json::from_slice(&text).unwrap()
        });
        guarded.await.expect("a message comes")
    }
}

#[tokio::test]
async fn a_tail_sends_what_comes_and_nothing_twice() {
    let now = now_ms() * 1_000_000;
    let (surface, cluster) = with_logs(&[record("web", now - 2 * SECOND, 9, "before")]).await;
    let start = now - 100 * SECOND;
    let mut own =
        Reader::connect(&surface, &format!("/api/v1/logs/tail?query=service.name:web&start={start}")).await;
    let query = encoded("{service_name=\"web\"}");
    let mut loki = Reader::connect(&surface, &format!("/loki/api/v1/tail?query={query}")).await;
    let first = own.next().await;
    assert_eq!((&first["rows"][0]["body"], &first["dropped"]), (&json!("before"), &json!(0)));
    let first = loki.next().await;
    assert_eq!(first["streams"][0]["values"], json!([[(now - 2 * SECOND).to_string(), "before"]]));
    cluster.put(&record("cart", now, 9, "not asked for"));
    // A little late: older than what was sent already.
    cluster.put(&record("web", now - 3 * SECOND, 9, "late"));
    let second = own.next().await;
    assert_eq!((second["rows"].as_array().unwrap().len(), &second["rows"][0]["body"]), (1, &json!("late")));
    let second = loki.next().await;
    assert_eq!(second["streams"][0]["values"][0][1], "late");
    assert_eq!(second["streams"].as_array().unwrap().len(), 1);
}
