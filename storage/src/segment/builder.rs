//! Builds a segment from series that come in order, in one pass, holding little more than what is not yet written.

use hashbrown::HashMap;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::varint;

use super::header::{END_MAGIC, SegmentHeader, Summary};
use super::labels_index::LabelsIndexWriter;
use super::metadata::{self, MetadataMap, MetricMetadata};
use super::rows::{Output, RowsWriter};
use super::sink::Sink;
use super::{BuildError, Exemplar, SegmentName, StartTime};
use crate::encoding::floats::FloatEncoder;
use crate::encoding::{Effort, blobs, frame, ints, times};

/// Sections of the footer's table, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    Labels = 1,
    Metadata = 2,
    Times = 3,
    Floats = 4,
    Histograms = 5,
    Exemplars = 6,
    StartTimes = 7,
}

impl SectionKind {
    pub(super) const ALL: [Self; 7] = [
        Self::Labels,
        Self::Metadata,
        Self::Times,
        Self::Floats,
        Self::Histograms,
        Self::Exemplars,
        Self::StartTimes,
    ];

    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Metadata => "metadata",
            Self::Times => "times",
            Self::Floats => "floats",
            Self::Histograms => "histograms",
            Self::Exemplars => "exemplars",
            Self::StartTimes => "start times",
        }
    }
}

/// Columns of one series. Those that it does not have stay empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeriesInput<'a> {
    /// Times of the floats, strictly ascending.
    pub float_times: &'a [i64],
    /// As many values.
    pub float_values: &'a [f64],
    /// Times of the native histograms, strictly ascending.
    pub histogram_times: &'a [i64],
    /// As many encoded histograms.
    pub histograms: &'a [&'a [u8]],
    /// Exemplars, times ascending; equal times are fine.
    pub exemplars: &'a [Exemplar],
    /// Where the start time changes, times strictly ascending. Entries that repeat the start before them are
    /// left out.
    pub start_times: &'a [StartTime],
}

/// A built segment.
#[derive(Debug)]
pub struct SealedSegment<S> {
    /// Where its bytes went.
    pub sink: S,
    /// Its name: the hash of its bytes.
    pub name: SegmentName,
    /// Its length.
    pub len_bytes: u64,
    /// What is in it.
    pub summary: Summary,
}

/// Builds one segment.
///
/// `push` series in strictly ascending order of (tenant, [`super::compare_series`]), then `finish`.
pub struct SegmentBuilder<S> {
    header: SegmentHeader,
    effort: Effort,
    out: Output<S>,
    summary: Summary,
    labels: LabelsIndexWriter,
    metadata: MetadataMap,
    pool: TimePool,
    encoder: FloatEncoder,
    times: RowsWriter,
    floats: RowsWriter,
    histograms: RowsWriter,
    exemplars: RowsWriter,
    start_times: RowsWriter,
}

impl SegmentBuilder<Vec<u8>> {
    /// Builds in memory.
    pub fn new(header: SegmentHeader, effort: Effort) -> Self {
        Self::with_sink(header, effort, Vec::new()).expect("a vector takes any bytes")
    }
}

impl<S: Sink> SegmentBuilder<S> {
    /// Builds into a sink.
    pub fn with_sink(header: SegmentHeader, effort: Effort, sink: S) -> Result<Self, BuildError> {
        let mut out = Output::new(sink);
        out.write(&header.encode())?;
        Ok(Self {
            header,
            effort,
            out,
            summary: Summary::default(),
            labels: LabelsIndexWriter::default(),
            metadata: MetadataMap::new(),
            pool: TimePool::default(),
            encoder: FloatEncoder::of_epoch(header.encoder_epoch),
            times: RowsWriter::default(),
            floats: RowsWriter::default(),
            histograms: RowsWriter::default(),
            exemplars: RowsWriter::default(),
            start_times: RowsWriter::default(),
        })
    }

    /// Adds the next series. After an error nothing of it was added, except after [`BuildError::Io`].
    pub fn push(
        &mut self,
        tenant: &TenantId,
        labels: &Labels,
        columns: &SeriesInput<'_>,
    ) -> Result<(), BuildError> {
        check(labels, columns)?;
        let series = self.summary.series;
        let next = series.checked_add(1).ok_or(BuildError::Full("series"))?;
        if !self.labels.push(tenant.as_str(), labels) {
            return Err(BuildError::OutOfOrder { tenant: tenant.to_string(), labels: labels.clone() });
        }
        self.summary.series = next;
        // Every series has a row of floats, so that its number finds it without a search.
        let vector = self.vector(columns.float_times)?;
        self.encoder.encode(columns.float_values, self.effort, self.floats.blob());
        self.floats.end_row(series, vector, &mut self.out)?;
        self.summary.floats += columns.float_values.len() as u64;
        if !columns.histograms.is_empty() {
            let vector = self.vector(columns.histogram_times)?;
            blobs::encode(columns.histograms.iter().copied(), self.level(), self.histograms.blob());
            self.histograms.end_row(series, vector, &mut self.out)?;
            self.summary.histograms += columns.histograms.len() as u64;
        }
        if let [first, .., last] | [first @ last] = columns.exemplars {
            encode_exemplars(columns.exemplars, self.level(), &mut self.encoder, self.exemplars.blob());
            self.exemplars.end_row(series, 0, &mut self.out)?;
            self.summary.exemplars += columns.exemplars.len() as u64;
            self.summary.cover(first.time_ms);
            self.summary.cover(last.time_ms);
        }
        if !columns.start_times.is_empty() {
            encode_start_times(columns.start_times, self.start_times.blob());
            self.start_times.end_row(series, 0, &mut self.out)?;
        }
        Ok(())
    }

    /// Adds metadata of a metric; of several for one family the last counts.
    pub fn push_metadata(&mut self, tenant: &TenantId, metadata: MetricMetadata) {
        let families = self.metadata.entry(tenant.as_str().to_owned()).or_default();
        families.insert(metadata.family.clone(), metadata);
    }

    /// Number of series so far.
    pub fn series(&self) -> u32 {
        self.summary.series
    }

    /// Bytes written so far; what is in unfinished blocks and the labels come on top.
    pub fn written_bytes(&self) -> u64 {
        self.out.offset()
    }

    /// Writes what is left, the index and the footer.
    pub fn finish(mut self) -> Result<SealedSegment<S>, BuildError> {
        let level = self.level();
        let mut table = Vec::new();
        let mut sections = Vec::new();
        let labels = self.labels.finish(&mut self.out)?;
        sections.push((SectionKind::Labels, framed(&labels, level)));
        sections.push((SectionKind::Metadata, framed(&metadata::encode(&self.metadata), level)));
        sections.push((SectionKind::Times, self.times.finish(&mut self.out)?));
        sections.push((SectionKind::Floats, self.floats.finish(&mut self.out)?));
        sections.push((SectionKind::Histograms, self.histograms.finish(&mut self.out)?));
        sections.push((SectionKind::Exemplars, self.exemplars.finish(&mut self.out)?));
        sections.push((SectionKind::StartTimes, self.start_times.finish(&mut self.out)?));
        for (kind, bytes) in sections {
            table.push(kind as u8);
            varint::write_u64(&mut table, self.out.offset());
            varint::write_u64(&mut table, bytes.len() as u64);
            table.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
            self.out.write(&bytes)?;
        }
        let mut footer = Vec::new();
        self.summary.encode(&mut footer);
        footer.push(SectionKind::ALL.len() as u8);
        footer.extend_from_slice(&table);
        let footer_len = footer.len() as u32;
        let footer_crc = crc32c::crc32c(&footer);
        footer.extend_from_slice(&footer_len.to_le_bytes());
        footer.extend_from_slice(&footer_crc.to_le_bytes());
        let file_len = self.out.offset() + footer.len() as u64 + 16;
        footer.extend_from_slice(&file_len.to_le_bytes());
        footer.extend_from_slice(&END_MAGIC);
        self.out.write(&footer)?;
        let (sink, len_bytes, hash) = self.out.finish();
        Ok(SealedSegment { sink, name: SegmentName(hash), len_bytes, summary: self.summary })
    }

    fn level(&self) -> i32 {
        match self.effort {
            Effort::Fast => 1,
            Effort::Thorough => 3,
        }
    }

    /// Number plus one of a vector of times, 0 for the empty one; written when it is new.
    fn vector(&mut self, times: &[i64]) -> Result<u32, BuildError> {
        let ([first, .., last] | [first @ last]) = times else { return Ok(0) };
        self.summary.cover(*first);
        self.summary.cover(*last);
        match self.pool.find_or_add(times) {
            Found::Known(number) => Ok(number + 1),
            Found::New(number) => {
                if number >= u32::MAX - 1 {
                    return Err(BuildError::Full("timestamp vectors"));
                }
                times::encode(times, self.header.partition.start_ms, self.times.blob());
                self.times.end_row(number, 0, &mut self.out)?;
                self.summary.time_vectors = number + 1;
                Ok(number + 1)
            }
        }
    }
}

fn check(labels: &Labels, columns: &SeriesInput<'_>) -> Result<(), BuildError> {
    let column = |column| BuildError::Column { column, labels: labels.clone() };
    let ascending = |times: &[i64]| times.is_sorted_by(|a, b| a < b);
    if columns.float_times.len() != columns.float_values.len() || !ascending(columns.float_times) {
        return Err(column("float"));
    }
    if columns.histogram_times.len() != columns.histograms.len() || !ascending(columns.histogram_times) {
        return Err(column("histogram"));
    }
    if !columns.exemplars.is_sorted_by_key(|exemplar| exemplar.time_ms) {
        return Err(column("exemplar"));
    }
    if !columns.start_times.is_sorted_by(|a, b| a.time_ms < b.time_ms) {
        return Err(column("start time"));
    }
    let longest = columns.float_times.len().max(columns.histogram_times.len()).max(columns.exemplars.len());
    if longest.max(columns.start_times.len()) > times::MAX_TIMES {
        return Err(BuildError::Full("samples of a series"));
    }
    Ok(())
}

fn framed(raw: &[u8], level: i32) -> Vec<u8> {
    let mut section = Vec::new();
    frame::write(raw, level, &mut section);
    section
}

/// `count varint, times (ints), length of the values varint, values, labels (blobs)`
fn encode_exemplars(exemplars: &[Exemplar], level: i32, encoder: &mut FloatEncoder, out: &mut Vec<u8>) {
    varint::write_u64(out, exemplars.len() as u64);
    let times: Vec<i64> = exemplars.iter().map(|exemplar| exemplar.time_ms).collect();
    ints::encode(&times, 0, out);
    let values: Vec<f64> = exemplars.iter().map(|exemplar| exemplar.value).collect();
    let mut coded = Vec::new();
    encoder.encode(&values, Effort::Fast, &mut coded);
    varint::write_prefixed(out, &coded);
    blobs::encode(exemplars.iter().map(|exemplar| exemplar.labels.as_bytes()), level, out);
}

/// `count varint, times (ints), starts (ints)`
fn encode_start_times(starts: &[StartTime], out: &mut Vec<u8>) {
    let mut changes: Vec<StartTime> = Vec::with_capacity(starts.len());
    for start in starts {
        if changes.last().is_none_or(|last| last.start_ms != start.start_ms) {
            changes.push(*start);
        }
    }
    varint::write_u64(out, changes.len() as u64);
    let times: Vec<i64> = changes.iter().map(|start| start.time_ms).collect();
    ints::encode(&times, 0, out);
    let starts: Vec<i64> = changes.iter().map(|start| start.start_ms).collect();
    ints::encode(&starts, 0, out);
}

/// Finds vectors of times that were seen before, by content.
///
/// Vectors are kept as they are while there are few, and by a strong digest past that, so that memory stays bounded
/// where every series has times of its own.
#[derive(Default)]
struct TimePool {
    by_hash: HashMap<u64, u32>,
    kept: Vec<Kept>,
    kept_raw_bytes: usize,
    last: Option<u32>,
}

enum Kept {
    Raw(Box<[i64]>),
    Digest([u8; 16]),
}

enum Found {
    Known(u32),
    New(u32),
}

/// Bytes of vectors that are kept as they are.
const POOL_RAW_BYTES: usize = 16 << 20;
/// Places that a vector may have in the table. Vectors that find all taken are stored again: only size suffers.
const POOL_TRIES: u64 = 4;

impl TimePool {
    fn find_or_add(&mut self, times: &[i64]) -> Found {
        if let Some(last) = self.last
            && matches!(&self.kept[last as usize], Kept::Raw(raw) if **raw == *times)
        {
            return Found::Known(last);
        }
        let hash = hash_times(times);
        let mut digest = None;
        let next = self.kept.len() as u32;
        for attempt in 0..POOL_TRIES {
            let Some(&number) = self.by_hash.get(&hash.wrapping_add(attempt)) else {
                self.by_hash.insert(hash.wrapping_add(attempt), next);
                break;
            };
            let equal = match &self.kept[number as usize] {
                Kept::Raw(raw) => **raw == *times,
                Kept::Digest(other) => digest.get_or_insert_with(|| digest_times(times)) == other,
            };
            if equal {
                self.last = Some(number);
                return Found::Known(number);
            }
        }
        if self.kept_raw_bytes < POOL_RAW_BYTES {
            self.kept_raw_bytes += size_of_val(times);
            self.kept.push(Kept::Raw(times.into()));
        } else {
            self.kept.push(Kept::Digest(digest.unwrap_or_else(|| digest_times(times))));
        }
        self.last = Some(next);
        Found::New(next)
    }
}

/// A fast hash for the table. Equality never rests on it.
fn hash_times(times: &[i64]) -> u64 {
    const MULTIPLIERS: [u64; 4] =
        [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];
    let mut lanes = [times.len() as u64; 4];
    for chunk in times.chunks(4) {
        for ((lane, time), multiplier) in lanes.iter_mut().zip(chunk).zip(MULTIPLIERS) {
            *lane = (*lane ^ *time as u64).wrapping_mul(multiplier).rotate_left(29);
        }
    }
    lanes.iter().fold(0, |hash, lane| (hash ^ lane).wrapping_mul(MULTIPLIERS[0]).rotate_left(31))
}

fn digest_times(times: &[i64]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0u8; 1024];
    for chunk in times.chunks(buffer.len() / 8) {
        for (bytes, time) in buffer.chunks_exact_mut(8).zip(chunk) {
            bytes.copy_from_slice(&time.to_le_bytes());
        }
        hasher.update(&buffer[..chunk.len() * 8]);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_knows_vectors_by_content_beyond_what_it_keeps() {
        let mut pool = TimePool { kept_raw_bytes: POOL_RAW_BYTES - 1, ..Default::default() };
        let vectors: Vec<Vec<i64>> = (0..50).map(|i| (0..300).map(|k| k * 1000 + i).collect()).collect();
        for (i, times) in vectors.iter().enumerate() {
            assert!(matches!(pool.find_or_add(times), Found::New(n) if n as usize == i));
        }
        for (i, times) in vectors.iter().enumerate() {
            assert!(matches!(pool.find_or_add(times), Found::Known(n) if n as usize == i));
        }
        assert_eq!(pool.kept.iter().filter(|kept| matches!(kept, Kept::Raw(_))).count(), 1);
    }
}
