//! Prometheus' HTTP API for reading: parameters in, envelope out. What they mean is in `query`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use query::engine::ListRequest;
use query::format::format_value;
use query::promql::ast::Expr;
use query::promql::parser::{parse, parse_selector};
use query::promql::printer::pretty;
use query::promql::tree::tree;
use query::source::TimeRange;
use query::{CancelFlag, QueryKind, QueryRequest, QueryResult};
use serde_json::{Value, json};

use super::active::{Asked, Notes};
use super::envelope::{raw_json, success, success_with};
use super::read::Freshness;
use super::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ms;

const CUT: &str = "results truncated due to limit";

fn duration(params: &Params, name: &str) -> Result<Option<Duration>, ApiError> {
    Ok(params.duration_ms(name)?.map(|ms| Duration::from_millis(ms.unsigned_abs())))
}

/// `limit`: 0 or absent is none.
fn limit(params: &Params) -> Result<usize, ApiError> {
    Ok(params.number::<usize>("limit")?.unwrap_or(0))
}

async fn evaluate(
    app: &App,
    auth: AuthContext,
    freshness: Freshness,
    params: &Params,
    kind: QueryKind,
) -> Result<Response, ApiError> {
    let limit = limit(params)?;
    let with_stats = params.get("stats").is_some();
    let explain = params.get("explain").is_some_and(|value| value != "false");
    let cancel = CancelFlag::default();
    let text = params.required("query")?;
    let asked = match kind {
        QueryKind::Instant { time } => Asked::query(&auth.tenant, "query", text, (time, time, 0)),
        QueryKind::Range { start, end, step } => {
            Asked::query(&auth.tenant, "query_range", text, (start, end, step))
        }
    };
    let request = QueryRequest {
        query: text.to_owned(),
        tenant: auth.tenant,
        kind,
        consistency: freshness.0,
        lookback: duration(params, "lookback_delta")?,
        timeout: duration(params, "timeout")?,
        features: None,
        explain,
        cancel: cancel.clone(),
    };
    let body = app
        .backend()?
        .queries
        .run(asked, cancel, move |engine, notes| async move {
            let mut result = engine.query(&request).await?;
            notes.count(result.stats.total_queryable_samples);
            if result.value.limit(limit) {
                result.warnings.push(CUT.to_owned());
            }
            // Encoding a large result is work for the query's threads, too.
            Ok(render(&result, with_stats, &notes))
        })
        .await?;
    Ok(raw_json(body))
}

/// The whole answer as text: results are too large to build them as a tree first.
fn render(result: &QueryResult, with_stats: bool, notes: &Notes) -> String {
    let mut data = result.data_json();
    let mut extra = Vec::new();
    if with_stats {
        extra.push(("stats", stats(result, notes)));
    }
    if let Some(explanation) = &result.explanation {
        extra.push(("explain", json!(explanation)));
    }
    for (name, value) in extra {
        if data.pop() == Some('}') {
            data.push_str(&format!(",\"{name}\":{value}}}"));
        }
    }
    let mut body = format!("{{\"status\":\"success\",\"data\":{data}");
    for (name, remarks) in [("warnings", &result.warnings), ("infos", &result.infos)] {
        if !remarks.is_empty() {
            body.push_str(&format!(",\"{name}\":{}", json!(remarks)));
        }
    }
    body.push('}');
    body
}

/// `stats` as Prometheus gives it, and what is ours. Sorting is part of the evaluation here.
fn stats(result: &QueryResult, notes: &Notes) -> Value {
    let stats = &result.stats;
    let seconds = |micros: u64| micros as f64 / 1e6;
    json!({
        "timings": {
            "evalTotalTime": seconds(stats.total_micros),
            "resultSortTime": 0.0,
            "queryPreparationTime": seconds(stats.wait_micros),
            "innerEvalTime": seconds(stats.evaluate_micros),
            "execQueueTime": seconds(notes.queued_micros()),
            "execTotalTime": seconds(notes.queued_micros() + stats.total_micros),
        },
        "samples": {
            "totalQueryableSamples": stats.total_queryable_samples,
            "peakSamples": stats.peak_samples,
        },
        "pharos": stats,
    })
}

/// `/api/v1/query`
pub async fn query(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let time = params.time_ms("time")?.unwrap_or_else(now_ms);
    evaluate(&app, auth, freshness, &params, QueryKind::Instant { time }).await
}

/// `/api/v1/query_range`
pub async fn query_range(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    for name in ["start", "end", "step"] {
        params.required(name)?;
    }
    let start = params.time_ms("start")?.unwrap_or_default();
    let end = params.time_ms("end")?.unwrap_or_default();
    let step = params.duration_ms("step")?.unwrap_or_default();
    evaluate(&app, auth, freshness, &params, QueryKind::Range { start, end, step }).await
}

/// The selectors of a request.
pub(super) fn selectors_of(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let selector = |text| {
        parse_selector(text).map_err(|e| ApiError::bad_data(format!("invalid parameter \"match[]\": {e}")))
    };
    params.all("match[]").map(selector).collect()
}

/// Selectors for the list of running queries.
pub(super) fn selectors_text(selectors: &[Vec<Matcher>]) -> String {
    let selector = |matchers: &Vec<Matcher>| {
        let parts: Vec<String> =
            matchers.iter().map(|m| format!("{}{}{:?}", m.name(), m.op().as_str(), m.value())).collect();
        format!("{{{}}}", parts.join(","))
    };
    selectors.iter().map(selector).collect::<Vec<_>>().join(", ")
}

fn asked(request: &ListRequest, what: &'static str) -> Asked {
    Asked::list(&request.tenant, what, selectors_text(&request.selectors))
}

fn list_request(
    app: &App,
    auth: AuthContext,
    freshness: Freshness,
    params: &Params,
) -> Result<ListRequest, ApiError> {
    let selectors = selectors_of(params)?;
    let range = TimeRange {
        start: params.time_ms("start")?.unwrap_or(TimeRange::ALL.start),
        end: params.time_ms("end")?.unwrap_or(TimeRange::ALL.end),
    };
    if params.get("start").is_some() && params.get("end").is_some() && range.end < range.start {
        return Err(ApiError::bad_data(
            "invalid parameter \"end\": end timestamp must not be before start time",
        ));
    }
    Ok(ListRequest {
        selectors,
        range,
        limit: limit(params)?,
        consistency: freshness.0,
        timeout: app.config.query.timeout.0,
        ..ListRequest::all(auth.tenant)
    })
}

fn list_answer(data: &Value, is_cut: bool) -> Response {
    let warnings = if is_cut { vec![CUT.to_owned()] } else { Vec::new() };
    success_with(data, &warnings, &[])
}

/// `/api/v1/labels`
pub async fn labels(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let request = list_request(&app, auth, freshness, &params)?;
    let queries = &app.backend()?.queries;
    let (names, is_cut) = queries
        .run(asked(&request, "labels"), CancelFlag::default(), move |engine, _| async move {
            engine.label_names(&request).await
        })
        .await?;
    Ok(list_answer(&json!(names), is_cut))
}

/// `/api/v1/label/{name}/values`
pub async fn label_values(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::bad_data(format!("label name: {error}")))?;
    let name = unescape(&name);
    let request = list_request(&app, auth, freshness, &params)?;
    let queries = &app.backend()?.queries;
    let (values, is_cut) = queries
        .run(asked(&request, "label values"), CancelFlag::default(), move |engine, _| async move {
            engine.label_values(&request, &name).await
        })
        .await?;
    Ok(list_answer(&json!(values), is_cut))
}

/// Label names that no URL or identifier takes arrive as `U__` with each odd character as `_hex_` and `_` as `__`. An
/// underscore that begins neither stands for itself, as in the example of Prometheus' own documentation.
fn unescape(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once('_') {
        out.push_str(before);
        let escaped = after
            .split_once('_')
            .filter(|(hex, _)| (1..=6).contains(&hex.len()))
            .and_then(|(hex, end)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, end)));
        rest = match (after.strip_prefix('_'), escaped) {
            (Some(end), _) => {
                out.push('_');
                end
            }
            (None, Some((character, end))) => {
                out.push(character);
                end
            }
            (None, None) => {
                out.push('_');
                after
            }
        };
    }
    out.push_str(rest);
    out
}

fn label_map(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().collect()
}

/// `/api/v1/series`
pub async fn series(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let request = list_request(&app, auth, freshness, &params)?;
    let queries = &app.backend()?.queries;
    let (series, is_cut) = queries
        .run(asked(&request, "series"), CancelFlag::default(), move |engine, _| async move {
            engine.series(&request).await
        })
        .await?;
    let rows: Vec<BTreeMap<&str, &str>> = series.iter().map(label_map).collect();
    Ok(list_answer(&json!(rows), is_cut))
}

/// `/api/v1/metadata`
pub async fn metadata(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let metric = params.get("metric").map(str::to_owned);
    let max_metrics = params.number::<usize>("limit")?.unwrap_or(usize::MAX);
    let max_entries = params.number::<usize>("limit_per_metric")?.filter(|n| *n > 0).unwrap_or(usize::MAX);
    let request = ListRequest { consistency: freshness.0, ..ListRequest::all(auth.tenant) };
    let queries = &app.backend()?.queries;
    let all = queries
        .run(asked(&request, "metadata"), CancelFlag::default(), move |engine, _| async move {
            engine.metadata(&request, metric.as_deref()).await
        })
        .await?;
    let mut families: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in all {
        if families.len() >= max_metrics && !families.contains_key(&entry.family) {
            continue;
        }
        let entries = families.entry(entry.family).or_default();
        if entries.len() < max_entries {
            entries.push(json!({"type": entry.kind, "help": entry.help, "unit": entry.unit}));
        }
    }
    Ok(success(&families))
}

/// `/api/v1/query_exemplars`
pub async fn query_exemplars(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let text = params.required("query")?.to_owned();
    let request = list_request(&app, auth, freshness, &params)?;
    let queries = &app.backend()?.queries;
    let found = queries
        .run(
            Asked::list(&request.tenant, "query_exemplars", text.clone()),
            CancelFlag::default(),
            move |engine, _| async move { engine.exemplars(&request, &text).await },
        )
        .await?;
    let rows: Vec<Value> = found
        .iter()
        .map(|series| {
            let exemplars: Vec<Value> = series
                .exemplars
                .iter()
                .map(|exemplar| {
                    json!({
                        "labels": label_map(&exemplar.labels),
                        "value": format_value(exemplar.value),
                        "timestamp": exemplar.timestamp as f64 / 1000.0,
                    })
                })
                .collect();
            json!({"seriesLabels": label_map(&series.labels), "exemplars": exemplars})
        })
        .collect();
    Ok(success(&rows))
}

fn parsed(params: &Params) -> Result<Expr, ApiError> {
    parse(params.required("query")?)
        .map_err(|error| ApiError::bad_data(format!("invalid parameter \"query\": {error}")))
}

/// `/api/v1/format_query`
pub async fn format_query(params: Params) -> Result<Response, ApiError> {
    Ok(success(&pretty(&parsed(&params)?)))
}

/// `/api/v1/parse_query`
pub async fn parse_query(params: Params) -> Result<Response, ApiError> {
    Ok(success(&tree(&parsed(&params)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names() {
        assert_eq!(unescape("U__http_2e_status__code"), "http.status_code");
        assert_eq!(unescape("U__http_2e_status_code"), "http.status_code");
        assert_eq!(unescape("U__a__b"), "a_b");
        assert_eq!(unescape("U__a_zz_b"), "a_zz_b");
        assert_eq!(unescape("U__a_2e"), "a_2e");
        assert_eq!(unescape("job_2e_x"), "job_2e_x");
    }
}
