//! Writing segments of logs and spans: what flushes and merges have in common, and both.
//!
//! Rows come ordered by tenant, time and log; each goes into the block of its partition. A full block is encoded, read
//! back, and its records are put together again for the checksum, before it is written.

use std::collections::BTreeMap;
use std::path::Path;

use hashbrown::HashMap;
use protocol::encoding::columns::{Pack, Trust};
use protocol::epoch;
use protocol::ids::TenantId;
use protocol::logs::RowSignal;
use protocol::logs::batch::LogBatch;
use protocol::logs::block::{self, Block, Bodies, Encoded, Layout, Want};
use protocol::logs::checksum::RowChecksums;
use protocol::logs::dict::Dict;
use protocol::logs::rows::{RowMap, Rows};
use protocol::logs::template::Split;

use super::filter::Bits;
use super::ms;
use super::segment::{
    BLOCK_ROWS, LIMITS, LogSegmentBuilder, LogSegmentReader, NewBlock, SealedLogSegment, block_rows,
};
use super::table::LogTableView;
use super::tombstone::{Hidden, LogTombstone, Written};
use crate::encoding::Effort;
use crate::engine::files::{aside_path, files_dir};
use crate::error::StorageError;
use crate::fs::{Fs, OpenMode};
use crate::manifest::{FileKind, FileRef, Partition, SegmentMeta};
use crate::mutant::{self, Mutant};
use crate::scan::SegmentView;
use crate::segment::{FileSink, SegmentHeader, Signal};
use crate::segment_file::{MAX_PARTITIONS, WriteOptions};

/// Bytes of texts that are kept as they are after which a block is full.
const BLOCK_BYTES: usize = 8 << 20;
/// Rows from which on a segment is large.
const LARGE_ROWS: u64 = BLOCK_ROWS as u64;
/// Segments of so many rows have seen whether texts that are kept as they are repeat; in those of fewer rows, merges try
/// to split them again.
const SETTLED_ROWS: u64 = 16 * LARGE_ROWS;
/// Templates of such texts that a merge counts.
const MAX_COUNTED: usize = 200_000;

/// Texts that must have a template for it to be worth its place in a segment.
const fn min_uses(rows: u64) -> u64 {
    if rows < LARGE_ROWS { 2 } else { 3 }
}

/// Writes the segments of a frozen memtable.
pub(crate) fn flush<F: Fs>(
    fs: &F,
    dir: &Path,
    aside: &str,
    options: WriteOptions,
    signal: RowSignal,
    table: &LogTableView,
) -> Result<Vec<SegmentMeta>, StorageError> {
    let unreadable = |error| StorageError::Rows(format!("a batch that was applied can not be read: {error}"));
    let batches = table.batches().map(|held| LogBatch::decode(&held.bytes).map_err(unreadable));
    let batches: Vec<LogBatch> = batches.collect::<Result<_, _>>()?;
    let mut uses: HashMap<&[u8], u64> = HashMap::new();
    let mut order: Vec<(&TenantId, i64, u32, u32)> = Vec::with_capacity(table.rows() as usize);
    let mut buckets = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        batch.rows.each_template(|template, count| {
            *uses.entry(batch.dict.templates().get(template)).or_default() += count as u64;
        });
        for (row, &time) in batch.rows.times().iter().enumerate() {
            order.push((&batch.tenant, time, number as u32, row as u32));
            let bucket = Partition::of_row(signal, ms(time)).bucket;
            if buckets.last() != Some(&bucket) {
                buckets.push(bucket);
            }
        }
    }
    order.sort_unstable();
    if mutant::is(Mutant::FlushLosesRecord) {
        order.pop();
    }
    let enough = min_uses(table.rows());
    let admit = |template: &[u8]| uses.get(template).is_some_and(|uses| *uses >= enough);
    let mut writer = LogSegmentsWriter::new(fs, dir, aside, options, signal, buckets, &admit);
    for (tenant, time, number, row) in order {
        let batch = &batches[number as usize];
        writer.push(tenant.as_str(), time, number as usize, &batch.rows, &batch.dict, row as usize)?;
    }
    let expected = batches.iter().fold(0u64, |sum, batch| sum.wrapping_add(batch.checksum));
    writer.finish(expected)
}

/// An input of a merge at its next row that no delete hides.
struct Source<'a> {
    reader: &'a LogSegmentReader,
    number: usize,
    blocks: std::ops::Range<usize>,
    /// Deletes that concern it.
    hidden: Vec<&'a Hidden>,
    rows: Rows,
    /// Rows of the block that are left, the next one last.
    left: Vec<u32>,
    /// Checksum of the records that were left out.
    dropped: u64,
}

impl Source<'_> {
    /// Opens the next block where the one before has ended; `false` at the end.
    fn fill(&mut self) -> Result<bool, StorageError> {
        while self.left.is_empty() {
            let Some(block) = self.blocks.next() else { return Ok(false) };
            self.rows = self.reader.rows(block, &Want::ALL)?;
            let mut kept = Bits::all(self.rows.len(), true);
            if !self.hidden.is_empty() {
                let dict = self.reader.dict()?;
                for hidden in &self.hidden {
                    kept = kept.and(&hidden.rows(&hidden.filter.bind(dict), &self.rows, dict).not());
                }
                let mut checksums = RowChecksums::new(&self.rows, dict);
                for row in kept.clone().not().iter() {
                    self.dropped = self.dropped.wrapping_add(checksums.of(row));
                }
            }
            self.left = kept.iter().map(|row| row as u32).collect();
            self.left.reverse();
        }
        Ok(true)
    }

    fn row(&self) -> usize {
        self.left.last().map_or(0, |row| *row as usize)
    }

    fn time(&self) -> i64 {
        self.rows.times()[self.row()]
    }
}

/// What a merge does not take over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftOut<'a> {
    /// Rows that these hide.
    pub tombstones: &'a [LogTombstone],
    /// Everything of these.
    pub tenants: &'a [TenantId],
}

/// Writes the segments of a merge. Inputs come oldest in the log first.
pub(crate) fn merge<F: Fs>(
    fs: &F,
    dir: &Path,
    aside: &str,
    options: WriteOptions,
    signal: RowSignal,
    inputs: &[SegmentView],
    left_out: LeftOut<'_>,
) -> Result<Vec<SegmentMeta>, StorageError> {
    let readers = inputs.iter().map(SegmentView::logs).collect::<Result<Vec<_>, _>>()?;
    let mut uses: HashMap<Vec<u8>, u64> = HashMap::new();
    let (mut tenants, mut buckets) = (std::collections::BTreeSet::new(), Vec::new());
    let (mut total, mut expected) = (0, 0u64);
    for (reader, input) in readers.iter().zip(inputs) {
        for (template, count) in reader.dict()?.templates().iter().zip(reader.uses()) {
            *uses.entry_ref(template).or_default() += count;
        }
        if reader.summary().rows < SETTLED_ROWS {
            count_kept(reader, &mut uses)?;
        }
        let stays = |tenant: &&str| left_out.tenants.iter().all(|out| out.as_str() != *tenant);
        for tenant in reader.tenants().iter().map(String::as_str).filter(stays) {
            let blocks = &reader.blocks()[reader.blocks_of(tenant)];
            expected = blocks.iter().fold(expected, |sum, block| sum.wrapping_add(block.checksum));
            tenants.insert(tenant);
        }
        total += reader.summary().rows;
        if !input.meta.partition.is_catch_all() {
            buckets.push(input.meta.partition.bucket);
            continue;
        }
        for block in 0..reader.blocks().len() {
            let rows = reader.rows(block, &Want::default())?;
            buckets.extend(rows.times().iter().map(|time| Partition::of_row(signal, ms(*time)).bucket));
            buckets.sort_unstable();
            buckets.dedup();
        }
    }
    let enough = min_uses(total);
    let admit = |template: &[u8]| uses.get(template).is_some_and(|uses| *uses >= enough);
    let mut writer = LogSegmentsWriter::new(fs, dir, aside, options, signal, buckets, &admit);
    writer.again = readers.iter().map(|reader| reader.summary().rows < SETTLED_ROWS).collect();
    for tenant in tenants {
        let unreadable =
            |error| StorageError::Rows(format!("a delete that was applied can not be read: {error}"));
        let mut hidden = Hidden::of_tenant(left_out.tombstones, tenant).map_err(unreadable)?;
        if mutant::is(Mutant::MergeKeepsDeleted) {
            hidden.clear();
        }
        let mut sources = Vec::new();
        for (number, reader) in readers.iter().enumerate() {
            let blocks = reader.blocks_of(tenant);
            let meta = &inputs[number].meta;
            let written = Written { log_last: meta.log_last, deleted_upto: meta.deleted_upto };
            let hidden =
                hidden.iter().filter(|hidden| hidden.concerns(written, reader.summary().span)).collect();
            let (rows, left) = (Rows::new(), Vec::new());
            let mut source = Source { reader, number, blocks, hidden, rows, left, dropped: 0 };
            if source.fill()? {
                sources.push(source);
            } else {
                expected = expected.wrapping_sub(source.dropped);
            }
        }
        // Few inputs: looking at each beats a heap. Of equal times the older input's come first.
        while let Some((at, _)) = sources.iter().enumerate().min_by_key(|(at, source)| (source.time(), *at)) {
            let source = &mut sources[at];
            let dict = source.reader.dict()?;
            writer.push(tenant, source.time(), source.number, &source.rows, dict, source.row())?;
            source.left.pop();
            if !source.fill()? {
                expected = expected.wrapping_sub(source.dropped);
                sources.remove(at);
            }
        }
    }
    writer.finish(expected)
}

/// Counts the templates that bodies which are kept as they are would have.
fn count_kept(reader: &LogSegmentReader, uses: &mut HashMap<Vec<u8>, u64>) -> Result<(), StorageError> {
    let mut split = Split::default();
    for (number, entry) in reader.blocks().iter().enumerate() {
        if entry.bodies.iter().all(|(template, _)| template.is_some()) {
            continue;
        }
        let rows = reader.rows(number, &Want { body: Bodies::All, ..Want::default() })?;
        let Some(body) = rows.body() else { continue };
        body.each_kept(|text| {
            if split.split(text) && (uses.len() < MAX_COUNTED || uses.contains_key(&split.template)) {
                *uses.entry_ref(&split.template[..]).or_default() += 1;
            }
        });
    }
    Ok(())
}

/// How blocks are packed. What a flush writes is merged soon.
fn pack_of(options: &WriteOptions) -> Pack {
    match options.effort {
        Effort::Fast if options.encoder_epoch >= epoch::QUICK_FLUSHES => Pack::Quick,
        Effort::Fast | Effort::Thorough => Pack::Small,
    }
}

struct PartitionWriter<F: Fs> {
    signal: RowSignal,
    layout: Layout,
    pack: Pack,
    builder: LogSegmentBuilder<FileSink<F::File>>,
    dict: Dict,
    uses: Vec<u64>,
    tenant: String,
    rows: Rows,
    /// Numbers of each source's dictionary in ours.
    maps: Vec<RowMap>,
}

struct LogSegmentsWriter<'a, F: Fs> {
    fs: &'a F,
    dir: &'a Path,
    aside: &'a str,
    options: WriteOptions,
    signal: RowSignal,
    buckets: Vec<i64>,
    admit: &'a dyn Fn(&[u8]) -> bool,
    open: BTreeMap<Partition, PartitionWriter<F>>,
    checksum: u64,
    /// Sources whose texts without a template are split again.
    again: Vec<bool>,
}

impl<'a, F: Fs> LogSegmentsWriter<'a, F> {
    fn new(
        fs: &'a F,
        dir: &'a Path,
        aside: &'a str,
        options: WriteOptions,
        signal: RowSignal,
        mut buckets: Vec<i64>,
        admit: &'a dyn Fn(&[u8]) -> bool,
    ) -> Self {
        buckets.sort_unstable();
        buckets.dedup();
        if buckets.len() > MAX_PARTITIONS {
            buckets.drain(..buckets.len() - (MAX_PARTITIONS - 1));
        }
        Self {
            fs,
            dir,
            aside,
            options,
            signal,
            buckets,
            admit,
            open: BTreeMap::new(),
            checksum: 0,
            again: Vec::new(),
        }
    }

    /// Takes a row. `source` tells dictionaries apart.
    fn push(
        &mut self,
        tenant: &str,
        time: i64,
        source: usize,
        rows: &Rows,
        dict: &Dict,
        row: usize,
    ) -> Result<(), StorageError> {
        let mut partition = Partition::of_row(self.signal, ms(time));
        if self.buckets.binary_search(&partition.bucket).is_err() {
            partition = Partition::row_catch_all(self.signal);
        }
        if !self.open.contains_key(&partition) {
            let writer = self.partition_writer(partition)?;
            self.open.insert(partition, writer);
        }
        let writer = self.open.get_mut(&partition).expect("inserted above");
        let is_full = writer.rows.len() >= block_rows(self.signal) || writer.rows.kept_bytes() >= BLOCK_BYTES;
        if is_full || writer.tenant != tenant {
            self.checksum = self.checksum.wrapping_add(writer.seal_block()?);
            writer.tenant.clear();
            writer.tenant.push_str(tenant);
        }
        if writer.maps.len() <= source {
            let again = |source| self.again.get(source).copied().unwrap_or(false);
            let new = |source| if again(source) { RowMap::splitting_again() } else { RowMap::default() };
            let known = writer.maps.len();
            writer.maps.extend((known..=source).map(new));
        }
        writer.rows.push_from(&mut writer.dict, rows, dict, row, &mut writer.maps[source], self.admit);
        Ok(())
    }

    fn partition_writer(&self, partition: Partition) -> Result<PartitionWriter<F>, StorageError> {
        let path = self.aside(partition);
        let create = || {
            if self.fs.exists(&path)? {
                self.fs.remove_file(&path)?;
            }
            self.fs.open(&path, OpenMode::CreateNew)
        };
        let file = create().map_err(StorageError::io("creation", &path))?;
        let (start_ms, end_ms) = partition.span();
        let header = SegmentHeader {
            partition: crate::segment::Partition {
                signal: match self.signal {
                    RowSignal::Logs => Signal::Logs,
                    RowSignal::Spans => Signal::Traces,
                },
                retention_class: u16::from(partition.class),
                start_ms: if partition.is_catch_all() { 0 } else { start_ms },
                duration_ms: if partition.is_catch_all() { 0 } else { end_ms - start_ms + 1 },
            },
            first_log_index: self.options.log_after + 1,
            last_log_index: self.options.log_last,
            encoder_epoch: self.options.encoder_epoch,
        };
        Ok(PartitionWriter {
            signal: self.signal,
            layout: Layout::of_epoch(self.options.encoder_epoch),
            pack: pack_of(&self.options),
            builder: LogSegmentBuilder::new(&header, FileSink::new(file))?,
            dict: Dict::default(),
            uses: Vec::new(),
            tenant: String::new(),
            rows: Rows::new(),
            maps: Vec::new(),
        })
    }

    fn aside(&self, partition: Partition) -> std::path::PathBuf {
        aside_path(self.dir, &format!("{}-{}-{}", self.aside, self.signal.name(), partition.bucket))
    }

    /// Seals the segments, if their records add up to the checksum. The directory is the caller's to sync.
    fn finish(mut self, expected: u64) -> Result<Vec<SegmentMeta>, StorageError> {
        for writer in self.open.values_mut() {
            self.checksum = self.checksum.wrapping_add(writer.seal_block()?);
        }
        if self.checksum != expected {
            return Err(StorageError::Rows("the records of a segment are not those that came in".to_owned()));
        }
        let mut metas = Vec::new();
        for (partition, writer) in std::mem::take(&mut self.open) {
            let path = self.aside(partition);
            let SealedLogSegment { sink, name, len_bytes, summary } =
                writer.builder.finish(&writer.dict, &writer.uses)?;
            sink.finish().map_err(StorageError::io("sync", &path))?;
            let file = FileRef { hash: name.0, len_bytes, kind: FileKind::Segment };
            let to = files_dir(self.dir).join(file.name());
            self.fs.rename(&path, &to).map_err(StorageError::io("rename", &path))?;
            metas.push(SegmentMeta {
                file,
                partition,
                log_after: self.options.log_after,
                log_last: self.options.log_last,
                min_time: ms(summary.span.0),
                max_time: ms(summary.span.1),
                series: summary.streams,
                samples: summary.rows,
                deleted_upto: self.options.deleted_upto,
            });
        }
        Ok(metas)
    }
}

impl<F: Fs> PartitionWriter<F> {
    /// Writes the rows gathered so far as a block. Returns the checksum of the records that its bytes give.
    fn seal_block(&mut self) -> Result<u64, StorageError> {
        if self.rows.is_empty() {
            return Ok(0);
        }
        let rows = std::mem::replace(&mut self.rows, Rows::new());
        let dict = &self.dict;
        let mut bytes = Vec::new();
        let Encoded { bodies, unchecked } = block::encode(&rows, dict, self.pack, self.layout, &mut bytes);
        let read = Block::parse(&bytes, self.layout, LIMITS)
            .and_then(|block| block.decode(dict, &Want::ALL, None, Trust::Own, LIMITS));
        let read =
            read.map_err(|error| StorageError::Rows(format!("a block can not be read back: {error}")))?;
        let checksum = RowChecksums::new(&read, dict).sum();
        self.uses.resize(dict.templates().len(), 0);
        rows.each_template(|template, count| self.uses[template as usize] += count as u64);
        let mut hashes = Vec::new();
        rows.each_id(self.signal == RowSignal::Logs, |hash| hashes.push(hash));
        hashes.sort_unstable();
        hashes.dedup();
        let (first, last) = (read.times().first(), read.times().last());
        let span = first.copied().zip(last.copied()).unwrap_or((0, 0));
        self.builder.push(NewBlock {
            tenant: &self.tenant,
            bytes: &bytes,
            unchecked,
            rows: read.len(),
            span,
            checksum,
            bodies,
            hashes: &hashes,
        })?;
        Ok(checksum)
    }
}
