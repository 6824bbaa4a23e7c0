//! Queries at the coordinator: parse, plan, ask the shards, evaluate, answer.
//!
//! ```text
//! collect ─► jobs (what shards can do alone, see plan::push), in levels: a job whose scalars need data waits for them
//! each level: equal jobs once, all at the same time ─► Cluster::execute ─► answers, merged in shard order ─► Store
//! evaluate the tree over the Store
//! ```
//!
//! A range query may find its first steps among the results of earlier ones: see [`cache`].
//!
//! Evaluation is CPU work inside an async function: callers run queries on their query runtime, not on the one that
//! serves sockets.

pub mod cache;
pub mod cardinality;
mod collect;
mod explain;
mod lists;
mod store;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message;
use protocol::ids::{ShardId, TenantId};
use protocol::memory::MemoryLedger;
use protocol::scan::{
    ChangesRequest, FragmentAnswer, FragmentBody, FragmentRequest, MatcherSet, SamplesRequest, ShardPosition,
    VERSION,
};

pub use cache::{CacheOptions, CacheStats, ResultCache};
pub use explain::{Explanation, FragmentTrace, PlanNode, ShardTrace};
pub use lists::{ListRequest, SeriesExemplarList};

use self::cache::{Kept, Key, Positions};
use self::collect::{Collector, Job};
use self::store::Store;
use crate::annotations::Annotations;
use crate::error::QueryError;
use crate::eval::range::subquery_grid;
use crate::eval::{Evaluator, millis};
use crate::exec::{Account, Accounts, Budget, CancelFlag, Control, Limits};
use crate::features::Features;
use crate::fragment::wire;
use crate::plan::resets::mark_resets;
use crate::plan::{QueryTimes, prepare};
use crate::promql::ast::{At, Edges, Expr, ExprKind, MatrixSelector, Subquery, ValueType};
use crate::promql::parser::parse;
use crate::result::{MatrixSeries, QueryResult, QueryStats, ResultValue, Value, VectorSample};
use crate::source::{Cluster, Consistency, ReadContext};
use crate::value::{Grid, Map, Sample, Series, is_absent, merge_same_labels, without_metadata};

type Result<T> = std::result::Result<T, QueryError>;

/// Settings of the engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Limits of a query; a request may ask for less time.
    pub limits: Limits,
    /// How far an instant selector looks back.
    pub lookback: Duration,
    /// Step of subqueries that name none.
    pub subquery_step: Duration,
    /// What is switched on for every tenant.
    pub features: Features,
    /// The node's memory, on which queries draw.
    pub memory: MemoryLedger,
    /// The node's accounts, shared with the fragments that run on it.
    pub accounts: Accounts,
    /// Results of range queries; without, none are kept.
    pub cache: Option<ResultCache>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            features: Features::default(),
            memory: MemoryLedger::default(),
            accounts: Accounts::default(),
            cache: None,
        }
    }
}

/// When a query is evaluated, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// Once.
    Instant {
        /// When.
        time: i64,
    },
    /// From `start` to `end`, both included, every `step`.
    Range {
        /// First.
        start: i64,
        /// Last.
        end: i64,
        /// Distance.
        step: i64,
    },
}

/// A query.
#[derive(Clone, Debug)]
pub struct QueryRequest {
    /// The text.
    pub query: String,
    /// Whose data.
    pub tenant: TenantId,
    /// When.
    pub kind: QueryKind,
    /// How fresh.
    pub consistency: Consistency,
    /// Instead of the engine's lookback.
    pub lookback: Option<Duration>,
    /// Less time than the engine allows.
    pub timeout: Option<Duration>,
    /// Instead of the engine's features.
    pub features: Option<Features>,
    /// Answer with the plan and what each shard did. Evaluates everything.
    pub explain: bool,
    /// Use results of earlier queries, and keep this one's, where the engine keeps any.
    pub use_cache: bool,
    /// Stops the query.
    pub cancel: CancelFlag,
}

impl QueryRequest {
    /// An instant query of a tenant, with everything else as the engine has it.
    pub fn instant(tenant: TenantId, query: impl Into<String>, time: i64) -> Self {
        Self::new(tenant, query.into(), QueryKind::Instant { time })
    }

    /// A range query of a tenant, with everything else as the engine has it.
    pub fn range(tenant: TenantId, query: impl Into<String>, start: i64, end: i64, step: i64) -> Self {
        Self::new(tenant, query.into(), QueryKind::Range { start, end, step })
    }

    fn new(tenant: TenantId, query: String, kind: QueryKind) -> Self {
        Self {
            query,
            tenant,
            kind,
            consistency: Consistency::default(),
            lookback: None,
            timeout: None,
            features: None,
            explain: false,
            use_cache: true,
            cancel: CancelFlag::default(),
        }
    }
}

/// Evaluates queries over a cluster.
#[derive(Clone)]
pub struct Engine {
    cluster: Arc<dyn Cluster>,
    options: EngineOptions,
}

/// What a query knows while it runs.
pub(crate) struct Running<'a> {
    cluster: &'a dyn Cluster,
    context: ReadContext,
    text: &'a str,
    times: QueryTimes,
    lookback: i64,
    subquery_step: i64,
    features: Features,
    limits: Limits,
    memory: &'a MemoryLedger,
    account: Arc<Account>,
    explain: bool,
}

/// What one shard answered.
#[derive(Clone)]
pub(crate) struct Reply {
    pub shard: ShardId,
    /// Length of the answer.
    pub bytes: u64,
    pub answer: FragmentAnswer,
}

impl Engine {
    /// An engine over a cluster.
    pub fn new(cluster: Arc<dyn Cluster>, options: EngineOptions) -> Self {
        Self { cluster, options }
    }

    /// The way to the shards.
    pub(crate) fn cluster(&self) -> &dyn Cluster {
        self.cluster.as_ref()
    }

    /// The settings.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The way to the shards.
    pub fn shared_cluster(&self) -> &Arc<dyn Cluster> {
        &self.cluster
    }

    /// Answers a query.
    pub async fn query(&self, request: &QueryRequest) -> Result<QueryResult> {
        let begun = Instant::now();
        let (grid, times, is_range) = match request.kind {
            QueryKind::Instant { time } => {
                (Grid::single(time, 1), QueryTimes { start: time, end: time, step: 0 }, false)
            }
            QueryKind::Range { start, end, step } => {
                if step < 1 {
                    let message = "zero or negative query resolution step widths are not accepted. \
                                   Try a positive integer";
                    return Err(QueryError::BadParameter(message.to_owned()));
                }
                if end < start {
                    let message = "end timestamp must not be before start time".to_owned();
                    return Err(QueryError::BadParameter(message));
                }
                let points = end.abs_diff(start) / step.unsigned_abs();
                let limit = self.options.limits.max_points;
                if points > limit {
                    return Err(QueryError::TooManyPoints { points, limit });
                }
                (Grid::between(start, end, step), QueryTimes { start, end, step }, true)
            }
        };
        let parsed = parse(&request.query)?;
        let value_type = parsed.value_type();
        if is_range && !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
            return Err(QueryError::BadParameter(format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                value_type.documented()
            )));
        }
        let timeout =
            request.timeout.map_or(self.options.limits.timeout, |t| t.min(self.options.limits.timeout));
        let limits = Limits { timeout, ..self.options.limits };
        let lookback = request.lookback.filter(|l| !l.is_zero()).unwrap_or(self.options.lookback);
        let context = self.context(&request.tenant, &request.consistency, timeout);
        let running = Running {
            account: self.options.accounts.of(context.query),
            cluster: self.cluster.as_ref(),
            context,
            text: &request.query,
            times,
            lookback: lookback.as_millis().min(i64::MAX as u128 / 4) as i64,
            subquery_step: (self.options.subquery_step.as_millis() as i64).max(1),
            features: request.features.unwrap_or(self.options.features),
            limits,
            explain: request.explain,
            memory: &self.options.memory,
        };
        let cache = self.options.cache.as_ref().filter(|_| is_range && request.use_cache && !request.explain);
        let mut result = match cache.zip(cache::reach(&parsed)) {
            Some((cache, reach)) => {
                let whole = CachedRange { running: &running, cache, reach, grid, cancel: &request.cancel };
                whole.answer(parsed).await?
            }
            None => running.answer(parsed, grid, is_range, request.cancel.clone()).await?.0,
        };
        let total = begun.elapsed().as_micros() as u64;
        result.stats.total_micros = total;
        result.stats.evaluate_micros = total.saturating_sub(result.stats.wait_micros);
        Ok(result)
    }

    /// What the fragments of one query have in common.
    pub(crate) fn context(
        &self,
        tenant: &TenantId,
        consistency: &Consistency,
        timeout: Duration,
    ) -> ReadContext {
        ReadContext {
            query: query_number(),
            tenant: tenant.clone(),
            consistency: consistency.clone(),
            timeout,
            max_answer_bytes: self.options.limits.max_bytes,
        }
    }

    /// Answers an instant query.
    pub async fn instant(&self, tenant: &TenantId, query: &str, time: i64) -> Result<QueryResult> {
        self.query(&QueryRequest::instant(tenant.clone(), query, time)).await
    }

    /// Answers a range query.
    pub async fn range(
        &self,
        tenant: &TenantId,
        query: &str,
        start: i64,
        end: i64,
        step: i64,
    ) -> Result<QueryResult> {
        self.query(&QueryRequest::range(tenant.clone(), query, start, end, step)).await
    }
}

impl Running<'_> {
    /// The answer, and the positions in the shards' logs that it reflects, where those are known.
    async fn answer(
        &self,
        parsed: Expr,
        grid: Grid,
        is_range: bool,
        cancel: CancelFlag,
    ) -> Result<(QueryResult, Option<Positions>)> {
        let value_type = parsed.value_type();
        let mut expr = prepare(parsed, &self.times)?;
        mark_resets(&mut expr, false);
        let control = Control { cancel, account: Some(Arc::clone(&self.account)), ..Control::default() };
        let mut store = Store::new(Budget::new(self.limits, control).within(Some(self.memory)));
        let plan = match self.explain {
            true => Some(explain::plan(&expr, grid, &self.features, self.subquery_step, &self.limits)?),
            false => None,
        };
        let value = match value_type {
            ValueType::String => {
                let text = expr.string_literal().cloned().unwrap_or_default();
                ResultValue::String(grid.start, text.lossy())
            }
            ValueType::Matrix => ResultValue::Matrix(self.matrix(&expr, grid, &mut store).await?),
            ValueType::Scalar if !is_range => {
                self.fetch(&expr, grid, &mut store).await?;
                let values = self.with_evaluator(&mut store, |e| e.scalar(&expr, grid))?;
                ResultValue::Scalar(grid.start, values.first().copied().unwrap_or(f64::NAN))
            }
            ValueType::Scalar | ValueType::Vector => {
                self.fetch(&expr, grid, &mut store).await?;
                let series = self.with_evaluator(&mut store, |e| e.vector(&expr, grid))?;
                let series = self.without_dropped_names(series)?;
                if is_range { to_matrix(series, &grid) } else { to_vector(series, grid.start) }
            }
        };
        store.budget.check()?;
        let result = QueryResult {
            value,
            warnings: store.notes.warnings(self.text),
            infos: store.notes.infos(self.text),
            stats: store.stats,
            explanation: plan.map(|plan| Explanation { plan, fragments: store.traces }),
        };
        Ok((result, store.positions))
    }

    fn with_evaluator<T>(
        &self,
        store: &mut Store,
        run: impl FnOnce(&Evaluator<'_>) -> Result<T>,
    ) -> Result<T> {
        let evaluator = Evaluator {
            data: &*store,
            times: self.times,
            lookback: self.lookback,
            subquery_step: self.subquery_step,
            features: self.features,
            budget: &store.budget,
            notes: Default::default(),
        };
        let result = run(&evaluator);
        let notes = evaluator.notes.into_inner();
        store.notes.merge(notes);
        result
    }

    /// Drops the names that were to go when the query ends.
    fn without_dropped_names(&self, mut series: Vec<Series>) -> Result<Vec<Series>> {
        if !self.features.delayed_name_removal {
            return Ok(series);
        }
        for s in series.iter_mut().filter(|s| s.drop_name) {
            s.labels = without_metadata(&s.labels);
            s.drop_name = false;
        }
        merge_same_labels(series)
    }

    /// Asks the shards for everything that a tree needs.
    async fn fetch(&self, expr: &Expr, grid: Grid, store: &mut Store) -> Result<()> {
        let mut collector = Collector::new(&self.features, self.subquery_step, &self.limits);
        collector.visit(expr, grid)?;
        let jobs = collector.jobs;
        let levels = jobs.iter().map(|job| job.level + 1).max().unwrap_or(0);
        for level in 0..levels {
            store.budget.check()?;
            let mut requests: Vec<(&Job<'_>, Bytes)> = Vec::new();
            for job in jobs.iter().filter(|job| job.level == level) {
                let mut scalars = Vec::new();
                for scalar in &job.scalars {
                    let values = self.with_evaluator(store, |e| e.scalar(scalar, job.grid))?;
                    scalars.push((scalar.span, values));
                }
                requests.push((job, self.evaluate_request(job, &scalars, store, level)));
            }
            // Equal parts of a query are asked for once.
            let twin = |i: usize| (0..i).find(|j| requests[*j].0.is_twin_of(requests[i].0, self.text));
            let firsts: Vec<usize> = (0..requests.len()).filter(|i| twin(*i).is_none()).collect();
            let sent = Instant::now();
            let context = self.context_of(store);
            let mut asked: FuturesUnordered<_> = firsts
                .iter()
                .map(|i| async {
                    let replies = self.execute(&context, requests[*i].1.clone()).await;
                    (*i, replies, sent.elapsed())
                })
                .collect();
            let mut answers: Map<usize, (Vec<Reply>, Duration)> = Map::default();
            let mut received = 0;
            while let Some((first, replies, took)) = asked.next().await {
                let replies = replies.map_err(|error| self.whole_limit(error, store))?;
                let bytes = replies.iter().map(|reply| reply.bytes).sum();
                store.budget.hold(bytes)?;
                received += bytes;
                for reply in &replies {
                    store.note_position(reply.shard, reply.answer.applied);
                }
                answers.insert(first, (replies, took));
            }
            drop(asked);
            store.stats.wait_micros += sent.elapsed().as_micros() as u64;
            for i in 0..requests.len() {
                let first = twin(i).unwrap_or(i);
                let uses = |from: usize| (from..requests.len()).filter(|j| twin(*j) == Some(first)).count();
                let Some((replies, took)) = answers.get(&first) else { continue };
                if self.explain && first == i {
                    let trace =
                        explain::trace(requests[i].0, self.text, level, 1 + uses(i + 1), replies, *took);
                    store.traces.push(trace);
                }
                let replies: Vec<FragmentAnswer> = match uses(i + 1) {
                    0 => answers.remove(&first).map(|(replies, _)| replies).unwrap_or_default(),
                    _ => replies.clone(),
                }
                .into_iter()
                .map(|reply| reply.answer)
                .collect();
                let job = requests[i].0;
                let shift = i64::from(job.span.start) - i64::from(requests[first].0.span.start);
                store.take_in(self, job, replies, shift, first == i)?;
            }
            store.budget.release(received);
        }
        Ok(())
    }

    fn evaluate_request(
        &self,
        job: &Job<'_>,
        scalars: &[(crate::promql::span::Span, Vec<f64>)],
        store: &Store,
        level: usize,
    ) -> Bytes {
        use protocol::scan::{BoundScalar, EvaluateRequest};
        let features = Features { delayed_name_removal: true, ..self.features };
        let features = if job.keep_names { features } else { self.features };
        let scalar = |(span, values): &(crate::promql::span::Span, Vec<f64>)| BoundScalar {
            span_start: span.start,
            span_end: span.end,
            values: wire::float_bytes(values),
        };
        let (query, start, end) = match &job.text {
            Some(text) => (text.clone(), 0, text.len() as u32),
            None => (self.text.to_owned(), job.span.start, job.span.end),
        };
        let request = EvaluateRequest {
            query,
            span_start: start,
            span_end: end,
            start_ms: job.grid.start,
            step_ms: job.grid.step,
            // `Limits::check_grid` keeps grids below what does not fit.
            steps: u32::try_from(job.grid.count).unwrap_or(u32::MAX),
            query_start_ms: self.times.start,
            query_end_ms: self.times.end,
            query_step_ms: self.times.step,
            lookback_ms: self.lookback,
            subquery_step_ms: self.subquery_step,
            features: features.enabled().into_iter().map(str::to_owned).collect(),
            max_samples: self.limits.max_samples.saturating_sub(store.budget.samples()),
            max_bytes: self.limits.max_bytes,
            timeout_ms: store.budget.remaining().as_millis() as u64,
            partial: job.partial,
            scalars: scalars.iter().map(scalar).collect(),
            find_resets: job.find_resets,
        };
        encode(&self.context, level as u32 + 1, FragmentBody::Evaluate(request))
    }

    /// The context of the fragments that go out now.
    fn context_of(&self, store: &Store) -> ReadContext {
        let (timeout, max_answer_bytes) = (store.budget.remaining(), store.budget.free_bytes());
        ReadContext { timeout, max_answer_bytes, ..self.context.clone() }
    }

    async fn execute(&self, context: &ReadContext, fragment: Bytes) -> Result<Vec<Reply>> {
        execute(self.cluster, context, fragment).await
    }

    /// A shard knows what was left of the limit when it was asked: the client is told the whole.
    fn whole_limit(&self, error: QueryError, store: &Store) -> QueryError {
        let before = store.budget.samples();
        match error {
            QueryError::TooManySamples { limit, asked } if limit == self.limits.max_samples - before => {
                QueryError::TooManySamples { limit: self.limits.max_samples, asked: asked + before }
            }
            error => error,
        }
    }

    /// A range selector or subquery as the whole query.
    async fn matrix(&self, expr: &Expr, grid: Grid, store: &mut Store) -> Result<Vec<MatrixSeries>> {
        match &expr.unwrapped().kind {
            ExprKind::Matrix(matrix) => self.raw_samples(matrix, grid.start, store).await,
            ExprKind::Subquery(subquery) => self.subquery(subquery, grid, store).await,
            _ => Err(QueryError::Execution(format!("{expr} is no range"))),
        }
    }

    async fn raw_samples(
        &self,
        matrix: &MatrixSelector,
        time: i64,
        store: &mut Store,
    ) -> Result<Vec<MatrixSeries>> {
        let selector = &matrix.selector;
        if selector.edges != Edges::Plain {
            let message = "anchored and smoothed ranges can not be shown, only used by functions".to_owned();
            return Err(QueryError::Execution(message));
        }
        let time = match selector.at {
            Some(At::Time(at)) => at,
            _ => time,
        };
        let end = time.saturating_sub(millis(selector.offset.as_ref()));
        let start = end.saturating_sub(matrix.range.millis).saturating_add(1);
        let request = SamplesRequest {
            selectors: vec![matchers_to_wire(&selector.matchers)],
            start_ms: start,
            end_ms: end,
            max_samples: self.limits.max_samples,
            last_only: false,
        };
        let fragment = encode(&self.context, 1, FragmentBody::Samples(request));
        let mut out = Vec::new();
        let sent = Instant::now();
        let context = self.context_of(store);
        let replies = self.execute(&context, fragment).await?;
        let received = replies.iter().map(|reply| reply.bytes).sum();
        store.budget.hold(received)?;
        store.stats.wait_micros += sent.elapsed().as_micros() as u64;
        store.stats.fragments += 1;
        if self.explain {
            store.traces.push(explain::raw_trace(self.text, &replies, sent.elapsed()));
        }
        for answer in replies.into_iter().map(|reply| reply.answer) {
            store.count(&answer, true)?;
            for series in answer.samples {
                let series = lists::raw_series(series)?;
                store.budget.hold(series.floats.len() as u64 * 16)?;
                out.push(series);
            }
        }
        store.budget.release(received);
        for series in &mut out {
            series.floats.retain(|(_, value)| !is_absent(*value));
            series.histograms.retain(|(_, h)| !is_absent(h.sum));
        }
        out.retain(|series| !series.floats.is_empty() || !series.histograms.is_empty());
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }

    async fn subquery(
        &self,
        subquery: &Subquery,
        grid: Grid,
        store: &mut Store,
    ) -> Result<Vec<MatrixSeries>> {
        let inner = subquery_grid(subquery, grid, self.subquery_step, &self.limits)?;
        self.fetch(&subquery.expr, inner, store).await?;
        let series = self.with_evaluator(store, |e| e.vector(&subquery.expr, inner))?;
        let steps = series.iter().map(|s| (0..inner.count).filter(|step| s.has(*step)).count() as u64).sum();
        store.budget.charge_samples(steps)?;
        store.budget.hold(steps.saturating_mul(16))?;
        match to_matrix(self.without_dropped_names(series)?, &inner) {
            ResultValue::Matrix(series) => Ok(series),
            _ => Ok(Vec::new()),
        }
    }
}

/// A range query of which earlier results may have the first steps.
struct CachedRange<'a, 'b> {
    running: &'a Running<'b>,
    cache: &'a ResultCache,
    /// How far ahead of themselves the query's steps look.
    reach: i64,
    grid: Grid,
    cancel: &'a CancelFlag,
}

impl CachedRange<'_, '_> {
    async fn answer(&self, parsed: Expr) -> Result<QueryResult> {
        let (running, grid, begun) = (self.running, self.grid, Instant::now());
        let key = Key {
            tenant: running.context.tenant.clone(),
            text: running.text.trim().to_owned(),
            step: grid.step,
            phase: grid.start.rem_euclid(grid.step),
            lookback: running.lookback,
            subquery_step: running.subquery_step,
            features: running.features,
        };
        let mut known = None;
        if let Some(kept) = self.cache.get(&key).filter(|kept| (kept.start..=kept.end).contains(&grid.start))
        {
            let (changed_from, positions) = self.changes(&kept).await?;
            let until = kept.right_until(&grid, changed_from, self.reach);
            known = until.map(|until| (kept, until, changed_from, positions));
        }
        let Some((kept, until, changed_from, positions)) = known else {
            self.cache.count(0);
            let (result, positions) = running.answer(parsed, grid, true, self.cancel.clone()).await?;
            if result.stats.total_queryable_samples >= self.cache.options().min_samples
                && let Some(kept) = Kept::of(&grid, &result, positions)
            {
                self.cache.keep(key, kept);
            }
            return Ok(result);
        };
        let cached_steps = ((until - grid.start) / grid.step + 1).unsigned_abs();
        self.cache.count(cached_steps);
        if until >= grid.end() {
            let wait_micros = begun.elapsed().as_micros() as u64;
            let value = ResultValue::Matrix(kept.matrix(&grid));
            if let Some(kept) = kept.confirmed(grid.step, changed_from, self.reach, positions) {
                self.cache.keep(key, kept);
            }
            let stats = QueryStats { cached_steps, fragments: 1, wait_micros, ..QueryStats::default() };
            return Ok(QueryResult { value, warnings: vec![], infos: vec![], stats, explanation: None });
        }

        let later = Grid::between(until + grid.step, grid.end(), grid.step);
        let timeout = running.limits.timeout.saturating_sub(begun.elapsed());
        let rest = Running {
            times: QueryTimes { start: later.start, end: later.end(), step: grid.step },
            limits: Limits { timeout, ..running.limits },
            context: running.context.clone(),
            account: Arc::clone(&running.account),
            ..*running
        };
        let (mut result, reflected) = rest.answer(parsed, later, true, self.cancel.clone()).await?;
        result.stats.cached_steps = cached_steps;
        let ResultValue::Matrix(series) = &mut result.value else { return Ok(result) };
        // As much is kept as was, or as this query wants.
        let span = (kept.end - kept.start).max(grid.end() - grid.start);
        let steps = (grid.start - kept.start.max(grid.end() - span)) / grid.step;
        let start = grid.start - steps.max(0) * grid.step;
        *series = kept.with_later(start, until, std::mem::take(series));
        let both = reflected.and_then(|reflected| earliest(positions, reflected));
        let whole = Kept::of(&Grid::between(start, grid.end(), grid.step), &result, both);
        if let ResultValue::Matrix(series) = &mut result.value
            && start < grid.start
        {
            for s in series.iter_mut() {
                s.floats.retain(|(time, _)| *time >= grid.start);
            }
            series.retain(|s| !s.floats.is_empty() || !s.histograms.is_empty());
        }
        if let Some(whole) = whole {
            self.cache.keep(key, whole);
        }
        Ok(result)
    }

    /// The least timestamp that may have changed since a result was right, and the positions up to which that holds.
    async fn changes(&self, kept: &Kept) -> Result<(i64, Positions)> {
        let since = kept.positions.iter();
        let since = since.map(|(shard, index)| ShardPosition { shard: u32::from(shard.0), index: *index });
        let body = FragmentBody::Changes(ChangesRequest { since: since.collect() });
        let context = &self.running.context;
        let replies = execute(self.running.cluster, context, encode(context, 1, body)).await?;
        let positions: Positions = replies.iter().map(|reply| (reply.shard, reply.answer.applied)).collect();
        let known = positions.keys().eq(kept.positions.keys()) && positions.values().all(|index| *index > 0);
        let least = replies.iter().map(|reply| reply.answer.changed_from_ms).min();
        Ok((least.filter(|_| known).unwrap_or(i64::MIN), positions))
    }
}

/// The earlier positions of both; `None` where they are not of the same shards.
fn earliest(mut positions: Positions, others: Positions) -> Option<Positions> {
    if !positions.keys().eq(others.keys()) {
        return None;
    }
    for (shard, other) in others {
        positions.entry(shard).and_modify(|index| *index = other.min(*index));
    }
    Some(positions)
}

/// A fragment of a query. Rounds are numbered from 1 on.
pub(crate) fn encode(context: &ReadContext, round: u32, body: FragmentBody) -> Bytes {
    let request = FragmentRequest {
        version: VERSION,
        tenant: context.tenant.as_str().to_owned(),
        body: Some(body),
        query: context.query,
        round,
    };
    Bytes::from(request.encode_to_vec())
}

/// A number that no other query has, of this process or, but by a rare accident, of another.
pub fn query_number() -> u64 {
    static FIRST: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The standard library seeds its hash tables from the system's randomness.
    let first = *FIRST.get_or_init(|| RandomState::new().hash_one("queries"));
    first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)).max(1)
}

/// Runs a fragment on all shards; an error inside an answer fails the whole.
pub(crate) async fn execute(
    cluster: &dyn Cluster,
    context: &ReadContext,
    fragment: Bytes,
) -> Result<Vec<Reply>> {
    let answers = cluster.execute(context, fragment).await?;
    let mut out = Vec::with_capacity(answers.len());
    for answer in answers {
        let bytes = answer.answer.len() as u64;
        let decoded = FragmentAnswer::decode(answer.answer)
            .map_err(|e| QueryError::Protocol(format!("shard {}: {e}", answer.shard)))?;
        if let Some(error) = decoded.error {
            return Err(QueryError::from_wire(error.kind, error.message));
        }
        out.push(Reply { shard: answer.shard, bytes, answer: decoded });
    }
    Ok(out)
}

pub fn matchers_to_wire(matchers: &[protocol::matcher::Matcher]) -> MatcherSet {
    use protocol::matcher::MatchOp;
    let message = |m: &protocol::matcher::Matcher| protocol::scan::MatcherMessage {
        name: m.name().to_owned(),
        op: match m.op() {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        },
        value: m.value().to_owned(),
    };
    MatcherSet { matchers: matchers.iter().map(message).collect() }
}

fn to_vector(series: Vec<Series>, time: i64) -> ResultValue {
    let sample = |s: Series| {
        let value = match s.get(0)? {
            Sample::Float(value) => Value::Float(value),
            Sample::Histogram(h) => Value::Histogram(Arc::clone(h)),
        };
        Some(VectorSample { labels: s.labels, time, value })
    };
    ResultValue::Vector(series.into_iter().filter_map(sample).collect())
}

fn to_matrix(series: Vec<Series>, grid: &Grid) -> ResultValue {
    let mut out: Vec<MatrixSeries> = Vec::with_capacity(series.len());
    for s in series {
        let floats = (0..grid.count).filter(|i| !is_absent(s.values[*i])).map(|i| (grid.at(i), s.values[i]));
        let floats: Vec<_> = floats.collect();
        let histograms: Vec<_> =
            (0..grid.count).filter_map(|i| Some((grid.at(i), Arc::clone(s.histogram(i)?)))).collect();
        if !floats.is_empty() || !histograms.is_empty() {
            out.push(MatrixSeries { labels: Some(s.labels), floats, histograms });
        }
    }
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    ResultValue::Matrix(out)
}

/// Annotations moved from one part of a query to an equal one.
pub(crate) fn shifted(mut annotations: Vec<protocol::scan::AnnotationMessage>, by: i64) -> Annotations {
    for annotation in annotations.iter_mut().filter(|a| a.position > 0) {
        annotation.position = (i64::from(annotation.position) + by).clamp(1, i64::from(u32::MAX)) as u32;
    }
    Annotations::from_wire(annotations)
}
