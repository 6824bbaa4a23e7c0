//! Where crates that do not know each other meet: `query`'s traits over `storage` and `cluster`, the node's operations
//! for the HTTP surface.

mod backup;
mod carried;
pub mod dashboards;
mod log_view;
pub mod operations;
pub mod system;
pub mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use cluster::error::ReadError;
use cluster::node::{FragmentError, FragmentHandler, FragmentResult, Node};
use cluster::read::Consistency as ReadConsistency;
use cluster::router::{CACHED_SERIES_BYTES, Router, RouterConfig};
use futures_util::future::{BoxFuture, join_all};
use protocol::commit_token::{CommitToken, CommitTokenError};
use protocol::epoch;
use protocol::error::ErrorKind;
use protocol::ids::ShardId;
use protocol::memory::MemoryLedger;

use query::engine::{CacheOptions, ResultCache};
use query::exec::{Account, Turn};
use query::source::{Cluster, Consistency, ReadContext, ShardAnswer, SourceError};
use query::{Accounts, CancelFlag, Control, Engine, EngineOptions, Features, Fragment, Limits, QueryError};
use sql::{SqlEngine, SqlOptions};
use storage::scan::StoreSnapshot;

use crate::api::Backend;
use crate::api::active::ActiveQueries;
use crate::api::read::Queries;
use crate::config::{Config, ConfigError, QuerySection};
use crate::ingest::{Ingest, IngestSettings};
use crate::runtime::fair::FairPool;
use crate::runtime::pool::{PoolError, message};
use crate::runtime::{Runtimes, TokioEnv};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::QueryMetrics;
use crate::telemetry::trace::{self, Position, Tracer};
use backup::NodeBackup;
use dashboards::NodeDashboards;
use operations::NodeOperations;
use system::NodeSystem;
use view::ShardView;

/// Limits as the engine takes them.
pub fn query_limits(settings: &QuerySection) -> Limits {
    Limits {
        max_samples: settings.max_samples,
        max_points: u64::from(settings.max_points_per_series),
        max_bytes: settings.max_memory.0,
        timeout: settings.timeout.0,
    }
}

/// Runs fragments on the shards of this node, on threads of their own that the queries share.
#[derive(Debug)]
pub struct Fragments {
    pool: FairPool,
    limits: Limits,
    memory: MemoryLedger,
    accounts: Accounts,
    metrics: QueryMetrics,
    active: Arc<ActiveQueries>,
    tracer: Arc<Tracer>,
}

/// Parts of queries that may wait on a place: so many fragments of each query of a few coordinators.
const MAX_WAITING_PER_QUERY: usize = 64;

impl Fragments {
    /// Starts the threads.
    pub fn new(
        settings: &QuerySection,
        memory: MemoryLedger,
        metrics: QueryMetrics,
        active: Arc<ActiveQueries>,
        tracer: Arc<Tracer>,
    ) -> Self {
        let places = crate::runtime::cores().max(2);
        let max_waiting = (settings.max_concurrent as usize * places).saturating_mul(MAX_WAITING_PER_QUERY);
        let pool = FairPool::new("pharos-scan", places, max_waiting);
        let (limits, accounts) = (query_limits(settings), Accounts::default());
        Self { pool, limits, memory, accounts, metrics, active, tracer }
    }

    /// What queries use on this node, for their coordinators.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Parts of fragments that wait to begin.
    pub fn waiting(&self) -> usize {
        self.pool.waiting()
    }

    /// Parts of fragments that have begun and not ended.
    pub fn begun(&self) -> usize {
        self.pool.begun()
    }

    /// How often a fragment has let others pass.
    pub fn passes(&self) -> u64 {
        self.pool.passes()
    }
}

impl FragmentHandler for Fragments {
    /// As many parts of the query as there are places on the threads take one shard after the other.
    fn run(
        &self,
        shards: Vec<(ShardId, StoreSnapshot)>,
        fragment: Bytes,
    ) -> BoxFuture<'static, Vec<FragmentResult>> {
        self.metrics.fragments.inc_by(shards.len() as u64);
        let (carried, fragment) = carried::split(&self.tracer, fragment);
        let work = match Work::decode(&fragment) {
            Ok(work) => work,
            Err(error) => {
                let error = fragment_error(error.kind(), error.to_string());
                let refused = shards.into_iter().map(|(shard, _)| (shard, Err(error.clone()))).collect();
                return Box::pin(async move { refused });
            }
        };
        let asked: Vec<ShardId> = shards.iter().map(|(shard, _)| *shard).collect();
        let (pool, query) = (self.pool.clone(), work.query());
        let parts = asked.len().min(pool.places());
        let shared = Arc::new(SharedWork {
            // Parts of no query that is known have nothing in common.
            account: (query != 0).then(|| self.accounts.of(query)),
            work,
            shards: Mutex::new(shards.into_iter()),
            carried,
            limits: self.limits,
            memory: self.memory.clone(),
            active: Arc::clone(&self.active),
            cancel: CancelFlag::default(),
            arrived: Instant::now(),
        });
        Box::pin(async move {
            let _stop = StopOnDrop(shared.cancel.clone());
            let running = (0..parts).map(|_| {
                let shared = Arc::clone(&shared);
                pool.run(query, move |turn| shared.run(&turn))
            });
            let (mut results, mut failure) = (Vec::with_capacity(asked.len()), None);
            for part in join_all(running).await {
                match part {
                    Ok(answered) => results.extend(answered),
                    Err(error) => failure = Some(error),
                }
            }
            for shard in asked {
                if results.iter().all(|(answered, _)| *answered != shard) {
                    results.push((shard, Err(unanswered(shard, failure.as_ref()))));
                }
            }
            results
        })
    }
}

/// What is told of a shard that no part came to.
fn unanswered(shard: ShardId, failure: Option<&PoolError>) -> FragmentError {
    match failure {
        Some(PoolError::Full) => fragment_error(
            ErrorKind::ResourceExhausted,
            "too many parts of queries wait on this node".to_owned(),
        ),
        Some(error) => internal(shard, &error.to_string()),
        None => internal(shard, "no part came to it"),
    }
}

/// The reason goes to the log, not to the client.
fn internal(shard: ShardId, reason: &str) -> FragmentError {
    tracing::error!(%shard, reason, "a fragment of a query failed");
    let message = format!("an internal error at shard {shard}, see the log of its node");
    fragment_error(ErrorKind::Internal, message)
}

const fn fragment_error(kind: ErrorKind, message: String) -> FragmentError {
    FragmentError { kind, message }
}

/// A fragment and the shards that it is yet to run on.
struct SharedWork {
    work: Work,
    shards: Mutex<std::vec::IntoIter<(ShardId, StoreSnapshot)>>,
    carried: Option<Position>,
    limits: Limits,
    memory: MemoryLedger,
    account: Option<Arc<Account>>,
    active: Arc<ActiveQueries>,
    cancel: CancelFlag,
    arrived: Instant,
}

impl SharedWork {
    /// The next shard, unless nobody waits for the answer any more.
    fn next(&self) -> Option<(ShardId, StoreSnapshot)> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.next().filter(|_| !self.cancel.is_canceled())
    }

    /// Runs on shards until none is left. They share a place, which is passed on as the evaluation goes along.
    fn run(&self, turn: &Arc<dyn Turn>) -> Vec<FragmentResult> {
        let waited = self.arrived.elapsed();
        // Only evaluation is heavy enough to be suspected of a crash.
        let noted = self.work.text().map(|(tenant, text)| self.active.begin_part(tenant, text)).transpose();
        let mut results = Vec::new();
        while let Some((shard, snapshot)) = self.next() {
            let mut span = trace::span_at(self.carried.clone(), "fragment");
            span.set("pharos.shard", u64::from(shard.0));
            span.set("pharos.fragment.waited", waited);
            let answer = match &noted {
                Ok(_) => {
                    let view = ShardView { shard, snapshot, memory: self.memory.clone() };
                    // A panic ends the work on this shard alone, and what it may have left half done is dropped with it.
                    let run = AssertUnwindSafe(|| self.run_on(&view, turn));
                    let outcome = trace::compute_at(span.position(), || catch_unwind(run));
                    outcome.map_err(|panic| internal(shard, &format!("panicked: {}", message(&*panic))))
                }
                Err(error) => Err(fragment_error(error.kind(), error.to_string())),
            };
            match &answer {
                Ok(answer) => span.set("pharos.answer.bytes", answer.len()),
                Err(error) => span.fail(error),
            }
            results.push((shard, answer));
        }
        results
    }

    fn run_on(&self, view: &ShardView, turn: &Arc<dyn Turn>) -> Bytes {
        turn.pass(&self.cancel);
        let control = Control {
            cancel: self.cancel.clone(),
            turn: Some(Arc::clone(turn)),
            account: self.account.clone(),
        };
        Bytes::from(match &self.work {
            Work::SpanMetrics => view.snapshot.span_metrics(),
            Work::Query(fragment) => fragment.clone().run(view, self.limits, control),
            Work::Sql(fragment) => fragment.clone().run(view, self.limits, control),
        })
    }
}

/// The fragment that asks for the metrics of a shard's spans: no query.
pub const SPAN_METRICS: &[u8] = b"metrics of spans, version 1";

/// What a fragment asks for.
enum Work {
    SpanMetrics,
    Query(Fragment),
    Sql(sql::Fragment),
}

impl Work {
    fn decode(fragment: &[u8]) -> Result<Self, QueryError> {
        if fragment == SPAN_METRICS {
            return Ok(Self::SpanMetrics);
        }
        match sql::Fragment::decode(fragment) {
            Some(fragment) => Ok(Self::Sql(fragment)),
            None => Fragment::decode(fragment).map(Self::Query),
        }
    }

    /// Number of the query that it is a part of.
    fn query(&self) -> u64 {
        match self {
            Self::SpanMetrics => 0,
            Self::Query(fragment) => fragment.query(),
            Self::Sql(fragment) => fragment.query(),
        }
    }

    /// Tenant and text of what is evaluated.
    fn text(&self) -> Option<(&str, &str)> {
        match self {
            Self::SpanMetrics => None,
            Self::Query(fragment) => fragment.evaluated(),
            Self::Sql(fragment) => Some((fragment.tenant(), fragment.statement())),
        }
    }
}

/// Stops a fragment that nobody waits for any more.
struct StopOnDrop(CancelFlag);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The way of the query engine to all shards.
pub struct NodeCluster(pub Arc<Node<TokioEnv>>);

impl Cluster for NodeCluster {
    fn shards(&self) -> usize {
        usize::from(self.0.shard_map().shard_count())
    }

    fn execute<'a>(
        &'a self,
        context: &'a ReadContext,
        fragment: Bytes,
    ) -> BoxFuture<'a, Result<Vec<ShardAnswer>, SourceError>> {
        Box::pin(self.ask(context, None, fragment))
    }

    fn execute_on<'a>(
        &'a self,
        context: &'a ReadContext,
        shard: ShardId,
        fragment: Bytes,
    ) -> BoxFuture<'a, Result<ShardAnswer, SourceError>> {
        Box::pin(async move {
            let answers = self.ask(context, Some(shard), fragment).await?;
            let nobody = || SourceError::new(ErrorKind::Unavailable, format!("shard {shard} did not answer"));
            answers.into_iter().next().ok_or_else(nobody)
        })
    }
}

impl NodeCluster {
    /// Runs a fragment on one shard or on all.
    async fn ask(
        &self,
        context: &ReadContext,
        only: Option<ShardId>,
        fragment: Bytes,
    ) -> Result<Vec<ShardAnswer>, SourceError> {
        let consistency = match &context.consistency {
            Consistency::Linearizable => ReadConsistency::Linearizable,
            Consistency::Local => ReadConsistency::Local,
            Consistency::Session { token } => {
                let token: CommitToken = token.parse().map_err(|e: CommitTokenError| {
                    SourceError::new(ErrorKind::InvalidInput, e.to_string())
                })?;
                let seen = token.positions().map(|(shard, index)| (shard, index.0)).collect();
                ReadConsistency::Session(seen)
            }
        };
        let (timeout, max_bytes) = (context.timeout, context.max_answer_bytes);
        let mut span = trace::span("fragments");
        // Nodes of an older build would refuse it.
        let may_carry = self.0.meta().settings.encoder_epoch >= epoch::TRACED_FRAGMENTS;
        let position = span.position().filter(|_| may_carry);
        let fragment = carried::join(position.as_ref(), fragment);
        let asked = async {
            match only {
                None => self.0.run_fragment_within(fragment, consistency, timeout, max_bytes).await,
                Some(shard) => {
                    self.0.run_fragment_on(vec![shard], fragment, consistency, timeout, max_bytes).await
                }
            }
        };
        let answers = trace::at(span.position(), asked).await;
        match &answers {
            Ok(answers) => {
                span.set("pharos.shards", answers.len());
                let bytes = answers.iter().map(|(_, answer)| answer.len()).sum::<usize>();
                span.set("pharos.answer.bytes", bytes);
            }
            Err(error) => span.fail(error),
        }
        let answers = answers.map_err(source_error)?;
        Ok(answers.into_iter().map(|(shard, answer)| ShardAnswer { shard, answer }).collect())
    }
}

fn source_error(error: ReadError) -> SourceError {
    match error {
        ReadError::Fragment { kind, message, .. } => SourceError::new(kind, message),
        ReadError::TooLong { bytes, limit } => SourceError::new(
            ErrorKind::LimitExceeded,
            format!(
                "the shards answer {bytes} bytes or more, and the query may hold {limit} bytes more \
                 (query.max_memory). Aggregate, select fewer series or use a longer step, or raise the budget"
            ),
        ),
        error => SourceError::new(error.kind(), error.to_string()),
    }
}

/// Results of fewer samples are evaluated about as quickly as all shards are asked whether they are still right.
const MIN_CACHED_SAMPLES: u64 = 10_000;

fn result_cache(settings: &QuerySection, memory: &MemoryLedger, metrics: &Metrics) -> Option<ResultCache> {
    let max_bytes = settings.result_cache.0;
    if max_bytes == 0 {
        return None;
    }
    let cache = ResultCache::new(CacheOptions { max_bytes, min_samples: MIN_CACHED_SAMPLES }, memory);
    crate::telemetry::node::result_cache(metrics, &cache);
    Some(cache)
}

/// What the HTTP surface reaches of a running node.
pub fn connect(
    config: &Config,
    node: &Arc<Node<TokioEnv>>,
    runtimes: &Runtimes,
    memory: &MemoryLedger,
    metrics: &Metrics,
    fragments: &Fragments,
    active: Arc<ActiveQueries>,
) -> Result<Backend, ConfigError> {
    let features =
        Features::from_names(config.node.features.iter().map(String::as_str)).map_err(|error| {
            ConfigError::Invalid { key: "node.features".to_owned(), reason: error.to_string() }
        })?;
    let options = EngineOptions {
        limits: query_limits(&config.query),
        lookback: config.query.lookback.0,
        features,
        memory: memory.clone(),
        accounts: fragments.accounts().clone(),
        cache: result_cache(&config.query, memory, metrics),
        ..EngineOptions::default()
    };
    let engine = Engine::new(Arc::new(NodeCluster(Arc::clone(node))), options);
    let runtime = runtimes.query.handle().clone();
    let system = NodeSystem::new(Arc::clone(node), Arc::clone(&active), config);
    let sql = SqlEngine::new(engine.clone(), Arc::new(system), sql_options(config)?);
    let queries = Queries::new(engine, runtime, &config.query, metrics.query.clone(), active);
    let router = Router::new(Arc::clone(node), router_config(config, memory));
    let settings = IngestSettings::from_config(&config.ingest, &config.otlp, &config.http);
    let ingest =
        Ingest::new(Arc::new(router), IngestSettings { memory: memory.clone(), ..settings }, metrics);
    Ok(Backend {
        operations: Arc::new(NodeOperations(Arc::clone(node))),
        dashboards: Arc::new(NodeDashboards(Arc::clone(node))),
        backup: Arc::new(NodeBackup(Arc::clone(node))),
        queries,
        sql,
        ingest,
    })
}

/// A directory of its own for what does not fit in memory; what a crash left in it goes.
fn sql_options(config: &Config) -> Result<SqlOptions, ConfigError> {
    let mut options = SqlOptions { max_rows: config.query.max_rows, ..SqlOptions::default() };
    if config.query.max_spill.0 > 0 {
        let dir = config.node.data_dir.join("spill");
        let made = match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => std::fs::create_dir_all(&dir),
        };
        made.map_err(|error| ConfigError::Invalid {
            key: "node.data_dir".to_owned(),
            reason: format!("cannot make {}: {error}", dir.display()),
        })?;
        options.spill_dir = Some(dir);
        options.max_spill_bytes = config.query.max_spill.0;
    }
    Ok(options)
}

/// The cache of a node with little memory holds fewer series.
const MAX_CACHE_SHARE: u64 = 8;

fn router_config(config: &Config, memory: &MemoryLedger) -> RouterConfig {
    let deadline = config.ingest.deadline.0;
    let default = RouterConfig::default();
    let affordable = memory.budget() / MAX_CACHE_SHARE / CACHED_SERIES_BYTES;
    RouterConfig {
        retention: Arc::new(config.retention()),
        max_future: config.ingest.max_future.0,
        deadline,
        attempt_timeout: (deadline / 2).min(default.attempt_timeout),
        cache_series: default.cache_series.min(usize::try_from(affordable).unwrap_or(usize::MAX)),
        ..default
    }
}
