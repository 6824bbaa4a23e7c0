//! The HTTP surface: state shared by the handlers, layers around them, and one table of routes.
//!
//! ```text
//! serve (connections, time-outs) -> unread (rest of a body) -> cors -> observe (metrics, trace) -> compress
//!   -> admit (bounded concurrency) -> auth (permission, tenant) -> handler -> answer, or ApiError -> the table of codes
//! ```
//!
//! The listener is up before the node is: until it has joined and opened its shards, health answers, and everything
//! else says 503. A handler whose client leaves is dropped, and with it what it was waiting for.

pub mod active;
pub mod admin;
pub mod backup;
pub mod body;
pub mod cluster;
mod columns;
mod compress;
pub mod cors;
pub mod dashboards;
mod discovery;
pub mod envelope;
mod federate;
mod grpc;
mod health;
mod live;
mod logs;
mod loki;
mod openapi;
mod params;
pub mod progress;
mod prometheus;
pub mod read;
mod remote_read;
pub mod routes;
mod search;
mod self_metrics;
pub mod serve;
mod sql;
mod status;
mod tail;
pub mod time;
mod traces;
mod unread;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use protocol::error::ErrorKind;
use protocol::logs::value::id_text;
use tokio::sync::Semaphore;

use crate::auth::TENANT_HEADER;
use crate::config::Config;
use crate::error::ApiError;
use crate::ingest::Ingest;
use crate::runtime::now_ms;
use crate::telemetry::trace::{self, Tracer};
use crate::telemetry::{self, Metrics};

use cluster::Operations;
use dashboards::DashboardStore;
pub use openapi::document as openapi_document;
pub use params::Params;

/// What handlers reach once the node runs.
pub struct Backend {
    /// The node, as operators and probes see it.
    pub operations: Arc<dyn Operations>,
    /// Dashboards.
    pub dashboards: Arc<dyn DashboardStore>,
    /// What backups read.
    pub backup: Arc<dyn backup::BackupSource>,
    /// The query engine.
    pub queries: read::Queries,
    /// The engine for SQL, over the same shards.
    pub sql: ::sql::SqlEngine,
    /// The ways in for data.
    pub ingest: Arc<Ingest>,
}

/// State of the HTTP surface.
pub struct App {
    /// Settings.
    pub config: Arc<Config>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Traces of requests.
    pub tracer: Arc<Tracer>,
    /// When the process started.
    pub started_ms: i64,
    backend: OnceLock<Backend>,
    stopping: AtomicBool,
    requests: Arc<Semaphore>,
    live_places: Arc<Semaphore>,
    live_status: live::StatusCache,
    cors: cors::Cors,
}

impl App {
    /// State without a node behind it.
    pub fn new(config: Arc<Config>, metrics: Arc<Metrics>) -> Arc<Self> {
        let requests = Arc::new(Semaphore::new(config.http.max_concurrent_requests as usize));
        let cors = cors::Cors::new(&config.http.cors_origin).expect("settings were validated");
        let tracer = telemetry::tracer(&config);
        Arc::new(Self {
            config,
            metrics,
            tracer,
            started_ms: now_ms(),
            backend: OnceLock::new(),
            stopping: AtomicBool::new(false),
            requests,
            live_places: Arc::new(Semaphore::new(live::MAX_SOCKETS)),
            live_status: live::StatusCache::default(),
            cors,
        })
    }

    /// Puts the node behind it; once.
    pub fn connect(&self, backend: Backend) {
        // There is one node in a process.
        let _ = self.backend.set(backend);
    }

    /// The node, once it runs.
    pub fn backend(&self) -> Result<&Backend, ApiError> {
        self.backend.get().ok_or_else(|| ApiError::new(ErrorKind::Unavailable, "the node is starting"))
    }

    /// Tells probes to send no more requests here.
    pub fn announce_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the node is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The router with its layers.
pub fn router(app: Arc<App>) -> Router {
    with_layers(routes::router().fallback(page), app)
}

/// The router of the listener for OTLP over HTTP.
pub fn otlp_router(app: Arc<App>) -> Router {
    with_layers(routes::otlp_router().fallback(not_found), app)
}

/// The router of the listener for OTLP over gRPC. Clients take a refusal of a layer for what its HTTP status means.
pub fn grpc_router(app: Arc<App>) -> Router {
    grpc::router()
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), admit))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

fn with_layers(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes
        .method_not_allowed_fallback(method_not_allowed)
        // Bodies are bounded where they are read, each by its own limit (`body::collect`).
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), admit))
        .layer(middleware::from_fn(compress::layer))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), cors::layer))
        .layer(middleware::from_fn(unread::layer))
        .with_state(app)
}

/// What no route answers may be a page.
async fn page(request: Request) -> Response {
    match crate::assets::answer(&request) {
        Some(page) => page,
        None => not_found().await,
    }
}

/// Grafana probes for an alerting API by this very text.
async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "404 page not found\n")
        .into_response()
}

async fn method_not_allowed() -> Response {
    ApiError::bad_data("the path does not take this method")
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .into_response()
}

/// Whether a path must answer even when the node is full: probes and metrics say that it is.
fn is_probe(path: &str) -> bool {
    path.starts_with("/-/") || path == "/metrics"
}

/// Refuses requests beyond the bound at once: a queue in front of a full node only adds latency. A request is in work
/// until its answer has left: the body takes the place along.
async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if is_probe(request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(permit) = Arc::clone(&app.requests).try_acquire_owned() else {
        // 503, not 429: remote-write senders retry every 5xx, and a 429 only when told to.
        return ApiError::new(ErrorKind::Unavailable, "too many requests are in work on this node")
            .into_response();
    };
    next.run(request).await.map(|body| body::with_guard(body, permit))
}

/// Header with the id of the request's trace, where that is kept.
const TRACE_ID_HEADER: HeaderName = HeaderName::from_static("x-pharos-trace-id");

/// Counts, times and traces requests by route.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let timer = app.metrics.http.started(route.as_deref().unwrap_or("unknown"));
    let traced = route.filter(|route| !is_probe(route)).map(|route| {
        let mut traced = app.tracer.request(&route, request.method(), request.headers());
        if let Some(tenant) = request.headers().get(TENANT_HEADER).and_then(|tenant| tenant.to_str().ok()) {
            traced.set("pharos.tenant", tenant);
        }
        traced
    });
    let position = traced.as_ref().and_then(trace::Request::position);
    let mut response = trace::at(position, next.run(request)).await;
    let status = response.status();
    timer.answered(status.as_u16());
    if let Some(id) = traced.and_then(|traced| traced.answered(status)) {
        // Hexadecimal digits are a header's value.
        if let Ok(id) = HeaderValue::try_from(id_text(&id)) {
            response.headers_mut().insert(TRACE_ID_HEADER, id);
        }
    }
    response
}

#[cfg(test)]
mod tests;
