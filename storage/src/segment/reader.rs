//! Opens segments and finds series in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use protocol::matcher::{MatchOp, Matcher};
use protocol::varint;

use super::builder::SectionKind;
use super::cursor::SegmentCursor;
use super::header::{END_MAGIC, HEADER_LEN, MAGIC, SegmentHeader, Summary, TRAILER_LEN, VERSION};
use super::labels_index::{LabelsIndex, Part, PartReader, Passing};
use super::metadata::{self, MetadataMap, MetricMetadata};
use super::rows::{Located, RowBlock, RowsReader};
use super::{Corruption, SegmentError, SegmentName};
use crate::encoding::{frame, times};
use crate::fs::Map;

/// Bytes of decoded timestamp vectors that a reader keeps.
const VECTOR_CACHE_BYTES: usize = 16 << 20;

/// An open segment. Cheap to clone; all methods may be called from many threads.
#[derive(Clone)]
pub struct SegmentReader(Arc<Inner>);

pub(super) struct Inner {
    path: PathBuf,
    pub(super) file: Map,
    header: SegmentHeader,
    summary: Summary,
    pub(super) labels: LabelsIndex,
    metadata: MetadataMap,
    pub(super) times: RowsReader,
    pub(super) floats: RowsReader,
    pub(super) histograms: RowsReader,
    pub(super) exemplars: RowsReader,
    pub(super) start_times: RowsReader,
    vectors: Mutex<VectorCache>,
}

/// Decoded vectors, oldest out first.
#[derive(Default)]
struct VectorCache {
    by_number: BTreeMap<u32, Arc<[i64]>>,
    order: VecDeque<u32>,
    bytes: usize,
}

/// Where the bytes of a segment went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSizes {
    /// Dictionaries and value-id columns.
    pub labels: u64,
    /// Timestamp vectors.
    pub times: u64,
    /// Float values and the series table.
    pub floats: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Start times.
    pub start_times: u64,
    /// The file.
    pub whole: u64,
}

/// Series numbers in ascending order, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    ranges: Vec<Range<u32>>,
}

impl Selection {
    /// Number of series.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|range| range.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|range| range.clone())
    }

    /// Disjoint, non-empty ranges of numbers, ascending.
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }

    fn push(&mut self, range: Range<u32>) {
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }
}

impl IntoIterator for Selection {
    type Item = u32;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Range<u32>>>;
    fn into_iter(self) -> Self::IntoIter {
        self.ranges.into_iter().flatten()
    }
}

/// A matcher asked of this segment's values.
struct Resolved {
    name: Option<u32>,
    passing: Passing,
    absent: bool,
}

impl SegmentReader {
    /// Opens a sealed file: verifies header, footer and sections. `path` is for messages only.
    pub fn open(file: Map, path: &Path) -> Result<Self, SegmentError> {
        let corrupt = |offset: u64, reason| SegmentError::Corrupt { path: path.to_owned(), offset, reason };
        let header = read_header(&file).map_err(|fault| fault.of_file(path))?;
        let (summary, sections) = read_footer(&file).map_err(|(offset, reason)| corrupt(offset, reason))?;
        let section = |kind: SectionKind| {
            let range = &sections[kind as usize - 1];
            (&file[range.clone()], move |reason| corrupt(range.start as u64, reason))
        };
        let rows = |kind: SectionKind| {
            let (bytes, corrupt) = section(kind);
            RowsReader::open(kind.what(), bytes, file.len()).map_err(corrupt)
        };
        let raw = |kind: SectionKind| {
            let (bytes, corrupt) = section(kind);
            frame::read(bytes).map_err(|source| corrupt(Corruption::Column { what: kind.what(), source }))
        };
        let labels = LabelsIndex::open(&raw(SectionKind::Labels)?, file.len(), summary.series)
            .map_err(section(SectionKind::Labels).1)?;
        let metadata = metadata::decode(&raw(SectionKind::Metadata)?).map_err(|source| {
            section(SectionKind::Metadata).1(Corruption::Column {
                what: SectionKind::Metadata.what(),
                source,
            })
        })?;
        let inner = Inner {
            path: path.to_owned(),
            header,
            summary,
            labels,
            metadata,
            times: rows(SectionKind::Times)?,
            floats: rows(SectionKind::Floats)?,
            histograms: rows(SectionKind::Histograms)?,
            exemplars: rows(SectionKind::Exemplars)?,
            start_times: rows(SectionKind::StartTimes)?,
            vectors: Mutex::default(),
            file,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// What the writer knew before the first series.
    pub fn header(&self) -> &SegmentHeader {
        &self.0.header
    }

    /// What is in the segment.
    pub fn summary(&self) -> &Summary {
        &self.0.summary
    }

    /// Length of the file.
    pub fn len_bytes(&self) -> u64 {
        self.0.file.len() as u64
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Tenants that have series here, sorted.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.0.labels.tenants.iter().map(String::as_str)
    }

    /// Reads labels and columns of series.
    pub fn cursor(&self) -> SegmentCursor {
        SegmentCursor::new(self.clone())
    }

    /// All series, in order.
    pub fn all(&self) -> Selection {
        let mut selection = Selection::default();
        if self.0.summary.series > 0 {
            selection.push(0..self.0.summary.series);
        }
        selection
    }

    /// The tenant's series that pass all matchers, if the segment has times in the range (ends included) at all.
    /// Whether a series has samples there shows when it is read.
    pub fn select(
        &self,
        tenant: &str,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Selection, SegmentError> {
        let mut selection = Selection::default();
        self.scan(tenant, matchers, start_ms, end_ms, |part, mask, _| {
            let first = part.first_series;
            match mask {
                None => selection.push(first..first + part.series),
                Some(mask) => {
                    for (series, passes) in (first..).zip(mask) {
                        if *passes {
                            selection.push(series..series + 1);
                        }
                    }
                }
            }
            Ok(())
        })?;
        Ok(selection)
    }

    /// Label names of the series that [`SegmentReader::select`] would give.
    pub fn label_names(
        &self,
        tenant: &str,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<BTreeSet<String>, SegmentError> {
        let mut sets = BTreeSet::new();
        self.scan(tenant, matchers, start_ms, end_ms, |part, _, _| {
            sets.insert(part.set);
            Ok(())
        })?;
        let labels = &self.0.labels;
        let numbers: BTreeSet<u32> =
            sets.iter().flat_map(|set| &labels.sets[*set as usize]).copied().collect();
        Ok(numbers.into_iter().map(|number| labels.names[number as usize].name.clone()).collect())
    }

    /// Values of a label among the series that [`SegmentReader::select`] would give; not the empty one.
    pub fn label_values(
        &self,
        tenant: &str,
        name: &str,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<BTreeSet<String>, SegmentError> {
        let labels = &self.0.labels;
        let Some(number) = labels.name(name) else { return Ok(BTreeSet::new()) };
        let limit = labels.names[number as usize].values;
        let is_alone = labels.tenants.len() == 1 && labels.tenants[0] == tenant;
        if matchers.is_empty() && is_alone && self.0.summary.overlaps(start_ms, end_ms) {
            // The dictionary has what some series has.
            let all = labels.dictionary(&self.0.file, number).map_err(|fault| self.corrupt(fault))?;
            return Ok((0..limit).map(|id| all.get(id).to_owned()).collect());
        }
        let mut found = vec![0u64; (limit as usize).div_ceil(64)];
        let mut add = |id: u32| found[id as usize / 64] |= 1 << (id % 64);
        let mut ids = Vec::new();
        self.scan(tenant, matchers, start_ms, end_ms, |part, mask, reader| {
            if labels.metric_name == Some(number) {
                part.metric.into_iter().for_each(&mut add);
                return Ok(());
            }
            let Some(position) = PartReader::column_names(labels, part).position(|n| n == number) else {
                return Ok(());
            };
            let mut columns = Vec::new();
            reader.columns(labels, &self.0.file, part, &mut columns)?;
            let in_part = |source| labels.in_part(part, source);
            match (columns[position].constant(limit).map_err(in_part)?, mask) {
                (Some(id), _) => add(id),
                (None, mask) => {
                    columns[position].decode(part.series as usize, limit, &mut ids).map_err(in_part)?;
                    let passing =
                        ids.iter().enumerate().filter(|(row, _)| mask.is_none_or(|mask| mask[*row]));
                    passing.for_each(|(_, id)| add(*id));
                }
            }
            Ok(())
        })?;
        let dictionary = labels.dictionary(&self.0.file, number).map_err(|fault| self.corrupt(fault))?;
        let holds = |id: &u32| found[*id as usize / 64] >> (id % 64) & 1 != 0;
        Ok((0..limit).filter(holds).map(|id| dictionary.get(id).to_owned()).collect())
    }

    /// Number of series of each metric of a tenant; `""` stands for those without a name.
    pub fn series_per_metric(&self, tenant: &str) -> Result<BTreeMap<String, u64>, SegmentError> {
        let labels = &self.0.labels;
        let mut counts = BTreeMap::new();
        let dictionary = match labels.metric_name {
            None => None,
            Some(name) => Some(labels.dictionary(&self.0.file, name).map_err(|fault| self.corrupt(fault))?),
        };
        for part in &labels.parts[labels.tenant_parts(tenant)] {
            let name = match (&dictionary, part.metric) {
                (Some(dictionary), Some(id)) => dictionary.get(id),
                _ => "",
            };
            *counts.entry(name.to_owned()).or_default() += u64::from(part.series);
        }
        Ok(counts)
    }

    /// Metadata of a tenant's metrics, sorted by family.
    pub fn metadata(&self, tenant: &str) -> impl Iterator<Item = &MetricMetadata> {
        self.0.metadata.get(tenant).into_iter().flat_map(BTreeMap::values)
    }

    /// Tenants that have metadata here, sorted.
    pub fn metadata_tenants(&self) -> impl Iterator<Item = &str> {
        self.0.metadata.keys().map(String::as_str)
    }

    /// Bytes by what they hold; together with header, directories and footer they are the whole file.
    pub fn sizes(&self) -> SegmentSizes {
        let inner = &self.0;
        SegmentSizes {
            labels: inner.labels.len_bytes(),
            times: inner.times.len_bytes(),
            floats: inner.floats.len_bytes(),
            histograms: inner.histograms.len_bytes(),
            exemplars: inner.exemplars.len_bytes(),
            start_times: inner.start_times.len_bytes(),
            whole: self.len_bytes(),
        }
    }

    /// Checks the whole file against the name it should have: the scrub's question. Reads every byte.
    pub fn verify(&self, name: SegmentName) -> Result<(), SegmentError> {
        if SegmentName::of(&self.0.file) == name {
            Ok(())
        } else {
            Err(self.corrupt((0, Corruption::Checksum("whole file"))))
        }
    }

    /// Visits the parts with passing series. The mask says which pass; `None` means all of them.
    fn scan(
        &self,
        tenant: &str,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        mut visit: impl FnMut(&Part, Option<&[bool]>, &mut PartReader) -> Located<()>,
    ) -> Result<(), SegmentError> {
        if !self.0.summary.overlaps(start_ms, end_ms) {
            return Ok(());
        }
        self.scan_parts(tenant, matchers, &mut visit).map_err(|fault| self.corrupt(fault))
    }

    fn scan_parts(
        &self,
        tenant: &str,
        matchers: &[Matcher],
        visit: &mut dyn FnMut(&Part, Option<&[bool]>, &mut PartReader) -> Located<()>,
    ) -> Located<()> {
        let labels = &self.0.labels;
        let parts = &labels.parts[labels.tenant_parts(tenant)];
        if parts.is_empty() {
            return Ok(());
        }
        let mut resolved = Vec::with_capacity(matchers.len());
        for matcher in matchers {
            let matcher = self.resolve(matcher)?;
            if matches!(matcher.passing, Passing::None) && !matcher.absent {
                return Ok(());
            }
            resolved.push(matcher);
        }
        let (mut reader, mut mask, mut ids) = (PartReader::default(), Vec::new(), Vec::new());
        let mut asked = Vec::new();
        for part in parts {
            asked.clear();
            if !resolved.iter().all(|matcher| ask_part(labels, part, matcher, &mut asked)) {
                continue;
            }
            if asked.is_empty() {
                visit(part, None, &mut reader)?;
                continue;
            }
            mask.clear();
            mask.resize(part.series as usize, true);
            let mut columns = Vec::new();
            reader.columns(labels, &self.0.file, part, &mut columns)?;
            for (position, matcher) in &asked {
                let limit = matcher.name.map_or(0, |name| labels.names[name as usize].values);
                columns[*position]
                    .decode(part.series as usize, limit, &mut ids)
                    .map_err(|source| labels.in_part(part, source))?;
                mask.iter_mut().zip(&ids).for_each(|(passes, id)| *passes &= matcher.passing.holds(*id));
            }
            if mask.contains(&true) {
                visit(part, Some(&mask), &mut reader)?;
            }
        }
        Ok(())
    }

    fn resolve(&self, matcher: &Matcher) -> Located<Resolved> {
        let labels = &self.0.labels;
        let absent = matcher.matches_absent();
        let Some(name) = labels.name(matcher.name()) else {
            return Ok(Resolved { name: None, passing: Passing::None, absent });
        };
        let dictionary = labels.dictionary(&self.0.file, name)?;
        let passing = match matcher.finite_values() {
            Some(values) => {
                let ids: Vec<u32> = values.into_iter().filter_map(|value| dictionary.find(value)).collect();
                Passing::only(&ids, dictionary.len())
            }
            None if matcher.op() == MatchOp::NotEqual && dictionary.find(matcher.value()).is_none() => {
                Passing::All
            }
            None => Passing::of(&dictionary, |value| matcher.matches(value)),
        };
        Ok(Resolved { name: Some(name), passing, absent })
    }

    /// A decoded vector. `block` is the caller's place among the blocks of times.
    pub(super) fn vector(&self, number: u32, block: &mut RowBlock) -> Located<Arc<[i64]>> {
        let lock = || self.0.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vector) = lock().by_number.get(&number) {
            return Ok(vector.clone());
        }
        let row = self.0.times.seek(&self.0.file, number, block)?;
        let row = row.ok_or((0, Corruption::Bounds("number of a timestamp vector")))?;
        let blob = block.blob(row);
        let mut decoded = Vec::new();
        times::decode(&self.0.file[blob.clone()], self.0.header.partition.start_ms, &mut decoded)
            .map_err(|source| (blob.start as u64, Corruption::Column { what: "times", source }))?;
        let vector: Arc<[i64]> = decoded.into();
        let mut cache = lock();
        // Another thread may have been faster; its vector is the one to share.
        if let Some(vector) = cache.by_number.get(&number) {
            return Ok(vector.clone());
        }
        cache.bytes += size_of_val(&*vector);
        cache.by_number.insert(number, vector.clone());
        cache.order.push_back(number);
        while cache.bytes > VECTOR_CACHE_BYTES
            && let Some(oldest) = cache.order.pop_front()
        {
            if let Some(gone) = cache.by_number.remove(&oldest) {
                cache.bytes -= size_of_val(&*gone);
            }
        }
        Ok(vector)
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(super) fn corrupt(&self, (offset, reason): (u64, Corruption)) -> SegmentError {
        SegmentError::Corrupt { path: self.0.path.clone(), offset, reason }
    }
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentReader").field("path", &self.0.path).field("summary", &self.0.summary).finish()
    }
}

/// Whether a part can have passing series, as far as its names and metric tell. Columns that must be scanned for
/// the answer are added to `asked`, by position.
fn ask_part<'a>(
    labels: &LabelsIndex,
    part: &Part,
    matcher: &'a Resolved,
    asked: &mut Vec<(usize, &'a Resolved)>,
) -> bool {
    let Some(name) = matcher.name else { return matcher.absent };
    if labels.metric_name == Some(name) {
        return part.metric.map_or(matcher.absent, |id| matcher.passing.holds(id));
    }
    match PartReader::column_names(labels, part).position(|n| n == name) {
        None => matcher.absent,
        Some(position) => match matcher.passing {
            Passing::None => false,
            Passing::All => true,
            _ => {
                asked.push((position, matcher));
                true
            }
        },
    }
}

pub(crate) enum HeaderFault {
    Version(u16),
    Corrupt(Corruption),
}

impl HeaderFault {
    pub(crate) fn of_file(self, path: &Path) -> SegmentError {
        let path = path.to_owned();
        match self {
            Self::Version(version) => SegmentError::UnsupportedVersion { path, version },
            Self::Corrupt(reason) => SegmentError::Corrupt { path, offset: 0, reason },
        }
    }
}

pub(crate) fn read_header(file: &[u8]) -> Result<SegmentHeader, HeaderFault> {
    let not_a_segment = HeaderFault::Corrupt(Corruption::NotASegment);
    let Some(bytes) = file.first_chunk::<HEADER_LEN>() else { return Err(not_a_segment) };
    if bytes[..8] != MAGIC {
        return Err(not_a_segment);
    }
    let (body, crc) = bytes.split_at(HEADER_LEN - 4);
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(HeaderFault::Corrupt(Corruption::Checksum("header")));
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version == 0 || version > VERSION {
        return Err(HeaderFault::Version(version));
    }
    SegmentHeader::decode(bytes).ok_or(HeaderFault::Corrupt(Corruption::Bounds("signal")))
}

/// The footer's bytes, their checksum verified, and where they begin.
pub(crate) fn footer_of(file: &[u8]) -> Located<(usize, &[u8])> {
    let end = file.len() as u64;
    let not_whole = (end, Corruption::NotASegment);
    let trailer =
        file.get(HEADER_LEN..).and_then(|rest| rest.last_chunk::<TRAILER_LEN>()).ok_or(not_whole)?;
    let u32_at = |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().expect("4 bytes"));
    let len = u64::from_le_bytes(trailer[8..16].try_into().expect("8 bytes"));
    if trailer[16..] != END_MAGIC || len != end {
        return Err(not_whole);
    }
    let footer_end = file.len() - TRAILER_LEN;
    let footer_start = footer_end
        .checked_sub(u32_at(0) as usize)
        .filter(|start| *start >= HEADER_LEN)
        .ok_or((end, Corruption::Bounds("footer")))?;
    let footer = &file[footer_start..footer_end];
    let located = |reason| (footer_start as u64, reason);
    if crc32c::crc32c(footer) != u32_at(4) {
        return Err(located(Corruption::Checksum("footer")));
    }
    Ok((footer_start, footer))
}

/// Reads the footer and verifies the sections' checksums; gives each section's place by its kind.
fn read_footer(file: &[u8]) -> Located<(Summary, Vec<Range<usize>>)> {
    let (footer_start, footer) = footer_of(file)?;
    let located = |reason| (footer_start as u64, reason);
    let mut input = footer;
    let summary = Summary::decode(&mut input).ok_or(located(Corruption::Bounds("summary")))?;
    let count = varint::read_bytes(&mut input, 1).ok_or(located(Corruption::Bounds("section table")))?[0];
    let mut sections = vec![0..0; SectionKind::ALL.len()];
    let mut next = 0;
    for _ in 0..count {
        let (kind, range, crc) =
            read_section_entry(&mut input).ok_or(located(Corruption::Bounds("section table")))?;
        let bytes = file.get(range.clone()).ok_or(located(Corruption::Bounds("section")))?;
        let Some(known) = SectionKind::ALL.iter().find(|known| **known as u8 == kind) else {
            return Err(located(Corruption::Bounds("kind of section")));
        };
        if range.start < next {
            return Err(located(Corruption::Bounds("section")));
        }
        next = range.end;
        if crc32c::crc32c(bytes) != crc {
            return Err((range.start as u64, Corruption::Checksum(known.what())));
        }
        sections[kind as usize - 1] = range;
    }
    if !input.is_empty() || count as usize != sections.len() || sections.iter().any(Range::is_empty) {
        return Err(located(Corruption::Bounds("section table")));
    }
    Ok((summary, sections))
}

fn read_section_entry(input: &mut &[u8]) -> Option<(u8, Range<usize>, u32)> {
    let kind = varint::read_bytes(input, 1)?[0];
    let start = varint::read_len(input)?;
    let end = start.checked_add(varint::read_len(input)?)?;
    let crc = u32::from_le_bytes(varint::read_bytes(input, 4)?.try_into().ok()?);
    Some((kind, start..end, crc))
}
