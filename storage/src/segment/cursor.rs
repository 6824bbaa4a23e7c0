//! Reads the labels and columns of series. A cursor keeps what it decoded last, so that walking series in order
//! touches each block once; jumping about is right too, only slower.

use std::ops::{Deref, Range};
use std::sync::Arc;

use protocol::labels::Labels;
use protocol::varint;

use super::dictionary::Dictionary;
use super::labels_index::PartReader;
use super::reader::SegmentReader;
use super::rows::{Located, RowBlock};
use super::{Corruption, Exemplar, SegmentError, StartTime};
use crate::encoding::blobs::{self, BlobColumn};
use crate::encoding::{DecodeError, floats, ints};
use crate::tally::Tally;

/// Times of some samples: a range of a vector that other series may share.
#[derive(Clone, Debug)]
pub struct TimeSlice {
    vector: Arc<[i64]>,
    range: Range<usize>,
}

impl TimeSlice {
    /// The whole vector. Series that were sampled together have the same one: compare by [`Arc::ptr_eq`].
    pub fn vector(&self) -> &Arc<[i64]> {
        &self.vector
    }

    /// The part of the vector that is meant.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Whether all of the vector is meant.
    pub fn is_whole(&self) -> bool {
        self.range.len() == self.vector.len()
    }
}

impl Deref for TimeSlice {
    type Target = [i64];
    fn deref(&self) -> &[i64] {
        &self.vector[self.range.clone()]
    }
}

/// Reads series of one segment. Not shared: each reader of a segment takes its own.
pub struct SegmentCursor {
    reader: SegmentReader,
    part: CurrentPart,
    part_reader: PartReader,
    label_bytes: Vec<u8>,
    floats: RowBlock,
    histograms: RowBlock,
    exemplars: RowBlock,
    start_times: RowBlock,
    times: RowBlock,
    /// Vectors used lately, by the low bits of their number: neighbouring series take turns with a few.
    vectors: Vec<Option<(u32, Arc<[i64]>)>>,
    /// Places of staleness markers, and values, for counting.
    stale: Vec<u32>,
    values: Vec<f64>,
}

/// Vectors that a cursor remembers; a power of two.
const CURSOR_VECTORS: usize = 512;

/// The columns of a part. They are decoded once enough of its series were asked for: whoever wants few reads these one
/// by one where the code of a column allows it.
#[derive(Default)]
struct CurrentPart {
    number: Option<usize>,
    first_series: u32,
    series: u32,
    /// Series read one by one so far.
    singles: u32,
    /// Name number, dictionary and ids of each label, in the order of labels.
    columns: Vec<PartColumn>,
}

/// One of so many series of a part may be read singly before its columns are decoded.
const SINGLES: u32 = 32;

struct PartColumn {
    name: u32,
    dictionary: Arc<Dictionary>,
    ids: ColumnIds,
}

enum ColumnIds {
    Constant(u32),
    /// Still coded: the column of this number.
    Coded(usize),
    Each(Vec<u32>),
}

impl SegmentCursor {
    pub(super) fn new(reader: SegmentReader) -> Self {
        Self {
            reader,
            part: CurrentPart::default(),
            part_reader: PartReader::default(),
            label_bytes: Vec::new(),
            floats: RowBlock::default(),
            histograms: RowBlock::default(),
            exemplars: RowBlock::default(),
            start_times: RowBlock::default(),
            times: RowBlock::default(),
            vectors: Vec::new(),
            stale: Vec::new(),
            values: Vec::new(),
        }
    }

    /// The segment.
    pub fn reader(&self) -> &SegmentReader {
        &self.reader
    }

    /// Name of the tenant that a series belongs to.
    pub fn tenant(&self, series: u32) -> Result<&str, SegmentError> {
        let labels = &self.reader.inner().labels;
        let part = labels.part_of(series).ok_or_else(|| self.no_such(series))?;
        Ok(&labels.tenants[labels.parts[part].tenant as usize])
    }

    /// Canonical bytes of a series' labels, valid until the next call. For comparing without an allocation.
    pub fn label_bytes(&mut self, series: u32) -> Result<&[u8], SegmentError> {
        if self.part.number.is_none() || series.wrapping_sub(self.part.first_series) >= self.part.series {
            let Some(number) = self.reader.inner().labels.part_of(series) else {
                return Err(self.no_such(series));
            };
            self.part.number = None;
            self.load_part(number).map_err(|fault| self.reader.corrupt(fault))?;
        }
        self.fill_label_bytes((series - self.part.first_series) as usize)
            .map_err(|fault| self.reader.corrupt(fault))?;
        Ok(&self.label_bytes)
    }

    /// Labels of a series.
    pub fn labels(&mut self, series: u32) -> Result<Labels, SegmentError> {
        let labels = Labels::from_canonical(self.label_bytes(series)?);
        labels.map_err(|_| self.reader.corrupt((0, Corruption::Bounds("labels of a series"))))
    }

    fn fill_label_bytes(&mut self, row: usize) -> Located<()> {
        let labels = &self.reader.inner().labels;
        let Some(number) = self.part.number else { return Ok(()) };
        let (part, rows) = (labels.parts[number], self.part.series as usize);
        let in_part = |source| labels.in_part(&part, source);
        let mut coded = Vec::new();
        if self.part.columns.iter().any(|column| matches!(column.ids, ColumnIds::Coded(_))) {
            self.part_reader.columns(labels, &self.reader.inner().file, &part, &mut coded)?;
            self.part.singles += 1;
        }
        let all = self.part.singles > self.part.series / SINGLES;
        self.label_bytes.clear();
        for column in &mut self.part.columns {
            let limit = column.dictionary.len() as u32;
            if let ColumnIds::Coded(position) = column.ids
                && (all || coded[position].at(row, rows, limit).map_err(in_part)?.is_none())
            {
                let mut ids = Vec::new();
                coded[position].decode(rows, limit, &mut ids).map_err(in_part)?;
                column.ids = ColumnIds::Each(ids);
            }
            let id = match &column.ids {
                ColumnIds::Constant(id) => *id,
                ColumnIds::Each(ids) => ids[row],
                ColumnIds::Coded(position) => {
                    let id = coded[*position].at(row, rows, limit).map_err(in_part)?;
                    id.ok_or((0, Corruption::Bounds("value id")))?
                }
            };
            let name = &labels.names[column.name as usize].name;
            varint::write_prefixed(&mut self.label_bytes, name.as_bytes());
            varint::write_prefixed(&mut self.label_bytes, column.dictionary.get(id).as_bytes());
        }
        Ok(())
    }

    fn load_part(&mut self, number: usize) -> Located<()> {
        let inner = self.reader.inner();
        let labels = &inner.labels;
        let part = labels.parts[number];
        let mut coded = Vec::new();
        self.part_reader.columns(labels, &inner.file, &part, &mut coded)?;
        let mut coded = coded.into_iter().enumerate();
        let mut columns = Vec::with_capacity(labels.sets[part.set as usize].len());
        for &name in &labels.sets[part.set as usize] {
            let dictionary = labels.dictionary(&inner.file, name)?;
            let limit = dictionary.len() as u32;
            let ids = if Some(name) == labels.metric_name {
                ColumnIds::Constant(part.metric.ok_or((0, Corruption::Bounds("metric of a part")))?)
            } else {
                let (position, column) = coded.next().ok_or((0, Corruption::Bounds("columns of a part")))?;
                match column.constant(limit).map_err(|source| labels.in_part(&part, source))? {
                    Some(id) => ColumnIds::Constant(id),
                    None => ColumnIds::Coded(position),
                }
            };
            columns.push(PartColumn { name, dictionary, ids });
        }
        self.part = CurrentPart {
            number: Some(number),
            first_series: part.first_series,
            series: part.series,
            singles: 0,
            columns,
        };
        Ok(())
    }

    /// Float samples of a series from `start_ms` to `end_ms`, both included. `values` is replaced by their values;
    /// the answer is their times, `None` when there are none.
    pub fn floats(
        &mut self,
        series: u32,
        start_ms: i64,
        end_ms: i64,
        values: &mut Vec<f64>,
    ) -> Result<Option<TimeSlice>, SegmentError> {
        values.clear();
        let read = self.read_floats(series, start_ms, end_ms, values);
        self.located(series, read)
    }

    /// Number of a series' float samples from `start_ms` to `end_ms`, both included, without decoding them.
    pub fn count_floats(&mut self, series: u32, start_ms: i64, end_ms: i64) -> Result<u64, SegmentError> {
        let counted = self.read_count(series, start_ms, end_ms);
        self.located(series, counted)
    }

    fn read_count(&mut self, series: u32, start_ms: i64, end_ms: i64) -> Located<Option<u64>> {
        let inner = self.reader.inner();
        let Some(row) = inner.floats.seek(&inner.file, series, &mut self.floats)? else { return Ok(None) };
        let Some(number) = self.floats.reference(row).checked_sub(1) else { return Ok(Some(0)) };
        let vector = self.vector(number)?;
        Ok(Some(find_range(&vector, start_ms, end_ms).map_or(0, |range| range.len() as u64)))
    }

    /// Counts a series' float samples from `start_ms` to `end_ms`, both included, without staleness markers. Values are
    /// decoded only where their code does not tell which of them are markers.
    pub fn tally_floats(&mut self, series: u32, start_ms: i64, end_ms: i64) -> Result<Tally, SegmentError> {
        let tallied = self.read_tally(series, start_ms, end_ms);
        self.located(series, tallied)
    }

    fn read_tally(&mut self, series: u32, start_ms: i64, end_ms: i64) -> Located<Option<Tally>> {
        let inner = self.reader.inner();
        let Some(row) = inner.floats.seek(&inner.file, series, &mut self.floats)? else { return Ok(None) };
        let Some(number) = self.floats.reference(row).checked_sub(1) else {
            return Ok(Some(Tally::default()));
        };
        let blob = self.floats.blob(row);
        let vector = self.vector(number)?;
        let Some(range) = find_range(&vector, start_ms, end_ms) else { return Ok(Some(Tally::default())) };
        let times = &vector[range.clone()];
        let code = &self.reader.inner().file[blob.clone()];
        let column = |source| (blob.start as u64, Corruption::Column { what: "floats", source });
        if floats::find_stale(code, vector.len(), &mut self.stale).map_err(column)? {
            self.stale.retain(|place| range.contains(&(*place as usize)));
            self.stale.iter_mut().for_each(|place| *place -= range.start as u32);
            return Ok(Some(Tally::of_times(times, &self.stale)));
        }
        floats::decode(code, vector.len(), &mut self.values).map_err(column)?;
        Ok(Some(Tally::of_values(times, &self.values[range])))
    }

    /// First and last time of a series' floats and histograms from `start_ms` to `end_ms`, both included.
    pub fn span(
        &mut self,
        series: u32,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Option<(i64, i64)>, SegmentError> {
        let found = self.read_span(series, start_ms, end_ms);
        self.in_range(series)?;
        found.map_err(|fault| self.reader.corrupt(fault))
    }

    fn read_span(&mut self, series: u32, start_ms: i64, end_ms: i64) -> Located<Option<(i64, i64)>> {
        let reader = self.reader.clone();
        let inner = reader.inner();
        let mut references = [None, None];
        if let Some(row) = inner.floats.seek(&inner.file, series, &mut self.floats)? {
            references[0] = self.floats.reference(row).checked_sub(1);
        }
        if reader.summary().histograms > 0
            && let Some(row) = inner.histograms.seek(&inner.file, series, &mut self.histograms)?
        {
            references[1] = self.histograms.reference(row).checked_sub(1);
        }
        let mut span = None;
        for number in references.into_iter().flatten() {
            let vector = self.vector(number)?;
            if let Some(range) = find_range(&vector, start_ms, end_ms) {
                let (first, last) = (vector[range.start], vector[range.end - 1]);
                span =
                    span.map_or(Some((first, last)), |(a, b): (i64, i64)| Some((a.min(first), b.max(last))));
            }
        }
        Ok(span)
    }

    fn read_floats(
        &mut self,
        series: u32,
        start_ms: i64,
        end_ms: i64,
        values: &mut Vec<f64>,
    ) -> Located<Option<Option<TimeSlice>>> {
        let inner = self.reader.inner();
        let Some(row) = inner.floats.seek(&inner.file, series, &mut self.floats)? else { return Ok(None) };
        let Some(number) = self.floats.reference(row).checked_sub(1) else { return Ok(Some(None)) };
        let blob = self.floats.blob(row);
        let vector = self.vector(number)?;
        let Some(range) = find_range(&vector, start_ms, end_ms) else { return Ok(Some(None)) };
        floats::decode(&self.reader.inner().file[blob.clone()], vector.len(), values)
            .map_err(|source| (blob.start as u64, Corruption::Column { what: "floats", source }))?;
        values.truncate(range.end);
        values.drain(..range.start);
        Ok(Some(Some(TimeSlice { vector, range })))
    }

    /// Encoded native histograms of a series from `start_ms` to `end_ms`, both included. `out` is replaced by them;
    /// the answer is their times, `None` when there are none.
    pub fn histograms(
        &mut self,
        series: u32,
        start_ms: i64,
        end_ms: i64,
        out: &mut BlobColumn,
    ) -> Result<Option<TimeSlice>, SegmentError> {
        out.clear();
        let read = self.read_histograms(series, start_ms, end_ms, out);
        self.in_range(series)?;
        read.map_err(|fault| self.reader.corrupt(fault))
    }

    fn read_histograms(
        &mut self,
        series: u32,
        start_ms: i64,
        end_ms: i64,
        out: &mut BlobColumn,
    ) -> Located<Option<TimeSlice>> {
        let inner = self.reader.inner();
        let Some(row) = inner.histograms.seek(&inner.file, series, &mut self.histograms)? else {
            return Ok(None);
        };
        let blob = self.histograms.blob(row);
        let number = self.histograms.reference(row).checked_sub(1);
        let number = number.ok_or((blob.start as u64, Corruption::Bounds("times of histograms")))?;
        let vector = self.vector(number)?;
        let Some(range) = find_range(&vector, start_ms, end_ms) else { return Ok(None) };
        let all = blobs::decode(&self.reader.inner().file[blob.clone()], vector.len())
            .map_err(|source| (blob.start as u64, Corruption::Column { what: "histograms", source }))?;
        if range.len() == vector.len() {
            *out = all;
        } else {
            range.clone().for_each(|i| out.push(all.get(i)));
        }
        Ok(Some(TimeSlice { vector, range }))
    }

    /// Appends the exemplars of a series from `start_ms` to `end_ms`, both included.
    pub fn exemplars(
        &mut self,
        series: u32,
        start_ms: i64,
        end_ms: i64,
        out: &mut Vec<Exemplar>,
    ) -> Result<(), SegmentError> {
        self.in_range(series)?;
        let inner = self.reader.inner();
        let seek = inner.exemplars.seek(&inner.file, series, &mut self.exemplars);
        let Some(row) = seek.map_err(|fault| self.reader.corrupt(fault))? else { return Ok(()) };
        let blob = self.exemplars.blob(row);
        let all = decode_exemplars(&inner.file[blob.clone()])
            .map_err(|source| (blob.start as u64, Corruption::Column { what: "exemplars", source }))
            .map_err(|fault| self.reader.corrupt(fault))?;
        out.extend(all.into_iter().filter(|exemplar| (start_ms..=end_ms).contains(&exemplar.time_ms)));
        Ok(())
    }

    /// Where the start time of a series changes, in order of time. `out` is replaced.
    pub fn start_times(&mut self, series: u32, out: &mut Vec<StartTime>) -> Result<(), SegmentError> {
        out.clear();
        self.in_range(series)?;
        let inner = self.reader.inner();
        let seek = inner.start_times.seek(&inner.file, series, &mut self.start_times);
        let Some(row) = seek.map_err(|fault| self.reader.corrupt(fault))? else { return Ok(()) };
        let blob = self.start_times.blob(row);
        decode_start_times(&inner.file[blob.clone()], out)
            .map_err(|source| (blob.start as u64, Corruption::Column { what: "start times", source }))
            .map_err(|fault| self.reader.corrupt(fault))
    }

    fn vector(&mut self, number: u32) -> Located<Arc<[i64]>> {
        let slot = number as usize % CURSOR_VECTORS;
        if let Some(Some((known, vector))) = self.vectors.get(slot)
            && *known == number
        {
            return Ok(vector.clone());
        }
        let vector = self.reader.vector(number, &mut self.times)?;
        if self.vectors.is_empty() {
            self.vectors.resize(CURSOR_VECTORS, None);
        }
        self.vectors[slot] = Some((number, vector.clone()));
        Ok(vector)
    }

    fn located<T>(&self, series: u32, read: Located<Option<T>>) -> Result<T, SegmentError> {
        read.map_err(|fault| self.reader.corrupt(fault))?.ok_or_else(|| self.no_such(series))
    }

    fn in_range(&self, series: u32) -> Result<(), SegmentError> {
        if series < self.reader.summary().series { Ok(()) } else { Err(self.no_such(series)) }
    }

    fn no_such(&self, series: u32) -> SegmentError {
        SegmentError::NoSuchSeries { path: self.reader.path().to_owned(), series }
    }
}

/// The non-empty range of ascending times from `start_ms` to `end_ms`, both included.
fn find_range(times: &[i64], start_ms: i64, end_ms: i64) -> Option<Range<usize>> {
    let start = times.partition_point(|time| *time < start_ms);
    let end = start + times[start..].partition_point(|time| *time <= end_ms);
    (start < end).then_some(start..end)
}

fn decode_exemplars(input: &[u8]) -> Result<Vec<Exemplar>, DecodeError> {
    let mut input = input;
    let count = varint::read_len(&mut input).ok_or(DecodeError::Truncated)?;
    let mut times = Vec::new();
    ints::decode(&mut input, count, 0, &mut times)?;
    let coded = varint::read_prefixed(&mut input).ok_or(DecodeError::Truncated)?;
    let mut values = Vec::new();
    floats::decode(coded, count, &mut values)?;
    let labels = blobs::decode(input, count)?;
    let exemplars = times.iter().zip(&values).zip(labels.iter()).map(|((time_ms, value), labels)| {
        let labels =
            Labels::from_canonical(labels).map_err(|_| DecodeError::Malformed("labels of an exemplar"))?;
        Ok(Exemplar { time_ms: *time_ms, value: *value, labels })
    });
    exemplars.collect()
}

fn decode_start_times(input: &[u8], out: &mut Vec<StartTime>) -> Result<(), DecodeError> {
    let mut input = input;
    let count = varint::read_len(&mut input).ok_or(DecodeError::Truncated)?;
    let (mut times, mut starts) = (Vec::new(), Vec::new());
    ints::decode(&mut input, count, 0, &mut times)?;
    ints::decode(&mut input, count, 0, &mut starts)?;
    out.extend(times.into_iter().zip(starts).map(|(time_ms, start_ms)| StartTime { time_ms, start_ms }));
    if input.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes after the start times")) }
}
