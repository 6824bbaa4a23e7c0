//! Prometheus' HTTP API for reading: parameters in, envelope out. What they mean is in `query`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use query::engine::{ListRequest, SeriesExemplarList};
use query::format::format_value;
use query::promql::ast::Expr;
use query::promql::parser::{parse, parse_selector};
use query::promql::printer::pretty;
use query::promql::tree::tree;
use query::source::{Exemplar, TimeRange};
use query::{CancelFlag, Engine, QueryError, QueryKind, QueryRequest, QueryResult};
use serde::Serialize;
use serde_json::{Value, json};

use super::active::{Asked, Notes};
use super::envelope::{raw_json, success_text};
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
        features: Some(app.config.features_of(auth.tenant.as_str())),
        tenant: auth.tenant,
        kind,
        consistency: freshness.0,
        lookback: duration(params, "lookback_delta")?,
        timeout: duration(params, "timeout")?,
        explain,
        use_cache: params.get("nocache").is_none_or(|value| matches!(value, "0" | "false")),
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

/// Selectors that a request may unite; dashboards send a few.
const MAX_SELECTORS: usize = 64;

/// The selectors of a request, as text: they are parsed where queries are evaluated, since compiling their regular
/// expressions takes time.
#[derive(Debug)]
pub(super) struct Selectors(Vec<String>);

impl Selectors {
    /// The `match[]` parameters.
    pub(super) fn of(params: &Params) -> Result<Self, ApiError> {
        let texts: Vec<String> = params.all("match[]").map(str::to_owned).collect();
        if texts.len() > MAX_SELECTORS {
            let message = format!("{} match[] parameters are more than {MAX_SELECTORS}", texts.len());
            return Err(ApiError::bad_data(message));
        }
        Ok(Self(texts))
    }

    /// For the list of running queries.
    pub(super) fn text(&self) -> String {
        self.0.join(", ")
    }

    /// To be called on the threads of queries.
    pub(super) fn parsed(&self) -> Result<Vec<Vec<Matcher>>, QueryError> {
        let selector = |text: &String| {
            parse_selector(text)
                .map_err(|e| QueryError::BadParameter(format!("invalid parameter \"match[]\": {e}")))
        };
        self.0.iter().map(selector).collect()
    }
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

/// A list as it was asked for.
pub(super) struct List {
    selectors: Selectors,
    request: ListRequest,
}

impl List {
    pub(super) fn of(
        app: &App,
        auth: AuthContext,
        freshness: Freshness,
        params: &Params,
    ) -> Result<Self, ApiError> {
        let selectors = Selectors::of(params)?;
        let range = TimeRange {
            start: params.time_ms("start")?.unwrap_or(TimeRange::ALL.start),
            end: params.time_ms("end")?.unwrap_or(TimeRange::ALL.end),
        };
        if params.get("start").is_some() && params.get("end").is_some() && range.end < range.start {
            return Err(ApiError::bad_data(
                "invalid parameter \"end\": end timestamp must not be before start time",
            ));
        }
        let request = ListRequest {
            range,
            limit: limit(params)?,
            consistency: freshness.0,
            timeout: app.config.query.timeout.0,
            ..ListRequest::all(auth.tenant)
        };
        Ok(Self { selectors, request })
    }

    /// Without its limit.
    pub(super) fn unlimited(mut self) -> Self {
        self.request.limit = 0;
        self
    }

    pub(super) fn asked(&self, what: &'static str) -> Asked {
        Asked::list(&self.request.tenant, what, self.selectors.text())
    }

    /// The request with its selectors. To be called on the threads of queries.
    pub(super) fn parsed(self) -> Result<ListRequest, QueryError> {
        Ok(ListRequest { selectors: self.selectors.parsed()?, ..self.request })
    }
}

/// Asks the engine and writes the answer on the threads of queries: lists may be as long as there are series.
pub(super) async fn answer<F>(
    app: &App,
    asked: Asked,
    ask: impl FnOnce(Engine) -> F + Send + 'static,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Vec<u8>, QueryError>> + Send + 'static,
{
    let queries = &app.backend()?.queries;
    Ok(raw_json(queries.run(asked, CancelFlag::default(), move |engine, _| ask(engine)).await?))
}

fn list_text(data: &impl Serialize, is_cut: bool) -> Vec<u8> {
    let warnings = if is_cut { vec![CUT.to_owned()] } else { Vec::new() };
    success_text(data, &warnings)
}

/// `/api/v1/labels`
pub async fn labels(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let list = List::of(&app, auth, freshness, &params)?;
    answer(&app, list.asked("labels"), move |engine| async move {
        let (names, is_cut) = engine.label_names(&list.parsed()?).await?;
        Ok(list_text(&names, is_cut))
    })
    .await
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
    let list = List::of(&app, auth, freshness, &params)?;
    answer(&app, list.asked("label values"), move |engine| async move {
        let (values, is_cut) = engine.label_values(&list.parsed()?, &name).await?;
        Ok(list_text(&values, is_cut))
    })
    .await
}

/// Label names that no URL or identifier takes arrive as `U__` with each odd character as `_hex_` and `_` as `__`. An
/// underscore that begins neither stands for itself, as in the example of Prometheus' own documentation.
pub(super) fn unescape(name: &str) -> String {
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
    let list = List::of(&app, auth, freshness, &params)?;
    answer(&app, list.asked("series"), move |engine| async move {
        let (series, is_cut) = engine.series(&list.parsed()?).await?;
        let rows: Vec<BTreeMap<&str, &str>> = series.iter().map(label_map).collect();
        Ok(list_text(&rows, is_cut))
    })
    .await
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
    let asked = Asked::list(&request.tenant, "metadata", metric.clone().unwrap_or_default());
    answer(&app, asked, move |engine| async move {
        let mut families: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for entry in engine.metadata(&request, metric.as_deref()).await? {
            if families.len() >= max_metrics && !families.contains_key(&entry.family) {
                continue;
            }
            let entries = families.entry(entry.family).or_default();
            if entries.len() < max_entries {
                entries.push(json!({"type": entry.kind, "help": entry.help, "unit": entry.unit}));
            }
        }
        Ok(success_text(&families, &[]))
    })
    .await
}

/// `/api/v1/query_exemplars`
pub async fn query_exemplars(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let text = params.required("query")?.to_owned();
    let list = List::of(&app, auth, freshness, &params)?;
    let asked = Asked::list(&list.request.tenant, "query_exemplars", text.clone());
    answer(&app, asked, move |engine| async move {
        let found = engine.exemplars(&list.parsed()?, &text).await?;
        let exemplar = |exemplar: &Exemplar| {
            json!({
                "labels": label_map(&exemplar.labels),
                "value": format_value(exemplar.value),
                "timestamp": exemplar.timestamp as f64 / 1000.0,
            })
        };
        let row = |series: &SeriesExemplarList| {
            let exemplars: Vec<Value> = series.exemplars.iter().map(exemplar).collect();
            json!({"seriesLabels": label_map(&series.labels), "exemplars": exemplars})
        };
        Ok(success_text(&found.iter().map(row).collect::<Vec<Value>>(), &[]))
    })
    .await
}

/// Parses `query` and shows it, on the threads of queries.
async fn shown<T: Serialize>(
    app: &App,
    auth: &AuthContext,
    params: &Params,
    what: &'static str,
    show: impl FnOnce(&Expr) -> T + Send + 'static,
) -> Result<Response, ApiError> {
    let text = params.required("query")?.to_owned();
    answer(app, Asked::list(&auth.tenant, what, text.clone()), move |_| async move {
        let expr = parse(&text)
            .map_err(|error| QueryError::BadParameter(format!("invalid parameter \"query\": {error}")))?;
        Ok(success_text(&show(&expr), &[]))
    })
    .await
}

/// `/api/v1/format_query`
pub async fn format_query(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    params: Params,
) -> Result<Response, ApiError> {
    shown(&app, &auth, &params, "format_query", pretty).await
}

/// `/api/v1/parse_query`
pub async fn parse_query(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    params: Params,
) -> Result<Response, ApiError> {
    shown(&app, &auth, &params, "parse_query", tree).await
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
