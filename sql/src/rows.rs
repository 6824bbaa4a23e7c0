//! The tables `logs`, `spans`, `span_events` and `traces`: log records by time, spans by their start, events by that of
//! their span, traces in short by their first start.
//!
//! ```text
//! RowTable::scan ─► RowScan ─pages of rows, in the order of time─► batches
//!    conditions on time: the range that is read    others, as far as shards know them: their filter, checked again above
//! ```
//!
//! Rows come from all shards merged by time, oldest first, or newest first where a statement sorts so; traces newest first
//! always. A statement with a limit reads as many pages as it takes: the first ones are small. A page that misses a shard fails the statement. Pages
//! are read one after the other: what is written in the meantime may or may not be among them.
//!
//! A trace is judged at its shard, over all its spans. That it begins in a range of time is known there, as its first span
//! is then in the range; what else is asked of it is asked of the row. An event may lie anywhere in time, so that only a
//! condition on its span's start narrows what is read.
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
use query::logs::{LogQuery, Place};
use query::traces::{Summary, TracePlace};
use query::{Engine, QueryError};

use crate::scan::Scope;
pub(crate) use columns::RowKind;
use columns::{Page, RowColumn, schema};
use filter::{Asked, Understood, understand};

/// Rows of the first page, of the largest, and by how much each is larger than the one before.
const FIRST_PAGE: usize = 500;
const LARGEST_PAGE: usize = 8_000;
const GROWTH: usize = 4;

/// Rows that are given on at once.
const BATCH_ROWS: usize = 2_000;

/// The table as a statement sees it.
pub struct RowTable {
    kind: RowKind,
    scope: Scope,
    engine: Engine,
}

impl RowTable {
    /// What an engine reaches of the rows.
    pub(crate) fn new(kind: RowKind, scope: Scope, engine: Engine) -> Self {
        Self { kind, scope, engine }
    }
}

impl fmt::Debug for RowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowTable({})", self.kind.name())
    }
}

#[async_trait]
impl TableProvider for RowTable {
    fn schema(&self) -> SchemaRef {
        schema(self.kind.columns())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let how = |filter: &&Expr| match understand(self.kind, filter) {
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
        let asked = filters.iter().filter_map(|filter| understand(self.kind, filter)).map(Understood::asked);
        let asked = asked.fold(Asked { filter: self.kind.filter(), ..Asked::default() }, Asked::and);
        let columns: Vec<RowColumn> = match projection {
            Some(chosen) => chosen.iter().map(|at| self.kind.columns()[*at]).collect(),
            None => self.kind.columns().to_vec(),
        };
        let newest_first = self.kind == RowKind::Traces;
        let walk = Walk { kind: self.kind, asked, columns, newest_first, limit };
        Ok(Arc::new(RowScan::new(self.scope.clone(), self.engine.clone(), walk)))
    }
}

/// What is read.
#[derive(Clone, Debug)]
struct Walk {
    kind: RowKind,
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
        let place = walk.kind.place();
        if let Some(at) = walk.columns.iter().position(|column| *column == place) {
            let options = SortOptions { descending: walk.newest_first, nulls_first: walk.newest_first };
            let time = Arc::new(Column::new(place.name(), at));
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
        let Walk { kind, asked, columns, newest_first, limit } = &self.walk;
        let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
        write!(f, "RowScan: table={}, columns=[{}], {asked}", kind.name(), names.join(", "))?;
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
        let place = self.walk.kind.place().name();
        let is_place = first.expr.downcast_ref::<Column>().is_some_and(|c| c.name() == place);
        // Traces come in one order alone.
        let can_do = first.options.descending || self.walk.kind != RowKind::Traces;
        // Which rows a limit takes depends on the order in which they come.
        if !is_place || !can_do || self.walk.limit.is_some() {
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
                signal: self.walk.kind.signal(),
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
            after_trace: None,
            is_over: false,
            page: None,
            page_bytes: 0,
            page_rows: FIRST_PAGE,
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
    after_trace: Option<TracePlace>,
    /// Whether the page is the last one.
    is_over: bool,
    page: Option<Page>,
    page_bytes: usize,
    /// What a page is asked to have: rows, spans that have events, or traces of each shard.
    page_rows: usize,
    /// Rows that are still wanted.
    left: usize,
    held: MemoryReservation,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        while self.left > 0 {
            if let Some(batch) = self.batch()? {
                return Ok(Some((batch, self)));
            }
            if self.is_over {
                break;
            }
            self.read().await?;
        }
        Ok(None)
    }

    /// The next rows of the page.
    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(page) = &mut self.page else { return Ok(None) };
        let rows = page.show_next(BATCH_ROWS.min(self.left));
        if rows == 0 {
            self.page = None;
            return Ok(None);
        }
        self.left -= rows;
        let arrays = self.walk.columns.iter().map(|column| column.array(page)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        // Each event of a span comes with what its span has, which may be more than the span.
        self.held.try_resize(self.page_bytes.saturating_add(batch.get_array_memory_size()))?;
        Ok(Some(batch))
    }

    async fn read(&mut self) -> Result<()> {
        self.query.timeout = Some(self.scope.context().timeout);
        let wanted = self.page_rows.min(self.left);
        let external = |error: QueryError| DataFusionError::External(Box::new(error));
        let (filter, newest_first) = (&self.walk.asked.filter, self.walk.newest_first);
        let page = if self.walk.kind == RowKind::Traces {
            let found = self.engine.trace_summaries(&self.query, filter, wanted, self.after_trace).await;
            let found = found.map_err(external)?;
            self.after_trace = found.next;
            self.is_over = found.next.is_none();
            self.hold(found.traces.iter().map(memory_bytes).sum())?;
            Page::traces(found.traces)
        } else {
            let rows = self.engine.log_rows(&self.query, filter, newest_first, wanted, self.after).await;
            let rows = rows.map_err(external)?;
            self.after = rows.last().map(|row| row.place);
            // A page that is not full is the last one.
            self.is_over = rows.len() < wanted;
            self.hold(rows.iter().map(|row| row.record.memory_bytes()).sum())?;
            Page::new(self.walk.kind, rows)?
        };
        self.page_rows = (self.page_rows * GROWTH).min(LARGEST_PAGE);
        self.page = Some(page);
        Ok(())
    }

    fn hold(&mut self, bytes: u64) -> Result<()> {
        self.page_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.held.try_resize(self.page_bytes)
    }
}

/// Bytes that a trace in short takes, roughly.
fn memory_bytes(trace: &Summary) -> u64 {
    let service = |(name, ..): &(String, u64, u64)| size_of::<(String, u64, u64)>() + name.len();
    let services: usize = trace.services.iter().map(service).sum();
    (size_of::<Summary>() + trace.root_service.len() + trace.root_name.len() + services) as u64
}
