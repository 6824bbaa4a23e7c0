//! Blocks of rows: the one container for every kind of column data in a segment.
//!
//! A row is `(key, reference, blob)`: for floats and histograms the series' number, the timestamp vector's number
//! plus one, and the encoded values; for timestamp vectors their own number. Rows come with ascending keys and are
//! gathered to blocks of about 64 KiB, whole rows only. A block has a checksum, verified at every read: a page
//! that was right once may come back from a failing disk as something else, and reading it costs more than the checksum.
//!
//! ```text
//! block:      row count varint, keys, references, blob lengths (ints each), blobs
//! directory:  block count varint, then each: gap to the end of the block before varint, length varint,
//!             row count varint, first key varint, crc32c u32 LE; zstd frame over all
//! ```

use std::io;
use std::ops::Range;

use protocol::varint;

use super::Corruption;
use super::sink::Sink;
use crate::encoding::{DecodeError, frame, ints};

/// Blob bytes after which a block is written.
const BLOCK_LEN: usize = 64 << 10;
/// Rows after which a block is written, however short they are.
const BLOCK_ROWS: usize = 4096;

/// The file under construction: where the next byte goes, and the hash of all before it.
pub(crate) struct Output<S> {
    sink: S,
    offset: u64,
    hasher: blake3::Hasher,
}

impl<S: Sink> Output<S> {
    pub(crate) fn new(sink: S) -> Self {
        Self { sink, offset: 0, hasher: blake3::Hasher::new() }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write(bytes)?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn finish(self) -> (S, u64, [u8; 32]) {
        (self.sink, self.offset, *self.hasher.finalize().as_bytes())
    }
}

/// A block's place in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BlockEntry {
    offset: u64,
    len: u32,
    rows: u32,
    first_key: u32,
    crc: u32,
}

/// Gathers rows to blocks.
#[derive(Default)]
pub(super) struct RowsWriter {
    keys: Vec<i64>,
    references: Vec<i64>,
    lens: Vec<i64>,
    blobs: Vec<u8>,
    row_start: usize,
    directory: Vec<BlockEntry>,
    block: Vec<u8>,
}

impl RowsWriter {
    /// The buffer to append the next row's blob to, before [`RowsWriter::end_row`].
    pub(super) fn blob(&mut self) -> &mut Vec<u8> {
        &mut self.blobs
    }

    /// Ends a row of what was appended since the one before, and writes the block when it is full.
    pub(super) fn end_row<S: Sink>(
        &mut self,
        key: u32,
        reference: u32,
        out: &mut Output<S>,
    ) -> io::Result<()> {
        self.keys.push(i64::from(key));
        self.references.push(i64::from(reference));
        self.lens.push((self.blobs.len() - self.row_start) as i64);
        self.row_start = self.blobs.len();
        if self.blobs.len() >= BLOCK_LEN || self.keys.len() >= BLOCK_ROWS { self.flush(out) } else { Ok(()) }
    }

    fn flush<S: Sink>(&mut self, out: &mut Output<S>) -> io::Result<()> {
        let Some(&first_key) = self.keys.first() else { return Ok(()) };
        self.block.clear();
        varint::write_u64(&mut self.block, self.keys.len() as u64);
        ints::encode(&self.keys, 0, &mut self.block);
        ints::encode(&self.references, 0, &mut self.block);
        ints::encode(&self.lens, 0, &mut self.block);
        self.block.extend_from_slice(&self.blobs);
        self.directory.push(BlockEntry {
            offset: out.offset(),
            len: u32::try_from(self.block.len()).map_err(|_| io::ErrorKind::FileTooLarge)?,
            rows: self.keys.len() as u32,
            first_key: first_key as u32,
            crc: crc32c::crc32c(&self.block),
        });
        out.write(&self.block)?;
        self.keys.clear();
        self.references.clear();
        self.lens.clear();
        self.blobs.clear();
        self.row_start = 0;
        Ok(())
    }

    /// Writes the last block and gives the directory's bytes.
    pub(super) fn finish<S: Sink>(mut self, out: &mut Output<S>) -> io::Result<Vec<u8>> {
        self.flush(out)?;
        let mut raw = Vec::new();
        varint::write_u64(&mut raw, self.directory.len() as u64);
        let mut end = 0;
        for entry in &self.directory {
            varint::write_u64(&mut raw, entry.offset - end);
            varint::write_u64(&mut raw, u64::from(entry.len));
            varint::write_u64(&mut raw, u64::from(entry.rows));
            varint::write_u64(&mut raw, u64::from(entry.first_key));
            raw.extend_from_slice(&entry.crc.to_le_bytes());
            end = entry.offset + u64::from(entry.len);
        }
        let mut section = Vec::new();
        frame::write(&raw, 3, &mut section);
        Ok(section)
    }
}

/// Finds and reads blocks.
#[derive(Default)]
pub(super) struct RowsReader {
    what: &'static str,
    entries: Vec<BlockEntry>,
}

/// A block in decoded form; its blobs stay in the file.
#[derive(Default)]
pub(super) struct RowBlock {
    index: Option<usize>,
    keys: Vec<i64>,
    references: Vec<i64>,
    /// Start of each blob in the file, and the end of the last.
    starts: Vec<usize>,
    lens: Vec<i64>,
}

/// A fault with the place where it was found.
pub(super) type Located<T> = Result<T, (u64, Corruption)>;

impl RowsReader {
    /// Reads a directory whose checksum was found right.
    pub(super) fn open(what: &'static str, section: &[u8], file_len: usize) -> Result<Self, Corruption> {
        let column = |source| Corruption::Column { what, source };
        let raw = frame::read(section).map_err(column)?;
        let mut input = raw.as_slice();
        let count = varint::read_len(&mut input).ok_or(column(DecodeError::Truncated))?;
        // An entry takes 8 bytes at least.
        if count > input.len() / 8 {
            return Err(column(DecodeError::Truncated));
        }
        let mut entries = Vec::with_capacity(count);
        let mut end = 0u64;
        let mut next_key = 0u64;
        for _ in 0..count {
            let entry = read_entry(&mut input, end).ok_or(column(DecodeError::Truncated))?;
            end = entry.offset + u64::from(entry.len);
            if end > file_len as u64 || u64::from(entry.first_key) < next_key || entry.rows == 0 {
                return Err(Corruption::Bounds(what));
            }
            next_key = u64::from(entry.first_key) + u64::from(entry.rows);
            entries.push(entry);
        }
        if !input.is_empty() {
            return Err(column(DecodeError::Malformed("bytes after the directory")));
        }
        Ok(Self { what, entries })
    }

    /// Number of blocks.
    pub(super) fn blocks(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all blocks.
    pub(super) fn len_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.len)).sum()
    }

    /// Makes `block` the one that would hold `key`, and gives the row's place in it, if there is such a row.
    pub(super) fn seek(&self, file: &[u8], key: u32, block: &mut RowBlock) -> Located<Option<usize>> {
        let index = match block.index {
            Some(index) if self.covers(index, key) => index,
            Some(index) if self.covers(index + 1, key) => index + 1,
            _ => match self.entries.partition_point(|entry| entry.first_key <= key).checked_sub(1) {
                Some(index) => index,
                None => return Ok(None),
            },
        };
        if block.index != Some(index) {
            self.load(file, index, block)?;
        }
        // Dense keys, the common case, need no search.
        let guess = (key - self.entries[index].first_key) as usize;
        if block.keys.get(guess) == Some(&i64::from(key)) {
            return Ok(Some(guess));
        }
        Ok(block.keys.binary_search(&i64::from(key)).ok())
    }

    fn covers(&self, index: usize, key: u32) -> bool {
        self.entries.get(index).is_some_and(|entry| entry.first_key <= key)
            && self.entries.get(index + 1).is_none_or(|next| key < next.first_key)
    }

    /// Verifies and decodes a block.
    pub(super) fn load(&self, file: &[u8], index: usize, block: &mut RowBlock) -> Located<()> {
        let entry = self.entries[index];
        block.index = None;
        self.load_entry(file, entry, block).map_err(|reason| (entry.offset, reason))?;
        block.index = Some(index);
        Ok(())
    }

    fn load_entry(&self, file: &[u8], entry: BlockEntry, block: &mut RowBlock) -> Result<(), Corruption> {
        let start = entry.offset as usize;
        let bytes = file.get(start..start + entry.len as usize).ok_or(Corruption::Bounds(self.what))?;
        if crc32c::crc32c(bytes) != entry.crc {
            return Err(Corruption::Checksum(self.what));
        }
        let column = |source| Corruption::Column { what: self.what, source };
        let mut input = bytes;
        let count = varint::read_len(&mut input).ok_or(column(DecodeError::Truncated))?;
        if count != entry.rows as usize {
            return Err(column(DecodeError::Malformed("row count")));
        }
        for values in [&mut block.keys, &mut block.references, &mut block.lens] {
            values.clear();
            ints::decode(&mut input, count, 0, values).map_err(column)?;
        }
        let mut at = start + bytes.len() - input.len();
        let end = start + bytes.len();
        block.starts.clear();
        block.starts.reserve(count + 1);
        block.starts.push(at);
        for &len in &block.lens {
            at = usize::try_from(len)
                .ok()
                .and_then(|len| at.checked_add(len))
                .filter(|at| *at <= end)
                .ok_or(Corruption::Bounds(self.what))?;
            block.starts.push(at);
        }
        if at == end { Ok(()) } else { Err(Corruption::Bounds(self.what)) }
    }
}

fn read_entry(input: &mut &[u8], end: u64) -> Option<BlockEntry> {
    let u32_of = |value: Option<u64>| u32::try_from(value?).ok();
    let offset = end.checked_add(varint::read_u64(input)?)?;
    let len = u32_of(varint::read_u64(input))?;
    offset.checked_add(u64::from(len))?;
    let rows = u32_of(varint::read_u64(input))?;
    let first_key = u32_of(varint::read_u64(input))?;
    let crc = u32::from_le_bytes(varint::read_bytes(input, 4)?.try_into().ok()?);
    Some(BlockEntry { offset, len, rows, first_key, crc })
}

impl RowBlock {
    /// The row's reference.
    pub(super) fn reference(&self, row: usize) -> u32 {
        self.references[row] as u32
    }

    /// Where the row's blob lies in the file.
    pub(super) fn blob(&self, row: usize) -> Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }
}
