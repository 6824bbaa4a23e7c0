//! Prometheus' chunks of native histograms with float counts, as remote read streams them.
//!
//! ```text
//! count u16 BE | flags u8: 0x80 reset, 0x40 no reset, 0xc0 gauges, 0 unknown, of the first | bits, highest first
//!   layout     zero threshold, schema varbit, positive spans, negative spans, custom bounds of schema -53
//!     spans      count, then (length, offset varbit) of each
//!     threshold  0: one byte 0 | 2^(n-244) for n in 1..=254: one byte n | 255 and 64 bits
//!     bound      0 < 1000 * bound + 1 as a varbit, where that is whole and short | bit 0 and 64 bits
//!   sample 0   time varbit; count, zero count, sum, positive buckets, negative buckets: 64 bits each
//!   others     sample 1: delta of the time, unsigned; later ones: change of the delta
//!              then each of the numbers against the one before, as in XOR chunks
//! varbit       0 | 10 + 3 bits | 110 + 6 | 1110 + 9 | 11110 + 12 | 111110 + 18 | 1111110 + 25 | 11111110 + 56
//!              | 11111111 + 64
//! ```
//!
//! All histograms of a chunk have one layout, and none but the first was reset before: readers take that for granted. A
//! marker of staleness is a chunk of its own, without buckets.
//!
//! Source: prometheus/prometheus, tsdb/chunkenc/float_histogram.go, histogram_meta.go and varbit.go.

use crate::histogram::{CounterResetHint, Histogram, Span};
use crate::sample::is_stale_nan;
use crate::xor_chunk::{BitWriter, MAX_SAMPLES, write_value};

/// Schema of histograms with bounds of their own.
const CUSTOM_BUCKETS: i32 = -53;

/// Widths of varbits below 64 bits; the prefix of the nth is n + 1 ones and a zero.
const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

fn prefix(out: &mut BitWriter, nth: usize) {
    let ones = nth as u32 + 1;
    if ones == 8 { out.bits(0xff, 8) } else { out.bits((1 << (ones + 1)) - 2, ones + 1) }
}

fn signed(out: &mut BitWriter, value: i64) {
    if value == 0 {
        return out.bits(0, 1);
    }
    let fits = |width: u32| (-((1i64 << (width - 1)) - 1)..=1i64 << (width - 1)).contains(&value);
    let nth = WIDTHS.iter().position(|width| fits(*width));
    prefix(out, nth.unwrap_or(WIDTHS.len()));
    out.bits(value as u64, nth.map_or(64, |nth| WIDTHS[nth]));
}

fn unsigned(out: &mut BitWriter, value: u64) {
    if value == 0 {
        return out.bits(0, 1);
    }
    let nth = WIDTHS.iter().position(|width| value >> width == 0);
    prefix(out, nth.unwrap_or(WIDTHS.len()));
    out.bits(value, nth.map_or(64, |nth| WIDTHS[nth]));
}

/// The one byte of a threshold that is a power of two of a usual size.
fn power_of_two(threshold: f64) -> Option<u8> {
    let bits = threshold.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i64, bits & ((1 << 52) - 1));
    // 2^e has the exponent e + 1023, and is 0.5 * 2^(e + 1) to Prometheus, which adds 243.
    let byte = exponent - 1023 + 1 + 243;
    if fraction == 0 && (1..=254).contains(&byte) { u8::try_from(byte).ok() } else { None }
}

fn layout(out: &mut BitWriter, h: &Histogram) {
    if h.zero_threshold == 0.0 {
        out.bits(0, 8);
    } else if let Some(byte) = power_of_two(h.zero_threshold) {
        out.bits(u64::from(byte), 8);
    } else {
        out.bits(255, 8);
        out.bits(h.zero_threshold.to_bits(), 64);
    }
    signed(out, i64::from(h.schema));
    for spans in [&h.positive_spans, &h.negative_spans] {
        unsigned(out, spans.len() as u64);
        for span in spans {
            unsigned(out, u64::from(span.length));
            signed(out, i64::from(span.offset));
        }
    }
    if h.schema == CUSTOM_BUCKETS {
        unsigned(out, h.custom_values.len() as u64);
        for bound in &h.custom_values {
            let thousandths = (bound * 1000.0).round();
            if (0.0..=33_554_430.0).contains(&(bound * 1000.0)) && thousandths / 1000.0 == *bound {
                unsigned(out, thousandths as u64 + 1);
            } else {
                out.bits(0, 1);
                out.bits(bound.to_bits(), 64);
            }
        }
    }
}

/// The numbers of a histogram, in the order of the chunk.
fn numbers(h: &Histogram) -> impl Iterator<Item = f64> + '_ {
    let buckets = h.positive_buckets.iter().chain(&h.negative_buckets);
    [h.count, h.zero_count, h.sum].into_iter().chain(buckets.copied())
}

/// Whether a histogram may follow another in a chunk.
fn may_follow(h: &Histogram, before: &Histogram) -> bool {
    use CounterResetHint as Hint;
    let spans =
        |h: &Histogram| -> (Vec<Span>, Vec<Span>) { (h.positive_spans.clone(), h.negative_spans.clone()) };
    let bounds = |h: &Histogram| h.custom_values.iter().map(|b| b.to_bits()).collect::<Vec<_>>();
    if is_stale_nan(h.sum)
        || is_stale_nan(before.sum)
        || (h.schema, h.zero_threshold.to_bits()) != (before.schema, before.zero_threshold.to_bits())
        || spans(h) != spans(before)
        || bounds(h) != bounds(before)
    {
        return false;
    }
    let is_gauge = |h: &Histogram| h.counter_reset_hint == Hint::Gauge;
    if is_gauge(h) || is_gauge(before) {
        return is_gauge(h) && is_gauge(before);
    }
    let buckets = h.positive_buckets.iter().chain(&h.negative_buckets);
    let buckets_before = before.positive_buckets.iter().chain(&before.negative_buckets);
    h.counter_reset_hint != Hint::Reset
        && h.count >= before.count
        && h.zero_count >= before.zero_count
        && buckets.zip(buckets_before).all(|(now, then)| now >= then)
}

/// Encodes the first of some histograms (milliseconds, ascending): as many as one chunk takes, of which it tells the
/// number.
pub fn encode<H: AsRef<Histogram>>(samples: &[(i64, H)]) -> (Vec<u8>, usize) {
    let mut out = BitWriter::default();
    let Some((_, first)) = samples.first() else { return (vec![0; 3], 0) };
    let first = first.as_ref();
    let follows = |pair: &[(i64, H)]| may_follow(pair[1].1.as_ref(), pair[0].1.as_ref());
    let count = 1 + samples.windows(2).take(MAX_SAMPLES - 1).take_while(|pair| follows(pair)).count();
    out.bits(count as u64, 16);
    let flags = match first.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 0x80,
        CounterResetHint::NotReset => 0x40,
        CounterResetHint::Gauge => 0xc0,
    };
    out.bits(flags, 8);
    let bare = Histogram { sum: first.sum, ..Histogram::default() };
    let first = if is_stale_nan(first.sum) { &bare } else { first };
    layout(&mut out, first);
    let (mut time, mut delta) = (samples[0].0, 0i64);
    signed(&mut out, time);
    let mut last: Vec<(u64, Option<(u32, u32)>)> =
        numbers(first).map(|number| (number.to_bits(), None)).collect();
    for (bits, _) in &last {
        out.bits(*bits, 64);
    }
    for (i, (next, h)) in samples[..count].iter().enumerate().skip(1) {
        let step = next.wrapping_sub(time);
        if i == 1 {
            unsigned(&mut out, step as u64)
        } else {
            signed(&mut out, step.wrapping_sub(delta))
        }
        (time, delta) = (*next, step);
        for ((before, window), number) in last.iter_mut().zip(numbers(h.as_ref())) {
            *window = write_value(&mut out, number.to_bits() ^ *before, *window);
            *before = number.to_bits();
        }
    }
    (out.bytes, count)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::sample::stale_nan;

    /// Reads bits, written anew from the format's description.
    struct Reader<'a>(&'a [u8], usize);

    impl Reader<'_> {
        fn bits(&mut self, count: u32) -> u64 {
            (0..count).fold(0, |value, _| {
                let bit = self.0[self.1 / 8] >> (7 - self.1 % 8) & 1;
                self.1 += 1;
                value << 1 | u64::from(bit)
            })
        }

        fn width(&mut self) -> u32 {
            let ones = (0..8).take_while(|_| self.bits(1) == 1).count();
            [0, 3, 6, 9, 12, 18, 25, 56, 64][ones]
        }

        fn unsigned(&mut self) -> u64 {
            let width = self.width();
            self.bits(width)
        }

        fn signed(&mut self) -> i64 {
            let width = self.width();
            let value = self.bits(width) as i64;
            if width > 0 && width < 64 && value > 1 << (width - 1) { value - (1 << width) } else { value }
        }

        fn float(&mut self) -> f64 {
            f64::from_bits(self.bits(64))
        }

        fn spans(&mut self) -> Vec<Span> {
            let count = self.unsigned();
            (0..count)
                .map(|_| {
                    let length = self.unsigned() as u32;
                    Span { offset: self.signed() as i32, length }
                })
                .collect()
        }

        fn changed(&mut self, window: &mut (u32, u32)) -> u64 {
            if self.bits(1) == 0 {
                return 0;
            }
            if self.bits(1) == 1 {
                let leading = self.bits(5) as u32;
                let width = match self.bits(6) as u32 {
                    0 => 64,
                    width => width,
                };
                *window = (leading, 64 - leading - width);
            }
            self.bits(64 - window.0 - window.1) << window.1
        }
    }

    fn decode(chunk: &[u8]) -> Vec<(i64, Histogram)> {
        let count = usize::from(u16::from_be_bytes([chunk[0], chunk[1]]));
        let mut reader = Reader(&chunk[3..], 0);
        let zero_threshold = match reader.bits(8) {
            0 => 0.0,
            255 => reader.float(),
            byte => 0.5 * 2f64.powi(byte as i32 - 243),
        };
        let schema = reader.signed() as i32;
        let (positive_spans, negative_spans) = (reader.spans(), reader.spans());
        let bounds = if schema == CUSTOM_BUCKETS { reader.unsigned() } else { 0 };
        let custom_values = (0..bounds)
            .map(|_| match reader.unsigned() {
                0 => reader.float(),
                thousandths => (thousandths - 1) as f64 / 1000.0,
            })
            .collect();
        let len = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
        let positive = len(&positive_spans);
        let mut numbers = vec![(0u64, (0, 0)); 3 + positive + len(&negative_spans)];
        let layout = Histogram {
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_values,
            ..Histogram::default()
        };
        let (mut time, mut delta) = (0i64, 0i64);
        let mut out = Vec::new();
        for i in 0..count {
            match i {
                0 => time = reader.signed(),
                1 => delta = reader.unsigned() as i64,
                _ => delta += reader.signed(),
            }
            if i > 0 {
                time += delta;
            }
            for (bits, window) in &mut numbers {
                *bits = if i == 0 { reader.bits(64) } else { *bits ^ reader.changed(window) };
            }
            let value = |at: usize| f64::from_bits(numbers[at].0);
            let h = Histogram {
                count: value(0),
                zero_count: value(1),
                sum: value(2),
                positive_buckets: (3..3 + positive).map(value).collect(),
                negative_buckets: (3 + positive..numbers.len()).map(value).collect(),
                ..layout.clone()
            };
            out.push((time, h));
        }
        assert!(reader.1.div_ceil(8) == chunk.len() - 3, "all bits are read");
        out
    }

    fn decode_all(samples: &[(i64, Arc<Histogram>)]) -> Vec<(i64, Histogram)> {
        let mut out = Vec::new();
        while out.len() < samples.len() {
            let (chunk, count) = encode(&samples[out.len()..]);
            let decoded = decode(&chunk);
            assert!(count > 0 && decoded.len() == count);
            out.extend(decoded);
        }
        out
    }

    fn histogram(count: f64, buckets: &[f64]) -> Histogram {
        Histogram {
            count,
            sum: count * 1.5,
            zero_count: 1.0,
            zero_threshold: 2f64.powi(-128),
            positive_spans: vec![Span { offset: -3, length: buckets.len() as u32 }],
            positive_buckets: buckets.to_vec(),
            ..Histogram::default()
        }
    }

    #[test]
    fn chunks_end_where_readers_would_be_misled() {
        let reset = Histogram { counter_reset_hint: CounterResetHint::Reset, ..histogram(9.0, &[5.0, 4.0]) };
        let stale = Histogram { sum: stale_nan(), ..Histogram::default() };
        let gauge = Histogram { counter_reset_hint: CounterResetHint::Gauge, ..histogram(1.0, &[1.0, 0.0]) };
        let all = [
            histogram(3.0, &[1.0, 2.0]),
            histogram(4.0, &[1.0, 3.0]),
            // A bucket that went down, another layout, a reset that is told of, a marker, a gauge.
            histogram(5.0, &[0.0, 5.0]),
            histogram(6.0, &[1.0, 2.0, 3.0]),
            reset,
            stale,
            gauge.clone(),
            Histogram { count: 0.5, ..gauge },
        ];
        let samples: Vec<_> =
            all.iter().enumerate().map(|(i, h)| (i as i64 * 15_000, Arc::new(h.clone()))).collect();
        let mut lengths = Vec::new();
        let mut flags = Vec::new();
        let mut at = 0;
        while at < samples.len() {
            let (chunk, count) = encode(&samples[at..]);
            flags.push(chunk[2]);
            lengths.push(count);
            at += count;
        }
        assert_eq!(lengths, [2, 1, 1, 1, 1, 2]);
        assert_eq!(flags, [0, 0, 0, 0x80, 0, 0xc0]);
        assert!(is_stale_nan(decode_all(&samples)[5].1.sum));
    }

    #[test]
    fn thresholds_and_bounds_of_usual_sizes_are_short() {
        assert_eq!(power_of_two(2f64.powi(-128)), Some(116));
        assert_eq!((power_of_two(2f64.powi(-243)), power_of_two(2f64.powi(10))), (Some(1), Some(254)));
        assert_eq!(
            (power_of_two(2f64.powi(11)), power_of_two(0.3), power_of_two(f64::NAN)),
            (None, None, None)
        );
        let h = Histogram {
            schema: CUSTOM_BUCKETS,
            custom_values: vec![0.005, 2.5, 10.0, 0.1 + 0.2, 1e9, -1.0],
            ..histogram(3.0, &[3.0])
        };
        assert_eq!(decode_all(&[(1, Arc::new(h.clone()))])[0].1.custom_values, h.custom_values);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            steps in prop::collection::vec((1i64..10_000_000_000, prop::collection::vec(0u32..1000, 4), 0u8..8), 1..300),
            start in -1_000_000_000_000i64..1_000_000_000_000,
        ) {
            let mut time = start;
            let mut buckets = vec![0.0; 4];
            let samples: Vec<(i64, Arc<Histogram>)> = steps
                .into_iter()
                .map(|(gap, more, kind)| {
                    time += gap;
                    if kind == 0 {
                        buckets.fill(0.0);
                    }
                    buckets.iter_mut().zip(more).for_each(|(bucket, more)| *bucket += f64::from(more) * 0.5);
                    let mut h = histogram(buckets.iter().sum(), &buckets);
                    if kind == 1 {
                        h.negative_spans = vec![Span { offset: 2, length: 1 }, Span { offset: 70_000, length: 1 }];
                        h.negative_buckets = vec![f64::MIN_POSITIVE, f64::MAX];
                        h.zero_threshold = 0.001;
                    }
                    (time, Arc::new(h))
                })
                .collect();
            let expected: Vec<(i64, Histogram)> =
                samples.iter().map(|(time, h)| (*time, h.as_ref().clone())).collect();
            prop_assert_eq!(decode_all(&samples), expected);
        }
    }
}
