//! Functions over ranges that reach into hours of which only roll-ups are left (`protocol::rollup`).
//!
//! What the samples that are left, the counts and the sums tell is told, and is what the samples that went would have told,
//! to rounding: `min`, `max`, `first`, `last`, `present`, `count`, `sum`, `avg`, `rate`, `increase` and `delta`. Other
//! functions have no answer for such a range, and a warning says so. So it does when a range has only a part of an hour in
//! it: what is counted is then counted of whole hours, the rest goes by the samples that are left.

use super::Result;
use super::range::{Kernel, Whole, rate_kind};
use crate::kahan::Sum;
use crate::promql::functions::FunctionId;
use crate::promql::functions::rate::{Unseen, float_rate_with, rate_with};
use crate::promql::functions::window::{Answer, Call, Window};
use crate::source::RolledHour;

/// The hours, in ascending order, that a range reaches into: after `start` up to `end`.
pub(super) fn reached(hours: &[RolledHour], start: i64, end: i64) -> &[RolledHour] {
    let from = hours.partition_point(|hour| hour.last <= start);
    let to = hours.partition_point(|hour| hour.first <= end);
    &hours[from.min(to)..to]
}

/// Whether a range has the whole hour in it.
pub(super) fn is_whole(hour: &RolledHour, start: i64, end: i64) -> bool {
    hour.first > start && hour.last <= end
}

/// Answers a function whose range reaches into these hours.
pub(super) fn answer(
    id: FunctionId,
    window: &Window<'_>,
    hours: &[RolledHour],
    call: &Call<'_>,
) -> Result<Answer> {
    use FunctionId as Id;
    let whole = || hours.iter().filter(|hour| is_whole(hour, window.start, window.end));
    if let Some(kind) = rate_kind(id) {
        let kept = |hour: &RolledHour| {
            let of = |times: &[i64]| {
                times.partition_point(|t| *t < hour.first)..times.partition_point(|t| *t <= hour.last)
            };
            (of(window.times), of(window.histogram_times))
        };
        let mut unseen = Unseen::default();
        // Positions of samples that follow one of their hour, whose resets are in what its roll-up says of its growth.
        let mut told = Vec::new();
        for hour in whole() {
            let (floats, histograms) = kept(hour);
            unseen.floats += (hour.rollup.count as usize).saturating_sub(floats.len());
            unseen.histograms += (hour.rollup.histograms as usize).saturating_sub(histograms.len());
            if let Some(increase) = hour.rollup.increase.filter(|_| kind.counter && floats.len() > 1) {
                unseen.increase += increase - (window.values[floats.end - 1] - window.values[floats.start]);
                told.push(floats.start + 1..floats.end);
            }
        }
        if !window.histograms.is_empty() {
            return Ok(rate_with(kind, window, call, unseen));
        }
        let is_reset = |i: &usize| {
            window.values[*i] < window.values[*i - 1] && !told.iter().any(|range| range.contains(i))
        };
        let resets: Vec<usize> = (1..window.values.len()).filter(|i| kind.counter && is_reset(i)).collect();
        return Ok(float_rate_with(kind, window, &resets, unseen));
    }
    let is_rolled = |time: i64| !reached(hours, time - 1, time).is_empty();
    let seen = || window.times.iter().zip(window.values).filter(|(time, _)| !is_rolled(**time));
    let floats = || seen().count() as u64 + whole().map(|hour| hour.rollup.count).sum::<u64>();
    let histograms = || {
        let seen = window.histogram_times.iter().filter(|time| !is_rolled(**time)).count() as u64;
        seen + whole().map(|hour| hour.rollup.histograms).sum::<u64>()
    };
    let answer = |count: u64, value: f64| if count == 0 { Answer::Nothing } else { Answer::Float(value) };
    Ok(match id {
        Id::MinOverTime | Id::MaxOverTime | Id::FirstOverTime | Id::LastOverTime | Id::PresentOverTime => {
            if window.is_empty() {
                Answer::Nothing
            } else {
                Whole(id).step((0, 0), window, call)?
            }
        }
        Id::CountOverTime => {
            let count = floats() + histograms();
            answer(count, count as f64)
        }
        Id::SumOverTime | Id::AvgOverTime if histograms() == 0 => {
            let mut sum = Sum::default();
            whole().for_each(|hour| sum.add(hour.rollup.sum));
            seen().for_each(|(_, value)| sum.add(*value));
            let count = floats();
            let divisor = if id == Id::AvgOverTime { count as f64 } else { 1.0 };
            answer(count, sum.total() / divisor)
        }
        _ => {
            call.notes.borrow_mut().not_told_by_rollups(call.span);
            Answer::Nothing
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use protocol::rollup::{ROLLUP_MS, Rollup, hour_of};

    use super::*;
    use crate::annotations::Annotations;
    use crate::promql::ast::Edges;

    /// Samples, and what is left of them.
    struct Thinned {
        times: Vec<i64>,
        values: Vec<f64>,
        hours: Vec<RolledHour>,
    }

    fn thin(samples: &[(i64, f64)]) -> Thinned {
        let mut thinned = Thinned { times: Vec::new(), values: Vec::new(), hours: Vec::new() };
        for hour in samples.chunk_by(|a, b| hour_of(a.0) == hour_of(b.0)) {
            let by = |less: fn(f64, f64) -> bool| {
                (1..hour.len()).fold(0, |best, at| if less(hour[at].1, hour[best].1) { at } else { best })
            };
            let mut kept = vec![0, hour.len() - 1, by(|a, b| a < b), by(|a, b| a > b)];
            kept.sort_unstable();
            kept.dedup();
            for at in &kept {
                thinned.times.push(hour[*at].0);
                thinned.values.push(hour[*at].1);
            }
            if kept.len() < hour.len() {
                let falls = hour.windows(2).filter(|pair| pair[1].1 < pair[0].1);
                let reached: f64 = falls.clone().map(|pair| pair[0].1).sum();
                let grown = hour[hour.len() - 1].1 - hour[0].1 + reached;
                let rollup = Rollup {
                    count: hour.len() as u64,
                    sum: hour.iter().map(|s| s.1).sum(),
                    increase: falls.clone().next().map(|_| grown),
                    histograms: 0,
                };
                let (first, last) = hour_of(hour[0].0);
                thinned.hours.push(RolledHour { first, last, rollup });
            }
        }
        thinned
    }

    fn window<'a>(times: &'a [i64], values: &'a [f64], (start, end): (i64, i64)) -> Window<'a> {
        let inside = times.partition_point(|t| *t <= start)..times.partition_point(|t| *t <= end);
        Window {
            times: &times[inside.clone()],
            values: &values[inside],
            starts: &[],
            histogram_times: &[],
            histograms: &[],
            start,
            end,
            at: end,
        }
    }

    fn float(answer: &Answer) -> Option<f64> {
        match answer {
            Answer::Float(value) => Some(*value),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn whole_hours_tell_what_their_samples_told(
            gaps in proptest::collection::vec(1i64..600_000, 1..300),
            values in proptest::collection::vec(-20i64..100, 300),
            rolled_up_to in 0i64..40,
            start in 0i64..40,
            hours in 1i64..12,
        ) {
            let mut time = 0;
            let times: Vec<i64> = gaps.iter().map(|gap| { time += gap; time }).collect();
            let samples: Vec<(i64, f64)> = times.iter().copied().zip(values.iter().map(|v| *v as f64)).collect();
            // Older ones are rolled up, younger ones are as they were.
            let cut = samples.partition_point(|(time, _)| *time <= rolled_up_to * ROLLUP_MS);
            let mut left = thin(&samples[..cut]);
            left.times.extend(samples[cut..].iter().map(|s| s.0));
            left.values.extend(samples[cut..].iter().map(|s| s.1));

            let range = (start * ROLLUP_MS, (start + hours) * ROLLUP_MS);
            let notes = RefCell::new(Annotations::default());
            let call =
                Call { notes: &notes, metric: "", span: Default::default(), edges: Edges::Plain, params: [0.0; 2] };
            let values: Vec<f64> = samples.iter().map(|s| s.1).collect();
            let before = window(&times, &values, range);
            let after = window(&left.times, &left.values, range);
            let reached = reached(&left.hours, range.0, range.1);
            prop_assert_eq!(before.is_empty(), after.is_empty());
            if before.is_empty() || reached.is_empty() {
                return Ok(());
            }
            use FunctionId as Id;
            for id in [
                Id::MinOverTime, Id::MaxOverTime, Id::FirstOverTime, Id::LastOverTime, Id::PresentOverTime,
                Id::CountOverTime, Id::SumOverTime, Id::AvgOverTime, Id::Rate, Id::Increase, Id::Delta,
            ] {
                let expected = float(&Whole(id).step((0, 0), &before, &call).unwrap());
                let found = float(&answer(id, &after, reached, &call).unwrap());
                let same = match (expected, found) {
                    (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
                    (a, b) => a == b,
                };
                prop_assert!(same, "{:?}: {:?} for {:?}", id, found, expected);
            }
            prop_assert!(notes.borrow().is_empty());
            prop_assert!(float(&answer(Id::QuantileOverTime, &after, reached, &call).unwrap()).is_none());
            prop_assert_eq!(notes.borrow().warnings("x").len(), 1);
        }
    }

    #[test]
    fn of_a_part_of_an_hour_nothing_is_counted() {
        let samples: Vec<(i64, f64)> = (1..=120).map(|minute| (minute * 60_000, 1.0)).collect();
        let left = thin(&samples);
        assert_eq!((left.times.len(), left.hours.len()), (4, 2));
        let range = (30 * 60_000, 2 * ROLLUP_MS);
        let reached = reached(&left.hours, range.0, range.1);
        assert_eq!(
            reached.iter().map(|hour| is_whole(hour, range.0, range.1)).collect::<Vec<_>>(),
            [false, true]
        );
        let notes = RefCell::new(Annotations::default());
        let call = Call {
            notes: &notes,
            metric: "",
            span: Default::default(),
            edges: Edges::Plain,
            params: [0.0; 2],
        };
        let count =
            answer(FunctionId::CountOverTime, &window(&left.times, &left.values, range), reached, &call);
        assert_eq!(float(&count.expect("an answer")), Some(60.0));
    }
}
