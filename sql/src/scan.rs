//! Walks over the cluster's data as DataFusion sees them: a table that can be scanned, and the plan node that asks all
//! shards and gives their answers on, in shard order.
//!
//! What a node asks for is kept as expressions over the columns of the walk, so that [`crate::push`] can fold the nodes
//! above into it, and written down when it runs. A shard that does not answer fails the statement and is named. The
//! answers are charged to the statement's memory before they are decoded.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
    SendableRecordBatchStream,
};
use futures_util::{StreamExt, TryStreamExt};
use prost::Message;
use protocol::ids::{ShardId, TenantId};
use protocol::labels::METRIC_NAME;
use protocol::matcher::Matcher;
use protocol::scan::{FragmentAnswer, FragmentBody, FragmentRequest};
use protocol::sql::{SqlAggregate, SqlAnswer, SqlRequest, SqlSort, VERSION};
use query::engine::matchers_to_wire;
use query::source::{Cluster, Consistency, ReadContext, ShardAnswer};
use query::{CancelFlag, Limits, QueryError};

use crate::columns::{ScanColumn, Table};
use crate::exprs::Writer;
use crate::filters::{Pruned, Understood, understand};

/// Rows that are given on at once.
const BATCH_ROWS: usize = 8192;

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
        let answers = self.cluster.execute(&self.context(), request.encode_to_vec().into()).await;
        let mut out = Vec::new();
        for ShardAnswer { shard, answer } in answers.map_err(external)? {
            let bytes = answer.len() as u64;
            let decoded = FragmentAnswer::decode(answer)
                .map_err(|e| external(QueryError::Protocol(format!("answer of shard {shard}: {e}"))))?;
            if let Some(error) = decoded.error {
                return Err(external(QueryError::from_wire(error.kind, error.message)));
            }
            out.push((shard, bytes, decoded));
        }
        Ok(out)
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
        let walk = Walk {
            table: Arc::clone(&self.table),
            pruned,
            columns,
            filters: Vec::new(),
            shape: Shape::Rows { outputs, sort: Vec::new(), limit },
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
        let Walk { table, pruned, filters, shape, .. } = &self.walk;
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
            let shown = traces.iter().map(|t| {
                format!(
                    "{}: sent {} rows, {} bytes; read {} samples of {} series; pruned {} of {} segments; {}.{:03} ms",
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let request = self
            .walk
            .request(&schema, &self.scope.statement, self.scope.limits.max_samples)
            .ok_or_else(|| DataFusionError::Internal("a walk can not be written down".to_owned()))?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        if self.walk.pruned.is_empty {
            let empty = futures_util::stream::empty();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, empty)));
        }
        let (scope, traces) = (self.scope.clone(), Arc::clone(&self.traces));
        let pool = Arc::clone(context.memory_pool());
        let of_answers = Arc::clone(&schema);
        let answers = async move {
            let answers = scope.ask(request).await?;
            let mut parts = Vec::new();
            let mut noted = Vec::new();
            let mut total = 0;
            for (shard, bytes, answer) in answers {
                let stats = answer.stats.unwrap_or_default();
                let sql = answer.sql.unwrap_or_default();
                noted.push(Trace {
                    shard,
                    bytes,
                    micros: stats.micros,
                    samples: stats.samples,
                    series: stats.series,
                    rows: sql.row_count,
                    segments: sql.segments,
                    pruned: sql.segments_pruned,
                });
                total += sql.rows.len();
                parts.push((shard, sql));
            }
            traces.lock().unwrap_or_else(PoisonError::into_inner).extend(noted);
            let reservation = MemoryConsumer::new("answers of the shards").register(&pool);
            reservation.try_grow(total)?;
            let stream = futures_util::stream::iter(parts).map(move |(shard, answer)| {
                let freed = answer.rows.len();
                let batches = decoded(shard, answer, Arc::clone(&of_answers));
                let _ = reservation.try_shrink(freed);
                batches
            });
            Ok::<_, DataFusionError>(stream.map_ok(futures_util::stream::iter).try_flatten())
        };
        let stream = futures_util::stream::once(answers).try_flatten();
        let stream = stream.inspect_ok(move |batch: &RecordBatch| {
            metrics.record_output(batch.num_rows());
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

/// The rows of an answer, decoded one after the other.
fn decoded(
    shard: ShardId,
    answer: SqlAnswer,
    schema: SchemaRef,
) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let failed =
        move |what: String| external(QueryError::Protocol(format!("answer of shard {shard}: {what}")));
    let reader: Option<StreamReader<bytes::buf::Reader<Bytes>>> = match answer.rows.is_empty() {
        true => None,
        false => Some(StreamReader::try_new(answer.rows.reader(), None).map_err(|e| failed(e.to_string()))?),
    };
    let batches = reader.into_iter().flatten().flat_map(move |batch| {
        let batch = batch.map_err(|e| failed(e.to_string())).and_then(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options)
                .map_err(|e| failed(e.to_string()))
        });
        let (whole, error) = match batch {
            Ok(batch) => (Some(batch), None),
            Err(error) => (None, Some(Err(error))),
        };
        let pieces = whole.into_iter().flat_map(|batch| {
            let rows = batch.num_rows();
            (0..rows).step_by(BATCH_ROWS).map(move |at| Ok(batch.slice(at, BATCH_ROWS.min(rows - at))))
        });
        pieces.chain(error)
    });
    Ok(batches)
}
