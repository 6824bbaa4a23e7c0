//! How long tables are, for the planner: which side of a join is read first, and held, is decided by it.
//!
//! The shards count their samples as they do for `count(*)`, so that little is read for it. It is asked before a plan is
//! made and only of statements that read several tables. More may be written until the plan runs: to the planner it is an
//! estimate, never an answer.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::{max, min, sum};
use datafusion::arrow::datatypes::{Field, Int64Type, Schema, SchemaRef, TimestampMillisecondType};
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use protocol::sql::SqlColumnKind;

use super::{Aggregate, Scope, Shape, Walk};
use crate::columns::{ScanColumn, Table, UTC};
use crate::exprs::ExprError;
use crate::filters::Pruned;
use crate::functions;

/// One of so many rows is taken to meet a condition, as the planner does for those it knows nothing of.
const SELECTED: usize = 5;

/// How many samples there are, and from when to when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    rows: usize,
    times: Option<(i64, i64)>,
}

/// Asks the shards.
pub(super) async fn of(scope: &Scope, table: &Arc<Table>, pruned: &Pruned) -> Result<Size> {
    let columns = vec![ScanColumn::of(SqlColumnKind::Time)];
    let of_walk = |c: &ScanColumn| Field::new(c.name(), c.data_type(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(of_walk).collect::<Vec<_>>()));
    let time: Arc<dyn PhysicalExpr> = Arc::new(Column::new(&columns[0].name(), 0));
    let (mut aggregates, mut states) = (Vec::new(), Vec::new());
    for name in ["count", "min", "max"] {
        let function = functions::aggregate(name)
            .ok_or_else(|| DataFusionError::External(Box::new(ExprError::Unknown(name.to_owned()))))?;
        let args = vec![Arc::clone(&time)];
        let builder = AggregateExprBuilder::new(function, args.clone());
        let function = Arc::new(builder.schema(Arc::clone(&schema)).alias(name).build()?);
        states.extend(function.state_fields()?);
        aggregates.push(Aggregate { function, args, filter: None });
    }
    let walk = Walk {
        table: Arc::clone(table),
        pruned: pruned.clone(),
        columns,
        filters: Vec::new(),
        shape: Shape::Groups { keys: Vec::new(), aggregates },
        size: None,
    };
    let answer = Arc::new(Schema::new(states));
    let rows = scope.rows(&walk, &answer).await?;
    let mut size = Size::default();
    for batch in rows {
        size.add(&batch);
    }
    Ok(size)
}

impl Size {
    /// Rows of the table.
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn add(&mut self, batch: &RecordBatch) {
        let count = sum(batch.column(0).as_primitive::<Int64Type>()).unwrap_or_default();
        self.rows = self.rows.saturating_add(usize::try_from(count).unwrap_or_default());
        let first = min(batch.column(1).as_primitive::<TimestampMillisecondType>());
        let last = max(batch.column(2).as_primitive::<TimestampMillisecondType>());
        if let (Some(first), Some(last)) = (first, last) {
            let (known_first, known_last) = self.times.unwrap_or((first, last));
            self.times = Some((first.min(known_first), last.max(known_last)));
        }
    }
}

/// What the planner is told of a walk.
pub(super) fn statistics(walk: &Walk, schema: &SchemaRef) -> Statistics {
    let mut told = Statistics::new_unknown(schema);
    let (Some(size), Shape::Rows { outputs, limit, .. }) = (&walk.size, &walk.shape) else { return told };
    let mut rows = size.rows;
    for _ in &walk.filters {
        rows = rows.div_ceil(SELECTED);
    }
    told.num_rows = Precision::Inexact(rows.min(limit.unwrap_or(usize::MAX)));
    let Some((first, last)) = size.times else { return told };
    let moment = |time| Precision::Inexact(ScalarValue::TimestampMillisecond(Some(time), Some(UTC.into())));
    for (output, column) in outputs.iter().zip(&mut told.column_statistics) {
        let asked = output.downcast_ref::<Column>().and_then(|column| walk.columns.get(column.index()));
        match asked.map(|column| column.kind) {
            Some(SqlColumnKind::Time) => {
                column.min_value = moment(first);
                column.max_value = moment(last);
                column.null_count = Precision::Exact(0);
            }
            Some(SqlColumnKind::Value) => column.null_count = Precision::Exact(0),
            _ => {}
        }
    }
    told
}
