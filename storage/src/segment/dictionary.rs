//! The sorted, front-coded dictionary of one label name's values.
//!
//! ```text
//! each value:  bytes shared with the value before varint, rest length varint, rest
//! ```

use protocol::varint;

use crate::encoding::DecodeError;

/// Most bytes that a dictionary may unpack to.
const MAX_LEN: usize = 1 << 30;

/// Appends sorted, distinct, non-empty values, which are UTF-8.
pub(super) fn encode<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut previous: &[u8] = b"";
    for value in values {
        let shared = previous.iter().zip(value).take_while(|(a, b)| a == b).count();
        varint::write_u64(out, shared as u64);
        varint::write_prefixed(out, &value[shared..]);
        previous = value;
    }
}

/// All values of a label name; a value's id is its rank.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    text: String,
    ends: Vec<u32>,
}

impl Dictionary {
    /// Reads `count` values that fill `input`.
    pub(super) fn decode(input: &[u8], count: usize) -> Result<Self, DecodeError> {
        let mut input = input;
        // A value takes two bytes at least.
        if count > input.len() / 2 {
            return Err(DecodeError::Truncated);
        }
        let mut text: Vec<u8> = Vec::with_capacity(input.len());
        let mut ends = Vec::with_capacity(count);
        let mut start = 0;
        for _ in 0..count {
            let shared = varint::read_len(&mut input).ok_or(DecodeError::Truncated)?;
            let rest = varint::read_prefixed(&mut input).ok_or(DecodeError::Truncated)?;
            let end = text.len();
            if shared > end - start || end + shared + rest.len() > MAX_LEN {
                return Err(DecodeError::Malformed("shared prefix of a label value"));
            }
            text.extend_from_within(start..start + shared);
            text.extend_from_slice(rest);
            if text[end..] <= text[start..end] {
                return Err(DecodeError::Malformed("order of label values"));
            }
            start = end;
            ends.push(text.len() as u32);
        }
        if !input.is_empty() {
            return Err(DecodeError::Malformed("bytes after the last label value"));
        }
        let text = String::from_utf8(text).map_err(|_| DecodeError::Malformed("text of a label value"))?;
        if !ends.iter().all(|end| text.is_char_boundary(*end as usize)) {
            return Err(DecodeError::Malformed("text of a label value"));
        }
        Ok(Self { text, ends })
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The value of an id below [`Dictionary::len`].
    pub(super) fn get(&self, id: u32) -> &str {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        &self.text[start..self.ends[id] as usize]
    }

    /// The id of a value.
    pub(super) fn find(&self, value: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.len() as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(value) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// All values in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).map(|id| self.get(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn round_trips(values in proptest::collection::btree_set("[aäb€]{1,6}", 0..50)) {
            let mut bytes = vec![];
            encode(values.iter().map(|value| value.as_bytes()), &mut bytes);
            let dictionary = Dictionary::decode(&bytes, values.len()).unwrap();
            prop_assert_eq!(dictionary.iter().map(str::to_owned).collect::<BTreeSet<_>>(), values.clone());
            for (id, value) in values.iter().enumerate() {
                prop_assert_eq!(dictionary.find(value), Some(id as u32));
            }
            prop_assert_eq!(dictionary.find("c"), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 0usize..5) {
            let _ = Dictionary::decode(&bytes, count);
        }
    }
}
