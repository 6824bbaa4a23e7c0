//! Search at a shard: candidates by a filter, their traces judged whole, the best kept.
//!
//! Newest first, the walk goes from the newest candidate backwards. A trace's place is the start of its last matching span;
//! as matching spans are candidates, no trace that was not met yet can lie behind the walk, and the walk ends when the page
//! is full of traces that lie before it. Slowest first, every candidate has to be looked at.
//!
//! Traces in short are those that begin in a range, whatever their spans are, the latest first: the first span of each is a
//! candidate, so that the same walk finds them, and ends as soon.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use prost::Message;
use protocol::logs::messages::to_attributes;
use protocol::logs::{LogColumns, LogField, LogFilter};
use protocol::otlp::traces::SpanEncoder;
use protocol::spans::messages::{
    FoundMessage, MatchMessage, SearchRequest, ServiceMessage, SetMessage, SummariesRequest, TraceAnswer,
    TracePlaceMessage,
};
use protocol::spans::{SpanSink, SpanStatus};

use super::assemble::{Summary, Trace};
use super::fragment::{Asked, MANY_TRACES, TraceWalk, trace_id_of};
use super::traceql::{
    Evaluator, Field, Intrinsic, Query, Spanset, columns_of, fields_of, parse, pushdown, subject_of,
};
use crate::error::QueryError;
use crate::exec::Budget;
use crate::logs::fragment::Result;

/// Traces that are loaded at a time at least.
const FEWEST_TRACES: usize = 8;

/// Place in a page: what comes first is least.
type Place = (Reverse<i64>, [u8; 16]);

/// Answers a search.
pub(super) fn search(asked: &Asked<'_>, request: &SearchRequest) -> Result<TraceAnswer> {
    let query = parse(&request.query)?;
    if query.metric.is_some() {
        return Err(QueryError::Protocol("a search for traces asks for numbers".to_owned()));
    }
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let mut best = Best::new(&asked.budget, limit);
    if limit == 0 {
        return Ok(TraceAnswer::default());
    }
    let evaluator = Evaluator::new(&query)?;
    let fields = shown_fields(&query);
    let range = (asked.start_ns, asked.end_ns);
    let after = request.after.as_ref().map(place_of).transpose()?;
    let mut walked = range;
    if let (Some((Reverse(key), _)), false) = (after, request.slowest_first) {
        walked.1 = walked.1.min(key);
    }
    let mut wanted_from = None;
    // Slowest first, all are wanted; newest first, hardly more than a page.
    let many = if request.slowest_first { MANY_TRACES } else { limit.clamp(FEWEST_TRACES, MANY_TRACES) };
    let columns = if request.whole { LogColumns::All } else { columns_of(&query) };
    let walk = TraceWalk { range: walked, filter: pushdown(&query), newest_first: true, many, columns };
    asked.each_trace(walk, &mut |trace, summary| {
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
        if after.is_none_or(|after| place > after) {
            best.put(place, || found_message(trace, summary, key, &sets, &fields, request))?;
        }
        if !request.slowest_first {
            wanted_from = best.wanted_from();
        }
        Ok(wanted_from)
    })?;
    Ok(best.answer())
}

/// Answers which traces begin in the range.
pub(super) fn summaries(asked: &Asked<'_>, request: SummariesRequest) -> Result<TraceAnswer> {
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let mut best = Best::new(&asked.budget, limit);
    if limit == 0 {
        return Ok(TraceAnswer::default());
    }
    let filter = LogFilter::try_from(request.filter)?;
    if !is_about_traces(&filter) {
        let message = "traces in short are asked for by what their spans do not have in common";
        return Err(QueryError::Protocol(message.to_owned()));
    }
    let after = request.after.as_ref().map(place_of).transpose()?;
    let range = (asked.start_ns, asked.end_ns);
    // A trace that begins later than the one before lies before it.
    let walk = TraceWalk {
        range: (range.0, after.map_or(range.1, |(Reverse(key), _)| range.1.min(key))),
        filter,
        newest_first: true,
        many: limit.clamp(FEWEST_TRACES, MANY_TRACES),
        columns: LogColumns::Fields(Vec::new()),
    };
    asked.each_trace(walk, &mut |trace, summary| {
        // By where its spans are found, so that none without a start hides the trace from the walk.
        let Some(start_ns) = trace.spans.iter().map(|span| span.span.placed_ns()).min() else {
            return Ok(best.wanted_from());
        };
        let place = (Reverse(start_ns), summary.trace_id);
        let is_behind = after.is_none_or(|after| place > after);
        if is_behind && (range.0..=range.1).contains(&start_ns) {
            best.put(place, || FoundMessage { start_ns, ..short_message(summary, start_ns) })?;
        }
        Ok(best.wanted_from())
    })?;
    Ok(best.answer())
}

/// Whether all spans of a trace pass, or none.
fn is_about_traces(filter: &LogFilter) -> bool {
    match filter {
        LogFilter::All | LogFilter::Field(LogField::TraceId, _) => true,
        LogFilter::Field(..) => false,
        LogFilter::And(parts) | LogFilter::Or(parts) => parts.iter().all(is_about_traces),
        LogFilter::Not(part) => is_about_traces(part),
    }
}

fn place_of(place: &TracePlaceMessage) -> Result<Place> {
    Ok((Reverse(place.key), trace_id_of(&place.trace_id)?))
}

/// The first traces of a page, as far as they were met.
struct Best<'b> {
    budget: &'b Budget,
    limit: usize,
    found: BTreeMap<Place, FoundMessage>,
}

impl<'b> Best<'b> {
    fn new(budget: &'b Budget, limit: usize) -> Self {
        Self { budget, limit, found: BTreeMap::new() }
    }

    /// Puts a trace in its place if that is on the page, which the last one may leave for it.
    fn put(&mut self, place: Place, message: impl FnOnce() -> FoundMessage) -> Result<()> {
        let is_full = self.found.len() >= self.limit;
        if is_full && self.found.last_key_value().is_none_or(|(worst, _)| place >= *worst) {
            return Ok(());
        }
        let message = message();
        self.budget.hold(held_bytes(&message))?;
        self.found.insert(place, message);
        if is_full && let Some((_, worst)) = self.found.pop_last() {
            self.budget.release(held_bytes(&worst));
        }
        Ok(())
    }

    /// The key before which nothing is wanted any more, where the latest come first.
    fn wanted_from(&self) -> Option<i64> {
        let (Reverse(worst), _) = self.found.last_key_value().filter(|_| self.found.len() >= self.limit)?.0;
        Some(*worst)
    }

    fn answer(self) -> TraceAnswer {
        TraceAnswer { found: self.found.into_values().collect(), ..TraceAnswer::default() }
    }
}

fn held_bytes(found: &FoundMessage) -> u64 {
    found.encoded_len() as u64 + 128
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
    let whole = request.whole.then(|| {
        let mut encoder = SpanEncoder::default();
        for span in &trace.spans {
            encoder.stream(&span.stream);
            encoder.span(&span.span);
        }
        encoder.finish()
    });
    FoundMessage {
        sets: sets.iter().map(set).collect(),
        whole: whole.unwrap_or_default(),
        ..short_message(summary, key)
    }
}

/// A trace in short, without its spans.
fn short_message(summary: &Summary, key: i64) -> FoundMessage {
    let service = |(name, spans, errors): &(String, u64, u64)| ServiceMessage {
        name: name.clone(),
        spans: *spans,
        errors: *errors,
    };
    FoundMessage {
        place: TracePlaceMessage { key, trace_id: summary.trace_id.to_vec() },
        start_ns: summary.start_ns,
        end_ns: summary.end_ns,
        root_service: summary.root_service.clone(),
        root_name: summary.root_name.clone(),
        spans: summary.spans,
        errors: summary.errors,
        services: summary.services.iter().map(service).collect(),
        sets: Vec::new(),
        whole: Vec::new(),
        orphaned: summary.orphaned,
    }
}
