//! The share of observations between two values.

use protocol::histogram::Histogram;

use super::HistogramExt;
use super::quantile::{ClassicBucket, prepare};
use crate::annotations::Annotations;
use crate::promql::span::Span;

/// Ranks of two values while buckets go by from below.
struct Ranks {
    wanted: [f64; 2],
    found: [Option<f64>; 2],
    rank: f64,
}

impl Ranks {
    fn new(lower: f64, upper: f64) -> Self {
        Self { wanted: [lower, upper], found: [None; 2], rank: 0.0 }
    }

    /// Takes a bucket; `inside` says which share of it lies below a value inside its bounds.
    fn bucket(&mut self, lower: f64, upper: f64, count: f64, inside: impl Fn(f64) -> f64) {
        for (value, found) in self.wanted.iter().zip(&mut self.found) {
            if found.is_some() {
                continue;
            }
            if lower >= *value {
                *found = Some(self.rank);
            } else if upper > *value {
                *found = Some(self.rank + count * inside(*value));
            }
        }
        self.rank += count;
    }

    fn fraction(&self, total: f64) -> f64 {
        let rank = |found: Option<f64>| found.filter(|rank| !(*rank > self.rank)).unwrap_or(self.rank);
        (rank(self.found[1]) - rank(self.found[0])) / total
    }
}

/// The share of a bucket below a value inside it, when observations lie evenly. Nothing is known of how they lie in
/// a bucket of infinite width: all of them sit at its finite bound.
fn linear_share(value: f64, lower: f64, upper: f64) -> f64 {
    if lower == f64::NEG_INFINITY {
        if upper == f64::INFINITY || upper > 0.0 && value <= 0.0 {
            return 0.0;
        }
        return if upper > 0.0 { value / upper } else { 1.0 };
    }
    if upper == f64::INFINITY { 0.0 } else { (value - lower) / (upper - lower) }
}

/// The share of a native histogram's observations between two values.
pub fn fraction(
    lower: f64,
    upper: f64,
    h: &Histogram,
    metric: &str,
    span: Span,
    notes: &mut Annotations,
) -> f64 {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    let buckets = h.buckets();
    if h.sum.is_nan() && buckets.iter().map(|b| b.count).sum::<f64>() < h.count {
        notes.fraction_nan(metric, span);
    }
    if lower >= upper {
        return 0.0;
    }
    let mut ranks = Ranks::new(lower, upper);
    for bucket in buckets {
        let (mut low, mut high) = (bucket.lower, bucket.upper);
        let zero_bucket = !h.is_custom() && low <= 0.0 && high >= 0.0;
        if zero_bucket {
            if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
                low = 0.0;
            } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
                high = 0.0;
            }
        }
        ranks.bucket(low, high, bucket.count, |value| {
            if h.is_custom() || zero_bucket {
                return linear_share(value, low, high);
            }
            let (low, high, at) = (low.abs().log2(), high.abs().log2(), value.abs().log2());
            if value > 0.0 { (at - low) / (high - low) } else { 1.0 - (at - high) / (low - high) }
        });
    }
    ranks.fraction(h.count)
}

/// The share of a classic histogram's observations between two values.
pub fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !prepare(buckets) {
        return f64::NAN;
    }
    let total = buckets[buckets.len() - 1].count;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut ranks = Ranks::new(lower, upper);
    let mut before = ClassicBucket { upper: f64::NEG_INFINITY, count: 0.0 };
    for bucket in buckets.iter() {
        let (low, high) = (before.upper, bucket.upper);
        ranks.bucket(low, high, bucket.count - before.count, |value| linear_share(value, low, high));
        before = *bucket;
    }
    ranks.fraction(total)
}
