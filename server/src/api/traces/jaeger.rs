//! Jaeger's query API: the JSON of its UI and of Grafana's data source, and version 3, which is OTLP.
//!
//! ```text
//! /api/services, /api/services/{service}/operations, /api/operations, /api/traces, /api/traces/{id}, /api/dependencies
//!     {"data", "total", "limit", "offset", "errors"}; times and durations in microseconds
//! /api/v3/services, operations, traces, traces/{id}     {"result": {"resourceSpans"}} and the like
//! ```
//!
//! Spans become Jaeger's as OpenTelemetry's translation has it: kind, status, scope and trace state are tags, the stream's
//! resource is a process, events are logs, links are references. Durations bound spans, as in Jaeger. A trace that does not
//! exist is 404: an empty list makes Grafana's view fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use protocol::logs::value::{base64, id_text};
use protocol::logs::{LogStream, LogValue};
use protocol::spans::{Span, SpanKind, SpanStatus};
use query::traces::traceql::{Intrinsic, kind_name};
use query::traces::{SearchOptions, Trace};
use serde_json::{Map, Value, json};

use super::otlp::{Style, protobuf, resource_spans};
use super::{
    Conditions, DEFAULT_LIMIT, Question, all_time, duration_bounds, duration_of, operations, path, path_id,
    services, trace_id,
};
use crate::api::envelope::raw_json;
use crate::api::loki::limit;
use crate::api::read::Freshness;
use crate::api::time::parse_time_ns;
use crate::api::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ns;

/// Where a request for dependencies does not say: a day.
const DEFAULT_LOOKBACK_MS: i64 = 86_400_000;

fn data(data: Value) -> Vec<u8> {
    let total = data.as_array().map_or(0, Vec::len);
    let answer = json!({"data": data, "total": total, "limit": 0, "offset": 0, "errors": null});
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// `/api/services`
pub async fn service_names(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
) -> Result<Response, ApiError> {
    let question = Question::new(auth, freshness, "jaeger services", "services", all_time());
    let names = question.ask(&app, |engine, query| async move { services(&engine, &query).await }).await?;
    Ok(raw_json(data(json!(names))))
}

/// `/api/services/{service}/operations`
pub async fn service_operations(
    State(app): State<Arc<App>>,
    service: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
) -> Result<Response, ApiError> {
    let service = path(service)?;
    let question = Question::new(auth, freshness, "jaeger operations", service.clone(), all_time());
    let names = question
        .ask(&app, move |engine, query| async move {
            let found = operations(&engine, &query, Some(&service)).await?;
            Ok(found.into_iter().map(|(name, _, _)| name).collect::<BTreeSet<String>>())
        })
        .await?;
    Ok(raw_json(data(json!(names))))
}

async fn named_operations(
    app: &App,
    auth: AuthContext,
    freshness: Freshness,
    service: String,
    kind: Option<String>,
) -> Result<Vec<Value>, ApiError> {
    let question = Question::new(auth, freshness, "jaeger operations", service.clone(), all_time());
    question
        .ask(app, move |engine, query| async move {
            let found = operations(&engine, &query, Some(&service)).await?;
            let wanted =
                found.into_iter().filter(|(_, found, _)| kind.as_ref().is_none_or(|kind| kind == found));
            let one = |(name, kind, _): (String, &'static str, u64)| {
                let kind = if kind == "unspecified" { "" } else { kind };
                json!({"name": name, "spanKind": kind})
            };
            Ok(wanted.map(one).collect())
        })
        .await
}

/// `/api/operations`
pub async fn all_operations(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let service = params.required("service")?.to_owned();
    let kind = params.get("spanKind").map(str::to_ascii_lowercase);
    let found = named_operations(&app, auth, freshness, service, kind).await?;
    Ok(raw_json(data(Value::Array(found))))
}

/// A time in microseconds as nanoseconds.
fn time_us(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    Ok(params.number::<i64>(name)?.map(|us| us.saturating_mul(1000)))
}

/// The range of a search; everything where it is not said.
fn range(params: &Params) -> Result<(i64, i64), ApiError> {
    let all = all_time();
    Ok((time_us(params, "start")?.unwrap_or(all.0), time_us(params, "end")?.unwrap_or(all.1)))
}

/// Conditions of `tags`, an object, and of `tag`, `key:value` each.
fn tags(params: &Params, conditions: &mut Conditions) -> Result<(), ApiError> {
    if let Some(text) = params.get("tags") {
        let tags: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| {
            ApiError::bad_data(format!("invalid parameter \"tags\": it is no object of texts: {error}"))
        })?;
        for (key, value) in tags {
            match value {
                Value::String(text) => conditions.tag(&key, &text),
                other => conditions.tag(&key, &other.to_string()),
            }
        }
    }
    for tag in params.all("tag") {
        let (key, value) = tag.split_once(':').ok_or_else(|| {
            ApiError::bad_data(format!("invalid parameter \"tag\": {tag:?} is not of the form key:value"))
        })?;
        conditions.tag(key, value);
    }
    Ok(())
}

/// `/api/traces`
pub async fn search(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    // Ids that are named are what is wanted, nothing else.
    let ids = params.all("traceID").map(trace_id).collect::<Result<Vec<_>, _>>()?;
    if !ids.is_empty() {
        let question = Question::new(auth, freshness, "jaeger traces", "by id", (0, 0));
        let found = question
            .ask(&app, move |engine, query| async move {
                let mut found = Vec::new();
                for id in ids {
                    found.extend(engine.trace(&query, id).await?.as_ref().map(trace_json));
                }
                Ok(data(Value::Array(found)))
            })
            .await?;
        return Ok(raw_json(found));
    }
    let mut conditions = Conditions::default();
    conditions.service(params.get("service"));
    conditions.operation(params.get("operation"));
    let (min_ns, max_ns) = duration_bounds(&params)?;
    conditions.durations(Intrinsic::Duration, min_ns, max_ns);
    tags(&params, &mut conditions)?;
    let options =
        SearchOptions { limit: limit(&params, DEFAULT_LIMIT)?, whole: true, ..SearchOptions::default() };
    let question = Question::new(auth, freshness, "jaeger traces", conditions.text(), range(&params)?);
    let body = question
        .ask(&app, move |engine, query| async move {
            let found = engine.trace_search(&query, options).await?;
            let traces = found.iter().filter_map(|found| found.trace.as_ref()).map(trace_json);
            Ok(data(Value::Array(traces.collect())))
        })
        .await?;
    Ok(raw_json(body))
}

/// `/api/traces/{id}`: Jaeger's answer, or Tempo's to who accepts protobuf.
pub async fn trace(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let trace_id = path_id(id)?;
    let question = Question::new(auth, freshness, "trace", id_text(&trace_id), (0, 0));
    if super::tempo::accepts_protobuf(&headers) {
        let body = question.trace(&app, trace_id, protobuf).await?;
        return Ok(([(header::CONTENT_TYPE, "application/protobuf")], body).into_response());
    }
    let body = question.trace(&app, trace_id, |trace| data(Value::Array(vec![trace_json(trace)]))).await?;
    Ok(raw_json(body))
}

/// `/api/dependencies`
pub async fn dependencies(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let end_ns = params.number::<i64>("endTs")?.map_or_else(now_ns, |ms| ms.saturating_mul(1_000_000));
    let lookback_ms = params.number::<i64>("lookback")?.unwrap_or(DEFAULT_LOOKBACK_MS);
    let start_ns = end_ns.saturating_sub(lookback_ms.saturating_mul(1_000_000));
    let question = Question::new(auth, freshness, "dependencies", "dependencies", (start_ns, end_ns));
    let found = question
        .ask(&app, move |engine, query| async move {
            let edges = engine.service_edges(&query).await?;
            let edge = |edge: &query::traces::engine::ServiceEdge| {
                json!({"parent": edge.caller, "child": edge.callee, "callCount": edge.calls})
            };
            Ok(data(edges.iter().map(edge).collect()))
        })
        .await?;
    Ok(raw_json(found))
}

/// A value as Jaeger types it.
fn tag(key: &str, value: &LogValue<'_>) -> Value {
    let (kind, value) = match value {
        LogValue::Bool(value) => ("bool", json!(value)),
        LogValue::Int(number) => ("int64", json!(number)),
        LogValue::Float(number) if number.is_finite() => ("float64", json!(number)),
        LogValue::Bytes(bytes) => ("binary", json!(base64(bytes))),
        other => ("string", json!(other.text())),
    };
    json!({"key": key, "type": kind, "value": value})
}

fn text_tag(key: &str, text: &str) -> Value {
    json!({"key": key, "type": "string", "value": text})
}

fn us(ns: i64) -> i64 {
    ns.div_euclid(1000)
}

/// A trace as Jaeger's UI reads it.
pub(super) fn trace_json(trace: &Trace) -> Value {
    let mut processes: Vec<&Arc<LogStream<'static>>> = Vec::new();
    let mut spans = Vec::with_capacity(trace.len());
    let mut trace_id = String::new();
    for part in &trace.spans {
        let same = |known: &&Arc<LogStream<'static>>| known.resource == part.stream.resource;
        let process = processes.iter().position(same).unwrap_or_else(|| {
            processes.push(&part.stream);
            processes.len() - 1
        });
        trace_id = id_text(&part.span.trace_id);
        spans.push(span_json(&part.span, &part.stream, &format!("p{}", process + 1)));
    }
    let process = |(at, stream): (usize, &&Arc<LogStream<'static>>)| {
        let tags = stream.resource.iter().filter(|(key, _)| key != "service.name");
        let tags: Vec<Value> = tags.map(|(key, value)| tag(key, value)).collect();
        let service = query::traces::assemble::service_of(stream);
        (format!("p{}", at + 1), json!({"serviceName": service, "tags": tags}))
    };
    let processes: Map<String, Value> = processes.iter().enumerate().map(process).collect();
    json!({"traceID": trace_id, "spans": spans, "processes": processes, "warnings": null})
}

fn span_json(span: &Span<'_>, stream: &LogStream<'_>, process: &str) -> Value {
    let reference = |kind: &str, trace: &[u8; 16], id: &[u8; 8]| json!({"refType": kind, "traceID": id_text(trace), "spanID": id_text(id)});
    let mut references = Vec::new();
    if span.parent_id != [0; 8] {
        references.push(reference("CHILD_OF", &span.trace_id, &span.parent_id));
    }
    references.extend(span.links.iter().map(|link| reference("FOLLOWS_FROM", &link.trace_id, &link.span_id)));
    let mut tags: Vec<Value> = span.attributes.iter().map(|(key, value)| tag(key, value)).collect();
    if span.kind != SpanKind::Unspecified {
        tags.push(text_tag("span.kind", kind_name(span.kind)));
    }
    match span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => tags.push(text_tag("otel.status_code", "OK")),
        SpanStatus::Error => {
            tags.push(text_tag("otel.status_code", "ERROR"));
            if !span.attributes.iter().any(|(key, _)| key == "error") {
                tags.push(tag("error", &LogValue::Bool(true)));
            }
        }
    }
    for (key, text) in [
        ("otel.status_description", &span.status_message),
        ("otel.scope.name", &stream.scope_name),
        ("otel.scope.version", &stream.scope_version),
        ("w3c.tracestate", &span.trace_state),
    ] {
        if !text.is_empty() {
            tags.push(text_tag(key, text));
        }
    }
    let logs: Vec<Value> = span
        .events
        .iter()
        .map(|event| {
            let mut fields = Vec::with_capacity(event.attributes.len() + 1);
            if !event.name.is_empty() && !event.attributes.iter().any(|(key, _)| key == "event") {
                fields.push(text_tag("event", &event.name));
            }
            fields.extend(event.attributes.iter().map(|(key, value)| tag(key, value)));
            json!({"timestamp": us(event.time_ns), "fields": fields})
        })
        .collect();
    json!({
        "traceID": id_text(&span.trace_id),
        "spanID": id_text(&span.span_id),
        "operationName": span.name,
        "references": references,
        "flags": span.flags & 0xff,
        "startTime": us(span.start_ns),
        "duration": span.duration_ns() / 1000,
        "tags": tags,
        "logs": logs,
        "processID": process,
        "warnings": null,
    })
}

/// `/api/v3/services`
pub async fn v3_services(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
) -> Result<Response, ApiError> {
    let question = Question::new(auth, freshness, "jaeger services", "services", all_time());
    let names = question.ask(&app, |engine, query| async move { services(&engine, &query).await }).await?;
    Ok(raw_json(json!({"services": names}).to_string()))
}

/// `/api/v3/operations`
pub async fn v3_operations(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let service = params.required("service")?.to_owned();
    let kind = params.get("span_kind").or(params.get("spanKind")).map(str::to_ascii_lowercase);
    let found = named_operations(&app, auth, freshness, service, kind).await?;
    Ok(raw_json(json!({"operations": found}).to_string()))
}

/// A parameter of version 3's query, in either spelling.
fn of_query<'p>(params: &'p Params, snake: &str, camel: &str) -> Option<&'p str> {
    params.get(&format!("query.{snake}")).or_else(|| params.get(&format!("query.{camel}")))
}

fn v3_time(params: &Params, snake: &str, camel: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = of_query(params, snake, camel) else { return Ok(None) };
    let ns = parse_time_ns(text).ok_or_else(|| {
        ApiError::bad_data(format!("invalid parameter \"query.{snake}\": {text:?} is no time"))
    })?;
    Ok(Some(ns))
}

/// `/api/v3/traces`
pub async fn v3_search(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let mut conditions = Conditions::default();
    conditions.service(of_query(&params, "service_name", "serviceName"));
    conditions.operation(of_query(&params, "operation_name", "operationName"));
    let duration = |snake: &str, camel: &str| {
        let text = of_query(&params, snake, camel);
        text.map(|text| duration_of(&format!("query.{snake}"), text)).transpose()
    };
    let min_ns = duration("duration_min", "durationMin")?;
    let max_ns = duration("duration_max", "durationMax")?;
    conditions.durations(Intrinsic::Duration, min_ns, max_ns);
    if let Some(text) = params.get("query.attributes") {
        let attributes: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
            ApiError::bad_data(format!("invalid parameter \"query.attributes\": no object of texts: {error}"))
        })?;
        attributes.iter().for_each(|(key, value)| conditions.tag(key, value));
    }
    let depth = of_query(&params, "search_depth", "searchDepth").or_else(|| params.get("query.num_traces"));
    let limit = match depth {
        None => DEFAULT_LIMIT,
        Some(text) => text.parse().map_err(|_| {
            ApiError::bad_data(format!("invalid parameter \"query.search_depth\": {text:?} is no number"))
        })?,
    };
    let all = all_time();
    let range = (
        v3_time(&params, "start_time_min", "startTimeMin")?.unwrap_or(all.0),
        v3_time(&params, "start_time_max", "startTimeMax")?.unwrap_or(all.1),
    );
    let options = SearchOptions { limit, whole: true, ..SearchOptions::default() };
    let question = Question::new(auth, freshness, "jaeger traces", conditions.text(), range);
    let found = question
        .ask(&app, move |engine, query| async move {
            let found = engine.trace_search(&query, options).await?;
            let mut spans = Vec::new();
            for trace in found.iter().filter_map(|found| found.trace.as_ref()) {
                if let Value::Array(list) = resource_spans(trace, Style::Otlp) {
                    spans.extend(list);
                }
            }
            Ok(json!({"result": {"resourceSpans": spans}}).to_string())
        })
        .await?;
    Ok(raw_json(found))
}

/// `/api/v3/traces/{id}`
pub async fn v3_trace(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
) -> Result<Response, ApiError> {
    let trace_id = path_id(id)?;
    let question = Question::new(auth, freshness, "trace", id_text(&trace_id), (0, 0));
    let body = question
        .trace(&app, trace_id, |trace| {
            json!({"result": {"resourceSpans": resource_spans(trace, Style::Otlp)}}).to_string().into_bytes()
        })
        .await?;
    Ok(raw_json(body))
}
