//! Arithmetic over native histograms, with Prometheus' semantics.
//!
//! The value type is `protocol::histogram::Histogram`; [`HistogramExt`] adds what the evaluator needs. Operations
//! unfold the spans into sorted `(index, count)` lists, work on those, and fold them back. Before two histograms
//! meet they are brought to one form: the coarser schema, a zero bucket wide enough for both that cuts no populated
//! bucket, or, for custom buckets, the bounds that both know.

mod fraction;
mod quantile;
mod trim;

pub use fraction::{classic_fraction, fraction};
pub use quantile::{ClassicBucket, ClassicQuantile, classic_quantile, quantile};
pub use trim::trim;

use protocol::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Span};

use crate::format::format_g;
use crate::kahan;

/// Two histograms that can not meet: exponential and custom buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncompatibleSchemas;

/// What happened besides the arithmetic when two histograms met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meeting {
    /// One said "reset", the other "not reset".
    pub reset_collision: bool,
    /// Custom bounds differed; the common ones are left.
    pub bounds_reconciled: bool,
}

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Observations.
    pub count: f64,
}

type Cells = Vec<(i32, f64)>;

/// What the evaluator does with histograms.
pub trait HistogramExt: Sized {
    /// Whether the buckets have custom bounds.
    fn is_custom(&self) -> bool;
    /// Multiplies all counts and the sum. A negative factor makes a gauge.
    fn scale(&mut self, factor: f64);
    /// Divides all counts and the sum; by zero removes all buckets.
    fn divide(&mut self, divisor: f64);
    /// Adds another.
    fn add(&mut self, other: &Self) -> Result<Meeting, IncompatibleSchemas>;
    /// Subtracts another.
    fn subtract(&mut self, other: &Self) -> Result<Meeting, IncompatibleSchemas>;
    /// Adds another, carrying what the additions lose in `low`, a histogram of the same layout.
    fn add_compensated(
        &mut self,
        low: &mut Option<Self>,
        other: &Self,
    ) -> Result<Meeting, IncompatibleSchemas>;
    /// Removes empty buckets.
    fn compact(&mut self);
    /// Whether a counter was reset between `previous` and this.
    fn is_reset_after(&self, previous: &Self) -> bool;
    /// Whether all but the counter reset hint is equal, bit by bit.
    fn same_as(&self, other: &Self) -> bool;
    /// Whether a count or the sum is infinite.
    fn has_overflow(&self) -> bool;
    /// This at a coarser schema.
    fn to_schema(&self, schema: i32) -> Self;
    /// All buckets from the lowest up, the zero bucket (when populated) among them.
    fn buckets(&self) -> Vec<Bucket>;
    /// How many samples of 16 bytes this is as large as.
    fn weight(&self) -> u64;
    /// As `count_values` labels it.
    fn describe(&self) -> String;
}

/// The upper bound of an exponential bucket.
pub fn exponential_bound(index: i32, schema: i32) -> f64 {
    if schema <= 0 {
        let exponent = i64::from(index) << -schema;
        return power_of_two(1.0, exponent);
    }
    let per_power = 1i64 << schema;
    let fraction = (i64::from(index)).rem_euclid(per_power);
    let exponent = (i64::from(index)).div_euclid(per_power);
    power_of_two(2f64.powf(fraction as f64 / per_power as f64), exponent)
}

/// `base * 2^exponent`, with the largest float where Prometheus puts it: the bound that would be 2^1024.
fn power_of_two(base: f64, exponent: i64) -> f64 {
    match exponent {
        1024 if base == 1.0 => f64::MAX,
        1024.. => f64::INFINITY,
        -1022..=1023 => base * f64::from_bits(((exponent + 1023) as u64) << 52),
        -1140..=-1023 => base * f64::MIN_POSITIVE * 2f64.powi((exponent + 1022) as i32),
        _ => 0.0,
    }
}

fn unfold(spans: &[Span], buckets: &[f64]) -> Cells {
    let mut cells = Vec::with_capacity(buckets.len());
    let mut index = 0i32;
    let mut counts = buckets.iter();
    for span in spans {
        index = index.wrapping_add(span.offset);
        for _ in 0..span.length {
            // More bucket places than counts: an invalid histogram from outside. The rest is not there.
            let Some(count) = counts.next() else { return cells };
            cells.push((index, *count));
            index = index.wrapping_add(1);
        }
    }
    cells
}

fn fold(cells: &[(i32, f64)]) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i32;
    for (index, _) in cells {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
        }
        next = index.wrapping_add(1);
    }
    (spans, cells.iter().map(|(_, count)| *count).collect())
}

fn coarser(cells: &[(i32, f64)], by: u32) -> Cells {
    let mut out: Cells = Vec::with_capacity(cells.len());
    for (index, count) in cells {
        let target = ((index.wrapping_sub(1)) >> by.min(31)).wrapping_add(1);
        match out.last_mut() {
            Some((last, sum)) if *last == target => *sum += count,
            _ => out.push((target, *count)),
        }
    }
    out
}

/// Calls `combine` on the counts of each index that either list has (0.0 where one lacks it).
fn union(a: &[(i32, f64)], b: &[(i32, f64)], mut combine: impl FnMut(i32, f64, f64) -> f64) -> Cells {
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    let (mut i, mut j) = (0, 0);
    loop {
        let (index, left, right) = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                (i, j) = (i + 1, j + 1);
                (x.0, x.1, y.1)
            }
            (Some(x), y) if y.is_none_or(|y| x.0 < y.0) => {
                i += 1;
                (x.0, x.1, 0.0)
            }
            (_, Some(y)) => {
                j += 1;
                (y.0, 0.0, y.1)
            }
            (_, None) => return out,
        };
        out.push((index, combine(index, left, right)));
    }
}

fn positive(h: &Histogram) -> Cells {
    unfold(&h.positive_spans, &h.positive_buckets)
}

fn negative(h: &Histogram) -> Cells {
    unfold(&h.negative_spans, &h.negative_buckets)
}

fn set_positive(h: &mut Histogram, cells: &[(i32, f64)]) {
    (h.positive_spans, h.positive_buckets) = fold(cells);
}

fn set_negative(h: &mut Histogram, cells: &[(i32, f64)]) {
    (h.negative_spans, h.negative_buckets) = fold(cells);
}

/// The zero count that `h` would have with a zero bucket of at least the width `threshold`, and that width, moved
/// up to the next bound where it would cut a populated bucket.
fn wider_zero_bucket(h: &Histogram, mut threshold: f64) -> (f64, f64) {
    if threshold == h.zero_threshold || h.is_custom() {
        return (h.zero_count, threshold);
    }
    let sides = [positive(h), negative(h)];
    'again: loop {
        let mut count = h.zero_count;
        for (side, cells) in sides.iter().enumerate() {
            for (index, bucket) in cells {
                let lower = exponential_bound(index.wrapping_sub(1), h.schema);
                let upper = exponential_bound(*index, h.schema);
                if lower >= threshold {
                    break;
                }
                count += bucket;
                if upper > threshold {
                    if *bucket != 0.0 {
                        threshold = upper;
                        if side == 1 {
                            continue 'again;
                        }
                    }
                    break;
                }
            }
        }
        return (count, threshold);
    }
}

fn empty_below(h: &mut Histogram, threshold: f64) {
    let keep = |(index, count): (i32, f64)| {
        let inside = exponential_bound(index.wrapping_sub(1), h.schema) < threshold;
        (!inside && count != 0.0).then_some((index, count))
    };
    let kept_positive: Cells = positive(h).into_iter().filter_map(keep).collect();
    let kept_negative: Cells = negative(h).into_iter().filter_map(keep).collect();
    set_positive(h, &kept_positive);
    set_negative(h, &kept_negative);
}

/// Widens the zero bucket of `h` until it holds that of `other` without cutting a populated bucket of either.
/// Returns the zero count that `other` has at that width.
fn settle_zero_bucket(h: &mut Histogram, other: &Histogram) -> f64 {
    let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
    while threshold != h.zero_threshold && !(threshold.is_nan() || h.zero_threshold.is_nan()) {
        if h.zero_threshold > threshold {
            (count, threshold) = wider_zero_bucket(other, h.zero_threshold);
        }
        if threshold > h.zero_threshold {
            (h.zero_count, h.zero_threshold) = wider_zero_bucket(h, threshold);
            empty_below(h, h.zero_threshold);
        }
    }
    count
}

fn settle_reset_hint(h: &mut Histogram, other: &Histogram) -> bool {
    use CounterResetHint::{Gauge, Unknown};
    let (mine, theirs) = (h.counter_reset_hint, other.counter_reset_hint);
    h.counter_reset_hint = match (mine, theirs) {
        (a, b) if a == b => a,
        (Gauge, _) | (_, Gauge) => Gauge,
        _ => Unknown,
    };
    mine != theirs && ![mine, theirs].iter().any(|hint| matches!(hint, Gauge | Unknown))
}

/// The bounds that both lists hold.
fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.binary_search_by(|x| x.total_cmp(bound)).is_ok()).collect()
}

/// Counts of custom buckets by `target` bounds, which are a part of `bounds`.
fn by_bounds(cells: &[(i32, f64)], bounds: &[f64], target: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; target.len() + 1];
    for (index, count) in cells {
        let slot = match usize::try_from(*index).ok().and_then(|i| bounds.get(i)) {
            Some(bound) => target.partition_point(|t| t < bound),
            None => target.len(),
        };
        out[slot] += count;
    }
    out
}

fn present(counts: Vec<f64>) -> Cells {
    counts.into_iter().enumerate().filter(|(_, c)| *c != 0.0).map(|(i, c)| (i as i32, c)).collect()
}

fn same_bounds(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x == y)
}

/// Adds `sign * other` to `h`. With `low`, what each addition loses goes there.
fn accumulate(
    h: &mut Histogram,
    mut low: Option<&mut Histogram>,
    other: &Histogram,
    sign: f64,
) -> Result<Meeting, IncompatibleSchemas> {
    if h.is_custom() != other.is_custom() {
        return Err(IncompatibleSchemas);
    }
    let mut meeting = Meeting { reset_collision: settle_reset_hint(h, other), bounds_reconciled: false };
    let add = |value: f64, sum: f64, low: f64| match sign < 0.0 {
        true => kahan::add(-value, sum, low),
        false => kahan::add(value, sum, low),
    };
    if !h.is_custom() {
        let other_zero_count = match low.as_deref_mut() {
            None => settle_zero_bucket(h, other),
            Some(low) => {
                // The carried bits follow the buckets they belong to into a widened zero bucket.
                let before = h.zero_threshold;
                let count = settle_zero_bucket(h, other);
                if h.zero_threshold != before {
                    let (zero_count, _) = wider_zero_bucket(low, h.zero_threshold);
                    (low.zero_count, low.zero_threshold) = (zero_count, h.zero_threshold);
                    empty_below(low, h.zero_threshold);
                }
                count
            }
        };
        let carried = low.as_deref().map_or(0.0, |low| low.zero_count);
        let (zero_count, lost) = add(other_zero_count, h.zero_count, carried);
        h.zero_count = zero_count;
        if let Some(low) = low.as_deref_mut() {
            low.zero_count = lost;
        }
    }
    let (count_low, sum_low) = low.as_deref().map_or((0.0, 0.0), |low| (low.count, low.sum));
    let (count, count_low) = add(other.count, h.count, count_low);
    let (sum, sum_low) = add(other.sum, h.sum, sum_low);
    (h.count, h.sum) = (count, sum);
    if let Some(low) = low.as_deref_mut() {
        (low.count, low.sum) = (count_low, sum_low);
    }

    if h.is_custom() && !same_bounds(&h.custom_values, &other.custom_values) {
        meeting.bounds_reconciled = true;
        let bounds = common_bounds(&h.custom_values, &other.custom_values);
        let mine = by_bounds(&positive(h), &h.custom_values, &bounds);
        let theirs = by_bounds(&positive(other), &other.custom_values, &bounds);
        let carried = match low.as_deref() {
            Some(low) => by_bounds(&positive(low), &h.custom_values, &bounds),
            None => vec![0.0; bounds.len() + 1],
        };
        let sums: Vec<(f64, f64)> =
            mine.iter().zip(&theirs).zip(&carried).map(|((m, t), c)| add(*t, *m, *c)).collect();
        set_positive(h, &present(sums.iter().map(|(sum, _)| *sum).collect()));
        if let Some(low) = low {
            set_positive(low, &present(sums.iter().map(|(_, lost)| *lost).collect()));
            low.custom_values.clone_from(&bounds);
        }
        h.custom_values = bounds;
        return Ok(meeting);
    }

    let schema = h.schema.min(other.schema);
    let sides = |h: &Histogram| {
        let by = h.schema.saturating_sub(schema).max(0) as u32;
        let fit = |cells: Cells| if by > 0 { coarser(&cells, by) } else { cells };
        [fit(positive(h)), fit(negative(h))]
    };
    let (mine, theirs) = (sides(h), sides(other));
    let carried = low.as_deref().map_or([Vec::new(), Vec::new()], sides);
    let threshold = if h.is_custom() { f64::NEG_INFINITY } else { h.zero_threshold };
    let mut sums: [Cells; 2] = Default::default();
    let mut losses: [Cells; 2] = Default::default();
    for side in 0..2 {
        // What lies inside the zero bucket has been counted there.
        let outside = |cell: &&(i32, f64)| h.is_custom() || exponential_bound(cell.0, schema) > threshold;
        let theirs: Cells = theirs[side].iter().filter(outside).copied().collect();
        let lost_at = |index: i32| {
            carried[side].binary_search_by_key(&index, |c| c.0).map_or(0.0, |i| carried[side][i].1)
        };
        let mut lost = Vec::new();
        sums[side] = union(&mine[side], &theirs, |index, m, t| {
            let (sum, low) = add(t, m, lost_at(index));
            lost.push((index, low));
            sum
        });
        losses[side] = lost;
    }
    h.schema = schema;
    set_positive(h, &sums[0]);
    set_negative(h, &sums[1]);
    if let Some(low) = low {
        low.schema = schema;
        set_positive(low, &losses[0]);
        set_negative(low, &losses[1]);
    }
    Ok(meeting)
}

/// Whether any bucket of `previous` has more than the same bucket of `current`.
fn any_decrease(current: &[(i32, f64)], previous: &[(i32, f64)]) -> bool {
    previous.iter().any(|(index, before)| match current.binary_search_by_key(index, |c| c.0) {
        Ok(i) => current[i].1 < *before,
        Err(_) => *before != 0.0,
    })
}

impl HistogramExt for Histogram {
    fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    fn scale(&mut self, factor: f64) {
        self.zero_count *= factor;
        self.count *= factor;
        self.sum *= factor;
        self.positive_buckets.iter_mut().chain(&mut self.negative_buckets).for_each(|count| *count *= factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    fn divide(&mut self, divisor: f64) {
        self.zero_count /= divisor;
        self.count /= divisor;
        self.sum /= divisor;
        if divisor == 0.0 {
            set_positive(self, &[]);
            set_negative(self, &[]);
            return;
        }
        self.positive_buckets
            .iter_mut()
            .chain(&mut self.negative_buckets)
            .for_each(|count| *count /= divisor);
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    fn add(&mut self, other: &Self) -> Result<Meeting, IncompatibleSchemas> {
        accumulate(self, None, other, 1.0)
    }

    fn subtract(&mut self, other: &Self) -> Result<Meeting, IncompatibleSchemas> {
        accumulate(self, None, other, -1.0)
    }

    fn add_compensated(
        &mut self,
        low: &mut Option<Self>,
        other: &Self,
    ) -> Result<Meeting, IncompatibleSchemas> {
        if low.is_none() {
            let mut zeros = self.clone();
            zeros.scale(0.0);
            // Scaling by zero makes NaN of what is infinite; nothing is lost yet.
            (zeros.count, zeros.sum, zeros.zero_count) = (0.0, 0.0, 0.0);
            zeros.positive_buckets.fill(0.0);
            zeros.negative_buckets.fill(0.0);
            *low = Some(zeros);
        }
        accumulate(self, low.as_mut(), other, 1.0)
    }

    fn compact(&mut self) {
        let populated = |cells: Cells| -> Cells { cells.into_iter().filter(|(_, c)| *c != 0.0).collect() };
        let (p, n) = (populated(positive(self)), populated(negative(self)));
        set_positive(self, &p);
        set_negative(self, &n);
    }

    fn is_reset_after(&self, previous: &Self) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.is_custom() {
            if !previous.is_custom() {
                return true;
            }
            if !same_bounds(&self.custom_values, &previous.custom_values) {
                let bounds = common_bounds(&self.custom_values, &previous.custom_values);
                let now = by_bounds(&positive(self), &self.custom_values, &bounds);
                let before = by_bounds(&positive(previous), &previous.custom_values, &bounds);
                return now.iter().zip(&before).any(|(n, b)| n < b);
            }
            return any_decrease(&positive(self), &positive(previous));
        }
        if self.schema > previous.schema
            || previous.is_custom()
            || self.zero_threshold < previous.zero_threshold
        {
            return true;
        }
        let (zero_count, threshold) = wider_zero_bucket(previous, self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        let by = (previous.schema - self.schema) as u32;
        [(positive(self), positive(previous)), (negative(self), negative(previous))].into_iter().any(
            |(current, previous)| {
                let mut previous = if by > 0 { coarser(&previous, by) } else { previous };
                previous.retain(|(index, _)| exponential_bound(*index, self.schema) > self.zero_threshold);
                any_decrease(&current, &previous)
            },
        )
    }

    fn same_as(&self, other: &Self) -> bool {
        let bits = |a: &[f64], b: &[f64]| {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
        };
        let layout = |spans: &[Span], buckets: &[f64]| -> Vec<i32> {
            unfold(spans, buckets).into_iter().map(|(index, _)| index).collect()
        };
        self.schema == other.schema
            && bits(&[self.count, self.sum, self.zero_count], &[other.count, other.sum, other.zero_count])
            && self.zero_threshold == other.zero_threshold
            && (!self.is_custom() || same_bounds(&self.custom_values, &other.custom_values))
            && bits(&self.positive_buckets, &other.positive_buckets)
            && bits(&self.negative_buckets, &other.negative_buckets)
            && layout(&self.positive_spans, &self.positive_buckets)
                == layout(&other.positive_spans, &other.positive_buckets)
            && layout(&self.negative_spans, &self.negative_buckets)
                == layout(&other.negative_spans, &other.negative_buckets)
    }

    fn has_overflow(&self) -> bool {
        self.count.is_infinite()
            || self.sum.is_infinite()
            || self.zero_count.is_infinite()
            || self.positive_buckets.iter().chain(&self.negative_buckets).any(|c| c.is_infinite())
    }

    fn to_schema(&self, schema: i32) -> Self {
        let mut out = self.clone();
        if !self.is_custom() && schema < self.schema && schema != CUSTOM_BUCKETS_SCHEMA {
            let by = (self.schema - schema) as u32;
            out.schema = schema;
            set_positive(&mut out, &coarser(&positive(self), by));
            set_negative(&mut out, &coarser(&negative(self), by));
        }
        out
    }

    fn buckets(&self) -> Vec<Bucket> {
        let mut out = Vec::new();
        if self.is_custom() {
            for (index, count) in positive(self) {
                let bound = |i: i32| usize::try_from(i).ok().and_then(|i| self.custom_values.get(i)).copied();
                let lower = bound(index.wrapping_sub(1)).unwrap_or(f64::NEG_INFINITY);
                out.push(Bucket { lower, upper: bound(index).unwrap_or(f64::INFINITY), count });
            }
            return out;
        }
        let edge = self.zero_threshold;
        let bounds = |index: i32| {
            let upper = exponential_bound(index, self.schema);
            (exponential_bound(index.wrapping_sub(1), self.schema), upper)
        };
        for (index, count) in negative(self).into_iter().rev() {
            let (near, far) = bounds(index);
            out.push(Bucket { lower: -far, upper: -near.max(edge), count });
        }
        if self.zero_count > 0.0 {
            out.push(Bucket { lower: -edge, upper: edge, count: self.zero_count });
        }
        for (index, count) in positive(self) {
            let (near, far) = bounds(index);
            out.push(Bucket { lower: near.max(edge), upper: far, count });
        }
        out
    }

    fn weight(&self) -> u64 {
        let numbers = self.positive_spans.len()
            + self.negative_spans.len()
            + self.positive_buckets.len()
            + self.negative_buckets.len()
            + self.custom_values.len();
        (176 + 8 * numbers as u64) / 16
    }

    fn describe(&self) -> String {
        let mut out = format!("{{count:{}, sum:{}", format_g(self.count), format_g(self.sum));
        let mut bucket = |open: char, close: char, lower: f64, upper: f64, count: f64| {
            if count != 0.0 {
                let (lower, upper) = (format_g(lower), format_g(upper));
                out += &format!(", {open}{lower},{upper}{close}:{}", format_g(count));
            }
        };
        if self.is_custom() {
            for b in self.buckets() {
                let open = if b.lower < 0.0 { '[' } else { '(' };
                bucket(open, ']', b.lower, b.upper, b.count);
            }
        } else {
            let bound = |index: i32| exponential_bound(index, self.schema);
            for (index, count) in negative(self).into_iter().rev() {
                bucket('[', ')', -bound(index), -bound(index.wrapping_sub(1)), count);
            }
            bucket('[', ']', -self.zero_threshold, self.zero_threshold, self.zero_count);
            for (index, count) in positive(self) {
                bucket('(', ']', bound(index.wrapping_sub(1)), bound(index), count);
            }
        }
        out.push('}');
        out
    }
}

#[cfg(test)]
mod tests;
