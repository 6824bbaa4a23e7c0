//! A cluster in memory: series spread over shards by a hash, every question going through real fragment bytes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use protocol::histogram::Histogram;
use protocol::ids::{ShardId, TenantId};
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use protocol::sample::is_stale_nan;
use query::source::{
    Cluster, Exemplar, MetricMetadata, ReadContext, SeriesColumns, ShardAnswer, ShardSource, SourceError,
    Tally, TallyBy, TimeRange,
};
use query::{CancelFlag, Limits, run_fragment};
use sql::Fragment;

#[derive(Default)]
pub struct Series {
    pub times: Vec<i64>,
    pub values: Vec<f64>,
    pub histogram_times: Vec<i64>,
    pub histograms: Vec<Histogram>,
    pub exemplars: Vec<Exemplar>,
}

/// Series by tenant and labels.
#[derive(Default)]
pub struct Shard(BTreeMap<(String, Labels), Series>);

pub struct MemoryCluster {
    shards: Vec<Shard>,
    pub limits: Limits,
    /// Fragments that were asked for.
    pub asked: AtomicUsize,
}

impl MemoryCluster {
    pub fn new(shards: usize) -> Self {
        let shards = (0..shards).map(|_| Shard::default()).collect();
        Self { shards, limits: Limits::default(), asked: AtomicUsize::default() }
    }

    /// The shard of a series.
    pub fn shard_of(&self, labels: &Labels) -> usize {
        let hash =
            labels.as_bytes().iter().fold(7u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        (hash >> 17) as usize % self.shards.len()
    }

    pub fn series(&mut self, tenant: &str, labels: &Labels) -> &mut Series {
        let at = self.shard_of(labels);
        self.shards[at].0.entry((tenant.to_owned(), labels.clone())).or_default()
    }
}

impl Cluster for MemoryCluster {
    fn execute<'a>(
        &'a self,
        _: &'a ReadContext,
        fragment: Bytes,
    ) -> BoxFuture<'a, Result<Vec<ShardAnswer>, SourceError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = |(at, shard): (usize, &Shard)| {
            let bytes = match Fragment::decode(&fragment) {
                Some(sql) => sql.run(shard, self.limits, CancelFlag::default()),
                None => run_fragment(shard, &fragment, self.limits, CancelFlag::default())
                    .expect("a fragment of the engine is well formed"),
            };
            ShardAnswer { shard: ShardId(at as u16 + 1), answer: bytes.into() }
        };
        ready(Ok(self.shards.iter().enumerate().map(answer).collect())).boxed()
    }
}

impl Shard {
    fn matching<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
    ) -> impl Iterator<Item = (&'a Labels, &'a Series)> {
        let fits = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")));
        let of_tenant = self.0.iter().filter(|((owner, _), _)| owner == tenant.as_str());
        of_tenant.map(|((_, labels), series)| (labels, series)).filter(move |(labels, _)| fits(labels))
    }
}

fn inside(times: &[i64], range: TimeRange) -> std::ops::Range<usize> {
    let start = times.partition_point(|time| *time < range.start);
    start..times.partition_point(|time| *time <= range.end).max(start)
}

impl ShardSource for Shard {
    /// As segments would: unread, and in two parts.
    fn tally(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        by: TallyBy,
        visit: &mut dyn FnMut(&Labels, &Tally) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let unnamed = Labels::empty();
        self.select(tenant, matchers, range, &mut |series| {
            let named = if by == TallyBy::Series { series.labels } else { &unnamed };
            let live: Vec<i64> = (series.times.iter().zip(series.values))
                .filter(|(_, value)| !is_stale_nan(**value))
                .map(|(time, _)| *time)
                .collect();
            let (early, late) = live.split_at(live.len() / 2);
            for part in [early, late] {
                let (first, last) = (part.first().copied(), part.last().copied());
                let tally = Tally {
                    samples: part.len() as u64,
                    first: first.unwrap_or(i64::MAX),
                    last: last.unwrap_or(i64::MIN),
                    read_samples: 0,
                    read_series: 0,
                };
                if visit(named, &tally).is_break() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
    }

    fn select(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        for (labels, series) in self.matching(tenant, matchers) {
            let (floats, histograms) = (inside(&series.times, range), inside(&series.histogram_times, range));
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            let columns = SeriesColumns {
                histogram_times: &series.histogram_times[histograms.clone()],
                histograms: &series.histograms[histograms],
                ..SeriesColumns::floats(labels, &series.times[floats.clone()], &series.values[floats])
            };
            if visit(columns).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn series(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&Labels) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.select(tenant, matchers, range, &mut |columns| visit(columns.labels))
    }

    fn label_names(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, SourceError> {
        let mut names = std::collections::BTreeSet::new();
        self.series(tenant, matchers, range, &mut |labels| {
            names.extend(labels.iter().map(|(name, _)| name.to_owned()));
            ControlFlow::Continue(())
        })?;
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, SourceError> {
        let mut values = std::collections::BTreeSet::new();
        self.series(tenant, matchers, range, &mut |labels| {
            values.extend(labels.get(name).map(str::to_owned));
            ControlFlow::Continue(())
        })?;
        Ok(values.into_iter().collect())
    }

    fn metadata(&self, _: &TenantId, _: Option<&str>) -> Result<Vec<MetricMetadata>, SourceError> {
        Ok(Vec::new())
    }

    fn exemplars(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&Labels, &[Exemplar]) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        for (labels, series) in self.matching(tenant, matchers) {
            let fits = |e: &&Exemplar| (range.start..=range.end).contains(&e.timestamp);
            let found: Vec<Exemplar> = series.exemplars.iter().filter(fits).cloned().collect();
            if visit(labels, &found).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A node with one setting.
pub struct OneSetting;

impl sql::system::System for OneSetting {
    fn rows<'a>(
        &'a self,
        table: sql::system::SystemTable,
        _: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<Vec<sql::system::Cell>>, SourceError>> {
        use sql::system::{Cell, SystemTable};
        let rows = match table {
            SystemTable::Settings => vec![vec![Cell::text("query.timeout"), Cell::text("2m")]],
            _ => Vec::new(),
        };
        ready(Ok(rows)).boxed()
    }
}

/// An engine over shards that hold the data of all cases for the default tenant.
pub fn loaded(shards: usize) -> MemoryCluster {
    let mut cluster = MemoryCluster::new(shards);
    for loaded in super::cases::data() {
        let labels = Labels::from_pairs(loaded.labels).expect("labels");
        let series = cluster.series(TenantId::default().as_str(), &labels);
        for (time, value) in loaded.samples {
            series.times.push(time);
            series.values.push(value);
        }
    }
    cluster
}

pub fn engine(cluster: Arc<MemoryCluster>, options: query::EngineOptions) -> sql::SqlEngine {
    let engine = query::Engine::new(cluster, options);
    sql::SqlEngine::new(engine, Arc::new(OneSetting), sql::SqlOptions::default())
}
