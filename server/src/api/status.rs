//! What clients ask to learn whom they speak to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use protocol::error::ErrorKind;
use query::CancelFlag;
use query::engine::ListRequest;
use query::source::TimeRange;
use serde_json::{Map, Value, json};
use storage::manifest::SegmentMeta;

use super::active::Asked;
use super::envelope::{raw_json, success};
use super::read::Freshness;
use super::time::format_rfc3339;
use super::{App, Params, openapi};
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ms;

/// The Prometheus whose API and language this is. Grafana switches features by it: a plain version, and no field that
/// would make it take us for a Mimir.
pub const PROMETHEUS_VERSION: &str = "3.5.0";

/// `/api/v1/status/buildinfo`
pub async fn build_info() -> Response {
    success(&json!({
        "version": PROMETHEUS_VERSION,
        "revision": concat!("pharos-", env!("CARGO_PKG_VERSION")),
        "branch": "HEAD",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// `/api/v1/status/runtimeinfo`
pub async fn runtime_info(State(app): State<Arc<App>>) -> Response {
    success(&json!({
        "startTime": format_rfc3339(app.started_ms),
        "serverTime": format_rfc3339(now_ms()),
        "CWD": app.config.node.data_dir.display().to_string(),
        "hostname": app.config.http_advertise(),
        "reloadConfigSuccess": true,
        "lastConfigTime": format_rfc3339(app.started_ms),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": crate::runtime::cores(),
        "storageRetention": app.config.storage.retention.to_string(),
    }))
}

/// `/api/v1/status/flags`: every setting as text, under its path. The tree holds names of key files, no secret.
pub async fn flags(State(app): State<Arc<App>>) -> Response {
    let flags: Map<String, Value> =
        app.config.flat().into_iter().map(|(key, value)| (key, Value::String(value))).collect();
    success(&flags)
}

/// `/api/v1/status/config`: the settings in effect, as a settings file. They name key files and hold no secret.
pub async fn config(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let yaml = serde_norway::to_string(&*app.config).map_err(|error| ApiError::internal(&error))?;
    Ok(success(&json!({"yaml": yaml})))
}

/// `/api/v1/status/walreplay`: a node answers queries once its log is replayed, and not before.
pub async fn wal_replay(State(app): State<Arc<App>>) -> Response {
    let is_done = app.backend().is_ok_and(|backend| backend.operations.readiness().is_ok());
    let state = if is_done { "done" } else { "in progress" };
    let seen = u8::from(is_done);
    success(&json!({"min": 0, "max": 1, "current": seen, "state": state}))
}

/// `/api/v1/features`: what the tenant's clients may rely on, by Prometheus' categories.
pub async fn features(State(app): State<Arc<App>>, auth: AuthContext) -> Response {
    let on = app.config.features_of(auth.tenant.as_str()).enabled();
    let map = |names: Vec<&str>| {
        names.into_iter().map(|name| (name.to_owned(), json!(true))).collect::<Map<_, _>>()
    };
    let mut promql = map(vec![
        "anchored",
        "at_modifier",
        "bool",
        "by",
        "duration_expr",
        "fill",
        "fill_left",
        "fill_right",
        "group_left",
        "group_right",
        "ignoring",
        "negative_offset",
        "offset",
        "on",
        "smoothed",
        "subqueries",
        "without",
    ]);
    for switch in query::Features::names().into_iter().filter(|name| *name != "all") {
        let name = switch.trim_start_matches("promql-").replace('-', "_");
        promql.entry(name).or_insert(json!(on.contains(&switch)));
    }
    let functions = query::promql::functions::FUNCTIONS.iter().map(|function| function.name).collect();
    let aggregations = query::promql::ast::AggregateOp::ALL.iter().map(|op| op.as_str());
    let operators =
        ["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"];
    success(&json!({
        "api": map(vec![
            "label_values_match",
            "query_stats",
            "query_warnings",
            "remote_write_receiver",
            "time_range_labels",
            "time_range_series",
        ]),
        "promql": promql,
        "promql_functions": map(functions),
        "promql_operators": map(operators.into_iter().chain(aggregations).collect()),
    }))
}

/// `/api/v1/status/active_queries`: what runs on this node, and what it keeps out.
pub async fn active_queries(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    Ok(success(&app.backend()?.queries.active().json()))
}

/// `/api/v1/status/slow_queries`: the slow queries of this node, newest first.
pub async fn slow_queries(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    Ok(success(&app.backend()?.queries.active().slow()))
}

/// `/api/v1/admin/queries/kill`
pub async fn kill_query(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    params.required("id")?;
    let id = params.number::<u64>("id")?.unwrap_or_default();
    if !app.backend()?.queries.active().kill(id) {
        return Err(ApiError::new(ErrorKind::NotFound, format!("no query {id} is running on this node")));
    }
    Ok(success(&json!({"killed": id})))
}

/// `/api/v1/admin/queries/release`
pub async fn release_query(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    params: Params,
) -> Result<Response, ApiError> {
    let text = params.required("query")?;
    let released = app.backend()?.queries.active().release(&auth.tenant, text);
    if !released.map_err(|error| ApiError::internal(&error))? {
        return Err(ApiError::new(ErrorKind::NotFound, "this node does not keep the query out"));
    }
    Ok(success(&json!({"released": text})))
}

/// Longest lists of `/api/v1/status/tsdb`, as in Prometheus.
const MAX_TSDB_LIMIT: usize = 10_000;

/// `/api/v1/status/tsdb`: how many series the tenant has, by what. The head is what the registries hold: series that were
/// written to in their shard's current generation.
pub async fn tsdb(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.number::<usize>("limit")?.unwrap_or(10);
    if !(1..=MAX_TSDB_LIMIT).contains(&limit) {
        return Err(ApiError::bad_data(format!("limit must be between 1 and {MAX_TSDB_LIMIT}")));
    }
    let request = ListRequest {
        limit,
        consistency: freshness.0,
        timeout: app.config.query.timeout.0,
        ..ListRequest::all(auth.tenant)
    };
    let queries = &app.backend()?.queries;
    let head = queries
        .run(
            Asked::list(&request.tenant, "cardinality", String::new()),
            CancelFlag::default(),
            move |engine, _| async move { engine.cardinality(&request).await },
        )
        .await?;
    fn rows<'a>(counts: impl IntoIterator<Item = (String, &'a u64)>) -> Value {
        counts.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    }
    let named = |counts: &[(String, u64)]| rows(counts.iter().map(|(name, n)| (name.clone(), n)));
    // What Prometheus says of a head without samples.
    let span = head.span.unwrap_or(TimeRange { start: i64::MAX, end: i64::MIN });
    Ok(success(&json!({
        "headStats": {
            "numSeries": head.series,
            "numLabelPairs": head.label_pairs,
            "chunkCount": head.chunks,
            "minTime": span.start,
            "maxTime": span.end,
        },
        "seriesCountByMetricName": named(&head.series_by_metric),
        "labelValueCountByLabelName": named(&head.values_by_label),
        "memoryInBytesByLabelName": named(&head.bytes_by_label),
        "seriesCountByLabelValuePair":
            rows(head.series_by_pair.iter().map(|(pair, n)| (format!("{}={}", pair.name, pair.value), n))),
    })))
}

/// `/api/v1/status/tsdb/blocks`: what Prometheus tells of its blocks, of segments. A series is one chunk of a segment, and
/// which segments were merged into one is not kept: each is called its own only source.
pub async fn tsdb_blocks(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let block = |meta: &SegmentMeta| {
        let id = ulid(meta.min_time, &meta.file.hash);
        json!({
            "ulid": id,
            "minTime": meta.min_time,
            // The end of a block is not in it.
            "maxTime": meta.max_time.saturating_add(1),
            "stats": {
                "numSamples": meta.samples,
                "numSeries": meta.series,
                "numChunks": meta.series,
                "numBytes": meta.file.len_bytes,
            },
            "compaction": {"level": 1, "sources": [id]},
            "version": 1,
        })
    };
    let segments = app.backend()?.operations.segments();
    Ok(success(&json!({"blocks": segments.iter().map(block).collect::<Vec<Value>>()})))
}

/// A segment's name in the form that block names have: 48 bits of time, 80 bits of the content's hash, in Crockford's
/// base 32.
fn ulid(time_ms: i64, hash: &[u8; 32]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let time = time_ms.clamp(0, (1 << 48) - 1) as u128;
    let bits = hash.iter().take(10).fold(time, |bits, byte| bits << 8 | u128::from(*byte));
    (0..26).rev().map(|digit| char::from(DIGITS[(bits >> (5 * digit)) as usize & 31])).collect()
}

/// `/api/v1/openapi.json`
pub async fn openapi() -> Response {
    raw_json(openapi::document())
}
