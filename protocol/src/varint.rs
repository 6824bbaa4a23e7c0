//! LEB128 varints and zigzag, as protobuf writes them. All readers check bounds.

/// Appends `value` in 1 to 10 bytes.
pub fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint and moves `input` past it. `None` when it is cut short or longer than 64 bits.
#[inline]
pub fn read_u64(input: &mut &[u8]) -> Option<u64> {
    let first = *input.first()?;
    if first < 0x80 {
        *input = &input[1..];
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for (i, &byte) in input.iter().enumerate().take(10).skip(1) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            if i == 9 && byte > 1 {
                return None;
            }
            *input = &input[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Reads a varint that counts or measures something held in memory.
#[inline]
pub fn read_len(input: &mut &[u8]) -> Option<usize> {
    usize::try_from(read_u64(input)?).ok()
}

/// Reads `len` bytes and moves `input` past them.
#[inline]
pub fn read_bytes<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(len)?;
    *input = tail;
    Some(head)
}

/// Appends a length and the bytes.
pub fn write_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    write_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what [`write_prefixed`] wrote.
#[inline]
pub fn read_prefixed<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = read_len(input)?;
    read_bytes(input, len)
}

/// Maps small magnitudes of either sign to small numbers.
#[inline]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
#[inline]
pub const fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(value: u64, tail: Vec<u8>) {
            let mut bytes = Vec::new();
            write_u64(&mut bytes, value);
            bytes.extend_from_slice(&tail);
            let mut input = bytes.as_slice();
            prop_assert_eq!(read_u64(&mut input), Some(value));
            prop_assert_eq!(input, tail.as_slice());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut input = bytes.as_slice();
            while read_u64(&mut input).is_some() {}
        }

        #[test]
        fn zigzag_round_trips(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn an_eleventh_byte_or_an_overflow_is_refused() {
        assert_eq!(read_u64(&mut [0x80u8; 11].as_slice()), None);
        let mut over = [0xffu8; 10];
        over[9] = 0x02;
        assert_eq!(read_u64(&mut over.as_slice()), None);
    }
}
