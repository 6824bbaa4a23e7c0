//! Lists over all shards: label names and values, series, metadata, exemplars, raw samples.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use protocol::scan::{
    ExemplarsRequest, FragmentAnswer, FragmentBody, LabelNamesRequest, LabelValuesRequest, MetadataRequest,
    RawSeries, SamplesRequest, SeriesRequest,
};

use super::{Engine, Result, encode, execute, matchers_to_wire};
use crate::error::QueryError;
use crate::fragment::wire;
use crate::promql::ast::{Expr, ExprKind};
use crate::promql::parser::parse;
use crate::result::MatrixSeries;
use crate::source::{Consistency, Exemplar, MetricMetadata, TimeRange};

/// What a list is of.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Whose data.
    pub tenant: TenantId,
    /// How fresh.
    pub consistency: Consistency,
    /// Alternatives; none means all series.
    pub selectors: Vec<Vec<Matcher>>,
    /// When the series have samples.
    pub range: TimeRange,
    /// At most so many, 0 for all.
    pub limit: usize,
    /// How long it may take.
    pub timeout: Duration,
}

impl ListRequest {
    /// A list over everything a tenant has.
    pub fn all(tenant: TenantId) -> Self {
        Self {
            tenant,
            consistency: Consistency::default(),
            selectors: Vec::new(),
            range: TimeRange::ALL,
            limit: 0,
            timeout: Duration::from_secs(120),
        }
    }
}

/// Exemplars of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplarList {
    /// The series.
    pub labels: Labels,
    /// Its exemplars, by time.
    pub exemplars: Vec<Exemplar>,
}

fn labels(bytes: &[u8]) -> Result<Labels> {
    Labels::from_canonical(bytes).map_err(|e| QueryError::Protocol(format!("malformed answer: {e}")))
}

pub(super) fn raw_series(series: RawSeries) -> Result<MatrixSeries> {
    let values = wire::floats(&series.values);
    if values.len() != series.times.len() || series.histograms.len() != series.histogram_times.len() {
        return Err(QueryError::Protocol("malformed answer: samples do not fit their times".to_owned()));
    }
    let histograms: Vec<_> = series
        .histograms
        .into_iter()
        .map(|h| wire::histogram_from_wire(h).map(Arc::new))
        .collect::<Result<_>>()?;
    Ok(MatrixSeries {
        labels: Some(labels(&series.labels)?),
        floats: wire::times(&series.times).into_iter().zip(values).collect(),
        histograms: wire::times(&series.histogram_times).into_iter().zip(histograms).collect(),
    })
}

/// Cuts at the limit; true when some went.
fn cut<T>(list: &mut Vec<T>, limit: usize) -> bool {
    let cut = limit > 0 && list.len() > limit;
    if cut {
        list.truncate(limit);
    }
    cut
}

impl Engine {
    pub(super) async fn list(
        &self,
        request: &ListRequest,
        body: FragmentBody,
    ) -> Result<Vec<FragmentAnswer>> {
        let context = self.context(&request.tenant, &request.consistency, request.timeout);
        let replies = execute(self.cluster.as_ref(), &context, encode(&context, 1, body)).await?;
        Ok(replies.into_iter().map(|reply| reply.answer).collect())
    }

    /// Label names, ascending; true when the list was cut at the limit.
    pub async fn label_names(&self, request: &ListRequest) -> Result<(Vec<String>, bool)> {
        let body = FragmentBody::LabelNames(LabelNamesRequest {
            selectors: request.selectors.iter().map(|set| matchers_to_wire(set)).collect(),
            start_ms: request.range.start,
            end_ms: request.range.end,
            limit: request.limit as u64,
        });
        strings(self.list(request, body).await?, request.limit)
    }

    /// Values of a label, ascending; true when the list was cut at the limit.
    pub async fn label_values(&self, request: &ListRequest, name: &str) -> Result<(Vec<String>, bool)> {
        let body = FragmentBody::LabelValues(LabelValuesRequest {
            name: name.to_owned(),
            selectors: request.selectors.iter().map(|set| matchers_to_wire(set)).collect(),
            start_ms: request.range.start,
            end_ms: request.range.end,
            limit: request.limit as u64,
        });
        strings(self.list(request, body).await?, request.limit)
    }

    /// Series in label order; true when the list was cut at the limit.
    pub async fn series(&self, request: &ListRequest) -> Result<(Vec<Labels>, bool)> {
        let body = FragmentBody::Series(SeriesRequest {
            selectors: request.selectors.iter().map(|set| matchers_to_wire(set)).collect(),
            start_ms: request.range.start,
            end_ms: request.range.end,
            limit: request.limit as u64,
        });
        let mut lists = Vec::new();
        let mut truncated = false;
        for answer in self.list(request, body).await? {
            truncated |= answer.truncated;
            lists.push(answer.label_sets.iter().map(|set| labels(set)).collect::<Result<Vec<_>>>()?);
        }
        let mut all = union(lists);
        truncated |= cut(&mut all, request.limit);
        Ok((all, truncated))
    }

    /// Metadata of all families or of one, each variant once.
    pub async fn metadata(&self, request: &ListRequest, family: Option<&str>) -> Result<Vec<MetricMetadata>> {
        let body = FragmentBody::Metadata(MetadataRequest { family: family.unwrap_or_default().to_owned() });
        let answers = self.list(request, body).await?;
        let all = answers.into_iter().flat_map(|answer| answer.metadata).map(|m| MetricMetadata {
            family: m.family,
            kind: m.kind,
            help: m.help,
            unit: m.unit,
        });
        Ok(all.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Exemplars of all series that a query selects, whatever it computes of them.
    pub async fn exemplars(&self, request: &ListRequest, query: &str) -> Result<Vec<SeriesExemplarList>> {
        let expr = parse(query)?;
        let selectors = selectors(&expr);
        if selectors.is_empty() {
            return Ok(Vec::new());
        }
        let body = FragmentBody::Exemplars(ExemplarsRequest {
            selectors: selectors.iter().map(|set| matchers_to_wire(set)).collect(),
            start_ms: request.range.start,
            end_ms: request.range.end,
        });
        let mut all: Vec<SeriesExemplarList> = Vec::new();
        for series in self.list(request, body).await?.into_iter().flat_map(|answer| answer.exemplars) {
            let mut exemplars = Vec::with_capacity(series.exemplars.len());
            for e in series.exemplars {
                exemplars.push(Exemplar {
                    labels: labels(&e.labels)?,
                    value: e.value,
                    timestamp: e.timestamp_ms,
                });
            }
            if !exemplars.is_empty() {
                all.push(SeriesExemplarList { labels: labels(&series.labels)?, exemplars });
            }
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all.dedup_by(|next, kept| {
            let same = next.labels == kept.labels;
            if same {
                kept.exemplars.append(&mut next.exemplars);
            }
            same
        });
        for series in &mut all {
            series.exemplars.sort_by(|a, b| (a.timestamp, &a.labels).cmp(&(b.timestamp, &b.labels)));
            series.exemplars.dedup();
        }
        Ok(all)
    }

    /// Raw samples, staleness markers included, in label order: for remote read and federation.
    pub async fn samples(&self, request: &ListRequest, last_only: bool) -> Result<Vec<MatrixSeries>> {
        let body = FragmentBody::Samples(SamplesRequest {
            selectors: request.selectors.iter().map(|set| matchers_to_wire(set)).collect(),
            start_ms: request.range.start,
            end_ms: request.range.end,
            max_samples: self.options.limits.max_samples,
            last_only,
        });
        let mut all = Vec::new();
        let mut count = 0u64;
        for answer in self.list(request, body).await? {
            count += answer.stats.as_ref().map_or(0, |stats| stats.samples);
            let limit = self.options.limits.max_samples;
            if count > limit {
                return Err(QueryError::TooManySamples { limit, asked: count });
            }
            for series in answer.samples {
                all.push(raw_series(series)?);
            }
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all.dedup_by(|next, kept| next.labels == kept.labels);
        Ok(all)
    }
}

/// The strings of all answers, ascending, each once; true when some are missing.
fn strings(answers: Vec<FragmentAnswer>, limit: usize) -> Result<(Vec<String>, bool)> {
    let mut truncated = answers.iter().any(|answer| answer.truncated);
    let mut all = union(answers.into_iter().map(|answer| answer.strings).collect());
    truncated |= cut(&mut all, limit);
    let text = |bytes: Bytes| {
        let text = String::from_utf8(bytes.into());
        text.map_err(|_| QueryError::Protocol("malformed answer: a string is not UTF-8".to_owned()))
    };
    Ok((all.into_iter().map(text).collect::<Result<_>>()?, truncated))
}

/// What any of some ascending lists has, ascending, each once. Two by two: lists of shards are often alike, and then
/// each round halves what is left.
fn union<T: Ord>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut lists = VecDeque::from(lists);
    while lists.len() > 1 {
        let (Some(a), Some(b)) = (lists.pop_front(), lists.pop_front()) else { break };
        lists.push_back(union_of_two(a, b));
    }
    lists.pop_front().unwrap_or_default()
}

fn union_of_two<T: Ord>(a: Vec<T>, b: Vec<T>) -> Vec<T> {
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
        let order = left.cmp(right);
        let next = if order.is_le() { a.next() } else { b.next() };
        if order.is_eq() {
            b.next();
        }
        out.extend(next);
    }
    out.extend(a);
    out.extend(b);
    out
}

/// The matchers of every selector in an expression.
fn selectors(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut out = Vec::new();
    expr.walk(&mut |part| match &part.kind {
        ExprKind::Vector(selector) if !selector.labels_only => out.push(selector.matchers.clone()),
        ExprKind::Matrix(matrix) => out.push(matrix.selector.matchers.clone()),
        _ => {}
    });
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_union_has_everything_once_and_in_order(
            lists in prop::collection::vec(prop::collection::btree_set(0..40_u8, 0..20), 0..9)
        ) {
            let all: BTreeSet<u8> = lists.iter().flatten().copied().collect();
            let union = union(lists.into_iter().map(|list| list.into_iter().collect()).collect());
            prop_assert_eq!(union, all.into_iter().collect::<Vec<_>>());
        }
    }
}
