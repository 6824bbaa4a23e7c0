//! Samples of one series as columns, and the one rule by which pieces of a series become one.
//!
//! A series' samples come from several places: segments, frozen memtables, the active one. Each place is older or
//! younger in the log than another. [`Columns::absorb`] adds a younger piece to an older one: timestamps end up
//! strictly ascending, and where two samples have the same timestamp the older one (lower log index) stays, also
//! when one is a float and the other a histogram. Scan and merge both use it, so that what a query sees does not
//! change when segments are merged.
//!
//! Almost always pieces do not overlap in time; then absorbing is an append.

use bytes::Bytes;

/// Samples of one series. Timestamps of each column are strictly ascending; none is in both columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Timestamps of `values`.
    pub times: Vec<i64>,
    /// Float samples; the stale marker is one of them.
    pub values: Vec<f64>,
    /// Start timestamps of the float samples (0 = unknown), as many as `times`, or none at all.
    pub start_times: Vec<i64>,
    /// Timestamps of `histograms`.
    pub histogram_times: Vec<i64>,
    /// Encoded native histograms.
    pub histograms: Vec<Bytes>,
    /// Start timestamps of the histograms, as many as `histogram_times`, or none at all.
    pub histogram_start_times: Vec<i64>,
}

impl Columns {
    /// Forgets the samples, keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.start_times.clear();
        self.histogram_times.clear();
        self.histograms.clear();
        self.histogram_start_times.clear();
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histogram_times.is_empty()
    }

    /// Number of samples of both kinds.
    pub fn len(&self) -> usize {
        self.times.len() + self.histogram_times.len()
    }

    /// Smallest and largest timestamp.
    pub fn span(&self) -> Option<(i64, i64)> {
        let ends = |times: &[i64]| Some((*times.first()?, *times.last()?));
        match (ends(&self.times), ends(&self.histogram_times)) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        }
    }

    /// Adds a piece that is younger in the log. Returns how many of its samples were dropped because their
    /// timestamps were taken.
    pub fn absorb(&mut self, younger: &Columns) -> u64 {
        let before = self.len() + younger.len();
        if self.histogram_times.is_empty() && younger.histogram_times.is_empty() {
            absorb_column(
                &mut self.times,
                &mut self.values,
                &mut self.start_times,
                (&younger.times, &younger.values, &younger.start_times),
            );
        } else {
            self.absorb_mixed(younger);
        }
        (before - self.len()) as u64
    }

    /// The rare case: a series that has histograms somewhere.
    fn absorb_mixed(&mut self, younger: &Columns) {
        let mut floats = younger.clone();
        floats.retain_times(|t, is_histogram| {
            let taken = if is_histogram { &self.times } else { &self.histogram_times };
            taken.binary_search(&t).is_err()
        });
        absorb_column(
            &mut self.times,
            &mut self.values,
            &mut self.start_times,
            (&floats.times, &floats.values, &floats.start_times),
        );
        absorb_column(
            &mut self.histogram_times,
            &mut self.histograms,
            &mut self.histogram_start_times,
            (&floats.histogram_times, &floats.histograms, &floats.histogram_start_times),
        );
    }

    /// Keeps the samples of which `keep` (timestamp, whether it is a histogram) says yes.
    pub fn retain_times(&mut self, keep: impl Fn(i64, bool) -> bool) {
        retain(&mut self.times, &mut self.values, &mut self.start_times, |t| keep(t, false));
        let keep = |t| keep(t, true);
        retain(&mut self.histogram_times, &mut self.histograms, &mut self.histogram_start_times, keep);
    }
}

fn retain<V: Clone>(
    times: &mut Vec<i64>,
    values: &mut Vec<V>,
    starts: &mut Vec<i64>,
    keep: impl Fn(i64) -> bool,
) {
    if times.iter().all(|&t| keep(t)) {
        return;
    }
    let keeps: Vec<bool> = times.iter().map(|&t| keep(t)).collect();
    let filter = |i: &mut usize| {
        *i += 1;
        keeps[*i - 1]
    };
    let mut i = 0;
    times.retain(|_| filter(&mut i));
    i = 0;
    values.retain(|_| filter(&mut i));
    if !starts.is_empty() {
        i = 0;
        starts.retain(|_| filter(&mut i));
    }
}

/// Merges a younger column into an older one; equal timestamps keep the older sample.
fn absorb_column<V: Clone>(
    times: &mut Vec<i64>,
    values: &mut Vec<V>,
    starts: &mut Vec<i64>,
    younger: (&[i64], &[V], &[i64]),
) {
    let (new_times, new_values, new_starts) = younger;
    let (Some(&new_first), Some(&new_last)) = (new_times.first(), new_times.last()) else { return };
    if !new_starts.is_empty() && starts.is_empty() {
        starts.resize(times.len(), 0);
    }
    let has_starts = !starts.is_empty() || !new_starts.is_empty();
    let start_of = |j: usize| new_starts.get(j).copied().unwrap_or(0);
    if times.last().is_none_or(|&last| last < new_first) {
        times.extend_from_slice(new_times);
        values.extend_from_slice(new_values);
        if has_starts {
            starts.extend((0..new_times.len()).map(start_of));
        }
        return;
    }
    if new_last < times[0] {
        times.splice(0..0, new_times.iter().copied());
        values.splice(0..0, new_values.iter().cloned());
        if has_starts {
            starts.splice(0..0, (0..new_times.len()).map(start_of));
        }
        return;
    }
    let total = times.len() + new_times.len();
    let mut out = (Vec::with_capacity(total), Vec::with_capacity(total), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < times.len() || j < new_times.len() {
        if j == new_times.len() || (i < times.len() && times[i] <= new_times[j]) {
            if j < new_times.len() && times[i] == new_times[j] {
                j += 1;
            }
            out.0.push(times[i]);
            out.1.push(values[i].clone());
            if has_starts {
                out.2.push(starts[i]);
            }
            i += 1;
        } else {
            out.0.push(new_times[j]);
            out.1.push(new_values[j].clone());
            if has_starts {
                out.2.push(start_of(j));
            }
            j += 1;
        }
    }
    (*times, *values, *starts) = out;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<i64, (bool, u64, i64)>;

    fn columns(samples: &Model) -> Columns {
        let mut out = Columns::default();
        for (&t, &(is_histogram, bits, start)) in samples {
            if is_histogram {
                out.histogram_times.push(t);
                out.histograms.push(Bytes::copy_from_slice(&bits.to_le_bytes()));
                out.histogram_start_times.push(start);
            } else {
                out.times.push(t);
                out.values.push(bits as f64);
                out.start_times.push(start);
            }
        }
        for starts in [&mut out.start_times, &mut out.histogram_start_times] {
            if starts.iter().all(|&s| s == 0) {
                starts.clear();
            }
        }
        out
    }

    fn pieces() -> impl Strategy<Value = Vec<Model>> {
        let sample = (any::<bool>(), 0u64..1000, 0i64..3);
        proptest::collection::vec(proptest::collection::btree_map(0i64..40, sample, 0..20), 1..5)
    }

    proptest! {
        #[test]
        fn the_oldest_piece_wins(pieces in pieces()) {
            let (mut model, mut merged, mut dropped, mut total) = (Model::new(), Columns::default(), 0, 0);
            for piece in &pieces {
                total += piece.len();
                for (&t, &sample) in piece {
                    model.entry(t).or_insert(sample);
                }
                dropped += merged.absorb(&columns(piece));
            }
            let mut expected = columns(&model);
            // A column keeps its start times once it had any, even if the samples that had them lost.
            for (ours, theirs) in [
                (&merged.start_times, &mut expected.start_times),
                (&merged.histogram_start_times, &mut expected.histogram_start_times),
            ] {
                if theirs.is_empty() && ours.iter().all(|&s| s == 0) {
                    theirs.clone_from(ours);
                }
            }
            prop_assert_eq!(&merged, &expected);
            prop_assert_eq!(dropped as usize, total - model.len());
        }
    }
}
