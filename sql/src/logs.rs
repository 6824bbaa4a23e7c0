//! The table `logs`: log records by time.
//!
//! ```text
//! LogsTable::scan ─► LogScan ─pages of rows, in the order of time─► batches
//!    conditions on time: the range that is read    others, as far as shards know them: their filter, checked again above
//! ```
//!
//! Rows come from all shards merged by time, oldest first, or newest first where a statement sorts so. A statement with a
//! limit reads as many pages as it takes: the first ones are small. A page that misses a shard fails the statement. Pages
//! are read one after the other: what is written in the meantime may or may not be among them.
//!
//! An attribute that occurs several times in a record stands in the map with its first value. Times are nanoseconds.

mod filter;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Int32Array, Int64Array, MapBuilder, RecordBatch, RecordBatchOptions, StringArray,
    StringBuilder, TimestampNanosecondArray,
};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
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
use protocol::logs::value::id_text;
use protocol::logs::{Attribute, LogValue, TimestampNs};
use query::logs::{LogQuery, Place, Row};
use query::{Engine, QueryError};

use crate::columns::{UTC, map_type};
use crate::scan::Scope;
use filter::{Asked, Understood, understand};

/// Name of the table.
pub const NAME: &str = "logs";

/// Name of the resource's attribute that has a column of its own.
const SERVICE: &str = "service.name";

/// Rows of the first page, of the largest, and by how much each is larger than the one before.
const FIRST_PAGE: usize = 500;
const LARGEST_PAGE: usize = 8_000;
const GROWTH: usize = 4;

/// Columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogColumn {
    Time,
    ObservedTime,
    Severity,
    SeverityText,
    Service,
    Body,
    TraceId,
    SpanId,
    Flags,
    EventName,
    Scope,
    Attributes,
    Resource,
}

impl LogColumn {
    const ALL: [Self; 13] = [
        Self::Time,
        Self::ObservedTime,
        Self::Severity,
        Self::SeverityText,
        Self::Service,
        Self::Body,
        Self::TraceId,
        Self::SpanId,
        Self::Flags,
        Self::EventName,
        Self::Scope,
        Self::Attributes,
        Self::Resource,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::ObservedTime => "observed_time",
            Self::Severity => "severity",
            Self::SeverityText => "severity_text",
            Self::Service => "service",
            Self::Body => "body",
            Self::TraceId => "trace_id",
            Self::SpanId => "span_id",
            Self::Flags => "flags",
            Self::EventName => "event_name",
            Self::Scope => "scope",
            Self::Attributes => "attributes",
            Self::Resource => "resource",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Time | Self::ObservedTime => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
            Self::Severity => DataType::Int32,
            Self::Flags => DataType::Int64,
            Self::Attributes | Self::Resource => map_type(),
            _ => DataType::Utf8,
        }
    }

    fn field(self) -> Field {
        Field::new(self.name(), self.data_type(), self != Self::Time)
    }

    /// The values of rows.
    fn array(self, rows: &[Row]) -> Result<ArrayRef> {
        let times = |of: &dyn Fn(&Row) -> TimestampNs| -> ArrayRef {
            let values = rows.iter().map(|row| Some(of(row)).filter(|time| *time != 0 || self == Self::Time));
            Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone(UTC))
        };
        let texts = |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
            Arc::new(rows.iter().map(of).collect::<StringArray>())
        };
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(match self {
            Self::Time => times(&|row| row.record.effective_ns()),
            Self::ObservedTime => times(&|row| row.record.observed_ns),
            Self::Severity => {
                let of = |row: &Row| Some(i32::from(row.record.severity)).filter(|severity| *severity != 0);
                Arc::new(rows.iter().map(of).collect::<Int32Array>())
            }
            Self::SeverityText => texts(&|row| filled(&row.record.severity_text)),
            Self::Service => texts(&|row| {
                let found = row.stream.resource.iter().find(|(key, _)| key == SERVICE)?;
                Some(found.1.text().into_owned())
            }),
            Self::Body => texts(&|row| match &row.record.body {
                LogValue::Empty => None,
                body => Some(body.text().into_owned()),
            }),
            Self::TraceId => texts(&|row| filled(&id_text(&row.record.trace_id))),
            Self::SpanId => texts(&|row| filled(&id_text(&row.record.span_id))),
            Self::Flags => {
                Arc::new(rows.iter().map(|row| Some(i64::from(row.record.flags))).collect::<Int64Array>())
            }
            Self::EventName => texts(&|row| filled(&row.record.event_name)),
            Self::Scope => texts(&|row| filled(&row.stream.scope_name)),
            Self::Attributes => maps(rows, |row| &row.record.attributes)?,
            Self::Resource => maps(rows, |row| &row.stream.resource)?,
        })
    }
}

fn maps<'a>(rows: &'a [Row], of: impl Fn(&'a Row) -> &'a [Attribute<'static>]) -> Result<ArrayRef> {
    let names = datafusion::arrow::array::MapFieldNames {
        entry: "entries".to_owned(),
        key: "keys".to_owned(),
        value: "values".to_owned(),
    };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        let attributes = of(row);
        for (at, (key, value)) in attributes.iter().enumerate() {
            // A map has each key once.
            if attributes[..at].iter().any(|(before, _)| before == key) {
                continue;
            }
            maps.keys().append_value(key);
            match value {
                LogValue::Empty => maps.values().append_null(),
                value => maps.values().append_value(value.text()),
            }
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}

fn schema(columns: &[LogColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| column.field()).collect::<Vec<_>>()))
}

/// The table as a statement sees it.
pub struct LogsTable {
    scope: Scope,
    engine: Engine,
}

impl LogsTable {
    /// The logs that an engine reaches.
    pub fn new(scope: Scope, engine: Engine) -> Self {
        Self { scope, engine }
    }
}

impl fmt::Debug for LogsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogsTable")
    }
}

#[async_trait]
impl TableProvider for LogsTable {
    fn schema(&self) -> SchemaRef {
        schema(&LogColumn::ALL)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let how = |filter: &&Expr| match understand(filter) {
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
        let asked = filters.iter().filter_map(understand).map(Understood::asked);
        let asked = asked.fold(Asked::default(), Asked::and);
        let columns: Vec<LogColumn> = match projection {
            Some(chosen) => chosen.iter().map(|at| LogColumn::ALL[*at]).collect(),
            None => LogColumn::ALL.to_vec(),
        };
        let walk = Walk { asked, columns, newest_first: false, limit };
        Ok(Arc::new(LogScan::new(self.scope.clone(), self.engine.clone(), walk)))
    }
}

/// What is read.
#[derive(Clone, Debug)]
struct Walk {
    asked: Asked,
    columns: Vec<LogColumn>,
    newest_first: bool,
    limit: Option<usize>,
}

/// The plan node; see the module.
struct LogScan {
    scope: Scope,
    engine: Engine,
    walk: Walk,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for LogScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogScan").field("walk", &self.walk).finish_non_exhaustive()
    }
}

impl LogScan {
    fn new(scope: Scope, engine: Engine, walk: Walk) -> Self {
        let mut known = EquivalenceProperties::new(schema(&walk.columns));
        if let Some(at) = walk.columns.iter().position(|column| *column == LogColumn::Time) {
            let options = SortOptions { descending: walk.newest_first, nulls_first: walk.newest_first };
            let time = Arc::new(Column::new(LogColumn::Time.name(), at));
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

impl DisplayAs for LogScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Walk { asked, columns, newest_first, limit } = &self.walk;
        let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
        write!(f, "LogScan: columns=[{}], {asked}", names.join(", "))?;
        write!(f, ", {} first", if *newest_first { "newest" } else { "oldest" })?;
        match limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for LogScan {
    fn name(&self) -> &str {
        "LogScan"
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
        let is_time = first.expr.downcast_ref::<Column>().is_some_and(|c| c.name() == LogColumn::Time.name());
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
            held: MemoryConsumer::new("a page of logs").register(context.memory_pool()),
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
        let arrays =
            self.walk.columns.iter().map(|column| column.array(&rows)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(Some((batch, self)))
    }
}
