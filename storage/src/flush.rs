//! Flush: a frozen memtable becomes segments, one per partition.
//!
//! A function of the memtable, registry and encoder epoch, all of which are functions of the log: every replica that
//! flushes the same cut writes the same bytes under the same names. Series are written in the order of segments,
//! which the registry's index keeps; each sample is touched twice (gathered by series, encoded).

use std::path::Path;
use std::sync::Arc;

use protocol::logs::RowSignal;
use protocol::logs::batch::BatchKey;
use protocol::memory::Charge;

use crate::columns::Columns;
use crate::encoding::Effort;
use crate::engine::files::{files_dir, write_file};
use crate::engine::jobs::JobDone;
use crate::error::StorageError;
use crate::fs::Fs;
use crate::logs::table::LogTableView;
use crate::logs::window::encode_window_file;
use crate::logs::{self, PerSignal};
use crate::manifest::{FileKind, JobOutput, Partition, RegistryFile};
use crate::memtable::{MemView, SlotMap};
use crate::metadata::{MetadataMap, encode_metadata_file};
use crate::mutant::{self, Mutant};
use crate::segment::Exemplar;
use crate::segment_file::{SegmentFile, SegmentsWriter, WriteOptions};
use crate::series_index::{RegistryView, encode_registry_file};
use crate::span_metrics::SpanMetrics;

/// All that a flush depends on.
pub(crate) struct FlushInput {
    /// The entry that cut the memtable.
    pub job: u64,
    /// The cut before.
    pub log_after: u64,
    /// Encoder epoch.
    pub encoder_epoch: u16,
    /// The samples.
    pub table: MemView,
    /// The series that the samples name.
    pub registry: RegistryView,
    /// First ordinal of the registry file to write, if any.
    pub registry_from: Option<u32>,
    /// Metadata to write, if it changed.
    pub metadata: Option<Arc<MetadataMap>>,
    /// The sub-batches of logs and spans.
    pub rows: PerSignal<LogTableView>,
    /// Keys of their batches in the window at the cut.
    pub window: Arc<Vec<(i64, BatchKey)>>,
    /// Metrics of all spans up to the cut, if there are spans in it.
    pub span_metrics: Option<Arc<SpanMetrics>>,
    /// For the columns that the samples are gathered into.
    pub _charge: Charge,
}

const ALL_TIME: (i64, i64) = (i64::MIN, i64::MAX);

/// Writes the files. They are durable on return.
pub(crate) fn run(
    fs: &impl Fs,
    dir: &Path,
    aside: &str,
    input: &FlushInput,
) -> Result<JobDone, StorageError> {
    let mut output = JobOutput::default();
    let mut touched = vec![0u64; input.registry.len().div_ceil(64)];
    if !input.table.is_empty() {
        input.table.each_ordinal(ALL_TIME, |o| touched[o as usize / 64] |= 1 << (o % 64));
        write_segments(fs, dir, aside, input, &mut output)?;
    }
    for signal in RowSignal::ALL {
        if !input.rows[signal].is_empty() {
            let options = options_of(input);
            let segments = logs::write::flush(fs, dir, aside, options, signal, &input.rows[signal])?;
            output.segments.extend(segments);
        }
    }
    if !input.window.is_empty() {
        let keys = if mutant::is(Mutant::WindowNotInSnapshot) { &[][..] } else { &input.window };
        let bytes = encode_window_file(keys);
        output.window = Some(write_file(fs, dir, aside, &bytes, FileKind::Window)?);
    }
    if let Some(metrics) = &input.span_metrics {
        output.span_metrics = Some(write_file(fs, dir, aside, &metrics.encode(), FileKind::SpanMetrics)?);
    }
    if let Some(first) = input.registry_from {
        let bytes = encode_registry_file(&input.registry, first as usize);
        let file = write_file(fs, dir, aside, &bytes, FileKind::Registry)?;
        output.registry = Some(RegistryFile { file, first, count: input.registry.len() as u32 - first });
    }
    if let Some(metadata) = &input.metadata {
        output.metadata =
            Some(write_file(fs, dir, aside, &encode_metadata_file(metadata), FileKind::Metadata)?);
    }
    let files = files_dir(dir);
    fs.sync_dir(&files).map_err(StorageError::io("sync", &files))?;
    let open = |meta: &crate::manifest::SegmentMeta| SegmentFile::open(fs, &files, meta.file);
    let segments = output.segments.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut done = JobDone::new(output, segments);
    done.touched = Some((input.registry.generation(), touched));
    Ok(done)
}

fn options_of(input: &FlushInput) -> WriteOptions {
    WriteOptions {
        log_after: input.log_after,
        log_last: input.job,
        encoder_epoch: input.encoder_epoch,
        effort: Effort::Fast,
        deleted_upto: 0,
    }
}

fn write_segments(
    fs: &impl Fs,
    dir: &Path,
    aside: &str,
    input: &FlushInput,
    output: &mut JobOutput,
) -> Result<(), StorageError> {
    let (registry, table) = (&input.registry, &input.table);
    let order = registry.live().in_segment_order(registry);
    let wanted = SlotMap::new(registry.len(), order.iter().copied());
    let gathered = table.gather(&wanted, ALL_TIME);
    let mut exemplars = table.exemplars(&wanted, ALL_TIME).into_iter().peekable();

    let mut buckets = Vec::new();
    table.each_time(|time| {
        let bucket = Partition::of_metric(time).bucket;
        if buckets.last() != Some(&bucket) {
            buckets.push(bucket);
        }
    });
    let mut writer = SegmentsWriter::new(fs, dir, aside, options_of(input), buckets, 0);
    let (mut columns, mut of_series) = (Columns::default(), Vec::new());
    for (slot, &ordinal) in order.iter().enumerate() {
        output.duplicates += gathered.columns(slot, &mut columns);
        of_series.clear();
        while let Some((_, e)) = exemplars.next_if(|(of, _)| *of == slot) {
            of_series.push(Exemplar { time_ms: e.time, value: e.value, labels: e.labels.clone() });
        }
        if mutant::is(Mutant::FlushLosesSeries) && slot > 0 && slot + 1 == order.len() {
            continue;
        }
        if !columns.is_empty() || !of_series.is_empty() {
            let series = registry.series(ordinal);
            writer.push(registry.tenant(series.tenant()), &series.labels(), &columns, &of_series)?;
        }
    }
    output.segments = writer.finish()?;
    Ok(())
}
