//! Rolling up: what stays of a series' samples when they are too old to be kept. See [`protocol::rollup`].
//!
//! A pure function of the samples of a day, of all places that hold any of them. An hour that has a roll-up already, because
//! it was rolled up before, stays as it is. Of histograms the first and the last of each hour stay, and both sides of what
//! looks like a reset, so that a counter's increase can still be told.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use protocol::histogram::{self, CounterResetHint, Histogram};
use protocol::rollup::{Rollup, hour_of};
use protocol::sample::is_stale_nan;

use crate::columns::Columns;
use crate::error::StorageError;

/// What is left of a series.
pub(crate) fn roll_up(columns: &Columns) -> Result<Columns, StorageError> {
    let histograms = decode(columns)?;
    let mut hours = BTreeMap::<i64, Hour>::new();
    for (hour, range) in hours_of(&columns.times) {
        hours.entry(hour).or_default().floats = range;
    }
    for (hour, range) in hours_of(&columns.histogram_times) {
        hours.entry(hour).or_default().histograms = range;
    }
    let mut keeps = vec![false; columns.times.len()];
    let mut keeps_histogram = vec![false; histograms.len()];
    let mut made = Vec::new();
    for (last_ms, Hour { floats, histograms: range }) in hours {
        let (keeps, keeps_histogram) = (&mut keeps[floats.clone()], &mut keeps_histogram[range.clone()]);
        let histograms = &histograms[range];
        if histograms.iter().any(|h| Rollup::of_histogram(h).is_some()) {
            keeps.fill(true);
            keeps_histogram.fill(true);
            continue;
        }
        let mut rollup = keep_floats(&columns.values[floats], keeps);
        rollup.histograms = keep_histograms(histograms, keeps_histogram);
        if keeps.iter().chain(keeps_histogram.iter()).any(|kept| !kept) {
            made.push((last_ms, rollup));
        }
    }
    let mut left = columns.clone();
    let is_kept = |times: &[i64], keeps: &[bool], time| times.binary_search(&time).is_ok_and(|at| keeps[at]);
    left.retain_times(|time, is_histogram| match is_histogram {
        true => is_kept(&columns.histogram_times, &keeps_histogram, time),
        false => is_kept(&columns.times, &keeps, time),
    });
    let mut rollups = Columns::default();
    for (last_ms, rollup) in made {
        let is_taken = |time: i64| {
            left.times.binary_search(&time).is_ok() || left.histogram_times.binary_search(&time).is_ok()
        };
        // A moment of the hour is free: that of a sample that went.
        let mut time = last_ms;
        while is_taken(time) {
            time -= 1;
        }
        let mut blob = Vec::new();
        histogram::encode(&rollup.to_histogram(), &mut blob)
            .map_err(|error| StorageError::Rows(format!("a roll-up can not be written: {error}")))?;
        rollups.histogram_times.push(time);
        rollups.histograms.push(Bytes::from(blob));
    }
    left.absorb(&rollups);
    Ok(left)
}

/// Positions of an hour's samples.
#[derive(Default)]
struct Hour {
    floats: Range<usize>,
    histograms: Range<usize>,
}

/// The last moment of each hour, and the positions of its samples.
fn hours_of(times: &[i64]) -> impl Iterator<Item = (i64, Range<usize>)> + '_ {
    let mut start = 0;
    times.chunk_by(|a, b| hour_of(*a) == hour_of(*b)).map(move |hour| {
        let range = start..start + hour.len();
        start = range.end;
        (hour_of(hour[0]).1, range)
    })
}

fn decode(columns: &Columns) -> Result<Vec<Histogram>, StorageError> {
    let unreadable = |error| StorageError::Rows(format!("a stored histogram can not be read: {error}"));
    columns.histograms.iter().map(|blob| histogram::decode(blob).map_err(unreadable)).collect()
}

/// Marks what stays of an hour's floats: the first, the last, the least and the greatest, and a staleness marker at the
/// end. Says what they came to.
fn keep_floats(values: &[f64], keeps: &mut [bool]) -> Rollup {
    let mut rollup = Rollup::default();
    // What the sum lost, what a counter had reached before each reset, and whether there was one.
    let (mut lost, mut reached, mut falls) = (0.0, 0.0, false);
    let (mut first, mut last, mut least, mut greatest) =
        (None::<usize>, None::<usize>, None::<usize>, None::<usize>);
    for (at, value) in values.iter().copied().enumerate().filter(|(_, value)| !is_stale_nan(*value)) {
        if let Some(before) = last.map(|last| values[last]).filter(|before| value < *before) {
            reached += before;
            falls = true;
        }
        rollup.count += 1;
        // Neumaier's sum.
        let sum = rollup.sum + value;
        let rounded = if rollup.sum.abs() >= value.abs() {
            (rollup.sum - sum) + value
        } else {
            (value - sum) + rollup.sum
        };
        lost += rounded;
        rollup.sum = sum;
        if !value.is_nan() && least.is_none_or(|at| value < values[at]) {
            least = Some(at);
        }
        if !value.is_nan() && greatest.is_none_or(|at| value > values[at]) {
            greatest = Some(at);
        }
        first = first.or(Some(at));
        last = Some(at);
    }
    if rollup.sum.is_finite() {
        rollup.sum += lost;
    }
    let ends = first.zip(last);
    rollup.increase = ends.filter(|_| falls).map(|(first, last)| values[last] - values[first] + reached);
    for at in [first, last, least, greatest].into_iter().flatten() {
        keeps[at] = true;
    }
    if let Some(end) = values.last().filter(|value| is_stale_nan(**value)).and(keeps.last_mut()) {
        *end = true;
    }
    rollup
}

/// Marks what stays of an hour's histograms. Says how many there are.
fn keep_histograms(histograms: &[Histogram], keeps: &mut [bool]) -> u64 {
    let mut last: Option<usize> = None;
    let mut count = 0;
    for (at, h) in histograms.iter().enumerate() {
        if is_stale_nan(h.sum) {
            keeps[at] = at + 1 == histograms.len();
            continue;
        }
        count += 1;
        match last {
            None => keeps[at] = true,
            Some(before) => {
                let is_gauge = h.counter_reset_hint == CounterResetHint::Gauge;
                let was_reset =
                    h.counter_reset_hint == CounterResetHint::Reset || h.count < histograms[before].count;
                if was_reset && !is_gauge {
                    (keeps[before], keeps[at]) = (true, true);
                }
            }
        }
        last = Some(at);
    }
    if let Some(last) = last {
        keeps[last] = true;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::rollup::ROLLUP_MS;
    use protocol::sample::STALE_NAN_BITS;

    const DAY_MS: i64 = 24 * ROLLUP_MS;
    const STALE: f64 = f64::from_bits(STALE_NAN_BITS);

    fn floats(samples: &[(i64, f64)]) -> Columns {
        let (times, values) = samples.iter().copied().unzip();
        Columns { times, values, ..Columns::default() }
    }

    /// Roll-ups, by the last moment of their hour.
    fn rollups(columns: &Columns) -> Vec<(i64, Rollup)> {
        let blobs = columns.histogram_times.iter().zip(&columns.histograms);
        let read = |(time, blob): (&i64, &Bytes)| {
            let sample = histogram::decode(blob).expect("a stored sample");
            Rollup::of_histogram(&sample).map(|rollup| (hour_of(*time).1, rollup))
        };
        blobs.filter_map(read).collect()
    }

    fn rolled(columns: &Columns) -> Columns {
        let left = roll_up(columns).expect("readable");
        assert!(same(&roll_up(&left).expect("readable"), &left), "what is rolled up stays as it is");
        left
    }

    /// Equal, to the bit: a staleness marker is no number.
    fn same(a: &Columns, b: &Columns) -> bool {
        let bits = |columns: &Columns| columns.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let without = |columns: &Columns| Columns { values: Vec::new(), ..columns.clone() };
        bits(a) == bits(b) && without(a) == without(b)
    }

    fn of_floats(count: u64, sum: f64, increase: Option<f64>) -> Rollup {
        Rollup { count, sum, increase, histograms: 0 }
    }

    #[test]
    fn of_an_hour_stay_its_ends_and_its_extremes() {
        let samples =
            [(1, 5.0), (2, 9.0), (3, 7.0), (4, STALE), (5, 8.0), (6, 1.0), (7, 2.0), (ROLLUP_MS, 3.0)];
        let left = rolled(&floats(&samples));
        assert_eq!(left.times, [1, 2, 6, ROLLUP_MS]);
        assert_eq!(rollups(&left), [(ROLLUP_MS, of_floats(7, 35.0, Some(15.0)))]);
        assert_eq!(left.histogram_times, [ROLLUP_MS - 1], "where no sample is");
    }

    #[test]
    fn an_hour_of_which_nothing_goes_is_not_rolled_up() {
        let columns = floats(&[(0, 9.0), (1, 1.0), (2, 2.0), (ROLLUP_MS + 1, 2.0), (ROLLUP_MS + 5, STALE)]);
        assert!(same(&rolled(&columns), &columns));
    }

    #[test]
    fn a_series_that_ended_is_known_to_have_ended() {
        let left = rolled(&floats(&[(1, 1.0), (2, 2.0), (3, 2.0), (4, 3.0), (5, STALE)]));
        assert_eq!(left.times, [1, 4, 5]);
        assert_eq!(rollups(&left), [(ROLLUP_MS, of_floats(4, 8.0, None))]);
    }

    #[test]
    fn midnight_stands_alone_and_roll_ups_stay_inside_their_day() {
        let last = DAY_MS - 1;
        let left = rolled(&floats(&[(0, 1.0), (last - 3, 2.0), (last - 1, 3.0), (last, 4.0), (DAY_MS, 5.0)]));
        assert_eq!(left.times, [0, last - 3, last, DAY_MS]);
        assert_eq!(rollups(&left), [(last, of_floats(3, 9.0, None))]);
        assert_eq!(left.histogram_times, [last - 1]);
    }

    #[test]
    fn histograms_stay_where_a_counter_was_reset() {
        let counts = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0];
        let mut columns = floats(&[(500, 1.0)]);
        for (time, count) in (0..).zip(counts) {
            let mut blob = Vec::new();
            histogram::encode(&Histogram { count, ..Histogram::default() }, &mut blob).expect("no buckets");
            columns.histogram_times.push(time * 1000 + 1);
            columns.histograms.push(Bytes::from(blob));
        }
        let left = rolled(&columns);
        assert_eq!(left.histogram_times, [1, 3001, 4001, 6001, ROLLUP_MS]);
        assert_eq!(rollups(&left), [(ROLLUP_MS, Rollup { histograms: 7, ..of_floats(1, 1.0, None) })]);
    }

    proptest! {
        #[test]
        fn each_sample_is_there_or_counted(
            gaps in proptest::collection::vec(1i64..900_000, 1..120),
            values in proptest::collection::vec(
                prop_oneof![6 => (0i64..50).prop_map(|v| v as f64), 1 => Just(STALE), 1 => Just(f64::NAN)], 120,
            ),
        ) {
            let mut time = -1;
            let times = gaps.iter().map(|gap| { time += gap; time }).collect::<Vec<i64>>();
            let samples: Vec<(i64, f64)> = times.into_iter().zip(values).collect();
            let left = rolled(&floats(&samples));
            prop_assert!(left.times.is_sorted_by(|a, b| a < b) && left.histogram_times.is_sorted_by(|a, b| a < b));
            prop_assert!(left.times.iter().all(|t| left.histogram_times.binary_search(t).is_err()));
            let rollups: BTreeMap<i64, Rollup> = rollups(&left).into_iter().collect();
            for hour in samples.chunk_by(|a, b| hour_of(a.0) == hour_of(b.0)) {
                let last = hour_of(hour[0].0).1;
                let values: Vec<f64> = hour.iter().map(|s| s.1).filter(|v| !is_stale_nan(*v)).collect();
                let there = left.times.iter().filter(|t| hour_of(**t).1 == last).count();
                let Some(rollup) = rollups.get(&last) else {
                    prop_assert_eq!(there, hour.len());
                    continue;
                };
                prop_assert!(there < hour.len());
                prop_assert_eq!(rollup.count, values.len() as u64);
                let sum: f64 = values.iter().sum();
                prop_assert!(rollup.sum == sum || (rollup.sum.is_nan() && sum.is_nan()));
            }
        }
    }
}
