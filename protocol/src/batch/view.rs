//! Reads a sub-batch in place.
//!
//! [`SubBatchView::parse`] walks everything once and keeps slices; the iterators walk again without checks that could
//! fail. Nothing is allocated but the tenant's name.

use super::{BatchError, MAX_BYTES, Metadata, MetricType, SeriesRef, VERSION};
use crate::histogram;
use crate::ids::{Ordinal, SeriesId, TenantId};
use crate::labels::Labels;
use crate::varint::{read_bytes, read_prefixed, read_u64, unzigzag};

const CHECKED: &str = "the batch was checked when it was parsed";

/// A parsed sub-batch. Iteration over it can not fail.
#[derive(Clone, Debug)]
pub struct SubBatchView<'a> {
    tenant: TenantId,
    generation: u64,
    uses_ordinals: bool,
    new_count: usize,
    new_series: &'a [u8],
    floats: FloatColumn<'a>,
    histograms: HistogramColumn<'a>,
    exemplars: ExemplarColumn<'a>,
    metadata_count: usize,
    metadata: &'a [u8],
}

/// A series that the batch brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSeries<'a> {
    /// Its identity.
    pub id: SeriesId,
    /// Its canonical labels.
    pub label_bytes: &'a [u8],
}

impl NewSeries<'_> {
    /// The labels, copied out of the batch.
    pub fn labels(&self) -> Labels {
        Labels::from_canonical(self.label_bytes).expect(CHECKED)
    }
}

impl<'a> SubBatchView<'a> {
    /// Checks all of the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        if bytes.len() > MAX_BYTES {
            return Err(BatchError::TooLong(bytes.len()));
        }
        let mut input = bytes;
        match read_bytes(&mut input, 1) {
            Some([VERSION]) => {}
            Some(other) => return Err(BatchError::UnknownVersion(other[0])),
            None => return Err(BatchError::Malformed("version")),
        }
        let tenant = read_prefixed(&mut input)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .and_then(|name| TenantId::new(name).ok())
            .ok_or(BatchError::Malformed("tenant"))?;
        let generation = read_u64(&mut input).ok_or(BatchError::Malformed("generation"))?;
        let (new_count, new_series) = parse_new_series(&mut input)?;

        let floats = RowIndex::parse(&mut input, new_count, "floats")?;
        let values = read_f64s(&mut input, floats.count).ok_or(BatchError::Malformed("float values"))?;
        let floats = FloatColumn { rows: floats, values };

        let rows = RowIndex::parse(&mut input, new_count, "histograms")?;
        let blobs = input;
        for row in 0..rows.count {
            let blob = read_prefixed(&mut input).ok_or(BatchError::Malformed("histograms"))?;
            histogram::check(blob).map_err(|source| BatchError::Histogram { row, source })?;
        }
        let histograms = HistogramColumn { rows, blobs };

        let rows = RowIndex::parse(&mut input, new_count, "exemplars")?;
        let values = read_f64s(&mut input, rows.count).ok_or(BatchError::Malformed("exemplar values"))?;
        let labels = input;
        for _ in 0..rows.count {
            let set = read_prefixed(&mut input).ok_or(BatchError::Malformed("exemplars"))?;
            Labels::check_canonical(set)
                .map_err(|source| BatchError::Labels { section: "exemplars", source })?;
        }
        let exemplars = ExemplarColumn { rows, values, labels };

        let metadata_count = read_u64(&mut input).ok_or(BatchError::Malformed("metadata"))?;
        let metadata = input;
        for _ in 0..metadata_count {
            read_metadata(&mut input).ok_or(BatchError::Malformed("metadata"))?;
        }
        if !input.is_empty() {
            return Err(BatchError::Malformed("end"));
        }
        let uses_ordinals =
            floats.rows.uses_ordinals | histograms.rows.uses_ordinals | exemplars.rows.uses_ordinals;
        Ok(Self {
            tenant,
            generation,
            uses_ordinals,
            new_count,
            new_series,
            floats,
            histograms,
            exemplars,
            metadata_count: metadata_count as usize,
            metadata,
        })
    }

    /// Whose data it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Registry generation of the known ordinals; means nothing unless [`Self::uses_ordinals`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether any row names its series by ordinal, so that the generation must be the registry's.
    pub fn uses_ordinals(&self) -> bool {
        self.uses_ordinals
    }

    /// The highest ordinal that any row names.
    pub fn max_ordinal(&self) -> Option<Ordinal> {
        let columns = [&self.floats.rows, &self.histograms.rows, &self.exemplars.rows];
        columns.iter().filter(|rows| rows.uses_ordinals).map(|rows| rows.max_ordinal).max()
    }

    /// Number of series that the batch brings.
    pub fn new_series_len(&self) -> usize {
        self.new_count
    }

    /// The series that the batch brings; the k-th is `SeriesRef::New(k)`.
    pub fn new_series(&self) -> impl ExactSizeIterator<Item = NewSeries<'a>> + use<'a> {
        let mut input = self.new_series;
        (0..self.new_count).map(move |_| read_new_series(&mut input).expect(CHECKED))
    }

    /// Float samples.
    pub fn floats(&self) -> &FloatColumn<'a> {
        &self.floats
    }

    /// Histogram samples.
    pub fn histograms(&self) -> &HistogramColumn<'a> {
        &self.histograms
    }

    /// Exemplars.
    pub fn exemplars(&self) -> &ExemplarColumn<'a> {
        &self.exemplars
    }

    /// Metadata of families.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = Metadata<'a>> + use<'a> {
        let mut input = self.metadata;
        (0..self.metadata_count).map(move |_| read_metadata(&mut input).expect(CHECKED))
    }
}

fn parse_new_series<'a>(input: &mut &'a [u8]) -> Result<(usize, &'a [u8]), BatchError> {
    let count = read_u64(input).ok_or(BatchError::Malformed("new series"))?;
    // Each takes at least 17 bytes, so a count that lies ends the loop early, and u32 positions suffice.
    let section = *input;
    for _ in 0..count {
        let series = read_new_series(input).ok_or(BatchError::Malformed("new series"))?;
        Labels::check_canonical(series.label_bytes)
            .map_err(|source| BatchError::Labels { section: "new series", source })?;
    }
    Ok((count as usize, section))
}

fn read_new_series<'a>(input: &mut &'a [u8]) -> Option<NewSeries<'a>> {
    let id = read_bytes(input, 16)?.try_into().ok()?;
    let label_bytes = read_prefixed(input)?;
    Some(NewSeries { id: SeriesId(u128::from_le_bytes(id)), label_bytes })
}

fn read_metadata<'a>(input: &mut &'a [u8]) -> Option<Metadata<'a>> {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).ok();
    let family = text(read_prefixed(input)?).filter(|name| !name.is_empty())?;
    let metric_type = MetricType::from_code(read_bytes(input, 1)?[0])?;
    let help = text(read_prefixed(input)?)?;
    let unit = text(read_prefixed(input)?)?;
    Some(Metadata { family, metric_type, help, unit })
}

fn read_f64s<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    read_bytes(input, count.checked_mul(8)?)
}

/// Series and times of a column's rows.
#[derive(Clone, Debug)]
pub struct RowIndex<'a> {
    count: usize,
    uses_ordinals: bool,
    max_ordinal: Ordinal,
    refs: &'a [u8],
    times: &'a [u8],
    starts: &'a [u8],
}

impl<'a> RowIndex<'a> {
    fn parse(input: &mut &'a [u8], new_count: usize, section: &'static str) -> Result<Self, BatchError> {
        let malformed = || BatchError::Malformed(section);
        let count = read_u64(input).ok_or_else(malformed)?;
        if count == 0 {
            let (uses_ordinals, max_ordinal) = (false, Ordinal(0));
            return Ok(Self { count: 0, uses_ordinals, max_ordinal, refs: &[], times: &[], starts: &[] });
        }
        let refs = read_prefixed(input).ok_or_else(malformed)?;
        let times = read_prefixed(input).ok_or_else(malformed)?;
        let starts = read_prefixed(input).ok_or_else(malformed)?;

        let (mut known, mut new, mut max_known, mut uses_ordinals) = (0i64, 0i64, 0i64, false);
        let mut rest = refs;
        for _ in 0..count {
            let code = read_u64(&mut rest).ok_or_else(malformed)?;
            let delta = unzigzag(code >> 1);
            if code & 1 == 0 {
                known =
                    known.checked_add(delta).filter(|&o| u32::try_from(o).is_ok()).ok_or_else(malformed)?;
                max_known = max_known.max(known);
                uses_ordinals = true;
            } else {
                new = new.checked_add(delta).ok_or_else(malformed)?;
                if new < 0 || new as u64 >= new_count as u64 {
                    let (index, count) = (new as u64, new_count as u64);
                    return Err(BatchError::UnknownNewSeries { section, index, count });
                }
            }
        }
        if !rest.is_empty() {
            return Err(malformed());
        }
        check_runs(times, count, section)?;
        if !starts.is_empty() {
            check_runs(starts, count, section)?;
        }
        let max_ordinal = Ordinal(max_known as u32);
        Ok(Self { count: count as usize, uses_ordinals, max_ordinal, refs, times, starts })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The series of each row.
    #[inline]
    pub fn refs(&self) -> impl Iterator<Item = SeriesRef> + use<'a> {
        let (mut input, mut known, mut new) = (self.refs, 0i64, 0i64);
        (0..self.count).map(move |_| {
            let code = read_u64(&mut input).expect(CHECKED);
            let delta = unzigzag(code >> 1);
            if code & 1 == 0 {
                known += delta;
                SeriesRef::Known(Ordinal(known as u32))
            } else {
                new += delta;
                SeriesRef::New(new as u32)
            }
        })
    }

    /// Timestamps as runs of (timestamp, number of rows).
    pub fn time_runs(&self) -> impl Iterator<Item = (i64, usize)> + use<'a> {
        Runs { input: self.times, value: 0 }
    }

    /// The timestamp of each row.
    pub fn times(&self) -> impl Iterator<Item = i64> + use<'a> {
        self.time_runs().flat_map(|(time, rows)| std::iter::repeat_n(time, rows))
    }

    /// Whether any row has a start timestamp.
    pub fn has_starts(&self) -> bool {
        !self.starts.is_empty()
    }

    /// Start timestamps as runs of (timestamp or 0, number of rows); without rows when none has one.
    pub fn start_runs(&self) -> impl Iterator<Item = (i64, usize)> + use<'a> {
        Runs { input: self.starts, value: 0 }
    }

    /// The start timestamp of each row, 0 where unset.
    pub fn starts(&self) -> impl Iterator<Item = i64> + use<'a> {
        let unset = if self.has_starts() { 0 } else { self.count };
        self.start_runs().chain([(0, unset)]).flat_map(|(start, rows)| std::iter::repeat_n(start, rows))
    }
}

struct Runs<'a> {
    input: &'a [u8],
    value: i64,
}

impl Iterator for Runs<'_> {
    type Item = (i64, usize);

    fn next(&mut self) -> Option<(i64, usize)> {
        if self.input.is_empty() {
            return None;
        }
        let delta = unzigzag(read_u64(&mut self.input).expect(CHECKED));
        let rows = read_u64(&mut self.input).expect(CHECKED);
        self.value = self.value.wrapping_add(delta);
        Some((self.value, rows as usize))
    }
}

fn check_runs(mut input: &[u8], rows: u64, section: &'static str) -> Result<(), BatchError> {
    let mut covered = 0u64;
    while !input.is_empty() {
        read_u64(&mut input).ok_or(BatchError::Malformed(section))?;
        let run = read_u64(&mut input).filter(|&run| run > 0).ok_or(BatchError::Malformed(section))?;
        covered = covered.checked_add(run).ok_or(BatchError::Malformed(section))?;
    }
    if covered != rows {
        return Err(BatchError::RunMismatch { section, covered, rows });
    }
    Ok(())
}

fn f64_at(bytes: &[u8], row: usize) -> f64 {
    let bytes = bytes[row * 8..][..8].try_into().expect("the slice has 8 bytes");
    f64::from_le_bytes(bytes)
}

/// Float samples, column by column.
#[derive(Clone, Debug)]
pub struct FloatColumn<'a> {
    rows: RowIndex<'a>,
    values: &'a [u8],
}

/// A float sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatRow {
    /// Its series.
    pub series: SeriesRef,
    /// When it was taken.
    pub timestamp_ms: i64,
    /// Its value.
    pub value: f64,
    /// Its start timestamp, 0 when unset.
    pub start_ms: i64,
}

impl<'a> FloatColumn<'a> {
    /// Series and times.
    pub fn rows(&self) -> &RowIndex<'a> {
        &self.rows
    }

    /// The values as they lie in the batch: 8 bytes each, little-endian.
    pub fn value_bytes(&self) -> &'a [u8] {
        self.values
    }

    /// The values.
    #[inline]
    pub fn values(&self) -> impl ExactSizeIterator<Item = f64> + use<'a> {
        self.values.chunks_exact(8).map(|bytes| f64_at(bytes, 0))
    }

    /// The samples.
    pub fn iter(&self) -> impl Iterator<Item = FloatRow> + use<'a> {
        let rows = self.rows.refs().zip(self.rows.times()).zip(self.rows.starts());
        rows.zip(self.values()).map(|(((series, timestamp_ms), start_ms), value)| FloatRow {
            series,
            timestamp_ms,
            value,
            start_ms,
        })
    }
}

/// Histogram samples.
#[derive(Clone, Debug)]
pub struct HistogramColumn<'a> {
    rows: RowIndex<'a>,
    blobs: &'a [u8],
}

/// A histogram sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramRow<'a> {
    /// Its series.
    pub series: SeriesRef,
    /// When it was taken.
    pub timestamp_ms: i64,
    /// What [`histogram::decode`] reads.
    pub blob: &'a [u8],
    /// Its start timestamp, 0 when unset.
    pub start_ms: i64,
}

impl<'a> HistogramColumn<'a> {
    /// Series and times.
    pub fn rows(&self) -> &RowIndex<'a> {
        &self.rows
    }

    /// The samples.
    pub fn iter(&self) -> impl Iterator<Item = HistogramRow<'a>> + use<'a> {
        let mut blobs = self.blobs;
        let rows = self.rows.refs().zip(self.rows.times()).zip(self.rows.starts());
        rows.map(move |((series, timestamp_ms), start_ms)| HistogramRow {
            series,
            timestamp_ms,
            blob: read_prefixed(&mut blobs).expect(CHECKED),
            start_ms,
        })
    }
}

/// Exemplars.
#[derive(Clone, Debug)]
pub struct ExemplarColumn<'a> {
    rows: RowIndex<'a>,
    values: &'a [u8],
    labels: &'a [u8],
}

/// An exemplar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExemplarRow<'a> {
    /// The series it stands for.
    pub series: SeriesRef,
    /// When it was taken.
    pub timestamp_ms: i64,
    /// The observation.
    pub value: f64,
    /// Its own labels, canonical; usually a trace id.
    pub label_bytes: &'a [u8],
}

impl ExemplarRow<'_> {
    /// The labels, copied out of the batch.
    pub fn labels(&self) -> Labels {
        Labels::from_canonical(self.label_bytes).expect(CHECKED)
    }
}

impl<'a> ExemplarColumn<'a> {
    /// Series and times.
    pub fn rows(&self) -> &RowIndex<'a> {
        &self.rows
    }

    /// The exemplars.
    pub fn iter(&self) -> impl Iterator<Item = ExemplarRow<'a>> + use<'a> {
        let (mut labels, values) = (self.labels, self.values);
        self.rows.refs().zip(self.rows.times()).enumerate().map(move |(row, (series, timestamp_ms))| {
            ExemplarRow {
                series,
                timestamp_ms,
                value: f64_at(values, row),
                label_bytes: read_prefixed(&mut labels).expect(CHECKED),
            }
        })
    }
}
