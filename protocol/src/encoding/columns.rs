//! A column of integers, coded by content.
//!
//! ```text
//! column:  kind u8, then
//!          0 blocks      ints
//!          1 constant    value zigzag varint
//!          2 runs        number of runs varint, values (ints), lengths (ints)
//!          3 pco         a pco file of i64
//!          4 distinct    number of values varint, the values ascending (ints), their positions (column 0 to 3)
//! ```
//!
//! The count of values is known to the reader; an empty column has no bytes at all. A column fills its bytes: whoever
//! stores several writes lengths between them.

use std::collections::BTreeMap;

use super::bits::bit_len;
use super::{DecodeError, ints};
use crate::varint;

const BLOCKS: u8 = 0;
const CONSTANT: u8 = 1;
const RUNS: u8 = 2;
const PCO: u8 = 3;
const DISTINCT: u8 = 4;

/// How much an encoder may spend on a column. Part of what decides the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pack {
    /// Blocks, constants and runs: for bytes that live for seconds.
    Quick,
    /// The smallest of all kinds: for files.
    Small,
}

/// What a reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Bytes of anybody: pco files are refused, whose decoder allocates by what they say.
    Stranger,
    /// Bytes whose checksum was verified.
    Own,
}

/// Shorter columns are not worth a pco header.
const MIN_FOR_PCO: usize = 256;
const PCO_LEVEL: usize = 8;
/// More distinct values than this are no dictionary.
const MAX_DISTINCT: usize = 4096;

/// Appends a column. `ascending` says that values mostly grow: their differences are what is to be modelled.
pub fn encode(values: &[i64], ascending: bool, pack: Pack, out: &mut Vec<u8>) {
    let Some(&first) = values.first() else { return };
    let runs = 1 + values.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if runs == 1 {
        out.push(CONSTANT);
        varint::write_u64(out, varint::zigzag(first));
        return;
    }
    let start = out.len();
    if runs * 8 <= values.len() {
        encode_runs(values, runs, out);
    } else {
        out.push(BLOCKS);
        ints::encode(values, 0, out);
    }
    if pack == Pack::Quick || values.len() < MIN_FOR_PCO {
        return;
    }
    let mut trial = Vec::new();
    if !ascending {
        encode_distinct(values, out.len() - start, &mut trial);
        keep_shorter(out, start, &trial);
    }
    trial.clear();
    encode_pco(values, ascending, &mut trial);
    keep_shorter(out, start, &trial);
}

fn keep_shorter(out: &mut Vec<u8>, start: usize, trial: &[u8]) {
    if !trial.is_empty() && trial.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(trial);
    }
}

fn encode_runs(values: &[i64], runs: usize, out: &mut Vec<u8>) {
    let (mut of_runs, mut lens) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
    for run in values.chunk_by(|a, b| a == b) {
        of_runs.push(run[0]);
        lens.push(run.len() as i64);
    }
    out.push(RUNS);
    varint::write_u64(out, of_runs.len() as u64);
    ints::encode(&of_runs, 0, out);
    ints::encode(&lens, 0, out);
}

fn encode_pco(values: &[i64], ascending: bool, out: &mut Vec<u8>) {
    let delta = if ascending { pco::DeltaSpec::TryConsecutive(1) } else { pco::DeltaSpec::NoOp };
    let config = pco::ChunkConfig::default()
        .with_compression_level(PCO_LEVEL)
        .with_mode_spec(pco::ModeSpec::Classic)
        .with_delta_spec(delta);
    out.push(PCO);
    if pco::standalone::simple_compress_into(values, &config, &mut *out).is_err() {
        out.clear();
    }
}

/// A dictionary, where values are few and far apart.
fn encode_distinct(values: &[i64], limit: usize, out: &mut Vec<u8>) {
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    values.iter().for_each(|&v| (min, max) = (min.min(v), max.max(v)));
    // Near one another, a frame does as well.
    if bit_len(max.wrapping_sub(min) as u64) <= 12 {
        return;
    }
    let mut numbers = BTreeMap::new();
    for value in values {
        numbers.insert(*value, 0i64);
        if numbers.len() > MAX_DISTINCT || numbers.len() * 4 > values.len() {
            return;
        }
    }
    let distinct: Vec<i64> = numbers.keys().copied().collect();
    numbers.values_mut().enumerate().for_each(|(at, number)| *number = at as i64);
    out.push(DISTINCT);
    varint::write_u64(out, distinct.len() as u64);
    ints::encode(&distinct, 0, out);
    if out.len() >= limit {
        return out.clear();
    }
    let positions: Vec<i64> = values.iter().map(|value| numbers[value]).collect();
    let mut blocks = vec![BLOCKS];
    ints::encode(&positions, 0, &mut blocks);
    let mut packed = Vec::new();
    encode_pco(&positions, false, &mut packed);
    out.extend_from_slice(if packed.is_empty() || blocks.len() <= packed.len() { &blocks } else { &packed });
}

/// Reads a column of `count` values that fills `input`. The caller vouches for `count`.
pub fn decode(input: &[u8], count: usize, trust: Trust) -> Result<Vec<i64>, DecodeError> {
    let mut out = Vec::new();
    decode_into(input, count, trust, &mut out)?;
    Ok(out)
}

/// [`decode`] that appends to `out`.
pub fn decode_into(input: &[u8], count: usize, trust: Trust, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    if count == 0 {
        return if input.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes of no values")) };
    }
    let (&kind, mut input) = input.split_first().ok_or(DecodeError::Truncated)?;
    let input = &mut input;
    match kind {
        BLOCKS => ints::decode(input, count, 0, out)?,
        CONSTANT => {
            let value = varint::unzigzag(varint::read_u64(input).ok_or(DecodeError::Truncated)?);
            out.resize(out.len() + count, value);
        }
        RUNS => {
            let runs = varint::read_len(input).filter(|runs| *runs <= count).ok_or(DecodeError::Truncated)?;
            let (mut values, mut lens) = (Vec::new(), Vec::new());
            ints::decode(input, runs, 0, &mut values)?;
            ints::decode(input, runs, 0, &mut lens)?;
            let mut left = count;
            for (value, len) in values.into_iter().zip(lens) {
                let len = usize::try_from(len).ok().filter(|len| *len <= left);
                let len = len.ok_or(DecodeError::Malformed("length of a run"))?;
                left -= len;
                out.resize(out.len() + len, value);
            }
            if left > 0 {
                return Err(DecodeError::Malformed("length of runs"));
            }
        }
        PCO if trust == Trust::Own => {
            let start = out.len();
            out.resize(start + count, 0);
            let progress = pco::standalone::simple_decompress_into(input, &mut out[start..])
                .map_err(|_| DecodeError::Malformed("pco file"))?;
            if progress.n_processed != count {
                return Err(DecodeError::Malformed("count in a pco file"));
            }
            *input = &[];
        }
        DISTINCT => {
            let number = varint::read_len(input).filter(|number| *number <= MAX_DISTINCT);
            let mut values = Vec::new();
            ints::decode(input, number.ok_or(DecodeError::Malformed("number of values"))?, 0, &mut values)?;
            if input.first() == Some(&DISTINCT) {
                return Err(DecodeError::Malformed("dictionary of a dictionary"));
            }
            let positions = decode(input, count, trust)?;
            out.reserve(count);
            for position in positions {
                let value = usize::try_from(position).ok().and_then(|at| values.get(at));
                out.push(*value.ok_or(DecodeError::Malformed("position of a value"))?);
            }
            *input = &[];
        }
        _ => return Err(DecodeError::Malformed("kind of a column")),
    }
    if input.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes after the last value")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[i64], ascending: bool, pack: Pack) -> usize {
        let mut bytes = Vec::new();
        encode(values, ascending, pack, &mut bytes);
        assert_eq!(decode(&bytes, values.len(), Trust::Own).as_deref(), Ok(values));
        if pack == Pack::Quick {
            assert_eq!(decode(&bytes, values.len(), Trust::Stranger).as_deref(), Ok(values));
        }
        bytes.len()
    }

    #[test]
    fn each_kind_is_chosen_where_it_is_best() {
        assert!(round_trip(&[7; 10_000], false, Pack::Quick) < 4);
        let runs: Vec<i64> = (0..10_000).map(|i| i / 1000).collect();
        assert!(round_trip(&runs, false, Pack::Quick) < 40);
        let far = [5i64, 1 << 40, -(1 << 50), 17];
        let few: Vec<i64> = (0..10_000usize).map(|i| far[i * i % 7 % 4]).collect();
        assert!(round_trip(&few, false, Pack::Small) < 3000);
        let times: Vec<i64> = (0..10_000).map(|i| i * 1_000_003 + i * i % 977).collect();
        assert!(round_trip(&times, true, Pack::Small) < 16_000);
        assert_eq!(round_trip(&[], true, Pack::Small), 0);
    }

    fn columns() -> impl Strategy<Value = Vec<i64>> {
        prop_oneof![
            any::<Vec<i64>>(),
            prop::collection::vec(0i64..4, 0..600),
            prop::collection::vec(prop_oneof![Just(1i64 << 40), Just(-3), Just(i64::MIN), 0i64..9], 0..600),
            prop::collection::vec((any::<i32>(), 1usize..200), 0..9).prop_map(|runs| runs
                .into_iter()
                .flat_map(|(value, len)| std::iter::repeat_n(i64::from(value), len))
                .collect()),
        ]
    }

    proptest! {
        #[test]
        fn columns_round_trip(values in columns(), ascending: bool) {
            round_trip(&values, ascending, Pack::Quick);
            round_trip(&values, ascending, Pack::Small);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, kind in 0u8..6, count in 0usize..300) {
            let bytes = [vec![kind], bytes].concat();
            if let Ok(values) = decode(&bytes, count, Trust::Stranger) {
                prop_assert_eq!(values.len(), count);
            }
        }
    }
}
