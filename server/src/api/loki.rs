//! Loki's query API: what Grafana's data source, its Explore and Logs Drilldown ask, answered in Loki's shapes.
//!
//! ```text
//! query, query_range   {"status","data":{"resultType":"streams|matrix|vector|scalar","result":[...],"stats":{...}}}
//! labels, values, series, patterns   {"status","data":[...]}
//! index/stats, detected_*            without an envelope
//! ```
//!
//! Errors are plain text, as Loki's. Times are nanoseconds, seconds or RFC 3339; the end of a range of lines does not
//! belong to it, that of a range of numbers does. With `X-Loki-Response-Encoding-Flags: categorize-labels`, labels of a
//! line come by where they are from; without it, all of them make a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{MatchedPath, Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use query::format::format_value;
use query::logs::engine::LogQuery;
use query::logs::logql::engine::{LogLine, LogqlAnswer, LogqlRequest, MAX_LINES, MAX_SERIES, Volume, When};
use query::logs::logql::eval::Series;
use query::logs::logql::labels::{LabelSet, label_name};
use query::logs::logql::{self, Expr, LogExpr};
use query::{Engine, QueryError};
use serde_json::{Map, Value, json};

use super::active::{Asked, Notes};
use super::envelope::{json_response, raw_json};
use super::logs::{duration_ns, range_ns, time_ns};
use super::read::Freshness;
use super::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ns;

const SECOND_NS: i64 = 1_000_000_000;

/// Lines that are given where a request does not say.
const DEFAULT_LINES: usize = 100;

/// Lines that fields are looked for in.
const DEFAULT_LINE_LIMIT: usize = 1000;

/// Fields, or values of one, that are given where a request does not say.
const DEFAULT_FIELDS: usize = 1000;

/// Steps of a range where a request does not say how long one is.
const DEFAULT_STEPS: i64 = 250;

/// A failure as Loki tells it: its message as text.
#[derive(Debug)]
pub struct LokiError(ApiError);

impl From<ApiError> for LokiError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for LokiError {
    fn into_response(self) -> Response {
        let message = self.0.to_string();
        let mut response = self.0.into_response();
        // The body goes, and with it what describes it; the status and when to come again stay.
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.remove(header::CONTENT_LENGTH);
        let (parts, _) = response.into_parts();
        Response::from_parts(parts, format!("{message}\n").into())
    }
}

type Answer = Result<Response, LokiError>;

/// What a request is about.
struct Request {
    query: LogQuery,
    what: &'static str,
}

impl Request {
    fn new(
        auth: AuthContext,
        freshness: Freshness,
        what: &'static str,
        text: impl Into<String>,
        (start_ns, end_ns): (i64, i64),
    ) -> Self {
        let query =
            LogQuery { consistency: freshness.0, ..LogQuery::new(auth.tenant, text, start_ns, end_ns) };
        Self { query, what }
    }

    /// Asks the engine on the threads of queries, which also write the answer.
    async fn answer<F>(
        self,
        app: &App,
        ask: impl FnOnce(Engine, LogQuery, Arc<Notes>) -> F + Send + 'static,
    ) -> Answer
    where
        F: Future<Output = Result<Value, QueryError>> + Send + 'static,
    {
        let ms = |ns: i64| ns.div_euclid(1_000_000);
        let times = (ms(self.query.start_ns), ms(self.query.end_ns), 0);
        let asked = Asked::query(&self.query.tenant, self.what, &self.query.text, times);
        let (queries, cancel) = (&app.backend()?.queries, self.query.cancel.clone());
        let body = queries
            .run(asked, cancel, move |engine, notes| async move {
                Ok(ask(engine, self.query, notes).await?.to_string())
            })
            .await?;
        Ok(raw_json(body))
    }
}

/// A range whose end does not belong to it, with both ends inclusive.
fn half_open((start, end): (i64, i64)) -> (i64, i64) {
    (start, end.saturating_sub(1))
}

fn labels_json(labels: &LabelSet) -> Value {
    Value::Object(labels.0.iter().map(|(name, value)| (name.clone(), json!(value))).collect())
}

fn success(data: Value) -> Value {
    json!({"status": "success", "data": data})
}

/// Lines by label set, in the order in which sets come first.
pub(super) fn streams_json(lines: &[LogLine], categorize: bool) -> Value {
    let mut order: Vec<LabelSet> = Vec::new();
    let mut by_set: BTreeMap<LabelSet, Vec<Value>> = BTreeMap::new();
    for line in lines {
        let labels = if categorize { line.labels.stream.clone() } else { line.labels.all() };
        if !by_set.contains_key(&labels) {
            order.push(labels.clone());
        }
        let mut value = vec![json!(line.time_ns.to_string()), json!(line.line)];
        if categorize {
            let mut categories = Map::new();
            for (name, set) in
                [("structuredMetadata", &line.labels.metadata), ("parsed", &line.labels.parsed)]
            {
                if !set.0.is_empty() {
                    categories.insert(name.to_owned(), labels_json(set));
                }
            }
            value.push(Value::Object(categories));
        }
        by_set.entry(labels).or_default().push(Value::Array(value));
    }
    let stream = |labels: LabelSet| {
        let values = by_set.remove(&labels).unwrap_or_default();
        json!({"stream": labels_json(&labels), "values": values})
    };
    Value::Array(order.into_iter().map(stream).collect())
}

fn seconds(ns: i64) -> Value {
    match ns % SECOND_NS {
        0 => json!(ns / SECOND_NS),
        _ => json!(ns.div_euclid(1_000_000) as f64 / 1000.0),
    }
}

/// The members of an answer that say what it is.
fn data_json(answer: &LogqlAnswer, categorize: bool) -> Value {
    let (kind, result) = match answer {
        LogqlAnswer::Lines(lines) => ("streams", streams_json(lines, categorize)),
        LogqlAnswer::Matrix(steps, series) => {
            let points = |series: &Series| {
                let values: Vec<Value> = series
                    .values
                    .iter()
                    .enumerate()
                    .filter_map(|(step, value)| {
                        Some(json!([seconds(steps.at(step)), format_value((*value)?)]))
                    })
                    .collect();
                (!values.is_empty()).then(|| json!({"metric": labels_json(&series.labels), "values": values}))
            };
            ("matrix", Value::Array(series.iter().filter_map(points).collect()))
        }
        LogqlAnswer::Vector(at, series) => {
            let sample = |series: &Series| {
                let value = series.values.first().copied().flatten()?;
                Some(
                    json!({"metric": labels_json(&series.labels), "value": [seconds(*at), format_value(value)]}),
                )
            };
            ("vector", Value::Array(series.iter().filter_map(sample).collect()))
        }
        LogqlAnswer::Scalar(at, value) => ("scalar", json!([seconds(*at), format_value(*value)])),
    };
    let mut data = json!({"resultType": kind, "result": result});
    if categorize && matches!(answer, LogqlAnswer::Lines(_)) {
        data["encodingFlags"] = json!(["categorize-labels"]);
    }
    data
}

/// Whether the client wants labels by where they are from.
fn wants_categories(headers: &HeaderMap) -> bool {
    let flags = headers.get("x-loki-response-encoding-flags").and_then(|value| value.to_str().ok());
    flags.is_some_and(|flags| flags.split(',').any(|flag| flag.trim() == "categorize-labels"))
}

pub(super) fn limit(params: &Params, default: usize) -> Result<usize, ApiError> {
    Ok(params.number::<usize>("limit")?.unwrap_or(default))
}

fn is_newest_first(params: &Params) -> Result<bool, ApiError> {
    match params.get("direction").map(str::to_ascii_lowercase).as_deref() {
        None | Some("backward") => Ok(true),
        Some("forward") => Ok(false),
        Some(other) => Err(ApiError::bad_data(format!("invalid direction '{other}'"))),
    }
}

async fn evaluate(app: &App, request: Request, when: When, params: &Params, headers: &HeaderMap) -> Answer {
    let limit = limit(params, DEFAULT_LINES)?;
    let newest_first = is_newest_first(params)?;
    let interval = duration_ns(params, "interval")?.unwrap_or(0);
    let categorize = wants_categories(headers);
    request
        .answer(app, move |engine, query, notes| async move {
            let begun = std::time::Instant::now();
            let mut answer = engine.logql(&LogqlRequest { query, when, limit, newest_first }).await?;
            let mut returned = 0;
            if let LogqlAnswer::Lines(lines) = &mut answer {
                thin_out(lines, interval);
                returned = lines.len();
                notes.count(returned as u64);
            }
            let mut data = data_json(&answer, categorize);
            data["stats"] = json!({"summary": {
                "execTime": begun.elapsed().as_secs_f64(),
                "queueTime": notes.queued_micros() as f64 / 1e6,
                "totalEntriesReturned": returned,
            }});
            Ok(success(data))
        })
        .await
}

/// Keeps lines that are at least so far from the one kept before.
fn thin_out(lines: &mut Vec<LogLine>, interval_ns: i64) {
    let mut last: Option<i64> = None;
    lines.retain(|line| {
        let keeps = interval_ns <= 0
            || last.is_none_or(|last| line.time_ns.abs_diff(last) >= interval_ns.unsigned_abs());
        if keeps {
            last = Some(line.time_ns);
        }
        keeps
    });
}

/// `/loki/api/v1/query`
pub async fn query(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    headers: HeaderMap,
    params: Params,
) -> Answer {
    let at = time_ns(&params, "time")?.unwrap_or_else(now_ns);
    let text = params.required("query")?.to_owned();
    let request = Request::new(auth, freshness, "loki query", text, (at, at));
    evaluate(&app, request, When::Once, &params, &headers).await
}

/// Distance of steps.
fn step_ns(params: &Params, (start, end): (i64, i64)) -> Result<i64, ApiError> {
    let width = end.saturating_sub(start) / DEFAULT_STEPS;
    let default = (width.saturating_add(SECOND_NS - 1) / SECOND_NS).max(1).saturating_mul(SECOND_NS);
    Ok(duration_ns(params, "step")?.unwrap_or(default))
}

/// `/loki/api/v1/query_range`
pub async fn query_range(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    headers: HeaderMap,
    params: Params,
) -> Answer {
    let text = params.required("query")?.to_owned();
    let range = range_ns(&params)?;
    let step_ns = step_ns(&params, range)?;
    // Lines up to the end, numbers at the end, too. What does not parse is told when it is evaluated.
    let is_log = matches!(logql::parse(&text), Ok(Expr::Log(_)));
    let range = if is_log { half_open(range) } else { range };
    let request = Request::new(auth, freshness, "loki query_range", text, range);
    evaluate(&app, request, When::Every { step_ns }, &params, &headers).await
}

/// Selectors of a request: `query` or `match[]`.
fn selectors(params: &Params, names: &[&str]) -> Vec<String> {
    let all = names.iter().flat_map(|name| params.all(name)).filter(|text| !text.is_empty());
    all.map(str::to_owned).collect()
}

/// `/loki/api/v1/labels`
pub async fn labels(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let selectors = selectors(&params, &["query"]);
    let request = Request::new(auth, freshness, "loki labels", selectors.join(", "), range_ns(&params)?);
    request
        .answer(&app, move |engine, query, _| async move {
            let streams = engine.logql_streams(&query, &selectors).await?;
            let names: BTreeSet<&str> =
                streams.iter().flat_map(|labels| labels.0.iter().map(|(name, _)| name.as_str())).collect();
            Ok(success(json!(names)))
        })
        .await
}

fn path(name: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    name.map(|Path(name)| name).map_err(|error| ApiError::bad_data(format!("name in the path: {error}")))
}

/// `/loki/api/v1/label/{name}/values`
pub async fn label_values(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let name = path(name)?;
    let selectors = selectors(&params, &["query"]);
    let request =
        Request::new(auth, freshness, "loki label values", selectors.join(", "), range_ns(&params)?);
    request
        .answer(&app, move |engine, query, _| async move {
            let streams = engine.logql_streams(&query, &selectors).await?;
            let values: BTreeSet<&str> =
                streams.iter().map(|labels| labels.get(&name)).filter(|value| !value.is_empty()).collect();
            Ok(success(json!(values)))
        })
        .await
}

/// `/loki/api/v1/series`
pub async fn series(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let selectors = selectors(&params, &["match", "match[]"]);
    let request = Request::new(auth, freshness, "loki series", selectors.join(", "), range_ns(&params)?);
    request
        .answer(&app, move |engine, query, _| async move {
            let streams = engine.logql_streams(&query, &selectors).await?;
            Ok(success(streams.iter().map(labels_json).collect()))
        })
        .await
}

/// `/loki/api/v1/index/stats`
pub async fn index_stats(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let selector = params.required("query")?.to_owned();
    let request = Request::new(auth, freshness, "loki index stats", selector.clone(), range_ns(&params)?);
    request
        .answer(&app, move |engine, query, notes| async move {
            let volumes = engine.logql_volume(&query, &selector_of(&selector)?, 0).await?;
            let (mut entries, mut bytes) = (0, 0);
            for (records, size) in volumes.iter().flat_map(|volume| volume.buckets.values()) {
                entries += records;
                bytes += size;
            }
            notes.count(entries);
            // A stream is not cut into chunks here: it counts as one.
            Ok(json!({"streams": volumes.len(), "chunks": volumes.len(), "entries": entries, "bytes": bytes}))
        })
        .await
}

/// The selector of a query, whatever its stages are.
fn selector_of(text: &str) -> Result<String, QueryError> {
    if text.trim() == "{}" {
        return Ok(text.to_owned());
    }
    let log = logql::parse_log(text)?;
    Ok(LogExpr { stages: Vec::new(), ..log }.to_string())
}

/// Sizes of streams put together by some labels, or by the labels of the selector.
fn by_labels(
    volumes: Vec<Volume>,
    selector: &str,
    targets: &[String],
    by_name: bool,
) -> Result<BTreeMap<LabelSet, BTreeMap<u64, u64>>, QueryError> {
    let named: Vec<String> = match targets.is_empty() {
        false => targets.to_vec(),
        true if selector.trim() == "{}" => Vec::new(),
        true => logql::parse_log(selector)?.matchers.into_iter().map(|matcher| matcher.name).collect(),
    };
    let mut out: BTreeMap<LabelSet, BTreeMap<u64, u64>> = BTreeMap::new();
    for volume in volumes {
        let chosen = volume.labels.filtered(|name| named.is_empty() || named.iter().any(|n| n == name));
        let keys: Vec<LabelSet> = match by_name {
            // One row for each label that is there, named like it.
            true => chosen.0.iter().map(|(name, _)| LabelSet(vec![(name.clone(), name.clone())])).collect(),
            false => vec![chosen],
        };
        for key in keys {
            let buckets = out.entry(key).or_default();
            for (bucket, (_, bytes)) in &volume.buckets {
                *buckets.entry(*bucket).or_default() += bytes;
            }
        }
    }
    Ok(out)
}

/// `/loki/api/v1/index/volume`, and `/loki/api/v1/index/volume_range`, which also says when.
pub async fn index_volume(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    path: MatchedPath,
    params: Params,
) -> Answer {
    let is_range = path.as_str().ends_with("_range");
    let selector = params.required("query")?.to_owned();
    let limit = limit(&params, DEFAULT_LINES)?;
    let targets: Vec<String> = params
        .get("targetLabels")
        .map(|names| names.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    let by_name = match params.get("aggregateBy") {
        None | Some("series") => false,
        Some("labels") => true,
        Some(other) => return Err(ApiError::bad_data(format!("invalid aggregation option {other:?}")).into()),
    };
    let range = range_ns(&params)?;
    let step = if is_range { step_ns(&params, range)? } else { 0 };
    let what = if is_range { "loki volume_range" } else { "loki volume" };
    let request = Request::new(auth, freshness, what, selector.clone(), half_open(range));
    request
        .answer(&app, move |engine, query, _| async move {
            let volumes = engine.logql_volume(&query, &selector_of(&selector)?, step).await?;
            let rows = by_labels(volumes, &selector, &targets, by_name)?;
            let mut rows: Vec<(LabelSet, BTreeMap<u64, u64>)> = rows.into_iter().collect();
            rows.sort_by_key(|(_, buckets)| std::cmp::Reverse(buckets.values().sum::<u64>()));
            rows.truncate(limit);
            let row = |(labels, buckets): &(LabelSet, BTreeMap<u64, u64>)| {
                let metric = labels_json(labels);
                if !is_range {
                    let bytes: u64 = buckets.values().sum();
                    return json!({"metric": metric, "value": [seconds(range.1), bytes.to_string()]});
                }
                // A bucket is shown where it ends.
                let at = |bucket: u64| {
                    let end = i128::from(range.0) + (i128::from(bucket) + 1) * i128::from(step);
                    seconds(end.min(i128::from(i64::MAX)) as i64)
                };
                let values: Vec<Value> =
                    buckets.iter().map(|(b, bytes)| json!([at(*b), bytes.to_string()])).collect();
                json!({"metric": metric, "values": values})
            };
            let kind = if is_range { "matrix" } else { "vector" };
            Ok(success(json!({"resultType": kind, "result": rows.iter().map(row).collect::<Vec<_>>()})))
        })
        .await
}

/// `/loki/api/v1/detected_labels`
pub async fn detected_labels(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let selectors = selectors(&params, &["query"]);
    let request =
        Request::new(auth, freshness, "loki detected_labels", selectors.join(", "), range_ns(&params)?);
    request
        .answer(&app, move |engine, query, _| async move {
            let streams = engine.logql_streams(&query, &selectors).await?;
            let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (name, value) in streams.iter().flat_map(|labels| &labels.0) {
                values.entry(name).or_default().insert(value);
            }
            let row = |(name, values): (&&str, &BTreeSet<&str>)| json!({"label": name, "cardinality": values.len()});
            Ok(json!({"detectedLabels": values.iter().map(row).collect::<Vec<_>>()}))
        })
        .await
}

/// A field that was found in lines.
#[derive(Default)]
struct Detected {
    values: BTreeSet<String>,
    parsers: BTreeSet<&'static str>,
}

/// The kind of a field's values, as Loki names them.
fn detected_type(values: &BTreeSet<String>) -> &'static str {
    let all = |test: &dyn Fn(&str) -> bool| values.iter().all(|value| test(value));
    if all(&|text| text.parse::<i64>().is_ok()) {
        "int"
    } else if all(&|text| text.parse::<f64>().is_ok()) {
        "float"
    } else if all(&|text| matches!(text, "true" | "false")) {
        "boolean"
    } else if all(&|text| logql::units::parse_duration(text, false).is_some()) {
        "duration"
    } else if all(&|text| logql::units::parse_bytes(text).is_some()) {
        "bytes"
    } else {
        "string"
    }
}

/// Fields of lines: structured metadata, what the query parses, and what JSON and logfmt would find.
async fn detect(
    engine: &Engine,
    query: LogQuery,
    line_limit: usize,
) -> Result<BTreeMap<String, Detected>, QueryError> {
    let log = logql::parse_log(&query.text)?;
    let ask = async |suffix: &str| {
        let query = LogQuery { text: format!("{log}{suffix}"), ..query.clone() };
        let request = LogqlRequest {
            query,
            when: When::Every { step_ns: SECOND_NS },
            limit: line_limit,
            newest_first: true,
        };
        match engine.logql(&request).await? {
            LogqlAnswer::Lines(lines) => Ok::<_, QueryError>(lines),
            _ => Ok(Vec::new()),
        }
    };
    let mut found: BTreeMap<String, Detected> = BTreeMap::new();
    let mut add = |name: &str, value: &str, parser: Option<&'static str>| {
        if !name.starts_with("__") {
            let field = found.entry(name.to_owned()).or_default();
            field.values.insert(value.to_owned());
            field.parsers.extend(parser);
        }
    };
    for line in ask("").await? {
        for (name, value) in line.labels.metadata.0.iter().chain(&line.labels.parsed.0) {
            add(name, value, None);
        }
    }
    for (suffix, parser) in [(" | json | __error__=\"\"", "json"), (" | logfmt", "logfmt")] {
        for line in ask(suffix).await? {
            // A line of JSON has pairs for logfmt only by accident.
            if parser == "logfmt" && line.line.trim_start().starts_with('{') {
                continue;
            }
            for (name, value) in &line.labels.parsed.0 {
                add(name, value, Some(parser));
            }
        }
    }
    Ok(found)
}

/// `/loki/api/v1/detected_fields`
pub async fn detected_fields(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let text = params.required("query")?.to_owned();
    let line_limit = params.number::<usize>("line_limit")?.unwrap_or(DEFAULT_LINE_LIMIT);
    let limit = limit(&params, DEFAULT_FIELDS)?;
    let request = Request::new(auth, freshness, "loki detected_fields", text, half_open(range_ns(&params)?));
    request
        .answer(&app, move |engine, query, _| async move {
            let found = detect(&engine, query, line_limit).await?;
            let row = |(name, field): (&String, &Detected)| {
                let parsers: Option<Vec<&str>> =
                    (!field.parsers.is_empty()).then(|| field.parsers.iter().copied().collect());
                json!({
                    "label": name,
                    "type": detected_type(&field.values),
                    "cardinality": field.values.len(),
                    "parsers": parsers,
                })
            };
            let fields: Vec<Value> = found.iter().take(limit).map(row).collect();
            Ok(json!({"fields": fields, "limit": limit}))
        })
        .await
}

/// `/loki/api/v1/detected_field/{name}/values`
pub async fn detected_field_values(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let name = path(name)?;
    let text = params.required("query")?.to_owned();
    let line_limit = params.number::<usize>("line_limit")?.unwrap_or(DEFAULT_LINE_LIMIT);
    let limit = limit(&params, DEFAULT_FIELDS)?;
    let request = Request::new(auth, freshness, "loki detected_field", text, half_open(range_ns(&params)?));
    request
        .answer(&app, move |engine, query, _| async move {
            let mut found = detect(&engine, query, line_limit).await?;
            let values = found.remove(label_name(&name).as_ref()).unwrap_or_default().values;
            Ok(json!({"values": values.into_iter().take(limit).collect::<Vec<_>>(), "limit": limit}))
        })
        .await
}

/// `/loki/api/v1/patterns`
pub async fn patterns(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Answer {
    let text = params.required("query")?.to_owned();
    let range = range_ns(&params)?;
    let step = step_ns(&params, range)?;
    let limit = limit(&params, DEFAULT_FIELDS)?;
    let request = Request::new(auth, freshness, "loki patterns", text, half_open(range));
    request
        .answer(&app, move |engine, query, _| async move {
            let found = engine.logql_patterns(&query, step, limit).await?;
            let rows = found.patterns.iter().map(|pattern| {
                let at = |bucket: u64| {
                    (i128::from(range.0) + i128::from(bucket) * i128::from(step)) / 1_000_000_000
                };
                let samples: Vec<Value> = pattern
                    .buckets
                    .iter()
                    .map(|(bucket, count)| json!([at(*bucket) as i64, count]))
                    .collect();
                json!({"pattern": pattern.template, "samples": samples})
            });
            Ok(success(rows.collect()))
        })
        .await
}

/// `/loki/api/v1/format_query`
pub async fn format_query(params: Params) -> Answer {
    let expr =
        logql::parse(params.required("query")?).map_err(|error| ApiError::bad_data(error.to_string()))?;
    Ok(json_response(&success(json!(expr.to_string()))))
}

/// `/loki/api/v1/status/buildinfo`
pub async fn build_info() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    json_response(
        &json!({"version": version, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}),
    )
}

/// `/loki/api/v1/drilldown-limits`
pub async fn drilldown_limits() -> Response {
    json_response(&json!({
        "limits": {
            "discover_log_levels": true,
            "max_entries_limit_per_query": MAX_LINES,
            "max_query_series": MAX_SERIES,
            "volume_enabled": true,
        },
        "pattern_ingester_enabled": true,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

#[cfg(test)]
mod tests {
    use protocol::ids::ShardId;
    use query::logs::Place;
    use query::logs::logql::engine::SplitLabels;

    use super::*;

    fn set(pairs: &[(&str, &str)]) -> LabelSet {
        LabelSet::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn line(time_ns: i64, text: &str, user: &str) -> LogLine {
        let labels = SplitLabels {
            stream: set(&[("app", "a")]),
            metadata: set(&[("user", user)]),
            parsed: set(&[("status", "200")]),
        };
        let place = Place { time_ns, shard: ShardId(1), ordinal: 0 };
        LogLine { labels: Arc::new(labels), time_ns, line: text.to_owned(), place }
    }

    #[test]
    fn lines_as_grafana_reads_them() {
        let answer = LogqlAnswer::Lines(vec![line(3, "c", "u"), line(2, "b", "v"), line(1, "a", "u")]);
        let expected = json!({"resultType": "streams", "result": [
            {"stream": {"app": "a", "status": "200", "user": "u"}, "values": [["3", "c"], ["1", "a"]]},
            {"stream": {"app": "a", "status": "200", "user": "v"}, "values": [["2", "b"]]},
        ]});
        assert_eq!(data_json(&answer, false), expected);
        let expected = json!({"resultType": "streams", "encodingFlags": ["categorize-labels"], "result": [
            {"stream": {"app": "a"}, "values": [
                ["3", "c", {"structuredMetadata": {"user": "u"}, "parsed": {"status": "200"}}],
                ["2", "b", {"structuredMetadata": {"user": "v"}, "parsed": {"status": "200"}}],
                ["1", "a", {"structuredMetadata": {"user": "u"}, "parsed": {"status": "200"}}],
            ]},
        ]});
        assert_eq!(data_json(&answer, true), expected);
    }

    #[test]
    fn numbers_as_grafana_reads_them() {
        let series =
            |values: &[Option<f64>]| Series { labels: set(&[("app", "a")]), values: values.to_vec() };
        let vector =
            LogqlAnswer::Vector(1_500_000_000_000_000_000, vec![series(&[Some(2.0)]), series(&[None])]);
        let expected = json!({"resultType": "vector", "result": [{"metric": {"app": "a"}, "value": [1_500_000_000, "2"]}]});
        assert_eq!(data_json(&vector, true), expected);
        let scalar = LogqlAnswer::Scalar(1_500_000_000_500_000_000, 0.5);
        assert_eq!(
            data_json(&scalar, false),
            json!({"resultType": "scalar", "result": [1_500_000_000.5, "0.5"]})
        );
    }

    #[test]
    fn thinning_out() {
        let mut lines: Vec<LogLine> = [10, 12, 15, 16, 30].iter().map(|at| line(*at, "x", "u")).collect();
        thin_out(&mut lines, 5);
        assert_eq!(lines.iter().map(|line| line.time_ns).collect::<Vec<_>>(), [10, 15, 30]);
        thin_out(&mut lines, 0);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn sizes_by_labels() {
        let volume = |app: &str, env: &str, bytes: u64| Volume {
            labels: set(&[("app", app), ("env", env)]),
            buckets: BTreeMap::from([(0, (1, bytes))]),
        };
        let volumes = || vec![volume("a", "x", 5), volume("a", "y", 6), volume("b", "x", 7)];
        let sums = |targets: &[String], by_name| -> Vec<(String, u64)> {
            let found = by_labels(volumes(), "{app=~\".+\"}", targets, by_name).expect("a selector");
            found.into_iter().map(|(labels, buckets)| (labels.to_string(), buckets.values().sum())).collect()
        };
        let owned =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(l, n)| ((*l).to_owned(), *n)).collect::<Vec<_>>();
        assert_eq!(sums(&[], false), owned(&[("{app=\"a\"}", 11), ("{app=\"b\"}", 7)]));
        assert_eq!(sums(&["env".to_owned()], false), owned(&[("{env=\"x\"}", 12), ("{env=\"y\"}", 6)]));
        assert_eq!(
            sums(&["env".to_owned(), "app".to_owned()], true),
            owned(&[("{app=\"app\"}", 18), ("{env=\"env\"}", 18)])
        );
    }

    #[test]
    fn types_of_fields() {
        let check = |values: &[&str], expected: &str| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            assert_eq!(detected_type(&values), expected, "{values:?}");
        };
        check(&["1", "2"], "int");
        check(&["1", "2.5"], "float");
        check(&["true", "false"], "boolean");
        check(&["1s", "20ms"], "duration");
        check(&["1KB"], "bytes");
        check(&["1", "x"], "string");
    }

    #[test]
    fn selectors_of_queries() {
        assert_eq!(selector_of("{a=\"b\"} |= \"x\"").expect("a selector"), "{a=\"b\"}");
        assert_eq!(selector_of("{}").expect("all"), "{}");
        assert!(selector_of("rate({a=\"b\"}[1m])").is_err());
    }
}
