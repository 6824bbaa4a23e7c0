//! rate, increase and delta of floats over many series that were sampled together.
//!
//! Where a window lies in a series' times, and how far its increase is extrapolated, follows from the times alone, up to one
//! thing: a counter is not extrapolated below zero. Series of one target share their times, so all of that is computed
//! once for each vector of times ([`Windows`]) and kept while a call walks its series. What is left for a series and a
//! step: a subtraction, a multiplication that shows whether zero is near, one more for the answer.
//!
//! The answers are those of [`crate::promql::functions::rate::float_rate`], bit for bit: the same operations in the same
//! order, done earlier. A test compares them.

use std::sync::Arc;

use super::selector::advance;
use crate::exec::{Budget, Held};
use crate::promql::functions::rate::{RateKind, float_resets};
use crate::value::{ABSENT, Grid, Map, is_absent};

type Result<T> = std::result::Result<T, crate::error::QueryError>;

/// Bytes of windows that a call keeps.
const KEPT_BYTES: usize = 8 << 20;

/// Ranges that move with the steps of a grid: after `grid.at(step) - offset - range` up to `grid.at(step) - offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct MovingRange {
    pub grid: Grid,
    pub offset: i64,
    pub range: i64,
}

/// The window of one step.
#[derive(Clone, Copy, Debug)]
struct StepWindow {
    /// First sample inside.
    from: u32,
    /// Behind the last one. Below two samples there is no answer.
    to: u32,
    /// Seconds between first and last sample.
    sampled: f64,
    /// Seconds of extrapolation before the first sample, if zero does not bound it.
    to_start: f64,
    /// Seconds of extrapolation behind the last sample.
    to_end: f64,
    /// What the increase is multiplied with, if zero does not bound it.
    factor: f64,
}

/// The windows of all steps in one vector of times.
#[derive(Debug)]
struct Windows {
    steps: Vec<StepWindow>,
    /// Seconds that the increase is divided by, for a rate.
    seconds: Option<f64>,
}

impl Windows {
    fn new(times: &[i64], moving: &MovingRange, kind: RateKind) -> Self {
        let seconds = kind.per_second.then(|| moving.range as f64 / 1000.0);
        let (mut from, mut to) = (0, 0);
        let mut steps: Vec<StepWindow> = Vec::with_capacity(moving.grid.count);
        let mut before = None;
        for step in 0..moving.grid.count {
            let end = moving.grid.at(step).saturating_sub(moving.offset);
            let start = end.saturating_sub(moving.range);
            from += advance(&times[from..], start);
            to += advance(&times[to..], end);
            let inside = from..to.max(from);
            // A window is what the distances of its samples from its ends make it: those of regular samples are alike.
            let shape = Shape::of(&times[inside.clone()], start, end);
            let (first, last) = (inside.start as u32, inside.end as u32);
            steps.push(match (steps.last(), before == Some(shape)) {
                (Some(alike), true) => StepWindow { from: first, to: last, ..*alike },
                _ => StepWindow::new(first..last, shape, seconds),
            });
            before = Some(shape);
        }
        Self { steps, seconds }
    }

    fn bytes(steps: usize) -> usize {
        steps * size_of::<StepWindow>()
    }
}

/// What the numbers of a window follow from, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Samples inside; below two the rest is 0.
    samples: usize,
    sampled: i64,
    to_first: i64,
    from_last: i64,
}

impl Shape {
    fn of(inside: &[i64], start: i64, end: i64) -> Self {
        match inside {
            [first, .., last] => Self {
                samples: inside.len(),
                sampled: last - first,
                to_first: first - start,
                from_last: end - last,
            },
            _ => Self { samples: inside.len(), sampled: 0, to_first: 0, from_last: 0 },
        }
    }
}

impl StepWindow {
    fn new(inside: std::ops::Range<u32>, shape: Shape, seconds: Option<f64>) -> Self {
        let mut window = Self {
            from: inside.start,
            to: inside.end,
            sampled: 0.0,
            to_start: 0.0,
            to_end: 0.0,
            factor: 0.0,
        };
        if shape.samples < 2 {
            return window;
        }
        let sampled = shape.sampled as f64 / 1000.0;
        let average = sampled / (shape.samples - 1) as f64;
        let threshold = average * 1.1;
        let bounded = |distance: f64| if distance >= threshold { average / 2.0 } else { distance };
        window.sampled = sampled;
        window.to_start = bounded(shape.to_first as f64 / 1000.0);
        window.to_end = bounded(shape.from_last as f64 / 1000.0);
        window.factor = window.factor(window.to_start, seconds);
        window
    }

    fn factor(&self, to_start: f64, seconds: Option<f64>) -> f64 {
        let factor = (self.sampled + to_start + self.to_end) / self.sampled;
        match seconds {
            Some(seconds) => factor / seconds,
            None => factor,
        }
    }

    /// Whether a counter that starts with `first` and rises by `increase` may have been zero inside of the extrapolated
    /// time. Answers "perhaps" in doubt: whoever asks then computes it exactly.
    #[inline]
    fn may_reach_zero(&self, first: f64, increase: f64) -> bool {
        // Two multiplications round by less than this, unless they leave the normal numbers.
        const MARGIN: f64 = 1.0 + 1e-12;
        let reach = self.sampled * first;
        !(reach > self.to_start * increase * MARGIN && reach.is_normal() && reach < f64::MAX)
    }
}

/// Computes the columns of one call.
pub(super) struct SteadyRate<'b> {
    kind: RateKind,
    moving: MovingRange,
    /// By address of the vector of times, which is held so that no other comes to lie there; with the part that is used.
    known: Map<(usize, usize, usize), (Arc<[i64]>, Windows)>,
    /// Windows that may be kept.
    room: usize,
    /// Windows that are charged.
    charged: usize,
    held: Held<'b>,
}

impl<'b> SteadyRate<'b> {
    /// For calls whose every range moves with the grid.
    pub fn new(kind: RateKind, moving: MovingRange, budget: &'b Budget) -> Result<Self> {
        let bytes = Windows::bytes(moving.grid.count);
        // Those of a vector that is not shared are made and dropped.
        let held = budget.hold_while(bytes as u64)?;
        let room = KEPT_BYTES.checked_div(bytes).unwrap_or(0);
        Ok(Self { kind, moving, known: Map::default(), room, charged: 1, held })
    }

    /// Writes a series' column; false if no step has a value. `vector` is what `times` is a part of, where other series
    /// may share it.
    pub fn column(
        &mut self,
        vector: Option<&Arc<[i64]>>,
        times: &[i64],
        values: &[f64],
        out: &mut [f64],
    ) -> Result<bool> {
        let Some(vector) = vector else {
            let windows = Windows::new(times, &self.moving, self.kind);
            return Ok(fill(self.kind, &windows, times, values, out));
        };
        let key = (vector.as_ptr() as usize, times.as_ptr() as usize, times.len());
        if !self.known.contains_key(&key) {
            if self.known.len() >= self.room.max(1) {
                self.known.clear();
            } else if self.known.len() == self.charged {
                self.held.grow(Windows::bytes(self.moving.grid.count) as u64)?;
                self.charged += 1;
            }
            let windows = Windows::new(times, &self.moving, self.kind);
            self.known.insert(key, (Arc::clone(vector), windows));
        }
        let (_, windows) = &self.known[&key];
        Ok(fill(self.kind, windows, times, values, out))
    }
}

fn fill(kind: RateKind, windows: &Windows, times: &[i64], values: &[f64], out: &mut [f64]) -> bool {
    let resets = if kind.counter { float_resets(times, values, &[]) } else { Vec::new() };
    let (mut next_reset, mut any) = (0, false);
    for (window, out) in windows.steps.iter().zip(out) {
        let (from, to) = (window.from as usize, window.to as usize);
        if to < from + 2 {
            *out = ABSENT;
            continue;
        }
        let first = values[from];
        let mut increase = values[to - 1] - first;
        let mut factor = window.factor;
        if kind.counter {
            while resets.get(next_reset).is_some_and(|at| *at <= from) {
                next_reset += 1;
            }
            for at in resets[next_reset..].iter().take_while(|at| **at < to) {
                increase += values[at - 1];
            }
            if increase > 0.0 && first >= 0.0 && window.may_reach_zero(first, increase) {
                let to_zero = window.sampled * (first / increase);
                if to_zero < window.to_start {
                    factor = window.factor(to_zero, windows.seconds);
                }
            }
        }
        let value = increase * factor;
        *out = if is_absent(value) { f64::NAN } else { value };
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exec::{CancelFlag, Limits};
    use crate::promql::functions::rate::float_rate;
    use crate::promql::functions::window::{Answer, Window};

    fn plain(kind: RateKind, moving: &MovingRange, times: &[i64], values: &[f64]) -> Vec<f64> {
        let column = (0..moving.grid.count).map(|step| {
            let end = moving.grid.at(step) - moving.offset;
            let start = end - moving.range;
            let inside = times.partition_point(|t| *t <= start)..times.partition_point(|t| *t <= end);
            let window = Window {
                times: &times[inside.clone()],
                values: &values[inside.clone()],
                starts: &[],
                histogram_times: &[],
                histograms: &[],
                start,
                end,
                at: moving.grid.at(step),
            };
            if inside.is_empty() {
                return ABSENT;
            }
            let resets = match kind.counter {
                true => float_resets(window.times, window.values, &[]),
                false => Vec::new(),
            };
            match float_rate(kind, &window, &resets) {
                Answer::Float(value) => value,
                _ => ABSENT,
            }
        });
        column.collect()
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            6 => (0u32..1000).prop_map(f64::from),
            2 => -10.0..1e6f64,
            1 => any::<f64>(),
            1 => Just(f64::MAX),
            1 => Just(5e-324),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn answers_are_those_of_one_window_at_a_time(
            gaps in proptest::collection::vec(1i64..40_000, 0..60),
            values in proptest::collection::vec(value(), 60),
            (step, range, offset) in (1i64..60_000, 1i64..400_000, -50_000i64..50_000),
            rising: bool,
            (counter, per_second) in any::<(bool, bool)>(),
            shared: bool,
        ) {
            let mut now = 1_000_000;
            let times: Vec<i64> = gaps.iter().map(|gap| { now += gap; now }).collect();
            let mut values = values[..times.len()].to_vec();
            if rising {
                let mut total = 0.0;
                values.iter_mut().for_each(|v| { total += v.abs().min(1e9); *v = total; });
            }
            let grid = Grid { start: 990_000, step, count: 80 };
            let (kind, moving) = (RateKind { counter, per_second }, MovingRange { grid, offset, range });
            let expected: Vec<u64> =
                plain(kind, &moving, &times, &values).into_iter().map(f64::to_bits).collect();
            let budget = Budget::new(Limits::default(), CancelFlag::default());
            let mut steady = SteadyRate::new(kind, moving, &budget).unwrap();
            let vector: Arc<[i64]> = times.into();
            for _ in 0..2 {
                let mut column = vec![ABSENT; grid.count];
                let any = steady.column(shared.then_some(&vector), &vector, &values, &mut column).unwrap();
                prop_assert_eq!(any, column.iter().any(|v| !is_absent(*v)));
                let bits: Vec<u64> = column.into_iter().map(f64::to_bits).collect();
                prop_assert_eq!(&bits, &expected);
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_charged() {
        let budget = Budget::new(Limits::default(), CancelFlag::default());
        let grid = Grid { start: 0, step: 1000, count: 11_000 };
        let kind = RateKind { counter: true, per_second: true };
        let moving = MovingRange { grid, offset: 0, range: 60_000 };
        let mut steady = SteadyRate::new(kind, moving, &budget).unwrap();
        for i in 0..100 {
            let times: Arc<[i64]> = (0..100).map(|t| t * 15_000 + i).collect();
            let mut column = vec![ABSENT; grid.count];
            steady.column(Some(&times), &times, &[1.0; 100], &mut column).unwrap();
        }
        assert!(steady.known.len() * Windows::bytes(grid.count) <= KEPT_BYTES);
        assert!(budget.peak_bytes() as usize <= KEPT_BYTES);
        drop(steady);
        assert!(budget.hold(Limits::default().max_bytes).is_ok(), "all is given back");
    }
}
