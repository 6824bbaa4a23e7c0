//! Timestamp vectors: strictly ascending milliseconds, shared by all series that were sampled together.
//!
//! ```text
//! count * 2 + irregular varint, first - origin zigzag varint, step zigzag varint,
//! [residuals of times 1.. to the grid first + i * step, as ints with 0 before them]   when irregular
//! ```
//! The step is a typical one, not the mean: a gap moves the residuals once instead of tilting them all.

use protocol::varint;

use super::{DecodeError, ints};

/// Most samples of a vector in one segment. A bound for decoders as much as for the writer.
pub const MAX_TIMES: usize = 1 << 24;

/// Appends a vector. `origin` (the partition's start, say) only makes the first time short.
pub fn encode(times: &[i64], origin: i64, out: &mut Vec<u8>) {
    let step = typical_step(times);
    let first = times.first().copied().unwrap_or(origin);
    let residual = |i: usize| times[i].wrapping_sub(first).wrapping_sub(step.wrapping_mul(i as i64));
    let irregular = (1..times.len()).any(|i| residual(i) != 0);
    varint::write_u64(out, (times.len() as u64) << 1 | u64::from(irregular));
    if times.is_empty() {
        return;
    }
    varint::write_u64(out, varint::zigzag(first.wrapping_sub(origin)));
    varint::write_u64(out, varint::zigzag(step));
    if irregular {
        let residuals: Vec<i64> = (1..times.len()).map(residual).collect();
        ints::encode(&residuals, 0, out);
    }
}

/// Median of up to 33 slopes spread over the vector, each over a quarter of it: long enough that jitter averages
/// out, short enough that a gap spoils only a few.
fn typical_step(times: &[i64]) -> i64 {
    let Some(count) = times.len().checked_sub(1).filter(|count| *count > 0) else { return 0 };
    let lag = (count / 4).max(1);
    let starts = count - lag + 1;
    let mut slopes = [0i64; 33];
    let taken = starts.min(slopes.len());
    for (k, slope) in slopes[..taken].iter_mut().enumerate() {
        let i = k * starts / taken;
        let rise = times[i + lag].wrapping_sub(times[i]);
        *slope = rise.wrapping_add(lag as i64 / 2).div_euclid(lag as i64);
    }
    *slopes[..taken].select_nth_unstable(taken / 2).1
}

/// Number of times in an encoded vector.
pub fn count(input: &[u8]) -> Result<usize, DecodeError> {
    let mut input = input;
    read_head(&mut input).map(|(count, _)| count)
}

fn read_head(input: &mut &[u8]) -> Result<(usize, bool), DecodeError> {
    let head = varint::read_u64(input).ok_or(DecodeError::Truncated)?;
    match usize::try_from(head >> 1) {
        Ok(count) if count <= MAX_TIMES => Ok((count, head & 1 != 0)),
        _ => Err(DecodeError::Malformed("count of times")),
    }
}

/// Reads a vector that fills `input`, replacing what `out` holds.
pub fn decode(input: &[u8], origin: i64, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    out.clear();
    let mut input = input;
    let (count, irregular) = read_head(&mut input)?;
    if count > 0 {
        let first = varint::unzigzag(varint::read_u64(&mut input).ok_or(DecodeError::Truncated)?);
        let step = varint::unzigzag(varint::read_u64(&mut input).ok_or(DecodeError::Truncated)?);
        let mut grid = first.wrapping_add(origin);
        if irregular {
            out.push(grid);
            ints::decode(&mut input, count - 1, 0, out)?;
            for time in &mut out[1..] {
                grid = grid.wrapping_add(step);
                *time = time.wrapping_add(grid);
            }
        } else {
            out.reserve(count);
            for _ in 0..count {
                out.push(grid);
                grid = grid.wrapping_add(step);
            }
        }
    }
    if input.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes after the last time")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(times: &[i64], origin: i64) -> usize {
        let (mut bytes, mut out) = (vec![], vec![]);
        encode(times, origin, &mut bytes);
        assert_eq!(count(&bytes), Ok(times.len()));
        decode(&bytes, origin, &mut out).expect("own bytes");
        assert_eq!(out, times);
        bytes.len()
    }

    #[test]
    fn a_grid_takes_a_header() {
        let times: Vec<i64> = (0..240).map(|i| 1_700_000_004_321 + i * 15_000).collect();
        assert!(round_trip(&times, 1_700_000_000_000) <= 7);
    }

    #[test]
    fn a_gap_costs_little() {
        let times: Vec<i64> =
            (0..240).filter(|i| !(100..140).contains(i)).map(|i| 1_700_000_004_321 + i * 15_000).collect();
        assert!(round_trip(&times, 1_700_000_000_000) <= 30);
    }

    #[test]
    fn jitter_costs_its_bits() {
        let times: Vec<i64> = (0..256i64).map(|i| 1_700_000_000_000 + i * 15_000 + (i * i * 7) % 8).collect();
        assert!(round_trip(&times, 1_700_000_000_000) <= 256 * 3 / 8 + 4 * 5 + 12);
    }

    proptest! {
        #[test]
        fn any_vector_round_trips(times: Vec<i64>, origin: i64) {
            round_trip(&times, origin);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let mut out = vec![];
            let _ = decode(&bytes, 0, &mut out);
        }
    }
}
