//! Zipkin's query API, version 2: services, names of spans, traces, dependencies, as its UI asks for them.
//!
//! Spans become Zipkin's by the way that they were taken in ([`protocol::shippers::zipkin`]), backwards: attributes are
//! tags, as text, the local service and addresses an endpoint, events are annotations. What is no Zipkin field
//! (status, scope, trace state, links' number) is a tag by the name that OpenTelemetry's exporters give it.
//!
//! Times are microseconds; `endTs` and `lookback` are milliseconds, by default now and a day. Errors are plain text.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use protocol::logs::value::id_text;
use protocol::logs::{LogStream, LogValue};
use protocol::shippers::zipkin::{DEBUG, SHARED};
use protocol::spans::{Span, SpanKind, SpanStatus};
use query::traces::assemble::{attribute, service_of};
use query::traces::traceql::Intrinsic;
use query::traces::{SearchOptions, Trace};
use serde_json::{Map, Value, json};

use super::{Conditions, Question, all_time, operations, path_id, services};
use crate::api::envelope::raw_json;
use crate::api::loki::{LokiError, limit};
use crate::api::read::Freshness;
use crate::api::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ns;

/// Traces that are given where a request does not say.
const DEFAULT_TRACES: usize = 10;
/// How far a question looks back where it does not say: a day.
const DEFAULT_LOOKBACK_MS: i64 = 86_400_000;

type Answer = Result<Response, LokiError>;

/// `/api/v2/services`
pub async fn service_names(State(app): State<Arc<App>>, auth: AuthContext, freshness: Freshness) -> Answer {
    let question = Question::new(auth, freshness, "zipkin services", "services", all_time());
    let names = question.ask(&app, |engine, query| async move { services(&engine, &query).await }).await?;
    Ok(raw_json(json!(names).to_string()))
}

/// `/api/v2/spans`, asked for
pub async fn span_names(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let service = params.required("serviceName")?.to_owned();
    let question = Question::new(auth, freshness, "zipkin spans", service.clone(), all_time());
    let names = question
        .ask(&app, move |engine, query| async move {
            let found = operations(&engine, &query, Some(&service)).await?;
            Ok(found.into_iter().map(|(name, _, _)| name).collect::<BTreeSet<String>>())
        })
        .await?;
    Ok(raw_json(json!(names).to_string()))
}

/// The range of a question.
fn range(params: &Params) -> Result<(i64, i64), ApiError> {
    let end_ns = params.number::<i64>("endTs")?.map_or_else(now_ns, |ms| ms.saturating_mul(1_000_000));
    let lookback_ms = params.number::<i64>("lookback")?.unwrap_or(DEFAULT_LOOKBACK_MS);
    Ok((end_ns.saturating_sub(lookback_ms.saturating_mul(1_000_000)), end_ns))
}

/// The conditions of a search: `annotationQuery` is `key`, or `key=value`, joined by `and`.
fn conditions(params: &Params) -> Result<Conditions, ApiError> {
    use query::traces::traceql::{CompareOp, Expr, Field, Literal, Scope};
    let mut conditions = Conditions::default();
    conditions.service(params.get("serviceName"));
    conditions.operation(params.get("spanName"));
    let us = |name: &str| -> Result<Option<i64>, ApiError> {
        Ok(params.number::<i64>(name)?.map(|us| us.saturating_mul(1000)))
    };
    conditions.durations(Intrinsic::Duration, us("minDuration")?, us("maxDuration")?);
    for part in params.get("annotationQuery").unwrap_or_default().split(" and ") {
        match part.trim().split_once('=') {
            Some((key, value)) => conditions.tag(key, value),
            None if part.trim().is_empty() => {}
            None => {
                let key = part.trim();
                let has_tag = Expr::Compare(
                    Field::Attribute(Scope::Any, key.to_owned()),
                    CompareOp::NotEqual,
                    Literal::Nil,
                );
                let has_event = Expr::Compare(
                    Field::Intrinsic(Intrinsic::EventName),
                    CompareOp::Equal,
                    Literal::Text(key.to_owned()),
                );
                let mut any = vec![has_tag, has_event];
                any.extend((key == "error").then(|| super::status("error")).flatten());
                conditions.add(Expr::Or(any));
            }
        }
    }
    if let Some(remote) = params.get("remoteServiceName") {
        conditions.tag("peer.service", remote);
    }
    Ok(conditions)
}

/// `/api/v2/traces`
pub async fn search(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let options =
        SearchOptions { limit: limit(&params, DEFAULT_TRACES)?, whole: true, ..SearchOptions::default() };
    let text = conditions(&params)?.text();
    let question = Question::new(auth, freshness, "zipkin traces", text, range(&params)?);
    let found = question
        .ask(&app, move |engine, query| async move {
            let found = engine.trace_search(&query, options).await?;
            let traces = found.iter().filter_map(|found| found.trace.as_ref()).map(trace_json);
            Ok(Value::Array(traces.collect()).to_string())
        })
        .await?;
    Ok(raw_json(found))
}

/// `/api/v2/trace/{id}`
pub async fn trace(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
) -> Answer {
    let trace_id = path_id(id)?;
    let question = Question::new(auth, freshness, "trace", id_text(&trace_id), (0, 0));
    let body = question.trace(&app, trace_id, |trace| trace_json(trace).to_string().into_bytes()).await?;
    Ok(raw_json(body))
}

/// `/api/v2/dependencies`
pub async fn dependencies(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let question = Question::new(auth, freshness, "dependencies", "dependencies", range(&params)?);
    let found = question
        .ask(&app, |engine, query| async move {
            let edges = engine.service_edges(&query).await?;
            let edge = |edge: &query::traces::engine::ServiceEdge| {
                let mut out = json!({"parent": edge.caller, "child": edge.callee, "callCount": edge.calls});
                if edge.errors > 0 {
                    out["errorCount"] = json!(edge.errors);
                }
                out
            };
            Ok(edges.iter().map(edge).collect::<Value>().to_string())
        })
        .await?;
    Ok(raw_json(found))
}

/// A trace as Zipkin's UI reads it.
fn trace_json(trace: &Trace) -> Value {
    trace.spans.iter().map(|part| span_json(&part.span, &part.stream)).collect()
}

/// Attributes that are parts of endpoints, of one end each: address, port.
const LOCAL: [&str; 2] = ["net.host.ip", "net.host.port"];
const REMOTE: [&str; 2] = ["net.peer.ip", "net.peer.port"];

fn endpoint(service: &str, span: &Span<'_>, [address, port]: [&str; 2]) -> Map<String, Value> {
    let mut out = Map::new();
    if !service.is_empty() {
        out.insert("serviceName".to_owned(), json!(service));
    }
    if let Some(LogValue::String(address)) = attribute(&span.attributes, address) {
        let family = if address.contains(':') { "ipv6" } else { "ipv4" };
        out.insert(family.to_owned(), json!(address));
    }
    if let Some(LogValue::Int(port)) = attribute(&span.attributes, port) {
        out.insert("port".to_owned(), json!(port));
    }
    out
}

fn span_json(span: &Span<'_>, stream: &LogStream<'_>) -> Value {
    let mut out = Map::new();
    out.insert("traceId".to_owned(), json!(id_text(&span.trace_id)));
    out.insert("id".to_owned(), json!(id_text(&span.span_id)));
    if span.parent_id != [0; 8] {
        out.insert("parentId".to_owned(), json!(id_text(&span.parent_id)));
    }
    let kind = match span.kind {
        SpanKind::Client => "CLIENT",
        SpanKind::Server => "SERVER",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Unspecified | SpanKind::Internal => "",
    };
    if !kind.is_empty() {
        out.insert("kind".to_owned(), json!(kind));
    }
    out.insert("name".to_owned(), json!(span.name));
    out.insert("timestamp".to_owned(), json!(span.start_ns.div_euclid(1000)));
    // Zero is no duration to Zipkin: what is shorter than a microsecond takes one.
    let duration_us = span.duration_ns().div_ceil(1000);
    if duration_us > 0 {
        out.insert("duration".to_owned(), json!(duration_us));
    }
    let remote_service = match attribute(&span.attributes, "peer.service") {
        Some(LogValue::String(service)) => service.as_ref(),
        _ => "",
    };
    for (name, endpoint) in [
        ("localEndpoint", endpoint(service_of(stream), span, LOCAL)),
        ("remoteEndpoint", endpoint(remote_service, span, REMOTE)),
    ] {
        if !endpoint.is_empty() {
            out.insert(name.to_owned(), Value::Object(endpoint));
        }
    }
    let annotations: Vec<Value> = span
        .events
        .iter()
        .map(|event| json!({"timestamp": event.time_ns.div_euclid(1000), "value": event.name}))
        .collect();
    if !annotations.is_empty() {
        out.insert("annotations".to_owned(), Value::Array(annotations));
    }
    let mut tags = Map::new();
    for (key, value) in &span.attributes {
        let key = key.as_ref();
        match key {
            SHARED | DEBUG => {
                let field = if key == SHARED { "shared" } else { "debug" };
                out.insert(field.to_owned(), json!(true));
            }
            key if LOCAL.contains(&key) || REMOTE.contains(&key) => {}
            key => {
                tags.insert(key.to_owned(), json!(value.text()));
            }
        }
    }
    let own = |key: &str, text: &str, tags: &mut Map<String, Value>| {
        if !text.is_empty() {
            tags.entry(key).or_insert_with(|| json!(text));
        }
    };
    match span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => own("otel.status_code", "OK", &mut tags),
        SpanStatus::Error => {
            let why = if span.status_message.is_empty() { "true" } else { &span.status_message };
            own("error", why, &mut tags);
            own("otel.status_code", "ERROR", &mut tags);
        }
    }
    own("otel.scope.name", &stream.scope_name, &mut tags);
    own("otel.scope.version", &stream.scope_version, &mut tags);
    own("w3c.tracestate", &span.trace_state, &mut tags);
    if span.kind == SpanKind::Internal {
        own("span.kind", "internal", &mut tags);
    }
    if !tags.is_empty() {
        out.insert("tags".to_owned(), Value::Object(tags));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use protocol::shippers::zipkin::decode_json;
    use protocol::spans::SpanSink;
    use query::traces::Trace;

    use super::*;

    #[derive(Default)]
    struct Parts {
        stream: Arc<LogStream<'static>>,
        parts: Vec<(Arc<LogStream<'static>>, Span<'static>)>,
    }

    impl SpanSink for Parts {
        fn stream(&mut self, stream: &LogStream<'_>) {
            self.stream = Arc::new(stream.clone().into_owned());
        }

        fn span(&mut self, span: &Span<'_>) {
            self.parts.push((Arc::clone(&self.stream), span.clone().into_owned()));
        }
    }

    #[test]
    fn what_came_is_what_is_given() {
        let sent = json!([{
            "traceId": "000000000000004d1e00c0db9010db86", "id": "4d1e00c0db9010db", "kind": "CLIENT", "name": "get",
            "timestamp": 1_502_787_600_000_000_i64, "duration": 150_000,
            "localEndpoint": {"serviceName": "frontend", "ipv4": "127.0.0.1", "port": 80},
            "remoteEndpoint": {"serviceName": "backend", "ipv6": "2001:db8::1"},
            "annotations": [{"timestamp": 1_502_787_600_000_100_i64, "value": "ws"}],
            "tags": {"http.method": "GET", "peer.service": "backend"}, "debug": true,
        }, {
            "traceId": "000000000000004d1e00c0db9010db86", "id": "4d1e00c0db9010db", "parentId": "0000000000000001",
            "kind": "SERVER", "name": "get", "timestamp": 1_502_787_600_000_100_i64, "duration": 9, "shared": true,
            "localEndpoint": {"serviceName": "backend"}, "tags": {"error": "why", "otel.status_code": "ERROR"},
        }]);
        let mut parts = Parts::default();
        decode_json(sent.to_string().as_bytes(), &mut parts).unwrap();
        assert_eq!(trace_json(&Trace::assemble(parts.parts)), sent);
    }

    #[test]
    fn queries_of_annotations() {
        let params = Params::of_uri(
            &"/x?serviceName=a&annotationQuery=error%20and%20http.method%3DGET&minDuration=5"
                .parse()
                .unwrap(),
        );
        let text = conditions(&params.unwrap()).unwrap().text();
        assert_eq!(
            text,
            "{ resource.service.name = \"a\" && duration >= 5us && (.error != nil || event:name = \"error\" || \
             status = error) && .http.method = \"GET\" }"
        );
    }
}
