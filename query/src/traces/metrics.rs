//! Numbers over time: what a shard counts, how that is put together, and the series that come of it.
//!
//! ```text
//! shard: matching spans ─► state by labels and bucket ─► StateMessage      coordinator: states added up ─► series
//! state  count | sum, min, max of a field's numbers | sketch, where quantiles are asked for
//! ```
//!
//! **Sketch.** A positive number `v` is counted in bucket `floor(32 * log2(v))`, and a quantile is answered with the
//! bucket's geometric middle, within the least and the largest number seen: it is off by at most 2^(1/64) - 1, which is
//! 1.1 %, of the number of that rank. Numbers that are not positive count as 0. Buckets of all shards add up without loss.
//!
//! A bucket begins at its time and ends before the next one's. Durations are seconds.

use std::collections::BTreeMap;

use protocol::logs::messages::{from_attributes, to_attributes};
use protocol::logs::{LogValue, TimestampNs};
use protocol::spans::messages::{MetricsRequest, SketchMessage, StateMessage, TraceAnswer};

use super::fragment::Asked;
use super::traceql::{Field, Intrinsic, Metric, MetricKind, Subject, columns_of, parse};
use crate::error::QueryError;
use crate::logs::fragment::{Result, differences, sums};
use crate::value::Map;

/// Buckets of a sketch between a number and its double.
const BUCKETS_A_DOUBLING: f64 = 32.0;

/// Labels of a series, by the fields of `by`.
pub type TraceLabels = Vec<(String, LogValue<'static>)>;

/// A series.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSeries {
    /// Its labels.
    pub labels: TraceLabels,
    /// Beginnings of buckets, and numbers; a rate and a count have all buckets, others those with spans.
    pub points: Vec<(TimestampNs, f64)>,
}

/// The label by which quantiles are told apart.
pub const QUANTILE_LABEL: &str = "p";
/// The label by which the buckets of histograms are told apart.
pub const BUCKET_LABEL: &str = "__bucket";

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    zeros: u64,
    sketch: BTreeMap<i32, u64>,
}

impl State {
    fn add(&mut self, number: f64, with_sketch: bool) -> bool {
        let first = self.count == 0;
        self.count += 1;
        self.sum += number;
        self.min = if first { number } else { self.min.min(number) };
        self.max = if first { number } else { self.max.max(number) };
        if !with_sketch {
            return false;
        }
        if number <= 0.0 {
            self.zeros += 1;
            return false;
        }
        let bucket = (number.log2() * BUCKETS_A_DOUBLING).floor() as i32;
        let before = self.sketch.len();
        *self.sketch.entry(bucket).or_default() += 1;
        self.sketch.len() > before
    }

    fn merge(&mut self, other: &State) {
        if other.count == 0 {
            return;
        }
        let first = self.count == 0;
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.min = if first { other.min } else { self.min.min(other.min) };
        self.max = if first { other.max } else { self.max.max(other.max) };
        self.zeros = self.zeros.saturating_add(other.zeros);
        for (bucket, count) in &other.sketch {
            let known = self.sketch.entry(*bucket).or_default();
            *known = known.saturating_add(*count);
        }
    }

    fn quantile(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = self.zeros;
        if rank <= seen {
            return 0.0;
        }
        for (bucket, count) in &self.sketch {
            seen = seen.saturating_add(*count);
            if rank <= seen {
                let middle = ((f64::from(*bucket) + 0.5) / BUCKETS_A_DOUBLING).exp2();
                return middle.clamp(self.min, self.max);
            }
        }
        self.max
    }
}

fn is_duration(field: &Field) -> bool {
    matches!(field, Field::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration))
}

/// States by labels and bucket.
#[derive(Default)]
struct States {
    /// Texts of labels with their kinds, so that 1 and "1" are two.
    positions: Map<String, usize>,
    series: Vec<(Vec<LogValue<'static>>, BTreeMap<u64, State>)>,
}

impl States {
    fn series(&mut self, labels: Vec<LogValue<'static>>) -> &mut BTreeMap<u64, State> {
        let at = *self.positions.entry(format!("{labels:?}")).or_insert(self.series.len());
        if at == self.series.len() {
            self.series.push((labels, BTreeMap::new()));
        }
        &mut self.series[at].1
    }
}

/// Answers a request for numbers.
pub(super) fn metrics(asked: &Asked<'_>, request: &MetricsRequest) -> Result<TraceAnswer> {
    let query = parse(&request.query)?;
    let Some(metric) = query.metric.clone() else {
        return Err(QueryError::Protocol("a request for numbers names none".to_owned()));
    };
    if request.step_ns < 1 {
        return Err(QueryError::Protocol("the width of buckets is not positive".to_owned()));
    }
    let max_series = usize::try_from(request.max_series).unwrap_or(usize::MAX);
    let with_sketch = matches!(metric.kind, MetricKind::Quantile(..));
    let mut states = States::default();
    asked.each_match(&query, columns_of(&query), &mut |subject| {
        let passed = i128::from(subject.span.start_ns) - i128::from(request.start_ns);
        let Ok(bucket) = u64::try_from(passed.div_euclid(i128::from(request.step_ns))) else { return Ok(()) };
        let Some((labels, number)) = labels_and_number(&metric, subject) else { return Ok(()) };
        if bucket >= request.steps {
            return Ok(());
        }
        let known = states.series.len();
        let state = states.series(labels).entry(bucket).or_default();
        let is_first = state.count == 0;
        let grown = state.add(number, with_sketch);
        asked.budget.hold(u64::from(is_first) * 128 + u64::from(grown) * 24)?;
        if states.series.len() > known {
            asked.budget.hold(256)?;
        }
        match states.series.len() > max_series {
            true => Err(too_many_series(max_series)),
            false => Ok(()),
        }
    })?;
    Ok(TraceAnswer {
        series: states.series.into_iter().map(state_message).collect(),
        ..TraceAnswer::default()
    })
}

fn too_many_series(limit: usize) -> QueryError {
    QueryError::Execution(format!("more than {limit} series: group by fewer fields, or select fewer spans"))
}

/// The series of a span, and its number there; none where the span has no such number.
fn labels_and_number(metric: &Metric, subject: Subject<'_, '_>) -> Option<(Vec<LogValue<'static>>, f64)> {
    let mut labels: Vec<LogValue<'static>> = metric.by.iter().map(|field| subject.first(field)).collect();
    let Some(field) = metric.kind.field() else { return Some((labels, 0.0)) };
    let raw = subject.number(field)?.as_float();
    let scale = if is_duration(field) { 1e-9 } else { 1.0 };
    if let MetricKind::Histogram(_) = metric.kind {
        let bound = if raw <= 0.0 { 0.0 } else { raw.log2().ceil().exp2() };
        labels.push(LogValue::Float(bound * scale));
    }
    Some((labels, raw * scale))
}

fn state_message((labels, buckets): (Vec<LogValue<'static>>, BTreeMap<u64, State>)) -> StateMessage {
    let labels: Vec<_> = labels.into_iter().map(|value| ("".into(), value)).collect();
    let starts: Vec<u64> = buckets.keys().copied().collect();
    let sketch = |state: &State| SketchMessage {
        zeros: state.zeros,
        buckets: state.sketch.keys().copied().collect(),
        counts: state.sketch.values().copied().collect(),
    };
    let has_sketches = buckets.values().any(|state| state.zeros > 0 || !state.sketch.is_empty());
    StateMessage {
        labels: to_attributes(&labels),
        buckets: differences(&starts),
        counts: buckets.values().map(|state| state.count).collect(),
        sums: buckets.values().map(|state| state.sum).collect(),
        mins: buckets.values().map(|state| state.min).collect(),
        maxs: buckets.values().map(|state| state.max).collect(),
        sketches: if has_sketches { buckets.values().map(sketch).collect() } else { Vec::new() },
    }
}

fn state_of(message: &StateMessage, at: usize) -> Option<State> {
    let mut state = State {
        count: *message.counts.get(at)?,
        sum: *message.sums.get(at)?,
        min: *message.mins.get(at)?,
        max: *message.maxs.get(at)?,
        ..State::default()
    };
    if let Some(sketch) = message.sketches.get(at) {
        state.zeros = sketch.zeros;
        state.sketch = sketch.buckets.iter().copied().zip(sketch.counts.iter().copied()).collect();
    }
    Some(state)
}

/// When numbers are wanted: the beginning of the first bucket, their width and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub start_ns: i64,
    pub step_ns: i64,
    pub steps: u64,
}

/// Adds up what the shards counted.
pub(super) fn merge(
    metric: &Metric,
    grid: Grid,
    answers: Vec<TraceAnswer>,
    max_series: usize,
) -> Result<Vec<TraceSeries>> {
    let mut states = States::default();
    for answer in answers {
        for message in answer.series {
            let labels: Vec<LogValue<'static>> =
                from_attributes(message.labels.clone()).into_iter().map(|(_, value)| value).collect();
            let buckets = sums(&message.buckets)?;
            let known = states.series(labels);
            for (at, bucket) in buckets.into_iter().enumerate() {
                let Some(state) = state_of(&message, at).filter(|_| bucket < grid.steps) else {
                    return Err(QueryError::Protocol("a series has a bucket without a state".to_owned()));
                };
                known.entry(bucket).or_default().merge(&state);
            }
            if states.series.len() > max_series {
                return Err(too_many_series(max_series));
            }
        }
    }
    // Nothing found is a rate of nothing, if no labels are asked for.
    if states.series.is_empty() && metric.by.is_empty() && metric.kind.field().is_none() {
        states.series(Vec::new());
    }
    let mut out = Vec::new();
    for (values, buckets) in states.series {
        let mut values = values.into_iter();
        let mut labels: TraceLabels = metric.by.iter().map(Field::to_string).zip(values.by_ref()).collect();
        if let Some(bound) = values.next() {
            labels.push((BUCKET_LABEL.to_owned(), bound));
        }
        out.extend(series_of(metric, grid, labels, &buckets));
    }
    out.sort_by_cached_key(|series| format!("{:?}", series.labels));
    Ok(out)
}

fn series_of(
    metric: &Metric,
    grid: Grid,
    labels: TraceLabels,
    buckets: &BTreeMap<u64, State>,
) -> Vec<TraceSeries> {
    let time = |bucket: u64| {
        let behind = i128::from(bucket) * i128::from(grid.step_ns) + i128::from(grid.start_ns);
        i64::try_from(behind).unwrap_or(i64::MAX)
    };
    let of_states = |number: &dyn Fn(&State) -> f64| -> Vec<(TimestampNs, f64)> {
        buckets.iter().map(|(bucket, state)| (time(*bucket), number(state))).collect()
    };
    let step_s = grid.step_ns as f64 / 1e9;
    let points = match &metric.kind {
        MetricKind::Rate | MetricKind::Count => {
            let count = |bucket: u64| buckets.get(&bucket).map_or(0, |state| state.count) as f64;
            let scale = if metric.kind == MetricKind::Rate { step_s } else { 1.0 };
            (0..grid.steps).map(|bucket| (time(bucket), count(bucket) / scale)).collect()
        }
        MetricKind::Min(_) => of_states(&|state| state.min),
        MetricKind::Max(_) => of_states(&|state| state.max),
        MetricKind::Sum(_) => of_states(&|state| state.sum),
        MetricKind::Avg(_) => of_states(&|state| state.sum / state.count as f64),
        MetricKind::Histogram(_) => of_states(&|state| state.count as f64),
        MetricKind::Quantile(_, quantiles) => {
            let of_quantile = |quantile: &f64| {
                let mut labels = labels.clone();
                labels.push((QUANTILE_LABEL.to_owned(), LogValue::Float(*quantile)));
                TraceSeries { labels, points: of_states(&|state| state.quantile(*quantile)) }
            };
            return quantiles.iter().map(of_quantile).collect();
        }
    };
    vec![TraceSeries { labels, points }]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_near_the_number_of_their_rank(
            numbers in proptest::collection::vec(1e-9f64..1e6, 1..200),
            cut in 0usize..200,
            quantile in 0.0f64..=1.0,
        ) {
            let (mut one, mut other) = (State::default(), State::default());
            for (at, number) in numbers.iter().enumerate() {
                if at < cut { one.add(*number, true) } else { other.add(*number, true) };
            }
            one.merge(&other);
            let mut sorted = numbers.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = ((quantile * sorted.len() as f64).ceil() as usize).max(1) - 1;
            let found = one.quantile(quantile);
            prop_assert!((found / sorted[rank] - 1.0).abs() < 0.011, "{} for {}", found, sorted[rank]);
            prop_assert_eq!((one.count, one.min, one.max), (numbers.len() as u64, sorted[0], sorted[numbers.len() - 1]));
        }
    }

    #[test]
    fn states_travel_whole() {
        let mut buckets = BTreeMap::new();
        for (bucket, number) in [(0, 0.0), (3, 2.5), (3, 7.0)] {
            buckets.entry(bucket).or_insert_with(State::default).add(number, true);
        }
        let message = state_message((vec![LogValue::Int(1)], buckets.clone()));
        let numbers = sums(&message.buckets).expect("they do not overflow");
        for (at, bucket) in numbers.iter().enumerate() {
            assert_eq!(state_of(&message, at).as_ref(), buckets.get(bucket));
        }
        assert_eq!(buckets[&0].quantile(0.5), 0.0);
    }
}
