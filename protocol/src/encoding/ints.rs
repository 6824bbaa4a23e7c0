//! The block codec for 64-bit integers.
//!
//! A column is cut into blocks of at most 64 values. Each block chooses for itself between the values and their
//! deltas, takes a frame of reference, packs the residuals to one width and writes the few that do not fit as
//! exceptions. A counter's reset is one far-off delta in an otherwise quiet block, hence an exception, on either
//! side of the frame. The count of values is known to the caller and not stored.
//!
//! ```text
//! block:  head u8            bits 0-5 width (63 means 64), bit 6 values are deltas, bit 7 has exceptions
//!         base varint        zigzag; of deltas as it is, of values relative to the value before the block
//!         [count u8, positions u8 * count]               with exceptions
//!         packed bits        count * width, exact length
//!         [high parts varint * count]                    zigzag of residual >> width, with exceptions
//! ```
//! All arithmetic wraps, so that any 64-bit pattern is a value.

use crate::varint;

use super::DecodeError;
use super::bits::{self, RUN, SHORT_RUN, bit_len};

const DELTA: u8 = 0x40;
const PATCHED: u8 = 0x80;
const WIDTH_CODE: u8 = 0x3f;

/// Most exceptions in a block: past that a wider frame is better anyway.
const MAX_EXCEPTIONS: usize = RUN / 4;

/// Appends a column. `previous` is the value that counts as the one before the first (0 where there is none).
pub fn encode(values: &[i64], previous: i64, out: &mut Vec<u8>) {
    let mut previous = previous;
    for block in values.chunks(RUN) {
        encode_block(block, previous, out);
        previous = block[block.len() - 1];
    }
}

/// Reads a column of `count` values, giving each block to `sink` as it is decoded.
#[inline]
pub fn decode_blocks(
    input: &mut &[u8],
    count: usize,
    previous: i64,
    mut sink: impl FnMut(&[i64]),
) -> Result<(), DecodeError> {
    if (1..=SHORT_RUN).contains(&count) {
        let mut values = [0i64; SHORT_RUN];
        decode_block(input, count, previous, &mut values, bits::unpack_short)?;
        sink(&values[..count]);
        return Ok(());
    }
    let (mut left, mut previous) = (count, previous);
    let mut values = [0i64; RUN];
    while left > 0 {
        let len = left.min(RUN);
        decode_block(input, len, previous, &mut values, bits::unpack)?;
        previous = values[len - 1];
        sink(&values[..len]);
        left -= len;
    }
    Ok(())
}

/// Reads a column of `count` values, appending them to `out`. The caller vouches for `count`.
pub fn decode(input: &mut &[u8], count: usize, previous: i64, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    // A block takes at least two bytes, which bounds what a malformed count can make us reserve.
    if count.div_ceil(RUN) * 2 > input.len() {
        return Err(DecodeError::Truncated);
    }
    out.reserve(count);
    decode_blocks(input, count, previous, |block| out.extend_from_slice(block))
}

/// How a block would be coded, and what that costs.
#[derive(Clone, Copy)]
struct Plan {
    base: i64,
    width: u32,
    patched: bool,
    cost_bytes: usize,
}

fn encode_block(values: &[i64], previous: i64, out: &mut Vec<u8>) {
    let mut deltas = [0i64; RUN];
    let deltas = &mut deltas[..values.len()];
    let mut before = previous;
    for (delta, value) in deltas.iter_mut().zip(values) {
        *delta = value.wrapping_sub(before);
        before = *value;
    }
    let delta_plan = plan(deltas);
    let raw_plan = if delta_plan.width == 0 && !delta_plan.patched { None } else { Some(plan(values)) };
    match raw_plan {
        Some(raw) if raw.cost_bytes < delta_plan.cost_bytes => {
            write_block(values, raw, 0, raw.base.wrapping_sub(previous), out);
        }
        _ => write_block(deltas, delta_plan, DELTA, delta_plan.base, out),
    }
}

/// Chooses base, width and exceptions for one block.
fn plan(values: &[i64]) -> Plan {
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    for &value in values {
        min = min.min(value);
        max = max.max(value);
    }
    let range = max.wrapping_sub(min) as u64;
    let mut best = plan_above(values, min, range, 0);
    // The least values may themselves be exceptions (a reset among deltas, a pause): then nearly all others lie in
    // the upper half, and the frame starts better at the least of those. Twice, for two kinds of outliers.
    let mut base = min;
    for _ in 0..2 {
        if best.width == 0 {
            break;
        }
        let half = (max.wrapping_sub(base) as u64).div_ceil(2);
        let (mut low, mut next) = (0, max);
        for &value in values {
            if value < base || (value.wrapping_sub(base) as u64) < half {
                low += 1;
            } else {
                next = next.min(value);
            }
        }
        if low > (values.len() / 8).max(1) || low >= values.len() {
            break;
        }
        base = next;
        let other = plan_above(values, base, range, low);
        if other.cost_bytes < best.cost_bytes {
            best = other;
        }
    }
    best
}

/// The best plan for a given base with `below` values under it. `range` bounds the distance of any exception.
fn plan_above(values: &[i64], base: i64, range: u64, below: usize) -> Plan {
    let full = bit_len(range);
    if full <= 1 && below == 0 {
        return Plan { base, width: full, patched: false, cost_bytes: bits::packed_len(values.len(), full) };
    }
    let mut by_len = [0u8; 65];
    let mut top = 0;
    for &value in values {
        let residual = value.wrapping_sub(base);
        // Those below the base are exceptions at any width.
        if value >= base {
            let len = bit_len(residual as u64);
            by_len[len as usize] += 1;
            top = top.max(len);
        }
    }
    // 63 is not a width of the format, and no exception can be coded at 64.
    let unpatched = if full >= 63 { 64 } else { full };
    let mut best = Plan {
        base,
        width: unpatched,
        patched: false,
        cost_bytes: bits::packed_len(values.len(), unpatched),
    };
    if below > 0 {
        best.cost_bytes = usize::MAX;
    }
    let mut exceptions = below;
    let mut width = top.min(62);
    exceptions += by_len[width as usize + 1..].iter().map(|n| *n as usize).sum::<usize>();
    loop {
        if exceptions > MAX_EXCEPTIONS {
            break;
        }
        if exceptions > 0 {
            let each = 2 + (full.saturating_sub(width) as usize) / 7;
            let cost_bytes = 1 + bits::packed_len(values.len(), width) + exceptions * each;
            if cost_bytes < best.cost_bytes {
                best = Plan { base, width, patched: true, cost_bytes };
            }
        }
        if width == 0 {
            break;
        }
        exceptions += by_len[width as usize] as usize;
        width -= 1;
    }
    best
}

fn write_block(values: &[i64], plan: Plan, kind: u8, base_coded: i64, out: &mut Vec<u8>) {
    let width_code = if plan.width == 64 { WIDTH_CODE } else { plan.width as u8 };
    out.push(width_code | kind | if plan.patched { PATCHED } else { 0 });
    varint::write_u64(out, varint::zigzag(base_coded));
    let mut residuals = [0u64; RUN];
    for (residual, value) in residuals.iter_mut().zip(values) {
        *residual = value.wrapping_sub(plan.base) as u64;
    }
    let residuals = &residuals[..values.len()];
    if !plan.patched {
        bits::pack(residuals, plan.width, out);
        return;
    }
    let count_at = out.len();
    out.push(0);
    for (i, residual) in residuals.iter().enumerate() {
        if *residual >> plan.width != 0 {
            out.push(i as u8);
        }
    }
    out[count_at] = (out.len() - count_at - 1) as u8;
    bits::pack(residuals, plan.width, out);
    for residual in residuals {
        if *residual >> plan.width != 0 {
            varint::write_u64(out, varint::zigzag(*residual as i64 >> plan.width));
        }
    }
}

/// Reads a block of `len` values; `unpack` is the unpacker for the buffer's size.
#[inline(always)]
fn decode_block<const CAP: usize>(
    input: &mut &[u8],
    len: usize,
    previous: i64,
    out: &mut [i64; CAP],
    unpack: impl Fn(&mut &[u8], u32, usize, &mut [u64; CAP]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let (&head, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
    *input = rest;
    let code = head & WIDTH_CODE;
    let width = if code == WIDTH_CODE { 64 } else { u32::from(code) };
    let base = varint::unzigzag(varint::read_u64(input).ok_or(DecodeError::Truncated)?);
    let mut residuals = [0u64; CAP];
    if head & PATCHED == 0 {
        unpack(input, width, len, &mut residuals)?;
    } else {
        let (positions, packed) = read_positions(input, width)?;
        *input = packed;
        unpack(input, width, len, &mut residuals)?;
        patch(input, width, positions, &mut residuals[..len])?;
    }
    if head & DELTA == 0 {
        let base = base.wrapping_add(previous);
        for (value, residual) in out.iter_mut().zip(&residuals) {
            *value = base.wrapping_add(*residual as i64);
        }
    } else {
        let mut sum = previous;
        for (value, residual) in out[..len].iter_mut().zip(&residuals) {
            sum = sum.wrapping_add(base).wrapping_add(*residual as i64);
            *value = sum;
        }
    }
    Ok(())
}

/// The positions of a block's exceptions, and what follows them.
fn read_positions<'a>(input: &&'a [u8], width: u32) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    if width == 64 {
        return Err(DecodeError::Malformed("exceptions at full width"));
    }
    let (&count, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
    rest.split_at_checked(count as usize).ok_or(DecodeError::Truncated)
}

/// Puts the high parts of the exceptions over the packed residuals.
fn patch(input: &mut &[u8], width: u32, positions: &[u8], residuals: &mut [u64]) -> Result<(), DecodeError> {
    for &position in positions {
        let high = varint::unzigzag(varint::read_u64(input).ok_or(DecodeError::Truncated)?);
        let residual = residuals.get_mut(position as usize);
        *residual.ok_or(DecodeError::Malformed("position of an exception"))? |= (high << width) as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[i64], previous: i64) -> usize {
        let mut bytes = vec![];
        encode(values, previous, &mut bytes);
        let (mut input, mut out) = (bytes.as_slice(), vec![]);
        decode(&mut input, values.len(), previous, &mut out).expect("own bytes");
        assert!(input.is_empty());
        assert_eq!(out, values);
        bytes.len()
    }

    #[test]
    fn a_reset_costs_an_exception_and_no_wider_block() {
        let quiet: Vec<i64> = (0..64).map(|i| 1_000_000 + i * 100 + i % 7).collect();
        let mut reset = quiet.clone();
        for value in &mut reset[30..] {
            *value -= 1_002_900;
        }
        let plain = round_trip(&quiet, 1_000_000);
        assert!(round_trip(&reset, 1_000_000) <= plain + 8);
    }

    #[test]
    fn equal_steps_take_a_few_bytes() {
        let steps: Vec<i64> = (1..=640).map(|i| i * 15_000).collect();
        assert_eq!(round_trip(&steps, 0), 10 * 4);
    }

    #[test]
    fn extremes_survive() {
        round_trip(&[i64::MIN, i64::MAX, 0, -1, i64::MIN, 1], 7);
        round_trip(&[i64::MAX, i64::MIN], i64::MIN);
        round_trip(&[], 0);
    }

    /// Runs of quiet numbers with jumps, as counters and gauges have them.
    fn lively() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            8 => -20i64..400,
            1 => any::<i64>(),
            1 => any::<i32>().prop_map(i64::from),
            4 => Just(15i64),
        ];
        proptest::collection::vec(step, 0..300).prop_map(|steps| {
            let mut sum = 0i64;
            steps
                .into_iter()
                .map(|s| {
                    sum = sum.wrapping_add(s);
                    sum
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn lively_columns_round_trip(values in lively(), previous: i64) {
            round_trip(&values, previous);
        }

        #[test]
        fn any_columns_round_trip(values: Vec<i64>, previous: i64) {
            round_trip(&values, previous);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, count in 0usize..300) {
            let mut out = vec![];
            let _ = decode(&mut bytes.as_slice(), count, 0, &mut out);
            prop_assert!(out.len() <= count);
        }
    }
}
