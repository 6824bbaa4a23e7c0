//! A column of opaque byte strings: their lengths by the integer codec, then all bytes in one zstd frame, since
//! neighbours (a histogram and the next one of its series) share most of theirs.
//!
//! ```text
//! count varint, lengths (ints), frame
//! ```

use protocol::varint;

use super::{DecodeError, frame, ints};

/// Appends a column.
pub fn encode<'a>(blobs: impl ExactSizeIterator<Item = &'a [u8]>, level: i32, out: &mut Vec<u8>) {
    varint::write_u64(out, blobs.len() as u64);
    let (mut lens, mut bytes) = (Vec::with_capacity(blobs.len()), Vec::new());
    for blob in blobs {
        lens.push(blob.len() as i64);
        bytes.extend_from_slice(blob);
    }
    ints::encode(&lens, 0, out);
    frame::write(&bytes, level, out);
}

/// A decoded column of byte strings: one buffer and where each string ends in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobColumn {
    /// All strings, one after the other.
    pub bytes: Vec<u8>,
    /// End of each string in `bytes`.
    pub ends: Vec<usize>,
}

impl BlobColumn {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String number `i`.
    ///
    /// # Panics
    /// When `i` is not below [`BlobColumn::len`].
    pub fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Appends a string.
    pub fn push(&mut self, blob: &[u8]) {
        self.bytes.extend_from_slice(blob);
        self.ends.push(self.bytes.len());
    }

    /// Forgets all strings and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Reads a column that fills `input` and has `count` strings.
pub fn decode(input: &[u8], count: usize) -> Result<BlobColumn, DecodeError> {
    let mut input = input;
    if varint::read_len(&mut input).ok_or(DecodeError::Truncated)? != count {
        return Err(DecodeError::Malformed("count of byte strings"));
    }
    let mut lens = Vec::new();
    ints::decode(&mut input, count, 0, &mut lens)?;
    let bytes = frame::read(input)?;
    let mut end = 0usize;
    let mut ends = Vec::with_capacity(count);
    for len in lens {
        end = usize::try_from(len)
            .ok()
            .and_then(|len| end.checked_add(len))
            .filter(|end| *end <= bytes.len())
            .ok_or(DecodeError::Malformed("length of a byte string"))?;
        ends.push(end);
    }
    if end != bytes.len() {
        return Err(DecodeError::Malformed("length of byte strings"));
    }
    Ok(BlobColumn { bytes, ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(blobs: Vec<Vec<u8>>) {
            let mut bytes = vec![];
            encode(blobs.iter().map(Vec::as_slice), 1, &mut bytes);
            let column = decode(&bytes, blobs.len()).unwrap();
            prop_assert_eq!(column.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), blobs);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 0usize..9) {
            let _ = decode(&bytes, count);
        }
    }
}
