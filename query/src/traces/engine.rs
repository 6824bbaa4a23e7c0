//! Questions about traces at the coordinator: sent to all shards, answers put together.
//!
//! A shard that does not answer fails the question, as for logs. Traces are judged by their shards, so that putting
//! together is sorting, adding and cutting off; a page goes on behind the place of its last trace.

use std::cmp::Reverse;
use std::fmt::{Display, Formatter};
use std::str::FromStr;

use protocol::ids::ShardId;
use protocol::logs::messages::{FieldMessage, from_attributes};
use protocol::logs::{Attribute, LogField, LogFilter};
use protocol::otlp::traces::decode;
use protocol::spans::messages::{
    AttributesRequest, EdgesRequest, FoundMessage, MetricsRequest, SearchRequest, SetMessage,
    SpanCountsRequest, SpanFieldsRequest, SummariesRequest, TraceAnswer, TraceBody, TraceIdRequest,
    TracePlaceMessage,
};

use super::assemble::{Summary, Trace};
use super::compare::{self, Comparison};
use super::fragment::{Gathered, trace_id_of};
use super::metrics::{self, Grid};
pub use super::metrics::{BUCKET_LABEL, QUANTILE_LABEL, TraceLabels, TraceSeries};
use super::traceql::{Query, parse};
use crate::engine::Engine;
use crate::error::QueryError;
use crate::logs::engine::{Asking, Counted, FieldInfo, LogQuery, MAX_BUCKETS, merge_fields, merge_groups};

type Result<T> = std::result::Result<T, QueryError>;

/// Traces that one page may have.
pub const MAX_TRACES: usize = 10_000;

/// Series that a query for numbers may have.
pub const MAX_TRACE_SERIES: u64 = 10_000;

/// Combinations of values that lists of values may have.
pub const MAX_GROUPS: u64 = 100_000;

/// Values of one attribute that a comparison looks at.
const MAX_COMPARED_VALUES: u64 = 1_000;

/// Which traces come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Those whose last matching span is the newest.
    #[default]
    Newest,
    /// The slowest.
    Slowest,
}

/// Place of a trace in a search, where the next page may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracePlace {
    /// Start of its last matching span, its own start, or its duration, in nanoseconds.
    pub key: i64,
    /// The trace.
    pub trace_id: [u8; 16],
}

impl Display for TracePlace {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{:032x}", self.key, u128::from_be_bytes(self.trace_id))
    }
}

impl FromStr for TracePlace {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (key, id) = text.split_once('_')?;
            let id = u128::from_str_radix(id, 16).ok().filter(|_| !id.starts_with('+'))?;
            Some(Self { key: key.parse().ok()?, trace_id: id.to_be_bytes() })
        };
        parse().ok_or_else(|| QueryError::BadParameter(format!("{text:?} is no cursor of a page of traces")))
    }
}

/// What of a search is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchOptions {
    /// At most so many traces.
    pub limit: usize,
    /// At most so many spans of each set of matching ones; 0: all.
    pub spans_per_set: u64,
    /// Which come first.
    pub order: Order,
    /// Only those behind this one.
    pub after: Option<TracePlace>,
    /// With all their spans.
    pub whole: bool,
}

/// A matching span.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchedSpan {
    /// Its id.
    pub span_id: [u8; 8],
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// When it began.
    pub start_ns: i64,
    /// How long it took.
    pub duration_ns: u64,
    /// Whether it failed.
    pub failed: bool,
    /// The fields that the query names, as it names them.
    pub fields: Vec<Attribute<'static>>,
}

/// A set of matching spans.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchedSet {
    /// What they have in common, by the fields of `by`.
    pub values: Vec<Attribute<'static>>,
    /// How many they are.
    pub matched: u64,
    /// The first of them.
    pub spans: Vec<MatchedSpan>,
}

/// A trace that a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The trace in short.
    pub summary: Summary,
    /// Its place in the search.
    pub place: TracePlace,
    /// Its matching spans.
    pub sets: Vec<MatchedSet>,
    /// The whole trace, if it was wanted.
    pub trace: Option<Trace>,
}

/// Traces in short, and where the next ones are.
#[derive(Clone, Debug, Default)]
pub struct Summaries {
    /// The traces, the latest first.
    pub traces: Vec<Summary>,
    /// The place behind which there may be more.
    pub next: Option<TracePlace>,
}

/// Calls from one service to another.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEdge {
    /// Who calls.
    pub caller: String,
    /// Who is called.
    pub callee: String,
    /// How often.
    pub calls: u64,
    /// Calls that failed on the called side.
    pub errors: u64,
    /// How long the called side took, together.
    pub duration_ns: f64,
}

fn trace_of(shard: ShardId, spans: &[u8]) -> Result<Trace> {
    let mut gathered = Gathered::default();
    decode(spans, &mut gathered)
        .map_err(|error| QueryError::Protocol(format!("shard {shard} sent spans that are none: {error}")))?;
    Ok(gathered.assemble())
}

fn place_message(place: TracePlace) -> TracePlaceMessage {
    TracePlaceMessage { key: place.key, trace_id: place.trace_id.to_vec() }
}

fn set_of(message: SetMessage) -> MatchedSet {
    let spans = message.spans.into_iter().map(|span| MatchedSpan {
        span_id: span.span_id.to_be_bytes(),
        name: span.name,
        service: span.service,
        start_ns: span.start_ns,
        duration_ns: span.duration_ns,
        failed: span.failed,
        fields: from_attributes(span.fields),
    });
    MatchedSet { spans: spans.collect(), values: from_attributes(message.values), matched: message.matched }
}

fn found_of(shard: ShardId, message: FoundMessage, whole: bool) -> Result<Found> {
    let trace_id = trace_id_of(&message.place.trace_id)?;
    let services = message.services.into_iter().map(|service| (service.name, service.spans, service.errors));
    Ok(Found {
        summary: Summary {
            trace_id,
            root_service: message.root_service,
            root_name: message.root_name,
            orphaned: message.orphaned,
            start_ns: message.start_ns,
            end_ns: message.end_ns,
            spans: message.spans,
            errors: message.errors,
            services: services.collect(),
        },
        place: TracePlace { key: message.place.key, trace_id },
        sets: message.sets.into_iter().map(set_of).collect(),
        trace: if whole { Some(trace_of(shard, &message.whole)?) } else { None },
    })
}

impl Asking<'_> {
    async fn ask_traces(&mut self, body: TraceBody) -> Result<Vec<(ShardId, TraceAnswer)>> {
        let range = self.range();
        let sending = self.prepare_traces(range, body)?;
        let replies = sending.send(self.engine()).await?;
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            self.charge(&reply)?;
            let Some(answer) = reply.answer.traces else {
                let message = format!("shard {} gave no answer about traces", reply.shard);
                return Err(QueryError::Protocol(message));
            };
            answers.push((reply.shard, answer));
        }
        Ok(answers)
    }

    /// A page of a search for which each shard is asked for its first `each` traces; nothing if a shard may have further
    /// ones that belong to the page.
    async fn search_page(
        &mut self,
        text: &str,
        options: SearchOptions,
        each: usize,
    ) -> Result<Option<Vec<(ShardId, FoundMessage)>>> {
        let body = TraceBody::Search(SearchRequest {
            query: text.to_owned(),
            limit: each as u64,
            spans_per_set: options.spans_per_set,
            slowest_first: options.order == Order::Slowest,
            after: options.after.map(place_message),
            whole: options.whole,
        });
        let place = |found: &FoundMessage| (Reverse(found.place.key), found.place.trace_id.clone());
        let (mut found, mut told_until) = (Vec::new(), None);
        for (shard, answer) in self.ask_traces(body).await? {
            if each < options.limit && answer.found.len() >= each {
                let last = answer.found.last().map(place);
                told_until = match told_until {
                    Some(until) => last.min(Some(until)),
                    None => last,
                };
            }
            found.extend(answer.found.into_iter().map(|message| (shard, message)));
        }
        found.sort_by_cached_key(|(_, message)| place(message));
        found.truncate(options.limit);
        let is_whole = match (told_until, found.last()) {
            (Some(until), Some((_, last))) => found.len() == options.limit && place(last) <= until,
            _ => true,
        };
        Ok(is_whole.then_some(found))
    }

    async fn attributes(&mut self, query: &str) -> Result<(u64, compare::Counts, Vec<LogField>)> {
        let body = TraceBody::Attributes(AttributesRequest {
            query: query.to_owned(),
            max_values: MAX_COMPARED_VALUES,
        });
        let answers = self.ask_traces(body).await?;
        compare::merge(answers.into_iter().map(|(_, answer)| answer).collect(), MAX_COMPARED_VALUES as usize)
    }
}

/// Traces of a page that one of so many shards hardly ever exceeds, as ids are spread by chance: the mean, and beyond it
/// three standard deviations of Poisson's distribution and two more. For pages of 20 from 16 shards that is 7, and fewer
/// than one page in a hundred has to be asked for again.
fn likely_share(limit: usize, shards: usize) -> usize {
    match shards {
        0 => limit,
        shards => {
            let mean = limit as f64 / shards as f64;
            (mean + 3.0 * mean.sqrt()).ceil() as usize + 2
        }
    }
}

/// A query that finds spans, not numbers.
fn parse_search(text: &str) -> Result<Query> {
    let query = parse(text)?;
    match query.metric {
        None => Ok(query),
        Some(_) => Err(QueryError::BadParameter(
            "the query asks for numbers, where traces are looked for".to_owned(),
        )),
    }
}

impl Engine {
    /// A trace by its id, whenever it was; none if no shard has a span of it.
    pub async fn trace(&self, query: &LogQuery, trace_id: [u8; 16]) -> Result<Option<Trace>> {
        let body = TraceBody::Trace(TraceIdRequest { trace_id: trace_id.to_vec() });
        let mut found = None;
        for (shard, answer) in Asking::new(self, query).ask_traces(body).await? {
            if answer.spans.is_empty() {
                continue;
            }
            if found.is_some() {
                return Err(QueryError::Protocol(format!(
                    "shard {shard} has spans of another shard's trace"
                )));
            }
            found = Some(trace_of(shard, &answer.spans)?);
        }
        Ok(found)
    }

    /// Traces that the query's TraceQL finds, in order: those with a matching span that begins in the query's time.
    pub async fn trace_search(&self, query: &LogQuery, options: SearchOptions) -> Result<Vec<Found>> {
        parse_search(&query.text)?;
        if options.limit > MAX_TRACES {
            let limit = options.limit;
            return Err(QueryError::BadParameter(format!("limit {limit} is more than {MAX_TRACES} traces")));
        }
        let mut each = match options.order {
            Order::Newest => options.limit.min(likely_share(options.limit, self.cluster().shards())),
            // They look at everything anyhow.
            Order::Slowest => options.limit,
        };
        // Both rounds have one budget and one deadline.
        let mut asking = Asking::new(self, query);
        loop {
            match asking.search_page(&query.text, options, each).await? {
                Some(page) => {
                    let found_of = |(shard, message)| found_of(shard, message, options.whole);
                    return page.into_iter().map(found_of).collect();
                }
                None => each = options.limit,
            }
        }
    }

    /// Traces that begin in the query's time and whose ids pass a filter about nothing else, in short: the latest first,
    /// those of one time by their ids. Each shard is asked for `limit` of them, and all are given of which it is known
    /// that no shard has one before them, so that what shards have read is not read again for the next ones.
    pub async fn trace_summaries(
        &self,
        query: &LogQuery,
        filter: &LogFilter,
        limit: usize,
        after: Option<TracePlace>,
    ) -> Result<Summaries> {
        if limit > MAX_TRACES {
            return Err(QueryError::BadParameter(format!("limit {limit} is more than {MAX_TRACES} traces")));
        }
        let body = TraceBody::Summaries(SummariesRequest {
            filter: filter.into(),
            limit: limit as u64,
            after: after.map(place_message),
        });
        let place = |found: &Found| (Reverse(found.place.key), found.place.trace_id);
        let (mut all, mut end) = (Vec::new(), None);
        for (shard, answer) in Asking::new(self, query).ask_traces(body).await? {
            let is_full = limit > 0 && answer.found.len() >= limit;
            for message in answer.found {
                all.push(found_of(shard, message, false)?);
            }
            // A full shard may have more behind its last trace: what others have behind that is not the next.
            if let Some(last) = all.last().filter(|_| is_full).map(place) {
                end = Some(end.map_or(last, |end: (Reverse<i64>, [u8; 16])| end.min(last)));
            }
        }
        all.retain(|found| end.is_none_or(|end| place(found) <= end));
        all.sort_by_key(place);
        let next = end.map(|(Reverse(key), trace_id)| TracePlace { key, trace_id });
        Ok(Summaries { traces: all.into_iter().map(|found| found.summary).collect(), next })
    }

    /// Numbers over time, as the query's TraceQL names them: buckets of a width, the first of which begins with the
    /// query's time.
    pub async fn trace_metrics(&self, query: &LogQuery, step_ns: i64) -> Result<Vec<TraceSeries>> {
        let Some(metric) = parse(&query.text)?.metric else {
            let message = "the query asks for traces, where numbers are: end it with | rate() or the like";
            return Err(QueryError::BadParameter(message.to_owned()));
        };
        if step_ns < 1 {
            return Err(QueryError::BadParameter("the step must be positive".to_owned()));
        }
        let steps = (i128::from(query.end_ns) - i128::from(query.start_ns)) / i128::from(step_ns) + 1;
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        if steps > MAX_BUCKETS {
            return Err(QueryError::TooManyPoints { points: steps, limit: MAX_BUCKETS });
        }
        let grid = Grid { start_ns: query.start_ns, step_ns, steps };
        let body = TraceBody::Metrics(MetricsRequest {
            query: query.text.clone(),
            start_ns: grid.start_ns,
            step_ns,
            steps,
            max_series: MAX_TRACE_SERIES,
        });
        let answers = Asking::new(self, query).ask_traces(body).await?;
        let answers = answers.into_iter().map(|(_, answer)| answer).collect();
        metrics::merge(&metric, grid, answers, MAX_TRACE_SERIES as usize)
    }

    /// Numbers of spans that meet a filter, by fields: a line a group, sorted by its values.
    pub async fn span_counts(
        &self,
        query: &LogQuery,
        filter: &LogFilter,
        by: &[LogField],
    ) -> Result<Vec<Counted>> {
        let body = TraceBody::Counts(SpanCountsRequest {
            filter: filter.into(),
            by: by.iter().map(FieldMessage::from).collect(),
            max_groups: MAX_GROUPS,
        });
        let answers = Asking::new(self, query).ask_traces(body).await?;
        merge_groups(answers.into_iter().flat_map(|(_, answer)| answer.groups))
    }

    /// The fields that spans of the query's time have, sorted.
    pub async fn span_fields(&self, query: &LogQuery) -> Result<Vec<FieldInfo>> {
        let answers = Asking::new(self, query).ask_traces(TraceBody::Fields(SpanFieldsRequest {})).await?;
        merge_fields(answers.into_iter().map(|(shard, answer)| (shard, answer.fields)))
    }

    /// What tells the spans of a selection from those of a baseline, both TraceQL, within the query's time.
    pub async fn trace_compare(
        &self,
        query: &LogQuery,
        (selection, baseline): (&str, &str),
        max_fields: usize,
        max_values: usize,
    ) -> Result<Comparison> {
        parse_search(selection)?;
        parse_search(baseline)?;
        let mut asking = Asking::new(self, query);
        let selected = asking.attributes(selection).await?;
        let against = asking.attributes(baseline).await?;
        Ok(compare::compare(selected, against, max_fields, max_values))
    }

    /// Calls between services in the query's time, by caller and callee.
    pub async fn service_edges(&self, query: &LogQuery) -> Result<Vec<ServiceEdge>> {
        let mut edges: Vec<ServiceEdge> = Vec::new();
        for (_, answer) in Asking::new(self, query).ask_traces(TraceBody::Edges(EdgesRequest {})).await? {
            edges.extend(answer.edges.into_iter().map(|edge| ServiceEdge {
                caller: edge.caller,
                callee: edge.callee,
                calls: edge.calls,
                errors: edge.errors,
                duration_ns: edge.duration_ns,
            }));
        }
        edges.sort_by(|a, b| (&a.caller, &a.callee).cmp(&(&b.caller, &b.callee)));
        edges.dedup_by(|next, first| {
            let same = (&next.caller, &next.callee) == (&first.caller, &first.callee);
            if same {
                first.calls = first.calls.saturating_add(next.calls);
                first.errors = first.errors.saturating_add(next.errors);
                first.duration_ns += next.duration_ns;
            }
            same
        });
        Ok(edges)
    }
}
