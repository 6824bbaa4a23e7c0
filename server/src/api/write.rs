//! Routes into the ways in for data; what they do is in [`crate::ingest`].

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use protocol::otlp::response::Signal;

use super::{App, Params};
use crate::assets;
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::ingest::influx::{self, Api, Query};
use crate::ingest::logs::{self, LineFields};

/// `/v1/metrics`, `/api/v1/otlp/v1/metrics`
pub async fn otlp_metrics(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.otlp(Signal::Metrics, &auth.tenant, &headers, body).await)
}

/// `/v1/logs`, `/otlp/v1/logs`
pub async fn otlp_logs(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.otlp(Signal::Logs, &auth.tenant, &headers, body).await)
}

/// `/v1/traces`, `/api/v1/otlp/v1/traces`, `/otlp/v1/traces`
pub async fn otlp_traces(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.otlp(Signal::Traces, &auth.tenant, &headers, body).await)
}

/// `/api/v2/spans`
pub async fn zipkin_spans(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.zipkin_spans(&auth.tenant, &headers, body).await)
}

/// `/loki/api/v1/push`
pub async fn loki_push(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.loki_push(&auth.tenant, &headers, body).await)
}

/// `/_bulk`
pub async fn elastic_bulk(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.elastic_bulk(&auth.tenant, "", &headers, body).await)
}

/// `/{index}/_bulk`
pub async fn elastic_index_bulk(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    Path(index): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.elastic_bulk(&auth.tenant, &index, &headers, body).await)
}

/// `/`: the page for browsers, the first word of the handshake for clients of Elasticsearch.
pub async fn root(request: Request) -> Response {
    let page = if assets::takes_html(request.headers()) { assets::answer(&request) } else { None };
    page.unwrap_or_else(|| logs::elastic_handshake("/"))
}

/// What clients of Elasticsearch ask before they send.
pub async fn elastic_handshake(uri: Uri) -> Response {
    logs::elastic_handshake(uri.path())
}

/// `/insert/jsonline`
pub async fn json_lines(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let params = Params::of_uri(&uri)?;
    let list = |name: &str| -> Vec<String> {
        let names = params.get(name).unwrap_or_default().split(',').filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    let fields =
        LineFields { stream: list("_stream_fields"), time: list("_time_field"), message: list("_msg_field") };
    Ok(app.backend()?.ingest.json_lines(&auth.tenant, fields, &headers, body).await)
}

/// `/api/v1/write`
pub async fn remote_write(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.remote_write(&auth.tenant, &headers, body).await)
}

async fn influx_write(
    api: Api,
    app: &App,
    auth: &AuthContext,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let params = Params::of_uri(uri)?;
    let database = if api == Api::V1 { "db" } else { "bucket" };
    let query = Query {
        precision: params.get("precision").unwrap_or_default(),
        database: params.get(database).unwrap_or_default(),
    };
    Ok(app.backend()?.ingest.influx_write(api, &auth.tenant, query, headers, body).await)
}

/// `/write`
pub async fn influx_v1(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    influx_write(Api::V1, &app, &auth, &uri, &headers, body).await
}

/// `/api/v2/write`
pub async fn influx_v2(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    influx_write(Api::V2, &app, &auth, &uri, &headers, body).await
}

/// `/ping`
pub async fn influx_ping() -> Response {
    influx::ping()
}

/// `/health`
pub async fn influx_health(State(app): State<Arc<App>>) -> Response {
    influx::health(app.backend().is_ok())
}

/// `/query`
pub async fn influx_query(params: Params) -> Response {
    influx::query(params.get("q").unwrap_or_default())
}
