//! The blob of one native histogram.
//!
//! ```text
//! flags u8 | schema z | [zero threshold] | [zero count] | count | sum f64 | positive | [negative] | [custom bounds]
//!
//! flags     bits 0-1 counter reset hint | 2 integer | 3 zero bucket | 4 negative buckets | 5 custom bounds
//!           bit 6 counts are packed | bit 7 is 0 (a later version)
//! threshold u8: 0 = 2^-128, the usual one; 1 = an f64 follows
//! count     packed: v, at most 2^53; else f64
//! buckets   spans v | spans x ( offset z | length v ) | packed: z deltas between neighbours; else f64 each
//! bounds    count v | count x f64
//! ```
//!
//! `v` is a varint, `z` a zigzagged one, `f64` little-endian bits. Counts are packed when all of them are integers from
//! 0 to 2^53 (and none is -0.0), whether the client sent integers or floats, so that every histogram comes back with the
//! same bits. The spans' lengths give the number of buckets. A parser allocates only what the bytes at hand can fill.

use super::{CounterResetHint, Histogram, Span};
use crate::varint::{read_bytes, read_u64, unzigzag, write_u64, zigzag};

const INTEGER: u8 = 1 << 2;
const ZERO_BUCKET: u8 = 1 << 3;
const NEGATIVE: u8 = 1 << 4;
const CUSTOM: u8 = 1 << 5;
const PACKED: u8 = 1 << 6;
const NEXT_VERSION: u8 = 1 << 7;

/// 2^-128, the zero threshold of Prometheus' client libraries.
const USUAL_THRESHOLD: f64 = f64::from_bits((1023 - 128) << 52);
const MAX_PACKED: u64 = 1 << 53;

/// What is wrong with a histogram or its blob.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HistogramError {
    /// A blob of a version that this build does not know.
    #[error("histogram blob of an unknown version (flags {0:#x})")]
    UnknownVersion(u8),
    /// The bytes end too early, or a number is out of range.
    #[error("histogram blob is malformed in its {0}")]
    Malformed(&'static str),
    /// The schema is neither exponential nor the one of custom bounds.
    #[error("histogram schema {0} is not known")]
    UnknownSchema(i32),
    /// What stands for an hour of samples has buckets.
    #[error("a roll-up (schema {}) has buckets", super::ROLLUP_SCHEMA)]
    RollupWithBuckets,
    /// Spans do not describe the buckets.
    #[error("spans describe {in_spans} buckets, there are {buckets}")]
    SpanMismatch {
        /// Buckets that the spans describe.
        in_spans: u64,
        /// Buckets there are.
        buckets: usize,
    },
    /// A span other than the first goes back.
    #[error("span {0} has a negative offset")]
    NegativeOffset(usize),
    /// Bucket indexes leave the range of 32 bits.
    #[error("span {0} leaves the range of bucket indexes")]
    IndexOverflow(usize),
    /// A count is below zero.
    #[error("a bucket or the total has the negative count {0}")]
    NegativeCount(f64),
    /// The total is not the sum of the buckets.
    #[error("the buckets hold {in_buckets} observations, the total says {count}")]
    CountMismatch {
        /// The total.
        count: f64,
        /// Sum of the buckets.
        in_buckets: f64,
    },
    /// Custom bounds beside an exponential schema.
    #[error("custom bounds beside the exponential schema {0}")]
    UnexpectedCustomBounds(i32),
    /// A histogram with custom bounds has what only exponential ones have.
    #[error("a histogram with custom bounds has {0}")]
    CustomWithOthers(&'static str),
    /// Custom bounds are not ascending, or one is NaN, or the last is infinite.
    #[error("custom bounds are not strictly ascending finite numbers")]
    CustomBoundsOrder,
    /// Buckets reach beyond the bounds.
    #[error("buckets reach index {buckets}, with {bounds} custom bounds")]
    CustomBoundsCount {
        /// One more than the last bucket's index.
        buckets: i64,
        /// Number of bounds.
        bounds: usize,
    },
}

/// Checks that spans describe so many buckets with indexes inside 32 bits.
pub(super) fn check_spans(spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    let mut walk = SpanWalk::default();
    for span in spans {
        walk.step(*span)?;
    }
    match walk.buckets == buckets as u64 {
        true => Ok(()),
        false => Err(HistogramError::SpanMismatch { in_spans: walk.buckets, buckets }),
    }
}

#[derive(Default)]
struct SpanWalk {
    seen: usize,
    next_index: i64,
    buckets: u64,
}

impl SpanWalk {
    fn step(&mut self, span: Span) -> Result<(), HistogramError> {
        if self.seen > 0 && span.offset < 0 {
            return Err(HistogramError::NegativeOffset(self.seen));
        }
        self.next_index += i64::from(span.offset) + i64::from(span.length);
        if self.next_index > i64::from(i32::MAX) {
            return Err(HistogramError::IndexOverflow(self.seen));
        }
        self.buckets += u64::from(span.length);
        self.seen += 1;
        Ok(())
    }
}

/// Appends the blob of a histogram. Fails, having written nothing, where spans do not describe the buckets.
pub fn encode(histogram: &Histogram, out: &mut Vec<u8>) -> Result<(), HistogramError> {
    let h = histogram;
    check_spans(&h.positive_spans, h.positive_buckets.len())?;
    check_spans(&h.negative_spans, h.negative_buckets.len())?;

    let zero = h.zero_threshold.to_bits() != 0 || h.zero_count.to_bits() != 0;
    let negative = !h.negative_spans.is_empty();
    let custom = !h.custom_values.is_empty();
    let mut counts = h.positive_buckets.iter().chain(&h.negative_buckets).chain([&h.zero_count, &h.count]);
    let packed = counts.all(|&count| packable(count));
    let hint = match h.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    };
    let flag = |condition: bool, bit: u8| if condition { bit } else { 0 };
    out.push(
        hint | flag(h.is_integer, INTEGER)
            | flag(zero, ZERO_BUCKET)
            | flag(negative, NEGATIVE)
            | flag(custom, CUSTOM)
            | flag(packed, PACKED),
    );
    write_u64(out, zigzag(i64::from(h.schema)));
    if zero {
        let usual = h.zero_threshold.to_bits() == USUAL_THRESHOLD.to_bits();
        out.push(u8::from(!usual));
        if !usual {
            out.extend_from_slice(&h.zero_threshold.to_le_bytes());
        }
        write_count(out, packed, h.zero_count);
    }
    write_count(out, packed, h.count);
    out.extend_from_slice(&h.sum.to_le_bytes());
    write_buckets(out, packed, &h.positive_spans, &h.positive_buckets);
    if negative {
        write_buckets(out, packed, &h.negative_spans, &h.negative_buckets);
    }
    if custom {
        write_u64(out, h.custom_values.len() as u64);
        for bound in &h.custom_values {
            out.extend_from_slice(&bound.to_le_bytes());
        }
    }
    Ok(())
}

fn packable(count: f64) -> bool {
    // The cast saturates, so what is negative, too large or NaN comes back different; -0.0 differs in its bits.
    let whole = count as u64;
    whole <= MAX_PACKED && (whole as f64).to_bits() == count.to_bits()
}

fn write_count(out: &mut Vec<u8>, packed: bool, count: f64) {
    match packed {
        true => write_u64(out, count as u64),
        false => out.extend_from_slice(&count.to_le_bytes()),
    }
}

fn write_buckets(out: &mut Vec<u8>, packed: bool, spans: &[Span], buckets: &[f64]) {
    write_u64(out, spans.len() as u64);
    for span in spans {
        write_u64(out, zigzag(i64::from(span.offset)));
        write_u64(out, u64::from(span.length));
    }
    let mut last = 0;
    for &bucket in buckets {
        if packed {
            let count = bucket as i64;
            write_u64(out, zigzag(count - std::mem::replace(&mut last, count)));
        } else {
            out.extend_from_slice(&bucket.to_le_bytes());
        }
    }
}

/// Reads a blob. All of the bytes must belong to it.
pub fn decode(blob: &[u8]) -> Result<Histogram, HistogramError> {
    let mut histogram = Histogram::default();
    read(blob, &mut histogram)?;
    Ok(histogram)
}

/// Checks a blob as [`decode`] does, keeping nothing.
pub fn check(blob: &[u8]) -> Result<(), HistogramError> {
    read(blob, &mut Nothing)
}

/// Takes the parts of a blob while it is read. Vectors grow by what was read, never by what was announced.
trait Sink {
    fn scalars(&mut self, hint: CounterResetHint, is_integer: bool, schema: i32);
    fn zero_bucket(&mut self, threshold: f64, count: f64);
    fn totals(&mut self, count: f64, sum: f64);
    fn span(&mut self, negative: bool, span: Span);
    fn bucket(&mut self, negative: bool, count: f64);
    fn custom_bound(&mut self, bound: f64);
}

struct Nothing;

impl Sink for Nothing {
    fn scalars(&mut self, _: CounterResetHint, _: bool, _: i32) {}
    fn zero_bucket(&mut self, _: f64, _: f64) {}
    fn totals(&mut self, _: f64, _: f64) {}
    fn span(&mut self, _: bool, _: Span) {}
    fn bucket(&mut self, _: bool, _: f64) {}
    fn custom_bound(&mut self, _: f64) {}
}

impl Sink for Histogram {
    fn scalars(&mut self, hint: CounterResetHint, is_integer: bool, schema: i32) {
        (self.counter_reset_hint, self.is_integer, self.schema) = (hint, is_integer, schema);
    }
    fn zero_bucket(&mut self, threshold: f64, count: f64) {
        (self.zero_threshold, self.zero_count) = (threshold, count);
    }
    fn totals(&mut self, count: f64, sum: f64) {
        (self.count, self.sum) = (count, sum);
    }
    fn span(&mut self, negative: bool, span: Span) {
        if negative { &mut self.negative_spans } else { &mut self.positive_spans }.push(span);
    }
    fn bucket(&mut self, negative: bool, count: f64) {
        if negative { &mut self.negative_buckets } else { &mut self.positive_buckets }.push(count);
    }
    fn custom_bound(&mut self, bound: f64) {
        self.custom_values.push(bound);
    }
}

fn read(mut input: &[u8], sink: &mut impl Sink) -> Result<(), HistogramError> {
    use HistogramError::Malformed;
    let input = &mut input;
    let flags = read_bytes(input, 1).ok_or(Malformed("flags"))?[0];
    if flags & NEXT_VERSION != 0 {
        return Err(HistogramError::UnknownVersion(flags));
    }
    let hint = match flags & 3 {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        _ => CounterResetHint::Gauge,
    };
    let schema =
        read_u64(input).and_then(|code| i32::try_from(unzigzag(code)).ok()).ok_or(Malformed("schema"))?;
    sink.scalars(hint, flags & INTEGER != 0, schema);

    let packed = flags & PACKED != 0;
    if flags & ZERO_BUCKET != 0 {
        let threshold = match read_bytes(input, 1) {
            Some([0]) => Some(USUAL_THRESHOLD),
            Some([1]) => read_f64(input),
            _ => None,
        };
        let threshold = threshold.ok_or(Malformed("zero threshold"))?;
        sink.zero_bucket(threshold, read_count(input, packed).ok_or(Malformed("zero count"))?);
    }
    let count = read_count(input, packed).ok_or(Malformed("count"))?;
    sink.totals(count, read_f64(input).ok_or(Malformed("sum"))?);
    read_buckets(input, packed, false, sink)?;
    if flags & NEGATIVE != 0 {
        read_buckets(input, packed, true, sink)?;
    }
    if flags & CUSTOM != 0 {
        let bounds = read_u64(input).ok_or(Malformed("custom bounds"))?;
        for _ in 0..bounds {
            sink.custom_bound(read_f64(input).ok_or(Malformed("custom bounds"))?);
        }
    }
    match input.is_empty() {
        true => Ok(()),
        false => Err(Malformed("end")),
    }
}

fn read_buckets(
    input: &mut &[u8],
    packed: bool,
    negative: bool,
    sink: &mut impl Sink,
) -> Result<(), HistogramError> {
    use HistogramError::Malformed;
    let spans = read_u64(input).ok_or(Malformed("spans"))?;
    let mut walk = SpanWalk::default();
    for _ in 0..spans {
        let offset =
            read_u64(input).and_then(|code| i32::try_from(unzigzag(code)).ok()).ok_or(Malformed("spans"))?;
        let length =
            read_u64(input).and_then(|length| u32::try_from(length).ok()).ok_or(Malformed("spans"))?;
        let span = Span { offset, length };
        walk.step(span)?;
        sink.span(negative, span);
    }
    let mut last = 0i64;
    for _ in 0..walk.buckets {
        let count = if packed {
            let delta = read_u64(input).map(unzigzag).ok_or(Malformed("buckets"))?;
            last = last
                .checked_add(delta)
                .filter(|&count| (0..=MAX_PACKED as i64).contains(&count))
                .ok_or(Malformed("buckets"))?;
            last as f64
        } else {
            read_f64(input).ok_or(Malformed("buckets"))?
        };
        sink.bucket(negative, count);
    }
    Ok(())
}

fn read_count(input: &mut &[u8], packed: bool) -> Option<f64> {
    match packed {
        true => read_u64(input).filter(|&count| count <= MAX_PACKED).map(|count| count as f64),
        false => read_f64(input),
    }
}

fn read_f64(input: &mut &[u8]) -> Option<f64> {
    let bytes = read_bytes(input, 8)?.try_into().ok()?;
    Some(f64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests;
