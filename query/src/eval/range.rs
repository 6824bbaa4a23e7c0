//! Functions over ranges: one pass along a series, the window's edges moving with the steps.
//!
//! The functions that dashboards use most (rate, increase, delta, min, max, count, changes, resets, last, first) cost
//! a step only what moved; the sums are recomputed per window, because that is what makes them exact to the last bit.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use protocol::histogram::{CounterResetHint, Histogram};
use protocol::labels::Labels;
use protocol::sample::is_stale_nan;

use super::selector::{Reference, advance};
use super::steady_rate::{MovingRange, SteadyRate};
use super::{Evaluator, Result, Sink, millis, rolled};
use crate::error::QueryError;
use crate::exec::{Limits, column_bytes};
use crate::promql::ast::{Edges, Expr, ExprKind, MatrixSelector, Subquery, ValueType};
use crate::promql::functions::FunctionId;
use crate::promql::functions::rate::{self, RateKind, float_rate, float_resets};
use crate::promql::functions::window::{Answer, Call, Window};
use crate::promql::functions::{over_time, regression};
use crate::source::{RolledHour, SeriesColumns, TimeRange};
use crate::value::{Grid, Series, is_absent};

/// The samples of one series, stale ones left out.
pub struct Samples<'a> {
    times: Cow<'a, [i64]>,
    values: Cow<'a, [f64]>,
    starts: Cow<'a, [i64]>,
    histogram_times: Cow<'a, [i64]>,
    histograms: Vec<Arc<Histogram>>,
    rolled: &'a [RolledHour],
}

fn without<T: Copy>(column: &[T], gone: &[usize]) -> Vec<T> {
    let mut gone = gone.iter().copied().peekable();
    let kept = column.iter().enumerate().filter(|(i, _)| gone.next_if_eq(i).is_none());
    kept.map(|(_, value)| *value).collect()
}

impl<'a> Samples<'a> {
    /// From the columns of a source. Borrows them unless there are stale markers among them.
    pub fn read(columns: &SeriesColumns<'a>) -> Self {
        let stale: Vec<usize> =
            columns.values.iter().enumerate().filter(|(_, v)| is_stale_nan(**v)).map(|(i, _)| i).collect();
        let stale_histograms: Vec<usize> = columns
            .histograms
            .iter()
            .enumerate()
            .filter(|(_, h)| is_stale_nan(h.sum))
            .map(|(i, _)| i)
            .collect();
        fn keep<'a, T: Copy>(column: &'a [T], gone: &[usize]) -> Cow<'a, [T]> {
            if gone.is_empty() { Cow::Borrowed(column) } else { Cow::Owned(without(column, gone)) }
        }
        Self {
            times: keep(columns.times, &stale),
            values: keep(columns.values, &stale),
            starts: keep(columns.start_times, &stale),
            histogram_times: keep(columns.histogram_times, &stale_histograms),
            histograms: columns
                .histograms
                .iter()
                .filter(|h| !is_stale_nan(h.sum))
                .map(|h| Arc::new(h.clone()))
                .collect(),
            rolled: columns.rolled,
        }
    }

    /// From the steps of a subquery's series. Hints on resets do not survive the choice of steps.
    pub fn of_steps(series: &Series, grid: &Grid) -> Self {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let (mut histogram_times, mut histograms) = (Vec::new(), Vec::new());
        for step in 0..grid.count {
            if !is_absent(series.values[step]) {
                times.push(grid.at(step));
                values.push(series.values[step]);
            } else if let Some(h) = series.histogram(step) {
                histogram_times.push(grid.at(step));
                let mut h = Arc::clone(h);
                if matches!(h.counter_reset_hint, CounterResetHint::Reset | CounterResetHint::NotReset) {
                    Arc::make_mut(&mut h).counter_reset_hint = CounterResetHint::Unknown;
                }
                histograms.push(h);
            }
        }
        Self {
            times: Cow::Owned(times),
            values: Cow::Owned(values),
            starts: Cow::Borrowed(&[]),
            histogram_times: Cow::Owned(histogram_times),
            histograms,
            rolled: &[],
        }
    }

    fn len(&self) -> u64 {
        use crate::histogram::HistogramExt;
        self.times.len() as u64 + self.histograms.iter().map(|h| 1 + h.weight()).sum::<u64>()
    }

    /// The samples after `start` up to `end`.
    pub fn window(&self, start: i64, end: i64) -> Window<'_> {
        let floats = |time: i64| self.times.partition_point(|t| *t <= time);
        let histograms = |time: i64| self.histogram_times.partition_point(|t| *t <= time);
        self.cut(floats(start)..floats(end), histograms(start)..histograms(end), (start, end), end)
    }

    fn cut(
        &self,
        floats: std::ops::Range<usize>,
        histograms: std::ops::Range<usize>,
        (start, end): (i64, i64),
        at: i64,
    ) -> Window<'_> {
        let optional = |column: &'_ [i64], range: &std::ops::Range<usize>| -> std::ops::Range<usize> {
            if column.is_empty() { 0..0 } else { range.clone() }
        };
        let floats = floats.start.min(floats.end)..floats.end;
        let histograms = histograms.start.min(histograms.end)..histograms.end;
        Window {
            times: &self.times[floats.clone()],
            values: &self.values[floats.clone()],
            starts: &self.starts[optional(&self.starts, &floats)],
            histogram_times: &self.histogram_times[histograms.clone()],
            histograms: &self.histograms[histograms.clone()],
            start,
            end,
            at,
        }
    }
}

/// Where the ranges of a call lie.
struct Ranges {
    reference: Reference,
    range: i64,
    edges: Edges,
    lookback: i64,
}

impl Ranges {
    fn of(matrix: &MatrixSelector, lookback: i64) -> Self {
        let selector = &matrix.selector;
        let reference = Reference::of(selector);
        Self { reference, range: matrix.range.millis, edges: selector.edges, lookback }
    }

    /// All that is read for a grid.
    fn all(&self, grid: &Grid) -> TimeRange {
        let (first, _) = self.seen(self.at(grid.start));
        let (_, last) = self.seen(self.at(grid.end()));
        TimeRange::new(first.saturating_add(1), last)
    }

    /// The range of an evaluation time: after the first up to the second.
    fn at(&self, evaluation: i64) -> (i64, i64) {
        let end = self.reference.time(evaluation);
        (end.saturating_sub(self.range), end)
    }

    /// What has to be seen for a range, edges included.
    fn seen(&self, (start, end): (i64, i64)) -> (i64, i64) {
        match self.edges {
            Edges::Plain => (start, end),
            Edges::Anchored => (start.saturating_sub(self.lookback), end),
            Edges::Smoothed => (start.saturating_sub(self.lookback), end.saturating_add(self.lookback)),
        }
    }
}

/// A function along one series. Windows come in ascending order.
pub(super) trait Kernel {
    fn step(&mut self, bounds: (usize, usize), window: &Window<'_>, call: &Call<'_>) -> Result<Answer>;
}

/// Any function, from scratch for each window.
pub(super) struct Whole(pub FunctionId);

impl Kernel for Whole {
    fn step(&mut self, _: (usize, usize), window: &Window<'_>, call: &Call<'_>) -> Result<Answer> {
        use FunctionId as Id;
        if let Some(kind) = rate_kind(self.0) {
            return Ok(rate::rate(kind, window, call));
        }
        Ok(match self.0 {
            Id::Irate => rate::instant(true, window, call),
            Id::Idelta => rate::instant(false, window, call),
            Id::Resets => rate::resets(window, call),
            Id::Changes => rate::changes(window, call),
            Id::SumOverTime => over_time::sum(window, call),
            Id::AvgOverTime => over_time::avg(window, call),
            Id::CountOverTime => over_time::count(window),
            Id::PresentOverTime => Answer::Float(1.0),
            Id::MinOverTime => over_time::extreme(false, window, call),
            Id::MaxOverTime => over_time::extreme(true, window, call),
            Id::TsOfMinOverTime => over_time::extreme_time(false, window, call),
            Id::TsOfMaxOverTime => over_time::extreme_time(true, window, call),
            Id::FirstOverTime => over_time::edge(true, window),
            Id::LastOverTime => over_time::edge(false, window),
            Id::TsOfFirstOverTime => over_time::edge_time(true, window),
            Id::TsOfLastOverTime => over_time::edge_time(false, window),
            Id::StdvarOverTime => over_time::variance(window, call).map_or(Answer::Nothing, Answer::Float),
            Id::StddevOverTime => {
                over_time::variance(window, call).map_or(Answer::Nothing, |v| Answer::Float(v.sqrt()))
            }
            Id::MadOverTime => over_time::mad(window, call),
            Id::QuantileOverTime => over_time::quantile(window, call),
            Id::Deriv => regression::deriv(window, call),
            Id::PredictLinear => regression::predict_linear(window, call),
            Id::DoubleExponentialSmoothing => regression::double_exponential_smoothing(window, call)?,
            other => return Err(QueryError::Execution(format!("{other:?} is no function over ranges"))),
        })
    }
}

/// rate, increase and delta of floats: the resets are found once, a window looks at those inside it.
struct Rate {
    kind: RateKind,
    resets: Vec<usize>,
}

impl Kernel for Rate {
    fn step(&mut self, (from, _): (usize, usize), window: &Window<'_>, _: &Call<'_>) -> Result<Answer> {
        let len = window.values.len();
        let first = self.resets.partition_point(|i| *i <= from);
        let last = self.resets.partition_point(|i| *i < from + len);
        if first >= last {
            return Ok(float_rate(self.kind, window, &[]));
        }
        let inside: Vec<usize> = self.resets[first..last].iter().map(|i| i - from).collect();
        Ok(float_rate(self.kind, window, &inside))
    }
}

/// min and max of floats: a queue of the values that may still become the extreme.
struct Extreme {
    largest: bool,
    queue: VecDeque<(usize, f64)>,
    next: usize,
}

impl Kernel for Extreme {
    fn step(&mut self, (from, to): (usize, usize), window: &Window<'_>, _: &Call<'_>) -> Result<Answer> {
        if window.values.is_empty() {
            return Ok(Answer::Nothing);
        }
        self.next = self.next.max(from);
        for i in self.next..to {
            let value = window.values[i - from];
            if value.is_nan() {
                continue;
            }
            let loses = |old: f64| if self.largest { old < value } else { old > value };
            while self.queue.back().is_some_and(|(_, old)| loses(*old)) {
                self.queue.pop_back();
            }
            self.queue.push_back((i, value));
        }
        self.next = self.next.max(to);
        while self.queue.front().is_some_and(|(i, _)| *i < from) {
            self.queue.pop_front();
        }
        Ok(Answer::Float(self.queue.front().map_or(f64::NAN, |(_, value)| *value)))
    }
}

/// changes and resets of floats: counts up to each sample.
struct Pairs {
    /// How many pairs that end at or before a sample count.
    up_to: Vec<u32>,
}

impl Pairs {
    fn new(values: &[f64], counts: impl Fn(f64, f64) -> bool) -> Self {
        let mut total = 0;
        let mut up_to = Vec::with_capacity(values.len());
        for (i, value) in values.iter().enumerate() {
            total += u32::from(i > 0 && counts(values[i - 1], *value));
            up_to.push(total);
        }
        Self { up_to }
    }
}

impl Pairs {
    /// From the indices of the samples that count against the one before, in ascending order.
    fn at(samples: usize, indices: &[usize]) -> Self {
        let mut rest = indices.iter().copied().peekable();
        let mut total = 0;
        let step = |i| {
            total += u32::from(rest.next_if_eq(&i).is_some());
            total
        };
        Self { up_to: (0..samples).map(step).collect() }
    }
}

impl Kernel for Pairs {
    fn step(&mut self, (from, to): (usize, usize), window: &Window<'_>, _: &Call<'_>) -> Result<Answer> {
        if window.values.is_empty() {
            return Ok(Answer::Nothing);
        }
        Ok(Answer::Float(f64::from(self.up_to[to - 1] - self.up_to[from])))
    }
}

pub(super) fn rate_kind(id: FunctionId) -> Option<RateKind> {
    match id {
        FunctionId::Rate => Some(RateKind { counter: true, per_second: true }),
        FunctionId::Increase => Some(RateKind { counter: true, per_second: false }),
        FunctionId::Delta => Some(RateKind { counter: false, per_second: false }),
        _ => None,
    }
}

fn kernel(id: FunctionId, samples: &Samples<'_>, edges: Edges) -> Box<dyn Kernel> {
    use FunctionId as Id;
    if !samples.histograms.is_empty() || edges != Edges::Plain {
        return Box::new(Whole(id));
    }
    if let Some(kind) = rate_kind(id) {
        let resets = match kind.counter {
            true => float_resets(&samples.times, &samples.values, &samples.starts),
            false => Vec::new(),
        };
        return Box::new(Rate { kind, resets });
    }
    match id {
        Id::MinOverTime | Id::MaxOverTime => {
            Box::new(Extreme { largest: id == Id::MaxOverTime, queue: VecDeque::new(), next: 0 })
        }
        Id::Changes => Box::new(Pairs::new(&samples.values, rate::float_changes)),
        Id::Resets => Box::new(Pairs::at(
            samples.values.len(),
            &float_resets(&samples.times, &samples.values, &samples.starts),
        )),
        _ => Box::new(Whole(id)),
    }
}

impl Evaluator<'_> {
    /// A function over ranges, its series with their names still on.
    pub(super) fn over_range(&self, id: FunctionId, args: &[Expr], grid: Grid, sink: Sink<'_>) -> Result<()> {
        let mut params = Vec::new();
        let mut input = None;
        for arg in args {
            match arg.value_type() {
                ValueType::Matrix => input = Some(arg.unwrapped()),
                _ => params.push(self.scalar(arg, grid)?),
            }
        }
        let Some(input) = input else {
            return Err(QueryError::Execution("a function over ranges got no range".to_owned()));
        };
        let span = args[0].span;
        let along = |labels: &Labels,
                     drop_name: bool,
                     samples: &Samples<'_>,
                     ranges: &Ranges,
                     per_step: bool,
                     sink: Sink<'_>| {
            let metric = labels.metric_name();
            let mut held = self.budget.columns(1, grid.count)?;
            let mut series = Series { drop_name, ..Series::empty(labels.clone(), grid.count) };
            let mut kernel = kernel(id, samples, ranges.edges);
            let (mut from, mut to, mut histogram_from, mut histogram_to) = (0, 0, 0, 0);
            let mut has_floats = false;
            for step in 0..grid.count {
                let evaluation = grid.at(step);
                let range = ranges.at(evaluation);
                let seen = ranges.seen(range);
                if step == 0 || per_step {
                    from += advance(&samples.times[from..], seen.0);
                    to += advance(&samples.times[to..], seen.1);
                    histogram_from += advance(&samples.histogram_times[histogram_from..], seen.0);
                    histogram_to += advance(&samples.histogram_times[histogram_to..], seen.1);
                }
                let hours = rolled::reached(samples.rolled, seen.0, seen.1);
                if hours.iter().any(|hour| !rolled::is_whole(hour, range.0, range.1)) {
                    self.notes.borrow_mut().parts_of_rolled_hours(span);
                }
                if from >= to && histogram_from >= histogram_to {
                    continue;
                }
                let seen_samples = to.saturating_sub(from) + histogram_to.saturating_sub(histogram_from);
                self.budget.work(1 + seen_samples as u64)?;
                let window = samples.cut(from..to, histogram_from..histogram_to, range, evaluation);
                let mut at = [0.0; 2];
                for (slot, column) in at.iter_mut().zip(&params) {
                    *slot = column[step];
                }
                let call = Call { notes: &self.notes, metric, span, edges: ranges.edges, params: at };
                let answer = match (hours, ranges.edges) {
                    ([], _) => kernel.step((from, to), &window, &call)?,
                    (_, Edges::Plain) => rolled::answer(id, &window, hours, &call)?,
                    _ => {
                        self.notes.borrow_mut().not_told_by_rollups(span);
                        Answer::Nothing
                    }
                };
                match answer {
                    Answer::Nothing => {}
                    Answer::Float(value) => {
                        has_floats = true;
                        series.values[step] = if is_absent(value) { f64::NAN } else { value };
                    }
                    Answer::Histogram(h) => {
                        if series.histograms.is_empty() {
                            held.grow(column_bytes(grid.count))?;
                        }
                        series.set_histogram(step, h);
                    }
                }
            }
            if has_floats && matches!(id, FunctionId::Rate | FunctionId::Increase) {
                self.doubt_counter(labels, span);
            }
            if series.has_any() { sink(series) } else { Ok(()) }
        };
        match &input.kind {
            ExprKind::Matrix(matrix) => {
                let selector = &matrix.selector;
                check_edges(id, selector.edges)?;
                let ranges = Ranges::of(matrix, self.lookback);
                let per_step = !ranges.reference.is_fixed();
                let seen = ranges.all(&grid);
                let mut steady = match rate_kind(id) {
                    Some(kind) if per_step && selector.edges == Edges::Plain => {
                        let (offset, range) = (ranges.reference.offset(), ranges.range);
                        Some(SteadyRate::new(kind, MovingRange { grid, offset, range }, self.budget)?)
                    }
                    _ => None,
                };
                self.select(selector, seen, |mut columns| {
                    if !self.features.start_timestamps {
                        columns.start_times = &[];
                    }
                    let samples = Samples::read(&columns);
                    self.budget.charge_samples(samples.len())?;
                    let steady = steady
                        .as_mut()
                        .filter(|_| samples.histograms.is_empty() && samples.starts.is_empty())
                        .filter(|_| samples.rolled.is_empty());
                    let Some(steady) = steady else {
                        return along(columns.labels, false, &samples, &ranges, per_step, sink);
                    };
                    let _held = self.budget.columns(1, grid.count)?;
                    self.budget.work(grid.count as u64)?;
                    let mut series = Series::empty(columns.labels.clone(), grid.count);
                    let vector = columns.shared_times.filter(|_| matches!(samples.times, Cow::Borrowed(_)));
                    if !steady.column(vector, &samples.times, &samples.values, &mut series.values)? {
                        return Ok(());
                    }
                    if id != FunctionId::Delta {
                        self.doubt_counter(columns.labels, span);
                    }
                    sink(series)
                })
            }
            ExprKind::Subquery(subquery) => {
                let inner = self.subquery_grid(subquery, grid)?;
                let ranges = Ranges {
                    reference: Reference::new(subquery.at, millis(subquery.offset.as_ref())),
                    range: subquery.range.millis,
                    edges: Edges::Plain,
                    lookback: self.lookback,
                };
                let per_step = !ranges.reference.is_fixed();
                self.stream(&subquery.expr, inner, &mut |series| {
                    // Times and values of all steps, at most.
                    let _held = self.budget.columns(2, inner.count)?;
                    let samples = Samples::of_steps(&series, &inner);
                    self.budget.charge_samples(samples.len())?;
                    along(&series.labels, series.drop_name, &samples, &ranges, per_step, sink)
                })
            }
            _ => Err(QueryError::Execution(format!("{input} is no range"))),
        }
    }

    /// The times at which a subquery's expression is evaluated: multiples of its step. Fails when they are more than
    /// the query's limits allow.
    pub(crate) fn subquery_grid(&self, subquery: &Subquery, grid: Grid) -> Result<Grid> {
        subquery_grid(subquery, grid, self.subquery_step, self.budget.limits())
    }

    /// Says so when a rate is taken of something that does not look like a counter.
    fn doubt_counter(&self, labels: &Labels, span: crate::promql::span::Span) {
        let metric = labels.metric_name();
        if metric.is_empty() {
            return;
        }
        // Series without the label, which came before it or from elsewhere, are judged by their names as ever.
        if let Some(kind) = labels.get("__type__").filter(|_| self.features.type_and_unit_labels) {
            if !matches!(kind, "counter" | "histogram") {
                self.notes.borrow_mut().possible_non_counter_label(metric, kind, span);
            }
        } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|end| metric.ends_with(end)) {
            self.notes.borrow_mut().possible_non_counter(metric, span);
        }
    }
}

/// See [`Evaluator::subquery_grid`].
pub(crate) fn subquery_grid(
    subquery: &Subquery,
    grid: Grid,
    default_step: i64,
    limits: &Limits,
) -> Result<Grid> {
    let step = subquery.step.as_ref().map_or(default_step, |step| step.millis).max(1);
    let reference = Reference::new(subquery.at, millis(subquery.offset.as_ref()));
    let (first, last) = (reference.time(grid.start), reference.time(grid.end()));
    let after = first.saturating_sub(subquery.range.millis);
    let start = after.div_euclid(step).saturating_add(1).saturating_mul(step);
    let grid = Grid::between(start, last, step);
    limits.check_grid(&grid)?;
    Ok(grid)
}

/// The times that a range selector reads on a grid.
pub(crate) fn range_read(matrix: &MatrixSelector, grid: &Grid, lookback: i64) -> TimeRange {
    Ranges::of(matrix, lookback).all(grid)
}

fn check_edges(id: FunctionId, edges: Edges) -> Result<()> {
    use FunctionId as Id;
    let (word, allowed, names): (_, &[FunctionId], _) = match edges {
        Edges::Plain => return Ok(()),
        Edges::Anchored => (
            "anchored",
            &[Id::Changes, Id::Delta, Id::Increase, Id::Rate, Id::Resets],
            "changes, delta, increase, rate, resets",
        ),
        Edges::Smoothed => ("smoothed", &[Id::Delta, Id::Increase, Id::Rate], "delta, increase, rate"),
    };
    if allowed.contains(&id) {
        return Ok(());
    }
    let name = crate::promql::functions::FUNCTIONS.iter().find(|f| f.id == id).map_or("", |f| f.name);
    let message = format!("{word} modifier can only be used with: {names} - not with {name}");
    Err(QueryError::Execution(message))
}

/// The whole column of a series, for tests that compare kernels.
#[cfg(test)]
fn naive(id: FunctionId, samples: &Samples<'_>, ranges: &[(i64, i64)], call: &Call<'_>) -> Vec<f64> {
    let value = |range: &(i64, i64)| {
        let window = samples.window(range.0, range.1);
        if window.is_empty() {
            return crate::value::ABSENT;
        }
        match Whole(id).step((0, 0), &window, call).expect("a function over ranges") {
            Answer::Float(value) => value,
            _ => crate::value::ABSENT,
        }
    };
    ranges.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Annotations;
    use crate::value::ABSENT;
    use proptest::prelude::*;
    use std::cell::RefCell;

    fn values() -> impl Strategy<Value = Vec<(i64, f64)>> {
        let value = prop_oneof![
            4 => (0u32..50).prop_map(f64::from),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => -10.0..10.0f64,
        ];
        proptest::collection::vec((1i64..40_000, value), 0..60).prop_map(|steps| {
            let mut time = 0;
            steps
                .into_iter()
                .map(|(gap, value)| {
                    time += gap;
                    (time, value)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn sliding_gives_what_each_window_gives(
            samples in values(), range in 1i64..200_000, step in 1i64..100_000, start in -100_000i64..100_000,
        ) {
            let times: Vec<i64> = samples.iter().map(|s| s.0).collect();
            let values: Vec<f64> = samples.iter().map(|s| s.1).collect();
            let labels = Labels::empty();
            let samples = Samples::read(&SeriesColumns::floats(&labels, &times, &values));
            let notes = RefCell::new(Annotations::default());
            let call =
                Call { notes: &notes, metric: "", span: Default::default(), edges: Edges::Plain, params: [0.0; 2] };
            let ranges: Vec<(i64, i64)> =
                (0..40).map(|i| start + i * step).map(|end| (end - range, end)).collect();
            for id in [
                FunctionId::Rate, FunctionId::Increase, FunctionId::Delta, FunctionId::MinOverTime,
                FunctionId::MaxOverTime, FunctionId::Changes, FunctionId::Resets,
            ] {
                let expected = naive(id, &samples, &ranges, &call);
                let mut kernel = kernel(id, &samples, Edges::Plain);
                let (mut from, mut to) = (0, 0);
                for (bounds, expected) in ranges.iter().zip(expected) {
                    from += advance(&times[from..], bounds.0);
                    to += advance(&times[to..], bounds.1);
                    let mut found = ABSENT;
                    if from < to {
                        let window = samples.cut(from..to, 0..0, *bounds, bounds.1);
                        if let Answer::Float(value) = kernel.step((from, to), &window, &call).unwrap() {
                            found = value;
                        }
                    }
                    let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
                    prop_assert!(same, "{:?}: {} for {}", id, found, expected);
                }
            }
        }
    }
}
