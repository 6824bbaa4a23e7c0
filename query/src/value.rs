//! Values during evaluation: series over a grid of steps, as columns.
//!
//! A column holds one float per step. Where a series has no sample, the column holds the staleness marker's bits:
//! stale samples are hidden by the selectors, so those bits can not be a value, and arithmetic never sees them:
//! whoever computes on a column looks for the marker first. Histograms, which are rare, stand in a second column
//! beside.

use std::sync::Arc;

use hashbrown::HashMap;
use protocol::histogram::Histogram;
use protocol::labels::{Labels, METRIC_NAME};
use protocol::sample::{is_stale_nan, stale_nan};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::error::QueryError;

/// A hash map with fixed seeds: the order of iteration is never used.
pub type Map<K, V> = HashMap<K, V, Xxh3DefaultBuilder>;

/// Evaluation times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// First time.
    pub start: i64,
    /// Distance, at least 1.
    pub step: i64,
    /// Number of times, may be 0.
    pub count: usize,
}

impl Grid {
    /// One time.
    pub fn single(at: i64, step: i64) -> Self {
        Self { start: at, step: step.max(1), count: 1 }
    }

    /// From `start` to at most `end`; empty when `end` is before `start`.
    pub fn between(start: i64, end: i64, step: i64) -> Self {
        let step = step.max(1);
        let count = if end < start { 0 } else { (end.abs_diff(start) / step.unsigned_abs()) as usize + 1 };
        Self { start, step, count }
    }

    /// The time of a step.
    #[inline]
    pub fn at(&self, index: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(index as i64))
    }

    /// The last time.
    pub fn end(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }
}

/// What a series has at a step.
#[derive(Clone, Copy, Debug)]
pub enum Sample<'a> {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(&'a Arc<Histogram>),
}

/// The marker for "no sample here".
pub const ABSENT: f64 = stale_nan();

/// Whether a column entry is the marker.
#[inline]
pub fn is_absent(value: f64) -> bool {
    is_stale_nan(value)
}

/// A series over a grid.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// The metric's name goes when the query ends (delayed name removal).
    pub drop_name: bool,
    /// Floats, [`ABSENT`] where there is none.
    pub values: Vec<f64>,
    /// Histograms; empty when the series has none at all.
    pub histograms: Vec<Option<Arc<Histogram>>>,
}

impl Series {
    /// A series without samples.
    pub fn empty(labels: Labels, steps: usize) -> Self {
        Self { labels, drop_name: false, values: vec![ABSENT; steps], histograms: Vec::new() }
    }

    /// The sample of a step.
    #[inline]
    pub fn get(&self, step: usize) -> Option<Sample<'_>> {
        let value = self.values[step];
        if !is_absent(value) {
            return Some(Sample::Float(value));
        }
        self.histogram(step).map(Sample::Histogram)
    }

    /// The histogram of a step.
    #[inline]
    pub fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.get(step).and_then(Option::as_ref)
    }

    /// Whether there is a sample at a step.
    #[inline]
    pub fn has(&self, step: usize) -> bool {
        !is_absent(self.values[step]) || self.histogram(step).is_some()
    }

    /// Whether there is a sample anywhere.
    pub fn has_any(&self) -> bool {
        self.values.iter().any(|v| !is_absent(*v)) || self.histograms.iter().any(Option::is_some)
    }

    /// Puts a histogram at a step.
    pub fn set_histogram(&mut self, step: usize, histogram: Arc<Histogram>) {
        if self.histograms.is_empty() {
            self.histograms.resize(self.values.len(), None);
        }
        self.histograms[step] = Some(histogram);
    }

    /// Puts a sample at a step.
    pub fn set(&mut self, step: usize, sample: Sample<'_>) {
        match sample {
            Sample::Float(value) => self.values[step] = value,
            Sample::Histogram(histogram) => self.set_histogram(step, Arc::clone(histogram)),
        }
    }

    /// Removes the sample of a step.
    pub fn clear(&mut self, step: usize) {
        self.values[step] = ABSENT;
        if let Some(slot) = self.histograms.get_mut(step) {
            *slot = None;
        }
    }

    /// Number of samples, histograms weighing more.
    pub fn weight(&self) -> u64 {
        use crate::histogram::HistogramExt;
        let floats = self.values.iter().filter(|v| !is_absent(**v)).count() as u64;
        floats + self.histograms.iter().flatten().map(|h| h.weight()).sum::<u64>()
    }

    /// Bytes held, roughly.
    pub fn bytes(&self) -> u64 {
        (self.values.len() * 8 + self.histograms.len() * 8 + self.labels.as_bytes().len() + 96) as u64
    }
}

/// Whether a label belongs to the metric rather than to the series: goes when the metric's name goes.
pub fn is_metadata_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// The labels without the metric's name, type and unit.
pub fn without_metadata(labels: &Labels) -> Labels {
    if labels.iter().any(|(name, _)| is_metadata_label(name)) {
        labels.filtered(|name| !is_metadata_label(name))
    } else {
        labels.clone()
    }
}

/// What Prometheus says when two elements of a vector have equal labels.
pub fn same_labels_error() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

/// Makes one series of those with equal labels. They must not overlap.
pub fn merge_same_labels(series: Vec<Series>) -> Result<Vec<Series>, QueryError> {
    if ascend(&series) {
        return Ok(series);
    }
    let mut seen: Map<Labels, usize> = Map::default();
    let mut out: Vec<Series> = Vec::with_capacity(series.len());
    for s in series {
        let Some(&at) = seen.get(&s.labels) else {
            seen.insert(s.labels.clone(), out.len());
            out.push(s);
            continue;
        };
        let first = &mut out[at];
        for step in 0..s.values.len() {
            let Some(sample) = s.get(step) else { continue };
            if first.has(step) {
                return Err(same_labels_error());
            }
            first.set(step, sample);
        }
        first.drop_name |= s.drop_name;
    }
    Ok(out)
}

/// Whether each has greater labels than the one before, as is mostly so: then no two are equal.
fn ascend(series: &[Series]) -> bool {
    series.windows(2).all(|pair| pair[0].labels < pair[1].labels)
}

/// Fails when two series have equal labels.
pub fn refuse_same_labels(series: &[Series]) -> Result<(), QueryError> {
    let mut seen: Map<&Labels, ()> = Map::default();
    if !ascend(series) && series.iter().any(|s| seen.insert(&s.labels, ()).is_some()) {
        return Err(same_labels_error());
    }
    Ok(())
}

/// Whether two floats are equal but for a relative error, as Prometheus compares: NaN equals NaN.
pub fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        let labels = Labels::from_pairs([("l", name)]).unwrap();
        Series { labels, drop_name: false, values: values.to_vec(), histograms: Vec::new() }
    }

    #[test]
    fn equal_labels_merge_unless_they_overlap() {
        let merged =
            merge_same_labels(vec![series("a", &[1.0, ABSENT]), series("a", &[ABSENT, 2.0])]).unwrap();
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].values, [1.0, 2.0]);
        assert!(merge_same_labels(vec![series("a", &[1.0]), series("a", &[1.0])]).is_err());
        assert!(refuse_same_labels(&[series("a", &[1.0]), series("b", &[1.0])]).is_ok());
    }

    #[test]
    fn grids() {
        assert_eq!(Grid::between(0, 10, 3).count, 4);
        assert_eq!(Grid::between(5, 4, 3).count, 0);
        assert_eq!(Grid::between(i64::MIN, i64::MAX, i64::MAX).count, 3);
        assert_eq!(Grid::between(0, 10, 5).end(), 10);
    }
}
