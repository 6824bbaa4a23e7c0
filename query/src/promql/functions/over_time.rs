//! The `*_over_time` functions.

use std::sync::Arc;

use protocol::histogram::{CounterResetHint, Histogram};

use super::window::{Answer, Call, Window};
use crate::annotations::{Annotations, HistogramOperation};
use crate::histogram::{HistogramExt, IncompatibleSchemas, Meeting};
use crate::kahan::{self, Sum};

/// Floats only: says so when there are histograms beside them.
fn floats<'a>(window: &Window<'a>, call: &Call<'_>) -> Option<&'a [f64]> {
    if window.values.is_empty() {
        return None;
    }
    if !window.histograms.is_empty() {
        call.notes.borrow_mut().histogram_ignored_in_mixed_range(call.metric, call.span);
    }
    Some(window.values)
}

/// Compensated sum.
pub fn sum(window: &Window<'_>, call: &Call<'_>) -> Answer {
    if is_mixed(window, call) {
        return Answer::Nothing;
    }
    if window.histograms.is_empty() {
        let mut sum = Sum::default();
        window.values.iter().for_each(|value| sum.add(*value));
        return Answer::Float(sum.total());
    }
    fold_histograms(window, call, false, |total| {
        if let Some(low) = total.low.take() {
            total.sum.add(&low)?;
        }
        Ok(total.sum.clone())
    })
}

/// Average: the sum by the count as long as the sum is finite, from then on a running mean.
pub fn avg(window: &Window<'_>, call: &Call<'_>) -> Answer {
    if is_mixed(window, call) {
        return Answer::Nothing;
    }
    if window.histograms.is_empty() {
        return Answer::Float(mean(window.values));
    }
    fold_histograms(window, call, true, |total| {
        let (mut sum, low) = (total.sum.clone(), total.low.take());
        let count = if total.is_mean { 1.0 } else { total.count };
        sum.divide(count);
        if let Some(mut low) = low {
            low.divide(count);
            sum.add(&low)?;
        }
        Ok(sum)
    })
}

/// The mean of at least one float.
fn mean(values: &[f64]) -> f64 {
    let (mut sum, mut low) = (values[0], 0.0);
    let mut mean = None;
    for (i, value) in values.iter().enumerate().skip(1) {
        let count = (i + 1) as f64;
        if mean.is_none() {
            let (new_sum, new_low) = kahan::add(*value, sum, low);
            if !new_sum.is_infinite() {
                (sum, low) = (new_sum, new_low);
                continue;
            }
            mean = Some(sum / (count - 1.0));
            low /= count - 1.0;
        }
        let share = (count - 1.0) / count;
        let (new_mean, new_low) = kahan::add(value / count, share * mean.unwrap_or(0.0), share * low);
        (mean, low) = (Some(new_mean), new_low);
    }
    match mean {
        Some(mean) => mean + low,
        None => {
            let count = values.len() as f64;
            sum / count + low / count
        }
    }
}

fn is_mixed(window: &Window<'_>, call: &Call<'_>) -> bool {
    let mixed = !window.values.is_empty() && !window.histograms.is_empty();
    if mixed {
        call.notes.borrow_mut().mixed_floats_histograms(call.metric, call.span);
    }
    mixed
}

/// A running compensated sum of histograms that turns into a running mean when it overflows.
#[derive(Clone, Debug)]
pub struct HistogramTotal {
    /// The sum, or the mean.
    pub sum: Histogram,
    /// What the additions lost.
    pub low: Option<Histogram>,
    /// How many went in.
    pub count: f64,
    /// Whether `sum` is a mean.
    pub is_mean: bool,
    /// A histogram said that a reset came before it.
    pub reset_seen: bool,
    /// A histogram said that none came before it.
    pub not_reset_seen: bool,
    /// Custom bounds differed.
    pub bounds_reconciled: bool,
}

impl HistogramTotal {
    /// Starts with a histogram.
    pub fn new(first: &Histogram) -> Self {
        let mut total = Self {
            sum: first.clone(),
            low: None,
            count: 1.0,
            is_mean: false,
            reset_seen: false,
            not_reset_seen: false,
            bounds_reconciled: false,
        };
        total.see_hint(first);
        total
    }

    fn see_hint(&mut self, h: &Histogram) {
        self.reset_seen |= h.counter_reset_hint == CounterResetHint::Reset;
        self.not_reset_seen |= h.counter_reset_hint == CounterResetHint::NotReset;
    }

    fn met(&mut self, meeting: Meeting) {
        self.bounds_reconciled |= meeting.bounds_reconciled;
    }

    /// Adds a histogram. With `averaging` an overflow turns the sum into a mean.
    pub fn add(&mut self, h: &Histogram, averaging: bool) -> Result<(), IncompatibleSchemas> {
        self.see_hint(h);
        self.merge_weighted(h, None, 1.0, false, averaging)
    }

    /// Adds another total.
    pub fn merge(&mut self, other: &Self, averaging: bool) -> Result<(), IncompatibleSchemas> {
        self.reset_seen |= other.reset_seen;
        self.not_reset_seen |= other.not_reset_seen;
        self.bounds_reconciled |= other.bounds_reconciled;
        self.merge_weighted(&other.sum, other.low.as_ref(), other.count, other.is_mean, averaging)
    }

    fn merge_weighted(
        &mut self,
        sum: &Histogram,
        low: Option<&Histogram>,
        count: f64,
        is_mean: bool,
        averaging: bool,
    ) -> Result<(), IncompatibleSchemas> {
        let total = self.count + count;
        if !self.is_mean && !is_mean {
            let (mut new_sum, mut new_low) = (self.sum.clone(), self.low.clone());
            let meeting = new_sum.add_compensated(&mut new_low, sum)?;
            if let (Some(low), Some(new_low)) = (low, new_low.as_mut()) {
                new_low.add(low)?;
            }
            if !averaging || !new_sum.has_overflow() {
                (self.sum, self.low, self.count) = (new_sum, new_low, total);
                self.met(meeting);
                return Ok(());
            }
        }
        if !self.is_mean {
            self.sum.divide(self.count);
            if let Some(low) = &mut self.low {
                low.divide(self.count);
            }
            self.is_mean = true;
        }
        let share = self.count / total;
        self.sum.scale(share);
        if let Some(low) = &mut self.low {
            low.scale(share);
        }
        let weight = if is_mean { total / count } else { total };
        let mut part = sum.clone();
        part.divide(weight);
        let meeting = self.sum.add_compensated(&mut self.low, &part)?;
        if let (Some(low), Some(mine)) = (low, self.low.as_mut()) {
            let mut part = low.clone();
            part.divide(weight);
            mine.add(&part)?;
        }
        self.count = total;
        self.met(meeting);
        Ok(())
    }

    /// Says what happened on the way.
    pub fn annotate(&self, notes: &mut Annotations, span: crate::promql::span::Span) {
        if self.reset_seen && self.not_reset_seen {
            notes.counter_reset_collision(HistogramOperation::Aggregation, span);
        }
        if self.bounds_reconciled {
            notes.mismatched_custom_buckets(HistogramOperation::Aggregation, span);
        }
    }
}

fn fold_histograms(
    window: &Window<'_>,
    call: &Call<'_>,
    averaging: bool,
    finish: impl Fn(&mut HistogramTotal) -> Result<Histogram, IncompatibleSchemas>,
) -> Answer {
    let mut total = HistogramTotal::new(&window.histograms[0]);
    let result = window.histograms[1..]
        .iter()
        .try_for_each(|h| total.add(h, averaging))
        .and_then(|()| finish(&mut total));
    let mut notes = call.notes.borrow_mut();
    match result {
        Ok(h) => {
            total.annotate(&mut notes, call.span);
            Answer::Histogram(Arc::new(h))
        }
        Err(IncompatibleSchemas) => {
            notes.mixed_exponential_custom(call.metric, call.span);
            Answer::Nothing
        }
    }
}

/// Number of samples.
pub fn count(window: &Window<'_>) -> Answer {
    Answer::Float((window.times.len() + window.histogram_times.len()) as f64)
}

/// The oldest (`first`) or newest sample.
pub fn edge(first: bool, window: &Window<'_>) -> Answer {
    let pick = |len: usize| if first { 0 } else { len - 1 };
    let float = (!window.times.is_empty()).then(|| pick(window.times.len()));
    let histogram = (!window.histogram_times.is_empty()).then(|| pick(window.histogram_times.len()));
    match (float, histogram) {
        (Some(f), Some(h)) => {
            let (float_time, histogram_time) = (window.times[f], window.histogram_times[h]);
            if (first && float_time < histogram_time) || (!first && histogram_time < float_time) {
                Answer::Float(window.values[f])
            } else {
                Answer::Histogram(Arc::clone(&window.histograms[h]))
            }
        }
        (Some(f), None) => Answer::Float(window.values[f]),
        (None, Some(h)) => Answer::Histogram(Arc::clone(&window.histograms[h])),
        (None, None) => Answer::Nothing,
    }
}

/// Time of the oldest (`first`) or newest sample.
pub fn edge_time(first: bool, window: &Window<'_>) -> Answer {
    let times = if first {
        [window.times.first(), window.histogram_times.first()].into_iter().flatten().min()
    } else {
        [window.times.last(), window.histogram_times.last()].into_iter().flatten().max()
    };
    times.map_or(Answer::Nothing, |time| Answer::Float(*time as f64 / 1000.0))
}

/// Smallest or largest float; NaN only when there is nothing else.
pub fn extreme(largest: bool, window: &Window<'_>, call: &Call<'_>) -> Answer {
    let Some(values) = floats(window, call) else { return Answer::Nothing };
    let mut best = values[0];
    for value in values {
        if best.is_nan() || (largest && *value > best) || (!largest && *value < best) {
            best = *value;
        }
    }
    Answer::Float(best)
}

/// Time of the last smallest or largest float.
pub fn extreme_time(largest: bool, window: &Window<'_>, call: &Call<'_>) -> Answer {
    let Some(values) = floats(window, call) else { return Answer::Nothing };
    let mut best = (values[0], window.times[0]);
    for (value, time) in values.iter().zip(window.times) {
        if best.0.is_nan() || (largest && *value >= best.0) || (!largest && *value <= best.0) {
            best = (*value, *time);
        }
    }
    Answer::Float(best.1 as f64 / 1000.0)
}

/// Variance by Welford's method, compensated.
pub fn variance(window: &Window<'_>, call: &Call<'_>) -> Option<f64> {
    let values = floats(window, call)?;
    let (mut mean, mut spread) = (Sum::default(), Sum::default());
    for (i, value) in values.iter().enumerate() {
        let delta = value - (mean.high + mean.low);
        mean.add(delta / (i + 1) as f64);
        spread.add(delta * (value - (mean.high + mean.low)));
    }
    Some((spread.high + spread.low) / values.len() as f64)
}

/// A quantile of unsorted floats, interpolated; NaN sorts lowest.
pub fn quantile_of(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    sort_nan_first(values);
    let last = (values.len() - 1) as f64;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// Ascending, NaN first.
pub fn sort_nan_first(values: &mut [f64]) {
    values.sort_unstable_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a, b) => b.cmp(&a),
    });
}

/// Quantile of the floats.
pub fn quantile(window: &Window<'_>, call: &Call<'_>) -> Answer {
    if window.values.is_empty() {
        return Answer::Nothing;
    }
    let q = call.params[0];
    if !(0.0..=1.0).contains(&q) {
        call.notes.borrow_mut().invalid_quantile(q, call.span);
    }
    let Some(values) = floats(window, call) else { return Answer::Nothing };
    Answer::Float(quantile_of(q, &mut values.to_vec()))
}

/// Median absolute deviation of the floats.
pub fn mad(window: &Window<'_>, call: &Call<'_>) -> Answer {
    let Some(values) = floats(window, call) else { return Answer::Nothing };
    if values.iter().any(|value| value.is_nan()) {
        return Answer::Float(f64::NAN);
    }
    let mut values = values.to_vec();
    let median = quantile_of(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    Answer::Float(quantile_of(0.5, &mut values))
}
