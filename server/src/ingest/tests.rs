//! The handler over a router whose shards live in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use chaos::client::{Series, encode_write};
use cluster::router::RouterConfig;
use cluster::router::shard_writer::{Proposed, WriteError};
use cluster::shard_map::ShardMap;
use openraft_rt_tokio::TokioRuntime;
use protocol::batch::{SeriesRef, SubBatchOutcome, SubBatchView};
use protocol::ids::{ClusterSecret, LogIndex, Ordinal, ShardId};
use protocol::logs::batch::{LogBatch, LogBatchOutcome};
use protocol::varint::{write_prefixed, write_u64};

use super::*;

mod influx;
mod otlp;
mod syslog;

const NOW: i64 = 1_700_000_000_000;

/// Takes everything and remembers it by tenant, or says that it does not know.
struct Shards {
    map: Arc<ShardMap>,
    rows: Mutex<BTreeMap<(String, String, i64), f64>>,
    /// Bodies of records by the key of their batch, as shards know them.
    logs: Mutex<BTreeMap<[u8; 16], Vec<String>>>,
    uncertain: Mutex<bool>,
}

impl ShardWriter for Shards {
    type Runtime = TokioRuntime;

    async fn propose(&self, shard: ShardId, sub_batch: Bytes, _: Duration) -> Result<Proposed, WriteError> {
        if *self.uncertain.lock().unwrap() {
            return Err(WriteError::Uncertain { shard, reason: "no answer".to_owned() });
        }
        let view = SubBatchView::parse(&sub_batch).unwrap();
        let new: Vec<_> = view.new_series().collect();
        let mut rows = self.rows.lock().unwrap();
        for row in view.floats().iter() {
            // The router is made anew for every test, and no test sends a series twice: all are new.
            let SeriesRef::New(position) = row.series else { panic!("an ordinal that was never given") };
            let name = new[position as usize].labels().to_string();
            rows.insert((view.tenant().to_string(), name, row.timestamp_ms), row.value);
        }
        let outcome = SubBatchOutcome::Applied {
            generation: 1,
            new_ordinals: (0..new.len() as u32).map(|n| Some(Ordinal(n))).collect(),
            series_limit: 0,
            samples: view.floats().rows().len() as u64,
            histograms: view.histograms().rows().len() as u64,
            exemplars: view.exemplars().rows().len() as u64,
        };
        Ok(Proposed { index: LogIndex(7), outcome })
    }

    async fn propose_logs(
        &self,
        shard: ShardId,
        sub_batch: Bytes,
        _: Duration,
    ) -> Result<(LogIndex, LogBatchOutcome), WriteError> {
        let batch = LogBatch::decode(&sub_batch).unwrap();
        let body = |row| match batch.rows.record(row, &batch.dict).body {
            protocol::logs::LogValue::String(text) => text.into_owned(),
            other => format!("{other:?}"),
        };
        self.logs.lock().unwrap().insert(batch.key.0, (0..batch.rows.len()).map(body).collect());
        if *self.uncertain.lock().unwrap() {
            return Err(WriteError::Uncertain { shard, reason: "no answer".to_owned() });
        }
        Ok((LogIndex(7), LogBatchOutcome::Applied { records: batch.rows.len() as u64 }))
    }

    fn nonce(&self) -> u64 {
        7
    }

    fn shard_map(&self) -> Arc<ShardMap> {
        Arc::clone(&self.map)
    }

    fn cluster_time_ms(&self) -> Option<i64> {
        Some(NOW)
    }

    fn secret(&self) -> ClusterSecret {
        ClusterSecret([9; 32])
    }
}

struct Setup {
    shards: Arc<Shards>,
    ingest: Arc<Ingest>,
    metrics: Metrics,
}

fn setup_with(router: RouterConfig, change: impl FnOnce(&mut IngestSettings)) -> Setup {
    let map = Arc::new(ShardMap::even(1).unwrap());
    let shards = Arc::new(Shards {
        map,
        rows: Mutex::default(),
        logs: Mutex::default(),
        uncertain: Mutex::new(false),
    });
    let router = Arc::new(Router::new(Arc::clone(&shards), router));
    let mut settings = IngestSettings::from_config(
        &IngestSection::default(),
        &OtlpSection::default(),
        &HttpSection::default(),
    );
    change(&mut settings);
    let metrics = Metrics::new();
    Setup { ingest: Ingest::new(router, settings, &metrics), shards, metrics }
}

fn setup() -> Setup {
    setup_with(RouterConfig { deadline: Duration::from_millis(50), ..RouterConfig::default() }, |_| ())
}

/// Headers and status of an answer, and its body.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Self { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Samples, histograms, exemplars.
    fn written(&self) -> Option<[u64; 3]> {
        let count = |kind| self.header(&format!("X-Prometheus-Remote-Write-{kind}-Written"))?.parse().ok();
        Some([count("Samples")?, count("Histograms")?, count("Exemplars")?])
    }
}

const V1: [(&str, &str); 2] = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
const V2: [(&str, &str); 2] = [
    ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("content-encoding", "snappy"),
];

impl Setup {
    async fn send_as(&self, tenant: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let tenant = TenantId::new(tenant).unwrap();
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), axum::http::HeaderValue::from_str(value).unwrap())
        });
        Answer::of(self.ingest.remote_write(&tenant, &headers.collect(), body.into()).await).await
    }

    async fn send(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.send_as("default", headers, body).await
    }

    fn stored(&self) -> usize {
        self.shards.rows.lock().unwrap().len()
    }
}

fn series(labels: &[(&str, &str)], timestamp: i64, value: f64) -> Series {
    let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Series { labels, samples: vec![(timestamp, value)] }
}

fn up() -> Vec<u8> {
    encode_write(&[series(&[("__name__", "up")], NOW, 1.0)])
}

/// A snappy block of one literal.
fn snappy(raw: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    write_u64(&mut block, raw.len() as u64);
    if let Some(last) = raw.len().checked_sub(1) {
        block.push(0xfc);
        block.extend_from_slice(&(last as u32).to_le_bytes());
        block.extend_from_slice(raw);
    }
    block
}

/// A 2.0 request: `up` with one sample, and a histogram series with one histogram and one exemplar.
fn v2_body(label_refs: &[u8]) -> Vec<u8> {
    let field = |out: &mut Vec<u8>, tag: u8, content: &[u8]| {
        out.push(tag);
        write_prefixed(out, content);
    };
    let mut timestamp = Vec::new();
    write_u64(&mut timestamp, NOW as u64);
    let mut body = Vec::new();
    for symbol in ["", "__name__", "up", "h"] {
        field(&mut body, 0x22, symbol.as_bytes());
    }
    let mut up = Vec::new();
    field(&mut up, 0x0a, label_refs);
    field(&mut up, 0x12, &[&[0x10], timestamp.as_slice()].concat());
    field(&mut body, 0x2a, &up);
    let mut h = Vec::new();
    field(&mut h, 0x0a, &[1, 3]);
    field(&mut h, 0x1a, &[&[0x78], timestamp.as_slice()].concat());
    field(&mut h, 0x22, &[&[0x18], timestamp.as_slice()].concat());
    field(&mut body, 0x2a, &h);
    snappy(&body)
}

#[tokio::test]
async fn a_write_is_answered_with_counts_and_a_token() {
    let t = setup();
    let answer = t.send(&V1, up()).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.written()), (204, "", Some([1, 0, 0])));
    assert_eq!(answer.header(remote_write::COMMIT_TOKEN_HEADER), Some("1-7"));
    assert_eq!(t.stored(), 1);

    let t = setup();
    let answer = t.send(&V2, v2_body(&[1, 2])).await;
    assert_eq!((answer.status, answer.written()), (204, Some([1, 1, 1])), "{}", answer.body);
    let text = t.metrics.text().unwrap();
    let line = "pharos_ingest_rows_total{kind=\"histograms\",protocol=\"remote_write_2\"} 1";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("pharos_ingest_in_flight_bytes 0"), "{text}");
    assert!(text.contains("pharos_router_cached_series 2"), "{text}");
    assert!(text.contains("pharos_router_cache_misses_total 2"), "{text}");
}

#[tokio::test]
async fn an_empty_request_is_a_success_without_a_token() {
    let answer = setup().send(&V2, snappy(&[0x22, 0])).await;
    assert_eq!((answer.status, answer.written()), (204, Some([0; 3])), "{}", answer.body);
    assert_eq!(answer.header(remote_write::COMMIT_TOKEN_HEADER), None);
}

#[tokio::test]
async fn tenants_are_kept_apart() {
    let t = setup();
    t.send_as("a", &V1, up()).await;
    t.send_as("b", &V1, up()).await;
    let tenants: Vec<String> = t.shards.rows.lock().unwrap().keys().map(|key| key.0.clone()).collect();
    assert_eq!(tenants, ["a", "b"]);
}

#[tokio::test]
async fn types_are_taken_as_senders_write_them() {
    let snappy = ("content-encoding", "snappy");
    for content_type in [
        "application/x-protobuf",
        "application/x-protobuf;proto=prometheus.WriteRequest",
        "Application/X-Protobuf; proto=\"prometheus.WriteRequest\"",
        "application/x-protobuf; charset=utf-8",
    ] {
        let answer = setup().send(&[("content-type", content_type), snappy], up()).await;
        assert_eq!(answer.status, 204, "{content_type}: {}", answer.body);
    }
    assert_eq!(setup().send(&[], up()).await.status, 204, "senders of old say nothing");
    for content_type in [
        "application/json",
        "text/plain",
        "application/x-protobufs",
        "application/x-protobuf;proto=some.Other",
        "application/x-protobuf;proto=",
        "",
    ] {
        let answer = setup().send(&[("content-type", content_type), snappy], up()).await;
        assert_eq!(answer.status, 415, "{content_type}");
    }
    for encoding in ["gzip", "zstd", "identity", "snappy, gzip"] {
        let answer = setup().send(&[V1[0], ("content-encoding", encoding)], up()).await;
        assert_eq!((answer.status, answer.body.contains(encoding)), (415, true), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_corrupt_body_writes_nothing() {
    let t = setup();
    let good = up();
    for (body, status, names) in [
        (b"not snappy at all".to_vec(), 400, "snappy"),
        (Vec::new(), 400, "empty"),
        (vec![0x80, 0x80, 0x80, 0x80, 0x08, 0, 1], 413, "2147483648"),
        (snappy(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), 400, "WriteRequest at byte"),
        (snappy(&[0xff; 4096]), 400, "WriteRequest at byte"),
        (good[..good.len() - 1].to_vec(), 400, "snappy"),
    ] {
        let answer = t.send(&V1, body).await;
        assert_eq!((answer.status, answer.written()), (status, Some([0; 3])), "{names}: {}", answer.body);
        assert!(answer.body.contains(names), "{:?} does not name {names:?}", answer.body);
        assert!(answer.body.ends_with('\n') && answer.body.lines().count() == 1, "{:?}", answer.body);
    }
    assert_eq!(t.stored(), 0);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_the_rest_is_written() {
    let long = "x".repeat(10 << 20);
    for (names, bad) in [
        ("twice", series(&[("__name__", "bad"), ("a", "1"), ("a", "2")], NOW, 1.0)),
        ("empty", series(&[("__name__", "bad"), ("", "1")], NOW, 1.0)),
        ("10485760 bytes", series(&[("__name__", "bad"), ("l", &long)], NOW, 1.0)),
        ("no metric name", series(&[("a", "1")], NOW, 1.0)),
        ("future", series(&[("__name__", "bad")], NOW + 86_400_000, 1.0)),
        ("1970", series(&[("__name__", "bad")], -5, 1.0)),
        ("retention", series(&[("__name__", "bad")], 0, 1.0)),
    ] {
        let t = setup();
        let good = [series(&[("__name__", "a")], NOW, 1.0), series(&[("__name__", "z")], NOW, 2.0)];
        let [first, last] = good;
        let answer = t.send(&V1, encode_write(&[first, bad, last])).await;
        assert_eq!((answer.status, answer.written()), (400, Some([2, 0, 0])), "{names}: {}", answer.body);
        assert!(answer.body.contains("1 samples rejected") && answer.body.contains(names), "{}", answer.body);
        assert!(answer.body.len() < 1000, "{} bytes of error", answer.body.len());
        assert_eq!((t.stored(), answer.header(remote_write::COMMIT_TOKEN_HEADER)), (2, Some("1-7")));
    }

    // The second series of 2.0 has its histogram and exemplar written; the first points nowhere.
    let answer = setup().send(&V2, v2_body(&[1, 77])).await;
    assert_eq!((answer.status, answer.written()), (400, Some([0, 1, 1])), "{}", answer.body);
    assert!(answer.body.contains("reference 77"), "{}", answer.body);
}

#[tokio::test]
async fn values_are_kept_bit_by_bit() {
    let t = setup();
    let values = [0x7ff0_0000_0000_0002, 0x7ff8_0000_0000_beef, 0xfff8_0000_0000_0000, 0xfff0_0000_0000_0000];
    for (i, &bits) in values.iter().enumerate() {
        let name = format!("v{i}");
        let body = encode_write(&[series(&[("__name__", &name)], NOW, f64::from_bits(bits))]);
        assert_eq!(t.send(&V1, body).await.status, 204);
    }
    let stored: Vec<u64> = t.shards.rows.lock().unwrap().values().map(|value| value.to_bits()).collect();
    assert_eq!(stored, values);
}

#[tokio::test]
async fn what_may_succeed_later_is_a_503() {
    let t = setup();
    *t.shards.uncertain.lock().unwrap() = true;
    let answer = t.send(&V2, v2_body(&[1, 2])).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body);
    // Nobody knows what was written, so nothing is said.
    assert_eq!(answer.written(), None);
    assert!(answer.body.contains("shard 1"), "{}", answer.body);
    *t.shards.uncertain.lock().unwrap() = false;
    assert_eq!(t.send(&V2, v2_body(&[1, 2])).await.status, 204);

    let full = setup_with(RouterConfig::default(), |settings| settings.max_in_flight_bytes = 1 << 10);
    let answer = full.send(&V1, snappy(&vec![0x22; 4000])).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body);
    assert_eq!(full.send(&V1, up()).await.status, 204, "its share came back");
}

fn pieces(pieces: Vec<Bytes>) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::iter(pieces.into_iter().map(Ok))
}

#[tokio::test]
async fn bodies_are_bounded_in_bytes_and_time() {
    let small = || setup_with(RouterConfig::default(), |settings| settings.limits.max_body_bytes = 1000);
    let long = snappy(&[0x22; 2000]);
    assert_eq!(small().send(&V1, long.clone()).await.status, 413);
    let unannounced = pieces(long.chunks(100).map(Bytes::copy_from_slice).collect());
    assert_eq!(small().send(&V1, Body::from_stream(unannounced)).await.status, 413);
    assert_eq!(small().send(&V1, up()).await.status, 204);

    let hasty = setup_with(RouterConfig::default(), |s| s.body_timeout = Duration::from_millis(10));
    let stalled = futures_util::StreamExt::chain(
        pieces(vec![Bytes::from_static(b"abc")]),
        futures_util::stream::pending(),
    );
    assert_eq!(hasty.send(&V1, Body::from_stream(stalled)).await.status, 408);
    let broken =
        futures_util::stream::iter([Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("reset"))]);
    assert_eq!(hasty.send(&V1, Body::from_stream(broken)).await.status, 400);
}

#[tokio::test]
async fn a_large_request_is_decoded_on_the_pool() {
    let t = setup();
    let many: Vec<Series> = (0..20_000)
        .map(|i| series(&[("__name__", "up"), ("instance", &format!("host-{i:0>40}"))], NOW, 1.0))
        .collect();
    let body = encode_write(&many);
    assert!(protocol::remote_write::decompressed_len(&body, &Limits::default()).unwrap() > 1 << 20);
    let answer = t.send(&V1, body).await;
    assert_eq!((answer.status, t.stored()), (204, 20_000), "{}", answer.body);
}

#[tokio::test]
async fn recordings_of_real_senders_are_taken() {
    let Some(root) = std::env::var_os("PHAROS_TESTDATA") else {
        #[allow(clippy::print_stderr, reason = "a test that skips says so")]
        {
            eprintln!("skipped recordings_of_real_senders_are_taken: PHAROS_TESTDATA is not set");
        }
        return;
    };
    for client in ["remote_write_prometheus_2.42", "remote_write_vmagent_1.79"] {
        let folder = PathBuf::from(&root).join("wire").join(client);
        let mut bodies = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "bin") {
                continue;
            }
            let head = std::fs::read_to_string(path.with_extension("json")).unwrap();
            let head: serde_json::Value = serde_json::from_str(&head).unwrap();
            let headers: Vec<(&str, &str)> = head["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
                .collect();
            // They were recorded long after the fake shard's present.
            let t = setup_with(
                RouterConfig { max_future: Duration::from_secs(1 << 40), ..RouterConfig::default() },
                |_| (),
            );
            let answer = t.send(&headers, std::fs::read(&path).unwrap()).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT.as_u16(), "{}: {}", path.display(), answer.body);
            bodies += 1;
        }
        assert!(bodies > 0, "{} holds no bodies", folder.display());
    }
}
