//! `promql('<query>', start, end, step)`: the answer to a PromQL query as a table.
//!
//! The columns depend on the answer: `time`, `value`, `name` where series have one, and a column per label. So queries are
//! answered while the statement is planned: a call whose answer is not there yet notes what it wants and fails, the
//! statement's engine evaluates what was noted, and plans again ([`Calls::evaluate`]).
//!
//! Start and end are moments, RFC 3339 texts or seconds since 1970; the step is an interval, a text as PromQL writes
//! durations, or seconds. Without step the query is evaluated at one moment, by default that of the statement.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{
    ArrayRef, Float64Builder, RecordBatch, StringBuilder, TimestampMillisecondBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::Expr;
use protocol::histogram::Histogram;
use protocol::labels::{Labels, METRIC_NAME};
use query::promql::parser::parse_duration;
use query::result::{ResultValue, Value, histogram_json};
use query::{Engine, QueryKind, QueryRequest};

use crate::columns::{UTC, time_type};
use crate::error::SqlError;
use crate::literals::text;
use crate::scan::Scope;

/// Queries that one statement may contain.
const MAX_QUERIES: usize = 64;

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    query: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Instant(i64),
    Range(i64, i64, i64),
}

#[derive(Default)]
struct State {
    answers: HashMap<Asked, Arc<dyn TableProvider>>,
    wanted: Vec<Asked>,
    /// The memory of the answers.
    held: Vec<MemoryReservation>,
}

/// The calls of a statement; see the module.
#[derive(Clone)]
pub struct Calls {
    /// The moment of the statement.
    now_ms: i64,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("promql")
    }
}

impl Calls {
    /// Calls of a statement at this moment.
    pub fn new(now_ms: i64) -> Self {
        Self { now_ms, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what calls wanted; false where they wanted nothing.
    pub async fn evaluate(
        &self,
        engine: &Engine,
        scope: &Scope,
        pool: &Arc<dyn MemoryPool>,
    ) -> std::result::Result<bool, SqlError> {
        let wanted = std::mem::take(&mut self.lock().wanted);
        if wanted.is_empty() {
            return Ok(false);
        }
        if self.lock().answers.len() + wanted.len() > MAX_QUERIES {
            return Err(SqlError::invalid(format!("more than {MAX_QUERIES} calls of promql()")));
        }
        for asked in wanted {
            let context = scope.context();
            let request = QueryRequest {
                kind: match asked.kind {
                    Kind::Instant(time) => QueryKind::Instant { time },
                    Kind::Range(start, end, step) => QueryKind::Range { start, end, step },
                },
                consistency: context.consistency,
                timeout: Some(context.timeout),
                cancel: scope.cancel.clone(),
                ..QueryRequest::instant(context.tenant, asked.query.clone(), 0)
            };
            let result = engine.query(&request).await.map_err(|error| {
                let error = SqlError::from(error);
                SqlError { message: format!("promql(): {}", error.message), ..error }
            })?;
            let batch = table(result.value)?;
            let reservation = MemoryConsumer::new("answers of promql()").register(pool);
            reservation.try_grow(batch.get_array_memory_size())?;
            let answer = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
            let mut state = self.lock();
            state.held.push(reservation);
            state.answers.insert(asked, Arc::new(answer));
        }
        Ok(true)
    }

    fn asked(&self, args: &[Expr]) -> std::result::Result<Asked, SqlError> {
        let usage = "promql('<query>'), promql('<query>', time) or promql('<query>', start, end, step)";
        let values: Vec<&ScalarValue> = args
            .iter()
            .map(|arg| match arg {
                Expr::Literal(value, _) => Ok(value),
                other => Err(SqlError::invalid(format!("promql(): {other} is no constant")).with_hint(usage)),
            })
            .collect::<std::result::Result<_, _>>()?;
        let query = values.first().and_then(|value| text(value));
        let query =
            query.ok_or_else(|| SqlError::invalid("promql(): the query is no text").with_hint(usage))?;
        let kind = match values.as_slice() {
            [_] => Kind::Instant(self.now_ms),
            [_, time] => Kind::Instant(moment("time", time)?),
            [_, start, end, step] => {
                Kind::Range(moment("start", start)?, moment("end", end)?, duration(step)?)
            }
            _ => {
                let message = format!("promql() takes 1, 2 or 4 arguments, not {}", values.len());
                return Err(SqlError::invalid(message).with_hint(usage));
            }
        };
        Ok(Asked { query: query.to_owned(), kind })
    }
}

impl TableFunctionImpl for Calls {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let asked = self.asked(args.exprs())?;
        let mut state = self.lock();
        if let Some(answer) = state.answers.get(&asked) {
            return Ok(Arc::clone(answer));
        }
        if !state.wanted.contains(&asked) {
            state.wanted.push(asked);
        }
        Err(DataFusionError::Plan("promql() is not evaluated yet".to_owned()))
    }
}

fn number(value: &ScalarValue) -> Option<f64> {
    let text = value.data_type().is_numeric().then(|| value.to_string())?;
    text.parse().ok()
}

/// Milliseconds of seconds, where they are some.
fn of_seconds(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1000.0).round();
    (millis.abs() < i64::MAX as f64).then_some(millis as i64)
}

fn moment(name: &str, value: &ScalarValue) -> std::result::Result<i64, SqlError> {
    let wrong = || {
        SqlError::invalid(format!("promql(): {name} is no moment: {value}"))
            .with_hint("a moment is a timestamp, a text like '2026-01-31T12:00:00Z', or seconds since 1970")
    };
    if let Some(seconds) = number(value) {
        return of_seconds(seconds).ok_or_else(wrong);
    }
    if let Some(seconds) = text(value).and_then(|text| text.trim().parse::<f64>().ok()) {
        return of_seconds(seconds).ok_or_else(wrong);
    }
    let array = value.to_array().map_err(|_| wrong())?;
    let moments = cast(&array, &DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())))
        .and_then(|moments| cast(&moments, &DataType::Int64))
        .map_err(|_| wrong())?;
    match ScalarValue::try_from_array(&moments, 0) {
        Ok(ScalarValue::Int64(Some(millis))) => Ok(millis),
        _ => Err(wrong()),
    }
}

fn duration(value: &ScalarValue) -> std::result::Result<i64, SqlError> {
    let wrong = || {
        SqlError::invalid(format!("promql(): the step is no duration: {value}"))
            .with_hint("a step is an interval like INTERVAL '30 seconds', a text like '30s', or seconds")
    };
    let millis = if let Some(seconds) = number(value) {
        of_seconds(seconds)
    } else if let Some(text) = text(value) {
        match text.trim().parse::<f64>() {
            Ok(seconds) => of_seconds(seconds),
            Err(_) => parse_duration(text.trim()).ok(),
        }
    } else {
        match value {
            ScalarValue::IntervalMonthDayNano(Some(step)) if step.months == 0 => i64::from(step.days)
                .checked_mul(86_400_000)
                .and_then(|days| days.checked_add(step.nanoseconds / 1_000_000)),
            ScalarValue::IntervalDayTime(Some(step)) => i64::from(step.days)
                .checked_mul(86_400_000)
                .and_then(|days| days.checked_add(i64::from(step.milliseconds))),
            _ => None,
        }
    };
    millis.filter(|millis| *millis > 0).ok_or_else(wrong)
}

/// The columns of labels: what they are called, and of which label they are.
fn label_columns(
    rows: &[(Labels, i64, Option<f64>, Option<Arc<Histogram>>)],
    taken: &[&str],
) -> Vec<(String, String)> {
    let mut labels: Vec<&str> = rows.iter().flat_map(|row| row.0.iter().map(|(name, _)| name)).collect();
    labels.sort_unstable();
    labels.dedup();
    let mut columns: Vec<(String, String)> = Vec::new();
    for label in &labels {
        let mut name = if *label == METRIC_NAME { "name" } else { label }.to_owned();
        // A label keeps its name unless that means something else here.
        let is_free = |name: &str| {
            !taken.contains(&name)
                && !columns.iter().any(|(known, _)| known == name)
                && (name == *label || !labels.contains(&name))
        };
        while !is_free(&name) {
            name.insert_str(0, "label_");
        }
        columns.push((name, (*label).to_owned()));
    }
    columns
}

fn table(value: ResultValue) -> std::result::Result<RecordBatch, SqlError> {
    let mut rows: Vec<(Labels, i64, Option<f64>, Option<Arc<Histogram>>)> = Vec::new();
    match value {
        ResultValue::Scalar(time, value) => rows.push((Labels::empty(), time, Some(value), None)),
        ResultValue::String(..) => {
            return Err(SqlError::invalid("promql(): the query gives a text, no series"));
        }
        ResultValue::Vector(samples) => {
            for sample in samples {
                let (value, histogram) = match sample.value {
                    Value::Float(value) => (Some(value), None),
                    Value::Histogram(histogram) => (None, Some(histogram)),
                };
                rows.push((sample.labels, sample.time, value, histogram));
            }
        }
        ResultValue::Matrix(series) => {
            for series in series {
                let labels = series.labels.unwrap_or_else(Labels::empty);
                let floats = series.floats.into_iter();
                rows.extend(floats.map(|(time, value)| (labels.clone(), time, Some(value), None)));
                let histograms = series.histograms.into_iter();
                rows.extend(histograms.map(|(time, h)| (labels.clone(), time, None, Some(h))));
            }
        }
    }
    let has_histograms = rows.iter().any(|row| row.3.is_some());
    let mut taken = vec!["time", "value"];
    taken.extend(has_histograms.then_some("histogram"));
    let labels = label_columns(&rows, &taken);
    let (mut times, mut values) = (TimestampMillisecondBuilder::new(), Float64Builder::new());
    for (_, time, value, _) in &rows {
        times.append_value(*time);
        values.append_option(*value);
    }
    let mut fields =
        vec![Field::new("time", time_type(), false), Field::new("value", DataType::Float64, true)];
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(times.finish().with_timezone(UTC)), Arc::new(values.finish())];
    if has_histograms {
        let mut texts = StringBuilder::new();
        for row in &rows {
            texts.append_option(row.3.as_ref().map(|histogram| histogram_json(histogram)));
        }
        fields.push(Field::new("histogram", DataType::Utf8, true));
        columns.push(Arc::new(texts.finish()));
    }
    for (name, label) in labels {
        let mut texts = StringBuilder::new();
        for row in &rows {
            texts.append_option(row.0.get(&label));
        }
        fields.push(Field::new(name, DataType::Utf8, true));
        columns.push(Arc::new(texts.finish()));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| DataFusionError::from(error).into())
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::lit;

    use super::*;

    fn asked(args: &[Expr]) -> String {
        match Calls::new(7).asked(args) {
            Ok(asked) => format!("{} {:?}", asked.query, asked.kind),
            Err(error) => error.message,
        }
    }

    #[test]
    fn arguments() {
        assert_eq!(asked(&[lit("up")]), "up Instant(7)");
        assert_eq!(asked(&[lit("up"), lit(1.5)]), "up Instant(1500)");
        assert_eq!(
            asked(&[lit("up"), lit("1970-01-01T00:00:01Z"), lit("10"), lit("1m30s")]),
            "up Range(1000, 10000, 90000)"
        );
        let time = lit(ScalarValue::TimestampNanosecond(Some(5_000_000), None));
        let step = lit(ScalarValue::new_interval_mdn(0, 0, 30_000_000_000));
        assert_eq!(asked(&[lit("up"), time.clone(), time, step]), "up Range(5, 5, 30000)");
        assert_eq!(asked(&[]), "promql(): the query is no text");
        assert_eq!(asked(&[lit("up"), lit("soon")]), "promql(): time is no moment: soon");
        assert_eq!(asked(&[lit("up"), lit(1), lit(2), lit(0)]), "promql(): the step is no duration: 0");
        assert_eq!(asked(&[lit("up"), lit(1), lit(2)]), "promql() takes 1, 2 or 4 arguments, not 3");
    }

    #[test]
    fn labels_become_columns() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a"), ("time", "x")]).expect("labels");
        let sample = query::result::VectorSample { labels, time: 5, value: Value::Float(1.0) };
        let batch = table(ResultValue::Vector(vec![sample])).expect("a table");
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["time", "value", "name", "job", "label_time"]);
    }
}
