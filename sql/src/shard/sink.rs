//! Where a walk's rows go: all of them, the first of them by some order, or groups of them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use query::exec::Budget;

use super::groups::Groups;
use super::output::Output;
use super::rows::Batch;
use super::tallies::{Taken, TallyColumns};
use super::{Part, Plan, Result};
use crate::exprs::ExprError;

/// Rows beyond those wanted that are gathered before the last of them are dropped.
const SLACK_ROWS: usize = 16_384;

/// See the module.
pub(super) enum Sink {
    Rows(RowSink),
    Groups(Box<Groups>),
}

impl Sink {
    pub fn new(plan: &Plan<'_>) -> Result<Self> {
        if plan.request.aggregate {
            return Ok(Self::Groups(Box::new(Groups::new(plan)?)));
        }
        let mut parts = plan.parts(&plan.request.outputs)?;
        let mut sort = Vec::new();
        for key in &plan.request.sort {
            parts.push(plan.part(&key.expr)?);
            sort.push(SortOptions { descending: key.descending, nulls_first: key.nulls_first });
        }
        let fields: Vec<Field> = parts
            .iter()
            .enumerate()
            .map(|(at, part)| Ok(Field::new(at.to_string(), part.expr.data_type(&plan.schema)?, true)))
            .collect::<Result<_>>()?;
        let schema = Arc::new(Schema::new(fields));
        let limit = usize::try_from(plan.request.limit).unwrap_or(usize::MAX);
        Ok(Self::Rows(RowSink {
            parts,
            sort,
            limit: (limit > 0).then_some(limit),
            schema,
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
        }))
    }

    /// All expressions that it evaluates.
    pub fn parts(&self) -> Box<dyn Iterator<Item = &Part> + '_> {
        match self {
            Self::Rows(rows) => Box::new(rows.parts.iter()),
            Self::Groups(groups) => Box::new(groups.parts()),
        }
    }

    /// Takes rows in, and gives on what is certain to be answered; false once there are enough.
    pub fn push(&mut self, batch: &Batch, output: &mut Output, budget: &Budget) -> Result<bool> {
        match self {
            Self::Rows(rows) => rows.push(batch, output, budget),
            Self::Groups(groups) => groups.push(batch, budget).map(|()| true),
        }
    }

    /// Takes tallies in, one for each row of the batch.
    pub fn merge(
        &mut self,
        batch: &Batch,
        tallies: &TallyColumns,
        taken: &[Taken],
        budget: &Budget,
    ) -> Result<()> {
        match self {
            Self::Rows(_) => Err(ExprError::Malformed("rows are not made of tallies").into()),
            Self::Groups(groups) => groups.merge(batch, tallies, taken, budget),
        }
    }

    /// Gives on the rest of the answer.
    pub fn finish(self, output: &mut Output, budget: &Budget) -> Result<()> {
        let batches = match self {
            Self::Rows(rows) => rows.finish(output.schema(), budget)?,
            Self::Groups(groups) => groups.finish(output.schema())?,
        };
        for batch in batches {
            output.write(&batch, budget)?;
        }
        Ok(())
    }
}

/// Rows as they come, or the first of an order.
pub(super) struct RowSink {
    /// Outputs, and behind them the keys of the order.
    parts: Vec<Part>,
    sort: Vec<SortOptions>,
    limit: Option<usize>,
    schema: SchemaRef,
    /// Of an order, those that may be among the first.
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: u64,
}

fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

impl RowSink {
    fn push(&mut self, batch: &Batch, output: &mut Output, budget: &Budget) -> Result<bool> {
        let columns: Vec<ArrayRef> =
            self.parts.iter().map(|part| batch.value(part)).collect::<Result<_>>()?;
        if self.sort.is_empty() {
            let mut made = batch_of(output.schema(), columns, batch.len())?;
            let limit = self.limit.unwrap_or(usize::MAX);
            made = made.slice(0, made.num_rows().min(limit - self.rows));
            self.rows += made.num_rows();
            return Ok(output.write(&made, budget)? && self.rows < limit);
        }
        let made = batch_of(&self.schema, columns, batch.len())?;
        let bytes = made.get_array_memory_size() as u64;
        budget.hold(bytes)?;
        self.bytes += bytes;
        self.rows += made.num_rows();
        self.batches.push(made);
        if let Some(limit) = self.limit
            && self.rows > limit.saturating_add(limit.max(SLACK_ROWS))
        {
            self.cut(limit, budget)?;
        }
        Ok(true)
    }

    /// Keeps the first rows of the order.
    fn cut(&mut self, limit: usize, budget: &Budget) -> Result<()> {
        let all = concat_batches(&self.schema, &self.batches)?;
        let outputs = self.parts.len() - self.sort.len();
        let keys: Vec<SortColumn> = self
            .sort
            .iter()
            .zip(&all.columns()[outputs..])
            .map(|(options, values)| SortColumn { values: Arc::clone(values), options: Some(*options) })
            .collect();
        let first = lexsort_to_indices(&keys, Some(limit))?;
        let columns: Vec<ArrayRef> =
            all.columns().iter().map(|c| take(c, &first, None)).collect::<std::result::Result<_, _>>()?;
        let kept = batch_of(&self.schema, columns, first.len())?;
        budget.release(self.bytes);
        self.bytes = kept.get_array_memory_size() as u64;
        budget.hold(self.bytes)?;
        self.rows = kept.num_rows();
        self.batches = vec![kept];
        Ok(())
    }

    fn finish(mut self, schema: &SchemaRef, budget: &Budget) -> Result<Vec<RecordBatch>> {
        if let (Some(limit), true) = (self.limit, !self.sort.is_empty() && self.rows > 0) {
            self.cut(limit, budget)?;
        }
        let outputs = self.parts.len() - self.sort.len();
        let answer = |batch: RecordBatch| {
            let rows = batch.num_rows();
            batch_of(schema, batch.columns()[..outputs].to_vec(), rows)
        };
        self.batches.into_iter().filter(|batch| batch.num_rows() > 0).map(answer).collect()
    }
}
