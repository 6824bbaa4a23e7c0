//! Bytes wrapped in zstd where that makes them smaller.
//!
//! ```text
//! frame:  raw length varint, kind u8 (0 stored, 1 zstd), bytes
//! ```

use crate::varint;

use super::DecodeError;

/// Most bytes that a frame may unpack to. Encoders split long before that.
pub const MAX_RAW_LEN: usize = 1 << 28;

const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// Below this, zstd's own header eats what it saves.
const MIN_TO_COMPRESS: usize = 48;

/// Appends `raw` as a frame.
pub fn write(raw: &[u8], level: i32, out: &mut Vec<u8>) {
    debug_assert!(raw.len() <= MAX_RAW_LEN);
    varint::write_u64(out, raw.len() as u64);
    if raw.len() >= MIN_TO_COMPRESS
        && let Ok(packed) = zstd::bulk::compress(raw, level)
        && packed.len() < raw.len()
    {
        out.push(ZSTD);
        out.extend_from_slice(&packed);
    } else {
        out.push(STORED);
        out.extend_from_slice(raw);
    }
}

/// Appends `raw` as a frame that is not packed.
pub fn store(raw: &[u8], out: &mut Vec<u8>) {
    varint::write_u64(out, raw.len() as u64);
    out.push(STORED);
    out.extend_from_slice(raw);
}

/// Unpacks a frame that fills `input`.
pub fn read(input: &[u8]) -> Result<Vec<u8>, DecodeError> {
    read_within(input, MAX_RAW_LEN)
}

/// [`read`] for a frame that may unpack to `limit` bytes at most.
pub fn read_within(input: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut input = input;
    let raw_len = varint::read_len(&mut input).ok_or(DecodeError::Truncated)?;
    let (&kind, body) = input.split_first().ok_or(DecodeError::Truncated)?;
    if raw_len > limit.min(MAX_RAW_LEN) {
        return Err(DecodeError::Malformed("frame length"));
    }
    match kind {
        STORED if body.len() == raw_len => Ok(body.to_vec()),
        ZSTD => {
            let raw =
                zstd::bulk::decompress(body, raw_len).map_err(|_| DecodeError::Malformed("zstd frame"))?;
            if raw.len() == raw_len { Ok(raw) } else { Err(DecodeError::Malformed("frame length")) }
        }
        _ => Err(DecodeError::Malformed("frame kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(raw: Vec<u8>, repeat in 1usize..20) {
            let raw = raw.repeat(repeat);
            let mut bytes = vec![];
            write(&raw, 3, &mut bytes);
            prop_assert_eq!(read(&bytes), Ok(raw));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
