//! Range aggregations as states that merge: by series and bucket, over shards, and over the buckets of a window.
//!
//! ```text
//! windows (t - range, t] at every step ─Buckets─► buckets that windows consist of
//! shard:       value of a line ─► State of its series and bucket ─► numbers on the wire
//! coordinator: states of all shards merged ─► states of a window merged ─► the function's value
//! ```
//!
//! Where range and step have a common divisor that is not too small, windows share buckets of that width; else a bucket
//! is a window, and a line counts in every window that holds it. Both sides compute the same layout from the same grid.

use crate::error::QueryError;
use crate::kahan::Sum;

use super::RangeOp;

/// Evaluation times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// First.
    pub start_ns: i64,
    /// Distance; meaningless with one step.
    pub step_ns: i64,
    /// How many.
    pub count: usize,
}

impl Steps {
    /// Time of a step.
    pub fn at(&self, step: usize) -> i64 {
        let at = i128::from(self.start_ns) + i128::from(self.step_ns) * step as i128;
        at.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// How windows consist of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Where the first window begins, which it does not hold itself.
    base_ns: i64,
    step_ns: i64,
    range_ns: i64,
    windows: usize,
    /// Width of shared buckets; none: a bucket is a window.
    width_ns: Option<i64>,
}

/// Windows may consist of so many times as many buckets as they overlap others.
const MAX_SPLIT: i64 = 4;

impl Buckets {
    /// The buckets of a range on a grid.
    pub fn new(steps: Steps, range_ns: i64, offset_ns: i64) -> Self {
        let base = i128::from(steps.start_ns) - i128::from(offset_ns) - i128::from(range_ns);
        let step_ns = steps.step_ns.max(1);
        let width = gcd(range_ns, step_ns);
        let overlap = range_ns / step_ns;
        let is_shared =
            steps.count > 1 && overlap >= 1 && range_ns / width <= overlap.saturating_mul(MAX_SPLIT);
        Self {
            base_ns: base.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            step_ns,
            range_ns,
            windows: steps.count,
            width_ns: is_shared.then_some(width),
        }
    }

    /// First and last nanosecond that any window holds.
    pub fn times(&self) -> (i64, i64) {
        let last = i128::from(self.base_ns)
            + i128::from(self.range_ns)
            + i128::from(self.step_ns) * (self.windows.max(1) as i128 - 1);
        (self.base_ns.saturating_add(1), last.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    /// Width of buckets that do not overlap and that begin at the first nanosecond of the first window.
    pub fn width(&self) -> Option<i64> {
        match self.width_ns {
            Some(width) => Some(width),
            None if self.windows <= 1 || self.step_ns == self.range_ns => Some(self.range_ns),
            None => None,
        }
    }

    /// The buckets that hold a time inside of [`Buckets::times`].
    pub fn holding(&self, time_ns: i64) -> std::ops::Range<u64> {
        let passed = i128::from(time_ns) - i128::from(self.base_ns) - 1;
        if passed < 0 {
            return 0..0;
        }
        if let Some(width) = self.width_ns {
            let bucket = (passed / i128::from(width)) as u64;
            return bucket..bucket + 1;
        }
        // Window i holds what has passed from i * step on, up to i * step + range.
        let (step, range) = (i128::from(self.step_ns), i128::from(self.range_ns));
        let last = (passed / step).min(self.windows as i128 - 1);
        let first = (passed - range).div_euclid(step) + 1;
        first.max(0) as u64..(last + 1).max(0) as u64
    }

    /// The buckets of a window.
    pub fn of_window(&self, window: usize) -> std::ops::Range<u64> {
        match self.width_ns {
            None => window as u64..window as u64 + 1,
            Some(width) => {
                let first = window as u64 * (self.step_ns / width) as u64;
                first..first + (self.range_ns / width) as u64
            }
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// What is kept of the lines of a bucket.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Lines, or bytes.
    Count(u64),
    /// A sum.
    Sum(Sum),
    /// A sum and its number.
    Mean(Sum, u64),
    /// The smallest.
    Min(f64),
    /// The largest.
    Max(f64),
    /// The earliest and when.
    First(i64, f64),
    /// The latest and when.
    Last(i64, f64),
    /// Number, mean, and sum of squared distances from it.
    Spread(u64, f64, f64),
    /// All of them.
    Values(Vec<f64>),
}

impl State {
    /// The state of a function that has seen one line: its number, size or value, and time.
    pub fn new(op: RangeOp, unwraps: bool, value: f64, bytes: u64, time_ns: i64) -> Self {
        match op {
            RangeOp::Rate if unwraps => Self::summed(value),
            RangeOp::Rate | RangeOp::CountOverTime | RangeOp::AbsentOverTime => Self::Count(1),
            RangeOp::BytesRate | RangeOp::BytesOverTime => Self::Count(bytes),
            RangeOp::SumOverTime => Self::summed(value),
            RangeOp::AvgOverTime => {
                let mut sum = Sum::default();
                sum.add(value);
                Self::Mean(sum, 1)
            }
            RangeOp::MinOverTime => Self::Min(value),
            RangeOp::MaxOverTime => Self::Max(value),
            RangeOp::StddevOverTime | RangeOp::StdvarOverTime => Self::Spread(1, value, 0.0),
            RangeOp::QuantileOverTime => Self::Values(vec![value]),
            RangeOp::FirstOverTime => Self::First(time_ns, value),
            RangeOp::LastOverTime => Self::Last(time_ns, value),
        }
    }

    fn summed(value: f64) -> Self {
        let mut sum = Sum::default();
        sum.add(value);
        Self::Sum(sum)
    }

    /// Takes in what was seen later, or at the same time on a later shard.
    pub fn merge(&mut self, later: &Self) {
        match (self, later) {
            (Self::Count(a), Self::Count(b)) => *a = a.saturating_add(*b),
            (Self::Sum(a), Self::Sum(b)) => add(a, b),
            (Self::Mean(a, n), Self::Mean(b, m)) => {
                add(a, b);
                *n += m;
            }
            (Self::Min(a), Self::Min(b)) if *b < *a || a.is_nan() => *a = *b,
            (Self::Max(a), Self::Max(b)) if *b > *a || a.is_nan() => *a = *b,
            (Self::First(at, a), Self::First(other, b)) if other < at => (*at, *a) = (*other, *b),
            (Self::Last(at, a), Self::Last(other, b)) if other >= at => (*at, *a) = (*other, *b),
            (Self::Spread(n, mean, squares), Self::Spread(m, other, more)) => {
                let total = (*n + *m) as f64;
                let delta = other - *mean;
                *squares += more + delta * delta * (*n as f64) * (*m as f64) / total;
                *mean += delta * (*m as f64) / total;
                *n += m;
            }
            (Self::Values(a), Self::Values(b)) => a.extend_from_slice(b),
            // States of one function are of one kind; the smaller, later or earlier one stays.
            _ => {}
        }
    }

    /// The function's value over a window.
    pub fn value(&self, op: RangeOp, param: Option<f64>, range_ns: i64) -> f64 {
        let seconds = range_ns as f64 / 1e9;
        let is_rate = matches!(op, RangeOp::Rate | RangeOp::BytesRate);
        match self {
            Self::Count(count) if is_rate => *count as f64 / seconds,
            Self::Count(count) => *count as f64,
            Self::Sum(sum) if is_rate => sum.total() / seconds,
            Self::Sum(sum) => sum.total(),
            Self::Mean(sum, count) => sum.total() / *count as f64,
            Self::Min(value) | Self::Max(value) | Self::First(_, value) | Self::Last(_, value) => *value,
            Self::Spread(count, _, squares) => {
                let variance = squares / *count as f64;
                if op == RangeOp::StddevOverTime { variance.sqrt() } else { variance }
            }
            Self::Values(values) => quantile(param.unwrap_or(f64::NAN), values.clone()),
        }
    }

    /// Bytes that the state takes in memory, roughly.
    pub fn memory_bytes(&self) -> u64 {
        let values = if let Self::Values(values) = self { values.len() * 8 } else { 0 };
        (size_of::<Self>() + values) as u64
    }

    /// Appends the state's numbers.
    pub fn write(&self, ints: &mut Vec<i64>, floats: &mut Vec<f64>) {
        match self {
            Self::Count(count) => ints.push(count.cast_signed()),
            Self::Sum(sum) => floats.extend([sum.high, sum.low]),
            Self::Mean(sum, count) => {
                ints.push(count.cast_signed());
                floats.extend([sum.high, sum.low]);
            }
            Self::Min(value) | Self::Max(value) => floats.push(*value),
            Self::First(at, value) | Self::Last(at, value) => {
                ints.push(*at);
                floats.push(*value);
            }
            Self::Spread(count, mean, squares) => {
                ints.push(count.cast_signed());
                floats.extend([*mean, *squares]);
            }
            Self::Values(values) => {
                ints.push(values.len() as i64);
                floats.extend_from_slice(values);
            }
        }
    }

    /// Reads the state of a function that was written.
    pub fn read(
        op: RangeOp,
        unwraps: bool,
        ints: &mut impl Iterator<Item = i64>,
        floats: &mut impl Iterator<Item = f64>,
    ) -> Result<Self, QueryError> {
        let short = || QueryError::Protocol("a state of a range aggregation is cut off".to_owned());
        let mut int = || ints.next().ok_or_else(short);
        let mut float = || floats.next().ok_or_else(short);
        Ok(match Self::new(op, unwraps, 0.0, 0, 0) {
            Self::Count(_) => Self::Count(int()?.cast_unsigned()),
            Self::Sum(_) => Self::Sum(Sum { high: float()?, low: float()? }),
            Self::Mean(..) => {
                let count = int()?.cast_unsigned();
                Self::Mean(Sum { high: float()?, low: float()? }, count)
            }
            Self::Min(_) => Self::Min(float()?),
            Self::Max(_) => Self::Max(float()?),
            Self::First(..) => Self::First(int()?, float()?),
            Self::Last(..) => Self::Last(int()?, float()?),
            Self::Spread(..) => Self::Spread(int()?.cast_unsigned(), float()?, float()?),
            Self::Values(_) => {
                let count = int()?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(float()?);
                }
                Self::Values(values)
            }
        })
    }
}

fn add(a: &mut Sum, b: &Sum) {
    a.add(b.high);
    a.low += b.low;
}

/// As Prometheus interpolates; NaN counts as smallest.
pub(super) fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let last = values.len() - 1;
    let rank = q * last as f64;
    let low = (rank.floor() as usize).min(last);
    let weight = rank - rank.floor();
    values[low] * (1.0 - weight) + values[(low + 1).min(last)] * weight
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows_of(buckets: &Buckets, time: i64) -> Vec<usize> {
        let holding = buckets.holding(time);
        (0..buckets.windows)
            .filter(|window| {
                let of_window = buckets.of_window(*window);
                holding.clone().any(|bucket| of_window.contains(&bucket))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_time_is_in_the_windows_that_hold_it(
            start in -50i64..50, step in 1i64..12, count in 1usize..8, range in 1i64..40, offset in -5i64..5, time in -100i64..150,
        ) {
            let steps = Steps { start_ns: start, step_ns: step, count };
            let buckets = Buckets::new(steps, range, offset);
            let expected: Vec<usize> = (0..count)
                .filter(|window| {
                    let end = steps.at(*window) - offset;
                    time > end - range && time <= end
                })
                .collect();
            let (first, last) = buckets.times();
            if (first..=last).contains(&time) {
                prop_assert_eq!(windows_of(&buckets, time), expected);
            } else {
                prop_assert!(expected.is_empty());
            }
            if let (Some(width), true) = (buckets.width(), (first..=last).contains(&time)) {
                let counted = ((time - first) / width) as u64;
                prop_assert_eq!(buckets.holding(time), counted..counted + 1);
            }
        }

        #[test]
        fn states_come_back_and_merge(values in proptest::collection::vec(-1e6..1e6f64, 1..20), cut in 0usize..20) {
            for op in RangeOp::ALL {
                let seen = |values: &[f64], base: usize| {
                    let states = values.iter().enumerate().map(|(at, v)| State::new(op, true, *v, 3, (base + at) as i64));
                    states.reduce(|mut a, b| { a.merge(&b); a })
                };
                let cut = cut.min(values.len());
                let whole = seen(&values, 0).expect("there is a value");
                let merged = match (seen(&values[..cut], 0), seen(&values[cut..], cut)) {
                    (Some(mut a), Some(b)) => { a.merge(&b); a }
                    (a, b) => a.or(b).expect("there is a value"),
                };
                let (mut ints, mut floats) = (Vec::new(), Vec::new());
                merged.write(&mut ints, &mut floats);
                let back = State::read(op, true, &mut ints.into_iter(), &mut floats.into_iter());
                prop_assert_eq!(back.as_ref().ok(), Some(&merged));
                let (a, b) = (whole.value(op, Some(0.9), 5), merged.value(op, Some(0.9), 5));
                prop_assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{op:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn values_of_functions() {
        let values = [4.0, 2.0, 6.0];
        let check = |op: RangeOp, expected: f64| {
            let states = values.iter().enumerate().map(|(at, v)| State::new(op, true, *v, 10, at as i64));
            let state = states
                .reduce(|mut a, b| {
                    a.merge(&b);
                    a
                })
                .expect("there are values");
            let value = state.value(op, Some(0.5), 2_000_000_000);
            assert!((value - expected).abs() < 1e-12, "{op:?}: {value}");
        };
        check(RangeOp::Rate, 6.0);
        check(RangeOp::CountOverTime, 3.0);
        check(RangeOp::BytesRate, 15.0);
        check(RangeOp::BytesOverTime, 30.0);
        check(RangeOp::SumOverTime, 12.0);
        check(RangeOp::AvgOverTime, 4.0);
        check(RangeOp::MinOverTime, 2.0);
        check(RangeOp::MaxOverTime, 6.0);
        check(RangeOp::StdvarOverTime, 8.0 / 3.0);
        check(RangeOp::StddevOverTime, (8.0f64 / 3.0).sqrt());
        check(RangeOp::QuantileOverTime, 4.0);
        check(RangeOp::FirstOverTime, 4.0);
        check(RangeOp::LastOverTime, 6.0);
        assert!(
            State::read(RangeOp::QuantileOverTime, true, &mut [5].into_iter(), &mut [1.0].into_iter())
                .is_err()
        );
    }
}
