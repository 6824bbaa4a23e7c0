//! The calls of the gRPC listener; what they do is in [`crate::ingest::grpc`].

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::post;
use protocol::otlp::response::Signal;

use super::App;
use crate::auth::{self, Permission};
use crate::ingest::grpc::{EXPORT_LOGS, EXPORT_METRICS, EXPORT_TRACES, failed, unimplemented};

/// Method by path.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route(EXPORT_METRICS, post(export_metrics))
        .route(EXPORT_LOGS, post(export_logs))
        .route(EXPORT_TRACES, post(export_traces))
        .fallback(|uri: Uri| async move { unimplemented(uri.path()) })
}

async fn export_metrics(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    export(Signal::Metrics, &app, &headers, body).await
}

async fn export_logs(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    export(Signal::Logs, &app, &headers, body).await
}

async fn export_traces(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    export(Signal::Traces, &app, &headers, body).await
}

async fn export(signal: Signal, app: &App, headers: &HeaderMap, body: Body) -> Response {
    let allowed = auth::authorize(Permission::Write, headers);
    match allowed.and_then(|auth| Ok((auth, app.backend()?))) {
        Ok((auth, backend)) => backend.ingest.grpc_export(signal, &auth.tenant, headers, body).await,
        Err(error) => failed(&error.into()),
    }
}
