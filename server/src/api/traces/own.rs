//! Traces in our own form, inside of Prometheus' envelope.
//!
//! ```text
//! /api/v1/traces/search   {"traces": [{"traceId", "rootService", "rootName", "durationNs", "services", "sets", ...}],
//!                          "cursor", "query"}
//! /api/v1/traces/{id}     the same fields of one trace, and "spans" from the top down, each with the position of its parent
//!                         and its depth; "streams", which spans refer to; "criticalPath"
//! /api/v1/traces/compare  {"selection", "baseline", "fields": [{"field", "scope", "score", "values"}], "leftOut"}
//! /api/v1/traces/metrics  {"series": [{"labels", "values": [[seconds, number]]}]}
//! ```
//!
//! Times are RFC 3339, seconds or nanoseconds; by default a question is about the last hour.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use protocol::logs::value::id_text;
use protocol::logs::{LogField, LogFilter, LogTest};
use query::traces::critical_path::critical_path;
use query::traces::engine::{MatchedSet, ServiceEdge, TraceSeries};
use query::traces::traceql::{Intrinsic, Query, Stage, kind_name, parse, status_name};
use query::traces::{Found, Order, SearchOptions, Summary, Trace};
use query::{Engine, QueryError};
use serde_json::{Map, Value, json};

use super::{
    Conditions, DEFAULT_LIMIT, Question, duration_bounds, kind, operations, path, path_id, service_field,
    status,
};
use crate::api::envelope::{raw_json, success_text};
use crate::api::logs::{attributes_json, duration_ns, range_ns, row_json, value_json};
use crate::api::loki::limit;
use crate::api::read::Freshness;
use crate::api::time::format_rfc3339_ns;
use crate::api::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;

/// Attributes and values of each that a comparison gives where a request does not say.
const DEFAULT_FIELDS: usize = 50;
const COMPARED_VALUES: usize = 10;

/// Logs of a trace that are given, and how far around it they are looked for.
const MAX_LOGS: usize = 1000;
const LOGS_AROUND_NS: i64 = 300_000_000_000;

fn answer(value: Value) -> Response {
    raw_json(success_text(&value, &[]))
}

/// The TraceQL of a search: `q`, and conditions of the other parameters on the same spans.
fn search_text(params: &Params) -> Result<String, ApiError> {
    let mut conditions = Conditions::default();
    conditions.service(params.get("service"));
    conditions.operation(params.get("operation"));
    for (name, condition) in
        [("kind", kind as fn(&str) -> Option<query::traces::traceql::Expr>), ("status", status)]
    {
        if let Some(text) = params.get(name) {
            let found = condition(text).ok_or_else(|| {
                ApiError::bad_data(format!("invalid parameter {name:?}: there is no {text:?}"))
            })?;
            conditions.add(found);
        }
    }
    let (min_ns, max_ns) = duration_bounds(params)?;
    conditions.durations(Intrinsic::TraceDuration, min_ns, max_ns);
    for tag in params.all("tag") {
        let (key, value) = tag.split_once('=').ok_or_else(|| {
            ApiError::bad_data(format!("invalid parameter \"tag\": {tag:?} is not of the form key=value"))
        })?;
        conditions.tag(key, value);
    }
    let Some(text) = params.get("q") else { return Ok(conditions.text()) };
    let mut query = parse_query(text)?;
    if !conditions.is_empty() {
        query.stages.insert(0, Stage::Filter(conditions.spansets()));
    }
    Ok(query.to_string())
}

fn parse_query(text: &str) -> Result<Query, ApiError> {
    parse(text).map_err(|error| ApiError::bad_data(format!("invalid parameter \"q\": {error}")))
}

/// `/api/v1/traces/search`
pub async fn search(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let order = match params.get("order") {
        None | Some("newest") => Order::Newest,
        Some("slowest") => Order::Slowest,
        Some(other) => {
            let message = format!("invalid parameter \"order\": {other:?} is not newest or slowest");
            return Err(ApiError::bad_data(message));
        }
    };
    let after = params
        .get("cursor")
        .map(|text| text.parse())
        .transpose()
        .map_err(|error| ApiError::bad_data(format!("invalid parameter \"cursor\": {error}")))?;
    let limit = limit(&params, DEFAULT_LIMIT)?;
    let spans_per_set = params.number("spss")?.unwrap_or(3);
    let options = SearchOptions { limit, spans_per_set, order, after, whole: false };
    let text = search_text(&params)?;
    let question = Question::new(auth, freshness, "traces", text, range_ns(&params)?);
    let found = question
        .ask(&app, move |engine, query| async move {
            let found = engine.trace_search(&query, options).await?;
            let cursor = found.last().filter(|_| found.len() >= limit).map(|found| found.place.to_string());
            let traces: Vec<Value> = found.iter().map(found_json).collect();
            Ok(json!({"traces": traces, "cursor": cursor, "query": query.text}))
        })
        .await?;
    Ok(answer(found))
}

fn summary_json(summary: &Summary) -> Map<String, Value> {
    let services: Vec<Value> = summary
        .services
        .iter()
        .map(|(name, spans, errors)| json!({"name": name, "spans": spans, "errors": errors}))
        .collect();
    let value = json!({
        "traceId": id_text(&summary.trace_id),
        "rootService": summary.root_service,
        "rootName": summary.root_name,
        "start": format_rfc3339_ns(summary.start_ns),
        "startTimeUnixNano": summary.start_ns.to_string(),
        "durationNs": summary.duration_ns(),
        "spanCount": summary.spans,
        "errorCount": summary.errors,
        "services": services,
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn set_json(set: &MatchedSet) -> Value {
    let spans: Vec<Value> = set
        .spans
        .iter()
        .map(|span| {
            json!({
                "spanId": id_text(&span.span_id),
                "name": span.name,
                "service": span.service,
                "startTimeUnixNano": span.start_ns.to_string(),
                "durationNs": span.duration_ns,
                "error": span.failed,
                "fields": attributes_json(&span.fields),
            })
        })
        .collect();
    json!({"values": attributes_json(&set.values), "matched": set.matched, "spans": spans})
}

fn found_json(found: &Found) -> Value {
    let mut out = summary_json(&found.summary);
    let matched: u64 = found.sets.iter().map(|set| set.matched).sum();
    out.insert("matched".to_owned(), json!(matched));
    out.insert("sets".to_owned(), found.sets.iter().map(set_json).collect());
    out.insert("id".to_owned(), json!(found.place.to_string()));
    Value::Object(out)
}

/// `/api/v1/traces/{id}`
pub async fn trace(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
) -> Result<Response, ApiError> {
    let trace_id = path_id(id)?;
    let question = Question::new(auth, freshness, "trace", id_text(&trace_id), (0, 0));
    let body = question.trace(&app, trace_id, |trace| success_text(&trace_json(trace), &[])).await?;
    Ok(raw_json(body))
}

/// A trace, its spans from the top down.
fn trace_json(trace: &Trace) -> Value {
    let mut out = trace.summary().as_ref().map(summary_json).unwrap_or_default();
    // Positions in the answer by those in the trace.
    let mut place = vec![0usize; trace.len()];
    for (order, at) in trace.order.iter().enumerate() {
        place[*at] = order;
    }
    let path = critical_path(trace);
    let mut critical_ns = vec![0i64; trace.len()];
    for segment in &path {
        critical_ns[segment.span] += segment.end_ns - segment.start_ns;
    }
    let mut streams: Vec<&Arc<protocol::logs::LogStream<'static>>> = Vec::new();
    let mut spans = Vec::with_capacity(trace.len());
    for &at in &trace.order {
        let part = &trace.spans[at];
        let same = |known: &&Arc<_>| Arc::ptr_eq(known, &part.stream);
        let stream = streams.iter().position(same).unwrap_or_else(|| {
            streams.push(&part.stream);
            streams.len() - 1
        });
        let span = &part.span;
        let events: Vec<Value> = span
            .events
            .iter()
            .map(|event| {
                json!({
                    "timeUnixNano": event.time_ns.to_string(),
                    "name": event.name,
                    "attributes": attributes_json(&event.attributes),
                })
            })
            .collect();
        let links: Vec<Value> = span
            .links
            .iter()
            .map(|link| {
                json!({
                    "traceId": id_text(&link.trace_id),
                    "spanId": id_text(&link.span_id),
                    "traceState": link.trace_state,
                    "flags": link.flags,
                    "attributes": attributes_json(&link.attributes),
                })
            })
            .collect();
        spans.push(json!({
            "spanId": id_text(&span.span_id),
            "parentSpanId": id_text(&span.parent_id),
            "parent": part.parent.map(|parent| place[parent]),
            "depth": part.depth,
            "orphan": part.is_orphan(),
            "service": part.service(),
            "name": span.name,
            "kind": kind_name(span.kind),
            "status": status_name(span.status),
            "statusMessage": span.status_message,
            "startTimeUnixNano": span.start_ns.to_string(),
            "endTimeUnixNano": span.end_ns.to_string(),
            "durationNs": span.duration_ns(),
            "criticalNs": critical_ns[at],
            "traceState": span.trace_state,
            "flags": span.flags,
            "attributes": attributes_json(&span.attributes),
            "events": events,
            "links": links,
            "stream": stream,
            "dropped": {
                "attributes": span.dropped_attributes,
                "events": span.dropped_events,
                "links": span.dropped_links,
            },
        }));
    }
    let streams: Vec<Value> = streams
        .iter()
        .map(|stream| {
            json!({
                "resource": attributes_json(&stream.resource),
                "scope": {
                    "name": stream.scope_name,
                    "version": stream.scope_version,
                    "attributes": attributes_json(&stream.scope_attributes),
                },
            })
        })
        .collect();
    let path: Vec<Value> = path
        .iter()
        .map(|segment| {
            json!({
                "span": place[segment.span],
                "startTimeUnixNano": segment.start_ns.to_string(),
                "endTimeUnixNano": segment.end_ns.to_string(),
            })
        })
        .collect();
    out.insert("spans".to_owned(), Value::Array(spans));
    out.insert("streams".to_owned(), Value::Array(streams));
    out.insert("criticalPath".to_owned(), Value::Array(path));
    Value::Object(out)
}

/// `/api/v1/traces/{id}/logs`
pub async fn logs(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
) -> Result<Response, ApiError> {
    let trace_id = path_id(id)?;
    let question = Question::new(auth, freshness, "logs of a trace", id_text(&trace_id), (0, 0));
    let found = question
        .ask(&app, move |engine, mut query| async move {
            let Some(summary) = engine.trace(&query, trace_id).await?.and_then(|trace| trace.summary())
            else {
                return Ok(None);
            };
            query.start_ns = summary.start_ns.saturating_sub(LOGS_AROUND_NS);
            query.end_ns = summary.end_ns.saturating_add(LOGS_AROUND_NS);
            let filter = LogFilter::Field(LogField::TraceId, LogTest::Equals(id_text(&trace_id)));
            // One more than is given tells whether there are more.
            let mut rows = engine.log_rows(&query, &filter, false, MAX_LOGS + 1, None).await?;
            let truncated = rows.len() > MAX_LOGS;
            rows.truncate(MAX_LOGS);
            let rows: Vec<Value> = rows.iter().map(row_json).collect();
            Ok(Some(json!({"rows": rows, "truncated": truncated})))
        })
        .await?;
    found.map(answer).ok_or_else(|| super::no_trace(trace_id))
}

/// `/api/v1/traces/metrics`
pub async fn metrics(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let text = params.required("q")?.to_owned();
    parse_query(&text)?;
    let range = range_ns(&params)?;
    let step_ns = duration_ns(&params, "step")?.unwrap_or_else(|| ((range.1 - range.0) / 100).max(1));
    let question = Question::new(auth, freshness, "trace metrics", text, range);
    let found = question
        .ask(&app, move |engine, query| async move {
            let series = engine.trace_metrics(&query, step_ns).await?;
            let series: Vec<Value> = series.iter().map(series_json).collect();
            Ok(json!({"series": series, "step": step_ns as f64 / 1e9}))
        })
        .await?;
    Ok(answer(found))
}

fn series_json(series: &TraceSeries) -> Value {
    let labels: Map<String, Value> =
        series.labels.iter().map(|(name, value)| (name.clone(), value_json(value))).collect();
    let values: Vec<Value> =
        series.points.iter().map(|(ns, number)| json!([*ns as f64 / 1e9, number])).collect();
    json!({"labels": labels, "values": values})
}

/// Scope and name of a field, as TraceQL has them.
fn scope_and_name(field: &LogField) -> (&'static str, &str) {
    match field {
        LogField::RecordAttribute(name) | LogField::Attribute(name) => ("span", name),
        LogField::ResourceAttribute(name) => ("resource", name),
        LogField::ScopeAttribute(name) => ("instrumentation", name),
        LogField::Body => ("intrinsic", "name"),
        LogField::SpanKind => ("intrinsic", "kind"),
        LogField::SpanStatus => ("intrinsic", "status"),
        _ => ("intrinsic", ""),
    }
}

/// `/api/v1/traces/compare`
pub async fn compare(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let selection = params.required("selection")?.to_owned();
    let baseline = params.get("baseline").unwrap_or("{ }").to_owned();
    let fields = limit(&params, DEFAULT_FIELDS)?;
    let text = format!("{selection} against {baseline}");
    let question = Question::new(auth, freshness, "compare traces", text, range_ns(&params)?);
    let found = question
        .ask(&app, move |engine, query| async move {
            let sets = (selection.as_str(), baseline.as_str());
            let compared = engine.trace_compare(&query, sets, fields, COMPARED_VALUES).await?;
            let field = |compared: &query::traces::compare::ComparedField| {
                let (scope, name) = scope_and_name(&compared.field);
                let values: Vec<Value> = compared
                    .values
                    .iter()
                    .map(|value| {
                        json!({
                            "value": value.value,
                            "selection": value.selection,
                            "baseline": value.baseline,
                            "difference": value.difference,
                        })
                    })
                    .collect();
                json!({"scope": scope, "field": name, "score": compared.score, "values": values})
            };
            let left_out = |field: &LogField| {
                let (scope, name) = scope_and_name(field);
                json!({"scope": scope, "field": name})
            };
            Ok(json!({
                "selection": compared.selection,
                "baseline": compared.baseline,
                "fields": compared.fields.iter().map(field).collect::<Vec<_>>(),
                "leftOut": compared.left_out.iter().map(left_out).collect::<Vec<_>>(),
            }))
        })
        .await?;
    Ok(answer(found))
}

async fn services_json(engine: Engine, query: query::logs::LogQuery) -> Result<Value, QueryError> {
    let by = [service_field(), LogField::SpanStatus];
    let counted = engine.span_counts(&query, &LogFilter::All, &by).await?;
    let mut services: std::collections::BTreeMap<String, (u64, u64)> = std::collections::BTreeMap::new();
    for group in counted {
        let [name, status] = &group.values[..] else { continue };
        let service = services.entry(name.clone()).or_default();
        service.0 += group.count;
        service.1 += if status == "2" { group.count } else { 0 };
    }
    let services: Vec<Value> = services
        .into_iter()
        .map(|(name, (spans, errors))| json!({"name": name, "spanCount": spans, "errorCount": errors}))
        .collect();
    Ok(json!({"services": services}))
}

/// `/api/v1/services`
pub async fn services(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let question = Question::new(auth, freshness, "services", "services", range_ns(&params)?);
    Ok(answer(question.ask(&app, services_json).await?))
}

/// `/api/v1/services/{service}/operations`
pub async fn service_operations(
    State(app): State<Arc<App>>,
    service: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let service = path(service)?;
    let question = Question::new(auth, freshness, "operations", service.clone(), range_ns(&params)?);
    let found = question
        .ask(&app, move |engine, query| async move {
            let found = operations(&engine, &query, Some(&service)).await?;
            let one = |(name, kind, spans): &(String, &str, u64)| {
                json!({"name": name, "kind": kind, "spanCount": spans})
            };
            Ok(json!({"operations": found.iter().map(one).collect::<Vec<_>>()}))
        })
        .await?;
    Ok(answer(found))
}

fn edge_json(edge: &ServiceEdge) -> Value {
    json!({
        "parent": edge.caller,
        "child": edge.callee,
        "callCount": edge.calls,
        "errorCount": edge.errors,
        "averageDurationNs": if edge.calls == 0 { 0.0 } else { edge.duration_ns / edge.calls as f64 },
    })
}

/// `/api/v1/dependencies`
pub async fn dependencies(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let question = Question::new(auth, freshness, "dependencies", "dependencies", range_ns(&params)?);
    let found = question
        .ask(&app, move |engine, query| async move {
            let edges = engine.service_edges(&query).await?;
            Ok(json!({"dependencies": edges.iter().map(edge_json).collect::<Vec<_>>()}))
        })
        .await?;
    Ok(answer(found))
}
