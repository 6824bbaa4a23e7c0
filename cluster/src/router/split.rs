//! Cuts a request into sub-batches, one per shard.

use bytes::Bytes;
use hashbrown::HashMap;
use protocol::batch::{Metadata, SeriesRef, SubBatchBuilder};
use protocol::ids::{ClusterSecret, Ordinal, SeriesId, ShardId, TenantId};
use protocol::labels::{Labels, METRIC_NAME};
use protocol::write_batch::{HistogramSample, Rejections, RowKind, Sample, WriteBatch};

use super::metadata_cache::MetadataCache;
use super::series_cache::{Learned, SeriesCache};
use super::{Parts, RouteError, RouterConfig};
use crate::shard_map::ShardMap;

/// Rows between two looks at a part's length.
const ROWS_BETWEEN_LOOKS: usize = 4096;

/// Longest labels of one series or exemplar that a sub-batch can hold beside others. Label limits of usual size stay far
/// below; this one guards against settings that do not.
const MAX_LABEL_SET_BYTES: usize = 2 << 20;

/// A sub-batch on its way.
pub(super) struct Part {
    pub bytes: Bytes,
    /// The request's series behind the sub-batch's new ones, in its order.
    pub new: Vec<u32>,
}

/// What a request was split into.
#[derive(Default)]
pub(super) struct Split {
    pub parts: Parts,
    pub resolved: Vec<Resolved>,
    pub new_series: Vec<NewSeries>,
    pub rejections: Rejections,
    /// Series that the cache would soon forget.
    pub keep: Vec<(u32, Learned)>,
    /// Fingerprints of the metadata in the parts.
    pub metadata_prints: Vec<u128>,
}

/// Where a series of the request goes.
#[derive(Clone, Copy)]
pub(super) enum Resolved {
    /// The cache knows it.
    Known { shard: ShardId, ordinal: Ordinal },
    /// The cache does not, and its labels are not read yet. None is left of these when rows are added.
    Unmet,
    /// Position among the new series.
    New(u32),
    /// Its labels are wrong.
    Refused,
}

/// A series whose labels travel along.
pub(super) struct NewSeries {
    /// Its first message in the request.
    pub series: u32,
    pub id: SeriesId,
    pub labels: Labels,
    pub shard: ShardId,
    /// Number of the part that has it already, and its position there.
    sent: Option<(u32, SeriesRef)>,
}

impl NewSeries {
    pub fn new(series: u32, id: SeriesId, labels: Labels, shard: ShardId) -> Self {
        Self { series, id, labels, shard, sent: None }
    }
}

/// The work of splitting.
pub(super) struct Splitter<'a> {
    pub tenant: &'a TenantId,
    pub batch: &'a WriteBatch,
    pub secret: &'a ClusterSecret,
    pub tenant_print: u128,
    pub map: &'a ShardMap,
    pub cache: &'a SeriesCache,
    pub metadata: &'a MetadataCache,
    pub config: &'a RouterConfig,
    pub now_ms: i64,
}

/// Timestamps that are taken.
#[derive(Clone, Copy)]
struct Window {
    first_ms: i64,
    last_ms: i64,
    now_ms: i64,
    unlimited: bool,
}

impl Window {
    #[inline]
    fn holds(&self, timestamp_ms: i64) -> bool {
        self.first_ms <= timestamp_ms && timestamp_ms <= self.last_ms
    }

    #[cold]
    fn offence(&self, timestamp_ms: i64) -> String {
        if timestamp_ms > self.last_ms {
            let ahead = timestamp_ms.saturating_sub(self.now_ms);
            return format!("timestamp {timestamp_ms} is {ahead} ms in the future of the cluster's time");
        }
        match self.unlimited || timestamp_ms < 0 {
            true => format!("timestamp {timestamp_ms} is before 1970"),
            false => format!(
                "timestamp {timestamp_ms} is older than the retention, which reaches back to {}",
                self.first_ms
            ),
        }
    }
}

impl Splitter<'_> {
    pub fn run(&self) -> Result<Split, RouteError> {
        let mut split = Split { rejections: self.batch.rejections().clone(), ..Split::default() };
        self.cache.follow_map(self.map.version());
        let generations = self.resolve(&mut split);
        self.meet_new_series(&mut split)?;

        let max_ms = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let retention = self.config.retention.of(self.tenant.as_str()).metrics;
        let window = Window {
            first_ms: retention.map_or(0, |age| self.now_ms.saturating_sub(age).max(0)),
            last_ms: self.now_ms.saturating_add(max_ms(self.config.max_future)),
            now_ms: self.now_ms,
            unlimited: retention.is_none(),
        };
        let mut builders = Builders::new(self, generations);
        for index in 0..self.batch.series_len() {
            self.split_series(index, window, &mut split, &mut builders);
        }
        self.split_metadata(&mut split, &mut builders);
        split.parts = builders.finish();
        Ok(split)
    }

    /// Looks all series up under one lock. Returns the generation of each shard's ordinals, by shard number.
    fn resolve(&self, split: &mut Split) -> Vec<u64> {
        split.resolved.reserve_exact(self.batch.series_len());
        let mut reader = self.cache.reader();
        for index in 0..self.batch.series_len() {
            let fingerprint = self.batch.series(index).fingerprint() ^ self.tenant_print;
            split.resolved.push(match reader.get(fingerprint) {
                Some(hit) => {
                    if hit.is_fading {
                        split.keep.push((index as u32, hit.learned));
                    }
                    Resolved::Known { shard: hit.learned.shard, ordinal: hit.learned.ordinal }
                }
                None => Resolved::Unmet,
            });
        }
        (0..=self.map.shard_count()).map(|shard| reader.generation(ShardId(shard))).collect()
    }

    /// First contact: reads and checks labels, finds the shard.
    fn meet_new_series(&self, split: &mut Split) -> Result<(), RouteError> {
        let mut seen: HashMap<u128, Resolved> = HashMap::new();
        let mut label_bytes = 0;
        for index in 0..split.resolved.len() {
            if !matches!(split.resolved[index], Resolved::Unmet) {
                continue;
            }
            let series = self.batch.series(index);
            split.resolved[index] = match seen.get(&series.fingerprint()) {
                Some(&resolved) => resolved,
                None => {
                    let resolved = match series.labels() {
                        Ok(labels) if labels.as_bytes().len() <= MAX_LABEL_SET_BYTES => {
                            label_bytes += labels.as_bytes().len();
                            split.new_series.push(self.identify(index as u32, labels));
                            Resolved::New(split.new_series.len() as u32 - 1)
                        }
                        Ok(labels) => {
                            let bytes = labels.as_bytes().len();
                            let offence =
                                format!("its labels take {bytes} bytes, allowed are {MAX_LABEL_SET_BYTES}");
                            split
                                .rejections
                                .add_series([0; 3], || format!("{}: {offence}", series.describe()));
                            Resolved::Refused
                        }
                        Err(error) => {
                            split.rejections.add_series([0; 3], || format!("{}: {error}", series.describe()));
                            Resolved::Refused
                        }
                    };
                    seen.insert(series.fingerprint(), resolved);
                    resolved
                }
            };
            if label_bytes > self.config.max_label_bytes {
                return Err(RouteError::TooManyLabelBytes { limit: self.config.max_label_bytes });
            }
        }
        Ok(())
    }

    fn identify(&self, series: u32, labels: Labels) -> NewSeries {
        let (id, slot) = labels.series_id_and_slot(self.secret, self.tenant);
        NewSeries::new(series, id, labels, self.map.shard_of(slot))
    }

    #[inline]
    fn split_series(&self, index: usize, window: Window, split: &mut Split, builders: &mut Builders<'_>) {
        let series = self.batch.series(index);
        let resolved = split.resolved[index];
        let shard = match resolved {
            Resolved::Known { shard, .. } => shard,
            Resolved::New(new) => split.new_series[new as usize].shard,
            Resolved::Refused | Resolved::Unmet => {
                // Counted here, row by row, because several messages may name the same series.
                let [samples, histograms, exemplars] = series.row_counts();
                split.rejections.samples += samples;
                split.rejections.histograms += histograms;
                split.rejections.exemplars += exemplars;
                return;
            }
        };
        let part = builders.of(shard);
        let mut row = Row { part, resolved, new_series: &mut split.new_series };
        let starts = series.starts();
        for (position, &Sample { timestamp_ms, value }) in series.samples().iter().enumerate() {
            if !window.holds(timestamp_ms) {
                let offence = || format!("{}: {}", series.describe(), window.offence(timestamp_ms));
                split.rejections.add(RowKind::Sample, 1, offence);
                continue;
            }
            let start_ms = starts.get(position).copied().unwrap_or(0);
            row.part.look_at_length(position);
            let reference = row.reference();
            row.part.builder.push_float(reference, timestamp_ms, value, start_ms);
        }
        for (position, histogram) in series.histograms().enumerate() {
            let HistogramSample { timestamp_ms, start_ms, blob } = histogram;
            if !window.holds(timestamp_ms) {
                let offence = || format!("{}: histogram {}", series.describe(), window.offence(timestamp_ms));
                split.rejections.add(RowKind::Histogram, 1, offence);
                continue;
            }
            row.part.look_at_length(position * ROWS_BETWEEN_LOOKS);
            let reference = row.reference();
            row.part.builder.push_histogram(reference, timestamp_ms, blob, start_ms);
        }
        for (position, exemplar) in series.exemplars().enumerate() {
            let timestamp_ms = exemplar.timestamp_ms;
            if !window.holds(timestamp_ms) || exemplar.label_bytes.len() > MAX_LABEL_SET_BYTES {
                let offence = || match window.holds(timestamp_ms) {
                    true => format!("{}: the labels of an exemplar are too long", series.describe()),
                    false => format!("{}: exemplar {}", series.describe(), window.offence(timestamp_ms)),
                };
                split.rejections.add(RowKind::Exemplar, 1, offence);
                continue;
            }
            row.part.look_at_length(position * ROWS_BETWEEN_LOOKS);
            let reference = row.reference();
            row.part.builder.push_exemplar(reference, timestamp_ms, exemplar.value, exemplar.label_bytes);
        }
    }

    /// Metadata lives on the shard that the family's name hashes to, whatever series the family has.
    fn split_metadata(&self, split: &mut Split, builders: &mut Builders<'_>) {
        if self.batch.metadata().len() == 0 {
            return;
        }
        let epoch = MetadataCache::epoch(self.now_ms);
        let print = |print: u128| print ^ self.tenant_print;
        let known = self.metadata.known(epoch, self.batch.metadata().map(|(p, _)| print(p)));
        let mut added = hashbrown::HashSet::<u128>::new();
        for ((fingerprint, metadata), known) in self.batch.metadata().zip(known) {
            if !known && added.insert(fingerprint) {
                let shard = self.family_shard(&metadata);
                let part = builders.of(shard);
                part.look_at_length(0);
                part.builder.push_metadata(&metadata);
                split.metadata_prints.push(print(fingerprint));
            }
        }
    }

    fn family_shard(&self, metadata: &Metadata<'_>) -> ShardId {
        let name =
            Labels::from_borrowed(&mut [(METRIC_NAME, metadata.family)]).expect("one pair with a name");
        self.map.shard_of(name.slot(self.secret, self.tenant))
    }
}

/// A part's builder and the series whose rows are being added.
struct Row<'a> {
    part: &'a mut PartBuilder,
    resolved: Resolved,
    new_series: &'a mut [NewSeries],
}

impl Row<'_> {
    #[inline]
    fn reference(&mut self) -> SeriesRef {
        match self.resolved {
            Resolved::Known { ordinal, .. } => SeriesRef::Known(ordinal),
            Resolved::New(new) => self.part.new_reference(&mut self.new_series[new as usize]),
            Resolved::Refused | Resolved::Unmet => unreachable!("rows of refused series are not added"),
        }
    }
}

/// Builds the parts of one shard, starting another when one is long enough.
pub(super) struct PartBuilder {
    builder: SubBatchBuilder,
    new: Vec<u32>,
    done: Vec<Part>,
    tenant: TenantId,
    generation: u64,
    max_bytes: usize,
}

impl PartBuilder {
    pub fn new(tenant: TenantId, generation: u64, max_bytes: usize) -> Self {
        let builder = SubBatchBuilder::new(tenant.clone(), generation);
        Self { builder, new: Vec::new(), done: Vec::new(), tenant, generation, max_bytes }
    }

    pub fn builder(&mut self) -> &mut SubBatchBuilder {
        &mut self.builder
    }

    /// The reference of a new series in the part at hand, which brings it if it does not yet.
    pub fn new_reference(&mut self, new: &mut NewSeries) -> SeriesRef {
        let number = self.done.len() as u32;
        match new.sent {
            Some((part, reference)) if part == number => reference,
            _ => {
                let reference = self.builder.push_new_series(new.id, &new.labels);
                self.new.push(new.series);
                new.sent = Some((number, reference));
                reference
            }
        }
    }

    /// Starts another part where this one is long enough; looks at every so many rows only.
    #[inline]
    pub fn look_at_length(&mut self, row: usize) {
        if row.is_multiple_of(ROWS_BETWEEN_LOOKS) && self.builder.len_bound() >= self.max_bytes {
            self.cut();
        }
    }

    #[cold]
    fn cut(&mut self) {
        let next = SubBatchBuilder::new(self.tenant.clone(), self.generation);
        let full = std::mem::replace(&mut self.builder, next);
        self.done.push(Part { bytes: full.finish(), new: std::mem::take(&mut self.new) });
    }

    pub fn finish(mut self) -> Vec<Part> {
        if !self.builder.is_empty() {
            self.cut();
        }
        self.done
    }
}

/// Part builders of the shards that a request touches.
struct Builders<'a> {
    splitter: &'a Splitter<'a>,
    generations: Vec<u64>,
    /// By shard number: position in `parts`, or none yet.
    positions: Vec<Option<u16>>,
    parts: Vec<(ShardId, PartBuilder)>,
    rows_per_shard: usize,
}

impl<'a> Builders<'a> {
    fn new(splitter: &'a Splitter<'a>, generations: Vec<u64>) -> Self {
        let shards = usize::from(splitter.map.shard_count());
        let rows = splitter.batch.sample_count();
        Self {
            splitter,
            positions: vec![None; generations.len()],
            generations,
            parts: Vec::with_capacity(shards.min(splitter.batch.series_len())),
            // A quarter above the even share, which the hash keeps close to.
            rows_per_shard: (rows + rows / 4) / shards,
        }
    }

    #[inline]
    fn of(&mut self, shard: ShardId) -> &mut PartBuilder {
        let index = usize::from(shard.0);
        let position = match self.positions[index] {
            Some(position) => usize::from(position),
            None => self.open(shard),
        };
        &mut self.parts[position].1
    }

    #[cold]
    fn open(&mut self, shard: ShardId) -> usize {
        let (splitter, index) = (self.splitter, usize::from(shard.0));
        let (tenant, max_bytes) = (splitter.tenant.clone(), splitter.config.max_part_bytes);
        let mut part = PartBuilder::new(tenant, self.generations[index], max_bytes);
        part.builder.reserve_floats(self.rows_per_shard.min(max_bytes / 8));
        self.parts.push((shard, part));
        self.positions[index] = Some(self.parts.len() as u16 - 1);
        self.parts.len() - 1
    }

    fn finish(self) -> Parts {
        let parts = self.parts.into_iter().map(|(shard, part)| (shard, part.finish()));
        parts.filter(|(_, parts)| !parts.is_empty()).collect()
    }
}
