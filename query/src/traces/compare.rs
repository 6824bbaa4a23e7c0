//! What tells two sets of spans apart: which attributes, and by how much.
//!
//! For each value of an attribute, its *share* is the part of a set's spans that have it; the difference of the two shares
//! is what that value tells, and an attribute tells as much as the most telling of its values. Attributes are ranked by
//! that: 1 is an attribute of which some value is in all spans of one set and in none of the other, 0 one that is spread
//! alike in both. The measure does not depend on how large the sets are, and a value that a few spans have counts for
//! little, whatever it is.
//!
//! Name, kind, status and service count as attributes. An attribute with very many values (ids, texts) has no common one to
//! tell anything; it is named among those that were left out.

use std::collections::BTreeMap;

use protocol::logs::messages::{FieldMessage, GroupMessage};
use protocol::logs::{LogColumns, LogField};
use protocol::spans::messages::{AttributesRequest, TraceAnswer};

use super::fragment::Asked;
use super::traceql::{kind_name, parse, status_name};
use crate::error::QueryError;
use crate::logs::fragment::Result;

/// A value of an attribute in both sets.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedValue {
    /// The value as text.
    pub value: String,
    /// Spans of the selection that have it.
    pub selection: u64,
    /// Spans of the baseline that have it.
    pub baseline: u64,
    /// Share in the selection less share in the baseline.
    pub difference: f64,
}

/// An attribute in both sets.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedField {
    /// The attribute.
    pub field: LogField,
    /// The largest difference of its values.
    pub score: f64,
    /// Its values, the most telling first.
    pub values: Vec<ComparedValue>,
}

/// Two sets compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Spans of the selection.
    pub selection: u64,
    /// Spans of the baseline.
    pub baseline: u64,
    /// Attributes, the most telling first.
    pub fields: Vec<ComparedField>,
    /// Attributes with too many values.
    pub left_out: Vec<LogField>,
}

/// Values of attributes, with spans that have them.
pub(super) type Counts = BTreeMap<LogField, BTreeMap<String, u64>>;

/// Answers a request for the values of attributes.
pub(super) fn attributes(asked: &Asked<'_>, request: &AttributesRequest) -> Result<TraceAnswer> {
    let query = parse(&request.query)?;
    let max_values = usize::try_from(request.max_values).unwrap_or(usize::MAX);
    // None: too many.
    let mut counts: BTreeMap<LogField, Option<BTreeMap<String, u64>>> = BTreeMap::new();
    let mut spans_found = 0;
    asked.each_match(&query, LogColumns::All, &mut |subject| {
        spans_found += 1;
        let (span, stream) = (subject.span, subject.stream);
        let mut found: Vec<(LogField, String)> = vec![
            (LogField::Body, span.name.clone().into_owned()),
            (LogField::SpanKind, kind_name(span.kind).to_owned()),
            (LogField::SpanStatus, status_name(span.status).to_owned()),
        ];
        for (key, value) in &span.attributes {
            found.push((LogField::RecordAttribute(key.to_string()), value.text().into_owned()));
        }
        for (key, value) in &stream.resource {
            found.push((LogField::ResourceAttribute(key.to_string()), value.text().into_owned()));
        }
        // One that was sent twice with one value is one.
        found.sort();
        found.dedup();
        for (field, value) in found {
            let is_new = !counts.contains_key(&field);
            if is_new {
                asked.budget.hold(size_of::<LogField>() as u64 + 128)?;
            }
            let slot = counts.entry(field).or_insert_with(|| Some(BTreeMap::new()));
            let Some(values) = slot else { continue };
            if let Some(count) = values.get_mut(&value) {
                *count += 1;
            } else if values.len() >= max_values {
                *slot = None;
            } else {
                asked.budget.hold(value.len() as u64 + 64)?;
                values.insert(value, 1);
            }
        }
        Ok(())
    })?;
    let mut answer = TraceAnswer { spans_found, ..TraceAnswer::default() };
    for (field, values) in counts {
        let field = FieldMessage::from(&field);
        match values {
            None => answer.left_out.push(field),
            Some(values) => answer.groups.extend(values.into_iter().map(|(value, count)| GroupMessage {
                values: vec![field.kind.to_string(), field.name.clone(), value],
                buckets: vec![0],
                counts: vec![count],
                bytes: Vec::new(),
            })),
        }
    }
    Ok(answer)
}

/// Adds up what the shards found; fields with too many values at one shard, or together, are left out.
pub(super) fn merge(answers: Vec<TraceAnswer>, max_values: usize) -> Result<(u64, Counts, Vec<LogField>)> {
    let (mut spans, mut counts, mut left_out) = (0u64, Counts::new(), Vec::new());
    for answer in answers {
        spans = spans.saturating_add(answer.spans_found);
        for field in answer.left_out {
            left_out.push(LogField::try_from(field)?);
        }
        for group in answer.groups {
            let ([kind, name, value], [count]) = (&group.values[..], &group.counts[..]) else {
                return Err(QueryError::Protocol("a value of an attribute is not told as three".to_owned()));
            };
            let Ok(kind) = kind.parse() else {
                return Err(QueryError::Protocol(format!("{kind:?} is no kind of field")));
            };
            let field = LogField::try_from(FieldMessage { kind, name: name.clone() })?;
            let known = counts.entry(field).or_default().entry(value.clone()).or_default();
            *known = known.saturating_add(*count);
        }
    }
    left_out.extend(
        counts.iter().filter(|(_, values)| values.len() > max_values).map(|(field, _)| field.clone()),
    );
    left_out.sort();
    left_out.dedup();
    counts.retain(|field, _| left_out.binary_search(field).is_err());
    Ok((spans, counts, left_out))
}

/// Compares a selection with a baseline, each with its spans, values and fields left out.
pub(super) fn compare(
    (selection, of_selection, left_out_of_selection): (u64, Counts, Vec<LogField>),
    (baseline, mut of_baseline, left_out_of_baseline): (u64, Counts, Vec<LogField>),
    max_fields: usize,
    max_values: usize,
) -> Comparison {
    let mut left_out = left_out_of_selection;
    left_out.extend(left_out_of_baseline);
    left_out.sort();
    left_out.dedup();
    let share = |count: u64, of: u64| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let mut both: BTreeMap<LogField, BTreeMap<String, (u64, u64)>> = BTreeMap::new();
    for (field, values) in of_selection {
        let known = both.entry(field).or_default();
        known.extend(values.into_iter().map(|(value, count)| (value, (count, 0))));
    }
    for (field, values) in &mut of_baseline {
        let known = both.entry(field.clone()).or_default();
        for (value, count) in std::mem::take(values) {
            known.entry(value).or_default().1 = count;
        }
    }
    both.retain(|field, _| left_out.binary_search(field).is_err());
    let mut fields: Vec<ComparedField> = both
        .into_iter()
        .map(|(field, values)| {
            let compared = |(value, (in_selection, in_baseline)): (String, (u64, u64))| ComparedValue {
                value,
                selection: in_selection,
                baseline: in_baseline,
                difference: share(in_selection, selection) - share(in_baseline, baseline),
            };
            let mut values: Vec<ComparedValue> = values.into_iter().map(compared).collect();
            values.sort_by(|a, b| {
                b.difference.abs().total_cmp(&a.difference.abs()).then_with(|| a.value.cmp(&b.value))
            });
            let score = values.first().map_or(0.0, |value| value.difference.abs());
            values.truncate(max_values);
            ComparedField { field, score, values }
        })
        .collect();
    fields.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.field.cmp(&b.field)));
    fields.truncate(max_fields);
    Comparison { selection, baseline, fields, left_out }
}
