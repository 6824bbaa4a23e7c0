//! Quantiles of native and classic histograms.

use protocol::histogram::Histogram;

use super::{Bucket, HistogramExt};
use crate::annotations::Annotations;
use crate::promql::span::Span;

/// The quantile of a native histogram: interpolated linearly in custom buckets and the zero bucket,
/// exponentially elsewhere.
pub fn quantile(q: f64, h: &Histogram, metric: &str, span: Span, notes: &mut Annotations) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if h.count == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    let buckets = h.buckets();
    // NaN observations are in the count but in no bucket. Counting from below keeps them at the upper end.
    let from_below = h.sum.is_nan() || q < 0.5;
    let mut rank = if from_below { q * h.count } else { (1.0 - q) * h.count };
    let mut bucket = Bucket { lower: 0.0, upper: 0.0, count: 0.0 };
    let mut count = 0.0;
    let mut visit = |b: &Bucket| {
        bucket = *b;
        count += b.count;
        b.count != 0.0 && count >= rank
    };
    if from_below {
        buckets.iter().any(&mut visit);
    } else {
        buckets.iter().rev().any(&mut visit);
    }
    if h.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return bucket.upper;
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return bucket.lower;
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
            bucket.lower = 0.0;
        } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
            bucket.upper = 0.0;
        }
    }
    let count = count.min(h.count);
    if count < rank {
        if h.sum.is_nan() {
            notes.quantile_nan_result(metric, span);
            return f64::NAN;
        }
        return bucket.upper;
    }
    rank = if from_below { rank - (count - bucket.count) } else { count - rank };
    if h.sum.is_nan() && buckets.iter().map(|b| b.count).sum::<f64>() < h.count {
        notes.quantile_nan_skew(metric, span);
    }
    let fraction = rank / bucket.count;
    if h.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// A cumulative bucket of a classic histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicBucket {
    /// `le`
    pub upper: f64,
    /// Observations up to it.
    pub count: f64,
}

/// What [`classic_quantile`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicQuantile {
    /// The quantile.
    pub value: f64,
    /// Lowest and highest bound, and largest difference, of counts that were below a count before them.
    pub forced: Option<(f64, f64, f64)>,
}

/// Counts that differ by less than this share are the same but for rounding.
const INSIGNIFICANT: f64 = 1e-12;

/// Sorts buckets and adds up those of equal bounds. False when the highest is not +Inf.
pub(super) fn prepare(buckets: &mut Vec<ClassicBucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

/// The quantile of a classic histogram, interpolated linearly inside its bucket.
pub fn classic_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> ClassicQuantile {
    let only = |value| ClassicQuantile { value, forced: None };
    if q.is_nan() {
        return only(f64::NAN);
    }
    if q < 0.0 {
        return only(f64::NEG_INFINITY);
    }
    if q > 1.0 {
        return only(f64::INFINITY);
    }
    if !prepare(buckets) {
        return only(f64::NAN);
    }
    let forced = make_monotonic(buckets);
    let found = |value| ClassicQuantile { value, forced };
    let observations = buckets[buckets.len() - 1].count;
    if buckets.len() < 2 || observations == 0.0 {
        return found(f64::NAN);
    }
    let rank = q * observations;
    let last = buckets.len() - 1;
    let at = buckets[..last].partition_point(|b| !(b.count >= rank));
    if at == last {
        return found(buckets[last - 1].upper);
    }
    if at == 0 && buckets[0].upper <= 0.0 {
        return found(buckets[0].upper);
    }
    let before = if at == 0 { ClassicBucket { upper: 0.0, count: 0.0 } } else { buckets[at - 1] };
    let share = (rank - before.count) / (buckets[at].count - before.count);
    found(before.upper + (buckets[at].upper - before.upper) * share)
}

fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<(f64, f64, f64)> {
    let mut forced: Option<(f64, f64, f64)> = None;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if crate::value::almost_equal(before, count, INSIGNIFICANT) {
            bucket.count = before;
        } else if count < before {
            bucket.count = before;
            let (lowest, highest, most) = forced.unwrap_or((bucket.upper, bucket.upper, 0.0));
            forced = Some((lowest.min(bucket.upper), highest.max(bucket.upper), most.max(before - count)));
        } else {
            before = count;
        }
    }
    forced
}
