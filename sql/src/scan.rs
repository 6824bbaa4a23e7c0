//! Walks over the cluster's data as DataFusion sees them: a table that can be scanned, and the plan node that asks all
//! shards and gives their answers on, in shard order.
//!
//! What a node asks for is kept as expressions over the columns of the walk, so that [`crate::push`] can fold the nodes
//! above into it, and written down when it runs. A shard that does not answer fails the statement and is named. The
//! answers are charged to the statement's memory before they are decoded.
//!
//! Rows may be many, so that the shards answer them in two rounds: all are asked at once, and give what is short; those
//! that have more say so, and are asked again one after the other, a few ahead of the one whose rows are given on. What is
//! held is these few answers, however many shards there are, and the first rows are there before the last are read.

mod sizes;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamDecoder;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
    SendableRecordBatchStream,
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use protocol::ids::{ShardId, TenantId};
use protocol::labels::METRIC_NAME;
use protocol::matcher::Matcher;
use protocol::scan::{FragmentAnswer, FragmentBody, FragmentRequest};
use protocol::sql::{SqlAggregate, SqlRequest, SqlSort, SqlTable, VERSION, decode_answer};
use query::engine::matchers_to_wire;
use query::source::{Cluster, Consistency, ReadContext, ShardAnswer};
use query::{CancelFlag, Limits, QueryError};

use crate::columns::{ScanColumn, Table};
use crate::exprs::Writer;
use crate::filters::{Pruned, Understood, understand};
use sizes::Size;

/// Rows that are given on at once.
const BATCH_ROWS: usize = 8192;
/// Rows that a shard answers at once; who has more is asked again when its turn comes.
const FIRST_ROWS_BYTES: u64 = 1 << 20;
/// Shards of which longer answers are awaited or held at once.
const SHARDS_AHEAD: usize = 4;

/// What all parts of a statement know.
#[derive(Clone)]
pub struct Scope {
    /// The statement's number, as it stands in its fragments.
    pub number: u64,
    /// The way to the shards.
    pub cluster: Arc<dyn Cluster>,
    /// Whose data.
    pub tenant: TenantId,
    /// How fresh.
    pub consistency: Consistency,
    /// What it may use.
    pub limits: Limits,
    /// When it has to be done.
    pub deadline: Instant,
    /// Its text.
    pub statement: Arc<str>,
    /// Stops it.
    pub cancel: CancelFlag,
    /// Whether it reads several tables: then the planner does better when it knows how long they are.
    pub compares_tables: Arc<AtomicBool>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Scope {
    /// How reads of the statement are done from now on.
    pub fn context(&self) -> ReadContext {
        ReadContext {
            query: self.number,
            max_answer_bytes: self.limits.max_bytes,
            tenant: self.tenant.clone(),
            consistency: self.consistency.clone(),
            timeout: self.deadline.saturating_duration_since(Instant::now()),
        }
    }

    /// Asks all shards; their answers in shard order, with the length of each.
    pub async fn ask(&self, request: SqlRequest) -> Result<Vec<(ShardId, u64, FragmentAnswer)>> {
        let fragment = self.fragment(request)?;
        let answers = self.cluster.execute(&self.context(), fragment).await;
        answers.map_err(external)?.into_iter().map(answered).collect()
    }

    /// Asks all shards for a walk whose answer is short.
    async fn rows(&self, walk: &Walk, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let request = walk.request(schema, &self.statement, self.limits.max_samples);
        let mut batches = Vec::new();
        for (shard, _, answer) in self.ask(request.ok_or_else(unwritable)?).await? {
            let rows = answer.sql.unwrap_or_default().rows;
            for batch in ShardRows::new(shard, rows, schema, None) {
                batches.push(batch?);
            }
        }
        Ok(batches)
    }

    /// Asks one shard, which may answer so many bytes.
    async fn ask_one(
        &self,
        shard: ShardId,
        request: SqlRequest,
        max_bytes: u64,
    ) -> Result<(ShardId, u64, FragmentAnswer)> {
        let fragment = self.fragment(request)?;
        let context = ReadContext { max_answer_bytes: max_bytes, ..self.context() };
        answered(self.cluster.execute_on(&context, shard, fragment).await.map_err(external)?)
    }

    fn fragment(&self, request: SqlRequest) -> Result<Bytes> {
        let request = FragmentRequest {
            version: VERSION,
            tenant: self.tenant.as_str().to_owned(),
            body: Some(FragmentBody::Sql(request)),
            query: self.number,
            round: 1,
        };
        if self.cancel.is_canceled() {
            return Err(external(QueryError::Canceled("a scan".to_owned())));
        }
        Ok(request.encode_to_vec().into())
    }
}

fn unwritable() -> DataFusionError {
    DataFusionError::Internal("a walk can not be written down".to_owned())
}

fn answered(ShardAnswer { shard, answer }: ShardAnswer) -> Result<(ShardId, u64, FragmentAnswer)> {
    let bytes = answer.len() as u64;
    let decoded = decode_answer(answer)
        .map_err(|e| external(QueryError::Protocol(format!("answer of shard {shard}: {e}"))))?;
    match decoded.error {
        Some(error) => Err(external(QueryError::from_wire(error.kind, error.message))),
        None => Ok((shard, bytes, decoded)),
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A table over the cluster's data.
#[derive(Debug)]
pub struct ClusterTable {
    scope: Scope,
    table: Arc<Table>,
}

impl ClusterTable {
    /// The table as a statement sees it.
    pub fn new(scope: Scope, table: Table) -> Self {
        Self { scope, table: Arc::new(table) }
    }
}

#[async_trait]
impl TableProvider for ClusterTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let how = |filter: &&Expr| match understand(&self.table, filter) {
            Some(Understood::Exactly(_)) => TableProviderFilterPushDown::Exact,
            Some(Understood::Partly(_)) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(how).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let metric = self.table.metric.iter().map(|metric| Matcher::equal(METRIC_NAME, metric)).collect();
        let mut pruned = Pruned { matchers: metric, ..Pruned::default() };
        for understood in filters.iter().filter_map(|filter| understand(&self.table, filter)) {
            pruned = pruned.and(understood.pruned());
        }
        let chosen: Vec<usize> = match projection {
            Some(projection) => projection.clone(),
            None => (0..self.table.columns.len()).collect(),
        };
        let schema = Arc::new(self.table.schema.project(&chosen)?);
        let columns: Vec<ScanColumn> = chosen.iter().map(|at| self.table.columns[*at].clone()).collect();
        let outputs = columns
            .iter()
            .enumerate()
            .map(|(at, column)| Arc::new(Column::new(&column.name(), at)) as Arc<dyn PhysicalExpr>)
            .collect();
        let compares = self.scope.compares_tables.load(Ordering::Relaxed);
        let size = match compares && !pruned.is_empty && self.table.kind == SqlTable::Samples {
            // Without it the plan is only less good. What keeps it from being known is told by the scan itself.
            true => sizes::of(&self.scope, &self.table, &pruned).await.ok(),
            false => None,
        };
        let walk = Walk {
            table: Arc::clone(&self.table),
            pruned,
            columns,
            filters: Vec::new(),
            shape: Shape::Rows { outputs, sort: Vec::new(), limit },
            size,
        };
        Ok(Arc::new(ClusterScan::new(self.scope.clone(), walk, schema)))
    }
}

/// What is made of the rows of a walk.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Rows, or the first of them.
    Rows {
        /// The columns of the answer.
        outputs: Vec<Arc<dyn PhysicalExpr>>,
        /// The order of which the first are wanted.
        sort: Vec<PhysicalSortExpr>,
        /// At most so many of each shard.
        limit: Option<usize>,
    },
    /// Groups, and the states of aggregates.
    Groups {
        /// What rows are grouped by.
        keys: Vec<Arc<dyn PhysicalExpr>>,
        /// What is made of each group, and of which rows.
        aggregates: Vec<Aggregate>,
    },
}

/// An aggregate, its arguments and its filter, over the columns of the walk.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// The function.
    pub function: Arc<AggregateFunctionExpr>,
    /// Its arguments.
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    /// Which rows it regards.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// What is asked of each shard.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Of which rows.
    pub table: Arc<Table>,
    /// Which series and time.
    pub pruned: Pruned,
    /// What expressions refer to.
    pub columns: Vec<ScanColumn>,
    /// Which rows are kept.
    pub filters: Vec<Arc<dyn PhysicalExpr>>,
    /// What is made of them.
    pub shape: Shape,
    /// How long the table was between the moments that it was bounded to, where that was asked.
    pub size: Option<Size>,
}

impl Walk {
    /// The columns as a schema.
    pub fn schema(&self) -> Schema {
        Schema::new(
            self.columns.iter().map(|c| Field::new(c.name(), c.data_type(), true)).collect::<Vec<_>>(),
        )
    }

    /// The request to the shards; `None` where something in it can not be written down.
    pub fn request(&self, schema: &Schema, statement: &str, max_samples: u64) -> Option<SqlRequest> {
        let mut writer = Writer::default();
        let mut request = SqlRequest {
            statement: statement.to_owned(),
            table: self.table.kind as i32,
            matchers: Some(matchers_to_wire(&self.pruned.matchers)),
            start_ms: self.pruned.range.start,
            end_ms: self.pruned.range.end,
            columns: self.columns.iter().map(ScanColumn::to_wire).collect(),
            schema: ipc_schema(schema)?,
            max_samples,
            rows_first: true,
            ..Default::default()
        };
        request.filters = self.filters.iter().map(|e| writer.write(e)).collect::<Option<_>>()?;
        match &self.shape {
            Shape::Rows { outputs, sort, limit } => {
                request.outputs = outputs.iter().map(|e| writer.write(e)).collect::<Option<_>>()?;
                let key = |key: &PhysicalSortExpr| {
                    Some(SqlSort {
                        expr: writer.write(&key.expr)?,
                        descending: key.options.descending,
                        nulls_first: key.options.nulls_first,
                    })
                };
                request.sort = sort.iter().map(key).collect::<Option<_>>()?;
                request.limit = limit.map_or(0, |limit| limit as u64);
            }
            Shape::Groups { keys, aggregates } => {
                request.aggregate = true;
                request.groups = keys.iter().map(|e| writer.write(e)).collect::<Option<_>>()?;
                for aggregate in aggregates {
                    let filter = aggregate.filter.as_ref();
                    request.aggregates.push(SqlAggregate {
                        function: aggregate.function.fun().name().to_owned(),
                        args: aggregate.args.iter().map(|e| writer.write(e)).collect::<Option<_>>()?,
                        distinct: aggregate.function.is_distinct(),
                        filter: match filter {
                            Some(filter) => Some(writer.write(filter)?),
                            None => None,
                        },
                        ignore_nulls: aggregate.function.ignore_nulls(),
                    });
                }
            }
        }
        request.literals = writer.literals()?;
        Some(request)
    }
}

fn ipc_schema(schema: &Schema) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = StreamWriter::try_new(&mut out, schema).ok()?;
    writer.finish().ok()?;
    drop(writer);
    Some(out)
}

/// What a shard did, for `EXPLAIN ANALYZE`.
#[derive(Clone, Debug)]
struct Trace {
    shard: ShardId,
    bytes: u64,
    micros: u64,
    samples: u64,
    series: u64,
    rows: u64,
    segments: u64,
    pruned: u64,
    counted: u64,
}

/// The plan node; see the module.
#[derive(Debug)]
pub struct ClusterScan {
    scope: Scope,
    walk: Walk,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    traces: Arc<Mutex<Vec<Trace>>>,
}

impl ClusterScan {
    /// A node that asks for a walk, of which the answer has this schema.
    pub fn new(scope: Scope, walk: Walk, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            scope,
            walk,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            traces: Arc::default(),
        }
    }

    /// What it asks for.
    pub fn walk(&self) -> &Walk {
        &self.walk
    }

    /// The same, asking for something else.
    pub fn with(&self, walk: Walk, schema: SchemaRef) -> Self {
        Self::new(self.scope.clone(), walk, schema)
    }
}

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

impl DisplayAs for ClusterScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Walk { table, pruned, filters, shape, size, .. } = &self.walk;
        write!(f, "ClusterScan: table={}", table.name)?;
        if !pruned.matchers.is_empty() {
            write!(f, ", matchers=[{}]", list(&pruned.matchers))?;
        }
        if pruned.is_empty {
            write!(f, ", no rows")?;
        }
        if pruned.range.start != i64::MIN {
            write!(f, ", from_ms={}", pruned.range.start)?;
        }
        if pruned.range.end != i64::MAX {
            write!(f, ", to_ms={}", pruned.range.end)?;
        }
        if !filters.is_empty() {
            write!(f, ", filters=[{}]", list(filters))?;
        }
        if let Some(size) = size {
            write!(f, ", table_rows={}", size.rows())?;
        }
        match shape {
            Shape::Rows { outputs, sort, limit } => {
                write!(f, ", columns=[{}]", list(outputs))?;
                if !sort.is_empty() {
                    write!(f, ", first_by=[{}]", list(sort))?;
                }
                if let Some(limit) = limit {
                    write!(f, ", limit={limit}")?;
                }
            }
            Shape::Groups { keys, aggregates } => {
                let shown = aggregates.iter().map(|a| {
                    let distinct = if a.function.is_distinct() { "DISTINCT " } else { "" };
                    let filter = a.filter.as_ref().map_or(String::new(), |f| format!(" FILTER ({f})"));
                    format!("{}({distinct}{}){filter}", a.function.fun().name(), list(&a.args))
                });
                write!(f, ", groups=[{}], aggregates=[{}]", list(keys), list(shown))?;
            }
        }
        let traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        if !traces.is_empty() {
            let mut in_order = traces.clone();
            in_order.sort_by_key(|trace| trace.shard);
            let shown = in_order.iter().map(|t| {
                let counted = match t.counted {
                    0 => String::new(),
                    counted => format!("counted {counted} samples unread; "),
                };
                format!(
                    "{}: sent {} rows, {} bytes; read {} samples of {} series; {counted}pruned {} of {} segments; \
                     {}.{:03} ms",
                    t.shard, t.rows, t.bytes, t.samples, t.series, t.pruned, t.segments, t.micros / 1000,
                    t.micros % 1000
                )
            });
            write!(f, ", shards=[{}]", shown.collect::<Vec<_>>().join(" | "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ClusterScan {
    fn name(&self) -> &str {
        "ClusterScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        // They are over columns that no other node knows.
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        Ok(Arc::new(self.with(self.walk.clone(), schema)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(sizes::statistics(&self.walk, &self.schema())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let request = self
            .walk
            .request(&schema, &self.scope.statement, self.scope.limits.max_samples)
            .ok_or_else(unwritable)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        if self.walk.pruned.is_empty {
            let empty = futures_util::stream::empty();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, empty)));
        }
        // The first rows of an order are few, or may not be told from others before all are known.
        let may_be_long = matches!(&self.walk.shape, Shape::Rows { sort, .. } if sort.is_empty());
        let asker = Asker {
            scope: self.scope.clone(),
            request,
            schema: Arc::clone(&schema),
            pool: Arc::clone(context.memory_pool()),
            traces: Arc::clone(&self.traces),
        };
        let stream = futures_util::stream::once(asker.ask(may_be_long)).try_flatten();
        let stream = stream.inspect_ok(move |batch: &RecordBatch| {
            metrics.record_output(batch.num_rows());
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

/// Asks the shards for what a walk is to give.
#[derive(Clone)]
struct Asker {
    scope: Scope,
    request: SqlRequest,
    schema: SchemaRef,
    pool: Arc<dyn MemoryPool>,
    traces: Arc<Mutex<Vec<Trace>>>,
}

impl Asker {
    async fn ask(self, may_be_long: bool) -> Result<impl Stream<Item = Result<RecordBatch>>> {
        let max_rows_bytes = if may_be_long { FIRST_ROWS_BYTES } else { 0 };
        let answers = self.scope.ask(SqlRequest { max_rows_bytes, ..self.request.clone() }).await?;
        let mut parts = Vec::new();
        for (shard, bytes, answer) in answers {
            let is_long = answer.sql.as_ref().is_some_and(|sql| sql.too_long);
            parts.push((shard, if is_long { None } else { Some(self.rows(shard, bytes, answer)?) }));
        }
        let long = parts.iter().filter(|(_, rows)| rows.is_none()).count();
        // Those that are on their way together share what the statement may hold.
        let share = self.scope.limits.max_bytes / long.clamp(1, SHARDS_AHEAD) as u64;
        let rows = futures_util::stream::iter(parts).map(move |(shard, rows)| {
            let asker = self.clone();
            async move {
                let Some(rows) = rows else {
                    // A task, so that it goes on while other rows are given on.
                    let asked = SpawnedTask::spawn(async move {
                        let (shard, bytes, answer) =
                            asker.scope.ask_one(shard, asker.request.clone(), share).await?;
                        asker.rows(shard, bytes, answer)
                    });
                    return asked.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
                };
                Ok(rows)
            }
        });
        let batches = rows.buffered(SHARDS_AHEAD).map_ok(futures_util::stream::iter);
        Ok(batches.try_flatten())
    }

    /// Notes what a shard did, and gives its rows.
    fn rows(&self, shard: ShardId, bytes: u64, answer: FragmentAnswer) -> Result<ShardRows> {
        let stats = answer.stats.unwrap_or_default();
        let sql = answer.sql.unwrap_or_default();
        self.traces.lock().unwrap_or_else(PoisonError::into_inner).push(Trace {
            shard,
            bytes,
            micros: stats.micros,
            samples: stats.samples,
            series: stats.series,
            rows: sql.row_count,
            segments: sql.segments,
            pruned: sql.segments_pruned,
            counted: sql.counted,
        });
        let reservation = MemoryConsumer::new("answers of the shards").register(&self.pool);
        reservation.try_grow(sql.rows.len())?;
        Ok(ShardRows::new(shard, sql.rows, &self.schema, Some(reservation)))
    }
}

/// The rows of an answer, decoded one batch after the other. Their columns stay where they lie.
struct ShardRows {
    shard: ShardId,
    schema: SchemaRef,
    decoder: StreamDecoder,
    left: Buffer,
    /// What is left of a batch.
    batch: Option<RecordBatch>,
    /// Their memory.
    _held: Option<MemoryReservation>,
}

impl ShardRows {
    fn new(shard: ShardId, rows: Bytes, schema: &SchemaRef, held: Option<MemoryReservation>) -> Self {
        let decoder = StreamDecoder::new();
        Self { shard, schema: Arc::clone(schema), decoder, left: rows.into(), batch: None, _held: held }
    }

    fn failed(&self, what: impl fmt::Display) -> DataFusionError {
        external(QueryError::Protocol(format!("answer of shard {}: {what}", self.shard)))
    }

    fn decode(&mut self) -> Result<Option<RecordBatch>> {
        match self.decoder.decode(&mut self.left) {
            Ok(Some(batch)) => {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let columns = batch.columns().to_vec();
                let made = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
                made.map(Some).map_err(|error| self.failed(error))
            }
            Ok(None) => self.decoder.finish().map(|()| None).map_err(|error| self.failed(error)),
            Err(error) => Err(self.failed(error)),
        }
    }
}

impl Iterator for ShardRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.batch.take() {
            Some(batch) => batch,
            None => match self.decode() {
                Ok(batch) => batch?,
                Err(error) => {
                    // Nothing that can be read follows.
                    self.left = Buffer::default();
                    self.decoder = StreamDecoder::new();
                    return Some(Err(error));
                }
            },
        };
        let rows = batch.num_rows().min(BATCH_ROWS);
        if rows < batch.num_rows() {
            self.batch = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        Some(Ok(batch.slice(0, rows)))
    }
}
