//! Bytes of segments, batches and records, as `format.md` describes them.
//!
//! Only encoding and checking happen here; what damage means is decided in [`super::recover`].

use bytes::Bytes;
use protocol::ids::ShardId;
use protocol::varint;

pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"PHAROSWL";
pub(super) const SEGMENT_VERSION: u32 = 1;
pub(super) const SEGMENT_HEADER_BYTES: usize = 48;
pub(super) const BATCH_MAGIC: [u8; 4] = *b"PwB1";
pub(super) const BATCH_HEADER_BYTES: usize = 48;
pub(super) const RECORD_HEADER_BYTES: usize = 24;
/// Batches start at multiples of this, which keeps the search for a later one short.
pub(super) const ALIGN: u64 = 8;
/// Room that every segment keeps for its seal.
pub(super) const SEAL_BYTES: u64 = (BATCH_HEADER_BYTES + RECORD_HEADER_BYTES) as u64;
/// Longest record. Commands are bounded far below by who proposes them.
pub(super) const MAX_RECORD_BYTES: usize = 64 << 20;
/// Longest record that is not an entry: these are held in memory.
pub(super) const MAX_STATE_BYTES: usize = 1 << 20;
/// Most records in a batch.
pub(super) const MAX_BATCH_RECORDS: usize = 1 << 20;
/// Flag of the first batch of a segment.
pub(super) const FLAG_CHECKPOINT: u32 = 1;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    Truncate = 4,
    Purge = 5,
    Remove = 6,
    Mark = 7,
    Group = 8,
    Suspect = 9,
    Seal = 10,
    Rewrite = 11,
}

impl Kind {
    /// Whether a record's payload is an entry, which is never held in memory as a whole log of them.
    pub(super) const fn is_entry(self) -> bool {
        matches!(self, Self::Entry | Self::Rewrite)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Vote,
            3 => Self::Committed,
            4 => Self::Truncate,
            5 => Self::Purge,
            6 => Self::Remove,
            7 => Self::Mark,
            8 => Self::Group,
            9 => Self::Suspect,
            10 => Self::Seal,
            11 => Self::Rewrite,
            _ => return None,
        })
    }
}

/// Start of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) sequence: u32,
    pub(super) salt: u64,
    /// Length that the file was given before its first batch was written. It never changes.
    pub(super) file_bytes: u64,
}

/// Why a segment's first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Damaged,
    /// Intact, but of another release.
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&u64::from(self.sequence).to_le_bytes());
        out[24..32].copy_from_slice(&self.salt.to_le_bytes());
        out[32..40].copy_from_slice(&self.file_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&out[..40]);
        out[40..44].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() < SEGMENT_HEADER_BYTES
            || bytes[..8] != SEGMENT_MAGIC
            || u32_at(bytes, 40) != crc32c::crc32c(&bytes[..40])
        {
            return Err(HeaderError::Damaged);
        }
        match u32_at(bytes, 8) {
            SEGMENT_VERSION => {}
            other => return Err(HeaderError::Version(other)),
        }
        let sequence = u32::try_from(u64_at(bytes, 16)).map_err(|_| HeaderError::Damaged)?;
        Ok(Self { sequence, salt: u64_at(bytes, 24), file_bytes: u64_at(bytes, 32) })
    }
}

/// Start of a batch. Its checksum covers itself and the record headers that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    crc: u32,
    pub(super) salt: u64,
    pub(super) lsn: u64,
    pub(super) durable_lsn: u64,
    pub(super) payload_bytes: u64,
    pub(super) record_count: u32,
    pub(super) flags: u32,
}

impl BatchHeader {
    /// Reads a header if the bytes could be one. Its checksum is not checked: that needs the record headers.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < BATCH_HEADER_BYTES || bytes[..4] != BATCH_MAGIC {
            return None;
        }
        let header = Self {
            crc: u32_at(bytes, 4),
            salt: u64_at(bytes, 8),
            lsn: u64_at(bytes, 16),
            durable_lsn: u64_at(bytes, 24),
            payload_bytes: u64_at(bytes, 32),
            record_count: u32_at(bytes, 40),
            flags: u32_at(bytes, 44),
        };
        let plausible = header.record_count as usize <= MAX_BATCH_RECORDS
            && header.payload_bytes < 1 << 32
            && header.durable_lsn < header.lsn;
        plausible.then_some(header)
    }

    pub(super) fn head_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.record_count as usize * RECORD_HEADER_BYTES
    }

    /// Bytes from the batch's start to where the next one starts.
    pub(super) fn total_bytes(&self) -> u64 {
        (self.head_bytes() as u64 + self.payload_bytes).next_multiple_of(ALIGN)
    }

    /// Checks header and record headers, which are the first [`Self::head_bytes`] of `bytes`, and lists the records.
    pub(super) fn records(&self, bytes: &[u8]) -> Option<Vec<RecordHeader>> {
        let head = bytes.get(..self.head_bytes())?;
        if crc32c::crc32c(&head[8..]) != self.crc {
            return None;
        }
        let mut offset = 0;
        let mut records = Vec::with_capacity(self.record_count as usize);
        for bytes in head[BATCH_HEADER_BYTES..].as_chunks::<RECORD_HEADER_BYTES>().0 {
            let record = RecordHeader::decode(bytes, offset)?;
            offset += u64::from(record.len);
            records.push(record);
        }
        (offset == self.payload_bytes).then_some(records)
    }
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) index: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) group: ShardId,
    pub(super) kind: Kind,
    pub(super) head_len: u8,
    /// Where its bytes start among the batch's payloads.
    pub(super) offset: u64,
}

impl RecordHeader {
    fn decode(bytes: &[u8; RECORD_HEADER_BYTES], offset: u64) -> Option<Self> {
        let record = Self {
            index: u64_at(bytes, 0),
            len: u32_at(bytes, 8),
            crc: u32_at(bytes, 12),
            group: ShardId(u16::from_le_bytes([bytes[16], bytes[17]])),
            kind: Kind::from_byte(bytes[18])?,
            head_len: bytes[19],
            offset,
        };
        let limit = if record.kind.is_entry() { MAX_RECORD_BYTES } else { MAX_STATE_BYTES };
        (record.len as usize <= limit && u32::from(record.head_len) <= record.len).then_some(record)
    }

    /// Checksum that the record's bytes start from.
    pub(super) fn seed(&self, salt: u64) -> u32 {
        record_seed(salt, self.group, self.index, self.kind)
    }
}

/// Start of a record's checksum: bytes of another log, group, index or kind never pass for this one's.
pub(super) fn record_seed(salt: u64, group: ShardId, index: u64, kind: Kind) -> u32 {
    let mut context = [0; 19];
    context[..8].copy_from_slice(&salt.to_le_bytes());
    context[8..16].copy_from_slice(&index.to_le_bytes());
    context[16..18].copy_from_slice(&group.0.to_le_bytes());
    // An entry that is rewritten keeps its checksum.
    context[18] = if kind.is_entry() { Kind::Entry as u8 } else { kind as u8 };
    crc32c::crc32c(&context)
}

/// Puts a batch together in one buffer: room for the headers of a known number of records, then the payloads.
#[derive(Debug)]
pub(super) struct BatchBuilder {
    bytes: Vec<u8>,
    salt: u64,
    reserved: u32,
    count: u32,
}

impl BatchBuilder {
    pub(super) fn new(salt: u64) -> Self {
        Self { bytes: Vec::new(), salt, reserved: 0, count: 0 }
    }

    /// Starts a batch of `records` records with `payload_bytes` in all. A buffer that grew beyond `keep_bytes` is given
    /// back.
    pub(super) fn begin(&mut self, records: usize, payload_bytes: usize, keep_bytes: usize) {
        debug_assert!(records <= MAX_BATCH_RECORDS, "the caller bounds its batches");
        self.bytes.clear();
        if self.bytes.capacity() > keep_bytes {
            self.bytes.shrink_to(keep_bytes);
        }
        // At once: growing would copy every payload again.
        self.bytes
            .reserve(BATCH_HEADER_BYTES + records * RECORD_HEADER_BYTES + payload_bytes + ALIGN as usize);
        self.bytes.resize(BATCH_HEADER_BYTES + records * RECORD_HEADER_BYTES, 0);
        self.reserved = records as u32;
        self.count = 0;
    }

    /// Adds a record and gives its header. The only copy that a payload's bytes see on their way to the disk.
    pub(super) fn push(
        &mut self,
        kind: Kind,
        group: ShardId,
        index: u64,
        head: &[u8],
        body: &[u8],
    ) -> RecordHeader {
        assert!(self.count < self.reserved, "more records than were announced");
        let at = BATCH_HEADER_BYTES + self.count as usize * RECORD_HEADER_BYTES;
        let crc = crc32c::crc32c_append(record_seed(self.salt, group, index, kind), head);
        let record = RecordHeader {
            index,
            len: (head.len() + body.len()) as u32,
            crc: crc32c::crc32c_append(crc, body),
            group,
            kind,
            head_len: head.len() as u8,
            offset: (self.bytes.len() - self.head_bytes()) as u64,
        };
        let header = &mut self.bytes[at..at + RECORD_HEADER_BYTES];
        header[..8].copy_from_slice(&record.index.to_le_bytes());
        header[8..12].copy_from_slice(&record.len.to_le_bytes());
        header[12..16].copy_from_slice(&record.crc.to_le_bytes());
        header[16..18].copy_from_slice(&record.group.0.to_le_bytes());
        header[18] = record.kind as u8;
        header[19] = record.head_len;
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(body);
        self.count += 1;
        record
    }

    /// Bytes in front of the payloads.
    pub(super) fn head_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.reserved as usize * RECORD_HEADER_BYTES
    }

    /// Bytes that the batch will take.
    pub(super) fn total_bytes(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(ALIGN)
    }

    /// Fills the header in and gives the bytes to write.
    pub(super) fn finish(&mut self, lsn: u64, durable_lsn: u64, flags: u32) -> &[u8] {
        assert!(self.count == self.reserved, "fewer records than were announced");
        let head_bytes = self.head_bytes();
        let payload_bytes = (self.bytes.len() - head_bytes) as u64;
        let head = &mut self.bytes[..head_bytes];
        head[..4].copy_from_slice(&BATCH_MAGIC);
        head[8..16].copy_from_slice(&self.salt.to_le_bytes());
        head[16..24].copy_from_slice(&lsn.to_le_bytes());
        head[24..32].copy_from_slice(&durable_lsn.to_le_bytes());
        head[32..40].copy_from_slice(&payload_bytes.to_le_bytes());
        head[40..44].copy_from_slice(&self.count.to_le_bytes());
        head[44..48].copy_from_slice(&flags.to_le_bytes());
        let crc = crc32c::crc32c(&head[8..]);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        let padded = self.bytes.len().next_multiple_of(ALIGN as usize);
        self.bytes.resize(padded, 0);
        &self.bytes
    }
}

/// State of a group at the start of a segment, so that older segments are not needed for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupCheckpoint {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
    /// First and last entry that the log holds, all of them in older segments.
    pub(super) entries: Option<(u64, u64)>,
    pub(super) corrupt: bool,
    /// Digest of all records of the group since it was created, in order.
    pub(super) history: u64,
}

impl GroupCheckpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        let flags = [
            self.vote.is_some(),
            self.committed.is_some(),
            self.purged.is_some(),
            self.entries.is_some(),
            self.corrupt,
        ];
        let mut out = vec![flags.iter().zip(0u8..).map(|(&set, bit)| u8::from(set) << bit).sum::<u8>()];
        for bytes in [&self.vote, &self.committed].into_iter().flatten() {
            varint::write_prefixed(&mut out, bytes);
        }
        if let Some((index, id)) = &self.purged {
            varint::write_u64(&mut out, *index);
            varint::write_prefixed(&mut out, id);
        }
        if let Some((first, last)) = self.entries {
            varint::write_u64(&mut out, first);
            varint::write_u64(&mut out, last);
        }
        out.extend_from_slice(&self.history.to_le_bytes());
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        let flags = *varint::read_bytes(input, 1)?.first()?;
        let mut state = Self { corrupt: flags & 16 != 0, ..Self::default() };
        if flags & 1 != 0 {
            state.vote = Some(Bytes::copy_from_slice(varint::read_prefixed(input)?));
        }
        if flags & 2 != 0 {
            state.committed = Some(Bytes::copy_from_slice(varint::read_prefixed(input)?));
        }
        if flags & 4 != 0 {
            let index = varint::read_u64(input)?;
            state.purged = Some((index, Bytes::copy_from_slice(varint::read_prefixed(input)?)));
        }
        if flags & 8 != 0 {
            let (first, last) = (varint::read_u64(input)?, varint::read_u64(input)?);
            if first > last || last == u64::MAX {
                return None;
            }
            state.entries = Some((first, last));
        }
        state.history = u64_at(varint::read_bytes(input, 8)?, 0);
        (input.is_empty() && flags < 32).then_some(state)
    }
}

/// Groups of which an unreadable batch is known to have said nothing that counts: they were removed since.
pub(super) fn encode_cleared(groups: impl IntoIterator<Item = ShardId>) -> Vec<u8> {
    groups.into_iter().flat_map(|group| group.0.to_le_bytes()).collect()
}

/// Reads what [`encode_cleared`] wrote.
pub(super) fn decode_cleared(bytes: &[u8]) -> Option<Vec<ShardId>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|pair| ShardId(u16::from_le_bytes(*pair))).collect())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut le = [0; 4];
    le.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(le)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut le = [0; 8];
    le.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(le)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_segment_header_round_trips_and_no_flipped_bit_passes() {
        let header = SegmentHeader { sequence: 7, salt: 9, file_bytes: 1 << 26 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..44 * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit}");
        }
        assert!(SegmentHeader::decode(&bytes[..40]).is_err());
        let mut next = bytes;
        next[8] = 2;
        let crc = crc32c::crc32c(&next[..40]);
        next[40..44].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&next), Err(HeaderError::Version(2)));
    }

    #[test]
    fn a_batch_round_trips_and_no_flipped_bit_in_its_head_passes() {
        let mut builder = BatchBuilder::new(5);
        builder.begin(2, 0, 0);
        let entry = builder.push(Kind::Entry, ShardId(3), 40, b"head", b"body");
        let vote = builder.push(Kind::Vote, ShardId(4), 0, &[], b"vote");
        let bytes = builder.finish(11, 10, 0).to_vec();
        assert_eq!(bytes.len() as u64, builder.total_bytes());
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!((header.lsn, header.durable_lsn, header.total_bytes()), (11, 10, bytes.len() as u64));
        assert_eq!(header.records(&bytes).unwrap(), [entry, vote]);
        for bit in 0..header.head_bytes() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let passes = BatchHeader::parse(&bytes).is_some_and(|header| header.records(&bytes).is_some());
            assert!(!passes, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn checkpoints_round_trip(
            vote: Option<Vec<u8>>, committed: Option<Vec<u8>>, purged: Option<(u64, Vec<u8>)>,
            entries: Option<(u32, u32)>, corrupt: bool, history: u64,
        ) {
            let state = GroupCheckpoint {
                vote: vote.map(Bytes::from),
                committed: committed.map(Bytes::from),
                purged: purged.map(|(index, id)| (index, Bytes::from(id))),
                entries: entries.map(|(a, b)| (u64::from(a.min(b)), u64::from(a.max(b)))),
                corrupt,
                history,
            };
            let bytes = state.encode();
            prop_assert_eq!(GroupCheckpoint::decode(&bytes), Some(state));
            for cut in 0..bytes.len() {
                prop_assert_eq!(GroupCheckpoint::decode(&bytes[..cut]), None);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = GroupCheckpoint::decode(&bytes);
            let _ = decode_cleared(&bytes);
            let _ = SegmentHeader::decode(&bytes);
            if let Some(header) = BatchHeader::parse(&bytes) {
                let _ = header.records(&bytes);
            }
        }
    }
}
