//! Tempo's query API: what Grafana's data source, its Explore and Traces Drilldown ask.
//!
//! ```text
//! /api/echo                                  echo
//! /api/search?q=&limit&spss&start&end        {"traces": [...], "metrics"}; tags=, minDuration=, maxDuration= instead of q
//! /api/search/tags, /api/search/tag/{t}/values, /api/v2/search/tags, /api/v2/search/tag/{t}/values
//! /api/traces/{id}, /api/v2/traces/{id}      protobuf for who accepts it, else JSON as protobuf writes it
//! /api/metrics/query_range, /api/metrics/query, /api/status/buildinfo
//! ```
//!
//! Errors are plain text. `/api/traces/{id}` is Jaeger's, too: there only who accepts protobuf gets Tempo's answer.
//! Values of tags are narrowed by `q` as far as the store can look it up: rather too many than too few.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use protocol::logs::value::id_text;
use protocol::logs::{Attribute, LogField, LogFilter, LogValue};
use protocol::varint::write_prefixed;
use query::Engine;
use query::logs::engine::FieldInfo;
use query::logs::source::LogKinds;
use query::traces::engine::{MatchedSet, TraceSeries};
use query::traces::traceql::{Field, Intrinsic, KINDS, MetricKind, STATES, Scope, attribute_name, parse};
use query::traces::{Found, SearchOptions, narrowing, stored_field};
use serde_json::{Value, json};

use super::otlp::{Style, any_value, key_values, protobuf, resource_spans};
use super::{Conditions, DEFAULT_LIMIT, Question, duration_bounds, path, path_id};
use crate::api::envelope::raw_json;
use crate::api::logs::{duration_ns, range_ns};
use crate::api::loki::{LokiError, limit};
use crate::api::read::Freshness;
use crate::api::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;

/// The release whose API is spoken: clients choose features by it.
const TEMPO_VERSION: &str = "2.8.0";

/// Spans of each set that are given where a request does not say.
const DEFAULT_SPANS_PER_SET: u64 = 3;

/// Steps of a range where a request does not say how long one is.
const DEFAULT_STEPS: i64 = 100;

type Answer = Result<Response, LokiError>;

/// Whether a client takes protobuf.
pub(super) fn accepts_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|part| {
        let part = part.split(';').next().unwrap_or_default().trim();
        part.eq_ignore_ascii_case("application/protobuf")
            || part.eq_ignore_ascii_case("application/x-protobuf")
    })
}

/// `/api/echo`
pub async fn echo() -> Response {
    "echo".into_response()
}

/// `/api/status/buildinfo`
pub async fn build_info() -> Response {
    let info = json!({
        "version": TEMPO_VERSION, "revision": "", "branch": "", "buildDate": "", "buildUser": "", "goVersion": "",
    });
    raw_json(info.to_string())
}

/// Pairs of `key=value`, quoted where they have blanks.
fn logfmt(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let invalid =
        || ApiError::bad_data(format!("invalid parameter \"tags\": {text:?} is not of the form key=value"));
    let (mut pairs, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=').ok_or_else(invalid)?;
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(invalid());
        }
        let value;
        (value, rest) = match behind.strip_prefix('"') {
            Some(quoted) => {
                let (mut value, mut end) = (String::new(), None);
                let mut chars = quoted.char_indices();
                while let Some((at, c)) = chars.next() {
                    match c {
                        '"' => {
                            end = Some(at + 1);
                            break;
                        }
                        '\\' => value.extend(chars.next().map(|(_, c)| c)),
                        c => value.push(c),
                    }
                }
                (value, &quoted[end.ok_or_else(invalid)?..])
            }
            None => {
                let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
                (behind[..end].to_owned(), &behind[end..])
            }
        };
        pairs.push((key.to_owned(), value));
        rest = rest.trim_start();
    }
    Ok(pairs)
}

/// The TraceQL of a search.
fn search_text(params: &Params) -> Result<String, ApiError> {
    if let Some(text) = params.get("q") {
        parse(text).map_err(|error| ApiError::bad_data(format!("invalid TraceQL query: {error}")))?;
        return Ok(text.to_owned());
    }
    let mut conditions = Conditions::default();
    for (key, value) in logfmt(params.get("tags").unwrap_or_default())? {
        match key.as_str() {
            "service.name" => conditions.service(Some(&value)),
            "name" => conditions.operation(Some(&value)),
            _ => conditions.tag(&key, &value),
        }
    }
    let (min_ns, max_ns) = duration_bounds(params)?;
    conditions.durations(Intrinsic::TraceDuration, min_ns, max_ns);
    Ok(conditions.text())
}

/// `/api/search`
pub async fn search(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let options = SearchOptions {
        limit: limit(&params, DEFAULT_LIMIT)?,
        spans_per_set: params.number("spss")?.unwrap_or(DEFAULT_SPANS_PER_SET),
        ..SearchOptions::default()
    };
    let question = Question::new(auth, freshness, "tempo search", search_text(&params)?, range_ns(&params)?);
    let found = question
        .ask(&app, move |engine, query| async move {
            let found = engine.trace_search(&query, options).await?;
            let inspected: u64 = found.iter().map(|found| found.summary.spans).sum();
            let traces: Vec<Value> = found.iter().map(found_json).collect();
            let metrics = json!({"inspectedTraces": traces.len(), "inspectedSpans": inspected.to_string()});
            Ok(json!({"traces": traces, "metrics": metrics}).to_string())
        })
        .await?;
    Ok(raw_json(found))
}

fn set_json(set: &MatchedSet) -> Value {
    let spans: Vec<Value> = set
        .spans
        .iter()
        .map(|span| {
            let mut fields: Vec<Attribute<'static>> =
                span.fields.iter().map(|(key, value)| (plain_name(key).into(), value.clone())).collect();
            if !fields.iter().any(|(key, _)| key == "service.name") {
                fields.push(("service.name".into(), LogValue::String(span.service.clone().into())));
            }
            json!({
                "spanID": id_text(&span.span_id),
                "name": span.name,
                "startTimeUnixNano": span.start_ns.to_string(),
                "durationNanos": span.duration_ns.to_string(),
                "attributes": key_values(&fields),
            })
        })
        .collect();
    let values: Vec<Attribute<'static>> =
        set.values.iter().map(|(key, value)| (format!("by({key})").into(), value.clone())).collect();
    json!({"spans": spans, "matched": set.matched, "attributes": key_values(&values)})
}

/// The name of an attribute without its scope, by which the answer's attributes are called.
fn plain_name(field: &str) -> String {
    let scopes = ["span.", "resource.", "event.", "link.", "instrumentation.", "."];
    let name = scopes.iter().find_map(|scope| field.strip_prefix(scope)).unwrap_or(field);
    name.trim_matches('"').to_owned()
}

fn found_json(found: &Found) -> Value {
    let summary = &found.summary;
    let services: BTreeMap<&str, Value> = summary
        .services
        .iter()
        .map(|(name, spans, errors)| {
            let mut stats = json!({"spanCount": spans});
            if *errors > 0 {
                stats["errorCount"] = json!(errors);
            }
            (name.as_str(), stats)
        })
        .collect();
    let sets: Vec<Value> = found.sets.iter().map(set_json).collect();
    let mut out = json!({
        "traceID": id_text(&summary.trace_id),
        "rootServiceName": summary.root_service,
        "rootTraceName": summary.root_name,
        "startTimeUnixNano": summary.start_ns.to_string(),
        "durationMs": summary.duration_ns() / 1_000_000,
        "serviceStats": services,
    });
    if let Some(first) = sets.first() {
        out["spanSet"] = first.clone();
    }
    out["spanSets"] = Value::Array(sets);
    out
}

/// `/api/v2/traces/{id}`
pub async fn trace(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
    headers: HeaderMap,
) -> Answer {
    let trace_id = path_id(id)?;
    let question = Question::new(auth, freshness, "trace", id_text(&trace_id), (0, 0));
    if accepts_protobuf(&headers) {
        let body = question
            .trace(&app, trace_id, |trace| {
                // TraceByIDResponse { 1 trace }
                let mut out = vec![1 << 3 | 2];
                write_prefixed(&mut out, &protobuf(trace));
                out
            })
            .await?;
        return Ok(([(header::CONTENT_TYPE, "application/protobuf")], body).into_response());
    }
    let body = question
        .trace(&app, trace_id, |trace| {
            json!({"trace": {"resourceSpans": resource_spans(trace, Style::Proto)}}).to_string().into_bytes()
        })
        .await?;
    Ok(raw_json(body))
}

/// Names of attributes by scope.
fn by_scope(fields: &[FieldInfo]) -> BTreeMap<&'static str, Vec<&str>> {
    let mut scopes: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
    for info in fields {
        let (scope, name) = match &info.field {
            LogField::RecordAttribute(name) => ("span", name),
            LogField::ResourceAttribute(name) => ("resource", name),
            LogField::ScopeAttribute(name) => ("instrumentation", name),
            _ => continue,
        };
        scopes.entry(scope).or_default().push(name);
    }
    let intrinsics = Intrinsic::ALL.iter().map(|(_, name, _)| *name).collect();
    scopes.insert("intrinsic", intrinsics);
    scopes
}

/// `/api/v2/search/tags`
pub async fn tags(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let wanted = params.get("scope").filter(|scope| *scope != "none").map(str::to_owned);
    let question = Question::new(auth, freshness, "tempo tags", "tags", range_ns(&params)?);
    let found = question
        .ask(&app, move |engine, query| async move {
            let fields = engine.span_fields(&query).await?;
            let scopes = by_scope(&fields).into_iter();
            let scopes = scopes.filter(|(scope, _)| wanted.as_deref().is_none_or(|wanted| wanted == *scope));
            let scopes: Vec<Value> = scopes.map(|(name, tags)| json!({"name": name, "tags": tags})).collect();
            Ok(json!({"scopes": scopes, "metrics": {}}).to_string())
        })
        .await?;
    Ok(raw_json(found))
}

/// `/api/search/tags`
pub async fn tag_names(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let question = Question::new(auth, freshness, "tempo tags", "tags", range_ns(&params)?);
    let found = question
        .ask(&app, |engine, query| async move {
            let fields = engine.span_fields(&query).await?;
            let names: std::collections::BTreeSet<&str> = by_scope(&fields).into_values().flatten().collect();
            Ok(json!({"tagNames": names, "metrics": {}}).to_string())
        })
        .await?;
    Ok(raw_json(found))
}

/// The field of a tag: as TraceQL names it, or the bare name of an attribute.
fn field_of(tag: &str) -> Field {
    if let Some(intrinsic) = Intrinsic::of_name(tag) {
        return Field::Intrinsic(match intrinsic {
            // Roots are spans: their names and services are those of all, and some more.
            Intrinsic::RootName => Intrinsic::Name,
            intrinsic => intrinsic,
        });
    }
    for (prefix, scope) in [
        ("resource.", Scope::Resource),
        ("span.", Scope::Span),
        ("instrumentation.", Scope::Instrumentation),
        (".", Scope::Any),
    ] {
        if let Some(name) = tag.strip_prefix(prefix) {
            return Field::Attribute(scope, name.trim_matches('"').to_owned());
        }
    }
    Field::Attribute(Scope::Any, tag.to_owned())
}

/// Values of a tag, each with its type.
async fn values_of(
    engine: &Engine,
    query: &query::logs::LogQuery,
    tag: &str,
    filter: LogFilter,
) -> Result<Vec<(&'static str, String)>, query::QueryError> {
    let field = match field_of(tag) {
        Field::Intrinsic(Intrinsic::RootService) => {
            Field::Attribute(Scope::Resource, "service.name".to_owned())
        }
        field => field,
    };
    match &field {
        Field::Intrinsic(Intrinsic::Status) => {
            return Ok(STATES.iter().map(|(_, name)| ("keyword", (*name).to_owned())).collect());
        }
        Field::Intrinsic(Intrinsic::Kind) => {
            return Ok(KINDS.iter().map(|(_, name)| ("keyword", (*name).to_owned())).collect());
        }
        // As many values as spans: lists of them help nobody.
        Field::Intrinsic(
            Intrinsic::Duration
            | Intrinsic::TraceDuration
            | Intrinsic::SpanId
            | Intrinsic::TraceId
            | Intrinsic::ParentId,
        ) => return Ok(Vec::new()),
        _ => {}
    }
    let Some(stored) = stored_field(&field) else { return Ok(Vec::new()) };
    let mut kinds = LogKinds::STRING;
    if let Field::Attribute(_, name) = &field {
        let fields = engine.span_fields(query).await?;
        let of_name = fields.iter().filter(|info| match &info.field {
            LogField::RecordAttribute(found)
            | LogField::ResourceAttribute(found)
            | LogField::ScopeAttribute(found) => found == name,
            _ => false,
        });
        kinds = of_name.fold(LogKinds::default(), |kinds, info| kinds.and(info.kinds));
    }
    // Several kinds: what is written as text finds text alone, and that is the common one.
    let kind = match kinds {
        LogKinds::INT => "int",
        LogKinds::FLOAT => "float",
        LogKinds::BOOL => "bool",
        _ => "string",
    };
    let counted = engine.span_counts(query, &filter, &[stored]).await?;
    let values = counted.into_iter().filter_map(|mut group| group.values.pop());
    Ok(values.filter(|value| !value.is_empty()).map(|value| (kind, value)).collect())
}

fn values_question(
    auth: AuthContext,
    freshness: Freshness,
    params: &Params,
    tag: &str,
) -> Result<(Question, LogFilter), ApiError> {
    // Whoever completes a query while it is typed sends half of it: what does not parse narrows nothing.
    let filter = params.get("q").and_then(narrowing).unwrap_or(LogFilter::All);
    Ok((Question::new(auth, freshness, "tempo tag values", tag, range_ns(params)?), filter))
}

async fn answer_values(
    app: &App,
    (question, filter): (Question, LogFilter),
    tag: String,
    render: impl Fn(&str, &str) -> Value + Send + 'static,
) -> Answer {
    let found = question
        .ask(app, move |engine, query| async move {
            let values = values_of(&engine, &query, &tag, filter).await?;
            let values: Vec<Value> = values.iter().map(|(kind, value)| render(kind, value)).collect();
            Ok(json!({"tagValues": values, "metrics": {}}).to_string())
        })
        .await?;
    Ok(raw_json(found))
}

/// `/api/v2/search/tag/{tag}/values`
pub async fn tag_values(
    State(app): State<Arc<App>>,
    tag: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let tag = path(tag)?;
    let question = values_question(auth, freshness, &params, &tag)?;
    answer_values(&app, question, tag, |kind, value| json!({"type": kind, "value": value})).await
}

/// `/api/search/tag/{tag}/values`
pub async fn plain_tag_values(
    State(app): State<Arc<App>>,
    tag: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let tag = path(tag)?;
    let question = values_question(auth, freshness, &params, &tag)?;
    answer_values(&app, question, tag, |_, value| json!(value)).await
}

/// The TraceQL of a request for numbers.
fn metrics_text(params: &Params) -> Result<String, ApiError> {
    let text = match params.get("q") {
        Some(text) => text,
        None => params.required("query")?,
    };
    parse(text).map_err(|error| ApiError::bad_data(format!("invalid TraceQL query: {error}")))?;
    Ok(text.to_owned())
}

/// Labels of a series: those of its fields, else the name of its numbers.
fn labels_of(series: &TraceSeries, name: &str) -> Vec<Attribute<'static>> {
    let labels: Vec<Attribute<'static>> =
        series.labels.iter().map(|(key, value)| (key.clone().into(), value.clone())).collect();
    match labels.is_empty() {
        true => vec![("__name__".into(), LogValue::String(name.to_owned().into()))],
        false => labels,
    }
}

fn series_json(series: &TraceSeries, name: &str) -> Value {
    let labels = labels_of(series, name);
    let pairs: Vec<String> =
        labels.iter().map(|(key, value)| format!("{}={:?}", attribute_name(key), value.text())).collect();
    let samples: Vec<Value> = series
        .points
        .iter()
        .map(|(ns, number)| json!({"timestampMs": ns.div_euclid(1_000_000).to_string(), "value": number}))
        .collect();
    let labels: Vec<Value> =
        labels.iter().map(|(key, value)| json!({"key": key, "value": any_value(value)})).collect();
    json!({"labels": labels, "samples": samples, "promLabels": format!("{{{}}}", pairs.join(", "))})
}

/// Name of the numbers of a query.
fn metric_name(text: &str) -> &'static str {
    match parse(text).ok().and_then(|query| query.metric).map(|metric| metric.kind) {
        Some(MetricKind::Rate) => "rate",
        Some(MetricKind::Count) => "count_over_time",
        Some(MetricKind::Min(_)) => "min_over_time",
        Some(MetricKind::Max(_)) => "max_over_time",
        Some(MetricKind::Avg(_)) => "avg_over_time",
        Some(MetricKind::Sum(_)) => "sum_over_time",
        Some(MetricKind::Quantile(..)) => "quantile_over_time",
        Some(MetricKind::Histogram(_)) => "histogram_over_time",
        None => "",
    }
}

async fn metrics(
    app: &App,
    auth: AuthContext,
    freshness: Freshness,
    params: &Params,
    is_instant: bool,
) -> Answer {
    let text = metrics_text(params)?;
    let name = metric_name(&text);
    let range = range_ns(params)?;
    let whole = range.1.saturating_sub(range.0);
    let step_ns = match (is_instant, duration_ns(params, "step")?) {
        // One bucket for everything, the end with it.
        (true, _) => whole.saturating_add(1),
        (false, Some(step)) => step,
        (false, None) => (whole / DEFAULT_STEPS).max(1_000_000_000),
    };
    let question = Question::new(auth, freshness, "tempo metrics", text, range);
    let found = question
        .ask(app, move |engine, query| async move {
            let series = engine.trace_metrics(&query, step_ns).await?;
            let one = |series: &TraceSeries| {
                let mut out = series_json(series, name);
                if is_instant {
                    out["value"] = json!(series.points.first().map_or(0.0, |(_, number)| *number));
                    out.as_object_mut().map(|out| out.remove("samples"));
                }
                out
            };
            let series: Vec<Value> = series.iter().map(one).collect();
            Ok(json!({"series": series, "metrics": {}}).to_string())
        })
        .await?;
    Ok(raw_json(found))
}

/// `/api/metrics/query_range`
pub async fn metrics_range(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    metrics(&app, auth, freshness, &params, false).await
}

/// `/api/metrics/query`
pub async fn metrics_instant(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    metrics(&app, auth, freshness, &params, true).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_pairs() {
        let pairs = logfmt(r#" a.b=c  d="e \"f" "#).unwrap();
        let expected = [("a.b", "c"), ("d", "e \"f")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(pairs, expected);
        for text in ["a", "=b", "a=\"b", "a b=c"] {
            assert!(logfmt(text).is_err(), "{text}");
        }
    }

    #[test]
    fn who_accepts_protobuf() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, axum::http::HeaderValue::from_static(value));
            accepts_protobuf(&headers)
        };
        assert!(accepts("application/protobuf"));
        assert!(accepts("application/json;q=0.5, application/protobuf"));
        assert!(!accepts("application/json") && !accepts("*/*"));
        assert!(!accepts_protobuf(&HeaderMap::new()));
    }

    #[test]
    fn tags_name_fields() {
        assert_eq!(field_of("resource.a.b"), Field::Attribute(Scope::Resource, "a.b".to_owned()));
        assert_eq!(field_of("service.name"), Field::Attribute(Scope::Any, "service.name".to_owned()));
        assert_eq!(field_of("rootName"), Field::Intrinsic(Intrinsic::Name));
        assert_eq!(plain_name("span.http.method"), "http.method");
        assert_eq!(plain_name("status"), "status");
    }
}
