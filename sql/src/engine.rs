//! From a statement to a stream of rows: parse, plan over the catalogue, push work to the shards, execute.
//!
//! Every statement has a session of its own: its tenant, its moment, its memory, its catalogue. Nothing outlives it.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::{SQLOptions, SessionConfig};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use query::engine::query_number;
use query::source::Consistency;
use query::{CancelFlag, Engine};

use crate::catalog::{CATALOG, Catalog, Metrics, PUBLIC};
use crate::derived::name_subqueries;
use crate::error::SqlError;
use crate::functions;
use crate::interrupt::{Interrupt, Interruptible};
use crate::memory::StatementPool;
use crate::postgres;
use crate::promql::Calls;
use crate::push::PushToShards;
use crate::scan::Scope;
use crate::statement::{self, Parameters};
use crate::system::{System, SystemSchema};

/// Threads that the coordinator's part of a plan is spread over, at most.
const MAX_PARTITIONS: usize = 8;

/// Settings of the engine.
#[derive(Clone, Debug)]
pub struct SqlOptions {
    /// Rows that a statement may answer.
    pub max_rows: u64,
    /// Where operators put what does not fit in memory; without, they fail.
    pub spill_dir: Option<PathBuf>,
    /// Bytes that a statement may put there.
    pub max_spill_bytes: u64,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self { max_rows: u64::MAX, spill_dir: None, max_spill_bytes: 0 }
    }
}

/// A statement to answer.
#[derive(Clone, Debug)]
pub struct SqlQuery {
    /// Its text.
    pub text: String,
    /// Values of its parameters.
    pub parameters: Parameters,
    /// Whose data.
    pub tenant: TenantId,
    /// How fresh.
    pub consistency: Consistency,
    /// Less time than the engine allows.
    pub timeout: Option<Duration>,
    /// Stops it.
    pub cancel: CancelFlag,
}

impl SqlQuery {
    /// A statement of a tenant, with everything else as the engine has it.
    pub fn new(tenant: TenantId, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            parameters: Parameters::new(),
            tenant,
            consistency: Consistency::default(),
            timeout: None,
            cancel: CancelFlag::default(),
        }
    }
}

/// Answers statements over a cluster.
#[derive(Clone)]
pub struct SqlEngine {
    engine: Engine,
    system: Arc<dyn System>,
    options: SqlOptions,
}

impl SqlEngine {
    /// An engine that asks the shards that `engine` asks. `system` knows the rows of `system.*`.
    pub fn new(engine: Engine, system: Arc<dyn System>, options: SqlOptions) -> Self {
        Self { engine, system, options }
    }

    /// Plans a statement and begins to execute it.
    pub fn execute<'a>(&'a self, query: &'a SqlQuery) -> BoxFuture<'a, Result<Rows, SqlError>> {
        self.begin(query).boxed()
    }

    async fn begin(&self, query: &SqlQuery) -> Result<Rows, SqlError> {
        let mut statement = statement::parse_one(&query.text)?;
        statement::bind(&mut statement, &query.parameters)?;
        let session = Session::new(self, query)?;
        let deadline = session.scope.deadline;
        let plan = in_time(deadline, session.plan(statement).boxed()).await??;
        let physical = in_time(deadline, session.state.create_physical_plan(&plan).boxed()).await??;
        let stream = execute_stream(physical, session.state.task_ctx())?;
        Ok(Rows {
            schema: stream.schema(),
            stream,
            pool: session.pool,
            left: self.options.max_rows,
            max_rows: self.options.max_rows,
            sleep: Box::pin(tokio::time::sleep_until(deadline.into())),
            cancel: query.cancel.clone(),
            is_done: false,
        })
    }

    /// Names of a statement's parameters, and their types as far as the statement tells them.
    pub fn parameter_types<'a>(
        &'a self,
        query: &'a SqlQuery,
    ) -> BoxFuture<'a, Result<Vec<(String, Option<DataType>)>, SqlError>> {
        self.inferred(query).boxed()
    }

    async fn inferred(&self, query: &SqlQuery) -> Result<Vec<(String, Option<DataType>)>, SqlError> {
        let statement = statement::parse_one(&query.text)?;
        let names = statement::parameters(&statement);
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let session = Session::new(self, query)?;
        let planned = in_time(session.scope.deadline, session.plan(statement).boxed()).await?;
        // A statement that can not be planned without values may still be answered with them.
        let types = planned.ok().and_then(|plan| plan.get_parameter_types().ok()).unwrap_or_default();
        let known = |name: String| {
            let found = types.get(&format!("${name}")).cloned().flatten();
            (name, found)
        };
        Ok(names.into_iter().map(known).collect())
    }

    /// The columns that a statement answers, without executing it. Parameters that have no value are taken for nulls.
    pub fn describe<'a>(&'a self, query: &'a SqlQuery) -> BoxFuture<'a, Result<SchemaRef, SqlError>> {
        self.columns(query).boxed()
    }

    async fn columns(&self, query: &SqlQuery) -> Result<SchemaRef, SqlError> {
        let mut statement = statement::parse_one(&query.text)?;
        let mut parameters = query.parameters.clone();
        for name in statement::parameters(&statement) {
            parameters.entry(name).or_insert(statement::Parameter::Null);
        }
        statement::bind(&mut statement, &parameters)?;
        let session = Session::new(self, query)?;
        let plan = in_time(session.scope.deadline, session.plan(statement).boxed()).await??;
        Ok(Arc::clone(plan.schema().inner()))
    }
}

async fn in_time<T>(deadline: Instant, work: BoxFuture<'_, T>) -> Result<T, SqlError> {
    tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| SqlError::timed_out())
}

/// What a statement is planned in.
struct Session {
    scope: Scope,
    engine: Engine,
    metrics: Metrics,
    calls: Calls,
    state: SessionState,
    pool: Arc<StatementPool>,
}

impl Session {
    fn new(engine: &SqlEngine, query: &SqlQuery) -> Result<Self, SqlError> {
        let options = engine.engine.options();
        let timeout = query.timeout.map_or(options.limits.timeout, |t| t.min(options.limits.timeout));
        let mut limits = options.limits;
        limits.timeout = timeout;
        let scope = Scope {
            number: query_number(),
            cluster: Arc::clone(engine.engine.shared_cluster()),
            tenant: query.tenant.clone(),
            consistency: query.consistency.clone(),
            limits,
            deadline: Instant::now() + timeout,
            statement: query.text.as_str().into(),
            cancel: query.cancel.clone(),
            compares_tables: Arc::default(),
        };
        let pool = Arc::new(StatementPool::new(limits.max_bytes, &options.memory));
        let disk = match &engine.options.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::Disabled,
        };
        let disk = DiskManagerBuilder::default()
            .with_mode(disk)
            .with_max_temp_directory_size(engine.options.max_spill_bytes);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&pool) as Arc<dyn MemoryPool>)
            .with_disk_manager_builder(disk)
            .build_arc()?;
        let mut rules = PhysicalOptimizer::new().rules;
        rules.insert(0, Arc::new(PushToShards));
        let interrupt = Interrupt { cancel: scope.cancel.clone(), deadline: scope.deadline };
        rules.push(Arc::new(Interruptible(interrupt)));
        let metrics = Metrics::new(scope.clone(), engine.engine.clone());
        let system = SystemSchema {
            scope: scope.clone(),
            engine: engine.engine.clone(),
            system: Arc::clone(&engine.system),
        };
        let catalogs = MemoryCatalogProviderList::new();
        let catalog = Catalog::new(&metrics, system);
        let mut scalars = functions::all_scalars();
        // In place of those of the same names.
        let described = postgres::catalog::functions(catalog.described());
        scalars.extend(described.into_iter().map(Arc::new));
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = SessionStateBuilder::new()
            .with_config(config())
            .with_runtime_env(runtime)
            .with_default_features()
            .with_scalar_functions(scalars)
            .with_catalog_list(Arc::new(catalogs))
            .with_physical_optimizer_rules(rules)
            .build();
        functions::register_rewrites(&mut state)?;
        state.mark_start_execution();
        let now = state.execution_props().query_execution_start_time.map(|now| now.timestamp_millis());
        let calls = Calls::new(now.unwrap_or_default());
        state.register_udtf("promql", Arc::new(calls.clone()));
        Ok(Self { scope, engine: engine.engine.clone(), metrics, calls, state, pool })
    }

    async fn plan(&self, mut statement: Statement) -> Result<LogicalPlan, SqlError> {
        postgres::rewrite::rewrite(&mut statement);
        name_subqueries(&mut statement);
        let text = statement.to_string().to_ascii_lowercase();
        if ["information_schema", "show ", "pg_catalog"].iter().any(|word| text.contains(word)) {
            self.metrics.learn_all(text.contains("columns")).boxed().await?;
        }
        let pool: Arc<dyn MemoryPool> = Arc::clone(&self.pool) as _;
        let plan = loop {
            let planned = self.state.statement_to_plan(statement.clone()).boxed().await;
            // What promql() answers is a table whose columns are known only then.
            if self.calls.evaluate(&self.engine, &self.scope, &pool).boxed().await? {
                continue;
            }
            break planned?;
        };
        let options =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan)?;
        let mut scans = 0;
        plan.apply_with_subqueries(|node| {
            scans += usize::from(matches!(node, LogicalPlan::TableScan(_)));
            Ok(TreeNodeRecursion::Continue)
        })?;
        self.scope.compares_tables.store(scans > 1, Ordering::Relaxed);
        Ok(plan)
    }
}

fn config() -> SessionConfig {
    let partitions = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_PARTITIONS);
    let mut config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    // The walks answer one partition: a plan is not made wider for a handful of rows.
    options.explain.show_sizes = false;
    config
}

/// The rows of a statement, as they come.
pub struct Rows {
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    pool: Arc<StatementPool>,
    left: u64,
    max_rows: u64,
    sleep: Pin<Box<tokio::time::Sleep>>,
    cancel: CancelFlag,
    is_done: bool,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Rows {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The memory of the statement: what is made of the rows is charged to it, too.
    pub fn pool(&self) -> &Arc<StatementPool> {
        &self.pool
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let next = if self.cancel.is_canceled() {
            Poll::Ready(Some(Err(SqlError::canceled())))
        } else if self.sleep.as_mut().poll(context).is_ready() {
            Poll::Ready(Some(Err(SqlError::timed_out())))
        } else {
            self.stream.poll_next_unpin(context).map(|next| next.map(|batch| batch.map_err(SqlError::from)))
        };
        let next = match next {
            Poll::Ready(Some(Ok(batch))) => match self.left.checked_sub(batch.num_rows() as u64) {
                Some(left) => {
                    self.left = left;
                    Poll::Ready(Some(Ok(batch)))
                }
                None => {
                    let message = format!("the answer has more than {} rows (query.max_rows)", self.max_rows);
                    let error = SqlError::new(ErrorKind::LimitExceeded, message);
                    Poll::Ready(Some(Err(error.with_hint("add a LIMIT, or aggregate"))))
                }
            },
            other => other,
        };
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.is_done = true;
        }
        next
    }
}
