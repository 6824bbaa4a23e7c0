//! Histograms: explicit bounds to classic series (or custom buckets), exponential ones to native histograms.
//!
//! ```text
//! HistogramDataPoint             2 start  3 time  4 count  5 sum?  6 counts*  7 bounds*  8 exemplars*  9 attributes*
//!                                10 flags
//! ExponentialHistogramDataPoint  1 attributes*  2 start  3 time  4 count  5 sum?  6 scale z  7 zero count
//!                                8 positive  9 negative {1 offset z, 2 counts*}  10 flags  11 exemplars*
//!                                14 zero threshold
//! ```
//!
//! Bucket `i` of an exponential histogram reaches from `base^i` to `base^(i+1)`; a native one's from `base^(i-1)` to
//! `base^i`. Scales above 8, the finest of native histograms, are brought down by adding neighbours, which is exact.

use super::labels::Suffix;
use super::points::{Point, push_bounded};
use super::{Metric, Walker, to_ms};
use crate::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Span, encode};
use crate::remote_write::wire::Reader;
use crate::remote_write::{Fault, MAX_BUCKETS, check_rows};
use crate::sample::stale_nan;
use crate::varint::unzigzag;
use crate::write_batch::RowKind;

/// Finest and coarsest resolution of native histograms.
const MAX_SCHEMA: i64 = 8;
const MIN_SCHEMA: i64 = -4;

/// Width of the zero bucket where the client does not say.
const DEFAULT_ZERO_THRESHOLD: f64 = 1e-128;

/// A gap of so many empty buckets at most is written out instead of beginning a new span.
const MAX_WRITTEN_GAP: i64 = 2;

impl<'a> Walker<'a> {
    pub(super) fn walk_histogram(&mut self, message: Reader<'a>, metric: &Metric<'a>) -> Result<u64, Fault> {
        let mut point = Point::default();
        let (mut count, mut sum) = (0, None);
        self.scratch.exemplars.clear();
        self.scratch.counts.clear();
        self.scratch.bounds.clear();
        let mut fields = message;
        while !fields.is_empty() {
            let tag_at = fields.position();
            let (field, wire) = fields.tag()?;
            match field {
                2 => point.start_ns = fields.fixed64(wire)?,
                3 => point.time_ns = fields.fixed64(wire)?,
                4 => count = fields.fixed64(wire)?,
                5 => sum = Some(fields.f64(wire)?),
                6 => fields.each_fixed64(wire, |count| push_bounded(&mut self.scratch.counts, count))?,
                7 => fields.each_f64(wire, |bound| push_bounded(&mut self.scratch.bounds, bound))?,
                8 => self.scratch.add_exemplar(fields.message(wire)?)?,
                9 => point.attribute(&mut fields, tag_at, wire)?,
                10 => point.flags = fields.u64(wire)?,
                _ => fields.skip(wire)?,
            }
        }
        let (counts, bounds) = (self.scratch.counts.len(), self.scratch.bounds.len());
        let offence = match () {
            () if point.time_ns == 0 => Some("it has no time".to_owned()),
            () if counts.max(bounds) > MAX_BUCKETS => Some(format!("more than {MAX_BUCKETS} buckets")),
            () if counts != 0 && counts != bounds + 1 => {
                Some(format!("{counts} buckets for {bounds} bounds"))
            }
            () => None,
        };
        if let Some(offence) = offence {
            self.reject_point(RowKind::Sample, metric, &point, &offence);
            return Ok(point.time_ns);
        }
        if self.origins.translation().custom_buckets {
            self.push_custom_buckets(message, metric, &point, count, sum)?;
            return Ok(point.time_ns);
        }
        let attributes = self.attributes(&point, message, 9)?;
        if let Some(sum) = sum {
            self.push_series(metric, &point, attributes, Suffix::Sum, sum)?;
        }
        self.push_series(metric, &point, attributes, Suffix::Count, count as f64)?;
        self.read_exemplars(metric)?;
        self.scratch.taken.sort_by(|a, b| a.value.total_cmp(&b.value));
        let mut taken = 0;
        let mut cumulative = 0u64;
        // The last count belongs to +Inf, which is the total by definition.
        for index in 0..bounds.min(counts) {
            let bound = self.scratch.bounds[index];
            cumulative = cumulative.saturating_add(self.scratch.counts[index]);
            if bound == f64::INFINITY {
                break;
            }
            self.push_sample(&point, cumulative as f64)?;
            while let Some(&exemplar) = self.scratch.taken.get(taken).filter(|taken| taken.value <= bound) {
                self.push_exemplar(exemplar);
                taken += 1;
            }
            self.end_point(metric, attributes, Suffix::Bucket(bound))?;
        }
        self.push_sample(&point, count as f64)?;
        while let Some(&exemplar) = self.scratch.taken.get(taken) {
            self.push_exemplar(exemplar);
            taken += 1;
        }
        self.end_point(metric, attributes, Suffix::Bucket(f64::INFINITY))?;
        Ok(point.time_ns)
    }

    fn push_custom_buckets(
        &mut self,
        message: Reader<'a>,
        metric: &Metric<'a>,
        point: &Point,
        count: u64,
        sum: Option<f64>,
    ) -> Result<(), Fault> {
        let buckets = self.scratch.counts.iter().enumerate().map(|(index, &count)| (index as i64, count));
        let (positive_spans, positive_buckets) = sparse(buckets);
        let histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive_spans,
            positive_buckets,
            custom_values: self.scratch.bounds.clone(),
            ..Histogram::default()
        };
        self.push_native(message, 9, metric, point, histogram, count, sum)
    }

    pub(super) fn walk_exponential(
        &mut self,
        message: Reader<'a>,
        metric: &Metric<'a>,
    ) -> Result<u64, Fault> {
        let mut point = Point::default();
        let (mut count, mut sum, mut scale) = (0, None, 0);
        let (mut zero_count, mut zero_threshold) = (0, 0.0);
        let empty = Reader::new(&[]);
        let (mut positive, mut negative) = (empty, empty);
        self.scratch.exemplars.clear();
        let mut fields = message;
        while !fields.is_empty() {
            let tag_at = fields.position();
            let (field, wire) = fields.tag()?;
            match field {
                1 => point.attribute(&mut fields, tag_at, wire)?,
                2 => point.start_ns = fields.fixed64(wire)?,
                3 => point.time_ns = fields.fixed64(wire)?,
                4 => count = fields.fixed64(wire)?,
                5 => sum = Some(fields.f64(wire)?),
                6 => scale = sint32(fields.u64(wire)?),
                7 => zero_count = fields.fixed64(wire)?,
                8 => positive = fields.message(wire)?,
                9 => negative = fields.message(wire)?,
                10 => point.flags = fields.u64(wire)?,
                11 => self.scratch.add_exemplar(fields.message(wire)?)?,
                14 => zero_threshold = fields.f64(wire)?,
                _ => fields.skip(wire)?,
            }
        }
        let down = (scale - MAX_SCHEMA).max(0) as u32;
        let positive = read_buckets(positive, down)?;
        let negative = read_buckets(negative, down)?;
        let offence = match () {
            () if point.time_ns == 0 => Some("it has no time".to_owned()),
            () if scale < MIN_SCHEMA => {
                Some(format!("scale {scale} is below {MIN_SCHEMA}, the coarsest of native histograms"))
            }
            () if positive.is_none() || negative.is_none() => {
                Some(format!("more than {MAX_BUCKETS} buckets, or beyond any index"))
            }
            () => None,
        };
        let (Some(positive), Some(negative), None) = (positive, negative, &offence) else {
            self.reject_point(RowKind::Histogram, metric, &point, &offence.unwrap_or_default());
            return Ok(point.time_ns);
        };
        let is_width = zero_threshold > 0.0 && zero_threshold < f64::INFINITY;
        let histogram = Histogram {
            schema: scale.min(MAX_SCHEMA) as i32,
            zero_threshold: if is_width { zero_threshold } else { DEFAULT_ZERO_THRESHOLD },
            zero_count: zero_count as f64,
            positive_spans: positive.0,
            positive_buckets: positive.1,
            negative_spans: negative.0,
            negative_buckets: negative.1,
            ..Histogram::default()
        };
        self.push_native(message, 1, metric, &point, histogram, count, sum)?;
        Ok(point.time_ns)
    }

    /// Adds a native histogram whose buckets are filled in, with the exemplars of its point.
    #[allow(clippy::too_many_arguments, reason = "the fields of one point")]
    fn push_native(
        &mut self,
        message: Reader<'a>,
        attributes_field: u32,
        metric: &Metric<'a>,
        point: &Point,
        mut histogram: Histogram,
        count: u64,
        sum: Option<f64>,
    ) -> Result<(), Fault> {
        check_rows(&self.rows)?;
        histogram.is_integer = true;
        if metric.is_delta {
            histogram.counter_reset_hint = CounterResetHint::Gauge;
        }
        if point.is_stale() {
            histogram = Histogram {
                schema: histogram.schema,
                zero_threshold: histogram.zero_threshold,
                custom_values: histogram.custom_values,
                is_integer: true,
                sum: stale_nan(),
                ..Histogram::default()
            };
        } else {
            histogram.count = count as f64;
            histogram.sum = sum.unwrap_or_default();
        }
        if let Err(error) = histogram.validate() {
            self.reject_point(RowKind::Histogram, metric, point, &error.to_string());
            return Ok(());
        }
        let attributes = self.attributes(point, message, attributes_field)?;
        let blob =
            self.rows.keep(|out| encode(&histogram, out).expect("validated, so spans describe the buckets"));
        self.rows.push_histogram(point.timestamp_ms(), to_ms(point.start_ns), blob);
        self.read_exemplars(metric)?;
        for index in 0..self.scratch.taken.len() {
            self.push_exemplar(self.scratch.taken[index]);
        }
        self.end_point(metric, attributes, Suffix::None)
    }
}

/// A `sint32` is the low half of its varint, as other readers of protobuf have it.
fn sint32(varint: u64) -> i64 {
    unzigzag(u64::from(varint as u32))
}

type Buckets = (Vec<Span>, Vec<f64>);

/// Reads one side of an exponential histogram, bringing its scale down by `down`. `None` when there is too much of it.
fn read_buckets(mut message: Reader<'_>, down: u32) -> Result<Option<Buckets>, Fault> {
    let mut offset = 0;
    let mut counts = Vec::new();
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => offset = sint32(message.u64(wire)?),
            2 => message.each_u64(wire, |count| push_bounded(&mut counts, count))?,
            _ => message.skip(wire)?,
        }
    }
    let last = offset + counts.len() as i64 + 1;
    if counts.len() > MAX_BUCKETS || last > i64::from(i32::MAX) {
        return Ok(None);
    }
    let down = down.min(40);
    let indexed = counts.iter().enumerate().map(|(i, &count)| (((offset + i as i64) >> down) + 1, count));
    Ok(Some(sparse(indexed)))
}

/// Spans and counts of buckets that come in the order of their indexes; neighbours of one index are added up.
fn sparse(buckets: impl Iterator<Item = (i64, u64)>) -> Buckets {
    let (mut spans, mut counts): Buckets = (Vec::new(), Vec::new());
    // The exact count of the last bucket, and the index behind it.
    let (mut open, mut next) = (0u64, 0i64);
    for (index, count) in buckets.filter(|(_, count)| *count > 0) {
        match spans.last_mut() {
            Some(_) if index + 1 == next => {
                open = open.saturating_add(count);
                if let Some(last) = counts.last_mut() {
                    *last = open as f64;
                }
                continue;
            }
            Some(span) if index - next <= MAX_WRITTEN_GAP => {
                counts.resize(counts.len() + (index - next) as usize, 0.0);
                span.length += (index - next) as u32 + 1;
            }
            _ => {
                let offset = if spans.is_empty() { index } else { index - next };
                spans.push(Span { offset: offset as i32, length: 1 });
            }
        }
        counts.push(count as f64);
        (open, next) = (count, index + 1);
    }
    (spans, counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(buckets: &[(i64, u64)], spans: &[(i32, u32)], counts: &[f64]) {
        let (found, values) = sparse(buckets.iter().copied());
        assert_eq!(found.iter().map(|s| (s.offset, s.length)).collect::<Vec<_>>(), spans);
        assert_eq!(values, counts);
    }

    #[test]
    fn dense_buckets_become_spans() {
        check(&[], &[], &[]);
        check(&[(0, 0), (1, 0)], &[], &[]);
        check(&[(-3, 1), (-2, 2)], &[(-3, 2)], &[1.0, 2.0]);
        // Small gaps are written out, larger ones begin a span.
        check(&[(1, 5), (2, 0), (3, 0), (4, 7)], &[(1, 4)], &[5.0, 0.0, 0.0, 7.0]);
        check(&[(1, 5), (5, 7)], &[(1, 1), (3, 1)], &[5.0, 7.0]);
        // Neighbours that fall together add up, the first and the last ones too.
        check(&[(0, 0), (0, 1), (1, 3), (1, 4), (2, 1)], &[(0, 3)], &[1.0, 7.0, 1.0]);
    }
}
