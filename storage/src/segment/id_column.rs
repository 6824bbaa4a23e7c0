//! A column of value ids: which value of a label name each series of a family has.
//!
//! Coded by content and left byte-aligned, since zstd goes over the whole afterwards.
//!
//! ```text
//! tag u8, payload length varint, payload:
//!   0 constant     id varint
//!   1 steps        first id varint, step zigzag varint
//!   2 runs         each: zigzag difference to the id before varint, length varint
//!   3 bytes        least id varint, u8 * count
//!   4 words        least id varint, low bytes * count, high bytes * count
//!   5 differences  zigzag varint * count
//! ```

use protocol::varint;

use crate::encoding::DecodeError;

const CONSTANT: u8 = 0;
const STEPS: u8 = 1;
const RUNS: u8 = 2;
const BYTES: u8 = 3;
const WORDS: u8 = 4;
const DIFFERENCES: u8 = 5;

/// Appends a column of at least one id.
pub(super) fn encode(ids: &[u32], out: &mut Vec<u8>) {
    let first = ids[0];
    let (mut min, mut max, mut runs) = (first, first, 1usize);
    let step = ids.get(1).map_or(0, |second| i64::from(*second) - i64::from(first));
    let mut even = true;
    let mut differences_len = 0;
    for pair in ids.windows(2) {
        min = min.min(pair[1]);
        max = max.max(pair[1]);
        runs += usize::from(pair[0] != pair[1]);
        let difference = i64::from(pair[1]) - i64::from(pair[0]);
        even &= difference == step;
        differences_len += varint_len(varint::zigzag(difference));
    }
    let mut payload = Vec::new();
    let tag = if min == max {
        varint::write_u64(&mut payload, u64::from(first));
        CONSTANT
    } else if even {
        varint::write_u64(&mut payload, u64::from(first));
        varint::write_u64(&mut payload, varint::zigzag(step));
        STEPS
    } else if runs <= ids.len() / 4 {
        encode_runs(ids, &mut payload);
        RUNS
    } else if max - min < 1 << 8 {
        varint::write_u64(&mut payload, u64::from(min));
        payload.extend(ids.iter().map(|id| (id - min) as u8));
        BYTES
    } else if max - min < 1 << 16 && differences_len > ids.len() * 3 / 2 {
        varint::write_u64(&mut payload, u64::from(min));
        payload.extend(ids.iter().map(|id| (id - min) as u8));
        payload.extend(ids.iter().map(|id| ((id - min) >> 8) as u8));
        WORDS
    } else {
        let mut previous = 0;
        for &id in ids {
            varint::write_u64(&mut payload, varint::zigzag(i64::from(id) - previous));
            previous = i64::from(id);
        }
        DIFFERENCES
    };
    out.push(tag);
    varint::write_prefixed(out, &payload);
}

/// Bytes that a varint takes.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn encode_runs(ids: &[u32], out: &mut Vec<u8>) {
    let mut previous = 0;
    for run in ids.chunk_by(|a, b| a == b) {
        varint::write_u64(out, varint::zigzag(i64::from(run[0]) - previous));
        varint::write_u64(out, run.len() as u64);
        previous = i64::from(run[0]);
    }
}

/// A column that is still coded.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdColumn<'a> {
    tag: u8,
    payload: &'a [u8],
}

impl<'a> IdColumn<'a> {
    /// Takes the next column and moves `input` past it, without decoding it.
    pub(super) fn read(input: &mut &'a [u8]) -> Result<Self, DecodeError> {
        let (&tag, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
        *input = rest;
        let payload = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
        Ok(Self { tag, payload })
    }

    /// The one id of a constant column.
    pub(super) fn constant(&self, limit: u32) -> Result<Option<u32>, DecodeError> {
        if self.tag != CONSTANT {
            return Ok(None);
        }
        read_id(&mut { self.payload }, 0, limit).map(Some)
    }

    /// The id of one row of `count`, where the code lets it be read without those before it; else `None`.
    pub(super) fn at(&self, row: usize, count: usize, limit: u32) -> Result<Option<u32>, DecodeError> {
        let mut input = self.payload;
        let outside = DecodeError::Malformed("value id");
        let id = match self.tag {
            CONSTANT => return read_id(&mut input, 0, limit).map(Some),
            STEPS => {
                let first = varint::read_u64(&mut input).ok_or(DecodeError::Truncated)? as i64;
                let step = varint::unzigzag(varint::read_u64(&mut input).ok_or(DecodeError::Truncated)?);
                let id = step.checked_mul(row as i64).and_then(|steps| first.checked_add(steps));
                id.and_then(|id| u32::try_from(id).ok()).ok_or(outside)?
            }
            BYTES => {
                let min = read_id(&mut input, 0, limit)?;
                let low = input.get(row).filter(|_| input.len() == count).ok_or(DecodeError::Truncated)?;
                min.saturating_add(u32::from(*low))
            }
            WORDS => {
                let min = read_id(&mut input, 0, limit)?;
                let whole = input.len() == count * 2 && row < count;
                let (low, high) =
                    input.split_at_checked(count).filter(|_| whole).ok_or(DecodeError::Truncated)?;
                min.saturating_add(u32::from(low[row]) | u32::from(high[row]) << 8)
            }
            _ => return Ok(None),
        };
        if row < count && id < limit { Ok(Some(id)) } else { Err(outside) }
    }

    /// Decodes `count` ids, replacing what `out` holds; each must be below `limit`. The caller vouches for `count`.
    pub(super) fn decode(&self, count: usize, limit: u32, out: &mut Vec<u32>) -> Result<(), DecodeError> {
        out.clear();
        out.reserve(count);
        let mut input = self.payload;
        let outside = DecodeError::Malformed("value id");
        match self.tag {
            CONSTANT => {
                let id = read_id(&mut input, 0, limit)?;
                out.resize(count, id);
            }
            STEPS => {
                let mut id = varint::read_u64(&mut input).ok_or(DecodeError::Truncated)? as i64;
                let step = varint::unzigzag(varint::read_u64(&mut input).ok_or(DecodeError::Truncated)?);
                for _ in 0..count {
                    out.push(u32::try_from(id).map_err(|_| outside)?);
                    id = id.checked_add(step).ok_or(outside)?;
                }
            }
            RUNS => {
                let mut id = 0;
                while !input.is_empty() {
                    id = i64::from(read_difference(&mut input, id)?);
                    let len = varint::read_len(&mut input).ok_or(DecodeError::Truncated)?;
                    if len > count - out.len() {
                        return Err(DecodeError::Malformed("run of value ids"));
                    }
                    out.resize(out.len() + len, id as u32);
                }
            }
            BYTES => {
                let min = read_id(&mut input, 0, limit)?;
                out.extend(input.iter().take(count + 1).map(|low| min.saturating_add(u32::from(*low))));
                input = &[];
            }
            WORDS => {
                let min = read_id(&mut input, 0, limit)?;
                if input.len() != count * 2 {
                    return Err(DecodeError::Truncated);
                }
                let (low, high) = input.split_at(count);
                let pairs = low.iter().zip(high);
                out.extend(pairs.map(|(l, h)| min.saturating_add(u32::from(*l) | u32::from(*h) << 8)));
                input = &[];
            }
            DIFFERENCES => {
                let mut id = 0;
                for _ in 0..count {
                    let next = read_difference(&mut input, id)?;
                    out.push(next);
                    id = i64::from(next);
                }
            }
            _ => return Err(DecodeError::Malformed("tag of a value-id column")),
        }
        if out.len() != count || !input.is_empty() {
            return Err(DecodeError::Malformed("count of value ids"));
        }
        if out.iter().all(|id| *id < limit) { Ok(()) } else { Err(outside) }
    }
}

fn read_id(input: &mut &[u8], least: u32, limit: u32) -> Result<u32, DecodeError> {
    let id = varint::read_u64(input).ok_or(DecodeError::Truncated)?;
    u32::try_from(id).ok().filter(|id| (least..limit).contains(id)).ok_or(DecodeError::Malformed("value id"))
}

fn read_difference(input: &mut &[u8], previous: i64) -> Result<u32, DecodeError> {
    let difference = varint::unzigzag(varint::read_u64(input).ok_or(DecodeError::Truncated)?);
    previous
        .checked_add(difference)
        .and_then(|id| u32::try_from(id).ok())
        .ok_or(DecodeError::Malformed("value id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(ids: &[u32], tag: Option<u8>) {
        let mut bytes = vec![];
        encode(ids, &mut bytes);
        assert!(tag.is_none_or(|tag| tag == bytes[0]), "tag {} for {ids:?}", bytes[0]);
        bytes.push(77);
        let (mut input, mut out) = (bytes.as_slice(), vec![]);
        let column = IdColumn::read(&mut input).expect("own bytes");
        assert_eq!(input, [77]);
        column.decode(ids.len(), u32::MAX, &mut out).expect("own bytes");
        assert_eq!(out, ids);
        let by_row = |row| column.at(row, ids.len(), u32::MAX).expect("own bytes");
        for (row, id) in ids.iter().enumerate() {
            assert!(by_row(row).is_none_or(|one| one == *id));
        }
        assert_eq!(by_row(0).is_some(), !matches!(bytes[0], RUNS | DIFFERENCES));
        let max = *ids.iter().max().expect("not empty");
        assert!(column.decode(ids.len(), max, &mut out).is_err(), "ids past the dictionary are refused");
    }

    #[test]
    fn each_content_has_its_code() {
        check(&[7; 9], Some(CONSTANT));
        check(&[3, 4, 5, 6], Some(STEPS));
        check(&[9, 7, 5], Some(STEPS));
        check(&[1, 1, 1, 1, 1, 5, 5, 5, 5, 5], Some(RUNS));
        check(&[1000, 1001, 1000, 1003, 1255], Some(BYTES));
        check(&[1000, 60000, 1000, 2000, 1255], Some(WORDS));
        check(&[1000, 1300, 1301, 1303, 1304, 1310], Some(DIFFERENCES));
    }

    proptest! {
        #[test]
        fn round_trips(ids in proptest::collection::vec(prop_oneof![0u32..9, 0u32..300, 0u32..100_000, 0..u32::MAX], 1..100)) {
            check(&ids, None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 1usize..100) {
            if let Ok(column) = IdColumn::read(&mut bytes.as_slice()) {
                let _ = column.constant(9);
                let _ = column.at(count - 1, count, 9);
                let _ = column.decode(count, 9, &mut vec![]);
            }
        }
    }
}
