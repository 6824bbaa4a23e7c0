//! Fragments at a shard: bytes in, evaluation over the shard's series, bytes out.
//!
//! See `protocol::scan` for the messages. [`Fragment::run`] never fails for a reason of the query: such errors travel
//! inside the answer, so that the caller's transport errors stay apart from them. It blocks on disk and CPU, lets others
//! pass between series, and stops when it is told to.

mod cardinality;
pub(crate) mod wire;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use protocol::ids::TenantId;
use protocol::matcher::{MatchOp, Matcher};
use protocol::scan::{
    ChangesRequest, EvaluateRequest, ExemplarMessage, ExemplarsRequest, FragmentAnswer, FragmentBody,
    FragmentError, FragmentRequest, LabelNamesRequest, LabelValuesRequest, MatcherSet, MetadataMessage,
    MetadataRequest, RawSeries, SamplesRequest, SeriesExemplars, SeriesRequest, VERSION,
};

use crate::error::QueryError;
use crate::eval::range::range_read;
use crate::eval::{Data, Evaluator};
use crate::exec::{Budget, Control, Limits};
use crate::features::Features;
use crate::logs::fragment::run_log_fragment;
use crate::plan::resets::mark_resets;
use crate::plan::{QueryTimes, prepare};
use crate::promql::ast::{Expr, ExprKind, ValueType};
use crate::promql::functions::FunctionId;
use crate::promql::parser::parse_span;
use crate::promql::span::Span;
use crate::source::{SeriesColumns, ShardSource, TimeRange};
use crate::traces::fragment::run_trace_fragment;
use crate::value::{Grid, Series};

type Result<T> = std::result::Result<T, QueryError>;

/// Longest answer of a shard. All answers of a node travel as one, which the cluster keeps below 256 MiB.
pub const MAX_ANSWER_BYTES: u64 = 255 << 20;

/// A fragment that came in.
#[derive(Clone, Debug)]
pub struct Fragment(FragmentRequest);

impl Fragment {
    /// Reads the bytes of a coordinator.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let request = FragmentRequest::decode(bytes).map_err(|e| QueryError::Protocol(e.to_string()))?;
        Ok(Self(request))
    }

    /// Number of the query that it is a part of; 0 for none.
    pub fn query(&self) -> u64 {
        self.0.query
    }

    /// Tenant and query of a fragment that evaluates one: for the list of what runs on a node.
    pub fn evaluated(&self) -> Option<(&str, &str)> {
        match &self.0.body {
            Some(FragmentBody::Evaluate(evaluate)) => Some((&self.0.tenant, &evaluate.query)),
            Some(FragmentBody::Logs(logs)) => Some((&self.0.tenant, &logs.text)),
            Some(FragmentBody::Traces(traces)) => Some((&self.0.tenant, &traces.text)),
            _ => None,
        }
    }

    /// Runs it on a shard. Failures of the query are inside the answer.
    pub fn run(self, source: &dyn ShardSource, limits: Limits, control: impl Into<Control>) -> Vec<u8> {
        let started = Instant::now();
        let mut answer = run(source, self.0, limits, control.into()).and_then(|answer| {
            let asked = answer.encoded_len() as u64;
            if asked > MAX_ANSWER_BYTES {
                return Err(QueryError::AnswerTooLong { limit: MAX_ANSWER_BYTES, asked });
            }
            Ok(answer)
        });
        if let Ok(answer) = &mut answer {
            answer.stats.get_or_insert_default().micros = started.elapsed().as_micros() as u64;
        }
        answer.unwrap_or_else(failed).encode_to_vec()
    }
}

fn failed(error: QueryError) -> FragmentAnswer {
    let (kind, message) = error.to_wire();
    FragmentAnswer { error: Some(FragmentError { kind, message }), ..Default::default() }
}

/// Runs a fragment on a shard. Failures of the query are inside the answer; an error means that the request could not
/// be read at all.
pub fn run_fragment(
    source: &dyn ShardSource,
    fragment: &[u8],
    limits: Limits,
    control: impl Into<Control>,
) -> Result<Vec<u8>> {
    Ok(Fragment::decode(fragment)?.run(source, limits, control))
}

fn run(
    source: &dyn ShardSource,
    request: FragmentRequest,
    limits: Limits,
    control: Control,
) -> Result<FragmentAnswer> {
    if request.version > VERSION {
        let message = format!("version {} is newer than this node's {VERSION}", request.version);
        return Err(QueryError::Protocol(message));
    }
    let tenant = TenantId::new(&request.tenant).map_err(|e| QueryError::Protocol(e.to_string()))?;
    let round = request.round;
    // Lists are not limited in samples; their series are counted as they come, which stops and paces them.
    let budget = |limits| Budget::new(limits, control.clone()).within(source.memory()).in_round(round);
    match request.body {
        None => Err(QueryError::Protocol("the request has no body".to_owned())),
        Some(FragmentBody::Evaluate(request)) => {
            let limits = limits.within(request.max_samples, request.max_bytes, request.timeout_ms);
            evaluate(source, &tenant, request, &budget(limits))
        }
        Some(FragmentBody::LabelNames(request)) => label_names(source, &tenant, request),
        Some(FragmentBody::LabelValues(request)) => label_values(source, &tenant, request),
        Some(FragmentBody::Series(request)) => list_series(source, &tenant, request, &budget(limits)),
        Some(FragmentBody::Metadata(request)) => metadata(source, &tenant, request),
        Some(FragmentBody::Exemplars(request)) => exemplars(source, &tenant, request, &budget(limits)),
        Some(FragmentBody::Samples(request)) => {
            let limits = Limits { max_samples: limits.max_samples.min(request.max_samples), ..limits };
            samples(source, &tenant, request, &budget(limits))
        }
        Some(FragmentBody::Cardinality(request)) => cardinality::cardinality(source, &tenant, request),
        Some(FragmentBody::Logs(request)) => {
            run_log_fragment(source, &tenant, request, limits, control.clone(), round)
        }
        Some(FragmentBody::Traces(request)) => {
            run_trace_fragment(source, &tenant, request, limits, control.clone(), round)
        }
        Some(FragmentBody::Sql(_)) => Err(QueryError::Protocol("this is a fragment of SQL".to_owned())),
        Some(FragmentBody::Changes(request)) => Ok(changes(source, &tenant, &request)),
    }
}

/// What a shard knows of changes since a position in its log. Without one of this shard, nothing.
fn changes(source: &dyn ShardSource, tenant: &TenantId, request: &ChangesRequest) -> FragmentAnswer {
    let Some((shard, applied)) = source.position() else { return FragmentAnswer::default() };
    let since = request.since.iter().find(|position| position.shard == u32::from(shard.0));
    // A replica that lags behind the position has seen less than the result: it can not vouch for it.
    let since = since.filter(|position| position.index <= applied);
    let changed_from_ms = since.map_or(i64::MIN, |position| source.changed_since(tenant, position.index));
    FragmentAnswer { applied, changed_from_ms, ..Default::default() }
}

/// A shard's series, and the scalars that came with the request.
struct ShardData<'a> {
    source: &'a dyn ShardSource,
    tenant: &'a TenantId,
    scalars: Vec<(Span, Vec<f64>)>,
}

impl Data for ShardData<'_> {
    fn fetched(&self, _: &Expr, _: &Grid) -> Option<&[Series]> {
        None
    }

    fn has_rollups(&self, range: TimeRange) -> bool {
        self.source.has_rollups(range)
    }

    fn bound_scalar(&self, expr: &Expr) -> Option<&[f64]> {
        let found = self.scalars.iter().find(|(span, _)| *span == expr.span);
        found.map(|(_, values)| values.as_slice())
    }

    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Ok(self.source.select(self.tenant, matchers, range, visit)?)
    }
}

fn evaluate(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: EvaluateRequest,
    budget: &Budget,
) -> Result<FragmentAnswer> {
    if request.steps == 0 || request.step_ms < 1 {
        let message = format!("{} steps of {} ms are no grid", request.steps, request.step_ms);
        return Err(QueryError::Protocol(message));
    }
    let grid = Grid { start: request.start_ms, step: request.step_ms, count: request.steps as usize };
    budget.check_grid(&grid)?;
    let times =
        QueryTimes { start: request.query_start_ms, end: request.query_end_ms, step: request.query_step_ms };
    let span = Span { start: request.span_start, end: request.span_end };
    let mut expr = prepare(parse_span(&request.query, span)?, &times)?;
    mark_resets(&mut expr, request.find_resets);
    let features = Features::from_names(request.features.iter().map(String::as_str))
        .map_err(|e| QueryError::Protocol(e.to_string()))?;
    let mut scalars = Vec::new();
    for bound in &request.scalars {
        let span = Span { start: bound.span_start, end: bound.span_end };
        let values = wire::floats(&bound.values);
        if values.len() != grid.count {
            return Err(QueryError::Protocol("a bound scalar has the wrong number of values".to_owned()));
        }
        scalars.push((span, values));
    }
    for (matchers, range) in ranges(&expr, grid, request.lookback_ms) {
        prepay(source, tenant, matchers, range, budget)?;
    }
    let data = ShardData { source, tenant, scalars };
    let evaluator = Evaluator {
        data: &data,
        times,
        lookback: request.lookback_ms,
        subquery_step: request.subquery_step_ms,
        features,
        budget,
        notes: RefCell::default(),
    };
    let applied = source.position().map_or(0, |(_, index)| index);
    let mut answer = FragmentAnswer { applied, ..Default::default() };
    match (request.partial, &expr.unwrapped().kind) {
        (true, ExprKind::Aggregate(aggregate)) => {
            evaluator.aggregate_params(aggregate, grid)?;
            let running = evaluator.running(aggregate, grid)?;
            for group in running.groups {
                if group.rows.is_empty() {
                    answer.partials.push(wire::group_to_wire(&group));
                } else {
                    answer.series.extend(wire::rows_to_wire(&group));
                }
            }
        }
        (true, ExprKind::Call { function, args }) => {
            let present = match function.id {
                FunctionId::AbsentOverTime => evaluator.present_over_time(args, grid)?,
                FunctionId::Absent => evaluator.present(&args[0], grid)?,
                _ => return Err(QueryError::Protocol(format!("{} has no partial form", function.name))),
            };
            answer.partials.push(wire::presence_to_wire(&present));
        }
        (true, _) => return Err(QueryError::Protocol(format!("{expr} has no partial form"))),
        (false, _) => {
            let mut answered = 0;
            evaluator.stream(&expr, grid, &mut |series| {
                let message = wire::series_to_wire(&series);
                let bytes = (message.values.len() + message.labels.len() + 64) as u64;
                answered += bytes;
                if answered > MAX_ANSWER_BYTES {
                    return Err(QueryError::AnswerTooLong { limit: MAX_ANSWER_BYTES, asked: answered });
                }
                budget.hold(bytes)?;
                answer.series.push(message);
                Ok(())
            })?;
        }
    }
    budget.settle();
    answer.annotations = evaluator.notes.into_inner().to_wire();
    answer.stats = Some(budget.stats());
    Ok(answer)
}

/// The ranges that a part reads as a whole: those of range selectors outside of subqueries.
fn ranges(expr: &Expr, grid: Grid, lookback: i64) -> Vec<(&[Matcher], TimeRange)> {
    match &expr.kind {
        ExprKind::StepInvariant(inner) => ranges(inner, Grid::single(grid.start, grid.step), lookback),
        ExprKind::Matrix(matrix) => vec![(&matrix.selector.matchers, range_read(matrix, &grid, lookback))],
        ExprKind::Subquery(_) => Vec::new(),
        // Scalars come with the request where they need data.
        _ if expr.value_type() == ValueType::Scalar => Vec::new(),
        _ => expr.children().into_iter().flat_map(|child| ranges(child, grid, lookback)).collect(),
    }
}

/// Counts what is certain to be read before anything is, so that what is far too much is refused at once. Half of what
/// the index counts: markers of staleness are among it, which are no samples to the limit, and follow one each.
fn prepay(
    source: &dyn ShardSource,
    tenant: &TenantId,
    matchers: &[Matcher],
    range: TimeRange,
    budget: &Budget,
) -> Result<()> {
    // What is less than the limit alone is found out soon enough by reading it.
    let enough = budget.limits().max_samples.saturating_mul(2);
    budget.prepay(source.least_samples(tenant, matchers, range, enough)? / 2)
}

/// The matchers of a set; none where there is no set.
pub fn matchers(set: Option<&MatcherSet>) -> Result<Vec<Matcher>> {
    let matcher = |m: &protocol::scan::MatcherMessage| {
        let op = match m.op {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            other => return Err(QueryError::Protocol(format!("matcher operator {other} is unknown"))),
        };
        Matcher::new(m.name.as_str(), op, m.value.as_str())
            .map_err(|e| QueryError::BadParameter(e.to_string()))
    };
    set.into_iter().flat_map(|set| &set.matchers).map(matcher).collect()
}

fn matcher_sets(sets: &[MatcherSet]) -> Result<Vec<Vec<Matcher>>> {
    let sets: Vec<Vec<Matcher>> = sets.iter().map(|set| matchers(Some(set))).collect::<Result<_>>()?;
    Ok(if sets.is_empty() { vec![Vec::new()] } else { sets })
}

/// Ascending, each once, at most `limit` (0 for all); true when some were cut.
fn settle(mut strings: Vec<String>, limit: u64) -> (Vec<Bytes>, bool) {
    strings.sort();
    strings.dedup();
    let cut = limit > 0 && strings.len() as u64 > limit;
    if cut {
        strings.truncate(limit as usize);
    }
    (strings.into_iter().map(Bytes::from).collect(), cut)
}

fn label_names(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: LabelNamesRequest,
) -> Result<FragmentAnswer> {
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let mut names = Vec::new();
    for matchers in matcher_sets(&request.selectors)? {
        names.extend(source.label_names(tenant, &matchers, range)?);
    }
    let (strings, truncated) = settle(names, request.limit);
    Ok(FragmentAnswer { strings, truncated, ..Default::default() })
}

fn label_values(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: LabelValuesRequest,
) -> Result<FragmentAnswer> {
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let mut values = Vec::new();
    for matchers in matcher_sets(&request.selectors)? {
        values.extend(source.label_values(tenant, &request.name, &matchers, range)?);
    }
    let (strings, truncated) = settle(values, request.limit);
    Ok(FragmentAnswer { strings, truncated, ..Default::default() })
}

fn list_series(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: SeriesRequest,
    budget: &Budget,
) -> Result<FragmentAnswer> {
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let mut sets = Vec::new();
    for matchers in matcher_sets(&request.selectors)? {
        // One more than asked for, so that the cut is noticed.
        let mut left = if request.limit == 0 { u64::MAX } else { request.limit.saturating_add(1) };
        let mut counted = Ok(());
        source.series(tenant, &matchers, range, &mut |labels| {
            counted = budget.charge_series();
            sets.push(labels.clone());
            left -= 1;
            if left == 0 || counted.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        counted?;
    }
    // Each alternative comes in order.
    sets.sort();
    sets.dedup();
    let truncated = request.limit > 0 && sets.len() as u64 > request.limit;
    if truncated {
        sets.truncate(request.limit as usize);
    }
    let label_sets = sets.iter().map(|labels| Bytes::copy_from_slice(labels.as_bytes())).collect();
    Ok(FragmentAnswer { label_sets, truncated, ..Default::default() })
}

fn metadata(source: &dyn ShardSource, tenant: &TenantId, request: MetadataRequest) -> Result<FragmentAnswer> {
    let family = (!request.family.is_empty()).then_some(request.family.as_str());
    let message = |m: crate::source::MetricMetadata| MetadataMessage {
        family: m.family,
        kind: m.kind,
        help: m.help,
        unit: m.unit,
    };
    let metadata = source.metadata(tenant, family)?.into_iter().map(message).collect();
    Ok(FragmentAnswer { metadata, ..Default::default() })
}

fn exemplars(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: ExemplarsRequest,
    budget: &Budget,
) -> Result<FragmentAnswer> {
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let mut exemplars = Vec::new();
    for matchers in matcher_sets(&request.selectors)? {
        let mut counted = Ok(());
        source.exemplars(tenant, &matchers, range, &mut |labels, found| {
            counted = budget.charge_series();
            if counted.is_err() {
                return ControlFlow::Break(());
            }
            let message = |e: &crate::source::Exemplar| ExemplarMessage {
                labels: e.labels.as_bytes().to_vec(),
                value: e.value,
                timestamp_ms: e.timestamp,
            };
            exemplars.push(SeriesExemplars {
                labels: labels.as_bytes().to_vec(),
                exemplars: found.iter().map(message).collect(),
            });
            ControlFlow::Continue(())
        })?;
        counted?;
    }
    Ok(FragmentAnswer { exemplars, ..Default::default() })
}

fn samples(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: SamplesRequest,
    budget: &Budget,
) -> Result<FragmentAnswer> {
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let mut samples: Vec<RawSeries> = Vec::new();
    let mut failed = None;
    for matchers in matcher_sets(&request.selectors)? {
        if !request.last_only {
            prepay(source, tenant, &matchers, range, budget)?;
        }
        source.select(tenant, &matchers, range, &mut |columns| {
            let series = wire::raw_to_wire(&columns, request.last_only);
            let count = (series.times.len() + series.histogram_times.len()) as u64;
            let bytes = series.values.len() as u64 * 2 + series.histograms.len() as u64 * 256;
            let charged = budget
                .charge_series()
                .and_then(|()| budget.charge_samples(count))
                .and_then(|()| budget.hold(bytes));
            if let Err(error) = charged {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            if count > 0 {
                samples.push(series);
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    budget.settle();
    let stats = budget.stats();
    Ok(FragmentAnswer { samples, stats: Some(stats), ..Default::default() })
}
