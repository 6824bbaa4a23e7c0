//! Content of a file in memory: sparse, in pages that copies share until one of them writes.
//!
//! Sharing makes a preallocated file cost nothing and a copy of a whole disk cheap, which the tests that crash at every
//! operation depend on.

use std::sync::Arc;

const PAGE_BYTES: usize = 4096;
type Page = [u8; PAGE_BYTES];

/// Bytes of a file. Pages that were never written read as zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    len: u64,
    pages: Vec<Option<Arc<Page>>>,
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Cuts, or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let keep = len.div_ceil(PAGE_BYTES as u64) as usize;
            self.pages.truncate(keep);
            let tail = (len % PAGE_BYTES as u64) as usize;
            if tail != 0
                && let Some(Some(page)) = self.pages.get_mut(keep - 1)
            {
                Arc::make_mut(page)[tail..].fill(0);
            }
        }
        self.len = len;
    }

    /// Writes bytes and grows to hold them.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        self.len = self.len.max(end);
        let needed = end.div_ceil(PAGE_BYTES as u64) as usize;
        if self.pages.len() < needed {
            self.pages.resize(needed, None);
        }
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let (index, start) = ((at / PAGE_BYTES as u64) as usize, (at % PAGE_BYTES as u64) as usize);
            let count = rest.len().min(PAGE_BYTES - start);
            let page = self.pages[index].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[start..start + count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            at += count as u64;
        }
    }

    /// Fills `out` from an offset; `false` if the file ends before.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> bool {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.len) {
            return false;
        }
        let mut at = offset;
        let mut rest = out;
        while !rest.is_empty() {
            let (index, start) = ((at / PAGE_BYTES as u64) as usize, (at % PAGE_BYTES as u64) as usize);
            let count = rest.len().min(PAGE_BYTES - start);
            let (head, tail) = rest.split_at_mut(count);
            match self.pages.get(index) {
                Some(Some(page)) => head.copy_from_slice(&page[start..start + count]),
                _ => head.fill(0),
            }
            rest = tail;
            at += count as u64;
        }
        true
    }

    /// All bytes.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Takes over the pages that a write at `offset` touched from a file that has the same bytes elsewhere on them.
    pub(super) fn share(&mut self, other: &Self, offset: u64, count: usize) {
        if count == 0 {
            return;
        }
        let (first, last) = (offset / PAGE_BYTES as u64, (offset + count as u64 - 1) / PAGE_BYTES as u64);
        for index in first as usize..=last as usize {
            let page = other.pages.get(index).cloned().flatten();
            if self.pages.len() <= index {
                self.pages.resize(index + 1, None);
            }
            self.pages[index] = page;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0u64..10_000, proptest::collection::vec(1u8.., 0..5000))
                .prop_map(|(at, bytes)| Op::Write(at, bytes)),
            (0u64..15_000).prop_map(Op::SetLen),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector(ops in proptest::collection::vec(op(), 1..20)) {
            let (mut pages, mut model) = (Pages::default(), Vec::<u8>::new());
            for op in ops {
                let before = pages.clone();
                let copy = model.clone();
                match op {
                    Op::Write(at, bytes) => {
                        let at_usize = at as usize;
                        if !bytes.is_empty() && model.len() < at_usize + bytes.len() {
                            model.resize(at_usize + bytes.len(), 0);
                        }
                        if !bytes.is_empty() {
                            model[at_usize..at_usize + bytes.len()].copy_from_slice(&bytes);
                        }
                        pages.write(at, &bytes);
                    }
                    Op::SetLen(len) => {
                        model.resize(len as usize, 0);
                        pages.set_len(len);
                    }
                }
                prop_assert_eq!(&pages.to_vec(), &model);
                prop_assert_eq!(before.to_vec(), copy, "a copy must not change");
            }
        }
    }
}
