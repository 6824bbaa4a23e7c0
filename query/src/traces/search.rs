//! Search at a shard: candidates by a filter, their traces judged whole, the best kept.
//!
//! Newest first, the walk goes from the newest candidate backwards. A trace's place is the start of its last matching span;
//! as matching spans are candidates, no trace that was not met yet can lie behind the walk, and the walk ends when the page
//! is full of traces that lie before it. Slowest first, every candidate has to be looked at.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use prost::Message;
use protocol::logs::messages::to_attributes;
use protocol::otlp::traces::SpanEncoder;
use protocol::spans::messages::{
    FoundMessage, MatchMessage, SearchRequest, ServiceMessage, SetMessage, TraceAnswer, TracePlaceMessage,
};
use protocol::spans::{SpanSink, SpanStatus};

use super::assemble::{Summary, Trace};
use super::fragment::{Asked, MANY_TRACES, trace_id_of};
use super::traceql::{Evaluator, Field, Intrinsic, Query, Spanset, fields_of, parse, pushdown, subject_of};
use crate::error::QueryError;
use crate::logs::fragment::Result;

/// Traces that are loaded at a time at least.
const FEWEST_TRACES: usize = 16;

/// Place in a page: what comes first is least.
type Place = (Reverse<i64>, [u8; 16]);

/// Answers a search.
pub(super) fn search(asked: &Asked<'_>, request: &SearchRequest) -> Result<TraceAnswer> {
    let query = parse(&request.query)?;
    if query.metric.is_some() {
        return Err(QueryError::Protocol("a search for traces asks for numbers".to_owned()));
    }
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let mut best: BTreeMap<Place, FoundMessage> = BTreeMap::new();
    if limit == 0 {
        return Ok(TraceAnswer::default());
    }
    let evaluator = Evaluator::new(&query)?;
    let fields = shown_fields(&query);
    let range = (asked.start_ns, asked.end_ns);
    let after = match &request.after {
        Some(place) => Some((Reverse(place.key), trace_id_of(&place.trace_id)?)),
        None => None,
    };
    let mut walk = range;
    if let (Some((Reverse(key), _)), false) = (after, request.slowest_first) {
        walk.1 = walk.1.min(key);
    }
    let mut wanted_from = None;
    // Slowest first, all are wanted; newest first, hardly more than a page.
    let many = if request.slowest_first { MANY_TRACES } else { limit.clamp(FEWEST_TRACES, MANY_TRACES) };
    asked.each_trace(walk, pushdown(&query), true, many, &mut |trace, summary| {
        let sets = evaluator.spansets(trace, summary);
        let starts = sets.iter().flat_map(|set| set.spans.iter().map(|at| trace.spans[*at].span.start_ns));
        let Some(last) = starts.filter(|start| (range.0..=range.1).contains(start)).max() else {
            return Ok(wanted_from);
        };
        let key = match request.slowest_first {
            true => i64::try_from(summary.duration_ns()).unwrap_or(i64::MAX),
            false => last,
        };
        let place = (Reverse(key), summary.trace_id);
        let is_behind = after.is_none_or(|after| place > after);
        let is_better = best.len() < limit || best.last_key_value().is_some_and(|(worst, _)| place < *worst);
        if is_behind && is_better {
            let found = found_message(trace, summary, key, &sets, &fields, request);
            asked.budget.hold(found.encoded_len() as u64 + 128)?;
            best.insert(place, found);
            if best.len() > limit
                && let Some((_, worst)) = best.pop_last()
            {
                asked.budget.release(worst.encoded_len() as u64 + 128);
            }
        }
        if !request.slowest_first && best.len() >= limit {
            wanted_from = best.last_key_value().map(|((Reverse(worst), _), _)| *worst);
        }
        Ok(wanted_from)
    })?;
    Ok(TraceAnswer { found: best.into_values().collect(), ..TraceAnswer::default() })
}

/// The fields that are shown with matching spans: those that the query names, but what is always shown.
fn shown_fields(query: &Query) -> Vec<Field> {
    let mut fields = fields_of(query);
    let is_always_shown = |field: &Field| {
        matches!(
            field,
            Field::Intrinsic(Intrinsic::Name | Intrinsic::Duration | Intrinsic::SpanId | Intrinsic::TraceId)
        ) || matches!(field, Field::Intrinsic(intrinsic) if intrinsic.is_of_trace())
    };
    fields.retain(|field| !is_always_shown(field));
    fields.sort();
    fields.dedup();
    fields
}

fn found_message(
    trace: &Trace,
    summary: &Summary,
    key: i64,
    sets: &[Spanset],
    fields: &[Field],
    request: &SearchRequest,
) -> FoundMessage {
    let most = match usize::try_from(request.spans_per_set) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(most) => most,
    };
    let matching = |at: usize| {
        let span = &trace.spans[at];
        let subject = subject_of(trace, at, summary);
        let shown: Vec<_> = fields
            .iter()
            .map(|field| (field.to_string().into(), subject.first(field)))
            .filter(|(_, value)| *value != protocol::logs::LogValue::Empty)
            .collect();
        MatchMessage {
            span_id: u64::from_be_bytes(span.span.span_id),
            name: span.span.name.clone().into_owned(),
            service: span.service().to_owned(),
            start_ns: span.span.start_ns,
            duration_ns: span.span.duration_ns(),
            failed: span.span.status == SpanStatus::Error,
            fields: to_attributes(&shown),
        }
    };
    let set = |set: &Spanset| {
        let values: Vec<_> =
            set.values.iter().map(|(field, value)| (field.to_string().into(), value.clone())).collect();
        SetMessage {
            values: to_attributes(&values),
            matched: set.spans.len() as u64,
            spans: set.spans.iter().take(most).map(|at| matching(*at)).collect(),
        }
    };
    let service = |(name, spans, errors): &(String, u64, u64)| ServiceMessage {
        name: name.clone(),
        spans: *spans,
        errors: *errors,
    };
    let whole = request.whole.then(|| {
        let mut encoder = SpanEncoder::default();
        for span in &trace.spans {
            encoder.stream(&span.stream);
            encoder.span(&span.span);
        }
        encoder.finish()
    });
    FoundMessage {
        place: TracePlaceMessage { key, trace_id: summary.trace_id.to_vec() },
        start_ns: summary.start_ns,
        end_ns: summary.end_ns,
        root_service: summary.root_service.clone(),
        root_name: summary.root_name.clone(),
        spans: summary.spans,
        errors: summary.errors,
        services: summary.services.iter().map(service).collect(),
        sets: sets.iter().map(set).collect(),
        whole: whole.unwrap_or_default(),
    }
}
