//! The memtable: samples of one shard that no segment holds yet, in the order of the log.
//!
//! Float samples are append-only column runs: chunks of ordinals, value bits and runs of equal timestamps, in
//! whatever order they came. There is no buffer per series; an append costs a few stores (13 ns a sample in the
//! trial, where per-series buffers cost 72), and whoever reads sorts: a flush all of it, a query the series it wants.
//! Native histograms, exemplars and start timestamps are rare and live in columns of their own.
//!
//! Snapshots. A chunk's columns are relaxed atomics, allocated once and never moved. The one writer fills them and,
//! at the end of a log entry, hands out a [`MemView`]: the chunks and how far they were filled. A reader looks only
//! below that length. So a snapshot costs a few reference counts, copies nothing, never sees half an entry, and
//! neither side waits. What carries the view (the mutex around the published snapshot) orders the stores before the
//! reads; that is why relaxed accesses do. The one slot written again after publication is the end of the last run,
//! which may grow: readers cut it at their length.
//!
//! Order. A position in a column is an order in the log. Among samples of equal series and timestamp the first wins;
//! a histogram remembers how many floats came before it, so that this holds across the columns too.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use protocol::labels::Labels;
use protocol::memory::{Charge, MemoryLedger, MemoryUse};

use crate::append::{AppendVec, AppendView};
use crate::columns::Columns;

/// Samples that a chunk holds at most.
pub const CHUNK_SAMPLES: usize = 32 * 1024;
const FIRST_CHUNK_SAMPLES: usize = 1024;
/// A chunk has a quarter as many slots for time runs as for samples, and is full when either runs out.
const SAMPLES_PER_RUN_SLOT: usize = 4;

#[derive(Debug)]
struct Chunk {
    ordinals: Box<[AtomicU32]>,
    values: Box<[AtomicU64]>,
    run_times: Box<[AtomicI64]>,
    run_ends: Box<[AtomicU32]>,
    /// Here and not at the memtable: a reader may hold the chunk longer.
    _charge: Charge,
}

impl Chunk {
    fn new(samples: usize, mut charge: Charge) -> Self {
        let runs = samples / SAMPLES_PER_RUN_SLOT;
        charge.set(12 * (samples + runs) as u64);
        Self {
            _charge: charge,
            ordinals: (0..samples).map(|_| AtomicU32::new(0)).collect(),
            values: (0..samples).map(|_| AtomicU64::new(0)).collect(),
            run_times: (0..runs).map(|_| AtomicI64::new(0)).collect(),
            run_ends: (0..runs).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn bytes(&self) -> usize {
        12 * (self.ordinals.len() + self.run_times.len())
    }
}

/// A chunk and how far it is filled.
#[derive(Clone, Debug)]
struct Filled {
    chunk: Arc<Chunk>,
    samples: usize,
    runs: usize,
    min_time: i64,
    max_time: i64,
}

/// A native histogram of a series.
#[derive(Clone, Debug)]
pub struct HistogramSample {
    /// The series.
    pub ordinal: u32,
    /// When it was taken.
    pub time: i64,
    /// Encoded histogram.
    pub blob: Bytes,
    /// Float samples of the memtable that are older in the log.
    floats_before: u64,
}

/// An exemplar of a series.
#[derive(Clone, Debug)]
pub struct ExemplarSample {
    /// The series.
    pub ordinal: u32,
    /// When it was observed.
    pub time: i64,
    /// Observed value.
    pub value: f64,
    /// The exemplar's own labels.
    pub labels: Labels,
}

/// Since when the value of a sample accumulates.
#[derive(Clone, Copy, Debug)]
pub struct StartTime {
    /// The series.
    pub ordinal: u32,
    /// The sample's timestamp.
    pub time: i64,
    /// Start of accumulation.
    pub start: i64,
}

/// The writer's side.
#[derive(Debug)]
pub struct Memtable {
    closed: Arc<Vec<Filled>>,
    open: Option<Filled>,
    floats: u64,
    histograms: AppendVec<HistogramSample>,
    exemplars: AppendVec<ExemplarSample>,
    starts: AppendVec<StartTime>,
    owned_bytes: usize,
    ledger: MemoryLedger,
}

/// What a reader sees of a memtable: the samples of whole log entries.
#[derive(Clone, Debug)]
pub struct MemView {
    closed: Arc<Vec<Filled>>,
    open: Option<Filled>,
    histograms: AppendView<HistogramSample>,
    exemplars: AppendView<ExemplarSample>,
    starts: AppendView<StartTime>,
}

impl Default for Memtable {
    /// An empty memtable that nobody keeps count of.
    fn default() -> Self {
        Self::new(MemoryLedger::default())
    }
}

impl Memtable {
    /// An empty memtable, its memory part of a ledger.
    pub fn new(ledger: MemoryLedger) -> Self {
        Self {
            closed: Arc::new(Vec::new()),
            open: None,
            floats: 0,
            histograms: AppendVec::default(),
            exemplars: AppendVec::default(),
            starts: AppendVec::default(),
            owned_bytes: 0,
            ledger,
        }
    }

    /// Appends a float sample.
    #[inline]
    pub fn push_float(&mut self, ordinal: u32, time: i64, value: f64) {
        let filled = match &mut self.open {
            Some(filled) if filled.has_room(time) => filled,
            _ => self.open_chunk(),
        };
        let at = filled.samples;
        filled.chunk.ordinals[at].store(ordinal, Relaxed);
        filled.chunk.values[at].store(value.to_bits(), Relaxed);
        let last = filled.runs.wrapping_sub(1);
        if filled.runs > 0 && filled.chunk.run_times[last].load(Relaxed) == time {
            filled.chunk.run_ends[last].store(at as u32 + 1, Relaxed);
        } else {
            filled.chunk.run_times[filled.runs].store(time, Relaxed);
            filled.chunk.run_ends[filled.runs].store(at as u32 + 1, Relaxed);
            filled.runs += 1;
            filled.min_time = filled.min_time.min(time);
            filled.max_time = filled.max_time.max(time);
        }
        filled.samples = at + 1;
        self.floats += 1;
    }

    /// Appends a native histogram. The bytes are copied: they must not keep a whole log entry alive.
    pub fn push_histogram(&mut self, ordinal: u32, time: i64, blob: &[u8]) {
        self.owned_bytes += blob.len();
        let blob = Bytes::copy_from_slice(blob);
        self.histograms.push(HistogramSample { ordinal, time, blob, floats_before: self.floats });
    }

    /// Appends an exemplar.
    pub fn push_exemplar(&mut self, ordinal: u32, time: i64, value: f64, labels: Labels) {
        self.owned_bytes += labels.as_bytes().len();
        self.exemplars.push(ExemplarSample { ordinal, time, value, labels });
    }

    /// Notes since when the sample at `time` accumulates.
    pub fn push_start_time(&mut self, ordinal: u32, time: i64, start: i64) {
        self.starts.push(StartTime { ordinal, time, start });
    }

    fn open_chunk(&mut self) -> &mut Filled {
        let mut samples = FIRST_CHUNK_SAMPLES;
        if let Some(full) = self.open.take() {
            samples = (full.chunk.ordinals.len() * 4).min(CHUNK_SAMPLES);
            // Views share the list; it is copied once per chunk, the chunks never.
            let mut closed = Vec::with_capacity(self.closed.len() + 1);
            closed.extend(self.closed.iter().cloned());
            closed.push(full);
            self.closed = Arc::new(closed);
        }
        self.open.insert(Filled {
            chunk: Arc::new(Chunk::new(samples, self.ledger.charge(MemoryUse::Memtables))),
            samples: 0,
            runs: 0,
            min_time: i64::MAX,
            max_time: i64::MIN,
        })
    }

    /// A view of all samples so far. To be taken at the end of a log entry.
    pub fn view(&self) -> MemView {
        MemView {
            closed: Arc::clone(&self.closed),
            open: self.open.clone(),
            histograms: self.histograms.view(),
            exemplars: self.exemplars.view(),
            starts: self.starts.view(),
        }
    }

    /// Bytes that the memtable takes.
    pub fn bytes(&self) -> usize {
        let chunks: usize = self.closed.iter().chain(&self.open).map(|f| f.chunk.bytes()).sum();
        chunks + self.side_bytes()
    }

    /// Those of its bytes that it does not charge to the ledger by itself: all but the chunks of floats.
    pub fn side_bytes(&self) -> usize {
        let slots = self.histograms.slot_bytes() + self.exemplars.slot_bytes() + self.starts.slot_bytes();
        slots + self.owned_bytes
    }

    /// Number of float samples and histograms.
    pub fn samples(&self) -> u64 {
        self.floats + self.histograms.len() as u64
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.floats == 0 && self.histograms.is_empty() && self.exemplars.is_empty()
    }
}

impl Filled {
    #[inline]
    fn has_room(&self, time: i64) -> bool {
        self.samples < self.chunk.ordinals.len()
            && (self.runs < self.chunk.run_times.len()
                || self.chunk.run_times[self.runs - 1].load(Relaxed) == time)
    }

    /// Calls `visit` with timestamp, position and ordinal-value columns of each time run inside the range.
    #[inline]
    fn each_run(&self, range: (i64, i64), mut visit: impl FnMut(i64, std::ops::Range<usize>)) {
        if self.max_time < range.0 || self.min_time > range.1 {
            return;
        }
        let mut start = 0;
        for run in 0..self.runs {
            let end = (self.chunk.run_ends[run].load(Relaxed) as usize).min(self.samples);
            let time = self.chunk.run_times[run].load(Relaxed);
            if range.0 <= time && time <= range.1 {
                visit(time, start..end);
            }
            start = end;
        }
    }
}

/// Which series a reader wants, and in which order: a slot number per ordinal.
#[derive(Debug)]
pub struct SlotMap {
    slot_of: Vec<u32>,
    slots: usize,
}

const NO_SLOT: u32 = u32::MAX;

impl SlotMap {
    /// Gives the ordinals slots in the order in which they come. `registered` is the number of ordinals that exist.
    pub fn new(registered: usize, ordinals: impl Iterator<Item = u32>) -> Self {
        let mut map = Self { slot_of: vec![NO_SLOT; registered], slots: 0 };
        for ordinal in ordinals {
            map.slot_of[ordinal as usize] = map.slots as u32;
            map.slots += 1;
        }
        map
    }

    #[inline]
    fn get(&self, ordinal: u32) -> Option<usize> {
        match self.slot_of.get(ordinal as usize) {
            Some(&slot) if slot != NO_SLOT => Some(slot as usize),
            _ => None,
        }
    }
}

/// Samples of the wanted series, brought together.
#[derive(Debug, Default)]
pub struct Gathered {
    ends: Vec<u32>,
    times: Vec<i64>,
    values: Vec<f64>,
    /// Positions in the log, kept only if there are histograms to compare with.
    positions: Vec<u64>,
    /// By slot, in the order of the log.
    histograms: Vec<(u32, HistogramSample)>,
    /// By slot and timestamp, the earliest in the log first.
    starts: Vec<(u32, StartTime)>,
}

impl MemView {
    /// Whether the view holds no sample and no exemplar.
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty()
            && self.open.is_none()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
    }

    /// Number of float samples and histograms.
    pub fn samples(&self) -> u64 {
        self.filled().map(|f| f.samples as u64).sum::<u64>() + self.histograms.len() as u64
    }

    /// Whether it holds samples that are no floats.
    pub fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// Smallest and largest timestamp of samples.
    pub fn span(&self) -> Option<(i64, i64)> {
        let floats = self.filled().map(|f| (f.min_time, f.max_time));
        let histograms = self.histograms.iter().map(|h| (h.time, h.time));
        floats.chain(histograms).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn filled(&self) -> impl Iterator<Item = &Filled> {
        self.closed.iter().chain(&self.open)
    }

    /// Calls `visit` once or more with the ordinal of each series that has a sample in the closed range.
    pub fn each_ordinal(&self, range: (i64, i64), mut visit: impl FnMut(u32)) {
        for filled in self.filled() {
            filled.each_run(range, |_, at| at.for_each(|i| visit(filled.chunk.ordinals[i].load(Relaxed))));
        }
        for sample in self.histograms.iter().filter(|h| range.0 <= h.time && h.time <= range.1) {
            visit(sample.ordinal);
        }
    }

    /// Calls `visit` with each timestamp of samples and exemplars, once or more.
    pub fn each_time(&self, mut visit: impl FnMut(i64)) {
        for filled in self.filled() {
            filled.each_run((i64::MIN, i64::MAX), |time, _| visit(time));
        }
        self.histograms.iter().for_each(|h| visit(h.time));
        self.exemplars.iter().for_each(|e| visit(e.time));
    }

    /// Brings together the samples of the wanted series in a closed time range: two passes over the columns,
    /// however many series are wanted.
    pub fn gather(&self, wanted: &SlotMap, range: (i64, i64)) -> Gathered {
        let in_range = |time: i64| range.0 <= time && time <= range.1;
        let mut out = Gathered { ends: vec![0; wanted.slots], ..Gathered::default() };
        for filled in self.filled() {
            filled.each_run(range, |_, at| {
                for ordinal in &filled.chunk.ordinals[at] {
                    if let Some(slot) = wanted.get(ordinal.load(Relaxed)) {
                        out.ends[slot] += 1;
                    }
                }
            });
        }
        let mut total = 0;
        for end in &mut out.ends {
            total += *end;
            *end = total - *end;
        }
        let with_positions = !self.histograms.is_empty();
        out.times = vec![0; total as usize];
        out.values = vec![0.0; total as usize];
        out.positions = vec![0; if with_positions { total as usize } else { 0 }];
        let mut first_position = 0;
        for filled in self.filled() {
            filled.each_run(range, |time, at| {
                for i in at {
                    if let Some(slot) = wanted.get(filled.chunk.ordinals[i].load(Relaxed)) {
                        let to = out.ends[slot] as usize;
                        out.ends[slot] += 1;
                        out.times[to] = time;
                        out.values[to] = f64::from_bits(filled.chunk.values[i].load(Relaxed));
                        if with_positions {
                            out.positions[to] = first_position + i as u64;
                        }
                    }
                }
            });
            first_position += filled.samples as u64;
        }
        for sample in self.histograms.iter().filter(|h| in_range(h.time)) {
            if let Some(slot) = wanted.get(sample.ordinal) {
                out.histograms.push((slot as u32, sample.clone()));
            }
        }
        out.histograms.sort_by_key(|(slot, _)| *slot);
        for start in self.starts.iter().filter(|s| in_range(s.time)) {
            if let Some(slot) = wanted.get(start.ordinal) {
                out.starts.push((slot as u32, *start));
            }
        }
        out.starts.sort_by_key(|(slot, start)| (*slot, start.time));
        out.starts.dedup_by_key(|(slot, start)| (*slot, start.time));
        out
    }

    /// Exemplars of the wanted series in a closed time range: by slot, then time, each (time, labels, value) once.
    pub fn exemplars(&self, wanted: &SlotMap, range: (i64, i64)) -> Vec<(usize, &ExemplarSample)> {
        let in_range = |e: &&ExemplarSample| range.0 <= e.time && e.time <= range.1;
        let mut found: Vec<_> = self
            .exemplars
            .iter()
            .filter(in_range)
            .filter_map(|e| wanted.get(e.ordinal).map(|slot| (slot, e)))
            .collect();
        found.sort_by(|(a, x), (b, y)| {
            let key = |e: &ExemplarSample| (e.time, e.value.to_bits());
            (a, key(x)).cmp(&(b, key(y))).then_with(|| x.labels.cmp(&y.labels))
        });
        found.dedup_by(|(a, x), (b, y)| {
            a == b && x.time == y.time && x.value.to_bits() == y.value.to_bits() && x.labels == y.labels
        });
        found
    }
}

impl Gathered {
    /// Puts the samples of a slot into `out`, sorted, each timestamp once. Returns how many were dropped because an
    /// earlier one had their timestamp.
    pub fn columns(&self, slot: usize, out: &mut Columns) -> u64 {
        out.clear();
        let start = if slot == 0 { 0 } else { self.ends[slot - 1] as usize };
        let range = start..self.ends[slot] as usize;
        let (times, values) = (&self.times[range.clone()], &self.values[range.clone()]);
        let histograms = of_slot(&self.histograms, slot);
        if histograms.is_empty() && times.is_sorted_by(|a, b| a < b) {
            out.times.extend_from_slice(times);
            out.values.extend_from_slice(values);
        } else {
            self.sorted(range, histograms, out);
        }
        let starts = of_slot(&self.starts, slot);
        if !starts.is_empty() {
            let start_of =
                |t: &i64| starts.binary_search_by_key(t, |(_, s)| s.time).map_or(0, |i| starts[i].1.start);
            out.start_times.extend(out.times.iter().map(start_of));
            out.histogram_start_times.extend(out.histogram_times.iter().map(start_of));
        }
        (times.len() + histograms.len() - out.len()) as u64
    }

    fn sorted(
        &self,
        range: std::ops::Range<usize>,
        histograms: &[(u32, HistogramSample)],
        out: &mut Columns,
    ) {
        // Sorted by timestamp, then by order in the log: a float at position p is older than a histogram with more
        // than p floats before it.
        let mut order: Vec<(i64, u64, bool, usize)> = Vec::with_capacity(range.len() + histograms.len());
        for i in range {
            // Without histograms the order of the column is the order of the log.
            let position = self.positions.get(i).copied().unwrap_or(i as u64);
            order.push((self.times[i], position, true, i));
        }
        for (i, (_, sample)) in histograms.iter().enumerate() {
            // `false` sorts before `true`: the histogram that follows n floats comes before float number n.
            order.push((sample.time, sample.floats_before, false, i));
        }
        order.sort_unstable();
        order.dedup_by_key(|(time, ..)| *time);
        for (time, _, is_float, i) in order {
            if is_float {
                out.times.push(time);
                out.values.push(self.values[i]);
            } else {
                out.histogram_times.push(time);
                out.histograms.push(histograms[i].1.blob.clone());
            }
        }
    }

    /// Whether a slot got a sample.
    pub fn has_samples(&self, slot: usize) -> bool {
        let start = if slot == 0 { 0 } else { self.ends[slot - 1] };
        self.ends[slot] > start || !of_slot(&self.histograms, slot).is_empty()
    }
}

fn of_slot<T>(sorted: &[(u32, T)], slot: usize) -> &[(u32, T)] {
    if sorted.is_empty() {
        return &[];
    }
    let start = sorted.partition_point(|(s, _)| (*s as usize) < slot);
    let end = sorted.partition_point(|(s, _)| (*s as usize) <= slot);
    &sorted[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const ALL: (i64, i64) = (i64::MIN, i64::MAX);

    #[derive(Clone, Debug)]
    enum Push {
        Float(u32, i64, f64),
        Histogram(u32, i64, u8),
    }

    fn pushes() -> impl Strategy<Value = Vec<Push>> {
        let float = (0u32..6, 0i64..50, 0u32..100).prop_map(|(o, t, v)| Push::Float(o, t, f64::from(v)));
        let histogram = (0u32..6, 0i64..50, any::<u8>()).prop_map(|(o, t, b)| Push::Histogram(o, t, b));
        proptest::collection::vec(prop_oneof![9 => float, 1 => histogram], 0..300)
    }

    proptest! {
        #[test]
        fn gathers_what_was_pushed_first(pushes in pushes(), taken in 0usize..300, start in 0i64..50, len in 0i64..50) {
            let range = (start, start + len);
            let (mut table, mut model) = (Memtable::default(), BTreeMap::<(u32, i64), Push>::new());
            let mut view = table.view();
            let mut pushed = 0;
            for (i, push) in pushes.iter().enumerate() {
                let (o, t) = match push { Push::Float(o, t, _) | Push::Histogram(o, t, _) => (*o, *t) };
                match push {
                    Push::Float(.., v) => table.push_float(o, t, *v),
                    Push::Histogram(.., b) => table.push_histogram(o, t, &[*b]),
                }
                if i < taken {
                    if (range.0..=range.1).contains(&t) && o != 3 {
                        model.entry((o, t)).or_insert(push.clone());
                        pushed += 1;
                    }
                    view = table.view();
                }
            }
            // Series 3 is not wanted; the others are wanted in descending order.
            let wanted = [5u32, 4, 2, 1, 0];
            let gathered = view.gather(&SlotMap::new(6, wanted.iter().copied()), range);
            let mut dropped = 0;
            for (slot, &ordinal) in wanted.iter().enumerate() {
                let mut columns = Columns::default();
                dropped += gathered.columns(slot, &mut columns);
                let mut expected = Columns::default();
                for (&(_, t), push) in model.range((ordinal, i64::MIN)..=(ordinal, i64::MAX)) {
                    match push {
                        Push::Float(.., v) => { expected.times.push(t); expected.values.push(*v); }
                        Push::Histogram(.., b) => {
                            expected.histogram_times.push(t);
                            expected.histograms.push(Bytes::copy_from_slice(&[*b]));
                        }
                    }
                }
                prop_assert_eq!(gathered.has_samples(slot), !expected.is_empty());
                prop_assert_eq!(columns, expected);
            }
            prop_assert_eq!(dropped as usize, pushed - model.len());
        }
    }

    #[test]
    fn a_view_does_not_see_a_run_grow() {
        let mut table = Memtable::default();
        table.push_float(0, 7, 1.0);
        let view = table.view();
        table.push_float(1, 7, 2.0);
        let gathered = view.gather(&SlotMap::new(2, [0, 1].into_iter()), ALL);
        assert!(gathered.has_samples(0) && !gathered.has_samples(1));
        assert_eq!((view.samples(), table.samples()), (1, 2));
    }

    #[test]
    fn chunks_fill_by_samples_and_by_runs() {
        let mut table = Memtable::default();
        let n = 3 * CHUNK_SAMPLES as i64;
        for i in 0..n {
            table.push_float(0, i, i as f64);
        }
        for i in 0..n {
            table.push_float((i % 5) as u32, n, 0.5);
        }
        let view = table.view();
        let gathered = view.gather(&SlotMap::new(5, 0..5), ALL);
        let mut columns = Columns::default();
        let dropped = gathered.columns(0, &mut columns);
        assert!(columns.times.iter().copied().eq(0..=n));
        assert_eq!(dropped, n as u64 / 5 + u64::from(n % 5 != 0) - 1);
        assert_eq!(view.span(), Some((0, n)));
    }

    #[test]
    fn start_times_stay_with_their_samples() {
        let mut table = Memtable::default();
        for t in [30, 10, 20] {
            table.push_float(0, t, 1.0);
        }
        table.push_start_time(0, 20, 5);
        table.push_start_time(0, 20, 6);
        let mut columns = Columns::default();
        table.view().gather(&SlotMap::new(1, 0..1), ALL).columns(0, &mut columns);
        assert_eq!((columns.times, columns.start_times), (vec![10, 20, 30], vec![0, 5, 0]));
    }
}
