//! Results of range queries, kept for the next one that asks for the same a little later.
//!
//! A kept result is never used on trust. Each comes with the position in the log of every shard at which it was computed;
//! before it is used, all shards are asked, as fresh as the query wants it, for the least timestamp that anything since
//! then may have changed: written late, backfilled, deleted, dropped. Steps that look at nothing from there on are what an
//! evaluation would give; the others are evaluated.
//!
//! ```text
//! kept        t0 ────────────────────────────── t9        positions {1: 70, 2: 81}
//! asked             t3 ─────────────────────────────── t12
//! shards      "since 70: from t=t8", "since 81: nothing"
//! answer            t3 ──── kept ──── t7 │ t8 ─ evaluated ─ t12
//! ```
//!
//! What is kept is what can be cut at any step: see [`reach`]. Results with warnings, information or native histograms are
//! not kept, since those speak of the whole range. The least recently used go when there is no room, or when the node is
//! short of memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::ids::{ShardId, TenantId};
use protocol::memory::{Charge, MemoryLedger, MemoryUse, Pressure};

use crate::features::Features;
use crate::plan::push::names_one_metric;
use crate::promql::ast::{DurationValue, Edges, Expr, ExprKind, VectorSelector};
use crate::promql::functions::FunctionId;
use crate::result::{MatrixSeries, QueryResult, ResultValue};
use crate::value::{Grid, Map};

/// Positions in the logs of all shards.
pub(super) type Positions = BTreeMap<ShardId, u64>;

/// Settings of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes that it may hold.
    pub max_bytes: u64,
    /// Results of fewer samples are not kept: they are as quickly evaluated as looked up.
    pub min_samples: u64,
}

/// What a cache did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Queries that used kept steps.
    pub hits: u64,
    /// Queries that could have, and found none that are still right.
    pub misses: u64,
    /// Steps that were not evaluated.
    pub steps: u64,
    /// Results.
    pub results: u64,
    /// Bytes held.
    pub bytes: u64,
}

/// All that a result depends on but the times and the data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub tenant: TenantId,
    pub text: String,
    pub step: i64,
    /// Where between multiples of the step the steps lie.
    pub phase: i64,
    pub lookback: i64,
    pub subquery_step: i64,
    pub features: Features,
}

/// A kept result.
pub(super) struct Kept {
    /// First step.
    pub start: i64,
    /// Last step.
    pub end: i64,
    /// In the order of labels, floats only. There may be points after `end`, which do not count any more.
    pub series: Arc<Vec<MatrixSeries>>,
    /// The positions at which it was right.
    pub positions: Positions,
}

impl Kept {
    /// A result to be kept, or `None` where it is none of those.
    pub fn of(grid: &Grid, result: &QueryResult, positions: Option<Positions>) -> Option<Self> {
        let positions = positions.filter(|positions| !positions.is_empty())?;
        let ResultValue::Matrix(series) = &result.value else { return None };
        let speaks = !result.warnings.is_empty() || !result.infos.is_empty();
        if speaks || series.iter().any(|s| !s.histograms.is_empty()) {
            return None;
        }
        Some(Self { start: grid.start, end: grid.end(), series: Arc::new(series.clone()), positions })
    }

    fn bytes(&self) -> u64 {
        let label_bytes = |s: &MatrixSeries| s.labels.as_ref().map_or(0, |labels| labels.as_bytes().len());
        let rows = self.series.iter().map(|s| label_bytes(s) + s.floats.len() * 16 + 96);
        rows.sum::<usize>() as u64 + 256
    }

    /// The last step of a grid up to which the result is right, given the least timestamp that changed and how far ahead
    /// of themselves steps look. `None` where it is of no use.
    pub fn right_until(&self, grid: &Grid, changed_from: i64, reach: i64) -> Option<i64> {
        let unchanged = match changed_from {
            i64::MAX => i64::MAX,
            from => from.saturating_sub(reach).saturating_sub(1),
        };
        let last = self.end.min(grid.end()).min(unchanged);
        if grid.start < self.start || last < grid.start {
            return None;
        }
        Some(grid.start + (last - grid.start) / grid.step * grid.step)
    }

    /// The same, known to be right at later positions, up to where it is.
    pub fn confirmed(&self, step: i64, changed_from: i64, reach: i64, positions: Positions) -> Option<Self> {
        let end = self.right_until(&Grid::between(self.start, self.end, step), changed_from, reach)?;
        Some(Self { start: self.start, end, series: Arc::clone(&self.series), positions })
    }

    /// The kept steps from `start` to `until`, and what was evaluated after them.
    pub fn with_later(&self, start: i64, until: i64, later: Vec<MatrixSeries>) -> Vec<MatrixSeries> {
        let mut later = later.into_iter().peekable();
        let mut out = Vec::with_capacity(self.series.len());
        for series in self.series.iter() {
            while let Some(new) = later.next_if(|new| new.labels < series.labels) {
                out.push(new);
            }
            let mut whole = cut(series, start, until);
            if let Some(new) = later.next_if(|new| new.labels == series.labels) {
                whole.floats.extend(new.floats);
                whole.histograms = new.histograms;
            }
            out.push(whole);
        }
        out.extend(later);
        out.retain(|series| !series.floats.is_empty() || !series.histograms.is_empty());
        out
    }

    /// What a query on a grid is answered.
    pub fn matrix(&self, grid: &Grid) -> Vec<MatrixSeries> {
        let mut out: Vec<_> = self.series.iter().map(|series| cut(series, grid.start, grid.end())).collect();
        out.retain(|series| !series.floats.is_empty());
        out
    }
}

/// The floats of a series in a closed range of times.
fn cut(series: &MatrixSeries, start: i64, end: i64) -> MatrixSeries {
    let from = series.floats.partition_point(|(time, _)| *time < start);
    let to = series.floats.partition_point(|(time, _)| *time <= end);
    let floats = series.floats[from..to.max(from)].to_vec();
    MatrixSeries { labels: series.labels.clone(), floats, histograms: Vec::new() }
}

struct Slot {
    kept: Arc<Kept>,
    bytes: u64,
    used: u64,
}

struct Inner {
    slots: Map<Key, Slot>,
    bytes: u64,
    clock: u64,
    charge: Charge,
}

struct Shared {
    options: CacheOptions,
    inner: Mutex<Inner>,
    hits: AtomicU64,
    misses: AtomicU64,
    steps: AtomicU64,
}

/// A cache. Clones are the same.
#[derive(Clone)]
pub struct ResultCache(Arc<Shared>);

impl std::fmt::Debug for ResultCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ResultCache").field(&self.stats()).finish()
    }
}

impl ResultCache {
    /// An empty cache, its memory part of a ledger.
    pub fn new(options: CacheOptions, memory: &MemoryLedger) -> Self {
        let charge = memory.charge(MemoryUse::Caches);
        let inner = Mutex::new(Inner { slots: Map::default(), bytes: 0, clock: 0, charge });
        let [hits, misses, steps] = Default::default();
        Self(Arc::new(Shared { options, inner, hits, misses, steps }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it did so far.
    pub fn stats(&self) -> CacheStats {
        let inner = self.lock();
        CacheStats {
            hits: self.0.hits.load(Ordering::Relaxed),
            misses: self.0.misses.load(Ordering::Relaxed),
            steps: self.0.steps.load(Ordering::Relaxed),
            results: inner.slots.len() as u64,
            bytes: inner.bytes,
        }
    }

    pub(super) fn options(&self) -> &CacheOptions {
        &self.0.options
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Kept>> {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let slot = inner.slots.get_mut(key)?;
        slot.used = clock;
        Some(Arc::clone(&slot.kept))
    }

    pub(super) fn count(&self, steps: u64) {
        let counter = if steps > 0 { &self.0.hits } else { &self.0.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        self.0.steps.fetch_add(steps, Ordering::Relaxed);
    }

    pub(super) fn keep(&self, key: Key, kept: Kept) {
        let bytes = kept.bytes() + key.text.len() as u64;
        let mut guard = self.lock();
        let inner = &mut *guard;
        if let Some(old) = inner.slots.remove(&key) {
            inner.bytes -= old.bytes;
        }
        // A quarter at most: one report must not cost all dashboards theirs.
        if bytes <= self.0.options.max_bytes / 4 {
            inner.shrink(self.0.options.max_bytes - bytes);
            if inner.charge.try_set(inner.bytes + bytes, Pressure::Flush) {
                inner.clock += 1;
                inner.bytes += bytes;
                inner.slots.insert(key, Slot { kept: Arc::new(kept), bytes, used: inner.clock });
                return;
            }
            // Queries and writes need the memory more.
            inner.shrink(inner.bytes / 2);
        }
        inner.charge.set(inner.bytes);
    }
}

impl Inner {
    /// Lets the least recently used go until so many bytes are left at most.
    fn shrink(&mut self, bytes: u64) {
        while self.bytes > bytes {
            let Some(oldest) =
                self.slots.iter().min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone())
            else {
                return;
            };
            if let Some(slot) = self.slots.remove(&oldest) {
                self.bytes -= slot.bytes;
            }
        }
    }
}

/// How many milliseconds ahead of itself a step of an expression looks at most; negative where it looks only at what is
/// past. `None` where the result can not be cut at steps, or need not be kept:
///
/// * it depends on the query's own times (`@ start()`, `range()`, arithmetic of durations), or on one time (`@ 10`);
/// * series of several metrics may become one as names are dropped, which is refused by whole series;
/// * what is said of resets of native histograms depends on what else is read;
/// * no data is read.
pub(super) fn reach(expr: &Expr) -> Option<i64> {
    let mut found = None;
    visit(expr, 0, &mut found).then_some(found).flatten()
}

fn visit(expr: &Expr, ahead: i64, found: &mut Option<i64>) -> bool {
    use FunctionId as Id;
    match &expr.kind {
        ExprKind::Vector(selector) => looks(selector, ahead, found),
        ExprKind::Matrix(matrix) => matrix.range.expr.is_none() && looks(&matrix.selector, ahead, found),
        ExprKind::Subquery(subquery) => {
            let plain = subquery.at.is_none()
                && subquery.range.expr.is_none()
                && subquery.step.as_ref().is_none_or(|step| step.expr.is_none());
            match offset(subquery.offset.as_ref()) {
                Some(offset) if plain => visit(&subquery.expr, ahead.saturating_sub(offset), found),
                _ => false,
            }
        }
        ExprKind::Call { function, .. }
            if matches!(
                function.id,
                Id::Start
                    | Id::End
                    | Id::Range
                    | Id::Info
                    | Id::Sort
                    | Id::SortDesc
                    | Id::SortByLabel
                    | Id::SortByLabelDesc
                    | Id::HistogramCount
                    | Id::HistogramSum
                    | Id::HistogramAvg
            ) =>
        {
            false
        }
        _ => expr.children().into_iter().all(|child| visit(child, ahead, found)),
    }
}

fn offset(offset: Option<&DurationValue>) -> Option<i64> {
    match offset {
        None => Some(0),
        Some(offset) => offset.expr.is_none().then_some(offset.millis),
    }
}

fn looks(selector: &VectorSelector, ahead: i64, found: &mut Option<i64>) -> bool {
    let plain = selector.at.is_none() && selector.edges != Edges::Smoothed && !selector.labels_only;
    let Some(offset) = offset(selector.offset.as_ref()).filter(|_| plain && names_one_metric(selector))
    else {
        return false;
    };
    let ahead = ahead.saturating_sub(offset);
    *found = Some(found.map_or(ahead, |other| other.max(ahead)));
    true
}

#[cfg(test)]
mod tests {
    use protocol::labels::Labels;

    use super::*;
    use crate::promql::parser::parse;

    fn key(text: &str) -> Key {
        Key {
            tenant: TenantId::default(),
            text: text.to_owned(),
            step: 10,
            phase: 0,
            lookback: 300_000,
            subquery_step: 60_000,
            features: Features::default(),
        }
    }

    fn row(name: &str, points: &[(i64, f64)]) -> MatrixSeries {
        let labels = Some(Labels::from_pairs([("l", name)]).unwrap());
        MatrixSeries { labels, floats: points.to_vec(), histograms: Vec::new() }
    }

    fn kept(points: i64) -> Kept {
        let points: Vec<_> = (0..points).map(|i| (i * 10, i as f64)).collect();
        let end = points.last().map_or(0, |(time, _)| *time);
        Kept { start: 0, end, series: Arc::new(vec![row("a", &points)]), positions: Positions::new() }
    }

    #[test]
    fn how_far_ahead_steps_look() {
        let of = |text: &str| reach(&parse(text).unwrap());
        assert_eq!(of("sum by (job) (rate(a_total[5m]))"), Some(0));
        assert_eq!(of("a offset 1m"), Some(-60_000));
        assert_eq!(of("a offset 1m + rate(b_total[5m] offset -2m)"), Some(120_000));
        assert_eq!(of("max_over_time((a offset -1m)[10m:1m] offset -1m)"), Some(120_000));
        assert_eq!(
            of("topk(scalar(b), a) * on (x) group_left label_replace(c, \"y\", \"$1\", \"x\", \"(.*)\")"),
            Some(0)
        );
        for text in [
            "a @ 10",
            "a @ end()",
            "a + start()",
            "sum(rate(a_total[range()]))",
            "a offset (step() + 1)",
            "max_over_time(a[10m:step()])",
            "{__name__=~\"a.*\"}",
            "sum({job=\"a\"})",
            "sort(a)",
            "a smoothed",
            "histogram_count(a)",
            "a + info(b)",
            "time()",
            "vector(1)",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn steps_that_look_at_nothing_changed_are_right() {
        let kept = kept(10);
        let grid = |start, end| Grid::between(start, end, 10);
        assert_eq!(kept.right_until(&grid(20, 200), i64::MAX, 0), Some(90));
        assert_eq!(kept.right_until(&grid(20, 50), i64::MAX, 0), Some(50));
        assert_eq!(kept.right_until(&grid(20, 200), 61, 0), Some(60));
        assert_eq!(kept.right_until(&grid(20, 200), 60, 0), Some(50));
        assert_eq!(kept.right_until(&grid(20, 200), 60, 25), Some(30));
        assert_eq!(kept.right_until(&grid(20, 200), 60, -25), Some(80));
        assert_eq!(kept.right_until(&grid(20, 200), 20, 0), None);
        assert_eq!(kept.right_until(&grid(20, 200), i64::MIN, 0), None);
        assert_eq!(kept.right_until(&grid(-10, 200), i64::MAX, 0), None, "the beginning is missing");
        assert_eq!(kept.right_until(&grid(100, 200), i64::MAX, 0), None);
    }

    #[test]
    fn a_result_goes_on() {
        let old = kept(10);
        let later = vec![row("Z", &[(60, 6.5)]), row("a", &[(60, 60.0)]), row("b", &[(70, 1.0)])];
        let whole = old.with_later(20, 50, later);
        let expected = [
            row("Z", &[(60, 6.5)]),
            row("a", &[(20, 2.0), (30, 3.0), (40, 4.0), (50, 5.0), (60, 60.0)]),
            row("b", &[(70, 1.0)]),
        ];
        assert_eq!(whole, expected);
        assert_eq!(old.with_later(100, 110, Vec::new()), []);
        assert_eq!(old.matrix(&Grid::between(80, 200, 10)), [row("a", &[(80, 8.0), (90, 9.0)])]);
        let shorter = old.confirmed(10, 51, 0, Positions::new()).unwrap();
        assert_eq!((shorter.start, shorter.end), (0, 50));
        assert!(old.confirmed(10, 0, 0, Positions::new()).is_none());
    }

    #[test]
    fn the_least_recently_used_go() {
        let memory = MemoryLedger::new(100_000);
        let options = CacheOptions { max_bytes: 10_000, min_samples: 0 };
        let cache = ResultCache::new(options, &memory);
        for name in ["a", "b", "c", "d", "e", "f"] {
            cache.keep(key(name), kept(100));
            assert!(cache.get(&key("a")).is_some());
        }
        assert!(cache.get(&key("b")).is_none() && cache.get(&key("f")).is_some());
        let stats = cache.stats();
        assert!(stats.bytes <= 10_000 && stats.results == 5, "{stats:?}");
        assert_eq!(memory.used_for(MemoryUse::Caches), stats.bytes);
        cache.keep(key("huge"), kept(1000));
        assert!(cache.get(&key("huge")).is_none(), "more than a quarter");
        // Under pressure it gives memory back instead of taking more.
        let young = ResultCache::new(options, &memory);
        young.keep(key("a"), kept(100));
        young.keep(key("b"), kept(100));
        let before = young.stats().bytes;
        let mut other = memory.charge(MemoryUse::Memtables);
        other.set(95_000);
        young.keep(key("g"), kept(10));
        assert!(young.get(&key("g")).is_none() && young.stats().bytes < before);
        assert_eq!(memory.used_for(MemoryUse::Caches), cache.stats().bytes + young.stats().bytes);
    }
}
