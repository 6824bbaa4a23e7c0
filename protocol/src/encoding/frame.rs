//! Bytes wrapped in zstd where that makes them smaller.
//!
//! ```text
//! frame:  raw length varint, kind u8 (0 stored, 1 zstd), bytes
//! ```

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::varint;

use super::DecodeError;

/// Most bytes that a frame may unpack to. Encoders split long before that.
pub const MAX_RAW_LEN: usize = 1 << 28;

const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// Below this, zstd's own header eats what it saves.
const MIN_TO_COMPRESS: usize = 48;

/// Levels whose matches are found in plain hash tables: a context that packed something before gives the bytes of a new one.
const PLAIN_LEVELS: usize = 4;

// A context takes longer to make than a small frame to pack or unpack; a sub-batch of rows has dozens of those.
thread_local! {
    static PACKERS: RefCell<[Option<Compressor<'static>>; PLAIN_LEVELS]> = const { RefCell::new([const { None }; PLAIN_LEVELS]) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn pack(raw: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    let Some(slot) = usize::try_from(level).ok().filter(|slot| (1..PLAIN_LEVELS).contains(slot)) else {
        return zstd::bulk::compress(raw, level);
    };
    PACKERS.with_borrow_mut(|packers| match &mut packers[slot] {
        Some(packer) => packer.compress(raw),
        none => none.insert(Compressor::new(level)?).compress(raw),
    })
}

fn unpack(packed: &[u8], raw_len: usize) -> std::io::Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|unpacker| match unpacker {
        Some(unpacker) => unpacker.decompress(packed, raw_len),
        none => none.insert(Decompressor::new()?).decompress(packed, raw_len),
    })
}

/// Appends `raw` as a frame.
pub fn write(raw: &[u8], level: i32, out: &mut Vec<u8>) {
    debug_assert!(raw.len() <= MAX_RAW_LEN);
    varint::write_u64(out, raw.len() as u64);
    if raw.len() >= MIN_TO_COMPRESS
        && let Ok(packed) = pack(raw, level)
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
            let raw = unpack(body, raw_len).map_err(|_| DecodeError::Malformed("zstd frame"))?;
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

        // Segments of replicas are compared by their bytes, whatever the thread that wrote them did before.
        #[test]
        fn what_was_packed_before_leaves_no_trace(
            raws in prop::collection::vec((prop::collection::vec(0u8..9, 0..300), 1usize..300), 1..8),
            level in 1i32..5,
        ) {
            for (raw, repeat) in raws {
                let raw = raw.repeat(repeat);
                prop_assert_eq!(pack(&raw, level).unwrap(), zstd::bulk::compress(&raw, level).unwrap());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, raw_len in 0usize..1000) {
            let _ = read(&bytes);
            let mut frame = vec![];
            varint::write_u64(&mut frame, raw_len as u64);
            frame.push(ZSTD);
            frame.extend_from_slice(&bytes);
            let _ = read(&frame);
            // What could not be read does not spoil what comes after.
            let mut good = vec![];
            write(&[7; 100], 1, &mut good);
            prop_assert_eq!(read(&good), Ok(vec![7; 100]));
        }
    }
}
