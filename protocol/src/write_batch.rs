//! A write request, decoded: what every ingest protocol for metrics hands to the router.
//!
//! The request's bytes stay where they are; a [`WriteBatch`] holds them with flat lists of positions and numbers:
//!
//! ```text
//! body      the request, decompressed                      scratch   what had to be rewritten: blobs, label sets
//! series    [ fingerprint | labels at | rows end at ]  ->  samples | histograms | exemplars, series after series
//! metadata  [ family | type | help | unit | fingerprint ]
//! ```
//!
//! Labels are not decoded. A series has a [fingerprint](Series::fingerprint) of its raw label bytes, by which the router
//! knows it again; only a series that the router has not seen has its labels [read](Series::labels), checked and sorted.
//!
//! The whole request is walked before a batch exists, so a request whose bytes are corrupt writes nothing. Rows that are
//! well-formed but make no sense (a histogram whose buckets do not add up) are left out and counted in
//! [`Rejections`], and the rest is written.

mod fingerprint;
mod rejections;

use std::ops::Range;

pub use fingerprint::FingerprintKey;
pub use rejections::{Rejections, RowKind};

use crate::batch::{Metadata, MetricType};
use crate::labels::{Labels, LabelsError, METRIC_NAME};
use crate::otlp::metrics::Origins;

/// How large labels may be. Metric and unit names are names, help texts are values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelLimits {
    /// Labels of a series or an exemplar.
    pub max_labels: usize,
    /// Bytes of a name.
    pub max_name_bytes: usize,
    /// Bytes of a value.
    pub max_value_bytes: usize,
}

impl Default for LabelLimits {
    fn default() -> Self {
        Self { max_labels: 128, max_name_bytes: 1 << 10, max_value_bytes: 16 << 10 }
    }
}

/// Most series of a request, and most rows. They bound what a body of tiny messages can make of our memory.
pub const MAX_SERIES: usize = 1 << 19;
/// See [`MAX_SERIES`].
pub const MAX_ROWS: usize = 2 << 20;

/// Why a series can not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// The labels are no label set.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// There is no metric name.
    #[error("the series has no metric name")]
    NoName,
    /// Too many labels.
    #[error("the series has {count} labels, allowed are {limit}")]
    TooManyLabels {
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A name is too long.
    #[error("label name {start:?}... has {bytes} bytes, allowed are {limit}")]
    NameTooLong {
        /// How it starts.
        start: String,
        /// Its length.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A value is too long.
    #[error("the value of label {name:?} has {bytes} bytes, allowed are {limit}")]
    ValueTooLong {
        /// The label.
        name: String,
        /// Its value's length.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A reference points outside the table of symbols.
    #[error("label reference {reference} points outside the {symbols} symbols")]
    UnknownSymbol {
        /// The reference.
        reference: u64,
        /// Number of symbols.
        symbols: usize,
    },
    /// A name without a value.
    #[error("{0} label references, they must come in pairs")]
    OddReferences(usize),
    /// An attribute whose name has nothing that a label's name may have.
    #[error("nothing remains of attribute {name:?} when it is made a label's name")]
    Untranslatable {
        /// The attribute.
        name: String,
    },
    /// Float samples and histograms in one series message.
    #[error("the series has both samples and histograms")]
    Mixed,
}

/// A float sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was taken.
    pub timestamp_ms: i64,
    /// Its value; a stale marker is a value.
    pub value: f64,
}

/// A piece of the body or the scratch space.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Piece {
    start: u32,
    end: u32,
}

/// Positions from here on are in the scratch space. Bodies and the scratch space are bounded far below.
const SCRATCH: u32 = 1 << 31;

/// How a series' raw label bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LabelForm {
    /// Protobuf fields 1 of messages (name 1, value 2): remote write 1.0.
    Pairs,
    /// Varint references into the symbols: remote write 2.0.
    References,
    /// Not at all: they are made of what the origins remember of the request: OTLP.
    Origins,
}

/// A decoded write request.
#[derive(Debug)]
pub struct WriteBatch {
    body: Vec<u8>,
    rows: Rows,
}

/// Everything but the body, so that a walker can fill it while it borrows the body.
#[derive(Debug)]
pub(crate) struct Rows {
    form: LabelForm,
    limits: LabelLimits,
    scratch: Vec<u8>,
    symbols: Vec<Piece>,
    series: Vec<SeriesEntry>,
    samples: Vec<Sample>,
    /// Start timestamps of the samples: empty, or as long as `samples`.
    starts: Vec<i64>,
    histograms: Vec<HistogramEntry>,
    exemplars: Vec<ExemplarEntry>,
    metadata: Vec<MetadataEntry>,
    rejections: Rejections,
    origins: Option<Box<Origins>>,
}

#[derive(Debug)]
struct SeriesEntry {
    fingerprint: u128,
    labels: Piece,
    samples_end: u32,
    histograms_end: u32,
    exemplars_end: u32,
}

#[derive(Debug)]
struct HistogramEntry {
    timestamp_ms: i64,
    start_ms: i64,
    blob: Piece,
}

#[derive(Debug)]
struct ExemplarEntry {
    timestamp_ms: i64,
    value: f64,
    labels: Piece,
}

#[derive(Debug)]
struct MetadataEntry {
    fingerprint: u128,
    family: Piece,
    metric_type: MetricType,
    help: Piece,
    unit: Piece,
}

/// A piece of bytes that lies at `position` in the body.
pub(crate) fn piece(position: usize, len: usize) -> Piece {
    debug_assert!(position + len < SCRATCH as usize, "the body's limit is below");
    Piece { start: position as u32, end: (position + len) as u32 }
}

impl Piece {
    /// The bytes of a piece that lies in the body.
    pub(crate) fn of(self, body: &[u8]) -> &[u8] {
        &body[self.start as usize..self.end as usize]
    }
}

impl Rows {
    pub(crate) fn with_pairs(limits: LabelLimits) -> Self {
        Self::new(LabelForm::Pairs, limits, Vec::new())
    }

    pub(crate) fn with_symbols(limits: LabelLimits, symbols: Vec<Piece>) -> Self {
        Self::new(LabelForm::References, limits, symbols)
    }

    fn new(form: LabelForm, limits: LabelLimits, symbols: Vec<Piece>) -> Self {
        Self {
            form,
            limits,
            scratch: Vec::new(),
            symbols,
            series: Vec::new(),
            samples: Vec::new(),
            starts: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            rejections: Rejections::default(),
            origins: None,
        }
    }

    /// Rows whose labels [`Rows::set_origins`] tells in the end.
    pub(crate) fn with_origins(limits: LabelLimits) -> Self {
        Self::new(LabelForm::Origins, limits, Vec::new())
    }

    pub(crate) fn set_origins(&mut self, origins: Origins) {
        self.origins = Some(Box::new(origins));
    }

    pub(crate) fn series_len(&self) -> usize {
        self.series.len()
    }

    /// Rows so far, of all kinds.
    #[inline]
    pub(crate) fn row_count(&self) -> usize {
        self.samples.len() + self.histograms.len() + self.exemplars.len() + self.metadata.len()
    }

    pub(crate) fn limits(&self) -> LabelLimits {
        self.limits
    }

    /// Bytes that were rewritten so far.
    pub(crate) fn scratch_len(&self) -> usize {
        self.scratch.len()
    }

    pub(crate) fn rejections(&mut self) -> &mut Rejections {
        &mut self.rejections
    }

    /// Writes bytes into the scratch space.
    pub(crate) fn keep(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Piece {
        let start = self.scratch.len();
        write(&mut self.scratch);
        debug_assert!(self.scratch.len() < SCRATCH as usize);
        Piece { start: SCRATCH + start as u32, end: SCRATCH + self.scratch.len() as u32 }
    }

    /// What [`Rows::keep`] wrote.
    pub(crate) fn scratch(&self, piece: Piece) -> &[u8] {
        &self.scratch[(piece.start - SCRATCH) as usize..(piece.end - SCRATCH) as usize]
    }

    /// Adds a sample to the series that ends with the next [`Rows::end_series`].
    #[inline]
    pub(crate) fn push_sample(&mut self, timestamp_ms: i64, value: f64) {
        self.samples.push(Sample { timestamp_ms, value });
    }

    /// Gives the last sample a start timestamp.
    pub(crate) fn set_start(&mut self, start_ms: i64) {
        self.starts.resize(self.samples.len().saturating_sub(1), 0);
        self.starts.push(start_ms);
    }

    pub(crate) fn push_histogram(&mut self, timestamp_ms: i64, start_ms: i64, blob: Piece) {
        self.histograms.push(HistogramEntry { timestamp_ms, start_ms, blob });
    }

    pub(crate) fn push_exemplar(&mut self, timestamp_ms: i64, value: f64, labels: Piece) {
        self.exemplars.push(ExemplarEntry { timestamp_ms, value, labels });
    }

    pub(crate) fn push_metadata(
        &mut self,
        fingerprint: u128,
        family: Piece,
        metric_type: MetricType,
        [help, unit]: [Piece; 2],
    ) {
        self.metadata.push(MetadataEntry { fingerprint, family, metric_type, help, unit });
    }

    /// Ends a series: the rows since the last end are its own.
    #[inline]
    pub(crate) fn end_series(&mut self, fingerprint: u128, labels: Piece) {
        self.series.push(SeriesEntry {
            fingerprint,
            labels,
            samples_end: self.samples.len() as u32,
            histograms_end: self.histograms.len() as u32,
            exemplars_end: self.exemplars.len() as u32,
        });
    }

    /// Samples and histograms since the last end.
    pub(crate) fn open_rows(&self) -> (usize, usize) {
        let ends = self.series.last().map_or((0, 0), |last| (last.samples_end, last.histograms_end));
        (self.samples.len() - ends.0 as usize, self.histograms.len() - ends.1 as usize)
    }

    /// Gives a start timestamp to the rows since the last end that have none of their own.
    pub(crate) fn default_start(&mut self, start_ms: i64) {
        let (samples, histograms) = self.open_rows();
        if samples > 0 {
            self.starts.resize(self.samples.len(), 0);
            let first = self.starts.len() - samples;
            self.starts[first..].iter_mut().filter(|start| **start == 0).for_each(|start| *start = start_ms);
        }
        let first = self.histograms.len() - histograms;
        for histogram in self.histograms[first..].iter_mut().filter(|histogram| histogram.start_ms == 0) {
            histogram.start_ms = start_ms;
        }
    }

    /// Leaves out the series that would end now, with all its rows.
    pub(crate) fn reject_series(&mut self, describe: impl FnOnce() -> String) {
        let (samples, histograms) = self.open_rows();
        let exemplars =
            self.exemplars.len() - self.series.last().map_or(0, |last| last.exemplars_end as usize);
        self.samples.truncate(self.samples.len() - samples);
        self.starts.truncate(self.samples.len());
        self.histograms.truncate(self.histograms.len() - histograms);
        self.exemplars.truncate(self.exemplars.len() - exemplars);
        self.rejections.add_series([samples as u64, histograms as u64, exemplars as u64], describe);
    }

    pub(crate) fn finish(mut self, body: Vec<u8>) -> WriteBatch {
        if !self.starts.is_empty() {
            self.starts.resize(self.samples.len(), 0);
        }
        WriteBatch { body, rows: self }
    }
}

impl WriteBatch {
    /// Number of series; the same series may come several times.
    pub fn series_len(&self) -> usize {
        self.rows.series.len()
    }

    /// The series at a position below [`Self::series_len`].
    #[inline]
    pub fn series(&self, index: usize) -> Series<'_> {
        Series { batch: self, index }
    }

    /// Float samples in all.
    pub fn sample_count(&self) -> usize {
        self.rows.samples.len()
    }

    /// Metadata of families, each with a fingerprint of its content.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (u128, Metadata<'_>)> {
        let text = |piece| std::str::from_utf8(self.bytes(piece)).expect("the walker checked the text");
        self.rows.metadata.iter().map(move |entry| {
            let (family, help, unit) = (text(entry.family), text(entry.help), text(entry.unit));
            (entry.fingerprint, Metadata { family, metric_type: entry.metric_type, help, unit })
        })
    }

    /// Rows that were left out when the request was decoded.
    pub fn rejections(&self) -> &Rejections {
        &self.rows.rejections
    }

    #[inline]
    fn bytes(&self, piece: Piece) -> &[u8] {
        match piece.start.checked_sub(SCRATCH) {
            None => &self.body[piece.start as usize..piece.end as usize],
            Some(start) => &self.rows.scratch[start as usize..(piece.end - SCRATCH) as usize],
        }
    }
}

/// One series of a batch with its rows.
#[derive(Clone, Copy)]
pub struct Series<'a> {
    batch: &'a WriteBatch,
    index: usize,
}

/// A histogram sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramSample<'a> {
    /// When it was taken.
    pub timestamp_ms: i64,
    /// Its start timestamp, 0 when unset.
    pub start_ms: i64,
    /// What [`crate::histogram::encode`] wrote; a valid histogram.
    pub blob: &'a [u8],
}

/// An exemplar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// When it was taken; that of the series' last row where the client did not say.
    pub timestamp_ms: i64,
    /// The observation.
    pub value: f64,
    /// Its own labels, canonical.
    pub label_bytes: &'a [u8],
}

impl<'a> Series<'a> {
    fn entry(&self) -> &'a SeriesEntry {
        &self.batch.rows.series[self.index]
    }

    fn range(&self, end: impl Fn(&SeriesEntry) -> u32) -> Range<usize> {
        let start = match self.index {
            0 => 0,
            index => end(&self.batch.rows.series[index - 1]) as usize,
        };
        start..end(self.entry()) as usize
    }

    /// Keyed hash of the raw label bytes: the same client's next request has the same.
    #[inline]
    pub fn fingerprint(&self) -> u128 {
        self.entry().fingerprint
    }

    /// Float samples in the client's order.
    #[inline]
    pub fn samples(&self) -> &'a [Sample] {
        &self.batch.rows.samples[self.range(|entry| entry.samples_end)]
    }

    /// Start timestamps of the samples, 0 where unset; empty when the whole request has none.
    #[inline]
    pub fn starts(&self) -> &'a [i64] {
        match self.batch.rows.starts.is_empty() {
            true => &[],
            false => &self.batch.rows.starts[self.range(|entry| entry.samples_end)],
        }
    }

    /// Histogram samples in the client's order.
    pub fn histograms(&self) -> impl ExactSizeIterator<Item = HistogramSample<'a>> + use<'a> {
        let batch = self.batch;
        batch.rows.histograms[self.range(|entry| entry.histograms_end)].iter().map(|entry| HistogramSample {
            timestamp_ms: entry.timestamp_ms,
            start_ms: entry.start_ms,
            blob: batch.bytes(entry.blob),
        })
    }

    /// Exemplars in the client's order.
    pub fn exemplars(&self) -> impl ExactSizeIterator<Item = Exemplar<'a>> + use<'a> {
        let batch = self.batch;
        let sample = self.samples().last().map(|sample| sample.timestamp_ms);
        let unset = sample.max(self.histograms().last().map(|histogram| histogram.timestamp_ms)).unwrap_or(0);
        batch.rows.exemplars[self.range(|entry| entry.exemplars_end)].iter().map(move |entry| Exemplar {
            timestamp_ms: if entry.timestamp_ms == 0 { unset } else { entry.timestamp_ms },
            value: entry.value,
            label_bytes: batch.bytes(entry.labels),
        })
    }

    /// Numbers of samples, histograms and exemplars.
    pub fn row_counts(&self) -> [u64; 3] {
        [self.samples().len() as u64, self.histograms().len() as u64, self.exemplars().len() as u64]
    }

    /// Reads, checks and sorts the labels: UTF-8, limits, no doubled or empty name, a metric name.
    pub fn labels(&self) -> Result<Labels, SeriesError> {
        if let Some(origins) = &self.batch.rows.origins {
            let batch = self.batch;
            return origins.labels(self.index, &batch.rows.limits, |piece| batch.bytes(piece));
        }
        let mut pairs = Vec::with_capacity(16);
        let (mut count, limits) = (0, &self.batch.rows.limits);
        self.for_each_raw_pair(|name, value| {
            count += 1;
            if count <= limits.max_labels {
                pairs.push((name, value));
            }
        });
        if count > limits.max_labels {
            return Err(SeriesError::TooManyLabels { count, limit: limits.max_labels });
        }
        let labels = labels_from_raw(&pairs, limits)?;
        match labels.metric_name().is_empty() {
            true => Err(SeriesError::NoName),
            false => Ok(labels),
        }
    }

    /// The labels for an error's text, as well as they can be read, cut to some 200 bytes.
    pub fn describe(&self) -> String {
        if let Some(origins) = &self.batch.rows.origins {
            return origins.describe(self.index, |piece| self.batch.bytes(piece));
        }
        let mut description = Description::default();
        self.for_each_raw_pair(|name, value| description.push(name, value));
        description.finish()
    }

    /// The walker saw to it that the raw bytes are well-formed and all references point into the symbols.
    fn for_each_raw_pair(&self, mut visit: impl FnMut(&'a [u8], &'a [u8])) {
        let batch = self.batch;
        let mut raw = batch.bytes(self.entry().labels);
        match batch.rows.form {
            LabelForm::Pairs => crate::remote_write::for_each_raw_label(raw, visit),
            LabelForm::References => {
                let symbol = |reference: u64| {
                    let piece =
                        usize::try_from(reference).ok().and_then(|index| batch.rows.symbols.get(index));
                    piece.map_or(&[][..], |&piece| batch.bytes(piece))
                };
                while let Some(name) = crate::varint::read_u64(&mut raw) {
                    let value = crate::varint::read_u64(&mut raw).unwrap_or(0);
                    visit(symbol(name), symbol(value));
                }
            }
            LabelForm::Origins => {}
        }
    }
}

/// Labels for an error's text: lossy, short, metric name first if the client wrote it so.
#[derive(Default)]
pub(crate) struct Description {
    text: String,
    labels: usize,
}

impl Description {
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.text.len() < 200 {
            let cut = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
            self.text.push_str(if self.labels > 0 { ", " } else { "" });
            self.text.push_str(&format!("{}={:?}", cut(name), cut(value)));
        }
        self.labels += 1;
    }

    pub(crate) fn finish(self) -> String {
        let more = if self.text.len() < 200 { "" } else { ", ..." };
        format!("series {{{}{more}}}", self.text)
    }
}

/// Makes a label set of raw names and values, in any order, checking all but the metric name.
pub(crate) fn labels_from_raw(pairs: &[(&[u8], &[u8])], limits: &LabelLimits) -> Result<Labels, SeriesError> {
    if pairs.len() > limits.max_labels {
        return Err(SeriesError::TooManyLabels { count: pairs.len(), limit: limits.max_labels });
    }
    let mut texts = Vec::with_capacity(pairs.len());
    for &(name, value) in pairs {
        if name.len() > limits.max_name_bytes {
            let start = String::from_utf8_lossy(&name[..name.len().min(32)]).into_owned();
            return Err(SeriesError::NameTooLong { start, bytes: name.len(), limit: limits.max_name_bytes });
        }
        let name = std::str::from_utf8(name).map_err(|_| LabelsError::NotUtf8)?;
        // A metric's name is a name, though it stands where values stand.
        let limit = if name == METRIC_NAME { limits.max_name_bytes } else { limits.max_value_bytes };
        if value.len() > limit {
            return Err(SeriesError::ValueTooLong { name: name.to_owned(), bytes: value.len(), limit });
        }
        let value = std::str::from_utf8(value).map_err(|_| LabelsError::NotUtf8)?;
        texts.push((name, value));
    }
    Ok(Labels::from_borrowed(&mut texts)?)
}
