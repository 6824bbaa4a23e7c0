//! Merge: segments of one partition that follow one another in the log become one; a catch-all is split.
//!
//! A function of the inputs' bytes, the deletes before the merge was begun and the encoder epoch. Of samples with
//! equal series and timestamp the one from the older segment stays; what deletes hide is left out for good, and so are
//! tenants whose time is over; of some of these what [`crate::rollup`] makes of their samples stays, in a partition of its own.

use std::cmp::Ordering;
use std::path::Path;

use bytes::Bytes;
use protocol::command::TenantsOver;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::logs::RowSignal;

use crate::columns::Columns;
use crate::encoding::Effort;
use crate::encoding::blobs::BlobColumn;
use crate::engine::files::files_dir;
use crate::engine::jobs::JobDone;
use crate::error::StorageError;
use crate::fs::Fs;
use crate::logs;
use crate::logs::tombstone::LogTombstone;
use crate::logs::write::LeftOut;
use crate::manifest::{JobOutput, Partition, SegmentMeta};
use crate::mutant::{self, Mutant};
use crate::rollup::roll_up;
use crate::scan::SegmentView;
use crate::segment::{Exemplar, SegmentCursor, StartTime, compare_series};
use crate::segment_file::{SegmentFile, SegmentsWriter, WriteOptions, starts_of};
use crate::tombstone::{Tombstone, apply_tombstones};

/// All that a merge depends on.
pub(crate) struct MergeInput {
    /// The entry that began it.
    pub job: u64,
    /// Encoder epoch.
    pub encoder_epoch: u16,
    /// Segments, oldest in the log first.
    pub inputs: Vec<SegmentView>,
    /// Deletes that were in force when it began.
    pub tombstones: Vec<Tombstone>,
    /// Those of logs.
    pub log_tombstones: Vec<LogTombstone>,
    /// What becomes of tenants whose time is over.
    pub over: TenantsOver,
}

/// Writes the files. They are durable on return.
pub(crate) fn run(
    fs: &impl Fs,
    dir: &Path,
    aside: &str,
    input: &MergeInput,
) -> Result<JobDone, StorageError> {
    let mut output = JobOutput::default();
    let log_after = input.inputs.iter().map(|s| s.meta.log_after).min().unwrap_or(0);
    let log_last = input.inputs.iter().map(|s| s.meta.log_last).max().unwrap_or(0);
    let options = WriteOptions {
        log_after,
        log_last,
        encoder_epoch: input.encoder_epoch,
        effort: Effort::Thorough,
        deleted_upto: input.job,
    };
    let signal = input.inputs.first().and_then(|view| view.meta.partition.rows());
    output.segments = match signal {
        Some(signal) => {
            let tombstones = if signal == RowSignal::Logs { &input.log_tombstones[..] } else { &[] };
            let left_out = LeftOut { tombstones, tenants: &input.over.left_out };
            logs::write::merge(fs, dir, aside, options, signal, &input.inputs, left_out)?
        }
        None => merge_series(fs, dir, aside, options, input, &mut output.duplicates)?,
    };
    let files = files_dir(dir);
    fs.sync_dir(&files).map_err(StorageError::io("sync", &files))?;
    let open = |meta: &SegmentMeta| SegmentFile::open(fs, &files, meta.file);
    let segments = output.segments.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    Ok(JobDone::new(output, segments))
}

fn merge_series(
    fs: &impl Fs,
    dir: &Path,
    aside: &str,
    options: WriteOptions,
    input: &MergeInput,
    duplicates: &mut u64,
) -> Result<Vec<SegmentMeta>, StorageError> {
    let buckets = buckets(&input.inputs)?;
    let partition = input.inputs.first().map_or(Partition::metric_catch_all(), |view| view.meta.partition);
    let mut writer = SegmentsWriter::new(fs, dir, aside, options, buckets.clone(), partition.class);
    let mut rollups = SegmentsWriter::new(fs, dir, aside, options, buckets, Partition::ROLLED_UP);
    let rolls_up =
        |tenant: &TenantId| partition.class != Partition::ROLLED_UP && input.over.rolled_up.contains(tenant);
    let mut sources: Vec<Source<'_>> = Vec::with_capacity(input.inputs.len());
    for view in &input.inputs {
        sources.extend(Source::new(view, input)?);
    }
    let (mut merged, mut piece, mut exemplars) = (Columns::default(), Columns::default(), Vec::new());
    // Few inputs: looking at each beats a heap.
    while let Some(first) = sources.iter().min_by(|a, b| a.compare(b)) {
        let (tenant, labels) = (first.tenant.clone(), first.labels.clone());
        merged.clear();
        exemplars.clear();
        let mut at = 0;
        while at < sources.len() {
            let source = &mut sources[at];
            if source.labels != labels || source.tenant != tenant {
                at += 1;
                continue;
            }
            source.read(&mut piece, &mut exemplars)?;
            if merged.is_empty() {
                std::mem::swap(&mut merged, &mut piece);
            } else {
                *duplicates += merged.absorb(&piece);
            }
            if source.advance()? {
                at += 1;
            } else {
                sources.remove(at);
            }
        }
        if mutant::is(Mutant::MergeLosesSeries) && sources.is_empty() {
            continue;
        }
        if rolls_up(&tenant) {
            rollups.push(&tenant, &labels, &roll_up(&merged)?, &[])?;
            continue;
        }
        sort_exemplars(&mut exemplars);
        writer.push(&tenant, &labels, &merged, &exemplars)?;
    }
    let mut segments = writer.finish()?;
    segments.extend(rollups.finish()?);
    Ok(segments)
}

/// Sorts by time; what is equal in all (an exemplar sent twice) stays once.
pub(crate) fn sort_exemplars(exemplars: &mut Vec<Exemplar>) {
    let key = |e: &Exemplar| (e.time_ms, e.value.to_bits());
    exemplars.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.labels.cmp(&b.labels)));
    exemplars.dedup_by(|a, b| key(a) == key(b) && a.labels == b.labels);
}

/// The partitions that the merge writes: the inputs' own, or, for a catch-all, those of its samples.
fn buckets(inputs: &[SegmentView]) -> Result<Vec<i64>, StorageError> {
    let mut buckets = std::collections::BTreeSet::new();
    for view in inputs {
        if !view.meta.partition.is_catch_all() {
            buckets.insert(view.meta.partition.bucket);
            continue;
        }
        let reader = view.reader()?;
        let mut cursor = reader.cursor();
        let (mut columns, mut exemplars) = (Columns::default(), Vec::new());
        for series in reader.all() {
            exemplars.clear();
            read_series(&mut cursor, series, ALL_TIME, &mut columns)?;
            cursor.exemplars(series, i64::MIN, i64::MAX, &mut exemplars)?;
            let times = columns.times.iter().chain(&columns.histogram_times).copied();
            let times = times.chain(exemplars.iter().map(|e| e.time_ms));
            buckets.extend(times.map(|time| Partition::of_metric(time).bucket));
        }
    }
    Ok(buckets.into_iter().collect())
}

const ALL_TIME: (i64, i64) = (i64::MIN, i64::MAX);

/// An input at its current series.
struct Source<'a> {
    cursor: SegmentCursor,
    next: u32,
    end: u32,
    tenant: TenantId,
    labels: Labels,
    tombstones: Vec<&'a Tombstone>,
    without: &'a [TenantId],
}

impl<'a> Source<'a> {
    fn new(view: &SegmentView, input: &'a MergeInput) -> Result<Option<Self>, StorageError> {
        let meta = &view.meta;
        let concerns =
            |t: &&Tombstone| t.concerns(meta.log_last, meta.deleted_upto, (meta.min_time, meta.max_time));
        let reader = view.reader()?;
        let mut source = Self {
            cursor: reader.cursor(),
            next: 0,
            end: reader.summary().series,
            tenant: TenantId::default(),
            labels: Labels::empty(),
            tombstones: input.tombstones.iter().filter(concerns).collect(),
            without: &input.over.left_out,
        };
        Ok(source.advance()?.then_some(source))
    }

    /// Moves to the next series; false at the end.
    fn advance(&mut self) -> Result<bool, StorageError> {
        while self.next < self.end {
            let series = self.next;
            self.next += 1;
            let tenant = self.cursor.tenant(series)?;
            if self.without.iter().any(|out| out.as_str() == tenant) {
                continue;
            }
            if tenant != self.tenant.as_str() {
                let reason = |e: protocol::ids::TenantError| {
                    StorageError::corrupt(self.cursor.reader().path(), e.to_string())
                };
                self.tenant = TenantId::new(tenant).map_err(reason)?;
            }
            self.labels = self.cursor.labels(series)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn read(&mut self, columns: &mut Columns, exemplars: &mut Vec<Exemplar>) -> Result<(), StorageError> {
        let series = self.next - 1;
        read_series(&mut self.cursor, series, ALL_TIME, columns)?;
        apply_tombstones(self.tombstones.iter().copied(), &self.tenant, &self.labels, columns);
        let before = exemplars.len();
        self.cursor.exemplars(series, i64::MIN, i64::MAX, exemplars)?;
        let hidden = |e: &Exemplar| {
            self.tombstones.iter().any(|t| t.covers(e.time_ms) && t.matches(&self.tenant, &self.labels))
        };
        if !self.tombstones.is_empty() {
            let mut at = 0;
            exemplars.retain(|e| {
                at += 1;
                at <= before || !hidden(e)
            });
        }
        Ok(())
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.tenant.cmp(&other.tenant).then_with(|| compare_series(&self.labels, &other.labels))
    }
}

/// Reads a series' samples of a closed time range from a segment.
pub(crate) fn read_series(
    cursor: &mut SegmentCursor,
    series: u32,
    range: (i64, i64),
    columns: &mut Columns,
) -> Result<(), StorageError> {
    columns.clear();
    if let Some(times) = cursor.floats(series, range.0, range.1, &mut columns.values)? {
        columns.times.extend_from_slice(&times);
    }
    if cursor.reader().summary().histograms > 0 {
        let mut blobs = BlobColumn::default();
        if let Some(times) = cursor.histograms(series, range.0, range.1, &mut blobs)? {
            columns.histogram_times.extend_from_slice(&times);
            let BlobColumn { bytes, ends } = blobs;
            let bytes = Bytes::from(bytes);
            let mut start = 0;
            for end in ends {
                columns.histograms.push(bytes.slice(start..end));
                start = end;
            }
        }
    }
    read_starts(cursor, series, &columns.times, &mut columns.start_times)?;
    read_starts(cursor, series, &columns.histogram_times, &mut columns.histogram_start_times)
}

/// Start timestamps of a series' samples at `times`; none if the segment knows none.
pub(crate) fn read_starts(
    cursor: &mut SegmentCursor,
    series: u32,
    times: &[i64],
    out: &mut Vec<i64>,
) -> Result<(), StorageError> {
    let mut changes: Vec<StartTime> = Vec::new();
    if !times.is_empty() {
        cursor.start_times(series, &mut changes)?;
        starts_of(&changes, times, out);
    }
    Ok(())
}
