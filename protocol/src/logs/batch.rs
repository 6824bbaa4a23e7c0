#![doc = include_str!("batch.md")]

use bytes::Bytes;

use super::block::{self, Block, Layout, Limits, Want};
use super::checksum::{RowChecksums, record_checksum};
use super::codec::is_shallow;
use super::dict::Dict;
use super::rows::{RowMap, Rows, Scratch};
use super::{LogRecord, LogSink, LogStream, RowSignal, TimestampNs};
use crate::batch::MAX_BYTES;
use crate::encoding::DecodeError;
use crate::encoding::columns::{Pack, Trust};
use crate::ids::{ClusterSecret, ShardId, TenantId};
use crate::varint;

/// First byte of a sub-batch of logs and of its outcome: tells it from one of metrics, whose first byte is their version.
pub const VERSION: u8 = version_of(RowSignal::Logs);

/// First byte of a sub-batch of a signal.
pub const fn version_of(signal: RowSignal) -> u8 {
    0x80 | signal.number()
}

/// What a sub-batch holds by its first byte; `None` if it is one of metrics.
pub fn signal_of(bytes: &[u8]) -> Option<RowSignal> {
    let first = bytes.first().filter(|first| **first >= 0x80)?;
    RowSignal::of_number(first & 0x7f)
}

/// Rows of a sub-batch; what a request has more goes into another.
const MAX_ROWS: usize = 1 << 16;
/// Bytes of a sub-batch, roughly, from which the next record goes into another.
const PART_BYTES: usize = 4 << 20;

/// Bounds of a sub-batch when it is decoded.
pub const LIMITS: Limits = Limits { rows: MAX_ROWS, values: 16 << 20, bytes: 128 << 20 };

/// What a batch is known by when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchKey(pub [u8; 16]);

impl BatchKey {
    fn hash(secret: &ClusterSecret, what: &[u8], tenant: &TenantId, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&secret.0);
        hasher.update(what);
        hasher.update(&(tenant.as_str().len() as u64).to_le_bytes());
        hasher.update(tenant.as_str().as_bytes());
        hasher.update(bytes);
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self(key)
    }

    /// The key that a client declared.
    pub fn declared(secret: &ClusterSecret, tenant: &TenantId, key: &str) -> Self {
        Self::hash(secret, b"declared", tenant, key.as_bytes())
    }

    /// The key of a body without a declared one. Only for bodies whose records all carry the client's time: else equal
    /// bodies may be different records.
    pub fn of_body(secret: &ClusterSecret, tenant: &TenantId, decompressed: &[u8]) -> Self {
        Self::hash(secret, b"body", tenant, decompressed)
    }

    /// The key of one request that nothing tells from others but `nonce`, which must not come again.
    pub fn unique(secret: &ClusterSecret, tenant: &TenantId, nonce: &[u8]) -> Self {
        Self::hash(secret, b"unique", tenant, nonce)
    }

    /// The key of what of a request of spans goes to a shard.
    #[must_use]
    pub fn of_shard(self, shard: ShardId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"spans");
        hasher.update(&self.0);
        hasher.update(&shard.0.to_le_bytes());
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self(key)
    }

    /// The key of a further part of the batch; that of part 0 is the batch's.
    #[must_use]
    pub fn part(self, number: usize) -> Self {
        if number == 0 {
            return self;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&(number as u64).to_le_bytes());
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self(key)
    }
}

/// Why bytes are no sub-batch of logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogBatchError {
    /// A version that this build does not know.
    #[error("log sub-batch version {0} is not known")]
    UnknownVersion(u8),
    /// Longer than a sub-batch may be.
    #[error("log sub-batch of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// A part is cut short or wrong.
    #[error("log sub-batch is malformed in its {part}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
}

/// Records that can not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log record or span takes {bytes} bytes, more than {MAX_BYTES}")]
pub struct RecordTooLong {
    /// What the record takes, alone and packed.
    pub bytes: usize,
}

/// Gathers records into sub-batches.
#[derive(Debug)]
pub struct LogBatchBuilder {
    signal: RowSignal,
    parts: Vec<Part>,
    dict: Dict,
    rows: Rows,
    bytes: usize,
    checksum: u64,
    /// Bytes of the stream that records belong to, and its number in the dictionary.
    stream: Vec<u8>,
    number: Option<u32>,
    scratch: Scratch,
    buffer: Vec<u8>,
    too_deep: u64,
    total: u64,
    /// First and last time that is taken, if that is bounded.
    bounds: Option<(TimestampNs, TimestampNs)>,
    outside: Outside,
}

/// Records left out for their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Older than what is kept.
    pub too_old: u64,
    /// Too far in the future.
    pub too_new: u64,
    /// Time of the first of them.
    pub first: TimestampNs,
}

impl Outside {
    /// Whether a time lies within bounds; counts it if not.
    pub fn admits(&mut self, (oldest, newest): (TimestampNs, TimestampNs), time: TimestampNs) -> bool {
        if (oldest..=newest).contains(&time) {
            return true;
        }
        if self.is_empty() {
            self.first = time;
        }
        *(if time < oldest { &mut self.too_old } else { &mut self.too_new }) += 1;
        false
    }

    /// Number of records.
    pub fn len(&self) -> u64 {
        self.too_old + self.too_new
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug)]
struct Part {
    dict: Dict,
    rows: Rows,
    checksum: u64,
}

impl Default for LogBatchBuilder {
    fn default() -> Self {
        let mut builder = Self {
            signal: RowSignal::Logs,
            parts: Vec::new(),
            dict: Dict::default(),
            rows: Rows::new(),
            bytes: 0,
            checksum: 0,
            stream: Vec::new(),
            number: None,
            scratch: Scratch::default(),
            buffer: Vec::new(),
            too_deep: 0,
            total: 0,
            bounds: None,
            outside: Outside::default(),
        };
        builder.stream(&LogStream::default());
        builder
    }
}

impl LogSink for LogBatchBuilder {
    fn stream(&mut self, stream: &LogStream<'_>) {
        encode_shallow(stream, &mut self.stream);
        self.number = None;
    }

    fn record(&mut self, record: &LogRecord<'_>) {
        let deep = !is_shallow(&record.body) || !record.attributes.iter().all(|(_, value)| is_shallow(value));
        if deep || self.stream.is_empty() {
            self.too_deep += 1;
            return;
        }
        if let Some(bounds) = self.bounds
            && !self.outside.admits(bounds, record.effective_ns())
        {
            return;
        }
        if self.rows.len() >= MAX_ROWS || self.bytes >= PART_BYTES {
            self.close();
        }
        let number = match self.number {
            Some(number) => number,
            None => {
                let number = self.dict.intern_stream(&self.stream);
                self.number = Some(number);
                number
            }
        };
        self.checksum = self.checksum.wrapping_add(record_checksum(&self.stream, record, &mut self.buffer));
        self.bytes += self.rows.push(record, number, &mut self.dict, &mut self.scratch);
        self.total += 1;
    }
}

/// The bytes of a stream; none if it is nested too deep.
pub fn encode_shallow(stream: &LogStream<'_>, out: &mut Vec<u8>) {
    out.clear();
    let deep = |list: &[super::Attribute<'_>]| list.iter().any(|(_, value)| !is_shallow(value));
    if !deep(&stream.resource) && !deep(&stream.scope_attributes) {
        super::codec::encode_stream(stream, out);
    }
}

impl LogBatchBuilder {
    /// No records yet; they belong to the empty stream until another is named.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Self::new`], for rows of a signal.
    pub fn of(signal: RowSignal) -> Self {
        Self { signal, ..Self::default() }
    }

    /// As [`LogSink::stream`], of a stream that [`encode_shallow`] wrote.
    pub fn encoded_stream(&mut self, stream: &[u8]) {
        self.stream.clear();
        self.stream.extend_from_slice(stream);
        self.number = None;
    }

    /// As [`Self::new`], for records of a closed time range; others are left out and counted.
    pub fn within(oldest: TimestampNs, newest: TimestampNs) -> Self {
        Self { bounds: Some((oldest, newest)), ..Self::default() }
    }

    /// Records left out for their time.
    pub fn outside(&self) -> Outside {
        self.outside
    }

    /// [`record_checksum`] of all records taken, summed up.
    pub fn checksum(&self) -> u64 {
        self.parts.iter().fold(self.checksum, |sum, part| sum.wrapping_add(part.checksum))
    }

    /// Number of records taken.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether none was taken.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Number of records left out because they, or their streams, are nested deeper than [`super::codec::MAX_DEPTH`].
    pub fn too_deep(&self) -> u64 {
        self.too_deep
    }

    fn close(&mut self) {
        let part = Part {
            dict: std::mem::take(&mut self.dict),
            rows: std::mem::replace(&mut self.rows, Rows::new()),
            checksum: std::mem::take(&mut self.checksum),
        };
        self.parts.push(part);
        (self.bytes, self.number, self.scratch) = (0, None, Scratch::default());
    }

    /// The sub-batches, mostly one, each with its key. The same records, pushed in the same order, give the same ones.
    pub fn finish(
        mut self,
        tenant: &TenantId,
        key: BatchKey,
    ) -> Result<Vec<(BatchKey, Bytes)>, RecordTooLong> {
        if !self.rows.is_empty() {
            self.close();
        }
        let mut out = Vec::new();
        for part in &self.parts {
            write_part(self.signal, tenant, key, &part.rows, &part.dict, part.checksum, &mut out)?;
        }
        Ok(out)
    }
}

fn write_part(
    signal: RowSignal,
    tenant: &TenantId,
    key: BatchKey,
    rows: &Rows,
    dict: &Dict,
    checksum: u64,
    out: &mut Vec<(BatchKey, Bytes)>,
) -> Result<(), RecordTooLong> {
    let own_key = key.part(out.len());
    let mut bytes = Vec::with_capacity(rows.len() * 40 + 256);
    bytes.push(version_of(signal));
    varint::write_prefixed(&mut bytes, tenant.as_str().as_bytes());
    bytes.extend_from_slice(&own_key.0);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    let mut packed = Vec::new();
    dict.encode(Pack::Quick, &mut packed);
    varint::write_prefixed(&mut bytes, &packed);
    block::encode(rows, dict, Pack::Quick, Layout::Plain, &mut bytes);
    if bytes.len() <= MAX_BYTES {
        out.push((own_key, bytes.into()));
        return Ok(());
    }
    if rows.len() == 1 {
        return Err(RecordTooLong { bytes: bytes.len() });
    }
    // Dense data that was estimated too low: two halves.
    let middle = rows.len() / 2;
    for range in [0..middle, middle..rows.len()] {
        let (mut half, mut half_dict, mut map) = (Rows::new(), Dict::default(), RowMap::default());
        let (mut sum, mut checksums) = (0u64, RowChecksums::new(rows, dict));
        for row in range {
            half.push_from(&mut half_dict, rows, dict, row, &mut map, &|_| true);
            sum = sum.wrapping_add(checksums.of(row));
        }
        write_part(signal, tenant, key, &half, &half_dict, sum, out)?;
    }
    Ok(())
}

/// A sub-batch, decoded and checked: each of its rows can be put together.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// What its rows are.
    pub signal: RowSignal,
    /// Whose records.
    pub tenant: TenantId,
    /// Its key.
    pub key: BatchKey,
    /// [`record_checksum`] of all records as they were pushed, summed up.
    pub checksum: u64,
    /// What the rows refer to.
    pub dict: Dict,
    /// The records, in the order of their times.
    pub rows: Rows,
}

/// A sub-batch whose head and dictionary were decoded.
#[derive(Debug)]
pub struct OpenLogBatch<'a> {
    /// What its rows are.
    pub signal: RowSignal,
    /// Whose records.
    pub tenant: TenantId,
    /// Its key.
    pub key: BatchKey,
    /// As in [`LogBatch`].
    pub checksum: u64,
    /// What the rows refer to.
    pub dict: Dict,
    block: Block<'a>,
}

impl<'a> OpenLogBatch<'a> {
    /// Takes bytes of anybody.
    pub fn new(bytes: &'a [u8]) -> Result<Self, LogBatchError> {
        if bytes.len() > MAX_BYTES {
            return Err(LogBatchError::TooLong(bytes.len()));
        }
        let malformed = |part| move |source| LogBatchError::Malformed { part, source };
        let cut = |part| LogBatchError::Malformed { part, source: DecodeError::Truncated };
        let (&version, mut rest) = bytes.split_first().ok_or(cut("version"))?;
        let signal = signal_of(bytes).ok_or(LogBatchError::UnknownVersion(version))?;
        let input = &mut rest;
        let tenant = varint::read_prefixed(input).and_then(|name| std::str::from_utf8(name).ok());
        let tenant = tenant.and_then(|name| TenantId::new(name).ok()).ok_or(cut("tenant"))?;
        let key = varint::read_bytes(input, 16).and_then(|key| key.try_into().ok()).ok_or(cut("key"))?;
        let checksum = varint::read_bytes(input, 8).and_then(|sum| sum.try_into().ok());
        let checksum = u64::from_le_bytes(checksum.ok_or(cut("checksum"))?);
        let mut packed = varint::read_prefixed(input).ok_or(cut("dictionary"))?;
        let dict = Dict::decode(&mut packed, Trust::Stranger).map_err(malformed("dictionary"))?;
        if !packed.is_empty() {
            return Err(LogBatchError::Malformed {
                part: "dictionary",
                source: DecodeError::Malformed("end of a dictionary"),
            });
        }
        let block = Block::parse(input, Layout::Plain, LIMITS).map_err(malformed("block"))?;
        Ok(Self { signal, tenant, key: BatchKey(key), checksum, dict, block })
    }

    /// Decodes columns.
    pub fn rows(&self, want: &Want) -> Result<Rows, LogBatchError> {
        let rows = self.block.decode(&self.dict, want, None, Trust::Stranger, LIMITS);
        rows.map_err(|source| LogBatchError::Malformed { part: "rows", source })
    }
}

impl LogBatch {
    /// Takes bytes of anybody.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogBatchError> {
        let open = OpenLogBatch::new(bytes)?;
        let rows = open.rows(&Want::ALL)?;
        let OpenLogBatch { signal, tenant, key, checksum, dict, .. } = open;
        Ok(Self { signal, tenant, key, checksum, dict, rows })
    }

    /// First and last time; none if there is no row.
    pub fn span(&self) -> Option<(TimestampNs, TimestampNs)> {
        self.rows.times().first().copied().zip(self.rows.times().last().copied())
    }
}

/// What `apply` answers for one sub-batch of logs; equal on all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogBatchOutcome {
    /// All of it is applied.
    Applied {
        /// Records.
        records: u64,
    },
    /// A batch of that key was applied before: nothing changed.
    Duplicate {
        /// Records of the batch that came again.
        records: u64,
    },
    /// Nothing is applied: the shard remembers as many keys as it may.
    WindowFull {
        /// How many.
        keys: u64,
    },
    /// Nothing is applied: the bytes are no sub-batch. A router never sends such.
    Rejected {
        /// What is wrong.
        reason: String,
    },
}

/// Bytes that are no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outcome of a log sub-batch is malformed")]
pub struct LogOutcomeError;

impl LogBatchOutcome {
    /// Appends the outcome's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Self::Applied { records } => {
                out.push(0);
                varint::write_u64(out, *records);
            }
            Self::Duplicate { records } => {
                out.push(1);
                varint::write_u64(out, *records);
            }
            Self::WindowFull { keys } => {
                out.push(2);
                varint::write_u64(out, *keys);
            }
            Self::Rejected { reason } => {
                out.push(3);
                varint::write_prefixed(out, reason.as_bytes());
            }
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, LogOutcomeError> {
        let input = &mut bytes;
        let head = varint::read_bytes(input, 2).ok_or(LogOutcomeError)?;
        let number = |input: &mut &[u8]| varint::read_u64(input).ok_or(LogOutcomeError);
        let outcome = match head {
            [VERSION, 0] => Self::Applied { records: number(input)? },
            [VERSION, 1] => Self::Duplicate { records: number(input)? },
            [VERSION, 2] => Self::WindowFull { keys: number(input)? },
            [VERSION, 3] => {
                let reason = varint::read_prefixed(input).ok_or(LogOutcomeError)?;
                Self::Rejected { reason: String::from_utf8_lossy(reason).into_owned() }
            }
            _ => return Err(LogOutcomeError),
        };
        if input.is_empty() { Ok(outcome) } else { Err(LogOutcomeError) }
    }
}

#[cfg(test)]
mod tests;
