//! The trim operators: `h </ x` keeps what lies below a value, `h >/ x` what lies above.
//!
//! A bucket that the value cuts is split as quantiles would split it; the sum loses the removed observations at
//! their bucket's middle. Buckets of infinite width can not be split and go as a whole.

use protocol::histogram::Histogram;

use super::{HistogramExt, exponential_bound, negative, positive, set_negative, set_positive};

/// A bucket under the knife.
struct Cut {
    /// What stays of its count.
    kept: f64,
    /// Where the removed observations are taken to lie.
    middle: f64,
}

struct Knife {
    at: f64,
    /// Keep what lies below.
    below: bool,
    custom: bool,
}

impl Knife {
    fn middle(&self, lower: f64, upper: f64) -> f64 {
        if self.custom {
            return (lower + upper) / 2.0;
        }
        let geometric = (lower.abs() * upper.abs()).sqrt();
        if lower < 0.0 { -geometric } else { geometric }
    }

    fn share_below(&self, lower: f64, upper: f64) -> f64 {
        if self.at <= lower {
            return 0.0;
        }
        if self.at >= upper {
            return 1.0;
        }
        if self.custom {
            return (self.at - lower) / (upper - lower);
        }
        let (low, high, at) = (lower.abs().log2(), upper.abs().log2(), self.at.abs().log2());
        if lower >= 0.0 { (at - low) / (high - low) } else { 1.0 - (at - high) / (low - high) }
    }

    fn cut(&self, lower: f64, upper: f64, count: f64) -> Cut {
        let at = self.at;
        let whole = if self.below { upper <= at } else { lower >= at };
        if whole {
            return Cut { kept: count, middle: 0.0 };
        }
        if lower == f64::NEG_INFINITY {
            if upper == f64::INFINITY || !(at >= 0.0 && upper > at) {
                // A part of it goes, and nobody knows which.
                let middle = if upper == f64::INFINITY { 0.0 } else { upper };
                return Cut { kept: 0.0, middle };
            }
            // With a positive upper bound the lowest bucket counts from 0.
            let below = at / upper;
            return if self.below {
                Cut { kept: count * below, middle: (at + upper) / 2.0 }
            } else {
                Cut { kept: count * (1.0 - below), middle: at / 2.0 }
            };
        }
        if upper == f64::INFINITY {
            return Cut { kept: 0.0, middle: lower };
        }
        let gone = if self.below { lower >= at } else { upper <= at };
        if gone {
            // Without the sign of negative buckets: Prometheus takes it so.
            let middle = if self.custom { self.middle(lower, upper) } else { (lower * upper).sqrt() };
            return Cut { kept: 0.0, middle };
        }
        let below = count * self.share_below(lower, upper);
        if self.below {
            let middle = self.middle(lower, if self.custom { upper } else { at });
            Cut { kept: below, middle }
        } else {
            let middle = self.middle(if self.custom { lower } else { at }, upper);
            Cut { kept: count - below, middle }
        }
    }
}

/// The part of a histogram below (or above) a value.
pub fn trim(h: &Histogram, at: f64, below: bool) -> Histogram {
    let mut out = h.clone();
    let knife = Knife { at, below, custom: h.is_custom() };
    let (mut total, mut removed) = (0.0, 0.0);
    let (mut has_positive, mut has_negative) = (false, false);
    let custom_bound = |i: i32| usize::try_from(i).ok().and_then(|i| h.custom_values.get(i)).copied();
    let mut pass = |index: i32, count: f64, mirrored: bool| -> (i32, f64) {
        if count == 0.0 {
            return (index, 0.0);
        }
        let (lower, upper) = if h.is_custom() {
            let lower = custom_bound(index.wrapping_sub(1)).unwrap_or(f64::NEG_INFINITY);
            (lower, custom_bound(index).unwrap_or(f64::INFINITY))
        } else {
            let (near, far) =
                (exponential_bound(index.wrapping_sub(1), h.schema), exponential_bound(index, h.schema));
            if mirrored { (-far, -near) } else { (near, far) }
        };
        has_negative |= lower < 0.0 && (mirrored || h.is_custom());
        has_positive |= upper > 0.0;
        let cut = knife.cut(lower, upper, count);
        total += cut.kept;
        if cut.kept != count {
            removed += (count - cut.kept) * cut.middle;
        }
        (index, cut.kept)
    };
    let kept_positive: Vec<_> = positive(h).into_iter().map(|(i, c)| pass(i, c, false)).collect();
    let kept_negative: Vec<_> = negative(h).into_iter().map(|(i, c)| pass(i, c, true)).collect();
    set_positive(&mut out, &kept_positive);
    set_negative(&mut out, &kept_negative);
    if h.zero_count > 0.0 {
        let (lower, upper) = (-h.zero_threshold, h.zero_threshold);
        let share = if at <= lower {
            0.0
        } else if at >= upper {
            1.0
        } else {
            (at - lower) / (upper - lower)
        };
        out.zero_count = if below { h.zero_count * share } else { h.zero_count - h.zero_count * share };
        total += out.zero_count;
    }
    out.count = total;
    out.sum = if total == 0.0 { 0.0 } else { h.sum - removed };
    if (!has_negative && out.sum < 0.0) || (!has_positive && out.sum > 0.0) {
        out.sum = 0.0;
    }
    out.compact();
    out
}
