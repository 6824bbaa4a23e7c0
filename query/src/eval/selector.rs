//! Instant selectors: for each step the newest sample of the lookback before it.

use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::histogram::{CounterResetHint, Histogram};
use protocol::rollup::ROLLUP_MS;
use protocol::sample::is_stale_nan;

use super::{Evaluator, Result, Sink, millis, rolled};
use crate::error::QueryError;
use crate::exec::column_bytes;
use crate::histogram::HistogramExt;
use crate::promql::ast::{At, Edges, Expr, ExprKind, VectorSelector};
use crate::promql::functions::FunctionId;
use crate::promql::functions::rate::{MixedBuckets, interpolate, interpolate_histogram};
use crate::promql::span::Span;
use crate::source::{SeriesColumns, TimeRange};
use crate::value::{Grid, Series};

/// The time that a selector looks at, for each evaluation time.
#[derive(Clone, Copy)]
pub(super) struct Reference {
    at: Option<i64>,
    offset: i64,
}

impl Reference {
    pub(super) fn new(at: Option<At>, offset: i64) -> Self {
        let at = match at {
            Some(At::Time(time)) => Some(time),
            // `start()` and `end()` were resolved before.
            Some(At::Start | At::End) | None => None,
        };
        Self { at, offset }
    }

    pub(super) fn of(selector: &VectorSelector) -> Self {
        Self::new(selector.at, millis(selector.offset.as_ref()))
    }

    #[inline]
    pub(super) fn time(&self, evaluation: i64) -> i64 {
        self.at.unwrap_or(evaluation).saturating_sub(self.offset)
    }

    /// How far before an evaluation it looks, where it moves with it.
    pub(super) fn offset(&self) -> i64 {
        self.offset
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.at.is_some()
    }
}

/// What an instant selector is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Sample,
    Timestamp,
    StartTimestamp,
}

impl Evaluator<'_> {
    /// The samples of an instant selector.
    pub(super) fn instant_selector(
        &self,
        selector: &VectorSelector,
        span: Span,
        grid: Grid,
        sink: Sink<'_>,
    ) -> Result<()> {
        if selector.edges == Edges::Smoothed {
            return self.smoothed_selector(selector, span, grid, sink);
        }
        self.newest(selector, span, grid, Wanted::Sample, sink)
    }

    /// `timestamp` and `start_timestamp`: of the samples themselves where a selector is asked directly, else the
    /// evaluation time.
    pub(super) fn timestamps(&self, id: FunctionId, input: &Expr, grid: Grid, sink: Sink<'_>) -> Result<()> {
        let wanted = if id == FunctionId::Timestamp { Wanted::Timestamp } else { Wanted::StartTimestamp };
        if let ExprKind::Vector(selector) = &input.unwrapped().kind
            && selector.edges == Edges::Plain
            && self.data.fetched(input, &grid).is_none()
        {
            return self.newest(selector, input.span, grid, wanted, sink);
        }
        if wanted == Wanted::StartTimestamp {
            return Ok(());
        }
        self.stream(input, grid, &mut |mut series| {
            for step in 0..grid.count {
                if series.has(step) {
                    series.clear(step);
                    series.values[step] = grid.at(step) as f64 / 1000.0;
                }
            }
            series.histograms = Vec::new();
            sink(series)
        })
    }

    /// Reads the series of a selector over the times that a grid needs.
    pub(super) fn select(
        &self,
        selector: &VectorSelector,
        range: TimeRange,
        mut each: impl FnMut(SeriesColumns<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut failed: Option<QueryError> = None;
        let wider = match selector.finds_resets {
            true => TimeRange::new(range.start.saturating_sub(self.lookback), range.end),
            false => range,
        };
        self.data.select(&selector.matchers, wider, &mut |columns| {
            let done = self.budget.charge_series().and_then(|()| {
                if !selector.finds_resets {
                    return each(columns);
                }
                let histograms = with_resets(columns.histograms);
                each(since(SeriesColumns { histograms: &histograms, ..columns }, range.start))
            });
            match done {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn newest(
        &self,
        selector: &VectorSelector,
        span: Span,
        grid: Grid,
        wanted: Wanted,
        sink: Sink<'_>,
    ) -> Result<()> {
        let reference = Reference::of(selector);
        let (first, last) = (reference.time(grid.start), reference.time(grid.end()));
        let mut range = TimeRange::new(first.saturating_sub(self.lookback).saturating_add(1), last);
        if self.data.has_rollups(range) {
            range.start = range.start.min(first.saturating_sub(ROLLUP_MS).saturating_add(1));
        }
        self.select(selector, range, |columns| {
            let mut held = self.budget.columns(1, grid.count)?;
            let mut series = Series::empty(columns.labels.clone(), grid.count);
            let mut found = 0u64;
            // Numbers of samples at or before the reference time.
            let (mut floats, mut histograms) = (0, 0);
            for step in 0..grid.count {
                self.budget.work(1)?;
                let time = reference.time(grid.at(step));
                floats += advance(&columns.times[floats..], time);
                histograms += advance(&columns.histogram_times[histograms..], time);
                let float_time = floats.checked_sub(1).map(|i| columns.times[i]);
                let histogram_time = histograms.checked_sub(1).map(|i| columns.histogram_times[i]);
                let Some(newest) = float_time.max(histogram_time) else { continue };
                // Inside of an hour that is rolled up the samples that are left are further apart.
                let is_inside = rolled::reached(columns.rolled, time, time.saturating_add(1))
                    .iter()
                    .any(|hour| hour.first <= time);
                let mut lookback = self.lookback;
                if is_inside {
                    self.notes.borrow_mut().parts_of_rolled_hours(span);
                    lookback = lookback.max(ROLLUP_MS);
                }
                if newest <= time.saturating_sub(lookback) {
                    continue;
                }
                let is_float = float_time == Some(newest);
                if is_float && is_stale_nan(columns.values[floats - 1]) {
                    continue;
                }
                if !is_float && is_stale_nan(columns.histograms[histograms - 1].sum) {
                    continue;
                }
                found += 1;
                match wanted {
                    Wanted::Timestamp => series.values[step] = newest as f64 / 1000.0,
                    Wanted::StartTimestamp => {
                        let start = if is_float {
                            columns.start_times.get(floats - 1)
                        } else {
                            columns.histogram_start_times.get(histograms - 1)
                        };
                        if let Some(start) = start.filter(|start| **start != 0) {
                            series.values[step] = *start as f64 / 1000.0;
                        }
                    }
                    Wanted::Sample if is_float => series.values[step] = columns.values[floats - 1],
                    Wanted::Sample => {
                        // Steps that see the same sample share it.
                        let before = step.checked_sub(1).and_then(|s| series.histogram(s)).cloned();
                        let h = &columns.histograms[histograms - 1];
                        let shared =
                            before.filter(|b| b.same_as(h) && b.counter_reset_hint == h.counter_reset_hint);
                        let h = shared.unwrap_or_else(|| Arc::new(h.clone()));
                        found += h.weight();
                        if series.histograms.is_empty() {
                            held.grow(column_bytes(grid.count))?;
                        }
                        series.set_histogram(step, h);
                    }
                }
            }
            self.budget.charge_samples(found)?;
            if found > 0 && series.has_any() { sink(series) } else { Ok(()) }
        })
    }

    /// `smoothed`: the value at the time itself, interpolated between the samples around it, held after the last.
    fn smoothed_selector(
        &self,
        selector: &VectorSelector,
        span: Span,
        grid: Grid,
        sink: Sink<'_>,
    ) -> Result<()> {
        let reference = Reference::of(selector);
        let range = TimeRange::new(
            reference.time(grid.start).saturating_sub(self.lookback).saturating_add(1),
            reference.time(grid.end()).saturating_add(self.lookback),
        );
        self.select(selector, range, |columns| {
            let samples = super::range::Samples::read(&columns);
            let with_histograms = u64::from(!columns.histograms.is_empty());
            let _held = self.budget.columns(1 + with_histograms, grid.count)?;
            let mut series = Series::empty(columns.labels.clone(), grid.count);
            for step in 0..grid.count {
                let time = reference.time(grid.at(step));
                let window =
                    samples.window(time.saturating_sub(self.lookback), time.saturating_add(self.lookback));
                self.budget.work(1)?;
                self.budget
                    .charge_samples((window.times.len() + window.histogram_times.len()).min(2) as u64)?;
                let metric = columns.labels.metric_name();
                if !window.times.is_empty() && !window.histogram_times.is_empty() {
                    self.notes.borrow_mut().mixed_floats_histograms(metric, span);
                    continue;
                }
                let next = window.times.partition_point(|t| *t < time);
                match (next.checked_sub(1), window.times.get(next)) {
                    (_, Some(t)) if *t == time => series.values[step] = window.values[next],
                    (Some(before), Some(t)) => {
                        let before = (window.times[before], window.values[before]);
                        series.values[step] = interpolate(before, (*t, window.values[next]), time, false);
                    }
                    (Some(before), None) => series.values[step] = window.values[before],
                    (None, _) => {}
                }
                let next = window.histogram_times.partition_point(|t| *t < time);
                let at = |i: usize| (window.histogram_times[i], window.histograms[i].as_ref());
                match (next.checked_sub(1), window.histogram_times.get(next)) {
                    (_, Some(t)) if *t == time => {
                        series.set_histogram(step, Arc::clone(&window.histograms[next]))
                    }
                    (Some(before), Some(_)) => {
                        use protocol::histogram::CounterResetHint::Gauge;
                        let counter = window.histograms[next].counter_reset_hint != Gauge;
                        match interpolate_histogram(at(before), at(next), time, counter) {
                            Ok(h) => series.set_histogram(step, Arc::new(h)),
                            Err(MixedBuckets) => {
                                self.notes.borrow_mut().mixed_exponential_custom(metric, span)
                            }
                        }
                    }
                    (Some(before), None) => {
                        series.set_histogram(step, Arc::clone(&window.histograms[before]))
                    }
                    (None, _) => {}
                }
            }
            if series.has_any() { sink(series) } else { Ok(()) }
        })
    }
}

/// Histograms with what they have to say of resets, as far as nobody said it before.
fn with_resets(histograms: &[Histogram]) -> Vec<Histogram> {
    let mut before: Option<&Histogram> = None;
    let mut told = histograms.to_vec();
    for (h, out) in histograms.iter().zip(&mut told).filter(|(h, _)| !is_stale_nan(h.sum)) {
        if let Some(before) = before.filter(|_| h.counter_reset_hint == CounterResetHint::Unknown) {
            let was_reset = h.is_reset_after(before);
            out.counter_reset_hint =
                if was_reset { CounterResetHint::Reset } else { CounterResetHint::NotReset };
        }
        before = Some(h);
    }
    told
}

/// The columns from a time on.
fn since(columns: SeriesColumns<'_>, start: i64) -> SeriesColumns<'_> {
    let floats = columns.times.partition_point(|time| *time < start);
    let histograms = columns.histogram_times.partition_point(|time| *time < start);
    SeriesColumns {
        times: &columns.times[floats..],
        values: &columns.values[floats..],
        start_times: columns.start_times.get(floats..).unwrap_or_default(),
        histogram_times: &columns.histogram_times[histograms..],
        histograms: &columns.histograms[histograms..],
        histogram_start_times: columns.histogram_start_times.get(histograms..).unwrap_or_default(),
        ..columns
    }
}

/// How many of the ascending times are at or before a time. Steps mostly move on by a few samples, so the search
/// gallops.
#[inline]
pub(super) fn advance(times: &[i64], until: i64) -> usize {
    let mut reach = 1;
    while reach <= times.len() && times[reach - 1] <= until {
        reach *= 2;
    }
    let low = reach / 2;
    low + times[low..reach.min(times.len())].partition_point(|t| *t <= until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn galloping_counts_like_counting(mut times: Vec<i64>, until: i64) {
            times.sort_unstable();
            prop_assert_eq!(advance(&times, until), times.iter().filter(|t| **t <= until).count());
        }
    }
}
