//! Logs in our own form: search, histograms, top values, figures, fields, surroundings, patterns, live tail.
//!
//! ```text
//! query=service.name:checkout level>=warn  start=  end=   (GET, or POST as a form)
//!   /api/v1/logs/query      {"rows": [{"id", "time", "body", "attributes", ...}], "cursor"}
//!   /api/v1/logs/histogram  {"groups": [{"fields", "total", "values": [[seconds, count]]}]}
//!   ...                     inside of Prometheus' envelope
//! ```
//!
//! Times are seconds, nanoseconds (whole numbers of more than ten digits) or RFC 3339; both ends belong to the range. By
//! default a question is about the last hour. A row's `id` is its place: the cursor of a page, and what `context` takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use protocol::logs::value::{base64, id_text};
use protocol::logs::{Attribute, LogField, LogFilter, LogValue};
use query::logs::engine::{Counted, FieldInfo, LogQuery, Place, Row, Top, largest};
use query::logs::level;
use query::logs::search::{named_field, parse};
use query::{CancelFlag, Engine, QueryError};
use serde_json::{Map, Value, json};

use super::active::{Asked, Notes};
use super::envelope::{raw_json, success_text};
use super::read::Freshness;
use super::time::{format_rfc3339_ns, parse_time_ns};
use super::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ns;

/// What a question is about where it does not say: the last hour.
const DEFAULT_RANGE_NS: i64 = 3_600_000_000_000;

/// Rows, values and patterns that are given where a request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Parts of a histogram where its request does not say.
const DEFAULT_BUCKETS: i64 = 100;

/// A time parameter in nanoseconds.
pub(super) fn time_ns(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    params
        .get(name)
        .map(|text| {
            parse_time_ns(text).ok_or_else(|| {
                ApiError::bad_data(format!(
                    "invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"
                ))
            })
        })
        .transpose()
}

/// A positive duration parameter in nanoseconds.
pub(super) fn duration_ns(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    Ok(params.duration_ms(name)?.map(|ms| ms.saturating_mul(1_000_000)))
}

/// Start and end of a question.
pub(super) fn range_ns(params: &Params) -> Result<(i64, i64), ApiError> {
    let end = time_ns(params, "end")?.unwrap_or_else(now_ns);
    let since = duration_ns(params, "since")?.unwrap_or(DEFAULT_RANGE_NS);
    let start = time_ns(params, "start")?.unwrap_or_else(|| end.saturating_sub(since));
    match end < start {
        true => {
            Err(ApiError::bad_data("invalid parameter \"end\": end timestamp must not be before start time"))
        }
        false => Ok((start, end)),
    }
}

/// A question as it was asked.
struct Question {
    query: LogQuery,
    what: &'static str,
}

impl Question {
    fn of(
        auth: AuthContext,
        freshness: Freshness,
        params: &Params,
        what: &'static str,
    ) -> Result<Self, ApiError> {
        let (start_ns, end_ns) = range_ns(params)?;
        let text = params.get("query").unwrap_or("*");
        let query = LogQuery {
            consistency: freshness.0,
            timeout: params
                .duration_ms("timeout")?
                .map(|ms| std::time::Duration::from_millis(ms.unsigned_abs())),
            ..LogQuery::new(auth.tenant, text, start_ns, end_ns)
        };
        Ok(Self { query, what })
    }

    /// Asks the engine on the threads of queries, which also write the answer.
    async fn answer<T, F>(
        self,
        app: &App,
        ask: impl FnOnce(Engine, LogQuery, LogFilter, Arc<Notes>) -> F + Send + 'static,
    ) -> Result<Response, ApiError>
    where
        T: serde::Serialize,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let ms = |ns: i64| ns.div_euclid(1_000_000);
        let times = (ms(self.query.start_ns), ms(self.query.end_ns), 0);
        let asked = Asked::query(&self.query.tenant, self.what, &self.query.text, times);
        let cancel: CancelFlag = self.query.cancel.clone();
        let queries = &app.backend()?.queries;
        let body = queries
            .run(asked, cancel, move |engine, notes| async move {
                let filter = filter_of(&self.query.text)?;
                let data = ask(engine, self.query, filter, notes).await?;
                Ok(success_text(&data, &[]))
            })
            .await?;
        Ok(raw_json(body))
    }
}

fn filter_of(text: &str) -> Result<LogFilter, QueryError> {
    parse(text)
        .and_then(|search| search.filter(text))
        .map_err(|error| QueryError::BadParameter(format!("invalid parameter \"query\": {error}")))
}

/// `/api/v1/logs/delete`. Nothing is left to a default: a delete says what, from when, and until when.
pub async fn delete(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let text = params.required("query")?;
    if text.trim().is_empty() {
        return Err(ApiError::bad_data("invalid parameter \"query\": it is empty; * finds everything"));
    }
    let filter = filter_of(text).map_err(|error| ApiError::bad_data(error.to_string()))?;
    params.required("start")?;
    params.required("end")?;
    let range = range_ns(&params)?;
    app.backend()?.operations.delete_logs(auth.tenant, filter, range).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    Ok(params.number::<usize>("limit")?.unwrap_or(DEFAULT_LIMIT))
}

/// A value as JSON: bytes as base64, what is no number in JSON as text.
pub(super) fn value_json(value: &LogValue<'_>) -> Value {
    match value {
        LogValue::Empty => Value::Null,
        LogValue::String(text) => json!(text),
        LogValue::Int(number) => json!(number),
        LogValue::Float(number) if number.is_finite() => json!(number),
        LogValue::Float(_) => json!(value.text()),
        LogValue::Bool(value) => json!(value),
        LogValue::Bytes(bytes) => json!(base64(bytes)),
        LogValue::List(values) => Value::Array(values.iter().map(value_json).collect()),
        LogValue::Map(entries) => Value::Object(attributes_json(entries)),
    }
}

/// Attributes as an object; a key that stands several times has all its values in an array.
pub(super) fn attributes_json(attributes: &[Attribute<'_>]) -> Map<String, Value> {
    let mut out: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (key, value) in attributes {
        out.entry(key).or_default().push(value_json(value));
    }
    let one_or_all = |mut values: Vec<Value>| match values.len() {
        1 => values.remove(0),
        _ => Value::Array(values),
    };
    out.into_iter().map(|(key, values)| (key.to_owned(), one_or_all(values))).collect()
}

/// A row; parts that it does not have are left out.
pub(super) fn row_json(row: &Row) -> Value {
    let record = &row.record;
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if !is_empty {
            out.insert(key.to_owned(), value);
        }
    };
    let time = record.effective_ns();
    put("id", json!(row.place.to_string()));
    put("time", json!(format_rfc3339_ns(time)));
    put("timeUnixNano", json!(time.to_string()));
    if record.observed_ns != 0 {
        put("observedTimeUnixNano", json!(record.observed_ns.to_string()));
    }
    put("level", level::name(record.severity).or_else(|| level::canonical(&record.severity_text)).into());
    if record.severity != 0 {
        put("severityNumber", json!(record.severity));
    }
    put("severityText", json!(record.severity_text));
    put("body", value_json(&record.body));
    put("traceId", json!(id_text(&record.trace_id)));
    put("spanId", json!(id_text(&record.span_id)));
    if record.flags != 0 {
        put("flags", json!(record.flags));
    }
    put("eventName", json!(record.event_name));
    put("attributes", Value::Object(attributes_json(&record.attributes)));
    put("resource", Value::Object(attributes_json(&row.stream.resource)));
    let mut scope = Map::new();
    for (key, text) in [("name", &row.stream.scope_name), ("version", &row.stream.scope_version)] {
        if !text.is_empty() {
            scope.insert(key.to_owned(), json!(text));
        }
    }
    if !row.stream.scope_attributes.is_empty() {
        scope.insert("attributes".to_owned(), Value::Object(attributes_json(&row.stream.scope_attributes)));
    }
    put("scope", Value::Object(scope));
    Value::Object(out)
}

/// `/api/v1/logs/query`
pub async fn query(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = limit(&params)?;
    let newest_first = match params.get("direction") {
        None | Some("backward") => true,
        Some("forward") => false,
        Some(other) => {
            return Err(ApiError::bad_data(format!(
                "invalid parameter \"direction\": {other:?} is not backward or forward"
            )));
        }
    };
    let after = place(&params, "cursor")?;
    let question = Question::of(auth, freshness, &params, "logs")?;
    question
        .answer(&app, move |engine, query, filter, notes| async move {
            let rows = engine.log_rows(&query, &filter, newest_first, limit, after).await?;
            notes.count(rows.len() as u64);
            let cursor = rows.last().filter(|_| rows.len() >= limit).map(|row| row.place.to_string());
            Ok(json!({"rows": rows.iter().map(row_json).collect::<Vec<_>>(), "cursor": cursor}))
        })
        .await
}

fn place(params: &Params, name: &str) -> Result<Option<Place>, ApiError> {
    params
        .get(name)
        .map(|text| {
            text.parse().map_err(|error| ApiError::bad_data(format!("invalid parameter {name:?}: {error}")))
        })
        .transpose()
}

/// Fields that a request names, with their names.
fn fields_of(params: &Params, name: &str) -> Vec<(String, LogField)> {
    params
        .all(name)
        .filter(|text| !text.is_empty())
        .map(|text| (text.to_owned(), named_field(text)))
        .collect()
}

/// Levels by name count together, whatever their number.
fn with_levels(fields: &[(String, LogField)], counted: Vec<Counted>) -> Vec<Counted> {
    if !fields.iter().any(|(name, _)| name == "level") {
        return counted;
    }
    let mut merged: BTreeMap<Vec<String>, BTreeMap<u64, u64>> = BTreeMap::new();
    for mut group in counted {
        for ((name, _), value) in fields.iter().zip(&mut group.values) {
            if name == "level" {
                *value = value.parse().ok().and_then(level::name).unwrap_or("unknown").to_owned();
            }
        }
        let buckets = merged.entry(group.values).or_default();
        for (bucket, count) in group.buckets {
            *buckets.entry(bucket).or_default() += count;
        }
    }
    let counted = |(values, buckets): (_, BTreeMap<u64, u64>)| Counted {
        values,
        count: buckets.values().sum(),
        buckets,
    };
    merged.into_iter().map(counted).collect()
}

fn group_fields(fields: &[(String, LogField)], values: &[String]) -> Map<String, Value> {
    fields.iter().zip(values).map(|((name, _), value)| (name.clone(), json!(value))).collect()
}

/// `/api/v1/logs/histogram`
pub async fn histogram(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let fields = fields_of(&params, "field");
    let question = Question::of(auth, freshness, &params, "logs histogram")?;
    let (start_ns, end_ns) = (question.query.start_ns, question.query.end_ns);
    let width = (end_ns.saturating_sub(start_ns) / DEFAULT_BUCKETS).max(1_000_000);
    let step_ns = duration_ns(&params, "step")?.unwrap_or(width);
    question
        .answer(&app, move |engine, query, filter, notes| async move {
            let by: Vec<LogField> = fields.iter().map(|(_, field)| field.clone()).collect();
            let counted = with_levels(&fields, engine.log_histogram(&query, &filter, step_ns, &by).await?);
            notes.count(counted.iter().map(|group| group.count).sum());
            let group = |group: &Counted| {
                let at = |bucket: u64| {
                    let ns = i128::from(start_ns) + i128::from(bucket) * i128::from(step_ns);
                    ns as f64 / 1e9
                };
                let values: Vec<Value> =
                    group.buckets.iter().map(|(bucket, count)| json!([at(*bucket), count])).collect();
                json!({"fields": group_fields(&fields, &group.values), "total": group.count, "values": values})
            };
            Ok(json!({"step": step_ns as f64 / 1e9, "groups": counted.iter().map(group).collect::<Vec<_>>()}))
        })
        .await
}

/// `/api/v1/logs/top`
pub async fn top(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let fields = fields_of(&params, "field");
    if fields.is_empty() {
        params.required("field")?;
    }
    let limit = params.number::<usize>("limit")?.unwrap_or(10);
    let question = Question::of(auth, freshness, &params, "logs top")?;
    question
        .answer(&app, move |engine, query, filter, notes| async move {
            let by: Vec<LogField> = fields.iter().map(|(_, field)| field.clone()).collect();
            let has_levels = fields.iter().any(|(name, _)| name == "level");
            // Levels unite numbers, so the largest are known only afterwards.
            let asked = if has_levels { usize::MAX } else { limit };
            let mut top = engine.log_top(&query, &filter, &by, asked).await?;
            if has_levels {
                let counted = with_levels(&fields, top.commonest);
                top = Top { distinct: counted.len(), commonest: largest(counted, limit), ..top };
            }
            notes.count(top.total);
            let row =
                |group: &Counted| json!({"fields": group_fields(&fields, &group.values), "count": group.count});
            let rows: Vec<Value> = top.commonest.iter().map(row).collect();
            Ok(json!({"total": top.total, "distinct": top.distinct, "values": rows}))
        })
        .await
}

/// `/api/v1/logs/stats`
pub async fn stats(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let field = named_field(params.required("field")?);
    let mut quantiles = Vec::new();
    for text in params.all("quantile") {
        let q = text.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q));
        quantiles.push(q.ok_or_else(|| {
            ApiError::bad_data(format!("invalid parameter \"quantile\": {text:?} is no number from 0 to 1"))
        })?);
    }
    if quantiles.is_empty() {
        quantiles = vec![0.5, 0.9, 0.99];
    }
    let question = Question::of(auth, freshness, &params, "logs stats")?;
    question
        .answer(&app, move |engine, query, filter, notes| async move {
            let stats = engine.log_stats(&query, &filter, &field, &quantiles).await?;
            notes.count(stats.count + stats.missing);
            let mut out = json!({"count": stats.count, "missing": stats.missing, "distinct": stats.distinct});
            if let Some(numbers) = stats.numbers {
                let quantiles: Vec<Value> = numbers
                    .quantiles
                    .iter()
                    .map(|(q, value)| json!({"quantile": q, "value": value}))
                    .collect();
                out["numbers"] = json!({
                    "count": numbers.count,
                    "min": numbers.min,
                    "max": numbers.max,
                    "sum": numbers.sum,
                    "mean": numbers.sum / numbers.count as f64,
                    "quantiles": quantiles,
                });
            }
            Ok(out)
        })
        .await
}

/// A field's name in queries, and where it belongs.
fn field_name(field: &LogField) -> (String, &'static str) {
    // A name that means something else without its place keeps it.
    let placed = |place: &'static str, prefix: &str, name: &str| match named_field(name) {
        LogField::Attribute(_) => (name.to_owned(), place),
        _ => (format!("{prefix}{name}"), place),
    };
    match field {
        LogField::Body => ("body".to_owned(), "record"),
        LogField::Time => ("time".to_owned(), "record"),
        LogField::Severity => ("level".to_owned(), "record"),
        LogField::SeverityText => ("severity_text".to_owned(), "record"),
        LogField::TraceId => ("trace_id".to_owned(), "record"),
        LogField::SpanId => ("span_id".to_owned(), "record"),
        LogField::Flags => ("flags".to_owned(), "record"),
        LogField::EventName => ("event_name".to_owned(), "record"),
        LogField::ScopeName => ("scope.name".to_owned(), "scope"),
        LogField::ScopeVersion => ("scope.version".to_owned(), "scope"),
        LogField::Attribute(name) | LogField::RecordAttribute(name) => {
            placed("attributes", "attributes.", name)
        }
        LogField::ResourceAttribute(name) => placed("resource", "resource.", name),
        LogField::ScopeAttribute(name) => placed("scope", "scope.attributes.", name),
        LogField::Any => ("*".to_owned(), "record"),
        // Of spans.
        LogField::Duration => ("duration".to_owned(), "record"),
        LogField::SpanKind => ("kind".to_owned(), "record"),
        LogField::SpanStatus => ("status".to_owned(), "record"),
        LogField::StatusMessage => ("status_message".to_owned(), "record"),
        LogField::ParentId => ("parent_id".to_owned(), "record"),
        LogField::Events => ("events".to_owned(), "record"),
    }
}

/// `/api/v1/logs/fields`
pub async fn fields(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let question = Question::of(auth, freshness, &params, "logs fields")?;
    question
        .answer(&app, move |engine, query, filter, _| async move {
            let row = |info: &FieldInfo| {
                let (name, place) = field_name(&info.field);
                json!({"name": name, "place": place, "types": info.kinds.names(), "count": info.records})
            };
            let fields = engine.log_fields(&query, &filter).await?;
            Ok(json!({"fields": fields.iter().map(row).collect::<Vec<_>>()}))
        })
        .await
}

/// `/api/v1/logs/context`
pub async fn context(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    params.required("id")?;
    let Some(id) = place(&params, "id")? else {
        return Err(ApiError::bad_data("parameter \"id\" is missing"));
    };
    let count = |name| Ok::<_, ApiError>(params.number::<usize>(name)?.unwrap_or(10));
    let (before, after) = (count("before")?, count("after")?);
    let question = Question::of(auth, freshness, &params, "logs context")?;
    question
        .answer(&app, move |engine, query, filter, notes| async move {
            let around = engine.log_context(&query, &filter, id, before, after).await?;
            notes.count(around.rows.len() as u64);
            // The others have places of their own in a query about their stream, not in this one.
            let row = |row: &Row| {
                let mut out = row_json(row);
                if let Some(out) = out.as_object_mut() {
                    out.remove("id");
                }
                out
            };
            let rows: Vec<Value> = around.rows.iter().map(row).collect();
            let (before, rest) = rows.split_at(around.at);
            let (own, after) = rest.split_at(1.min(rest.len()));
            Ok(json!({"before": before, "row": own.first(), "after": after}))
        })
        .await
}

/// `/api/v1/logs/patterns`
pub async fn patterns(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = limit(&params)?;
    let question = Question::of(auth, freshness, &params, "logs patterns")?;
    let (start_ns, end_ns) = (question.query.start_ns, question.query.end_ns);
    let width = (end_ns.saturating_sub(start_ns) / DEFAULT_BUCKETS).max(1_000_000);
    let step_ns = duration_ns(&params, "step")?.unwrap_or(width);
    question
        .answer(&app, move |engine, query, filter, notes| async move {
            let found = engine.log_patterns(&query, &filter, step_ns, limit).await?;
            notes.count(found.patterns.iter().map(|pattern| pattern.count).sum());
            let rows = found.patterns.iter().map(|pattern| {
                let values = pattern.buckets.iter().map(|(bucket, count)| {
                    let ns = i128::from(start_ns) + i128::from(*bucket) * i128::from(step_ns);
                    json!([ns as f64 / 1e9, count])
                });
                json!({"pattern": pattern.template, "count": pattern.count, "values": values.collect::<Vec<_>>()})
            });
            let rows: Vec<Value> = rows.collect();
            Ok(json!({"step": step_ns as f64 / 1e9, "patterns": rows, "leftOut": found.left_out}))
        })
        .await
}

#[cfg(test)]
mod tests {
    use protocol::ids::ShardId;
    use protocol::logs::{LogRecord, LogStream};

    use super::*;

    #[test]
    fn rows_for_clients() {
        let stream = LogStream {
            resource: vec![("service.name".into(), LogValue::String("a".into()))],
            scope_name: "lib".into(),
            ..LogStream::default()
        };
        let record = LogRecord {
            time_ns: 1_500_000_000_123_456_789,
            severity: 17,
            body: LogValue::String("said".into()),
            span_id: [1; 8],
            attributes: vec![
                ("n".into(), LogValue::Int(7)),
                ("twice".into(), LogValue::Bool(true)),
                ("twice".into(), LogValue::Float(f64::NAN)),
                ("raw".into(), LogValue::Bytes(vec![1, 2].into())),
            ],
            ..LogRecord::default()
        };
        let place = Place { time_ns: record.time_ns, shard: ShardId(2), ordinal: 3 };
        let expected = json!({
            "id": "1500000000123456789_2_3",
            "time": "2017-07-14T02:40:00.123456789Z",
            "timeUnixNano": "1500000000123456789",
            "level": "error",
            "severityNumber": 17,
            "body": "said",
            "spanId": "0101010101010101",
            "attributes": {"n": 7, "twice": [true, "NaN"], "raw": "AQI="},
            "resource": {"service.name": "a"},
            "scope": {"name": "lib"},
        });
        assert_eq!(row_json(&Row { stream: Arc::new(stream), record, place }), expected);
    }

    #[test]
    fn levels_count_together() {
        let fields = [("level".to_owned(), LogField::Severity), ("a".to_owned(), named_field("a"))];
        let group = |values: [&str; 2], at: u64, count: u64| Counted {
            values: values.map(str::to_owned).into(),
            count,
            buckets: BTreeMap::from([(at, count)]),
        };
        let counted = vec![group(["17", "x"], 0, 2), group(["18", "x"], 1, 3), group(["0", "x"], 0, 1)];
        let found = with_levels(&fields, counted);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].values[0].as_str(), found[0].count, found[0].buckets.len()), ("error", 5, 2));
        assert_eq!(found[1].values[0], "unknown");
    }

    #[test]
    fn names_of_fields_lead_back_to_them() {
        for name in ["body", "level", "trace_id", "scope.name", "status", "attributes.body", "resource.level"]
        {
            let field = match named_field(name) {
                LogField::Attribute(name) => LogField::RecordAttribute(name),
                field => field,
            };
            assert_eq!(field_name(&field).0, name);
        }
    }
}
