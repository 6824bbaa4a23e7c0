//! What range functions see: one series' samples inside one range.

use std::cell::RefCell;
use std::sync::Arc;

use protocol::histogram::Histogram;

use crate::annotations::Annotations;
use crate::promql::ast::Edges;
use crate::promql::span::Span;

/// The samples of a series inside a range, stale ones left out. With `anchored` or `smoothed` the slices also hold
/// what lies up to the lookback around it.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Times of the floats.
    pub times: &'a [i64],
    /// Floats.
    pub values: &'a [f64],
    /// Start timestamps of the floats, or empty.
    pub starts: &'a [i64],
    /// Times of the histograms.
    pub histogram_times: &'a [i64],
    /// Histograms.
    pub histograms: &'a [Arc<Histogram>],
    /// Start of the range, which does not belong to it.
    pub start: i64,
    /// End of the range, which belongs to it.
    pub end: i64,
    /// Evaluation time, whatever `offset` and `@` say.
    pub at: i64,
}

/// What a range function knows besides the samples.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Where warnings go.
    pub notes: &'a RefCell<Annotations>,
    /// The metric's name, for warnings.
    pub metric: &'a str,
    /// Where the first argument stands, for warnings.
    pub span: Span,
    /// How the selector treats the edges.
    pub edges: Edges,
    /// Values of the scalar arguments at this step.
    pub params: [f64; 2],
}

/// What a range function answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// No sample.
    Nothing,
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(Arc<Histogram>),
}

/// A sample of either type.
#[derive(Clone, Copy, Debug)]
pub enum Point<'a> {
    /// A float.
    Float(i64, f64),
    /// A histogram.
    Histogram(i64, &'a Arc<Histogram>),
}

impl Point<'_> {
    /// Its time.
    pub fn time(&self) -> i64 {
        match self {
            Self::Float(time, _) | Self::Histogram(time, _) => *time,
        }
    }
}

impl<'a> Window<'a> {
    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histogram_times.is_empty()
    }

    /// Seconds of the range.
    pub fn seconds(&self) -> f64 {
        self.end.saturating_sub(self.start) as f64 / 1000.0
    }

    /// All samples by time.
    pub fn points(&self) -> Vec<Point<'a>> {
        let mut out = Vec::with_capacity(self.times.len() + self.histogram_times.len());
        let (mut i, mut j) = (0, 0);
        while i < self.times.len() || j < self.histogram_times.len() {
            let float_first = match (self.times.get(i), self.histogram_times.get(j)) {
                (Some(f), Some(h)) => f <= h,
                (f, _) => f.is_some(),
            };
            if float_first {
                out.push(Point::Float(self.times[i], self.values[i]));
                i += 1;
            } else {
                out.push(Point::Histogram(self.histogram_times[j], &self.histograms[j]));
                j += 1;
            }
        }
        out
    }

    /// The samples that count with `anchored` (and `smoothed`): those inside the range, the last one before it and,
    /// when smoothed, the first one behind it. Empty when none is inside or behind.
    pub fn points_with_edges(&self, edges: Edges) -> Vec<Point<'a>> {
        let points = self.points();
        let inside = points.partition_point(|p| p.time() <= self.start);
        let behind = points.partition_point(|p| p.time() < self.end);
        let end = match edges {
            Edges::Smoothed => (behind + 1).min(points.len()),
            _ => points.partition_point(|p| p.time() <= self.end),
        };
        if inside >= end {
            return Vec::new();
        }
        points[inside.saturating_sub(1)..end].to_vec()
    }
}
