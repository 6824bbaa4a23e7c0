//! Reading: a view of a shard at one applied index, and queries over it.
//!
//! ```text
//! StoreSnapshot ─► per source (segments, frozen memtables, active one; oldest in the log first):
//!                    matching series with their labels; memtables gather the samples of all of them at once
//!               ─► the sources side by side, in the order of labels                         (see `scan::sources`)
//!               ─► per series: pieces joined oldest first (equal timestamps: the oldest stays), deletes applied
//! ```
//!
//! Invariants: a series is visited once, in the order of `Labels`; timestamps are strictly ascending and inside the
//! asked range; staleness markers are samples like others. Nothing here waits for writes or they for it: all is held
//! by `Arc`s, and segment files stay on disk until the last view that reads them is gone.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use protocol::ids::{LogIndex, TenantId};
use protocol::labels::Labels;
use protocol::matcher::Matcher;

use crate::damage::Damage;
use crate::engine::changes::Changes;
use crate::error::StorageError;
use crate::logs::PerSignal;
use crate::logs::segment::LogSegmentReader;
use crate::logs::table::LogTableView;
use crate::logs::tombstone::LogTombstone;
use crate::manifest::{Partition, SegmentMeta};
use crate::memtable::{MemView, SlotMap};
use crate::merge::sort_exemplars;
use crate::metadata::{FamilyMetadata, MetadataMap};
use crate::segment::{Exemplar, SegmentReader, Selection, TimeSlice};
use crate::segment_file::{Content, SegmentFile};
use crate::series_index::{RegistryView, Symbol};
use crate::span_metrics::SpanMetrics;
use crate::tally::Tally;
use crate::tombstone::Tombstone;

use sources::{SeriesWalk, Source};

/// A memtable and the registry that its ordinals belong to.
#[derive(Clone, Debug)]
pub struct TableView {
    pub(crate) table: MemView,
    pub(crate) registry: RegistryView,
    /// Sub-batches of logs and spans that came with them.
    pub(crate) rows: PerSignal<LogTableView>,
    /// Last log entry inside; `u64::MAX` for the active memtable.
    pub(crate) log_last: u64,
}

/// A segment of the manifest.
#[derive(Clone, Debug)]
pub struct SegmentView {
    pub(crate) meta: SegmentMeta,
    /// `None` while the file is damaged and to be fetched from a peer.
    pub(crate) file: Option<Arc<SegmentFile>>,
}

impl SegmentView {
    fn content(&self) -> Result<&Content, StorageError> {
        match &self.file {
            Some(file) => Ok(&file.content),
            None => Err(StorageError::MissingFile { name: self.meta.file.name() }),
        }
    }

    fn other_signal(&self) -> StorageError {
        let reason = "holds another signal than the manifest says";
        StorageError::corrupt(Path::new(&self.meta.file.name()), reason)
    }

    /// The reader of metrics, if the file can be read.
    pub(crate) fn reader(&self) -> Result<&SegmentReader, StorageError> {
        match self.content()? {
            Content::Metrics(reader) => Ok(reader),
            Content::Logs(_) => Err(self.other_signal()),
        }
    }

    /// The reader of logs or spans, if the file can be read.
    pub(crate) fn logs(&self) -> Result<&LogSegmentReader, StorageError> {
        match self.content()? {
            Content::Logs(reader) => Ok(reader),
            Content::Metrics(_) => Err(self.other_signal()),
        }
    }
}

/// All that a reader sees.
#[derive(Debug)]
pub struct View {
    pub(crate) applied: u64,
    pub(crate) active: TableView,
    /// Oldest first.
    pub(crate) frozen: Arc<Vec<TableView>>,
    /// Oldest in the log first.
    pub(crate) segments: Arc<Vec<SegmentView>>,
    pub(crate) tombstones: Arc<Vec<Tombstone>>,
    pub(crate) log_tombstones: Arc<Vec<LogTombstone>>,
    pub(crate) metadata: Arc<MetadataMap>,
    pub(crate) damage: Arc<Damage>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) span_metrics: Arc<Mutex<SpanMetrics>>,
    pub(crate) awaits_drop: bool,
}

/// A read view of a shard at one applied index. Cheap to make, clone and hold.
#[derive(Clone, Debug)]
pub struct StoreSnapshot {
    view: Arc<View>,
}

/// Samples of one series inside the asked range.
#[derive(Clone, Copy, Debug)]
pub struct SeriesColumns<'a> {
    /// The series' labels.
    pub labels: &'a Labels,
    /// Timestamps of `values`, strictly ascending.
    pub times: &'a [i64],
    /// The vector that `times` is a part of, where the floats come from one segment: series that were sampled
    /// together share it, so what is computed per timestamp can be computed once.
    pub shared_times: Option<&'a TimeSlice>,
    /// Float samples, staleness markers included.
    pub values: &'a [f64],
    /// Start timestamps of the floats (0 = unknown), as many as `times`, or none.
    pub start_times: &'a [i64],
    /// Timestamps of `histograms`, strictly ascending, none of them in `times`.
    pub histogram_times: &'a [i64],
    /// Native histograms as `protocol::histogram` encodes them.
    pub histograms: &'a [Bytes],
    /// Start timestamps of the histograms, as many as `histogram_times`, or none.
    pub histogram_start_times: &'a [i64],
}

/// What samples are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TallyBy {
    /// Nothing: parts of the samples come without labels, each sample in one part.
    Nothing,
    /// Series: parts of the samples come with the labels of their series, which may have several parts.
    Series,
}

/// Series that are counted between two visits.
const TALLY_SERIES: u32 = 4096;

/// What a shard holds of a tenant's current series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Series.
    pub series: u64,
    /// Memtables and segments that samples lie in, of all tenants.
    pub parts: u64,
    /// First and last timestamp of samples in memory, of all tenants.
    pub span: Option<(i64, i64)>,
}

/// A segment that holds series of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Name of its file.
    pub name: String,
    /// Length of its file.
    pub bytes: u64,
    /// First and last timestamp in it, of all tenants.
    pub span: (i64, i64),
    /// Series of the tenant in it.
    pub series: u64,
}

impl StoreSnapshot {
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn new(view: Arc<View>) -> Self {
        Self { view }
    }

    /// Index of the last log entry that the view reflects.
    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.view.applied)
    }

    /// The last log entry that the view reflects, by which results may be kept. `None` while partitions that an entry
    /// dropped are still here: what shows them goes without another entry.
    pub fn position(&self) -> Option<LogIndex> {
        (!self.view.awaits_drop).then_some(LogIndex(self.view.applied))
    }

    /// The least timestamp of a tenant's samples that entries after `index` may have added or taken away, as far as this
    /// replica has come by now: `i64::MAX` for none, `i64::MIN` where that is not known.
    pub fn changed_since(&self, tenant: &TenantId, index: LogIndex) -> i64 {
        self.view.changes.since(tenant, index.0)
    }

    /// Metrics of all spans that this replica has applied by now, those that the view shows among them. As bytes: see
    /// [`SpanMetrics::decode`].
    pub fn span_metrics(&self) -> Vec<u8> {
        self.view.span_metrics.lock().unwrap_or_else(PoisonError::into_inner).encode_counters()
    }

    /// Visits each series of a tenant that meets all matchers and has a sample in the closed time range, in the
    /// order of labels. `visit` may end the walk.
    pub fn select(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let range = (start_ms, end_ms);
        if start_ms > end_ms {
            return Ok(());
        }
        // Memtables first: their labels are in memory, and segments that hold the same series share them.
        let mut tables = Vec::new();
        for view in self.tables() {
            let ordinals = view.matching(tenant, matchers);
            if !ordinals.is_empty() {
                tables.push(Source::of_table(
                    view,
                    &ordinals,
                    range,
                    self.tombstones(view.log_last, 0, range),
                ));
            }
        }
        let mut sources: Vec<Source<'_>> = Vec::new();
        self.each_segment(range, |meta, reader| {
            let selection = reader.select(tenant.as_str(), matchers, start_ms, end_ms)?;
            if !selection.is_empty() {
                let alike = sources.last().or(tables.last()).map_or(&[][..], |source| source.labels());
                let tombstones = self.tombstones(meta.log_last, meta.deleted_upto, range);
                sources.push(Source::of_segment(reader, &selection, alike, tombstones)?);
            }
            Ok(())
        })?;
        // Oldest in the log first.
        sources.append(&mut tables);
        let walked = SeriesWalk::new(tenant, range, sources).walk(visit);
        walked.inspect_err(|error| self.view.damage.note(error))
    }

    /// Whether somebody's samples of a closed time range were rolled up here.
    pub fn has_rollups(&self, start_ms: i64, end_ms: i64) -> bool {
        let is_rolled_up = |meta: &SegmentMeta| meta.partition.class == Partition::ROLLED_UP;
        self.metric_segments().any(|view| is_rolled_up(&view.meta) && view.meta.overlaps((start_ms, end_ms)))
    }

    /// Whether roll-ups may be among the samples of a closed time range, those that a restore brought as well. They are
    /// samples like histograms.
    pub fn may_have_rollups(&self, start_ms: i64, end_ms: i64) -> bool {
        let in_segment = |view: &SegmentView| {
            view.meta.overlaps((start_ms, end_ms))
                && view.reader().is_ok_and(|reader| reader.summary().histograms > 0)
        };
        self.metric_segments().any(in_segment) || self.tables().any(|view| view.table.has_histograms())
    }

    /// Counts the float samples that the matching series have in the closed time range, staleness markers left out: each
    /// that [`StoreSnapshot::select`] would show, once. Parts without samples may be visited, too. `visit` may end it.
    ///
    /// A segment that no other place overlaps in time, and that no delete concerns, is counted by the vectors of timestamps
    /// of its series; of the others each series is looked at on its own.
    pub fn tally(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        by: TallyBy,
        visit: &mut dyn FnMut(&Labels, &Tally) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let range = (start_ms, end_ms);
        if start_ms > end_ms {
            return Ok(());
        }
        let counted = self.tally_places(tenant, matchers, range, by, visit);
        counted.inspect_err(|error| self.view.damage.note(error))
    }

    fn tally_places(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: (i64, i64),
        by: TallyBy,
        visit: &mut dyn FnMut(&Labels, &Tally) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let inside = |(first, last): (i64, i64)| (first.max(range.0), last.min(range.1));
        // Spans of all places inside the range.
        let mut spans: Vec<(i64, i64)> = Vec::new();
        let mut tables = Vec::new();
        for view in self.tables() {
            let span = view.table.span().map(inside).filter(|(first, last)| first <= last);
            let ordinals = if span.is_some() { view.matching(tenant, matchers) } else { Vec::new() };
            if !ordinals.is_empty() {
                spans.extend(span);
                tables.push((view, ordinals));
            }
        }
        let mut segments = Vec::new();
        self.each_segment(range, |meta, reader| {
            let selection = reader.select(tenant.as_str(), matchers, range.0, range.1)?;
            if !selection.is_empty() {
                spans.push(inside((meta.min_time, meta.max_time)));
                segments.push((meta, reader, selection));
            }
            Ok(())
        })?;
        let overlapping =
            |span: (i64, i64)| spans.iter().filter(|other| span.0 <= other.1 && other.0 <= span.1).count();
        let mut sources: Vec<Source<'_>> = Vec::new();
        for (meta, reader, selection) in segments {
            let tombstones = self.tombstones(meta.log_last, meta.deleted_upto, range);
            // A place overlaps itself.
            let is_alone = tombstones.is_empty() && overlapping(inside((meta.min_time, meta.max_time))) == 1;
            if !is_alone {
                let alike = sources.last().map_or(&[][..], |source| source.labels());
                sources.push(Source::of_segment(reader, &selection, alike, tombstones)?);
            } else if tally_segment(reader, &selection, range, by, visit)?.is_break() {
                return Ok(());
            }
        }
        for (view, ordinals) in tables {
            let tombstones = self.tombstones(view.log_last, 0, range);
            sources.push(Source::of_table(view, &ordinals, range, tombstones));
        }
        SeriesWalk::new(tenant, range, sources).tally(visit)
    }

    /// A number of float samples that the matching series have in the closed time range at least: counted in segments,
    /// from the vectors of timestamps, until `enough` are found. 0 right away where there can not be so many.
    ///
    /// The same samples may lie in several segments of a partition, so of each partition the segment with most counts;
    /// segments that deletes concern, and those of samples of any age, count for nothing.
    pub fn least_samples(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        enough: u64,
    ) -> Result<u64, StorageError> {
        let range = (start_ms, end_ms);
        let counts = |meta: &SegmentMeta| {
            let inside = (meta.min_time.max(start_ms), meta.max_time.min(end_ms));
            meta.overlaps(range)
                && meta.partition.bucket != Partition::CATCH_ALL
                && self.tombstones(meta.log_last, meta.deleted_upto, inside).is_empty()
        };
        let segments: Vec<&SegmentView> =
            self.view.segments.iter().filter(|view| counts(&view.meta)).collect();
        if segments.iter().map(|view| view.meta.samples).fold(0, u64::saturating_add) < enough {
            return Ok(0);
        }
        let mut most: BTreeMap<Partition, u64> = BTreeMap::new();
        for view in segments {
            let reader = view.reader()?;
            let before: u64 = most.values().sum();
            let known = most.entry(view.meta.partition).or_default();
            let mut cursor = reader.cursor();
            let mut found = 0;
            for series in reader.select(tenant.as_str(), matchers, start_ms, end_ms)?.iter() {
                found += cursor.count_floats(series, start_ms, end_ms)?;
                if before - *known + found >= enough {
                    return Ok(before - *known + found);
                }
            }
            *known = found.max(*known);
        }
        Ok(most.values().sum())
    }

    /// Visits the labels of each series that matches and may have a sample in the closed time range, in order.
    pub fn series(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        visit: &mut dyn FnMut(&Labels) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let range = (start_ms, end_ms);
        let mut found = Vec::new();
        self.each_segment(range, |_, reader| {
            let mut cursor = reader.cursor();
            for series in reader.select(tenant.as_str(), matchers, start_ms, end_ms)? {
                found.push(cursor.labels(series)?);
            }
            Ok(())
        })?;
        for view in self.tables() {
            found.extend(view.written(tenant, matchers, range).into_iter().map(|o| view.registry.labels(o)));
        }
        found.sort();
        found.dedup();
        for labels in &found {
            if visit(labels).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Label names of the series that match and may have a sample in the closed time range.
    pub fn label_names(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<BTreeSet<String>, StorageError> {
        let range = (start_ms, end_ms);
        let mut names = BTreeSet::new();
        self.each_segment(range, |_, reader| {
            names.extend(reader.label_names(tenant.as_str(), matchers, start_ms, end_ms)?);
            Ok(())
        })?;
        for view in self.tables() {
            for ordinal in view.written(tenant, matchers, range) {
                for (name, _) in view.registry.series(ordinal).pairs() {
                    if !names.contains(name) {
                        names.insert(name.to_owned());
                    }
                }
            }
        }
        Ok(names)
    }

    /// Values of a label among the series that match and may have a sample in the closed time range.
    pub fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<BTreeSet<String>, StorageError> {
        let range = (start_ms, end_ms);
        let mut values = BTreeSet::new();
        self.each_segment(range, |_, reader| {
            values.extend(reader.label_values(tenant.as_str(), name, matchers, start_ms, end_ms)?);
            Ok(())
        })?;
        for view in self.tables() {
            // A value has one number in a registry: most series have one that was seen.
            let mut seen: hashbrown::HashSet<Symbol> = hashbrown::HashSet::new();
            for ordinal in view.written(tenant, matchers, range) {
                let series = view.registry.series(ordinal);
                let found = series.symbols().zip(series.pairs()).find(|(_, (own, _))| *own == name);
                if let Some(((_, symbol), (_, value))) = found
                    && seen.insert(symbol)
                {
                    values.insert(value.to_owned());
                }
            }
        }
        Ok(values)
    }

    /// What is known of a tenant's metric families, or of one, by name.
    pub fn metadata(&self, tenant: &TenantId, family: Option<&str>) -> Vec<(&str, &FamilyMetadata)> {
        let Some(families) = self.view.metadata.get(tenant) else { return Vec::new() };
        let wanted = families.iter().filter(|(name, _)| family.is_none_or(|family| family == name.as_str()));
        wanted.map(|(name, known)| (name.as_str(), known)).collect()
    }

    /// Figures of a tenant's series in the registry, that is of those that were written to in its generation. `visit`
    /// is called with each of their label pairs, by name and value, and the number of series that have it.
    pub fn head(&self, tenant: &TenantId, visit: &mut dyn FnMut(&str, &str, u64)) -> HeadStats {
        let registry = &self.view.active.registry;
        let series =
            registry.tenant_number(tenant).map_or(0, |number| registry.live().pairs(registry, number, visit));
        let spans = self.tables().filter_map(|view| view.table.span());
        HeadStats {
            series,
            parts: (self.tables().count() + self.metric_segments().count()) as u64,
            span: spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
        }
    }

    /// How many segments there are, and how many of them overlap a closed time range.
    pub fn segment_counts(&self, start_ms: i64, end_ms: i64) -> (usize, usize) {
        let overlapping = self.view.segments.iter().filter(|s| s.meta.overlaps((start_ms, end_ms)));
        (self.view.segments.len(), overlapping.count())
    }

    /// The segments that hold anything of a tenant, oldest in the log first.
    pub fn segments(&self, tenant: &TenantId) -> Result<Vec<SegmentSummary>, StorageError> {
        let mut found = Vec::new();
        self.each_segment((i64::MIN, i64::MAX), |meta, reader| {
            let series = reader.select(tenant.as_str(), &[], i64::MIN, i64::MAX)?.len() as u64;
            if series > 0 {
                let span = (meta.min_time, meta.max_time);
                found.push(SegmentSummary {
                    name: meta.file.name(),
                    bytes: meta.file.len_bytes,
                    span,
                    series,
                });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Visits the exemplars of each series that matches and has any in the closed time range, in the order of labels,
    /// by time; the same exemplar once.
    pub fn exemplars(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        visit: &mut dyn FnMut(&Labels, &[Exemplar]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let range = (start_ms, end_ms);
        let mut found: Vec<(Labels, Vec<Exemplar>)> = Vec::new();
        let hidden = |tombstones: &[&Tombstone], labels: &Labels, e: &Exemplar| {
            tombstones.iter().any(|t| t.covers(e.time_ms) && t.matches(tenant, labels))
        };
        self.each_segment(range, |meta, reader| {
            if reader.summary().exemplars == 0 {
                return Ok(());
            }
            let mut cursor = reader.cursor();
            let tombstones = self.tombstones(meta.log_last, meta.deleted_upto, range);
            for series in reader.select(tenant.as_str(), matchers, start_ms, end_ms)? {
                let mut exemplars = Vec::new();
                cursor.exemplars(series, start_ms, end_ms, &mut exemplars)?;
                if !exemplars.is_empty() {
                    let labels = cursor.labels(series)?;
                    exemplars.retain(|e| !hidden(&tombstones, &labels, e));
                    found.push((labels, exemplars));
                }
            }
            Ok(())
        })?;
        for view in self.tables() {
            let ordinals = view.matching(tenant, matchers);
            let tombstones = self.tombstones(view.log_last, 0, range);
            let wanted = SlotMap::new(view.registry.len(), ordinals.iter().copied());
            for (slot, e) in view.table.exemplars(&wanted, range) {
                let labels = view.registry.labels(ordinals[slot]);
                let exemplar = Exemplar { time_ms: e.time, value: e.value, labels: e.labels.clone() };
                if !hidden(&tombstones, &labels, &exemplar) {
                    found.push((labels, vec![exemplar]));
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        for of_series in found.chunk_by(|(a, _), (b, _)| a == b) {
            let mut exemplars: Vec<Exemplar> =
                of_series.iter().flat_map(|(_, e)| e.iter().cloned()).collect();
            sort_exemplars(&mut exemplars);
            if !exemplars.is_empty() && visit(&of_series[0].0, &exemplars).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn metric_segments(&self) -> impl Iterator<Item = &SegmentView> {
        self.view.segments.iter().filter(|s| s.meta.partition.is_metrics())
    }

    /// Visits the segments that overlap a time range, oldest in the log first. Leaves word of damage that it meets.
    fn each_segment<'a>(
        &'a self,
        range: (i64, i64),
        mut visit: impl FnMut(&'a SegmentMeta, &'a SegmentReader) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for view in self.metric_segments().filter(|s| s.meta.overlaps(range)) {
            let visited = view.reader().and_then(|reader| visit(&view.meta, reader));
            visited.inspect_err(|error| self.view.damage.note(error))?;
        }
        Ok(())
    }

    /// Memtables, oldest first.
    fn tables(&self) -> impl Iterator<Item = &TableView> {
        self.view.frozen.iter().chain([&self.view.active]).filter(|view| !view.table.is_empty())
    }

    fn tombstones(&self, log_last: u64, deleted_upto: u64, range: (i64, i64)) -> Vec<&Tombstone> {
        self.view.tombstones.iter().filter(|t| t.concerns(log_last, deleted_upto, range)).collect()
    }
}

/// Counts a segment whose samples are all that there are of their time.
fn tally_segment(
    reader: &SegmentReader,
    selection: &Selection,
    range: (i64, i64),
    by: TallyBy,
    visit: &mut dyn FnMut(&Labels, &Tally) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StorageError> {
    let mut cursor = reader.cursor();
    let unnamed = Labels::empty();
    let (mut part, mut series_in_part) = (Tally::default(), 0);
    for series in selection.iter() {
        let tally = cursor.tally_floats(series, range.0, range.1)?;
        match by {
            TallyBy::Series if tally.samples > 0 => {
                if visit(&cursor.labels(series)?, &tally).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            _ => part.add(&tally),
        }
        series_in_part += 1;
        if series_in_part == TALLY_SERIES {
            if visit(&unnamed, &std::mem::take(&mut part)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            series_in_part = 0;
        }
    }
    Ok(visit(&unnamed, &part))
}

impl TableView {
    /// Ordinals that match, in label order.
    fn matching(&self, tenant: &TenantId, matchers: &[Matcher]) -> Vec<u32> {
        match self.registry.tenant_number(tenant) {
            Some(number) => self.registry.live().matching(&self.registry, number, matchers),
            None => Vec::new(),
        }
    }

    /// Ordinals that match and have a sample in the range, in label order.
    fn written(&self, tenant: &TenantId, matchers: &[Matcher], range: (i64, i64)) -> Vec<u32> {
        let mut ordinals = self.matching(tenant, matchers);
        if !ordinals.is_empty() {
            let mut written = vec![0u64; self.registry.len().div_ceil(64)];
            self.table.each_ordinal(range, |o| written[o as usize / 64] |= 1 << (o % 64));
            ordinals.retain(|&o| written[o as usize / 64] >> (o % 64) & 1 == 1);
        }
        ordinals
    }
}
