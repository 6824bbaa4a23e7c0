//! LogQL at the coordinator: what goes to the shards, and what their answers make.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use protocol::ids::ShardId;
use protocol::logs::TimestampNs;
use protocol::logs::messages::{
    LinesRequest, LogAnswer, LogBody, RangeRequest, StreamsRequest, VolumeRequest,
};

use super::super::engine::{Asking, LogQuery, Patterns, Place, check_buckets};
use super::super::fragment::{any_filter, sums};
use super::eval::{Evaluation, Part, Series, Value, part_of, parts};
use super::fragment::too_many_series;
use super::labels::LabelSet;
use super::range::{Buckets, State, Steps};
use super::{Expr, LabelMatcher, Metric, RangeOp, parse};
use crate::engine::Engine;
use crate::error::QueryError;
use crate::exec::Budget;
use crate::value::Map;

type Result<T> = std::result::Result<T, QueryError>;

/// Series that a part of a query may have.
pub const MAX_SERIES: u64 = 20_000;

/// Lines that an answer may have.
pub const MAX_LINES: usize = 100_000;

/// When a query is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the end of the query's time range.
    Once,
    /// At every step from the beginning to the end of the query's time range.
    Every {
        /// Distance in nanoseconds.
        step_ns: i64,
    },
}

/// A query. The time range holds the steps of a metric query, or the lines of a log query.
#[derive(Clone, Debug)]
pub struct LogqlRequest {
    /// Whose logs, of which time; the text is LogQL.
    pub query: LogQuery,
    /// When numbers are wanted.
    pub when: When,
    /// At most so many lines.
    pub limit: usize,
    /// Newest lines first.
    pub newest_first: bool,
}

/// Labels of a line by where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitLabels {
    /// Of the stream.
    pub stream: LabelSet,
    /// Structured metadata.
    pub metadata: LabelSet,
    /// Of the pipeline.
    pub parsed: LabelSet,
}

impl SplitLabels {
    /// All of them.
    pub fn all(&self) -> LabelSet {
        let parts = [&self.parsed, &self.metadata, &self.stream];
        LabelSet::new(parts.into_iter().flat_map(|part| part.0.iter().cloned()).collect())
    }
}

/// A line of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// Its labels.
    pub labels: Arc<SplitLabels>,
    /// When.
    pub time_ns: TimestampNs,
    /// The line.
    pub line: String,
    /// Its place, for those who ask again (oldest first only: a line that is written later does not move it).
    pub place: Place,
}

/// What a query gives.
#[derive(Clone, Debug, PartialEq)]
pub enum LogqlAnswer {
    /// Lines, in the order asked for.
    Lines(Vec<LogLine>),
    /// Series at the steps of the query, by label.
    Matrix(Steps, Vec<Series>),
    /// Series at one time, in order.
    Vector(TimestampNs, Vec<Series>),
    /// A number at one time.
    Scalar(TimestampNs, f64),
}

/// Records and bytes of a stream by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Labels of the stream.
    pub labels: LabelSet,
    /// Records and bytes.
    pub buckets: BTreeMap<u64, (u64, u64)>,
}

fn steps_of(query: &LogQuery, when: When, max_points: u64) -> Result<Steps> {
    let When::Every { step_ns } = when else {
        return Ok(Steps { start_ns: query.end_ns, step_ns: 1, count: 1 });
    };
    if step_ns < 1 {
        let message =
            "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(QueryError::BadParameter(message.to_owned()));
    }
    let count = (i128::from(query.end_ns) - i128::from(query.start_ns)) / i128::from(step_ns) + 1;
    if count > i128::from(max_points) {
        let points = u64::try_from(count).unwrap_or(u64::MAX);
        return Err(QueryError::TooManyPoints { points, limit: max_points });
    }
    Ok(Steps { start_ns: query.start_ns, step_ns, count: count.max(0) as usize })
}

impl Engine {
    /// Answers a LogQL query.
    pub async fn logql(&self, request: &LogqlRequest) -> Result<LogqlAnswer> {
        match parse(&request.query.text)? {
            Expr::Log(_) if request.when == When::Once => Err(QueryError::BadParameter(
                "log queries are not supported as an instant query type, please change your query to a range query type"
                    .to_owned(),
            )),
            Expr::Log(log) => self.logql_lines(request, log.to_string()).await.map(LogqlAnswer::Lines),
            Expr::Metric(metric) => self.logql_metric(request, &metric).await,
        }
    }

    async fn logql_lines(&self, request: &LogqlRequest, query: String) -> Result<Vec<LogLine>> {
        if request.limit > MAX_LINES {
            let message = format!(
                "max entries limit per query exceeded, limit > max_entries_limit ({} > {MAX_LINES})",
                request.limit
            );
            return Err(QueryError::BadParameter(message));
        }
        let mut asking = Asking::new(self, &request.query);
        let body = LogBody::Lines(LinesRequest {
            query,
            newest_first: request.newest_first,
            limit: request.limit as u64,
        });
        let mut lines = Vec::new();
        for (shard, answer) in asking.ask((request.query.start_ns, request.query.end_ns), body).await? {
            let sets: Vec<Arc<SplitLabels>> = answer
                .label_sets
                .into_iter()
                .map(|set| {
                    Arc::new(SplitLabels {
                        stream: LabelSet::from_flat(set.stream),
                        metadata: LabelSet::from_flat(set.metadata),
                        parsed: LabelSet::from_flat(set.parsed),
                    })
                })
                .collect();
            for line in answer.lines {
                let Some(labels) = sets.get(line.labels as usize) else {
                    return Err(QueryError::Protocol(format!(
                        "shard {shard} names labels that it did not send"
                    )));
                };
                let place = Place { time_ns: line.time_ns, shard, ordinal: line.ordinal };
                lines.push(LogLine {
                    labels: Arc::clone(labels),
                    time_ns: line.time_ns,
                    line: line.line,
                    place,
                });
            }
        }
        // Stable: the lines of a shard are in order.
        match request.newest_first {
            true => lines.sort_by_key(|line| std::cmp::Reverse((line.time_ns, line.place.shard))),
            false => lines.sort_by_key(|line| (line.time_ns, line.place.shard)),
        }
        lines.truncate(request.limit);
        Ok(lines)
    }

    async fn logql_metric(&self, request: &LogqlRequest, metric: &Metric) -> Result<LogqlAnswer> {
        let asking = Asking::new(self, &request.query);
        let steps = steps_of(&request.query, request.when, asking.budget.limits().max_points)?;
        if let (Metric::Number(value), When::Once) = (metric, request.when) {
            return Ok(LogqlAnswer::Scalar(steps.start_ns, *value));
        }
        let mut wanted = Vec::new();
        parts(metric, &mut wanted);
        let wanted: Vec<(&Metric, Part<'_>)> =
            wanted.into_iter().filter_map(|metric| Some((metric, part_of(metric)?))).collect();
        let mut sendings = Vec::with_capacity(wanted.len());
        // Without steps, nothing is asked.
        for (metric, part) in wanted.iter().filter(|_| steps.count > 0) {
            let buckets = Buckets::new(steps, part.range.range_ns, part.range.offset_ns);
            let body = LogBody::Range(RangeRequest {
                query: metric.to_string(),
                start_ns: steps.start_ns,
                step_ns: steps.step_ns,
                steps: u32::try_from(steps.count).unwrap_or(u32::MAX),
                max_series: MAX_SERIES,
            });
            sendings.push(asking.prepare(buckets.times(), body)?);
        }
        let replies = try_join_all(sendings.into_iter().map(|sending| sending.send(self))).await?;
        let mut answers = Vec::with_capacity(wanted.len());
        let mut replies = replies.into_iter();
        for (_, part) in &wanted {
            let parts = asking.take_in(replies.next().unwrap_or_default())?;
            answers.push(merged(&asking.budget, part, steps, parts)?);
        }
        let evaluation = Evaluation { steps, budget: &asking.budget };
        let value = evaluation.evaluate(metric, &mut answers.into_iter())?;
        asking.budget.check()?;
        Ok(match (value, request.when) {
            (Value::Number(value), When::Once) => LogqlAnswer::Scalar(steps.start_ns, value),
            (Value::Number(value), When::Every { .. }) => {
                let series = Series { labels: LabelSet::default(), values: vec![Some(value); steps.count] };
                LogqlAnswer::Matrix(steps, vec![series])
            }
            (Value::Series(series), When::Once) => LogqlAnswer::Vector(steps.start_ns, series),
            (Value::Series(mut series), When::Every { .. }) => {
                series.sort_by(|a, b| a.labels.cmp(&b.labels));
                LogqlAnswer::Matrix(steps, series)
            }
        })
    }

    /// Label sets of the streams that one of some selectors selects, sorted; without selectors, of all.
    pub async fn logql_streams(&self, query: &LogQuery, selectors: &[String]) -> Result<Vec<LabelSet>> {
        let mut asking = Asking::new(self, query);
        let body = LogBody::Streams(StreamsRequest { selectors: selectors.to_vec() });
        let mut all = std::collections::BTreeSet::new();
        for (_, answer) in asking.ask((query.start_ns, query.end_ns), body).await? {
            all.extend(answer.label_sets.into_iter().map(|set| LabelSet::from_flat(set.stream)));
        }
        Ok(all.into_iter().collect())
    }

    /// Records and bytes of the streams that a selector selects, by bucket (a width of 0: one for all).
    pub async fn logql_volume(
        &self,
        query: &LogQuery,
        selector: &str,
        bucket_ns: i64,
    ) -> Result<Vec<Volume>> {
        if bucket_ns != 0 {
            check_buckets(query.start_ns, query.end_ns, bucket_ns)?;
        }
        let mut asking = Asking::new(self, query);
        let body = LogBody::Volume(VolumeRequest { selector: selector.to_owned(), bucket_ns });
        let mut all: BTreeMap<LabelSet, BTreeMap<u64, (u64, u64)>> = BTreeMap::new();
        for (_, answer) in asking.ask((query.start_ns, query.end_ns), body).await? {
            for group in answer.groups {
                let buckets = all.entry(LabelSet::from_flat(group.values)).or_default();
                let numbers = sums(&group.buckets)?;
                for (at, bucket) in numbers.into_iter().enumerate() {
                    let number = |list: &[u64]| list.get(at).copied().unwrap_or(0);
                    let known = buckets.entry(bucket).or_default();
                    known.0 = known.0.saturating_add(number(&group.counts));
                    known.1 = known.1.saturating_add(number(&group.bytes));
                }
            }
        }
        Ok(all.into_iter().map(|(labels, buckets)| Volume { labels, buckets }).collect())
    }

    /// Templates of the lines that a LogQL log query gives.
    pub async fn logql_patterns(&self, query: &LogQuery, bucket_ns: i64, limit: usize) -> Result<Patterns> {
        let log = super::parse_log(&query.text)?;
        self.patterns(query, any_filter(), log.to_string(), bucket_ns, limit).await
    }
}

/// Series of a part of a query: the states of all shards merged, windows made of them.
fn merged(
    budget: &Budget,
    part: &Part<'_>,
    steps: Steps,
    answers: Vec<(ShardId, LogAnswer)>,
) -> Result<Vec<Series>> {
    let range = part.range;
    let buckets = Buckets::new(steps, range.range_ns, range.offset_ns);
    let mut merged: BTreeMap<LabelSet, Map<u64, State>> = BTreeMap::new();
    for (_, answer) in answers {
        for series in answer.series {
            let labels = LabelSet::from_flat(series.labels);
            let of_series = merged.entry(labels).or_default();
            let (mut ints, mut floats) = (series.ints.into_iter(), series.floats.into_iter());
            for bucket in sums(&series.buckets)? {
                let state = State::read(range.op, range.unwrap.is_some(), &mut ints, &mut floats)?;
                budget.hold(state.memory_bytes() + 16)?;
                match of_series.get_mut(&bucket) {
                    Some(known) => known.merge(&state),
                    None => drop(of_series.insert(bucket, state)),
                }
            }
            if merged.len() as u64 > MAX_SERIES {
                return Err(too_many_series(MAX_SERIES));
            }
        }
    }
    let columns = merged.len() as u64 + 1;
    budget.hold(columns.saturating_mul(steps.count as u64 * size_of::<Option<f64>>() as u64))?;
    let mut out = Vec::with_capacity(merged.len());
    for (labels, states) in merged {
        budget.check()?;
        let values = (0..steps.count).map(|step| {
            let mut window: Option<State> = None;
            for state in buckets.of_window(step).filter_map(|bucket| states.get(&bucket)) {
                match &mut window {
                    Some(window) => window.merge(state),
                    None => window = Some(state.clone()),
                }
            }
            Some(window?.value(range.op, range.param, range.range_ns))
        });
        out.push(Series { labels, values: values.collect() });
    }
    if range.op == RangeOp::AbsentOverTime {
        out = absent(&range.log.matchers, &out, steps.count);
    }
    Ok(out)
}

/// One series where there is nothing, with the labels that the selector asks for by value.
fn absent(matchers: &[LabelMatcher], present: &[Series], steps: usize) -> Vec<Series> {
    let values: Vec<Option<f64>> = (0..steps)
        .map(|step| if present.iter().any(|series| series.values[step].is_some()) { None } else { Some(1.0) })
        .collect();
    if values.iter().all(Option::is_none) {
        return Vec::new();
    }
    let is_once = |name: &str| matchers.iter().filter(|matcher| matcher.name == name).count() == 1;
    let equal = matchers.iter().filter(|m| m.op == protocol::matcher::MatchOp::Equal && is_once(&m.name));
    let labels = LabelSet::new(equal.map(|m| (m.name.clone(), m.value.clone())).collect());
    vec![Series { labels, values }]
}
