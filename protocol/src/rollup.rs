//! Roll-ups: what is left of an hour of a series when its samples are too old to be kept.
//!
//! Of each hour stay, as they were: the first and the last sample, the least and the greatest. Where more were there, a
//! [`Rollup`] stands beside them, which says how many and what they came to. It is a histogram sample of the series, with a
//! schema of its own ([`ROLLUP_SCHEMA`]) and without buckets, so that whatever carries samples carries it: segments, merges,
//! backups, remote write. Only those who read histograms have to tell it from one.
//!
//! An hour ends with the moment that is its multiple and begins behind the one before, as ranges of PromQL do: `[1h]` at a
//! full hour is exactly one. The moment of midnight stands alone, for another day's segment holds it. A roll-up's own
//! timestamp lies somewhere in its hour, where no sample is.

use crate::histogram::{Histogram, ROLLUP_SCHEMA};
use crate::sample::TimestampMs;

/// Length of what is rolled up into one, in milliseconds.
pub const ROLLUP_MS: i64 = 60 * 60 * 1000;

/// Length of what never lies in one of them, in milliseconds: a day.
const DAY_MS: i64 = 24 * ROLLUP_MS;

/// What the samples of an hour came to, staleness markers left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rollup {
    /// How many floats there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// How far a counter grew from the first to the last of them, where that is not the difference of the two: some was
    /// less than the one before.
    pub increase: Option<f64>,
    /// How many native histograms there were.
    pub histograms: u64,
}

impl Rollup {
    /// As the sample that stands for it.
    pub fn to_histogram(self) -> Histogram {
        Histogram {
            schema: ROLLUP_SCHEMA,
            is_integer: true,
            count: self.count as f64,
            zero_count: self.histograms as f64,
            sum: self.sum,
            custom_values: self.increase.into_iter().collect(),
            ..Histogram::default()
        }
    }

    /// What a sample stands for; `None` for a histogram.
    pub fn of_histogram(sample: &Histogram) -> Option<Self> {
        (sample.schema == ROLLUP_SCHEMA).then(|| Self {
            count: sample.count as u64,
            sum: sample.sum,
            increase: sample.custom_values.first().copied(),
            histograms: sample.zero_count as u64,
        })
    }
}

/// First and last moment of the hour that a moment lies in.
pub const fn hour_of(time: TimestampMs) -> (TimestampMs, TimestampMs) {
    let over = time.rem_euclid(ROLLUP_MS);
    let end = if over == 0 { time } else { time.saturating_add(ROLLUP_MS - over) };
    let first = end.saturating_sub(ROLLUP_MS - 1);
    match (end.rem_euclid(DAY_MS), over) {
        (0, 0) => (end, end),
        (0, _) => (first, end - 1),
        _ => (first, end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::{decode, encode};

    #[test]
    fn travels_as_a_sample() {
        for (increase, histograms) in [(None, 0), (Some(2.5), 7)] {
            let rollup = Rollup { count: 240, sum: 12.25, increase, histograms };
            let mut blob = Vec::new();
            encode(&rollup.to_histogram(), &mut blob).expect("it has no buckets");
            let sample = decode(&blob).expect("as it was written");
            assert_eq!(sample.validate(), Ok(()));
            assert_eq!(Rollup::of_histogram(&sample), Some(rollup));
        }
        assert_eq!(Rollup::of_histogram(&Histogram::default()), None);
    }

    #[test]
    fn an_hour_begins_behind_the_one_before_and_midnight_stands_alone() {
        let hour = ROLLUP_MS;
        assert_eq!([1, hour].map(hour_of), [(1, hour); 2]);
        assert_eq!(hour_of(hour + 1), (hour + 1, 2 * hour));
        assert_eq!([DAY_MS - hour + 1, DAY_MS - 1].map(hour_of), [(DAY_MS - hour + 1, DAY_MS - 1); 2]);
        assert_eq!([0, DAY_MS, -DAY_MS].map(hour_of), [(0, 0), (DAY_MS, DAY_MS), (-DAY_MS, -DAY_MS)]);
        assert_eq!(hour_of(-1), (1 - hour, -1));
    }
}
