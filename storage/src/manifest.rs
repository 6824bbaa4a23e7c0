#![doc = include_str!("manifest/format.md")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use protocol::command::{ContentHash, TenantsOver, read_matchers, write_matchers};
use protocol::ids::{LogIndex, ShardId, TenantId};
use protocol::logs::RowSignal;
use protocol::logs::messages::{decode_filter, encode_filter};
use protocol::retention::Kept;
use protocol::varint;

use crate::error::{FormatError, StorageError};
use crate::fs::Fs;
use crate::logs::tombstone::LogTombstone;
use crate::tombstone::Tombstone;

/// Name of the manifest in the shard's directory.
pub const MANIFEST_FILE: &str = "manifest";

const MAGIC: &[u8; 7] = b"PHMANIF";
/// Version of a manifest with merges for which the time of some tenants is over, of one with segments of spans, of one with deletes of logs but
/// none of spans, of one with logs alone, and of one that has nothing of these. Each is written as the first that can say it.
const VERSION: u8 = 5;
const VERSION_WITHOUT_OVER: u8 = 4;
const VERSION_WITHOUT_SPANS: u8 = 3;
const VERSION_WITHOUT_LOG_DELETES: u8 = 2;
const VERSION_WITHOUT_LOGS: u8 = 1;
/// Longest manifest that is read: 64 MiB are half a million segments.
const MAX_BYTES: u64 = 64 << 20;
/// Version of a job's output with metrics of spans, of one with a window, and of the first.
const OUTPUT_VERSION: u8 = 4;
const OUTPUT_VERSION_WITHOUT_SPANS: u8 = 3;
const OUTPUT_VERSION_WITHOUT_WINDOW: u8 = 1;

/// Width of a time partition of metrics.
pub const PARTITION_MS: i64 = 24 * 60 * 60 * 1000;

/// A place in the shard's log, and what Raft must know to go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index of the entry.
    pub index: LogIndex,
    /// The entry's log id, as `cluster` encodes it.
    pub log_id: Bytes,
    /// The membership in force there, as `cluster` encodes it; empty if none was set yet.
    pub membership: Bytes,
}

/// Which samples a segment holds: one signal and retention class, one span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Number of the signal: 0 for metrics, 1 for logs, 2 for spans.
    pub signal: u8,
    /// Retention class: 0, or [`Partition::ROLLED_UP`].
    pub class: u8,
    /// Number of the span of [`PARTITION_MS`] since 1970, or [`Partition::CATCH_ALL`].
    pub bucket: i64,
}

impl Partition {
    /// Class of metrics that are rolled up.
    pub const ROLLED_UP: u8 = 1;

    /// Bucket of segments that hold samples of any age, because a flush met too many spans.
    pub const CATCH_ALL: i64 = i64::MIN;

    /// The partition of a metric sample.
    pub const fn of_metric(time_ms: i64) -> Self {
        Self { signal: 0, class: 0, bucket: time_ms.div_euclid(PARTITION_MS) }
    }

    /// The partition for metric samples of any age.
    pub const fn metric_catch_all() -> Self {
        Self { signal: 0, class: 0, bucket: Self::CATCH_ALL }
    }

    /// The partition of a log record or span.
    pub const fn of_row(signal: RowSignal, time_ms: i64) -> Self {
        Self { signal: signal.number(), class: 0, bucket: time_ms.div_euclid(PARTITION_MS) }
    }

    /// The partition for log records or spans of any age.
    pub const fn row_catch_all(signal: RowSignal) -> Self {
        Self { signal: signal.number(), class: 0, bucket: Self::CATCH_ALL }
    }

    /// What its rows are; `None` if it holds metrics.
    pub const fn rows(self) -> Option<RowSignal> {
        RowSignal::of_number(self.signal)
    }

    /// By which age it goes.
    pub const fn kept(self) -> Kept {
        match self.rows() {
            Some(RowSignal::Logs) => Kept::Logs,
            Some(RowSignal::Spans) => Kept::Spans,
            None if self.class == Self::ROLLED_UP => Kept::Rollups,
            None => Kept::Metrics,
        }
    }

    /// Numbers of the signal and class of what goes by an age.
    pub const fn numbers(kept: Kept) -> (u8, u8) {
        match kept {
            Kept::Metrics => (0, 0),
            Kept::Rollups => (0, Self::ROLLED_UP),
            Kept::Logs => (RowSignal::Logs.number(), 0),
            Kept::Spans => (RowSignal::Spans.number(), 0),
        }
    }

    /// Whether it holds metrics.
    pub const fn is_metrics(self) -> bool {
        self.rows().is_none()
    }

    /// Whether it holds logs.
    pub const fn is_logs(self) -> bool {
        matches!(self.rows(), Some(RowSignal::Logs))
    }

    /// Whether the partition holds samples of any age.
    pub const fn is_catch_all(self) -> bool {
        self.bucket == Self::CATCH_ALL
    }

    /// First and last timestamp.
    pub const fn span(self) -> (i64, i64) {
        if self.is_catch_all() {
            return (i64::MIN, i64::MAX);
        }
        let start = self.bucket.saturating_mul(PARTITION_MS);
        (start, start.saturating_add(PARTITION_MS - 1))
    }
}

/// A file, named by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileRef {
    /// BLAKE3 of the bytes.
    pub hash: ContentHash,
    /// Number of bytes.
    pub len_bytes: u64,
    /// What is in it.
    pub kind: FileKind,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Samples.
    Segment,
    /// Series of the registry.
    Registry,
    /// Metadata of metric families.
    Metadata,
    /// Keys of batches of logs and spans that were applied lately.
    Window,
    /// Metrics that follow from spans.
    SpanMetrics,
}

impl FileKind {
    const fn code(self) -> u8 {
        match self {
            Self::Segment => 0,
            Self::Registry => 1,
            Self::Metadata => 2,
            Self::Window => 3,
            Self::SpanMetrics => 4,
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Segment => "seg",
            Self::Registry => "reg",
            Self::Metadata => "meta",
            Self::Window => "win",
            Self::SpanMetrics => "spm",
        }
    }

    const ALL: [Self; 5] = [Self::Segment, Self::Registry, Self::Metadata, Self::Window, Self::SpanMetrics];

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl FileRef {
    /// The reference to these bytes.
    pub fn of(bytes: &[u8], kind: FileKind) -> Self {
        Self { hash: *blake3::hash(bytes).as_bytes(), len_bytes: bytes.len() as u64, kind }
    }

    /// Name in the shard's `files` directory.
    pub fn name(&self) -> String {
        format!("{}.{}", hex(&self.hash), self.kind.extension())
    }

    /// Reads what [`FileRef::name`] gives.
    pub fn parse(name: &str, len_bytes: u64) -> Option<Self> {
        let (digits, extension) = name.split_once('.')?;
        let kind = FileKind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
        Some(Self { hash: crate::segment::SegmentName::parse(digits)?.0, len_bytes, kind })
    }

    /// Appends the reference.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash);
        varint::write_u64(out, self.len_bytes);
        out.push(self.kind.code());
    }

    /// Reads what [`FileRef::encode`] wrote.
    pub fn decode(input: &mut &[u8]) -> Option<Self> {
        let hash = varint::read_bytes(input, 32)?.try_into().ok()?;
        let len_bytes = varint::read_u64(input)?;
        Some(Self { hash, len_bytes, kind: FileKind::from_code(varint::read_bytes(input, 1)?[0])? })
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

/// A segment, as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Its file.
    pub file: FileRef,
    /// Which samples it holds.
    pub partition: Partition,
    /// Its samples come from log entries after this one ...
    pub log_after: u64,
    /// ... up to this one.
    pub log_last: u64,
    /// Smallest timestamp.
    pub min_time: i64,
    /// Largest timestamp.
    pub max_time: i64,
    /// Number of series.
    pub series: u64,
    /// Number of float samples and histograms.
    pub samples: u64,
    /// Tombstones of entries up to this one were applied when the segment was written.
    pub deleted_upto: u64,
}

impl SegmentMeta {
    /// The last moment for which it may hold anything: its partition's, or its own where the partition has no bounds.
    pub const fn last_ms(&self) -> i64 {
        if self.partition.is_catch_all() { self.max_time } else { self.partition.span().1 }
    }

    /// Appends the segment's description.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.file.encode(out);
        out.extend_from_slice(&[self.partition.signal, self.partition.class]);
        for signed in [self.partition.bucket, self.min_time, self.max_time] {
            varint::write_u64(out, varint::zigzag(signed));
        }
        for number in [self.log_after, self.log_last, self.series, self.samples, self.deleted_upto] {
            varint::write_u64(out, number);
        }
    }

    /// Reads what [`SegmentMeta::encode`] wrote.
    pub fn decode(input: &mut &[u8]) -> Option<Self> {
        let file = FileRef::decode(input).filter(|file| file.kind == FileKind::Segment)?;
        let class = varint::read_bytes(input, 2)?;
        let mut signed = || varint::read_u64(input).map(varint::unzigzag);
        let (bucket, min_time, max_time) = (signed()?, signed()?, signed()?);
        let mut number = || varint::read_u64(input);
        let (log_after, log_last, series, samples, deleted_upto) =
            (number()?, number()?, number()?, number()?, number()?);
        let partition = Partition { signal: class[0], class: class[1], bucket };
        let ordered = log_after < log_last && min_time <= max_time;
        ordered.then_some(Self {
            file,
            partition,
            log_after,
            log_last,
            min_time,
            max_time,
            series,
            samples,
            deleted_upto,
        })
    }

    /// Whether the segment may hold samples of a closed time range.
    pub fn overlaps(&self, range: (i64, i64)) -> bool {
        self.min_time <= range.1 && self.max_time >= range.0
    }

    /// The order of segments in a manifest: by partition, then by log.
    pub fn sort_key(&self) -> (Partition, u64, ContentHash) {
        (self.partition, self.log_after, self.file.hash)
    }
}

/// What a flush or merge made: what its install puts into the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobOutput {
    /// New segments, in the manifest's order.
    pub segments: Vec<SegmentMeta>,
    /// Flush only: a file with the ordinals registered since the files before it, or, if it starts at 0, instead of
    /// them.
    pub registry: Option<RegistryFile>,
    /// Flush only: metadata, if it changed since the file before.
    pub metadata: Option<FileRef>,
    /// Samples dropped because an earlier one had their series and timestamp.
    pub duplicates: u64,
    /// Flush only: keys of log batches that were applied within the window before the cut, if there are any.
    pub window: Option<FileRef>,
    /// Flush only: metrics of all spans up to the cut, if there are spans in it. Only beside a window.
    pub span_metrics: Option<FileRef>,
}

/// A file of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryFile {
    /// The file.
    pub file: FileRef,
    /// Its first ordinal.
    pub first: u32,
    /// Number of ordinals.
    pub count: u32,
}

impl RegistryFile {
    fn encode(&self, out: &mut Vec<u8>) {
        self.file.encode(out);
        varint::write_u64(out, u64::from(self.first));
        varint::write_u64(out, u64::from(self.count));
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        let file = FileRef::decode(input).filter(|file| file.kind == FileKind::Registry)?;
        let mut number = || u32::try_from(varint::read_u64(input)?).ok();
        Some(Self { file, first: number()?, count: number()? })
    }
}

impl JobOutput {
    /// The bytes that an install command carries.
    pub fn encode(&self) -> Vec<u8> {
        let version = match (self.window, self.span_metrics) {
            (Some(_), Some(_)) => OUTPUT_VERSION,
            (Some(_), None) => OUTPUT_VERSION_WITHOUT_SPANS,
            _ => OUTPUT_VERSION_WITHOUT_WINDOW,
        };
        let mut out = vec![version];
        write_list(&mut out, &self.segments, SegmentMeta::encode);
        write_list(&mut out, self.registry.as_slice(), RegistryFile::encode);
        write_list(&mut out, self.metadata.as_slice(), FileRef::encode);
        varint::write_u64(&mut out, self.duplicates);
        if let Some(window) = &self.window {
            window.encode(&mut out);
            self.span_metrics.iter().for_each(|file| file.encode(&mut out));
        }
        out
    }

    /// Reads what [`JobOutput::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        let version = varint::read_bytes(input, 1)?[0];
        if !(OUTPUT_VERSION_WITHOUT_WINDOW..=OUTPUT_VERSION).contains(&version) {
            return None;
        }
        let segments = read_list(input, SegmentMeta::decode)?;
        let registry = read_list(input, RegistryFile::decode)?;
        let metadata = read_list(input, FileRef::decode)?;
        let duplicates = varint::read_u64(input)?;
        let window = match version {
            OUTPUT_VERSION_WITHOUT_SPANS | OUTPUT_VERSION => {
                Some(FileRef::decode(input).filter(|file| file.kind == FileKind::Window)?)
            }
            _ => None,
        };
        let span_metrics = match version {
            OUTPUT_VERSION => Some(FileRef::decode(input).filter(|file| file.kind == FileKind::SpanMetrics)?),
            _ => None,
        };
        let whole = input.is_empty() && registry.len() <= 1 && metadata.len() <= 1;
        let (registry, metadata) = (registry.first().copied(), metadata.first().copied());
        (whole && metadata.is_none_or(|file| file.kind == FileKind::Metadata)).then_some(Self {
            segments,
            registry,
            metadata,
            duplicates,
            window,
            span_metrics,
        })
    }

    /// All files of the output.
    pub fn files(&self) -> impl Iterator<Item = FileRef> {
        let segments = self.segments.iter().map(|s| s.file);
        let small = self.metadata.into_iter().chain(self.window).chain(self.span_metrics);
        segments.chain(self.registry.map(|r| r.file)).chain(small)
    }
}

/// A merge that was begun and not installed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMerge {
    /// Index of the entry that began it.
    pub job: LogIndex,
    /// Encoder epoch of that entry.
    pub encoder_epoch: u16,
    /// Files of its inputs.
    pub inputs: Vec<ContentHash>,
    /// What becomes of tenants whose time is over.
    pub over: TenantsOver,
}

/// The logical manifest: a function of the log up to `op_index`, equal on all replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The shard.
    pub shard: ShardId,
    /// Segments hold what entries up to here wrote; replay starts behind it. `None` before the first flush.
    pub flushed: Option<Position>,
    /// Last manifest operation that took effect; replayed ones up to it are skipped.
    pub op_index: u64,
    /// Cluster time of the entry at `flushed`.
    pub cluster_time_ms: i64,
    /// Registry generation in force behind `flushed`.
    pub generation: u64,
    /// Registry files of that generation, in the order of their ordinals.
    pub registry: Vec<RegistryFile>,
    /// Metadata of metric families.
    pub metadata: Option<FileRef>,
    /// Segments in the order of [`SegmentMeta::sort_key`].
    pub segments: Vec<SegmentMeta>,
    /// Merges under way.
    pub merges: Vec<PendingMerge>,
    /// Deletes that some segment does not reflect yet, by log index.
    pub tombstones: Vec<Tombstone>,
    /// Those of logs.
    pub log_tombstones: Vec<LogTombstone>,
    /// Samples dropped as duplicates since the shard began.
    pub duplicates: u64,
    /// Bytes of segments that flushes wrote since the shard began.
    pub flushed_bytes: u64,
    /// Bytes of segments that merges wrote since the shard began.
    pub merged_bytes: u64,
    /// Keys of log batches that were applied within the window before `flushed`.
    pub window: Option<FileRef>,
    /// Metrics of all spans up to `flushed`.
    pub span_metrics: Option<FileRef>,
}

impl Manifest {
    /// The manifest of a shard that has no data.
    pub fn empty(shard: ShardId) -> Self {
        Self {
            shard,
            flushed: None,
            op_index: 0,
            cluster_time_ms: 0,
            generation: 1,
            registry: Vec::new(),
            metadata: None,
            segments: Vec::new(),
            merges: Vec::new(),
            tombstones: Vec::new(),
            log_tombstones: Vec::new(),
            duplicates: 0,
            flushed_bytes: 0,
            merged_bytes: 0,
            window: None,
            span_metrics: None,
        }
    }

    /// Index of the last entry that segments cover.
    pub fn flushed_index(&self) -> u64 {
        self.flushed.as_ref().map_or(0, |position| position.index.0)
    }

    /// All files that the manifest names, each once, sorted.
    pub fn files(&self) -> Vec<FileRef> {
        let segments = self.segments.iter().map(|s| s.file);
        let registry = self.registry.iter().map(|r| r.file);
        let mut files: Vec<FileRef> = segments
            .chain(registry)
            .chain(self.metadata)
            .chain(self.window)
            .chain(self.span_metrics)
            .collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Digest over all of it.
    pub fn digest(&self) -> ContentHash {
        *blake3::hash(&self.encode()).as_bytes()
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        let has = |signal| self.segments.iter().any(|s| s.partition.rows() == Some(signal));
        let has_logs = self.window.is_some() || has(RowSignal::Logs);
        let version = match (self.log_tombstones.is_empty(), has_logs) {
            _ if self.merges.iter().any(|merge| !merge.over.is_empty()) => VERSION,
            _ if has(RowSignal::Spans) || self.span_metrics.is_some() => VERSION_WITHOUT_OVER,
            (false, _) => VERSION_WITHOUT_SPANS,
            (true, true) => VERSION_WITHOUT_LOG_DELETES,
            (true, false) => VERSION_WITHOUT_LOGS,
        };
        out.push(version);
        out.extend_from_slice(&self.shard.0.to_le_bytes());
        write_list(&mut out, self.flushed.as_slice(), |position, out| {
            varint::write_u64(out, position.index.0);
            varint::write_prefixed(out, &position.log_id);
            varint::write_prefixed(out, &position.membership);
        });
        varint::write_u64(&mut out, self.op_index);
        varint::write_u64(&mut out, varint::zigzag(self.cluster_time_ms));
        varint::write_u64(&mut out, self.generation);
        write_list(&mut out, &self.registry, RegistryFile::encode);
        write_list(&mut out, self.metadata.as_slice(), FileRef::encode);
        write_list(&mut out, &self.segments, SegmentMeta::encode);
        write_list(&mut out, &self.merges, |merge, out| {
            varint::write_u64(out, merge.job.0);
            varint::write_u64(out, u64::from(merge.encoder_epoch));
            write_list(out, &merge.inputs, |hash, out| out.extend_from_slice(hash));
            if version > VERSION_WITHOUT_OVER {
                merge.over.encode(out);
            }
        });
        write_list(&mut out, &self.tombstones, |tombstone, out| {
            varint::write_u64(out, tombstone.index);
            varint::write_prefixed(out, tombstone.tenant.as_str().as_bytes());
            varint::write_u64(out, varint::zigzag(tombstone.start_ms));
            varint::write_u64(out, varint::zigzag(tombstone.end_ms));
            write_matchers(out, &tombstone.matchers);
        });
        for counter in [self.duplicates, self.flushed_bytes, self.merged_bytes] {
            varint::write_u64(&mut out, counter);
        }
        if version > VERSION_WITHOUT_LOGS {
            write_list(&mut out, self.window.as_slice(), FileRef::encode);
        }
        if version > VERSION_WITHOUT_LOG_DELETES {
            write_list(&mut out, &self.log_tombstones, |tombstone, out| {
                varint::write_u64(out, tombstone.index);
                varint::write_prefixed(out, tombstone.tenant.as_str().as_bytes());
                varint::write_u64(out, varint::zigzag(tombstone.start_ns));
                varint::write_u64(out, varint::zigzag(tombstone.end_ns));
                varint::write_prefixed(out, &encode_filter(&tombstone.filter));
            });
        }
        if version > VERSION_WITHOUT_SPANS {
            write_list(&mut out, self.span_metrics.as_slice(), FileRef::encode);
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Takes a file's bytes. The error says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or("shorter than its checksum")?;
        if body.len() < 8 || body[..7] != MAGIC[..] {
            return Err("not a manifest".into());
        }
        if u32::from_le_bytes(*checksum) != crc32c::crc32c(body) {
            return Err("the checksum is wrong".into());
        }
        if !(VERSION_WITHOUT_LOGS..=VERSION).contains(&body[7]) {
            let (what, version) = ("the manifest", body[7]);
            return Err(FormatError::Version { what, version, known: VERSION });
        }
        let manifest = Self::decode_body(body[7], &mut &body[8..]).ok_or("the body is malformed")?;
        let registered = manifest.registry.iter().try_fold(0, |next, file| {
            (file.first == next).then(|| file.first.checked_add(file.count)).flatten()
        });
        if registered.is_none() {
            return Err("registry files do not follow one another".into());
        }
        if !manifest.segments.is_sorted_by(|a, b| a.sort_key() < b.sort_key()) {
            return Err("segments are not in order".into());
        }
        Ok(manifest)
    }

    fn decode_body(version: u8, input: &mut &[u8]) -> Option<Self> {
        let shard = ShardId(u16::from_le_bytes(varint::read_bytes(input, 2)?.try_into().ok()?));
        let flushed = read_list(input, |input| {
            let index = LogIndex(varint::read_u64(input)?);
            let log_id = Bytes::copy_from_slice(varint::read_prefixed(input)?);
            Some(Position {
                index,
                log_id,
                membership: Bytes::copy_from_slice(varint::read_prefixed(input)?),
            })
        })?;
        let op_index = varint::read_u64(input)?;
        let cluster_time_ms = varint::unzigzag(varint::read_u64(input)?);
        let generation = varint::read_u64(input)?;
        let registry = read_list(input, RegistryFile::decode)?;
        let metadata = read_list(input, FileRef::decode)?;
        let segments = read_list(input, SegmentMeta::decode)?;
        let merges = read_list(input, |input| {
            let job = LogIndex(varint::read_u64(input)?);
            let encoder_epoch = u16::try_from(varint::read_u64(input)?).ok()?;
            let inputs = read_list(input, |input| varint::read_bytes(input, 32)?.try_into().ok())?;
            let over = match version {
                VERSION => TenantsOver::decode(input).ok()?,
                _ => TenantsOver::default(),
            };
            Some(PendingMerge { job, encoder_epoch, inputs, over })
        })?;
        let tombstones = read_list(input, |input| {
            let index = varint::read_u64(input)?;
            let tenant = read_tenant(input)?;
            let start_ms = varint::unzigzag(varint::read_u64(input)?);
            let end_ms = varint::unzigzag(varint::read_u64(input)?);
            Some(Tombstone { index, tenant, matchers: read_matchers(input).ok()?, start_ms, end_ms })
        })?;
        let mut counter = || varint::read_u64(input);
        let (duplicates, flushed_bytes, merged_bytes) = (counter()?, counter()?, counter()?);
        let window = match version {
            VERSION_WITHOUT_LOGS => Vec::new(),
            _ => read_list(input, FileRef::decode)?,
        };
        let log_tombstones = match version {
            VERSION_WITHOUT_SPANS.. => read_list(input, |input| {
                let index = varint::read_u64(input)?;
                let tenant = read_tenant(input)?;
                let start_ns = varint::unzigzag(varint::read_u64(input)?);
                let end_ns = varint::unzigzag(varint::read_u64(input)?);
                let filter = decode_filter(varint::read_prefixed(input)?).ok()?;
                Some(LogTombstone { index, tenant, filter, start_ns, end_ns })
            })?,
            _ => Vec::new(),
        };
        let span_metrics = match version {
            VERSION_WITHOUT_OVER.. => read_list(input, FileRef::decode)?,
            _ => Vec::new(),
        };
        let is_window = |file: &FileRef| file.kind == FileKind::Window;
        let is_metrics = |file: &FileRef| file.kind == FileKind::SpanMetrics;
        (window.len() <= 1
            && window.iter().all(is_window)
            && span_metrics.len() <= 1
            && span_metrics.iter().all(is_metrics)
            && input.is_empty()
            && flushed.len() <= 1
            && metadata.len() <= 1)
            .then(|| Self {
                shard,
                flushed: flushed.into_iter().next(),
                op_index,
                cluster_time_ms,
                generation,
                registry,
                metadata: metadata.first().copied(),
                segments,
                merges,
                tombstones,
                log_tombstones,
                duplicates,
                flushed_bytes,
                merged_bytes,
                window: window.first().copied(),
                span_metrics: span_metrics.first().copied(),
            })
    }

    /// Reads the manifest of a shard's directory; `None` if there is none yet.
    pub fn load(fs: &impl Fs, dir: &Path, shard: ShardId) -> Result<Option<Self>, StorageError> {
        let path = Self::path(dir);
        if !fs.exists(&path).map_err(StorageError::io("look-up", &path))? {
            return Ok(None);
        }
        let bytes = fs.read(&path, MAX_BYTES).map_err(StorageError::io("read", &path))?;
        let manifest = Self::decode(&bytes).map_err(|error| error.of_file(&path))?;
        if manifest.shard != shard {
            return Err(StorageError::corrupt(&path, format!("belongs to shard {}", manifest.shard)));
        }
        Ok(Some(manifest))
    }

    /// Makes the manifest the durable one.
    pub fn store(&self, fs: &impl Fs, dir: &Path) -> Result<(), StorageError> {
        let path = Self::path(dir);
        fs.write_atomic(&path, &self.encode()).map_err(StorageError::io("write", &path))
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join(MANIFEST_FILE)
    }
}

fn write_list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&T, &mut Vec<u8>)) {
    varint::write_u64(out, items.len() as u64);
    items.iter().for_each(|item| write(item, out));
}

fn read_tenant(input: &mut &[u8]) -> Option<TenantId> {
    TenantId::new(std::str::from_utf8(varint::read_prefixed(input)?).ok()?).ok()
}

/// Grows with what is really there: the count alone allocates nothing.
fn read_list<T>(input: &mut &[u8], mut read: impl FnMut(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    (0..varint::read_u64(input)?).map(|_| read(input)).collect()
}

#[cfg(test)]
mod tests;
