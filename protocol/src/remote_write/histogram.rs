//! The native histogram message, which both versions share (2.0 adds field 17).
//!
//! ```text
//! 1 count int | 2 count f64   3 sum f64   4 schema z   5 zero threshold f64   6 zero count int | 7 zero count f64
//! 8 negative spans* {1 offset z, 2 length}   9 negative deltas* z   10 negative counts* f64
//! 11 positive spans*   12 positive deltas* z   13 positive counts* f64
//! 14 reset hint   15 timestamp   16 custom bounds* f64   17 start timestamp
//! ```
//!
//! Integer histograms bring deltas between buckets, float ones absolute counts; which one it is, the count's field says.

use super::wire::Reader;
use super::{Fault, MAX_BUCKETS};
use crate::histogram::{CounterResetHint, Histogram, Span, encode};
use crate::varint::unzigzag;
use crate::write_batch::{RowKind, Rows};

/// Reads histograms, one after the other, into the same memory.
#[derive(Default)]
pub(super) struct Walker {
    histogram: Histogram,
    deltas: [Vec<i64>; 2],
    counts: [Vec<f64>; 2],
}

const NEGATIVE: usize = 0;
const POSITIVE: usize = 1;

impl Walker {
    /// Reads one histogram of a series: into the rows, or among the rejections when it makes no sense.
    pub fn walk(
        &mut self,
        message: Reader<'_>,
        series: impl Fn() -> String,
        rows: &mut Rows,
    ) -> Result<(), Fault> {
        let (timestamp_ms, start_ms) = self.read(message)?;
        let checked = match self.is_oversized() {
            true => Err(format!("more than {MAX_BUCKETS} spans, buckets or bounds")),
            false => {
                self.add_up().and_then(|()| self.histogram.validate().map_err(|error| error.to_string()))
            }
        };
        match checked {
            Ok(()) => {
                let histogram = &self.histogram;
                let blob = rows
                    .keep(|out| encode(histogram, out).expect("validated, so spans describe the buckets"));
                rows.push_histogram(timestamp_ms, start_ms, blob);
            }
            Err(offence) => rows.rejections().add(RowKind::Histogram, 1, || {
                format!("histogram of {} at {timestamp_ms}: {offence}", series())
            }),
        }
        Ok(())
    }

    fn read(&mut self, mut message: Reader<'_>) -> Result<(i64, i64), Fault> {
        let h = &mut self.histogram;
        h.positive_spans.clear();
        h.negative_spans.clear();
        h.custom_values.clear();
        for side in [NEGATIVE, POSITIVE] {
            self.deltas[side].clear();
            self.counts[side].clear();
        }
        let (mut timestamp, mut start) = (0, 0);
        let (mut count, mut zero_count, mut is_float) = (0.0, 0.0, false);
        (h.schema, h.sum, h.zero_threshold) = (0, 0.0, 0.0);
        h.counter_reset_hint = CounterResetHint::Unknown;
        while !message.is_empty() {
            let (field, wire) = message.tag()?;
            match field {
                1 => (count, is_float) = (message.u64(wire)? as f64, false),
                2 => (count, is_float) = (message.f64(wire)?, true),
                3 => h.sum = message.f64(wire)?,
                4 => h.schema = sint32(message.u64(wire)?),
                5 => h.zero_threshold = message.f64(wire)?,
                6 => zero_count = message.u64(wire)? as f64,
                7 => zero_count = message.f64(wire)?,
                8 => push_bounded(&mut h.negative_spans, read_span(message.message(wire)?)?),
                9 => message.each_u64(wire, |d| push_bounded(&mut self.deltas[NEGATIVE], unzigzag(d)))?,
                10 => message.each_f64(wire, |count| push_bounded(&mut self.counts[NEGATIVE], count))?,
                11 => push_bounded(&mut h.positive_spans, read_span(message.message(wire)?)?),
                12 => message.each_u64(wire, |d| push_bounded(&mut self.deltas[POSITIVE], unzigzag(d)))?,
                13 => message.each_f64(wire, |count| push_bounded(&mut self.counts[POSITIVE], count))?,
                14 => {
                    h.counter_reset_hint = match message.u64(wire)? {
                        1 => CounterResetHint::Reset,
                        2 => CounterResetHint::NotReset,
                        3 => CounterResetHint::Gauge,
                        _ => CounterResetHint::Unknown,
                    }
                }
                15 => timestamp = message.u64(wire)? as i64,
                16 => message.each_f64(wire, |bound| push_bounded(&mut h.custom_values, bound))?,
                17 => start = message.u64(wire)? as i64,
                _ => message.skip(wire)?,
            }
        }
        (h.count, h.zero_count, h.is_integer) = (count, zero_count, !is_float);
        Ok((timestamp, start))
    }

    fn is_oversized(&self) -> bool {
        let h = &self.histogram;
        let lens = [h.positive_spans.len(), h.negative_spans.len(), h.custom_values.len()];
        let buckets = [NEGATIVE, POSITIVE].map(|side| self.deltas[side].len().max(self.counts[side].len()));
        lens.into_iter().chain(buckets).any(|len| len > MAX_BUCKETS)
    }

    /// Turns what the message brought into absolute counts.
    fn add_up(&mut self) -> Result<(), String> {
        let h = &mut self.histogram;
        for (side, out) in [(NEGATIVE, &mut h.negative_buckets), (POSITIVE, &mut h.positive_buckets)] {
            out.clear();
            let (deltas, counts) = (&self.deltas[side], &self.counts[side]);
            if !h.is_integer {
                if !deltas.is_empty() {
                    return Err("a float count beside integer buckets".into());
                }
                out.extend_from_slice(counts);
                continue;
            }
            if !counts.is_empty() {
                return Err("an integer count beside float buckets".into());
            }
            let mut absolute = 0i64;
            for &delta in deltas {
                absolute = absolute.checked_add(delta).ok_or("a bucket's count overflows")?;
                out.push(absolute as f64);
            }
        }
        Ok(())
    }
}

/// One above the limit is enough to see that it was passed.
fn push_bounded<T>(out: &mut Vec<T>, value: T) {
    if out.len() <= MAX_BUCKETS {
        out.push(value);
    }
}

fn read_span(mut message: Reader<'_>) -> Result<Span, Fault> {
    let mut span = Span { offset: 0, length: 0 };
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => span.offset = sint32(message.u64(wire)?),
            2 => span.length = message.u64(wire)? as u32,
            _ => message.skip(wire)?,
        }
    }
    Ok(span)
}

/// A `sint32` is the low half of its varint, as other readers of protobuf have it.
fn sint32(varint: u64) -> i32 {
    unzigzag(u64::from(varint as u32)) as i32
}
