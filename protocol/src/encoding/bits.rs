//! Packing of up to 64 unsigned integers of one width, least significant bit first, to exactly
//! `ceil(count * width / 8)` bytes: short runs are common, and padding them to 64 would decide their size.
//!
//! Full runs are unpacked by a function per width whose shifts are constants; shorter ones by a general loop.

use super::DecodeError;

/// Most values in a run.
pub const RUN: usize = 64;

/// Most values that [`unpack_short`] takes.
pub const SHORT_RUN: usize = 16;

const BUFFER_WORDS: usize = RUN + 1;

/// Bytes that `count` values of `width` bits take.
pub const fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Bits needed for a value, 0 for 0.
#[inline]
pub const fn bit_len(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// All ones in the low `width` bits.
#[inline]
pub const fn low_mask(width: u32) -> u64 {
    if width == 0 { 0 } else { u64::MAX >> (64 - width) }
}

/// Appends the low `width` bits (at most 64) of each value. Higher bits are ignored.
pub fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) {
    debug_assert!(values.len() <= RUN && width <= 64);
    let mask = low_mask(width);
    let mut buffer = [0u8; RUN * 8];
    let (mut at, mut pending, mut filled) = (0, 0u64, 0u32);
    for value in values {
        let value = value & mask;
        pending |= value << filled;
        filled += width;
        if filled >= 64 {
            buffer[at..at + 8].copy_from_slice(&pending.to_le_bytes());
            at += 8;
            filled -= 64;
            // The bits of `value` that did not fit; none when it ended exactly at the word's end.
            pending = if filled == 0 { 0 } else { value >> (width - filled) };
        }
    }
    let rest = (filled as usize).div_ceil(8);
    buffer[at..at + rest].copy_from_slice(&pending.to_le_bytes()[..rest]);
    out.extend_from_slice(&buffer[..at + rest]);
}

/// Reads `count` (at most 64) values of `width` bits into `out` and moves `input` past them. Entries of `out`
/// past `count` are unspecified.
#[inline]
pub fn unpack(input: &mut &[u8], width: u32, count: usize, out: &mut [u64; RUN]) -> Result<(), DecodeError> {
    let packed = take_packed(input, width, count, RUN)?;
    let mut words = [0u64; RUN + 1];
    load_words(packed, &mut words);
    if count == RUN {
        unpack_full(&words, width, out);
    } else {
        unpack_some(&words, width, &mut out[..count]);
    }
    Ok(())
}

/// As [`unpack`], for at most 16 values: clearing buffers for 64 would cost more than the work.
#[inline]
pub fn unpack_short(
    input: &mut &[u8],
    width: u32,
    count: usize,
    out: &mut [u64; SHORT_RUN],
) -> Result<(), DecodeError> {
    let packed = take_packed(input, width, count, SHORT_RUN)?;
    let mut words = [0u64; SHORT_RUN + 1];
    load_words(packed, &mut words);
    unpack_some(&words, width, &mut out[..count]);
    Ok(())
}

#[inline]
fn take_packed<'a>(
    input: &mut &'a [u8],
    width: u32,
    count: usize,
    limit: usize,
) -> Result<&'a [u8], DecodeError> {
    if count > limit || width > 64 {
        return Err(DecodeError::Malformed("run length or bit width"));
    }
    let (packed, rest) = input.split_at_checked(packed_len(count, width)).ok_or(DecodeError::Truncated)?;
    *input = rest;
    Ok(packed)
}

#[inline]
fn load_words(packed: &[u8], words: &mut [u64]) {
    let chunks = packed.chunks_exact(8);
    let tail = chunks.remainder();
    for (word, bytes) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(bytes.try_into().expect("chunks of 8"));
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        words[packed.len() / 8] = u64::from_le_bytes(last);
    }
}

/// Works on any width; `WORDS` is a power of two and one more, so that masking keeps every index inside.
fn unpack_some<const WORDS: usize>(words: &[u64; WORDS], width: u32, out: &mut [u64]) {
    let mask = low_mask(width);
    let mut bit = 0usize;
    for value in out {
        let (word, shift) = ((bit >> 6) & (WORDS - 2), (bit & 63) as u32);
        // Two shifts, so that a shift by 64 never happens.
        let high = (words[word + 1] << 1) << (63 - shift);
        *value = ((words[word] >> shift) | high) & mask;
        bit += width as usize;
    }
}

#[inline(always)]
fn unpack_width<const WIDTH: usize>(words: &[u64; BUFFER_WORDS], out: &mut [u64; RUN]) {
    let mask = low_mask(WIDTH as u32);
    for (i, value) in out.iter_mut().enumerate() {
        let (word, shift) = (i * WIDTH / 64, i * WIDTH % 64);
        let mut bits = words[word] >> shift;
        if shift + WIDTH > 64 {
            bits |= words[word + 1] << (64 - shift);
        }
        *value = bits & mask;
    }
}

macro_rules! by_width {
    ($width:expr, $words:expr, $out:expr; $($w:literal)*) => {
        match $width {
            $($w => unpack_width::<$w>($words, $out),)*
            _ => out_of_range($out),
        }
    };
}

fn out_of_range(out: &mut [u64; RUN]) {
    debug_assert!(false, "widths were checked");
    out.fill(0);
}

fn unpack_full(words: &[u64; BUFFER_WORDS], width: u32, out: &mut [u64; RUN]) {
    by_width!(width, words, out;
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(values in proptest::collection::vec(any::<u64>(), 0..=RUN), width in 0u32..=64, full: bool) {
            let mut values = values;
            if full {
                values.resize(RUN, 0x5555_aaaa_1234_5678);
            }
            let mut bytes = vec![];
            pack(&values, width, &mut bytes);
            prop_assert_eq!(bytes.len(), packed_len(values.len(), width));
            bytes.push(9);
            let (mut input, mut out) = (bytes.as_slice(), [0; RUN]);
            unpack(&mut input, width, values.len(), &mut out).unwrap();
            prop_assert_eq!(input, &[9][..]);
            let expected: Vec<u64> = values.iter().map(|v| v & low_mask(width)).collect();
            prop_assert_eq!(&out[..values.len()], expected.as_slice());
            if values.len() <= SHORT_RUN {
                let (mut input, mut short) = (bytes.as_slice(), [0; SHORT_RUN]);
                unpack_short(&mut input, width, values.len(), &mut short).unwrap();
                prop_assert_eq!(&short[..values.len()], expected.as_slice());
            }
            input = &bytes[..bytes.len().saturating_sub(2)];
            if bytes.len() > 1 {
                prop_assert_eq!(unpack(&mut input, width, values.len(), &mut out), Err(DecodeError::Truncated));
            }
        }
    }
}
