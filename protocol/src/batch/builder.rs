//! Writes a sub-batch column by column.

use bytes::Bytes;

use super::{Metadata, SeriesRef, VERSION};
use crate::ids::{SeriesId, TenantId};
use crate::labels::Labels;
use crate::varint::{write_prefixed, write_u64, zigzag};

/// Collects what a request holds for one shard.
///
/// The caller has checked labels, limits and timestamps. A `SeriesRef::New` must come from [`Self::push_new_series`]
/// of the same builder.
#[derive(Debug)]
pub struct SubBatchBuilder {
    tenant: TenantId,
    generation: u64,
    uses_ordinals: bool,
    new_series: Vec<u8>,
    new_count: u32,
    floats: RowsBuilder,
    values: Vec<u8>,
    histograms: RowsBuilder,
    blobs: Vec<u8>,
    exemplars: RowsBuilder,
    exemplar_values: Vec<u8>,
    exemplar_labels: Vec<u8>,
    metadata: Vec<u8>,
    metadata_count: u64,
}

impl SubBatchBuilder {
    /// Starts a batch. `generation` is the registry generation that known ordinals come from.
    pub fn new(tenant: TenantId, generation: u64) -> Self {
        Self {
            tenant,
            generation,
            uses_ordinals: false,
            new_series: Vec::new(),
            new_count: 0,
            floats: RowsBuilder::default(),
            values: Vec::new(),
            histograms: RowsBuilder::default(),
            blobs: Vec::new(),
            exemplars: RowsBuilder::default(),
            exemplar_values: Vec::new(),
            exemplar_labels: Vec::new(),
            metadata: Vec::new(),
            metadata_count: 0,
        }
    }

    /// Makes room for so many float rows.
    pub fn reserve_floats(&mut self, rows: usize) {
        self.floats.refs.reserve(rows * 2);
        self.values.reserve(rows * 8);
    }

    /// Brings a series that the shard may not know, and gives the reference for its rows.
    pub fn push_new_series(&mut self, id: SeriesId, labels: &Labels) -> SeriesRef {
        self.new_series.extend_from_slice(&id.0.to_le_bytes());
        write_prefixed(&mut self.new_series, labels.as_bytes());
        self.new_count += 1;
        SeriesRef::New(self.new_count - 1)
    }

    /// Adds a float sample. `start_ms` is its start timestamp, 0 when unset.
    #[inline]
    pub fn push_float(&mut self, series: SeriesRef, timestamp_ms: i64, value: f64, start_ms: i64) {
        self.uses_ordinals |= matches!(series, SeriesRef::Known(_));
        self.floats.push(series, timestamp_ms, start_ms);
        self.values.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a histogram sample; `blob` is what [`crate::histogram::encode`] wrote.
    pub fn push_histogram(&mut self, series: SeriesRef, timestamp_ms: i64, blob: &[u8], start_ms: i64) {
        self.uses_ordinals |= matches!(series, SeriesRef::Known(_));
        self.histograms.push(series, timestamp_ms, start_ms);
        write_prefixed(&mut self.blobs, blob);
    }

    /// Adds an exemplar; `labels` are canonical label bytes.
    pub fn push_exemplar(&mut self, series: SeriesRef, timestamp_ms: i64, value: f64, labels: &[u8]) {
        self.uses_ordinals |= matches!(series, SeriesRef::Known(_));
        self.exemplars.push(series, timestamp_ms, 0);
        self.exemplar_values.extend_from_slice(&value.to_le_bytes());
        write_prefixed(&mut self.exemplar_labels, labels);
    }

    /// Adds what is known of a family.
    pub fn push_metadata(&mut self, metadata: &Metadata<'_>) {
        write_prefixed(&mut self.metadata, metadata.family.as_bytes());
        self.metadata.push(metadata.metric_type as u8);
        write_prefixed(&mut self.metadata, metadata.help.as_bytes());
        write_prefixed(&mut self.metadata, metadata.unit.as_bytes());
        self.metadata_count += 1;
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.new_count == 0
            && self.metadata_count == 0
            && self.floats.count + self.histograms.count + self.exemplars.count == 0
    }

    /// An upper bound of the finished length: the columns so far and room for their lengths.
    pub fn len_bound(&self) -> usize {
        256 + self.new_series.len()
            + self.floats.len_bound()
            + self.values.len()
            + self.histograms.len_bound()
            + self.blobs.len()
            + self.exemplars.len_bound()
            + self.exemplar_values.len()
            + self.exemplar_labels.len()
            + self.metadata.len()
    }

    /// Number of float, histogram and exemplar rows so far.
    pub fn rows(&self) -> [u64; 3] {
        [self.floats.count, self.histograms.count, self.exemplars.count]
    }

    /// Number of new series so far.
    pub fn new_series_count(&self) -> u32 {
        self.new_count
    }

    /// The bytes of the batch.
    pub fn finish(mut self) -> Bytes {
        let mut out = Vec::with_capacity(self.len_bound() + self.tenant.as_str().len());
        out.push(VERSION);
        write_prefixed(&mut out, self.tenant.as_str().as_bytes());
        write_u64(&mut out, if self.uses_ordinals { self.generation } else { 0 });
        write_u64(&mut out, u64::from(self.new_count));
        out.extend_from_slice(&self.new_series);
        self.floats.finish(&mut out);
        out.extend_from_slice(&self.values);
        self.histograms.finish(&mut out);
        out.extend_from_slice(&self.blobs);
        self.exemplars.finish(&mut out);
        out.extend_from_slice(&self.exemplar_values);
        out.extend_from_slice(&self.exemplar_labels);
        write_u64(&mut out, self.metadata_count);
        out.extend_from_slice(&self.metadata);
        Bytes::from(out)
    }
}

/// References, times and start times of a column's rows.
#[derive(Debug, Default)]
struct RowsBuilder {
    count: u64,
    refs: Vec<u8>,
    last_known: i64,
    last_new: i64,
    times: RunsBuilder,
    starts: RunsBuilder,
    any_start: bool,
}

impl RowsBuilder {
    #[inline]
    fn push(&mut self, series: SeriesRef, timestamp_ms: i64, start_ms: i64) {
        let code = match series {
            SeriesRef::Known(ordinal) => {
                let ordinal = i64::from(ordinal.0);
                zigzag(ordinal - std::mem::replace(&mut self.last_known, ordinal)) << 1
            }
            SeriesRef::New(index) => {
                let index = i64::from(index);
                zigzag(index - std::mem::replace(&mut self.last_new, index)) << 1 | 1
            }
        };
        write_u64(&mut self.refs, code);
        self.times.push(timestamp_ms);
        self.starts.push(start_ms);
        self.any_start |= start_ms != 0;
        self.count += 1;
    }

    fn len_bound(&self) -> usize {
        64 + self.refs.len() + self.times.bytes.len() + self.starts.bytes.len()
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        write_u64(out, self.count);
        if self.count == 0 {
            return;
        }
        write_prefixed(out, &self.refs);
        self.times.close();
        write_prefixed(out, &self.times.bytes);
        if self.any_start {
            self.starts.close();
        } else {
            self.starts.bytes.clear();
        }
        write_prefixed(out, &self.starts.bytes);
    }
}

/// Numbers as runs of (delta to the run before, count).
#[derive(Debug, Default)]
struct RunsBuilder {
    bytes: Vec<u8>,
    previous: i64,
    current: i64,
    count: u64,
}

impl RunsBuilder {
    #[inline]
    fn push(&mut self, value: i64) {
        if self.count > 0 && value == self.current {
            self.count += 1;
            return;
        }
        self.close();
        self.current = value;
        self.count = 1;
    }

    fn close(&mut self) {
        if self.count > 0 {
            write_u64(&mut self.bytes, zigzag(self.current.wrapping_sub(self.previous)));
            write_u64(&mut self.bytes, self.count);
            self.previous = self.current;
            self.count = 0;
        }
    }
}
