//! Functions over single samples: arithmetic, trigonometry, calendar.

use protocol::histogram::Histogram;

use super::FunctionId;
use crate::calendar::{Date, day_of_week, days_in_month};
use crate::histogram::HistogramExt;
use crate::kahan::Sum;
use crate::plan::{go_max, go_min};

/// A function from float to float. `params` are its scalar arguments at the step.
pub fn float_function(id: FunctionId) -> Option<fn(f64, &[f64]) -> f64> {
    use FunctionId as Id;
    Some(match id {
        Id::Abs => |v, _| v.abs(),
        Id::Acos => |v, _| v.acos(),
        Id::Acosh => |v, _| v.acosh(),
        Id::Asin => |v, _| v.asin(),
        Id::Asinh => |v, _| v.asinh(),
        Id::Atan => |v, _| v.atan(),
        Id::Atanh => |v, _| v.atanh(),
        Id::Ceil => |v, _| v.ceil(),
        Id::Cos => |v, _| v.cos(),
        Id::Cosh => |v, _| v.cosh(),
        Id::Deg => |v, _| v * 180.0 / std::f64::consts::PI,
        Id::Exp => |v, _| v.exp(),
        Id::Floor => |v, _| v.floor(),
        Id::Ln => |v, _| v.ln(),
        Id::Log10 => |v, _| v.log10(),
        Id::Log2 => |v, _| v.log2(),
        Id::Rad => |v, _| v * std::f64::consts::PI / 180.0,
        Id::Sgn => |v, _| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        Id::Sin => |v, _| v.sin(),
        Id::Sinh => |v, _| v.sinh(),
        Id::Sqrt => |v, _| v.sqrt(),
        Id::Tan => |v, _| v.tan(),
        Id::Tanh => |v, _| v.tanh(),
        Id::Round => |v, params| {
            let inverse = 1.0 / params.first().copied().unwrap_or(1.0);
            (v * inverse + 0.5).floor() / inverse
        },
        Id::Clamp => |v, params| match params {
            [min, max] => go_max(*min, go_min(*max, v)),
            _ => v,
        },
        Id::ClampMin => |v, params| params.first().map_or(v, |min| go_max(*min, v)),
        Id::ClampMax => |v, params| params.first().map_or(v, |max| go_min(*max, v)),
        Id::DayOfMonth => |v, _| f64::from(Date::from_unix(seconds(v)).day),
        Id::DayOfWeek => |v, _| day_of_week(seconds(v)) as f64,
        Id::DayOfYear => |v, _| f64::from(Date::from_unix(seconds(v)).day_of_year()),
        Id::DaysInMonth => |v, _| {
            let date = Date::from_unix(seconds(v));
            f64::from(days_in_month(date.year, date.month))
        },
        Id::Hour => |v, _| (seconds(v).rem_euclid(86_400) / 3600) as f64,
        Id::Minute => |v, _| (seconds(v).rem_euclid(3600) / 60) as f64,
        Id::Month => |v, _| f64::from(Date::from_unix(seconds(v)).month),
        Id::Year => |v, _| Date::from_unix(seconds(v)).year as f64,
        _ => return None,
    })
}

/// Whole seconds, held where dates can still be computed.
fn seconds(value: f64) -> i64 {
    (value as i64).clamp(-(1 << 50), 1 << 50)
}

/// A function from histogram to float.
pub fn histogram_function(id: FunctionId) -> Option<fn(&Histogram) -> f64> {
    use FunctionId as Id;
    Some(match id {
        Id::HistogramAvg => |h| h.sum / h.count,
        Id::HistogramCount => |h| h.count,
        Id::HistogramSum => |h| h.sum,
        Id::HistogramStddev => |h| variance(h).sqrt(),
        Id::HistogramStdvar => variance,
        _ => return None,
    })
}

/// Variance of a histogram's observations, each taken to lie in the middle of its bucket: the arithmetic middle of
/// custom buckets, zero for the zero bucket, the geometric middle elsewhere.
fn variance(h: &Histogram) -> f64 {
    let mean = h.sum / h.count;
    let mut spread = Sum::default();
    for bucket in h.buckets().iter().filter(|b| b.count != 0.0) {
        let value = if h.is_custom() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = value - mean;
        spread.add(bucket.count * delta * delta);
    }
    (spread.high + spread.low) / h.count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_and_clamping() {
        let f = |id| float_function(id).expect("is a float function");
        assert_eq!(f(FunctionId::Round)(-0.5, &[]), 0.0);
        assert_eq!(f(FunctionId::Round)(2.5, &[]), 3.0);
        assert_eq!(f(FunctionId::Round)(5.25, &[0.1]), 5.3);
        assert!(f(FunctionId::Clamp)(1.0, &[0.0, f64::NAN]).is_nan());
        assert_eq!(f(FunctionId::Year)(1e300, &[]), f(FunctionId::Year)((1i64 << 50) as f64, &[]));
        assert_eq!(f(FunctionId::Hour)(-1.0, &[]), 23.0);
    }
}
