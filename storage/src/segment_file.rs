//! Segments as the store holds them: an open file, and writing series that belong to several partitions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use protocol::ids::TenantId;
use protocol::labels::Labels;

use crate::columns::Columns;
use crate::encoding::Effort;
use crate::engine::files::{aside_path, files_dir};
use crate::error::StorageError;
use crate::fs::{Fs, OpenMode};
use crate::logs::segment::LogSegmentReader;
use crate::manifest::{FileKind, FileRef, Partition, SegmentMeta};
use crate::segment::reader::read_header;
use crate::segment::{
    Exemplar, FileSink, SealedSegment, SegmentBuilder, SegmentHeader, SegmentReader, SeriesInput, Signal,
    StartTime,
};

/// An open segment. The file stays on disk as long as the value lives.
#[derive(Debug)]
pub struct SegmentFile {
    /// Which file.
    pub file: FileRef,
    /// What is in it.
    pub content: Content,
}

/// A segment's reader, by signal.
#[derive(Debug)]
pub enum Content {
    /// Of metrics.
    Metrics(SegmentReader),
    /// Of logs or spans.
    Logs(LogSegmentReader),
}

impl SegmentFile {
    /// Opens a segment in the directory of content-named files.
    pub fn open(fs: &impl Fs, files_dir: &Path, file: FileRef) -> Result<Arc<Self>, StorageError> {
        let path = files_dir.join(file.name());
        let map = fs.map(&path).map_err(StorageError::io("mapping", &path))?;
        if map.len() as u64 != file.len_bytes {
            let reason = format!("has {} bytes instead of {}", map.len(), file.len_bytes);
            return Err(StorageError::corrupt(path, reason));
        }
        let content = match read_header(&map).map_err(|fault| fault.of_file(&path))?.partition.signal {
            Signal::Logs | Signal::Traces => Content::Logs(LogSegmentReader::open(map, &path)?),
            _ => Content::Metrics(SegmentReader::open(map, &path)?),
        };
        Ok(Arc::new(Self { file, content }))
    }

    /// Tenants that have something in it, sorted.
    pub fn tenants(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.content {
            Content::Metrics(reader) => Box::new(reader.tenants()),
            Content::Logs(reader) => Box::new(reader.tenants().iter().map(String::as_str)),
        }
    }
}

/// Partitions that one flush or merge writes at most. What is older goes into one catch-all segment.
pub const MAX_PARTITIONS: usize = 32;

/// What the segments of one job have in common.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// Samples come from log entries after this one ...
    pub log_after: u64,
    /// ... up to this one.
    pub log_last: u64,
    /// Encoder epoch.
    pub encoder_epoch: u16,
    /// How hard to try.
    pub effort: Effort,
    /// Tombstones up to this index were applied.
    pub deleted_upto: u64,
}

/// Writes series, in the order of segments, into one segment per partition.
pub struct SegmentsWriter<'a, F: Fs> {
    fs: &'a F,
    dir: &'a Path,
    aside: &'a str,
    options: WriteOptions,
    /// Buckets that get a segment of their own, ascending.
    buckets: Vec<i64>,
    /// Retention class of all of them.
    class: u8,
    open: BTreeMap<Partition, SegmentBuilder<FileSink<F::File>>>,
}

/// Columns and exemplars of a series that belong to one partition.
#[derive(Default)]
struct Part {
    columns: Columns,
    exemplars: Vec<Exemplar>,
}

impl<'a, F: Fs> SegmentsWriter<'a, F> {
    /// `buckets` are the partitions that samples will belong to. The newest get segments of their own; if there are
    /// more than [`MAX_PARTITIONS`], the others share a catch-all.
    pub fn new(
        fs: &'a F,
        dir: &'a Path,
        aside: &'a str,
        options: WriteOptions,
        mut buckets: Vec<i64>,
        class: u8,
    ) -> Self {
        buckets.sort_unstable();
        buckets.dedup();
        if buckets.len() > MAX_PARTITIONS {
            buckets.drain(..buckets.len() - (MAX_PARTITIONS - 1));
        }
        Self { fs, dir, aside, options, buckets, class, open: BTreeMap::new() }
    }

    fn partition(&self, time: i64) -> Partition {
        let partition = Partition::of_metric(time);
        let partition = match self.buckets.binary_search(&partition.bucket) {
            Ok(_) => partition,
            Err(_) => Partition::metric_catch_all(),
        };
        Partition { class: self.class, ..partition }
    }

    /// Writes a series. Exemplars are sorted by time.
    pub fn push(
        &mut self,
        tenant: &TenantId,
        labels: &Labels,
        columns: &Columns,
        exemplars: &[Exemplar],
    ) -> Result<(), StorageError> {
        let times = [columns.times.as_slice(), &columns.histogram_times];
        let ends = times.iter().filter_map(|t| Some((*t.first()?, *t.last()?)));
        let exemplar_ends = exemplars.first().zip(exemplars.last()).map(|(a, b)| (a.time_ms, b.time_ms));
        let Some((min, max)) = ends.chain(exemplar_ends).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
            return Ok(());
        };
        let partition = self.partition(min);
        if !partition.is_catch_all() && partition == self.partition(max) {
            return self.push_part(partition, tenant, labels, columns, exemplars);
        }
        let mut parts = BTreeMap::<Partition, Part>::new();
        for (i, &time) in columns.times.iter().enumerate() {
            let part = &mut parts.entry(self.partition(time)).or_default().columns;
            part.times.push(time);
            part.values.push(columns.values[i]);
            part.start_times.extend(columns.start_times.get(i));
        }
        for (i, &time) in columns.histogram_times.iter().enumerate() {
            let part = &mut parts.entry(self.partition(time)).or_default().columns;
            part.histogram_times.push(time);
            part.histograms.push(columns.histograms[i].clone());
            part.histogram_start_times.extend(columns.histogram_start_times.get(i));
        }
        for exemplar in exemplars {
            parts.entry(self.partition(exemplar.time_ms)).or_default().exemplars.push(exemplar.clone());
        }
        for (partition, part) in parts {
            self.push_part(partition, tenant, labels, &part.columns, &part.exemplars)?;
        }
        Ok(())
    }

    fn push_part(
        &mut self,
        partition: Partition,
        tenant: &TenantId,
        labels: &Labels,
        columns: &Columns,
        exemplars: &[Exemplar],
    ) -> Result<(), StorageError> {
        if !self.open.contains_key(&partition) {
            let builder = self.builder(partition)?;
            self.open.insert(partition, builder);
        }
        let builder = self.open.get_mut(&partition).expect("inserted above");
        let histograms: Vec<&[u8]> = columns.histograms.iter().map(|blob| &blob[..]).collect();
        let input = SeriesInput {
            float_times: &columns.times,
            float_values: &columns.values,
            histogram_times: &columns.histogram_times,
            histograms: &histograms,
            exemplars,
            start_times: &start_changes(columns),
        };
        Ok(builder.push(tenant, labels, &input)?)
    }

    fn builder(&self, partition: Partition) -> Result<SegmentBuilder<FileSink<F::File>>, StorageError> {
        let path = self.aside(partition);
        let create = || {
            if self.fs.exists(&path)? {
                self.fs.remove_file(&path)?;
            }
            self.fs.open(&path, OpenMode::CreateNew)
        };
        let file = create().map_err(StorageError::io("creation", &path))?;
        let (start_ms, end_ms) = partition.span();
        let duration_ms = if partition.is_catch_all() { 0 } else { end_ms - start_ms + 1 };
        let header = SegmentHeader {
            partition: crate::segment::Partition {
                signal: crate::segment::Signal::Metrics,
                retention_class: u16::from(partition.class),
                start_ms: if partition.is_catch_all() { 0 } else { start_ms },
                duration_ms,
            },
            first_log_index: self.options.log_after + 1,
            last_log_index: self.options.log_last,
            encoder_epoch: self.options.encoder_epoch,
        };
        Ok(SegmentBuilder::with_sink(header, self.options.effort, FileSink::new(file))?)
    }

    fn aside(&self, partition: Partition) -> std::path::PathBuf {
        aside_path(self.dir, &format!("{}-{}-{}", self.aside, partition.class, partition.bucket))
    }

    /// Seals the segments: content durable, under the names of their content. The directory is the caller's to sync.
    pub fn finish(mut self) -> Result<Vec<SegmentMeta>, StorageError> {
        let mut metas = Vec::new();
        for (partition, builder) in std::mem::take(&mut self.open) {
            let path = self.aside(partition);
            let SealedSegment { sink, name, len_bytes, summary } = builder.finish()?;
            sink.finish().map_err(StorageError::io("sync", &path))?;
            let file = FileRef { hash: name.0, len_bytes, kind: FileKind::Segment };
            let to = files_dir(self.dir).join(file.name());
            self.fs.rename(&path, &to).map_err(StorageError::io("rename", &path))?;
            metas.push(SegmentMeta {
                file,
                partition,
                log_after: self.options.log_after,
                log_last: self.options.log_last,
                min_time: summary.min_time_ms,
                max_time: summary.max_time_ms,
                series: u64::from(summary.series),
                samples: summary.samples(),
                deleted_upto: self.options.deleted_upto,
            });
        }
        Ok(metas)
    }
}

/// Where the start time changes, over floats and histograms by time.
fn start_changes(columns: &Columns) -> Vec<StartTime> {
    if columns.start_times.is_empty() && columns.histogram_start_times.is_empty() {
        return Vec::new();
    }
    let start = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
    let floats = columns.times.iter().enumerate().map(|(i, &t)| (t, start(&columns.start_times, i)));
    let histograms = columns
        .histogram_times
        .iter()
        .enumerate()
        .map(|(i, &t)| (t, start(&columns.histogram_start_times, i)));
    let mut all: Vec<StartTime> =
        floats.chain(histograms).map(|(time_ms, start_ms)| StartTime { time_ms, start_ms }).collect();
    all.sort_by_key(|change| change.time_ms);
    all.dedup_by_key(|change| change.start_ms);
    match all.as_slice() {
        [StartTime { start_ms: 0, .. }] => Vec::new(),
        _ => all,
    }
}

/// The start time of each sample, undoing [`start_changes`].
pub fn starts_of(changes: &[StartTime], times: &[i64], out: &mut Vec<i64>) {
    if changes.is_empty() {
        return;
    }
    let mut next = 0;
    let mut current = 0;
    for &time in times {
        while changes.get(next).is_some_and(|change| change.time_ms <= time) {
            current = changes[next].start_ms;
            next += 1;
        }
        out.push(current);
    }
}
