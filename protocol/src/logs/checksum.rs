//! The checksum of a set of records, in any order: the sum of a hash of each with its stream.
//!
//! A router adds it up from records as they come, a shard from rows that it has decoded. Rows are not put together as
//! records for that: their bytes are written straight from the columns.

use xxhash_rust::xxh3::xxh3_64;

use super::LogRecord;
use super::codec;
use super::dict::Dict;
use super::rows::Rows;

/// What a record adds to the checksum of a set of records.
pub fn record_checksum(stream: &[u8], record: &LogRecord<'_>, scratch: &mut Vec<u8>) -> u64 {
    scratch.clear();
    scratch.extend_from_slice(&xxh3_64(stream).to_le_bytes());
    codec::encode_record(record, scratch);
    xxh3_64(scratch)
}

/// [`record_checksum`] of rows, all of whose columns were decoded.
#[derive(Debug)]
pub struct RowChecksums<'a> {
    rows: &'a Rows,
    dict: &'a Dict,
    /// Hashes by the number of a stream.
    streams: Vec<Option<u64>>,
    bytes: Vec<u8>,
    text: Vec<u8>,
}

impl<'a> RowChecksums<'a> {
    /// Of these rows.
    pub fn new(rows: &'a Rows, dict: &'a Dict) -> Self {
        let streams = vec![None; dict.streams().len()];
        Self { rows, dict, streams, bytes: Vec::new(), text: Vec::new() }
    }

    /// What a row adds.
    pub fn of(&mut self, row: usize) -> u64 {
        let number = self.rows.streams()[row];
        let hash = || xxh3_64(self.dict.streams().get(number));
        let stream = *self.streams[number as usize].get_or_insert_with(hash);
        self.bytes.clear();
        self.bytes.extend_from_slice(&stream.to_le_bytes());
        self.rows.encode_record(row, self.dict, &mut self.text, &mut self.bytes);
        xxh3_64(&self.bytes)
    }

    /// What all rows add up to.
    pub fn sum(mut self) -> u64 {
        (0..self.rows.len()).fold(0, |sum: u64, row| sum.wrapping_add(self.of(row)))
    }
}
