//! A cluster in memory: series spread over shards by a hash, every question going through real fragment bytes.

#![allow(dead_code, reason = "shared by test binaries that use different parts of it")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use protocol::histogram::{CounterResetHint, Histogram};
use protocol::ids::{ShardId, TenantId};
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use query::histogram::HistogramExt;
use query::source::{
    Cluster, Exemplar, MetricMetadata, ReadContext, SeriesColumns, ShardAnswer, ShardSource, SourceError,
    TimeRange,
};
use query::{CancelFlag, Limits, run_fragment};

/// A sample.
#[derive(Clone, Debug)]
pub enum Value {
    Float(f64),
    Histogram(Histogram),
}

#[derive(Clone, Debug, Default)]
struct Stored {
    floats: BTreeMap<i64, (f64, i64)>,
    histograms: BTreeMap<i64, (Histogram, i64)>,
}

/// One shard.
#[derive(Debug, Default)]
pub struct Shard {
    /// Its number; 0 for one that is in no cluster.
    id: u16,
    /// The least timestamp that each write or delete so far may have changed.
    log: Vec<i64>,
    series: BTreeMap<Labels, Stored>,
    exemplars: BTreeMap<Labels, Vec<Exemplar>>,
    metadata: Vec<MetricMetadata>,
}

/// All shards.
pub struct MemoryCluster {
    shards: Vec<Mutex<Shard>>,
    /// Histograms are stored as they come, without a word on whether they were reset.
    pub raw_hints: bool,
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
}

impl MemoryCluster {
    pub fn new(shards: usize) -> Arc<Self> {
        let shard = |id| Mutex::new(Shard { id, ..Shard::default() });
        Arc::new(Self { shards: (1..=shards as u16).map(shard).collect(), raw_hints: shards == 2 })
    }

    fn shard_of(&self, labels: &Labels) -> &Mutex<Shard> {
        let key = labels.filtered(|name| name != "le");
        let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
        &self.shards[(hash % self.shards.len() as u64) as usize]
    }

    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().expect("no other holder panicked");
            shard.log.push(i64::MIN);
            *shard = Shard { id: shard.id, log: std::mem::take(&mut shard.log), ..Shard::default() };
        }
    }

    /// Stores a sample; the first of a time stays.
    pub fn put(&self, labels: &Labels, time: i64, value: Value, start: i64) {
        let mut shard = self.shard_of(labels).lock().expect("no other holder panicked");
        shard.log.push(time);
        let stored = shard.series.entry(labels.clone()).or_default();
        if stored.floats.contains_key(&time) || stored.histograms.contains_key(&time) {
            return;
        }
        match value {
            Value::Float(value) => {
                stored.floats.insert(time, (value, start));
            }
            Value::Histogram(mut h) => {
                // Prometheus' storage notices when a histogram just goes on.
                if let Some((_, (before, _))) = stored.histograms.range(..time).next_back()
                    && !self.raw_hints
                    && h.counter_reset_hint == CounterResetHint::Unknown
                    && before.counter_reset_hint != CounterResetHint::Gauge
                    && !h.is_reset_after(before)
                {
                    h.counter_reset_hint = CounterResetHint::NotReset;
                }
                stored.histograms.insert(time, (h, start));
            }
        }
    }

    /// Deletes a series' samples of a closed range of times.
    pub fn delete(&self, labels: &Labels, start: i64, end: i64) {
        let mut shard = self.shard_of(labels).lock().expect("no other holder panicked");
        shard.log.push(start);
        if let Some(stored) = shard.series.get_mut(labels) {
            stored.floats.retain(|time, _| !(start..=end).contains(time));
            stored.histograms.retain(|time, _| !(start..=end).contains(time));
        }
    }

    /// Stores a sample of a series; whether it is the series' first.
    pub fn put_new(&self, labels: &Labels) -> bool {
        let is_new =
            !self.shard_of(labels).lock().expect("no other holder panicked").series.contains_key(labels);
        self.put(labels, 0, Value::Float(1.0), 0);
        is_new
    }

    pub fn put_exemplar(&self, labels: &Labels, exemplar: Exemplar) {
        let mut shard = self.shard_of(labels).lock().expect("no other holder panicked");
        shard.exemplars.entry(labels.clone()).or_default().push(exemplar);
    }

    pub fn put_metadata(&self, shard: usize, metadata: MetricMetadata) {
        self.shards[shard].lock().expect("no other holder panicked").metadata.push(metadata);
    }
}

impl Cluster for MemoryCluster {
    fn execute<'a>(
        &'a self,
        _: &'a ReadContext,
        fragment: Bytes,
    ) -> BoxFuture<'a, Result<Vec<ShardAnswer>, SourceError>> {
        let answer = |(i, shard): (usize, &Mutex<Shard>)| {
            let shard = shard.lock().expect("no other holder panicked");
            let bytes = run_fragment(&*shard, &fragment, Limits::default(), CancelFlag::default())
                .expect("a fragment of the engine is well formed");
            ShardAnswer { shard: ShardId(i as u16 + 1), answer: Bytes::from(bytes) }
        };
        ready(Ok(self.shards.iter().enumerate().map(answer).collect())).boxed()
    }
}

impl ShardSource for Shard {
    fn position(&self) -> Option<(ShardId, u64)> {
        (self.id > 0).then_some((ShardId(self.id), self.log.len() as u64 + 1))
    }

    fn changed_since(&self, _: &TenantId, index: u64) -> i64 {
        let later = self.log.get(index as usize - 1..).expect("a position of this shard");
        later.iter().copied().min().unwrap_or(i64::MAX)
    }

    fn select(
        &self,
        _: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        if range.start > range.end {
            return Ok(());
        }
        for (labels, stored) in self.series.iter().filter(|(labels, _)| matches(matchers, labels)) {
            let floats: Vec<_> = stored.floats.range(range.start..=range.end).collect();
            let histograms: Vec<_> = stored.histograms.range(range.start..=range.end).collect();
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            let has_starts = floats.iter().any(|(_, (_, start))| *start != 0);
            let has_histogram_starts = histograms.iter().any(|(_, (_, start))| *start != 0);
            let times: Vec<i64> = floats.iter().map(|(time, _)| **time).collect();
            let values: Vec<f64> = floats.iter().map(|(_, (value, _))| *value).collect();
            let starts: Vec<i64> =
                floats.iter().filter(|_| has_starts).map(|(_, (_, start))| *start).collect();
            let histogram_times: Vec<i64> = histograms.iter().map(|(time, _)| **time).collect();
            let histogram_starts: Vec<i64> =
                histograms.iter().filter(|_| has_histogram_starts).map(|(_, (_, start))| *start).collect();
            let histograms: Vec<Histogram> = histograms.iter().map(|(_, (h, _))| h.clone()).collect();
            let columns = SeriesColumns {
                labels,
                times: &times,
                shared_times: None,
                values: &values,
                start_times: &starts,
                histogram_times: &histogram_times,
                histograms: &histograms,
                histogram_start_times: &histogram_starts,
                rolled: &[],
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
        self.select(tenant, matchers, range, &mut |columns| {
            names.extend(columns.labels.iter().map(|(name, _)| name.to_owned()));
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
        self.select(tenant, matchers, range, &mut |columns| {
            values.extend(columns.labels.get(name).map(str::to_owned));
            ControlFlow::Continue(())
        })?;
        Ok(values.into_iter().collect())
    }

    fn metadata(&self, _: &TenantId, family: Option<&str>) -> Result<Vec<MetricMetadata>, SourceError> {
        Ok(self.metadata.iter().filter(|m| family.is_none_or(|f| f == m.family)).cloned().collect())
    }

    fn exemplars(
        &self,
        _: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&Labels, &[Exemplar]) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        for (labels, exemplars) in self.exemplars.iter().filter(|(labels, _)| matches(matchers, labels)) {
            let inside = |e: &&Exemplar| e.timestamp >= range.start && e.timestamp <= range.end;
            let found: Vec<Exemplar> = exemplars.iter().filter(inside).cloned().collect();
            if visit(labels, &found).is_break() {
                break;
            }
        }
        Ok(())
    }
}
