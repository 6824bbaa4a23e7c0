//! Questions about traces at a shard: a request in, one walk over the shard's spans, an answer out.
//!
//! Spans that are read are charged to the [`Budget`], those of traces that are loaded too, and the bytes of what is kept.
//! A limit that is met fails the question: nothing is left out silently.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use protocol::logs::messages::{FieldCount, FieldMessage};
use protocol::logs::value::id_text;
use protocol::logs::{Attribute, LogColumns, LogField, LogFilter, LogScan, LogStream, LogTest, RowSignal};
use protocol::otlp::traces::SpanEncoder;
use protocol::scan::FragmentAnswer;
use protocol::spans::messages::{
    EdgeMessage, SpanCountsRequest, TraceAnswer, TraceBody, TraceIdRequest, TraceRequest, VERSION,
};
use protocol::spans::{Span, SpanSink, SpanStatus};

use super::assemble::{Summary, Trace, service_of};
use super::source::SpanSource;
use super::traceql::{Evaluator, Query, Subject, needs_trace, pushdown, subject_of};
use super::{compare, metrics, search};
use crate::error::QueryError;
use crate::exec::{Budget, Control, Held, Limits};
use crate::logs::fragment::{Failure, Groups, Result};
use crate::logs::source::{LogCount, LogKinds, LogRead};
use crate::source::{ShardSource, SourceError};
use crate::value::Map;

/// Traces that are loaded at a time where all are wanted.
pub(super) const MANY_TRACES: usize = 512;

/// Which traces are visited, and how.
pub(super) struct TraceWalk {
    /// When the spans begin that are looked for.
    pub range: (i64, i64),
    /// What they meet.
    pub filter: LogFilter,
    /// Whether the walk goes from the latest of them backwards.
    pub newest_first: bool,
    /// Traces that are loaded at a time: to load one more costs little.
    pub many: usize,
    /// What is wanted of each span, besides its place in its trace and what a summary says.
    pub columns: LogColumns,
}

/// A question at a shard while it is answered.
pub(super) struct Asked<'a> {
    pub source: &'a dyn SpanSource,
    pub tenant: &'a TenantId,
    pub start_ns: i64,
    pub end_ns: i64,
    pub budget: Budget,
}

/// Answers a question about traces.
pub(crate) fn run_trace_fragment(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: TraceRequest,
    limits: Limits,
    control: Control,
    round: u32,
) -> Result<FragmentAnswer> {
    if request.version > VERSION {
        let message =
            format!("version {} of trace messages is newer than this node's {VERSION}", request.version);
        return Err(QueryError::Protocol(message));
    }
    let Some(spans) = source.spans() else {
        let error = SourceError::new(ErrorKind::Internal, "the shard of this node has no traces to read");
        return Err(error.into());
    };
    let limits = limits.within(request.max_samples, request.max_bytes, request.timeout_ms);
    let budget = Budget::new(limits, control).within(source.memory()).in_round(round);
    let asked = Asked { source: spans, tenant, start_ns: request.start_ns, end_ns: request.end_ns, budget };
    let answer = match request.body {
        None => return Err(QueryError::Protocol("the request about traces has no body".to_owned())),
        Some(TraceBody::Trace(request)) => asked.trace(&request),
        Some(TraceBody::Search(request)) => search::search(&asked, &request),
        Some(TraceBody::Metrics(request)) => metrics::metrics(&asked, &request),
        Some(TraceBody::Counts(request)) => asked.counts(request),
        Some(TraceBody::Fields(_)) => asked.fields(),
        Some(TraceBody::Attributes(request)) => compare::attributes(&asked, &request),
        Some(TraceBody::Edges(_)) => asked.edges(),
        Some(TraceBody::Summaries(request)) => search::summaries(&asked, request),
    }?;
    asked.budget.check()?;
    asked.budget.settle();
    let stats = asked.budget.stats();
    Ok(FragmentAnswer { traces: Some(answer), stats: Some(stats), ..FragmentAnswer::default() })
}

/// A trace id of a message.
pub(super) fn trace_id_of(bytes: &[u8]) -> Result<[u8; 16]> {
    bytes
        .try_into()
        .map_err(|_| QueryError::Protocol(format!("a trace id has 16 bytes, not {}", bytes.len())))
}

/// Columns, and those that tell where a span is in its trace and how it ended.
fn with_places(columns: &LogColumns) -> LogColumns {
    let LogColumns::Fields(fields) = columns else { return LogColumns::All };
    let service = LogField::ResourceAttribute("service.name".to_owned());
    let places = [
        LogField::TraceId,
        LogField::SpanId,
        LogField::ParentId,
        LogField::Duration,
        LogField::SpanKind,
        LogField::SpanStatus,
        LogField::Body,
        service,
    ];
    LogColumns::Fields(fields.iter().cloned().chain(places).collect())
}

/// Bytes that a span takes in memory, roughly.
fn memory_bytes(span: &Span<'_>) -> u64 {
    let of = |attributes: &[Attribute<'_>]| -> u64 {
        attributes.iter().map(|(key, value)| key.len() as u64 + 24 + value.memory_bytes()).sum()
    };
    let events: u64 =
        span.events.iter().map(|event| 96 + event.name.len() as u64 + of(&event.attributes)).sum();
    let links: u64 = span.links.iter().map(|link| 112 + of(&link.attributes)).sum();
    // Its place in the trace besides.
    size_of::<Span<'_>>() as u64 + 96 + span.name.len() as u64 + of(&span.attributes) + events + links
}

/// Gathers the spans of a trace; streams that are equal are there once.
#[derive(Default)]
pub(super) struct Gathered {
    streams: Vec<Arc<LogStream<'static>>>,
    spans: Vec<(Arc<LogStream<'static>>, Span<'static>)>,
    current: Option<Arc<LogStream<'static>>>,
}

impl SpanSink for Gathered {
    fn stream(&mut self, stream: &LogStream<'_>) {
        let known = self.streams.iter().rev().find(|known| known.as_ref() == stream);
        let shared = match known {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(stream.clone().into_owned());
                self.streams.push(Arc::clone(&new));
                new
            }
        };
        self.current = Some(shared);
    }

    fn span(&mut self, span: &Span<'_>) {
        let stream = self.current.get_or_insert_default();
        self.spans.push((Arc::clone(stream), span.clone().into_owned()));
    }
}

impl Gathered {
    pub fn assemble(self) -> Trace {
        Trace::assemble(self.spans)
    }
}

impl Asked<'_> {
    fn read<T>(
        &self,
        read: impl FnOnce(&LogRead<'_>) -> std::result::Result<T, SourceError>,
    ) -> std::result::Result<T, SourceError> {
        let should_stop = || self.budget.check().is_err();
        read(&LogRead { signal: RowSignal::Spans, tenant: self.tenant, should_stop: &should_stop })
    }

    /// Walks over spans that begin in a range; each is charged before it is visited.
    pub fn scan(
        &self,
        (start_ns, end_ns): (i64, i64),
        filter: LogFilter,
        newest_first: bool,
        columns: LogColumns,
        visit: &mut dyn FnMut(&LogStream<'_>, &Span<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut failure = Failure::none();
        let scan = LogScan { start_ns, end_ns, filter, newest_first, columns, expected: usize::MAX };
        let walked = self.read(|read| {
            self.source.spans(read, &scan, &mut |stream, span| {
                let visited = self.budget.charge_samples(1).and_then(|()| visit(stream, span));
                failure.go_on(visited)
            })
        });
        failure.or(walked)?;
        self.budget.check()
    }

    fn visit_trace(
        &self,
        trace_id: &[u8; 16],
        visit: &mut dyn FnMut(&LogStream<'_>, &Span<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut failure = Failure::none();
        let walked = self.read(|read| {
            self.source.trace(read, trace_id, &mut |stream, span| {
                let visited = self.budget.charge_samples(1).and_then(|()| visit(stream, span));
                failure.go_on(visited.map(ControlFlow::Continue))
            })
        });
        failure.or(walked)?;
        self.budget.check()
    }

    /// Whole traces, in the order of their ids' list, and what they hold until they go.
    fn load(&self, ids: &[[u8; 16]], columns: &LogColumns) -> Result<(Vec<Trace>, Held<'_>)> {
        let mut gathered: Map<[u8; 16], Gathered> = Map::default();
        let mut held = self.budget.hold_while(0)?;
        let texts = ids.iter().map(|id| id_text(id)).collect();
        let filter = LogFilter::Field(LogField::TraceId, LogTest::OneOf(texts));
        // A trace is judged whole, whenever its spans were.
        let always = (i64::MIN, i64::MAX);
        let mut spans = 0;
        self.scan(always, filter, false, with_places(columns), &mut |stream, span| {
            held.grow(memory_bytes(span))?;
            let gathered = gathered.entry(span.trace_id).or_default();
            gathered.stream(stream);
            gathered.span(span);
            spans += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        let traces: Vec<Trace> =
            ids.iter().filter_map(|id| gathered.remove(id)).map(Gathered::assemble).collect();
        // Spans that are equal in what was read may differ in what was not.
        if *columns != LogColumns::All && traces.iter().map(Trace::len).sum::<usize>() < spans {
            drop(held);
            return self.load(ids, &LogColumns::All);
        }
        Ok((traces, held))
    }

    /// Visits whole traces, each once, that have a span which a filter finds and which begins in a range. Where `visit`
    /// returns a time, no trace is wanted any more of which this walk has not met a span that begins then or later.
    pub fn each_trace(
        &self,
        walk: TraceWalk,
        visit: &mut dyn FnMut(&Trace, &Summary) -> Result<Option<i64>>,
    ) -> Result<()> {
        let mut seen = Seen::new(&self.budget);
        let mut waiting: Vec<[u8; 16]> = Vec::with_capacity(walk.many);
        let mut wanted_from = None;
        let mut visit_waiting = |waiting: &mut Vec<[u8; 16]>| -> Result<Option<i64>> {
            let (traces, _held) = self.load(waiting, &walk.columns)?;
            waiting.clear();
            let mut wanted_from = None;
            for trace in &traces {
                if let Some(summary) = trace.summary() {
                    wanted_from = visit(trace, &summary)?;
                }
            }
            Ok(wanted_from)
        };
        let columns = LogColumns::Fields(vec![LogField::TraceId]);
        self.scan(walk.range, walk.filter, walk.newest_first, columns, &mut |_, span| {
            // What has no start is placed at its end, which is not read here: it tells nothing of how far the walk is.
            if wanted_from.is_some_and(|from| span.start_ns != 0 && span.start_ns < from) {
                return Ok(ControlFlow::Break(()));
            }
            if seen.is_new(&span.trace_id)? {
                waiting.push(span.trace_id);
            }
            if waiting.len() >= walk.many {
                wanted_from = visit_waiting(&mut waiting)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if !waiting.is_empty() {
            visit_waiting(&mut waiting)?;
        }
        Ok(())
    }

    /// Visits every span that a query finds and that begins in the range, in no order. At least these columns of it are
    /// there.
    pub fn each_match(
        &self,
        query: &Query,
        columns: LogColumns,
        visit: &mut dyn FnMut(Subject<'_, '_>) -> Result<()>,
    ) -> Result<()> {
        let evaluator = Evaluator::new(query)?;
        let (range, filter) = ((self.start_ns, self.end_ns), pushdown(query));
        if !needs_trace(query) {
            return self.scan(range, filter, false, columns, &mut |stream, span| {
                let subject = Subject { stream, span, trace: None };
                if evaluator.passes(subject) {
                    visit(subject)?;
                }
                Ok(ControlFlow::Continue(()))
            });
        }
        let walk = TraceWalk { range, filter, newest_first: false, many: MANY_TRACES, columns };
        self.each_trace(walk, &mut |trace, summary| {
            for at in matched_in(&evaluator, trace, summary, range) {
                visit(subject_of(trace, at, summary))?;
            }
            Ok(None)
        })
    }

    fn trace(&self, request: &TraceIdRequest) -> Result<TraceAnswer> {
        let trace_id = trace_id_of(&request.trace_id)?;
        let mut encoder = SpanEncoder::default();
        let mut held = self.budget.hold_while(0)?;
        let mut before = 0;
        self.visit_trace(&trace_id, &mut |stream, span| {
            encoder.stream(stream);
            encoder.span(span);
            let now = encoder.len();
            held.grow((now - before) as u64)?;
            before = now;
            Ok(())
        })?;
        Ok(TraceAnswer { spans: encoder.finish(), ..TraceAnswer::default() })
    }

    fn counts(&self, request: SpanCountsRequest) -> Result<TraceAnswer> {
        let by =
            request.by.into_iter().map(LogField::try_from).collect::<std::result::Result<Vec<_>, _>>()?;
        let count = LogCount {
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            filter: LogFilter::try_from(request.filter)?,
            bucket_ns: 0,
            by,
        };
        let max_groups = usize::try_from(request.max_groups).unwrap_or(usize::MAX);
        let mut groups = Groups::new(&self.budget);
        let mut failure = Failure::none();
        let walked = self.read(|read| {
            self.source.span_counts(read, &count, &mut |_, values, spans| {
                let added = self.budget.charge_samples(1).and_then(|()| groups.add(values, 0, spans, 0));
                let added = added.and_then(|()| match groups.len() > max_groups {
                    true => Err(QueryError::Execution(format!(
                        "more than {max_groups} different values: ask for a shorter time or a narrower query"
                    ))),
                    false => Ok(ControlFlow::Continue(())),
                });
                failure.go_on(added)
            })
        });
        failure.or(walked)?;
        Ok(TraceAnswer { groups: groups.finish(), ..TraceAnswer::default() })
    }

    fn fields(&self) -> Result<TraceAnswer> {
        let mut found: BTreeMap<LogField, (LogKinds, u64)> = BTreeMap::new();
        let mut failure = Failure::none();
        let range = (self.start_ns, self.end_ns);
        let walked = self.read(|read| {
            self.source.span_fields(read, range, &LogFilter::All, &mut |field, kinds, spans| {
                let visited = self.budget.charge_samples(1).and_then(|()| {
                    if let Some(known) = found.get_mut(field) {
                        *known = (known.0.and(kinds), known.1 + spans);
                    } else {
                        self.budget.hold(size_of::<(LogField, LogKinds, u64)>() as u64 + 64)?;
                        found.insert(field.clone(), (kinds, spans));
                    }
                    Ok(ControlFlow::Continue(()))
                });
                failure.go_on(visited)
            })
        });
        failure.or(walked)?;
        let fields = found.iter().map(|(field, (kinds, records))| FieldCount {
            field: FieldMessage::from(field),
            kinds: u32::from(kinds.0),
            records: *records,
        });
        Ok(TraceAnswer { fields: fields.collect(), ..TraceAnswer::default() })
    }

    /// Calls between services: a span whose parent is of another service is one, and one whose part at the other end was
    /// never sent is none.
    fn edges(&self) -> Result<TraceAnswer> {
        let mut edges: BTreeMap<(String, String), EdgeMessage> = BTreeMap::new();
        let range = (self.start_ns, self.end_ns);
        let walk = TraceWalk {
            range,
            filter: LogFilter::All,
            newest_first: false,
            many: MANY_TRACES,
            columns: LogColumns::Fields(Vec::new()),
        };
        self.each_trace(walk, &mut |trace, _| {
            for callee in &trace.spans {
                let Some(caller) = callee.parent.map(|parent| trace.spans[parent].service()) else {
                    continue;
                };
                let is_in_range = (range.0..=range.1).contains(&callee.span.start_ns);
                if caller == callee.service() || !is_in_range {
                    continue;
                }
                let key = (caller.to_owned(), service_of(&callee.stream).to_owned());
                if !edges.contains_key(&key) {
                    self.budget.hold(2 * (key.0.len() + key.1.len()) as u64 + 128)?;
                }
                let edge = edges.entry(key).or_default();
                edge.calls += 1;
                edge.errors += u64::from(callee.span.status == SpanStatus::Error);
                edge.duration_ns += callee.span.duration_ns() as f64;
            }
            Ok(None)
        })?;
        let edges = edges.into_iter().map(|((caller, callee), edge)| EdgeMessage { caller, callee, ..edge });
        Ok(TraceAnswer { edges: edges.collect(), ..TraceAnswer::default() })
    }
}

/// Spans of a trace that a query finds and that begin in a range; each once, by start.
pub(super) fn matched_in(
    evaluator: &Evaluator,
    trace: &Trace,
    summary: &Summary,
    range: (i64, i64),
) -> Vec<usize> {
    let sets = evaluator.spansets(trace, summary);
    let mut spans: Vec<usize> = sets.into_iter().flat_map(|set| set.spans).collect();
    spans.retain(|at| (range.0..=range.1).contains(&trace.spans[*at].span.start_ns));
    spans.sort_unstable();
    spans.dedup();
    spans
}

/// Traces that were looked at.
struct Seen<'b> {
    budget: &'b Budget,
    traces: Map<[u8; 16], ()>,
}

impl<'b> Seen<'b> {
    fn new(budget: &'b Budget) -> Self {
        Self { budget, traces: Map::default() }
    }

    /// Whether a trace comes for the first time.
    fn is_new(&mut self, trace_id: &[u8; 16]) -> Result<bool> {
        let is_new = self.traces.insert(*trace_id, ()).is_none();
        if is_new {
            self.budget.hold(32)?;
        }
        Ok(is_new)
    }
}
