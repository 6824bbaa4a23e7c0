//! Which metrics, labels and label pairs have most series, over all shards.
//!
//! Series are spread over the shards by a hash, so counts of series add up; distinct values do not, for shards have them
//! in common, so their hashes are united. The pairs with most series are found exactly in at most three rounds: the
//! largest of each shard; all that have at least the n-th part, over n shards, of the least sum among them, without
//! which no pair reaches that sum; the counts of all that were named.

use std::collections::{BTreeMap, HashSet};

use protocol::scan::{CardinalityAnswer, CardinalityRequest, FragmentBody, LabelPair, PairCount};

use super::lists::ListRequest;
use super::{Engine, Result};
use crate::error::QueryError;
use crate::source::TimeRange;

/// The figures of a tenant's current series. Lists are cut at the request's limit, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Parts that samples lie in.
    pub chunks: u64,
    /// First and last timestamp of samples in memory.
    pub span: Option<TimeRange>,
    /// Series by metric.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values by label.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of values by label, that of each series counted.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series by label pair.
    pub series_by_pair: Vec<(LabelPair, u64)>,
}

/// The largest counts, equal ones by name.
fn largest<K: Ord>(counts: impl IntoIterator<Item = (K, u64)>, limit: usize) -> Vec<(K, u64)> {
    let mut all: Vec<(K, u64)> = counts.into_iter().collect();
    all.sort_unstable_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    all.truncate(limit);
    all
}

fn sum(answers: &[CardinalityAnswer]) -> BTreeMap<LabelPair, u64> {
    let mut sums = BTreeMap::new();
    for PairCount { pair, series } in answers.iter().flat_map(|answer| &answer.pairs) {
        *sums.entry(pair.clone()).or_default() += series;
    }
    sums
}

impl Engine {
    /// Counts a tenant's current series; `request.limit` is the length of each list.
    pub async fn cardinality(&self, request: &ListRequest) -> Result<Cardinality> {
        let limit = request.limit.clamp(1, 10_000);
        let first = CardinalityRequest { limit: limit as u32, ..CardinalityRequest::default() };
        let shards = self.ask(request, first).await?;
        let mut out = Cardinality::default();
        let (mut metrics, mut bytes) = (BTreeMap::new(), BTreeMap::new());
        let mut values = BTreeMap::<&str, HashSet<[u8; 8]>>::new();
        for shard in &shards {
            out.series += shard.series;
            out.chunks += shard.chunks;
            if shard.has_samples {
                let (start, end) = (shard.min_time_ms, shard.max_time_ms);
                let wider = |s: TimeRange| TimeRange { start: s.start.min(start), end: s.end.max(end) };
                out.span = Some(out.span.map_or(TimeRange { start, end }, wider));
            }
            for metric in &shard.metrics {
                *metrics.entry(metric.pair.value.clone()).or_default() += metric.series;
            }
            for label in &shard.labels {
                *bytes.entry(label.name.clone()).or_default() += label.value_bytes;
                values.entry(&label.name).or_default().extend(label.value_hashes.as_chunks::<8>().0);
            }
        }
        out.label_pairs = values.values().map(|values| values.len() as u64).sum();
        out.values_by_label =
            largest(values.iter().map(|(name, values)| ((*name).to_owned(), values.len() as u64)), limit);
        out.series_by_metric = largest(metrics, limit);
        out.bytes_by_label = largest(bytes, limit);
        out.series_by_pair = self.largest_pairs(request, limit, &shards).await?;
        Ok(out)
    }

    async fn largest_pairs(
        &self,
        request: &ListRequest,
        limit: usize,
        shards: &[CardinalityAnswer],
    ) -> Result<Vec<(LabelPair, u64)>> {
        let mut sums = sum(shards);
        // A shard with room left in its list has named all that it has.
        let is_cut = |shard: &CardinalityAnswer| shard.pairs.len() >= limit;
        if shards.len() > 1 && shards.iter().any(is_cut) {
            let least = largest(sums.clone(), limit).last().map_or(0, |(_, series)| *series);
            let min_series = least.div_ceil(shards.len() as u64).max(1);
            let second = CardinalityRequest { min_series, ..CardinalityRequest::default() };
            sums.extend(sum(&self.ask(request, second).await?));
            let pairs = sums.into_keys().collect();
            let third = CardinalityRequest { pairs, ..CardinalityRequest::default() };
            sums = sum(&self.ask(request, third).await?);
        }
        Ok(largest(sums, limit))
    }

    async fn ask(
        &self,
        request: &ListRequest,
        question: CardinalityRequest,
    ) -> Result<Vec<CardinalityAnswer>> {
        let answers = self.list(request, FragmentBody::Cardinality(question)).await?;
        let missing = || QueryError::Protocol("malformed answer: it holds no counts".to_owned());
        answers.into_iter().map(|answer| answer.cardinality.ok_or_else(missing)).collect()
    }
}
