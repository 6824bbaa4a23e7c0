//! Counts of label pairs at a shard. See [`CardinalityRequest`] for who asks what.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use protocol::ids::TenantId;
use protocol::labels::METRIC_NAME;
use protocol::scan::{
    CardinalityAnswer, CardinalityRequest, FragmentAnswer, LabelCount, LabelPair, PairCount,
};

use crate::error::QueryError;
use crate::source::ShardSource;
use crate::xxh64;

/// Pairs with most series that are answered at most.
const MAX_LIMIT: usize = 10_000;

pub(super) fn cardinality(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: CardinalityRequest,
) -> Result<FragmentAnswer, QueryError> {
    let mut answer = CardinalityAnswer::default();
    if request.limit > 0 {
        totals(source, tenant, (request.limit as usize).min(MAX_LIMIT), &mut answer)?;
    } else {
        let wanted: HashSet<(&str, &str)> =
            request.pairs.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
        let min_series = if request.min_series > 0 { request.min_series } else { u64::MAX };
        source.head(tenant, &mut |name, value, series| {
            if series >= min_series || wanted.contains(&(name, value)) {
                answer.pairs.push(count(name, value, series));
            }
        })?;
    }
    Ok(FragmentAnswer { cardinality: Some(answer), ..FragmentAnswer::default() })
}

fn count(name: &str, value: &str, series: u64) -> PairCount {
    PairCount { pair: LabelPair { name: name.to_owned(), value: value.to_owned() }, series }
}

fn totals(
    source: &dyn ShardSource,
    tenant: &TenantId,
    limit: usize,
    answer: &mut CardinalityAnswer,
) -> Result<(), QueryError> {
    let mut top = BTreeSet::<(u64, Reverse<String>, Reverse<String>)>::new();
    let head = source.head(tenant, &mut |name, value, series| {
        if answer.labels.last().is_none_or(|label| label.name != name) {
            answer.labels.push(LabelCount { name: name.to_owned(), ..LabelCount::default() });
        }
        if let Some(label) = answer.labels.last_mut() {
            label.value_hashes.extend_from_slice(&xxh64::hash(value.as_bytes()).to_le_bytes());
            label.value_bytes += value.len() as u64 * series;
        }
        if name == METRIC_NAME {
            answer.metrics.push(count(name, value, series));
        }
        if top.len() < limit || top.first().is_some_and(|(least, ..)| *least < series) {
            top.insert((series, Reverse(name.to_owned()), Reverse(value.to_owned())));
            if top.len() > limit {
                top.pop_first();
            }
        }
    })?;
    answer.pairs =
        top.into_iter().rev().map(|(series, name, value)| count(&name.0, &value.0, series)).collect();
    answer.series = head.series;
    answer.chunks = head.chunks;
    answer.has_samples = head.span.is_some();
    (answer.min_time_ms, answer.max_time_ms) = head.span.unwrap_or_default();
    Ok(())
}
