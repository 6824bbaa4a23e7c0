//! rate, increase, delta, irate, idelta, changes, resets: what happened between the samples of a range.
//!
//! Extrapolation follows Prometheus: to the edge of the range where a sample is near it (1.1 times the average
//! distance of samples), else by half that distance, and never below zero for counters. With `anchored` the sample
//! before the range counts as its first; with `smoothed` values at the edges are interpolated; neither extrapolates.

use std::sync::Arc;

use protocol::histogram::{CounterResetHint, Histogram};

use super::window::{Answer, Call, Point, Window};
use crate::annotations::HistogramOperation;
use crate::histogram::HistogramExt;
use crate::promql::ast::Edges;

/// Which of rate, increase and delta it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateKind {
    /// Decreases are resets.
    pub counter: bool,
    /// Per second.
    pub per_second: bool,
}

/// Whether start timestamps tell a reset between two samples, each a start and a time.
pub fn starts_anew(before: (i64, i64), now: (i64, i64)) -> bool {
    let ((start_before, time_before), (start, time)) = (before, now);
    // A start at the sample's own time says nothing, nor does none or a later one.
    if start == 0 || start >= time || start < time_before {
        return false;
    }
    // One at the time of the sample before is a delta's, unless that sample did not know its own: then the series
    // counts from it on.
    start > time_before || (start_before != 0 && start_before < time_before)
}

/// When the first sample of a range was zero, where its start timestamp says so inside the range.
fn known_zero(window: &Window<'_>) -> Option<i64> {
    let (start, first) = (start_of(window.starts, 0), *window.times.first()?);
    (start != 0 && start > window.start && start < first).then_some(start)
}

fn start_of(starts: &[i64], index: usize) -> i64 {
    starts.get(index).copied().unwrap_or(0)
}

/// Indices of the floats before which a counter was reset, in ascending order.
pub fn float_resets(times: &[i64], values: &[f64], starts: &[i64]) -> Vec<usize> {
    let is_reset = |i: &usize| {
        let i = *i;
        values[i] < values[i - 1]
            || (!starts.is_empty()
                && starts_anew((start_of(starts, i - 1), times[i - 1]), (start_of(starts, i), times[i])))
    };
    (1..values.len()).filter(is_reset).collect()
}

/// What is known of a counter before its first sample in a range.
enum Before {
    /// Nothing: the series is taken to reach back further.
    Unknown,
    /// Going on like this it was zero so many of the sampled intervals before.
    Zero(f64),
    /// It was zero at this time.
    ZeroAt(i64),
}

/// How far a range's increase is scaled to cover the range.
fn extrapolation(window: &Window<'_>, first: i64, last: i64, intervals: usize, before: Before) -> f64 {
    let mut sampled = (last - first) as f64 / 1000.0;
    let average = if intervals == 0 { 0.0 } else { sampled / intervals as f64 };
    let threshold = average * 1.1;
    let mut to_start = (first - window.start) as f64 / 1000.0;
    let mut to_end = (window.end - last) as f64 / 1000.0;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    match before {
        Before::Unknown => {}
        Before::Zero(share) => {
            // It did not exist before it was zero.
            let to_zero = sampled * share;
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        Before::ZeroAt(zero) => {
            sampled = (last - zero) as f64 / 1000.0;
            to_start = 0.0;
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    (sampled + to_start + to_end) / sampled
}

/// What is known of samples of a window that are not in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unseen {
    /// How many floats.
    pub floats: usize,
    /// How many histograms.
    pub histograms: usize,
    /// How far a counter grew between them, beyond what those in the window tell.
    pub increase: f64,
}

/// The float case of [`rate`]: `resets` are the indices inside the window before which the counter was reset.
pub fn float_rate(kind: RateKind, window: &Window<'_>, resets: &[usize]) -> Answer {
    float_rate_with(kind, window, resets, Unseen::default())
}

/// The same, with samples that are not in the window.
pub fn float_rate_with(kind: RateKind, window: &Window<'_>, resets: &[usize], unseen: Unseen) -> Answer {
    let (times, values) = (window.times, window.values);
    let zero = if kind.counter { known_zero(window) } else { None };
    if values.len() < 2 && zero.is_none() {
        return Answer::Nothing;
    }
    let mut increase = values[values.len() - 1] - values[0];
    let mut before = Before::Unknown;
    if kind.counter {
        for i in resets {
            increase += values[i - 1];
        }
        // Nothing added to -0 is 0, and that is another number.
        if unseen.increase != 0.0 {
            increase += unseen.increase;
        }
        if let Some(zero) = zero {
            increase += values[0];
            before = Before::ZeroAt(zero);
        } else if increase > 0.0 && values[0] >= 0.0 {
            before = Before::Zero(values[0] / increase);
        }
    }
    let intervals = values.len() - 1;
    let (first, last) = (times[0], times[intervals]);
    let mut factor = extrapolation(window, first, last, intervals + unseen.floats, before);
    if kind.per_second {
        factor /= window.seconds();
    }
    Answer::Float(increase * factor)
}

/// rate, increase or delta over a range of any samples.
pub fn rate(kind: RateKind, window: &Window<'_>, call: &Call<'_>) -> Answer {
    rate_with(kind, window, call, Unseen::default())
}

/// The same, with histograms that are not in the window.
pub fn rate_with(kind: RateKind, window: &Window<'_>, call: &Call<'_>, unseen: Unseen) -> Answer {
    if call.edges != Edges::Plain {
        return rate_with_edges(kind, window, call);
    }
    if !window.values.is_empty() && !window.histograms.is_empty() {
        call.notes.borrow_mut().mixed_floats_histograms(call.metric, call.span);
        return Answer::Nothing;
    }
    if window.histograms.is_empty() {
        let resets =
            if kind.counter { float_resets(window.times, window.values, window.starts) } else { Vec::new() };
        return float_rate(kind, window, &resets);
    }
    let histograms = window.histograms;
    if histograms.len() < 2 {
        return Answer::Nothing;
    }
    let reset = |i: usize, before: &Histogram| histograms[i].is_reset_after(before);
    let Some(mut increase) = histogram_increase(kind.counter, histograms, call, reset) else {
        return Answer::Nothing;
    };
    let intervals = histograms.len() - 1;
    let before = if kind.counter && increase.count > 0.0 && histograms[0].count >= 0.0 {
        Before::Zero(histograms[0].count / increase.count)
    } else {
        Before::Unknown
    };
    let (first, last) = (window.histogram_times[0], window.histogram_times[intervals]);
    let mut factor = extrapolation(window, first, last, intervals + unseen.histograms, before);
    if kind.per_second {
        factor /= window.seconds();
    }
    increase.scale(factor);
    Answer::Histogram(Arc::new(increase))
}

/// The increase between the first and the last of at least two histograms.
fn histogram_increase(
    counter: bool,
    histograms: &[Arc<Histogram>],
    call: &Call<'_>,
    reset: impl Fn(usize, &Histogram) -> bool,
) -> Option<Histogram> {
    let mut notes = call.notes.borrow_mut();
    let last = &histograms[histograms.len() - 1];
    let is_gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let mut first: Histogram = (*histograms[0]).clone();
    if counter && (is_gauge(&first) || is_gauge(last)) {
        notes.not_a_counter(call.metric, call.span);
    }
    // After a reset right at the start the first sample's buckets do not matter, nor does their layout.
    if counter && reset(1, &first) {
        let second = &histograms[1];
        first = Histogram {
            schema: second.schema,
            custom_values: second.custom_values.clone(),
            ..Histogram::default()
        };
    }
    let custom = first.is_custom();
    if last.is_custom() != custom {
        notes.mixed_exponential_custom(call.metric, call.span);
        return None;
    }
    let mut schema = last.schema.min(first.schema);
    if counter {
        for h in &histograms[1..histograms.len() - 1] {
            if is_gauge(h) {
                notes.not_a_counter(call.metric, call.span);
            }
            schema = schema.min(h.schema);
            if h.is_custom() != custom {
                notes.mixed_exponential_custom(call.metric, call.span);
                return None;
            }
        }
    }
    let mut increase = last.to_schema(schema);
    match increase.subtract(&first) {
        Ok(meeting) if meeting.bounds_reconciled => {
            notes.mismatched_custom_buckets(HistogramOperation::Subtraction, call.span);
        }
        Ok(_) => {}
        Err(_) => {
            notes.mixed_exponential_custom(call.metric, call.span);
            return None;
        }
    }
    if counter {
        let mut before = &first;
        for (i, h) in histograms.iter().enumerate().skip(1) {
            if reset(i, before) {
                match increase.add(before) {
                    Ok(meeting) if meeting.bounds_reconciled => {
                        notes.mismatched_custom_buckets(HistogramOperation::Addition, call.span);
                    }
                    Ok(_) => {}
                    Err(_) => {
                        notes.mixed_exponential_custom(call.metric, call.span);
                        return None;
                    }
                }
            }
            before = h;
        }
    } else if !is_gauge(&histograms[0]) || !is_gauge(last) {
        notes.not_a_gauge(call.metric, call.span);
    }
    increase.counter_reset_hint = CounterResetHint::Gauge;
    increase.compact();
    Some(increase)
}

/// The value at a time between two floats. A counter that was reset between them started from zero.
pub fn interpolate(before: (i64, f64), after: (i64, f64), at: i64, counter: bool) -> f64 {
    let (y1, y2) = (if counter && after.1 < before.1 { 0.0 } else { before.1 }, after.1);
    y1 + (y2 - y1) * (at - before.0) as f64 / (after.0 - before.0) as f64
}

/// Exponential and custom buckets can not be interpolated.
pub struct MixedBuckets;

/// The histogram at a time between two.
pub fn interpolate_histogram(
    before: (i64, &Histogram),
    after: (i64, &Histogram),
    at: i64,
    counter: bool,
) -> Result<Histogram, MixedBuckets> {
    if before.1.is_custom() != after.1.is_custom() {
        return Err(MixedBuckets);
    }
    let share = (at - before.0) as f64 / (after.0 - before.0) as f64;
    let mut out = after.1.clone();
    if counter && after.1.is_reset_after(before.1) {
        out.scale(share);
        return Ok(out);
    }
    out.subtract(before.1).map_err(|_| MixedBuckets)?;
    out.scale(share);
    out.add(before.1).map_err(|_| MixedBuckets)?;
    out.counter_reset_hint = after.1.counter_reset_hint;
    Ok(out)
}

fn rate_with_edges(kind: RateKind, window: &Window<'_>, call: &Call<'_>) -> Answer {
    let points = window.points_with_edges(call.edges);
    if points.is_empty() {
        return Answer::Nothing;
    }
    let smoothed = call.edges == Edges::Smoothed;
    let mut floats = Vec::new();
    let mut histograms = Vec::new();
    for point in &points {
        match point {
            Point::Float(time, value) => floats.push((*time, *value)),
            Point::Histogram(time, h) => histograms.push((*time, *h)),
        }
    }
    match (floats.is_empty(), histograms.is_empty()) {
        (false, true) => float_rate_with_edges(kind, window, &floats, smoothed),
        (true, _) => histogram_rate_with_edges(kind, window, &histograms, smoothed, call),
        (false, false) => {
            call.notes.borrow_mut().mixed_floats_histograms(call.metric, call.span);
            Answer::Nothing
        }
    }
}

fn float_rate_with_edges(
    kind: RateKind,
    window: &Window<'_>,
    points: &[(i64, f64)],
    smoothed: bool,
) -> Answer {
    let (mut first, mut last) = (0, points.len() - 1);
    // Smoothing needs a value at or after the start of the range.
    if points[last].0 <= window.start {
        return Answer::Nothing;
    }
    let left = if smoothed && points[first].0 < window.start && last > first {
        interpolate(points[first], points[first + 1], window.start, kind.counter)
    } else {
        points[first].1
    };
    let right = if smoothed && last > 0 && points[last].0 > window.end {
        interpolate(points[last - 1], points[last], window.end, kind.counter)
    } else if points[last].0 > window.end {
        // Only a later sample: the range itself has none.
        return Answer::Nothing;
    } else {
        points[last].1
    };
    let mut increase = right - left;
    if kind.counter {
        if points[first].0 <= window.start {
            first += 1;
        }
        let mut before = left;
        if points[last].0 >= window.end {
            last = last.wrapping_sub(1);
        }
        if last != usize::MAX && first <= last {
            for (_, value) in &points[first..=last] {
                if *value < before {
                    increase += before;
                }
                before = *value;
            }
        }
        if right < before {
            increase += before;
        }
    }
    Answer::Float(if kind.per_second { increase / window.seconds() } else { increase })
}

fn histogram_rate_with_edges(
    kind: RateKind,
    window: &Window<'_>,
    points: &[(i64, &Arc<Histogram>)],
    smoothed: bool,
    call: &Call<'_>,
) -> Answer {
    let last = points.len() - 1;
    let mut notes = call.notes.borrow_mut();
    let mixed = |notes: &mut crate::annotations::Annotations| {
        notes.mixed_exponential_custom(call.metric, call.span);
        Answer::Nothing
    };
    let at = |i: usize| (points[i].0, points[i].1.as_ref());
    let interpolated_left = smoothed && points[0].0 < window.start && last > 0;
    let left = if interpolated_left {
        match interpolate_histogram(at(0), at(1), window.start, kind.counter) {
            Ok(h) => h,
            Err(MixedBuckets) => return mixed(&mut notes),
        }
    } else {
        points[0].1.as_ref().clone()
    };
    let right = if smoothed && last > 0 && points[last].0 > window.end {
        match interpolate_histogram(at(last - 1), at(last), window.end, kind.counter) {
            Ok(h) => h,
            Err(MixedBuckets) => return mixed(&mut notes),
        }
    } else if points[last].0 > window.end {
        return Answer::Nothing;
    } else {
        points[last].1.as_ref().clone()
    };
    let is_gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if kind.counter && points.iter().any(|(_, h)| is_gauge(h)) {
        notes.not_a_counter(call.metric, call.span);
    }
    if !kind.counter && (!is_gauge(points[0].1) || !is_gauge(points[last].1)) {
        notes.not_a_gauge(call.metric, call.span);
    }
    if kind.counter && points.iter().any(|(_, h)| h.is_custom() != points[last].1.is_custom()) {
        return mixed(&mut notes);
    }
    let mut increase = right;
    match increase.subtract(&left) {
        Ok(meeting) if meeting.bounds_reconciled => {
            notes.mismatched_custom_buckets(HistogramOperation::Subtraction, call.span);
        }
        Ok(_) => {}
        Err(_) => return mixed(&mut notes),
    }
    if kind.counter {
        // An interpolated left edge already accounts for a reset between the two samples around it.
        let first_pair = if interpolated_left { 2 } else { 1 };
        for i in first_pair..=last {
            if points[i].1.is_reset_after(points[i - 1].1) && increase.add(points[i - 1].1).is_err() {
                return mixed(&mut notes);
            }
        }
    }
    if kind.per_second {
        increase.divide(window.seconds());
    }
    increase.counter_reset_hint = CounterResetHint::Gauge;
    increase.compact();
    Answer::Histogram(Arc::new(increase))
}

/// irate (`counter`) and idelta: between the last two samples.
pub fn instant(counter: bool, window: &Window<'_>, call: &Call<'_>) -> Answer {
    let (floats, histograms) = (window.times.len(), window.histogram_times.len());
    if floats + histograms < 2 {
        return Answer::Nothing;
    }
    // The last two of either kind, with the start timestamps of floats.
    let mut last: Vec<(Point<'_>, i64)> = Vec::with_capacity(4);
    for i in floats.saturating_sub(2)..floats {
        last.push((Point::Float(window.times[i], window.values[i]), start_of(window.starts, i)));
    }
    for i in histograms.saturating_sub(2)..histograms {
        let point = Point::Histogram(window.histogram_times[i], &window.histograms[i]);
        last.push((point, 0));
    }
    last.sort_by_key(|(point, _)| point.time());
    let [(before, start_before), (now, start)] = last[last.len() - 2..] else { return Answer::Nothing };
    let interval = (now.time() - before.time()) as f64 / 1000.0;
    if interval == 0.0 {
        return Answer::Nothing;
    }
    let anew = starts_anew((start_before, before.time()), (start, now.time()));
    match (before, now) {
        (Point::Float(_, a), Point::Float(_, b)) => {
            let increase = if counter && (b < a || anew) { b } else { b - a };
            Answer::Float(if counter { increase / interval } else { increase })
        }
        (Point::Histogram(_, a), Point::Histogram(_, b)) => {
            let mut notes = call.notes.borrow_mut();
            let is_gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
            if counter && (is_gauge(a) || is_gauge(b)) {
                notes.not_a_counter(call.metric, call.span);
            }
            if !counter && (!is_gauge(a) || !is_gauge(b)) {
                notes.not_a_gauge(call.metric, call.span);
            }
            let mut out = b.as_ref().clone();
            if !counter || !(anew || b.is_reset_after(a)) {
                match out.subtract(a) {
                    Ok(meeting) if meeting.bounds_reconciled => {
                        notes.mismatched_custom_buckets(HistogramOperation::Subtraction, call.span);
                    }
                    Ok(_) => {}
                    Err(_) => {
                        notes.mixed_exponential_custom(call.metric, call.span);
                        return Answer::Nothing;
                    }
                }
            }
            out.counter_reset_hint = CounterResetHint::Gauge;
            out.compact();
            if counter {
                out.divide(interval);
            }
            Answer::Histogram(Arc::new(out))
        }
        _ => {
            call.notes.borrow_mut().mixed_floats_histograms(call.metric, call.span);
            Answer::Nothing
        }
    }
}

/// Whether a float differs from the one before; NaN does not differ from NaN.
#[inline]
pub fn float_changes(before: f64, now: f64) -> bool {
    now != before && !(now.is_nan() && before.is_nan())
}

fn count_pairs(
    window: &Window<'_>,
    call: &Call<'_>,
    counts: impl Fn(Point<'_>, Point<'_>) -> bool,
) -> Answer {
    let points = match call.edges {
        Edges::Plain => window.points(),
        edges => window.points_with_edges(edges),
    };
    if points.is_empty() {
        return Answer::Nothing;
    }
    Answer::Float(points.windows(2).filter(|w| counts(w[0], w[1])).count() as f64)
}

/// How often a counter was reset. A change between floats and histograms is one.
pub fn resets(window: &Window<'_>, call: &Call<'_>) -> Answer {
    count_pairs(window, call, |before, now| match (before, now) {
        (Point::Float(_, a), Point::Float(_, b)) => b < a,
        (Point::Histogram(_, a), Point::Histogram(_, b)) => b.is_reset_after(a),
        _ => true,
    })
}

/// How often the value changed.
pub fn changes(window: &Window<'_>, call: &Call<'_>) -> Answer {
    count_pairs(window, call, |before, now| match (before, now) {
        (Point::Float(_, a), Point::Float(_, b)) => float_changes(a, b),
        (Point::Histogram(_, a), Point::Histogram(_, b)) => !b.same_as(a),
        _ => true,
    })
}
