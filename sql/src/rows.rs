//! The tables `logs` and `spans`: log records and spans by time, spans by their start.
//!
//! ```text
//! RowTable::scan ─► RowScan ─pages of rows, in the order of time─► batches
//!    conditions on time: the range that is read    others, as far as shards know them: their filter, checked again above
//! ```
//!
//! Rows come from all shards merged by time, oldest first, or newest first where a statement sorts so. A statement with a
//! limit reads as many pages as it takes: the first ones are small. A page that misses a shard fails the statement. Pages
//! are read one after the other: what is written in the meantime may or may not be among them.
//!
//! An attribute that occurs several times in a row stands in the map with its first value. Times are nanoseconds.

mod columns;
mod filter;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sort_pushdown::SortOrderPushdownResult;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
    SendableRecordBatchStream,
};
use futures_util::TryStreamExt;
use protocol::logs::RowSignal;
use query::logs::{LogQuery, Place};
use query::{Engine, QueryError};

use crate::scan::Scope;
use columns::{Page, RowColumn, schema};
use filter::{Asked, Understood, understand};

/// Rows of the first page, of the largest, and by how much each is larger than the one before.
const FIRST_PAGE: usize = 500;
const LARGEST_PAGE: usize = 8_000;
const GROWTH: usize = 4;

/// The table as a statement sees it.
pub struct RowTable {
    signal: RowSignal,
    scope: Scope,
    engine: Engine,
}

impl RowTable {
    /// The signal that a table of this name has.
    pub fn named(name: &str) -> Option<RowSignal> {
        RowSignal::ALL.into_iter().find(|signal| signal.name() == name)
    }

    /// What an engine reaches of a signal.
    pub fn new(signal: RowSignal, scope: Scope, engine: Engine) -> Self {
        Self { signal, scope, engine }
    }
}

impl fmt::Debug for RowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowTable({})", self.signal.name())
    }
}

#[async_trait]
impl TableProvider for RowTable {
    fn schema(&self) -> SchemaRef {
        schema(RowColumn::all(self.signal))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let how = |filter: &&Expr| match understand(self.signal, filter) {
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
        let asked =
            filters.iter().filter_map(|filter| understand(self.signal, filter)).map(Understood::asked);
        let asked = asked.fold(Asked::default(), Asked::and);
        let columns: Vec<RowColumn> = match projection {
            Some(chosen) => chosen.iter().map(|at| RowColumn::all(self.signal)[*at]).collect(),
            None => RowColumn::all(self.signal).to_vec(),
        };
        let walk = Walk { signal: self.signal, asked, columns, newest_first: false, limit };
        Ok(Arc::new(RowScan::new(self.scope.clone(), self.engine.clone(), walk)))
    }
}

/// What is read.
#[derive(Clone, Debug)]
struct Walk {
    signal: RowSignal,
    asked: Asked,
    columns: Vec<RowColumn>,
    newest_first: bool,
    limit: Option<usize>,
}

/// The plan node; see the module.
struct RowScan {
    scope: Scope,
    engine: Engine,
    walk: Walk,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for RowScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowScan").field("walk", &self.walk).finish_non_exhaustive()
    }
}

impl RowScan {
    fn new(scope: Scope, engine: Engine, walk: Walk) -> Self {
        let mut known = EquivalenceProperties::new(schema(&walk.columns));
        if let Some(at) = walk.columns.iter().position(|column| *column == RowColumn::Time) {
            let options = SortOptions { descending: walk.newest_first, nulls_first: walk.newest_first };
            let time = Arc::new(Column::new(RowColumn::Time.name(), at));
            known.add_ordering([PhysicalSortExpr::new(time, options)]);
        }
        let properties = PlanProperties::new(
            known,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            scope,
            engine,
            walk,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    fn with(&self, walk: Walk) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self::new(self.scope.clone(), self.engine.clone(), walk))
    }
}

impl DisplayAs for RowScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Walk { signal, asked, columns, newest_first, limit } = &self.walk;
        let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
        write!(f, "RowScan: table={}, columns=[{}], {asked}", signal.name(), names.join(", "))?;
        write!(f, ", {} first", if *newest_first { "newest" } else { "oldest" })?;
        match limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for RowScan {
    fn name(&self) -> &str {
        "RowScan"
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
        Ok(self.with(self.walk.clone()))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(self.with(Walk { limit, ..self.walk.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.walk.limit
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let Some(first) = order.first() else { return Ok(SortOrderPushdownResult::Unsupported) };
        let is_time = first.expr.downcast_ref::<Column>().is_some_and(|c| c.name() == RowColumn::Time.name());
        // Which rows a limit takes depends on the order in which they come.
        if !is_time || self.walk.limit.is_some() {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let inner = self.with(Walk { newest_first: first.options.descending, ..self.walk.clone() });
        // Times are never null.
        Ok(match order.len() {
            1 => SortOrderPushdownResult::Exact { inner },
            _ => SortOrderPushdownResult::Inexact { inner },
        })
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let Asked { start_ns, end_ns, .. } = self.walk.asked;
        let reading = Reading {
            query: LogQuery {
                signal: self.walk.signal,
                consistency: self.scope.consistency.clone(),
                cancel: self.scope.cancel.clone(),
                ..LogQuery::new(self.scope.tenant.clone(), self.scope.statement.as_ref(), start_ns, end_ns)
            },
            scope: self.scope.clone(),
            engine: self.engine.clone(),
            left: if start_ns > end_ns { 0 } else { self.walk.limit.unwrap_or(usize::MAX) },
            walk: self.walk.clone(),
            schema: Arc::clone(&schema),
            after: None,
            page: FIRST_PAGE,
            held: MemoryConsumer::new("a page of rows").register(context.memory_pool()),
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let pages = futures_util::stream::try_unfold(reading, Reading::next);
        let pages = pages.inspect_ok(move |batch: &RecordBatch| {
            metrics.record_output(batch.num_rows());
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, pages)))
    }
}

/// Pages, one after the other.
struct Reading {
    query: LogQuery,
    scope: Scope,
    engine: Engine,
    walk: Walk,
    schema: SchemaRef,
    after: Option<Place>,
    page: usize,
    /// Rows that are still wanted.
    left: usize,
    held: MemoryReservation,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        let wanted = self.page.min(self.left);
        if wanted == 0 {
            return Ok(None);
        }
        self.query.timeout = Some(self.scope.context().timeout);
        let (filter, newest_first) = (&self.walk.asked.filter, self.walk.newest_first);
        let rows = self.engine.log_rows(&self.query, filter, newest_first, wanted, self.after).await;
        let rows = rows.map_err(|error: QueryError| DataFusionError::External(Box::new(error)))?;
        self.after = rows.last().map(|row| row.place);
        // A page that is not full is the last one.
        self.left = if rows.len() < wanted { 0 } else { self.left - rows.len() };
        self.page = (self.page * GROWTH).min(LARGEST_PAGE);
        let bytes = rows.iter().map(|row| row.record.memory_bytes()).sum::<u64>();
        self.held.try_resize(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let page = Page::new(self.walk.signal, rows)?;
        let arrays =
            self.walk.columns.iter().map(|column| column.array(&page)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(page.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(Some((batch, self)))
    }
}
