//! How many float samples there are, and from when to when, as far as that can be told without decoding their values.

use protocol::sample::is_stale_nan;

/// Float samples of one or more series in a range of time. Staleness markers are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub samples: u64,
    /// Timestamp of the first; `i64::MAX` where there is none.
    pub first_ms: i64,
    /// Timestamp of the last; `i64::MIN` where there is none.
    pub last_ms: i64,
    /// Samples of which the value was looked at.
    pub read_samples: u64,
    /// Series that these are of, those of several places once for each.
    pub read_series: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { samples: 0, first_ms: i64::MAX, last_ms: i64::MIN, read_samples: 0, read_series: 0 }
    }
}

impl Tally {
    /// Counts samples whose values were read. Times ascend.
    pub fn of_values(times: &[i64], values: &[f64]) -> Self {
        let mut tally =
            Self { read_samples: values.len() as u64, read_series: 1, ..Self::of_times(times, &[]) };
        if values.iter().any(|value| is_stale_nan(*value)) {
            let kept = || times.iter().zip(values).filter(|(_, value)| !is_stale_nan(**value));
            tally.samples = kept().count() as u64;
            tally.first_ms = kept().next().map_or(i64::MAX, |(time, _)| *time);
            tally.last_ms = kept().next_back().map_or(i64::MIN, |(time, _)| *time);
        }
        tally
    }

    /// Counts samples by their times, which ascend. `stale` are the places of staleness markers among them, ascending.
    pub fn of_times(times: &[i64], stale: &[u32]) -> Self {
        let Some(samples) = times.len().checked_sub(stale.len()).filter(|samples| *samples > 0) else {
            return Self::default();
        };
        // The first place that is no marker's: markers before it fill the places from 0 on.
        let first = stale.iter().enumerate().take_while(|(at, place)| *at == **place as usize).count();
        let from_end = |(at, place): &(usize, &u32)| times.len() - 1 - at == **place as usize;
        let last = times.len() - 1 - stale.iter().rev().enumerate().take_while(from_end).count();
        Self { samples: samples as u64, first_ms: times[first], last_ms: times[last], ..Self::default() }
    }

    /// Adds other samples.
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.read_samples += other.read_samples;
        self.read_series += other.read_series;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::sample::stale_nan;

    use super::*;

    proptest! {
        #[test]
        fn places_of_markers_count_as_their_values_do(markers: Vec<bool>) {
            let times: Vec<i64> = (0..markers.len() as i64).map(|i| i * 10).collect();
            let values: Vec<f64> = markers.iter().map(|stale| if *stale { stale_nan() } else { 1.0 }).collect();
            let places: Vec<u32> =
                markers.iter().enumerate().filter(|(_, stale)| **stale).map(|(at, _)| at as u32).collect();
            let read = Tally::of_values(&times, &values);
            prop_assert_eq!(Tally { read_samples: 0, read_series: 0, ..read }, Tally::of_times(&times, &places));
            let live = || times.iter().zip(&markers).filter(|(_, stale)| !**stale).map(|(time, _)| *time);
            prop_assert_eq!(read.samples, live().count() as u64);
            prop_assert_eq!((read.first_ms, read.last_ms), (live().min().unwrap_or(i64::MAX), live().max().unwrap_or(i64::MIN)));
        }
    }
}
