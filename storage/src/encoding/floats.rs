//! The codec for values: 64-bit floats, kept bit by bit, coded by what they hold.
//!
//! - **Scaled integers**: `v = i / 10^e` with the smallest `e` that fits, a common factor divided out of the
//!   integers' steps, then the block codec of [`super::ints`]. Scaling is accepted only where dividing back gives
//!   the same *bits*, so `-0.0` and the NaNs never pass.
//! - **Exceptions**: values that do not scale keep their bits in a list and repeat the value before them in the
//!   integers. A stale marker costs a byte or two there and does not push its series into another mode.
//! - **Constants**: no blocks at all.
//! - **Bit patterns** (as integers in the block codec), **pco** or **raw**: whatever is smallest for the rest.
//!
//! ```text
//! head u8:  bits 0-3 mode (0-12 exponent, 13 bit patterns, 14 pco, 15 raw)
//!           bit 4 exceptions, bit 5 factor, bit 6 constant, bit 7 the integers are coded by pco
//! mode 0-12:  [exceptions: count varint, then each: (gap << 1 | raw) varint, bits u64 if raw]
//!             v0 zigzag varint, [factor varint], [ints of (i - v0) / factor from the second value on]
//! mode 13:    v0 bits u64, [ints of the bit patterns from the second value on]
//! mode 14:    a pco file of f64
//! mode 15:    u64 * count
//! modes 13-15: bit 5 of the head says that no value is a stale marker (from encoder epoch 2 on; unset: not known)
//! ```
//! An exception without raw bits is a stale marker. The gap counts the values between two exceptions. Integers are
//! little-endian. The count of values is known to the caller.

use protocol::epoch::NONE_STALE as NONE_STALE_EPOCH;
use protocol::sample::STALE_NAN_BITS;
use protocol::varint;

use super::{DecodeError, Effort, ints};

const MAX_EXPONENT: usize = 12;
const MODE_BITS: u8 = 13;
const MODE_PCO: u8 = 14;
const MODE_RAW: u8 = 15;
const MODE_MASK: u8 = 0x0f;
const HAS_EXCEPTIONS: u8 = 0x10;
const HAS_FACTOR: u8 = 0x20;
const CONSTANT: u8 = 0x40;
const PCO_INTS: u8 = 0x80;
/// Of bit patterns, pco and raw, which have no factor: no value is a stale marker.
const NONE_STALE: u8 = 0x20;

const POWERS: [f64; MAX_EXPONENT + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/// Adding and subtracting this rounds to the nearest integer without a call, for magnitudes below 2^51.
const ROUNDER: f64 = 1.5 * (1u64 << 52) as f64;
const MAX_SCALED: f64 = (1u64 << 51) as f64;

/// Fewer values than this are not worth a pco header.
const MIN_FOR_PCO: usize = 48;
/// Fewer integers than this are not worth the time of a pco trial.
const MIN_INTS_FOR_PCO: usize = 1024;
/// Integers that a pco trial looks at.
const PCO_PROBE: usize = 512;

/// Encodes value columns; keeps its buffers from one to the next.
#[derive(Default)]
pub struct FloatEncoder {
    notes_stale: bool,
    ints: Vec<i64>,
    exceptions: Vec<(u32, u64)>,
    trial: Vec<u8>,
}

impl FloatEncoder {
    /// An encoder as the replicas agreed on.
    pub fn of_epoch(epoch: u16) -> Self {
        Self { notes_stale: epoch >= NONE_STALE_EPOCH, ..Self::default() }
    }

    /// Appends a column. The count is not stored.
    pub fn encode(&mut self, values: &[f64], effort: Effort, out: &mut Vec<u8>) {
        let start = out.len();
        self.encode_column(values, effort, out);
        if self.notes_stale
            && let Some(head) = out.get_mut(start)
            && *head & MODE_MASK >= MODE_BITS
            && !values.iter().any(|value| value.to_bits() == STALE_NAN_BITS)
        {
            *head |= NONE_STALE;
        }
    }

    fn encode_column(&mut self, values: &[f64], effort: Effort, out: &mut Vec<u8>) {
        let Some(first) = values.first() else { return };
        let start = out.len();
        match self.scale(values) {
            Some(exponent) => {
                self.encode_scaled(exponent, effort, out);
                if out.len() - start > 1 + values.len() * 8 {
                    out.truncate(start);
                    encode_raw(values, out);
                }
            }
            None if values.iter().all(|v| v.to_bits() == first.to_bits()) => {
                out.push(MODE_BITS | CONSTANT);
                out.extend_from_slice(&first.to_bits().to_le_bytes());
            }
            None => self.encode_patterns(values, out),
        }
    }

    /// Fills `ints` and `exceptions`; `None` when too many values do not scale.
    fn scale(&mut self, values: &[f64]) -> Option<usize> {
        let mut exponent = 0;
        // Each failure raises the exponent, so this ends.
        loop {
            match self.scale_by(values, exponent) {
                Scaled::Done => return Some(exponent),
                Scaled::TooMany => return None,
                Scaled::Raise(higher) => exponent = higher,
            }
        }
    }

    fn scale_by(&mut self, values: &[f64], exponent: usize) -> Scaled {
        let allowed = values.len() / 8;
        let mut costly = 0;
        self.ints.clear();
        self.ints.reserve(values.len());
        self.exceptions.clear();
        let mut previous = 0i64;
        let mut any = false;
        for (i, &value) in values.iter().enumerate() {
            let scaled = if exponent == 0 { to_int(value) } else { to_scaled(value, exponent) };
            if let Some(int) = scaled {
                if !any {
                    // Exceptions before the first integer repeat it too.
                    any = true;
                    self.ints.fill(int);
                }
                previous = int;
            } else {
                let bits = value.to_bits();
                if bits != STALE_NAN_BITS {
                    if let Some(higher) = higher_exponent(value, exponent) {
                        return Scaled::Raise(higher);
                    }
                    costly += 1;
                    if costly > allowed {
                        return Scaled::TooMany;
                    }
                }
                self.exceptions.push((i as u32, bits));
            }
            self.ints.push(previous);
        }
        if any { Scaled::Done } else { Scaled::TooMany }
    }

    fn encode_scaled(&mut self, exponent: usize, effort: Effort, out: &mut Vec<u8>) {
        let v0 = self.ints[0];
        let factor = common_factor(&self.ints);
        let mut head = exponent as u8;
        head |= if self.exceptions.is_empty() { 0 } else { HAS_EXCEPTIONS };
        head |= match factor {
            0 => CONSTANT,
            1 => 0,
            _ => HAS_FACTOR,
        };
        let head_at = out.len();
        out.push(head);
        if !self.exceptions.is_empty() {
            write_exceptions(&self.exceptions, out);
        }
        varint::write_u64(out, varint::zigzag(v0));
        if factor == 0 {
            return;
        }
        if factor > 1 {
            varint::write_u64(out, factor);
        }
        if factor.is_power_of_two() {
            let shift = factor.trailing_zeros();
            self.ints.iter_mut().for_each(|int| *int = int.wrapping_sub(v0) >> shift);
        } else {
            self.ints.iter_mut().for_each(|int| *int = int.wrapping_sub(v0) / factor as i64);
        }
        let body_at = out.len();
        let steps = &self.ints[1..];
        ints::encode(steps, 0, out);
        let body_len = out.len() - body_at;
        if effort == Effort::Thorough
            && steps.len() >= MIN_INTS_FOR_PCO
            && body_len * 2 > steps.len()
            && self.pco_pays()
        {
            self.trial.clear();
            let steps = &self.ints[1..];
            if pco_compress(steps, 8, None, &mut self.trial) && pays(self.trial.len(), body_len) {
                out.truncate(body_at);
                out.extend_from_slice(&self.trial);
                out[head_at] |= PCO_INTS;
            }
        }
    }

    /// Whether pco does better on the first integers: it is too slow to be tried on all of each column.
    fn pco_pays(&mut self) -> bool {
        let steps = &self.ints[1..=PCO_PROBE];
        self.trial.clear();
        ints::encode(steps, 0, &mut self.trial);
        let plain_len = self.trial.len();
        pco_compress(steps, 8, None, &mut self.trial) && pays(self.trial.len() - plain_len, plain_len)
    }

    fn encode_patterns(&mut self, values: &[f64], out: &mut Vec<u8>) {
        let start = out.len();
        out.push(MODE_BITS);
        out.extend_from_slice(&values[0].to_bits().to_le_bytes());
        self.ints.clear();
        self.ints.extend(values.iter().map(|v| v.to_bits() as i64));
        ints::encode(&self.ints[1..], self.ints[0], out);
        if values.len() >= MIN_FOR_PCO {
            self.trial.clear();
            let delta = Some(pco::DeltaSpec::TryConsecutive(1));
            if pco_compress(values, 4, delta, &mut self.trial) && self.trial.len() + 1 < out.len() - start {
                out.truncate(start);
                out.push(MODE_PCO);
                out.extend_from_slice(&self.trial);
            }
        }
        if out.len() - start > 1 + values.len() * 8 {
            out.truncate(start);
            encode_raw(values, out);
        }
    }
}

/// Whether pco is a tenth smaller at least: it decodes at half the speed.
fn pays(pco_len: usize, plain_len: usize) -> bool {
    pco_len * 10 < plain_len * 9
}

enum Scaled {
    Done,
    Raise(usize),
    TooMany,
}

/// The integer that converts to exactly these bits.
#[inline]
fn to_int(value: f64) -> Option<i64> {
    let int = value as i64;
    if (int as f64).to_bits() == value.to_bits() { Some(int) } else { None }
}

/// The integer that divided by `10^exponent` gives exactly these bits.
#[inline]
fn to_scaled(value: f64, exponent: usize) -> Option<i64> {
    let power = POWERS[exponent];
    let scaled = (value * power + ROUNDER) - ROUNDER;
    if scaled.abs() < MAX_SCALED && (scaled / power).to_bits() == value.to_bits() {
        Some(scaled as i64)
    } else {
        None
    }
}

fn higher_exponent(value: f64, exponent: usize) -> Option<usize> {
    if !value.is_finite() || value == 0.0 {
        return None;
    }
    (exponent + 1..=MAX_EXPONENT).find(|&e| to_scaled(value, e).is_some())
}

/// Greatest common divisor of the steps between neighbours; 0 when there are none, 1 when it helps nothing.
fn common_factor(ints: &[i64]) -> u64 {
    let mut factor = 0u64;
    for pair in ints.windows(2) {
        let step = pair[1].wrapping_sub(pair[0]);
        // A step past 63 bits means that the distances below would wrap: leave such a column as it is.
        if step == 0 {
            continue;
        }
        if (pair[1] > pair[0]) != (step > 0) || step == i64::MIN {
            return 1;
        }
        let step = step.unsigned_abs();
        if factor == 0 {
            factor = step;
        } else if !step.is_multiple_of(factor) {
            factor = gcd(factor, step);
        }
        if factor == 1 {
            return 1;
        }
    }
    if factor > 1 {
        // Distances to the first value must not wrap either, or dividing them would not be exact.
        let v0 = ints[0];
        if ints.iter().any(|int| int.checked_sub(v0).is_none()) {
            return 1;
        }
    }
    factor
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn write_exceptions(exceptions: &[(u32, u64)], out: &mut Vec<u8>) {
    varint::write_u64(out, exceptions.len() as u64);
    let mut next = 0;
    for &(position, bits) in exceptions {
        let raw = bits != STALE_NAN_BITS;
        varint::write_u64(out, u64::from(position - next) << 1 | u64::from(raw));
        if raw {
            out.extend_from_slice(&bits.to_le_bytes());
        }
        next = position + 1;
    }
}

fn encode_raw(values: &[f64], out: &mut Vec<u8>) {
    out.push(MODE_RAW);
    for value in values {
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

fn pco_compress<T: pco::data_types::Number>(
    values: &[T],
    level: usize,
    delta: Option<pco::DeltaSpec>,
    out: &mut Vec<u8>,
) -> bool {
    let mut config = pco::ChunkConfig::default().with_compression_level(level);
    if let Some(delta) = delta {
        config = config.with_mode_spec(pco::ModeSpec::Classic).with_delta_spec(delta);
    }
    pco::standalone::simple_compress_into(values, &config, &mut *out).is_ok()
}

/// Reads a pco file of exactly `out.len()` numbers.
fn pco_decompress<T: pco::data_types::Number>(input: &[u8], out: &mut [T]) -> Result<(), DecodeError> {
    let progress = pco::standalone::simple_decompress_into(input, out)
        .map_err(|_| DecodeError::Malformed("pco file"))?;
    if progress.n_processed == out.len() {
        Ok(())
    } else {
        Err(DecodeError::Malformed("count in a pco file"))
    }
}

/// Reads a column of `count` values that fills `input`, replacing what `out` holds. The caller vouches for `count`.
pub fn decode(input: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    out.clear();
    if count == 0 {
        return if input.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed("bytes after the last value"))
        };
    }
    let mut input = input;
    let head = read_u8(&mut input)?;
    let flags = head & !MODE_MASK;
    match head & MODE_MASK {
        MODE_BITS => decode_patterns(flags, &mut input, count, out)?,
        MODE_PCO => {
            out.resize(count, 0.0);
            pco_decompress(std::mem::take(&mut input), out)?;
        }
        MODE_RAW => {
            if input.len() != count.saturating_mul(8) {
                return Err(DecodeError::Truncated);
            }
            let bits = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("chunks of 8"));
            out.extend(input.chunks_exact(8).map(|bytes| f64::from_bits(bits(bytes))));
            input = &[];
        }
        exponent => decode_scaled(exponent as usize, flags, &mut input, count, out)?,
    }
    if input.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes after the last value")) }
}

/// Fills `places` with those of the stale markers in a column of `count` values, ascending, if they can be told without
/// decoding the values; the answer is whether they can.
pub fn find_stale(input: &[u8], count: usize, places: &mut Vec<u32>) -> Result<bool, DecodeError> {
    places.clear();
    let (Some(last), mut input) = (count.checked_sub(1), input) else { return Ok(true) };
    let last = u32::try_from(last).map_err(|_| DecodeError::Malformed("count of a column"))?;
    let head = read_u8(&mut input)?;
    match head & MODE_MASK {
        MODE_BITS | MODE_PCO | MODE_RAW if head & NONE_STALE != 0 => {}
        MODE_BITS if head & CONSTANT != 0 => {
            let all_are = read_u64_le(&mut input)? == STALE_NAN_BITS;
            places.extend((0..=last).filter(|_| all_are));
        }
        MODE_BITS | MODE_PCO | MODE_RAW => return Ok(false),
        _ if head & HAS_EXCEPTIONS != 0 => {
            let exceptions = skip_exceptions(&mut input)?;
            each_exception(exceptions, |place, bits| {
                let place = u32::try_from(place).ok().filter(|place| *place <= last);
                let place = place.ok_or(DecodeError::Malformed("position of an exception"))?;
                if bits == STALE_NAN_BITS {
                    places.push(place);
                }
                Ok(())
            })?;
        }
        _ => {}
    }
    Ok(true)
}

fn read_u8(input: &mut &[u8]) -> Result<u8, DecodeError> {
    let (&byte, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
    *input = rest;
    Ok(byte)
}

fn read_u64_le(input: &mut &[u8]) -> Result<u64, DecodeError> {
    let bytes = varint::read_bytes(input, 8).ok_or(DecodeError::Truncated)?;
    Ok(u64::from_le_bytes(bytes.try_into().expect("8 bytes were read")))
}

fn decode_patterns(
    flags: u8,
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<f64>,
) -> Result<(), DecodeError> {
    let first = read_u64_le(input)?;
    if flags & CONSTANT != 0 {
        out.resize(count, f64::from_bits(first));
        return Ok(());
    }
    check_blocks(input, count - 1)?;
    out.reserve(count);
    out.push(f64::from_bits(first));
    ints::decode_blocks(input, count - 1, first as i64, |block| {
        out.extend(block.iter().map(|bits| f64::from_bits(*bits as u64)));
    })
}

/// Refuses counts that these bytes can not hold, before memory is reserved for them.
fn check_blocks(input: &[u8], count: usize) -> Result<(), DecodeError> {
    if count.div_ceil(super::bits::RUN) * 2 > input.len() { Err(DecodeError::Truncated) } else { Ok(()) }
}

fn decode_scaled(
    exponent: usize,
    flags: u8,
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<f64>,
) -> Result<(), DecodeError> {
    let exceptions = if flags & HAS_EXCEPTIONS == 0 { &[][..] } else { skip_exceptions(input)? };
    let v0 = varint::unzigzag(varint::read_u64(input).ok_or(DecodeError::Truncated)?);
    let power = POWERS[exponent];
    let factor = match flags & HAS_FACTOR {
        0 => 1,
        _ => varint::read_u64(input).ok_or(DecodeError::Truncated)? as i64,
    };
    if flags & CONSTANT != 0 {
        out.resize(count, v0 as f64 / power);
    } else if flags & PCO_INTS != 0 {
        let mut steps = vec![0i64; count - 1];
        pco_decompress(std::mem::take(input), &mut steps)?;
        out.reserve(count);
        out.push(v0 as f64 / power);
        out.extend(steps.iter().map(|step| v0.wrapping_add(step.wrapping_mul(factor)) as f64 / power));
    } else {
        check_blocks(input, count - 1)?;
        out.reserve(count);
        out.push(v0 as f64 / power);
        // One loop for each combination, without what it does not need.
        match (exponent, factor) {
            (0, 1) => blocks_into(input, count, out, |step| v0.wrapping_add(step) as f64)?,
            (0, _) => {
                blocks_into(input, count, out, |step| v0.wrapping_add(step.wrapping_mul(factor)) as f64)?
            }
            (_, 1) => blocks_into(input, count, out, |step| v0.wrapping_add(step) as f64 / power)?,
            _ => blocks_into(input, count, out, |step| {
                v0.wrapping_add(step.wrapping_mul(factor)) as f64 / power
            })?,
        }
    }
    apply_exceptions(exceptions, out)
}

#[inline]
fn blocks_into(
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<f64>,
    value: impl Fn(i64) -> f64,
) -> Result<(), DecodeError> {
    ints::decode_blocks(input, count - 1, 0, |block| out.extend(block.iter().map(|step| value(*step))))
}

/// Moves `input` past the list of exceptions and gives its bytes.
fn skip_exceptions<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let whole = *input;
    let count = varint::read_len(input).ok_or(DecodeError::Truncated)?;
    for _ in 0..count {
        let raw = varint::read_u64(input).ok_or(DecodeError::Truncated)? & 1 != 0;
        if raw {
            varint::read_bytes(input, 8).ok_or(DecodeError::Truncated)?;
        }
    }
    Ok(&whole[..whole.len() - input.len()])
}

/// Visits the exceptions of a list, by position and bits. The visitor refuses positions that are too large.
fn each_exception(
    list: &[u8],
    mut visit: impl FnMut(usize, u64) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    if list.is_empty() {
        return Ok(());
    }
    let mut input = list;
    let count = varint::read_len(&mut input).ok_or(DecodeError::Truncated)?;
    let mut next = 0usize;
    for _ in 0..count {
        let code = varint::read_len(&mut input).ok_or(DecodeError::Truncated)?;
        let bits = if code & 1 == 0 { STALE_NAN_BITS } else { read_u64_le(&mut input)? };
        // A gap has at most 63 bits and `next` is at most the visitor's bound: no overflow.
        let position = next + (code >> 1);
        visit(position, bits)?;
        next = position + 1;
    }
    Ok(())
}

fn apply_exceptions(list: &[u8], out: &mut [f64]) -> Result<(), DecodeError> {
    each_exception(list, |position, bits| {
        *out.get_mut(position).ok_or(DecodeError::Malformed("position of an exception"))? =
            f64::from_bits(bits);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::sample::stale_nan;

    fn encode(values: &[f64], effort: Effort) -> Vec<u8> {
        let mut bytes = vec![];
        FloatEncoder::default().encode(values, effort, &mut bytes);
        bytes
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    /// Encodes both ways, compares bits, and gives the bytes of the fast way.
    fn check(values: &[f64]) -> Vec<u8> {
        let mut out = vec![];
        for effort in [Effort::Thorough, Effort::Fast] {
            let bytes = encode(values, effort);
            for epoch in [1, 2] {
                let mut of_epoch = vec![];
                FloatEncoder::of_epoch(epoch).encode(values, effort, &mut of_epoch);
                assert_eq!(of_epoch.get(1..), bytes.get(1..), "the head alone may differ");
                decode(&of_epoch, values.len(), &mut out).expect("own bytes");
                assert_eq!(bits(&out), bits(values));
                check_stale(&of_epoch, values, epoch);
            }
            assert!(bytes.len() <= 1 + values.len() * 8);
        }
        encode(values, Effort::Fast)
    }

    /// Compares the markers that are found without decoding with those that are there.
    fn check_stale(bytes: &[u8], values: &[f64], epoch: u16) {
        let mut found = vec![];
        let is_told = find_stale(bytes, values.len(), &mut found).expect("own bytes");
        let there: Vec<u32> =
            (0..).zip(values).filter(|(_, v)| v.to_bits() == STALE_NAN_BITS).map(|(at, _)| at).collect();
        assert!(is_told || !there.is_empty() || epoch < NONE_STALE_EPOCH, "columns without markers tell");
        assert!(!is_told || found == there, "{found:?}, {there:?}");
    }

    #[test]
    fn full_mantissas_tell_of_markers_from_the_second_epoch_on() {
        let mut values: Vec<f64> = (1..100).map(|i| f64::from(i).sqrt().sin()).collect();
        let told = |values: &[f64], epoch| {
            let (mut bytes, mut places) = (vec![], vec![]);
            FloatEncoder::of_epoch(epoch).encode(values, Effort::Fast, &mut bytes);
            find_stale(&bytes, values.len(), &mut places).expect("own bytes").then_some(places)
        };
        assert_eq!((told(&values, 1), told(&values, 2)), (None, Some(vec![])));
        values[7] = stale_nan();
        assert_eq!((told(&values, 1), told(&values, 2)), (None, None));
        // Columns that scale have told of them all along.
        assert_eq!(
            told(&[1.0, stale_nan(), 2.0, f64::NAN, stale_nan()], 1),
            None,
            "a NaN of five is too much"
        );
        assert_eq!(told(&[1.0, stale_nan(), 2.0, 3.0, stale_nan()], 1), Some(vec![1, 4]));
        assert_eq!(told(&[stale_nan(); 3], 1), Some(vec![0, 1, 2]));
    }

    #[test]
    fn constants_take_a_header() {
        assert_eq!(check(&[1.0; 240]).len(), 2);
        assert_eq!(check(&[0.25; 240]).len(), 2);
        assert_eq!(check(&[std::f64::consts::PI; 240]).len(), 9);
        assert_eq!(check(&[stale_nan(); 3]).len(), 9);
        assert_eq!(check(&[-0.0; 240]).len(), 9);
        assert_eq!(check(&[]).len(), 0);
    }

    #[test]
    fn a_stale_marker_is_an_exception() {
        let mut values: Vec<f64> = (0..240).map(|i| 1e6 + f64::from(i) * 25.0).collect();
        let plain = check(&values).len();
        values[17] = stale_nan();
        assert!(check(&values).len() <= plain + 8);
        values[0] = stale_nan();
        values[239] = f64::NAN;
        values[100] = -0.0;
        assert_eq!(check(&values)[0] & MODE_MASK, 0);
        assert_eq!(check(&[stale_nan(), 5.0, 5.0, stale_nan(), 5.0]).len(), 5);
    }

    #[test]
    fn decimals_scale_and_factors_divide() {
        let cents: Vec<f64> = (0..240).map(|i| f64::from((i * 37) % 100) / 100.0).collect();
        assert_eq!(check(&cents)[0], 2);
        assert!(check(&cents).len() < 240);
        let pages: Vec<f64> = (0..240).map(|i| f64::from(4096 * ((i * 37) % 16))).collect();
        assert_eq!(check(&pages)[0], HAS_FACTOR);
        assert!(check(&pages).len() < 150);
    }

    #[test]
    fn extremes_survive() {
        let odd =
            [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0];
        check(&odd);
        check(&[9.2e18, -9.2e18, 9.2e18, 4e18]);
        check(&[9223372036854774784.0, -9223372036854775808.0, 0.0, 1024.0]);
        check(&[1e300; 64]);
        check(&[f64::from_bits(STALE_NAN_BITS ^ 1 << 63), 1.0]);
    }

    #[test]
    fn long_integers_may_go_to_pco() {
        // Few distinct steps in no order: entropy coding beats fixed widths.
        let values: Vec<f64> = (0u32..4000)
            .scan((0.0, 1u32), |(sum, state), i| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *sum += if state.is_multiple_of(5) {
                    f64::from(*state >> 16)
                } else {
                    15_000.0 + f64::from(i % 2)
                };
                Some(*sum)
            })
            .collect();
        let (fast, thorough) = (encode(&values, Effort::Fast), encode(&values, Effort::Thorough));
        assert_eq!((fast[0] & PCO_INTS, thorough[0] & PCO_INTS), (0, PCO_INTS));
        assert!(thorough.len() * 10 < fast.len() * 9);
        check(&values);
    }

    #[test]
    fn full_mantissas_stay_under_raw() {
        let walk: Vec<f64> = (0..1000)
            .scan(100.0, |v, i| {
                *v += f64::from(i).sin() * 0.37;
                Some(*v)
            })
            .collect();
        assert!(check(&walk).len() < 7 * 1000);
        assert!(check(&walk[..10]).len() < 8 * 10);
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-1000i32..1000).prop_map(f64::from),
            4 => (-1000i32..1000).prop_map(|v| f64::from(v) / 100.0),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => any::<i64>().prop_map(|v| v as f64),
            1 => Just(stale_nan()),
            1 => Just(-0.0),
            1 => Just(f64::INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn mixed_values_round_trip(values in proptest::collection::vec(value(), 0..200)) {
            check(&values);
        }

        #[test]
        fn any_bits_round_trip(patterns: Vec<u64>) {
            check(&patterns.into_iter().map(f64::from_bits).collect::<Vec<_>>());
        }

        #[test]
        fn long_columns_round_trip(seed: u32, steps in proptest::collection::vec(-5i64..5000, 1..40), scale in 0i32..4) {
            let mut sum = i64::from(seed);
            let values: Vec<f64> = (0..700)
                .map(|i| { sum += steps[i % steps.len()]; sum as f64 / 10f64.powi(scale) })
                .collect();
            check(&values);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, count in 0usize..300) {
            let mut out = vec![];
            let _ = decode(&bytes, count, &mut out);
            let _ = find_stale(&bytes, count, &mut vec![]);
        }

        #[test]
        fn damaged_columns_are_decoded_or_refused(
            values in proptest::collection::vec(any::<f64>(), 48..100), at: prop::sample::Index, xor in 1u8..,
        ) {
            let mut bytes = encode(&values, Effort::Fast);
            let at = at.index(bytes.len());
            bytes[at] ^= xor;
            let mut out = vec![];
            let _ = decode(&bytes, values.len(), &mut out);
        }
    }
}
