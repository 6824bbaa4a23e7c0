//! Groups of rows, and the states of their aggregates.
//!
//! Keys that are the same for all rows of a series become a number per series first; per row only that number and the
//! keys that differ from row to row (a time bin) are looked up. With keys of series alone nothing is looked up per row.
//!
//! Tallies are states of aggregates already: they are merged, where rows would be taken in.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array,
};
use datafusion::arrow::compute::{and, filter, is_not_null, not, nullif, take};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use protocol::sql::SqlAggregate;
use query::exec::Budget;

use super::rows::Batch;
use super::tallies::{Taken, TallyColumns};
use super::{Part, Plan, Result};
use crate::exprs::ExprError;
use crate::functions;

/// Batches between two looks at how much memory the groups take.
const CHECK_EVERY: usize = 16;

struct Aggregate {
    args: Vec<Part>,
    filter: Option<Part>,
    state: State,
}

/// The states of an aggregate. Without keys there is one, and it is another kind: the engine's final aggregates without
/// keys take the states of the plain accumulators, which for some functions differ from those of the grouped ones.
enum State {
    One(Box<dyn Accumulator>),
    Many(Box<dyn GroupsAccumulator>),
}

impl State {
    fn new(aggregate: Arc<AggregateFunctionExpr>, is_grouped: bool) -> Result<Self> {
        Ok(if !is_grouped {
            Self::One(aggregate.create_accumulator()?)
        } else if aggregate.groups_accumulator_supported() {
            Self::Many(aggregate.create_groups_accumulator()?)
        } else {
            Self::Many(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
        })
    }

    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        only: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        match self {
            Self::Many(state) => Ok(state.update_batch(args, groups, only, total)?),
            Self::One(state) => match only {
                None => Ok(state.update_batch(args)?),
                Some(only) => {
                    let kept: Vec<ArrayRef> =
                        args.iter().map(|arg| filter(arg, only)).collect::<std::result::Result<_, _>>()?;
                    Ok(state.update_batch(&kept)?)
                }
            },
        }
    }

    /// Merges a state per row into those of the rows' groups.
    fn merge(&mut self, states: &ArrayRef, groups: &[usize], total: usize) -> Result<()> {
        let states = std::slice::from_ref(states);
        match self {
            Self::Many(state) => Ok(state.merge_batch(states, groups, total)?),
            Self::One(state) => Ok(state.merge_batch(states)?),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::One(state) => state.size(),
            Self::Many(state) => state.size(),
        }
    }

    fn columns(&mut self) -> Result<Vec<ArrayRef>> {
        match self {
            Self::One(state) => {
                Ok(state.state()?.iter().map(ScalarValue::to_array).collect::<std::result::Result<_, _>>()?)
            }
            Self::Many(state) => Ok(state.state(EmitTo::All)?),
        }
    }
}

/// See the module.
pub(super) struct Groups {
    keys: Vec<Part>,
    /// Values of the keys of series, by their numbers.
    of_series: Option<Box<dyn GroupValues>>,
    /// Values of the other keys, with the number of the first ones before them.
    of_rows: Option<Box<dyn GroupValues>>,
    aggregates: Vec<Aggregate>,
    total: usize,
    batches: usize,
    held: u64,
}

fn values(fields: Vec<Field>) -> Result<Option<Box<dyn GroupValues>>> {
    if fields.is_empty() {
        return Ok(None);
    }
    Ok(Some(new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?))
}

impl Groups {
    pub fn new(plan: &Plan<'_>) -> Result<Self> {
        let keys = plan.parts(&plan.request.groups)?;
        let mut of_series = Vec::new();
        let mut of_rows = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let field = Field::new(format!("key {at}"), key.expr.data_type(&plan.schema)?, true);
            if key.of_series { &mut of_series } else { &mut of_rows }.push(field);
        }
        if !of_series.is_empty() && !of_rows.is_empty() {
            of_rows.insert(0, Field::new("series", DataType::Int64, false));
        }
        let aggregates =
            plan.request.aggregates.iter().map(|a| Aggregate::new(a, plan)).collect::<Result<_>>()?;
        Ok(Self {
            keys,
            of_series: values(of_series)?,
            of_rows: values(of_rows)?,
            aggregates,
            total: 0,
            batches: 0,
            held: 0,
        })
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        let of_aggregates = self.aggregates.iter().flat_map(|a| a.args.iter().chain(&a.filter));
        self.keys.iter().chain(of_aggregates)
    }

    pub fn push(&mut self, batch: &Batch, budget: &Budget) -> Result<()> {
        let groups = self.groups_of(batch)?;
        for aggregate in &mut self.aggregates {
            let args: Vec<ArrayRef> =
                aggregate.args.iter().map(|part| batch.value(part)).collect::<Result<_>>()?;
            let filter = aggregate.filter.as_ref().map(|part| batch.mask(part)).transpose()?;
            aggregate.state.update(&args, &groups, filter.as_ref(), self.total)?;
        }
        self.batches += 1;
        if self.batches % CHECK_EVERY == 1 {
            self.account(budget)?;
        }
        Ok(())
    }

    /// Takes tallies in, of which each aggregate takes its part.
    pub fn merge(
        &mut self,
        batch: &Batch,
        tallies: &TallyColumns,
        taken: &[Taken],
        budget: &Budget,
    ) -> Result<()> {
        let groups = self.groups_of(batch)?;
        for (aggregate, taken) in self.aggregates.iter_mut().zip(taken) {
            let states = aggregate.taken(batch, tallies, *taken)?;
            aggregate.state.merge(&states, &groups, self.total)?;
        }
        self.batches += 1;
        self.account(budget)
    }

    fn account(&mut self, budget: &Budget) -> Result<()> {
        let values = self.of_series.iter().chain(&self.of_rows).map(|values| values.size());
        let bytes: usize = values.chain(self.aggregates.iter().map(|a| a.state.size())).sum();
        budget.release(self.held);
        self.held = bytes as u64;
        Ok(budget.hold(self.held)?)
    }

    /// The group of each row.
    fn groups_of(&mut self, batch: &Batch) -> Result<Vec<usize>> {
        let mut numbers: Option<Vec<usize>> = None;
        if let Some(values) = &mut self.of_series {
            let mut of_series = Vec::new();
            // Rows were filtered, and a series without rows makes no group: only those that have some are named.
            let (named, places) = present(batch);
            let columns: Vec<ArrayRef> = self
                .keys
                .iter()
                .filter(|key| key.of_series)
                .map(|key| Ok(take(&batch.of_series(key)?, &named, None)?))
                .collect::<Result<_>>()?;
            values.intern(&columns, &mut of_series)?;
            numbers = Some(places.into_iter().map(|place| of_series[place]).collect());
            self.total = values.len();
        }
        let Some(values) = &mut self.of_rows else {
            self.total = self.total.max(1);
            return Ok(numbers.unwrap_or_else(|| vec![0; batch.len()]));
        };
        let mut columns: Vec<ArrayRef> = Vec::new();
        if let Some(numbers) = &numbers {
            columns.push(Arc::new(Int64Array::from_iter_values(numbers.iter().map(|n| *n as i64))));
        }
        for key in self.keys.iter().filter(|key| !key.of_series) {
            columns.push(batch.value(key)?);
        }
        let mut groups = Vec::new();
        values.intern(&columns, &mut groups)?;
        self.total = values.len();
        Ok(groups)
    }

    pub fn finish(mut self, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        if self.batches == 0 {
            return Ok(Vec::new());
        }
        let of_series = self.of_series.as_mut().map(|values| values.emit(EmitTo::All)).transpose()?;
        let of_rows = self.of_rows.as_mut().map(|values| values.emit(EmitTo::All)).transpose()?;
        let mut of_series = of_series.unwrap_or_default();
        let mut of_rows = of_rows.unwrap_or_default();
        if !of_series.is_empty() && !of_rows.is_empty() {
            let numbers = datafusion::arrow::compute::cast(&of_rows.remove(0), &DataType::UInt64)?;
            let numbers: &UInt64Array = datafusion::arrow::array::AsArray::as_primitive(&numbers);
            of_series =
                of_series.iter().map(|c| take(c, numbers, None)).collect::<std::result::Result<_, _>>()?;
        }
        let (mut of_series, mut of_rows) = (of_series.into_iter(), of_rows.into_iter());
        let mut columns: Vec<ArrayRef> = Vec::new();
        for key in &self.keys {
            columns.extend(if key.of_series { of_series.next() } else { of_rows.next() });
        }
        for aggregate in &mut self.aggregates {
            columns.extend(aggregate.state.columns()?);
        }
        let rows = self.total;
        let fits = columns.len() == schema.fields().len()
            && columns.iter().zip(schema.fields()).all(|(c, f)| c.data_type() == f.data_type());
        if !fits {
            return Err(ExprError::Malformed("states of aggregates are of another version here").into());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(vec![RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?])
    }
}

/// The series that rows are of, each once, and for each row the place of its series among them.
fn present(batch: &Batch) -> (UInt64Array, Vec<usize>) {
    let mut named: Vec<u64> = Vec::new();
    let mut places = Vec::with_capacity(batch.len());
    // Rows of a series follow each other.
    for series in batch.series_of().values() {
        let series = u64::from(*series);
        if named.last() != Some(&series) {
            named.push(series);
        }
        places.push(named.len() - 1);
    }
    (UInt64Array::from(named), places)
}

impl Aggregate {
    /// States that come to what the rows of each tally would: of rows that the filter leaves out, and of nulls that are not
    /// counted, to nothing.
    fn taken(&self, batch: &Batch, tallies: &TallyColumns, taken: Taken) -> Result<ArrayRef> {
        let mut only = self.filter.as_ref().map(|part| batch.mask(part)).transpose()?;
        if let (Taken::Samples, Some(arg)) = (taken, self.args.first().filter(|arg| arg.of_series)) {
            let present = is_not_null(&batch.value(arg)?)?;
            only = Some(match only {
                Some(only) => and(&only, &present)?,
                None => present,
            });
        }
        let all = tallies.of(taken);
        let Some(only) = only.filter(|only| only.true_count() < only.len()) else {
            return Ok(Arc::clone(all));
        };
        let kept = nullif(all, &not(&only)?)?;
        Ok(match taken {
            // A count is never null.
            Taken::Samples => {
                let counts = kept.as_primitive::<Int64Type>().iter().map(Option::unwrap_or_default);
                Arc::new(Int64Array::from_iter_values(counts))
            }
            Taken::First | Taken::Last => kept,
        })
    }

    fn new(asked: &SqlAggregate, plan: &Plan<'_>) -> Result<Self> {
        let function = functions::aggregate(&asked.function)
            .ok_or_else(|| ExprError::Unknown(asked.function.clone()))?;
        let args = plan.parts(&asked.args)?;
        if args.is_empty() {
            return Err(ExprError::Malformed("an aggregate of nothing").into());
        }
        let filter = asked.filter.as_ref().map(|filter| plan.part(filter)).transpose()?;
        let exprs: Vec<Arc<dyn PhysicalExpr>> = args.iter().map(|part| Arc::clone(&part.expr)).collect();
        let made = AggregateExprBuilder::new(function, exprs)
            .schema(Arc::clone(&plan.schema))
            .alias(&asked.function)
            .with_distinct(asked.distinct)
            .with_ignore_nulls(asked.ignore_nulls)
            .build()?;
        let is_grouped = !plan.request.groups.is_empty();
        Ok(Self { args, filter, state: State::new(Arc::new(made), is_grouped)? })
    }
}
