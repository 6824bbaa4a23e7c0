//! The surface over real sockets, with an imitated node behind it.

mod logs;
mod postgres;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use protocol::ids::{NodeId, ShardId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use ::cluster::meta::{MetaCommand, MetaOutcome};
use ::cluster::router::{Prepared, RouteError, WriteReceipt};
use bytes::Bytes;
use protocol::ids::{ClusterSecret, TenantId};
use protocol::matcher::Matcher;
use protocol::write_batch::{FingerprintKey, WriteBatch};
use query::source::{Cluster, ReadContext, ShardAnswer, SourceError};
use query::{Engine, EngineOptions};
use storage::manifest::{FileKind, FileRef, Partition, SegmentMeta};

use super::active::{ActiveQueries, Settings};
use super::backup::BackupSource;
use super::read::Queries;
use super::serve::{HttpServer, HttpVersion, ServeOptions};
use super::*;
use crate::config::units::Span;
use crate::ingest::{Ingest, IngestSettings, LogWriter, MetricWriter, SpanWriter};
use ::cluster::router::logs::{LogReceipt, PreparedLogs};
use ::cluster::router::spans::SpanBatchBuilder;
use protocol::logs::batch::{BatchKey, LogBatchBuilder};

/// A node that can do nothing but say what it was asked.
struct Imitation {
    ready: bool,
    deletes: Arc<Mutex<Vec<String>>>,
}

/// A cluster of one shard, whose only file is `content` in pieces of three bytes.
struct ImitatedBackup;

impl BackupSource for ImitatedBackup {
    fn state(&self) -> crate::backup::State {
        crate::backup::State { cluster_id: "c".to_owned(), shards: vec![ShardId(1)], ..Default::default() }
    }

    fn capture(&self, shard: ShardId) -> BoxFuture<'_, Result<Bytes, ApiError>> {
        async move { Ok(Bytes::from(format!("manifest of {shard}"))) }.boxed()
    }

    fn file_piece(
        &self,
        _: ShardId,
        file: FileRef,
        offset: u64,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ApiError>> {
        let content = Bytes::from_static(b"content");
        let known = file == FileRef::of(&content, FileKind::Segment);
        let from = (offset as usize).min(content.len());
        let piece = content.slice(from..(from + 3).min(content.len()));
        async move { Ok(known.then_some(piece)) }.boxed()
    }

    fn restore_settings(&self, _: BTreeMap<String, String>) -> BoxFuture<'_, Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }
}

impl Operations for Imitation {
    fn readiness(&self) -> Result<(), String> {
        if self.ready { Ok(()) } else { Err("shard 3 is 17 entries behind".to_owned()) }
    }

    fn status(&self) -> BoxFuture<'_, Result<Value, ApiError>> {
        async { Ok(json!({"node": 1})) }.boxed()
    }

    fn segments(&self) -> Vec<SegmentMeta> {
        let file = FileRef { hash: [255; 32], len_bytes: 4096, kind: FileKind::Segment };
        vec![SegmentMeta {
            file,
            partition: Partition { signal: 0, class: 0, bucket: 1 },
            log_after: 0,
            log_last: 9,
            min_time: 1_700_000_000_000,
            max_time: 1_700_000_059_999,
            series: 3,
            samples: 12,
            deleted_upto: 0,
        }]
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        std::future::pending().boxed()
    }

    fn delete_series(
        &self,
        tenant: TenantId,
        matchers: Vec<Matcher>,
        (start, end): (i64, i64),
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        let asked = format!("{tenant} {matchers:?} {start} {end}");
        self.deletes.lock().unwrap().push(asked);
        async { Ok(()) }.boxed()
    }

    fn delete_logs(
        &self,
        tenant: TenantId,
        filter: protocol::logs::LogFilter,
        (start, end): (i64, i64),
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        let asked = format!("{tenant} {filter:?} {start} {end}");
        self.deletes.lock().unwrap().push(asked);
        async { Ok(()) }.boxed()
    }

    fn clean_tombstones(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        async { Err(ApiError::new(ErrorKind::Unavailable, "no leader")) }.boxed()
    }

    fn make_join_token(&self, life_ms: i64) -> BoxFuture<'_, Result<String, ApiError>> {
        async move { Ok(format!("for {life_ms}")) }.boxed()
    }

    fn join_by_token_only(&self, only: bool) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { if only { Ok(()) } else { Err(ApiError::new(ErrorKind::Conflict, "open")) } }.boxed()
    }

    fn move_replica(&self, shard: ShardId, from: NodeId, to: NodeId) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { Err(ApiError::new(ErrorKind::Conflict, format!("{shard} {from} {to}"))) }.boxed()
    }

    fn transfer(&self, shard: ShardId) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { Err(ApiError::new(ErrorKind::Conflict, format!("not leader of {shard}"))) }.boxed()
    }

    fn drain(&self, _: NodeId) -> BoxFuture<'_, Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }

    fn remove(&self, _: NodeId) -> BoxFuture<'_, Result<(), ApiError>> {
        async { Err(ApiError::new(ErrorKind::Unavailable, "no leader")) }.boxed()
    }
}

/// Shards that never answer tenant `slow`, answer `held` when they are told to, have lost a leader for `broken`, and hold
/// nothing for others.
struct ImitatedShards {
    release: Arc<tokio::sync::Notify>,
}

impl Cluster for ImitatedShards {
    fn execute<'a>(
        &'a self,
        context: &'a ReadContext,
        _: Bytes,
    ) -> BoxFuture<'a, Result<Vec<ShardAnswer>, SourceError>> {
        match context.tenant.as_str() {
            "slow" => std::future::pending().boxed(),
            "held" => async {
                self.release.notified().await;
                Ok(Vec::new())
            }
            .boxed(),
            "broken" => {
                async { Err(SourceError::new(ErrorKind::Unavailable, "shards 3 did not answer")) }.boxed()
            }
            _ => async { Ok(Vec::new()) }.boxed(),
        }
    }
}

/// A node with one setting.
struct ImitatedSystem;

impl ::sql::system::System for ImitatedSystem {
    fn rows<'a>(
        &'a self,
        _: ::sql::system::SystemTable,
        _: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<Vec<::sql::system::Cell>>, SourceError>> {
        let cell = ::sql::system::Cell::text;
        async move { Ok(vec![vec![cell("query.timeout"), cell("2m")]]) }.boxed()
    }
}

/// A router that knows no cluster time.
struct ImitatedRouter(FingerprintKey);

impl LogWriter for ImitatedRouter {
    fn log_batch(&self, _: &TenantId) -> Result<LogBatchBuilder, RouteError> {
        Err(RouteError::NoClusterTime)
    }

    fn declared_key(&self, _: &TenantId, _: &str) -> BatchKey {
        BatchKey([0; 16])
    }

    fn body_key(&self, _: &TenantId, _: &[u8]) -> BatchKey {
        BatchKey([0; 16])
    }

    fn prepare_logs(
        &self,
        _: &TenantId,
        _: LogBatchBuilder,
        _: Option<BatchKey>,
    ) -> Result<PreparedLogs, RouteError> {
        Err(RouteError::NoClusterTime)
    }

    fn deliver_logs(&self, _: PreparedLogs) -> BoxFuture<'_, Result<LogReceipt, RouteError>> {
        Box::pin(async { Err(RouteError::NoClusterTime) })
    }
}

impl SpanWriter for ImitatedRouter {
    fn span_batch(&self, _: &TenantId) -> Result<SpanBatchBuilder, RouteError> {
        Err(RouteError::NoClusterTime)
    }

    fn prepare_spans(&self, _: SpanBatchBuilder, _: Option<BatchKey>) -> Result<PreparedLogs, RouteError> {
        Err(RouteError::NoClusterTime)
    }
}

impl MetricWriter for ImitatedRouter {
    fn fingerprint_key(&self) -> &FingerprintKey {
        &self.0
    }

    fn prepare(&self, _: &TenantId, _: WriteBatch) -> Result<Prepared, RouteError> {
        Err(RouteError::NoClusterTime)
    }

    fn deliver(&self, _: Prepared) -> BoxFuture<'_, Result<WriteReceipt, RouteError>> {
        async { Err(RouteError::NoClusterTime) }.boxed()
    }
}

/// Dashboards as the meta group keeps them, without one.
#[derive(Default)]
struct ImitatedDashboards(Mutex<::cluster::meta::MetaState>);

impl ImitatedDashboards {
    fn apply(&self, command: &MetaCommand) -> MetaOutcome {
        self.0.lock().unwrap().apply(command)
    }
}

impl dashboards::DashboardStore for ImitatedDashboards {
    fn read(&self, look: &mut dyn FnMut(&::cluster::meta::dashboards::Dashboards)) {
        look(&self.0.lock().unwrap().dashboards);
    }

    fn save(&self, save: ::cluster::meta::dashboards::DashboardSave) -> BoxFuture<'_, Result<u64, ApiError>> {
        let (uid, expected) = (save.uid.clone(), save.expected);
        let outcome = match self.apply(&MetaCommand::SaveDashboard(save)) {
            MetaOutcome::Dashboard { version } => Ok(version),
            MetaOutcome::Stale { newest } => Err(dashboards::stale(&uid, expected, newest)),
            other => panic!("{other:?}"),
        };
        std::future::ready(outcome).boxed()
    }

    fn delete(&self, tenant: TenantId, uid: String, expected: u64) -> BoxFuture<'_, Result<(), ApiError>> {
        let command = MetaCommand::DeleteDashboard { tenant, uid: uid.clone(), expected };
        let outcome = match self.apply(&command) {
            MetaOutcome::Done => Ok(()),
            MetaOutcome::Stale { newest } => Err(dashboards::stale(&uid, expected, newest)),
            other => panic!("{other:?}"),
        };
        std::future::ready(outcome).boxed()
    }
}

struct Surface {
    app: Arc<App>,
    release: Arc<tokio::sync::Notify>,
    server: HttpServer,
    deletes: Arc<Mutex<Vec<String>>>,
}

async fn surface(change: impl FnOnce(&mut Config)) -> Surface {
    let mut config = Config::default();
    change(&mut config);
    let options = ServeOptions {
        version: HttpVersion::One,
        header_timeout: config.http.header_timeout.0,
        write_timeout: config.http.write_timeout.0,
        max_connections: 64,
    };
    let app = App::new(Arc::new(config), Arc::new(Metrics::new()));
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::start(addr, router(Arc::clone(&app)), options).await.unwrap();
    Surface { app, release: Arc::default(), server, deletes: Arc::default() }
}

impl Surface {
    fn connect_node(&self, ready: bool) {
        self.connect_shards(Arc::new(ImitatedShards { release: Arc::clone(&self.release) }), ready);
    }

    fn connect_shards(&self, shards: Arc<dyn Cluster>, ready: bool) {
        let (config, metrics) = (&self.app.config, &self.app.metrics);
        let engine = Engine::new(shards, EngineOptions::default());
        let runtime = tokio::runtime::Handle::current();
        let router = ImitatedRouter(FingerprintKey::new(&ClusterSecret([1; 32])));
        self.app.connect(Backend {
            operations: Arc::new(Imitation { ready, deletes: Arc::clone(&self.deletes) }),
            dashboards: Arc::<ImitatedDashboards>::default(),
            backup: Arc::new(ImitatedBackup),
            sql: ::sql::SqlEngine::new(
                engine.clone(),
                Arc::new(ImitatedSystem),
                ::sql::SqlOptions::default(),
            ),
            queries: Queries::new(
                engine,
                runtime,
                &config.query,
                metrics.query.clone(),
                ActiveQueries::in_memory(Settings {
                    slow_after: config.query.log_slower_than.0,
                    quarantine: Duration::ZERO,
                }),
            ),
            ingest: Ingest::new(
                Arc::new(router),
                IngestSettings::from_config(&config.ingest, &config.otlp, &config.http),
                metrics,
            ),
        });
    }

    /// Sends bytes as they are, and reads until the server closes.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.server.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let answer = self
            .raw(&format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, "", "").await
    }
}

#[tokio::test]
async fn before_the_node_runs_only_probes_answer() {
    let surface = surface(|_| ()).await;
    assert_eq!(surface.get("/-/healthy").await.0, 200);
    assert_eq!(surface.get("/metrics").await.0, 200);
    assert_eq!(surface.get("/-/ready").await, (503, "not ready: the node is starting\n".to_owned()));
    let (status, body) = surface.get("/cluster/status").await;
    assert_eq!((status, body.contains("unavailable")), (503, true), "{body}");
}

#[tokio::test]
async fn readiness_follows_the_replicas_and_ends_with_the_stop() {
    let behind = surface(|_| ()).await;
    behind.connect_node(false);
    assert_eq!(behind.get("/-/ready").await, (503, "not ready: shard 3 is 17 entries behind\n".to_owned()));
    let ready = surface(|_| ()).await;
    ready.connect_node(true);
    assert_eq!(ready.get("/-/ready").await.0, 200);
    ready.app.announce_stop();
    assert_eq!(ready.get("/-/ready").await.0, 503);
    assert_eq!(ready.get("/-/healthy").await.0, 200);
}

#[tokio::test]
async fn unknown_paths_methods_tenants_and_parameters() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    // Grafana looks for this text.
    let (status, body) = surface.get("/api/v1/rules/test/test").await;
    assert_eq!((status, body.contains("page not found")), (404, true));
    assert_eq!(surface.get("/api/v1/cluster/drain").await.0, 405);
    let (status, body) = surface.request("GET", "/cluster/status", "X-Scope-OrgID: a/b\r\n", "").await;
    assert_eq!((status, body.contains("X-Scope-OrgID")), (400, true), "{body}");

    let (status, body) = surface.request("POST", "/api/v1/cluster/drain", "", "").await;
    assert_eq!((status, body.contains("\\\"node\\\" is missing")), (400, true), "{body}");
    let (status, body) = surface.request("POST", "/api/v1/cluster/drain?node=one", "", "").await;
    assert_eq!((status, body.contains("one")), (400, true), "{body}");
    assert_eq!(surface.request("POST", "/api/v1/cluster/drain?node=1", "", "").await.0, 200);
    for (query, says) in [("", "for 3600000"), ("?for=1d", "for 86400000")] {
        let (status, body) = surface.request("POST", &format!("/api/v1/cluster/token{query}"), "", "").await;
        assert_eq!((status, body.contains(says)), (200, true), "{body}");
    }
    for (what, expected) in [("token", 200), ("address", 409), ("nobody", 400)] {
        let path = format!("/api/v1/cluster/join_by?what={what}");
        assert_eq!(surface.request("POST", &path, "", "").await.0, expected, "{what}");
    }
    assert_eq!(surface.request("POST", "/api/v1/cluster/remove?node=1", "", "").await.0, 503);
}

#[tokio::test]
async fn the_root_is_the_page_for_browsers_and_a_version_for_shippers() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let (_, page) = surface.request("GET", "/", "Accept: text/html,*/*;q=0.8\r\n", "").await;
    assert!(page.starts_with("<!doctype html>"), "{page}");
    for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
        let (status, version) = surface.request("GET", "/", accept, "").await;
        assert_eq!((status, version.contains(r#""number":"8."#)), (200, true), "{version}");
    }
}

#[tokio::test]
async fn backups_read_shards_and_pieces_of_files() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let (status, body) = surface.get("/api/v1/admin/backup/state").await;
    let state: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &state["data"]["shards"]), (200, &json!([1])), "{body}");
    let shard = "/api/v1/admin/backup/shard";
    assert_eq!(
        surface.request("POST", &format!("{shard}?shard=7"), "", "").await,
        (200, "manifest of 7".to_owned())
    );
    assert_eq!(surface.request("POST", shard, "", "").await.0, 400);
    let file = FileRef::of(b"content", FileKind::Segment);
    let path = format!("/api/v1/admin/backup/file?shard=1&file={}&bytes=7", file.name());
    for (offset, piece) in [(0, "con"), (3, "ten"), (6, "t"), (7, ""), (99, "")] {
        assert_eq!(surface.get(&format!("{path}&offset={offset}")).await, (200, piece.to_owned()));
    }
    let other = FileRef::of(b"other", FileKind::Segment).name();
    let gone = surface.get(&format!("/api/v1/admin/backup/file?shard=1&file={other}&bytes=5")).await;
    assert_eq!(gone.0, 404, "{}", gone.1);
    let bad = surface.get("/api/v1/admin/backup/file?shard=1&file=..%2Fidentity.json&bytes=5").await;
    assert_eq!((bad.0, bad.1.contains("no file's name")), (400, true), "{}", bad.1);
    let settings = "/api/v1/admin/restore/settings";
    assert_eq!(surface.request("POST", settings, "", "{\"a\":\"b\"}").await.0, 200);
    assert_eq!(surface.request("POST", settings, "", "[1]").await.0, 400);
}

#[tokio::test]
async fn deletes_name_series_and_a_range() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let path = "/api/v1/admin/tsdb/delete_series";
    for (parameters, offence) in [
        ("", "no match[] parameter"),
        ("?match[]=up%7B", "match[]"),
        ("?match[]=%7B%7D", "match[]"),
        ("?match[]=up&start=2&end=1", "end timestamp"),
        ("?match[]=up&start=x", "start"),
    ] {
        let (status, body) = surface.request("POST", &format!("{path}{parameters}"), "", "").await;
        assert_eq!((status, body.contains(offence)), (400, true), "{parameters}: {body}");
    }
    assert!(surface.deletes.lock().unwrap().is_empty());
    let tenant = "X-Scope-OrgID: a\r\n";
    let two = format!("{path}?match[]=up&match[]=%7Bjob%3D~%22x.*%22%7D&start=1&end=2.5");
    assert_eq!(surface.request("PUT", &two, tenant, "").await, (204, String::new()));
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(surface.request("POST", path, form, "match[]=down").await.0, 204);
    let all = (query::source::TimeRange::ALL.start, query::source::TimeRange::ALL.end);
    assert_eq!(
        *surface.deletes.lock().unwrap(),
        [
            "a [__name__=\"up\"] 1000 2500".to_owned(),
            "a [job=~\"x.*\"] 1000 2500".to_owned(),
            format!("default [__name__=\"down\"] {} {}", all.0, all.1),
        ]
    );
    assert_eq!(surface.get(path).await.0, 405);
    assert_eq!(surface.request("POST", "/api/v1/admin/tsdb/clean_tombstones", "", "").await.0, 503);
}

#[tokio::test]
async fn deletes_of_logs_name_a_search_and_a_range() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let path = "/api/v1/logs/delete";
    for (parameters, offence) in [
        ("?start=1&end=2", "query"),
        ("?query=%20&start=1&end=2", "query"),
        ("?query=a:&start=1&end=2", "query"),
        ("?query=*&end=2", "start"),
        ("?query=*&start=1", "end"),
        ("?query=*&start=2&end=1", "end"),
    ] {
        let (status, body) = surface.request("POST", &format!("{path}{parameters}"), "", "").await;
        assert_eq!((status, body.contains(offence)), (400, true), "{parameters}: {body}");
    }
    assert!(surface.deletes.lock().unwrap().is_empty());
    let tenant = "X-Scope-OrgID: a\r\n";
    let whole = format!("{path}?query=*&start=1&end=2");
    assert_eq!(surface.request("POST", &whole, tenant, "").await, (204, String::new()));
    assert_eq!(*surface.deletes.lock().unwrap(), ["a All 1000000000 2000000000"]);
    assert_eq!(surface.get(&whole).await.0, 405);
}

#[tokio::test]
async fn forms_are_read_like_query_strings() {
    let surface = surface(|c| c.http.max_form_body = "64B".parse().unwrap()).await;
    surface.connect_node(true);
    let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    let (status, body) = surface.request("POST", "/api/v1/cluster/move?to=3", form, "shard=1&from=2").await;
    assert_eq!((status, body.contains("1 2 3")), (409, true), "{body}");
    let (status, _) =
        surface.request("POST", "/api/v1/cluster/move", "Content-Type: application/json\r\n", "{}").await;
    assert_eq!(status, 415);
    assert_eq!(surface.request("POST", "/api/v1/cluster/move", form, &"x".repeat(65)).await.0, 413);
    assert_eq!(surface.request("POST", "/api/v1/cluster/move", form, "shard=%").await.0, 400);
}

#[tokio::test]
async fn a_full_node_refuses_but_answers_probes() {
    let surface = surface(|c| c.http.max_concurrent_requests = 1).await;
    surface.connect_node(true);
    // The imitation's flush never ends.
    let mut flush = TcpStream::connect(surface.server.addr).await.unwrap();
    flush
        .write_all(b"POST /api/v1/admin/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    while surface.app.requests.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let answer = surface.raw("GET /cluster/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    assert_eq!(surface.get("/-/ready").await.0, 200);
    // The client leaves, and its request with it.
    drop(flush);
    while surface.app.requests.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(surface.get("/cluster/status").await.0, 200);
}

#[tokio::test]
async fn a_head_or_body_that_never_comes_is_given_up() {
    let surface = surface(|c| {
        c.http.header_timeout = Span::millis(50);
        c.http.body_timeout = Span::millis(50);
    })
    .await;
    surface.connect_node(true);
    let answer = surface.raw("GET /-/healthy HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let form = "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n";
    let request =
        format!("POST /api/v1/cluster/drain HTTP/1.1\r\nHost: x\r\n{form}Content-Length: 10\r\n\r\nnode");
    let answer = surface.raw(&request).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

/// Reads one answer without a body of its own length being needed: head and as many bytes as it announces.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "closed after {text:?}");
    }
}

#[tokio::test]
async fn an_answer_before_the_body_leaves_the_connection_usable_or_says_that_it_closes() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let refused = || surface.app.metrics.text().unwrap().contains("route=\"/api/v1/write\"");
    let head = |length: &str| {
        format!("POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n{length}\r\n\r\n")
    };
    // The body comes after it was decided on: the next request on the connection is served.
    let mut stream = TcpStream::connect(surface.server.addr).await.unwrap();
    stream.write_all(head("Content-Length: 5").as_bytes()).await.unwrap();
    while !refused() {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        stream.write_all(b"12345").await.unwrap();
        let first = answer(&mut stream).await;
        assert!(first.starts_with("HTTP/1.1 415") && !first.contains("connection: close"), "{first}");
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        stream.write_all(head("Content-Length: 5").as_bytes()).await.unwrap();
    }
    // One that is too long, is held back or does not come: the answer says that the connection ends, and it does.
    for length in ["Content-Length: 100000", "Content-Length: 5\r\nExpect: 100-continue", "Content-Length: 5"]
    {
        let answer = surface.raw(&head(length)).await;
        assert!(answer.starts_with("HTTP/1.1 415"), "{length}: {answer}");
        assert!(answer.contains("connection: close"), "{length}: {answer}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_takes_holds_its_place_until_it_is_given_up() {
    let mut config = Config::default();
    config.http.max_concurrent_requests = 1;
    let app = App::new(Arc::new(config), Arc::new(Metrics::new()));
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let endless = move || {
        let piece = piece.clone();
        let pieces = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
        std::future::ready(axum::body::Body::from_stream(pieces).into_response())
    };
    let router = Router::new()
        .route("/endless", axum::routing::get(endless))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), admit));
    let options = ServeOptions {
        version: HttpVersion::One,
        header_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_millis(200),
        max_connections: 8,
    };
    let server = HttpServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), router, options).await.unwrap();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert_eq!(app.requests.available_permits(), 0, "the head has left, the body has not");
    // The client is there, and reads no more.
    while app.requests.available_permits() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
}

#[tokio::test]
async fn the_stop_waits_for_requests_in_work() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    // A query that is under way when the stop comes is answered.
    let mut query = TcpStream::connect(surface.server.addr).await.unwrap();
    query
        .write_all(b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: held\r\n\r\n")
        .await
        .unwrap();
    while surface.app.metrics.query.running.get() == 0 {
        tokio::task::yield_now().await;
    }
    let mut stop = Box::pin(surface.server.stop(Duration::from_secs(60)));
    assert!(futures_util::poll!(&mut stop).is_pending(), "a query is in work");
    surface.release.notify_one();
    stop.await;
    let answer = answer(&mut query).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn the_stop_does_not_wait_for_idle_connections() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let mut idle = TcpStream::connect(surface.server.addr).await.unwrap();
    idle.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // An idle connection does not hold the stop up, and nothing is accepted afterwards.
    surface.server.stop(Duration::from_secs(60)).await;
    assert!(TcpStream::connect(surface.server.addr).await.is_err());
}

#[tokio::test]
async fn the_description_and_the_version_are_there() {
    let surface = surface(|_| ()).await;
    let (status, body) = surface.get("/api/v1/openapi.json").await;
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    let (_, body) = surface.get("/api/v1/status/buildinfo").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["data"]["version"], status::PROMETHEUS_VERSION);
    assert!(answer["data"].get("features").is_none());
    let (_, body) = surface.get("/api/v1/status/flags").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["data"]["query.lookback"], "5m");
}

#[tokio::test]
async fn queries_in_prometheus_envelope() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let json = |(status, body): (u16, String)| (status, serde_json::from_str::<Value>(&body).unwrap());
    let (status, body) = json(surface.get("/api/v1/query?query=1%2B1&time=5.5").await);
    assert_eq!(status, 200);
    assert_eq!(body, json!({"status": "success", "data": {"resultType": "scalar", "result": [5.5, "2"]}}));
    let (status, body) = json(surface.get("/api/v1/query?query=sum(").await);
    assert_eq!((status, body["errorType"].as_str()), (400, Some("bad_data")), "{body}");
    let (status, body) = json(surface.get("/api/v1/query").await);
    assert_eq!((status, body["errorType"].as_str()), (400, Some("bad_data")), "{body}");
    let (status, body) = json(surface.get("/api/v1/query_range?query=1&start=0&end=10&step=5").await);
    assert_eq!(
        (status, &body["data"]["result"][0]["values"]),
        (200, &json!([[0, "1"], [5, "1"], [10, "1"]])),
        "{body}"
    );
    let (status, body) = json(surface.get("/api/v1/query_range?query=1&start=0&end=1000000&step=1").await);
    assert_eq!((status, body["errorType"].as_str()), (400, Some("bad_data")), "{body}");
    assert_eq!(surface.get("/api/v1/query_range?query=1&start=0&end=10").await.0, 400);
    let (status, body) = json(surface.get("/api/v1/format_query?query=sum(up)by(job)").await);
    assert_eq!((status, body["data"].as_str()), (200, Some("sum by (job) (up)")));
    assert_eq!(surface.get("/api/v1/series").await.0, 400);
    assert_eq!(surface.get("/api/v1/label/%FF/values").await.0, 400);
    let (status, body) = surface.get("/api/v1/labels?match[]=up&match[]=%7B").await;
    assert_eq!((status, body.contains("invalid parameter")), (400, true), "{body}");
    let many = |n: usize| format!("/api/v1/labels?{}", vec!["match[]=up"; n].join("&"));
    assert_eq!(surface.get(&many(64)).await.0, 200);
    let (status, body) = surface.get(&many(65)).await;
    assert_eq!((status, body.contains("more than 64")), (400, true), "{body}");
    assert_eq!(json(surface.get("/api/v1/labels").await).1["data"], json!([]));
}

#[tokio::test]
async fn a_missing_shard_fails_the_query_and_is_named() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let (status, body) =
        surface.request("GET", "/api/v1/query?query=up", "X-Scope-OrgID: broken\r\n", "").await;
    assert_eq!((status, body.contains("shards 3 did not answer")), (503, true), "{body}");
}

#[tokio::test]
async fn queries_wait_for_a_place_and_stop_when_their_client_leaves() {
    let surface = surface(|c| {
        c.query.max_concurrent = 1;
        c.query.queue_timeout = Span::millis(20);
    })
    .await;
    surface.connect_node(true);
    let mut slow = TcpStream::connect(surface.server.addr).await.unwrap();
    slow.write_all(b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: slow\r\n\r\n")
        .await
        .unwrap();
    let running = &surface.app.metrics.query.running;
    while running.get() == 0 {
        tokio::task::yield_now().await;
    }
    let (status, body) = surface.get("/api/v1/query?query=1").await;
    assert_eq!((status, body.contains("too_many_requests")), (429, true), "{body}");
    drop(slow);
    while running.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(surface.get("/api/v1/query?query=1").await.0, 200);
}

#[tokio::test]
async fn writes_reach_the_ways_in() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let headers = "Content-Type: text/plain\r\n";
    assert_eq!(surface.request("POST", "/api/v1/write", headers, "x").await.0, 415);
}

#[tokio::test]
async fn what_a_prometheus_without_rules_and_scrapes_answers() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let data = |answer: (u16, String)| {
        assert_eq!(answer.0, 200, "{}", answer.1);
        serde_json::from_str::<Value>(&answer.1).unwrap()["data"].clone()
    };
    let targets = data(surface.get("/api/v1/targets?state=active").await);
    assert_eq!((&targets["activeTargets"], &targets["droppedTargets"]), (&json!([]), &json!([])));
    assert_eq!(data(surface.get("/api/v1/rules?type=alert").await), json!({"groups": []}));
    assert_eq!(data(surface.get("/api/v1/alerts").await), json!({"alerts": []}));
    assert_eq!(data(surface.get("/api/v1/scrape_pools").await), json!({"scrapePools": []}));
    assert_eq!(data(surface.get("/api/v1/notifications").await), json!([]));
    let managers = data(surface.get("/api/v1/alertmanagers").await);
    assert_eq!(managers, json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}));
    assert_eq!(surface.get("/api/v1/rules?type=other").await.0, 400);
    assert_eq!(surface.get("/api/v1/targets?state=other").await.0, 400);
    assert_eq!(surface.get("/api/v1/targets/metadata").await.0, 404);
    let yaml =
        data(surface.get("/api/v1/status/config").await)["yaml"].as_str().unwrap_or_default().to_owned();
    assert!(yaml.contains("lookback: 5m"), "{yaml}");
    assert_eq!(data(surface.get("/api/v1/status/walreplay").await)["state"], "done");
    let features = data(surface.get("/api/v1/features").await);
    assert_eq!(features["promql_functions"]["limitk"], Value::Null);
    assert_eq!(features["promql_functions"]["rate"], true);
    assert_eq!(features["promql_operators"]["limitk"], true);
    assert_eq!(features["promql"]["delayed_name_removal"], false);
}

#[tokio::test]
async fn the_tree_of_a_query() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let (status, body) = surface.get("/api/v1/parse_query?query=up%5B5m%5D").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["data"]["type"]), (200, &json!("matrixSelector")));
    assert_eq!(surface.get("/api/v1/parse_query?query=sum(").await.0, 400);
}

#[tokio::test]
async fn stats_and_the_plan_are_there_when_asked_for() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let (_, body) = surface.get("/api/v1/query?query=sum(up)%2B1&stats=true&explain=true").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    let data = &answer["data"];
    assert!(data["stats"]["timings"]["execTotalTime"].is_f64(), "{body}");
    assert_eq!(data["explain"]["plan"]["parts"][0]["expression"], "sum(up)");
    assert_eq!(data["explain"]["fragments"][0]["expression"], "sum(up)");
    let (_, body) = surface.get("/api/v1/query?query=sum(up)").await;
    assert!(!body.contains("explain") && !body.contains("timings"), "{body}");
}

#[tokio::test]
async fn pages_of_other_origins_may_read_and_no_more() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let raw = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let preflight = surface.raw(&raw("OPTIONS", "/api/v1/query")).await;
    assert!(preflight.starts_with("HTTP/1.1 204"), "{preflight}");
    assert!(preflight.contains("access-control-allow-origin: *"), "{preflight}");
    let answer = surface.raw(&raw("GET", "/api/v1/query?query=1")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("access-control-allow-origin"), "{answer}");
    let closed = surface.raw(&raw("OPTIONS", "/api/v1/admin/flush")).await;
    assert!(closed.starts_with("HTTP/1.1 204") && !closed.contains("access-control"), "{closed}");
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_take_it() {
    use std::io::Read;
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let (_, plain) = surface.get("/api/v1/openapi.json").await;
    let mut stream = TcpStream::connect(surface.server.addr).await.unwrap();
    let request =
        "GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: Accept-Encoding"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer[end..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain);
    let short = "GET /-/healthy HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
    assert!(!surface.raw(short).await.contains("gzip"));
}

#[tokio::test]
async fn running_queries_are_listed_and_killed() {
    let surface = surface(|c| c.query.log_slower_than = Span::millis(1)).await;
    surface.connect_node(true);
    let mut slow = TcpStream::connect(surface.server.addr).await.unwrap();
    slow.write_all(
        b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: slow\r\nConnection: close\r\n\r\n",
    )
    .await
    .unwrap();
    let id = loop {
        let (_, body) = surface.get("/api/v1/status/active_queries").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        if let Some(id) = answer["data"]["active"][0]["id"].as_u64() {
            assert_eq!(answer["data"]["active"][0]["query"], "up");
            assert_eq!(answer["data"]["active"][0]["tenant"], "slow");
            break id;
        }
    };
    assert_eq!(surface.request("POST", "/api/v1/admin/queries/kill?id=999", "", "").await.0, 404);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(surface.request("POST", &format!("/api/v1/admin/queries/kill?id={id}"), "", "").await.0, 200);
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 499") && answer.contains("killed"), "{answer}");
    let (_, body) = surface.get("/api/v1/status/slow_queries").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&answer["data"][0]["query"], &answer["data"][0]["outcome"]),
        (&json!("up"), &json!("killed"))
    );
    let release = "/api/v1/admin/queries/release?query=up";
    assert_eq!(surface.request("POST", release, "", "").await.0, 404);
}

#[tokio::test]
async fn nothing_selected_is_nothing_federated() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    assert_eq!(surface.get("/federate").await, (200, String::new()));
    assert_eq!(surface.get("/federate?match[]=up").await.0, 200);
    assert_eq!(surface.get("/federate?match[]=up%7B").await.0, 400);
    assert_eq!(surface.request("POST", "/api/v1/read", "", "garbage").await.0, 400);
}

#[tokio::test]
async fn dashboards_are_saved_by_version() {
    let surface = surface(|_| {}).await;
    surface.connect_node(true);
    let save =
        |expected: u64, title: &str| json!({"expected": expected, "dashboard": {"title": title}}).to_string();
    let path = "/api/v1/dashboards/hosts";
    assert_eq!(surface.get(path).await.0, 404);
    let (status, body) = surface.request("PUT", path, "", &save(0, "One")).await;
    assert_eq!((status, body.contains("\"version\":1")), (200, true), "{body}");
    assert_eq!(surface.request("PUT", path, "", &save(1, "Two")).await.0, 200);
    let (status, body) = surface.request("PUT", path, "", &save(1, "Three")).await;
    assert_eq!(status, 409, "{body}");
    assert!(body.contains("version 2"), "{body}");
    let (_, body) = surface.get(path).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&answer["data"]["dashboard"]["title"], &answer["data"]["version"]),
        (&json!("Two"), &json!(2))
    );
    let (_, body) = surface.get(&format!("{path}/versions")).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    let titles: Vec<&Value> = answer["data"].as_array().unwrap().iter().map(|row| &row["title"]).collect();
    assert_eq!(titles, ["Two", "One"]);
    let (_, body) = surface.get(&format!("{path}/versions/1")).await;
    assert!(body.contains("\"title\":\"One\""), "{body}");
    assert_eq!(surface.get(&format!("{path}/versions/9")).await.0, 404);
    assert_eq!(surface.get(&format!("{path}/versions/x")).await.0, 400);
    // Another tenant has its own.
    let (_, body) = surface.request("GET", "/api/v1/dashboards", "X-Scope-OrgID: other\r\n", "").await;
    assert!(body.contains("\"data\":[]"), "{body}");
    for (method, path, body, expected) in [
        ("PUT", "/api/v1/dashboards/a%20b", save(0, "x"), 400),
        ("PUT", "/api/v1/dashboards/a", "{}".to_owned(), 400),
        ("PUT", "/api/v1/dashboards/a", save(0, ""), 400),
        ("DELETE", path, String::new(), 400),
        ("DELETE", "/api/v1/dashboards/hosts?expected=1", String::new(), 409),
        ("DELETE", "/api/v1/dashboards/none?expected=1", String::new(), 404),
        ("DELETE", "/api/v1/dashboards/hosts?expected=2", String::new(), 200),
    ] {
        let (status, answer) = surface.request(method, path, "", &body).await;
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
    }
    assert_eq!(surface.get(path).await.0, 404);
}

#[tokio::test]
async fn the_live_socket_pushes_the_cluster() {
    let surface = surface(|_| {}).await;
    surface.connect_node(true);
    let (status, _) = surface.get("/api/v1/live").await;
    assert_eq!(status, 426, "no upgrade was asked for");
    let upgrade = |origin: &str| {
        format!(
            "GET /api/v1/live HTTP/1.1\r\nHost: x\r\n{origin}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(surface.server.addr).await.unwrap();
    stream.write_all(upgrade("Origin: http://elsewhere\r\n").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 403");

    let mut stream = TcpStream::connect(surface.server.addr).await.unwrap();
    stream.write_all(upgrade("Origin: http://x\r\n").as_bytes()).await.unwrap();
    let wish = br#"{"do":"subscribe","id":7,"topic":"cluster"}"#;
    // A frame of text from a client: final, masked, by a mask of zeros.
    let mut frame = vec![0x81, 0x80 | u8::try_from(wish.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(wish);
    stream.write_all(&frame).await.unwrap();
    let wanted = br#"{"id":7,"dropped":0,"data":{"node":1}}"#;
    let mut seen = Vec::new();
    let read = async {
        while !seen.windows(wanted.len()).any(|window| window == wanted) {
            let mut piece = [0; 256];
            let count = stream.read(&mut piece).await.unwrap();
            assert!(count > 0, "closed after {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the status comes");
    assert!(seen.starts_with(b"HTTP/1.1 101"));
}

#[tokio::test]
async fn segments_are_listed_as_blocks() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let (status, body) = surface.get("/api/v1/status/tsdb/blocks").await;
    let blocks = serde_json::from_str::<Value>(&body).unwrap()["data"]["blocks"].clone();
    assert_eq!(status, 200, "{body}");
    assert_eq!(blocks[0]["ulid"], "01HF7YAT00ZZZZZZZZZZZZZZZZ");
    assert_eq!(
        (&blocks[0]["minTime"], &blocks[0]["maxTime"], &blocks[0]["stats"]),
        (
            &json!(1_700_000_000_000_i64),
            &json!(1_700_000_060_000_i64),
            &json!({"numSamples": 12, "numSeries": 3, "numChunks": 3, "numBytes": 4096})
        )
    );
}

#[tokio::test]
async fn own_metrics_as_json() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    surface.get("/-/healthy").await;
    let families =
        |body: String| serde_json::from_str::<Value>(&body).unwrap()["data"].as_array().unwrap().clone();
    let all = families(surface.get("/api/v1/status/self_metrics").await.1);
    let named = |name: &str| all.iter().find(|family| family["name"] == name).cloned().unwrap_or_default();
    let build = named("pharos_build_info");
    assert_eq!((&build["type"], &build["metric"][0]["gauge"]["value"]), (&json!("GAUGE"), &json!(1.0)));
    assert_eq!(build["metric"][0]["label"][0]["name"], "version");
    let latency = all.iter().find(|family| family["type"] == "HISTOGRAM").expect("a histogram");
    let histogram = &latency["metric"][0]["histogram"];
    assert!(histogram["sampleCount"].is_string() && histogram["bucket"][0]["cumulativeCount"].is_string());

    let (_, body) = surface.get("/api/v1/status/self_metrics?metric_name_pattern=pharos_build_.%2A").await;
    assert_eq!(families(body).len(), 1);
    let (status, body) = surface.get("/api/v1/status/self_metrics?metric_name_pattern=(").await;
    assert_eq!((status, body.contains("metric_name_pattern")), (400, true), "{body}");
}

#[tokio::test]
async fn searches_say_what_they_do_not_know() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    for (query, offence) in [
        ("metric_names?fuzz_alg=soundex", "fuzz_alg"),
        ("metric_names?fuzz_threshold=101", "fuzz_threshold"),
        ("metric_names?sort_dir=asc", "sort_by"),
        ("metric_names?sort_by=age", "sort_by"),
        ("label_names?limit=10001", "limit"),
        ("label_names?case_sensitive=maybe", "case_sensitive"),
        ("label_values", "label"),
    ] {
        let (status, body) = surface.get(&format!("/api/v1/search/{query}")).await;
        assert_eq!((status, body.contains(offence)), (400, true), "{query}: {body}");
    }
}
