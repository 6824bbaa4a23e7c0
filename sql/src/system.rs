//! Tables about the system itself: what they consist of, and who knows what is in them.
//!
//! `nodes`, `shards`, `replicas`, `queries` and `settings` are known to the node, which gives their rows through
//! [`System`]. `segments` and `series_cardinality` are asked of the shards.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures_util::future::BoxFuture;
use protocol::ids::TenantId;
use protocol::sql::{SqlRequest, SqlTable};
use query::Engine;
use query::engine::ListRequest;
use query::source::SourceError;

use crate::columns::{UTC, time_type};
use crate::exprs::Writer;
use crate::scan::Scope;

/// Rows of [`SystemTable::SeriesCardinality`] for each of metrics, labels and pairs of them.
const CARDINALITY_ROWS: usize = 10_000;

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemTable {
    /// Members of the cluster.
    Nodes,
    /// Shards, and who leads them.
    Shards,
    /// Replicas of shards.
    Replicas,
    /// Segments that hold the tenant's data.
    Segments,
    /// The tenant's queries that run on this node.
    Queries,
    /// The tenant's current series by label and value.
    SeriesCardinality,
    /// This node's settings.
    Settings,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellType {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// Any number.
    Float,
    /// Yes or no.
    Bool,
    /// A moment.
    Time,
}

/// What is in a column of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Milliseconds since 1970.
    Time(i64),
}

impl Cell {
    /// A count.
    pub fn count(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// Text.
    pub fn text(value: impl Into<String>) -> Self {
        Self::Text(value.into())
    }
}

/// Gives the rows of the tables that the node knows.
pub trait System: Send + Sync {
    /// Rows of a table, a cell for each of [`SystemTable::columns`]. `tenant` is who asks.
    fn rows<'a>(
        &'a self,
        table: SystemTable,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, std::result::Result<Vec<Vec<Cell>>, SourceError>>;
}

impl SystemTable {
    /// All tables.
    pub const ALL: [Self; 7] = [
        Self::Nodes,
        Self::Shards,
        Self::Replicas,
        Self::Segments,
        Self::Queries,
        Self::SeriesCardinality,
        Self::Settings,
    ];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Shards => "shards",
            Self::Replicas => "replicas",
            Self::Segments => "segments",
            Self::Queries => "queries",
            Self::SeriesCardinality => "series_cardinality",
            Self::Settings => "settings",
        }
    }

    /// Its columns.
    pub const fn columns(self) -> &'static [(&'static str, CellType)] {
        use CellType::{Bool, Float, Int, Text, Time};
        match self {
            Self::Nodes => &[
                ("node", Int),
                ("addr", Text),
                ("state", Text),
                ("reachable", Bool),
                ("ready", Bool),
                ("version", Text),
                ("clock_offset_ms", Int),
                ("log_bytes", Int),
            ],
            Self::Shards => {
                &[("shard", Int), ("leader", Int), ("term", Int), ("replicas", Int), ("applied", Int)]
            }
            Self::Replicas => &[
                ("shard", Int),
                ("node", Int),
                ("role", Text),
                ("applied", Int),
                ("series", Int),
                ("segments", Int),
                ("segment_bytes", Int),
                ("memtable_bytes", Int),
                ("log_bytes", Int),
                ("digest_index", Int),
                ("digest", Text),
                ("error", Text),
            ],
            Self::Segments => &[
                ("shard", Int),
                ("segment", Text),
                ("bytes", Int),
                ("min_time", Time),
                ("max_time", Time),
                ("series", Int),
            ],
            Self::Queries => {
                &[("id", Int), ("kind", Text), ("query", Text), ("since", Time), ("seconds", Float)]
            }
            Self::SeriesCardinality => &[("label", Text), ("value", Text), ("series", Int)],
            Self::Settings => &[("key", Text), ("value", Text)],
        }
    }

    fn schema(self) -> SchemaRef {
        schema(self.columns())
    }

    fn batch(self, rows: &[Vec<Cell>]) -> Result<RecordBatch> {
        batch(self.columns(), rows)
    }
}

/// The schema of columns.
pub(crate) fn schema(columns: &[(&'static str, CellType)]) -> SchemaRef {
    let field = |(name, kind): &(&str, CellType)| {
        let data_type = match kind {
            CellType::Text => DataType::Utf8,
            CellType::Int => DataType::Int64,
            CellType::Float => DataType::Float64,
            CellType::Bool => DataType::Boolean,
            CellType::Time => time_type(),
        };
        Field::new(*name, data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Rows of such columns.
pub(crate) fn batch(columns: &[(&'static str, CellType)], rows: &[Vec<Cell>]) -> Result<RecordBatch> {
    let arrays = columns.iter().enumerate().map(|(at, (_, kind))| column(rows, at, *kind));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(schema(columns), arrays.collect(), &options)?)
}

/// A column of rows; cells of another type are null.
fn column(rows: &[Vec<Cell>], at: usize, kind: CellType) -> ArrayRef {
    let cells = rows.iter().map(|row| row.get(at).unwrap_or(&Cell::Null));
    match kind {
        CellType::Text => Arc::new(
            cells
                .map(|c| if let Cell::Text(v) = c { Some(v.as_str()) } else { None })
                .collect::<StringArray>(),
        ),
        CellType::Int => Arc::new(
            cells.map(|c| if let Cell::Int(v) = c { Some(*v) } else { None }).collect::<Int64Array>(),
        ),
        CellType::Float => Arc::new(
            cells.map(|c| if let Cell::Float(v) = c { Some(*v) } else { None }).collect::<Float64Array>(),
        ),
        CellType::Bool => Arc::new(
            cells.map(|c| if let Cell::Bool(v) = c { Some(*v) } else { None }).collect::<BooleanArray>(),
        ),
        CellType::Time => {
            let times: TimestampMillisecondArray =
                cells.map(|c| if let Cell::Time(v) = c { Some(*v) } else { None }).collect();
            Arc::new(times.with_timezone(UTC))
        }
    }
}

/// The schema of the tables.
#[derive(Clone)]
pub struct SystemSchema {
    /// What statements know.
    pub scope: Scope,
    /// Counts series.
    pub engine: Engine,
    /// Knows the node.
    pub system: Arc<dyn System>,
}

impl fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemSchema")
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        SystemTable::ALL.iter().map(|table| table.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let found = SystemTable::ALL.into_iter().find(|table| table.name() == name);
        Ok(found.map(|table| Arc::new(Provider { table, schema: self.clone() }) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        SystemTable::ALL.iter().any(|table| table.name() == name)
    }
}

#[derive(Debug)]
struct Provider {
    table: SystemTable,
    schema: SystemSchema,
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let SystemSchema { scope, engine, system } = &self.schema;
        let rows = match self.table {
            SystemTable::Segments => segments(scope).await?,
            SystemTable::SeriesCardinality => cardinality(scope, engine).await?,
            table => system
                .rows(table, &scope.tenant)
                .await
                .map_err(|error| DataFusionError::External(Box::new(error)))?,
        };
        let batch = self.table.batch(&rows)?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?;
        Ok(plan)
    }
}

async fn segments(scope: &Scope) -> Result<Vec<Vec<Cell>>> {
    let request = SqlRequest {
        statement: scope.statement.to_string(),
        table: SqlTable::Segments as i32,
        literals: Writer::default().literals().unwrap_or_default(),
        ..Default::default()
    };
    let mut rows = Vec::new();
    for (shard, _, answer) in scope.ask(request).await? {
        for segment in answer.sql.unwrap_or_default().segment_list {
            rows.push(vec![
                Cell::Int(i64::from(shard.0)),
                Cell::Text(segment.name),
                Cell::count(segment.bytes),
                Cell::Time(segment.min_time_ms),
                Cell::Time(segment.max_time_ms),
                Cell::count(segment.series),
            ]);
        }
    }
    Ok(rows)
}

async fn cardinality(scope: &Scope, engine: &Engine) -> Result<Vec<Vec<Cell>>> {
    let context = scope.context();
    let request = ListRequest {
        consistency: context.consistency,
        timeout: context.timeout,
        limit: CARDINALITY_ROWS,
        ..ListRequest::all(context.tenant)
    };
    let counts =
        engine.cardinality(&request).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
    let row = |(pair, series): (protocol::scan::LabelPair, u64)| {
        vec![Cell::Text(pair.name), Cell::Text(pair.value), Cell::count(series)]
    };
    Ok(counts.series_by_pair.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let row =
            vec![Cell::Int(1), Cell::text("a"), Cell::Null, Cell::Time(5), Cell::Time(6), Cell::Float(1.0)];
        let batch = SystemTable::Segments.batch(&[row]).expect("a batch");
        assert_eq!((batch.num_rows(), batch.num_columns()), (1, 6));
        assert!(batch.column(2).is_null(0) && batch.column(5).is_null(0), "null, and of another type");
        assert_eq!(SystemTable::Settings.batch(&[]).expect("a batch").num_rows(), 0);
    }
}
